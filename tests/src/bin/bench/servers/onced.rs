//! `onced serve`, with a configuration written for the run: one region, or two of a cluster over QUIC.
//!
//! Defaults stay wherever a figure does not name a setting: what is measured is what a user gets. Only the bound of
//! memory is raised, because five million keys do not fit into the default. Must never switch off anything the
//! product does.

use super::{Durability, Kind, Programs, Server, Setting, log_to, pinned};
use crate::children::Child;
use crate::control;
use crate::resp;
use anyhow::{Context, Result};
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long the peer may take to be linked.
const PEER_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long making a certificate may take.
const TOOL_WAIT_MAX: Duration = Duration::from_secs(30);
/// The regions' names: the first is driven, the second follows.
const REGIONS: [&str; 2] = ["bench-a", "bench-b"];

/// Starts onced, and a second region if `setting` asks for a replica.
///
/// # Errors
/// It cannot be started, or certificates cannot be made.
pub fn start(programs: &Programs, setting: Setting, folder: &Path) -> Result<Server> {
    let socket = folder.join("s");
    if !setting.replica {
        let processes = vec![launch(programs, setting, folder, &config(setting, REGIONS[0], 1, folder))?];
        return Ok(Server { kind: Kind::Onced, socket, processes });
    }
    let ports = [free_port()?, free_port()?];
    prepare_cluster(programs, folder)?;
    let mut processes = Vec::new();
    for (own, region) in REGIONS.iter().enumerate() {
        // The region that is driven lives in the folder itself, like a single one.
        let own_folder = if own == 0 { folder.to_path_buf() } else { folder.join("b") };
        std::fs::create_dir_all(&own_folder)?;
        let text = config(setting, region, own + 1, &own_folder) + &cluster_config(folder, ports, own);
        processes.push(launch(programs, setting, &own_folder, &text)?);
    }
    Ok(Server { kind: Kind::Onced, socket, processes })
}

/// Waits until the second region is linked.
///
/// # Errors
/// It is not within `PEER_WAIT_MAX`.
pub fn wait_for_peer(server: &Server) -> Result<()> {
    let linked = |reply: &[u8]| reply.windows(6).any(|word| word == b"linked");
    control::ask_until(&server.socket, &["PEERS"], PEER_WAIT_MAX, linked)
        .context("the peer was not linked")?;
    Ok(())
}

/// How many keys it holds.
///
/// # Errors
/// STATUS does not say.
pub fn keys(socket: &Path) -> Result<u64> {
    let reply = control::ask(socket, &["STATUS"])?;
    let keys = resp::field(&reply, b"keys").context("STATUS has no field `keys`")?;
    Ok(String::from_utf8_lossy(keys).trim().parse()?)
}

fn launch(programs: &Programs, setting: Setting, folder: &Path, config: &str) -> Result<Child> {
    let file = folder.join("onced.toml");
    std::fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = pinned(setting.core, &programs.onced);
    command.arg("serve").arg("--config").arg(&file);
    log_to(&mut command, folder, "log")?;
    Child::start("onced", &mut command)
}

fn config(setting: Setting, region: &str, id: usize, folder: &Path) -> String {
    let durable = if setting.durability == Durability::Always { "always" } else { "interval" };
    let folder = folder.display();
    // Tables that a cluster adds to come last: [region] has to be closed by nothing else before `listen`.
    format!(
        "[socket]\npath = \"{folder}/s\"\n\n[log]\ndurable = \"{durable}\"\n\n[memory]\nmax_memory = \"16GiB\"\n\n\
         [region]\nname = \"{region}\"\nid = {id}\ndata_dir = \"{folder}/data\"\n"
    )
}

/// What a region adds to its configuration when there is another.
fn cluster_config(folder: &Path, ports: [u16; 2], own: usize) -> String {
    let (folder, region, other) = (folder.display(), REGIONS[own], REGIONS[1 - own]);
    format!(
        "listen = \"127.0.0.1:{}\"\n\n[cluster]\nsecret_file = \"{folder}/cluster.secret\"\n\n\
         [tls]\nca_file = \"{folder}/tls/ca.pem\"\ncert_file = \"{folder}/tls/{region}.pem\"\n\
         key_file = \"{folder}/tls/{region}.key\"\n\n\
         [[peer]]\nname = \"{other}\"\nid = {}\naddress = \"127.0.0.1:{}\"\n",
        ports[own],
        2 - own,
        ports[1 - own]
    )
}

/// A CA, a certificate for each region and the secret they share.
fn prepare_cluster(programs: &Programs, folder: &Path) -> Result<()> {
    let (ca, tls) = (folder.join("ca"), folder.join("tls"));
    tool(programs, &["tls", "init-ca", "--out", &ca.display().to_string()], folder)?;
    for region in REGIONS {
        let words = ["tls", "issue", "--ca", &ca.display().to_string(), "--region", region];
        tool(programs, &[&words[..], &["--out", &tls.display().to_string()]].concat(), folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    let path = folder.join("cluster.secret");
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
    // Loopback, for a minute: the value only has to be the same in both and long enough.
    file.write_all("bench".repeat(13).as_bytes())?;
    Ok(())
}

/// Runs a short-lived subcommand of onced.
fn tool(programs: &Programs, words: &[&str], folder: &Path) -> Result<()> {
    let name = format!("onced {}", words.join(" "));
    let mut command = Command::new(&programs.onced);
    log_to(command.args(words), folder, "log")?;
    let done = Child::start(&name, &mut command)?.finish(TOOL_WAIT_MAX);
    done.with_context(|| std::fs::read_to_string(folder.join("log")).unwrap_or_default())
}

/// A UDP port nobody uses at this moment.
fn free_port() -> Result<u16> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("no free UDP port on loopback")?;
    Ok(socket.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_regions_name_each_other() {
        let folder = Path::new("/x");
        let setting = Setting { replica: true, ..Setting::alone(Durability::Always) };
        let text = config(setting, REGIONS[1], 2, folder) + &cluster_config(folder, [4001, 4002], 1);
        for line in [
            "name = \"bench-b\"\nid = 2\ndata_dir = \"/x/data\"\nlisten = \"127.0.0.1:4002\"",
            "durable = \"always\"",
            "name = \"bench-a\"\nid = 1\naddress = \"127.0.0.1:4001\"",
            "cert_file = \"/x/tls/bench-b.pem\"",
        ] {
            assert!(text.contains(line), "{line} is missing from:\n{text}");
        }
    }
}
