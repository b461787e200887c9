//! The log's tail under schedules of a model checker (shuttle): its very source, its locks and atomics
//! swapped.
//!
//! Threads append and look at the horizon while one writer takes, writes and syncs. Whatever the
//! schedule: batches are contiguous and complete, what may be released was written or synced before
//! (INV-8), what a peer is fed from the ring is durable to its degree, and a mark of what is synced is true.

use std::sync::Arc;

use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

mod sync {
    pub use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    pub use shuttle::sync::{Mutex, MutexGuard};
    pub use std::sync::PoisonError;
}
mod canary {
    pub use crdt::canary::{Bug, planted};
}
mod ids {
    pub use crdt::ids::Lsn;
}
mod limits {
    pub use crdt::limits::TAIL_SPARE_BYTES_MAX;
}
mod policy {
    pub use crdt::policy::Durable;
}
mod journal {
    /// Marks of what is synced: the tail itself appends them.
    pub enum Record {
        Synced(u64, MarkTag),
    }
    /// Nobody forges anything here.
    #[derive(Clone, Copy, Debug)]
    pub struct MarkTag;
    /// A mark is one byte too: this and what it says is synced.
    pub const MARK: u8 = 128;
    pub fn append_record(Record::Synced(lsn, _): &Record, out: &mut Vec<u8>) {
        assert!(*lsn > 0 && *lsn < u64::from(MARK), "the model's log is short");
        out.push(MARK + *lsn as u8);
    }
    /// One byte a record: who appended it.
    pub fn append_framed(kind: u8, _: &[u8], out: &mut Vec<u8>) {
        out.push(kind);
    }
    pub fn charge(bytes: usize) -> u64 {
        bytes as u64
    }
}
#[path = "../src/store/tail.rs"]
#[expect(dead_code, reason = "the model drives a part of it")]
mod tail;

use policy::Durable;
use tail::{Release, RingRead, Tail};

const APPENDERS: u8 = 2;
const EACH: u8 = 3;

/// What is on the model's disk: records by who appended them, and how far it is synced.
#[derive(Default)]
struct Disk {
    written: Mutex<Vec<u8>>,
    synced: AtomicU64,
}

impl Disk {
    fn write(&self, tail: &Tail) {
        let Some(batch) = tail.take(Vec::new()) else { return };
        let last = {
            let mut written = self.written.lock().expect("no panic elsewhere");
            assert_eq!(batch.first, written.len() as u64 + 1, "contiguous");
            for byte in &batch.bytes {
                if let Some(marked) = byte.checked_sub(journal::MARK) {
                    let marked = u64::from(marked);
                    assert!(self.synced.load(Ordering::SeqCst) >= marked, "a mark never lies");
                    assert!(marked <= written.len() as u64, "and speaks of what is before it");
                }
                written.push(*byte);
            }
            written.len() as u64
        };
        assert_eq!(batch.last, last, "complete");
        assert!(batch.sync_to <= batch.last);
        tail.mark_written(batch);
    }

    fn sync(&self, tail: &Tail) {
        // As a daemon does it: what was written when the sync began.
        let started_at = tail.written();
        self.synced.store(started_at, Ordering::SeqCst);
        tail.mark_synced(started_at);
    }
}

/// Appends a few records, and now and then asks whether the last may be shown.
fn appender(tail: &Tail, disk: &Disk, who: u8) {
    let mut last = 0;
    for round in 0..EACH {
        let always = (who + round).is_multiple_of(2);
        let durable = if always { Durable::Always } else { Durable::Interval };
        let lsn = tail.append(who, &[], 0, durable);
        assert!(lsn > last && tail.appended() >= lsn);
        last = lsn;
        let release = Release { written: lsn, synced: if always { lsn } else { 0 } };
        for _ in 0..3 {
            if tail.may_release(&release) {
                let written = disk.written.lock().expect("no panic elsewhere");
                assert_eq!(written.get(lsn as usize - 1), Some(&who), "shown before it was written");
                assert!(!always || disk.synced.load(Ordering::SeqCst) >= lsn, "shown before it was synced");
                break;
            }
            thread::yield_now();
        }
    }
}

/// Follows the log from its start, as a peer's stream does.
fn reader(tail: &Tail, disk: &Disk) {
    let mut next = 1;
    for _ in 0..12 {
        match tail.read(next) {
            RingRead::Batch(batch) => {
                assert!(batch.first <= next && next <= batch.last);
                let written = disk.written.lock().expect("no panic elsewhere");
                let (first, last) = (batch.first as usize, batch.last as usize);
                assert_eq!(written.get(first - 1..last), Some(&batch.bytes[..]), "fed before it was written");
                assert!(disk.synced.load(Ordering::SeqCst) >= batch.sync_to, "fed before it was synced");
                next = batch.last + 1;
            }
            RingRead::Behind => panic!("the ring holds all of it"),
            RingRead::Nothing => {}
        }
        thread::yield_now();
    }
}

fn model() {
    let (tail, disk) = (Arc::new(Tail::new(1, 1 << 20, journal::MarkTag)), Arc::new(Disk::default()));
    let spawn = |work: fn(&Tail, &Disk, u8), who: u8| {
        let (tail, disk) = (Arc::clone(&tail), Arc::clone(&disk));
        thread::spawn(move || work(&tail, &disk, who))
    };
    let mut threads: Vec<_> = (0..APPENDERS).map(|who| spawn(appender, who)).collect();
    threads.push(spawn(|tail, disk, _| reader(tail, disk), 0));
    threads.push(spawn(|tail, disk, _| (0..4).for_each(|_| disk.sync(tail)), 0));
    (0..5).for_each(|_| disk.write(&tail));
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    disk.write(&tail);
    disk.sync(&tail);
    let written = disk.written.lock().expect("no panic elsewhere");
    let marks = written.iter().filter(|byte| **byte >= journal::MARK).count() as u64;
    let all = u64::from(APPENDERS * EACH) + marks;
    assert_eq!((written.len() as u64, tail.written(), tail.synced()), (all, all, all));
    assert_eq!(tail.pending_bytes(), 0);
    for who in 0..APPENDERS {
        assert_eq!(written.iter().filter(|by| **by == who).count(), usize::from(EACH), "each record once");
    }
}

#[test]
fn the_horizon_holds_under_any_schedule() {
    shuttle::check_random(model, 3_000);
    shuttle::check_pct(model, 3_000, 3);
}
