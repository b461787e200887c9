//! Requests on their way in, and answers on their way out.
//!
//! Must never: tell a service anything before the region released it.

use crdt::decide::Proposal;
use crdt::policy::Level;
use crdt::store::{Look, Release};

use super::homes::Forwarding;
use super::{Event, Held, Told, World};
use crate::goals::Goal;
use crate::oracle::ask::{Answer, Ask, ByHome, Decision};
use crate::oracle::facts::{Phase, View};
use crate::oracle::violation::{Violation, clause};
use crate::oracle::winner::{all_past, is_abandoned, winner};
use crate::replica::{Decided, Ran, Replica, forge};
use crate::story::What;
use crate::worker::{Heard, Sent};

/// Typical time between a service and its region, microseconds.
const CLIENT_DELAY_US: u64 = 300;

/// A request that waits for a majority.
pub(super) struct Asking {
    job: usize,
    sent: Sent,
    proposal: Proposal,
    /// What is to be synced here before others are asked.
    release: Release,
    asked: bool,
    /// When its wait ends, if it may wait for its key.
    until_us: Option<u64>,
}

/// A duplicate that waits for its key to change.
pub(super) struct Parked {
    job: usize,
    sent: Sent,
    until_us: u64,
    /// It has been told that its key has changed, and is about to look again.
    pub(super) woken: bool,
}

impl World {
    /// Has job `job` begin when it is to.
    pub(super) fn schedule_job(&mut self, job: usize) {
        if let Some(at_us) = self.begins_us.get(job) {
            self.heap.at(*at_us, Event::Begin { job });
        }
    }

    pub(super) fn begin(&mut self, job: usize) {
        self.schedule_job(job + 1);
        self.turn(job);
    }

    pub(super) fn turn(&mut self, job: usize) {
        if !self.storm {
            return;
        }
        let Some(sent) = self.workers[job].act(&self.scenario) else { return };
        self.requests += 1;
        let request = self.requests;
        self.waiting[job] = request;
        self.heap.after(self.scenario.habits.patience_us, Event::Patience { job, request });
        let dice = self.workers[job].dice();
        if !dice.chance(self.scenario.habits.lost) {
            let delay_us = dice.heavy(CLIENT_DELAY_US);
            self.heap.after(delay_us, Event::Arrive { job, request, sent: Box::new(sent) });
        }
    }

    pub(super) fn lose_patience(&mut self, job: usize, request: u64) {
        if self.waiting[job] == request {
            self.hear(job, Heard::Nothing);
        }
    }

    fn hear(&mut self, job: usize, heard: Heard) {
        self.waiting[job] = 0;
        if let Some(sleep_us) = self.workers[job].hear(heard, &self.scenario) {
            self.heap.after(sleep_us.max(1), Event::Turn { job });
        }
    }

    pub(super) fn deliver(&mut self, told: Told) {
        let status = told.answer.status();
        if self.waiting[told.job] == told.request {
            *self.statuses.entry(status).or_default() += 1;
            self.story.heard(self.heap.now_us(), told.request);
            self.hear(told.job, Heard::Answer(told.answer, told.token));
        }
    }

    /// A released answer leaves for its service.
    pub(super) fn tell(&mut self, told: Told) {
        let dice = self.workers[told.job].dice();
        if !dice.chance(self.scenario.habits.lost) {
            let delay_us = dice.heavy(CLIENT_DELAY_US);
            self.heap.after(delay_us, Event::Reply(Box::new(told)));
        }
    }

    /// What requests propose and is synced by now: majorities are asked. What came of others: they are looked at again.
    pub(super) fn ask_majorities(&mut self, at: usize) -> Result<(), Violation> {
        let now_us = self.now_us();
        let site = &mut self.sites[at];
        let wall = site.wall(now_us);
        let Some(replica) = site.replica.as_mut() else { return Ok(()) };
        for (ticket, asking) in &mut site.asking {
            if !asking.asked && replica.store().tail().may_release(&asking.release) {
                asking.asked = true;
                let key = &self.scenario.keys[asking.sent.key];
                replica.ask_majority(*ticket, key, asking.proposal, wall);
            }
        }
        while let Some((ticket, gathered)) = self.sites[at].replica.as_mut().and_then(Replica::poll_gathered)
        {
            let Some(Asking { job, sent, until_us, .. }) = self.sites[at].asking.remove(&ticket) else {
                continue;
            };
            self.look_at(job, ticket, &sent, (until_us, Look::Gathered(gathered)))?;
        }
        Ok(())
    }

