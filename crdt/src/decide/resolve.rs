//! RESOLVE (S4.7): what became of an operation whose holder fell silent, said by whoever has found out.
//!
//! Where the policy forbids a takeover, a claim whose lease is over stays UNKNOWN until somebody says what became of it. `complete`
//! records the outcome of the claim that holds the key, as its holder would have; `release` gives the key back, which marks every
//! claim on it as a takeover does: so a renewal that had not arrived here revives it, and a late COMPLETE of the holder is
//! recorded and listed as a conflict. Nothing that was true is lost by a wrong answer.
//!
//! Must never: touch a claim whose lease may still run.

use super::claim::{blocked, too_stale};
use super::holder::{completion_reply, majority};
use super::round::unavailable;
use super::{Context, Decision};
use crate::canary::{self, Bug};
use crate::entry::{Attempt, Entry, Outcome, Winner};
use crate::request::{Reason, Reply, Resolution};

pub(super) fn resolve<'e>(entry: &Entry<'e>, how: &Resolution<'e>, context: &Context<'_>) -> Decision<'e> {
    if too_stale(context) {
        return Decision::answer(unavailable(Reason::Stale));
    }
    if entry.is_past(context.now_ms, context.max_drift_ms) {
        return Decision::answer(Reply::Free);
    }
    match (entry.winner(), how) {
        (Winner::Free, _) => Decision::answer(Reply::Free),
        // Said before: the same answer again.
        (Winner::Settled(outcome), Resolution::Complete(bytes)) if outcome.bytes == *bytes => {
            let again = Decision::answer(completion_reply(entry, outcome, context));
            majority(entry, again, outcome.claim, None, context)
        }
        (Winner::Settled(outcome), _) => Decision::answer(Reply::Replay(*outcome)),
        (Winner::Held(holder), how) => {
            let runs =
                blocked(entry, holder, context).filter(|_| !canary::planted(Bug::ResolvesRunningLease));
            match (runs, how) {
                (Some(in_progress), _) => Decision::answer(in_progress),
                (None, Resolution::Complete(bytes)) => complete(entry, holder, bytes, context),
                (None, Resolution::Release) => Decision::write(Reply::Released, abandon(entry)),
            }
        }
    }
}

/// All Held attempts of `entry`, marked as abandoned with the leases they had (S3).
pub(super) fn abandon<'e>(entry: &Entry<'e>) -> Entry<'e> {
    let mut delta = Entry::default();
    for attempt in entry.counting_attempts().filter(|attempt| attempt.is_held()) {
        delta.attempts.push(Attempt { abandoned_lease: attempt.lease_until, ..*attempt });
    }
    delta
}

fn complete<'e>(
    entry: &Entry<'e>,
    holder: &Attempt<'e>,
    bytes: &'e [u8],
    context: &Context<'_>,
) -> Decision<'e> {
    let outcome = Outcome {
        claim: holder.id,
        completed: context.stamp,
        region: context.region,
        incarnation: context.incarnation,
        majority: false,
        compensated: false,
        fingerprint: holder.fingerprint,
        bytes,
        expires_at: holder.expires_at,
    };
    let delta = Entry::of_outcome(outcome);
    let reply = completion_reply(&entry.clone().join(&delta), &outcome, context);
    majority(entry, Decision::write(reply, delta), holder.id, None, context)
}
