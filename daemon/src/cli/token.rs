//! `onced token`: has the daemon make a key that nobody else has (SEMANTICS S4.9).

use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::exit;
use super::show::Page;
use crate::resp::{Client, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

const EXAMPLES: &str = "  \
  onced token pay
  KEY=$(onced token pay --key-only)   # keep it with the order: a retry claims the same key";

/// Arguments of `onced token`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &super::inspect::CODES))]
pub struct TokenArgs {
    /// The key's namespace; '' for that of keys without a colon.
    pub namespace: OsString,

    /// Print the key and nothing else.
    #[arg(long, conflicts_with = "json")]
    pub key_only: bool,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

impl ClientCommand for TokenArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        call(client, &[b"TOKEN".to_vec(), self.namespace.as_bytes().to_vec()])
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        page.headline(reply, self.namespace.as_bytes());
        page.fields(reply, &[]);
        page.advice(match reply.status().unwrap_or_default() {
            "ISSUED" => "Keep it where the operation is kept: every retry claims this key.",
            "UNAVAILABLE" => "No key was made: retry later.",
            _ => "",
        });
    }

    fn bare(&self, reply: &Value) -> Option<Vec<u8>> {
        let key = self.key_only.then(|| reply.field("key").and_then(Value::as_bytes).unwrap_or_default());
        key.map(|key| if key.is_empty() { Vec::new() } else { [key, b"\n"].concat() })
    }
}
