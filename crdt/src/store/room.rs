//! How much more of the log the disk is sure to take, and who may still use it (S6: disk full).
//!
//! The daemon keeps files allocated ahead of the log and reports two facts: how much each of them still takes, and
//! whether the disk has refused to give another. What follows from them is decided here:
//!
//! ```text
//! state      claims       COMPLETE RENEW RELEASE FORGET, merges      reads
//! Free       granted      go on                                      go on
//! Reserve    refused      go on, each with room set aside for it     go on
//! Exhausted  refused      refused before anything is recorded        go on
//! ```
//! Room is counted in bytes of log since the start of the process, so that appends between a look at the files and
//! the report of it do no harm. While the disk is not full nothing is set aside: the hot path reads one word.
//!
//! A little room is never given to operations ([`limits::LOG_ROOM_LAST_BYTES`]): the clock's ceilings must go on, and
//! a merge may list more double executions than were foreseen.
//!
//! Rejected: to find out by a failing write. By then an operation is decided, its state is in the map and others
//! have seen it, so that neither "done" nor "nothing was recorded" could be said.
//!
//! Must never: let an operation be decided whose records may not fit.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Store;
use crate::journal;
use crate::limits;
use crate::request::{Reason, Request};

/// See the module's text.
#[derive(Debug)]
pub(super) struct LogRoom {
    /// The log may grow to so many charged bytes.
    promised: AtomicU64,
    /// Set aside by operations that are being decided.
    reserved: AtomicU64,
    /// The largest record that the files take, framed.
    largest: AtomicU64,
}

impl Default for LogRoom {
    /// Nobody has reported: no bound is known.
    fn default() -> Self {
        let unbounded = || AtomicU64::new(u64::MAX);
        Self { promised: unbounded(), reserved: AtomicU64::new(0), largest: unbounded() }
    }
}

/// Who may still write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoomState {
    /// Everybody: the disk has room.
    Free,
    /// Everybody but claims: the disk is full, the reserve is not used up.
    Reserve,
    /// Nobody, save perhaps an operation that is smaller than most.
    Exhausted,
}

/// How the log's room stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Who may still write.
    pub state: RoomState,
    /// Bytes of log that allocated files are sure to take; `None` before the first report.
    pub bytes: Option<u64>,
}

/// What one request or frame may append.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct RoomNeed {
    charged: u64,
    largest: u64,
}

/// The room asked for is not there.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoRoom;

/// Room set aside until its operation has appended what it had to.
#[derive(Debug)]
#[must_use = "room is given back when this is dropped"]
pub(super) struct SetAside<'s> {
    room: &'s LogRoom,
    charged: u64,
}

impl Drop for SetAside<'_> {
    fn drop(&mut self) {
        if self.charged > 0 {
            self.room.reserved.fetch_sub(self.charged, Ordering::AcqRel);
        }
    }
}

impl RoomNeed {
    fn record(&mut self, bytes: u64) {
        self.charged += journal::charge(bytes as usize);
        self.largest = self.largest.max(bytes);
    }

    /// A double execution of `key`, which stands in it once.
    pub(super) fn conflict(&mut self, key: &[u8]) {
        self.record(key.len() as u64 + limits::LOG_RECORD_OVERHEAD_BYTES);
    }

    /// One record of a peer's frame; it is logged about as it came, and a cursor for all of them.
    pub(super) fn merged(&mut self, body: &[u8]) {
        self.record((body.len() + MERGED_OVERHEAD_BYTES) as u64);
    }
}

/// Bytes that a merged record may take in the log beside its body: its framing, and lengths encoded anew.
const MERGED_OVERHEAD_BYTES: usize = 64;

