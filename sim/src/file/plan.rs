//! A checked scenario: what the file says, with its ranges still open; a seed makes a [`Schedule`] of it.
//!
//! Nothing can fail any more from here on: whatever the seed draws was checked at both ends.
//!
//! Must never: let one range's draws depend on another's.

use super::clocks::ClockPlan;
use super::events::{self, Planned};
use super::expect::Expect;
use super::jobs::{JobPlan, StormPlan};
use super::ranged::Ranged;
use crdt::policy::Level;

use crate::faults::{self, Incident};
use crate::habits::{Demand, Habits};
use crate::link::{Rate, Spread, Weather};
use crate::pattern::Group;
use crate::random::{Dice, Stream};
use crate::scenario::{self, Menu, Namespace, OwnClock, OwnLink, Scenario};
use crate::schedule::Schedule;
use crate::workload;

/// Entity of [`Stream::Events`] that says whether a seed's disks rot or are lost.
const ROT_OR_LOSS: u64 = (6 << 32) | 1;

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What people call it.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// Used where the command line names none.
    pub seed: u64,
    /// Names of the regions, by index: those there at first, then those that come later.
    pub regions: Vec<String>,
    /// What must come out of it.
    pub expect: Expect,
    pub(super) members: usize,
    pub(super) duration_us: Ranged,
    pub(super) max_drift_ms: Ranged,
    pub(super) unhurried: bool,
    pub(super) quic: bool,
    pub(super) keys: Vec<String>,
    pub(super) namespace_of: Vec<usize>,
    pub(super) namespaces: Vec<NamespacePlan>,
    pub(super) weather: WeatherPlan,
    pub(super) replay: Ranged,
    pub(super) distances_us: Option<(u64, u64)>,
    pub(super) healed_us: Option<Ranged>,
    pub(super) severed: Option<(usize, usize)>,
    pub(super) core: Option<Group>,
    pub(super) links: Vec<(usize, usize, WeatherPlan)>,
    pub(super) clocks: Vec<ClockPlan>,
    pub(super) disk: DiskPlan,
    pub(super) habits: Habits,
    pub(super) demand: Demand,
    /// How many services there are; 0: explicit jobs only.
    pub(super) services: usize,
    pub(super) storms: Vec<StormPlan>,
    pub(super) jobs: Vec<JobPlan>,
    pub(super) events: Vec<Planned>,
    pub(super) chaos: Menu,
}

/// A namespace.
#[derive(Clone, Debug)]
pub(super) struct NamespacePlan {
    pub name: String,
    pub lease_ms: Ranged,
    pub retention_ms: Ranged,
    pub unknown_on_lease_end: bool,
    pub level: Level,
    pub home: Option<usize>,
    pub falls_back: bool,
    pub durable: bool,
    pub max_keys: Option<Ranged>,
}

/// Weather of all links or of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeatherPlan {
    pub delay_us: Ranged,
    /// `None`: heavy.
    pub jitter_us: Option<Ranged>,
    pub loss: Ranged,
    pub duplicate: Ranged,
    pub reorder: Ranged,
    pub rate: Option<Ranged>,
    pub queue: Ranged,
    pub flap_us: Ranged,
}

/// Disk, log and memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskPlan {
    pub write_us: Ranged,
    pub sync_us: Ranged,
    pub segment_bytes: Ranged,
    pub reserve_bytes: Ranged,
    pub rotate_after_ms: Ranged,
    pub keep_bytes: Ranged,
    pub checkpoints: bool,
    pub ring_bytes: Ranged,
    pub max_memory_bytes: Option<Ranged>,
}

impl WeatherPlan {
    fn draw(&self, seed: u64, replay: u64) -> Weather {
        let spread = self.jitter_us.map_or(Spread::Heavy, |jitter_us| Spread::Even(jitter_us.draw(seed)));
        let rate = self
            .rate
            .map(|rate| Rate { bytes_per_s: rate.draw(seed), queue_bytes_max: self.queue.draw(seed) });
        Weather {
            loss: self.loss.draw(seed),
            duplicate: self.duplicate.draw(seed),
            reorder: self.reorder.draw(seed),
            replay,
            rate,
            flap_us: self.flap_us.draw(seed),
            ..Weather::calm(self.delay_us.draw(seed), spread)
        }
    }
}

const fn is_rough(weather: &Weather) -> bool {
    weather.loss > 0 || weather.duplicate > 0 || weather.reorder > 0 || weather.replay > 0
}

impl Plan {
    /// What happens with that seed.
    pub fn schedule(&self, seed: u64) -> Schedule {
        let mut scenario = self.shape(seed);
        let (mut incidents, steps) = events::expand(&self.events, seed, &scenario);
        let drawn: Vec<Incident> = faults::draw_menu(&scenario);
        scenario.steps = steps;
        if let Some(at) = self.events.iter().position(|event| matches!(event, Planned::Change(_))) {
            // Where the first of them stands: it decides between what happens at the same time.
            let before = self.events[..at].iter().map(|event| event.incidents()).sum();
            let changes = faults::memberships(&scenario).unwrap_or_default();
            incidents.insert(before, changes);
        }
        incidents.extend(drawn);
        incidents.sort_by_key(Incident::at_us);
        let jobs = self.work(&scenario);
        Schedule { scenario, incidents, jobs }
    }

