//! A small world that can be run along a path of events, and hashed: a few replicas, links that keep order and lose
//! nothing but when they are cut, one wall clock for all.
//!
//! Everything goes through the product's own store, node, codec and recovery, and through the same oracle as in a swarm.
//! What is no choice happens at once: writes, syncs, replies, and all frames but those with records. These wait until an
//! event delivers them; what is sent behind them waits, too.
//!
//! Must never: make a choice; whatever could come in two orders is an event.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};

use crdt::store::Look;
use crdt::token::Token;

use super::Size;
use super::event::Event;
use super::site::Site;
use crate::clock::EPOCH_MS;
use crate::oracle::Oracle;
use crate::oracle::agreement::Final;
use crate::oracle::ask::{Ask, ByHome, Decision, TokenFact};
use crate::oracle::facts::{Key, Millis, Region};
use crate::oracle::violation::{Violation, clause};
use crate::oracle::winner::{Verdict, winner};
use crate::replica::{Decided, Ran, Said, record_bytes, said};
use crate::scenario::Scenario;

/// When the first event happens: everybody has started, met everybody and may grant.
const SETTLED_MS: Millis = 1_000;
/// How far one [`Event::LeasesEnd`] goes, milliseconds: a lease, the clocks' bound, and a ping.
const LEASE_STEP_MS: Millis = 600;
/// Steps of that length in which regions must agree once nothing is cut any more (INV-17).
const AGREE_STEPS_MAX: usize = 20;
/// Frames that one event may cause (INV-17).
const FRAMES_MAX: usize = 10_000;

struct Grant {
    token: Token,
    fact: TokenFact,
    key: Key,
    completed: bool,
}

/// What an event did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Did {
    /// Another state.
    Something,
    /// A request that wrote nothing: what it leaves is a tick of its region's clock.
    Nothing,
}

/// See the module's text.
pub(super) struct Cluster<'s> {
    scenario: &'s Scenario,
    size: Size,
    sites: Vec<Option<Site>>,
    wall: Millis,
    oracle: Oracle,
    grants: Vec<Grant>,
    /// By pair, the smaller index first: the session that is up.
    sessions: BTreeMap<(usize, usize), u64>,
    sessions_ever: u64,
    queues: BTreeMap<(usize, usize), VecDeque<Vec<u8>>>,
}

impl<'s> Cluster<'s> {
    /// All regions have started, met and may grant.
    pub(super) fn new(scenario: &'s Scenario, size: Size) -> Result<Self, Violation> {
        let regions: Vec<Region> = (1..=size.regions as Region).collect();
        let mut cluster = Self {
            scenario,
            size,
            sites: Vec::new(),
            wall: EPOCH_MS,
            oracle: Oracle::new(&regions, vec![false; size.keys], scenario.max_drift_ms),
            grants: Vec::new(),
            sessions: BTreeMap::new(),
            sessions_ever: 0,
            queues: BTreeMap::new(),
        };
        for at in 0..size.regions {
            let site = Site::new(scenario, at, cluster.wall).map_err(|why| cluster.refused(at, why))?;
            cluster.sites.push(Some(site));
        }
        cluster.wall += SETTLED_MS;
        for (a, b) in cluster.pairs() {
            cluster.link(a, b);
        }
        cluster.settle()?;
        Ok(cluster)
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let regions = self.size.regions;
        (0..regions).flat_map(|a| (a + 1..regions).map(move |b| (a, b))).collect()
    }

    /// Whether an event can happen now.
    pub(super) fn is_enabled(&self, event: Event) -> bool {
        match event {
            Event::Claim { .. } | Event::LeasesEnd | Event::Restart { .. } => true,
            Event::Complete { grant, .. } => self.grants.get(grant).is_some_and(|grant| !grant.completed),
            Event::Deliver { from, to } => {
                self.queues.get(&(from, to)).is_some_and(|queue| !queue.is_empty())
            }
            Event::Cut { a, b } => self.sessions.contains_key(&(a, b)),
            Event::Heal { a, b } => !self.sessions.contains_key(&(a, b)),
        }
    }

