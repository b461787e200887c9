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
//!                                         <-   Repair
//! ```
//! What is compared is older than a cut-off that the question names, and does not die meanwhile. Two regions compare
//! only while their logs are level: what is on its way by the log needs no search. So in a healthy steady state nothing
//! is repaired; what is, the streams have missed, and a counter tells. It also brings a third region's entries around a
//! link that is down.
//!
//! Each step is a job that is done when its frame may leave: one walk over one shard at most, between other frames, so
//! that neither the log nor another peer waits for a comparison.
//!
//! Rejected: invertible Bloom filters (the size of the difference must be guessed, and a wrong guess costs a round),
//! comparing logs (a region that lost its disk has none), acknowledging repairs (the next comparison finds what was
//! lost).
//!
//! Must never: change what is held but by a merge, keep more than a window of questions, or compare while lagging.

mod jobs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ComparePace;
use super::peer::Peer;
use crate::digest::{Bucket, Horizon, Sum};
use crate::limits;
use crate::store::Store;
use crate::wire::compare::numbers;
use crate::wire::{Exchange, Frame, MalformedFrame};
use jobs::{AskedRanges, Job, brief, sift};

/// What is compared with one peer over one link.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    jobs: VecDeque<Job>,
    asking: Option<Asking>,
    /// When the last comparison that we asked for ended, Unix milliseconds.
    ended_ms: u64,
    /// It found differences.
    differed: bool,
    asked: u64,
}

/// A comparison that we have asked for.
#[derive(Debug)]
struct Asking {
    exchange: Exchange,
    heard_ms: u64,
    /// Cells that differ, by shard; complete when `told`.
    todo: BTreeMap<u32, Vec<Bucket>>,
    cells: usize,
    told: bool,
    under_way: BTreeSet<u32>,
    differed: bool,
}

/// Time has passed: ends what has come to its end, begins what is due.
pub(super) fn tick(peer: &mut Peer, store: &Store, pace: &ComparePace, wall_ms: u64) {
    let level = is_level(peer, store);
    let asks = store.config().region < peer.region;
    let Some(link) = &mut peer.link else { return };
    let comparing = &mut link.comparing;
    if let Some(asking) = &comparing.asking {
        let done = asking.told && asking.todo.is_empty() && asking.under_way.is_empty();
        let silent = wall_ms.abs_diff(asking.heard_ms) > limits::COMPARE_PATIENCE_MS;
        if done || silent {
            comparing.differed = done && asking.differed;
            comparing.ended_ms = wall_ms;
            comparing.asking = None;
            peer.compared_ms = if done { Some(wall_ms) } else { peer.compared_ms };
        }
        return;
    }
    let pause_ms = if comparing.differed { pace.again_ms } else { pace.every_ms };
    if asks && level && comparing.jobs.is_empty() && wall_ms.abs_diff(comparing.ended_ms) >= pause_ms {
        comparing.begin(store, pace, wall_ms);
    }
}

/// Whether the log brings the peer everything soon: nothing is to be searched for that is on its way.
fn is_level(peer: &Peer, store: &Store) -> bool {
    let Some(link) = &peer.link else { return false };
    let Some(sending) = &link.sending else { return false };
    let lag = store.tail().written().saturating_sub(sending.read);
    let flows = sending.state.is_none() && sending.under_way_bytes < limits::PEER_WINDOW_BYTES_MAX;
    peer.is_caught_up() && link.stalled.is_none() && flows && lag <= limits::COMPARE_LAG_RECORDS_MAX
}

impl Comparing {
    fn begin(&mut self, store: &Store, pace: &ComparePace, wall_ms: u64) {
        self.asked += 1;
        let before_s = wall_ms.saturating_sub(pace.age_ms) / 1000;
        let horizon = Horizon { before_s, alive_ms: wall_ms + pace.alive_ms };
        let nonce = wall_ms << 16 ^ self.asked;
        let exchange = Exchange { nonce, horizon, shards: store.shards() as u32 };
        let Some(sums) = store.bucket_sums(&horizon) else { return };
        let told = sums.iter().take(limits::COMPARE_BUCKETS_MAX);
        let sums = told.map(|(bucket, sum)| (*bucket, store.told(nonce, sum))).collect();
        self.jobs.push_back(Job::Say(Frame::Compare { exchange, sums }.encode()));
        self.asking = Some(Asking {
            exchange,
            heard_ms: wall_ms,
            todo: BTreeMap::new(),
            cells: 0,
            told: false,
            under_way: BTreeSet::new(),
            differed: false,
        });
    }

