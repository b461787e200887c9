//! CLAIM: the rows of S4.1 in their order, each with its neighbours.

use super::*;
use crate::policy::{KeyTime, Level};

#[track_caller]
fn granted<'e>(entry: &Entry<'e>, claim: Claim<'e>, policy: &Policy, now_ms: u64) -> Attempt<'e> {
    let decision = at(entry, Request::Claim(claim), policy, now_ms);
    let Reply::Granted { token, lease_until, level, stale_ms } = decision.reply else {
        panic!("granted, not {:?}", decision.reply)
    };
    let delta = decision.delta.expect("a grant is written");
    let own = delta.attempts.iter().find(|attempt| attempt.id == token.id).expect("its own attempt");
    assert_eq!(
        (own.id, own.phase),
        (ClaimId { stamp: Stamp::from_parts(now_ms, 7), ..id(HERE, 0) }, Phase::Held)
    );
    assert_eq!((token.expires_at, token.fingerprint), (own.expires_at, claim.fingerprint));
    assert!(token.verify(&keys(), claim.key));
    assert_eq!((lease_until, level, stale_ms), (own.lease_until, Level::Local, 3));
    let joined = entry.clone().join(&delta);
    assert!(
        matches!(joined.winner(), Winner::Held(winner) if winner.id == own.id),
        "who is granted wins here"
    );
    *own
}

#[track_caller]
fn told(entry: &Entry<'static>, claim: Claim<'static>, now_ms: u64, reply: Reply<'static>) {
    answers(at(entry, Request::Claim(claim), &policy(), now_ms), reply);
}

fn in_progress(retry_after_ms: u64, region: RegionId) -> Reply<'static> {
    Reply::InProgress { retry_after_ms, region }
}

fn unavailable(reason: Reason) -> Reply<'static> {
    Reply::Unavailable { reason, retry_after_ms: crate::limits::RETRY_AFTER_MS_DEFAULT }
}

const PRINT: Option<Fingerprint> = Some(Fingerprint([9; 16]));

/// Row 1: before everything else, even before a settled key's outcome.
#[test]
fn what_cannot_be_reached_is_refused_first() {
    let a = held(HERE, T0, b"a");
    let settled = of(&[a], &[outcome(&a, HERE, T0 + 5, b"done")]);
    for entry in [Entry::default(), settled] {
        let claim = Claim { level: Some(Level::Home), ..wants(b"b") };
        told(&entry, claim, T0 + 9, unavailable(Reason::Level));
        let strict = Policy { level: Level::Home, ..policy() };
        let weaker = Claim { level: Some(Level::Local), ..wants(b"b") };
        answers(at(&entry, Request::Claim(weaker), &strict, T0 + 9), unavailable(Reason::Level));
        let stale = Policy { max_staleness_ms: Some(2), ..policy() };
        answers(at(&entry, Request::Claim(wants(b"b")), &stale, T0 + 9), unavailable(Reason::Stale));
        let fresh = Policy { max_staleness_ms: Some(3), ..policy() };
        let decision = at(&entry, Request::Claim(wants(b"b")), &fresh, T0 + 9);
        assert_ne!(decision.reply.status(), "UNAVAILABLE", "exactly the bound is fresh enough");
    }
}

/// S5: at quorum only what would be granted asks a majority; a weaker request does not lower the namespace's level.
#[test]
fn at_quorum_a_claim_is_written_asked_and_told_to_nobody() {
    let strict = Policy { level: Level::Quorum, ..policy() };
    let weaker = Claim { level: Some(Level::Local), ..wants(b"b") };
    let decision = at(&Entry::default(), Request::Claim(weaker), &strict, T0);
    let delta = decision.delta.expect("written");
    assert_eq!((delta.attempts[0].phase, delta.attempts[0].claimant), (Phase::Asked, &b"b"[..]));
    assert_eq!(decision.asks, Some(Proposal::Claim(delta.attempts[0].id)));
    let a = held(HERE, T0, b"a");
    let done = outcome(&a, HERE, T0 + 5, b"done");
    let settled = of(&[a], &[done]);
    answers(at(&settled, Request::Claim(wants(b"b")), &strict, T0 + 9), Reply::Replay(done));
    // Its claimant is answered after a fresh round for the same claim, and nothing is written.
    let again = at(&of(&[a], &[]), Request::Claim(wants(b"a")), &strict, T0 + 9);
    assert_eq!((again.asks, again.delta), (Some(Proposal::Claim(a.id)), None));
}

