//! What the services beside the regions want, and when: jobs drawn from the seed before the run begins.
//!
//! A job is one operation of a service from its claim to whatever ends it; [`crate::worker`] does it. Between them jobs
//! do what services do wrong: work longer than their lease, come back as zombies, send the same key with another payload,
//! give up, forget.
//!
//! Drawn beforehand and each with draws of its own, so that a job can be taken out and the others stay what they were.
//!
//! Must never: look at the state of the run.

use crate::random::{Dice, Stream};
use crate::scenario::Scenario;

/// One operation of a service, before it begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// Its own draws go by it; unique in a run.
    pub number: u32,
    /// When it begins, virtual microseconds.
    pub at_us: u64,
    /// The region beside its service, by index.
    pub home: usize,
    /// Which key.
    pub key: usize,
    /// What is done.
    pub course: Course,
}

/// What a job does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Course {
    /// Looks at the key.
    Get,
    /// Has it forgotten.
    Forget,
    /// Claims it, and goes on once it is granted.
    Claim {
        /// What the claim says of its payload.
        payload: Payload,
        /// What it says of who claims.
        claimant: Claimant,
        /// Its lease, milliseconds.
        lease_ms: u64,
        /// What happens then.
        then: Then,
    },
}

/// Which payload stands behind a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// It is not said.
    Unsaid,
    /// That of the key.
    Same,
    /// Another one, by mistake.
    Other,
}

/// Under which name a service claims.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claimant {
    /// None.
    Unnamed,
    /// One that several use.
    Shared,
    /// One of its own.
    Own,
}

/// What is done with a claim once it is granted; times in virtual microseconds from then on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// It is completed.
    Complete(u64),
    /// It is renewed so often, and completed.
    Renew(u32),
    /// It is given back.
    Release(u64),
    /// Nothing; the service is gone.
    Vanish,
    /// Nothing for so long, and then the service completes it as if nothing had happened.
    CompleteLate(u64),
    /// Nothing for so long, and then the service gives it back.
    ReleaseLate(u64),
}

/// Typical pause of a service between two jobs, microseconds.
const PAUSE_US: u64 = 60_000;
/// A zombie comes back after about this, microseconds.
const ZOMBIE_US: u64 = 500_000;

/// All jobs of a run, by when they begin.
pub fn draw(scenario: &Scenario) -> Vec<Job> {
    let mut jobs = Vec::new();
    for service in 0..scenario.clients {
        let mut dice = Dice::new(scenario.seed, Stream::Workload, service as u64);
        let home = service % scenario.regions;
        let mut at_us = dice.between(30_000, 300_000);
        while at_us < scenario.storm_us {
            let key = dice.below(scenario.keys.len() as u64) as usize;
            let (course, busy_us) = course(scenario, key, &mut dice);
            jobs.push(Job { number: 0, at_us, home, key, course });
            at_us += busy_us + dice.heavy(PAUSE_US);
        }
    }
    jobs.sort_by_key(|job| job.at_us);
    for (number, job) in (0..).zip(&mut jobs) {
        job.number = number;
    }
    jobs
}

/// What is done, and for how long the service is busy with it, more or less.
fn course(scenario: &Scenario, key: usize, dice: &mut Dice) -> (Course, u64) {
    match dice.below(100) {
        0..=8 => return (Course::Get, 0),
        9 => return (Course::Forget, 0),
        _ => {}
    }
    let namespace = &scenario.namespaces[scenario.namespace_of[key]];
    // A key stands for one payload; a client in error sends another, or none.
    let payload = match (key % 5, dice.chance(40)) {
        (3, false) => Payload::Unsaid,
        (_, false) => Payload::Same,
        (_, true) => Payload::Other,
    };
    let claimant = match dice.below(10) {
        0 => Claimant::Unnamed,
        1 => Claimant::Shared,
        _ => Claimant::Own,
    };
    let lease_ms = if dice.chance(200) { dice.between(10, namespace.lease_ms) } else { namespace.lease_ms };
    let then = then(lease_ms * 1000, scenario.max_drift_ms * 1000, dice);
    // Of those that claim a key few are granted it; the others are gone soon.
    let busy_us = match then {
        Then::Complete(after_us) | Then::Release(after_us) => after_us / 2,
        Then::Renew(times) => u64::from(times) * lease_ms * 300,
        Then::Vanish | Then::CompleteLate(_) | Then::ReleaseLate(_) => 0,
    };
    (Course::Claim { payload, claimant, lease_ms, then }, busy_us)
}

fn then(lease_us: u64, drift_us: u64, dice: &mut Dice) -> Then {
    match dice.below(100) {
        0..=3 => Then::Vanish,
        4..=7 => Then::CompleteLate(dice.heavy(ZOMBIE_US)),
        8..=9 => Then::ReleaseLate(dice.heavy(ZOMBIE_US)),
        10..=19 => Then::Release(dice.between(1_000, lease_us)),
        20..=39 => Then::Renew(dice.between(1, 3) as u32),
        40..=49 => Then::Complete(lease_us + dice.heavy(2 * drift_us)),
        _ => Then::Complete(dice.between(500, lease_us * 2 / 3)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_ordered_numbered_and_of_every_kind() {
        let mut met = [0u32; 8];
        for seed in 0..50 {
            let scenario = Scenario::draw(seed);
            let jobs = draw(&scenario);
            assert!(jobs.is_sorted_by_key(|job| (job.at_us, job.number)));
            assert!(jobs.iter().all(|job| job.at_us < scenario.storm_us && job.home < scenario.regions));
            for job in &jobs {
                let kind = match &job.course {
                    Course::Get => 0,
                    Course::Forget => 1,
                    Course::Claim { then, .. } => match then {
                        Then::Complete(_) => 2,
                        Then::Renew(_) => 3,
                        Then::Release(_) => 4,
                        Then::Vanish => 5,
                        Then::CompleteLate(_) => 6,
                        Then::ReleaseLate(_) => 7,
                    },
                };
                met[kind] += 1;
            }
            assert_eq!(jobs, draw(&scenario));
        }
        assert!(met.iter().all(|count| *count > 50), "{met:?}");
    }
}
