//! What a peer's frame changes.

use super::forwards::Forwards;
use super::membership::Membership;
use super::peer::{Peer, Stall};
use super::rounds::Rounds;
use super::send::hello;
use super::{FrameError, NodeConfig, NodeMemory, Pacing, clocks, feed, reconcile};
use crate::canary::{self, Bug};
use crate::decide::Verdict;
use crate::entry::Bytes;
use crate::ids::{Cursor, Incarnation, LogEpoch, Lsn, RegionId};
use crate::journal::Record;
use crate::limits;
use crate::policy::Durable;
use crate::request::Reason;
use crate::store::{MergeRefused, Merged, Release, Scratch, Store};
use crate::wire::stream::{self, Author};
use crate::wire::{Bodies, Frame, Hello, PartOf};

/// Two resends are at least this far apart, in milliseconds: what is under way must have a chance.
const RESEND_EVERY_MS: u64 = 200;

/// While a link is stalled, what its peer sends is refused again and again: seldom is enough.
const RESEND_STALLED_EVERY_MS: u64 = 2_000;

/// Everything a frame may touch besides its peer.
pub(super) struct Receiving<'r> {
    pub(super) config: &'r NodeConfig,
    pub(super) memory: &'r mut NodeMemory,
    pub(super) store: &'r Store,
    pub(super) scratch: &'r mut Scratch,
    pub(super) pacing: &'r mut Pacing,
    pub(super) rounds: &'r mut Rounds,
    pub(super) forwards: &'r mut Forwards,
    /// Another peer's log is on its way.
    pub(super) elsewhere: bool,
    pub(super) wall_ms: u64,
}

