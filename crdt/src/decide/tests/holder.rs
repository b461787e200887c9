//! COMPLETE, RENEW, RELEASE: S4.2 to S4.4.

use super::*;
use crate::limits;

fn complete(attempt: &Attempt<'_>, outcome: &'static [u8]) -> Request<'static> {
    Request::Complete { key: KEY, token: token(attempt), outcome, level: None, durable: false }
}

fn renew(attempt: &Attempt<'_>, lease_ms: Option<u64>) -> Request<'static> {
    Request::Renew { key: KEY, token: token(attempt), lease_ms, level: None, durable: false }
}

fn release(attempt: &Attempt<'_>) -> Request<'static> {
    Request::Release { key: KEY, token: token(attempt), level: None, durable: false }
}

fn completed(ms: u64, region: RegionId) -> Reply<'static> {
    Reply::Completed { completed_at: ms, region, level: Level::Local }
}

fn contested(ms: u64, region: RegionId) -> Reply<'static> {
    Reply::Contested { completed_at: ms, region, level: Level::Local }
}

fn superseded_by(winner: &Outcome<'static>, outcome: Option<&'static [u8]>) -> Reply<'static> {
    Reply::Superseded {
        outcome,
        completed_at: Some(winner.completed.ms()),
        winner: Some(winner.claim),
        region: Some(winner.region),
    }
}

fn held_by(winner: &Attempt<'_>) -> Reply<'static> {
    Reply::Superseded {
        outcome: None,
        completed_at: None,
        winner: Some(winner.id),
        region: Some(winner.id.region),
    }
}

fn elsewhere() -> Reply<'static> {
    Reply::Unavailable { reason: Reason::OtherRegion, retry_after_ms: limits::RETRY_AFTER_MS_DEFAULT }
}

/// S4.2: any region takes it, though the attempt is unseen there, replaced, Abandoned or Released.
#[test]
fn work_that_was_done_is_recorded_wherever_the_holder_comes() {
    let a = Attempt { fingerprint: Some(Fingerprint([4; 16])), ..held(HERE, T0, b"a") };
    let replaced_by = Attempt { phase: Phase::Released, ..held(HERE, T0 + 50, b"b") };
    for (entry, at_region) in [
        (of(&[a], &[]), HERE),
        (of(&[a], &[]), THERE),
        (Entry::default(), THERE),
        (of(&[Attempt { phase: Phase::Released, ..a }], &[]), HERE),
        (of(&[Attempt { abandoned_lease: a.lease_until, ..a }], &[]), THERE),
        (of(&[replaced_by], &[]), THERE),
    ] {
        let decision = decide_in(at_region, &entry, complete(&a, b"done"), &policy(), (T0 + 100, None));
        assert_eq!(decision.reply, completed(T0 + 100, at_region), "over {entry:?}");
        let delta = decision.delta.expect("recorded");
        assert_eq!(delta.attempts.len(), 0, "others' attempts are not written");
        let stored =
            Outcome { completed: Stamp::from_parts(T0 + 100, 7), ..outcome(&a, at_region, 0, b"done") };
        assert_eq!(delta.outcomes[..], [stored]);
        let after = entry.join(&delta);
        let again = decide_in(at_region, &after, complete(&a, b"done"), &policy(), (T0 + 200, None));
        answers(again, completed(T0 + 100, at_region));
    }
}

