//! What of a report lasts: cuts and down times as spans, and everything counted in slots of time.
//!
//! Links are cut many at once and, where they flap, the same ones again and again: so each set of links stands there once.
//!
//! Must never: grow with the length of a run.

use serde::Serialize;
use std::collections::BTreeMap;

use super::moment::{Degree, Fate, What};
use super::record::Record;
use crate::limits;

/// Most slots of time.
const SLOTS_MAX: usize = 600;

/// From whom to whom.
type Link = (usize, usize);
/// Since when, and until when if it ever ended.
type Span = (u64, Option<u64>);

/// When which directed links passed nothing.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    /// Since when, until when (`None`: to the end), and which set.
    pub spans: Vec<(u64, Option<u64>, usize)>,
    /// Links by from and to, counted from 1.
    pub sets: Vec<Vec<(usize, usize)>>,
    /// Cuts of a link that had no room.
    pub left_out: usize,
}

impl Cuts {
    /// All of a record; of too many those nearest to a time, or the longest.
    pub fn of(record: &Record, near_us: Option<u64>) -> Self {
        let mut by_span: BTreeMap<Span, Vec<Link>> = BTreeMap::new();
        for (from, to, since, until) in single_cuts(record) {
            by_span.entry((since, until)).or_default().push((from, to));
        }
        let mut all: Vec<_> = by_span.into_iter().collect();
        all.sort_by_key(|((since, until), _)| match near_us {
            Some(near_us) => since.abs_diff(near_us),
            None => u64::MAX - (until.unwrap_or(u64::MAX) - since),
        });
        let mut cuts = Self::default();
        let mut known: BTreeMap<Vec<Link>, usize> = BTreeMap::new();
        let mut room = limits::REPORT_CUTS_MAX;
        for ((since, until), mut links) in all {
            links.sort_unstable();
            let price = if known.contains_key(&links) { 1 } else { links.len() };
            if price > room {
                cuts.left_out += links.len();
                continue;
            }
            room -= price;
            let next = known.len();
            let set = *known.entry(links).or_insert(next);
            cuts.spans.push((since, until, set));
        }
        cuts.sets = vec![Vec::new(); known.len()];
        known.into_iter().for_each(|(links, set)| cuts.sets[set] = links);
        cuts.spans.sort_unstable();
        cuts
    }
}

/// From, to, since, until: link by link.
fn single_cuts(record: &Record) -> Vec<(usize, usize, u64, Option<u64>)> {
    let mut open: BTreeMap<(usize, usize), (u32, u64)> = BTreeMap::new();
    let severed = record.severed.into_iter().flat_map(|(a, b)| [(a, b), (b, a)]);
    let mut spans: Vec<_> = severed.map(|(a, b)| (a + 1, b + 1, 0, None)).collect();
    for moment in &record.moments {
        let Some(from) = moment.site else {
            if matches!(moment.what, What::Healed { .. }) {
                let healed = std::mem::take(&mut open).into_iter();
                spans.extend(healed.map(|((a, b), (_, since))| (a + 1, b + 1, since, Some(moment.at_us))));
            }
            continue;
        };
        match moment.what {
            What::Cut { to } => open.entry((from, to)).or_insert((0, moment.at_us)).0 += 1,
            What::Mended { to } => {
                let Some(cut) = open.get_mut(&(from, to)) else { continue };
                cut.0 -= 1;
                if cut.0 == 0 {
                    spans.push((from + 1, to + 1, cut.1, Some(moment.at_us)));
                    open.remove(&(from, to));
                }
            }
            _ => {}
        }
    }
    spans.extend(open.into_iter().map(|((a, b), (_, since))| (a + 1, b + 1, since, None)));
    spans
}

/// When which regions were down, and why.
pub fn downs(record: &Record) -> Vec<(usize, u64, Option<u64>, &'static str)> {
    let mut since: Vec<Option<(u64, &'static str)>> = vec![None; record.sites];
    since.iter_mut().skip(record.regions).for_each(|later| *later = Some((0, "not there yet")));
    let mut spans = Vec::new();
    for moment in &record.moments {
        let Some(site) = moment.site else { continue };
        match moment.what {
            What::Paused => {
                since[site].get_or_insert((moment.at_us, STILL));
            }
            What::Resumed => {
                if let Some((from_us, why)) = since[site].take_if(|(_, why)| *why == STILL) {
                    spans.push((site + 1, from_us, Some(moment.at_us), why));
                }
            }
            What::Crashed(degree) => {
                if let Some((from_us, why)) = since[site].take_if(|(_, why)| *why == STILL) {
                    spans.push((site + 1, from_us, Some(moment.at_us), why));
                }
                let word = match degree {
                    Degree::Process => "crashed",
                    Degree::Power => "without power",
                    Degree::Disk => "disk lost",
                    Degree::Backup => "being restored",
                };
                since[site].get_or_insert((moment.at_us, word));
            }
            What::Retired => since[site] = Some((moment.at_us, "retired")),
            What::Started { .. } => {
                if let Some((from_us, why)) = since[site].take() {
                    spans.push((site + 1, from_us, Some(moment.at_us), why));
                }
            }
            _ => {}
        }
    }
    let last = since.into_iter().zip(1..).filter_map(|(since, region)| {
        let (from_us, why) = since?;
        Some((region, from_us, None, why))
    });
    spans.extend(last);
    spans
}

/// Why a region is not there that lives and does nothing.
const STILL: &str = "stands still";

/// How much happened when: by region and slot of time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Slots {
    /// Length of a slot, microseconds.
    pub width_us: u64,
    /// Frames sent.
    pub frames: Vec<Vec<u32>>,
    /// Frames that were lost or ran into a cut.
    pub lost: Vec<Vec<u32>>,
    /// Requests answered.
    pub answers: Vec<Vec<u32>>,
}

impl Slots {
    /// Counts all of a record.
    pub fn of(record: &Record) -> Self {
        let end_us = record.moments.last().map_or(0, |last| last.at_us) + 1;
        let count = (limits::REPORT_SLOTS_MAX / record.sites.max(1)).clamp(1, SLOTS_MAX);
        let width_us = end_us.div_ceil(count as u64).max(1);
        let empty = vec![vec![0u32; end_us.div_ceil(width_us) as usize]; record.sites];
        let mut slots = Self { width_us, frames: empty.clone(), lost: empty.clone(), answers: empty };
        for moment in &record.moments {
            let (Some(site), slot) = (moment.site, (moment.at_us / width_us) as usize) else { continue };
            match &moment.what {
                What::Sent(sent) => {
                    slots.frames[site][slot] += 1;
                    slots.lost[site][slot] += u32::from(sent.fate != Fate::Arrives);
                }
                What::Answered(_) => slots.answers[site][slot] += 1,
                _ => {}
            }
        }
        slots
    }
}