/// Row 2: an absent fingerprint equals only an absent one (S1); before REPLAY, retry and IN_PROGRESS.
#[test]
fn another_fingerprint_is_a_mismatch_while_the_winner_lives() {
    let of_print = |fingerprint| Attempt { fingerprint, ..held(THERE, T0, b"a") };
    for (stored, asked) in [(None, PRINT), (PRINT, None), (PRINT, Some(Fingerprint([8; 16])))] {
        let a = of_print(stored);
        let claim = Claim { fingerprint: asked, ..wants(b"a") };
        for now in [T0, LEASE_END + DRIFT + 1, EXPIRY + DRIFT] {
            let mismatch = |settled| Reply::Mismatch { settled, region: THERE };
            told(&of(&[a], &[]), claim, now, mismatch(false));
            told(&of(&[a], &[outcome(&a, THERE, T0, b"done")]), claim, now, mismatch(true));
        }
        granted(&of(&[a], &[]), claim, &policy(), EXPIRY + DRIFT + 1);
    }
    for same in [None, PRINT] {
        let claim = Claim { fingerprint: same, ..wants(b"b") };
        told(&of(&[of_print(same)], &[]), claim, T0, in_progress(1_501, THERE));
    }
}

/// Row 3: REPLAY, whoever asks, to the last instant that the outcome counts.
#[test]
fn a_settled_key_is_replayed_until_it_dies() {
    let a = held(THERE, T0, b"a");
    let done = outcome(&a, HERE, T0 + 5, b"done");
    let entry = of(&[a], &[done]);
    for claimant in [&b"a"[..], b"b", b""] {
        for now in [T0 + 5, EXPIRY, EXPIRY + DRIFT] {
            told(&entry, wants(claimant), now, Reply::Replay(done));
        }
    }
    granted(&entry, wants(b"b"), &policy(), EXPIRY + DRIFT + 1);
}

/// Row 4: the same claimant, lease running: the same grant again, wherever it was made.
#[test]
fn a_lost_reply_is_safe_to_retry() {
    for region in [HERE, THERE] {
        let a = held(region, T0, b"a");
        let again =
            Reply::Granted { token: token(&a), lease_until: a.lease_until, level: Level::Local, stale_ms: 3 };
        told(&of(&[a], &[]), wants(b"a"), LEASE_END, again);
        told(&of(&[a], &[]), wants(b"a"), LEASE_END + 1, in_progress(DRIFT, region));
        told(&of(&[a], &[]), wants(b"b"), LEASE_END, in_progress(DRIFT + 1, region));
    }
    let anonymous = held(HERE, T0, b"");
    told(&of(&[anonymous], &[]), wants(b""), T0, in_progress(1_501, HERE));
}

/// Row 4 is for the winner's claimant: a loser that still runs waits.
#[test]
fn only_the_winner_is_granted_again() {
    let (first, second) = (held(THERE, T0, b"a"), held(HERE, T0 + 10, b"b"));
    told(&of(&[first, second], &[]), wants(b"b"), T0 + 20, in_progress(1_491, THERE));
}

