//! Many seeds, on several threads, with every so many of them run twice (INV-18).
//!
//! Runs share nothing: each thread takes the next seed from a counter. A failure stops the handing out
//! of seeds unless `keep_going` says otherwise; the report lists failures by seed, whatever thread met
//! them first.
//!
//! Must never: let one run see anything of another.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::oracle::violation::{Violation, clause};
use crate::progress::Progress;
use crate::report::{RunReport, SwarmReport, Verdict};
use crate::run::{Options, run_recorded};
use crate::schedule::Schedule;
use crate::story::Recorder;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// First seed.
    pub start: u64,
    /// How many.
    pub seeds: u64,
    /// On how many threads.
    pub jobs: usize,
    /// Every so many of them run twice, and the traces are compared (INV-18).
    pub twice_every: u64,
    /// Go on after a failure.
    pub keep_going: bool,
    /// Take samples, for what a scenario expects.
    pub sample: bool,
    /// Which bug to plant.
    pub canary: Option<crdt::canary::Bug>,
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Remembers panics instead of printing them: the report says which seed they belong to.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("a panic without text");
        let place = info.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        PANIC.with_borrow_mut(|panic| *panic = format!("{message}{place}"));
    }));
}

/// Runs anything; `Err`: it panicked, and how.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| PANIC.with_borrow(Clone::clone))
}

/// Runs one seed; a panic becomes a verdict.
pub fn run_caught(seed: u64, options: Options) -> RunReport {
    run_caught_schedule(Schedule::draw(seed), options)
}

/// Runs a schedule; a panic becomes a verdict.
pub fn run_caught_schedule(schedule: Schedule, options: Options) -> RunReport {
    let seed = schedule.scenario.seed;
    let recorder = Recorder::new(options.keep_story, &schedule.scenario);
    match caught(|| run_recorded(schedule, options, &recorder)) {
        Ok(report) => RunReport { story: recorder.take(), ..report },
        Err(panic) => RunReport {
            verdict: Verdict::Panic(panic),
            story: recorder.take(),
            ..RunReport::empty(seed, options)
        },
    }
}

/// Runs the plan; `progress` is told of every finished seed.
pub fn swarm(plan: Plan, progress: &Progress) -> SwarmReport {
    swarm_of(plan, progress, &Schedule::draw, &|_| {})
}

/// As [`swarm`], of the runs that `make` has for a seed; `watch` sees each report.
pub fn swarm_of(
    plan: Plan,
    progress: &Progress,
    make: &(dyn Fn(u64) -> Schedule + Sync),
    watch: &(dyn Fn(&RunReport) + Sync),
) -> SwarmReport {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let gathered = Mutex::new(SwarmReport { start: plan.start, jobs: plan.jobs, ..SwarmReport::default() });
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= plan.seeds {
                        return;
                    }
                    let (report, twice) = one(plan.start + at, plan, make);
                    watch(&report);
                    if report.verdict != Verdict::Pass && !plan.keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                    progress.finished(report.verdict == Verdict::Pass);
                    gather(
                        &mut gathered.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
                        report,
                        twice,
                    );
                }
            });
        }
    });
    let mut report = gathered.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    report.failures.sort_by_key(|failure| failure.seed);
    report.elapsed_ms = progress.elapsed_ms();
    report
}

fn one(
    seed: u64,
    Plan { canary, sample, twice_every, .. }: Plan,
    make: &(dyn Fn(u64) -> Schedule + Sync),
) -> (RunReport, bool) {
    let options = Options { canary, sample, ..Options::default() };
    let first = run_caught_schedule(make(seed), options);
    if !seed.is_multiple_of(twice_every) || first.verdict != Verdict::Pass {
        return (first, false);
    }
    let second = run_caught_schedule(make(seed), options);
    if second.trace_hash == first.trace_hash {
        return (first, true);
    }
    let story = [
        format!("seed {seed} gave the trace {:016x}", first.trace_hash),
        format!("and then, in the same process, {:016x}", second.trace_hash),
    ];
    let (invariant, text) = ("INV-18", clause::INV_18);
    let at_us = first.virtual_us;
    let violation = Violation { invariant, clause: text, key: None, at_us, regions: [].into(), story };
    (RunReport { verdict: Verdict::Safety(violation), ..first }, true)
}

fn gather(swarm: &mut SwarmReport, report: RunReport, twice: bool) {
    swarm.seeds += 1;
    swarm.twice += u64::from(twice);
    swarm.goals.join(report.goals);
    for (status, count) in &report.statuses {
        *swarm.statuses.entry(status).or_default() += count;
    }
    if report.verdict != Verdict::Pass {
        swarm.failures.push(report);
    }
}
