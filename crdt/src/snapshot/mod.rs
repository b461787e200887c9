//! Snapshots organised by expiry (S6): what the log has told so far, as whole states of keys in *runs*,
//! each of which dies as a whole.
//!
//! A [`Checkpoint`] covers the oldest segments of the log: for every key that they mention it writes the
//! key's whole state, as the map has it now, once, into the run of its [class](class_of): keys that live
//! about as long. A [`Manifest`] names the runs and the record up to which they cover the log. Recovery is
//! then manifest + runs + the log after that record; states need no joining and load shard by shard, on as
//! many threads as there are.
//!
//! Nothing is compacted: a run is deleted when the last key in it is past its expiry. Only small runs of
//! one class are [merged](Merging), so that there are not too many files; what has grown to
//! [`limits::RUN_SMALL_BYTES`](crate::limits::RUN_SMALL_BYTES) is never written again.
//!
//! Rejected: a snapshot of the whole map from time to time (rewrites live data for ever), deleting log
//! segments when they are dead (one key that lives for 90 days keeps 90 days of log, and a start replays
//! all of it).
//!
//! Must never: become durable with states that the log is not yet durable with. The driver syncs the log
//! after the runs and before the manifest, or a crash would leave a state here that no peer is ever sent.

mod checkpoint;
mod manifest;
mod merging;
mod run;

#[cfg(test)]
pub(crate) mod tests;

pub use checkpoint::{Checkpoint, Writing};
pub use manifest::{MANIFEST_VERSION, MalformedManifest, Manifest, RunEntry};
pub use merging::Merging;
pub use run::{
    Group, RUN_HEADER_BYTES, RUN_TRAILER_BYTES, RUN_VERSION, RunHeader, RunTable, RunWriter, States,
    push_state,
};

/// Classes of lifetime, and so the most runs that one checkpoint makes.
pub const CLASSES: usize = 10;

/// The class of a state that dies at `dies_at_ms`: its remaining lifetime in minutes, to the base of 4.
/// Classes keep a run from living much longer than most of what is in it.
pub fn class_of(dies_at_ms: u64, wall_ms: u64) -> u8 {
    let minutes = dies_at_ms.saturating_sub(wall_ms) / 60_000;
    let class = (u64::BITS - minutes.leading_zeros()).div_ceil(2);
    class.min(CLASSES as u32 - 1) as u8
}
