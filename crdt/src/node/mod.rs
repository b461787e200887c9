//! The cold half: replication between regions as a state machine without IO (S7).
//!
//! One owner drives it: events in ([`Node::handle_link_up`], [`Node::handle_frame`], …), effects out
//! ([`Node::poll_send`], [`Node::poll_read`]). After *any* call the driver polls the effects until
//! there are none. Frames are made when the transport asks for them, so memory per peer is bounded
//! however slow it is.
//!
//! Each region streams its own log to each peer by a cursor that the *receiver* keeps durably: it is
//! told in the hello, so the sender needs no memory of the past. Acknowledgements are cumulative and
//! leave only when what they acknowledge is durable. A lost, doubled or reordered frame shows as a
//! cursor that does not fit: it changes nothing, and a ping's cursor brings a resend.
//!
//! Rejected: per-record acknowledgements (state a record and peer), sender-side durable cursors (a
//! second truth), resend timers (a slow link then sends everything twice).
//!
//! Must never: acknowledge what is not durable, count a frame whose cursor does not fit, let one peer
//! wait for another.

mod clocks;
mod feed;
mod forwards;
mod homes;
mod lag;
pub(crate) mod membership;
mod pacing;
mod peer;
mod receive;
mod reconcile;
mod rounds;
mod send;
mod voice;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::canary::{self, Bug};
use crate::decide::{Gathered, Proposal};
use crate::hlc::Stamp;
use crate::ids::{Cursor, LogEpoch, Lsn, RegionId};
use crate::journal::Record;
use crate::limits;
use crate::policy::Durable;
use crate::request::Reason;
use crate::store::{Batch, MergeRefused, Scratch, Store, Ticket};
use crate::wire::MalformedFrame;

pub use forwards::{Answered, Asked, ForwardCounts};
pub use membership::{Membership, MembershipChange, MembershipError};
pub use pacing::Pacing;
use peer::Peer;
pub use peer::{LinkState, PeerView};
use rounds::Rounds;

/// Names one transport connection to a peer; the driver makes them, never twice.
pub type LinkId = u64;

/// What a node is built for.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Digest of the cluster's name.
    pub cluster: [u8; 16],
    /// This region's name.
    pub name: String,
    /// The other regions.
    pub peers: Vec<RegionId>,
    /// The epoch of this membership (S5).
    pub membership: u64,
    /// The epoch that this start opened.
    pub epoch: LogEpoch,
    /// After a start, claims wait at most this long for peers that are reached, in milliseconds.
    pub catch_up_wait_ms: u64,
    /// Peers not reached within this time of the start are not waited for, in milliseconds.
    pub reach_wait_ms: u64,
    /// A life that began without data it should have grants without having met a peer: the operator's word.
    pub alone: bool,
    /// When peers are compared with.
    pub pace: ComparePace,
}

/// When regions compare what they hold, and what of it (S7), in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ComparePace {
    /// What is younger is left to the log.
    pub age_ms: u64,
    /// What dies within this time is left to die.
    pub alive_ms: u64,
    /// Between two comparisons with one peer.
    pub every_ms: u64,
    /// After one that found differences.
    pub again_ms: u64,
    /// One in which nothing is heard for so long is given up.
    pub patience_ms: u64,
}

impl Default for ComparePace {
    fn default() -> Self {
        Self {
            age_ms: limits::COMPARE_AGE_MS,
            alive_ms: limits::COMPARE_ALIVE_MS,
            every_ms: limits::COMPARE_EVERY_MS,
            again_ms: limits::COMPARE_AGAIN_MS,
            patience_ms: limits::COMPARE_PATIENCE_MS,
        }
    }
}

/// What the log held of replication when this start began.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeMemory {
    /// How far each peer's log is held.
    pub cursors: BTreeMap<RegionId, Cursor>,
    /// First sequence of each epoch of our own log, in order; this start's epoch is the last.
    pub epochs: Vec<(LogEpoch, Lsn)>,
    /// When this start began, Unix milliseconds.
    pub began_ms: u64,
    /// The first record that the log still has.
    pub first_lsn: Lsn,
    /// Epochs of ours whose end a power loss may have taken.
    pub torn_epochs: Vec<LogEpoch>,
    /// The greatest stamp of each region met in our log.
    pub newest_stamps: BTreeMap<RegionId, Stamp>,
    /// This life began without data it should have: nothing is granted before it has caught up with a peer.
    pub incomplete: bool,
    /// The newest epoch of the membership in whose majorities this life has counted (S5).
    pub voice: Option<u64>,
    /// The newest epoch in which this life may decide as the home of keys (S5).
    pub home: Option<u64>,
}

