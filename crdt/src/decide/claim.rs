//! CLAIM (S4.1): the rows of the table, tried in its order.

use super::{Context, Decision, key_time};
use crate::canary::{self, Bug};
use crate::entry::{Attempt, Entry, Phase, Winner};
use crate::limits;
use crate::policy::{Level, OnLeaseEnd};
use crate::request::{Claim, Reason, Reply};

pub(super) fn claim<'e>(entry: &Entry<'e>, claim: &Claim<'e>, context: &Context<'_>) -> Decision<'e> {
    if let Some(reason) = refusal(claim, context) {
        let retry_after_ms = limits::RETRY_AFTER_MS_DEFAULT;
        return Decision::answer(Reply::Unavailable { reason, retry_after_ms });
    }
    if entry.is_past(context.now_ms, context.max_drift_ms) {
        return grant_unless_expired(entry, claim, context);
    }
    match entry.winner() {
        Winner::Settled(outcome) => {
            if outcome.fingerprint != claim.fingerprint && !canary::planted(Bug::ReplayIgnoresFingerprint) {
                return Decision::answer(Reply::Mismatch { settled: true, region: outcome.region });
            }
            Decision::answer(Reply::Replay(*outcome))
        }
        Winner::Held(winner) => {
            if winner.fingerprint != claim.fingerprint {
                return Decision::answer(Reply::Mismatch { settled: false, region: winner.id.region });
            }
            let same = !claim.claimant.is_empty() && claim.claimant == winner.claimant;
            if same && context.now_ms <= winner.lease_until && !canary::planted(Bug::RetryGrantsAnew) {
                return Decision::answer(granted(claim.key, winner, context));
            }
            if same && canary::planted(Bug::RetryGrantsAnew) {
                return grant(entry, Entry::default(), claim, context);
            }
            blocked(entry, winner, context).unwrap_or_else(|| lease_over(entry, winner, claim, context))
        }
        Winner::Free => match entry.blocking_attempts().next() {
            // Only Asked attempts are left to block: they hold nothing, yet stand in the way (S5).
            Some(asked) => {
                blocked(entry, asked, context).unwrap_or_else(|| grant_unless_expired(entry, claim, context))
            }
            None => grant_unless_expired(entry, claim, context),
        },
    }
}

/// S4.1, first row, as far as it depends on the namespace: the store has checked the rest.
fn refusal(claim: &Claim<'_>, context: &Context<'_>) -> Option<Reason> {
    let level = claim.level.unwrap_or_default().max(context.policy.level);
    if level > Level::Local {
        return Some(Reason::Level);
    }
    let too_stale = context.policy.max_staleness_ms.is_some_and(|bound| context.stale_ms > bound);
    too_stale.then_some(Reason::Stale)
}

/// S4.1: any Held or Asked attempt whose lease is not over by more than `max_drift`.
fn blocked<'e>(entry: &Entry<'e>, holder: &Attempt<'_>, context: &Context<'_>) -> Option<Decision<'e>> {
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
    Some(Decision::answer(Reply::InProgress { retry_after_ms, region: holder.id.region }))
}

/// S4.1: Held attempts, all leases over by more than `max_drift`.
fn lease_over<'e>(
    entry: &Entry<'e>,
    winner: &Attempt<'e>,
    claim: &Claim<'e>,
    context: &Context<'_>,
) -> Decision<'e> {
    if context.policy.on_lease_end == OnLeaseEnd::Unknown {
        return Decision::answer(Reply::Unknown(winner.id));
    }
    let mut delta = Entry::default();
    for attempt in entry.counting_attempts().filter(|attempt| attempt.is_held()) {
        delta.attempts.push(Attempt { abandoned_lease: attempt.lease_until, ..*attempt });
    }
    grant(entry, delta, claim, context)
}

fn grant_unless_expired<'e>(entry: &Entry<'e>, claim: &Claim<'e>, context: &Context<'_>) -> Decision<'e> {
    let retention_ms = claim.retention_ms.unwrap_or(context.policy.retention_ms);
    let born_ms = key_time::born_ms(claim.key, context.policy.key_time);
    if born_ms.is_some_and(|born_ms| context.now_ms > born_ms.saturating_add(retention_ms)) {
        return Decision::answer(Reply::Expired);
    }
    grant(entry, Entry::default(), claim, context)
}

/// Adds a Held attempt to `delta` (S3: it expires no earlier than every part it saw).
fn grant<'e>(entry: &Entry<'e>, delta: Entry<'e>, claim: &Claim<'e>, context: &Context<'_>) -> Decision<'e> {
    let id = context.own_claim();
    let retention_ms = claim.retention_ms.unwrap_or(context.policy.retention_ms);
    let seen = entry.attempts.iter().map(|a| a.expires_at).chain(entry.outcomes.iter().map(|o| o.expires_at));
    let expires_at = seen.max().unwrap_or(0).max(id.stamp.ms().saturating_add(retention_ms));
    let lease_ms = claim.lease_ms.unwrap_or(context.policy.lease_ms);
    let attempt = Attempt {
        id,
        phase: Phase::Held,
        lease_until: context.now_ms.saturating_add(lease_ms).min(expires_at),
        abandoned_lease: 0,
        fingerprint: claim.fingerprint,
        claimant: claim.claimant,
        note: claim.note,
        expires_at,
    };
    // Through the join, because our own slot may be among the abandoned: the newer claim replaces it.
    let claimed = Entry::of_attempt(attempt);
    let delta = if delta.is_empty() { claimed } else { delta.join(&claimed) };
    Decision::write(granted(claim.key, &attempt, context), delta)
}

fn granted<'e>(key: &[u8], attempt: &Attempt<'_>, context: &Context<'_>) -> Reply<'e> {
    Reply::Granted {
        token: context.token(key, attempt),
        lease_until: attempt.lease_until,
        level: Level::Local,
        stale_ms: context.stale_ms,
    }
}
