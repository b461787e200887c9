//! The log on a real disk: what was flushed is there after a crash, the folder is locked, segments rotate, and
//! peers read back what the ring no longer has.

use crdt::hash::ClusterKeys;
use crdt::ids::{Incarnation, RegionId};
use crdt::journal::Records;
use crdt::node::LogRead;
use crdt::policy::Policies;
use crdt::recovery::{Damage, RecoveryConfig};
use crdt::request::{Claim, Reply, Request};
use crdt::store::{Ran, Scratch, StoreConfig};
use crdt::token::Token;

use super::*;
use crate::driver::wall_ms;

const SEGMENT_BYTES: u64 = 64 * 1024;
const SIZES: LogSizes = LogSizes { segment_bytes: SEGMENT_BYTES, reserve_bytes: 2 * SEGMENT_BYTES };

fn config() -> RecoveryConfig {
    RecoveryConfig {
        store: StoreConfig {
            region: RegionId(1),
            incarnation: Incarnation::default(),
            keys: ClusterKeys { hash: [1; 16], tag: [2; 16] },
            max_drift_ms: 0,
            shards: 4,
            max_memory_bytes: 64 << 20,
            ring_bytes_max: 4096,
        },
        policies: Policies::default(),
        cluster: [7; 16],
        boot: 1,
        acknowledged_unsynced: true,
        wall_ms: wall_ms(),
        salvage: false,
        keys_hint: 0,
    }
}

fn opened(folder: &std::path::Path) -> Opened {
    let opened = open(folder, config(), SIZES, None, |_, _| {}).expect("a good folder");
    opened.log.flush_all().expect("a good disk");
    // A newborn region grants once its clock has passed what a former life may have issued.
    std::thread::sleep(std::time::Duration::from_millis(2));
    opened
}

fn run(store: &Store, request: Request<'_>) -> (&'static str, Option<Token>, Release) {
    let (mut status, mut token) = ("", None);
    let ran = store.run(&request, wall_ms(), None, &mut Scratch::default(), |reply| {
        status = reply.status();
        if let Reply::Granted { token: granted, .. } = reply {
            token = Some(*granted);
        }
    });
    match ran.expect("well-formed") {
        Ran::Replied(release) => (status, token, release),
        Ran::Parked | Ran::Asks(..) | Ran::Forwards(_) => panic!("nobody parks here, nor asks"),
    }
}

fn claim(store: &Store, key: &[u8]) -> Release {
    let (status, _, release) = run(store, Request::Claim(Claim { key, note: &[7; 200], ..Claim::default() }));
    assert_eq!(status, "GRANTED");
    release
}

fn fill(opened: &Opened, keys: std::ops::Range<u32>) {
    for number in keys {
        let release = claim(&opened.store, format!("k:{number}").as_bytes());
        opened.log.flush(&release).expect("a good disk");
    }
}

#[test]
fn what_was_flushed_is_there_after_a_crash() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = opened(folder.path());
    fill(&first, 0..300);
    let (incarnation, epoch) = (first.header.incarnation, first.header.epoch);
    // A crash: nothing is closed in order.
    drop(first);
    let second = opened(folder.path());
    assert_eq!(second.store.keys(), 300);
    assert_eq!(second.header.incarnation, incarnation, "a process's crash loses nothing");
    assert!(second.header.epoch > epoch && !second.new_incarnation);
    fill(&second, 300..310);
    drop(second);
    assert_eq!(opened(folder.path()).store.keys(), 310);
}

/// Every start left its whole preallocated segment behind, and what a killed process had written but not synced
/// was taken for synced. Found by review; the sync itself is seen in a trace of system calls only.
#[test]
fn a_start_cuts_the_segments_before_it_to_their_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = opened(folder.path());
    fill(&first, 0..10);
    let before = first.log.lock_writer().current.close();
    drop(first);
    assert_eq!(std::fs::metadata(&before.path).expect("there").len(), SEGMENT_BYTES);
    let second = opened(folder.path());
    assert_eq!(std::fs::metadata(&before.path).expect("there").len(), before.end);
    assert_eq!(second.store.keys(), 10);
}

#[test]
fn a_second_daemon_on_one_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = opened(folder.path());
    let error = open(folder.path(), config(), SIZES, None, |_, _| {}).expect_err("locked");
    assert!(error.to_string().contains("in use by another onced"), "{error}");
    drop(first);
    opened(folder.path());
}

#[test]
fn another_clusters_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(opened(folder.path()));
    let other = RecoveryConfig { cluster: [8; 16], ..config() };
    let error = open(folder.path(), other, SIZES, None, |_, _| {}).expect_err("foreign");
    assert!(matches!(error, OpenError::Damage(Damage::Foreign { .. })), "{error}");
}

#[test]
fn segments_rotate_and_damage_in_an_old_one_is_named_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = opened(folder.path());
    fill(&first, 0..1_000);
    let oldest = first.log.lock_writer().closed.first().cloned().expect("rotated");
    drop(first);
    let mut bytes = std::fs::read(&oldest.path).expect("readable");
    bytes[5_000] ^= 1;
    std::fs::write(&oldest.path, bytes).expect("writable");
    let error = open(folder.path(), config(), SIZES, None, |_, _| {}).expect_err("damaged");
    let text = error.to_string();
    assert!(text.contains(&oldest.path.display().to_string()) && text.contains("byte"), "{text}");
}

