//! The relay: one thread that takes packets in, asks the link model what becomes of each, and sends them when it is
//! time.
//!
//! One thread for all directions, because the machine has few cores and the daemons need them; it moves packets in
//! batches (the kernel's UDP offloads), since at full rate the system calls are what costs. Whoever measures delays
//! must know that packets leave up to some tens of microseconds late, the kernel's slack of timers.
//!
//! It must never let a packet through that its direction dropped, nor hold one back because another direction is busy.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::link::{Direction, Fate, Weather};
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::space::{Spaces, region_address, relay_address};

/// How often the thread looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes of one receive: as many datagrams as the kernel hands over as one.
const RECEIVE_BYTES: usize = 65_535;
/// Bytes sent as one at most.
const SEND_BYTES_MAX: usize = 60_000;
/// Receives of one socket before the others have their turn.
const RECEIVES_MAX: usize = 4;
/// What the kernel may hold for each socket.
const SOCKET_BYTES: usize = 4 << 20;
/// Of the dice; which packet meets what still depends on when daemons send.
const SEED: u64 = 1;

/// What a direction has carried: datagrams, and bytes of UDP payload.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Sent into it.
    pub packets: u64,
    /// Sent into it.
    pub bytes: u64,
    /// Packets dropped by a cut.
    pub cut: u64,
    /// Packets lost by the weather.
    pub lost: u64,
    /// Packets that found the queue full.
    pub overflowed: u64,
    /// Packets that arrive twice.
    pub doubled: u64,
    /// Packets delivered, second copies too.
    pub delivered: u64,
    /// Bytes of them; where the kernel took only some of a batch, by their number.
    pub delivered_bytes: u64,
    /// Packets that the kernel did not take when they were due.
    pub refused: u64,
    /// Packets on their way now.
    pub on_the_way: u64,
    /// Bytes that wait for the rate now.
    pub queued_bytes: u64,
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, next| Self {
            packets: sum.packets + next.packets,
            bytes: sum.bytes + next.bytes,
            cut: sum.cut + next.cut,
            lost: sum.lost + next.lost,
            overflowed: sum.overflowed + next.overflowed,
            doubled: sum.doubled + next.doubled,
            delivered: sum.delivered + next.delivered,
            delivered_bytes: sum.delivered_bytes + next.delivered_bytes,
            refused: sum.refused + next.refused,
            on_the_way: sum.on_the_way + next.on_the_way,
            queued_bytes: sum.queued_bytes + next.queued_bytes,
        })
    }
}

/// One direction and what is known of it.
#[derive(Debug)]
pub(super) struct Lane {
    direction: Direction,
    pub(super) weather: Weather,
    counts: Counts,
}

impl Lane {
    /// Cuts or heals, however often it was cut.
    pub(super) fn set_cut(&mut self, cut: bool) {
        self.direction.heal();
        if cut {
            self.direction.cut(true);
        }
    }
}

/// All directions, by the region they come from and then the one they go to.
#[derive(Debug)]
pub(super) struct Lanes {
    regions: usize,
    lanes: Vec<Lane>,
}

impl Lanes {
    pub(super) fn of(&mut self, from: usize, to: usize) -> &mut Lane {
        assert!(from != to && from.max(to) < self.regions, "no link from {from} to {to}");
        &mut self.lanes[from * self.regions + to]
    }

    pub(super) fn each(&mut self, change: impl FnMut(&mut Lane)) {
        self.lanes.iter_mut().for_each(change);
    }
}

#[derive(Debug)]
struct Common {
    lanes: Mutex<Lanes>,
    stop: AtomicBool,
    began: Instant,
}

