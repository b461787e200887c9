//! The store as its drivers use it: claims, durability gates, parking, sweeping, merging.

mod advance;
mod conflicts;
mod memory;

use super::*;
use crate::entry::Winner;
use crate::ids::Fingerprint;
use crate::journal::Records;
use crate::limits;
use crate::policy::{Durable, Policy};
use crate::request::{Claim, Reason, Reply, Request};
use crate::token::Token;

const T0: u64 = 1_800_000_000_000;

fn config(region: u16) -> StoreConfig {
    StoreConfig {
        region: RegionId(region),
        incarnation: Incarnation(1),
        keys: ClusterKeys { hash: [1; 16], tag: [2; 16] },
        max_drift_ms: 500,
        shards: 4,
        max_memory_bytes: 64 << 20,
        ring_bytes_max: 1 << 20,
    }
}

fn store_with(region: u16, policy: Policy) -> Store {
    let store = Store::new(config(region), Policies::new(policy, Default::default()), Stamp::ZERO, 1);
    let _ = store.extend_ceiling(T0);
    settle(&store);
    store
}

fn store(region: u16) -> Store {
    store_with(region, Policy::default())
}

/// Writes and syncs all that waits.
fn settle(store: &Store) {
    while let Some(batch) = store.tail().take(Vec::new()) {
        store.tail().mark_written(batch);
    }
    store.tail().mark_synced(store.tail().written());
    store.settle_ceiling();
}

/// The status, the token if there is one, and what the reply waits for.
fn run(store: &Store, request: Request<'_>, wall_ms: u64) -> (&'static str, Option<Token>, Release) {
    let (mut status, mut token) = ("", None);
    let ran = store.run(&request, wall_ms, None, &mut Scratch::default(), |reply| {
        status = reply.status();
        if let Reply::Granted { token: granted, .. } = reply {
            token = Some(*granted);
        }
    });
    match ran.expect("well-formed") {
        Ran::Replied(release) => (status, token, release),
        Ran::Parked => ("PARKED", None, Release::default()),
        Ran::Asks(_, release) => ("ASKS", None, release),
        Ran::Forwards(_) => ("FORWARDS", None, Release::default()),
    }
}

fn claim<'a>(key: &'a [u8], claimant: &'a [u8]) -> Request<'a> {
    Request::Claim(Claim { key, claimant, ..Claim::default() })
}

fn complete<'a>(key: &'a [u8], token: Token, outcome: &'a [u8]) -> Request<'a> {
    Request::Complete { key, token, outcome, level: None, durable: false }
}

/// The bodies of everything in `from`'s log that was not taken yet.
fn bodies(from: &Store) -> Vec<Vec<u8>> {
    let Some(batch) = from.tail().take(Vec::new()) else { return Vec::new() };
    let mut records = Records::new(&batch.bytes);
    let mut bodies = Vec::new();
    while let Ok(body) = records.next_body() {
        if crate::journal::streamed(body).is_some() {
            bodies.push(body.to_vec());
        }
    }
    from.tail().mark_written(batch);
    bodies
}

fn ship(from: &Store, to: &Store, wall_ms: u64) -> Merged {
    let bodies = bodies(from);
    let bodies = bodies.iter().map(Vec::as_slice);
    to.merge(bodies, from.config().region, wall_ms, &mut Scratch::default())
        .expect("an honest peer's records")
}

#[test]
fn a_claim_is_granted_once_and_replayed_after_its_completion() {
    let store = store(1);
    let (status, token, _) = run(&store, claim(b"pay:1", b"a"), T0);
    assert_eq!(status, "GRANTED");
    assert_eq!(run(&store, claim(b"pay:1", b"b"), T0 + 1).0, "IN_PROGRESS");
    assert_eq!(run(&store, claim(b"pay:1", b"a"), T0 + 2).1, token, "a lost reply is safe to retry");
    let token = token.expect("granted");
    assert_eq!(run(&store, complete(b"pay:1", token, b"done"), T0 + 3).0, "COMPLETED");
    assert_eq!(run(&store, claim(b"pay:1", b"b"), T0 + 4).0, "REPLAY");
    assert_eq!(run(&store, complete(b"pay:1", token, b"done"), T0 + 5).0, "COMPLETED");
    assert_eq!(run(&store, complete(b"pay:1", token, b"else"), T0 + 5).0, "SUPERSEDED");
    let other = Claim { key: b"pay:1", fingerprint: Some(Fingerprint([1; 16])), ..Claim::default() };
    assert_eq!(run(&store, Request::Claim(other), T0 + 6).0, "MISMATCH");
    assert_eq!(store.keys(), 1);
}

