//! A few replicas, their logs in memory and the links between them, in virtual time.
//!
//! Every frame goes through the real codec. The harness keeps a second book of what each replica has
//! made durable, read back from the bytes it wrote, and holds every frame that leaves against it:
//! nothing is sent or acknowledged before its durability (INV-8).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::entry::{Bytes, Entry};
use crate::hash::ClusterKeys;
use crate::ids::{Incarnation, Lsn, RegionId};
use crate::journal::{HEADER_BYTES, Origin, Record, Records, SegmentHeader};
use crate::node::{ComparePace, FrameError, LinkId, LinkState, LogRead, Node, NodeConfig};
use crate::policy::{Durable, Policies, Policy};
use crate::recovery::{Recovered, Recovery, RecoveryConfig};
use crate::request::{Claim, Reply, Request};
use crate::store::{Batch, Ran, Scratch, Store, StoreConfig};
use crate::token::Token;
use crate::wire::stream::{self, Author};
use crate::wire::{Bodies, Frame};

pub const T0: u64 = 1_800_000_000_000;
pub const CLUSTER: [u8; 16] = [7; 16];
pub const STEP_MS: u64 = 10;

/// A small generator, so that a failing seed is the whole story.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What befalls frames, in percent each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub lost: u64,
    pub doubled: u64,
    pub reordered: u64,
}

pub struct Replica {
    pub region: RegionId,
    pub store: Store,
    pub node: Node,
    pub segments: Vec<(SegmentHeader, Vec<u8>)>,
    pub header: SegmentHeader,
    /// Bytes of each segment that the disk is sure to hold.
    pub synced: Vec<usize>,
    always: bool,
    /// What the bytes on this replica's disk say, as far as they are durable to their degree.
    durable: BTreeMap<Vec<u8>, Entry<'static>>,
    /// Written and not synced yet, at `always`.
    unsynced: VecDeque<(Lsn, &'static [u8])>,
    /// Its own deltas, by their numbers: what it has told or will tell its peers.
    own: Vec<(Lsn, Vec<u8>, Entry<'static>)>,
}

#[derive(Clone)]
pub struct Settings {
    pub policy: Policy,
    pub ring_bytes: usize,
    pub wall_ms: u64,
    pub boot: u64,
    pub catch_up_wait_ms: u64,
    pub reach_wait_ms: u64,
    pub alone: bool,
    pub membership: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let (wall_ms, boot) = (T0, 1);
        let ring_bytes = crate::limits::RING_BYTES_MIN;
        Self {
            policy: Policy::default(),
            ring_bytes,
            wall_ms,
            boot,
            catch_up_wait_ms: 10_000,
            reach_wait_ms: 2_000,
            alone: false,
            membership: 1,
        }
    }
}

/// The records of `region`'s frame as they stand in logs, each behind its length.
pub fn records_of(region: RegionId, frame: &Frame<'_>) -> Vec<u8> {
    match frame {
        Frame::Records { last, bodies, .. } => {
            let author = Author { region, incarnation: last.incarnation };
            stream::unpack(author, *bodies).expect("our own frames")
        }
        Frame::Repair { bodies, .. } => bodies.0.to_vec(),
        _ => Vec::new(),
    }
}

impl Replica {
    /// Starts from what `segments` hold, as a daemon does.
    pub fn start(
        region: u16,
        peers: &[u16],
        segments: Vec<(SegmentHeader, Vec<u8>)>,
        with: &Settings,
    ) -> Self {
        let store = StoreConfig {
            region: RegionId(region),
            incarnation: Incarnation::default(),
            keys: ClusterKeys { hash: [1; 16], tag: [2; 16] },
            max_drift_ms: 500,
            shards: 4,
            max_memory_bytes: 256 << 20,
            ring_bytes_max: with.ring_bytes,
        };
        let mut recovery = Recovery::new(RecoveryConfig {
            store,
            policies: Policies::new(with.policy.clone(), BTreeMap::new()),
            cluster: CLUSTER,
            boot: with.boot,
            acknowledged_unsynced: with.policy.durable == Durable::Interval,
            wall_ms: with.wall_ms,
            salvage: false,
            keys_hint: 0,
        });
        let headers: Vec<SegmentHeader> = segments.iter().map(|(header, _)| *header).collect();
        for (at, (_, bytes)) in segments.iter().enumerate() {
            let name = format!("segment {at}");
            recovery.segment(&name, bytes, &headers[at + 1..], || 0).expect("an undamaged log");
        }
        let Recovered { store, memory, header, .. } = recovery.finish();
        let config = NodeConfig {
            cluster: CLUSTER,
            name: format!("region-{region}"),
            peers: peers.iter().copied().filter(|peer| *peer != region).map(RegionId).collect(),
            membership: with.membership,
            epoch: header.epoch,
            catch_up_wait_ms: with.catch_up_wait_ms,
            reach_wait_ms: with.reach_wait_ms,
            alone: with.alone,
            // Frames are lost here as no transport loses them: what waits for one must not wait long.
            pace: ComparePace { patience_ms: 1_000, ..ComparePace::default() },
        };
        let node = Node::new(config, memory, &store, with.wall_ms);
        let mut replica = Self {
            region: RegionId(region),
            store,
            node,
            segments: Vec::new(),
            header,
            synced: Vec::new(),
            always: with.policy.durable == Durable::Always,
            durable: BTreeMap::new(),
            unsynced: VecDeque::new(),
            own: Vec::new(),
        };
        for (header, bytes) in &segments {
            replica.book(header.first_lsn, &bytes[HEADER_BYTES..]);
        }
        replica.make_durable(Lsn::MAX);
        replica.segments = segments;
        replica.segments.push((header, header.encode().to_vec()));
        replica.flush();
        replica
    }

