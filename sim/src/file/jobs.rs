//! What services want: `[workload]`, from which jobs are drawn, `[[storm]]`, and `[[job]]`, one by one.
//!
//! Must never: leave a job to a key or a region that is not there.

use std::ops::Range;

use toml::Spanned;

use super::checker::{Checker, span_or};
use super::ranged::Ranged;
use super::raw::{Leaf, RawJob, RawStorm, RawWorkload};
use super::units::Unit;
use crate::habits::{Demand, Habits};
use crate::limits;
use crate::random::{Dice, Stream};
use crate::scenario::Scenario;
use crate::workload::{Claimant, Course, Job, Payload, Then};

/// One job that the file names.
#[derive(Clone, Debug)]
pub(super) struct JobPlan {
    pub number: Option<u32>,
    at_us: Ranged,
    home: usize,
    key: usize,
    course: CoursePlan,
}

#[derive(Clone, Debug)]
enum CoursePlan {
    Get,
    Forget,
    Claim { payload: Payload, claimant: Claimant, lease_ms: Option<Ranged>, then: ThenWord, after_us: Ranged },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ThenWord {
    Complete,
    Renew(u32),
    Release,
    Vanish,
    CompleteLate,
    ReleaseLate,
}

impl JobPlan {
    /// Which key it is about.
    pub(super) const fn key(&self) -> usize {
        self.key
    }

    /// The longest lease that it names.
    pub(super) fn lease_ms_max(&self) -> Option<u64> {
        match &self.course {
            CoursePlan::Claim { lease_ms, .. } => lease_ms.map(|lease_ms| lease_ms.high),
            CoursePlan::Get | CoursePlan::Forget => None,
        }
    }

