//! What all client commands share: the options, the way to the daemon, and from its reply to text and exit code.
//!
//! A command says how it asks and how its answer looks ([`ClientCommand`]); everything else happens here once, so
//! that errors, `--json` and exit codes are alike in all of them. A reply is shown and never interpreted: what a
//! status means is the daemon's business (SEMANTICS S4). This is the only place of the client side that reads a clock.

use super::exit;
use super::limits::REPLY_WAIT_DEFAULT;
use super::output::{Json, Output, json_line};
use super::show::{Page, printable};
use super::time::parse_duration_ms;
use crate::resp::limits::BULK_BYTES_MAX;
use crate::resp::{Client, ClientError, Value};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use thiserror::Error;

/// Where the daemon listens unless told otherwise.
pub const SOCKET_DEFAULT: &str = "/run/onced/onced.sock";

/// Options of every client command.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientOptions {
    /// The daemon's socket.
    #[arg(long, value_name = "PATH", env = "ONCED_SOCKET", default_value = SOCKET_DEFAULT)]
    pub socket: PathBuf,

    /// Print one JSON object; bytes that are not UTF-8 become {"hex":"…"}.
    #[arg(long)]
    pub json: bool,

    /// How long to wait for the reply, on top of --wait [default: 10s].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_ms)]
    pub timeout: Option<u64>,
}

/// One client command.
pub trait ClientCommand {
    /// Its common options.
    fn options(&self) -> &ClientOptions;

    /// Asks the daemon.
    ///
    /// # Errors
    /// A file cannot be read, or no reply comes. An error *reply* is returned as a value.
    fn ask(&self, client: &mut Client) -> Result<Value, Failure>;

    /// Writes the answer for people.
    fn show(&self, reply: &Value, page: &mut Page);

    /// What to print for a script in place of all else, if such an option was given. Empty for other answers; the
    /// text for people then goes to stderr.
    fn bare(&self, _reply: &Value) -> Option<Vec<u8>> {
        None
    }

    /// How long the daemon was told to wait before it answers.
    fn wait(&self) -> Duration {
        Duration::ZERO
    }

    /// The exit code of a reply with a status.
    fn exit_code(&self, reply: &Value) -> u8 {
        exit::of_status(reply.status().unwrap_or_default())
    }
}

/// Why a command has no answer to show.
#[derive(Debug, Error)]
pub enum Failure {
    /// The daemon was not reached or did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The daemon answered with an error.
    #[error("{}", printable(.0.as_bytes()))]
    Refused(String),
    /// The daemon's answer has no status.
    #[error(
        "the reply has no status field; is the daemon of another version? `onced status --json` shows it"
    )]
    NoStatus,
    /// A file named on the command line cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Input {
        /// The file; `-` is stdin.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Arguments that do not go together.
    #[error("{0}")]
    Usage(&'static str),
    /// A file named on the command line is too long.
    #[error("{} has over {max} bytes, the limit of an outcome on the wire; store a reference instead", path.display())]
    InputTooLarge {
        /// The file; `-` is stdin.
        path: PathBuf,
        /// The limit in bytes.
        max: usize,
    },
}

impl Failure {
    /// The exit code, see `exit.rs`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) => exit::of_client_error(error),
            Self::Refused(text) => exit::of_error_reply(text),
            Self::NoStatus => exit::INTERNAL,
            Self::Input { .. } | Self::InputTooLarge { .. } | Self::Usage(_) => exit::USAGE,
        }
    }

    /// A word for `--json`: the error reply's own code, or the exit table's name.
    fn code(&self) -> String {
        match self {
            Self::Refused(text) => text.split(' ').next().unwrap_or_default().to_owned(),
            other => {
                let line = exit::TABLE.iter().find(|line| line.code == other.exit_code());
                line.map_or("internal", |line| line.name).to_owned()
            }
        }
    }
}

