//! `onced`: the process around one replica. Decisions are `crdt`'s; this crate moves bytes.
//!
//! Reading order: [`lifecycle`], [`driver`], [`socket`], [`log`], [`peer`].

pub mod backup;
pub mod boot;
pub mod cli;
pub mod config;
pub mod demo;
pub mod derive;
pub mod driver;
pub mod dump;
pub mod lifecycle;
pub mod log;
pub mod memory;
pub mod mend;
pub mod metrics;
pub mod peer;
pub mod priority;
pub mod reload;
pub mod resp;
pub mod socket;
