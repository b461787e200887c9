//! Healing over a link that carries only so much: which part of it is used.
//!
//! Counted are the bytes of UDP payload that the relay delivered to the region that was away, between its first entry and
//! its last, against what the link's rate would have carried in that time.

use std::time::Duration;

use tests::links::{Lack, Links, Rate, Weather, calm};
use tests::{Cluster, Setup};

use crate::Depth;
use crate::away::{AWAY, given_up, heal};
use crate::load::unpaced;
use crate::table::{Goal, Row};

const REGIONS: usize = 3;
const DELAY: Duration = Duration::from_millis(40);
/// What waits in front of a slow link at most: so much time of it, as routers have it.
const QUEUE: Duration = Duration::from_millis(100);
/// Megabits a second, and for how long healing at that rate lasts, in seconds, about.
const RATES: [(u64, u64); 2] = [(20, 8), (100, 6)];
/// Bytes of a claim and its completion on the wire, about.
const OPERATION_BYTES: u64 = 350;

pub fn run(depth: Depth) -> Result<Vec<Row>, Lack> {
    let mut rows = Vec::new();
    for (megabits, seconds) in RATES {
        let bytes_per_s = megabits * 125_000;
        let queue_bytes_max = bytes_per_s * QUEUE.as_millis() as u64 / 1_000;
        let weather = Weather { rate: Some(Rate { bytes_per_s, queue_bytes_max }), ..calm(DELAY) };
        let operations = bytes_per_s * depth.pick(seconds, 3 * seconds) / OPERATION_BYTES;
        rows.extend(measure(megabits, bytes_per_s, weather, operations)?);
    }
    Ok(rows)
}

fn measure(megabits: u64, bytes_per_s: u64, weather: Weather, operations: u64) -> Result<Vec<Row>, Lack> {
    let links = Links::create(REGIONS, weather)?;
    let setup = Setup { tables: "[memory]\nmax_memory = \"4GiB\"\n".into(), ..Setup::regions(REGIONS) };
    let cluster = &Cluster::start_over(links, setup);
    cluster.links().split(&[AWAY], &[0, 1]);
    unpaced(cluster, 0, "away", operations);
    given_up(cluster);
    let delivered = || (0..AWAY).map(|from| cluster.links().counts(from, AWAY).delivered_bytes);
    let mut at_first = Vec::new();
    let healed = heal(cluster, weather, operations, || at_first.extend(delivered()));
    let at_last: Vec<u64> = delivered().collect();
    let counts = cluster.links().counts(0, AWAY);
    cluster.agree();
    let seconds = healed.rest.as_secs_f64();
    let share =
        |from: usize| (at_last[from] - at_first[from]) as f64 / (bytes_per_s as f64 * seconds) * 100.0;
    let name = format!("{megabits} Mbit/s, {} ms each way, {operations} operations", DELAY.as_millis());
    let row = |what: &str, goal, measured, unit| Row::new(format!("{name}: {what}"), goal, measured, unit);
    Ok(vec![
        row("from the first entry to the last", Goal::Stated, seconds, "s"),
        row("entries", Goal::Stated, 2.0 * operations as f64 / seconds, "/s"),
        row("of the link's rate used", Goal::AtLeast(80.0), share(0), "%"),
        row("of the third region's link meanwhile", Goal::Stated, share(1), "%"),
        row("packets that found the queue full", Goal::Stated, counts.overflowed as f64, ""),
    ])
}
