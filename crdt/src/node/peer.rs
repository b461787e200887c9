//! One peer: its link, what we hold of its log, what it holds of ours.

use std::collections::VecDeque;
use std::sync::Arc;

use super::forwards::ErrandQueue;
use super::lag::Lag;
use super::membership::Membership;
use super::reconcile::Comparing;
use super::{LinkId, LogRead, ReadRequest};
use crate::ids::{Cursor, Incarnation, LogEpoch, Lsn, RegionId};
use crate::limits;
use crate::store::{Batch, Release};
use crate::wire::Frame;

/// How a peer's link stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// Both hellos are through.
    Linked,
    /// No link, or its hello is awaited.
    Connecting,
    /// An operator has cut it.
    Cut,
    /// Its clock runs too far ahead of ours: nothing it sends is merged (S2).
    Stalled,
    /// Our log's disk is full and its reserve used up: nothing it sends is merged (S6).
    NoRoom,
}

impl LinkState {
    /// The word in PEERS.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Connecting => "connecting",
            Self::Cut => "cut",
            Self::Stalled => "stalled",
            Self::NoRoom => "disk_full",
        }
    }
}

/// What PEERS and the metrics show of one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerView {
    /// Which region.
    pub region: RegionId,
    /// How the link stands.
    pub state: LinkState,
    /// Best round trip of the last pings, in milliseconds.
    pub rtt_ms: Option<u64>,
    /// Its wall clock less ours, in milliseconds.
    pub offset_ms: Option<i64>,
    /// Records of our log that it has not acknowledged.
    pub lag_records: u64,
    /// How long ago the oldest of these was written as of the last tick, in milliseconds, to a tick's interval; 0 where there are none.
    pub lag_ms: u64,
    /// Our record up to which it holds everything durably.
    pub acked_seq: Lsn,
    /// Its record up to which we hold everything.
    pub received_seq: Lsn,
    /// Bytes of frames sent to it, over all links.
    pub bytes_out: u64,
    /// Bytes of frames received from it, over all links.
    pub bytes_in: u64,
    /// When it was last heard, Unix milliseconds.
    pub last_heard_ms: Option<u64>,
    /// The epoch of its membership, as it last said.
    pub membership: Option<u64>,
    /// Frames refused.
    pub refused: u64,
    /// Records merged that told us something new.
    pub applied: u64,
    /// When both were last compared, Unix milliseconds.
    pub compared_ms: Option<u64>,
    /// Records that only a comparison brought us: in a healthy steady state none.
    pub repaired: u64,
    /// Its log cannot bring us on from where we stand: we ask it for what we lack.
    pub behind: bool,
    /// When we last came to hold all that it held, by asking, Unix milliseconds.
    pub fed_ms: Option<u64>,
}

/// What we send, while a link is up.
#[derive(Debug)]
pub(super) struct Sending {
    /// The last record read for this peer, sent or left out.
    pub(super) read: Lsn,
    /// The cursor the peer will stand at once it has all that was sent.
    pub(super) chain: Cursor,
    /// Frames under way: the cursor that each brings the peer to, and its bytes.
    pub(super) under_way: VecDeque<(Cursor, usize)>,
    pub(super) under_way_bytes: usize,
    /// The log cannot bring the peer on from where it stands.
    pub(super) behind: bool,
    /// It was told so since the last ping.
    pub(super) told: bool,
    /// Our tip as the peer's hello found it: it is told when it has reached it.
    pub(super) tip: Cursor,
    /// The cursor is to be moved over records that do not travel, although there are none that do.
    pub(super) announce: bool,
    /// The furthest cursor sent on this link: acknowledgements beyond it are lies.
    pub(super) sent_max: Cursor,
    /// Where reading stands in a batch: its bytes' offset.
    pub(super) source: Option<(Arc<Batch>, usize)>,
    /// A read from disk: wanted, or under way.
    pub(super) disk: Option<DiskRead>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DiskRead {
    Wanted(Lsn),
    UnderWay(Lsn),
}

/// Why what a linked peer sends is not merged: nothing is acknowledged, nothing dropped, and it is sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stall {
    Clock,
    NoRoom,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) control: VecDeque<Vec<u8>>,
    /// `None` until its hello.
    pub(super) sending: Option<Sending>,
    /// Its tip as of its hello.
    pub(super) their_tip: Cursor,
    pub(super) last_ping_ms: u64,
    pub(super) last_resend_ms: u64,
    pub(super) stalled: Option<Stall>,
    /// When it came up, and when it last brought records (at first: when it came up), Unix milliseconds.
    pub(super) since_ms: u64,
    pub(super) moved_ms: u64,
    /// Hellos that it has brought.
    pub(super) hellos: u64,
    /// Acknowledgements that wait for their durability.
    pub(super) acks: VecDeque<(Cursor, Release)>,
    /// The last acknowledgement that left, to be said again in case it was lost.
    pub(super) last_ack: Option<Cursor>,
    /// Frames of rounds that wait for the durability of what they say.
    pub(super) held: VecDeque<(Release, Vec<u8>)>,
    /// Requests for the homes of their keys, and answers.
    pub(super) errands: ErrandQueue,
    /// Anti-entropy over this link.
    pub(super) comparing: Comparing,
    /// The last frame was a comparison's: the log's turn.
    pub(super) compared: bool,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) region: RegionId,
    pub(super) link: Option<Link>,
    /// How far we hold its log.
    pub(super) received: Option<Cursor>,
    pub(super) caught_up: bool,
    /// It lacks data that it should have, as it last said.
    pub(super) incomplete: bool,
    /// It did when we asked it for what we lack: that it gave us all says little.
    pub(super) fed_by_incomplete: bool,
    /// The latest start of it that we have met, and when that began; 0: not known any more.
    pub(super) latest_start: (Incarnation, LogEpoch, u64),
    /// As it last said.
    pub(super) membership: Option<Membership>,
    /// Everything was compared with it after both had made this step of the membership.
    pub(super) compared_step: Option<u64>,
    /// When it was added to a running node, Unix milliseconds; else 0.
    pub(super) since_ms: u64,
    cut: bool,
    pub(super) acked_seq: Lsn,
    pub(super) samples: VecDeque<super::clocks::Sample>,
    last_heard_ms: Option<u64>,
    pub(super) bytes_out: u64,
    bytes_in: u64,
    refused: u64,
    pub(super) applied: u64,
    pub(super) compared_ms: Option<u64>,
    pub(super) repaired: u64,
    /// When we last came to hold all that it held, by a comparison, Unix milliseconds.
    pub(super) fed_ms: u64,
    pub(super) lag: Lag,
}

