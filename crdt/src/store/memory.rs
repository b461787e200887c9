//! What is held in memory, exactly, and what that refuses (S6, INV-14).
//!
//! Records are booked: what lives with every change, and what is held as a shard's arena takes pages and
//! boxes from the allocator and gives them back. Everything else (the index's tables, conflicts, waiters,
//! the log's buffers) is measured where it stands, by the driver a few times a second and by claims after
//! so many new keys.
//!
//! The bound is on what is *held*, not on what lives: free places in pages count, or fragments would let
//! the process grow past its bound. So a claim that fits into a free place may be granted even then, and
//! sparse pages are emptied by the sweep. Only claims that would be granted are refused: a duplicate is
//! still told the outcome, and completions, renewals, releases and what peers send are always taken,
//! because the work was done, and regions must hold the same.
//!
//! A namespace with `max_bytes` is refused by its own bounds only: what it has not used of them is kept
//! free for it, out of the reach of all others. So no service fills the memory of another one.
//!
//! Rejected: bounding the sum of live bytes alone (after small records have expired, pages hold several times
//! as much), an average for the index (its tables double, so that is off by a third), evicting (S6).
//!
//! Must never: refuse anything but a new grant; evict.

mod reload;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use super::arena::{Arena, Slot};
use super::{Side, Store, Ticket, lock};
use crate::hash::KeyHash;
use crate::limits;
use crate::policy::{Policies, Policy, Quota};
use crate::request::Reason;

/// What an entry of the index costs where its table is as full as it gets, in bytes: 16, a control byte, and
/// an eighth free.
const INDEX_BYTES_A_KEY_MIN: usize = 19;
/// What a key is charged for the index in its namespace's bytes: its part of a table that has just doubled.
pub(super) const INDEX_BYTES_A_KEY: usize = 40;
/// One entry of a table of the index with its control byte.
const INDEX_ENTRY_BYTES: usize = size_of::<(KeyHash, Slot)>() + 1;
/// What a shard costs before it holds anything: its lock and table, twice on a cache line of its own.
const SHARD_BYTES: usize = size_of::<std::sync::Mutex<Side>>() + 128;

/// The books of one store.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Keys remembered.
    keys: AtomicUsize,
    /// [`Arena::held`] of all shards.
    records: AtomicUsize,
    /// [`Arena::live`] of all shards.
    pub(super) live: AtomicUsize,
    /// The index's tables as last measured.
    index: AtomicUsize,
    /// Everything else as last measured.
    beside: AtomicUsize,
    /// The index is measured again when there are more keys than this.
    measure_above: AtomicUsize,
}

/// What a shard held and what lived in it before a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Booked {
    held: usize,
    live: usize,
}

/// The policies in force, and what namespaces with a quota have used of it.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) policies: Arc<Policies>,
    used: Box<[Used]>,
    /// Sum of all `max_bytes`.
    reserved: usize,
}

/// What one namespace has used; alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Used {
    keys: AtomicUsize,
    bytes: AtomicUsize,
}

/// What is held in memory, by its parts, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Pages and boxes of records, free places included.
    pub records_bytes: usize,
    /// Of [`Self::records_bytes`]: not used by any record.
    pub free_bytes: usize,
    /// The index's tables.
    pub index_bytes: usize,
    /// Listed conflicts.
    pub conflicts_bytes: usize,
    /// Parked duplicates.
    pub waiters_bytes: usize,
    /// Log that waits for its write, and log kept for peers.
    pub log_bytes: usize,
    /// Shards and their tables.
    pub tables_bytes: usize,
    /// Sum of the namespaces' `max_bytes`.
    pub reserved_bytes: usize,
    /// Of [`Self::reserved_bytes`]: not used yet, and kept free.
    pub unclaimed_bytes: usize,
    /// The bound.
    pub max_bytes: usize,
}

/// How close something is to its bound.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Pressure {
    /// Far from it.
    #[default]
    Calm,
    /// From 80 % on.
    Near,
    /// Reached: claims are refused.
    Full,
}