impl Receiving<'_> {
    /// Takes one frame of `peer`.
    pub(super) fn frame(&mut self, peer: &mut Peer, bytes: &[u8]) -> Result<(), FrameError> {
        let frame = Frame::decode(bytes)?;
        if !peer.is_linked() && !matches!(frame, Frame::Hello(_)) {
            return Err(FrameError::OutOfOrder("the first frame must be a hello"));
        }
        self.pacing
            .frame(bytes.len(), if let Frame::Records { left, .. } = frame { Some(left) } else { None });
        match frame {
            Frame::Hello(theirs) => self.hello(peer, &theirs),
            Frame::Records { prev, last, bodies, .. } => self.records(peer, prev, last, bodies),
            Frame::Ack { upto, resend } => self.ack(peer, upto, resend),
            Frame::Ping { at_ms, sent, incomplete } => {
                self.completeness(peer, incomplete);
                peer.queue(Frame::Pong { ping_at_ms: at_ms, at_ms: self.wall_ms }.encode());
                if peer.received.unwrap_or_default() != sent {
                    self.ask_resend(peer);
                } else if let Some(upto) = peer.link.as_ref().and_then(|link| link.last_ack) {
                    // Was it lost? A sender whose window is full waits for it and sends nothing else.
                    peer.queue(Frame::Ack { upto, resend: false }.encode());
                }
                Ok(())
            }
            Frame::Pong { ping_at_ms, at_ms } => {
                clocks::sample(&mut peer.samples, ping_at_ms, at_ms, self.wall_ms);
                Ok(())
            }
            Frame::Membership { epoch, members } => self.membership(peer, epoch, members),
            Frame::Behind { have, at, keys } => {
                check_advance(peer, at, at)?;
                feed::behind(peer, have, at, keys, self.wall_ms);
                Ok(())
            }
            Frame::Repair { of, bodies } => self.repair(peer, &of, Bodies::new(bodies)),
            Frame::Ask { round, epoch, body } => self.asked(peer, round, epoch, body),
            Frame::Voice { round, epoch, counts, body } => {
                if counts && key_of(body).is_ok() && self.merge_one(peer, body)? {
                    self.rounds.voice(round, epoch, peer.region);
                }
                Ok(())
            }
            Frame::Forward { number, epoch, errand } => {
                let may = epoch == self.config.membership || canary::planted(Bug::HomeAtAnyEpoch);
                self.forwards.ask(peer, number, may, &errand);
                Ok(())
            }
            Frame::Forwarded { number, verdict, body } => self.forwarded(peer, number, verdict, body),
            Frame::Withdraw { number } => {
                self.forwards.withdrawn(peer.region, number);
                Ok(())
            }
            // Whoever is behind our log waits for nothing else.
            Frame::Compare { exchange, .. } | Frame::Narrow { exchange, .. }
                if self.elsewhere && !exchange.is_of_everything() =>
            {
                let (nonce, buckets) = (exchange.nonce, Vec::new());
                peer.queue(Frame::Differ { nonce, number: 0, buckets, more: false, declined: true }.encode());
                Ok(())
            }
            frame => {
                reconcile::frame(peer, self.store, &frame, self.wall_ms)?;
                self.end_comparison(peer);
                Ok(())
            }
        }
    }

    /// S5: holds what is asked for, and says so with what is known of its key once that is synced.
    fn asked(&mut self, peer: &mut Peer, round: u64, epoch: u64, body: Bytes<'_>) -> Result<(), FrameError> {
        let key = key_of(body)?;
        self.store.gate.want_voice();
        let merged = self.merge_one(peer, body)?;
        let counts = merged && self.store.gate.has_voice() && epoch == self.config.membership;
        let state = self.store.told_state(key).filter(|_| counts);
        let counts = state.is_some();
        let (body, mut release) = state.unwrap_or_default();
        if canary::planted(Bug::VoicesBeforeSync) {
            release = Release::default();
        }
        let frame = Frame::Voice { round, epoch, counts, body: Bytes(&body) }.encode();
        if frame.len() <= limits::FRAME_BYTES_MAX {
            peer.hold(release, frame);
        }
        Ok(())
    }

    /// S5: what the home of a key says of a request is told once all that it knows of the key is known here.
    fn forwarded(
        &mut self,
        peer: &mut Peer,
        number: u64,
        verdict: Verdict,
        body: Bytes<'_>,
    ) -> Result<(), FrameError> {
        let Some(key) = self.forwards.key_of(number, peer.region) else {
            self.forwards.answered_late(number, peer, verdict);
            return Ok(());
        };
        let merged = if body.0.is_empty() {
            true
        } else if key_of(body)? == key {
            self.merge_one(peer, body)?
        } else {
            return Err(FrameError::OutOfOrder("an answer about another key than was asked"));
        };
        self.forwards.answered(number, Some(verdict).filter(|_| merged), self.wall_ms);
        Ok(())
    }

    /// Merges one record that came outside the log; false: not now, for a reason that passes.
    fn merge_one(&mut self, peer: &mut Peer, body: Bytes<'_>) -> Result<bool, FrameError> {
        if canary::planted(Bug::VoicesNotJoined) && !self.rounds.is_empty() {
            return Ok(true);
        }
        match self.store.merge(std::iter::once(body.0), peer.region, self.wall_ms, self.scratch) {
            Ok(merged) => {
                peer.applied += merged.applied as u64;
                Ok(true)
            }
            // The log brings it, once its link stalls no more.
            Err(MergeRefused::Ahead { .. } | MergeRefused::NoRoom) => Ok(false),
            Err(refused) => Err(refused.into()),
        }
    }

    fn repair(&mut self, peer: &mut Peer, of: &PartOf, bodies: Bodies<'_>) -> Result<(), FrameError> {
        let stalled = peer.link.as_ref().and_then(|link| link.stalled);
        let merged = if canary::planted(Bug::RetiredEntriesRefused) && self.tells_of_strangers(bodies.clone())
        {
            Some(Merged::default())
        } else {
            self.merge(peer, bodies)?
        };
        let Some(link) = &mut peer.link else { return Ok(()) };
        let Some(merged) = merged else {
            // The next comparison finds it again; the log goes on as it did, where it does.
            if link.comparing.behind.is_none() {
                link.stalled = stalled;
            }
            return Ok(());
        };
        if link.comparing.behind.is_some() {
            link.stalled = None;
        }
        if link.comparing.given(of, self.wall_ms) {
            peer.applied += merged.applied as u64;
        } else {
            peer.repaired += merged.applied as u64;
        }
        self.end_comparison(peer);
        Ok(())
    }

    /// Whether any of these records is a claim of a region that is no member (for a planted bug).
    fn tells_of_strangers(&self, mut bodies: Bodies<'_>) -> bool {
        let own = self.store.config().region;
        let strange = |region: RegionId| region != own && !self.config.peers.contains(&region);
        bodies.any(|body| match Record::decode(body) {
            Ok(Record::Entry(_, read)) => read
                .entry
                .unpack()
                .is_ok_and(|entry| entry.attempts.iter().any(|attempt| strange(attempt.id.region))),
            _ => false,
        })
    }

    /// A comparison that has come to its end may have brought us to a place in the peer's log.
    fn end_comparison(&self, peer: &mut Peer) {
        let Some(link) = &mut peer.link else { return };
        let Some(ended) = link.comparing.end_if_done(self.wall_ms) else { return };
        peer.compared_ms = Some(self.wall_ms);
        let Some(at) = ended.held else { return };
        link.comparing.behind = None;
        peer.compared_step = link.comparing.step.take().or(peer.compared_step);
        peer.fed_by_incomplete = peer.incomplete;
        // The log may have gone on meanwhile after all, and further.
        if peer.received.is_some_and(|have| have >= at) {
            return;
        }
        // Of what it holds, some came by other ways, and may not be durable yet.
        let tail = self.store.tail();
        let mut release = Release { written: tail.appended(), synced: tail.sync_wanted() };
        peer.received = Some(at);
        peer.fed_ms = self.wall_ms;
        release.join(self.log_cursor(peer, at));
        self.acknowledge(peer, at, release);
        self.note_progress(peer);
    }

    fn hello(&mut self, peer: &mut Peer, theirs: &Hello<'_>) -> Result<(), FrameError> {
        if theirs.cluster != self.config.cluster {
            let hex = |id: &[u8; 16]| format!("{:032x}", u128::from_be_bytes(*id));
            return Err(FrameError::Cluster {
                ours: hex(&self.config.cluster),
                theirs: hex(&theirs.cluster),
            });
        }
        if theirs.region != peer.region {
            let (announced, authenticated) = (theirs.region.0, peer.region.0);
            return Err(FrameError::Region { announced, authenticated });
        }
        if let Some(link) = &mut peer.link {
            // Each begins our stream anew.
            link.hellos += 1;
            if link.hellos > limits::HELLOS_A_LINK_MAX {
                return Err(FrameError::OutOfOrder("hello after hello"));
            }
        }
        self.membership(peer, theirs.membership, theirs.members)?;
        // Its stamps of ours may be ahead of what we remember after a loss (S6); but never believe a
        // peer beyond the drift bound (S2).
        let ahead_ms = theirs.newest_of_yours.ms().saturating_sub(self.wall_ms);
        if ahead_ms <= self.store.config().max_drift_ms {
            self.store.clock().observe(theirs.newest_of_yours);
        }
        self.check_copies(peer, theirs)?;
        peer.latest_start = (theirs.incarnation, theirs.epoch, theirs.began_ms);
        if peer.received.is_some_and(|have| have.incarnation != theirs.incarnation) {
            // Another life of its data: what we hold of the former stays, its log starts anew.
            peer.received = None;
            peer.queue(hello(self.config, self.memory, self.store, peer));
        }
        let start = self.start_of(theirs.have);
        let lsn = self.store.tail().written();
        let tip = Cursor { incarnation: self.store.config().incarnation, epoch: self.config.epoch, lsn };
        let mut sending = super::peer::Sending::new(start, theirs.have.unwrap_or_default(), tip);
        peer.acked_seq = start.unwrap_or(0);
        let (incarnation, epoch) = (theirs.incarnation, theirs.epoch);
        if let Some(link) = &mut peer.link {
            // A second hello starts over; acknowledgements of what the first brought are still under way.
            if let Some(before) = &link.sending {
                sending.sent_max = sending.sent_max.max(before.sent_max);
            }
            link.sending = Some(sending);
            link.their_tip = Cursor { incarnation, epoch, lsn: theirs.tip };
            link.stalled = None;
        }
        self.completeness(peer, theirs.incomplete);
        self.note_progress(peer);
        Ok(())
    }

    /// Whether the peer lacks data itself. What others have brought it since it fed us is in no log of its own, so once it
    /// lacks nothing any more, it is asked again.
    fn completeness(&self, peer: &mut Peer, incomplete: bool) {
        let whole_now = peer.incomplete && !incomplete;
        peer.incomplete = incomplete;
        let asked = peer.is_behind() && !whole_now;
        if self.memory.incomplete && peer.fed_by_incomplete && !incomplete && !asked {
            feed::ask_again(peer, self.wall_ms);
        }
    }

    /// S5: adjacent memberships link, and nothing else does.
    fn membership(&self, peer: &mut Peer, epoch: u64, members: Bytes<'_>) -> Result<(), FrameError> {
        let own = self.store.config().region;
        let known = peer.membership.as_ref().filter(|_| peer.is_linked());
        if known.is_some_and(|known| known.epoch() > epoch) {
            // It goes forward only while it runs: a frame from before, come late. To believe it would have us refuse our
            // next step for its sake, until the link breaks.
            return Ok(());
        }
        let theirs = Membership::read(epoch, members);
        Membership::of(self.config, own).links_with(own, &theirs)?;
        peer.membership = Some(theirs);
        Ok(())
    }

    /// Two daemons on copies of one data folder, or one on a copy that is older than what others have had
    /// from it: numbers would be used twice (INV-16). Whoever is behind is refused; of two that began alike,
    /// whoever comes second.
    fn check_copies(&self, peer: &Peer, theirs: &Hello<'_>) -> Result<(), FrameError> {
        let text = |incarnation: Incarnation, epoch: LogEpoch, lsn: Lsn| {
            format!("incarnation {}, log epoch {}, record {lsn}", incarnation.0, epoch.0)
        };
        let announced = (theirs.incarnation, theirs.epoch, theirs.began_ms);
        if is_older(announced, peer.latest_start) || has_lost(peer, theirs) {
            let (incarnation, epoch, _) = peer.latest_start;
            let known = text(incarnation, epoch, peer.received.map_or(0, |have| have.lsn));
            let announced = text(theirs.incarnation, theirs.epoch, theirs.tip);
            return Err(FrameError::OldCopy { known, announced });
        }
        let ours = (self.store.config().incarnation, self.config.epoch, self.memory.began_ms);
        let beyond = theirs.have.is_some_and(|have| self.is_beyond(have));
        if is_older(ours, theirs.latest_of_yours) || beyond {
            self.store.gate.set(Reason::OldCopy, true);
            let (incarnation, epoch, _) = theirs.latest_of_yours;
            let known = text(incarnation, epoch, theirs.have.map_or(0, |have| have.lsn));
            let ours = text(ours.0, ours.1, self.store.tail().written());
            return Err(FrameError::WeAreOldCopy { known, ours });
        }
        Ok(())
    }

    /// Whether a peer holds a record of this life that we do not have and never lost.
    fn is_beyond(&self, have: Cursor) -> bool {
        let epochs = &self.memory.epochs;
        let at = epochs.iter().position(|(epoch, _)| *epoch == have.epoch);
        let Some(at) = at.filter(|_| have.incarnation == self.store.config().incarnation) else {
            return false;
        };
        let end = epochs.get(at + 1).map_or(self.store.tail().appended(), |(_, first)| first - 1);
        have.lsn > end && !self.memory.torn_epochs.contains(&have.epoch)
    }

    /// Our record up to which a cursor of our log counts: sequences of an epoch that ended earlier
    /// than the peer believes were lost with an unsynced tail, and their numbers are used again (S6).
    /// `None`: the log cannot tell the peer what it lacks.
    fn start_of(&self, have: Option<Cursor>) -> Option<Lsn> {
        let have = have.filter(|have| have.incarnation == self.store.config().incarnation)?;
        let epochs = &self.memory.epochs;
        let at = epochs.iter().position(|(epoch, _)| *epoch == have.epoch)?;
        let end = epochs.get(at + 1).map_or(self.store.tail().written(), |(_, first)| first - 1);
        let start = have.lsn.min(end);
        (start + 1 >= self.memory.first_lsn).then_some(start)
    }

    fn records(
        &mut self,
        peer: &mut Peer,
        prev: Cursor,
        last: Cursor,
        bodies: Bytes<'_>,
    ) -> Result<(), FrameError> {
        if peer.received.unwrap_or_default() != prev && !canary::planted(Bug::CursorSkipsGap) {
            // Doubled, reordered, or after a lost one: the cursor tells, and a ping will mend it.
            return Ok(());
        }
        let empty = bodies.0.is_empty();
        check_advance(peer, prev, last)?;
        let author = Author { region: peer.region, incarnation: last.incarnation };
        let unpacked = stream::unpack(author, bodies)?;
        if canary::planted(Bug::CursorBeforeEntry) {
            peer.received = Some(last);
            let _ = self.log_cursor(peer, last);
        }
        let Some(merged) = self.merge(peer, Bodies::new(Bytes(&unpacked)))? else { return Ok(()) };
        peer.received = Some(last);
        peer.applied += merged.applied as u64;
        if let Some(link) = &mut peer.link {
            link.stalled = None;
            link.moved_ms = if empty { link.moved_ms } else { self.wall_ms };
        }
        let mut release = merged.release;
        if !empty {
            release.join(self.log_cursor(peer, last));
        }
        self.acknowledge(peer, last, release);
        self.note_progress(peer);
        Ok(())
    }

    /// Merges what a peer sent; `None`: not now, for a reason that passes.
    fn merge(&mut self, peer: &mut Peer, bodies: Bodies<'_>) -> Result<Option<Merged>, FrameError> {
        match self.store.merge(bodies, peer.region, self.wall_ms, self.scratch) {
            Ok(merged) => {
                let newest = self.memory.newest_stamps.entry(peer.region).or_default();
                *newest = merged.newest_of_sender.max(*newest);
                Ok(Some(merged))
            }
            Err(MergeRefused::Ahead { .. }) => {
                // S2: the link stalls; nothing acknowledged, nothing dropped, our clock does not move.
                peer.stall(Stall::Clock);
                Ok(None)
            }
            Err(MergeRefused::NoRoom) => {
                // S6: likewise, until the disk has room again.
                peer.stall(Stall::NoRoom);
                Ok(None)
            }
            Err(refused) => Err(refused.into()),
        }
    }

    fn log_cursor(&self, peer: &Peer, cursor: Cursor) -> Release {
        let lsn = self.store.append_record(&Record::Cursor(peer.region, cursor), Durable::Interval);
        Release { written: lsn, synced: 0 }
    }

    fn acknowledge(&self, peer: &mut Peer, upto: Cursor, release: Release) {
        let Some(link) = &mut peer.link else { return };
        if link.acks.len() >= limits::PEER_ACKS_PENDING_MAX
            && let Some(last) = link.acks.back_mut()
        {
            last.0 = upto;
            last.1.join(release);
            return;
        }
        link.acks.push_back((upto, release));
    }

    /// Whether we now hold all that the peer had when the link came up.
    fn note_progress(&self, peer: &mut Peer) {
        let Some(link) = &peer.link else { return };
        let received = peer.received.unwrap_or_default();
        let tip = link.their_tip;
        let level = received.incarnation == tip.incarnation && received >= tip;
        // An empty log has nothing to catch up with.
        if !level && tip.lsn > 0 {
            return;
        }
        peer.caught_up = true;
    }

    fn ack(&mut self, peer: &mut Peer, upto: Cursor, resend: bool) -> Result<(), FrameError> {
        let start = self.start_of(Some(upto));
        let ours = upto.incarnation == self.store.config().incarnation;
        let Some(sending) = peer.link.as_mut().and_then(|link| link.sending.as_mut()) else {
            return Ok(());
        };
        if ours && upto > sending.sent_max {
            return Err(FrameError::OutOfOrder("an acknowledgement of what was never sent"));
        }
        if ours && !resend {
            sending.acknowledged(upto);
            if upto.epoch == self.config.epoch {
                peer.acked_seq = peer.acked_seq.max(upto.lsn);
            }
        }
        // It was behind, and holds what the map held when the log stood there.
        let fed = ours && sending.behind && upto > sending.chain;
        if resend || fed {
            sending.rewind(start, upto);
        }
        Ok(())
    }

    fn ask_resend(&self, peer: &mut Peer) {
        let upto = peer.received.unwrap_or_default();
        let Some(link) = &mut peer.link else { return };
        let pause_ms = if link.stalled.is_some() { RESEND_STALLED_EVERY_MS } else { RESEND_EVERY_MS };
        if self.wall_ms.abs_diff(link.last_resend_ms) < pause_ms {
            return;
        }
        link.last_resend_ms = self.wall_ms;
        peer.queue(Frame::Ack { upto, resend: true }.encode());
    }
}

