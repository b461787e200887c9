//! What refuses claims before any entry is looked at (S4.1, first row), and the clock's durable
//! ceiling (S2).
//!
//! Reasons are set by the cold half and read with one load by every claim.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::{Release, Store, lock};
use crate::ids::Lsn;
use crate::journal::{MarkTag, Record};
use crate::limits;
use crate::policy::Durable;
use crate::request::Reason;

const REASONS: [Reason; 6] = [
    Reason::OldCopy,
    Reason::DiskFull,
    Reason::CatchingUp,
    Reason::Clock,
    Reason::LogBehind,
    Reason::Draining,
];

/// The ceiling's next value on its way to disk, and a jump of the wall clock that is not believed yet.
#[derive(Debug, Default)]
pub(super) struct PendingCeiling {
    record: Option<(Lsn, u64)>,
    jumped_at_ms: Option<u64>,
}

/// Reasons that hold for every claim, whatever its key.
#[derive(Debug, Default)]
pub struct Gate {
    closed: AtomicU32,
    /// When the peer that has been silent longest was last heard, Unix milliseconds; 0: no peers.
    oldest_word_ms: AtomicU64,
    /// This region counts in majorities (S5).
    voice: AtomicBool,
    /// The newest epoch in whose majorities this life has counted, plus one; 0: none.
    voice_epoch: AtomicU64,
    /// Somebody has asked for it.
    voice_wanted: AtomicBool,
    /// The newest epoch in which this life may decide as the home of keys, plus one; 0: none.
    home_epoch: AtomicU64,
    /// Somebody has asked for it.
    home_wanted: AtomicBool,
}

impl Gate {
    /// Closes or opens the gate for one reason.
    pub fn set(&self, reason: Reason, closed: bool) {
        let bit = bit(reason);
        if closed {
            self.closed.fetch_or(bit, Ordering::AcqRel);
        } else {
            self.closed.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// Why claims are refused now, if they are.
    pub fn closed(&self) -> Option<Reason> {
        let closed = self.closed.load(Ordering::Acquire);
        if closed == 0 { None } else { REASONS.into_iter().find(|reason| closed & bit(*reason) != 0) }
    }

    /// Whether `reason` is among those for which claims are refused now.
    pub fn is_closed_for(&self, reason: Reason) -> bool {
        self.closed.load(Ordering::Acquire) & bit(reason) != 0
    }

    /// Whether this region counts in majorities (S5): it knows what they have decided so far.
    pub fn has_voice(&self) -> bool {
        self.voice.load(Ordering::Acquire)
    }

    /// How this region stands to what majorities decide, in a word: for people.
    pub fn voice_name(&self, asks: bool) -> &'static str {
        match (self.has_voice(), asks || self.is_voice_wanted()) {
            (true, _) => "counted",
            (false, true) => "comparing",
            (false, false) => "unused",
        }
    }

    /// Somebody asks for what a majority decides.
    pub(crate) fn want_voice(&self) {
        self.voice_wanted.store(true, Ordering::Release);
    }

    /// Whether anybody has, since the start.
    pub(crate) fn is_voice_wanted(&self) -> bool {
        self.voice_wanted.load(Ordering::Acquire)
    }

    /// The newest epoch of the membership in whose majorities this life has counted, to be said by every segment.
    pub(crate) fn remember_voice(&self, epoch: Option<u64>) {
        self.voice_epoch.store(epoch.map_or(0, |epoch| epoch.saturating_add(1)), Ordering::Release);
    }

    /// What [`Self::remember_voice`] was told.
    pub(crate) fn remembered_voice(&self) -> Option<u64> {
        self.voice_epoch.load(Ordering::Acquire).checked_sub(1)
    }

    /// Somebody asks for what this region decides as the home of a key.
    pub(crate) fn want_home(&self) {
        self.home_wanted.store(true, Ordering::Release);
    }

    /// Whether anybody has, since the start.
    pub(crate) fn is_home_wanted(&self) -> bool {
        self.home_wanted.load(Ordering::Acquire)
    }

    /// The newest epoch in which this life may decide as a home, to be said by every segment.
    pub(crate) fn remember_home(&self, epoch: Option<u64>) {
        self.home_epoch.store(epoch.map_or(0, |epoch| epoch.saturating_add(1)), Ordering::Release);
    }

    /// What [`Self::remember_home`] was told.
    pub(crate) fn remembered_home(&self) -> Option<u64> {
        self.home_epoch.load(Ordering::Acquire).checked_sub(1)
    }

    /// Sets whether it counts.
    pub(crate) fn set_voice(&self, voice: bool) {
        self.voice.store(voice, Ordering::Release);
    }

    /// When the peer that has been silent longest was last heard, Unix milliseconds; 0: no peers.
    pub fn set_oldest_word_ms(&self, at_ms: u64) {
        self.oldest_word_ms.store(at_ms, Ordering::Relaxed);
    }

    /// Age of the oldest peer's last word at `now_ms`, in milliseconds; 0 without peers.
    pub fn stale_ms(&self, now_ms: u64) -> u64 {
        match self.oldest_word_ms.load(Ordering::Relaxed) {
            0 => 0,
            at_ms => now_ms.saturating_sub(at_ms),
        }
    }
}

fn bit(reason: Reason) -> u32 {
    1 << reason as u32
}

impl Store {
    /// Why a claim is refused whatever its key says, if it is. Memory and quotas are not asked here: they
    /// refuse what would be granted and nothing else (`memory`).
    pub(super) fn refusal(&self, wall_ms: u64) -> Option<Reason> {
        if let Some(reason) = self.gate.closed() {
            return Some(reason);
        }
        if wall_ms < self.grants_from_ms {
            return Some(Reason::Clock);
        }
        (self.tail.pending_bytes() > limits::TAIL_PENDING_BYTES_MAX).then_some(Reason::LogBehind)
    }

