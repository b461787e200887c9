//! S4 row by row: [`claim`] the table of S4.1 with the instants on both sides of every boundary,
//! [`holder`] what a token may still do (S4.2–S4.4), [`resolve`] S4.7, and GET and FORGET here.
//!
//! The entries are put together by hand from S3's registers, never by earlier decisions: so a row is
//! tested for what it says, whatever history led there.

mod claim;
mod holder;
mod resolve;

use super::*;
use crate::entry::{Outcome, Phase};
use crate::ids::Fingerprint;
use crate::policy::OnLeaseEnd;
use crate::request::{Claim, Reason, Resolution, StaleReason};

/// The claims of these tests were made here, with a lease of 1 s and a retention of 10 s.
const T0: u64 = 1_800_000_000_000;
const LEASE_END: u64 = T0 + 1_000;
const EXPIRY: u64 = T0 + 10_000;
const DRIFT: u64 = 500;
const HERE: RegionId = RegionId(1);
const THERE: RegionId = RegionId(2);
const KEY: &[u8] = b"pay:1";

fn keys() -> ClusterKeys {
    ClusterKeys { hash: [1; 16], tag: [2; 16] }
}

fn policy() -> Policy {
    Policy { retention_ms: 10_000, lease_ms: 1_000, ..Policy::default() }
}

fn id(region: RegionId, ms: u64) -> ClaimId {
    ClaimId { stamp: Stamp::from_parts(ms, 0), region, incarnation: Incarnation(1) }
}

fn held(region: RegionId, ms: u64, claimant: &'static [u8]) -> Attempt<'static> {
    Attempt {
        id: id(region, ms),
        phase: Phase::Held,
        lease_until: ms + 1_000,
        abandoned_lease: 0,
        fingerprint: None,
        claimant,
        note: b"",
        expires_at: ms + 10_000,
    }
}

fn outcome(attempt: &Attempt<'_>, region: RegionId, ms: u64, bytes: &'static [u8]) -> Outcome<'static> {
    Outcome {
        claim: attempt.id,
        completed: Stamp::from_parts(ms, 0),
        region,
        incarnation: Incarnation(1),
        majority: false,
        compensated: false,
        fingerprint: attempt.fingerprint,
        bytes,
        expires_at: attempt.expires_at,
    }
}

fn token(attempt: &Attempt<'_>) -> Token {
    Token::issue(&keys(), KEY, attempt.id, attempt.fingerprint, attempt.expires_at)
}

fn of(attempts: &[Attempt<'static>], outcomes: &[Outcome<'static>]) -> Entry<'static> {
    let entry = attempts.iter().fold(Entry::default(), |e, a| e.join(&Entry::of_attempt(*a)));
    outcomes.iter().fold(entry, |e, o| e.join(&Entry::of_outcome(*o)))
}

fn forgotten(ms: u64) -> Entry<'static> {
    Entry { forgotten: Stamp::from_parts(ms, 0), ..Entry::default() }
}

/// Decides at `now_ms` in region `HERE`, with the stamp that the clock would tick then.
fn at<'e>(entry: &Entry<'e>, request: Request<'e>, policy: &Policy, now_ms: u64) -> Decision<'e> {
    decide_in(HERE, entry, request, policy, (now_ms, None))
}

/// The second look, with what came of the round.
fn again<'e>(
    entry: &Entry<'e>,
    request: Request<'e>,
    policy: &Policy,
    (now_ms, gathered): (u64, Gathered),
) -> Decision<'e> {
    decide_in(HERE, entry, request, policy, (now_ms, Some(gathered)))
}

fn decide_in<'e>(
    region: RegionId,
    entry: &Entry<'e>,
    request: Request<'e>,
    policy: &Policy,
    (now_ms, gathered): (u64, Option<Gathered>),
) -> Decision<'e> {
    let stamp = Stamp::from_parts(now_ms, 7);
    let (keys, incarnation) = (keys(), Incarnation(1));
    let context = Context {
        stamp,
        now_ms,
        region,
        incarnation,
        max_drift_ms: DRIFT,
        policy,
        keys: &keys,
        stale_ms: 3,
        gathered,
        home: Home::Not,
        has_voice: true,
    };
    decide(entry, &request, &context)
}

fn wants(claimant: &'static [u8]) -> Claim<'static> {
    Claim { key: KEY, claimant, ..Claim::default() }
}

/// A decision that tells something and changes nothing.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expected replies are written in place")]
fn answers(decision: Decision<'_>, reply: Reply<'_>) {
    assert_eq!(decision.reply, reply);
    assert_eq!((decision.delta, decision.loser), (None, None), "nothing is written");
}

/// S4.5: GET shows the winner while anything of the entry lives.
#[test]
fn get_shows_the_winner_until_every_part_is_past() {
    let get = Request::Get { key: KEY };
    let (a, b) = (held(HERE, T0, b"a"), held(THERE, T0 + 1, b"b"));
    let done = outcome(&a, HERE, T0 + 5, b"done");
    let policy = policy();
    answers(at(&Entry::default(), get, &policy, T0), Reply::Free);
    answers(at(&of(&[a], &[]), get, &policy, T0), Reply::Held { attempt: a, contested: false });
    answers(at(&of(&[a, b], &[]), get, &policy, LEASE_END), Reply::Held { attempt: a, contested: true });
    answers(at(&of(&[a, b], &[]), get, &policy, LEASE_END + 1), Reply::Held { attempt: a, contested: false });
    let settled = of(&[a], &[done]);
    answers(at(&settled, get, &policy, EXPIRY + DRIFT), Reply::Settled(done));
    answers(at(&settled, get, &policy, EXPIRY + DRIFT + 1), Reply::Free);
    let released = Attempt { phase: Phase::Released, ..a };
    answers(at(&of(&[released], &[]), get, &policy, T0), Reply::Free);
}

/// S4.6: FORGET voids the claims and outcomes of every region up to its stamp, and nothing after.
#[test]
fn forget_voids_every_claim_so_far() {
    let (a, b) = (held(HERE, T0, b"a"), held(THERE, T0 + 1, b"b"));
    let entry = of(&[a, b], &[outcome(&b, THERE, T0 + 5, b"done")]);
    let policy = policy();
    let forget = at(&entry, Request::Forget { key: KEY }, &policy, T0 + 9);
    let stamp = Stamp::from_parts(T0 + 9, 7);
    assert_eq!(forget.reply, Reply::Forgotten(stamp));
    let after = entry.join(&forget.delta.expect("it is written"));
    assert_eq!(after.forgotten, stamp);
    answers(at(&after, Request::Get { key: KEY }, &policy, T0 + 9), Reply::Free);
    let again = at(&after, Request::Claim(wants(b"c")), &policy, T0 + 10);
    let after = after.join(&again.delta.expect("granted"));
    assert!(matches!(after.winner(), Winner::Held(attempt) if attempt.claimant == b"c"));
}