/// S4.2: CONTESTED when another claim, of any region, is live or took over.
#[test]
fn a_completion_beside_another_claim_is_contested() {
    let a = held(HERE, T0, b"a");
    let abandoned = Attempt { abandoned_lease: a.lease_until, ..a };
    let other = held(THERE, T0 + 2_000, b"b");
    let earlier = held(THERE, T0 - 50, b"b");
    let taken_over = Attempt { abandoned_lease: other.lease_until, ..other };
    for (entry, expected) in [
        (of(&[a, other], &[]), contested(T0 + 2_100, HERE)),
        (of(&[a, earlier], &[]), contested(T0 + 2_100, HERE)),
        (of(&[abandoned, other], &[]), contested(T0 + 2_100, HERE)),
        (of(&[abandoned, taken_over], &[]), contested(T0 + 2_100, HERE)),
        (of(&[held(HERE, T0 + 2_000, b"b")], &[]), contested(T0 + 2_100, HERE)),
        (of(&[a, Attempt { phase: Phase::Released, ..other }], &[]), completed(T0 + 2_100, HERE)),
        // A majority that has not seen this may have granted it (S5), while its lease runs.
        (of(&[a, Attempt { phase: Phase::Asked, ..other }], &[]), contested(T0 + 2_100, HERE)),
        (of(&[a, Attempt { phase: Phase::Asked, ..earlier }], &[]), completed(T0 + 2_100, HERE)),
        (
            of(&[a, Attempt { abandoned_lease: earlier.lease_until, ..earlier }], &[]),
            completed(T0 + 2_100, HERE),
        ),
    ] {
        assert_eq!(
            at(&entry, complete(&a, b"done"), &policy(), T0 + 2_100).reply,
            expected,
            "over {entry:?}"
        );
    }
}

/// S4.2: Settled by another claim: kept as a loser; the winner's outcome only for an equal
/// fingerprint (INV-11).
#[test]
fn a_loser_is_kept_and_told_the_winners_outcome() {
    let (a, b) = (held(HERE, T0, b"a"), held(THERE, T0 + 1, b"b"));
    let won = outcome(&b, THERE, T0 + 5, b"first");
    let decision = at(&of(&[a, b], &[won]), complete(&a, b"second"), &policy(), T0 + 9);
    assert_eq!(decision.reply, superseded_by(&won, Some(b"first")));
    let after = of(&[a, b], &[won]).join(&decision.delta.expect("kept"));
    assert_eq!(after.outcomes.len(), 2);
    let losers = crate::conflict::losers(KEY, &after, 1_000);
    assert_eq!(losers.len(), 1);
    assert_eq!((losers[0].id.loser, losers[0].winner.map(|side| side.claim)), (a.id, Some(b.id)));
    answers(at(&after, complete(&a, b"second"), &policy(), T0 + 10), superseded_by(&won, Some(b"first")));
    let same_bytes = at(&of(&[a, b], &[won]), complete(&a, b"first"), &policy(), T0 + 9);
    assert_eq!(
        same_bytes.reply,
        superseded_by(&won, Some(b"first")),
        "another claim's, though it says the same"
    );
    let other_print = Attempt { fingerprint: Some(Fingerprint([4; 16])), ..a };
    let decision = at(&of(&[other_print, b], &[won]), complete(&other_print, b"second"), &policy(), T0 + 9);
    assert_eq!(decision.reply, superseded_by(&won, None));
}

/// S4.2: different bytes for a completed claim: SUPERSEDED with the stored ones, nothing written.
#[test]
fn the_first_bytes_of_a_claim_stay() {
    let a = held(HERE, T0, b"a");
    let done = outcome(&a, HERE, T0 + 5, b"done");
    for region in [HERE, THERE] {
        let other = decide_in(region, &of(&[a], &[done]), complete(&a, b"else"), &policy(), (T0 + 9, None));
        answers(other, superseded_by(&done, Some(b"done")));
    }
}

/// Two regions took different bytes of one claim before they met: one claim, a conflict all the same.
#[test]
fn one_claim_completed_twice_differently_is_a_conflict() {
    let a = held(HERE, T0, b"a");
    let (first, second) = (outcome(&a, HERE, T0 + 5, b"one"), outcome(&a, THERE, T0 + 6, b"two"));
    let met = of(&[a], &[first, second]);
    let losers = crate::conflict::losers(KEY, &met, 1_000);
    assert_eq!(losers.len(), 1);
    assert_eq!(losers[0].id.completed_at, THERE);
    answers(at(&met, complete(&a, b"two"), &policy(), T0 + 9), superseded_by(&first, Some(b"one")));
    let same = of(&[a], &[first, outcome(&a, THERE, T0 + 6, b"one")]);
    assert_eq!(crate::conflict::losers(KEY, &same, 1_000), [], "the same bytes twice are no conflict");
    answers(at(&same, complete(&a, b"one"), &policy(), T0 + 9), completed(T0 + 5, HERE));
}

