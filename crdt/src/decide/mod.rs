//! The decisions (S4): entry + request + now -> reply + delta. Pure: nothing is read but the
//! arguments, nothing is written but the result, so that the store, the simulator and the tests all
//! run the same lines.
//!
//! A delta is itself an entry, to be joined, logged and streamed as it is. Others' attempts are
//! written only by a takeover (`abandoned_lease`); outcomes by whichever region a holder completes at.
//!
//! Must never: look at more than the one entry, or write an attempt of another region.

mod claim;
mod holder;
pub(crate) mod home;
mod key_time;
mod resolve;
mod round;

#[cfg(test)]
mod tests;

pub use home::{Home, Verdict, home_of};
pub use round::{Gathered, Proposal, Stand, stands};

use crate::conflict::Conflict;
use crate::entry::{Attempt, Entry, Winner};
use crate::hash::ClusterKeys;
use crate::hlc::Stamp;
use crate::ids::{ClaimId, Incarnation, RegionId};
use crate::policy::{Level, Policy};
use crate::request::{Reason, Reply, Request};
use crate::token::Token;

/// What a decision may know besides entry and request.
#[derive(Clone, Copy, Debug)]
pub struct Context<'c> {
    /// A fresh stamp, ticked under the key's lock: becomes the claim's or completion's, if one is made.
    pub stamp: Stamp,
    /// max(wall clock, clock's milliseconds) (S2).
    pub now_ms: u64,
    /// Where we are.
    pub region: RegionId,
    /// In which life of our data.
    pub incarnation: Incarnation,
    /// Bound between wall clocks, in milliseconds (S2).
    pub max_drift_ms: u64,
    /// The namespace's policy.
    pub policy: &'c Policy,
    /// The cluster's keys, for tokens.
    pub keys: &'c ClusterKeys,
    /// Age of the oldest peer's last word, in milliseconds.
    pub stale_ms: u64,
    /// What came of asking the other regions, on the second look (S5).
    pub gathered: Option<Gathered>,
    /// How the request stands to its key's home (S5).
    pub home: Home,
    /// This region counts in majorities (S5).
    pub has_voice: bool,
}

impl Context<'_> {
    fn token(&self, key: &[u8], attempt: &Attempt<'_>) -> Token {
        Token::issue(self.keys, key, attempt.id, attempt.fingerprint, attempt.expires_at)
    }

    /// The level of a request that asks for `asked`: at least the namespace's (S5).
    fn level(&self, asked: Option<Level>) -> Level {
        asked.unwrap_or_default().max(self.policy.level)
    }

    /// The level of what is decided here and no majority holds.
    fn reached(&self) -> Level {
        if matches!(self.home, Home::Here | Home::Said(_)) { Level::Home } else { Level::Local }
    }

    fn own_claim(&self) -> ClaimId {
        ClaimId { stamp: self.stamp, region: self.region, incarnation: self.incarnation }
    }
}

/// A reply and what must be joined into the entry before it may leave.
#[derive(Clone, Debug)]
pub struct Decision<'e> {
    /// What the caller is told.
    pub reply: Reply<'e>,
    /// What is written; `None` for answers that change nothing.
    pub delta: Option<Entry<'e>>,
    /// A loser for whose bytes the entry has no room (S3).
    pub loser: Option<Box<Conflict>>,
    /// To be held by a majority before anybody is told anything (S5); `reply` is then a placeholder.
    pub asks: Option<Proposal>,
    /// Another region decides (S5); `reply` is then a placeholder.
    pub forwards: Option<RegionId>,
}

impl<'e> Decision<'e> {
    fn answer(reply: Reply<'e>) -> Self {
        Self { reply, delta: None, loser: None, asks: None, forwards: None }
    }

    fn write(reply: Reply<'e>, delta: Entry<'e>) -> Self {
        Self { delta: Some(delta), ..Self::answer(reply) }
    }

    fn ask(proposal: Proposal, delta: Option<Entry<'e>>) -> Self {
        Self { delta, asks: Some(proposal), ..Self::answer(Reply::Free) }
    }
}

/// Decides one request over what is known of its key.
pub fn decide<'e>(entry: &Entry<'e>, request: &Request<'e>, context: &Context<'_>) -> Decision<'e> {
    if let Some(decision) = home::elsewhere(entry, request, context) {
        return decision;
    }
    match request {
        Request::Claim(claim) => claim::claim(entry, claim, context),
        Request::Complete { key, token, outcome, level, .. } => {
            let decision = holder::complete(entry, key, token, outcome, context);
            home::recorded(holder::majority(entry, decision, token.id, *level, context), context)
        }
        Request::Renew { key, token, lease_ms, level, .. } => {
            holder::renew(entry, key, token, (*lease_ms, *level), context)
        }
        Request::Release { key, token, .. } => holder::release(entry, key, token, context),
        Request::Get { .. } => Decision::answer(look(entry, context)),
        Request::Forget { .. } => forget(context),
        Request::Resolve { how, .. } => resolve::resolve(entry, how, context),
    }
}

/// S4.5: who has the key.
fn look<'e>(entry: &Entry<'e>, context: &Context<'_>) -> Reply<'e> {
    if entry.is_past(context.now_ms, context.max_drift_ms) {
        return Reply::Free;
    }
    match entry.winner() {
        Winner::Settled(outcome) => Reply::Settled(*outcome),
        Winner::Held(attempt) => {
            Reply::Held { attempt: *attempt, contested: entry.is_contested(context.now_ms) }
        }
        Winner::Free => Reply::Free,
    }
}

/// S4.6: voids every claim up to a fresh stamp, of every region.
fn forget<'e>(context: &Context<'_>) -> Decision<'e> {
    match context.gathered {
        Some(Gathered { proposal: Proposal::Forget(stamp), reached: true }) => {
            return Decision::answer(Reply::Forgotten(stamp));
        }
        Some(_) => return Decision::answer(round::unavailable(Reason::RecordedHere)),
        None => {}
    }
    let delta = Entry { forgotten: context.stamp, ..Entry::default() };
    if context.level(None) == Level::Quorum {
        return Decision::ask(Proposal::Forget(context.stamp), Some(delta));
    }
    Decision::write(Reply::Forgotten(context.stamp), delta)
}
