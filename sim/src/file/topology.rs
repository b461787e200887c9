//! Where regions are and what lies between them: `[[region]]`, `[links]`, `[[link]]`, `[disk]`, `[memory]`.
//!
//! The delay of a link is what `[[link]]` says, else half of the round trip between the two places, else what `[links]`
//! says for all. Everything else of a link is what `[[link]]` says, else what `[links]` says.

use std::ops::Range;

use toml::Spanned;

use super::checker::{Checker, span_or};
use super::places::{self, Area};
use super::plan::{DiskPlan, WeatherPlan};
use super::ranged::Ranged;
use super::raw::{Leaf, RawDisk, RawLink, RawLinks, RawMemory, RawRegion};
use super::units::Unit;
use crate::limits;
use crate::pattern::Group;

/// Delay between regions of which nothing is known, microseconds one way.
const DELAY_US: u64 = 20_000;
/// Jitter where nothing is said, microseconds.
const JITTER_US: u64 = 1_000;
const QUEUE_BYTES: u64 = 64 * 1024;

/// The regions, by index.
pub(super) struct Regions {
    pub names: Vec<String>,
    /// Those there at first.
    pub members: usize,
    areas: Vec<Option<Area>>,
}

/// Every `[[region]]`; those that come later stand last.
pub(super) fn regions(checker: &mut Checker<'_>, raw: &[Spanned<RawRegion>]) -> Regions {
    let mut all: Vec<(bool, String, Option<Area>)> = Vec::new();
    for region in raw {
        let (table, span) = (region.get_ref(), region.span());
        let Some((name, at)) = checker.required_text(&table.name, "name", &span, "name = \"eu\"") else {
            continue;
        };
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(letter) {
            let text = format!("name: {name:?} is no region name; use 1 to 32 of a-z, 0-9 and -");
            checker.error(&at, text);
        }
        if all.iter().any(|(_, other, _)| other == name) {
            checker.error(&at, format!("name: {name:?} is another region's, too; give each its own"));
        }
        let place = checker.text(&table.place, "place").and_then(|(place, at)| {
            let area = places::area(place);
            if area.is_none() {
                let known = places::known();
                let text = format!("place: {place:?} is not in the table; leave it out and say delay in [[link]], or choose one of {known}");
                checker.error(&at, text);
            }
            area
        });
        all.push((checker.truth(&table.later, "later", false), name.to_owned(), place));
    }
    let mut members = all.iter().filter(|(later, ..)| !later).count();
    if members < 2 || all.len() > Group::REGIONS_MAX {
        let (most, count) = (Group::REGIONS_MAX, all.len());
        let text = format!(
            "there are {count} regions, {members} of them at first; write 2 to {most} [[region]], each with name = \"…\", \
             at least 2 without later"
        );
        checker.error(&(0..0), text);
        // What else is wrong is told too; groups tell no more apart.
        all.truncate(most);
        members = members.min(most);
    }
    all.sort_by_key(|(later, ..)| *later);
    let areas = all.iter().map(|(_, _, area)| *area).collect();
    Regions { names: all.into_iter().map(|(_, name, _)| name).collect(), members, areas }
}

/// What `[links]` says.
pub(super) struct Links {
    pub weather: WeatherPlan,
    pub replay: Ranged,
    pub distances_us: Option<(u64, u64)>,
    pub healed_us: Option<Ranged>,
    pub severed: Option<(usize, usize)>,
}

