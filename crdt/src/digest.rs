//! What two regions compare to find what differs between them (S7): sums of keyed hashes of parts.
//!
//! ```text
//! part     an attempt, an outcome, a FORGET, a listed conflict: one keyed 128-bit hash each
//! bucket   by the part's own expiry, in steps of 1/16 to 1/32 of its lifetime: it dies whole, and what a
//!          partition kept apart lies in few buckets
//! cell     bucket x shard: the sum mod 2^128 of the hashes of its parts, kept with every change
//! ```
//! Parts of the last minute are summed up a second apart, so that regions can compare what is older than a
//! cut-off by its *stamp*, which is the same everywhere: what is under way between them is then no difference.
//!
//! A part's hash covers what names it and what may change in it; the rest was fixed when it was made. So a change
//! costs one hash of some 50 bytes, whatever the outcome's size.
//!
//! Rejected: XOR (whoever chooses keys can forge equal sums), a Merkle tree over keys (every write rehashes a
//! path), buckets by arrival (differ between regions), one sum an entry (a completion under way would make a
//! difference of the claim that has long arrived).
//!
//! Must never: depend on the order of writes, on this region's clock, or on how the map stores anything.

#[cfg(test)]
mod tests;

use siphasher::sip128::SipHasher13;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::canary::{self, Bug};
use crate::conflict::Conflict;
use crate::entry::{Attempt, Entry, Outcome};
use crate::hash::{ClusterKeys, KeyHash};
use crate::hlc::Stamp;
use crate::ids::{Incarnation, RegionId};
use crate::limits;

/// Which parts are summed up together: those whose expiry falls into one step, in steps of one width.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Bucket(pub u64);

/// Set in the buckets of listed conflicts, which live apart from entries.
const CONFLICTS: u64 = 1 << 63;
const WIDTH_SHIFT: u32 = 56;
const STEP_MASK: u64 = (1 << WIDTH_SHIFT) - 1;
/// Widths are at least 2^8 and at most 2^36 ms.
const WIDTH_BITS: std::ops::RangeInclusive<u32> = 8..=36;

impl Bucket {
    /// Of entries, none in particular.
    pub(crate) const ENTRIES: Self = Self(0);
    /// Of conflicts, none in particular.
    pub(crate) const CONFLICTS: Self = Self(CONFLICTS);

    /// Of a part that expires then and lives so long, in milliseconds.
    pub fn of(expires_at: u64, lifetime_ms: u64) -> Self {
        let magnitude = lifetime_ms.max(1).ilog2();
        let width = magnitude.saturating_sub(4).clamp(*WIDTH_BITS.start(), *WIDTH_BITS.end());
        Self(u64::from(width) << WIDTH_SHIFT | (expires_at >> width) & STEP_MASK)
    }

    /// Nothing in it expires before, Unix milliseconds.
    pub fn dies_from_ms(self) -> u64 {
        let width = (self.0 & !CONFLICTS) >> WIDTH_SHIFT;
        (self.0 & STEP_MASK).checked_shl(width as u32).unwrap_or(u64::MAX)
    }

    /// Whether it holds conflicts, and not parts of entries.
    pub fn is_conflicts(self) -> bool {
        self.0 & CONFLICTS != 0
    }
}

/// One part, as it is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Where it is summed up.
    pub bucket: Bucket,
    /// Its stamp's seconds.
    pub second: u64,
    bytes: [u8; PART_BYTES],
}

const PART_BYTES: usize = 48;
/// Kinds of parts, in the top byte of their second field.
const ATTEMPT: u64 = 1 << 56;
const OUTCOME: u64 = 2 << 56;
const FORGOTTEN: u64 = 3 << 56;

impl Part {
    fn new(stamp: Stamp, expires_at: u64, lifetime_ms: u64, fields: [u64; 6]) -> Self {
        let mut bytes = [0; PART_BYTES];
        let (words, _) = bytes.as_chunks_mut::<8>();
        words.iter_mut().zip(fields).for_each(|(word, field)| *word = field.to_le_bytes());
        Self { bucket: Bucket::of(expires_at, lifetime_ms), second: stamp.ms() / 1000, bytes }
    }