    /// Has an event happen that is enabled.
    pub(super) fn happen(&mut self, event: Event) -> Result<Did, Violation> {
        let did = match event {
            Event::Claim { at, key } => {
                let claimant = format!("service of r{}", at + 1).into_bytes();
                let namespace = &self.scenario.namespaces[0];
                let (lease, retention) = (namespace.lease_ms, namespace.retention_ms);
                self.decide(
                    at,
                    key,
                    Ask::Claim { fingerprint: None, claimant, lease, retention, wait: 0 },
                    None,
                )?
            }
            Event::Complete { grant, at } => {
                let Grant { token, fact, key, completed } = &mut self.grants[grant];
                *completed = true;
                let (token, key) = (*token, *key);
                let bytes = format!("result of {}", fact.claim).into_bytes();
                let ask = Ask::Complete { token: fact.clone(), bytes };
                // It is not asked a second time, so the state is another one whatever the answer.
                self.decide(at, key, ask, Some(token))?;
                Did::Something
            }
            Event::Deliver { from, to } => {
                self.deliver(from, to)?;
                Did::Something
            }
            Event::LeasesEnd => {
                self.wall += LEASE_STEP_MS;
                self.tick();
                Did::Something
            }
            Event::Restart { at } => {
                self.restart(at)?;
                Did::Something
            }
            Event::Cut { a, b } => {
                self.unlink(a, b);
                Did::Something
            }
            Event::Heal { a, b } => {
                self.link(a, b);
                Did::Something
            }
        };
        self.settle()?;
        Ok(did)
    }

    /// Asks for what will write nothing, as it seems, and has each answer judged; returns those that wrote nothing indeed,
    /// as bits by the alphabet. One that writes, then, is left to a run of its own.
    pub(super) fn judge_quiet(&mut self, alphabet: &[Event]) -> Result<u64, Violation> {
        let mut quiet = 0;
        for (at, event) in alphabet.iter().enumerate() {
            let Event::Claim { at: region, key } = *event else { continue };
            let view = self.site_of(region).replica.view(&self.scenario.keys[key]);
            let stays = match winner(&view) {
                Verdict::Settled(_) => true,
                Verdict::Held(attempt) => self.wall <= attempt.lease_until,
                Verdict::Free => false,
            };
            if !stays {
                continue;
            }
            if self.happen(*event)? == Did::Something {
                break;
            }
            quiet |= 1 << at;
        }
        Ok(quiet)
    }

    fn site(&mut self, at: usize) -> &mut Site {
        self.sites[at].as_mut().expect("a region is away only within its restart")
    }

    fn site_of(&self, at: usize) -> &Site {
        self.sites[at].as_ref().expect("a region is away only within its restart")
    }

    const fn now_us(&self) -> u64 {
        (self.wall - EPOCH_MS) * 1000
    }

    fn decide(&mut self, at: usize, key: Key, ask: Ask, token: Option<Token>) -> Result<Did, Violation> {
        let (wall, at_us) = (self.wall, self.now_us());
        let name = &self.scenario.keys[key];
        let site = self.sites[at].as_mut().expect("a region is away only within its restart");
        let replica = &mut site.replica;
        let (before, lsn_before, now) = (replica.view(name), replica.appended(), replica.now(wall));
        let ran = replica.decide(name, &ask, token.as_ref(), (false, None, Look::First), wall);
        let Ran::Decided(Decided { answer, token: granted, .. }) = ran else {
            unreachable!("nothing parks without a ticket, and nothing asks majorities here")
        };
        let (after, lsn_after) = (replica.view(name), replica.appended());
        let decision = Decision {
            region: at as Region + 1,
            incarnation: replica.incarnation(),
            key,
            at_us,
            now,
            dead_by: now,
            trusted: true,
            ask,
            answer,
            before,
            after,
            lsn_before,
            lsn_after,
            durable: false,
            quorum: false,
            apart: false,
            by_home: ByHome::Not,
        };
        site.flush();
        let written = site.written();
        let receipt = self.oracle.decided(&decision)?;
        self.oracle.told(receipt, at_us, written, written)?;
        if let Some((token, fact)) = granted
            && self.grants.iter().all(|grant| grant.fact.claim != fact.claim)
        {
            self.grants.push(Grant { token, fact, key, completed: false });
        }
        Ok(if lsn_after == lsn_before { Did::Nothing } else { Did::Something })
    }

