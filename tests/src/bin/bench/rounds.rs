//! Interleaved rounds: each contender in turn, again and again, each run on a fresh server.
//!
//! Figures drift by 5 to 10 % over minutes on the machines this runs on, so all of one side first and then all of
//! the other would compare two moments. A run during which somebody else took more than a tenth of the machine is
//! repeated, and when the machine does not become quiet the figure says so. It must never pick the best of several.

use crate::cpu;
use crate::load::{self, Found, Load};
use crate::progress::Progress;
use crate::servers::{Kind, Programs, Server, Setting};
use crate::stats;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the machine is looked at to tell whether it is quiet.
const QUIET_LOOK: Duration = Duration::from_millis(100);
/// Above this share of foreign CPU, in percent of all cores, a run is repeated.
pub const FOREIGN_PERCENT_MAX: f64 = 10.0;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// One round of small loads: for CI, only to see that it works.
    Short,
    /// Three rounds, under three minutes on a quiet machine.
    Quick,
    /// Five rounds, 5M keys, and the stall while filling to 10M.
    Full,
}

impl Depth {
    /// Rounds of each contender.
    pub fn rounds(self) -> usize {
        match self {
            Depth::Short => 1,
            Depth::Quick => 3,
            Depth::Full => 5,
        }
    }

    /// How long, over the whole bench, may be spent on waiting for a quiet machine and on repeating disturbed runs.
    /// A machine that never becomes quiet must not keep it from ending.
    pub fn patience(self) -> Duration {
        self.pick(Duration::ZERO, Duration::from_secs(60), Duration::from_secs(900))
    }

    /// One of three sizes.
    pub fn pick<T>(self, short: T, quick: T, full: T) -> T {
        match self {
            Depth::Short => short,
            Depth::Quick => quick,
            Depth::Full => full,
        }
    }
}

/// Everything a figure needs to run.
pub struct Bench {
    /// Where the programs are.
    pub programs: Programs,
    /// How much is measured.
    pub depth: Depth,
    /// Folder for the servers' data, emptied as it goes.
    pub folder: PathBuf,
    /// The line that says what is going on.
    pub progress: Progress,
    /// What is left of `Depth::patience`.
    pub patience: Duration,
    /// Runs so far: makes each folder's name its own.
    pub runs: u64,
}

/// One contender of a figure.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// Which program.
    pub kind: Kind,
    /// How it is started.
    pub setting: Setting,
    /// What is put into it before the load that counts.
    pub before: Option<Load>,
    /// The load that counts.
    pub load: Load,
}

/// One run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// What the driver saw.
    pub found: Found,
    /// CPU of all the server's processes for one operation, in microseconds.
    pub cpu_us: f64,
    /// CPU others took meanwhile, in percent of the machine.
    pub foreign_percent: f64,
}

/// All runs of one contender.
#[derive(Clone, Debug, Default)]
pub struct Runs(pub Vec<Run>);

impl Runs {
    /// One quantity over the runs.
    pub fn of(&self, quantity: impl Fn(&Run) -> f64) -> Sample {
        let values = self.0.iter().map(&quantity).collect();
        let foreign = self.0.iter().map(|run| run.foreign_percent).fold(0.0, f64::max);
        Sample { values, foreign_percent_max: foreign }
    }
}

/// One quantity over several runs.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// A value a run.
    pub values: Vec<f64>,
    /// The most disturbed of the runs.
    pub foreign_percent_max: f64,
}

impl Sample {
    /// A single value.
    pub fn one(value: f64, foreign_percent_max: f64) -> Self {
        Self { values: vec![value], foreign_percent_max }
    }

    /// The middle one.
    pub fn median(&self) -> Option<f64> {
        stats::median(&self.values)
    }

    /// Half the distance between the extremes in percent of the median.
    pub fn spread_percent(&self) -> f64 {
        stats::spread_percent(&self.values)
    }
}

impl Bench {
    /// Whether there is such a server on this machine.
    pub fn has(&self, kind: Kind) -> bool {
        kind != Kind::Redis || self.programs.redis
    }

    /// A new empty folder. Names are short: a socket's path must fit into 108 bytes.
    pub fn fresh_folder(&mut self) -> PathBuf {
        self.runs += 1;
        self.folder.join(self.runs.to_string())
    }

    /// Runs the contenders in turn for as many rounds as the depth says. A contender this machine lacks has no runs.
    ///
    /// # Errors
    /// A server or a driver fails.
    pub fn rounds(&mut self, title: &str, contenders: &[Contender]) -> Result<Vec<Runs>> {
        let mut all = vec![Runs::default(); contenders.len()];
        let rounds = self.depth.rounds();
        for round in 1..=rounds {
            for (contender, runs) in contenders.iter().zip(&mut all) {
                if !self.has(contender.kind) {
                    continue;
                }
                self.progress.say(&format!("{title}: {}, round {round} of {rounds}", contender.kind.name()));
                let run = self.quiet_run(contender);
                runs.0.push(run.with_context(|| format!("{title}: {}", contender.kind.name()))?);
            }
        }
        Ok(all)
    }

    /// One run, repeated while others disturb it and patience lasts; the last one counts whatever it was.
    ///
    /// # Errors
    /// A server or a driver fails.
    pub fn quiet_run(&mut self, contender: &Contender) -> Result<Run> {
        loop {
            self.wait_for_quiet()?;
            let begun = Instant::now();
            let folder = self.fresh_folder();
            let run = self.one_run(contender, &folder);
            // Failing to remove gigabytes of a temporary folder only costs disk until the bench ends.
            let _ = std::fs::remove_dir_all(&folder);
            let run = run?;
            if run.foreign_percent <= FOREIGN_PERCENT_MAX || self.patience.is_zero() {
                return Ok(run);
            }
            self.patience = self.patience.saturating_sub(begun.elapsed());
        }
    }

    /// Waits, while patience lasts, until others take less than what would make a run be repeated.
    fn wait_for_quiet(&mut self) -> Result<()> {
        while !self.patience.is_zero() {
            let reading = cpu::read(&[])?;
            std::thread::sleep(QUIET_LOOK);
            if reading.spent()?.foreign_percent <= FOREIGN_PERCENT_MAX {
                break;
            }
            self.patience = self.patience.saturating_sub(QUIET_LOOK);
        }
        Ok(())
    }

    fn one_run(&self, contender: &Contender, folder: &Path) -> Result<Run> {
        let server = Server::start(&self.programs, contender.kind, contender.setting, folder)?;
        if let Some(before) =
            contender.before.as_ref().filter(|_| !matches!(contender.kind, Kind::Ceiling(_)))
        {
            load::run(&self.programs, &server, before, folder)?;
        }
        let reading = cpu::read(&server.pids())?;
        let found = load::run(&self.programs, &server, &contender.load, folder)?;
        let spent = reading.spent()?;
        server.stop()?;
        Ok(Run {
            found,
            cpu_us: spent.servers_seconds * 1e6 / contender.load.requests as f64,
            foreign_percent: spent.foreign_percent,
        })
    }
}
