//! A process that stands still and goes on later, as after SIGSTOP and SIGCONT, or as a virtual machine that is moved.
//!
//! Nothing happens in it meanwhile; its machine's clock goes on, and what comes for it waits in its sockets, in order. Peers
//! hear nothing and give its sessions up; it learns of that only after it has read what had come before. What it had
//! begun with its disk counts when it goes on: nobody was told before.
//!
//! Must never: let a region that stands still decide, write, send or learn anything.

use super::{Event, World};
use crate::faults::Fault;
use crate::goals::Goal;
use crate::limits;
use crate::story::What;

impl Event {
    /// The region whose process it needs.
    pub(super) fn process(&self) -> Option<usize> {
        match self {
            Self::Arrive { sent, .. } => Some(sent.region),
            Self::Wake { site, .. }
            | Self::Write { site, .. }
            | Self::Written { site, .. }
            | Self::SyncTimer { site, .. }
            | Self::Synced { site, .. }
            | Self::DiskRead { site, .. }
            | Self::Tick { site, .. }
            | Self::Cover { site, .. }
            | Self::Up { site, .. }
            | Self::Down { site, .. }
            | Self::Reload { site }
            | Self::Fault(Fault::Reload(site)) => Some(*site),
            Self::Quic(timer) => Some(timer.process()),
            Self::Frame { to, .. } => Some(*to),
            Self::Room { from, .. } => Some(*from),
            Self::Begin { .. }
            | Self::Turn { .. }
            | Self::Patience { .. }
            | Self::Look
            | Self::Consume { .. }
            | Self::Reply(_)
            | Self::Restart { .. }
            | Self::Resume { .. }
            | Self::Dial { .. }
            | Self::Idle { .. }
            | Self::Break { .. }
            | Self::Fault(_) => None,
        }
    }
}

impl World {
    /// A region stands still for `us`, at most to the healing; who is down comes back no sooner.
    pub(super) fn pause(&mut self, at: usize, us: u64) {
        let now_us = self.now_us();
        let until_us = (now_us + us).min(self.scenario.storm_us);
        if self.sites[at].replica.is_none() {
            self.stay_down(at, until_us.saturating_sub(now_us));
            return;
        }
        self.trace.event(now_us, "pause", &[at as u64, us]);
        self.story.note(now_us, at, What::Paused);
        self.goals.reach(Goal::Paused);
        let site = &mut self.sites[at];
        site.paused_until_us = site.paused_until_us.max(until_us);
        let (until_us, life) = (site.paused_until_us, site.life);
        self.heap.at(until_us, Event::Resume { site: at, life });
        for peer in (0..self.scenario.sites()).filter(|peer| *peer != at) {
            if self.scenario.quic {
                self.watch_silence(at, peer);
            } else if let Some(session) = self.network.session(at, peer) {
                let delay_us = self.network.delay_us(at, peer, limits::IDLE_TIMEOUT_US);
                self.heap.after(delay_us, Event::Idle { a: at, b: peer, session });
            }
        }
    }

    /// Whether the region's process stands still now.
    pub(super) fn stands_still(&self, at: usize) -> bool {
        let site = &self.sites[at];
        site.replica.is_some() && self.now_us() < site.paused_until_us
    }

    /// What needs a process that stands still waits for it, in order.
    pub(super) fn put_off(&mut self, at: usize, event: Event) {
        let until_us = self.sites[at].paused_until_us;
        self.heap.at(until_us, event);
    }

    /// The last pause of a region is over.
    pub(super) fn resume(&mut self, at: usize, life: u64) {
        let now_us = self.now_us();
        let site = &self.sites[at];
        if site.life == life && site.replica.is_some() && now_us == site.paused_until_us {
            self.trace.event(now_us, "resume", &[at as u64]);
            self.story.note(now_us, at, What::Resumed);
        }
    }

    /// A frame that had come before a region went on is read although its sender has given the session up since.
    pub(super) fn was_in_socket(&mut self, from: usize, to: usize, session: u64) -> bool {
        let site = &self.sites[to];
        let read = site.paused_until_us == self.now_us() && site.replica.is_some();
        let is_read = read && site.links[from] == session && session != 0;
        if is_read {
            self.goals.reach(Goal::ReadAfterPause);
        }
        is_read
    }
}
