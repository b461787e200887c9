//! The small identities everything else is built from (S1, S6).
//!
//! They are plain ordered values. Ordering matters: a claim id compares by stamp, then region, then
//! incarnation, and that order *is* the tie-break of the winner rule (S3), so the field order here
//! must never change.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::hlc::Stamp;

/// A region's number, unique in its cluster, from configuration (S7). Never 0 in a checked config.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct RegionId(pub u16);

/// One life of a region's data (S6). A start that may have lost synced data begins the next one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Incarnation(pub u32);

/// One run of the log's writer: every start opens the next (S6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct LogEpoch(pub u32);

/// A log sequence number: records are counted from 1; 0 is "before the first".
pub type Lsn = u64;

/// Identity of one claim; its stamp is the fencing token (S1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct ClaimId {
    /// When it was claimed; the fencing token.
    pub stamp: Stamp,
    /// Where it was claimed.
    pub region: RegionId,
    /// In which life of that region's data.
    pub incarnation: Incarnation,
}

impl fmt::Display for ClaimId {
    /// `<16 hex digits of the stamp>-<region id>-<incarnation>`: sorts as the id does within a region.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}-{}", self.stamp.bits(), self.region.0, self.incarnation.0)
    }
}

/// How far a reader of some region's log has come (S6): sequences are only comparable within one
/// incarnation and epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// The log's incarnation.
    pub incarnation: Incarnation,
    /// The epoch in which `lsn` was written.
    pub epoch: LogEpoch,
    /// Everything up to and including this record is held.
    pub lsn: Lsn,
}

/// 128-bit digest of the payload a key stands for (S1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fingerprint(pub [u8; 16]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Fingerprint {
    /// Reads exactly 32 hex digits of either case; anything else is `None`.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        if text.len() != 32 {
            return None;
        }
        let mut bytes = [0u8; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

/// Both hex digits of every byte, in lower case.
pub const HEX_PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// The value of one hex digit of either case.
pub(crate) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// What stands before the first `:` of a key (S1); the whole key where there is none is the
/// default namespace, named by the empty string.
pub fn namespace(key: &[u8]) -> &[u8] {
    key.iter().position(|&byte| byte == b':').map_or(&[], |at| &key[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claim_ids_order_by_stamp_then_region_then_incarnation() {
        let id = |stamp, region, incarnation| ClaimId {
            stamp: Stamp::from_bits(stamp),
            region: RegionId(region),
            incarnation: Incarnation(incarnation),
        };
        let mut ids = [id(2, 1, 1), id(1, 2, 1), id(1, 1, 2), id(1, 1, 1)];
        ids.sort();
        assert_eq!(ids, [id(1, 1, 1), id(1, 1, 2), id(1, 2, 1), id(2, 1, 1)]);
    }

    #[test]
    fn fingerprints_take_32_hex_digits_and_nothing_else() {
        let fp = Fingerprint::from_hex(b"000102030405060708090A0b0c0d0e0f").expect("valid");
        assert_eq!(fp.to_string(), "000102030405060708090a0b0c0d0e0f");
        assert_eq!(Fingerprint::from_hex(b"00"), None);
        assert_eq!(Fingerprint::from_hex(b"g00102030405060708090a0b0c0d0e0f"), None);
    }

    #[test]
    fn a_namespace_stands_before_the_first_colon() {
        assert_eq!(namespace(b"pay:1:2"), b"pay");
        assert_eq!(namespace(b"plain"), b"");
        assert_eq!(namespace(b":x"), b"");
    }
}
