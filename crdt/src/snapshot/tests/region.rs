//! One region that runs operations at random, writes its log into a [`Folder`] and covers it now and then; and
//! beside it a log that nothing is ever deleted from. A second region decides on the same keys and is heard a
//! little later, so that keys are contested and operations run twice.

use std::collections::BTreeMap;

use super::folder::Folder;
use crate::hash::ClusterKeys;
use crate::hlc::Stamp;
use crate::ids::{Cursor, Incarnation, LogEpoch, RegionId};
use crate::journal::{Record, Records, SegmentHeader, streamed};
use crate::policy::{Durable, Policies, Policy};
use crate::recovery::{Recovered, RecoveryConfig};
use crate::request::{Claim, Reply, Request};
use crate::snapshot::RunEntry;
use crate::store::{Scratch, Store, StoreConfig};
use crate::token::Token;

pub const T0: u64 = 1_800_000_000_000;
pub const CLUSTER: [u8; 16] = [7; 16];
const PEER: RegionId = RegionId(2);

/// A small generator, so that a failing seed is the whole story.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

pub fn policies() -> Policies {
    let policy =
        Policy { retention_ms: 20_000, lease_ms: 500, conflict_retention_ms: 15_000, ..Policy::default() };
    // It refuses nothing here: its books are looked at.
    let counted = Policy { max_keys: Some(u64::MAX), ..policy.clone() };
    Policies::new(counted, BTreeMap::from([(b"elsewhere".to_vec(), policy)]))
}

fn store_config(region: u16, shards: usize) -> StoreConfig {
    StoreConfig {
        region: RegionId(region),
        incarnation: Incarnation(1),
        keys: ClusterKeys { hash: [1; 16], tag: [2; 16] },
        max_drift_ms: 500,
        shards,
        max_memory_bytes: 64 << 20,
        ring_bytes_max: 0,
    }
}

pub fn config(wall_ms: u64, boot: u64, shards: usize) -> RecoveryConfig {
    RecoveryConfig {
        store: store_config(1, shards),
        policies: policies(),
        cluster: CLUSTER,
        boot,
        acknowledged_unsynced: false,
        wall_ms,
        salvage: false,
        keys_hint: 0,
    }
}

/// See the module's text.
pub struct Region {
    pub store: Store,
    pub folder: Folder,
    /// The whole log, from its first record on.
    pub whole: Folder,
    pub header: SegmentHeader,
    pub wall_ms: u64,
    pub boot: u64,
    pub shards: usize,
    pub dice: Dice,
    peer: Store,
    /// What the peer has decided and we have not heard.
    on_its_way: Vec<Vec<u8>>,
    heard: u64,
    sent_at_ms: u64,
    swept_at_ms: u64,
    tokens: Vec<(String, Token)>,
    pub keys: u64,
}

impl Region {
    pub fn new(seed: u64) -> Self {
        let config = config(T0, 1, 4);
        let Recovered { store, header, .. } =
            Folder::default().load(config, 1).expect("nothing").recovery.finish();
        let mut region = Self {
            store,
            folder: Folder::default(),
            whole: Folder::default(),
            header,
            wall_ms: T0,
            boot: 1,
            shards: 4,
            dice: Dice(seed),
            peer: Store::new(store_config(2, 2), policies(), Stamp::ZERO, 1),
            on_its_way: Vec::new(),
            heard: 0,
            sent_at_ms: T0,
            swept_at_ms: T0,
            tokens: Vec::new(),
            keys: 8,
        };
        region.begin_segment(header);
        region.pass(1_000);
        region
    }

    pub fn config(&self) -> RecoveryConfig {
        config(self.wall_ms, self.boot, self.shards)
    }

    fn begin_segment(&mut self, header: SegmentHeader) {
        self.header = header;
        for folder in [&mut self.folder, &mut self.whole] {
            folder.segments.push((header, header.encode().to_vec()));
        }
        self.flush();
    }

    pub fn write(&mut self) {
        while let Some(batch) = self.store.tail().take(Vec::new()) {
            for folder in [&mut self.folder, &mut self.whole] {
                folder.segments.last_mut().expect("begun").1.extend_from_slice(&batch.bytes);
            }
            self.store.tail().mark_written(batch);
        }
    }

    pub fn flush(&mut self) {
        self.write();
        self.store.tail().mark_synced(self.store.tail().written());
        self.store.settle_ceiling();
    }

    pub fn rotate(&mut self) {
        self.flush();
        let first_lsn = self.store.tail().appended() + 1;
        let cursors: BTreeMap<_, _> =
            [(PEER, self.cursor())].into_iter().filter(|_| self.heard > 0).collect();
        self.begin_segment(SegmentHeader { first_lsn, created_ms: self.wall_ms, ..self.header });
        self.store.append_prologue(&cursors, self.wall_ms);
        self.flush();
    }

    fn cursor(&self) -> Cursor {
        Cursor { incarnation: Incarnation(1), epoch: LogEpoch(1), lsn: self.heard }
    }

