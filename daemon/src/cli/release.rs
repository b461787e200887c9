//! `onced release`: the operation failed before any effect; others may claim it at once (SEMANTICS S4.4).

use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::complete::show_advice;
use super::exit;
use super::show::Page;
use crate::resp::{Client, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

const EXAMPLES: &str = "  onced release pay:1 \"$TOKEN\"";

/// Arguments of `onced release`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &super::complete::CODES))]
pub struct ReleaseArgs {
    /// The operation's key.
    pub key: OsString,

    /// The token of the claim.
    pub token: OsString,

    /// Answer only when synced to disk.
    #[arg(long)]
    pub durable: bool,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

impl ClientCommand for ReleaseArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        let mut words =
            vec![b"RELEASE".to_vec(), self.key.as_bytes().to_vec(), self.token.as_bytes().to_vec()];
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
