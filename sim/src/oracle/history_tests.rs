//! Histories that must pass, and each with one answer changed so that it must not.

use std::rc::Rc;

use super::super::agreement::{self, ConflictFact, Ending};
use super::super::ask::TokenFact;
use super::*;

const DRIFT: Millis = 100;

fn name(ms: u64, region: Region) -> ClaimName {
    ClaimName { stamp: ms << 16, region, incarnation: 7 }
}

fn token(claim: ClaimName) -> TokenFact {
    TokenFact { claim, fingerprint: None, expires_at: stamp_ms(claim.stamp) + 60_000, forged: false }
}

fn spoken(region: Region, sent_us: u64, ask: Ask, answer: Option<Answer>) -> Spoken {
    Spoken { region, key: 0, ask, sent_us, heard: answer.map(|answer| (sent_us + 500, answer)) }
}

fn claim(region: Region, ms: u64) -> Spoken {
    let (claimant, claim) = (format!("r{region}").into_bytes(), name(ms, region));
    let ask = Ask::Claim { fingerprint: None, claimant, lease: 1_000, retention: 60_000, wait: 0 };
    let answer = Answer::Granted { claim, lease_until: ms + 1_000, expires_at: ms + 60_000 };
    spoken(region, ms * 1_000, ask, Some(answer))
}

fn complete(region: Region, ms: u64, claim: ClaimName, answer: Option<Answer>) -> Spoken {
    let bytes = format!("by {claim}").into_bytes();
    spoken(region, ms * 1_000, Ask::Complete { token: token(claim), bytes }, answer)
}

fn history(spoken: Vec<Spoken>) -> History {
    History { spoken, wiped: Vec::new(), began_ms: Some(0), max_drift: DRIFT, quorum: BTreeSet::new() }
}

fn outcome(claim: ClaimName, ms: u64) -> OutcomeFact {
    OutcomeFact {
        claim,
        region: claim.region,
        incarnation: 0,
        stamp: ms << 16,
        majority: false,
        fingerprint: None,
        bytes: format!("by {claim}").into_bytes(),
        expires_at: stamp_ms(claim.stamp) + 60_000,
    }
}

/// Two regions that ran the key each on its own; the first has completed first.
fn twice() -> (History, Vec<Final>) {
    let (one, other) = (name(1_000, 1), name(1_010, 2));
    let all = vec![
        claim(1, 1_000),
        claim(2, 1_010),
        complete(1, 1_050, one, Some(Answer::Completed)),
        complete(2, 1_060, other, Some(Answer::Completed)),
    ];
    let mut view = View::default();
    all[..2].iter().filter_map(grant_part).for_each(|attempt| view.add(&Part::Attempt(attempt)));
    view.add(&Part::Outcome(outcome(one, 1_050)));
    view.add(&Part::Outcome(outcome(other, 1_060)));
    let loser = ConflictFact {
        key: 0,
        loser: other,
        region: 2,
        loser_stamp: 1_060 << 16,
        winner: Some((1_050 << 16, 1, one)),
        compensated: false,
    };
    let end = |region| Final {
        region,
        views: vec![view.clone().sorted().into()],
        conflicts: vec![loser.clone()],
        digest: 1,
    };
    (history(all), vec![end(1), end(2)])
}

fn judge(history: &History, finals: &[Final]) -> Result<(), Violation> {
    history.check(finals)?;
    let ending = Ending { at_us: 9, now: 2_000, max_drift: DRIFT };
    agreement::check(&accepted(history, finals), finals, 1, ending)
}

fn caught(history: &History, finals: &[Final]) -> &'static str {
    judge(history, finals).expect_err("it must be caught").invariant
}

#[test]
fn a_key_that_ran_twice_and_is_listed_passes() {
    let (history, finals) = twice();
    assert_eq!(judge(&history, &finals), Ok(()));
}

