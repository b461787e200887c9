//! Network namespaces: one a region, one for the relay, a veth from each region to the relay.
//!
//! Their names carry this process's number and a serial number, so that runs and tests beside each other do not meet; what runs
//! that were killed have left is found by that number and taken away. Addresses are the same in every set: namespaces
//! do not see each other's.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::links::PORT;
use super::machine::{Lack, is_installed, run};

/// What namespaces of this harness are called; the number of the process that made them follows.
const PREFIX: &str = "onced-links-";
/// Where `ip netns` keeps them.
const FOLDER: &str = "/run/netns";
/// Regions at most: one byte of the address tells them apart.
const REGIONS_MAX: usize = 64;

/// Where a region's daemon listens, in its namespace.
pub(super) fn region_address(at: usize) -> SocketAddr {
    (Ipv4Addr::new(10, 111, at as u8, 2), PORT).into()
}

/// What stands for region `of` in the eyes of region `at`.
pub(super) fn relay_address(at: usize, of: usize) -> SocketAddr {
    (Ipv4Addr::new(10, 111, at as u8, 1), PORT + of as u16).into()
}

/// Where a namespace can be entered.
pub(super) fn path(space: &str) -> std::path::PathBuf {
    Path::new(FOLDER).join(space)
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Spaces {
    /// The regions', by index, and the relay's at the end.
    names: Vec<String>,
}

impl Spaces {
    pub(super) fn create(regions: usize) -> Result<Self, Lack> {
        static SERIAL: AtomicUsize = AtomicUsize::new(0);
        assert!((2..=REGIONS_MAX).contains(&regions), "2 to {REGIONS_MAX} regions, not {regions}");
        if !is_installed("ip") || !is_installed("nsenter") {
            return Err(Lack::Programs("ip (iproute2) or nsenter (util-linux) not found".to_owned()));
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Lack::Machine("only root may make network namespaces".to_owned()));
        }
        sweep();
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let own = |label: &str| format!("{PREFIX}{}-{serial}-{label}", std::process::id());
        let labels = (0..regions).map(|at| at.to_string()).chain(["relay".to_owned()]);
        // Entered one by one, so that what is there is taken away whatever fails.
        let mut spaces = Self { names: Vec::new() };
        for name in labels.map(|label| own(&label)) {
            ip(&["netns", "add", &name]).map_err(Lack::Machine)?;
            spaces.names.push(name);
        }
        (0..regions).try_for_each(|at| spaces.join(at)).map_err(Lack::Machine)?;
        Ok(spaces)
    }

    pub(super) fn regions(&self) -> usize {
        self.names.len() - 1
    }

    /// The namespace of a region.
    pub(super) fn region(&self, at: usize) -> &str {
        &self.names[at]
    }

    /// Sockets in a namespace: they stay in the one in which they were made, whoever uses them.
    pub(super) fn bind(space: &str, addresses: &[SocketAddr]) -> io::Result<Vec<UdpSocket>> {
        let space = File::open(path(space))?;
        let bind_there = || {
            // This thread alone moves, and it ends here.
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
            addresses.iter().map(UdpSocket::bind).collect::<io::Result<Vec<_>>>()
        };
        std::thread::scope(|scope| scope.spawn(bind_there).join()).expect("binding does not panic")
    }

    /// The namespace of the relay.
    pub(super) fn relay(&self) -> &str {
        self.names.last().expect("the relay's is the last")
    }

    /// The veth between a region and the relay.
    fn join(&self, at: usize) -> Result<(), String> {
        let (relay, region, veth) = (self.relay(), self.region(at), format!("region{at}"));
        ip(&["-n", relay, "link", "add", &veth, "type", "veth", "peer", "name", "relay", "netns", region])?;
        for (space, name, address) in
            [(relay, veth.as_str(), relay_address(at, at)), (region, "relay", region_address(at))]
        {
            ip(&["-n", space, "addr", "add", &format!("{}/24", address.ip()), "dev", name])?;
            ip(&["-n", space, "link", "set", name, "up"])?;
        }
        ip(&["-n", region, "link", "set", "lo", "up"])
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for name in &self.names {
            if let Err(error) = ip(&["netns", "delete", name]) {
                eprintln!("the namespace {name} stays: {error}");
            }
        }
    }
}

/// Takes away what killed runs have left, of processes that are gone.
fn sweep() {
    let Ok(listing) = std::fs::read_dir(FOLDER) else { return };
    for name in listing.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let gone =
            owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists());
        if gone {
            eprintln!("{name} was left by a run that was killed: deleted");
            // Another run may sweep at the same moment.
            let _ = ip(&["netns", "delete", &name]);
        }
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    run(std::process::Command::new("ip").args(words)).map(|_| ())
}
