//! What no single decision shows: promises about a region over time, watched from outside.
//!
//! S2: foreign stamps move no clock too far. S3, INV-14: what is dead leaves memory with the next sweep. S3, INV-5: a
//! listed loser outlives its key. S4.1: whoever waits is woken. S6, S7: a start grants nothing before it has heard the
//! others. S7: a healthy cluster repairs nothing.
//!
//! Each check is looser than the product: what it cannot know for sure it lets pass. It must hold for every lawful
//! implementation, not for this one.
//!
//! Must never: change a run; draw dice.

use std::collections::BTreeSet;

use super::World;
use super::site::Site;
use crate::goals::Goal;
use crate::limits;
use crate::oracle::agreement::ConflictFact;
use crate::oracle::ask::{Answer, Decision};
use crate::oracle::facts::{ClaimName, Key, Millis, Part, Phase, Region, View, stamp_ms};
use crate::oracle::violation::{Violation, clause};
use crate::oracle::winner::{Verdict, all_past, winner};
use crate::random::HEAVY_TIMES_MAX;

/// What may be compared is older than this at least, milliseconds: clocks differ.
const OLD_MS: Millis = 4_000;

/// What has been seen of one life of a region.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When it began; none once its wall clock was set: then nobody knows how long it thinks that it lives.
    pub(super) started_us: Option<u64>,
    /// Changes of membership at its start.
    step: usize,
    /// Its data began empty, or as an old copy, and nobody can have made it whole since.
    lacks: bool,
    /// This life began so.
    blank: bool,
    /// Records that comparisons had brought it by its last tick.
    repaired: u64,
    /// When it last changed a part that is old enough to be compared, virtual microseconds.
    pub(super) touched_us: Option<u64>,
    /// Losers that it has listed.
    listed: BTreeSet<(Key, ClaimName, Region)>,
    /// Of these, those that it has shown as dealt with.
    compensated: BTreeSet<(Key, ClaimName, Region)>,
}

impl Watch {
    /// A life begins; `empty`: without any data, or with an old copy.
    pub(super) fn begin(&mut self, now_us: u64, step: usize, empty: bool) {
        self.lacks |= empty;
        self.blank = empty;
        (self.started_us, self.step) = (Some(now_us), step);
        (self.repaired, self.touched_us) = (0, None);
        self.listed.clear();
        self.compensated.clear();
    }
}

impl Site {
    /// It may have been made whole: by its own word, and only if it has heard a peer or has none.
    pub(super) fn note_lack(&mut self) {
        // Once whole, always whole in this life.
        let Some(replica) = self.replica.as_ref().filter(|_| self.watch.lacks) else { return };
        let (node, unheard) = (replica.node(), replica.unheard().len());
        let alone = unheard > 0 && unheard == node.peers(replica.store()).len();
        self.watch.lacks &= node.is_incomplete() || alone;
    }
}

impl World {
    /// After a region's tick, which has swept all that is dead.
    pub(super) fn watch_tick(&mut self, at: usize, key: usize, view: &View) -> Result<(), Violation> {
        self.sites[at].note_lack();
        self.check_swept(at, key, view)?;
        self.check_listed(at)?;
        self.check_repairs(at)
    }

    /// S3 Expiry, INV-14: the dead are gone, or memory would fill with them.
    fn check_swept(&self, at: usize, key: usize, view: &View) -> Result<(), Violation> {
        let (site, max_drift) = (&self.sites[at], self.scenario.max_drift_ms);
        let wall = site.wall(self.now_us());
        if site.replica.as_ref().is_none_or(|replica| replica.distrusts_clock(wall)) {
            return Ok(());
        }
        if view.expiries().next().is_none() || !all_past(view, wall, max_drift) {
            return Ok(());
        }
        let story = [
            format!("every part of the key in r{} was past its expiry at now={wall}", at + 1),
            "the sweep has passed and they are still there".to_owned(),
        ];
        let violation = self.violation("INV-14", clause::INV_14, &[at], story);
        Err(Violation { key: Some(key), ..violation })
    }

