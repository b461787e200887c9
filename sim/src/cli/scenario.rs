//! `onced-sim check`, `schedule`, `scenarios`, and what `run` and `swarm` do with a scenario file.
//!
//! Must never: call a run good that missed what its file expects.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::Args;

use super::{Subject, complain, say, usage};
use crate::file::{self, Labels, Outcome, Plan, library};
use crate::progress::Progress;
use crate::report::{RunReport, SwarmReport, Verdict, exit};
use crate::run::Options;
use crate::schedule::Schedule;
use crate::swarm::{self, run_caught_schedule, swarm_of};

pub(super) const EXAMPLES: &str = "\
Exit codes:
  0   every file is right
  64  one is not, or cannot be read

Examples:
  onced-sim check mine.toml
  onced-sim check --schema > scenario.schema.json    (for editors: completion and errors while typing)";

pub(super) const SCHEDULE_EXAMPLES: &str = "\
The file that is printed has every incident and every job of the run, with all that was drawn, one a line. It runs to the
same trace; leave lines out, or change them, and what is left stays what it was.

Examples:
  onced-sim schedule --seed 7 > seed-7.toml; onced-sim run seed-7.toml
  onced-sim schedule mine.toml --seed 3";

pub(super) const LIST_EXAMPLES: &str = "\
Examples:
  onced-sim scenarios
  onced-sim scenarios active-active > mine.toml      (to begin one's own with)
  onced-sim run active-active --seed 3";

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// Scenario files, or names of `onced-sim scenarios`
    #[arg(required_unless_present = "schema")]
    files: Vec<PathBuf>,
    /// Prints the files' JSON schema instead
    #[arg(long)]
    schema: bool,
}

#[derive(Args, Debug)]
pub(super) struct ScheduleArgs {
    #[command(flatten)]
    subject: Subject,
}

#[derive(Args, Debug)]
pub(super) struct ScenariosArgs {
    /// Prints this one
    name: Option<String>,
}

/// Reads every file and says what it is, or all that is wrong with it.
pub(super) fn check(args: &CheckArgs) -> u8 {
    if args.schema {
        say(file::SCHEMA);
        return exit::PASS;
    }
    let mut code = exit::PASS;
    for path in &args.files {
        match file::load(path) {
            Ok(plan) => {
                let Schedule { scenario, incidents, jobs } = plan.schedule(plan.seed);
                let (regions, seconds) = (plan.regions.join(", "), scenario.storm_us as f64 / 1e6);
                let (name, incidents, jobs) = (path.display(), incidents.len(), jobs.len());
                say(&format!(
                    "{name}: right. With seed {}: {regions}; {seconds} s, {incidents} incidents, {jobs} jobs\n",
                    plan.seed
                ));
            }
            Err(error) => code = complain_bare(&error.to_string()),
        }
    }
    code
}

/// Prints a schedule in full.
pub(super) fn schedule(args: &ScheduleArgs) -> u8 {
    let Subject { file, seed } = &args.subject;
    let written = match file {
        None => {
            let seed = seed.unwrap_or_default();
            let (name, about) = (format!("seed {seed}"), "drawn by onced-sim".to_owned());
            file::write(&Schedule::draw(seed), &Labels { name, about })
        }
        Some(path) => match file::load(path) {
            Ok(plan) => {
                let schedule = plan.schedule(seed.unwrap_or(plan.seed));
                let Plan { name, about, .. } = plan;
                file::write(&schedule, &Labels { name, about })
            }
            Err(error) => return complain_bare(&error.to_string()),
        },
    };
    match written {
        Ok(text) => {
            say(&text);
            exit::PASS
        }
        Err(error) => {
            complain(&format!("the schedule cannot be written: {error}; please report it with its seed"));
            exit::INTERNAL
        }
    }
}

/// Lists the library, or prints one of it.
pub(super) fn scenarios(args: &ScenariosArgs) -> u8 {
    if let Some(name) = &args.name {
        let Some(scenario) = library::find(name) else {
            return usage(&format!("no scenario is called {name}; see `onced-sim scenarios`"));
        };
        say(scenario.text);
        return exit::PASS;
    }
    for scenario in library::ALL {
        let about =
            file::parse(scenario.name, scenario.text).map_or_else(|_| String::new(), |plan| plan.about);
        say(&format!("{:<26} {about}\n", scenario.name));
    }
    exit::PASS
}

