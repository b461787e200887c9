//! `onced digest verify`: are the sums by which regions find what differs those of what this one holds? (INV-13)

use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::exit;
use super::paging::cursor_of;
use super::show::Page;
use crate::resp::{Client, Value};

const EXAMPLES: &str = "  onced digest verify\n  onced digest verify --json";
/// Calls that one look may take: more than there are shards.
const CALLS_MAX: usize = 1 << 16;

/// Arguments of `onced digest`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &super::inspect::CODES))]
pub struct DigestArgs {
    /// What to do.
    #[arg(value_enum)]
    pub verb: DigestVerb,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

/// What `onced digest` can do.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum DigestVerb {
    /// Compare the sums that are kept with the map, shard by shard, while the region serves.
    Verify,
}

impl ClientCommand for DigestArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        let DigestVerb::Verify = self.verb;
        let (mut cursor, mut shards, mut parts, mut wrong) = ("0".to_owned(), 0, 0, Vec::new());
        for _ in 0..CALLS_MAX {
            let words = ["DIGEST", "VERIFY", "CURSOR", &cursor].map(|word| word.as_bytes().to_vec());
            let page = call(client, &words)?;
            if page.status() != Some("OK") {
                return Ok(page);
            }
            let number = |name| page.field(name).and_then(Value::as_int).unwrap_or(0);
            (shards, parts) = (shards + number("shards"), parts + number("parts"));
            wrong.extend_from_slice(page.field("wrong").and_then(Value::as_array).unwrap_or_default());
            cursor = cursor_of(&page);
            if cursor == "0" {
                break;
            }
        }
        let text = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        Ok(Value::Map(vec![
            (text("status"), text("OK")),
            (text("shards"), Value::Int(shards)),
            (text("parts"), Value::Int(parts)),
            (text("wrong"), Value::Array(wrong)),
        ]))
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        let number = |name| reply.field(name).and_then(Value::as_int).unwrap_or(0);
        let wrong = wrong(reply);
        if wrong.is_empty() {
            page.line(&format!(
                "{} shards with {} parts: every sum is that of what is held",
                number("shards"),
                number("parts")
            ));
            return;
        }
        page.line(&format!("{} OF {} SHARDS KEEP A WRONG SUM", wrong.len(), number("shards")));
        page.table(wrong, &["shard", "bucket", "kept", "found"]);
        page.line("  Restart this region: sums are made anew from its log. Then report it: this is a bug, or broken memory");
    }

    fn exit_code(&self, reply: &Value) -> u8 {
        if reply.status() == Some("OK") && !wrong(reply).is_empty() {
            return exit::DAMAGED;
        }
        exit::of_status(reply.status().unwrap_or_default())
    }
}

fn wrong(reply: &Value) -> &[Value] {
    reply.field("wrong").and_then(Value::as_array).unwrap_or_default()
}