/// What one namespace with a quota has used of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuotaUse {
    /// The namespace; `None`: all those without a table.
    pub namespace: Option<Vec<u8>>,
    /// Keys remembered here.
    pub keys: usize,
    /// Bytes of their records and their part of the index.
    pub bytes: usize,
    /// The bound on keys.
    pub max_keys: Option<u64>,
    /// The bound on bytes.
    pub max_bytes: Option<u64>,
}

impl Pressure {
    /// The word in replies and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Near => "near",
            Self::Full => "full",
        }
    }

    /// What it is now that `used` of `max` is used: it eases only a good part below where it arose, so that
    /// a warning is one line and not a thousand.
    #[must_use]
    pub fn next(self, used: usize, max: usize) -> Self {
        let reaches = |percent| used as u128 * 100 >= max as u128 * percent as u128;
        if used >= max || (matches!(self, Self::Full) && reaches(limits::FULL_ENDS_PERCENT)) {
            return Self::Full;
        }
        let near = match self {
            Self::Calm => reaches(limits::NEAR_PERCENT),
            Self::Near | Self::Full => reaches(limits::NEAR_ENDS_PERCENT),
        };
        if near { Self::Near } else { Self::Calm }
    }
}

impl Memory {
    /// All of it.
    pub fn held_bytes(&self) -> usize {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }

    /// The parts that make up [`Self::held_bytes`], by name.
    pub const fn parts(&self) -> [(&'static str, usize); 6] {
        [
            ("records", self.records_bytes),
            ("index", self.index_bytes),
            ("conflicts", self.conflicts_bytes),
            ("waiters", self.waiters_bytes),
            ("log", self.log_bytes),
            ("tables", self.tables_bytes),
        ]
    }

    /// How close the bound is, for everybody and for those who share what is not reserved.
    #[must_use]
    pub fn pressure(&self, before: Pressure) -> Pressure {
        let held = self.held_bytes();
        let shared = held.saturating_sub(self.reserved_bytes - self.unclaimed_bytes);
        let share = self.max_bytes.saturating_sub(self.reserved_bytes);
        before.next(held, self.max_bytes).max(before.next(shared, share))
    }
}

impl QuotaUse {
    /// How close its nearer bound is.
    #[must_use]
    pub fn pressure(&self, before: Pressure) -> Pressure {
        let of = |used, max: Option<u64>| max.map_or(Pressure::Calm, |max| before.next(used, to_usize(max)));
        // A record fits whole or not at all: the last byte is hardly ever used.
        let max_bytes = self.max_bytes.map(|max| max - max / 100);
        of(self.keys, self.max_keys).max(of(self.bytes, max_bytes))
    }
}

impl Rules {
    pub(super) fn new(policies: Policies) -> Self {
        let used = policies.quotas().map(|_| Used::default()).collect();
        let reserved = policies.quotas().filter_map(|(_, policy)| policy.max_bytes).map(to_usize);
        let reserved = reserved.fold(0, usize::saturating_add);
        Self { used, reserved, policies: Arc::new(policies) }
    }

    /// The policy of `key`'s namespace, and where it is counted.
    pub(super) fn of_key(&self, key: &[u8]) -> (&Policy, Option<&Used>) {
        let (policy, quota) = self.policies.counted(key);
        (policy, quota.map(|quota: Quota| &self.used[quota]))
    }

    /// Bytes that are kept free for namespaces with `max_bytes`.
    fn unclaimed(&self) -> usize {
        let quotas = self.policies.quotas().zip(&self.used);
        let left = quotas.filter_map(|((_, policy), used)| {
            Some(to_usize(policy.max_bytes?).saturating_sub(used.bytes.load(Relaxed)))
        });
        left.sum()
    }
}

impl Used {
    fn book(&self, keys: isize, bytes: isize) {
        add(&self.bytes, bytes);
        add(&self.keys, keys);
    }

