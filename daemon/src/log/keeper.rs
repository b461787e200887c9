//! The log's own thread: syncs what nobody waited for, keeps the clock's ceiling ahead, prepares the
//! next segment, deletes the dead ones, and sweeps the map.
//!
//! One thread for all of it, because on few cores background threads are what spoils the slowest
//! replies. It sleeps until the next sync is due or somebody kicks it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crdt::ids::{Cursor, RegionId};
use crdt::journal::{HEADER_BYTES, Record};
use crdt::policy::Durable;
use crdt::request::Reason;
use crdt::store::Release;

use super::files::SegmentFile;
use super::{Log, LogFailed, lock};
use crate::driver::wall_ms;
use crate::socket::Shared;

/// How often the ceiling, the next segment and the oldest segments are looked at.
const CHORES_EVERY: Duration = Duration::from_millis(250);
/// All shards are swept once in this time.
const SWEEP_ROUND: Duration = Duration::from_secs(10);

/// What the keeper needs besides the log.
#[derive(Debug)]
pub struct KeeperConfig {
    /// Longest time written bytes stay unsynced.
    pub sync_interval: Duration,
    /// Bound between wall clocks, in milliseconds.
    pub max_drift_ms: u64,
    /// The peers' cursors as the node last told them, for the records that a deletion carries on.
    pub cursors: Arc<std::sync::Mutex<BTreeMap<RegionId, Cursor>>>,
}

/// The running thread.
#[derive(Debug)]
pub struct Keeper {
    handle: std::thread::JoinHandle<()>,
    stop: Arc<AtomicBool>,
    log: Arc<Log>,
}

impl Keeper {
    /// Starts the thread. When the disk fails it calls `on_failure`, once.
    pub fn start(
        shared: Arc<Shared>,
        config: KeeperConfig,
        on_failure: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let log = Arc::clone(&shared.driver.log);
        let (thread_log, thread_stop) = (Arc::clone(&log), Arc::clone(&stop));
        let handle = std::thread::Builder::new().name("log".into()).spawn(move || {
            let mut rounds = Rounds { shared: &shared, log: &thread_log, config, next_shard: 0 };
            if rounds.run(&thread_stop).is_err() {
                on_failure();
            }
        })?;
        *lock(&log.keeper) = Some(handle.thread().clone());
        Ok(Self { handle, stop, log })
    }

    /// Ends the thread, writes all that waits and an orderly end, and syncs it.
    pub fn stop(self) -> Result<(), LogFailed> {
        self.stop.store(true, Ordering::Release);
        self.log.kick();
        let _ = self.handle.join();
        self.log.store.append_record(&Record::Stop, Durable::Always);
        self.log.flush_all()
    }
}

struct Rounds<'k> {
    shared: &'k Shared,
    log: &'k Log,
    config: KeeperConfig,
    next_shard: usize,
}

impl Rounds<'_> {
    fn run(&mut self, stop: &AtomicBool) -> Result<(), LogFailed> {
        let tail = self.log.store.tail();
        let mut synced_at = Instant::now();
        let mut chores_at = Instant::now() - CHORES_EVERY;
        while !stop.load(Ordering::Acquire) {
            if self.log.has_failed() {
                return Err(LogFailed);
            }
            // Kicked: somebody who must not block waits for the write, and perhaps for its sync.
            let appended = tail.appended();
            self.log.flush(&Release { written: appended, synced: tail.sync_wanted() })?;
            if synced_at.elapsed() >= self.config.sync_interval {
                self.log.flush(&Release { written: appended, synced: appended })?;
                synced_at = Instant::now();
                self.sweep();
            }
            // A rotation has kicked: the next segment is wanted before the one after it. Where there was no
            // room, the chores try again.
            if !self.log.store.gate.is_closed_for(Reason::LogBehind) {
                self.prepare_next();
            }
            if chores_at.elapsed() >= CHORES_EVERY {
                self.chores()?;
                chores_at = Instant::now();
            }
            std::thread::park_timeout(self.config.sync_interval.saturating_sub(synced_at.elapsed()));
        }
        Ok(())
    }

    fn chores(&mut self) -> Result<(), LogFailed> {
        if let Some(release) = self.log.store.extend_ceiling(wall_ms()) {
            self.log.flush(&release)?;
            self.log.store.settle_ceiling();
        }
        self.prepare_next();
        self.delete_dead()
    }

    /// The next segment is allocated before it is needed: when the disk is full, that is noticed while
    /// there is still room for completions (S6).
    fn prepare_next(&self) {
        if self.log.lock_writer().next.is_some() {
            return;
        }
        match SegmentFile::prepare(&self.log.folder, self.log.segment_bytes) {
            Ok(next) => {
                self.log.lock_writer().next = Some(next);
                self.log.store.gate.set(Reason::LogBehind, false);
            }
            Err(error) => {
                tracing::error!(%error, "cannot allocate the next log segment: new claims are refused until there is room");
                self.log.store.gate.set(Reason::LogBehind, true);
            }
        }
    }

    /// Deletes the oldest segments as long as everything in them is past its expiry.
    fn delete_dead(&self) -> Result<(), LogFailed> {
        loop {
            let oldest = self.log.lock_writer().closed.first().cloned();
            let now_ms = wall_ms();
            let Some(oldest) = oldest.filter(|s| now_ms > s.dies_at_ms + self.config.max_drift_ms) else {
                return Ok(());
            };
            let Ok(bytes) = std::fs::read(&oldest.path) else { return Ok(()) };
            let end = bytes.len().min(oldest.end as usize).max(HEADER_BYTES);
            let carried = self.log.store.carry(&bytes[HEADER_BYTES.min(end)..end], now_ms);
            let cursors = lock(&self.config.cursors).clone();
            self.log.store.append_prologue(&cursors, now_ms);
            self.log.flush_all()?;
            self.log.lock_writer().closed.remove(0);
            match std::fs::remove_file(&oldest.path) {
                Ok(()) => {
                    tracing::info!(path = %oldest.path.display(), carried, "a dead log segment is deleted");
                }
                Err(error) => {
                    tracing::warn!(path = %oldest.path.display(), %error, "cannot delete a dead segment");
                }
            }
        }
    }

    fn sweep(&mut self) {
        let shards = self.log.store.shards();
        let rounds = (SWEEP_ROUND.as_millis() / self.config.sync_interval.as_millis().max(1)).max(1) as usize;
        for _ in 0..shards.div_ceil(rounds) {
            self.log.store.sweep(self.next_shard, wall_ms());
            self.next_shard = (self.next_shard + 1) % shards;
        }
        self.shared.driver.wake_parked();
        self.shared.observe();
    }
}
