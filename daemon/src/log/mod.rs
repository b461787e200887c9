//! The log on disk (S6): one writer at a time, one sync at a time, for whoever waits first.
//!
//! The first thread whose reply depends on the log takes everything that has gathered, writes it with
//! one `pwrite`, and where its reply asks for it syncs it with one `fdatasync`; the others find their
//! records written when they get the lock. So the group forms by itself, and a lone caller pays no
//! hand-off. Two locks: a write never waits for somebody else's sync.
//!
//! An error of the disk is final (fsyncgate): from then on nothing is acknowledged, and the process
//! ends. A full disk is none: segments come from a reserve, what it still takes is reported to the store, and the
//! store lets nobody append more. Where a file system breaks its word and a write finds no room all the same, what
//! was taken waits in memory, unacknowledged, until there is. What formats mean is `crdt::journal`'s to say, what
//! they add up to `crdt::recovery`'s.

mod checkpoint;
mod files;
mod keeper;
mod load;
mod open;
mod read;
mod reserve;
mod walk;

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

use crdt::journal::{self, SegmentHeader};
use crdt::request::Reason;
use crdt::snapshot::Manifest;
use crdt::store::{Batch, Release, Store};
use tokio::sync::Notify;

pub use checkpoint::{CheckpointConfig, Checkpointer};
pub(crate) use checkpoint::{RunFiles, write_manifest};
pub(crate) use files::EXTENSION as SEGMENT_EXTENSION;
pub use files::{ClosedSegment, SegmentFile};
pub use keeper::{Keeper, KeeperConfig};
pub(crate) use load::{FromDisk, MANIFEST_NAME, RUN_EXTENSION, load};
pub use open::{OpenError, Opened, create_folder, open};
pub(crate) use open::{RESTORING_NAME, lock_folder, refuse_unfinished};
pub use read::ReadPlace;
pub use reserve::LogSizes;

use files::WriteError;
use reserve::{Refused, Reserve};

/// Why something is not as durable as it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LogError {
    /// The disk has failed: nothing may be acknowledged any more, and the process is about to end.
    #[error("the log's disk has failed: nothing is acknowledged any more")]
    Failed,
    /// There is no room now. What waits is kept, and written as soon as there is.
    #[error("the log's disk is full: free space on it")]
    Full,
}

/// See the module's text.
#[derive(Debug)]
pub struct Log {
    store: Arc<Store>,
    writer: Mutex<Writer>,
    /// Held during a sync.
    syncing: Mutex<()>,
    /// Files that may hold bytes which are not synced, oldest first; the last is being written.
    unsynced: Mutex<Vec<Arc<File>>>,
    failed: AtomicBool,
    /// A write has found no room: the keeper tries again, everybody else waits.
    stuck: AtomicBool,
    reserve: Reserve,
    /// Told after every write, where there are peers.
    moved: Option<Arc<Notify>>,
    keeper: Mutex<Option<Thread>>,
    /// What runs cover, as on disk.
    manifest: Mutex<Manifest>,
    /// Counters of the checkpoint thread.
    pub checkpoints: Checkpoints,
    checkpointer: Mutex<Option<Thread>>,
    folder: PathBuf,
}

/// Counters of the checkpoint thread.
#[derive(Debug, Default)]
pub struct Checkpoints {
    /// Checkpoints written since the start.
    pub written: AtomicU64,
    /// Checkpoints that have failed since the start; each is tried again.
    pub failed: AtomicU64,
}

/// The segment being written, and those before it.
#[derive(Debug)]
struct Writer {
    current: SegmentFile,
    closed: Vec<ClosedSegment>,
    header: SegmentHeader,
    spare: Vec<u8>,
    /// Taken from the tail and not written whole yet.
    under_way: Option<UnderWay>,
    /// A segment was begun since the store was last told of the room there is.
    rotated: bool,
}

/// A batch on its way to the disk; it may go to more than one segment.
#[derive(Debug)]
struct UnderWay {
    batch: Batch,
    /// How many of its bytes are written, and the first record behind them.
    written: usize,
    next_lsn: u64,
}

impl Log {
    /// Reaches `release` by writing, and if need be syncing, everything that waits.
    pub fn flush(&self, release: &Release) -> Result<(), LogError> {
        let tail = self.store.tail();
        let wanted = release.written.max(release.synced);
        let mut full = false;
        if tail.written() < wanted {
            match self.write_up_to(wanted) {
                Err(LogError::Full) => full = true,
                written => written?,
            }
        }
        // What is written is synced in time, although more of it waits for room.
        let synced = release.synced.min(tail.written());
        if tail.synced() < synced {
            self.sync(synced)?;
        }
        match () {
            () if self.has_failed() => Err(LogError::Failed),
            () if full => Err(LogError::Full),
            () => Ok(()),
        }
    }

