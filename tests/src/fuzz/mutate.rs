//! Small changes to good bytes.
//!
//! Without coverage to guide it, a mutation must be likely to matter: numbers at their bounds, pieces of other inputs,
//! pieces twice, pieces gone, and now and then a plain flipped bit.

use crate::random::Random;

/// Inputs grow no further.
const BYTES_MAX: usize = 1 << 20;
/// Changes to one input at most.
const CHANGES_MAX: usize = 6;
/// Numbers that decoders stumble over.
const EDGES: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 47,
    u64::MAX - 1,
    u64::MAX,
];

/// Changes `bytes`, perhaps with pieces of `other`.
pub fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(CHANGES_MAX) {
        change(bytes, other, random);
    }
    bytes.truncate(BYTES_MAX);
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if bytes.is_empty() {
        bytes.extend_from_slice(other);
        return;
    }
    let at = random.below(bytes.len());
    match random.below(10) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.word() as u8,
        3 => {
            let width = 1 << random.below(4);
            let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
            let end = (at + width).min(bytes.len());
            bytes[at..end].copy_from_slice(&edge[..end - at]);
        }
        // A varint of the most bytes it can have, or one that says the same in more bytes than it needs.
        4 => {
            let varint: &[u8] =
                [&[0xff; 9][..], &[0x80, 0], &[0xff, 0xff, 3], &[0x80, 0x80, 0x80, 0]][random.below(4)];
            bytes.splice(at..at, varint.iter().copied());
        }
        5 => bytes.truncate(at),
        6 => {
            let end = (at + 1 + random.below(32)).min(bytes.len());
            bytes.drain(at..end);
        }
        7 => {
            let end = (at + 1 + random.below(64)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        8 if !other.is_empty() => {
            let from = random.below(other.len());
            let end = (from + 1 + random.below(256)).min(other.len());
            let over = (at + if random.once_in(2) { end - from } else { 0 }).min(bytes.len());
            bytes.splice(at..over, other[from..end].iter().copied());
        }
        _ => {
            let end = (at + 1 + random.below(16)).min(bytes.len());
            let fill = if random.once_in(2) { 0 } else { random.word() as u8 };
            bytes[at..end].fill(fill);
        }
    }
}
