//! Harness of the whole-process tests: real daemons, real sockets, real faults.
//!
//! What only wiring can break is tested here; whatever a lower level can show is shown there. A test gets a
//! [`Cluster`] of one to five daemons in a temporary folder, does to them what an operator, a crash or a stranger
//! would, and looks at what clients see. Nothing waits a fixed time for something to have happened: [`until`] looks
//! until it has, and its limits are generous, because machines are slow and shared.
//!
//! The harness must never test a stale binary (see [`build`]), and never leave a process or a folder behind.

pub mod build;
pub mod cluster;
pub mod faults;
pub mod fuzz;
pub mod hostile;
pub mod links;
pub mod power;
pub mod random;
pub mod setup;
pub mod skip;
pub mod wait;
pub mod words;

pub use cluster::Cluster;
pub use setup::{Misfit, Setup};
pub use skip::skip;
pub use wait::{LIMIT, until};
pub use words::{field, int, status};
