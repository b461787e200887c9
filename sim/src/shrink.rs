//! Making a failing run smaller until what is left explains the failure: fewer jobs, fewer incidents, fewer regions,
//! better weather.
//!
//! Delta debugging over a [`Schedule`]: whole halves are left out, then quarters, down to single jobs and incidents, each
//! time kept out if the run still fails *in the same way*. Then the shape is made plainer. What is left out changes
//! nothing for the rest, since everything draws from a stream of its own.
//!
//! Rejected: shrinking the seed's draws (a smaller number is no simpler run), shrinking requests one by one (a job is
//! what a person thinks in).
//!
//! Must never: call another failure the same one, or run without a bound.

use crate::faults::{Fault, Incident};
use crate::network::{Spread, Weather};
use crate::pattern::Pattern;
use crate::report::{RunReport, Verdict};
use crate::run::Options;
use crate::schedule::Schedule;
use crate::swarm::run_caught_schedule;
use crate::workload::Job;

/// What is left of a failing run.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The least that still fails.
    pub schedule: Schedule,
    /// How it fails.
    pub report: RunReport,
    /// Jobs and incidents at first.
    pub from: usize,
    /// Runs that it took.
    pub runs: u64,
    /// Every single job and incident was tried without; else the bound of runs came first.
    pub is_minimal: bool,
}

/// Makes `schedule`, which fails as in `failing`, smaller, in at most so many runs.
pub fn shrink(schedule: Schedule, failing: RunReport, options: Options, runs_max: u64) -> Shrunk {
    let options = Options { keep_trace: false, ..options };
    let from = schedule.len();
    let mut search = Search { best: schedule, report: failing, options, runs: 0, runs_max };
    search.end_sooner();
    let mut is_minimal = search.leave_out();
    // A plainer shape may need still less.
    if search.plainer() {
        search.end_sooner();
        is_minimal = search.leave_out();
    }
    let Search { best: schedule, report, runs, .. } = search;
    Shrunk { schedule, report, from, runs, is_minimal }
}

/// One thing that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Incident(usize),
    Job(usize),
}

struct Search {
    best: Schedule,
    report: RunReport,
    options: Options,
    runs: u64,
    runs_max: u64,
}

impl Search {
    /// Takes `smaller` if it fails in the same way.
    fn attempt(&mut self, smaller: Schedule) -> bool {
        if self.runs >= self.runs_max {
            return false;
        }
        self.runs += 1;
        let report = run_caught_schedule(smaller.clone(), self.options);
        let same = is_same(&self.report.verdict, &report.verdict);
        if same {
            (self.best, self.report) = (smaller, report);
        }
        same
    }

    /// What begins after the failure did not cause it; and the storm need not go on.
    fn end_sooner(&mut self) {
        let Some(at_us) = self.report.verdict.violation().map(|violation| violation.at_us) else { return };
        let mut shorter = self.best.clone();
        shorter.jobs.retain(|job| job.at_us <= at_us);
        shorter.incidents.retain(|incident| incident.at_us() <= at_us);
        if shorter.len() < self.best.len() {
            self.attempt(shorter);
        }
        let last_us = |schedule: &Schedule| {
            let faults = schedule.incidents.iter().flat_map(|incident| &incident.faults);
            let faults_us = faults.map(|(at_us, _)| *at_us).max().unwrap_or(0);
            schedule.jobs.iter().map(|job| job.at_us).max().unwrap_or(0).max(faults_us)
        };
        // The later half of the remaining storm goes while the failure stays.
        for _ in 0..STORM_HALVES {
            let storm_us = self.best.scenario.storm_us;
            let shorter_us = (storm_us + last_us(&self.best).min(storm_us)) / 2;
            if shorter_us >= storm_us {
                return;
            }
            let mut shorter = self.best.clone();
            shorter.scenario.storm_us = shorter_us;
            if !self.attempt(shorter) {
                return;
            }
        }
    }

    /// Leaves out all that can be; `true`: nothing single is left that can.
    fn leave_out(&mut self) -> bool {
        let mut chunk = self.best.len().div_ceil(2);
        loop {
            let mut shrank = false;
            let mut from = 0;
            while from < self.best.len() {
                if self.runs >= self.runs_max {
                    return false;
                }
                let smaller = self.without(from, chunk);
                if self.attempt(smaller) {
                    shrank = true;
                } else {
                    from += chunk;
                }
            }
            match (chunk, shrank) {
                (0 | 1, false) => return true,
                (0 | 1, true) => {}
                _ => chunk = chunk.div_ceil(2),
            }
        }
    }

