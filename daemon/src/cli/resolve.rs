//! `onced resolve`: says what became of an operation whose holder fell silent (SEMANTICS S4.7); admin only.

use super::client::{ClientCommand, ClientOptions, Failure, call, read_bounded};
use super::exit;
use super::show::Page;
use crate::resp::{Client, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const EXAMPLES: &str = "  \
  onced resolve pay:1 complete '{\"charge\":\"ch_1\"}'   # it was done: duplicates are answered this
  onced resolve pay:1 release                        # it had no effect: the next claim is granted
  onced inspect pay:1                                # who held it, since when, and what was noted";

const CODES: [u8; 11] = [
    exit::OK,
    exit::IN_PROGRESS,
    exit::REPLAY,
    exit::SUPERSEDED,
    exit::CONTESTED,
    exit::FREE,
    exit::UNAVAILABLE,
    exit::UNREACHABLE,
    exit::USAGE,
    exit::INTERNAL,
    exit::PERMISSION,
];

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Became {
    /// It was done, with this outcome.
    Complete,
    /// It had no effect, and may run.
    Release,
}

/// Arguments of `onced resolve`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &CODES))]
pub struct ResolveArgs {
    /// The operation's key.
    pub key: OsString,

    /// What became of it.
    #[arg(value_enum)]
    pub became: Became,

    /// With complete: the outcome, replayed to every later duplicate; may be ''.
    #[arg(conflicts_with = "outcome_file")]
    pub outcome: Option<OsString>,

    /// With complete: file that holds the outcome; '-' for stdin.
    #[arg(long, value_name = "FILE")]
    pub outcome_file: Option<PathBuf>,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

impl ClientCommand for ResolveArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        let key = self.key.as_bytes().to_vec();
        let outcome = match (&self.outcome, &self.outcome_file) {
            (Some(outcome), _) => Some(outcome.as_bytes().to_vec()),
            (None, Some(path)) => Some(read_bounded(path)?),
            (None, None) => None,
        };
        match (self.became, outcome) {
            (Became::Complete, Some(outcome)) => {
                call(client, &[b"RESOLVE".to_vec(), key, b"COMPLETE".to_vec(), outcome])
            }
            (Became::Complete, None) => Err(Failure::Usage(
                "complete needs the outcome that duplicates are to be answered; '' for an empty one",
            )),
            (Became::Release, None) => call(client, &[b"RESOLVE".to_vec(), key, b"RELEASE".to_vec()]),
            (Became::Release, Some(_)) => Err(Failure::Usage(
                "release says that nothing was done and takes no outcome; did you mean complete?",
            )),
        }
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        page.headline(reply, self.key.as_bytes());
        page.fields(reply, &[]);
        page.advice(match reply.status().unwrap_or_default() {
            "RELEASED" => {
                "The next claim is granted; a late completion would be kept and listed as a conflict."
            }
            "CONTESTED" => "Recorded; another claim held the key too: watch `onced conflicts`.",
            "IN_PROGRESS" => "Its lease still runs, so its holder may be at work: nothing was changed.",
            "REPLAY" => "It is settled with this outcome already: nothing was changed.",
            "FREE" => "Nobody holds it: nothing was changed.",
            "UNAVAILABLE" => "Repeat the same command later; repeating is safe.",
            _ => "",
        });
    }
}
