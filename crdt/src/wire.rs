//! Frames between regions (S7): a version byte, then postcard.
//!
//! The transport carries frames as length-prefixed bytes; this module turns bytes into values and
//! back, checks every bound before anything is allocated, and knows nothing of links. Variants are
//! append-only; an unknown version or variant is refused, never skipped. Golden bytes pin all of it.

pub(crate) mod compare;
mod errand;
pub mod stream;

use serde::{Deserialize, Serialize};

use crate::decide::Verdict;
use crate::digest::Bucket;
use crate::entry::Bytes;
use crate::hlc::Stamp;
use crate::ids::{Cursor, Incarnation, LogEpoch, Lsn, RegionId};
use crate::journal;
use crate::limits;
use crate::node::membership::are_regions;

use compare::ascend;
pub use compare::{Exchange, PartOf, RangeItems, RangeSums, Wanted};
pub use errand::{Carried, Errand};

/// Version of the frames this code writes; the only one it reads.
pub const WIRE_VERSION: u8 = 1;

/// The first frame on every link, from both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// Digest of the cluster's name: must be equal.
    pub cluster: [u8; 16],
    /// Who speaks; must be the region that the transport authenticated.
    pub region: RegionId,
    /// Its name, for messages.
    pub name: &'a str,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its log's epoch.
    pub epoch: LogEpoch,
    /// The epoch of its membership (S5); `members` are the regions of it.
    pub membership: u64,
    /// How far it holds the receiver's log; `None`: from nowhere on.
    pub have: Option<Cursor>,
    /// The last record of its log that may leave now: the receiver has caught up once it holds it.
    pub tip: Lsn,
    /// The greatest stamp issued by the receiver's region that it knows (S6).
    pub newest_of_yours: Stamp,
    /// The first record of `epoch`.
    pub epoch_first: Lsn,
    /// A power loss may have taken the end of an epoch of this incarnation: cursors may lie beyond it.
    pub torn: bool,
    /// This life began without data that it should have, and has not caught up since: what it lacks, others must bring.
    pub incomplete: bool,
    /// When this start of it began, Unix milliseconds by its wall clock: two starts from copies of one data folder
    /// open the same epoch.
    pub began_ms: u64,
    /// The latest start of the receiver's region that it has met, and when that began; zeros: unknown.
    pub latest_of_yours: (Incarnation, LogEpoch, u64),
    /// The regions of its membership, itself among them: two bytes each, ascending.
    #[serde(borrow)]
    pub members: Bytes<'a>,
}

