//! The links between regions: delay, jitter, loss, duplication, reordering, partitions (also of one
//! direction only), and sessions that break.
//!
//! A session is what a QUIC connection is to the replica: it comes up at both ends and goes down at
//! both ends. Within a session frames normally arrive once and in order, as a stream's do; with
//! `rough` weather they may be lost, doubled or overtaken all the same, because INV-15 says that such
//! frames change nothing they should not. A session that lost a frame is broken soon afterwards, since
//! a stream never recovers from a hole.
//!
//! A link with a rate drops nothing of a session: as QUIC does, it takes no more ([`Network::is_full`]) until what waits
//! has gone ([`Network::room_in_us`]), so that what waits is at most its queue and one frame.
//!
//! Must never: change a frame's bytes; that is the fuzzers' work.

use crate::link::Direction;
use crate::random::{Dice, Stream};
use crate::scenario::Scenario;

pub use crate::link::{Fate, Rate, Spread, Weather};

/// All links.
#[derive(Clone, Debug)]
pub struct Network {
    regions: usize,
    weather: Weather,
    directions: Vec<Direction>,
    /// By direction: its own delay, microseconds; empty where all have the weather's.
    delays_us: Vec<u64>,
    /// By direction: its own weather; empty where all have the same.
    own: Vec<Option<Weather>>,
    /// By direction: a frame waits for room.
    waits: Vec<bool>,
    /// By pair: the number of the session that is up, or 0.
    sessions: Vec<u64>,
    next_session: u64,
}

impl Network {
    /// Links between all of `regions` regions, all down.
    pub fn new(seed: u64, regions: usize, weather: Weather) -> Self {
        let all = regions * regions;
        let directions = (0..all).map(|entity| Direction::new(seed, entity as u64)).collect();
        let (sessions, waits) = (vec![0; all], vec![false; all]);
        Self {
            regions,
            weather,
            directions,
            delays_us: Vec::new(),
            own: Vec::new(),
            waits,
            sessions,
            next_session: 0,
        }
    }

    /// The links of a scenario, all down.
    pub fn of(scenario: &Scenario) -> Self {
        let mut network = Self::new(scenario.seed, scenario.sites(), scenario.weather);
        if let Some(distances_us) = scenario.distances_us {
            network.spread_out(scenario.seed, distances_us);
        }
        for link in &scenario.links {
            network.set_own(link.from, link.to, link.weather);
        }
        network
    }

