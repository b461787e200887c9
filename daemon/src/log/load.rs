//! Reading a data folder back (S6): manifest, runs, and the segments that the runs do not cover.
//!
//! The one way into a folder's content, for the daemon and for the commands that look at, save or mend
//! one. It changes nothing: what is to be cut or removed is said, and done by whoever starts from it.
//! Runs load shard by shard, segments by shares of their keys, on as many threads as there are cores.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crdt::journal::{HEADER_BYTES, SegmentHeader, synced_evidence};
use crdt::recovery::{Damage, Loaded, Recovery, RecoveryConfig, Share};
use crdt::snapshot::{Group, Manifest, RUN_HEADER_BYTES, RUN_TRAILER_BYTES, RunEntry, RunHeader, RunTable};

use super::files::{ClosedSegment, EXTENSION, segment_name};
use super::open::OpenError;

/// The file that names the runs.
pub(crate) const MANIFEST_NAME: &str = "checkpoint";
/// File name extension of runs.
pub(crate) const RUN_EXTENSION: &str = "run";
/// Threads that load, at most: beyond it the disk is what is waited for.
const THREADS_MAX: usize = 16;
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// What a folder holds.
#[derive(Debug)]
pub(crate) struct FromDisk {
    /// With everything put back; to be finished.
    pub(crate) recovery: Recovery,
    /// As on disk; of nothing where there is none.
    pub(crate) manifest: Manifest,
    /// All segments that count, oldest first.
    pub(crate) closed: Vec<ClosedSegment>,
    /// Segments to be cut to their records and synced.
    pub(crate) to_settle: Vec<ToSettle>,
    /// Files that are no part of it any more: unfinished, covered and unreadable, or behind a torn tail.
    pub(crate) leftovers: Vec<PathBuf>,
    /// Bytes of a torn tail.
    pub(crate) torn_bytes: usize,
}

/// A segment of an earlier start.
#[derive(Debug)]
pub(crate) struct ToSettle {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its size, in bytes.
    pub(crate) bytes: u64,
    /// From here on nothing says that it was synced, in bytes.
    pub(crate) unmarked: u64,
    /// Where its records end, in bytes.
    pub(crate) end: u64,
}

/// Reads `folder`. `progress` is told how many of how many bytes are read.
pub(crate) fn load(
    folder: &Path,
    config: RecoveryConfig,
    mut progress: impl FnMut(u64, u64),
) -> Result<FromDisk, OpenError> {
    let files = Files::list(folder)?;
    let manifest_path = folder.join(MANIFEST_NAME);
    let manifest_bytes = match fs::read(&manifest_path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(OpenError::Io { path: manifest_path, error }),
    };
    let keys_hint = manifest_bytes
        .as_ref()
        .and_then(|bytes| Manifest::decode(bytes).ok())
        .map_or(0, |manifest| manifest.runs.iter().map(|run| run.states as usize).sum());
    let mut recovery = Recovery::new(RecoveryConfig { keys_hint, ..config });
    let headers = files.headers()?;
    let manifest = manifest_of(&mut recovery, &manifest_path, manifest_bytes.as_deref(), &files, &headers)?;
    let covers = manifest.covers();
    files.check_names(&headers, &mut recovery)?;
    let uncovered = files.segments.len() - covered_count(&headers, covers);
    recovery.check_log(&folder.display().to_string(), uncovered)?;
    let segment_bytes: u64 = files.segments.iter().rev().take(uncovered).map(|(_, bytes)| bytes).sum();
    let total = manifest.run_bytes() + segment_bytes;
    let mut loading = Loading {
        folder,
        from_disk: FromDisk {
            recovery,
            manifest,
            closed: Vec::new(),
            to_settle: Vec::new(),
            leftovers: Vec::new(),
            torn_bytes: 0,
        },
        done: AtomicU64::new(0),
        progress: &mut |done| progress(done, total),
    };
    loading.runs()?;
    loading.covered(&files, &headers, uncovered);
    loading.segments(&files, &headers, uncovered)?;
    let mut from_disk = loading.from_disk;
    let runs = &from_disk.manifest.runs;
    let is_known = |path: &Path| runs.iter().any(|run| path.ends_with(run.file_name()));
    from_disk.leftovers.extend(files.runs.into_iter().map(|(path, _)| path).filter(|path| !is_known(path)));
    Ok(from_disk)
}

