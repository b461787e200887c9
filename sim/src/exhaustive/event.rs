//! What can happen next in a small world, as a numbered alphabet: a path is a list of numbers, and small.
//!
//! Must never: have more than 64 letters; what is enabled is a set of bits.

use super::Size;

/// One event. Regions, keys and grants by index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "regions, keys and grants by index, as the text says")]
pub enum Event {
    /// A service claims a key in a region; each region has one, so that a second claim is a retry.
    Claim { at: usize, key: usize },
    /// The holder of the n-th grant of this run completes it at a region.
    Complete { grant: usize, at: usize },
    /// The oldest records on their way reach their receiver.
    Deliver { from: usize, to: usize },
    /// So much time passes that every lease is over by more than the clocks may differ.
    LeasesEnd,
    /// A process is killed and starts again from its disk.
    Restart { at: usize },
    /// A link breaks, with all that is on it.
    Cut { a: usize, b: usize },
    /// It comes back.
    Heal { a: usize, b: usize },
}

/// Grants that a path can complete.
const GRANTS: usize = 4;

/// Every event that a world of this size knows, in one order.
pub fn alphabet(size: Size) -> Vec<Event> {
    let regions = || 0..size.regions;
    let pairs = || regions().flat_map(move |a| (a + 1..size.regions).map(move |b| (a, b)));
    let mut all = Vec::new();
    for at in regions() {
        all.extend((0..size.keys).map(|key| Event::Claim { at, key }));
    }
    for grant in 0..GRANTS {
        all.extend(regions().map(|at| Event::Complete { grant, at }));
    }
    for (a, b) in pairs() {
        all.extend([Event::Deliver { from: a, to: b }, Event::Deliver { from: b, to: a }]);
    }
    all.push(Event::LeasesEnd);
    all.extend(regions().map(|at| Event::Restart { at }));
    all.extend(pairs().flat_map(|(a, b)| [Event::Cut { a, b }, Event::Heal { a, b }]));
    assert!(all.len() <= 64, "what is enabled is a set of 64 bits");
    all
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Claim { at, key } => write!(f, "claim key {key} at r{}", at + 1),
            Self::Complete { grant, at } => write!(f, "complete grant {grant} at r{}", at + 1),
            Self::Deliver { from, to } => {
                write!(f, "deliver the oldest records of r{} to r{}", from + 1, to + 1)
            }
            Self::LeasesEnd => f.write_str("all leases end"),
            Self::Restart { at } => write!(f, "restart r{}", at + 1),
            Self::Cut { a, b } => write!(f, "cut r{} | r{}", a + 1, b + 1),
            Self::Heal { a, b } => write!(f, "heal r{} | r{}", a + 1, b + 1),
        }
    }
}
