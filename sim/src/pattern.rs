//! Which links a partition cuts: patterns as data.
//!
//! A pattern says of every directed link, at every time since it began, whether anything passes. It is pure and knows
//! nothing of the simulation, so that a random run, `onced-sim patterns` and the whole-process tests mean the same
//! by the same words. A time line names groups of regions; what is asked for by name ([`Pattern::named`]) is made of the
//! same parts for any number of regions.
//!
//! Rejected: a list of cut pairs (thirty regions have 870 of them, and nobody sees a ring in it), a function pointer a
//! pattern (no data: it could be neither written to a file nor shrunk).
//!
//! Must never: draw or remember anything. What is cut follows from the arguments.

use crate::random::Dice;

/// A group of regions, by index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Group(u64);

impl Group {
    /// Regions that a group can tell apart.
    pub const REGIONS_MAX: usize = u64::BITS as usize;

    /// Of these regions, each below [`Self::REGIONS_MAX`].
    pub fn of(regions: impl IntoIterator<Item = usize>) -> Self {
        let mut group = Self::default();
        for region in regions {
            assert!(region < Self::REGIONS_MAX, "a region beyond what a group tells apart");
            group.0 |= 1 << region;
        }
        group
    }

    /// Whether the region belongs to it.
    pub const fn has(self, region: usize) -> bool {
        region < Self::REGIONS_MAX && self.0 & (1 << region) != 0
    }

    /// With `region`.
    #[must_use]
    pub const fn with(self, region: usize) -> Self {
        Self(self.0 | 1 << region)
    }

    /// Without `region`.
    #[must_use]
    pub const fn without(self, region: usize) -> Self {
        Self(self.0 & !(1 << region))
    }

    /// Its regions, ascending.
    pub fn regions(self) -> impl Iterator<Item = usize> {
        (0..Self::REGIONS_MAX).filter(move |region| self.has(*region))
    }

    /// How many they are.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Which links are cut while a pattern holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Between the two groups, either way. Who belongs to neither reaches both: a bridge.
    Between(Group, Group),
    /// From the first group to the second; the other way is open.
    OneWay(Group, Group),
    /// In a circle by index, all links but those to so many next regions on either side.
    Ring(usize),
    /// All links.
    Everywhere,
}

/// See the module's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pattern {
    /// What is cut.
    pub shape: Shape,
    /// It holds for so long, then lets go for as long, in turns, microseconds; 0: it holds.
    pub flap_us: u64,
}

/// A pattern that holds for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spell {
    /// Which.
    pub pattern: Pattern,
    /// From when on, virtual microseconds.
    pub from_us: u64,
    /// Until when.
    pub until_us: u64,
}

/// The names of [`Pattern::named`], in the order in which they are listed to people.
pub const NAMES: [&str; 7] =
    ["majority-minority", "isolated", "ring", "bridge", "one-way", "flapping", "flapping-bridge"];

/// How long the links of a flapping pattern are up, and down: "flapping each second".
const FLAP_US: u64 = 1_000_000;

impl Pattern {
    /// `shape`, without turns.
    pub const fn steady(shape: Shape) -> Self {
        Self { shape, flap_us: 0 }
    }

    /// A pattern of [`NAMES`] for so many regions; `None` for a name that is none, or where it would cut nothing.
    pub fn named(name: &str, regions: usize) -> Option<Self> {
        let minority = || Group::of(0..regions.saturating_sub(1) / 2);
        let majority = || Group::of(regions.saturating_sub(1) / 2..regions);
        let middle = regions / 2;
        let bridge = Shape::Between(Group::of(0..middle), Group::of(middle + 1..regions));
        let pattern = match name {
            "majority-minority" => Self::steady(Shape::Between(majority(), minority())),
            "isolated" => Self::steady(Shape::Between(Group::of([0]), Group::of(1..regions))),
            // Each with its neighbours is a majority, and no two see the same one.
            "ring" => Self::steady(Shape::Ring((regions / 2).div_ceil(2))),
            "bridge" => Self::steady(bridge),
            "one-way" => Self::steady(Shape::OneWay(minority(), majority())),
            "flapping" => Self { shape: Shape::Everywhere, flap_us: FLAP_US },
            "flapping-bridge" => Self { shape: bridge, flap_us: FLAP_US },
            _ => return None,
        };
        (pattern.links(regions).next().is_some()).then_some(pattern)
    }

