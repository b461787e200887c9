//! Puts a load on a server with one of two drivers and reads what the driver found.
//!
//! `redis-benchmark` because everybody knows what it measures; our own because at depth the known one measures
//! itself. Both are child processes, so that their CPU is told apart from the server's. Must never report a rate of
//! refusals: after a run by `redis-benchmark`, which counts errors as answers, the keys are counted instead.

use crate::children::Child;
use crate::drive::Job;
use crate::servers::{Programs, Server, pinned};
use crate::work::Work;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Longest a single load may take.
const LOAD_WAIT_MAX: Duration = Duration::from_secs(600);

/// Who drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The tool that comes with redis.
    RedisBenchmark,
    /// The `drive` subcommand of this program.
    Own,
}

/// One load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Who drives.
    pub driver: Driver,
    /// What is done.
    pub work: Work,
    /// Connections at once.
    pub clients: usize,
    /// Commands in flight on each.
    pub pipeline: usize,
    /// Keys used in all.
    pub requests: u64,
    /// Random keys are drawn from this many.
    pub keyspace: u64,
    /// Bytes of a stored value.
    pub value_bytes: usize,
    /// The one core the driver may use, if any.
    pub core: Option<usize>,
}

impl Load {
    /// Random short keys, drawn from as many as there are requests.
    pub fn random(driver: Driver, work: Work, clients: usize, pipeline: usize, requests: u64) -> Self {
        Self { driver, work, clients, pipeline, requests, keyspace: requests, value_bytes: 1, core: None }
    }

    /// Every key once, in order, by our own driver.
    pub fn fill(work: Work, keys: u64, value_bytes: usize) -> Self {
        let driver = Driver::Own;
        Self {
            driver,
            work,
            clients: 8,
            pipeline: 64,
            requests: keys,
            keyspace: keys,
            value_bytes,
            core: None,
        }
    }
}

/// What a driver found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// Operations a second.
    pub per_second: f64,
    /// Latency of a batch as the client saw it, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 batches are not slower.
    pub p99_ms: f64,
    /// 999 of 1,000 batches are not slower.
    pub p999_ms: f64,
    /// The slowest of all.
    pub worst_ms: f64,
}

/// Runs `load` against `server` and waits for its end.
///
/// # Errors
/// The driver fails, or the server refused the work.
pub fn run(programs: &Programs, server: &Server, load: &Load, folder: &Path) -> Result<Found> {
    match load.driver {
        Driver::RedisBenchmark if programs.redis_benchmark => {
            let found = run_redis_benchmark(server, load, folder)?;
            check_keys(server, load)?;
            Ok(found)
        }
        Driver::RedisBenchmark | Driver::Own => run_own(programs, server, load, folder),
    }
}

fn run_own(programs: &Programs, server: &Server, load: &Load, folder: &Path) -> Result<Found> {
    let job = Job {
        socket: server.socket.clone(),
        dialect: server.kind.dialect(),
        work: load.work,
        clients: load.clients,
        pipeline: load.pipeline,
        requests: load.requests,
        keyspace: load.keyspace,
        value_bytes: load.value_bytes,
    };
    let mut command = pinned(load.core, &programs.bench);
    command.args(job.words());
    let text = output_of("the driver", &mut command, folder)?;
    let line = text.lines().last().unwrap_or_default();
    let value: serde_json::Value =
        serde_json::from_str(line).with_context(|| format!("the driver printed: {text}"))?;
    if let Some(refusal) = value["first_refusal"].as_str() {
        bail!(
            "{} refused {} times {}; first answer: {refusal}",
            server.kind.name(),
            load.work.name(),
            value["refused"]
        );
    }
    let number = |name: &str| value[name].as_f64().unwrap_or_default();
    Ok(Found {
        per_second: load.requests as f64 / number("seconds").max(1e-9),
        p50_ms: number("p50_ms"),
        p99_ms: number("p99_ms"),
        p999_ms: number("p999_ms"),
        worst_ms: number("worst_ms"),
    })
}

