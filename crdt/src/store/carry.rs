//! Carrying the living out of a log segment that is about to be deleted.
//!
//! A segment may go once everything in it is past its expiry. But an entry dies whole (S3): an old
//! part still counts while a younger one keeps the key alive. Such keys are rare; their whole state is
//! appended to the log once more, and then the file is deleted. So the log shrinks by whole files and
//! nothing is rewritten for ever.

use std::collections::BTreeSet;

use super::run::{pack, unpack};
use super::{Store, lock};
use crate::entry::Entry;
use crate::journal::{self, Origin, Record, Records};
use crate::policy::Durable;

impl Store {
    /// Appends once more what still lives of the segment whose records these are; returns how many
    /// keys and conflicts. The caller syncs the log before it deletes the file.
    pub fn carry(&self, records: &[u8], wall_ms: u64) -> usize {
        let now_ms = self.death_now_ms(wall_ms);
        let mut walk = Records::new(records);
        let mut carried = BTreeSet::new();
        while let Ok(body) = walk.next_body() {
            match Record::decode(body) {
                Ok(Record::Entry(_, read))
                    if !carried.contains(read.key.0) && self.carry_key(read.key.0, now_ms) =>
                {
                    carried.insert(read.key.0.to_vec());
                }
                Ok(Record::Conflict(origin, conflict)) if self.lists(&conflict.id) => {
                    self.append_record(&Record::Conflict(origin, conflict), Durable::Interval);
                }
                _ => {}
            }
        }
        carried.len()
    }

    fn carry_key(&self, key: &[u8], now_ms: u64) -> bool {
        let hash = self.config.keys.key_hash(key);
        let Some(slot) = self.index.get(&hash) else { return false };
        let mut side = self.side(hash);
        let record = side.arena.get(*slot).to_vec();
        let (_, mut entry) = unpack(&record);
        entry.drop_dead(now_ms, self.config.max_drift_ms);
        if entry.is_empty() {
            return false;
        }
        // Part by part: the whole of a contested key might exceed the bound of a record.
        let kind = journal::entry_kind(Origin::Own);
        let attempts = entry.attempts.iter().map(|attempt| Entry::of_attempt(*attempt));
        let outcomes = entry.outcomes.iter().map(|outcome| Entry::of_outcome(*outcome));
        let forgotten = Entry { forgotten: entry.forgotten, ..Entry::default() };
        let mut part_record = Vec::new();
        for part in attempts.chain(outcomes).chain([forgotten]).filter(|part| !part.is_empty()) {
            pack(key, &part, &mut part_record);
            let lsn = self.tail.append(kind, &part_record, part.dies_at_ms(), Durable::Interval);
            side.watch.seen.written = lsn;
        }
        true
    }

    fn lists(&self, id: &crate::conflict::ConflictId) -> bool {
        lock(&self.conflicts.listed).contains_key(id)
    }
}