    fn of_attempt(attempt: &Attempt<'_>) -> Self {
        let id = attempt.id;
        let who = ATTEMPT | who(id.region, id.incarnation) << 8 | attempt.phase as u64;
        let fields =
            [id.stamp.bits(), who, attempt.lease_until, attempt.abandoned_lease, attempt.expires_at, 0];
        let lifetime_ms = attempt.expires_at.saturating_sub(id.stamp.ms());
        Self::new(id.stamp, attempt.expires_at, lifetime_ms, fields)
    }

    fn of_outcome(outcome: &Outcome<'_>) -> Self {
        let claim = outcome.claim;
        let flags = u64::from(outcome.majority) << 1 | u64::from(outcome.compensated);
        let fields = [
            claim.stamp.bits(),
            OUTCOME | who(claim.region, claim.incarnation) << 8 | flags,
            outcome.completed.bits(),
            who(outcome.region, outcome.incarnation),
            outcome.expires_at,
            outcome.bytes.len() as u64,
        ];
        let lifetime_ms = outcome.expires_at.saturating_sub(claim.stamp.ms());
        Self::new(outcome.completed, outcome.expires_at, lifetime_ms, fields)
    }

    fn of_forgotten(forgotten: Stamp) -> Self {
        let expires_at = forgotten.ms().saturating_add(limits::FORGOTTEN_KEPT_MS);
        let fields = [forgotten.bits(), FORGOTTEN, 0, 0, 0, 0];
        Self::new(forgotten, expires_at, limits::FORGOTTEN_KEPT_MS, fields)
    }

    /// All parts of an entry.
    pub fn all<'e>(entry: &'e Entry<'_>) -> impl Iterator<Item = Self> + 'e {
        let forgotten = (entry.forgotten != Stamp::ZERO).then(|| Self::of_forgotten(entry.forgotten));
        let attempts = entry.attempts.iter().map(Self::of_attempt);
        attempts.chain(entry.outcomes.iter().map(Self::of_outcome)).chain(forgotten)
    }
}

/// A region's life, in 48 bits.
fn who(region: RegionId, incarnation: Incarnation) -> u64 {
    u64::from(incarnation.0) << 16 | u64::from(region.0)
}

/// Those of `these` that are not in `others`.
fn without<'p, P>(
    these: &'p [P],
    others: &'p [P],
    same: impl Fn(&P, &P) -> bool + Copy + 'p,
) -> impl Iterator<Item = &'p P> {
    these.iter().filter(move |this| !others.iter().any(|other| same(this, other)))
}

/// Whether they make one part.
fn same_attempt(a: &Attempt<'_>, b: &Attempt<'_>) -> bool {
    let fields = |a: &Attempt<'_>| (a.id, a.phase, a.lease_until, a.abandoned_lease, a.expires_at);
    fields(a) == fields(b)
}

/// Whether they make one part.
fn same_outcome(a: &Outcome<'_>, b: &Outcome<'_>) -> bool {
    let flags = |o: &Outcome<'_>| (o.majority, o.compensated, o.region, o.incarnation);
    let fields = |o: &Outcome<'_>| (o.claim, o.completed, o.expires_at, o.bytes.len());
    flags(a) == flags(b) && fields(a) == fields(b)
}

/// Makes the hashes; keyed, so that nobody outside the cluster can choose parts whose sums are equal.
#[derive(Clone, Debug)]
pub struct Digester {
    keys: ClusterKeys,
}

impl Digester {
    /// With the cluster's keys.
    pub fn new(keys: &ClusterKeys) -> Self {
        // A key of its own: hashes of keys are known to whoever runs a peer.
        Self { keys: ClusterKeys { hash: keys.tag(&[b"onced digest"]), tag: keys.tag } }
    }

    /// The hash of one part of the entry of a key.
    pub fn part(&self, hash: KeyHash, part: &Part) -> u128 {
        let mut bytes = [0; PART_BYTES + 8];
        bytes[..PART_BYTES].copy_from_slice(&part.bytes);
        bytes[PART_BYTES..].copy_from_slice(&hash.low64().to_le_bytes());
        self.hash(&bytes)
    }

