//! Memory and quotas: the books against a recount, and what bounds refuse.

use super::*;
use crate::store::memory::INDEX_BYTES_A_KEY;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn quota(max_keys: Option<u64>, max_bytes: Option<u64>) -> Policy {
    Policy { max_keys, max_bytes, ..Policy::default() }
}

/// A store with so much memory; namespaces with their policies, and one for all others.
fn bounded(max_memory_bytes: usize, default: Policy, named: &[(&str, Policy)]) -> Store {
    let named = named.iter().map(|(name, policy)| (name.as_bytes().to_vec(), policy.clone())).collect();
    let config = StoreConfig { max_memory_bytes, ring_bytes_max: 0, ..config(1) };
    let store = Store::new(config, Policies::new(default, named), Stamp::ZERO, 1);
    let _ = store.extend_ceiling(T0);
    settle(&store);
    store
}

/// Status and reason of a claim.
fn ask(store: &Store, claim: Claim<'_>, wall_ms: u64) -> (&'static str, Option<Reason>) {
    let mut told = ("", None);
    let ran = store.run(&Request::Claim(claim), wall_ms, None, &mut Scratch::default(), |reply| {
        let reason = if let Reply::Unavailable { reason, .. } = reply { Some(*reason) } else { None };
        told = (reply.status(), reason);
    });
    assert!(ran.is_ok());
    settle(store);
    told
}

/// Claims fresh keys of a namespace until one is refused; how many were granted, and why no more.
fn fill(store: &Store, namespace: &str, note: &[u8]) -> (usize, Reason) {
    for number in 0..1_000_000 {
        let key = format!("{namespace}:{number}");
        let (status, reason) = ask(store, Claim { key: key.as_bytes(), note, ..Claim::default() }, T0);
        if let Some(reason) = reason {
            return (number, reason);
        }
        assert_eq!(status, "GRANTED");
    }
    panic!("nothing bounds {namespace}");
}

fn sweep_all(store: &Store, wall_ms: u64) -> usize {
    let gone = (0..store.shards()).map(|shard| store.sweep(shard, wall_ms)).sum();
    store.measure();
    gone
}

/// What the books should say: keys, and by namespace its keys and bytes.
fn recount(store: &Store) -> (usize, BTreeMap<Vec<u8>, (usize, usize)>) {
    let (mut keys, mut namespaces) = (0, BTreeMap::<Vec<u8>, (usize, usize)>::new());
    for side in &store.sides {
        for record in lock(side).arena.records() {
            let key = run::unpack(record).0;
            let counted = namespaces.entry(crate::ids::namespace(key).to_vec()).or_default();
            counted.0 += 1;
            counted.1 += Arena::cost(record.len()) + INDEX_BYTES_A_KEY;
            keys += 1;
        }
    }
    (keys, namespaces)
}

fn books_are_right(store: &Store) {
    let (keys, namespaces) = recount(store);
    assert_eq!(store.keys(), keys);
    assert_eq!(store.index.len(), keys);
    for quota in store.quotas() {
        let name = quota.namespace.as_deref().unwrap_or(b"other");
        let counted = namespaces.get(name).copied().unwrap_or_default();
        assert_eq!((quota.keys, quota.bytes), counted, "{}", name.escape_ascii());
    }
    let held: usize = store.sides.iter().map(|side| lock(side).arena.held()).sum();
    let memory = store.measure();
    assert_eq!(memory.records_bytes, held);
    let live: usize = namespaces.values().map(|(keys, bytes)| bytes - keys * INDEX_BYTES_A_KEY).sum();
    assert_eq!(store.books.live.load(Ordering::Relaxed), live);
    assert!(memory.held_bytes() <= store.memory_bytes() && memory.free_bytes <= held);
}