    fn work(&self, scenario: &Scenario) -> Vec<workload::Job> {
        let is_drawn = self.services > 0 || self.demand.rate_per_ks.is_some();
        let mut jobs = if is_drawn { workload::draw(scenario) } else { Vec::new() };
        jobs.extend(self.storms.iter().flat_map(|storm| storm.jobs(scenario)));
        let explicit: Vec<workload::Job> = self.jobs.iter().map(|job| job.job(scenario)).collect();
        let numbers = || self.jobs.iter().filter_map(|job| job.number);
        let first = numbers().max().map_or(0, |number| number + 1);
        let named = self.jobs.iter().map(|job| job.number.is_some());
        let mut all: Vec<(bool, workload::Job)> = named.zip(explicit).collect();
        all.extend(jobs.into_iter().map(|job| (false, job)));
        all.sort_by_key(|(_, job)| job.at_us);
        // Who has no number has the next: dice go by it.
        for (number, (_, job)) in (first..).zip(all.iter_mut().filter(|(named, _)| !named)) {
            job.number = number;
        }
        all.into_iter().map(|(_, job)| job).collect()
    }

    /// What `rot` leaves must be somewhere else whole: where wipes or restores are asked for too, a seed has the one or the
    /// others.
    fn menu(&self, seed: u64) -> Menu {
        let mut menu = self.chaos;
        if menu.rot && (menu.disk_loss || menu.restores) {
            let rots = Dice::new(seed, Stream::Events, ROT_OR_LOSS).chance(500);
            menu.rot = rots;
            menu.disk_loss &= !rots;
            menu.restores &= !rots;
        }
        menu
    }

    fn clocks(&self, seed: u64) -> Vec<OwnClock> {
        if self.chaos.drifts {
            return scenario::drifting(seed, self.regions.len());
        }
        self.clocks.iter().map(|clock| clock.draw(seed)).collect()
    }

    fn shape(&self, seed: u64) -> Scenario {
        let weather = self.weather.draw(seed, self.replay.draw(seed));
        let own = |(from, to, weather): &(usize, usize, WeatherPlan)| OwnLink {
            from: *from,
            to: *to,
            weather: weather.draw(seed, 0),
        };
        let links: Vec<OwnLink> = self.links.iter().map(own).collect();
        let rough = is_rough(&weather) || links.iter().any(|link| is_rough(&link.weather));
        Scenario {
            seed,
            regions: self.members,
            names: self.regions.clone(),
            keys: self.keys.clone(),
            namespace_of: self.namespace_of.clone(),
            namespaces: self.namespaces.iter().map(|namespace| namespace.draw(seed)).collect(),
            clients: self.services,
            storm_us: self.duration_us.draw(seed),
            max_drift_ms: self.max_drift_ms.draw(seed),
            menu: Menu { rough, ..self.menu(seed) },
            healed_us: self.healed_us.map_or(weather.delay_us, |healed_us| healed_us.draw(seed)),
            weather,
            ring_bytes: self.disk.ring_bytes.draw(seed) as usize,
            segment_bytes: self.disk.segment_bytes.draw(seed) as usize,
            disk_us: (self.disk.write_us.draw(seed), self.disk.sync_us.draw(seed)),
            checkpoints: self.disk.checkpoints,
            reserve_bytes: self.disk.reserve_bytes.draw(seed) as usize,
            rotate_after_ms: self.disk.rotate_after_ms.draw(seed),
            keep_bytes: self.disk.keep_bytes.draw(seed) as usize,
            tight_memory_bytes: self.disk.max_memory_bytes.map(|bytes| bytes.draw(seed) as usize),
            severed: self.severed,
            core: self.core,
            spells: Vec::new(),
            distances_us: self.distances_us,
            steps: Vec::new(),
            newcomers: self.regions.len() - self.members,
            unhurried: self.unhurried,
            quic: self.quic,
            links,
            clocks: self.clocks(seed),
            habits: self.habits,
            demand: self.demand,
        }
    }
}

impl NamespacePlan {
    fn draw(&self, seed: u64) -> Namespace {
        Namespace {
            name: self.name.clone(),
            lease_ms: self.lease_ms.draw(seed),
            retention_ms: self.retention_ms.draw(seed),
            unknown_on_lease_end: self.unknown_on_lease_end,
            level: self.level,
            home: self.home,
            falls_back: self.falls_back,
            durable: self.durable,
            max_keys: self.max_keys.map(|keys| keys.draw(seed) as usize),
        }
    }
}
