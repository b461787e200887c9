//! Anti-entropy (S7): finding what two regions hold differently, at a cost proportional to that, and mending it
//! both ways.
//!
//! ```text
//! asks (the smaller region id)                      answers, remembering nothing
//!   Compare   sums by bucket              ->
//!                                         <-   Differ   of buckets that differ, sums by shard
//!   Narrow    one shard in finer ranges   ->
//!                                         <-   Items    of ranges that differ, what is in them
//!   Repair    what the other lacks        ->
//!   Want      what we lack                ->
//!                                         <-   Repair, part by part
//! ```
//! What is compared is older than a cut-off that the question names, and does not die meanwhile. Two regions compare
//! only while their logs are level: what is on its way by the log needs no search. So in a healthy steady state nothing
//! is repaired; what is, the streams have missed, and a counter tells. It also brings a third region's entries around a
//! link that is down.
//!
//! A region that the peer's log cannot feed asks for *everything* in the same way, whatever its age and however much it
//! lacks ([`super::feed`]); only its own lack is mended then, the rest is left to its log.
//!
//! Each step is a job that is done when its frame may leave: one walk over one shard at most, between other frames, so
//! that neither the log nor another peer waits for a comparison.
//!
//! Rejected: invertible Bloom filters (the size of the difference must be guessed, and a wrong guess costs a round),
//! comparing logs (a region that lost its disk has none), acknowledging repairs (the next comparison finds what was
//! lost).
//!
//! Must never: change what is held but by a merge, keep more than a window of questions, or search for what a log is
//! bringing.

mod jobs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ComparePace;
use super::feed::Behind;
use super::peer::Peer;
use crate::canary::{self, Bug};
use crate::digest::{Bucket, Horizon, Sum};
use crate::ids::Cursor;
use crate::limits;
use crate::store::{Named, Store};
use crate::wire::compare::numbers;
use crate::wire::{Exchange, Frame, MalformedFrame, PartOf};
use jobs::{AskedRanges, Job, brief, sift};

/// What is compared with one peer over one link.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    /// Of the exchange that the peer has asked for.
    answers: VecDeque<Job>,
    /// Of ours.
    questions: VecDeque<Job>,
    asking: Option<Asking>,
    /// When the last comparison that we asked for ended, Unix milliseconds.
    ended_ms: u64,
    /// It found differences.
    differed: bool,
    asked: u64,
    /// The last comparison of everything that was given up: what it has asked for may still come.
    abandoned: Option<u64>,
    /// The peer's log cannot bring us on.
    pub(super) behind: Option<Behind>,
    /// The comparison of everything that is due or under way began after both sides had made this step of the membership.
    pub(super) step: Option<u64>,
}

/// A comparison that came to its end, every question answered.
#[derive(Debug)]
pub(super) struct Ended {
    /// Everything that the peer's log told up to here is held.
    pub(super) held: Option<Cursor>,
}

/// A comparison of everything, because of a peer's log that cannot bring us on.
#[derive(Clone, Copy, Debug)]
struct Feed {
    /// Where the log stood before the first question.
    at: Cursor,
    /// Others wait for it.
    alone: bool,
    began_ms: u64,
}

/// A comparison that we have asked for.
#[derive(Debug)]
struct Asking {
    exchange: Exchange,
    heard_ms: u64,
    /// Cells that differ, by shard; complete when `told`.
    todo: BTreeMap<u32, Vec<Bucket>>,
    cells: usize,
    /// Parts of the peer's answer that have come.
    parts: u32,
    told: bool,
    under_way: BTreeSet<u32>,
    /// Shards of which something is wanted, and the number of the next part of it.
    wanted: BTreeMap<u32, u32>,
    differed: bool,
    /// Some cells that differ were left out: there were too many.
    cut: bool,
    feed: Option<Feed>,
}

