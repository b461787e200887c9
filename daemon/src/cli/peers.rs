//! `onced peers`: the links to the other regions and how far each has got.

use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::exit;
use super::show::{Page, printable};
use crate::resp::{Client, Value};

const EXAMPLES: &str = "  onced peers\n  onced peers --json | jq '.peers[] | {region, state, lag_records}'";

/// Arguments of `onced peers`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &super::inspect::CODES))]
pub struct PeersArgs {
    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

impl ClientCommand for PeersArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        call(client, &[b"PEERS".to_vec()])
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        let peers = reply.field("peers").and_then(Value::as_array).unwrap_or_default();
        if peers.is_empty() {
            page.line("no peers: this region runs alone");
        }
        let columns =
            ["region", "state", "address", "rtt_ms", "offset_ms", "lag_records", "lag_ms", "bytes_out"];
        let more = ["bytes_in", "last_heard_ms", "compared_ago_ms", "repaired"];
        page.table(peers, &[&columns[..], &more[..]].concat());
        for peer in peers {
            let text = |name| peer.field(name).and_then(Value::as_bytes).map(printable);
            if let (Some(region), Some(true)) =
                (text("region"), peer.field("behind").and_then(Value::as_bool))
            {
                page.line(&format!(
                    "  {region}: its log starts behind where we stand; asking it for what we lack"
                ));
            }
            if let (Some(region), Some(error)) = (text("region"), text("last_error")) {
                page.line(&format!("  {region}: {error}"));
            }
        }
    }
}
