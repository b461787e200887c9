//! `onced get`: what is known of a key, in a few lines (SEMANTICS S4.5).

use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::exit;
use super::show::Page;
use crate::resp::{Client, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

const EXAMPLES: &str = "  onced get pay:1\n  onced get pay:1 --outcome-only > outcome.json";

const CODES: [u8; 8] = [
    exit::OK,
    exit::IN_PROGRESS,
    exit::FREE,
    exit::UNAVAILABLE,
    exit::UNREACHABLE,
    exit::USAGE,
    exit::INTERNAL,
    exit::PERMISSION,
];

/// Arguments of `onced get`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &CODES))]
pub struct GetArgs {
    /// The operation's key.
    pub key: OsString,

    /// Print the bytes of the outcome and nothing else.
    #[arg(long, conflicts_with = "json")]
    pub outcome_only: bool,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

impl ClientCommand for GetArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        call(client, &[b"GET".to_vec(), self.key.as_bytes().to_vec()])
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        page.headline(reply, self.key.as_bytes());
        page.fields(reply, &[]);
    }

    fn bare(&self, reply: &Value) -> Option<Vec<u8>> {
        if !self.outcome_only {
            return None;
        }
        let outcome = (reply.status() == Some("SETTLED")).then(|| reply.field("outcome")).flatten();
        Some(outcome.and_then(Value::as_bytes).unwrap_or_default().to_vec())
    }
}
