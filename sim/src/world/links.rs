//! Sessions and frames between regions.
//!
//! Must never: give a frame to a session it was not sent on, save where the weather replays old ones;
//! then it is the replica's to refuse.

use super::{Event, World};
use crdt::node::FrameError;

use crate::goals::Goal;
use crate::limits;
use crate::network::Fate;
use crate::oracle::facts::Lsn;
use crate::oracle::violation::{Violation, clause};
use crate::pattern::Pattern;
use crate::replica::{Replica, Said, describe, region_index, said};
use crate::story::What;

impl World {
    /// Tries to bring up the session of a pair, until it has: the session's end begins with it again.
    pub(super) fn dial(&mut self, a: usize, b: usize) {
        if self.scenario.quic {
            return self.quic_dial(a, b, 0);
        }
        // Both must be alive, and each know the other for a member.
        let knows = |at: usize, peer| self.sites[at].replica.as_ref().is_some_and(|r| r.knows(peer));
        if !knows(a, b) || !knows(b, a) || !self.would_link(a, b) || !self.network.is_open(a, b) {
            let again_us = self.network.delay_us(a, b, limits::RECONNECT_US);
            self.heap.after(again_us, Event::Dial { a, b });
            return;
        }
        let session = self.network.connect(a, b);
        self.trace.event(self.now_us(), "connect", &[a as u64, b as u64, session]);
        self.story.note(self.now_us(), a, What::Connected { peer: b });
        for (site, peer) in [(a, b), (b, a)] {
            let typical_us = self.network.typical_us(site, peer) * 2;
            let delay_us = self.network.delay_us(site, peer, typical_us);
            self.heap.after(delay_us, Event::Up { site, peer, session });
        }
    }

    pub(super) fn session_up(&mut self, at: usize, peer: usize, session: u64) -> Result<(), Violation> {
        if self.network.session(at, peer) != Some(session) || self.sites[at].links[peer] == session {
            return Ok(());
        }
        let wall = self.sites[at].wall(self.now_us());
        let site = &mut self.sites[at];
        let Some(replica) = site.replica.as_mut() else { return Ok(()) };
        replica.link_up(peer, session, wall);
        site.links[peer] = session;
        self.trace.event(self.now_us(), "up", &[at as u64, peer as u64, session]);
        self.story.note(self.now_us(), at, What::Up { peer });
        self.pump(at)
    }

    pub(super) fn session_down(&mut self, at: usize, peer: usize, session: u64) -> Result<(), Violation> {
        let now_us = self.now_us();
        let site = &mut self.sites[at];
        let wall = site.wall(now_us);
        if let Some(replica) = site.replica.as_mut() {
            replica.link_down(peer, session, wall);
        }
        if site.links[peer] == session {
            site.links[peer] = 0;
        }
        self.trace.event(self.now_us(), "down", &[at as u64, peer as u64, session]);
        self.story.note(self.now_us(), at, What::Down { peer });
        self.pump(at)
    }

    /// The links of a pattern pass nothing from now on.
    pub(super) fn cut(&mut self, pattern: Pattern, turn: u32) {
        // What had not become alike before would be measured with the time of this cut in it.
        self.healing = None;
        self.open_cuts.push(pattern);
        for (from, to) in pattern.links(self.scenario.sites()) {
            self.trace.event(self.now_us(), "cut", &[from as u64, to as u64]);
            self.story.note(self.now_us(), from, What::Cut { to });
            self.network.cut(from, to, true);
            if turn > 0 {
                self.flapping.insert((from, to));
            }
        }
        pattern.links(self.scenario.sites()).for_each(|(from, to)| self.watch_cut(from, to));
        self.figures.links_cut = self.figures.links_cut.max(self.network.cut_links());
    }

    /// Takes a cut back.
    pub(super) fn mend(&mut self, pattern: Pattern) {
        for (from, to) in pattern.links(self.scenario.sites()) {
            self.trace.event(self.now_us(), "mend", &[from as u64, to as u64]);
            self.story.note(self.now_us(), from, What::Mended { to });
            self.network.cut(from, to, false);
            self.flapping.remove(&(from, to));
        }
        self.goals.reach(Goal::Healed);
        if let Some(at) = self.open_cuts.iter().position(|open| *open == pattern) {
            if at > 0 && at + 1 < self.open_cuts.len() {
                self.goals.reach(Goal::Swizzled);
            }
            self.open_cuts.remove(at);
        }
        self.sample_mend();
    }