    /// Bucket, seconds and hash of a conflict.
    pub fn conflict(&self, conflict: &Conflict) -> (Bucket, u64, u128) {
        let completed_ms = conflict.loser.completed.ms();
        let bucket = Bucket::of(conflict.expires_at, conflict.expires_at.saturating_sub(completed_ms));
        let mut bytes = Vec::new();
        crate::journal::postcard_onto(conflict, &mut bytes);
        // Only where there is one: what has none is summed up as it always was.
        bytes.extend(Some(conflict.flags()).filter(|flags| *flags != 0));
        let second = conflict.newest_stamp().ms() / 1000;
        (Bucket(bucket.0 | CONFLICTS), second, self.hash(&bytes))
    }

    /// A sum as it is told to a peer in one exchange: another one in the next, so that two sums that look alike by
    /// chance do so once. Nothing is 0.
    pub fn told(&self, nonce: u64, sum: &Sum) -> u64 {
        if sum.is_empty() {
            return 0;
        }
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&nonce.to_le_bytes());
        bytes[8..].copy_from_slice(&sum.digest.to_le_bytes());
        (self.hash(&bytes) as u64).max(1)
    }

    fn hash(&self, bytes: &[u8]) -> u128 {
        let hash = SipHasher13::new_with_key(&self.keys.hash).hash(bytes);
        u128::from(hash.h1) << 64 | u128::from(hash.h2)
    }
}

/// A sum of hashes, and of how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum {
    /// Mod 2^128.
    pub digest: u128,
    /// Parts in it.
    pub parts: u64,
}

impl Sum {
    /// Adds one part's hash.
    pub fn add(&mut self, hash: u128) {
        self.digest = self.digest.wrapping_add(hash);
        self.parts = self.parts.wrapping_add(1);
    }

    /// Takes one part's hash out.
    pub fn remove(&mut self, hash: u128) {
        self.digest = self.digest.wrapping_sub(hash);
        self.parts = self.parts.wrapping_sub(1);
    }

    /// Adds another sum.
    pub fn join(&mut self, other: &Self) {
        self.digest = self.digest.wrapping_add(other.digest);
        self.parts = self.parts.wrapping_add(other.parts);
    }

    /// Of nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is compared: parts with stamps before a second, in buckets that do not die meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Horizon {
    /// Only parts stamped before this second, Unix time.
    pub before_s: u64,
    /// Only buckets in which nothing expires before, Unix milliseconds.
    pub alive_ms: u64,
}

impl Horizon {
    /// Nothing is left out.
    pub const EVERYTHING: Self = Self { before_s: u64::MAX, alive_ms: 0 };

    /// Whether `bucket` is compared.
    pub fn covers(&self, bucket: Bucket) -> bool {
        bucket.dies_from_ms() > self.alive_ms
    }

    /// Whether a part is.
    pub fn holds(&self, bucket: Bucket, second: u64) -> bool {
        second < self.before_s && self.covers(bucket)
    }
}

/// The cells of one shard.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    /// The newest second met.
    newest_s: u64,
    /// Cells of single seconds, of the last [`limits::DIGEST_YOUNG_S`].
    young: Vec<(u64, Bucket, Sum)>,
    settled: BTreeMap<Bucket, Sum>,
}

