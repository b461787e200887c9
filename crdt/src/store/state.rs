//! Whole states of keys, out of the map and into it: for checkpoints and for recovery from them (S6), and for a peer that
//! lacks them (S7).
//!
//! A stored record travels as it stands in the arena; what comes in is checked as if a stranger had
//! written it, because the map relies on it ever after.

use dashmap::Entry as IndexEntry;

use super::run::{pack, unpack};
use super::{Scratch, Store, lock};
use crate::conflict::ConflictId;
use crate::entry::Entry;
use crate::hash::KeyHash;
use crate::journal::EntryRecord;
use crate::limits;

/// A state that does not decode, or is out of bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MalformedState;

/// The entry of a state out of the map.
pub(crate) fn unpack_state(state: &[u8]) -> Entry<'_> {
    unpack(state).1
}

impl Store {
    /// The shard of a key: records of one shard share locks and lie side by side in runs.
    pub(crate) fn shard_of(&self, hash: KeyHash) -> usize {
        // As the map chooses its own shards: one shard's index and records are then touched together.
        let bits = self.sides.len().trailing_zeros();
        (hash.low64() << 7 >> (64 - bits)) as usize
    }

    /// As [`Store::shard_of`], of a key.
    pub(super) fn shard_of_key(&self, key: &[u8]) -> usize {
        self.shard_of(self.config.keys.key_hash(key))
    }

    /// Calls `take` with the whole state of the key with this hash; `None` where there is none.
    pub(crate) fn with_state<T>(&self, hash: KeyHash, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let slot = self.index.get(&hash)?;
        let side = self.side(hash);
        Some(take(side.arena.get(*slot)))
    }

    /// Calls `take` with every state of one shard.
    pub(crate) fn for_each_state(&self, shard: usize, mut take: impl FnMut(&[u8])) {
        lock(&self.sides[shard]).arena.records().for_each(&mut take);
    }

    /// Puts back one whole state that a run holds. `visit` sees its entry.
    pub(crate) fn load_state(
        &self,
        record: &[u8],
        wall_ms: u64,
        scratch: &mut Scratch,
        visit: impl FnOnce(&Entry<'_>),
        listed: &mut impl FnMut(ConflictId),
    ) -> Result<(), MalformedState> {
        let Some((read, [])) = EntryRecord::take(record) else {
            return Err(MalformedState);
        };
        let entry = read.entry.unpack().map_err(|_| MalformedState)?;
        if read.key.0.is_empty() || read.key.0.len() > limits::KEY_BYTES_MAX || entry.is_empty() {
            return Err(MalformedState);
        }
        visit(&entry);
        self.clock.observe(entry.newest_stamp());
        if self.load_new(read.key.0, &entry, record) {
            return Ok(());
        }
        // A later run, or one of another class, holds it too.
        let joined = self.join_in(read.key.0, &entry, wall_ms, None, scratch);
        joined.listed.into_iter().for_each(listed);
        Ok(())
    }

    /// Puts back a state as it stands where nothing is known of its key yet; whether that was so.
    fn load_new(&self, key: &[u8], entry: &Entry<'_>, record: &[u8]) -> bool {
        let rules = self.rules();
        let hash = self.config.keys.key_hash(key);
        let IndexEntry::Vacant(vacant) = self.index.entry(hash) else { return false };
        let side = &mut *self.side(hash);
        let before = side.booked();
        vacant.insert(side.arena.insert(record));
        side.watch.changed(&self.digester, hash, &Entry::default(), entry);
        self.account(side, before, 1, rules.of_key(key).1);
        true
    }
}

/// The record itself where it fits into a body; else one record a part: the whole of a contested key may
/// exceed the bound.
pub(super) fn for_each_part(record: &[u8], mut take: impl FnMut(&[u8])) {
    if record.len() < limits::RECORD_BYTES_MAX {
        return take(record);
    }
    let (key, entry) = unpack(record);
    let attempts = entry.attempts.iter().map(|attempt| Entry::of_attempt(*attempt));
    let outcomes = entry.outcomes.iter().map(|outcome| Entry::of_outcome(*outcome));
    let forgotten = Entry { forgotten: entry.forgotten, ..Entry::default() };
    let mut part_record = Vec::new();
    let mut parts: Vec<_> =
        attempts.chain(outcomes).chain([forgotten]).filter(|part| !part.is_empty()).collect();
    // What lives longest first: a part that is past its expiry counts beside a living one, and is refused alone.
    parts.sort_by_key(|part| std::cmp::Reverse(part.dies_at_ms()));
    for part in parts {
        pack(key, &part, &mut part_record);
        take(&part_record);
    }
}