    /// The job for a run.
    pub(super) fn job(&self, scenario: &Scenario) -> Job {
        let seed = scenario.seed;
        let course = match &self.course {
            CoursePlan::Get => Course::Get,
            CoursePlan::Forget => Course::Forget,
            CoursePlan::Claim { payload, claimant, lease_ms, then, after_us } => {
                let namespace = &scenario.namespaces[scenario.namespace_of[self.key]];
                let lease_ms = lease_ms.map_or(namespace.lease_ms, |lease_ms| lease_ms.draw(seed));
                let after_us = after_us.draw(seed);
                let then = match then {
                    ThenWord::Complete => Then::Complete(after_us),
                    ThenWord::Renew(times) => Then::Renew(*times),
                    ThenWord::Release => Then::Release(after_us),
                    ThenWord::Vanish => Then::Vanish,
                    ThenWord::CompleteLate => Then::CompleteLate(after_us),
                    ThenWord::ReleaseLate => Then::ReleaseLate(after_us),
                };
                Course::Claim { payload: *payload, claimant: *claimant, lease_ms, then }
            }
        };
        let number = self.number.unwrap_or_default();
        Job { number, at_us: self.at_us.draw(seed), home: self.home, key: self.key, course }
    }
}

/// Many claims of one key within a short time, all over the place.
#[derive(Clone, Debug)]
pub(super) struct StormPlan {
    at_us: Ranged,
    key: usize,
    claims: Ranged,
    within_us: Ranged,
    work_us: Ranged,
    /// Names its dice.
    number: u64,
}

impl StormPlan {
    /// Its jobs, one region after the other.
    pub(super) fn jobs(&self, scenario: &Scenario) -> Vec<Job> {
        let seed = scenario.seed;
        let mut dice = Dice::new(seed, Stream::Ranges, self.number);
        let namespace = &scenario.namespaces[scenario.namespace_of[self.key]];
        let (at_us, within_us) = (self.at_us.draw(seed), self.within_us.draw(seed));
        let job = |nth: u64| {
            let then = Then::Complete(self.work_us.draw_nth(seed, nth));
            let (payload, claimant) = (Payload::Same, Claimant::Own);
            let course = Course::Claim { payload, claimant, lease_ms: namespace.lease_ms, then };
            let home = nth as usize % scenario.regions;
            Job { number: 0, at_us: at_us + dice.below(within_us + 1), home, key: self.key, course }
        };
        (0..self.claims.draw(seed)).map(job).collect()
    }
}

/// What `[workload]` says: habits, demand, services.
pub(super) fn workload(
    checker: &mut Checker<'_>,
    raw: Option<&Spanned<RawWorkload>>,
    regions: usize,
    explicit: bool,
) -> (Habits, Demand, usize) {
    "workload".clone_into(&mut checker.place);
    let empty = RawWorkload::default();
    let (raw, span) = raw.map_or((&empty, 0..0), |raw| (raw.get_ref(), raw.span()));
    let words = [("calm", (Habits::CALM, Demand::CALM)), ("nasty", (Habits::NASTY, Demand::NASTY))];
    let kind = checker.word(&raw.habits, "habits", &words).unwrap_or((Habits::CALM, Demand::CALM));
    let habits = habits(checker, raw, kind.0);
    let demand = demand(checker, raw, kind.1, &span);
    let services = checker.fixed(&raw.services, "services", Unit::Count, 0..=limits::FILE_SERVICES_MAX);
    if raw.services.is_some() && raw.rate.is_some() {
        let at = span_or(&raw.services, &span);
        checker.error(&at, "services: has no meaning beside rate, which comes whatever they do; remove one");
    }
    let default = if explicit { 0 } else { 2 * regions as u64 };
    (habits, demand, services.unwrap_or(default) as usize)
}

fn share(checker: &mut Checker<'_>, leaf: &Leaf, key: &str, value: &mut u64) {
    if let Some(share) = checker.fixed(leaf, key, Unit::Share, 0..=1000) {
        *value = share;
    }
}

fn habits(checker: &mut Checker<'_>, raw: &RawWorkload, mut habits: Habits) -> Habits {
    for value in [
        &mut habits.claims_elsewhere,
        &mut habits.completes_elsewhere,
        &mut habits.renews_elsewhere,
        &mut habits.looks_elsewhere,
    ] {
        share(checker, &raw.elsewhere, "elsewhere", value);
    }
    // A wrong one is told once.
    checker.errors.dedup();
    share(checker, &raw.claims_elsewhere, "claims_elsewhere", &mut habits.claims_elsewhere);
    share(checker, &raw.completes_elsewhere, "completes_elsewhere", &mut habits.completes_elsewhere);
    share(checker, &raw.renews_elsewhere, "renews_elsewhere", &mut habits.renews_elsewhere);
    share(checker, &raw.looks_elsewhere, "looks_elsewhere", &mut habits.looks_elsewhere);
    share(checker, &raw.lost, "lost", &mut habits.lost);
    share(checker, &raw.forged, "forged", &mut habits.forged);
    share(checker, &raw.durable, "durable", &mut habits.durable);
    share(checker, &raw.waits, "waits", &mut habits.waits);
    share(checker, &raw.completes_again, "completes_again", &mut habits.completes_again);
    share(checker, &raw.other_outcome, "other_outcome", &mut habits.other_outcome);
    share(checker, &raw.resolves, "resolves", &mut habits.resolves);
    if let Some(claims) = checker.fixed(&raw.claims_max, "claims_max", Unit::Count, 1..=1_000) {
        habits.claims_max = claims as u32;
    }
    let times = 1..=limits::FILE_US_MAX;
    if let Some(retry_us) = checker.fixed(&raw.retry, "retry", Unit::Time, times.clone()) {
        habits.retry_us = retry_us;
    }
    if let Some(patience_us) = checker.fixed(&raw.patience, "patience", Unit::Time, times) {
        habits.patience_us = patience_us;
    }
    habits
}

fn demand(checker: &mut Checker<'_>, raw: &RawWorkload, mut demand: Demand, span: &Range<usize>) -> Demand {
    share(checker, &raw.gets, "gets", &mut demand.gets);
    share(checker, &raw.forgets, "forgets", &mut demand.forgets);
    share(checker, &raw.mismatches, "mismatches", &mut demand.mismatches);
    share(checker, &raw.unnamed, "unnamed", &mut demand.unnamed);
    share(checker, &raw.shared, "shared", &mut demand.shared);
    share(checker, &raw.short_leases, "short_leases", &mut demand.short_leases);
    share(checker, &raw.vanish, "vanish", &mut demand.vanish);
    share(checker, &raw.zombies, "zombies", &mut demand.zombies);
    share(checker, &raw.late_releases, "late_releases", &mut demand.late_releases);
    share(checker, &raw.releases, "releases", &mut demand.releases);
    share(checker, &raw.renewals, "renewals", &mut demand.renewals);
    share(checker, &raw.overtimes, "overtimes", &mut demand.overtimes);
    share(checker, &raw.twins, "twins", &mut demand.twins);
    let Demand { vanish, zombies, late_releases, releases, renewals, overtimes, .. } = demand;
    if vanish + zombies + late_releases + releases + renewals + overtimes > 1000 {
        let keys = "vanish, zombies, late_releases, releases, renewals and overtimes";
        checker.error(span, format!("{keys} are more than 100% together; lower them"));
    }
    if demand.gets + demand.forgets > 1000 || demand.unnamed + demand.shared > 1000 {
        checker
            .error(span, "gets and forgets, or unnamed and shared, are more than 100% together; lower them");
    }
    let times = || 1..=limits::FILE_US_MAX;
    demand.rate_per_ks = checker.fixed(&raw.rate, "rate", Unit::Pace, 1..=limits::FILE_RATE_PER_KS_MAX);
    demand.zipf = zipf(checker, &raw.zipf).unwrap_or(demand.zipf);
    demand.pause_us = checker.fixed(&raw.pause, "pause", Unit::Time, times()).unwrap_or(demand.pause_us);
    if let Some(work) = checker.ranged(&raw.work, "work", Unit::Time, times()) {
        demand.work_us = Some((work.low, work.high));
    }
    if let Some(gap) = checker.ranged(&raw.twin_gap, "twin_gap", Unit::Time, 0..=limits::FILE_US_MAX) {
        demand.twin_gap_us = (gap.low, gap.high);
    }
    demand
}

/// An exponent, in thousandths.
fn zipf(checker: &mut Checker<'_>, leaf: &Leaf) -> Option<u64> {
    let leaf = leaf.as_ref()?;
    let exponent = match leaf.get_ref() {
        toml::Value::Float(number) => Some(*number),
        toml::Value::Integer(number) => Some(*number as f64),
        _ => None,
    };
    let exponent = exponent.filter(|number| (0.0..=4.0).contains(number));
    if exponent.is_none() {
        checker.error(&leaf.span(), "zipf: is an exponent from 0 (all keys alike) to 4; write zipf = 1.1");
    }
    exponent.map(|number| (number * 1000.0).round() as u64)
}

/// What the jobs are checked against.
pub(super) struct Reader<'c, 's> {
    pub checker: &'c mut Checker<'s>,
    pub regions: &'c [String],
    pub keys: &'c [String],
    /// The least that the run lasts, microseconds.
    pub duration_us: u64,
}

impl Reader<'_, '_> {
    /// Every `[[job]]`.
    pub(super) fn jobs(&mut self, raw: &[Spanned<RawJob>]) -> Vec<JobPlan> {
        let mut seen = std::collections::BTreeSet::new();
        let mut jobs = Vec::new();
        for (place, job) in raw.iter().enumerate() {
            self.checker.place = format!("job/{place}");
            let Some(plan) = self.job(job.get_ref(), &job.span()) else { continue };
            if let Some(number) = plan.number.filter(|number| !seen.insert(*number)) {
                let at = span_or(&job.get_ref().number, &job.span());
                self.checker
                    .error(&at, format!("number: {number} is another job's, too; give it its own, or none"));
            }
            jobs.push(plan);
        }
        jobs
    }

