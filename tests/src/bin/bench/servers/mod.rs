//! The servers a run compares: how each is started, known to be ready, measured and stopped.
//!
//! A fresh process on an empty folder before every run, on both sides: key streams repeat between runs, and one
//! server's emptying must not cost more than another's. Nothing is pinned unless a figure is about one core. Must
//! never reuse a folder by accident: only the restart figures start twice on one.

pub mod onced;
pub mod postgres;
pub mod redis;

use crate::ceiling::Answer;
use crate::children::Child;
use crate::control;
use crate::cpu;
use crate::work::Dialect;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a server may take until it answers: redis reads five million keys in half a minute.
const READY_WAIT_MAX: Duration = Duration::from_secs(180);
/// How often a server that does not answer yet is looked after.
const READY_CHECK_EVERY: Duration = Duration::from_secs(1);

/// What stands behind an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing on disk at all (redis only).
    None,
    /// Synced within a moment: redis `everysec`, onced `interval`.
    Soon,
    /// Synced before the answer: redis `always`, onced `always`.
    Always,
}

/// How a server is started.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// What stands behind an acknowledgement.
    pub durability: Durability,
    /// The one core it may use, if any.
    pub core: Option<usize>,
    /// Whether a second server replicates from it.
    pub replica: bool,
}

impl Setting {
    /// Free to use every core, alone.
    pub fn alone(durability: Durability) -> Self {
        Self { durability, core: None, replica: false }
    }
}

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `onced serve`.
    Onced,
    /// `redis-server`.
    Redis,
    /// The bench's own server that always gives this answer.
    Ceiling(Answer),
}

impl Kind {
    /// The name in progress lines and tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Onced => "onced",
            Kind::Redis => "redis",
            Kind::Ceiling(_) => "the ceiling",
        }
    }

    /// Which commands it takes.
    pub fn dialect(self) -> Dialect {
        if self == Kind::Redis { Dialect::Redis } else { Dialect::Onced }
    }
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `onced`, built in the release profile.
    pub onced: PathBuf,
    /// This program, for the ceiling and the driver.
    pub bench: PathBuf,
    /// Whether redis-server is installed.
    pub redis: bool,
    /// Whether redis-benchmark is; without it every load comes from our own driver.
    pub redis_benchmark: bool,
}

/// A running server, with its replica if it was given one.
pub struct Server {
    /// Which program.
    pub kind: Kind,
    /// The socket to drive.
    pub socket: PathBuf,
    /// The processes; the first is the one that is driven.
    pub processes: Vec<Child>,
}

impl Server {
    /// Starts `kind` with its data in `folder`, which it creates if need be, and waits until it serves.
    ///
    /// # Errors
    /// The program is missing, ends at once or does not answer; the error ends with the tail of its log.
    pub fn start(programs: &Programs, kind: Kind, setting: Setting, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut server = match kind {
            Kind::Redis => redis::start(setting, folder)?,
            Kind::Onced => onced::start(programs, setting, folder)?,
            Kind::Ceiling(answer) => ceiling(programs, answer, setting, folder)?,
        };
        let ready = server.wait_until_ready(setting);
        ready
            .with_context(|| format!("{} is not ready; its log ends:\n{}", kind.name(), log_tail(folder)))?;
        Ok(server)
    }

    /// Asks until it answers, but not longer than it lives.
    fn wait_until_ready(&mut self, setting: Setting) -> Result<()> {
        let kind = self.kind;
        let probe: &[&str] = if kind == Kind::Onced { &["CLAIM", "bench:ready"] } else { &["PING"] };
        let begun = Instant::now();
        loop {
            let asked =
                control::ask_until(&self.socket, probe, READY_CHECK_EVERY, |reply| is_ready(kind, reply));
            let Err(error) = asked else { break };
            for process in &mut self.processes {
                if let Some(status) = process.try_wait()? {
                    bail!("it ended: {status}");
                }
            }
            if begun.elapsed() > READY_WAIT_MAX {
                return Err(error);
            }
        }
        match (setting.replica, kind) {
            (true, Kind::Redis) => redis::wait_for_replica(self),
            (true, Kind::Onced) => onced::wait_for_peer(self),
            _ => Ok(()),
        }
    }

    /// Ids of all its processes.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Child::pid).collect()
    }

    /// Resident memory of the process that is driven, in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        cpu::resident_bytes(self.processes[0].pid())
    }

    /// How many keys it holds; None for a server that holds none.
    ///
    /// # Errors
    /// It does not answer, or not as expected.
    pub fn keys(&self) -> Result<Option<u64>> {
        match self.kind {
            Kind::Ceiling(_) => Ok(None),
            Kind::Redis => {
                let reply = control::ask(&self.socket, &["DBSIZE"])?;
                Ok(Some(control::number_in(&reply, "").context("DBSIZE did not answer with a number")?))
            }
            Kind::Onced => onced::keys(&self.socket).map(Some),
        }
    }

    /// Ends it in order and leaves its folder.
    ///
    /// # Errors
    /// One of its processes had to be killed.
    pub fn stop(mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Child::stop)
    }
}

fn is_ready(kind: Kind, reply: &[u8]) -> bool {
    match kind {
        Kind::Redis => reply == b"+PONG\r\n",
        Kind::Onced | Kind::Ceiling(_) => crate::work::Work::Claim.accepts(Dialect::Onced, reply),
    }
}

/// A command on one core, or on all.
pub fn pinned(core: Option<usize>, program: &Path) -> Command {
    let Some(core) = core else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program);
    command
}

/// Sends what a server prints to the file that `log_tail` reads.
///
/// # Errors
/// The file cannot be written.
pub fn log_to(command: &mut Command, folder: &Path, name: &str) -> Result<()> {
    let path = folder.join(name);
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    command.stdout(file.try_clone()?).stderr(file);
    Ok(())
}

/// The last lines of the logs in `folder`, to end an error message with.
fn log_tail(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

fn ceiling(programs: &Programs, answer: Answer, setting: Setting, folder: &Path) -> Result<Server> {
    let socket = folder.join("s");
    let mut command = pinned(setting.core, &programs.bench);
    command.arg("ceiling").arg(&socket).arg(answer.name());
    log_to(&mut command, folder, "log")?;
    let process = Child::start("the ceiling", &mut command)?;
    Ok(Server { kind: Kind::Ceiling(answer), socket, processes: vec![process] })
}
