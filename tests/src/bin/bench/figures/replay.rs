//! The answer to a duplicate: REPLAY of a 200-byte outcome beside GET of a 200-byte value.
//!
//! Both servers are filled with the same keys first, every key settled on our side. The load draws only from those,
//! and a run whose first answer is not a replay fails.

use super::rates;
use crate::goals::{Goal, Row};
use crate::load::{Driver, Load};
use crate::rounds::{Bench, Contender};
use crate::servers::{Durability, Kind, Setting};
use crate::work::Work;
use anyhow::Result;

/// Bytes of an outcome: a small JSON answer.
const OUTCOME_BYTES: usize = 200;

/// c50 P16 with both drivers.
///
/// # Errors
/// A server or a driver fails.
pub fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let keys = bench.depth.pick(20_000, 100_000, 1_000_000);
    let requests = bench.depth.pick(200_000, 500_000, 4_000_000);
    let before = Some(Load::fill(Work::FillShort, keys, OUTCOME_BYTES));
    let mut rows = Vec::new();
    for (driver, name) in [(Driver::RedisBenchmark, "redis-benchmark"), (Driver::Own, "own driver")] {
        let load = Load { keyspace: keys, ..Load::random(driver, Work::Replay, 50, 16, requests) };
        let setting = Setting::alone(Durability::Soon);
        let contenders = [Kind::Onced, Kind::Redis].map(|kind| Contender { kind, setting, before, load });
        let title = format!("REPLAY of {OUTCOME_BYTES} B, c50 P16 ({name})");
        let runs = bench.rounds(&title, &contenders)?;
        let (ours, peer) = rates(&runs);
        rows.push(Row::new(title, "op/s", Goal::AtLeast(1.5), ours, peer, "redis GET"));
    }
    Ok(rows)
}
