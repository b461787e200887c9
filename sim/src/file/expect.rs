//! `[expect]`: limits that a run is held to when it has passed, and what was measured.
//!
//! Only what a run really measures stands here; what is not measured yet has no key rather than a number that means
//! nothing. `reached` and `never` are about moments ([`Goal`]): in a swarm `reached` asks that some seed comes there.

use std::collections::BTreeMap;

use serde::Serialize;

use super::advice;
use super::checker::Checker;
use super::raw::{Leaf, RawExpect};
use super::units::Unit;
use crate::goals::{Goal, Goals};
use crate::limits;
use crate::measure::Samples;
use crate::report::RunReport;

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    conflicts_max: Option<u64>,
    convergence_us_max: Option<u64>,
    stale_us_max: Option<u64>,
    window_us_max: Option<u64>,
    keys_apart_max: Option<u64>,
    refused_max: Option<u64>,
    bytes_max: Option<u64>,
    answers_min: BTreeMap<String, u64>,
    answers_max: BTreeMap<String, u64>,
    reached: Vec<Goal>,
    never: Vec<Goal>,
}

/// One expectation and what became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Outcome {
    /// As it stands in the file.
    pub name: String,
    /// Its limit, as people write it.
    pub limit: String,
    /// What was measured.
    pub measured: String,
    /// Whether it was kept.
    pub held: bool,
}

/// Statuses that a service can be answered.
const STATUSES: [&str; 17] = [
    "GRANTED",
    "REPLAY",
    "IN_PROGRESS",
    "MISMATCH",
    "UNKNOWN",
    "EXPIRED",
    "UNAVAILABLE",
    "COMPLETED",
    "CONTESTED",
    "SUPERSEDED",
    "STALE",
    "RENEWED",
    "RELEASED",
    "SETTLED",
    "HELD",
    "FREE",
    "FORGOTTEN",
];

pub(super) fn read(checker: &mut Checker<'_>, raw: &RawExpect) -> Expect {
    let mut fixed = |leaf, key, unit, most| checker.fixed(leaf, key, unit, 0..=most);
    let conflicts_max = fixed(&raw.conflicts_max, "conflicts_max", Unit::Count, u64::MAX);
    let convergence = &raw.convergence_max;
    let convergence_us_max = fixed(convergence, "convergence_max", Unit::Time, limits::FILE_US_MAX);
    let stale_us_max = fixed(&raw.stale_max, "stale_max", Unit::Time, limits::FILE_US_MAX);
    let window_us_max = fixed(&raw.window_max, "window_max", Unit::Time, limits::FILE_US_MAX);
    let keys_apart_max = fixed(&raw.keys_apart_max, "keys_apart_max", Unit::Count, u64::MAX);
    let refused_max = fixed(&raw.refused_max, "refused_max", Unit::Share, 1000);
    let bytes_max = fixed(&raw.bytes_max, "bytes_max", Unit::Size, u64::MAX);
    Expect {
        conflicts_max,
        convergence_us_max,
        stale_us_max,
        window_us_max,
        keys_apart_max,
        refused_max,
        bytes_max,
        answers_min: answers(checker, &raw.answers_min, "answers_min"),
        answers_max: answers(checker, &raw.answers_max, "answers_max"),
        reached: goals(checker, &raw.reached, "reached"),
        never: goals(checker, &raw.never, "never"),
    }
}

fn answers(checker: &mut Checker<'_>, leaf: &Leaf, key: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let Some(leaf) = leaf.as_ref() else { return counts };
    let example = format!("write {key} = {{ GRANTED = 10 }}");
    let Some(table) = leaf.get_ref().as_table() else {
        checker.error(&leaf.span(), format!("{key}: expected a table of statuses; {example}"));
        return counts;
    };
    for (status, count) in table {
        let count = count.as_integer().and_then(|count| u64::try_from(count).ok());
        match count {
            Some(count) if STATUSES.contains(&status.as_str()) => {
                counts.insert(status.clone(), count);
            }
            Some(_) => {
                let all = STATUSES.join(", ");
                let meant = advice::meant(status, STATUSES.into_iter());
                checker
                    .error(&leaf.span(), format!("{key}: {status:?} is no status{meant}; choose of {all}"));
            }
            None => checker.error(&leaf.span(), format!("{key}: {status} needs a whole number; {example}")),
        }
    }
    counts
}

