//! What a request asks of the other regions before it is answered (S5, `quorum`), and whether nothing stands against it.
//!
//! A decision at this level takes two looks at its key. The first writes what is proposed (a claim as Asked, which blocks
//! others and is granted to nobody) and names it; the second, once a majority holds it durably and all that they know of
//! the key is joined in here, writes and answers. Both run under the key's lock, as every decision does; what lies between
//! them is `node::rounds`' business.
//!
//! Why two regions cannot both be granted a key: their majorities share a region. Whichever proposal it held second was
//! answered with the first one in it, so one of the two regions knows of both. Of two Asked claims the greater id yields
//! and the smaller waits for that; a Held one that still runs ends the round of any other.
//!
//! Must never: grant on what a region knew before it was asked.

use super::Context;
use crate::canary::{self, Bug};
use crate::entry::{Attempt, Entry, Phase, Winner};
use crate::hlc::Stamp;
use crate::ids::{ClaimId, Incarnation, RegionId};
use crate::limits;
use crate::request::{Reason, Reply};

/// What a majority of regions is to hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Proposal {
    /// A claim, Asked or Held.
    Claim(ClaimId),
    /// A Held claim's longer lease.
    Renewal(ClaimId),
    /// The outcome of a claim, completed where and in which life.
    Outcome(ClaimId, RegionId, Incarnation),
    /// A FORGET.
    Forget(Stamp),
}

/// What came of a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gathered {
    /// What was proposed.
    pub proposal: Proposal,
    /// A majority holds it, and nothing stood against it.
    pub reached: bool,
}

/// How a proposal stands by what is known of its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stand {
    /// Nothing is against it.
    Clear,
    /// Another region asks for the key too, and is to yield, or to be answered.
    Waits,
    /// It cannot be reached any more.
    Lost,
}

/// How `proposal` stands in `entry` (S5).
pub fn stands(entry: &Entry<'_>, proposal: &Proposal, context: &Context<'_>) -> Stand {
    match *proposal {
        Proposal::Claim(id) => claim_stands(entry, id, context),
        Proposal::Renewal(id) => match entry.winner() {
            Winner::Held(winner) if winner.id == id && context.now_ms <= winner.lease_until => {
                // Who asks may have seen the shorter lease end: what comes of it decides.
                let asked = others(entry, id, context).any(|other| other.phase == Phase::Asked);
                if asked { Stand::Waits } else { Stand::Clear }
            }
            _ => Stand::Lost,
        },
        Proposal::Outcome(claim, region, incarnation) => {
            let slot = (claim, region, incarnation);
            if !entry.counting_outcomes().any(|o| (o.claim, o.region, o.incarnation) == slot) {
                return Stand::Lost;
            }
            // Who asks may not have seen it: whether that one was granted is what COMPLETED or CONTESTED says.
            let asked = others(entry, claim, context).any(|other| other.phase == Phase::Asked);
            if asked { Stand::Waits } else { Stand::Clear }
        }
        Proposal::Forget(stamp) => {
            if entry.forgotten >= stamp {
                Stand::Clear
            } else {
                Stand::Lost
            }
        }
    }
}

fn claim_stands(entry: &Entry<'_>, id: ClaimId, context: &Context<'_>) -> Stand {
    let Some(ours) = entry.counting_attempts().find(|attempt| attempt.id == id) else { return Stand::Lost };
    let settled = matches!(entry.winner(), Winner::Settled(_));
    if settled || ours.phase == Phase::Released || ours.is_abandoned() || context.now_ms > ours.lease_until {
        return Stand::Lost;
    }
    let mut stand = Stand::Clear;
    for other in others(entry, id, context) {
        match other.phase {
            Phase::Asked if ours.phase == Phase::Held => {}
            // The greater id yields at once; the smaller waits for that.
            Phase::Asked if id < other.id && !canary::planted(Bug::AskedDoNotWait) => stand = Stand::Waits,
            Phase::Asked if id < other.id => {}
            _ => return Stand::Lost,
        }
    }
    stand
}

/// Attempts of others whose lease is not over by more than `max_drift`.
fn others<'e, 'a>(
    entry: &'e Entry<'a>,
    id: ClaimId,
    context: &Context<'_>,
) -> impl Iterator<Item = &'e Attempt<'a>> {
    let (now_ms, max_drift_ms) = (context.now_ms, context.max_drift_ms);
    let runs = move |attempt: &&Attempt<'_>| now_ms <= attempt.lease_until.saturating_add(max_drift_ms);
    entry.blocking_attempts().filter(move |attempt| attempt.id != id).filter(runs)
}

/// UNAVAILABLE, with the usual advice.
pub(super) fn unavailable<'e>(reason: Reason) -> Reply<'e> {
    Reply::Unavailable { reason, retry_after_ms: limits::RETRY_AFTER_MS_DEFAULT }
}
