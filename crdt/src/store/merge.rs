//! The only entrance for what peers send and for what the log held (S3, S7).
//!
//! A frame is checked whole before anything is applied: every record decodes, every part is within its
//! bounds, and no stamp runs ahead of *our wall clock* by more than `max_drift` (S2). A frame that
//! fails changes nothing.

use dashmap::Entry as IndexEntry;
use std::collections::BTreeSet;

use super::room::{NoRoom, RoomNeed};
use super::run::{Scratch, pack, unpack};
use super::{Release, Store};
use crate::canary::{self, Bug};
use crate::conflict::{Conflict, ConflictId};
use crate::entry::{Entry, MalformedEntry};
use crate::hlc::Stamp;
use crate::ids::RegionId;
use crate::journal::{self, EntryRecord, MalformedRecord, Origin, Record};
use crate::limits;
use crate::policy::Durable;

/// What a merge did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Merged {
    /// What must be reached before the merge may be acknowledged.
    pub release: Release,
    /// Records that told us something new.
    pub applied: usize,
    /// Records that did not.
    pub known: usize,
    /// The greatest stamp met that the sending region issued: it is told when it lost its own (S6).
    pub newest_of_sender: Stamp,
}

/// Why nothing of a frame was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MergeRefused {
    /// A record does not decode.
    #[error(transparent)]
    Record(#[from] MalformedRecord),
    /// An entry is malformed.
    #[error(transparent)]
    Entry(#[from] MalformedEntry),
    /// A key out of bounds.
    #[error("a key of {0} bytes")]
    Key(usize),
    /// A record that does not travel.
    #[error("a record of a kind that does not travel between regions")]
    Kind,
    /// A stamp ahead of our wall clock: the link stalls until the clocks agree (S2).
    #[error("a stamp runs {ahead_ms} ms ahead of our wall clock, beyond max_drift: check both clocks")]
    Ahead {
        /// By how much, in milliseconds.
        ahead_ms: u64,
    },
    /// The log has no room for it: the link stalls until the disk has (S6).
    #[error("the log's disk is full and its reserve used up: free space on it")]
    NoRoom,
}

/// What putting back one record told.
#[derive(Debug)]
pub(crate) struct Replayed {
    /// When the last part in it may die, Unix milliseconds, `max_drift` to be added.
    pub(crate) dies_at_ms: u64,
    /// Conflicts that it shows and that no record before it holds.
    pub(crate) unlogged: Vec<ConflictId>,
    /// The conflict that it holds, as it stands now.
    pub(crate) logged: Option<ConflictId>,
}

/// What was put back, for a look at its stamps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Visited<'v> {
    Entry(&'v Entry<'v>),
    Conflict(&'v Conflict),
}

/// What joining one entry did.
#[derive(Debug, Default)]
pub(super) struct Joined {
    news: bool,
    /// Losers that were not listed before.
    pub(super) listed: Vec<ConflictId>,
    release: Release,
}

/// One record off the wire, decoded and checked.
enum Checked<'a> {
    Entry(&'a [u8], Entry<'a>),
    Conflict(Conflict),
}

