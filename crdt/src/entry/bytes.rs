//! The common forms of a key's record, written and read by hand: a claim, a settled claim, a completion.
//!
//! Byte for byte what postcard makes of [`EntryRecord`], which the tests hold against it, at a third of
//! its cost: every operation reads one record and writes one or two. The general form stays postcard's.
//!
//! Rejected: a format of our own (two to learn, and lists of parts need one anyway), fixed widths (the
//! same bytes travel to peers).
//!
//! Must never: write or accept what postcard would not.

use super::pack::{OwnOutcome, PackedAttempt, PackedCompletion};
use super::{Bytes, Entry, Packed};
use crate::journal::{EntryRecord, postcard_onto};

/// Discriminants of [`Packed`].
const CLAIM: u8 = 0;
const SETTLED: u8 = 1;
const COMPLETED: u8 = 3;

impl<'a> EntryRecord<'a> {
    /// The record of `entry`, in its smallest form.
    pub fn of(key: &'a [u8], entry: &'a Entry<'_>) -> Self {
        Self { key: Bytes(key), entry: Packed::of(entry) }
    }

    /// The key of a record, which every form begins with.
    pub(crate) fn key_of(bytes: &'a [u8]) -> Option<&'a [u8]> {
        Reader(bytes).bytes().map(|key| key.0)
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut head = Head::default();
        match &self.entry {
            Packed::Claim(attempt) => {
                head.record(self.key, CLAIM, out);
                head.attempt(attempt, out);
            }
            Packed::Settled(attempt, own) => {
                head.record(self.key, SETTLED, out);
                head.attempt(attempt, out);
                head.varint(own.completed_after);
                head.byte(own.flags);
                head.string(own.bytes, out);
            }
            Packed::Completed(completion) => {
                head.record(self.key, COMPLETED, out);
                head.completion(completion, out);
            }
            Packed::General(_) => return postcard_onto(self, out),
        }
        head.flush(out);
    }

    /// Reads a record and says what follows it; `None` where there is none.
    pub fn take(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut from = Reader(bytes);
        let key = from.bytes()?;
        let form = from.byte()?;
        let entry = match form {
            CLAIM => Packed::Claim(from.attempt()?),
            SETTLED => Packed::Settled(from.attempt()?, from.own_outcome()?),
            COMPLETED => Packed::Completed(from.completion()?),
            _ => return postcard::take_from_bytes(bytes).ok(),
        };
        Some((Self { key, entry }, from.0))
    }
}

/// What was written and is not appended yet: one append for a record with a short key.
struct Head {
    bytes: [u8; HEAD_BYTES],
    len: usize,
}

const HEAD_BYTES: usize = 208;
/// More than the numbers of any form take: five of 10 bytes, one of 5, one of 3, and three single bytes.
const NUMBERS_BYTES: usize = 64;
/// A longer string is not copied twice.
const SHORT_BYTES: usize = 48;
/// Of a number of 64 bits.
const VARINT_BYTES_MAX: usize = 10;

impl Default for Head {
    fn default() -> Self {
        Self { bytes: [0; HEAD_BYTES], len: 0 }
    }
}

impl Head {
    fn record(&mut self, key: Bytes<'_>, form: u8, out: &mut Vec<u8>) {
        self.string(key, out);
        self.byte(form);
    }

    fn attempt(&mut self, attempt: &PackedAttempt<'_>, out: &mut Vec<u8>) {
        self.varint(attempt.stamp);
        self.varint(attempt.region.into());
        self.varint(attempt.incarnation.into());
        self.byte(attempt.phase);
        self.varint(attempt.lease_ms);
        self.varint(attempt.abandoned);
        self.varint(attempt.expires_ms);
        self.string(attempt.fingerprint, out);
        self.string(attempt.claimant, out);
        self.string(attempt.note, out);
    }

    fn completion(&mut self, completion: &PackedCompletion<'_>, out: &mut Vec<u8>) {
        self.varint(completion.stamp);
        self.varint(completion.region.into());
        self.varint(completion.incarnation.into());
        self.varint(completion.completed_after);
        self.byte(completion.flags);
        self.varint(completion.expires_ms);
        self.string(completion.fingerprint, out);
        self.string(completion.bytes, out);
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        let slot = &mut self.bytes[self.len..self.len + VARINT_BYTES_MAX];
        for (at, byte) in slot.iter_mut().enumerate() {
            if value < 0x80 {
                *byte = value as u8;
                self.len += at + 1;
                return;
            }
            *byte = value as u8 | 0x80;
            value >>= 7;
        }
    }

    /// A length and so many bytes; leaves room for the numbers that follow.
    #[inline]
    fn string(&mut self, bytes: Bytes<'_>, out: &mut Vec<u8>) {
        let bytes = bytes.0;
        self.varint(bytes.len() as u64);
        if bytes.is_empty() {
            return;
        }
        if bytes.len() <= SHORT_BYTES {
            self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
            self.len += bytes.len();
            if self.len + NUMBERS_BYTES + SHORT_BYTES > HEAD_BYTES {
                self.flush(out);
            }
            return;
        }
        self.flush(out);
        out.extend_from_slice(bytes);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[..self.len]);
        self.len = 0;
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// A number of so many bits, of which there are more than seven: mostly one byte.
    #[inline]
    fn varint<const BITS: u32>(&mut self) -> Option<u64> {
        if let [byte @ ..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Some(u64::from(*byte));
        }
        self.long_varint::<BITS>()
    }

    /// The same in at most as many bytes as these bits need.
    fn long_varint<const BITS: u32>(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (at, &byte) in self.0.iter().enumerate().take(BITS.div_ceil(7) as usize) {
            let shift = 7 * at as u32;
            let low = u64::from(byte & 0x7f);
            if shift + 7 > BITS && low >> (BITS - shift) != 0 {
                return None;
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<Bytes<'a>> {
        let len = usize::try_from(self.varint::<64>()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(Bytes(bytes))
    }

    fn attempt(&mut self) -> Option<PackedAttempt<'a>> {
        Some(PackedAttempt {
            stamp: self.varint::<64>()?,
            region: self.varint::<16>()? as u16,
            incarnation: self.varint::<32>()? as u32,
            phase: self.byte()?,
            lease_ms: self.varint::<64>()?,
            abandoned: self.varint::<64>()?,
            expires_ms: self.varint::<64>()?,
            fingerprint: self.bytes()?,
            claimant: self.bytes()?,
            note: self.bytes()?,
        })
    }

    fn own_outcome(&mut self) -> Option<OwnOutcome<'a>> {
        Some(OwnOutcome { completed_after: self.varint::<64>()?, flags: self.byte()?, bytes: self.bytes()? })
    }

    fn completion(&mut self) -> Option<PackedCompletion<'a>> {
        Some(PackedCompletion {
            stamp: self.varint::<64>()?,
            region: self.varint::<16>()? as u16,
            incarnation: self.varint::<32>()? as u32,
            completed_after: self.varint::<64>()?,
            flags: self.byte()?,
            expires_ms: self.varint::<64>()?,
            fingerprint: self.bytes()?,
            bytes: self.bytes()?,
        })
    }
}
