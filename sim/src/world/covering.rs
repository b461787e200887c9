//! What the daemon's checkpoint thread does, one step an event: so that anything may happen between two steps,
//! and a fuse may blow between any two calls within one.
//!
//! Must never: delete what the manifest on disk still names.

use std::collections::BTreeMap;

use crdt::canary::{self, Bug};
use crdt::journal::{HEADER_BYTES, Records, SegmentHeader};
use crdt::snapshot::{Checkpoint, Manifest, Merging, RunEntry, Writing};

use super::{Event, World};
use crate::disk::{Disk, Fail, FileId};
use crate::goals::Goal;
use crate::limits;
use crate::oracle::facts::Lsn;
use crate::oracle::violation::Violation;
use crate::replica::start::{Closed, MANIFEST, group, open_run};

/// Segments that one checkpoint covers at most.
const SEGMENTS_AT_ONCE_MAX: usize = 4;
/// The next manifest's room.
const MANIFEST_SPARE: &str = "checkpoint.spare";
/// How much that is, in bytes.
const MANIFEST_SPARE_BYTES: usize = 8 * 1024;
/// How often it looks whether there is something to do, microseconds.
const LOOK_EVERY_US: u64 = 100_000;
/// After a failure it tries again after this time, microseconds.
const RETRY_AFTER_US: u64 = 700_000;
/// Every tick sweeps all shards: more than two of them, milliseconds.
const SWEEP_PASS_MS: u64 = 2 * limits::TICK_US / 1000 + 100;
/// Between two steps of one piece of work, typically, microseconds.
pub(super) const STEP_US: u64 = 400;

/// A piece of work under way.
#[derive(Debug)]
pub(super) enum Covering {
    /// States are written into runs.
    Writing(Box<Writing>, RunFiles, Vec<Closed>),
    /// The runs are on disk; the log is to be, up to that record.
    Syncing(Box<Writing>, Vec<Closed>, Lsn),
    /// Small runs become one.
    Merging(Box<Merging>, Box<Manifest>, RunFiles),
}

/// Run files that are being written.
#[derive(Debug, Default)]
pub(super) struct RunFiles {
    files: BTreeMap<String, (FileId, usize)>,
}

impl RunFiles {
    fn append(&mut self, disk: &mut Disk, name: &str, bytes: &[u8]) -> Result<(), Fail> {
        if !self.files.contains_key(name) {
            self.files.insert(name.to_owned(), (disk.create(name)?, 0));
        }
        let Some((file, at)) = self.files.get_mut(name) else { return Ok(()) };
        disk.write_at(*file, *at, bytes)?;
        *at += bytes.len();
        Ok(())
    }

    fn finish(&self, disk: &mut Disk) -> Result<(), Fail> {
        if !canary::planted(Bug::RunsNotSynced) {
            self.files.values().try_for_each(|(file, _)| disk.sync(*file))?;
        }
        disk.sync_folder()
    }

    /// What is given up is removed.
    fn remove(&self, disk: &mut Disk) -> Result<(), Fail> {
        self.files.keys().try_for_each(|name| disk.unlink(name))
    }
}

/// Why a piece of work ended early.
enum Trouble {
    /// It is given up, and tried again later.
    GivenUp,
    /// The process ends.
    Fail(Fail),
}

impl From<Fail> for Trouble {
    fn from(fail: Fail) -> Self {
        Self::Fail(fail)
    }
}

