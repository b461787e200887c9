//! The keyed hashes: where a key lives, and tags that only this cluster can make.
//!
//! One SipHash-1-3 of 128 bits over the key serves the map's shard and bucket, and later digests and
//! the home region. It is keyed by the cluster's secret, so that whoever chooses keys cannot choose
//! collisions. Token tags use SipHash-2-4 under a second key: a forged tag must be hard, a bucket
//! only unguessable. Rejected: blake3 (60–80 ns for a 36-byte key against 15), unkeyed hashes.

use siphasher::sip128::{Hasher128, SipHasher13, SipHasher24};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// 96 bits of the keyed hash of a key: what the index stores instead of the key. At 10 million keys
/// two of them are equal with probability 1e-15; the key itself is compared all the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeyHash(pub [u32; 3]);

impl KeyHash {
    /// The 64 bits that choose shard and bucket.
    pub const fn low64(self) -> u64 {
        (self.0[1] as u64) << 32 | self.0[0] as u64
    }
}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low64());
    }
}

/// Passes a [`KeyHash`] through: it is a good hash already.
#[derive(Default)]
pub struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Builds [`IdentityHasher`]s.
pub type IdentityBuild = BuildHasherDefault<IdentityHasher>;

/// Tags over so many bytes, the token of a key of up to 91 bytes, are made in one piece.
const TAGGED_WHOLE_BYTES_MAX: usize = 128;

/// The two hash keys that all regions of a cluster share; derived from the cluster's secret by the
/// daemon.
#[derive(Clone)]
pub struct ClusterKeys {
    /// Keys the map's hash.
    pub hash: [u8; 16],
    /// Keys the tokens' tags.
    pub tag: [u8; 16],
}

impl ClusterKeys {
    /// Where `key` lives.
    pub fn key_hash(&self, key: &[u8]) -> KeyHash {
        let hash = SipHasher13::new_with_key(&self.hash).hash(key);
        KeyHash([hash.h1 as u32, (hash.h1 >> 32) as u32, hash.h2 as u32])
    }

    /// The tag over `parts` in order; callers pass fixed-width parts first, so that no two inputs
    /// run into each other.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut hasher = SipHasher24::new_with_key(&self.tag);
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let hash = if bytes <= TAGGED_WHOLE_BYTES_MAX {
            // Whole words at once; the hasher that takes parts costs nearly twice as much.
            let mut whole = [0u8; TAGGED_WHOLE_BYTES_MAX];
            let mut at = 0;
            for part in parts {
                whole[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            hasher.hash(&whole[..bytes])
        } else {
            parts.iter().for_each(|part| hasher.write(part));
            hasher.finish128()
        };
        let mut tag = [0u8; 16];
        tag[..8].copy_from_slice(&hash.h1.to_be_bytes());
        tag[8..].copy_from_slice(&hash.h2.to_be_bytes());
        tag
    }
}

impl std::fmt::Debug for ClusterKeys {
    /// Never shows the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKeys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tag is the same whether it is made in one piece or of parts: tokens of one key must not depend on it.
    #[test]
    fn tags_do_not_depend_on_how_they_are_made() {
        let keys = ClusterKeys { hash: [1; 16], tag: [2; 16] };
        for bytes in 0..2 * TAGGED_WHOLE_BYTES_MAX {
            let whole: Vec<u8> = (0..bytes).map(|byte| byte as u8).collect();
            let mut hasher = SipHasher24::new_with_key(&keys.tag);
            hasher.write(&whole);
            let hash = hasher.finish128();
            let (first, second) = whole.split_at(bytes / 3);
            let tag = keys.tag(&[first, second]);
            assert_eq!(tag[..8], hash.h1.to_be_bytes(), "{bytes} bytes");
            assert_eq!(tag[8..], hash.h2.to_be_bytes(), "{bytes} bytes");
        }
    }
}
