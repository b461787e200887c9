//! The list of double executions (S4.8): rare, ordered, joined, bounded.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Store, lock};
use crate::conflict::{Conflict, ConflictId};
use crate::ids;
use crate::limits;

#[derive(Debug, Default)]
pub(super) struct Conflicts {
    pub(super) listed: Mutex<BTreeMap<ConflictId, Conflict>>,
    /// Bytes of the listed ones, as booked under the lock.
    bytes: AtomicUsize,
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
    pub(super) fn join(&self, conflict: Conflict) -> Option<Conflict> {
        let mut listed = lock(&self.listed);
        if let Some(known) = listed.get_mut(&conflict.id) {
            let before = known.clone();
            known.join(&conflict);
            return (*known != before).then(|| known.clone());
        }
        if listed.len() >= limits::CONFLICTS_MAX {
            return None;
        }
        self.bytes.fetch_add(cost(&conflict), Ordering::Relaxed);
        listed.insert(conflict.id.clone(), conflict.clone());
        Some(conflict)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn get(&self, id: &ConflictId) -> Option<Conflict> {
        lock(&self.listed).get(id).cloned()
    }
}

impl Store {
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
        let range = listed.range::<ConflictId, _>((from, Bound::Unbounded));
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
        lock(&self.conflicts.listed).values().for_each(visit);
    }

    /// How many losers are listed.
    pub fn conflict_count(&self) -> usize {
        lock(&self.conflicts.listed).len()
    }

    /// Takes out what is past its retention; returns how many.
    pub(super) fn sweep_conflicts(&self, now_ms: u64) -> usize {
        let mut listed = lock(&self.conflicts.listed);
        let before = listed.len();
        let drift = self.config.max_drift_ms;
        let mut freed = 0;
        listed.retain(|_, conflict| {
            let lives = now_ms <= conflict.expires_at.saturating_add(drift);
            freed += if lives { 0 } else { cost(conflict) };
            lives
        });
        self.conflicts.bytes.fetch_sub(freed, Ordering::Relaxed);
        before - listed.len()
    }
}
