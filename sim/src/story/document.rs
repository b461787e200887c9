//! `report.json`: one run as one document, versioned; the page draws nothing else.
//!
//! Times are virtual microseconds since the start; regions count from 1 as their names do; keys are indices into `keys`;
//! claims go by their letters, which `claims` explains. A field that does not apply to a moment is left out.
//!
//! `recorded` says how many moments of each kind there were and `shown` how many of them are in `moments`. `slots` counts
//! all of them over time, shown or not.
//!
//! Must never: change the meaning of a field without another [`VERSION`]; exceed [`limits::REPORT_BYTES_MAX`].

use serde::Serialize;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use super::choose::{Interest, choose};
use super::cone::{Cone, cone};
use super::measure::{Measured, measure};
use super::moment::{MomentId, What};
use super::names::Names;
use super::record::{Holder, Record};
use super::rows::{Keys, MomentRow, row};
use super::rules::rule_of;
use super::spans::{Cuts, Slots, downs};
use super::words::{holder_words, parts_words};
use crate::limits;
use crate::naming;
use crate::oracle::facts::{Key, View};
use crate::report::RunReport;
use crate::world::Figures;

/// The document's version: another one where a field's meaning changes or a field goes.
pub const VERSION: u32 = 1;

/// Most keys that are named for having been granted twice.
const TWICE_MAX: usize = 20;

/// So many of them are shown whole where nothing was broken.
const KEYS_WHOLE: usize = 3;

/// What is in `report.json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// Always `onced-sim report`.
    pub format: &'static str,
    /// See [`VERSION`].
    pub version: u32,
    /// Everything was drawn from it.
    pub seed: u64,
    /// The planted bug.
    pub canary: Option<&'static str>,
    /// `pass`, `safety`, `liveness` or `panic`.
    pub verdict: &'static str,
    /// What a panic said.
    pub panic: Option<String>,
    /// The command that runs it again.
    pub replay: String,
    /// Hash of the whole trace.
    pub trace_hash: String,
    /// Length of the run.
    pub virtual_us: u64,
    /// Length of its first phase, after which faults end.
    pub storm_us: u64,
    /// Events in virtual time.
    pub events: u64,
    /// Bound between wall clocks, milliseconds.
    pub max_drift_ms: u64,
    /// Names of regions.
    pub regions: Vec<String>,
    /// Names of the keys that occur below.
    pub keys: Vec<String>,
    /// How many keys the run had.
    pub keys_of_run: usize,
    /// The key to look at first.
    pub key: Option<usize>,
    /// Keys of operations that were granted twice at a time, most often first.
    pub twice: Vec<usize>,
    /// The broken rule.
    pub violation: Option<ViolationRow>,
    /// What led to it, to be read in order.
    pub steps: Vec<StepRow>,
    /// Steps about earlier claims, or too many.
    pub steps_left_out: usize,
    /// Moments of the causal cone.
    pub cone: Vec<MomentId>,
    /// Answers that services heard, by status.
    pub statuses: BTreeMap<&'static str, u64>,
    /// Moments reached, of those that a swarm must reach.
    pub goals: Vec<&'static str>,
    /// What links carried, and how long agreement took.
    pub figures: Figures,
    /// What the whole record comes to.
    pub measured: Measured,
    /// Letter, key, whole name, when it was granted.
    pub claims: Vec<(String, usize, String, u64)>,
    /// From when which region took whom for a key's holder: time, region, key, `free`, `held` or `settled`, letter.
    pub holders: Vec<(u64, usize, usize, &'static str, String)>,
    /// Directed links cut: since, until (or `null`: to the end), which of `cut_sets`.
    pub cuts: Vec<(u64, Option<u64>, usize)>,
    /// Links that were cut at once: from, to.
    pub cut_sets: Vec<Vec<(usize, usize)>>,
    /// Cuts of a link beyond those.
    pub cuts_left_out: usize,
    /// Regions down: region, since, until (or `null`), why.
    pub downs: Vec<(usize, u64, Option<u64>, &'static str)>,
    /// What happened over time, all of it.
    pub slots: Slots,
    /// Moments by kind, all of them.
    pub recorded: BTreeMap<&'static str, u64>,
    /// Those of them that are below.
    pub shown: BTreeMap<&'static str, u64>,
    /// In order.
    pub moments: Vec<MomentRow>,
}

/// A broken rule.
#[derive(Debug, Serialize)]
pub struct ViolationRow {
    /// Its name in SEMANTICS.
    pub invariant: &'static str,
    /// The clause, quoted.
    pub clause: &'static str,
    /// The rule in a few words.
    pub title: &'static str,
    /// What must hold.
    pub meaning: &'static str,
    /// Which key, where one is concerned.
    pub key: Option<usize>,
    /// When it was noticed.
    pub at_us: u64,
    /// The regions involved.
    pub regions: Vec<u16>,
    /// What the oracle says, in its words.
    pub story: Vec<String>,
    /// The same with letters for claims and times since the start.
    pub words: Vec<String>,
    /// What the key is by all that was accepted anywhere.
    pub expected: Option<HoldingRow>,
    /// What each region held of it then.
    pub holdings: Vec<HoldingRow>,
}

/// What is known of the violation's key.
#[derive(Debug, Serialize)]
pub struct HoldingRow {
    /// Where; 0 for all together.
    pub region: usize,
    /// Who holds the key, in words.
    pub holder: String,
    /// All that is known of it, in words.
    pub parts: Vec<String>,
}

/// A step of the explanation.
#[derive(Debug, Serialize)]
pub struct StepRow {
    /// When.
    pub at_us: u64,
    /// Where; absent for what concerns several regions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<usize>,
    /// What happened.
    pub text: String,
    /// The moments it tells of.
    pub moments: Vec<MomentId>,
    /// It was in the way, and is no cause by itself.
    pub around: bool,
}

/// What a run's record says, made ready for all its forms.
#[derive(Debug)]
pub struct Told<'r> {
    report: &'r RunReport,
    record: &'r Record,
    /// The violation's cone; empty where nothing was broken.
    pub cone: Cone,
    /// Names for claims.
    pub names: Names,
    focus: Option<Key>,
    /// Measured once: a document may be made more than once, until it fits.
    measured: OnceCell<Measured>,
    /// The command that runs it again, where that is not a seed alone.
    pub replay: Option<String>,
}

