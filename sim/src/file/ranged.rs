//! A number that the file gives, or leaves to the seed within two bounds: `"10ms..50ms"`.
//!
//! Each range draws from dice of its own, named after its place in the file (`event/3/at`), so that a change elsewhere
//! leaves it what it was. All checks look at both ends: what was accepted runs with every seed.

use crate::random::{Dice, Stream};

/// See the module's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ranged {
    /// The least it may be.
    pub low: u64,
    /// The most.
    pub high: u64,
    /// Names its dice.
    pub(super) entity: u64,
}

impl Ranged {
    /// Always the same.
    pub(super) const fn fixed(value: u64) -> Self {
        Self { low: value, high: value, entity: 0 }
    }

    /// Between the two, drawn by the dice that `place` names.
    pub(super) fn between(low: u64, high: u64, place: &str) -> Self {
        // FNV-1a: small and the same for ever; places are few.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self { low, high, entity: place.bytes().fold(0xcbf2_9ce4_8422_2325, step) }
    }

    /// What it is for a seed.
    pub(super) fn draw(self, seed: u64) -> u64 {
        self.draw_nth(seed, 0)
    }

    /// What it is for a seed where it is drawn several times.
    pub(super) fn draw_nth(self, seed: u64, nth: u64) -> u64 {
        if self.low == self.high {
            return self.low;
        }
        Dice::new(seed, Stream::Ranges, self.entity.wrapping_add(nth)).between(self.low, self.high)
    }

    /// The same, counted in `unit`s of what it is now.
    pub(super) const fn per(self, unit: u64) -> Self {
        Self { low: self.low / unit, high: self.high / unit, entity: self.entity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_draw_by_their_place_and_stay_within() {
        let (at, other) = (Ranged::between(10, 50, "event/0/at"), Ranged::between(10, 50, "event/1/at"));
        let draws = |range: Ranged| (0..100).map(|seed| range.draw(seed)).collect::<Vec<_>>();
        assert_eq!(draws(at), draws(at));
        assert_ne!(draws(at), draws(other));
        assert!(draws(at).iter().all(|value| (10..=50).contains(value)));
        assert!(draws(at).contains(&10) && draws(at).contains(&50));
        assert_eq!(Ranged::fixed(7).draw(3), 7);
    }
}
