//! Records of a log on their way to peers, told briefly.
//!
//! ```text
//! record     = length body                  in the sequence of Frame::Records
//! body       = kind payload                 1 to 127: as it stands in the log (see journal)
//!            | claim | completion           from 128 on: an entry decided in the sender's region and present life
//! claim      = 10pptfcn stamp times? fingerprint? claimant? note? key
//!                                           p phase; t times, f fingerprint, c claimant, n note follow
//! times      = lease expires
//! completion = 11cmtf00 stamp completed expires? fingerprint? key-length key outcome
//!                                           c compensated, m majority; t expiry, f fingerprint follow
//! ```
//! Most records of a frame were decided within milliseconds of each other, in one region and under one policy: stamp,
//! lease, expiry and the time to completion are told as zigzag differences from the last record that was told briefly
//! in this frame (`Before` says where they begin), lease and expiry only where they differ, region and incarnation not at all. The
//! last field ends with the body. Numbers are varints in their shortest form; claimant and note stand behind their
//! lengths. The receiver rebuilds the very bytes of the log, so what is merged and kept knows nothing of this.
//!
//! Whatever does not fit (takeovers, conflicts, parts of another life, lists of parts) travels as it is, as does what
//! would not be shorter.
//!
//! Rejected: differences over frames (a frame lost or sent again would need both sides to agree on what was before),
//! prefixes of the key before (keys are random at their end and short at their beginning), a general compressor
//! (outcomes do not compress, and its window would be one more thing to bound).
//!
//! Must never: rebuild other bytes than were packed, let a body grow by more than [`limits::BRIEF_SAVES_BYTES_MAX`].

use super::{Bodies, MalformedFrame, push_body, push_number, split_number};
use crate::entry::{Bytes, Packed, PackedAttempt, PackedCompletion};
use crate::ids::{Incarnation, RegionId};
use crate::journal::{self, EntryRecord, Origin};
use crate::limits;

/// Whose records a stream brings: not said in each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Author {
    /// The region at the link's other end.
    pub region: RegionId,
    /// The life that the frame's last cursor names.
    pub incarnation: Incarnation,
}

/// What the record before in this frame said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Before {
    stamp: u64,
    completed_after: u64,
    lease_ms: u64,
    expires_ms: u64,
}

impl Default for Before {
    /// Before the first. Lease and expiry are what most namespaces have; part of the format, whatever the policy's defaults
    /// come to be.
    fn default() -> Self {
        Self { stamp: 0, completed_after: 0, lease_ms: 30_000, expires_ms: 86_400_000 }
    }
}

const BRIEF: u8 = 0x80;
const COMPLETION: u8 = 0x40;
/// Of two bits: a claim's phase, a completion's flags.
const STATE_SHIFT: u32 = 4;
const STATE: u8 = 0x30;
const TIMES: u8 = 0x08;
const FINGERPRINT: u8 = 0x04;
const CLAIMANT: u8 = 0x02;
const NOTE: u8 = 0x01;

const PHASES: u8 = 3;
const FLAGS: u8 = 4;
const FINGERPRINT_BYTES: usize = 16;

/// Packs the records of one frame.
#[derive(Debug)]
pub struct Packer {
    author: Author,
    before: Before,
    scratch: Vec<u8>,
}

impl Packer {
    /// For a frame of this author's log.
    pub fn new(author: Author) -> Self {
        Self { author, before: Before::default(), scratch: Vec::new() }
    }

    /// Appends one record's body to a frame's `bodies`, briefly where it can be.
    pub fn push(&mut self, body: &[u8], bodies: &mut Vec<u8>) {
        self.scratch.clear();
        match self.brief(body) {
            Some(before) if self.scratch.len() < body.len() => {
                self.before = before;
                push_body(&self.scratch, bodies);
            }
            _ => push_body(body, bodies),
        }
    }

