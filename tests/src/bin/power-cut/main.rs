//! `power-cut`: the nightly form of the power-cut test, with as many cuts as asked for.
//!
//! The test in `tests/processes/power.rs` and this program share everything but their length. A broken promise is a
//! panic that names it, and exit code 101.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use tests::power::{self, disk::Lack};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
three regions under load on ext4 images, the power cut again and again; needs root and loop devices.

usage: power-cut [--cuts N] [--seed N] [--json]

  --cuts N   how many (default: 200)
  --seed N   of whom, when and how the power is cut (default: the clock); scheduling is not repeated with it
  --json     JSON on standard output instead of text

ONCED_POWER_KEEP=FOLDER keeps the images when something was lost. Exit code 0 if every promise was kept, 101 if not,
2 for a wrong command line, 3 if this machine cannot cut power.";

fn main() -> ExitCode {
    let (mut cuts, mut seed, mut json) = (200, power::load::now_us(), false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let number =
            |words: &mut dyn Iterator<Item = String>| words.next().and_then(|text| text.parse().ok());
        match (word.as_str(), word.starts_with("--")) {
            ("--json", _) => json = true,
            ("--help" | "-h", _) => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            ("--cuts", _) if let Some(count) = number(&mut words) => cuts = count as usize,
            ("--seed", _) if let Some(given) = number(&mut words) => seed = given,
            _ => {
                eprintln!("power-cut: `{word}` is unknown or lacks its number; see power-cut --help");
                return ExitCode::from(2);
            }
        }
    }
    eprintln!("power-cut: {cuts} cuts, seed {seed}");
    let bar = ProgressBar::new(cuts as u64);
    let style = ProgressStyle::with_template("{pos}/{len} cuts {bar:40} {elapsed}, {eta} to go");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let stopped = stopped_by_signal();
    let told = |tally: &power::report::Tally| {
        bar.set_position(tally.cuts as u64);
        !stopped.load(Ordering::Relaxed)
    };
    match power::run(cuts, seed, told) {
        Ok(tally) => {
            bar.finish_and_clear();
            if json {
                println!("{:#}", tally.json());
            } else {
                println!("{tally}");
            }
            ExitCode::SUCCESS
        }
        Err(Lack::Programs(what)) => unable(&format!("{what}; apt-get install e2fsprogs mount gcc")),
        Err(Lack::Machine(what)) => unable(&what),
    }
}

/// Set by SIGINT and SIGTERM, so that a run ends after its cut and takes its mounts and daemons with it.
fn stopped_by_signal() -> Arc<AtomicBool> {
    let stopped = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stopped);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let signalled = runtime.and_then(|runtime| {
            runtime.block_on(async {
                let mut terminate = signal(SignalKind::terminate())?;
                let mut interrupt = signal(SignalKind::interrupt())?;
                tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
                Ok(())
            })
        });
        if signalled.is_ok() {
            eprintln!("power-cut: ends after this cut");
            told.store(true, Ordering::Relaxed);
        }
    });
    stopped
}

fn unable(what: &str) -> ExitCode {
    eprintln!("power-cut: power cannot be cut here: {what}");
    ExitCode::from(3)
}
