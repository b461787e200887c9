//! One region away while the others write: how fast it heals, and what clients notice of it.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tests::links::{Lack, Links, Weather, calm};
use tests::{Cluster, Setup};

use crate::Depth;
use crate::cpu::{Used, dropped_by_sockets};
use crate::load::{StopOnDrop, percentile, probe, unpaced};
use crate::table::{Goal, Row};

const REGIONS: usize = 3;
/// The one that is cut off.
pub const AWAY: usize = 2;
const DELAY: Duration = Duration::from_millis(20);
/// Probing before anything happens.
const BEFORE: Duration = Duration::from_secs(5);
/// Healing is given up after this.
const HEAL_WAIT_MAX: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub fn run(depth: Depth) -> Result<Vec<Row>, Lack> {
    let links = Links::create(REGIONS, calm(DELAY))?;
    let setup = Setup { tables: "[memory]\nmax_memory = \"4GiB\"\n".into(), ..Setup::regions(REGIONS) };
    let cluster = &Cluster::start_over(links, setup);
    let writes: u64 = depth.pick(200_000, 1_000_000);
    let name = format!("{writes} writes while one region is away");
    let before = probe_while(cluster, "b", || std::thread::sleep(BEFORE)).0;
    cluster.links().split(&[AWAY], &[0, 1]);
    let began = Instant::now();
    unpaced(cluster, 0, "away", writes / 2);
    let written = began.elapsed();
    given_up(cluster);
    let before_heal = cluster.links().counts(0, AWAY);
    let third_before = cluster.links().counts(1, AWAY);
    let dropped = dropped_by_sockets(cluster, AWAY);
    let used = Used::now(cluster);
    let (during, healed) = probe_while(cluster, "d", || heal(cluster, calm(DELAY), writes / 2, || {}));
    let cores = used.rows(cluster, &format!("{name}: healing"));
    cluster.agree();
    let after = cluster.links().counts(0, AWAY);
    let third = cluster.links().counts(1, AWAY);
    let dropped = dropped_by_sockets(cluster, AWAY) - dropped;
    let records = writes as f64;
    let own = |at: usize, values: &[Vec<f64>]| percentile(&values[at], 99.0);
    let ratio = (0..REGIONS).map(|at| own(at, &during) / own(at, &before)).fold(0.0, f64::max);
    let row = |what: &str, goal, measured, unit| Row::new(format!("{name}: {what}"), goal, measured, unit);
    let mut rows = vec![
        row("written meanwhile", Goal::Stated, records / written.as_secs_f64(), "/s"),
        row("from the healing to the first entry", Goal::Stated, healed.first.as_secs_f64(), "s"),
        row("from the first entry to the last", Goal::Stated, healed.rest.as_secs_f64(), "s"),
        row("heals at", Goal::AtLeast(100_000.0), records / healed.rest.as_secs_f64(), "entries/s"),
        row("sent to it", Goal::Stated, (after.bytes - before_heal.bytes) as f64 / 1e6, "MB"),
        row("packets sent to it", Goal::Stated, (after.packets - before_heal.packets) as f64, ""),
        row(
            "sent to it by the third region",
            Goal::Stated,
            (third.bytes - third_before.bytes) as f64 / 1e6,
            "MB",
        ),
        row("packets that found its socket full", Goal::Stated, dropped as f64, ""),
        row("packets that the relay could not send", Goal::Stated, after.refused as f64, ""),
        row("local p99, worst ratio of the regions", Goal::AtMost(3.0), ratio, "x"),
    ];
    for (at, region) in tests::setup::NAMES.iter().enumerate().take(REGIONS) {
        rows.push(row(&format!("p99 in {region} before"), Goal::Stated, own(at, &before), "ms"));
        rows.push(row(&format!("p99 in {region} during"), Goal::Stated, own(at, &during), "ms"));
    }
    rows.extend(cores);
    Ok(rows)
}

/// How long healing took.
pub struct Healed {
    /// Until the first entry was there.
    pub first: Duration,
    /// From then on until the last was.
    pub rest: Duration,
}

/// Heals, and waits until the region that was away has all `count` operations: a log arrives in its order, so the last
/// completion is the end of it. `at_first` is called when its first one is there.
pub fn heal(cluster: &Cluster, weather: Weather, count: u64, at_first: impl FnOnce()) -> Healed {
    let mut client = cluster.client(AWAY);
    let mut is_settled = |number: u64| {
        let key = crate::load::key("away", number);
        tests::status(&client.call(&[b"GET", key.as_bytes()]).expect("GET is answered")) == "SETTLED"
    };
    cluster.links().heal_all(weather);
    let began = Instant::now();
    wait(|| is_settled(0));
    let first = began.elapsed();
    at_first();
    wait(|| is_settled(count - 1));
    Healed { first, rest: began.elapsed().saturating_sub(first) }
}

/// Waits until QUIC has noticed, so that healing begins with dialling.
pub fn given_up(cluster: &Cluster) {
    wait(|| cluster.peer(0, AWAY, "state") != "linked" && cluster.peer(AWAY, 0, "state") != "linked");
}

fn wait(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < HEAL_WAIT_MAX, "not within {HEAL_WAIT_MAX:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Probes every region while `work` is done; what probes took, by region.
fn probe_while<T>(cluster: &Cluster, tag: &str, work: impl FnOnce() -> T) -> (Vec<Vec<f64>>, T) {
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let probes: Vec<_> = (0..REGIONS)
            .map(|at| {
                let tag = format!("{tag}{at}");
                scope.spawn(move || probe(cluster, at, &tag, stop))
            })
            .collect();
        // Also when it panics: the probes would go on for ever.
        let stopping = StopOnDrop(stop);
        let done = work();
        drop(stopping);
        (probes.into_iter().map(|probe| probe.join().expect("no panic")).collect(), done)
    })
}
