//! Two replicas and the frames between them.

use std::collections::BTreeMap;
use std::time::Instant;

use crdt::entry::{Attempt, Bytes, Entry, Outcome, Packed, Phase};
use crdt::hash::ClusterKeys;
use crdt::hlc::Stamp;
use crdt::ids::{ClaimId, Incarnation, LogEpoch, RegionId};
use crdt::journal::{EntryRecord, Origin, Record};
use crdt::limits;
use crdt::node::{ComparePace, Node, NodeConfig, NodeMemory};
use crdt::policy::{Policies, Policy};
use crdt::store::{Scratch, Store, StoreConfig};
use crdt::wire::{Bodies, Frame};
use tests::random::Random;

const T0: u64 = 1_800_000_000_000;
const RETENTION_MS: u64 = 24 * 3_600_000;
const SPREAD_MS: u64 = 20 * 3_600_000;
const PARTITION_MS: u64 = 120_000;
const RECORDS_A_MERGE: usize = 1_000;

/// What one comparison cost.
#[derive(Debug, Default)]
pub struct Cost {
    /// Of all its frames, both ways.
    pub bytes: usize,
    /// Of the entries in them alone: what was repaired.
    pub entry_bytes: usize,
    /// From the first question to the last repair.
    pub round_trips: f64,
    /// Of both sides' work, milliseconds.
    pub ms: f64,
}

struct Side {
    region: RegionId,
    store: Store,
    node: Node,
}

/// See the module's text.
pub struct Pair {
    sides: [Side; 2],
    wall_ms: u64,
    random: Random,
    made: u64,
}

impl Side {
    fn new(region: u16, peer: u16) -> Self {
        let config = StoreConfig {
            region: RegionId(region),
            incarnation: Incarnation(1),
            keys: ClusterKeys { hash: [1; 16], tag: [2; 16] },
            max_drift_ms: 500,
            shards: limits::SHARDS_DEFAULT,
            max_memory_bytes: usize::MAX / 4,
            ring_bytes_max: 64 << 20,
        };
        let store = Store::new(config, Policies::new(Policy::default(), BTreeMap::new()), Stamp::ZERO, 1);
        let config = NodeConfig {
            cluster: [7; 16],
            name: format!("region-{region}"),
            peers: vec![RegionId(peer)],
            membership: 1,
            epoch: LogEpoch(1),
            catch_up_wait_ms: 10_000,
            reach_wait_ms: 2_000,
            alone: false,
            pace: ComparePace::default(),
        };
        let memory = NodeMemory { epochs: vec![(LogEpoch(1), 1)], first_lsn: 1, ..NodeMemory::default() };
        let node = Node::new(config, memory, &store, T0);
        Self { region: RegionId(region), store, node }
    }

    fn merge(&self, bodies: &[Vec<u8>], wall_ms: u64) {
        let bodies = bodies.iter().map(Vec::as_slice);
        self.store.merge(bodies, RegionId(9), wall_ms, &mut Scratch::default()).expect("good records");
        self.drain();
    }

    /// There is no disk: what is to be written is.
    fn drain(&self) {
        while let Some(batch) = self.store.tail().take(Vec::new()) {
            self.store.tail().mark_written(batch);
        }
        self.store.tail().mark_synced(self.store.tail().written());
    }
}

impl Pair {
    /// Both hold the same `keys` keys.
    pub fn new(keys: usize) -> Self {
        let sides = [Side::new(1, 2), Side::new(2, 1)];
        let mut pair = Self { sides, wall_ms: T0, random: Random::new(1), made: 0 };
        pair.link();
        let mut left = keys;
        while left > 0 {
            let count = left.min(100_000);
            let bodies: Vec<Vec<u8>> = (0..count).map(|_| pair.entry(SPREAD_MS)).collect();
            pair.give(0, &bodies);
            pair.give(1, &bodies);
            left -= count;
        }
        pair
    }

    fn link(&mut self) {
        for (at, peer) in [(0, 2), (1, 1)] {
            let side = &mut self.sides[at];
            side.node.handle_link_up(&side.store, RegionId(peer), 1, T0);
        }
        for _ in 0..4 {
            self.exchange(&mut Cost::default());
        }
    }