/// A part of the log that a peer needs and the ring no longer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadRequest {
    /// For whom.
    pub peer: RegionId,
    /// The first record wanted.
    pub from: Lsn,
}

/// What a driver answers a [`ReadRequest`].
#[derive(Clone, Debug)]
pub enum LogRead {
    /// Records from the one asked for, about [`limits::LOG_READ_BYTES`] of them.
    Records(Arc<Batch>),
    /// The log now starts here: what was before is in the map, as far as it lives.
    StartsAt(Lsn),
}

/// Why a link is to be closed. No state was changed by the frame, save counters.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer misbehaved or speaks another version.
    #[error(transparent)]
    Malformed(#[from] MalformedFrame),
    /// The peer misbehaved: what it sent cannot be merged.
    #[error("records refused: {0}")]
    Refused(#[from] MergeRefused),
    /// Misconfigured on either side.
    #[error(
        "cluster ids differ: ours {ours}, theirs {theirs}: check [cluster] name and secret_file in both configurations"
    )]
    Cluster {
        /// In hex.
        ours: String,
        /// In hex.
        theirs: String,
    },
    /// The region announced is not the one authenticated.
    #[error("the peer announces region id {announced}, the certificate belongs to region id {authenticated}")]
    Region {
        /// In its hello.
        announced: u16,
        /// By its certificate.
        authenticated: u16,
    },
    /// Its membership and ours do not go together.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The peer misbehaved: no hello, or two.
    #[error("a frame out of order: {0}")]
    OutOfOrder(&'static str),
    /// The peer is an older copy of a region's data than one we have met.
    #[error(
        "its data is older than what this region has already had from it ({known}, now {announced}): a copied data folder, \
         or a restored one. Stop the wrong daemon; on the one that stays, run: onced rejoin"
    )]
    OldCopy {
        /// What was known.
        known: String,
        /// What its hello says.
        announced: String,
    },
    /// We are an older copy of our region's data than one the peer has met.
    #[error(
        "the peer holds more of this region's log ({known}) than this daemon does ({ours}): this data folder is a copy or was \
         restored, or another daemon runs on a copy of it. Claims are refused. Stop the wrong daemon; on the one that \
         stays, run: onced rejoin"
    )]
    WeAreOldCopy {
        /// What the peer knows.
        known: String,
        /// Where we stand.
        ours: String,
    },
    /// A frame for a link that is not there any more.
    #[error("a frame on a closed link")]
    ClosedLink,
}

impl FrameError {
    /// One word, for a counter.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Malformed(MalformedFrame::Version(_)) => "version",
            Self::Malformed(MalformedFrame::Comparison) => "comparison",
            Self::Malformed(_) => "malformed",
            Self::Refused(_) => "records",
            Self::Cluster { .. } => "cluster",
            Self::Region { .. } => "region",
            Self::Membership(_) => "membership",
            Self::OutOfOrder(_) => "out_of_order",
            Self::OldCopy { .. } | Self::WeAreOldCopy { .. } => "old_copy",
            Self::ClosedLink => "closed_link",
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    memory: NodeMemory,
    peers: BTreeMap<RegionId, Peer>,
    started_ms: u64,
    scratch: Scratch,
    /// The gate's catching-up reason is lifted once and for all.
    caught_up: bool,
    rounds: Rounds,
    forwards: forwards::Forwards,
    /// Peers have gone on to a membership without this region.
    retired: bool,
    /// How much of a core healing may take; the driver measures and rests.
    pub pacing: Pacing,
}

impl Node {
    /// A node as of a start at `wall_ms`. Closes the store's gate until it has caught up.
    pub fn new(config: NodeConfig, memory: NodeMemory, store: &Store, wall_ms: u64) -> Self {
        assert!(config.peers.len() <= limits::PEERS_MAX, "more peers than a region may have");
        let mut memory = memory;
        let peer = |region: &RegionId| {
            let mut peer = Peer::new(*region, memory.cursors.get(region).copied());
            // What a place in its log is worth to a life that lacks data is not known: it is asked for everything.
            (peer.incomplete, peer.fed_by_incomplete) = (memory.incomplete, memory.incomplete);
            (*region, peer)
        };
        let peers: BTreeMap<_, _> = config.peers.iter().map(peer).collect();
        store.gate.set(Reason::CatchingUp, !peers.is_empty() && !canary::planted(Bug::ReadyBeforeCaughtUp));
        store.gate.set_oldest_word_ms(if peers.is_empty() { 0 } else { wall_ms });
        let caught_up = peers.is_empty();
        if memory.incomplete && (caught_up || config.alone) {
            memory.incomplete = false;
            store.append_record(&Record::Complete(true), Durable::Interval);
        }
        let (scratch, pacing) = (Scratch::default(), Pacing::default());
        let (rounds, forwards) = (Rounds::new(memory.began_ms), forwards::Forwards::new(memory.began_ms));
        let (started_ms, retired) = (wall_ms, false);
        let mut node =
            Self { config, memory, peers, started_ms, scratch, caught_up, rounds, forwards, retired, pacing };
        node.seek_voice(store, wall_ms);
        node.seek_homes(store, wall_ms);
        node
    }

