//! The feed of losers and COMPENSATE, as a service beside the region calls them.

use crdt::store::{Compensated, Fed, FeedAsk, FeedPosition, Release};

use super::{Replica, convert};
use crate::oracle::facts::{ClaimName, Key, Region};

/// One execution that lost: of which key, by which claim, completed where.
pub type Loser = (Key, ClaimName, Region);

/// What a look at the feed came to.
pub enum Look {
    /// These nobody has dealt with, once the release is reached; where to go on.
    Told(Vec<Loser>, FeedPosition, Release),
    /// Nothing yet: the ticket is woken.
    Parked,
}

impl Replica {
    /// Looks at the feed behind a position; with a ticket, it waits where there is nothing.
    pub fn feed(
        &self,
        start: u64,
        (after, own): (Option<FeedPosition>, bool),
        ticket: Option<u64>,
        keys: &[String],
    ) -> Look {
        let region = own.then_some(self.store.config().region);
        match self.store.feed(start, &FeedAsk { namespace: None, region, after, count: 3 }, ticket) {
            Fed::Told(page, release) => {
                let losers = page.conflicts.iter().map(|conflict| convert::conflict(conflict, keys));
                let losers = losers.map(|line| (line.key, line.loser, line.region));
                Look::Told(losers.collect(), page.position, release)
            }
            Fed::Parked | Fed::Crowded => Look::Parked,
        }
    }

    /// A consumer waits no longer.
    pub fn unpark_feed(&self, ticket: u64) {
        self.store.unpark_feed(ticket);
    }

    /// Marks a loser as dealt with; whether it says that it is.
    pub fn compensate(&self, key: &str, loser: Loser) -> (bool, Release) {
        let (_, claim, region) = loser;
        let region = crdt::ids::RegionId(region);
        let (answer, release) =
            self.store.compensate(key.as_bytes(), convert::claim_id(claim), Some(region), false);
        (matches!(answer, Compensated::Done(_)), release)
    }
}
