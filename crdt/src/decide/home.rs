//! Requests at `home` (S5): the key's home region decides, and everybody else asks it.
//!
//! A region that is not the home looks at its key twice, as at `quorum`. The first look answers what is known here and is
//! nobody's to grant (REPLAY, MISMATCH, IN_PROGRESS, UNKNOWN), and names the home for the rest. The home decides as it does
//! for its own services; its answer comes with all that it knows of the key, which is joined in here before the second look.
//! So an answer is a few words ([`Verdict`]), and what people are told of the key is read from the one entry: bytes of an
//! outcome never travel beside the state that holds them, and an answer that the state does not bear out is not told.
//!
//! RENEW and RELEASE go to the region of the token's claim, because only that one writes it (S4): the home, unless the claim
//! was granted by `fallback` or the home has changed.
//!
//! Rejected: a lease on the right to decide, passed between regions (a home that is cut off would lose it, and two clocks
//! would decide when); answers that carry whole replies (a second truth beside the state).
//!
//! Must never: grant in a region that is not the home, unless the policy says so and the reply does too.

use serde::{Deserialize, Serialize};

use super::{Context, Decision, claim, holder, round};
use crate::canary::{self, Bug};
use crate::entry::{Entry, Winner};
use crate::hash::KeyHash;
use crate::ids::{ClaimId, RegionId};
use crate::policy::{Fallback, Level};
use crate::request::{Claim, Reason, Reply, Request, StaleReason};
use crate::token::Token;

/// How a request stands to the home of its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Home {
    /// It is not at this level.
    #[default]
    Not,
    /// This region decides.
    Here,
    /// That region decides, and is to be asked.
    There(RegionId),
    /// It has been asked.
    Said(Verdict),
    /// It cannot be asked, or cannot decide: the policy's `fallback` says what becomes of the request.
    Unreachable,
}

/// What a home answers. The state of the key comes with it and says the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Verdict {
    /// GRANTED, anew or again.
    Granted {
        /// The claim; the state holds it.
        claim: ClaimId,
        /// As at the home, in milliseconds.
        stale_ms: u64,
    },
    /// COMPLETED or CONTESTED.
    Done,
    /// RENEWED.
    Renewed {
        /// The new end, Unix milliseconds.
        lease_until: u64,
    },
    /// RELEASED.
    Released,
    /// Nothing is to be done: REPLAY, IN_PROGRESS, MISMATCH, UNKNOWN, SUPERSEDED, as the state says.
    Known,
    /// EXPIRED.
    Expired,
    /// STALE.
    Stale(StaleReason),
    /// UNAVAILABLE.
    Refused(Reason),
}

impl Verdict {
    /// A home's reply in the few words that travel.
    pub fn of(reply: &Reply<'_>) -> Self {
        match reply {
            Reply::Granted { token, stale_ms, .. } => Self::Granted { claim: token.id, stale_ms: *stale_ms },
            Reply::Completed { .. } | Reply::Contested { .. } => Self::Done,
            Reply::Renewed { lease_until } => Self::Renewed { lease_until: *lease_until },
            Reply::Released => Self::Released,
            Reply::Expired => Self::Expired,
            Reply::Stale(reason) => Self::Stale(*reason),
            Reply::Unavailable { reason, .. } => Self::Refused(*reason),
            Reply::Replay(_)
            | Reply::InProgress { .. }
            | Reply::Mismatch { .. }
            | Reply::Unknown(_)
            | Reply::Superseded { .. }
            | Reply::Settled(_)
            | Reply::Held { .. }
            | Reply::Free
            | Reply::Forgotten(_)
            | Reply::Behind { .. } => Self::Known,
        }
    }

    /// How `request` stands once its home has said this: a home that cannot decide is none.
    pub fn stands(self, request: &Request<'_>) -> Home {
        let cannot = |reason| {
            matches!(reason, Reason::Level | Reason::Draining | Reason::CatchingUp | Reason::OldCopy)
                // The work was done: where the home takes no record of it, this region does.
                || matches!(request, Request::Complete { .. })
        };
        match self {
            Self::Refused(reason) if cannot(reason) => Home::Unreachable,
            said => Home::Said(said),
        }
    }
}

