//! Every bound the configuration checks, by name and with its unit.
//!
//! They restate what the deciding half can hold, so that a wrong number is refused with its line in the file
//! instead of failing under load. A bound here may be tighter than the one it protects, never looser.

use std::ops::RangeInclusive;

/// One second, in milliseconds.
pub const SECOND_MS: u64 = 1_000;
/// One day, in milliseconds.
pub const DAY_MS: u64 = 24 * 3_600 * SECOND_MS;
/// 2^10, 2^20 and 2^30 bytes.
pub const KIB: u64 = 1 << 10;
/// See [`KIB`].
pub const MIB: u64 = 1 << 20;
/// See [`KIB`].
pub const GIB: u64 = 1 << 30;

/// Bytes of the file itself: far above any real one, far below what a mistaken path could make us read.
pub const CONFIG_BYTES_MAX: u64 = MIB;
/// Bytes of a cluster's name: it travels in every hello.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;
/// Bytes of a region's name: one DNS label with room to spare.
pub const REGION_NAME_BYTES_MAX: usize = 32;
/// Bytes of a namespace: a key has at most 512, and one of them is the colon (S1).
pub const NAMESPACE_BYTES_MAX: usize = 511;
/// Other regions one region may have.
pub const PEERS_MAX: usize = 63;
/// Bytes of a Unix socket's path: `sun_path` has 108 with its final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// `[[access]]` tables; all are looked at once for every connection.
pub const ACCESS_RULES_MAX: usize = 256;
/// Bytes of secret needed, after trailing white space is cut off.
pub const SECRET_BYTES_MIN: usize = 32;
/// Bytes of secret that are read.
pub const SECRET_BYTES_MAX: u64 = 4 * KIB;

/// Bound between wall clocks, in milliseconds (S2).
pub const MAX_DRIFT_MS: RangeInclusive<u64> = 1..=10 * SECOND_MS;
/// Epoch of the membership: as many as TOML's integers count (S5).
pub const MEMBERSHIP: RangeInclusive<u64> = 1..=i64::MAX as u64;
/// Retention, in milliseconds (S8).
pub const RETENTION_MS: RangeInclusive<u64> = SECOND_MS..=90 * DAY_MS;
/// Lease, in milliseconds; its upper end follows from retention as well.
pub const LEASE_MS: RangeInclusive<u64> = 10..=90 * DAY_MS;
/// How long a loser stays listed, in milliseconds (S3).
pub const CONFLICT_RETENTION_MS: RangeInclusive<u64> = SECOND_MS..=90 * DAY_MS;
/// Staleness beyond which claims are refused, in milliseconds (S8).
pub const MAX_STALENESS_MS: RangeInclusive<u64> = SECOND_MS..=90 * DAY_MS;
/// Outcome, in bytes: the largest still fits one command and one frame.
pub const MAX_OUTCOME_BYTES: RangeInclusive<u64> = 1..=MIB;
/// Keys of a namespace.
pub const MAX_KEYS: RangeInclusive<u64> = 1..=10_000_000_000;
/// Bytes of a namespace's entries.
pub const MAX_BYTES: RangeInclusive<u64> = MIB..=1_024 * GIB;
/// Sync interval, in milliseconds (S6).
pub const SYNC_INTERVAL_MS: RangeInclusive<u64> = 1..=SECOND_MS;
/// Segment, in bytes.
pub const SEGMENT_BYTES: RangeInclusive<u64> = MIB..=GIB;
/// Room kept for a full disk, in bytes.
pub const RESERVE_BYTES: RangeInclusive<u64> = MIB..=64 * GIB;
/// Ring of written log, in bytes.
pub const RING_BYTES: RangeInclusive<u64> = 4 * KIB..=GIB;
/// Covered log kept for peers that are away, in bytes.
pub const KEEP_BYTES: RangeInclusive<u64> = 0..=1024 * GIB;
/// Memory for entries, in bytes.
pub const MAX_MEMORY_BYTES: RangeInclusive<u64> = 16 * MIB..=1_024 * GIB;
/// Wait for peers after a start, in milliseconds (S7).
pub const CATCH_UP_WAIT_MS: RangeInclusive<u64> = 0..=10 * 60 * SECOND_MS;
/// Threads that serve the socket.
pub const SOCKET_THREADS: RangeInclusive<u64> = 1..=256;
/// Connections on the socket.
pub const SOCKET_CONNECTIONS: RangeInclusive<u64> = 1..=100_000;