impl Store {
    /// The files allocated for the log, in the order in which they will be written, still take `left_bytes` each;
    /// `full`: the disk has refused to give another. To be called by the log's writer, with nothing taken from the
    /// tail that is not written.
    pub fn report_room(&self, left_bytes: impl IntoIterator<Item = u64>, full: bool) {
        let (mut sure, mut last, mut largest) = (0u64, 0u64, 0u64);
        for left in left_bytes {
            // Where the next record does not fit, the rest of the file before it stays unused.
            sure += last.saturating_sub(limits::LOG_RECORD_SMALL_BYTES);
            last = left;
            largest = largest.max(left);
        }
        self.room.promised.store(self.tail.taken_charged() + sure + last, Ordering::Release);
        self.room.largest.store(largest, Ordering::Release);
        self.gate.set(Reason::DiskFull, full);
    }

    /// Who may still write, and how much.
    pub fn log_room(&self) -> Room {
        let bytes = self.headroom();
        let state = if !self.gate.is_closed_for(Reason::DiskFull) {
            RoomState::Free
        } else if bytes < limits::LOG_ROOM_LAST_BYTES + OPERATION_BYTES_MAX {
            RoomState::Exhausted
        } else {
            RoomState::Reserve
        };
        let known = self.room.promised.load(Ordering::Acquire) < u64::MAX;
        Room { state, bytes: known.then_some(bytes) }
    }

    /// Sets aside what `request` may append; nothing for reads, and for claims and resolutions, which the gate
    /// refuses.
    pub(super) fn room_for(&self, request: &Request<'_>) -> Result<SetAside<'_>, NoRoom> {
        let payload = match request {
            Request::Claim(_) | Request::Get { .. } | Request::Resolve { .. } => 0,
            Request::Complete { outcome, .. } => outcome.len(),
            // They write the attempt once more, its note and claimant with it.
            Request::Renew { .. } | Request::Release { .. } => NOTE_AND_CLAIMANT_BYTES,
            Request::Forget { .. } => 0,
        };
        let mut need = RoomNeed::default();
        if !matches!(request, Request::Claim(_) | Request::Get { .. } | Request::Resolve { .. }) {
            // The key stands in the record, and in that of a double execution.
            let keys = 2 * request.key().len();
            need.record((keys + payload) as u64 + limits::LOG_RECORD_OVERHEAD_BYTES);
        }
        self.take_room(&need)
    }

    /// Sets room aside while the disk is full; there is no need to while it is not.
    pub(super) fn take_room(&self, need: &RoomNeed) -> Result<SetAside<'_>, NoRoom> {
        let room = &self.room;
        if need.charged == 0 || !self.gate.is_closed_for(Reason::DiskFull) {
            return Ok(SetAside { room, charged: 0 });
        }
        // First set aside, then looked: of two that want the last room one sees the other. And the log's length
        // is read last: an operation that has ended in between stands in one of the two.
        let reserved = room.reserved.fetch_add(need.charged, Ordering::AcqRel) + need.charged;
        let set_aside = SetAside { room, charged: need.charged };
        let wanted = self.tail.charged().saturating_add(reserved).saturating_add(limits::LOG_ROOM_LAST_BYTES);
        let fits = wanted <= room.promised.load(Ordering::Acquire)
            && need.largest <= room.largest.load(Ordering::Acquire);
        if fits { Ok(set_aside) } else { Err(NoRoom) }
    }

    /// Whether there is room for the few bytes that must go on for ever.
    pub(super) fn has_last_room(&self) -> bool {
        !self.gate.is_closed_for(Reason::DiskFull) || self.headroom() > limits::LOG_RECORD_OVERHEAD_BYTES
    }

    fn headroom(&self) -> u64 {
        let reserved = self.room.reserved.load(Ordering::Acquire);
        let used = self.tail.charged().saturating_add(reserved);
        self.room.promised.load(Ordering::Acquire).saturating_sub(used)
    }
}

const NOTE_AND_CLAIMANT_BYTES: usize = limits::NOTE_BYTES_MAX + limits::CLAIMANT_BYTES_MAX;
/// What is set aside for any operation but a COMPLETE, at most.
const OPERATION_BYTES_MAX: u64 =
    (2 * limits::KEY_BYTES_MAX + NOTE_AND_CLAIMANT_BYTES) as u64 + limits::LOG_RECORD_OVERHEAD_BYTES;

#[cfg(test)]
mod tests;