/// Runs a command and prints what came of it: what the table of commands in `cli/mod.rs` names.
///
/// # Errors
/// The output cannot be written.
#[expect(clippy::needless_pass_by_value, reason = "the signature every subcommand's `run` has")]
pub fn run<C: ClientCommand>(command: C) -> anyhow::Result<ExitCode> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(execute(&command, i64::try_from(now.as_millis()).unwrap_or(i64::MAX)).emit()?)
}

/// Runs a command at the Unix time `now_ms`.
pub fn execute(command: &impl ClientCommand, now_ms: i64) -> Output {
    match answer(command) {
        Ok(reply) => rendered(command, &reply, now_ms),
        Err(failure) => failed(command.options(), &failure),
    }
}

fn answer(command: &impl ClientCommand) -> Result<Value, Failure> {
    let options = command.options();
    let timeout = options.timeout.map_or(REPLY_WAIT_DEFAULT, Duration::from_millis);
    let mut client = Client::connect(&options.socket, timeout.saturating_add(command.wait()))?;
    // Maps keep lists of maps readable. A daemon that refuses speaks RESP2, which is read as well.
    client.hello3()?;
    match command.ask(&mut client)? {
        Value::Error(text) => Err(Failure::Refused(text)),
        reply if reply.status().is_some() => Ok(as_map(reply)),
        _ => Err(Failure::NoStatus),
    }
}

/// A RESP2 reply, name, value, name, value, as the map it stands for. A list of lists in it is a list of maps: no
/// native reply has a list of plain lists.
fn as_map(reply: Value) -> Value {
    let Value::Array(items) = reply else { return reply };
    let mut items = items.into_iter();
    let mut pairs = Vec::with_capacity(items.len() / 2);
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        let value = match value {
            Value::Array(rows) => Value::Array(rows.into_iter().map(as_map).collect()),
            other => other,
        };
        pairs.push((name, value));
    }
    Value::Map(pairs)
}

fn rendered(command: &impl ClientCommand, reply: &Value, now_ms: i64) -> Output {
    let code = command.exit_code(reply);
    if command.options().json {
        return Output { stdout: json_line(&Json(reply)), code, ..Output::default() };
    }
    let mut page = Page::new(now_ms);
    command.show(reply, &mut page);
    let text = page.into_text();
    match command.bare(reply) {
        Some(bytes) if bytes.is_empty() => Output { stderr: text, code, ..Output::default() },
        Some(stdout) => Output { stdout, code, ..Output::default() },
        None => Output { stdout: text.into_bytes(), code, ..Output::default() },
    }
}

fn failed(options: &ClientOptions, failure: &Failure) -> Output {
    let code = failure.exit_code();
    if options.json {
        let pair = |name: &str, text: String| (Value::Simple(name.to_owned()), Value::Simple(text));
        let object = Value::Map(vec![
            pair("status", "ERROR".to_owned()),
            pair("code", failure.code()),
            pair("message", failure.to_string()),
        ]);
        return Output { stdout: json_line(&Json(&object)), code, ..Output::default() };
    }
    Output { stderr: format!("onced: {failure}\n"), code, ..Output::default() }
}

/// Sends one command given as words.
pub(super) fn call(client: &mut Client, words: &[Vec<u8>]) -> Result<Value, Failure> {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    Ok(client.call(&words)?)
}

/// Opens a file, or stdin for `-`.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(std::io::stdin()));
    }
    let file =
        std::fs::File::open(path).map_err(|source| Failure::Input { path: path.to_owned(), source })?;
    Ok(Box::new(file))
}

/// Reads a file, or stdin for `-`, of at most what an argument of a command may have.
pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(BULK_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|source| Failure::Input { path: path.to_owned(), source })?;
    if bytes.len() > BULK_BYTES_MAX {
        return Err(Failure::InputTooLarge { path: path.to_owned(), max: BULK_BYTES_MAX });
    }
    Ok(bytes)
}