    /// Writes the brief form of `body` into the scratch; `None` where there is none that brings back these very bytes.
    fn brief(&mut self, body: &[u8]) -> Option<Before> {
        let (kind, payload) = body.split_first()?;
        if *kind != journal::entry_kind(Origin::Own) {
            return None;
        }
        let (record, []) = EntryRecord::take(payload)? else { return None };
        // A number that was padded would come back in its shortest form.
        record.encode(&mut self.scratch);
        if self.scratch != payload {
            return None;
        }
        self.scratch.clear();
        match &record.entry {
            Packed::Claim(attempt) => self.claim(record.key.0, attempt),
            Packed::Completed(completion) => self.completion(record.key.0, completion),
            _ => None,
        }
    }

    fn claim(&mut self, key: &[u8], attempt: &PackedAttempt<'_>) -> Option<Before> {
        let Author { region, incarnation } = self.author;
        let usual = (attempt.region, attempt.incarnation) == (region.0, incarnation.0)
            && attempt.abandoned == 0
            && attempt.phase < PHASES
            && [0, FINGERPRINT_BYTES].contains(&attempt.fingerprint.0.len());
        if !usual {
            return None;
        }
        let (before, out) = (self.before, &mut self.scratch);
        let (lease_ms, expires_ms) = (attempt.lease_ms, attempt.expires_ms);
        let times = (lease_ms, expires_ms) != (before.lease_ms, before.expires_ms);
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let tag = BRIEF
            | attempt.phase << STATE_SHIFT
            | flag(times, TIMES)
            | flag(!attempt.fingerprint.0.is_empty(), FINGERPRINT)
            | flag(!attempt.claimant.0.is_empty(), CLAIMANT)
            | flag(!attempt.note.0.is_empty(), NOTE);
        out.push(tag);
        push_difference(attempt.stamp, before.stamp, out);
        if times {
            push_difference(lease_ms, before.lease_ms, out);
            push_difference(expires_ms, before.expires_ms, out);
        }
        out.extend_from_slice(attempt.fingerprint.0);
        for text in [attempt.claimant.0, attempt.note.0].into_iter().filter(|text| !text.is_empty()) {
            push_body(text, out);
        }
        out.extend_from_slice(key);
        Some(Before { stamp: attempt.stamp, lease_ms, expires_ms, ..before })
    }

    fn completion(&mut self, key: &[u8], completion: &PackedCompletion<'_>) -> Option<Before> {
        let Author { region, incarnation } = self.author;
        let usual = (completion.region, completion.incarnation) == (region.0, incarnation.0)
            && completion.flags < FLAGS
            && [0, FINGERPRINT_BYTES].contains(&completion.fingerprint.0.len());
        if !usual {
            return None;
        }
        let (before, out) = (self.before, &mut self.scratch);
        let (stamp, completed_after) = (completion.stamp, completion.completed_after);
        let expires_ms = completion.expires_ms;
        let times = expires_ms != before.expires_ms;
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let tag = BRIEF
            | COMPLETION
            | completion.flags << STATE_SHIFT
            | flag(times, TIMES)
            | flag(!completion.fingerprint.0.is_empty(), FINGERPRINT);
        out.push(tag);
        push_difference(stamp, before.stamp, out);
        push_difference(completed_after, before.completed_after, out);
        if times {
            push_difference(expires_ms, before.expires_ms, out);
        }
        out.extend_from_slice(completion.fingerprint.0);
        push_body(key, out);
        out.extend_from_slice(completion.bytes.0);
        Some(Before { stamp, completed_after, expires_ms, ..before })
    }
}

/// The `bodies` of a frame of this author's records as they stand in its log, each behind its length: for [`Bodies`].
pub fn unpack(author: Author, bodies: Bytes<'_>) -> Result<Vec<u8>, MalformedFrame> {
    let mut out = Vec::with_capacity(bodies.0.len() + bodies.0.len() / 4);
    let (mut before, mut whole) = (Before::default(), Vec::new());
    for body in Bodies::new(bodies) {
        let (&tag, fields) = body.split_first().ok_or(MalformedFrame::Bodies)?;
        if tag & BRIEF == 0 {
            push_body(body, &mut out);
            continue;
        }
        let mut from = Reader(fields);
        let read = if tag & COMPLETION == 0 {
            from.claim(tag, author, &mut before)
        } else {
            from.completion(tag, author, &mut before)
        };
        let record = read.ok_or(MalformedFrame::Encoding)?;
        whole.clear();
        whole.push(journal::entry_kind(Origin::Own));
        record.encode(&mut whole);
        if whole.len() > limits::RECORD_BYTES_MAX {
            return Err(MalformedFrame::Bodies);
        }
        push_body(&whole, &mut out);
    }
    Ok(out)
}