    fn tick(&mut self) {
        let wall = self.wall;
        self.sites.iter_mut().flatten().for_each(|site| site.replica.tick(wall));
    }

    fn link(&mut self, a: usize, b: usize) {
        self.sessions_ever += 1;
        let (session, wall) = (self.sessions_ever, self.wall);
        self.sessions.insert((a, b), session);
        self.site(a).replica.link_up(b, session, wall);
        self.site(b).replica.link_up(a, session, wall);
    }

    fn unlink(&mut self, a: usize, b: usize) {
        let Some(session) = self.sessions.remove(&(a, b)) else { return };
        for (one, other) in [(a, b), (b, a)] {
            self.queues.remove(&(one, other));
            if let Some(site) = &mut self.sites[one] {
                site.replica.link_down(other, session, self.wall);
            }
        }
    }

    fn restart(&mut self, at: usize) -> Result<(), Violation> {
        let linked: Vec<(usize, usize)> =
            self.sessions.keys().copied().filter(|(a, b)| *a == at || *b == at).collect();
        let Some(site) = self.sites[at].take() else { return Ok(()) };
        linked.iter().for_each(|(a, b)| self.unlink(*a, *b));
        let kept = site.written();
        let site = site.restart(self.scenario, at, self.wall).map_err(|why| self.refused(at, why))?;
        let region = at as Region + 1;
        self.oracle.crashed(region, kept, true);
        self.oracle.started(region, (site.replica.incarnation(), site.epoch), self.now_us())?;
        self.sites[at] = Some(site);
        linked.iter().for_each(|(a, b)| self.link(*a, *b));
        Ok(())
    }

    /// The oldest records that wait, and what was sent behind them up to the next.
    fn deliver(&mut self, from: usize, to: usize) -> Result<(), Violation> {
        loop {
            let Some(frame) = self.queues.get_mut(&(from, to)).and_then(VecDeque::pop_front) else {
                return Ok(());
            };
            self.frame(from, to, &frame)?;
            let next = self.queues.get(&(from, to)).and_then(VecDeque::front);
            if next.is_none_or(|next| matches!(said(next), Said::Records(_))) {
                return Ok(());
            }
        }
    }

    fn frame(&mut self, from: usize, to: usize, bytes: &[u8]) -> Result<(), Violation> {
        let Some(session) = self.sessions.get(&(from.min(to), from.max(to))).copied() else { return Ok(()) };
        let wall = self.wall;
        if let Err(error) = self.site(to).replica.frame(from, session, bytes, wall) {
            let story = [
                format!("r{} sent r{} a frame over a link that loses and reorders nothing", from + 1, to + 1),
                format!("it was refused: {error}"),
            ];
            return Err(self.violation("INV-17", clause::INV_17, &[from, to], story));
        }
        Ok(())
    }

    /// All that is no choice, until nothing of it is left.
    fn settle(&mut self) -> Result<(), Violation> {
        let mut frames = 0;
        let mut moves = true;
        while moves {
            moves = false;
            for at in 0..self.size.regions {
                let site = self.site(at);
                moves |= site.flush();
                site.read();
                for peer in (0..self.size.regions).filter(|peer| *peer != at) {
                    while let Some((_, bytes)) = self.site(at).replica.poll_send(peer) {
                        moves = true;
                        frames += 1;
                        let queue = self.queues.entry((at, peer)).or_default();
                        if !queue.is_empty() || matches!(said(&bytes), Said::Records(_)) {
                            queue.push_back(bytes);
                        } else {
                            self.frame(at, peer, &bytes)?;
                        }
                    }
                }
            }
            if frames > FRAMES_MAX {
                let story =
                    [format!("one event has caused {frames} frames"), "and there is no end".to_owned()];
                return Err(self.violation("INV-17", clause::INV_17, &[], story));
            }
        }
        Ok(())
    }

