//! Other policies while running (S8): the next request of a key is decided by them, and nothing that was decided
//! changes.
//!
//! What a namespace has used of its quota is counted as records come and go. Where other namespaces are counted apart
//! than before, all keys are counted anew, under the lock that every operation takes first: about a tenth of a
//! microsecond a key in which nothing is answered. A change of anything else, bounds of quotas included, is a pointer.
//!
//! Rejected: counting while operations go on (every booking would have to know whether the walk has passed its shard).

use std::sync::PoisonError;

use super::{Rules, add};
use crate::policy::Policies;
use crate::store::arena::Arena;
use crate::store::run::unpack;
use crate::store::{Store, lock};

impl Store {
    /// Puts `policies` in force.
    pub fn set_policies(&self, policies: Policies) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let same = rules.policies.counts_like(&policies);
        let mut next = Rules::new(policies);
        if same {
            next.used = std::mem::take(&mut rules.used);
        } else if next.policies.quotas().next().is_some() {
            self.count(&next);
        }
        self.count_conflicts_as(&next.policies);
        *rules = next;
    }

    /// Counts all records under `rules`, which are not in force yet.
    fn count(&self, rules: &Rules) {
        for side in &self.sides {
            for record in lock(side).arena.records() {
                if let (_, Some(used)) = rules.of_key(unpack(record).0) {
                    add(&used.keys, 1);
                    add(&used.bytes, (Arena::cost(record.len()) + super::INDEX_BYTES_A_KEY) as isize);
                }
            }
        }
    }
}