    /// Any pattern that cuts something between so many regions, at least two.
    pub fn draw(regions: usize, dice: &mut Dice) -> Self {
        let pattern = Self { shape: Self::draw_shape(regions, dice), flap_us: 0 };
        // From what no session notices to what each gives up.
        let flap_us = if dice.chance(400) { *dice.pick(&[30_000, 150_000, 400_000, 1_000_000]) } else { 0 };
        if pattern.links(regions).next().is_some() {
            return Self { flap_us, ..pattern };
        }
        Self { shape: Shape::Everywhere, flap_us }
    }

    fn draw_shape(regions: usize, dice: &mut Dice) -> Shape {
        // In neither group one region of five.
        let sides: Vec<u64> = (0..regions).map(|_| dice.below(5)).collect();
        let side = |from: u64, to: u64| {
            Group::of((0..regions).filter(|region| (from..to).contains(&sides[*region])))
        };
        let alone = dice.below(regions as u64) as usize;
        match dice.below(6) {
            0 => Shape::Between(Group::of([alone]), Group::of(0..regions).without(alone)),
            1 => Shape::OneWay(Group::of([alone]), Group::of(0..regions).without(alone)),
            2 => Shape::OneWay(side(0, 2), side(2, 4)),
            3 => Shape::Ring((regions / 2).div_ceil(2)),
            4 => Shape::Everywhere,
            _ => Shape::Between(side(0, 2), side(2, 4)),
        }
    }

    /// The same between all regions but one.
    #[must_use]
    pub const fn without(self, region: usize) -> Self {
        let shape = match self.shape {
            Shape::Between(ones, others) => Shape::Between(ones.without(region), others.without(region)),
            Shape::OneWay(ones, others) => Shape::OneWay(ones.without(region), others.without(region)),
            shape @ (Shape::Ring(_) | Shape::Everywhere) => shape,
        };
        Self { shape, ..self }
    }

    /// Whether nothing passes from one region to another, of so many, that long after the pattern began.
    pub const fn is_cut(&self, regions: usize, (from, to): (usize, usize), since_us: u64) -> bool {
        let lets_go = match since_us.checked_div(self.flap_us) {
            Some(turn) => turn % 2 == 1,
            None => false,
        };
        if lets_go || from == to {
            return false;
        }
        match self.shape {
            Shape::Between(ones, others) => {
                ones.has(from) && others.has(to) || others.has(from) && ones.has(to)
            }
            Shape::OneWay(ones, others) => ones.has(from) && others.has(to),
            Shape::Ring(reach) => {
                let apart = from.abs_diff(to);
                let round = if apart * 2 > regions { regions - apart } else { apart };
                round > reach
            }
            Shape::Everywhere => true,
        }
    }

    /// The directed links among so many regions that are cut while it holds.
    pub fn links(&self, regions: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let pattern = *self;
        let pairs = (0..regions).flat_map(move |from| (0..regions).map(move |to| (from, to)));
        pairs.filter(move |link| pattern.is_cut(regions, *link, 0))
    }
}

