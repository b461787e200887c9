//! `onced inspect`: every attempt and outcome of a key, won or lost (SEMANTICS S4.5).

use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::exit;
use super::show::Page;
use crate::resp::{Client, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

const EXAMPLES: &str = "  onced inspect pay:1\n  onced inspect pay:1 --json";

/// What a command that only reads, or acts for an operator, can end with.
pub(super) const CODES: [u8; 6] =
    [exit::OK, exit::UNAVAILABLE, exit::UNREACHABLE, exit::USAGE, exit::INTERNAL, exit::PERMISSION];

/// Arguments of `onced inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &CODES))]
pub struct InspectArgs {
    /// The operation's key.
    pub key: OsString,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

impl ClientCommand for InspectArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        call(client, &[b"INSPECT".to_vec(), self.key.as_bytes().to_vec()])
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        page.headline(reply, self.key.as_bytes());
        page.fields(reply, &["key"]);
    }
}
