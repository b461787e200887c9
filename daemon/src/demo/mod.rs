//! `onced demo`: three regions on one machine, and a story in which every sentence is checked.
//!
//! The daemons are real processes of this very binary, their clients use real sockets, the crash is a SIGKILL and the
//! partition a link that is really down: a demo that mocks its faults shows nothing. What happened is printed with
//! what was measured; each claim the README makes about the product is a check here, and one that does not hold makes
//! the demo fail. Nothing waits a fixed time where a condition can be seen.
//!
//! Whatever happens (an error, a panic, Ctrl-C), no daemon outlives the demo: see `processes`.

mod acts;
mod cluster;
mod keep;
mod limits;
mod processes;
mod report;
mod stage;

use std::path::PathBuf;

use anyhow::Context as _;

use cluster::Cluster;
use processes::Processes;
use report::Report;
use stage::Stage;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Stay up after the story.
    pub keep: bool,
    /// Where everything is put, instead of a temporary folder.
    pub folder: Option<PathBuf>,
    /// One JSON object instead of the story's text.
    pub json: bool,
}

/// Plays the story; true if every check held.
///
/// # Errors
/// The folder, the certificates or the processes could not be made at all.
pub fn run(wishes: &Wishes) -> anyhow::Result<bool> {
    let processes = Processes::new();
    let cluster = Cluster::prepare(wishes.folder.as_deref(), processes.clone())?;
    let signals = keep::watch_signals(processes, cluster.scratch())?;
    let mut report = Report::new(wishes.json);
    report.opening(&cluster);
    // Errors are part of the report: what happened before them is what explains them.
    match Stage::open(&cluster, &mut report) {
        Ok(mut stage) => acts::play(&mut stage, wishes.keep),
        Err(error) => {
            cluster.processes().leave_if_over();
            report.broken(&error);
        }
    }
    cluster.processes().leave_if_over();
    if wishes.keep {
        keep::stay(&cluster, &mut report, &signals);
    }
    let held = report.closing(&cluster);
    drop(signals);
    cluster.end(held).context("the demo's folder cannot be removed")?;
    Ok(held)
}
