//! Feeding a peer that the log cannot feed: one that starts from nothing, or from before the log's start.
//!
//! It is sent everything the map holds, shard by shard, and then the log from where that began. Whatever
//! arrives twice is joined twice. The frames count up in log epoch 0, which no log ever has, so that a lost
//! one is noticed as in the stream; a break starts over, with numbers of its own: a frame of the second walk
//! must not fit behind one of the first, which held other keys.

use super::NodeConfig;
use super::peer::Sending;
use crate::conflict::ConflictId;
use crate::entry::Bytes;
use crate::ids::{Cursor, LogEpoch};
use crate::limits;
use crate::store::{Release, Store};
use crate::wire::Bodies;

/// How far the map has been walked for one peer.
#[derive(Debug, Default)]
pub(super) struct StateWalk {
    begun: bool,
    /// The next shard; behind the last come the conflicts, page by page, and then nothing.
    shard: usize,
    conflicts_after: Option<ConflictId>,
    /// What one shard held, and what of it was sent.
    bodies: Vec<u8>,
    at: usize,
    release: Release,
    number: u64,
    frames: u64,
}

/// Bits of a frame's number in its cursor, and above them of the walk's; the rest is the log's epoch.
const FRAME_BITS: u32 = 24;
const WALK_BITS: u32 = 20;

impl StateWalk {
    /// The `number`th walk for a peer since the process started.
    pub(super) fn new(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    fn cursor_lsn(&self, epoch: LogEpoch) -> u64 {
        let walk = self.number & ((1 << WALK_BITS) - 1);
        let frame = self.frames & ((1 << FRAME_BITS) - 1);
        u64::from(epoch.0) << (WALK_BITS + FRAME_BITS) | walk << FRAME_BITS | frame
    }

    /// The next part of what the map holds, until something is there to be sent or everything was.
    fn refill(&mut self, store: &Store) {
        while self.at == self.bodies.len() && self.shard <= store.shards() {
            self.at = 0;
            if self.shard < store.shards() {
                (self.bodies, self.release) = store.state_bodies(self.shard);
            } else {
                let after = self.conflicts_after.take();
                (self.bodies, self.release, self.conflicts_after) = store.conflict_bodies(after.as_ref());
            }
            self.shard += usize::from(self.conflicts_after.is_none());
        }
    }
}

/// The next frame of the walk; behind the last, the one that moves the peer's cursor to where the walk
/// began. `None`: nothing may leave yet.
pub(super) fn next_frame(config: &NodeConfig, sending: &mut Sending, store: &Store) -> Option<Vec<u8>> {
    let walk = sending.state.as_mut()?;
    if !walk.begun {
        walk.begun = true;
        // Everything up to here is in the map.
        sending.read = store.tail().appended();
    }
    walk.refill(store);
    let incarnation = store.config().incarnation;
    if walk.at == walk.bodies.len() {
        if store.tail().written() < sending.read {
            return None;
        }
        let last = Cursor { incarnation, epoch: config.epoch, lsn: sending.read };
        sending.state = None;
        return Some(sending.records(last, &[]));
    }
    if !store.tail().may_release(&walk.release) {
        return None;
    }
    let upto = walk.at + frame_len(&walk.bodies[walk.at..]);
    let bodies = walk.bodies[walk.at..upto].to_vec();
    walk.at = upto;
    walk.frames += 1;
    let last = Cursor { incarnation, epoch: LogEpoch(0), lsn: walk.cursor_lsn(config.epoch) };
    Some(sending.records(last, &bodies))
}

/// Bytes of a frame beside its bodies, at most.
const FRAME_OVERHEAD_BYTES: usize = 128;

/// How many of these bytes go into one frame: whole bodies, and at least one.
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
