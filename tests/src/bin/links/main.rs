//! `links`: what replication costs and how fast it heals, over links with a real delay.
//!
//! Daemons in network namespaces, joined by the relay of `sim::real`; load, relay and daemons share this machine's
//! cores, so figures are what is left of them. Every figure states what was sent, and is taken from what clients see
//! and what the relay counts, not from the daemons' own metrics (but for what comparisons repaired). It must never fail on a time: a verdict is a word in
//! a table.

mod away;
mod bytes;
mod cpu;
mod levels;
mod load;
mod lossy;
mod rated;
mod steady;
mod table;

use std::process::ExitCode;

use rustix::process::{Pid, Signal, kill_process};
use table::Row;
use tests::links::Lack;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
replication over links with a real delay; needs root, network namespaces and iproute2.

usage: links [quick|full] [--only FIGURE]... [--json]

  quick          200,000 writes behind a partition, seconds of each load: about three minutes (the default)
  full           1,000,000 writes behind a partition, and longer loads
  --only FIGURE  only these: steady, bytes, away, rated, lossy, levels
  --json         JSON on standard output instead of the table

Exit code 0 whatever the figures say, 2 for a wrong command line, 3 if this machine has no namespaces for us.";

/// How much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Minutes.
    Quick,
    /// What the goals name.
    Full,
}

impl Depth {
    /// The one or the other.
    pub fn pick<T>(self, quick: T, full: T) -> T {
        if self == Self::Quick { quick } else { full }
    }
}

type Figure = (&'static str, fn(Depth) -> Result<Vec<Row>, Lack>);
const FIGURES: [Figure; 6] = [
    ("steady", steady::run),
    ("bytes", bytes::run),
    ("away", away::run),
    ("rated", rated::run),
    ("lossy", lossy::run),
    ("levels", levels::run),
];

fn main() -> ExitCode {
    let (mut depth, mut only, mut json) = (Depth::Quick, Vec::new(), false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "quick" => depth = Depth::Quick,
            "full" => depth = Depth::Full,
            "--json" => json = true,
            "--help" | "-h" | "help" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            "--only" => match words.next().filter(|name| FIGURES.iter().any(|(known, _)| known == name)) {
                Some(name) => only.push(name),
                None => return refuse("--only needs one of: steady, bytes, away, rated, lossy, levels"),
            },
            other => return refuse(&format!("`{other}` is unknown; see links --help")),
        }
    }
    end_daemons_on_signal();
    let mut rows = Vec::new();
    for (name, take) in FIGURES {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        eprintln!("links: {name}");
        match take(depth) {
            Ok(taken) => rows.extend(taken),
            Err(Lack::Programs(what)) => return lacking(&format!("{what}; apt-get install iproute2")),
            Err(Lack::Machine(what)) => return lacking(&what),
        }
    }
    if json {
        println!("{:#}", table::json(&rows));
    } else {
        println!("{}", table::text(&rows));
    }
    ExitCode::SUCCESS
}

/// Daemons have process groups of their own, so that Ctrl-C here does not reach them: they are ended by their numbers,
/// as children of this process. The namespaces go with the next run, which finds them by this process's number.
fn end_daemons_on_signal() {
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let signalled = runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            std::io::Result::Ok(())
        });
        if signalled.is_err() {
            return;
        }
        for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw));
            for pid in pids {
                // One that has ended is what is wanted.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::process::exit(130);
    });
}

fn refuse(what: &str) -> ExitCode {
    eprintln!("links: {what}");
    ExitCode::from(2)
}

fn lacking(what: &str) -> ExitCode {
    eprintln!("links: no links can be made here: {what}");
    ExitCode::from(3)
}
