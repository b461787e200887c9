//! What a namespace asks for (S8): the checked policy, its defaults and its checks.
//!
//! `[namespace.NAME]` takes over what it does not set from `[defaults]`, and that from the table below; the
//! result is flat, so that nobody looks values up in two places. What this version does not serve
//! (audit) is refused by name: a policy that is accepted and not kept would be a
//! promise broken silently.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use super::checker::{Checker, span_or};
use super::limits::{self, DAY_MS, KIB, SECOND_MS};
use super::raw::{Leaf, RawConfig, RawPolicy};
use super::units;

/// How strong a claim is (S5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Acknowledged after local durability.
    Local,
    /// Decided by the key's home region.
    Home,
    /// Decided by a majority of the regions.
    Quorum,
}

/// What a claim at `home` does when its home cannot be reached (S5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// Decide here.
    Local,
    /// Answer UNAVAILABLE.
    Refuse,
}

/// A region by name and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HomeRegion {
    /// As configured.
    pub name: String,
    /// As configured.
    pub id: u16,
}

/// What happens to a held key whose leases are all over (S4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLeaseEnd {
    /// The next claim takes over.
    Takeover,
    /// Nobody runs it again until somebody resolves it.
    Unknown,
}

/// How durable a reply's state is before it leaves (S6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durable {
    /// Written to the kernel, synced within the sync interval.
    Interval,
    /// Synced to disk.
    Always,
}

/// The words of [`Durable`] in the file.
pub(super) const DURABLE_WORDS: [(&str, Durable); 2] =
    [("interval", Durable::Interval), ("always", Durable::Always)];

/// Whether keys carry their own time (S4.1 EXPIRED).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyTime {
    /// They do not.
    None,
    /// What follows the last colon is a UUIDv7.
    UuidV7,
    /// What follows the last colon is a ULID.
    Ulid,
}

/// Which keys are accepted (S4.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeysAccepted {
    /// Whatever the caller chooses.
    Any,
    /// What TOKEN has issued.
    Issued,
}

/// What the gateway does while claims are unavailable (S9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnavailable {
    /// Refuse the request.
    Closed,
    /// Let it through undeduplicated.
    Open,
}

/// One namespace's policy (S8). Durations in milliseconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamespacePolicy {
    /// How long a key is remembered.
    pub retention_ms: u64,
    /// How long a holder may be silent.
    pub lease_ms: u64,
    /// Least level of a request.
    pub level: Level,
    /// The region that decides at `home`. `None`: each key has its own, spread evenly over all regions.
    pub home: Option<HomeRegion>,
    /// What `home` does without its home; of no effect where nothing is decided at that level.
    pub fallback: Fallback,
    /// What happens when all leases are over.
    pub on_lease_end: OnLeaseEnd,
    /// Least durability of a reply.
    pub durable: Durable,
    /// Whether keys carry their time.
    pub key_time: KeyTime,
    /// Which keys are accepted.
    pub keys: KeysAccepted,
    /// Largest outcome; a larger one is refused whole.
    pub max_outcome_bytes: u64,
    /// Most keys; new ones are refused beyond it. `None`: no bound of its own.
    pub max_keys: Option<u64>,
    /// Most bytes of its keys, and as many kept free for it. `None`: it shares what others leave.
    pub max_bytes: Option<u64>,
    /// Claims are refused when a peer was last heard longer ago. `None`: never.
    pub max_staleness_ms: Option<u64>,
    /// How long a loser stays listed.
    pub conflict_retention_ms: u64,
    /// Whether every decision is recorded. This version serves `false` only.
    pub audit: bool,
    /// What the gateway does while claims are unavailable.
    pub on_unavailable: OnUnavailable,
}

impl NamespacePolicy {
    /// What holds when the file says nothing (S8).
    pub const DEFAULT: Self = Self {
        retention_ms: DAY_MS,
        lease_ms: 30 * SECOND_MS,
        level: Level::Local,
        home: None,
        fallback: Fallback::Refuse,
        on_lease_end: OnLeaseEnd::Takeover,
        durable: Durable::Interval,
        key_time: KeyTime::None,
        keys: KeysAccepted::Any,
        max_outcome_bytes: 64 * KIB,
        max_keys: None,
        max_bytes: None,
        max_staleness_ms: None,
        conflict_retention_ms: 7 * DAY_MS,
        audit: false,
        on_unavailable: OnUnavailable::Closed,
    };
}

/// The policies of all namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policies {
    /// For every namespace without a table of its own.
    pub defaults: NamespacePolicy,
    /// By namespace; the empty name is that of keys without a colon (S1).
    pub named: BTreeMap<String, NamespacePolicy>,
}

/// Checks `[defaults]` and every `[namespace.NAME]`.
pub(super) fn check(
    checker: &mut Checker<'_>,
    raw: &RawConfig,
    log_durable: Durable,
    max_drift_ms: u64,
    regions: &[HomeRegion],
) -> Policies {
    let base = NamespacePolicy { durable: log_durable, ..NamespacePolicy::DEFAULT };
    let defaults = match &raw.defaults {
        Some(table) => {
            let policy = merge(checker, table.get_ref(), &base, regions);
            check_times(checker, table.get_ref(), &policy, &table.span(), max_drift_ms);
            policy
        }
        None => base,
    };
    let mut named = BTreeMap::new();
    for (name, table) in &raw.namespace {
        let span = name.span();
        let name = name.get_ref();
        if name.contains(':') || name.len() > limits::NAMESPACE_BYTES_MAX {
            let max = limits::NAMESPACE_BYTES_MAX;
            checker.error(
                &span,
                format!(
                    "[namespace.{name:?}] can never match; name what stands before a key's first colon, \
                     at most {max} bytes"
                ),
            );
        }
        let policy = merge(checker, table, &defaults, regions);
        check_times(checker, table, &policy, &span, max_drift_ms);
        named.insert(name.clone(), policy);
    }
    Policies { defaults, named }
}

