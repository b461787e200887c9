//! Everything in onced that decides: the clock, entries and their join, the decisions, the dedup map,
//! the formats on disk and wire, replication. SEMANTICS sections (S…) and invariants (INV-…) are
//! quoted where they are kept.
//!
//! No IO, no wall clock, no OS randomness, no async: time, randomness, disk and network are arguments,
//! so that the daemon and the simulator run the same lines. `clippy.toml` in this folder makes that a
//! check.
//!
//! Reading order: [`hlc`], [`entry`], [`decide`], [`store`], [`node`], [`recovery`].

pub mod canary;
pub mod conflict;
pub mod decide;
pub mod digest;
pub mod entry;
pub mod hash;
pub mod hlc;
pub mod ids;
pub mod issued;
pub mod journal;
pub mod limits;
pub mod node;
pub mod policy;
pub mod recovery;
pub mod request;
pub mod snapshot;
pub mod store;
mod sync;
pub mod token;
pub mod wire;
