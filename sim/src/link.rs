//! One direction of a link: what becomes of a packet of so many bytes that leaves now.
//!
//! Pure: its own dice, the time as an argument. So the simulator sends frames through it in virtual time, and real packets of real
//! daemons go through the very same lines ([`crate::real`]): what a scenario means there is what it means here.
//!
//! Must never: draw another number of dice than it does now where the new parts of [`Weather`] are not asked for, since
//! seeds are written into bug reports.

use crate::random::{Dice, Stream};

/// How long a packet without delay and rate takes to be sent, bytes a microsecond.
const BYTES_PER_US: u64 = 100;

/// How delays differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spread {
    /// Mostly near the delay, sometimes many times it.
    Heavy,
    /// From the delay to so many microseconds more, all alike.
    Even(u64),
}

/// How much a direction carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Bytes a second, at least 1.
    pub bytes_per_s: u64,
    /// Bytes that wait at most; what comes beyond is dropped.
    pub queue_bytes_max: u64,
}

/// How bad a link is. Chances in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weather {
    /// Typical one-way delay, microseconds; with [`Spread::Even`] the least.
    pub delay_us: u64,
    /// How delays differ.
    pub spread: Spread,
    /// A packet vanishes.
    pub loss: u64,
    /// A packet arrives twice.
    pub duplicate: u64,
    /// A packet may overtake others, or be overtaken.
    pub reorder: u64,
    /// A frame of a broken session still arrives, in the next one. Of no meaning for packets.
    pub replay: u64,
    /// How much it carries; `None` is more than anybody sends.
    pub rate: Option<Rate>,
    /// Up for so long, then down for as long, in turns, microseconds; 0: up.
    pub flap_us: u64,
}

impl Weather {
    /// Nothing but a delay with its spread.
    pub const fn calm(delay_us: u64, spread: Spread) -> Self {
        Self { delay_us, spread, loss: 0, duplicate: 0, reorder: 0, replay: 0, rate: None, flap_us: 0 }
    }
}

impl Weather {
    /// Its delay in the mean, without the long tail of [`Spread::Heavy`], microseconds.
    pub const fn mean_us(&self) -> u64 {
        self.delay_us + if let Spread::Even(us) = self.spread { us / 2 } else { 0 }
    }
}

/// What becomes of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Dropped: the link is cut in this direction, or down as it flaps.
    Cut,
    /// Dropped by the weather: a session must break.
    Lost,
    /// Dropped: more waits already than the rate's queue takes.
    Overflowed,
    /// Arrives after that many microseconds, and a second time if there are two.
    Arrives(u64, Option<u64>),
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Direction {
    dice: Dice,
    cuts: u32,
    /// When the last packet in order arrives, microseconds.
    busy_until_us: u64,
    /// When the last packet will have been sent at the rate, nanoseconds.
    sent_at_ns: u64,
}

impl Direction {
    /// An open one; `entity` tells it from others of the same seed.
    pub fn new(seed: u64, entity: u64) -> Self {
        let dice = Dice::new(seed, Stream::Network, entity);
        Self { dice, cuts: 0, busy_until_us: 0, sent_at_ns: 0 }
    }

    /// Adds (or takes back) one reason for nothing to pass.
    pub const fn cut(&mut self, cut: bool) {
        self.cuts = if cut { self.cuts + 1 } else { self.cuts.saturating_sub(1) };
    }

    /// Takes back every reason.
    pub const fn heal(&mut self) {
        self.cuts = 0;
    }

    /// What waits to be sent does not any more.
    pub const fn forget_queue(&mut self) {
        self.sent_at_ns = 0;
    }

    /// Whether nobody has cut it.
    pub const fn is_open(&self) -> bool {
        self.cuts == 0
    }