/// What the manifest says; where it is lost and everything is salvaged, that all runs count: they hold only what was
/// once true.
fn manifest_of(
    recovery: &mut Recovery,
    path: &Path,
    bytes: Option<&[u8]>,
    files: &Files,
    headers: &[Option<SegmentHeader>],
) -> Result<Manifest, OpenError> {
    let file = path.display().to_string();
    let nothing = recovery.manifest_of_all();
    let damage = match bytes {
        Some(bytes) => match recovery.manifest(&file, bytes) {
            Ok(found) => return Ok(found),
            Err(damage) => damage,
        },
        // Beside a whole log they are the first ones, of a checkpoint that did not come to its end.
        None if files.runs.is_empty() || is_whole(headers) && !recovery.salvages() => return Ok(nothing),
        None => Damage::NoManifest { file },
    };
    recovery.forgive(damage)?;
    let runs = files.runs.iter().filter_map(|(path, bytes)| entry_of(path, *bytes)).collect();
    Ok(Manifest { runs, ..nothing })
}

/// What stands in a folder, by kind, in order, with sizes.
#[derive(Debug)]
struct Files {
    segments: Vec<(PathBuf, u64)>,
    runs: Vec<(PathBuf, u64)>,
}

impl Files {
    fn list(folder: &Path) -> Result<Self, OpenError> {
        let io_error = |error| OpenError::Io { path: folder.to_owned(), error };
        let mut files = Self { segments: Vec::new(), runs: Vec::new() };
        for entry in fs::read_dir(folder).map_err(io_error)? {
            let path = entry.map_err(io_error)?.path();
            let kind = path.extension().and_then(|extension| extension.to_str());
            let into = match kind {
                Some(EXTENSION) => &mut files.segments,
                Some(RUN_EXTENSION) => &mut files.runs,
                _ => continue,
            };
            let bytes =
                fs::metadata(&path).map_err(|error| OpenError::Io { path: path.clone(), error })?.len();
            into.push((path, bytes));
        }
        files.segments.sort();
        files.runs.sort();
        Ok(files)
    }

    /// `None` where one is damaged. Another version's is refused, whether it is needed or not.
    fn headers(&self) -> Result<Vec<Option<SegmentHeader>>, OpenError> {
        let header = |(path, _): &(PathBuf, u64)| -> Result<Option<SegmentHeader>, OpenError> {
            let bytes = File::open(path).and_then(|file| read_range(&file, 0, HEADER_BYTES as u64));
            match SegmentHeader::decode(&bytes.map_err(|error| OpenError::Io { path: path.clone(), error })?)
            {
                Ok(header) => Ok(Some(header)),
                Err(error) if error.is_of_another_version() => {
                    Err(Damage::Header { file: path.display().to_string(), error }.into())
                }
                Err(_) => Ok(None),
            }
        };
        self.segments.iter().map(header).collect()
    }

    /// By their names segments are put in order; one that was renamed would be read in another order by the next start.
    fn check_names(
        &self,
        headers: &[Option<SegmentHeader>],
        recovery: &mut Recovery,
    ) -> Result<(), OpenError> {
        for ((path, _), header) in self.segments.iter().zip(headers) {
            let Some(header) = header else { continue };
            let expected = segment_name(header);
            if !path.ends_with(&expected) {
                recovery.forgive(Damage::Name { segment: path.display().to_string(), expected })?;
            }
        }
        Ok(())
    }
}

/// Whether the log still has its first record.
fn is_whole(headers: &[Option<SegmentHeader>]) -> bool {
    headers.first().is_some_and(|header| header.is_some_and(|header| header.first_lsn == 1))
}

/// How many of the oldest segments the runs cover. Only whole segments are covered, so one that begins with a
/// covered record is.
fn covered_count(headers: &[Option<SegmentHeader>], covers: u64) -> usize {
    let begins_covered = |header: &Option<SegmentHeader>| header.is_some_and(|h| h.first_lsn <= covers);
    headers.iter().rposition(begins_covered).map_or(0, |last| last + 1)
}

/// As the file's name says; for a folder whose manifest is lost.
fn entry_of(path: &Path, bytes: u64) -> Option<RunEntry> {
    let (number, class) = path.file_stem()?.to_str()?.split_once('-')?;
    let (number, class) = (number.parse().ok()?, class.parse().ok()?);
    Some(RunEntry { number, class, bytes, states: 0, dies_at_ms: u64::MAX })
}

