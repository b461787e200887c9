//! INV-6, for what homes decide: "`home` with fallback = refuse: none while the home keeps its disk and is not changed."
//!
//! It keeps every grant of a key that its home made, until its holder gave it back, its lease ran out, or FORGET voided it;
//! what is done is held until it expires. A grant is judged no more once the region that made it has lost what it wrote, or
//! left: then the home is another one, and knows what it was told. A region that is added does not excuse anything: it
//! has to know what the home before it granted.
//!
//! While wall clocks are further apart than they may be, leases promise nothing.
//!
//! And that nobody else decides: a region that is not the home grants, completes and renews nothing, and tells what the home
//! said only if it knows what that rests on.
//!
//! Must never: ask the product who the home is to be in the next moment; each decision says who it was.

use std::collections::BTreeMap;

use super::ask::{Answer, Ask, ByHome, Decision};
use super::facts::{ClaimName, Key, Lsn, Millis, Region, View};
use super::violation::{Violation, clause};
use super::winner::{Verdict, winner};

/// One claim that a home granted.
#[derive(Clone, Debug)]
struct Grant {
    claim: ClaimName,
    /// Who knows it, and the end of that region's log with the last that it wrote of it.
    by: Region,
    lsn: Lsn,
    lease_until: Millis,
    expires_at: Millis,
    done: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Homes {
    grants: BTreeMap<Key, Vec<Grant>>,
}

impl Homes {
    /// A region's log survived up to `kept`.
    pub fn crashed(&mut self, region: Region, kept: Lsn) {
        for grants in self.grants.values_mut() {
            grants.retain(|grant| grant.by != region || grant.lsn <= kept);
            grants.iter_mut().filter(|grant| grant.by == region).for_each(|grant| grant.lsn = 0);
        }
    }

    /// A region has lost its disk, or left.
    pub fn lost(&mut self, region: Region) {
        self.grants.values_mut().for_each(|grants| grants.retain(|grant| grant.by != region));
    }

    /// A request was decided, or what another region decided is told.
    pub fn decided(&mut self, decision: &Decision) -> Result<(), Violation> {
        match decision.by_home {
            ByHome::Not | ByHome::FallsBack => Ok(()),
            ByHome::Here => self.here(decision),
            ByHome::Relayed => relayed(decision),
            ByHome::Elsewhere => elsewhere(decision),
        }
    }

    fn here(&mut self, decision: &Decision) -> Result<(), Violation> {
        let grants = self.grants.entry(decision.key).or_default();
        grants.retain(|grant| grant.claim.stamp > decision.before.forgotten);
        let own = |grant: &&mut Grant, claim: ClaimName| grant.claim == claim && grant.by == decision.region;
        match (&decision.ask, &decision.answer) {
            (Ask::Claim { .. }, Answer::Granted { claim, lease_until, expires_at }) => {
                let until = |grant: &Grant| if grant.done { grant.expires_at } else { grant.lease_until };
                let lives = |grant: &&Grant| grant.claim != *claim && decision.now <= until(grant);
                if let Some(first) = grants.iter().find(lives).filter(|_| !decision.apart) {
                    let so_far = if first.done { "its outcome is to be kept" } else { "its lease runs" };
                    let story = [
                        format!("r{} granted {}, and {so_far} until {}", first.by, first.claim, until(first)),
                        decision.words(),
                    ];
                    return Err(decision.violation("INV-6", clause::INV_6_HOME, story));
                }
                if grants.iter().all(|grant| grant.claim != *claim) {
                    let (by, lsn) = (decision.region, decision.lsn_after);
                    let (lease_until, expires_at) = (*lease_until, *expires_at);
                    grants.push(Grant { claim: *claim, by, lsn, lease_until, expires_at, done: false });
                }
            }
            (Ask::Renew { token, .. }, Answer::Renewed { lease_until }) => {
                for grant in grants.iter_mut().filter(|grant| own(grant, token.claim)) {
                    grant.lease_until = grant.lease_until.max(*lease_until);
                    grant.lsn = decision.lsn_after;
                }
            }
            (Ask::Complete { token, .. }, Answer::Completed) => {
                for grant in grants.iter_mut().filter(|grant| own(grant, token.claim)) {
                    (grant.done, grant.lsn) = (true, decision.lsn_after);
                }
            }
            (Ask::Release { token }, Answer::Released) => {
                grants.retain(|grant| grant.claim != token.claim || grant.done);
            }
            _ => {}
        }
        Ok(())
    }
}

/// "The key's home region decides": whoever is not, and whose policy refuses, decides nothing.
fn elsewhere(decision: &Decision) -> Result<(), Violation> {
    let decided = matches!(
        decision.answer,
        Answer::Granted { .. }
            | Answer::Completed
            | Answer::Contested
            | Answer::Renewed { .. }
            | Answer::Released
    );
    if decided {
        let why = format!("but r{} is not the home of the key, and its policy refuses", decision.region);
        return Err(decision.violation("S5", clause::S5_HOME, [decision.words(), why]));
    }
    Ok(())
}

/// What another region decided changes nothing here, and is told only as far as it is known here.
fn relayed(decision: &Decision) -> Result<(), Violation> {
    let wrong = |why: String| Err(decision.violation("S5", clause::S5_HOME, [decision.words(), why]));
    if decision.before != decision.after {
        return wrong("and wrote something, although it was not to decide".to_owned());
    }
    let held = |view: &View, claim: ClaimName| matches!(winner(view), Verdict::Held(a) if a.claim == claim);
    match &decision.answer {
        Answer::Granted { claim, .. } if !held(&decision.before, *claim) => {
            wrong(format!("but by what it knows the key is {}", winner(&decision.before)))
        }
        _ => Ok(()),
    }
}
