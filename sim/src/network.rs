//! The links between regions: delay, jitter, loss, duplication, reordering, partitions (also of one
//! direction only), and sessions that break.
//!
//! A session is what a QUIC connection is to the replica: it comes up at both ends and goes down at
//! both ends. Within a session frames normally arrive once and in order, as a stream's do; with
//! `rough` weather they may be lost, doubled or overtaken all the same, because INV-15 says that such
//! frames change nothing they should not. A session that lost a frame is broken soon afterwards, since
//! a stream never recovers from a hole.
//!
//! Must never: change a frame's bytes; that is the fuzzers' work.

use crate::link::Direction;

pub use crate::link::{Fate, Spread, Weather};

/// All links.
#[derive(Clone, Debug)]
pub struct Network {
    regions: usize,
    weather: Weather,
    directions: Vec<Direction>,
    /// By pair: the number of the session that is up, or 0.
    sessions: Vec<u64>,
    next_session: u64,
}

impl Network {
    /// Links between all of `regions` regions, all down.
    pub fn new(seed: u64, regions: usize, weather: Weather) -> Self {
        let directions = (0..regions * regions).map(|entity| Direction::new(seed, entity as u64)).collect();
        Self { regions, weather, directions, sessions: vec![0; regions * regions], next_session: 0 }
    }

    /// Adds (or takes back) one reason for nothing to pass from `from` to `to`.
    pub fn cut(&mut self, from: usize, to: usize, cut: bool) {
        let at = self.at(from, to);
        self.directions[at].cut(cut);
    }

    /// Takes back every reason.
    pub fn heal(&mut self, weather: Weather) {
        self.weather = weather;
        self.directions.iter_mut().for_each(Direction::heal);
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
        self.next_session
    }

    /// Ends the session, if one is up.
    pub fn disconnect(&mut self, a: usize, b: usize) -> bool {
        let pair = self.pair(a, b);
        std::mem::take(&mut self.sessions[pair]) != 0
    }

    /// What becomes of a frame of `bytes` bytes that leaves at `now_us`.
    pub fn send(&mut self, from: usize, to: usize, bytes: usize, now_us: u64) -> Fate {
        let (weather, at) = (self.weather, self.at(from, to));
        self.directions[at].send(&weather, bytes, now_us)
    }

    /// Whether a frame of a session that is over arrives all the same.
    pub fn replays(&mut self, from: usize, to: usize) -> bool {
        let (replay, at) = (self.weather.replay, self.at(from, to));
        self.directions[at].is_open() && self.directions[at].chance(replay)
    }

    /// A delay on the link for something that is no frame: a handshake, an idle timeout's noticing.
    pub fn delay_us(&mut self, from: usize, to: usize, typical_us: u64) -> u64 {
        let at = self.at(from, to);
        self.directions[at].heavy(typical_us)
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
    fn sessions_belong_to_pairs() {
        let mut network = Network::new(5, 3, ROUGH);
        let session = network.connect(2, 1);
        assert_eq!(network.session(1, 2), Some(session));
        assert!(network.disconnect(1, 2) && !network.disconnect(2, 1));
        assert_ne!(network.connect(1, 2), session);
    }
}
