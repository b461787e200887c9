//! Keys that the server makes (S4.9 TOKEN): unique everywhere, and only this cluster can make them.
//!
//! `namespace:` UUIDv7 `.` tag. The UUID (RFC 9562 5.7) carries the milliseconds of a fresh stamp; its other 74 bits are a keyed
//! hash of that stamp and of who issued it, so no two are alike and nobody guesses the next. The tag is keyed too and covers
//! namespace and UUID: a namespace that accepts issued keys only refuses what a client made up, and knows from the key alone when
//! it was made. Nothing is stored, so any region recognises what any other has issued.
//!
//! Must never: take two stamps' keys for one; look at the tag in a time that depends on it.

use crate::hash::ClusterKeys;
use crate::ids::{ClaimId, hex_digit};
use crate::limits;

/// Characters of the UUID.
const UUID_CHARS: usize = 36;
/// A dot, and a tag of 16 bytes in hex.
const TAG_CHARS: usize = 1 + 32;
/// What tells the tags apart from those of tokens, whose first 37 bytes never are these: there the 21st is 0 or 1.
const TAG: &[u8; 37] = b"onced: the tag of an issued key, v1  ";
const BITS: &[u8; 37] = b"onced: the bits of an issued key, v1 ";

/// The longest namespace for which a key can be issued, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = limits::KEY_BYTES_MAX - UUID_CHARS - TAG_CHARS - 1;

/// A key of `namespace` that no other call of any region returns: `id` is fresh, as a claim's is.
pub fn issue(keys: &ClusterKeys, namespace: &[u8], id: ClaimId) -> Vec<u8> {
    let bits = keys.tag(&[
        BITS,
        &id.stamp.bits().to_be_bytes(),
        &id.region.0.to_be_bytes(),
        &id.incarnation.0.to_be_bytes(),
    ]);
    let mut uuid = [0u8; 16];
    uuid[..6].copy_from_slice(&id.stamp.ms().to_be_bytes()[2..]);
    uuid[6..].copy_from_slice(&bits[..10]);
    uuid[6] = uuid[6] & 0x0f | 0x70;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    let mut key = Vec::with_capacity(namespace.len() + 1 + UUID_CHARS + TAG_CHARS);
    if !namespace.is_empty() {
        key.extend_from_slice(namespace);
        key.push(b':');
    }
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            key.push(b'-');
        }
        push_hex(*byte, &mut key);
    }
    let tag = keys.tag(&[TAG, &key]);
    key.push(b'.');
    tag.iter().for_each(|byte| push_hex(*byte, &mut key));
    key
}

/// Whether this cluster has issued `key`.
pub fn is_issued(keys: &ClusterKeys, key: &[u8]) -> bool {
    let Some(at) = key.len().checked_sub(TAG_CHARS).filter(|at| *at >= UUID_CHARS && key[*at] == b'.') else {
        return false;
    };
    let (said, expected) = (&key[at + 1..], keys.tag(&[TAG, &key[..at]]));
    // Every digit is looked at, so that timing tells a forger nothing.
    let wrong = said.chunks_exact(2).zip(expected).fold(0, |wrong, (pair, byte)| {
        let digit = |digit: u8| hex_digit(digit).filter(|_| !digit.is_ascii_uppercase()).unwrap_or(0xff);
        wrong | (u16::from(digit(pair[0])) << 4 | u16::from(digit(pair[1]))) ^ u16::from(byte)
    });
    wrong == 0
}

/// The UUID of an id that was issued, without its tag; any other id as it is.
pub(crate) fn untagged(id: &[u8]) -> &[u8] {
    let tagged = id.len() == UUID_CHARS + TAG_CHARS && id[UUID_CHARS] == b'.';
    if tagged { &id[..UUID_CHARS] } else { id }
}

fn push_hex(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&crate::ids::HEX_PAIRS[usize::from(byte)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hlc::Stamp;
    use crate::ids::{self, Incarnation, RegionId};
    use std::collections::BTreeSet;

    fn keys() -> ClusterKeys {
        ClusterKeys { hash: [1; 16], tag: [2; 16] }
    }

    fn id(counter: u16, region: u16, incarnation: u32) -> ClaimId {
        let stamp = Stamp::from_parts(1_645_557_742_000, counter);
        ClaimId { stamp, region: RegionId(region), incarnation: Incarnation(incarnation) }
    }

    #[test]
    fn an_issued_key_is_a_uuid_v7_of_its_moment_and_is_recognised() {
        for namespace in [&b"pay"[..], b""] {
            let key = issue(&keys(), namespace, id(3, 1, 1));
            assert_eq!(ids::namespace(&key), namespace);
            let text = String::from_utf8(key.clone()).expect("ASCII");
            let uuid = text.rsplit(':').next().expect("an id");
            // RFC 9562 A.6 has the same moment.
            assert!(uuid.starts_with("017f22e2-79b0-7"), "{uuid}");
            assert!(
                matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'),
                "the variant of RFC 9562: {uuid}"
            );
            assert!(is_issued(&keys(), &key));
            assert!(!is_issued(&ClusterKeys { hash: [1; 16], tag: [3; 16] }, &key), "of another cluster");
        }
    }

    #[test]
    fn any_changed_byte_makes_it_another_ones() {
        let key = issue(&keys(), b"pay", id(3, 1, 1));
        for at in 0..key.len() {
            let mut changed = key.clone();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert!(!is_issued(&keys(), &changed), "at {at}");
        }
        // In upper case it would be another key that stands for the same operation.
        let upper = key.to_ascii_uppercase();
        assert!(!is_issued(&keys(), &[b"pay", &upper[3..]].concat()));
        for made_up in
            [&b""[..], b"pay:1", b".0123456789abcdef0123456789abcdef", &key[4..], &key[..key.len() - 1]]
        {
            assert!(!is_issued(&keys(), made_up));
        }
    }

    #[test]
    fn no_two_stamps_regions_or_lives_issue_the_same() {
        let of = |counter, region, life| issue(&keys(), b"pay", id(counter, region, life));
        let all = (0..1_000).flat_map(|n| [of(n, 1, 1), of(n, 2, 1), of(n, 1, 2)]);
        assert_eq!(all.collect::<BTreeSet<_>>().len(), 3_000);
    }
}
