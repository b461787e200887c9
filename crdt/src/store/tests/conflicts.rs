//! Losers as they are listed, overtaken, dealt with, and told to whoever compensates them.

use super::*;
use crate::conflict::{Conflict, take_state, write_state};
use crate::entry::Outcome;
use crate::ids::ClaimId;
use crate::limits;
use crate::store::{Compensated, Fed, FeedAsk, FeedPage, FeedPosition};

const START: u64 = 7;
const EVERYTHING: FeedAsk<'static> = FeedAsk { namespace: None, region: None, after: None, count: 100 };

/// One key, run in both regions: first completed at `b`, then at `a`, which loses. Nothing is exchanged yet.
fn run_twice(a: &Store, b: &Store, key: &[u8], wall_ms: u64) {
    let (_, token_a, _) = run(a, claim(key, b"x"), wall_ms);
    let (_, token_b, _) = run(b, claim(key, b"y"), wall_ms);
    assert_eq!(run(b, complete(key, token_b.expect("granted"), b"B"), wall_ms + 1).0, "COMPLETED");
    assert_eq!(run(a, complete(key, token_a.expect("granted"), b"A"), wall_ms + 2).0, "COMPLETED");
}

fn exchange(a: &Store, b: &Store, wall_ms: u64) {
    for _ in 0..2 {
        ship(a, b, wall_ms);
        ship(b, a, wall_ms);
    }
}

/// A majority holds the outcome that completed at `region`: `store` learns it.
fn say_majority(store: &Store, key: &[u8], region: u16, wall_ms: u64) {
    let inspected = store.inspect(key).expect("known");
    let entry = inspected.entry();
    let outcome = *entry.outcomes.iter().find(|o| o.region == RegionId(region)).expect("completed there");
    let known = Entry::of_outcome(Outcome { majority: true, ..outcome });
    store.join_in(key, &known, wall_ms, Some(crate::journal::Origin::Own), &mut Scratch::default());
}

fn listed(store: &Store) -> Vec<Conflict> {
    store.conflicts(None, None, 100).conflicts
}

fn completed_at(conflicts: &[Conflict]) -> Vec<u16> {
    conflicts.iter().map(|conflict| conflict.id.completed_at.0).collect()
}

fn told(fed: Fed) -> FeedPage {
    let Fed::Told(page, _) = fed else { panic!("{fed:?}") };
    page
}

fn loser_of(store: &Store) -> (Vec<u8>, ClaimId) {
    let loser = listed(store).pop().expect("a loser").id;
    (loser.key, loser.loser)
}

/// An outcome that had lost to an earlier one became the winner when a majority came to hold it, and from then on both
/// were listed as losers: the compensating services undid both. Found by reading the rules against the list.
#[test]
fn of_two_only_one_is_a_loser_when_a_majority_overtakes() {
    let (a, b) = (store(1), store(2));
    run_twice(&a, &b, b"pay:1", T0);
    exchange(&a, &b, T0 + 3);
    assert_eq!(completed_at(&listed(&a)), [1], "b completed first");
    say_majority(&a, b"pay:1", 1, T0 + 4);
    assert_eq!(completed_at(&listed(&a)), [2], "at once, where it is known");
    exchange(&a, &b, T0 + 5);
    assert_eq!(listed(&a), listed(&b));
    assert_eq!(completed_at(&listed(&b)), [2]);
    assert!(listed(&b)[0].winner.is_some_and(|winner| winner.majority && winner.region == RegionId(1)));
    assert_eq!((a.conflict_count(), b.conflict_count()), (1, 1), "the other is kept, and not counted");
    assert_eq!(a.digest(T0 + 6), b.digest(T0 + 6));
    // And back: a majority holds both, so the earlier is the winner again.
    say_majority(&b, b"pay:1", 2, T0 + 7);
    exchange(&a, &b, T0 + 8);
    assert_eq!(completed_at(&listed(&a)), [1]);
    assert_eq!(listed(&a), listed(&b));
    (0..4).for_each(|shard| assert!(a.verify_digests(shard).is_ok() && b.verify_digests(shard).is_ok()));
}

