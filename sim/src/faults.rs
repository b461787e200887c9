//! What breaks, and when: a schedule drawn from the seed before the run begins.
//!
//! Drawn beforehand and not during the run, so that a change in what the replicas do leaves the faults
//! where they were. Every fault ends by itself within the run or at the healing.
//!
//! Must never: look at the state of the run.

use crate::clock::Step;
use crate::disk::Call;
use crate::limits;
use crate::pattern::{Group, Pattern, Shape, Spell};
use crate::random::{Dice, Stream};
use crate::scenario::Scenario;

/// One thing that goes wrong. Regions by index; durations in virtual microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The links of a pattern are cut; the number says how often it had been in turns before.
    Cut(Pattern, u32),
    /// Takes one [`Fault::Cut`] back.
    Mend(Pattern),
    /// A region's operator takes up its next membership (S5).
    Reload(usize),
    /// The session between two regions breaks.
    Reset(usize, usize),
    /// The process dies; it starts again after that long.
    Crash(usize, u64),
    /// The machine loses power; it starts again after that long.
    PowerLoss(usize, u64),
    /// The machine loses its disk; it starts again, empty, after that long.
    DiskLoss(usize, u64),
    /// The wall clock is set anew.
    Clock(usize, Step),
    /// Writes and syncs take that many times as long (1 ends it).
    SlowDisk(usize, u64),
    /// After so many more calls to the disk the process ends, or with `true` the power fails; it starts
    /// again after that long.
    Fuse(usize, u64, bool, u64),
    /// The same, counted from when a checkpoint that was given up is tried again.
    RetryFuse(usize, u64, bool, u64),
    /// After so many more such calls to the disk one fails.
    DiskError(usize, Call, u64),
    /// So many bytes of room are left; `None` ends it.
    Full(usize, Option<usize>),
    /// No sync returns for that long.
    Stall(usize, u64),
    /// A bit of what is synced turns over; which one, that number says.
    Rot(usize, u64),
    /// The process stands still for that long.
    Pause(usize, u64),
    /// The region's data is copied.
    Backup(usize),
    /// The process ends; it comes back with the last copy of its data after that long.
    Restore(usize, u64),
    /// The region is stopped; it starts as the next version after that long.
    Upgrade(usize, u64),
}

/// What happens together and is left out together: a partition with its end, a crash and what follows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Incident {
    /// By time, virtual microseconds; at least one.
    pub faults: Vec<(u64, Fault)>,
}

impl Incident {
    /// What happens together, in any order.
    pub fn of(mut faults: Vec<(u64, Fault)>) -> Self {
        faults.sort_by_key(|(at_us, _)| *at_us);
        Self { faults }
    }

    /// When it begins, virtual microseconds.
    pub fn at_us(&self) -> u64 {
        self.faults.first().map_or(0, |(at_us, _)| *at_us)
    }

    /// Whether it changes the membership.
    pub fn is_membership(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Reload(_)))
    }
}

/// All incidents of a run, by when they begin.
pub fn draw(scenario: &Scenario) -> Vec<Incident> {
    let mut incidents = draw_menu(scenario);
    incidents.extend(memberships(scenario));
    for spell in &scenario.spells {
        let mut faults = Vec::new();
        cast(*spell, &mut faults);
        incidents.push(Incident::of(faults));
    }
    incidents.sort_by_key(Incident::at_us);
    incidents
}

/// All changes of membership, as operators carry them out.
pub(crate) fn memberships(scenario: &Scenario) -> Option<Incident> {
    // One change rests on the one before.
    let reloads = scenario.steps.iter().flat_map(|step| step.reloads_us.iter().zip(0..));
    let faults: Vec<_> = reloads.map(|(at_us, region)| (*at_us, Fault::Reload(region))).collect();
    (!faults.is_empty()).then(|| Incident::of(faults))
}

