//! S4.2 to S4.7, judged from outside: was the answer to COMPLETE, RENEW, RELEASE, GET, FORGET or RESOLVE the
//! one that the region's knowledge called for?
//!
//! The answer to a write is judged against the entry *after* it, because S4 demands that the answer
//! and the delta agree: an outcome that was acknowledged and not recorded is lost already.
//!
//! Must never: look at anything but the decision.

use super::ask::{Answer, Ask, ByHome, Decision, TokenFact};
use super::claims::blocking;
use super::facts::{AttemptFact, Millis, OutcomeFact, View, stamp_ms};
use super::violation::{Violation, clause};
use super::winner::{Verdict, all_past, is_abandoned, is_held, winner};

/// Judges an answer to anything but CLAIM.
pub fn check(decision: &Decision, max_drift: Millis) -> Result<(), Violation> {
    let own = if decision.quorum { matches!(decision.ask, Ask::Release { .. }) } else { false };
    let asks =
        decision.answer == Answer::Asks && decision.may_ask() && !own && !matches!(decision.ask, Ask::Get);
    if let (Ask::Complete { token, .. }, Answer::Unavailable { reason }) = (&decision.ask, &decision.answer)
        && reason == "recorded_here"
    {
        return recorded(decision, token);
    }
    // What a region is told of the home's clock and state, it cannot judge by its own.
    let words = matches!(decision.answer, Answer::Superseded { .. } | Answer::Stale { .. });
    let relayed = words && decision.by_home == ByHome::Relayed;
    if asks || relayed || matches!(decision.answer, Answer::Unavailable { .. }) {
        return Ok(());
    }
    match &decision.ask {
        Ask::Claim { .. } => Ok(()),
        Ask::Complete { token, bytes } => {
            token_ok(decision, token).unwrap_or_else(|| complete(decision, token, bytes))
        }
        Ask::Renew { token, .. } => token_ok(decision, token).unwrap_or_else(|| renew(decision, token)),
        Ask::Release { token } => token_ok(decision, token).unwrap_or_else(|| release(decision, token)),
        Ask::Get => get(decision, max_drift),
        Ask::Forget if decision.answer == Answer::Forgotten => Ok(()),
        Ask::Forget => Err(wrong(decision, "FORGET is answered FORGOTTEN")),
        Ask::Resolve { bytes } => resolve(decision, bytes.as_deref(), max_drift),
    }
}

/// S4.2: "STALE only for a bad tag, a claim past `expires_at`, or one voided by FORGET". `None` where
/// the token counts and the answer is not STALE.
fn token_ok(decision: &Decision, token: &TokenFact) -> Option<Result<(), Violation>> {
    if decision.by_home == ByHome::Relayed {
        // By the home's clock it counts, and what came with it is known here.
        return None;
    }
    let void = token.claim.stamp <= decision.before.forgotten;
    // A claim made after its expiry, perhaps by a clock that is ahead, supersedes it (S3).
    let superseded = decision.before.claims().any(|claim| stamp_ms(claim.stamp) >= token.expires_at);
    let expired = decision.now >= token.expires_at || superseded;
    match &decision.answer {
        Answer::Stale { reason } => {
            let founded = match reason.as_str() {
                "bad_tag" => token.forged,
                "expired" => expired,
                "forgotten" => void,
                _ => false,
            };
            Some(if founded {
                Ok(())
            } else {
                Err(wrong(decision, &format!("STALE {reason} was unfounded")))
            })
        }
        _ if token.forged => Some(Err(wrong(decision, "the token was forged"))),
        _ if void => Some(Err(wrong(decision, "FORGET had voided the claim"))),
        _ if decision.now > token.expires_at => {
            Some(Err(wrong(decision, "the claim was past its retention")))
        }
        _ => None,
    }
}

