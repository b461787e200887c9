//! One segment as a file: prepared ahead, begun, appended to, closed.
//!
//! Files are allocated whole before they are used (a third less time a sync) and named by their first
//! record, so that a listing of the folder is the log in order.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crdt::journal::{HEADER_BYTES, SegmentHeader};
use crdt::store::Batch;
use rustix::fs::{FallocateFlags, fallocate};

/// File name extension of segments.
pub(super) const EXTENSION: &str = "log";
/// File name extension of segments that are prepared and have no name yet.
pub(super) const PREPARED_EXTENSION: &str = "tmp";
/// Numbers prepared files: the keeper and a rotating writer may prepare one at the same time.
static PREPARED: AtomicU64 = AtomicU64::new(0);

/// A segment that is written, or prepared to be.
#[derive(Debug)]
pub struct SegmentFile {
    file: Arc<File>,
    path: PathBuf,
    len: u64,
    first_lsn: u64,
    last_lsn: u64,
    dies_at_ms: u64,
}

/// A segment that is whole.
#[derive(Clone, Debug)]
pub struct ClosedSegment {
    /// Where it is.
    pub path: PathBuf,
    /// Its first record.
    pub first_lsn: u64,
    /// Its last record; less than the first where it has none.
    pub last_lsn: u64,
    /// When the last part in it may die, Unix milliseconds, `max_drift` to be added.
    pub dies_at_ms: u64,
    /// Where its records end, in bytes.
    pub end: u64,
}

/// The path of the segment that begins with `first_lsn` in `epoch`.
pub(super) fn segment_path(folder: &Path, header: &SegmentHeader) -> PathBuf {
    folder.join(format!("{:020}-{:08}.{EXTENSION}", header.first_lsn, header.epoch.0))
}

impl SegmentFile {
    /// Allocates the next segment under a name of its own.
    pub(super) fn prepare(folder: &Path, bytes: u64) -> io::Result<Self> {
        let number = PREPARED.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("next-{}-{number}.{PREPARED_EXTENSION}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // Not every file system can; the log then grows as it is written.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                return Err(error.into());
            }
        }
        Ok(Self { file: Arc::new(file), path, len: 0, first_lsn: 0, last_lsn: 0, dies_at_ms: 0 })
    }

    /// Gives a prepared segment its header and its name; both are durable before a record is.
    pub(super) fn begin(mut self, folder: &Path, header: &SegmentHeader) -> io::Result<Self> {
        self.file.write_all_at(&header.encode(), 0)?;
        self.len = HEADER_BYTES as u64;
        self.first_lsn = header.first_lsn;
        self.last_lsn = header.first_lsn - 1;
        let path = segment_path(folder, header);
        self.file.sync_data()?;
        std::fs::rename(&self.path, &path)?;
        File::open(folder)?.sync_all()?;
        self.path = path;
        Ok(self)
    }

    /// Whether `bytes` more would exceed the size at which a segment is closed.
    pub(super) fn is_full_for(&self, bytes: u64, segment_bytes: u64) -> bool {
        self.len + bytes > segment_bytes && self.len > HEADER_BYTES as u64
    }

    pub(super) fn append(&mut self, batch: &Batch) -> io::Result<()> {
        self.file.write_all_at(&batch.bytes, self.len)?;
        self.len += batch.bytes.len() as u64;
        self.last_lsn = batch.last;
        self.dies_at_ms = self.dies_at_ms.max(batch.dies_at_ms);
        Ok(())
    }

    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// What it is so far, as if it were closed now.
    pub(super) fn close(&self) -> ClosedSegment {
        ClosedSegment {
            path: self.path.clone(),
            first_lsn: self.first_lsn,
            last_lsn: self.last_lsn,
            dies_at_ms: self.dies_at_ms,
            end: self.len,
        }
    }
}
