//! One `onced` a region: configured, certified, started in its namespace, killed, wiped, started again.
//!
//! Each is a process of its own group, so that Ctrl-C reaches only the simulator, which then ends them; and each dies with
//! the simulator, if the machine has `setpriv`.
//!
//! Must never: end a process that it did not start; leave one behind.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::links::Links;
use super::machine::{is_installed, run};
use super::resp::Client;
use crate::scenario::Scenario;

/// The name in certificates and hellos.
const CLUSTER: &str = "onced-sim";
/// Days that certificates last.
const DAYS: &str = "2";
/// Bytes that stay free on a full disk; as little as a daemon takes.
const RESERVE: &str = "1MiB";
/// Lines of a log that are shown of a daemon that ended by itself.
const LOG_LINES_SHOWN: usize = 10;

/// See the module's text. Regions by index.
#[derive(Debug)]
pub struct Daemons {
    onced: PathBuf,
    names: Vec<String>,
    folder: PathBuf,
    children: Vec<Option<Child>>,
    dies_with_us: bool,
    /// Preloaded, so that wall clocks can be set.
    faketime: Option<PathBuf>,
}

impl Daemons {
    /// Writes all that daemons need into `folder` and starts none.
    ///
    /// # Errors
    /// What failed, and what to do.
    pub fn prepare(
        onced: &Path,
        folder: &Path,
        names: &[String],
        scenario: &Scenario,
        links: &Links,
        faketime: Option<PathBuf>,
    ) -> Result<Self, String> {
        let (ca, tls) = (folder.join("ca"), folder.join("tls"));
        let certify = |words: &[&str], at: &Path, out: &Path| {
            let mut command = Command::new(onced);
            command.arg("tls").args(words).args(["--days", DAYS, "--out"]).arg(out);
            if at != out {
                command.arg("--ca").arg(at);
            }
            run(&mut command).map_err(|error| format!("no certificates: {error}"))
        };
        certify(&["init-ca"], &ca, &ca)?;
        certify(&["issue", "--cluster", CLUSTER, "--all", &names.join(",")], &ca, &tls)?;
        let secret = folder.join("cluster.secret");
        write_private(&secret, &"5".repeat(64))?;
        for at in 0..names.len() {
            let own = folder.join(&names[at]);
            let written = fs::create_dir_all(&own)
                .and_then(|()| fs::write(own.join("onced.toml"), config(at, names, scenario, links)))
                .and_then(|()| fs::write(own.join("clock"), "+0"));
            written.map_err(|error| format!("{} cannot be written: {error}", own.display()))?;
            let mut check = Command::new(onced);
            run(check.arg("check-config").arg(own.join("onced.toml")))
                .map_err(|error| format!("a daemon cannot be configured for this scenario: {error}"))?;
        }
        let children = names.iter().map(|_| None).collect();
        let dies_with_us = is_installed("setpriv");
        let (onced, names, folder) = (onced.to_owned(), names.to_vec(), folder.to_owned());
        Ok(Self { onced, names, folder, children, dies_with_us, faketime })
    }

