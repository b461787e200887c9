//! Sessions as daemons have them: streams over QUIC that outlive short cuts ([`crate::carrier`]), links that are dialled anew
//! beside silent ones, and the pauses between dials (`daemon::peer::mesh::dial`).
//!
//! Random runs have [brief sessions](super::links) instead, which die of the shortest cut: in a few seconds they see more
//! beginnings and ends of sessions than daemons see in a day.
//!
//! Must never: decide what a frame means; lose one while its session lives.

use super::{Event, World};
use crate::carrier::Carrier;
use crate::goals::Goal;
use crate::limits;
use crate::network::{Fate, Spread};
use crate::oracle::violation::Violation;
use crate::random::{Dice, Stream};
use crate::story::What;

/// How long a peer may keep an acknowledgement back, microseconds.
const ACK_DELAY_US: u64 = 25_000;
/// Bytes of a probe.
const PROBE_BYTES: usize = 45;

/// What is due for a session or a dial.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    /// There is room in a window.
    Room { from: usize, to: usize, session: u64 },
    /// What was sent then has been acknowledged.
    Confirmed { from: usize, to: usize, session: u64, sent_us: u64 },
    /// A probe may be due.
    Probe { from: usize, to: usize, session: u64 },
    /// A link may have been silent for long.
    Silent { a: usize, b: usize, session: u64 },
    /// The first packet of a dial leaves, perhaps again.
    Initial { a: usize, b: usize, dial: u64 },
    /// A handshake is done.
    Shaken { a: usize, b: usize, dial: u64 },
    /// A dial is given up.
    GiveUp { a: usize, b: usize, dial: u64 },
}

impl Timer {
    /// The region whose process it needs.
    pub(super) const fn process(&self) -> usize {
        match *self {
            Self::Room { from, .. } | Self::Confirmed { from, .. } | Self::Probe { from, .. } => from,
            Self::Silent { a, .. }
            | Self::Initial { a, .. }
            | Self::Shaken { a, .. }
            | Self::GiveUp { a, .. } => a,
        }
    }
}

/// A pair's dialling, by the region with the smaller number.
#[derive(Clone, Copy, Debug)]
struct Dialling {
    /// Counts dials: what belongs to an earlier one is void.
    number: u64,
    began_us: u64,
    pause_us: u64,
    /// The silent link beside which it is dialled, or 0.
    beside: u64,
    /// When something came over that link after all.
    word_us: Option<u64>,
    linked_us: u64,
}

impl Default for Dialling {
    fn default() -> Self {
        Self {
            number: 0,
            began_us: 0,
            pause_us: limits::REDIAL_US_MIN,
            beside: 0,
            word_us: None,
            linked_us: 0,
        }
    }
}

/// What one direction has beside its packets.
#[derive(Clone, Debug, Default)]
struct Way {
    carrier: Option<Carrier>,
    /// When a packet last came, at its end.
    heard_us: u64,
    /// From when on what is sent carries acknowledgements again, and when that was sent of which none has told yet.
    next_us: u64,
    owed_us: Option<u64>,
    /// Its beginning dials its end.
    dialling: Dialling,
}

/// All of a run.
pub(super) struct Quic {
    dice: Dice,
    sites: usize,
    /// By direction: looked up several times a packet.
    ways: Vec<Way>,
}

impl Quic {
    pub(super) fn new(seed: u64, sites: usize) -> Self {
        let dice = Dice::new(seed, Stream::Network, 1 << 32);
        Self { dice, sites, ways: vec![Way::default(); sites * sites] }
    }

    fn way(&mut self, from: usize, to: usize) -> &mut Way {
        &mut self.ways[from * self.sites + to]
    }

    const fn heard_us(&self, at: usize, from: usize) -> u64 {
        self.ways.as_slice()[from * self.sites + at].heard_us
    }

    /// A packet comes.
    fn hear(&mut self, at: usize, from: usize, at_us: u64) {
        self.way(from, at).heard_us = at_us;
        let dialling = &mut self.way(at, from).dialling;
        if dialling.beside != 0 {
            dialling.word_us = Some(dialling.word_us.map_or(at_us, |word_us| word_us.min(at_us)));
        }
    }
}

