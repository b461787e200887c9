//! The hot half: the dedup map and everything an operation touches, shared by many threads, without
//! a queue and without a timer.
//!
//! ```text
//! index  DashMap<KeyHash, Slot>   which record; 16 bytes a key
//! sides  [Mutex<Side>]            the records themselves, waiters, what each shard's state waits for
//! tail   Mutex<..>                the log's end                 lock order: rules -> index -> side -> conflicts -> tail
//! ```
//! An operation takes one index shard, one side and, if it writes, the tail; it decodes the record,
//! decides, joins, packs, and appends the delta to the log under the shard's lock. The reply is
//! emitted at once into the caller's buffer and may leave when [`Tail::may_release`] says so.
//!
//! [`Store::merge`] is the only entrance for what peers send.
//!
//! Must never: hold a guard across input, await or a second look-up; answer from anything but the
//! joined entry; evict what is alive.

mod advance;
mod arena;
mod conflicts;
mod digests;
mod gate;
mod homes;
mod issue;
mod memory;
mod merge;
mod room;
mod run;
mod scan;
pub(crate) mod state;
mod sweep;
mod tail;

#[cfg(test)]
mod tests;

use dashmap::DashMap;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use advance::version_key;
use arena::{Arena, Slot};
pub use conflicts::{Compensated, ConflictCounts, ConflictPage, Fed, FeedAsk, FeedPage, FeedPosition};
pub(crate) use digests::Named;
pub use digests::{Item, Mismatch};
pub use gate::Gate;
pub use homes::Look;
pub use memory::{Memory, Pressure, QuotaUse};
pub use merge::{MergeRefused, Merged};
pub(crate) use merge::{Replayed, Visited};
pub use room::{Room, RoomState};
pub use run::{Ran, Scratch};
pub use scan::{Inspected, ScanPage, Scanned};
pub use tail::{Batch, Release, RingRead, Tail};

use crate::digest::{Cells, Digester};
use crate::entry::Entry;
use crate::hash::{ClusterKeys, IdentityBuild, KeyHash};
use crate::hlc::{Clock, Stamp};
use crate::ids::{Incarnation, Lsn, RegionId};
use crate::journal::MarkTag;
use crate::policy::Policies;

/// Names a parked duplicate to whoever parked it.
pub type Ticket = u64;

/// What a store is built for; fixed for its life.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// This region.
    pub region: RegionId,
    /// This life of its data.
    pub incarnation: Incarnation,
    /// The cluster's hash keys.
    pub keys: ClusterKeys,
    /// Bound between wall clocks, in milliseconds (S2).
    pub max_drift_ms: u64,
    /// Shards of the map: a power of two, at least 2.
    pub shards: usize,
    /// New claims are refused when this many bytes are held (S6); see [`Memory`].
    pub max_memory_bytes: usize,
    /// Written log kept in memory for peers, in bytes; 0 where there are no peers.
    pub ring_bytes_max: usize,
}

/// One shard's records and what its readers must wait for.
#[derive(Debug, Default)]
struct Side {
    arena: Arena,
    watch: Watch,
}

/// What goes with a shard's records: what readers must wait for, who waits, and their sums.
#[derive(Debug, Default)]
struct Watch {
    /// The newest record of this shard's keys in the log, and the newest that is to be synced: what
    /// any reply that saw this shard waits for (S6).
    seen: Release,
    /// Ordered, because thousands may wait for one key, and each looks again now and then.
    waiters: BTreeSet<(KeyHash, Ticket)>,
    /// Changed with every record, under the same lock (INV-13).
    cells: Cells,
    /// No key of this shard has parts that all die sooner; a sweep before that finds nothing. Unix milliseconds.
    dies_first_ms: u64,
}

