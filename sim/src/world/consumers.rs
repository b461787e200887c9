//! Services that undo what ran twice: each follows the feed of its region, and marks losers as dealt with (S4.8).
//!
//! They outlive crashes of their region, and keep their position over them. What is checked: whoever waits is woken by the
//! next loser; what was acknowledged as compensated stays so, in every region; and in the end every loser that nobody has
//! dealt with was told to every consumer that asked for it, at least once.
//!
//! Must never: know more than its region has released.

use std::collections::{BTreeMap, BTreeSet};

use crdt::store::{FeedPosition, Release};

use super::lives::Crash;
use super::{Event, World};
use crate::goals::Goal;
use crate::oracle::agreement::Final;
use crate::oracle::facts::Lsn;
use crate::oracle::violation::{Violation, clause};
use crate::random::{Dice, Stream};
use crate::replica::losers::{Look, Loser};
use crate::scenario::Scenario;

/// Tickets from here on are consumers'.
pub(super) const FEED_TICKETS: u64 = 1 << 62;
/// A consumer comes back after about this, microseconds.
const TURN_US: u64 = 120_000;
/// It looks again for what its region has decided and not released, microseconds.
const RELEASE_US: u64 = 4_000;

/// Something that a consumer has asked for and not been answered yet.
enum Pending {
    Page(Vec<Loser>, FeedPosition, Release),
    Mark(Loser, bool, Release),
}

/// One service beside a region.
pub(super) struct Consumer {
    dice: Dice,
    /// It wants only what completed in its own region.
    own: bool,
    position: Option<FeedPosition>,
    told: BTreeSet<Loser>,
    todo: Vec<Loser>,
    pending: Option<Pending>,
    parked: bool,
    life: u64,
    /// Only the last turn scheduled is taken.
    turn: u64,
}

/// What consumers have done, and what of it is sure to last.
pub(super) struct Consumers {
    of: BTreeMap<usize, Consumer>,
    /// Acknowledged by this region with this record, and not undone by a crash since.
    marks: BTreeMap<Loser, (usize, Lsn)>,
}

impl Consumers {
    /// Half of the runs have some.
    pub(super) fn of(scenario: &Scenario) -> Self {
        let mut draws = Dice::new(scenario.seed, Stream::Consumers, u64::MAX);
        let any = draws.chance(500);
        let sites = (0..scenario.sites()).filter(|_| any && draws.chance(700)).collect::<Vec<_>>();
        let consumer = |at: usize| {
            let mut dice = Dice::new(scenario.seed, Stream::Consumers, at as u64);
            let own = dice.chance(300);
            let (position, pending, told, todo) = Default::default();
            Consumer { dice, own, position, told, todo, pending, parked: false, life: 0, turn: 0 }
        };
        Self { of: sites.into_iter().map(|at| (at, consumer(at))).collect(), marks: BTreeMap::new() }
    }

    /// What a crash took of what a region had acknowledged.
    pub(super) fn crashed(&mut self, at: usize, crash: Crash) {
        self.marks.retain(|_, (by, lsn)| *by != at || crash.keeps(*lsn));
    }
}

impl World {
    pub(super) fn schedule_consumers(&mut self) {
        for (at, consumer) in &mut self.consumers.of {
            self.heap.after(consumer.dice.heavy(TURN_US), Event::Consume { site: *at, turn: 0 });
        }
    }

    /// A loser has arrived for whoever waits.
    pub(super) fn wake_consumer(&mut self, at: usize) {
        let Some(consumer) = self.consumers.of.get_mut(&at) else { return };
        consumer.parked = false;
        consumer.turn += 1;
        self.heap.after(10, Event::Consume { site: at, turn: consumer.turn });
        self.goals.reach(Goal::ConsumerWoken);
    }

