//! Requests at `home` (S5): out of their own region, through the home's, and back.
//!
//! A home's decision on a peer's request is judged as any other; that it was for a peer shows in when the answer may leave.
//!
//! Must never: tell a service anything that its own region did not decide to tell.

use crdt::decide::Verdict;
use crdt::policy::Level;
use crdt::request::Reason;
use crdt::store::Look;

use super::World;
use crate::goals::Goal;
use crate::oracle::ask::{Answer, Ask, ByHome, Decision};
use crate::oracle::facts::View;
use crate::oracle::violation::{Violation, clause};
use crate::replica::homes::AskedHere;
use crate::replica::{Replica, forge};
use crate::worker::Sent;

use super::clients::is_forged;

/// A request that waits for the home of its key.
pub(super) struct Forwarding {
    pub(super) job: usize,
    pub(super) sent: Sent,
    /// When its wait ends, if it may wait for its key.
    pub(super) until_us: Option<u64>,
}

/// Whether that is a home's decision, and not that it could make none. An outcome is never left undecided.
const fn has_decided(verdict: Verdict, ask: &Ask) -> bool {
    match verdict {
        Verdict::Refused(reason) => {
            let none =
                matches!(reason, Reason::Level | Reason::Draining | Reason::CatchingUp | Reason::OldCopy);
            !none && !matches!(ask, Ask::Complete { .. })
        }
        _ => true,
    }
}

/// No service's request.
const NOBODY: u64 = 0;

impl World {
    /// A request is on its way to its home.
    pub(super) fn forward(&mut self, at: usize, home: usize, request: u64, forwarding: Forwarding) {
        let now_us = self.now_us();
        let site = &mut self.sites[at];
        let wall = site.wall(now_us);
        let Some(replica) = site.replica.as_mut() else { return };
        let sent = &forwarding.sent;
        let key = &self.scenario.keys[sent.key];
        let token = sent.token.map(|number| {
            if is_forged(&sent.ask) { forge(&self.tokens[number]) } else { self.tokens[number] }
        });
        replica.ask_home(request, home, (key, &sent.ask, token.as_ref(), sent.durable), wall);
        site.forwarding.insert(request, forwarding);
    }

    /// Peers' requests are decided, and what homes said of ours is looked at.
    pub(super) fn homes(&mut self, at: usize) -> Result<(), Violation> {
        while let Some(asked) = self.sites[at].replica.as_mut().and_then(Replica::poll_asked) {
            self.decide_asked(at, &asked)?;
        }
        while let Some(answered) = self.sites[at].replica.as_mut().and_then(Replica::poll_forwarded) {
            let Some(Forwarding { job, sent, until_us }) = self.sites[at].forwarding.remove(&answered.ticket)
            else {
                continue;
            };
            self.look_at(job, answered.ticket, &sent, (until_us, Look::Answered(answered.verdict)))?;
        }
        Ok(())
    }

    fn decide_asked(&mut self, at: usize, asked: &crdt::node::Asked) -> Result<(), Violation> {
        let at_us = self.now_us();
        let apart = self.clocks_apart(at_us);
        let request = asked.request();
        let Some(key) = self.scenario.keys.iter().position(|key| key.as_bytes() == request.key()) else {
            return Ok(());
        };
        let site = &mut self.sites[at];
        let (region, wall, dead_by) = (site.region(), site.wall(at_us), site.death_ms(at_us));
        let trusted = site.trusts_clock(at_us);
        let Some(replica) = site.replica.as_mut() else { return Ok(()) };
        let name = &self.scenario.keys[key];
        let (before, lsn_before, now) = (replica.view(name), replica.appended(), replica.now(wall));
        let AskedHere { ask, answer, durable, .. } = replica.run_asked(asked, wall);
        if asked.withdraws() && answer != Answer::Released {
            return Ok(());
        }
        let (incarnation, after, lsn_after) = (replica.incarnation(), replica.view(name), replica.appended());
        let by_home = self.by_home(at, key, &ask, Look::Asked);
        let policy = &self.scenario.namespaces[self.scenario.namespace_of[key]];
        let decision = Decision {
            region,
            incarnation,
            key,
            at_us,
            now,
            dead_by,
            trusted,
            ask,
            answer,
            before,
            after,
            lsn_before,
            lsn_after,
            durable: durable || policy.durable,
            quorum: false,
            apart,
            by_home,
        };
        let words = decision.answer.status();
        self.trace.event(at_us, words, &[at as u64, NOBODY, key as u64, now, decision.lsn_after]);
        self.trace.remark(|| decision.words());
        self.story.decided(&decision, NOBODY as usize, NOBODY);
        // The peer is told by a frame, which is held against the log when it leaves.
        let _ = self.oracle.decided(&decision)?;
        self.check_bounds(at, &decision)?;
        self.check_ready(at, &decision)?;
        self.check_home(at, &decision)?;
        self.note_touched(at, &decision);
        self.note_goals(&decision);
        match (&decision.ask, &decision.answer) {
            (Ask::Release { .. }, Answer::Released) if asked.withdraws() => {
                self.goals.reach(Goal::LateGrantReleased);
            }
            (Ask::Renew { .. }, Answer::Renewed { .. }) => self.goals.reach(Goal::HomeRenewed),
            _ => {}
        }
        Ok(())
    }

