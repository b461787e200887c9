//! INV-1 and the winner rule, for any entries.

use proptest::prelude::*;

use super::super::*;
use super::model::{Model, said};
use super::parts::{self, honest, joined, many_outcomes, wild};

fn dropped(entry: &Entry<'static>, now_ms: u64, drift_ms: u64) -> Entry<'static> {
    let mut entry = entry.clone();
    entry.drop_dead(now_ms, drift_ms);
    entry
}

fn laws(a: &Entry<'static>, b: &Entry<'static>, c: &Entry<'static>) -> Result<(), TestCaseError> {
    let ab = a.clone().join(b);
    prop_assert_eq!(&ab, &b.clone().join(a), "commutative");
    prop_assert_eq!(ab.clone().join(c), a.clone().join(&b.clone().join(c)), "associative");
    prop_assert_eq!(&ab.clone().join(b), &ab, "idempotent: what is in stays as it is");
    prop_assert_eq!(&ab.clone().join(a), &ab, "an entry only grows");
    prop_assert_eq!(&a.clone().join(&Entry::default()), a, "nothing is neutral");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn joins_are_a_lattice(a in honest(8), b in honest(8), c in honest(8)) {
        laws(&joined(&a), &joined(&b), &joined(&c))?;
    }

    /// Damage or a lying peer must not make two regions differ for ever.
    #[test]
    fn joins_of_dishonest_entries_are_a_lattice(a in wild(4), b in wild(4), c in wild(4)) {
        laws(&joined(&a), &joined(&b), &joined(&c))?;
    }

    /// Many times the outcomes that a region stores by itself: whatever meets is kept.
    #[test]
    fn joins_of_many_outcomes_are_a_lattice(a in many_outcomes(), b in many_outcomes(), c in many_outcomes()) {
        laws(&joined(&a), &joined(&b), &joined(&c))?;
    }

    /// INV-3 at the level of one entry: registers and winner as the page has them, in any order.
    #[test]
    fn registers_and_winner_are_those_of_the_page(parts in honest(12), seed in any::<u64>()) {
        let model = Model::of(&parts);
        let mut shuffled = parts.clone();
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, (seed.rotate_left(at as u32) % (at as u64 + 1)) as usize);
        }
        for order in [&parts, &shuffled] {
            let entry = joined(order);
            prop_assert!(model.is(&entry), "{:?} is not {:?}", entry, model);
            prop_assert_eq!(said(&entry), model.winner());
        }
    }

    /// INV-1: joining commutes with dropping the dead, wherever one side is not wholly past (an entry
    /// dies whole; a region that still has a live part keeps the old ones).
    #[test]
    fn joining_commutes_with_dropping_the_dead(
        a in honest(5),
        b in honest(5),
        now_ms in parts::FIRST_MS..parts::LAST_MS + 40,
        drift_ms in 0u64..5,
    ) {
        let (a, b) = (joined(&a), joined(&b));
        prop_assume!(a.is_past(now_ms, drift_ms) == b.is_past(now_ms, drift_ms));
        let late = dropped(&a.clone().join(&b), now_ms, drift_ms);
        let early = dropped(&a, now_ms, drift_ms).join(&dropped(&b, now_ms, drift_ms));
        prop_assert_eq!(dropped(&early, now_ms, drift_ms), late);
    }

    /// Dropping changes no answer while anything lives, may be done at any time, and ends in nothing.
    #[test]
    fn dropping_the_dead_is_invisible_to_the_living(
        parts in honest(8),
        now_ms in parts::FIRST_MS..parts::LAST_MS + 40,
        later_ms in 0u64..30,
        drift_ms in 0u64..5,
    ) {
        let entry = joined(&parts);
        let now = dropped(&entry, now_ms, drift_ms);
        let past = |expires_at: u64| now_ms > expires_at + drift_ms;
        if entry.is_past(now_ms, drift_ms) {
            prop_assert!(now.attempts.is_empty() && now.outcomes.is_empty());
        } else {
            prop_assert_eq!(said(&now), said(&entry));
        }
        let gone = |a: &&Attempt<'_>| !now.attempts.contains(a);
        prop_assert!(entry.attempts.iter().filter(gone).all(|a| past(a.expires_at)), "never before its time");
        prop_assert!(entry.outcomes.iter().all(|o| now.outcomes.contains(o) || past(o.expires_at)));
        prop_assert_eq!(now.forgotten, entry.forgotten);
        let later = now_ms + later_ms;
        prop_assert_eq!(dropped(&now, later, drift_ms), dropped(&entry, later, drift_ms));
        let dies_at = entry.dies_at_ms() + drift_ms;
        prop_assert!(dropped(&entry, dies_at + 1, drift_ms).is_empty());
        prop_assert!(entry.is_empty() || !dropped(&entry, dies_at, drift_ms).is_empty());
    }
}