    /// Writes and syncs all that waits.
    pub fn flush_all(&self) -> Result<(), LogError> {
        let appended = self.store.tail().appended();
        self.flush(&Release { written: appended, synced: appended })
    }

    /// Asks the log's own thread to write what waits soon: for threads that must not block.
    pub fn kick(&self) {
        if let Some(keeper) = lock(&self.keeper).as_ref() {
            keeper.unpark();
        }
    }

    /// The oldest whole segments, up to `count`, with records behind `lsn`.
    fn closed_after(&self, lsn: u64, count: usize) -> Vec<ClosedSegment> {
        let writer = self.lock_writer();
        writer.closed.iter().filter(|segment| segment.last_lsn > lsn).take(count).cloned().collect()
    }

    /// When the segment that holds record `lsn` was begun, Unix milliseconds.
    fn created_ms_of(&self, lsn: u64) -> u64 {
        let writer = self.lock_writer();
        let closed = writer.closed.iter().find(|segment| segment.last_lsn >= lsn);
        closed.map_or_else(|| writer.current.close().created_ms, |segment| segment.created_ms)
    }

    /// Takes the oldest whole segments out of the log as long as `forget` says so, which is told the bytes of
    /// all of them. Their files are the caller's to delete.
    fn forget_closed(&self, forget: impl Fn(&ClosedSegment, u64) -> bool) -> Vec<ClosedSegment> {
        let mut writer = self.lock_writer();
        let mut bytes: u64 = writer.closed.iter().map(|segment| segment.end).sum();
        let mut count = 0;
        while let Some(oldest) = writer.closed.get(count)
            && forget(oldest, bytes)
        {
            bytes -= oldest.end;
            count += 1;
        }
        writer.closed.drain(..count).collect()
    }

    /// Begins a new segment if the current one is older than `age_ms` and has records: what stands in it is
    /// covered, and dead runs can go, only once it is whole.
    fn rotate_aged(&self, now_ms: u64, age_ms: u64) -> Result<(), LogError> {
        let mut writer = self.lock_writer();
        let aged = now_ms.saturating_sub(writer.current.close().created_ms) > age_ms;
        if !aged || !writer.current.has_records() || writer.under_way.is_some() || self.is_stuck() {
            return Ok(());
        }
        if self.reserve.refused().is_some() {
            // What the current segment still takes is worth more on a full disk than its age.
            return Ok(());
        }
        let first_lsn = writer.current.close().last_lsn + 1;
        let header = SegmentHeader { first_lsn, ..writer.header };
        match self.begin_next(&[], header) {
            Ok(next) => {
                let closed = std::mem::replace(&mut writer.current, next).close();
                writer.closed.push(closed);
                self.report_room(&writer);
                Ok(())
            }
            // It can wait.
            Err(WriteError::NoRoom(_)) => Ok(()),
            Err(WriteError::Final { what, error }) => Err(self.fail(what, &error)),
        }
    }

    /// Wakes the checkpoint thread.
    fn wake_checkpointer(&self) {
        if let Some(thread) = lock(&self.checkpointer).as_ref() {
            thread.unpark();
        }
    }

