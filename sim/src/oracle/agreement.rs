//! The end of a run: all regions healed and quiet.
//!
//! INV-2: "After heal and quiescence all live regions hold identical live state and digests."
//! INV-3: "The winner equals that of an independent brute-force oracle over all operations accepted
//! anywhere." INV-5: "each loser that completed is listed by CONFLICTS exactly once, alike in every
//! region." INV-7 for what was acknowledged.
//!
//! What a crash may have undone, and what has expired, may be there or not: it enters the model only
//! if some region still shows it. Everything else accepted must be everywhere.
//!
//! What a region accepted before it lost its disk, and had told to some peers only, anti-entropy brings to the
//! others. One allowance: a part that expired while another part keeps its key alive died whole where it was alone and lives on where it was not (S3
//! Expiry). Regions may differ about such a key until all of it has expired, so its winner and its
//! equality are not judged; what is unexpired of it is.
//!
//! Must never: take a region's word for who wins.

use std::rc::Rc;

use super::facts::{ClaimName, Key, Millis, OutcomeFact, Part, Region, View, stamp_ms};
use super::ledger::{Accepted, Ledger};
use super::sight::{covers, describe};
use super::violation::{Violation, clause};
use super::winner::{Verdict, all_past, counts, outranks, winner};

/// One line of CONFLICTS.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConflictFact {
    /// The key.
    pub key: Key,
    /// The claim that lost.
    pub loser: ClaimName,
    /// Where it was completed.
    pub region: Region,
    /// When it was completed.
    pub loser_stamp: u64,
    /// The claim that won, when and where it completed.
    pub winner: Option<(u64, Region, ClaimName)>,
    /// Dealt with.
    pub compensated: bool,
}

/// What one region holds at the end.
#[derive(Clone, Debug)]
pub struct Final {
    /// Whose.
    pub region: Region,
    /// By key, in one order of parts.
    pub views: Vec<Rc<View>>,
    /// As CONFLICTS lists them.
    pub conflicts: Vec<ConflictFact>,
    /// The region's own digest of its live state.
    pub digest: u128,
}

/// What the end is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Virtual microseconds.
    pub at_us: u64,
    /// The latest `now` of any region, Unix ms.
    pub now: Millis,
    /// The bound between clocks, milliseconds.
    pub max_drift: Millis,
}

/// Judges the end of a run.
pub fn check(ledger: &Ledger, finals: &[Final], keys: usize, ending: Ending) -> Result<(), Violation> {
    let mut digests = true;
    for key in 0..keys {
        let model = check_presence(ledger, finals, key, ending)?;
        check_losers(ledger, &model, finals, key, ending)?;
        if half_dead(ledger, &model, key, ending) {
            digests = false;
            continue;
        }
        check_winner(&model, finals, key, ending)?;
        check_same(&model, finals, key, ending)?;
    }
    check_lists(finals, ending)?;
    if digests { check_digests(finals, ending) } else { Ok(()) }
}

/// Some part has expired, was not superseded by a later claim, and another part lives.
fn half_dead(ledger: &Ledger, model: &View, key: Key, ending: Ending) -> bool {
    let expired = |a: &Accepted| {
        !unexpired(&a.part, ending) && !model.claims().any(|c| stamp_ms(c.stamp) >= a.part.expires_at())
    };
    !all_past(model, ending.now, ending.max_drift) && ledger.of_key(key).any(expired)
}

/// Whether a part has surely not expired anywhere.
fn unexpired(part: &Part, ending: Ending) -> bool {
    ending.now <= part.expires_at().saturating_add(ending.max_drift)
}

/// Required parts are everywhere and nothing was invented. Returns the model.
fn check_presence(ledger: &Ledger, finals: &[Final], key: Key, ending: Ending) -> Result<View, Violation> {
    let required = |a: &Accepted| !a.doubtful && unexpired(&a.part, ending);
    let model = ledger.model(key, |a| required(a) || finals.iter().any(|f| covers(&f.views[key], &a.part)));
    let crowded = model.outcomes.len() > 8;
    for accepted in ledger.of_key(key).filter(|a| required(a)) {
        let lacking: Vec<Region> =
            finals.iter().filter(|f| !covers(&f.views[key], &accepted.part)).map(|f| f.region).collect();
        let spared = |o: &OutcomeFact| crowded || !counts(&model, o.claim, o.expires_at);
        if lacking.is_empty() || matches!(&accepted.part, Part::Outcome(o) if spared(o)) {
            continue;
        }
        let (invariant, text) = match (lacking.len() == finals.len(), accepted.acknowledged) {
            (true, true) => ("INV-7", clause::INV_7),
            (true, false) => ("INV-3", clause::INV_3),
            _ => ("INV-2", clause::INV_2),
        };
        let story = [
            format!(
                "r{} accepted {} at {:.6} s",
                accepted.region,
                describe(&accepted.part),
                seconds(accepted.at_us)
            ),
            format!("after heal and quiescence it is missing in regions {lacking:?} at now={}", ending.now),
        ];
        return Err(violation(invariant, text, key, ending, lacking, story));
    }
    let everything = ledger.model(key, |_| true);
    for end in finals {
        // A completion that was lost with its log may have been accepted again, in the same register.
        let accepted = |part: &Part| ledger.of_key(key).any(|accepted| accepted.part == *part);
        let known = |part: &Part| covers(&everything, part) || replaced(&everything, part) || accepted(part);
        let invented = end.views[key].parts().find(|part| !known(part));
        if let Some(part) = invented {
            let story = [
                format!("r{} holds {}", end.region, describe(&part)),
                "which no region ever accepted".to_owned(),
            ];
            return Err(violation("INV-3", clause::INV_3, key, ending, vec![end.region], story));
        }
    }
    Ok(model)
}

