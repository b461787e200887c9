//! The command line of `onced`: the client commands, and the table every subcommand is listed in.
//!
//! One file a command. A client command implements [`client::ClientCommand`] and is run by [`client::run`]; any other
//! one (`serve`, `demo`, …) is a module with a `clap::Args` struct and `pub fn run(args) -> anyhow::Result<ExitCode>`.
//! To add one: its `pub mod` line, and its line in `commands!` below.
//!
//! Exit codes are an interface and live in [`exit`]. Nothing here decides what a key's state means.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

pub mod advance;
pub mod backup;
pub mod check_config;
pub mod claim;
pub mod client;
pub mod compensate;
pub mod complete;
pub mod config_init;
pub mod conflicts;
pub mod demo;
pub mod digest;
pub mod exit;
mod follow;
pub mod forget;
pub mod get;
pub mod inspect;
pub mod key;
pub mod limits;
pub mod log_dump;
pub mod output;
mod paging;
pub mod peer;
pub mod peers;
pub mod rejoin;
pub mod release;
pub mod reload;
pub mod renew;
pub mod repair;
pub mod resolve;
pub mod scan;
pub mod serve;
pub mod show;
pub mod status;
pub mod time;
pub mod tls;
pub mod token;

const EXAMPLES: &str = "  \
  onced claim pay:1 --payload-file order.json --claimant worker-7
  onced complete pay:1 TOKEN '{\"charge\":\"ch_1\"}'
  onced get pay:1 --json
  TOKEN=$(onced claim pay:2 --token-only) && run-it && onced complete pay:2 \"$TOKEN\" done";

/// Has this operation been claimed or done, anywhere, and with what result?
#[derive(Debug, Parser)]
#[command(name = "onced", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Writes the enum of subcommands and its dispatch from one table: name(arguments) => function that runs it.
macro_rules! commands {
    ($($(#[$meta:meta])* $name:ident($args:ty) => $run:path,)*) => {
        #[derive(Debug, Subcommand)]
        enum Command { $($(#[$meta])* $name($args),)* }

        impl Command {
            fn run(self) -> anyhow::Result<ExitCode> {
                match self { $(Self::$name(args) => $run(args),)* }
            }
        }
    };
}

commands! {
    /// Claim an operation: may I run it?
    Claim(claim::ClaimArgs) => client::run,
    /// Claim a state machine's next version
    Advance(advance::AdvanceArgs) => client::run,
    /// Record the outcome of a claimed operation
    Complete(complete::CompleteArgs) => client::run,
    /// Extend the lease of a claim
    Renew(renew::RenewArgs) => client::run,
    /// Give a claim back: the operation failed before any effect
    Release(release::ReleaseArgs) => client::run,
    /// Show what is known of a key
    Get(get::GetArgs) => client::run,
    /// Show every attempt and outcome of a key
    Inspect(inspect::InspectArgs) => client::run,
    /// List keys
    Scan(scan::ScanArgs) => client::run,
    /// Erase a key in every region (admin)
    Forget(forget::ForgetArgs) => client::run,
    /// Say what became of an operation whose holder fell silent (admin)
    Resolve(resolve::ResolveArgs) => client::run,
    /// List operations that ran twice, or may be running twice now
    Conflicts(conflicts::ConflictsArgs) => conflicts::run,
    /// Mark a double execution as dealt with, in every region
    Compensate(compensate::CompensateArgs) => client::run,
    /// Show this region's state
    Status(status::StatusArgs) => client::run,
    /// Show the links to other regions
    Peers(peers::PeersArgs) => client::run,
    /// Check the sums by which regions find what differs
    Digest(digest::DigestArgs) => client::run,
    /// Cut or heal the link to a region (admin)
    Peer(peer::PeerArgs) => client::run,
    /// Have the daemon read its configuration again (admin)
    Reload(reload::ReloadArgs) => client::run,
    /// Run the daemon of one region
    Serve(serve::ServeArgs) => serve::run,
    /// See it work: three regions on this machine, a crash, a partition, a checked story
    Demo(demo::DemoArgs) => demo::run,
    /// Save, look at and restore this region's data
    Backup(backup::BackupArgs) => backup::run,
    /// Cut a damaged log: give up a record and all after it
    Repair(repair::RepairArgs) => repair::run,
    /// Keep everything that still reads, and have the peers bring the rest
    Rejoin(rejoin::RejoinArgs) => rejoin::run,
    /// Have the daemon make a key that nobody else has
    Token(token::TokenArgs) => client::run,
    /// Derive a key from what the operation is about
    Key(key::KeyArgs) => key::run,
    /// Look into the log's files
    Log(log_dump::LogArgs) => log_dump::run,
    /// Check a configuration file and what it names
    CheckConfig(check_config::CheckConfigArgs) => check_config::run,
    /// Write a configuration file to start from
    Config(config_init::ConfigArgs) => config_init::run,
    /// Make the private CA and the regions' certificates
    Tls(tls::TlsArgs) => tls::run,
}

/// The whole program: parses the arguments, runs the command, reports an error and chooses the exit code.
pub fn main() -> ExitCode {
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too and go to stdout.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    cli.command.run().unwrap_or_else(|error| {
        // Nobody can be told that stderr is closed.
        let _ = writeln!(std::io::stderr(), "onced: {error:#}");
        ExitCode::from(exit::of_error(&error))
    })
}

/// The clap command with the table of exit codes at the end of its help; also for completions and manual pages.
pub fn command() -> clap::Command {
    Cli::command().after_help(exit::help_all(EXAMPLES))
}

#[cfg(test)]
mod tests;
