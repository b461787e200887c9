//! Requests at `home`, on their way to the region that decides them and back (S5).
//!
//! ```text
//! asks                                     decides
//!   Forward   the request            ->
//!                                    <-   Forwarded   what was decided and the key's whole state, once that is durable
//!   Withdraw  its service has gone   ->
//! ```
//! An answer's state is merged before anybody is told of it, and what is told is read from the one entry ([`Verdict`]). The
//! driver runs a peer's request ([`Node::poll_asked`], [`Node::run_asked`]) as it runs a service's, so that the simulator sees
//! each decision; nothing here decides.
//!
//! Numbers rise on a link, and one that does not is passed over: a doubled request would meet its own claim. What is not
//! answered within [`limits::FORWARD_MS_MAX`], or when its link ends, has not been asked as far as its service is concerned;
//! a claim that was granted all the same is withdrawn, as soon as the two are linked. That is best effort: where the
//! withdrawal is lost too, or either side has restarted, the claim's lease ends it.
//!
//! Both sides must stand at the same epoch of the membership, and the one asked must hold that it is the home (`homes`).
//!
//! Rejected: asking again within the deadline (the home may have granted; a new request would find the key held by nobody's
//! claim), forwarding on behalf of others (the asker's epoch says who is the home; two hops would be two opinions).
//!
//! Must never: answer for the home; take an answer whose state could not be merged.

use std::collections::{BTreeMap, VecDeque};

use super::Node;
use super::peer::Peer;
use crate::canary::{self, Bug};
use crate::decide::Verdict;
use crate::entry::Bytes;
use crate::ids::RegionId;
use crate::limits;
use crate::request::{Reason, Reply, Request};
use crate::store::{Look, Ran, Release, Store, Ticket};
use crate::token::Token;
use crate::wire::{Carried, Errand, Frame};

/// What came of a request that was forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answered {
    /// As given to [`Node::handle_forward`].
    pub ticket: Ticket,
    /// Who was asked, and under which number: for [`Node::withdraw`].
    pub asked: (RegionId, u64),
    /// What it said; `None`: it could not be asked.
    pub verdict: Option<Verdict>,
}

/// A peer's request, to be decided here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    peer: RegionId,
    number: u64,
    what: What,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    /// As a service of ours would.
    Forward(Carried),
    /// Of a claim that was granted for it.
    Withdraw(Vec<u8>, Token),
}

/// Requests by what became of them, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ForwardCounts {
    /// Sent to their homes.
    pub sent: u64,
    /// Answered by them.
    pub answered: u64,
    /// Not asked, or not answered in time.
    pub unreachable: u64,
    /// Given up and withdrawn, in case they were granted.
    pub withdrawn: u64,
    /// Of peers, decided here.
    pub asked: u64,
    /// Of peers, and refused: another membership, another policy, too many at once.
    pub refused: u64,
    /// Claims granted for peers and released again, because nobody heard of them.
    pub released: u64,
}

/// A request on its way.
#[derive(Debug)]
struct UnderWay {
    ticket: Ticket,
    key: Vec<u8>,
    home: RegionId,
    began_ms: u64,
}

/// A request that nobody waits for any more.
#[derive(Debug)]
struct GivenUp {
    home: RegionId,
    since_ms: u64,
    told: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    under_way: BTreeMap<u64, UnderWay>,
    given_up: BTreeMap<u64, GivenUp>,
    last: u64,
    over: VecDeque<Answered>,
    asked: VecDeque<Asked>,
    /// Claims granted for peers, by who asked under which number, that may still be withdrawn; the oldest first in `order`.
    granted: BTreeMap<(RegionId, u64), (Vec<u8>, Token)>,
    order: VecDeque<(RegionId, u64)>,
    pub(super) counts: ForwardCounts,
}

/// Frames of one link that wait to leave.
#[derive(Debug, Default)]
pub(super) struct ErrandQueue {
    /// In the order in which they were made: a withdrawal follows what it withdraws.
    asks: VecDeque<Vec<u8>>,
    answers: VecDeque<(Release, Vec<u8>)>,
    bytes: usize,
    /// The last number that the peer has used.
    last_number: u64,
}

