//! Room on disk that the log already has: files allocated ahead, so that a full disk stops claims and nothing else
//! (S6).
//!
//! The log takes its next segment from here. As long as the disk gives more, one segment beyond the reserve is kept
//! ready, and what is taken is replaced; the reserve itself is used only when the disk refuses. It survives the
//! process: a start takes over the files it finds, so that a daemon can start on a disk without a free byte.
//!
//! ```text
//! prepare-N.tmp   being allocated: removed by the next start
//! reserve-N.tmp   allocated whole, zeros, ready to become a segment
//! ```
//! `fallocate` makes the promise where the file system keeps it (ext4, XFS, tmpfs); where there is none, zeros are
//! written and synced. A file system that copies on write (ZFS, some network ones) can promise nothing: there a write
//! may still find no room, and waits (see `Log`).
//!
//! Must never: be needed while the disk has room, or count a file that is not allocated whole.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::files::{SegmentFile, is_no_room};
use super::lock;

/// Smallest file of the reserve, in bytes: what is left of a nearly full disk is taken in pieces down to this size.
const FILE_BYTES_MIN: u64 = 256 * 1024;
/// With less than this no start begins, in bytes: its header and prologue fit many times.
const START_BYTES_MIN: u64 = 64 * 1024;
const PREFIX: &str = "reserve-";
const SUFFIX: &str = ".tmp";

/// How much the log has on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogSizes {
    /// Size at which a segment is closed, in bytes.
    pub segment_bytes: u64,
    /// Kept allocated beyond the next segment, in bytes.
    pub reserve_bytes: u64,
}

/// Why the disk gives no more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// It is full, or a quota is.
    Full,
    /// Something else.
    Other(String),
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Reserve {
    folder: PathBuf,
    sizes: LogSizes,
    next_number: AtomicU64,
    files: Mutex<VecDeque<SegmentFile>>,
    refused: Mutex<Option<Refused>>,
    /// Held while files are allocated: two that fill at once would allocate too much.
    filling: Mutex<()>,
}

/// Whether a file of this name belongs to the reserve.
pub(super) fn is_reserve(path: &Path) -> bool {
    number_of(path).is_some()
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

impl Reserve {
    /// Takes over what an earlier process left, and fills up.
    pub(super) fn adopt(folder: &Path, sizes: LogSizes, mut left: Vec<PathBuf>) -> io::Result<Self> {
        left.sort_by_key(|path| number_of(path));
        let highest = left.iter().filter_map(|path| number_of(path)).max();
        let mut files = VecDeque::new();
        let mut bytes = 0;
        for path in left {
            let file = if bytes < target(&sizes) { SegmentFile::adopt(&path)? } else { None };
            match file {
                Some(file) => {
                    bytes += file.capacity();
                    files.push_back(file);
                }
                // Not allocated whole, or more than is configured now.
                None => fs::remove_file(&path)?,
            }
        }
        let reserve = Self {
            folder: folder.to_owned(),
            sizes,
            next_number: AtomicU64::new(highest.map_or(0, |highest| highest + 1)),
            files: Mutex::new(files),
            refused: Mutex::default(),
            filling: Mutex::default(),
        };
        reserve.fill();
        Ok(reserve)
    }

    /// Allocates what is missing, as far as the disk gives it; whether anything is other than before.
    pub(super) fn fill(&self) -> bool {
        let _one_at_a_time = lock(&self.filling);
        let bytes_before = self.bytes();
        let filled = loop {
            let bytes = self.bytes();
            if bytes >= target(&self.sizes) {
                break Ok(());
            }
            // Small pieces are good enough for the reserve; while the disk has room, segments are whole.
            match self.allocate(bytes < self.sizes.reserve_bytes) {
                Ok(file) => lock(&self.files).push_back(file),
                Err(error) => break Err(error),
            }
        };
        let refused = filled.err().map(|error| match is_no_room(&error) {
            true => Refused::Full,
            false => Refused::Other(error.to_string()),
        });
        let before = std::mem::replace(&mut *lock(&self.refused), refused.clone());
        before != refused || self.bytes() != bytes_before
    }

    /// A file for a segment that begins with a record of `bytes`; `None` when there is no more.
    pub(super) fn take(&self, bytes: u64) -> Option<SegmentFile> {
        if self.refused().is_none() && !self.can_spare() {
            // The keeper is behind: the reserve proper stays whole while the disk gives more.
            self.fill();
        }
        let mut files = lock(&self.files);
        let fits = files.iter().position(|file| file.left() >= bytes);
        // A record larger than all of them lets its file grow, if the disk still can.
        let at = fits.or_else(|| (0..files.len()).max_by_key(|at| files[*at].left()))?;
        files.remove(at)
    }

    /// A file for the segment that a start begins, however small.
    pub(super) fn take_first(&self) -> io::Result<SegmentFile> {
        if let Some(file) = lock(&self.files).pop_front() {
            return Ok(file);
        }
        self.allocate_bytes(START_BYTES_MIN)
    }

    /// What [`Reserve::take`] gave and could not be begun.
    pub(super) fn put_back(&self, file: SegmentFile) {
        lock(&self.files).push_front(file);
    }

    /// Why the disk gave no more when it was last asked, if it did not.
    pub(super) fn refused(&self) -> Option<Refused> {
        lock(&self.refused).clone()
    }

    /// What each file takes of records, in bytes.
    pub(super) fn lefts(&self) -> Vec<u64> {
        lock(&self.files).iter().map(SegmentFile::left).collect()
    }

    /// What all files take on disk, in bytes.
    fn bytes(&self) -> u64 {
        lock(&self.files).iter().map(SegmentFile::capacity).sum()
    }

    fn can_spare(&self) -> bool {
        let first = lock(&self.files).front().map_or(0, SegmentFile::capacity);
        self.bytes() >= self.sizes.reserve_bytes + first
    }

    fn allocate(&self, in_pieces: bool) -> io::Result<SegmentFile> {
        let mut bytes = self.sizes.segment_bytes;
        loop {
            match self.allocate_bytes(bytes) {
                Err(error) if is_no_room(&error) && in_pieces && bytes / 2 >= FILE_BYTES_MIN => bytes /= 2,
                allocated => return allocated,
            }
        }
    }

    fn allocate_bytes(&self, bytes: u64) -> io::Result<SegmentFile> {
        // Asked first: an attempt that fails halfway would for a moment take from others what is left.
        let disk = rustix::fs::statvfs(&self.folder)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let preparing = self.folder.join(format!("prepare-{number}{SUFFIX}"));
        let ready = self.folder.join(format!("{PREFIX}{number}{SUFFIX}"));
        let allocated = SegmentFile::allocate(&preparing, &ready, bytes);
        if allocated.is_err() {
            // It is of no use, and the next start removes what cannot be removed now.
            let _ = fs::remove_file(&preparing);
        }
        allocated
    }
}

/// What is kept allocated while the disk gives it: the reserve, and the next segment.
fn target(sizes: &LogSizes) -> u64 {
    sizes.reserve_bytes + sizes.segment_bytes
}
