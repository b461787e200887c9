//! One run: a seed in, a report out.
//!
//! Must never: read anything but its arguments (INV-18).

use std::collections::BTreeMap;

use crdt::canary::Bug;

use crate::goals::Goals;
use crate::report::{RunReport, Verdict};
use crate::schedule::Schedule;
use crate::story::Recorder;
use crate::world::{Figures, Trouble, World};

/// How a run is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The bug to plant; only in a build with the `canary` feature.
    pub canary: Option<Bug>,
    /// Keep the trace's text.
    pub keep_trace: bool,
    /// Take samples for `measure`; the trace differs, since agreement is looked for more often.
    pub measure: bool,
    /// Take samples and look no more often: the trace is that of a run without.
    pub sample: bool,
    /// Record what happened, for a report or an explanation.
    pub keep_story: bool,
}

impl RunReport {
    /// A report of a run in which nothing has happened.
    pub fn empty(seed: u64, options: Options) -> Self {
        Self {
            seed,
            file: None,
            canary: options.canary.map(Bug::name),
            verdict: Verdict::Pass,
            trace_hash: 0,
            virtual_us: 0,
            events: 0,
            statuses: BTreeMap::new(),
            goals: Goals::default(),
            figures: Figures::default(),
            samples: None,
            keys: Vec::new(),
            regions: Vec::new(),
            text: None,
            story: None,
        }
    }
}

#[cfg(feature = "canary")]
pub(crate) fn plant(bug: Option<Bug>) {
    crdt::canary::plant(bug);
}

/// Without the feature nothing can be planted; the command line has refused to try.
#[cfg(not(feature = "canary"))]
pub(crate) const fn plant(_bug: Option<Bug>) {}

/// Runs `seed` from beginning to end.
pub fn run(seed: u64, options: Options) -> RunReport {
    run_schedule(Schedule::draw(seed), options)
}

/// Runs a schedule from beginning to end.
pub fn run_schedule(schedule: Schedule, options: Options) -> RunReport {
    let recorder = Recorder::new(options.keep_story, &schedule.scenario);
    let report = run_recorded(schedule, options, &recorder);
    RunReport { story: recorder.take(), ..report }
}

/// The same, recorded elsewhere: what was recorded outlives a panic.
pub fn run_recorded(schedule: Schedule, options: Options, recorder: &Recorder) -> RunReport {
    plant(options.canary);
    let seed = schedule.scenario.seed;
    let mut world = World::new(schedule, options.keep_trace);
    if options.measure || options.sample {
        world.measure(options.measure);
    }
    world.story = recorder.clone();
    let verdict = match world.storm() {
        Err(violation) => Verdict::Safety(violation),
        Ok(()) => match world.end() {
            Ok(()) => Verdict::Pass,
            Err(Trouble::Safety(violation)) => Verdict::Safety(violation),
            Err(Trouble::Liveness(violation)) => Verdict::Liveness(violation),
        },
    };
    if let Some(violation) = verdict.violation() {
        let holdings = violation.key.map_or_else(Vec::new, |key| world.holdings(key));
        recorder.violated(violation, holdings, violation.key.map(|key| world.accepted(key)));
    }
    RunReport {
        verdict,
        trace_hash: world.trace.hash(),
        virtual_us: world.now_us(),
        events: world.events(),
        statuses: world.statuses.clone(),
        goals: world.goals,
        figures: world.figures,
        samples: world.samples.take(),
        keys: world.keys().to_vec(),
        regions: world.regions().to_vec(),
        text: world.trace.text().map(str::to_owned),
        ..RunReport::empty(seed, options)
    }
}
