//! Stamps and the hybrid logical clock (S2).
//!
//! A stamp is 64 bits: 48 of Unix milliseconds, 16 of a counter, so that stamps compare as integers
//! and a full counter carries into the milliseconds. The clock is one atomic: every socket thread
//! ticks it under its shard's lock, so it must neither block nor hop.
//!
//! Why not `hybrid_logical_clock::HybridLogicalClock::update`? It goes backwards when the local clock
//! leads and its counter never resets; both are pinned in the tests below, so that a fixed release
//! is noticed. That crate's value type is how we show a stamp as (physical, logical).
//!
//! Rejected: a clock behind a mutex (a lock on the claim path), a clock that reads the wall clock
//! itself (no simulator can feed it). The wall clock is always an argument here.
//!
//! Must never: go backwards, whatever the wall clock or a peer says (INV-9).

use hybrid_logical_clock::HybridLogicalClock;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::canary::{self, Bug};

const COUNTER_BITS: u32 = 16;

/// One reading of the hybrid logical clock (S2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stamp(u64);

impl Stamp {
    /// Before every stamp that a clock issues.
    pub const ZERO: Self = Self(0);

    /// The stamp with these Unix milliseconds (the lower 48 bits count) and counter.
    pub const fn from_parts(ms: u64, counter: u16) -> Self {
        Self(ms << COUNTER_BITS | counter as u64)
    }

    /// The stamp whose 64 bits these are.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// All 64 bits; compares as the stamp does.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Unix milliseconds.
    pub const fn ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// Order among stamps of one millisecond.
    pub const fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// The next stamp; a full counter carries into the milliseconds.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl From<Stamp> for HybridLogicalClock {
    fn from(stamp: Stamp) -> Self {
        Self::new_with_both_physical_and_logical_clock_time(stamp.ms(), u32::from(stamp.counter()))
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hlc = HybridLogicalClock::from(*self);
        write!(f, "{}.{}", hlc.physical, hlc.logical)
    }
}

/// The clock of one region: strictly increasing stamps for many threads at once.
#[derive(Debug)]
pub struct Clock {
    last: AtomicU64,
}

impl Clock {
    /// A clock that issues only stamps above `floor` (S2: a ceiling synced ahead, or what the log
    /// holds, whichever is more).
    pub const fn starting_after(floor: Stamp) -> Self {
        Self { last: AtomicU64::new(floor.0) }
    }

    /// A fresh stamp: above all issued or observed before, and not behind `wall_ms`.
    pub fn tick(&self, wall_ms: u64) -> Stamp {
        let wall = wall_ms << COUNTER_BITS;
        if canary::planted(Bug::ClockGoesBack) {
            return Stamp(wall | (self.last.fetch_add(1, Ordering::Relaxed) & 0xff));
        }
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = wall.max(last + 1);
            match self.last.compare_exchange_weak(last, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Stamp(next),
                Err(seen) => last = seen,
            }
        }
    }

    /// Learns of a stamp issued elsewhere: later ticks are above it. The caller has checked it
    /// against the wall clock and `max_drift` (S2).
    pub fn observe(&self, stamp: Stamp) {
        if !canary::planted(Bug::ClockGoesBack) {
            self.last.fetch_max(stamp.0, Ordering::AcqRel);
        }
    }

    /// The last stamp issued or observed.
    pub fn last(&self) -> Stamp {
        Stamp(self.last.load(Ordering::Acquire))
    }

    /// `now` of every decision: max(wall clock, clock's milliseconds), in Unix milliseconds (S2).
    pub fn now_ms(&self, wall_ms: u64) -> u64 {
        wall_ms.max(self.last().ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_compare_as_their_hlc_reading_does() {
        let (a, b) = (Stamp::from_parts(7, 9), Stamp::from_parts(8, 0));
        assert!(a < b);
        assert!(HybridLogicalClock::from(a) < HybridLogicalClock::from(b));
        assert_eq!((a.ms(), a.counter()), (7, 9));
        assert_eq!(format!("{a:?}"), "7.9");
    }

    #[test]
    fn a_full_counter_carries_into_the_milliseconds() {
        assert_eq!(Stamp::from_parts(5, u16::MAX).next(), Stamp::from_parts(6, 0));
        let clock = Clock::starting_after(Stamp::from_parts(5, u16::MAX - 1));
        assert_eq!(clock.tick(5), Stamp::from_parts(5, u16::MAX));
        assert_eq!(clock.tick(5), Stamp::from_parts(6, 0));
    }

    #[test]
    fn the_clock_never_goes_back_whatever_wall_and_peers_say() {
        let clock = Clock::starting_after(Stamp::ZERO);
        let mut last = Stamp::ZERO;
        for (wall, seen) in [(100, 0), (50, 0), (50, 90), (101, 5), (0, 0), (102, 200), (150, 0)] {
            clock.observe(Stamp::from_parts(seen, 0));
            let next = clock.tick(wall);
            assert!(next > last && next.ms() >= seen && next.ms() >= wall);
            last = next;
        }
    }

    /// hybrid-logical-clock 0.0.2 goes backwards when the local clock leads: the reason why its
    /// update rule is not ours. If this fails, a release has mended it: read it again.
    #[test]
    fn the_crates_update_goes_backwards() {
        let mut theirs = HybridLogicalClock::new_with_both_physical_and_logical_clock_time(100, 5);
        theirs.update(&HybridLogicalClock::new(50), 60);
        assert_eq!((theirs.physical, theirs.logical), (100, 0));
    }

    /// …and its counter never resets as time goes on with a peer that is level with it, so that it
    /// must overflow one day.
    #[test]
    fn the_crates_counter_never_resets() {
        let mut theirs = HybridLogicalClock::new_with_both_physical_and_logical_clock_time(1, 7);
        theirs.update(&HybridLogicalClock::new_with_both_physical_and_logical_clock_time(2, 7), 2);
        assert_eq!((theirs.physical, theirs.logical), (2, 8));
    }
}