/// S5: "a COMPLETE without one answers UNAVAILABLE recorded_here": then it is.
fn recorded(decision: &Decision, token: &TokenFact) -> Result<(), Violation> {
    let after = &decision.after.outcomes;
    if after.iter().any(|o| o.claim == token.claim) || after.len() >= OUTCOMES_STORED {
        return Ok(());
    }
    Err(wrong(decision, "no outcome of the claim is recorded here"))
}

fn complete(decision: &Decision, token: &TokenFact, bytes: &[u8]) -> Result<(), Violation> {
    let after = &decision.after;
    let recorded = after.outcomes.iter().any(|o| o.claim == token.claim);
    let full = decision.before.outcomes.len() >= OUTCOMES_STORED;
    if !recorded && !full {
        return Err(wrong(decision, "no outcome of the claim is recorded"));
    }
    let own =
        |v: &Verdict<'_>| matches!(v, Verdict::Settled(o) if o.claim == token.claim && o.bytes == bytes);
    let verdict = winner(after);
    match &decision.answer {
        Answer::Completed | Answer::Contested if !own(&verdict) => {
            Err(wrong(decision, &format!("the key is {verdict}, with these or other bytes")))
        }
        Answer::Completed if other_is_live(after, token) => {
            Err(wrong(decision, "another claim is live or took over: CONTESTED was due"))
        }
        Answer::Contested if !after.claims().any(|claim| claim != token.claim) => {
            Err(wrong(decision, "no other claim is known: COMPLETED was due"))
        }
        Answer::Completed | Answer::Contested => Ok(()),
        Answer::Superseded { bytes: shown } => {
            if own(&verdict) {
                return Err(wrong(decision, "the claim settled the key with these bytes"));
            }
            // "different bytes for a completed claim: SUPERSEDED with the stored ones"
            let stored = |o: &&OutcomeFact| o.claim == token.claim && o.bytes != bytes;
            if after.outcomes.iter().filter(stored).any(|o| shown.as_ref() == Some(&o.bytes)) {
                return Ok(());
            }
            shown_outcome(decision, &verdict, token, shown.as_deref())
        }
        other => Err(wrong(decision, &format!("{} is no answer to COMPLETE", other.status()))),
    }
}

/// S3: "An entry takes at most 8 outcomes".
const OUTCOMES_STORED: usize = 8;

/// S4.2: "CONTESTED instead when another claim, of any region, is live".
fn other_is_live(view: &View, token: &TokenFact) -> bool {
    let counting = |claim, expires_at| super::winner::counts(view, claim, expires_at);
    view.attempts.iter().any(|a| a.claim != token.claim && is_held(a) && counting(a.claim, a.expires_at))
}

/// S4.2: "with the winner's outcome if its fingerprint is equal" (INV-11).
fn shown_outcome(
    decision: &Decision,
    verdict: &Verdict<'_>,
    token: &TokenFact,
    shown: Option<&[u8]>,
) -> Result<(), Violation> {
    let Verdict::Settled(outcome) = verdict else {
        return if shown.is_none() { Ok(()) } else { Err(wrong(decision, "an outcome of nobody was shown")) };
    };
    let same = outcome.fingerprint == token.fingerprint;
    match shown {
        Some(_) if !same => {
            let story =
                [decision.words(), format!("the outcome of {} has another fingerprint", outcome.claim)];
            Err(decision.violation("INV-11", clause::INV_11, story))
        }
        Some(bytes) if bytes != outcome.bytes => {
            Err(wrong(decision, "other bytes than the winner's were shown"))
        }
        None if same => Err(wrong(decision, "the winner's outcome was withheld")),
        _ => Ok(()),
    }
}

