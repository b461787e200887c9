//! What a run and a swarm say at their end, for people and as JSON.
//!
//! A failure must be enough to start from: the invariant with its clause, the story, the seed and one
//! command that replays it.
//!
//! Must never: put anything into a run's report that differs between two runs of one seed; only a
//! swarm's report has real times.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::goals::Goals;
use crate::limits;
use crate::measure::Samples;
use crate::naming;
use crate::oracle::violation::Violation;
use crate::story::Record;
use crate::world::Figures;

/// Exit codes; documented in `--help`.
pub mod exit {
    /// All invariants held and all goals were reached.
    pub const PASS: u8 = 0;
    /// An invariant was broken.
    pub const SAFETY: u8 = 1;
    /// A healed cluster did not converge in bounded virtual time.
    pub const LIVENESS: u8 = 2;
    /// A scenario file's `[expect]` was missed.
    pub const EXPECTATION: u8 = 3;
    /// A goal was never reached by the swarm.
    pub const GOAL: u8 = 4;
    /// The command line was wrong.
    pub const USAGE: u8 = 64;
    /// The simulator or the replica panicked, or a file could not be written.
    pub const INTERNAL: u8 = 70;
}

/// The exit code of several failures, if there are any.
pub fn worst(codes: &[u8]) -> Option<u8> {
    [exit::SAFETY, exit::INTERNAL, exit::LIVENESS].into_iter().find(|code| codes.contains(code))
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Everything held.
    Pass,
    /// An invariant was broken.
    Safety(Violation),
    /// No convergence.
    Liveness(Violation),
    /// Something panicked.
    Panic(String),
}

impl Verdict {
    /// The process's exit code.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Pass => exit::PASS,
            Self::Safety(_) => exit::SAFETY,
            Self::Liveness(_) => exit::LIVENESS,
            Self::Panic(_) => exit::INTERNAL,
        }
    }

    /// One word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Safety(_) => "safety",
            Self::Liveness(_) => "liveness",
            Self::Panic(_) => "panic",
        }
    }

    /// What a panic said, if there was one.
    pub fn panic(&self) -> Option<&str> {
        if let Self::Panic(message) = self { Some(message) } else { None }
    }

    /// The violation, if there is one.
    pub const fn violation(&self) -> Option<&Violation> {
        match self {
            Self::Safety(violation) | Self::Liveness(violation) => Some(violation),
            Self::Pass | Self::Panic(_) => None,
        }
    }
}

/// What one run came to.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// Everything was drawn from it.
    pub seed: u64,
    /// The scenario file it belongs to, if any.
    pub file: Option<String>,
    /// The planted bug, if any.
    pub canary: Option<&'static str>,
    /// How it ended.
    pub verdict: Verdict,
    /// Hash of the whole trace (INV-18).
    pub trace_hash: u64,
    /// Virtual microseconds.
    pub virtual_us: u64,
    /// Events in virtual time.
    pub events: u64,
    /// Answers by status.
    pub statuses: BTreeMap<&'static str, u64>,
    /// Moments reached.
    pub goals: Goals,
    /// What links carried, and how long agreement took.
    pub figures: Figures,
    /// What was measured, where that was asked for.
    pub samples: Option<Samples>,
    /// The keys' names, for reports.
    pub keys: Vec<String>,
    /// The regions' names, where they have any.
    pub regions: Vec<String>,
    /// The trace's text, where it was kept.
    pub text: Option<String>,
    /// What happened, where it was recorded.
    pub story: Option<Box<Record>>,
}

#[derive(Serialize)]
struct ViolationJson<'a> {
    invariant: &'a str,
    clause: &'a str,
    key: Option<&'a str>,
    at_us: u64,
    regions: Vec<String>,
    story: Vec<String>,
}

#[derive(Serialize)]
struct RunJson<'a> {
    seed: u64,
    canary: Option<&'a str>,
    verdict: &'a str,
    violation: Option<ViolationJson<'a>>,
    panic: Option<&'a str>,
    trace_hash: String,
    virtual_us: u64,
    events: u64,
    statuses: &'a BTreeMap<&'static str, u64>,
    goals: Vec<&'static str>,
    replay: String,
}

impl RunReport {
    /// The command that runs this seed again and writes its trace.
    pub fn replay_command(&self) -> String {
        let seed = self.seed;
        let file = self.file.as_ref().map_or_else(String::new, |file| format!("{file} "));
        match self.canary {
            None => format!("onced-sim run {file}--seed {seed} --trace seed-{seed}.txt"),
            Some(bug) => format!("onced-sim run {file}--seed {seed} --canary {bug} --trace seed-{seed}.txt"),
        }
    }

    /// The command that says what led to its violation.
    pub fn explain_command(&self) -> String {
        let planted = self.canary.map_or_else(String::new, |bug| format!(" --canary {bug}"));
        match &self.file {
            None => format!("onced-sim explain --seed {}{planted}", self.seed),
            Some(file) => format!("onced-sim explain {file} --seed {}{planted}", self.seed),
        }
    }

