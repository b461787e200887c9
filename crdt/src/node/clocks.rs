//! Whose clock is off (S2): offsets by ping and pong, as NTP does it, the sample with the shortest
//! round trip of the last few being the one to believe.
//!
//! A region that is ahead of, or behind, more than half of its peers by more than 80 % of `max_drift`
//! refuses new claims and drops nothing.

use std::collections::{BTreeMap, VecDeque};

use super::peer::Peer;
use crate::ids::RegionId;
use crate::request::Reason;
use crate::store::Store;

/// Samples remembered a peer.
const SAMPLES_MAX: usize = 8;
/// A sample older than this says nothing any more, in milliseconds.
const SAMPLE_AGE_MS_MAX: u64 = 10_000;

/// One ping and its pong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sample {
    pub(super) rtt_ms: u64,
    /// Their wall clock less ours.
    pub(super) offset_ms: i64,
    pub(super) at_ms: u64,
}

/// Adds the sample of a ping sent at `ping_at_ms`, answered at `theirs_ms` and received at `wall_ms`.
pub(super) fn sample(samples: &mut VecDeque<Sample>, ping_at_ms: u64, theirs_ms: u64, wall_ms: u64) {
    // Our wall clock stepped back meanwhile: the sample says nothing.
    let Some(rtt_ms) = wall_ms.checked_sub(ping_at_ms) else { return };
    let middle_ms = ping_at_ms + rtt_ms / 2;
    let offset_ms = theirs_ms as i64 - middle_ms as i64;
    if samples.len() == SAMPLES_MAX {
        samples.pop_front();
    }
    samples.push_back(Sample { rtt_ms, offset_ms, at_ms: wall_ms });
}

/// Closes or opens the gate for `clock`.
pub(super) fn judge(peers: &BTreeMap<RegionId, Peer>, store: &Store, wall_ms: u64) {
    let bound_ms = (store.config().max_drift_ms * 8 / 10) as i64;
    let (mut ahead, mut behind) = (0, 0);
    for (offset_ms, error_ms) in peers.values().filter_map(|peer| offset_ms(&peer.samples, wall_ms)) {
        // A ping that waited behind records says little: an offset is only sure beyond half of its round trip.
        ahead += usize::from(-offset_ms - error_ms > bound_ms);
        behind += usize::from(offset_ms - error_ms > bound_ms);
    }
    store.gate.set(Reason::Clock, ahead.max(behind) * 2 > peers.len());
}

/// The best fresh sample's offset, and how far off that may be.
fn offset_ms(samples: &VecDeque<Sample>, wall_ms: u64) -> Option<(i64, i64)> {
    let fresh = samples.iter().filter(|sample| wall_ms.abs_diff(sample.at_ms) <= SAMPLE_AGE_MS_MAX);
    fresh.min_by_key(|sample| sample.rtt_ms).map(|sample| (sample.offset_ms, sample.rtt_ms as i64 / 2))
}