/// The keeper and a rotating writer once prepared the next segment under one name: two segments then shared a
/// file, and a header was written over live records. Found by review.
#[test]
fn files_allocated_at_the_same_time_are_as_many_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = opened(folder.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    drop(opened.log.reserve.take(0));
                    opened.log.reserve.fill();
                }
            });
        }
    });
    let files = std::fs::read_dir(folder.path()).expect("readable");
    let names = files.map(|file| file.expect("readable").path());
    // Those that were taken and dropped lie there still: no name was used twice.
    assert!(names.filter(|path| reserve::is_reserve(path)).count() >= 200);
    fill(&opened, 0..800);
}

/// A reply at `interval` needs the write only: it left although the sync of what it rested on had just failed.
#[test]
fn after_a_failed_sync_nothing_is_reached() {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = opened(folder.path());
    let (log, tail) = (&opened.log, opened.store.tail());
    let written = claim(&opened.store, b"k:1");
    log.flush(&written).expect("a good disk");
    assert!(tail.may_release(&written));
    // Its sync fails: it is no file.
    lock(&log.unsynced).insert(0, Arc::new(File::open("/dev/null").expect("every system has it")));
    assert_eq!(log.flush_all(), Err(LogError::Failed));
    assert!(log.has_failed() && !tail.may_release(&written));
    assert_eq!(log.flush(&written), Err(LogError::Failed), "what was written before neither");
    // Never tried again.
    lock(&log.unsynced).remove(0);
    assert_eq!(log.flush_all(), Err(LogError::Failed));
    let synced = tail.synced();
    assert_eq!((log.make_room(), tail.synced()), (Ok(()), synced));
}

/// Leftovers were deleted at every start and allocated anew: on a full disk there was nothing to allocate from.
#[test]
fn a_start_takes_over_the_reserve_it_finds() {
    use std::collections::BTreeSet;
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let inodes = |extension: &str| -> BTreeSet<u64> {
        let files = std::fs::read_dir(folder.path()).expect("readable").map(|file| file.expect("readable"));
        let files = files.filter(|file| file.path().extension().is_some_and(|found| found == extension));
        files.map(|file| file.metadata().expect("there").ino()).collect()
    };
    let first = opened(folder.path());
    let reserve = inodes("tmp");
    assert_eq!(reserve.len(), 3, "the reserve and the next segment");
    assert!(first.log.reserve.lefts().iter().all(|left| *left == SEGMENT_BYTES - 64));
    drop(first);
    // One that a crash left half allocated.
    std::fs::write(folder.path().join("prepare-77.tmp"), b"half").expect("writable");
    let second = opened(folder.path());
    let current: Vec<_> = inodes("log").intersection(&reserve).copied().collect();
    assert_eq!(current.len(), 1, "this start's segment was allocated by the one before");
    assert_eq!(inodes("tmp").intersection(&reserve).count(), 2, "and so were the others");
    assert_eq!(inodes("tmp").len(), 3);
    assert!(!folder.path().join("prepare-77.tmp").exists());
    fill(&second, 0..1_000);
    drop(second);
    // Less is configured: what is too much is given back.
    let sizes = LogSizes { reserve_bytes: SEGMENT_BYTES, ..SIZES };
    let third = open(folder.path(), config(), sizes, None, |_, _| {}).expect("a good folder");
    assert_eq!((third.store.keys(), inodes("tmp").len()), (1_000, 2));
}

/// A batch goes to as many segments as it takes, each filled with whole records; and a record that is larger than a
/// segment has one of its own.
#[test]
fn a_batch_may_fill_several_segments() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = opened(folder.path());
    for number in 0..2_000 {
        let _ = claim(&first.store, format!("k:{number}").as_bytes());
    }
    let (_, token, _) = run(&first.store, Request::Claim(Claim { key: b"large", ..Claim::default() }));
    let (token, outcome) = (token.expect("granted"), [7; SEGMENT_BYTES as usize]);
    let large = Request::Complete { key: b"large", token, outcome: &outcome, level: None, durable: true };
    assert_eq!(run(&first.store, large).0, "COMPLETED");
    let _ = claim(&first.store, b"behind");
    first.log.flush_all().expect("a good disk");
    let closed = first.log.lock_writer().closed.clone();
    assert!(closed.len() >= 5, "{} segments", closed.len());
    for (segment, next) in closed.iter().zip(&closed[1..]) {
        assert_eq!(segment.last_lsn + 1, next.first_lsn);
    }
    let ends: Vec<_> = closed.iter().map(|segment| segment.end).collect();
    let (large, others) = ends.split_last().expect("some");
    assert!(*large > SEGMENT_BYTES, "{ends:?}");
    let full = |end: &&u64| (SEGMENT_BYTES - 400..=SEGMENT_BYTES).contains(end);
    assert_eq!(others.iter().filter(full).count(), others.len() - 1, "{ends:?}");
    // Behind the last claim stands the tail's mark of what was synced before.
    assert_eq!((first.log.lock_writer().current.close().first_lsn, first.store.tail().written()), {
        let last = closed.last().expect("some").last_lsn;
        (last + 1, last + 2)
    });
    drop(first);
    assert_eq!(opened(folder.path()).store.keys(), 2_002);
}

