//! `onced-sim shrink`: the least of a failing run that still fails.
//!
//! Must never: say that a run is minimal when the search was cut short.

use clap::Args;
use serde::Serialize;
use std::fmt::Write as _;

use super::{chosen, complain, say, story, usage};
use crate::describe;
use crate::limits;
use crate::report::{Verdict, exit};
use crate::run::Options;
use crate::schedule::Schedule;
use crate::shrink::{Shrunk, shrink};
use crate::swarm::run_caught_schedule;

pub const EXAMPLES: &str = "\
Exit codes: those of the run that is left; 0 if the seed does not fail at all.

Examples:
  onced-sim shrink --seed 817 --report seed-817              (open seed-817/report.html)
  onced-sim shrink --seed 3 --canary losers-not-listed        (built with --features canary)
  onced-sim shrink --seed 817 --json | jq .events";

#[derive(Args, Debug)]
pub struct ShrinkArgs {
    /// The seed that fails
    #[arg(long)]
    seed: u64,
    /// Runs that the search may take
    #[arg(long, default_value_t = limits::SHRINK_RUNS_MAX, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Writes report.html and report.json of the run that is left into DIR
    #[arg(long, value_name = "DIR")]
    report: Option<std::path::PathBuf>,
    /// Plants a bug (only in a build with --features canary)
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
}

#[derive(Serialize)]
struct ShrunkJson<'a> {
    seed: u64,
    verdict: &'a str,
    invariant: Option<&'a str>,
    story: &'a [String],
    events_at_first: usize,
    events: Vec<String>,
    shape: String,
    runs: u64,
    minimal: bool,
}

/// Shrinks one seed.
pub fn command(args: &ShrinkArgs) -> u8 {
    let canary = match chosen(args.canary.as_deref()) {
        Ok(canary) => canary,
        Err(message) => return usage(&message),
    };
    let options = Options { canary, ..Options::default() };
    let schedule = Schedule::draw(args.seed);
    let report = run_caught_schedule(schedule.clone(), options);
    if report.verdict == Verdict::Pass {
        say(&if args.json {
            "null\n".to_owned()
        } else {
            format!("seed {} passes: nothing to shrink\n", args.seed)
        });
        return exit::PASS;
    }
    let shrunk = shrink(schedule, report, options, args.runs);
    say(&if args.json { json(&shrunk) } else { human(&shrunk) });
    if let Some(folder) = &args.report {
        // Once more, recorded: the search records nothing.
        let recorded = Options { keep_story: true, ..options };
        let report = run_caught_schedule(shrunk.schedule.clone(), recorded);
        let planted = args.canary.as_deref().map_or_else(String::new, |bug| format!(" --canary {bug}"));
        let again = format!("onced-sim shrink --seed {}{planted}", args.seed);
        if let Err(message) = story::write_report(&report, folder, None, Some(again)) {
            complain(&message);
            return exit::INTERNAL;
        }
    }
    shrunk.report.verdict.exit_code()
}

fn json(shrunk: &Shrunk) -> String {
    let violation = shrunk.report.verdict.violation();
    let json = ShrunkJson {
        seed: shrunk.schedule.scenario.seed,
        verdict: shrunk.report.verdict.word(),
        invariant: violation.map(|violation| violation.invariant),
        story: violation.map_or(&[], |violation| &violation.story),
        events_at_first: shrunk.from,
        events: describe::events(&shrunk.schedule),
        shape: describe::shape(&shrunk.schedule.scenario),
        runs: shrunk.runs,
        minimal: shrunk.is_minimal,
    };
    serde_json::to_string(&json).expect("strings and numbers always serialise") + "\n"
}

fn human(shrunk: &Shrunk) -> String {
    let mut text = String::new();
    let left = shrunk.schedule.len();
    let _ = writeln!(
        text,
        "seed {}: {} events of {} are enough, found in {} runs{}",
        shrunk.schedule.scenario.seed,
        left,
        shrunk.from,
        shrunk.runs,
        if shrunk.is_minimal { "" } else { " (cut short; --runs allows more)" }
    );
    let _ = writeln!(text, "  {}", describe::shape(&shrunk.schedule.scenario));
    for event in describe::events(&shrunk.schedule) {
        let _ = writeln!(text, "  {event}");
    }
    text.push_str(&shrunk.report.human_failure());
    text
}