    /// Writes all that waits; does not sync.
    pub fn write(&mut self) {
        while let Some(batch) = self.store.tail().take(Vec::new()) {
            let (_, segment) = self.segments.last_mut().expect("a start begins a segment");
            segment.extend_from_slice(&batch.bytes);
            self.book(batch.first, &batch.bytes.clone());
            self.store.tail().mark_written(batch);
        }
        if !self.always {
            self.make_durable(Lsn::MAX);
        }
    }

    pub fn sync(&mut self) {
        self.store.tail().mark_synced(self.store.tail().written());
        self.store.settle_ceiling();
        self.make_durable(self.store.tail().synced());
        self.synced = self.segments.iter().map(|(_, bytes)| bytes.len()).collect();
    }

    /// What the disk holds after a power loss that took all it could.
    pub fn after_power_loss(&self) -> Vec<(SegmentHeader, Vec<u8>)> {
        let kept = |((header, bytes), synced): (&(SegmentHeader, Vec<u8>), &usize)| {
            (*header, bytes[..*synced].to_vec())
        };
        self.segments.iter().zip(&self.synced).map(kept).collect()
    }

    pub fn flush(&mut self) {
        self.write();
        self.sync();
    }

    fn book(&mut self, first: Lsn, bytes: &[u8]) {
        let mut records = Records::new(bytes);
        let mut lsn = first;
        while let Ok(body) = records.next_body() {
            let body: &'static [u8] = body.to_vec().leak();
            self.unsynced.push_back((lsn, body));
            if let Ok(Record::Entry(Origin::Own, read)) = Record::decode(body) {
                self.own.push((lsn, read.key.0.to_vec(), read.entry.unpack().expect("its own")));
            }
            lsn += 1;
        }
    }

    fn make_durable(&mut self, upto: Lsn) {
        while let Some((lsn, body)) = self.unsynced.front().copied()
            && lsn <= upto
        {
            self.unsynced.pop_front();
            if let Ok(Record::Entry(_, read)) = Record::decode(body) {
                let known = self.durable.entry(read.key.0.to_vec()).or_default();
                *known = std::mem::take(known).join(&read.entry.unpack().expect("its own"));
            }
        }
    }

    fn holds_durably(&self, key: &[u8], entry: &Entry<'static>) -> bool {
        self.durable.get(key).is_some_and(|held| held.clone().join(entry) == *held)
    }

    /// The answer to a read from disk: a handful of records, so that a reader asks often.
    pub fn read(&self, from: Lsn) -> LogRead {
        let oldest = self.segments[0].0.first_lsn;
        if from < oldest {
            return LogRead::StartsAt(oldest);
        }
        let at = self
            .segments
            .iter()
            .rposition(|(header, _)| header.first_lsn <= from)
            .expect("not before the oldest");
        let (header, bytes) = &self.segments[at];
        let mut records = Records::new(&bytes[HEADER_BYTES..]);
        for _ in header.first_lsn..from {
            records.next_body().expect("records up to the one asked for");
        }
        let start = HEADER_BYTES + records.offset();
        let mut last = from - 1;
        while last < from + 6 && records.next_body().is_ok() {
            last += 1;
        }
        assert!(last >= from, "record {from} is in the log");
        let bytes = bytes[start..HEADER_BYTES + records.offset()].to_vec();
        LogRead::Records(Arc::new(Batch { bytes, first: from, last, sync_to: last, dies_at_ms: 0 }))
    }

    /// Begins a new segment, as a rotation does.
    pub fn rotate(&mut self, wall_ms: u64) {
        self.flush();
        let first_lsn = self.store.tail().appended() + 1;
        let header = SegmentHeader { first_lsn, created_ms: wall_ms, ..self.header };
        self.segments.push((header, header.encode().to_vec()));
        self.store.append_prologue(&self.node.cursors().into_iter().collect(), wall_ms);
        self.flush();
    }

