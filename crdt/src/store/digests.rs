//! The sums over what the map holds, for comparing with a peer (S7), and what lies behind them.
//!
//! Sums by bucket and shard are kept with every change ([`crate::digest`]). Finer ones are made by walking one
//! shard when a peer's differ: rare, bounded, and nothing has to be stored for it.

use std::collections::{BTreeMap, BTreeSet};

use super::run::unpack;
use super::{Release, Store, lock};
use crate::canary::{self, Bug};
use crate::conflict::{Conflict, ConflictId};
use crate::digest::{Bucket, Cells, Horizon, Part, Sum};
use crate::entry::Entry;
use crate::hash::KeyHash;
use crate::hlc::Stamp;
use crate::journal::{self, Origin, Record};
use crate::store::state::for_each_part;
use crate::wire::push_body;

/// One key's parts in one bucket, or one conflict, as a comparison sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    /// Where.
    pub bucket: Bucket,
    /// Bits of its hash below those that chose the shard, from the top.
    pub place: u64,
    /// Names it within its shard and bucket; two may have the same by chance.
    pub id: u32,
    /// Of its parts within the horizon.
    pub sum: Sum,
    /// Which key.
    pub hash: KeyHash,
}

/// Names of items, as a peer wants them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Named {
    pub(crate) entries: BTreeSet<u32>,
    pub(crate) conflicts: BTreeSet<u32>,
}

/// The sums of a shard are not those of what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// Which shard.
    pub shard: usize,
    /// The first bucket that is wrong.
    pub bucket: Bucket,
    /// What is kept.
    pub kept: Sum,
    /// What a walk over the shard finds.
    pub found: Sum,
}

impl Store {
    /// The sums by bucket over all shards; `None` when the horizon lies too far back to tell.
    pub(crate) fn bucket_sums(&self, horizon: &Horizon) -> Option<BTreeMap<Bucket, Sum>> {
        let mut sums: BTreeMap<Bucket, Sum> = BTreeMap::new();
        let complete = self.for_each_cells(|_, cells| {
            cells.before(horizon, |bucket, sum| sums.entry(bucket).or_default().join(sum))
        });
        sums.retain(|_, sum| !sum.is_empty());
        complete.then_some(sums)
    }

    /// The sums of one bucket, by shard.
    pub(crate) fn shard_sums(&self, bucket: Bucket, horizon: &Horizon) -> Option<Vec<Sum>> {
        let mut sums = vec![Sum::default(); self.sides.len()];
        let complete = self.for_each_cells(|shard, cells| {
            cells.before(horizon, |found, sum| {
                if found == bucket {
                    sums[shard].join(sum);
                }
            })
        });
        complete.then_some(sums)
    }

    fn for_each_cells(&self, mut take: impl FnMut(usize, &Cells) -> bool) -> bool {
        let mut complete = true;
        for (shard, side) in self.sides.iter().enumerate() {
            complete &= take(shard, &lock(side).watch.cells);
        }
        for (shard, cells) in &lock(&self.conflicts.listed).cells {
            complete &= take(*shard, cells);
        }
        complete
    }

    /// What one shard holds of some buckets, or of all, within the horizon, by walking it; in the order of bucket and
    /// place.
    pub(crate) fn items(&self, shard: usize, buckets: Option<&[Bucket]>, horizon: &Horizon) -> Vec<Item> {
        let mut items = Vec::new();
        let is_asked = |bucket| buckets.is_none_or(|buckets| buckets.contains(&bucket));
        let wanted = |bucket: Bucket, second| is_asked(bucket) && horizon.holds(bucket, second);
        if buckets.is_none_or(|buckets| buckets.iter().any(|bucket| !bucket.is_conflicts())) {
            for (key, entry) in lock(&self.sides[shard]).arena.records().map(unpack) {
                let mut parts = Part::all(&entry).filter(|part| wanted(part.bucket, part.second)).peekable();
                if parts.peek().is_none() {
                    continue;
                }
                let hash = self.config.keys.key_hash(key);
                let first = items.len();
                for part in parts {
                    let at = items[first..].iter().position(|item: &Item| item.bucket == part.bucket);
                    let at = at.map(|at| first + at).unwrap_or_else(|| {
                        items.push(self.item(part.bucket, hash, hash.0[2]));
                        items.len() - 1
                    });
                    items[at].sum.add(self.digester.part(hash, &part));
                }
            }
        }
        if buckets.is_none_or(|buckets| buckets.iter().any(|bucket| bucket.is_conflicts())) {
            self.for_each_conflict_of(shard, |conflict| {
                let (bucket, second, digest) = self.digester.conflict(conflict);
                if wanted(bucket, second) {
                    let hash = self.config.keys.key_hash(&conflict.id.key);
                    let mut item = self.item(bucket, hash, self.conflict_id(&conflict.id));
                    item.sum.add(digest);
                    items.push(item);
                }
            });
        }
        items.sort_unstable_by_key(|item| (item.bucket, item.place, item.id));
        items
    }