/// An attempt of the same slot that the model has a later claim for.
fn replaced(model: &View, part: &Part) -> bool {
    let Part::Attempt(attempt) = part else { return false };
    let slot = (attempt.claim.region, attempt.claim.incarnation);
    model.attempts.iter().any(|a| (a.claim.region, a.claim.incarnation) == slot && a.claim > attempt.claim)
}

fn check_winner(model: &View, finals: &[Final], key: Key, ending: Ending) -> Result<(), Violation> {
    if all_past(model, ending.now, ending.max_drift) {
        return Ok(());
    }
    let expected = winner(model);
    for end in finals {
        let found = winner(&end.views[key]);
        let same = match (expected, found) {
            (Verdict::Free, Verdict::Free) => true,
            (Verdict::Held(a), Verdict::Held(b)) => a.claim == b.claim,
            (Verdict::Settled(a), Verdict::Settled(b)) => a.slot() == b.slot() && a.bytes == b.bytes,
            _ => false,
        };
        if !same {
            let story = [
                format!("by all operations accepted anywhere the key is {expected}"),
                format!("in r{} it is {found}", end.region),
            ];
            return Err(violation("INV-3", clause::INV_3, key, ending, vec![end.region], story));
        }
    }
    Ok(())
}

fn check_same(model: &View, finals: &[Final], key: Key, ending: Ending) -> Result<(), Violation> {
    let Some((first, others)) = finals.split_first() else { return Ok(()) };
    if all_past(model, ending.now, ending.max_drift) {
        return Ok(());
    }
    for other in others {
        let (left, right) = (&first.views[key].pruned(), &other.views[key].pruned());
        if left == right {
            continue;
        }
        let only = |a: &View, b: &View| a.parts().find(|part| !b.parts().any(|p| p == *part));
        let (who, part) = match (only(left, right), only(right, left)) {
            (Some(part), _) => (first.region, describe(&part)),
            (_, Some(part)) => (other.region, describe(&part)),
            _ => (first.region, "the same parts in another order".to_owned()),
        };
        let story = [
            format!("r{} and r{} were healed and quiet", first.region, other.region),
            format!("only r{who} has {part}"),
        ];
        let regions = vec![first.region, other.region];
        return Err(violation("INV-2", clause::INV_2, key, ending, regions, story));
    }
    Ok(())
}

/// Losers by the final reading of the model: they must be listed. What is listed must have lost.
fn check_losers(
    ledger: &Ledger,
    model: &View,
    finals: &[Final],
    key: Key,
    ending: Ending,
) -> Result<(), Violation> {
    if model.outcomes.len() > 8 {
        return Ok(());
    }
    let listed = |end: &Final, o: &OutcomeFact| {
        end.conflicts.iter().filter(|c| c.key == key && c.loser == o.claim && c.region == o.region).count()
    };
    for loser in losers(model) {
        if !unexpired(&Part::Outcome(loser.clone()), ending) {
            continue; // It may have died before it met its winner.
        }
        if let Some(end) = finals.iter().find(|end| listed(end, loser) != 1) {
            let story = [
                format!("{} was completed in r{} and lost to {}", loser.claim, loser.region, winner(model)),
                format!("CONFLICTS of r{} lists it {} times", end.region, listed(end, loser)),
            ];
            return Err(violation("INV-5", clause::INV_5, key, ending, vec![end.region], story));
        }
    }
    // Not the model's: what a crash undid may have been accepted again in the same register.
    let outcome = |a: &Accepted| if let Part::Outcome(o) = &a.part { Some(o.clone()) } else { None };
    let all: Vec<OutcomeFact> = ledger.of_key(key).filter_map(outcome).collect();
    let forgotten = ledger.model(key, |_| true).forgotten;
    for end in finals {
        for conflict in end.conflicts.iter().filter(|c| c.key == key) {
            if let Some(text) = outranked(model, conflict) {
                let story = [
                    format!("CONFLICTS of r{} lists {} as a loser", end.region, listed_line(conflict)),
                    text,
                ];
                return Err(violation("INV-5", clause::INV_5, key, ending, vec![end.region], story));
            }
            if all.len() < 8 && !may_be_listed(&all, forgotten, conflict) {
                let story = [
                    format!("CONFLICTS of r{} lists {} as a loser", end.region, conflict.loser),
                    "but no accepted operation ever beat it".to_owned(),
                ];
                return Err(violation("INV-5", clause::INV_5, key, ending, vec![end.region], story));
            }
        }
    }
    Ok(())
}

