//! Real regions: `onced` processes in network namespaces of their own, joined by a relay that plays the simulator's link
//! model.
//!
//! The only part of this crate that reads clocks, sleeps and opens sockets: what the rest must not do is its work. It
//! starts the daemon's binary and does not link to it. The tests of whole processes use its links, too.
//!
//! Must never: be used by the simulated part; leave a namespace, a process or a file behind.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real time and real sockets are what this module is for; INV-18 is the simulated part's"
)]

mod answer;
mod ask;
pub mod compare;
mod daemons;
mod finals;
pub mod interrupt;
pub mod links;
pub mod machine;
pub mod refuse;
mod relay;
mod resp;
mod services;
mod space;
pub mod stage;
mod watch;

pub use links::Links;
pub use machine::Lack;
