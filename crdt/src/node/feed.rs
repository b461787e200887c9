//! Feeding a region that a peer's log cannot feed: it starts from nothing, was away for longer than the log goes back,
//! or the peer's log is a new life's.
//!
//! ```text
//! its log cannot tell           Behind   where its log stands, how much it holds   ->   until it is acknowledged
//!                               <-   a comparison of everything, asked for by the side that lacks
//!                               <-   Ack   of where the log stood: what it held then is held here
//! the log, from there           Records   ->
//! ```
//! Everything that the log tells up to where it stood was in the map when the first question came, so a comparison
//! that leaves nothing unanswered proves that the receiver holds it. What both hold already costs sums, not entries; a
//! broken link costs what was under way and nothing else. The sender remembers nothing but that its peer is behind.
//!
//! A region that is behind several peers asks the nearest first and alone: what the others hold is mostly the same,
//! and would come as often as there are peers.
//!
//! Rejected: sending the whole map shard by shard (ten million entries for a peer that lacks a thousand, from every
//! peer at once, and all over again when the link breaks).
//!
//! Must never: acknowledge a place in a log before everything up to it is durable here.

use std::collections::BTreeMap;

use super::NodeConfig;
use super::peer::{Peer, Sending};
use crate::ids::{Cursor, RegionId};
use crate::limits;
use crate::store::Store;
use crate::wire::Frame;

/// What a peer has told: its log cannot bring us on from where we stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Behind {
    /// Where its log stands.
    pub(super) at: Cursor,
    /// Keys that it holds.
    keys: u64,
    pub(super) since_ms: u64,
}

/// Tells the peer that it is behind, once and after every ping; what it says then is to be durable.
pub(super) fn next_frame(config: &NodeConfig, sending: &mut Sending, store: &Store) -> Option<Vec<u8>> {
    if sending.told {
        return None;
    }
    sending.told = true;
    let (incarnation, epoch) = (store.config().incarnation, config.epoch);
    let at = Cursor { incarnation, epoch, lsn: store.tail().synced() };
    sending.sent_max = sending.sent_max.max(at);
    Some(Frame::Behind { have: sending.chain, at, keys: store.keys() as u64 }.encode())
}

/// The peer says that we are behind.
pub(super) fn behind(peer: &mut Peer, have: Cursor, at: Cursor, keys: u64, wall_ms: u64) {
    // Else it has not heard yet where we stand: a ping tells.
    let stands = peer.received.unwrap_or_default() == have && have != at;
    if let Some(link) = &mut peer.link {
        let since_ms = link.comparing.behind.map_or(wall_ms, |behind| behind.since_ms);
        link.comparing.behind = stands.then_some(Behind { at, keys, since_ms });
    }
}

/// A peer that lacked data itself when it fed us lacks it no more: we ask for everything anew.
pub(super) fn ask_again(peer: &mut Peer, wall_ms: u64) {
    if let (Some(link), Some(at)) = (&mut peer.link, peer.received) {
        link.comparing.start_over(wall_ms);
        link.comparing.behind = Some(Behind { at, keys: 0, since_ms: wall_ms });
    }
}

/// Compares everything with a peer that has made the same step of the membership (`super::voice`).
pub(super) fn compare_step(peer: &mut Peer, epoch: u64, wall_ms: u64) {
    ask_again(peer, wall_ms);
    if let Some(link) = peer.link.as_mut().filter(|link| link.comparing.behind.is_some()) {
        link.comparing.step = Some(epoch);
    }
}

/// Begins the comparisons that are due with peers whose logs we are behind.
pub(super) fn begin_due(peers: &mut BTreeMap<RegionId, Peer>, store: &Store, again_ms: u64, wall_ms: u64) {
    // Who has fed us lately has brought most of what the others hold.
    let fed = peers.values().any(|peer| wall_ms.abs_diff(peer.fed_ms) < limits::FEED_FRESH_MS);
    let mut feeding = peers.values().any(|peer| is_fed_alone(peer, wall_ms));
    let unknown = peers.len() > 1 && peers.values().any(|peer| !peer.is_cut() && rtt_ms(peer).is_none());
    let mut nearest: Vec<(u64, RegionId)> =
        peers.values().filter(|peer| is_due(peer, again_ms, wall_ms)).map(distance).collect();
    nearest.sort_unstable();
    for (_, region) in nearest {
        let Some(comparing) = peers.get_mut(&region).and_then(Peer::comparing) else { continue };
        let Some(behind) = comparing.behind else { continue };
        let alone = behind.keys > limits::FEED_SMALL_KEYS && !fed;
        let choosing = unknown && wall_ms.abs_diff(behind.since_ms) < limits::FEED_CHOOSE_MS;
        if alone && (feeding || choosing) {
            continue;
        }
        feeding |= alone;
        comparing.begin_feed(store, behind.at, alone, wall_ms);
    }
}

fn is_due(peer: &Peer, again_ms: u64, wall_ms: u64) -> bool {
    let Some(link) = peer.link.as_ref().filter(|_| !peer.is_cut()) else { return false };
    link.comparing.behind.is_some() && link.comparing.may_begin(again_ms, wall_ms)
}

fn is_fed_alone(peer: &Peer, wall_ms: u64) -> bool {
    let comparing = peer.link.as_ref().map(|link| &link.comparing);
    comparing
        .and_then(|comparing| comparing.fed_alone_since_ms())
        .is_some_and(|since_ms| wall_ms.abs_diff(since_ms) < limits::FEED_ALONE_MS_MAX)
}

fn rtt_ms(peer: &Peer) -> Option<u64> {
    peer.samples.iter().map(|sample| sample.rtt_ms).min()
}

fn distance(peer: &Peer) -> (u64, RegionId) {
    (rtt_ms(peer).unwrap_or(u64::MAX), peer.region)
}