    /// Whether the disk has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether a write has found no room and waits.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire)
    }

    fn write_up_to(&self, wanted: u64) -> Result<(), LogError> {
        if self.is_stuck() {
            return Err(LogError::Full);
        }
        let mut writer = self.lock_writer();
        while self.store.tail().written() < wanted && self.write_waiting(&mut writer)? {}
        Ok(())
    }

    /// Writes what has gathered; false when nothing has.
    fn write_waiting(&self, writer: &mut Writer) -> Result<bool, LogError> {
        if self.has_failed() {
            return Err(LogError::Failed);
        }
        if writer.under_way.is_none() {
            let spare = std::mem::take(&mut writer.spare);
            let Some(batch) = self.store.tail().take(spare) else { return Ok(false) };
            let next_lsn = batch.first;
            writer.under_way = Some(UnderWay { batch, written: 0, next_lsn });
        }
        let written = self.write_under_way(writer);
        if let Err(WriteError::Final { what, error }) = &written {
            return Err(self.fail(what, error));
        }
        if let Err(WriteError::NoRoom(error)) = written {
            if !self.stuck.swap(true, Ordering::AcqRel) {
                tracing::error!(
                    %error, "a write has found no room: what waits for it is answered once there is; free space"
                );
            }
            self.report_room(writer);
            return Err(LogError::Full);
        }
        self.stuck.store(false, Ordering::Release);
        let Some(UnderWay { batch, .. }) = writer.under_way.take() else { return Ok(true) };
        if let Some(spare) = self.store.tail().mark_written(batch) {
            writer.spare = spare;
        }
        if std::mem::take(&mut writer.rotated) {
            self.report_room(writer);
            self.kick();
            self.wake_checkpointer();
        }
        if let Some(moved) = &self.moved {
            moved.notify_one();
        }
        Ok(true)
    }

    /// Fills segment after segment with whole records. What is written stays so, whatever becomes of the rest.
    fn write_under_way(&self, writer: &mut Writer) -> Result<(), WriteError> {
        let Writer { current, closed, header, under_way: Some(under_way), rotated, .. } = writer else {
            return Ok(());
        };
        let UnderWay { batch, written, next_lsn } = under_way;
        while *written < batch.bytes.len() {
            let rest = &batch.bytes[*written..];
            let (mut bytes, mut records) = journal::fitting(rest, current.left() as usize);
            if records == 0 && current.has_records() {
                let next = self.begin_next(rest, SegmentHeader { first_lsn: *next_lsn, ..*header })?;
                closed.push(std::mem::replace(current, next).close());
                *rotated = true;
                continue;
            }
            if records == 0 {
                // Larger than a whole segment: its file grows.
                (bytes, records) = journal::first(rest);
            }
            current.append(&rest[..bytes], *next_lsn + records - 1)?;
            *written += bytes;
            *next_lsn += records;
        }
        Ok(())
    }

    /// Begins the segment for the records in `rest`.
    fn begin_next(&self, rest: &[u8], header: SegmentHeader) -> Result<SegmentFile, WriteError> {
        let header = SegmentHeader { created_ms: crate::driver::wall_ms(), ..header };
        let (first_bytes, _) = journal::first(rest);
        let Some(mut next) = self.reserve.take(first_bytes as u64) else {
            return Err(WriteError::NoRoom(std::io::ErrorKind::StorageFull.into()));
        };
        if let Err(error) = next.begin(&self.folder, &header) {
            self.reserve.put_back(next);
            return Err(error);
        }
        lock(&self.unsynced).push(next.file());
        Ok(next)
    }

    /// Whether the disk gave no more when it was last asked.
    fn is_full(&self) -> bool {
        self.reserve.refused() == Some(Refused::Full)
    }

    /// Tries to write what found no room, and to allocate what is missing ahead.
    pub(crate) fn make_room(&self) -> Result<(), LogError> {
        if !self.reserve.fill() && !self.is_stuck() {
            return Ok(());
        }
        let mut writer = self.lock_writer();
        if self.is_stuck() {
            match self.write_waiting(&mut writer) {
                Err(LogError::Full) => return Ok(()),
                written => written?,
            };
        }
        self.report_room(&writer);
        Ok(())
    }

    /// Tells the store what the files still take. The writer's lock is held: nothing is under way elsewhere.
    fn report_room(&self, writer: &Writer) {
        let refused = self.reserve.refused();
        if writer.under_way.is_some() {
            self.store.report_room([], true);
        } else {
            let lefts = std::iter::once(writer.current.left()).chain(self.reserve.lefts());
            self.store.report_room(lefts, self.is_full());
        }
        let trouble = matches!(refused, Some(Refused::Other(_)));
        if let (Some(Refused::Other(error)), false) =
            (refused, self.store.gate.is_closed_for(Reason::LogBehind))
        {
            tracing::error!(
                error, folder = %self.folder.display(),
                "cannot allocate a log segment: claims are refused until it can"
            );
        }
        self.store.gate.set(Reason::LogBehind, trouble);
    }

    fn sync(&self, wanted: u64) -> Result<(), LogError> {
        let _one_at_a_time = lock(&self.syncing);
        let tail = self.store.tail();
        if tail.synced() >= wanted {
            return Ok(());
        }
        // In this order: all records up to here are in these files.
        let upto = tail.written();
        let files = lock(&self.unsynced).clone();
        for file in &files {
            if self.has_failed() {
                return Err(LogError::Failed);
            }
            file.sync_data().map_err(|error| self.fail("sync", &error))?;
        }
        lock(&self.unsynced).retain(|file| {
            let synced = files.iter().any(|known| Arc::ptr_eq(known, file));
            let is_last = files.last().is_some_and(|last| Arc::ptr_eq(last, file));
            !synced || is_last
        });
        tail.mark_synced(upto);
        self.store.settle_ceiling();
        if let Some(moved) = &self.moved {
            moved.notify_one();
        }
        Ok(())
    }

    /// S6: never retried, because after a failed sync the kernel may have dropped the pages.
    fn fail(&self, what: &str, error: &std::io::Error) -> LogError {
        // First of all: whoever asks from here on is told that nothing may leave.
        self.store.tail().fail();
        if !self.failed.swap(true, Ordering::AcqRel) {
            tracing::error!(
                folder = %self.folder.display(), %error,
                "cannot {what} the log: no reply leaves any more and onced ends; check the disk and the kernel's \
                 messages about it, then start onced again: it recovers what the disk holds"
            );
            self.kick();
        }
        LogError::Failed
    }

    fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        lock(&self.writer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
