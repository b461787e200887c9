//! Keys that say nothing by themselves: what shapes something that is not there is refused, as a misspelt key is. Who
//! writes `every` without `repeat` believes that something happens again, and would take a run in which it does not for
//! the answer to the question.
//!
//! Must never: refuse what changes a run.

use std::ops::Range;

use toml::{Spanned, Value};

use super::checker::{Checker, span_or};
use super::raw::{Leaf, RawEvent, RawFile, RawWorkload};
use crate::habits::{Demand, Habits};

/// One key and where it stands.
type Key<'r> = (&'static str, &'r Leaf);

/// All of a file.
pub(super) fn check(
    checker: &mut Checker<'_>,
    raw: &RawFile,
    habits: &Habits,
    demand: &Demand,
    services: usize,
) {
    for event in &raw.event {
        check_event(checker, event.get_ref(), &event.span());
    }
    for (rate, queue) in raw.link.iter().map(|link| (&link.get_ref().rate, &link.get_ref().queue)) {
        if rate.is_none() && raw.links.rate.is_none() {
            refuse(checker, [("queue", queue)], "waits only where there is a rate; add rate = \"50kB/s\"");
        }
    }
    let limited = raw.links.rate.is_some() || raw.link.iter().any(|link| link.get_ref().rate.is_some());
    if !limited {
        refuse(
            checker,
            [("queue", &raw.links.queue)],
            "waits only where there is a rate; add rate = \"50kB/s\"",
        );
    }
    if raw.keys.is_some() {
        let counts = raw.namespace.iter().map(|namespace| ("keys", &namespace.get_ref().keys));
        refuse(checker, counts, "the file names all keys at its top, in keys = [..]; keep one of the two");
    }
    if let Some(workload) = &raw.workload {
        check_workload(checker, workload.get_ref(), habits, demand, services);
    }
}

fn refuse<'r>(checker: &mut Checker<'_>, keys: impl IntoIterator<Item = Key<'r>>, why: &str) {
    for (key, leaf) in keys {
        if leaf.is_some() {
            let text = format!("{key}: has no effect: {why}, or remove {key}");
            checker.error(&span_or(leaf, &(0..0)), text);
        }
    }
}

fn check_event(checker: &mut Checker<'_>, event: &RawEvent, span: &Range<usize>) {
    let repeats = event.repeat.as_ref().and_then(|leaf| leaf.get_ref().as_integer());
    if event.every.is_some() && repeats.unwrap_or(1) <= 1 {
        let at = span_or(&event.every, span);
        let text = "every: has no effect: it says how far apart the times of repeat are; add repeat = 3, or remove every";
        checker.error(&at, text);
    }
    if event.reloads.is_some() {
        let why = "reloads names a time for each region already; keep one of the two";
        refuse(checker, [("at", &event.at), ("rolling", &event.rolling)], why);
    }
}

fn check_workload(
    checker: &mut Checker<'_>,
    raw: &RawWorkload,
    habits: &Habits,
    demand: &Demand,
    services: usize,
) {
    if services == 0 && demand.rate_per_ks.is_none() {
        let drawn: [Key<'_>; 17] = [
            ("pause", &raw.pause),
            ("work", &raw.work),
            ("zipf", &raw.zipf),
            ("gets", &raw.gets),
            ("forgets", &raw.forgets),
            ("mismatches", &raw.mismatches),
            ("unnamed", &raw.unnamed),
            ("shared", &raw.shared),
            ("short_leases", &raw.short_leases),
            ("vanish", &raw.vanish),
            ("zombies", &raw.zombies),
            ("late_releases", &raw.late_releases),
            ("releases", &raw.releases),
            ("renewals", &raw.renewals),
            ("overtimes", &raw.overtimes),
            ("twins", &raw.twins),
            ("twin_gap", &raw.twin_gap),
        ];
        let why = "it shapes jobs that are drawn, and here only those of [[job]] and [[storm]] happen; add \
                   rate = \"10/s\" or services = 4";
        refuse(checker, drawn, why);
        return;
    }
    if demand.rate_per_ks.is_some() {
        let why = "jobs come at their rate, whoever is at work; write services instead of rate";
        refuse(checker, [("pause", &raw.pause)], why);
    }
    if demand.twins == 0 {
        refuse(checker, [("twin_gap", &raw.twin_gap)], "no claim has a twin; add twins = \"10%\"");
    }
    if habits.completes_again == 0 {
        let why = "no outcome is sent again; add completes_again = \"10%\"";
        refuse(checker, [("other_outcome", &raw.other_outcome)], why);
    }
}

/// What a deed that is asked for by `true` may not be: `false` does nothing.
pub(super) fn check_false(checker: &mut Checker<'_>, leaf: &Option<Spanned<Value>>, key: &str) {
    let Some(leaf) = leaf else { return };
    match leaf.get_ref() {
        Value::Boolean(true) => {}
        Value::Boolean(false) => {
            checker
                .error(&leaf.span(), format!("{key}: false does nothing; write {key} = true, or remove it"));
        }
        _ => checker.error(&leaf.span(), format!("{key}: is said or not; write {key} = true, or remove it")),
    }
}
