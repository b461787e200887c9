//! `onced claim`: may I run this operation? (SEMANTICS S4.1)
//!
//! With `--token-only` stdout carries the token of a grant and nothing else, so that `TOKEN=$(onced claim …)` never
//! holds anything but a token.

use super::client::{ClientCommand, ClientOptions, Failure, call, open};
use super::exit;
use super::output::hex;
use super::show::{Page, shell_word};
use super::time::parse_duration_ms;
use crate::resp::{Client, Value};
use clap::ValueEnum;
use std::ffi::OsString;
use std::io::BufReader;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EXAMPLES: &str = "  \
  onced claim pay:1 --payload-file order.json --claimant worker-7 --lease 30s
  onced claim pay:1 --fingerprint 000102030405060708090a0b0c0d0e0f --wait 500ms
  TOKEN=$(onced claim pay:1 --token-only) || echo \"not ours: $?\"";

const CODES: [u8; 11] = [
    exit::OK,
    exit::IN_PROGRESS,
    exit::REPLAY,
    exit::MISMATCH,
    exit::UNKNOWN,
    exit::EXPIRED,
    exit::UNAVAILABLE,
    exit::UNREACHABLE,
    exit::USAGE,
    exit::INTERNAL,
    exit::PERMISSION,
];

/// Arguments of `onced claim`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &CODES))]
pub struct ClaimArgs {
    /// The operation's key; what stands before the first ':' is its namespace.
    pub key: OsString,

    /// Digest of the payload: 32 hex digits.
    #[arg(long, value_name = "HEX", value_parser = parse_fingerprint, conflicts_with = "payload_file")]
    pub fingerprint: Option<String>,

    /// File whose digest (the first 16 bytes of its BLAKE3) is the fingerprint; '-' for stdin.
    #[arg(long, value_name = "FILE")]
    pub payload_file: Option<PathBuf>,

    /// Who asks; the same claimant may repeat a claim whose reply was lost.
    #[arg(long, value_name = "ID")]
    pub claimant: Option<OsString>,

    /// How long to hold it without a renewal [default: the namespace's].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_ms)]
    pub lease: Option<u64>,

    /// How long the key is remembered [default: the namespace's].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_ms)]
    pub retention: Option<u64>,

    /// How long to wait while somebody else holds it.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_ms)]
    pub wait: Option<u64>,

    /// Who must agree [default: the namespace's].
    #[arg(long, value_enum)]
    pub level: Option<Level>,

    /// A note others see while it is held.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<OsString>,

    /// Answer only when synced to disk.
    #[arg(long)]
    pub durable: bool,

    /// Print the token of a grant and nothing else.
    #[arg(long, conflicts_with = "json")]
    pub token_only: bool,

    /// Common options.
    #[command(flatten)]
    pub client: ClientOptions,
}

/// Who must agree to a claim (SEMANTICS S5).
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Level {
    /// This region alone.
    Local,
    /// The key's home region.
    Home,
    /// A majority of the regions.
    Quorum,
}

impl Level {
    /// As the socket takes it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Home => "home",
            Self::Quorum => "quorum",
        }
    }
}

impl ClientCommand for ClaimArgs {
    fn options(&self) -> &ClientOptions {
        &self.client
    }

    fn ask(&self, client: &mut Client) -> Result<Value, Failure> {
        call(client, &self.words(vec![b"CLAIM".to_vec(), self.key.as_bytes().to_vec()])?)
    }

    fn show(&self, reply: &Value, page: &mut Page) {
        let key = self.key.as_bytes();
        show(reply, key, page);
    }

    fn bare(&self, reply: &Value) -> Option<Vec<u8>> {
        if !self.token_only {
            return None;
        }
        let token = (reply.status() == Some("GRANTED")).then(|| reply.field("token")).flatten();
        Some(token.and_then(Value::as_bytes).map(|token| [token, b"\n"].concat()).unwrap_or_default())
    }

    fn wait(&self) -> Duration {
        Duration::from_millis(self.wait.unwrap_or(0))
    }
}

/// The answer to a claim of `key`, and what to do next.
pub(super) fn show(reply: &Value, key: &[u8], page: &mut Page) {
    page.headline(reply, key);
    page.fields(reply, &[]);
    if reply.status() == Some("GRANTED") {
        let token = reply.field("token").and_then(Value::as_str).unwrap_or("TOKEN");
        page.line("  Run the operation, then");
        page.line(&format!("    onced complete {} {token} OUTCOME", shell_word(key)));
    }
    page.advice(match reply.status().unwrap_or_default() {
        "REPLAY" => "It was done before: use this outcome, do not run it again.",
        "IN_PROGRESS" => "Somebody runs it now: ask again later, or with --wait.",
        "MISMATCH" => "This key stands for another payload: use a new key for a new operation.",
        "UNKNOWN" => "Its holder vanished: find out what it did, then say so with `onced resolve`.",
        "BEHIND" => {
            "The version before is not known to be done here: it may be on its way, or past its retention."
        }
        "EXPIRED" => "The key is older than its retention: never run it.",
        "UNAVAILABLE" => "Nothing was granted: retry later.",
        _ => "",
    });
}

impl ClaimArgs {
    /// The command, from its name on: `CLAIM key`, or what `onced advance` begins with.
    pub(super) fn words(&self, mut words: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure> {
        let mut option = |name: &str, value: Vec<u8>| words.extend([name.as_bytes().to_vec(), value]);
        match (&self.fingerprint, &self.payload_file) {
            (Some(hex), _) => option("FP", hex.clone().into_bytes()),
            (None, Some(path)) => option("FP", fingerprint_of(path)?.into_bytes()),
            (None, None) => {}
        }
        let numbers = [("LEASE", self.lease), ("RETENTION", self.retention), ("WAIT", self.wait)];
        for (name, value) in numbers {
            if let Some(ms) = value {
                option(name, ms.to_string().into_bytes());
            }
        }
        if let Some(claimant) = &self.claimant {
            option("CLAIMANT", claimant.as_bytes().to_vec());
        }
        if let Some(level) = self.level {
            option("LEVEL", level.word().into());
        }
        if let Some(note) = &self.note {
            option("NOTE", note.as_bytes().to_vec());
        }
        if self.durable {
            words.push(b"DURABLE".to_vec());
        }
        Ok(words)
    }
}

/// Checks a fingerprint; clap's value parser.
fn parse_fingerprint(text: &str) -> Result<String, String> {
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("must be 32 hex digits; or let --payload-file compute it".to_owned())
}

/// The first 16 bytes of the BLAKE3 of a file of any length, in hex.
fn fingerprint_of(path: &Path) -> Result<String, Failure> {
    let mut hasher = blake3::Hasher::new();
    let read = hasher.update_reader(BufReader::new(open(path)?));
    read.map_err(|source| Failure::Input { path: path.to_owned(), source })?;
    Ok(hex(&hasher.finalize().as_bytes()[..16]))
}
