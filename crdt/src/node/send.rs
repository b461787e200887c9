//! What leaves for one peer: control frames first, then the log from the peer's cursor on.

use super::feed;
use super::membership::Membership;
use super::peer::{DiskRead, Link, Peer, Sending};
use super::{LinkId, NodeConfig, NodeMemory, Pacing};
use crate::canary::{self, Bug};
use crate::entry::Bytes;
use crate::ids::{Cursor, Lsn};
use crate::journal::{self, Origin, Records};
use crate::limits;
use crate::store::{Release, RingRead, Store, StoreConfig};
use crate::wire::stream::{Author, Packer};
use crate::wire::{Bodies, Frame, Hello};

/// Our hello to `peer`.
pub(super) fn hello(config: &NodeConfig, memory: &NodeMemory, store: &Store, peer: &Peer) -> Vec<u8> {
    let membership = Membership::of(config, store.config().region);
    let newest_of_yours = memory.newest_stamps.get(&peer.region).copied().unwrap_or_default();
    Frame::Hello(Hello {
        cluster: config.cluster,
        region: store.config().region,
        name: &config.name,
        incarnation: store.config().incarnation,
        epoch: config.epoch,
        membership: membership.epoch(),
        have: peer.received,
        tip: store.tail().written(),
        newest_of_yours,
        epoch_first: memory.epochs.last().map_or(1, |(_, first)| *first),
        torn: !memory.torn_epochs.is_empty(),
        incomplete: memory.incomplete,
        began_ms: memory.began_ms,
        latest_of_yours: peer.latest_start,
        members: Bytes(&membership.region_bytes()),
    })
    .encode()
}

/// The next frame for `peer`, if any may leave.
pub(super) fn next_frame(
    config: &NodeConfig,
    peer: &mut Peer,
    store: &Store,
    pacing: &mut Pacing,
) -> Option<(LinkId, Vec<u8>)> {
    let id = peer.link_id()?;
    // Asked after every event, for every peer: mostly there is nothing.
    let link = peer.link.as_mut()?;
    if !link.may_send(store) {
        link.compared = false;
        return None;
    }
    release_acks(peer, store);
    let link = peer.link.as_mut()?;
    let mut left = None;
    let held = |link: &mut Link| {
        let may = link.held.front().is_some_and(|(release, _)| store.tail().may_release(release));
        if may { link.held.pop_front().map(|(_, frame)| frame) } else { None }
    };
    let first = link.control.pop_front().or_else(|| link.errands.next(store)).or_else(|| held(link));
    let frame = first.or_else(|| {
        // By turns: neither waits for the other.
        let first = if link.compared { None } else { link.comparing.next_frame(store) };
        link.compared = first.is_some();
        let records = |sending: &mut Sending| {
            let frame = next_records(config, sending, store);
            left = frame.is_some().then(|| sending.left(store));
            frame
        };
        first.or_else(|| link.sending.as_mut().and_then(records)).or_else(|| link.comparing.next_frame(store))
    })?;
    pacing.frame(frame.len(), left);
    peer.bytes_out += frame.len() as u64;
    Some((id, frame))
}

impl Link {
    /// False: there is nothing that could leave, whatever is durable.
    pub(super) fn may_send(&self, store: &Store) -> bool {
        let Self { control, acks, held, errands, comparing, sending, .. } = self;
        !(control.is_empty() && acks.is_empty() && held.is_empty() && errands.is_empty())
            || comparing.has_work()
            || sending.as_ref().is_some_and(|sending| sending.has_work(store))
    }
}

/// Acknowledges what has become durable; the last such cursor says it all.
fn release_acks(peer: &mut Peer, store: &Store) {
    let Some(link) = &mut peer.link else { return };
    let mut upto = None;
    while let Some((cursor, release)) = link.acks.front()
        && (store.tail().may_release(release) || canary::planted(Bug::AcksBeforeWritten))
    {
        upto = Some(*cursor);
        link.acks.pop_front();
    }
    if let Some(upto) = upto {
        link.last_ack = Some(upto);
        peer.queue(Frame::Ack { upto, resend: false }.encode());
    }
}

/// The next records from where the peer stands, as one frame.
fn next_records(config: &NodeConfig, sending: &mut Sending, store: &Store) -> Option<Vec<u8>> {
    if sending.behind {
        return feed::next_frame(config, sending, store);
    }
    if sending.under_way_bytes >= limits::PEER_WINDOW_BYTES_MAX {
        return None;
    }
    if !sending.has_work(store) {
        return None;
    }
    let &StoreConfig { region, incarnation, .. } = store.config();
    let mut packer = Packer::new(Author { region, incarnation });
    let mut bodies = Vec::new();
    let mut count = 0;
    while bodies.len() < limits::FRAME_BYTES_TARGET && count < limits::FRAME_RECORDS_MAX {
        let Some(body) = sending.next_body(store) else { break };
        // What was merged travels from where it was decided.
        if journal::streamed(body) == Some(Origin::Own) {
            packer.push(body, &mut bodies);
            count += 1;
        }
    }
    let waits = sending.waits();
    sending.announce = false;
    if count == 0 && !waits {
        return None;
    }
    let last = Cursor { incarnation, epoch: config.epoch, lsn: sending.read };
    Some(sending.records(last, sending.left(store), &bodies))
}

