//! Real links: daemons in network namespaces of their own, joined by nothing but a relay that plays the weather.
//!
//! ```text
//!   namespace of eu          namespace of the relay           namespace of us
//!   10.111.0.2:7700 ──veth── 10.111.0.1:7701  ──────  10.111.1.1:7700 ──veth── 10.111.1.2:7700
//!                            (stands for us)  [Direction]  (stands for eu)
//! ```
//!
//! What eu sends to the address that stands for us goes through the simulator's own [`crate::link::Direction`] and leaves for us,
//! from the address that stands for eu. So whatever is between the two sockets is real (QUIC, its timers, the kernel's
//! UDP and its offloads), and what happens on the way means here what it means in the simulator.
//!
//! Rejected: netem (a kernel may lack it, and it knows nothing of our scenarios); a TUN device (opening one needs an
//! ioctl that no safe crate offers, and it would show the relay every packet's headers for nothing). A relay of UDP
//! sockets maps addresses, which daemons do not mind: they know each other by certificate.
//!
//! It must never leave a namespace, a veth or a thread behind, and never touch what it did not make.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use super::machine::{Lack, administrators_path};
pub use super::relay::Counts;
use super::relay::Relay;
use super::space::{self, Spaces};
pub use crate::link::{Rate, Spread, Weather};
use crate::pattern::Pattern;

/// The UDP port of every region, and the first of those that stand for regions.
pub(super) const PORT: u16 = 7700;

/// Weather without anything but `delay` each way.
pub const fn calm(delay: Duration) -> Weather {
    Weather::calm(delay.as_micros() as u64, Spread::Even(0))
}

/// Namespaces, veths and the relay between them.
#[derive(Debug)]
pub struct Links {
    // Ended before the namespaces go.
    relay: Relay,
    spaces: Spaces,
}

impl Links {
    /// Links between `regions` regions, all open, with the same weather in every direction.
    ///
    /// # Errors
    /// What the machine lacks.
    ///
    /// # Panics
    /// The relay cannot be started although the namespaces are there.
    pub fn create(regions: usize, weather: Weather) -> Result<Self, Lack> {
        let spaces = Spaces::create(regions)?;
        let relay = Relay::start(&spaces, weather).unwrap_or_else(|error| panic!("no relay: {error}"));
        Ok(Self { relay, spaces })
    }

    /// A command that runs `program` where region `at` lives. The process is the program itself.
    pub fn command(&self, at: usize, program: &std::path::Path) -> Command {
        // Not `ip netns exec`: that gives the process mounts of its own, and what is mounted at that moment stays in
        // use until it ends. The power cuts beside it then got a disk back that had never been let go.
        let mut command = Command::new("nsenter");
        command.env("PATH", administrators_path());
        command.arg(format!("--net={}", space::path(self.spaces.region(at)).display())).arg(program);
        command
    }

    /// A socket where region `at` listens, instead of a daemon.
    ///
    /// # Errors
    /// What the system says; a daemon may have the address.
    pub fn socket(&self, at: usize) -> std::io::Result<UdpSocket> {
        let sockets = Spaces::bind(self.spaces.region(at), &[self.address(at, at)])?;
        Ok(sockets.into_iter().next().expect("one address, one socket"))
    }

    /// The address of region `of` as region `at` knows it; its own, to listen on, if they are the same.
    pub fn address(&self, at: usize, of: usize) -> SocketAddr {
        if at == of { space::region_address(at) } else { space::relay_address(at, of) }
    }

    /// The weather from one region to another, from now on.
    pub fn set(&self, from: usize, to: usize, weather: Weather) {
        self.relay.lanes().of(from, to).weather = weather;
    }

    /// The weather everywhere, from now on.
    pub fn set_all(&self, weather: Weather) {
        self.relay.lanes().each(|lane| lane.weather = weather);
    }

    /// Whether anything passes from one region to another, from now on.
    pub fn set_open(&self, from: usize, to: usize, open: bool) {
        self.relay.lanes().of(from, to).set_cut(!open);
    }

    /// Nothing passes from one region to another any more; the other way is as it was.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.set_open(from, to, false);
    }

    /// Nothing passes between the two any more.
    pub fn cut(&self, one: usize, other: usize) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Cuts everything between two groups of regions.
    pub fn split(&self, ones: &[usize], others: &[usize]) {
        for one in ones {
            others.iter().for_each(|other| self.cut(*one, *other));
        }
    }

    /// Cuts what the simulator's pattern of that name cuts between so many regions.
    ///
    /// # Panics
    /// There is none of that name, or it would cut nothing.
    pub fn cut_as(&self, pattern: &str) {
        let regions = self.spaces.regions();
        let pattern = Pattern::named(pattern, regions).expect("a pattern that cuts something");
        pattern.links(regions).for_each(|(from, to)| self.cut_one_way(from, to));
    }

    /// Everything passes again between the two.
    pub fn heal(&self, one: usize, other: usize) {
        self.set_open(one, other, true);
        self.set_open(other, one, true);
    }

    /// Everything passes everywhere, with this weather.
    pub fn heal_all(&self, weather: Weather) {
        self.relay.lanes().each(|lane| {
            lane.set_cut(false);
            lane.weather = weather;
        });
    }

    /// What a direction has carried since the beginning, and what is on its way.
    pub fn counts(&self, from: usize, to: usize) -> Counts {
        self.relay.counts(from, to)
    }

    /// The sum over all directions.
    pub fn counts_of_all(&self) -> Counts {
        let regions = self.spaces.regions();
        let pairs = (0..regions).flat_map(|from| (0..regions).map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to).map(|(from, to)| self.counts(from, to)).sum()
    }
}
