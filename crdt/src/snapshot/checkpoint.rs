//! Covering the oldest part of the log with runs.
//!
//! First the records are walked: which keys do they mention, and what does the log's meta say after them.
//! Then, shard by shard, the states of those keys are copied out of the map. No lock is held for longer
//! than one key, and nothing is kept but the keys' hashes and one shard's states.

use std::collections::BTreeSet;

use super::manifest::{Manifest, RunEntry};
use super::run::{RunHeader, RunWriter, push_state};
use super::{CLASSES, class_of};
use crate::canary::{self, Bug};
use crate::conflict::{ConflictId, write_state};
use crate::hash::KeyHash;
use crate::ids::{Incarnation, Lsn};
use crate::journal::{EntryRecord, MalformedRecord, Record, SegmentHeader};
use crate::store::Store;
use crate::store::state::unpack_state;

/// Hashes gathered before those that are there twice are taken out.
const DEDUP_EVERY: usize = 1 << 20;

/// See the module's text.
#[derive(Debug)]
pub struct Checkpoint {
    manifest: Manifest,
    keys: Vec<KeyHash>,
    conflicts: BTreeSet<ConflictId>,
    dedup_at: usize,
    everything: bool,
}

impl Checkpoint {
    /// Begins behind what `manifest` covers.
    pub fn after(manifest: Manifest) -> Self {
        let (keys, conflicts) = (Vec::new(), BTreeSet::new());
        Self { manifest, keys, conflicts, dedup_at: DEDUP_EVERY, everything: false }
    }

    /// Covers all that `store` holds; `manifest` says as of when, and its runs are replaced.
    pub fn everything(manifest: Manifest) -> Self {
        let manifest = Manifest { runs: Vec::new(), ..manifest };
        Self { everything: true, ..Self::after(manifest) }
    }

    /// Walks on into a segment. `Err` names the record that should come next.
    pub fn open(&mut self, header: &SegmentHeader) -> Result<(), Lsn> {
        self.manifest.meta.open(header)
    }

    /// The next record's number.
    pub fn next_lsn(&self) -> Lsn {
        self.manifest.meta.next_lsn
    }

    /// Walks over one record.
    pub fn record(&mut self, store: &Store, body: &[u8]) -> Result<(), MalformedRecord> {
        let record = Record::decode(body)?;
        self.manifest.meta.note(&record);
        match record {
            Record::Entry(_, EntryRecord { key, entry }) => {
                let entry = entry.unpack().map_err(|_| MalformedRecord::Payload)?;
                self.manifest.meta.note_stamps(&entry);
                self.keys.push(store.config().keys.key_hash(key.0));
                if self.keys.len() >= self.dedup_at {
                    self.sort(store);
                    self.dedup_at = self.keys.len() + DEDUP_EVERY;
                }
            }
            Record::Conflict(_, conflict) => {
                self.manifest.meta.note_conflict(&conflict);
                self.conflicts.insert(conflict.id);
            }
            _ => {}
        }
        Ok(())
    }

    /// Turns to writing: see [`Writing`].
    pub fn write(mut self, store: &Store, wall_ms: u64) -> Writing {
        self.sort(store);
        Writing {
            writers: Default::default(),
            first_run: self.manifest.next_run,
            checkpoint: self,
            wall_ms,
            shard: 0,
            at: 0,
        }
    }

    fn sort(&mut self, store: &Store) {
        self.keys.sort_unstable_by_key(|hash| (store.shard_of(*hash), *hash));
        self.keys.dedup();
    }
}

/// A checkpoint that is being written. The driver calls [`Writing::step`] until it says that it was the
/// last, writes what it is given to each run's file, syncs these, and then writes the manifest.
#[derive(Debug)]
pub struct Writing {
    checkpoint: Checkpoint,
    writers: [Option<RunWriter>; CLASSES],
    first_run: u64,
    wall_ms: u64,
    /// The next shard; behind the last come the conflicts, and then the ends of the files.
    shard: usize,
    /// Where its keys begin.
    at: usize,
}

/// States of one shard and class on their way into a run.
#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    states: u32,
    dies_at_ms: u64,
}