pub(super) fn links(checker: &mut Checker<'_>, raw: &RawLinks, regions: &Regions) -> Links {
    "links".clone_into(&mut checker.place);
    let delays = 0..=limits::DELAY_MS_MAX * 1_000;
    let fixed = Ranged::fixed;
    let base = WeatherPlan {
        delay_us: fixed(DELAY_US),
        jitter_us: Some(fixed(JITTER_US)),
        loss: fixed(0),
        duplicate: fixed(0),
        reorder: fixed(0),
        rate: None,
        queue: fixed(QUEUE_BYTES),
        flap_us: fixed(0),
    };
    let leaves = Weather {
        delay: &raw.delay,
        jitter: &raw.jitter,
        loss: &raw.loss,
        duplicate: &raw.duplicate,
        reorder: &raw.reorder,
        rate: &raw.rate,
        queue: &raw.queue,
        flap: &raw.flap,
    };
    let weather = leaves.read(checker, base);
    let distances = checker.ranged(&raw.distances, "distances", Unit::Time, delays.clone());
    let healed_us = checker.ranged(&raw.healed_delay, "healed_delay", Unit::Time, delays);
    let severed = pair(checker, &raw.severed, "severed", &regions.names);
    Links {
        weather,
        replay: checker.ranged_or(&raw.replay, "replay", Unit::Share, 0..=1000, 0),
        distances_us: distances.map(|distances| (distances.low, distances.high)),
        healed_us,
        severed: severed.map(|(a, b)| (a.min(b), a.max(b))),
    }
}

/// The leaves of one weather.
struct Weather<'r> {
    delay: &'r Leaf,
    jitter: &'r Leaf,
    loss: &'r Leaf,
    duplicate: &'r Leaf,
    reorder: &'r Leaf,
    rate: &'r Leaf,
    queue: &'r Leaf,
    flap: &'r Leaf,
}

impl Weather<'_> {
    fn read(&self, checker: &mut Checker<'_>, base: WeatherPlan) -> WeatherPlan {
        let delays = 0..=limits::DELAY_MS_MAX * 1_000;
        let heavy = self.jitter.as_ref().is_some_and(|leaf| leaf.get_ref().as_str() == Some("heavy"));
        let jitter_us = match self.jitter {
            Some(_) if heavy => None,
            Some(_) => checker.ranged(self.jitter, "jitter", Unit::Time, delays.clone()),
            None => base.jitter_us,
        };
        let mut share = |leaf, key, base| checker.ranged(leaf, key, Unit::Share, 0..=1000).unwrap_or(base);
        WeatherPlan {
            loss: share(self.loss, "loss", base.loss),
            duplicate: share(self.duplicate, "duplicate", base.duplicate),
            reorder: share(self.reorder, "reorder", base.reorder),
            delay_us: checker.ranged(self.delay, "delay", Unit::Time, delays).unwrap_or(base.delay_us),
            jitter_us,
            rate: checker.ranged(self.rate, "rate", Unit::Flow, 1_000..=1 << 40).or(base.rate),
            queue: checker.ranged(self.queue, "queue", Unit::Size, 1..=1 << 40).unwrap_or(base.queue),
            flap_us: checker
                .ranged(self.flap, "flap", Unit::Time, 1_000..=limits::FILE_US_MAX)
                .unwrap_or(base.flap_us),
        }
    }
}

fn pair(checker: &mut Checker<'_>, leaf: &Leaf, key: &str, regions: &[String]) -> Option<(usize, usize)> {
    let (names, at) = checker.texts(leaf, key)?;
    let ends: Vec<usize> =
        names.iter().filter_map(|name| regions.iter().position(|region| region == name)).collect();
    match ends.as_slice() {
        &[a, b] if a != b && names.len() == 2 => Some((a, b)),
        _ => {
            let all = regions.join(", ");
            checker.error(
                &at,
                format!("{key}: names two different regions of {all}; write {key} = [\"…\", \"…\"]"),
            );
            None
        }
    }
}

/// Directions with a weather of their own: those of `[[link]]`, and those between two places.
pub(super) fn own(
    checker: &mut Checker<'_>,
    raw: &[Spanned<RawLink>],
    links: &Links,
    regions: &Regions,
) -> Vec<(usize, usize, WeatherPlan)> {
    let mut own: Vec<(usize, usize, WeatherPlan)> = Vec::new();
    let sites = regions.names.len();
    for (from, to) in (0..sites).flat_map(|from| (0..sites).map(move |to| (from, to))) {
        if let (Some(a), Some(b)) = (regions.areas[from], regions.areas[to])
            && from != to
        {
            let delay_us = Ranged::fixed(places::one_way_us(a, b));
            own.push((from, to, WeatherPlan { delay_us, ..links.weather }));
        }
    }
    let mut said = Vec::new();
    for (number, link) in raw.iter().enumerate() {
        checker.place = format!("link/{number}");
        let (table, span) = (link.get_ref(), link.span());
        let Some(ends) = ends(checker, table, &span, &regions.names) else { continue };
        for (from, to) in ends {
            if said.contains(&(from, to)) {
                let names = (&regions.names[from], &regions.names[to]);
                checker.error(
                    &span,
                    format!("{} to {} stands in two [[link]]; make one of them", names.0, names.1),
                );
            }
            said.push((from, to));
            let at = own.iter().position(|link| (link.0, link.1) == (from, to));
            let weather = table.weather().read(checker, at.map_or(links.weather, |at| own[at].2));
            match at {
                Some(at) => own[at].2 = weather,
                None => own.push((from, to, weather)),
            }
        }
        // Both directions of a link say the same wrong thing.
        checker.errors.dedup();
    }
    own
}

