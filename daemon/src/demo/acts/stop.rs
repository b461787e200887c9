//! The orderly stop: SIGTERM while claims are in flight. Every one of them is answered, and the daemon ends with 0.

use anyhow::Context as _;

use crate::demo::cluster::Region::{self, Ap};
use crate::demo::limits::{CLAIMS_IN_FLIGHT, STOP_MAX};
use crate::demo::processes::described;
use crate::demo::stage::Stage;

/// Stops ap while it is busy, then the others.
pub fn all(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    busy(stage)?;
    for region in Ap.others() {
        stage.cluster.processes().terminate(region.name())?;
        let status = stage.cluster.processes().wait(region.name(), STOP_MAX)?;
        stage.report.check(&format!("{} stops: {}", region.name(), described(status)), status.success());
    }
    Ok(())
}

/// Stops ap while it is busy, and starts it again: the regions are to stay up.
pub fn one(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    busy(stage)?;
    stage.cluster.start(Ap)?;
    let client = stage.cluster.wait_ready(Ap)?;
    stage.set_client(Ap, client);
    let linked = stage.until(STOP_MAX, |stage| {
        Ok(Region::ALL.into_iter().map(|region| stage.links(region)).sum::<anyhow::Result<usize>>()? == 6)
    })?;
    stage.report.check("ap is back", linked.is_some());
    Ok(())
}

fn busy(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let mut client = stage.client(Ap)?;
    for number in 0..CLAIMS_IN_FLIGHT {
        client.send(&[b"CLAIM", format!("drain:{number}").as_bytes(), b"CLAIMANT", b"demo"])?;
    }
    client.flush()?;
    let (mut granted, mut refused) = (0, 0);
    for number in 0..CLAIMS_IN_FLIGHT {
        // The daemon may close only after the last reply: an error here is a reply that was lost.
        let reply = client.recv().with_context(|| {
            format!("{} of {CLAIMS_IN_FLIGHT} claims in flight were answered", granted + refused)
        })?;
        if number == 0 {
            stage.cluster.processes().terminate("ap")?;
        }
        match reply.status() {
            Some("GRANTED") => granted += 1,
            Some("UNAVAILABLE") => refused += 1,
            _ => {}
        }
    }
    let sentence = format!(
        "SIGTERM with {CLAIMS_IN_FLIGHT} claims in flight: all are answered, {granted} GRANTED and {refused} \
         UNAVAILABLE (draining)"
    );
    stage.report.check(&sentence, granted + refused == CLAIMS_IN_FLIGHT);
    let status = stage.cluster.processes().wait("ap", STOP_MAX)?;
    stage.report.check(&format!("ap stops: {}", described(status)), status.success());
    Ok(())
}