    /// Runs a request; the status, and the token of a grant.
    pub fn run(&self, request: Request<'_>, wall_ms: u64) -> (&'static str, Option<Token>) {
        let (mut status, mut token) = ("", None);
        let ran = self.store.run(&request, wall_ms, None, &mut Scratch::default(), |reply| {
            status = reply.status();
            if let Reply::Granted { token: granted, .. } = reply {
                token = Some(*granted);
            }
        });
        assert!(matches!(ran, Ok(Ran::Replied(_))), "{ran:?}");
        (status, token)
    }

    pub fn claim(&self, key: &[u8], claimant: &[u8], wall_ms: u64) -> (&'static str, Option<Token>) {
        self.run(Request::Claim(Claim { key, claimant, ..Claim::default() }), wall_ms)
    }

    pub fn complete(&self, key: &[u8], token: Token, outcome: &[u8], wall_ms: u64) -> &'static str {
        self.run(Request::Complete { key, token, outcome, level: None, durable: false }, wall_ms).0
    }
}

pub struct Cluster {
    pub replicas: Vec<Replica>,
    pub wall_ms: u64,
    pub faults: Faults,
    pub dice: Dice,
    /// Frames on their way: from, to, by the index of replicas; with the receiver's link.
    pub pipes: BTreeMap<(usize, usize), VecDeque<Vec<u8>>>,
    pub links: BTreeMap<(usize, usize), LinkId>,
    next_link: LinkId,
    pub acks_seen: usize,
    pub errors: Vec<FrameError>,
}

impl Cluster {
    /// Regions 1 to `count`, started from nothing and linked.
    pub fn new(count: u16, with: &Settings) -> Self {
        let regions: Vec<u16> = (1..=count).collect();
        let start = |region: &u16| Replica::start(*region, &regions, Vec::new(), with);
        let replicas = regions.iter().map(start).collect();
        let mut cluster = Self {
            replicas,
            wall_ms: with.wall_ms,
            faults: Faults::default(),
            dice: Dice(1),
            pipes: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 1,
            acks_seen: 0,
            errors: Vec::new(),
        };
        for a in 0..cluster.replicas.len() {
            for b in a + 1..cluster.replicas.len() {
                cluster.link(a, b);
            }
        }
        cluster
    }

