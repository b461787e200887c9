//! The shape of one run, drawn from its seed: how many regions, which policies, how bad the weather,
//! which kinds of fault.
//!
//! Every kind of fault is on in some runs and off in others. A run with everything on at once mostly
//! shows regions that are down; the interesting interleavings need some peace around them.
//!
//! Must never: depend on anything but the seed.

mod menu;

use crdt::policy::Level;

use crate::habits::{Demand, Habits};
use crate::limits;
use crate::membership::{self, Step};
use crate::naming;
use crate::network::{Rate, Spread, Weather};
use crate::pattern::{Group, Pattern, Shape, Spell};
use crate::random::{Dice, HEAVY_TIMES_MAX, Stream};

/// One namespace of the run; durations in milliseconds.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Stands before the first `:` of its keys.
    pub name: String,
    /// Default lease.
    pub lease_ms: u64,
    /// Default retention.
    pub retention_ms: u64,
    /// UNKNOWN instead of a takeover (S4.1).
    pub unknown_on_lease_end: bool,
    /// Replies wait for the disk (S6).
    pub durable: bool,
    /// Most keys a region may grant in it (S8).
    pub max_keys: Option<usize>,
    /// How strong its claims are (S5).
    pub level: Level,
    /// The region that decides at `home`; `None`: keys are spread over all.
    pub home: Option<usize>,
    /// At `home`, what cannot be asked there is decided where it arrived.
    pub falls_back: bool,
}

/// Which kinds of fault a run has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Menu {
    /// Links are cut in both directions.
    pub partitions: bool,
    /// Links are cut in one direction.
    pub one_way: bool,
    /// Sessions break and come back.
    pub resets: bool,
    /// Processes die, disks stay.
    pub crashes: bool,
    /// Machines lose power.
    pub power: bool,
    /// Disks are lost.
    pub disk_loss: bool,
    /// Wall clocks step within the bound; after some power losses they are behind it until they are set.
    pub steps: bool,
    /// Wall clocks step beyond it.
    pub beyond: bool,
    /// Frames are lost, doubled, overtaken.
    pub rough: bool,
    /// Disks become slow.
    pub slow_disks: bool,
    /// Processes and machines end between two calls to the disk.
    pub fuses: bool,
    /// Writes and syncs fail.
    pub disk_errors: bool,
    /// Disks are full for a while.
    pub full_disks: bool,
    /// Syncs take seconds.
    pub stalls: bool,
    /// A bit turns over on a disk; at most once, and not in a run that loses a disk anyway.
    pub rot: bool,
    /// Processes stand still for a while.
    pub pauses: bool,
    /// Old backups are put back.
    pub restores: bool,
    /// Links are cut one after the other and mended in another order.
    pub swizzles: bool,
    /// Regions are upgraded, one after the other.
    pub upgrades: bool,
    /// Wall clocks are too fast or too slow.
    pub drifts: bool,
}

