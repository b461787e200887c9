//! COMPLETE, RENEW, RELEASE (S4.2–S4.4): what a holder may still do, judged by its token.

use super::round::{Proposal, Stand, stands, unavailable};
use super::{Context, Decision};
use crate::canary::{self, Bug};
use crate::conflict::{self, Conflict, ConflictId};
use crate::entry::{Attempt, Entry, Outcome, Phase, Winner};
use crate::ids::{ClaimId, RegionId};
use crate::limits;
use crate::policy::Level;
use crate::request::{Reason, Reply, StaleReason};
use crate::token::Token;

/// S4.2: any region accepts it whose tag verifies: the work was done, and that must be known.
pub(super) fn complete<'e>(
    entry: &Entry<'e>,
    key: &[u8],
    token: &Token,
    bytes: &'e [u8],
    context: &Context<'_>,
) -> Decision<'e> {
    if let Some(stale) = stale(entry, key, token, context) {
        return stale;
    }
    let stored = entry.counting_outcomes().find(|o| o.claim == token.id && o.bytes == bytes);
    if let Some(stored) = stored {
        return Decision::answer(completion_reply(entry, stored, context));
    }
    if let Some(other_bytes) = entry.counting_outcomes().find(|o| o.claim == token.id) {
        return Decision::answer(superseded_by(other_bytes, token));
    }
    let outcome = Outcome {
        claim: token.id,
        completed: context.stamp,
        region: context.region,
        incarnation: context.incarnation,
        majority: false,
        compensated: false,
        fingerprint: token.fingerprint,
        bytes,
        expires_at: token.expires_at,
    };
    if let (true, Winner::Settled(winner)) = (entry.outcomes.len() >= limits::OUTCOMES_MAX, entry.winner()) {
        let loser = overflowing(key, &outcome, winner, context);
        let reply = superseded_by(winner, token);
        return Decision { loser: Some(Box::new(loser)), ..Decision::answer(reply) };
    }
    let delta = Entry::of_outcome(outcome);
    // The common case: the only outcome, of a claim that is known. Joined in, it wins and changes nothing else.
    let only = entry.outcomes.is_empty() && entry.attempts.iter().any(|attempt| attempt.id == token.id);
    let reply = if only {
        completed(entry, &outcome, context)
    } else {
        completion_reply(&entry.clone().join(&delta), &outcome, context)
    };
    Decision::write(reply, delta)
}

/// S5: an outcome that wins is to be held by a majority before anybody is told so. The first look proposes it; the
/// second, once a majority holds it, says so in the entry, because such an outcome wins over others (S3).
pub(super) fn majority<'e>(
    entry: &Entry<'e>,
    decision: Decision<'e>,
    claim: ClaimId,
    level: Option<Level>,
    context: &Context<'_>,
) -> Decision<'e> {
    let wins = matches!(decision.reply, Reply::Completed { .. } | Reply::Contested { .. });
    if context.level(level) != Level::Quorum || !wins {
        return decision;
    }
    // As the entry will be: the answer was found for an outcome that is in there, or about to be.
    let joined = decision.delta.as_ref().map(|delta| entry.clone().join(delta));
    let outcomes = joined.as_ref().unwrap_or(entry);
    let Winner::Settled(outcome) = outcomes.winner() else { return decision };
    if outcome.claim != claim || outcome.majority {
        return decision;
    }
    let proposal = Proposal::Outcome(outcome.claim, outcome.region, outcome.incarnation);
    match context.gathered {
        None => Decision { asks: Some(proposal), ..decision },
        Some(gathered) if gathered.reached && gathered.proposal == proposal => {
            let known = Outcome { majority: true, ..*outcome };
            Decision::write(completed(outcomes, &known, context), Entry::of_outcome(known))
        }
        Some(_) => Decision { reply: unavailable(Reason::RecordedHere), ..decision },
    }
}

/// The answer for an outcome that is part of `entry`: the same, however often it is asked (S4.2).
pub(super) fn completion_reply<'e>(
    entry: &Entry<'e>,
    outcome: &Outcome<'e>,
    context: &Context<'_>,
) -> Reply<'e> {
    if let Winner::Settled(winner) = entry.winner()
        && (winner.claim != outcome.claim || winner.bytes != outcome.bytes)
    {
        let any = canary::planted(Bug::SupersededShowsAnyPayload);
        let same = winner.fingerprint == outcome.fingerprint || any;
        return Reply::Superseded {
            outcome: same.then_some(winner.bytes),
            completed_at: Some(winner.completed.ms()),
            winner: Some(winner.claim),
            region: Some(winner.region),
        };
    }
    completed(entry, outcome, context)
}

/// The answer for an outcome that wins.
fn completed<'e>(entry: &Entry<'e>, outcome: &Outcome<'e>, context: &Context<'_>) -> Reply<'e> {
    let (completed_at, region) = (outcome.completed.ms(), outcome.region);
    let level = if outcome.majority { Level::Quorum } else { context.reached() };
    // Another claim is live, or took over: both may have run (S4.2).
    let contested = entry.counting_attempts().any(|attempt| {
        // What asks for a majority may have been granted by one that has not seen this (S5).
        let asks = || attempt.phase == Phase::Asked && context.now_ms <= attempt.lease_until;
        let other = attempt.id != outcome.claim && (attempt.phase == Phase::Held || asks());
        other && (!attempt.is_abandoned() || attempt.id > outcome.claim)
    });
    if contested {
        Reply::Contested { completed_at, region, level }
    } else {
        Reply::Completed { completed_at, region, level }
    }
}

