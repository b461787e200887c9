//! Where decisions meet the world: the one replica of this process, and the one place that reads the
//! wall clock.
//!
//! Socket threads call the store directly; the mesh thread owns the node; the log thread writes what
//! nobody else has. They meet here: in the store, in the log's flush, and in the tickets of parked
//! duplicates. No decision is made here: those are `crdt`'s, where the simulator reaches them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crdt::store::{Release, Store, Ticket};
use tokio::sync::Notify;

use crate::log::{Log, LogError};

/// The wall clock, Unix milliseconds. Nothing else in the daemon's replica reads it.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// What all threads of the daemon share.
#[derive(Debug)]
pub struct Driver {
    /// The hot half.
    pub store: Arc<Store>,
    /// The log on disk.
    pub log: Arc<Log>,
    /// Told whenever more of the log may leave for peers, or a merge is durable.
    pub log_moved: Arc<Notify>,
    parked: Mutex<HashMap<Ticket, Arc<Notify>>>,
    next_ticket: AtomicU64,
}

impl Driver {
    /// Joins store and log.
    pub fn new(store: Arc<Store>, log: Arc<Log>, log_moved: Arc<Notify>) -> Self {
        Self { store, log, log_moved, parked: Mutex::default(), next_ticket: AtomicU64::new(1) }
    }

    /// Makes everything that `release` depends on durable, if it is not yet (INV-8): the caller leads
    /// the write, and the sync, of all that waits.
    pub fn reach(&self, release: &Release) -> Result<(), LogError> {
        if self.store.tail().may_release(release) {
            return Ok(());
        }
        self.log.flush(release)
    }

    /// A ticket for a connection that may park, and what will wake it.
    pub fn ticket(&self) -> (Ticket, Arc<Notify>) {
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let notify = Arc::new(Notify::new());
        self.lock().insert(ticket, Arc::clone(&notify));
        (ticket, notify)
    }

    /// The ticket's connection has ended, and waits for nothing.
    pub fn forget_ticket(&self, ticket: Ticket) {
        self.lock().remove(&ticket);
    }

    /// Wakes the connections whose keys have changed.
    pub fn wake_parked(&self) {
        let woken = self.store.take_woken();
        if woken.is_empty() {
            return;
        }
        let parked = self.lock();
        for notify in woken.iter().filter_map(|ticket| parked.get(ticket)) {
            notify.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Ticket, Arc<Notify>>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
