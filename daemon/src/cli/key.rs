//! `onced key derive`: a key from what an operation is about (`crate::derive`); no daemon is asked.

use super::client::read_bounded;
use super::exit;
use super::time::parse_duration_ms;
use crate::derive::{About, Window, derive};
use anyhow::Context as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

const EXAMPLES: &str = "  \
  onced key derive --namespace pay --operation charge --principal cus_7 --payload-file order.json
  KEY=$(onced key derive --namespace mail --operation welcome --principal cus_7)
  onced claim \"$KEY\"                          # REPLAY or IN_PROGRESS if the same was claimed before
  onced key derive --operation poll --window 5m  # another key every five minutes
  onced key derive --operation charge --payload-file order.json --canonical   # what is hashed

THE KEY
  namespace, ':', and in hex the SHA-256 of this JSON as RFC 8785 writes it; members that were not given are left out:
    {\"operation\":\"charge\",\"payload\":{...},\"principal\":\"cus_7\",\"window\":{\"from\":1800000000,\"seconds\":300}}
  Any language with an RFC 8785 library derives the same key. A window begins at a multiple of its length since 1970:
  two requests on both sides of its end are two operations.";

/// Arguments of `onced key`.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What `onced key` can do.
#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Derive a key from what the operation is about: the same operation has the same key, whoever tells it
    #[command(after_help = exit::help(EXAMPLES, &[exit::OK, exit::USAGE]))]
    Derive(DeriveArgs),
}

/// Arguments of `onced key derive`.
#[derive(Debug, clap::Args)]
pub struct DeriveArgs {
    /// The key's namespace; without it, that of keys without a colon.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub namespace: String,

    /// What is done, such as charge.
    #[arg(long, value_name = "NAME")]
    pub operation: String,

    /// On whose behalf: without it, equal requests of two customers are one operation.
    #[arg(long, value_name = "ID")]
    pub principal: Option<String>,

    /// File with the request as JSON; '-' for stdin.
    #[arg(long, value_name = "FILE")]
    pub payload_file: Option<PathBuf>,

    /// The same request is a new operation in each such window: whole seconds.
    #[arg(long, value_name = "DURATION", value_parser = parse_window)]
    pub window: Option<u64>,

    /// A moment in the window, in Unix seconds [default: now].
    #[arg(long, value_name = "SECONDS", requires = "window")]
    pub at: Option<u64>,

    /// Print the canonical form instead of the key.
    #[arg(long)]
    pub canonical: bool,
}

/// Seconds; clap's value parser.
fn parse_window(text: &str) -> Result<u64, String> {
    let ms = parse_duration_ms(text)?;
    if ms == 0 || ms % 1_000 != 0 {
        return Err("a window has whole seconds, at least one".to_owned());
    }
    Ok(ms / 1_000)
}

/// Prints the key.
///
/// # Errors
/// Standard output is closed.
pub fn run(args: KeyArgs) -> anyhow::Result<ExitCode> {
    let KeyCommand::Derive(args) = args.command;
    let mut stderr = std::io::stderr().lock();
    let payload = match args.payload_file.as_deref().map(read_bounded).transpose() {
        Ok(payload) => payload,
        Err(failure) => {
            writeln!(stderr, "onced: {failure}")?;
            return Ok(ExitCode::from(failure.exit_code()));
        }
    };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let window = args.window.map(|seconds| Window { seconds, at: args.at.unwrap_or_else(now) });
    let about = About {
        namespace: &args.namespace,
        operation: &args.operation,
        principal: args.principal.as_deref(),
        payload: payload.as_deref(),
        window,
    };
    match derive(&about) {
        Ok(derived) => {
            let text = if args.canonical { derived.canonical } else { derived.key };
            writeln!(std::io::stdout(), "{text}").context("standard output")?;
            Ok(ExitCode::from(exit::OK))
        }
        Err(error) => {
            writeln!(stderr, "onced: {error}")?;
            Ok(ExitCode::from(exit::USAGE))
        }
    }
}