    /// The transport has authenticated `peer` on a new link; an older link to it is forgotten.
    pub fn handle_link_up(&mut self, store: &Store, peer: RegionId, link: LinkId, wall_ms: u64) {
        if let Some(peer) = self.peers.get_mut(&peer).filter(|peer| !peer.is_cut()) {
            self.forwards.lost(peer.region, wall_ms);
            peer.open(link, wall_ms);
            let hello = send::hello(&self.config, &self.memory, store, peer);
            peer.queue(hello);
        }
    }

    /// The link is gone.
    pub fn handle_link_down(&mut self, peer: RegionId, link: LinkId, wall_ms: u64) {
        if let Some(peer) = self.peers.get_mut(&peer)
            && peer.link_id() == Some(link)
        {
            peer.close();
            self.forwards.lost(peer.region, wall_ms);
        }
    }

    /// A frame has arrived on `link`. On an error the driver closes the link.
    pub fn handle_frame(
        &mut self,
        store: &Store,
        region: RegionId,
        link: LinkId,
        bytes: &[u8],
        wall_ms: u64,
    ) -> Result<(), FrameError> {
        let elsewhere = self.is_brought_more_beside(region, wall_ms);
        let Some(peer) = self.peers.get_mut(&region) else { return Err(FrameError::ClosedLink) };
        if peer.link_id() != Some(link) {
            return Err(FrameError::ClosedLink);
        }
        peer.heard(bytes.len(), wall_ms);
        let mut receiving = receive::Receiving {
            config: &self.config,
            memory: &mut self.memory,
            store,
            scratch: &mut self.scratch,
            pacing: &mut self.pacing,
            rounds: &mut self.rounds,
            forwards: &mut self.forwards,
            elsewhere,
            wall_ms,
        };
        let result = receiving.frame(peer, bytes);
        if result.is_err() {
            peer.count_refused();
        }
        let refused = result.as_ref().err().cloned();
        if peer.is_behind() || peer.fed_ms == wall_ms {
            feed::begin_due(&mut self.peers, store, self.config.pace.again_ms, wall_ms);
        }
        self.settle_gate(store, wall_ms);
        self.rounds.judge_waiting(store, self.peers.len(), wall_ms);
        if let Some(error) = refused {
            self.note_refused(store, &error, wall_ms);
        }
        result
    }

    /// Time has passed: pings, gates. To be called at least every [`limits::PING_EVERY_MS`].
    pub fn handle_tick(&mut self, store: &Store, wall_ms: u64) {
        let searches_with =
            |peer: &Peer| !peer.is_being_fed(wall_ms) && !self.is_brought_more_beside(peer.region, wall_ms);
        let searched: Vec<bool> = self.peers.values().map(searches_with).collect();
        for (peer, searches) in self.peers.values_mut().zip(searched) {
            peer.ping(self.memory.incomplete, wall_ms);
            peer.lag.note(store.tail().written(), peer.acked_seq, wall_ms);
            reconcile::tick(peer, store, &self.config.pace, searches, wall_ms);
        }
        feed::begin_due(&mut self.peers, store, self.config.pace.again_ms, wall_ms);
        self.note_oldest_word(store);
        clocks::judge(&self.peers, store, wall_ms);
        self.settle_gate(store, wall_ms);
        self.seek_voice(store, wall_ms);
        self.rounds.tick(store, &mut self.peers, self.config.membership, wall_ms);
        self.seek_homes(store, wall_ms);
        self.forwards.tick(&mut self.peers, wall_ms);
    }

    /// A request at `quorum` has written what it proposes for `key`, and that is synced: a majority is to hold it
    /// ([`crate::store::Ran::Asks`]). What comes of it is told under `ticket` by [`Node::poll_gathered`].
    pub fn handle_ask(
        &mut self,
        store: &Store,
        ticket: Ticket,
        key: &[u8],
        proposal: Proposal,
        wall_ms: u64,
    ) {
        let ask = (ticket, key.to_vec(), proposal);
        self.rounds.begin(store, &mut self.peers, self.config.membership, ask, wall_ms);
    }

    /// Whose request is to be run again, and with what (`Store::run_gathered`).
    pub fn poll_gathered(&mut self) -> Option<(Ticket, Gathered)> {
        self.rounds.next_over()
    }

