//! The lattice (INV-1), the winner and the expiry of S3, held against a model written from the page.
//!
//! [`parts`] makes entries whose slots, ids and stamps collide all the time, [`model`] reads them the
//! slow way, [`laws`] asks for everything S3 promises of *any* entries, [`packing`] for the bytes.
//! Examples of S3's sentences stand here, one a sentence.
//!
//! Must never: use the code under test to say what the answer should be.

mod laws;
mod model;
mod packing;
mod parts;

use super::*;
use parts::{attempt, outcome};

fn entry<'a>(attempts: &[Attempt<'a>], outcomes: &[Outcome<'a>]) -> Entry<'a> {
    let with = attempts.iter().fold(Entry::default(), |entry, a| entry.join(&Entry::of_attempt(*a)));
    outcomes.iter().fold(with, |entry, o| entry.join(&Entry::of_outcome(*o)))
}

fn forgotten<'a>(at: u64) -> Entry<'a> {
    Entry { forgotten: Stamp::from_parts(at, 0), ..Entry::default() }
}

/// S3.3: first write wins; ties break by region, then incarnation.
#[test]
fn the_smallest_claim_id_holds() {
    let early = Attempt {
        id: ClaimId { stamp: Stamp::from_parts(10, 0), ..attempt(9, 1, 0).id },
        ..attempt(9, 1, 0)
    };
    for (first, second) in [
        (attempt(1, 1, 5), attempt(2, 1, 6)),
        (attempt(2, 1, 5), attempt(1, 1, 6)),
        (attempt(1, 2, 5), attempt(2, 1, 5)),
        (attempt(1, 1, 5), attempt(1, 2, 5)),
        (attempt(1, 9, 5), early),
    ] {
        let both = entry(&[second, first], &[]);
        assert_eq!(both.winner(), Winner::Held(&first), "{first:?} before {second:?}");
    }
}

/// S3.2: an outcome that was served must not be displaced by a slower operation that started earlier.
#[test]
fn the_earliest_completion_settles_whoever_claimed_first() {
    let (slow, fast) = (outcome(attempt(1, 1, 5).id, 1, 30), outcome(attempt(2, 1, 9).id, 2, 20));
    let both = entry(&[attempt(1, 1, 5)], &[slow, fast]);
    assert_eq!(both.winner(), Winner::Settled(&fast));
    let level = outcome(attempt(2, 1, 9).id, 3, 20);
    assert_eq!(entry(&[], &[level, fast]).winner(), Winner::Settled(&fast), "then the smaller region");
    let majority = Outcome { majority: true, ..slow };
    assert_eq!(entry(&[], &[fast, majority]).winner(), Winner::Settled(&majority), "a majority first");
}

/// S3: Asked attempts block grants but hold nothing; Released and Abandoned ones neither.
#[test]
fn only_held_attempts_hold() {
    let held = attempt(1, 1, 5);
    let abandoned = Attempt { abandoned_lease: held.lease_until, ..held };
    for (attempt, holds, blocks) in [
        (held, true, true),
        (Attempt { phase: Phase::Asked, ..held }, false, true),
        (Attempt { phase: Phase::Released, ..held }, false, false),
        (abandoned, false, false),
        (Attempt { phase: Phase::Asked, ..abandoned }, false, true),
    ] {
        let entry = entry(&[attempt], &[]);
        assert_eq!(entry.winner() != Winner::Free, holds, "{attempt:?}");
        assert_eq!(entry.blocking_attempts().count() == 1, blocks, "{attempt:?}");
    }
}

/// S3: a renewal that the takeover had not seen revives the attempt, and the key is contested.
#[test]
fn a_renewal_revives_an_abandoned_attempt() {
    let seen = attempt(1, 1, 5);
    let taken_over = Attempt { abandoned_lease: seen.lease_until, ..seen };
    let successor = attempt(2, 1, 200);
    let after = entry(&[taken_over, successor], &[]);
    assert_eq!(after.winner(), Winner::Held(&successor));
    let renewed = Attempt { lease_until: seen.lease_until + 1, ..seen };
    let revived = after.clone().join(&Entry::of_attempt(renewed));
    let expected = Attempt { abandoned_lease: seen.lease_until, ..renewed };
    assert_eq!(revived.winner(), Winner::Held(&expected));
    assert!(revived.is_contested(renewed.lease_until), "both leases run");
    assert!(!revived.is_contested(renewed.lease_until + 1), "the renewed lease is over");
    assert!(!after.is_contested(seen.lease_until), "an abandoned attempt contests nothing");
}

/// S4.8: contested are two Held attempts of *different* claimants; absent claimants equal nobody.
#[test]
fn one_claimant_twice_is_no_contest() {
    let of = |region, claimant: &'static [u8]| Attempt { claimant, ..attempt(region, 1, u64::from(region)) };
    for (claimants, contested) in [
        ([&b"a"[..], b"b"], true),
        ([b"a", b"a"], false),
        ([b"", b""], true),
        ([b"", b"a"], true),
        ([b"a", b""], true),
    ] {
        let entry = entry(&[of(1, claimants[0]), of(2, claimants[1])], &[]);
        assert_eq!(entry.is_contested(20), contested, "{claimants:?}");
    }
}

/// S3.1: void is what was claimed up to `forgotten`, the stamp itself included.
#[test]
fn a_forget_voids_what_was_claimed_up_to_its_stamp() {
    let (old, new) = (attempt(1, 1, 5), attempt(2, 1, 6));
    let settled = outcome(old.id, 1, 50);
    let before = entry(&[old, new], &[settled]);
    assert_eq!(before.clone().join(&forgotten(4)).winner(), Winner::Settled(&settled));
    assert_eq!(before.clone().join(&forgotten(5)).winner(), Winner::Held(&new));
    assert_eq!(before.join(&forgotten(6)).winner(), Winner::Free);
}

/// S3.1: superseded is what expires no later than a known claim's milliseconds.
#[test]
fn a_later_claim_supersedes_what_had_expired_before_it() {
    let old = Outcome { expires_at: 100, ..outcome(attempt(1, 1, 5).id, 1, 6) };
    let claimed_at = |ms| entry(&[attempt(2, 1, ms)], &[old]);
    assert_eq!(claimed_at(99).winner(), Winner::Settled(&old), "still alive when the other was claimed");
    assert_eq!(claimed_at(100).winner(), Winner::Held(&attempt(2, 1, 100)));
    let by_outcome = outcome(attempt(2, 1, 100).id, 2, 101);
    assert_eq!(
        entry(&[], &[old, by_outcome]).winner(),
        Winner::Settled(&by_outcome),
        "known from an outcome"
    );
}

/// S3 Expiry: past `expires_at` by *more than* `max_drift`, and an entry dies whole.
#[test]
fn an_entry_dies_whole_and_after_the_drift_bound() {
    let young = Attempt { expires_at: 300, ..attempt(2, 1, 90) };
    let old = Outcome { expires_at: 100, ..outcome(attempt(1, 1, 5).id, 1, 6) };
    let dropped = |entry: &Entry<'static>, now| {
        let mut entry = entry.clone();
        entry.drop_dead(now, 10);
        entry
    };
    let alone = entry(&[], &[old]);
    assert_eq!(dropped(&alone, 110), alone, "exactly max_drift past is not dead");
    assert!(dropped(&alone, 111).is_empty());
    let together = entry(&[young], &[old]);
    assert_eq!(dropped(&together, 310), together, "a living part keeps a past one: it still counts");
    assert_eq!(together.winner(), Winner::Settled(&old));
    assert!(dropped(&together, 311).is_empty());
    assert_eq!((together.dies_at_ms(), alone.dies_at_ms()), (300, 100));
    let superseded = entry(&[attempt(2, 1, 100)], &[old]);
    assert_eq!(dropped(&superseded, 110), superseded);
    assert_eq!(dropped(&superseded, 111), entry(&[attempt(2, 1, 100)], &[]), "past and superseded");
    let void = together.join(&forgotten(5));
    assert_eq!(dropped(&void, 111).outcomes.len(), 0, "past and void");
    assert_eq!(dropped(&void, 111).attempts.len(), 1);
}

