//! What the simulator cannot cover: real threads hammering one store.
//!
//! Few keys, so that everybody meets everybody; a writer thread takes, "writes" and syncs the log as a
//! daemon does. Afterwards the histories and the log are held against each other: at most one grant a
//! life of a key, the log's deltas of a key in the order in which they were decided, a replay equal to
//! the map, no waiter lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crdt::entry::Phase;
use crdt::hash::ClusterKeys;
use crdt::hlc::Stamp;
use crdt::ids::{Incarnation, RegionId};
use crdt::journal::{Record, Records};
use crdt::policy::{Policies, Policy};
use crdt::recovery::{Recovered, Recovery, RecoveryConfig};
use crdt::request::{Claim, Reply, Request};
use crdt::store::{Ran, Release, Scratch, Store, StoreConfig};
use crdt::token::Token;

const T0: u64 = 1_800_000_000_000;
const THREADS: usize = 4;
const OPERATIONS: u64 = 50_000;
const KEYS: u64 = 7;

fn config() -> RecoveryConfig {
    RecoveryConfig {
        store: StoreConfig {
            region: RegionId(1),
            incarnation: Incarnation::default(),
            keys: ClusterKeys { hash: [1; 16], tag: [2; 16] },
            max_drift_ms: 500,
            shards: 4,
            max_memory_bytes: 1 << 30,
            ring_bytes_max: 1 << 20,
        },
        policies: policies(),
        cluster: [7; 16],
        boot: 1,
        acknowledged_unsynced: true,
        wall_ms: T0 - 1_000,
        salvage: false,
        keys_hint: 0,
    }
}

/// Quotas that refuse nothing here: their books are looked at.
fn policies() -> Policies {
    let quota = |max_keys| Policy { max_keys, max_bytes: Some(1 << 28), ..Policy::default() };
    let named = [(b"ns1".to_vec(), quota(Some(1_000_000))), (b"ns2".to_vec(), quota(None))];
    Policies::new(Policy::default(), named.into_iter().collect())
}

struct Disk {
    bytes: Vec<u8>,
    records: u64,
}

/// One turn of the log's writer: batches follow each other without a gap.
fn write(store: &Store, disk: &mut Disk) {
    while let Some(batch) = store.tail().take(Vec::new()) {
        assert_eq!(batch.first, disk.records + 1, "contiguous");
        let mut records = Records::new(&batch.bytes);
        while records.next_body().is_ok() {
            disk.records += 1;
        }
        assert_eq!(batch.last, disk.records, "complete");
        disk.bytes.extend_from_slice(&batch.bytes);
        store.tail().mark_written(batch);
    }
    store.tail().mark_synced(store.tail().written());
    store.settle_ceiling();
}

fn started() -> (Store, Disk) {
    let Recovered { store, header, .. } = Recovery::new(config()).finish();
    let mut disk = Disk { bytes: header.encode().to_vec(), records: 0 };
    let _ = store.extend_ceiling(T0);
    write(&store, &mut disk);
    (store, disk)
}

/// Counts a thread out.
struct Done<'w>(&'w AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs `work` on every thread beside a writer; gives back the disk.
fn hammer(store: &Store, mut disk: Disk, work: impl Fn(usize) + Sync) -> Disk {
    let working = AtomicUsize::new(THREADS);
    #[expect(clippy::disallowed_methods, reason = "threads are what this test is about")]
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (work, working) = (&work, &working);
            scope.spawn(move || {
                // Also when it panics: the writer must not wait for ever.
                let _done = Done(working);
                work(thread);
            });
        }
        while working.load(Ordering::Acquire) > 0 {
            let _ = store.extend_ceiling(T0);
            write(store, &mut disk);
            std::thread::yield_now();
        }
    });
    write(store, &mut disk);
    disk
}

fn replayed(disk: &Disk) -> Store {
    let mut recovery = Recovery::new(config());
    let report = recovery.segment("log", &disk.bytes, &[], || 0).expect("undamaged");
    assert_eq!((report.last_lsn, report.torn_bytes), (disk.records, 0));
    recovery.finish().store
}

/// What one thread did, in the order in which it did it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Did {
    Granted(Token),
    Ended(Token),
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn run(store: &Store, request: Request<'_>, scratch: &mut Scratch) -> (&'static str, Option<Token>, Release) {
    let (mut status, mut token) = ("", None);
    let ran = store.run(&request, T0, None, scratch, |reply| {
        status = reply.status();
        if let Reply::Granted { token: granted, .. } = reply {
            token = Some(*granted);
        }
    });
    let Ok(Ran::Replied(release)) = ran else { panic!("{ran:?}") };
    (status, token, release)
}