/// What regions say to each other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Frame<'a> {
    /// See [`Hello`].
    Hello(#[serde(borrow)] Hello<'a>),
    /// Records of the sender's log after `prev` and up to `last`; those between that do not travel are
    /// left out. `bodies` is a sequence of (length, body), most of them told briefly: see [`stream`].
    Records {
        /// Where the receiver must stand.
        prev: Cursor,
        /// Where it stands afterwards.
        last: Cursor,
        /// Records of the log that follow later: whoever has many before it takes its time (`node::Pacing`).
        left: u64,
        /// See [`stream::Packer`] and [`stream::unpack`].
        #[serde(borrow)]
        bodies: Bytes<'a>,
    },
    /// All up to here is durable with the receiver of the records.
    Ack {
        /// The cumulative cursor.
        upto: Cursor,
        /// Something was missing: send again from here.
        resend: bool,
    },
    /// Are you there? Also tells where the stream stands, so that a lost frame is noticed.
    Ping {
        /// The sender's wall clock, Unix milliseconds.
        at_ms: u64,
        /// The cursor of the last frame of records sent.
        sent: Cursor,
        /// As in a hello; it may have changed.
        incomplete: bool,
    },
    /// Answer to a ping.
    Pong {
        /// The ping's `at_ms`.
        ping_at_ms: u64,
        /// The answering side's wall clock, Unix milliseconds.
        at_ms: u64,
    },
    /// The sums of everything the sender holds, by bucket: let us compare.
    Compare {
        /// What is compared.
        exchange: Exchange,
        /// Buckets, and their sums as told.
        sums: Vec<(Bucket, u64)>,
    },
    /// Answer to [`Frame::Compare`]: where the sums differ.
    Differ {
        /// The exchange's.
        nonce: u64,
        /// Which part of the answer, from 0 on.
        number: u32,
        /// Buckets, and their sums by shard as told, 4 bytes each.
        #[serde(borrow)]
        buckets: Vec<(Bucket, Bytes<'a>)>,
        /// More of this answer follows.
        more: bool,
        /// Not now: the log comes first.
        declined: bool,
    },
    /// Sums of one shard in finer ranges.
    Narrow {
        /// What is compared.
        exchange: Exchange,
        /// Which shard.
        shard: u32,
        /// See [`RangeSums`].
        #[serde(borrow)]
        ranges: Vec<RangeSums<'a>>,
    },
    /// Answer to [`Frame::Narrow`]: what the ranges hold whose sums differ.
    Items {
        /// The exchange's.
        nonce: u64,
        /// Which shard.
        shard: u32,
        /// See [`RangeItems`].
        #[serde(borrow)]
        ranges: Vec<RangeItems<'a>>,
    },
    /// What the sender lacks of one shard.
    Want {
        /// What is compared.
        exchange: Exchange,
        /// Which shard.
        shard: u32,
        /// See [`Wanted`].
        #[serde(borrow)]
        wanted: Vec<Wanted<'a>>,
    },
    /// Whole states that the receiver lacks, whoever wrote them: a sequence of (length, body), see [`push_body`].
    Repair {
        /// Which part of which answer.
        of: PartOf,
        /// See [`Bodies`].
        #[serde(borrow)]
        bodies: Bytes<'a>,
    },
    /// The sender's membership has changed while the link was up (S5).
    Membership {
        /// As in a hello.
        epoch: u64,
        /// As in a hello.
        #[serde(borrow)]
        members: Bytes<'a>,
    },
    /// The sender's log cannot bring the receiver on from where it stands: let it ask for a comparison of everything.
    Behind {
        /// Where the receiver stands by its last word; zeros: nowhere.
        have: Cursor,
        /// Where the log stands. What it has told up to there is in the sender's map.
        at: Cursor,
        /// Keys in that map.
        keys: u64,
    },
    /// S5: let this be held durably, and say what you know of its key.
    Ask {
        /// Which round of the sender's.
        round: u64,
        /// The epoch of the membership in which majorities are counted.
        epoch: u64,
        /// The key's whole state there: a record's body.
        #[serde(borrow)]
        body: Bytes<'a>,
    },
    /// Answer to [`Frame::Ask`].
    Voice {
        /// As asked.
        round: u64,
        /// As asked.
        epoch: u64,
        /// It is held durably, by a region that counts in that epoch's majorities.
        counts: bool,
        /// The key's whole state here, what was asked joined in; empty where it does not count.
        #[serde(borrow)]
        body: Bytes<'a>,
    },
    /// S5: the receiver is the home of this key, and is to decide.
    Forward {
        /// Which request of the sender's; they rise on a link.
        number: u64,
        /// The epoch of the membership by which it is the home.
        epoch: u64,
        /// The request.
        #[serde(borrow)]
        errand: Errand<'a>,
    },
    /// Answer to [`Frame::Forward`].
    Forwarded {
        /// As asked.
        number: u64,
        /// What was decided.
        verdict: Verdict,
        /// The key's whole state at the home; empty where nothing is known of it, or nothing was decided.
        #[serde(borrow)]
        body: Bytes<'a>,
    },
    /// Whoever asked this has gone: what was granted to nobody else is to be released.
    Withdraw {
        /// As forwarded.
        number: u64,
    },
}

/// Why bytes are not a frame. Nothing was changed; the link is to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MalformedFrame {
    /// Longer than any frame.
    #[error("a frame of {0} bytes exceeds the bound of {max}", max = limits::FRAME_BYTES_MAX)]
    TooLong(usize),
    /// Another version's.
    #[error("wire version {0}; this onced speaks {WIRE_VERSION}: upgrade the older side")]
    Version(u8),
    /// Not a frame.
    #[error("the bytes of a frame do not decode")]
    Encoding,
    /// A name out of bounds.
    #[error("a region's name of {0} bytes exceeds the bound of {max}", max = limits::NAME_BYTES_MAX)]
    Name(usize),
    /// A comparison out of bounds.
    #[error("the lists of a comparison do not fit each other")]
    Comparison,
    /// A list of regions out of bounds or order.
    #[error("the regions of a membership are out of bounds or order")]
    Members,
    /// A request out of bounds.
    #[error("a forwarded request exceeds its bounds")]
    Errand,
    /// Bodies out of bounds.
    #[error("the records of a frame exceed their bounds")]
    Bodies,
}

impl<'a> Frame<'a> {
    /// The frame's bytes, without the transport's length.
    pub fn encode(&self) -> Vec<u8> {
        let hint = match self {
            Self::Records { bodies, .. } | Self::Repair { bodies, .. } => bodies.0.len() + 64,
            Self::Ask { body, .. } | Self::Voice { body, .. } | Self::Forwarded { body, .. } => {
                body.0.len() + 64
            }
            Self::Forward { .. } => 512,
            _ => 128,
        };
        let mut out = Vec::with_capacity(hint);
        out.push(WIRE_VERSION);
        journal::postcard_onto(self, &mut out);
        out
    }

