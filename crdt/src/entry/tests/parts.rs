//! Parts of entries for tests: single ones by hand, and strategies in which everything collides.
//!
//! Two kinds of data: *honest*, where what a claim fixes is a function of its id, as in any cluster
//! whose regions never reuse an id; and *wild*, where it is not. The lattice laws must hold for both.

use proptest::prelude::*;

use super::super::*;

/// A Held attempt of `region` and `incarnation`, claimed at `ms` with a lease of 100 ms.
pub fn attempt(region: u16, incarnation: u32, ms: u64) -> Attempt<'static> {
    Attempt {
        id: id(region, incarnation, Stamp::from_parts(ms, 0)),
        phase: Phase::Held,
        lease_until: ms + 100,
        abandoned_lease: 0,
        fingerprint: None,
        claimant: b"",
        note: b"",
        expires_at: ms + 1_000,
    }
}

/// An outcome of `claim`, completed at `region` at `ms`.
pub fn outcome(claim: ClaimId, region: u16, ms: u64) -> Outcome<'static> {
    Outcome {
        claim,
        completed: Stamp::from_parts(ms, 0),
        region: RegionId(region),
        incarnation: Incarnation(1),
        majority: false,
        compensated: false,
        fingerprint: None,
        bytes: b"done",
        expires_at: claim.stamp.ms() + 1_000,
    }
}

fn id(region: u16, incarnation: u32, stamp: Stamp) -> ClaimId {
    ClaimId { stamp, region: RegionId(region), incarnation: Incarnation(incarnation) }
}

/// One write to an entry, as it would travel.
pub type Part = Entry<'static>;

const BYTES: [&[u8]; 4] = [b"", b"a", b"b", b"some longer bytes"];
pub const FIRST_MS: u64 = 1_000;
pub const LAST_MS: u64 = 1_060;

/// Expiry of an honest claim: never earlier than that of an older claim, because a claim expires no
/// earlier than any part it saw (S3), and within a region it saw all.
pub fn honest_expiry(ms: u64) -> u64 {
    (FIRST_MS..=ms).map(|m| m + 5 + 3 * (m % 7)).max().unwrap_or(ms)
}

fn stamps() -> impl Strategy<Value = Stamp> {
    (FIRST_MS..=LAST_MS, 0u16..2).prop_map(|(ms, counter)| Stamp::from_parts(ms, counter))
}

fn ids() -> impl Strategy<Value = ClaimId> {
    (1u16..4, 1u32..3, stamps()).prop_map(|(region, incarnation, stamp)| id(region, incarnation, stamp))
}

fn fingerprint(choice: u64) -> Option<Fingerprint> {
    [None, Some(Fingerprint([1; 16])), Some(Fingerprint([2; 16]))][choice as usize % 3]
}

/// Mixes an id into a number that chooses its fixed fields.
fn mixed(id: ClaimId) -> u64 {
    (id.stamp.bits() ^ u64::from(id.region.0) << 7 ^ u64::from(id.incarnation.0) << 11)
        .wrapping_mul(0x9e37_79b9)
        >> 3
}

/// An attempt whose fixed fields follow from its id.
pub fn honest_attempts() -> impl Strategy<Value = Part> {
    let phases = prop::sample::select(vec![Phase::Asked, Phase::Held, Phase::Held, Phase::Released]);
    (ids(), phases, 0u64..4, 0u64..5).prop_map(|(id, phase, lease, abandoned)| {
        let mixed = mixed(id);
        let lease_until = |step: u64| id.stamp.ms() + 2 + 2 * step;
        Entry::of_attempt(Attempt {
            id,
            phase,
            lease_until: lease_until(lease),
            abandoned_lease: if abandoned == 0 { 0 } else { lease_until(abandoned - 1) },
            fingerprint: fingerprint(mixed),
            claimant: BYTES[mixed as usize % 4],
            note: BYTES[mixed as usize / 4 % 4],
            expires_at: honest_expiry(id.stamp.ms()),
        })
    })
}

/// An outcome whose fixed fields follow from its slot.
pub fn honest_outcomes() -> impl Strategy<Value = Part> {
    (ids(), 1u16..4, 1u32..3, any::<(bool, bool)>()).prop_map(|(claim, region, incarnation, flags)| {
        let at = mixed(ClaimId { region: RegionId(region), incarnation: Incarnation(incarnation), ..claim });
        Entry::of_outcome(Outcome {
            claim,
            completed: Stamp::from_parts(claim.stamp.ms() + at % 9, claim.stamp.counter() + 2),
            region: RegionId(region),
            incarnation: Incarnation(incarnation),
            majority: flags.0 && at.is_multiple_of(5),
            compensated: flags.1,
            fingerprint: fingerprint(mixed(claim)),
            bytes: BYTES[at as usize % 4],
            expires_at: honest_expiry(claim.stamp.ms()),
        })
    })
}

fn forgets() -> impl Strategy<Value = Part> {
    stamps().prop_map(|forgotten| Entry { forgotten, ..Entry::default() })
}

/// Up to `most` honest writes.
pub fn honest(most: usize) -> impl Strategy<Value = Vec<Part>> {
    let part = prop_oneof![4 => honest_attempts(), 4 => honest_outcomes(), 1 => forgets()];
    prop::collection::vec(part, 0..=most)
}

/// Up to `most` writes that agree on nothing; few enough outcomes to stay below the bound.
pub fn wild(most: usize) -> impl Strategy<Value = Vec<Part>> {
    let fixed = (0u64..3, 0usize..4, 0usize..4, FIRST_MS..LAST_MS + 60);
    let attempts = (honest_attempts(), fixed.clone()).prop_map(|(part, (fp, claimant, note, expires_at))| {
        let attempt = part.attempts[0];
        let fixed = Attempt { fingerprint: fingerprint(fp), claimant: BYTES[claimant], ..attempt };
        // A claim that had expired before it was made would supersede itself.
        let expires_at = expires_at.max(attempt.id.stamp.ms() + 1);
        Entry::of_attempt(Attempt { note: BYTES[note], expires_at, ..fixed })
    });
    let outcomes =
        (honest_outcomes(), fixed, stamps()).prop_map(|(part, (fp, bytes, _, expires_at), completed)| {
            let outcome = Outcome { fingerprint: fingerprint(fp), bytes: BYTES[bytes], ..part.outcomes[0] };
            let expires_at = expires_at.max(outcome.claim.stamp.ms() + 1);
            Entry::of_outcome(Outcome { completed, expires_at, ..outcome })
        });
    prop::collection::vec(prop_oneof![5 => attempts, 3 => outcomes, 1 => forgets()], 0..=most)
}

/// Only outcomes, many more than the bound.
pub fn many_outcomes() -> impl Strategy<Value = Vec<Part>> {
    prop::collection::vec(honest_outcomes(), 0..16)
}

/// All of `parts`, joined one by one.
pub fn joined(parts: &[Part]) -> Entry<'static> {
    parts.iter().fold(Entry::default(), Entry::join)
}
