//! `onced`: the process around one replica. Decisions are `crdt`'s; this crate moves bytes.
//!
//! Reading order: [`lifecycle`], [`driver`], [`socket`], [`log`], [`peer`].

pub mod cli;
pub mod config;
pub mod demo;
pub mod driver;
pub mod lifecycle;
pub mod log;
pub mod metrics;
pub mod peer;
pub mod resp;
pub mod socket;
