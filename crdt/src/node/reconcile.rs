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

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ComparePace;
use super::peer::Peer;
use super::state::frame_len;
use crate::canary::{self, Bug};
use crate::digest::{Bucket, Horizon, Sum};
use crate::entry::Bytes;
use crate::limits;
use crate::store::{Item, Release, Store};
use crate::wire::compare::{ITEM_BYTES, numbers};
use crate::wire::{Exchange, Frame, MalformedFrame, RangeItems, RangeSums, Wanted};

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

/// One frame, or a few, still to be made.
#[derive(Debug)]
enum Job {
    Say(Vec<u8>),
    Differ(Exchange, VecDeque<Bucket>),
    Narrow(Exchange, u32, Vec<Bucket>),
    Items(Exchange, u32, Vec<AskedRanges>),
    Give(Exchange, u32, Vec<(Bucket, Vec<u32>)>),
    Repair(Repair),
}

#[derive(Debug)]
struct AskedRanges {
    bucket: Bucket,
    bits: u32,
    sums: Vec<u32>,
}

#[derive(Debug)]
struct Repair {
    items: VecDeque<Item>,
    /// Bodies of the items before, and what of them was sent.
    bodies: Vec<u8>,
    at: usize,
    release: Release,
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
            let asked = |range: &RangeSums<'_>| AskedRanges {
                bucket: range.bucket,
                bits: u32::from(range.bits),
                sums: numbers(range.sums.0).collect(),
            };
            check_shard(store, exchange, *shard)?;
            comparing.jobs.push_back(Job::Items(*exchange, *shard, ranges.iter().map(asked).collect()));
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

