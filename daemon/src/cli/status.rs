//! `onced status`: this region's state, for people and for health checks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::client::{ClientCommand, ClientOptions, Failure, call};
use super::exit;
use super::show::{Page, field_text};
use crate::peer::certificates::Certificate;
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
        for advice in advices(reply).into_iter().chain(expiries(reply, SystemTime::now())) {
            page.line(&advice);
        }
        let mut skip = vec!["region", "ready", "reason", "uptime_ms"];
        let is_empty =
            |name: &&str| reply.field(name).and_then(Value::as_array).is_some_and(<[Value]>::is_empty);
        skip.extend(["namespaces", "certificates"].iter().filter(|name| is_empty(name)));
        page.fields(reply, &skip);
    }

    fn exit_code(&self, reply: &Value) -> u8 {
        if self.ready && reply.status() == Some("OK") && !is_ready(reply) {
            return exit::UNAVAILABLE;
        }
        exit::of_status(reply.status().unwrap_or_default())
    }
}

/// What is near a bound, or at it, and what to do.
fn advices(reply: &Value) -> Vec<String> {
    let pressure = |of: &Value, name| of.field(name).and_then(Value::as_str).map(str::to_owned);
    let mut advices = Vec::new();
    if pressure(reply, "majority").as_deref() == Some("comparing") {
        advices.push(
            "NOT COUNTED IN MAJORITIES: claims at quorum are refused here until everything is compared with enough of the other \
             regions; see onced peers"
                .to_owned(),
        );
    }
    if pressure(reply, "home").as_deref() == Some("comparing") {
        advices.push(
            "DECIDES NO KEY AS ITS HOME: claims at home are refused, or fall back, for the keys of this region until everything \
             is compared with all others; see onced peers"
                .to_owned(),
        );
    }
    let memory = match pressure(reply, "memory_pressure").as_deref() {
        Some("near") => "MEMORY is used to 80 %: beyond 100 % new claims are refused",
        Some("full") => "MEMORY IS FULL: new claims without a reservation are refused until keys expire",
        _ => "",
    };
    if !memory.is_empty() {
        advices.push(format!("{memory}; raise [memory] max_memory or shorten retention"));
    }
    for row in reply.field("namespaces").and_then(Value::as_array).unwrap_or_default() {
        let name = row.field("namespace").map_or(String::new(), |name| field_text("namespace", name, 0));
        match pressure(row, "pressure").as_deref() {
            Some("near") => advices.push(format!("NAMESPACE {name} has used 80 % of its quota")),
            Some("full") => advices.push(format!(
                "NAMESPACE {name} HAS REACHED ITS QUOTA: its new claims are refused until its keys expire; raise its \
                 max_keys or max_bytes"
            )),
            _ => {}
        }
    }
    advices
}

/// Certificates near their end, as the daemon's log says once a day.
fn expiries(reply: &Value, now: SystemTime) -> Vec<String> {
    let text = |row: &Value, name| row.field(name).map_or(String::new(), |value| field_text(name, value, 0));
    let mut advices = Vec::new();
    for row in reply.field("certificates").and_then(Value::as_array).unwrap_or_default() {
        let Some(end_ms) = row.field("expires_at").and_then(Value::as_int) else { continue };
        let certificate = Certificate {
            role: text(row, "certificate"),
            subject: text(row, "subject"),
            fingerprint: text(row, "fingerprint"),
            not_after: UNIX_EPOCH + Duration::from_millis(u64::try_from(end_ms).unwrap_or_default()),
        };
        advices.extend(certificate.advice(now).map(|advice| format!("CERTIFICATE: {advice}")));
    }
    advices
}

fn is_ready(reply: &Value) -> bool {
    reply.field("ready").and_then(Value::as_bool).unwrap_or(false)
}