impl Store {
    /// Merges `bodies` (records of `sender`'s log), all or nothing, at `wall_ms`.
    pub fn merge<'a>(
        &self,
        bodies: impl Iterator<Item = &'a [u8]>,
        sender: RegionId,
        wall_ms: u64,
        scratch: &mut Scratch,
    ) -> Result<Merged, MergeRefused> {
        let mut need = RoomNeed::default();
        let checked = bodies.inspect(|body| need.merged(body)).map(check).collect::<Result<Vec<_>, _>>()?;
        let newest = checked.iter().map(Checked::newest_stamp).max().unwrap_or_default();
        let ahead_ms = newest.ms().saturating_sub(wall_ms);
        if ahead_ms > self.config.max_drift_ms && !canary::planted(Bug::AheadStampsMerged) {
            return Err(MergeRefused::Ahead { ahead_ms });
        }
        let _room = self.take_room(&need).map_err(|NoRoom| MergeRefused::NoRoom)?;
        self.clock.observe(newest);
        let mut merged = Merged::default();
        for record in checked {
            merged.newest_of_sender = merged.newest_of_sender.max(record.newest_stamp_of(sender));
            let (news, release) = self.apply(record, wall_ms, Some(Origin::Merged), scratch);
            merged.release.join(release);
            *(if news { &mut merged.applied } else { &mut merged.known }) += 1;
        }
        Ok(merged)
    }

    /// Puts back one record of our own log: joined, not logged again (S6).
    pub(crate) fn recover(
        &self,
        body: &[u8],
        wall_ms: u64,
        scratch: &mut Scratch,
        visit: impl FnOnce(Visited<'_>),
    ) -> Result<Replayed, MergeRefused> {
        let record = check(body)?;
        self.clock.observe(record.newest_stamp());
        match record {
            Checked::Entry(key, entry) => {
                visit(Visited::Entry(&entry));
                let unlogged = self.join_in(key, &entry, wall_ms, None, scratch).listed;
                Ok(Replayed { dies_at_ms: entry.dies_at_ms(), unlogged, logged: None })
            }
            Checked::Conflict(conflict) => {
                visit(Visited::Conflict(&conflict));
                let (dies_at_ms, id) = (conflict.expires_at, conflict.id.clone());
                let _ = self.apply(Checked::Conflict(conflict.clone()), wall_ms, None, scratch);
                // Outcomes merged after it was written may have brought a better winner.
                let same = self.conflicts.get(&id).is_none_or(|joined| joined == conflict);
                Ok(Replayed { dies_at_ms, unlogged: Vec::new(), logged: same.then_some(id) })
            }
        }
    }

    /// Logs conflicts that recovery derived and the log did not hold.
    pub(crate) fn log_conflicts(&self, ids: &BTreeSet<ConflictId>) {
        for id in ids {
            if let Some(conflict) = self.conflicts.get(id) {
                self.append_record(&Record::Conflict(Origin::Own, conflict), Durable::Interval);
            }
        }
    }

    fn apply(
        &self,
        record: Checked<'_>,
        wall_ms: u64,
        log_as: Option<Origin>,
        scratch: &mut Scratch,
    ) -> (bool, Release) {
        match record {
            Checked::Entry(key, entry) => {
                let joined = self.join_in(key, &entry, wall_ms, log_as, scratch);
                (joined.news, joined.release)
            }
            Checked::Conflict(conflict) => {
                let now_ms = self.death_now_ms(wall_ms);
                if now_ms > conflict.expires_at.saturating_add(self.config.max_drift_ms) {
                    return (false, Release::default());
                }
                if log_as.is_none() {
                    return (self.merge_conflict(conflict, None).is_some(), Release::default());
                }
                match self.merge_conflict(conflict, Some((Origin::Merged, Durable::Interval))) {
                    Some(lsn) => (true, Release { written: lsn, synced: 0 }),
                    None => (false, Release::default()),
                }
            }
        }
    }

    /// Joins `theirs` into what is stored of `key` and logs it if it says anything new.
    pub(super) fn join_in(
        &self,
        key: &[u8],
        theirs: &Entry<'_>,
        wall_ms: u64,
        log_as: Option<Origin>,
        scratch: &mut Scratch,
    ) -> Joined {
        let drift_ms = self.config.max_drift_ms;
        let rules = self.rules();
        let (policy, used) = rules.of_key(key);
        let hash = self.config.keys.key_hash(key);
        let index = self.index.entry(hash);
        let side = &mut *self.side(hash);
        let ours = match &index {
            IndexEntry::Occupied(occupied) => {
                let (stored_key, entry) = unpack(side.arena.get(*occupied.get()));
                if stored_key != key {
                    return Joined::default();
                }
                entry
            }
            IndexEntry::Vacant(_) => Entry::default(),
        };
        let union = ours.clone().union(theirs);
        // Before anything else: an outcome that no longer counts is not kept, but its double execution is.
        let listed = self.list_losers(key, &union, policy, log_as.is_some());
        if log_as.is_some() && !listed.is_empty() {
            side.watch.seen.join(Release { written: self.tail.appended(), synced: 0 });
        }
        let mut joined = union.settled();
        if log_as.is_some() {
            // Not at recovery: the parts come back one by one there, and one that is dead alone may still
            // count beside those that follow. The sweep takes what is left.
            joined.drop_dead(self.death_now_ms(wall_ms), drift_ms);
        }
        if joined == ours || joined.is_empty() {
            // Known already, or dead: but what we acknowledge must be as durable as what we hold.
            return Joined { news: !listed.is_empty(), listed, release: side.watch.seen };
        }
        pack(key, &joined, &mut scratch.state);
        side.watch.changed(&self.digester, hash, &ours, &joined);
        if let Some(origin) = log_as {
            pack(key, theirs, &mut scratch.delta);
            let kind = journal::entry_kind(origin);
            let lsn = self.tail.append(kind, &scratch.delta, theirs.dies_at_ms(), policy.durable);
            let synced = if policy.durable == Durable::Always { lsn } else { 0 };
            side.watch.seen.join(Release { written: lsn, synced });
        }
        // Whatever the bounds say: regions must hold the same, and what peers granted was done (S6).
        let before = side.booked();
        let keys = match index {
            IndexEntry::Occupied(mut occupied) => {
                let slot = *occupied.get();
                *occupied.get_mut() = side.arena.replace(slot, &scratch.state);
                0
            }
            IndexEntry::Vacant(vacant) => {
                vacant.insert(side.arena.insert(&scratch.state));
                1
            }
        };
        self.account(side, before, keys, used);
        if !canary::planted(Bug::LostWakeUp) {
            self.wake(&mut side.watch, hash);
        }
        Joined { news: true, listed, release: side.watch.seen }
    }
}

impl Checked<'_> {
    fn newest_stamp(&self) -> Stamp {
        match self {
            Self::Entry(_, entry) => entry.newest_stamp(),
            Self::Conflict(conflict) => conflict.newest_stamp(),
        }
    }

    fn newest_stamp_of(&self, region: RegionId) -> Stamp {
        match self {
            Self::Entry(_, entry) => entry.newest_stamp_of(region),
            Self::Conflict(_) => Stamp::ZERO,
        }
    }
}

fn check(body: &[u8]) -> Result<Checked<'_>, MergeRefused> {
    match Record::decode(body)? {
        Record::Entry(_, EntryRecord { key, entry }) => {
            check_key(key.0)?;
            Ok(Checked::Entry(key.0, entry.unpack()?))
        }
        Record::Conflict(_, conflict) => {
            check_key(&conflict.id.key)?;
            Ok(Checked::Conflict(conflict))
        }
        _ => Err(MergeRefused::Kind),
    }
}

fn check_key(key: &[u8]) -> Result<(), MergeRefused> {
    if key.is_empty() || key.len() > limits::KEY_BYTES_MAX {
        return Err(MergeRefused::Key(key.len()));
    }
    Ok(())
}
