//! The "writes" column of S4: what a decision may have changed, derived from the entry before and
//! after it. What it changed is what the ledger records as accepted.
//!
//! INV-9: "Stamps of a region strictly increase, across restarts and clock steps." S1: "a claim that
//! saw an earlier one has the greater stamp." S4: "Others' attempts are written only by a takeover".
//!
//! Must never: record as accepted what the answer did not admit to.

use super::ask::{Answer, Ask, Decision};
use super::facts::{AttemptFact, Lsn, OutcomeFact, Part, Phase, stamp_ms};
use super::sight::{covers, describe};
use super::violation::{Violation, clause};

/// The parts that the decision wrote, each checked against what its request may write.
pub fn accepted(decision: &Decision) -> Result<Vec<Part>, Violation> {
    let fresh: Vec<Part> = decision.after.parts().filter(|part| !covers(&decision.before, part)).collect();
    for part in &fresh {
        let allowed = match part {
            Part::Attempt(attempt) => attempt_allowed(decision, attempt),
            Part::Outcome(outcome) => {
                let own = (outcome.region, outcome.incarnation) == (decision.region, decision.incarnation);
                // Of an outcome that is there already, whose it is may be another's: a majority holds it (S5).
                let known = decision.before.outcomes.iter().any(|o| o.slot() == outcome.slot());
                let majority = decision.quorum && outcome.majority && known;
                (own || majority) && outcome_allowed(decision, outcome, majority)
            }
            Part::Forgotten(_) => decision.ask == Ask::Forget,
        };
        if !allowed {
            let story =
                [decision.words(), format!("and wrote {}, which is not its to write", describe(part))];
            return Err(decision.violation("S4", clause::S4, story));
        }
    }
    if let Answer::Granted { claim, .. } = &decision.answer
        && !decision.after.claims().any(|known| known == *claim)
    {
        let story = [decision.words(), format!("but {claim} is not in the entry")];
        return Err(decision.violation("S4", clause::S4, story));
    }
    Ok(fresh)
}

fn outcome_allowed(decision: &Decision, outcome: &OutcomeFact, known: bool) -> bool {
    match &decision.ask {
        Ask::Complete { token, bytes } => {
            token.claim == outcome.claim
                && *bytes == outcome.bytes
                && token.fingerprint == outcome.fingerprint
                && token.expires_at == outcome.expires_at
        }
        // In the name of whoever held the key.
        Ask::Resolve { bytes: Some(bytes) } => {
            let of_held = |a: &AttemptFact| {
                (a.claim, a.fingerprint, a.expires_at)
                    == (outcome.claim, outcome.fingerprint, outcome.expires_at)
            };
            *bytes == outcome.bytes && (known || decision.before.attempts.iter().any(of_held))
        }
        _ => false,
    }
}