/// What the menu asks for, kind by kind.
pub(crate) fn draw_menu(scenario: &Scenario) -> Vec<Incident> {
    let mut dice = Dice::new(scenario.seed, Stream::Faults, 0);
    let mut incidents = Vec::new();
    let menu = scenario.menu;
    let kinds: [(bool, u64, Maker); 14] = [
        (menu.partitions, 5, partition),
        (menu.one_way, 5, one_way),
        (menu.resets, 5, reset),
        (menu.crashes, 5, crash),
        (menu.power, 5, power_loss),
        (menu.disk_loss, 3, disk_loss),
        (menu.steps, 5, step),
        (menu.beyond, 5, beyond),
        (menu.slow_disks, 5, slow_disk),
        (menu.fuses, 4, fuse),
        (menu.disk_errors, 3, disk_error),
        (menu.full_disks, 2, full_disk),
        (menu.stalls, 2, stall),
        (menu.rot, 1, rot),
    ];
    for (on, most, make) in kinds {
        draw_kind(scenario, (on, most, make), &mut dice, &mut incidents);
    }
    incidents.extend(draw_events(scenario));
    incidents
}

/// Incidents of one kind, if it is on: one, and at most so many.
fn draw_kind(
    scenario: &Scenario,
    (on, most, make): (bool, u64, Maker),
    dice: &mut Dice,
    incidents: &mut Vec<Incident>,
) {
    let count = if on { dice.between(1, most) } else { 0 };
    for _ in 0..count {
        let at_us = dice.between(200_000, scenario.storm_us);
        let mut faults = Vec::new();
        make(scenario, at_us, dice, &mut faults);
        incidents.push(Incident::of(faults));
    }
}

/// The further kinds, each of dice of its own.
fn draw_events(scenario: &Scenario) -> Vec<Incident> {
    let menu = scenario.menu;
    let kinds: [(bool, u64, u64, Maker); 4] = [
        (menu.pauses, 1, 5, pause),
        (menu.restores, 2, 2, restore),
        (menu.swizzles, 3, 2, swizzle),
        (menu.upgrades, 4, 1, upgrade),
    ];
    let mut incidents = Vec::new();
    for (on, kind, most, make) in kinds {
        let mut dice = Dice::new(scenario.seed, Stream::Events, (kind << 32) | 1);
        draw_kind(scenario, (on, most, make), &mut dice, &mut incidents);
    }
    incidents
}

type Maker = fn(&Scenario, u64, &mut Dice, &mut Vec<(u64, Fault)>);

fn two(scenario: &Scenario, dice: &mut Dice) -> (usize, usize) {
    let a = dice.below(scenario.sites() as u64) as usize;
    let b = dice.below(scenario.sites() as u64 - 1) as usize;
    (a, if b >= a { b + 1 } else { b })
}

fn one(scenario: &Scenario, dice: &mut Dice) -> usize {
    dice.below(scenario.sites() as u64) as usize
}

/// One region, or one pair, loses the others for a while: long enough for leases to end, sometimes
/// for retentions.
fn partition(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let until_us = at_us + dice.heavy(900_000);
    let (a, b) = two(scenario, dice);
    let alone = dice.chance(600);
    let others = Group::of((0..scenario.sites()).filter(|other| *other != a && (alone || *other == b)));
    let pattern = Pattern::steady(Shape::Between(Group::of([a]), others));
    cast(Spell { pattern, from_us: at_us, until_us }, faults);
}

fn one_way(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let until_us = at_us + dice.heavy(600_000);
    let (a, b) = two(scenario, dice);
    let pattern = Pattern::steady(Shape::OneWay(Group::of([a]), Group::of([b])));
    cast(Spell { pattern, from_us: at_us, until_us }, faults);
}

/// Cuts and mends, turn by turn.
pub(crate) fn cast(spell: Spell, faults: &mut Vec<(u64, Fault)>) {
    for (turn, (from_us, until_us)) in (0..).zip(spell.turns()) {
        faults.push((from_us, Fault::Cut(spell.pattern, turn)));
        faults.push((until_us, Fault::Mend(spell.pattern)));
    }
}

fn reset(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let (a, b) = two(scenario, dice);
    faults.push((at_us, Fault::Reset(a, b)));
}

fn crash(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    faults.push((at_us, Fault::Crash(one(scenario, dice), dice.heavy(200_000))));
}

