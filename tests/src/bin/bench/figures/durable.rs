//! Claims that are on disk before they are answered, beside redis with `appendfsync always`, and at one connection
//! beside PostgreSQL.
//!
//! Under load what counts is how many waiters share one sync; for one client it is the sync itself, and whether the
//! answer has to be handed over by another thread first.

use super::throughput::sides;
use super::{per_second, rates};
use crate::goals::{Goal, Row};
use crate::load::{Driver, Load};
use crate::rounds::{Bench, Contender, Sample};
use crate::servers::postgres::{self, Postgres};
use crate::servers::{Durability, Kind, Setting};
use crate::work::Work;
use anyhow::Result;

/// c50 at P1 and P16, and c1.
///
/// # Errors
/// A server or a driver fails.
pub fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let single_requests = bench.depth.pick(500, 4_000, 20_000);
    for (clients, pipeline, goal, requests) in [
        (50, 1, 1.3, bench.depth.pick(20_000, 80_000, 400_000)),
        (50, 16, 2.5, bench.depth.pick(50_000, 300_000, 2_000_000)),
        (1, 1, 1.2, single_requests),
    ] {
        let load = Load::random(Driver::RedisBenchmark, Work::Claim, clients, pipeline, requests);
        let title = format!("durable c{clients} P{pipeline}");
        let runs = bench.rounds(&title, &sides(Durability::Always, load))?;
        let (ours, peer) = rates(&runs);
        rows.push(Row::new(title, "op/s", Goal::AtLeast(goal), ours, peer, "redis always"));
    }
    rows.push(beside_postgres(bench, single_requests)?);
    Ok(rows)
}

/// One client, beside PostgreSQL where it is installed; the rounds of the two take turns.
fn beside_postgres(bench: &mut Bench, requests: u64) -> Result<Row> {
    let title = "durable c1 P1 / PostgreSQL";
    let goal = Goal::AtLeast(1.0);
    let Some(programs) = postgres::programs() else {
        let why = "PostgreSQL is not installed: apt-get install postgresql";
        return Ok(Row::not_run(title, "op/s", goal, "PostgreSQL", why));
    };
    bench.progress.say(&format!("{title}: starting PostgreSQL"));
    let folder = bench.fresh_folder();
    let postgres = Postgres::start(&programs, &folder)?;
    let load = Load::random(Driver::RedisBenchmark, Work::Claim, 1, 1, requests);
    let setting = Setting::alone(Durability::Always);
    let contender = Contender { kind: Kind::Onced, setting, before: None, load };
    let (mut ours, mut peer) = (Sample::default(), Sample::default());
    for round in 1..=bench.depth.rounds() {
        bench.progress.say(&format!("{title}: round {round}"));
        let run = bench.quiet_run(&contender)?;
        ours.values.push(per_second(&run));
        ours.foreign_percent_max = ours.foreign_percent_max.max(run.foreign_percent);
        peer.values.push(postgres.round(requests)?);
    }
    Ok(Row::new(title, "op/s", goal, ours, peer, "PostgreSQL"))
}
