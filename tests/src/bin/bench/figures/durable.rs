//! Claims that are on disk before they are answered, beside redis with `appendfsync always`.
//!
//! Under load what counts is how many waiters share one sync; for one client it is the sync itself, and whether the
//! answer has to be handed over by another thread first.

use super::rates;
use super::throughput::sides;
use crate::goals::{Goal, Row};
use crate::load::{Driver, Load};
use crate::rounds::Bench;
use crate::servers::Durability;
use crate::work::Work;
use anyhow::Result;

/// c50 at P1 and P16, and c1.
///
/// # Errors
/// A server or a driver fails.
pub fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (clients, pipeline, goal, requests) in [
        (50, 1, 1.3, bench.depth.pick(20_000, 80_000, 400_000)),
        (50, 16, 2.5, bench.depth.pick(50_000, 300_000, 2_000_000)),
        (1, 1, 1.2, bench.depth.pick(500, 4_000, 20_000)),
    ] {
        let load = Load::random(Driver::RedisBenchmark, Work::Claim, clients, pipeline, requests);
        let title = format!("durable c{clients} P{pipeline}");
        let runs = bench.rounds(&title, &sides(Durability::Always, load))?;
        let (ours, peer) = rates(&runs);
        rows.push(Row::new(title, "op/s", Goal::AtLeast(goal), ours, peer, "redis always"));
    }
    let postgres = Row::not_run("durable c1 P1 / PostgreSQL", "op/s", Goal::AtLeast(1.0), "PostgreSQL", "");
    rows.push(
        postgres.noted("not started by this harness: INSERT .. ON CONFLICT DO NOTHING with pgbench -c 1"),
    );
    Ok(rows)
}