    fn job(&mut self, raw: &RawJob, span: &Range<usize>) -> Option<JobPlan> {
        let number = self.checker.fixed(&raw.number, "number", Unit::Count, 0..=u64::from(u32::MAX) / 2);
        let at_us = self.at(&raw.at, span);
        let home = self.region(&raw.region, span);
        let key = self.key(&raw.key, span);
        let words = [("claim", 0), ("get", 1), ("forget", 2)];
        let what = self.checker.word(&raw.r#do, "do", &words).unwrap_or(0);
        let course = if what == 0 { self.claim(raw, span) } else { self.no_claim(raw, span, what == 1) };
        let number = number.map(|number| number as u32);
        Some(JobPlan { number, at_us: at_us?, home: home?, key: key?, course })
    }

    fn no_claim(&mut self, raw: &RawJob, span: &Range<usize>, get: bool) -> CoursePlan {
        for (key, leaf) in [
            ("payload", &raw.payload),
            ("claimant", &raw.claimant),
            ("lease", &raw.lease),
            ("then", &raw.then),
            ("after", &raw.after),
            ("times", &raw.times),
        ] {
            if leaf.is_some() {
                let at = span_or(leaf, span);
                self.checker.error(&at, format!("{key}: is for do = \"claim\" only; remove it"));
            }
        }
        if get { CoursePlan::Get } else { CoursePlan::Forget }
    }

    fn claim(&mut self, raw: &RawJob, span: &Range<usize>) -> CoursePlan {
        let payloads = [("same", Payload::Same), ("other", Payload::Other), ("unsaid", Payload::Unsaid)];
        let payload = self.checker.word(&raw.payload, "payload", &payloads).unwrap_or(Payload::Same);
        let claimants = [("own", Claimant::Own), ("shared", Claimant::Shared), ("none", Claimant::Unnamed)];
        let claimant = self.checker.word(&raw.claimant, "claimant", &claimants).unwrap_or(Claimant::Own);
        let lease = self.checker.ranged(&raw.lease, "lease", Unit::Time, 1_000..=limits::FILE_US_MAX);
        let times = self.checker.fixed(&raw.times, "times", Unit::Count, 1..=10_000).unwrap_or(1);
        let words = [
            ("complete", ThenWord::Complete),
            ("renew", ThenWord::Renew(times as u32)),
            ("release", ThenWord::Release),
            ("vanish", ThenWord::Vanish),
            ("complete_late", ThenWord::CompleteLate),
            ("release_late", ThenWord::ReleaseLate),
        ];
        let then = self.checker.word(&raw.then, "then", &words).unwrap_or(ThenWord::Complete);
        let renews = matches!(then, ThenWord::Renew(_));
        if raw.times.is_some() && !renews {
            let at = span_or(&raw.times, span);
            self.checker
                .error(&at, "times: says how often it is renewed; add then = \"renew\", or remove it");
        }
        if raw.after.is_some() && (renews || then == ThenWord::Vanish) {
            let at = span_or(&raw.after, span);
            self.checker.error(&at, "after: has no meaning with then = \"renew\" or \"vanish\"; remove it");
        }
        let after = &raw.after;
        let after_us = self.checker.ranged_or(after, "after", Unit::Time, 0..=limits::FILE_US_MAX, WORK_US);
        CoursePlan::Claim { payload, claimant, lease_ms: lease.map(|lease| lease.per(1_000)), then, after_us }
    }

    /// Every `[[storm]]`.
    pub(super) fn storms(&mut self, raw: &[Spanned<RawStorm>]) -> Vec<StormPlan> {
        let mut storms = Vec::new();
        for (place, storm) in raw.iter().enumerate() {
            self.checker.place = format!("storm/{place}");
            let (raw, span) = (storm.get_ref(), storm.span());
            let at_us = self.at(&raw.at, &span);
            let key = self.key(&raw.key, &span);
            let (claims, within) = (&raw.claims, &raw.within);
            let claims = self.checker.ranged_or(claims, "claims", Unit::Count, 1..=100_000, 100);
            let times = 0..=limits::FILE_US_MAX;
            let within_us = self.checker.ranged_or(within, "within", Unit::Time, times.clone(), 1_000_000);
            let work_us = self.checker.ranged_or(&raw.work, "work", Unit::Time, times, WORK_US);
            let (Some(at_us), Some(key)) = (at_us, key) else { continue };
            let number = (1 << 40) | place as u64;
            storms.push(StormPlan { at_us, key, claims, within_us, work_us, number });
        }
        storms
    }

    fn at(&mut self, leaf: &Leaf, span: &Range<usize>) -> Option<Ranged> {
        self.checker.present(leaf, "at", span, "at = \"1.5s\", a time after the start");
        self.checker.time_of_run(leaf, self.duration_us)
    }

    fn region(&mut self, leaf: &Leaf, span: &Range<usize>) -> Option<usize> {
        let (name, at) = self.checker.required_text(leaf, "region", span, "region = \"eu\"")?;
        let found = self.regions.iter().position(|region| region == name);
        if found.is_none() {
            let all = self.regions.join(", ");
            self.checker.error(&at, format!("region: no region is called {name:?}; there are: {all}"));
        }
        found
    }

    fn key(&mut self, leaf: &Leaf, span: &Range<usize>) -> Option<usize> {
        let (name, at) = self.checker.required_text(leaf, "key", span, "key = \"pay:1\"")?;
        let found = self.keys.iter().position(|key| key == name);
        if found.is_none() {
            let (first, rest) = self.keys.first().and_then(|key| key.split_once(':')).unwrap_or(("pay", "1"));
            let text = match name.split_once(':') {
                Some((of, _)) => format!(
                    "key: {name:?} is of no [[namespace]]; add one with name = {of:?}, or write such as \"{first}:{rest}\""
                ),
                None => format!(
                    "key: {name:?} is of no [[namespace]]; write the namespace and anything, such as \"{first}:{name}\""
                ),
            };
            self.checker.error(&at, text);
        }
        found
    }
}

/// How long work takes where nothing is said, microseconds.
const WORK_US: u64 = 20_000;
