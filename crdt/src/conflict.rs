//! Conflicts: operations that ran twice (S3 Conflict, S4.8).
//!
//! A conflict is an entry of its own, keyed by (key, loser's claim, completing region). Whoever first
//! sees two outcomes of one key derives it; everybody derives the same one, and it is logged and
//! streamed like everything else, so that it outlives the key and reaches regions that never saw both
//! outcomes. It holds digests of the outcomes, never their bytes.
//!
//! Joining two records of one loser keeps the better winner, so the list converges whatever order the
//! outcomes arrived in.
//!
//! A majority may come to hold an outcome that was a loser (S3.2): then it wins, and the one that it lost to is the
//! loser. Nothing is taken back, because a join cannot: each side says whether a majority holds it, and a loser that
//! outranks its winner is *overtaken*: kept until its retention, so that every region converges, and not listed.

mod stored;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use crate::canary::{self, Bug};
use crate::entry::{Entry, Outcome, Winner};
use crate::hlc::Stamp;
use crate::ids::{ClaimId, RegionId};

pub(crate) use stored::{StoredConflict, take_state, write_state};

/// What identifies a conflict; its order is the order of CONFLICTS' pages.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ConflictId {
    /// The operation.
    pub key: Vec<u8>,
    /// The claim that lost.
    pub loser: ClaimId,
    /// Where the loser was completed.
    pub completed_at: RegionId,
}

/// One side of a conflict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Side {
    /// When it completed.
    pub completed: Stamp,
    /// Where it completed.
    pub region: RegionId,
    /// Whose it is.
    pub claim: ClaimId,
    /// Digest of its outcome's bytes (unkeyed SipHash-1-3, 128 bits).
    pub digest: [u8; 16],
    /// A majority of the regions holds it (S5). Not among the bytes of a side: see `Conflict::flags`.
    #[serde(skip)]
    pub majority: bool,
}

/// What one execution is told from another by.
type Execution = (Stamp, RegionId, ClaimId, [u8; 16]);

impl Side {
    /// The order in which sides win (S3.2); the smaller is the better.
    pub fn rank(&self) -> (bool, Execution) {
        (!self.majority, self.execution())
    }

    fn execution(&self) -> Execution {
        (self.completed, self.region, self.claim, self.digest)
    }

    /// Of two records of one loser: the earlier execution, with all that is known of it.
    fn same_loser(self, other: Self) -> Self {
        match self.execution().cmp(&other.execution()) {
            std::cmp::Ordering::Less => self,
            std::cmp::Ordering::Greater => other,
            std::cmp::Ordering::Equal => Self { majority: self.majority || other.majority, ..self },
        }
    }
}

/// A double execution, from the loser's view.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Conflict {
    /// What it is about.
    pub id: ConflictId,
    /// The side that lost.
    pub loser: Side,
    /// The best winner known; `None` when the loser completed a claim that FORGET had voided.
    pub winner: Option<Side>,
    /// Somebody has dealt with it.
    pub compensated: bool,
    /// Listed until then, Unix milliseconds.
    pub expires_at: u64,
    /// FORGET had voided the loser's claim before it completed: it loses whatever completes when.
    #[serde(skip)]
    pub void: bool,
}

impl Conflict {
    /// Joins what is known of one loser.
    pub fn join(&mut self, other: &Self) {
        self.winner = match (self.winner, other.winner) {
            (Some(ours), Some(_)) if canary::planted(Bug::ConflictKeepsFirstWinner) => Some(ours),
            (Some(ours), Some(theirs)) => Some(if theirs.rank() < ours.rank() { theirs } else { ours }),
            (ours, theirs) => ours.or(theirs),
        };
        self.loser = self.loser.same_loser(other.loser);
        self.compensated |= other.compensated;
        self.void |= other.void;
        self.expires_at = self.expires_at.max(other.expires_at);
    }

    /// The loser outranks whom it lost to, because a majority holds it by now: another loser is listed instead.
    pub fn is_overtaken(&self) -> bool {
        // Without a majority it cannot be: what completes later was never the winner.
        let outranks = |winner: Side| winner.rank() > self.loser.rank();
        self.loser.majority && !self.void && self.winner.is_some_and(outranks)
    }

    /// The greatest stamp in it (S2).
    pub fn newest_stamp(&self) -> Stamp {
        let side = |side: &Side| side.completed.max(side.claim.stamp);
        side(&self.loser).max(self.winner.as_ref().map_or(Stamp::ZERO, side)).max(self.id.loser.stamp)
    }
}

/// The side that `outcome` is.
pub fn side(outcome: &Outcome<'_>) -> Side {
    let mut hasher = SipHasher13::new();
    hasher.write(outcome.bytes);
    let hash = hasher.finish128();
    let mut digest = [0u8; 16];
    digest[..8].copy_from_slice(&hash.h1.to_be_bytes());
    digest[8..].copy_from_slice(&hash.h2.to_be_bytes());
    Side {
        completed: outcome.completed,
        region: outcome.region,
        claim: outcome.claim,
        digest,
        majority: outcome.majority,
    }
}

/// The losers of a joined entry (S3): every counting outcome but the winner, unless it says the same
/// thing of the same claim; and outcomes of void claims that completed after the FORGET.
pub fn losers(key: &[u8], entry: &Entry<'_>, retention_ms: u64) -> Vec<Conflict> {
    if canary::planted(Bug::LosersNotListed) {
        return Vec::new();
    }
    if entry.outcomes.len() < 2 && (entry.forgotten == Stamp::ZERO || entry.outcomes.is_empty()) {
        return Vec::new();
    }
    let winner = match entry.winner() {
        Winner::Settled(outcome) => Some(outcome),
        _ => None,
    };
    let conflict = |loser: &Outcome<'_>, winner: Option<&Outcome<'_>>, void: bool| Conflict {
        id: ConflictId { key: key.to_vec(), loser: loser.claim, completed_at: loser.region },
        loser: side(loser),
        winner: winner.map(side),
        compensated: loser.compensated,
        expires_at: if canary::planted(Bug::ConflictDiesWithKey) {
            loser.expires_at
        } else {
            loser.completed.ms().saturating_add(retention_ms)
        },
        void,
    };
    let lost = winner.into_iter().flat_map(|winner| {
        let other = move |o: &&Outcome<'_>| o.claim != winner.claim || o.bytes != winner.bytes;
        entry.counting_outcomes().filter(other).map(move |loser| conflict(loser, Some(winner), false))
    });
    let forgotten = entry.forgotten;
    let voided = entry.outcomes.iter().filter(|o| o.claim.stamp <= forgotten && o.completed > forgotten);
    lost.chain(voided.map(|outcome| conflict(outcome, winner, true))).collect()
}
