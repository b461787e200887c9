//! What a namespace asks for (S8): plain values, already checked by whoever read the configuration.

use std::collections::BTreeMap;

use crate::ids::RegionId;
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

/// What a request at `home` comes to while the key's home cannot be asked (S5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fallback {
    /// Nothing is granted; outcomes are recorded where they arrive.
    #[default]
    Refuse,
    /// It is decided where it arrived, and the reply says so.
    Local,
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
    /// The region that decides at `home`; `None`: the keys are spread over all regions.
    pub home: Option<RegionId>,
    /// What a request at `home` comes to while that region cannot be asked.
    pub fallback: Fallback,
    /// What happens when all leases are over.
    pub on_lease_end: OnLeaseEnd,
    /// The least durability of a reply.
    pub durable: Durable,
    /// Whether keys carry their time.
    pub key_time: KeyTime,
    /// Only keys that the cluster has issued are accepted (S4.9); they carry their time.
    pub issued_only: bool,
    /// Largest outcome in bytes; a larger one is refused whole.
    pub max_outcome_bytes: usize,
    /// Claims are refused when a peer's last word is older than this; `None`: never.
    pub max_staleness_ms: Option<u64>,
    /// How long a loser stays listed after its completion.
    pub conflict_retention_ms: u64,
    /// Most keys remembered here; new ones are refused beyond it. `None`: no bound of its own.
    pub max_keys: Option<u64>,
    /// Most bytes of keys and their share of the index; claims are refused beyond it. As many are kept free
    /// for this namespace. `None`: it shares what others leave.
    pub max_bytes: Option<u64>,
}

impl Policy {
    /// Whether its namespace is counted apart.
    pub const fn has_quota(&self) -> bool {
        self.max_keys.is_some() || self.max_bytes.is_some()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retention_ms: 24 * 3600 * 1000,
            lease_ms: 30_000,
            level: Level::Local,
            home: None,
            fallback: Fallback::Refuse,
            on_lease_end: OnLeaseEnd::Takeover,
            durable: Durable::Interval,
            key_time: KeyTime::None,
            issued_only: false,
            max_outcome_bytes: limits::OUTCOME_BYTES_DEFAULT,
            max_staleness_ms: None,
            conflict_retention_ms: limits::CONFLICT_RETENTION_MS_DEFAULT,
            max_keys: None,
            max_bytes: None,
        }
    }
}

/// Numbers the namespaces that are counted apart, from 0; all namespaces without a table are one.
pub type Quota = usize;

/// The policies of all namespaces.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policies {
    default: Ruled,
    named: BTreeMap<Vec<u8>, Ruled>,
}

/// A policy, and the number under which its namespace is counted if it has a quota.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Ruled {
    policy: Policy,
    quota: Option<Quota>,
}

impl Policies {
    /// `default` for every namespace that `named` does not name.
    pub fn new(default: Policy, named: BTreeMap<Vec<u8>, Policy>) -> Self {
        let mut numbers = 0..;
        let mut ruled = |policy: Policy| {
            let quota = if policy.has_quota() { numbers.next() } else { None };
            Ruled { policy, quota }
        };
        let default = ruled(default);
        Self { default, named: named.into_iter().map(|(name, policy)| (name, ruled(policy))).collect() }
    }

    /// The policy of `key`'s namespace.
    pub fn of_key(&self, key: &[u8]) -> &Policy {
        self.counted(key).0
    }

    /// The policy of `key`'s namespace, and the number under which it is counted if it has a quota.
    pub fn counted(&self, key: &[u8]) -> (&Policy, Option<Quota>) {
        let ruled = if self.named.is_empty() {
            &self.default
        } else {
            self.named.get(crate::ids::namespace(key)).unwrap_or(&self.default)
        };
        (&ruled.policy, ruled.quota)
    }

    /// The namespaces that have a policy of their own, in order.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.named.keys().map(Vec::as_slice)
    }

    /// Whether any namespace is decided by majorities (S5).
    pub fn ask_majorities(&self) -> bool {
        let asks = |ruled: &Ruled| ruled.policy.level == Level::Quorum;
        asks(&self.default) || self.named.values().any(asks)
    }

    /// Whether any namespace is decided by the home of each key (S5).
    pub fn ask_homes(&self) -> bool {
        let asks = |ruled: &Ruled| ruled.policy.level == Level::Home;
        asks(&self.default) || self.named.values().any(asks)
    }

    /// Whether these and `other` count the same namespaces apart, and all keys alike.
    pub fn counts_like(&self, other: &Self) -> bool {
        let quotas =
            |policies: &Self| policies.quotas().map(|(name, _)| name.map(<[u8]>::to_vec)).collect::<Vec<_>>();
        // What has no table of its own is counted with the default's: a new table takes its keys from there.
        let tables = self.default.quota.is_none() || self.named.keys().eq(other.named.keys());
        tables && quotas(self) == quotas(other)
    }

    /// Namespaces with a quota in the order of their numbers; `None` is all without a table.
    pub fn quotas(&self) -> impl Iterator<Item = (Option<&[u8]>, &Policy)> {
        let named = self.named.iter().map(|(name, ruled)| (Some(name.as_slice()), ruled));
        let all = std::iter::once((None, &self.default)).chain(named);
        all.filter(|(_, ruled)| ruled.quota.is_some()).map(|(name, ruled)| (name, &ruled.policy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_with_a_quota_are_numbered_and_the_unnamed_are_one() {
        let quota = Policy { max_keys: Some(9), ..Policy::default() };
        let named = [("b", quota.clone()), ("a", Policy::default()), ("c", quota.clone())];
        let named: BTreeMap<_, _> =
            named.into_iter().map(|(name, policy)| (name.as_bytes().to_vec(), policy)).collect();
        let policies = Policies::new(quota, named.clone());
        let numbers = [&b"x:1"[..], b"nocolon", b"a:1", b"b:1", b"c:1"].map(|key| policies.counted(key).1);
        assert_eq!(numbers, [Some(0), Some(0), None, Some(1), Some(2)]);
        let names: Vec<_> = policies.quotas().map(|(name, _)| name).collect();
        assert_eq!(names, [None, Some(&b"b"[..]), Some(b"c")]);
        let without = Policies::new(Policy::default(), named);
        assert_eq!((without.counted(b"x:1").1, without.counted(b"b:1").1), (None, Some(0)));
    }
}
