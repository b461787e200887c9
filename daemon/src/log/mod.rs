//! The log on disk (S6): one writer at a time, one sync at a time, for whoever waits first.
//!
//! The first thread whose reply depends on the log takes everything that has gathered, writes it with
//! one `pwrite`, and where its reply asks for it syncs it with one `fdatasync`; the others find their
//! records written when they get the lock. So the group forms by itself, and a lone caller pays no
//! hand-off. Two locks: a write never waits for somebody else's sync.
//!
//! An error of the disk is final (fsyncgate): from then on nothing is acknowledged, and the process
//! ends. What formats mean is `crdt::journal`'s to say, what they add up to `crdt::recovery`'s.

mod files;
mod keeper;
mod open;
mod read;

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

use crdt::journal::SegmentHeader;
use crdt::store::{Batch, Release, Store};
use tokio::sync::Notify;

pub use files::{ClosedSegment, SegmentFile};
pub use keeper::{Keeper, KeeperConfig};
pub use open::{OpenError, Opened, create_folder, open};
pub use read::ReadPlace;

/// The disk has failed: nothing may be acknowledged any more, and the process is about to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the log's disk has failed: nothing is acknowledged any more")]
pub struct LogFailed;

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
    /// Told after every write, where there are peers.
    moved: Option<Arc<Notify>>,
    keeper: Mutex<Option<Thread>>,
    segment_bytes: u64,
    folder: PathBuf,
}

/// The segment being written, and those before it.
#[derive(Debug)]
struct Writer {
    current: SegmentFile,
    /// Prepared ahead, so that nobody waits for its allocation.
    next: Option<SegmentFile>,
    closed: Vec<ClosedSegment>,
    header: SegmentHeader,
    spare: Vec<u8>,
}

impl Log {
    /// Reaches `release` by writing, and if need be syncing, everything that waits.
    pub fn flush(&self, release: &Release) -> Result<(), LogFailed> {
        let tail = self.store.tail();
        if tail.written() < release.written.max(release.synced) {
            let mut writer = self.lock_writer();
            if tail.written() < release.written.max(release.synced) {
                self.write_waiting(&mut writer)?;
            }
        }
        if tail.synced() < release.synced {
            self.sync(release.synced)?;
        }
        if self.failed.load(Ordering::Acquire) { Err(LogFailed) } else { Ok(()) }
    }

    /// Writes and syncs all that waits.
    pub fn flush_all(&self) -> Result<(), LogFailed> {
        let appended = self.store.tail().appended();
        self.flush(&Release { written: appended, synced: appended })
    }

    /// Asks the log's own thread to write what waits soon: for threads that must not block.
    pub fn kick(&self) {
        if let Some(keeper) = lock(&self.keeper).as_ref() {
            keeper.unpark();
        }
    }

    /// Whether the disk has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn write_waiting(&self, writer: &mut Writer) -> Result<(), LogFailed> {
        if self.has_failed() {
            return Err(LogFailed);
        }
        let spare = std::mem::take(&mut writer.spare);
        let Some(batch) = self.store.tail().take(spare) else { return Ok(()) };
        if let Err(error) = self.write_batch(writer, &batch) {
            return Err(self.fail("write to", &error));
        }
        if let Some(spare) = self.store.tail().mark_written(batch) {
            writer.spare = spare;
        }
        if let Some(moved) = &self.moved {
            moved.notify_one();
        }
        Ok(())
    }

    fn write_batch(&self, writer: &mut Writer, batch: &Batch) -> std::io::Result<()> {
        if writer.current.is_full_for(batch.bytes.len() as u64, self.segment_bytes) {
            self.rotate(writer, batch.first)?;
        }
        writer.current.append(batch)
    }

    /// Closes the current segment and begins the next one with record `first_lsn`.
    fn rotate(&self, writer: &mut Writer, first_lsn: u64) -> std::io::Result<()> {
        let header = SegmentHeader { first_lsn, created_ms: crate::driver::wall_ms(), ..writer.header };
        let prepared = match writer.next.take() {
            Some(prepared) => prepared,
            None => SegmentFile::prepare(&self.folder, self.segment_bytes)?,
        };
        let next = prepared.begin(&self.folder, &header)?;
        lock(&self.unsynced).push(next.file());
        let closed = std::mem::replace(&mut writer.current, next).close();
        writer.closed.push(closed);
        self.kick();
        Ok(())
    }

    fn sync(&self, wanted: u64) -> Result<(), LogFailed> {
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
                return Err(LogFailed);
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
    fn fail(&self, what: &str, error: &std::io::Error) -> LogFailed {
        if !self.failed.swap(true, Ordering::AcqRel) {
            tracing::error!(
                folder = %self.folder.display(), %error,
                "cannot {what} the log: no reply leaves any more and onced ends; free or replace the disk, then start it again"
            );
            self.kick();
        }
        LogFailed
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