/// S4.3: only the winner, and only before its lease ends.
pub(super) fn renew<'e>(
    entry: &Entry<'e>,
    key: &[u8],
    token: &Token,
    (lease_ms, level): (Option<u64>, Option<Level>),
    context: &Context<'_>,
) -> Decision<'e> {
    if let Some(stale) = stale(entry, key, token, context) {
        return stale;
    }
    match entry.winner() {
        Winner::Held(winner) if winner.id == token.id && context.now_ms <= winner.lease_until => {
            if token.id.region != context.region && !canary::planted(Bug::RenewsElsewhere) {
                return elsewhere();
            }
            if let Some(gathered) = context.gathered {
                let stands = stands(entry, &gathered.proposal, context) == Stand::Clear;
                let reply = if gathered.reached && stands {
                    Reply::Renewed { lease_until: winner.lease_until }
                } else {
                    unavailable(Reason::Level)
                };
                return Decision::answer(reply);
            }
            let lease_ms = lease_ms.unwrap_or(context.policy.lease_ms);
            let asked = context.now_ms.saturating_add(lease_ms).min(winner.expires_at);
            let lease_until = asked.max(winner.lease_until);
            let renewed = Entry::of_attempt(Attempt { lease_until, ..*winner });
            if context.level(level) == Level::Quorum {
                return Decision::ask(Proposal::Renewal(token.id), Some(renewed));
            }
            Decision::write(Reply::Renewed { lease_until }, renewed)
        }
        winner => {
            unseen(entry, token, context).unwrap_or_else(|| Decision::answer(superseded(&winner, token)))
        }
    }
}

/// S4.4: this claim only; its work had no effect.
pub(super) fn release<'e>(
    entry: &Entry<'e>,
    key: &[u8],
    token: &Token,
    context: &Context<'_>,
) -> Decision<'e> {
    if let Some(stale) = stale(entry, key, token, context) {
        return stale;
    }
    if let Some(done) = entry.counting_outcomes().find(|outcome| outcome.claim == token.id) {
        return Decision::answer(superseded_by(done, token));
    }
    match entry.counting_attempts().find(|attempt| attempt.id == token.id) {
        Some(attempt) if attempt.phase == Phase::Released => Decision::answer(Reply::Released),
        Some(_) if token.id.region != context.region => elsewhere(),
        Some(attempt) => {
            let released = Attempt { phase: Phase::Released, ..*attempt };
            Decision::write(Reply::Released, Entry::of_attempt(released))
        }
        None => unseen(entry, token, context)
            .unwrap_or_else(|| Decision::answer(superseded(&entry.winner(), token))),
    }
}

/// S4.2 STALE: a bad tag, a claim past its expiry, or one voided by FORGET.
pub(super) fn stale<'e>(
    entry: &Entry<'e>,
    key: &[u8],
    token: &Token,
    context: &Context<'_>,
) -> Option<Decision<'e>> {
    let reason = if !token.verify(context.keys, key) && !canary::planted(Bug::TagNotChecked) {
        StaleReason::BadTag
    } else if token.id.stamp <= entry.forgotten && !canary::planted(Bug::ForgetIgnoredByHolders) {
        StaleReason::Forgotten
    } else if context.now_ms > token.expires_at || entry.newest_claim_ms() >= token.expires_at {
        // A claim made after its expiry says the same as the clock: its outcome could never count (S3).
        StaleReason::Expired
    } else {
        return None;
    };
    Some(Decision::answer(Reply::Stale(reason)))
}

/// A claim of another region that has not arrived here: neither confirmed nor denied.
fn unseen<'e>(entry: &Entry<'e>, token: &Token, context: &Context<'_>) -> Option<Decision<'e>> {
    let known = entry.attempts.iter().any(|attempt| {
        let slot = (attempt.id.region, attempt.id.incarnation);
        slot == (token.id.region, token.id.incarnation) && attempt.id.stamp >= token.id.stamp
    });
    (token.id.region != context.region && !known && entry.winner() == Winner::Free).then(elsewhere)
}

fn elsewhere<'e>() -> Decision<'e> {
    let retry_after_ms = limits::RETRY_AFTER_MS_DEFAULT;
    Decision::answer(Reply::Unavailable { reason: Reason::OtherRegion, retry_after_ms })
}

pub(super) fn superseded<'e>(winner: &Winner<'_, 'e>, token: &Token) -> Reply<'e> {
    match winner {
        Winner::Settled(outcome) => superseded_by(outcome, token),
        Winner::Held(attempt) => Reply::Superseded {
            outcome: None,
            completed_at: None,
            winner: Some(attempt.id),
            region: Some(attempt.id.region),
        },
        Winner::Free => Reply::Superseded { outcome: None, completed_at: None, winner: None, region: None },
    }
}

/// With the outcome if the fingerprints are equal (S4.2, INV-11).
pub(super) fn superseded_by<'e>(outcome: &Outcome<'e>, token: &Token) -> Reply<'e> {
    let any = canary::planted(Bug::SupersededShowsAnyPayload);
    Reply::Superseded {
        outcome: (outcome.fingerprint == token.fingerprint || any).then_some(outcome.bytes),
        completed_at: Some(outcome.completed.ms()),
        winner: Some(outcome.claim),
        region: Some::<RegionId>(outcome.region),
    }
}

fn overflowing(key: &[u8], loser: &Outcome<'_>, winner: &Outcome<'_>, context: &Context<'_>) -> Conflict {
    Conflict {
        id: ConflictId { key: key.to_vec(), loser: loser.claim, completed_at: loser.region },
        loser: conflict::side(loser),
        winner: Some(conflict::side(winner)),
        compensated: false,
        expires_at: loser.completed.ms().saturating_add(context.policy.conflict_retention_ms),
        void: false,
    }
}
