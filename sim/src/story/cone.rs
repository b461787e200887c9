//! The causal cone of a violation: what can have led to it, and nothing else.
//!
//! Backwards from where it was found: what its regions did before (program order), and whatever those who sent them
//! news had done before sending (message edges), restricted to the key. Beside it stands what was in the way meanwhile:
//! crashes, clocks, disks and cuts of the regions in it.
//!
//! The cone is still long where many ask for one key. Its steps are what changed something (a write, news, a frame lost
//! that would have been news, an answer nobody heard), merged and bounded, for people to read.
//!
//! Must never: leave out the moment at which the rule was found broken.

use std::collections::{BTreeMap, BTreeSet};

use super::moment::{Fate, MomentId, PartNote, What};
use super::names::Names;
use super::record::Record;
use super::words::{numbered, sentence};
use crate::limits;
use crate::oracle::facts::{Key, View};
use crate::oracle::violation::Violation;

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub struct Cone {
    /// Every moment of it, in order.
    pub all: Vec<MomentId>,
    /// What is worth reading, in order.
    pub steps: Vec<Step>,
    /// Steps that were left out because they are about earlier claims, or too many.
    pub left_out: usize,
}

/// One thing to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// When, virtual microseconds.
    pub at_us: u64,
    /// Where; `None` for what concerns several regions.
    pub site: Option<usize>,
    /// The moments it tells of.
    pub moments: Vec<MomentId>,
    /// It only stood in the way: no cause by itself.
    pub around: bool,
    /// What to say where no moment says it.
    pub remark: Option<String>,
}

impl Step {
    /// As a sentence.
    pub fn words(&self, record: &Record, names: &Names, key: Option<Key>) -> String {
        if let Some(remark) = &self.remark {
            return remark.clone();
        }
        let moments: Vec<_> = self.moments.iter().map(|id| &record.moments[*id as usize]).collect();
        let pairs = |wanted: fn(&What) -> Option<usize>| -> Vec<String> {
            let pair = |from: Option<usize>, to| {
                format!("{}→{}", from.map_or_else(String::new, |from| record.region(from)), record.region(to))
            };
            moments.iter().filter_map(|m| Some(pair(m.site, wanted(&m.what)?))).collect()
        };
        let cuts = pairs(|what| if let What::Cut { to } = what { Some(*to) } else { None });
        let mends = pairs(|what| if let What::Mended { to } = what { Some(*to) } else { None });
        if cuts.len() + mends.len() == moments.len() && moments.len() > 1 {
            let (verb, pairs) = if cuts.is_empty() { ("mended", mends) } else { ("cut", cuts) };
            return format!("links {verb}: {}", shortened(&pairs));
        }
        // What a frame brought says when it was sent, too.
        moments.last().map_or_else(String::new, |moment| sentence(record, names, moment, key))
    }
}

fn shortened(pairs: &[String]) -> String {
    let shown = pairs.len().min(8);
    let more = pairs.len() - shown;
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", pairs[..shown].join(" "))
}

/// The cone of a violation.
pub fn cone(record: &Record, violation: &Violation) -> Cone {
    let end = record.moments.len();
    let mut reached = starts(record, violation);
    let all = match violation.key {
        Some(key) => reach(record, key, &mut reached, end),
        None => recent(record, &reached, violation),
    };
    let since_us = all.first().map_or(violation.at_us, |id| record.moments[*id as usize].at_us);
    let around = around(record, &reached, since_us);
    let mut steps: Vec<Step> =
        all.iter().filter_map(|id| step(record, violation.key, *id, violation)).collect();
    if let Some(key) = violation.key {
        add_last_answers(record, key, &all, &mut steps);
    }
    let before = steps.len();
    narrow(record, violation, &mut steps);
    let mut left_out = before - steps.len();
    let from_us = steps.first().map_or(since_us, |step| step.at_us);
    let mut beside = merged(record, &around, from_us);
    let too_many = beside.len().saturating_sub(limits::STORY_AROUND_MAX);
    left_out += too_many;
    steps.extend(beside.drain(too_many..));
    steps.extend(severed(record, &reached));
    steps.extend(silences(record, violation, &steps));
    steps.extend(found(record));
    // In the order of the record; what no moment says, by its time, and before what was found then.
    steps.sort_by_key(|step| (step.at_us, step.moments.last().copied().unwrap_or(0)));
    steps.dedup_by(|a, b| a.remark.is_none() && a.moments == b.moments);
    let all: BTreeSet<MomentId> = all.into_iter().chain(around).collect();
    Cone { all: all.into_iter().collect(), steps, left_out }
}

