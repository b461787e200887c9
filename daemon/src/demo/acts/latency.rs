//! Measured latencies: of a claim at its own region's socket, one after the other on one connection, and of its way
//! into the other regions. What the machine gives is shown, and only that visibility stays far within its bound is
//! checked: absolute times of a shared machine prove nothing.

use std::time::{Duration, Instant};

use crate::demo::cluster::Region::{Ap, Eu, Us};
use crate::demo::limits::{CROSSING_CLAIMS, LOCAL_CLAIMS, SEEN_MAX};
use crate::demo::report::shown;
use crate::demo::stage::{Stage, median_and_p99};

/// Both measurements.
pub fn measure(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let (median, p99, granted) = local(stage)?;
    stage.report.figure("local_claim_median_us", median.as_secs_f64() * 1e6);
    stage.report.figure("local_claim_p99_us", p99.as_secs_f64() * 1e6);
    let sentence = format!(
        "{LOCAL_CLAIMS} new keys claimed in eu one by one, each written to its log: median {}, 99 % within {}",
        shown(median),
        shown(p99)
    );
    stage.report.check(&sentence, granted);
    let (median, worst) = crossing(stage)?;
    stage.report.figure("visible_elsewhere_median_ms", median.as_secs_f64() * 1e3);
    stage.report.figure("visible_elsewhere_worst_ms", worst.as_secs_f64() * 1e3);
    let sentence = format!(
        "a claim in eu is visible in us and in ap after {} (median of {CROSSING_CLAIMS}; the slowest took {})",
        shown(median),
        shown(worst)
    );
    stage.report.check(&sentence, worst < SEEN_MAX);
    Ok(())
}

fn local(stage: &mut Stage<'_>) -> anyhow::Result<(Duration, Duration, bool)> {
    let mut client = stage.client(Eu)?;
    let mut latencies = Vec::with_capacity(LOCAL_CLAIMS);
    let mut granted = true;
    for number in 0..LOCAL_CLAIMS {
        let key = format!("perf:{number}");
        let began = Instant::now();
        let reply = client.call(&[b"CLAIM", key.as_bytes(), b"CLAIMANT", b"demo"])?;
        latencies.push(began.elapsed());
        granted &= reply.status() == Some("GRANTED");
    }
    let (median, p99) = median_and_p99(&mut latencies);
    Ok((median, p99, granted))
}

/// Median and worst time from a grant in eu until both others show it.
fn crossing(stage: &mut Stage<'_>) -> anyhow::Result<(Duration, Duration)> {
    let mut latencies = Vec::with_capacity(CROSSING_CLAIMS);
    for number in 0..CROSSING_CLAIMS {
        let key = format!("cross:{number}");
        stage.call(Eu, &[b"CLAIM", key.as_bytes(), b"CLAIMANT", b"demo"])?;
        let seen = stage.until(SEEN_MAX, |stage| {
            let us = stage.call(Us, &[b"GET", key.as_bytes()])?;
            let ap = stage.call(Ap, &[b"GET", key.as_bytes()])?;
            Ok(us.status() == Some("HELD") && ap.status() == Some("HELD"))
        })?;
        latencies.push(seen.unwrap_or(SEEN_MAX));
    }
    let (median, _) = median_and_p99(&mut latencies);
    Ok((median, latencies.last().copied().unwrap_or(SEEN_MAX)))
}
