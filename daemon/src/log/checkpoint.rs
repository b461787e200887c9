//! The checkpoint thread: covers closed segments with runs, deletes runs that are dead and segments that
//! nobody needs (S6).
//!
//! It works beside the socket, so it takes its time: it rests as long as it works, and syncs what it writes
//! in small pieces, because one large sync would hold up the log's own. Order is everything: runs are on
//! disk, then the log is synced up to its end (a run may hold what the log has only in memory), then the
//! manifest is replaced, and only then is anything deleted.
//!
//! On a full disk it gives back what it can: what is dead needs no room to go, because the next manifest's is
//! kept allocated; and covered segments go although a peer that is away lacks them (it is compared with).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crdt::journal::{HEADER_BYTES, SegmentHeader};
use crdt::limits;
use crdt::snapshot::{Checkpoint, Manifest, Merging};

use super::files::ClosedSegment;
use super::load::{MANIFEST_NAME, RunFile};
use super::walk::each_record;
use super::{Log, lock};
use crate::driver::wall_ms;
use crate::priority::yield_to_clients;

/// How often it looks whether there is something to do, besides when it is woken.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a failure (a full disk, most likely) it tries again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Segments that one checkpoint covers at most.
const SEGMENTS_AT_ONCE_MAX: usize = 4;
/// The next manifest's room.
const MANIFEST_SPARE_NAME: &str = "checkpoint.spare";
/// How much that is, in bytes: twice what a manifest of a thousand runs and all its epochs takes.
const MANIFEST_SPARE_BYTES: u64 = 256 * 1024;
/// Bytes of a run that are synced at once.
const SYNC_BYTES: usize = 1 << 20;
/// It rests after so much work: a client that comes in between waits no longer.
const WORK_SLICE: Duration = Duration::from_micros(250);

/// What the thread needs besides the log.
#[derive(Debug)]
pub struct CheckpointConfig {
    /// Bound between wall clocks, in milliseconds.
    pub max_drift_ms: u64,
    /// Segments that runs cover are kept for peers up to this many bytes.
    pub keep_bytes: u64,
    /// Our record up to which every peer has acknowledged everything.
    pub acked_by_all: Arc<AtomicU64>,
}

/// The running thread.
#[derive(Debug)]
pub struct Checkpointer {
    handle: std::thread::JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Checkpointer {
    /// Starts the thread.
    pub fn start(log: Arc<Log>, config: CheckpointConfig) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, shared_log) = (Arc::clone(&stop), Arc::clone(&log));
        let handle = std::thread::Builder::new().name("checkpoint".into()).spawn(move || {
            yield_to_clients();
            let mut rounds = Rounds { log: &log, config, pace: Pace::new(&stopped) };
            rounds.run();
        })?;
        *lock(&shared_log.checkpointer) = Some(handle.thread().clone());
        Ok(Self { handle, stop })
    }

    /// Ends the thread; a checkpoint under way is given up.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.handle.thread().unpark();
        let _ = self.handle.join();
    }
}

/// Rests as long as it has worked, and says when to stop. When it falls behind the log it rests less: what is not
/// covered, the next start replays.
struct Pace<'p> {
    stop: &'p AtomicBool,
    working_since: Instant,
    behind: bool,
}

impl<'p> Pace<'p> {
    fn new(stop: &'p AtomicBool) -> Self {
        Self { stop, working_since: Instant::now(), behind: false }
    }

    fn rest(&mut self) -> io::Result<()> {
        let worked = self.working_since.elapsed();
        if worked >= WORK_SLICE {
            std::thread::sleep(if self.behind { worked / 4 } else { worked });
            self.working_since = Instant::now();
        }
        if self.stop.load(Ordering::Acquire) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

struct Rounds<'r> {
    log: &'r Log,
    config: CheckpointConfig,
    pace: Pace<'r>,
}

impl Rounds<'_> {
    fn run(&mut self) {
        while !self.pace.stop.load(Ordering::Acquire) {
            self.pace.working_since = Instant::now();
            let wait = match self.round() {
                Ok(true) => continue,
                Ok(false) => LOOK_EVERY,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
                Err(error) => {
                    tracing::warn!(%error, "a checkpoint has failed; it is tried again");
                    self.log.checkpoints.failed.fetch_add(1, Ordering::Relaxed);
                    lock(&self.log.manifest).skip_runs();
                    RETRY_AFTER
                }
            };
            std::thread::park_timeout(wait);
        }
    }

