//! One segment as a file: allocated ahead, begun, appended to, closed.
//!
//! Files are allocated whole before they are used (a third less time a sync, and no surprise on a full disk) and
//! named by their first record, so that a listing of the folder is the log in order.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crdt::journal::{HEADER_BYTES, SegmentHeader};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// File name extension of segments.
pub(crate) const EXTENSION: &str = "log";
/// File name extension of files that are no segments yet.
pub(super) const PREPARED_EXTENSION: &str = "tmp";
/// Zeros written at once where nothing else allocates, in bytes.
const ZEROS_BYTES: usize = 1 << 20;

/// Whether a disk, or a quota, is full: the only errors of a write that pass.
pub(super) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why something was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// There is no room now. What was there is untouched; the same may be tried again.
    NoRoom(io::Error),
    /// The disk has failed (S6): never tried again.
    Final {
        /// What was done, before "the log".
        what: &'static str,
        /// The system's word.
        error: io::Error,
    },
}

impl WriteError {
    fn of_write(error: io::Error) -> Self {
        if is_no_room(&error) { Self::NoRoom(error) } else { Self::Final { what: "write to", error } }
    }

    /// Of a sync every error is final, a full disk too: what the kernel then drops nobody knows.
    fn of_sync(error: io::Error) -> Self {
        Self::Final { what: "sync", error }
    }
}

/// A segment that is written, or prepared to be.
#[derive(Debug)]
pub struct SegmentFile {
    file: Arc<File>,
    path: PathBuf,
    /// Bytes that are allocated, and what of them is written.
    capacity: u64,
    len: u64,
    first_lsn: u64,
    last_lsn: u64,
    created_ms: u64,
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
    /// When it was begun, Unix milliseconds.
    pub created_ms: u64,
    /// Where its records end, in bytes.
    pub end: u64,
}

/// The name of the segment that begins with `first_lsn` in `epoch`: in the order of names stand the records.
pub(super) fn segment_name(header: &SegmentHeader) -> String {
    format!("{:020}-{:08}.{EXTENSION}", header.first_lsn, header.epoch.0)
}

impl SegmentFile {
    /// Allocates a file of `bytes` zeros at `preparing`, and names it `ready` when it is whole.
    pub(super) fn allocate(preparing: &Path, ready: &Path, bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(preparing)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(&file, bytes)?,
            Err(error) => return Err(error.into()),
        }
        std::fs::rename(preparing, ready)?;
        Ok(Self::prepared(file, ready, bytes))
    }

    /// A file that an earlier process allocated; `None` if it is not whole.
    pub(super) fn adopt(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().write(true).open(path)?;
        let bytes = file.metadata()?.len();
        if bytes <= HEADER_BYTES as u64 {
            return Ok(None);
        }
        // Changes nothing where it is allocated; a power loss may have taken that back.
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Some(Self::prepared(file, path, bytes))),
            Err(_) => Ok(None),
        }
    }

    fn prepared(file: File, path: &Path, capacity: u64) -> Self {
        let (file, path) = (Arc::new(file), path.to_owned());
        let len = HEADER_BYTES as u64;
        Self { file, path, capacity, len, first_lsn: 0, last_lsn: 0, created_ms: 0 }
    }

    /// Gives a prepared segment its header and its name; both are durable before a record is.
    pub(super) fn begin(&mut self, folder: &Path, header: &SegmentHeader) -> Result<(), WriteError> {
        self.file.write_all_at(&header.encode(), 0).map_err(WriteError::of_write)?;
        self.file.sync_data().map_err(WriteError::of_sync)?;
        let path = folder.join(segment_name(header));
        std::fs::rename(&self.path, &path).map_err(WriteError::of_write)?;
        self.path = path;
        self.first_lsn = header.first_lsn;
        self.last_lsn = header.first_lsn - 1;
        self.created_ms = header.created_ms;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(WriteError::of_sync)
    }

    /// Bytes that are allocated.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes of records that it still takes.
    pub(super) fn left(&self) -> u64 {
        self.capacity.saturating_sub(self.len)
    }

    /// Whether it has records.
    pub(super) fn has_records(&self) -> bool {
        self.last_lsn >= self.first_lsn
    }

    /// Appends records up to `last_lsn`; one that fails changes nothing that counts.
    pub(super) fn append(&mut self, records: &[u8], last_lsn: u64) -> Result<(), WriteError> {
        self.file.write_all_at(records, self.len).map_err(WriteError::of_write)?;
        self.len += records.len() as u64;
        self.last_lsn = last_lsn;
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
            created_ms: self.created_ms,
            end: self.len,
        }
    }
}

/// Makes room where the file system cannot allocate: a block that was written is there to be written again. Synced,
/// because a network's or a delaying file system says only then that it has none.
fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut at = 0;
    while at < bytes {
        let len = (bytes - at).min(ZEROS_BYTES as u64);
        file.write_all_at(&zeros[..len as usize], at)?;
        at += len;
    }
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn zeros_take_room_where_nothing_else_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        let file = File::create(&path).expect("writable");
        let bytes = ZEROS_BYTES as u64 + 12_345;
        write_zeros(&file, bytes).expect("room");
        let found = std::fs::metadata(&path).expect("there");
        assert_eq!(found.len(), bytes);
        assert!(found.blocks() * 512 >= bytes, "{} blocks", found.blocks());
    }

    #[test]
    fn only_a_full_disk_passes() {
        for (errno, passes) in
            [(Errno::NOSPC, true), (Errno::DQUOT, true), (Errno::IO, false), (Errno::ROFS, false)]
        {
            assert_eq!(is_no_room(&errno.into()), passes, "{errno}");
            assert_eq!(matches!(WriteError::of_write(errno.into()), WriteError::NoRoom(_)), passes);
            assert!(matches!(WriteError::of_sync(errno.into()), WriteError::Final { .. }), "{errno}");
        }
    }
}