impl ErrandQueue {
    fn ask(&mut self, frame: Vec<u8>) -> bool {
        let room = self.asks.len() < limits::FORWARDS_A_PEER_MAX
            && self.bytes + frame.len() <= limits::FORWARDS_WAITING_BYTES_MAX;
        if room {
            self.bytes += frame.len();
            self.asks.push_back(frame);
        }
        room
    }

    /// Whoever asked gives it up, if there is no room.
    fn answer(&mut self, release: Release, frame: Vec<u8>) {
        if self.answers.len() < limits::FORWARDS_A_PEER_MAX
            && self.bytes + frame.len() <= limits::FORWARDS_WAITING_BYTES_MAX
        {
            self.bytes += frame.len();
            self.answers.push_back((release, frame));
        }
    }

    /// Nothing waits to leave.
    pub(super) fn is_empty(&self) -> bool {
        self.asks.is_empty() && self.answers.is_empty()
    }

    /// The next frame that may leave. Answers do not wait for each other: one may have to be synced, another not.
    pub(super) fn next(&mut self, store: &Store) -> Option<Vec<u8>> {
        let frame = self.asks.pop_front().or_else(|| {
            let ready = self.answers.iter().position(|(release, _)| store.tail().may_release(release));
            ready.and_then(|at| self.answers.remove(at)).map(|(_, frame)| frame)
        })?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

impl Asked {
    /// The request, as this region decides it.
    pub fn request(&self) -> Request<'_> {
        match &self.what {
            What::Forward(carried) => carried.request(),
            What::Withdraw(key, token) => {
                let level = Some(crate::policy::Level::Home);
                Request::Release { key, token: *token, level, durable: false }
            }
        }
    }

    /// Who asks.
    pub const fn peer(&self) -> RegionId {
        self.peer
    }

    /// Its service has gone, and this releases what was granted to it.
    pub const fn withdraws(&self) -> bool {
        matches!(self.what, What::Withdraw(..))
    }
}

impl Forwards {
    /// Numbers requests from `began_ms` on, so that no number of a former start is used again.
    pub(super) fn new(began_ms: u64) -> Self {
        Self { last: began_ms << 16, ..Self::default() }
    }

    fn begin(
        &mut self,
        peer: Option<&mut Peer>,
        (ticket, home): (Ticket, RegionId),
        request: &Request<'_>,
        (epoch, wall_ms): (u64, u64),
    ) {
        self.last += 1;
        let number = self.last;
        let sent = self.may_send(home) && peer.is_some_and(|peer| send(peer, number, epoch, request));
        if sent {
            self.counts.sent += 1;
            let key = request.key().to_vec();
            self.under_way.insert(number, UnderWay { ticket, key, home, began_ms: wall_ms });
        } else {
            self.counts.unreachable += 1;
            self.over.push_back(Answered { ticket, asked: (home, number), verdict: None });
        }
    }

    fn may_send(&self, home: RegionId) -> bool {
        let to_it = || self.under_way.values().filter(|under_way| under_way.home == home).count();
        self.under_way.len() < limits::FORWARDS_A_PEER_MAX
            || self.under_way.len() < limits::FORWARDS_MAX && to_it() < limits::FORWARDS_A_PEER_MAX
    }

    /// The key of a request to `home` that is under way.
    pub(super) fn key_of(&self, number: u64, home: RegionId) -> Option<&[u8]> {
        let under_way = self.under_way.get(&number).filter(|under_way| under_way.home == home)?;
        Some(&under_way.key)
    }

    /// The home has answered, and what it knows of the key is joined in; `None`: that could not be.
    pub(super) fn answered(&mut self, number: u64, verdict: Option<Verdict>, wall_ms: u64) {
        if verdict.is_none() {
            return self.give_up(number, wall_ms);
        }
        let Some(UnderWay { ticket, home, .. }) = self.under_way.remove(&number) else { return };
        self.counts.answered += 1;
        self.over.push_back(Answered { ticket, asked: (home, number), verdict });
    }

    /// An answer has come to a request that nobody waits for: what it granted is withdrawn once more.
    pub(super) fn answered_late(&mut self, number: u64, peer: &mut Peer, verdict: Verdict) {
        let given_up = self.given_up.get(&number).is_some_and(|given_up| given_up.home == peer.region);
        if given_up && matches!(verdict, Verdict::Granted { .. }) {
            withdraw(peer, number);
        }
    }

