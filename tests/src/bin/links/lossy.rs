//! A long and lossy link everywhere: what gets through, and the longest time in which nothing does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::links::{Lack, Links, Weather, calm};
use tests::{Cluster, Setup};

use crate::Depth;
use crate::load::{StopOnDrop, keys, paced};
use crate::table::{Goal, Row};

const REGIONS: usize = 3;
/// Operations a second in the one region that writes.
const PER_S: u64 = 500;
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Catching up is given up after this.
const CATCH_UP_MAX: Duration = Duration::from_secs(180);

pub fn run(depth: Depth) -> Result<Vec<Row>, Lack> {
    let mut rows = Vec::new();
    for (delay_ms, said) in [(100, "200 ms round trip, 1 % loss"), (200, "200 ms each way, 1 % loss")] {
        let delay = Duration::from_millis(delay_ms);
        let links = Links::create(REGIONS, calm(delay))?;
        let cluster = &Cluster::start_over(links, Setup::regions(REGIONS));
        cluster.links().set_all(Weather { loss: 10, ..calm(delay) });
        rows.extend(measure(cluster, said, Duration::from_secs(depth.pick(15, 60))));
    }
    Ok(rows)
}

fn measure(cluster: &Cluster, said: &str, lasting: Duration) -> Vec<Row> {
    let (stop, done) = (&AtomicBool::new(false), &AtomicBool::new(false));
    let began = Instant::now();
    let (written, stalls, caught_up) = std::thread::scope(|scope| {
        let (stopping, ending) = (StopOnDrop(stop), StopOnDrop(done));
        let lookers: Vec<_> =
            (1..REGIONS).map(|at| scope.spawn(move || longest_stall(cluster, at, done))).collect();
        let load = scope.spawn(move || paced(cluster, 0, "l", PER_S, stop).0);
        std::thread::sleep(lasting);
        drop(stopping);
        let written = load.join().expect("no panic");
        let ended = Instant::now();
        let mut clients: Vec<_> = (1..REGIONS).map(|at| cluster.client(at)).collect();
        while clients.iter_mut().any(|client| keys(client) < written) {
            assert!(ended.elapsed() < CATCH_UP_MAX, "not caught up within {CATCH_UP_MAX:?}");
            std::thread::sleep(LOOK_EVERY);
        }
        drop(ending);
        let caught_up = ended.elapsed();
        let stalls: Vec<_> = lookers.into_iter().map(|looker| looker.join().expect("no panic")).collect();
        (written, stalls, caught_up)
    });
    let through = began.elapsed().as_secs_f64();
    let converged = Instant::now();
    cluster.agree();
    let converged = caught_up + converged.elapsed();
    let stall = stalls.iter().map(Duration::as_secs_f64).fold(0.0, f64::max);
    let bytes = cluster.links().counts(0, 1).bytes as f64;
    let row = |what: &str, goal, measured, unit| Row::new(format!("{said}: {what}"), goal, measured, unit);
    vec![
        row("offered", Goal::Stated, 2.0 * written as f64 / lasting.as_secs_f64(), "entries/s"),
        row("through to both peers", Goal::Stated, 2.0 * written as f64 / through, "entries/s"),
        row("on the wire to one peer", Goal::Stated, bytes / through / 1e3, "kB/s"),
        row("the same everywhere after the load's end", Goal::Stated, converged.as_secs_f64(), "s"),
        row("longest stall in a peer", Goal::AtMost(5.0), stall, "s"),
    ]
}

/// The longest time in which a region learned of no key, until `done`.
fn longest_stall(cluster: &Cluster, at: usize, done: &AtomicBool) -> Duration {
    let mut client = cluster.client(at);
    let (mut had, mut moved, mut longest) = (keys(&mut client), Instant::now(), Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EVERY);
        let now = keys(&mut client);
        if now > had {
            longest = longest.max(moved.elapsed());
            (had, moved) = (now, Instant::now());
        }
    }
    longest
}