impl World {
    /// The next step of the checkpoint thread.
    pub(super) fn cover(&mut self, at: usize, life: u64) -> Result<(), Violation> {
        if self.sites[at].living(life).is_none() {
            return Ok(());
        }
        if std::mem::take(&mut self.sites[at].retries)
            && let Some((calls, power, down_us)) = self.sites[at].retry_fuse.take()
        {
            self.set_fuse(at, calls, power, down_us);
        }
        let covering = self.sites[at].covering.take();
        let stepped = match covering {
            None => self.next_work(at),
            Some(Covering::Writing(writing, files, closed)) => self.write_runs(at, writing, files, closed),
            Some(Covering::Syncing(writing, closed, upto)) => self.commit_runs(at, writing, closed, upto),
            Some(Covering::Merging(merging, manifest, files)) => {
                self.merge_runs(at, merging, manifest, files)
            }
        };
        let wait_us = match stepped {
            // The sync's end wakes it, and so does a log that finds no room.
            Ok(true) if self.sites[at].cover_waits => return self.pump(at),
            Ok(true) => self.sites[at].dice.heavy(STEP_US),
            Ok(false) => {
                // Nothing was done, so nothing follows from it.
                self.heap.after(LOOK_EVERY_US, Event::Cover { site: at, life });
                return Ok(());
            }
            Err(Trouble::Fail(Fail::Cut)) => {
                self.disk_failed(at, Fail::Cut);
                return Ok(());
            }
            Err(Trouble::Fail(Fail::Full | Fail::Io) | Trouble::GivenUp) => {
                self.trace.event(self.heap.now_us(), "given-up", &[at as u64]);
                self.goals.reach(Goal::CheckpointRetried);
                self.sites[at].retries = true;
                if let Some(log) = &mut self.sites[at].log {
                    log.manifest.skip_runs();
                }
                RETRY_AFTER_US
            }
        };
        self.heap.after(wait_us, Event::Cover { site: at, life });
        self.pump(at)
    }

    fn next_work(&mut self, at: usize) -> Result<bool, Trouble> {
        if self.delete_dead(at)? {
            return Ok(true);
        }
        self.trim_log(at)?;
        let now_us = self.now_us();
        let site = &mut self.sites[at];
        let wall = site.wall(now_us);
        let (Some(replica), Some(log)) = (&site.replica, &site.log) else { return Ok(false) };
        let covers = log.manifest.covers();
        let closed = log.closed.iter().filter(|segment| segment.last_lsn > covers);
        let closed: Vec<Closed> = closed.take(SEGMENTS_AT_ONCE_MAX).cloned().collect();
        if closed.is_empty() {
            return self.plan_merge(at);
        }
        let mut checkpoint = Checkpoint::after(log.manifest.clone());
        for segment in &closed {
            let bytes = site.disk.read_to(&segment.name, segment.end).unwrap_or_default();
            let header = SegmentHeader::decode(&bytes).map_err(|_| Trouble::GivenUp)?;
            checkpoint.open(&header).map_err(|_| Trouble::GivenUp)?;
            let mut records = Records::new(&bytes[HEADER_BYTES..segment.end]);
            while let Ok(body) = records.next_body() {
                checkpoint.record(replica.store(), body).map_err(|_| Trouble::GivenUp)?;
            }
            if checkpoint.next_lsn() != segment.last_lsn + 1 {
                return Err(Trouble::GivenUp);
            }
        }
        self.trace.event(now_us, "checkpoint", &[at as u64, covers, closed.len() as u64]);
        let writing = Box::new(checkpoint.write(replica.store(), wall));
        site.covering = Some(Covering::Writing(writing, RunFiles::default(), closed));
        Ok(true)
    }

    fn write_runs(
        &mut self,
        at: usize,
        mut writing: Box<Writing>,
        mut files: RunFiles,
        closed: Vec<Closed>,
    ) -> Result<bool, Trouble> {
        let site = &mut self.sites[at];
        let (Some(replica), disk) = (&site.replica, &mut site.disk) else { return Ok(false) };
        let more = match writing.step(replica.store(), |name, bytes| files.append(disk, name, bytes)) {
            Ok(true) => true,
            Ok(false) => match files.finish(disk) {
                Ok(()) => false,
                Err(fail) => return given_up(&files, disk, fail),
            },
            Err(fail) => return given_up(&files, disk, fail),
        };
        if more {
            site.covering = Some(Covering::Writing(writing, files, closed));
            return Ok(true);
        }
        let upto = replica.store().tail().appended();
        site.sync_wanted = true;
        site.covering = Some(Covering::Syncing(writing, closed, upto));
        Ok(true)
    }