impl World {
    pub(super) fn timer(&mut self, timer: Timer) -> Result<(), Violation> {
        match timer {
            Timer::Room { from, to, session } => {
                if let Some(carrier) = self.carrier(from, to, session) {
                    carrier.waiting = false;
                    self.carry(from, to);
                }
            }
            Timer::Confirmed { from, to, session, sent_us } => self.confirmed(from, to, session, sent_us),
            Timer::Probe { from, to, session } => self.probe(from, to, session),
            Timer::Silent { a, b, session } => self.silent(a, b, session),
            Timer::Initial { a, b, dial } => self.initial(a, b, dial),
            Timer::Shaken { a, b, dial } => return self.shaken(a, b, dial),
            Timer::GiveUp { a, b, dial } => self.give_up(a, b, dial),
        }
        Ok(())
    }

    fn carrier(&mut self, from: usize, to: usize, session: u64) -> Option<&mut Carrier> {
        let lives = self.network.session(from, to) == Some(session);
        let carrier = self.quic.way(from, to).carrier.as_mut();
        carrier.filter(|carrier| lives && carrier.session == session)
    }

    /// A frame of a session begins its way.
    pub(super) fn stream(&mut self, from: usize, to: usize, session: u64, bytes: Vec<u8>) {
        if self.quic.way(from, to).carrier.as_ref().is_none_or(|carrier| carrier.session != session) {
            let round_us = self.round_us(from, to);
            let jitter_us = match self.network.weather_of(from, to).spread {
                Spread::Heavy => self.network.typical_us(from, to),
                Spread::Even(us) => us,
            };
            self.quic.way(from, to).carrier = Some(Carrier::new(session, round_us, jitter_us));
        }
        if let Some(carrier) = &mut self.quic.way(from, to).carrier {
            carrier.push(bytes);
        }
        self.carry(from, to);
    }

    fn round_us(&self, a: usize, b: usize) -> u64 {
        self.network.mean_us(a, b) + self.network.mean_us(b, a)
    }

    /// All that may leave does.
    fn carry(&mut self, from: usize, to: usize) {
        let now_us = self.now_us();
        let back_us = self.network.passes(to, from).then(|| self.network.typical_us(to, from));
        let Some(session) = self.quic.way(from, to).carrier.as_ref().map(|carrier| carrier.session) else {
            return;
        };
        while let Some(bytes) = self.quic.way(from, to).carrier.as_mut().and_then(|c| c.next(now_us)) {
            let fate = self.network.send(from, to, bytes as usize, now_us);
            let arrives_us = self.note_fate(from, to, fate);
            self.bundle(from, to, session, arrives_us);
            let Some(carrier) = &mut self.quic.way(from, to).carrier else { return };
            if carrier.sent(now_us, arrives_us, back_us) && !carrier.confirming {
                carrier.confirming = true;
                let there_us = arrives_us.unwrap_or_default() + back_us.unwrap_or_default();
                let timer = Timer::Confirmed { from, to, session, sent_us: now_us };
                self.heap.after(there_us, Event::Quic(timer));
            }
        }
        self.deliver_what_passed(from, to);
        let Some(carrier) = &mut self.quic.way(from, to).carrier else { return };
        if let Some(at_us) = carrier.room_us().filter(|_| !std::mem::replace(&mut carrier.waiting, true)) {
            self.heap.at(at_us.max(now_us + 1), Event::Quic(Timer::Room { from, to, session }));
        }
        let Some(carrier) = &mut self.quic.way(from, to).carrier else { return };
        if let Some(at_us) = carrier.probe_due_us().filter(|_| !std::mem::replace(&mut carrier.probing, true))
        {
            self.heap.at(at_us.max(now_us + 1), Event::Quic(Timer::Probe { from, to, session }));
        }
    }

