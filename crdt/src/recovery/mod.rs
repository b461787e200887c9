//! From runs and log segments back to a store and a node's memory (S6). No IO: the daemon and the
//! simulator hand in the bytes: the manifest, the runs that it names, then the segments that the runs do
//! not cover, oldest first.
//!
//! The log is the truth. A torn tail is cut, and the cut reported; damage elsewhere is reported with file
//! and offset, and nothing starts from it unless everything that still reads is to be salvaged (`onced
//! rejoin`). Every start opens a new log epoch. A start after which synced data may be incomplete takes a new incarnation, whose number
//! is the time of its birth, so that even a region that lost its disk takes one that was never used
//! (INV-16).

mod damage;
mod load;
mod meta;
mod segment;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use damage::Damage;
pub use load::{Loaded, Share};
pub use meta::LogMeta;
pub use segment::{Scan, SegmentReport, behind_damage, next_whole};

use crate::canary::{self, Bug};
use crate::conflict::ConflictId;
use crate::hlc::Stamp;
use crate::ids::{Cursor, Incarnation, LogEpoch, Lsn, RegionId};
use crate::journal::{MarkTag, Record, SegmentHeader};
use crate::node::NodeMemory;
use crate::policy::{Durable, Policies};
use crate::snapshot::{MalformedManifest, Manifest, RunHeader};
use crate::store::{Store, StoreConfig};

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
    /// Whether this start may acknowledge something before it is synced (S6 `interval`). What those before it did
    /// stands in their segments: a configuration may have changed since.
    pub acknowledged_unsynced: bool,
    /// The wall clock, Unix milliseconds.
    pub wall_ms: u64,
    /// Damage is skipped and [listed](Recovery::damages) instead of refused: the operator's word (S6).
    pub salvage: bool,
    /// About how many keys there will be, so that the map need not grow; 0: unknown.
    pub keys_hint: usize,
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
    meta: LogMeta,
    /// The first record that the log still has; runs may cover it.
    first_lsn: Option<Lsn>,
    /// Lives up to this one are over, whatever the log says.
    over: Incarnation,
    /// Number of the next run.
    next_run: u64,
    /// The newest record that the log itself says was synced.
    marked: Lsn,
    /// The log ended in a torn tail: segments behind it do not count.
    torn: bool,
    records: u64,
    unlogged: BTreeSet<ConflictId>,
    damages: Vec<Damage>,
}

impl Recovery {
    /// Begins with nothing.
    pub fn new(config: RecoveryConfig) -> Self {
        let store = Store::with_capacity(
            config.store.clone(),
            config.policies.clone(),
            Stamp::ZERO,
            1,
            config.keys_hint,
        );
        Self {
            config,
            store,
            meta: LogMeta { next_lsn: 1, ..LogMeta::default() },
            first_lsn: None,
            over: Incarnation(0),
            next_run: 1,
            marked: 0,
            torn: false,
            records: 0,
            unlogged: BTreeSet::new(),
            damages: Vec::new(),
        }
    }

    /// What stands on this cluster's marks of what is synced.
    pub fn mark_tag(&self) -> MarkTag {
        MarkTag::new(&self.config.store.keys)
    }

    /// Begins with what the manifest says; its runs are then to be [loaded](Recovery::load_group).
    pub fn manifest(&mut self, name: &str, bytes: &[u8]) -> Result<Manifest, Damage> {
        let file = name.to_owned();
        let manifest = match Manifest::decode(bytes) {
            Ok(manifest) => manifest,
            Err(error) => return Err(Damage::Manifest { file, error }),
        };
        self.check_owner(name, manifest.region, manifest.cluster)?;
        self.adopt(&manifest);
        Ok(manifest)
    }

    fn adopt(&mut self, manifest: &Manifest) {
        self.meta = manifest.meta.clone();
        self.over = self.over.max(manifest.over);
        self.next_run = manifest.next_run;
        self.store.clock().observe(self.meta.newest_stamps.values().copied().max().unwrap_or_default());
    }

    /// Whether a run is this region's, and the one that its file's name says.
    pub fn check_run(&self, name: &str, header: &RunHeader) -> Result<(), Damage> {
        self.check_owner(name, header.region, header.cluster)?;
        let same = name.ends_with(&header.file_name());
        if same { Ok(()) } else { Err(Damage::Run { run: name.to_owned(), offset: 0 }) }
    }

