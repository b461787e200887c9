//! `onced compensate`: marks a loser as dealt with, in every region (SEMANTICS S4.8).

use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::exit;
use super::show::Page;
use crate::resp::{Client, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

const EXAMPLES: &str = "  onced conflicts                     # which claim lost, and where\n  \
                        onced compensate pay:1 0198aa3c5e0a0000-2-55302112";

const CODES: [u8; 7] = [
    exit::OK,
    exit::FREE,
    exit::UNAVAILABLE,
    exit::UNREACHABLE,
    exit::USAGE,
    exit::INTERNAL,
    exit::PERMISSION,
];

/// Arguments of `onced compensate`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &CODES))]
pub struct CompensateArgs {
    /// The operation's key.
    pub key: OsString,

    /// The claim that lost, as `onced conflicts` shows it.
    pub claim: String,

    /// Where it completed; needed only where the claim was completed in several regions.
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,

    /// Answer only once it is on disk, whatever the namespace's policy.
    #[arg(long)]
    pub durable: bool,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

impl ClientCommand for CompensateArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        let key = self.key.as_bytes().to_vec();
        let mut words = vec![b"COMPENSATE".to_vec(), key, self.claim.clone().into_bytes()];
        if let Some(region) = &self.region {
            words.extend([b"REGION".to_vec(), region.clone().into_bytes()]);
        }
        if self.durable {
            words.push(b"DURABLE".to_vec());
        }
        call(client, &words)
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        page.headline(reply, self.key.as_bytes());
        page.fields(reply, &["key", "advice"]);
        page.advice(reply.field("advice").and_then(Value::as_str).unwrap_or_default());
    }
}