    /// What bears one of these names in one shard, whichever buckets its parts are in by now: entries, and conflicts.
    pub(crate) fn named_items(&self, shard: usize, ids: &Named) -> Vec<Item> {
        let mut items = Vec::new();
        if !ids.entries.is_empty() {
            for (key, _) in lock(&self.sides[shard]).arena.records().map(unpack) {
                let hash = self.config.keys.key_hash(key);
                if ids.entries.contains(&hash.0[2]) {
                    items.push(self.item(Bucket::ENTRIES, hash, hash.0[2]));
                }
            }
        }
        if !ids.conflicts.is_empty() {
            self.for_each_conflict_of(shard, |conflict| {
                let id = self.conflict_id(&conflict.id);
                if ids.conflicts.contains(&id) {
                    items.push(self.item(Bucket::CONFLICTS, self.config.keys.key_hash(&conflict.id.key), id));
                }
            });
        }
        items
    }

    fn item(&self, bucket: Bucket, hash: KeyHash, id: u32) -> Item {
        let place = hash.low64() << (7 + self.sides.len().trailing_zeros());
        Item { bucket, place, id, sum: Sum::default(), hash }
    }

    /// Names a conflict among those of its shard.
    fn conflict_id(&self, id: &ConflictId) -> u32 {
        let mut bytes = Vec::new();
        journal::postcard_onto(id, &mut bytes);
        self.config.keys.key_hash(&bytes).0[2]
    }

    fn for_each_conflict_of(&self, shard: usize, mut take: impl FnMut(&Conflict)) {
        let listed = lock(&self.conflicts.listed);
        if listed.cells.contains_key(&shard) {
            let of_shard = |conflict: &&Conflict| self.shard_of_key(&conflict.id.key) == shard;
            listed.all().filter(of_shard).for_each(&mut take);
        }
    }

    /// Appends the bodies of the entry that `item` is a part of, as a peer merges them, and says what must be reached
    /// before they may leave (INV-8).
    pub(crate) fn item_bodies(&self, item: &Item, bodies: &mut Vec<u8>) -> Release {
        let Some(slot) = self.index.get(&item.hash) else { return Release::default() };
        let side = self.side(item.hash);
        let mut body = Vec::new();
        if canary::planted(Bug::RelaysNothing) {
            let (_, entry) = unpack(side.arena.get(*slot));
            if entry.newest_stamp_of(self.config.region) == Stamp::ZERO {
                return Release::default();
            }
        }
        for_each_part(side.arena.get(*slot), |part| {
            body.clear();
            body.push(journal::entry_kind(Origin::Merged));
            body.extend_from_slice(part);
            push_body(&body, bodies);
        });
        side.watch.seen
    }

    /// As [`Store::item_bodies`], of the conflicts of one shard that `items` stand for: in one walk over all there are.
    pub(crate) fn conflict_bodies(&self, shard: usize, items: &[Item], bodies: &mut Vec<u8>) -> Release {
        let wanted: BTreeSet<u32> = items.iter().map(|item| item.id).collect();
        self.for_each_conflict_of(shard, |conflict| {
            if wanted.contains(&self.conflict_id(&conflict.id)) {
                let mut body = Vec::new();
                Record::Conflict(Origin::Merged, conflict.clone()).encode(&mut body);
                push_body(&body, bodies);
            }
        });
        Release { written: self.tail.appended(), synced: 0 }
    }

    /// Compares the sums of one shard with those that a walk over it finds (INV-13): how many parts it holds.
    ///
    /// # Errors
    /// The first bucket that is wrong, which is a bug in onced or broken memory.
    pub fn verify_digests(&self, shard: usize) -> Result<u64, Mismatch> {
        let mut found: BTreeMap<Bucket, Sum> = BTreeMap::new();
        let side = lock(&self.sides[shard]);
        for (key, entry) in side.arena.records().map(unpack) {
            self.sum_up(key, &entry, &mut found);
        }
        let kept = side.watch.cells.all();
        drop(side);
        let parts = compare(shard, &kept, &found)?;
        let listed = lock(&self.conflicts.listed);
        let Some(cells) = listed.cells.get(&shard) else { return Ok(parts) };
        let mut found: BTreeMap<Bucket, Sum> = BTreeMap::new();
        for conflict in listed.all().filter(|c| self.shard_of_key(&c.id.key) == shard) {
            let (bucket, _, digest) = self.digester.conflict(conflict);
            found.entry(bucket).or_default().add(digest);
        }
        Ok(parts + compare(shard, &cells.all(), &found)?)
    }

    fn sum_up(&self, key: &[u8], entry: &Entry<'_>, sums: &mut BTreeMap<Bucket, Sum>) {
        let hash = self.config.keys.key_hash(key);
        for part in Part::all(entry) {
            sums.entry(part.bucket).or_default().add(self.digester.part(hash, &part));
        }
    }

    /// A sum as it is told to a peer in the exchange with this nonce.
    pub(crate) fn told(&self, nonce: u64, sum: &Sum) -> u64 {
        self.digester.told(nonce, sum)
    }
}

fn compare(
    shard: usize,
    kept: &BTreeMap<Bucket, Sum>,
    found: &BTreeMap<Bucket, Sum>,
) -> Result<u64, Mismatch> {
    for bucket in kept.keys().chain(found.keys()) {
        let of = |sums: &BTreeMap<Bucket, Sum>| sums.get(bucket).copied().unwrap_or_default();
        let (kept, found) = (of(kept), of(found));
        if kept != found {
            return Err(Mismatch { shard, bucket: *bucket, kept, found });
        }
    }
    Ok(found.values().map(|sum| sum.parts).sum())
}