    /// Whether a log that says nothing behind what the manifest covers may say nothing: a start begins its own
    /// segment before it removes any, so only a life that was declared over, by whoever mends or restores, has none.
    pub fn check_log(&mut self, folder: &str, uncovered_segments: usize) -> Result<(), Damage> {
        let goes_on = self.meta.last.is_some_and(|last| last.incarnation > self.over);
        if uncovered_segments > 0 || !goes_on {
            return Ok(());
        }
        self.forgive(Damage::NoLog { folder: folder.to_owned(), expected: self.meta.next_lsn })
    }

    /// The first record that is still to be read from the log.
    pub fn next_lsn(&self) -> Lsn {
        self.meta.next_lsn
    }

    /// The newest record that the log itself says was synced. What is newer must be written again before it counts
    /// as synced: after a sync that failed the kernel may show what the disk never got, and have nothing left to
    /// write at the next one.
    pub fn marked(&self) -> Lsn {
        self.marked
    }

    /// The oldest segment that the folder holds, though runs may cover it: peers can be fed from there on.
    pub fn log_starts_at(&mut self, first_lsn: Lsn) {
        self.first_lsn = Some(self.first_lsn.map_or(first_lsn, |known| known.min(first_lsn)));
    }

    /// Lists `damage` where everything that still reads is to be salvaged; else gives it back.
    pub fn forgive(&mut self, damage: Damage) -> Result<(), Damage> {
        let another_version = match &damage {
            Damage::Header { error, .. } => error.is_of_another_version(),
            Damage::Manifest { error, .. } => matches!(error, MalformedManifest::Version { .. }),
            Damage::Foreign { .. } => true,
            _ => false,
        };
        if !self.config.salvage || another_version {
            return Err(damage);
        }
        self.damages.push(damage);
        Ok(())
    }

    /// Whether damage is skipped.
    pub fn salvages(&self) -> bool {
        self.config.salvage
    }

    /// What was skipped.
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// [Scans](Recovery::scan), [applies](Recovery::apply) and absorbs one segment.
    pub fn segment(
        &mut self,
        name: &str,
        bytes: &[u8],
        rest: &[SegmentHeader],
        later: impl FnOnce() -> Lsn,
    ) -> Result<SegmentReport, Damage> {
        let mut scan = self.scan(name, bytes, rest, later)?;
        let loaded = self.apply(&scan, bytes, Share::ALL)?;
        scan.report.dies_at_ms = loaded.dies_at_ms;
        self.absorb(loaded);
        Ok(scan.report)
    }

    /// What has been read so far, for a checkpoint of everything. Where the manifest was lost, the caller raises
    /// `next_run` above the runs that are there.
    pub fn manifest_of_all(&self) -> Manifest {
        let store = &self.config.store;
        Manifest {
            region: store.region,
            cluster: self.config.cluster,
            meta: self.meta.clone(),
            runs: Vec::new(),
            next_run: self.next_run,
            over: self.meta.last.map_or(Incarnation(0), |last| last.incarnation),
        }
    }

