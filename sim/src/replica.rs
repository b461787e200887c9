//! The adapter between the simulation and the product: the only file, with its child, that turns
//! `crdt`'s types into the oracle's plain data and back.
//!
//! It drives one region's `Store` and `Node` exactly as the daemon does; what it must not do is to help:
//! no ordering, no retrying, no checking here.
//!
//! Must never: decide anything.

pub mod backup;
pub mod carried;
mod convert;
pub mod homes;
pub mod losers;
pub mod rot;
mod said;
pub mod start;

pub use convert::Real;
pub use said::{Said, describe, record_bytes, said};

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crdt::decide::{Gathered, Proposal};
use crdt::hash::ClusterKeys;
use crdt::ids::{Fingerprint, Incarnation, RegionId};
use crdt::journal::SegmentHeader;
use crdt::node::{
    ComparePace, FrameError, LinkState, LogRead, MembershipChange, MembershipError, Node, NodeConfig,
    ReadRequest,
};
use crdt::policy::{Durable, Fallback, OnLeaseEnd, Policies, Policy};
use crdt::recovery::{Damage, RecoveryConfig};
use crdt::request::{Claim, Reply, Request, Resolution};
use crdt::snapshot::Manifest;
use crdt::store::{self, Look, Release, Scratch, Store, StoreConfig};
use crdt::token::{TOKEN_TEXT_BYTES, Token};

use crate::disk::Disk;
use crate::limits;
use crate::oracle::agreement::ConflictFact;
use crate::oracle::ask::{Answer, Ask, TokenFact};
use crate::oracle::facts::{Key, Lsn, Millis, View};
use crate::pattern::Group;
use crate::scenario::Scenario;
use start::{Closed, Found};

/// The cluster that all runs pretend to be.
const CLUSTER: [u8; 16] = *b"onced simulation";
/// Memory of a region that is not to be full, bytes.
const AMPLE_MEMORY_BYTES: usize = 64 * 1024 * 1024;
/// The namespace of [`Replica::probe`], and what is kept free for it where memory is tight: service to it must
/// return whatever all others have filled (S6).
const PROBE: &str = "probe";
const PROBE_BYTES: usize = 64 * 1024;

/// Runs are short: so that what no stream brings is found within them.
const HURRIED: ComparePace =
    ComparePace { age_ms: 300, alive_ms: 300, every_ms: 200, again_ms: 50, patience_ms: 1_000 };

/// Far regions need some round trips of 0.6 s and more for what near ones say within a second.
const PATIENT_MS: u64 = 10_000;

fn pace(scenario: &Scenario) -> ComparePace {
    match scenario.distances_us {
        // Old enough that nothing of it is on its way, and often, so that it shows if something is.
        None if scenario.unhurried && scenario.storm_us <= limits::COMPARES_OFTEN_US_MAX => {
            ComparePace { every_ms: 500, again_ms: 500, ..ComparePace::default() }
        }
        _ if scenario.unhurried => ComparePace::default(),
        Some(_) => ComparePace { patience_ms: PATIENT_MS, ..HURRIED },
        None => HURRIED,
    }
}

/// Entries as they were when they were last looked at: unpacked anew only once their bytes have changed.
#[derive(Default)]
struct Seen {
    nothing: Rc<View>,
    /// By a few bits of the key; of the keys that share a place the last one stays.
    places: Vec<(Vec<u8>, Rc<View>)>,
}

/// Places of [`Seen`].
const SEEN_PLACES: usize = 64;

impl Seen {
    fn view(&mut self, key: &str, found: Option<&store::Inspected>) -> Rc<View> {
        let Some(found) = found else { return Rc::clone(&self.nothing) };
        if self.places.is_empty() {
            self.places.resize(SEEN_PLACES, (Vec::new(), Rc::clone(&self.nothing)));
        }
        let place = key.bytes().fold(0, |sum: usize, byte| sum.wrapping_mul(31) + usize::from(byte));
        let (record, view) = &mut self.places[place % SEEN_PLACES];
        if record != found.record() {
            found.record().clone_into(record);
            *view = Rc::new(convert::view(&found.entry()));
        }
        Rc::clone(view)
    }
}

