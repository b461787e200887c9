//! `onced-sim real`: the same runs, simulated and with real `onced` processes, side by side.
//!
//! Must never: start anything of a schedule that cannot be played whole; leave anything behind.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::Args;
use serde::Serialize;

use super::{complain, say, scenario, usage};
use crate::clock::Step;
use crate::faults::{Fault, Incident};
use crate::file::{self, Outcome, Plan};
use crate::goals::Goal;
use crate::limits;
use crate::measure::Samples;
use crate::oracle::agreement::{self, Ending};
use crate::oracle::history;
use crate::oracle::violation::Violation;
use crate::progress::Progress;
use crate::real::stage::{self, Played, Stage, Trouble};
use crate::real::{Lack, compare, interrupt, refuse};
use crate::report::{RunReport, Verdict, exit};
use crate::run::Options;
use crate::schedule::Schedule;
use crate::swarm::run_caught_schedule;

pub(super) const EXAMPLES: &str = "\
Each region is an onced process in a network namespace of its own; a relay between them plays the scenario's links. So this
needs root, ip (iproute2) and nsenter (util-linux), and takes as long as the scenario lasts. What cannot be done to processes
(disks that fail, power cuts, changes of membership) is refused before anything starts. Clocks are set with libfaketime.

Figures are the medians of the runs' own. The goal: convergence as simulated, p50 within 10 % or 5 ms, p99 within 25 % or 20 ms.
What is between two regions is simulated; a machine that is busy with other things is not, so leave it alone meanwhile.

Exit codes:
  0   everything held (whether the goal is met is said, and is no failure)
  1   an invariant was broken
  2   healed regions did not agree in time
  3   the scenario's [expect] was missed
  64  the command line or the scenario was wrong, or cannot be played
  70  the machine lacks something, a daemon ended by itself, or a file could not be written

Examples:
  sudo onced-sim real short-cuts
  sudo onced-sim real mine.toml --seed 7 --runs 5
  sudo onced-sim real mine.toml --onced target/release/onced --keep /tmp/mine --json";

#[derive(Args, Debug)]
pub(super) struct RealArgs {
    /// A scenario file, or a name of `onced-sim scenarios`
    scenario: PathBuf,
    /// The first run's seed; the others' follow. By default the file's
    #[arg(long)]
    seed: Option<u64>,
    /// Runs, one after the other, each with a seed of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=limits::REAL_RUNS_MAX))]
    runs: u64,
    /// The daemon; by default the one beside onced-sim, then of the PATH
    #[arg(long, value_name = "PATH")]
    onced: Option<PathBuf>,
    /// Keeps the daemons' configurations, logs and data in DIR
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Json<'a> {
    scenario: String,
    seeds: Vec<u64>,
    verdict: &'a str,
    violations: Vec<String>,
    rows: &'a [compare::Row],
    goal_held: Option<bool>,
    expectations: &'a [Outcome],
    not_seen_from_outside: &'a [String],
    packets: u64,
    packet_bytes: u64,
    exit_code: u8,
}

/// One seed, both ways.
struct Pair {
    seed: u64,
    sim: Samples,
    real: Box<RunReport>,
    packets: (u64, u64),
}

pub(super) fn command(args: &RealArgs) -> u8 {
    let plan = match file::load(&args.scenario) {
        Ok(plan) => plan,
        Err(error) => return scenario::complain_bare(&error.to_string()),
    };
    let first = args.seed.unwrap_or(plan.seed);
    let faketime = stage::faketime();
    let schedules: Vec<Schedule> = (0..args.runs).map(|run| plan.schedule(first.wrapping_add(run))).collect();
    let mut refused: Vec<String> =
        schedules.iter().flat_map(|schedule| refuse::refused(schedule, faketime.is_some())).collect();
    let schedules: Vec<Schedule> = schedules.into_iter().map(level).collect();
    refused.sort();
    refused.dedup();
    if !refused.is_empty() {
        refused.iter().for_each(|reason| complain(&format!("{}: {reason}", args.scenario.display())));
        return exit::USAGE;
    }
    let onced = match daemon(args.onced.as_deref()) {
        Ok(onced) => onced,
        Err(text) => return usage(&text),
    };
    if let Err(error) = interrupt::watch(&STOP) {
        complain(&format!("signals cannot be waited for: {error}"));
        return exit::INTERNAL;
    }
    let progress = Progress::counting("runs", args.runs, !args.json);
    let mut pairs = Vec::new();
    for (run, schedule) in schedules.iter().enumerate() {
        match pair(schedule, &plan, &onced, faketime.as_deref(), args.keep.as_deref().map(|keep| (keep, run)))
        {
            Ok(pair) => {
                progress.finished(pair.real.verdict == Verdict::Pass);
                pairs.push(pair);
            }
            Err((text, code)) => {
                progress.elapsed_ms();
                complain(&text);
                return code;
            }
        }
    }
    progress.elapsed_ms();
    report(args, &plan, &pairs)
}

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