    fn exceeds(&self, policy: &Policy, new_keys: usize, more_bytes: usize) -> bool {
        let beyond = |used: &AtomicUsize, more: usize, max: Option<u64>| {
            more > 0 && max.is_some_and(|max| used.load(Relaxed).saturating_add(more) > to_usize(max))
        };
        beyond(&self.keys, new_keys, policy.max_keys) || beyond(&self.bytes, more_bytes, policy.max_bytes)
    }
}

impl Side {
    /// What the shard holds now: to be taken before a change, for [`Store::account`] after it.
    pub(super) fn booked(&self) -> Booked {
        Booked { held: self.arena.held(), live: self.arena.live() }
    }
}

impl Store {
    /// The rules in force. Whoever books what a key uses takes this guard before the index, once, and holds it
    /// from the look-up to the booking: then whoever puts other rules in force can count anew.
    pub(super) fn rules(&self) -> RwLockReadGuard<'_, Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books what changed in `side` since `before`: the one place through which every insertion, replacement
    /// and removal goes. `keys` came (1), went (-1) or stayed (0); `used` is its namespace's, if counted.
    pub(super) fn account(&self, side: &Side, before: Booked, keys: isize, used: Option<&Used>) {
        let now = side.booked();
        let live = difference(now.live, before.live);
        add(&self.books.records, difference(now.held, before.held));
        add(&self.books.live, live);
        add(&self.books.keys, keys);
        if let Some(used) = used {
            used.book(keys, live + keys * INDEX_BYTES_A_KEY as isize);
        }
    }

    /// Keys remembered, those not swept yet included.
    pub fn keys(&self) -> usize {
        self.books.keys.load(Relaxed)
    }

    /// Bytes held in memory; see [`Memory`] for what they are.
    pub fn memory_bytes(&self) -> usize {
        let index = self.books.index.load(Relaxed).max(self.keys() * INDEX_BYTES_A_KEY_MIN);
        self.books.records.load(Relaxed) + self.books.beside.load(Relaxed) + index
    }

    /// Looks at every part. To be called a few times a second; takes each shard's locks in turn.
    pub fn measure(&self) -> Memory {
        let index_bytes = self.measure_index();
        let (reserved_bytes, unclaimed_bytes) = {
            let rules = self.rules();
            (rules.reserved, rules.unclaimed())
        };
        let (mut free_bytes, mut tables_bytes, mut parked) = (0, self.sides.len() * SHARD_BYTES, 0);
        for side in &self.sides {
            let side = lock(side);
            free_bytes += side.arena.unused();
            tables_bytes += side.arena.tables() + side.watch.cells.bytes();
            parked += side.watch.waiters.len();
        }
        let memory = Memory {
            records_bytes: self.books.records.load(Relaxed),
            free_bytes,
            index_bytes,
            conflicts_bytes: self.conflicts.bytes(),
            // Nodes of the tree are two thirds full.
            waiters_bytes: parked * size_of::<(KeyHash, Ticket)>() * 3 / 2,
            log_bytes: self.tail.held_bytes(),
            tables_bytes,
            reserved_bytes,
            unclaimed_bytes,
            max_bytes: self.config.max_memory_bytes,
        };
        self.books.beside.store(memory.held_bytes() - memory.records_bytes - index_bytes, Relaxed);
        memory
    }

    /// What namespaces with a quota have used of it.
    pub fn quotas(&self) -> Vec<QuotaUse> {
        let rules = self.rules();
        let quotas = rules.policies.quotas().zip(&rules.used);
        let quota_use = |((name, policy), used): ((Option<&[u8]>, &Policy), &Used)| QuotaUse {
            namespace: name.map(<[u8]>::to_vec),
            keys: used.keys.load(Relaxed),
            bytes: used.bytes.load(Relaxed),
            max_keys: policy.max_keys,
            max_bytes: policy.max_bytes,
        };
        quotas.map(quota_use).collect()
    }

    /// The index's tables as they are. A table's growth is seen by nobody but the map itself.
    pub(super) fn measure_index(&self) -> usize {
        // Not its capacity: that shrinks by every removed entry's mark, which the table still holds.
        let tables = self.index.shards().iter().map(|table| table.read().buckets());
        let bytes =
            tables.filter(|buckets| *buckets > 1).map(|buckets| buckets * INDEX_ENTRY_BYTES + 16).sum();
        self.books.index.store(bytes, Relaxed);
        let keys = self.keys();
        self.books.measure_above.store(keys + (keys / 8).clamp(64, limits::MEASURE_KEYS_MAX), Relaxed);
        bytes
    }

