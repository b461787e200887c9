//! How many claims a second, at what latency, for how much CPU: fifty clients at three depths, one client alone, and
//! what a server that does nothing reaches.
//!
//! `redis-benchmark` spends about a microsecond on reading a reply of seven fields where it spends a tenth of that on
//! +OK: at depth it, and not onced, is the limit. So the pipelined figures are taken with both drivers and the
//! ceiling with our own.

use super::rates;
use crate::ceiling::Answer;
use crate::cpu;
use crate::goals::{Goal, Row};
use crate::load::{Driver, Load};
use crate::rounds::{Bench, Contender, Runs};
use crate::servers::{Durability, Kind, Setting};
use crate::work::Work;
use anyhow::Result;

/// The peer of most goals.
const EVERYSEC: &str = "redis everysec";

/// c50 at P1, P16 and P64.
///
/// # Errors
/// A server or a driver fails.
pub fn fifty_clients(bench: &mut Bench) -> Result<Vec<Row>> {
    let requests = bench.depth.pick(50_000, 200_000, 1_000_000);
    let mut rows = unpipelined(bench, requests)?;
    for (pipeline, goal, requests) in [
        (16, 3.0, bench.depth.pick(300_000, 600_000, 4_000_000)),
        (64, 3.5, bench.depth.pick(300_000, 1_000_000, 6_000_000)),
    ] {
        for (driver, name) in [(Driver::RedisBenchmark, "redis-benchmark"), (Driver::Own, "own driver")] {
            let load = Load::random(driver, Work::Claim, 50, pipeline, requests);
            let title = format!("c50 P{pipeline} ({name})");
            let runs = bench.rounds(&title, &sides(Durability::Soon, load))?;
            let (ours, peer) = rates(&runs);
            rows.push(Row::new(&title, "op/s", Goal::AtLeast(goal), ours, peer, EVERYSEC));
            rows.push(cpu_row(&format!("{title}: server CPU"), Goal::Shown, &runs));
        }
    }
    Ok(rows)
}

fn unpipelined(bench: &mut Bench, requests: u64) -> Result<Vec<Row>> {
    let load = Load::random(Driver::RedisBenchmark, Work::Claim, 50, 1, requests);
    let runs = bench.rounds("c50 P1", &sides(Durability::Soon, load))?;
    let (ours, peer) = rates(&runs);
    let latency = |percentile: &str, goal, of: fn(&crate::rounds::Run) -> f64| {
        let title = format!("c50 P1: {percentile}");
        Row::new(title, "ms", goal, runs[0].of(of), runs[1].of(of), EVERYSEC)
    };
    Ok(vec![
        Row::new("c50 P1 (redis-benchmark)", "op/s", Goal::AtLeast(1.0), ours, peer, EVERYSEC)
            .noted("the driver's limit: every server ends near the same rate"),
        cpu_row("c50 P1: server CPU", Goal::AtMostStretch(0.8, 0.7), &runs),
        latency("p50", Goal::Shown, |run| run.found.p50_ms),
        latency("p99", Goal::AtMost(0.9), |run| run.found.p99_ms),
        latency("p99.9", Goal::AtMost(1.0), |run| run.found.p999_ms),
    ])
}

/// P16 against a server that only answers: +OK, which is the goal, and an answer as long as ours, which tells how
/// much of the distance is the answer's length.
///
/// # Errors
/// A server or a driver fails.
pub fn ceiling(bench: &mut Bench) -> Result<Vec<Row>> {
    let requests = bench.depth.pick(300_000, 600_000, 4_000_000);
    let load = Load::random(Driver::Own, Work::Claim, 50, 16, requests);
    let none = Setting::alone(Durability::None);
    let contenders = [
        contender(Kind::Onced, Setting::alone(Durability::Soon), load),
        contender(Kind::Ceiling(Answer::Ok), none, load),
        contender(Kind::Ceiling(Answer::Granted), none, load),
    ];
    let runs = bench.rounds("c50 P16 / ceiling (own driver)", &contenders)?;
    let (ours, peer) = rates(&runs);
    let same_length = runs[2].of(super::per_second);
    let (title, same_title) =
        ("c50 P16 / +OK ceiling (own driver)", "c50 P16 / ceiling with a claim's answer");
    Ok(vec![
        Row::new(title, "op/s", Goal::AtLeast(0.5), ours.clone(), peer, "+OK on tokio"),
        Row::new(same_title, "op/s", Goal::Shown, ours, same_length, "GRANTED on tokio"),
    ])
}

/// One client: with client and server on one core, and free. Free, it is the wake-up of an idle core.
///
/// # Errors
/// A server or a driver fails.
pub fn single_client(bench: &mut Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let last_core = cpu::cores() - 1;
    for (title, core, goal, requests) in [
        ("c1 same core", Some(last_core), Goal::AtLeast(1.15), bench.depth.pick(20_000, 100_000, 400_000)),
        ("c1 free", None, Goal::Shown, bench.depth.pick(5_000, 20_000, 100_000)),
    ] {
        let mut load = Load::random(Driver::RedisBenchmark, Work::Claim, 1, 1, requests);
        load.core = core;
        let setting = Setting { core, ..Setting::alone(Durability::Soon) };
        let contenders = [Kind::Onced, Kind::Redis].map(|kind| contender(kind, setting, load));
        let runs = bench.rounds(title, &contenders)?;
        let (ours, peer) = rates(&runs);
        rows.push(Row::new(title, "op/s", goal, ours, peer, EVERYSEC));
    }
    Ok(rows)
}

/// onced and redis under the same load.
pub fn sides(durability: Durability, load: Load) -> [Contender; 2] {
    [Kind::Onced, Kind::Redis].map(|kind| contender(kind, Setting::alone(durability), load))
}

fn contender(kind: Kind, setting: Setting, load: Load) -> Contender {
    Contender { kind, setting, before: None, load }
}

fn cpu_row(title: &str, goal: Goal, runs: &[Runs]) -> Row {
    let cost = |run: &crate::rounds::Run| run.cpu_us;
    Row::new(title, "us/op", goal, runs[0].of(cost), runs[1].of(cost), EVERYSEC)
}