fn attempt_allowed(decision: &Decision, attempt: &AttemptFact) -> bool {
    let old = decision.before.attempts.iter().find(|a| a.claim == attempt.claim);
    let own = (attempt.claim.region, attempt.claim.incarnation) == (decision.region, decision.incarnation);
    match (&decision.ask, &decision.answer, old) {
        // S5: "the claim is first written Asked"; then Held, or "Released (only while Asked)".
        (Ask::Claim { fingerprint, claimant, .. }, Answer::Asks, None) => {
            own && attempt.phase == Phase::Asked
                && attempt.fingerprint == *fingerprint
                && attempt.claimant == *claimant
                && attempt.lease_until <= attempt.expires_at
                && decision.before.expiries().all(|seen| seen <= attempt.expires_at)
        }
        (Ask::Claim { .. }, Answer::Granted { claim, .. }, Some(old)) if attempt.claim == *claim => {
            own && old.phase == Phase::Asked && *attempt == AttemptFact { phase: Phase::Held, ..old.clone() }
        }
        (Ask::Claim { .. }, _, Some(old)) if old.phase == Phase::Asked && own => {
            *attempt == AttemptFact { phase: Phase::Released, ..old.clone() }
        }
        (Ask::Renew { token, .. }, Answer::Asks, Some(old)) => {
            let lease_until = attempt.lease_until;
            attempt.claim == token.claim
                && attempt.claim.region == decision.region
                && *attempt == AttemptFact { lease_until, ..old.clone() }
        }
        (Ask::Resolve { bytes: None }, Answer::Released, Some(old)) => {
            *attempt == AttemptFact { abandoned_lease: old.lease_until, ..old.clone() }
        }
        // A takeover changes nothing of another's attempt but `abandoned_lease`, to the lease it saw.
        (Ask::Claim { .. }, Answer::Granted { claim, .. }, Some(old)) if attempt.claim != *claim => {
            *attempt == AttemptFact { abandoned_lease: old.lease_until, ..old.clone() }
        }
        (
            Ask::Claim { fingerprint, claimant, .. },
            Answer::Granted { claim, lease_until, expires_at },
            None,
        ) => {
            attempt.claim == *claim
                && (claim.region, claim.incarnation) == (decision.region, decision.incarnation)
                && attempt.fingerprint == *fingerprint
                && attempt.claimant == *claimant
                && attempt.lease_until == *lease_until
                && attempt.expires_at == *expires_at
                && *lease_until <= *expires_at
                && decision.before.expiries().all(|seen| seen <= *expires_at)
        }
        (Ask::Renew { token, .. }, Answer::Renewed { lease_until }, Some(old)) => {
            attempt.claim == token.claim
                && attempt.claim.region == decision.region
                && *attempt == AttemptFact { lease_until: *lease_until, ..old.clone() }
                && *lease_until <= attempt.expires_at
        }
        (Ask::Release { token }, Answer::Released, Some(old)) => {
            attempt.claim == token.claim
                && attempt.claim.region == decision.region
                && *attempt == AttemptFact { phase: attempt.phase, ..old.clone() }
        }
        _ => false,
    }
}

/// The newest stamp one region has issued.
#[derive(Clone, Debug, Default)]
pub struct Stamps {
    newest: u64,
    /// Since the last crash: where each stamp stands in the log.
    recent: Vec<(Lsn, u64)>,
    /// The newest before that.
    before: u64,
}

impl Stamps {
    /// The region crashed and its log survived up to `kept`. Where only the process died, the rest had
    /// not reached the kernel and so nobody else (INV-8): its stamps may be issued again.
    pub fn crash(&mut self, kept: Lsn, process_only: bool) {
        let survived = |(lsn, _): &&(Lsn, u64)| !process_only || *lsn <= kept;
        let newest = self.recent.iter().filter(survived).map(|(_, stamp)| *stamp).max();
        self.before = self.before.max(newest.unwrap_or(0));
        self.newest = self.before;
        self.recent.clear();
    }

    /// INV-9, and the causality of stamps: greater than all that the decision saw.
    pub fn issue(&mut self, decision: &Decision, parts: &[Part]) -> Result<(), Violation> {
        for part in parts {
            let stamp = match part {
                Part::Attempt(a) if decision.before.claims().all(|known| known != a.claim) => a.claim.stamp,
                Part::Attempt(_) => continue,
                // That a majority holds it is no new outcome.
                Part::Outcome(o) if decision.before.outcomes.iter().any(|known| known.slot() == o.slot()) => {
                    continue;
                }
                Part::Outcome(outcome) => outcome.stamp,
                Part::Forgotten(stamp) => *stamp,
            };
            if stamp <= self.newest {
                let story = [
                    format!(
                        "r{} had issued {}+{}",
                        decision.region,
                        stamp_ms(self.newest),
                        self.newest & 0xffff
                    ),
                    format!("and then {}: {}+{}", decision.words(), stamp_ms(stamp), stamp & 0xffff),
                ];
                return Err(decision.violation("INV-9", clause::INV_9, story));
            }
            let completions = decision.before.outcomes.iter().map(|o| o.stamp);
            let seen =
                decision.before.claims().map(|claim| claim.stamp).chain(completions).max().unwrap_or(0);
            if stamp <= seen {
                let story = [
                    format!("r{} knew a stamp of {}+{}", decision.region, stamp_ms(seen), seen & 0xffff),
                    format!("and then {} below it", decision.words()),
                ];
                return Err(decision.violation("INV-9", clause::INV_9, story));
            }
            self.newest = stamp;
            self.recent.push((decision.lsn_after, stamp));
        }
        Ok(())
    }
}