fn power_loss(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let region = one(scenario, dice);
    if scenario.menu.steps && dice.chance(500) {
        // With much that is not synced; and it comes back soon, its clock behind until that is set.
        let off_us = at_us + dice.between(50_000, 300_000);
        faults.push((at_us, Fault::SlowDisk(region, 200)));
        faults.push((off_us, Fault::SlowDisk(region, 1)));
        faults.push((off_us, Fault::PowerLoss(region, dice.heavy(15_000))));
        faults.push((off_us + 1, Fault::Clock(region, Step::Behind)));
        faults.push((off_us + dice.heavy(300_000), Fault::Clock(region, Step::Calm)));
        return;
    }
    faults.push((at_us, Fault::PowerLoss(region, dice.heavy(400_000))));
}

fn disk_loss(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    faults.push((at_us, Fault::DiskLoss(one(scenario, dice), limits::REBIRTH_US + dice.heavy(400_000))));
}

fn step(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let kind = if dice.chance(250) { Step::Edge } else { Step::Calm };
    faults.push((at_us, Fault::Clock(one(scenario, dice), kind)));
}

fn beyond(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let region = one(scenario, dice);
    faults.push((at_us, Fault::Clock(region, Step::Beyond)));
    faults.push((at_us + dice.heavy(300_000), Fault::Clock(region, Step::Calm)));
}

fn slow_disk(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let region = one(scenario, dice);
    faults.push((at_us, Fault::SlowDisk(region, dice.between(3, 40))));
    faults.push((at_us + dice.heavy(500_000), Fault::SlowDisk(region, 1)));
}

/// Between any two calls of whatever the region does then; in every second case of its next start.
fn fuse(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let (region, down_us) = (one(scenario, dice), dice.heavy(200_000));
    let power = dice.chance(700);
    if dice.chance(500) {
        faults.push((at_us, Fault::Fuse(region, dice.below(40), power, down_us)));
        return;
    }
    let first_us = dice.between(20_000, 300_000);
    let first =
        if dice.chance(500) { Fault::Crash(region, first_us) } else { Fault::PowerLoss(region, first_us) };
    faults.push((at_us, first));
    faults.push((at_us + first_us / 2, Fault::Fuse(region, dice.below(16), power, down_us)));
}

fn disk_error(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let region = one(scenario, dice);
    let call = *dice.pick(&[Call::Sync, Call::Sync, Call::Write, Call::SyncFolder]);
    faults.push((at_us, Fault::DiskError(region, call, dice.below(12))));
    if dice.chance(500) {
        let (calls, power, down_us) = (dice.below(8), dice.chance(300), dice.heavy(200_000));
        faults.push((at_us, Fault::RetryFuse(region, calls, power, down_us)));
    }
    // What it has left half done shows when the power fails, too, or the process ends.
    let later_us = at_us + dice.heavy(900_000);
    match dice.below(3) {
        0 => faults.push((later_us, Fault::PowerLoss(region, dice.heavy(300_000)))),
        1 => faults.push((later_us, Fault::Fuse(region, dice.below(40), false, dice.heavy(200_000)))),
        _ => {}
    }
}

fn full_disk(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let region = one(scenario, dice);
    faults.push((at_us, Fault::Full(region, Some(dice.below(2 * scenario.segment_bytes as u64) as usize))));
    faults.push((at_us + dice.heavy(1_500_000), Fault::Full(region, None)));
}

fn stall(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    faults.push((at_us, Fault::Stall(one(scenario, dice), dice.between(1_000_000, 6_000_000))));
}

fn rot(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    faults.push((at_us, Fault::Rot(one(scenario, dice), dice.bits())));
}

/// From what no peer notices to what outlasts leases.
fn pause(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let typical_us = *dice.pick(&[20_000, 200_000, 600_000]);
    faults.push((at_us, Fault::Pause(one(scenario, dice), dice.heavy(typical_us))));
}

fn restore(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let region = one(scenario, dice);
    faults.push((at_us, Fault::Backup(region)));
    let back_us = at_us + dice.heavy(900_000);
    faults.push((back_us, Fault::Restore(region, limits::REBIRTH_US + dice.heavy(200_000))));
}

fn swizzle(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let lasts_us = dice.heavy(1_500_000);
    swizzled(Group::of(0..scenario.sites()), (at_us, lasts_us), dice, faults);
}

