//! What a reload changes of what connections look at: names, peers, roles, certificates.
//!
//! Each connection holds the set it last saw and compares one number a read: so a reload reaches every connection at
//! its next command, a role that was taken away included, and no command waits for a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crdt::ids::RegionId;

use super::RegionNames;
use crate::config::{Access, Config};
use crate::peer::certificates::Certificate;

/// See the module's text.
#[derive(Debug)]
pub struct Live {
    /// The regions' names.
    pub names: RegionNames,
    /// Regions that are peers.
    pub peers: Vec<RegionId>,
    /// Who may do what.
    pub access: Access,
    /// The epoch of the membership.
    pub membership: u64,
    /// In use for handshakes.
    pub certificates: Vec<Certificate>,
    /// Counts reloads, from 1.
    pub version: u64,
}

impl Live {
    /// As `config` says.
    pub fn of(config: &Config, certificates: Vec<Certificate>) -> Self {
        let peers = config.peers.iter().map(|peer| (RegionId(peer.id), peer.name.clone()));
        let own = (RegionId(config.region.id), config.region.name.clone());
        Self {
            names: RegionNames::new(peers.chain([own])),
            peers: config.peers.iter().map(|peer| RegionId(peer.id)).collect(),
            access: config.socket.access.clone(),
            membership: config.cluster.membership,
            certificates,
            version: 1,
        }
    }
}

/// Where the set in force stands.
#[derive(Debug)]
pub(super) struct LiveCell {
    current: RwLock<Arc<Live>>,
    version: AtomicU64,
}

impl LiveCell {
    pub(super) fn new(live: Live) -> Self {
        Self { version: AtomicU64::new(live.version), current: RwLock::new(Arc::new(live)) }
    }

    pub(super) fn get(&self) -> Arc<Live> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of the set in force.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, live: Live) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let version = current.version + 1;
        *current = Arc::new(Live { version, ..live });
        self.version.store(version, Ordering::Release);
    }
}
