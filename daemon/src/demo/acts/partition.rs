//! The partition: no byte passes between {eu} and {us, ap}; both sides are granted the same keys and run them; after
//! healing every region names the same winner, and nobody's work is silently erased.

use std::time::Instant;

use anyhow::Context as _;

use crate::demo::cluster::Region::{self, Ap, Eu, Us};
use crate::demo::limits::{AGREE_MAX, REPLY_MAX};
use crate::demo::report::shown;
use crate::demo::stage::{Stage, text};
use crate::resp::Value;

const PAYLOAD: &[u8] = b"0f0e0d0c0b0a09080706050403020100";
/// Completed on both sides.
const TWICE: &[u8] = b"pay:order-2001";
/// Claimed on both sides and still running when the link heals.
const RUNNING: &[u8] = b"pay:order-2002";
const BY_EU: &[u8] = br#"{"charge":"ch_eu"}"#;
const BY_US: &[u8] = br#"{"charge":"ch_us"}"#;

/// The tokens of both sides' claims.
struct Sides {
    twice: [String; 2],
    running: [String; 2],
}

/// Cuts, lets both sides run, heals, and asks everybody who won.
pub fn cut_and_heal(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    cut(stage)?;
    let sides = run_on_both_sides(stage)?;
    heal(stage)?;
    same_winner(stage)?;
    contested_is_shown(stage)?;
    losers_are_told(stage, &sides)?;
    loser_is_listed(stage)
}

fn cut(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    for (at, other) in [(Eu, "us"), (Eu, "ap"), (Us, "eu"), (Ap, "eu")] {
        stage.tell(at, &[b"PEER", b"CUT", other.as_bytes()], &[])?;
    }
    let down = stage.until(REPLY_MAX, |stage| {
        Ok(stage.links(Eu)? == 0 && stage.links(Us)? == 1 && stage.links(Ap)? == 1)
    })?;
    stage.report.check("eu has no link; us and ap have only each other's", down.is_some());
    Ok(())
}

fn run_on_both_sides(stage: &mut Stage<'_>) -> anyhow::Result<Sides> {
    let before = traffic(stage)?;
    let mut both = true;
    let mut claim = |region: Region, key: &[u8], claimant: &[u8]| -> anyhow::Result<String> {
        let words: &[&[u8]] = &[b"CLAIM", key, b"FP", PAYLOAD, b"CLAIMANT", claimant];
        let (reply, _) = stage.tell(region, words, &["claim_id"])?;
        both &= reply.status() == Some("GRANTED");
        Ok(text(&reply, "token"))
    };
    let twice = [claim(Eu, TWICE, b"checkout-eu")?, claim(Us, TWICE, b"checkout-us")?];
    let running = [claim(Eu, RUNNING, b"checkout-eu")?, claim(Us, RUNNING, b"checkout-us")?];
    stage.report.check("both sides grant the same keys: neither waits for the other", both);
    for (region, token, outcome) in [(Eu, &twice[0], BY_EU), (Us, &twice[1], BY_US)] {
        let (reply, _) = stage.tell(region, &[b"COMPLETE", TWICE, token.as_bytes(), outcome], &["region"])?;
        both &= reply.status() == Some("COMPLETED");
    }
    stage.report.check("both complete the first one: it has run twice, and nobody knows yet", both);
    let across = stage.until(REPLY_MAX, |stage| {
        let reply = stage.call(Ap, &[b"GET", TWICE])?;
        Ok(text(&reply, "region") == "us" && reply.status() == Some("SETTLED"))
    })?;
    stage.report.check("ap, on us's side, sees us's outcome", across.is_some());
    let quiet = traffic(stage)? == before;
    stage.report.check("not one byte has passed between eu and the others", quiet);
    Ok(Sides { twice, running })
}

