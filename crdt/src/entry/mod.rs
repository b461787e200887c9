//! The entry of one key and its join (S3): a map of last-write-wins registers, read first-write-wins.
//!
//! Join is pointwise and reads no clock: commutative, associative, idempotent (INV-1). A register
//! that tries to be first-write-wins *inside* the join is not: with expiry "earliest wins" is not
//! associative, and "release" makes a cycle in any total order. So the join keeps everything, and
//! [`Entry::winner`] decides afterwards.
//!
//! Entries borrow their bytes from wherever they were read (a packed record of the map, a frame, a
//! request): an operation decodes, decides, joins and packs again without copying an outcome twice.
//!
//! Must never: read a clock in a join, keep more than [`limits::OUTCOMES_JOINED_MAX`] outcomes.

mod bytes;
mod few;
mod pack;
mod winner;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

pub use few::Few;
pub use pack::{Bytes, MalformedEntry, Packed};
pub(crate) use pack::{PackedAttempt, PackedCompletion};
pub use winner::Winner;

use crate::canary::{self, Bug};
use crate::hlc::Stamp;
use crate::ids::{ClaimId, Fingerprint, Incarnation, RegionId};
use crate::limits;

/// How far a claim has come; grows only (S3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Written to gather a majority: blocks others and is granted to nobody (S5).
    Asked,
    /// Granted.
    Held,
    /// Ended by its holder before any effect.
    Released,
}

/// One claim, in the slot of its region and incarnation (S3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt<'a> {
    /// Which claim.
    pub id: ClaimId,
    /// How far it has come.
    pub phase: Phase,
    /// Until when its holder may be silent, Unix milliseconds.
    pub lease_until: u64,
    /// The `lease_until` that a takeover saw; 0 before any.
    pub abandoned_lease: u64,
    /// Digest of the payload.
    pub fingerprint: Option<Fingerprint>,
    /// The caller's own id; empty where absent, which equals nobody's.
    pub claimant: &'a [u8],
    /// Bytes that the claimant left for others to read.
    pub note: &'a [u8],
    /// Until when the key is remembered, Unix milliseconds.
    pub expires_at: u64,
}

impl Attempt<'_> {
    /// Taken over, and not renewed beyond what the takeover saw (S3).
    pub fn is_abandoned(&self) -> bool {
        if canary::planted(Bug::RenewalDoesNotRevive) {
            return self.abandoned_lease > 0;
        }
        self.abandoned_lease >= self.lease_until
    }

    /// Granted, not taken over, not released.
    pub fn is_held(&self) -> bool {
        self.phase == Phase::Held && !self.is_abandoned()
    }
}

/// What a completed claim left behind (S3); written once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome<'a> {
    /// Whose outcome.
    pub claim: ClaimId,
    /// When it was completed.
    pub completed: Stamp,
    /// At which region.
    pub region: RegionId,
    /// In which life of that region's data.
    pub incarnation: Incarnation,
    /// A majority of regions holds it (S5).
    pub majority: bool,
    /// Its double execution has been dealt with (S4.8).
    pub compensated: bool,
    /// The claim's fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// What duplicates are answered.
    pub bytes: &'a [u8],
    /// The claim's expiry, Unix milliseconds.
    pub expires_at: u64,
}

impl Outcome<'_> {
    /// The order of the winner rule (S3.2): majority first, then the earliest completion.
    fn rank(&self) -> (bool, Stamp, RegionId, ClaimId, Incarnation) {
        (!self.majority, self.completed, self.region, self.claim, self.incarnation)
    }

    fn slot(&self) -> (ClaimId, RegionId, Incarnation) {
        (self.claim, self.region, self.incarnation)
    }
}

/// All that is known of one key (S3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry<'a> {
    /// One a slot, ordered by (region, incarnation).
    pub attempts: Few<Attempt<'a>>,
    /// One a slot, ordered by (claim, region, incarnation).
    pub outcomes: Few<Outcome<'a>>,
    /// Claims up to here are void; zero where nothing was forgotten.
    pub forgotten: Stamp,
}

impl<'a> Entry<'a> {
    /// An entry of one attempt.
    pub fn of_attempt(attempt: Attempt<'a>) -> Self {
        Self { attempts: Few::One(attempt), ..Self::default() }
    }

