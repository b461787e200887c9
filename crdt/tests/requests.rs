//! What is refused before it becomes a decision: every bound of a request, exactly at the bound and one
//! beyond; policies and names.

use std::collections::BTreeMap;

use crdt::hash::ClusterKeys;
use crdt::hlc::{Clock, Stamp};
use crdt::ids::{ClaimId, Fingerprint, Incarnation, RegionId};
use crdt::limits;
use crdt::policy::{Durable, Level, Policies, Policy};
use crdt::request::{BadRequest, Claim, Request};
use crdt::token::Token;
use proptest::prelude::*;

const DRIFT: u64 = 500;

fn token() -> Token {
    let keys = ClusterKeys { hash: [1; 16], tag: [2; 16] };
    let id = ClaimId { stamp: Stamp::from_parts(9, 0), region: RegionId(1), incarnation: Incarnation(1) };
    Token::issue(&keys, b"k", id, None, 99)
}

#[track_caller]
fn claims(claim: Claim<'_>, expected: Result<(), BadRequest>) {
    assert_eq!(Request::Claim(claim).check(&Policy::default(), DRIFT), expected);
}

/// S1: a key has 1 to 512 bytes, whatever is asked of it.
#[test]
fn keys_have_their_bounds_in_every_request() {
    let long = [b'k'; limits::KEY_BYTES_MAX + 1];
    let token = token();
    for (key, expected) in [
        (&long[..0], Err(BadRequest::Key(0))),
        (&long[..1], Ok(())),
        (&long[1..], Ok(())),
        (&long[..], Err(BadRequest::Key(limits::KEY_BYTES_MAX + 1))),
    ] {
        for request in [
            Request::Claim(Claim { key, ..Claim::default() }),
            Request::Complete { key, token, outcome: b"", level: None, durable: false },
            Request::Renew { key, token, lease_ms: None, level: None, durable: false },
            Request::Release { key, token, level: None, durable: false },
            Request::Get { key },
            Request::Forget { key },
        ] {
            assert_eq!(request.check(&Policy::default(), DRIFT), expected);
            assert_eq!(request.key(), key);
        }
    }
}

#[test]
fn claims_have_bounds() {
    let claim = Claim { key: b"k", ..Claim::default() };
    let long = [b'x'; limits::NOTE_BYTES_MAX + 1];
    let claimant = &long[..limits::CLAIMANT_BYTES_MAX + 1];
    claims(Claim { claimant: &claimant[1..], ..claim }, Ok(()));
    claims(Claim { claimant, ..claim }, Err(BadRequest::Claimant(limits::CLAIMANT_BYTES_MAX + 1)));
    claims(Claim { note: &long[1..], ..claim }, Ok(()));
    claims(Claim { note: &long, ..claim }, Err(BadRequest::Note(limits::NOTE_BYTES_MAX + 1)));
    claims(Claim { wait_ms: limits::WAIT_MS_MAX, ..claim }, Ok(()));
    claims(
        Claim { wait_ms: limits::WAIT_MS_MAX + 1, ..claim },
        Err(BadRequest::Wait(limits::WAIT_MS_MAX + 1)),
    );
    claims(Claim { lease_ms: Some(0), ..claim }, Err(BadRequest::Lease));
    let brief = Claim { lease_ms: Some(1), ..claim };
    for (retention, accepted) in [
        (limits::RETENTION_MS_MIN - 1, false),
        (limits::RETENTION_MS_MIN + 2, true),
        (limits::RETENTION_MS_MAX, true),
        (limits::RETENTION_MS_MAX + 1, false),
    ] {
        let expected = if accepted { Ok(()) } else { Err(BadRequest::Retention(retention)) };
        claims(Claim { retention_ms: Some(retention), ..brief }, expected);
    }
}

/// S1: retention > lease + 2 x max_drift, whichever of the two is the namespace's.
#[test]
fn retention_exceeds_the_lease_by_more_than_twice_the_drift() {
    let claim = Claim { key: b"k", ..Claim::default() };
    let too_short = |retention, lease| Err(BadRequest::RetentionTooShort { retention, lease, margin: 1_000 });
    claims(Claim { lease_ms: Some(5_000), retention_ms: Some(6_001), ..claim }, Ok(()));
    claims(Claim { lease_ms: Some(5_000), retention_ms: Some(6_000), ..claim }, too_short(6_000, 5_000));
    claims(Claim { retention_ms: Some(31_000), ..claim }, too_short(31_000, 30_000));
    let day = 24 * 3600 * 1000;
    claims(Claim { lease_ms: Some(day), ..claim }, too_short(day, day));
    claims(Claim { lease_ms: Some(u64::MAX), ..claim }, too_short(day, u64::MAX));
}

