//! Whether this region counts in majorities (S5).
//!
//! Majorities decide only because any two of them share a region that knows what the first one decided. So a region counts
//! once it knows all that majorities have decided before it does:
//!
//! - A life that has lost its data, or never had any, first compares everything with a majority of the regions, itself not
//!   counted: whatever was decided, one of them holds it.
//! - After a step of the membership, which may have retired a region that was part of a decision, it compares everything
//!   with so many of those that have made the step too, and count no more in the epoch before, that together with itself
//!   they are a majority.
//!
//! What was once reached is a record of the log, so that a restart beside a region that is down costs nobody anything.
//! Nothing of this happens where nobody asks for `quorum`.
//!
//! Must never: take a peer's word for it; only a comparison that began after both had made the step counts.

use super::rounds::majority;
use super::{Node, feed};
use crate::canary::{self, Bug};
use crate::journal::Record;
use crate::policy::Durable;
use crate::store::Store;

impl Node {
    /// Looks for a voice in the majorities of the membership in force, where one is wanted.
    pub(super) fn seek_voice(&mut self, store: &Store, wall_ms: u64) {
        let epoch = self.config.membership;
        if self.memory.voice == Some(epoch) {
            store.gate.set_voice(true);
            return;
        }
        store.gate.set_voice(false);
        if !store.gate.is_voice_wanted() && !store.policies().ask_majorities() {
            return;
        }
        let stepped = |epoch_of: Option<u64>| epoch_of == Some(epoch);
        let mut known = 0;
        for peer in self.peers.values_mut() {
            let with_us = peer.is_at(epoch);
            if stepped(peer.compared_step) {
                known += usize::from(!peer.incomplete);
            } else if with_us && !peer.is_behind() {
                feed::compare_step(peer, epoch, wall_ms);
            }
        }
        let own = usize::from(self.memory.voice.is_some());
        let needed = (majority(self.peers.len() + 1) - own).min(self.peers.len());
        if known >= needed || canary::planted(Bug::VoiceWithoutData) {
            self.memory.voice = Some(epoch);
            store.append_record(&Record::Voice(epoch), Durable::Always);
            store.gate.remember_voice(Some(epoch));
            store.gate.set_voice(true);
        }
    }
}