/// Time has passed: gives up what has fallen silent, and begins what is due, where it is time to search.
pub(super) fn tick(peer: &mut Peer, store: &Store, pace: &ComparePace, searches: bool, wall_ms: u64) {
    let level = is_level(peer, store);
    let asks = store.config().region < peer.region;
    let Some(link) = &mut peer.link else { return };
    let comparing = &mut link.comparing;
    if let Some(asking) = &comparing.asking {
        if wall_ms.abs_diff(asking.heard_ms) > pace.patience_ms {
            comparing.give_up(wall_ms);
        }
        return;
    }
    let pause_ms = if comparing.differed { pace.again_ms } else { pace.every_ms };
    if searches && asks && level && comparing.may_begin(pause_ms, wall_ms) {
        let age_ms = if canary::planted(Bug::ComparesInFlight) { 0 } else { pace.age_ms };
        let before_s = wall_ms.saturating_sub(age_ms) / 1000;
        let horizon = Horizon { before_s, alive_ms: wall_ms + pace.alive_ms };
        comparing.begin(store, horizon, None, wall_ms);
    }
}

/// Whether the log brings the peer everything soon: nothing is to be searched for that is on its way.
fn is_level(peer: &Peer, store: &Store) -> bool {
    let Some(link) = &peer.link else { return false };
    let Some(sending) = &link.sending else { return false };
    let lag = store.tail().written().saturating_sub(sending.read);
    let flows = !sending.behind && sending.under_way_bytes < limits::PEER_WINDOW_BYTES_MAX;
    peer.is_caught_up() && link.stalled.is_none() && flows && lag <= limits::COMPARE_LAG_RECORDS_MAX
}

impl Comparing {
    /// Asks for a comparison of everything: the peer's log, which stands `at` there, cannot bring us on.
    pub(super) fn begin_feed(&mut self, store: &Store, at: Cursor, alone: bool, wall_ms: u64) {
        let feed = Feed { at, alone, began_ms: wall_ms };
        self.begin(store, Horizon::EVERYTHING, Some(feed), wall_ms);
    }

    /// Whether no other is under way and the last one ended long enough ago.
    pub(super) fn may_begin(&self, pause_ms: u64, wall_ms: u64) -> bool {
        self.asking.is_none() && self.questions.is_empty() && wall_ms.abs_diff(self.ended_ms) >= pause_ms
    }

    /// Since when others wait for what this peer feeds us.
    pub(super) fn fed_alone_since_ms(&self) -> Option<u64> {
        let feed = self.asking.as_ref()?.feed?;
        feed.alone.then_some(feed.began_ms)
    }

    /// What was asked before counts no more.
    pub(super) fn start_over(&mut self, wall_ms: u64) {
        if self.asking.is_some() {
            self.give_up(wall_ms);
        }
    }

    fn give_up(&mut self, wall_ms: u64) {
        self.questions.clear();
        let fed = self.asking.take().filter(|asking| asking.feed.is_some());
        self.abandoned = fed.map(|asking| asking.exchange.nonce).or(self.abandoned);
        self.differed = false;
        self.ended_ms = wall_ms;
    }

    /// Ends the comparison that we have asked for, if every question is answered.
    pub(super) fn end_if_done(&mut self, wall_ms: u64) -> Option<Ended> {
        let asking = self.asking.as_ref().filter(|asking| asking.is_done())?;
        let held = asking.feed.filter(|_| !asking.cut).map(|feed| feed.at);
        self.differed = asking.differed;
        self.ended_ms = wall_ms;
        self.asking = None;
        Some(Ended { held })
    }

    /// One part of what we wanted has come and is merged; whether a feed had asked for it.
    pub(super) fn given(&mut self, of: &PartOf, wall_ms: u64) -> bool {
        let abandoned = self.abandoned == Some(of.nonce);
        let Some(asking) = self.asking(of.nonce, wall_ms) else { return abandoned };
        // A gap leaves the shard unanswered: the comparison is given up, and the next one finds what was lost.
        if asking.wanted.get(&of.shard) == Some(&of.number) {
            if of.last {
                asking.wanted.remove(&of.shard);
            } else {
                asking.wanted.insert(of.shard, of.number + 1);
            }
        }
        asking.feed.is_some()
    }

    fn begin(&mut self, store: &Store, horizon: Horizon, feed: Option<Feed>, wall_ms: u64) {
        self.asked += 1;
        // Both sides may ask in one millisecond.
        let nonce = wall_ms << 16 ^ u64::from(store.config().region.0) << 56 ^ self.asked;
        let exchange = Exchange { nonce, horizon, shards: store.shards() as u32 };
        let Some(sums) = store.bucket_sums(&horizon) else { return };
        let sums_all = sums.len();
        let told = sums.iter().take(limits::COMPARE_BUCKETS_MAX);
        let sums = told.map(|(bucket, sum)| (*bucket, store.told(nonce, sum))).collect();
        self.questions.push_back(Job::Say(Frame::Compare { exchange, sums }.encode()));
        self.asking = Some(Asking {
            exchange,
            heard_ms: wall_ms,
            todo: BTreeMap::new(),
            cells: 0,
            parts: 0,
            told: false,
            under_way: BTreeSet::new(),
            wanted: BTreeMap::new(),
            differed: false,
            cut: sums_all > limits::COMPARE_BUCKETS_MAX,
            feed,
        });
    }

