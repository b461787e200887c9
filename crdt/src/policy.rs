//! What a namespace asks for (S8): plain values, already checked by whoever read the configuration.

use std::collections::BTreeMap;

use crate::limits;

/// How strong a claim must be (S5), weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Level {
    /// Acknowledged after local durability.
    #[default]
    Local,
    /// Decided by the key's home region.
    Home,
    /// Decided by a majority of regions.
    Quorum,
}

impl Level {
    /// The word by which people and replies name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Home => "home",
            Self::Quorum => "quorum",
        }
    }
}

/// What happens to a Held key whose leases are all over (S4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnLeaseEnd {
    /// The next claim takes over.
    #[default]
    Takeover,
    /// Nobody runs it again until somebody resolves it.
    Unknown,
}

/// How durable a reply's state must be before it leaves (S6), weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Durable {
    /// Written to the kernel; synced within the sync interval.
    #[default]
    Interval,
    /// Synced to disk.
    Always,
}

/// Where the key's own time stands in it (S4.1 EXPIRED).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KeyTime {
    /// The key carries none.
    #[default]
    None,
    /// What follows the last `:` is a UUIDv7.
    UuidV7,
    /// What follows the last `:` is a ULID.
    Ulid,
}

/// One namespace's policy (S8). Durations in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// How long a key is remembered.
    pub retention_ms: u64,
    /// How long a holder may be silent.
    pub lease_ms: u64,
    /// The least level of a request.
    pub level: Level,
    /// What happens when all leases are over.
    pub on_lease_end: OnLeaseEnd,
    /// The least durability of a reply.
    pub durable: Durable,
    /// Whether keys carry their time.
    pub key_time: KeyTime,
    /// Largest outcome in bytes; a larger one is refused whole.
    pub max_outcome_bytes: usize,
    /// Claims are refused when a peer's last word is older than this; `None`: never.
    pub max_staleness_ms: Option<u64>,
    /// How long a loser stays listed after its completion.
    pub conflict_retention_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retention_ms: 24 * 3600 * 1000,
            lease_ms: 30_000,
            level: Level::Local,
            on_lease_end: OnLeaseEnd::Takeover,
            durable: Durable::Interval,
            key_time: KeyTime::None,
            max_outcome_bytes: limits::OUTCOME_BYTES_DEFAULT,
            max_staleness_ms: None,
            conflict_retention_ms: limits::CONFLICT_RETENTION_MS_DEFAULT,
        }
    }
}

/// The policies of all namespaces.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policies {
    default: Policy,
    named: BTreeMap<Vec<u8>, Policy>,
}

impl Policies {
    /// `default` for every namespace that `named` does not name.
    pub fn new(default: Policy, named: BTreeMap<Vec<u8>, Policy>) -> Self {
        Self { default, named }
    }

    /// The policy of `key`'s namespace.
    pub fn of_key(&self, key: &[u8]) -> &Policy {
        if self.named.is_empty() {
            return &self.default;
        }
        self.named.get(crate::ids::namespace(key)).unwrap_or(&self.default)
    }
}
