//! The shape of the file: which tables and keys exist. Nothing is checked here but their names.
//!
//! Leaves are untyped values with their span, so that `checker` can say what to write instead of serde's
//! "invalid type", and can go on after an error. Every table denies unknown keys: a misspelt `retenton` that
//! is silently a default is the kind of error that is found months later.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Spanned, Value};

/// One leaf, if it is there.
pub(super) type Leaf = Option<Spanned<Value>>;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    pub cluster: Option<Spanned<RawCluster>>,
    pub region: Option<Spanned<RawRegion>>,
    pub peer: Vec<Spanned<RawPeer>>,
    pub tls: Option<Spanned<RawTls>>,
    pub socket: RawSocket,
    pub access: Vec<Spanned<RawAccess>>,
    pub log: RawLog,
    pub memory: RawMemory,
    pub defaults: Option<Spanned<RawPolicy>>,
    pub namespace: BTreeMap<Spanned<String>, RawPolicy>,
    pub peers: RawPeers,
    pub metrics: RawMetrics,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCluster {
    pub name: Leaf,
    pub secret_file: Leaf,
    pub max_drift: Leaf,
    pub membership: Leaf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRegion {
    pub name: Leaf,
    pub id: Leaf,
    pub data_dir: Leaf,
    pub listen: Leaf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPeer {
    pub name: Leaf,
    pub id: Leaf,
    pub address: Leaf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    pub ca_file: Leaf,
    pub cert_file: Leaf,
    pub key_file: Leaf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSocket {
    pub path: Leaf,
    pub mode: Leaf,
    pub group: Leaf,
    pub threads: Leaf,
    pub max_connections: Leaf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAccess {
    pub uid: Leaf,
    pub user: Leaf,
    pub gid: Leaf,
    pub group: Leaf,
    pub role: Leaf,
    pub namespaces: Leaf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub durable: Leaf,
    pub sync_interval: Leaf,
    pub segment_bytes: Leaf,
    pub reserve_bytes: Leaf,
    pub ring_bytes: Leaf,
    pub keep_bytes: Leaf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMemory {
    pub max_memory: Leaf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPeers {
    pub catch_up_wait: Leaf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMetrics {
    pub listen: Leaf,
}

/// `[defaults]` and `[namespace.NAME]` (S8).
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPolicy {
    pub retention: Leaf,
    pub lease: Leaf,
    pub level: Leaf,
    pub home: Leaf,
    pub fallback: Leaf,
    pub on_lease_end: Leaf,
    pub durable: Leaf,
    pub key_time: Leaf,
    pub keys: Leaf,
    pub max_outcome: Leaf,
    pub max_keys: Leaf,
    pub max_bytes: Leaf,
    pub max_staleness: Leaf,
    pub conflict_retention: Leaf,
    pub audit: Leaf,
    pub on_unavailable: Leaf,
}
