//! `onced conflicts`: operations that ran twice, and with `--contested` those that may be doing so now (SEMANTICS S4.8).

use super::client::{self, ClientCommand, ClientOptions, Failure, call};
use super::exit;
use super::follow;
use super::paging::{PageOptions, cursor_of, read_all};
use super::show::{Page, shell_word};
use crate::resp::{Client, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

const EXAMPLES: &str = "  onced conflicts --namespace pay
  onced conflicts --contested --json
  onced conflicts --follow --region eu      # a line each: key, claim, region, time, winner's region

  Undo what lost, wherever it ran; what is not compensated is told again after a restart:
    onced conflicts --follow --namespace pay --region eu |
    while IFS=$'\\t' read -r key claim region _; do
      refund \"$key\" \"$claim\" && onced compensate \"$key\" \"$claim\" --region \"$region\"
    done";

/// Arguments of `onced conflicts`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &super::inspect::CODES))]
pub struct ConflictsArgs {
    /// Only those of this namespace.
    #[arg(long, value_name = "NAMESPACE", conflicts_with = "contested")]
    pub namespace: Option<OsString>,

    /// Keys claimed by two claimants whose leases run now, instead of what has happened.
    #[arg(long)]
    pub contested: bool,

    /// Print those that nobody has compensated, a line each, and every new one as it arrives, until interrupted. Goes on
    /// over restarts of the daemon; then what is not compensated is told again.
    #[arg(long, conflicts_with = "contested")]
    pub follow: bool,

    /// With --follow: only those that completed in this region.
    #[arg(long, value_name = "REGION", requires = "follow")]
    pub region: Option<String>,

    /// Where to begin and when to stop; without effect on --contested and --follow.
    #[command(flatten)]
    pub page: PageOptions,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

/// Runs the command.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: ConflictsArgs) -> anyhow::Result<ExitCode> {
    if args.follow { follow::run(&args) } else { client::run(args) }
}

impl ConflictsArgs {
    /// What the feed is to leave out, as words and their values.
    pub(super) fn filters(&self) -> Vec<(&'static str, Vec<u8>)> {
        let namespace = self.namespace.iter().map(|name| ("NAMESPACE", name.as_bytes().to_vec()));
        let region = self.region.iter().map(|name| ("REGION", name.clone().into_bytes()));
        namespace.chain(region).collect()
    }
}

impl ClientCommand for ConflictsArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        if self.contested {
            return call(client, &[b"CONFLICTS".to_vec(), b"CONTESTED".to_vec()]);
        }
        read_all(client, &self.page, "conflicts", |cursor, count| {
            let mut words = vec![b"CONFLICTS".to_vec()];
            if let Some(namespace) = &self.namespace {
                words.extend([b"NAMESPACE".to_vec(), namespace.as_bytes().to_vec()]);
            }
            words.extend([b"CURSOR".to_vec(), cursor.into()]);
            words.extend([b"COUNT".to_vec(), count.to_string().into_bytes()]);
            words
        })
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        let rows = reply.field("conflicts").and_then(Value::as_array).unwrap_or_default();
        if self.contested {
            page.line(&format!("{} contested now", rows.len()));
            page.table(rows, &[]);
            return;
        }
        match rows.len() {
            0 => page.line("no conflicts"),
            1 => page.line("1 conflict"),
            n => page.line(&format!("{n} conflicts")),
        }
        let columns = ["key", "winner_region", "winner_completed_at", "loser_region", "loser_completed_at"];
        page.table(
            rows,
            &[&columns[..], &["loser_claim", "compensated", "loser_majority", "winner_majority", "voided"]]
                .concat(),
        );
        let cursor = cursor_of(reply);
        if cursor != "0" {
            page.line(&format!("  There are more: go on with --cursor {}", shell_word(cursor.as_bytes())));
        }
    }
}