/// S3: further losers are audited and answered without storing bytes.
#[test]
fn the_ninth_outcome_is_listed_but_not_stored() {
    let outcomes: Vec<_> = (1..=8)
        .map(|n| outcome(&held(RegionId(n), T0, b"a"), RegionId(n), T0 + u64::from(n), b"x"))
        .collect();
    let ninth = held(RegionId(9), T0, b"a");
    let decision = at(&of(&[], &outcomes), complete(&ninth, b"late"), &policy(), T0 + 99);
    assert_eq!(decision.reply, superseded_by(&outcomes[0], Some(b"x")));
    assert!(decision.delta.is_none());
    let loser = decision.loser.expect("listed");
    assert_eq!((loser.id.loser, loser.id.completed_at), (ninth.id, HERE));
    assert_eq!(loser.winner.map(|side| side.claim), Some(outcomes[0].claim));
    assert_eq!(loser.expires_at, T0 + 99 + policy().conflict_retention_ms);
    let eighth = at(&of(&[], &outcomes[..7]), complete(&ninth, b"late"), &policy(), T0 + 99);
    assert!(eighth.delta.is_some() && eighth.loser.is_none());
}

/// What FORGET has voided takes no room: a completion that is confirmed is kept.
#[test]
fn a_completion_after_a_forget_is_kept_however_many_were_voided() {
    let outcomes: Vec<_> =
        (1..=8).map(|n| outcome(&held(RegionId(n), T0, b"a"), RegionId(n), T0 + 5, b"x")).collect();
    let holder = held(RegionId(9), T0 + 7, b"b");
    let full = of(&[holder], &outcomes).join(&forgotten(T0 + 6));
    let decision = at(&full, complete(&holder, b"done"), &policy(), T0 + 9);
    assert_eq!(decision.reply, completed(T0 + 9, HERE));
    let after = full.join(&decision.delta.expect("recorded"));
    assert!(matches!(after.winner(), Winner::Settled(stored) if stored.claim == holder.id));
    answers(at(&after, complete(&holder, b"done"), &policy(), T0 + 10), completed(T0 + 9, HERE));
}

/// S4.2 STALE: only for a bad tag, a claim past its expiry, or one voided by FORGET.
#[test]
fn stale_is_a_bad_tag_an_expired_or_a_forgotten_claim() {
    let a = held(HERE, T0, b"a");
    let requests = |a: &Attempt<'_>| [complete(a, b"done"), renew(a, None), release(a)];
    for request in requests(&a) {
        answers(at(&of(&[a], &[]), request, &policy(), EXPIRY + 1), Reply::Stale(StaleReason::Expired));
        let not_yet = at(&of(&[a], &[]), request, &policy(), EXPIRY);
        assert_ne!(not_yet.reply.status(), "STALE", "exactly at its expiry");
        let void = of(&[a], &[]).join(&forgotten(T0));
        answers(at(&void, request, &policy(), T0 + 1), Reply::Stale(StaleReason::Forgotten));
        answers(at(&forgotten(T0), request, &policy(), T0 + 1), Reply::Stale(StaleReason::Forgotten));
        let before = of(&[a], &[]).join(&forgotten(T0 - 1));
        assert_ne!(at(&before, request, &policy(), T0 + 1).reply.status(), "STALE");
    }
    let other_key = Token::issue(&keys(), b"pay:2", a.id, None, a.expires_at);
    let foreign = ClusterKeys { hash: [1; 16], tag: [3; 16] };
    let other_cluster = Token::issue(&foreign, KEY, a.id, None, a.expires_at);
    for token in [other_key, other_cluster] {
        for request in [
            Request::Complete { key: KEY, token, outcome: b"done", level: None, durable: false },
            Request::Renew { key: KEY, token, lease_ms: None, level: None, durable: false },
            Request::Release { key: KEY, token, level: None, durable: false },
        ] {
            answers(at(&of(&[a], &[]), request, &policy(), EXPIRY + 1), Reply::Stale(StaleReason::BadTag));
        }
    }
}