/// Runs a file once; returns the report for who wants its trace, or the exit code.
pub(super) fn run(
    path: &Path,
    seed: Option<u64>,
    options: Options,
    json: bool,
) -> Result<(RunReport, u8), u8> {
    let plan = load(path)?;
    let options = Options { sample: plan.expect.needs_samples(), ..options };
    let mut report = run_caught_schedule(plan.schedule(seed.unwrap_or(plan.seed)), options);
    report.file = Some(path.display().to_string());
    let outcomes = plan.expect.judge(&report, true);
    let code = judged(report.verdict.exit_code(), &outcomes);
    if json {
        say(&(with_outcomes(&report.json(), &outcomes, code) + "\n"));
    } else {
        say(&(report.human() + &lines(&outcomes)));
    }
    Ok((report, code))
}

/// Runs many seeds of a file.
pub(super) fn swarm(path: &Path, plan: swarm::Plan, json: bool) -> u8 {
    let scenario = match load(path) {
        Ok(scenario) => scenario,
        Err(code) => return code,
    };
    let missed: Mutex<Vec<(u64, Outcome)>> = Mutex::new(Vec::new());
    let watch = |report: &RunReport| {
        let misses = scenario.expect.judge(report, false).into_iter().filter(|outcome| !outcome.held);
        if report.verdict == Verdict::Pass {
            let mut all = missed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            all.extend(misses.map(|outcome| (report.seed, outcome)));
        }
    };
    let progress = Progress::new(plan.seeds, !json);
    let plan = swarm::Plan { sample: scenario.expect.needs_samples(), ..plan };
    let mut report = swarm_of(plan, &progress, &|seed| scenario.schedule(seed), &watch);
    report.failures.iter_mut().for_each(|failure| failure.file = Some(path.display().to_string()));
    let mut missed = missed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    missed.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
    let moments = scenario.expect.judge_moments(report.goals);
    let misses: Vec<Outcome> =
        missed.iter().map(|(_, outcome)| outcome.clone()).chain(moments.clone()).collect();
    let code = judged(report.worst_failure(), &misses);
    report.missed = missed.iter().map(|(seed, _)| *seed).collect();
    report.missed.dedup();
    if json {
        say(&(with_outcomes(&report.json(), &misses, code) + "\n"));
    } else {
        say(&told(path, &report, &missed, &moments));
    }
    code
}

fn load(path: &Path) -> Result<Plan, u8> {
    file::load(path).map_err(|error| complain_bare(&error.to_string()))
}

/// What an editor can jump to stands at the beginning of its line.
pub(super) fn complain_bare(text: &str) -> u8 {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
    exit::USAGE
}

/// The exit code: a missed expectation counts where nothing worse happened.
pub(super) fn judged(code: u8, outcomes: &[Outcome]) -> u8 {
    if code == exit::PASS && outcomes.iter().any(|outcome| !outcome.held) { exit::EXPECTATION } else { code }
}

fn line(outcome: &Outcome) -> String {
    let Outcome { name, limit, measured, held } = outcome;
    let word = if *held { "kept  " } else { "MISSED" };
    format!("  {word} {name}: {limit}, measured {measured}\n")
}

pub(super) fn lines(outcomes: &[Outcome]) -> String {
    outcomes.iter().map(line).collect()
}

fn told(path: &Path, report: &SwarmReport, missed: &[(u64, Outcome)], moments: &[Outcome]) -> String {
    let mut text = report.human_of_file();
    if let Some(seed) = report.missed.first() {
        text += &how_to_look(&path.display().to_string(), *seed);
    }
    for (seed, outcome) in missed.iter().take(MISSES_SHOWN_MAX) {
        text += &format!("  seed {seed}:{}", line(outcome));
    }
    if missed.len() > MISSES_SHOWN_MAX {
        text += &format!("  and {} more\n", missed.len() - MISSES_SHOWN_MAX);
    }
    text + &lines(moments)
}

/// What to do about a seed that missed something.
pub(super) fn how_to_look(file: &str, seed: u64) -> String {
    format!(
        "  what was measured: onced-sim run {file} --seed {seed}; what happened: add --report DIR, and open DIR/report.html\n"
    )
}

/// Missed expectations that a swarm lists one by one.
const MISSES_SHOWN_MAX: usize = 20;

/// The report's JSON with what was expected.
fn with_outcomes(json: &str, outcomes: &[Outcome], code: u8) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(json) else { return json.to_owned() };
    value["expectations"] = serde_json::json!(outcomes);
    value["exit_code"] = code.into();
    value.to_string()
}