    /// A consumer's turn.
    pub(super) fn consume(&mut self, at: usize, turn: u64) -> Result<(), Violation> {
        let (storm, now_us) = (self.storm, self.now_us());
        let site = &self.sites[at];
        let start =
            u64::from(site.replica.as_ref().map_or(0, |r| r.incarnation())) << 32 | u64::from(site.epoch);
        let Some(consumer) = self.consumers.of.get_mut(&at).filter(|consumer| consumer.turn == turn) else {
            return Ok(());
        };
        consumer.turn += 1;
        if std::mem::replace(&mut consumer.life, site.life) != site.life {
            // What its region had not answered it will never hear.
            (consumer.pending, consumer.parked) = (None, false);
        }
        let mut again_us = consumer.dice.heavy(TURN_US).max(1);
        // A process that stands still answers nobody.
        if let Some(replica) = site.replica.as_ref().filter(|_| site.paused_until_us <= now_us) {
            let (tail, ticket) = (replica.store().tail(), FEED_TICKETS + at as u64);
            let after = (consumer.position, consumer.own);
            if let Some(pending) = consumer.pending.take() {
                if !tail.may_release(pending.release()) {
                    consumer.pending = Some(pending);
                    again_us = RELEASE_US;
                } else if let Some((loser, lsn)) = consumer.hear(pending) {
                    self.consumers.marks.entry(loser).or_insert((at, lsn));
                    self.goals.reach(Goal::Compensated);
                }
            } else if storm && !consumer.todo.is_empty() && consumer.dice.chance(500) {
                let loser =
                    consumer.todo.swap_remove(consumer.dice.below(consumer.todo.len() as u64) as usize);
                let (done, release) = replica.compensate(&self.scenario.keys[loser.0], loser);
                consumer.pending = Some(Pending::Mark(loser, done, release));
                self.trace.event(
                    now_us,
                    "compensate",
                    &[at as u64, loser.0 as u64, loser.1.stamp, u64::from(done)],
                );
                again_us = RELEASE_US;
            } else {
                let slept = std::mem::take(&mut consumer.parked);
                replica.unpark_feed(ticket);
                match replica.feed(start, after, Some(ticket), &self.scenario.keys) {
                    Look::Told(losers, ..) if slept && !losers.is_empty() => {
                        let story = [
                            format!("a consumer waited in r{} for the next loser", at + 1),
                            format!("nobody woke it, and there is {} of key {}", losers[0].1, losers[0].0),
                        ];
                        return Err(self.violation("S4.8", clause::S4_8, &[at], story));
                    }
                    Look::Told(losers, position, release) => {
                        self.trace.event(now_us, "feed", &[at as u64, losers.len() as u64, position.number]);
                        consumer.pending = Some(Pending::Page(losers, position, release));
                        again_us = RELEASE_US;
                    }
                    Look::Parked => consumer.parked = true,
                }
            }
        }
        if matches!(consumer.pending, Some(Pending::Mark(_, true, _))) {
            // An old part changes, which a comparison may meet on its way.
            self.sites[at].watch.touched_us = Some(now_us);
        }
        let turn = consumer.turn;
        self.heap.after(again_us, Event::Consume { site: at, turn });
        self.pump(at)
    }

    /// After agreement: what is acknowledged lasts, and everybody was told.
    pub(super) fn check_consumers(&mut self, finals: &[Final]) -> Result<(), Violation> {
        let healed = self.scenario.healed();
        for (loser, (by, _)) in &self.consumers.marks {
            let is = |end: &&Final| {
                end.conflicts.iter().any(|c| (c.key, c.loser, c.region) == *loser && !c.compensated)
            };
            // A region that was retired while it was down may have told nobody.
            let lasts = healed.has(*by) && self.sites[*by].replica.is_some();
            let Some(end) = finals.iter().find(is).filter(|_| lasts) else { continue };
            let story = [
                format!("r{} acknowledged that {} of key {} is compensated", by + 1, loser.1, loser.0),
                format!("r{} lists it as not compensated", end.region),
            ];
            return Err(self.violation("S4.8", clause::S4_8, &[*by], story));
        }
        let untold = self.consumers.of.iter_mut().find_map(|(at, consumer)| {
            let site = &self.sites[*at];
            let replica = site.replica.as_ref().filter(|_| healed.has(*at))?;
            let start = u64::from(replica.incarnation()) << 32 | u64::from(site.epoch);
            consumer.read_to_the_end(|after| replica.feed(start, after, None, &self.scenario.keys));
            let lines =
                finals.iter().filter(|end| end.region == site.region()).flat_map(|end| &end.conflicts);
            let wanted = |region| !consumer.own || region == site.region();
            let mut open = lines.filter(|c| !c.compensated && wanted(c.region));
            open.find(|c| !consumer.told.contains(&(c.key, c.loser, c.region))).map(|line| (*at, line))
        });
        let Some((at, line)) = untold else { return Ok(()) };
        let story = [
            format!("r{} lists {} of key {} as not compensated", at + 1, line.loser, line.key),
            "its consumer, which has read the feed to the end, was never told of it".to_owned(),
        ];
        Err(self.violation("S4.8", clause::S4_8, &[at], story))
    }
}

impl Consumer {
    /// Everything that is left to be told, however it was interrupted.
    fn read_to_the_end(&mut self, feed: impl Fn((Option<FeedPosition>, bool)) -> Look) {
        let mut position = self.position;
        while let Look::Told(losers, told_to, _) = feed((position, self.own)) {
            if losers.is_empty() && position == Some(told_to) {
                return;
            }
            position = Some(told_to);
            self.told.extend(losers);
        }
    }

    /// Its region has answered; a loser that is acknowledged as dealt with, and the record that says so.
    fn hear(&mut self, pending: Pending) -> Option<(Loser, Lsn)> {
        match pending {
            Pending::Page(losers, position, _) => {
                self.position = Some(position);
                self.todo.extend(losers.iter().filter(|loser| !self.told.contains(*loser)));
                self.told.extend(losers);
                None
            }
            Pending::Mark(loser, done, release) => done.then_some((loser, release.written)),
        }
    }
}

impl Pending {
    const fn release(&self) -> &Release {
        match self {
            Self::Page(_, _, release) | Self::Mark(_, _, release) => release,
        }
    }
}
