//! The winner: a pure function of the joined entry (S3), the same in every region that holds the
//! same parts. It reads no clock; whether the winner still *counts* at some `now` is
//! [`Entry::is_past`]'s to say.

use super::{Attempt, Entry, Outcome, Phase};
use crate::canary::{self, Bug};
use crate::ids::ClaimId;

/// Who holds a key (S3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Winner<'e, 'a> {
    /// Completed: this outcome is replayed to every duplicate.
    Settled(&'e Outcome<'a>),
    /// Claimed and not completed.
    Held(&'e Attempt<'a>),
    /// Nobody's.
    Free,
}

impl<'a> Entry<'a> {
    /// S3: drop the void and the superseded; then the outcome by majority and smallest completion;
    /// else the Held attempt with the smallest claim id; else free.
    pub fn winner(&self) -> Winner<'_, 'a> {
        let by_arrival = canary::planted(Bug::TieBreakByArrival);
        let outcomes = self.counting_outcomes();
        let settled = if by_arrival { outcomes.last() } else { outcomes.min_by_key(|o| o.rank()) };
        if let Some(outcome) = settled {
            return Winner::Settled(outcome);
        }
        let held = self.counting_attempts().filter(|attempt| attempt.is_held());
        let first = if by_arrival { held.last() } else { held.min_by_key(|attempt| attempt.id) };
        first.map_or(Winner::Free, Winner::Held)
    }

    /// Outcomes that are neither void nor superseded.
    pub fn counting_outcomes(&self) -> impl Iterator<Item = &Outcome<'a>> {
        let newest_ms = self.newest_claim_ms();
        self.outcomes.iter().filter(move |o| self.counts(o.claim, o.expires_at, newest_ms))
    }

    /// Attempts that are neither void nor superseded, whatever their phase.
    pub fn counting_attempts(&self) -> impl Iterator<Item = &Attempt<'a>> {
        let newest_ms = self.newest_claim_ms();
        self.attempts.iter().filter(move |a| self.counts(a.id, a.expires_at, newest_ms))
    }

    /// Attempts that stand in a new claim's way while their lease runs: Held or Asked (S4.1).
    pub fn blocking_attempts(&self) -> impl Iterator<Item = &Attempt<'a>> {
        self.counting_attempts().filter(|a| a.is_held() || a.phase == Phase::Asked)
    }

    /// Two Held attempts of different claimants whose leases run at `now` (S4.8).
    pub fn is_contested(&self, now_ms: u64) -> bool {
        let running = || self.counting_attempts().filter(|a| a.is_held() && now_ms <= a.lease_until);
        let Some(first) = running().next() else { return false };
        running().skip(1).any(|a| a.claimant.is_empty() || a.claimant != first.claimant)
    }

    fn counts(&self, claim: ClaimId, expires_at: u64, newest_ms: u64) -> bool {
        claim.stamp > self.forgotten && newest_ms < expires_at
    }
}