    /// Opens a link, both sides with numbers of their own.
    pub fn link(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            let peer = self.replicas[to].region;
            self.links.insert((from, to), self.next_link);
            let replica = &mut self.replicas[from];
            replica.node.handle_link_up(&replica.store, peer, self.next_link, self.wall_ms);
            self.next_link += 1;
        }
    }

    pub fn unlink(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            self.pipes.remove(&(from, to));
            let peer = self.replicas[to].region;
            if let Some(link) = self.links.remove(&(from, to)) {
                self.replicas[from].node.handle_link_down(peer, link, self.wall_ms);
            }
        }
    }

    /// Takes replica `at` down and starts it again from `segments`; its links come up anew.
    pub fn restart(&mut self, at: usize, segments: Vec<(SegmentHeader, Vec<u8>)>, with: &Settings) {
        let regions: Vec<u16> = self.replicas.iter().map(|replica| replica.region.0).collect();
        let _ = self.replace(at, Replica::start(regions[at], &regions, segments, with));
    }

    /// Puts another replica in the place of replica `at`, which goes on alone; its links come up anew.
    pub fn replace(&mut self, at: usize, replica: Replica) -> Replica {
        let others: Vec<usize> = (0..self.replicas.len()).filter(|other| *other != at).collect();
        others.iter().for_each(|other| self.unlink(at, *other));
        let before = std::mem::replace(&mut self.replicas[at], replica);
        others.iter().for_each(|other| self.link(at, *other));
        before
    }

    /// No more faults. A pair whose hellos were both lost is silent for ever here, where nothing gives a silent link up as
    /// the transport does: it connects anew.
    pub fn heal(&mut self) {
        self.faults = Faults::default();
        let pairs: Vec<_> = self.links.keys().copied().filter(|(from, to)| from < to).collect();
        for (from, to) in pairs {
            let linked = |at: usize, other: usize| {
                let (replica, other) = (&self.replicas[at], self.replicas[other].region);
                let views = replica.node.peers(&replica.store);
                views.iter().any(|view| view.region == other && view.state != LinkState::Connecting)
            };
            if !linked(from, to) || !linked(to, from) {
                self.unlink(from, to);
                self.link(from, to);
            }
        }
    }

    /// Everything that may leave goes on its way, held against what is durable.
    pub fn send(&mut self) {
        for from in 0..self.replicas.len() {
            for to in (0..self.replicas.len()).filter(|to| *to != from) {
                loop {
                    let peer = self.replicas[to].region;
                    let replica = &mut self.replicas[from];
                    while let Some(request) = replica.node.poll_read() {
                        let read = replica.read(request.from);
                        replica.node.handle_read(request, read);
                    }
                    let may_send = replica.node.may_send(&replica.store);
                    let Some((link, frame)) = replica.node.poll_send(&replica.store, peer) else { break };
                    assert!(may_send, "whoever asks that first would never have sent it");
                    assert_eq!(Some(&link), self.links.get(&(from, to)));
                    self.check_leaving(from, to, &frame);
                    self.pipes.entry((from, to)).or_default().push_back(frame);
                }
            }
        }
    }

    /// INV-8, against the second book.
    fn check_leaving(&mut self, from: usize, to: usize, frame: &[u8]) {
        let sender = &self.replicas[from];
        match Frame::decode(frame).expect("our own frames decode") {
            frame @ (Frame::Records { .. } | Frame::Repair { .. }) => {
                let unpacked = records_of(sender.region, &frame);
                for body in Bodies::new(Bytes(&unpacked)) {
                    let Ok(Record::Entry(_, read)) = Record::decode(body) else { continue };
                    let entry = read.entry.unpack().expect("its own");
                    let held =
                        sender.durable.get(read.key.0).is_some_and(|held| held.clone().join(&entry) == *held);
                    assert!(held, "region {} sent what is not durable with it", sender.region.0);
                }
            }
            Frame::Ack { upto, resend: false } => {
                self.acks_seen += 1;
                let receiver = &self.replicas[to];
                assert_eq!(upto.incarnation, receiver.store.config().incarnation);
                // What is dead need not have been told at all.
                let alive = |entry: &Entry<'_>| entry.dies_at_ms() + 500 >= self.wall_ms;
                let told = receiver.own.iter().filter(|(lsn, _, entry)| *lsn <= upto.lsn && alive(entry));
                for (lsn, key, entry) in told {
                    let whose = (sender.region.0, receiver.region.0);
                    assert!(
                        sender.holds_durably(key, entry),
                        "{whose:?}: record {lsn} acknowledged before it is durable"
                    );
                }
            }
            _ => {}
        }
    }

    /// Delivers what is on its way, with the faults of the hour.
    pub fn deliver(&mut self) {
        for ((from, to), mut frames) in std::mem::take(&mut self.pipes) {
            let faults = self.faults;
            if self.dice.below(100) < faults.reordered && frames.len() > 1 {
                let (a, b) = (self.dice.below(frames.len() as u64), self.dice.below(frames.len() as u64));
                frames.swap(a as usize, b as usize);
            }
            while let Some(frame) = frames.pop_front() {
                if self.dice.below(100) < faults.lost {
                    continue;
                }
                if self.dice.below(100) < faults.doubled {
                    frames.push_back(frame.clone());
                }
                if !self.hand_over(from, to, &frame) {
                    break;
                }
            }
        }
    }

    /// Gives one frame to its receiver; on an error both sides close and connect anew.
    pub fn hand_over(&mut self, from: usize, to: usize, frame: &[u8]) -> bool {
        let Some(link) = self.links.get(&(to, from)).copied() else { return false };
        let peer = self.replicas[from].region;
        let receiver = &mut self.replicas[to];
        let result = receiver.node.handle_frame(&receiver.store, peer, link, frame, self.wall_ms);
        if let Err(error) = result {
            self.errors.push(error);
            self.unlink(from, to);
            self.link(from, to);
            return false;
        }
        true
    }

    /// One step of time: deliver, tick, write, sync, send.
    pub fn step(&mut self) {
        self.wall_ms += STEP_MS;
        self.deliver();
        for replica in &mut self.replicas {
            replica.node.handle_tick(&replica.store, self.wall_ms);
            let _ = replica.store.extend_ceiling(self.wall_ms);
            replica.flush();
        }
        self.send();
    }

    pub fn run_ms(&mut self, ms: u64) {
        (0..ms / STEP_MS).for_each(|_| self.step());
    }

    /// INV-2: the same state and the same losers everywhere.
    #[track_caller]
    pub fn assert_converged(&self) {
        let first = &self.replicas[0].store;
        for replica in &self.replicas[1..] {
            assert_eq!(
                first.digest(self.wall_ms),
                replica.store.digest(self.wall_ms),
                "region {}",
                replica.region.0
            );
            assert_eq!(first.conflicts(None, None, 1_000), replica.store.conflicts(None, None, 1_000));
        }
    }
}
