//! One run file as bytes: whole states of keys that die at about the same time, grouped by shard.
//!
//! ```text
//! run     = header (64 bytes) group* table trailer (32 bytes)
//! header  = "oncedrun" version:u16 region:u16 incarnation:u32 number:u64 created_ms:u64 cluster:[u8;16]
//!           shards:u32 class:u8 zeros:[u8;7] crc32c:u32                              little-endian
//! group   = (len:u32 state[len])*          a state is what a log record of kind 1 holds after its kind
//! table   = (shard:u32 crc32c:u32 offset:u64 len:u64 states:u32 zeros:u32)*   one line a group, in order
//! trailer = table_offset:u64 dies_at_ms:u64 states:u64 groups:u32 crc32c:u32
//! ```
//! The CRC of a group covers its bytes, that of the trailer covers table and trailer. Group number `shards`
//! holds conflicts instead (a log record of kind 4 after its kind). Runs are written once and never changed.

use crate::ids::{Incarnation, RegionId};
use crate::journal::{MalformedHeader, sums_up_as, u32_at, u64_at};
use crate::limits;

/// Version of the run format this code writes; the only one it reads.
pub const RUN_VERSION: u16 = 1;
/// Bytes of a run's header.
pub const RUN_HEADER_BYTES: usize = 64;
/// Bytes of a run's trailer.
pub const RUN_TRAILER_BYTES: usize = 32;
/// Bytes of one line of a run's table.
const LINE_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"oncedrun";

/// What stands at the top of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RunHeader {
    /// Whose.
    pub region: RegionId,
    /// In which life of its data.
    pub incarnation: Incarnation,
    /// Unique in its folder.
    pub number: u64,
    /// When it was begun, Unix milliseconds; for people.
    pub created_ms: u64,
    /// Which cluster.
    pub cluster: [u8; 16],
    /// Shards of the map that wrote it; conflicts are in the group of this number.
    pub shards: u32,
    /// Of keys that live about as long: see [`super::class_of`].
    pub class: u8,
}

/// One group, by the run's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// The shard whose states these are.
    pub shard: u32,
    /// Of the group's bytes.
    pub crc: u32,
    /// From the start of the file, in bytes.
    pub offset: u64,
    /// In bytes.
    pub len: u64,
    /// How many states.
    pub states: u32,
}

/// A run's table and trailer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RunTable {
    /// In the order of their shards.
    pub groups: Vec<Group>,
    /// When the last part in it may die, Unix milliseconds, `max_drift` to be added.
    pub dies_at_ms: u64,
    /// States in all groups.
    pub states: u64,
}

impl RunHeader {
    /// The name of the run's file.
    pub fn file_name(&self) -> String {
        super::manifest::run_file_name(self.number, self.class)
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; RUN_HEADER_BYTES] {
        let mut bytes = [0u8; RUN_HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&RUN_VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.region.0.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.created_ms.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.cluster);
        bytes[48..52].copy_from_slice(&self.shards.to_le_bytes());
        bytes[52] = self.class;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the top of a run's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedHeader> {
        let bytes = bytes.get(..RUN_HEADER_BYTES).ok_or(MalformedHeader::Magic)?;
        if &bytes[..8] != MAGIC {
            return Err(MalformedHeader::Magic);
        }
        let found = u16::from_le_bytes([bytes[8], bytes[9]]);
        if !sums_up_as(&bytes[..60], RUN_VERSION, u32_at(bytes, 60)) {
            let ours = found == RUN_VERSION;
            return Err(if ours { MalformedHeader::Checksum } else { MalformedHeader::Version { found } });
        }
        // What this version leaves empty is so, or it was not written by it.
        if found != RUN_VERSION || bytes[53..60] != [0; 7] {
            return Err(MalformedHeader::Checksum);
        }
        let mut cluster = [0u8; 16];
        cluster.copy_from_slice(&bytes[32..48]);
        Ok(Self {
            region: RegionId(u16::from_le_bytes([bytes[10], bytes[11]])),
            incarnation: Incarnation(u32_at(bytes, 12)),
            number: u64_at(bytes, 16),
            created_ms: u64_at(bytes, 24),
            cluster,
            shards: u32_at(bytes, 48),
            class: bytes[52],
        })
    }
}

impl Group {
    /// Whether these are the group's bytes.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.len && crc32c::crc32c(bytes) == self.crc
    }
}