/// One living region.
pub struct Replica {
    seen: RefCell<Seen>,
    store: Store,
    node: Node,
    scratch: Scratch,
    peers: Vec<RegionId>,
}

/// How a start went.
pub struct Started {
    /// The living region.
    pub replica: Replica,
    /// Header of the segment that this start begins.
    pub header: SegmentHeader,
    /// The region took a new incarnation.
    pub new_incarnation: bool,
    /// What runs cover.
    pub manifest: Manifest,
    /// All segments that count, oldest first.
    pub closed: Vec<Closed>,
    /// See [`start::Found::to_settle`].
    pub to_settle: Vec<(String, usize)>,
    /// Files that are no part of it any more.
    pub leftovers: Vec<String>,
    /// A torn tail was cut.
    pub torn: bool,
}

/// What a region decided.
pub struct Decided {
    /// For the caller, once released.
    pub answer: Answer,
    /// The token that came with it.
    pub token: Option<(Token, TokenFact)>,
    /// What must be durable first.
    pub release: Release,
}

/// What became of a request for now.
pub enum Ran {
    /// It is answered.
    Decided(Decided),
    /// It waits for its key to change.
    Parked,
    /// Once the release is reached, a majority is asked.
    Asks(Proposal, Release),
    /// That region decides, and is asked.
    Forwards(usize),
}

/// A token whose tag cannot verify.
pub fn forge(token: &Token) -> Token {
    let mut text: [u8; TOKEN_TEXT_BYTES] = token.text();
    let last = text.len() - 1;
    text[last] = if text[last] == b'0' { b'1' } else { b'0' };
    Token::from_text(&text).expect("hex digits of the same length are a token")
}

fn policies(scenario: &Scenario) -> Policies {
    let policy = |namespace: &crate::scenario::Namespace| Policy {
        retention_ms: namespace.retention_ms,
        lease_ms: namespace.lease_ms,
        on_lease_end: if namespace.unknown_on_lease_end { OnLeaseEnd::Unknown } else { OnLeaseEnd::Takeover },
        durable: if namespace.durable { Durable::Always } else { Durable::Interval },
        max_keys: namespace.max_keys.map(|keys| keys as u64),
        level: namespace.level,
        home: namespace.home.map(region_id),
        fallback: if namespace.falls_back { Fallback::Local } else { Fallback::Refuse },
        ..Policy::default()
    };
    let mut named: BTreeMap<_, _> =
        scenario.namespaces.iter().map(|ns| (ns.name.as_bytes().to_vec(), policy(ns))).collect();
    if scenario.tight_memory_bytes.is_some() {
        let reserved = Policy { max_bytes: Some(PROBE_BYTES as u64), ..Policy::default() };
        named.insert(PROBE.as_bytes().to_vec(), reserved);
    }
    Policies::new(Policy::default(), named)
}

/// Of the simulated cluster.
fn keys() -> ClusterKeys {
    ClusterKeys { hash: [3; 16], tag: [5; 16] }
}