    /// S3 Conflict: "lives for `conflict_retention` (default 7 d) after the loser's completion. It outlives the key."
    fn check_listed(&mut self, at: usize) -> Result<(), Violation> {
        let site = &self.sites[at];
        let Some(replica) = &site.replica else { return Ok(()) };
        let lines = replica.conflicts(&self.scenario.keys);
        let lists: BTreeSet<_> = lines.iter().map(|line| (line.key, line.loser, line.region)).collect();
        // A majority holds it by now: it is what duplicates are answered, and the other is the loser (S3.2).
        let overtaken = |(key, loser, region): &(Key, ClaimName, Region)| {
            self.oracle.ledger().of_key(*key).any(|accepted| {
                matches!(&accepted.part, Part::Outcome(o) if o.majority && o.claim == *loser && o.region == *region)
            })
        };
        let gone: Vec<_> = site.watch.listed.difference(&lists).copied().collect();
        let (overtaken, lost): (Vec<_>, Vec<_>) = gone.into_iter().partition(overtaken);
        if !overtaken.is_empty() {
            self.goals.reach(Goal::Overtaken);
        }
        if let Some((key, loser, region)) = lost.first() {
            let story = [
                format!("CONFLICTS of r{} listed {loser}, completed in r{region}", at + 1),
                "it lists it no more".to_owned(),
            ];
            let violation = self.violation("INV-5", clause::INV_5, &[at], story);
            return Err(Violation { key: Some(*key), ..violation });
        }
        let dealt: BTreeSet<_> = lines.iter().filter(|line| line.compensated).collect();
        let undone = |line: &&ConflictFact| {
            !line.compensated && site.watch.compensated.contains(&(line.key, line.loser, line.region))
        };
        if let Some(line) = lines.iter().find(undone) {
            let story = [
                format!("CONFLICTS of r{} showed {} as compensated", at + 1, line.loser),
                "it shows it as not compensated".to_owned(),
            ];
            let violation = self.violation("S4.8", clause::S4_8, &[at], story);
            return Err(Violation { key: Some(line.key), ..violation });
        }
        let compensated = dealt.into_iter().map(|line| (line.key, line.loser, line.region)).collect();
        let watch = &mut self.sites[at].watch;
        (watch.listed, watch.compensated) = (lists, compensated);
        Ok(())
    }

    /// S2, for a frame that has just been taken in.
    pub(super) fn check_clock(
        &self,
        (from, to): (usize, usize),
        (stood_ms, stands_ms): (Millis, Millis),
        wall: Millis,
    ) -> Result<(), Violation> {
        if stands_ms <= stood_ms || stands_ms <= wall + self.scenario.max_drift_ms {
            return Ok(());
        }
        let story = [
            format!("the wall clock of r{} showed {wall} when a frame of r{} came", to + 1, from + 1),
            format!("it moved the region's clock from {stood_ms} to {stands_ms}"),
        ];
        Err(self.violation("S2", clause::S2, &[from, to], story))
    }

    /// S4.1, for a duplicate that nobody has woken until its wait was over: all that ends a wait is written, so it
    /// wakes. (A lease that runs out wakes nobody.)
    pub(super) fn check_wait(&self, at: usize, key: usize) -> Result<(), Violation> {
        let Some(replica) = &self.sites[at].replica else { return Ok(()) };
        let view = replica.view(&self.scenario.keys[key]);
        let verdict = winner(&view);
        // What asks for a majority stands in the way as well (S5).
        let asked = view.attempts.iter().any(|attempt| attempt.phase == Phase::Asked);
        if matches!(verdict, Verdict::Held(_)) || asked {
            return Ok(());
        }
        let story = [
            format!("a duplicate waited in r{} for a key that was held", at + 1),
            format!("it slept until its wait was over, and the key is {verdict}"),
        ];
        let violation = self.violation("S4.1", clause::S4_1, &[at], story);
        Err(Violation { key: Some(key), ..violation })
    }

    /// S5: whoever counts in a majority holds what it says durably, and knows what was decided before.
    pub(super) fn check_voice(
        &mut self,
        (at, peer): (usize, usize),
        name: &[u8],
        told: &View,
        step: usize,
    ) -> Result<(), Violation> {
        let Some(key) = self.scenario.keys.iter().position(|key| key.as_bytes() == name) else {
            return Ok(());
        };
        self.look(at, key)?;
        let site = &self.sites[at];
        let needs = self.oracle.needs(site.region(), key, told);
        let Some(replica) = &site.replica else { return Ok(()) };
        let regions = self.scenario.members(site.step);
        let majority = regions.regions().count() / 2 + 1;
        let peers = replica.node().peers(replica.store()).len();
        let heard = peers - replica.unheard().len();
        let stepped = regions.regions().filter(|other| self.sites[*other].step >= site.step).count();
        let (invariant, text, why) = if needs > site.synced {
            let why =
                format!("that stands in its log up to {needs}, which the disk has up to {}", site.synced);
            ("INV-8", clause::INV_8, why)
        } else if site.watch.blank && site.watch.step == site.step && heard < majority.min(peers) {
            let why = format!("its data began empty and it has heard {heard} of the others in this life");
            ("S5", clause::S5_VOICE, why)
        } else if step > 0 && step == site.step && stepped < majority {
            let why =
                format!("of {} regions {stepped} have made step {}", regions.regions().count(), site.step);
            ("S5", clause::S5_VOICE, why)
        } else {
            return Ok(());
        };
        let story = [format!("r{} told r{} that it holds what is proposed", at + 1, peer + 1), why];
        Err(Violation { key: Some(key), ..self.violation(invariant, text, &[at], story) })
    }

