//! redis-server, set up as the figures name it and as fast as it can be under that name.
//!
//! AOF rewrites are off while measuring, which favours redis: a rewrite in the middle of a round would be the round.
//! Must never listen on a port anyone else could reach: the replica's is on loopback, chosen free.

use super::{Durability, Kind, Server, Setting, log_to, pinned};
use crate::children::Child;
use crate::control;
use anyhow::{Context, Result};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long a replica may take to attach to an empty primary.
const REPLICA_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long the append-only file may take to be rewritten.
const REWRITE_WAIT_MAX: Duration = Duration::from_secs(300);

/// Starts redis, and its replica if `setting` asks for one.
///
/// # Errors
/// It cannot be started.
pub fn start(setting: Setting, folder: &Path) -> Result<Server> {
    let socket = folder.join("s");
    let port = if setting.replica { free_port()? } else { 0 };
    let mut processes = vec![launch(setting, folder, port, &[])?];
    if setting.replica {
        let replica = folder.join("replica");
        std::fs::create_dir_all(&replica)?;
        let of = format!("127.0.0.1 {port}");
        processes.push(launch(setting, &replica, free_port()?, &["--replicaof", &of])?);
    }
    Ok(Server { kind: Kind::Redis, socket, processes })
}

fn launch(setting: Setting, folder: &Path, port: u16, more: &[&str]) -> Result<Child> {
    let (append, sync) = match setting.durability {
        Durability::None => ("no", "no"),
        Durability::Soon => ("yes", "everysec"),
        Durability::Always => ("yes", "always"),
    };
    let mut command = pinned(setting.core, Path::new("redis-server"));
    command
        .args(["--daemonize", "no", "--save", "", "--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--appendonly", append, "--appendfsync", sync, "--auto-aof-rewrite-percentage", "0"])
        // A rewrite writes plain commands unless a figure asks for the preamble.
        .args(["--aof-use-rdb-preamble", "no", "--repl-diskless-sync-delay", "0"])
        .args(["--unixsocket", &folder.join("s").display().to_string()])
        .args(["--dir", &folder.display().to_string()])
        .args(more);
    log_to(&mut command, folder, "log")?;
    Child::start("redis-server", &mut command)
}

/// Waits until the replica follows.
///
/// # Errors
/// It does not within `REPLICA_WAIT_MAX`.
pub fn wait_for_replica(server: &Server) -> Result<()> {
    let attached = |reply: &[u8]| String::from_utf8_lossy(reply).contains("state=online");
    control::ask_until(&server.socket, &["INFO", "replication"], REPLICA_WAIT_MAX, attached)
        .context("redis's replica did not attach")?;
    Ok(())
}

/// Rewrites the append-only file so that it begins with a binary snapshot, as redis does by default in time.
///
/// # Errors
/// The rewrite fails or takes longer than `REWRITE_WAIT_MAX`.
pub fn rewrite_with_preamble(server: &Server) -> Result<()> {
    control::ask(&server.socket, &["CONFIG", "SET", "aof-use-rdb-preamble", "yes"])?;
    control::ask(&server.socket, &["BGREWRITEAOF"])?;
    let done = |reply: &[u8]| {
        control::number_in(reply, "aof_rewrite_in_progress") == Some(0)
            && control::number_in(reply, "aof_rewrite_scheduled") == Some(0)
    };
    control::ask_until(&server.socket, &["INFO", "persistence"], REWRITE_WAIT_MAX, done)
        .context("redis did not finish rewriting its append-only file")?;
    Ok(())
}

/// The version, or None when redis-server is not installed.
pub fn version() -> Option<String> {
    let output = Command::new("redis-server").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().find_map(|word| word.strip_prefix("v=")).map(String::from)
}

/// A TCP port nobody uses at this moment.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free TCP port on loopback")?;
    Ok(listener.local_addr()?.port())
}