    /// `now` of decisions (S2). While a start waits for the wall clock to pass what a former life may have
    /// issued, the clock runs ahead of time itself: then the wall clock is the better `now`.
    pub fn now_ms(&self, wall_ms: u64) -> u64 {
        if wall_ms < self.grants_from_ms {
            wall_ms
        } else if self.below_ceiling(wall_ms) {
            self.clock.now_ms(wall_ms)
        } else {
            // A wall clock beyond the ceiling is not believed yet.
            self.clock.last().ms()
        }
    }

    /// `now` for dropping the dead: the wall clock, and before everything else while this region's clock is
    /// distrusted (S2: it drops nothing). Later than `now` is always safe here, earlier never.
    pub(super) fn death_now_ms(&self, wall_ms: u64) -> u64 {
        if self.distrusts_clock(wall_ms) { 0 } else { wall_ms }
    }

    /// A majority of peers contradicts our wall clock, or it has jumped beyond its ceiling: nothing is granted
    /// and nothing is dropped (S2).
    pub fn distrusts_clock(&self, wall_ms: u64) -> bool {
        self.gate.is_closed_for(Reason::Clock) || !self.below_ceiling(wall_ms)
    }

    /// Whether a claim would be looked at now (S7).
    pub fn is_ready(&self, wall_ms: u64) -> bool {
        self.unready_reason(wall_ms).is_none()
    }

    /// Why a claim would be refused now whatever its key, if it would.
    pub fn unready_reason(&self, wall_ms: u64) -> Option<Reason> {
        let ceiling = || (!self.below_ceiling(self.clock.now_ms(wall_ms))).then_some(Reason::Clock);
        self.refusal(wall_ms).or_else(ceiling)
    }

    /// Whether the clock may issue a stamp at `ms`: not beyond its durable ceiling (S2).
    pub(super) fn below_ceiling(&self, ms: u64) -> bool {
        ms <= self.ceiling_ms.load(Ordering::Acquire)
    }

    /// Appends a higher ceiling when less than half of it is left. To be called at least every second;
    /// the caller syncs to the release and then calls [`Store::settle_ceiling`].
    pub fn extend_ceiling(&self, wall_ms: u64) -> Option<Release> {
        let now_ms = self.clock.now_ms(wall_ms);
        let mut pending = lock(&self.ceiling_pending);
        let in_force_ms = self.ceiling_ms.load(Ordering::Acquire);
        let left = in_force_ms.saturating_sub(now_ms);
        let ceiling_ms = (wall_ms + limits::CEILING_AHEAD_MS).max(now_ms + limits::CEILING_LED_MS);
        let is_little = ceiling_ms.saturating_sub(in_force_ms)
            < limits::CEILING_AHEAD_MS - limits::CEILING_RENEW_BELOW_MS
            && left >= limits::CEILING_LED_MS / 2;
        if left > limits::CEILING_RENEW_BELOW_MS || is_little || pending.record.is_some() {
            return None;
        }
        if in_force_ms > 0 && wall_ms > in_force_ms + limits::CLOCK_JUMP_MS {
            // A clock that once follows a jump never comes back. So a jump must last, and no majority of
            // peers may contradict it; until then nothing is stamped.
            let since_ms = *pending.jumped_at_ms.get_or_insert(wall_ms);
            if wall_ms < since_ms {
                pending.jumped_at_ms = Some(wall_ms);
                return None;
            }
            if wall_ms - since_ms < limits::CLOCK_JUMP_SETTLE_MS || self.gate.is_closed_for(Reason::Clock) {
                return None;
            }
        }
        pending.jumped_at_ms = None;
        if !self.has_last_room() {
            // Nothing is stamped beyond the ceiling in force; it is extended once there is room again.
            return None;
        }
        let lsn = self.append_record(&Record::Ceiling(ceiling_ms), Durable::Interval);
        pending.record = Some((lsn, ceiling_ms));
        Some(Release { written: lsn, synced: lsn })
    }

    /// Appends the ceiling in force, or on its way, once more: the segment that holds it may be deleted.
    pub(crate) fn repeat_ceiling(&self) {
        let pending = lock(&self.ceiling_pending);
        let in_force_ms = self.ceiling_ms.load(Ordering::Acquire);
        let ceiling_ms = pending.record.map_or(in_force_ms, |(_, pending_ms)| in_force_ms.max(pending_ms));
        self.append_record(&Record::Ceiling(ceiling_ms), Durable::Interval);
    }

    /// Puts the pending ceiling in force once its record is synced.
    pub fn settle_ceiling(&self) {
        let mut pending = lock(&self.ceiling_pending);
        if let Some((lsn, ceiling_ms)) = pending.record
            && self.tail.synced() >= lsn
        {
            self.ceiling_ms.fetch_max(ceiling_ms, Ordering::AcqRel);
            pending.record = None;
        }
    }

    /// Appends a record that belongs to no key.
    pub fn append_record(&self, record: &Record<'_>, durable: Durable) -> u64 {
        let mut body = Vec::with_capacity(64);
        record.encode(&mut body);
        let (kind, payload) = body.split_first().expect("every record encodes its kind");
        self.tail.append(*kind, payload, 0, durable)
    }

    /// Appends an orderly end: all that was appended before is synced.
    pub fn append_stop(&self) -> u64 {
        self.append_record(&Record::Stop(MarkTag::new(&self.config.keys)), Durable::Always)
    }
}
