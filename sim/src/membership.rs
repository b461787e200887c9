//! Regions that come and go: who belongs to the cluster, step by step, and when each region's operator reloads its
//! configuration.
//!
//! A step adds or removes one region (S5) and rolls: every region takes it up at a time of its own, one that is down with
//! its next start. A region that is retired goes on, alone, until its own operator stops it; one that is added starts
//! then. The same region may come back, with the data it had or on an empty disk.
//!
//! Must never: depend on the state of the run; whether a reload is refused, and tried again, is the run's.

use crate::pattern::Group;
use crate::random::Dice;

/// One change of membership. Its epoch is its place in the list, the first being the second epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Who belongs from then on.
    pub members: Group,
    /// Whoever is added starts from an empty disk.
    pub fresh: bool,
    /// When each region's operator first tries to take it up, virtual microseconds; by region, those to come included.
    pub reloads_us: Vec<u64>,
}

/// Steps of a run of `regions` regions that lasts for `storm_us`, and how many regions come new.
pub fn draw(regions: usize, storm_us: u64, dice: &mut Dice) -> (Vec<Step>, usize) {
    let all = Group::of(0..regions);
    let one = dice.below(regions as u64) as usize;
    let with_new = all.with(regions);
    let (members, newcomers) = match dice.below(6) {
        0 => (vec![all.without(one)], 0),
        1 => (vec![with_new], 1),
        2 => (vec![with_new, with_new.without(one)], 1),
        3 => (vec![all.without(one), with_new.without(one)], 1),
        _ => (vec![all.without(one), all], 0),
    };
    let mut at_us = dice.between(500_000, storm_us * 6 / 10);
    let mut steps = Vec::new();
    for members in members {
        let reloads_us = (0..regions + newcomers).map(|_| at_us + dice.heavy(200_000)).collect();
        steps.push(Step { members, fresh: dice.chance(500), reloads_us });
        at_us += dice.between(200_000, 2_500_000);
    }
    (steps, newcomers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn each_step_changes_one_region_and_every_kind_occurs() {
        let mut met = [0u32; 4];
        for seed in 0..300 {
            let mut dice = Dice::new(seed, Stream::Links, 0);
            let regions = dice.between(2, 5) as usize;
            let (steps, newcomers) = draw(regions, 5_000_000, &mut dice);
            let mut before = Group::of(0..regions);
            for step in &steps {
                let changed: Vec<usize> =
                    (0..regions + newcomers).filter(|at| before.has(*at) != step.members.has(*at)).collect();
                assert_eq!((changed.len(), step.reloads_us.len()), (1, regions + newcomers), "{step:?}");
                let (region, joins) = (changed[0], step.members.has(changed[0]));
                let again = joins && region < regions;
                let kinds = [!joins, joins && !again, again && step.fresh, again && !step.fresh];
                met.iter_mut().zip(kinds).for_each(|(count, met)| *count += u32::from(met));
                before = step.members;
            }
            assert!(!steps.is_empty() && !before.is_empty());
        }
        assert!(met.iter().all(|count| *count > 10), "{met:?}");
    }
}
