//! What two regions say while they compare what they hold (S7); see [`crate::node`]'s `reconcile`.
//!
//! The answering side keeps nothing of an exchange: whatever it needs is said again in every question. Lists of
//! fixed-width numbers travel as bytes, little-endian, so that a bound on the frame is a bound on them.

use serde::{Deserialize, Serialize};

use super::MalformedFrame;
use crate::digest::{Bucket, Horizon};
use crate::entry::Bytes;
use crate::limits;

/// What is compared; named by whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// Names it, and salts what is told of sums.
    pub nonce: u64,
    /// Which parts.
    pub horizon: Horizon,
    /// Shards of the asking side's map: sums of others cannot be compared.
    pub shards: u32,
}

impl Exchange {
    /// Everything is compared, whatever its age: asked for by a region that the other's log cannot feed.
    pub fn is_of_everything(&self) -> bool {
        self.horizon == Horizon::EVERYTHING
    }
}

/// Which part of the answer to which question.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartOf {
    /// The exchange's.
    pub nonce: u64,
    /// Which shard.
    pub shard: u32,
    /// Counted from 0: one that is lost or out of order is noticed.
    pub number: u32,
    /// None follows.
    pub last: bool,
}

/// Sums of some ranges of one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RangeSums<'a> {
    /// Of which bucket.
    pub bucket: Bucket,
    /// The shard is divided into 2^bits ranges by the next bits of the hash.
    pub bits: u8,
    /// 4 bytes a range, in order.
    #[serde(borrow)]
    pub sums: Bytes<'a>,
}

/// What one range of a shard holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RangeItems<'a> {
    /// Of which bucket.
    pub bucket: Bucket,
    /// As asked.
    pub bits: u8,
    /// Which of the 2^bits ranges.
    pub range: u32,
    /// 8 bytes an item: what names it, and its sum as told; in the order of names.
    #[serde(borrow)]
    pub items: Bytes<'a>,
}

/// Items of one bucket of a shard that are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wanted<'a> {
    /// Of which bucket.
    pub bucket: Bucket,
    /// 4 bytes an item: what names it.
    #[serde(borrow)]
    pub ids: Bytes<'a>,
}

/// Widths of the numbers in the lists, in bytes.
pub(crate) const SUM_BYTES: usize = 4;
pub(crate) const ITEM_BYTES: usize = 8;

/// Whether each is greater than the one before: nothing may be asked twice in one frame, or a few bytes of question would
/// buy any number of walks and answers.
pub(super) fn ascend<T: Ord>(mut keys: impl Iterator<Item = T>) -> Result<(), MalformedFrame> {
    let mut before = keys.next();
    for key in keys {
        if before.as_ref() >= Some(&key) {
            return Err(MalformedFrame::Comparison);
        }
        before = Some(key);
    }
    Ok(())
}

impl RangeSums<'_> {
    pub(super) fn check(&self) -> Result<(), MalformedFrame> {
        let bits = u32::from(self.bits);
        let whole = bits <= limits::COMPARE_BITS_MAX && self.sums.0.len() == SUM_BYTES << bits;
        if whole { Ok(()) } else { Err(MalformedFrame::Comparison) }
    }
}

impl RangeItems<'_> {
    pub(super) fn check(&self) -> Result<(), MalformedFrame> {
        let bits = u32::from(self.bits);
        let inside = bits <= limits::COMPARE_BITS_MAX && self.range < 1 << bits;
        if inside && self.items.0.len().is_multiple_of(ITEM_BYTES) {
            Ok(())
        } else {
            Err(MalformedFrame::Comparison)
        }
    }
}

impl Wanted<'_> {
    pub(super) fn check(&self) -> Result<(), MalformedFrame> {
        if self.ids.0.len().is_multiple_of(SUM_BYTES) { Ok(()) } else { Err(MalformedFrame::Comparison) }
    }
}

/// The numbers of a list of 4 bytes each.
pub(crate) fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(SUM_BYTES).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}
