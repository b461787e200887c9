//! Rounds: a proposal is to be held durably by a majority of regions, and what they know of its key is to be known here
//! (S5, `quorum`).
//!
//! ```text
//! asks                                     answers
//!   Ask   the key's whole state      ->
//!                                    <-   Voice   its state of the key, what was asked joined in, once it is synced
//! ```
//! Whether a proposal stands is never judged by the frames: each answer is merged first, and the decision looks at the one
//! entry that comes of it, so the order of answers, doubled ones and late ones make no difference. A round ends when a
//! majority holds the proposal and nothing stands against it, when it cannot be reached any more, or after
//! [`limits::ROUND_MS_MAX`]. The request that waits for it is then run again; only that second look grants.
//!
//! Rejected: Paxos with ballots (claim ids order proposals already, and what is proposed may be withdrawn), answers without
//! the state (a refusal could not be explained, and what was learned would be lost).
//!
//! Must never: count an answer of another epoch of the membership, or this region itself while it has no voice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::peer::Peer;
use crate::canary::{self, Bug};
use crate::decide::{Gathered, Proposal, Stand};
use crate::entry::Bytes;
use crate::ids::RegionId;
use crate::limits;
use crate::store::{Store, Ticket};
use crate::wire::Frame;

/// One proposal under way.
#[derive(Debug)]
struct Round {
    key: Vec<u8>,
    proposal: Proposal,
    /// In which its majority is counted.
    epoch: u64,
    /// Who waits for it: a retry joins.
    tickets: Vec<Ticket>,
    /// Peers that hold it.
    voices: BTreeSet<RegionId>,
    began_ms: u64,
    asked_ms: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    rounds: BTreeMap<u64, Round>,
    by_key: BTreeMap<(Vec<u8>, Proposal), u64>,
    /// Rounds that a majority holds and that wait for another region's proposal to end.
    waiting: BTreeSet<u64>,
    last: u64,
    over: VecDeque<(Ticket, Gathered)>,
}

impl Round {
    fn has_majority(&self, store: &Store, peers: usize) -> bool {
        let own = usize::from(store.gate.has_voice());
        self.voices.len() + own >= majority(peers + 1)
    }
}

impl Rounds {
    /// Numbers rounds from `began_ms` on, so that no number of a former start is used again.
    pub(super) fn new(began_ms: u64) -> Self {
        Self { last: began_ms << 16, ..Self::default() }
    }

    /// Begins a round, or joins the one that is under way.
    pub(super) fn begin(
        &mut self,
        store: &Store,
        peers: &mut BTreeMap<RegionId, Peer>,
        epoch: u64,
        (ticket, key, proposal): (Ticket, Vec<u8>, Proposal),
        wall_ms: u64,
    ) {
        if let Some(round) = self.by_key.get(&(key.clone(), proposal)).and_then(|at| self.rounds.get_mut(at))
        {
            round.tickets.push(ticket);
            return;
        }
        // Where no majority is linked, nobody is kept waiting for one.
        let linked = peers.values().filter(|peer| peer.is_at(epoch)).count() + 1;
        let hopeless = !store.gate.has_voice() || linked < majority(peers.len() + 1);
        if self.rounds.len() >= limits::ROUNDS_MAX || hopeless {
            self.over.push_back((ticket, Gathered { proposal, reached: false }));
            return;
        }
        self.last += 1;
        let (tickets, voices) = (vec![ticket], BTreeSet::new());
        self.by_key.insert((key.clone(), proposal), self.last);
        let (began_ms, asked_ms) = (wall_ms, wall_ms);
        let round = Round { key, proposal, epoch, tickets, voices, began_ms, asked_ms };
        ask(self.last, &round, store, peers);
        self.rounds.insert(self.last, round);
        self.judge(self.last, store, peers.len(), wall_ms);
    }

    /// `region` holds what round `number` of `epoch` proposes, and what it knows has been joined in.
    pub(super) fn voice(&mut self, number: u64, epoch: u64, region: RegionId) {
        if let Some(round) = self.rounds.get_mut(&number).filter(|round| round.epoch == epoch) {
            round.voices.insert(region);
            self.waiting.insert(number);
        }
    }

    /// Something may have changed for rounds that wait.
    pub(super) fn judge_waiting(&mut self, store: &Store, peers: usize, wall_ms: u64) {
        if self.waiting.is_empty() {
            return;
        }
        for number in std::mem::take(&mut self.waiting) {
            self.judge(number, store, peers, wall_ms);
        }
    }

    /// Time has passed: silent peers are asked again, and rounds that take too long are over.
    pub(super) fn tick(
        &mut self,
        store: &Store,
        peers: &mut BTreeMap<RegionId, Peer>,
        epoch: u64,
        wall_ms: u64,
    ) {
        let numbers: Vec<u64> = self.rounds.keys().copied().collect();
        for number in numbers {
            let Some(round) = self.rounds.get_mut(&number) else { continue };
            if round.epoch != epoch || wall_ms.abs_diff(round.began_ms) >= limits::ROUND_MS_MAX {
                // What is done is done, and a majority knows; whether another claim was granted meanwhile nobody says.
                let done = matches!(round.proposal, Proposal::Outcome(..)) && round.epoch == epoch;
                let known = done && round.has_majority(store, peers.len());
                self.end(number, known);
                continue;
            }
            if wall_ms.abs_diff(round.asked_ms) >= limits::ROUND_AGAIN_MS {
                round.asked_ms = wall_ms;
                ask(number, round, store, peers);
            }
            self.judge(number, store, peers.len(), wall_ms);
        }
    }

    /// The membership has changed: majorities are counted anew.
    pub(super) fn end_all(&mut self) {
        let numbers: Vec<u64> = self.rounds.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.end(number, false));
    }

    /// No round is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// Who waits for a round that is over, and what came of it.
    pub(super) fn next_over(&mut self) -> Option<(Ticket, Gathered)> {
        self.over.pop_front()
    }

    fn judge(&mut self, number: u64, store: &Store, peers: usize, wall_ms: u64) {
        let Some(round) = self.rounds.get(&number) else { return };
        let majority = round.has_majority(store, peers);
        match store.stands(&round.key, &round.proposal, wall_ms) {
            Stand::Lost => self.end(number, false),
            Stand::Clear if majority => self.end(number, true),
            Stand::Waits if majority => {
                self.waiting.insert(number);
            }
            Stand::Clear | Stand::Waits => {}
        }
    }

    fn end(&mut self, number: u64, reached: bool) {
        let Some(Round { key, proposal, tickets, .. }) = self.rounds.remove(&number) else { return };
        self.by_key.remove(&(key, proposal));
        self.waiting.remove(&number);
        let gathered = Gathered { proposal, reached };
        self.over.extend(tickets.into_iter().map(|ticket| (ticket, gathered)));
    }
}

/// How many of so many regions are a majority.
pub(super) fn majority(regions: usize) -> usize {
    if canary::planted(Bug::HalfIsMajority) { regions.div_ceil(2) } else { regions / 2 + 1 }
}

/// Asks those who have not answered yet, with the key's state as it is now.
fn ask(number: u64, round: &Round, store: &Store, peers: &mut BTreeMap<RegionId, Peer>) {
    let Some((body, release)) = store.told_state(&round.key) else { return };
    let frame = Frame::Ask { round: number, epoch: round.epoch, body: Bytes(&body) }.encode();
    if frame.len() > limits::FRAME_BYTES_MAX {
        return;
    }
    for peer in peers.values_mut().filter(|peer| !round.voices.contains(&peer.region)) {
        peer.hold(release, frame.clone());
    }
}
