//! What regions say of themselves when they are asked at the end, and whether they agree.
//!
//! Must never: take a region that does not answer for one that agrees.

use std::rc::Rc;

use std::time::Duration;

use super::answer;
use super::daemons::Daemons;
use super::resp::Value;
use crate::oracle::agreement::Final;
use crate::oracle::ask::Answer;
use crate::oracle::facts::{Key, Millis, Region};
use crate::oracle::history::{Said, order_ties};
use crate::oracle::violation::{Violation, clause};
use crate::scenario::Scenario;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Conflicts of one page.
const PAGE: &[u8] = b"1000";
/// Keys asked for at once.
const AT_ONCE: usize = 256;

/// All of it.
#[derive(Debug)]
pub struct End {
    /// What regions hold, and list.
    pub finals: Vec<Final>,
    /// What they answer to GET.
    pub said: Said,
    /// The machine's wall clock then, Unix ms.
    pub now_ms: Millis,
}

fn call(daemons: &Daemons, at: usize, words: &[&[u8]]) -> Option<Value> {
    daemons.client(at, PATIENCE).ok()?.call(words).ok()
}

/// Whether a region has links to so many others.
pub fn is_linked(daemons: &Daemons, at: usize, others: usize) -> bool {
    call(daemons, at, &[b"PEERS"]).is_some_and(|reply| {
        let linked = |row: &&Value| row.text("state") == Some("linked");
        reply.list("peers").iter().filter(linked).count() >= others
    })
}

/// Whether a region grants claims.
pub fn is_ready(daemons: &Daemons, at: usize) -> bool {
    call(daemons, at, &[b"STATUS"]).is_some_and(|reply| reply.truth("ready"))
}

/// Whether a region counts in majorities (S5).
pub fn is_counted(daemons: &Daemons, at: usize) -> bool {
    call(daemons, at, &[b"STATUS"]).is_some_and(|reply| reply.text("majority") == Some("counted"))
}

/// Bytes of frames that a region has sent since it started; 0 if it is down.
pub fn bytes_out(daemons: &Daemons, at: usize) -> u64 {
    let peers = call(daemons, at, &[b"PEERS"]);
    peers.map_or(0, |reply| reply.list("peers").iter().filter_map(|row| row.number("bytes_out")).sum())
}

/// Whether these regions are linked to each other, but for the severed, and have the same digest.
pub fn agree(daemons: &Daemons, regions: &[usize], severed: Option<(usize, usize)>) -> bool {
    let digest = |at: &usize| call(daemons, *at, &[b"STATUS", b"DIGEST"])?.text("digest").map(str::to_owned);
    let digests: Option<Vec<String>> = regions.iter().map(digest).collect();
    let alike = digests.is_some_and(|digests| digests.iter().all(|digest| *digest == digests[0]));
    let missing = |at: usize| usize::from(severed.is_some_and(|(a, b)| at == a || at == b));
    alike && regions.iter().all(|at| is_linked(daemons, *at, regions.len() - 1 - missing(*at)))
}

/// What is there when these regions have agreed.
///
/// # Errors
/// One does not answer, or not what is understood.
pub fn gather(
    daemons: &Daemons,
    regions: &[usize],
    names: &[String],
    keys: &[String],
) -> Result<End, String> {
    let region = |name: &str| names.iter().position(|known| known == name).map(|at| at as Region + 1);
    let key = |bytes: &[u8]| keys.iter().position(|known| known.as_bytes() == bytes);
    let (mut finals, mut said) = (Vec::new(), Said::new());
    for at in regions {
        let number = *at as Region + 1;
        let gone = |error: std::io::Error| format!("{} does not answer: {error}", names[*at]);
        let mut client = daemons.client(*at, PATIENCE).map_err(gone)?;
        let (mut views, mut answers) = (Vec::new(), Vec::new());
        for some in keys.chunks(AT_ONCE) {
            let commands = |verb: &'static [u8]| {
                some.iter().map(move |key| vec![verb, key.as_bytes()]).collect::<Vec<_>>()
            };
            for reply in client.call_all(&commands(b"INSPECT")).map_err(gone)? {
                views.push(answer::view(&reply, &region)?);
            }
            for reply in client.call_all(&commands(b"GET")).map_err(gone)? {
                answers.push(answer::answer(&reply)?.0);
            }
        }
        let (mut conflicts, mut cursor) = (Vec::new(), b"0".to_vec());
        loop {
            let words: [&[u8]; 5] = [b"CONFLICTS", b"CURSOR", &cursor, b"COUNT", PAGE];
            let page = client.call(&words).map_err(gone)?;
            for row in page.list("conflicts") {
                // Those of probes and other people's keys are none of ours.
                if row.bytes("key").and_then(key).is_some() {
                    conflicts.push(answer::conflict(row, &region, &key)?);
                }
            }
            cursor = page.bytes("cursor").unwrap_or(b"0").to_vec();
            if cursor == b"0" {
                break;
            }
        }
        let status = client.call(&[b"STATUS", b"DIGEST"]).map_err(gone)?;
        let digest = status.text("digest").and_then(|digits| u128::from_str_radix(digits, 16).ok());
        let digest = digest.ok_or_else(|| format!("{} has no digest", names[*at]))?;
        finals.push(Final {
            region: number,
            views: views.into_iter().map(Rc::new).collect(),
            conflicts,
            digest,
        });
        said.push((number, answers));
    }
    order_ties(&mut finals, &said);
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(End { finals, said, now_ms: wall.as_millis() as Millis })
}

/// What a region that does not grant a claim of a fresh key answers instead.
pub fn refuses(daemons: &Daemons, at: usize) -> Option<(usize, String)> {
    let key = format!("probe:{at}");
    let reply = call(daemons, at, &[b"CLAIM", key.as_bytes(), b"CLAIMANT", b"onced-sim"]);
    let Some(reply) = reply else { return Some((at, "nothing".to_owned())) };
    match answer::answer(&reply) {
        Ok((Answer::Granted { .. }, _)) => None,
        Ok((Answer::Unavailable { reason }, _)) => Some((at, format!("UNAVAILABLE {reason}"))),
        Ok((answer, _)) => Some((at, answer.status().to_owned())),
        Err(reply) => Some((at, reply)),
    }
}

/// INV-17, of regions that do not agree.
pub fn apart(at_us: u64, scenario: &Scenario, healed: &[usize], key: Option<&Key>) -> Violation {
    let story = [
        format!("{} s after the healing", scenario.convergence_us() / 1_000_000),
        match key {
            Some(_) => "regions still hold different entries of the key",
            None => "some pair of regions is still not linked, or digests differ",
        }
        .to_owned(),
    ];
    let regions = healed.iter().map(|at| *at as Region + 1).collect();
    Violation { invariant: "INV-17", clause: clause::INV_17, key: key.copied(), at_us, regions, story }
}

/// INV-17, of a region that still refuses.
pub fn refusing(at_us: u64, (at, answer): &(usize, String)) -> Violation {
    let story = [
        format!("r{} was healed, and agrees with all", at + 1),
        format!("a CLAIM of a fresh key there is still answered {answer}"),
    ];
    let regions = [*at as Region + 1].into();
    Violation { invariant: "INV-17", clause: clause::INV_17, key: None, at_us, regions, story }
}
