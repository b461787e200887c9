//! The table of S4.1, judged from outside: was this answer to a CLAIM allowed by what the region knew?
//!
//! INV-4: "A region never grants a key that is live as it knows it, except again to its claimant;
//! across every crash its durability covers." INV-11: "An outcome is never served for another
//! fingerprint." INV-12 for what is served.
//!
//! This is not a second implementation of the decision: it asks of each answer whether its row's
//! condition held. A part past its own retention counts for the winner until its entry dies whole
//! (S3 Expiry), so "alive" is asked of the entry. Within `max_drift` after an expiry several rows are
//! acceptable, as S10 says.
//!
//! Must never: look at anything but the decision's two views, its request and `now`.

use std::rc::Rc;

use super::ask::{Answer, Ask, ByHome, Decision};
use super::facts::{AttemptFact, ClaimName, Millis, Phase, View, stamp_ms};
use super::violation::{Violation, clause};
use super::winner::{Verdict, all_past, counts, is_abandoned, is_held, winner};

/// What the table needs to know besides the decision.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The bound between wall clocks, milliseconds.
    pub max_drift: Millis,
    /// The key's policy answers UNKNOWN instead of taking over (S4.1).
    pub unknown_on_lease_end: bool,
}

/// Attempts that stand in a new claim's way: "any Held or Asked attempt".
pub(super) fn blocking(view: &View) -> impl Iterator<Item = &AttemptFact> {
    view.attempts
        .iter()
        .filter(|a| (is_held(a) || a.phase == Phase::Asked) && counts(view, a.claim, a.expires_at))
}

/// "whose lease is not over by more than `max_drift`"
const fn runs(attempt: &AttemptFact, now: Millis, rules: Rules) -> bool {
    now <= attempt.lease_until + rules.max_drift
}

/// Judges an answer to CLAIM.
pub fn check(decision: &Decision, rules: Rules) -> Result<(), Violation> {
    let Ask::Claim { fingerprint, claimant, .. } = &decision.ask else { return Ok(()) };
    let (view, now) = (&with_withdrawn(decision), decision.now);
    let verdict = winner(view);
    match &decision.answer {
        // The home's decision has been judged where it was made; see `homes`.
        Answer::Granted { .. } if decision.by_home == ByHome::Relayed => Ok(()),
        Answer::Granted { claim, .. } if is_asked(view, *claim) => gathered(decision, *claim, rules),
        Answer::Granted { claim, .. } if view.claims().any(|known| known == *claim) => {
            again(decision, *claim, *fingerprint, claimant)
        }
        Answer::Granted { claim, .. } => anew(decision, *claim, rules),
        Answer::Replay { bytes, .. } => replay(decision, verdict, *fingerprint, bytes, rules),
        Answer::Mismatch => match verdict.fingerprint() {
            Some(stored) if stored != *fingerprint && !all_past(view, now, rules.max_drift) => Ok(()),
            _ => Err(unfounded(decision, "no live winner with another fingerprint was known")),
        },
        Answer::InProgress => {
            let settled = matches!(verdict, Verdict::Settled(_)) && !all_past(view, now, rules.max_drift);
            if settled && now < verdict.expires_at() {
                return Err(unfounded(decision, "the key was settled and alive"));
            }
            if settled || blocking(view).any(|a| runs(a, now, rules)) {
                return Ok(());
            }
            Err(unfounded(decision, "no attempt with a running lease was known"))
        }
        Answer::Unknown => {
            let held = view.attempts.iter().any(is_held);
            if rules.unknown_on_lease_end && held && !blocking(view).any(|a| runs(a, now, rules)) {
                return Ok(());
            }
            Err(unfounded(decision, "the policy or the leases do not make this UNKNOWN"))
        }
        // Nothing is told yet; what may be written is the writes' affair.
        Answer::Asks if decision.may_ask() => Ok(()),
        Answer::Unavailable { .. } | Answer::Expired => Ok(()),
        other => Err(unfounded(decision, &format!("{} is no answer to CLAIM", other.status()))),
    }
}

/// What the region knew, with what it had asked a majority for and withdraws with this answer withdrawn (S5).
fn with_withdrawn(decision: &Decision) -> Rc<View> {
    let mut view = Rc::clone(&decision.before);
    let released = |claim| {
        decision.after.attempts.iter().any(|after| after.claim == claim && after.phase == Phase::Released)
    };
    let withdrawn = |a: &AttemptFact| a.phase == Phase::Asked && released(a.claim);
    if view.attempts.iter().any(withdrawn) {
        let attempts = Rc::make_mut(&mut view).attempts.iter_mut();
        attempts.filter(|a| withdrawn(a)).for_each(|attempt| attempt.phase = Phase::Released);
    }
    view
}