    /// What the oracle says, with the regions' names.
    pub fn story_of(&self, violation: &Violation) -> Vec<String> {
        violation.story.iter().map(|line| naming::named(line, &self.regions)).collect()
    }

    fn regions_of(&self, violation: &Violation) -> Vec<String> {
        let index = |region: &u16| usize::from(*region).saturating_sub(1);
        violation.regions.iter().map(|region| naming::region(&self.regions, index(region))).collect()
    }

    /// As one JSON object.
    pub fn json(&self) -> String {
        let violation = self.verdict.violation().map(|v| ViolationJson {
            invariant: v.invariant,
            clause: v.clause,
            key: v.key.and_then(|key| self.keys.get(key)).map(String::as_str),
            at_us: v.at_us,
            regions: self.regions_of(v),
            story: self.story_of(v),
        });
        let panic = self.verdict.panic();
        let json = RunJson {
            seed: self.seed,
            canary: self.canary,
            verdict: self.verdict.word(),
            violation,
            panic,
            trace_hash: format!("{:016x}", self.trace_hash),
            virtual_us: self.virtual_us,
            events: self.events,
            statuses: &self.statuses,
            goals: self.goals.reached(),
            replay: self.replay_command(),
        };
        serde_json::to_string(&json).expect("strings and numbers always serialise")
    }

    /// For people.
    pub fn human(&self) -> String {
        let mut text = String::new();
        let requests: u64 = self.statuses.values().sum();
        let _ = writeln!(
            text,
            "seed {}: {} after {:.3} s of virtual time, {} events, {requests} answers, trace {:016x}",
            self.seed,
            self.verdict.word(),
            self.virtual_us as f64 / 1e6,
            self.events,
            self.trace_hash
        );
        match &self.verdict {
            Verdict::Pass => {
                let answers: Vec<String> =
                    self.statuses.iter().map(|(word, n)| format!("{word} {n}")).collect();
                let _ = writeln!(text, "  answers: {}", answers.join(", "));
                let _ = writeln!(text, "  reached: {}", self.goals.reached().join(", "));
            }
            _ => {
                text.push_str(&self.human_failure());
                let _ = writeln!(text, "  replay: {}", self.replay_command());
            }
        }
        text
    }

    /// What went wrong, for people; empty if nothing did.
    pub fn human_failure(&self) -> String {
        let mut text = String::new();
        match &self.verdict {
            Verdict::Pass => {}
            Verdict::Safety(violation) | Verdict::Liveness(violation) => {
                let name = violation.key.and_then(|key| self.keys.get(key));
                let Violation { invariant, clause, at_us, .. } = violation;
                let _ = writeln!(text, "{invariant} broken at {:.6} s: \"{clause}\"", *at_us as f64 / 1e6);
                let regions = self.regions_of(violation).join(", ");
                let _ = writeln!(text, "  key {}, regions {regions}", name.map_or("-", String::as_str));
                self.story_of(violation).iter().for_each(|line| {
                    let _ = writeln!(text, "  {line}");
                });
                let _ = writeln!(text, "  explain: {}", self.explain_command());
            }
            Verdict::Panic(message) => {
                let _ = writeln!(text, "  panicked: {message}");
            }
        }
        text
    }
}

/// What a swarm came to.
#[derive(Clone, Debug, Default)]
pub struct SwarmReport {
    /// First seed.
    pub start: u64,
    /// Seeds run.
    pub seeds: u64,
    /// Seeds run twice.
    pub twice: u64,
    /// Real time, milliseconds.
    pub elapsed_ms: u64,
    /// Threads.
    pub jobs: usize,
    /// Answers by status, of all runs.
    pub statuses: BTreeMap<&'static str, u64>,
    /// Moments reached by any run.
    pub goals: Goals,
    /// Runs that failed, by seed.
    pub failures: Vec<RunReport>,
    /// Seeds of runs that kept every rule and missed what their scenario expects.
    pub missed: Vec<u64>,
}

#[derive(Serialize)]
struct SwarmJson<'a> {
    start: u64,
    seeds: u64,
    passed: u64,
    twice: u64,
    jobs: usize,
    elapsed_ms: u64,
    seeds_per_second: f64,
    statuses: &'a BTreeMap<&'static str, u64>,
    goals_reached: Vec<&'static str>,
    goals_missing: Vec<&'static str>,
    failures: Vec<serde_json::Value>,
    missed_seeds: &'a [u64],
    exit_code: u8,
}

impl SwarmReport {
    /// Seeds that broke nothing and missed nothing.
    pub const fn passed(&self) -> u64 {
        self.seeds - self.failures.len() as u64 - self.missed.len() as u64
    }

    /// Seeds a second of real time.
    pub fn seeds_per_second(&self) -> f64 {
        self.seeds as f64 * 1000.0 / self.elapsed_ms.max(1) as f64
    }