impl Sending {
    /// For a peer that holds our log up to `start` by its own word `have`; `None`: the log cannot bring it on.
    pub(super) fn new(start: Option<Lsn>, have: Cursor, tip: Cursor) -> Self {
        Self {
            read: start.unwrap_or(0),
            chain: have,
            under_way: Default::default(),
            under_way_bytes: 0,
            behind: start.is_none(),
            told: false,
            tip,
            announce: false,
            sent_max: have,
            source: None,
            disk: None,
        }
    }

    /// A frame without records only moves the cursor: sent when the peer waits to hear of our tip, and now and then so that
    /// it does not seem to lag behind records that do not travel.
    fn waits(&self) -> bool {
        self.announce || (self.chain < self.tip && self.read >= self.tip.lsn)
    }

    /// Something is left to be told, whether it may leave or not.
    fn has_work(&self, store: &Store) -> bool {
        self.behind || self.left(store) > 0 || self.waits()
    }

    /// Records that the peer is still to be told of.
    pub(super) fn left(&self, store: &Store) -> u64 {
        store.tail().written().saturating_sub(self.read)
    }

    /// The frame that brings the peer to `last`, where `left` records follow.
    pub(super) fn records(&mut self, last: Cursor, left: u64, bodies: &[u8]) -> Vec<u8> {
        let frame = Frame::Records { prev: self.chain, last, left, bodies: Bytes(bodies) }.encode();
        self.chain = last;
        self.sent_max = self.sent_max.max(last);
        self.under_way.push_back((last, frame.len()));
        self.under_way_bytes += frame.len();
        frame
    }

    /// The next record's body, if it may leave; asks for a read from disk where the ring
    /// has moved on.
    fn next_body(&mut self, store: &Store) -> Option<&[u8]> {
        if self.disk.is_some() {
            return None;
        }
        let wanted = self.read + 1;
        if self.source.as_ref().is_none_or(|(batch, _)| batch.last < wanted) {
            match store.tail().read(wanted) {
                RingRead::Batch(batch) => {
                    self.source = Some((batch, 0));
                    self.seek(wanted);
                }
                RingRead::Nothing => return None,
                RingRead::Behind => {
                    self.disk = Some(DiskRead::Wanted(wanted));
                    return None;
                }
            }
        }
        let (batch, offset) = self.source.as_mut()?;
        // What comes from disk may hold records that are to be synced first (INV-8).
        if !store.tail().may_release(&Release { written: batch.last, synced: batch.sync_to }) {
            return None;
        }
        let mut records = Records::new(&batch.bytes[*offset..]);
        let body = records.next_body().ok()?;
        *offset += records.offset();
        self.read = wanted;
        Some(body)
    }

    /// Skips to record `wanted` of the source.
    pub(super) fn seek(&mut self, wanted: Lsn) {
        let Some((batch, offset)) = &mut self.source else { return };
        let mut records = Records::new(&batch.bytes);
        for _ in batch.first..wanted {
            if records.next_body().is_err() {
                break;
            }
        }
        *offset = records.offset();
    }

    /// The peer holds all up to `upto` durably.
    pub(super) fn acknowledged(&mut self, upto: Cursor) {
        while let Some(&(cursor, bytes)) = self.under_way.front()
            && cursor <= upto
        {
            self.under_way_bytes -= bytes;
            self.under_way.pop_front();
        }
    }

    /// Starts over from `read`, where the peer stands at `chain`; `None`: the log cannot bring it on.
    pub(super) fn rewind(&mut self, read: Option<Lsn>, chain: Cursor) {
        self.read = read.unwrap_or(0);
        self.behind = read.is_none();
        self.told = false;
        self.chain = chain;
        self.source = None;
        self.disk = None;
        self.under_way.clear();
        self.under_way_bytes = 0;
    }
}

/// Bytes of a frame beside its bodies, at most.
const FRAME_OVERHEAD_BYTES: usize = 128;

/// How many of these bytes go into one frame: whole bodies, and at least one if there is any.
pub(super) fn frame_len(bodies: &[u8]) -> usize {
    let mut len = 0;
    let mut walk = Bodies::new(Bytes(bodies));
    for _ in 0..limits::FRAME_RECORDS_MAX {
        if walk.next().is_none() {
            break;
        }
        let with = bodies.len() - walk.left();
        // The state of a contested key may be as large as a body can be.
        if len > 0 && with > limits::FRAME_BYTES_MAX - FRAME_OVERHEAD_BYTES {
            break;
        }
        len = with;
        if len >= limits::FRAME_BYTES_TARGET {
            break;
        }
    }
    len
}
