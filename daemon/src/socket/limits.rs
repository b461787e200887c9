//! Bounds of the socket, by name and unit.

/// Bytes read ahead of a connection; grows to the largest command while one is incomplete.
pub const READ_BYTES: usize = 16 * 1024;
/// Replies gathered before they are written, in bytes; commands wait meanwhile.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// A buffer that grew beyond this is given back once it is empty, in bytes.
pub const BUFFER_KEPT_BYTES: usize = 64 * 1024;
/// A parked claim is looked at again at least this often, in milliseconds: leases end silently.
pub const PARK_RECHECK_MS: u64 = 500;
/// After SIGTERM, connections have this long to finish what they sent, in milliseconds.
pub const DRAIN_MS_MAX: u64 = 5_000;
/// Names set by CLIENT SETNAME, in bytes.
pub const CLIENT_NAME_BYTES_MAX: usize = 128;
/// A client that does not take its replies is cut off after this long, in milliseconds.
pub const WRITE_STALL_MS_MAX: u64 = 30_000;
/// A consumer of the feed that finds as many waiting as may is told to ask again after this long, in milliseconds.
pub const FEED_CROWDED_RETRY_MS: u64 = 1_000;