impl Replica {
    /// Starts region number `index` from what its disk holds, configured as after `step` changes of membership, in that boot
    /// of its machine.
    pub fn start(
        scenario: &Scenario,
        index: usize,
        step: usize,
        (disk, boot): (&Disk, u64),
        wall: Millis,
    ) -> Result<Started, Damage> {
        let region = RegionId(index as u16 + 1);
        let store = StoreConfig {
            region,
            incarnation: Incarnation::default(),
            keys: keys(),
            max_drift_ms: scenario.max_drift_ms,
            shards: 2,
            max_memory_bytes: scenario
                .tight_memory_bytes
                .map_or(AMPLE_MEMORY_BYTES, |tight| tight + PROBE_BYTES),
            ring_bytes_max: scenario.ring_bytes,
        };
        let config = RecoveryConfig {
            store,
            policies: policies(scenario),
            cluster: CLUSTER,
            boot,
            acknowledged_unsynced: scenario.namespaces.iter().any(|namespace| !namespace.durable),
            wall_ms: wall,
            salvage: false,
            keys_hint: 0,
        };
        let Found { recovery, manifest, closed, to_settle, leftovers, torn } = start::load(disk, config)?;
        let recovered = recovery.finish();
        let peers = peers_of(scenario.members(step), region);
        let config = NodeConfig {
            cluster: CLUSTER,
            name: format!("r{}", region.0),
            peers: peers.clone(),
            membership: epoch_of(step),
            epoch: recovered.header.epoch,
            catch_up_wait_ms: 2_000,
            reach_wait_ms: limits::REACH_WAIT_US / 1000,
            alone: false,
            pace: pace(scenario),
        };
        let node = Node::new(config, recovered.memory, &recovered.store, wall);
        let seen = RefCell::default();
        let replica = Self { seen, store: recovered.store, node, scratch: Scratch::default(), peers };
        let (header, new_incarnation) = (recovered.header, recovered.new_incarnation);
        Ok(Started { replica, header, new_incarnation, manifest, closed, to_settle, leftovers, torn })
    }

    /// The hot half.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The cold half.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// The region's `now` (S2), Unix ms.
    pub fn now(&self, wall: Millis) -> Millis {
        self.store.now_ms(wall)
    }

    /// Its clock's last stamp, Unix ms.
    pub fn clock_ms(&self) -> Millis {
        self.store.clock().last().ms()
    }

    /// Peers of which this life has not heard a byte, by index.
    pub fn unheard(&self) -> Vec<usize> {
        let views = self.node.peers(&self.store).into_iter();
        views.filter(|view| view.bytes_in == 0).map(|view| region_index(view.region)).collect()
    }

    /// The region refuses claims because of its clock.
    pub fn distrusts_clock(&self, wall: Millis) -> bool {
        self.store.distrusts_clock(wall)
    }

    /// The end of the log, durable or not.
    pub fn appended(&self) -> Lsn {
        self.store.tail().appended()
    }

    /// Which life of the region's data this is.
    pub fn incarnation(&self) -> u32 {
        self.store.config().incarnation.0
    }

    /// A key's entry as plain data.
    pub fn view(&self, key: &str) -> Rc<View> {
        let found = self.store.inspect(key.as_bytes());
        self.seen.borrow_mut().view(key, found.as_ref())
    }

    /// Runs one request; with a ticket, a claim that waits may be parked. On a second look, with what came of the first.
    pub fn decide(
        &mut self,
        key: &str,
        ask: &Ask,
        token: Option<&Token>,
        (durable, ticket, look): (bool, Option<u64>, Look),
        wall: Millis,
    ) -> Ran {
        let request = request(key.as_bytes(), ask, token, durable);
        let mut emitted = None;
        let emit = |reply: &Reply<'_>| emitted = Some(convert::answer(reply));
        let ran = self.store.look(&request, look, wall, ticket, &mut self.scratch, emit);
        let release = match ran {
            Ok(store::Ran::Replied(release)) => release,
            Ok(store::Ran::Parked) => return Ran::Parked,
            Ok(store::Ran::Asks(proposal, release)) => return Ran::Asks(proposal, release),
            Ok(store::Ran::Forwards(home)) => return Ran::Forwards(region_index(home)),
            Err(bad) => unreachable!("the workload sends only lawful requests: {bad:?}"),
        };
        let (answer, token) = emitted.expect("a request that was replied to has a reply");
        Ran::Decided(Decided { answer, token, release })
    }

    /// What a request proposes is synced: a majority is to hold it.
    pub fn ask_majority(&mut self, ticket: u64, key: &str, proposal: Proposal, wall: Millis) {
        self.node.handle_ask(&self.store, ticket, key.as_bytes(), proposal, wall);
    }