/// The home of the key with this hash among `regions`: the one with the greatest keyed hash of both (rendezvous). A region
/// that is added takes its share of the keys from all others, and no other key moves. Which region it is, is part of what
/// regions agree on: this function must not change.
pub fn home_of(key: KeyHash, regions: &[RegionId]) -> Option<RegionId> {
    let weight = |region: &&RegionId| {
        let mut bits = key.low64() ^ u64::from(region.0 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits ^= u64::from(key.0[2]) << 16;
        // The finaliser of splitmix64.
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ bits >> 31, region.0)
    };
    regions.iter().max_by_key(weight).copied()
}

/// The decision on a request that is not this region's to decide; `None`: decide it here.
pub(super) fn elsewhere<'e>(
    entry: &Entry<'e>,
    request: &Request<'e>,
    context: &Context<'_>,
) -> Option<Decision<'e>> {
    match context.home {
        Home::Not | Home::Here => None,
        Home::There(home) => Some(first_look(entry, request, home, context)),
        Home::Said(verdict) => Some(Decision::answer(second_look(entry, request, verdict, context))),
        Home::Unreachable if context.policy.fallback == Fallback::Local => None,
        Home::Unreachable => match request {
            Request::Claim(_) if canary::planted(Bug::GrantsWithoutHome) => None,
            Request::Claim(claim) => {
                let known = claim::known(entry, claim, context);
                Some(Decision::answer(known.unwrap_or_else(|| round::unavailable(Reason::Level))))
            }
            Request::Renew { key, token, .. } | Request::Release { key, token, .. } => {
                let stale = holder::stale(entry, key, token, context);
                Some(stale.unwrap_or_else(|| Decision::answer(round::unavailable(Reason::Level))))
            }
            // Recorded here, and told so: see `recorded`.
            _ => None,
        },
    }
}

/// S5: an outcome that the home could not take is kept here, and may be sent again.
pub(super) fn recorded<'e>(decision: Decision<'e>, context: &Context<'_>) -> Decision<'e> {
    let refuses = context.home == Home::Unreachable && context.policy.fallback == Fallback::Refuse;
    match decision.reply {
        Reply::Completed { .. } | Reply::Contested { .. } if refuses => {
            let forgets = canary::planted(Bug::OutcomeNotRecorded);
            let delta = decision.delta.filter(|_| !forgets);
            Decision { reply: round::unavailable(Reason::RecordedHere), delta, ..decision }
        }
        _ => decision,
    }
}

fn first_look<'e>(
    entry: &Entry<'e>,
    request: &Request<'e>,
    home: RegionId,
    context: &Context<'_>,
) -> Decision<'e> {
    let known = match request {
        Request::Claim(claim) => claim::known(entry, claim, context).map(Decision::answer),
        Request::Complete { key, token, .. }
        | Request::Renew { key, token, .. }
        | Request::Release { key, token, .. } => holder::stale(entry, key, token, context),
        Request::Get { .. } | Request::Forget { .. } | Request::Resolve { .. } => None,
    };
    known.unwrap_or_else(|| Decision { forwards: Some(home), ..Decision::answer(Reply::Free) })
}

/// What came with the verdict is part of `entry`.
fn second_look<'e>(
    entry: &Entry<'e>,
    request: &Request<'e>,
    verdict: Verdict,
    context: &Context<'_>,
) -> Reply<'e> {
    match (verdict, request) {
        (Verdict::Refused(reason), _) => round::unavailable(reason),
        (Verdict::Stale(reason), _) => Reply::Stale(reason),
        (_, Request::Claim(claim)) => claimed(entry, claim, verdict, context),
        (_, Request::Complete { token, outcome, .. }) => completed(entry, token, outcome, context),
        (Verdict::Renewed { lease_until }, Request::Renew { token, .. }) => match entry.winner() {
            // A later renewal may have come by the log meanwhile.
            Winner::Held(winner) if winner.id == token.id && winner.lease_until >= lease_until => {
                Reply::Renewed { lease_until: winner.lease_until }
            }
            winner => holder::superseded(&winner, token),
        },
        (Verdict::Released, Request::Release { .. }) => Reply::Released,
        (_, Request::Renew { token, .. } | Request::Release { token, .. }) => {
            let done = entry.counting_outcomes().find(|outcome| outcome.claim == token.id);
            done.map_or_else(
                || holder::superseded(&entry.winner(), token),
                |done| holder::superseded_by(done, token),
            )
        }
        _ => round::unavailable(Reason::Level),
    }
}