fn pair(
    schedule: &Schedule,
    plan: &Plan,
    onced: &Path,
    faketime: Option<&Path>,
    keep: Option<(&Path, usize)>,
) -> Result<Pair, (String, u8)> {
    let seed = schedule.scenario.seed;
    let simulated = run_caught_schedule(schedule.clone(), Options { measure: true, ..Options::default() });
    if simulated.verdict != Verdict::Pass {
        let text = format!(
            "already the simulated run fails, so there is nothing to compare:\n{}",
            simulated.human()
        );
        return Err((text, simulated.verdict.exit_code()));
    }
    let cannot = |error: std::io::Error| (format!("no folder for the daemons: {error}"), exit::INTERNAL);
    let temporary = tempfile::Builder::new().prefix("onced-sim-").tempdir().map_err(cannot)?;
    let folder = match keep {
        None => temporary.path().to_owned(),
        Some((keep, run)) => {
            let folder = keep.join(format!("run-{run}-seed-{seed}"));
            std::fs::create_dir_all(&folder).map_err(cannot)?;
            std::fs::canonicalize(folder).map_err(cannot)?
        }
    };
    let stage = Stage { onced, names: &plan.regions, folder: &folder, stop: &STOP, faketime };
    let played = match stage::play(schedule, stage) {
        Ok(played) => played,
        Err(Trouble::Apart(violation)) => {
            let real = RunReport { verdict: Verdict::Liveness(violation), ..named(seed, schedule) };
            let sim = simulated.samples.unwrap_or_default();
            return Ok(Pair { seed, sim, real: Box::new(real), packets: (0, 0) });
        }
        Err(trouble) => return Err((said(trouble), exit::INTERNAL)),
    };
    let packets = (played.packets.packets, played.packets.bytes);
    let real = Box::new(judged(schedule, played));
    Ok(Pair { seed, sim: simulated.samples.unwrap_or_default(), real, packets })
}

/// The same as it can be with real processes: regions have met before it begins, and all clocks are alike, as they are on one
/// machine.
fn level(mut schedule: Schedule) -> Schedule {
    schedule.scenario.storm_us += limits::WARM_UP_US;
    schedule.jobs.iter_mut().for_each(|job| job.at_us += limits::WARM_UP_US);
    let faults = schedule.incidents.iter_mut().flat_map(|incident| &mut incident.faults);
    faults.for_each(|(at_us, _)| *at_us += limits::WARM_UP_US);
    let level = (0..schedule.scenario.sites()).map(|at| (0, Fault::Clock(at, Step::To(0)))).collect();
    schedule.incidents.insert(0, Incident::of(level));
    schedule
}

fn named(seed: u64, schedule: &Schedule) -> RunReport {
    RunReport { keys: schedule.scenario.keys.clone(), ..RunReport::empty(seed, Options::default()) }
}

/// The run as the oracle sees it.
fn judged(schedule: &Schedule, played: Played) -> RunReport {
    let Played { history, end, samples, figures, statuses, goals, .. } = played;
    let at_us = samples.virtual_us;
    let judge = || -> Result<(), Violation> {
        history.check(&end.finals)?;
        history::check_said(&end.finals, &end.said, at_us)?;
        let ending = Ending { at_us, now: end.now_ms, max_drift: history.max_drift };
        let ledger = history::accepted(&history, &end.finals);
        agreement::check(&ledger, &end.finals, schedule.scenario.keys.len(), ending)
    };
    let verdict = judge().map_or_else(Verdict::Safety, |()| Verdict::Pass);
    let seed = schedule.scenario.seed;
    RunReport {
        verdict,
        virtual_us: at_us,
        statuses,
        goals,
        figures,
        samples: Some(samples),
        ..named(seed, schedule)
    }
}

fn said(trouble: Trouble) -> String {
    match trouble {
        Trouble::Lack(Lack::Programs(what)) => format!("{what}; apt-get install iproute2 util-linux"),
        Trouble::Lack(Lack::Machine(what)) => {
            format!("{what}; run it as root, in a container with --privileged, or use `onced-sim measure`")
        }
        Trouble::Failed(text) => text,
        Trouble::Stopped => "stopped; all daemons and namespaces are gone".to_owned(),
        Trouble::Apart(violation) => violation.to_string(),
    }
}

fn daemon(asked: Option<&Path>) -> Result<PathBuf, String> {
    let found = |path: &PathBuf| path.is_file();
    if let Some(path) = asked {
        let path = path.to_owned();
        // Daemons are started elsewhere.
        return std::fs::canonicalize(&path).ok().filter(found).ok_or_else(|| {
            format!(
                "--onced {}: no such file; cargo build --release -p daemon makes target/release/onced",
                path.display()
            )
        });
    }
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("onced")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path).map(|folder| folder.join("onced"));
    beside.into_iter().chain(all).find(found).ok_or_else(|| {
        "no onced beside onced-sim and none on the PATH: cargo build --release -p daemon, or say --onced PATH".to_owned()
    })
}