    /// Heals and delivers all: then the regions must agree on everything, as the oracle sees it.
    pub(super) fn end(mut self) -> Result<(), Violation> {
        for (a, b) in self.pairs() {
            if !self.sessions.contains_key(&(a, b)) {
                self.link(a, b);
            }
        }
        self.settle()?;
        let mut judged = Ok(());
        for _ in 0..AGREE_STEPS_MAX {
            while let Some((from, to)) =
                self.queues.iter().find(|(_, queue)| !queue.is_empty()).map(|(link, _)| *link)
            {
                self.deliver(from, to)?;
                self.settle()?;
            }
            judged = self.oracle.ended(&self.finals(), self.now_us(), self.wall);
            if judged.is_ok() {
                break;
            }
            self.wall += LEASE_STEP_MS;
            self.tick();
            self.settle()?;
        }
        judged
    }

    fn finals(&self) -> Vec<Final> {
        let keys = &self.scenario.keys;
        let finals = self.sites.iter().flatten().enumerate().map(|(at, site)| Final {
            region: at as Region + 1,
            views: keys.iter().map(|key| site.replica.view(key)).collect(),
            conflicts: site.replica.conflicts(keys),
            digest: site.replica.digest(self.wall),
        });
        finals.collect()
    }

    /// The same for states from which the same can follow. Places in logs are left out: they differ by the order in
    /// which merged records were logged, and no decision depends on them.
    pub(super) fn state(&self) -> u128 {
        let mut text = Canon([DefaultHasher::new(), DefaultHasher::new()]);
        text.0[1].write_u8(1);
        let keys = &self.scenario.keys;
        let _ = write!(text, "{}", self.wall);
        for at in 0..self.size.regions {
            let replica = &self.site_of(at).replica;
            for key in keys {
                // Its bytes have one form for one state.
                text.bytes(replica.real(key).as_ref().map_or(&[], |found| found.record()));
            }
            let gate = replica.store().gate.closed();
            let clock = replica.store().clock().last();
            let _ = write!(text, "{:?}{clock:?}{gate:?}", replica.conflicts(keys));
        }
        let _ = write!(text, "{:?}", self.sessions.keys());
        for (link, queue) in self.queues.iter().filter(|(_, queue)| !queue.is_empty()) {
            let _ = write!(text, "{link:?}");
            queue.iter().for_each(|frame| text.bytes(record_bytes(frame)));
        }
        let mut grants: Vec<_> =
            self.grants.iter().map(|grant| (grant.fact.claim, grant.completed)).collect();
        grants.sort_unstable();
        let _ = write!(text, "{grants:?}");
        let [high, low] = text.0.map(|hasher| u128::from(hasher.finish()));
        high << 64 | low
    }

    fn refused(&self, at: usize, why: String) -> Violation {
        let story = [format!("r{} was restarted, and its disk had lost nothing", at + 1), why];
        self.violation("INV-7", clause::INV_7, &[at], story)
    }

    fn violation(
        &self,
        invariant: &'static str,
        text: &'static str,
        sites: &[usize],
        story: [String; 2],
    ) -> Violation {
        let regions = sites.iter().map(|site| *site as Region + 1).collect();
        Violation { invariant, clause: text, key: None, at_us: self.now_us(), regions, story }
    }
}

/// Two hashers fed alike, of which one began otherwise.
struct Canon([DefaultHasher; 2]);

impl Canon {
    fn bytes(&mut self, bytes: &[u8]) {
        for hasher in &mut self.0 {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        }
    }
}

impl std::fmt::Write for Canon {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.iter_mut().for_each(|hasher| hasher.write(text.as_bytes()));
        Ok(())
    }
}