impl Peer {
    pub(super) fn new(region: RegionId, received: Option<Cursor>) -> Self {
        Self {
            region,
            link: None,
            received,
            caught_up: false,
            incomplete: false,
            fed_by_incomplete: false,
            latest_start: received.map_or_else(Default::default, |have| (have.incarnation, have.epoch, 0)),
            membership: None,
            compared_step: None,
            since_ms: 0,
            cut: false,
            acked_seq: 0,
            samples: VecDeque::new(),
            last_heard_ms: None,
            bytes_out: 0,
            bytes_in: 0,
            refused: 0,
            applied: 0,
            compared_ms: None,
            repaired: 0,
            fed_ms: 0,
            lag: Lag::default(),
        }
    }

    /// A region that was no peer before.
    pub(super) fn added(region: RegionId, wall_ms: u64) -> Self {
        Self { since_ms: wall_ms, ..Self::new(region, None) }
    }

    pub(super) fn open(&mut self, id: LinkId, wall_ms: u64) {
        self.link = Some(Link {
            id,
            control: VecDeque::new(),
            sending: None,
            their_tip: Cursor::default(),
            last_ping_ms: wall_ms,
            last_resend_ms: 0,
            stalled: None,
            since_ms: wall_ms,
            moved_ms: wall_ms,
            hellos: 0,
            acks: VecDeque::new(),
            last_ack: None,
            held: VecDeque::new(),
            errands: ErrandQueue::default(),
            comparing: Comparing::default(),
            compared: false,
        });
    }

    pub(super) fn close(&mut self) {
        self.link = None;
        self.samples.clear();
    }

    pub(super) fn link_id(&self) -> Option<LinkId> {
        if self.cut { None } else { self.link.as_ref().map(|link| link.id) }
    }

    pub(super) fn comparing(&mut self) -> Option<&mut Comparing> {
        self.link.as_mut().map(|link| &mut link.comparing)
    }

