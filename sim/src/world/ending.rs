//! The second phase: everything is healed, or in some runs a core of the regions while the others stay cut off for ever;
//! nobody asks any more, and the healed must agree within bounded virtual time (INV-2, INV-3, INV-5, INV-17). Then service must have returned everywhere.
//!
//! Must never: give up waiting because of a single look; agreement is looked for until the bound.

use super::site::Site;
use super::{Event, World};
use crate::clock::Step;
use crate::goals::Goal;
use crate::limits;
use crate::oracle::agreement::Final;
use crate::oracle::facts::{Key, View};
use crate::oracle::laws::{self, Sample};
use crate::oracle::violation::{Violation, clause};
use crate::random::{Dice, Stream};
use crate::replica::Real;
use crate::story::What;

/// Entities of [`Stream::Oracle`] from here on are keys, before it regions.
const LAWS: u64 = 1 << 32;

/// How the ending went wrong.
pub enum Trouble {
    /// An invariant was broken.
    Safety(Violation),
    /// No convergence in time.
    Liveness(Violation),
}

impl World {
    /// Heals everything and waits for agreement.
    pub fn end(&mut self) -> Result<(), Trouble> {
        let apart = self.keys_apart();
        self.figures.keys_apart = apart.len();
        self.story.note_all(self.now_us(), What::Healed { apart: apart.into() });
        self.heal();
        let (healed_us, bytes) = (self.now_us(), self.figures.bytes);
        let bound_us = self.now_us() + self.scenario.convergence_us();
        let every_us =
            if self.close { limits::CONVERGENCE_LOOK_CLOSE_US } else { limits::CONVERGENCE_LOOK_US };
        loop {
            let look_us = self.now_us() + every_us;
            self.run_to(look_us).map_err(Trouble::Safety)?;
            let linked = self.all_linked();
            let judged = if linked { self.agree() } else { Ok(()) };
            match judged {
                Ok(()) if linked => break,
                Ok(()) if self.now_us() >= bound_us => return Err(Trouble::Liveness(self.unlinked())),
                // Linked, quiet for long, and still not alike: that is no slowness any more.
                Err(violation) if self.now_us() >= bound_us => return Err(Trouble::Safety(violation)),
                _ => {}
            }
        }
        self.figures.converged_ms = (self.now_us() - healed_us) / 1000;
        self.figures.bytes_healing = self.figures.bytes - bytes;
        self.sample_end();
        self.story.note_all(self.now_us(), What::Agreed);
        self.check_laws().map_err(Trouble::Safety)?;
        self.check_service()
    }

    /// The keys that living regions know differently.
    pub(super) fn keys_apart(&self) -> Vec<Key> {
        (0..self.scenario.keys.len()).filter(|key| self.is_apart(*key)).collect()
    }

    pub(super) fn is_apart(&self, key: Key) -> bool {
        let key = &self.scenario.keys[key];
        let mut views = self.sites.iter().filter_map(|site| Some(site.replica.as_ref()?.view(key)));
        let first = views.next();
        views.any(|view| Some(view) != first)
    }

    /// What each region holds of a key; `None` while it is down.
    pub(crate) fn holdings(&self, key: Key) -> Vec<Option<View>> {
        let key = &self.scenario.keys[key];
        let view = |site: &Site| Some(View::clone(&*site.replica.as_ref()?.view(key)));
        self.sites.iter().map(view).collect()
    }

    /// What a key is by everything that was accepted anywhere and not undone by a crash since.
    pub(crate) fn accepted(&self, key: Key) -> View {
        self.oracle.ledger().model(key, |accepted| !accepted.doubtful).sorted()
    }

    /// Runs until `until_us` although nothing may be scheduled for then.
    fn run_to(&mut self, until_us: u64) -> Result<(), Violation> {
        self.heap.at(until_us, Event::Look);
        self.run_until(until_us)
    }

    fn heal(&mut self) {
        self.storm = false;
        // What is apart is measured from here on.
        self.healing = None;
        let now_us = self.now_us();
        self.trace.event(now_us, "heal", &[]);
        self.network.heal(self.scenario.calm());
        self.sever();
        self.leave_outside();
        for at in self.scenario.healed().regions() {
            let site = &mut self.sites[at];
            site.slow = 1;
            site.stalled_us = 0;
            site.down_until_us = 0;
            (site.fuse, site.retry_fuse) = (None, None);
            site.disk.heal();
            site.clock.drift(0, now_us);
            if !site.clock.is_calm(self.scenario.max_drift_ms) {
                self.step_clock(at, Step::Calm);
            }
            let site = &self.sites[at];
            if site.replica.is_none() {
                self.heap.after(1_000, Event::Restart { site: at, life: site.life });
            }
        }
    }

    /// Whoever is not of the core stays as it is, and nothing passes to or from it.
    fn leave_outside(&mut self) {
        let healed = self.scenario.healed();
        for outside in (0..self.scenario.sites()).filter(|at| !healed.has(*at)) {
            for other in (0..self.scenario.sites()).filter(|other| *other != outside) {
                self.network.cut(outside, other, true);
                self.network.cut(other, outside, true);
                self.story.note(self.now_us(), outside, What::Cut { to: other });
                self.story.note(self.now_us(), other, What::Cut { to: outside });
                if let Some(session) = self.network.session(outside, other) {
                    self.break_session(outside, other, session);
                }
            }
        }
    }