/// "Held by the same claimant, lease running: the same GRANTED again".
fn again(
    decision: &Decision,
    claim: ClaimName,
    fingerprint: Option<[u8; 16]>,
    claimant: &[u8],
) -> Result<(), Violation> {
    let Verdict::Held(held) = winner(&decision.before) else {
        return Err(live(decision, &format!("{claim} was known and not the holder")));
    };
    if held.claim != claim || claimant.is_empty() || held.claimant != claimant {
        return Err(live(decision, &format!("the key was held by {} of another claimant", held.claim)));
    }
    if held.fingerprint != fingerprint {
        return Err(live(decision, &format!("{claim} was claimed for another payload")));
    }
    if decision.now > held.lease_until {
        return Err(live(decision, &format!("the lease of {claim} had ended at {}", held.lease_until)));
    }
    Ok(())
}

/// The claim was written Asked and a majority has been asked since (S5).
fn is_asked(view: &View, claim: ClaimName) -> bool {
    view.attempts.iter().any(|attempt| attempt.claim == claim && attempt.phase == Phase::Asked)
}

/// S5: "When a majority holds it, none reported another live claim or outcome, and its lease still runs".
fn gathered(decision: &Decision, claim: ClaimName, rules: Rules) -> Result<(), Violation> {
    let ours = decision.before.attempts.iter().find(|attempt| attempt.claim == claim);
    let Some(ours) = ours else { return Ok(()) };
    if decision.now > ours.lease_until {
        return Err(live(decision, &format!("the lease of {claim} had ended at {}", ours.lease_until)));
    }
    let asked = |a: &&AttemptFact| a.claim != claim && runs(a, decision.now, rules);
    if let Some(other) = blocking(&decision.before).find(asked) {
        return Err(live(
            decision,
            &format!("{} held or asked for it until {}", other.claim, other.lease_until),
        ));
    }
    if let Verdict::Settled(o) = winner(&decision.before) {
        return Err(live(decision, &format!("it was settled by {} until {}", o.claim, o.expires_at)));
    }
    let held =
        |a: &&AttemptFact| a.claim != claim && is_held(a) && counts(&decision.before, a.claim, a.expires_at);
    if let Some(silent) = decision.before.attempts.iter().find(held).filter(|_| rules.unknown_on_lease_end) {
        return Err(live(decision, &format!("{} must be resolved first (policy unknown)", silent.claim)));
    }
    left_behind(decision, decision.now)
}

/// A new claim: nothing the region knew may be live.
fn anew(decision: &Decision, claim: ClaimName, rules: Rules) -> Result<(), Violation> {
    let (view, now) = (&decision.before, decision.now.max(stamp_ms(claim.stamp)));
    if all_past(view, now, rules.max_drift) {
        return Ok(());
    }
    if let Some(holder) = blocking(view).find(|a| runs(a, now, rules)) {
        let lease = holder.lease_until;
        return Err(live(
            decision,
            &format!("{} held a lease until {lease} (+{})", holder.claim, rules.max_drift),
        ));
    }
    match winner(view) {
        Verdict::Settled(o) => {
            Err(live(decision, &format!("it was settled by {} until {}", o.claim, o.expires_at)))
        }
        Verdict::Held(a) if rules.unknown_on_lease_end => {
            Err(live(decision, &format!("{} must be resolved first (policy unknown)", a.claim)))
        }
        _ => left_behind(decision, now),
    }
}

/// A takeover: "all become Abandoned".
fn left_behind(decision: &Decision, now: Millis) -> Result<(), Violation> {
    for old in blocking(&decision.before).filter(|a| a.phase == Phase::Held) {
        let abandoned =
            decision.after.attempts.iter().find(|a| a.claim == old.claim).is_none_or(is_abandoned);
        if !abandoned && now < old.expires_at {
            return Err(live(decision, &format!("{} was taken over and not marked Abandoned", old.claim)));
        }
    }
    Ok(())
}

fn replay(
    decision: &Decision,
    verdict: Verdict<'_>,
    fingerprint: Option<[u8; 16]>,
    bytes: &[u8],
    rules: Rules,
) -> Result<(), Violation> {
    let Verdict::Settled(outcome) = verdict else {
        return Err(unfounded(decision, "no outcome counted for the winner"));
    };
    if outcome.fingerprint != fingerprint {
        let story = [
            decision.words(),
            format!("the outcome of {} belongs to another payload than the one asked for", outcome.claim),
        ];
        return Err(decision.violation("INV-11", clause::INV_11, story));
    }
    if outcome.bytes != bytes {
        return Err(unfounded(decision, "the bytes served are not the winner's"));
    }
    if all_past(&decision.before, decision.now, rules.max_drift) {
        let story =
            [decision.words(), format!("{} was past its retention {}", outcome.claim, outcome.expires_at)];
        return Err(decision.violation("INV-12", clause::INV_12, story));
    }
    Ok(())
}

fn live(decision: &Decision, why: &str) -> Violation {
    decision.violation("INV-4", clause::INV_4, [decision.words(), format!("but {why}")])
}

/// An answer whose row of the table did not apply: the region's reading of the winner is not S3's.
fn unfounded(decision: &Decision, why: &str) -> Violation {
    let story = [decision.words(), format!("but {why}: by S3 it was {}", winner(&decision.before))];
    decision.violation("INV-3", clause::INV_3, story)
}