    /// Without `count` units from the `from`-th on. The latest come first: what happened last mattered least, mostly.
    fn without(&self, from: usize, count: usize) -> Schedule {
        let mut units: Vec<(u64, Unit)> =
            self.best.jobs.iter().enumerate().map(|(at, job)| (job.at_us, Unit::Job(at))).collect();
        let incidents = self.best.incidents.iter().enumerate();
        units.extend(incidents.map(|(at, incident)| (incident.at_us(), Unit::Incident(at))));
        units.sort_by_key(|(at_us, _)| std::cmp::Reverse(*at_us));
        let out: Vec<Unit> = units.into_iter().skip(from).take(count).map(|(_, unit)| unit).collect();
        let mut smaller = self.best.clone();
        let jobs = self.best.jobs.iter().enumerate();
        smaller.jobs =
            jobs.filter(|(at, _)| !out.contains(&Unit::Job(*at))).map(|(_, job)| job.clone()).collect();
        let incidents = self.best.incidents.iter().enumerate();
        smaller.incidents = incidents
            .filter(|(at, _)| !out.contains(&Unit::Incident(*at)))
            .map(|(_, incident)| incident.clone())
            .collect();
        if !smaller.incidents.iter().any(Incident::is_membership) {
            smaller.scenario.steps.clear();
        }
        smaller
    }

    /// Makes the shape plainer, one thing after the other; `true`: something could be.
    fn plainer(&mut self) -> bool {
        let mut changed = false;
        for simplify in PLAINER {
            let mut plainer = self.best.clone();
            if simplify(&mut plainer) {
                changed |= self.attempt(plainer);
            }
        }
        while let Some(fewer) = without_last_region(&self.best) {
            if !self.attempt(fewer) {
                break;
            }
            changed = true;
        }
        changed |= self.fewer_in_incidents();
        for at in 0..self.best.jobs.len() {
            let mut plainer = self.best.clone();
            if make_plain(&mut plainer.jobs[at]) {
                changed |= self.attempt(plainer);
            }
        }
        changed
    }
}

impl Search {
    /// An incident of several regions or links, each by itself: a swizzle of which one link matters, an upgrade of which one
    /// region does.
    fn fewer_in_incidents(&mut self) -> bool {
        let mut changed = false;
        for at in 0..self.best.incidents.len() {
            let parts = parts(&self.best.incidents[at]);
            for part in parts.iter().filter(|_| parts.len() > 1) {
                let mut fewer = self.best.clone();
                fewer.incidents[at].faults.retain(|(_, fault)| part_of(fault) != Some(*part));
                if !fewer.incidents[at].faults.is_empty() {
                    changed |= self.attempt(fewer);
                }
            }
        }
        changed
    }
}

/// What of an incident can be left out by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Piece {
    Links(Pattern),
    Upgrade(usize),
}

const fn part_of(fault: &Fault) -> Option<Piece> {
    match fault {
        Fault::Cut(pattern, _) | Fault::Mend(pattern) => Some(Piece::Links(*pattern)),
        Fault::Upgrade(region, _) => Some(Piece::Upgrade(*region)),
        _ => None,
    }
}

fn parts(incident: &Incident) -> Vec<Piece> {
    let mut parts: Vec<Piece> = Vec::new();
    for part in incident.faults.iter().filter_map(|(_, fault)| part_of(fault)) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts
}

/// How often the storm is shortened at most.
const STORM_HALVES: usize = 6;

/// What can be plainer about the shape; `false`: it is already.
type Simplify = fn(&mut Schedule) -> bool;
const PLAINER: [Simplify; 13] = [
    |schedule| {
        let weather = schedule.scenario.weather;
        let calm = Weather { loss: 0, duplicate: 0, reorder: 0, replay: 0, ..weather };
        schedule.scenario.menu.rough = false;
        std::mem::replace(&mut schedule.scenario.weather, calm) != calm
    },
    |schedule| schedule.scenario.weather.rate.take().is_some(),
    |schedule| {
        let even = Spread::Even(0);
        std::mem::replace(&mut schedule.scenario.weather.spread, even) != even
    },
    |schedule| schedule.scenario.distances_us.take().is_some(),
    |schedule| schedule.scenario.severed.take().is_some(),
    |schedule| !std::mem::take(&mut schedule.scenario.clocks).is_empty(),
    |schedule| {
        // An upgrade stops and starts, and mostly that is all that matters.
        let faults = schedule.incidents.iter_mut().flat_map(|incident| &mut incident.faults);
        let mut changed = false;
        for (_, fault) in faults {
            if let Fault::Upgrade(region, down_us) = *fault {
                (*fault, changed) = (Fault::Crash(region, down_us), true);
            }
        }
        changed
    },
    |schedule| schedule.scenario.core.take().is_some(),
    |schedule| schedule.scenario.tight_memory_bytes.take().is_some(),
    |schedule| std::mem::take(&mut schedule.scenario.checkpoints),
    |schedule| {
        let bounds = schedule.scenario.namespaces.iter_mut().map(|namespace| namespace.max_keys.take());
        bounds.filter(Option::is_some).count() > 0
    },
    |schedule| {
        let homes = schedule.scenario.namespaces.iter_mut().map(|namespace| namespace.home.take());
        homes.filter(Option::is_some).count() > 0
    },
    |schedule| {
        let fast = (10, 100);
        std::mem::replace(&mut schedule.scenario.disk_us, fast) != fast
    },
];