    /// Frames with nothing missing before them arrive.
    fn deliver_what_passed(&mut self, from: usize, to: usize) {
        let (now_us, replay) = (self.now_us(), self.scenario.weather.replay);
        let Some(session) = self.quic.way(from, to).carrier.as_ref().map(|carrier| carrier.session) else {
            return;
        };
        while let Some((at_us, bytes)) = self.quic.way(from, to).carrier.as_mut().and_then(Carrier::take) {
            let delay_us = at_us.saturating_sub(now_us);
            self.story.sent(now_us, (from, to, session), &bytes, Fate::Arrives(delay_us, None));
            if replay > 0 {
                let stale = self.stale_frames.entry((from, to)).or_default();
                if stale.len() < limits::REPLAY_FRAMES_MAX {
                    stale.push(bytes.clone());
                }
            }
            self.heap.after(delay_us, Event::Frame { from, to, session, bytes });
        }
    }

    /// When a packet arrives; and that both sides hear of each other.
    fn note_fate(&mut self, from: usize, to: usize, fate: Fate) -> Option<u64> {
        let now_us = self.now_us();
        match fate {
            Fate::Arrives(delay_us, second) => {
                if second.is_some() {
                    self.goals.reach(Goal::Rough);
                }
                self.quic.hear(to, from, now_us + delay_us);
                // It is acknowledged when it arrives.
                let round_us = self.round_us(from, to);
                self.quic.way(to, from).next_us = now_us + delay_us + round_us + ACK_DELAY_US;
                if self.network.passes(to, from) {
                    let back_us = self.network.typical_us(to, from);
                    self.quic.hear(from, to, now_us + delay_us + back_us);
                }
                Some(delay_us)
            }
            Fate::Cut => {
                self.figures.frames_cut += 1;
                if self.flapping.contains(&(from, to)) {
                    self.goals.reach(Goal::Flapped);
                }
                None
            }
            Fate::Lost | Fate::Overflowed => {
                self.goals.reach(Goal::Rough);
                None
            }
        }
    }

    fn confirmed(&mut self, from: usize, to: usize, session: u64, sent_us: u64) {
        let passes = self.network.passes(to, from);
        let Some(carrier) = self.carrier(from, to, session) else { return };
        carrier.confirming = false;
        if !passes {
            return;
        }
        let again = carrier.confirmed(sent_us);
        if again {
            // Once something carries the acknowledgement of this acknowledgement, the other side learns what it lacks of its
            // own, though it has sent nothing else since.
            let back_us = self.network.typical_us(to, from);
            let sent_us = self.now_us().saturating_sub(back_us);
            self.quic.way(from, to).owed_us = Some(sent_us);
        }
        self.carry(from, to);
    }

    /// A packet leaves; it carries acknowledgements if none has been sent for as long as a round trip takes.
    fn bundle(&mut self, from: usize, to: usize, session: u64, arrives_us: Option<u64>) {
        let (now_us, round_us) = (self.now_us(), self.round_us(from, to));
        let way = self.quic.way(from, to);
        if now_us < way.next_us {
            return;
        }
        way.next_us = now_us + round_us + ACK_DELAY_US;
        let Some((sent_us, there_us)) = way.owed_us.zip(arrives_us) else { return };
        way.owed_us = None;
        let timer = Timer::Confirmed { from: to, to: from, session, sent_us };
        self.heap.after(there_us, Event::Quic(timer));
    }

    fn probe(&mut self, from: usize, to: usize, session: u64) {
        let now_us = self.now_us();
        let back_us = self.network.passes(to, from).then(|| self.network.typical_us(to, from));
        let Some(carrier) = self.carrier(from, to, session) else { return };
        let Some(due_us) = carrier.probe_due_us() else {
            carrier.probing = false;
            return;
        };
        let mut next_us = due_us;
        if due_us <= now_us {
            let (empty, confirming) = (carrier.probed(now_us), carrier.confirming);
            next_us = carrier.probe_due_us().unwrap_or(now_us + 1);
            if empty {
                let fate = self.network.send(from, to, PROBE_BYTES, now_us);
                let arrives_us = self.note_fate(from, to, fate);
                self.bundle(from, to, session, arrives_us);
                let confirms = arrives_us.zip(back_us).filter(|_| !confirming);
                if let (Some((there_us, back_us)), Some(carrier)) =
                    (confirms, self.carrier(from, to, session))
                {
                    carrier.confirming = true;
                    let timer = Timer::Confirmed { from, to, session, sent_us: now_us };
                    self.heap.after(there_us + back_us, Event::Quic(timer));
                }
            } else {
                self.carry(from, to);
            }
        }
        self.heap.at(next_us.max(now_us + 1), Event::Quic(Timer::Probe { from, to, session }));
    }