/// Row 5: *any* Held or Asked attempt whose lease is not over by more than max_drift.
#[test]
fn every_running_lease_blocks() {
    let first = held(THERE, T0, b"a");
    let renewed = Attempt { lease_until: LEASE_END + 5_000, ..held(HERE, T0 + 10, b"b") };
    let asked = Attempt { phase: Phase::Asked, ..renewed };
    for second in [renewed, asked] {
        let entry = of(&[first, second], &[]);
        let last = second.lease_until + DRIFT;
        told(&entry, wants(b"c"), LEASE_END + DRIFT + 1, in_progress(5_000, THERE));
        told(&entry, wants(b"c"), last, in_progress(1, THERE));
        granted(&entry, wants(b"c"), &policy(), last + 1);
    }
    let alone = of(&[asked], &[]);
    told(&alone, wants(b"b"), asked.lease_until + DRIFT, in_progress(1, HERE));
    granted(&alone, wants(b"b"), &policy(), asked.lease_until + DRIFT + 1);
}

/// Row 5: Released and Abandoned attempts do not block.
#[test]
fn ended_attempts_do_not_block() {
    let a = held(THERE, T0, b"a");
    for ended in [Attempt { phase: Phase::Released, ..a }, Attempt { abandoned_lease: a.lease_until, ..a }] {
        granted(&of(&[ended], &[]), wants(b"b"), &policy(), T0 + 1);
    }
}

/// Row 6, `takeover`: all become Abandoned, at the lease that was seen; nothing else of them changes.
#[test]
fn a_takeover_abandons_every_held_attempt() {
    let (first, second) = (held(THERE, T0, b"a"), held(RegionId(3), T0 + 10, b"b"));
    let released = Attempt { phase: Phase::Released, ..held(RegionId(4), T0 + 5, b"d") };
    let own = held(HERE, T0 + 20, b"e");
    let entry = of(&[first, second, released, own], &[]);
    let last = own.lease_until + DRIFT;
    told(&entry, wants(b"c"), last, in_progress(1, THERE));
    let decision = at(&entry, Request::Claim(wants(b"c")), &policy(), last + 1);
    let delta = decision.delta.expect("a takeover is written");
    let abandoned = |a: Attempt<'static>| Attempt { abandoned_lease: a.lease_until, ..a };
    assert_eq!(delta.attempts.len(), 3, "its own slot, and the two others that held: {delta:?}");
    assert_eq!(delta.attempts[1..], [abandoned(first), abandoned(second)]);
    let new = granted(&entry, wants(b"c"), &policy(), last + 1);
    assert_eq!(delta.attempts[0], new);
    assert!(new.id > first.id, "the fencing token is greater than those it saw");
}

/// Row 6, `unknown`: nobody runs it again until somebody resolves it; it dies as everything does.
#[test]
fn the_policy_unknown_forbids_takeovers() {
    let unknown = Policy { on_lease_end: OnLeaseEnd::Unknown, ..policy() };
    let a = held(THERE, T0, b"a");
    let entry = of(&[a], &[]);
    let claim = |claimant, now| at(&entry, Request::Claim(wants(claimant)), &unknown, now);
    answers(claim(b"b", LEASE_END + DRIFT), in_progress(1, THERE));
    for claimant in [b"a", b"b"] {
        answers(claim(claimant, LEASE_END + DRIFT + 1), Reply::Unknown(a.id));
        answers(claim(claimant, EXPIRY + DRIFT), Reply::Unknown(a.id));
        assert_eq!(claim(claimant, EXPIRY + DRIFT + 1).reply.status(), "GRANTED");
    }
    let done = outcome(&a, THERE, T0 + 5, b"done");
    answers(at(&of(&[a], &[done]), Request::Claim(wants(b"b")), &unknown, EXPIRY), Reply::Replay(done));
}

