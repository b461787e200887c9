//! A schedule in words: one line an event, for people who have not read the code.
//!
//! Must never: leave out what the run depends on without saying so.

use crate::clock::Step;
use crate::faults::{Fault, Incident};
use crate::network::Spread;
use crate::pattern::{Group, Shape};
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::workload::{Claimant, Course, Job, Payload, Then};

/// All jobs and incidents, by when they begin.
pub fn events(schedule: &Schedule) -> Vec<String> {
    let jobs = schedule.jobs.iter().map(|job| (job.at_us, job_words(job, &schedule.scenario)));
    let incidents = schedule
        .incidents
        .iter()
        .map(|incident| (incident.at_us(), incident_words(incident, &schedule.scenario)));
    let mut events: Vec<(u64, String)> = jobs.chain(incidents).collect();
    events.sort();
    events.into_iter().map(|(at_us, words)| format!("{:>9} {words}", seconds(at_us))).collect()
}

/// The shape of a run, in a line.
pub fn shape(scenario: &Scenario) -> String {
    let weather = scenario.weather;
    let mut words = vec![format!("{} regions", scenario.sites())];
    words.push(links_words(scenario));
    if weather.spread == Spread::Heavy {
        words.push("now and then much slower".to_owned());
    }
    if weather.loss + weather.duplicate + weather.reorder + weather.replay > 0 {
        words.push("frames lost, doubled and overtaken".to_owned());
    }
    if let Some(rate) = weather.rate {
        words.push(format!("{} bytes/s", rate.bytes_per_s));
    }
    if let Some((a, b)) = scenario.severed {
        words.push(format!("{} and {} never linked", scenario.name(a), scenario.name(b)));
    }
    for own in &scenario.clocks {
        let offset = own.offset_ms.map_or_else(String::new, |ms| format!(" {ms:+} ms"));
        words.push(format!("clock of {}{offset} {:+} ppm", scenario.name(own.region), own.drift_ppm));
    }
    words.push(format!("max_drift {} ms", scenario.max_drift_ms));
    let healed =
        scenario.core.map_or_else(|| "all".to_owned(), |core| format!("only {}", group(core, scenario)));
    words.push(format!("{healed} healed at {}", seconds(scenario.storm_us)));
    words.join(", ")
}

/// How long the links are: those with a delay of their own first, then all others, if there are any.
fn links_words(scenario: &Scenario) -> String {
    let mut words: Vec<String> = Vec::new();
    let of = |from: usize, to: usize| {
        let own = scenario.links.iter().find(|link| (link.from, link.to) == (from, to))?;
        Some(own.weather.delay_us)
    };
    let pairs = (0..scenario.sites()).flat_map(|a| (a + 1..scenario.sites()).map(move |b| (a, b)));
    let mut others = false;
    for (a, b) in pairs {
        let [there, back] = [of(a, b), of(b, a)];
        others |= there.is_none() || back.is_none();
        let (one, other) = (scenario.name(a), scenario.name(b));
        match (there, back) {
            (Some(there), Some(back)) if there == back => {
                words.push(format!("{one}-{other} {}", duration(there)));
            }
            (there, back) => {
                words.extend(there.map(|us| format!("{one}>{other} {}", duration(us))));
                words.extend(back.map(|us| format!("{other}>{one} {}", duration(us))));
            }
        }
    }
    let more = words.len().saturating_sub(LINKS_SHOWN_MAX);
    words.truncate(LINKS_SHOWN_MAX);
    if more > 0 {
        words.push(format!("{more} more"));
    }
    let rest = match scenario.distances_us {
        Some((near_us, far_us)) => format!("{} to {}", duration(near_us), duration(far_us)),
        None => duration(scenario.weather.delay_us),
    };
    match (words.is_empty(), others) {
        (true, _) => format!("links of {rest}"),
        (false, true) => format!("links {}, others of {rest}", words.join(", ")),
        (false, false) => format!("links {}", words.join(", ")),
    }
}

/// Links with a delay of their own that are listed.
const LINKS_SHOWN_MAX: usize = 6;

fn job_words(job: &Job, scenario: &Scenario) -> String {
    let (region, key) = (scenario.name(job.home), &scenario.keys[job.key]);
    let mut words = match &job.course {
        Course::Get => format!("a service beside {region} looks at {key}"),
        Course::Forget => format!("a service beside {region} has {key} forgotten"),
        Course::Claim { payload, claimant, lease_ms, then } => {
            let payload = match payload {
                Payload::Unsaid => "",
                Payload::Same => " with its payload",
                Payload::Other => " with another payload",
            };
            let claimant = match claimant {
                Claimant::Unnamed => " without a name",
                Claimant::Shared => " under a shared name",
                Claimant::Own => "",
            };
            let then = then_words(*then);
            format!("a service beside {region} claims {key}{payload}{claimant} for {lease_ms} ms, {then}")
        }
    };
    words.push_str(&format!(" (job {})", job.number));
    words
}

fn then_words(then: Then) -> String {
    match then {
        Then::Complete(after_us) => format!("completes after {}", duration(after_us)),
        Then::Renew(times) => format!("renews {times} times, then completes"),
        Then::Release(after_us) => format!("gives it back after {}", duration(after_us)),
        Then::Vanish => "and is never heard of again".to_owned(),
        Then::CompleteLate(after_us) => format!("hangs, completes after {}", duration(after_us)),
        Then::ReleaseLate(after_us) => format!("hangs, gives it back after {}", duration(after_us)),
    }
}

