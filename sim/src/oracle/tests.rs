//! The oracle against hand-made histories: lawful ones pass, and each kind of mistake is flagged under
//! its invariant's name. A test here that could not fail would make every swarm worthless.

use super::Oracle;
use super::agreement::{ConflictFact, Final};
use super::ask::{Answer, Ask, ByHome, Decision, TokenFact};
use super::facts::{AttemptFact, ClaimName, Millis, OutcomeFact, Phase, Region, View};
use super::sight::Look;
use super::violation::Violation;
use super::winner::{Verdict, winner};

const T0: Millis = 1_000_000;
const DRIFT: Millis = 100;
const FP: Option<[u8; 16]> = Some([7; 16]);

fn name(ms: Millis, region: Region) -> ClaimName {
    ClaimName { stamp: (T0 + ms) << 16, region, incarnation: 1 }
}

fn attempt(ms: Millis, region: Region, lease: Millis) -> AttemptFact {
    AttemptFact {
        claim: name(ms, region),
        phase: Phase::Held,
        lease_until: T0 + ms + lease,
        abandoned_lease: 0,
        fingerprint: FP,
        claimant: b"alice".to_vec(),
        expires_at: T0 + ms + 10_000,
    }
}

fn outcome(of: &AttemptFact, ms: Millis, region: Region, bytes: &[u8]) -> OutcomeFact {
    OutcomeFact {
        claim: of.claim,
        region,
        incarnation: 1,
        stamp: (T0 + ms) << 16,
        majority: false,
        fingerprint: of.fingerprint,
        bytes: bytes.to_vec(),
        expires_at: of.expires_at,
    }
}

fn view(
    attempts: impl IntoIterator<Item = AttemptFact>,
    outcomes: impl IntoIterator<Item = OutcomeFact>,
) -> View {
    let (attempts, outcomes) = (attempts.into_iter().collect(), outcomes.into_iter().collect());
    View { attempts, outcomes, forgotten: 0 }.sorted()
}

fn token(of: &AttemptFact) -> TokenFact {
    TokenFact { claim: of.claim, fingerprint: of.fingerprint, expires_at: of.expires_at, forged: false }
}

fn claim_ask(claimant: &[u8], fingerprint: Option<[u8; 16]>) -> Ask {
    Ask::Claim { fingerprint, claimant: claimant.to_vec(), lease: 1000, retention: 10_000, wait: 0 }
}

fn granted(of: &AttemptFact) -> Answer {
    Answer::Granted { claim: of.claim, lease_until: of.lease_until, expires_at: of.expires_at }
}

/// One region's life, as the world would tell it.
struct Tale {
    oracle: Oracle,
    lsn: u64,
}

impl Tale {
    fn new() -> Self {
        Self { oracle: Oracle::new(&[1, 2], vec![false], DRIFT), lsn: 0 }
    }

    fn decide(
        &mut self,
        region: Region,
        ms: Millis,
        ask: Ask,
        answer: Answer,
        sides: [&View; 2],
    ) -> Result<(), Violation> {
        let lsn_before = self.lsn;
        if sides[0] != sides[1] {
            self.lsn += 1;
        }
        let decision = Decision {
            region,
            incarnation: 1,
            key: 0,
            at_us: ms * 1000,
            now: T0 + ms,
            dead_by: T0 + ms,
            trusted: true,
            ask,
            answer,
            before: sides[0].clone().into(),
            after: sides[1].clone().into(),
            lsn_before,
            lsn_after: self.lsn,
            durable: false,
            quorum: false,
            apart: false,
            by_home: ByHome::Not,
        };
        let receipt = self.oracle.decided(&decision)?;
        self.oracle.told(receipt, ms * 1000, self.lsn, 0)
    }

    fn grant(&mut self, a: &AttemptFact) -> Result<(), Violation> {
        let ms = (a.claim.stamp >> 16) - T0;
        let ask = Ask::Claim {
            fingerprint: a.fingerprint,
            claimant: a.claimant.clone(),
            lease: 1000,
            retention: 10_000,
            wait: 0,
        };
        self.decide(a.claim.region, ms, ask, granted(a), [&View::default(), &view([a.clone()], [])])
    }

    fn look(&mut self, region: Region, ms: Millis, seen: &View) -> Result<(), Violation> {
        let (key, at_us, lsn) = (0, ms * 1000, self.lsn);
        self.oracle.look(&Look { region, key, at_us, now: T0 + ms, trusted: true, lsn, view: seen })
    }
}

fn broken(result: Result<(), Violation>) -> &'static str {
    result.err().map_or("nothing", |violation| violation.invariant)
}