    /// Starts a region.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self, at: usize, links: &Links) -> Result<(), String> {
        let own = self.own(at);
        let log = File::options().create(true).append(true).open(own.join("log.txt"));
        let log = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.map_err(|error| format!("{} cannot be written: {error}", own.display()))?;
        let mut command = if self.dies_with_us {
            let mut command = links.command(at, Path::new("setpriv"));
            command.args(["--pdeathsig", "KILL"]).arg(&self.onced);
            command
        } else {
            links.command(at, &self.onced)
        };
        command.arg("serve").arg("--config").arg(own.join("onced.toml"));
        if let Some(library) = &self.faketime {
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", own.join("clock"));
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command.env("ONCED_LOG", "info").process_group(0);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().map_err(|error| format!("{command:?} cannot be started: {error}"))?;
        self.children[at] = Some(child);
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.children[at].take() {
            // Errors say that it has ended, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP, or SIGCONT.
    pub fn pause(&self, at: usize, paused: bool) {
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        let pid = self.children[at].as_ref().and_then(|child| Pid::from_raw(child.id().cast_signed()));
        if let Some(pid) = pid {
            // It is a child that nobody has waited for: the number is still its own.
            let _ = kill_process(pid, signal);
        }
    }

    /// Its disk is lost, while it is down.
    ///
    /// # Errors
    /// The folder cannot be deleted.
    pub fn wipe(&self, at: usize) -> Result<(), String> {
        let data = self.own(at).join("data");
        fs::remove_dir_all(&data).map_err(|error| format!("{} cannot be deleted: {error}", data.display()))
    }

    /// Sets its wall clock so far beyond the machine's.
    ///
    /// # Errors
    /// The file that says so cannot be replaced.
    pub fn set_clock(&self, at: usize, skew_ms: i64) -> Result<(), String> {
        let (own, skew) = (self.own(at), skew_ms as f64 / 1e3);
        // Replaced at once: it is read at every look at the clock.
        let set = fs::write(own.join("clock.new"), format!("{skew:+.3}"))
            .and_then(|()| fs::rename(own.join("clock.new"), own.join("clock")));
        set.map_err(|error| format!("the clock of {} cannot be set: {error}", self.names[at]))
    }

    /// Whether it has been started and not been killed since.
    pub fn runs(&self, at: usize) -> bool {
        self.children[at].is_some()
    }

    /// What is wrong with the first that has ended by itself.
    pub fn ended(&mut self) -> Option<String> {
        for at in 0..self.children.len() {
            let Some(Ok(Some(status))) = self.children[at].as_mut().map(Child::try_wait) else { continue };
            let log = fs::read_to_string(self.own(at).join("log.txt")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n  ");
            return Some(format!(
                "{} ended by itself ({status}); the end of its log:\n  {shown}",
                self.names[at]
            ));
        }
        None
    }

    /// A connection to a region.
    ///
    /// # Errors
    /// It is down, or silent for longer than `patience`.
    pub fn client(&self, at: usize, patience: Duration) -> std::io::Result<Client> {
        Client::connect(&self.socket(at), patience)
    }

    /// The socket of a region.
    pub fn socket(&self, at: usize) -> PathBuf {
        self.own(at).join("onced.sock")
    }

    fn own(&self, at: usize) -> PathBuf {
        self.folder.join(&self.names[at])
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        (0..self.children.len()).for_each(|at| self.kill(at));
    }
}

fn write_private(path: &Path, text: &str) -> Result<(), String> {
    use std::io::Write as _;
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

/// The configuration of a region.
fn config(at: usize, names: &[String], scenario: &Scenario, links: &Links) -> String {
    let (name, drift_ms) = (&names[at], scenario.max_drift_ms);
    let mut text = format!(
        "[cluster]\nname = \"{CLUSTER}\"\nsecret_file = \"../cluster.secret\"\nmax_drift = \"{drift_ms}ms\"\n\n\
         [region]\nname = \"{name}\"\nid = {}\ndata_dir = \"data\"\nlisten = \"{}\"\n\n\
         [tls]\nca_file = \"../tls/ca.pem\"\ncert_file = \"../tls/{name}.pem\"\nkey_file = \"../tls/{name}.key\"\n\n\
         [socket]\npath = \"onced.sock\"\nthreads = 1\n\n[log]\nreserve_bytes = \"{RESERVE}\"\n",
        at + 1,
        links.address(at, at),
    );
    // Writing into a String cannot fail.
    for other in (0..names.len()).filter(|other| *other != at) {
        let (name, address) = (&names[other], links.address(at, other));
        let _ = write!(text, "\n[[peer]]\nname = \"{name}\"\nid = {}\naddress = \"{address}\"\n", other + 1);
    }
    for namespace in &scenario.namespaces {
        let on_lease_end = if namespace.unknown_on_lease_end { "unknown" } else { "takeover" };
        let durable = if namespace.durable { "always" } else { "interval" };
        let _ = write!(
            text,
            "\n[namespace.{:?}]\nretention = \"{}ms\"\nlease = \"{}ms\"\non_lease_end = \"{on_lease_end}\"\n\
             durable = \"{durable}\"\n",
            namespace.name, namespace.retention_ms, namespace.lease_ms
        );
        let _ = writeln!(text, "level = \"{}\"", namespace.level.name());
        if let Some(max_keys) = namespace.max_keys {
            let _ = writeln!(text, "max_keys = {max_keys}");
        }
    }
    text
}
