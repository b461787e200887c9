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
    /// What it shows beyond the true time, in milliseconds.
    skew_ms: i64,
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
        (EPOCH_MS + now_us / 1000).saturating_add_signed(self.skew_ms)
    }

    /// Sets it anew and returns the change in milliseconds.
    pub fn step(&mut self, step: Step, max_drift_ms: u64, dice: &mut Dice) -> i64 {
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

    /// Whether a [`Step::Calm`] could have set it so: two such clocks are trusted by each other.
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
            back |= clock.step(Step::Calm, 100, &mut dice) < 0;
            assert!(clock.is_calm(100));
            clock.step(Step::Edge, 100, &mut dice);
            assert!(clock.skew_ms.abs() <= 50);
            clock.step(Step::Beyond, 100, &mut dice);
            assert!(clock.skew_ms.abs() >= 200 && !clock.is_calm(100));
        }
        assert!(back, "clocks must also step backward");
        let before_ms = clock.skew_ms;
        assert_eq!(clock.step(Step::To(-70), 100, &mut dice), -70 - before_ms);
        assert_eq!(clock.skew_ms, -70);
        assert_eq!(WallClock { skew_ms: -5 }.read(7_000), EPOCH_MS + 2);
    }
}