    /// Whose request is to be looked at again, and with what.
    pub fn poll_gathered(&mut self) -> Option<(u64, Gathered)> {
        self.node.poll_gathered()
    }

    /// Parked requests that are to be run again.
    pub fn take_woken(&self) -> Vec<u64> {
        self.store.take_woken()
    }

    /// A parked request has waited long enough.
    pub fn unpark(&self, key: &str, ticket: u64) {
        self.store.unpark(key.as_bytes(), ticket);
    }

    /// Whether the other is a member as this region is configured.
    pub fn knows(&self, peer: usize) -> bool {
        self.peers.contains(&region_id(peer))
    }

    /// How the link to a peer stands.
    pub fn link_state(&self, peer: usize) -> Option<LinkState> {
        let views = self.node.peers(&self.store);
        views.iter().find(|view| view.region == region_id(peer)).map(|view| view.state)
    }

    /// Reloads the configuration: as after `step` changes of membership.
    pub fn set_membership(
        &mut self,
        step: usize,
        members: Group,
        wall: Millis,
    ) -> Result<MembershipChange, MembershipError> {
        let peers = peers_of(members, self.store.config().region);
        let change = self.node.set_membership(&self.store, epoch_of(step), &peers, wall)?;
        self.peers = peers;
        Ok(change)
    }

    /// Time has passed: pings, gates, the ceiling of the clock, sweeping.
    pub fn tick(&mut self, wall: Millis) {
        self.node.handle_tick(&self.store, wall);
        // Its record is synced with everything else, within the sync interval.
        let _ = self.store.extend_ceiling(wall);
        for shard in 0..self.store.shards() {
            self.store.sweep(shard, wall);
        }
        self.store.measure();
    }

    /// A transport session came up.
    pub fn link_up(&mut self, peer: usize, session: u64, wall: Millis) {
        self.node.handle_link_up(&self.store, region_id(peer), session, wall);
    }

    /// A transport session is over.
    pub fn link_down(&mut self, peer: usize, session: u64, wall: Millis) {
        self.node.handle_link_down(region_id(peer), session, wall);
    }

    /// A frame arrived; an error means that the link is to be closed.
    pub fn frame(&mut self, peer: usize, session: u64, bytes: &[u8], wall: Millis) -> Result<(), FrameError> {
        self.node.handle_frame(&self.store, region_id(peer), session, bytes, wall)
    }

    /// False: no frame is to leave for anybody.
    pub fn may_send(&self) -> bool {
        self.node.may_send(&self.store)
    }

    /// The next frame to leave for `peer`.
    pub fn poll_send(&mut self, peer: usize) -> Option<(u64, Vec<u8>)> {
        self.node.poll_send(&self.store, region_id(peer))
    }

    /// The next read of the log from disk.
    pub fn poll_read(&mut self) -> Option<ReadRequest> {
        self.node.poll_read()
    }

    /// What the disk answered.
    pub fn read_done(&mut self, request: ReadRequest, read: LogRead) {
        self.node.handle_read(request, read);
    }

    /// Its record up to which every peer has acknowledged everything.
    pub fn acked_by_all(&self) -> Lsn {
        self.node.acked_by_all()
    }