/// One thread: claims whatever is free and releases what it holds, as fast as it can.
fn contend(store: &Store, thread: usize, history: &Mutex<Vec<(u64, u64, Did)>>, clock: &AtomicU64) {
    let (mut dice, mut scratch, mut mine) = (Dice(thread as u64 + 1), Scratch::default(), Vec::new());
    let mut held: BTreeMap<u64, Token> = BTreeMap::new();
    for _ in 0..OPERATIONS {
        let number = dice.below(KEYS);
        let key = format!("k:{number}");
        if let Some(token) = held.remove(&number) {
            // Noted before it is done: from here on somebody else may be granted the key.
            mine.push((clock.fetch_add(1, Ordering::SeqCst), number, Did::Ended(token)));
            let release = Request::Release { key: key.as_bytes(), token, level: None, durable: false };
            assert_eq!(run(store, release, &mut scratch).0, "RELEASED");
            continue;
        }
        let claim = Request::Claim(Claim { key: key.as_bytes(), ..Claim::default() });
        let (status, token, release) = run(store, claim, &mut scratch);
        match token {
            Some(token) => {
                mine.push((clock.fetch_add(1, Ordering::SeqCst), number, Did::Granted(token)));
                assert!(release.written > 0, "a grant waits for its record");
                held.insert(number, token);
            }
            None => assert_eq!(status, "IN_PROGRESS"),
        }
    }
    for (number, token) in held {
        mine.push((clock.fetch_add(1, Ordering::SeqCst), number, Did::Ended(token)));
        let key = format!("k:{number}");
        let release = Request::Release { key: key.as_bytes(), token, level: None, durable: false };
        assert_eq!(run(store, release, &mut scratch).0, "RELEASED");
    }
    history.lock().expect("no panic elsewhere").extend(mine);
}

/// INV-4, INV-9: between a grant of a key and its end nobody else is granted it; stamps never repeat;
/// the log says the same, in the same order, and replays to the same map.
#[test]
fn threads_never_hold_one_key_together() {
    let (store, disk) = started();
    let (history, clock) = (Mutex::default(), AtomicU64::new(0));
    let disk = hammer(&store, disk, |thread| contend(&store, thread, &history, &clock));
    let mut history = history.into_inner().expect("no panic");
    history.sort_unstable_by_key(|(at, ..)| *at);
    let grants = history.iter().filter(|(.., did)| matches!(did, Did::Granted(_))).count();
    assert!(grants > 1_000, "{grants} grants");

    let mut stamps = BTreeSet::new();
    let (mut holder, mut lives): (BTreeMap<Vec<u8>, Stamp>, _) = (BTreeMap::new(), 0);
    let mut records = Records::new(&disk.bytes[crdt::journal::HEADER_BYTES..]);
    while let Ok(body) = records.next_body() {
        let Ok(Record::Entry(_, read)) = Record::decode(body) else { continue };
        let entry = read.entry.unpack().expect("our own");
        for attempt in entry.attempts.iter() {
            match attempt.phase {
                Phase::Held => {
                    assert!(stamps.insert(attempt.id.stamp), "stamp {:?} twice", attempt.id.stamp);
                    let before = holder.insert(read.key.0.to_vec(), attempt.id.stamp);
                    assert_eq!(before, None, "granted while held, in the log's order");
                    lives += 1;
                }
                Phase::Released => assert_eq!(holder.remove(read.key.0), Some(attempt.id.stamp)),
                Phase::Asked => panic!("nobody asked for a quorum"),
            }
        }
    }
    assert_eq!(lives, grants, "every grant is in the log");
    no_two_hold(&history);
    assert_eq!(replayed(&disk).digest(T0), store.digest(T0));
    assert_eq!(store.keys() as u64, KEYS);
}

/// A grant is noted after it, an end before it: so nobody is noted as a second holder of a key.
fn no_two_hold(history: &[(u64, u64, Did)]) {
    let mut holders: BTreeMap<u64, Token> = BTreeMap::new();
    for (_, key, did) in history {
        match did {
            Did::Granted(token) => {
                let before = holders.insert(*key, *token);
                assert_eq!(before, None, "key {key} granted while another held it");
            }
            Did::Ended(token) => assert_eq!(holders.remove(key), Some(*token)),
        }
    }
}