fn merge(
    checker: &mut Checker<'_>,
    raw: &RawPolicy,
    base: &NamespacePolicy,
    regions: &[HomeRegion],
) -> NamespacePolicy {
    refuse_what_is_not_served(checker, raw);
    let levels = [("local", Level::Local), ("home", Level::Home), ("quorum", Level::Quorum)];
    let fallbacks = [("local", Fallback::Local), ("refuse", Fallback::Refuse)];
    let lease_ends = [("takeover", OnLeaseEnd::Takeover), ("unknown", OnLeaseEnd::Unknown)];
    let key_times = [("none", KeyTime::None), ("uuidv7", KeyTime::UuidV7), ("ulid", KeyTime::Ulid)];
    let accepted = [("any", KeysAccepted::Any), ("issued", KeysAccepted::Issued)];
    let unavailable = [("closed", OnUnavailable::Closed), ("open", OnUnavailable::Open)];
    NamespacePolicy {
        retention_ms: checker.duration_ms(
            &raw.retention,
            "retention",
            limits::RETENTION_MS,
            base.retention_ms,
        ),
        lease_ms: checker.duration_ms(&raw.lease, "lease", limits::LEASE_MS, base.lease_ms),
        level: checker.word(&raw.level, "level", &levels, base.level),
        home: home(checker, &raw.home, regions).or_else(|| base.home.clone()),
        fallback: checker.word(&raw.fallback, "fallback", &fallbacks, base.fallback),
        on_lease_end: checker.word(&raw.on_lease_end, "on_lease_end", &lease_ends, base.on_lease_end),
        durable: checker.word(&raw.durable, "durable", &DURABLE_WORDS, base.durable),
        key_time: checker.word(&raw.key_time, "key_time", &key_times, base.key_time),
        keys: checker.word(&raw.keys, "keys", &accepted, base.keys),
        max_outcome_bytes: checker.bytes(
            &raw.max_outcome,
            "max_outcome",
            limits::MAX_OUTCOME_BYTES,
            base.max_outcome_bytes,
        ),
        max_keys: checker.integer(&raw.max_keys, "max_keys", &limits::MAX_KEYS).or(base.max_keys),
        max_bytes: checker.optional_bytes(&raw.max_bytes, "max_bytes", limits::MAX_BYTES).or(base.max_bytes),
        max_staleness_ms: checker
            .optional_duration_ms(&raw.max_staleness, "max_staleness", limits::MAX_STALENESS_MS)
            .or(base.max_staleness_ms),
        conflict_retention_ms: checker.duration_ms(
            &raw.conflict_retention,
            "conflict_retention",
            limits::CONFLICT_RETENTION_MS,
            base.conflict_retention_ms,
        ),
        audit: base.audit,
        on_unavailable: checker.word(
            &raw.on_unavailable,
            "on_unavailable",
            &unavailable,
            base.on_unavailable,
        ),
    }
}

/// The region named, which must be one of the cluster's.
fn home(checker: &mut Checker<'_>, leaf: &Leaf, regions: &[HomeRegion]) -> Option<HomeRegion> {
    let (name, span) = checker.text(leaf, "home")?;
    let known = regions.iter().find(|region| region.name == name);
    if known.is_none() {
        let names: Vec<String> = regions.iter().map(|region| format!("{:?}", region.name)).collect();
        checker.error(
            &span,
            format!(
                "home: {name:?} is no region of this cluster; name this region or a [[peer]] ({}), the same in every \
                 region, or leave home out: keys are then spread over all regions",
                names.join(", ")
            ),
        );
    }
    known.cloned()
}

/// Audit, and keys that are said to carry two times.
fn refuse_what_is_not_served(checker: &mut Checker<'_>, raw: &RawPolicy) {
    let issued = checker.text(&raw.keys, "keys").is_some_and(|(text, _)| text == "issued");
    if let Some((text, span)) = checker.text(&raw.key_time, "key_time").filter(|_| issued)
        && text == "ulid"
    {
        let why =
            "key_time: issued keys carry the time of their UUIDv7; remove this line, or write keys = \"any\"";
        checker.error(&span, why);
    }
    if let Some(audit) = &raw.audit
        && audit.get_ref().as_bool() != Some(false)
    {
        checker.error(&audit.span(), "audit: is not in this version; write audit = false or leave it out");
    }
}

/// Retention must outlast a lease and both clocks' drift (S1), or a key could be forgotten while held.
fn check_times(
    checker: &mut Checker<'_>,
    raw: &RawPolicy,
    policy: &NamespacePolicy,
    table: &Range<usize>,
    max_drift_ms: u64,
) {
    let least = policy.lease_ms.saturating_add(max_drift_ms.saturating_mul(2));
    if policy.retention_ms <= least {
        // Whichever of the two was written here is what its author looks for.
        let at = if raw.retention.is_some() { &raw.retention } else { &raw.lease };
        checker.error(
            &span_or(at, table),
            format!(
                "retention: {} must be longer than lease + 2 x max_drift = {} + 2 x {} = {}; \
                 raise retention or lower lease",
                units::duration(policy.retention_ms),
                units::duration(policy.lease_ms),
                units::duration(max_drift_ms),
                units::duration(least)
            ),
        );
    }
}
