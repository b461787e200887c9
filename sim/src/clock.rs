//! The wall clocks of the regions: each a little wrong, stepping back and forth within the bound that
//! SEMANTICS S2 allows, and now and then beyond it.
//!
//! Must never: be read by anything but the driver of its own region.

use crate::random::Dice;

/// Unix milliseconds at the start of every run.
pub const EPOCH_MS: u64 = 1_780_000_000_000;

/// One region's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock {
    /// What it shows beyond the true time, in milliseconds, when it was set.
    skew_ms: i64,
    /// By how much it is too fast since then, in millionths.
    drift_ppm: i64,
    /// When that was, virtual microseconds.
    set_us: u64,
}

/// How a clock is set anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Comfortably inside the bound: two such clocks differ by less than 80 % of `max_drift`.
    Calm,
    /// Up to the bound: the region may have to refuse claims (S2).
    Edge,
    /// Behind, beyond the bound: a machine that has lost its power and not been told the time yet.
    Behind,
    /// Beyond it, for a while: peers must stall the link.
    Beyond,
    /// So many milliseconds beyond the true time.
    To(i64),
}

impl WallClock {
    /// What it shows at `now_us` of virtual time, Unix milliseconds.
    pub const fn read(&self, now_us: u64) -> u64 {
        let shown_us = now_us.saturating_add_signed(self.drifted_us(now_us));
        (EPOCH_MS + shown_us / 1000).saturating_add_signed(self.skew_ms)
    }

    /// How far it has drifted since it was set, microseconds. A run lasts for a week at most, and a clock is off by a
    /// thousandth at most.
    const fn drifted_us(&self, now_us: u64) -> i64 {
        now_us.saturating_sub(self.set_us) as i64 * self.drift_ppm / 1_000_000
    }

    /// What it shows beyond the true time at `now_us`, milliseconds.
    const fn skew_ms(&self, now_us: u64) -> i64 {
        self.skew_ms + self.drifted_us(now_us) / 1_000
    }

    /// From now on it goes too fast by so many millionths.
    pub const fn drift(&mut self, ppm: i64, now_us: u64) {
        self.skew_ms = self.skew_ms(now_us);
        (self.drift_ppm, self.set_us) = (ppm, now_us);
    }

    /// Sets it anew and returns the change in milliseconds.
    pub fn step(&mut self, step: Step, (now_us, max_drift_ms): (u64, u64), dice: &mut Dice) -> i64 {
        self.drift(self.drift_ppm, now_us);
        let reach = match step {
            Step::Calm => max_drift_ms * 38 / 100,
            Step::Edge => max_drift_ms / 2,
            Step::Beyond | Step::Behind => max_drift_ms * 3,
            Step::To(skew_ms) => {
                let change_ms = skew_ms - self.skew_ms;
                self.skew_ms = skew_ms;
                return change_ms;
            }
        };
        let mut skew_ms = dice.below(2 * reach + 1) as i64 - reach as i64;
        if step == Step::Behind {
            skew_ms = -(reach as i64);
        }
        if step == Step::Beyond {
            skew_ms += max_drift_ms as i64 * if skew_ms < 0 { -2 } else { 2 };
        }
        let change = skew_ms - self.skew_ms;
        self.skew_ms = skew_ms;
        change
    }

    /// Whether a [`Step::Calm`] could have set it so: two such clocks are trusted by each other. Of one that keeps its pace.
    pub const fn is_calm(&self, max_drift_ms: u64) -> bool {
        self.skew_ms.unsigned_abs() <= max_drift_ms * 38 / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn steps_stay_within_what_they_promise() {
        let mut dice = Dice::new(1, Stream::Clock, 0);
        let mut clock = WallClock::default();
        let mut back = false;
        for _ in 0..500 {
            back |= clock.step(Step::Calm, (0, 100), &mut dice) < 0;
            assert!(clock.is_calm(100));
            clock.step(Step::Edge, (0, 100), &mut dice);
            assert!(clock.skew_ms.abs() <= 50);
            clock.step(Step::Beyond, (0, 100), &mut dice);
            assert!(clock.skew_ms.abs() >= 200 && !clock.is_calm(100));
        }
        assert!(back, "clocks must also step backward");
        let before_ms = clock.skew_ms;
        assert_eq!(clock.step(Step::To(-70), (0, 100), &mut dice), -70 - before_ms);
        assert_eq!(clock.skew_ms, -70);
        assert_eq!(WallClock { skew_ms: -5, ..WallClock::default() }.read(7_000), EPOCH_MS + 2);
    }

    #[test]
    fn a_clock_that_drifts_goes_on_from_where_it_was_set_and_never_back() {
        let mut clock = WallClock::default();
        clock.drift(-500, 0);
        assert_eq!(clock.read(10_000_000), EPOCH_MS + 10_000 - 5);
        let reads: Vec<u64> = (0..100_000).map(|at| clock.read(at * 333)).collect();
        assert!(reads.is_sorted());
        let mut dice = Dice::new(1, Stream::Clock, 0);
        assert_eq!(clock.step(Step::To(20), (10_000_000, 100), &mut dice), 25);
        assert_eq!(clock.read(12_000_000), EPOCH_MS + 12_020 - 1);
        clock.drift(0, 12_000_000);
        assert_eq!(clock.read(99_000_000), EPOCH_MS + 99_000 + 19);
    }
}
