//! The log's own thread: syncs what nobody waited for, keeps the clock's ceiling and the reserve of segments
//! ahead, sweeps the map, and watches memory.
//!
//! One thread for all of it, because on few cores background threads are what spoils the slowest
//! replies. It sleeps until the next sync is due or somebody kicks it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crdt::store::{Release, Room, RoomState};

use super::{Log, LogError, lock};
use crate::driver::wall_ms;
use crate::memory::MemoryWatch;
use crate::socket::Shared;

/// How often the ceiling, the reserve and the age of the segment are looked at.
const CHORES_EVERY: Duration = Duration::from_millis(250);
/// All shards are swept once in this time.
const SWEEP_ROUND: Duration = Duration::from_secs(10);

/// A segment is closed at this age, in milliseconds, however little stands in it.
const ROTATE_AFTER_MS: u64 = 15 * 60 * 1000;

/// What the keeper needs besides the log.
#[derive(Debug)]
pub struct KeeperConfig {
    /// Longest time written bytes stay unsynced.
    pub sync_interval: Duration,
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
            let (said, memory) = (RoomState::Free, MemoryWatch::default());
            let mut rounds =
                Rounds { shared: &shared, log: &thread_log, config, next_shard: 0, said, memory };
            if rounds.run(&thread_stop).is_err() {
                on_failure();
            }
        })?;
        *lock(&log.keeper) = Some(handle.thread().clone());
        Ok(Self { handle, stop, log })
    }

    /// Ends the thread, writes all that waits and an orderly end, and syncs it.
    pub fn stop(self) -> Result<(), LogError> {
        self.stop.store(true, Ordering::Release);
        self.log.kick();
        let _ = self.handle.join();
        self.log.make_room()?;
        // A stop says that all before it is synced: it must not stand on the disk before that is so.
        self.log.flush_all()?;
        self.log.store.append_stop();
        self.log.flush_all()
    }
}

struct Rounds<'k> {
    shared: &'k Shared,
    log: &'k Log,
    config: KeeperConfig,
    next_shard: usize,
    /// Who may still write, as the log last said.
    said: RoomState,
    memory: MemoryWatch,
}

/// A full disk ends no round: what waits is tried again.
fn patient(flushed: Result<(), LogError>) -> Result<(), LogError> {
    if flushed == Err(LogError::Full) { Ok(()) } else { flushed }
}

impl Rounds<'_> {
    fn run(&mut self, stop: &AtomicBool) -> Result<(), LogError> {
        let tail = self.log.store.tail();
        let mut synced_at = Instant::now();
        let mut chores_at = Instant::now() - CHORES_EVERY;
        while !stop.load(Ordering::Acquire) {
            if self.log.has_failed() {
                return Err(LogError::Failed);
            }
            // Kicked: somebody who must not block waits for the write, and perhaps for its sync.
            let appended = tail.appended();
            patient(self.log.flush(&Release { written: appended, synced: tail.sync_wanted() }))?;
            if synced_at.elapsed() >= self.config.sync_interval {
                // Counted from its beginning: what is written meanwhile is the next one's, and must not wait for an
                // interval after this one's end.
                synced_at = Instant::now();
                patient(self.log.flush(&Release { written: appended, synced: appended }))?;
                // What is synced is marked so, even if nothing else is written: damage is then no torn tail.
                tail.mark_idle();
                self.sweep();
            }
            // A rotation has kicked: the next segment is wanted before the one after it. Where there was no
            // room, the chores try again.
            if self.log.reserve.refused().is_none() {
                self.log.make_room()?;
            }
            self.tell_room();
            if chores_at.elapsed() >= CHORES_EVERY {
                self.chores()?;
                chores_at = Instant::now();
            }
            std::thread::park_timeout(self.config.sync_interval.saturating_sub(synced_at.elapsed()));
        }
        Ok(())
    }

    fn chores(&mut self) -> Result<(), LogError> {
        self.memory.look(&self.log.store);
        self.log.make_room()?;
        if let Some(release) = self.log.store.extend_ceiling(wall_ms()) {
            patient(self.log.flush(&release))?;
            self.log.store.settle_ceiling();
        }
        self.log.rotate_aged(wall_ms(), ROTATE_AFTER_MS)
    }

    /// A full disk is said aloud, and so is its end: once each.
    fn tell_room(&mut self) {
        let Room { state, bytes } = self.log.store.log_room();
        if state == self.said {
            return;
        }
        let (folder, left_bytes) = (self.log.folder.display(), bytes.unwrap_or_default());
        match state {
            RoomState::Free => tracing::info!(%folder, "the disk has room again: claims are granted"),
            RoomState::Reserve => tracing::error!(
                %folder, left_bytes,
                "the disk is full: claims answer UNAVAILABLE disk_full; completions, renewals, reads and replication \
                 go on from the reserve. Free space on it"
            ),
            RoomState::Exhausted => tracing::error!(
                %folder,
                "the disk is full and the reserve is used up: everything but reads answers UNAVAILABLE disk_full, \
                 and peers wait. Nothing is lost; free space on it"
            ),
        }
        let metrics = &self.shared.metrics;
        match (self.said, state) {
            (_, RoomState::Exhausted) => metrics.reserve_exhausted.increment(1),
            (RoomState::Free, RoomState::Reserve) => metrics.disk_full.increment(1),
            _ => {}
        }
        self.said = state;
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