/// By region: how many of the first moments count. All, for those that the violation names.
fn starts(record: &Record, violation: &Violation) -> Vec<usize> {
    let text = violation.story.join(" ");
    let named = |site: &usize| {
        violation.regions.contains(&(*site as u16 + 1))
            || text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == numbered(*site))
    };
    let any = (0..record.sites).any(|site| named(&site));
    let end = record.moments.len();
    (0..record.sites).map(|site| if !any || named(&site) { end } else { 0 }).collect()
}

/// Follows frames back from what is reached until nothing more is.
fn reach(record: &Record, key: Key, reached: &mut [usize], end: usize) -> Vec<MomentId> {
    let mut moments: Vec<Vec<MomentId>> = vec![Vec::new(); record.sites];
    for (moment, id) in record.moments[..end].iter().zip(0..) {
        if let Some(site) = moment.site
            && (moment.concerns(key) || brings(record, id, key))
        {
            moments[site].push(id);
        }
    }
    let mut done = vec![0usize; record.sites];
    loop {
        let mut grew = false;
        for site in 0..record.sites {
            while let Some(id) = moments[site].get(done[site]).filter(|id| (**id as usize) < reached[site]) {
                done[site] += 1;
                let What::Arrived(arrived) = &record.moments[*id as usize].what else { continue };
                let Some(sent) = arrived.sent.map(|sent| sent as usize) else { continue };
                if reached[arrived.from] <= sent {
                    reached[arrived.from] = sent + 1;
                    grew = true;
                }
            }
        }
        if !grew {
            break;
        }
    }
    let taken = moments.iter().zip(&done).flat_map(|(ids, done)| ids[..*done].iter().copied());
    let ordered: BTreeSet<MomentId> = taken.collect();
    ordered.into_iter().collect()
}

/// Whether it is a frame about the key that was refused, or brought nothing new.
fn brings(record: &Record, id: MomentId, key: Key) -> bool {
    let What::Arrived(arrived) = &record.moments[id as usize].what else { return false };
    let sent = arrived.sent.and_then(|sent| record.moments.get(sent as usize));
    sent.is_some_and(|sent| sent.concerns(key))
}

/// Without a key: what befell the regions concerned shortly before, or last if that is long ago. Where the rule is about
/// what a region holds, what changed that, too; else their sessions.
fn recent(record: &Record, reached: &[usize], violation: &Violation) -> Vec<MomentId> {
    let holds = matches!(violation.invariant, "INV-1" | "INV-12" | "INV-13");
    let matters = |what: &What| match what {
        What::Answered(answered) => holds && !answered.wrote.is_empty(),
        What::Arrived(arrived) => holds && !arrived.news.is_empty() || arrived.refused.is_some(),
        What::Connected { .. } | What::Broke { .. } => !holds,
        what => is_life(what),
    };
    let ids = record.moments.iter().zip(0..).filter(|(moment, _)| {
        let peer = match moment.what {
            What::Connected { peer } | What::Broke { peer } => reached[peer] > 0,
            _ => true,
        };
        moment.at_us > 0 && peer && moment.site.is_some_and(|site| reached[site] > 0) && matters(&moment.what)
    });
    let mut ids: Vec<MomentId> = ids.map(|(_, id)| id).collect();
    let from_us = violation.at_us.saturating_sub(limits::STORY_RECENT_US);
    let early = ids.partition_point(|id| record.moments[*id as usize].at_us < from_us);
    ids.drain(..early.min(ids.len().saturating_sub(limits::STORY_STEPS_FEW)));
    ids
}

const fn is_life(what: &What) -> bool {
    matches!(
        what,
        What::Crashed(_)
            | What::Started { .. }
            | What::Paused
            | What::Resumed
            | What::BackedUp
            | What::Upgraded { .. }
            | What::Refused
            | What::Retired
            | What::Joined
            | What::Member { .. }
            | What::Clock { .. }
            | What::Disk { .. }
    )
}