    /// A cut begins between two: silence and its end are looked for.
    pub(super) fn watch_silence(&mut self, from: usize, to: usize) {
        let (a, b) = (from.min(to), from.max(to));
        let Some(session) = self.network.session(a, b) else { return };
        self.look_for_silence(a, b, session, 0);
        self.heap.after(limits::QUIC_IDLE_US, Event::Idle { a, b, session });
    }

    fn look_for_silence(&mut self, a: usize, b: usize, session: u64, after_us: u64) {
        let heard_us = self.quic.heard_us(a, b).min(self.now_us());
        let from_us = heard_us.max(self.now_us().saturating_sub(limits::SILENT_LINK_US)) + after_us;
        // Looked at every so often, whenever that is.
        let look_us = self.quic.dice.below(limits::SILENT_LOOK_US);
        self.heap
            .at(from_us + limits::SILENT_LINK_US + look_us, Event::Quic(Timer::Silent { a, b, session }));
    }

    fn silent(&mut self, a: usize, b: usize, session: u64) {
        if self.network.session(a, b) != Some(session) {
            return;
        }
        let dial = &mut self.quic.way(a, b).dialling;
        if dial.beside == session {
            return;
        }
        if self.now_us() >= self.quic.heard_us(a, b) + limits::SILENT_LINK_US {
            self.quic_dial(a, b, session);
        } else if !self.network.is_open(a, b) || self.stands_still(b) {
            self.look_for_silence(a, b, session, 0);
        }
    }

    /// A region dials another; beside a silent session, or without one (0).
    pub(super) fn quic_dial(&mut self, a: usize, b: usize, beside: u64) {
        let now_us = self.now_us();
        let Some(replica) = &self.sites[a].replica else { return };
        let knows = replica.knows(b);
        let up = self.network.session(a, b).unwrap_or_default();
        if up != beside {
            return;
        }
        if !knows {
            self.heap.after(limits::REDIAL_US_MAX, Event::Dial { a, b });
            return;
        }
        let dial = &mut self.quic.way(a, b).dialling;
        (dial.number, dial.began_us, dial.beside, dial.word_us) = (dial.number + 1, now_us, beside, None);
        let dial = dial.number;
        for after_us in limits::INITIALS_US {
            self.heap.after(after_us, Event::Quic(Timer::Initial { a, b, dial }));
        }
        self.heap.after(limits::DIAL_US_MAX, Event::Quic(Timer::GiveUp { a, b, dial }));
    }

    fn dialling(&mut self, a: usize, b: usize, dial: u64) -> Option<&mut Dialling> {
        self.sites[a].replica.as_ref()?;
        Some(&mut self.quic.way(a, b).dialling).filter(|dialling| dialling.number == dial)
    }

    fn initial(&mut self, a: usize, b: usize, dial: u64) {
        let answers = self.sites[b].replica.as_ref().is_some_and(|replica| replica.knows(a));
        let open = self.network.is_open(a, b) && self.would_link(a, b);
        if self.dialling(a, b, dial).is_some() && answers && open {
            // The address is proved first: two round trips.
            let after_us = 2 * self.round_us(a, b);
            self.heap.after(after_us, Event::Quic(Timer::Shaken { a, b, dial }));
        }
    }

