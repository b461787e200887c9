//! Who belongs to the cluster (S5): an epoch and the regions of it, as one region's configuration names them.
//!
//! An epoch adds or removes one region. Regions of adjacent epochs link, so that configurations can be reloaded one
//! region after the other and no link is cut; what is further apart, or equal in number and different in regions, is
//! refused with both named. Hellos carry the whole list, because a digest could not say which region is missing; a
//! change on a live link travels as a frame of its own, so that no stream starts over for it.
//!
//! Majorities of any two adjacent memberships share a region: that is why a step is one region and never two.
//!
//! Must never: change anything when a step is refused; link regions that could count majorities apart.

use std::collections::BTreeSet;
use std::fmt;

use super::peer::Peer;
use super::{Node, NodeConfig};
use crate::canary::{self, Bug};
use crate::entry::Bytes;
use crate::ids::RegionId;
use crate::limits;
use crate::store::Store;
use crate::wire::Frame;

/// An epoch and its regions, the speaker among them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    epoch: u64,
    regions: BTreeSet<RegionId>,
}

/// What a step from one membership to the next has changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MembershipChange {
    /// Regions that are peers now.
    pub added: Vec<RegionId>,
    /// Regions that are peers no more: their links are to be closed.
    pub retired: Vec<RegionId>,
}

/// Why two memberships do not go together, or one does not follow another. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MembershipError {
    /// The same number for different regions.
    #[error(
        "equal membership epochs with different regions: ours {ours}, theirs {theirs}; every change of [[peer]] tables takes \
         the next [cluster] membership, the same in every region: correct the one that is wrong"
    )]
    Differ {
        /// By our configuration.
        ours: String,
        /// By the peer's.
        theirs: String,
    },
    /// More than one epoch, or more than one region, between them.
    #[error(
        "memberships more than one step apart: ours {ours}, theirs {theirs}; an epoch adds or removes one region: bring the \
         older side forward step by step, with onced reload"
    )]
    Apart {
        /// By our configuration.
        ours: String,
        /// By the peer's.
        theirs: String,
    },
    /// The peer's newer membership is without us.
    #[error(
        "this region was retired: ours {ours}, theirs {theirs}; stop this daemon, or add the region again in a new epoch"
    )]
    Retired {
        /// By our configuration.
        ours: String,
        /// By the peer's.
        theirs: String,
    },
    /// A new configuration is no single step from the one in force.
    #[error(
        "a change of membership adds or removes one region and counts its epoch up by one: in force {now}, wanted {wanted}; \
         change one [[peer]] and set [cluster] membership = {next}, or leave both as they are"
    )]
    NoStep {
        /// In force.
        now: String,
        /// By the new configuration.
        wanted: String,
        /// The only epoch that may follow.
        next: u64,
    },
    /// The step would cut a link that is up.
    #[error(
        "region id {peer} is linked and still at {theirs}, too far from {wanted}: reload its configuration first, then this one"
    )]
    LeavesBehind {
        /// Who.
        peer: u16,
        /// Where it is.
        theirs: String,
        /// By the new configuration.
        wanted: String,
    },
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of region ids", self.epoch)?;
        for (at, region) in self.regions.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { " " } else { ", " }, region.0)?;
        }
        Ok(())
    }
}

impl Membership {
    /// `epoch` with these regions.
    pub fn new(epoch: u64, regions: impl IntoIterator<Item = RegionId>) -> Self {
        Self { epoch, regions: regions.into_iter().collect() }
    }

    /// As configured for `own`.
    pub(super) fn of(config: &NodeConfig, own: RegionId) -> Self {
        Self::new(config.membership, config.peers.iter().copied().chain([own]))
    }

    /// As a decoded frame says; [`Frame::decode`] has checked the bytes.
    pub(super) fn read(epoch: u64, members: Bytes<'_>) -> Self {
        let region = |bytes: &[u8; 2]| RegionId(u16::from_le_bytes(*bytes));
        Self::new(epoch, members.0.as_chunks().0.iter().map(region))
    }

    /// Its number.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The regions as frames carry them: two bytes each, ascending.
    pub(super) fn region_bytes(&self) -> Vec<u8> {
        self.regions.iter().flat_map(|region| region.0.to_le_bytes()).collect()
    }

