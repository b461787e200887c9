//! `onced conflicts --follow`: a line for every operation that has run twice, as long as somebody reads.
//!
//! It asks for the feed of losers that nobody has dealt with, and goes on behind the last one told. When the daemon is
//! gone it connects again; another start begins with the oldest, so a line may come twice and none is left out. Whole
//! lines only: a signal ends it between two of them.
//!
//! Must never: compensate anything.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::client::{Failure, call};
use super::conflicts::ConflictsArgs;
use super::limits::{FOLLOW_AGAIN, FOLLOW_COUNT, FOLLOW_WAIT, REPLY_WAIT_DEFAULT};
use super::output::{Json, json_line};
use super::show::printable;
use super::time::rfc3339;
use crate::resp::{Client, Value};

/// Why it ends.
#[derive(Debug)]
pub(super) enum End {
    /// Nobody reads any more.
    NobodyReads,
    /// The output cannot be written.
    Output(io::Error),
    /// The daemon refuses.
    Refused(Failure),
}

/// Follows until nobody reads, a signal comes, or the daemon refuses.
pub(super) fn run(args: &ConflictsArgs) -> anyhow::Result<ExitCode> {
    end_on_signals()?;
    let mut follower = Follower { args, client: None, position: "0".to_owned() };
    // A socket that is not there at all is said at once: nobody wants to wait for a mistyped path.
    let mut reached = false;
    loop {
        match follower.step(&mut |line| write_line(line)) {
            Ok(()) => reached = true,
            Err(End::NobodyReads) => return Ok(ExitCode::SUCCESS),
            Err(End::Output(error)) => return Err(error.into()),
            Err(End::Refused(failure)) if reached && matches!(failure, Failure::Client(_)) => {
                follower.client = None;
                std::thread::sleep(FOLLOW_AGAIN);
            }
            Err(End::Refused(failure)) => {
                let _ = writeln!(io::stderr(), "onced: {failure}");
                return Ok(ExitCode::from(failure.exit_code()));
            }
        }
    }
}

/// One consumer of the feed.
pub(super) struct Follower<'a> {
    pub(super) args: &'a ConflictsArgs,
    pub(super) client: Option<Client>,
    pub(super) position: String,
}

impl Follower<'_> {
    /// Asks once and writes what is told; the position moves on behind what has been written.
    pub(super) fn step(&mut self, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), End> {
        let page = self.ask().map_err(End::Refused)?;
        if page.status() == Some("UNAVAILABLE") {
            std::thread::sleep(Duration::from_millis(wait_ms(&page)));
            return Ok(());
        }
        for row in page.field("conflicts").and_then(Value::as_array).unwrap_or_default() {
            let line = if self.args.client.json { json_line(&Json(row)) } else { text_line(row) };
            write(&line).map_err(|error| match error.kind() {
                ErrorKind::BrokenPipe => End::NobodyReads,
                _ => End::Output(error),
            })?;
        }
        if let Some(position) = page.field("position").and_then(Value::as_str) {
            position.clone_into(&mut self.position);
        }
        Ok(())
    }

    fn ask(&mut self) -> Result<Value, Failure> {
        let options = &self.args.client;
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                let timeout = options.timeout.map_or(REPLY_WAIT_DEFAULT, Duration::from_millis);
                let mut client = Client::connect(&options.socket, timeout.saturating_add(FOLLOW_WAIT))?;
                client.hello3()?;
                none.insert(client)
            }
        };
        let mut words = vec![b"CONFLICTS".to_vec(), b"FEED".to_vec()];
        let mut option = |name: &str, value: Vec<u8>| words.extend([name.as_bytes().to_vec(), value]);
        option("AFTER", self.position.clone().into_bytes());
        option("COUNT", FOLLOW_COUNT.to_string().into_bytes());
        option("WAIT", FOLLOW_WAIT.as_millis().to_string().into_bytes());
        self.args.filters().into_iter().for_each(|(name, value)| option(name, value));
        match call(client, &words)? {
            Value::Error(text) => Err(Failure::Refused(text)),
            reply if reply.status().is_some() => Ok(reply),
            _ => Err(Failure::NoStatus),
        }
    }
}

fn wait_ms(page: &Value) -> u64 {
    match page.field("retry_after_ms") {
        Some(Value::Int(ms)) => u64::try_from(*ms).unwrap_or_default(),
        _ => FOLLOW_AGAIN.as_millis() as u64,
    }
}

/// For people and for `read`: key, losing claim, where and when it completed, where the winner did; tabs between.
fn text_line(row: &Value) -> Vec<u8> {
    let text = |name: &str| match row.field(name) {
        Some(Value::Null) | None => "-".to_owned(),
        Some(value) => printable(value.as_bytes().unwrap_or_default()),
    };
    let at = match row.field("loser_completed_at") {
        Some(Value::Int(ms)) => rfc3339(*ms),
        _ => "-".to_owned(),
    };
    let fields = [text("key"), text("loser_claim"), text("loser_region"), at, text("winner_region")];
    (fields.join("\t") + "\n").into_bytes()
}

fn write_line(line: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line)?;
    out.flush()
}

/// Ends the process at SIGINT or SIGTERM, with nothing half written: whoever writes a line holds stdout's lock.
fn end_on_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let _whole_lines = io::stdout().lock();
        std::process::exit(0);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_tabs_between_and_no_control_characters() {
        let text = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let row = Value::Map(vec![
            (text("key"), text("pay:\t1\n")),
            (text("loser_claim"), text("018bcfe56800002a-3-1")),
            (text("loser_region"), text("eu")),
            (text("loser_completed_at"), Value::Int(1_800_000_000_000)),
            (text("winner_region"), Value::Null),
        ]);
        let line = String::from_utf8(text_line(&row)).expect("text");
        assert_eq!(line, "pay:\\t1\\n\t018bcfe56800002a-3-1\teu\t2027-01-15T08:00:00.000Z\t-\n");
    }
}
