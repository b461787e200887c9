//! From a log's segments back to a store and a node's memory (S6). No IO: the daemon and the simulator
//! hand in the bytes of the segments, oldest first.
//!
//! The log is the truth. A torn tail of the *last* segment is cut, and the cut reported; damage
//! elsewhere is reported with segment and offset, and nothing starts from it. Every start opens a new
//! log epoch. A start after which synced data may be incomplete takes a new incarnation, whose number
//! is the time of its birth, so that even a region that lost its disk takes one that was never used
//! (INV-16).

use std::collections::{BTreeMap, BTreeSet};

use crate::conflict::ConflictId;
use crate::hlc::Stamp;
use crate::ids::{Cursor, Incarnation, LogEpoch, Lsn, RegionId};
use crate::journal::{
    End, HEADER_BYTES, MalformedHeader, RECORD_HEADER_BYTES, Record, Records, SegmentHeader,
};
use crate::node::NodeMemory;
use crate::policy::{Durable, Policies};
use crate::store::{Scratch, Store, StoreConfig};

/// Incarnations are numbered by the tenths of seconds since 2026-01-01 at which they began.
const INCARNATION_ZERO_MS: u64 = 1_767_225_600_000;

/// What recovery has to know.
#[derive(Clone, Debug)]
pub struct RecoveryConfig {
    /// The store to be; its incarnation is decided here.
    pub store: StoreConfig,
    /// The policies in force.
    pub policies: Policies,
    /// Digest of the cluster's name: segments of another cluster are refused.
    pub cluster: [u8; 16],
    /// The machine's boot, as a number; another one than the log's means that unsynced bytes are gone.
    pub boot: u64,
    /// Whether something may have been acknowledged before it was synced (S6 `interval`).
    pub acknowledged_unsynced: bool,
    /// The wall clock, Unix milliseconds.
    pub wall_ms: u64,
}

/// Why a log cannot be started from.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// The header is refused.
    #[error("segment {segment}: {error}")]
    Header {
        /// The file.
        segment: String,
        /// Why.
        error: MalformedHeader,
    },
    /// The data folder is another region's or cluster's.
    #[error(
        "segment {segment} belongs to {theirs}, this daemon is {ours}: check [cluster] name and secret_file, [region] id and data_dir"
    )]
    Foreign {
        /// The file.
        segment: String,
        /// As its header says.
        theirs: String,
        /// As configured.
        ours: String,
    },
    /// A record that is not the torn end of the log.
    #[error(
        "segment {segment} is damaged at byte {offset}, inside record {lsn}; nothing was changed. Restore the file from a \
         backup, or move the data folder away: the region then starts empty as a new incarnation and fetches what its \
         peers hold"
    )]
    Record {
        /// The file.
        segment: String,
        /// Bytes from its start.
        offset: usize,
        /// The number that the record would have.
        lsn: Lsn,
    },
    /// A record number is missing between two segments.
    #[error(
        "segment {segment} begins with record {found}, {expected} was expected: a file of the log is missing"
    )]
    Gap {
        /// The file.
        segment: String,
        /// Its first record.
        found: Lsn,
        /// The one after the last read.
        expected: Lsn,
    },
}

/// What one segment held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentReport {
    /// Its header.
    pub header: SegmentHeader,
    /// Its last record; one less than the first where it has none.
    pub last_lsn: Lsn,
    /// When the last part in it may die, Unix milliseconds, `max_drift` to be added.
    pub dies_at_ms: u64,
    /// Where its records end, in bytes from the start of the file.
    pub end: usize,
    /// Bytes of a torn tail that were cut; the last segment only.
    pub torn_bytes: usize,
}

/// A replica ready to run.
#[derive(Debug)]
pub struct Recovered {
    /// The store, with the prologue of this start already appended to its tail.
    pub store: Store,
    /// For the node.
    pub memory: NodeMemory,
    /// The header of the segment that this start begins.
    pub header: SegmentHeader,
    /// Whether this start took a new incarnation.
    pub new_incarnation: bool,
    /// Records put back.
    pub records: u64,
}

/// See the module's text.
#[derive(Debug)]
pub struct Recovery {
    config: RecoveryConfig,
    store: Store,
    scratch: Scratch,
    memory: NodeMemory,
    last_header: Option<SegmentHeader>,
    next_lsn: Lsn,
    ceiling_ms: u64,
    /// The ceiling as of the last power loss in the log: stamps up to it may have been issued and lost.
    floor_ms: u64,
    stopped: bool,
    records: u64,
    unlogged: BTreeSet<ConflictId>,
}