    /// An entry of one outcome.
    pub fn of_outcome(outcome: Outcome<'a>) -> Self {
        Self { outcomes: Few::One(outcome), ..Self::default() }
    }

    /// Nothing is known, not even that something was forgotten.
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty() && self.outcomes.is_empty() && self.forgotten == Stamp::ZERO
    }

    /// The least entry that contains both (INV-1).
    pub fn join(self, other: &Entry<'a>) -> Self {
        self.union(other).settled()
    }

    /// The parts of both, those that no longer count included: what losers are derived from. Everything
    /// else wants [`Self::join`].
    pub fn union(mut self, other: &Entry<'a>) -> Self {
        for attempt in other.attempts.iter() {
            self.join_attempt(attempt);
        }
        let forget = canary::planted(Bug::JoinForgetsOutcome) && !self.outcomes.is_empty();
        for outcome in other.outcomes.iter().filter(|_| !forget) {
            self.join_outcome(outcome);
        }
        self.forgotten = self.forgotten.max(other.forgotten);
        self
    }

    fn join_attempt(&mut self, theirs: &Attempt<'a>) {
        let slot = |attempt: &Attempt<'_>| (attempt.id.region, attempt.id.incarnation);
        match self.attempts.binary_search_by(|ours| slot(ours).cmp(&slot(theirs))) {
            Ok(at) => self.attempts[at] = later_attempt(&self.attempts[at], theirs),
            Err(at) => self.attempts.insert(at, *theirs),
        }
    }

    fn join_outcome(&mut self, theirs: &Outcome<'a>) {
        match self.outcomes.binary_search_by(|ours| ours.slot().cmp(&theirs.slot())) {
            Ok(at) => self.outcomes[at] = same_outcome(&self.outcomes[at], theirs),
            Err(at) => self.outcomes.insert(at, *theirs),
        }
    }

    /// Without outcomes that are void or superseded, which can never count again whatever is joined in
    /// later, and with at most [`limits::OUTCOMES_JOINED_MAX`] of the others. Keeping the void ones would let them
    /// crowd out the living; and what FORGET erases is to be gone (S4.6).
    pub fn settled(mut self) -> Self {
        if self.outcomes.is_empty() {
            return self;
        }
        let newest_ms = self.newest_claim_ms();
        let forgotten = self.forgotten;
        self.outcomes.retain(|o| o.claim.stamp > forgotten && newest_ms < o.expires_at);
        while self.outcomes.len() > limits::OUTCOMES_JOINED_MAX {
            // A memory bound against hostile peers; honest regions stay far below it.
            let last = |outcome: &Outcome<'_>| (outcome.completed, outcome.region, outcome.slot());
            let by_order = self.outcomes.iter().enumerate().max_by(|(_, a), (_, b)| last(a).cmp(&last(b)));
            let Some((at, _)) = by_order else { break };
            self.outcomes.remove(at);
        }
        self
    }

    /// Takes out what is dead at `now` (S3 Expiry): past its expiry by more than `max_drift_ms` *and*
    /// superseded, void, or in an entry of which every part is so past.
    pub fn drop_dead(&mut self, now_ms: u64, max_drift_ms: u64) {
        let max_drift_ms = if canary::planted(Bug::DiesWithoutMargin) { 0 } else { max_drift_ms };
        let past = |expires_at: u64| now_ms > expires_at.saturating_add(max_drift_ms);
        if !self.parts().any(|(_, expires_at)| past(expires_at)) && self.forgotten == Stamp::ZERO {
            return;
        }
        let all_past = self.is_past(now_ms, max_drift_ms) || canary::planted(Bug::DropsLiveParts);
        let newest_ms = self.newest_claim_ms();
        let forgotten = self.forgotten;
        let dead = |claim: ClaimId, expires_at: u64| {
            past(expires_at) && (all_past || newest_ms >= expires_at || claim.stamp <= forgotten)
        };
        self.attempts.retain(|attempt| !dead(attempt.id, attempt.expires_at));
        self.outcomes.retain(|outcome| !dead(outcome.claim, outcome.expires_at));
        let bare = self.attempts.is_empty() && self.outcomes.is_empty();
        let with_its_key = bare && canary::planted(Bug::ForgetDiesWithKey);
        if past(forgotten.ms().saturating_add(limits::FORGOTTEN_KEPT_MS)) || with_its_key {
            self.forgotten = Stamp::ZERO;
        }
    }

    /// Every part is past its expiry by more than `max_drift_ms`: for a claim, the key is free (S4.1).
    pub fn is_past(&self, now_ms: u64, max_drift_ms: u64) -> bool {
        self.parts().all(|(_, expires_at)| now_ms > expires_at.saturating_add(max_drift_ms))
    }

    /// When the last part may die, Unix milliseconds, `max_drift` to be added; 0 for an empty entry.
    pub fn dies_at_ms(&self) -> u64 {
        let parts = self.parts().map(|(_, expires_at)| expires_at).max().unwrap_or(0);
        if self.forgotten == Stamp::ZERO {
            return parts;
        }
        parts.max(self.forgotten.ms().saturating_add(limits::FORGOTTEN_KEPT_MS))
    }

    /// When there is something to take out, as [`Self::dies_at_ms`]: a FORGET outlives the parts that it
    /// voided, which must not stay for its 90 days.
    pub fn parts_die_at_ms(&self) -> u64 {
        if canary::planted(Bug::ForgetKeepsTheDead) {
            return self.dies_at_ms();
        }
        let parts = self.parts().map(|(_, expires_at)| expires_at).max();
        parts.unwrap_or_else(|| self.dies_at_ms())
    }

    /// The greatest stamp anywhere in it, to be checked against a wall clock and then observed (S2).
    pub fn newest_stamp(&self) -> Stamp {
        let claims = self.parts().map(|(claim, _)| claim.stamp);
        let completions = self.outcomes.iter().map(|outcome| outcome.completed);
        claims.chain(completions).max().unwrap_or_default().max(self.forgotten)
    }

    /// The greatest stamp issued by one region that this entry shows.
    pub fn newest_stamp_of(&self, region: RegionId) -> Stamp {
        let claims = self.parts().map(|(claim, _)| claim).filter(|claim| claim.region == region);
        let completions = self.outcomes.iter().filter(|outcome| outcome.region == region);
        claims.map(|claim| claim.stamp).chain(completions.map(|o| o.completed)).max().unwrap_or_default()
    }

    /// Claim and expiry of every part.
    fn parts(&self) -> impl Iterator<Item = (ClaimId, u64)> + '_ {
        let attempts = self.attempts.iter().map(|attempt| (attempt.id, attempt.expires_at));
        attempts.chain(self.outcomes.iter().map(|outcome| (outcome.claim, outcome.expires_at)))
    }

    /// Milliseconds of the newest claim known, from an attempt or an outcome.
    pub(crate) fn newest_claim_ms(&self) -> u64 {
        self.parts().map(|(claim, _)| claim.stamp.ms()).max().unwrap_or(0)
    }
}

