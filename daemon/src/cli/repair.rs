//! `onced repair`: cuts a damaged log, as the daemon's message proposes.
//!
//! Says what is given up before it does anything, and asks; `--yes` answers. Everything is kept beside.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use super::exit;
use crate::config::{Config, units};
use crate::driver::wall_ms;
use crate::lifecycle::progress_bar;
use crate::mend::{CutAt, Repair};

const EXAMPLES: &str = "  \
  onced repair --cut-at 00000000000000004711-00000003.log:81920    # as the daemon's message says
  onced repair --config /etc/onced/onced.toml --cut-at /var/lib/onced/00000000000000004711-00000003.log:81920 --yes";

/// Exit codes of the commands that mend.
pub const CODES: [u8; 6] =
    [exit::OK, exit::USAGE, exit::DAMAGED, exit::INTERNAL, exit::IN_USE, exit::PERMISSION];

/// Arguments of `onced repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &CODES))]
pub struct RepairArgs {
    /// The daemon's configuration file
    #[arg(long, short, env = "ONCED_CONFIG", default_value = "/etc/onced/onced.toml")]
    config: PathBuf,
    /// Where the log is damaged, as the daemon says it: that record and all after it are given up
    #[arg(long, value_name = "SEGMENT:BYTE")]
    cut_at: CutAt,
    /// Cut there although a start finds no damage, or other damage
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs `onced repair`.
///
/// # Errors
/// The folder is in use, or damaged in another way; nothing was changed then.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand is run with its own arguments")]
pub fn run(args: RepairArgs) -> anyhow::Result<ExitCode> {
    let Some(config) = load_config(&args.config) else { return Ok(ExitCode::from(exit::USAGE)) };
    let bar = progress_bar("reading the log");
    let repair = Repair::plan(&config, &args.cut_at, args.force, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let lost = repair.given_up();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "Given up: {} of the log, in which {} records of {} keys still read{}.\n\
         Keys with earlier records go back to what those say: an outcome may be forgotten here that a peer still has.\n\
         Kept: everything before, and all that is given up, in a folder set-aside-... inside the data folder.",
        units::bytes(lost.bytes),
        lost.records,
        lost.keys,
        if lost.segments > 0 {
            format!(", {} later segments with them", lost.segments)
        } else {
            String::new()
        },
    )?;
    if !confirmed(args.yes) {
        return Ok(ExitCode::from(exit::USAGE));
    }
    let aside = repair.carry_out(wall_ms())?;
    writeln!(out, "The log is cut. What was given up is in {}.", aside.display())?;
    writeln!(out, "{}", next(&config))?;
    Ok(ExitCode::SUCCESS)
}

/// What happens at the next start.
pub fn next(config: &Config) -> &'static str {
    if config.peers.is_empty() {
        "Start the daemon: it begins a new incarnation with what is left. It has no peers that could bring the rest."
    } else {
        "Start the daemon: it begins a new incarnation, fetches everything that its peers have, and grants claims once it \
         has caught up with one of them. If no peer will ever come: onced serve --alone."
    }
}

/// The configuration, or its errors on stderr.
pub fn load_config(path: &std::path::Path) -> Option<Config> {
    Config::load(path).map_err(|error| eprintln!("{error}")).ok()
}

/// Asks whether to go on; one line is read, from whatever stdin is.
pub fn confirmed(yes: bool) -> bool {
    if yes {
        return true;
    }
    eprint!("Go on? [y/N] ");
    let mut answer = String::new();
    // Nothing to read is no consent.
    let _ = std::io::stdin().lock().read_line(&mut answer);
    let agreed = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !agreed {
        eprintln!("onced: nothing was changed; --yes goes on without asking");
    }
    agreed
}
