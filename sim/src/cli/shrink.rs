//! `onced-sim shrink`: the least of a failing run that still fails.
//!
//! Must never: say that a run is minimal when the search was cut short.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Subject, chosen, complain, say, story, usage};
use crate::describe;
use crate::file::{self, Labels};
use crate::limits;
use crate::naming;
use crate::report::{Verdict, exit};
use crate::run::Options;
use crate::schedule::Schedule;
use crate::shrink::{Shrunk, shrink};
use crate::swarm::run_caught_schedule;

pub const EXAMPLES: &str = "\
Exit codes: those of the run that is left; 0 if the seed does not fail at all.

Examples:
  onced-sim shrink --seed 817 --report seed-817              (open seed-817/report.html)
  onced-sim shrink --seed 8 --canary losers-not-listed        (built with --features canary)
  onced-sim shrink mine.toml --seed 12 --write regressions    (a scenario file, and a Rust test that runs it)
  onced-sim shrink --seed 817 --json | jq .events";

#[derive(Args, Debug)]
pub struct ShrinkArgs {
    #[command(flatten)]
    subject: Subject,
    /// Runs that the search may take
    #[arg(long, default_value_t = limits::SHRINK_RUNS_MAX, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Writes report.html and report.json of the run that is left into DIR
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Writes what is left into DIR: a scenario file, and a Rust test that runs it
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Plants a bug (only in a build with --features canary)
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
}

#[derive(Serialize)]
struct ShrunkJson<'a> {
    seed: u64,
    verdict: &'a str,
    invariant: Option<&'a str>,
    story: Vec<String>,
    events_at_first: usize,
    events: Vec<String>,
    shape: String,
    runs: u64,
    minimal: bool,
}

/// Shrinks one run.
pub fn command(args: &ShrinkArgs) -> u8 {
    let canary = match chosen(args.canary.as_deref()) {
        Ok(canary) => canary,
        Err(message) => return usage(&message),
    };
    let (schedule, labels) = match subject(args) {
        Ok(subject) => subject,
        Err(message) => return usage(&message),
    };
    let options = Options { canary, ..Options::default() };
    let report = run_caught_schedule(schedule.clone(), options);
    if report.verdict == Verdict::Pass {
        let text = format!(
            "seed {} breaks nothing: nothing to shrink (what [expect] asks is not shrunk)\n",
            schedule.scenario.seed
        );
        say(&if args.json { "null\n".to_owned() } else { text });
        return exit::PASS;
    }
    let shrunk = shrink(schedule, report, options, args.runs);
    say(&if args.json { json(&shrunk) } else { human(&shrunk) });
    let command = again(args, shrunk.schedule.scenario.seed);
    if let Some(folder) = &args.report {
        // Once more, recorded: the search records nothing.
        let recorded = Options { keep_story: true, ..options };
        let report = run_caught_schedule(shrunk.schedule.clone(), recorded);
        if let Err(message) = story::write_report(&report, folder, None, Some(command.clone())) {
            complain(&message);
            return exit::INTERNAL;
        }
    }
    if let Some(folder) = &args.write
        && let Err(message) = write_test(&shrunk, labels, &command, folder)
    {
        complain(&message);
        return exit::INTERNAL;
    }
    shrunk.report.verdict.exit_code()
}

/// What is to be shrunk, and what people call it.
fn subject(args: &ShrinkArgs) -> Result<(Schedule, Labels), String> {
    let Subject { file, seed } = &args.subject;
    let Some(path) = file else {
        let seed = seed.unwrap_or_default();
        let labels = Labels { name: format!("seed {seed}, shrunk"), ..Labels::default() };
        return Ok((Schedule::draw(seed), labels));
    };
    let plan = file::load(path).map_err(|error| error.to_string())?;
    let schedule = plan.schedule(seed.unwrap_or(plan.seed));
    Ok((schedule, Labels { name: format!("{}, shrunk", plan.name), ..Labels::default() }))
}

/// The command that shrinks the same run again.
fn again(args: &ShrinkArgs, seed: u64) -> String {
    let file = args.subject.file.as_ref().map_or_else(String::new, |path| format!(" {}", path.display()));
    let planted = args.canary.as_deref().map_or_else(String::new, |bug| format!(" --canary {bug}"));
    format!("onced-sim shrink{file} --seed {seed}{planted}")
}

/// Writes what is left as a scenario file, and a test that runs it.
fn write_test(shrunk: &Shrunk, labels: Labels, command: &str, folder: &Path) -> Result<(), String> {
    let seed = shrunk.schedule.scenario.seed;
    let violation = shrunk.report.verdict.violation();
    let rule = violation.map_or(shrunk.report.verdict.word(), |violation| violation.invariant);
    let story = violation.map_or_else(String::new, |violation| {
        naming::named(&violation.story.join(", "), &shrunk.schedule.scenario.names)
    });
    let about = format!("{rule}: {story}. Left by: {command}");
    let text = file::write(&shrunk.schedule, &Labels { name: labels.name, about })?;
    let name = format!("{}_seed_{seed}", rule.to_lowercase().replace(['-', '.'], "_"));
    let test = format!(
        "/// {rule}: {story}.\n/// Found by `{command}`.\n#[test]\nfn {name}() {{\n    \
         let plan = sim::file::parse(\"{name}.toml\", include_str!(\"{name}.toml\")).expect(\"a scenario\");\n    \
         let report = sim::run::run_schedule(plan.schedule(plan.seed), sim::run::Options::default());\n    \
         assert_eq!(report.verdict, sim::report::Verdict::Pass);\n}}\n"
    );
    let failed = |error: std::io::Error| format!("{}: {error}; choose another --write", folder.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    std::fs::write(folder.join(format!("{name}.toml")), text).map_err(failed)?;
    std::fs::write(folder.join(format!("{name}.rs")), test).map_err(failed)
}

fn json(shrunk: &Shrunk) -> String {
    let violation = shrunk.report.verdict.violation();
    let json = ShrunkJson {
        seed: shrunk.schedule.scenario.seed,
        verdict: shrunk.report.verdict.word(),
        invariant: violation.map(|violation| violation.invariant),
        story: violation.map_or_else(Vec::new, |violation| shrunk.report.story_of(violation)),
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