/// Different threads finish and forget different keys while others read everything: counters, digest
/// and replay agree with the map.
#[test]
fn everything_at_once_replays_to_the_same_map() {
    let (store, disk) = started();
    let disk = hammer(&store, disk, |thread| {
        let (mut dice, mut scratch) = (Dice(thread as u64 + 100), Scratch::default());
        let mut tokens: Vec<(String, Token)> = Vec::new();
        for _ in 0..OPERATIONS / 2 {
            let key = format!("ns{}:{}", dice.below(3), dice.below(400));
            let some = (!tokens.is_empty()).then(|| dice.below(tokens.len() as u64) as usize);
            match (dice.below(100), some) {
                (0..50, _) | (_, None) => {
                    let claim =
                        Request::Claim(Claim { key: key.as_bytes(), claimant: b"x", ..Claim::default() });
                    tokens.extend(run(&store, claim, &mut scratch).1.map(|token| (key, token)));
                }
                (50..80, Some(at)) => {
                    let (key, token) = tokens.swap_remove(at);
                    let outcome = vec![thread as u8; dice.below(6_000) as usize];
                    let request = Request::Complete {
                        key: key.as_bytes(),
                        token,
                        outcome: &outcome,
                        level: None,
                        durable: false,
                    };
                    let _ = run(&store, request, &mut scratch);
                }
                (80..90, Some(at)) => {
                    let (key, token) = tokens.swap_remove(at);
                    let _ = run(
                        &store,
                        Request::Release { key: key.as_bytes(), token, level: None, durable: true },
                        &mut scratch,
                    );
                }
                (90..92, _) => {
                    let _ = run(&store, Request::Forget { key: key.as_bytes() }, &mut scratch);
                }
                (92..93, _) => {
                    let _ = store.sweep(dice.below(4) as usize, T0);
                    let _ = store.scan(None, b"ns1:", 10, T0);
                }
                _ => {
                    let _ = run(&store, Request::Get { key: key.as_bytes() }, &mut scratch);
                }
            }
        }
    });
    let again = replayed(&disk);
    assert_eq!(again.digest(T0), store.digest(T0), "INV-13");
    assert_eq!(again.keys(), store.keys());
    assert_eq!(again.conflicts(None, None, 1_000), store.conflicts(None, None, 1_000));
    let (mut counted, mut of) = (0, BTreeMap::<Vec<u8>, usize>::new());
    store.for_each(|key, _| {
        counted += 1;
        *of.entry(key[..3].to_vec()).or_default() += 1;
    });
    assert_eq!(counted, store.keys());
    // INV-14: what was booked by many threads at once is what recovery books anew.
    assert_eq!(again.quotas(), store.quotas());
    for quota in store.quotas() {
        assert_eq!(quota.keys, of[&quota.namespace.expect("both have a table")]);
    }
    let (memory, anew) = (store.measure(), again.measure());
    assert_eq!(memory.records_bytes - memory.free_bytes, anew.records_bytes - anew.free_bytes);
}

/// A parked duplicate is always woken: tickets that run again after each wake-up get the key in the end.
#[test]
fn no_waiter_is_lost() {
    const ROUNDS: u64 = 2_000;
    let (store, disk) = started();
    let (next_ticket, turns) = (AtomicU64::new(1), AtomicU64::new(0));
    let woken: Mutex<BTreeSet<u64>> = Mutex::default();
    let busy = AtomicBool::new(false);
    hammer(&store, disk, |thread| {
        let mut scratch = Scratch::default();
        for round in 0..ROUNDS {
            let key = format!("turn:{}", round % 3);
            let ticket = next_ticket.fetch_add(1, Ordering::Relaxed);
            let claim = Request::Claim(Claim { key: key.as_bytes(), wait_ms: 60_000, ..Claim::default() });
            let mut token = None;
            let mut attempts = 0u64;
            loop {
                let ran = store.run(&claim, T0, Some(ticket), &mut scratch, |reply| match reply {
                    Reply::Granted { token: granted, .. } => token = Some(*granted),
                    other => panic!("thread {thread} was answered {}", other.status()),
                });
                if ran != Ok(Ran::Parked) {
                    break;
                }
                // Wait for the wake-up; whoever looks distributes all.
                loop {
                    let mut woken = woken.lock().expect("no panic elsewhere");
                    woken.extend(store.take_woken());
                    if woken.remove(&ticket) {
                        break;
                    }
                    drop(woken);
                    attempts += 1;
                    assert!(attempts < 50_000_000, "ticket {ticket} of {key} was never woken");
                    std::thread::yield_now();
                }
            }
            let token = token.expect("granted");
            if round % 3 == 0 {
                assert!(!busy.swap(true, Ordering::SeqCst), "two hold turn:0");
                std::thread::yield_now();
                busy.store(false, Ordering::SeqCst);
            }
            turns.fetch_add(1, Ordering::Relaxed);
            let release = Request::Release { key: key.as_bytes(), token, level: None, durable: false };
            assert_eq!(run(&store, release, &mut scratch).0, "RELEASED");
        }
    });
    assert_eq!(turns.load(Ordering::Relaxed), ROUNDS * THREADS as u64);
    assert_eq!(store.take_woken(), [], "nobody is left");
}