impl Common {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        // Every change of a lane is one assignment: a panic elsewhere leaves it whole.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

/// The running relay; dropped, it ends.
#[derive(Debug)]
pub(super) struct Relay {
    common: Arc<Common>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    pub(super) fn start(spaces: &Spaces, weather: Weather) -> io::Result<Self> {
        let regions = spaces.regions();
        let lane = |entity: usize| Lane {
            direction: Direction::new(SEED, entity as u64),
            weather,
            counts: Counts::default(),
        };
        let lanes = Lanes { regions, lanes: (0..regions * regions).map(lane).collect() };
        let pairs: Vec<(usize, usize)> = (0..regions * regions)
            .map(|lane| (lane / regions, lane % regions))
            .filter(|(at, of)| at != of)
            .collect();
        let addresses: Vec<_> = pairs.iter().map(|(at, of)| relay_address(*at, *of)).collect();
        let mut ports = Vec::new();
        for ((at, of), socket) in pairs.into_iter().zip(Spaces::bind(spaces.relay(), &addresses)?) {
            let state = UdpSocketState::new((&socket).into())?;
            state.set_recv_buffer_size((&socket).into(), SOCKET_BYTES)?;
            state.set_send_buffer_size((&socket).into(), SOCKET_BYTES)?;
            ports.push(Port { at, of, socket, state });
        }
        let (stop, began) = (AtomicBool::new(false), Instant::now());
        let common = Arc::new(Common { lanes: Mutex::new(lanes), stop, began });
        let mut running = Running {
            common: Arc::clone(&common),
            regions,
            ports,
            on_the_way: BinaryHeap::new(),
            serial: 0,
            buffers: vec![vec![0; RECEIVE_BYTES]; BATCH_SIZE],
        };
        let thread = std::thread::Builder::new().name("relay".into()).spawn(move || running.run())?;
        Ok(Self { common, thread: Some(thread) })
    }

    pub(super) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.common.lanes()
    }

    pub(super) fn counts(&self, from: usize, to: usize) -> Counts {
        let now_us = self.common.now_us();
        let mut lanes = self.lanes();
        let lane = lanes.of(from, to);
        let queued = lane.weather.rate.map_or(0, |rate| lane.direction.queued_bytes(rate, now_us));
        Counts { queued_bytes: queued, ..lane.counts }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.common.stop.store(true, Ordering::Release);
        let ended = self.thread.take().map(JoinHandle::join);
        if ended.is_some_and(|ended| ended.is_err()) && !std::thread::panicking() {
            panic!("the relay has panicked: nothing was measured or tested since");
        }
    }
}

/// A socket that stands for region `of` where region `at` can reach it.
#[derive(Debug)]
struct Port {
    at: usize,
    of: usize,
    socket: UdpSocket,
    state: UdpSocketState,
}

/// A packet on its way, ordered by when it arrives.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Packet {
    at_us: u64,
    serial: u64,
    from: usize,
    to: usize,
    ecn: u8,
    bytes: Arc<[u8]>,
}

struct Running {
    common: Arc<Common>,
    regions: usize,
    ports: Vec<Port>,
    on_the_way: BinaryHeap<Reverse<Packet>>,
    serial: u64,
    buffers: Vec<Vec<u8>>,
}

impl Running {
    fn run(&mut self) {
        while !self.common.stop.load(Ordering::Acquire) {
            for port in self.wait() {
                for _ in 0..RECEIVES_MAX {
                    if !self.receive(port) {
                        break;
                    }
                }
            }
            self.deliver();
        }
    }