    /// Does the next thing; true if there may be more.
    fn round(&mut self) -> io::Result<bool> {
        if self.log.has_failed() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let dead = self.delete_dead()?;
        self.trim_log()?;
        let covers = lock(&self.log.manifest).covers();
        let closed = self.log.closed_after(covers, SEGMENTS_AT_ONCE_MAX);
        self.pace.behind = closed.len() == SEGMENTS_AT_ONCE_MAX;
        if !closed.is_empty() {
            self.cover(&closed)?;
            return Ok(true);
        }
        Ok(dead | self.merge()?)
    }

    fn cover(&mut self, closed: &[ClosedSegment]) -> io::Result<()> {
        let began = Instant::now();
        let store = &self.log.store;
        let mut checkpoint = Checkpoint::after(lock(&self.log.manifest).clone());
        for segment in closed {
            let file = File::open(&segment.path)?;
            let damaged = |what: String| {
                io::Error::other(format!("{} no longer reads back: {what}", segment.path.display()))
            };
            let header = read_header(&file).map_err(|error| damaged(error.to_string()))?;
            checkpoint.open(&header).map_err(|lsn| damaged(format!("record {lsn} was expected")))?;
            each_record(&file, HEADER_BYTES as u64, segment.end, |body| {
                checkpoint.record(store, body).map_err(|error| damaged(error.to_string()))?;
                self.pace.rest()
            })?;
            if checkpoint.next_lsn() != segment.last_lsn + 1 {
                return Err(damaged(format!("it ends before record {}", segment.last_lsn)));
            }
        }
        let mut writing = checkpoint.write(store, wall_ms());
        let mut files = RunFiles::new(&self.log.folder);
        while writing.step(store, |name, bytes| files.append(name, bytes, &mut self.pace))? {
            self.pace.rest()?;
        }
        let bytes = files.finish()?;
        // A run may hold what the log has only in memory: without this, a crash would leave a state that no
        // peer is ever sent.
        self.log.flush_all().map_err(io::Error::other)?;
        let manifest = writing.finish();
        let runs = manifest.runs.len();
        self.commit(manifest)?;
        for segment in closed {
            // The rest of what was allocated for it.
            let cut = OpenOptions::new().write(true).open(&segment.path).and_then(|f| f.set_len(segment.end));
            if let Err(error) = cut {
                tracing::warn!(path = %segment.path.display(), %error, "cannot cut a covered segment");
            }
        }
        let taken_ms = began.elapsed().as_millis() as u64;
        self.log.checkpoints.written.fetch_add(1, Ordering::Relaxed);
        tracing::info!(segments = closed.len(), runs, bytes, taken_ms, "a checkpoint covers the oldest log");
        Ok(())
    }

    /// Deletes the runs in which everything is past its expiry.
    fn delete_dead(&mut self) -> io::Result<bool> {
        let now_ms = wall_ms();
        if self.log.store.distrusts_clock(now_ms) {
            return Ok(false);
        }
        let mut manifest = lock(&self.log.manifest).clone();
        let uncovered_from_ms = self.log.created_ms_of(manifest.covers() + 1);
        let margin_ms = self.config.max_drift_ms + limits::SWEEP_PASS_MS_MAX;
        let dead = manifest.take_dead(now_ms, margin_ms, uncovered_from_ms);
        if dead.is_empty() {
            return Ok(false);
        }
        self.commit(manifest)?;
        for run in &dead {
            remove(&self.log.folder.join(run.file_name()));
        }
        tracing::info!(runs = dead.len(), "dead runs are deleted");
        Ok(true)
    }

