//! Where two runs part: the first moment that is not the same, with what came before it and what follows.
//!
//! Meant for one seed with and without a planted bug, or before and after a change: everything up to there was the same,
//! so the cause is there or just before.
//!
//! Must never: compare anything but moments; two runs with the same moments have the same story.

use std::fmt::Write as _;

use super::document::Told;
use super::explain::wrapped;
use super::moment::What;
use super::names::at;
use super::record::Record;
use super::words::sentence;
use crate::report::RunReport;

/// Moments shown before the parting, and of each run after it.
const CONTEXT: usize = 8;

/// What two recorded runs have in common and where they part; `None` if they are alike.
pub fn diff(left: &RunReport, right: &RunReport) -> Option<String> {
    let (a, b) = (left.story.as_deref()?, right.story.as_deref()?);
    let place = parting(a, b)?;
    let (told_a, told_b) = (Told::of(left, None)?, Told::of(right, None)?);
    let mut text = String::new();
    let when = a.moments.get(place).or_else(|| b.moments.get(place)).map_or(0, |moment| moment.at_us);
    let _ = writeln!(text, "the runs are alike for {place} moments and part at {}", at(when));
    let _ = writeln!(text, "\nboth");
    show(&mut text, a, &told_a, place.saturating_sub(CONTEXT)..place);
    for (name, record, told) in [(title(left), a, &told_a), (title(right), b, &told_b)] {
        let _ = writeln!(text, "\nthen {name}");
        show(&mut text, record, told, place..place + CONTEXT);
    }
    let _ = writeln!(text, "\nin the end");
    for report in [left, right] {
        let verdict = report.verdict.violation();
        let what = verdict.map_or_else(|| report.verdict.word(), |violation| violation.invariant);
        let _ = writeln!(text, "  {}: {what}", title(report));
    }
    Some(text)
}

/// The first moment that differs.
fn parting(a: &Record, b: &Record) -> Option<usize> {
    let same = |(a, b): &(&_, &_)| alike(a, b);
    let common = a.moments.iter().zip(&b.moments).take_while(same).count();
    (common < a.moments.len().max(b.moments.len())).then_some(common)
}

/// Moments that were the same when they happened: what became of a frame or an answer is a matter of later ones.
fn alike(a: &super::moment::Moment, b: &super::moment::Moment) -> bool {
    if (a.at_us, a.site) != (b.at_us, b.site) {
        return false;
    }
    match (&a.what, &b.what) {
        (What::Sent(a), What::Sent(b)) => {
            (a.to, a.kind, a.bytes, a.fate, &a.carries) == (b.to, b.kind, b.bytes, b.fate, &b.carries)
        }
        (What::Answered(a), What::Answered(b)) => {
            (a.job, a.key, a.ask, a.claim, a.answer, &a.reason, &a.wrote)
                == (b.job, b.key, b.ask, b.claim, b.answer, &b.reason, &b.wrote)
        }
        (a, b) => a == b,
    }
}

fn show(text: &mut String, record: &Record, told: &Told<'_>, range: std::ops::Range<usize>) {
    let range = range.start.min(record.moments.len())..range.end.min(record.moments.len());
    if range.is_empty() {
        text.push_str("  nothing more\n");
    }
    for moment in &record.moments[range] {
        let words = sentence(record, &told.names, moment, None);
        wrapped(text, &format!("  {:>12}  ", at(moment.at_us)), &words);
    }
}

fn title(report: &RunReport) -> String {
    let planted = report.canary.map_or_else(String::new, |bug| format!(" with {bug}"));
    let file = report.file.as_ref().map_or_else(String::new, |file| format!("{file} "));
    format!("{file}seed {}{planted}", report.seed)
}
