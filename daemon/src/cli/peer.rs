//! `onced peer cut|heal REGION`: really stops the traffic with a region, for drills and the demo; admin only.

use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::exit;
use super::show::Page;
use crate::resp::{Client, Value};
use clap::ValueEnum;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

const EXAMPLES: &str = "  onced peer cut us && sleep 60 && onced peer heal us";

/// Arguments of `onced peer`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &super::inspect::CODES))]
pub struct PeerArgs {
    /// What to do.
    #[arg(value_enum)]
    pub action: Action,

    /// The other region's name.
    pub region: OsString,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

/// What can be done to a link.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Action {
    /// Stop all traffic with the region until healed.
    Cut,
    /// Let traffic pass again.
    Heal,
}

impl ClientCommand for PeerArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        let action: &[u8] = match self.action {
            Action::Cut => b"CUT",
            Action::Heal => b"HEAL",
        };
        call(client, &[b"PEER".to_vec(), action.to_vec(), self.region.as_bytes().to_vec()])
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        page.headline(reply, self.region.as_bytes());
        page.fields(reply, &[]);
        match self.action {
            Action::Cut => page.line("  The link is cut; `onced peer heal` ends it."),
            Action::Heal => page.line("  The link may connect again; `onced peers` shows when it has."),
        }
    }
}