    /// An answer to a [`ReadRequest`].
    pub fn handle_read(&mut self, request: ReadRequest, read: LogRead) {
        if let LogRead::StartsAt(first) = &read {
            self.memory.first_lsn = self.memory.first_lsn.max(*first);
        }
        if let Some(peer) = self.peers.get_mut(&request.peer) {
            peer.feed(request.from, read);
        }
    }

    /// The next frame to leave on `peer`'s link, if there is one and it may leave now.
    pub fn poll_send(&mut self, store: &Store, peer: RegionId) -> Option<(LinkId, Vec<u8>)> {
        let peer = self.peers.get_mut(&peer)?;
        send::next_frame(&self.config, peer, store, &mut self.pacing)
    }

    /// False: [`Node::poll_send`] has nothing for any peer.
    pub fn may_send(&self, store: &Store) -> bool {
        let may = |peer: &Peer| !peer.is_cut() && peer.link.as_ref().is_some_and(|link| link.may_send(store));
        self.peers.values().any(may)
    }

    /// The next part of the log to be read from disk.
    pub fn poll_read(&mut self) -> Option<ReadRequest> {
        self.peers.values_mut().find_map(Peer::wanted_read)
    }

    /// Cuts `peer` off (nothing is sent, nothing received counts), or heals it: an operator's fault
    /// injection. The driver closes the link; a cut peer is not dialled.
    pub fn set_cut(&mut self, peer: RegionId, cut: bool) -> bool {
        let Some(peer) = self.peers.get_mut(&peer) else { return false };
        peer.set_cut(cut);
        true
    }

    /// Whether `peer` is cut off by an operator.
    pub fn is_cut(&self, peer: RegionId) -> bool {
        self.peers.get(&peer).is_some_and(Peer::is_cut)
    }

    /// All peers, for PEERS and metrics.
    pub fn peers(&self, store: &Store) -> Vec<PeerView> {
        let tip = store.tail().written();
        self.peers.values().map(|peer| peer.view(tip)).collect()
    }

    /// Whether claims are no longer held back for catching up.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// Whether claims wait for a peer, because this life began without data that it should have (S6).
    pub fn is_incomplete(&self) -> bool {
        self.memory.incomplete
    }

    /// Our record up to which every peer has acknowledged everything on a link of this start; the last
    /// record of all where there are no peers.
    pub fn acked_by_all(&self) -> Lsn {
        self.peers.values().map(|peer| peer.acked_seq).min().unwrap_or(Lsn::MAX)
    }

    /// The cursors to be written at the top of every new segment, so that deleting old ones loses none.
    pub fn cursors(&self) -> Vec<(RegionId, Cursor)> {
        self.peers.values().filter_map(Peer::cursor).collect()
    }

    /// Whether another peer is bringing us much, by its log or by a comparison of everything: then most of what `region`
    /// has and we lack is on its way, and searching for it would bring it twice and count it as repaired. Others wait for
    /// that, whichever side asks, for a bounded time.
    fn is_brought_more_beside(&self, region: RegionId, wall_ms: u64) -> bool {
        let brings = |peer: &Peer| peer.is_being_fed(wall_ms) || peer.is_catching_up(wall_ms);
        self.peers.values().any(|peer| peer.region != region && brings(peer))
    }

    fn note_oldest_word(&self, store: &Store) {
        // A peer that was never heard counts from the start, or from when it was added.
        let word = |peer: &Peer| peer.last_heard_ms().unwrap_or(self.started_ms.max(peer.since_ms));
        store.gate.set_oldest_word_ms(self.peers.values().map(word).min().unwrap_or(0));
    }

    /// S7: claims wait for each peer that is reached, at most `catch_up_wait_ms`.
    fn settle_gate(&mut self, store: &Store, wall_ms: u64) {
        if self.caught_up {
            return;
        }
        if self.memory.incomplete {
            // S6: what this life lacks, a peer must bring, however long that takes. One that lacks it itself cannot; where
            // all do, there is nothing to be had.
            let whole = self.peers.values().any(Peer::has_made_whole);
            if !whole && !self.peers.values().all(Peer::is_caught_up) {
                return;
            }
            self.memory.incomplete = false;
            store.append_record(&Record::Complete(true), Durable::Interval);
        }
        // A wall clock that is put back must not lengthen the wait by as much.
        self.started_ms = self.started_ms.min(wall_ms);
        let age_ms = wall_ms - self.started_ms;
        let reaching = age_ms < self.config.reach_wait_ms;
        let waits = |peer: &Peer| !peer.is_caught_up() && !peer.is_cut() && (reaching || peer.is_linked());
        if age_ms >= self.config.catch_up_wait_ms || !self.peers.values().any(waits) {
            self.caught_up = true;
            store.gate.set(Reason::CatchingUp, false);
        }
    }
}
