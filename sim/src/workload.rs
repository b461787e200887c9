//! What the services beside the regions want, and when: jobs drawn from the seed before the run begins.
//!
//! A job is one operation of a service from its claim to whatever ends it; [`crate::worker`] does it. Between them jobs
//! do what services do wrong: work longer than their lease, come back as zombies, send the same key with another payload,
//! give up, forget.
//!
//! Drawn beforehand and each with draws of its own, so that a job can be taken out and the others stay what they were.
//!
//! Must never: look at the state of the run.

use crate::habits::Demand;
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

/// By then all regions have started and met, microseconds.
const STARTED_US: u64 = 300_000;
/// A zombie comes back after about this, microseconds.
const ZOMBIE_US: u64 = 500_000;

/// All jobs of a run, by when they begin.
pub fn draw(scenario: &Scenario) -> Vec<Job> {
    let mut jobs = Vec::new();
    let keys = Keys::of(scenario);
    if let Some(rate_per_ks) = scenario.demand.rate_per_ks {
        at_rate(scenario, rate_per_ks, &keys, &mut jobs);
        return numbered(jobs);
    }
    for service in 0..scenario.clients {
        let mut dice = Dice::new(scenario.seed, Stream::Workload, service as u64);
        let home = service % scenario.regions;
        let mut at_us = dice.between(30_000, 300_000);
        while at_us < scenario.storm_us {
            let busy_us = ask(scenario, (at_us, home), &keys, &mut dice, &mut jobs);
            at_us += busy_us + dice.heavy(scenario.demand.pause_us);
        }
    }
    numbered(jobs)
}

/// Jobs of all regions, at times that do not depend on how long others take.
fn at_rate(scenario: &Scenario, rate_per_ks: u64, keys: &Keys, jobs: &mut Vec<Job>) {
    let mean_us = 1_000_000_000 / rate_per_ks.max(1);
    for home in 0..scenario.regions {
        let mut dice = Dice::new(scenario.seed, Stream::Workload, (1 << 32) | home as u64);
        let apart_us = mean_us * scenario.regions as u64;
        let mut at_us = STARTED_US + dice.below(apart_us);
        while at_us < scenario.storm_us {
            ask(scenario, (at_us, home), keys, &mut dice, jobs);
            at_us += 1 + dice.below(2 * apart_us);
        }
    }
}

/// One job, and sometimes its like in another region; returns for how long the service is busy, more or less.
fn ask(
    scenario: &Scenario,
    (at_us, home): (u64, usize),
    keys: &Keys,
    dice: &mut Dice,
    jobs: &mut Vec<Job>,
) -> u64 {
    let key = keys.pick(dice);
    let (course, busy_us) = course(scenario, key, dice);
    let Demand { twins, twin_gap_us: (least_us, most_us), .. } = scenario.demand;
    if twins > 0 && matches!(course, Course::Claim { .. }) && scenario.regions > 1 && dice.chance(twins) {
        let other = dice.below(scenario.regions as u64 - 1) as usize;
        let other = if other >= home { other + 1 } else { other };
        let later_us = at_us + dice.between(least_us, most_us);
        if later_us < scenario.storm_us {
            jobs.push(Job { number: 0, at_us: later_us, home: other, key, course: course.clone() });
        }
    }
    jobs.push(Job { number: 0, at_us, home, key, course });
    busy_us
}

/// By when they begin, and numbered so.
pub(crate) fn numbered(mut jobs: Vec<Job>) -> Vec<Job> {
    jobs.sort_by_key(|job| job.at_us);
    for (number, job) in (0..).zip(&mut jobs) {
        job.number = number;
    }
    jobs
}

/// Which key a job is about.
struct Keys {
    count: usize,
    /// Weights summed up, by rank; empty where all are alike.
    sums: Vec<u64>,
}

impl Keys {
    fn of(scenario: &Scenario) -> Self {
        let (count, zipf) = (scenario.keys.len(), scenario.demand.zipf);
        let mut sum = 0;
        // Rounded far from what a machine's last bit could change.
        let weigh =
            |rank: usize| ((1u64 << 30) as f64 / (rank as f64).powf(zipf as f64 / 1000.0)).round() as u64;
        let mut up_to = |rank| {
            sum += weigh(rank).max(1);
            sum
        };
        let sums = if zipf > 0 { (1..=count).map(&mut up_to).collect() } else { Vec::new() };
        Self { count, sums }
    }

    fn pick(&self, dice: &mut Dice) -> usize {
        let Some(all) = self.sums.last() else { return dice.below(self.count as u64) as usize };
        let drawn = dice.below(*all);
        self.sums.partition_point(|sum| *sum <= drawn)
    }
}

/// What is done, and for how long the service is busy with it, more or less.
fn course(scenario: &Scenario, key: usize, dice: &mut Dice) -> (Course, u64) {
    let demand = scenario.demand;
    let kind = dice.below(1000);
    if kind < demand.gets {
        return (Course::Get, 0);
    }
    if kind < demand.gets + demand.forgets {
        return (Course::Forget, 0);
    }
    let namespace = &scenario.namespaces[scenario.namespace_of[key]];
    // A key stands for one payload; a client in error sends another, or none.
    let payload = match (key % 5, dice.chance(demand.mismatches)) {
        (3, false) => Payload::Unsaid,
        (_, false) => Payload::Same,
        (_, true) => Payload::Other,
    };
    let claimant = match dice.below(1000) {
        name if name < demand.unnamed => Claimant::Unnamed,
        name if name < demand.unnamed + demand.shared => Claimant::Shared,
        _ => Claimant::Own,
    };
    let lease_ms = if dice.chance(demand.short_leases) {
        dice.between(10, namespace.lease_ms)
    } else {
        namespace.lease_ms
    };
    let then = then(demand, lease_ms * 1000, scenario.max_drift_ms * 1000, dice);
    // Of those that claim a key few are granted it; the others are gone soon.
    let busy_us = match then {
        Then::Complete(after_us) | Then::Release(after_us) => after_us / 2,
        Then::Renew(times) => u64::from(times) * lease_ms * 300,
        Then::Vanish | Then::CompleteLate(_) | Then::ReleaseLate(_) => 0,
    };
    (Course::Claim { payload, claimant, lease_ms, then }, busy_us)
}

fn then(demand: Demand, lease_us: u64, drift_us: u64, dice: &mut Dice) -> Then {
    let kind = dice.below(1000);
    let kinds = [
        demand.vanish,
        demand.zombies,
        demand.late_releases,
        demand.releases,
        demand.renewals,
        demand.overtimes,
    ];
    let mut up_to = 0;
    let which = kinds.iter().position(|share| {
        up_to += share;
        kind < up_to
    });
    match (which, demand.work_us) {
        (Some(0), _) => Then::Vanish,
        (Some(1), _) => Then::CompleteLate(dice.heavy(ZOMBIE_US)),
        (Some(2), _) => Then::ReleaseLate(dice.heavy(ZOMBIE_US)),
        (Some(3), _) => Then::Release(dice.between(1_000, lease_us)),
        (Some(4), _) => Then::Renew(dice.between(1, 3) as u32),
        (Some(_), _) => Then::Complete(lease_us + dice.heavy(2 * drift_us)),
        (None, Some((least_us, most_us))) => Then::Complete(dice.between(least_us, most_us)),
        (None, None) => Then::Complete(dice.between(500, lease_us * 2 / 3)),
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
