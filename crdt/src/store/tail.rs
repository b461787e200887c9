//! The tail of the log: where records wait for their write, and from where peers are fed.
//!
//! Records are appended under their shard's lock, so that the log has each key's deltas in the order
//! in which they were decided. One writer at a time [`Tail::take`]s all that has gathered, writes it,
//! and says so; everybody whose reply depends on it asks [`Tail::may_release`]. The same function
//! serves the daemon and the simulator: nothing leaves early (INV-8).
//!
//! Written batches stay in a bounded ring, which feeds the peers; a peer further behind is fed from
//! disk. So one buffer serves both the disk and the network.
//!
//! Rejected: a channel to a writer thread (a hop, and an idle core to wake, on the way to a local
//! answer), an append after the shard's lock (the log could then disagree with the map).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::canary::{self, Bug};
use crate::ids::Lsn;
use crate::journal::{self, MarkTag, Record};
use crate::limits;
use crate::policy::Durable;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};

/// What must be reached before a reply, an acknowledgement or a frame may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "a reply that ignores its release may leave before it is durable (INV-8)"]
pub struct Release {
    /// Written to the kernel up to here.
    pub written: Lsn,
    /// Synced to disk up to here.
    pub synced: Lsn,
}

impl Release {
    /// Both must be reached.
    pub fn join(&mut self, other: Self) {
        self.written = self.written.max(other.written);
        self.synced = self.synced.max(other.synced);
    }
}

/// Framed records taken together for one write.
#[derive(Debug)]
pub struct Batch {
    /// The framed records, as they stand in the segment.
    pub bytes: Vec<u8>,
    /// Number of the first.
    pub first: Lsn,
    /// Number of the last.
    pub last: Lsn,
    /// The last record that is to be synced before anything leaves; 0: none.
    pub sync_to: Lsn,
    /// When the last of the parts in it may die, Unix milliseconds, `max_drift` to be added.
    pub dies_at_ms: u64,
}

/// What the ring answers a reader.
#[derive(Debug)]
pub enum RingRead {
    /// The batch that holds the record asked for.
    Batch(Arc<Batch>),
    /// Nothing that may leave yet.
    Nothing,
    /// The record is older than the ring: read it from disk.
    Behind,
}

/// Counts of a shared batch, its place in the ring, and the allocator's headers, in bytes.
const BATCH_OVERHEAD: usize = 56;

#[derive(Debug)]
struct Gathering {
    bytes: Vec<u8>,
    next: Lsn,
    first: Lsn,
    sync_to: Lsn,
    dies_at_ms: u64,
    /// The newest record that a mark in the log says is synced.
    marked: Lsn,
    /// What all records so far may take of the disk ([`journal::charge`]), and those taken for a write.
    charged: u64,
    taken: u64,
}

#[derive(Debug, Default)]
struct Ring {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
}

/// See the module's text.
#[derive(Debug)]
pub struct Tail {
    gathering: Mutex<Gathering>,
    ring: Mutex<Ring>,
    ring_bytes_max: usize,
    mark: MarkTag,
    appended: AtomicU64,
    written: AtomicU64,
    synced: AtomicU64,
    sync_wanted: AtomicU64,
    pending_bytes: AtomicUsize,
    charged: AtomicU64,
    failed: AtomicBool,
}

impl Tail {
    /// A tail whose next record is number `next`; all before it are on disk and synced. A ring of 0
    /// bytes keeps nothing: there are no peers. `mark` stands on its marks of what is synced.
    pub fn new(next: Lsn, ring_bytes_max: usize, mark: MarkTag) -> Self {
        let before = next - 1;
        let gathering = Gathering {
            bytes: Vec::new(),
            next,
            first: next,
            sync_to: 0,
            dies_at_ms: 0,
            marked: before,
            charged: 0,
            taken: 0,
        };
        Self {
            gathering: Mutex::new(gathering),
            ring: Mutex::default(),
            ring_bytes_max,
            mark,
            appended: AtomicU64::new(before),
            written: AtomicU64::new(before),
            synced: AtomicU64::new(before),
            sync_wanted: AtomicU64::new(0),
            pending_bytes: AtomicUsize::new(0),
            charged: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        }
    }

    /// Adds one record; the caller holds the shard's lock. `dies_at_ms` as in [`Batch`].
    pub(crate) fn append(&self, kind: u8, payload: &[u8], dies_at_ms: u64, durable: Durable) -> Lsn {
        let mut gathering = lock(&self.gathering);
        let bytes_before = gathering.bytes.len();
        journal::append_framed(kind, payload, &mut gathering.bytes);
        gathering.charged += journal::charge(gathering.bytes.len() - bytes_before);
        self.charged.store(gathering.charged, Ordering::Release);
        let lsn = gathering.next;
        gathering.next += 1;
        gathering.dies_at_ms = gathering.dies_at_ms.max(dies_at_ms);
        if durable == Durable::Always {
            gathering.sync_to = lsn;
            self.sync_wanted.fetch_max(lsn, Ordering::AcqRel);
        }
        self.pending_bytes.store(gathering.bytes.len(), Ordering::Relaxed);
        self.appended.store(lsn, Ordering::Release);
        lsn
    }

    /// Everything gathered, for one write; `None` when nothing is. `spare` becomes the next buffer.
    /// One writer at a time, in order.
    pub fn take(&self, mut spare: Vec<u8>) -> Option<Batch> {
        let mut gathering = lock(&self.gathering);
        if gathering.bytes.is_empty() {
            return None;
        }
        self.mark_if_synced(&mut gathering);
        spare.clear();
        if spare.capacity() > limits::TAIL_SPARE_BYTES_MAX {
            spare = Vec::new();
        }
        let batch = Batch {
            bytes: std::mem::replace(&mut gathering.bytes, spare),
            first: gathering.first,
            last: gathering.next - 1,
            sync_to: gathering.sync_to,
            dies_at_ms: gathering.dies_at_ms,
        };
        gathering.first = gathering.next;
        gathering.taken = gathering.charged;
        gathering.sync_to = 0;
        gathering.dies_at_ms = 0;
        self.pending_bytes.store(0, Ordering::Relaxed);
        Some(batch)
    }