#[derive(Clone, Debug)]
enum Op {
    Claim { at: usize, key: usize, note: usize, short: bool },
    Complete { at: usize, token: usize, outcome: usize },
    Release { token: usize },
    Forget { at: usize, key: usize },
    Ship { from: usize },
    Sweep { at: usize },
    Later { ms: u64 },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let at = 0usize..2;
    let op = prop_oneof![
        8 => (at.clone(), 0usize..30, 0usize..600, any::<bool>())
            .prop_map(|(at, key, note, short)| Op::Claim { at, key, note, short }),
        5 => (at.clone(), any::<usize>(), prop_oneof![0usize..300, 3_900usize..6_000])
            .prop_map(|(at, token, outcome)| Op::Complete { at, token, outcome }),
        1 => any::<usize>().prop_map(|token| Op::Release { token }),
        1 => (at.clone(), 0usize..30).prop_map(|(at, key)| Op::Forget { at, key }),
        2 => at.clone().prop_map(|from| Op::Ship { from }),
        2 => at.prop_map(|at| Op::Sweep { at }),
        2 => (1u64..3_000).prop_map(|ms| Op::Later { ms }),
    ];
    prop::collection::vec(op, 1..150)
}

fn named(key: usize) -> String {
    format!("{}:{key}", ["keys", "bytes", "other"][key % 3])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is claimed, completed, merged, forgotten and swept: the books equal a recount over the map.
    #[test]
    fn the_books_equal_a_recount(ops in ops()) {
        let policies = [("keys", quota(Some(8), None)), ("bytes", quota(None, Some(20_000)))];
        let stores = [1, 2].map(|region| {
            let store = bounded(1 << 20, quota(Some(1_000), Some(1 << 18)), &policies);
            Store { config: StoreConfig { region: RegionId(region), ..store.config.clone() }, ..store }
        });
        let (mut wall_ms, mut tokens) = (T0, Vec::new());
        for op in ops {
            match op {
                Op::Claim { at, key, note, short } => {
                    let key = named(key);
                    let note = vec![b'n'; note];
                    let retention_ms = Some(if short { 2_000 } else { 600_000 });
                    let claim = Claim {
                        key: key.as_bytes(), note: &note, retention_ms, lease_ms: Some(500), ..Claim::default()
                    };
                    let (_, token, _) = run(&stores[at], Request::Claim(claim), wall_ms);
                    tokens.extend(token.map(|token| (at, key, token)));
                }
                Op::Complete { at, token, outcome } if !tokens.is_empty() => {
                    let (_, key, token) = &tokens[token % tokens.len()];
                    let _ = run(&stores[at], complete(key.as_bytes(), *token, &vec![b'o'; outcome]), wall_ms);
                }
                Op::Release { token } if !tokens.is_empty() => {
                    let (at, key, token) = &tokens[token % tokens.len()];
                    let request = Request::Release { key: key.as_bytes(), token: *token, level: None, durable: false };
                    let _ = run(&stores[*at], request, wall_ms);
                }
                Op::Forget { at, key } => {
                    let _ = run(&stores[at], Request::Forget { key: named(key).as_bytes() }, wall_ms);
                }
                Op::Ship { from } => { let _ = ship(&stores[from], &stores[1 - from], wall_ms); }
                Op::Sweep { at } => { let _ = sweep_all(&stores[at], wall_ms); }
                Op::Later { ms } => wall_ms += ms,
                Op::Complete { .. } | Op::Release { .. } => {}
            }
            for store in &stores {
                let _ = store.extend_ceiling(wall_ms);
                store.tail.mark_synced(store.tail.written());
            }
        }
        stores.iter().for_each(books_are_right);
        for store in &stores {
            let _ = sweep_all(store, wall_ms + 700_000);
            books_are_right(store);
        }
    }
}