impl Cells {
    /// The entry of the key with this hash has changed.
    pub fn update(&mut self, digester: &Digester, hash: KeyHash, old: &Entry<'_>, new: &Entry<'_>) {
        // Parts are made of what has changed only: this is on the way of every operation, and a claim of a new key
        // needs no comparing.
        if let (true, [attempt], []) = (old.is_empty(), &new.attempts[..], &new.outcomes[..])
            && new.forgotten == Stamp::ZERO
        {
            let part = Part::of_attempt(attempt);
            return self.add(part.bucket, part.second, digester.part(hash, &part));
        }
        let attempts = (&old.attempts[..], &new.attempts[..]);
        let outcomes = (&old.outcomes[..], &new.outcomes[..]);
        let forgotten = |entry: &Entry<'_>| Some(entry.forgotten).filter(|stamp| *stamp != Stamp::ZERO);
        let (was, is) = (forgotten(old), forgotten(new));
        let mut gone = |part: Part| self.remove(part.bucket, part.second, digester.part(hash, &part));
        without(attempts.0, attempts.1, same_attempt).map(Part::of_attempt).for_each(&mut gone);
        without(outcomes.0, outcomes.1, same_outcome).map(Part::of_outcome).for_each(&mut gone);
        was.filter(|_| was != is).map(Part::of_forgotten).into_iter().for_each(&mut gone);
        let mut came = |part: Part| self.add(part.bucket, part.second, digester.part(hash, &part));
        without(attempts.1, attempts.0, same_attempt).map(Part::of_attempt).for_each(&mut came);
        without(outcomes.1, outcomes.0, same_outcome).map(Part::of_outcome).for_each(&mut came);
        is.filter(|_| was != is).map(Part::of_forgotten).into_iter().for_each(&mut came);
    }

    /// One part more.
    pub fn add(&mut self, bucket: Bucket, second: u64, hash: u128) {
        if second > self.newest_s {
            self.newest_s = second;
            self.settle();
        }
        if second < self.young_from() {
            return self.settled.entry(bucket).or_default().add(hash);
        }
        match self.young.iter_mut().rev().find(|(s, b, _)| (*s, *b) == (second, bucket)) {
            Some((.., sum)) => sum.add(hash),
            None => self.young.push((second, bucket, Sum { digest: hash, parts: 1 })),
        }
    }

    /// One part less.
    pub fn remove(&mut self, bucket: Bucket, second: u64, hash: u128) {
        if canary::planted(Bug::DigestKeepsTheDead) {
            return;
        }
        if second < self.young_from() {
            let sum = self.settled.entry(bucket).or_default();
            sum.remove(hash);
            if sum.is_empty() {
                self.settled.remove(&bucket);
            }
            return;
        }
        let at = self.young.iter().rposition(|(s, b, _)| (*s, *b) == (second, bucket));
        let at = at.unwrap_or_else(|| {
            self.young.push((second, bucket, Sum::default()));
            self.young.len() - 1
        });
        self.young[at].2.remove(hash);
        if self.young[at].2.is_empty() {
            self.young.remove(at);
        }
    }

    /// Sums of everything, by bucket.
    pub fn all(&self) -> BTreeMap<Bucket, Sum> {
        let mut sums = self.settled.clone();
        for (_, bucket, sum) in &self.young {
            sums.entry(*bucket).or_default().join(sum);
        }
        sums.retain(|_, sum| !sum.is_empty());
        sums
    }

    /// Calls `take` with the sums that `horizon` holds, in pieces. `false`: the cut-off is too long ago to tell.
    #[must_use]
    pub fn before(&self, horizon: &Horizon, mut take: impl FnMut(Bucket, &Sum)) -> bool {
        if horizon.before_s < self.young_from() {
            return false;
        }
        let settled = self.settled.iter().map(|(bucket, sum)| (*bucket, sum));
        let young = self.young.iter().filter(|(second, ..)| *second < horizon.before_s);
        let sums = settled.chain(young.map(|(_, bucket, sum)| (*bucket, sum)));
        sums.filter(|(bucket, _)| horizon.covers(*bucket)).for_each(|(bucket, sum)| take(bucket, sum));
        true
    }

    /// Bytes of its tables.
    pub fn bytes(&self) -> usize {
        self.young.capacity() * size_of::<(u64, Bucket, Sum)>()
            + self.settled.len() * size_of::<(Bucket, Sum)>() * 3 / 2
    }

    /// Seconds from here on are kept apart.
    fn young_from(&self) -> u64 {
        self.newest_s.saturating_sub(limits::DIGEST_YOUNG_S)
    }

    fn settle(&mut self) {
        let from = self.young_from();
        let settled = &mut self.settled;
        self.young.retain(|(second, bucket, sum)| {
            let young = *second >= from;
            if !young {
                settled.entry(*bucket).or_default().join(sum);
            }
            young
        });
    }
}
