//! Taking out the dead (S3 Expiry). No index of expiries is kept: a shard's records are walked in
//! place, which costs about 25 ns a key and no memory; the driver spreads the shards over time.

use dashmap::Entry as IndexEntry;
use std::sync::atomic::Ordering::Relaxed;

use super::run::{pack, unpack};
use super::{Store, lock};
use crate::hash::KeyHash;

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
        let past = |dies_at_ms: u64| now_ms > dies_at_ms.saturating_add(self.config.max_drift_ms);
        let dead: Vec<KeyHash> = lock(&self.sides[shard])
            .arena
            .records()
            .map(unpack)
            .filter(|(_, entry)| past(entry.parts_die_at_ms()))
            .map(|(key, _)| self.config.keys.key_hash(key))
            .collect();
        dead.into_iter().filter(|hash| self.sweep_key(*hash, now_ms)).count()
    }

    /// Looks again, under the locks: the key may have been claimed since.
    fn sweep_key(&self, hash: KeyHash, now_ms: u64) -> bool {
        let IndexEntry::Occupied(mut occupied) = self.index.entry(hash) else { return false };
        let mut side = self.side(hash);
        let slot = *occupied.get();
        let mut record = Vec::new();
        {
            let (key, mut entry) = unpack(side.arena.get(slot));
            entry.drop_dead(now_ms, self.config.max_drift_ms);
            if !entry.is_empty() {
                pack(key, &entry, &mut record);
            }
        }
        let bytes_before = side.arena.bytes();
        if !record.is_empty() {
            *occupied.get_mut() = side.arena.replace(slot, &record);
            self.account(&side, bytes_before, 0);
            return false;
        }
        side.arena.remove(slot);
        self.keys.fetch_sub(1, Relaxed);
        self.account(&side, bytes_before, 0);
        self.wake(&mut side.watch, hash);
        occupied.remove();
        true
    }
}