impl<'r> Told<'r> {
    /// The story of a run that was recorded; `focus` is the name of a key to look at first.
    pub fn of(report: &'r RunReport, focus: Option<&str>) -> Option<Self> {
        let record = report.story.as_deref()?;
        let violation = report.verdict.violation();
        let cone = violation.map(|violation| cone(record, violation)).unwrap_or_default();
        let first: Vec<MomentId> = cone.steps.iter().flat_map(|step| step.moments.iter().copied()).collect();
        let asked = focus.and_then(|name| record.keys.iter().position(|key| key == name));
        let focus = asked.or_else(|| violation.and_then(|violation| violation.key));
        Some(Self {
            report,
            record,
            names: Names::of(record, &first),
            cone,
            focus,
            measured: OnceCell::new(),
            replay: None,
        })
    }

    /// The steps, as sentences.
    pub fn steps(&self) -> Vec<StepRow> {
        let key = self.report.verdict.violation().and_then(|violation| violation.key);
        let steps = self.cone.steps.iter().map(|step| StepRow {
            at_us: step.at_us,
            region: step.site.map(|site| site + 1),
            text: step.words(self.record, &self.names, key),
            moments: step.moments.clone(),
            around: step.around,
        });
        steps.collect()
    }

    /// A text of the oracle's in people's words.
    pub fn humanise(&self, text: &str) -> String {
        let key = self.report.verdict.violation().and_then(|violation| violation.key);
        self.names.humanise(text, key)
    }

    /// What is held of the violation's key: by all that was accepted, then by region.
    pub fn holdings(&self) -> (Option<HoldingRow>, Vec<HoldingRow>) {
        let Some(key) = self.report.verdict.violation().and_then(|violation| violation.key) else {
            return (None, Vec::new());
        };
        let row = |region: usize, view: Option<&View>| HoldingRow {
            region,
            holder: view.map_or_else(|| "down".to_owned(), |view| holder_words(&self.names, key, view)),
            parts: view.map_or_else(Vec::new, |view| parts_words(&self.names, key, view)),
        };
        let expected = self.record.expected.as_ref().map(|view| row(0, Some(view)));
        let held = self.record.holdings.iter().zip(1..).map(|(view, region)| row(region, view.as_ref()));
        (expected, held.collect())
    }

    /// `report.json`, within its bounds.
    pub fn json(&self) -> String {
        let mut most = limits::REPORT_MOMENTS_MAX;
        loop {
            let json = serde_json::to_string(&self.document(most)).expect("strings and numbers serialise");
            // Each of these is longer in the page.
            let escaped = 5 * json.bytes().filter(|byte| *byte == b'<').count();
            if json.len() + escaped <= limits::REPORT_BYTES_MAX || most == 0 {
                return json;
            }
            most = most * 3 / 4;
        }
    }

    fn interest(&self) -> Interest {
        let steps = self.cone.steps.iter().rev().flat_map(|step| step.moments.iter().copied());
        let cone = steps.chain(self.cone.all.iter().rev().copied()).collect();
        let at_us = self.report.verdict.violation().map(|violation| violation.at_us);
        let mut keys: Vec<Key> = self.focus.into_iter().collect();
        if keys.is_empty() {
            // Rather all of a few keys than a little of each.
            keys.extend(self.twice().into_iter().take(KEYS_WHOLE));
        }
        Interest { cone, keys, at_us }
    }