/// S8: a larger outcome is refused with the limit named, never cut short.
#[test]
fn outcomes_have_the_bound_of_their_namespace() {
    let policy = Policy { max_outcome_bytes: 10, ..Policy::default() };
    let of = |outcome| Request::Complete { key: b"k", token: token(), outcome, level: None, durable: false };
    assert_eq!(of(&[0; 10]).check(&policy, DRIFT), Ok(()));
    let refused = of(&[0; 11]).check(&policy, DRIFT).expect_err("too long");
    assert_eq!(refused, BadRequest::Outcome { size: 11, limit: 10 });
    assert!(refused.to_string().contains("at most 10") && refused.to_string().contains("nothing was stored"));
    let renew = Request::Renew { key: b"k", token: token(), lease_ms: Some(0), level: None, durable: false };
    assert_eq!(renew.check(&policy, DRIFT), Err(BadRequest::Lease));
}

/// S8: a namespace's policy is that of its name; all others have the default.
#[test]
fn policies_go_by_namespace() {
    let strict = Policy { durable: Durable::Always, level: Level::Home, ..Policy::default() };
    let named = BTreeMap::from([(b"pay".to_vec(), strict.clone())]);
    let policies = Policies::new(Policy::default(), named);
    assert_eq!(policies.of_key(b"pay:1"), &strict);
    for other in [&b"pay"[..], b"payx:1", b"pa:1", b":pay", b""] {
        assert_eq!(policies.of_key(other), &Policy::default(), "{other:?}");
    }
    assert!(Level::Local < Level::Home && Level::Home < Level::Quorum);
    assert!(Durable::Interval < Durable::Always);
}

/// S6: FORGET is always synced, GET never waits for more than it saw.
#[test]
fn requests_say_their_durability() {
    for durable in [false, true] {
        let (key, token) = (&b"k"[..], token());
        assert_eq!(Request::Claim(Claim { key, durable, ..Claim::default() }).durable(), durable);
        assert_eq!(Request::Complete { key, token, outcome: b"", level: None, durable }.durable(), durable);
        assert_eq!(Request::Renew { key, token, lease_ms: None, level: None, durable }.durable(), durable);
        assert_eq!(Request::Release { key, token, level: None, durable }.durable(), durable);
    }
    assert!(Request::Forget { key: b"k" }.durable());
    assert!(!Request::Get { key: b"k" }.durable());
}

proptest! {
    /// INV-9, against the definition: above all before, not behind the wall, no further than it must.
    #[test]
    fn a_clock_is_the_least_that_keeps_its_promises(
        floor in 0u64..100,
        steps in prop::collection::vec((0u64..200, prop::option::of(0u64..200)), 1..60),
    ) {
        let clock = Clock::starting_after(Stamp::from_parts(floor, 7));
        let mut last = Stamp::from_parts(floor, 7);
        for (wall_ms, seen) in steps {
            if let Some(seen) = seen {
                clock.observe(Stamp::from_parts(seen, 3));
                last = last.max(Stamp::from_parts(seen, 3));
            }
            prop_assert_eq!(clock.now_ms(wall_ms), wall_ms.max(last.ms()));
            let expected = Stamp::from_parts(wall_ms, 0).max(last.next());
            prop_assert_eq!(clock.tick(wall_ms), expected);
            prop_assert_eq!(clock.last(), expected);
            last = expected;
        }
    }

    #[test]
    fn fingerprints_are_read_as_they_are_shown(bytes: [u8; 16], other in prop::collection::vec(any::<u8>(), 0..40)) {
        let shown = Fingerprint(bytes).to_string();
        prop_assert_eq!(Fingerprint::from_hex(shown.as_bytes()), Some(Fingerprint(bytes)));
        prop_assert_eq!(Fingerprint::from_hex(shown.to_uppercase().as_bytes()), Some(Fingerprint(bytes)));
        if let Some(read) = Fingerprint::from_hex(&other) {
            let shown = read.to_string();
            prop_assert_eq!(shown.as_bytes(), &other.to_ascii_lowercase()[..]);
        }
    }

    /// Whatever text comes as a token: read exactly or not at all, and never genuine by accident.
    #[test]
    fn arbitrary_tokens_are_not_genuine(text in "[0-9a-f]{106}") {
        let keys = ClusterKeys { hash: [1; 16], tag: [2; 16] };
        if let Some(token) = Token::from_text(text.as_bytes()) {
            prop_assert_eq!(&token.text()[..], text.as_bytes());
            prop_assert!(!token.verify(&keys, b"k"));
        }
    }
}
