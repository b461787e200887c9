//! Claims while everything is replicated: onced with one peer region attached over QUIC, beside redis with one
//! replica.
//!
//! All four processes share this machine, so the figure shows what replication costs in CPU, not what a second
//! machine would make of it.

use super::rates;
use crate::goals::{Goal, Row};
use crate::load::{Driver, Load};
use crate::rounds::{Bench, Contender};
use crate::servers::{Durability, Kind, Setting};
use crate::work::Work;
use anyhow::Result;

/// c50 P16 with both drivers.
///
/// # Errors
/// A server or a driver fails.
pub fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let requests = bench.depth.pick(100_000, 400_000, 3_000_000);
    let setting = Setting { replica: true, ..Setting::alone(Durability::Soon) };
    let mut rows = Vec::new();
    for (driver, name) in [(Driver::RedisBenchmark, "redis-benchmark"), (Driver::Own, "own driver")] {
        let load = Load::random(driver, Work::Claim, 50, 16, requests);
        let contenders =
            [Kind::Onced, Kind::Redis].map(|kind| Contender { kind, setting, before: None, load });
        let title = format!("one peer attached, c50 P16 ({name})");
        let runs = bench.rounds(&title, &contenders)?;
        let (ours, peer) = rates(&runs);
        rows.push(Row::new(title, "op/s", Goal::AtLeast(2.0), ours, peer, "redis + replica"));
    }
    Ok(rows)
}
