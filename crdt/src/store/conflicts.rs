//! The list of double executions (S4.8): rare, ordered, joined, bounded.
//!
//! Under one lock: the losers, the sums over them (INV-13), the order in which they arrived for whoever compensates
//! them ([`feed`]), and how many there are by namespace ([`counts`]). A change is logged under the same lock: whoever has
//! looked at the list finds what it saw in the log, and waits for that (INV-8).

mod compensate;
mod counts;
mod feed;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::Entry as IndexEntry;

use super::run::unpack;
use super::{Store, lock};
use crate::conflict::{self, Conflict, ConflictId};
use crate::digest::{Cells, Digester};
use crate::entry::{Entry, Outcome};
use crate::ids::{self, Lsn};
use crate::journal::{Origin, Record};
use crate::limits;
use crate::policy::{Durable, Policy};

pub use compensate::Compensated;
pub use counts::ConflictCounts;
pub use feed::{Fed, FeedAsk, FeedPage, FeedPosition};

#[derive(Debug, Default)]
pub(super) struct Conflicts {
    pub(super) listed: Mutex<Listed>,
    /// Bytes of the listed ones, as booked under the lock.
    bytes: AtomicUsize,
}

/// The losers, and what changes with them.
#[derive(Debug, Default)]
pub(super) struct Listed {
    losers: BTreeMap<ConflictId, Kept>,
    /// The sums by shard of their keys (INV-13).
    pub(super) cells: BTreeMap<usize, Cells>,
    arrivals: feed::Arrivals,
    counts: counts::Counts,
}

/// One loser, and its place among the arrivals while nobody has dealt with it.
#[derive(Debug)]
struct Kept {
    conflict: Conflict,
    arrival: Option<u64>,
}

impl Listed {
    /// Every loser in the order of their ids, those that are not listed any more included.
    pub(super) fn all(&self) -> impl Iterator<Item = &Conflict> {
        self.losers.values().map(|kept| &kept.conflict)
    }

    fn get(&self, id: &ConflictId) -> Option<&Conflict> {
        self.losers.get(id).map(|kept| &kept.conflict)
    }

    /// Puts `conflict` in the place of what was known of its loser; true if somebody is to deal with it now.
    fn put(&mut self, shard: usize, digester: &Digester, conflict: Conflict) -> bool {
        let before = self.take(shard, digester, &conflict.id);
        let (bucket, second, hash) = digester.conflict(&conflict);
        self.cells.entry(shard).or_default().add(bucket, second, hash);
        self.counts.put(before.as_ref().map(|kept| &kept.conflict), &conflict);
        let arrival = before.and_then(|kept| kept.arrival);
        let wanted = !conflict.is_overtaken() && !conflict.compensated;
        let kept = self.arrivals.keep(&conflict.id, arrival, wanted);
        self.losers.insert(conflict.id.clone(), Kept { conflict, arrival: kept });
        kept.is_some() && arrival.is_none()
    }

    fn take(&mut self, shard: usize, digester: &Digester, id: &ConflictId) -> Option<Kept> {
        let kept = self.losers.remove(id)?;
        let (bucket, second, hash) = digester.conflict(&kept.conflict);
        self.cells.entry(shard).or_default().remove(bucket, second, hash);
        self.counts.taken(&kept.conflict);
        Some(kept)
    }
}

/// What one costs: its copies of the key with the allocator's headers, the one among the arrivals included, and its part of
/// trees whose nodes are two thirds full.
fn cost(conflict: &Conflict) -> usize {
    let arrival = size_of::<ConflictId>() + size_of::<u64>();
    3 * (conflict.id.key.len() + 16) + (size_of::<ConflictId>() + size_of::<Kept>() + arrival) * 3 / 2
}

/// One page of CONFLICTS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConflictPage {
    /// In the order of their ids.
    pub conflicts: Vec<Conflict>,
    /// Where the next page starts, if there is one.
    pub next: Option<ConflictId>,
}

impl Conflicts {
    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn get(&self, id: &ConflictId) -> Option<Conflict> {
        lock(&self.listed).get(id).cloned()
    }
}

impl Store {
    /// Joins what is known of one loser, and logs it under `log` if that changed anything: the record's number, 0 where
    /// it is not to be logged. The caller holds the key's shard.
    pub(super) fn join_conflict(&self, conflict: Conflict, log: Option<(Origin, Durable)>) -> Option<Lsn> {
        let shard = self.shard_of_key(&conflict.id.key);
        let mut listed = lock(&self.conflicts.listed);
        let joined = match listed.get(&conflict.id) {
            Some(before) => {
                let mut joined = before.clone();
                joined.join(&conflict);
                if joined == *before {
                    return None;
                }
                joined
            }
            None if listed.losers.len() >= limits::CONFLICTS_MAX => return None,
            None => {
                self.conflicts.bytes.fetch_add(cost(&conflict), Ordering::Relaxed);
                conflict
            }
        };
        let lsn = log.map(|(origin, durable)| {
            let (expires_at, mut body) = (joined.expires_at, Vec::new());
            Record::Conflict(origin, joined.clone()).encode(&mut body);
            let (kind, payload) = body.split_first().unwrap_or((&0, &[]));
            self.tail.append(*kind, payload, expires_at, durable)
        });
        if listed.put(shard, &self.digester, joined) {
            self.wake_feeds(&mut listed);
        }
        Some(lsn.unwrap_or(0))
    }