    /// All directed links.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let regions = self.regions;
        let all = (0..regions).flat_map(move |from| (0..regions).map(move |to| (from, to)));
        all.filter(|(from, to)| from != to)
    }

    /// Gives each pair of regions a distance of its own in these bounds, microseconds; the same both ways, and whatever
    /// the weather.
    pub fn spread_out(&mut self, seed: u64, (nearest_us, farthest_us): (u64, u64)) {
        let mut delays_us = vec![0; self.regions * self.regions];
        for from in 0..self.regions {
            for to in from + 1..self.regions {
                let mut dice = Dice::new(seed, Stream::Links, 1 + self.at(from, to) as u64);
                let delay_us = dice.between(nearest_us, farthest_us);
                delays_us[self.at(from, to)] = delay_us;
                delays_us[self.at(to, from)] = delay_us;
            }
        }
        self.delays_us = delays_us;
    }

    /// Gives one direction a weather of its own. Its delay, its spread and its rate stay after the healing.
    pub fn set_own(&mut self, from: usize, to: usize, weather: Weather) {
        self.own.resize(self.regions * self.regions, None);
        let at = self.at(from, to);
        self.own[at] = Some(weather);
    }

    /// Adds (or takes back) one reason for nothing to pass from `from` to `to`.
    pub fn cut(&mut self, from: usize, to: usize, cut: bool) {
        let at = self.at(from, to);
        self.directions[at].cut(cut);
    }

    /// Takes back every reason.
    pub fn heal(&mut self, weather: Weather) {
        self.weather = weather;
        for own in self.own.iter_mut().flatten() {
            *own = Weather { rate: own.rate, ..Weather::calm(own.delay_us, own.spread) };
        }
        self.directions.iter_mut().for_each(Direction::heal);
    }

    /// Directed links that are cut.
    pub fn cut_links(&self) -> usize {
        self.directions.iter().filter(|direction| !direction.is_open()).count()
    }

    /// Whether anything passes from one to the other.
    pub fn passes(&self, from: usize, to: usize) -> bool {
        self.directions[self.at(from, to)].is_open()
    }

    /// Whether both directions between the two pass.
    pub fn is_open(&self, a: usize, b: usize) -> bool {
        self.directions[self.at(a, b)].is_open() && self.directions[self.at(b, a)].is_open()
    }

    /// The session between the two that is up.
    pub fn session(&self, a: usize, b: usize) -> Option<u64> {
        let session = self.sessions[self.pair(a, b)];
        (session != 0).then_some(session)
    }

    /// Begins a session.
    pub fn connect(&mut self, a: usize, b: usize) -> u64 {
        self.next_session += 1;
        let pair = self.pair(a, b);
        self.sessions[pair] = self.next_session;
        // What waited of the last session went with it.
        for at in [self.at(a, b), self.at(b, a)] {
            self.directions[at].forget_queue();
        }
        self.next_session
    }

    /// Ends the session, if one is up.
    pub fn disconnect(&mut self, a: usize, b: usize) -> bool {
        let pair = self.pair(a, b);
        std::mem::take(&mut self.sessions[pair]) != 0
    }

    /// What becomes of a frame of `bytes` bytes that leaves at `now_us`.
    pub fn send(&mut self, from: usize, to: usize, bytes: usize, now_us: u64) -> Fate {
        let (mut weather, at) = (self.weather_of(from, to), self.at(from, to));
        // Bounded by who sends: see the module's text.
        weather.rate = weather.rate.map(|rate| Rate { queue_bytes_max: u64::MAX, ..rate });
        self.directions[at].send(&weather, bytes, now_us)
    }

    /// Whether so much waits on the link that it takes no more.
    pub fn is_full(&self, from: usize, to: usize, now_us: u64) -> bool {
        let at = self.at(from, to);
        let rate = self.own.get(at).and_then(Option::as_ref).map_or(self.weather.rate, |own| own.rate);
        rate.is_some_and(|rate| self.directions[at].queued_bytes(rate, now_us) >= rate.queue_bytes_max)
    }

    /// When a full link has room again, microseconds from now, half its queue being gone; `None` if somebody waits for
    /// that already.
    pub fn room_in_us(&mut self, from: usize, to: usize, now_us: u64) -> Option<u64> {
        let (at, rate) = (self.at(from, to), self.weather_of(from, to).rate?);
        let beyond = self.directions[at].queued_bytes(rate, now_us).saturating_sub(rate.queue_bytes_max / 2);
        let first = !std::mem::replace(&mut self.waits[at], true);
        first.then_some(1 + beyond.saturating_mul(1_000_000) / rate.bytes_per_s.max(1))
    }

    /// Nobody waits for room any more.
    pub fn stop_waiting(&mut self, from: usize, to: usize) {
        let at = self.at(from, to);
        self.waits[at] = false;
    }

    /// The link's typical one-way delay, microseconds.
    pub fn typical_us(&self, from: usize, to: usize) -> u64 {
        let at = self.at(from, to);
        match self.own.get(at) {
            Some(Some(own)) => own.delay_us,
            _ => self.delays_us.get(at).copied().unwrap_or(self.weather.delay_us),
        }
    }

    /// How long a packet takes on its way in the mean, as whoever sends it reckons, microseconds.
    pub fn mean_us(&self, from: usize, to: usize) -> u64 {
        let at = self.at(from, to);
        if let Some(Some(own)) = self.own.get(at) {
            return own.mean_us();
        }
        let delay_us = self.delays_us.get(at).copied().unwrap_or(self.weather.delay_us);
        delay_us + self.weather.mean_us() - self.weather.delay_us
    }

    /// What a direction's packets meet.
    pub fn weather_of(&self, from: usize, to: usize) -> Weather {
        if let Some(Some(own)) = self.own.get(self.at(from, to)) {
            return *own;
        }
        let delay_us = self.delays_us.get(self.at(from, to)).copied();
        Weather { delay_us: delay_us.unwrap_or(self.weather.delay_us), ..self.weather }
    }

    /// Whether a frame of a session that is over arrives all the same.
    pub fn replays(&mut self, from: usize, to: usize) -> bool {
        let (replay, at) = (self.weather.replay, self.at(from, to));
        self.directions[at].is_open() && self.directions[at].chance(replay)
    }

    /// A delay on the link for something that is no frame: a handshake, an idle timeout's noticing.
    pub fn delay_us(&mut self, from: usize, to: usize, typical_us: u64) -> u64 {
        let at = self.at(from, to);
        match self.weather_of(from, to).spread {
            Spread::Heavy => self.directions[at].heavy(typical_us),
            Spread::Even(_) => typical_us,
        }
    }

    const fn at(&self, from: usize, to: usize) -> usize {
        from * self.regions + to
    }

    fn pair(&self, a: usize, b: usize) -> usize {
        self.at(a.min(b), a.max(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUGH: Weather = Weather {
        loss: 100,
        duplicate: 100,
        reorder: 300,
        replay: 500,
        ..Weather::calm(1000, Spread::Heavy)
    };

    #[test]
    fn a_cut_of_one_direction_stops_that_direction_only() {
        let mut network = Network::new(1, 3, Weather { loss: 0, ..ROUGH });
        network.cut(0, 1, true);
        assert_eq!(network.send(0, 1, 10, 0), Fate::Cut);
        assert!(matches!(network.send(1, 0, 10, 0), Fate::Arrives(..)));
        assert!(!network.is_open(1, 0) && network.is_open(0, 2));
        network.cut(0, 1, true);
        network.cut(0, 1, false);
        assert_eq!(network.send(0, 1, 10, 0), Fate::Cut, "two reasons, one taken back");
        network.heal(ROUGH);
        assert!(network.is_open(0, 1));
    }

    #[test]
    fn frames_in_order_never_overtake_and_rough_ones_do() {
        let arrivals = |weather: Weather| {
            let mut network = Network::new(5, 2, weather);
            let mut arrivals = Vec::new();
            for n in 0..500u64 {
                if let Fate::Arrives(delay_us, _) = network.send(0, 1, 1, n * 10) {
                    arrivals.push(n * 10 + delay_us);
                }
            }
            arrivals
        };
        let smooth = arrivals(Weather { loss: 0, duplicate: 0, reorder: 0, ..ROUGH });
        assert!(smooth.is_sorted() && smooth.len() == 500);
        let rough = arrivals(ROUGH);
        assert!(!rough.is_sorted() && rough.len() < 500);
    }

    #[test]
    fn a_link_with_a_rate_is_full_instead_of_dropping_what_a_session_sends() {
        let rate = Rate { bytes_per_s: 1_000_000, queue_bytes_max: 10_000 };
        let weather = Weather { rate: Some(rate), ..Weather::calm(1_000, Spread::Even(0)) };
        let mut network = Network::new(1, 2, weather);
        let mut sent = 0;
        while !network.is_full(0, 1, 0) {
            assert!(
                matches!(network.send(0, 1, 3_000, 0), Fate::Arrives(..)),
                "one frame beyond the queue at most"
            );
            sent += 1;
        }
        assert_eq!(sent, 4);
        assert!(!network.is_full(1, 0, 0), "each direction has its own");
        let room_us = network.room_in_us(0, 1, 0).expect("nobody waits");
        assert_eq!(room_us, 7_001, "from 12,000 bytes to 5,000 at a byte a microsecond");
        assert_eq!(network.room_in_us(0, 1, 10), None, "one waits");
        assert!(network.is_full(0, 1, 1_999) && !network.is_full(0, 1, 2_001));
        network.stop_waiting(0, 1);
        assert!(network.room_in_us(0, 1, 10).is_some());
        network.connect(0, 1);
        assert!(!network.is_full(0, 1, 10), "what waited went with its session");
    }

    #[test]
    fn distances_are_a_pairs_own_and_alike_both_ways() {
        let mut network = Network::new(1, 30, Weather { rate: None, ..ROUGH });
        assert_eq!(network.typical_us(3, 4), 1_000);
        network.spread_out(1, (1_000, 300_000));
        let pairs = || (0..30).flat_map(|a| (0..a).map(move |b| (a, b)));
        let delays: Vec<u64> = pairs().map(|(a, b)| network.typical_us(a, b)).collect();
        assert!(delays.iter().all(|us| (1_000..=300_000).contains(us)));
        assert!(delays.iter().any(|us| *us < 10_000) && delays.iter().any(|us| *us > 290_000));
        assert!(pairs().all(|(a, b)| network.typical_us(a, b) == network.typical_us(b, a)));
    }

    #[test]
    fn a_links_own_weather_is_its_own_and_its_delay_outlives_the_healing() {
        let mut network = Network::new(1, 3, Weather { loss: 0, ..ROUGH });
        network.set_own(0, 1, Weather { loss: 1000, ..Weather::calm(70_000, Spread::Even(0)) });
        assert_eq!((network.typical_us(0, 1), network.typical_us(1, 0)), (70_000, 1_000));
        assert_eq!(network.send(0, 1, 10, 0), Fate::Lost);
        network.heal(Weather::calm(2_000, Spread::Heavy));
        assert_eq!(network.send(0, 1, 10, 0), Fate::Arrives(70_000, None));
        assert_eq!(network.typical_us(1, 0), 2_000);
    }

    #[test]
    fn sessions_belong_to_pairs() {
        let mut network = Network::new(5, 3, ROUGH);
        let session = network.connect(2, 1);
        assert_eq!(network.session(1, 2), Some(session));
        assert!(network.disconnect(1, 2) && !network.disconnect(2, 1));
        assert_ne!(network.connect(1, 2), session);
    }
}
