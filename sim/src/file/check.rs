//! Raw file in, [`Plan`] out: the order of the checks, and those between several values.

use toml::{Spanned, Value};

use super::checker::{Checker, shown, span_or};
use super::jobs::JobPlan;
use super::plan::{NamespacePlan, Plan};
use super::problem::{FileError, Source};
use super::raw::{Leaf, RawEvent, RawFile, RawNamespace};
use super::units::Unit;
use super::{advice, clocks, events, expect, idle, jobs, topology};
use crdt::policy::Level;

use crate::habits::Demand;
use crate::limits;
use crate::pattern::Group;
use crate::scenario::Menu;

const DURATION_US: u64 = 60_000_000;
const MAX_DRIFT_MS: u64 = 500;
const LEASE_MS: u64 = 30_000;
const RETENTION_MS: u64 = 86_400_000;
const KEYS: u64 = 10;

/// What stands at the top of a file and in no table.
const TOP: [&str; 8] = ["name", "about", "seed", "duration", "max_drift", "compare", "keys", "core"];

/// Checks a whole file.
pub(super) fn check(file: &str, text: &str) -> Result<Plan, FileError> {
    let source = Source::new(file, text);
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = advice::of_toml(text, &span, error.message(), &TOP);
        FileError::Wrong(vec![source.problem(&span, message)])
    })?;
    let mut checker = Checker::new(source);
    let plan = assemble(&mut checker, &raw);
    let mut errors = checker.errors;
    errors.sort_by_key(|problem| (problem.line, problem.column));
    errors.dedup();
    if errors.is_empty() { Ok(plan) } else { Err(FileError::Wrong(errors)) }
}

fn assemble(checker: &mut Checker<'_>, raw: &RawFile) -> Plan {
    let durations = 1_000..=limits::FILE_DURATION_US_MAX;
    let duration_us = checker.ranged_or(&raw.duration, "duration", Unit::Time, durations, DURATION_US);
    let drifts = 1_000..=60_000_000;
    let max_drift = checker.ranged_or(&raw.max_drift, "max_drift", Unit::Time, drifts, MAX_DRIFT_MS * 1_000);
    let max_drift_ms = max_drift.per(1_000);
    let regions = topology::regions(checker, &raw.region);
    let links = topology::links(checker, &raw.links, &regions);
    let own = topology::own(checker, &raw.link, &links, &regions);
    let disk = topology::disk(checker, &raw.disk, &raw.memory);
    let (namespaces, counts) = namespaces(checker, &raw.namespace, max_drift_ms.high, &regions.names);
    let (keys, namespace_of) = keys(checker, raw, &namespaces, &counts);
    let explicit = !raw.job.is_empty() || !raw.storm.is_empty();
    let (habits, demand, services) =
        jobs::workload(checker, raw.workload.as_ref(), regions.members, explicit);
    let (names, duration) = (regions.names.as_slice(), duration_us.low);
    let mut reader = jobs::Reader { checker, regions: names, keys: &keys, duration_us: duration };
    let (storms, jobs) = (reader.storms(&raw.storm), reader.jobs(&raw.job));
    idle::check(checker, raw, &habits, &demand, services);
    check_leases(checker, raw, &jobs, &namespaces, &namespace_of);
    check_amount(checker, &demand, duration_us.high, services);
    let mut reader = events::Reader {
        checker,
        regions: names,
        members: regions.members,
        duration_us: duration,
        max_drift_ms: max_drift_ms.low,
        cuts: Vec::new(),
        mends: Vec::new(),
        begins_us: None,
        copied: Group::default(),
        put_back: Vec::new(),
        upgraded: Group::default(),
    };
    let events = reader.read(&raw.event);
    let is_upgraded = !reader.upgraded.is_empty();
    let clocks = clocks::read(checker, &raw.clock, names, max_drift_ms.low);
    check_severed(checker, raw, links.severed.is_some());
    let chaos = chaos(checker, raw, is_upgraded);
    let core = core(checker, raw, names, chaos);
    "expect".clone_into(&mut checker.place);
    let expect = expect::read(checker, &raw.expect);
    let unhurried = checker.word(&raw.compare, "compare", &[("seldom", true), ("often", false)]);
    let quic = checker.word(&raw.sessions, "sessions", &[("quic", true), ("brief", false)]);
    let mut words = |leaf, key| checker.text(leaf, key).map_or_else(String::new, |(text, _)| text.to_owned());
    Plan {
        name: words(&raw.name, "name"),
        about: words(&raw.about, "about"),
        seed: seed(checker, &raw.seed),
        members: regions.members,
        regions: regions.names.clone(),
        expect,
        duration_us,
        max_drift_ms,
        unhurried: unhurried.unwrap_or(true),
        quic: quic.unwrap_or(true),
        keys,
        namespace_of,
        namespaces,
        weather: links.weather,
        replay: links.replay,
        distances_us: links.distances_us,
        healed_us: links.healed_us,
        severed: links.severed,
        core,
        links: own,
        clocks,
        disk,
        habits,
        demand,
        services,
        storms,
        jobs,
        events,
        chaos,
    }
}

