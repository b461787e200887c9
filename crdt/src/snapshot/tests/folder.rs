//! A region's data folder in memory, read back and covered as the daemon does it.

use std::collections::BTreeMap;

use crate::ids::Lsn;
use crate::journal::{HEADER_BYTES, Records, SegmentHeader, synced_evidence};
use crate::recovery::{Damage, Loaded, Recovered, Recovery, RecoveryConfig, SegmentReport, Share};
use crate::snapshot::{
    Checkpoint, Manifest, Merging, RUN_HEADER_BYTES, RUN_TRAILER_BYTES, RunEntry, RunHeader, RunTable,
};
use crate::store::Store;

pub const MANIFEST: &str = "checkpoint";

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// Oldest first; the headers are those that were written, whatever became of the bytes.
    pub segments: Vec<(SegmentHeader, Vec<u8>)>,
    pub runs: BTreeMap<String, Vec<u8>>,
    pub manifest: Option<Vec<u8>>,
}

/// What a folder gave back, still to be finished.
#[derive(Debug)]
pub struct Back {
    pub recovery: Recovery,
    pub reports: Vec<SegmentReport>,
}

/// A segment's name in damage.
pub fn segment_name(at: usize) -> String {
    format!("{at}.log")
}

/// Bytes of one run, as its file holds them.
pub fn open_run(name: &str, bytes: &[u8]) -> Result<(RunHeader, RunTable), Damage> {
    let damage = |offset: usize| Damage::Run { run: name.to_owned(), offset: offset as u64 };
    let end = bytes.len().saturating_sub(RUN_TRAILER_BYTES);
    let table_at = RunTable::offset(&bytes[end..], bytes.len() as u64).ok_or_else(|| damage(end))?;
    let header = RunHeader::decode(&bytes[..bytes.len().min(RUN_HEADER_BYTES)])
        .map_err(|error| Damage::Header { file: name.to_owned(), error })?;
    let table = RunTable::decode(&bytes[table_at as usize..], table_at);
    Ok((header, table.ok_or_else(|| damage(table_at as usize))?))
}

fn range(bytes: &[u8], offset: u64, len: u64) -> &[u8] {
    let from = bytes.len().min(offset as usize);
    &bytes[from..bytes.len().min(from + len as usize)]
}

impl Folder {
    /// The manifest, or that of nothing.
    pub fn manifest(&self, config: &RecoveryConfig) -> Manifest {
        let empty = Manifest {
            region: config.store.region,
            cluster: config.cluster,
            next_run: 1,
            ..Manifest::default()
        };
        self.manifest.as_ref().map_or(empty, |bytes| Manifest::decode(bytes).expect("a whole manifest"))
    }

    /// Reads all of it back, every segment by `shares`.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is made for one load")]
    pub fn load(&self, config: RecoveryConfig, shares: u32) -> Result<Back, Damage> {
        let mut recovery = Recovery::new(config.clone());
        let mut runs: Vec<String> = Vec::new();
        let mut covers = 0;
        if let Some(bytes) = &self.manifest {
            match recovery.manifest(MANIFEST, bytes) {
                Ok(manifest) => {
                    covers = manifest.covers();
                    runs = manifest.runs.iter().map(RunEntry::file_name).collect();
                }
                Err(damage) => {
                    recovery.forgive(damage)?;
                    runs = self.runs.keys().cloned().collect();
                }
            }
        }
        self.load_runs(&mut recovery, &runs, shares)?;
        let headers: Vec<Option<SegmentHeader>> =
            self.segments.iter().map(|(_, bytes)| SegmentHeader::decode(bytes).ok()).collect();
        let begins_covered =
            |header: &Option<SegmentHeader>| header.is_some_and(|h| h.first_lsn <= covers + 1);
        let covered = if covers == 0 { 0 } else { headers.iter().rposition(begins_covered).unwrap_or(0) };
        if let Some(Some(first)) = headers[..covered].first() {
            recovery.log_starts_at(first.first_lsn);
        }
        for (at, (_, bytes)) in self.segments.iter().enumerate().skip(covered) {
            // Or else the segment before it would look cut short.
            if let Some(error) = SegmentHeader::decode(bytes).err().filter(|_| !recovery.salvages()) {
                return Err(Damage::Header { file: segment_name(at), error });
            }
        }
        let mut reports = Vec::new();
        for (at, (_, bytes)) in self.segments.iter().enumerate().skip(covered) {
            let rest: Vec<SegmentHeader> = headers[at + 1..].iter().copied().flatten().collect();
            let tag = Some(recovery.mark_tag());
            let later = || self.segments[at + 1..].iter().map(|(_, bytes)| synced_evidence(bytes, tag)).max();
            let mut scan = recovery.scan(&segment_name(at), bytes, &rest, || later().unwrap_or(0))?;
            for index in 0..shares {
                let loaded = recovery.apply(&scan, bytes, Share { index, of: shares })?;
                scan.report.dies_at_ms = scan.report.dies_at_ms.max(loaded.dies_at_ms);
                recovery.absorb(loaded);
            }
            reports.push(scan.report);
        }
        Ok(Back { recovery, reports })
    }

