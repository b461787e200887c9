//! The list of double executions (S4.8): rare, ordered, joined, bounded.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Store, lock};
use crate::conflict::{Conflict, ConflictId};
use crate::digest::{Cells, Digester};
use crate::ids;
use crate::limits;

#[derive(Debug, Default)]
pub(super) struct Conflicts {
    pub(super) listed: Mutex<Listed>,
    /// Bytes of the listed ones, as booked under the lock.
    bytes: AtomicUsize,
}

/// The losers, and the sums over them by shard of their keys, which change together (INV-13).
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) losers: BTreeMap<ConflictId, Conflict>,
    pub(super) cells: BTreeMap<usize, Cells>,
}

impl Listed {
    fn count(&mut self, shard: usize, digester: &Digester, conflict: &Conflict) {
        let (bucket, second, hash) = digester.conflict(conflict);
        self.cells.entry(shard).or_default().add(bucket, second, hash);
    }

    fn uncount(&mut self, shard: usize, digester: &Digester, conflict: &Conflict) {
        let (bucket, second, hash) = digester.conflict(conflict);
        self.cells.entry(shard).or_default().remove(bucket, second, hash);
    }
}

/// What one costs: both of its copies of the key with the allocator's headers, and its part of a tree whose
/// nodes are two thirds full.
fn cost(conflict: &Conflict) -> usize {
    2 * (conflict.id.key.len() + 16) + (size_of::<ConflictId>() + size_of::<Conflict>()) * 3 / 2
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
    /// Joins `conflict` in; the joined one if that changed anything and is to be logged.
    pub(super) fn join(&self, conflict: Conflict, shard: usize, digester: &Digester) -> Option<Conflict> {
        let mut listed = lock(&self.listed);
        let joined = match listed.losers.get(&conflict.id) {
            Some(known) => {
                let before = known.clone();
                let mut joined = before.clone();
                joined.join(&conflict);
                if joined == before {
                    return None;
                }
                listed.uncount(shard, digester, &before);
                joined
            }
            None if listed.losers.len() >= limits::CONFLICTS_MAX => return None,
            None => {
                self.bytes.fetch_add(cost(&conflict), Ordering::Relaxed);
                conflict
            }
        };
        listed.count(shard, digester, &joined);
        listed.losers.insert(joined.id.clone(), joined.clone());
        Some(joined)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn get(&self, id: &ConflictId) -> Option<Conflict> {
        lock(&self.listed).losers.get(id).cloned()
    }
}

impl Store {
    /// Joins what is known of one loser; the joined one if that changed anything and is to be logged.
    pub(super) fn join_conflict(&self, conflict: Conflict) -> Option<Conflict> {
        let shard = self.shard_of_key(&conflict.id.key);
        self.conflicts.join(conflict, shard, &self.digester)
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
        let wanted = |c: &&Conflict| namespace.is_none_or(|ns| ids::namespace(&c.id.key) == ns);
        let range = listed.losers.range::<ConflictId, _>((from, Bound::Unbounded));
        let mut conflicts: Vec<Conflict> =
            range.map(|(_, conflict)| conflict).filter(wanted).take(count + 1).cloned().collect();
        let more = conflicts.len() > count;
        conflicts.truncate(count);
        let next = if more { conflicts.last().map(|last| last.id.clone()) } else { None };
        ConflictPage { conflicts, next }
    }

    /// One loser, as it stands.
    pub(crate) fn conflict(&self, id: &ConflictId) -> Option<Conflict> {
        self.conflicts.get(id)
    }

    /// Calls `visit` with every loser, in the order of their ids.
    pub(crate) fn for_each_conflict(&self, visit: impl FnMut(&Conflict)) {
        lock(&self.conflicts.listed).losers.values().for_each(visit);
    }

    /// How many losers are listed.
    pub fn conflict_count(&self) -> usize {
        lock(&self.conflicts.listed).losers.len()
    }

    /// Takes out what is past its retention; returns how many.
    pub(super) fn sweep_conflicts(&self, now_ms: u64) -> usize {
        let mut listed = lock(&self.conflicts.listed);
        let lives =
            |conflict: &Conflict| now_ms <= conflict.expires_at.saturating_add(self.config.max_drift_ms);
        let dead: Vec<Conflict> = listed.losers.values().filter(|c| !lives(c)).cloned().collect();
        for conflict in &dead {
            listed.uncount(self.shard_of_key(&conflict.id.key), &self.digester, conflict);
            listed.losers.remove(&conflict.id);
            self.conflicts.bytes.fetch_sub(cost(conflict), Ordering::Relaxed);
        }
        dead.len()
    }
}
