//! `onced-sim run --report`, `explain` and `diff`: what happened in a run, for people.
//!
//! Must never: judge; the exit codes are those of the runs.

use clap::Args;
use std::path::{Path, PathBuf};

use super::{Subject, chosen, complain, say, usage};
use crate::file;
use crate::report::{RunReport, exit};
use crate::run::Options;
use crate::story::{Told, diff::diff, explain::explain, page::page};
use crate::swarm::{run_caught, run_caught_schedule};

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Exit codes: those of the run; 0 where every rule held and there is nothing to explain.

Examples:
  onced-sim explain --seed 7
  onced-sim explain mine.toml --seed 12";

pub(super) const DIFF_EXAMPLES: &str = "\
Exit codes:
  0   the runs are alike
  1   they part
  64  the command line or a scenario was wrong

Examples:
  onced-sim diff --seed 7 --with-canary losers-not-listed     (built with --features canary)
  onced-sim diff mine.toml --seed 3 --with-seed 4
  onced-sim diff mine.toml --with with-shorter-leases.toml";

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    subject: Subject,
    /// Plants a bug (only in a build with --features canary)
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    subject: Subject,
    /// Plants a bug in the first run (only in a build with --features canary)
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
    /// The scenario of the second run; by default the same
    #[arg(long, value_name = "SCENARIO")]
    with: Option<PathBuf>,
    /// The seed of the second run; by default the same
    #[arg(long, value_name = "SEED")]
    with_seed: Option<u64>,
    /// Plants a bug in the second run
    #[arg(long, value_name = "NAME")]
    with_canary: Option<String>,
}

fn recorded(file: Option<&Path>, seed: Option<u64>, canary: Option<&str>) -> Result<RunReport, String> {
    let options = Options { canary: chosen(canary)?, keep_story: true, ..Options::default() };
    let Some(path) = file else { return Ok(run_caught(seed.unwrap_or_default(), options)) };
    let plan = file::load(path).map_err(|error| error.to_string())?;
    let report = run_caught_schedule(plan.schedule(seed.unwrap_or(plan.seed)), options);
    Ok(RunReport { file: Some(path.display().to_string()), ..report })
}

/// Says what led to a violation.
pub(super) fn explain_command(args: &ExplainArgs) -> u8 {
    match recorded(args.subject.file.as_deref(), args.subject.seed, args.canary.as_deref()) {
        Ok(report) => {
            say(&explain(&report));
            report.verdict.exit_code()
        }
        Err(message) => usage(&message),
    }
}

/// Says where two runs part.
pub(super) fn diff_command(args: &DiffArgs) -> u8 {
    let Subject { file, seed } = &args.subject;
    let other = args.with.as_ref().or(file.as_ref());
    let runs = recorded(file.as_deref(), *seed, args.canary.as_deref()).and_then(|left| {
        let seed = args.with_seed.or(*seed);
        Ok((left, recorded(other.map(PathBuf::as_path), seed, args.with_canary.as_deref())?))
    });
    let (left, right) = match runs {
        Ok(runs) => runs,
        Err(message) => return usage(&message),
    };
    match diff(&left, &right) {
        Some(text) => {
            say(&text);
            exit::SAFETY
        }
        None => {
            say("the runs are alike\n");
            exit::PASS
        }
    }
}

/// Whether the run has such a key.
pub(super) fn check_key(report: &RunReport, key: &str) -> Result<(), String> {
    let keys = report.story.as_deref().map_or(&[][..], |record| &record.keys);
    if keys.iter().any(|known| known == key) {
        return Ok(());
    }
    let some: Vec<&str> = keys.iter().take(20).map(String::as_str).collect();
    Err(format!("--key {key}: the run has no such key; it has {}", some.join(", ")))
}

/// Writes `report.json` and `report.html` into a folder, which is made if it is not there.
pub(super) fn write_report(
    report: &RunReport,
    folder: &Path,
    key: Option<&str>,
    replay: Option<String>,
) -> Result<(), String> {
    let mut told = Told::of(report, key).ok_or("the run was not recorded")?;
    told.replay = replay;
    let json = told.json();
    let title = match report.verdict.violation() {
        Some(violation) => format!("{} broken - onced-sim seed {}", violation.invariant, report.seed),
        None => format!("{} - onced-sim seed {}", report.verdict.word(), report.seed),
    };
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| {
            format!("{} could not be written: {error}; choose another --report", path.display())
        })
    };
    std::fs::create_dir_all(folder).map_err(|error| {
        format!("{} could not be made: {error}; choose another --report", folder.display())
    })?;
    write("report.json", &json)?;
    write("report.html", &page(&json, &title))?;
    // On standard error: standard output may be JSON for a program.
    complain(&format!("wrote {}: open it in any browser", folder.join("report.html").display()));
    Ok(())
}