/// Last write wins by claim stamp; within one claim everything only grows (S3).
fn later_attempt<'a>(ours: &Attempt<'a>, theirs: &Attempt<'a>) -> Attempt<'a> {
    match ours.id.stamp.cmp(&theirs.id.stamp) {
        Ordering::Greater => return *ours,
        Ordering::Less => return *theirs,
        Ordering::Equal => {}
    }
    // Fixed fields are equal in all honest data; a lattice must not depend on honesty.
    let fixed = |a: &Attempt<'a>| (a.fingerprint, a.claimant, a.note, a.expires_at);
    let mut joined = if fixed(ours) >= fixed(theirs) { *ours } else { *theirs };
    joined.phase = ours.phase.max(theirs.phase);
    joined.lease_until = ours.lease_until.max(theirs.lease_until);
    joined.abandoned_lease = ours.abandoned_lease.max(theirs.abandoned_lease);
    joined
}

/// Written once: only `majority` and `compensated` grow; the rest is equal in all honest data.
fn same_outcome<'a>(ours: &Outcome<'a>, theirs: &Outcome<'a>) -> Outcome<'a> {
    let fixed = |o: &Outcome<'a>| (o.completed, o.fingerprint, o.bytes, o.expires_at);
    let mut joined = if fixed(ours) <= fixed(theirs) { *ours } else { *theirs };
    joined.majority = ours.majority || theirs.majority;
    joined.compensated = ours.compensated || theirs.compensated;
    joined
}
