//! What breaks, played on processes and on the relay between them.
//!
//! Must never: play what `super::super::refuse` has not let through.

use super::{Event, PATIENCE, Play, Trouble};
use crate::faults::Fault;
use crate::goals::Goal;
use crate::limits;
use crate::random::{Dice, Stream};
use crate::real::finals;
use crate::real::watch::Watch;

impl Play<'_> {
    pub(super) fn fault(&mut self, at_us: u64, fault: Fault) -> Result<(), Trouble> {
        match fault {
            Fault::Cut(pattern, turn) => {
                self.watch.iter().for_each(Watch::cut);
                pattern.links(self.scenario.sites()).for_each(|(from, to)| self.cut(from, to, true));
                self.figures.links_cut = self.figures.links_cut.max(self.network.cut_links());
                if pattern.links(self.scenario.sites()).any(|(from, to)| self.network.passes(to, from)) {
                    self.goals.reach(Goal::OneWay);
                }
                if turn > 0 {
                    self.goals.reach(Goal::Flapped);
                }
            }
            Fault::Mend(pattern) => {
                pattern.links(self.scenario.sites()).for_each(|(from, to)| self.cut(from, to, false));
                self.goals.reach(Goal::Healed);
                let severed = if self.scenario.severed.is_some() { 2 } else { 0 };
                if self.network.cut_links() <= severed {
                    self.watch.iter().for_each(Watch::mended);
                }
            }
            Fault::Reset(a, b) => {
                // Whoever dials has the link closed, and dials again.
                let (at, peer) = (a.min(b), &self.stage.names[a.max(b)]);
                if let Ok(mut client) = self.daemons.client(at, PATIENCE) {
                    let order = |verb: &'static [u8]| vec![&b"PEER"[..], verb, peer.as_bytes()];
                    let done = client.call_all(&[order(b"CUT"), order(b"HEAL")]);
                    done.map_err(|error| format!("a session cannot be reset: {error}"))?;
                }
            }
            Fault::Crash(at, down_us) => self.kill(at, down_us),
            Fault::DiskLoss(at, down_us) => {
                self.kill(at, down_us.max(limits::REBIRTH_US));
                self.daemons.wipe(at)?;
                self.history.wiped.push((at as u16 + 1, self.now_us()));
                self.goals.reach(Goal::DiskLost);
            }
            Fault::Pause(at, us) => {
                let until_us = (self.now_us() + us).min(self.scenario.storm_us);
                self.paused_until_us[at] = self.paused_until_us[at].max(until_us);
                self.daemons.pause(at, true);
                self.goals.reach(Goal::Paused);
                let left_us = self.paused_until_us[at].saturating_sub(self.now_us());
                self.after(left_us, Event::Resume { at, life: self.lives[at] });
            }
            Fault::Clock(at, step) => {
                let mut dice = Dice::new(self.scenario.seed, Stream::Clock, (at_us << 8) | at as u64);
                let (clock, skew_ms) = &mut self.clocks[at];
                *skew_ms += clock.step(step, (at_us, self.scenario.max_drift_ms), &mut dice);
                let skew_ms = *skew_ms;
                self.daemons.set_clock(at, skew_ms)?;
            }
            // Refused before anything was started.
            _ => return Err(Trouble::Failed(format!("{fault:?} cannot be played; please report it"))),
        }
        Ok(())
    }

    pub(super) fn cut(&mut self, from: usize, to: usize, cut: bool) {
        self.network.cut(from, to, cut);
        self.links.set_open(from, to, self.network.passes(from, to));
    }

    pub(super) fn kill(&mut self, at: usize, down_us: u64) {
        self.lives[at] += 1;
        self.bytes += finals::bytes_out(&self.daemons, at);
        self.daemons.kill(at);
        self.services.died(at);
        self.after(down_us, Event::Restart { at, life: self.lives[at] });
    }

    /// Cuts the link that never heals.
    pub(super) fn sever(&mut self) {
        if let Some((a, b)) = self.scenario.severed {
            self.cut(a, b, true);
            self.cut(b, a, true);
        }
    }
}
