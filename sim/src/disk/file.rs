//! One file: what a reader sees, what the platter has, and what lies between.
//!
//! Every change is kept until a sync covers it. When the power fails, each sector that a change touched
//! stopped at some moment of its own: an older sector may be on disk without a newer one and the other
//! way round, and inside the last sector the cut may fall anywhere. A byte that is the same before and
//! after a change is never damaged by it, so that what was synced survives being rewritten.
//!
//! Must never: lose a byte that a sync covered.

use std::collections::{BTreeSet, VecDeque};

use super::sparse::{Content, Sparse};
use super::{Loss, Wear};
use crate::limits::SECTOR_BYTES;
use crate::random::Dice;

/// Something done to a file and not synced.
#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Len(usize),
}

impl Change {
    const fn len(&self) -> Option<usize> {
        match self {
            Self::Len(len) => Some(*len),
            Self::Write { .. } => None,
        }
    }
}

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// What readers see.
    cache: Sparse,
    /// What a power loss leaves if it takes everything it may.
    durable: Sparse,
    pending: VecDeque<Change>,
    /// Changes that have left `pending`; a mark counts from the file's beginning.
    settled: u64,
    /// Bytes of the disk that are reserved for it.
    pub(super) room: usize,
}

impl File {
    /// The first `end` bytes, or all if there are fewer.
    pub(super) fn bytes(&self, end: usize) -> Content<'_> {
        self.cache.bytes(end)
    }

    /// All of it, as a reader sees it.
    pub(super) fn copy(&self) -> Sparse {
        self.cache.clone()
    }

    /// Holds this copy and nothing else, synced.
    pub(super) fn put_back(&mut self, content: &Sparse) {
        self.cache.clone_from(content);
        self.durable.clone_from(content);
        self.pending.clear();
        self.room = content.len();
    }

    pub(super) const fn len(&self) -> usize {
        self.cache.len()
    }

    /// Bytes from its start that no unsynced change touches.
    pub(super) fn synced_bytes(&self) -> usize {
        let begin = |change: &Change| if let Change::Write { at, .. } = change { Some(*at) } else { None };
        let touched = self.pending.iter().filter_map(begin);
        touched.min().unwrap_or(usize::MAX).min(self.durable.len()).min(self.cache.len())
    }

    pub(super) fn set_len(&mut self, len: usize) {
        if len != self.cache.len() {
            self.cache.resize(len);
            self.pending.push_back(Change::Len(len));
        }
    }

    pub(super) fn write_at(&mut self, at: usize, bytes: &[u8]) {
        if at + bytes.len() > self.cache.len() {
            self.set_len(at + bytes.len());
        }
        self.cache.write(at, bytes);
        self.pending.push_back(Change::Write { at, bytes: bytes.to_vec() });
    }

    /// Bytes that were written and are not synced.
    pub(super) fn pending_bytes(&self) -> usize {
        let written =
            |change: &Change| if let Change::Write { bytes, .. } = change { bytes.len() } else { 0 };
        self.pending.iter().map(written).sum()
    }

    /// How many changes a sync that starts now covers.
    pub(super) fn mark(&self) -> u64 {
        self.settled + self.pending.len() as u64
    }

    /// A sync that started at `mark` has succeeded.
    pub(super) fn settle(&mut self, mark: u64) {
        while self.settled < mark {
            let Some(change) = self.pending.pop_front() else { return };
            self.settled += 1;
            match change {
                Change::Write { at, bytes } => self.durable.write(at, &bytes),
                Change::Len(len) => self.durable.resize(len),
            }
        }
    }

    /// A sync that started at `mark` has failed: some of it is on disk, none of it is tried again, and
    /// readers see all of it, as if nothing had happened.
    pub(super) fn fail(&mut self, mark: u64, dice: &mut Dice) {
        let covered = mark.saturating_sub(self.settled).min(self.pending.len() as u64);
        let later = self.pending.split_off(covered as usize);
        let lost = std::mem::replace(&mut self.pending, later);
        self.settled += covered;
        // Its size is told by the journal of the file system, which has not failed.
        let longest = lost.iter().filter_map(Change::len).max().unwrap_or(0).max(self.durable.len());
        let len = lost.iter().filter_map(Change::len).next_back().unwrap_or(self.durable.len());
        self.durable.resize(longest);
        let writes = lost.into_iter().filter(|change| change.len().is_none()).collect();
        wear(&mut self.durable, writes, &mut Wear::Scattered { kept: 500 }, dice);
        self.durable.resize(len);
    }

    /// The power fails.
    pub(super) fn power_loss(&mut self, how: &mut Wear, dice: &mut Dice) -> Loss {
        self.settled += self.pending.len() as u64;
        let pending = std::mem::take(&mut self.pending);
        let loss = wear(&mut self.durable, pending, how, dice);
        // What a failed sync has left in the cache alone goes, too.
        self.cache.clone_from(&self.durable);
        self.room = self.durable.len();
        loss
    }

    /// A bit turns over, on the platter and for every reader.
    pub(super) fn flip(&mut self, at: usize, bit: u8) {
        for bytes in [&mut self.cache, &mut self.durable] {
            bytes.flip(at, bit);
        }
    }
}

/// Puts on disk what is left of `changes`.
fn wear(disk: &mut Sparse, changes: VecDeque<Change>, how: &mut Wear, dice: &mut Dice) -> Loss {
    let mut stopped = BTreeSet::new();
    let mut loss = Loss::default();
    let (mut first_lost, mut last_kept) = (usize::MAX, 0);
    let mut len_stopped = false;
    for change in changes {
        let (at, bytes) = match change {
            Change::Len(len) => {
                len_stopped |= !how.keeps(0, dice);
                if !len_stopped {
                    disk.resize(len);
                }
                continue;
            }
            Change::Write { at, bytes } => (at, bytes),
        };
        let mut from = at;
        while from < at + bytes.len() {
            let sector = from / SECTOR_BYTES;
            let to = ((sector + 1) * SECTOR_BYTES).min(at + bytes.len());
            let piece = &bytes[from - at..to - at];
            // Where the file did not grow, there is nothing to write to.
            let len = piece.len().min(disk.len().saturating_sub(from));
            let kept = len == piece.len() && !stopped.contains(&sector) && how.keeps(len, dice);
            let part = if kept { 0..len } else { torn(len, !stopped.insert(sector), dice) };
            if !kept {
                loss.lost_bytes += piece.len() - part.len();
                loss.torn |= !part.is_empty();
                first_lost = first_lost.min(from + part.start);
            }
            if !part.is_empty() {
                disk.write(from + part.start, &piece[part.clone()]);
                last_kept = last_kept.max(from + part.end);
            }
            from = to;
        }
    }
    loss.hole = first_lost < last_kept;
    loss
}

/// What of a lost piece has reached its sector all the same: mostly nothing, else its beginning or its
/// end.
fn torn(len: usize, over: bool, dice: &mut Dice) -> std::ops::Range<usize> {
    if over || !dice.chance(300) {
        return 0..0;
    }
    let cut = dice.below(len as u64) as usize;
    if dice.chance(700) { 0..cut } else { cut..len }
}
