//! Opening the data folder: lock it, read its segments back, begin a new one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crdt::journal::SegmentHeader;
use crdt::node::NodeMemory;
use crdt::recovery::{Damage, Recovered, RecoveryConfig};
use crdt::store::Store;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::Notify;

use super::files::{ClosedSegment, PREPARED_EXTENSION, SegmentFile, is_no_room};
use super::load::{FromDisk, ToSettle, load};
use super::reserve::{self, LogSizes, Reserve};
use super::{Log, WriteError, Writer};

const LOCK_NAME: &str = "lock";
/// Bytes that are written again at once.
const REWRITE_BYTES: u64 = 1 << 20;
/// Stands in a folder while a backup is restored into it.
pub(crate) const RESTORING_NAME: &str = "restoring";

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
    /// No room for the segment that every start begins, and no reserve left.
    #[error(
        "{0}: its disk is full and the log's reserve is used up: free some space on it (64 KiB let onced start and \
         answer reads, [log] segment_bytes and reserve_bytes let it grant claims)"
    )]
    Full(PathBuf),
    /// A restore into it has not come to its end.
    #[error(
        "{0}: a backup was being restored into this folder, and that did not come to its end: run the same onced backup \
         restore again"
    )]
    Restoring(PathBuf),
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
    sizes: LogSizes,
    moved: Option<Arc<Notify>>,
    progress: impl FnMut(u64, u64),
) -> Result<Opened, OpenError> {
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |error| OpenError::Io { path, error }
    };
    create_folder(folder)?;
    let lock = lock_folder(folder)?;
    refuse_unfinished(folder)?;
    let FromDisk { recovery, manifest, mut closed, to_settle, leftovers, torn_bytes } =
        load(folder, config, progress)?;
    // Only now that all of it is good.
    for segment in &to_settle {
        settle_segment(segment).map_err(io_error(&segment.path))?;
    }
    for path in &leftovers {
        fs::remove_file(path).map_err(io_error(path))?;
    }
    if !leftovers.is_empty() {
        // What stood behind a torn tail must not come back beside the segment that takes its place.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error(folder))?;
    }
    let left = reserve_files(folder)?;
    let Recovered { store, memory, header, new_incarnation, records } = recovery.finish();
    let store = Arc::new(store);
    let (reserve, current) = begin(folder, sizes, left, &header)?;
    drop_empty(&mut closed, &header);
    let log = Log {
        store: Arc::clone(&store),
        unsynced: Mutex::new(vec![current.file()]),
        writer: Mutex::new(Writer {
            current,
            closed,
            header,
            spare: Vec::new(),
            under_way: None,
            rotated: false,
        }),
        syncing: Mutex::default(),
        failed: Default::default(),
        stuck: Default::default(),
        reserve,
        moved,
        keeper: Mutex::default(),
        manifest: Mutex::new(manifest),
        checkpoints: Default::default(),
        checkpointer: Mutex::default(),
        folder: folder.to_owned(),
    };
    log.report_room(&log.lock_writer());
    Ok(Opened { log: Arc::new(log), store, memory, header, new_incarnation, records, torn_bytes, lock })
}

/// Takes over the reserve and begins this start's segment from it, so that a full disk prevents no start.
fn begin(
    folder: &Path,
    sizes: LogSizes,
    left: Vec<PathBuf>,
    header: &SegmentHeader,
) -> Result<(Reserve, SegmentFile), OpenError> {
    let failed = |error: io::Error| match is_no_room(&error) {
        true => OpenError::Full(folder.to_owned()),
        false => OpenError::Io { path: folder.to_owned(), error },
    };
    super::checkpoint::spare_manifest(folder);
    let reserve = Reserve::adopt(folder, sizes, left).map_err(failed)?;
    let mut current = reserve.take_first().map_err(failed)?;
    current.begin(folder, header).map_err(|error| match error {
        WriteError::NoRoom(error) | WriteError::Final { error, .. } => failed(error),
    })?;
    reserve.fill();
    Ok((reserve, current))
}

/// Makes the data folder, closed to others, if it is not there.
pub fn create_folder(folder: &Path) -> Result<(), OpenError> {
    let created = fs::DirBuilder::new().recursive(true).mode(0o750).create(folder);
    created.map_err(|error| OpenError::Io { path: folder.to_owned(), error })
}

/// Refuses a folder that holds a part of a backup only.
pub(crate) fn refuse_unfinished(folder: &Path) -> Result<(), OpenError> {
    let unfinished = folder.join(RESTORING_NAME).exists();
    if unfinished { Err(OpenError::Restoring(folder.to_owned())) } else { Ok(()) }
}

/// Locks the folder for this process; dropping the file gives it free.
pub(crate) fn lock_folder(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK_NAME);
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(|error| OpenError::Io { path, error })?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| OpenError::Locked(folder.to_owned()))?;
    Ok(file)
}

/// The reserve that an earlier process has left. What else it left unfinished is removed.
fn reserve_files(folder: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let io_error = |error| OpenError::Io { path: folder.to_owned(), error };
    let mut left = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error)? {
        let path = entry.map_err(io_error)?.path();
        if reserve::is_reserve(&path) {
            left.push(path);
        } else if path.extension().is_some_and(|extension| extension == PREPARED_EXTENSION) {
            // Prepared by a process that is gone, and never begun: the folder's lock is ours.
            fs::remove_file(&path).map_err(|error| OpenError::Io { path, error })?;
        }
    }
    Ok(left)
}

/// Cuts a segment of an earlier start to its records, a torn tail included, and syncs it. A daemon that is
/// restarted again and again would otherwise leave a whole preallocated segment behind each time. And what a
/// killed process had written may be in the kernel's cache only: from now on it counts as synced, and a newer
/// segment will stand behind it. After a sync that failed the kernel calls clean what the disk never got, and would
/// sync nothing: so what nothing says was synced is written once more, over itself.
fn settle_segment(segment: &ToSettle) -> io::Result<()> {
    let ToSettle { path, bytes, unmarked, end } = segment;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut piece = vec![0; REWRITE_BYTES.min(end.saturating_sub(*unmarked)) as usize];
    let mut at = *unmarked;
    while at < *end {
        let len = REWRITE_BYTES.min(end - at) as usize;
        file.read_exact_at(&mut piece[..len], at)?;
        file.write_all_at(&piece[..len], at)?;
        at += len as u64;
    }
    if end < bytes {
        file.set_len(*end)?;
    }
    file.sync_all()
}

/// A start that wrote nothing leaves a segment without records: its number is this start's too. Only once that has begun
/// its own: a log without any file is one from which somebody has removed them.
fn drop_empty(closed: &mut Vec<ClosedSegment>, header: &SegmentHeader) {
    closed.retain(|segment| {
        let empty = segment.first_lsn == header.first_lsn && segment.last_lsn < segment.first_lsn;
        if empty && let Err(error) = fs::remove_file(&segment.path) {
            tracing::warn!(path = %segment.path.display(), %error, "cannot remove an empty segment");
        }
        !empty
    });
}