#[test]
fn at_the_bound_new_grants_are_refused_and_nothing_else() {
    let store = bounded(200_000, Policy::default(), &[]);
    let (_, token, _) = run(&store, claim(b"pay:held", b"a"), T0);
    let token = token.expect("granted");
    let (_, done, _) = run(&store, claim(b"pay:done", b"a"), T0);
    assert_eq!(run(&store, complete(b"pay:done", done.expect("granted"), b"r"), T0).0, "COMPLETED");
    let (count, reason) = fill(&store, "pay", b"");
    assert_eq!(reason, Reason::Full);
    assert!(count > 500, "{count} keys in 200 kB");
    let over = store.memory_bytes();
    assert!((200_000..220_000).contains(&over), "{over}");
    assert_eq!(store.measure().pressure(Pressure::Calm), Pressure::Full);
    // What needs no memory is answered as ever.
    assert_eq!(run(&store, claim(b"pay:done", b"b"), T0 + 1).0, "REPLAY");
    assert_eq!(run(&store, claim(b"pay:held", b"b"), T0 + 1).0, "IN_PROGRESS");
    assert_eq!(run(&store, claim(b"pay:held", b"a"), T0 + 1).0, "GRANTED", "again, to its claimant");
    assert_eq!(run(&store, Request::Get { key: b"pay:done" }, T0 + 1).0, "SETTLED");
    let renew =
        Request::Renew { key: b"pay:held", token, lease_ms: Some(60_000), level: None, durable: false };
    assert_eq!(run(&store, renew, T0 + 1).0, "RENEWED");
    assert_eq!(run(&store, complete(b"pay:held", token, &[1; 5_000]), T0 + 2).0, "COMPLETED");
    assert!(store.is_ready(T0 + 2), "whether to send requests here is another question");
}

/// S6: nothing is evicted, and service returns by itself as keys expire.
#[test]
fn service_returns_as_keys_expire_whatever_their_size() {
    let store = bounded(1_000_000, Policy::default(), &[]);
    let mut granted = 0usize;
    for number in 0.. {
        let key = format!("pay:{number}");
        // One in ten lives on, scattered over all pages.
        let retention_ms = Some(if number % 10 == 0 { 3_600_000 } else { 2_000 });
        let claim = Claim { key: key.as_bytes(), retention_ms, lease_ms: Some(100), ..Claim::default() };
        match ask(&store, claim, T0) {
            ("GRANTED", _) => granted += 1,
            (_, reason) => {
                assert_eq!(reason, Some(Reason::Full));
                break;
            }
        }
    }
    let later = T0 + 2_501;
    let _ = store.extend_ceiling(later - 1_000);
    settle(&store);
    let _ = store.extend_ceiling(later);
    settle(&store);
    let large = vec![b'n'; 700];
    assert_eq!(sweep_all(&store, later - 1_000), 0, "nothing live goes");
    assert_eq!(sweep_all(&store, later), granted - granted.div_ceil(10));
    for _ in 0..10 {
        let _ = sweep_all(&store, later);
    }
    let memory = store.measure();
    assert!(memory.held_bytes() < 300_000, "a tenth lives: {memory:?}");
    // Larger ones than those that went: they fit into none of their places.
    for number in 0..600 {
        let key = format!("new:{number}");
        let claim = Claim { key: key.as_bytes(), note: &large, ..Claim::default() };
        assert_eq!(ask(&store, claim, later).0, "GRANTED", "number {number}: {:?}", store.measure());
    }
    books_are_right(&store);
}

#[test]
fn what_fits_into_a_free_place_is_granted_at_the_bound() {
    let store = bounded(200_000, Policy::default(), &[]);
    let short = |key: String, wall_ms| {
        let (retention_ms, lease_ms) = (Some(2_000), Some(100));
        ask(&store, Claim { key: key.as_bytes(), retention_ms, lease_ms, ..Claim::default() }, wall_ms).0
    };
    for number in 0..50 {
        assert_eq!(short(format!("a:{number:06}"), T0), "GRANTED");
    }
    store.measure();
    // Some shards have a rest of a page when the first one has none.
    for number in 0..3_000 {
        let _ = ask(&store, Claim { key: format!("rest:{number}").as_bytes(), ..Claim::default() }, T0);
    }
    let later = T0 + 2_501;
    let _ = store.extend_ceiling(later);
    settle(&store);
    let held = store.memory_bytes();
    assert_eq!(sweep_all(&store, later), 50);
    assert!(store.memory_bytes() > held - 2_000, "not enough has gone for a page to be given back");
    let again = (0..200).filter(|number| short(format!("b:{number:06}"), later) == "GRANTED");
    let again = again.count();
    assert!((25..=60).contains(&again), "{again}: about as many as went");
}

