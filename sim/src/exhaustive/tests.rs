//! The search itself: what holds is covered, what is planted is found by the shortest order that shows it.

use super::*;

fn small(events: usize) -> Search {
    let size = Size { regions: 2, keys: 1 };
    Search { size, events, jobs: 2, ..Search::default() }
}

fn run(wanted: Search) -> Found {
    search(wanted, &Progress::new(wanted.states_max, false))
}

#[test]
fn all_orders_of_four_events_hold_and_are_the_same_whatever_the_threads() {
    let (two, one) = (run(small(4)), run(Search { jobs: 1, ..small(4) }));
    assert_eq!((&two.ended, two.covered()), (&Ended::Covered, 4), "{two:?}");
    assert_eq!(two.layers, one.layers);
    assert!(two.orders() > u128::from(two.states), "orders meet again: {two:?}");
}

#[test]
fn a_bound_is_named_and_nothing_beyond_it_is_claimed() {
    let found = run(Search { states_max: 30, ..small(8) });
    assert_eq!(found.ended, Ended::Bounded("--states"), "{found:?}");
    assert!(found.covered() < 8);
}

#[test]
fn a_letter_of_every_alphabet_has_a_bit() {
    for (regions, keys) in [(2, 1), (2, 2), (3, 1), (3, 2)] {
        let all = alphabet(Size { regions, keys });
        assert!(all.len() <= 64 && all.contains(&Event::LeasesEnd), "{}", all.len());
    }
}

/// Each shows only where two regions have executed one key: two claims and two completions.
#[cfg(feature = "canary")]
#[test]
fn planted_bugs_are_found_by_the_shortest_order_that_shows_them() {
    use crdt::canary::Bug;
    for bug in [Bug::TieBreakByArrival, Bug::LosersNotListed, Bug::JoinForgetsOutcome] {
        let found = run(Search { canary: Some(bug), ..small(5) });
        let Ended::Broken(events, _) = &found.ended else {
            panic!("{} was not found: {found:?}", bug.name())
        };
        assert!(events.len() <= 5, "{}: {events:?}", bug.name());
    }
}