fn claimed<'e>(entry: &Entry<'e>, claim: &Claim<'e>, verdict: Verdict, context: &Context<'_>) -> Reply<'e> {
    match (verdict, entry.winner()) {
        (Verdict::Granted { claim: id, stale_ms }, Winner::Held(held))
            if held.id == id && held.fingerprint == claim.fingerprint =>
        {
            let context = Context { stale_ms, ..*context };
            claim::granted(claim.key, held, Level::Home, &context)
        }
        (Verdict::Expired, _) => Reply::Expired,
        // What is known here goes further than what the home knew: nobody is told to run what is done. A grant that is
        // passed over so is in nobody's way: the key is settled, or another holds it.
        _ => claim::known(entry, claim, context).unwrap_or_else(|| round::unavailable(Reason::Level)),
    }
}

fn completed<'e>(entry: &Entry<'e>, token: &Token, bytes: &[u8], context: &Context<'_>) -> Reply<'e> {
    let ours = || entry.counting_outcomes().filter(|outcome| outcome.claim == token.id);
    match ours().find(|outcome| outcome.bytes == bytes) {
        Some(outcome) => holder::completion_reply(entry, outcome, context),
        None => ours().next().map_or_else(
            || holder::superseded(&entry.winner(), token),
            |other_bytes| holder::superseded_by(other_bytes, token),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::ClusterKeys;

    fn homes(keys: &ClusterKeys, regions: &[RegionId]) -> Vec<RegionId> {
        let of = |number: u32| keys.key_hash(format!("pay:{number}").as_bytes());
        (0..30_000).filter_map(|number| home_of(of(number), regions)).collect()
    }

    fn regions(ids: &[u16]) -> Vec<RegionId> {
        ids.iter().copied().map(RegionId).collect()
    }

    /// Three standard deviations of a fair throw are 250 of 10,000.
    #[test]
    fn keys_are_spread_evenly_and_a_new_region_takes_its_share_and_moves_nothing_else() {
        let keys = ClusterKeys { hash: [1; 16], tag: [2; 16] };
        for ids in [&[1, 2, 3][..], &[7, 40, 41], &[1, 256, 65_535]] {
            let before = homes(&keys, &regions(ids));
            for region in regions(ids) {
                let share = before.iter().filter(|home| **home == region).count();
                assert!(share.abs_diff(10_000) < 350, "region {} is home of {share} of 30,000", region.0);
            }
            let after = homes(&keys, &regions(&[ids, &[9]].concat()));
            let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
            assert!(moved.iter().all(|(_, after)| **after == RegionId(9)), "keys move to the newcomer only");
            assert!(moved.len().abs_diff(7_500) < 300, "{} of 30,000 moved", moved.len());
        }
        assert_eq!(home_of(keys.key_hash(b"pay:1"), &[]), None);
    }

    /// Regions of different versions must agree on it, and do only if it never changes.
    #[test]
    fn homes_are_what_they_have_always_been() {
        let keys = ClusterKeys { hash: *b"0123456789abcdef", tag: [2; 16] };
        let of = |number: u32| keys.key_hash(format!("pay:{number}").as_bytes());
        let homes: Vec<u16> = (0..16)
            .filter_map(|number| home_of(of(number), &regions(&[1, 2, 3, 4, 5])))
            .map(|region| region.0)
            .collect();
        assert_eq!(homes, GOLDEN);
    }

    const GOLDEN: [u16; 16] = [5, 1, 2, 2, 2, 5, 2, 4, 3, 1, 4, 1, 2, 4, 2, 4];
}