    /// A settled entry of a third region, which no log of the two brings to the other.
    fn entry(&mut self, within_ms: u64) -> Vec<u8> {
        self.made += 1;
        let key = format!("payment:{:028x}", self.made);
        let stamp = Stamp::from_parts(T0 - 60_000 - self.random.below(within_ms as usize) as u64, 0);
        let id = ClaimId { stamp, region: RegionId(9), incarnation: Incarnation(1) };
        let expires_at = stamp.ms() + RETENTION_MS;
        let attempt = Attempt {
            id,
            phase: Phase::Held,
            lease_until: stamp.ms() + 30_000,
            abandoned_lease: 0,
            fingerprint: None,
            claimant: b"",
            note: b"",
            expires_at,
        };
        let outcome = Outcome {
            claim: id,
            completed: Stamp::from_parts(stamp.ms() + 20, 0),
            region: RegionId(9),
            incarnation: Incarnation(1),
            majority: false,
            compensated: false,
            fingerprint: None,
            bytes: &[b'o'; 200],
            expires_at,
        };
        let entry = Entry::of_attempt(attempt).join(&Entry::of_outcome(outcome));
        let mut body = Vec::new();
        let record = EntryRecord { key: Bytes(key.as_bytes()), entry: Packed::of(&entry) };
        Record::Entry(Origin::Merged, record).encode(&mut body);
        body
    }

    /// Gives each side half of `count` entries that the other lacks.
    pub fn differ(&mut self, count: usize, together: bool) {
        let within_ms = if together { PARTITION_MS } else { SPREAD_MS };
        let bodies: Vec<Vec<u8>> = (0..count).map(|_| self.entry(within_ms)).collect();
        let (ours, theirs) = bodies.split_at(count / 2);
        self.give(0, ours);
        self.give(1, theirs);
    }

    /// A side's log passes over them as they come: that they do not travel it learns only by reading it.
    fn give(&mut self, at: usize, bodies: &[Vec<u8>]) {
        for some in bodies.chunks(RECORDS_A_MERGE) {
            self.sides[at].merge(some, self.wall_ms);
            self.exchange(&mut Cost::default());
        }
    }

    /// Lets them compare once, to the end.
    pub fn compare(&mut self) -> Cost {
        let mut cost = Cost::default();
        let keys = |pair: &Self| pair.sides.iter().map(|side| side.store.keys()).sum::<usize>();
        let began = Instant::now();
        let (mut trips, mut quiet) = (0.0, 0);
        self.wall_ms += limits::COMPARE_EVERY_MS;
        let mut before = keys(self);
        while quiet < 3 {
            for side in &mut self.sides {
                side.node.handle_tick(&side.store, self.wall_ms);
            }
            let sent = cost.bytes;
            trips += 1.0;
            self.exchange(&mut cost);
            quiet = if cost.bytes == sent { quiet + 1 } else { 0 };
            if keys(self) != before {
                (before, cost.round_trips) = (keys(self), trips);
            }
        }
        cost.ms = began.elapsed().as_secs_f64() * 1e3;
        // The first question alone is half a trip, its answer the other: what was repaired arrived by one of them.
        cost.round_trips = if cost.round_trips == 0.0 { 1.0 } else { cost.round_trips };
        cost
    }

    /// One way, and back.
    fn exchange(&mut self, cost: &mut Cost) {
        for (from, to) in [(0, 1), (1, 0)] {
            let peer = self.sides[to].region;
            let mut frames = Vec::new();
            while let Some((_, frame)) = {
                let side = &mut self.sides[from];
                side.node.poll_send(&side.store, peer)
            } {
                frames.push(frame);
            }
            let us = self.sides[from].region;
            let side = &mut self.sides[to];
            for frame in frames {
                count(&frame, cost);
                side.node.handle_frame(&side.store, us, 1, &frame, self.wall_ms).expect("our own frames");
            }
            self.sides[to].drain();
            self.sides[from].drain();
        }
    }
}

fn count(frame: &[u8], cost: &mut Cost) {
    match Frame::decode(frame).expect("our own frames") {
        Frame::Repair { bodies, .. } => {
            cost.bytes += frame.len();
            cost.entry_bytes += Bodies::new(bodies).map(<[u8]>::len).sum::<usize>();
        }
        Frame::Compare { .. }
        | Frame::Differ { .. }
        | Frame::Narrow { .. }
        | Frame::Items { .. }
        | Frame::Want { .. } => cost.bytes += frame.len(),
        _ => {}
    }
}
