//! What an event of the time line does, and the faults it becomes for a seed.
//!
//! Must never: check anything; `events` has.

use super::ranged::Ranged;
use crate::clock::Step as ClockStep;
use crate::disk::Call;
use crate::faults::{self, Fault};
use crate::pattern::{Group, Pattern, Spell};
use crate::random::{Dice, Stream};

/// How much goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Down {
    /// The process.
    Process,
    /// The machine.
    Power,
    /// The machine with its disk.
    Disk,
}

/// What is done. Regions by index.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// Links are cut; with the turn that a flapping pattern is in, or from the first on.
    Cut(Vec<Pattern>, Option<u32>),
    Mend(Vec<Pattern>),
    Reset(usize, usize),
    Down(Down, usize, Ranged),
    Clock(usize, ClockStep),
    SlowDisk(usize, Ranged),
    Full(usize, Option<Ranged>),
    Stall(usize),
    /// `retry`: counted from when a checkpoint is tried again.
    Fuse {
        retry: bool,
        region: usize,
        calls: Ranged,
        power: bool,
        down_us: Ranged,
    },
    DiskError(usize, Call, Ranged),
    Rot(usize, Option<u64>),
    Reload(usize),
    Pause(usize),
    Backup(usize),
    /// With when the copy is taken, where no other event takes it.
    Restore(usize, Option<Ranged>, Ranged),
    /// Between these regions; with what names its dice.
    Swizzle(Group, Ranged),
    /// One after the other: how long each is down, and how far apart they follow.
    Upgrade(Vec<usize>, Ranged, Ranged),
}

/// One deed of an event.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// After the event's beginning, microseconds.
    pub after_us: Ranged,
    pub deed: Deed,
    /// How long it lasts, microseconds.
    pub lasts_us: Option<Ranged>,
}

impl Part {
    /// Its faults where the event begins at `begin_us`, for the so-manieth time, appended.
    pub(super) fn faults(
        &self,
        begin_us: u64,
        (seed, nth): (u64, u64),
        end_us: u64,
        faults: &mut Vec<(u64, Fault)>,
    ) {
        let draw = |range: Ranged| range.draw_nth(seed, nth);
        let at_us = begin_us.saturating_add(draw(self.after_us));
        let until_us = self.lasts_us.map(|lasts_us| at_us.saturating_add(draw(lasts_us)));
        let mut push = |fault| faults.push((at_us, fault));
        match &self.deed {
            Deed::Cut(patterns, turn) => {
                for pattern in patterns {
                    cut(*pattern, *turn, (at_us, until_us, end_us), faults);
                }
                return;
            }
            Deed::Mend(patterns) => patterns.iter().for_each(|pattern| push(Fault::Mend(*pattern))),
            Deed::Reset(a, b) => push(Fault::Reset(*a, *b)),
            Deed::Down(down, region, down_us) => push(match down {
                Down::Process => Fault::Crash(*region, draw(*down_us)),
                Down::Power => Fault::PowerLoss(*region, draw(*down_us)),
                Down::Disk => Fault::DiskLoss(*region, draw(*down_us)),
            }),
            Deed::Clock(region, step) => push(Fault::Clock(*region, *step)),
            Deed::SlowDisk(region, times) => push(Fault::SlowDisk(*region, draw(*times))),
            Deed::Full(region, room) => {
                push(Fault::Full(*region, room.map(|room| draw(room) as usize)));
            }
            Deed::Stall(region) => push(Fault::Stall(*region, until_us.unwrap_or(at_us) - at_us)),
            Deed::Fuse { retry, region, calls, power, down_us } => {
                let (calls, down_us) = (draw(*calls), draw(*down_us));
                push(if *retry {
                    Fault::RetryFuse(*region, calls, *power, down_us)
                } else {
                    Fault::Fuse(*region, calls, *power, down_us)
                });
            }
            Deed::DiskError(region, call, calls) => {
                push(Fault::DiskError(*region, *call, draw(*calls)));
            }
            Deed::Rot(region, which) => {
                let drawn = || Dice::new(seed, Stream::Ranges, at_us).bits();
                push(Fault::Rot(*region, which.unwrap_or_else(drawn)));
            }
            Deed::Reload(region) => push(Fault::Reload(*region)),
            Deed::Pause(region) => push(Fault::Pause(*region, until_us.unwrap_or(at_us) - at_us)),
            Deed::Backup(region) => push(Fault::Backup(*region)),
            Deed::Restore(region, from_us, down_us) => {
                // A copy that is put back at once is taken before.
                faults.extend(from_us.map(|from_us| (draw(from_us), Fault::Backup(*region))));
                faults.push((at_us, Fault::Restore(*region, draw(*down_us))));
            }
            Deed::Swizzle(among, dice) => {
                let mut dice = Dice::new(seed, Stream::Ranges, dice.entity.wrapping_add(nth));
                let lasts_us = until_us.unwrap_or(at_us) - at_us;
                faults::swizzled(*among, (at_us, lasts_us), &mut dice, faults);
            }
            Deed::Upgrade(regions, down_us, apart_us) => {
                let mut at_us = at_us;
                for (region, nth) in regions.iter().zip(0..) {
                    faults.push((at_us, Fault::Upgrade(*region, down_us.draw_nth(seed, nth))));
                    at_us = at_us.saturating_add(apart_us.draw_nth(seed, nth));
                }
            }
        }
        if let Some(until_us) = until_us
            && let Some(end) = self.deed.end()
        {
            faults.push((until_us, end));
        }
    }
}

/// A pattern from one time on until another, or until all is healed.
fn cut(
    pattern: Pattern,
    turn: Option<u32>,
    (from_us, until_us, end_us): (u64, Option<u64>, u64),
    faults: &mut Vec<(u64, Fault)>,
) {
    match (turn, until_us) {
        (Some(turn), _) => faults.push((from_us, Fault::Cut(pattern, turn))),
        (None, None) if pattern.flap_us == 0 => faults.push((from_us, Fault::Cut(pattern, 0))),
        (None, until_us) => {
            faults::cast(Spell { pattern, from_us, until_us: until_us.unwrap_or(end_us) }, faults);
        }
    }
}

impl Deed {
    /// What ends it, for those that do not end by themselves.
    const fn end(&self) -> Option<Fault> {
        match self {
            Self::Clock(region, _) => Some(Fault::Clock(*region, ClockStep::Calm)),
            Self::SlowDisk(region, _) => Some(Fault::SlowDisk(*region, 1)),
            Self::Full(region, Some(_)) => Some(Fault::Full(*region, None)),
            _ => None,
        }
    }

    /// Whether `for` means something for it.
    pub(super) const fn lasts(&self) -> bool {
        matches!(self, Self::Cut(_, None) | Self::Stall(_) | Self::Pause(_) | Self::Swizzle(..))
            || self.end().is_some()
    }
}
