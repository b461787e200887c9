//! Who holds a key, by brute force from the words of S3.
//!
//! Each rule is a scan over all parts that can be read beside its sentence; nothing is sorted, cached
//! or cut short. It is slow on purpose: entries in a run have a handful of parts.
//!
//! Must never: read a clock; share code with `crdt::entry`.

use super::facts::{AttemptFact, ClaimName, Millis, OutcomeFact, Phase, View, stamp_ms};

/// S3's three answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<'v> {
    /// Nobody holds it.
    Free,
    /// Claimed and not completed.
    Held(&'v AttemptFact),
    /// Completed: this is what every duplicate is answered.
    Settled(&'v OutcomeFact),
}

impl Verdict<'_> {
    /// When the winner's retention ends; 0 where nobody wins.
    pub const fn expires_at(&self) -> Millis {
        match self {
            Self::Free => 0,
            Self::Held(attempt) => attempt.expires_at,
            Self::Settled(outcome) => outcome.expires_at,
        }
    }

    /// The winner's payload, where somebody wins.
    pub const fn fingerprint(&self) -> Option<Option<[u8; 16]>> {
        match self {
            Self::Free => None,
            Self::Held(attempt) => Some(attempt.fingerprint),
            Self::Settled(outcome) => Some(outcome.fingerprint),
        }
    }

    /// The winning claim.
    pub const fn claim(&self) -> Option<ClaimName> {
        match self {
            Self::Free => None,
            Self::Held(attempt) => Some(attempt.claim),
            Self::Settled(outcome) => Some(outcome.claim),
        }
    }
}

impl std::fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Free => f.write_str("free"),
            Self::Held(a) => write!(f, "held by {}", a.claim),
            Self::Settled(o) => {
                write!(f, "settled by {} (completed in r{} at {})", o.claim, o.region, stamp_ms(o.stamp))
            }
        }
    }
}

/// S3 rule 1: "void (claim stamp <= `forgotten`)".
pub const fn is_void(view: &View, claim: ClaimName) -> bool {
    claim.stamp <= view.forgotten
}

/// S3 rule 1: "some claim known from an attempt or an outcome of this key has a stamp whose
/// milliseconds are >= this part's `expires_at`".
pub fn is_superseded(view: &View, expires_at: Millis) -> bool {
    view.claims().any(|claim| stamp_ms(claim.stamp) >= expires_at)
}

/// Neither void nor superseded.
pub fn counts(view: &View, claim: ClaimName, expires_at: Millis) -> bool {
    !is_void(view, claim) && !is_superseded(view, expires_at)
}

/// S3: "an attempt counts as Abandoned while abandoned_lease >= lease_until".
pub const fn is_abandoned(attempt: &AttemptFact) -> bool {
    attempt.abandoned_lease >= attempt.lease_until
}

/// Held, and not Abandoned.
pub fn is_held(attempt: &AttemptFact) -> bool {
    attempt.phase == Phase::Held && !is_abandoned(attempt)
}

/// S3 rule 2's order: majority first, then the smallest (completion stamp, completing region).
pub fn outranks(a: &OutcomeFact, b: &OutcomeFact) -> bool {
    match (a.majority, b.majority) {
        (true, false) => true,
        (false, true) => false,
        _ => (a.stamp, a.region) < (b.stamp, b.region),
    }
}

/// S3's winner.
pub fn winner(view: &View) -> Verdict<'_> {
    let outcomes = || view.outcomes.iter().filter(|o| counts(view, o.claim, o.expires_at));
    if let Some(best) = outcomes().find(|o| outcomes().all(|other| !outranks(other, o))) {
        return Verdict::Settled(best);
    }
    let held = || view.attempts.iter().filter(|a| is_held(a) && counts(view, a.claim, a.expires_at));
    held().find(|a| held().all(|other| a.claim <= other.claim)).map_or(Verdict::Free, Verdict::Held)
}

/// S3 Expiry: "past `expires_at + max_drift`" for every part: the entry may die whole.
pub fn all_past(view: &View, now: Millis, max_drift: Millis) -> bool {
    view.expiries().all(|expires_at| now > expires_at + max_drift)
}