    /// Time passes; the ceilings of both clocks go on.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(1_000) {
            self.wall_ms += ms.min(1_000);
            let _ = (self.store.extend_ceiling(self.wall_ms), self.peer.extend_ceiling(self.wall_ms));
            self.flush();
            self.collect();
            if self.wall_ms > self.sent_at_ms + 200 {
                self.hear();
            }
        }
        if self.wall_ms > self.swept_at_ms + 20_000 {
            self.sweep();
        }
    }

    pub fn sweep(&mut self) {
        self.swept_at_ms = self.wall_ms;
        for store in [&self.store, &self.peer] {
            let _: usize = (0..store.shards()).map(|shard| store.sweep(shard, self.wall_ms)).sum();
        }
    }

    fn collect(&mut self) {
        while let Some(batch) = self.peer.tail().take(Vec::new()) {
            let mut records = Records::new(&batch.bytes);
            while let Ok(body) = records.next_body() {
                self.on_its_way.extend(streamed(body).map(|_| body.to_vec()));
            }
            self.peer.tail().mark_written(batch);
        }
        self.peer.tail().mark_synced(self.peer.tail().written());
        self.peer.settle_ceiling();
        if self.on_its_way.is_empty() {
            self.sent_at_ms = self.wall_ms;
        }
    }

    /// Everything that the peer has decided arrives.
    pub fn hear(&mut self) {
        self.collect();
        let bodies = std::mem::take(&mut self.on_its_way);
        if bodies.is_empty() {
            return;
        }
        self.heard += bodies.len() as u64;
        self.sent_at_ms = self.wall_ms;
        let bodies = bodies.iter().map(Vec::as_slice);
        let merged = self.store.merge(bodies, PEER, self.wall_ms, &mut Scratch::default());
        let _ = merged.expect("an honest peer").release;
        self.store.append_record(&Record::Cursor(PEER, self.cursor()), Durable::Interval);
    }

    fn run(&mut self, at_peer: bool, request: &Request<'_>) -> Option<Token> {
        let store = if at_peer { &self.peer } else { &self.store };
        let mut token = None;
        let ran = store.run(request, self.wall_ms, None, &mut Scratch::default(), |reply| {
            if let Reply::Granted { token: granted, .. } = reply {
                token = Some(*granted);
            }
        });
        ran.expect("well-formed");
        token
    }

    /// One random operation, here or at the peer.
    pub fn operate(&mut self) {
        let at_peer = self.dice.below(3) == 0;
        let (key, who) = (format!("k:{}", self.dice.below(self.keys)), format!("c{}", self.dice.below(3)));
        let known = (!self.tokens.is_empty()).then(|| self.dice.below(self.tokens.len() as u64) as usize);
        let outcome = vec![b'x'; self.dice.below(60) as usize];
        match (self.dice.below(20), known.map(|at| self.tokens[at].clone())) {
            (0..9, _) | (_, None) => {
                let retention_ms = [2_000, 6_000, 20_000, 90_000, 400_000][self.dice.below(5) as usize];
                let (key_bytes, claimant) = (key.as_bytes(), who.as_bytes());
                let retention_ms = Some(retention_ms);
                let claim = Claim { key: key_bytes, claimant, retention_ms, ..Claim::default() };
                let token = self.run(at_peer, &Request::Claim(claim));
                self.tokens.extend(token.map(|token| (key, token)));
            }
            (9..15, Some((key, token))) => {
                let (key, outcome) = (key.as_bytes(), &outcome[..]);
                let _ = self
                    .run(at_peer, &Request::Complete { key, token, outcome, level: None, durable: false });
            }
            (15..17, Some((key, token))) => {
                let _ = self.run(
                    at_peer,
                    &Request::Release { key: key.as_bytes(), token, level: None, durable: false },
                );
            }
            (17..19, Some((key, token))) => {
                let key = key.as_bytes();
                let _ = self.run(
                    at_peer,
                    &Request::Renew { key, token, lease_ms: None, level: None, durable: false },
                );
            }
            _ if self.dice.below(3) == 0 => {
                let _ = self.run(at_peer, &Request::Forget { key: key.as_bytes() });
            }
            _ => {}
        }
    }

    /// The process is killed, or the power fails, with everything synced; another one starts.
    pub fn restart(&mut self) {
        self.flush();
        self.boot += self.dice.below(2);
        self.shards = [2, 4, 8][self.dice.below(3) as usize];
        let shares = 1 + self.dice.below(3) as u32;
        let back = self.folder.load(self.config(), shares).expect("undamaged");
        let Recovered { store, header, .. } = back.recovery.finish();
        self.store = store;
        self.begin_segment(header);
        self.pass(100);
    }

    /// Covers some of the closed segments, oldest first.
    pub fn cover(&mut self) {
        self.flush();
        let closed = self.folder.segments.len() as u64 - 1;
        let count = self.dice.below(closed + 1) as usize;
        self.folder.cover(&self.store, &self.config(), count, self.wall_ms);
    }

    /// Merges two to four runs of one class.
    pub fn merge_runs(&mut self) {
        let runs = self.folder.manifest(&self.config()).runs;
        let class = self.dice.below(super::super::CLASSES as u64) as u8;
        let most = 2 + self.dice.below(3) as usize;
        let some: Vec<RunEntry> = runs.into_iter().filter(|run| run.class == class).take(most).collect();
        if some.len() > 1 {
            self.folder.merge(&self.config(), &some);
        }
    }

    /// Something that has nothing to do with operations.
    pub fn housekeep(&mut self) {
        match self.dice.below(14) {
            0..5 => self.rotate(),
            5..8 => self.cover(),
            8 => self.merge_runs(),
            9 => drop(self.folder.delete_dead(&self.config(), self.wall_ms)),
            10 => self.folder.trim(&self.config()),
            11 => self.restart(),
            12 => self.sweep(),
            _ => self.hear(),
        }
    }
}
