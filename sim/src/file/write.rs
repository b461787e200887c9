//! A whole [`Schedule`] as a scenario file: what the run depends on, every job and every incident, one a line.
//!
//! What was folded for people (a cut with its end as one `partition … for`) is folded only where it unfolds into the very
//! same faults; else each fault stands for itself. Before the text leaves it is read back and compared: a file that ran
//! otherwise than its schedule would be worse than none.
//!
//! Must never: leave out what a run depends on.

mod events;
mod jobs;

use std::fmt::Write as _;

use super::units::Unit;
use crate::habits::{Demand, Habits};
use crate::link::{Spread, Weather};
use crate::pattern::Group;
use crate::scenario::Scenario;
use crate::schedule::Schedule;

/// What a schedule does not know about itself.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// What people call it.
    pub name: String,
    /// What it shows.
    pub about: String,
}

/// The file of `schedule`.
///
/// # Errors
/// What cannot be written, in words; nothing that [`Schedule::draw`] or a scenario file makes.
pub fn write(schedule: &Schedule, labels: &Labels) -> Result<String, String> {
    let scenario = &schedule.scenario;
    let names: Vec<String> = (0..scenario.sites()).map(|at| scenario.name(at)).collect();
    let mut text = head(scenario, labels, &names);
    text += &events::write(schedule, &names)?;
    text += &jobs::write(schedule, &names);
    text += &tables(scenario, &names)?;
    let read = super::parse("schedule", &text).map_err(|error| format!("it does not read back: {error}"))?;
    let again = read.schedule(scenario.seed);
    if runs_alike(schedule, &again) {
        Ok(text)
    } else {
        Err("it would read back as another schedule".to_owned())
    }
}

/// Whether two schedules make the same run: what only drawing looks at does not count.
pub(super) fn runs_alike(a: &Schedule, b: &Schedule) -> bool {
    let bare = |schedule: &Schedule| {
        let mut scenario = schedule.scenario.clone();
        scenario.spells.clear();
        scenario.names.clear();
        let mut members = Group::of(0..scenario.regions);
        for step in &mut scenario.steps {
            // Whoever leaves joins on no disk.
            step.fresh &= step.members.len() > members.len();
            members = step.members;
        }
        (scenario.clients, scenario.demand) = (0, Demand::CALM);
        let rough = scenario.menu.rough;
        scenario.menu = crate::scenario::Menu { rough, ..Default::default() };
        format!("{scenario:?}")
    };
    a.incidents == b.incidents && a.jobs == b.jobs && bare(a) == bare(b)
}

/// A text in quotes.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