    /// Whether its log cannot bring us on from where we stand.
    pub(super) fn is_behind(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.comparing.behind.is_some())
    }

    /// The same, and others wait for it.
    pub(super) fn is_being_fed(&self, wall_ms: u64) -> bool {
        let behind = self.link.as_ref().and_then(|link| link.comparing.behind);
        behind.is_some_and(|behind| wall_ms.abs_diff(behind.since_ms) < limits::FEED_ALONE_MS_MAX)
    }

    pub(super) fn is_linked(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.sending.is_some())
    }

    /// Linked, and at the same membership.
    pub(super) fn is_at(&self, epoch: u64) -> bool {
        self.is_linked() && self.membership.as_ref().is_some_and(|theirs| theirs.epoch() == epoch)
    }

    /// Whether we hold all that it held, and it lacked nothing.
    pub(super) fn has_made_whole(&self) -> bool {
        self.caught_up && !self.incomplete && !self.fed_by_incomplete
    }

    pub(super) fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// Its log is on its way: what it had when the link came up is not all here, and arrives.
    pub(super) fn is_catching_up(&self, wall_ms: u64) -> bool {
        let Some(link) = self.link.as_ref().filter(|link| link.sending.is_some()) else { return false };
        let received = self.received.unwrap_or_default();
        let behind = received.incarnation != link.their_tip.incarnation || received < link.their_tip;
        let moves = wall_ms.abs_diff(link.moved_ms) < limits::CATCH_UP_SILENT_MS;
        // Whatever it announces, others wait only so long.
        let patient = wall_ms.abs_diff(link.since_ms) < limits::COMPARE_AFTER_CATCH_UP_MS;
        behind && link.their_tip.lsn > 0 && moves && patient && link.stalled.is_none()
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    pub(super) fn set_cut(&mut self, cut: bool) {
        self.cut = cut;
        if cut {
            self.close();
        }
    }

    pub(super) fn last_heard_ms(&self) -> Option<u64> {
        self.last_heard_ms
    }

    pub(super) fn heard(&mut self, bytes: usize, wall_ms: u64) {
        self.bytes_in += bytes as u64;
        self.last_heard_ms = Some(wall_ms);
    }

    pub(super) fn count_refused(&mut self) {
        self.refused += 1;
    }

    /// A frame was not merged for a reason that passes.
    pub(super) fn stall(&mut self, why: Stall) {
        if let Some(link) = &mut self.link {
            link.stalled = Some(why);
        }
        self.count_refused();
    }

    /// Puts a control frame before all records. Pings and acknowledgements supersede each other, so
    /// the oldest may go when a link does not move.
    pub(super) fn queue(&mut self, frame: Vec<u8>) {
        if let Some(link) = &mut self.link {
            if link.control.len() >= limits::PEER_OUTBOX_FRAMES_MAX {
                link.control.remove(1);
            }
            link.control.push_back(frame);
        }
    }

    /// A frame of a round, to leave once `release` is reached.
    pub(super) fn hold(&mut self, release: Release, frame: Vec<u8>) {
        let Some(link) = self.link.as_mut().filter(|link| link.sending.is_some()) else { return };
        if link.held.len() < limits::VOICES_MAX {
            link.held.push_back((release, frame));
        }
    }

    pub(super) fn ping(&mut self, incomplete: bool, wall_ms: u64) {
        let Some(link) = &mut self.link else { return };
        let Some(sending) = &mut link.sending else { return };
        // A wall clock that steps back must not silence us.
        if wall_ms.abs_diff(link.last_ping_ms) < limits::PING_EVERY_MS {
            return;
        }
        link.last_ping_ms = wall_ms;
        // Not at every such record: the peer's acknowledgement is worth a frame now and then only.
        sending.announce = sending.read > sending.chain.lsn;
        sending.told = false;
        let ping = Frame::Ping { at_ms: wall_ms, sent: sending.chain, incomplete }.encode();
        self.queue(ping);
    }

    pub(super) fn wanted_read(&mut self) -> Option<ReadRequest> {
        let sending = self.link.as_mut()?.sending.as_mut()?;
        let Some(DiskRead::Wanted(from)) = sending.disk else { return None };
        sending.disk = Some(DiskRead::UnderWay(from));
        Some(ReadRequest { peer: self.region, from })
    }

    pub(super) fn feed(&mut self, from: Lsn, read: LogRead) {
        let Some(sending) = self.link.as_mut().and_then(|link| link.sending.as_mut()) else { return };
        if sending.disk != Some(DiskRead::UnderWay(from)) {
            return;
        }
        sending.disk = None;
        match read {
            LogRead::Records(batch) => {
                if batch.first <= from && batch.last >= from {
                    sending.source = Some((batch, 0));
                    sending.seek(from);
                }
            }
            // What was before is in the map.
            LogRead::StartsAt(first) if first > from => sending.rewind(None, sending.chain),
            LogRead::StartsAt(_) => {}
        }
    }

    pub(super) fn cursor(&self) -> Option<(RegionId, Cursor)> {
        Some((self.region, self.received?))
    }

    pub(super) fn view(&self, tip: Lsn) -> PeerView {
        let best = self.samples.iter().min_by_key(|sample| sample.rtt_ms);
        let state = match &self.link {
            _ if self.cut => LinkState::Cut,
            Some(Link { stalled: Some(Stall::Clock), .. }) => LinkState::Stalled,
            Some(Link { stalled: Some(Stall::NoRoom), .. }) => LinkState::NoRoom,
            Some(link) if link.sending.is_some() => LinkState::Linked,
            _ => LinkState::Connecting,
        };
        PeerView {
            region: self.region,
            state,
            rtt_ms: best.map(|sample| sample.rtt_ms),
            offset_ms: best.map(|sample| sample.offset_ms),
            lag_records: tip.saturating_sub(self.acked_seq),
            lag_ms: if self.acked_seq >= tip { 0 } else { self.lag.ms(self.acked_seq) },
            acked_seq: self.acked_seq,
            received_seq: self.received.map_or(0, |cursor| cursor.lsn),
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            last_heard_ms: self.last_heard_ms,
            membership: self.membership.as_ref().map(Membership::epoch),
            refused: self.refused,
            applied: self.applied,
            compared_ms: self.compared_ms,
            repaired: self.repaired,
            behind: self.is_behind(),
            fed_ms: (self.fed_ms > 0).then_some(self.fed_ms),
        }
    }
}
