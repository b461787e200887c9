//! Jobs as lines of a list: a schedule has hundreds, and is read by eye.

use std::fmt::Write as _;

use super::{quoted, time};
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::workload::{Claimant, Course, Job, Payload, Then};

/// `job = [ … ]`.
pub(super) fn write(schedule: &Schedule, names: &[String]) -> String {
    let mut text = "\njob = [\n".to_owned();
    for job in &schedule.jobs {
        let _ = writeln!(text, "  {{ {} }},", line(job, &schedule.scenario, names));
    }
    text + "]\n"
}

fn line(job: &Job, scenario: &Scenario, names: &[String]) -> String {
    let Job { number, at_us, home, key, course } = job;
    let (at, region, name) = (time(*at_us), quoted(&names[*home]), quoted(&scenario.keys[*key]));
    let mut line = format!("at = {at}, number = {number}, region = {region}, key = {name}");
    let Course::Claim { payload, claimant, lease_ms, then } = course else {
        line += if *course == Course::Get { ", do = \"get\"" } else { ", do = \"forget\"" };
        return line;
    };
    match payload {
        Payload::Same => {}
        Payload::Other => line += ", payload = \"other\"",
        Payload::Unsaid => line += ", payload = \"unsaid\"",
    }
    match claimant {
        Claimant::Own => {}
        Claimant::Shared => line += ", claimant = \"shared\"",
        Claimant::Unnamed => line += ", claimant = \"none\"",
    }
    if *lease_ms != scenario.namespaces[scenario.namespace_of[*key]].lease_ms {
        let _ = write!(line, ", lease = {}", time(lease_ms * 1_000));
    }
    let (word, after_us) = match then {
        Then::Complete(after_us) => ("complete", Some(after_us)),
        Then::Release(after_us) => ("release", Some(after_us)),
        Then::CompleteLate(after_us) => ("complete_late", Some(after_us)),
        Then::ReleaseLate(after_us) => ("release_late", Some(after_us)),
        Then::Renew(_) => ("renew", None),
        Then::Vanish => ("vanish", None),
    };
    let _ = write!(line, ", then = {}", quoted(word));
    if let Then::Renew(times) = then {
        let _ = write!(line, ", times = {times}");
    }
    if let Some(after_us) = after_us {
        let _ = write!(line, ", after = {}", time(*after_us));
    }
    line
}