/// Bytes that eu has sent to and received from its peers.
fn traffic(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Option<i64>>> {
    let peers = stage.call(Eu, &[b"PEERS"])?;
    let peers = peers.field("peers").and_then(Value::as_array).unwrap_or_default();
    let counted = |peer: &Value, name| peer.field(name).and_then(Value::as_int);
    Ok(peers.iter().flat_map(|peer| [counted(peer, "bytes_out"), counted(peer, "bytes_in")]).collect())
}

fn heal(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    for (at, other) in [(Us, "eu"), (Ap, "eu"), (Eu, "us"), (Eu, "ap")] {
        stage.tell(at, &[b"PEER", b"HEAL", other.as_bytes()], &[])?;
    }
    let began = Instant::now();
    let all_linked = stage.until(AGREE_MAX, |stage| {
        Ok(Region::ALL.into_iter().map(|region| stage.links(region)).sum::<anyhow::Result<usize>>()? == 6)
    })?;
    all_linked.context("the links do not come back")?;
    let agreed = stage.agreed(AGREE_MAX)?;
    let digest = agreed.as_ref().map_or("differs", |(_, digest)| digest);
    let took = began.elapsed();
    stage.report.figure("healed_to_agreement_ms", took.as_secs_f64() * 1e3);
    let sentence =
        format!("{} after healing all three regions hold the same state (digest {digest})", shown(took));
    stage.report.check(&sentence, agreed.is_some());
    Ok(())
}

fn same_winner(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let mut winners = Vec::new();
    for region in Region::ALL {
        let (reply, _) = stage.tell(region, &[b"GET", TWICE], &["region", "outcome"])?;
        let inspected = stage.call(region, &[b"INSPECT", TWICE])?;
        let outcomes = inspected.field("outcomes").and_then(Value::as_array).map_or(0, <[Value]>::len);
        winners.push((text(&reply, "claim_id"), text(&reply, "outcome"), text(&reply, "region"), outcomes));
    }
    let first = winners.first().cloned().unwrap_or_default();
    let same = winners.iter().all(|winner| *winner == first);
    let by_eu = first.1.as_bytes() == BY_EU && first.2 == "eu";
    stage.report.check("the same winner in all three: eu, whose completion came first", same && by_eu);
    stage.report.check("both outcomes are kept: nothing is erased", first.3 == 2);
    Ok(())
}

/// The operation that both sides are still running.
fn contested_is_shown(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let mut alike = true;
    for region in Region::ALL {
        let reply = stage.call(region, &[b"CONFLICTS", b"CONTESTED"])?;
        let rows = reply.field("conflicts").and_then(Value::as_array).unwrap_or_default();
        alike &= rows.iter().any(|row| text(row, "key").as_bytes() == RUNNING);
    }
    stage.report.check("what both sides still run is listed as contested in every region", alike);
    Ok(())
}

fn losers_are_told(stage: &mut Stage<'_>, sides: &Sides) -> anyhow::Result<()> {
    let again: &[&[u8]] = &[b"COMPLETE", TWICE, sides.twice[1].as_bytes(), BY_US];
    let (reply, _) = stage.tell(Us, again, &["region", "outcome"])?;
    let winners = reply.field("outcome").and_then(Value::as_bytes) == Some(BY_EU);
    let told = reply.status() == Some("SUPERSEDED") && winners;
    stage
        .report
        .check("the loser asks again: SUPERSEDED, with the winner's outcome to answer its client", told);
    let (reply, _) = stage.tell(Us, &[b"RENEW", RUNNING, sides.running[1].as_bytes()], &["region"])?;
    let told = reply.status() == Some("SUPERSEDED") && text(&reply, "region") == "eu";
    stage.report.check("the loser that still runs learns it at its next RENEW, before it acts", told);
    let (reply, _) = stage.tell(Eu, &[b"RENEW", RUNNING, sides.running[0].as_bytes()], &[])?;
    stage.report.check("the winner's RENEW is granted", reply.status() == Some("RENEWED"));
    let complete: &[&[u8]] = &[b"COMPLETE", RUNNING, sides.running[0].as_bytes(), BY_EU];
    let (reply, _) = stage.tell(Eu, complete, &[])?;
    let contested = reply.status() == Some("CONTESTED");
    stage.report.check("its COMPLETE is CONTESTED: recorded, with a warning that both may run", contested);
    Ok(())
}

fn loser_is_listed(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let mut lists = Vec::new();
    for region in Region::ALL {
        let (reply, _) = stage.tell(region, &[b"CONFLICTS", b"NAMESPACE", b"pay"], &[])?;
        let rows = reply.field("conflicts").and_then(Value::as_array).unwrap_or_default();
        let row = |row: &Value| {
            ["key", "loser_region", "loser_claim", "winner_region", "winner_claim"].map(|n| text(row, n))
        };
        lists.push(rows.iter().map(row).collect::<Vec<_>>());
    }
    let alike = lists.iter().all(|list| *list == lists[0]);
    let once = lists[0].len() == 1 && lists[0][0][0].as_bytes() == TWICE && lists[0][0][1] == "us";
    stage.report.check("CONFLICTS lists the loser exactly once, alike in every region", alike && once);
    Ok(())
}