/// Of the links between these regions some are cut, one after the other in the first half of the time, and mended in
/// another order in the second: so many halves of the cluster come and go in between.
pub(crate) fn swizzled(
    among: Group,
    (at_us, lasts_us): (u64, u64),
    dice: &mut Dice,
    faults: &mut Vec<(u64, Fault)>,
) {
    let ends: Vec<usize> = among.regions().collect();
    let pairs = ends.iter().enumerate().flat_map(|(at, a)| ends[at + 1..].iter().map(move |b| (*a, *b)));
    let all: Vec<(usize, usize)> = pairs.collect();
    let mut chosen: Vec<(usize, usize)> = all.iter().copied().filter(|_| dice.chance(500)).collect();
    if chosen.is_empty() {
        chosen.extend(all.get(dice.below(all.len() as u64) as usize));
    }
    let half_us = lasts_us / 2;
    for (nth, (a, b)) in chosen.into_iter().enumerate() {
        let pattern = Pattern::steady(Shape::Between(Group::of([a]), Group::of([b])));
        // It begins when it is to begin.
        let cut_us = if nth == 0 { at_us } else { at_us + dice.below(half_us + 1) };
        faults.push((cut_us, Fault::Cut(pattern, 0)));
        faults.push((at_us + half_us + dice.below(lasts_us - half_us + 1), Fault::Mend(pattern)));
    }
}

/// One region after the other, in any order.
fn upgrade(scenario: &Scenario, at_us: u64, dice: &mut Dice, faults: &mut Vec<(u64, Fault)>) {
    let mut regions: Vec<usize> = (0..scenario.sites()).collect();
    let mut at_us = at_us / 2;
    while !regions.is_empty() {
        let region = regions.swap_remove(dice.below(regions.len() as u64) as usize);
        faults.push((at_us, Fault::Upgrade(region, dice.heavy(100_000))));
        at_us += dice.heavy(400_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_ordered_cuts_are_mended_and_only_the_menu_is_served() {
        for seed in 0..300 {
            let scenario = Scenario::draw(seed);
            let incidents = draw(&scenario);
            assert!(incidents.is_sorted_by_key(Incident::at_us));
            assert!(incidents.iter().all(|incident| incident.faults.is_sorted_by_key(|(at_us, _)| *at_us)));
            let faults: Vec<_> = incidents.iter().flat_map(|incident| incident.faults.clone()).collect();
            let count = |wanted: fn(&Fault) -> bool| faults.iter().filter(|(_, fault)| wanted(fault)).count();
            assert_eq!(count(|f| matches!(f, Fault::Cut(..))), count(|f| matches!(f, Fault::Mend(..))));
            let menu = scenario.menu;
            let (power, crash) = (menu.power || menu.fuses || menu.disk_errors, menu.crashes || menu.fuses);
            let few = |served: usize, wanted: bool| wanted || served == 0;
            assert!(few(count(|f| matches!(f, Fault::PowerLoss(..))), power));
            assert!(few(count(|f| matches!(f, Fault::Crash(..))), crash));
            assert!(few(count(|f| matches!(f, Fault::Fuse(..))), menu.fuses || menu.disk_errors));
            assert_eq!(count(|f| matches!(f, Fault::DiskError(..))) > 0, menu.disk_errors);
            assert_eq!(count(|f| matches!(f, Fault::Full(_, Some(_)))) > 0, menu.full_disks);
            assert_eq!(count(|f| matches!(f, Fault::Stall(..))) > 0, menu.stalls);
            assert_eq!(count(|f| matches!(f, Fault::Rot(..))), usize::from(menu.rot));
            assert_eq!(count(|f| matches!(f, Fault::Pause(..))) > 0, menu.pauses);
            assert_eq!(count(|f| matches!(f, Fault::Restore(..))) > 0, menu.restores);
            assert_eq!(count(|f| matches!(f, Fault::Backup(_))), count(|f| matches!(f, Fault::Restore(..))));
            let sites = if menu.upgrades { scenario.sites() } else { 0 };
            assert_eq!(count(|f| matches!(f, Fault::Upgrade(..))), sites);
            assert_eq!(incidents, draw(&scenario));
        }
    }
}