    /// Something is left to be asked or answered, whether it may leave or not.
    pub(super) fn has_work(&self) -> bool {
        let todo = |asking: &Asking| asking.told && !asking.todo.is_empty();
        !(self.answers.is_empty() && self.questions.is_empty()) || self.asking.as_ref().is_some_and(todo)
    }

    /// The next frame of a comparison, if there is one and it may leave now.
    pub(super) fn next_frame(&mut self, store: &Store) -> Option<Vec<u8>> {
        if let Some(frame) = next_of(&mut self.answers, store) {
            return Some(frame);
        }
        if self.questions.is_empty() {
            let asking = self.asking.as_mut().filter(|asking| asking.told)?;
            if asking.under_way.len() + asking.wanted.len() >= limits::COMPARE_WINDOW {
                return None;
            }
            let (shard, buckets) = asking.todo.pop_first()?;
            asking.under_way.insert(shard);
            self.questions.push_back(Job::Narrow(asking.exchange, shard, buckets));
        }
        next_of(&mut self.questions, store)
    }

    /// The exchange that we have asked for, if a frame belongs to it.
    fn asking(&mut self, nonce: u64, wall_ms: u64) -> Option<&mut Asking> {
        let asking = self.asking.as_mut().filter(|asking| asking.exchange.nonce == nonce)?;
        asking.heard_ms = wall_ms;
        Some(asking)
    }
}

/// The next frame of these jobs, if it may leave now.
fn next_of(jobs: &mut VecDeque<Job>, store: &Store) -> Option<Vec<u8>> {
    while let Some(job) = jobs.pop_front() {
        let (frame, rest) = job.work(store);
        let waits = rest.is_some();
        if let Some(rest) = rest {
            jobs.push_front(rest);
        }
        if frame.is_some() || waits {
            return frame;
        }
    }
    None
}

/// The answer to a peer's sums, and whether it is more than that now is not the time.
fn answer(store: &Store, exchange: &Exchange, sums: &[(Bucket, u64)], wanted: bool) -> (Job, bool) {
    let ours = wanted.then(|| store.bucket_sums(&exchange.horizon)).flatten();
    match ours.filter(|_| exchange.shards as usize == store.shards()) {
        Some(ours) => (Job::Differ(*exchange, 0, differing(store, exchange, sums, &ours)), true),
        None => {
            let (nonce, buckets) = (exchange.nonce, Vec::new());
            let declined = Frame::Differ { nonce, number: 0, buckets, more: false, declined: true };
            (Job::Say(declined.encode()), false)
        }
    }
}