#[test]
fn what_the_end_lacks_is_caught() {
    let (history, finals) = twice();
    let mut lost = finals.clone();
    lost.iter_mut()
        .for_each(|end| Rc::make_mut(&mut end.views[0]).outcomes.retain(|outcome| outcome.region == 1));
    assert_eq!(caught(&history, &lost), "INV-7");
    let mut unlisted = finals.clone();
    unlisted.iter_mut().for_each(|end| end.conflicts.clear());
    assert_eq!(caught(&history, &unlisted), "INV-5");
    let mut apart = finals.clone();
    apart[1].digest = 2;
    assert_eq!(caught(&history, &apart), "INV-2");
    let mut invented = finals;
    invented
        .iter_mut()
        .for_each(|end| Rc::make_mut(&mut end.views[0]).outcomes.push(outcome(name(1_000, 2), 1_070)));
    assert_eq!(caught(&history, &invented), "INV-3");
}

#[test]
fn a_lost_answer_explains_what_was_done_and_what_was_not() {
    let (mut history, finals) = twice();
    history.spoken[3].heard = None;
    assert_eq!(judge(&history, &finals), Ok(()), "done, and nobody was told");
    let mut undone = finals;
    for end in &mut undone {
        Rc::make_mut(&mut end.views[0]).outcomes.retain(|outcome| outcome.region == 1);
        end.conflicts.clear();
    }
    assert_eq!(judge(&history, &undone), Ok(()), "not done");
}

#[test]
fn what_a_wiped_region_was_told_may_be_gone() {
    let (mut history, mut finals) = twice();
    for end in &mut finals {
        Rc::make_mut(&mut end.views[0]).outcomes.retain(|outcome| outcome.region == 1);
        end.conflicts.clear();
    }
    history.wiped.push((2, 1_100_000));
    assert_eq!(judge(&history, &finals), Ok(()));
}

#[test]
fn a_region_that_grants_what_it_granted_is_caught() {
    let first = claim(1, 1_000);
    let again = |ms: u64| Spoken { ask: claim(2, ms).ask, ..claim(1, ms) };
    let check = |all: Vec<Spoken>| history(all).check(&[]).map_err(|violation| violation.invariant);
    assert_eq!(check(vec![first.clone(), again(2_000)]), Err("INV-4"), "within the lease and the drift");
    assert_eq!(check(vec![first.clone(), again(2_101)]), Ok(()), "a takeover");
    let released =
        spoken(1, 1_500_000, Ask::Release { token: token(name(1_000, 1)) }, Some(Answer::Released));
    assert_eq!(check(vec![first.clone(), released, again(2_000)]), Ok(()));
    let done = complete(1, 1_500, name(1_000, 1), Some(Answer::Completed));
    assert_eq!(check(vec![first, done, again(9_000)]), Err("INV-4"), "it is settled");
}

#[test]
fn stamps_that_go_back_are_caught() {
    let back = Spoken {
        sent_us: 3_000_000,
        heard: claim(1, 500).heard.map(|(_, answer)| (3_000_500, answer)),
        key: 1,
        ..claim(1, 500)
    };
    assert_eq!(history(vec![claim(1, 1_000), back]).check(&[]).map_err(|v| v.invariant), Err("INV-9"));
}

#[test]
fn an_outcome_that_was_acknowledged_is_never_unknown_again() {
    let done = complete(1, 1_050, name(1_000, 1), Some(Answer::Completed));
    let get = |ms: u64, answer| spoken(1, ms * 1_000, Ask::Get, Some(answer));
    let check = |later: Spoken| history(vec![done.clone(), later]).check(&[]).map_err(|v| v.invariant);
    assert_eq!(check(get(1_040, Answer::Free)), Ok(()), "at the same time");
    assert_eq!(check(get(2_000, Answer::Free)), Err("INV-7"));
    assert_eq!(check(get(61_100, Answer::Free)), Ok(()), "past its retention");
}

