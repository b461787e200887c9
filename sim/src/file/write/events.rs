//! Incidents as lines of a list, folded where that loses nothing.

use std::fmt::Write as _;

use super::super::groups;
use super::super::units::Unit;
use super::{quoted, time};
use crate::clock::Step as ClockStep;
use crate::disk::Call;
use crate::faults::{self, Fault, Incident};
use crate::pattern::{Group, Pattern, Shape, Spell};
use crate::schedule::Schedule;

/// `event = [ … ]`.
pub(super) fn write(schedule: &Schedule, names: &[String]) -> Result<String, String> {
    let mut text = "\nevent = [\n".to_owned();
    let memberships = faults::memberships(&schedule.scenario);
    let mut changes = memberships.is_none();
    for incident in &schedule.incidents {
        if incident.is_membership() {
            if changes || Some(incident) != memberships.as_ref() {
                return Err("the reloads of its regions are not those of its steps".to_owned());
            }
            changes = true;
            text += &memberships_text(schedule, names);
            continue;
        }
        let _ = writeln!(text, "  {{ {} }},", line(incident, names));
    }
    if !changes {
        return Err("it has steps of membership that no region takes up".to_owned());
    }
    Ok(text + "]\n")
}

fn memberships_text(schedule: &Schedule, names: &[String]) -> String {
    let (mut text, mut before) = (String::new(), Group::of(0..schedule.scenario.regions));
    for step in &schedule.scenario.steps {
        let changed =
            (0..names.len()).find(|at| before.has(*at) != step.members.has(*at)).unwrap_or_default();
        let (joins, name) = (step.members.has(changed), quoted(&names[changed]));
        let reloads: Vec<String> = step.reloads_us.iter().map(|us| time(*us)).collect();
        let verb = if joins { "add" } else { "retire" };
        let fresh = if joins && step.fresh { ", fresh = true" } else { "" };
        let _ = writeln!(text, "  {{ {verb} = {name}{fresh}, reloads = [{}] }},", reloads.join(", "));
        before = step.members;
    }
    text
}

fn line(incident: &Incident, names: &[String]) -> String {
    let begin_us = incident.at_us();
    let mut line = format!("at = {}", time(begin_us));
    if let Some(folded) = fold(incident, names) {
        let _ = write!(line, ", {folded}");
        return line;
    }
    let mut faults = incident.faults.iter();
    if let Some((_, first)) = faults.next() {
        let _ = write!(line, ", {}", words(first, names));
    }
    let more: Vec<String> = faults
        .map(|(at_us, fault)| format!("{{ after = {}, {} }}", time(at_us - begin_us), words(fault, names)))
        .collect();
    if !more.is_empty() {
        let _ = write!(line, ", and = [{}]", more.join(", "));
    }
    line
}

/// Something with its end, in one breath; `None` where it is not just that.
fn fold(incident: &Incident, names: &[String]) -> Option<String> {
    let (begin_us, first) = incident.faults.first()?;
    let (end_us, last) = incident.faults.last()?;
    let lasts = time(end_us - begin_us);
    if end_us == begin_us {
        return None;
    }
    let folded = match (first, last) {
        (Fault::Cut(pattern, 0), Fault::Mend(end)) if pattern == end => {
            let mut faults = Vec::new();
            // The last turn ends with the spell, or a whole turn before it; either way it is told by its end.
            faults::cast(Spell { pattern: *pattern, from_us: *begin_us, until_us: *end_us }, &mut faults);
            return (Incident::of(faults) == *incident)
                .then(|| format!("{}, for = {lasts}", pattern_words(*pattern, names)));
        }
        (Fault::Clock(a, step), Fault::Clock(b, ClockStep::Calm)) if a == b && *step != ClockStep::Calm => {
            first
        }
        (Fault::SlowDisk(a, _), Fault::SlowDisk(b, 1)) if a == b => first,
        (Fault::Full(a, Some(_)), Fault::Full(b, None)) if a == b => first,
        _ => return None,
    };
    (incident.faults.len() == 2).then(|| format!("{}, for = {lasts}", words(folded, names)))
}