/// What was in the way of the regions reached: of links only those between them.
fn around(record: &Record, reached: &[usize], since_us: u64) -> Vec<MomentId> {
    let mut open: Vec<(usize, usize, MomentId)> = Vec::new();
    let mut found = Vec::new();
    for (moment, id) in record.moments.iter().zip(0..) {
        let Some(site) = moment.site else {
            if matches!(moment.what, What::Healed { .. }) {
                found.push(id);
            }
            continue;
        };
        let within = reached[site] > 0 && moment.at_us >= since_us;
        match moment.what {
            What::Cut { to } if reached[site] > 0 && reached[to] > 0 => {
                if within {
                    found.push(id);
                } else {
                    open.push((site, to, id));
                }
            }
            What::Mended { to } if reached[site] > 0 && reached[to] > 0 => {
                if within {
                    found.push(id);
                } else if let Some(place) = open.iter().position(|(a, b, _)| (*a, *b) == (site, to)) {
                    open.remove(place);
                }
            }
            ref what if is_life(what) && within && moment.at_us > 0 => found.push(id),
            _ => {}
        }
    }
    // Cut before the cone begins, and still so.
    let mut all: Vec<MomentId> = open.into_iter().map(|(_, _, id)| id).chain(found).collect();
    all.sort_unstable();
    all
}

/// A moment of the cone, if it is worth reading.
fn step(record: &Record, key: Option<Key>, id: MomentId, violation: &Violation) -> Option<Step> {
    let moment = &record.moments[id as usize];
    let moments = match &moment.what {
        What::Answered(answered) => {
            let exposes = moment.at_us == violation.at_us;
            let unheard = answered.heard_us.is_none() && answered.answer != "UNAVAILABLE";
            let changes = !answered.wrote.is_empty() || !answered.unseen.is_empty();
            (changes || exposes || unheard && answered.ask != "GET").then(|| vec![id])
        }
        What::Sent(sent) => {
            let silent = sent.fate != Fate::Arrives || sent.arrivals.is_empty();
            (silent && sent.wanted).then(|| vec![id])
        }
        What::Arrived(arrived) => {
            let news = arrived.news.iter().any(|carry| key.is_none_or(|key| carry.key == key));
            (news || arrived.refused.is_some()).then(|| arrived.sent.into_iter().chain([id]).collect())
        }
        What::Connected { .. } | What::Broke { .. } => Some(vec![id]),
        _ => None,
    }?;
    Some(Step { at_us: moment.at_us, site: moment.site, moments, around: false, remark: None })
}

/// What each region answered last, whatever it was: it shows what the region thought.
fn add_last_answers(record: &Record, key: Key, all: &[MomentId], steps: &mut Vec<Step>) {
    for site in 0..record.sites {
        let last = all.iter().rev().find(|id| {
            let moment = &record.moments[**id as usize];
            moment.site == Some(site) && matches!(&moment.what, What::Answered(a) if a.key == key)
        });
        if let Some(id) = last
            && !steps.iter().any(|step| step.moments.contains(id))
        {
            let at_us = record.moments[*id as usize].at_us;
            steps.push(Step { at_us, site: Some(site), moments: vec![*id], around: false, remark: None });
        }
    }
    steps.sort_by_key(|step| step.moments.last().copied());
}

/// Keeps what is about the claims that the story names and what came after them; of too many the last.
fn narrow(record: &Record, violation: &Violation, steps: &mut Vec<Step>) {
    if steps.len() <= limits::STORY_STEPS_FEW {
        return;
    }
    let claims = Names::claims_in(&violation.story.join(" "));
    let names_one = |step: &Step| {
        step.moments.iter().any(|id| match &record.moments[*id as usize].what {
            What::Answered(answered) => answered.claim.is_some_and(|claim| claims.contains(&claim)),
            _ => false,
        })
    };
    match steps.iter().position(names_one) {
        Some(first) => drop(steps.drain(..first)),
        None => drop(steps.drain(..steps.len().saturating_sub(2 * limits::STORY_STEPS_FEW))),
    }
    let too_many = steps.len().saturating_sub(limits::STORY_STEPS_MAX);
    // The first steps say how it began.
    let begins = limits::STORY_STEPS_FEW / 2;
    if too_many > 0 {
        steps.drain(begins..begins + too_many);
    }
}

