//! `onced rejoin`: keeps what still reads and has the peers bring the rest.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::exit;
use super::repair::{CODES, confirmed, load_config, next};
use crate::driver::wall_ms;
use crate::lifecycle::progress_bar;
use crate::mend::Rejoin;

const EXAMPLES: &str = "  \
  onced rejoin --config /etc/onced/onced.toml
  onced rejoin --yes && systemctl start onced";

/// Arguments of `onced rejoin`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &CODES))]
pub struct RejoinArgs {
    /// The daemon's configuration file
    #[arg(long, short, env = "ONCED_CONFIG", default_value = "/etc/onced/onced.toml")]
    config: PathBuf,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs `onced rejoin`.
///
/// # Errors
/// The folder is in use, of another version, or another region's; nothing was changed then.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand is run with its own arguments")]
pub fn run(args: RejoinArgs) -> anyhow::Result<ExitCode> {
    let Some(config) = load_config(&args.config) else { return Ok(ExitCode::from(exit::USAGE)) };
    let bar = progress_bar("reading what reads");
    let rejoin = Rejoin::plan(&config, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    for damage in rejoin.damages() {
        // Up to the ways out: this is the one that was taken.
        let what = damage.split("; nothing was changed").next().unwrap_or(damage);
        writeln!(out, "damaged: {what}")?;
    }
    if rejoin.damages().is_empty() {
        writeln!(out, "Everything reads back.")?;
    }
    writeln!(
        out,
        "Kept: {} keys and {} conflicts. This region begins a new incarnation with them.",
        rejoin.keys(),
        rejoin.conflicts()
    )?;
    if !confirmed(args.yes) {
        return Ok(ExitCode::from(exit::USAGE));
    }
    if let Some(aside) = rejoin.carry_out(wall_ms())? {
        writeln!(out, "Written anew. The old files are in {}.", aside.display())?;
    }
    writeln!(out, "{}", next(&config))?;
    Ok(ExitCode::SUCCESS)
}