    /// Draws whether something of so many thousandths happens on this direction.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.dice.chance(per_mille)
    }

    /// Draws a delay for something that is no packet.
    pub fn heavy(&mut self, typical_us: u64) -> u64 {
        self.dice.heavy(typical_us)
    }

    /// What becomes of a packet of `bytes` bytes that leaves at `now_us`, which never goes backwards.
    pub fn send(&mut self, weather: &Weather, bytes: usize, now_us: u64) -> Fate {
        let is_down = now_us.checked_div(weather.flap_us).is_some_and(|turn| turn % 2 == 1);
        if self.cuts > 0 || is_down {
            return Fate::Cut;
        }
        if self.chance(weather.loss) {
            return Fate::Lost;
        }
        let Some(sent_us) = self.transmit(weather.rate, bytes as u64, now_us) else {
            return Fate::Overflowed;
        };
        let delay_us = sent_us + self.delay(weather);
        let second = self.chance(weather.duplicate).then(|| delay_us + self.delay(weather));
        if self.chance(weather.reorder) {
            let astray_us = match weather.spread {
                Spread::Heavy => 0,
                // Another path: later than its turn by up to a whole delay, so that others overtake it.
                Spread::Even(_) => self.dice.below(weather.delay_us),
            };
            return Fate::Arrives(delay_us + astray_us, second);
        }
        self.busy_until_us = self.busy_until_us.max(now_us + delay_us);
        Fate::Arrives(self.busy_until_us - now_us, second)
    }

    /// Bytes that wait to be sent.
    pub fn queued_bytes(&self, rate: Rate, now_us: u64) -> u64 {
        let ahead_ns = u128::from(self.sent_at_ns.saturating_sub(now_us.saturating_mul(1_000)));
        (ahead_ns * u128::from(rate.bytes_per_s) / 1_000_000_000) as u64
    }

    /// In how many microseconds the last of the packet is sent, if the queue takes it.
    fn transmit(&mut self, rate: Option<Rate>, bytes: u64, now_us: u64) -> Option<u64> {
        let Some(rate) = rate else { return Some(bytes / BYTES_PER_US) };
        if self.queued_bytes(rate, now_us) + bytes > rate.queue_bytes_max {
            return None;
        }
        let (now_ns, takes_ns) = (now_us * 1_000, bytes * 1_000_000_000 / rate.bytes_per_s.max(1));
        self.sent_at_ns = self.sent_at_ns.max(now_ns) + takes_ns;
        Some((self.sent_at_ns - now_ns) / 1_000)
    }

    fn delay(&mut self, weather: &Weather) -> u64 {
        match weather.spread {
            Spread::Heavy => self.dice.heavy(weather.delay_us),
            // No draw where there is nothing to draw would make a direction's later draws depend on the spread.
            Spread::Even(spread_us) => weather.delay_us + self.dice.below(spread_us + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Weather = Weather::calm(40_000, Spread::Even(0));

    fn arrivals(weather: &Weather, packets: u64, every_us: u64) -> Vec<Option<u64>> {
        let mut direction = Direction::new(3, 0);
        let fate = |n: u64| match direction.send(weather, 1_000, n * every_us) {
            Fate::Arrives(delay_us, _) => Some(n * every_us + delay_us),
            _ => None,
        };
        (0..packets).map(fate).collect()
    }

    #[test]
    fn an_even_spread_stays_within_its_bounds_and_in_order() {
        let weather = Weather { spread: Spread::Even(5_000), ..CALM };
        let arrived: Vec<_> = arrivals(&weather, 1_000, 10_000).into_iter().flatten().collect();
        assert!(arrived.len() == 1_000 && arrived.is_sorted());
        let delays: Vec<_> = (0u64..).zip(&arrived).map(|(n, at)| at - n * 10_000).collect();
        assert!(delays.iter().all(|delay_us| (40_000..=45_010).contains(delay_us)), "{delays:?}");
        assert!(delays.iter().max() > delays.iter().min());
    }

    #[test]
    fn a_rate_sends_one_after_the_other_and_drops_what_its_queue_does_not_take() {
        // A packet of 1,000 bytes takes 1 ms; ten wait at most.
        let rate = Rate { bytes_per_s: 1_000_000, queue_bytes_max: 10_000 };
        let weather = Weather { rate: Some(rate), ..CALM };
        let at_once = arrivals(&weather, 15, 0);
        for (n, arrived) in (0u64..).zip(&at_once) {
            assert_eq!(*arrived, (n < 10).then_some(40_000 + (n + 1) * 1_000), "packet {n}");
        }
        let in_time = arrivals(&weather, 1_000, 1_000);
        assert!(in_time.iter().all(Option::is_some), "the queue is empty whenever the next comes");
        let mut direction = Direction::new(1, 0);
        direction.send(&weather, 4_000, 0);
        assert_eq!([0, 1_000, 9_000].map(|now_us| direction.queued_bytes(rate, now_us)), [4_000, 3_000, 0]);
    }

    #[test]
    fn packets_gone_astray_come_later_never_sooner() {
        let weather = Weather { reorder: 200, ..CALM };
        let arrived: Vec<_> = arrivals(&weather, 1_000, 100).into_iter().flatten().collect();
        assert!(!arrived.is_sorted());
        let delays = (0u64..).zip(&arrived).map(|(n, at)| at - n * 100);
        let astray = delays.filter(|delay_us| *delay_us > 40_010).count();
        assert!((100..300).contains(&astray), "{astray} of 1,000 at 20 %");
    }

    #[test]
    fn a_flapping_link_is_up_and_down_in_turns() {
        let weather = Weather { flap_us: 1_000_000, ..CALM };
        let arrived = arrivals(&weather, 40, 100_000);
        for (n, arrived) in arrived.iter().enumerate() {
            assert_eq!(arrived.is_some(), (n / 10) % 2 == 0, "at {n} tenths of a second");
        }
    }

    #[test]
    fn chances_are_thousandths() {
        let weather = Weather { loss: 10, duplicate: 50, ..CALM };
        let mut direction = Direction::new(3, 0);
        let (mut lost, mut doubled) = (0, 0);
        for n in 0..100_000 {
            match direction.send(&weather, 1, n) {
                Fate::Lost => lost += 1,
                Fate::Arrives(first_us, Some(second_us)) => {
                    assert!(second_us >= first_us);
                    doubled += 1;
                }
                _ => {}
            }
        }
        assert!((900..1_100).contains(&lost) && (4_500..5_500).contains(&doubled), "{lost}, {doubled}");
    }
}
