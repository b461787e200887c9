//! Looks at many keys, or closely at one (S4.5 INSPECT and SCAN), and the digest of the whole state.
//!
//! A scan goes shard by shard, within a shard by the keyed hash: a key that is there from beginning
//! to end is met exactly once, whatever moves meanwhile.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use super::run::{key_of, pack, unpack};
use super::{Release, Store, lock};
use crate::entry::{Entry, Winner};
use crate::hash::KeyHash;
use crate::ids::RegionId;
use crate::limits;

/// One key met by a scan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scanned {
    /// The key.
    pub key: Vec<u8>,
    /// `settled`, `held` or `free`.
    pub state: &'static str,
    /// The winner's region.
    pub region: Option<RegionId>,
    /// When the last part may die, Unix milliseconds.
    pub expires_at: u64,
}

/// One page of SCAN.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScanPage {
    /// In no order that means anything.
    pub keys: Vec<Scanned>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<(usize, KeyHash)>,
}

/// A copy of one key's entry.
#[derive(Clone, Debug)]
pub struct Inspected {
    record: Vec<u8>,
    /// What must be reached before it may be shown.
    pub release: Release,
}

impl Inspected {
    /// Its bytes in the map, the key among them: the same again if nothing has changed.
    pub fn record(&self) -> &[u8] {
        &self.record
    }

    /// The entry.
    pub fn entry(&self) -> Entry<'_> {
        unpack(&self.record).1
    }
}

impl Store {
    /// A copy of everything known of `key`; `None` if that is nothing.
    pub fn inspect(&self, key: &[u8]) -> Option<Inspected> {
        let (record, release) = self.copy_record(key)?;
        let same = key_of(&record) == key;
        same.then_some(Inspected { record, release })
    }

    /// Up to `count` keys with `prefix` that are alive at `wall_ms`, from `from` on.
    pub fn scan(
        &self,
        from: Option<(usize, KeyHash)>,
        prefix: &[u8],
        count: usize,
        wall_ms: u64,
    ) -> (ScanPage, Release) {
        let count = count.clamp(1, limits::SCAN_COUNT_MAX);
        let now_ms = self.now_ms(wall_ms);
        let (first, after) = from.map_or((0, None), |(shard, hash)| (shard, Some(hash)));
        let (mut page, mut release) = (ScanPage::default(), Release::default());
        for shard in first..self.sides.len() {
            let side = lock(&self.sides[shard]);
            release.join(side.watch.seen);
            let mut met: Vec<(KeyHash, &[u8])> = side
                .arena
                .records()
                .map(|record| (self.config.keys.key_hash(key_of(record)), record))
                .collect();
            met.retain(|(hash, _)| shard != first || after.is_none_or(|after| *hash > after));
            met.sort_unstable_by_key(|(hash, _)| *hash);
            for (hash, record) in met {
                let (key, entry) = unpack(record);
                if key.starts_with(prefix) && !entry.is_past(now_ms, self.config.max_drift_ms) {
                    page.keys.push(scanned(key, &entry));
                }
                if page.keys.len() == count {
                    page.next = Some((shard, hash));
                    return (page, release);
                }
            }
        }
        (page, release)
    }

    /// Keys that two claimants hold with running leases (S4.8), up to `count`.
    pub fn contested(&self, count: usize, wall_ms: u64) -> Vec<Vec<u8>> {
        let now_ms = self.now_ms(wall_ms);
        let mut contested = Vec::new();
        for side in &self.sides {
            let side = lock(side);
            let found = side.arena.records().map(unpack).filter(|(_, entry)| entry.is_contested(now_ms));
            contested.extend(found.map(|(key, _)| key.to_vec()));
            if contested.len() >= count {
                break;
            }
        }
        contested.sort();
        contested.truncate(count);
        contested
    }

    /// Sum modulo 2^128 of a keyed hash of every living key's state, the dead taken out at `wall_ms`:
    /// equal in two regions exactly if they hold the same (INV-2). Walks the whole map.
    pub fn digest(&self, wall_ms: u64) -> u128 {
        let now_ms = self.now_ms(wall_ms);
        let mut sum = 0u128;
        let mut record = Vec::new();
        for side in &self.sides {
            for (key, mut entry) in lock(side).arena.records().map(unpack) {
                entry.drop_dead(now_ms, self.config.max_drift_ms);
                if entry.is_empty() {
                    continue;
                }
                pack(key, &entry, &mut record);
                let mut hasher = SipHasher13::new_with_key(&self.config.keys.hash);
                hasher.write(&record);
                let hash = hasher.finish128();
                sum = sum.wrapping_add(u128::from(hash.h1) << 64 | u128::from(hash.h2));
            }
        }
        sum
    }

    /// Calls `visit` with every key and its entry, shard by shard, the dead not taken out: for checks.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8], &Entry<'_>)) {
        for side in &self.sides {
            for (key, entry) in lock(side).arena.records().map(unpack) {
                visit(key, &entry);
            }
        }
    }
}

fn scanned(key: &[u8], entry: &Entry<'_>) -> Scanned {
    let (state, region) = match entry.winner() {
        Winner::Settled(outcome) => ("settled", Some(outcome.region)),
        Winner::Held(attempt) => ("held", Some(attempt.id.region)),
        Winner::Free => ("free", None),
    };
    Scanned { key: key.to_vec(), state, region, expires_at: entry.dies_at_ms() }
}