#[test]
fn the_winner_follows_the_words_of_s3() {
    let (a, b) = (attempt(0, 2, 1000), attempt(5, 1, 1000));
    assert_eq!(winner(&View::default()), Verdict::Free);
    assert_eq!(winner(&view([a.clone(), b.clone()], [])), Verdict::Held(&a), "first write wins");
    let tie = AttemptFact { claim: name(0, 1), ..a.clone() };
    assert_eq!(winner(&view([a.clone(), tie.clone()], [])), Verdict::Held(&tie), "ties break by region");
    let abandoned = AttemptFact { abandoned_lease: a.lease_until, ..a.clone() };
    assert_eq!(winner(&view([abandoned.clone(), b.clone()], [])), Verdict::Held(&b));
    let revived = AttemptFact { lease_until: a.lease_until + 1, ..abandoned };
    assert_eq!(winner(&view([revived.clone(), b.clone()], [])), Verdict::Held(&revived));
    let (late, early) = (outcome(&a, 20, 2, b"A"), outcome(&b, 10, 1, b"B"));
    let both = view([a.clone(), b.clone()], [late.clone(), early.clone()]);
    assert_eq!(winner(&both), Verdict::Settled(&early), "completion order decides");
    let majority = OutcomeFact { majority: true, ..late };
    assert_eq!(winner(&view([], [majority.clone(), early])), Verdict::Settled(&majority));
    let void = View { forgotten: a.claim.stamp, ..view([a.clone()], []) };
    assert_eq!(winner(&void), Verdict::Free);
    let next = attempt(10_000, 1, 1000);
    assert_eq!(winner(&view([a, next.clone()], [])), Verdict::Held(&next), "superseded at its expiry");
}

#[test]
fn an_honest_life_passes() {
    let mut tale = Tale::new();
    let a = attempt(0, 1, 1000);
    tale.grant(&a).expect("free");
    let held = view([a.clone()], []);
    tale.decide(1, 10, claim_ask(b"alice", FP), granted(&a), [&held, &held]).expect("again to its claimant");
    tale.decide(1, 20, claim_ask(b"bob", FP), Answer::InProgress, [&held, &held]).expect("held");
    tale.decide(1, 30, claim_ask(b"bob", None), Answer::Mismatch, [&held, &held]).expect("other payload");
    let done = outcome(&a, 40, 1, b"ok");
    let settled = view([a.clone()], [done.clone()]);
    let complete = Ask::Complete { token: token(&a), bytes: b"ok".to_vec() };
    tale.decide(1, 40, complete, Answer::Completed, [&held, &settled]).expect("completed");
    let replay = Answer::Replay { bytes: b"ok".to_vec(), claim: a.claim };
    tale.decide(1, 50, claim_ask(b"bob", FP), replay, [&settled, &settled]).expect("replayed");
    let end = |region| Final { region, views: vec![settled.clone().into()], conflicts: vec![], digest: 1 };
    tale.oracle.ended(&[end(1), end(2)], 60_000, T0 + 60).expect("agreement");
}

#[test]
fn a_second_grant_of_a_live_key_is_inv_4() {
    let mut tale = Tale::new();
    let (a, b) = (attempt(0, 1, 1000), attempt(10, 1, 1000));
    tale.grant(&a).expect("free");
    let after = view([AttemptFact { claimant: b"bob".to_vec(), ..b.clone() }], []);
    let ask = claim_ask(b"bob", FP);
    assert_eq!(broken(tale.decide(1, 10, ask, granted(&b), [&view([a], []), &after])), "INV-4");
}

#[test]
fn a_takeover_waits_for_every_lease_and_the_drift() {
    let (winner, other) = (attempt(0, 1, 100), attempt(1, 2, 2000));
    let known = view([winner.clone(), other.clone()], []);
    let grant_at = |ms: Millis, known: &View| {
        let mut tale = Tale::new();
        tale.look(1, 2, known).expect("first look");
        let new = AttemptFact {
            claim: name(ms, 1),
            lease_until: T0 + ms + 1000,
            expires_at: T0 + ms + 10_000,
            ..attempt(0, 1, 0)
        };
        let mut after = known.clone();
        for old in &mut after.attempts {
            old.abandoned_lease = old.lease_until;
        }
        after.add(&super::facts::Part::Attempt(new.clone()));
        broken(tale.decide(1, ms, claim_ask(b"alice", FP), granted(&new), [known, &after.sorted()]))
    };
    assert_eq!(grant_at(300, &known), "INV-4", "the other's lease runs");
    assert_eq!(grant_at(2101, &known), "INV-4", "not over by more than max_drift");
    assert_eq!(grant_at(2102, &known), "nothing");
    assert_eq!(grant_at(150, &view([winner], [])), "INV-4", "within max_drift");
}