    /// How a decision of a region stands to the home of its key; what a holder renews or gives back is its claim's region's
    /// to decide.
    pub(super) fn by_home(&self, at: usize, key: usize, ask: &Ask, look: Look) -> ByHome {
        let policy = &self.scenario.namespaces[self.scenario.namespace_of[key]];
        let decides = policy.level == Level::Home && !matches!(ask, Ask::Forget | Ask::Resolve { .. });
        let Some(replica) = self.sites[at].replica.as_ref().filter(|_| decides) else {
            return ByHome::Not;
        };
        if let Look::Answered(Some(verdict)) = look
            && has_decided(verdict, ask)
        {
            return ByHome::Relayed;
        }
        // Whoever is about to leave by the newest configuration is no home by that of others.
        let newest = self.sites.iter().map(|site| site.step.max(site.wanted)).max().unwrap_or_default();
        if !self.scenario.members(newest).has(at) || policy.falls_back {
            return ByHome::FallsBack;
        }
        let own = Some(self.sites[at].region());
        let claimed_here = match ask {
            Ask::Renew { token, .. } | Ask::Release { token } => own == Some(token.claim.region),
            Ask::Claim { .. } | Ask::Complete { .. } | Ask::Get | Ask::Forget | Ask::Resolve { .. } => false,
        };
        let here = claimed_here || replica.home_of(&self.scenario.keys[key]) == at;
        if here { ByHome::Here } else { ByHome::Elsewhere }
    }

    /// INV-8, of what a home tells a peer.
    pub(super) fn check_home_word(
        &mut self,
        (at, peer): (usize, usize),
        name: &[u8],
        told: &View,
    ) -> Result<(), Violation> {
        let Some(key) = self.scenario.keys.iter().position(|key| key.as_bytes() == name) else {
            return Ok(());
        };
        self.look(at, key)?;
        let durable = self.scenario.namespaces[self.scenario.namespace_of[key]].durable;
        let site = &self.sites[at];
        let needs = self.oracle.needs(site.region(), key, told);
        let has = if durable { site.synced } else { site.written };
        if needs <= has {
            return Ok(());
        }
        let degree = if durable { "the disk" } else { "the kernel" };
        let story = [
            format!("r{} told r{} what it decided", at + 1, peer + 1),
            format!("that stands in its log up to {needs}, which {degree} has up to {has}"),
        ];
        Err(Violation { key: Some(key), ..self.violation("INV-8", clause::INV_8, &[at], story) })
    }

    /// S5: a region that was added decides no key before everybody else has made that step: until then another one holds
    /// itself for the home.
    pub(super) fn check_home(&self, at: usize, decision: &Decision) -> Result<(), Violation> {
        let decides = matches!(decision.ask, Ask::Claim { .. } | Ask::Complete { .. })
            && matches!(decision.answer, Answer::Granted { .. } | Answer::Completed | Answer::Contested);
        let step = self.sites[at].step;
        let is_new = step > 0 && !self.scenario.members(step - 1).has(at);
        if decision.by_home != ByHome::Here || !decides || !is_new {
            return Ok(());
        }
        let members = self.scenario.members(step);
        let Some(behind) = members.regions().find(|other| self.sites[*other].step < step) else {
            return Ok(());
        };
        let why = format!("but it was added by step {step}, which r{} has not made yet", behind + 1);
        Err(decision.violation("S5", clause::S5_HOME, [decision.words(), why]))
    }

    pub(super) fn note_home_goals(&mut self, decision: &Decision, look: Look) {
        let Look::Answered(verdict) = look else { return };
        let policy = &self.scenario.namespaces[self.scenario.namespace_of[decision.key]];
        let said = decision.by_home == ByHome::Relayed;
        let goal = match (&decision.ask, &decision.answer) {
            (Ask::Claim { .. }, Answer::Granted { .. }) if said => Goal::HomeGranted,
            (Ask::Claim { .. }, Answer::Granted { .. }) if policy.falls_back => Goal::FellBack,
            (Ask::Claim { .. }, Answer::Unavailable { .. }) if verdict.is_none() => Goal::HomeRefused,
            (Ask::Complete { .. }, Answer::Completed | Answer::Contested) if said => Goal::HomeCompleted,
            (Ask::Complete { .. }, Answer::Unavailable { .. }) if !said => Goal::HomeRecordedHere,
            _ => return,
        };
        self.goals.reach(goal);
    }
}