    /// S6, S7: who may not grant yet.
    pub(super) fn check_ready(&self, at: usize, decision: &Decision) -> Result<(), Violation> {
        let site = &self.sites[at];
        let Some(replica) = &site.replica else { return Ok(()) };
        let anew = |claim: &ClaimName| decision.before.claims().all(|known| known != *claim);
        if !matches!(&decision.answer, Answer::Granted { claim, .. } if anew(claim)) {
            return Ok(());
        }
        let young = |from_us| self.now_us() < from_us + limits::REACH_WAIT_US - 2_000;
        let young = site.watch.started_us.is_some_and(young) && site.watch.step == site.step;
        if !young && !site.watch.lacks {
            return Ok(());
        }
        let unheard = replica.unheard();
        let peers = replica.node().peers(replica.store()).len();
        let (invariant, text, why) = if site.watch.lacks && peers > 0 && unheard.len() == peers {
            (
                "S6",
                clause::S6_LACK,
                "its data lacks what it should hold, and it has heard nobody in this life".to_owned(),
            )
        } else if young && let Some(peer) = unheard.first() {
            ("S7", clause::S7_READY, format!("it has only just started and not heard r{} yet", peer + 1))
        } else {
            return Ok(());
        };
        Err(decision.violation(invariant, text, [decision.words(), format!("but {why}")]))
    }

    /// Whether nothing goes wrong in this run, and comparisons leave to the logs whatever may be on its way.
    fn is_healthy(&self) -> bool {
        let scenario = &self.scenario;
        let weather = scenario.weather;
        let calm = weather.loss + weather.duplicate + weather.reorder + weather.replay == 0
            && weather.rate.is_none();
        let near = scenario.links.is_empty() && scenario.distances_us.is_none();
        let whole = scenario.steps.is_empty() && scenario.severed.is_none() && scenario.core.is_none();
        self.nothing_breaks && calm && near && whole && scenario.unhurried
    }

    /// The longest that a write may take from its decision to the last peer, and a little more, microseconds.
    fn slowest_us(&self) -> u64 {
        let (write_us, sync_us) = self.scenario.disk_us;
        2 * HEAVY_TIMES_MAX * (self.scenario.weather.delay_us + write_us + sync_us) + 200_000
    }

    /// Notes a decision that changed a part which others may compare already: to them it is a difference until it
    /// has reached them, however old the part is.
    pub(super) fn note_touched(&mut self, at: usize, decision: &Decision) {
        if !self.is_healthy() {
            return;
        }
        let old = |part: &Part| {
            let stamp = match part {
                Part::Attempt(attempt) => attempt.claim.stamp,
                Part::Outcome(outcome) => outcome.stamp,
                Part::Forgotten(_) => return false,
            };
            stamp_ms(stamp) + OLD_MS < decision.now
        };
        let after: Vec<Part> = decision.after.parts().collect();
        if decision.before.parts().any(|part| old(&part) && !after.contains(&part)) {
            self.sites[at].watch.touched_us = Some(self.now_us());
        }
    }

    /// S7, of a run in which nothing goes wrong.
    fn check_repairs(&mut self, at: usize) -> Result<(), Violation> {
        if !self.is_healthy() {
            return Ok(());
        }
        let Some(replica) = &self.sites[at].replica else { return Ok(()) };
        let repaired = replica.node().peers(replica.store()).iter().map(|peer| peer.repaired).sum();
        let before = std::mem::replace(&mut self.sites[at].watch.repaired, repaired);
        let (now_us, slowest_us) = (self.now_us(), self.slowest_us());
        let touched = self.sites.iter().filter_map(|site| site.watch.touched_us);
        if repaired <= before || touched.max().is_some_and(|touched_us| now_us < touched_us + slowest_us) {
            return Ok(());
        }
        let story = [
            "nothing has gone wrong in this run".to_owned(),
            format!("and comparisons have brought r{} {} records", at + 1, repaired - before),
        ];
        Err(self.violation("S7", clause::S7_REPAIRS, &[at], story))
    }
}
