//! Whether this region may decide as the home of keys (S5).
//!
//! A home decides alone, so two regions must never take themselves for the home of one key. Who is the home follows from
//! the membership, and regions do not step from one epoch to the next in one moment:
//!
//! - A step that adds a region moves keys to the newcomer and nowhere else. It decides none of them before it has compared
//!   everything with *each* other region, after both had made the step: from then on nobody else takes itself for their
//!   home, and what was granted is known here. Meanwhile they have no home, and `fallback` decides.
//! - A region that was there before goes on at once: it has lost keys by such a step, or none.
//! - A step that retires a region gives its keys to the others at once, since it will never make that step. So it is to be
//!   stopped first. If it is not, it stops deciding when the first peer tells it so.
//! - In the first epoch of all there was no home before.
//!
//! What was once reached is a record of the log: a restart beside a region that is down costs nobody anything. A life that
//! has lost its data, and one that comes back more than one step later, compares as a newcomer does.
//!
//! Rejected: waiting for a majority only (the one that was the home may be in the other part), and for leases to end (whoever
//! was the home may go on granting).
//!
//! Must never: decide while another region may hold itself for the home of the same key.

use super::{FrameError, MembershipError, Node, feed};
use crate::canary::{self, Bug};
use crate::ids::RegionId;
use crate::journal::Record;
use crate::policy::Durable;
use crate::store::Store;

impl Node {
    /// Looks for the right to decide as a home in the membership in force, where anybody asks for it.
    pub(super) fn seek_homes(&mut self, store: &Store, wall_ms: u64) {
        let epoch = self.config.membership;
        let held = self.memory.home;
        let was_there = epoch <= 1 || held.is_some_and(|held| held == epoch || held + 1 == epoch);
        if was_there || canary::planted(Bug::HomeAtAnyEpoch) {
            self.memory.home = Some(epoch);
        }
        let wanted = store.policies().ask_homes() || store.gate.is_home_wanted();
        if self.memory.home != Some(epoch) && wanted {
            let mut known = true;
            for peer in self.peers.values_mut().filter(|peer| peer.compared_step != Some(epoch)) {
                known = false;
                if peer.is_at(epoch) && !peer.is_behind() {
                    feed::compare_step(peer, epoch, wall_ms);
                }
            }
            if known {
                self.memory.home = Some(epoch);
            }
        }
        let decides = self.memory.home == Some(epoch) && !self.retired;
        if decides && wanted && store.gate.remembered_home() != Some(epoch) {
            store.append_record(&Record::Home(epoch), Durable::Always);
            store.gate.remember_home(Some(epoch));
        }
        let own = store.config().region;
        let regions: Vec<RegionId> = self.config.peers.iter().copied().chain([own]).collect();
        store.set_homes(regions, decides);
    }

    /// A peer's frame was refused: perhaps because the peers go on without this region.
    pub(super) fn note_refused(&mut self, store: &Store, error: &FrameError, wall_ms: u64) {
        if matches!(error, FrameError::Membership(MembershipError::Retired { .. })) && !self.retired {
            self.retired = true;
            self.seek_homes(store, wall_ms);
        }
    }
}
