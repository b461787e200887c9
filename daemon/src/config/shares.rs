//! How the memory is shared out: what namespaces reserve, what the ring takes, and what is left for all
//! others (S6, S8).
//!
//! `max_bytes` is a ceiling and a reservation in one: that much of `max_memory` is kept free for its
//! namespace. So the sum must fit, or one of them would be promised what another one has.

use std::ops::Range;

use super::check::RING_BYTES_DEFAULT;
use super::checker::{Checker, span_or};
use super::limits::{self, MIB};
use super::policy::Policies;
use super::raw::RawConfig;
use super::units;

/// What the tables take before any key, in bytes; left out of what can be reserved.
const TABLES_BYTES: u64 = 2 * MIB;
/// The ring takes at most this part of the memory when nothing is said, in one out of so many.
const RING_PART: u64 = 4;
/// Names listed in a warning.
const NAMES_SHOWN_MAX: usize = 3;

/// The ring's size: what was given if it leaves half of the memory to keys.
pub(super) fn ring_bytes(checker: &mut Checker<'_>, raw: &RawConfig, max_memory_bytes: u64) -> u64 {
    let leaf = &raw.log.ring_bytes;
    let default = RING_BYTES_DEFAULT.min(max_memory_bytes / RING_PART);
    let ring_bytes = checker.bytes(leaf, "ring_bytes", limits::RING_BYTES, default);
    if !raw.peer.is_empty() && ring_bytes > max_memory_bytes / 2 {
        let (ring, max) = (units::bytes(ring_bytes), units::bytes(max_memory_bytes));
        checker.error(
            &span_or(leaf, &(0..0)),
            format!(
                "ring_bytes: {ring} is more than half of max_memory ({max}), of which it is a part; \
                 lower it or raise [memory] max_memory"
            ),
        );
    }
    ring_bytes
}

/// Checks that all reservations fit, and warns of namespaces that others could crowd out.
pub(super) fn check(
    checker: &mut Checker<'_>,
    raw: &RawConfig,
    policies: &Policies,
    max_memory_bytes: u64,
    ring_bytes: u64,
) {
    let ring_bytes = if raw.peer.is_empty() { 0 } else { ring_bytes };
    let free = max_memory_bytes.saturating_sub(ring_bytes + TABLES_BYTES);
    let defaults = raw.defaults.as_ref().map(|table| {
        let span = span_or(&table.get_ref().max_bytes, &table.span());
        ("(others)", span, &policies.defaults)
    });
    let named = raw.namespace.iter().filter_map(|(name, table)| {
        let span: Range<usize> = span_or(&table.max_bytes, &name.span());
        Some((name.get_ref().as_str(), span, policies.named.get(name.get_ref())?))
    });
    let (mut reserved, mut quotas) = (0u64, 0usize);
    let mut without = Vec::new();
    for (name, span, policy) in defaults.into_iter().chain(named) {
        let Some(max_bytes) = policy.max_bytes else {
            if name != "(others)" {
                without.push((name, span));
            }
            quotas += usize::from(policy.max_keys.is_some());
            continue;
        };
        quotas += 1;
        reserved = reserved.saturating_add(max_bytes);
        if reserved > free {
            let (sum, max) = (units::bytes(reserved), units::bytes(max_memory_bytes));
            checker.error(
                &span,
                format!(
                    "max_bytes: with this one namespaces reserve {sum} together, and max_memory ({max}) has {} for \
                     them; lower some or raise [memory] max_memory",
                    units::bytes(free)
                ),
            );
            return;
        }
    }
    if quotas > crdt::limits::QUOTAS_MAX {
        let max = crdt::limits::QUOTAS_MAX;
        checker.error(
            &(0..0),
            format!("more than {max} namespaces have quotas; leave max_keys and max_bytes out of some"),
        );
    }
    warn_of_sharing(checker, &without, free - reserved);
}

fn warn_of_sharing(checker: &mut Checker<'_>, without: &[(&str, Range<usize>)], shared: u64) {
    let Some((_, span)) = without.first() else { return };
    let names: Vec<_> = without.iter().take(NAMES_SHOWN_MAX).map(|(name, _)| format!("{name:?}")).collect();
    let more = without.len().saturating_sub(NAMES_SHOWN_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    checker.warn(
        span,
        format!(
            "no max_bytes for {}{more}: it shares {} with every namespace that has none, and when any of them fills \
             that, its claims are refused; max_bytes reserves a part",
            names.join(", "),
            units::bytes(shared)
        ),
    );
}