    /// A request reaches its region.
    pub(super) fn arrive(&mut self, job: usize, request: u64, sent: &Sent) -> Result<(), Violation> {
        let Ask::Claim { wait: wait @ 1.., .. } = sent.ask else {
            return self.decide(job, request, sent, None);
        };
        let until_us = self.now_us() + wait * 1000;
        self.decide(job, request, sent, Some(until_us))?;
        let (site, life) = (sent.region, self.sites[sent.region].life);
        let waits = &self.sites[site];
        if waits.parked.contains_key(&request)
            || waits.asking.contains_key(&request)
            || waits.forwarding.contains_key(&request)
        {
            self.heap.at(until_us, Event::Wake { site, life, ticket: request, over: true });
        }
        Ok(())
    }

    /// A parked duplicate is looked at again: its key has changed, or its wait is over.
    pub(super) fn wake(&mut self, at: usize, life: u64, ticket: u64, over: bool) -> Result<(), Violation> {
        let site = &mut self.sites[at];
        if site.life != life {
            return Ok(());
        }
        let Some(Parked { job, sent, until_us, woken }) = site.parked.remove(&ticket) else { return Ok(()) };
        if let Some(replica) = &site.replica
            && over
        {
            replica.unpark(&self.scenario.keys[sent.key], ticket);
        }
        if over && !woken {
            self.check_wait(at, sent.key)?;
        }
        self.decide(job, ticket, &sent, (!over).then_some(until_us))?;
        if !over && !self.sites[at].parked.contains_key(&ticket) {
            self.goals.reach(Goal::Woken);
        }
        Ok(())
    }

    fn park(&mut self, job: usize, request: u64, sent: &Sent, until_us: u64) {
        let (at, at_us) = (sent.region, self.now_us());
        self.sites[at].parked.insert(request, Parked { job, sent: sent.clone(), until_us, woken: false });
        self.trace.event(at_us, "park", &[at as u64, job as u64, sent.key as u64, request]);
        self.story.note(at_us, at, What::Parked { job: job as u64, key: sent.key, request });
    }

    fn decide(
        &mut self,
        job: usize,
        request: u64,
        sent: &Sent,
        until_us: Option<u64>,
    ) -> Result<(), Violation> {
        self.look_at(job, request, sent, (until_us, Look::First))?;
        self.pump(sent.region)
    }