/// What is left to read of a brief form. Whatever a [`Packer`] would have written otherwise is refused.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn claim(&mut self, tag: u8, author: Author, before: &mut Before) -> Option<EntryRecord<'a>> {
        let phase = (tag & STATE) >> STATE_SHIFT;
        if phase >= PHASES {
            return None;
        }
        before.stamp = self.differing_from(before.stamp)?;
        if tag & TIMES != 0 {
            let said = (before.lease_ms, before.expires_ms);
            before.lease_ms = self.differing_from(said.0)?;
            before.expires_ms = self.differing_from(said.1)?;
            if said == (before.lease_ms, before.expires_ms) {
                return None;
            }
        }
        let attempt = PackedAttempt {
            stamp: before.stamp,
            region: author.region.0,
            incarnation: author.incarnation.0,
            phase,
            lease_ms: before.lease_ms,
            abandoned: 0,
            expires_ms: before.expires_ms,
            fingerprint: self.fingerprint(tag)?,
            claimant: self.text(tag & CLAIMANT != 0)?,
            note: self.text(tag & NOTE != 0)?,
        };
        Some(EntryRecord { key: Bytes(self.0), entry: Packed::Claim(attempt) })
    }

    fn completion(&mut self, tag: u8, author: Author, before: &mut Before) -> Option<EntryRecord<'a>> {
        if tag & (CLAIMANT | NOTE) != 0 {
            return None;
        }
        before.stamp = self.differing_from(before.stamp)?;
        before.completed_after = self.differing_from(before.completed_after)?;
        if tag & TIMES != 0 {
            let said = before.expires_ms;
            before.expires_ms = self.differing_from(said)?;
            if said == before.expires_ms {
                return None;
            }
        }
        let fingerprint = self.fingerprint(tag)?;
        let key = self.string()?;
        let completion = PackedCompletion {
            stamp: before.stamp,
            region: author.region.0,
            incarnation: author.incarnation.0,
            completed_after: before.completed_after,
            flags: (tag & STATE) >> STATE_SHIFT,
            expires_ms: before.expires_ms,
            fingerprint,
            bytes: Bytes(self.0),
        };
        Some(EntryRecord { key, entry: Packed::Completed(completion) })
    }

    fn number(&mut self) -> Option<u64> {
        let (number, rest) = split_number(self.0)?;
        self.0 = rest;
        Some(number)
    }

    fn differing_from(&mut self, before: u64) -> Option<u64> {
        let zigzag = self.number()?;
        Some(before.wrapping_add(zigzag >> 1 ^ (zigzag & 1).wrapping_neg()))
    }

    fn take(&mut self, len: usize) -> Option<Bytes<'a>> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(Bytes(bytes))
    }

    fn string(&mut self) -> Option<Bytes<'a>> {
        let len = usize::try_from(self.number()?).ok()?;
        self.take(len)
    }

    fn fingerprint(&mut self, tag: u8) -> Option<Bytes<'a>> {
        self.take(if tag & FINGERPRINT == 0 { 0 } else { FINGERPRINT_BYTES })
    }

    /// Empty where it does not follow, and only there.
    fn text(&mut self, follows: bool) -> Option<Bytes<'a>> {
        if !follows {
            return Some(Bytes(&[]));
        }
        self.string().filter(|text| !text.0.is_empty())
    }
}

fn push_difference(value: u64, before: u64, out: &mut Vec<u8>) {
    let difference = value.wrapping_sub(before) as i64;
    push_number((difference << 1 ^ difference >> 63) as u64, out);
}

#[cfg(test)]
mod tests;