impl Recovery {
    /// Begins with nothing.
    pub fn new(config: RecoveryConfig) -> Self {
        let store = Store::new(config.store.clone(), config.policies.clone(), Stamp::ZERO, 1);
        Self {
            config,
            store,
            scratch: Scratch::default(),
            memory: NodeMemory { first_lsn: 1, ..NodeMemory::default() },
            last_header: None,
            next_lsn: 1,
            ceiling_ms: 0,
            floor_ms: 0,
            stopped: false,
            records: 0,
            unlogged: BTreeSet::new(),
        }
    }

    /// Puts back one segment. `next` is the header of the segment after it, `None` for the last: where
    /// the next one begins, this one ends, whatever stands behind.
    pub fn segment(
        &mut self,
        name: &str,
        bytes: &[u8],
        next: Option<&SegmentHeader>,
    ) -> Result<SegmentReport, Damage> {
        let header = self.check_header(name, bytes)?;
        let mut records = Records::new(&bytes[HEADER_BYTES..]);
        let mut dies_at_ms = 0;
        let mut torn_bytes = 0;
        loop {
            if next.is_some_and(|next| self.next_lsn == next.first_lsn) {
                break;
            }
            let offset = HEADER_BYTES + records.offset();
            let damage = |lsn| Damage::Record { segment: name.to_owned(), offset, lsn };
            match records.next_body() {
                Ok(body) => {
                    let dies = self.record(body).ok_or_else(|| damage(self.next_lsn))?;
                    dies_at_ms = dies_at_ms.max(dies);
                    self.next_lsn += 1;
                }
                Err(_) if next.is_some() => return Err(damage(self.next_lsn)),
                Err(End::Clean) => break,
                // Only the last write can be torn while the machine stays up. With whole records behind it,
                // this is damage, and cutting it off would lose what was acknowledged (S6).
                Err(End::Broken) if header.boot == self.config.boot && whole_behind(&bytes[offset..]) => {
                    return Err(damage(self.next_lsn));
                }
                Err(End::Broken) => {
                    torn_bytes = torn_len(&bytes[offset..]);
                    break;
                }
            }
        }
        self.last_header = Some(header);
        let end = HEADER_BYTES + records.offset();
        Ok(SegmentReport { header, last_lsn: self.next_lsn - 1, dies_at_ms, end, torn_bytes })
    }

    /// The replica, begun anew: next epoch, and next incarnation if data may be missing.
    pub fn finish(mut self) -> Recovered {
        let config = &self.config;
        let power_lost = self.last_header.is_some_and(|header| header.boot != config.boot) && !self.stopped;
        let newborn = self.last_header.is_none();
        let new_incarnation = newborn || (power_lost && config.acknowledged_unsynced);
        let born = Incarnation((config.wall_ms.saturating_sub(INCARNATION_ZERO_MS) / 100) as u32);
        let incarnation = match self.last_header {
            Some(last) if !new_incarnation => last.incarnation,
            Some(last) => born.max(Incarnation(last.incarnation.0 + 1)),
            None => born,
        };
        if power_lost {
            self.floor_ms = self.floor_ms.max(self.ceiling_ms);
        }
        // Stamps up to the floor may have been issued and lost (S2), in this start's eyes or in an earlier
        // one's that ended before it had issued any itself.
        self.store.clock().observe(Stamp::from_parts(self.floor_ms, 0));
        let mut grants_from_ms = self.floor_ms;
        if new_incarnation {
            // A former life may have led our wall clock by as much as any region may (S6); what it
            // issued, the peers tell in their hellos. All of their logs is fetched again: they hold
            // what we sent and then lost.
            grants_from_ms = grants_from_ms.max(config.wall_ms + config.store.max_drift_ms);
            self.memory.cursors.clear();
        }
        let epoch = LogEpoch(self.last_header.map_or(1, |header| header.epoch.0 + 1));
        self.memory.epochs.push((epoch, self.next_lsn));
        let header = SegmentHeader {
            region: config.store.region,
            incarnation,
            epoch,
            first_lsn: self.next_lsn,
            created_ms: config.wall_ms,
            cluster: config.cluster,
            boot: config.boot,
        };
        if new_incarnation {
            // Cursors of our log that peers hold name another incarnation: they start over.
            self.memory.epochs.retain(|(known, _)| *known == epoch);
        }
        self.store.begin(incarnation, self.next_lsn, grants_from_ms);
        self.store.append_prologue(&self.memory.cursors, config.wall_ms);
        self.store.log_conflicts(&self.unlogged);
        Recovered { store: self.store, memory: self.memory, header, new_incarnation, records: self.records }
    }

