//! The shape of a scenario file: which tables and keys there are. Nothing is checked here but their names.
//!
//! Leaves are untyped values with their place, so that `checker` can say what to write instead and go on after an error.
//! Every table refuses unknown keys: a misspelt `durtion` that is silently a default makes a run that shows nothing.
//! `scenario.schema.json` says the same to editors; a test holds the two together.

use serde::Deserialize;
use toml::{Spanned, Value};

/// One leaf, if it is there.
pub(super) type Leaf = Option<Spanned<Value>>;
/// Several tables of a kind, each with its place.
pub(super) type Tables<T> = Vec<Spanned<T>>;

macro_rules! table {
    ($name:ident { $($leaf:ident),* $(,)? } $({ $($field:ident: $kind:ty),* $(,)? })?) => {
        #[derive(Deserialize, Default)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct $name {
            $(pub $leaf: Leaf,)*
            $($(pub $field: $kind,)*)?
        }
    };
}

table!(RawFile { name, about, seed, duration, max_drift, compare, sessions, keys, core } {
    region: Tables<RawRegion>,
    clock: Tables<RawClock>,
    links: RawLinks,
    link: Tables<RawLink>,
    disk: RawDisk,
    memory: RawMemory,
    namespace: Tables<RawNamespace>,
    workload: Option<Spanned<RawWorkload>>,
    storm: Tables<RawStorm>,
    job: Tables<RawJob>,
    event: Tables<RawEvent>,
    chaos: RawChaos,
    expect: RawExpect,
});
table!(RawRegion { name, place, later });
table!(RawClock { region, offset, drift });
table!(RawLinks {
    delay,
    jitter,
    loss,
    duplicate,
    reorder,
    replay,
    rate,
    queue,
    flap,
    distances,
    healed_delay,
    severed,
});
table!(RawLink { between, from, to, delay, jitter, loss, duplicate, reorder, rate, queue, flap });
table!(RawDisk { write, sync, segment, reserve, rotate_after, keep, checkpoints });
table!(RawMemory { ring, max });
table!(RawNamespace { name, lease, retention, on_lease_end, level, home, fallback, durable, max_keys, keys });
table!(RawWorkload {
    habits,
    services,
    rate,
    pause,
    work,
    zipf,
    gets,
    forgets,
    mismatches,
    unnamed,
    shared,
    short_leases,
    vanish,
    zombies,
    late_releases,
    releases,
    renewals,
    overtimes,
    twins,
    twin_gap,
    elsewhere,
    claims_elsewhere,
    completes_elsewhere,
    renews_elsewhere,
    looks_elsewhere,
    lost,
    forged,
    durable,
    waits,
    completes_again,
    other_outcome,
    resolves,
    claims_max,
    retry,
    patience,
});
table!(RawStorm { at, key, claims, within, work });
table!(RawJob { number, at, region, key, r#do, payload, claimant, lease, then, after, times });
table!(RawEvent {
    at, after, r#for, repeat, every, partition, one_way, ring, everywhere, pattern, flap, turn, mend, reset, crash,
    power_loss, wipe, backup, restore, from, upgrade, apart, swizzle, pause, down, clock, set, slow_disk, times, full_disk, room, disk_freed, stall, fuse, retry_fuse, calls,
    power, disk_error, call, rot, bit, reload, add, retire, fresh, rolling, reloads,
} {
    and: Tables<RawEvent>,
});
table!(RawChaos { kinds });
table!(RawExpect {
    conflicts_max,
    convergence_max,
    stale_max,
    window_max,
    keys_apart_max,
    refused_max,
    bytes_max,
    answers_min,
    answers_max,
    reached,
    never,
});
