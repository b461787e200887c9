//! Files as a whole: what is written reads back and runs the same; what is wrong is told with its place.

use super::*;
use crate::run::{Options, run, run_schedule};
use crate::schedule::Schedule;

/// The promise on which shrinking and sharing rest.
#[test]
fn a_drawn_schedule_written_and_read_runs_to_the_same_trace() {
    for seed in (0..200).chain([u64::MAX]) {
        let text = write(&Schedule::draw(seed), &Labels::default()).expect("every seed can be written");
        let plan = parse("drawn.toml", &text).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(plan.seed, seed);
        let again = run_schedule(plan.schedule(seed), Options::default());
        assert_eq!(again.trace_hash, run(seed, Options::default()).trace_hash, "seed {seed}");
    }
}