/// The shape of one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Everything is drawn from it.
    pub seed: u64,
    /// How many regions there are at first; their ids are 1, 2, ...
    pub regions: usize,
    /// What people call them and the newcomers; `r1`, `r2`, … where there are none.
    pub names: Vec<String>,
    /// The keys, of which several belong to each namespace.
    pub keys: Vec<String>,
    /// Which namespace each key belongs to.
    pub namespace_of: Vec<usize>,
    /// The namespaces.
    pub namespaces: Vec<Namespace>,
    /// How many clients.
    pub clients: usize,
    /// Length of the first phase, virtual microseconds.
    pub storm_us: u64,
    /// Bound between wall clocks, milliseconds.
    pub max_drift_ms: u64,
    /// Kinds of fault.
    pub menu: Menu,
    /// Weather of the first phase.
    pub weather: Weather,
    /// Log kept in memory for peers, bytes.
    pub ring_bytes: usize,
    /// A segment is closed beyond this many bytes.
    pub segment_bytes: usize,
    /// Typical time of a write and of a sync, microseconds.
    pub disk_us: (u64, u64),
    /// Runs cover what is closed of the log, and what they cover is deleted.
    pub checkpoints: bool,
    /// Allocated beyond the next segment, bytes.
    pub reserve_bytes: usize,
    /// A segment is closed at this age, milliseconds.
    pub rotate_after_ms: u64,
    /// Covered log is kept for peers up to this many bytes.
    pub keep_bytes: usize,
    /// Memory of a region that is soon full, bytes (S6).
    pub tight_memory_bytes: Option<usize>,
    /// Two regions that never see each other, healing or not: what one accepts reaches the other around.
    pub severed: Option<(usize, usize)>,
    /// Only these are healed, and must agree; the others stay cut off for ever, as they are. `None`: all are.
    pub core: Option<Group>,
    /// Partitions of many links at once, in addition to what [`Menu`] asks for.
    pub spells: Vec<Spell>,
    /// Each pair of regions has a distance of its own in these bounds, one-way microseconds, before and after the
    /// healing.
    pub distances_us: Option<(u64, u64)>,
    /// Changes of membership, in order.
    pub steps: Vec<Step>,
    /// Regions that come only with one of these; their ids follow.
    pub newcomers: usize,
    /// Regions compare what is as old as daemons do, and as seldom where they are far apart; else often, so that what no stream brings is found in a short run.
    pub unhurried: bool,
    /// Sessions are as daemons', over QUIC; else they die of the shortest cut and come back at once, so that many begin and
    /// end in a short run.
    pub quic: bool,
    /// Directions with a weather of their own.
    pub links: Vec<OwnLink>,
    /// Typical one-way delay of the others after the healing, microseconds.
    pub healed_us: u64,
    /// Wall clocks that begin in their own way.
    pub clocks: Vec<OwnClock>,
    /// What services do while they are at a job.
    pub habits: Habits,
    /// What they want.
    pub demand: Demand,
}

/// How one region's wall clock begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnClock {
    /// Whose, by index.
    pub region: usize,
    /// Beside the true time, milliseconds; `None`: drawn within the bound, as all are.
    pub offset_ms: Option<i64>,
    /// Too fast by so many millionths.
    pub drift_ppm: i64,
}

/// One direction with a weather of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnLink {
    /// From which region, by index.
    pub from: usize,
    /// To which.
    pub to: usize,
    /// What it has instead of the run's; chances that old frames come again are the run's.
    pub weather: Weather,
}