/// S3 Conflict: "two outcomes (of different claims, or of one claim with different bytes) or an outcome
/// of a void claim completed after `forgotten`".
fn losers(model: &View) -> Vec<&OutcomeFact> {
    let lost = |o: &&OutcomeFact| {
        let void_late = o.claim.stamp <= model.forgotten && o.stamp > model.forgotten;
        let beaten = matches!(winner(model), Verdict::Settled(w)
            if counts(model, o.claim, o.expires_at) && (w.claim != o.claim || w.bytes != o.bytes));
        void_late || beaten
    };
    model.outcomes.iter().filter(lost).collect()
}

/// What is listed lost to what outranks it: an outcome that a majority has come to hold is no loser any more (S3.2).
fn outranked(model: &View, conflict: &ConflictFact) -> Option<String> {
    let (stamp, region, claim) = conflict.winner?;
    let mut of_loser =
        model.outcomes.iter().filter(|o| o.claim == conflict.loser && o.region == conflict.region);
    // Completed twice in one region, in two lives of its data: which of them is meant is not said.
    let (Some(loser), None) = (of_loser.next(), of_loser.next()) else { return None };
    let is_winner = |o: &&OutcomeFact| (o.stamp, o.region, o.claim) == (stamp, region, claim);
    let winner = model.outcomes.iter().find(is_winner)?;
    let void = loser.claim.stamp <= model.forgotten;
    (loser.majority && !void && outranks(loser, winner))
        .then(|| format!("but a majority holds it, and none holds {claim}, which completed in r{region}"))
}

fn may_be_listed(all: &[OutcomeFact], forgotten: u64, conflict: &ConflictFact) -> bool {
    let beaten =
        |o: &OutcomeFact| all.iter().any(|w| outranks(w, o) && (w.claim != o.claim || w.bytes != o.bytes));
    let same = |o: &&OutcomeFact| o.claim == conflict.loser && o.region == conflict.region;
    all.iter().filter(same).any(|o| o.claim.stamp <= forgotten || beaten(o))
}

/// "alike in every region": the same lines, and no line twice.
fn check_lists(finals: &[Final], ending: Ending) -> Result<(), Violation> {
    let Some((first, others)) = finals.split_first() else { return Ok(()) };
    let same = |a: &ConflictFact, b: &ConflictFact| (a.key, a.loser, a.region) == (b.key, b.loser, b.region);
    for other in others {
        let unlike = |b: &Final, c: &ConflictFact| !b.conflicts.contains(c);
        let missing = |a: &Final, b: &Final| a.conflicts.iter().find(|c| unlike(b, c)).cloned();
        let differs = missing(first, other).map(|c| (c, first, other));
        let differs = differs.or_else(|| missing(other, first).map(|c| (c, other, first)));
        if let Some((conflict, has, lacks)) = differs {
            let story = [
                format!("r{} lists {}", has.region, listed_line(&conflict)),
                match lacks.conflicts.iter().find(|other| same(other, &conflict)) {
                    Some(other) => format!("r{} lists it otherwise: {}", lacks.region, listed_line(other)),
                    None => format!("r{} does not list that loser", lacks.region),
                },
            ];
            let regions = vec![has.region, lacks.region];
            return Err(violation("INV-5", clause::INV_5, conflict.key, ending, regions, story));
        }
    }
    Ok(())
}

fn listed_line(conflict: &ConflictFact) -> String {
    let ConflictFact { loser, region, loser_stamp, winner, compensated, .. } = conflict;
    let winner = winner.map_or_else(
        || "no winner".to_owned(),
        |(stamp, region, claim)| format!("{claim} completed in r{region} at {}", stamp_ms(stamp)),
    );
    let at = stamp_ms(*loser_stamp);
    format!("loser {loser} completed in r{region} at {at} (compensated: {compensated}), {winner}")
}

/// INV-2 for the regions' own digests, taken at one `now`.
fn check_digests(finals: &[Final], ending: Ending) -> Result<(), Violation> {
    let Some((first, others)) = finals.split_first() else { return Ok(()) };
    let Some(other) = others.iter().find(|other| other.digest != first.digest) else { return Ok(()) };
    let story = [
        format!("r{} and r{} hold the same entries", first.region, other.region),
        format!("but their digests are {:032x} and {:032x}", first.digest, other.digest),
    ];
    let regions = [first.region, other.region].into();
    let (invariant, text, at_us) = ("INV-2", clause::INV_2, ending.at_us);
    Err(Violation { invariant, clause: text, key: None, at_us, regions, story })
}

fn seconds(at_us: u64) -> f64 {
    at_us as f64 / 1e6
}

fn violation(
    invariant: &'static str,
    text: &'static str,
    key: Key,
    ending: Ending,
    regions: Vec<Region>,
    story: [String; 2],
) -> Violation {
    Violation { invariant, clause: text, key: Some(key), at_us: ending.at_us, regions: regions.into(), story }
}
