//! Field by field from `crdt`'s values to the oracle's plain data.
//!
//! Must never: interpret. A field that is wrong in the product must arrive wrong.

use crdt::conflict::Conflict;
use crdt::entry::{Attempt, Entry, Outcome, Phase as RealPhase};
use crdt::hlc::Stamp;
use crdt::ids::{ClaimId, Incarnation, RegionId};
use crdt::request::Reply;
use crdt::store::Inspected;
use crdt::token::Token;

use crate::oracle::agreement::ConflictFact;
use crate::oracle::ask::{Answer, TokenFact};
use crate::oracle::facts::{AttemptFact, ClaimName, Millis, OutcomeFact, Phase, View};
use crate::oracle::laws::Lattice;

fn name(id: ClaimId) -> ClaimName {
    ClaimName { stamp: id.stamp.bits(), region: id.region.0, incarnation: id.incarnation.0 }
}

/// Back again.
pub(super) const fn claim_id(name: ClaimName) -> ClaimId {
    ClaimId {
        stamp: Stamp::from_bits(name.stamp),
        region: RegionId(name.region),
        incarnation: Incarnation(name.incarnation),
    }
}

fn attempt(attempt: &Attempt<'_>) -> AttemptFact {
    AttemptFact {
        claim: name(attempt.id),
        phase: match attempt.phase {
            RealPhase::Asked => Phase::Asked,
            RealPhase::Held => Phase::Held,
            RealPhase::Released => Phase::Released,
        },
        lease_until: attempt.lease_until,
        abandoned_lease: attempt.abandoned_lease,
        fingerprint: attempt.fingerprint.map(|fingerprint| fingerprint.0),
        claimant: attempt.claimant.to_vec(),
        expires_at: attempt.expires_at,
    }
}

fn outcome(outcome: &Outcome<'_>) -> OutcomeFact {
    OutcomeFact {
        claim: name(outcome.claim),
        region: outcome.region.0,
        incarnation: outcome.incarnation.0,
        stamp: outcome.completed.bits(),
        majority: outcome.majority,
        fingerprint: outcome.fingerprint.map(|fingerprint| fingerprint.0),
        bytes: outcome.bytes.to_vec(),
        expires_at: outcome.expires_at,
    }
}

/// An entry, in the oracle's order.
pub(super) fn view(entry: &Entry<'_>) -> View {
    View {
        attempts: entry.attempts.iter().map(attempt).collect(),
        outcomes: entry.outcomes.iter().map(outcome).collect(),
        forgotten: entry.forgotten.bits(),
    }
    .sorted()
}

pub(super) fn token_fact(token: &Token) -> TokenFact {
    TokenFact {
        claim: name(token.id),
        fingerprint: token.fingerprint.map(|fingerprint| fingerprint.0),
        expires_at: token.expires_at,
        forged: false,
    }
}

/// A reply, and the token in it.
pub(super) fn answer(reply: &Reply<'_>) -> (Answer, Option<(Token, TokenFact)>) {
    let answer = match reply {
        Reply::Granted { token, lease_until, .. } => {
            let fact = token_fact(token);
            let (claim, lease_until, expires_at) = (fact.claim, *lease_until, fact.expires_at);
            return (Answer::Granted { claim, lease_until, expires_at }, Some((*token, fact)));
        }
        Reply::Replay(outcome) => {
            Answer::Replay { bytes: outcome.bytes.to_vec(), claim: name(outcome.claim) }
        }
        Reply::InProgress { .. } => Answer::InProgress,
        Reply::Mismatch { .. } => Answer::Mismatch,
        Reply::Unknown(_) => Answer::Unknown,
        Reply::Expired => Answer::Expired,
        Reply::Unavailable { reason, .. } => Answer::Unavailable { reason: reason.name().to_owned() },
        Reply::Completed { .. } => Answer::Completed,
        Reply::Contested { .. } => Answer::Contested,
        Reply::Superseded { outcome, .. } => Answer::Superseded { bytes: outcome.map(<[u8]>::to_vec) },
        Reply::Stale(reason) => Answer::Stale { reason: reason.name().to_owned() },
        Reply::Renewed { lease_until } => Answer::Renewed { lease_until: *lease_until },
        Reply::Released => Answer::Released,
        Reply::Settled(outcome) => {
            Answer::Settled { bytes: outcome.bytes.to_vec(), claim: name(outcome.claim) }
        }
        Reply::Held { attempt, .. } => Answer::Held { claim: name(attempt.id) },
        Reply::Free => Answer::Free,
        Reply::Forgotten(_) => Answer::Forgotten,
        // No simulated service advances; what it would be granted is a claim like others.
        Reply::Behind { .. } => Answer::Unavailable { reason: "behind".to_owned() },
    };
    (answer, None)
}

/// One line of CONFLICTS.
pub(super) fn conflict(conflict: &Conflict, keys: &[String]) -> ConflictFact {
    ConflictFact {
        key: super::key_number(keys, &conflict.id.key),
        loser: name(conflict.id.loser),
        region: conflict.id.completed_at.0,
        loser_stamp: conflict.loser.completed.bits(),
        winner: conflict.winner.map(|side| (side.completed.bits(), side.region.0, name(side.claim))),
        compensated: conflict.compensated,
    }
}

/// The product's lattice over copies of entries that arose in a run (INV-1).
pub struct Real<'a> {
    /// The bound between clocks, milliseconds.
    pub max_drift: Millis,
    /// Keeps the borrow of the copies.
    pub copies: &'a [Inspected],
}

impl<'a> Real<'a> {
    /// The copies' entries.
    pub fn entries(&self) -> Vec<Entry<'a>> {
        self.copies.iter().map(Inspected::entry).collect()
    }
}

impl<'a> Lattice for Real<'a> {
    type Entry = Entry<'a>;

    fn join(&self, a: &Entry<'a>, b: &Entry<'a>) -> Entry<'a> {
        a.clone().join(b)
    }

    fn drop_dead(&self, entry: &Entry<'a>, now: Millis) -> Entry<'a> {
        let mut entry = entry.clone();
        entry.drop_dead(now, self.max_drift);
        entry
    }

    fn view(&self, entry: &Entry<'a>) -> View {
        view(entry)
    }
}