    fn unlinked(&self) -> Violation {
        let story = [
            format!("{} s after the healing", self.scenario.convergence_us() / 1_000_000),
            "some pair of regions is still not linked".to_owned(),
        ];
        self.violation("INV-17", clause::INV_17, &[], story)
    }

    /// Shows the oracle what every region holds.
    fn agree(&mut self) -> Result<(), Violation> {
        let at_us = self.now_us();
        let now = self.sites.iter_mut().map(|site| site.death_ms(at_us)).max().unwrap_or(0);
        let mut finals = Vec::new();
        (self.figures.repaired, self.figures.conflicts) = (0, 0);
        let healed = self.scenario.healed();
        for site in self.sites.iter().filter(|site| healed.has(site.index)) {
            let Some(replica) = &site.replica else { continue };
            let views = self.scenario.keys.iter().map(|key| replica.view(key)).collect();
            let conflicts = replica.conflicts(&self.scenario.keys);
            let digest = replica.digest(now);
            for peer in replica.node().peers(replica.store()) {
                if peer.compared_ms.is_some() {
                    self.goals.reach(Goal::Compared);
                }
                if peer.fed_ms.is_some() && peer.applied > 0 {
                    self.goals.reach(Goal::Fed);
                }
                self.figures.repaired += peer.repaired;
                if peer.repaired > 0 {
                    self.goals.reach(Goal::Repaired);
                }
            }
            self.figures.conflicts = self.figures.conflicts.max(conflicts.len());
            if !conflicts.is_empty() {
                self.goals.reach(Goal::DoubleExecution);
            }
            finals.push(Final { region: site.region(), views, conflicts, digest });
        }
        let digests: Vec<u64> = finals.iter().map(|end| end.digest as u64).collect();
        self.trace.event(at_us, "compare", &digests);
        for at in healed.regions() {
            for key in 0..self.scenario.keys.len() {
                self.look(at, key)?;
            }
        }
        if self.scenario.core.is_some() {
            // What only they hold, nobody can ask of the others.
            let outside = self.sites.iter().filter(|site| !healed.has(site.index));
            outside.for_each(|site| self.oracle.retired(site.region()));
            self.goals.reach(Goal::CoreAgreed);
        }
        self.oracle.ended(&finals, at_us, now)?;
        self.check_consumers(&finals)
    }

    /// INV-1 on entries of one key that arose in this run, in several regions and at several times.
    fn check_laws(&mut self) -> Result<(), Violation> {
        let (at_us, max_drift) = (self.now_us(), self.scenario.max_drift_ms);
        let now = self.sites.iter_mut().map(|site| site.death_ms(at_us)).max().unwrap_or(0);
        for (key, copies) in &self.copies {
            let lattice = Real { max_drift, copies };
            let entries = lattice.entries();
            let mut dice = Dice::new(self.scenario.seed, Stream::Oracle, LAWS | *key as u64);
            for _ in 0..2 {
                let [a, b, c] = [(); 3].map(|()| dice.pick(&entries));
                // Some samples are tried at a time when their parts have died.
                let later = now + dice.below(20_000);
                let sample = Sample { key: *key, at_us, now: later, max_drift };
                laws::check(&lattice, sample, [a, b, c])?;
            }
        }
        Ok(())
    }

    /// No region of the core was whole when the others were lost: an operator has to say that one of them is to begin
    /// alone (S7).
    fn waits_for_the_lost(&self) -> bool {
        let healed = self.scenario.healed();
        let replica = |at: usize| self.sites[at].replica.as_ref();
        self.scenario.core.is_some()
            && healed.regions().all(|at| replica(at).is_some_and(|replica| replica.node().is_incomplete()))
    }

    /// INV-17: "after an overload or a full disk, service returns by itself": every region grants again.
    fn check_service(&mut self) -> Result<(), Trouble> {
        let bound_us = self.now_us() + self.scenario.convergence_us();
        loop {
            let now_us = self.now_us();
            let mut refused = None;
            let healed = self.scenario.healed();
            for site in self.sites.iter_mut().filter(|site| healed.has(site.index)) {
                let wall = site.wall(now_us);
                let Some(replica) = site.replica.as_mut() else { continue };
                let (status, reason) = replica.probe(wall);
                if status != "GRANTED" {
                    refused = Some((site.index, status, reason));
                }
            }
            let Some((at, status, reason)) = refused else { return Ok(()) };
            if self.waits_for_the_lost() {
                return Ok(());
            }
            if now_us >= bound_us {
                let story = [
                    format!("r{} was healed {} s ago", at + 1, self.scenario.convergence_us() / 1_000_000),
                    format!("a CLAIM of a fresh key there is still answered {status} {reason}"),
                ];
                return Err(Trouble::Liveness(self.violation("INV-17", clause::INV_17, &[at], story)));
            }
            self.run_to(now_us + limits::CONVERGENCE_LOOK_US).map_err(Trouble::Safety)?;
        }
    }
}
