//! Real links between the daemons under test; what joins them is [`sim::real::links`]'.
//!
//! Here is only what clients do meanwhile, and what must be true afterwards.

pub mod traffic;

pub use sim::real::Lack;
pub use sim::real::links::{Counts, Links, Rate, Spread, Weather, calm};