#[test]
fn serving_another_payload_is_inv_11_and_serving_the_dead_inv_12() {
    let a = attempt(0, 1, 1000);
    let settled = view([a.clone()], [outcome(&a, 5, 1, b"ok")]);
    let replay = || Answer::Replay { bytes: b"ok".to_vec(), claim: a.claim };
    let mut tale = Tale::new();
    assert_eq!(broken(tale.decide(1, 9, claim_ask(b"b", None), replay(), [&settled, &settled])), "INV-11");
    let mut tale = Tale::new();
    assert_eq!(broken(tale.decide(1, 10_101, claim_ask(b"b", FP), replay(), [&settled, &settled])), "INV-12");
}

#[test]
fn stamps_that_do_not_increase_are_inv_9() {
    let mut tale = Tale::new();
    tale.grant(&attempt(10, 1, 1000)).expect("free");
    tale.look(1, 20_000, &View::default()).expect("died");
    assert_eq!(broken(tale.grant(&attempt(10, 1, 1000))), "INV-9");
}

#[test]
fn stamps_are_issued_again_only_where_nobody_can_have_seen_them() {
    let again = |process_only| {
        let mut tale = Tale::new();
        tale.grant(&attempt(10, 1, 1000)).expect("free");
        tale.oracle.crashed(1, 0, process_only);
        broken(tale.grant(&attempt(10, 1, 1000)))
    };
    assert_eq!([again(true), again(false)], ["nothing", "INV-9"]);
}

#[test]
fn parts_that_vanish_early_are_flagged_and_the_dead_may_go() {
    let a = attempt(0, 1, 1000);
    let done = outcome(&a, 5, 1, b"ok");
    let settled = view([a.clone()], [done]);
    let life = || {
        let mut tale = Tale::new();
        tale.look(1, 6, &settled).expect("first look");
        tale
    };
    assert_eq!(broken(life().look(1, 7, &view([a.clone()], []))), "INV-1");
    assert_eq!(broken(life().look(1, 10_100, &View::default())), "INV-12");
    let mut tale = life();
    tale.look(1, 10_101, &View::default()).expect("past retention and drift");
    assert_eq!(broken(tale.look(1, 10_102, &settled)), "INV-12", "risen from the dead");
}

#[test]
fn a_crash_takes_only_what_its_durability_does_not_cover() {
    let a = attempt(0, 1, 1000);
    let mut tale = Tale::new();
    tale.grant(&a).expect("free");
    tale.oracle.crashed(1, 1, true);
    assert_eq!(broken(tale.look(1, 50, &View::default())), "INV-7");
    let mut tale = Tale::new();
    tale.grant(&a).expect("free");
    tale.oracle.crashed(1, 0, true);
    tale.look(1, 50, &View::default()).expect("it was not durable");
}

#[test]
fn an_answer_that_leaves_early_is_inv_8() {
    let a = attempt(0, 1, 1000);
    let mut oracle = Oracle::new(&[1], vec![false], DRIFT);
    let decision = Decision {
        region: 1,
        incarnation: 1,
        key: 0,
        at_us: 0,
        now: T0,
        dead_by: T0,
        trusted: true,
        ask: claim_ask(b"alice", FP),
        answer: granted(&a),
        before: View::default().into(),
        after: view([a], []).into(),
        lsn_before: 4,
        lsn_after: 5,
        durable: true,
        quorum: false,
        apart: false,
        by_home: ByHome::Not,
    };
    let receipt = oracle.decided(&decision).expect("free");
    assert_eq!(broken(oracle.told(receipt, 1, 5, 4)), "INV-8", "written and not synced");
    assert_eq!(broken(oracle.told(receipt, 2, 5, 5)), "nothing");
}

#[test]
fn an_acknowledged_record_that_is_not_held_is_inv_5() {
    let mut tale = Tale::new();
    let a = attempt(0, 1, 1000);
    tale.grant(&a).expect("free");
    let ack = |tale: &mut Tale, held: View| {
        broken(
            tale.oracle
                .acknowledged((1, 2), (1, Some(7), 7), (1, T0 + 1, true, T0 + 1), |_| held.clone().into()),
        )
    };
    assert_eq!(ack(&mut tale, View::default()), "INV-5");
    assert_eq!(ack(&mut tale, view([a], [])), "nothing");
    tale.oracle.crashed(2, 6, true);
    tale.look(2, 5, &View::default()).expect("the log kept less than was acknowledged from it");
    let mut tale = Tale::new();
    let a = attempt(0, 1, 1000);
    tale.grant(&a).expect("free");
    ack(&mut tale, view([a], []));
    tale.oracle.crashed(2, 7, true);
    assert_eq!(broken(tale.look(2, 5, &View::default())), "INV-7", "what was acknowledged to a peer");
}