    fn check_header(&mut self, name: &str, bytes: &[u8]) -> Result<SegmentHeader, Damage> {
        let segment = name.to_owned();
        let header = match SegmentHeader::decode(bytes) {
            Ok(header) => header,
            Err(error) => return Err(Damage::Header { segment, error }),
        };
        let ours = (self.config.store.region, self.config.cluster);
        if (header.region, header.cluster) != ours {
            let text = |(region, cluster): (RegionId, [u8; 16])| {
                format!("region id {} of cluster {:032x}", region.0, u128::from_be_bytes(cluster))
            };
            let theirs = text((header.region, header.cluster));
            return Err(Damage::Foreign { segment, theirs, ours: text(ours) });
        }
        if self.last_header.is_none() {
            self.next_lsn = header.first_lsn;
            self.memory.first_lsn = header.first_lsn;
        } else if header.first_lsn != self.next_lsn {
            return Err(Damage::Gap { segment, found: header.first_lsn, expected: self.next_lsn });
        }
        if self.memory.epochs.last().is_none_or(|(epoch, _)| *epoch != header.epoch) {
            self.memory.epochs.push((header.epoch, header.first_lsn));
            if self.memory.epochs.len() > crate::limits::EPOCHS_MAX {
                self.memory.epochs.remove(0);
            }
        }
        if self.last_header.is_some_and(|last| last.boot != header.boot) && !self.stopped {
            self.floor_ms = self.floor_ms.max(self.ceiling_ms);
        }
        if self.last_header.is_some_and(|last| last.incarnation != header.incarnation) {
            // Only cursors written in this life count: the former's were given up with it.
            self.memory.cursors.clear();
            self.memory.epochs.retain(|(epoch, _)| *epoch == header.epoch);
        }
        Ok(header)
    }

    /// Puts back one record; says when it may die, or nothing if it does not decode.
    fn record(&mut self, body: &[u8]) -> Option<u64> {
        self.records += 1;
        self.stopped = false;
        match Record::decode(body).ok()? {
            Record::Cursor(peer, cursor) => {
                self.memory.cursors.insert(peer, cursor);
                Some(0)
            }
            Record::Ceiling(ms) => {
                self.ceiling_ms = self.ceiling_ms.max(ms);
                Some(0)
            }
            Record::Stop => {
                self.stopped = true;
                Some(0)
            }
            Record::Entry(..) | Record::Conflict(..) => {
                let newest = &mut self.memory.newest_stamps;
                let visit = |entry: &crate::entry::Entry<'_>| note_newest(newest, entry);
                self.store
                    .recover(body, self.config.wall_ms, &mut self.scratch, visit, &mut self.unlogged)
                    .ok()
            }
        }
    }
}

impl Store {
    /// What every segment begins with, so that deleting older ones loses nothing: the cursors, and a
    /// ceiling of the clock.
    pub fn append_prologue(&self, cursors: &BTreeMap<RegionId, Cursor>, wall_ms: u64) {
        for (peer, cursor) in cursors {
            self.append_record(&Record::Cursor(*peer, *cursor), Durable::Interval);
        }
        if self.extend_ceiling(wall_ms).is_none() {
            self.repeat_ceiling();
        }
    }
}

fn note_newest(newest: &mut BTreeMap<RegionId, Stamp>, entry: &crate::entry::Entry<'_>) {
    let mut note = |region: RegionId, stamp: Stamp| {
        let known = newest.entry(region).or_default();
        *known = stamp.max(*known);
    };
    entry.attempts.iter().for_each(|attempt| note(attempt.id.region, attempt.id.stamp));
    for outcome in entry.outcomes.iter() {
        note(outcome.claim.region, outcome.claim.stamp);
        note(outcome.region, outcome.completed);
    }
}

/// Whether a whole record begins anywhere behind the start of `bytes`.
fn whole_behind(bytes: &[u8]) -> bool {
    let begins_here = |at: usize| {
        let mut records = Records::new(&bytes[at..]);
        records.next_body().is_ok_and(|body| Record::decode(body).is_ok())
    };
    // The bound on a body keeps this from summing up megabytes at every offset of random bytes.
    let plausible = |at: usize| bytes[at + 3] == 0 && bytes[at..at + 3] != [0, 0, 0];
    (1..bytes.len().saturating_sub(RECORD_HEADER_BYTES)).any(|at| plausible(at) && begins_here(at))
}

/// Bytes up to the last one that is not zero.
fn torn_len(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests;