/// S6: a reply that depends on state waits for all it saw, even when it wrote nothing itself.
#[test]
fn replies_wait_for_what_they_saw() {
    let store = store(1);
    let (_, _, granted) = run(&store, claim(b"k", b"a"), T0);
    let (_, _, duplicate) = run(&store, claim(b"k", b"b"), T0);
    let (_, _, get) = run(&store, Request::Get { key: b"k" }, T0);
    for release in [granted, duplicate, get] {
        assert!(!store.tail().may_release(&release), "nothing is written yet");
    }
    let batch = store.tail().take(Vec::new()).expect("a claim waits");
    store.tail().mark_written(batch);
    assert!(store.tail().may_release(&granted) && store.tail().may_release(&duplicate));
    let durable = Request::Claim(Claim { key: b"k", claimant: b"a", durable: true, ..Claim::default() });
    let (status, _, raised) = run(&store, durable, T0);
    assert_eq!(status, "GRANTED");
    assert!(!store.tail().may_release(&raised), "DURABLE raises what was written at interval before");
    store.tail().mark_synced(store.tail().written());
    assert!(store.tail().may_release(&raised));
}

/// At `interval` a reply needs the write only. It left although the sync of what it rested on had just failed:
/// the next power loss would have taken it back. Found by review.
#[test]
fn nothing_leaves_once_the_disk_has_failed() {
    let store = store(1);
    let (_, _, granted) = run(&store, claim(b"k", b"a"), T0);
    settle(&store);
    let (_, _, seen) = run(&store, Request::Get { key: b"k" }, T0);
    assert!(store.tail().may_release(&granted) && store.tail().may_release(&seen));
    store.tail().fail();
    for release in [granted, seen, Release::default()] {
        assert!(!store.tail().may_release(&release));
    }
    // Nor to a peer.
    assert!(matches!(store.tail().read(granted.written), RingRead::Nothing));
}

#[test]
fn at_always_a_reply_waits_for_the_sync() {
    let store = store_with(1, Policy { durable: Durable::Always, ..Policy::default() });
    let (_, _, granted) = run(&store, claim(b"k", b"a"), T0);
    let batch = store.tail().take(Vec::new()).expect("a claim waits");
    // Behind the claim stands the tail's own mark of what was synced before, for which nobody waits.
    assert_eq!((batch.sync_to, batch.last), (granted.synced, granted.synced + 1));
    store.tail().mark_written(batch);
    assert!(!store.tail().may_release(&granted));
    assert!(matches!(store.tail().read(granted.written), RingRead::Nothing), "nor does it leave for a peer");
    store.tail().mark_synced(granted.written);
    assert!(store.tail().may_release(&granted));
    assert!(matches!(store.tail().read(granted.written), RingRead::Batch(_)));
}

#[test]
fn two_regions_that_ran_one_key_agree_and_list_the_loser_once() {
    let (a, b) = (store(1), store(2));
    let (_, token_a, _) = run(&a, claim(b"pay:1", b"x"), T0);
    let (_, token_b, _) = run(&b, claim(b"pay:1", b"y"), T0 + 1);
    assert_eq!(run(&b, complete(b"pay:1", token_b.expect("granted"), b"B"), T0 + 2).0, "COMPLETED");
    assert_eq!(run(&a, complete(b"pay:1", token_a.expect("granted"), b"A"), T0 + 3).0, "COMPLETED");
    ship(&a, &b, T0 + 4);
    ship(&b, &a, T0 + 4);
    for store in [&a, &b] {
        let inspected = store.inspect(b"pay:1").expect("known");
        let entry = inspected.entry();
        let Winner::Settled(winner) = entry.winner() else { panic!("settled") };
        assert_eq!(winner.bytes, b"B", "the earlier completion wins");
        let page = store.conflicts(None, None, 10);
        assert_eq!(page.conflicts.len(), 1);
        assert_eq!(page.conflicts[0].id.completed_at, RegionId(1));
    }
    assert_eq!(a.digest(T0 + 5), b.digest(T0 + 5));
    assert_eq!(a.conflicts(None, None, 10), b.conflicts(None, None, 10));
    assert_eq!(run(&a, complete(b"pay:1", token_a.expect("granted"), b"A"), T0 + 6).0, "SUPERSEDED");
}

