//! CLAIM (S4.1): the rows of the table, tried in its order.

use super::resolve::abandon;
use super::round::{Gathered, Proposal, Stand, stands, unavailable};
use super::{Context, Decision, Home, key_time};
use crate::canary::{self, Bug};
use crate::entry::{Attempt, Entry, Phase, Winner};
use crate::ids::ClaimId;
use crate::limits;
use crate::policy::{KeyTime, Level, OnLeaseEnd};
use crate::request::{Claim, Reason, Reply};

/// The row of S4.1's table that applies.
enum Row<'e> {
    /// Nothing is to be granted.
    Answer(Reply<'e>),
    /// The same claimant holds it: the same again.
    Again(Attempt<'e>),
    /// A new claim, beside which these others become Abandoned.
    Grant(Entry<'e>),
}

pub(super) fn claim<'e>(entry: &Entry<'e>, claim: &Claim<'e>, context: &Context<'_>) -> Decision<'e> {
    if let Some(reason) = refusal(claim, context) {
        return Decision::answer(unavailable(reason));
    }
    let level = context.level(claim.level);
    if let Some(Gathered { proposal: Proposal::Claim(id), reached }) = context.gathered {
        return gathered(entry, claim, (id, reached), context);
    }
    match row(entry, claim, context) {
        Row::Answer(reply) => Decision::answer(reply),
        Row::Again(held) if level == Level::Quorum => Decision::ask(Proposal::Claim(held.id), None),
        Row::Again(held) => Decision::answer(granted(claim.key, &held, context.reached(), context)),
        Row::Grant(_) if level == Level::Quorum => ask(entry, claim, context),
        Row::Grant(abandons) => grant(entry, abandons, claim, context),
    }
}

/// What the table answers by what is known here, unless there is something to grant.
pub(super) fn known<'e>(entry: &Entry<'e>, claim: &Claim<'e>, context: &Context<'_>) -> Option<Reply<'e>> {
    match row(entry, claim, context) {
        Row::Answer(reply) => Some(reply),
        Row::Again(_) | Row::Grant(_) => None,
    }
}

fn row<'e>(entry: &Entry<'e>, claim: &Claim<'e>, context: &Context<'_>) -> Row<'e> {
    if entry.is_past(context.now_ms, context.max_drift_ms) {
        return grant_unless_expired(claim, context);
    }
    match entry.winner() {
        Winner::Settled(outcome) => {
            if outcome.fingerprint != claim.fingerprint && !canary::planted(Bug::ReplayIgnoresFingerprint) {
                return Row::Answer(Reply::Mismatch { settled: true, region: outcome.region });
            }
            Row::Answer(Reply::Replay(*outcome))
        }
        Winner::Held(winner) => {
            if winner.fingerprint != claim.fingerprint {
                return Row::Answer(Reply::Mismatch { settled: false, region: winner.id.region });
            }
            let same = !claim.claimant.is_empty() && claim.claimant == winner.claimant;
            if same && context.now_ms <= winner.lease_until && !canary::planted(Bug::RetryGrantsAnew) {
                return Row::Again(*winner);
            }
            if same && canary::planted(Bug::RetryGrantsAnew) {
                return Row::Grant(Entry::default());
            }
            let blocked = blocked(entry, winner, context);
            blocked.map_or_else(|| lease_over(entry, winner, context), Row::Answer)
        }
        Winner::Free => match entry.blocking_attempts().next() {
            // One round a claim: a retry joins it, or begins it again after a start.
            Some(asked) if is_own_retry(asked, claim, context) => Row::Again(*asked),
            // Only Asked attempts are left to block: they hold nothing, yet stand in the way (S5).
            Some(asked) => {
                let blocked = blocked(entry, asked, context);
                blocked.map_or_else(|| grant_unless_expired(claim, context), Row::Answer)
            }
            None => grant_unless_expired(claim, context),
        },
    }
}