/// The flag comes before the conflict: whoever knows it says so when the conflict arrives.
#[test]
fn a_conflict_that_comes_after_the_majority_is_told_of_it() {
    let (a, b, c) = (store(1), store(2), store(3));
    run_twice(&a, &b, b"pay:1", T0);
    say_majority(&a, b"pay:1", 1, T0 + 3);
    // c knows the outcome that a majority holds, then the conflict in which it lost, and never the other outcome.
    ship(&a, &c, T0 + 4);
    exchange(&a, &b, T0 + 4);
    let overtaken = Conflict {
        loser: conflict_side(&listed(&b)[0], true),
        winner: Some(listed(&b)[0].loser),
        id: crate::conflict::ConflictId {
            key: b"pay:1".to_vec(),
            loser: listed(&b)[0].winner.expect("known").claim,
            completed_at: RegionId(1),
        },
        ..listed(&b)[0].clone()
    };
    assert!(c.merge_conflict(overtaken, None).is_some());
    assert_eq!(listed(&c), [], "it is kept, and not listed");
}

/// The other side of a conflict as nobody has told it that a majority holds it.
fn conflict_side(conflict: &Conflict, winner: bool) -> crate::conflict::Side {
    let side = if winner { conflict.winner.expect("known") } else { conflict.loser };
    crate::conflict::Side { majority: false, ..side }
}

/// An outcome of a claim that a FORGET had voided has lost, whatever holds it.
#[test]
fn what_a_forget_voided_is_never_overtaken() {
    let (a, b) = (store(1), store(2));
    run_twice(&a, &b, b"pay:1", T0);
    exchange(&a, &b, T0 + 3);
    let plain = listed(&a).pop().expect("a loser");
    let mut void =
        Conflict { void: true, loser: crate::conflict::Side { majority: true, ..plain.loser }, ..plain };
    assert!(!void.is_overtaken());
    void.void = false;
    assert!(void.is_overtaken());
}

/// Every form of a conflict comes back from a run as it went in.
#[test]
fn states_of_conflicts_come_back() {
    let (a, b) = (store(1), store(2));
    run_twice(&a, &b, b"pay:1", T0);
    exchange(&a, &b, T0 + 3);
    let plain = listed(&a).pop().expect("a loser");
    let flagged =
        Conflict { loser: crate::conflict::Side { majority: true, ..plain.loser }, ..plain.clone() };
    let void = Conflict { void: true, winner: None, ..plain.clone() };
    for conflict in [plain, flagged, void] {
        let mut state = Vec::new();
        write_state(&conflict, &mut state);
        assert_eq!(take_state(&state), Some(conflict));
        (0..state.len()).for_each(|len| assert_eq!(take_state(&state[..len]), None, "a part of it"));
        state.push(0);
        assert_eq!(take_state(&state), None, "more than it");
    }
    assert_eq!(take_state(&[]), None);
}

#[test]
fn a_loser_is_compensated_once_and_everywhere() {
    let (a, b) = (store(1), store(2));
    run_twice(&a, &b, b"pay:1", T0);
    exchange(&a, &b, T0 + 3);
    settle(&a);
    let (key, claim) = loser_of(&a);
    let (done, release) = a.compensate(&key, claim, None, false);
    let Compensated::Done(conflict) = done else { panic!("{done:?}") };
    assert!(conflict.compensated && !a.tail().may_release(&release), "not before it is durable");
    let appended = a.tail().appended();
    assert!(matches!(a.compensate(&key, claim, Some(RegionId(1)), false).0, Compensated::Done(_)));
    assert_eq!(a.tail().appended(), appended, "again: the same answer, and nothing is written");
    exchange(&a, &b, T0 + 4);
    assert!(listed(&b)[0].compensated);
    assert_eq!((listed(&a), a.digest(T0 + 5)), (listed(&b), b.digest(T0 + 5)));
    let other = ClaimId { region: RegionId(9), ..claim };
    assert_eq!(a.compensate(&key, other, None, false).0, Compensated::NotListed);
    assert_eq!(a.compensate(&key, claim, Some(RegionId(2)), false).0, Compensated::NotListed);
    let synced = a.compensate(&key, claim, None, true).1;
    assert_eq!(synced.synced, a.tail().appended(), "raised for one request");
}