#[test]
fn a_frame_ahead_of_the_wall_clock_changes_nothing() {
    let (a, b) = (store(1), store(2));
    let _ = run(&a, claim(b"k", b"x"), T0 + 2_000);
    let bodies = bodies(&a);
    let before = b.clock().last();
    let refused = b.merge(bodies.iter().map(Vec::as_slice), RegionId(1), T0, &mut Scratch::default());
    assert_eq!(refused, Err(MergeRefused::Ahead { ahead_ms: 2_000 }));
    assert_eq!((b.clock().last(), b.keys()), (before, 0));
}

#[test]
fn a_parked_duplicate_is_woken_when_the_key_settles() {
    let store = store(1);
    let (_, token, _) = run(&store, claim(b"k", b"a"), T0);
    let waiting = Request::Claim(Claim { key: b"k", claimant: b"b", wait_ms: 500, ..Claim::default() });
    let ran = store.run(&waiting, T0, Some(7), &mut Scratch::default(), |_| panic!("it parks"));
    assert_eq!(ran, Ok(Ran::Parked));
    assert!(store.take_woken().is_empty());
    let _ = run(&store, complete(b"k", token.expect("granted"), b"r"), T0 + 1);
    assert_eq!(store.take_woken(), [7]);
    assert_eq!(run(&store, waiting, T0 + 2).0, "REPLAY");
}

#[test]
fn the_dead_are_swept_and_not_before() {
    let store = store(1);
    let short = Claim { key: b"k", lease_ms: Some(100), retention_ms: Some(2_000), ..Claim::default() };
    let _ = run(&store, Request::Claim(short), T0);
    let sweep = |wall_ms| (0..store.shards()).map(|shard| store.sweep(shard, wall_ms)).sum::<usize>();
    assert_eq!(sweep(T0 + 2_500), 0, "max_drift is added");
    assert_eq!(sweep(T0 + 2_501), 1);
    assert_eq!(store.keys(), 0);
    assert!(store.inspect(b"k").is_none());
}

/// A FORGET is remembered for 90 days; once the claims that it voided had expired, they stayed in memory
/// for as long. Found by the simulator (seed 3070).
#[test]
fn what_forget_voided_is_swept_at_its_own_expiry() {
    let store = store(1);
    let short = Claim { key: b"k", lease_ms: Some(100), retention_ms: Some(2_000), ..Claim::default() };
    let _ = run(&store, Request::Claim(short), T0);
    assert_eq!(run(&store, Request::Forget { key: b"k" }, T0 + 1).0, "FORGOTTEN");
    for shard in 0..store.shards() {
        assert_eq!(store.sweep(shard, T0 + 2_501), 0, "the key stays");
    }
    let inspected = store.inspect(b"k").expect("the FORGET itself stays");
    assert!(inspected.entry().attempts.is_empty() && inspected.entry().forgotten > Stamp::ZERO);
}