/// A sum in 4 bytes; 0 is of nothing.
fn brief(store: &Store, exchange: &Exchange, sum: &Sum) -> u32 {
    match store.told(exchange.nonce, sum) {
        0 => 0,
        told => (told as u32).max(1),
    }
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

impl Job {
    /// The next frame, if it may leave, and what is left to do.
    fn work(self, store: &Store) -> (Option<Vec<u8>>, Option<Self>) {
        match self {
            Self::Say(frame) => (Some(frame), None),
            Self::Differ(exchange, buckets) => differ(store, exchange, buckets),
            Self::Narrow(exchange, shard, buckets) => (Some(narrow(store, &exchange, shard, &buckets)), None),
            Self::Items(exchange, shard, asked) => (Some(items(store, &exchange, shard, &asked)), None),
            Self::Give(exchange, shard, wanted) => {
                let buckets: Vec<Bucket> = wanted.iter().map(|(bucket, _)| *bucket).collect();
                let is_wanted = |item: &Item| {
                    wanted.iter().any(|(bucket, ids)| *bucket == item.bucket && ids.contains(&item.id))
                };
                let held = store.items(shard as usize, &buckets, &exchange.horizon);
                (None, Repair::of(held.into_iter().filter(is_wanted)).map(Self::Repair))
            }
            Self::Repair(mut repair) => {
                let frame = repair.next_frame(store);
                let left = !repair.is_done();
                (frame, left.then_some(Self::Repair(repair)))
            }
        }
    }
}

fn differ(
    store: &Store,
    exchange: Exchange,
    mut buckets: VecDeque<Bucket>,
) -> (Option<Vec<u8>>, Option<Job>) {
    let mut lists = Vec::new();
    while lists.len() < limits::COMPARE_BUCKETS_A_FRAME
        && let Some(bucket) = buckets.pop_front()
    {
        let Some(sums) = store.shard_sums(bucket, &exchange.horizon) else { continue };
        let list: Vec<u8> = sums.iter().flat_map(|sum| brief(store, &exchange, sum).to_le_bytes()).collect();
        lists.push((bucket, list));
    }
    let more = !buckets.is_empty();
    let lists = lists.iter().map(|(bucket, list)| (*bucket, Bytes(list))).collect();
    let frame = Frame::Differ { nonce: exchange.nonce, buckets: lists, more, declined: false }.encode();
    (Some(frame), more.then_some(Job::Differ(exchange, buckets)))
}

/// The bits that cost least where one item of `count` differs: so many sums, then one range's items.
fn bits_for(count: usize) -> u32 {
    (2 * count).checked_ilog2().map_or(0, |log| log.div_ceil(2)).min(limits::COMPARE_BITS_MAX)
}

/// In which of 2^bits ranges an item lies.
fn range_of(item: &Item, bits: u32) -> u32 {
    item.place.checked_shr(u64::BITS - bits).unwrap_or(0) as u32
}

/// Items of one bucket, out of those of a shard.
fn of_bucket(items: &[Item], bucket: Bucket) -> &[Item] {
    let from = items.partition_point(|item| item.bucket < bucket);
    let upto = items.partition_point(|item| item.bucket <= bucket);
    &items[from..upto]
}

fn range_sums(store: &Store, exchange: &Exchange, items: &[Item], bits: u32) -> Vec<u32> {
    let mut sums = vec![Sum::default(); 1 << bits];
    for item in items {
        sums[range_of(item, bits) as usize].join(&item.sum);
    }
    sums.iter().map(|sum| brief(store, exchange, sum)).collect()
}

/// Names and sums of the items in one range, in order; those with one name together.
fn told_items(store: &Store, exchange: &Exchange, items: &[Item]) -> BTreeMap<u32, u32> {
    let mut sums: BTreeMap<u32, Sum> = BTreeMap::new();
    for item in items {
        sums.entry(item.id).or_default().join(&item.sum);
    }
    sums.into_iter().map(|(id, sum)| (id, brief(store, exchange, &sum))).collect()
}

/// The items of each range, by range.
fn by_range(items: &[Item], bits: u32) -> impl Iterator<Item = (u32, &[Item])> {
    items
        .chunk_by(move |a, b| range_of(a, bits) == range_of(b, bits))
        .map(move |range| (range_of(&range[0], bits), range))
}

fn narrow(store: &Store, exchange: &Exchange, shard: u32, buckets: &[Bucket]) -> Vec<u8> {
    let held = store.items(shard as usize, buckets, &exchange.horizon);
    let mut lists = Vec::new();
    for bucket in buckets {
        let items = of_bucket(&held, *bucket);
        let bits = bits_for(items.len());
        let sums = range_sums(store, exchange, items, bits);
        lists.push((*bucket, bits as u8, sums.iter().flat_map(|sum| sum.to_le_bytes()).collect::<Vec<u8>>()));
    }
    let ranges = lists.iter().map(|(bucket, bits, sums)| RangeSums {
        bucket: *bucket,
        bits: *bits,
        sums: Bytes(sums),
    });
    Frame::Narrow { exchange: *exchange, shard, ranges: ranges.collect() }.encode()
}

fn items(store: &Store, exchange: &Exchange, shard: u32, asked: &[AskedRanges]) -> Vec<u8> {
    let buckets: Vec<Bucket> = asked.iter().map(|asked| asked.bucket).collect();
    let held = store.items(shard as usize, &buckets, &exchange.horizon);
    let mut lists = Vec::new();
    for asked in asked {
        let items = of_bucket(&held, asked.bucket);
        let ranges: BTreeMap<u32, &[Item]> = by_range(items, asked.bits).collect();
        let ours = range_sums(store, exchange, items, asked.bits);
        for (range, (ours, theirs)) in (0..).zip(ours.iter().zip(&asked.sums)) {
            if ours != theirs {
                let told = told_items(store, exchange, ranges.get(&range).copied().unwrap_or_default());
                let list = told.iter().flat_map(|(id, sum)| [id.to_le_bytes(), sum.to_le_bytes()].concat());
                lists.push((asked.bucket, asked.bits as u8, range, list.collect::<Vec<u8>>()));
            }
        }
    }
    let ranges = lists.iter().map(|(bucket, bits, range, items)| RangeItems {
        bucket: *bucket,
        bits: *bits,
        range: *range,
        items: Bytes(items),
    });
    Frame::Items { nonce: exchange.nonce, shard, ranges: ranges.collect() }.encode()
}

/// What of some ranges the peer lacks, and what we lack of them.
fn sift(
    store: &Store,
    exchange: &Exchange,
    shard: u32,
    ranges: &[RangeItems<'_>],
) -> (Option<Job>, Option<Job>) {
    let buckets: BTreeSet<Bucket> = ranges.iter().map(|range| range.bucket).collect();
    let buckets: Vec<Bucket> = buckets.into_iter().collect();
    let held = store.items(shard as usize, &buckets, &exchange.horizon);
    let (mut lacking, mut wanted) = (Vec::new(), BTreeMap::<Bucket, Vec<u8>>::new());
    for range in ranges {
        let bits = u32::from(range.bits);
        let items = of_bucket(&held, range.bucket);
        let from = items.partition_point(|item| range_of(item, bits) < range.range);
        let upto = items.partition_point(|item| range_of(item, bits) <= range.range);
        let items = &items[from..upto];
        let ours = told_items(store, exchange, items);
        let pairs = range.items.0.chunks_exact(ITEM_BYTES).map(|pair| numbers(pair).collect::<Vec<u32>>());
        let theirs: BTreeMap<u32, u32> = pairs.map(|pair| (pair[0], pair[1])).collect();
        let differs = |item: &&Item| theirs.get(&item.id) != ours.get(&item.id);
        lacking.extend(items.iter().filter(differs).filter(|_| !canary::planted(Bug::RepairsOneWay)));
        let ids = theirs.iter().filter(|(id, sum)| ours.get(id) != Some(sum));
        let ids: Vec<u8> = ids.flat_map(|(id, _)| id.to_le_bytes()).collect();
        if !ids.is_empty() {
            wanted.entry(range.bucket).or_default().extend(ids);
        }
    }
    let want = (!wanted.is_empty()).then(|| {
        let wanted = wanted.iter().map(|(bucket, ids)| Wanted { bucket: *bucket, ids: Bytes(ids) }).collect();
        Job::Say(Frame::Want { exchange: *exchange, shard, wanted }.encode())
    });
    (Repair::of(lacking.into_iter()).map(Job::Repair), want)
}

impl Repair {
    fn of(items: impl Iterator<Item = Item>) -> Option<Self> {
        let mut items: Vec<Item> = items.collect();
        // A key with parts in several buckets is sent whole, once.
        items.sort_unstable_by_key(|item| (item.bucket.is_conflicts(), item.hash, item.id));
        items.dedup_by_key(|item| (item.bucket.is_conflicts(), item.hash, item.id));
        let items = VecDeque::from(items);
        (!items.is_empty()).then(|| Self { items, bodies: Vec::new(), at: 0, release: Release::default() })
    }

    fn is_done(&self) -> bool {
        self.items.is_empty() && self.at == self.bodies.len()
    }

    fn next_frame(&mut self, store: &Store) -> Option<Vec<u8>> {
        if self.at == self.bodies.len() {
            self.bodies.clear();
            (self.at, self.release) = (0, Release::default());
            while self.bodies.len() < limits::FRAME_BYTES_TARGET
                && let Some(item) = self.items.pop_front()
            {
                self.release.join(store.item_bodies(&item, &mut self.bodies));
            }
        }
        // It may have died meanwhile.
        if self.at == self.bodies.len() || !store.tail().may_release(&self.release) {
            return None;
        }
        let upto = self.at + frame_len(&self.bodies[self.at..]);
        let frame = Frame::Repair { bodies: Bytes(&self.bodies[self.at..upto]) }.encode();
        self.at = upto;
        Some(frame)
    }
}
