//! `onced advance`: claims the next version of a state machine, once the one before it is done.

use super::claim::{self, ClaimArgs};
use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::exit;
use super::show::Page;
use crate::resp::{Client, Value};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

const EXAMPLES: &str = "  \
  onced advance order:7 0 1 --payload-file new.json   # GRANTED: create it, then complete order:7@1
  onced complete order:7@1 TOKEN '{\"state\":\"created\"}'
  onced advance order:7 1 2 --payload-file paid.json  # MISMATCH: another transition was made from 1
  onced get order:7@1                                 # what the transition did

A VERSION'S KEY
  is KEY@VERSION: complete, renew, release, get and inspect take that.";

/// Arguments of `onced advance`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &CODES))]
pub struct AdvanceArgs {
    /// The claim; its key is the state machine's.
    #[command(flatten)]
    pub claim: ClaimArgs,

    /// The version that is done; 0 for the beginning.
    pub from: u64,

    /// The version to claim: the next one.
    pub to: u64,
}

const CODES: [u8; 12] = [
    exit::OK,
    exit::IN_PROGRESS,
    exit::REPLAY,
    exit::MISMATCH,
    exit::UNKNOWN,
    exit::EXPIRED,
    exit::BEHIND,
    exit::UNAVAILABLE,
    exit::UNREACHABLE,
    exit::USAGE,
    exit::INTERNAL,
    exit::PERMISSION,
];

impl ClientCommand for AdvanceArgs {
    fn options(&self) -> &ClientOptions {
        self.claim.options()
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        let number = |version: u64| version.to_string().into_bytes();
        let (from, to) = (number(self.from), number(self.to));
        let key = self.claim.key.as_bytes().to_vec();
        let words = vec![b"ADVANCE".to_vec(), key, b"FROM".to_vec(), from, b"TO".to_vec(), to];
        call(client, &self.claim.words(words)?)
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        claim::show(reply, &crdt::store::version_key(self.claim.key.as_bytes(), self.to), page);
    }

    fn bare(&self, reply: &Value) -> Option<Vec<u8>> {
        self.claim.bare(reply)
    }

    fn wait(&self) -> Duration {
        self.claim.wait()
    }
}
