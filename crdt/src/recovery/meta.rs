//! What a log says besides its entries: where it stands, which life wrote it, what the clock may have
//! issued, how far the peers' logs are held.
//!
//! One small state machine over segment headers and records. Recovery runs it over what it reads back; a
//! checkpoint runs it over what it is about to cover and keeps the result in the manifest, so that a start
//! from a checkpoint knows exactly what a start from the whole log would.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::conflict::Conflict;
use crate::entry::Entry;
use crate::hlc::Stamp;
use crate::ids::{Cursor, LogEpoch, Lsn, RegionId};
use crate::journal::{Record, SegmentHeader};
use crate::limits;

/// See the module's text. As of record `next_lsn - 1`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LogMeta {
    /// The header of the last segment; `None` before the first.
    pub last: Option<SegmentHeader>,
    /// Number of the next record.
    pub next_lsn: Lsn,
    /// The highest ceiling of the clock, Unix milliseconds (S2).
    pub ceiling_ms: u64,
    /// The ceiling as of the last power loss: stamps up to it may have been issued and lost (S2).
    pub floor_ms: u64,
    /// The last record is an orderly stop, marks of what is synced behind it apart.
    pub stopped: bool,
    /// This life began without data it should have, and has not caught up with any peer since (S6); or it has
    /// not said yet.
    pub incomplete: bool,
    /// How far each peer's log is held.
    pub cursors: BTreeMap<RegionId, Cursor>,
    /// First record of each epoch of this life, in order; the last [`limits::EPOCHS_MAX`].
    pub epochs: Vec<(LogEpoch, Lsn)>,
    /// Epochs whose end a power loss may have taken: a peer may have been sent what is gone.
    pub torn_epochs: Vec<LogEpoch>,
    /// The greatest stamp of each region.
    pub newest_stamps: BTreeMap<RegionId, Stamp>,
    /// The newest epoch of the membership in whose majorities this life counts (S5). Every segment says it again, so a
    /// manifest need not.
    #[serde(skip)]
    pub voice: Option<u64>,
    /// The newest epoch in which this life may decide as the home of keys (S5). Every segment says it again, too.
    #[serde(skip)]
    pub home: Option<u64>,
}

impl LogMeta {
    /// Whether the power may have failed between the last record and a start of `boot`.
    pub fn power_lost(&self, boot: u64) -> bool {
        self.last.is_some_and(|last| last.boot != boot) && !self.stopped
    }

    /// The next segment begins. `Err` names the record that was expected where another one stands. A log whose
    /// oldest segments are gone needs the manifest that covers them.
    pub fn open(&mut self, header: &SegmentHeader) -> Result<(), Lsn> {
        self.next_lsn = self.next_lsn.max(1);
        if header.first_lsn != self.next_lsn {
            return Err(self.next_lsn);
        }
        self.begin(header);
        Ok(())
    }

    /// The next segment begins, whatever is missing before it.
    pub(super) fn begin(&mut self, header: &SegmentHeader) {
        self.next_lsn = self.next_lsn.max(header.first_lsn);
        if self.last.is_none_or(|last| last.incarnation != header.incarnation) {
            // Whether a new life has all its data it says in its first records; a power loss may take them.
            self.incomplete = true;
        }
        if self.power_lost(header.boot) {
            self.floor_ms = self.floor_ms.max(self.ceiling_ms);
            self.torn_epochs.extend(self.epochs.last().map(|(epoch, _)| *epoch));
        }
        if self.last.is_some_and(|last| last.incarnation != header.incarnation) {
            // Another life: stamps that the former issued may be lost with its data. Only cursors written in
            // this one count: the former's were given up with it.
            self.floor_ms = self.floor_ms.max(self.ceiling_ms);
            self.cursors.clear();
            self.epochs.clear();
            self.torn_epochs.clear();
        }
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch != header.epoch) {
            self.epochs.push((header.epoch, header.first_lsn));
            if self.epochs.len() > limits::EPOCHS_MAX {
                let (forgotten, _) = self.epochs.remove(0);
                self.torn_epochs.retain(|epoch| *epoch != forgotten);
            }
        }
        self.last = Some(*header);
    }

    /// The next record. Entries and conflicts are only counted: see [`LogMeta::note_stamps`].
    pub fn note(&mut self, record: &Record<'_>) {
        self.next_lsn += 1;
        // The tail marks what is synced behind whatever it writes, a stop too.
        self.stopped =
            matches!(record, Record::Stop(_)) || self.stopped && matches!(record, Record::Synced(..));
        match record {
            Record::Cursor(peer, cursor) => {
                self.cursors.insert(*peer, *cursor);
            }
            Record::Ceiling(ms) => self.ceiling_ms = self.ceiling_ms.max(*ms),
            Record::Complete(complete) => {
                self.incomplete = !complete;
                // What it acknowledged once, it may have lost.
                self.voice = self.voice.filter(|_| *complete);
                self.home = self.home.filter(|_| *complete);
            }
            Record::Voice(epoch) => self.voice = Some(*epoch),
            Record::Home(epoch) => self.home = Some(*epoch),
            Record::Entry(..) | Record::Conflict(..) | Record::Synced(..) | Record::Stop(_) => {}
        }
    }

    /// The stamps of an entry that a record or a run holds.
    pub fn note_stamps(&mut self, entry: &Entry<'_>) {
        note_newest(&mut self.newest_stamps, entry);
    }

    /// The stamps of a double execution.
    pub fn note_conflict(&mut self, conflict: &Conflict) {
        note_sides(&mut self.newest_stamps, conflict);
    }

    /// Takes over what others have noted.
    pub fn join_stamps(&mut self, newest: &BTreeMap<RegionId, Stamp>) {
        for (region, stamp) in newest {
            let known = self.newest_stamps.entry(*region).or_default();
            *known = (*known).max(*stamp);
        }
    }
}

/// Notes in `newest` the stamps of a double execution: of one whose bytes found no room nothing else is left.
pub(crate) fn note_sides(newest: &mut BTreeMap<RegionId, Stamp>, conflict: &Conflict) {
    let mut note = |region: RegionId, stamp: Stamp| {
        let known = newest.entry(region).or_default();
        *known = stamp.max(*known);
    };
    for side in std::iter::once(&conflict.loser).chain(&conflict.winner) {
        note(side.claim.region, side.claim.stamp);
        note(side.region, side.completed);
    }
}

/// Notes in `newest` the greatest stamps of `entry`.
pub(crate) fn note_newest(newest: &mut BTreeMap<RegionId, Stamp>, entry: &Entry<'_>) {
    let mut note = |region: RegionId, stamp: Stamp| {
        let known = newest.entry(region).or_default();
        *known = stamp.max(*known);
    };
    entry.attempts.iter().for_each(|attempt| note(attempt.id.region, attempt.id.stamp));
    for outcome in entry.outcomes.iter() {
        note(outcome.claim.region, outcome.claim.stamp);
        note(outcome.region, outcome.completed);
    }
}