    /// Whether `own`, configured as this, may link with a peer that says `theirs`.
    pub(super) fn links_with(&self, own: RegionId, theirs: &Self) -> Result<(), MembershipError> {
        let named = || (self.to_string(), theirs.to_string());
        if self.epoch == theirs.epoch {
            if self.regions == theirs.regions {
                return Ok(());
            }
            let (ours, theirs) = named();
            return Err(MembershipError::Differ { ours, theirs });
        }
        let apart = self.epoch.abs_diff(theirs.epoch) > 1 || self.regions_apart(theirs) != 1;
        if apart && !canary::planted(Bug::LinksAnyMembership) {
            let (ours, theirs) = named();
            return Err(MembershipError::Apart { ours, theirs });
        }
        if theirs.epoch > self.epoch && !theirs.regions.contains(&own) {
            let (ours, theirs) = named();
            return Err(MembershipError::Retired { ours, theirs });
        }
        Ok(())
    }

    /// Whether `next` may be configured in place of this.
    fn may_become(&self, next: &Self) -> Result<(), MembershipError> {
        let steps = (next.epoch.wrapping_sub(self.epoch), self.regions_apart(next));
        if steps == (0, 0) || steps == (1, 1) {
            return Ok(());
        }
        let (now, wanted) = (self.to_string(), next.to_string());
        Err(MembershipError::NoStep { now, wanted, next: self.epoch.saturating_add(1) })
    }

    /// How many regions only one of the two has.
    fn regions_apart(&self, other: &Self) -> usize {
        self.regions.symmetric_difference(&other.regions).count()
    }
}

/// Whether bytes of a frame are regions: ascending, none twice, and no more than there may be.
pub(crate) fn are_regions(bytes: Bytes<'_>) -> bool {
    let (regions, rest) = bytes.0.as_chunks::<2>();
    let numbers = || regions.iter().map(|region| u16::from_le_bytes(*region));
    let ascending = numbers().zip(numbers().skip(1)).all(|(one, next)| one < next);
    rest.is_empty() && regions.len() <= limits::PEERS_MAX + 1 && ascending
}

impl Node {
    /// The membership in force.
    pub fn membership(&self, store: &Store) -> Membership {
        Membership::of(&self.config, store.config().region)
    }

    /// Takes another membership, at most one step from the one in force (S5): a region added is sent everything when it
    /// links; what was remembered of a retired one is dropped, and its link is the driver's to close. Links to all
    /// others stay, and are told.
    ///
    /// # Errors
    /// [`MembershipError`]: nothing was changed.
    pub fn set_membership(
        &mut self,
        store: &Store,
        epoch: u64,
        peers: &[RegionId],
        wall_ms: u64,
    ) -> Result<MembershipChange, MembershipError> {
        let own = store.config().region;
        assert!(peers.len() <= limits::PEERS_MAX, "more peers than a region may have");
        let (now, wanted) =
            (self.membership(store), Membership::new(epoch, peers.iter().copied().chain([own])));
        now.may_become(&wanted)?;
        for peer in self.peers.values().filter(|peer| peer.is_linked() && peers.contains(&peer.region)) {
            let Some(theirs) = &peer.membership else { continue };
            if wanted.links_with(own, theirs).is_err() {
                let (theirs, wanted) = (theirs.to_string(), wanted.to_string());
                return Err(MembershipError::LeavesBehind { peer: peer.region.0, theirs, wanted });
            }
        }
        let mut change = MembershipChange::default();
        if now == wanted {
            return Ok(change);
        }
        change.added.extend(wanted.regions.difference(&now.regions));
        change.retired.extend(now.regions.difference(&wanted.regions));
        self.config.membership = epoch;
        self.config.peers = peers.to_vec();
        for region in &change.retired {
            self.peers.remove(region);
            self.memory.cursors.remove(region);
        }
        for region in &change.added {
            self.peers.insert(*region, Peer::added(*region, wall_ms));
        }
        // Nothing is acknowledged in the former epoch from here on, and nothing reached.
        self.rounds.end_all();
        self.forwards.end_all(wall_ms);
        self.retired = false;
        self.seek_voice(store, wall_ms);
        self.seek_homes(store, wall_ms);
        let told = Frame::Membership { epoch, members: Bytes(&wanted.region_bytes()) }.encode();
        if !canary::planted(Bug::MembershipNotTold) {
            self.peers.values_mut().for_each(|peer| peer.queue(told.clone()));
        }
        // Whoever is waited for may be gone, and the age of the oldest word another's.
        self.note_oldest_word(store);
        self.settle_gate(store, wall_ms);
        Ok(change)
    }
}
