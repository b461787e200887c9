//! Keyed randomness: every draw is a pure function of (seed, stream, entity, counter).
//!
//! One generator shared by the whole run would make every fault depend on every draw before it: one
//! more request and the whole rest of the run is another run. With a stream a concern and an entity
//! within it (a link, a region, a job) a change in one place leaves the others as they were, which
//! is what makes a failing seed worth reading.
//!
//! Rejected: the `rand` crates (their streams change between versions, and seeds in bug reports must
//! not); anything seeded by the operating system.
//!
//! Must never: read anything but its arguments (INV-18).

/// What a draw is for. Appending is harmless; reordering changes every seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Stream {
    /// The shape of the run: regions, policies, how bad the weather is.
    Scenario = 1,
    /// Delays, losses, duplicates of one directed link.
    Network = 2,
    /// Write and sync times, torn tails of one region.
    Disk = 3,
    /// Wall clock steps of one region.
    Clock = 4,
    /// What one service wants.
    Workload = 5,
    /// When what breaks.
    Faults = 6,
    /// Which entries of one region, and of one key, the oracle samples.
    Oracle = 7,
    /// What a power loss leaves of one region's unsynced bytes, and which bits turn over.
    Platter = 8,
    /// How links differ, patterns of partitions, who joins and leaves.
    Links = 9,
    /// What one job's worker does, and what becomes of its requests.
    Job = 10,
    /// Runs that are drawn again for an interval.
    Measure = 11,
    /// Who is healed.
    Core = 12,
    /// What a scenario file leaves to the seed: its ranges.
    Ranges = 13,
    /// When the sessions of one directed link break that have lost something, and which old frames come again.
    Sessions = 14,
    /// Which namespaces are decided by majorities.
    Levels = 40,
    /// Which namespaces are decided by the homes of their keys.
    Homes = 43,
    /// Pauses, backups that are put back, swizzles, upgrades and drifting clocks: which of them a run has, and when.
    Events = 15,
    /// What consumers of the losers do, and which regions have one.
    Consumers = 41,
}

/// A stream of draws of its own.
#[derive(Clone, Debug)]
pub struct Dice {
    key: u64,
    counter: u64,
}

/// Finaliser of splitmix64: every input bit reaches every output bit.
const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What [`Dice::heavy`] draws is at most so many times the typical.
pub const HEAVY_TIMES_MAX: u64 = 30;

impl Dice {
    /// The dice of `entity` in `stream` under `seed`.
    pub fn new(seed: u64, stream: Stream, entity: u64) -> Self {
        let key = mix(mix(mix(seed.wrapping_add(GOLDEN)) ^ (stream as u64).wrapping_mul(GOLDEN)) ^ entity);
        Self { key, counter: 0 }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        mix(self.key.wrapping_add(self.counter.wrapping_mul(GOLDEN)))
    }

    /// A number in `0..bound`; 0 where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Multiply-shift: biased by at most bound / 2^64, which no run can notice.
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `low..=high`; `low` where the two are crossed.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below((high.saturating_sub(low)).saturating_add(1))
    }

    /// True in `per_mille` of 1,000 cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        assert!(!choices.is_empty(), "picking from nothing");
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// Mostly near `typical`, sometimes many times it: how delays are distributed in the world.
    pub fn heavy(&mut self, typical: u64) -> u64 {
        let spread = self.between(typical / 2, typical + typical / 2);
        match self.below(100) {
            0 => spread.saturating_mul(20),
            1..=4 => spread.saturating_mul(5),
            _ => spread,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_gives_the_same_draws_and_another_key_others() {
        let draws = |seed, stream, entity| {
            let mut dice = Dice::new(seed, stream, entity);
            [dice.bits(), dice.bits(), dice.bits()]
        };
        assert_eq!(draws(7, Stream::Network, 3), draws(7, Stream::Network, 3));
        assert_ne!(draws(7, Stream::Network, 3), draws(7, Stream::Network, 4));
        assert_ne!(draws(7, Stream::Network, 3), draws(7, Stream::Disk, 3));
        assert_ne!(draws(7, Stream::Network, 3), draws(8, Stream::Network, 3));
    }

    #[test]
    fn draws_are_pinned_because_seeds_are_written_into_bug_reports() {
        let mut dice = Dice::new(1, Stream::Faults, 0);
        assert_eq!([dice.bits(), dice.bits()], PINNED);
    }
    const PINNED: [u64; 2] = [4_150_096_474_277_624_287, 3_968_109_430_529_737_377];

    #[test]
    fn bounds_hold_and_every_value_is_reached() {
        let mut dice = Dice::new(2, Stream::Oracle, 0);
        let mut reached = [false; 5];
        for _ in 0..1000 {
            reached[(dice.between(10, 14) - 10) as usize] = true;
            assert!(dice.below(3) < 3);
        }
        assert_eq!(reached, [true; 5]);
        assert_eq!(dice.below(0), 0);
        assert!(!dice.chance(0) && dice.chance(1000));
    }
}