fn incident_words(incident: &Incident, scenario: &Scenario) -> String {
    let began_us = incident.at_us();
    let words = incident.faults.iter().map(|(at_us, fault)| {
        let after =
            if *at_us > began_us { format!("after {} ", duration(at_us - began_us)) } else { String::new() };
        after + &fault_words(fault, scenario)
    });
    words.collect::<Vec<_>>().join("; ")
}

fn fault_words(fault: &Fault, scenario: &Scenario) -> String {
    let name = |at: usize| scenario.name(at);
    match *fault {
        Fault::Cut(pattern, _) => format!("cut: {}", shape_words(pattern.shape, scenario)),
        Fault::Mend(_) => "mended".to_owned(),
        Fault::Reload(at) => format!("{} takes up its next membership", name(at)),
        Fault::Reset(a, b) => format!("the session of {} and {} breaks", name(a), name(b)),
        Fault::Crash(at, us) => format!("{} crashes, back after {}", name(at), duration(us)),
        Fault::PowerLoss(at, us) => format!("{} loses power, back after {}", name(at), duration(us)),
        Fault::DiskLoss(at, us) => format!("{} loses its disk, back empty after {}", name(at), duration(us)),
        Fault::Clock(at, step) => format!("the clock of {} steps {}", name(at), step_words(step)),
        Fault::SlowDisk(at, 1) => format!("the disk of {} is as fast as before", name(at)),
        Fault::SlowDisk(at, times) => format!("the disk of {} is {times} times slower", name(at)),
        Fault::Fuse(at, calls, power, us) => {
            let how = if power { "loses power" } else { "crashes" };
            format!("{} {how} after {calls} calls to its disk, back after {}", name(at), duration(us))
        }
        Fault::RetryFuse(at, calls, power, us) => {
            let how = if power { "loses power" } else { "crashes" };
            let when = "calls to its disk of a checkpoint that is tried again";
            format!("{} {how} after {calls} {when}, back after {}", name(at), duration(us))
        }
        Fault::DiskError(at, call, after) => format!("{call:?} no. {after} of {} fails", name(at)),
        Fault::Full(at, Some(bytes)) => format!("the disk of {} has {bytes} bytes left", name(at)),
        Fault::Full(at, None) => format!("the disk of {} has room again", name(at)),
        Fault::Stall(at, us) => format!("no sync of {} returns for {}", name(at), duration(us)),
        Fault::Pause(at, us) => format!("{} stands still for {}", name(at), duration(us)),
        Fault::Backup(at) => format!("the data of {} is copied", name(at)),
        Fault::Restore(at, us) => {
            format!("{} is put back to its last copy, back after {}", name(at), duration(us))
        }
        Fault::Upgrade(at, us) => format!("{} is upgraded, back after {}", name(at), duration(us)),
        Fault::Rot(at, _) => format!("a bit turns over on the disk of {}", name(at)),
    }
}

fn step_words(step: Step) -> String {
    let words = match step {
        Step::Calm => "within the bound",
        Step::Edge => "to the bound",
        Step::Behind => "behind, beyond the bound",
        Step::Beyond => "beyond the bound",
        Step::To(ms) => return format!("to {ms:+} ms beside the true time"),
    };
    words.to_owned()
}

fn shape_words(shape: Shape, scenario: &Scenario) -> String {
    let group = |regions| group(regions, scenario);
    match shape {
        Shape::Between(ones, others) => format!("{} | {}", group(ones), group(others)),
        Shape::OneWay(ones, others) => format!("from {} to {}", group(ones), group(others)),
        Shape::Ring(reach) => format!("in a ring, all but the next {reach} on either side"),
        Shape::Everywhere => "all links".to_owned(),
    }
}

fn group(group: Group, scenario: &Scenario) -> String {
    group.regions().map(|at| scenario.name(at)).collect::<Vec<_>>().join(" ")
}

fn seconds(us: u64) -> String {
    format!("{}.{:03} s", us / 1_000_000, us / 1_000 % 1_000)
}

fn duration(us: u64) -> String {
    match us {
        0..10_000 => format!("{us} us"),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => seconds(us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_many_seeds_has_a_line_of_its_own() {
        for seed in 0..100 {
            let schedule = Schedule::draw(seed);
            let lines = events(&schedule);
            assert_eq!(lines.len(), schedule.len());
            assert!(lines.iter().all(|line| line.contains(" s ") && !line.contains('\n')), "{lines:?}");
            assert!(shape(&schedule.scenario).contains("regions"));
        }
    }

    #[test]
    fn links_of_their_own_are_named_and_not_the_delay_that_none_has() {
        let plan = |more: &str| {
            let regions = "region = [{ name = \"eu\" }, { name = \"us\" }]\n[links]\ndelay = \"20ms\"\n";
            crate::file::parse("links", &(regions.to_owned() + more)).expect("a scenario").schedule(1)
        };
        let words = |more| shape(&plan(more).scenario);
        assert!(words("").contains("links of 20 ms"), "{}", words(""));
        let both = "[[link]]\nbetween = [\"eu\", \"us\"]\ndelay = \"35ms\"\n";
        assert!(words(both).contains("links eu-us 35 ms,"), "{}", words(both));
        let one = "[[link]]\nfrom = \"us\"\nto = \"eu\"\ndelay = \"35ms\"\n";
        assert!(words(one).contains("links us>eu 35 ms, others of 20 ms"), "{}", words(one));
    }
}
