//! INV-1: "Join is commutative, associative, idempotent, and commutes with dropping the dead; an entry
//! only grows until it dies", tried on entries that really arose in a run.
//!
//! The product's join is called through a trait, and its results are compared with each other and with
//! the naive join of the model ([`View::add`]), so that a join which is lawful and wrong is caught too.
//! "Commutes with dropping": whatever dropping first loses must be dead by S3's rule in the joined
//! entry's own words, or past its retention.
//!
//! Must never: choose entries that could not arise; laws on nonsense prove nothing.

use super::facts::{Key, Millis, Part, Region, View};
use super::sight::{covers, describe};
use super::violation::{Violation, clause};
use super::winner::counts;

/// The product's lattice, seen through the adapter.
pub trait Lattice {
    /// A real entry.
    type Entry: Clone;
    /// The product's join.
    fn join(&self, a: &Self::Entry, b: &Self::Entry) -> Self::Entry;
    /// The product's dropping of the dead.
    fn drop_dead(&self, entry: &Self::Entry, now: Millis) -> Self::Entry;
    /// As plain data, in one order.
    fn view(&self, entry: &Self::Entry) -> View;
}

/// Where the entries came from.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Whose entries.
    pub key: Key,
    /// Virtual microseconds.
    pub at_us: u64,
    /// Some region's `now`.
    pub now: Millis,
    /// The bound between clocks, milliseconds.
    pub max_drift: Millis,
}

/// Tries all laws on three entries of one key.
pub fn check<L: Lattice>(lattice: &L, sample: Sample, entries: [&L::Entry; 3]) -> Result<(), Violation> {
    let [a, b, c] = entries;
    let broken = |law: &str, left: &View, right: &View| {
        let story = [format!("{law} does not hold of entries that arose"), difference(left, right)];
        let regions: Box<[Region]> = [].into();
        let (invariant, text) = ("INV-1", clause::INV_1);
        Violation { invariant, clause: text, key: Some(sample.key), at_us: sample.at_us, regions, story }
    };
    let same = |law: &str, left: &L::Entry, right: &L::Entry| {
        let (left, right) = (lattice.view(left).pruned(), lattice.view(right).pruned());
        if left == right { Ok(()) } else { Err(broken(law, &left, &right)) }
    };
    let ab = lattice.join(a, b);
    same("join(a,b) = join(b,a)", &ab, &lattice.join(b, a))?;
    let bc = lattice.join(b, c);
    same("join(join(a,b),c) = join(a,join(b,c))", &lattice.join(&ab, c), &lattice.join(a, &bc))?;
    same("join(a,a) = a", &lattice.join(a, a), a)?;
    same("join(join(a,b),a) = join(a,b)", &lattice.join(&ab, a), &ab)?;
    let mut model = lattice.view(a);
    lattice.view(b).parts().for_each(|part| model.add(&part));
    let (model, joined) = (model.sorted().pruned(), lattice.view(&ab).pruned());
    if model.outcomes.len() <= 8 && model != joined {
        return Err(broken("join(a,b) = the model's join", &joined, &model));
    }
    let late = lattice.view(&lattice.drop_dead(&ab, sample.now));
    let dropped_first = lattice.join(&lattice.drop_dead(a, sample.now), &lattice.drop_dead(b, sample.now));
    let early = lattice.view(&lattice.drop_dead(&dropped_first, sample.now));
    let alive_differs = late.parts().chain(early.parts()).find(|part| {
        let past = sample.now > part.expires_at().saturating_add(sample.max_drift);
        let kept = !matches!(part, Part::Outcome(o) if !counts(&late, o.claim, o.expires_at));
        !past && kept && !(covers(&late, part) && covers(&early, part))
    });
    match alive_differs {
        Some(_) => Err(broken("join commutes with dropping the dead", &late, &early)),
        None => Ok(()),
    }
}

fn difference(left: &View, right: &View) -> String {
    let only = |a: &View, b: &View| a.parts().find(|part| !b.parts().any(|other| other == *part));
    match (only(left, right), only(right, left)) {
        (Some(part), _) => format!("only the left side has {}", describe(&part)),
        (_, Some(part)) => format!("only the right side has {}", describe(&part)),
        _ => "the sides differ in the order of their parts".to_owned(),
    }
}
