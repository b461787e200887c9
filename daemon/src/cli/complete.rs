//! `onced complete`: the operation was done; record its outcome (SEMANTICS S4.2).

use super::claim::Level;
use super::client::{ClientCommand, ClientOptions, Failure, call, read_bounded};
use super::exit;
use super::show::Page;
use crate::resp::{Client, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const EXAMPLES: &str = "  \
  onced complete pay:1 \"$TOKEN\" '{\"charge\":\"ch_1\"}'
  charge order.json | onced complete pay:1 \"$TOKEN\" --outcome-file -";

/// What COMPLETE, RENEW and RELEASE can end with besides success.
pub(super) const CODES: [u8; 9] = [
    exit::OK,
    exit::SUPERSEDED,
    exit::CONTESTED,
    exit::STALE,
    exit::UNAVAILABLE,
    exit::UNREACHABLE,
    exit::USAGE,
    exit::INTERNAL,
    exit::PERMISSION,
];

/// Arguments of `onced complete`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &CODES))]
pub struct CompleteArgs {
    /// The operation's key.
    pub key: OsString,

    /// The token of the claim.
    pub token: OsString,

    /// The outcome, replayed to every later duplicate; may be ''.
    #[arg(required_unless_present = "outcome_file", conflicts_with = "outcome_file")]
    pub outcome: Option<OsString>,

    /// File that holds the outcome; '-' for stdin.
    #[arg(long, value_name = "FILE")]
    pub outcome_file: Option<PathBuf>,

    /// Who must hold it [default: the namespace's].
    #[arg(long, value_enum)]
    pub level: Option<Level>,

    /// Answer only when synced to disk.
    #[arg(long)]
    pub durable: bool,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

impl ClientCommand for CompleteArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        let outcome = match (&self.outcome, &self.outcome_file) {
            (Some(outcome), _) => outcome.as_bytes().to_vec(),
            (None, Some(path)) => read_bounded(path)?,
            // clap requires one of them.
            (None, None) => Vec::new(),
        };
        let mut words =
            vec![b"COMPLETE".to_vec(), self.key.as_bytes().to_vec(), self.token.as_bytes().to_vec(), outcome];
        if let Some(level) = self.level {
            words.extend([b"LEVEL".to_vec(), level.word().into()]);
        }
        if self.durable {
            words.push(b"DURABLE".to_vec());
        }
        call(client, &words)
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        page.headline(reply, self.key.as_bytes());
        page.fields(reply, &[]);
        show_advice(reply, page);
    }
}

/// What a holder should do after COMPLETE, RENEW or RELEASE was not simply accepted.
pub(super) fn show_advice(reply: &Value, page: &mut Page) {
    page.advice(match reply.status().unwrap_or_default() {
        "CONTESTED" => "Recorded; another claim is live, so it may run twice: watch `onced conflicts`.",
        "SUPERSEDED" => {
            "Another claim won: stop; if it was done here too, compensate and use the winner's outcome."
        }
        "STALE" => "The token no longer counts for this key; `onced inspect` shows what does.",
        "UNAVAILABLE" if reply.field("reason").and_then(Value::as_str) == Some("other_region") => {
            "Only the region that granted a claim renews or releases it: ask there."
        }
        "UNAVAILABLE" => "Repeat the same command later; repeating is safe.",
        _ => "",
    });
}
