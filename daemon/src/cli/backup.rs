//! `onced backup`: save, inspect, restore. See `crate::backup`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::repair::{CODES, load_config, next};
use super::{exit, show, time};
use crate::backup::{self, About, BackupError};
use crate::config::{Config, units};
use crate::driver::wall_ms;
use crate::lifecycle::progress_bar;

const SAVE_EXAMPLES: &str = "  \
  onced backup save /backups/eu-$(date +%F) --config /etc/onced/onced.toml    # the daemon goes on
  onced backup save /backups/eu --json | jq .contents.keys";
const INSPECT_EXAMPLES: &str =
    "  onced backup inspect /backups/eu\n  onced backup inspect /backups/eu --json";
const RESTORE_EXAMPLES: &str = "  \
  systemctl stop onced && mv /var/lib/onced /var/lib/onced.old
  onced backup restore /backups/eu --config /etc/onced/onced.toml && systemctl start onced";

/// Save, look at and restore this region's data.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    #[command(subcommand)]
    command: BackupCommand,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Copy the data folder, consistently, while the daemon serves
    #[command(after_help = exit::help(SAVE_EXAMPLES, &CODES))]
    Save(SaveArgs),
    /// Verify a backup and show what is in it; needs neither configuration nor secret
    #[command(after_help = exit::help(INSPECT_EXAMPLES, &CODES))]
    Inspect(InspectArgs),
    /// Put a backup into an empty data folder; the region then begins a new incarnation
    #[command(after_help = exit::help(RESTORE_EXAMPLES, &CODES))]
    Restore(RestoreArgs),
}

/// How much is looked at.
#[derive(Debug, clap::Args)]
struct Looks {
    /// Do not recover the backup in memory, which takes as much of it as the daemon; checksums of files only
    #[arg(long)]
    no_verify: bool,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

/// Arguments of `onced backup save`.
#[derive(Debug, clap::Args)]
struct SaveArgs {
    /// A folder that is empty or does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The daemon's configuration file
    #[arg(long, short, env = "ONCED_CONFIG", default_value = "/etc/onced/onced.toml")]
    config: PathBuf,
    #[command(flatten)]
    looks: Looks,
}

/// Arguments of `onced backup inspect`.
#[derive(Debug, clap::Args)]
struct InspectArgs {
    /// The backup
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    looks: Looks,
}

/// Arguments of `onced backup restore`.
#[derive(Debug, clap::Args)]
struct RestoreArgs {
    /// The backup
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The configuration of the region that it is restored for
    #[arg(long, short, env = "ONCED_CONFIG", default_value = "/etc/onced/onced.toml")]
    config: PathBuf,
    #[command(flatten)]
    looks: Looks,
}

/// Runs `onced backup`.
///
/// # Errors
/// Standard output cannot be written. What the command itself cannot do, it says, with its exit code.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand is run with its own arguments")]
pub fn run(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let result = match &args.command {
        BackupCommand::Save(args) => {
            let Some(config) = load_config(&args.config) else { return Ok(ExitCode::from(exit::USAGE)) };
            save(args, &config)
        }
        BackupCommand::Inspect(args) => inspect(args),
        BackupCommand::Restore(args) => {
            let Some(config) = load_config(&args.config) else { return Ok(ExitCode::from(exit::USAGE)) };
            restore(args, &config)
        }
    };
    match result {
        Ok(text) => {
            std::io::stdout().lock().write_all(text.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("onced: {error}");
            Ok(ExitCode::from(code_of(&error)))
        }
    }
}

fn code_of(error: &BackupError) -> u8 {
    match error {
        BackupError::Open(error) => exit::of_open_error(error),
        BackupError::NotEmpty(_)
        | BackupError::NoData(_)
        | BackupError::OtherRegion { .. }
        | BackupError::Foreign { .. }
        | BackupError::HoldsData { .. }
        | BackupError::Secret(_) => exit::USAGE,
        BackupError::Io { .. } | BackupError::Moving => exit::INTERNAL,
        _ => exit::DAMAGED,
    }
}

fn save(args: &SaveArgs, config: &Config) -> Result<String, BackupError> {
    let bar = progress_bar("saving");
    let verified = !args.looks.no_verify;
    let about = backup::save(config, &args.folder, verified, wall_ms(), &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let verdict = if verified {
        "Verified: read back, and recovered in memory."
    } else {
        "NOT verified (--no-verify): it was neither read back nor recovered; onced backup inspect does that."
    };
    Ok(answer(&args.looks, &about, &[&format!("Saved to {}.", args.folder.display()), verdict]))
}

fn inspect(args: &InspectArgs) -> Result<String, BackupError> {
    let bar = progress_bar("reading the backup");
    let verified = !args.looks.no_verify;
    let about = backup::inspect(&args.folder, verified, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let verdict = if verified {
        "Good: every file is as it was saved, and a daemon could start from them."
    } else {
        "Every file is as it was saved. NOT recovered in memory (--no-verify): the counts are those noted when it was saved."
    };
    Ok(answer(&args.looks, &about, &[verdict]))
}

fn restore(args: &RestoreArgs, config: &Config) -> Result<String, BackupError> {
    let bar = progress_bar("restoring");
    let verified = !args.looks.no_verify;
    let restored = backup::restore(config, &args.folder, verified, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let done = format!("Restored to {}.", restored.folder.display());
    let verdict = if verified {
        ""
    } else {
        "Its files' checksums are right; it was NOT recovered in memory first (--no-verify)."
    };
    Ok(answer(&args.looks, &restored.about, &[&done, verdict, next(config)]))
}

fn answer(looks: &Looks, about: &About, words: &[&str]) -> String {
    if looks.json {
        // Numbers, strings and maps with text for keys always serialise.
        return serde_json::to_string(about).unwrap_or_default() + "\n";
    }
    let mut lines: Vec<String> =
        words.iter().filter(|word| !word.is_empty()).map(|&word| word.to_owned()).collect();
    let mut say = |what: &str, value: String| lines.push(format!("  {what:<12} {value}"));
    say("of", about.owner());
    say("saved", format!("{} by onced {}", time::rfc3339(about.created_at as i64), about.onced));
    say("life", format!("incarnation {}, epoch {}", about.incarnation, about.epoch));
    say("records", format!("up to {}, of which runs cover {}", about.last_lsn, about.covers_lsn));
    say("files", format!("{}, {}", about.files.len(), units::bytes(about.bytes())));
    match &about.contents {
        Some(contents) => {
            say("keys", contents.keys.to_string());
            for (namespace, keys) in &contents.namespaces {
                say("", format!("{keys} in {:?}", show::printable(namespace.as_bytes())));
            }
            say("conflicts", contents.conflicts.to_string());
        }
        None => say("keys", "not counted".to_owned()),
    }
    lines.join("\n") + "\n"
}
