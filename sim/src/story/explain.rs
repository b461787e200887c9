//! A violation as text: what must hold, what happened, and what led to it, in order.
//!
//! Must never: print more than a person reads; what is left out is counted.

use std::fmt::Write as _;

use super::document::Told;
use super::measure::measure;
use super::names::at;
use super::rules::rule_of;
use crate::oracle::violation::Violation;
use crate::report::{RunReport, Verdict};

/// Width of the lines.
const WIDTH: usize = 110;

/// What is to be said about a run that was recorded.
pub fn explain(report: &RunReport) -> String {
    let mut text = String::new();
    let seed = report.seed;
    let planted = report.canary.map_or_else(String::new, |bug| format!(", with the bug {bug} planted"));
    match &report.verdict {
        Verdict::Pass => pass(&mut text, report),
        Verdict::Safety(violation) | Verdict::Liveness(violation) => {
            let _ = writeln!(
                text,
                "seed {seed}{planted}: {} broken at {}",
                violation.invariant,
                at(violation.at_us)
            );
            broken(&mut text, report, violation);
        }
        Verdict::Panic(message) => {
            let _ = writeln!(text, "seed {seed}{planted}: panicked: {message}");
            last_moments(&mut text, report);
        }
    }
    let _ = writeln!(text, "\nrun it again: {}", report.replay_command());
    text
}

fn pass(text: &mut String, report: &RunReport) {
    let _ = writeln!(
        text,
        "seed {} passed: every rule held for {:.3} s of virtual time, so there is nothing to explain",
        report.seed,
        report.virtual_us as f64 / 1e6
    );
    let Some(record) = report.story.as_deref() else { return };
    let measured = measure(record);
    let _ = writeln!(
        text,
        "  {} answers heard; {} operations granted twice at a time, {} of them unnoticed to the end",
        measured.answers_heard, measured.doubles, measured.doubles_unnoticed
    );
    for row in measured.distributions.iter().filter(|row| row.count > 0) {
        let ms = |us: u64| us as f64 / 1000.0;
        let _ = writeln!(
            text,
            "  {:<17} p50 {:>9.3} ms  p99 {:>9.3} ms  max {:>9.3} ms  of {} ({})",
            row.name,
            ms(row.p50),
            ms(row.p99),
            ms(row.max),
            row.count,
            row.meaning
        );
    }
}

fn broken(text: &mut String, report: &RunReport, violation: &Violation) {
    let rule = rule_of(violation.invariant);
    let _ = writeln!(text, "\nWhat must hold: {}", rule.title);
    wrapped(text, "  ", rule.meaning);
    wrapped(text, "  ", &format!("{}: \"{}\"", violation.invariant, violation.clause));
    let Some(told) = Told::of(report, None) else { return };
    let key = violation.key.and_then(|key| report.keys.get(key));
    let about = key.map_or_else(String::new, |key| format!(", about the key {key}"));
    let _ = writeln!(text, "\nWhat happened{about}");
    for line in &violation.story {
        wrapped(text, "  ", &told.humanise(line));
    }
    let (expected, held) = told.holdings();
    if let Some(expected) = expected {
        let _ = writeln!(text, "\nWhat is known of the key at that time");
        let _ = writeln!(text, "  by all that was accepted anywhere: {}", expected.holder);
        for row in held {
            let _ = writeln!(text, "  {}: {}", told.names.region(row.region - 1), row.holder);
            wrapped(text, "      ", &row.parts.join("; "));
        }
    }
    let _ = writeln!(text, "\nWhat led to it");
    if told.cone.left_out > 0 {
        let left_out = told.cone.left_out;
        let _ = writeln!(text, "  ({left_out} steps about earlier claims, or of too many, are left out)");
    }
    for step in told.steps() {
        let mark = if step.around { '~' } else { ' ' };
        wrapped(text, &format!("{mark} {:>12}  ", at(step.at_us)), &step.text);
    }
    let _ = writeln!(
        text,
        "  (~ stood in the way; the rest is the causal cone: one before the other, or by a frame)"
    );
}

/// The last that was recorded before a panic.
fn last_moments(text: &mut String, report: &RunReport) {
    let (Some(told), Some(record)) = (Told::of(report, None), report.story.as_deref()) else { return };
    let _ = writeln!(text, "\nThe last that happened before");
    let from = record.moments.len().saturating_sub(20);
    for moment in &record.moments[from..] {
        let words = super::words::sentence(record, &told.names, moment, None);
        wrapped(text, &format!("  {:>12}  ", at(moment.at_us)), &words);
    }
}

/// Writes `words` in lines; the first begins with `lead`, the others as far to the right.
pub(super) fn wrapped(text: &mut String, lead: &str, words: &str) {
    let indent = " ".repeat(lead.chars().count());
    let mut line = lead.to_owned();
    let mut begun = false;
    for word in words.split_whitespace() {
        if begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            line.clone_from(&indent);
            begun = false;
        }
        if begun {
            line.push(' ');
        }
        line.push_str(word);
        begun = true;
    }
    if begun {
        let _ = writeln!(text, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sentences_wrap_below_their_beginning() {
        let mut text = String::new();
        wrapped(&mut text, "  1.0 s  ", &"word ".repeat(40));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 2 && lines.iter().all(|line| line.len() <= WIDTH), "{text}");
        assert!(lines[0].starts_with("  1.0 s  word") && lines[1].starts_with("         word"), "{text}");
        let mut nothing = String::new();
        wrapped(&mut nothing, "  ", "");
        assert_eq!(nothing, "");
    }
}