    /// `batch` has reached the kernel. Gives the buffer back where the ring does not keep it.
    pub fn mark_written(&self, batch: Batch) -> Option<Vec<u8>> {
        let last = batch.last;
        let spare = if self.ring_bytes_max == 0 {
            Some(batch.bytes)
        } else {
            self.keep(batch);
            None
        };
        self.written.store(last, Ordering::Release);
        spare
    }

    /// Lets the log itself say how far it is synced, so that a start after a power loss can tell damage from
    /// a tail that was never acknowledged (S6). Costs no write: it goes with what is written anyway.
    fn mark_if_synced(&self, gathering: &mut Gathering) {
        let synced = self.synced();
        if synced > gathering.marked {
            gathering.marked = synced;
            let bytes_before = gathering.bytes.len();
            journal::append_record(&Record::Synced(synced, self.mark), &mut gathering.bytes);
            gathering.charged += journal::charge(gathering.bytes.len() - bytes_before);
            self.charged.store(gathering.charged, Ordering::Release);
            self.appended.store(gathering.next, Ordering::Release);
            gathering.next += 1;
        }
    }

    /// For when nothing else is written: marks everything as synced, once. True if that added a record.
    pub fn mark_idle(&self) -> bool {
        let mut gathering = lock(&self.gathering);
        let synced = self.synced();
        // A mark alone is not worth the next one.
        let idle =
            gathering.bytes.is_empty() && synced + 1 == gathering.next && synced > gathering.marked + 1;
        if idle {
            self.mark_if_synced(&mut gathering);
        }
        idle
    }

    fn keep(&self, batch: Batch) {
        let mut ring = lock(&self.ring);
        ring.bytes += held_by(&batch);
        ring.batches.push_back(Arc::new(batch));
        while ring.bytes > self.ring_bytes_max && ring.batches.len() > 1 {
            if let Some(oldest) = ring.batches.pop_front() {
                ring.bytes -= held_by(&oldest);
            }
        }
    }

    /// The disk holds everything up to `lsn`.
    pub fn mark_synced(&self, lsn: Lsn) {
        self.synced.fetch_max(lsn, Ordering::AcqRel);
    }

    /// The disk has failed (S6): from now on nothing may leave, whatever it waits for. What the kernel was given
    /// and what the disk holds can no longer be told apart, and a reply may rest on either.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Whether the disk has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether what depends on `release` may leave (INV-8).
    pub fn may_release(&self, release: &Release) -> bool {
        canary::planted(Bug::AckBeforeSync)
            || (self.written() >= release.written && self.synced() >= release.synced && !self.has_failed())
    }

    /// The last record appended.
    pub fn appended(&self) -> Lsn {
        self.appended.load(Ordering::Acquire)
    }

    /// The last record that reached the kernel.
    pub fn written(&self) -> Lsn {
        self.written.load(Ordering::Acquire)
    }

    /// The last record that the disk holds.
    pub fn synced(&self) -> Lsn {
        self.synced.load(Ordering::Acquire)
    }

    /// The last record that is to be synced before anything that depends on it leaves; 0: none yet.
    pub fn sync_wanted(&self) -> Lsn {
        self.sync_wanted.load(Ordering::Acquire)
    }

    /// Something waits for the disk to hold everything up to `lsn`, although it was appended for less.
    pub(crate) fn want_synced(&self, lsn: Lsn) {
        let mut gathering = lock(&self.gathering);
        if lsn >= gathering.first {
            gathering.sync_to = gathering.sync_to.max(lsn);
        }
        self.sync_wanted.fetch_max(lsn, Ordering::AcqRel);
    }

    /// What all records appended so far may take of the disk, in bytes ([`journal::charge`]).
    pub(crate) fn charged(&self) -> u64 {
        self.charged.load(Ordering::Acquire)
    }

    /// What the records taken for a write so far may take of the disk, in bytes.
    pub(crate) fn taken_charged(&self) -> u64 {
        lock(&self.gathering).taken
    }

    /// Bytes that wait for their write.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    /// Bytes held in memory: what waits for its write, the ring, and a buffer that is being written.
    pub fn held_bytes(&self) -> usize {
        let gathering = lock(&self.gathering).bytes.capacity();
        let spare = gathering.min(limits::TAIL_SPARE_BYTES_MAX);
        gathering + spare + lock(&self.ring).bytes
    }

    /// The batch with record `lsn`, if it is durable to its degree and still in memory.
    pub fn read(&self, lsn: Lsn) -> RingRead {
        if lsn > self.written() {
            return RingRead::Nothing;
        }
        let ring = lock(&self.ring);
        let at = ring.batches.partition_point(|batch| batch.last < lsn);
        match ring.batches.get(at) {
            Some(batch) if batch.first > lsn => RingRead::Behind,
            Some(batch) if self.may_release(&Release { written: batch.last, synced: batch.sync_to }) => {
                RingRead::Batch(Arc::clone(batch))
            }
            Some(_) => RingRead::Nothing,
            None => RingRead::Behind,
        }
    }
}

/// What a batch costs in the ring: its buffer as it was allocated, and itself.
fn held_by(batch: &Batch) -> usize {
    batch.bytes.capacity() + size_of::<Batch>() + BATCH_OVERHEAD
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