    /// The document with at most about `most` moments.
    pub fn document(&self, most: usize) -> Document {
        let (report, record) = (self.report, self.record);
        let chosen = choose(record, &self.interest(), most);
        let mut keys = Keys::default();
        let focus = self.focus.map(|key| keys.number(key));
        let twice = self.twice().into_iter().map(|key| keys.number(key)).collect();
        let moments: Vec<MomentRow> =
            chosen.iter().map(|id| row(record, &self.names, &mut keys, *id)).collect();
        let holders = self.holders(&mut keys);
        let shown: BTreeSet<MomentId> = chosen.into_iter().collect();
        let ids = shown.iter().map(|id| &record.moments[*id as usize]);
        let (shown_counts, recorded) = (counts(ids), counts(record.moments.iter()));
        let cuts = Cuts::of(record, report.verdict.violation().map(|v| v.at_us));
        Document {
            format: "onced-sim report",
            version: VERSION,
            seed: report.seed,
            canary: report.canary,
            verdict: report.verdict.word(),
            panic: report.verdict.panic().map(str::to_owned),
            replay: self.replay.clone().unwrap_or_else(|| report.replay_command()),
            trace_hash: format!("{:016x}", report.trace_hash),
            virtual_us: record.moments.last().map_or(0, |last| last.at_us).max(report.virtual_us),
            storm_us: record.storm_us,
            events: report.events,
            max_drift_ms: record.max_drift_ms,
            regions: (0..record.sites).map(|site| record.region(site)).collect(),
            violation: self.violation(&mut keys),
            steps: self.steps(),
            steps_left_out: self.cone.left_out,
            cone: self.cone.all.iter().copied().filter(|id| shown.contains(id)).collect(),
            statuses: report.statuses.clone(),
            goals: report.goals.reached(),
            figures: report.figures,
            measured: self.measured.get_or_init(|| measure(record)).clone(),
            claims: self.claims(&mut keys),
            holders,
            cuts: cuts.spans,
            cut_sets: cuts.sets,
            cuts_left_out: cuts.left_out,
            downs: downs(record),
            slots: Slots::of(record),
            recorded,
            shown: shown_counts,
            moments,
            key: focus,
            twice,
            keys_of_run: record.keys.len(),
            keys: keys.names(record),
        }
    }

    fn violation(&self, keys: &mut Keys) -> Option<ViolationRow> {
        let violation = self.report.verdict.violation()?;
        let (rule, (expected, holdings)) = (rule_of(violation.invariant), self.holdings());
        Some(ViolationRow {
            invariant: violation.invariant,
            clause: violation.clause,
            title: rule.title,
            meaning: rule.meaning,
            key: violation.key.map(|key| keys.number(key)),
            at_us: violation.at_us,
            regions: violation.regions.to_vec(),
            story: violation.story.iter().map(|line| naming::named(line, &self.record.names)).collect(),
            words: violation.story.iter().map(|line| self.humanise(line)).collect(),
            expected,
            holdings,
        })
    }

    /// Of the key to look at first all, of others as many as there is room for.
    fn holders(&self, keys: &mut Keys) -> Vec<(u64, usize, usize, &'static str, String)> {
        let of_focus = |key: Key| self.focus.is_some_and(|focus| focus == key);
        let (focus, others): (Vec<&Holder>, Vec<&Holder>) =
            self.record.holders.iter().partition(|holder| of_focus(holder.key));
        let mut kept: Vec<&Holder> =
            focus.into_iter().chain(others).take(limits::REPORT_HOLDERS_MAX).collect();
        kept.sort_by_key(|holder| holder.at_us);
        let letter = |key, claim: Option<_>| claim.map_or_else(String::new, |c| self.names.claim(key, c));
        let row = |h: &Holder| (h.at_us, h.site + 1, keys.number(h.key), h.state, letter(h.key, h.claim));
        kept.into_iter().map(row).collect()
    }

    fn twice(&self) -> Vec<Key> {
        let mut counts: BTreeMap<Key, usize> = BTreeMap::new();
        self.record.doubles.iter().for_each(|double| *counts.entry(double.key).or_default() += 1);
        let mut twice: Vec<(Key, usize)> = counts.into_iter().collect();
        twice.sort_by_key(|(key, count)| (usize::MAX - count, *key));
        twice.into_iter().take(TWICE_MAX).map(|(key, _)| key).collect()
    }

    fn claims(&self, keys: &mut Keys) -> Vec<(String, usize, String, u64)> {
        let mut granted = BTreeMap::new();
        for moment in &self.record.moments {
            if let What::Answered(answered) = &moment.what
                && let ("GRANTED", Some(claim)) = (answered.answer, answered.claim)
            {
                granted.entry((answered.key, claim)).or_insert(moment.at_us);
            }
        }
        let mut all: Vec<_> = self.names.all().collect();
        all.sort_by_key(|(key, claim, _)| (Some(*key) != self.focus, *key, *claim));
        let known = all.into_iter().filter(|(key, ..)| keys.has(*key)).take(limits::REPORT_HOLDERS_MAX / 4);
        let rows: Vec<_> = known
            .map(|(key, claim, letter)| {
                let at_us = granted.get(&(key, claim)).copied().unwrap_or(0);
                (letter.to_owned(), key, claim.to_string(), at_us)
            })
            .collect();
        rows.into_iter().map(|(letter, key, name, at)| (letter, keys.number(key), name, at)).collect()
    }
}

fn counts<'m>(moments: impl Iterator<Item = &'m super::moment::Moment>) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    moments.for_each(|moment| *counts.entry(moment.word()).or_default() += 1);
    counts
}
