//! The three regions: their folder, secret, certificates and configurations, and their starts and stops.
//!
//! Everything is made by the same code that serves users (`peer::ca`, the configuration's own checks), so that the
//! demo shows a set-up that could be copied. It must never touch anything outside its folder.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use super::limits::{LOG_LINES_SHOWN, LOOK_EVERY, PROCESS_LOOK_EVERY, READY_MAX, REPLY_MAX};
use super::processes::{Processes, described};
use crate::config::{ClusterSecret, limits::SOCKET_PATH_BYTES_MAX};
use crate::peer::ca;
use crate::resp::{Client, Value};

/// The cluster's name, in certificates and hellos.
const CLUSTER_NAME: &str = "onced-demo";
/// Days the demo's certificates are valid.
const DAYS: u32 = 7;

/// A region of the demo.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// Region 1: the smallest id, so that it dials the others.
    Eu,
    /// Region 2.
    Us,
    /// Region 3.
    Ap,
}

impl Region {
    /// All of them, by id.
    pub const ALL: [Self; 3] = [Self::Eu, Self::Us, Self::Ap];

    /// Its name, as in certificates and replies.
    pub fn name(self) -> &'static str {
        ["eu", "us", "ap"][self as usize]
    }

    /// The other two.
    pub fn others(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |other| *other != self)
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    /// Removed at the end, unless the user chose the folder or something failed.
    scratch: Option<TempDir>,
    ports: [u16; 3],
    processes: Processes,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.processes.end_all();
    }
}

impl Cluster {
    /// Makes folder, CA, certificates, secret and configurations.
    ///
    /// # Errors
    /// Anything of that fails; the text says what to do.
    pub fn prepare(chosen: Option<&Path>, processes: Processes) -> anyhow::Result<Self> {
        let (folder, scratch) = match chosen {
            Some(folder) => (empty_folder(folder)?, None),
            None => {
                let made = tempfile::Builder::new().prefix("onced-demo-").tempdir();
                let made = made.context("cannot make a temporary folder; choose one with --dir")?;
                (made.path().to_owned(), Some(made))
            }
        };
        let cluster = Self { ports: free_ports()?, folder, scratch, processes };
        let longest = cluster.socket(Region::Eu);
        if longest.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            bail!(
                "{}: a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes; choose a shorter folder with --dir",
                longest.display()
            );
        }
        cluster.make_certificates()?;
        ClusterSecret::create(&cluster.folder.join("cluster.secret"))?;
        for region in Region::ALL {
            let path = cluster.config(region);
            std::fs::write(&path, cluster.config_text(region))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(cluster)
    }

    fn make_certificates(&self) -> Result<(), ca::CaError> {
        let now = SystemTime::now();
        let authority = ca::create_ca("onced demo", DAYS, now)?;
        ca::write_ca(&self.folder.join("ca"), &authority, false)?;
        let tls = self.folder.join("tls");
        for region in Region::ALL {
            let pair = ca::issue(&authority, CLUSTER_NAME, region.name(), DAYS, now)?;
            ca::write_region(&tls, region.name(), &pair, false)?;
        }
        ca::copy_ca_cert(&tls, &authority).map(|_| ())
    }

    fn config_text(&self, region: Region) -> String {
        let name = region.name();
        let mut text = format!(
            "# Region {name} of `onced demo`.\n\
             [cluster]\nname = \"{CLUSTER_NAME}\"\nsecret_file = \"cluster.secret\"\n\n\
             [region]\nname = \"{name}\"\nid = {}\ndata_dir = \"{name}\"\nlisten = \"{}\"\n\n\
             [tls]\nca_file = \"tls/ca.pem\"\ncert_file = \"tls/{name}.pem\"\nkey_file = \"tls/{name}.key\"\n\n\
             [socket]\npath = \"{name}.sock\"\n",
            region as usize + 1,
            self.address(region),
        );
        for other in region.others() {
            text.push_str(&format!(
                "\n[[peer]]\nname = \"{}\"\nid = {}\naddress = \"{}\"\n",
                other.name(),
                other as usize + 1,
                self.address(other)
            ));
        }
        text
    }