    fn commit_runs(
        &mut self,
        at: usize,
        writing: Box<Writing>,
        closed: Vec<Closed>,
        upto: Lsn,
    ) -> Result<bool, Trouble> {
        let site = &mut self.sites[at];
        let (Some(replica), Some(log)) = (&site.replica, &mut site.log) else { return Ok(false) };
        if site.stuck {
            return Err(Trouble::GivenUp);
        }
        if replica.store().tail().synced() < upto {
            (site.sync_wanted, site.cover_waits) = (true, true);
            site.covering = Some(Covering::Syncing(writing, closed, upto));
            return Ok(true);
        }
        let manifest = writing.finish();
        write_manifest(&mut site.disk, &manifest)?;
        self.trace.event(
            self.heap.now_us(),
            "covered",
            &[at as u64, manifest.covers(), manifest.runs.len() as u64],
        );
        log.manifest = manifest;
        for segment in closed {
            // The rest of what was allocated for it.
            if let Some(file) = site.disk.open(&segment.name) {
                site.disk.set_len(file, segment.end)?;
            }
        }
        Ok(true)
    }

    /// Deletes the runs in which everything is past its expiry.
    fn delete_dead(&mut self, at: usize) -> Result<bool, Fail> {
        let (now_us, max_drift) = (self.now_us(), self.scenario.max_drift_ms);
        let site = &mut self.sites[at];
        let wall = site.wall(now_us);
        let (Some(replica), Some(log)) = (&site.replica, &mut site.log) else { return Ok(false) };
        if log.manifest.runs.is_empty() || replica.distrusts_clock(wall) {
            return Ok(false);
        }
        // Nothing that lives until now is to be copied for it.
        if log.manifest.runs.iter().all(|run| run.dies_at_ms >= wall) {
            return Ok(false);
        }
        let mut manifest = log.manifest.clone();
        let uncovered_from_ms = log.created_ms_of(manifest.covers() + 1);
        let dead = manifest.take_dead(wall, max_drift + SWEEP_PASS_MS, uncovered_from_ms);
        if dead.is_empty() {
            return Ok(false);
        }
        write_manifest(&mut site.disk, &manifest)?;
        log.manifest = manifest;
        dead.iter().try_for_each(|run| site.disk.unlink(&run.file_name()))?;
        self.trace.event(now_us, "runs-died", &[at as u64, dead.len() as u64]);
        self.goals.reach(Goal::RunDied);
        Ok(true)
    }

    /// Deletes the oldest segments that runs cover, once every peer has them, they are too many, or the disk
    /// is full: then one after the other, until it is not.
    fn trim_log(&mut self, at: usize) -> Result<(), Fail> {
        let keep_bytes = self.scenario.keep_bytes;
        let site = &mut self.sites[at];
        let (Some(replica), Some(log)) = (&site.replica, &mut site.log) else { return Ok(()) };
        let (covers, acked) = (log.manifest.covers(), replica.acked_by_all());
        let mut bytes: usize = log.closed.iter().map(|segment| segment.end).sum();
        while let Some(oldest) = log.closed.first()
            && (oldest.last_lsn <= covers || canary::planted(Bug::TrimsUncovered))
            && (oldest.last_lsn <= acked || bytes > keep_bytes)
        {
            let oldest = log.closed.remove(0);
            bytes -= oldest.end;
            site.disk.unlink(&oldest.name)?;
            self.trace.event(self.heap.now_us(), "trimmed", &[at as u64, oldest.last_lsn]);
        }
        while log.reserve.refused
            && let Some(oldest) = log.closed.first().filter(|oldest| oldest.last_lsn <= covers).cloned()
        {
            log.closed.remove(0);
            site.disk.unlink(&oldest.name)?;
            self.trace.event(self.heap.now_us(), "given-back", &[at as u64, oldest.last_lsn]);
            self.goals.reach(Goal::LogGivenBack);
            log.reserve.fill(&mut site.disk)?;
        }
        Ok(())
    }

