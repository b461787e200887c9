//! `onced-sim run --report`, `explain` and `diff`: what happened in a run, for people.
//!
//! Must never: judge; the exit codes are those of the runs.

use clap::Args;
use std::path::Path;

use super::{chosen, complain, say, usage};
use crate::report::{RunReport, exit};
use crate::run::Options;
use crate::story::{Told, diff::diff, explain::explain, page::page};
use crate::swarm::run_caught;

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// Everything in the run is drawn from it
    #[arg(long)]
    seed: u64,
    /// Plants a bug (only in a build with --features canary)
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// The seed of the first run
    #[arg(long)]
    seed: u64,
    /// Plants a bug in the first run (only in a build with --features canary)
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
    /// The seed of the second run; by default the same
    #[arg(long, value_name = "SEED")]
    with_seed: Option<u64>,
    /// Plants a bug in the second run
    #[arg(long, value_name = "NAME")]
    with_canary: Option<String>,
}

fn recorded(seed: u64, canary: Option<&str>) -> Result<RunReport, String> {
    let canary = chosen(canary)?;
    Ok(run_caught(seed, Options { canary, keep_story: true, ..Options::default() }))
}

/// Says what led to a violation.
pub(super) fn explain_command(args: &ExplainArgs) -> u8 {
    match recorded(args.seed, args.canary.as_deref()) {
        Ok(report) => {
            say(&explain(&report));
            report.verdict.exit_code()
        }
        Err(message) => usage(&message),
    }
}

/// Says where two runs part.
pub(super) fn diff_command(args: &DiffArgs) -> u8 {
    let other = args.with_seed.unwrap_or(args.seed);
    let runs = recorded(args.seed, args.canary.as_deref())
        .and_then(|left| Ok((left, recorded(other, args.with_canary.as_deref())?)));
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

/// Writes `report.json` and `report.html` into a folder, which is made if it is not there.
pub(super) fn write_report(
    report: &RunReport,
    folder: &Path,
    key: Option<&str>,
    replay: Option<String>,
) -> Result<(), String> {
    let keys = report.story.as_deref().map_or(&[][..], |record| &record.keys);
    if let Some(key) = key
        && !keys.iter().any(|known| known == key)
    {
        let some: Vec<&str> = keys.iter().take(20).map(String::as_str).collect();
        return Err(format!("--key {key}: the run has no such key; it has {}", some.join(", ")));
    }
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
