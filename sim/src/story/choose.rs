//! Which moments a report shows when there are too many: what matters first, then what is near it.
//!
//! A run may have millions of moments; a page that people can look at has room for some thousands. The cone and the
//! faults are always there; then what is about the keys of interest, what changed anything, what was lost, and routine
//! last. A frame and its arrival stay together.
//!
//! Must never: leave out a moment of the steps.

use std::collections::BTreeSet;

use super::moment::{Fate, Moment, MomentId, What};
use super::record::Record;
use crate::oracle::facts::Key;

/// What matters.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    /// The moments of the cone, nearest to its end first, and before them those of the steps.
    pub cone: Vec<MomentId>,
    /// Keys to be shown before others.
    pub keys: Vec<Key>,
    /// Near which time; `None`: spread over all of the run.
    pub at_us: Option<u64>,
}

/// How much a moment matters, least first; `None` for arrivals, which go with what was sent.
fn rank(moment: &Moment, interest: &Interest) -> Option<usize> {
    let keyed = || interest.keys.iter().any(|key| moment.concerns(*key));
    Some(match &moment.what {
        What::Arrived(_) => return None,
        What::Violated
        | What::Healed { .. }
        | What::Agreed
        | What::Crashed(_)
        | What::Started { .. }
        | What::Paused
        | What::Resumed
        | What::BackedUp
        | What::Upgraded { .. }
        | What::Refused
        | What::Retired
        | What::Joined
        | What::Member { .. }
        | What::Clock { .. }
        | What::Disk { .. } => 0,
        _ if keyed() => 1,
        What::Answered(answered) if !answered.wrote.is_empty() || !answered.unseen.is_empty() => 2,
        What::Sent(sent) if sent.wanted => 3,
        What::Sent(sent) if sent.fate != Fate::Arrives && !sent.carries.is_empty() => 4,
        What::Broke { .. } | What::Connected { .. } => 5,
        What::Answered(_) | What::Parked { .. } => 6,
        What::Sent(sent) if !sent.carries.is_empty() => 7,
        What::Sent(sent) if sent.fate != Fate::Arrives => 8,
        What::Up { .. } | What::Down { .. } => 9,
        // Cuts are told in a list of their own.
        What::Sent(_) | What::Durable { .. } | What::Cut { .. } | What::Mended { .. } => 10,
    })
}

const RANKS: usize = 11;

/// At most about `most` moments, in order.
pub fn choose(record: &Record, interest: &Interest, most: usize) -> Vec<MomentId> {
    let mut chosen = BTreeSet::new();
    for id in interest.cone.iter().take(most) {
        add(record, *id, &mut chosen);
    }
    let mut ranks: Vec<Vec<MomentId>> = vec![Vec::new(); RANKS];
    for (moment, id) in record.moments.iter().zip(0..) {
        if let Some(rank) = rank(moment, interest) {
            ranks[rank].push(id);
        }
    }
    for mut ids in ranks {
        let room = most.saturating_sub(chosen.len());
        if room == 0 {
            break;
        }
        match interest.at_us {
            Some(at_us) => ids.sort_by_key(|id| record.moments[*id as usize].at_us.abs_diff(at_us)),
            None => thin(record, &mut ids, room),
        }
        for id in ids {
            if chosen.len() >= most {
                break;
            }
            add(record, id, &mut chosen);
        }
    }
    chosen.into_iter().collect()
}

/// A moment; and of a frame both ends.
fn add(record: &Record, id: MomentId, chosen: &mut BTreeSet<MomentId>) {
    chosen.insert(id);
    match &record.moments[id as usize].what {
        What::Sent(sent) => chosen.extend(&sent.arrivals),
        What::Arrived(arrived) => chosen.extend(arrived.sent),
        _ => {}
    }
}

/// Every so many of them, so that they fit, with what goes with them.
fn thin(record: &Record, ids: &mut Vec<MomentId>, room: usize) {
    let with = |id: &MomentId| match &record.moments[*id as usize].what {
        What::Sent(sent) => 1 + sent.arrivals.len(),
        _ => 1,
    };
    let all: usize = ids.iter().map(with).sum();
    let every = all.div_ceil(room.max(1)).max(1);
    let mut number = 0;
    ids.retain(|_| {
        number += 1;
        (number - 1) % every == 0
    });
}
