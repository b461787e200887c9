//! `onced demo`: see the product work in a few seconds, on this machine, with nothing set up.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::demo::{self, Wishes};

const AFTER: &str = "Examples:
  onced demo
  onced demo --keep             # stays up for onced and redis-cli, until Enter or Ctrl-C
  onced demo --json | jq '.steps[].figures'

Exit codes: 0 every check held; 1 at least one did not, or the demo could not be set up; 130 interrupted.
It starts three daemons of its own under a temporary folder and touches nothing else.";

/// Arguments of `onced demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct DemoArgs {
    /// Stay up after the story, to try things out.
    #[arg(long)]
    keep: bool,
    /// Folder for everything, made if missing; kept at the end [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// One JSON object with all checks and figures instead of the story.
    #[arg(long)]
    json: bool,
}

/// Plays the story.
///
/// # Errors
/// It could not be set up.
pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let held = demo::run(&Wishes { keep: args.keep, folder: args.dir, json: args.json });
    // Not `exit::of_error`: scripts tell only "shown" from "not shown".
    match held {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(error) => {
            eprintln!("onced demo: {error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}
