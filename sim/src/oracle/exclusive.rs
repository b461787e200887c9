//! INV-6, for what majorities decide: no two regions are granted one key while the first may still act on it.
//!
//! It keeps every grant of a key whose namespace is decided by majorities, until its holder gave it back, its lease ran
//! out, or FORGET voided it. What a majority holds as done is held until it expires. It knows nothing of rounds.
//!
//! A majority that has lost its disks has forgotten what it decided; so a grant is judged no more once as many disks are
//! gone as a majority has, those of retired regions among them.
//!
//! Must never: excuse a second grant by anything that a region knew.

use std::collections::BTreeMap;

use super::ask::{Answer, Ask, Decision};
use super::facts::{ClaimName, Key, Millis};
use super::violation::{Violation, clause};

/// One claim that was granted by a majority.
#[derive(Clone, Debug)]
struct Grant {
    claim: ClaimName,
    lease_until: Millis,
    expires_at: Millis,
    done: bool,
    /// Disks lost since.
    losses: usize,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Exclusive {
    grants: BTreeMap<Key, Vec<Grant>>,
    /// So many regions decide.
    majority: usize,
}

impl Exclusive {
    /// Where so many regions are a majority at least.
    pub fn new(majority: usize) -> Self {
        Self { grants: BTreeMap::new(), majority }
    }

    /// A disk is lost, or retired with its region, with what it acknowledged.
    pub fn disk_lost(&mut self) {
        let grants = self.grants.values_mut().flatten();
        grants.for_each(|grant| grant.losses += 1);
    }

    /// A request was decided.
    pub fn decided(&mut self, decision: &Decision) -> Result<(), Violation> {
        if !decision.quorum {
            return Ok(());
        }
        let grants = self.grants.entry(decision.key).or_default();
        grants.retain(|grant| grant.claim.stamp > decision.before.forgotten && grant.losses < self.majority);
        match (&decision.ask, &decision.answer) {
            (Ask::Claim { .. }, Answer::Granted { claim, lease_until, expires_at }) => {
                // By the clock of whoever grants: others may be ahead of it, and takeovers wait for `max_drift` more.
                let lives = |grant: &&Grant| {
                    let until = if grant.done { grant.expires_at } else { grant.lease_until };
                    grant.claim != *claim && decision.now <= until
                };
                // "clocks within `max_drift`": whose clock is further behind may take a lease for running that is over.
                if let Some(first) = grants.iter().find(lives).filter(|_| !decision.apart) {
                    let so_far =
                        if first.done { "a majority held its outcome, to be kept" } else { "its lease ran" };
                    let until = if first.done { first.expires_at } else { first.lease_until };
                    let story = [
                        format!("{} was granted before, and {so_far} until {until}", first.claim),
                        decision.words(),
                    ];
                    return Err(decision.violation("INV-6", clause::INV_6, story));
                }
                let known = grants.iter_mut().find(|grant| grant.claim == *claim);
                if known.is_none() {
                    let (lease_until, expires_at) = (*lease_until, *expires_at);
                    grants.push(Grant { claim: *claim, lease_until, expires_at, done: false, losses: 0 });
                }
            }
            (Ask::Renew { token, .. }, Answer::Renewed { lease_until }) => {
                let renewed = grants.iter_mut().find(|grant| grant.claim == token.claim);
                renewed.into_iter().for_each(|grant| grant.lease_until = grant.lease_until.max(*lease_until));
            }
            (Ask::Complete { token, .. }, Answer::Completed) => {
                let done = grants.iter_mut().find(|grant| grant.claim == token.claim);
                done.into_iter().for_each(|grant| grant.done = true);
            }
            (Ask::Release { token }, Answer::Released) => {
                grants.retain(|grant| grant.claim != token.claim || grant.done);
            }
            _ => {}
        }
        Ok(())
    }
}