    fn shaken(&mut self, a: usize, b: usize, dial: u64) -> Result<(), Violation> {
        let now_us = self.now_us();
        let answers = self.sites[b].replica.is_some() && self.network.is_open(a, b) && self.would_link(a, b);
        let Some(dialling) = self.dialling(a, b, dial).filter(|_| answers) else { return Ok(()) };
        let Dialling { began_us, beside, word_us, .. } = *dialling;
        dialling.number += 1;
        dialling.beside = 0;
        // A word on the old link, once it is looked for, is worth more than a new one.
        let seen_us = word_us.map(|word_us| {
            let looks = word_us.saturating_sub(began_us).div_ceil(limits::SILENT_LOOK_US);
            began_us + looks * limits::SILENT_LOOK_US
        });
        if beside != 0 && seen_us.is_some_and(|seen_us| seen_us <= now_us) {
            return Ok(());
        }
        dialling.linked_us = now_us;
        if beside != 0 && self.network.session(a, b) == Some(beside) {
            self.network.disconnect(a, b);
            self.trace.event(now_us, "break", &[a as u64, b as u64, beside]);
            self.story.note(now_us, a, What::Broke { peer: b });
            self.session_down(a, b, beside)?;
            let after_us = self.network.typical_us(a, b);
            self.heap.after(after_us, Event::Down { site: b, peer: a, session: beside });
        }
        if self.network.session(a, b).is_some() {
            return Ok(());
        }
        let session = self.network.connect(a, b);
        self.trace.event(now_us, "connect", &[a as u64, b as u64, session]);
        self.story.note(now_us, a, What::Connected { peer: b });
        // Whoever was dialled learns of the link with its first frame.
        let after_us = self.network.typical_us(a, b) + 1_000;
        self.heap.after(after_us, Event::Up { site: b, peer: a, session });
        self.session_up(a, b, session)
    }

    fn give_up(&mut self, a: usize, b: usize, dial: u64) {
        let Some(dialling) = self.dialling(a, b, dial) else { return };
        let beside = std::mem::take(&mut dialling.beside);
        if beside == 0 {
            self.dial_after_pause(a, b, 0);
        } else {
            self.look_for_silence(a, b, beside, limits::SILENT_LINK_US + limits::SILENT_LOOK_US);
        }
    }

    /// The next dial, after a pause that grows.
    fn dial_after_pause(&mut self, a: usize, b: usize, after_us: u64) {
        let dialling = &mut self.quic.way(a, b).dialling;
        dialling.number += 1;
        let pause_us = dialling.pause_us;
        dialling.pause_us = (2 * pause_us).min(limits::REDIAL_US_MAX);
        let pause_us = self.quic.dice.between(pause_us / 2, pause_us);
        self.heap.after(after_us + pause_us, Event::Dial { a, b });
    }

    /// A session has ended, of which whoever dials learns after so long.
    pub(super) fn quic_ended(&mut self, a: usize, b: usize, notice_us: u64) {
        let (a, b, now_us) = (a.min(b), a.max(b), self.now_us());
        let dialling = &mut self.quic.way(a, b).dialling;
        dialling.beside = 0;
        if now_us > dialling.linked_us + limits::LINK_PROVED_US {
            dialling.pause_us = limits::REDIAL_US_MIN;
        }
        self.dial_after_pause(a, b, notice_us);
    }

    /// A region lives again: it dials, and those that would dial it learn with their next ping that it is not who it was.
    pub(super) fn quic_restarted(&mut self, at: usize) {
        for b in at + 1..self.scenario.sites() {
            self.heap.after(1, Event::Dial { a: at, b });
        }
        for a in 0..at {
            let ping_us = self.quic.dice.below(limits::PING_US);
            let after_us = ping_us + self.round_us(a, at) + limits::REDIAL_US_MIN;
            self.heap.after(after_us, Event::Dial { a, b: at });
        }
    }

    /// When a region looks at the time first: no two daemons do at the same moment.
    pub(super) fn first_tick_us(&mut self) -> u64 {
        self.quic.dice.between(1_000, limits::PING_US / 2)
    }

    /// Whether either side of a session has heard nothing for so long that it gives it up; if not, when to look again.
    pub(super) fn quic_idle(&mut self, a: usize, b: usize, session: u64) {
        let hears = self.network.is_open(a, b) && !self.stands_still(a) && !self.stands_still(b);
        if self.network.session(a, b) != Some(session) || hears {
            return;
        }
        let heard_us = self.quic.heard_us(a, b).min(self.quic.heard_us(b, a));
        if self.now_us() >= heard_us + limits::QUIC_IDLE_US {
            self.break_session(a, b, session);
        } else {
            self.heap.at(heard_us + limits::QUIC_IDLE_US, Event::Idle { a, b, session });
        }
    }
}
