//! A disk that fills and empties: who is refused when, and that nothing decided ever lacks room.

use super::*;
use crate::hash::ClusterKeys;
use crate::hlc::Stamp;
use crate::ids::{Incarnation, RegionId};
use crate::policy::Policies;
use crate::request::{Claim, Reply};
use crate::store::{MergeRefused, Ran, Scratch, StoreConfig};
use crate::token::Token;

const T0: u64 = 1_800_000_000_000;
const KIB: u64 = 1024;

fn store(region: u16) -> Store {
    let config = StoreConfig {
        region: RegionId(region),
        incarnation: Incarnation(1),
        keys: ClusterKeys { hash: [1; 16], tag: [2; 16] },
        max_drift_ms: 500,
        shards: 4,
        max_memory_bytes: 64 << 20,
        ring_bytes_max: 1 << 20,
    };
    let store = Store::new(config, Policies::default(), Stamp::ZERO, 1);
    let _ = store.extend_ceiling(T0);
    settle(&store);
    store
}

/// Writes and syncs all that waits; its bytes.
fn settle(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(batch) = store.tail().take(Vec::new()) {
        bytes.extend_from_slice(&batch.bytes);
        store.tail().mark_written(batch);
    }
    store.tail().mark_synced(store.tail().written());
    store.settle_ceiling();
    bytes
}

/// The status with the reason of a refusal, and the token of a grant.
fn run(store: &Store, request: Request<'_>) -> (String, Option<Token>) {
    let (mut status, mut token) = (String::new(), None);
    let ran = store.run(&request, T0, None, &mut Scratch::default(), |reply| {
        status = reply.status().to_owned();
        if let Reply::Unavailable { reason, .. } = reply {
            status = format!("{status} {}", reason.name());
        }
        if let Reply::Granted { token: granted, .. } = reply {
            token = Some(*granted);
        }
    });
    assert!(matches!(ran, Ok(Ran::Replied(_))), "{ran:?}");
    (status, token)
}

fn claim(store: &Store, key: &str) -> (String, Option<Token>) {
    run(store, Request::Claim(Claim { key: key.as_bytes(), ..Claim::default() }))
}

fn complete(store: &Store, key: &str, token: Token, outcome: &[u8]) -> String {
    run(store, Request::Complete { key: key.as_bytes(), token, outcome, level: None, durable: false }).0
}

const REFUSED: &str = "UNAVAILABLE disk_full";

#[test]
fn claims_are_refused_first_and_the_rest_when_the_reserve_is_used_up() {
    let store = store(1);
    let held: Vec<_> = (0..100)
        .map(|number| {
            let key = format!("k:{number}");
            let token = claim(&store, &key).1.expect("granted");
            (key, token)
        })
        .collect();
    settle(&store);
    assert_eq!(store.log_room(), Room { state: RoomState::Free, bytes: None });
    let promised = limits::LOG_ROOM_LAST_BYTES + 100 * KIB;
    store.report_room([promised], true);
    assert_eq!(store.log_room(), Room { state: RoomState::Reserve, bytes: Some(promised) });
    assert_eq!(store.unready_reason(T0), Some(Reason::DiskFull));
    assert_eq!(claim(&store, "k:new").0, REFUSED);
    let outcome = [7; 4 * 1024];
    let statuses: Vec<_> = held.iter().map(|(key, token)| complete(&store, key, *token, &outcome)).collect();
    let done = statuses.iter().filter(|status| *status == "COMPLETED").count();
    assert!((15..30).contains(&done), "{done} outcomes of 4 KiB in 100 KiB");
    assert_eq!(statuses[done..].iter().filter(|status| *status == REFUSED).count(), 100 - done);
    assert!(settle(&store).len() as u64 <= promised - limits::LOG_ROOM_LAST_BYTES, "promised, not more");
    // Nothing was recorded of what was refused, and everything can still be read.
    for (number, (key, _)) in held.iter().enumerate() {
        let expected = if number < done { "SETTLED" } else { "HELD" };
        assert_eq!(run(&store, Request::Get { key: key.as_bytes() }).0, expected);
    }
    // A smaller one may still have room; then that is used up as well.
    let small = |number: usize| complete(&store, &held[number].0, held[number].1, b"");
    (done..100).for_each(|number| drop(small(number)));
    assert_eq!(store.log_room().state, RoomState::Exhausted);
    let (key, token) = held.last().expect("100");
    let (key, token) = (key.as_bytes(), *token);
    for request in [
        Request::Renew { key, token, lease_ms: None, level: None, durable: false },
        Request::Release { key, token, level: None, durable: false },
        Request::Forget { key },
    ] {
        assert_eq!(run(&store, request).0, REFUSED);
    }
    // Space returns.
    store.report_room([promised], false);
    assert_eq!(store.log_room().state, RoomState::Free);
    assert_eq!(claim(&store, "k:new").0, "GRANTED");
    assert_eq!(run(&store, Request::Release { key, token, level: None, durable: false }).0, "RELEASED");
}

