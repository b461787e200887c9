//! A run before it happens: what is asked and what breaks, and when, as data.
//!
//! The seed makes the schedule and the schedule makes the run. So a run can be made smaller by taking out what does not
//! matter ([`crate::shrink`]): incidents are data, what a job draws while it runs is from a stream of its own, and the others stay
//! what they were.
//!
//! Must never: be changed by the run.

use crate::faults::{self, Incident};
use crate::scenario::Scenario;
use crate::workload::{self, Job};

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The shape of the run.
    pub scenario: Scenario,
    /// What breaks, by when it begins.
    pub incidents: Vec<Incident>,
    /// What is asked, by when it begins.
    pub jobs: Vec<Job>,
}

impl Schedule {
    /// The schedule of `seed`.
    pub fn draw(seed: u64) -> Self {
        Self::of(Scenario::draw(seed))
    }

    /// The schedule of a scenario.
    pub fn of(scenario: Scenario) -> Self {
        let (incidents, jobs) = (faults::draw(&scenario), workload::draw(&scenario));
        Self { scenario, incidents, jobs }
    }

    /// How much happens in it: jobs and incidents.
    pub const fn len(&self) -> usize {
        self.incidents.len() + self.jobs.len()
    }

    /// Whether nothing does.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
