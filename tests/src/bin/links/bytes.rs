//! UDP payload that one claim and its completion cost on the way to one peer, acknowledgements and everything else
//! included, at several rates: what is sent seldom shares its packets with less.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tests::links::{Lack, Links, calm};
use tests::{Cluster, Setup};

use crate::Depth;
use crate::load::{KEY_BYTES, OUTCOME_BYTES, StopOnDrop, paced};
use crate::table::{Goal, Row};

const DELAY: Duration = Duration::from_millis(20);
/// Operations a second, and whether the goal is meant for it.
const RATES: [(u64, bool); 4] = [(0, false), (100, false), (1_000, true), (5_000, true)];

pub fn run(depth: Depth) -> Result<Vec<Row>, Lack> {
    let links = Links::create(2, calm(DELAY))?;
    let cluster = &Cluster::start_over(links, Setup::regions(2));
    let mut rows = Vec::new();
    for (at, (per_s, is_meant)) in RATES.into_iter().enumerate() {
        cluster.agree();
        let before = [(0, 1), (1, 0)].map(|(from, to)| cluster.links().counts(from, to));
        let stop = &AtomicBool::new(false);
        let done = std::thread::scope(|scope| {
            let stopping = StopOnDrop(stop);
            let tag = format!("r{at}");
            let load = scope.spawn(move || paced(cluster, 0, &tag, per_s, stop).0);
            std::thread::sleep(Duration::from_secs(depth.pick(4, 20)));
            drop(stopping);
            load.join().expect("no panic")
        });
        cluster.agree();
        let after = [(0, 1), (1, 0)].map(|(from, to)| cluster.links().counts(from, to));
        let [there, back] = [0, 1].map(|way| (after[way].bytes - before[way].bytes) as f64);
        let packets = (after[0].packets - before[0].packets) as f64;
        let name = format!("claim + completion at {per_s}/s, one peer");
        if per_s == 0 {
            let seconds = depth.pick(4.0, 20.0);
            rows.push(Row::new("idle link, both ways", Goal::Stated, (there + back) / seconds, "B/s"));
            continue;
        }
        let each = |bytes: f64| bytes / done as f64;
        let goal = if is_meant { Goal::AtMost(1.5) } else { Goal::Stated };
        let own = (KEY_BYTES + OUTCOME_BYTES) as f64;
        rows.push(Row::new(format!("{name}: bytes / (key + outcome)"), goal, each(there + back) / own, "x"));
        rows.push(Row::new(format!("{name}: there"), Goal::Stated, each(there), "B"));
        rows.push(Row::new(format!("{name}: back"), Goal::Stated, each(back), "B"));
        rows.push(Row::new(format!("{name}: per packet"), Goal::Stated, there / packets, "B"));
    }
    Ok(rows)
}