/// What wins after all is not undone.
#[test]
fn what_a_majority_holds_by_now_is_not_compensated() {
    let (a, b) = (store(1), store(2));
    run_twice(&a, &b, b"pay:1", T0);
    exchange(&a, &b, T0 + 3);
    let (key, claim) = loser_of(&a);
    say_majority(&a, &key, 1, T0 + 4);
    let (answer, _) = a.compensate(&key, claim, None, false);
    assert!(matches!(answer, Compensated::Wins(_)), "{answer:?}");
}

#[test]
fn a_feed_tells_each_loser_in_the_order_of_arrival_until_it_is_dealt_with() {
    let (a, b) = (store(1), store(2));
    for (number, key) in [&b"pay:2"[..], b"mail:1", b"pay:1"].into_iter().enumerate() {
        run_twice(&a, &b, key, T0 + 10 * number as u64);
        exchange(&a, &b, T0 + 10 * number as u64 + 3);
    }
    let keys = |page: &FeedPage| page.conflicts.iter().map(|c| c.id.key.clone()).collect::<Vec<_>>();
    let first = told(a.feed(START, &FeedAsk { count: 2, ..EVERYTHING }, None));
    assert_eq!(keys(&first), [&b"pay:2"[..], b"mail:1"]);
    let after = Some(first.position);
    let rest = told(a.feed(START, &FeedAsk { after, ..EVERYTHING }, None));
    assert_eq!(keys(&rest), [b"pay:1"]);
    let end = told(a.feed(START, &FeedAsk { after: Some(rest.position), ..EVERYTHING }, None));
    assert_eq!((end.conflicts.len(), end.position), (0, rest.position));
    // Another start, or a number that this one has not given: from the oldest on.
    for position in [FeedPosition { start: START + 1, number: 2 }, FeedPosition { start: START, number: 9 }] {
        let page = told(a.feed(START, &FeedAsk { after: Some(position), ..EVERYTHING }, None));
        assert_eq!(page.conflicts.len(), 3);
    }
    let of = FeedAsk { namespace: Some(b"mail"), ..EVERYTHING };
    assert_eq!(keys(&told(a.feed(START, &of, None))), [b"mail:1"]);
    let elsewhere = FeedAsk { region: Some(RegionId(2)), ..EVERYTHING };
    assert_eq!(told(a.feed(START, &elsewhere, None)).conflicts, [], "all of them completed in region 1");
    let mail = rest.conflicts[0].id.clone();
    let _ = a.compensate(&mail.key, mail.loser, None, false);
    assert_eq!(keys(&told(a.feed(START, &EVERYTHING, None))), [&b"pay:2"[..], b"mail:1"]);
}

#[test]
fn whoever_waits_for_a_loser_is_woken_wherever_it_comes_from() {
    let (a, b) = (store(1), store(2));
    assert_eq!(a.feed(START, &EVERYTHING, Some(5)), Fed::Parked);
    assert_eq!(b.feed(START, &EVERYTHING, Some(6)), Fed::Parked);
    run_twice(&a, &b, b"pay:1", T0);
    assert!(a.take_woken().is_empty() && b.take_woken().is_empty(), "nobody knows of the other");
    // b learns of a's outcome and derives the loser; a is told of it by b.
    ship(&a, &b, T0 + 3);
    assert_eq!(b.take_woken(), [6]);
    ship(&b, &a, T0 + 3);
    assert_eq!(a.take_woken(), [5]);
    let page = told(a.feed(START, &EVERYTHING, Some(5)));
    assert_eq!(page.conflicts.len(), 1);
    // Dealt with: nothing arrives by that.
    let ask = FeedAsk { after: Some(page.position), ..EVERYTHING };
    assert_eq!(a.feed(START, &ask, Some(5)), Fed::Parked);
    let (key, claim) = loser_of(&a);
    let _ = a.compensate(&key, claim, None, false);
    assert!(a.take_woken().is_empty());
    a.unpark_feed(5);
    run_twice(&a, &b, b"pay:2", T0 + 10);
    exchange(&a, &b, T0 + 13);
    assert!(a.take_woken().is_empty(), "who has gone is forgotten");
}