impl Scenario {
    /// The run of `seed`.
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, Stream::Scenario, 0);
        let regions = *dice.pick(&[2, 3, 3, 3, 3, 3, 4, 5]);
        let max_drift_ms = *dice.pick(&[20, 50, 100, 200]);
        let namespaces = namespaces(max_drift_ms, &mut dice);
        let per_namespace = dice.between(1, 4) as usize;
        let numbered = (0..per_namespace).flat_map(|n| (0..namespaces.len()).map(move |ns| (n, ns)));
        let (keys, namespace_of) =
            numbered.map(|(n, ns)| (format!("{}:{n}", namespaces[ns].name), ns)).unzip();
        let menu = menu::menu(&mut dice);
        let weather = menu::weather(menu, &mut dice);
        let mut scenario = Self {
            seed,
            regions,
            names: Vec::new(),
            keys,
            namespace_of,
            namespaces,
            clients: dice.between(4, 10) as usize,
            storm_us: dice.between(4_000, 10_000) * 1000,
            max_drift_ms,
            menu,
            weather,
            ring_bytes: *dice.pick(&[4 * 1024, 4 * 1024, 16 * 1024, 1024 * 1024]),
            segment_bytes: *dice.pick(&[4 * 1024, 16 * 1024, 64 * 1024]),
            disk_us: (dice.between(5, 300), dice.between(100, 8_000)),
            checkpoints: dice.chance(750),
            reserve_bytes: 0,
            rotate_after_ms: 0,
            keep_bytes: 0,
            tight_memory_bytes: None,
            severed: None,
            core: None,
            spells: Vec::new(),
            distances_us: None,
            steps: Vec::new(),
            newcomers: 0,
            unhurried: false,
            quic: false,
            links: Vec::new(),
            clocks: Vec::new(),
            healed_us: HEALED_US,
            habits: Habits::NASTY,
            demand: Demand::NASTY,
        };
        scenario.menu = menu::disk_menu(scenario.menu, &mut dice);
        scenario.rotate_after_ms = *dice.pick(&[300, 1_000, 5_000, 60_000]);
        scenario.keep_bytes = *dice.pick(&[0, 8 * 1024, 64 * 1024, 1024 * 1024]);
        if scenario.menu.full_disks && dice.chance(500) {
            // Large enough for a reserve that is worth its name.
            scenario.segment_bytes = 384 * 1024;
            scenario.reserve_bytes = scenario.segment_bytes;
        }
        scenario.bounded(per_namespace, &mut dice).linked().cored().levelled().homed().eventful()
    }

    /// Many regions and one pattern of partitions until the healing, nothing else; a client and a half a region,
    /// links of `distances_us`.
    pub fn of_pattern(seed: u64, regions: usize, pattern: Pattern, distances_us: (u64, u64)) -> Self {
        let namespace = |name: &str, unknown_on_lease_end, durable| Namespace {
            name: name.to_owned(),
            lease_ms: 400,
            retention_ms: 600_000,
            unknown_on_lease_end,
            durable,
            max_keys: None,
            level: Level::Local,
            home: None,
            falls_back: false,
        };
        let namespaces = vec![namespace("pay", false, false), namespace("once", true, true)];
        let (keys, namespace_of) =
            (0..PATTERN_KEYS).map(|n| (format!("{}:{n}", namespaces[n % 2].name), n % 2)).unzip();
        Self {
            seed,
            regions,
            names: Vec::new(),
            keys,
            namespace_of,
            namespaces,
            clients: regions,
            storm_us: PATTERN_US.1,
            max_drift_ms: 100,
            menu: Menu::default(),
            // Of thirty regions' links one is always in the long tail of the other spread, and hides all else.
            weather: Weather::calm(distances_us.1, Spread::Even(PATTERN_JITTER_US)),
            ring_bytes: 64 * 1024,
            segment_bytes: 64 * 1024,
            disk_us: (50, 2_000),
            checkpoints: true,
            reserve_bytes: 0,
            rotate_after_ms: 5_000,
            keep_bytes: 1024 * 1024,
            tight_memory_bytes: None,
            severed: None,
            core: None,
            spells: vec![Spell { pattern, from_us: PATTERN_US.0, until_us: PATTERN_US.1 }],
            distances_us: Some(distances_us),
            steps: Vec::new(),
            newcomers: 0,
            unhurried: true,
            quic: false,
            links: Vec::new(),
            clocks: Vec::new(),
            healed_us: HEALED_US,
            habits: Habits::NASTY,
            demand: Demand::NASTY,
        }
    }

    /// Near regions without any fault, in which nothing expires: for [`crate::exhaustive`].
    pub fn small(regions: usize, keys: usize) -> Self {
        let mut scenario = Self::of_pattern(
            0,
            regions,
            Pattern::steady(Shape::OneWay(Group::default(), Group::default())),
            (0, 0),
        );
        scenario.namespace_of = vec![0; keys];
        scenario.keys = (0..keys).map(|n| format!("{}:{n}", scenario.namespaces[0].name)).collect();
        scenario.namespaces.truncate(1);
        scenario.spells.clear();
        scenario.ring_bytes = 1024 * 1024;
        scenario
    }

    /// The longest that a frame may be on its way between far regions; 0 where all are near.
    pub fn trip_us_max(&self) -> u64 {
        let (_, farthest_us) = self.distances_us.unwrap_or_default();
        let rest_us = if self.healed_us > HEALED_US { self.healed_us } else { 0 };
        let own_us = self.links.iter().map(|link| link.weather.delay_us).max().unwrap_or_default();
        let farthest_us = farthest_us.max(rest_us).max(own_us);
        match self.weather.spread {
            Spread::Heavy => HEAVY_TIMES_MAX * farthest_us,
            Spread::Even(spread_us) => farthest_us + spread_us,
        }
    }

    /// How the links of some runs differ. Of a stream of draws of its own, so that all else of a seed's run is what it
    /// was before there were these.
    fn linked(mut self) -> Self {
        let mut dice = Dice::new(self.seed, Stream::Links, 0);
        // A severed pair agrees through others only, and these must not leave.
        if self.severed.is_none() && dice.chance(200) {
            (self.steps, self.newcomers) = membership::draw(self.regions, self.storm_us, &mut dice);
        }
        if self.menu == Menu::default() {
            // Nothing is to be found in it by comparing what is old; what never sees each other must be brought around.
            self.unhurried = self.severed.is_none() && self.steps.is_empty();
            return self;
        }
        if dice.chance(250) {
            self.distances_us = Some((1_000, 300_000));
        }
        if dice.chance(200) {
            let bytes_per_s = *dice.pick(&[20_000, 50_000, 200_000, 2_000_000]);
            self.weather.rate = Some(Rate { bytes_per_s, queue_bytes_max: *dice.pick(&[2_000, 16_000]) });
        }
        let spells = if dice.chance(300) { dice.between(1, 3) } else { 0 };
        for _ in 0..spells {
            let pattern = Pattern::draw(self.sites(), &mut dice);
            let from_us = dice.between(200_000, self.storm_us);
            let until_us = from_us + dice.heavy(if pattern.flap_us > 0 { 2_500_000 } else { 900_000 });
            self.spells.push(Spell { pattern, from_us, until_us });
        }
        self
    }

    /// In some runs not all are healed. What a disk took is to be had from the others, so that is not for these runs.
    fn cored(mut self) -> Self {
        let mut dice = Dice::new(self.seed, Stream::Core, 0);
        let whole = self.severed.is_none() && self.steps.is_empty() && !self.menu.disk_loss && !self.menu.rot;
        if self.regions > 2 && whole && self.menu != Menu::default() && dice.chance(200) {
            let mut core = Group::of(0..self.regions);
            for _ in 0..dice.between(1, self.regions as u64 - 2) {
                core = core.without(dice.below(self.regions as u64) as usize);
            }
            self.core = Some(core);
        }
        self
    }

    /// Further kinds of incidents. Of draws of their own, each kind of one, so that the rest of a seed's run is what it was
    /// before there were these, and before there is another.
    fn eventful(mut self) -> Self {
        if self.menu == Menu::default() {
            return self;
        }
        let on = |kind: u64, per_mille| Dice::new(self.seed, Stream::Events, kind << 32).chance(per_mille);
        // What an old copy lacks is to be had from the others, as with a disk that is lost.
        let whole = self.severed.is_none() && self.core.is_none() && !self.menu.rot;
        self.menu.pauses = on(1, 250);
        self.menu.restores = on(2, 120) && whole;
        self.menu.swizzles = on(3, 200);
        self.menu.upgrades = on(4, 150);
        self.menu.drifts = on(5, 200);
        if self.menu.drifts {
            self.clocks = drifting(self.seed, self.sites());
        }
        self
    }

    /// Who is healed at the end.
    pub fn healed(&self) -> Group {
        self.core.unwrap_or_else(|| Group::of(0..self.sites()))
    }

    /// In some runs a namespace has fewer keys than clients ask for, or memory is soon full. Drawn last, so that
    /// the runs of other seeds stay what they were.
    fn bounded(mut self, per_namespace: usize, dice: &mut Dice) -> Self {
        if dice.chance(120) && per_namespace > 1 {
            let namespace = dice.below(self.namespaces.len() as u64) as usize;
            self.namespaces[namespace].max_keys = Some(dice.between(1, per_namespace as u64 - 1) as usize);
        }
        if dice.chance(80) {
            // The ring is a part of the memory, so it must be small, too.
            self.ring_bytes = 4 * 1024;
            self.tight_memory_bytes = Some(dice.between(8, 14) as usize * 1024);
        }
        if self.regions > 2 && dice.chance(120) {
            let a = dice.below(self.regions as u64 - 1) as usize;
            self.severed = Some((a, a + 1 + dice.below((self.regions - 1 - a) as u64) as usize));
        }
        self
    }

    /// In some runs majorities decide, in one namespace or in all.
    fn levelled(mut self) -> Self {
        let mut dice = Dice::new(self.seed, Stream::Levels, 0);
        if dice.chance(400) {
            let all = dice.chance(400);
            let one = dice.below(self.namespaces.len() as u64) as usize;
            for (number, namespace) in self.namespaces.iter_mut().enumerate() {
                if all || number == one {
                    namespace.level = Level::Quorum;
                }
            }
        }
        self
    }

    /// In some runs keys have homes, in one namespace or in all that majorities do not decide.
    fn homed(mut self) -> Self {
        let mut dice = Dice::new(self.seed, Stream::Homes, 0);
        if dice.chance(350) {
            let all = dice.chance(400);
            let one = dice.below(self.namespaces.len() as u64) as usize;
            for (number, namespace) in self.namespaces.iter_mut().enumerate() {
                let (named, falls_back) = (dice.chance(300), dice.chance(300));
                let home = dice.below(self.regions as u64) as usize;
                if (all || number == one) && namespace.level == Level::Local {
                    (namespace.level, namespace.falls_back) = (Level::Home, falls_back);
                    namespace.home = named.then_some(home);
                }
            }
        }
        self
    }

    /// What people call a region.
    pub fn name(&self, region: usize) -> String {
        naming::region(&self.names, region)
    }

    /// Whether majorities decide anything (S5).
    pub fn asks_majorities(&self) -> bool {
        self.namespaces.iter().any(|namespace| namespace.level == Level::Quorum)
    }

    /// Regions that ever are.
    pub const fn sites(&self) -> usize {
        self.regions + self.newcomers
    }

    /// Who belongs after so many changes of membership.
    pub fn members(&self, step: usize) -> Group {
        step.checked_sub(1).map_or_else(|| Group::of(0..self.regions), |at| self.steps[at].members)
    }

    /// How long healed regions may take to agree, microseconds: in rounds, and a round takes longer where links do (INV-17).
    pub fn convergence_us(&self) -> u64 {
        limits::CONVERGENCE_US_MAX + limits::CONVERGENCE_TRIPS * self.trip_us_max()
    }

    /// Links after the healing: short, and as narrow as before.
    pub const fn calm(&self) -> Weather {
        Weather { rate: self.weather.rate, ..Weather::calm(self.healed_us, self.weather.spread) }
    }
}