    /// Reads one whole frame; trailing bytes are an error.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MalformedFrame> {
        if bytes.len() > limits::FRAME_BYTES_MAX {
            return Err(MalformedFrame::TooLong(bytes.len()));
        }
        let (&version, payload) = bytes.split_first().ok_or(MalformedFrame::Encoding)?;
        if version != WIRE_VERSION {
            return Err(MalformedFrame::Version(version));
        }
        let frame = match postcard::take_from_bytes::<Self>(payload) {
            Ok((frame, [])) => frame,
            _ => return Err(MalformedFrame::Encoding),
        };
        match &frame {
            Self::Hello(hello) if hello.name.len() > limits::NAME_BYTES_MAX => {
                return Err(MalformedFrame::Name(hello.name.len()));
            }
            Self::Hello(Hello { members, .. }) | Self::Membership { members, .. }
                if !are_regions(*members) =>
            {
                return Err(MalformedFrame::Members);
            }
            Self::Records { bodies, .. } | Self::Repair { bodies, .. } => check_bodies(bodies.0)?,
            Self::Forward { errand, .. } => errand.check()?,
            Self::Compare { sums, .. } if sums.len() > limits::COMPARE_BUCKETS_MAX => {
                return Err(MalformedFrame::Comparison);
            }
            Self::Compare { sums, .. } => ascend(sums.iter().map(|(bucket, _)| *bucket))?,
            Self::Differ { buckets, .. } => ascend(buckets.iter().map(|(bucket, _)| *bucket))?,
            Self::Narrow { ranges, .. } => {
                ascend(ranges.iter().map(|range| range.bucket))?;
                ranges.iter().try_for_each(RangeSums::check)?;
            }
            Self::Items { ranges, .. } => {
                ranges.iter().try_for_each(RangeItems::check)?;
            }
            Self::Want { wanted, .. } => {
                ascend(wanted.iter().map(|wanted| wanted.bucket))?;
                wanted.iter().try_for_each(Wanted::check)?;
            }
            _ => {}
        }
        Ok(frame)
    }
}

/// Appends one record's body to a frame's `bodies`, behind its length. Most records take one byte or two for it.
pub fn push_body(body: &[u8], bodies: &mut Vec<u8>) {
    push_number(body.len() as u64, bodies);
    bodies.extend_from_slice(body);
}

/// Appends a number: seven bits a byte, the lowest first, the top bit set where more follow.
fn push_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A number and what follows it; `None` if that is none of 64 bits, or not the shortest form of one.
fn split_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(NUMBER_BYTES_MAX).enumerate() {
        let low = u64::from(byte & 0x7f);
        if low.leading_zeros() < 7 * at as u32 {
            return None;
        }
        number |= low << (7 * at);
        if byte & 0x80 == 0 {
            let shortest = at == 0 || *byte != 0;
            return shortest.then_some((number, &bytes[at + 1..]));
        }
    }
    None
}

/// Of 64 bits.
const NUMBER_BYTES_MAX: usize = 10;

/// A body's length and what follows it; `None` if there is none that any body has.
fn split_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = split_number(bytes)?;
    let length = usize::try_from(length).ok()?;
    (length <= limits::RECORD_BYTES_MAX).then_some((length, rest))
}

/// The record bodies of a frame, as it holds them; those of [`Frame::Records`] as [`stream::unpack`] brings them back.
#[derive(Clone, Debug)]
pub struct Bodies<'a>(&'a [u8]);

impl<'a> Bodies<'a> {
    /// Over what [`Frame::decode`] has checked, or [`stream::unpack`] made.
    pub fn new(bodies: Bytes<'a>) -> Self {
        Self(bodies.0)
    }
}

impl<'a> Iterator for Bodies<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = split_length(self.0)?;
        let (body, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(body)
    }
}

impl Bodies<'_> {
    /// Bytes that are still to be read.
    pub fn left(&self) -> usize {
        self.0.len()
    }
}

fn check_bodies(bodies: &[u8]) -> Result<(), MalformedFrame> {
    let mut walk = Bodies(bodies);
    let mut count = 0;
    for body in walk.by_ref() {
        count += 1;
        if body.is_empty() || body.len() > limits::RECORD_BYTES_MAX || count > limits::FRAME_RECORDS_MAX {
            return Err(MalformedFrame::Bodies);
        }
    }
    if walk.0.is_empty() { Ok(()) } else { Err(MalformedFrame::Bodies) }
}