#[test]
fn a_winner_that_changes_to_a_later_one_is_caught() {
    let (_, finals) = twice();
    let (one, other) = (name(1_000, 1), name(1_010, 2));
    let get = |ms: u64, claim: ClaimName| {
        spoken(
            2,
            ms * 1_000,
            Ask::Get,
            Some(Answer::Settled { bytes: format!("by {claim}").into_bytes(), claim }),
        )
    };
    let check = |first: ClaimName, then: ClaimName| {
        history(vec![get(1_100, first), get(1_200, then)]).check(&finals).map_err(|v| v.invariant)
    };
    assert_eq!(check(other, one), Ok(()), "to an earlier completion");
    assert_eq!(check(one, other), Err("INV-10"));
}

#[test]
fn an_outcome_for_another_payload_or_past_its_end_is_caught() {
    let (_, finals) = twice();
    let claim = name(1_000, 1);
    let replay = |ms: u64, fingerprint| {
        let ask = Ask::Claim { fingerprint, claimant: Vec::new(), lease: 1, retention: 1, wait: 0 };
        let answer = Answer::Replay { bytes: format!("by {claim}").into_bytes(), claim };
        history(vec![spoken(1, ms * 1_000, ask, Some(answer))]).check(&finals).map_err(|v| v.invariant)
    };
    assert_eq!(replay(1_100, None), Ok(()));
    assert_eq!(replay(1_100, Some([1; 16])), Err("INV-11"));
    assert_eq!(replay(61_200, None), Err("INV-12"));
}

#[test]
fn what_a_region_says_must_be_what_it_holds() {
    let (_, mut finals) = twice();
    let (one, other) = (name(1_000, 1), name(1_010, 2));
    let says = |claim: ClaimName| Answer::Settled { bytes: format!("by {claim}").into_bytes(), claim };
    let said = |claim| vec![(1, vec![says(claim)]), (2, vec![says(claim)])];
    assert_eq!(check_said(&finals, &said(one), 0), Ok(()));
    assert_eq!(check_said(&finals, &said(other), 0).map_err(|v| v.invariant), Err("INV-3"));
    // Of one millisecond: only the region knows which was first.
    for end in &mut finals {
        Rc::make_mut(&mut end.views[0]).outcomes.iter_mut().for_each(|outcome| outcome.stamp = 1_050 << 16);
    }
    order_ties(&mut finals, &said(other));
    assert_eq!(check_said(&finals, &said(other), 0), Ok(()));
}

/// The story: real regions at quorum were said to have made up attempts that they had only withdrawn, and to have issued
/// stamps backwards, because an answer leaves when a majority holds what was stamped long before.
#[test]
fn what_a_majority_was_asked_for_and_did_not_get_is_no_invention() {
    let ask = || Ask::Claim {
        fingerprint: None,
        claimant: b"a".to_vec(),
        lease: 3_000,
        retention: 60_000,
        wait: 0,
    };
    let withdrawn = AttemptFact {
        claim: name(1_000, 2),
        phase: Phase::Released,
        lease_until: 4_000,
        abandoned_lease: 0,
        fingerprint: None,
        claimant: b"a".to_vec(),
        expires_at: 61_000,
    };
    let views = vec![View { attempts: vec![withdrawn], ..View::default() }.into()];
    let finals = [Final { region: 2, views, conflicts: Vec::new(), digest: 0 }];
    let mut told = history(vec![spoken(2, 1_000_000, ask(), Some(Answer::InProgress))]);
    let explained = |history: &History| accepted(history, &finals).of_key(0).count();
    assert_eq!(explained(&told), 0, "a local claim that was not granted leaves nothing");
    told.quorum.insert(0);
    assert_eq!(explained(&told), 1);
    // Asked for first, and granted after a later one.
    let granted =
        |ms| Answer::Granted { claim: name(ms, 2), lease_until: ms + 3_000, expires_at: ms + 60_000 };
    let mut late = spoken(2, 2_000_000, ask(), Some(granted(900)));
    late.key = 1;
    let mut early = spoken(2, 1_000_000, ask(), Some(granted(1_000)));
    early.key = 1;
    let mut stamps = history(vec![early, late]);
    assert!(stamps.check_stamps().is_err());
    stamps.quorum.insert(1);
    assert!(stamps.check_stamps().is_ok());
}