/// S4.3: only the winner, and only to the last instant of its lease.
#[test]
fn a_renewal_extends_the_winners_running_lease() {
    let a = held(HERE, T0, b"a");
    let entry = of(&[a], &[]);
    for (asked, lease_until) in
        [(None, LEASE_END + 1_000), (Some(3_000), LEASE_END + 3_000), (Some(u64::MAX), EXPIRY)]
    {
        let decision = at(&entry, renew(&a, asked), &policy(), LEASE_END);
        assert_eq!(decision.reply, Reply::Renewed { lease_until });
        let delta = decision.delta.expect("written");
        assert_eq!(delta, Entry::of_attempt(Attempt { lease_until, ..a }), "only the lease changes");
    }
    let shorter = at(&entry, renew(&a, Some(1)), &policy(), T0 + 1);
    assert_eq!(shorter.reply, Reply::Renewed { lease_until: LEASE_END }, "a lease only grows, and says so");
    answers(at(&entry, renew(&a, None), &policy(), LEASE_END + 1), held_by(&a));
}

/// S4.3: SUPERSEDED tells a holder that no longer wins to stop before it acts.
#[test]
fn who_does_not_win_cannot_renew() {
    let (a, b) = (held(HERE, T0, b"a"), held(THERE, T0 - 1, b"b"));
    answers(at(&of(&[a, b], &[]), renew(&a, None), &policy(), T0 + 1), held_by(&b));
    let done = outcome(&b, THERE, T0 + 5, b"done");
    answers(at(&of(&[a], &[done]), renew(&a, None), &policy(), T0 + 6), superseded_by(&done, Some(b"done")));
    let abandoned = Attempt { abandoned_lease: a.lease_until, ..a };
    let successor = held(THERE, T0 + 500, b"b");
    answers(at(&of(&[abandoned, successor], &[]), renew(&a, None), &policy(), T0 + 600), held_by(&successor));
    let nobody = Reply::Superseded { outcome: None, completed_at: None, winner: None, region: None };
    let released = Attempt { phase: Phase::Released, ..a };
    answers(at(&of(&[released], &[]), renew(&a, None), &policy(), T0 + 1), nobody);
}

/// S4.4: the operation failed before any effect: retry is safe, for this claim only.
#[test]
fn a_release_frees_the_key_of_this_claim_only() {
    let (a, b) = (held(HERE, T0, b"a"), held(THERE, T0 + 1, b"b"));
    let decision = at(&of(&[a, b], &[]), release(&a), &policy(), T0 + 9);
    assert_eq!(decision.reply, Reply::Released);
    let after = of(&[a, b], &[]).join(&decision.delta.expect("written"));
    assert_eq!(after, of(&[Attempt { phase: Phase::Released, ..a }, b], &[]));
    assert_eq!(after.winner(), Winner::Held(&b));
    answers(at(&after, release(&a), &policy(), T0 + 10), Reply::Released);
    let late = at(&of(&[a], &[]), release(&a), &policy(), EXPIRY);
    assert_eq!(late.reply, Reply::Released, "its lease being over hurts nobody");
}

/// S4.4: what completed cannot be released; what was replaced is not there to be.
#[test]
fn a_completed_or_replaced_claim_cannot_be_released() {
    let a = held(HERE, T0, b"a");
    let done = outcome(&a, THERE, T0 + 5, b"done");
    answers(at(&of(&[a], &[done]), release(&a), &policy(), T0 + 9), superseded_by(&done, Some(b"done")));
    let newer = held(HERE, T0 + 3_000, b"b");
    answers(at(&of(&[newer], &[]), release(&a), &policy(), T0 + 3_001), held_by(&newer));
}

/// S4: others' attempts are written only by a takeover; a claim not seen here is neither confirmed
/// nor denied.
#[test]
fn renew_and_release_are_the_claiming_regions_to_write() {
    let a = held(HERE, T0, b"a");
    for request in [renew(&a, None), release(&a)] {
        answers(decide_in(THERE, &of(&[a], &[]), request, &policy(), (T0 + 1, None)), elsewhere());
        answers(decide_in(THERE, &Entry::default(), request, &policy(), (T0 + 1, None)), elsewhere());
        let lost =
            decide_in(THERE, &of(&[held(THERE, T0 - 1, b"b")], &[]), request, &policy(), (T0 + 1, None));
        assert_eq!(lost.reply.status(), "SUPERSEDED", "another claim holds the key here");
        assert!(lost.delta.is_none());
    }
}
