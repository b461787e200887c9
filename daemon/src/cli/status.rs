//! `onced status`: this region's state, for people and for health checks.

use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::exit;
use super::show::{Page, field_text};
use crate::resp::{Client, Value};

const EXAMPLES: &str = "  onced status\n  onced status --ready   # exit code 20 until claims are answered";

/// Arguments of `onced status`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &super::inspect::CODES))]
pub struct StatusArgs {
    /// End with exit code 20 if the region is not ready for claims.
    #[arg(long)]
    pub ready: bool,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

impl ClientCommand for StatusArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        call(client, &[b"STATUS".to_vec()])
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        let text = |name: &str| reply.field(name).map_or("?".to_owned(), |value| field_text(name, value, 0));
        let state =
            if is_ready(reply) { "READY".to_owned() } else { format!("NOT READY ({})", text("reason")) };
        page.line(&format!("{state}  region {}, up {}", text("region"), text("uptime_ms")));
        page.fields(reply, &["region", "ready", "reason", "uptime_ms"]);
    }

    fn exit_code(&self, reply: &Value) -> u8 {
        if self.ready && reply.status() == Some("OK") && !is_ready(reply) {
            return exit::UNAVAILABLE;
        }
        exit::of_status(reply.status().unwrap_or_default())
    }
}

fn is_ready(reply: &Value) -> bool {
    reply.field("ready").and_then(Value::as_bool).unwrap_or(false)
}