    /// Where it all is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder, if it is to be removed at the end.
    pub fn scratch(&self) -> Option<PathBuf> {
        self.scratch.as_ref().map(|scratch| scratch.path().to_owned())
    }

    /// A region's socket.
    pub fn socket(&self, region: Region) -> PathBuf {
        self.folder.join(format!("{}.sock", region.name()))
    }

    /// A region's log of its own doings.
    pub fn log(&self, region: Region) -> PathBuf {
        self.folder.join(format!("{}.log", region.name()))
    }

    /// Where a region listens for its peers.
    pub fn address(&self, region: Region) -> String {
        format!("127.0.0.1:{}", self.ports[region as usize])
    }

    fn config(&self, region: Region) -> PathBuf {
        self.folder.join(format!("{}.toml", region.name()))
    }

    /// Starts a region's daemon; its process number.
    ///
    /// # Errors
    /// The system refuses.
    pub fn start(&self, region: Region) -> anyhow::Result<u32> {
        self.processes.start(region.name(), &self.config(region), &self.log(region))
    }

    /// Waits until a region answers claims; a connection to it.
    ///
    /// # Errors
    /// Its daemon has ended, or is not ready in time; with the end of its log.
    pub fn wait_ready(&self, region: Region) -> anyhow::Result<Client> {
        let (name, deadline) = (region.name(), Instant::now() + READY_MAX);
        let mut client = None;
        loop {
            if let Some(status) = self.processes.ended(name) {
                bail!("{name} did not start ({}):\n{}", described(status), self.log_end(region));
            }
            client = client.or_else(|| Client::connect(self.socket(region), REPLY_MAX).ok());
            match client.as_mut().map(|client| client.call(&[b"STATUS"])) {
                Some(Ok(status)) if status.field("ready").and_then(Value::as_bool) == Some(true) => {
                    if let Some(mut client) = client.take() {
                        client.hello3()?;
                        return Ok(client);
                    }
                }
                Some(Ok(_)) => std::thread::sleep(LOOK_EVERY),
                Some(Err(_)) => client = None,
                None => std::thread::sleep(PROCESS_LOOK_EVERY),
            }
            if Instant::now() > deadline {
                bail!("{name} is not ready after {READY_MAX:?}:\n{}", self.log_end(region));
            }
        }
    }

    fn log_end(&self, region: Region) -> String {
        let text = std::fs::read_to_string(self.log(region)).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// The daemons' processes.
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    /// Ends what runs, and removes the folder if nothing in it is needed any more.
    ///
    /// # Errors
    /// The folder cannot be removed.
    pub fn end(mut self, remove: bool) -> std::io::Result<()> {
        self.processes.end_all();
        match self.scratch.take() {
            Some(scratch) if remove => scratch.close(),
            Some(scratch) => {
                let _kept = scratch.keep();
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// The folder the user chose: made, or there and empty.
fn empty_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let folder = folder.canonicalize().with_context(|| format!("cannot open {}", folder.display()))?;
    let mut entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
    if entries.next().is_some() {
        bail!("{} is not empty; choose a new folder with --dir", folder.display());
    }
    Ok(folder)
}

/// Three UDP ports that nobody uses at this moment, held together so that they differ.
fn free_ports() -> anyhow::Result<[u16; 3]> {
    let bind = || UdpSocket::bind("127.0.0.1:0").context("no free UDP port on 127.0.0.1");
    let sockets = [bind()?, bind()?, bind()?];
    let mut ports = [0; 3];
    for (port, socket) in ports.iter_mut().zip(&sockets) {
        *port = socket.local_addr().context("a UDP socket without an address")?.port();
    }
    Ok(ports)
}
