//! COMPENSATE (S4.8): somebody has dealt with a loser, and every region is to know.

use std::ops::Bound;

use super::Listed;
use crate::canary::{self, Bug};
use crate::conflict::{Conflict, ConflictId};
use crate::ids::{ClaimId, RegionId};
use crate::journal::Origin;
use crate::policy::Durable;
use crate::store::room::RoomNeed;
use crate::store::{Release, Store, lock};

/// What became of it; nothing is written but for the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compensated {
    /// Marked as dealt with, now or before: the same answer however often it is asked.
    Done(Conflict),
    /// No such loser is listed.
    NotListed,
    /// It was one; a majority holds it by now, and it is what duplicates are answered.
    Wins(Conflict),
    /// The claim was completed in several of these regions, with different bytes: which of them is meant has to be said.
    Several(Vec<RegionId>),
    /// The log has no room for it.
    NoRoom,
}

impl Listed {
    fn losers_of(&self, key: &[u8], claim: ClaimId, region: Option<RegionId>) -> Vec<&Conflict> {
        let id = |completed_at| ConflictId { key: key.to_vec(), loser: claim, completed_at };
        let from = Bound::Included(id(region.unwrap_or(RegionId(0))));
        let to = Bound::Included(id(region.unwrap_or(RegionId(u16::MAX))));
        self.losers.range((from, to)).map(|(_, kept)| &kept.conflict).collect()
    }
}

impl Store {
    /// Marks the loser of `key` with this claim as dealt with; `region` is where it completed, and has to be named only
    /// where several did. The answer may leave when the release is reached.
    pub fn compensate(
        &self,
        key: &[u8],
        claim: ClaimId,
        region: Option<RegionId>,
        synced: bool,
    ) -> (Compensated, Release) {
        let durable = if synced { Durable::Always } else { self.rules().of_key(key).0.durable };
        let mut need = RoomNeed::default();
        need.conflict(key);
        let Ok(_room) = self.take_room(&need) else { return (Compensated::NoRoom, Release::default()) };
        let found: Vec<Conflict> = {
            let listed = lock(&self.conflicts.listed);
            listed.losers_of(key, claim, region).into_iter().cloned().collect()
        };
        let answer = match found.as_slice() {
            [] => Compensated::NotListed,
            [wins] if wins.is_overtaken() => Compensated::Wins(wins.clone()),
            [loser] => {
                let done = Conflict { compensated: true, ..loser.clone() };
                let log = (!canary::planted(Bug::CompensationNotLogged)).then_some((Origin::Own, durable));
                self.merge_conflict(done.clone(), log);
                // As it stands, should another region have told more of it meanwhile.
                Compensated::Done(self.conflicts.get(&done.id).unwrap_or(done))
            }
            several => Compensated::Several(several.iter().map(|loser| loser.id.completed_at).collect()),
        };
        let written = self.tail.appended();
        let synced = if durable == Durable::Always { written } else { 0 };
        if synced > 0 {
            // Somebody else's mark may have been written for less.
            self.tail.want_synced(synced);
        }
        (answer, Release { written, synced: synced.max(self.tail.sync_wanted()) })
    }
}
