//! `bench`: onced and redis side by side on this machine, printed as ratios against named goals.
//!
//! Every figure is taken from real processes over real sockets, in interleaved rounds, each on a fresh server; a
//! round that others disturbed is repeated. What is compared stands in `work.rs`, the goals in `figures/`. It must
//! never fail on a time, never leave a process behind, and never end one it did not start.

mod args;
mod ceiling;
mod children;
mod control;
mod cpu;
mod drive;
mod figures;
mod goals;
mod load;
mod machine;
mod progress;
mod report;
mod resp;
mod rounds;
mod servers;
mod stats;
mod work;

use anyhow::{Context, Result, bail};
use args::{Action, Options};
use goals::Row;
use machine::Machine;
use progress::Progress;
use rounds::Bench;
use servers::{Programs, redis};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let action = match args::parse(&words) {
        Ok(action) => action,
        Err(error) => {
            eprintln!("bench: {error:#}");
            return ExitCode::from(2);
        }
    };
    let done = match action {
        Action::Help => {
            println!("{}", args::USAGE);
            Ok(())
        }
        Action::Ceiling(socket, answer) => ceiling::serve(&socket, answer),
        Action::Drive(job) => drive::run(&job),
        Action::Measure(options) => measure(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    let programs = find_programs(options.onced.as_deref())?;
    let parent = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("onced-bench-").tempdir_in(&parent).with_context(|| {
        format!("cannot create a folder in {}; name another with --folder", parent.display())
    })?;
    children::end_all_on_signal(folder.path())?;
    let machine = Machine::look(&programs, folder.path());
    let mut bench = Bench {
        programs,
        depth: options.depth,
        patience: options.depth.patience(),
        folder: folder.path().to_path_buf(),
        progress: Progress::new(),
        runs: 0,
    };
    let (rows, failed) = take_figures(&mut bench, &options.only);
    bench.progress.clear();
    let seconds = bench.progress.seconds();
    if options.json {
        println!("{:#}", report::json(&rows, &machine, options.depth, seconds));
    } else {
        println!("{}", report::table(&rows, &machine, options.depth, seconds));
    }
    if !failed.is_empty() {
        bail!("{} could not be measured, see above", failed.join(", "));
    }
    Ok(())
}

/// Takes the figures one after the other; one that cannot be taken does not spoil the rest.
fn take_figures(bench: &mut Bench, only: &[String]) -> (Vec<Row>, Vec<&'static str>) {
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for (name, take) in figures::FIGURES {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        match take(bench) {
            Ok(taken) => rows.extend(taken),
            Err(error) => {
                bench.progress.clear();
                eprintln!("bench: {name}: {error:#}");
                failed.push(name);
            }
        }
    }
    (rows, failed)
}

/// Finds redis, and builds `onced` unless a binary was named.
fn find_programs(named: Option<&Path>) -> Result<Programs> {
    let bench = std::env::current_exe().context("cannot find this program's own file")?;
    let onced = match named {
        Some(path) => path.canonicalize().with_context(|| format!("there is no {}", path.display()))?,
        None => build_onced(&bench)?,
    };
    let redis = redis::version().is_some();
    let redis_benchmark = is_installed("redis-benchmark");
    if !redis || !redis_benchmark {
        eprintln!(
            "bench: redis is not complete here, so only our side runs, under our own driver. For the comparison:\n  \
             apt-get install redis-server redis-tools"
        );
    }
    Ok(Programs { onced, bench, redis, redis_benchmark })
}

fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// Cargo does not build another package's binaries for this one: without this a stale `onced` would be measured.
fn build_onced(bench: &Path) -> Result<PathBuf> {
    let target = bench.ancestors().nth(2).context("this program is not in a cargo target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--bin", "onced", "--target-dir"])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdout(Stdio::null())
        .status()
        .context("cannot run cargo; name a built binary with --onced")?;
    if !status.success() {
        bail!("`onced` does not build; name a built binary with --onced to measure that");
    }
    Ok(target.join("release/onced"))
}