    /// A cut has begun: if it lasts, the session dies of silence.
    fn watch_cut(&mut self, from: usize, to: usize) {
        if self.network.passes(from, to) != self.network.passes(to, from) {
            self.goals.reach(Goal::OneWay);
        }
        if self.scenario.quic {
            return self.watch_silence(from, to);
        }
        if let Some(session) = self.network.session(from, to) {
            let delay_us = self.network.delay_us(from, to, limits::IDLE_TIMEOUT_US);
            self.heap.after(delay_us, Event::Idle { a: from, b: to, session });
        }
    }

    pub(super) fn idle(&mut self, a: usize, b: usize, session: u64) {
        if self.scenario.quic {
            return self.quic_idle(a, b, session);
        }
        if !self.network.is_open(a, b) || self.stands_still(a) || self.stands_still(b) {
            self.break_session(a, b, session);
        }
    }

    /// Both processes run, and speak a version that both know.
    pub(super) fn would_link(&self, a: usize, b: usize) -> bool {
        !self.stands_still(a) && !self.stands_still(b) && self.version_between(a, b).is_some()
    }

    /// Both ends learn, one after the other, that the session is over.
    pub(super) fn break_session(&mut self, a: usize, b: usize, session: u64) {
        self.end_session(a, b, session, 5_000);
    }

    pub(super) fn end_session(&mut self, a: usize, b: usize, session: u64, notice_us: u64) {
        if self.network.session(a, b) != Some(session) {
            return;
        }
        self.network.disconnect(a, b);
        if !self.scenario.quic {
            // Somewhere between two attempts.
            let (a, b) = (a.min(b), a.max(b));
            let every_us = self.network.delay_us(a, b, limits::RECONNECT_US);
            let again_us = self.session_dice(a, b).below(every_us + 1);
            self.heap.after(again_us, Event::Dial { a, b });
        }
        self.trace.event(self.now_us(), "break", &[a as u64, b as u64, session]);
        self.story.note(self.now_us(), a, What::Broke { peer: b });
        for (site, peer) in [(a, b), (b, a)] {
            let delay_us = self.network.delay_us(site, peer, notice_us);
            self.heap.after(delay_us, Event::Down { site, peer, session });
        }
        if self.scenario.quic {
            self.quic_ended(a, b, notice_us);
        }
    }

    /// Everything that a region has to say to its peers now.
    pub(super) fn send_frames(&mut self, at: usize) -> Result<(), Violation> {
        let now_us = self.now_us();
        // Asked after every event: mostly there is nothing.
        if !self.sites[at].replica.as_ref().is_some_and(Replica::may_send) {
            return Ok(());
        }
        for peer in 0..self.scenario.sites() {
            if self.sites[at].links[peer] == 0 {
                continue;
            }
            loop {
                let Some(replica) = self.sites[at].replica.as_mut() else { return Ok(()) };
                if self.network.is_full(at, peer, now_us) {
                    self.wait_for_room(at, peer);
                    break;
                }
                let Some((session, bytes)) = replica.poll_send(peer) else { break };
                self.overhear(at, peer, &bytes)?;
                self.send(at, peer, session, bytes);
            }
        }
        Ok(())
    }

    fn wait_for_room(&mut self, from: usize, to: usize) {
        let now_us = self.now_us();
        self.goals.reach(Goal::Throttled);
        if let Some(wait_us) = self.network.room_in_us(from, to, now_us) {
            self.heap.after(wait_us, Event::Room { from, to });
        }
    }

    /// A link that was full takes frames again.
    pub(super) fn room(&mut self, from: usize, to: usize) -> Result<(), Violation> {
        self.network.stop_waiting(from, to);
        self.pump(from)
    }

