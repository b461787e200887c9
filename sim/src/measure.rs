//! What a topology costs and gives: duplicates, how long they were possible, staleness, refusals, convergence, bytes; over
//! many seeds, each figure with its confidence interval.
//!
//! A run gives [`Samples`]; a [`Summary`] is made of many runs. Runs are independent, requests within a run are not, so
//! intervals come from drawing whole runs again (bootstrap), with keyed draws: the same seeds give the same table.
//!
//! Rejected: means of percentiles (of no known quantity), intervals over single requests (too narrow by far where one
//! partition makes all the duplicates of a run).
//!
//! Must never: measure what a run that broke an invariant did; such runs are counted apart.

use serde::Serialize;

use crate::random::{Dice, Stream};

/// How often runs are drawn again.
const RESAMPLES: u64 = 400;
/// What lies outside of an interval on either side, in thousandths of the resamples.
const TAIL_PER_MILLE: usize = 25;

/// What one run showed.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Claims that were answered.
    pub claims: u64,
    /// Of these, UNAVAILABLE.
    pub refused: u64,
    /// Of these, granted: for how long the most silent peer had been silent, milliseconds.
    pub stale_ms: Vec<u64>,
    /// Operations that were completed, each execution once.
    pub executions: u64,
    /// Executions that CONFLICTS lists at the end: how far apart the two claims were, milliseconds.
    pub duplicates_ms: Vec<u64>,
    /// From the end of the last cut that held until what was apart then was alike, milliseconds, each time.
    pub converged_ms: Vec<u64>,
    /// Bytes of frames on all links.
    pub bytes: u64,
    /// Virtual time of the run, microseconds.
    pub virtual_us: u64,
    /// Directed links.
    pub links: u64,
}

/// An estimate, and where its true value lies in 95 of 100 cases.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Estimate {
    /// From these runs.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Figures of many runs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// Runs measured.
    pub runs: usize,
    /// Runs in which something was executed twice.
    pub runs_with_duplicates: usize,
    /// Executions, and duplicates among them.
    pub executions: u64,
    /// See there.
    pub duplicates: u64,
    /// Duplicates in 1,000 executions.
    pub duplicates_per_1000: Estimate,
    /// How far apart the claims of a duplicate were, milliseconds; none where there were no duplicates.
    pub window_ms: Option<Spread>,
    /// From the end of a cut to agreement, milliseconds; none where nothing was apart.
    pub convergence_ms: Option<Spread>,
    /// Age of the most silent peer's last word at a grant, milliseconds.
    pub staleness_ms: Option<Spread>,
    /// Claims answered UNAVAILABLE, in percent.
    pub refused_percent: Estimate,
    /// Bytes of frames a second on a directed link.
    pub bytes_per_s: Estimate,
}

/// How values are spread.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Spread {
    /// Half lie below.
    pub p50: Estimate,
    /// 99 of 100 lie below.
    pub p99: Estimate,
    /// None lies above.
    pub max: u64,
}

impl Summary {
    /// Of these runs, at least one.
    pub fn of(runs: &[Samples]) -> Self {
        let again = Resamples::draw(runs.len());
        let ratio = |part: fn(&Samples) -> f64, whole: fn(&Samples) -> f64, times: f64| {
            let estimate = again.estimate(|weights| {
                let sum = |of: fn(&Samples) -> f64| {
                    runs.iter().zip(weights).map(|(run, weight)| of(run) * f64::from(*weight)).sum::<f64>()
                };
                let whole = sum(whole);
                Some(if whole == 0.0 { 0.0 } else { sum(part) / whole * times })
            });
            if estimate.high > 0.0 {
                return estimate;
            }
            // What was never seen is drawn again as never: of 95 cases in 100 it is at most three in all that were seen.
            let all: f64 = runs.iter().map(whole).sum();
            Estimate { high: (3.0 / all.max(1.0)).min(1.0) * times, ..estimate }
        };
        let spread = |of: fn(&Samples) -> Vec<u64>| Spread::of(runs.iter().map(of), &again);
        let duplicates = |run: &Samples| run.duplicates_ms.len() as u64;
        Self {
            runs: runs.len(),
            runs_with_duplicates: runs.iter().filter(|run| duplicates(run) > 0).count(),
            executions: runs.iter().map(|run| run.executions).sum(),
            duplicates: runs.iter().map(duplicates).sum(),
            duplicates_per_1000: ratio(
                |run| run.duplicates_ms.len() as f64,
                |run| run.executions as f64,
                1_000.0,
            ),
            window_ms: spread(|run| run.duplicates_ms.clone()),
            convergence_ms: spread(|run| run.converged_ms.clone()),
            staleness_ms: spread(|run| run.stale_ms.clone()),
            refused_percent: ratio(|run| run.refused as f64, |run| run.claims as f64, 100.0),
            bytes_per_s: ratio(
                |run| run.bytes as f64,
                |run| run.virtual_us as f64 * run.links as f64,
                1_000_000.0,
            ),
        }
    }
}