    /// The next frame of a comparison, if there is one and it may leave now.
    pub(super) fn next_frame(&mut self, store: &Store) -> Option<Vec<u8>> {
        loop {
            if self.jobs.is_empty() {
                let asking = self.asking.as_mut().filter(|asking| asking.told)?;
                if asking.under_way.len() >= limits::COMPARE_WINDOW {
                    return None;
                }
                let (shard, buckets) = asking.todo.pop_first()?;
                asking.under_way.insert(shard);
                self.jobs.push_back(Job::Narrow(asking.exchange, shard, buckets));
            }
            let job = self.jobs.pop_front()?;
            let (frame, rest) = job.work(store);
            let waits = frame.is_none() && rest.is_some();
            if let Some(rest) = rest {
                self.jobs.push_front(rest);
            }
            if frame.is_some() || waits {
                return frame;
            }
        }
    }

    /// The exchange that we have asked for, if a frame belongs to it.
    fn asking(&mut self, nonce: u64, wall_ms: u64) -> Option<&mut Asking> {
        let asking = self.asking.as_mut().filter(|asking| asking.exchange.nonce == nonce)?;
        asking.heard_ms = wall_ms;
        Some(asking)
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
    if comparing.jobs.len() >= limits::COMPARE_JOBS_MAX {
        return Err(MalformedFrame::Comparison);
    }
    match frame {
        Frame::Compare { exchange, sums } => {
            let ours = level.then(|| store.bucket_sums(&exchange.horizon)).flatten();
            match ours.filter(|_| exchange.shards as usize == store.shards()) {
                Some(ours) => {
                    let differing = differing(store, exchange, sums, &ours);
                    comparing.jobs.push_back(Job::Differ(*exchange, differing));
                    peer.compared_ms = Some(wall_ms);
                }
                None => {
                    let (nonce, buckets) = (exchange.nonce, Vec::new());
                    let declined = Frame::Differ { nonce, buckets, more: false, declined: true };
                    comparing.jobs.push_back(Job::Say(declined.encode()));
                }
            }
        }
        Frame::Differ { nonce, buckets, more, declined } => {
            let Some(asking) = comparing.asking(*nonce, wall_ms) else { return Ok(()) };
            asking.told |= !more;
            asking.differed |= !buckets.is_empty();
            if *declined {
                comparing.asking = None;
                comparing.ended_ms = wall_ms;
                return Ok(());
            }
            for (bucket, sums) in buckets {
                asking.compare_shards(store, *bucket, sums.0)?;
            }
        }
        Frame::Narrow { exchange, shard, ranges } => {
            check_shard(store, exchange, *shard)?;
            let asked = ranges.iter().map(AskedRanges::of).collect();
            comparing.jobs.push_back(Job::Items(*exchange, *shard, asked));
        }
        Frame::Items { nonce, shard, ranges } => {
            let Some(asking) = comparing.asking(*nonce, wall_ms) else { return Ok(()) };
            if asking.under_way.remove(shard) {
                let exchange = asking.exchange;
                let (repair, wanted) = sift(store, &exchange, *shard, ranges);
                comparing.jobs.extend(repair);
                comparing.jobs.extend(wanted);
            }
        }
        Frame::Want { exchange, shard, wanted } => {
            check_shard(store, exchange, *shard)?;
            let wanted = wanted.iter().map(|wanted| (wanted.bucket, numbers(wanted.ids.0).collect()));
            comparing.jobs.push_back(Job::Give(*exchange, *shard, wanted.collect()));
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
    fn compare_shards(&mut self, store: &Store, bucket: Bucket, theirs: &[u8]) -> Result<(), MalformedFrame> {
        if theirs.len() != 4 * store.shards() {
            return Err(MalformedFrame::Comparison);
        }
        let Some(ours) = store.shard_sums(bucket, &self.exchange.horizon) else { return Ok(()) };
        for (shard, (ours, theirs)) in ours.iter().zip(numbers(theirs)).enumerate() {
            if brief(store, &self.exchange, ours) != theirs && self.cells < limits::COMPARE_CELLS_MAX {
                self.cells += 1;
                self.todo.entry(shard as u32).or_default().push(bucket);
            }
        }
        Ok(())
    }
}