/// The key that a round is about.
fn key_of(body: Bytes<'_>) -> Result<&[u8], FrameError> {
    match Record::decode(body.0) {
        Ok(Record::Entry(_, read)) => Ok(read.key.0),
        _ => Err(FrameError::OutOfOrder("a round about no key")),
    }
}

/// A stream moves on, in the life and log epoch that its hello named. A cursor from nowhere would be kept over restarts,
/// and the region that owns the log be refused as an older copy of itself.
fn check_advance(peer: &Peer, prev: Cursor, last: Cursor) -> Result<(), FrameError> {
    let Some(link) = &peer.link else { return Ok(()) };
    let tip = link.their_tip;
    let named = (last.incarnation, last.epoch) == (tip.incarnation, tip.epoch);
    let back = prev.incarnation == last.incarnation && prev.epoch == last.epoch && last.lsn < prev.lsn;
    if named && !back {
        Ok(())
    } else {
        Err(FrameError::OutOfOrder("a cursor that its hello does not allow"))
    }
}

/// Whether one start of a region comes before another that was met, or beside it: two daemons on copies of one
/// folder open the same epoch, but not in the same millisecond.
fn is_older(start: (Incarnation, LogEpoch, u64), met: (Incarnation, LogEpoch, u64)) -> bool {
    let beside = (start.0, start.1) == (met.0, met.1) && met.2 != 0 && start.2 != met.2;
    (start.0, start.1) < (met.0, met.1) || beside
}

/// Whether a peer announces less of its log than we hold of it, and no power loss explains that.
fn has_lost(peer: &Peer, theirs: &Hello<'_>) -> bool {
    // A hello that arrives again on one link is the same daemon's, and what it announced has moved on.
    let have = peer.received.filter(|have| have.incarnation == theirs.incarnation);
    have.filter(|_| !peer.is_linked()).is_some_and(|have| {
        have.epoch == theirs.epoch && have.lsn > theirs.tip
            || have.epoch < theirs.epoch && have.lsn >= theirs.epoch_first && !theirs.torn
    })
}