fn read_range(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let len = len.min(file.metadata()?.len().saturating_sub(offset));
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// One run, opened: its table says where its groups are.
#[derive(Debug)]
pub(crate) struct RunFile {
    pub(crate) name: String,
    pub(crate) file: File,
    pub(crate) header: RunHeader,
    pub(crate) table: RunTable,
}

impl RunFile {
    /// Opens and checks all but the groups.
    pub(crate) fn open(folder: &Path, entry: &RunEntry) -> Result<Self, Damage> {
        let path = folder.join(entry.file_name());
        let name = path.display().to_string();
        let damage = |offset: u64| Damage::Run { run: name.clone(), offset };
        let file = File::open(&path).map_err(|_| damage(0))?;
        let bytes = file.metadata().map_err(|_| damage(0))?.len();
        let read = |offset, len| read_range(&file, offset, len).map_err(|_| damage(offset));
        let end = bytes.saturating_sub(RUN_TRAILER_BYTES as u64);
        let trailer = read(end, RUN_TRAILER_BYTES as u64)?;
        let table_at = RunTable::offset(&trailer, bytes).ok_or_else(|| damage(end))?;
        let table = read(table_at, bytes - table_at)?;
        let header = read(0, RUN_HEADER_BYTES as u64)?;
        let header =
            RunHeader::decode(&header).map_err(|error| Damage::Header { file: name.clone(), error })?;
        let table = RunTable::decode(&table, table_at).ok_or_else(|| damage(table_at))?;
        Ok(Self { name, file, header, table })
    }

    /// The bytes of one group, unchecked.
    pub(crate) fn group(&self, group: &Group) -> io::Result<Vec<u8>> {
        read_range(&self.file, group.offset, group.len)
    }
}

struct Loading<'l> {
    folder: &'l Path,
    from_disk: FromDisk,
    done: AtomicU64,
    progress: &'l mut dyn FnMut(u64),
}

