//! `[[event]]`: the time line of a scenario, checked; and what it becomes for a seed.
//!
//! An event is what happens together and is left out together ([`Incident`]): one deed, and with `and = [..]` further
//! ones some time after it. Changes of membership are no incidents of their own, since one rests on the one before.

use std::ops::Range;

use toml::Spanned;

use super::checker::{Checker, span_or};
use super::deeds::{Deed, Down, Part};
use super::ranged::Ranged;
use super::raw::{Leaf, RawEvent};
use super::units::Unit;
use crate::clock::Step as ClockStep;
use crate::disk::Call;
use crate::faults::{Fault, Incident};
use crate::limits;
use crate::membership::Step;
use crate::pattern::{Group, Pattern};
use crate::scenario::Scenario;

/// One entry of the time line.
#[derive(Clone, Debug)]
pub(super) enum Planned {
    /// Something breaks.
    Event {
        at_us: Ranged,
        parts: Vec<Part>,
        /// How often, and how far apart.
        repeat: u64,
        every_us: u64,
    },
    /// A region joins or leaves.
    Change(Change),
}

/// See [`Step`].
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub at_us: Ranged,
    pub region: usize,
    pub joins: bool,
    pub fresh: bool,
    /// How long after `at` each region's operator reloads.
    pub rolling_us: Ranged,
    /// By region, where the file says it itself.
    pub reloads_us: Option<Vec<u64>>,
}

impl Planned {
    /// How many incidents it becomes.
    pub(super) const fn incidents(&self) -> usize {
        match self {
            Self::Event { repeat, .. } => *repeat as usize,
            Self::Change(_) => 0,
        }
    }
}

/// What the time line becomes for a seed.
pub(super) fn expand(events: &[Planned], seed: u64, scenario: &Scenario) -> (Vec<Incident>, Vec<Step>) {
    let (mut incidents, mut steps) = (Vec::new(), Vec::new());
    let mut members = Group::of(0..scenario.regions);
    for event in events {
        match event {
            Planned::Event { at_us, parts, repeat, every_us } => {
                for nth in 0..*repeat {
                    let begin_us = at_us.draw_nth(seed, nth) + nth * every_us;
                    let mut faults: Vec<(u64, Fault)> = Vec::new();
                    for part in parts {
                        part.faults(begin_us, (seed, nth), scenario.storm_us, &mut faults);
                    }
                    incidents.push(Incident::of(faults));
                }
            }
            Planned::Change(change) => {
                let Change { region, fresh, .. } = *change;
                members = if change.joins { members.with(region) } else { members.without(region) };
                // Whoever has not reloaded by the end would never.
                let reload = |site: usize| {
                    let at_us = change.at_us.draw(seed);
                    let rolled_us = at_us + change.rolling_us.draw_nth(seed, 1 + site as u64);
                    rolled_us.min(scenario.storm_us.max(at_us))
                };
                let reloads_us =
                    change.reloads_us.clone().unwrap_or_else(|| (0..scenario.sites()).map(reload).collect());
                steps.push(Step { members, fresh, reloads_us });
            }
        }
    }
    (incidents, steps)
}

