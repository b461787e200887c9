//! The daemons as child processes: started, watched, killed, and never left behind.
//!
//! Every child is in one registry from the moment it exists. Whoever ends the demo, its end, a panic or a signal,
//! empties the registry; after that nothing can be started any more. Children are in process groups of their own, so
//! that a terminal's Ctrl-C reaches the demo alone, which then decides.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::limits::PROCESS_LOOK_EVERY;

/// All daemons of the demo; clones are the same registry.
#[derive(Clone, Debug)]
pub struct Processes(Arc<Mutex<Registry>>);

#[derive(Debug, Default)]
struct Registry {
    children: BTreeMap<&'static str, Child>,
    over: bool,
}

impl Processes {
    /// None yet.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Starts `onced serve` for the region `name`; its log goes to `log`, after what is there.
    ///
    /// # Errors
    /// The demo is over, or the system refuses.
    pub fn start(&self, name: &'static str, config: &Path, log: &Path) -> anyhow::Result<u32> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&program);
        command.arg("serve").arg("--config").arg(config);
        command.env("ONCED_LOG", "info").process_group(0);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // Started under the lock: a child is never alive and unknown.
        let mut registry = self.lock();
        if registry.over {
            bail!("the demo is ending");
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child.id();
        registry.children.insert(name, child);
        Ok(pid)
    }

    /// How the daemon has ended, if it has.
    pub fn ended(&self, name: &str) -> Option<ExitStatus> {
        self.lock().children.get_mut(name)?.try_wait().ok().flatten()
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&self, name: &str) {
        if let Some(mut child) = self.lock().children.remove(name) {
            end(&mut child);
        }
    }

    /// SIGTERM: asks the daemon to stop in order.
    ///
    /// # Errors
    /// It is gone already.
    pub fn terminate(&self, name: &str) -> anyhow::Result<()> {
        let mut registry = self.lock();
        let child = registry.children.get_mut(name).with_context(|| format!("{name} does not run"))?;
        if let Some(status) = child.try_wait()? {
            bail!("{name} has ended by itself: {status}");
        }
        // Not waited for yet, so the number is still this child's.
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{name} has no process number"))?;
        kill_process(pid, Signal::TERM).with_context(|| format!("cannot signal {name}"))
    }

    /// Waits for the daemon's own end; what it ended with, in words a person reads.
    ///
    /// # Errors
    /// It has not ended within `limit`.
    pub fn wait(&self, name: &str, limit: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended(name) {
                self.lock().children.remove(name);
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{name} has not ended {limit:?} after SIGTERM");
            }
            std::thread::sleep(PROCESS_LOOK_EVERY);
        }
    }

    /// Kills what still runs; nothing can be started afterwards.
    pub fn end_all(&self) {
        let mut registry = self.lock();
        registry.over = true;
        registry.children.values_mut().for_each(end);
        registry.children.clear();
    }

    /// After a signal has ended everything, waits for the end of this process: what fails from then on fails because
    /// of that, and must neither be told nor change the exit code.
    pub fn leave_if_over(&self) {
        if self.lock().over {
            loop {
                std::thread::park();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Errors are ignored: they say that it has ended, which is what is wanted.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// An end as a person would say it.
pub fn described(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}