    fn plan_merge(&mut self, at: usize) -> Result<bool, Trouble> {
        let site = &mut self.sites[at];
        let Some(log) = &site.log else { return Ok(false) };
        let Some(sources) = Merging::plan(&log.manifest) else { return Ok(false) };
        let mut manifest = log.manifest.clone();
        let open = |entry: &RunEntry| {
            let name = entry.file_name();
            open_run(site.disk.read(&name).as_deref(), &name).map_err(|_| Trouble::GivenUp)
        };
        let runs = sources.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let sources = sources.into_iter().zip(runs).map(|(entry, (header, table))| (entry, header, table));
        let merging = Box::new(Merging::new(&mut manifest, sources.collect()));
        site.covering = Some(Covering::Merging(merging, Box::new(manifest), RunFiles::default()));
        Ok(true)
    }

    fn merge_runs(
        &mut self,
        at: usize,
        mut merging: Box<Merging>,
        mut manifest: Box<Manifest>,
        mut files: RunFiles,
    ) -> Result<bool, Trouble> {
        let site = &mut self.sites[at];
        let Some(log) = &mut site.log else { return Ok(false) };
        let mut pieces = Vec::new();
        let disk = &site.disk;
        let read = |source: &RunEntry, line: &crdt::snapshot::Group| {
            let run = disk.read(&source.file_name()).unwrap_or_default();
            let bytes = group(&run, line);
            if crc32c::crc32c(bytes) == line.crc { Ok(bytes.to_vec()) } else { Err(Trouble::GivenUp) }
        };
        let sink = |name: &str, bytes: &[u8]| {
            pieces.push((name.to_owned(), bytes.to_vec()));
            Ok(())
        };
        let more = match merging.step(read, sink) {
            Ok(more) => more,
            Err(trouble) => {
                files.remove(&mut site.disk)?;
                return Err(trouble);
            }
        };
        let disk = &mut site.disk;
        let mut written = pieces.iter().try_for_each(|(name, bytes)| files.append(disk, name, bytes));
        if !more && written.is_ok() {
            written = files.finish(disk);
        }
        if let Err(fail) = written {
            return given_up(&files, disk, fail);
        }
        if more {
            site.covering = Some(Covering::Merging(merging, manifest, files));
            return Ok(true);
        }
        let sources: Vec<String> = merging.sources().iter().map(RunEntry::file_name).collect();
        merging.finish(&mut manifest);
        write_manifest(disk, &manifest)?;
        log.manifest = *manifest;
        sources.iter().try_for_each(|name| disk.unlink(name))?;
        self.trace.event(self.heap.now_us(), "merged", &[at as u64, sources.len() as u64]);
        self.goals.reach(Goal::RunsMerged);
        Ok(true)
    }
}

/// What was begun is removed, unless the process ends here.
fn given_up(files: &RunFiles, disk: &mut Disk, fail: Fail) -> Result<bool, Trouble> {
    if fail != Fail::Cut {
        files.remove(disk)?;
    }
    Err(fail.into())
}

/// Replaces the manifest, durably; and keeps room for the next.
fn write_manifest(disk: &mut Disk, manifest: &Manifest) -> Result<(), Fail> {
    let file = match disk.open(MANIFEST_SPARE) {
        Some(spare) => spare,
        None => disk.create(MANIFEST_SPARE)?,
    };
    let bytes = manifest.encode();
    disk.write_at(file, 0, &bytes)?;
    disk.set_len(file, bytes.len())?;
    disk.sync(file)?;
    disk.rename(MANIFEST_SPARE, MANIFEST)?;
    disk.sync_folder()?;
    spare_manifest(disk)
}

/// Allocates the next manifest's room, if it is not there and there is any.
pub(super) fn spare_manifest(disk: &mut Disk) -> Result<(), Fail> {
    let file = match disk.open(MANIFEST_SPARE) {
        Some(spare) => spare,
        None => disk.create(MANIFEST_SPARE)?,
    };
    match disk.allocate(file, MANIFEST_SPARE_BYTES) {
        Err(Fail::Cut) => Err(Fail::Cut),
        _ => Ok(()),
    }
}
