//! One operation on one key, from request to emitted reply (S4).

use dashmap::Entry as IndexEntry;
use std::sync::atomic::Ordering;

use super::arena::Arena;
use super::memory::{Rules, Used};
use super::{Look, Release, Side, Store, Ticket, Watch};
use crate::decide::{Context, Decision, Gathered, Home, Proposal, Stand, decide, stands};
use crate::entry::Entry;
use crate::hash::KeyHash;
use crate::ids::{Lsn, RegionId};
use crate::issued;
use crate::journal::{self, EntryRecord, Origin};
use crate::limits;
use crate::policy::{Durable, Level, Policy};
use crate::request::{BadRequest, Reason, Reply, Request};

/// Buffers that one thread keeps between operations, so that the hot path does not allocate.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) delta: Vec<u8>,
    pub(super) state: Vec<u8>,
}

/// What [`Store::run`] leaves to its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ran {
    /// The reply was emitted; it may leave when the release is reached.
    Replied(Release),
    /// Nothing was emitted: the ticket is parked, and comes back from [`Store::take_woken`].
    Parked,
    /// Nothing was emitted: once the release is reached, `Node::handle_ask` is to gather a majority for this, and
    /// the request is to be run again with what came of it (S5).
    Asks(Proposal, Release),
    /// Nothing was emitted and nothing written: `Node::handle_forward` is to ask this region, and the request is to be run
    /// again with what it says (S5, `home`).
    Forwards(RegionId),
}