/// A duplicate waited for a key that had once been forgotten. Its holder's claim died of age; the FORGET outlived it, so
/// that the record stayed and the sweep woke nobody. Found by the simulator (seed 5858).
#[test]
fn a_parked_duplicate_is_woken_when_all_but_a_forget_dies() {
    let store = store(1);
    assert_eq!(run(&store, Request::Forget { key: b"k" }, T0).0, "FORGOTTEN");
    let short = Claim { key: b"k", lease_ms: Some(100), retention_ms: Some(2_000), ..Claim::default() };
    let _ = run(&store, Request::Claim(short), T0 + 1);
    let waiting = Request::Claim(Claim { key: b"k", claimant: b"b", wait_ms: 500, ..Claim::default() });
    let ran = store.run(&waiting, T0 + 50, Some(7), &mut Scratch::default(), |_| panic!("it parks"));
    assert_eq!(ran, Ok(Ran::Parked));
    for shard in 0..store.shards() {
        assert_eq!(store.sweep(shard, T0 + 2_502), 0, "the FORGET stays");
    }
    assert_eq!(store.take_woken(), [7]);
    assert_eq!(run(&store, waiting, T0 + 2_502).0, "GRANTED");
}

#[test]
fn a_scan_meets_every_key_once_whatever_the_page() {
    let store = store(1);
    let keys: Vec<String> = (0..50).map(|n| format!("ns:{n}")).collect();
    for key in &keys {
        let _ = run(&store, claim(key.as_bytes(), b"a"), T0);
    }
    for count in [1, 7, 50, 1_000] {
        let (mut met, mut from) = (Vec::new(), None);
        loop {
            let (page, _) = store.scan(from, b"ns:", count, T0);
            met.extend(page.keys.into_iter().map(|scanned| String::from_utf8(scanned.key).expect("ascii")));
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        met.sort();
        let mut expected = keys.clone();
        expected.sort();
        assert_eq!(met, expected, "pages of {count}");
    }
    assert!(store.scan(None, b"other:", 10, T0).0.keys.is_empty());
}

#[test]
fn the_gate_refuses_claims_and_nothing_else() {
    let store = store(1);
    let (_, token, _) = run(&store, claim(b"k", b"a"), T0);
    store.gate.set(Reason::CatchingUp, true);
    assert_eq!(run(&store, claim(b"l", b"a"), T0).0, "UNAVAILABLE");
    assert_eq!(run(&store, complete(b"k", token.expect("granted"), b"r"), T0).0, "COMPLETED");
    assert_eq!(run(&store, Request::Get { key: b"k" }, T0).0, "SETTLED");
    store.gate.set(Reason::CatchingUp, false);
    assert_eq!(run(&store, claim(b"l", b"a"), T0).0, "GRANTED");
}

/// S2: the clock issues nothing beyond what is synced ahead of it.
#[test]
fn without_a_synced_ceiling_nothing_is_granted() {
    let store = Store::new(config(1), Policies::default(), Stamp::ZERO, 1);
    assert_eq!(run(&store, claim(b"k", b"a"), T0).0, "UNAVAILABLE");
    assert!(store.extend_ceiling(T0).is_some());
    store.settle_ceiling();
    assert_eq!(run(&store, claim(b"k", b"a"), T0).0, "UNAVAILABLE", "appended is not synced");
    settle(&store);
    assert_eq!(run(&store, claim(b"k", b"a"), T0).0, "GRANTED");
}

/// An NTP mishap of two days moved the clock with it, for good: afterwards the region answered GRANTED for what
/// was settled everywhere, and FREE to a GET. Found by review.
#[test]
fn a_jump_of_the_wall_clock_is_not_followed_at_once() {
    let store = store(1);
    let (_, token, _) = run(&store, claim(b"k", b"a"), T0);
    let token = token.expect("granted");
    let jumped = T0 + 48 * 3600 * 1000;
    assert!(store.extend_ceiling(jumped).is_none());
    assert_eq!(run(&store, claim(b"l", b"a"), jumped).0, "UNAVAILABLE");
    assert_eq!(run(&store, Request::Forget { key: b"k" }, jumped).0, "UNAVAILABLE");
    assert_eq!(run(&store, complete(b"k", token, b"r"), jumped).0, "UNAVAILABLE", "not STALE");
    assert_eq!(run(&store, Request::Get { key: b"k" }, jumped).0, "HELD", "not FREE");
    assert_eq!((0..store.shards()).map(|shard| store.sweep(shard, jumped)).sum::<usize>(), 0);
    // The clock is put right: as if nothing had been.
    assert_eq!(run(&store, complete(b"k", token, b"r"), T0 + 1).0, "COMPLETED");
    assert!(store.clock().last().ms() <= T0 + 1);
    // A jump that lasts and that nobody contradicts is believed: the machine had slept.
    assert!(store.extend_ceiling(jumped).is_none());
    assert!(store.extend_ceiling(jumped + 2_000).is_some());
    settle(&store);
    assert_eq!(run(&store, claim(b"l", b"a"), jumped + 2_000).0, "GRANTED");
}

/// A sweep walks a shard only when something in it can be dead: whatever is written must bring that time forward, and
/// whatever stays after a walk must be found by a later one.
#[test]
fn every_key_is_swept_at_its_own_time_however_it_came() {
    let (store, other) = (store(1), store(2));
    let sweep =
        |store: &Store, wall_ms| (0..store.shards()).map(|shard| store.sweep(shard, wall_ms)).sum::<usize>();
    let claim = |store: &Store, key: &str, retention_ms| {
        let claim = Claim { key: key.as_bytes(), retention_ms: Some(retention_ms), ..Claim::default() };
        assert_eq!(run(store, Request::Claim(claim), T0).0, "GRANTED");
    };
    assert_eq!(sweep(&store, T0), 0, "nothing is there yet");
    let retentions = [300_000, 100_000, 200_000, 150_000, 400_000];
    for (number, retention_ms) in retentions.into_iter().enumerate() {
        claim(&store, &format!("pay:{number}"), retention_ms);
        assert_eq!(sweep(&store, T0 + 1), 0, "no walk may forget what was there before");
    }
    claim(&other, "pay:merged", 120_000);
    ship(&other, &store, T0);
    let mut gone = Vec::new();
    for second in 1..=450 {
        let wall_ms = T0 + second * 1_000;
        let _ = store.extend_ceiling(wall_ms);
        settle(&store);
        if sweep(&store, wall_ms) > 0 {
            gone.push(second);
        }
    }
    assert_eq!(gone, [101, 121, 151, 201, 301, 401], "by the bound between clocks behind their expiry");
    assert_eq!(store.keys(), 0);
}

/// Ten thousand waited for one key, each looked again twice a second, and for each the list of all of them was walked:
/// the shard did nothing else. Whoever comes when as many wait as may is answered at once.
#[test]
fn a_herd_waits_within_its_bound_and_is_woken_together() {
    let store = store(1);
    let (_, token, _) = run(&store, claim(b"hot", b"holder"), T0);
    let (_, other, _) = run(&store, claim(b"cold", b"holder"), T0);
    let wait = |key: &'static [u8], ticket| {
        let request = Request::Claim(Claim { key, claimant: b"w", wait_ms: 60_000, ..Claim::default() });
        let mut status = "PARKED";
        let ran =
            store.run(&request, T0, Some(ticket), &mut Scratch::default(), |reply| status = reply.status());
        assert_eq!(matches!(ran.expect("well-formed"), Ran::Parked), status == "PARKED");
        status
    };
    let most = limits::WAITERS_MAX as Ticket;
    assert_eq!(wait(b"cold", 0), "PARKED");
    assert!((1..most).all(|ticket| wait(b"hot", ticket) == "PARKED"));
    assert_eq!(wait(b"hot", most), "IN_PROGRESS", "answered at once");
    for ticket in 1..most {
        store.unpark(b"hot", ticket);
        assert_eq!(wait(b"hot", ticket), "PARKED", "each looks again");
    }
    let memory = store.measure().waiters_bytes;
    assert!(memory <= 64 * limits::WAITERS_MAX, "{memory} bytes for all of them");
    let _ = run(&store, complete(b"hot", token.expect("granted"), b"done"), T0 + 1);
    assert_eq!(store.take_woken(), (1..most).collect::<Vec<_>>(), "all of them, and nobody else");
    assert_eq!(wait(b"cold", most), "PARKED", "there is room again");
    let _ = run(&store, complete(b"cold", other.expect("granted"), b"done"), T0 + 2);
    assert_eq!(store.take_woken(), [0, most]);
}