#[test]
fn as_many_consumers_wait_as_may_and_no_more() {
    let a = store(1);
    for ticket in 0..limits::FEED_WAITERS_MAX as u64 {
        assert_eq!(a.feed(START, &EVERYTHING, Some(ticket)), Fed::Parked);
    }
    assert_eq!(a.feed(START, &EVERYTHING, Some(9_999)), Fed::Crowded);
    a.unpark_feed(3);
    assert_eq!(a.feed(START, &EVERYTHING, Some(9_999)), Fed::Parked);
}

/// An overtaken loser leaves the feed, the one that it lost to comes in; and what is told is durable.
#[test]
fn the_feed_follows_an_overtaking() {
    let (a, b) = (store(1), store(2));
    run_twice(&a, &b, b"pay:1", T0);
    exchange(&a, &b, T0 + 3);
    settle(&a);
    let first = told(a.feed(START, &EVERYTHING, None));
    say_majority(&a, b"pay:1", 1, T0 + 4);
    let ask = FeedAsk { after: Some(first.position), ..EVERYTHING };
    let Fed::Told(second, release) = a.feed(START, &ask, None) else { panic!("there is one") };
    assert_eq!(completed_at(&second.conflicts), [2]);
    assert!(!a.tail().may_release(&release), "not before it is durable");
    assert_eq!(completed_at(&told(a.feed(START, &EVERYTHING, None)).conflicts), [2]);
}

#[test]
fn losers_are_counted_by_the_namespaces_that_have_a_table() {
    let named = [(b"pay".to_vec(), Policy::default()), (b"mail".to_vec(), Policy::default())];
    let policies = || Policies::new(Policy::default(), named.clone().into());
    let (a, b) = (store(1), store(2));
    a.set_policies(policies());
    for (number, key) in [&b"pay:1"[..], b"pay:2", b"chat:1"].into_iter().enumerate() {
        run_twice(&a, &b, key, T0 + 10 * number as u64);
        exchange(&a, &b, T0 + 10 * number as u64 + 3);
    }
    let loser = listed(&a).into_iter().find(|c| c.id.key == b"pay:1").expect("listed").id;
    let _ = a.compensate(&loser.key, loser.loser, None, false);
    let counts = |store: &Store| {
        let line = |(name, c): (Option<Vec<u8>>, ConflictCounts)| {
            let name = name.map_or("*".to_owned(), |name| String::from_utf8_lossy(&name).into_owned());
            format!("{name} {} {} {} {}", c.listed, c.uncompensated, c.detected, c.compensated)
        };
        store.conflict_counts().into_iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(counts(&a), ["mail 0 0 0 0", "pay 2 1 2 1", "* 1 1 1 0"]);
    a.set_policies(Policies::new(Policy::default(), [(b"chat".to_vec(), Policy::default())].into()));
    assert_eq!(counts(&a), ["chat 1 1 0 0", "* 2 1 1 0"], "counted anew, by another table");
    assert_eq!(a.sweep_conflicts(T0 + 30 * 24 * 3600 * 1000), 3);
    assert_eq!(counts(&a), ["chat 0 0 0 0", "* 0 0 1 0"]);
    assert_eq!(a.conflict_count(), 0);
}