impl Gathered {
    fn push(&mut self, state: &[u8], dies_at_ms: u64) {
        push_state(state, &mut self.bytes);
        self.states += 1;
        let before_ms = if canary::planted(Bug::RunDiesEarly) { 0 } else { self.dies_at_ms };
        self.dies_at_ms = before_ms.max(dies_at_ms);
    }
}

impl Writing {
    /// Writes the next shard. `sink` is given the name of a run's file and bytes to append to it; a name that
    /// it has not seen is a new file. True: there is more.
    pub fn step<E>(
        &mut self,
        store: &Store,
        mut sink: impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let shards = store.shards();
        if self.shard > shards {
            for writer in self.writers.iter().flatten() {
                sink(&writer.header().file_name(), &writer.finish().0)?;
            }
            return Ok(false);
        }
        let mut gathered: [Gathered; CLASSES] = Default::default();
        let wall_ms = self.wall_ms;
        let mut push = |state: &[u8], dies_at_ms: u64| {
            gathered[class_of(dies_at_ms, wall_ms) as usize].push(state, dies_at_ms);
        };
        if self.shard == shards {
            self.conflicts(store, &mut push);
        } else if self.checkpoint.everything {
            store.for_each_state(self.shard, |state| push(state, unpack_state(state).dies_at_ms()));
        } else {
            let keys = &self.checkpoint.keys[self.at..];
            let count = keys.partition_point(|hash| store.shard_of(*hash) <= self.shard);
            let mut copy = Vec::new();
            for hash in &keys[..count] {
                // Copied under the lock, looked at without it.
                copy.clear();
                if store.with_state(*hash, |state| copy.extend_from_slice(state)).is_some() {
                    push(&copy, unpack_state(&copy).dies_at_ms());
                }
            }
            self.at += count;
        }
        for (class, gathered) in gathered.into_iter().enumerate().filter(|(_, gathered)| gathered.states > 0)
        {
            self.group(store, class, &gathered, &mut sink)?;
        }
        self.shard += 1;
        Ok(true)
    }

    /// The manifest to be written once all runs are on disk. The log must be synced up to its end first.
    pub fn finish(self) -> Manifest {
        let mut manifest = self.checkpoint.manifest;
        for writer in self.writers.iter().flatten() {
            manifest.runs.push(RunEntry {
                number: writer.header().number,
                class: writer.header().class,
                bytes: writer.finish().1,
                states: writer.table().states,
                dies_at_ms: writer.table().dies_at_ms,
            });
        }
        manifest.runs.sort_unstable_by_key(|run| run.number);
        manifest
    }

    fn conflicts(&self, store: &Store, push: &mut impl FnMut(&[u8], u64)) {
        let mut bytes = Vec::new();
        let mut each = |conflict: &crate::conflict::Conflict| {
            bytes.clear();
            write_state(conflict, &mut bytes);
            push(&bytes, conflict.expires_at);
        };
        if self.checkpoint.everything {
            store.for_each_conflict(each);
        } else {
            let known = self.checkpoint.conflicts.iter().filter_map(|id| store.conflict(id));
            known.for_each(|conflict| each(&conflict));
        }
    }

    fn group<E>(
        &mut self,
        store: &Store,
        class: usize,
        gathered: &Gathered,
        sink: &mut impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let manifest = &mut self.checkpoint.manifest;
        if self.writers[class].is_none() {
            let header = RunHeader {
                region: manifest.region,
                incarnation: manifest.meta.last.map_or(Incarnation(0), |last| last.incarnation),
                number: manifest.next_run,
                created_ms: self.wall_ms,
                cluster: manifest.cluster,
                shards: store.shards() as u32,
                class: class as u8,
            };
            manifest.next_run += 1;
            sink(&header.file_name(), &header.encode())?;
            self.writers[class] = Some(RunWriter::new(header));
        }
        if let Some(writer) = &mut self.writers[class] {
            writer.group(self.shard as u32, &gathered.bytes, gathered.states, gathered.dies_at_ms);
            sink(&writer.header().file_name(), &gathered.bytes)?;
        }
        Ok(())
    }

    /// Number of the first run that this checkpoint makes.
    pub fn first_run(&self) -> u64 {
        self.first_run
    }
}
