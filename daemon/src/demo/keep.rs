//! Signals during the story, and staying up after it.
//!
//! A thread waits for SIGINT, SIGTERM and SIGHUP. During the story it kills the daemons, removes the temporary folder
//! and ends the process: the story's own thread may be waiting for a reply that never comes. While staying up it only
//! says so, and the stop is an orderly one.

use std::io::BufRead as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::cluster::{Cluster, Region};
use super::limits::STOP_MAX;
use super::processes::{Processes, described};
use super::report::Report;

/// What a shell reports for a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// The thread that waits for signals.
#[derive(Debug)]
pub struct Signals {
    staying: Arc<AtomicBool>,
    ended: Receiver<()>,
    end: Sender<()>,
}

/// Starts it. `scratch` is removed when the story is interrupted.
///
/// # Errors
/// The system gives no thread or no signals.
pub fn watch_signals(processes: Processes, scratch: Option<PathBuf>) -> anyhow::Result<Signals> {
    let (end, ended) = channel();
    let staying = Arc::new(AtomicBool::new(false));
    let (thread_staying, thread_end) = (Arc::clone(&staying), end.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [mut interrupt, mut terminate, mut hang_up] = {
        let _entered = runtime.enter();
        let [interrupt, terminate, hang_up] = kinds.map(signal);
        [interrupt?, terminate?, hang_up?]
    };
    let wait = move || {
        loop {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => {}
                }
            });
            if thread_staying.load(Ordering::Acquire) {
                // Nobody listens any more once the demo has ended.
                let _ = thread_end.send(());
                continue;
            }
            processes.end_all();
            if let Some(scratch) = &scratch {
                let _ = std::fs::remove_dir_all(scratch);
            }
            std::process::exit(INTERRUPTED);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).context("no thread for signals")?;
    Ok(Signals { staying, ended, end })
}

/// Stays up until Enter or a signal, then stops every region in order.
pub fn stay(cluster: &Cluster, report: &mut Report, signals: &Signals) {
    signals.staying.store(true, Ordering::Release);
    report.staying(cluster);
    let end = signals.end.clone();
    // Left behind at the end: a read from a terminal cannot be called off.
    std::thread::spawn(move || {
        let mut line = String::new();
        // The end of input (a pipe, a service) is nobody pressing Enter.
        if std::io::stdin().lock().read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            let _ = end.send(());
        }
    });
    // An error cannot be: `signals` holds a sender itself.
    let _ = signals.ended.recv();
    for region in Region::ALL {
        let stopped = cluster.processes().terminate(region.name());
        match stopped.and_then(|()| cluster.processes().wait(region.name(), STOP_MAX)) {
            Ok(status) => report.say(&format!("{} stopped: {}", region.name(), described(status))),
            Err(error) => report.say(&format!("{error:#}")),
        }
    }
}
