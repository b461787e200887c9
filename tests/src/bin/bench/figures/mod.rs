//! The figures, one file a kind of question. Each takes the bench, measures, and returns rows for the table.
//!
//! Sizes are chosen so that `quick` ends within three minutes on two cores; `full` takes the numbers of keys that
//! the goals name. A figure must never depend on another's leftovers.

pub mod durable;
pub mod replay;
pub mod replicated;
pub mod stall;
pub mod stored;
pub mod throughput;

use crate::goals::Row;
use crate::rounds::{Bench, Run, Runs, Sample};
use anyhow::Result;

/// A kind of question, its name on the command line, and who answers it.
pub type Figure = (&'static str, fn(&mut Bench) -> Result<Vec<Row>>);

/// All of them, in the order of the table.
pub const FIGURES: [Figure; 8] = [
    ("throughput", throughput::fifty_clients),
    ("ceiling", throughput::ceiling),
    ("single", throughput::single_client),
    ("durable", durable::run),
    ("replay", replay::run),
    ("replicated", replicated::run),
    ("stored", stored::run),
    ("stall", stall::run),
];

/// Operations a second of a run.
fn per_second(run: &Run) -> f64 {
    run.found.per_second
}

/// The rates of the first two contenders.
fn rates(runs: &[Runs]) -> (Sample, Sample) {
    (runs[0].of(per_second), runs[1].of(per_second))
}