#[test]
fn a_settled_key_that_changes_to_a_later_outcome_is_inv_10() {
    let (a, b) = (attempt(0, 1, 1000), attempt(1, 2, 1000));
    let (first, second) = (outcome(&a, 5, 1, b"A"), outcome(&b, 6, 2, b"B"));
    let mut tale = Tale::new();
    tale.look(1, 7, &view([a.clone(), b.clone()], [second.clone()])).expect("settled by b");
    tale.look(1, 8, &view([a, b], [first, second])).expect("an earlier concurrent completion");
}

fn double_execution() -> (Tale, View, [AttemptFact; 2]) {
    let (a, b) = (attempt(0, 1, 1000), attempt(1, 2, 1000));
    let (first, second) = (outcome(&a, 5, 1, b"A"), outcome(&b, 6, 2, b"B"));
    let mut tale = Tale::new();
    for (held, done) in [(&a, &first), (&b, &second)] {
        tale.grant(held).expect("not delivered yet");
        let sides = [&view([held.clone()], []), &view([held.clone()], [done.clone()])];
        let complete = Ask::Complete { token: token(held), bytes: done.bytes.clone() };
        tale.decide(held.claim.region, 6, complete, Answer::Completed, sides).expect("completed");
    }
    (tale, view([a.clone(), b.clone()], [first, second]), [a, b])
}

fn loser(of: &AttemptFact, by: &AttemptFact) -> ConflictFact {
    ConflictFact {
        key: 0,
        loser: of.claim,
        region: of.claim.region,
        loser_stamp: (T0 + 6) << 16,
        winner: Some(((T0 + 5) << 16, by.claim.region, by.claim)),
        compensated: false,
    }
}

#[test]
fn a_double_execution_must_be_listed_once_and_alike() {
    let judge = |lists: [Vec<ConflictFact>; 2]| {
        let (tale, both, _) = double_execution();
        let [one, two] = lists;
        let end =
            |region, conflicts| Final { region, views: vec![both.clone().into()], conflicts, digest: 9 };
        broken(tale.oracle.ended(&[end(1, one), end(2, two)], 0, T0 + 100))
    };
    let (_, _, [a, b]) = double_execution();
    let line = loser(&b, &a);
    assert_eq!(judge([vec![line.clone()], vec![line.clone()]]), "nothing");
    assert_eq!(judge([vec![], vec![]]), "INV-5");
    assert_eq!(judge([vec![line.clone()], vec![]]), "INV-5");
    let other = ConflictFact { winner: None, ..line.clone() };
    assert_eq!(judge([vec![line.clone()], vec![other]]), "INV-5");
    assert_eq!(judge([vec![line.clone(), line.clone()], vec![line.clone(), line]]), "INV-5");
    let wrong = loser(&a, &b);
    assert_eq!(judge([vec![wrong.clone(), loser(&b, &a)], vec![wrong, loser(&b, &a)]]), "INV-5");
}

#[test]
fn regions_that_disagree_or_lost_something_are_flagged() {
    let judge = |views: [View; 2], digests: [u128; 2]| {
        let (tale, _, [a, b]) = double_execution();
        let line = loser(&b, &a);
        let [one, two] = views;
        let end = |region, view: View, digest| Final {
            region,
            views: vec![view.into()],
            conflicts: vec![line.clone()],
            digest,
        };
        broken(tale.oracle.ended(&[end(1, one, digests[0]), end(2, two, digests[1])], 0, T0 + 100))
    };
    let (_, both, [a, b]) = double_execution();
    let without = |n: usize| View { outcomes: vec![both.outcomes[n].clone()], ..both.clone() };
    assert_eq!(judge([both.clone(), both.clone()], [1, 1]), "nothing");
    assert_eq!(judge([both.clone(), without(0)], [1, 1]), "INV-2", "one region lacks an outcome");
    assert_eq!(judge([without(1), without(1)], [1, 1]), "INV-7", "an acknowledged outcome is nowhere");
    assert_eq!(judge([both.clone(), both.clone()], [1, 2]), "INV-2", "digests differ");
    let invented = attempt(3, 1, 1000);
    let more = view([invented, b.clone()], both.outcomes.clone());
    assert_eq!(judge([more.clone(), more], [1, 1]), "INV-3", "nobody accepted that claim");
    let released = AttemptFact { phase: Phase::Released, ..a };
    let odd = view([released, b], both.outcomes.clone());
    assert_ne!(judge([both, odd], [1, 1]), "nothing");
}
