//! `onced backup save`: a consistent copy of a data folder whose daemon goes on.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crdt::ids::{Lsn, RegionId};
use crdt::journal::{HEADER_BYTES, MalformedHeader, SegmentHeader};
use crdt::snapshot::Manifest;

use super::about::FORMAT;
use super::copy::{Writing, at, copy_all, copy_records, reads_at};
use super::verify::verify;
use super::{ABOUT_NAME, ATTEMPTS_MAX, About, BackupError, Contents, FileEntry, Progress};
use crate::config::{Config, units};
use crate::dump;
use crate::log::{MANIFEST_NAME, SEGMENT_EXTENSION};

/// A write to the current segment may be under way: it is looked at again after so long.
const WRITE_WAIT: Duration = Duration::from_millis(50);
/// So often.
const WRITE_LOOKS_MAX: u32 = 4;

/// Saves the data folder of `config` to `folder`, which is empty or made. `verified`: it is read back and recovered in
/// memory, which takes as much of it as the daemon.
pub fn save(
    config: &Config,
    folder: &Path,
    verified: bool,
    now_ms: u64,
    progress: &mut Progress<'_>,
) -> Result<About, BackupError> {
    make_folder(folder)?;
    let mut attempt = 0;
    let mut about = loop {
        attempt += 1;
        match (Saving { config, folder, files: Vec::new() }).copy(now_ms, progress) {
            Ok(Some(about)) => break about,
            // What was copied of the state before is not part of this one.
            Ok(None) => clear(folder)?,
            Err(error) => {
                // A part is no backup, takes room on a disk that may be full, and would be in the way of the next.
                let _ = clear(folder);
                return Err(error);
            }
        }
        if attempt >= ATTEMPTS_MAX {
            return Err(BackupError::Moving);
        }
    };
    sync_folder(folder)?;
    if verified {
        about.contents = Some(verify(folder, &about, progress)?);
    }
    let path = folder.join(ABOUT_NAME);
    let write = || {
        let mut writing = Writing::new(&path)?;
        writing.write(&about.encode())?;
        writing.finish(ABOUT_NAME)
    };
    write().map_err(at(&path))?;
    sync_folder(folder)?;
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_folder(parent)?;
    }
    Ok(about)
}

fn make_folder(folder: &Path) -> Result<(), BackupError> {
    DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(at(folder))?;
    let mut entries = fs::read_dir(folder).map_err(at(folder))?;
    if entries.next().is_some() { Err(BackupError::NotEmpty(folder.to_owned())) } else { Ok(()) }
}

fn clear(folder: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        fs::remove_file(&path).map_err(at(&path))?;
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> Result<(), BackupError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

/// `None` where the file is gone.
fn open(path: &Path) -> Result<Option<File>, BackupError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BackupError::Io { path: path.to_owned(), error }),
    }
}

struct Saving<'s> {
    config: &'s Config,
    folder: &'s Path,
    files: Vec<FileEntry>,
}

/// A segment that is to be copied.
struct Segment {
    path: PathBuf,
    name: String,
    file: File,
    header: SegmentHeader,
}