/// A seed beyond what TOML's numbers hold is written as text.
fn seed(checker: &mut Checker<'_>, leaf: &Leaf) -> u64 {
    let Some(leaf) = leaf.as_ref() else { return 0 };
    let seed = match leaf.get_ref() {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    if seed.is_none() {
        let found = shown(leaf.get_ref());
        checker
            .error(&leaf.span(), format!("seed: {found} is no seed; write a whole number, such as seed = 7"));
    }
    seed.unwrap_or_default()
}

/// Every `[[namespace]]`, and how many keys each has; one called `pay` where there is none.
fn namespaces(
    checker: &mut Checker<'_>,
    raw: &[Spanned<RawNamespace>],
    drift_ms: u64,
    names: &[String],
) -> (Vec<NamespacePlan>, Vec<u64>) {
    let (mut plans, mut counts): (Vec<NamespacePlan>, Vec<u64>) = (Vec::new(), Vec::new());
    for (number, namespace) in raw.iter().enumerate() {
        checker.place = format!("namespace/{number}");
        let (table, span) = (namespace.get_ref(), namespace.span());
        let Some((name, at)) = checker.required_text(&table.name, "name", &span, "name = \"pay\"") else {
            continue;
        };
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(letter) {
            checker
                .error(&at, format!("name: {name:?} is no namespace; use 1 to 32 letters, digits, - and _"));
        }
        if plans.iter().any(|plan| plan.name == name) {
            checker.error(&at, format!("name: {name:?} is another namespace's, too; give each its own"));
        }
        let plan = one_namespace(checker, table, (name, &span), drift_ms, names);
        plans.push(plan);
        let keys = checker.fixed(&table.keys, "keys", Unit::Count, 0..=limits::FILE_KEYS_MAX);
        counts.push(keys.unwrap_or(KEYS));
    }
    if plans.is_empty() {
        let plan = one_namespace(checker, &RawNamespace::default(), ("pay", &(0..0)), drift_ms, names);
        (plans, counts) = (vec![plan], vec![KEYS]);
    }
    (plans, counts)
}

fn one_namespace(
    checker: &mut Checker<'_>,
    raw: &RawNamespace,
    (name, span): (&str, &std::ops::Range<usize>),
    drift_ms: u64,
    names: &[String],
) -> NamespacePlan {
    let times = || 1_000..=limits::FILE_US_MAX;
    let lease_ms = checker.ranged_or(&raw.lease, "lease", Unit::Time, times(), LEASE_MS * 1_000).per(1_000);
    let retention = &raw.retention;
    let retention = checker.ranged_or(
        retention,
        "retention",
        Unit::Time,
        1_000_000..=crdt::limits::RETENTION_MS_MAX * 1_000,
        RETENTION_MS * 1_000,
    );
    let retention_ms = retention.per(1_000);
    let least_ms = lease_ms.high + 2 * drift_ms + 1;
    if retention_ms.low < least_ms {
        let least = Unit::Time.render(least_ms * 1_000);
        let text = format!(
            "retention: must be longer than lease and twice max_drift (S1); write at least \"{least}\""
        );
        checker.error(&span_or(&raw.retention, span), text);
    }
    let ends = [("takeover", false), ("unknown", true)];
    let durable = [("interval", false), ("always", true)];
    let fallbacks = [("refuse", false), ("local", true)];
    let levels = [("local", Level::Local), ("home", Level::Home), ("quorum", Level::Quorum)];
    NamespacePlan {
        name: name.to_owned(),
        lease_ms,
        retention_ms,
        unknown_on_lease_end: checker.word(&raw.on_lease_end, "on_lease_end", &ends).unwrap_or(false),
        level: checker.word(&raw.level, "level", &levels).unwrap_or_default(),
        home: home(checker, raw, names),
        falls_back: checker.word(&raw.fallback, "fallback", &fallbacks).unwrap_or(false),
        durable: checker.word(&raw.durable, "durable", &durable).unwrap_or(false),
        max_keys: checker.ranged(&raw.max_keys, "max_keys", Unit::Count, 1..=limits::FILE_KEYS_MAX),
    }
}

/// The region that decides a namespace's keys; of no effect at other levels.
fn home(checker: &mut Checker<'_>, raw: &RawNamespace, names: &[String]) -> Option<usize> {
    let (name, span) = checker.text(&raw.home, "home")?;
    let at = names.iter().position(|known| known == name);
    if at.is_none() {
        checker.error(&span, format!("home: {name:?} is no region; the regions are {}", names.join(", ")));
    }
    at
}

/// A lease that a job names beside what its namespace retains (S1).
fn check_leases(
    checker: &mut Checker<'_>,
    raw: &RawFile,
    jobs: &[JobPlan],
    namespaces: &[NamespacePlan],
    namespace_of: &[usize],
) {
    // Where one was refused, the others are looked at once it is mended.
    for (job, raw) in jobs.iter().zip(&raw.job).filter(|_| jobs.len() == raw.job.len()) {
        let retention_ms = namespaces[namespace_of[job.key()]].retention_ms.low;
        if job.lease_ms_max().is_some_and(|lease_ms| lease_ms >= retention_ms) {
            let most = Unit::Time.render(retention_ms * 1_000);
            let at = span_or(&raw.get_ref().lease, &raw.span());
            checker.error(&at, format!("lease: must be shorter than its namespace's retention (S1), {most}"));
        }
    }
}

/// Whether it fits into memory and into somebody's patience.
fn check_amount(checker: &mut Checker<'_>, demand: &Demand, duration_us: u64, services: usize) {
    let at_rate = demand.rate_per_ks.unwrap_or(0).saturating_mul(duration_us / 1_000_000) / 1_000;
    // A service does a few jobs a second at most.
    let of_services = (services as u64).saturating_mul(duration_us / 1_000_000).saturating_mul(4);
    let (jobs, most) = (at_rate.max(of_services), limits::FILE_JOBS_MAX);
    if jobs > most {
        let text = format!(
            "about {jobs} jobs come of duration, rate and services; choose them so that they are at most {most}"
        );
        checker.error(&(0..0), text);
    }
}

/// All keys in their order: as `keys` says, else so many of each namespace; then those that only jobs name.
fn keys(
    checker: &mut Checker<'_>,
    raw: &RawFile,
    namespaces: &[NamespacePlan],
    counts: &[u64],
) -> (Vec<String>, Vec<usize>) {
    let most = counts.iter().max().copied().unwrap_or_default();
    let numbered = (0..most).flat_map(|n| (0..counts.len()).map(move |at| (n, at)));
    let all = numbered.filter(|(n, at)| *n < counts[*at]);
    let mut keys: Vec<String> = all.map(|(n, at)| format!("{}:{n}", namespaces[at].name)).collect();
    if let Some((listed, at)) = checker.texts(&raw.keys, "keys") {
        keys = listed;
        if let Some(wrong) = keys.iter().find(|key| namespace_of(key, namespaces).is_none()) {
            checker
                .error(&at, format!("keys: {wrong:?} is of no [[namespace]]; write \"namespace:anything\""));
        }
    }
    let of_jobs = raw.job.iter().map(|job| &job.get_ref().key);
    let of_storms = raw.storm.iter().map(|storm| &storm.get_ref().key);
    for leaf in of_jobs.chain(of_storms) {
        let name = leaf.as_ref().and_then(|leaf| leaf.get_ref().as_str());
        if let Some(name) = name.filter(|name| namespace_of(name, namespaces).is_some())
            && !keys.iter().any(|key| key == name)
        {
            keys.push(name.to_owned());
        }
    }
    if keys.is_empty() || keys.len() as u64 > limits::FILE_KEYS_MAX {
        let (count, most) = (keys.len(), limits::FILE_KEYS_MAX);
        checker.error(&(0..0), format!("there are {count} keys; choose keys so that they are 1 to {most}"));
    }
    let mut seen = std::collections::BTreeSet::new();
    for key in &keys {
        if !seen.insert(key) {
            checker.error(&(0..0), format!("keys: {key:?} stands twice; name each key once"));
        }
        if key.len() > crdt::limits::KEY_BYTES_MAX {
            let (bytes, most) = (key.len(), crdt::limits::KEY_BYTES_MAX);
            checker.error(
                &(0..0),
                format!("a key of {bytes} bytes; write at most {most}: it begins {key:.24?}"),
            );
        }
    }
    let namespace_of = keys.iter().map(|key| namespace_of(key, namespaces).unwrap_or_default()).collect();
    (keys, namespace_of)
}

fn namespace_of(key: &str, namespaces: &[NamespacePlan]) -> Option<usize> {
    let (name, _) = key.split_once(':')?;
    namespaces.iter().position(|namespace| namespace.name == name)
}

/// Who is healed at the end; what a disk took is to be had from the others, so that all are where one is lost.
fn core(checker: &mut Checker<'_>, raw: &RawFile, regions: &[String], chaos: Menu) -> Option<Group> {
    let (names, at) = checker.texts(&raw.core, "core")?;
    let (mut core, mut wrong) = (Group::default(), false);
    for name in names {
        match regions.iter().position(|region| *region == name) {
            Some(region) => core = core.with(region),
            None => {
                let all = regions.join(", ");
                checker.error(&at, format!("core: no region is called {name:?}; there are: {all}"));
                wrong = true;
            }
        }
    }
    let whole = |event: &RawEvent| {
        [&event.add, &event.retire, &event.wipe, &event.restore, &event.rot].iter().all(|leaf| leaf.is_none())
    };
    let all = || raw.event.iter().flat_map(|event| std::iter::once(event).chain(&event.get_ref().and));
    let lost = chaos.disk_loss || chaos.restores || chaos.rot || raw.links.severed.is_some();
    if core.len() < 2 && !wrong {
        let text = "core: it takes two regions at least to agree; name another one, or remove core: then all are healed";
        checker.error(&at, text);
    }
    if lost || !all().all(|event| whole(event.get_ref())) {
        let text = "core: what a disk took is to be had from the others, so core goes with no add, retire, wipe, restore, rot \
                    or severed; remove core, or these";
        checker.error(&at, text);
    }
    Some(core)
}

/// A severed pair agrees through others, and these must not leave.
fn check_severed(checker: &mut Checker<'_>, raw: &RawFile, severed: bool) {
    let changes = raw.event.iter().any(|event| {
        let event = event.get_ref();
        event.add.is_some() || event.retire.is_some()
    });
    if severed && (changes || raw.region.len() < 3) {
        let at = span_or(&raw.links.severed, &(0..0));
        let text = "severed: the pair agrees through other regions, which must be there and stay; remove it, or add and retire";
        checker.error(&at, text);
    }
}

type Kind = (&'static str, fn(&mut Menu) -> &mut bool);
/// Kinds of random incidents.
const KINDS: [Kind; 19] = [
    ("partitions", |menu| &mut menu.partitions),
    ("one_way", |menu| &mut menu.one_way),
    ("resets", |menu| &mut menu.resets),
    ("crashes", |menu| &mut menu.crashes),
    ("power_losses", |menu| &mut menu.power),
    ("wipes", |menu| &mut menu.disk_loss),
    ("clock_steps", |menu| &mut menu.steps),
    ("clocks_beyond", |menu| &mut menu.beyond),
    ("slow_disks", |menu| &mut menu.slow_disks),
    ("fuses", |menu| &mut menu.fuses),
    ("disk_errors", |menu| &mut menu.disk_errors),
    ("full_disks", |menu| &mut menu.full_disks),
    ("stalls", |menu| &mut menu.stalls),
    ("rot", |menu| &mut menu.rot),
    ("pauses", |menu| &mut menu.pauses),
    ("restores", |menu| &mut menu.restores),
    ("swizzles", |menu| &mut menu.swizzles),
    ("upgrades", |menu| &mut menu.upgrades),
    ("clock_drifts", |menu| &mut menu.drifts),
];

/// `[chaos]`: what is drawn besides the time line.
fn chaos(checker: &mut Checker<'_>, raw: &RawFile, is_upgraded: bool) -> Menu {
    let mut menu = Menu::default();
    let Some((kinds, at)) = checker.texts(&raw.chaos.kinds, "kinds") else { return menu };
    for kind in kinds {
        match KINDS.iter().find(|(name, _)| *name == kind) {
            Some((_, field)) => *field(&mut menu) = true,
            None => {
                let all = KINDS.map(|(name, _)| name).join(", ");
                let meant = advice::meant(&kind, KINDS.iter().map(|(name, _)| *name));
                checker.error(&at, format!("kinds: {kind:?} is not known{meant}; choose of {all}"));
            }
        }
    }
    let all = || raw.event.iter().map(Spanned::get_ref);
    let wipes = all().any(|e| e.wipe.is_some() || e.restore.is_some());
    let rots = all().any(|e| e.rot.is_some());
    let loses = menu.disk_loss || menu.restores;
    if menu.upgrades && is_upgraded {
        let text = "kinds: upgrades has every region upgraded once, and an event upgrades one too; keep one of the two";
        checker.error(&at, text);
    }
    if menu.drifts && !raw.clock.is_empty() {
        let text = "kinds: clock_drifts draws every clock, and [[clock]] says it; keep one of the two";
        checker.error(&at, text);
    }
    if menu.rot && (rots || wipes) || rots && loses {
        checker.error(
            &at,
            "kinds: rot takes what must not be gone elsewhere too: none beside an event that rots, wipes or restores",
        );
    }
    menu
}