/// Takes a frame of a comparison. `Err`: it does not fit what was asked, or the peer asks more than it may.
pub(super) fn frame(
    peer: &mut Peer,
    store: &Store,
    frame: &Frame<'_>,
    wall_ms: u64,
) -> Result<(), MalformedFrame> {
    let level = is_level(peer, store);
    let Some(link) = &mut peer.link else { return Ok(()) };
    let comparing = &mut link.comparing;
    let bytes: usize = comparing.answers.iter().map(Job::bytes).sum();
    if comparing.answers.len() >= limits::COMPARE_JOBS_MAX || bytes > limits::COMPARE_JOBS_BYTES_MAX {
        return Err(MalformedFrame::Comparison);
    }
    match frame {
        Frame::Compare { exchange, sums } => {
            // What the peer has asked before, it has given up.
            comparing.answers.clear();
            let wanted = level || exchange.is_of_everything();
            let (answer, is_compared) = answer(store, exchange, sums, wanted);
            comparing.answers.push_back(answer);
            if is_compared {
                peer.compared_ms = Some(wall_ms);
            }
        }
        Frame::Differ { nonce, number, buckets, more, declined } => {
            let Some(asking) = comparing.asking(*nonce, wall_ms) else { return Ok(()) };
            if *number < asking.parts {
                return Ok(());
            }
            // After a gap, what stood in it would be taken for alike.
            if *declined || *number > asking.parts {
                comparing.give_up(wall_ms);
                return Ok(());
            }
            asking.parts += 1;
            asking.told |= !more;
            asking.differed |= !buckets.is_empty();
            buckets.iter().try_for_each(|(bucket, sums)| asking.compare_shards(store, *bucket, sums.0))?;
        }
        Frame::Narrow { exchange, shard, ranges } => {
            check_shard(store, exchange, *shard)?;
            let asked = ranges.iter().map(AskedRanges::of).collect();
            comparing.answers.push_back(Job::Items(*exchange, *shard, asked));
        }
        Frame::Items { nonce, shard, ranges } => {
            let Some(asking) = comparing.asking(*nonce, wall_ms) else { return Ok(()) };
            if asking.under_way.remove(shard) {
                let exchange = asking.exchange;
                let (lacking, wanted) = sift(store, &exchange, *shard, ranges);
                // What the peer lacks of ours, our log brings it.
                let lacking = lacking.filter(|_| asking.feed.is_none());
                if wanted.is_some() {
                    asking.wanted.insert(*shard, 0);
                }
                comparing.questions.extend(lacking);
                comparing.questions.extend(wanted);
            }
        }
        Frame::Want { exchange, shard, wanted } => {
            check_shard(store, exchange, *shard)?;
            let mut named = Named::default();
            for wanted in wanted {
                let conflicts = wanted.bucket.is_conflicts();
                let ids = if conflicts { &mut named.conflicts } else { &mut named.entries };
                ids.extend(numbers(wanted.ids.0));
            }
            comparing.answers.push_back(Job::Give(*exchange, *shard, named));
        }
        _ => {}
    }
    Ok(())
}

fn check_shard(store: &Store, exchange: &Exchange, shard: u32) -> Result<(), MalformedFrame> {
    let fits = exchange.shards as usize == store.shards() && (shard as usize) < store.shards();
    if fits { Ok(()) } else { Err(MalformedFrame::Comparison) }
}

/// Buckets whose sums are not alike.
fn differing(
    store: &Store,
    exchange: &Exchange,
    theirs: &[(Bucket, u64)],
    ours: &BTreeMap<Bucket, Sum>,
) -> VecDeque<Bucket> {
    let theirs: BTreeMap<Bucket, u64> = theirs.iter().copied().collect();
    // What lies behind the last bucket they told, they may have left out.
    let cut = (theirs.len() >= limits::COMPARE_BUCKETS_MAX).then(|| theirs.keys().last().copied()).flatten();
    let told = |bucket| ours.get(&bucket).map_or(0, |sum| store.told(exchange.nonce, sum));
    let all: BTreeSet<Bucket> = ours.keys().chain(theirs.keys()).copied().collect();
    let compared = all.into_iter().filter(|bucket| cut.is_none_or(|cut| *bucket <= cut));
    let compared = compared.filter(|bucket| exchange.horizon.covers(*bucket));
    compared.filter(|bucket| told(*bucket) != theirs.get(bucket).copied().unwrap_or(0)).collect()
}

impl Asking {
    fn is_done(&self) -> bool {
        let given = self.wanted.is_empty() || canary::planted(Bug::FeedEndsEarly);
        self.told && self.todo.is_empty() && self.under_way.is_empty() && given
    }

    fn compare_shards(&mut self, store: &Store, bucket: Bucket, theirs: &[u8]) -> Result<(), MalformedFrame> {
        if theirs.len() != 4 * store.shards() {
            return Err(MalformedFrame::Comparison);
        }
        let Some(ours) = store.shard_sums(bucket, &self.exchange.horizon) else { return Ok(()) };
        for (shard, (ours, theirs)) in ours.iter().zip(numbers(theirs)).enumerate() {
            if brief(store, &self.exchange, ours) == theirs {
                continue;
            }
            if self.cells == limits::COMPARE_CELLS_MAX {
                self.cut = true;
                break;
            }
            self.cells += 1;
            let buckets = self.todo.entry(shard as u32).or_default();
            // In order, and none twice, whatever the frames of the answer say.
            if buckets.last() < Some(&bucket) {
                buckets.push(bucket);
            }
        }
        Ok(())
    }
}