impl Spread {
    fn of(runs: impl Iterator<Item = Vec<u64>>, again: &Resamples) -> Option<Self> {
        let mut values: Vec<(u64, usize)> = runs
            .enumerate()
            .flat_map(|(run, values)| values.into_iter().map(move |value| (value, run)))
            .collect();
        values.sort_unstable();
        let max = values.last()?.0;
        let percentile = |per_mille: u64| {
            again.estimate(|weights| {
                let all: u64 = values.iter().map(|(_, run)| u64::from(weights[*run])).sum();
                let wanted = (all * per_mille).div_ceil(1_000).max(1);
                let mut below = 0;
                let found = values.iter().find(|(_, run)| {
                    below += u64::from(weights[*run]);
                    below >= wanted
                });
                found.filter(|_| all > 0).map(|(value, _)| *value as f64)
            })
        };
        Some(Self { p50: percentile(500), p99: percentile(990), max })
    }
}

/// How often each run is taken: first each once, then by draws.
struct Resamples(Vec<Vec<u32>>);

impl Resamples {
    fn draw(runs: usize) -> Self {
        let mut all = vec![vec![1; runs]];
        for number in 0..RESAMPLES {
            let mut dice = Dice::new(number, Stream::Measure, runs as u64);
            let mut weights = vec![0; runs];
            for _ in 0..runs {
                weights[dice.below(runs as u64) as usize] += 1;
            }
            all.push(weights);
        }
        Self(all)
    }

    /// A drawing that has no value, since it has none of the runs that had some, says nothing: it counts for nothing, and
    /// not for 0.
    fn estimate(&self, of: impl Fn(&[u32]) -> Option<f64>) -> Estimate {
        let value = of(&self.0[0]).unwrap_or_default();
        let mut drawn: Vec<f64> = self.0[1..].iter().filter_map(|weights| of(weights)).collect();
        if drawn.is_empty() {
            return Estimate { value, low: value, high: value };
        }
        drawn.sort_by(f64::total_cmp);
        let out = drawn.len() * TAIL_PER_MILLE / 1_000;
        let (low, high) = (drawn[out], drawn[drawn.len() - 1 - out]);
        // With few runs the value itself may lie outside of what was drawn.
        Estimate { value, low: low.min(value), high: high.max(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stale_ms: &[u64], duplicates_ms: &[u64]) -> Samples {
        Samples {
            claims: 100,
            refused: 5,
            stale_ms: stale_ms.to_vec(),
            executions: 50,
            duplicates_ms: duplicates_ms.to_vec(),
            converged_ms: vec![40],
            bytes: 6_000_000,
            virtual_us: 1_000_000,
            links: 6,
        }
    }

    #[test]
    fn alike_runs_leave_no_doubt() {
        let runs = vec![run(&[10, 20, 30], &[]); 20];
        let summary = Summary::of(&runs);
        let sure = |value| Estimate { value, low: value, high: value };
        assert_eq!(summary.refused_percent, sure(5.0));
        assert_eq!(summary.bytes_per_s, sure(1_000_000.0));
        assert_eq!(summary.staleness_ms, Some(Spread { p50: sure(20.0), p99: sure(30.0), max: 30 }));
        assert_eq!((summary.duplicates, summary.window_ms), (0, None));
        assert_eq!(
            summary.duplicates_per_1000,
            Estimate { value: 0.0, low: 0.0, high: 3.0 },
            "three of 1,000"
        );
        assert_eq!(Summary::of(&runs), summary, "the same runs give the same table");
    }

    #[test]
    fn what_one_run_of_many_showed_is_doubtful() {
        let mut runs = vec![run(&[10], &[]); 39];
        runs.push(run(&[10], &[700; 8]));
        let summary = Summary::of(&runs);
        let per_1000 = summary.duplicates_per_1000;
        assert!(
            (per_1000.value - 4.0).abs() < 1e-9 && per_1000.low == 0.0 && per_1000.high > 8.0,
            "{per_1000:?}"
        );
        assert_eq!((summary.runs_with_duplicates, summary.duplicates), (1, 8));
        assert_eq!(summary.window_ms.map(|window| window.max), Some(700));
    }

    /// Of 200 runs three had anything to agree upon, each after about 300 ms; the table said `p50 300 [0..310]`, as if
    /// agreement had sometimes taken no time.
    #[test]
    fn drawings_without_any_value_do_not_count_as_nothing() {
        let quiet = Samples { converged_ms: Vec::new(), ..run(&[10], &[]) };
        let mut runs = vec![quiet; 197];
        runs.extend([290, 300, 310].map(|ms| Samples { converged_ms: vec![ms], ..run(&[10], &[]) }));
        let p50 = Summary::of(&runs).convergence_ms.expect("three of them").p50;
        assert_eq!((p50.low, p50.value, p50.high), (290.0, 300.0, 310.0));
    }
}