/// Row 7: a key that carries its own time and is older than retention is never run; the rows before
/// it answer as ever.
#[test]
fn a_key_older_than_its_retention_is_expired() {
    let aged = Policy { key_time: KeyTime::UuidV7, ..policy() };
    // RFC 9562 A.6: 2022-02-22T19:22:22.00Z.
    const BORN: u64 = 1_645_557_742_000;
    let claim = Claim { key: b"pay:017f22e2-79b0-7cc3-98c4-dc0c0c07398f", ..wants(b"a") };
    let ask = |entry: &Entry<'static>, claim, now| at(entry, Request::Claim(claim), &aged, now).reply;
    assert_eq!(ask(&Entry::default(), claim, BORN + 10_000).status(), "GRANTED");
    assert_eq!(ask(&Entry::default(), claim, BORN + 10_001), Reply::Expired);
    let longer = Claim { retention_ms: Some(20_000), ..claim };
    assert_eq!(ask(&Entry::default(), longer, BORN + 10_001).status(), "GRANTED");
    assert_eq!(ask(&Entry::default(), Claim { key: b"pay:1", ..claim }, BORN + 10_001).status(), "GRANTED");
    let a = held(THERE, BORN + 9_000, b"a");
    let done = outcome(&a, THERE, BORN + 9_001, b"done");
    let late = BORN + 10_001;
    assert_eq!(ask(&of(&[a], &[done]), claim, late), Reply::Replay(done));
    assert_eq!(
        ask(&of(&[a], &[]), Claim { claimant: b"b", ..claim }, BORN + 10_400),
        in_progress(101, THERE)
    );
    assert_eq!(ask(&of(&[a], &[]), claim, BORN + 10_501).status(), "GRANTED", "row 6 comes first");
    let released = Attempt { phase: Phase::Released, ..a };
    assert_eq!(ask(&of(&[released], &[]), claim, late), Reply::Expired);
    assert_eq!(ask(&of(&[a], &[done]), claim, BORN + 19_000 + DRIFT + 1), Reply::Expired);
}

/// Row 8, and the numbers of a grant.
#[test]
fn a_free_key_is_granted_with_what_was_asked() {
    let plain = granted(&Entry::default(), wants(b""), &policy(), T0);
    assert_eq!((plain.lease_until, plain.expires_at), (LEASE_END, EXPIRY));
    let claim = Claim {
        fingerprint: PRINT,
        note: b"for later",
        lease_ms: Some(2_000),
        retention_ms: Some(5_000),
        ..wants(b"a")
    };
    let asked = granted(&Entry::default(), claim, &policy(), T0);
    assert_eq!((asked.lease_until, asked.expires_at), (T0 + 2_000, T0 + 5_000));
    assert_eq!((asked.claimant, asked.note, asked.fingerprint), (&b"a"[..], &b"for later"[..], PRINT));
    let greedy = Claim { lease_ms: Some(u64::MAX), ..claim };
    let bounded = granted(&Entry::default(), greedy, &policy(), T0);
    assert_eq!(bounded.lease_until, bounded.expires_at, "a lease never exceeds expires_at");
}

/// S3: a new attempt expires no earlier than any part it saw, dead or void ones included.
#[test]
fn a_grant_expires_no_earlier_than_what_it_saw() {
    let long = Attempt { phase: Phase::Released, expires_at: T0 + 99_000, ..held(THERE, T0, b"a") };
    assert_eq!(granted(&of(&[long], &[]), wants(b"b"), &policy(), T0 + 1).expires_at, T0 + 99_000);
    let void =
        of(&[Attempt { expires_at: T0 + 77_000, ..held(THERE, T0, b"a") }], &[]).join(&forgotten(T0 + 2));
    assert_eq!(granted(&void, wants(b"b"), &policy(), T0 + 3).expires_at, T0 + 77_000);
    let own = held(HERE, T0, b"a");
    let taken_over = granted(&of(&[own], &[]), wants(b"b"), &policy(), LEASE_END + DRIFT + 1);
    assert_eq!(taken_over.expires_at, LEASE_END + DRIFT + 1 + 10_000);
}

/// Outcomes that FORGET has voided take no room from those to come.
#[test]
fn a_forgotten_key_is_granted_however_many_outcomes_it_had() {
    let losers: Vec<_> =
        (1..=8).map(|n| outcome(&held(RegionId(n), T0, b"a"), RegionId(n), T0 + 5, b"x")).collect();
    granted(&of(&[], &losers).join(&forgotten(T0 + 6)), wants(b"b"), &policy(), T0 + 7);
}
