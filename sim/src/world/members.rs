//! Membership as operators change it (S5): configurations reloaded one region after the other, regions that are stopped
//! for good, and regions that start in a cluster that runs.
//!
//! A reload that the node refuses because it would leave a linked peer behind is tried again, as an operator does who has
//! read the message. Whatever else it refuses is a violation: the plan has lawful steps only.
//!
//! Must never: give a running region another membership than by the product's own step.

use crdt::node::{LinkState, MembershipError};

use super::lives::Death;
use super::{Event, World};
use crate::goals::Goal;
use crate::limits;
use crate::oracle::violation::{Violation, clause};
use crate::replica::region_index;
use crate::story::What;

impl World {
    /// The operator of a region has another configuration for it.
    pub(super) fn reload(&mut self, at: usize) -> Result<(), Violation> {
        self.sites[at].wanted += 1;
        self.trace.event(self.now_us(), "reload", &[at as u64, self.sites[at].wanted as u64]);
        self.take_up(at)
    }

    /// Takes up, step by step, what its configuration says by now.
    pub(super) fn take_up(&mut self, at: usize) -> Result<(), Violation> {
        while self.sites[at].step < self.sites[at].wanted {
            let next = self.sites[at].step + 1;
            let (was, is) = (self.is_member(at), self.scenario.members(next).has(at));
            if was && is && self.sites[at].replica.is_some() {
                if !self.step_running(at, next)? {
                    self.heap.after(limits::RELOAD_AGAIN_US, Event::Reload { site: at });
                    return Ok(());
                }
            } else {
                // What is down finds it when it starts.
                self.sites[at].step = next;
            }
            match (was, is) {
                (true, false) => self.retire(at),
                (false, true) => self.join(at, next),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the region belongs to the cluster by its own configuration.
    pub(super) fn is_member(&self, at: usize) -> bool {
        self.scenario.members(self.sites[at].step).has(at)
    }

    /// Has a running region take the next step; `false`: not yet.
    fn step_running(&mut self, at: usize, next: usize) -> Result<bool, Violation> {
        let now_us = self.now_us();
        let members = self.scenario.members(next);
        let site = &mut self.sites[at];
        let wall = site.wall(now_us);
        // Whoever has made it whole may be no peer any more in a moment.
        site.note_lack();
        let Some(replica) = site.replica.as_mut() else { return Ok(false) };
        let retired = match replica.set_membership(next, members, wall) {
            Ok(change) => change.retired,
            Err(error @ MembershipError::LeavesBehind { .. }) => {
                self.trace.remark(|| error.to_string());
                self.goals.reach(Goal::ReloadRefused);
                return Ok(false);
            }
            Err(error) => {
                let story = [format!("r{} was told to take one lawful step", at + 1), error.to_string()];
                return Err(self.violation("S5", clause::S5, &[at], story));
            }
        };
        site.step = next;
        self.trace.event(now_us, "member", &[at as u64, next as u64]);
        self.story.note(now_us, at, What::Member { step: next });
        for region in retired {
            let peer = region_index(region);
            self.sites[at].links[peer] = 0;
            if let Some(session) = self.network.session(at, peer) {
                self.break_session(at, peer, session);
            }
        }
        self.pump(at)?;
        Ok(true)
    }

    /// A region is stopped for good, or until it is added again.
    fn retire(&mut self, at: usize) {
        if self.sites[at].replica.is_some() {
            self.goals.reach(Goal::Retired);
        }
        self.crash(at, 0, Death::Process);
        self.trace.event(self.now_us(), "retire", &[at as u64]);
        self.story.note(self.now_us(), at, What::Retired);
        let region = self.sites[at].region();
        self.oracle.retired(region);
    }

    /// A region starts that did not belong before.
    fn join(&mut self, at: usize, step: usize) {
        self.trace.event(self.now_us(), "join", &[at as u64]);
        self.story.note(self.now_us(), at, What::Joined);
        let born = self.sites[at].born;
        if born && self.scenario.steps[step - 1].fresh {
            self.crash(at, limits::REBIRTH_US, Death::Disk);
            return;
        }
        self.goals.reach(if born { Goal::AddedAgain } else { Goal::Added });
        let life = self.sites[at].life;
        self.heap.after(1_000, Event::Restart { site: at, life });
    }

    /// S5: "adjacent epochs link", and nothing else does.
    pub(super) fn check_memberships(&mut self, at: usize) -> Result<(), Violation> {
        if self.scenario.steps.is_empty() {
            return Ok(());
        }
        let linked = self.sites[at].replica.as_ref().map_or_else(Vec::new, |replica| {
            let views = replica.node().peers(replica.store());
            let linked = views.into_iter().filter(|view| view.state == LinkState::Linked);
            linked.map(|view| region_index(view.region)).collect()
        });
        for peer in linked {
            let (ours, theirs) = (self.sites[at].step, self.sites[peer].step);
            if !self.are_linked(at, peer) || ours == theirs {
                continue;
            }
            if ours.abs_diff(theirs) > 1 {
                let story = [
                    format!("r{} has taken up {ours} changes of membership, r{} {theirs}", at + 1, peer + 1),
                    "and they hold a link".to_owned(),
                ];
                return Err(self.violation("S5", clause::S5, &[at, peer], story));
            }
            self.goals.reach(Goal::AdjacentLinked);
        }
        Ok(())
    }

    /// Whether both ends of the session that is up hold it for a link.
    pub(super) fn are_linked(&self, a: usize, b: usize) -> bool {
        let Some(session) = self.network.session(a, b) else { return false };
        let holds = |at: usize, peer: usize| {
            let site = &self.sites[at];
            site.links[peer] == session
                && site.replica.as_ref().is_some_and(|r| r.link_state(peer) == Some(LinkState::Linked))
        };
        holds(a, b) && holds(b, a)
    }
}