    /// Everything CONFLICTS lists, in its order.
    pub fn conflicts(&self, keys: &[String]) -> Vec<ConflictFact> {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.conflicts(None, after.as_ref(), 100);
            listed.extend(page.conflicts.iter().map(|conflict| convert::conflict(conflict, keys)));
            match page.next {
                Some(next) => after = Some(next),
                None => return listed,
            }
        }
    }

    /// INV-13: the first shard whose sums are not those of what it holds, in words.
    pub fn wrong_digest(&self) -> Option<String> {
        let wrong = (0..self.store.shards()).find_map(|shard| self.store.verify_digests(shard).err());
        wrong.map(|mismatch| format!("{mismatch:?}"))
    }

    /// Digest of the living state at `wall`.
    pub fn digest(&self, wall: Millis) -> u128 {
        self.store.digest(wall)
    }

    /// Claims a key of its own; the answer's status. For the end of a run: does service return?
    pub fn probe(&mut self, wall: Millis) -> (&'static str, &'static str) {
        let key = format!("{PROBE}:{}:{wall}", self.store.config().region.0);
        let ask = Ask::Claim {
            fingerprint: None,
            claimant: b"probe".to_vec(),
            lease: 1000,
            retention: 60_000,
            wait: 0,
        };
        let Ran::Decided(decided) = self.decide(&key, &ask, None, (false, None, Look::First), wall) else {
            unreachable!("nothing parks without a ticket, and its namespace is a local one")
        };
        let reason = self.store.gate.closed().map_or("", crdt::request::Reason::name);
        (decided.answer.status(), reason)
    }

    /// Copies of the real entries, for the join laws.
    pub fn real(&self, key: &str) -> Option<store::Inspected> {
        self.store.inspect(key.as_bytes())
    }
}

/// The other members.
fn peers_of(members: Group, own: RegionId) -> Vec<RegionId> {
    members.regions().map(region_id).filter(|peer| *peer != own).collect()
}

/// The epoch after so many changes of membership.
const fn epoch_of(step: usize) -> u64 {
    step as u64 + 1
}

/// The id of region number `index`.
pub const fn region_id(index: usize) -> RegionId {
    RegionId(index as u16 + 1)
}

/// The number of the region with that id.
pub const fn region_index(id: RegionId) -> usize {
    id.0 as usize - 1
}

fn request<'a>(key: &'a [u8], ask: &'a Ask, token: Option<&Token>, durable: bool) -> Request<'a> {
    let token = || *token.expect("a holder's request carries its token");
    match ask {
        Ask::Claim { fingerprint, claimant, lease, retention, wait } => Request::Claim(Claim {
            key,
            fingerprint: fingerprint.map(Fingerprint),
            claimant,
            lease_ms: Some(*lease),
            retention_ms: Some(*retention),
            wait_ms: *wait,
            durable,
            ..Claim::default()
        }),
        Ask::Complete { bytes, .. } => {
            Request::Complete { key, token: token(), outcome: bytes, level: None, durable }
        }
        Ask::Renew { lease, .. } => {
            Request::Renew { key, token: token(), lease_ms: Some(*lease), level: None, durable }
        }
        Ask::Release { .. } => Request::Release { key, token: token(), level: None, durable },
        Ask::Get => Request::Get { key },
        Ask::Forget => Request::Forget { key },
        Ask::Resolve { bytes: Some(bytes) } => Request::Resolve { key, how: Resolution::Complete(bytes) },
        Ask::Resolve { bytes: None } => Request::Resolve { key, how: Resolution::Release },
    }
}

/// A log read of a peer, answered from the bytes of the segment that holds record `from`, the first of
/// which is `first`; `None` where they do not read back.
pub fn read_log(bytes: &[u8], first: Lsn, from: Lsn, last: Lsn, bytes_max: usize) -> Option<LogRead> {
    let body = bytes.get(crdt::journal::HEADER_BYTES..)?;
    let mut records = crdt::journal::Records::new(body);
    for _ in first..from {
        records.next_body().ok()?;
    }
    let (begin, mut lsn) = (records.offset(), from);
    while lsn <= last && records.offset() - begin < bytes_max && records.next_body().is_ok() {
        lsn += 1;
    }
    let bytes = body[begin..records.offset()].to_vec();
    let (first, last) = (from, lsn - 1);
    let batch = store::Batch { bytes, first, last, sync_to: last, dies_at_ms: 0 };
    (last >= from).then(|| LogRead::Records(std::sync::Arc::new(batch)))
}

/// A conflict's key by number.
fn key_number(keys: &[String], key: &[u8]) -> Key {
    keys.iter().position(|known| known.as_bytes() == key).unwrap_or(Key::MAX)
}
