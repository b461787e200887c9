//! What of a schedule cannot be done to real processes: said before anything is started.
//!
//! Must never: let a fault through that the run would leave out; its figures would be another scenario's.

use std::collections::BTreeSet;

use crdt::policy::Level;

use crate::faults::Fault;
use crate::schedule::Schedule;

/// Each reason once, with what to do; none if all of it can be played. `clocks`: wall clocks can be set.
pub fn refused(schedule: &Schedule, clocks: bool) -> Vec<String> {
    let mut reasons = BTreeSet::new();
    let faults = schedule.incidents.iter().flat_map(|incident| &incident.faults);
    for (_, fault) in faults {
        if let Some((event, why)) = reason(fault, clocks) {
            reasons.insert(format!(
                "real mode can't play `{event}`: {why}; remove it, or use `onced-sim run` or `measure`"
            ));
        }
    }
    let scenario = &schedule.scenario;
    if !scenario.steps.is_empty() || scenario.newcomers > 0 {
        let text = "real mode can't add or retire regions yet; remove these events and `later` regions, or use `onced-sim run`";
        reasons.insert(text.to_owned());
    }
    if scenario.tight_memory_bytes.is_some() {
        let text =
            "real mode can't play `max_memory` of so few bytes: a daemon's own bound is far above; remove it";
        reasons.insert(text.to_owned());
    }
    if scenario.namespaces.iter().any(|namespace| namespace.level == Level::Home) {
        let text = "real mode can't judge `level = \"home\"` yet: from outside, what another region decided looks like a write of \
                    the region that told it; use `local` or `quorum`, or `onced-sim run` or `measure`";
        reasons.insert(text.to_owned());
    }
    if scenario.sites() < 2 {
        reasons.insert("real mode needs two regions at least: it is about what lies between them".to_owned());
    }
    reasons.into_iter().collect()
}

const DISK: &str = "a process can't be given such a disk without a device of its own";

fn reason(fault: &Fault, clocks: bool) -> Option<(&'static str, &'static str)> {
    Some(match fault {
        Fault::PowerLoss(..) => ("power_loss", "SIGKILL leaves in the kernel what a power cut takes"),
        Fault::SlowDisk(..) => ("slow_disk", DISK),
        Fault::Fuse(..) | Fault::RetryFuse(..) => ("fuse", "nothing counts a process's calls to the disk"),
        Fault::DiskError(..) => ("disk_error", DISK),
        Fault::Full(..) => ("disk_full", DISK),
        Fault::Stall(..) => ("stall", DISK),
        Fault::Rot(..) => ("rot", "which byte it would be differs from process to process"),
        Fault::Clock(..) if !clocks => {
            ("clock", "libfaketime is not on this machine (apt-get install libfaketime)")
        }
        // Named one by one: whoever adds a fault has to say whether processes can have it. `Reload` is refused with its
        // membership.
        Fault::Backup(_) | Fault::Restore(..) => {
            ("restore", "old backups are put back by an operator, with the daemon stopped")
        }
        Fault::Upgrade(..) => ("upgrade", "there is one onced, and one version of what it speaks"),
        Fault::Cut(..)
        | Fault::Mend(_)
        | Fault::Reload(_)
        | Fault::Reset(..)
        | Fault::Crash(..)
        | Fault::DiskLoss(..)
        | Fault::Pause(..)
        | Fault::Clock(..) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Step;
    use crate::faults::Incident;
    use crate::scenario::Scenario;

    fn schedule(faults: &[Fault]) -> Schedule {
        let mut schedule = Schedule::of(Scenario::small(2, 1));
        schedule.incidents = faults.iter().map(|fault| Incident::of(vec![(1, *fault)])).collect();
        schedule
    }

    #[test]
    fn what_processes_can_do_is_let_through() {
        assert_eq!(
            refused(
                &schedule(&[
                    Fault::Crash(0, 5),
                    Fault::DiskLoss(1, 5),
                    Fault::Pause(0, 5),
                    Fault::Reset(0, 1)
                ]),
                false
            ),
            [""; 0]
        );
        assert_eq!(refused(&schedule(&[Fault::Clock(0, Step::To(9))]), true), [""; 0]);
    }

    #[test]
    fn what_they_cannot_do_is_named_once_with_its_reason() {
        let reasons =
            refused(&schedule(&[Fault::Full(0, None), Fault::Full(1, None), Fault::PowerLoss(0, 1)]), false);
        assert!(
            reasons.len() == 2 && reasons[0].contains("`disk_full`") && reasons[1].contains("`power_loss`"),
            "{reasons:?}"
        );
        assert!(refused(&schedule(&[Fault::Clock(0, Step::Calm)]), false)[0].contains("libfaketime"));
        let mut growing = schedule(&[]);
        growing.scenario.newcomers = 1;
        assert!(refused(&growing, true)[0].contains("add or retire"));
    }
}
