//! How long after it was sent a completion is seen in another region, under a steady load in all three.
//!
//! Nothing polls: in the other region a duplicate of the operation waits (`CLAIM … WAIT`), and the outcome wakes it.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tests::links::{Lack, Links, calm};
use tests::{Cluster, Setup, status, until};

use crate::Depth;
use crate::cpu::Used;
use crate::load::{StopOnDrop, key, outcome, paced, percentile};
use crate::table::{Goal, Row};

const REGIONS: usize = 3;
const DELAY: Duration = Duration::from_millis(40);
/// Operations a second and region: 10,000 writes, each a claim or a completion.
const PER_S: u64 = 5_000;
/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(2);

pub fn run(depth: Depth) -> Result<Vec<Row>, Lack> {
    let links = Links::create(REGIONS, calm(DELAY))?;
    let cluster = &Cluster::start_over(links, Setup::regions(REGIONS));
    let name = &format!("steady, {} ms each way", DELAY.as_millis());
    let idle = watch(cluster, "i", Duration::from_secs(3));
    let stop = &AtomicBool::new(false);
    let used = Used::now(cluster);
    let (loads, seen_ms, cores) = std::thread::scope(|scope| {
        let stopping = StopOnDrop(stop);
        let clients: Vec<_> = ["x", "y", "z"]
            .into_iter()
            .enumerate()
            .map(|(at, tag)| scope.spawn(move || paced(cluster, at, tag, PER_S, stop)))
            .collect();
        std::thread::sleep(WARM_UP);
        let began = Instant::now();
        let seen_ms = watch(cluster, "w", Duration::from_secs(depth.pick(10, 60)));
        let lasted = (WARM_UP + began.elapsed()).as_secs_f64();
        drop(stopping);
        let loads: Vec<_> = clients.into_iter().map(|client| client.join().expect("no panic")).collect();
        let cores = used.rows(cluster, name);
        let paces = loads.into_iter().map(|(done, behind)| (done as f64 / lasted, behind));
        (paces.collect::<Vec<_>>(), seen_ms, cores)
    });
    cluster.agree();
    let least = loads.iter().map(|(per_s, _)| per_s * 2.0).fold(f64::MAX, f64::min);
    let behind = loads.iter().map(|(_, behind)| behind.as_secs_f64() * 1e3).fold(0.0, f64::max);
    let above = |seen_ms: &[f64], percent| percentile(seen_ms, percent) - DELAY.as_secs_f64() * 1e3;
    let row = |what: &str, goal, measured, unit| Row::new(format!("{name}: {what}"), goal, measured, unit);
    let mut rows = vec![
        row("writes in the slowest region", Goal::Stated, least, "/s"),
        row("load behind its pace at most", Goal::Stated, behind, "ms"),
        row("completions watched", Goal::Stated, seen_ms.len() as f64, ""),
        row("idle, seen in peers, p50 above the delay", Goal::Stated, above(&idle, 50.0), "ms"),
        row("idle, seen in peers, p99 above the delay", Goal::Stated, above(&idle, 99.0), "ms"),
        row("seen in peers, p50 above the delay", Goal::AtMost(5.0), above(&seen_ms, 50.0), "ms"),
        row("seen in peers, p99 above the delay", Goal::AtMost(20.0), above(&seen_ms, 99.0), "ms"),
        row("seen in peers, worst above the delay", Goal::Stated, above(&seen_ms, 100.0), "ms"),
    ];
    // The one thing that only the daemons can say: whether comparisons found what the stream should have brought.
    let pairs = (0..REGIONS).flat_map(|at| (0..REGIONS).map(move |of| (at, of))).filter(|(at, of)| at != of);
    let repaired = pairs.map(|(at, of)| cluster.peer(at, of, "repaired").parse().unwrap_or(f64::NAN)).sum();
    rows.push(row("keys that comparisons repaired", Goal::AtMost(0.0), repaired, ""));
    rows.extend(cores);
    Ok(rows)
}

/// Watches single operations in every direction for so long; milliseconds from sending a completion to its sight.
fn watch(cluster: &Cluster, tag: &str, lasting: Duration) -> Vec<f64> {
    let pairs = (0..REGIONS).flat_map(|from| (0..REGIONS).map(move |to| (from, to)));
    std::thread::scope(|scope| {
        let watchers: Vec<_> = pairs
            .filter(|(from, to)| from != to)
            .map(|(from, to)| {
                let tag = format!("{tag}{from}{to}");
                scope.spawn(move || watch_one(cluster, from, to, &tag, lasting))
            })
            .collect();
        watchers.into_iter().flat_map(|watcher| watcher.join().expect("no panic")).collect()
    })
}

fn watch_one(cluster: &Cluster, from: usize, to: usize, tag: &str, lasting: Duration) -> Vec<f64> {
    let (mut writer, mut looker) = (cluster.client(from), cluster.client(to));
    let (began, mut seen_ms) = (Instant::now(), Vec::new());
    for number in 0.. {
        if began.elapsed() > lasting {
            break;
        }
        let key = key(tag, number);
        let claimed = writer.call(&[b"CLAIM", key.as_bytes(), b"CLAIMANT", b"writer"]).expect("answered");
        let token = tests::field(&claimed, "token");
        until("the claim is seen", || {
            status(&looker.call(&[b"GET", key.as_bytes()]).expect("answered")) == "HELD"
        });
        let words: [&[u8]; 6] = [b"CLAIM", key.as_bytes(), b"CLAIMANT", b"looker", b"WAIT", b"30000"];
        looker.send(&words).and_then(|()| looker.flush()).expect("a claim can be sent");
        // The waiting claim has arrived long before the outcome, which takes the delay.
        let completed_at = Instant::now();
        let words: [&[u8]; 4] = [b"COMPLETE", key.as_bytes(), token.as_bytes(), &outcome(number)];
        writer.call(&words).expect("answered");
        assert_eq!(status(&looker.recv().expect("answered")), "REPLAY");
        seen_ms.push(completed_at.elapsed().as_secs_f64() * 1e3);
    }
    seen_ms
}