    /// The process's exit code: the worst failure, else whether a goal was missed.
    pub fn exit_code(&self) -> u8 {
        match self.worst_failure() {
            exit::PASS if !self.goals.missing().is_empty() => exit::GOAL,
            code => code,
        }
    }

    /// The exit code of the worst failure alone.
    pub fn worst_failure(&self) -> u8 {
        let codes: Vec<u8> = self.failures.iter().map(|failure| failure.verdict.exit_code()).collect();
        worst(&codes).unwrap_or(exit::PASS)
    }

    /// As one JSON object.
    pub fn json(&self) -> String {
        let failures = self
            .failures
            .iter()
            .map(|failure| serde_json::from_str(&failure.json()).expect("just serialised"));
        let json = SwarmJson {
            start: self.start,
            seeds: self.seeds,
            passed: self.passed(),
            twice: self.twice,
            jobs: self.jobs,
            elapsed_ms: self.elapsed_ms,
            seeds_per_second: self.seeds_per_second(),
            statuses: &self.statuses,
            goals_reached: self.goals.reached(),
            goals_missing: self.goals.missing(),
            failures: failures.collect(),
            missed_seeds: &self.missed,
            exit_code: self.exit_code(),
        };
        serde_json::to_string(&json).expect("strings and numbers always serialise")
    }

    /// For people.
    pub fn human(&self) -> String {
        let mut text = self.human_of_file();
        let missing = self.goals.missing();
        if missing.is_empty() {
            let _ = writeln!(text, "goals: all {} reached", crate::goals::Goal::ALL.len());
        } else {
            let _ = writeln!(
                text,
                "goals never reached: {}; run more seeds or look at scenario.rs",
                missing.join(", ")
            );
        }
        text
    }

    /// The same without the goals, which a scenario file sets itself.
    pub fn human_of_file(&self) -> String {
        let mut text = String::new();
        for failure in self.failures.iter().take(limits::FAILURES_SHOWN_MAX) {
            text.push_str(&failure.human());
        }
        let _ = writeln!(
            text,
            "{} of {} seeds passed ({} run twice, same trace), {:.1} s, {:.0} seeds/s on {} threads",
            self.passed(),
            self.seeds,
            self.twice,
            self.elapsed_ms as f64 / 1000.0,
            self.seeds_per_second(),
            self.jobs
        );
        if !self.missed.is_empty() {
            let seeds: Vec<String> =
                self.missed.iter().take(limits::SEEDS_NAMED_MAX).map(u64::to_string).collect();
            let more = self.missed.len() - seeds.len();
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            let _ = writeln!(
                text,
                "{} of them kept every rule and missed an expectation: seeds {}{rest}",
                self.missed.len(),
                seeds.join(", ")
            );
        }
        let answers: Vec<String> = self.statuses.iter().map(|(word, n)| format!("{word} {n}")).collect();
        let _ = writeln!(text, "answers: {}", answers.join(", "));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::Goal;

    fn failed(verdict: Verdict) -> RunReport {
        RunReport {
            seed: 7,
            file: None,
            canary: Some("clock-goes-back"),
            verdict,
            trace_hash: 0xab,
            virtual_us: 1,
            events: 2,
            statuses: BTreeMap::from([("GRANTED", 3)]),
            goals: Goals::default(),
            figures: Figures::default(),
            samples: None,
            keys: vec!["pay:1".to_owned()],
            regions: vec!["eu".to_owned()],
            text: None,
            story: None,
        }
    }

    fn violation() -> Violation {
        let story = ["first".to_owned(), "second".to_owned()];
        Violation { invariant: "INV-9", clause: "c", key: Some(0), at_us: 5, regions: [1].into(), story }
    }

    #[test]
    fn a_failure_names_invariant_key_story_and_replay() {
        let report = failed(Verdict::Safety(violation()));
        let human = report.human();
        assert!(human.contains("onced-sim explain --seed 7 --canary clock-goes-back"), "{human}");
        for wanted in ["INV-9", "first", "second", "pay:1", "onced-sim run --seed 7 --canary clock-goes-back"]
        {
            assert!(human.contains(wanted), "{human}");
        }
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(json["violation"]["key"], "pay:1");
        assert_eq!(json["trace_hash"], "00000000000000ab");
    }

    #[test]
    fn exit_codes_put_safety_first_and_a_missed_goal_last() {
        let mut swarm = SwarmReport { seeds: 3, ..SwarmReport::default() };
        assert_eq!(swarm.exit_code(), exit::GOAL);
        Goal::ALL.into_iter().for_each(|goal| swarm.goals.reach(goal));
        assert_eq!(swarm.exit_code(), exit::PASS);
        swarm.failures.push(failed(Verdict::Liveness(violation())));
        assert_eq!(swarm.exit_code(), exit::LIVENESS);
        swarm.failures.push(failed(Verdict::Safety(violation())));
        assert_eq!(swarm.exit_code(), exit::SAFETY);
        assert!(swarm.json().contains("\"exit_code\":1"));
    }
}