impl RunTable {
    /// Where the table of a run of `file_bytes` begins, by its trailer; to be read from there to the end.
    pub fn offset(trailer: &[u8], file_bytes: u64) -> Option<u64> {
        let trailer = trailer.get(..RUN_TRAILER_BYTES)?;
        let (offset, groups) = (u64_at(trailer, 0), u64::from(u32_at(trailer, 24)));
        let end = offset.checked_add(groups * LINE_BYTES as u64 + RUN_TRAILER_BYTES as u64)?;
        (offset >= RUN_HEADER_BYTES as u64 && end == file_bytes).then_some(offset)
    }

    /// Reads table and trailer, which `bytes` end with and begin at `offset` in the file; `None` where they
    /// are damaged.
    pub fn decode(bytes: &[u8], offset: u64) -> Option<Self> {
        let (lines, trailer) = bytes.split_at_checked(bytes.len().checked_sub(RUN_TRAILER_BYTES)?)?;
        let crc = crc32c::crc32c(&bytes[..bytes.len() - 4]);
        if crc != u32_at(trailer, 28) || lines.len() != u32_at(trailer, 24) as usize * LINE_BYTES {
            return None;
        }
        let line = |line: &[u8]| Group {
            shard: u32_at(line, 0),
            crc: u32_at(line, 4),
            offset: u64_at(line, 8),
            len: u64_at(line, 16),
            states: u32_at(line, 24),
        };
        let groups: Vec<Group> = lines.chunks_exact(LINE_BYTES).map(line).collect();
        let mut at = RUN_HEADER_BYTES as u64;
        for group in &groups {
            if group.offset != at || group.len > offset - at {
                return None;
            }
            at += group.len;
        }
        let rising = groups.windows(2).all(|pair| pair[0].shard < pair[1].shard);
        let empty = lines.chunks_exact(LINE_BYTES).all(|line| line[28..] == [0; 4]);
        let whole = at == offset && u64_at(trailer, 0) == offset && rising && empty;
        whole.then_some(Self { groups, dies_at_ms: u64_at(trailer, 8), states: u64_at(trailer, 16) })
    }

    /// Table and trailer as bytes, for a file whose groups end at `offset`.
    pub fn encode(&self, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.groups.len() * LINE_BYTES + RUN_TRAILER_BYTES);
        for group in &self.groups {
            bytes.extend_from_slice(&group.shard.to_le_bytes());
            bytes.extend_from_slice(&group.crc.to_le_bytes());
            bytes.extend_from_slice(&group.offset.to_le_bytes());
            bytes.extend_from_slice(&group.len.to_le_bytes());
            bytes.extend_from_slice(&group.states.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
        }
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&self.dies_at_ms.to_le_bytes());
        bytes.extend_from_slice(&self.states.to_le_bytes());
        bytes.extend_from_slice(&(self.groups.len() as u32).to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// Makes one run, group by group: the caller writes what it is given, in order.
#[derive(Debug)]
pub struct RunWriter {
    header: RunHeader,
    table: RunTable,
    at: u64,
}

impl RunWriter {
    /// A run whose header is still to be written: see [`RunWriter::header`].
    pub fn new(header: RunHeader) -> Self {
        Self { header, table: RunTable::default(), at: RUN_HEADER_BYTES as u64 }
    }

    /// What it was made for; its bytes are written first.
    pub fn header(&self) -> &RunHeader {
        &self.header
    }

    /// Notes the next group, which the caller writes behind the last.
    pub fn group(&mut self, shard: u32, bytes: &[u8], states: u32, dies_at_ms: u64) {
        let group =
            Group { shard, crc: crc32c::crc32c(bytes), offset: self.at, len: bytes.len() as u64, states };
        self.at += group.len;
        self.table.groups.push(group);
        self.table.states += u64::from(states);
        self.table.dies_at_ms = self.table.dies_at_ms.max(dies_at_ms);
    }

    /// What the run holds so far.
    pub fn table(&self) -> &RunTable {
        &self.table
    }

    /// The bytes that end the file, and its size with them.
    pub fn finish(&self) -> (Vec<u8>, u64) {
        let end = self.table.encode(self.at);
        let bytes = self.at + end.len() as u64;
        (end, bytes)
    }
}

/// Appends one state to a group.
pub fn push_state(state: &[u8], group: &mut Vec<u8>) {
    group.extend_from_slice(&(state.len() as u32).to_le_bytes());
    group.extend_from_slice(state);
}

/// Walks the states of a group; an `Err` is the offset of one that does not fit.
#[derive(Clone, Debug)]
pub struct States<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> States<'a> {
    /// Over the bytes of one group.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes walked so far.
    pub fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for States<'a> {
    type Item = Result<&'a [u8], usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.at..];
        let (length, after) = rest.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*length) as usize;
        if len > limits::STATE_BYTES_MAX || len > after.len() {
            return Some(Err(self.at));
        }
        self.at += 4 + len;
        Some(Ok(&after[..len]))
    }
}
