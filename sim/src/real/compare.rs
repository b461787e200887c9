//! What simulated and real runs of the same seeds showed, side by side.
//!
//! A percentile is taken of each run and then the median of the runs', so that one run that a busy machine disturbed does
//! not decide. Convergence has a goal, since the simulator is worth as much as it is right about that; of the others the
//! difference is shown.
//!
//! Must never: call something within the goal of which there is no sample.

use std::fmt::Write as _;

use serde::Serialize;

use crate::measure::Samples;

/// A figure of both.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Row {
    /// What is measured, with its unit.
    pub name: &'static str,
    /// In the simulator; `None`: no sample.
    pub sim: Option<f64>,
    /// With real processes.
    pub real: Option<f64>,
    /// Where there is a goal: how far they may be apart, and whether they are.
    pub goal: Option<Goal>,
}

/// How far apart two figures may be.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Goal {
    /// So far.
    pub apart_max: f64,
    /// They are not further.
    pub held: bool,
}

/// Share of the simulated figure, and milliseconds, of which the greater counts.
const P50_GOAL: (f64, f64) = (0.10, 5.0);
/// The same of the 99th percentile.
const P99_GOAL: (f64, f64) = (0.25, 20.0);

type Values = fn(&Samples) -> &[u64];

/// Every figure of the same runs, simulated and real.
pub fn rows(sim: &[Samples], real: &[Samples]) -> Vec<Row> {
    let plain = |name, of: fn(&Samples) -> Option<f64>| {
        let [sim, real] = [sim, real].map(|runs| median(runs.iter().filter_map(of).collect()));
        Row { name, sim, real, goal: None }
    };
    let spread = |name, of: Values, per_mille: usize, goal: Option<(f64, f64)>| {
        let of_runs =
            |runs: &[Samples]| median(runs.iter().filter_map(|run| percentile(of(run), per_mille)).collect());
        let (sim, real) = (of_runs(sim), of_runs(real));
        let goal = goal.zip(sim.zip(real)).map(|((share, least), (sim, real))| {
            let apart_max = (share * sim).max(least);
            Goal { apart_max, held: (real - sim).abs() <= apart_max }
        });
        Row { name, sim, real, goal }
    };
    let converged: Values = |run| &run.converged_ms;
    let stale: Values = |run| &run.stale_ms;
    let window: Values = |run| &run.duplicates_ms;
    vec![
        plain("executions", |run| Some(run.executions as f64)),
        plain("duplicates", |run| Some(run.duplicates_ms.len() as f64)),
        spread("  window, ms: p50", window, 500, None),
        spread("  window, ms: p99", window, 990, None),
        plain("convergences", |run| Some(run.converged_ms.len() as f64)),
        spread("  convergence, ms: p50", converged, 500, Some(P50_GOAL)),
        spread("  convergence, ms: p99", converged, 990, Some(P99_GOAL)),
        spread("staleness, ms: p50", stale, 500, None),
        spread("staleness, ms: p99", stale, 990, None),
        plain("refused, % of claims", |run| ratio(100.0 * run.refused as f64, run.claims as f64)),
        plain("bytes/s on a directed link", |run| {
            ratio(run.bytes as f64 * 1e6, run.virtual_us as f64 * run.links as f64)
        }),
    ]
}

/// Whether every figure with a goal is within it; `None`: none could be compared.
pub fn held(rows: &[Row]) -> Option<bool> {
    let mut goals = rows.iter().filter_map(|row| row.goal).peekable();
    goals.peek()?;
    Some(goals.all(|goal| goal.held))
}

/// The table, for people.
pub fn table(rows: &[Row]) -> String {
    let mut text =
        format!("{:<28}{:>12}{:>12}{:>12}\n", "median of the runs", "simulated", "real", "difference");
    for Row { name, sim, real, goal } in rows {
        let difference = sim.zip(*real).map(|(sim, real)| real - sim);
        // Writing into a String cannot fail.
        let _ = write!(text, "{name:<28}{:>12}{:>12}{:>12}", shown(*sim), shown(*real), signed(difference));
        if let Some(Goal { apart_max, held }) = goal {
            let word = if *held { "within" } else { "NOT WITHIN" };
            let _ = write!(text, "  {word} the goal of ±{apart_max:.0}");
        }
        text.push('\n');
    }
    text
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.*}", digits(value)))
}

fn signed(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:+.*}", digits(value)))
}

const fn digits(value: f64) -> usize {
    if value.abs() >= 10.0 || value == value.trunc() { 0 } else { 2 }
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// The value below which so many thousandths lie, nearest rank.
fn percentile(values: &[u64], per_mille: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * per_mille).div_ceil(1_000).max(1);
    sorted.get(rank - 1).map(|value| *value as f64)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    let odd = values.len() % 2 == 1;
    Some(if odd { values[middle] } else { f64::midpoint(values[middle], values[middle + 1]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(converged_ms: &[u64]) -> Samples {
        Samples { converged_ms: converged_ms.to_vec(), claims: 10, refused: 1, ..Samples::default() }
    }

    fn row(rows: &[Row], name: &str) -> Row {
        rows.iter().find(|row| row.name == name).expect("there is such a row").clone()
    }

    #[test]
    fn the_median_run_counts_and_not_the_disturbed_one() {
        let sim = [run(&[100, 200, 300]), run(&[100, 200, 300]), run(&[100, 200, 300])];
        let real = [run(&[100, 218, 300]), run(&[100, 2_000, 9_000]), run(&[100, 190, 370])];
        let rows = rows(&sim, &real);
        let p50 = row(&rows, "  convergence, ms: p50");
        assert_eq!((p50.sim, p50.real), (Some(200.0), Some(218.0)));
        assert_eq!(p50.goal, Some(Goal { apart_max: 20.0, held: true }));
        let p99 = row(&rows, "  convergence, ms: p99");
        assert_eq!((p99.real, p99.goal), (Some(370.0), Some(Goal { apart_max: 75.0, held: true })));
        assert_eq!(held(&rows), Some(true));
        assert_eq!(row(&rows, "refused, % of claims").real, Some(10.0));
    }

    #[test]
    fn small_figures_have_a_few_milliseconds_and_no_sample_is_no_success() {
        let rows_of = |real: u64| rows(&[run(&[20])], &[run(&[real])]);
        assert_eq!(held(&rows_of(25)), Some(true));
        assert_eq!(held(&rows_of(26)), Some(false));
        assert!(table(&rows_of(26)).contains("NOT WITHIN the goal of ±5"), "{}", table(&rows_of(26)));
        let none = rows(&[run(&[])], &[run(&[9])]);
        assert_eq!((held(&none), row(&none, "  convergence, ms: p50").real), (None, Some(9.0)));
    }
}