    /// One look at a request's key, the first or the second; until some time it may park.
    pub(super) fn look_at(
        &mut self,
        job: usize,
        request: u64,
        sent: &Sent,
        (until_us, look): (Option<u64>, Look),
    ) -> Result<(), Violation> {
        let at_us = self.now_us();
        let (at, key) = (sent.region, sent.key);
        let apart = self.clocks_apart(at_us);
        let ticket = until_us.filter(|until_us| at_us < *until_us).map(|_| request);
        let by_home = self.by_home(at, key, &sent.ask, look);
        let site = &mut self.sites[at];
        let (region, wall, dead_by) = (site.region(), site.wall(at_us), site.death_ms(at_us));
        let trusted = site.trusts_clock(at_us);
        let Some(replica) = site.replica.as_mut() else { return Ok(()) };
        let name = &self.scenario.keys[key];
        let token = sent.token.map(|number| {
            if is_forged(&sent.ask) { forge(&self.tokens[number]) } else { self.tokens[number] }
        });
        let (before, lsn_before, now) = (replica.view(name), replica.appended(), replica.now(wall));
        let ran = replica.decide(name, &sent.ask, token.as_ref(), (sent.durable, ticket, look), wall);
        let parked = matches!(ran, Ran::Parked);
        if parked && !matches!(look, Look::Gathered(_)) {
            self.park(job, request, sent, until_us.unwrap_or_default());
            return Ok(());
        }
        let home = if let Ran::Forwards(home) = ran { Some(home) } else { None };
        let (decided, asks) = decided(ran);
        let Decided { answer, token: granted, release } = decided;
        let policy = &self.scenario.namespaces[self.scenario.namespace_of[key]];
        let asked = sent.durable && !matches!(sent.ask, Ask::Get)
            || matches!(sent.ask, Ask::Forget | Ask::Resolve { .. });
        let quorum = policy.level == Level::Quorum;
        let decision = Decision {
            region,
            incarnation: replica.incarnation(),
            key,
            at_us,
            now,
            dead_by,
            trusted,
            ask: sent.ask.clone(),
            answer: answer.clone(),
            before,
            after: replica.view(name),
            lsn_before,
            lsn_after: replica.appended(),
            durable: asked || policy.durable || quorum && !matches!(sent.ask, Ask::Get | Ask::Release { .. }),
            quorum,
            apart,
            by_home,
        };
        self.trace.event(
            at_us,
            answer.status(),
            &[at as u64, job as u64, key as u64, now, decision.lsn_after],
        );
        self.trace.remark(|| decision.words());
        self.story.decided(&decision, job, request);
        let receipt = self.oracle.decided(&decision)?;
        self.check_bounds(at, &decision)?;
        self.check_ready(at, &decision)?;
        self.check_home(at, &decision)?;
        self.note_touched(at, &decision);
        self.note_goals(&decision);
        self.note_rounds(&decision, look);
        self.note_home_goals(&decision, look);
        if let Some(home) = home {
            self.forward(at, home, request, Forwarding { job, sent: sent.clone(), until_us });
            return Ok(());
        }
        if let Some(proposal) = asks {
            let asking = Asking { job, sent: sent.clone(), proposal, release, asked: false, until_us };
            self.sites[at].asking.insert(request, asking);
            return Ok(());
        }
        if parked {
            self.park(job, request, sent, until_us.unwrap_or_default());
            return Ok(());
        }
        self.sample(&decision);
        let token = granted.map(|(token, fact)| {
            self.tokens.push(token);
            (self.tokens.len() - 1, fact)
        });
        let told = Told { job, request, answer, token };
        self.sites[at].held.push(Held { receipt, release, told });
        Ok(())
    }

    fn note_rounds(&mut self, decision: &Decision, look: Look) {
        let Look::Gathered(gathered) = look else { return };
        let goal = match (&decision.ask, &decision.answer) {
            (Ask::Claim { .. }, Answer::Granted { .. }) => Goal::QuorumGranted,
            (Ask::Claim { .. }, Answer::InProgress) if !gathered.reached => Goal::QuorumYielded,
            (Ask::Claim { .. }, Answer::Unavailable { .. }) => Goal::QuorumMissed,
            (Ask::Complete { .. }, Answer::Completed | Answer::Contested) => Goal::QuorumCompleted,
            (Ask::Complete { .. }, Answer::Unavailable { .. }) => Goal::RecordedHere,
            (Ask::Renew { .. }, Answer::Renewed { .. }) => Goal::QuorumRenewed,
            _ => return,
        };
        self.goals.reach(goal);
    }

    /// S6: a bound refuses what exceeds it and nothing else. What peers granted may exceed it; what this region
    /// grants may not.
    pub(super) fn check_bounds(&self, at: usize, decision: &Decision) -> Result<(), Violation> {
        let namespace = self.scenario.namespace_of[decision.key];
        let max_keys = self.scenario.namespaces[namespace].max_keys;
        let Some(replica) = &self.sites[at].replica else { return Ok(()) };
        let known = || {
            let of_it = |key: &&usize| self.scenario.namespace_of[**key] == namespace;
            let keys: Vec<usize> = (0..self.scenario.keys.len()).collect();
            keys.iter()
                .filter(of_it)
                .filter(|key| !replica.view(&self.scenario.keys[**key]).is_empty())
                .count()
        };
        if decision.by_home == ByHome::Relayed {
            // The home's bounds were judged there.
            return Ok(());
        }
        let is_claim = matches!(decision.ask, Ask::Claim { .. });
        let wrong = match (&decision.answer, max_keys) {
            (Answer::Unavailable { reason }, None) if reason == "quota" => "it has no quota".to_owned(),
            (Answer::Unavailable { reason }, Some(max))
                if reason == "quota" && (known() < max || !is_claim) =>
            {
                format!("it knows {} keys of that namespace and may have {max}", known())
            }
            (Answer::Unavailable { reason }, _)
                if reason == "full" && (self.scenario.tight_memory_bytes.is_none() || !is_claim) =>
            {
                "it had memory enough, or did not need any".to_owned()
            }
            (Answer::Granted { .. }, Some(max)) if decision.before.is_empty() && known() > max => {
                format!("it knows {} keys of that namespace and may grant {max}", known())
            }
            _ => return Ok(()),
        };
        Err(decision.violation("S6", clause::S6, [decision.words(), wrong]))
    }