/// Moments that show from outside; the others are not judged.
const SEEN: [Goal; 18] = [
    Goal::Granted,
    Goal::ReplayAcrossRegions,
    Goal::Unknown,
    Goal::Mismatch,
    Goal::Contested,
    Goal::SupersededShown,
    Goal::Renewed,
    Goal::Released,
    Goal::Forgotten,
    Goal::Stale,
    Goal::ClockRefused,
    Goal::CatchingUp,
    Goal::QuotaRefused,
    Goal::DoubleExecution,
    Goal::Healed,
    Goal::OneWay,
    Goal::Flapped,
    Goal::Crashed,
];

/// What is expected of every run, and what cannot be judged.
fn expected(plan: &Plan, pairs: &[Pair]) -> (Vec<Outcome>, Vec<String>) {
    let seen = |name: &str| {
        name.split_once('.').is_none_or(|(_, moment)| {
            !Goal::ALL.iter().any(|goal| goal.name() == moment)
                || SEEN.iter().any(|goal| goal.name() == moment)
        })
    };
    let (mut outcomes, mut unseen) = (Vec::new(), Vec::new());
    for pair in pairs {
        for outcome in plan.expect.judge(&pair.real, true) {
            if seen(&outcome.name) {
                outcomes.push(outcome);
            } else {
                unseen.push(outcome.name);
            }
        }
    }
    unseen.sort();
    unseen.dedup();
    (outcomes, unseen)
}

fn report(args: &RealArgs, plan: &Plan, pairs: &[Pair]) -> u8 {
    let passed = || pairs.iter().filter(|pair| pair.real.verdict == Verdict::Pass);
    let sim: Vec<Samples> = passed().map(|pair| pair.sim.clone()).collect();
    let real: Vec<Samples> = passed().filter_map(|pair| pair.real.samples.clone()).collect();
    let rows = compare::rows(&sim, &real);
    let (outcomes, unseen) = expected(plan, pairs);
    let failed = || pairs.iter().filter(|pair| pair.real.verdict != Verdict::Pass);
    let worst = |code: u8| failed().any(|pair| pair.real.verdict.exit_code() == code).then_some(code);
    let code = worst(exit::SAFETY).or_else(|| worst(exit::LIVENESS));
    let code = code.unwrap_or_else(|| scenario::judged(exit::PASS, &outcomes));
    let (packets, packet_bytes) = pairs
        .iter()
        .fold((0, 0), |(packets, bytes), pair| (packets + pair.packets.0, bytes + pair.packets.1));
    if args.json {
        let verdict = failed().next().map_or("pass", |pair| pair.real.verdict.word());
        let violations = failed().map(|pair| format!("seed {}: {}", pair.seed, pair.real.human_failure()));
        let json = Json {
            scenario: args.scenario.display().to_string(),
            seeds: pairs.iter().map(|pair| pair.seed).collect(),
            verdict,
            violations: violations.collect(),
            rows: &rows,
            goal_held: compare::held(&rows),
            expectations: &outcomes,
            not_seen_from_outside: &unseen,
            packets,
            packet_bytes,
            exit_code: code,
        };
        say(&(serde_json::to_string(&json).expect("strings and numbers always serialise") + "\n"));
        return code;
    }
    let mut text = String::new();
    for pair in failed() {
        let report = &pair.real;
        text += &format!(
            "seed {}: {} with real regions\n{}",
            pair.seed,
            report.verdict.word(),
            report.human_failure()
        );
        text +=
            &format!("  replay, simulated: onced-sim run {} --seed {}\n", args.scenario.display(), pair.seed);
    }
    let count = passed().count();
    text += &format!("{}: {count} of {} runs passed\n", args.scenario.display(), pairs.len());
    if count > 0 {
        text += &compare::table(&rows);
        text += &format!("on the way: {packets} packets of {packet_bytes} bytes\n");
        text += match compare::held(&rows) {
            Some(true) => "convergence is as simulated, within the goal\n",
            Some(false) => "convergence is NOT as simulated\n",
            None => "nothing was apart when cuts ended, so convergence cannot be compared\n",
        };
    }
    text += &scenario::lines(&outcomes);
    for name in &unseen {
        text += &format!("  {name}: cannot be seen from outside; not judged\n");
    }
    say(&text);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_daemon_is_an_error_that_says_how_to_build_it() {
        let error = daemon(Some(Path::new("/nowhere/onced"))).expect_err("there is none");
        assert!(
            error.contains("/nowhere/onced") && error.contains("cargo build --release -p daemon"),
            "{error}"
        );
    }

    #[test]
    fn clocks_are_level_before_anything_else_happens() {
        let plan = file::load(Path::new("active-active")).expect("it ships");
        let plain = plan.schedule(1);
        let schedule = level(plain.clone());
        assert_eq!(schedule.jobs[0].at_us - plain.jobs[0].at_us, limits::WARM_UP_US);
        assert!(schedule.incidents.is_sorted_by_key(Incident::at_us));
        let faults = &schedule.incidents[0].faults;
        assert_eq!(faults.len(), 3);
        assert!(
            faults.iter().all(|(at_us, fault)| *at_us == 0 && matches!(fault, Fault::Clock(_, Step::To(0))))
        );
    }
}
