//! The longest a client waited while a server grew from nothing to ten million keys.
//!
//! Maps that double and logs that rotate stop the world once in a while; an average hides it. Only `full` takes the
//! time this needs, and the rounds cannot be many: the worst of one fill each.

use crate::goals::{Goal, Row};
use crate::load::{self, Load};
use crate::rounds::{Bench, Depth, Sample};
use crate::servers::{Durability, Kind, Server, Setting};
use crate::work::Work;
use anyhow::Result;

/// As many as the goal names.
const KEYS: u64 = 10_000_000;

/// Worst batch of 16 among 4 clients.
///
/// # Errors
/// A server or a driver fails.
pub fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let title = "worst stall, filling to 10M keys";
    if bench.depth != Depth::Full {
        let why = "only `bench full` takes the time";
        return Ok(vec![Row::not_run(title, "ms", Goal::AtMostAbsolute(10.0), "redis everysec", why)]);
    }
    let mut sides = [Sample::default(), Sample::default()];
    for (kind, side) in [Kind::Onced, Kind::Redis].into_iter().zip(&mut sides) {
        if !bench.has(kind) {
            continue;
        }
        bench.progress.say(&format!("{title}: {}", kind.name()));
        let folder = bench.fresh_folder();
        let server = Server::start(&bench.programs, kind, Setting::alone(Durability::Soon), &folder)?;
        let fill = Load { clients: 4, pipeline: 16, ..Load::fill(Work::Hold, KEYS, 16) };
        let reading = crate::cpu::read(&server.pids())?;
        let found = load::run(&bench.programs, &server, &fill, &folder)?;
        *side = Sample::one(found.worst_ms, reading.spent()?.foreign_percent);
        server.stop()?;
        // What stays behind is removed with the whole folder at the end.
        let _ = std::fs::remove_dir_all(&folder);
    }
    let [ours, peer] = sides;
    let same = (ours.clone(), peer.clone());
    Ok(vec![
        Row::new(title, "ms", Goal::AtMostAbsolute(10.0), ours, peer, "redis everysec"),
        Row::new(format!("{title} / redis"), "ms", Goal::AtMost(1.0), same.0, same.1, "redis everysec"),
    ])
}