/// An operation that is refused must not keep what it had set aside.
#[test]
fn refusals_give_their_room_back() {
    let store = store(1);
    let token = claim(&store, "k:1").1.expect("granted");
    settle(&store);
    let promised = limits::LOG_ROOM_LAST_BYTES + 20 * KIB;
    store.report_room([promised], true);
    for _ in 0..1_000 {
        assert_eq!(complete(&store, "k:1", token, &[7; 30 * 1024]), REFUSED);
    }
    assert_eq!(store.log_room().bytes, Some(promised));
    assert_eq!(complete(&store, "k:1", token, b"ok"), "COMPLETED");
}

/// Bytes alone do not say that a record fits: it may lie across the end of a segment.
#[test]
fn what_is_lost_at_the_end_of_segments_is_not_promised() {
    let store = store(1);
    settle(&store);
    let small = limits::LOG_RECORD_SMALL_BYTES;
    store.report_room([500 * KIB, 300 * KIB, 10, 300 * KIB], true);
    assert_eq!(store.log_room().bytes, Some(800 * KIB - 2 * small + 300 * KIB));
    let need = |bytes| {
        let mut need = RoomNeed::default();
        need.record(bytes);
        store.take_room(&need).is_ok()
    };
    // Large records count twice, for what they may leave unused; and none may be larger than every segment.
    assert!(need(small) && need(300 * KIB) && !need(450 * KIB) && !need(501 * KIB));
}

/// Against the rule by which the daemon fills segments: whatever is admitted fits.
#[test]
fn all_that_is_admitted_fits_in_the_segments() {
    for seed in 1..200u64 {
        let mut state = seed;
        let mut dice = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let store = store(1);
        let mut lefts: Vec<u64> = (0..1 + dice(4)).map(|_| 300 * KIB + dice(700 * KIB)).collect();
        store.report_room(lefts.clone(), true);
        let mut refused = 0;
        while refused < 20 {
            let bytes = if dice(8) == 0 { dice(400 * KIB) } else { dice(8 * KIB) }.max(64);
            let mut need = RoomNeed::default();
            need.record(bytes);
            let Ok(_room) = store.take_room(&need) else {
                refused += 1;
                continue;
            };
            store.tail().append(1, &vec![0; bytes as usize - 9], 0, crate::policy::Durable::Interval);
            // The current segment, else the first of those behind that takes the record; then what was left of
            // the current one is lost.
            let Some(at) = lefts.iter().position(|left| *left >= bytes) else {
                panic!("seed {seed}: {bytes} bytes were admitted, and no segment has room: {lefts:?}")
            };
            if at > 0 {
                lefts[0] = lefts.remove(at);
            }
            lefts[0] -= bytes;
        }
    }
}

#[test]
fn a_frame_without_room_changes_nothing() {
    let (from, to) = (store(1), store(2));
    let tokens: Vec<_> = (0..50).map(|number| claim(&from, &format!("k:{number}")).1).collect();
    assert!(tokens.iter().all(Option::is_some));
    let log = settle(&from);
    let mut records = journal::Records::new(&log);
    let mut bodies = Vec::new();
    while let Ok(body) = records.next_body() {
        if journal::streamed(body).is_some() {
            bodies.push(body);
        }
    }
    let merge = || to.merge(bodies.iter().copied(), RegionId(1), T0, &mut Scratch::default());
    to.report_room([limits::LOG_ROOM_LAST_BYTES + KIB], true);
    assert_eq!(merge(), Err(MergeRefused::NoRoom));
    assert_eq!((to.keys(), settle(&to).len()), (0, 0));
    to.report_room([limits::LOG_ROOM_LAST_BYTES + 100 * KIB], true);
    assert_eq!(merge().map(|merged| merged.applied), Ok(50));
    assert_eq!(claim(&to, "k:new").0, REFUSED, "merging goes on while claims are refused");
}

/// With not even room for the clock's ceiling, nothing is stamped; and all comes back by itself.
#[test]
fn the_ceiling_stands_still_without_room_and_goes_on_with_it() {
    let store = store(1);
    settle(&store);
    store.report_room([10], true);
    for later_ms in [2_500, 10_000, 60_000] {
        assert!(store.extend_ceiling(T0 + later_ms).is_none());
    }
    assert_eq!(settle(&store).len(), 0);
    store.report_room([limits::LOG_ROOM_LAST_BYTES], true);
    let later_ms = T0 + 61_000;
    // A wall clock so far beyond the ceiling is believed once it has lasted.
    assert!(store.extend_ceiling(later_ms).is_none());
    assert!(store.extend_ceiling(later_ms + limits::CLOCK_JUMP_SETTLE_MS).is_some());
}

/// `fitting` is the rule by which segments are filled.
#[test]
fn whole_records_fit_or_do_not() {
    let store = store(1);
    for number in 0..10 {
        assert_eq!(claim(&store, &format!("k:{number}")).0, "GRANTED");
    }
    let log = settle(&store);
    let (all, records) = journal::fitting(&log, log.len());
    // The eleventh is the tail's own: a mark of what was synced before.
    assert_eq!((all, records), (log.len(), 11));
    assert_eq!(journal::fitting(&log, 0), (0, 0));
    assert_eq!(journal::fitting(&[], 100), (0, 0));
    let (most, ten) = journal::fitting(&log, log.len() - 1);
    assert_eq!(ten, 10);
    assert_eq!(journal::fitting(&log[most..], log.len()), (log.len() - most, 1));
}
