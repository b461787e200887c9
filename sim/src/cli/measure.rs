//! `onced-sim measure`: what a topology costs and gives, over many seeds; several scenarios side by side.
//!
//! Must never: put what a failing run did into the table.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use serde::Serialize;

use super::{Seeds, say};
use crate::file::{self, Outcome, Plan};
use crate::goals::Goals;
use crate::limits;
use crate::measure::{Estimate, Samples, Spread, Summary};
use crate::progress::Progress;
use crate::report::{RunReport, Verdict, exit, worst};
use crate::run::Options;
use crate::swarm::run_caught_schedule;

pub(super) const EXAMPLES: &str = "\
Figures: `value [low..high]`: the truth lies between in 95 of 100 cases, by drawing whole runs again. More seeds make it narrower.

  duplicates    executions that CONFLICTS lists at the end, in 1,000; and the runs that had any
  window        how far apart in time the two claims of a duplicate were: for how long another region could still be granted
  convergence   from the end of a cut (none holds any more) until what regions knew differently then is alike
  staleness     age of the most silent peer's last word at a grant (`stale_ms`)
  refused       claims answered UNAVAILABLE, of all claims
  bytes         of frames on one directed link

Exit codes:
  0   every run passed, and kept what its scenario expects
  1   an invariant was broken
  2   a healed cluster did not converge in bounded virtual time
  3   a run missed its scenario's [expect]
  64  the command line or a scenario was wrong
  70  a panic

Examples:
  onced-sim measure active-active --seeds 200
  onced-sim measure now.toml with-shorter-leases.toml --seeds 400
  onced-sim measure my-topology.toml --json | jq .[0].summary.duplicates_per_1000";

#[derive(Args, Debug)]
pub(super) struct MeasureArgs {
    /// Scenario files, or names that `onced-sim scenarios` lists; each is a column
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    #[command(flatten)]
    runs: Seeds,
}

/// One scenario's runs.
struct Column {
    name: String,
    summary: Option<Summary>,
    failures: Vec<RunReport>,
    /// What `[expect]` asks and a run missed, by seed; and what none of them reached.
    missed: Vec<(u64, Outcome)>,
    moments: Vec<Outcome>,
}

#[derive(Serialize)]
struct ColumnJson<'a> {
    scenario: &'a str,
    summary: Option<&'a Summary>,
    failed_seeds: Vec<u64>,
    missed: Vec<MissJson<'a>>,
}

#[derive(Serialize)]
struct MissJson<'a> {
    /// None for what no run reached.
    seed: Option<u64>,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

pub(super) fn command(args: &MeasureArgs) -> u8 {
    if let Err(message) = args.runs.check() {
        return super::usage(message);
    }
    let mut plans = Vec::new();
    for path in &args.scenarios {
        match file::load(path) {
            Ok(plan) => plans.push((path.display().to_string(), plan)),
            Err(error) => return super::usage(&error.to_string()),
        }
    }
    let progress = Progress::new(args.runs.seeds.saturating_mul(plans.len() as u64), !args.runs.json);
    let run = |(name, plan): &(String, Plan)| column(name, plan, &args.runs, &progress);
    let columns: Vec<Column> = plans.iter().map(run).collect();
    progress.elapsed_ms();
    say(&if args.runs.json { json(&columns) } else { human(&columns) });
    let failures = columns.iter().flat_map(|column| &column.failures);
    let codes: Vec<u8> = failures.map(|failure| failure.verdict.exit_code()).collect();
    let missed = columns.iter().any(|column| !column.missed.is_empty() || !column.moments.is_empty());
    worst(&codes).unwrap_or(if missed { exit::EXPECTATION } else { exit::PASS })
}

fn column(name: &str, plan: &Plan, args: &Seeds, progress: &Progress) -> Column {
    let next = AtomicU64::new(0);
    let done: Mutex<Vec<RunReport>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..args.threads.count() {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= args.seeds {
                        return;
                    }
                    let schedule = plan.schedule(args.start.wrapping_add(at));
                    let report =
                        run_caught_schedule(schedule, Options { measure: true, ..Options::default() });
                    progress.finished(report.verdict == Verdict::Pass);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(report);
                }
            });
        }
    });
    let mut reports = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Whatever thread was done first, the table is the same.
    reports.sort_by_key(|report| report.seed);
    let (passed, failures): (Vec<_>, Vec<_>) =
        reports.into_iter().partition(|report| report.verdict == Verdict::Pass);
    let (mut missed, mut goals) = (Vec::new(), Goals::default());
    for report in &passed {
        goals.join(report.goals);
        let judged = plan.expect.judge(report, false).into_iter().filter(|outcome| !outcome.held);
        missed.extend(judged.map(|outcome| (report.seed, outcome)));
    }
    let mut moments = plan.expect.judge_moments(goals);
    moments.retain(|outcome| !outcome.held && !passed.is_empty());
    let samples: Vec<Samples> = passed.into_iter().filter_map(|report| report.samples).collect();
    let summary = (!samples.is_empty()).then(|| Summary::of(&samples));
    Column { name: name.to_owned(), summary, failures, missed, moments }
}