impl Loading<'_> {
    fn runs(&mut self) -> Result<(), OpenError> {
        let recovery = &mut self.from_disk.recovery;
        let mut runs = Vec::new();
        for entry in &self.from_disk.manifest.runs {
            let run = RunFile::open(self.folder, entry);
            match run.and_then(|run| recovery.check_run(&run.name, &run.header).map(|()| run)) {
                Ok(run) => runs.push(run),
                Err(damage) => recovery.forgive(damage)?,
            }
        }
        // Shard by shard, so that a thread's map and records stay in its cache; conflicts last.
        let mut by_shard: BTreeMap<(bool, u32), Vec<(&RunFile, Group)>> = BTreeMap::new();
        for run in &runs {
            for group in &run.table.groups {
                let is_conflicts = group.shard >= run.header.shards;
                by_shard.entry((is_conflicts, group.shard)).or_default().push((run, *group));
            }
        }
        for conflicts in [false, true] {
            let work: Vec<_> =
                by_shard.iter().filter(|((last, _), _)| *last == conflicts).map(|(_, w)| w).collect();
            self.groups(&work)?;
        }
        Ok(())
    }

    fn groups(&mut self, work: &[&Vec<(&RunFile, Group)>]) -> Result<(), OpenError> {
        let (next, damages, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicBool::new(false));
        let (recovery, done) = (&self.from_disk.recovery, &self.done);
        let worker = || {
            let mut loaded = Loaded::default();
            while !failed.load(Ordering::Relaxed)
                && let Some(groups) = work.get(next.fetch_add(1, Ordering::Relaxed))
            {
                for (run, group) in groups.iter() {
                    let result = match run.group(group) {
                        Ok(bytes) => recovery.load_group(&run.name, &run.header, group, &bytes, &mut loaded),
                        Err(_) => Err(Damage::Run { run: run.name.clone(), offset: group.offset }),
                    };
                    if let Err(damage) = result {
                        failed.store(!recovery.salvages(), Ordering::Relaxed);
                        damages.lock().unwrap_or_else(PoisonError::into_inner).push(damage);
                    }
                    done.fetch_add(group.len, Ordering::Relaxed);
                }
            }
            loaded
        };
        let loaded = on_all_cores(work.len(), worker, done, self.progress);
        let recovery = &mut self.from_disk.recovery;
        loaded.into_iter().for_each(|loaded| recovery.absorb(loaded));
        for damage in damages.into_inner().unwrap_or_else(PoisonError::into_inner) {
            recovery.forgive(damage)?;
        }
        Ok(())
    }

    /// Segments that runs cover are kept for peers, and are nothing to start from.
    fn covered(&mut self, files: &Files, headers: &[Option<SegmentHeader>], uncovered: usize) {
        let covered = files.segments.len() - uncovered;
        for (at, (path, bytes)) in files.segments.iter().enumerate().take(covered) {
            let covers = self.from_disk.manifest.covers();
            let last_lsn = match headers.get(at + 1) {
                Some(next) => next.map(|next| next.first_lsn - 1),
                None => Some(covers),
            };
            let (Some(header), Some(last_lsn)) = (headers[at], last_lsn) else {
                // Nothing before a gap can be streamed.
                let older = self.from_disk.closed.drain(..).map(|segment| segment.path);
                self.from_disk.leftovers.extend(older);
                self.from_disk.leftovers.push(path.clone());
                continue;
            };
            self.from_disk.closed.push(ClosedSegment {
                path: path.clone(),
                first_lsn: header.first_lsn,
                last_lsn,
                created_ms: header.created_ms,
                end: *bytes,
            });
        }
        if let Some(first) = self.from_disk.closed.first() {
            self.from_disk.recovery.log_starts_at(first.first_lsn);
        }
    }

    fn segments(
        &mut self,
        files: &Files,
        headers: &[Option<SegmentHeader>],
        uncovered: usize,
    ) -> Result<(), OpenError> {
        let first = files.segments.len() - uncovered;
        let unreadable = headers.iter().skip(first).position(Option::is_none);
        if let Some(at) = unreadable.filter(|_| !self.from_disk.recovery.salvages()) {
            // Or else the segment before it would look cut short.
            let (path, _) = &files.segments[first + at];
            let content = fs::read(path).map_err(|error| OpenError::Io { path: path.clone(), error })?;
            self.from_disk.recovery.scan(&path.display().to_string(), &content, &[], || 0)?;
        }
        for (at, (path, bytes)) in files.segments.iter().enumerate().skip(first) {
            let content = fs::read(path).map_err(|error| OpenError::Io { path: path.clone(), error })?;
            let rest: Vec<SegmentHeader> = headers[at + 1..].iter().copied().flatten().collect();
            let tag = self.from_disk.recovery.mark_tag();
            let later = || {
                let evidence = |(path, _): &(PathBuf, u64)| {
                    synced_evidence(&fs::read(path).unwrap_or_default(), Some(tag))
                };
                files.segments[at + 1..].iter().map(evidence).max().unwrap_or(0)
            };
            let name = path.display().to_string();
            let scan = self.from_disk.recovery.scan(&name, &content, &rest, later)?;
            let recovery = &self.from_disk.recovery;
            let of = threads() as u32;
            let share = AtomicUsize::new(0);
            let worker = || {
                let index = share.fetch_add(1, Ordering::Relaxed) as u32;
                recovery.apply(&scan, &content, Share { index, of })
            };
            let loaded = on_all_cores(of as usize, worker, &self.done, self.progress);
            for loaded in loaded {
                self.from_disk.recovery.absorb(loaded?);
            }
            self.done.fetch_add(*bytes, Ordering::Relaxed);
            let report = scan.report;
            self.from_disk.torn_bytes += report.torn_bytes;
            if report.behind_tear {
                self.from_disk.leftovers.push(path.clone());
                continue;
            }
            let (unmarked, end) = (report.marked_end as u64, report.end as u64);
            self.from_disk.to_settle.push(ToSettle { path: path.clone(), bytes: *bytes, unmarked, end });
            self.from_disk.closed.push(ClosedSegment {
                path: path.clone(),
                first_lsn: report.header.first_lsn,
                last_lsn: report.last_lsn,
                created_ms: report.header.created_ms,
                end: report.end as u64,
            });
        }
        // A later segment may say so of all of an earlier one.
        let marked = self.from_disk.recovery.marked();
        let last_lsns = self.from_disk.closed.iter().rev().map(|segment| segment.last_lsn);
        for (settle, last_lsn) in self.from_disk.to_settle.iter_mut().rev().zip(last_lsns) {
            if last_lsn <= marked {
                settle.unmarked = settle.end;
            }
        }
        Ok(())
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}

/// Runs `worker` on every core, at most `jobs` times, and tells progress meanwhile.
fn on_all_cores<T: Send>(
    jobs: usize,
    worker: impl Fn() -> T + Sync,
    done: &AtomicU64,
    progress: &mut dyn FnMut(u64),
) -> Vec<T> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let count = threads().min(jobs);
    std::thread::scope(|scope| {
        let worker = &worker;
        for _ in 0..count {
            let sender = sender.clone();
            scope.spawn(move || sender.send(worker()));
        }
        drop(sender);
        let mut results = Vec::with_capacity(count);
        loop {
            match receiver.recv_timeout(PROGRESS_EVERY) {
                Ok(result) => results.push(result),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            }
            progress(done.load(Ordering::Relaxed));
        }
        results
    })
}
