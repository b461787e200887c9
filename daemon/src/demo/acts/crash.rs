//! kill -9 of a daemon while a client writes to it: what was acknowledged is there again, in the region itself and,
//! once caught up, in the others; and the others never stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, anyhow};

use crate::demo::cluster::Region::{Ap, Eu, Us};
use crate::demo::limits::{
    AGREE_MAX, CLAIMS_WHILE_DOWN, CRASH_OPERATIONS_MAX, CRASH_OPERATIONS_MIN, REPLY_MAX,
};
use crate::demo::report::shown;
use crate::demo::stage::{Stage, text};
use crate::resp::{Client, Value};

/// What the writer was told before the daemon died.
#[derive(Debug)]
struct Acknowledged {
    key: String,
    token: String,
    /// Whether its completion was acknowledged, too.
    completed: bool,
}

/// Kills us while it is written to, and starts it again.
pub fn kill_and_recover(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let count = Arc::new(AtomicUsize::new(0));
    let writer = start_writer(stage.client(Us)?, &count)?;
    let busy = stage.until(AGREE_MAX, |_| Ok(count.load(Ordering::Relaxed) >= CRASH_OPERATIONS_MIN))?;
    stage.cluster.processes().kill("us");
    let acknowledged = writer.join().map_err(|_| anyhow!("the writer panicked"))?;
    let completed = acknowledged.iter().filter(|known| known.completed).count();
    let claimed = acknowledged.len();
    stage.report.say(&format!("us> SIGKILL, after {claimed} acknowledged claims and {completed} outcomes"));
    stage
        .report
        .check("the daemon died while it was being written to", busy.is_some() && claimed > completed);
    let others = go_on_without(stage)?;
    let sentence = format!("eu and ap answer all the while: {CLAIMS_WHILE_DOWN} claims, us being dead");
    stage.report.check(&sentence, others);
    let began = Instant::now();
    stage.cluster.start(Us)?;
    let client = stage.cluster.wait_ready(Us)?;
    let restarted = began.elapsed();
    stage.set_client(Us, client);
    stage.report.figure("restart_ms", restarted.as_secs_f64() * 1e3);
    stage.report.say(&format!("us> started again: it has read its log and caught up, {}", shown(restarted)));
    let lost = lost_of(&mut stage.client(Us)?, &acknowledged, true)?;
    let sentence =
        format!("nothing acknowledged is lost in us: {claimed} tokens and {completed} outcomes are the same");
    stage.report.check(&sentence, lost == 0);
    let agreed = stage.agreed(AGREE_MAX)?;
    let (took, digest) = agreed.context("the regions do not agree after the restart")?;
    let sentence = format!("all three regions hold the same state again (digest {digest}), {}", shown(took));
    stage.report.check(&sentence, true);
    let lost = lost_of(&mut stage.client(Eu)?, &acknowledged, false)?;
    stage.report.check("and all of it is in eu, too", lost == 0);
    let missed = stage.call(Us, &[b"GET", format!("down:{}", CLAIMS_WHILE_DOWN - 1).as_bytes()])?;
    stage.report.check("what us had missed is there, too", missed.status() == Some("HELD"));
    Ok(())
}

/// Claims and completes one key after the other until the daemon is gone.
fn start_writer(
    mut client: Client,
    count: &Arc<AtomicUsize>,
) -> std::io::Result<JoinHandle<Vec<Acknowledged>>> {
    let count = Arc::clone(count);
    std::thread::Builder::new().name("writer".into()).spawn(move || {
        let mut acknowledged = Vec::new();
        for number in 0..CRASH_OPERATIONS_MAX {
            let key = format!("crash:{number}");
            let claimed = client.call(&[b"CLAIM", key.as_bytes(), b"CLAIMANT", b"writer"]);
            let Ok(reply) = claimed else { break };
            let token = text(&reply, "token");
            acknowledged.push(Acknowledged { key, token, completed: false });
            // Every fourth operation is still running when the crash comes.
            if let Some(known) = acknowledged.last_mut().filter(|_| number % 4 != 3) {
                let words: [&[u8]; 4] =
                    [b"COMPLETE", known.key.as_bytes(), known.token.as_bytes(), known.key.as_bytes()];
                match client.call(&words) {
                    Ok(reply) => known.completed = reply.status() == Some("COMPLETED"),
                    Err(_) => break,
                }
            }
            count.store(acknowledged.len(), Ordering::Relaxed);
        }
        acknowledged
    })
}

/// The regions that live answer, and keep what the dead one will have missed.
fn go_on_without(stage: &mut Stage<'_>) -> anyhow::Result<bool> {
    let mut all = true;
    for number in 0..CLAIMS_WHILE_DOWN {
        let region = if number % 2 == 0 { Eu } else { Ap };
        let key = format!("down:{number}");
        let reply = stage.call(region, &[b"CLAIM", key.as_bytes(), b"CLAIMANT", b"demo"])?;
        all &= reply.status() == Some("GRANTED");
    }
    Ok(all)
}

/// How many acknowledged operations are not there as they were acknowledged. In the region that acknowledged them,
/// repeating the claim must give the very token; elsewhere it is in progress.
fn lost_of(client: &mut Client, acknowledged: &[Acknowledged], own: bool) -> anyhow::Result<usize> {
    let mut lost = 0;
    client.set_timeout(REPLY_MAX)?;
    // Asked in batches, so that neither side's buffers fill up.
    for batch in acknowledged.chunks(256) {
        for known in batch {
            client.send(&[b"CLAIM", known.key.as_bytes(), b"CLAIMANT", b"writer"])?;
        }
        for known in batch {
            let reply = client.recv()?;
            let outcome = reply.field("outcome").and_then(Value::as_bytes);
            let kept = match reply.status() {
                Some("REPLAY") => outcome == Some(known.key.as_bytes()),
                // The claimant may repeat its claim in any region (S4.1), and gets the very same token.
                Some("GRANTED") => !known.completed && text(&reply, "token") == known.token,
                Some("IN_PROGRESS") => !own && !known.completed,
                _ => false,
            };
            lost += usize::from(!kept);
        }
    }
    Ok(lost)
}
