//! `onced reload`: has the daemon read its configuration again, and says what that changed; admin only.

use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::exit;
use super::show::{Page, printable};
use crate::resp::{Client, Value};

const EXAMPLES: &str = "  onced check-config /etc/onced/onced.toml && onced reload
  onced reload --json | jq -r '.changes[], .problems[]'";

/// Exit codes that matter to it.
const CODES: [u8; 4] = [exit::OK, exit::UNREACHABLE, exit::USAGE, exit::PERMISSION];

/// Arguments of `onced reload`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &CODES))]
pub struct ReloadArgs {
    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

impl ClientCommand for ReloadArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        call(client, &[b"RELOAD".to_vec()])
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        let lines = |name| reply.field(name).and_then(Value::as_array).unwrap_or_default();
        let (changes, problems) = (lines("changes"), lines("problems"));
        page.line(match (reply.status(), changes.len()) {
            (Some("OK"), 0) => "RELOADED  nothing has changed",
            (Some("OK"), _) => "RELOADED",
            _ => "REFUSED  nothing was changed",
        });
        for line in changes.iter().chain(problems).filter_map(Value::as_bytes) {
            page.line(&format!("  {}", printable(line)));
        }
    }
}
