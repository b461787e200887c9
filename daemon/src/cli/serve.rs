//! `onced serve`: runs the daemon in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use super::exit;
use crate::config::Config;
use crate::lifecycle;

const EXAMPLES: &str = "Examples:
  onced config init --output onced.toml && onced serve --config onced.toml
  onced serve --config onced.toml --alone      (the first region of a new cluster, before its peers)
  ONCED_LOG=debug onced serve --config /etc/onced/onced.toml --log-format json

Signals: SIGTERM and SIGINT drain the connections, sync the log and end with code 0. SIGHUP reads the configuration
again, as onced reload does.";

/// Arguments of `onced serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// The configuration file; see `onced config init`
    #[arg(long, short, env = "ONCED_CONFIG", default_value = "/etc/onced/onced.toml")]
    config: PathBuf,
    /// How the daemon's own log lines look, on stderr
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Grant claims without having met a peer, though this region's data is new, restored or in part lost.
    ///
    /// For the first region of a new cluster, and when no peer will ever come back. What the peers hold of
    /// this region's former life may then run twice.
    #[arg(long)]
    alone: bool,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Runs until a signal ends it.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand is run with its own arguments")]
pub fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    init_log(args.log_format);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    lifecycle::serve(&args.config, config, args.alone)?;
    Ok(ExitCode::SUCCESS)
}

fn init_log(format: LogFormat) {
    // Levels of our own and quinn's: ONCED_LOG takes tracing's filter language.
    let filter = EnvFilter::try_from_env("ONCED_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().init(),
    }
}