    /// The store as far as it has been put back.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The replica, begun anew: next epoch, and next incarnation if data may be missing.
    pub fn finish(mut self) -> Recovered {
        let config = &self.config;
        let power_lost = self.meta.power_lost(config.boot);
        let newborn = self.meta.last.is_none();
        let renew = self.meta.last.is_some_and(|last| last.incarnation <= self.over);
        let renew = renew && !canary::planted(Bug::OldCopyGoesOn);
        let acknowledged_unsynced = self.meta.last.is_some_and(|last| !last.synced_first);
        let new_incarnation = newborn || renew || config.salvage || (power_lost && acknowledged_unsynced);
        let born = Incarnation((config.wall_ms.saturating_sub(INCARNATION_ZERO_MS) / 100) as u32);
        let incarnation = match self.meta.last {
            Some(last) if !new_incarnation => last.incarnation,
            Some(last) => born.max(Incarnation(last.incarnation.0 + 1)),
            None if canary::planted(Bug::IncarnationFromOne) => Incarnation(1),
            None => born,
        };
        // Records are counted from 1, also behind a manifest of nothing.
        self.meta.next_lsn = self.meta.next_lsn.max(1);
        let lacked = self.meta.incomplete && !canary::planted(Bug::LackForgotten);
        let behind = renew && !canary::planted(Bug::OldCopyLacksNothing);
        let incomplete = lacked || newborn || behind || config.salvage;
        let header = SegmentHeader {
            region: config.store.region,
            incarnation,
            epoch: LogEpoch(self.meta.last.map_or(1, |header| header.epoch.0 + 1)),
            first_lsn: self.meta.next_lsn,
            created_ms: config.wall_ms,
            cluster: config.cluster,
            boot: config.boot,
            synced_first: !config.acknowledged_unsynced,
        };
        self.meta.open(&header).expect("it begins with the next record");
        if canary::planted(Bug::FloorForgotten) {
            self.meta.floor_ms = 0;
        }
        // Stamps up to the floor may have been issued and lost (S2), in this start's eyes or in an earlier
        // one's that ended before it had issued any itself.
        self.store.clock().observe(Stamp::from_parts(self.meta.floor_ms, 0));
        let mut grants_from_ms = self.meta.floor_ms;
        if new_incarnation {
            // A former life may have led our wall clock by as much as any region may (S6); what it
            // issued, the peers tell in their hellos. All of their logs is fetched again: they hold
            // what we sent and then lost.
            grants_from_ms = grants_from_ms.max(config.wall_ms + config.store.max_drift_ms);
        }
        let memory = NodeMemory {
            cursors: self.meta.cursors.clone(),
            epochs: self.meta.epochs.clone(),
            torn_epochs: self.meta.torn_epochs.clone(),
            began_ms: config.wall_ms,
            first_lsn: self.first_lsn.filter(|_| !new_incarnation).unwrap_or(self.meta.next_lsn),
            newest_stamps: self.meta.newest_stamps.clone(),
            incomplete,
            voice: self.meta.voice.filter(|_| !incomplete),
            home: self.meta.home.filter(|_| !incomplete),
        };
        self.store.begin(incarnation, header.first_lsn, grants_from_ms);
        self.store.gate.remember_voice(memory.voice);
        self.store.gate.remember_home(memory.home);
        self.store.append_prologue(&memory.cursors, config.wall_ms);
        if incomplete || new_incarnation {
            self.store.append_record(&Record::Complete(!incomplete), Durable::Interval);
        }
        self.store.log_conflicts(&self.unlogged);
        Recovered { store: self.store, memory, header, new_incarnation, records: self.records }
    }

    fn check_header(&mut self, name: &str, bytes: &[u8]) -> Result<SegmentHeader, Damage> {
        let file = name.to_owned();
        let header = match SegmentHeader::decode(bytes) {
            Ok(header) => header,
            Err(error) => return Err(Damage::Header { file, error }),
        };
        self.check_owner(name, header.region, header.cluster)?;
        self.log_starts_at(header.first_lsn);
        if self.torn {
            return Ok(header);
        }
        if let Err(expected) = self.meta.open(&header) {
            self.forgive(Damage::Gap { segment: file, found: header.first_lsn, expected })?;
            self.meta.begin(&header);
        }
        Ok(header)
    }

    fn check_owner(&self, name: &str, region: RegionId, cluster: [u8; 16]) -> Result<(), Damage> {
        let ours = (self.config.store.region, self.config.cluster);
        if (region, cluster) == ours {
            return Ok(());
        }
        let text = |(region, cluster): (RegionId, [u8; 16])| {
            format!("region id {} of cluster {:032x}", region.0, u128::from_be_bytes(cluster))
        };
        Err(Damage::Foreign { file: name.to_owned(), theirs: text((region, cluster)), ours: text(ours) })
    }

    /// For a segment whose header is gone.
    fn unknown_header(&self) -> SegmentHeader {
        SegmentHeader {
            region: self.config.store.region,
            incarnation: Incarnation(0),
            epoch: LogEpoch(0),
            first_lsn: self.meta.next_lsn,
            created_ms: 0,
            cluster: self.config.cluster,
            boot: 0,
            synced_first: false,
        }
    }
}

impl Store {
    /// What every segment begins with, so that a start needs no older one: the cursors, in whose majorities this life
    /// counts, and a ceiling of the clock.
    pub fn append_prologue(&self, cursors: &BTreeMap<RegionId, Cursor>, wall_ms: u64) {
        for (peer, cursor) in cursors {
            self.append_record(&Record::Cursor(*peer, *cursor), Durable::Interval);
        }
        if let Some(epoch) = self.gate.remembered_voice() {
            self.append_record(&Record::Voice(epoch), Durable::Interval);
        }
        if let Some(epoch) = self.gate.remembered_home() {
            self.append_record(&Record::Home(epoch), Durable::Interval);
        }
        if self.extend_ceiling(wall_ms).is_none() {
            self.repeat_ceiling();
        }
    }
}