impl Watch {
    /// The entry of the key with this hash has changed.
    fn changed(&mut self, digester: &Digester, hash: KeyHash, old: &Entry<'_>, new: &Entry<'_>) {
        self.cells.update(digester, hash, old, new);
        if !new.is_empty() {
            self.dies_first_ms = self.dies_first_ms.min(new.parts_die_at_ms());
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Store {
    config: StoreConfig,
    index: DashMap<KeyHash, Slot, IdentityBuild>,
    sides: Box<[Mutex<Side>]>,
    digester: Digester,
    clock: Clock,
    tail: Tail,
    rules: RwLock<memory::Rules>,
    conflicts: conflicts::Conflicts,
    /// What refuses claims (S4.1, first row).
    pub gate: Gate,
    room: room::LogRoom,
    books: memory::Books,
    homes: homes::Homes,
    waiters: AtomicUsize,
    woken: Mutex<Vec<Ticket>>,
    woken_any: AtomicUsize,
    /// Durable ceiling of the clock, Unix milliseconds; and the one on its way to disk.
    ceiling_ms: AtomicU64,
    ceiling_pending: Mutex<gate::PendingCeiling>,
    /// Nothing is granted before the wall clock says so: a former life of this data may have issued
    /// stamps up to here (S6).
    grants_from_ms: u64,
}

impl Store {
    /// An empty store whose clock starts above `floor` and whose next log record is `next_lsn`.
    pub fn new(config: StoreConfig, policies: Policies, floor: Stamp, next_lsn: Lsn) -> Self {
        Self::with_capacity(config, policies, floor, next_lsn, 0)
    }

    /// As [`Store::new`], with an index that has room for about `keys` keys at once.
    pub(crate) fn with_capacity(
        config: StoreConfig,
        policies: Policies,
        floor: Stamp,
        next_lsn: Lsn,
        keys: usize,
    ) -> Self {
        assert!(config.shards.is_power_of_two() && config.shards >= 2, "shards: a power of two, >= 2");
        let hasher = IdentityBuild::default();
        let index = DashMap::with_capacity_and_hasher_and_shard_amount(keys, hasher, config.shards);
        let sides = (0..config.shards).map(|_| Mutex::default()).collect();
        let store = Self {
            index,
            sides,
            digester: Digester::new(&config.keys),
            clock: Clock::starting_after(floor),
            tail: Tail::new(next_lsn, config.ring_bytes_max, MarkTag::new(&config.keys)),
            rules: RwLock::new(memory::Rules::new(policies)),
            conflicts: conflicts::Conflicts::default(),
            gate: Gate::default(),
            room: room::LogRoom::default(),
            books: memory::Books::default(),
            homes: homes::Homes::default(),
            waiters: AtomicUsize::new(0),
            woken: Mutex::default(),
            woken_any: AtomicUsize::new(0),
            ceiling_ms: AtomicU64::new(0),
            ceiling_pending: Mutex::default(),
            grants_from_ms: 0,
            config,
        };
        store.count_conflicts_as(&store.policies());
        store
    }

    /// After recovery, before anything else: the life that now begins.
    pub(crate) fn begin(&mut self, incarnation: Incarnation, next_lsn: Lsn, grants_from_ms: u64) {
        self.config.incarnation = incarnation;
        self.tail = Tail::new(next_lsn, self.config.ring_bytes_max, MarkTag::new(&self.config.keys));
        self.grants_from_ms = grants_from_ms;
        self.number_arrivals();
        self.measure();
    }

    /// What it was built for.
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// The log's end.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// The region's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The policies in force.
    pub fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.rules().policies)
    }

    /// Tickets whose keys have changed since the last call: their requests are to be run again.
    pub fn take_woken(&self) -> Vec<Ticket> {
        if self.woken_any.load(Ordering::Acquire) == 0 || self.woken_any.swap(0, Ordering::AcqRel) == 0 {
            return Vec::new();
        }
        std::mem::take(&mut *lock(&self.woken))
    }

    /// Forgets a parked ticket whose wait ended otherwise.
    pub fn unpark(&self, key: &[u8], ticket: Ticket) {
        let hash = self.config.keys.key_hash(key);
        let mut side = self.side(hash);
        if side.watch.waiters.remove(&(hash, ticket)) {
            self.waiters.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn wake(&self, watch: &mut Watch, hash: KeyHash) {
        if watch.waiters.is_empty() {
            return;
        }
        let mut of_key = watch.waiters.split_off(&(hash, Ticket::MIN));
        watch.waiters.append(&mut of_key.split_off(&(hash, Ticket::MAX)));
        let count = of_key.len();
        lock(&self.woken).extend(of_key.into_iter().map(|(_, ticket)| ticket));
        self.waiters.fetch_sub(count, Ordering::Relaxed);
        self.woken_any.fetch_add(count, Ordering::AcqRel);
    }

    fn side(&self, hash: KeyHash) -> MutexGuard<'_, Side> {
        lock(&self.sides[self.shard_of(hash)])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
