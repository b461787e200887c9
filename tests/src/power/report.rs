//! What a run of power cuts has counted, for people and for machines.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::disk::Manner;
use super::judge::{SLACK_US, SYNC_INTERVAL_US};
use super::load::{Operation, Promise};

/// Counts of a run. Nothing in it is a verdict: a broken promise ends the run.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// What the run was seeded with.
    pub seed: u64,
    /// Cuts done.
    pub cuts: usize,
    /// Torn tails that starts reported.
    pub torn_tails: usize,
    /// New incarnations.
    pub incarnations: usize,
    /// Outcomes of other regions that a victim had served.
    pub served: usize,
    /// Promises at `interval` that were in nobody's log after the cut.
    pub lost_by_all: usize,
    /// Promises that were read after the cut and not kept: no machine without power would have given them.
    pub told_late: usize,
    /// Duplicates that were answered with the outcome.
    pub replayed: usize,
    regions: usize,
    all_at_once: usize,
    torn: usize,
    always: [usize; 2],
    interval: [usize; 2],
    lost_alone: Vec<u64>,
    answering_ms: Vec<u64>,
    ready_ms: Vec<u64>,
    /// Segments and runs, by cluster and region.
    files: [BTreeSet<((usize, usize), String)>; 2],
}

impl Tally {
    /// Nothing yet.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(super) fn count_cut(&mut self, victims: usize, manner: Manner) {
        self.regions += victims;
        self.all_at_once += usize::from(victims == super::REGIONS);
        self.torn += usize::from(manner == Manner::Torn);
    }

    pub(super) fn count_promises<'o>(&mut self, operations: impl Iterator<Item = &'o Operation>) {
        for operation in operations {
            for (at, promise) in [operation.granted, operation.completed].into_iter().enumerate() {
                match promise {
                    Some(Promise { durable: true, .. }) => self.always[at] += 1,
                    Some(Promise { durable: false, .. }) => self.interval[at] += 1,
                    None => {}
                }
            }
        }
    }

    pub(super) fn lost_alone(&mut self, age_us: u64) {
        self.lost_alone.push(age_us);
    }

    pub(super) fn answering(&mut self, took: Duration) {
        self.answering_ms.push(took.as_millis() as u64);
    }

    pub(super) fn ready(&mut self, took: Duration) {
        self.ready_ms.push(took.as_millis() as u64);
    }

    /// What lies on a disk when the power comes back: segments that were begun, runs that cover them.
    pub(super) fn count_files(&mut self, disk: (usize, usize), folder: &Path) {
        let listing = std::fs::read_dir(folder).expect("the data folder is there").flatten();
        for name in listing.filter_map(|entry| entry.file_name().into_string().ok()) {
            let kind = [".log", ".run"].iter().position(|extension| name.ends_with(extension));
            if let Some(kind) = kind {
                self.files[kind].insert((disk, name));
            }
        }
    }

    /// Whether the run has shown anything: every kind of cut, losses where they are allowed, rotation.
    pub fn is_telling(&self) -> bool {
        let promises = self.always.iter().chain(&self.interval).all(|count| *count > 0);
        // A cut that loses nothing cuts nothing.
        promises
            && !self.lost_alone.is_empty()
            && self.torn > 0
            && self.torn < self.cuts
            && self.all_at_once > 0
            && self.files.iter().all(|files| files.len() > self.cuts)
    }

    /// For machines.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "seed": self.seed, "cuts": self.cuts, "regions_cut": self.regions, "all_at_once": self.all_at_once,
            "torn_cuts": self.torn, "torn_tails": self.torn_tails, "new_incarnations": self.incarnations,
            "told_after_the_cut_and_lost": self.told_late,
            "always": { "claims": self.always[0], "outcomes": self.always[1], "lost": 0, "served_elsewhere": self.served },
            "interval": {
                "claims": self.interval[0], "outcomes": self.interval[1], "lost_by_its_region": self.lost_alone.len(),
                "lost_by_all": self.lost_by_all, "oldest_lost_us": self.lost_alone.iter().max(),
                "sync_interval_us": SYNC_INTERVAL_US, "slack_us": SLACK_US,
            },
            "replayed": self.replayed, "segments": self.files[0].len(), "runs": self.files[1].len(),
            "answers_after_ms": spread(&self.answering_ms), "claims_after_ms": spread(&self.ready_ms),
        })
    }
}

/// Median and worst.
fn spread(values: &[u64]) -> [u64; 2] {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    [sorted.get(sorted.len() / 2).copied().unwrap_or_default(), sorted.last().copied().unwrap_or_default()]
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [answers, answers_max] = spread(&self.answering_ms);
        let [claims, claims_max] = spread(&self.ready_ms);
        let oldest_ms = self.lost_alone.iter().max().copied().unwrap_or_default() as f64 / 1e3;
        writeln!(
            out,
            "{} cuts ({} all three at once, {} torn), {} regions recovered, {} torn tails, {} new incarnations, \
             {} answers of processes that outlived their disk, seed {}",
            self.cuts,
            self.all_at_once,
            self.torn,
            self.regions,
            self.torn_tails,
            self.incarnations,
            self.told_late,
            self.seed
        )?;
        writeln!(
            out,
            "at always    {} claims and {} outcomes acknowledged, 0 lost; {} of other regions' outcomes served, 0 lost",
            self.always[0], self.always[1], self.served
        )?;
        writeln!(
            out,
            "at interval  {} claims and {} outcomes acknowledged; {} lost by their region, the oldest {oldest_ms:.1} ms \
             before the cut (stated: {} ms; allowed here: {} ms more), {} of them by all",
            self.interval[0],
            self.interval[1],
            self.lost_alone.len(),
            SYNC_INTERVAL_US / 1000,
            SLACK_US / 1000,
            self.lost_by_all
        )?;
        write!(
            out,
            "{} duplicates replayed; {} segments and {} runs found; answers {answers} ms after the start (worst \
             {answers_max}), claims after {claims} ms (worst {claims_max})",
            self.replayed,
            self.files[0].len(),
            self.files[1].len()
        )
    }
}