    /// Until something arrives, is due, or it is time to look at `stop`; which ports have something.
    fn wait(&self) -> Vec<usize> {
        let due_us = self.on_the_way.peek().map(|Reverse(packet)| packet.at_us);
        let until_due = due_us.map(|at_us| Duration::from_micros(at_us.saturating_sub(self.common.now_us())));
        let timeout = until_due.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
        let timeout = Timespec { tv_sec: 0, tv_nsec: timeout.as_nanos() as _ };
        let mut polled: Vec<_> = self
            .ports
            .iter()
            .map(|port| PollFd::from_borrowed_fd(port.socket.as_fd(), PollFlags::IN))
            .collect();
        // Interrupted: the next turn looks again.
        let _ = poll(&mut polled, Some(&timeout));
        polled.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()).map(|(port, _)| port).collect()
    }

    /// One batch; false if there was none.
    fn receive(&mut self, port: usize) -> bool {
        let Port { at, of, socket, state } = &self.ports[port];
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<_> = self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        let Ok(count) = state.recv(socket.into(), &mut slices, &mut meta) else { return false };
        let now_us = self.common.now_us();
        let mut lanes = self.common.lanes();
        let lane = lanes.of(*at, *of);
        for (meta, buffer) in meta.iter().zip(&self.buffers).take(count) {
            let ecn = meta.ecn.map_or(0, |ecn| ecn as u8);
            for bytes in buffer[..meta.len].chunks(meta.stride.max(1)) {
                let times = lane.take_in(bytes.len(), now_us);
                let shared: Option<Arc<[u8]>> = times[0].map(|_| bytes.into());
                for (at_us, bytes) in times.into_iter().flatten().zip(shared.iter().cycle()) {
                    self.serial += 1;
                    let bytes = Arc::clone(bytes);
                    let packet = Packet { at_us, serial: self.serial, from: *at, to: *of, ecn, bytes };
                    self.on_the_way.push(Reverse(packet));
                }
            }
        }
        true
    }

    /// Sends all that is due: neighbours of one direction and one size together.
    fn deliver(&mut self) {
        let now_us = self.common.now_us();
        let mut due: Vec<Vec<Packet>> = (0..self.regions * self.regions).map(|_| Vec::new()).collect();
        while self.on_the_way.peek().is_some_and(|Reverse(packet)| packet.at_us <= now_us) {
            let Some(Reverse(packet)) = self.on_the_way.pop() else { break };
            due[packet.from * self.regions + packet.to].push(packet);
        }
        for packets in due.iter().filter(|packets| !packets.is_empty()) {
            let (from, to) = (packets[0].from, packets[0].to);
            let port = self.ports.iter().find(|port| (port.at, port.of) == (to, from));
            let refused = port.expect("every direction ends at a port").send(packets);
            let bytes: u64 = packets.iter().map(|packet| packet.bytes.len() as u64).sum();
            let mut lanes = self.common.lanes();
            let counts = &mut lanes.of(from, to).counts;
            counts.delivered_bytes += bytes - bytes * refused / packets.len() as u64;
            counts.on_the_way -= packets.len() as u64;
            counts.delivered += packets.len() as u64 - refused;
            counts.refused += refused;
        }
    }
}

impl Lane {
    /// When a packet arrives, and when a second time.
    fn take_in(&mut self, bytes: usize, now_us: u64) -> [Option<u64>; 2] {
        self.counts.packets += 1;
        self.counts.bytes += bytes as u64;
        match self.direction.send(&self.weather, bytes, now_us) {
            Fate::Cut => self.counts.cut += 1,
            Fate::Lost => self.counts.lost += 1,
            Fate::Overflowed => self.counts.overflowed += 1,
            Fate::Arrives(first_us, second_us) => {
                self.counts.doubled += u64::from(second_us.is_some());
                self.counts.on_the_way += 1 + u64::from(second_us.is_some());
                return [Some(now_us + first_us), second_us.map(|second_us| now_us + second_us)];
            }
        }
        [None, None]
    }
}

impl Port {
    /// How many packets the kernel did not take.
    fn send(&self, packets: &[Packet]) -> u64 {
        let (mut refused, mut rest) = (0, packets);
        let mut contents = Vec::new();
        while let [first, ..] = rest {
            let size = first.bytes.len();
            let most = self.state.max_gso_segments().min(SEND_BYTES_MAX / size.max(1)).max(1);
            let alike = |packet: &&Packet| packet.bytes.len() == size && packet.ecn == first.ecn;
            let count = rest.iter().take(most).take_while(alike).count();
            contents.clear();
            rest[..count].iter().for_each(|packet| contents.extend_from_slice(&packet.bytes));
            let transmit = Transmit {
                destination: region_address(self.at),
                ecn: EcnCodepoint::from_bits(first.ecn),
                contents: &contents,
                segment_size: (count > 1).then_some(size),
                src_ip: None,
            };
            if self.state.try_send((&self.socket).into(), &transmit).is_err() {
                refused += count as u64;
            }
            rest = &rest[count..];
        }
        refused
    }
}
