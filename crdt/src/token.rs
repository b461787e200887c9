//! What a holder presents to complete, renew or release (S1): self-contained, so that any region can
//! judge it without having seen the claim.
//!
//! 53 bytes, big-endian, shown as 106 hex digits, so that tokens sort as their claim ids do:
//! stamp 8, region 2, incarnation 4, expires_at 6, fingerprint flag 1 and bytes 16, tag 16. The tag
//! is keyed by the cluster and covers all before it and the key: a token for one key is worthless
//! for another.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::entry::Bytes;
use crate::hash::ClusterKeys;
use crate::hlc::Stamp;
use crate::ids::{ClaimId, Fingerprint, HEX_PAIRS, Incarnation, RegionId, hex_digit};

/// Bytes of a token.
pub const TOKEN_BYTES: usize = 53;
/// Characters of a token as people and clients see it.
pub const TOKEN_TEXT_BYTES: usize = TOKEN_BYTES * 2;
const TAG_AT: usize = TOKEN_BYTES - 16;

/// A claim as its holder shows it; only [`Token::verify`] says whether it is genuine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// The claim.
    pub id: ClaimId,
    /// The claim's fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// The claim's expiry, Unix milliseconds (48 bits).
    pub expires_at: u64,
    tag: [u8; 16],
}

impl Token {
    /// The genuine token of a claim on `key`.
    pub fn issue(
        keys: &ClusterKeys,
        key: &[u8],
        id: ClaimId,
        fingerprint: Option<Fingerprint>,
        expires_at: u64,
    ) -> Self {
        let mut token = Self { id, fingerprint, expires_at, tag: [0; 16] };
        token.tag = keys.tag(&[&token.bytes()[..TAG_AT], key]);
        token
    }

    /// Whether this token was issued in this cluster for `key`.
    pub fn verify(&self, keys: &ClusterKeys, key: &[u8]) -> bool {
        let expected = keys.tag(&[&self.bytes()[..TAG_AT], key]);
        // Every byte is looked at, so that timing tells a forger nothing.
        expected.iter().zip(&self.tag).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
    }

    /// Reads the text form; `None` unless it is exactly that.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        if text.len() != TOKEN_TEXT_BYTES {
            return None;
        }
        let mut bytes = [0u8; TOKEN_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Self::from_bytes(&bytes)
    }

    /// The text form: lower-case hex.
    pub fn text(&self) -> [u8; TOKEN_TEXT_BYTES] {
        let mut text = [0u8; TOKEN_TEXT_BYTES];
        let (pairs, _) = text.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(&self.bytes()) {
            *pair = HEX_PAIRS[usize::from(*byte)];
        }
        text
    }

    /// The binary form, as it travels.
    pub fn bytes(&self) -> [u8; TOKEN_BYTES] {
        let mut bytes = [0u8; TOKEN_BYTES];
        bytes[0..8].copy_from_slice(&self.id.stamp.bits().to_be_bytes());
        bytes[8..10].copy_from_slice(&self.id.region.0.to_be_bytes());
        bytes[10..14].copy_from_slice(&self.id.incarnation.0.to_be_bytes());
        bytes[14..20].copy_from_slice(&self.expires_at.to_be_bytes()[2..]);
        if let Some(fingerprint) = self.fingerprint {
            bytes[20] = 1;
            bytes[21..37].copy_from_slice(&fingerprint.0);
        }
        bytes[TAG_AT..].copy_from_slice(&self.tag);
        bytes
    }

    /// Reads the binary form.
    pub fn from_bytes(bytes: &[u8; TOKEN_BYTES]) -> Option<Self> {
        let fingerprint = array::<16>(bytes, 21);
        Some(Self {
            id: ClaimId {
                stamp: Stamp::from_bits(u64::from_be_bytes(array(bytes, 0))),
                region: RegionId(u16::from_be_bytes(array(bytes, 8))),
                incarnation: Incarnation(u32::from_be_bytes(array(bytes, 10))),
            },
            expires_at: array::<6>(bytes, 14).iter().fold(0, |acc, &byte| acc << 8 | u64::from(byte)),
            fingerprint: match bytes[20] {
                0 if fingerprint == [0; 16] => None,
                1 => Some(Fingerprint(fingerprint)),
                _ => return None,
            },
            tag: array(bytes, TAG_AT),
        })
    }
}

impl Serialize for Token {
    /// As its bytes: one form for people, clients and peers.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes())
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        let token = bytes.0.try_into().ok().and_then(Self::from_bytes);
        token.ok_or_else(|| de::Error::custom("not a token"))
    }
}

fn array<const N: usize>(bytes: &[u8; TOKEN_BYTES], at: usize) -> [u8; N] {
    let mut out = [0u8; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> ClusterKeys {
        ClusterKeys { hash: [1; 16], tag: [2; 16] }
    }

    fn id(ms: u64) -> ClaimId {
        ClaimId { stamp: Stamp::from_parts(ms, 3), region: RegionId(7), incarnation: Incarnation(2) }
    }

    #[test]
    fn a_token_survives_its_text_form_and_names_its_claim() {
        for fingerprint in [None, Some(Fingerprint([9; 16]))] {
            let token = Token::issue(&keys(), b"pay:1", id(1_700_000_000_000), fingerprint, 1 << 41);
            let read = Token::from_text(&token.text()).expect("its own text");
            assert_eq!(read, token);
            assert!(read.verify(&keys(), b"pay:1"));
            assert!(!read.verify(&keys(), b"pay:2"));
            assert!(!read.verify(&ClusterKeys { hash: [1; 16], tag: [3; 16] }, b"pay:1"));
        }
    }

    #[test]
    fn any_changed_digit_is_noticed() {
        let token = Token::issue(&keys(), b"pay:1", id(1_700_000_000_000), None, 99);
        for at in 0..TOKEN_TEXT_BYTES {
            let mut text = token.text();
            text[at] = if text[at] == b'0' { b'1' } else { b'0' };
            assert!(!Token::from_text(&text).is_some_and(|token| token.verify(&keys(), b"pay:1")), "at {at}");
        }
    }

    #[test]
    fn tokens_sort_as_their_claims_do() {
        let text = |ms| Token::issue(&keys(), b"k", id(ms), None, 5).text();
        assert!(text(255) < text(256) && text(256) < text(70_000));
    }
}
