//! Watches how full memory and the namespaces' quotas are: gauges for machines, and one line in the log
//! for people whenever a bound comes near, is reached, or is far again (S6, INV-14).
//!
//! Must never: decide; what is refused is `crdt`'s to say.

use std::collections::BTreeMap;

use crdt::store::{Memory, Pressure, QuotaUse, Store};
use metrics::gauge;

use crate::config::units;

/// What was said last, so that it is said once.
#[derive(Debug, Default)]
pub struct MemoryWatch {
    memory: Pressure,
    quotas: BTreeMap<String, Pressure>,
}

impl MemoryWatch {
    /// Measures, sets the gauges and says what has changed. To be called a few times a second.
    pub fn look(&mut self, store: &Store) {
        let memory = store.measure();
        let before = self.memory;
        self.memory = memory.pressure(before);
        set_gauges(&memory, self.memory);
        if self.memory != before {
            say_memory(&memory, before, self.memory);
        }
        for quota in store.quotas() {
            let name = quota_name(&quota);
            let known = self.quotas.entry(name.clone()).or_default();
            let before = *known;
            *known = quota.pressure(before);
            gauge!("onced_namespace_keys", "namespace" => name.clone()).set(quota.keys as f64);
            gauge!("onced_namespace_bytes", "namespace" => name.clone()).set(quota.bytes as f64);
            gauge!("onced_namespace_pressure", "namespace" => name.clone()).set(number(*known));
            if *known != before {
                say_quota(&name, &quota, before, *known);
            }
        }
    }
}

/// A namespace as people read it; keys without a table of their own are counted together.
pub fn quota_name(quota: &QuotaUse) -> String {
    match &quota.namespace {
        Some(name) => String::from_utf8_lossy(name).into_owned(),
        None => "(others)".to_owned(),
    }
}

fn set_gauges(memory: &Memory, pressure: Pressure) {
    gauge!("onced_memory_bytes").set(memory.held_bytes() as f64);
    gauge!("onced_memory_max_bytes").set(memory.max_bytes as f64);
    gauge!("onced_memory_free_bytes").set(memory.free_bytes as f64);
    gauge!("onced_memory_reserved_bytes").set(memory.reserved_bytes as f64);
    gauge!("onced_memory_pressure").set(number(pressure));
    for (part, bytes) in memory.parts() {
        gauge!("onced_memory_part_bytes", "part" => part).set(bytes as f64);
    }
}

/// 0: calm, 1: near its bound, 2: full.
fn number(pressure: Pressure) -> f64 {
    f64::from(pressure as u8)
}

fn say_memory(memory: &Memory, before: Pressure, now: Pressure) {
    let (held, max) = (memory.held_bytes(), memory.max_bytes);
    let percent = held as u128 * 100 / max.max(1) as u128;
    let (held, bound) = (rounded(held), units::bytes(max as u64));
    let reserved = rounded(memory.reserved_bytes);
    match now {
        Pressure::Full => {
            tracing::error!(
                %held, %bound, percent, %reserved,
                "memory is full: new claims are answered UNAVAILABLE full until keys expire, except in namespaces with \
                 max_bytes; raise [memory] max_memory or shorten retention"
            );
        }
        Pressure::Near if before == Pressure::Calm => {
            tracing::warn!(
                %held, %bound, percent, %reserved,
                "memory, or the part of it that is not reserved, is used to 80 %: beyond 100 % new claims are refused; \
                 raise [memory] max_memory or shorten retention"
            );
        }
        Pressure::Near => {
            tracing::warn!(%held, %bound, percent, "memory is no longer full: claims are granted again");
        }
        Pressure::Calm => {
            tracing::info!(%held, %bound, percent, "memory is far from its bound again");
        }
    }
}

fn say_quota(name: &str, quota: &QuotaUse, before: Pressure, now: Pressure) {
    let QuotaUse { keys, bytes, max_keys, max_bytes, .. } = quota;
    match now {
        Pressure::Full => {
            tracing::error!(
                namespace = name,
                keys,
                ?max_keys,
                bytes,
                ?max_bytes,
                "a namespace has reached its quota: its new claims are answered UNAVAILABLE quota until its keys expire; \
             raise its max_keys or max_bytes, or shorten its retention"
            );
        }
        Pressure::Near if before == Pressure::Calm => {
            tracing::warn!(
                namespace = name,
                keys,
                ?max_keys,
                bytes,
                ?max_bytes,
                "a namespace has used 80 % of its quota: beyond 100 % its new claims are refused"
            );
        }
        Pressure::Near => {
            tracing::warn!(
                namespace = name,
                keys,
                bytes,
                "a namespace is below its quota: its claims are granted again"
            );
        }
        Pressure::Calm => {
            tracing::info!(namespace = name, keys, bytes, "a namespace is far from its quota again");
        }
    }
}

/// Bytes in the largest unit that leaves at least one, rounded down: exact figures are in the gauges.
fn rounded(bytes: usize) -> String {
    let bytes = bytes as u64;
    let unit = [1 << 20, 1 << 10].into_iter().find(|unit| bytes >= *unit).unwrap_or(1);
    units::bytes(bytes / unit * unit)
}