impl Saving<'_> {
    /// Copies one state; `None` if the daemon has gone on to another one in a way that took files away.
    fn copy(mut self, now_ms: u64, progress: &mut Progress<'_>) -> Result<Option<About>, BackupError> {
        let data = &self.config.region.data_dir;
        let manifest = self.manifest()?;
        let covers = manifest.as_ref().map_or(0, Manifest::covers);
        let Some(segments) = segments(data, covers)? else { return Ok(None) };
        let Some(last) = segments.last().map(|segment| segment.header) else {
            return Err(BackupError::NoData(data.clone()));
        };
        let ours = self.config.region.id;
        if let Some(other) = segments.iter().find(|segment| segment.header.region != RegionId(ours)) {
            let theirs = other.header.region.0;
            return Err(BackupError::OtherRegion { file: other.name.clone(), theirs, ours });
        }
        let manifest = manifest.unwrap_or_else(|| {
            let (region, cluster) = (last.region, last.cluster);
            Manifest { region, cluster, next_run: 1, ..Manifest::default() }
        });
        let sizes = segments.iter().map(|segment| segment.file.metadata().map_or(0, |found| found.len()));
        let total = manifest.run_bytes() + sizes.sum::<u64>();
        let mut done = 0;
        let mut note = |bytes: u64| {
            done += bytes;
            progress(done, total);
        };
        for run in &manifest.runs {
            let (name, from) = (run.file_name(), data.join(run.file_name()));
            let Some(mut file) = open(&from)? else { return Ok(None) };
            let to = self.folder.join(&name);
            self.files.push(copy_all(&mut file, &to, &name, &mut note).map_err(at(&to))?);
        }
        let mut next_lsn = covers + 1;
        for (index, segment) in segments.iter().enumerate() {
            let end = segments.get(index + 1).map(|next| next.header.first_lsn);
            next_lsn = self.segment(segment, end, &mut note)?;
        }
        self.put_manifest(&Manifest { over: last.incarnation, ..manifest })?;
        let about = About {
            format: FORMAT,
            onced: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: now_ms,
            region_id: ours,
            region: self.config.region.name.clone(),
            cluster: self.config.cluster.name.clone(),
            cluster_digest: units::hex(&last.cluster),
            incarnation: last.incarnation.0,
            epoch: last.epoch.0,
            covers_lsn: covers,
            last_lsn: next_lsn - 1,
            contents: None::<Contents>,
            files: self.files,
        };
        Ok(Some(about))
    }

    fn manifest(&self) -> Result<Option<Manifest>, BackupError> {
        let path = self.config.region.data_dir.join(MANIFEST_NAME);
        match fs::read(&path) {
            Ok(bytes) => match Manifest::decode(&bytes) {
                Ok(manifest) => Ok(Some(manifest)),
                Err(error) => Err(BackupError::Manifest { file: path, error }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BackupError::Io { path, error }),
        }
    }

    /// Copies one segment up to before record `end`; says which record comes next.
    fn segment(
        &mut self,
        segment: &Segment,
        end: Option<Lsn>,
        note: &mut dyn FnMut(u64),
    ) -> Result<Lsn, BackupError> {
        let to = self.folder.join(&segment.name);
        for _ in 0..WRITE_LOOKS_MAX {
            let first = segment.header.first_lsn;
            let copy = copy_records(&segment.file, &to, &segment.name, first, end, note).map_err(at(&to))?;
            let whole = match end {
                Some(end) => copy.next_lsn == end,
                // A record that a write is in the middle of is none yet; nothing stands behind that. And what has
                // become whole since it was looked at is no damage: the log has gone on.
                None => {
                    reads_at(&segment.file, copy.entry.bytes)
                        || !dump::whole_behind(&segment.path, copy.entry.bytes).unwrap_or(false)
                }
            };
            if whole {
                self.files.push(copy.entry);
                return Ok(copy.next_lsn);
            }
            std::thread::sleep(WRITE_WAIT);
        }
        let offset = fs::metadata(&to).map_or(0, |found| found.len());
        Err(BackupError::Damaged { file: segment.path.clone(), offset })
    }

    fn put_manifest(&mut self, manifest: &Manifest) -> Result<(), BackupError> {
        let to = self.folder.join(MANIFEST_NAME);
        let write = || {
            let mut writing = Writing::new(&to)?;
            writing.write(&manifest.encode())?;
            writing.finish(MANIFEST_NAME)
        };
        self.files.push(write().map_err(at(&to))?);
        Ok(())
    }
}

/// The segments behind what runs cover, open, oldest first; `None` where one of them has gone.
fn segments(data: &Path, covers: Lsn) -> Result<Option<Vec<Segment>>, BackupError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(data).map_err(at(data))? {
        let path = entry.map_err(at(data))?.path();
        if path.extension().is_some_and(|extension| extension == SEGMENT_EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    let mut segments: Vec<Segment> = Vec::new();
    for path in paths {
        let Some(file) = open(&path)? else { return Ok(None) };
        let mut bytes = [0; HEADER_BYTES];
        let header = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => SegmentHeader::decode(&bytes),
            Err(_) => Err(MalformedHeader::Magic),
        };
        let header = header.map_err(|error| BackupError::Header { file: path.clone(), error })?;
        // What begins before is covered, whole segments at a time.
        if header.first_lsn > covers {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            segments.push(Segment { path, name, file, header });
        }
    }
    let follows = segments.first().is_none_or(|first| covers == 0 || first.header.first_lsn == covers + 1);
    Ok(follows.then_some(segments))
}