    /// Measures the index when enough keys have come since it was. The caller holds no shard.
    pub(super) fn measure_growth(&self) {
        if self.keys() > self.books.measure_above.load(Relaxed) {
            self.measure_index();
        }
    }

    /// Gives back most of a table of the index that most keys have left.
    pub(super) fn shrink_index(&self, shard: usize) {
        let table = &self.index.shards()[shard];
        let is_sparse = |buckets: usize, keys: usize| buckets > 64 && buckets > 8 * keys;
        let sparse = {
            let table = table.read();
            is_sparse(table.buckets(), table.len())
        };
        if sparse {
            let mut table = table.write();
            let twice = 2 * table.len();
            table.shrink_to(twice, |(hash, _)| hash.low64());
        }
    }

    /// Why a grant that makes a record of `old_len` bytes (0: none yet) one of at most `len` cannot be.
    pub(super) fn bound_reached(
        &self,
        rules: &Rules,
        (policy, used): (&Policy, Option<&Used>),
        arena: &Arena,
        (old_len, len): (usize, usize),
    ) -> Option<Reason> {
        if let Some(used) = used {
            let is_new = old_len == 0;
            let index = if is_new { INDEX_BYTES_A_KEY } else { 0 };
            let before = if is_new { 0 } else { Arena::cost(old_len) };
            let more = (Arena::cost(len) + index).saturating_sub(before);
            if used.exceeds(policy, usize::from(is_new), more) {
                return Some(Reason::Quota);
            }
        }
        // What is reserved for it is its own.
        let shares = policy.max_bytes.is_none();
        (shares && self.share_is_full(rules, arena, len)).then_some(Reason::Full)
    }

    /// Whether a record of `len` bytes would take what is not there, or is kept free for somebody else.
    fn share_is_full(&self, rules: &Rules, arena: &Arena, len: usize) -> bool {
        let (held, max) = (self.memory_bytes(), self.config.max_memory_bytes);
        // Only close to the bound do the namespaces' counters matter.
        if held.saturating_add(rules.reserved) < max {
            return false;
        }
        let unclaimed = rules.unclaimed();
        if held.saturating_add(unclaimed) < max {
            return false;
        }
        // A free place costs nothing more; but what a namespace's own expired keys left is kept free for it.
        let (records, live) = (self.books.records.load(Relaxed), self.books.live.load(Relaxed));
        let lives = held.saturating_sub(records.saturating_sub(live));
        lives.saturating_add(unclaimed) >= max || !arena.has_room(len)
    }
}

#[cfg(test)]
impl Store {
    /// [`Self::quotas`] as a walk over the map finds them.
    pub(crate) fn quotas_recounted(&self) -> Vec<QuotaUse> {
        let mut quotas = self.quotas();
        quotas.iter_mut().for_each(|quota| (quota.keys, quota.bytes) = (0, 0));
        let rules = self.rules();
        for side in &self.sides {
            for record in lock(side).arena.records() {
                let key = super::run::unpack(record).0;
                if let Some(quota) = rules.policies.counted(key).1 {
                    quotas[quota].keys += 1;
                    quotas[quota].bytes += Arena::cost(record.len()) + INDEX_BYTES_A_KEY;
                }
            }
        }
        quotas
    }
}

const fn difference(now: usize, before: usize) -> isize {
    now as isize - before as isize
}

fn add(to: &AtomicUsize, change: isize) {
    if change > 0 {
        to.fetch_add(change.unsigned_abs(), Relaxed);
    } else if change < 0 {
        to.fetch_sub(change.unsigned_abs(), Relaxed);
    }
}

/// A bound of a policy; where it exceeds what can be addressed, it bounds nothing.
fn to_usize(bound: u64) -> usize {
    usize::try_from(bound).unwrap_or(usize::MAX)
}
