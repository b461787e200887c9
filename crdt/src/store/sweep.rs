//! Taking out the dead (S3 Expiry). No index of expiries is kept: a shard's records are walked in
//! place, which costs about 25 ns a key and no memory; the driver spreads the shards over time. A shard in which
//! nothing can be dead yet is not walked.

use dashmap::Entry as IndexEntry;

use super::run::{pack, unpack, unpack_death};
use super::{Store, lock};
use crate::canary::{self, Bug};
use crate::hash::KeyHash;
use crate::limits;

impl Store {
    /// How many shards there are to sweep.
    pub fn shards(&self) -> usize {
        self.sides.len()
    }

    /// Takes the dead out of one shard at `wall_ms`; returns how many keys went. Nothing is logged:
    /// everybody's clock says the same.
    pub fn sweep(&self, shard: usize, wall_ms: u64) -> usize {
        let now_ms = self.death_now_ms(wall_ms);
        if shard == 0 {
            self.sweep_conflicts(now_ms);
        }
        let drift_ms = if canary::planted(Bug::DiesWithoutMargin) { 0 } else { self.config.max_drift_ms };
        let past = |dies_at_ms: u64| now_ms > dies_at_ms.saturating_add(drift_ms);
        let mut dead: Vec<KeyHash> = Vec::new();
        let mut side = lock(&self.sides[shard]);
        if past(side.watch.dies_first_ms) {
            let mut next_ms = u64::MAX;
            for (key, dies_at_ms) in side.arena.records().map(unpack_death) {
                if past(dies_at_ms) {
                    dead.push(self.config.keys.key_hash(key));
                } else {
                    next_ms = next_ms.min(dies_at_ms);
                }
            }
            // What is left of the dead below lowers it again.
            side.watch.dies_first_ms = next_ms;
        }
        drop(side);
        let gone = dead.into_iter().filter(|hash| self.sweep_key(*hash, now_ms)).count();
        self.compact(shard);
        self.shrink_index(shard);
        gone
    }

    /// Empties sparse pages of one shard, a bounded number at a time, so that memory which keys have left can
    /// be had by others. Takes the locks a record, as every operation does.
    fn compact(&self, shard: usize) {
        for _ in 0..limits::COMPACT_PAGES_MAX {
            let inside: Vec<KeyHash> = {
                let mut side = lock(&self.sides[shard]);
                let Some(closing) = side.arena.close_sparsest() else { return };
                let keys = side.arena.records_of(closing).map(|record| unpack(record).0);
                keys.map(|key| self.config.keys.key_hash(key)).collect()
            };
            for hash in inside {
                let IndexEntry::Occupied(mut occupied) = self.index.entry(hash) else { continue };
                let mut side = self.side(hash);
                if side.arena.is_closing(*occupied.get()) {
                    let before = side.booked();
                    *occupied.get_mut() = side.arena.relocate(*occupied.get());
                    self.account(&side, before, 0, None);
                }
            }
        }
    }

    /// Looks again, under the locks: the key may have been claimed since.
    fn sweep_key(&self, hash: KeyHash, now_ms: u64) -> bool {
        let rules = self.rules();
        let IndexEntry::Occupied(mut occupied) = self.index.entry(hash) else { return false };
        let side = &mut *self.side(hash);
        let slot = *occupied.get();
        let mut record = Vec::new();
        let used = {
            let (key, stored) = unpack(side.arena.get(slot));
            let mut entry = stored.clone();
            entry.drop_dead(now_ms, self.config.max_drift_ms);
            side.watch.changed(&self.digester, hash, &stored, &entry);
            if !entry.is_empty() {
                pack(key, &entry, &mut record);
            }
            rules.of_key(key).1
        };
        let before = side.booked();
        if !record.is_empty() {
            *occupied.get_mut() = side.arena.replace(slot, &record);
            self.account(side, before, 0, used);
            // What is left may hold nothing any more: a FORGET outlives the parts of its key.
            self.wake(&mut side.watch, hash);
            return false;
        }
        side.arena.remove(slot);
        let gone = if canary::planted(Bug::QuotaCountsTheDead) { 0 } else { -1 };
        self.account(side, before, gone, used);
        self.wake(&mut side.watch, hash);
        occupied.remove();
        true
    }
}
