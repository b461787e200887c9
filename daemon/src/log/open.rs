//! Opening the data folder: lock it, read its segments back, begin a new one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crdt::journal::{HEADER_BYTES, SegmentHeader};
use crdt::node::NodeMemory;
use crdt::recovery::{Damage, Recovered, Recovery, RecoveryConfig};
use crdt::store::Store;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::Notify;

use super::files::{ClosedSegment, EXTENSION, PREPARED_EXTENSION, SegmentFile};
use super::{Log, Writer};

const LOCK_NAME: &str = "lock";

/// Why a data folder cannot be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{0} is in use by another onced: two daemons on one data folder would corrupt it; stop the other one"
    )]
    Locked(PathBuf),
    /// The system refuses.
    #[error("{path}: {error}: check that the folder exists and belongs to the user onced runs as")]
    Io {
        /// What was being touched.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// No room for the segment that every start begins.
    #[error(
        "{path}: no room for a log segment of {bytes} bytes: free that much on its disk, or set a smaller [log] \
         segment_bytes"
    )]
    Full {
        /// The data folder.
        path: PathBuf,
        /// What is needed.
        bytes: u64,
    },
    /// The log is not fit to start from.
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// A data folder in use.
#[derive(Debug)]
pub struct Opened {
    /// The log, ready to be written.
    pub log: Arc<Log>,
    /// The store as the log tells it.
    pub store: Arc<Store>,
    /// For the node.
    pub memory: NodeMemory,
    /// The header of this start's first segment.
    pub header: SegmentHeader,
    /// Whether this start took a new incarnation.
    pub new_incarnation: bool,
    /// Records put back.
    pub records: u64,
    /// Bytes of a torn tail that were cut.
    pub torn_bytes: usize,
    /// Holds the folder's lock until the process ends.
    pub lock: File,
}

/// Opens `folder`. `progress` is told how many of how many bytes of log are read.
pub fn open(
    folder: &Path,
    config: RecoveryConfig,
    segment_bytes: u64,
    moved: Option<Arc<Notify>>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Opened, OpenError> {
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |error| OpenError::Io { path, error }
    };
    create_folder(folder)?;
    let lock = lock_folder(folder)?;
    let segments = segments(folder)?;
    let mut recovery = Recovery::new(config);
    let total: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
    let (mut done, mut closed, mut torn_bytes, mut ends) = (0, Vec::new(), 0, Vec::new());
    let headers = segments.iter().map(|(path, _)| read_header(path)).collect::<Result<Vec<_>, _>>()?;
    for (at, (path, bytes)) in segments.iter().enumerate() {
        progress(done, total);
        let content = fs::read(path).map_err(io_error(path))?;
        let name = path.display().to_string();
        let next = headers.get(at + 1).map(|header| SegmentHeader::decode(header));
        let next = next.transpose().ok().flatten();
        let report = recovery.segment(&name, &content, next.as_ref())?;
        torn_bytes += report.torn_bytes;
        ends.push(report.end as u64);
        closed.push(ClosedSegment {
            path: path.clone(),
            first_lsn: report.header.first_lsn,
            last_lsn: report.last_lsn,
            dies_at_ms: report.dies_at_ms,
            end: report.end as u64,
        });
        done += bytes;
    }
    progress(total, total);
    // Only now that all of them are good.
    for ((path, bytes), end) in segments.iter().zip(ends) {
        settle_segment(path, *bytes, end).map_err(io_error(path))?;
    }
    let Recovered { store, memory, header, new_incarnation, records } = recovery.finish();
    drop_empty(&mut closed, &header);
    let store = Arc::new(store);
    let current = SegmentFile::prepare(folder, segment_bytes)
        .and_then(|prepared| prepared.begin(folder, &header))
        .map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => OpenError::Full { path: folder.to_owned(), bytes: segment_bytes },
            _ => OpenError::Io { path: folder.to_owned(), error },
        })?;
    let log = Log {
        store: Arc::clone(&store),
        unsynced: Mutex::new(vec![current.file()]),
        writer: Mutex::new(Writer { current, next: None, closed, header, spare: Vec::new() }),
        syncing: Mutex::default(),
        failed: Default::default(),
        moved,
        keeper: Mutex::default(),
        segment_bytes,
        folder: folder.to_owned(),
    };
    Ok(Opened { log: Arc::new(log), store, memory, header, new_incarnation, records, torn_bytes, lock })
}

/// Makes the data folder, closed to others, if it is not there.
pub fn create_folder(folder: &Path) -> Result<(), OpenError> {
    let created = fs::DirBuilder::new().recursive(true).mode(0o750).create(folder);
    created.map_err(|error| OpenError::Io { path: folder.to_owned(), error })
}

fn lock_folder(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK_NAME);
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(|error| OpenError::Io { path, error })?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| OpenError::Locked(folder.to_owned()))?;
    Ok(file)
}

/// The segments in order, with their sizes.
fn segments(folder: &Path) -> Result<Vec<(PathBuf, u64)>, OpenError> {
    let io_error = |error| OpenError::Io { path: folder.to_owned(), error };
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error)? {
        let path = entry.map_err(io_error)?.path();
        if path.extension().is_some_and(|extension| extension == PREPARED_EXTENSION) {
            // Prepared by a process that is gone, and never begun: the folder's lock is ours.
            fs::remove_file(&path).map_err(|error| OpenError::Io { path, error })?;
            continue;
        }
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            let bytes =
                fs::metadata(&path).map_err(|error| OpenError::Io { path: path.clone(), error })?.len();
            segments.push((path, bytes));
        }
    }
    segments.sort();
    Ok(segments)
}

/// Cuts a segment of an earlier start to its records, a torn tail included, and syncs it. A daemon that is
/// restarted again and again would otherwise leave a whole preallocated segment behind each time. And what a
/// killed process had written may be in the kernel's cache only: from now on it counts as synced, and a newer
/// segment will stand behind it.
fn settle_segment(path: &Path, bytes: u64, end: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    if end < bytes {
        file.set_len(end)?;
    }
    file.sync_all()
}

fn read_header(path: &Path) -> Result<Vec<u8>, OpenError> {
    use std::io::Read;
    let mut header = Vec::with_capacity(HEADER_BYTES);
    File::open(path)
        .and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut header))
        .map_err(|error| OpenError::Io { path: path.to_owned(), error })?;
    Ok(header)
}

/// A start that wrote nothing leaves a segment without records: its number is this start's too.
fn drop_empty(closed: &mut Vec<ClosedSegment>, header: &SegmentHeader) {
    closed.retain(|segment| {
        let empty = segment.first_lsn == header.first_lsn && segment.last_lsn < segment.first_lsn;
        if empty && let Err(error) = fs::remove_file(&segment.path) {
            tracing::warn!(path = %segment.path.display(), %error, "cannot remove an empty segment");
        }
        !empty
    });
}
