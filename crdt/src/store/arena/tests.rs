//! The arena against a plain map, and its books against a recount.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Op {
    Insert(usize),
    Replace(usize, usize),
    Remove(usize),
    /// Empties the sparsest page.
    Compact,
    /// Removes all but every so many-th.
    Thin(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let len = prop_oneof![8 => 1usize..300, 1 => 4_000usize..5_000];
    let op = prop_oneof![
        6 => len.clone().prop_map(Op::Insert),
        2 => (any::<usize>(), len).prop_map(|(which, len)| Op::Replace(which, len)),
        3 => any::<usize>().prop_map(Op::Remove),
        1 => Just(Op::Compact),
        1 => (2usize..20).prop_map(Op::Thin),
    ];
    prop::collection::vec(op, 1..400)
}

/// What a store does with a closing page: every record in it moves.
fn compact(arena: &mut Arena, model: &mut BTreeMap<Slot, Vec<u8>>) -> bool {
    let Some(closing) = arena.close_sparsest() else { return false };
    let told = arena.records_of(closing).count();
    let inside: Vec<Slot> = model.keys().copied().filter(|slot| arena.is_closing(*slot)).collect();
    assert_eq!(told, inside.len());
    for slot in inside {
        let record = model.remove(&slot).expect("listed above");
        assert!(model.insert(arena.relocate(slot), record).is_none());
    }
    true
}

/// Every page is tiled from end to end, every free place of an open page stands once in the list of its
/// size, and what is booked is what is there.
fn recount(arena: &Arena) {
    let (mut page_bytes, mut small_live) = (0, 0);
    let mut free = BTreeSet::new();
    for (number, page) in arena.pages.iter().enumerate().filter(|(_, page)| !page.bytes.is_empty()) {
        page_bytes += page.bytes.len() + BOX_OVERHEAD;
        let (mut at, mut live) = (0, 0);
        while at < page.used as usize * UNIT {
            let raw = page.header(at);
            let units = units_of((raw & !FREE) as usize);
            if raw & FREE == 0 {
                live += units as u32;
            } else if !page.closing {
                free.insert((units, number as u32 * PAGE_UNITS_MAX + (at / UNIT) as u32));
            }
            at += units * UNIT;
        }
        assert_eq!(at, page.used as usize * UNIT, "places end where the page does");
        assert_eq!(live, page.live);
        assert!(live > 0, "an empty page is given back");
        small_live += live as usize * UNIT;
    }
    let mut listed = BTreeSet::new();
    for (units, head) in arena.free.iter().enumerate() {
        let (mut slot, mut before) = (*head, NONE);
        while slot != NONE {
            let (page, at) = place(slot);
            assert_eq!(arena.pages[page].previous(at), before);
            assert!(listed.insert((units, slot)), "a place stands twice in its list");
            (before, slot) = (slot, arena.pages[page].next(at));
        }
    }
    assert_eq!(listed, free);
    assert_eq!(arena.free_places as usize, free.len());
    assert_eq!((arena.page_bytes, arena.small_live), (page_bytes, small_live));
    let large: Vec<usize> = arena.large.iter().flatten().map(|record| record.len()).collect();
    assert_eq!(arena.large_live, large.iter().sum::<usize>());
    assert_eq!(arena.held(), page_bytes + arena.large_live + large.len() * BOX_OVERHEAD);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a plain map: what was put in is what is there, a walk meets each record once, and the books
    /// equal a recount.
    #[test]
    fn holds_what_was_put_in(ops in ops()) {
        let mut arena = Arena::default();
        let mut model: BTreeMap<Slot, Vec<u8>> = BTreeMap::new();
        let mut fresh = 0u8;
        let mut make = |len: usize| { fresh = fresh.wrapping_add(1); vec![fresh; len] };
        for op in ops {
            let pick = |which: usize, model: &BTreeMap<Slot, Vec<u8>>| {
                model.keys().nth(which % model.len().max(1)).copied()
            };
            match op {
                Op::Insert(len) => {
                    let record = make(len);
                    let (room, before) = (arena.has_room(len), arena.held());
                    prop_assert!(model.insert(arena.insert(&record), record).is_none());
                    prop_assert_eq!(room, arena.held() == before, "has_room foretells growth");
                }
                Op::Replace(which, len) => if let Some(slot) = pick(which, &model) {
                    let record = make(len);
                    model.remove(&slot);
                    prop_assert!(model.insert(arena.replace(slot, &record), record).is_none());
                },
                Op::Remove(which) => if let Some(slot) = pick(which, &model) {
                    model.remove(&slot);
                    arena.remove(slot);
                },
                Op::Compact => { compact(&mut arena, &mut model); }
                Op::Thin(nth) => {
                    let gone: Vec<Slot> = model.keys().copied().enumerate()
                        .filter(|(at, _)| at % nth != 0).map(|(_, slot)| slot).collect();
                    for slot in gone {
                        model.remove(&slot);
                        arena.remove(slot);
                    }
                }
            }
            recount(&arena);
        }
        for (slot, record) in &model {
            prop_assert_eq!(arena.get(*slot), &record[..]);
        }
        let mut walked: Vec<&[u8]> = arena.records().collect();
        let mut expected: Vec<&[u8]> = model.values().map(|record| &record[..]).collect();
        walked.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(walked, expected);
        let live: usize = model.values().map(|record| Arena::cost(record.len())).sum();
        prop_assert_eq!(arena.live(), live);
    }
}

/// Keys of one size leave holes that records of another size do not fit into. Without emptying sparse
/// pages, a bound reached by the former would refuse the latter for ever.
#[test]
fn memory_comes_back_from_scattered_survivors() {
    let mut arena = Arena::default();
    let mut model = BTreeMap::new();
    for number in 0..20_000u32 {
        let record = number.to_le_bytes().repeat(20);
        model.insert(arena.insert(&record), record);
    }
    let full = arena.held();
    let gone: Vec<Slot> =
        model.keys().copied().enumerate().filter(|(at, _)| at % 10 != 0).map(|(_, s)| s).collect();
    for slot in gone {
        model.remove(&slot);
        arena.remove(slot);
    }
    assert_eq!(arena.held(), full, "every page has survivors");
    let larger = (0..1_000).take_while(|_| {
        let fits = arena.has_room(200);
        if fits {
            model.insert(arena.insert(&[9; 200]), vec![9; 200]);
        }
        fits
    });
    assert!(larger.count() < 100, "and no hole takes what is larger");
    while compact(&mut arena, &mut model) {}
    recount(&arena);
    assert!(arena.held() < full / 6, "{} of {full} bytes are held for a tenth of the records", arena.held());
    for (slot, record) in &model {
        assert_eq!(arena.get(*slot), &record[..]);
    }
}

#[test]
fn few_records_hold_little() {
    let mut arena = Arena::default();
    let slot = arena.insert(&[7; 100]);
    assert!(arena.held() < 1_200, "{}", arena.held());
    arena.remove(slot);
    assert_eq!((arena.held(), arena.live()), (0, 0));
}