impl Spell {
    /// From when to when the pattern holds in it, microseconds.
    pub fn turns(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let Self { pattern: Pattern { flap_us, .. }, from_us, until_us } = *self;
        let (step_us, turn_us) = match flap_us {
            0 => (u64::MAX, u64::MAX),
            flap_us => (2 * flap_us, flap_us),
        };
        let begins = std::iter::successors(Some(from_us), move |at_us| at_us.checked_add(step_us));
        begins
            .take_while(move |at_us| *at_us < until_us)
            .map(move |at_us| (at_us, at_us.saturating_add(turn_us).min(until_us)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// How many links are cut from each region, and to each.
    fn degrees(name: &str, regions: usize) -> Vec<(usize, usize)> {
        let pattern = Pattern::named(name, regions).expect("a name");
        let links: Vec<_> = pattern.links(regions).collect();
        let of = |at| {
            (
                links.iter().filter(|link| link.0 == at).count(),
                links.iter().filter(|link| link.1 == at).count(),
            )
        };
        (0..regions).map(of).collect()
    }

    #[test]
    fn thirty_regions_are_cut_as_the_names_say() {
        let (few, many) = ((16, 16), (14, 14));
        assert_eq!(degrees("majority-minority", 30), [[few; 14].as_slice(), &[many; 16]].concat());
        assert_eq!(degrees("isolated", 30), [[(29, 29)].as_slice(), &[(1, 1); 29]].concat());
        // Itself and eight on either side: a majority of 17.
        assert_eq!(degrees("ring", 30), [(13, 13); 30]);
        assert_eq!(
            degrees("bridge", 30),
            [[(14, 14); 15].as_slice(), &[(0, 0)], &[(15, 15); 14]].concat(),
            "the sixteenth region reaches all"
        );
        assert_eq!(degrees("one-way", 30), [[(16, 0); 14].as_slice(), &[(0, 14); 16]].concat());
        assert_eq!(degrees("flapping", 30), [(29, 29); 30]);
    }

    #[test]
    fn five_regions_as_processes_are_cut_as_the_names_say() {
        let links = |name| Pattern::named(name, 5).expect("a name").links(5).collect::<Vec<_>>();
        assert_eq!(degrees("ring", 5), [(2, 2); 5], "each reaches its two neighbours");
        assert!(links("ring").contains(&(0, 2)) && !links("ring").contains(&(4, 0)));
        assert_eq!(degrees("bridge", 5), [(2, 2), (2, 2), (0, 0), (2, 2), (2, 2)]);
        assert_eq!(links("one-way").len(), 6);
        assert!(Pattern::named("ring", 3).is_none(), "three in a circle all see each other");
        assert!(Pattern::named("no-such-pattern", 5).is_none());
        assert!(NAMES.iter().all(|name| Pattern::named(name, 4).is_some()));
    }

    #[test]
    fn what_flaps_is_cut_and_open_in_turns() {
        let pattern = Pattern::named("flapping", 3).expect("a name");
        let cut = |since_us| pattern.is_cut(3, (0, 1), since_us);
        assert_eq!([0, 999_999, 1_000_000, 1_999_999, 2_000_000].map(cut), [true, true, false, false, true]);
        let turns = |flap_us, from_us, until_us| {
            let pattern = Pattern { flap_us, ..pattern };
            Spell { pattern, from_us, until_us }.turns().collect::<Vec<_>>()
        };
        assert_eq!(turns(1_000, 500, 4_000), [(500, 1_500), (2_500, 3_500)]);
        assert_eq!(turns(1_000, 500, 2_700), [(500, 1_500), (2_500, 2_700)], "it ends with its spell");
        assert_eq!(turns(0, 500, 4_000), [(500, 4_000)]);
    }

    #[test]
    fn every_drawn_pattern_cuts_something_and_every_shape_is_drawn() {
        let mut met = [0u32; 5];
        for seed in 0..400 {
            let mut dice = Dice::new(seed, Stream::Links, 0);
            let regions = dice.between(2, 6) as usize;
            let pattern = Pattern::draw(regions, &mut dice);
            assert!(pattern.links(regions).next().is_some(), "{pattern:?} of {regions}");
            met[4] += u32::from(pattern.flap_us > 0);
            let kind = match pattern.shape {
                Shape::Between(..) => 0,
                Shape::OneWay(..) => 1,
                Shape::Ring(_) => 2,
                Shape::Everywhere => 3,
            };
            met[kind] += 1;
        }
        assert!(met.iter().all(|count| *count > 10), "{met:?}");
    }
}
