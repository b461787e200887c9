//! Putting back what runs and segments hold, on as many threads as the driver has.
//!
//! The states of a run load group by group, in any order. The records of a segment are split by their keys:
//! every thread walks all of them and takes those of its share, so that each key's deltas come in the order
//! in which they were decided.

use std::collections::{BTreeMap, BTreeSet};

use super::meta::{note_newest, note_sides};
use super::segment::Scan;
use super::{Damage, Recovery};
use crate::conflict::{ConflictId, take_state};
use crate::hlc::Stamp;
use crate::ids::RegionId;
use crate::journal::{Origin, Record, Records};
use crate::snapshot::{Group, RunHeader, States};
use crate::store::{Replayed, Scratch, Visited};

/// One of `of` equal shares of all keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Which, from 0 on.
    pub index: u32,
    /// Of how many.
    pub of: u32,
}

impl Share {
    /// All keys.
    pub const ALL: Self = Self { index: 0, of: 1 };
}

/// What was put back, to be [absorbed](Recovery::absorb).
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// When the last part of it may die, Unix milliseconds, `max_drift` to be added.
    pub dies_at_ms: u64,
    newest: BTreeMap<RegionId, Stamp>,
    /// Conflicts that were derived and that no record holds.
    unlogged: BTreeSet<ConflictId>,
    logged: BTreeSet<ConflictId>,
    /// Records that were skipped, where everything that still reads is salvaged.
    damages: Vec<Damage>,
}

impl Loaded {
    fn list(&mut self, id: ConflictId) {
        self.logged.remove(&id);
        self.unlogged.insert(id);
    }

    fn note(&mut self, replayed: Replayed) {
        self.dies_at_ms = self.dies_at_ms.max(replayed.dies_at_ms);
        replayed.unlogged.into_iter().for_each(|id| self.list(id));
        if let Some(id) = replayed.logged {
            self.unlogged.remove(&id);
            self.logged.insert(id);
        }
    }
}

fn note_visited(newest: &mut BTreeMap<RegionId, Stamp>, visited: Visited<'_>) {
    match visited {
        Visited::Entry(entry) => note_newest(newest, entry),
        Visited::Conflict(conflict) => note_sides(newest, conflict),
    }
}

impl Recovery {
    /// Puts back one group of a run. May be called from many threads, before any segment is applied; groups
    /// of conflicts (number `header.shards`) after all others.
    pub fn load_group(
        &self,
        run: &str,
        header: &RunHeader,
        group: &Group,
        bytes: &[u8],
        loaded: &mut Loaded,
    ) -> Result<(), Damage> {
        let damage =
            |offset: usize| Damage::Run { run: run.to_owned(), offset: group.offset + offset as u64 };
        if !group.matches(bytes) {
            return Err(damage(0));
        }
        let mut scratch = Scratch::default();
        let wall_ms = self.config.wall_ms;
        let mut states = States::new(bytes);
        while let Some(state) = states.next() {
            let state = state.map_err(damage)?;
            if group.shard >= header.shards {
                let conflict = take_state(state).ok_or_else(|| damage(0))?;
                let mut body = Vec::new();
                Record::Conflict(Origin::Merged, conflict).encode(&mut body);
                let newest = &mut loaded.newest;
                let replayed =
                    self.store.recover(&body, wall_ms, &mut scratch, |visited| note_visited(newest, visited));
                loaded.note(replayed.map_err(|_| damage(0))?);
                continue;
            }
            let (mut newest, mut listed) = (std::mem::take(&mut loaded.newest), Vec::new());
            let mut list = |id| listed.push(id);
            let visit = |entry: &crate::entry::Entry<'_>| note_newest(&mut newest, entry);
            let result = self.store.load_state(state, wall_ms, &mut scratch, visit, &mut list);
            loaded.newest = newest;
            listed.into_iter().for_each(|id| loaded.list(id));
            result.map_err(|_| damage(states.offset()))?;
        }
        if states.offset() == bytes.len() { Ok(()) } else { Err(damage(states.offset())) }
    }

    /// Puts back the records of a scanned segment whose keys are of one share. May be called from many
    /// threads, for one segment after the other.
    pub fn apply(&self, scan: &Scan, bytes: &[u8], share: Share) -> Result<Loaded, Damage> {
        let mut loaded = Loaded::default();
        let mut scratch = Scratch::default();
        for span in &scan.spans {
            // A segment that is shorter than its header has no records, and yet a span of none.
            let mut records = Records::new(bytes.get(span.from..span.to).unwrap_or_default());
            let mut lsn = span.lsn;
            loop {
                let offset = span.from + records.offset();
                let Ok(body) = records.next_body() else { break };
                if self.shares(body, share) {
                    let newest = &mut loaded.newest;
                    let visit = |visited: Visited<'_>| note_visited(newest, visited);
                    let replayed = self.store.recover(body, self.config.wall_ms, &mut scratch, visit);
                    match replayed {
                        Ok(replayed) => loaded.note(replayed),
                        Err(_) => {
                            let damage = Damage::Record { segment: scan.name.clone(), offset, lsn };
                            if !self.config.salvage {
                                return Err(damage);
                            }
                            loaded.damages.push(damage);
                        }
                    }
                }
                lsn += 1;
            }
        }
        Ok(loaded)
    }

    /// Takes over what a thread has put back; of several threads, of one segment after the other.
    pub fn absorb(&mut self, loaded: Loaded) {
        self.meta.join_stamps(&loaded.newest);
        for id in &loaded.logged {
            self.unlogged.remove(id);
        }
        self.unlogged.extend(loaded.unlogged);
        self.damages.extend(loaded.damages);
    }

    fn shares(&self, body: &[u8], share: Share) -> bool {
        let key = match Record::decode(body) {
            Ok(Record::Entry(_, read)) => self.config.store.keys.key_hash(read.key.0),
            Ok(Record::Conflict(_, conflict)) => self.config.store.keys.key_hash(&conflict.id.key),
            _ => return false,
        };
        share.of == 1 || key.0[2] % share.of == share.index
    }
}
