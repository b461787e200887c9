//! What a key costs in memory, and how long a restart takes with all of them.
//!
//! 36+16 is a held claim with a 16-byte note, 36+200 a settled one with a 200-byte outcome; redis stores the same
//! bytes as a value with an expiry. One fill serves memory and restart. The restarts of the two sides take turns.
//! A restart counts from the start of the process until it answers a claim, and all keys must be there.

use crate::goals::{Goal, Row};
use crate::load::{self, Load};
use crate::rounds::{Bench, Sample};
use crate::servers::{Durability, Kind, Server, Setting, redis};
use crate::work::Work;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The servers' setting: what a user would run.
const SETTING: Setting = Setting { durability: Durability::Soon, core: None, replica: false };

/// Memory rows, then restart rows.
///
/// # Errors
/// A server or a driver fails, or a restart loses keys.
pub fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let keys = bench.depth.pick(100_000, 1_000_000, 5_000_000);
    let millions = keys as f64 / 1e6;
    let mut rows = Vec::new();
    for (work, name, goal) in [
        (Work::Hold, "held, note 16 B", Goal::AtMostStretch(0.65, 0.55)),
        (Work::Settle, "settled, outcome 16 B", Goal::Shown),
    ] {
        let [ours, peer] = [Kind::Onced, Kind::Redis].map(|kind| {
            let fill = Load::fill(work, keys, 16);
            fill_and_stop(bench, kind, &fill)
                .map(|filled| filled.map(|(sample, folder)| (sample, remove(&folder))))
        });
        let (ours, peer) = (ours?.map(|(sample, ())| sample), peer?.map(|(sample, ())| sample));
        let title = format!("RSS a key, 36+16 ({name}), {millions}M keys");
        let row = Row::new(title, "B", goal, ours.unwrap_or_default(), peer.unwrap_or_default(), "redis");
        rows.push(
            row.noted("fixed costs count too (onced's log ring is 32 MiB): `full` divides them by 5M keys"),
        );
    }
    let fill = Load::fill(Work::Settle, keys, 200);
    let ours = fill_and_stop(bench, Kind::Onced, &fill)?;
    let peer = fill_and_stop(bench, Kind::Redis, &fill)?;
    let sample = |filled: &Option<(Sample, PathBuf)>| filled.as_ref().map(|(sample, _)| sample.clone());
    rows.push(Row::new(
        format!("RSS a key, 36+200 (settled, outcome 200 B), {millions}M keys"),
        "B",
        Goal::AtMostStretch(0.8, 0.75),
        sample(&ours).unwrap_or_default(),
        sample(&peer).unwrap_or_default(),
        "redis",
    ));
    let folder = |filled: Option<(Sample, PathBuf)>| filled.map(|(_, folder)| folder);
    rows.extend(restarts(bench, folder(ours).as_deref(), folder(peer).as_deref(), keys)?);
    Ok(rows)
}

/// Fills a fresh server; returns bytes of memory a key, and its folder. None where there is no such server.
fn fill_and_stop(bench: &mut Bench, kind: Kind, fill: &Load) -> Result<Option<(Sample, PathBuf)>> {
    if !bench.has(kind) {
        return Ok(None);
    }
    let figure = format!("memory, {}+{}", fill.work.key(0).len(), fill.value_bytes);
    bench.progress.say(&format!("{figure}: filling {} with {} keys", kind.name(), fill.requests));
    let folder = bench.fresh_folder();
    let server = Server::start(&bench.programs, kind, SETTING, &folder)?;
    let empty = server.resident_bytes()?;
    load::run(&bench.programs, &server, fill, &folder)?;
    let filled = server.resident_bytes()?;
    server.stop()?;
    let bytes = filled.saturating_sub(empty) as f64 / fill.requests as f64;
    Ok(Some((Sample::one(bytes, 0.0), folder)))
}

/// Restart times of onced, of redis from its append-only file, and of redis from a snapshot plus that file.
fn restarts(bench: &mut Bench, ours: Option<&Path>, peer: Option<&Path>, keys: u64) -> Result<Vec<Row>> {
    let (mut onced, mut aof, mut preamble) = (Sample::default(), Sample::default(), Sample::default());
    for round in 1..=bench.depth.rounds() {
        bench.progress.say(&format!("restart with {keys} keys: onced and redis AOF, round {round}"));
        for (kind, folder, sample) in [(Kind::Onced, ours, &mut onced), (Kind::Redis, peer, &mut aof)] {
            if let Some(folder) = folder {
                sample.values.push(restart(bench, kind, folder, keys)?);
            }
        }
    }
    if let Some(folder) = peer {
        bench.progress.say("restart with a preamble: redis rewrites its file");
        let server = Server::start(&bench.programs, Kind::Redis, SETTING, folder)?;
        redis::rewrite_with_preamble(&server)?;
        server.stop()?;
        for _ in 0..bench.depth.rounds() {
            preamble.values.push(restart(bench, Kind::Redis, folder, keys)?);
        }
    }
    ours.into_iter().chain(peer).for_each(remove);
    let title = |peer: &str| format!("restart, {}M keys 36+200 / {peer}", keys as f64 / 1e6);
    Ok(vec![
        Row::new(title("AOF"), "s", Goal::AtMost(0.12), onced.clone(), aof, "redis AOF"),
        Row::new(title("RDB preamble"), "s", Goal::AtMost(0.35), onced, preamble, "redis AOF+RDB"),
    ])
}

/// Seconds from the start of the process until it answers.
fn restart(bench: &Bench, kind: Kind, folder: &Path, keys: u64) -> Result<f64> {
    let begun = Instant::now();
    let server = Server::start(&bench.programs, kind, SETTING, folder)?;
    let seconds = begun.elapsed().as_secs_f64();
    if let Some(found) = server.keys()?.filter(|found| *found < keys) {
        bail!("{} came back with {found} of {keys} keys", kind.name());
    }
    server.stop()?;
    Ok(seconds)
}

/// Gigabytes that stay behind in a temporary folder only cost disk until the bench ends.
fn remove(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
}