fn renew(decision: &Decision, token: &TokenFact) -> Result<(), Violation> {
    let mine = |a: &&AttemptFact| a.claim == token.claim;
    let running = matches!(winner(&decision.before),
        Verdict::Held(a) if a.claim == token.claim && decision.now <= a.lease_until);
    match &decision.answer {
        Answer::Renewed { lease_until } => {
            // The home has judged that by its own clock, and it was a while ago.
            if !running && decision.by_home != ByHome::Relayed {
                return Err(wrong(decision, "the claim no longer won, or its lease was over"));
            }
            let stored = decision.after.attempts.iter().find(mine).map(|a| a.lease_until);
            if stored != Some(*lease_until) {
                return Err(wrong(decision, &format!("{lease_until} was promised and {stored:?} is stored")));
            }
            Ok(())
        }
        Answer::Superseded { bytes } if !running => {
            shown_outcome(decision, &winner(&decision.before), token, bytes.as_deref())
        }
        _ => Err(wrong(decision, "the claim won and its lease was running")),
    }
}

fn release(decision: &Decision, token: &TokenFact) -> Result<(), Violation> {
    match &decision.answer {
        Answer::Released => {
            // What another region says of a claim past its retention is not taken in any more (S3 Expiry).
            let lives = |a: &&AttemptFact| a.claim == token.claim && decision.now <= a.expires_at;
            if decision.after.attempts.iter().filter(lives).any(is_held) {
                return Err(wrong(decision, "the claim still holds the key"));
            }
            Ok(())
        }
        Answer::Superseded { .. } => {
            let held = decision.before.attempts.iter().any(|a| a.claim == token.claim && !is_abandoned(a));
            let done = decision.before.outcomes.iter().any(|o| o.claim == token.claim);
            if held && !done && winner(&decision.before).claim() == Some(token.claim) {
                return Err(wrong(decision, "the claim held the key"));
            }
            Ok(())
        }
        other => Err(wrong(decision, &format!("{} is no answer to RELEASE", other.status()))),
    }
}

/// S4.7: "settles an UNKNOWN", and nothing else: not what is settled, not what may still be worked on.
fn resolve(decision: &Decision, bytes: Option<&[u8]>, max_drift: Millis) -> Result<(), Violation> {
    let (before, now) = (&decision.before, decision.now);
    let past = all_past(before, now, max_drift);
    let running = blocking(before).any(|attempt| now <= attempt.lease_until + max_drift);
    let (was, verdict) = (winner(before), winner(&decision.after));
    let silent = matches!(was, Verdict::Held(_)) && !running && !past;
    let told = |o: &OutcomeFact| Some(o.bytes.as_slice()) == bytes;
    let right = match (&decision.answer, was) {
        (Answer::Completed | Answer::Contested, Verdict::Held(held)) => {
            silent && matches!(verdict, Verdict::Settled(o) if o.claim == held.claim && told(o))
        }
        // Said before.
        (Answer::Completed | Answer::Contested, Verdict::Settled(o)) => told(o),
        (Answer::Released, Verdict::Held(_)) => bytes.is_none() && silent && verdict == Verdict::Free,
        (Answer::Replay { bytes: shown, .. }, Verdict::Settled(o)) => *shown == o.bytes && !told(o),
        (Answer::InProgress, Verdict::Held(_)) => running,
        (Answer::Free, Verdict::Free) => true,
        (Answer::Free, _) => past,
        _ => false,
    };
    if right { Ok(()) } else { Err(wrong(decision, &format!("the key was {was}"))) }
}

fn get(decision: &Decision, max_drift: Millis) -> Result<(), Violation> {
    let past = all_past(&decision.before, decision.now, max_drift);
    match (&decision.answer, winner(&decision.before)) {
        (Answer::Settled { bytes, claim }, Verdict::Settled(o)) if !past => {
            if o.claim == *claim && o.bytes == *bytes {
                Ok(())
            } else {
                Err(wrong(decision, "another outcome wins"))
            }
        }
        (Answer::Held { claim }, Verdict::Held(a)) if !past && a.claim == *claim => Ok(()),
        (Answer::Free, Verdict::Free) => Ok(()),
        (Answer::Free, _) if past => Ok(()),
        (_, verdict) => Err(wrong(decision, &format!("the key was {verdict}"))),
    }
}

fn wrong(decision: &Decision, why: &str) -> Violation {
    decision.violation("S4", clause::S4, [decision.words(), format!("but {why}")])
}
