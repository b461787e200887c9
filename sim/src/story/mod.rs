//! What happened in a run: as data (`report.json`), as a picture (`report.html`), as text (`onced-sim explain`).
//!
//! A trace has everything and shows nothing. A story has moments with their meaning: which frame brought which news, who
//! held a key in whose eyes, which answers were never heard; and of a violation its causal cone.
//!
//! ```text
//! world --calls beside the trace--> record -> cone ----> explain, diff
//!                                      |       |
//!                                      +-> measure, choose, rows, spans -> document -> page
//! ```
//! Reading order: [`moment`], [`record`], [`cone`], [`document`].
//!
//! Must never: change a run, or cost one that nobody wants the story of.

pub mod choose;
pub mod cone;
pub mod diff;
pub mod document;
pub mod explain;
pub mod measure;
pub mod moment;
pub mod names;
pub mod page;
pub mod record;
pub mod rows;
pub mod rules;
pub mod spans;
pub mod words;

#[cfg(test)]
mod tests;

pub use document::Told;
pub use moment::{Degree, What};
pub use record::{Record, Recorder};
