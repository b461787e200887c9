//! What a run's record comes to in numbers: distributions, links, kinds of frame, what was refused.
//!
//! Must never: count what the record does not have; the report says how much of it is shown.

use serde::Serialize;
use std::collections::BTreeMap;

use super::moment::{Fate, Sent, What};
use super::record::Record;

/// A distribution, in short.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Distribution {
    /// What was measured.
    pub name: &'static str,
    /// What that means.
    pub meaning: &'static str,
    /// Of what the numbers are.
    pub unit: &'static str,
    /// How many there are.
    pub count: usize,
    /// Half of them are no greater.
    pub p50: u64,
    /// Nine in ten are no greater.
    pub p90: u64,
    /// Of a hundred, 99 are no greater.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
}

impl Distribution {
    fn of(name: &'static str, meaning: &'static str, mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |per_cent: usize| {
            // The smallest value that so many per cent do not exceed.
            let rank = (values.len() * per_cent).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or(0)
        };
        let (p50, p90, p99, max) = (at(50), at(90), at(99), at(100));
        Self { name, meaning, unit: "us", count: values.len(), p50, p90, p99, max }
    }
}

/// What one directed link carried: from, to, frames, bytes, frames lost, frames that ran into a cut.
pub type LinkRow = (usize, usize, u64, u64, u64, u64);

/// What frames of one kind came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct KindRow {
    /// How many.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// All numbers of a record.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// See each.
    pub distributions: Vec<Distribution>,
    /// See [`LinkRow`]; regions count from 1.
    pub links: Vec<LinkRow>,
    /// By kind of frame.
    pub frames: BTreeMap<&'static str, KindRow>,
    /// Answers by status, heard or not.
    pub answers: BTreeMap<&'static str, u64>,
    /// Answers that their service heard.
    pub answers_heard: u64,
    /// UNAVAILABLE and STALE by reason.
    pub refused: BTreeMap<String, u64>,
    /// Operations that were granted twice at a time.
    pub doubles: usize,
    /// Those of them that nobody knew of to the end.
    pub doubles_unnoticed: usize,
}

/// Measures a record.
pub fn measure(record: &Record) -> Measured {
    let mut measured = Measured::default();
    let mut links: BTreeMap<(usize, usize), LinkRow> = BTreeMap::new();
    let (mut waits, mut trips) = (Vec::new(), Vec::new());
    for moment in &record.moments {
        match &moment.what {
            What::Sent(sent) => {
                count_frame(&mut measured, &mut links, moment.site.unwrap_or(0), sent);
                let first = sent.arrivals.first().and_then(|id| record.moments.get(*id as usize));
                trips.extend(first.map(|arrived| arrived.at_us - moment.at_us));
            }
            What::Answered(answered) => {
                *measured.answers.entry(answered.answer).or_default() += 1;
                measured.answers_heard += u64::from(answered.heard_us.is_some());
                waits.extend(answered.told_us.map(|told_us| told_us - moment.at_us));
                if let Some(reason) = &answered.reason {
                    *measured.refused.entry(reason.clone()).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    measured.links = links.into_values().collect();
    let noticed = |double: &super::record::Double| Some(double.noticed?.0.saturating_sub(double.began_us));
    let windows: Vec<u64> = record.doubles.iter().filter_map(noticed).collect();
    measured.doubles = record.doubles.len();
    measured.doubles_unnoticed = record.doubles.len() - windows.len();
    measured.distributions = vec![
        Distribution::of(
            "duplicate_window",
            "two regions run the same operation: from the second grant until a region knows of both",
            windows,
        ),
        Distribution::of(
            "staleness",
            "from a claim, release or completion to when each other region hears of it",
            record.staleness_us.clone(),
        ),
        Distribution::of("durability_wait", "from a decision to when its answer leaves", waits),
        Distribution::of("frame_trip", "a frame's way from region to region, queues included", trips),
    ];
    measured
}

fn count_frame(
    measured: &mut Measured,
    links: &mut BTreeMap<(usize, usize), LinkRow>,
    from: usize,
    sent: &Sent,
) {
    let link = links.entry((from, sent.to)).or_insert((from + 1, sent.to + 1, 0, 0, 0, 0));
    link.2 += 1;
    link.3 += u64::from(sent.bytes);
    link.4 += u64::from(sent.fate == Fate::Lost);
    link.5 += u64::from(sent.fate == Fate::Cut);
    let kind = measured.frames.entry(sent.kind).or_default();
    kind.frames += 1;
    kind.bytes += u64::from(sent.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occur() {
        let of = |values: Vec<u64>| Distribution::of("x", "y", values);
        let hundred = of((1..=100).rev().collect());
        assert_eq!((hundred.p50, hundred.p90, hundred.p99, hundred.max), (50, 90, 99, 100));
        let one = of(vec![7]);
        assert_eq!((one.count, one.p50, one.p99, one.max), (1, 7, 7, 7));
        assert_eq!(of(Vec::new()).max, 0);
    }
}