/// Everything that a deed could be asked for, with its own key.
type Ask = (&'static str, fn(&RawEvent) -> &Leaf);
const DEEDS: [Ask; 26] = [
    ("partition", |raw| &raw.partition),
    ("one_way", |raw| &raw.one_way),
    ("ring", |raw| &raw.ring),
    ("everywhere", |raw| &raw.everywhere),
    ("pattern", |raw| &raw.pattern),
    ("reset", |raw| &raw.reset),
    ("swizzle", |raw| &raw.swizzle),
    ("pause", |raw| &raw.pause),
    ("crash", |raw| &raw.crash),
    ("power_loss", |raw| &raw.power_loss),
    ("wipe", |raw| &raw.wipe),
    ("backup", |raw| &raw.backup),
    ("restore", |raw| &raw.restore),
    ("upgrade", |raw| &raw.upgrade),
    ("clock", |raw| &raw.clock),
    ("slow_disk", |raw| &raw.slow_disk),
    ("full_disk", |raw| &raw.full_disk),
    ("disk_freed", |raw| &raw.disk_freed),
    ("stall", |raw| &raw.stall),
    ("fuse", |raw| &raw.fuse),
    ("retry_fuse", |raw| &raw.retry_fuse),
    ("disk_error", |raw| &raw.disk_error),
    ("rot", |raw| &raw.rot),
    ("reload", |raw| &raw.reload),
    ("add", |raw| &raw.add),
    ("retire", |raw| &raw.retire),
];

/// What says more about a deed, and which deeds it is for.
type Detail = (&'static str, fn(&RawEvent) -> &Leaf, &'static [&'static str]);
const DETAILS: [Detail; 16] = [
    ("flap", |raw| &raw.flap, &["partition", "one_way", "ring", "everywhere"]),
    ("turn", |raw| &raw.turn, &["partition", "one_way", "ring", "everywhere", "pattern"]),
    ("mend", |raw| &raw.mend, &["partition", "one_way", "ring", "everywhere", "pattern"]),
    ("down", |raw| &raw.down, &["crash", "power_loss", "wipe", "restore", "upgrade", "fuse", "retry_fuse"]),
    ("from", |raw| &raw.from, &["restore"]),
    ("apart", |raw| &raw.apart, &["upgrade"]),
    ("set", |raw| &raw.set, &["clock"]),
    ("times", |raw| &raw.times, &["slow_disk"]),
    ("room", |raw| &raw.room, &["full_disk"]),
    ("calls", |raw| &raw.calls, &["fuse", "retry_fuse", "disk_error"]),
    ("power", |raw| &raw.power, &["fuse", "retry_fuse"]),
    ("call", |raw| &raw.call, &["disk_error"]),
    ("bit", |raw| &raw.bit, &["rot"]),
    ("fresh", |raw| &raw.fresh, &["add"]),
    ("rolling", |raw| &raw.rolling, &["add", "retire"]),
    ("reloads", |raw| &raw.reloads, &["add", "retire"]),
];

/// Reads the time line.
pub(super) struct Reader<'c, 's> {
    pub checker: &'c mut Checker<'s>,
    pub regions: &'c [String],
    pub members: usize,
    /// The least that the run lasts, microseconds.
    pub duration_us: u64,
    /// The least bound between clocks.
    pub max_drift_ms: u64,
    /// Patterns that are cut somewhere, and those that are mended and where.
    pub cuts: Vec<Pattern>,
    pub mends: Vec<(Range<usize>, Pattern)>,
    /// When the deed that is being read happens at the earliest, microseconds.
    pub begins_us: Option<u64>,
    /// Regions that are copied, and those that are put back to a copy taken by another event, and where that stands.
    pub copied: Group,
    pub put_back: Vec<(Range<usize>, usize)>,
    /// Regions that are upgraded.
    pub upgraded: Group,
}

impl Reader<'_, '_> {
    /// Every event, in the order of the file.
    pub(super) fn read(&mut self, raw: &[Spanned<RawEvent>]) -> Vec<Planned> {
        let mut members = Group::of(0..self.members);
        let mut planned = Vec::new();
        for (number, event) in raw.iter().enumerate() {
            self.checker.place = format!("event/{number}");
            let (event, span) = (event.get_ref(), event.span());
            if event.add.is_some() || event.retire.is_some() {
                planned.extend(self.change(event, &span, &mut members).map(Planned::Change));
            } else {
                planned.extend(self.event(event, &span));
            }
        }
        self.check_rot(raw);
        self.check_mends();
        self.check_backups();
        let reloads = raw.iter().find(|event| event.get_ref().reload.is_some());
        if let Some(event) =
            reloads.filter(|_| !planned.iter().any(|event| matches!(event, Planned::Change(_))))
        {
            let text = "reload: no membership changes in this scenario; add an event with add or retire, or remove it";
            self.checker.error(&event.span(), text);
        }
        planned
    }

    fn at(&mut self, leaf: &Leaf, span: &Range<usize>) -> Option<Ranged> {
        self.checker.present(leaf, "at", span, "at = \"30s\", a time after the start");
        self.checker.time_of_run(leaf, self.duration_us)
    }

    fn event(&mut self, raw: &RawEvent, span: &Range<usize>) -> Option<Planned> {
        if raw.after.is_some() {
            let at = span_or(&raw.after, span);
            self.checker.error(&at, "after: is for what stands in and = [..]; write at");
        }
        let at_us = self.at(&raw.at, span);
        self.begins_us = at_us.map(|at_us| at_us.low);
        let mut parts = vec![self.part(raw, span, Ranged::fixed(0))];
        let place = self.checker.place.clone();
        for (number, more) in raw.and.iter().enumerate() {
            self.checker.place = format!("{place}/and/{number}");
            let (more, span) = (more.get_ref(), more.span());
            for (key, leaf) in [("at", &more.at), ("repeat", &more.repeat), ("every", &more.every)] {
                if leaf.is_some() {
                    let at = span_or(leaf, &span);
                    self.checker.error(&at, format!("{key}: is for the event as a whole; write after here"));
                }
            }
            let after = self.checker.ranged_or(&more.after, "after", Unit::Time, 0..=limits::FILE_US_MAX, 0);
            self.begins_us = at_us.map(|at_us| at_us.low.saturating_add(after.low));
            parts.push(self.part(more, &span, after));
        }
        let repeat = self.checker.fixed(&raw.repeat, "repeat", Unit::Count, 1..=1_000).unwrap_or(1);
        if repeat > 1 {
            self.checker.present(&raw.every, "every", span, "every = \"10s\", from one to the next");
        }
        let every_us = self.checker.fixed(&raw.every, "every", Unit::Time, 1..=limits::FILE_US_MAX);
        let (at_us, every_us) = (at_us?, every_us.unwrap_or(0));
        if at_us.high.saturating_add((repeat - 1) * every_us) > self.duration_us {
            let at = span_or(&raw.repeat, span);
            let text = "repeat: the last one comes after the end; repeat it less often, or raise duration";
            self.checker.error(&at, text);
        }
        let parts = parts.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Planned::Event { at_us, parts, repeat, every_us })
    }

    fn part(&mut self, raw: &RawEvent, span: &Range<usize>, after_us: Ranged) -> Option<Part> {
        let asked: Vec<&Ask> = DEEDS.iter().filter(|(_, leaf)| leaf(raw).is_some()).collect();
        let [(key, leaf)] = asked.as_slice() else {
            let all = DEEDS.iter().map(|(key, _)| *key).collect::<Vec<_>>().join(", ");
            let text = match asked.get(1) {
                None => match DETAILS.iter().find(|(_, leaf, _)| leaf(raw).is_some()) {
                    Some((detail, _, deeds)) => {
                        let deeds = deeds.join(", ");
                        format!("{detail}: does nothing by itself; say of what with one of {deeds}")
                    }
                    None => format!("the event does nothing; say what with one of {all}"),
                },
                Some((second, _)) => {
                    format!("{second}: an event does one thing; put this one into and = [{{ {second} = … }}]")
                }
            };
            let at = asked.get(1).map_or_else(|| span.clone(), |(_, leaf)| span_or(leaf(raw), span));
            self.checker.error(&at, text);
            return None;
        };
        self.details(key, raw, span);
        let deed = match *key {
            "restore" => self.restore(leaf(raw), raw, span)?,
            "upgrade" => self.upgrade(leaf(raw), raw, span)?,
            "swizzle" => self.swizzle(leaf(raw), raw, span)?,
            _ => self.deed(key, leaf(raw), raw, span)?,
        };
        let lasts_us = self.checker.ranged(&raw.r#for, "for", Unit::Time, 1..=limits::FILE_US_MAX);
        if raw.r#for.is_some() && !deed.lasts() {
            let at = span_or(&raw.r#for, span);
            self.checker.error(&at, format!("for: {key} does not last; {}", instead_of_for(key)));
        }
        if matches!(deed, Deed::Stall(_) | Deed::Pause(_)) {
            self.checker.present(&raw.r#for, "for", span, "for = \"2s\"");
        }
        Some(Part { after_us, deed, lasts_us })
    }

    /// What says more about a deed must be about this one.
    fn details(&mut self, key: &str, raw: &RawEvent, span: &Range<usize>) {
        for (detail, leaf, deeds) in DETAILS.iter().filter(|(_, leaf, _)| leaf(raw).is_some()) {
            if !deeds.contains(&key) {
                let (at, deeds) = (span_or(leaf(raw), span), deeds.join(", "));
                self.checker
                    .error(&at, format!("{detail}: means nothing for {key}, only for {deeds}; remove it"));
            }
        }
    }

    fn deed(&mut self, key: &str, leaf: &Leaf, raw: &RawEvent, span: &Range<usize>) -> Option<Deed> {
        match key {
            "partition" | "one_way" | "ring" | "everywhere" | "pattern" => return self.links(key, leaf, raw),
            "reset" => {
                let (names, at) = self.checker.texts(leaf, key)?;
                let ends: Vec<usize> = names.iter().filter_map(|name| self.named(name, key, &at)).collect();
                let &[a, b] = ends.as_slice() else {
                    self.checker.error(&at, "reset: names one link; write reset = [\"eu\", \"us\"]");
                    return None;
                };
                return Some(Deed::Reset(a, b));
            }
            _ => {}
        }
        let region = self.region(leaf, key)?;
        let calls =
            |checker: &mut Checker<'_>| checker.ranged_or(&raw.calls, "calls", Unit::Count, 0..=100_000, 0);
        Some(match key {
            "crash" => Deed::Down(Down::Process, region, self.down(raw, span, 1)?),
            "power_loss" => Deed::Down(Down::Power, region, self.down(raw, span, 1)?),
            "wipe" => Deed::Down(Down::Disk, region, self.down(raw, span, limits::REBIRTH_US)?),
            "pause" => Deed::Pause(region),
            "backup" => {
                self.copied = self.copied.with(region);
                Deed::Backup(region)
            }
            "clock" => Deed::Clock(region, self.clock(&raw.set, span)?),
            "slow_disk" => Deed::SlowDisk(
                region,
                self.checker.ranged_or(&raw.times, "times", Unit::Count, 1..=10_000, 20),
            ),
            "full_disk" => {
                let room = self.checker.ranged_or(&raw.room, "room", Unit::Size, 0..=1 << 40, 0);
                Deed::Full(region, Some(room))
            }
            "disk_freed" => Deed::Full(region, None),
            "stall" => Deed::Stall(region),
            "fuse" | "retry_fuse" => Deed::Fuse {
                retry: key == "retry_fuse",
                region,
                calls: calls(self.checker),
                power: self.checker.truth(&raw.power, "power", false),
                down_us: self.down(raw, span, 1)?,
            },
            "disk_error" => {
                let words = [("sync", Call::Sync), ("write", Call::Write), ("sync_folder", Call::SyncFolder)];
                let call = self.checker.word(&raw.call, "call", &words).unwrap_or(Call::Sync);
                Deed::DiskError(region, call, calls(self.checker))
            }
            "rot" => Deed::Rot(region, self.bit(&raw.bit)),
            _ => Deed::Reload(region),
        })
    }

    /// An old copy of a region's data is put back: that of an event `backup`, or one taken at `from`.
    fn restore(&mut self, leaf: &Leaf, raw: &RawEvent, span: &Range<usize>) -> Option<Deed> {
        let region = self.region(leaf, "restore")?;
        let down_us = self.down(raw, span, limits::REBIRTH_US)?;
        let from_us = self.checker.ranged(&raw.from, "from", Unit::Time, 0..=limits::FILE_US_MAX);
        if raw.from.is_none() {
            self.put_back.push((span_or(leaf, span), region));
        }
        let begins_us = self.begins_us;
        if let (Some(from_us), Some(at_us)) = (from_us, begins_us)
            && from_us.high > at_us
        {
            let at = Unit::Time.render(at_us);
            let text =
                format!("from: the copy is put back from {at} on; write an earlier time, when it was taken");
            self.checker.error(&span_or(&raw.from, span), text);
        }
        Some(Deed::Restore(region, from_us, down_us))
    }

    /// Regions go from one version to the next, one after the other.
    fn upgrade(&mut self, leaf: &Leaf, raw: &RawEvent, span: &Range<usize>) -> Option<Deed> {
        let (names, at) = self.checker.texts(leaf, "upgrade")?;
        let regions: Vec<usize> = names.iter().filter_map(|name| self.named(name, "upgrade", &at)).collect();
        for region in &regions {
            if self.upgraded.has(*region) {
                let name = &self.regions[*region];
                let text = format!(
                    "upgrade: {name:?} is upgraded twice, and versions that are two apart do not speak with each other; once is all"
                );
                self.checker.error(&at, text);
            }
            self.upgraded = self.upgraded.with(*region);
        }
        if raw.repeat.is_some() {
            self.checker.error(&span_or(&raw.repeat, span), "repeat: an upgrade happens once; remove it");
        }
        if raw.apart.is_some() && regions.len() < 2 {
            let text =
                "apart: has no effect: it says how far apart several regions follow; name them, or remove it";
            self.checker.error(&span_or(&raw.apart, span), text);
        }
        let times = 0..=limits::FILE_US_MAX;
        let apart_us = self.checker.ranged_or(&raw.apart, "apart", Unit::Time, times, UPGRADES_APART_US);
        Some(Deed::Upgrade(regions, self.down(raw, span, 1)?, apart_us))
    }

    /// What is put back must have been copied.
    fn check_backups(&mut self) {
        for (at, region) in std::mem::take(&mut self.put_back) {
            if !self.copied.has(region) {
                let name = &self.regions[region];
                let text = format!(
                    "restore: there is no copy of {name:?}; say when it was taken, from = \"10s\", or add an event with backup = {name:?}"
                );
                self.checker.error(&at, text);
            }
        }
    }

    fn down(&mut self, raw: &RawEvent, span: &Range<usize>, least_us: u64) -> Option<Ranged> {
        self.checker.present(&raw.down, "down", span, "down = \"2s\", until it starts again");
        self.checker.ranged(&raw.down, "down", Unit::Time, least_us..=limits::FILE_US_MAX)
    }

    fn clock(&mut self, leaf: &Leaf, span: &Range<usize>) -> Option<ClockStep> {
        let (text, at) = self.checker.required_text(leaf, "set", span, "set = \"+150ms\"")?;
        match text {
            "calm" => return Some(ClockStep::Calm),
            "edge" => return Some(ClockStep::Edge),
            "behind" => return Some(ClockStep::Behind),
            "beyond" => return Some(ClockStep::Beyond),
            _ => {}
        }
        let (behind, amount) = match text.strip_prefix('-') {
            Some(amount) => (true, amount),
            None => (false, text.strip_prefix('+').unwrap_or_default()),
        };
        let Some(us) = Unit::Time.parse(amount).filter(|us| us.is_multiple_of(1_000)) else {
            let text = format!(
                "set: {text:?} is no time of a clock; write \"+150ms\" or \"-2s\" (beside the true time, in whole \
                 milliseconds), \"calm\", \"edge\", \"behind\" or \"beyond\""
            );
            self.checker.error(&at, text);
            return None;
        };
        let most_ms = limits::SKEW_TIMES_MAX * self.max_drift_ms;
        if us / 1_000 > most_ms {
            let text = format!(
                "set: {text:?} is more than {} times max_drift, which is more than is tried; write at most \"{}\"",
                limits::SKEW_TIMES_MAX,
                Unit::Time.render(most_ms * 1_000)
            );
            self.checker.error(&at, text);
        }
        let ms = (us / 1_000) as i64;
        Some(ClockStep::To(if behind { -ms } else { ms }))
    }

    fn bit(&mut self, leaf: &Leaf) -> Option<u64> {
        let (text, at) = self.checker.text(leaf, "bit")?;
        let parsed = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        if parsed.is_none() {
            let text =
                format!("bit: {text:?} is no number in hex; write bit = \"0x1f\", or leave it to the seed");
            self.checker.error(&at, text);
        }
        parsed
    }

    fn change(&mut self, raw: &RawEvent, span: &Range<usize>, members: &mut Group) -> Option<Change> {
        let joins = raw.add.is_some();
        let (leaf, key) = if joins { (&raw.add, "add") } else { (&raw.retire, "retire") };
        if let Some((other, _)) = DEEDS.iter().find(|(other, leaf)| *other != key && leaf(raw).is_some()) {
            self.checker.error(span, format!("{key}: does not go with {other}; make two events of it"));
        }
        self.details(key, raw, span);
        let idle = [&raw.repeat, &raw.every, &raw.r#for, &raw.after];
        if !raw.and.is_empty() || idle.iter().any(|leaf| leaf.is_some()) {
            let text =
                format!("{key}: lasts, and happens once and alone; remove and, repeat, every, for and after");
            self.checker.error(span, text);
        }
        let region = self.region(leaf, key)?;
        let at = span_or(leaf, span);
        let name = &self.regions[region];
        if members.has(region) == joins {
            let text = if joins {
                format!(
                    "add: {name:?} belongs already; give its [[region]] later = true, or retire it before"
                )
            } else {
                format!("retire: {name:?} does not belong then; add it before")
            };
            self.checker.error(&at, text);
        }
        *members = if joins { members.with(region) } else { members.without(region) };
        if members.is_empty() {
            self.checker.error(&at, format!("retire: {name:?} is the last region; leave one"));
        }
        let at_us = match (&raw.at, &raw.reloads) {
            (None, Some(_)) => Some(Ranged::fixed(0)),
            _ => self.at(&raw.at, span),
        };
        let rolling = &raw.rolling;
        let mut rolling_us =
            self.checker.ranged_or(rolling, "rolling", Unit::Time, 0..=limits::FILE_US_MAX, 0);
        if raw.rolling.is_none() {
            rolling_us = Ranged::between(0, ROLLING_US, &format!("{}/rolling", self.checker.place));
        }
        let fresh = self.checker.truth(&raw.fresh, "fresh", false);
        let reloads_us = self.reloads(&raw.reloads);
        Some(Change { at_us: at_us?, region, joins, fresh, rolling_us, reloads_us })
    }

    fn reloads(&mut self, leaf: &Leaf) -> Option<Vec<u64>> {
        let (texts, at) = self.checker.texts(leaf, "reloads")?;
        let times = texts.iter().map(|text| Unit::Time.parse(text)).collect::<Option<Vec<_>>>();
        let sites = self.regions.len();
        if times.as_ref().is_none_or(|times| times.len() != sites) {
            let text = format!(
                "reloads: names one time for each of the {sites} regions, in their order; write such"
            );
            self.checker.error(&at, text);
            return None;
        }
        times
    }

    fn region(&mut self, leaf: &Leaf, key: &str) -> Option<usize> {
        let (name, at) = self.checker.text(leaf, key)?;
        self.named(name, key, &at)
    }

    pub(super) fn named(&mut self, name: &str, key: &str, at: &Range<usize>) -> Option<usize> {
        let found = self.regions.iter().position(|region| region == name);
        if found.is_none() {
            let all = self.regions.join(", ");
            self.checker.error(at, format!("{key}: no region is called {name:?}; there are: {all}"));
        }
        found
    }

    /// What rot leaves must be somewhere else whole.
    fn check_rot(&mut self, raw: &[Spanned<RawEvent>]) {
        let all = || raw.iter().flat_map(|event| std::iter::once(event).chain(&event.get_ref().and));
        let mut rots = all().filter(|event| event.get_ref().rot.is_some());
        let lost = |event: &RawEvent| event.wipe.is_some() || event.restore.is_some();
        let wiped = all().any(|event| lost(event.get_ref()));
        let first = rots.next();
        if let Some(event) = rots.next().or(first.filter(|_| wiped)) {
            let text = "rot: takes what must not be gone elsewhere too; one rot a run, and none beside a wipe or restore";
            self.checker.error(&event.span(), text);
        }
    }
}

/// Regions of one upgrade follow each other at such a distance, unless the file says otherwise, microseconds.
const UPGRADES_APART_US: u64 = 10_000_000;

/// Operators of one cluster reload within this of each other, unless the file says otherwise, microseconds.
const ROLLING_US: u64 = 400_000;

fn instead_of_for(key: &str) -> &'static str {
    match key {
        "crash" | "power_loss" | "wipe" | "restore" | "upgrade" | "fuse" | "retry_fuse" => {
            "say how long it is down with down"
        }
        "partition" | "one_way" | "ring" | "everywhere" | "pattern" => {
            "with turn or mend it is one moment; remove one"
        }
        _ => "remove it",
    }
}