/// Asked here, in this life, by the same claimant for the same payload, and the lease runs.
fn is_own_retry(asked: &Attempt<'_>, claim: &Claim<'_>, context: &Context<'_>) -> bool {
    let own = (asked.id.region, asked.id.incarnation) == (context.region, context.incarnation);
    let same = !claim.claimant.is_empty() && claim.claimant == asked.claimant;
    let runs = context.now_ms <= asked.lease_until;
    own && same
        && runs
        && asked.fingerprint == claim.fingerprint
        && context.level(claim.level) == Level::Quorum
}

/// S4.1, first row, as far as it depends on the namespace: the store has checked the rest.
fn refusal(claim: &Claim<'_>, context: &Context<'_>) -> Option<Reason> {
    if context.level(claim.level) == Level::Home && context.home == Home::Not {
        return Some(Reason::Level);
    }
    too_stale(context).then_some(Reason::Stale)
}

/// A peer's last word is older than the namespace allows (S8).
pub(super) fn too_stale(context: &Context<'_>) -> bool {
    context.policy.max_staleness_ms.is_some_and(|bound| context.stale_ms > bound)
}

/// S5: the claim is first written Asked. Our own Asked claim that nobody gathers for any more, because the process ended
/// meanwhile, is asked for again by its claimant.
fn ask<'e>(entry: &Entry<'e>, claim: &Claim<'e>, context: &Context<'_>) -> Decision<'e> {
    if !context.has_voice {
        return Decision::answer(unavailable(Reason::Level));
    }
    let asked = Attempt { phase: Phase::Asked, ..attempt(entry, claim, context) };
    Decision::ask(Proposal::Claim(asked.id), Some(Entry::of_attempt(asked)))
}

/// S5: what came of asking the other regions for claim `id`; all that they know of the key has been joined in.
fn gathered<'e>(
    entry: &Entry<'e>,
    claim: &Claim<'e>,
    (id, reached): (ClaimId, bool),
    context: &Context<'_>,
) -> Decision<'e> {
    let level = context.level(claim.level);
    let ours = entry.attempts.iter().find(|attempt| attempt.id == id);
    // A claim of which this region learned only now may have to be resolved first (S4.1).
    let unknown = context.policy.on_lease_end == OnLeaseEnd::Unknown
        && entry.counting_attempts().any(|attempt| attempt.id != id && attempt.is_held())
        && !canary::planted(Bug::MajorityTakesOverUnknown);
    let stands = reached && !unknown && stands(entry, &Proposal::Claim(id), context) == Stand::Clear;
    match ours {
        Some(asked) if asked.phase == Phase::Asked && stands => {
            let held = Attempt { phase: Phase::Held, ..*asked };
            let delta = abandon(entry).join(&Entry::of_attempt(held));
            Decision::write(granted(claim.key, &held, level, context), delta)
        }
        Some(held) if held.phase == Phase::Held && stands => {
            Decision::answer(granted(claim.key, held, level, context))
        }
        Some(asked) if asked.phase == Phase::Asked => {
            let delta = Entry::of_attempt(Attempt { phase: Phase::Released, ..*asked });
            let reply = learned(&entry.clone().join(&delta), claim, context);
            Decision::write(reply, delta)
        }
        _ => Decision::answer(learned(entry, claim, context)),
    }
}

/// The answer to a claim that was not granted, by what is known now.
fn learned<'e>(entry: &Entry<'e>, claim: &Claim<'e>, context: &Context<'_>) -> Reply<'e> {
    match row(entry, claim, context) {
        Row::Answer(reply) => reply,
        // Jittered, so that those who met do not meet again.
        Row::Again(_) | Row::Grant(_) => {
            let jitter_ms = context.stamp.bits() % limits::ROUND_JITTER_MS;
            let retry_after_ms = limits::RETRY_AFTER_MS_DEFAULT + jitter_ms;
            Reply::Unavailable { reason: Reason::Level, retry_after_ms }
        }
    }
}