#[test]
fn a_quota_of_keys_refuses_new_keys_of_its_namespace_alone() {
    let store = bounded(1 << 20, Policy::default(), &[("mail", quota(Some(10), None))]);
    assert_eq!(fill(&store, "mail", b""), (10, Reason::Quota));
    assert_eq!(run(&store, claim(b"pay:1", b"a"), T0).0, "GRANTED");
    assert_eq!(run(&store, claim(b"mail:3", b"b"), T0).0, "IN_PROGRESS");
    // A key that is known already is no new one: a claim that takes over may.
    let later = T0 + 31_000;
    let _ = store.extend_ceiling(later);
    settle(&store);
    let _ = store.extend_ceiling(later + 2_000);
    settle(&store);
    assert_eq!(run(&store, claim(b"mail:3", b"b"), later).0, "GRANTED");
    books_are_right(&store);
}

#[test]
fn a_quota_of_bytes_holds_to_a_record() {
    let store = bounded(8 << 20, Policy::default(), &[("mail", quota(None, Some(100_000)))]);
    let (count, reason) = fill(&store, "mail", &[1; 100]);
    assert_eq!(reason, Reason::Quota);
    let used = &store.quotas()[0];
    assert_eq!(used.keys, count);
    assert!((99_500..=100_000).contains(&used.bytes), "{used:?}");
    assert_eq!(used.pressure(Pressure::Calm), Pressure::Full, "{used:?}");
    assert_eq!(run(&store, claim(b"pay:1", b"a"), T0).0, "GRANTED");
}

/// The promise: one noisy service never gets payments refused.
#[test]
fn what_is_reserved_for_a_namespace_is_kept_free_for_it() {
    let reserved = 300_000;
    let store = bounded(1_000_000, Policy::default(), &[("pay", quota(None, Some(reserved)))]);
    let (noisy, reason) = fill(&store, "noisy", &[1; 50]);
    assert_eq!(reason, Reason::Full);
    let memory = store.measure();
    assert_eq!((memory.reserved_bytes, memory.unclaimed_bytes), (300_000, 300_000));
    assert!((690_000..720_000).contains(&memory.held_bytes()), "{memory:?}");
    assert_eq!(memory.pressure(Pressure::Calm), Pressure::Full, "for those who share");
    let (paid, reason) = fill(&store, "pay", &[1; 50]);
    assert_eq!(reason, Reason::Quota, "refused by its own bound only");
    assert!(paid * 2 > noisy / 2, "{paid} payments beside {noisy} others");
    let held = store.measure().held_bytes();
    let page_a_shard = 4 * 16 * 1024;
    let sums_a_shard = 4 * 1024;
    let rounding = page_a_shard + sums_a_shard;
    assert!(held < 1_000_000 + rounding, "what was reserved was there, but for rounding: {held}");
    let another = fill(&store, "another", b"");
    assert!(another.0 < 500 && another.1 == Reason::Full, "at most the rests of pages: {another:?}");
}

/// What expired payments leave is not for others: they would take it, and the next payments more than the bound.
#[test]
fn what_a_reservation_leaves_is_not_taken_by_others() {
    let store = bounded(2_000_000, Policy::default(), &[("pay", quota(None, Some(600_000)))]);
    let mut wall_ms = T0;
    let mut held = Vec::new();
    for round in 0..8 {
        let granted = |namespace: &str, retention_ms, wall_ms| {
            let claims = (0..5_000).filter(|number| {
                let key = format!("{namespace}:{round}:{number}");
                let (retention_ms, lease_ms, note) = (Some(retention_ms), Some(100), &[7; 300]);
                let claim = Claim { key: key.as_bytes(), note, retention_ms, lease_ms, ..Claim::default() };
                ask(&store, claim, wall_ms).0 == "GRANTED"
            });
            claims.count()
        };
        assert!(granted("pay", 2_000, wall_ms) > 1_300, "round {round}");
        let _ = granted("noisy", 3_600_000, wall_ms);
        held.push(store.measure().held_bytes());
        wall_ms += 2_600;
        let _ = store.extend_ceiling(wall_ms);
        settle(&store);
        assert!(sweep_all(&store, wall_ms) > 1_300);
        let _ = granted("noisy", 3_600_000, wall_ms);
    }
    let page_a_shard = 4 * 16 * 1024;
    assert!(held.iter().all(|held| *held < 2_000_000 + 2 * page_a_shard), "{held:?}");
}