/// The same without the last region, if nothing is said of that but links.
fn without_last_region(schedule: &Schedule) -> Option<Schedule> {
    let scenario = &schedule.scenario;
    let fixed = !scenario.steps.is_empty() || scenario.severed.is_some() || scenario.core.is_some();
    if scenario.sites() <= 2 || fixed {
        return None;
    }
    let last = scenario.sites() - 1;
    if scenario.namespaces.iter().any(|namespace| namespace.home == Some(last)) {
        return None;
    }
    let at_last = schedule.jobs.iter().any(|job| job.home == last);
    let named =
        schedule.incidents.iter().flat_map(|incident| &incident.faults).any(|(_, fault)| names(fault, last));
    (!at_last && !named).then(|| {
        let mut fewer = schedule.clone();
        let scenario = &mut fewer.scenario;
        if scenario.newcomers > 0 {
            // Nobody adds it any more: it would stand there for ever as one that is not there yet.
            scenario.newcomers -= 1;
        } else {
            scenario.regions -= 1;
        }
        scenario.links.retain(|link| link.from != last && link.to != last);
        scenario.clocks.retain(|own| own.region != last);
        scenario.names.truncate(last);
        without_in_patterns(&mut fewer.incidents, last);
        fewer
    })
}

/// Takes a region, the last, out of all patterns; what cuts nothing then goes.
fn without_in_patterns(incidents: &mut Vec<Incident>, region: usize) {
    for incident in incidents.iter_mut() {
        incident.faults.retain_mut(|(_, fault)| {
            let (Fault::Cut(pattern, _) | Fault::Mend(pattern)) = fault else { return true };
            *pattern = pattern.without(region);
            pattern.links(region).next().is_some()
        });
    }
    incidents.retain(|incident| !incident.faults.is_empty());
}

/// Whether a fault is of that region in particular.
const fn names(fault: &Fault, region: usize) -> bool {
    match fault {
        // Who is on no side is no part of a pattern, and what is on one may be missing.
        Fault::Cut(..) | Fault::Mend(_) => false,
        Fault::Reset(a, b) => *a == region || *b == region,
        Fault::Reload(at)
        | Fault::Crash(at, _)
        | Fault::PowerLoss(at, _)
        | Fault::DiskLoss(at, _)
        | Fault::Clock(at, _)
        | Fault::SlowDisk(at, _)
        | Fault::Fuse(at, ..)
        | Fault::RetryFuse(at, ..)
        | Fault::DiskError(at, ..)
        | Fault::Full(at, _)
        | Fault::Stall(at, _)
        | Fault::Pause(at, _)
        | Fault::Backup(at)
        | Fault::Restore(at, _)
        | Fault::Upgrade(at, _)
        | Fault::Rot(at, _) => *at == region,
    }
}

/// A claim of the key's own payload under a name of its own.
fn make_plain(job: &mut Job) -> bool {
    use crate::workload::{Claimant, Course, Payload};
    let Course::Claim { payload, claimant, .. } = &mut job.course else { return false };
    let was = (*payload, *claimant);
    (*payload, *claimant) = (Payload::Unsaid, Claimant::Own);
    was != (Payload::Unsaid, Claimant::Own)
}

/// The same invariant broken, the same kind of panic, or no convergence again.
fn is_same(ours: &Verdict, theirs: &Verdict) -> bool {
    // What a panic says may hold numbers of that run; where it was raised stays.
    let place = |message: &str| message.rsplit(" at ").next().map(str::to_owned);
    match (ours, theirs) {
        (Verdict::Safety(ours), Verdict::Safety(theirs)) => ours.invariant == theirs.invariant,
        (Verdict::Liveness(_), Verdict::Liveness(_)) => true,
        (Verdict::Panic(ours), Verdict::Panic(theirs)) => place(ours) == place(theirs),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::violation::Violation;

    fn broken(invariant: &'static str) -> Verdict {
        let (clause, regions, story) = ("", [].into(), [String::new(), String::new()]);
        Verdict::Safety(Violation { invariant, clause, key: None, at_us: 0, regions, story })
    }

    #[test]
    fn another_failure_is_not_the_same() {
        assert!(is_same(&broken("INV-5"), &broken("INV-5")));
        assert!(!is_same(&broken("INV-5"), &broken("INV-2")));
        assert!(!is_same(&broken("INV-5"), &Verdict::Pass));
        let panic = |text: &str| Verdict::Panic(text.to_owned());
        assert!(is_same(&panic("7 of 9 at store.rs:3"), &panic("1 of 2 at store.rs:3")));
        assert!(!is_same(&panic("7 of 9 at store.rs:3"), &panic("7 of 9 at store.rs:4")));
    }

    #[test]
    fn what_is_left_out_leaves_the_rest_as_it_was() {
        let schedule = Schedule::draw(2);
        let report = RunReport::empty(2, Options::default());
        let all = schedule.len();
        let search =
            Search { best: schedule.clone(), report, options: Options::default(), runs: 0, runs_max: 0 };
        for (from, count) in [(0, 1), (0, all / 2), (all / 2, all), (3, 0)] {
            let smaller = search.without(from, count);
            assert_eq!(smaller.len(), all - count.min(all - from));
            assert!(smaller.jobs.iter().all(|job| schedule.jobs.contains(job)));
            assert!(smaller.incidents.iter().all(|incident| schedule.incidents.contains(incident)));
        }
    }
}