/// S4.1: any Held or Asked attempt whose lease is not over by more than `max_drift`.
pub(super) fn blocked<'e>(
    entry: &Entry<'e>,
    holder: &Attempt<'_>,
    context: &Context<'_>,
) -> Option<Reply<'e>> {
    let margin = if canary::planted(Bug::TakeoverBeforeLeaseEnds) { 0 } else { context.max_drift_ms };
    let free_at = |attempt: &Attempt<'_>| {
        let until = attempt.lease_until.saturating_add(margin);
        if canary::planted(Bug::TakeoverBeforeLeaseEnds) {
            until.saturating_sub(until % 1_000)
        } else {
            until
        }
    };
    let only_winner = canary::planted(Bug::TakeoverLooksOnlyAtWinner);
    let counted = |attempt: &&Attempt<'_>| !only_winner || attempt.id == holder.id;
    let last = entry.blocking_attempts().filter(counted).map(free_at).max()?;
    if context.now_ms > last {
        return None;
    }
    let retry_after_ms = last - context.now_ms + 1;
    Some(Reply::InProgress { retry_after_ms, region: holder.id.region })
}

/// S4.1: Held attempts, all leases over by more than `max_drift`.
fn lease_over<'e>(entry: &Entry<'e>, winner: &Attempt<'e>, context: &Context<'_>) -> Row<'e> {
    if context.policy.on_lease_end == OnLeaseEnd::Unknown {
        return Row::Answer(Reply::Unknown(winner.id));
    }
    Row::Grant(abandon(entry))
}

fn grant_unless_expired<'e>(claim: &Claim<'e>, context: &Context<'_>) -> Row<'e> {
    let retention_ms = claim.retention_ms.unwrap_or(context.policy.retention_ms);
    let kind = if context.policy.issued_only { KeyTime::UuidV7 } else { context.policy.key_time };
    let born_ms = key_time::born_ms(claim.key, kind);
    if born_ms.is_some_and(|born_ms| context.now_ms > born_ms.saturating_add(retention_ms)) {
        return Row::Answer(Reply::Expired);
    }
    Row::Grant(Entry::default())
}

/// Adds a Held attempt to `delta`.
fn grant<'e>(entry: &Entry<'e>, delta: Entry<'e>, claim: &Claim<'e>, context: &Context<'_>) -> Decision<'e> {
    let attempt = attempt(entry, claim, context);
    // Through the join, because our own slot may be among the abandoned: the newer claim replaces it.
    let claimed = Entry::of_attempt(attempt);
    let delta = if delta.is_empty() { claimed } else { delta.join(&claimed) };
    Decision::write(granted(claim.key, &attempt, context.reached(), context), delta)
}

/// A new claim's attempt (S3: it expires no earlier than every part it saw).
fn attempt<'e>(entry: &Entry<'e>, claim: &Claim<'e>, context: &Context<'_>) -> Attempt<'e> {
    let id = context.own_claim();
    let retention_ms = claim.retention_ms.unwrap_or(context.policy.retention_ms);
    let seen = entry.attempts.iter().map(|a| a.expires_at).chain(entry.outcomes.iter().map(|o| o.expires_at));
    let expires_at = seen.max().unwrap_or(0).max(id.stamp.ms().saturating_add(retention_ms));
    let lease_ms = claim.lease_ms.unwrap_or(context.policy.lease_ms);
    Attempt {
        id,
        phase: Phase::Held,
        lease_until: context.now_ms.saturating_add(lease_ms).min(expires_at),
        abandoned_lease: 0,
        fingerprint: claim.fingerprint,
        claimant: claim.claimant,
        note: claim.note,
        expires_at,
    }
}

pub(super) fn granted<'e>(
    key: &[u8],
    attempt: &Attempt<'_>,
    level: Level,
    context: &Context<'_>,
) -> Reply<'e> {
    Reply::Granted {
        token: context.token(key, attempt),
        lease_until: attempt.lease_until,
        level,
        stale_ms: context.stale_ms,
    }
}
