//! The configuration: a TOML file in, a checked [`Config`] out, or every error at once.
//!
//! Two steps, so that nothing behind this module ever meets an unchecked value. `raw` is the file's shape,
//! read by serde with unknown fields denied; its leaves are untyped values with their place in the file.
//! `check` turns them into plain integers of milliseconds and bytes, enums and absolute paths, and goes on
//! after an error, so that one run shows all of them, each with file, line, column and what to do.
//! Rejected: typed leaves in `raw` (serde stops at the first wrong one and cannot say what to write instead),
//! and defaults spread over the code that uses them (they all stand in `check`, `policy` and `limits`).
//!
//! Parsing reads nothing but its input: users, groups, cores and folders come in as [`Surroundings`], which
//! makes it testable byte for byte. Whether the named files exist is another question, asked by
//! `onced check-config` and at start. No value of a secret or a key file may ever be kept in `Config`.

mod access;
mod accounts;
pub mod change;
mod check;
mod checker;
pub mod limits;
mod policy;
mod problem;
mod raw;
mod secret;
mod shares;
pub mod template;
pub mod units;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use access::{Access, AccessRule, Grants, Role, Who};
pub use accounts::Surroundings;
pub use check::{CLUSTER_NAME_DEFAULT, cluster_id, is_host_and_port};
pub use checker::is_region_name;
pub use policy::{
    Durable, Fallback, KeyTime, KeysAccepted, Level, NamespacePolicy, OnLeaseEnd, OnUnavailable, Policies,
};
pub use problem::{ConfigError, Problem};
pub use secret::{ClusterSecret, SecretError};

/// Everything `onced serve` needs to know, checked. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// What all regions share.
    pub cluster: Cluster,
    /// This region.
    pub region: Region,
    /// The other regions; empty for a region that stands alone.
    pub peers: Vec<Peer>,
    /// Present whenever there are peers.
    pub tls: Option<Tls>,
    /// The Unix socket and who may do what on it.
    pub socket: Socket,
    /// The log on disk.
    pub log: Log,
    /// Bound of all that is held in memory for keys, in bytes; new claims are refused beyond it (S6).
    pub max_memory_bytes: u64,
    /// Policies by namespace (S8).
    pub policies: Policies,
    /// After a start, claims wait at most this long for reachable peers, in milliseconds (S7).
    pub catch_up_wait_ms: u64,
    /// Where metrics are served over HTTP, if at all.
    pub metrics_listen: Option<SocketAddr>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
}

/// What all regions of a cluster must have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// Its name, as in its certificates.
    pub name: String,
    /// First 16 bytes of the name's blake3, for people to compare. What peers exchange covers the secret, too:
    /// `ClusterSecret::cluster_digest`.
    #[serde(serialize_with = "hex")]
    pub id: [u8; 16],
    /// Where the shared secret is.
    pub secret_file: PathBuf,
    /// Whether the daemon makes the secret itself when the file is missing: only without peers.
    pub secret_may_be_created: bool,
    /// Bound between any two regions' wall clocks, in milliseconds (S2).
    pub max_drift_ms: u64,
    /// The epoch of its membership: every change of peers takes the next one (S5).
    pub membership: u64,
}

/// This region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    /// Its name, as in its certificate.
    pub name: String,
    /// Its number; breaks ties between claims, so it never changes (S3).
    pub id: u16,
    /// Where log and identity are kept.
    pub data_dir: PathBuf,
    /// UDP address of QUIC; present whenever there are peers.
    pub listen: Option<SocketAddr>,
}

/// Another region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Its name, as in its certificate.
    pub name: String,
    /// Its number.
    pub id: u16,
    /// `host:port`, resolved at every dial: addresses of a region may change.
    pub address: String,
}

/// Where certificates and key are. They are read at start and at a reload, never kept here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// One or more CA certificates; two while rotating (S7).
    pub ca_file: PathBuf,
    /// This region's certificate, with intermediates if any.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// The Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Socket {
    /// Where it is.
    pub path: PathBuf,
    /// Its file mode.
    pub mode: u32,
    /// The group it is given to.
    pub gid: Option<u32>,
    /// Threads that serve it.
    pub threads: usize,
    /// Connections at once; further ones are refused.
    pub max_connections: usize,
    /// Who may do what.
    pub access: Access,
}

/// The log on disk (S6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Log {
    /// Least durability of namespaces that do not say otherwise.
    pub durable: Durable,
    /// Longest time written bytes stay unsynced at `interval`, in milliseconds.
    pub sync_interval_ms: u64,
    /// Size at which a segment is closed.
    pub segment_bytes: u64,
    /// Room kept allocated for everything but claims, for when the disk is full.
    pub reserve_bytes: u64,
    /// Written log kept in memory for peers.
    pub ring_bytes: u64,
    /// Log that runs cover and that is kept for peers which are away, in bytes.
    pub keep_bytes: u64,
}

impl Config {
    /// Reads and checks the file; relative paths in it are meant from its own folder.
    ///
    /// # Errors
    /// [`ConfigError`] with every error found; its text is for people.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = problem::read(path)?;
        Self::parse(&path.display().to_string(), &text, &Surroundings::of_this_host(path))
    }

    /// Checks `text`; `file` only names it in errors.
    ///
    /// # Errors
    /// [`ConfigError`] with every error found.
    pub fn parse(file: &str, text: &str, surroundings: &Surroundings) -> Result<Self, ConfigError> {
        check::check(file, text, surroundings)
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (id {})", self.name, units::hex(&self.id))
    }
}

/// Hex digits for JSON.
fn hex<S: serde::Serializer>(bytes: &[u8; 16], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&units::hex(bytes))
}