/// Faults as steps: what happens to several links at once is one.
fn merged(record: &Record, around: &[MomentId], from_us: u64) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for id in around {
        let moment = &record.moments[*id as usize];
        let is_cut = |what: &What| matches!(what, What::Cut { .. });
        let is_link = |what: &What| matches!(what, What::Cut { .. } | What::Mended { .. });
        if moment.at_us < from_us && !is_cut(&moment.what) {
            continue;
        }
        let same = steps.last_mut().filter(|last| {
            let other = &record.moments[last.moments[0] as usize];
            last.at_us == moment.at_us
                && is_link(&moment.what)
                && is_link(&other.what)
                && is_cut(&moment.what) == is_cut(&other.what)
        });
        match same {
            Some(step) => {
                step.moments.push(*id);
                step.site = None;
            }
            None => {
                let (at_us, site, moments) = (moment.at_us, moment.site, vec![*id]);
                steps.push(Step { at_us, site, moments, around: true, remark: None });
            }
        }
    }
    steps
}

/// Two regions of the story that never see each other.
fn severed(record: &Record, reached: &[usize]) -> Option<Step> {
    let (a, b) = record.severed.filter(|(a, b)| reached[*a] > 0 && reached[*b] > 0)?;
    let remark = format!(
        "{} and {} can never reach each other in this run: what one knows comes to the other by way of others",
        record.region(a),
        record.region(b)
    );
    Some(Step { at_us: 0, site: None, moments: Vec::new(), around: true, remark: Some(remark) })
}

/// After the healing: what a region took in that lacks something, and that none of it brought that.
fn silences(record: &Record, violation: &Violation, steps: &[Step]) -> Vec<Step> {
    let is_heal = |moment: &super::moment::Moment| matches!(moment.what, What::Healed { .. });
    if !record.moments.iter().any(is_heal) {
        return Vec::new();
    }
    // What some region holds: what all lack may have died.
    let notes = |view: &View| view.parts().map(|part| PartNote::of(&part)).collect::<Vec<_>>();
    let all: Vec<PartNote> = record.holdings.iter().flatten().flat_map(&notes).collect();
    let lacks = |view: &View| {
        let held = notes(view);
        all.iter().any(|part| !held.contains(part))
    };
    let lacking = record
        .holdings
        .iter()
        .enumerate()
        .filter(|(site, view)| !record.outside.contains(site) && view.as_ref().is_some_and(lacks));
    let step = |(site, _): (usize, &Option<View>)| {
        // The last that anybody wrote of it.
        let since = steps.iter().filter(|step| !step.around).filter_map(|step| step.moments.last());
        let since = since.copied().filter(|id| is_write(record, *id)).max()?;
        let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
        for moment in &record.moments[since as usize..] {
            let What::Arrived(arrived) = &moment.what else { continue };
            let sent = arrived.sent.and_then(|sent| record.moments.get(sent as usize));
            if moment.site == Some(site)
                && let Some(What::Sent(sent)) = sent.map(|sent| &sent.what)
            {
                *kinds.entry(sent.kind).or_default() += 1;
            }
        }
        let frames: u32 = kinds.values().sum();
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let remark = format!(
            "{} took in {frames} frames since the key was last written ({}); none brought what it lacks",
            record.region(site),
            kinds.join(", ")
        );
        let (at_us, site) = (violation.at_us, Some(site));
        Some(Step { at_us, site, moments: Vec::new(), around: false, remark: Some(remark) })
    };
    lacking.filter_map(step).collect()
}

fn is_write(record: &Record, id: MomentId) -> bool {
    matches!(&record.moments[id as usize].what, What::Answered(answered) if !answered.wrote.is_empty())
}

/// The end.
fn found(record: &Record) -> Option<Step> {
    let place = record.moments.iter().rposition(|moment| moment.what == What::Violated)?;
    let (moment, id) = (&record.moments[place], place as MomentId);
    Some(Step { at_us: moment.at_us, site: moment.site, moments: vec![id], around: false, remark: None })
}
