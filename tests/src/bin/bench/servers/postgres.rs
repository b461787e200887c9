//! PostgreSQL for one figure: an idempotency table, `INSERT … ON CONFLICT DO NOTHING`, one client, durable.
//!
//! It is what most teams use today, and at one connection it is the fastest durable peer there is, thanks to its
//! preallocated segments. `pgbench` with prepared statements drives it, which is as fast as it gets. Optional: its
//! programs are looked for where Debian puts them, and without them the row says so. PostgreSQL refuses to run as
//! root, so as root it is given to the user `postgres`. It must never touch a cluster that is there already.

use super::log_to;
use crate::children::Child;
use anyhow::{Context, Result, bail};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest that initialising, starting or one round may take.
const STEP_WAIT_MAX: Duration = Duration::from_secs(120);
/// How often a starting server is asked again.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// What a claim is there: a row that only the first insert makes.
const TABLE: &str = "CREATE TABLE claims (key text PRIMARY KEY, note text, expires_at timestamptz)";
const INSERT: &str = "\\set n random(1, 1000000)\nINSERT INTO claims VALUES ('key:' || :n, 'x', now() + interval '1 day') \
                      ON CONFLICT DO NOTHING;\n";

/// A running PostgreSQL with an empty table.
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    owner: Option<(u32, u32)>,
    /// Ends the server when dropped.
    _server: Child,
}

/// Folder of the programs, or None where PostgreSQL is not installed or cannot be run.
pub fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    let complete = |folder: &PathBuf| {
        ["initdb", "postgres", "psql", "pgbench"].iter().all(|name| folder.join(name).exists())
    };
    let found = folders.into_iter().rev().find(complete)?;
    (!rustix::process::geteuid().is_root() || owner().is_some()).then_some(found)
}

/// User and group `postgres`.
fn owner() -> Option<(u32, u32)> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = accounts.lines().find(|line| line.starts_with("postgres:"))?;
    let mut numbers = line.split(':').skip(2).map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

impl Postgres {
    /// Makes a cluster in `folder` and starts it, on a socket only.
    ///
    /// # Errors
    /// One of its programs fails; the message ends with what it printed.
    pub fn start(programs: &Path, folder: &Path) -> Result<Self> {
        let owner = if rustix::process::geteuid().is_root() { owner() } else { None };
        std::fs::create_dir_all(folder)?;
        if let Some((user, group)) = owner {
            chown(folder, Some(user), Some(group))?;
            // The bench's own folder is closed to others; PostgreSQL's user has to pass through it.
            let parent = folder.parent().context("the folder has no parent")?;
            std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o711))?;
        }
        let data = folder.join("pg").display().to_string();
        let tool = |program: &str| command(&programs.join(program), folder, owner);
        run(tool("initdb").args(["-D", &data, "-A", "trust", "-U", "postgres"]), folder)?;
        let mut server = tool("postgres");
        // Its defaults are durable; no TCP, and no checkpoint in the middle of a round.
        server.args(["-D", &data, "-k", &folder.display().to_string(), "-c", "listen_addresses="]);
        server.args(["-c", "max_wal_size=8GB", "-c", "checkpoint_timeout=30min"]);
        log_to(&mut server, folder, "log")?;
        let server = Child::start("postgres", &mut server)?;
        let postgres =
            Self { programs: programs.to_path_buf(), folder: folder.to_path_buf(), owner, _server: server };
        let begun = Instant::now();
        while let Err(error) = postgres.run_tool("psql", &["-c", TABLE]) {
            if begun.elapsed() > STEP_WAIT_MAX {
                return Err(error);
            }
            std::thread::sleep(RETRY_EVERY);
        }
        std::fs::write(folder.join("insert.sql"), INSERT)?;
        Ok(postgres)
    }

    /// One client inserts `requests` rows, each committed; returns inserts a second.
    ///
    /// # Errors
    /// `pgbench` fails or prints what is not understood.
    pub fn round(&self, requests: u64) -> Result<f64> {
        self.run_tool("psql", &["-c", "TRUNCATE claims"])?;
        let script = self.folder.join("insert.sql").display().to_string();
        let requests = requests.to_string();
        let text =
            self.run_tool("pgbench", &["-n", "-M", "prepared", "-c", "1", "-t", &requests, "-f", &script])?;
        parse_rate(&text).with_context(|| format!("pgbench printed what is not understood:\n{text}"))
    }

    fn run_tool(&self, program: &str, words: &[&str]) -> Result<String> {
        let mut command = command(&self.programs.join(program), &self.folder, self.owner);
        command.args(["-h", &self.folder.display().to_string(), "-U", "postgres"]).args(words);
        run(command.arg("postgres"), &self.folder)
    }
}

/// A program of PostgreSQL as the user it accepts.
fn command(program: &Path, folder: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("LC_ALL", "C");
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

/// Runs a short-lived program; returns what it printed.
fn run(command: &mut Command, folder: &Path) -> Result<String> {
    let name = command.get_program().display().to_string();
    log_to(command, folder, "tool-output")?;
    let finished = Child::start(&name, command)?.finish(STEP_WAIT_MAX);
    let text = std::fs::read_to_string(folder.join("tool-output"))?;
    if let Err(error) = finished {
        bail!("{error:#}: {}", text.trim());
    }
    Ok(text)
}

/// `tps = 5170.123456 (without initial connection time)`
fn parse_rate(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_pgbench_is_read() {
        let text = "latency average = 0.2 ms\ntps = 5170.5 (without initial connection time)\n";
        assert_eq!(parse_rate(text), Some(5170.5));
        assert_eq!(parse_rate("pgbench: error"), None);
    }
}
