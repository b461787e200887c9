//! How many losers there are, by namespace: of those that the configuration names, and of all others together, so
//! that whoever makes up namespaces makes no labels.

use std::collections::BTreeMap;

use super::Listed;
use crate::conflict::Conflict;
use crate::ids;
use crate::policy::Policies;
use crate::store::{Store, lock};

/// Of one namespace, or of all that have no table of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConflictCounts {
    /// Listed now.
    pub listed: usize,
    /// Of these, nobody has dealt with.
    pub uncompensated: usize,
    /// Listed since this start.
    pub detected: u64,
    /// Marked as dealt with since this start, here or elsewhere.
    pub compensated: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    named: BTreeMap<Vec<u8>, ConflictCounts>,
    others: ConflictCounts,
}

impl ConflictCounts {
    fn add(&mut self, conflict: &Conflict) {
        self.listed += usize::from(!conflict.is_overtaken());
        self.uncompensated += usize::from(is_open(conflict));
    }
}

fn is_open(conflict: &Conflict) -> bool {
    !conflict.is_overtaken() && !conflict.compensated
}

impl Counts {
    fn of(&mut self, conflict: &Conflict) -> &mut ConflictCounts {
        self.named.get_mut(ids::namespace(&conflict.id.key)).unwrap_or(&mut self.others)
    }

    pub(super) fn put(&mut self, before: Option<&Conflict>, now: &Conflict) {
        let counts = self.of(now);
        counts.add(now);
        let was_listed = before.is_some_and(|before| !before.is_overtaken());
        counts.detected += u64::from(!was_listed && !now.is_overtaken());
        let was_compensated = before.is_some_and(|before| before.compensated);
        counts.compensated += u64::from(!was_compensated && now.compensated);
    }

    pub(super) fn taken(&mut self, conflict: &Conflict) {
        let counts = self.of(conflict);
        counts.listed -= usize::from(!conflict.is_overtaken());
        counts.uncompensated -= usize::from(is_open(conflict));
    }

    pub(super) fn listed(&self) -> usize {
        self.named.values().map(|counts| counts.listed).sum::<usize>() + self.others.listed
    }

    /// What has been read back was there before.
    pub(super) fn begin(&mut self) {
        for counts in self.named.values_mut().chain([&mut self.others]) {
            (counts.detected, counts.compensated) = (0, 0);
        }
    }
}

impl Store {
    /// How many losers there are by namespace; `None`: in all namespaces without a table of their own.
    pub fn conflict_counts(&self) -> Vec<(Option<Vec<u8>>, ConflictCounts)> {
        let counts = &lock(&self.conflicts.listed).counts;
        let named = counts.named.iter().map(|(name, counts)| (Some(name.clone()), *counts));
        named.chain([(None, counts.others)]).collect()
    }

    /// Counts the namespaces of `policies` apart from now on.
    pub(in crate::store) fn count_conflicts_as(&self, policies: &Policies) {
        let mut listed = lock(&self.conflicts.listed);
        let Listed { losers, counts, .. } = &mut *listed;
        let emptied = |counts: ConflictCounts| ConflictCounts { listed: 0, uncompensated: 0, ..counts };
        let named = policies.names().map(|name| {
            let before = counts.named.get(name).copied().unwrap_or_default();
            (name.to_vec(), emptied(before))
        });
        *counts = Counts { named: named.collect(), others: emptied(counts.others) };
        losers.values().for_each(|kept| counts.of(&kept.conflict).add(&kept.conflict));
    }
}