    /// What a frame that leaves claims must be so, now (INV-8, INV-5, INV-7).
    fn overhear(&mut self, at: usize, peer: usize, bytes: &[u8]) -> Result<(), Violation> {
        match said(bytes) {
            Said::Records(last) => self.overhear_records(at, peer, last),
            Said::Holds { incarnation, epoch, lsn, durable } => {
                self.overhear_holds((at, peer), (incarnation, epoch), lsn, durable)
            }
            Said::Voice { key, view, step } => self.check_voice((at, peer), &key, &view, step),
            Said::Decided { key, view } => self.check_home_word((at, peer), &key, &view),
            Said::Compares => {
                self.figures.bytes_compared += bytes.len() as u64;
                Ok(())
            }
            Said::Repairs => {
                self.figures.bytes_repaired += bytes.len() as u64;
                Ok(())
            }
            Said::Hello | Said::Other => Ok(()),
        }
    }

    fn overhear_records(&self, at: usize, peer: usize, last: Lsn) -> Result<(), Violation> {
        if last <= self.sites[at].written {
            return Ok(());
        }
        let story = [
            format!("r{} sent r{} its log up to {last}", at + 1, peer + 1),
            format!("the kernel had it only up to {}", self.sites[at].written),
        ];
        Err(self.violation("INV-8", clause::INV_8, &[at, peer], story))
    }

    fn overhear_holds(
        &mut self,
        (at, peer): (usize, usize),
        (incarnation, epoch): (u32, u32),
        lsn: Lsn,
        durable: bool,
    ) -> Result<(), Violation> {
        let at_us = self.now_us();
        let now = self.sites[at].death_ms(at_us);
        let from_now = self.sites[peer].death_ms(at_us);
        let (speaker, owner) = (&self.sites[at], &self.sites[peer]);
        // Of an older life of the peer's log, or of a peer that is down: nothing to compare with.
        let same =
            owner.replica.as_ref().is_some_and(|r| r.incarnation() == incarnation) && owner.epoch == epoch;
        let Some(replica) = speaker.replica.as_ref().filter(|_| same) else { return Ok(()) };
        let pair = (owner.region(), speaker.region());
        let (trusted, keys) = (speaker.trusts_clock(at_us), &self.scenario.keys);
        let positions = (lsn, durable.then_some(speaker.written), replica.appended());
        let clocks = (at_us, now, trusted, from_now);
        self.oracle.acknowledged(pair, positions, clocks, |key| replica.view(&keys[key]))
    }

    fn send(&mut self, from: usize, to: usize, session: u64, bytes: Vec<u8>) {
        let now_us = self.now_us();
        let direction = self.direction(from, to);
        let first = std::mem::replace(&mut self.greeted[direction], session) != session;
        if self.scenario.quic {
            self.trace.event(now_us, "send", &[from as u64, to as u64, session, bytes.len() as u64]);
            self.trace.bytes(&bytes);
            self.trace.remark(|| describe(&bytes));
            self.figures.bytes += bytes.len() as u64;
            return self.stream(from, to, session, bytes);
        }
        let fate = self.network.send(from, to, bytes.len(), now_us);
        self.trace.event(now_us, "send", &[from as u64, to as u64, session, bytes.len() as u64]);
        self.story.sent(now_us, (from, to, session), &bytes, fate);
        self.trace.bytes(&bytes);
        self.trace.remark(|| describe(&bytes));
        self.figures.bytes += bytes.len() as u64;
        match fate {
            Fate::Cut => {
                self.figures.frames_cut += 1;
                if self.flapping.contains(&(from, to)) {
                    self.goals.reach(Goal::Flapped);
                }
                self.lose(from, to, session, first);
            }
            // A rate drops nothing: see `send_frames`.
            Fate::Lost | Fate::Overflowed => {
                self.goals.reach(Goal::Rough);
                self.lose(from, to, session, first);
            }
            Fate::Arrives(delay_us, second) => {
                if let Some(second_us) = second {
                    self.goals.reach(Goal::Rough);
                    let bytes = bytes.clone();
                    self.heap.after(second_us, Event::Frame { from, to, session, bytes });
                }
                if self.scenario.weather.replay > 0 {
                    let stale = self.stale_frames.entry((from, to)).or_default();
                    if stale.len() < limits::REPLAY_FRAMES_MAX {
                        stale.push(bytes.clone());
                    }
                }
                self.heap.after(delay_us, Event::Frame { from, to, session, bytes });
            }
        }
    }