/// Where nothing else is said, links are so short after the healing, microseconds.
const HEALED_US: u64 = 2_000;
/// Keys of a run of one pattern.
const PATTERN_KEYS: usize = 40;
/// By how much delays differ in it, microseconds.
const PATTERN_JITTER_US: u64 = 10_000;
/// When the pattern of such a run begins and when it is healed, microseconds.
const PATTERN_US: (u64, u64) = (2_000_000, 12_000_000);

/// Clocks of which each goes at a pace of its own.
pub(crate) fn drifting(seed: u64, sites: usize) -> Vec<OwnClock> {
    let mut dice = Dice::new(seed, Stream::Events, (5 << 32) | 1);
    let most = limits::DRIFT_PPM_MAX;
    let clock = |region| OwnClock {
        region,
        offset_ms: None,
        drift_ppm: dice.below(2 * most + 1) as i64 - most as i64,
    };
    (0..sites).map(clock).collect()
}

fn namespaces(max_drift_ms: u64, dice: &mut Dice) -> Vec<Namespace> {
    // In some runs every reply waits for the disk: then a power loss keeps the incarnation (S6).
    let all_durable = dice.chance(150);
    let mut namespace = |name: &str, unknown_on_lease_end, durable: bool, longest_ms| {
        let name = name.to_owned();
        let lease_ms = dice.between(50, 600);
        let retention_ms = (lease_ms + 2 * max_drift_ms + dice.between(300, longest_ms)).max(1_000);
        let durable = durable || all_durable;
        Namespace {
            name,
            lease_ms,
            retention_ms,
            unknown_on_lease_end,
            durable,
            max_keys: None,
            level: Level::Local,
            home: None,
            falls_back: false,
        }
    };
    vec![
        namespace("pay", false, false, 60_000),
        namespace("vault", false, true, 20_000),
        namespace("once", true, false, 8_000),
        namespace("brief", false, false, 1_500),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_lawful_and_all_kinds_of_fault_occur() {
        let mut met = [0u32; 7];
        for seed in 0..500 {
            let scenario = Scenario::draw(seed);
            for namespace in &scenario.namespaces {
                assert!(namespace.retention_ms > namespace.lease_ms + 2 * scenario.max_drift_ms, "S1");
                assert!(namespace.retention_ms >= 1000, "S8");
            }
            assert!(scenario.regions >= 2 && scenario.keys.len() == scenario.namespace_of.len());
            let menu = scenario.menu;
            let bounded = scenario.namespaces.iter().any(|namespace| namespace.max_keys.is_some());
            let tight = scenario.tight_memory_bytes.is_some();
            let severed = scenario.severed.inspect(|(a, b)| assert!(a < b && *b < scenario.regions));
            for (count, on) in met.iter_mut().zip([
                menu.partitions,
                menu.power,
                menu.beyond,
                menu == Menu::default(),
                bounded,
                tight,
                severed.is_some(),
            ]) {
                *count += u32::from(on);
            }
        }
        assert!(met.iter().all(|count| *count > 10), "{met:?}");
    }
}
