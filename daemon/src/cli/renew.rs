//! `onced renew`: extends the lease of a claim (SEMANTICS S4.3).

use super::claim::Level;
use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::complete::show_advice;
use super::exit;
use super::show::Page;
use super::time::parse_duration_ms;
use crate::resp::{Client, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

const EXAMPLES: &str =
    "  onced renew pay:1 \"$TOKEN\" --lease 60s || kill %1   # stop the work when it is not ours";

/// Arguments of `onced renew`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &super::complete::CODES))]
pub struct RenewArgs {
    /// The operation's key.
    pub key: OsString,

    /// The token of the claim.
    pub token: OsString,

    /// How long from now on [default: the namespace's].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_ms)]
    pub lease: Option<u64>,

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

impl ClientCommand for RenewArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        let mut words = vec![b"RENEW".to_vec(), self.key.as_bytes().to_vec(), self.token.as_bytes().to_vec()];
        if let Some(ms) = self.lease {
            words.extend([b"LEASE".to_vec(), ms.to_string().into_bytes()]);
        }
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
