//! Every process the bench starts, so that each is ended by its own id, also on Ctrl-C.
//!
//! A benchmark that leaves a redis-server behind spoils the next one's figures. All children are entered in one
//! table; dropping a `Child` ends it, and a thread waiting for signals ends all that are entered. A process is
//! reaped and struck out under the table's lock, so that an id the kernel has given to somebody else is never
//! signalled. It must never end anything it did not start.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may take to end after SIGTERM before it is killed.
const STOP_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a waiting loop looks.
const POLL: Duration = Duration::from_millis(2);

/// The children alive, and the folder to remove should a signal end the bench.
struct Table {
    pids: Vec<i32>,
    folder: Option<PathBuf>,
}

static TABLE: Mutex<Table> = Mutex::new(Table { pids: Vec::new(), folder: None });

fn table() -> MutexGuard<'static, Table> {
    // The table is two plain values, valid at every instant: a panic elsewhere does not spoil it.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all children and removes `folder` when the bench is interrupted or terminated, with exit code 130.
///
/// # Errors
/// Signals cannot be listened for.
pub fn end_all_on_signal(folder: &Path) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    table().folder = Some(folder.to_path_buf());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
        });
        let table = table();
        for pid in &table.pids {
            send(*pid, Signal::KILL);
        }
        if let Some(folder) = &table.folder {
            // Failing to clean up is not worth a word on the way out.
            let _ = std::fs::remove_dir_all(folder);
        }
        std::process::exit(130);
    })?;
    Ok(())
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // The only failure is a process that has ended already, which is what was wanted.
        let _ = kill_process(pid, signal);
    }
}

/// A process of ours; ended when dropped.
pub struct Child {
    process: std::process::Child,
    name: String,
    ended: Option<ExitStatus>,
}

impl Child {
    /// Starts `command` and enters it in the table.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        // Entered under the lock that the signal thread needs, so that no child slips between start and entry.
        let mut table = table();
        let process = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        table.pids.push(process.id().cast_signed());
        Ok(Self { process, name: name.to_string(), ended: None })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end (SIGTERM), waits, and kills it after `STOP_WAIT_MAX`.
    ///
    /// # Errors
    /// It had to be killed: what it should have written is not to be trusted.
    pub fn stop(&mut self) -> Result<()> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        send(self.process.id().cast_signed(), Signal::TERM);
        let begun = Instant::now();
        while self.try_wait()?.is_none() {
            if begun.elapsed() > STOP_WAIT_MAX {
                self.kill();
                bail!("{} did not end within {} s of SIGTERM", self.name, STOP_WAIT_MAX.as_secs());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Its exit status if it has ended by itself or by `stop`.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            let mut table = table();
            self.ended = self.process.try_wait()?;
            if self.ended.is_some() {
                let pid = self.process.id().cast_signed();
                table.pids.retain(|entered| *entered != pid);
            }
        }
        Ok(self.ended)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It did not succeed, or ran longer than `limit`.
    pub fn finish(&mut self, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} failed: {status}", self.name),
                None if begun.elapsed() > limit => {
                    bail!("{} ran longer than {} s", self.name, limit.as_secs())
                }
                None => std::thread::sleep(POLL),
            }
        }
    }

    fn kill(&mut self) {
        send(self.process.id().cast_signed(), Signal::KILL);
        while matches!(self.try_wait(), Ok(None)) {
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}