/// A segment that somebody had renamed was started from while it was alone; the segment of that very start then came
/// before it in the order of names, and the next start missed its records. Found by the fuzzer.
#[test]
fn a_renamed_segment_is_refused_before_another_stands_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = opened(folder.path());
    fill(&first, 0..10);
    let path = first.log.lock_writer().current.close().path;
    drop(first);
    let renamed = folder.path().join("copy.log");
    std::fs::rename(&path, &renamed).expect("renamed");
    let text = open(folder.path(), config(), SIZES, None, |_, _| {}).expect_err("refused").to_string();
    assert!(text.contains("copy.log was written as 0000"), "{text}");
    std::fs::rename(&renamed, &path).expect("renamed back");
    assert_eq!(opened(folder.path()).store.keys(), 10);
}

/// A flipped bit in the segment that was written last was taken for a torn tail, and all that was acknowledged
/// behind it was cut off. Found by review.
#[test]
fn damage_in_the_last_segment_is_no_torn_tail() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = opened(folder.path());
    fill(&first, 0..100);
    let last = first.log.lock_writer().current.close();
    drop(first);
    let whole = std::fs::read(&last.path).expect("readable");
    let mut damaged = whole.clone();
    damaged[2_000] ^= 1;
    std::fs::write(&last.path, damaged).expect("writable");
    let error = open(folder.path(), config(), SIZES, None, |_, _| {}).expect_err("damaged");
    assert!(error.to_string().contains("is damaged at byte"), "{error}");
    // The last record alone may be torn: it was never acknowledged.
    let mut torn = whole;
    torn[last.end as usize - 1] ^= 1;
    std::fs::write(&last.path, torn).expect("writable");
    let second = opened(folder.path());
    assert_eq!(second.store.keys(), 99);
    assert!(second.torn_bytes > 0);
}

#[test]
fn peers_read_back_every_record_once_across_segments() {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = opened(folder.path());
    fill(&opened, 0..1_000);
    let last = opened.store.tail().written();
    let (mut place, mut next) = (ReadPlace::default(), 1);
    while next <= last {
        let LogRead::Records(batch) = opened.log.read(next, &mut place).expect("readable") else {
            panic!("record {next} is there")
        };
        assert_eq!(batch.first, next);
        let mut records = Records::new(&batch.bytes);
        let count = std::iter::from_fn(|| records.next_body().ok()).count() as u64;
        assert_eq!(count, batch.last - batch.first + 1);
        next = batch.last + 1;
    }
    // From the middle, without a place to go on from.
    let read = opened.log.read(last / 2, &mut ReadPlace::default()).expect("readable");
    assert!(matches!(read, LogRead::Records(batch) if batch.first == last / 2));
    assert!(matches!(opened.log.read(last + 1, &mut place), Ok(LogRead::StartsAt(at)) if at == last + 1));
}

/// What a checkpoint covers is in its runs: without the segments a start has everything. But a log without any file is
/// one from which somebody has taken them, because a start begins its own before it removes an empty one.
#[test]
fn a_start_needs_no_segment_that_runs_cover() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = opened(folder.path());
    fill(&first, 0..1_000);
    first.log.rotate_aged(u64::MAX, 0).expect("room");
    let segments = first.log.lock_writer().closed.len();
    let covering = CheckpointConfig { max_drift_ms: 0, keep_bytes: 0, acked_by_all: Default::default() };
    let thread = Checkpointer::start(Arc::clone(&first.log), covering).expect("a thread");
    for _ in 0..500 {
        if first.log.lock_writer().closed.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    thread.stop();
    let left = first.log.lock_writer().closed.len();
    assert_eq!(left, 0, "of {segments} segments all are covered, and kept for nobody");
    let current = first.log.lock_writer().current.close();
    drop(first);
    let aside = folder.path().join("elsewhere");
    std::fs::rename(&current.path, &aside).expect("it is there");
    let refused = open(folder.path(), config(), SIZES, None, |_, _| {});
    assert!(matches!(refused.err(), Some(OpenError::Damage(Damage::NoLog { .. }))));
    std::fs::rename(&aside, &current.path).expect("it is there");
    for _ in 0..2 {
        // Writes nothing, and leaves an empty segment in the place of the one that it found.
        let idle = open(folder.path(), config(), SIZES, None, |_, _| {}).expect("a good folder");
        assert_eq!((idle.store.keys(), idle.new_incarnation), (1_000, false));
        assert!(idle.log.lock_writer().closed.is_empty());
    }
    let second = opened(folder.path());
    assert_eq!(second.store.keys(), 1_000);
    fill(&second, 1_000..1_100);
    drop(second);
    assert_eq!(opened(folder.path()).store.keys(), 1_100);
}
