//! Another configuration for a running mesh: regions that come and go, addresses, certificates (S5, S7).
//!
//! Whether a change of membership may be is asked of the node, before anything else changes. No link is touched but
//! those of retired regions: what is up stays up, with the certificates that it was made with, and an address counts
//! from the next dial on.

use crdt::ids::RegionId;
use crdt::node::{MembershipChange, MembershipError};
use quinn::{ClientConfig, ServerConfig};

use super::super::gauges;
use super::{PeerAddress, Running, Transport};
use crate::driver::wall_ms;

/// What the mesh runs with after a reload.
#[derive(Debug)]
pub struct Reconfigure {
    /// The epoch of the membership.
    pub membership: u64,
    /// All peers.
    pub peers: Vec<PeerAddress>,
    /// For handshakes from now on; `None`: as before.
    pub identity: Option<(ClientConfig, ServerConfig)>,
}

impl Running {
    /// Takes all of it, or changes nothing.
    pub(super) fn reconfigure(&mut self, wanted: Reconfigure) -> Result<(), MembershipError> {
        let Reconfigure { membership, peers, identity } = wanted;
        let regions: Vec<RegionId> = peers.iter().map(|peer| peer.region).collect();
        let store = &self.shared.driver.store;
        let change = self.node.set_membership(store, membership, &regions, wall_ms())?;
        let Some(started) = &self.started else { return Ok(()) };
        if let Some((client, server)) = identity {
            started.identify_with(client, server);
        }
        // Before links are closed: who dials again at once must find that it is known no more.
        started.accept_only(&peers);
        self.follow(change, &peers);
        Ok(())
    }

    fn follow(&mut self, change: MembershipChange, peers: &[PeerAddress]) {
        for region in change.retired {
            gauges::forget(&self.shared.live().names.name(region));
            // Without its switch the dialler ends.
            let Some(Transport { link: Some(link), .. }) = self.transports.remove(&region) else { continue };
            link.close("retired by a change of configuration");
        }
        for peer in peers {
            match self.transports.get_mut(&peer.region) {
                Some(transport) if transport.address != peer.address => {
                    transport.address.clone_from(&peer.address);
                    if let Some(orders) = &transport.orders {
                        orders.send_modify(|orders| orders.address.clone_from(&peer.address));
                    }
                }
                Some(_) => {}
                None => {
                    let Some(started) = &self.started else { return };
                    self.transports.insert(peer.region, Transport::new(started.add(peer.clone())));
                }
            }
        }
    }
}