/// S3: `forgotten` is kept for its milliseconds + 90 d + max_drift.
#[test]
fn a_forget_is_remembered_for_ninety_days() {
    let kept_to = 7 + limits::FORGOTTEN_KEPT_MS + 10;
    let mut entry = forgotten(7);
    assert!(entry.is_past(0, 10), "for a claim the key is free");
    entry.drop_dead(kept_to, 10);
    assert_eq!(entry, forgotten(7));
    assert_eq!(entry.dies_at_ms(), kept_to - 10);
    entry.drop_dead(kept_to + 1, 10);
    assert!(entry.is_empty());
}

/// Outcomes that can never count again are not kept: they would crowd out those that do.
#[test]
fn void_and_superseded_outcomes_are_not_kept() {
    let (old, new) = (outcome(attempt(1, 1, 5).id, 1, 6), outcome(attempt(2, 1, 8).id, 2, 9));
    let both = entry(&[], &[old, new]);
    assert_eq!(both.clone().join(&forgotten(5)).outcomes[..], [new]);
    let superseding = attempt(3, 1, old.expires_at);
    assert_eq!(both.clone().join(&Entry::of_attempt(superseding)).outcomes[..], [new]);
    let union = both.union(&forgotten(5));
    assert_eq!(union.outcomes[..], [old, new], "losers are derived from what met");
}

/// The bound on joined outcomes keeps the earliest completions, and so the winner.
#[test]
fn the_bound_on_joined_outcomes_keeps_the_earliest() {
    const MOST: u16 = limits::OUTCOMES_JOINED_MAX as u16;
    let all: Vec<_> =
        (1..=MOST + 3).map(|n| outcome(attempt(n, 1, u64::from(n)).id, n, 500 - u64::from(n))).collect();
    let full = entry(&[], &all);
    assert_eq!(full.outcomes[..], all[3..]);
    assert_eq!(full.winner(), Winner::Settled(&all[usize::from(MOST) + 2]));
}

/// S2: what is checked against the wall clock and then observed covers every stamp in an entry.
#[test]
fn the_newest_stamp_is_found_wherever_it_stands() {
    let base = entry(&[attempt(1, 1, 5)], &[outcome(attempt(1, 1, 4).id, 2, 6)]);
    assert_eq!(base.newest_stamp(), Stamp::from_parts(6, 0));
    assert_eq!(base.newest_stamp_of(RegionId(1)), Stamp::from_parts(5, 0));
    assert_eq!(base.newest_stamp_of(RegionId(2)), Stamp::from_parts(6, 0));
    assert_eq!(base.newest_stamp_of(RegionId(3)), Stamp::ZERO);
    assert_eq!(base.clone().join(&forgotten(9)).newest_stamp(), Stamp::from_parts(9, 0));
    let claimed_last = base.join(&Entry::of_attempt(attempt(3, 1, 20)));
    assert_eq!(claimed_last.newest_stamp(), Stamp::from_parts(20, 0));
}
