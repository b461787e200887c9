//! S4.7: who settles an UNKNOWN, and what a late holder is told after that.

use super::*;
use crate::policy::Level;

/// When the lease is over for everybody.
const OVER: u64 = LEASE_END + DRIFT + 1;

fn complete(bytes: &'static [u8]) -> Request<'static> {
    Request::Resolve { key: KEY, how: Resolution::Complete(bytes) }
}

const RELEASE: Request<'static> = Request::Resolve { key: KEY, how: Resolution::Release };

fn unknown() -> Policy {
    Policy { on_lease_end: OnLeaseEnd::Unknown, ..policy() }
}

#[test]
fn only_what_has_been_silent_for_its_lease_is_resolved() {
    let (a, policy) = (held(THERE, T0, b"a"), unknown());
    let entry = of(&[a], &[]);
    for request in [complete(b"done"), RELEASE] {
        let running = Reply::InProgress { retry_after_ms: 1, region: THERE };
        answers(at(&entry, request, &policy, LEASE_END + DRIFT), running);
        answers(at(&Entry::default(), request, &policy, OVER), Reply::Free);
        answers(at(&entry, request, &policy, EXPIRY + DRIFT + 1), Reply::Free);
    }
}

/// What was found out is recorded in the name of the claim that held the key: its holder, back at last with the same result,
/// is told COMPLETED; with another one, that it was superseded.
#[test]
fn a_resolution_as_done_is_the_silent_claims_outcome() {
    let (a, policy) = (held(THERE, T0, b"a"), unknown());
    let entry = of(&[a], &[]);
    let decision = at(&entry, complete(b"done"), &policy, OVER);
    assert_eq!(decision.reply.status(), "COMPLETED");
    let settled = entry.join(&decision.delta.expect("an outcome"));
    let Winner::Settled(outcome) = settled.winner() else { panic!("settled") };
    assert_eq!((outcome.claim, outcome.region, outcome.bytes), (a.id, HERE, &b"done"[..]));
    assert_eq!((outcome.fingerprint, outcome.expires_at), (a.fingerprint, a.expires_at));

    assert_eq!(at(&settled, complete(b"done"), &policy, OVER + 5).reply.status(), "COMPLETED", "a retry");
    answers(at(&settled, complete(b"other"), &policy, OVER + 5), Reply::Replay(*outcome));
    answers(at(&settled, RELEASE, &policy, OVER + 5), Reply::Replay(*outcome));
    let late =
        |bytes| Request::Complete { key: KEY, token: token(&a), outcome: bytes, level: None, durable: false };
    assert_eq!(at(&settled, late(b"done"), &policy, OVER + 9).reply.status(), "COMPLETED");
    assert_eq!(at(&settled, late(b"not quite"), &policy, OVER + 9).reply.status(), "SUPERSEDED");
}

/// Given back, the key is granted again; a completion of the silent holder is recorded all the same, and a renewal that had
/// not arrived revives it.
#[test]
fn a_resolution_as_without_effect_frees_the_key_and_loses_nothing() {
    let policy = unknown();
    let (a, b) = (held(THERE, T0, b"a"), held(RegionId(3), T0 + 1, b"b"));
    let entry = of(&[a, b], &[]);
    let decision = at(&entry, RELEASE, &policy, OVER + 1);
    assert_eq!(decision.reply, Reply::Released);
    let free = entry.join(&decision.delta.expect("both abandoned"));
    assert_eq!(free.winner(), Winner::Free);
    answers(at(&free, RELEASE, &policy, OVER + 2), Reply::Free);
    assert_eq!(at(&free, Request::Claim(wants(b"c")), &policy, OVER + 2).reply.status(), "GRANTED");

    let renewed = Attempt { lease_until: OVER + 500, ..a };
    assert_eq!(
        free.clone().join(&Entry::of_attempt(renewed)).winner(),
        Winner::Held(&Attempt { abandoned_lease: LEASE_END, ..renewed })
    );
    let late =
        Request::Complete { key: KEY, token: token(&a), outcome: b"done", level: None, durable: false };
    let decision = at(&free, late, &policy, OVER + 9);
    assert_eq!(decision.reply.status(), "CONTESTED", "two had held it");
    assert!(decision.delta.is_some(), "the work was done, and that must be known (S4.2)");
}

/// A region that is behind may not know that it is done.
#[test]
fn a_region_too_stale_to_claim_resolves_nothing() {
    let stale = Policy { max_staleness_ms: Some(2), ..unknown() };
    let entry = of(&[held(THERE, T0, b"a")], &[]);
    let Reply::Unavailable { reason, .. } = at(&entry, RELEASE, &stale, OVER).reply else {
        panic!("refused")
    };
    assert_eq!(reason, Reason::Stale);
}

/// At quorum a region may learn only from the others that a claim has fallen silent. Its own claim, asked for when the key
/// seemed free, was then granted over it, although the policy demands that somebody resolves it first.
#[test]
fn a_majority_grants_nothing_over_what_is_to_be_resolved() {
    let policy = Policy { level: Level::Quorum, ..unknown() };
    let silent = held(THERE, T0, b"a");
    let first = at(&Entry::default(), Request::Claim(wants(b"b")), &policy, OVER);
    let Some(Proposal::Claim(id)) = first.asks else { panic!("a majority is asked") };
    let gathered = first.delta.expect("asked").join(&Entry::of_attempt(silent));
    let reached = Gathered { proposal: Proposal::Claim(id), reached: true };
    let second = again(&gathered, Request::Claim(wants(b"b")), &policy, (OVER + 20, reached));
    assert_eq!(second.reply, Reply::Unknown(silent.id));
    let withdrawn = gathered.clone().join(&second.delta.expect("withdrawn"));
    assert_eq!(withdrawn.winner(), Winner::Held(&silent));

    let takeover = Policy { on_lease_end: OnLeaseEnd::Takeover, ..policy };
    let second = again(&gathered, Request::Claim(wants(b"b")), &takeover, (OVER + 20, reached));
    assert_eq!(second.reply.status(), "GRANTED");
}

/// At quorum it is settled once a majority holds it.
#[test]
fn a_resolution_at_quorum_asks_a_majority_first() {
    let policy = Policy { level: Level::Quorum, ..unknown() };
    let a = held(THERE, T0, b"a");
    let entry = of(&[a], &[]);
    let first = at(&entry, complete(b"done"), &policy, OVER);
    let proposal = first.asks.expect("a majority is asked");
    let known = entry.join(&first.delta.expect("recorded here"));
    let missed =
        again(&known, complete(b"done"), &policy, (OVER + 20, Gathered { proposal, reached: false }));
    assert!(matches!(missed.reply, Reply::Unavailable { reason: Reason::RecordedHere, .. }));
    let reached =
        again(&known, complete(b"done"), &policy, (OVER + 20, Gathered { proposal, reached: true }));
    assert!(matches!(reached.reply, Reply::Completed { level: Level::Quorum, .. }));
}