impl Column {
    fn misses(&self) -> impl Iterator<Item = MissJson<'_>> {
        let of_runs = self.missed.iter().map(|(seed, outcome)| MissJson { seed: Some(*seed), outcome });
        of_runs.chain(self.moments.iter().map(|outcome| MissJson { seed: None, outcome }))
    }

    /// Which expectations were missed, by how many of the runs.
    fn misses_words(&self) -> String {
        let (mut text, runs) = (String::new(), self.summary.as_ref().map_or(0, |summary| summary.runs));
        let mut names: Vec<&str> = self.missed.iter().map(|(_, outcome)| outcome.name.as_str()).collect();
        names.dedup();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let of = || self.missed.iter().filter(|(_, outcome)| outcome.name == name);
            let seeds: Vec<String> =
                of().take(limits::SEEDS_NAMED_MAX).map(|(seed, _)| seed.to_string()).collect();
            let Some((seed, outcome)) = of().next() else { continue };
            let _ = writeln!(
                text,
                "{}: MISSED {name} ({}) in {} of {runs} runs: seeds {}{}; the first measured {}",
                self.name,
                outcome.limit,
                of().count(),
                seeds.join(", "),
                if of().count() > seeds.len() { ", …" } else { "" },
                outcome.measured
            );
            text += &super::scenario::how_to_look(&self.name, *seed);
        }
        for outcome in &self.moments {
            let _ = writeln!(text, "{}: MISSED {}: no run came there", self.name, outcome.name);
        }
        text
    }
}

fn json(columns: &[Column]) -> String {
    let json: Vec<ColumnJson<'_>> = columns
        .iter()
        .map(|column| ColumnJson {
            scenario: &column.name,
            summary: column.summary.as_ref(),
            failed_seeds: column.failures.iter().map(|failure| failure.seed).collect(),
            missed: column.misses().collect(),
        })
        .collect();
    serde_json::to_string(&json).expect("strings and numbers always serialise") + "\n"
}

/// A line of the table: what it is called, and what a column says.
type Line = (&'static str, fn(&Summary) -> String);

const LINES: [Line; 15] = [
    ("runs", |of| of.runs.to_string()),
    ("executions", |of| of.executions.to_string()),
    ("duplicates", |of| of.duplicates.to_string()),
    ("  in 1,000 executions", |of| estimate(of.duplicates_per_1000)),
    ("  runs with any", |of| of.runs_with_duplicates.to_string()),
    ("  window, ms: p50", |of| p50(of.window_ms)),
    ("  window, ms: longest", |of| longest(of.window_ms)),
    ("convergence, ms: p50", |of| p50(of.convergence_ms)),
    ("convergence, ms: p99", |of| p99(of.convergence_ms)),
    ("convergence, ms: longest", |of| longest(of.convergence_ms)),
    ("staleness, ms: p50", |of| p50(of.staleness_ms)),
    ("staleness, ms: p99", |of| p99(of.staleness_ms)),
    ("staleness, ms: longest", |of| longest(of.staleness_ms)),
    ("refused, % of claims", |of| estimate(of.refused_percent)),
    ("bytes/s on a directed link", |of| estimate(of.bytes_per_s)),
];

fn human(columns: &[Column]) -> String {
    let mut text = String::new();
    let _ = write!(text, "{:<28}", "");
    for column in columns {
        let _ = write!(text, "{:>30}", column.name);
    }
    text.push('\n');
    for (name, of) in LINES {
        let _ = write!(text, "{name:<28}");
        for column in columns {
            let _ = write!(text, "{:>30}", column.summary.as_ref().map_or_else(|| "-".to_owned(), of));
        }
        text.push('\n');
    }
    for column in columns.iter().filter(|column| !column.failures.is_empty()) {
        let seeds: Vec<String> = column.failures.iter().map(|failure| failure.seed.to_string()).collect();
        let _ = writeln!(text, "{}: failed and not measured: seeds {}", column.name, seeds.join(", "));
        if let Some(first) = column.failures.first() {
            text.push_str(&first.human_failure());
        }
    }
    columns.iter().for_each(|column| text.push_str(&column.misses_words()));
    text
}

fn estimate(of: Estimate) -> String {
    let digits = |value: f64| match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    };
    format!("{} [{}..{}]", digits(of.value), digits(of.low), digits(of.high))
}

fn p50(of: Option<Spread>) -> String {
    of.map_or_else(|| "-".to_owned(), |spread| estimate(spread.p50))
}

fn p99(of: Option<Spread>) -> String {
    of.map_or_else(|| "-".to_owned(), |spread| estimate(spread.p99))
}

fn longest(of: Option<Spread>) -> String {
    of.map_or_else(|| "-".to_owned(), |spread| spread.max.to_string())
}
