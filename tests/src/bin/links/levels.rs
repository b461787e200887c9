//! How long a claim and its completion take at each level (S5), against the round trips that physics asks for; and how
//! soon a minority says that it is one.

use std::time::{Duration, Instant};

use daemon::resp::Client;
use tests::links::{Lack, Links, calm};
use tests::{Cluster, Setup, field, status, until};

use crate::Depth;
use crate::load::percentile;
use crate::table::{Goal, Row};

const REGIONS: usize = 3;
/// One way: round trips are twice that.
const DELAY: Duration = Duration::from_millis(40);
/// What a claim may take above one round trip: at quorum two syncs here and one there, at home a write there and one here,
/// and a millisecond of gathering.
const ABOVE_MS: f64 = 40.0;
/// A minority, and who is cut off from a home, answers within this.
const REFUSED_MS: f64 = 5_000.0;

pub fn run(depth: Depth) -> Result<Vec<Row>, Lack> {
    let links = Links::create(REGIONS, calm(DELAY))?;
    let tables = "[namespace.bank]\nlevel = \"quorum\"\n[namespace.near]\nlevel = \"home\"\nhome = \"eu\"\n\
                  [namespace.far]\nlevel = \"home\"\nhome = \"us\"\n"
        .to_owned();
    let cluster = Cluster::start_over(links, Setup { tables, ..Setup::regions(REGIONS) });
    let mut client = cluster.client(0);
    let mut warm = 0;
    until("majorities are counted", || {
        warm += 1;
        one(&mut client, &format!("bank:warm-{warm}")).is_some()
    });
    until("the homes answer", || {
        warm += 1;
        one(&mut client, &format!("far:warm-{warm}")).is_some()
    });
    let operations = depth.pick(100, 1_000);
    let mut rows = Vec::new();
    for (level, namespace, trips) in [
        ("local", "pay", 0.0),
        ("home (here)", "near", 0.0),
        ("home (elsewhere)", "far", 1.0),
        ("quorum", "bank", 1.0),
    ] {
        let taken = (0..operations).filter_map(|number| one(&mut client, &format!("{namespace}:{number}")));
        let (claims_ms, completions_ms): (Vec<f64>, Vec<f64>) = taken.unzip();
        let least_ms = trips * 2.0 * DELAY.as_secs_f64() * 1e3;
        for (what, ms) in [("claim", claims_ms), ("completion", completions_ms)] {
            let name = |part: &str| format!("{level}, {least_ms} ms of round trips: {what} {part}");
            let row = |part: &str, goal, measured| Row::new(name(part), goal, measured, "ms");
            rows.push(Row::new(name("answered"), Goal::AtLeast(operations as f64), ms.len() as f64, ""));
            let goal = if trips > 0.0 { Goal::AtMost(least_ms + ABOVE_MS) } else { Goal::Stated };
            rows.push(row("p50", goal, percentile(&ms, 50.0)));
            rows.push(row("p99", Goal::Stated, percentile(&ms, 99.0)));
        }
    }
    cluster.links().split(&[0], &[1, 2]);
    for (level, key) in [("quorum", "bank:minority"), ("home (elsewhere)", "far:minority")] {
        let began = Instant::now();
        let refused = client.call(&[b"CLAIM", key.as_bytes()]).expect("CLAIM is answered");
        let refused_ms = began.elapsed().as_secs_f64() * 1e3;
        assert_eq!(status(&refused), "UNAVAILABLE");
        let name = format!("cut off, {level}: UNAVAILABLE after");
        rows.push(Row::new(name, Goal::AtMost(REFUSED_MS), refused_ms, "ms"));
    }
    for (level, key) in [("local", "pay:minority"), ("home (here)", "near:minority")] {
        let began = Instant::now();
        assert!(one(&mut client, key).is_some());
        let taken_ms = began.elapsed().as_secs_f64() * 1e3;
        rows.push(Row::new(format!("cut off, {level}: claim and completion"), Goal::Stated, taken_ms, "ms"));
    }
    Ok(rows)
}

/// Claims and completes one operation; milliseconds of both, or nothing where it was not granted.
fn one(client: &mut Client, key: &str) -> Option<(f64, f64)> {
    let began = Instant::now();
    let claimed = client.call(&[b"CLAIM", key.as_bytes(), b"CLAIMANT", b"c"]).expect("CLAIM is answered");
    let claim_ms = began.elapsed().as_secs_f64() * 1e3;
    if status(&claimed) != "GRANTED" {
        return None;
    }
    let token = field(&claimed, "token");
    let began = Instant::now();
    let words: [&[u8]; 4] = [b"COMPLETE", key.as_bytes(), token.as_bytes(), b"done"];
    let completed = client.call(&words).expect("COMPLETE is answered");
    (status(&completed) == "COMPLETED").then(|| (claim_ms, began.elapsed().as_secs_f64() * 1e3))
}