fn goals(checker: &mut Checker<'_>, leaf: &Leaf, key: &str) -> Vec<Goal> {
    let Some((names, at)) = checker.texts(leaf, key) else { return Vec::new() };
    let mut goals = Vec::new();
    for name in names {
        match Goal::ALL.into_iter().find(|goal| goal.name() == name) {
            Some(goal) => goals.push(goal),
            None => {
                let all = Goal::ALL.map(Goal::name);
                let (meant, all) = (advice::meant(&name, all.into_iter()), all.join(", "));
                checker.error(&at, format!("{key}: no moment is called {name:?}{meant}; choose of {all}"));
            }
        }
    }
    goals
}

impl Expect {
    /// Whether samples must be taken for it.
    pub const fn needs_samples(&self) -> bool {
        self.stale_us_max.is_some() || self.window_us_max.is_some()
    }

    /// What one run is held to; `alone`: moments that must be reached count, too.
    pub fn judge(&self, report: &RunReport, alone: bool) -> Vec<Outcome> {
        let figures = report.figures;
        let answers: u64 = report.statuses.values().sum();
        let refused = report.statuses.get("UNAVAILABLE").copied().unwrap_or_default();
        let mut outcomes = Vec::new();
        let mut most = |name: &str, unit: Unit, limit: Option<u64>, measured: u64| {
            let Some(limit) = limit else { return };
            let (held, texts) = (measured <= limit, [limit, measured].map(|value| unit.render(value)));
            let [limit, measured] = texts;
            outcomes.push(Outcome {
                name: name.to_owned(),
                limit: format!("at most {limit}"),
                measured,
                held,
            });
        };
        most("conflicts_max", Unit::Count, self.conflicts_max, figures.conflicts as u64);
        most("convergence_max", Unit::Time, self.convergence_us_max, figures.converged_ms * 1_000);
        let longest_us = |of: fn(&Samples) -> &Vec<u64>| {
            let samples = report.samples.as_ref();
            samples.and_then(|samples| of(samples).iter().max()).copied().unwrap_or_default() * 1_000
        };
        most("stale_max", Unit::Time, self.stale_us_max, longest_us(|samples| &samples.stale_ms));
        most("window_max", Unit::Time, self.window_us_max, longest_us(|samples| &samples.duplicates_ms));
        most("keys_apart_max", Unit::Count, self.keys_apart_max, figures.keys_apart as u64);
        // Rounded up: a limit of 0 % means none.
        most("refused_max", Unit::Share, self.refused_max, (refused * 1_000).div_ceil(answers.max(1)));
        most("bytes_max", Unit::Size, self.bytes_max, figures.bytes);
        let count = |status: &String| report.statuses.get(status.as_str()).copied().unwrap_or_default();
        for (status, limit) in &self.answers_max {
            most(&format!("answers_max.{status}"), Unit::Count, Some(*limit), count(status));
        }
        for (status, limit) in &self.answers_min {
            let (name, measured) = (format!("answers_min.{status}"), count(status));
            let held = measured >= *limit;
            outcomes.push(Outcome {
                name,
                limit: format!("at least {limit}"),
                measured: measured.to_string(),
                held,
            });
        }
        for goal in &self.never {
            let reached = report.goals.has(*goal);
            outcomes.push(moment("never", *goal, reached, !reached));
        }
        if alone {
            outcomes.extend(self.judge_moments(report.goals));
        }
        outcomes
    }

    /// Whether the moments were reached, by one run or by any of many.
    pub fn judge_moments(&self, goals: Goals) -> Vec<Outcome> {
        self.reached.iter().map(|goal| moment("reached", *goal, goals.has(*goal), goals.has(*goal))).collect()
    }
}

fn moment(key: &str, goal: Goal, reached: bool, held: bool) -> Outcome {
    let measured = if reached { "reached" } else { "not reached" }.to_owned();
    let limit = if key == "never" { "not reached" } else { "reached" }.to_owned();
    Outcome { name: format!("{key}.{}", goal.name()), limit, measured, held }
}