    /// Deletes the oldest segments that runs cover, once every peer has them, they are too many, or the disk is
    /// full: then one after the other, until it is not.
    fn trim_log(&self) -> io::Result<()> {
        let covers = lock(&self.log.manifest).covers();
        let acked = self.config.acked_by_all.load(Ordering::Acquire);
        let forget = |segment: &ClosedSegment, closed_bytes: u64| {
            segment.last_lsn <= covers && (segment.last_lsn <= acked || closed_bytes > self.config.keep_bytes)
        };
        self.log.forget_closed(forget).iter().for_each(|segment| remove(&segment.path));
        while self.log.is_full() {
            let first = std::cell::Cell::new(true);
            let removed =
                self.log.forget_closed(|oldest, _| first.replace(false) && oldest.last_lsn <= covers);
            let Some(segment) = removed.first() else { break };
            remove(&segment.path);
            tracing::warn!(
                path = %segment.path.display(),
                "the disk is full: a segment goes that a peer still lacks; it will be compared with, and given what it lacks"
            );
            self.log.make_room().map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Makes one of many small runs.
    fn merge(&mut self) -> io::Result<bool> {
        let mut manifest = lock(&self.log.manifest).clone();
        let Some(sources) = Merging::plan(&manifest) else { return Ok(false) };
        let open = |entry| RunFile::open(&self.log.folder, entry).map_err(io::Error::other);
        let runs = sources.iter().map(open).collect::<io::Result<Vec<RunFile>>>()?;
        let read = sources.iter().zip(&runs).map(|(entry, run)| (*entry, run.header, run.table.clone()));
        let mut merging = Merging::new(&mut manifest, read.collect());
        let mut files = RunFiles::new(&self.log.folder);
        let pace = &mut self.pace;
        loop {
            let read = |source: &crdt::snapshot::RunEntry, group: &crdt::snapshot::Group| {
                let at = sources.iter().position(|entry| entry.number == source.number);
                let run = &runs[at.expect("one of the sources")];
                let bytes = run.group(group)?;
                if !group.matches(&bytes) {
                    return Err(io::Error::other(format!("{} no longer reads back", run.name)));
                }
                Ok(bytes)
            };
            if !merging.step(read, |name, bytes| files.append(name, bytes, pace))? {
                break;
            }
            pace.rest()?;
        }
        files.finish()?;
        merging.finish(&mut manifest);
        self.commit(manifest)?;
        sources.iter().for_each(|run| remove(&self.log.folder.join(run.file_name())));
        tracing::info!(runs = sources.len(), "small runs are merged");
        Ok(true)
    }

    fn commit(&self, manifest: Manifest) -> io::Result<()> {
        write_manifest(&self.log.folder, &manifest)?;
        *lock(&self.log.manifest) = manifest;
        Ok(())
    }
}

/// Replaces the manifest of `folder`, durably.
pub(crate) fn write_manifest(folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let path = folder.join(MANIFEST_NAME);
    let spare = folder.join(MANIFEST_SPARE_NAME);
    // Written over, not made anew: its blocks are there even if the disk is full.
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o640).open(&spare);
    let mut file = open?;
    let bytes = manifest.encode();
    file.write_all(&bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    fs::rename(&spare, &path)?;
    File::open(folder)?.sync_all()?;
    // What the manifest before took is free now. Without a spare the next one needs a disk that has room.
    spare_manifest(folder);
    Ok(())
}

/// Allocates the next manifest's room, if it is not there.
pub(super) fn spare_manifest(folder: &Path) {
    let spare = folder.join(MANIFEST_SPARE_NAME);
    let allocated = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(&spare)
        .and_then(|file| {
            Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, MANIFEST_SPARE_BYTES)?)
        });
    if let Err(error) = allocated {
        tracing::debug!(path = %spare.display(), %error, "no room is kept for the next manifest");
    }
}

/// Run files that are being written. Those not finished are removed again.
#[derive(Debug)]
pub(crate) struct RunFiles<'f> {
    folder: &'f Path,
    files: BTreeMap<String, (File, PathBuf, usize)>,
    bytes: u64,
}

impl<'f> RunFiles<'f> {
    pub(crate) fn new(folder: &'f Path) -> Self {
        Self { folder, files: BTreeMap::new(), bytes: 0 }
    }

    fn append(&mut self, name: &str, bytes: &[u8], pace: &mut Pace<'_>) -> io::Result<()> {
        if self.append_unpaced(name, bytes)? {
            pace.rest()?;
        }
        Ok(())
    }

    /// Appends to the file of that name, made if it is new; true if it was synced.
    pub(crate) fn append_unpaced(&mut self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        if !self.files.contains_key(name) {
            let path = self.folder.join(name);
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&path)?;
            self.files.insert(name.to_owned(), (file, path, 0));
        }
        let Some((file, _, unsynced)) = self.files.get_mut(name) else { return Ok(false) };
        file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        *unsynced += bytes.len();
        let sync = *unsynced >= SYNC_BYTES;
        if sync {
            file.sync_data()?;
            *unsynced = 0;
        }
        Ok(sync)
    }

    /// Syncs all of them and their names; says how many bytes they are.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        for (file, _, _) in self.files.values() {
            file.sync_all()?;
        }
        File::open(self.folder)?.sync_all()?;
        self.files.clear();
        Ok(self.bytes)
    }
}

impl Drop for RunFiles<'_> {
    fn drop(&mut self) {
        self.files.values().for_each(|(_, path, _)| remove(path));
    }
}

fn read_header(file: &File) -> io::Result<SegmentHeader> {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0)?;
    SegmentHeader::decode(&bytes).map_err(io::Error::other)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot delete a file that is not needed any more");
    }
}