    /// Some regions' wall clocks differ by more than they may (S2).
    pub(super) fn clocks_apart(&self, at_us: u64) -> bool {
        let walls = self.sites.iter().filter(|site| site.replica.is_some()).map(|site| site.wall(at_us));
        let (least, most) =
            walls.fold((u64::MAX, 0), |(least, most), wall| (least.min(wall), most.max(wall)));
        most.saturating_sub(least) > self.scenario.max_drift_ms
    }

    pub(super) fn note_goals(&mut self, decision: &Decision) {
        let Decision { before, after, answer, .. } = decision;
        let goal = match answer {
            Answer::Granted { claim, .. } if before.claims().any(|known| known == *claim) => {
                Goal::GrantedAgain
            }
            Answer::Granted { .. } if took_over(before, after) => Goal::Takeover,
            Answer::Granted { .. } if !before.is_empty() && self.was_dead(decision) => Goal::Reused,
            Answer::Granted { .. } => Goal::Granted,
            Answer::Replay { claim, .. } if self.done_elsewhere(decision, claim.stamp) => {
                Goal::ReplayAcrossRegions
            }
            Answer::Unknown => Goal::Unknown,
            Answer::Completed | Answer::Contested | Answer::Released
                if matches!(decision.ask, Ask::Resolve { .. }) =>
            {
                Goal::Resolved
            }
            Answer::Mismatch => Goal::Mismatch,
            Answer::Contested => Goal::Contested,
            Answer::Superseded { bytes: Some(_) } => Goal::SupersededShown,
            Answer::Renewed { .. } => Goal::Renewed,
            Answer::Released => Goal::Released,
            Answer::Forgotten => Goal::Forgotten,
            Answer::Stale { .. } => Goal::Stale,
            Answer::Unavailable { reason } if reason == "clock" => Goal::ClockRefused,
            Answer::Unavailable { reason } if reason == "catching_up" => Goal::CatchingUp,
            Answer::Unavailable { reason } if reason == "quota" => Goal::QuotaRefused,
            Answer::Unavailable { reason } if reason == "full" => Goal::MemoryRefused,
            _ => return,
        };
        self.goals.reach(goal);
        let revived = |view: &View| {
            view.attempts.iter().any(|a| a.phase == Phase::Held && a.abandoned_lease > 0 && !is_abandoned(a))
        };
        if revived(before) {
            self.goals.reach(Goal::Revived);
        }
    }

    fn was_dead(&self, decision: &Decision) -> bool {
        all_past(&decision.before, decision.now, self.scenario.max_drift_ms)
    }

    fn done_elsewhere(&self, decision: &Decision, stamp: u64) -> bool {
        decision.before.outcomes.iter().any(|o| o.claim.stamp == stamp && o.region != decision.region)
            && winner(&decision.before).claim().is_some()
    }
}

/// What a look came to, as a decision: one that parks on its second look has withdrawn what it asked for.
fn decided(ran: Ran) -> (Decided, Option<Proposal>) {
    let untold = |answer, release| Decided { answer, token: None, release };
    match ran {
        Ran::Decided(decided) => (decided, None),
        Ran::Parked => (untold(Answer::InProgress, Release::default()), None),
        Ran::Asks(proposal, release) => (untold(Answer::Asks, release), Some(proposal)),
        Ran::Forwards(_) => (untold(Answer::Asks, Release::default()), None),
    }
}

/// The client has tampered with its token.
pub(super) fn is_forged(ask: &Ask) -> bool {
    match ask {
        Ask::Complete { token, .. } | Ask::Renew { token, .. } | Ask::Release { token } => token.forged,
        Ask::Claim { .. } | Ask::Get | Ask::Forget | Ask::Resolve { .. } => false,
    }
}

fn took_over(before: &View, after: &View) -> bool {
    let marked = after.attempts.iter().any(|a| a.abandoned_lease > 0 && is_abandoned(a));
    let replaced = before.attempts.iter().any(|a| !after.attempts.iter().any(|b| b.claim == a.claim));
    (marked || replaced) && before.attempts.iter().any(|a| a.phase == Phase::Held && !is_abandoned(a))
}
