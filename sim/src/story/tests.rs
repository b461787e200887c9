//! Handmade stories: what must be in a cone, and what must not.

use super::cone::cone;
use super::moment::{Answered, Arrived, Carry, Degree, Fate, MomentId, PartNote, PartState, Sent, What};
use super::names::Names;
use super::record::Record;
use super::spans::{Cuts, downs};
use crate::clock::EPOCH_MS;
use crate::oracle::facts::{ClaimName, Key};
use crate::oracle::violation::{Violation, clause};
use crate::scenario::Scenario;

const KEY: Key = 0;
const OTHER: Key = 1;

fn record() -> Record {
    let seed = (0..).find(|seed| Scenario::draw(*seed).sites() == 3).expect("most have three");
    let mut record = Record::of(&Scenario::draw(seed));
    record.severed = None;
    record
}

fn claim(region: u16, ms: u64) -> ClaimName {
    ClaimName { stamp: (EPOCH_MS + ms) << 16, region, incarnation: 1 }
}

fn held(claim: ClaimName) -> PartNote {
    PartNote { state: PartState::Held, claim, region: claim.region }
}

fn granted(key: Key, claim: ClaimName, unseen: &[ClaimName]) -> What {
    What::Answered(Box::new(Answered {
        job: 1,
        request: 1,
        key,
        ask: "CLAIM",
        claim: Some(claim),
        answer: "GRANTED",
        reason: None,
        now_ms: EPOCH_MS,
        lease_until_ms: None,
        wrote: [held(claim)].into(),
        unseen: unseen.into(),
        told_us: Some(0),
        heard_us: Some(0),
    }))
}

fn sent(to: usize, key: Key, claim: ClaimName, fate: Fate, arrivals: Vec<MomentId>) -> What {
    let carries = [Carry { key, parts: [held(claim)].into() }].into();
    What::Sent(Box::new(Sent {
        to,
        session: 1,
        kind: "records",
        bytes: 9,
        fate,
        due_us: 0,
        carries,
        wanted: true,
        arrivals,
    }))
}

fn arrived(from: usize, sent: MomentId, key: Key, claim: ClaimName) -> What {
    let news = [Carry { key, parts: [held(claim)].into() }].into();
    What::Arrived(Box::new(Arrived { from, sent: Some(sent), again: false, refused: None, news }))
}

fn broken(regions: &[u16], story: [String; 2], at_us: u64) -> Violation {
    let (key, regions) = (Some(KEY), regions.into());
    Violation { invariant: "INV-5", clause: clause::INV_5, key, at_us, regions, story }
}

/// r1 grants A and tells r3; to r2 its frame runs into a cut. r2 grants B. Another key has nothing to do with it, nor
/// has what r3 did with this one later, of which nobody heard.
#[test]
fn the_cone_has_both_grants_the_lost_frame_and_the_cut_and_nothing_else() {
    let mut record = record();
    let (a, b, c) = (claim(1, 10), claim(2, 20), claim(3, 30));
    record.push(5, Some(0), What::Cut { to: 1 });
    record.push(6, Some(2), granted(OTHER, c, &[]));
    record.push(10, Some(0), granted(KEY, a, &[]));
    record.push(11, Some(0), sent(1, KEY, a, Fate::Cut, vec![]));
    record.push(11, Some(0), sent(2, KEY, a, Fate::Arrives, vec![6]));
    record.push(12, Some(0), sent(1, OTHER, c, Fate::Lost, vec![]));
    record.push(15, Some(2), arrived(0, 4, KEY, a));
    record.push(20, Some(1), granted(KEY, b, &[a]));
    record.push(25, Some(2), granted(KEY, c, &[]));
    record.push(30, None, What::Violated);
    let story = ["r1 and r2 both granted it".to_owned(), format!("{a} and {b}")];
    let violation = broken(&[2], story, 30);
    let found = cone(&record, &violation);
    assert_eq!(found.all, [0, 2, 3, 4, 7], "the frame to r3 is r1's own doing; r3 is nobody's cause");
    let steps: Vec<Vec<MomentId>> = found.steps.iter().map(|step| step.moments.clone()).collect();
    assert_eq!(steps, [vec![0], vec![2], vec![3], vec![7], vec![9]]);
    let names = Names::of(&record, &[2, 3, 7]);
    let words: Vec<String> = found.steps.iter().map(|step| step.words(&record, &names, Some(KEY))).collect();
    assert!(words[0].contains("nothing passes from r1 to r2"), "{words:?}");
    assert!(
        words[2].contains("the link is cut") && words[3].contains("does not know of claim A"),
        "{words:?}"
    );
    assert_eq!(names.humanise(&violation.story[1], Some(KEY)), "claim A and claim B");
}

/// News that went through a third region leads back to who sent it first.
#[test]
fn the_cone_follows_frames_from_region_to_region() {
    let mut record = record();
    let a = claim(1, 10);
    record.push(10, Some(0), granted(KEY, a, &[]));
    record.push(11, Some(0), sent(1, KEY, a, Fate::Arrives, vec![2]));
    record.push(12, Some(1), arrived(0, 1, KEY, a));
    record.push(13, Some(1), sent(2, KEY, a, Fate::Arrives, vec![5]));
    record.push(14, Some(0), granted(KEY, claim(1, 14), &[]));
    record.push(15, Some(2), arrived(1, 3, KEY, a));
    let found = cone(&record, &broken(&[3], [String::new(), String::new()], 15));
    assert_eq!(found.all, [0, 1, 2, 3, 5], "what r1 granted after sending was not known in r3");
}

#[test]
fn cuts_and_down_times_are_spans_and_sets_of_links_stand_there_once() {
    let mut record = record();
    for (at_us, cut) in [(10, true), (20, false), (30, true), (40, false)] {
        for (from, to) in [(0, 1), (1, 0)] {
            let what = if cut { What::Cut { to } } else { What::Mended { to } };
            record.push(at_us, Some(from), what);
        }
    }
    record.push(50, Some(2), What::Cut { to: 0 });
    record.push(55, Some(2), What::Crashed(Degree::Power));
    record.push(60, Some(2), What::Started { incarnation: 1, epoch: 2 });
    record.push(70, None, What::Healed { apart: [].into() });
    let cuts = Cuts::of(&record, None);
    assert_eq!(cuts.sets.len(), 2);
    let pair = cuts.sets.iter().position(|set| *set == [(1, 2), (2, 1)]).expect("the pair");
    assert_eq!(cuts.spans, [(10, Some(20), pair), (30, Some(40), pair), (50, Some(70), 1 - pair)]);
    assert_eq!(cuts.left_out, 0);
    assert_eq!(downs(&record), [(3, 55, Some(60), "without power")]);
}
