//! Losers in the order in which they arrived here, for whoever compensates them (S4.8).
//!
//! A loser has a number from when it is listed until somebody has dealt with it, it dies, or it wins after all. A
//! position is the last number told and the start of the daemon that gave it: numbers are not kept on disk, because
//! after a restart the oldest that nobody has dealt with is where to begin anyway. So each is told at least once, and
//! again after a restart until it is compensated.
//!
//! Whoever waits leaves a ticket, under the same lock under which a loser arrives: none is missed. Nobody pays for this
//! but those who list a loser.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::Ordering;

use super::{Kept, Listed};
use crate::canary::{self, Bug};
use crate::conflict::{Conflict, ConflictId};
use crate::ids::{self, RegionId};
use crate::limits;
use crate::store::{Release, Store, Ticket, lock};

/// Who arrived when, and who waits for the next.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    by_number: BTreeMap<u64, ConflictId>,
    /// The last number given.
    last: u64,
    waiters: Vec<Ticket>,
}

/// How far a consumer has been told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeedPosition {
    /// Which start of the daemon numbered them.
    pub start: u64,
    /// The last number told.
    pub number: u64,
}

/// What a consumer wants to be told.
#[derive(Clone, Copy, Debug, Default)]
pub struct FeedAsk<'a> {
    /// Of this namespace only.
    pub namespace: Option<&'a [u8]>,
    /// Of losers that completed in this region only.
    pub region: Option<RegionId>,
    /// Behind this; `None`, or a position of another start: from the oldest on.
    pub after: Option<FeedPosition>,
    /// At most so many.
    pub count: usize,
}

/// What it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedPage {
    /// In the order of their arrival.
    pub conflicts: Vec<Conflict>,
    /// Where to go on.
    pub position: FeedPosition,
}

/// What came of a look at the feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fed {
    /// To be told once the release is reached; with nothing in it where there is nothing and nobody waits.
    Told(FeedPage, Release),
    /// Nothing yet: the ticket comes back from [`Store::take_woken`] when a loser arrives.
    Parked,
    /// Nothing yet, and as many wait as may.
    Crowded,
}

impl Arrivals {
    /// The number of a loser that had `arrival`, and is `wanted` or not.
    pub(super) fn keep(&mut self, id: &ConflictId, arrival: Option<u64>, wanted: bool) -> Option<u64> {
        match (arrival, wanted) {
            (None, true) => {
                self.last += 1;
                self.by_number.insert(self.last, id.clone());
                Some(self.last)
            }
            (Some(_), false) => {
                self.forget(arrival);
                None
            }
            _ => arrival,
        }
    }

    pub(super) fn forget(&mut self, arrival: Option<u64>) {
        if let Some(number) = arrival {
            self.by_number.remove(&number);
        }
    }
}

impl Store {
    /// Losers that nobody has dealt with, behind a position of this `start` of the daemon. With a ticket, and nothing to
    /// tell, the ticket is parked.
    pub fn feed(&self, start: u64, ask: &FeedAsk<'_>, ticket: Option<Ticket>) -> Fed {
        let mut listed = lock(&self.conflicts.listed);
        let arrivals = &listed.arrivals;
        let ours =
            |position: &FeedPosition| position.start == start || canary::planted(Bug::FeedGoesOnBlindly);
        let known = ask.after.filter(ours).map(|position| position.number);
        let after =
            known.filter(|number| *number <= arrivals.last || canary::planted(Bug::FeedGoesOnBlindly));
        let after = after.unwrap_or(0);
        let count = ask.count.clamp(1, limits::CONFLICTS_COUNT_MAX);
        let (mut conflicts, mut number) = (Vec::new(), arrivals.last.max(after));
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        for (walked, (at, id)) in arrivals.by_number.range(behind).enumerate() {
            if conflicts.len() >= count || walked >= limits::FEED_WALK_MAX {
                number = at - 1;
                break;
            }
            conflicts.extend(listed.get(id).filter(|conflict| ask.wants(conflict)).cloned());
        }
        let position = FeedPosition { start, number };
        let to_the_end = number >= arrivals.last;
        if conflicts.is_empty()
            && to_the_end
            && let Some(ticket) = ticket
        {
            if listed.arrivals.waiters.len() >= limits::FEED_WAITERS_MAX {
                return Fed::Crowded;
            }
            listed.arrivals.waiters.push(ticket);
            return Fed::Parked;
        }
        // Logged under the lock that is held: all that was seen stands in the log (INV-8).
        let release = Release { written: self.tail.appended(), synced: self.tail.sync_wanted() };
        Fed::Told(FeedPage { conflicts, position }, release)
    }

    /// Forgets a consumer that waits no longer.
    pub fn unpark_feed(&self, ticket: Ticket) {
        lock(&self.conflicts.listed).arrivals.waiters.retain(|parked| *parked != ticket);
    }

    /// A loser has arrived: everybody who waits looks again.
    pub(super) fn wake_feeds(&self, listed: &mut Listed) {
        let waiters = std::mem::take(&mut listed.arrivals.waiters);
        if waiters.is_empty() || canary::planted(Bug::FeedNotWoken) {
            return;
        }
        let count = waiters.len();
        lock(&self.woken).extend(waiters);
        self.woken_any.fetch_add(count, Ordering::AcqRel);
    }

    /// The first start of a region that has read its log back: what nobody has dealt with, oldest completion first.
    pub(in crate::store) fn number_arrivals(&self) {
        let mut listed = lock(&self.conflicts.listed);
        let Listed { losers, arrivals, counts, .. } = &mut *listed;
        let mut open: Vec<&mut Kept> = losers.values_mut().filter(|kept| kept.arrival.is_some()).collect();
        open.sort_by_key(|kept| kept.conflict.loser.completed);
        *arrivals = Arrivals::default();
        for kept in open {
            kept.arrival = arrivals.keep(&kept.conflict.id, None, true);
        }
        counts.begin();
    }
}

impl FeedAsk<'_> {
    fn wants(&self, conflict: &Conflict) -> bool {
        self.namespace.is_none_or(|namespace| ids::namespace(&conflict.id.key) == namespace)
            && self.region.is_none_or(|region| conflict.id.completed_at == region)
    }
}
