//! `onced scan`: lists keys (SEMANTICS S4.5).

use super::client::{ClientCommand, ClientOptions, Failure};
use super::exit;
use super::paging::{PageOptions, cursor_of, read_all};
use super::show::{Page, shell_word};
use crate::resp::{Client, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

const EXAMPLES: &str = "  onced scan --prefix pay: --limit 20\n  onced scan --json | jq -r '.keys[].key'";

/// Arguments of `onced scan`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &super::inspect::CODES))]
pub struct ScanArgs {
    /// Only keys that begin with this.
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<OsString>,

    /// Where to begin and when to stop.
    #[command(flatten)]
    pub page: PageOptions,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

impl ClientCommand for ScanArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        read_all(client, &self.page, "keys", |cursor, count| {
            let mut words = vec![b"SCAN".to_vec(), cursor.into()];
            if let Some(prefix) = &self.prefix {
                words.extend([b"PREFIX".to_vec(), prefix.as_bytes().to_vec()]);
            }
            words.extend([b"COUNT".to_vec(), count.to_string().into_bytes()]);
            words
        })
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        let keys = reply.field("keys").and_then(Value::as_array).unwrap_or_default();
        match keys.len() {
            0 => page.line("no keys"),
            1 => page.line("1 key"),
            n => page.line(&format!("{n} keys")),
        }
        page.table(keys, &["key", "state", "region", "expires_at"]);
        let cursor = cursor_of(reply);
        if cursor != "0" {
            page.line(&format!("  There are more: go on with --cursor {}", shell_word(cursor.as_bytes())));
        }
    }
}