impl Store {
    /// Runs one request at `wall_ms`. The reply goes to `emit` under the shard's lock: it must only be
    /// encoded there. With a ticket, a claim with WAIT parks instead of answering IN_PROGRESS.
    pub fn run(
        &self,
        request: &Request<'_>,
        wall_ms: u64,
        ticket: Option<Ticket>,
        scratch: &mut Scratch,
        emit: impl FnOnce(&Reply<'_>),
    ) -> Result<Ran, BadRequest> {
        self.run_gathered(request, None, wall_ms, ticket, scratch, emit)
    }

    /// As [`Store::run`], on the second look of a request at `quorum`: with what came of [`Ran::Asks`].
    pub fn run_gathered(
        &self,
        request: &Request<'_>,
        gathered: Option<Gathered>,
        wall_ms: u64,
        ticket: Option<Ticket>,
        scratch: &mut Scratch,
        emit: impl FnOnce(&Reply<'_>),
    ) -> Result<Ran, BadRequest> {
        self.look(request, gathered.map_or(Look::First, Look::Gathered), wall_ms, ticket, scratch, emit)
    }

    /// As [`Store::run`], with what the request comes with.
    pub fn look(
        &self,
        request: &Request<'_>,
        look: Look,
        wall_ms: u64,
        ticket: Option<Ticket>,
        scratch: &mut Scratch,
        emit: impl FnOnce(&Reply<'_>),
    ) -> Result<Ran, BadRequest> {
        let rules = &*self.rules();
        let (policy, used) = rules.of_key(request.key());
        request.check(policy, self.config.max_drift_ms)?;
        let is_claim = matches!(request, Request::Claim(_));
        if policy.issued_only && is_claim && !issued::is_issued(&self.config.keys, request.key()) {
            return Err(BadRequest::NotIssued);
        }
        if let Some(reason) = self.refuses(request, look, wall_ms) {
            emit(&Reply::Unavailable { reason, retry_after_ms: limits::RETRY_AFTER_MS_DEFAULT });
            return Ok(Ran::Replied(Release::default()));
        }
        let Ok(_room) = self.room_for(request) else {
            let reason = Reason::DiskFull;
            emit(&Reply::Unavailable { reason, retry_after_ms: limits::RETRY_AFTER_MS_DEFAULT });
            return Ok(Ran::Replied(Release::default()));
        };
        let home = self.home_at(request, policy, look);
        if matches!(look, Look::Asked | Look::Withdrawn) && home != Home::Here {
            emit(&Reply::Unavailable {
                reason: Reason::Level,
                retry_after_ms: limits::RETRY_AFTER_MS_DEFAULT,
            });
            return Ok(Ran::Replied(Release::default()));
        }
        if !self.gate.has_voice() && request.level(policy) == Level::Quorum {
            self.gate.want_voice();
        }
        let hash = self.config.keys.key_hash(request.key());
        if let Request::Get { .. } = request {
            return Ok(Ran::Replied(self.read(request, hash, wall_ms, policy, emit)));
        }
        let operation =
            Operation { store: self, request, look, home, hash, wall_ms, rules, policy, used, ticket };
        Ok(match self.index.entry(hash) {
            IndexEntry::Vacant(vacant) => {
                let side = &mut *self.side(hash);
                let before = side.booked();
                let Side { arena, watch } = side;
                let ran = operation.decide((&*arena, 0), watch, &Entry::default(), scratch, emit);
                if ran.wrote {
                    // The common case: the delta is the state.
                    vacant.insert(arena.insert(&scratch.delta));
                    self.account(side, before, 1, used);
                }
                ran.ran
            }
            IndexEntry::Occupied(mut occupied) => {
                let side = &mut *self.side(hash);
                let (slot, before) = (*occupied.get(), side.booked());
                let Side { arena, watch } = side;
                let record = arena.get(slot);
                let ran = match stored(record, request.key()) {
                    Some(entry) => operation.decide((&*arena, record.len()), watch, &entry, scratch, emit),
                    None => collided(emit),
                };
                if ran.wrote {
                    *occupied.get_mut() = arena.replace(slot, &scratch.state);
                    self.account(side, before, 0, used);
                }
                ran.ran
            }
        })
    }

    /// S4.1, first row; completions, renewals and reads go on whatever the gate says (S2, S6), as long as the log
    /// has room.
    fn refuses(&self, request: &Request<'_>, look: Look, wall_ms: u64) -> Option<Reason> {
        match request {
            // What is granted is decided by the first look, or elsewhere.
            Request::Claim(_) | Request::Resolve { .. }
                if matches!(look, Look::Gathered(_) | Look::Answered(Some(_))) =>
            {
                None
            }
            // What has become of an operation is not to be said by a region that may not know it (S7).
            Request::Claim(_) | Request::Resolve { .. } => {
                self.measure_growth();
                self.refusal(wall_ms)
            }
            _ => None,
        }
    }

    fn read(
        &self,
        request: &Request<'_>,
        hash: KeyHash,
        wall_ms: u64,
        policy: &Policy,
        emit: impl FnOnce(&Reply<'_>),
    ) -> Release {
        let now_ms = self.now_ms(wall_ms);
        let context = Context { stamp: self.clock.last(), now_ms, ..self.context(policy, now_ms) };
        let Some(slot) = self.index.get(&hash) else {
            emit(&Reply::Free);
            return Release::default();
        };
        let side = self.side(hash);
        let entry = stored(side.arena.get(*slot), request.key()).unwrap_or_default();
        emit(&decide(&entry, request, &context).reply);
        seen(&side.watch, policy.durable, Lsn::MIN)
    }

    pub(super) fn context<'c>(&'c self, policy: &'c Policy, now_ms: u64) -> Context<'c> {
        Context {
            stamp: crate::hlc::Stamp::ZERO,
            now_ms,
            region: self.config.region,
            incarnation: self.config.incarnation,
            max_drift_ms: self.config.max_drift_ms,
            policy,
            keys: &self.config.keys,
            stale_ms: self.gate.stale_ms(now_ms),
            gathered: None,
            home: Home::Not,
            has_voice: self.gate.has_voice(),
        }
    }
}

/// One request on its way through a shard.
struct Operation<'o, 'r> {
    store: &'o Store,
    request: &'o Request<'r>,
    look: Look,
    home: Home,
    hash: KeyHash,
    wall_ms: u64,
    rules: &'o Rules,
    policy: &'o Policy,
    used: Option<&'o Used>,
    ticket: Option<Ticket>,
}

/// Two keys with equal 96-bit hashes: refused, and nothing is mixed up.
fn collided(emit: impl FnOnce(&Reply<'_>)) -> Decided {
    emit(&Reply::Unavailable { reason: Reason::Full, retry_after_ms: limits::RETRY_AFTER_MS_DEFAULT });
    Decided { ran: Ran::Replied(Release::default()), wrote: false }
}

struct Decided {
    ran: Ran,
    wrote: bool,
}

impl Operation<'_, '_> {
    /// Decides, emits, logs the delta, and leaves the new state, if there is one, as [`Self::write`] says. `stored`
    /// is where the key's record of so many bytes is (0: none yet).
    fn decide(
        &self,
        stored: (&Arena, usize),
        watch: &mut Watch,
        entry: &Entry<'_>,
        scratch: &mut Scratch,
        emit: impl FnOnce(&Reply<'_>),
    ) -> Decided {
        let store = self.store;
        let unwritten = |ran| Decided { ran, wrote: false };
        if self.look == Look::Withdrawn
            && let Some(token) = self.request.token()
            && !store.homes.take_unheard(token.id)
        {
            emit(&Reply::Free);
            return unwritten(Ran::Replied(Release::default()));
        }
        // Before the tick: a clock that once follows a jump of the wall clock never comes back (S2).
        if !store.below_ceiling(self.wall_ms) || !self.observe_token() {
            let retry_after_ms = limits::RETRY_AFTER_MS_DEFAULT;
            emit(&Reply::Unavailable { reason: Reason::Clock, retry_after_ms });
            return unwritten(Ran::Replied(Release::default()));
        }
        let stamp = store.clock.tick(self.wall_ms);
        let now_ms = store.now_ms(self.wall_ms);
        let gathered = if let Look::Gathered(gathered) = self.look { Some(gathered) } else { None };
        let context = Context { stamp, gathered, home: self.home, ..store.context(self.policy, now_ms) };
        let Decision { reply, delta, loser, asks, forwards } = decide(entry, self.request, &context);
        if let Some(home) = forwards {
            return unwritten(Ran::Forwards(home));
        }
        if delta.is_some() && !store.below_ceiling(stamp.ms()) {
            let retry_after_ms = limits::RETRY_AFTER_MS_DEFAULT;
            emit(&Reply::Unavailable { reason: Reason::Clock, retry_after_ms });
            return unwritten(Ran::Replied(Release::default()));
        }
        if let Some(delta) = &delta {
            pack(self.request.key(), delta, &mut scratch.delta);
        }
        if matches!(reply, Reply::InProgress { .. }) && self.may_park() {
            // What is withdrawn first, so that it does not wake whoever waits for others.
            let wrote = delta.map(|delta| self.write(watch, (entry, stored.1), &delta, scratch));
            self.park(watch);
            return Decided { ran: Ran::Parked, wrote: wrote.is_some() };
        }
        if delta.is_some()
            && (matches!(reply, Reply::Granted { .. }) || matches!(asks, Some(Proposal::Claim(_))))
            && let Some(reason) = self.bound_reached(stored, scratch.delta.len())
        {
            emit(&Reply::Unavailable { reason, retry_after_ms: limits::RETRY_AFTER_FULL_MS });
            return unwritten(Ran::Replied(Release::default()));
        }
        self.note_heard(&reply, delta.is_some());
        let durable = self.durable();
        if let Some(proposal) = asks {
            let lsn = delta.map_or(0, |delta| self.write(watch, (entry, stored.1), &delta, scratch));
            // Whatever the policy: acknowledgements of a round are synced, this region's own too.
            let release = seen(watch, Durable::Always, lsn);
            store.tail.want_synced(release.synced);
            return Decided { ran: Ran::Asks(proposal, release), wrote: lsn > 0 };
        }
        emit(&reply);
        if let Some(loser) = loser
            && let Some(lsn) = store.join_conflict(*loser, Some((Origin::Own, Durable::Interval)))
        {
            watch.seen.join(release(lsn, durable));
        }
        let Some(delta) = delta else {
            return unwritten(Ran::Replied(seen(watch, durable, 0)));
        };
        let lsn = self.write(watch, (entry, stored.1), &delta, scratch);
        Decided { ran: Ran::Replied(seen(watch, durable, lsn)), wrote: true }
    }

    /// Whether anybody but a peer's service that may have gone is told of a claim (see [`super::homes`]). Under the key's
    /// lock, as the decision is.
    fn note_heard(&self, reply: &Reply<'_>, wrote: bool) {
        if self.home == Home::Here
            && let Reply::Granted { token, .. } = reply
        {
            if wrote && self.look == Look::Asked {
                self.store.homes.note_unheard(token.id);
            } else if !wrote {
                self.store.homes.take_unheard(token.id);
            }
        }
    }

    /// Why a grant of `delta_len` bytes cannot be kept in memory (S6): nothing else is ever refused for it.
    fn bound_reached(&self, (arena, old_len): (&Arena, usize), delta_len: usize) -> Option<Reason> {
        let (ruled, lengths) = ((self.policy, self.used), (old_len, old_len + delta_len));
        self.store.bound_reached(self.rules, ruled, arena, lengths)
    }

    /// `delta` is packed in `scratch.delta` already; without a stored record that is the state, else the state is
    /// left in `scratch.state`.
    fn write(
        &self,
        watch: &mut Watch,
        (entry, stored_len): (&Entry<'_>, usize),
        delta: &Entry<'_>,
        scratch: &mut Scratch,
    ) -> Lsn {
        let store = self.store;
        let key = self.request.key();
        let durable = self.durable();
        let kind = journal::entry_kind(Origin::Own);
        let lsn = store.tail.append(kind, &scratch.delta, delta.dies_at_ms(), durable);
        watch.seen.join(release(lsn, durable));
        if stored_len == 0 {
            // The delta is the state, and stands packed.
            watch.changed(&store.digester, self.hash, entry, delta);
        } else {
            let union = entry.clone().union(delta);
            store.list_losers(key, &union, self.policy, true);
            let mut joined = union.settled();
            joined.drop_dead(store.death_now_ms(self.wall_ms), store.config.max_drift_ms);
            pack(key, &joined, &mut scratch.state);
            watch.changed(&store.digester, self.hash, entry, &joined);
            watch.seen.join(release(store.tail.appended(), Durable::Interval));
        }
        store.wake(watch, self.hash);
        lsn
    }

    /// A genuine token tells of a claim that may not have arrived here: what happens now happens after it
    /// (S1). False when its stamp runs further ahead of our wall clock than it may (S2).
    fn observe_token(&self) -> bool {
        let store = self.store;
        let Some(token) = self.request.token().filter(|token| token.id.stamp > store.clock.last()) else {
            return true;
        };
        if !token.verify(&store.config.keys, self.request.key()) {
            return true; // Answered STALE in a moment.
        }
        if token.id.stamp.ms() > self.wall_ms.saturating_add(store.config.max_drift_ms) {
            return false;
        }
        store.clock.observe(token.id.stamp);
        true
    }

    fn may_park(&self) -> bool {
        let Request::Claim(claim) = self.request else { return false };
        let room = self.store.waiters.load(Ordering::Relaxed) < limits::WAITERS_MAX;
        claim.wait_ms > 0 && self.ticket.is_some() && room
    }

    fn park(&self, watch: &mut Watch) {
        if self.ticket.is_some_and(|ticket| watch.waiters.insert((self.hash, ticket))) {
            self.store.waiters.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn durable(&self) -> Durable {
        let synced = self.request.durable() || self.request.level(self.policy) == Level::Quorum;
        if synced { Durable::Always } else { self.policy.durable }
    }
}

fn release(lsn: Lsn, durable: Durable) -> Release {
    Release { written: lsn, synced: if durable == Durable::Always { lsn } else { 0 } }
}

/// A reply waits for the degree of all it saw, and of what it wrote itself (S6).
fn seen(watch: &Watch, durable: Durable, wrote: Lsn) -> Release {
    let mut release = watch.seen;
    if durable == Durable::Always {
        release.synced = release.synced.max(release.written).max(wrote);
    }
    release
}

/// The entry in a record of the map; `None` when the record is another key's.
pub(super) fn stored<'a>(record: &'a [u8], key: &[u8]) -> Option<Entry<'a>> {
    let (stored_key, entry) = unpack(record);
    (stored_key == key).then_some(entry)
}

/// Key and entry of a record of the map.
pub(super) fn unpack(record: &[u8]) -> (&[u8], Entry<'_>) {
    let (read, _) = EntryRecord::take(record).expect("the map holds what pack() wrote");
    (read.key.0, read.entry.unpack().expect("the map holds checked entries"))
}

/// A record's key.
pub(super) fn key_of(record: &[u8]) -> &[u8] {
    EntryRecord::key_of(record).expect("the map holds what pack() wrote")
}

/// A record's key and [`Entry::parts_die_at_ms`].
pub(super) fn unpack_death(record: &[u8]) -> (&[u8], u64) {
    let (read, _) = EntryRecord::take(record).expect("the map holds what pack() wrote");
    let dies_at_ms = read.entry.parts_die_at_ms().unwrap_or_else(|| unpack(record).1.parts_die_at_ms());
    (read.key.0, dies_at_ms)
}

/// The record of `key` and `entry`.
pub(super) fn pack(key: &[u8], entry: &Entry<'_>, out: &mut Vec<u8>) {
    out.clear();
    EntryRecord::of(key, entry).encode(out);
}

impl Store {
    /// How a proposal stands by what is known of `key` at `wall_ms` (S5).
    pub(crate) fn stands(&self, key: &[u8], proposal: &Proposal, wall_ms: u64) -> Stand {
        let rules = self.rules();
        let (policy, _) = rules.of_key(key);
        let context = self.context(policy, self.now_ms(wall_ms));
        let hash = self.config.keys.key_hash(key);
        let Some(slot) = self.index.get(&hash) else { return Stand::Lost };
        let side = self.side(hash);
        let entry = stored(side.arena.get(*slot), key).unwrap_or_default();
        stands(&entry, proposal, &context)
    }

    /// The state of `key` as a record that peers merge, and what is to be synced before it may leave.
    pub(crate) fn told_state(&self, key: &[u8]) -> Option<(Vec<u8>, Release)> {
        let (body, seen) = self.kept_state(key)?;
        self.tail.want_synced(seen.written);
        Some((body, Release { written: seen.written, synced: seen.written }))
    }

    /// The same, as durable as the namespaces of this shard ask for.
    pub(crate) fn kept_state(&self, key: &[u8]) -> Option<(Vec<u8>, Release)> {
        let (record, seen) = self.copy_record(key)?;
        let mut body = Vec::with_capacity(record.len() + 1);
        body.push(journal::entry_kind(Origin::Own));
        body.extend_from_slice(&record);
        Some((body, seen))
    }

    /// The state of `key`, as it stands, for a look that takes its time.
    pub(super) fn copy_record(&self, key: &[u8]) -> Option<(Vec<u8>, Release)> {
        let hash = self.config.keys.key_hash(key);
        let slot = self.index.get(&hash)?;
        let side = self.side(hash);
        let record = side.arena.get(*slot).to_vec();
        Some((record, side.watch.seen))
    }
}
