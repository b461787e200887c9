//! The frames of a comparison, made one by one when they may leave: sums, names and whole states of what one shard holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::canary::{self, Bug};
use crate::digest::{Bucket, Sum};
use crate::entry::Bytes;
use crate::limits;
use crate::node::send::frame_len;
use crate::store::{Item, Named, Release, Store};
use crate::wire::compare::{ITEM_BYTES, numbers};
use crate::wire::{Exchange, Frame, PartOf, RangeItems, RangeSums, Wanted};

/// One frame, or a few, still to be made.
#[derive(Debug)]
pub(super) enum Job {
    Say(Vec<u8>),
    /// From which part on.
    Differ(Exchange, u32, VecDeque<Bucket>),
    Narrow(Exchange, u32, Vec<Bucket>),
    Items(Exchange, u32, Vec<AskedRanges>),
    Give(Exchange, u32, Named),
    Repair(Repair),
}

#[derive(Debug)]
pub(super) struct AskedRanges {
    bucket: Bucket,
    bits: u32,
    sums: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Repair {
    /// Of the next frame.
    of: PartOf,
    items: VecDeque<Item>,
    /// Bodies of the items before, and what of them was sent.
    bodies: Vec<u8>,
    at: usize,
    release: Release,
}

/// A sum in 4 bytes; 0 is of nothing.
pub(super) fn brief(store: &Store, exchange: &Exchange, sum: &Sum) -> u32 {
    match store.told(exchange.nonce, sum) {
        0 => 0,
        told => (told as u32).max(1),
    }
}

impl AskedRanges {
    fn of_nothing(bucket: Bucket) -> Self {
        Self { bucket, bits: 0, sums: vec![0] }
    }

    /// As a decoded frame says.
    pub(super) fn of(range: &RangeSums<'_>) -> Self {
        let sums = numbers(range.sums.0).collect();
        Self { bucket: range.bucket, bits: u32::from(range.bits), sums }
    }
}

/// What a number of a set takes, with its place in it, in bytes.
const ID_BYTES: usize = 8;

impl Job {
    /// What a peer's question takes in memory until it is answered.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Say(frame) => frame.len(),
            Self::Differ(_, _, buckets) => buckets.len() * size_of::<Bucket>(),
            Self::Narrow(_, _, buckets) => buckets.len() * size_of::<Bucket>(),
            Self::Items(_, _, asked) => {
                asked.iter().map(|asked| size_of::<AskedRanges>() + size_of_val(&asked.sums[..])).sum()
            }
            Self::Give(_, _, named) => (named.entries.len() + named.conflicts.len()) * ID_BYTES,
            // Ours, and made of what we hold: bounded by a shard.
            Self::Repair(_) => 0,
        }
    }

    /// The next frame, if it may leave, and what is left to do.
    pub(super) fn work(self, store: &Store) -> (Option<Vec<u8>>, Option<Self>) {
        match self {
            Self::Say(frame) => (Some(frame), None),
            Self::Differ(exchange, number, buckets) => differ(store, exchange, number, buckets),
            Self::Narrow(exchange, shard, buckets) => (Some(narrow(store, &exchange, shard, &buckets)), None),
            Self::Items(exchange, shard, asked) => (Some(items(store, &exchange, shard, &asked)), None),
            Self::Give(exchange, shard, wanted) => {
                // A key whose claim has been replaced since its name was told stands in another bucket by now.
                let held = store.named_items(shard as usize, &wanted);
                Self::Repair(Repair::of(&exchange, shard, held.into_iter())).work(store)
            }
            Self::Repair(mut repair) => {
                let frame = repair.next_frame(store);
                (frame, (!repair.of.last).then_some(Self::Repair(repair)))
            }
        }
    }
}

fn differ(
    store: &Store,
    exchange: Exchange,
    number: u32,
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
    let nonce = exchange.nonce;
    let frame = Frame::Differ { nonce, number, buckets: lists, more, declined: false }.encode();
    (Some(frame), more.then_some(Job::Differ(exchange, number + 1, buckets)))
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
    let whole = exchange.is_of_everything();
    let held = store.items(shard as usize, (!whole).then_some(buckets), &exchange.horizon);
    let mut lists = Vec::new();
    // Of everything: what is in no other bucket now may be by the time that this is answered.
    let others = held.iter().map(|item| item.bucket).filter(|_| whole);
    let all: BTreeSet<Bucket> = buckets.iter().copied().chain(others).collect();
    for bucket in &all {
        let items = of_bucket(&held, *bucket);
        let bits = if buckets.contains(bucket) { bits_for(items.len()) } else { 0 };
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
    let whole = exchange.is_of_everything();
    let held = store.items(shard as usize, (!whole).then_some(&buckets), &exchange.horizon);
    let mut lists = Vec::new();
    // Of everything: the asking side has nothing in buckets that it does not name.
    let others: BTreeSet<Bucket> = held.iter().map(|item| item.bucket).collect();
    let others = others.into_iter().filter(|bucket| !buckets.contains(bucket));
    let others: Vec<AskedRanges> = others.map(AskedRanges::of_nothing).collect();
    for asked in asked.iter().chain(&others) {
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
pub(super) fn sift(
    store: &Store,
    exchange: &Exchange,
    shard: u32,
    ranges: &[RangeItems<'_>],
) -> (Option<Job>, Option<Job>) {
    let buckets: BTreeSet<Bucket> = ranges.iter().map(|range| range.bucket).collect();
    let buckets: Vec<Bucket> = buckets.into_iter().collect();
    let held = store.items(shard as usize, Some(&buckets), &exchange.horizon);
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
    let repair = || Job::Repair(Repair::of(exchange, shard, lacking.iter().copied()));
    ((!lacking.is_empty()).then(repair), want)
}

impl Repair {
    fn of(exchange: &Exchange, shard: u32, items: impl Iterator<Item = Item>) -> Self {
        let mut items: Vec<Item> = items.collect();
        // A key with parts in several buckets is sent whole, once.
        items.sort_unstable_by_key(|item| (item.bucket.is_conflicts(), item.hash, item.id));
        items.dedup_by_key(|item| (item.bucket.is_conflicts(), item.hash, item.id));
        let items = VecDeque::from(items);
        let of = PartOf { nonce: exchange.nonce, shard, number: 0, last: false };
        Self { of, items, bodies: Vec::new(), at: 0, release: Release::default() }
    }

    /// The next part, if it may leave. The last one may be empty: what was wanted may have died meanwhile.
    fn next_frame(&mut self, store: &Store) -> Option<Vec<u8>> {
        if self.at == self.bodies.len() {
            self.bodies.clear();
            (self.at, self.release) = (0, Release::default());
            while self.bodies.len() < limits::FRAME_BYTES_TARGET
                && let Some(item) = self.items.pop_front()
            {
                if item.bucket.is_conflicts() {
                    // They stand behind all entries.
                    let conflicts: Vec<Item> = std::iter::once(item).chain(self.items.drain(..)).collect();
                    let shard = self.of.shard as usize;
                    self.release.join(store.conflict_bodies(shard, &conflicts, &mut self.bodies));
                } else {
                    self.release.join(store.item_bodies(&item, &mut self.bodies));
                }
            }
        }
        if !store.tail().may_release(&self.release) {
            return None;
        }
        let from = self.at;
        self.at += frame_len(&self.bodies[from..]);
        self.of.last = self.items.is_empty() && self.at == self.bodies.len();
        let frame = Frame::Repair { of: self.of, bodies: Bytes(&self.bodies[from..self.at]) }.encode();
        self.of.number += 1;
        Some(frame)
    }
}