fn run_redis_benchmark(server: &Server, load: &Load, folder: &Path) -> Result<Found> {
    let words = load.work.benchmark_words(server.kind.dialect());
    let words = words.with_context(|| format!("redis-benchmark cannot do `{}`", load.work.name()))?;
    let mut command = pinned(load.core, Path::new("redis-benchmark"));
    command
        .arg("-s")
        .arg(&server.socket)
        .args(["-c", &load.clients.to_string(), "-P", &load.pipeline.to_string()])
        .args(["-n", &load.requests.to_string(), "-r", &load.keyspace.to_string()])
        .args(["--precision", "3"])
        .args(words);
    let text = output_of("redis-benchmark", &mut command, folder)?;
    parse_redis_benchmark(&text)
        .with_context(|| format!("redis-benchmark printed what is not understood:\n{text}"))
}

/// Runs a driver to its end; returns what it printed. Standard error goes to the same file: it explains failures.
fn output_of(name: &str, command: &mut Command, folder: &Path) -> Result<String> {
    let path = folder.join("driver-output");
    crate::servers::log_to(command, folder, "driver-output")?;
    let finished = Child::start(name, command)?.finish(LOAD_WAIT_MAX);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    // Progress lines overwrite one another with carriage returns.
    let text = text.replace('\r', "\n");
    finished.with_context(|| text.lines().last().unwrap_or_default().to_string())?;
    Ok(text)
}

/// Reads the percentile distribution, which has the 99.9 that the CSV form lacks.
fn parse_redis_benchmark(text: &str) -> Option<Found> {
    let mut found = Found::default();
    // `99.902% <= 6.063 milliseconds (cumulative count 199808)`
    let distribution = text.split_once("Latency by percentile distribution:")?.1;
    let distribution =
        distribution.split_once("Cumulative distribution").map_or(distribution, |(head, _)| head);
    for line in distribution.lines() {
        let Some((percent, rest)) = line.split_once("% <= ") else { continue };
        let percent: f64 = percent.trim().parse().ok()?;
        let ms: f64 = rest.split_whitespace().next()?.parse().ok()?;
        for (wanted, slot) in
            [(50.0, &mut found.p50_ms), (99.0, &mut found.p99_ms), (99.9, &mut found.p999_ms)]
        {
            if *slot == 0.0 && percent >= wanted {
                *slot = ms;
            }
        }
        found.worst_ms = ms;
    }
    let summary = text.split_once("throughput summary:")?.1;
    found.per_second = summary.split_whitespace().next()?.parse().ok()?;
    Some(found)
}

/// A server that answers errors is fast: after claims, at least half of the keys that must exist by then do.
fn check_keys(server: &Server, load: &Load) -> Result<()> {
    if load.work != Work::Claim {
        return Ok(());
    }
    let Some(keys) = server.keys()? else { return Ok(()) };
    // Drawing n times from k keys hits k(1 - e^(-n/k)) of them.
    let space = load.keyspace as f64;
    let expected = space * (1.0 - (-(load.requests as f64) / space).exp());
    if (keys as f64) < expected / 2.0 {
        bail!(
            "{} holds {keys} keys after a run that makes about {expected:.0}: it refused",
            server.kind.name()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_of_redis_benchmark_is_read() {
        let text = "x\nLatency by percentile distribution:\n0.000% <= 0.191 milliseconds (cumulative count 16)\n\
                    50.000% <= 1.383 milliseconds (cumulative count 1)\n99.219% <= 4.487 milliseconds (c)\n\
                    99.902% <= 6.063 milliseconds (c)\n100.000% <= 6.199 milliseconds (c)\n\n\
                    Cumulative distribution of latencies:\n100.000% <= 7.103 milliseconds (c)\n\n\
                    Summary:\n  throughput summary: 452488.69 requests per second\n";
        let found = parse_redis_benchmark(text).unwrap();
        assert_eq!(found.per_second, 452_488.69);
        assert_eq!((found.p50_ms, found.p99_ms, found.p999_ms), (1.383, 4.487, 6.063));
        assert_eq!(found.worst_ms, 6.199);
        assert!(parse_redis_benchmark("WARNING: nothing").is_none());
    }
}