    fn give_up(&mut self, number: u64, wall_ms: u64) {
        let Some(UnderWay { ticket, home, .. }) = self.under_way.remove(&number) else { return };
        self.counts.unreachable += 1;
        self.over.push_back(Answered { ticket, asked: (home, number), verdict: None });
        self.forget(number, home, wall_ms);
    }

    fn forget(&mut self, number: u64, home: RegionId, wall_ms: u64) {
        if self.given_up.len() >= limits::FORWARDS_GIVEN_UP_MAX {
            self.given_up.pop_first();
        }
        self.given_up.insert(number, GivenUp { home, since_ms: wall_ms, told: false });
    }

    /// The link to `home` is not what it was: what went over it is not waited for.
    pub(super) fn lost(&mut self, home: RegionId, wall_ms: u64) {
        let to_it = |(number, under_way): (&u64, &UnderWay)| (under_way.home == home).then_some(*number);
        let numbers: Vec<u64> = self.under_way.iter().filter_map(to_it).collect();
        numbers.into_iter().for_each(|number| self.give_up(number, wall_ms));
        self.asked.retain(|asked| asked.peer != home);
    }

    /// The membership has changed: who is the home is asked anew.
    pub(super) fn end_all(&mut self, wall_ms: u64) {
        let numbers: Vec<u64> = self.under_way.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.give_up(number, wall_ms));
        self.asked.clear();
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, peers: &mut BTreeMap<RegionId, Peer>, wall_ms: u64) {
        let late = |(number, under_way): (&u64, &UnderWay)| {
            (wall_ms.abs_diff(under_way.began_ms) >= limits::FORWARD_MS_MAX).then_some(*number)
        };
        let late: Vec<u64> = self.under_way.iter().filter_map(late).collect();
        late.into_iter().for_each(|number| self.give_up(number, wall_ms));
        self.given_up.retain(|_, given_up| wall_ms.abs_diff(given_up.since_ms) < limits::FORWARD_GIVEN_UP_MS);
        self.tell_given_up(peers);
    }

    fn tell_given_up(&mut self, peers: &mut BTreeMap<RegionId, Peer>) {
        for (number, given_up) in self.given_up.iter_mut().filter(|(_, given_up)| !given_up.told) {
            let Some(peer) = peers.get_mut(&given_up.home).filter(|peer| peer.is_linked()) else { continue };
            given_up.told = withdraw(peer, *number);
            self.counts.withdrawn += u64::from(given_up.told);
        }
    }

    /// A peer takes this region for the home of a key.
    pub(super) fn ask(&mut self, peer: &mut Peer, number: u64, may: bool, errand: &Errand<'_>) {
        let Some(link) = &mut peer.link else { return };
        if number <= link.errands.last_number {
            return;
        }
        link.errands.last_number = number;
        if may && self.asked.len() < limits::FORWARDS_MAX {
            self.asked.push_back(Asked { peer: peer.region, number, what: What::Forward(errand.into()) });
        } else {
            self.counts.refused += 1;
            let verdict = Verdict::Refused(Reason::Level);
            let frame = Frame::Forwarded { number, verdict, body: Bytes(&[]) }.encode();
            link.errands.answer(Release::default(), frame);
        }
    }

    /// A peer's service has gone.
    pub(super) fn withdrawn(&mut self, peer: RegionId, number: u64) {
        if let Some((key, token)) = self.granted.remove(&(peer, number)) {
            self.asked.push_back(Asked { peer, number, what: What::Withdraw(key, token) });
        }
    }

    fn note_granted(&mut self, asked: &Asked, token: Token) {
        let (at, key) = ((asked.peer, asked.number), asked.request().key().to_vec());
        self.granted.insert(at, (key, token));
        self.order.push_back(at);
        if self.order.len() > limits::FORWARDS_UNHEARD_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.granted.remove(&oldest);
        }
    }
}

fn send(peer: &mut Peer, number: u64, epoch: u64, request: &Request<'_>) -> bool {
    let Some(errand) = Errand::of(request).filter(|_| peer.is_at(epoch)) else { return false };
    let frame = Frame::Forward { number, epoch, errand }.encode();
    frame.len() <= limits::FRAME_BYTES_MAX && peer.link.as_mut().is_some_and(|link| link.errands.ask(frame))
}