pub(super) fn time(us: u64) -> String {
    quoted(&Unit::Time.render(us))
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn head(scenario: &Scenario, labels: &Labels, names: &[String]) -> String {
    let mut text = String::new();
    for (key, words) in [("name", &labels.name), ("about", &labels.about)] {
        if !words.is_empty() {
            let _ = writeln!(text, "{key} = {}", quoted(words));
        }
    }
    // TOML's numbers have a sign.
    let seed = i64::try_from(scenario.seed);
    let seed = seed.map_or_else(|_| quoted(&scenario.seed.to_string()), |seed| seed.to_string());
    let _ = writeln!(text, "seed = {seed}");
    let _ = writeln!(text, "duration = {}", time(scenario.storm_us));
    let _ = writeln!(text, "max_drift = {}", time(scenario.max_drift_ms * 1_000));
    let compare = if scenario.unhurried { "seldom" } else { "often" };
    let _ = writeln!(text, "compare = {}", quoted(compare));
    let sessions = if scenario.quic { "quic" } else { "brief" };
    let _ = writeln!(text, "sessions = {}", quoted(sessions));
    if let Some(core) = scenario.core {
        let core: Vec<String> = core.regions().map(|at| names[at].clone()).collect();
        let _ = writeln!(text, "core = {}", list(&core));
    }
    if counts(scenario).is_none() {
        let _ = writeln!(text, "keys = {}", list(&scenario.keys));
    }
    text
}

/// How many keys each namespace has, where they are numbered as the reader numbers them.
fn counts(scenario: &Scenario) -> Option<Vec<usize>> {
    let count = |at: usize| scenario.namespace_of.iter().filter(|of| **of == at).count();
    let counts: Vec<usize> = (0..scenario.namespaces.len()).map(count).collect();
    let most = counts.iter().max().copied().unwrap_or_default();
    let numbered = (0..most).flat_map(|n| (0..counts.len()).map(move |at| (n, at)));
    let keys = numbered.filter(|(n, at)| *n < counts[*at]);
    let same =
        keys.map(|(n, at)| format!("{}:{n}", scenario.namespaces[at].name)).eq(scenario.keys.iter().cloned());
    same.then_some(counts)
}

fn tables(scenario: &Scenario, names: &[String]) -> Result<String, String> {
    let mut text = String::new();
    for (at, name) in names.iter().enumerate() {
        let _ = writeln!(text, "\n[[region]]\nname = {}", quoted(name));
        if at >= scenario.regions {
            let _ = writeln!(text, "later = true");
        }
    }
    text += &links(scenario, names);
    for own in &scenario.clocks {
        let _ = writeln!(text, "\n[[clock]]\nregion = {}", quoted(&names[own.region]));
        if let Some(ms) = own.offset_ms {
            let sign = if ms < 0 { '-' } else { '+' };
            let offset = Unit::Time.render(ms.unsigned_abs() * 1_000);
            let _ = writeln!(text, "offset = {}", quoted(&format!("{sign}{offset}")));
        }
        let _ = writeln!(text, "drift = \"{:+}ppm\"", own.drift_ppm);
    }
    let size = |bytes: usize| quoted(&Unit::Size.render(bytes as u64));
    let (write_us, sync_us) = scenario.disk_us;
    let _ = writeln!(text, "\n[disk]\nwrite = {}\nsync = {}", time(write_us), time(sync_us));
    let _ = writeln!(text, "segment = {}", size(scenario.segment_bytes));
    let _ = writeln!(text, "reserve = {}", size(scenario.reserve_bytes));
    let _ = writeln!(text, "rotate_after = {}", time(scenario.rotate_after_ms * 1_000));
    let _ = writeln!(text, "keep = {}\ncheckpoints = {}", size(scenario.keep_bytes), scenario.checkpoints);
    let _ = writeln!(text, "\n[memory]\nring = {}", size(scenario.ring_bytes));
    if let Some(bytes) = scenario.tight_memory_bytes {
        let _ = writeln!(text, "max = {}", size(bytes));
    }
    let counts = counts(scenario);
    for (at, namespace) in scenario.namespaces.iter().enumerate() {
        let _ = writeln!(text, "\n[[namespace]]\nname = {}", quoted(&namespace.name));
        let _ = writeln!(text, "lease = {}", time(namespace.lease_ms * 1_000));
        let _ = writeln!(text, "retention = {}", time(namespace.retention_ms * 1_000));
        let end = if namespace.unknown_on_lease_end { "unknown" } else { "takeover" };
        let durable = if namespace.durable { "always" } else { "interval" };
        let _ = writeln!(text, "on_lease_end = {}\ndurable = {}", quoted(end), quoted(durable));
        let _ = writeln!(text, "level = {}", quoted(namespace.level.name()));
        if let Some(home) = namespace.home {
            let _ = writeln!(text, "home = {}", quoted(&names[home]));
        }
        if namespace.falls_back {
            let _ = writeln!(text, "fallback = \"local\"");
        }
        if let Some(keys) = namespace.max_keys {
            let _ = writeln!(text, "max_keys = {keys}");
        }
        if let Some(counts) = &counts {
            let _ = writeln!(text, "keys = {}", counts[at]);
        }
    }
    text += &habits(&scenario.habits);
    Ok(text)
}

fn links(scenario: &Scenario, names: &[String]) -> String {
    let mut text = format!("\n[links]\n{}", weather(&scenario.weather));
    let _ = writeln!(text, "replay = {}", share(scenario.weather.replay));
    if let Some((nearest_us, farthest_us)) = scenario.distances_us {
        let (nearest, farthest) = (Unit::Time.render(nearest_us), Unit::Time.render(farthest_us));
        let _ = writeln!(text, "distances = {}", quoted(&format!("{nearest}..{farthest}")));
    }
    let _ = writeln!(text, "healed_delay = {}", time(scenario.healed_us));
    if let Some((a, b)) = scenario.severed {
        let _ = writeln!(text, "severed = {}", list(&[names[a].clone(), names[b].clone()]));
    }
    for link in &scenario.links {
        let (from, to) = (quoted(&names[link.from]), quoted(&names[link.to]));
        let _ = write!(text, "\n[[link]]\nfrom = {from}\nto = {to}\n{}", weather(&link.weather));
    }
    text
}

fn share(per_mille: u64) -> String {
    quoted(&Unit::Share.render(per_mille))
}

fn weather(weather: &Weather) -> String {
    let mut text = format!("delay = {}\n", time(weather.delay_us));
    let jitter = match weather.spread {
        Spread::Heavy => quoted("heavy"),
        Spread::Even(us) => time(us),
    };
    let _ = writeln!(text, "jitter = {jitter}");
    let _ = writeln!(text, "loss = {}", share(weather.loss));
    let _ = writeln!(text, "duplicate = {}", share(weather.duplicate));
    let _ = writeln!(text, "reorder = {}", share(weather.reorder));
    if let Some(rate) = weather.rate {
        let _ = writeln!(text, "rate = {}", quoted(&Unit::Flow.render(rate.bytes_per_s)));
        let _ = writeln!(text, "queue = {}", quoted(&Unit::Size.render(rate.queue_bytes_max)));
    }
    if weather.flap_us > 0 {
        let _ = writeln!(text, "flap = {}", time(weather.flap_us));
    }
    text
}

fn habits(habits: &Habits) -> String {
    let mut text = "\n[workload]\nhabits = \"nasty\"\nservices = 0\n".to_owned();
    let nasty = Habits::NASTY;
    for (key, is, was) in [
        ("claims_elsewhere", habits.claims_elsewhere, nasty.claims_elsewhere),
        ("completes_elsewhere", habits.completes_elsewhere, nasty.completes_elsewhere),
        ("renews_elsewhere", habits.renews_elsewhere, nasty.renews_elsewhere),
        ("looks_elsewhere", habits.looks_elsewhere, nasty.looks_elsewhere),
        ("lost", habits.lost, nasty.lost),
        ("forged", habits.forged, nasty.forged),
        ("durable", habits.durable, nasty.durable),
        ("waits", habits.waits, nasty.waits),
        ("completes_again", habits.completes_again, nasty.completes_again),
        ("other_outcome", habits.other_outcome, nasty.other_outcome),
        ("resolves", habits.resolves, nasty.resolves),
    ] {
        if is != was {
            let _ = writeln!(text, "{key} = {}", share(is));
        }
    }
    if habits.claims_max != nasty.claims_max {
        let _ = writeln!(text, "claims_max = {}", habits.claims_max);
    }
    for (key, is, was) in
        [("retry", habits.retry_us, nasty.retry_us), ("patience", habits.patience_us, nasty.patience_us)]
    {
        if is != was {
            let _ = writeln!(text, "{key} = {}", time(is));
        }
    }
    text
}
