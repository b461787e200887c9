//! The simulator of onced: many regions in virtual time, the product's own code and codec, an
//! independent oracle.
//!
//! `crdt` decides everything and does no IO, so a whole cluster with its disks, clocks, links and
//! services fits into one deterministic loop. What a run does is drawn from its seed beforehand; what it did is
//! judged by [`oracle`], which shares no code with `crdt`. See SEMANTICS S10 for what is checked.
//!
//! Reading order: [`oracle`], [`scenario`], [`schedule`], [`world`], [`run`], [`swarm`].
//!
//! Must never, but in [`real`]: read a clock, the operating system's randomness or the network (`clippy.toml`).

pub mod carrier;
pub mod cli;
pub mod clock;
pub mod describe;
pub mod disk;
pub mod exhaustive;
pub mod faults;
pub mod file;
pub mod goals;
pub mod habits;
pub mod heap;
pub mod limits;
pub mod link;
pub mod measure;
pub mod membership;
pub mod naming;
pub mod network;
pub mod oracle;
pub mod pattern;
pub mod progress;
pub mod random;
pub mod real;
pub mod replica;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod shrink;
pub mod story;
pub mod swarm;
pub mod trace;
pub mod worker;
pub mod workload;
pub mod world;