    fn load_runs(&self, recovery: &mut Recovery, names: &[String], threads: u32) -> Result<(), Damage> {
        let mut opened = Vec::new();
        for name in names {
            let bytes = self.runs.get(name).map_or(&[][..], Vec::as_slice);
            let run = open_run(name, bytes);
            match run.and_then(|run| recovery.check_run(name, &run.0).map(|()| run)) {
                Ok((header, table)) => opened.push((name, bytes, header, table)),
                Err(damage) => recovery.forgive(damage)?,
            }
        }
        for conflicts in [false, true] {
            // As if every thread had taken some of the groups.
            let mut loaded = vec![Loaded::default(); threads as usize];
            let mut next = 0;
            for (name, bytes, header, table) in &opened {
                for group in table.groups.iter().filter(|group| (group.shard >= header.shards) == conflicts) {
                    next += 1;
                    let thread = &mut loaded[next % threads as usize];
                    let states = range(bytes, group.offset, group.len);
                    if let Err(damage) = recovery.load_group(name, header, group, states, thread) {
                        recovery.forgive(damage)?;
                    }
                }
            }
            loaded.into_iter().for_each(|loaded| recovery.absorb(loaded));
        }
        Ok(())
    }

    /// Starts from all of it.
    pub fn recover(&self, config: RecoveryConfig) -> Result<(Recovered, Vec<SegmentReport>), Damage> {
        let Back { recovery, reports } = self.load(config, 1)?;
        Ok((recovery.finish(), reports))
    }

    /// Covers the first `count` segments with runs, as the daemon does with those that are closed.
    pub fn cover(&mut self, store: &Store, config: &RecoveryConfig, count: usize, wall_ms: u64) {
        let manifest = self.manifest(config);
        let covers = manifest.covers();
        let mut checkpoint = Checkpoint::after(manifest);
        for (header, bytes) in self.segments[..count].iter().filter(|(header, _)| header.first_lsn > covers) {
            checkpoint.open(header).expect("one segment after the other");
            let mut records = Records::new(&bytes[HEADER_BYTES..]);
            while let Ok(body) = records.next_body() {
                checkpoint.record(store, body).expect("our own records");
            }
        }
        let mut writing = checkpoint.write(store, wall_ms);
        let runs = &mut self.runs;
        while writing.step(store, |name, bytes| append(runs, name, bytes)).expect("memory takes it") {}
        self.manifest = Some(writing.finish().encode());
    }

    /// Covers all that `store` holds and the manifest of `back` speaks of; nothing else is needed any more.
    pub fn of_everything(manifest: Manifest, store: &Store, wall_ms: u64) -> Self {
        let mut folder = Self::default();
        let mut writing = Checkpoint::everything(manifest).write(store, wall_ms);
        while writing.step(store, |name, bytes| append(&mut folder.runs, name, bytes)).expect("memory") {}
        folder.manifest = Some(writing.finish().encode());
        folder
    }

    /// Makes one of the given runs.
    pub fn merge(&mut self, config: &RecoveryConfig, sources: &[RunEntry]) {
        let mut manifest = self.manifest(config);
        let opened = |entry: &RunEntry| open_run(&entry.file_name(), &self.runs[&entry.file_name()]);
        let opened: Vec<_> = sources.iter().map(|entry| opened(entry).expect("whole")).collect();
        let sources_read = sources.iter().zip(opened).map(|(entry, (header, table))| (*entry, header, table));
        let mut merging = Merging::new(&mut manifest, sources_read.collect());
        let before = self.runs.clone();
        loop {
            let read = |source: &RunEntry, group: &crate::snapshot::Group| {
                let bytes = range(&before[&source.file_name()], group.offset, group.len).to_vec();
                if group.matches(&bytes) { Ok(bytes) } else { Err("a damaged group") }
            };
            if !merging.step(read, |name, bytes| append(&mut self.runs, name, bytes)).expect("whole") {
                break;
            }
        }
        merging.finish(&mut manifest);
        sources.iter().for_each(|source| drop(self.runs.remove(&source.file_name())));
        self.manifest = Some(manifest.encode());
    }

    /// Deletes the runs that are dead.
    pub fn delete_dead(&mut self, config: &RecoveryConfig, now_ms: u64) -> usize {
        let mut manifest = self.manifest(config);
        let uncovered = self.segments.iter().find(|(header, _)| header.first_lsn > manifest.covers());
        let uncovered_from_ms = uncovered.map_or(0, |(header, _)| header.created_ms);
        let dead = manifest.take_dead(
            now_ms,
            config.store.max_drift_ms + crate::limits::SWEEP_PASS_MS_MAX,
            uncovered_from_ms,
        );
        dead.iter().for_each(|run| drop(self.runs.remove(&run.file_name())));
        self.manifest = Some(manifest.encode());
        dead.len()
    }

    /// Deletes the segments that runs cover.
    pub fn trim(&mut self, config: &RecoveryConfig) {
        let covers: Lsn = self.manifest(config).covers();
        self.segments.retain(|(header, _)| header.first_lsn > covers);
    }
}

fn append(runs: &mut BTreeMap<String, Vec<u8>>, name: &str, bytes: &[u8]) -> Result<(), &'static str> {
    runs.entry(name.to_owned()).or_default().extend_from_slice(bytes);
    Ok(())
}