/// A region must hold what others granted, or they would never agree; its own grants wait.
#[test]
fn what_peers_granted_is_taken_in_beyond_every_bound() {
    let policies = [("mail", quota(Some(5), None))];
    let (here, there) = (bounded(150_000, Policy::default(), &policies), store(2));
    assert_eq!(fill(&here, "pay", b"").1, Reason::Full);
    for number in 0..200 {
        let _ = run(&there, claim(format!("mail:{number}").as_bytes(), b"x"), T0);
    }
    assert_eq!(ship(&there, &here, T0).applied, 200);
    assert_eq!(here.quotas()[0].keys, 200);
    assert_eq!(ask(&here, Claim { key: b"mail:new", ..Claim::default() }, T0).1, Some(Reason::Quota));
    assert!(here.memory_bytes() > 150_000);
    books_are_right(&here);
}

#[test]
fn pressure_eases_only_well_below_where_it_arose() {
    let walk = |used: &[usize]| {
        let mut pressure = Pressure::Calm;
        let step = |used: &usize| {
            pressure = pressure.next(*used, 1_000);
            pressure.name()
        };
        used.iter().map(step).collect::<Vec<_>>()
    };
    assert_eq!(walk(&[799, 800, 790, 760, 749, 790]), ["calm", "near", "near", "near", "calm", "calm"]);
    assert_eq!(walk(&[1_000, 980, 969, 1_001, 500]), ["full", "full", "near", "full", "calm"]);
    assert_eq!(Pressure::Calm.next(0, 0), Pressure::Full, "nothing is left to share");
}

/// A namespace that gets a quota while keys of it are there, or a table of its own, is counted as if it had had it from
/// the start; one whose bounds alone change keeps its count.
#[test]
fn other_policies_count_what_is_there() {
    let named = |named: &[(&str, Policy)]| -> BTreeMap<Vec<u8>, Policy> {
        named.iter().map(|(name, policy)| (name.as_bytes().to_vec(), policy.clone())).collect()
    };
    let store = bounded(64 << 20, Policy::default(), &[("pay", quota(Some(5), None))]);
    for key in ["pay:1", "pay:2", "mail:1", "mail:2", "mail:3", "other:1"] {
        assert_eq!(ask(&store, Claim { key: key.as_bytes(), ..Claim::default() }, T0).0, "GRANTED");
    }
    let used = |store: &Store| {
        assert_eq!(store.quotas(), store.quotas_recounted());
        store.quotas().iter().map(|quota| (quota.keys, quota.max_keys)).collect::<Vec<_>>()
    };
    assert_eq!(used(&store), [(2, Some(5))]);
    let set = |default: Policy, tables: &[(&str, Policy)]| {
        store.set_policies(Policies::new(default, named(tables)));
    };
    set(Policy::default(), &[("pay", quota(Some(2), None))]);
    assert_eq!(used(&store), [(2, Some(2))]);
    assert_eq!(ask(&store, Claim { key: b"pay:3", ..Claim::default() }, T0).1, Some(Reason::Quota));
    set(Policy::default(), &[("mail", quota(None, Some(1 << 20))), ("pay", quota(Some(9), None))]);
    assert_eq!(used(&store), [(3, None), (2, Some(9))]);
    assert_eq!(ask(&store, Claim { key: b"pay:3", ..Claim::default() }, T0).0, "GRANTED");
    // All without a table are one, and a new table takes its keys out of it.
    set(quota(Some(100), None), &[("pay", Policy::default())]);
    assert_eq!(used(&store), [(4, Some(100))]);
    set(quota(Some(100), None), &[("pay", Policy::default()), ("mail", Policy::default())]);
    assert_eq!(used(&store), [(1, Some(100))]);
    set(Policy::default(), &[]);
    assert_eq!(used(&store), []);
    // A claim is decided by what is in force now.
    set(Policy { lease_ms: 77, ..Policy::default() }, &[]);
    assert_eq!(store.policies().of_key(b"pay:1").lease_ms, 77);
}
