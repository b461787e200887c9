//! What services see every day: a claim, its duplicates, a lost reply, a wrong payload, a duplicate that waits.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::demo::cluster::Region::{self, Ap, Eu, Us};
use crate::demo::limits::{PARKED_FOR, REPLY_MAX, SEEN_MAX};
use crate::demo::report::shown;
use crate::demo::stage::{Stage, text};
use crate::resp::Value;

const PAYLOAD: &[u8] = b"000102030405060708090a0b0c0d0e0f";
const OTHER_PAYLOAD: &[u8] = b"ffffffffffffffffffffffffffffffff";
const KEY: &[u8] = b"pay:order-1001";
const OUTCOME: &[u8] = br#"{"charge":"ch_1","amount":4200}"#;

/// A claim in eu is in progress elsewhere, then replayed elsewhere, with the same bytes.
pub fn claim_and_replay(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let claim: &[&[u8]] = &[b"CLAIM", KEY, b"FP", PAYLOAD, b"CLAIMANT", b"checkout-1"];
    let (granted, _) = stage.tell(Eu, claim, &["claim_id"])?;
    let token = text(&granted, "token");
    let at = Instant::now();
    stage.report.check("eu grants it", granted.status() == Some("GRANTED"));
    for region in [Us, Ap] {
        let seen =
            stage.until(SEEN_MAX, |stage| Ok(state(stage, region, KEY)? == "HELD"))?.map(|_| at.elapsed());
        let other: &[&[u8]] = &[b"CLAIM", KEY, b"FP", PAYLOAD, b"CLAIMANT", b"checkout-2"];
        let (reply, _) = stage.tell(region, other, &["region"])?;
        let told = reply.status() == Some("IN_PROGRESS") && text(&reply, "region") == "eu";
        let sentence =
            format!("{} says IN_PROGRESS in eu, within {} of eu's grant", region.name(), time(seen));
        stage.report.check(&sentence, told && seen.is_some());
    }
    let (completed, _) = stage.tell(Eu, &[b"COMPLETE", KEY, token.as_bytes(), OUTCOME], &["region"])?;
    stage.report.check("eu records the outcome", completed.status() == Some("COMPLETED"));
    for region in [Us, Ap, Eu] {
        let seen = stage.until(SEEN_MAX, |stage| Ok(state(stage, region, KEY)? == "SETTLED"))?;
        let duplicate: &[&[u8]] = &[b"CLAIM", KEY, b"FP", PAYLOAD, b"CLAIMANT", b"checkout-3"];
        let (reply, _) = stage.tell(region, duplicate, &["outcome"])?;
        let same = reply.field("outcome").and_then(Value::as_bytes) == Some(OUTCOME);
        let replayed = reply.status() == Some("REPLAY") && same && seen.is_some();
        stage.report.check(&format!("{} replays the very same bytes", region.name()), replayed);
    }
    Ok(())
}

/// A claim whose reply is never read; the same claimant asks again.
pub fn lost_reply(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let key: &[u8] = b"pay:order-1002";
    let claim: &[&[u8]] = &[b"CLAIM", key, b"FP", PAYLOAD, b"CLAIMANT", b"checkout-1"];
    let mut lost = stage.client(Eu)?;
    lost.send(claim)?;
    lost.flush()?;
    drop(lost);
    stage.report.say("eu> a client sends its CLAIM and vanishes before the reply");
    let held = stage.until(REPLY_MAX, |stage| Ok(state(stage, Eu, key)? == "HELD"))?;
    held.context("the lost claim was not made")?;
    let made = text(&stage.call(Eu, &[b"GET", key])?, "claim_id");
    let (first, _) = stage.tell(Eu, claim, &["claim_id"])?;
    let (second, _) = stage.tell(Eu, claim, &["claim_id"])?;
    let (token, id) = (text(&first, "token"), text(&first, "claim_id"));
    let same = first.status() == Some("GRANTED") && id == made && !token.is_empty();
    let again = same && text(&second, "token") == token;
    stage.report.check("the same claimant gets the same claim and the same token, however often", again);
    let attempts = stage.call(Eu, &[b"INSPECT", key])?;
    let attempts = attempts.field("attempts").and_then(Value::as_array).map_or(0, <[Value]>::len);
    stage.report.check("there is exactly one attempt", attempts == 1);
    let (other, _) =
        stage.tell(Eu, &[b"CLAIM", key, b"FP", PAYLOAD, b"CLAIMANT", b"checkout-9"], &["region"])?;
    stage.report.check("anybody else is told IN_PROGRESS", other.status() == Some("IN_PROGRESS"));
    Ok(())
}

/// The key of the first act for another payload, in every region.
pub fn mismatch(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    for region in Region::ALL {
        let (reply, _) =
            stage.tell(region, &[b"CLAIM", KEY, b"FP", OTHER_PAYLOAD, b"CLAIMANT", b"bug"], &["state"])?;
        let leaked = reply.field("outcome").is_some();
        let told = reply.status() == Some("MISMATCH") && !leaked;
        stage.report.check(&format!("{} says MISMATCH and gives no outcome away", region.name()), told);
    }
    Ok(())
}

/// A duplicate parks in ap until eu completes.
pub fn wait(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let key: &[u8] = b"pay:order-1003";
    let (granted, _) = stage.tell(Eu, &[b"CLAIM", key, b"CLAIMANT", b"checkout-1"], &[])?;
    let token = text(&granted, "token");
    let seen = stage.until(SEEN_MAX, |stage| Ok(state(stage, Ap, key)? == "HELD"))?;
    seen.context("ap has not seen eu's claim within a second")?;
    let mut waiting = stage.client(Ap)?;
    let (answer, answered) = channel();
    // Ends by itself: the client's timeout and the claim's WAIT are both bounded.
    std::thread::spawn(move || {
        let reply = waiting.call(&[b"CLAIM", key, b"CLAIMANT", b"checkout-2", b"WAIT", b"4000"]);
        let _ = answer.send((reply, Instant::now()));
    });
    let quiet = answered.recv_timeout(PARKED_FOR);
    let parked = matches!(quiet, Err(RecvTimeoutError::Timeout));
    stage.report.say(&format!("ap> CLAIM {} CLAIMANT checkout-2 WAIT 4000", String::from_utf8_lossy(key)));
    stage.report.check("the duplicate in ap waits instead of being told IN_PROGRESS", parked);
    let completing = Instant::now();
    stage.tell(Eu, &[b"COMPLETE", key, token.as_bytes(), OUTCOME], &[])?;
    let (reply, at) = answered.recv_timeout(REPLY_MAX).context("the duplicate was never answered")?;
    let reply = reply?;
    let same = reply.field("outcome").and_then(Value::as_bytes) == Some(OUTCOME);
    let took = at.saturating_duration_since(completing);
    stage.report.figure("woken_across_regions_ms", took.as_secs_f64() * 1e3);
    let woken = reply.status() == Some("REPLAY") && same && took < SEEN_MAX;
    stage
        .report
        .check(&format!("eu's completion wakes it in ap with the outcome, {} later", shown(took)), woken);
    Ok(())
}

fn state(stage: &mut Stage<'_>, region: Region, key: &[u8]) -> anyhow::Result<String> {
    Ok(stage.call(region, &[b"GET", key])?.status().unwrap_or_default().to_owned())
}

fn time(took: Option<Duration>) -> String {
    took.map_or_else(|| "NOT within a second".to_owned(), shown)
}