fn ends(
    checker: &mut Checker<'_>,
    raw: &RawLink,
    span: &Range<usize>,
    regions: &[String],
) -> Option<Vec<(usize, usize)>> {
    match (&raw.between, &raw.from, &raw.to) {
        (Some(_), None, None) => {
            let (a, b) = pair(checker, &raw.between, "between", regions)?;
            Some(vec![(a, b), (b, a)])
        }
        (None, Some(_), Some(_)) => {
            let end = |checker: &mut Checker<'_>, leaf: &Leaf, key| {
                let (name, at) = checker.text(leaf, key)?;
                let found = regions.iter().position(|region| region == name);
                if found.is_none() {
                    let all = regions.join(", ");
                    checker.error(&at, format!("{key}: no region is called {name:?}; there are: {all}"));
                }
                found
            };
            let (from, to) = (end(checker, &raw.from, "from")?, end(checker, &raw.to, "to")?);
            if from == to {
                checker.error(&span_or(&raw.to, span), "to: is where it comes from; name another region");
            }
            Some(vec![(from, to)])
        }
        _ => {
            let text =
                "a link has two ends; write between = [\"eu\", \"us\"], or from and to for one direction";
            checker.error(span, text);
            None
        }
    }
}

impl RawLink {
    const fn weather(&self) -> Weather<'_> {
        Weather {
            delay: &self.delay,
            jitter: &self.jitter,
            loss: &self.loss,
            duplicate: &self.duplicate,
            reorder: &self.reorder,
            rate: &self.rate,
            queue: &self.queue,
            flap: &self.flap,
        }
    }
}

/// `[disk]` and `[memory]`.
pub(super) fn disk(checker: &mut Checker<'_>, raw: &RawDisk, memory: &RawMemory) -> DiskPlan {
    "disk".clone_into(&mut checker.place);
    let times = || 0..=limits::FILE_SYNC_US_MAX;
    let write_us = checker.ranged_or(&raw.write, "write", Unit::Time, times(), 50);
    let sync_us = checker.ranged_or(&raw.sync, "sync", Unit::Time, times(), 2_000);
    let mut size =
        |leaf, key, least: u64, default| checker.ranged_or(leaf, key, Unit::Size, least..=1 << 30, default);
    let segment_bytes = size(&raw.segment, "segment", 4 * 1024, 1 << 20);
    let keep_bytes = size(&raw.keep, "keep", 0, 1 << 20);
    let ring_bytes = size(&memory.ring, "ring", 4 * 1024, 1 << 20);
    let reserves = 0..=limits::FILE_RESERVE_BYTES_MAX;
    let reserve_bytes = checker.ranged_or(&raw.reserve, "reserve", Unit::Size, reserves, 0);
    let rotate = checker.ranged_or(
        &raw.rotate_after,
        "rotate_after",
        Unit::Time,
        1_000..=limits::FILE_US_MAX,
        60_000_000,
    );
    DiskPlan {
        write_us,
        sync_us,
        segment_bytes,
        reserve_bytes,
        rotate_after_ms: rotate.per(1_000),
        keep_bytes,
        checkpoints: checker.truth(&raw.checkpoints, "checkpoints", true),
        ring_bytes,
        max_memory_bytes: checker.ranged(&memory.max, "max", Unit::Size, 8 * 1024..=1 << 40),
    }
}