fn pattern_words(pattern: Pattern, names: &[String]) -> String {
    let mut text = match pattern.shape {
        Shape::Between(ones, others) => {
            format!("partition = {}", quoted(&groups::render(ones, others, '|', names)))
        }
        Shape::OneWay(ones, others) => {
            format!("one_way = {}", quoted(&groups::render(ones, others, '>', names)))
        }
        Shape::Ring(reach) => format!("ring = {reach}"),
        Shape::Everywhere => "everywhere = true".to_owned(),
    };
    if pattern.flap_us > 0 {
        let _ = write!(text, ", flap = {}", time(pattern.flap_us));
    }
    text
}

/// One fault by itself.
fn words(fault: &Fault, names: &[String]) -> String {
    let name = |region: usize| quoted(&names[region]);
    match *fault {
        Fault::Cut(pattern, turn) => format!("{}, turn = {turn}", pattern_words(pattern, names)),
        Fault::Mend(pattern) => format!("{}, mend = true", pattern_words(pattern, names)),
        Fault::Reload(region) => format!("reload = {}", name(region)),
        Fault::Reset(a, b) => format!("reset = [{}, {}]", name(a), name(b)),
        Fault::Crash(region, us) => format!("crash = {}, down = {}", name(region), time(us)),
        Fault::PowerLoss(region, us) => format!("power_loss = {}, down = {}", name(region), time(us)),
        Fault::DiskLoss(region, us) => format!("wipe = {}, down = {}", name(region), time(us)),
        Fault::Clock(region, step) => {
            let set = match step {
                ClockStep::Calm => "calm".to_owned(),
                ClockStep::Edge => "edge".to_owned(),
                ClockStep::Behind => "behind".to_owned(),
                ClockStep::Beyond => "beyond".to_owned(),
                ClockStep::To(ms) => {
                    let sign = if ms < 0 { '-' } else { '+' };
                    format!("{sign}{}", Unit::Time.render(ms.unsigned_abs() * 1_000))
                }
            };
            format!("clock = {}, set = {}", name(region), quoted(&set))
        }
        Fault::SlowDisk(region, times) => format!("slow_disk = {}, times = {times}", name(region)),
        Fault::Fuse(region, calls, power, us) => fuse("fuse", &name(region), (calls, power, us)),
        Fault::RetryFuse(region, calls, power, us) => fuse("retry_fuse", &name(region), (calls, power, us)),
        Fault::DiskError(region, call, calls) => {
            let call = match call {
                Call::Write => "write",
                Call::Sync => "sync",
                Call::SyncFolder => "sync_folder",
            };
            format!("disk_error = {}, call = {}, calls = {calls}", name(region), quoted(call))
        }
        Fault::Full(region, Some(bytes)) => {
            format!("full_disk = {}, room = {}", name(region), quoted(&Unit::Size.render(bytes as u64)))
        }
        Fault::Full(region, None) => format!("disk_freed = {}", name(region)),
        Fault::Stall(region, us) => format!("stall = {}, for = {}", name(region), time(us)),
        Fault::Pause(region, us) => format!("pause = {}, for = {}", name(region), time(us)),
        Fault::Backup(region) => format!("backup = {}", name(region)),
        Fault::Restore(region, us) => format!("restore = {}, down = {}", name(region), time(us)),
        Fault::Upgrade(region, us) => format!("upgrade = {}, down = {}", name(region), time(us)),
        Fault::Rot(region, which) => format!("rot = {}, bit = \"0x{which:x}\"", name(region)),
    }
}

fn fuse(key: &str, region: &str, (calls, power, us): (u64, bool, u64)) -> String {
    format!("{key} = {region}, calls = {calls}, power = {power}, down = {}", time(us))
}