    /// A greeting is never repeated, so a session without it must break; other holes the replica must
    /// mend by itself, mostly.
    fn lose(&mut self, a: usize, b: usize, session: u64, first: bool) {
        self.holes.insert(session);
        let dice = self.session_dice(a, b);
        if first || dice.chance(300) {
            let delay_us = dice.heavy(100_000);
            self.heap.after(delay_us, Event::Break { a, b, session });
        }
    }

    pub(super) fn frame(
        &mut self,
        from: usize,
        to: usize,
        session: u64,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let is_up = self.network.session(from, to) == Some(session);
        if self.sites[to].replica.is_none() || !is_up && !self.was_in_socket(from, to, session) {
            return Ok(());
        }
        // The first frame may overtake the news that the session is up.
        self.session_up(to, from, session)?;
        self.take_in(from, to, session, bytes)?;
        if self.storm && self.network.replays(from, to) {
            let frames = self.stale_frames.get(&(from, to)).map_or(0, Vec::len);
            let which = self.session_dice(from, to).below(frames as u64) as usize;
            if frames > 0
                && let Some(stale) = self.stale_frames.get_mut(&(from, to))
            {
                let old = stale.swap_remove(which);
                self.goals.reach(Goal::Replayed);
                self.take_in(from, to, session, &old)?;
            }
        }
        Ok(())
    }

    fn take_in(&mut self, from: usize, to: usize, session: u64, bytes: &[u8]) -> Result<(), Violation> {
        let now_us = self.now_us();
        // Configurations that are too far apart are refused until both are linked, and never then.
        let apart = !self.scenario.steps.is_empty() && !self.are_linked(from, to);
        let site = &mut self.sites[to];
        let wall = site.wall(now_us);
        site.death_ms(now_us);
        let Some(replica) = site.replica.as_mut() else { return Ok(()) };
        let stood_ms = replica.clock_ms();
        let result = replica.frame(from, session, bytes, wall);
        let stands_ms = replica.clock_ms();
        self.trace.event(now_us, "frame", &[from as u64, to as u64, session, u64::from(result.is_err())]);
        self.story.arrived(now_us, (from, to), bytes, result.as_ref().err().map(|error| error as _));
        self.trace.remark(|| describe(bytes));
        self.check_clock((from, to), (stood_ms, stands_ms), wall)?;
        // A region may be made whole, and know its peers no more before the next tick.
        self.sites[to].note_lack();
        // A greeting makes a link, and what follows may end it before the next tick.
        self.check_memberships(to)?;
        self.note_versions(self.sites[from].version, self.sites[to].version);
        if let Err(error) = result {
            self.trace.remark(|| error.to_string());
            let apart = apart && matches!(error, FrameError::Membership(_));
            if apart {
                self.goals.reach(Goal::MembersApart);
            }
            let whole = !apart && !self.scenario.menu.rough && !self.holes.contains(&session);
            if whole && self.sites[to].links[from] == session {
                let story = [
                    format!(
                        "r{} sent r{} a frame over a link that loses and reorders nothing",
                        from + 1,
                        to + 1
                    ),
                    format!("it was refused: {error}"),
                ];
                return Err(self.violation("INV-17", clause::INV_17, &[from, to], story));
            }
            self.break_session(from, to, session);
        } else if self.sites[to].look_dice.chance(100) {
            let key = self.sites[to].look_dice.below(self.scenario.keys.len() as u64) as usize;
            self.look(to, key)?;
        }
        self.pump(to)
    }

    /// Whether every region has the last membership, and every pair of them, but the severed, has spoken and holds a
    /// session.
    pub(super) fn all_linked(&self) -> bool {
        let last = self.scenario.steps.len();
        let healed = self.scenario.healed();
        self.sites.iter().filter(|site| healed.has(site.index)).all(|site| {
            if site.step != last {
                return false;
            }
            let Some(replica) = &site.replica else { return !self.is_member(site.index) };
            let views = replica.node().peers(replica.store());
            let severed =
                |a, b| self.scenario.severed == Some((a, b)) || self.scenario.severed == Some((b, a));
            let views = views.iter().filter(|view| healed.has(region_index(view.region)));
            let mut others = views.filter(|view| !severed(site.index, region_index(view.region)));
            others.all(|view| {
                let linked = view.state == crdt::node::LinkState::Linked;
                linked && site.links[region_index(view.region)] != 0
            })
        })
    }
}