    /// As [`Store::join_conflict`], of what somebody else has derived: what this region knows of the loser is joined
    /// in. The caller holds no shard.
    pub(super) fn merge_conflict(
        &self,
        mut conflict: Conflict,
        log: Option<(Origin, Durable)>,
    ) -> Option<Lsn> {
        let hash = self.config.keys.key_hash(&conflict.id.key);
        // The place is held even where nothing is in it: a majority that comes to hold the loser meanwhile finds the
        // conflict listed, or is found here.
        let index = self.index.entry(hash);
        let side = self.side(hash);
        if let IndexEntry::Occupied(occupied) = &index {
            let (key, entry) = unpack(side.arena.get(*occupied.get()));
            let is_loser = |outcome: &Outcome<'_>| outcome.majority && is_of(outcome, &conflict);
            let held = key == conflict.id.key && entry.outcomes.iter().any(is_loser);
            conflict.loser.majority |= held;
        }
        self.join_conflict(conflict, log)
    }

    /// Lists, and logs unless the log is being read back, the losers of a union that were not listed yet, and tells those
    /// listed that a majority holds by now; the caller holds the shard.
    pub(super) fn list_losers(
        &self,
        key: &[u8],
        union: &Entry<'_>,
        policy: &Policy,
        logged: bool,
    ) -> Vec<ConflictId> {
        let log = logged.then_some((Origin::Own, Durable::Interval));
        let derived = conflict::losers(key, union, policy.conflict_retention_ms);
        let mut listed = Vec::new();
        for conflict in derived.into_iter().chain(self.overtaking(key, union)) {
            let id = conflict.id.clone();
            if self.join_conflict(conflict, log).is_some() {
                listed.push(id);
            }
        }
        listed
    }

    /// Losers of this key that are listed, and that a majority holds by now (S3.2).
    fn overtaking(&self, key: &[u8], union: &Entry<'_>) -> Vec<Conflict> {
        if self.conflicts.bytes() == 0 {
            return Vec::new();
        }
        let held = union.outcomes.iter().filter(|outcome| outcome.majority);
        let told = held.filter_map(|outcome| {
            let id = ConflictId { key: key.to_vec(), loser: outcome.claim, completed_at: outcome.region };
            let mut known = self.conflicts.get(&id)?;
            let news = !known.loser.majority && is_of(outcome, &known);
            known.loser.majority = true;
            news.then_some(known)
        });
        told.collect()
    }

    /// Losers after `after` in the order of their ids, of one namespace or of all (S4.8).
    pub fn conflicts(
        &self,
        namespace: Option<&[u8]>,
        after: Option<&ConflictId>,
        count: usize,
    ) -> ConflictPage {
        let count = count.clamp(1, limits::CONFLICTS_COUNT_MAX);
        let listed = lock(&self.conflicts.listed);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let wanted =
            |c: &&Conflict| !c.is_overtaken() && namespace.is_none_or(|ns| ids::namespace(&c.id.key) == ns);
        let range = listed.losers.range::<ConflictId, _>((from, Bound::Unbounded));
        let mut conflicts: Vec<Conflict> =
            range.map(|(_, kept)| &kept.conflict).filter(wanted).take(count + 1).cloned().collect();
        let more = conflicts.len() > count;
        conflicts.truncate(count);
        let next = if more { conflicts.last().map(|last| last.id.clone()) } else { None };
        ConflictPage { conflicts, next }
    }

    /// One loser, as it stands.
    pub(crate) fn conflict(&self, id: &ConflictId) -> Option<Conflict> {
        self.conflicts.get(id)
    }

    /// Calls `visit` with every loser, in the order of their ids, those that are not listed any more included.
    pub(crate) fn for_each_conflict(&self, visit: impl FnMut(&Conflict)) {
        lock(&self.conflicts.listed).all().for_each(visit);
    }

    /// How many losers are listed.
    pub fn conflict_count(&self) -> usize {
        lock(&self.conflicts.listed).counts.listed()
    }

    /// Takes out what is past its retention; returns how many.
    pub(super) fn sweep_conflicts(&self, now_ms: u64) -> usize {
        let mut listed = lock(&self.conflicts.listed);
        let lives =
            |conflict: &Conflict| now_ms <= conflict.expires_at.saturating_add(self.config.max_drift_ms);
        let dead: Vec<Conflict> = listed.all().filter(|c| !lives(c)).cloned().collect();
        for conflict in &dead {
            let kept = listed.take(self.shard_of_key(&conflict.id.key), &self.digester, &conflict.id);
            listed.arrivals.forget(kept.and_then(|kept| kept.arrival));
            self.conflicts.bytes.fetch_sub(cost(conflict), Ordering::Relaxed);
        }
        dead.len()
    }
}

/// Whether `outcome` is the execution that `conflict` is about.
fn is_of(outcome: &Outcome<'_>, conflict: &Conflict) -> bool {
    (outcome.claim, outcome.region, outcome.completed)
        == (conflict.id.loser, conflict.id.completed_at, conflict.loser.completed)
}
