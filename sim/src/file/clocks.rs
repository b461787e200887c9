//! `[[clock]]`: how far a region's wall clock is off when the run begins, and how fast it drifts.
//!
//! Both have a sign, `"-20ms"`, `"+150ppm"`, and may be ranges, `"-50ppm..+50ppm"`.
//!
//! Must never: leave a clock to a region that is not there.

use std::ops::Range;

use toml::Spanned;

use super::checker::{Checker, shown, span_or};
use super::ranged::Ranged;
use super::raw::{Leaf, RawClock};
use super::units::Unit;
use crate::limits;
use crate::scenario::OwnClock;

/// Added to what has a sign, so that ranges of it are ranges as all others.
const ZERO: u64 = 1 << 40;

/// One clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockPlan {
    region: usize,
    offset_ms: Option<Ranged>,
    drift_ppm: Option<Ranged>,
}

impl ClockPlan {
    /// The clock of a seed.
    pub(super) fn draw(&self, seed: u64) -> OwnClock {
        let signed = |range: Ranged| range.draw(seed) as i64 - ZERO as i64;
        let (offset_ms, drift_ppm) = (self.offset_ms.map(signed), self.drift_ppm.map_or(0, signed));
        OwnClock { region: self.region, offset_ms, drift_ppm }
    }
}

/// Every `[[clock]]`.
pub(super) fn read(
    checker: &mut Checker<'_>,
    raw: &[Spanned<RawClock>],
    regions: &[String],
    max_drift_ms: u64,
) -> Vec<ClockPlan> {
    let mut clocks: Vec<ClockPlan> = Vec::new();
    for (number, clock) in raw.iter().enumerate() {
        checker.place = format!("clock/{number}");
        let (table, span) = (clock.get_ref(), clock.span());
        let Some(region) = region(checker, &table.region, &span, regions) else { continue };
        if clocks.iter().any(|clock| clock.region == region) {
            let text = "region: its clock stands in two [[clock]]; make one of them";
            checker.error(&span_or(&table.region, &span), text);
        }
        if table.offset.is_none() && table.drift.is_none() {
            checker.error(&span, "the clock is as all others; say offset = \"+150ms\" or drift = \"+50ppm\"");
        }
        let most_ms = (limits::SKEW_TIMES_MAX * max_drift_ms) as i64;
        let ms = |text: &str| Some((Unit::Time.parse(text)? / 1_000) as i64);
        let words = ("offset", "+150ms", "ms");
        let offset_ms = signed(checker, &table.offset, words, most_ms, ms);
        let ppm = |text: &str| text.trim().strip_suffix("ppm")?.trim().parse::<u32>().ok().map(i64::from);
        let most_ppm = limits::DRIFT_PPM_MAX as i64;
        let drift_ppm = signed(checker, &table.drift, ("drift", "+50ppm", "ppm"), most_ppm, ppm);
        clocks.push(ClockPlan { region, offset_ms, drift_ppm });
    }
    clocks
}

fn region(checker: &mut Checker<'_>, leaf: &Leaf, span: &Range<usize>, regions: &[String]) -> Option<usize> {
    let (name, at) = checker.required_text(leaf, "region", span, "region = \"eu\"")?;
    let found = regions.iter().position(|region| region == name);
    if found.is_none() {
        let all = regions.join(", ");
        checker.error(&at, format!("region: no region is called {name:?}; there are: {all}"));
    }
    found
}

/// A number with a sign, or a range of such.
fn signed(
    checker: &mut Checker<'_>,
    leaf: &Leaf,
    (key, example, unit): (&str, &str, &str),
    most: i64,
    parse: impl Fn(&str) -> Option<i64>,
) -> Option<Ranged> {
    let leaf = leaf.as_ref()?;
    let one = |text: &str| match text.trim().strip_prefix('-') {
        Some(amount) => parse(amount).map(|amount| -amount),
        None => parse(text.trim().trim_start_matches('+')),
    };
    let bounds = leaf.get_ref().as_str().and_then(|text| match text.split_once("..") {
        Some((low, high)) => Some((one(low)?, one(high)?)),
        None => one(text).map(|value| (value, value)),
    });
    let Some((low, high)) = bounds else {
        let found = shown(leaf.get_ref());
        let text = format!(
            "{key}: {found} is none; write it with its sign and unit, {key} = \"{example}\", or a range, \"-{0}..{example}\"",
            &example[1..]
        );
        checker.error(&leaf.span(), text);
        return None;
    };
    if low > high || low < -most || high > most {
        let text =
            format!("{key}: choose from -{most}{unit} to +{most}{unit}, the lower end of a range first");
        checker.error(&leaf.span(), text);
        return None;
    }
    let [low, high] = [low, high].map(|value| ZERO.saturating_add_signed(value));
    let place = format!("{}/{key}", checker.place);
    Some(if low == high { Ranged::fixed(low) } else { Ranged::between(low, high, &place) })
}