fn withdraw(peer: &mut Peer, number: u64) -> bool {
    let frame = Frame::Withdraw { number }.encode();
    peer.link.as_mut().is_some_and(|link| link.errands.ask(frame))
}

impl Node {
    /// A request at `home` is for `home` to decide ([`Ran::Forwards`]). What it says is told under `ticket` by
    /// [`Node::poll_forwarded`], within [`limits::FORWARD_MS_MAX`] and a tick; at once, if it cannot be asked.
    pub fn handle_forward(&mut self, ticket: Ticket, home: RegionId, request: &Request<'_>, wall_ms: u64) {
        let epoch = self.config.membership;
        self.forwards.begin(self.peers.get_mut(&home), (ticket, home), request, (epoch, wall_ms));
    }

    /// Whose request is to be run again, and with what ([`Look::Answered`]).
    pub fn poll_forwarded(&mut self) -> Option<Answered> {
        self.forwards.over.pop_front()
    }

    /// The service whose request was `asked` has gone: what was granted to it is released there, unless somebody else
    /// has been told of the same claim.
    pub fn withdraw(&mut self, asked: (RegionId, u64), wall_ms: u64) {
        let (home, number) = asked;
        self.forwards.under_way.remove(&number);
        self.forwards.forget(number, home, wall_ms);
        self.forwards.tell_given_up(&mut self.peers);
    }

    /// The next request of a peer that is to be decided here: to be given to [`Node::run_asked`] at once.
    pub fn poll_asked(&mut self) -> Option<Asked> {
        self.forwards.asked.pop_front()
    }

    /// Decides a peer's request as this region decides its own services', and answers once that is durable. `emit` sees
    /// the reply; what it is returned is what must be durable first.
    pub fn run_asked(
        &mut self,
        store: &Store,
        asked: &Asked,
        wall_ms: u64,
        emit: impl FnOnce(&Reply<'_>),
    ) -> Release {
        let request = asked.request();
        let look = if asked.withdraws() { Look::Withdrawn } else { Look::Asked };
        let (mut verdict, mut granted) = (Verdict::Refused(Reason::Level), None);
        let emit = |reply: &Reply<'_>| {
            verdict = Verdict::of(reply);
            if let Reply::Granted { token, .. } = reply {
                granted = Some(*token);
            }
            emit(reply);
        };
        let ran = store.run_asked(&request, look, wall_ms, &mut self.scratch, emit);
        let release = if let Ok(Ran::Replied(release)) = ran { release } else { Release::default() };
        let counts = &mut self.forwards.counts;
        if asked.withdraws() {
            counts.released += u64::from(verdict == Verdict::Released);
            return release;
        }
        match verdict {
            Verdict::Refused(_) => counts.refused += 1,
            _ => counts.asked += 1,
        }
        if let Some(token) = granted {
            self.forwards.note_granted(asked, token);
        }
        self.answer(store, asked, verdict, release)
    }

    fn answer(&mut self, store: &Store, asked: &Asked, verdict: Verdict, mut release: Release) -> Release {
        let tells = !matches!(verdict, Verdict::Refused(_) | Verdict::Stale(_) | Verdict::Expired);
        let request = asked.request();
        let state = if tells { store.kept_state(request.key()) } else { None };
        let (body, seen) = state.unwrap_or_default();
        release.join(seen);
        store.tail().want_synced(release.synced);
        if canary::planted(Bug::HomeAnswersEarly) {
            release = Release::default();
        }
        let number = asked.number;
        let mut frame = Frame::Forwarded { number, verdict, body: Bytes(&body) }.encode();
        if frame.len() > limits::FRAME_BYTES_MAX {
            let verdict = Verdict::Refused(Reason::Level);
            frame = Frame::Forwarded { number, verdict, body: Bytes(&[]) }.encode();
        }
        if let Some(link) = self.peers.get_mut(&asked.peer).and_then(|peer| peer.link.as_mut()) {
            link.errands.answer(release, frame);
        }
        release
    }

    /// Requests by what became of them.
    pub const fn forward_counts(&self) -> ForwardCounts {
        self.forwards.counts
    }
}
