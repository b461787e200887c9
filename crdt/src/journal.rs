//! The log's records and segments as bytes (S6): encode, decode, nothing else.
//!
//! ```text
//! segment = header (64 bytes) record* zeros?
//! header  = "oncedlog" version:u16 region:u16 incarnation:u32 epoch:u32 first_lsn:u64
//!           created_ms:u48 flags:u16 cluster:[u8;16] boot:u64 crc32c:u32  little-endian
//! record  = len:u32 crc32c:u32 body[len]      the CRC covers len and body; len 0 ends the segment
//! body    = kind:u8 payload                   postcard; the first record is number first_lsn
//! ```
//! Segments are preallocated, so zeros follow the last record. The same bodies travel to peers in
//! frames ([`crate::wire`]): an operation is encoded once.
//!
//! Kinds are append-only and an unknown one is an error, never skipped (S7).

use serde::{Deserialize, Serialize};

use crate::canary::{self, Bug};
use crate::conflict::{Conflict, StoredConflict};
use crate::entry::{Bytes, Packed};
use crate::hash::ClusterKeys;
use crate::ids::{Cursor, Incarnation, LogEpoch, Lsn, RegionId};
use crate::limits;

/// Version of the segment format this code writes; the only one it reads.
pub const FORMAT_VERSION: u16 = 1;
/// Bytes of a segment's header.
pub const HEADER_BYTES: usize = 64;
/// Bytes before a record's body.
pub const RECORD_HEADER_BYTES: usize = 8;
const MAGIC: &[u8; 8] = b"oncedlog";

/// What the bytes of an [`Record::Entry`] decode to.
#[derive(Serialize, Deserialize, Debug)]
pub struct EntryRecord<'a> {
    /// Whose entry.
    #[serde(borrow)]
    pub key: Bytes<'a>,
    /// A delta in the log and on the wire; the whole state in the map.
    #[serde(borrow)]
    pub entry: Packed<'a>,
}

/// Where a record came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Decided in this region: streamed to every peer.
    Own,
    /// Merged from a peer: streamed only to a region that starts from nothing.
    Merged,
}

/// One record's body.
#[derive(Debug)]
pub enum Record<'a> {
    /// A delta of one key.
    Entry(Origin, EntryRecord<'a>),
    /// A double execution.
    Conflict(Origin, Conflict),
    /// How far we hold `peer`'s log.
    Cursor(RegionId, Cursor),
    /// The clock issues no stamp beyond these Unix milliseconds before a later record is synced (S2).
    Ceiling(u64),
    /// The process ended in order: everything before is synced.
    Stop(MarkTag),
    /// Everything up to here was synced before this was written: damage there is no torn tail (S6).
    Synced(Lsn, MarkTag),
    /// False: this life begins without data that it should have. True: it has caught up with a peer since
    /// (S6).
    Complete(bool),
    /// This life counts in the majorities of that epoch of the membership (S5): it knows all that was decided before it.
    Voice(u64),
    /// This life may decide as the home of keys in that epoch of the membership (S5).
    Home(u64),
}

const KIND_ENTRY_OWN: u8 = 1;
const KIND_ENTRY_MERGED: u8 = 2;
const KIND_CONFLICT_OWN: u8 = 3;
const KIND_CONFLICT_MERGED: u8 = 4;
const KIND_CURSOR: u8 = 5;
const KIND_CEILING: u8 = 6;
const KIND_STOP: u8 = 7;
const KIND_SYNCED: u8 = 8;
const KIND_COMPLETE: u8 = 9;
const KIND_VOICE: u8 = 10;
/// A conflict, own or merged, of which there is more to say than kinds 3 and 4 can.
const KIND_CONFLICT_FLAGGED: u8 = 11;
const KIND_HOME: u8 = 12;

/// What only this cluster's daemons can put on a mark: an outcome, whose bytes a stranger chose, may look like any record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MarkTag([u8; 8]);

impl MarkTag {
    /// With the cluster's keys.
    pub fn new(keys: &ClusterKeys) -> Self {
        let mut tag = [0; 8];
        tag.copy_from_slice(&keys.tag(&[b"onced mark"])[..8]);
        Self(tag)
    }
}

/// Why bytes are not a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MalformedRecord {
    /// A kind this version does not know: written by a newer one, or damage.
    #[error("record kind {0} is unknown to this version")]
    Kind(u8),
    /// The payload does not decode.
    #[error("the payload of a record does not decode")]
    Payload,
}

/// Whether a body may begin with this byte.
pub(crate) const fn is_kind(byte: u8) -> bool {
    matches!(byte, KIND_ENTRY_OWN..=KIND_HOME)
}

/// An [`EntryRecord`]'s kind byte for an origin.
pub(crate) const fn entry_kind(origin: Origin) -> u8 {
    match origin {
        Origin::Own => KIND_ENTRY_OWN,
        Origin::Merged => KIND_ENTRY_MERGED,
    }
}

impl<'a> Record<'a> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Entry(origin, entry) => {
                out.push(entry_kind(*origin));
                entry.encode(out);
            }
            Self::Conflict(origin, conflict) if conflict.flags() != 0 => {
                out.push(KIND_CONFLICT_FLAGGED);
                postcard_onto(&StoredConflict::new(conflict.clone(), *origin == Origin::Merged), out);
            }
            Self::Conflict(origin, conflict) => {
                out.push(match origin {
                    Origin::Own => KIND_CONFLICT_OWN,
                    Origin::Merged => KIND_CONFLICT_MERGED,
                });
                postcard_onto(conflict, out);
            }
            Self::Cursor(peer, cursor) => {
                out.push(KIND_CURSOR);
                postcard_onto(&(peer, cursor), out);
            }
            Self::Ceiling(ms) => {
                out.push(KIND_CEILING);
                postcard_onto(ms, out);
            }
            Self::Stop(tag) => {
                out.push(KIND_STOP);
                postcard_onto(tag, out);
            }
            Self::Synced(lsn, tag) => {
                out.push(KIND_SYNCED);
                postcard_onto(&(lsn, tag), out);
            }
            Self::Complete(complete) => {
                out.push(KIND_COMPLETE);
                postcard_onto(complete, out);
            }
            Self::Voice(epoch) => {
                out.push(KIND_VOICE);
                postcard_onto(epoch, out);
            }
            Self::Home(epoch) => {
                out.push(KIND_HOME);
                postcard_onto(epoch, out);
            }
        }
    }

    /// Reads a body; trailing bytes are an error.
    pub fn decode(body: &'a [u8]) -> Result<Self, MalformedRecord> {
        let (&kind, payload) = body.split_first().ok_or(MalformedRecord::Payload)?;
        Ok(match kind {
            KIND_ENTRY_OWN => Self::Entry(Origin::Own, whole_entry(payload)?),
            KIND_ENTRY_MERGED => Self::Entry(Origin::Merged, whole_entry(payload)?),
            KIND_CONFLICT_OWN => Self::Conflict(Origin::Own, whole(payload)?),
            KIND_CONFLICT_MERGED => Self::Conflict(Origin::Merged, whole(payload)?),
            KIND_CONFLICT_FLAGGED => {
                let stored = whole::<StoredConflict>(payload)?.open();
                let (conflict, merged) = stored.ok_or(MalformedRecord::Payload)?;
                Self::Conflict(if merged { Origin::Merged } else { Origin::Own }, conflict)
            }
            KIND_CURSOR => {
                let (peer, cursor) = whole(payload)?;
                Self::Cursor(peer, cursor)
            }
            KIND_CEILING => Self::Ceiling(whole(payload)?),
            KIND_STOP => Self::Stop(whole(payload)?),
            KIND_SYNCED => {
                let (lsn, tag) = whole(payload)?;
                Self::Synced(lsn, tag)
            }
            KIND_COMPLETE => Self::Complete(whole(payload)?),
            KIND_VOICE => Self::Voice(whole(payload)?),
            KIND_HOME => Self::Home(whole(payload)?),
            unknown => return Err(MalformedRecord::Kind(unknown)),
        })
    }
}

/// Whether a body travels to peers that follow the log, and whether only to those that start from
/// nothing.
pub fn streamed(body: &[u8]) -> Option<Origin> {
    match body.first() {
        Some(&(KIND_ENTRY_OWN | KIND_CONFLICT_OWN)) => Some(Origin::Own),
        Some(&(KIND_ENTRY_MERGED | KIND_CONFLICT_MERGED)) => Some(Origin::Merged),
        Some(&KIND_CONFLICT_FLAGGED) if StoredConflict::is_merged(&body[1..]) => Some(Origin::Merged),
        Some(&KIND_CONFLICT_FLAGGED) => Some(Origin::Own),
        _ => None,
    }
}

/// Appends one framed record whose body is `kind` and `payload`.
pub(crate) fn append_framed(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    let len = ((payload.len() + 1) as u32).to_le_bytes();
    out.reserve(RECORD_HEADER_BYTES + payload.len() + 1);
    let at = out.len();
    // One append: the sum's place is filled once the body stands behind it in one piece.
    out.extend_from_slice(&[len[0], len[1], len[2], len[3], 0, 0, 0, 0, kind]);
    out.extend_from_slice(payload);
    let (header, body) = out[at..].split_at_mut(RECORD_HEADER_BYTES);
    header[4..].copy_from_slice(&sum(len, body).to_le_bytes());
}

/// The CRC over a record's length and body.
fn sum(len: [u8; 4], body: &[u8]) -> u32 {
    // Four steps through a table: a call of the library costs more than that before it looks at a byte.
    let of_len = len.iter().fold(!0u32, |crc, byte| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8);
    crc32c::crc32c_append(!of_len, body)
}

/// CRC-32C of single bytes.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The newest record of which whole marks in `bytes` say that it was synced; 0 where there is none. Looks at
/// every offset, because what stands before may be damaged; and at marks with this tag only, where it is known,
/// because it looks into what strangers have written.
pub fn synced_evidence(bytes: &[u8], tag: Option<MarkTag>) -> Lsn {
    /// The longest body of a mark: its kind, a u64 in postcard's encoding and the tag.
    const MARK_BYTES_MAX: u32 = 19;
    let ours = |found: MarkTag| tag.is_none_or(|tag| tag == found);
    let mut newest = 0;
    // A kind is no zero: none stands in the rest of a segment.
    for at in 0..torn_len(bytes).saturating_sub(RECORD_HEADER_BYTES) {
        let kind = bytes[at + RECORD_HEADER_BYTES];
        if (kind != KIND_SYNCED && kind != KIND_STOP) || !(1..=MARK_BYTES_MAX).contains(&u32_at(bytes, at)) {
            continue;
        }
        newest = match Records::new(&bytes[at..]).next_body().map(Record::decode) {
            Ok(Ok(Record::Synced(lsn, found))) if ours(found) => lsn.max(newest),
            Ok(Ok(Record::Stop(found))) if ours(found) => Lsn::MAX,
            _ => newest,
        };
    }
    newest
}

/// Bytes up to the last one that is not zero.
pub(crate) fn torn_len(bytes: &[u8]) -> usize {
    // Mostly the rest of a segment, which is zeros throughout: by pieces that are looked at without a branch a byte.
    let is_zero = |piece: &&[u8]| piece.iter().fold(0, |seen, byte| seen | byte) == 0;
    let zeros: usize = bytes.rchunks(256).take_while(is_zero).map(<[u8]>::len).sum();
    let rest = &bytes[..bytes.len() - zeros];
    rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

/// Appends one framed record of no key.
pub(crate) fn append_record(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(16);
    record.encode(&mut body);
    let (kind, payload) = body.split_first().expect("every record encodes its kind");
    append_framed(*kind, payload, out);
}

/// Why reading a log's bytes stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Nothing more, or the zeros of preallocation: everything before is whole.
    Clean,
    /// The bytes here are no record.
    Broken,
}

/// What a framed record may take of a log whose segments have a fixed room, in bytes: one that is not small may
/// leave as much unused at the end of the segment that it does not fit in.
pub(crate) fn charge(framed_bytes: usize) -> u64 {
    let bytes = framed_bytes as u64;
    if bytes <= limits::LOG_RECORD_SMALL_BYTES { bytes } else { 2 * bytes }
}

/// How many whole records from the start of `framed` fit in `room_bytes`: their bytes and their number. What
/// follows them belongs into the next segment.
pub fn fitting(framed: &[u8], room_bytes: usize) -> (usize, u64) {
    let (mut at, mut records) = (0, 0);
    loop {
        let (bytes, one) = first(&framed[at..]);
        if one == 0 || at + bytes > room_bytes {
            return (at, records);
        }
        (at, records) = (at + bytes, records + one);
    }
}

/// The first whole record of `framed`, as [`fitting`] counts it; nothing if there is none.
pub fn first(framed: &[u8]) -> (usize, u64) {
    let Some(header) = framed.get(..RECORD_HEADER_BYTES) else { return (0, 0) };
    let end = RECORD_HEADER_BYTES + u32_at(header, 0) as usize;
    if end > framed.len() { (0, 0) } else { (end, 1) }
}

/// Walks framed records from the start of `bytes`.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// Over the bytes after a segment's header, or of a batch.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// From byte `at` on.
    pub(crate) fn new_at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Bytes walked so far.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// The next body, or why there is none.
    pub fn next_body(&mut self) -> Result<&'a [u8], End> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Err(End::Clean);
        }
        let Some((header, after)) = rest.split_at_checked(RECORD_HEADER_BYTES) else {
            return Err(if rest.iter().all(|&byte| byte == 0) { End::Clean } else { End::Broken });
        };
        let len = u32_at(header, 0) as usize;
        if len == 0 {
            let zeros = header.iter().all(|&byte| byte == 0);
            return Err(if zeros { End::Clean } else { End::Broken });
        }
        if len > limits::RECORD_BYTES_MAX || len > after.len() {
            return Err(End::Broken);
        }
        let body = &after[..len];
        let sums_up = sum([header[0], header[1], header[2], header[3]], body) == u32_at(header, 4);
        if !sums_up && !canary::planted(Bug::ChecksumNotChecked) {
            return Err(End::Broken);
        }
        self.at += RECORD_HEADER_BYTES + len;
        Ok(body)
    }
}

/// What stands at the top of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "StoredHeader", try_from = "StoredHeader")]
pub struct SegmentHeader {
    /// Whose log.
    pub region: RegionId,
    /// In which life of its data.
    pub incarnation: Incarnation,
    /// Written by which start.
    pub epoch: LogEpoch,
    /// Number of its first record.
    pub first_lsn: Lsn,
    /// When it was begun, Unix milliseconds; for people.
    pub created_ms: u64,
    /// Which cluster.
    pub cluster: [u8; 16],
    /// Which boot of the machine: another one at the next start means that the kernel's cache is gone.
    pub boot: u64,
    /// Whoever writes it acknowledges nothing before it is synced (S6 `always`, everywhere). The log has to say so
    /// itself: whoever reads it after a power loss may be configured otherwise.
    pub synced_first: bool,
}

/// A header as it stands in segments and manifests: times have 48 bits, above them are flags.
#[derive(Serialize, Deserialize)]
struct StoredHeader {
    region: RegionId,
    incarnation: Incarnation,
    epoch: LogEpoch,
    first_lsn: Lsn,
    created_and_flags: u64,
    cluster: [u8; 16],
    boot: u64,
}

const CREATED_BITS: u32 = 48;
const FLAG_SYNCED_FIRST: u64 = 1 << CREATED_BITS;

impl From<SegmentHeader> for StoredHeader {
    fn from(header: SegmentHeader) -> Self {
        let SegmentHeader { region, incarnation, epoch, first_lsn, cluster, boot, .. } = header;
        let flags = if header.synced_first { FLAG_SYNCED_FIRST } else { 0 };
        let created_and_flags = header.created_ms & (FLAG_SYNCED_FIRST - 1) | flags;
        Self { region, incarnation, epoch, first_lsn, created_and_flags, cluster, boot }
    }
}

impl TryFrom<StoredHeader> for SegmentHeader {
    type Error = MalformedHeader;

    fn try_from(stored: StoredHeader) -> Result<Self, MalformedHeader> {
        let StoredHeader { region, incarnation, epoch, first_lsn, created_and_flags, cluster, boot } = stored;
        let created_ms = created_and_flags & (FLAG_SYNCED_FIRST - 1);
        let synced_first = created_and_flags & FLAG_SYNCED_FIRST != 0;
        if created_and_flags >= FLAG_SYNCED_FIRST << 1 {
            return Err(MalformedHeader::Flags { found: (created_and_flags >> CREATED_BITS) as u16 });
        }
        Ok(Self { region, incarnation, epoch, first_lsn, created_ms, cluster, boot, synced_first })
    }
}

/// Why a segment's header is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MalformedHeader {
    /// Not one of our files.
    #[error("not a onced log segment")]
    Magic,
    /// Another version's.
    #[error(
        "log format version {found}; this onced reads version {FORMAT_VERSION}: start it with the onced that wrote it, or a newer one that reads both"
    )]
    Version {
        /// The version it names.
        found: u16,
    },
    /// Whole, and with flags of a newer one.
    #[error(
        "the header has flags ({found:#06x}) that this onced does not know: start the onced that wrote it"
    )]
    Flags {
        /// All of them.
        found: u16,
    },
    /// Damaged.
    #[error("the segment's header is damaged (its checksum does not match)")]
    Checksum,
}

impl MalformedHeader {
    /// Another version wrote it: it is not damaged, and never repaired.
    pub fn is_of_another_version(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::Flags { .. })
    }
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let stored = StoredHeader::from(*self);
        let mut bytes = [0u8; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.region.0.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.first_lsn.to_le_bytes());
        bytes[28..36].copy_from_slice(&stored.created_and_flags.to_le_bytes());
        bytes[36..52].copy_from_slice(&self.cluster);
        bytes[52..60].copy_from_slice(&self.boot.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the top of a segment's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedHeader> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(MalformedHeader::Magic)?;
        if &bytes[..8] != MAGIC {
            return Err(MalformedHeader::Magic);
        }
        let found = u16::from_le_bytes([bytes[8], bytes[9]]);
        if !sums_up_as(&bytes[..60], FORMAT_VERSION, u32_at(bytes, 60)) {
            let ours = found == FORMAT_VERSION;
            return Err(if ours { MalformedHeader::Checksum } else { MalformedHeader::Version { found } });
        }
        if found != FORMAT_VERSION {
            return Err(MalformedHeader::Checksum);
        }
        let mut cluster = [0u8; 16];
        cluster.copy_from_slice(&bytes[36..52]);
        let stored = StoredHeader {
            region: RegionId(u16::from_le_bytes([bytes[10], bytes[11]])),
            incarnation: Incarnation(u32_at(bytes, 12)),
            epoch: LogEpoch(u32_at(bytes, 16)),
            first_lsn: u64_at(bytes, 20),
            created_and_flags: u64_at(bytes, 28),
            cluster,
            boot: u64_at(bytes, 52),
        };
        stored.try_into()
    }
}

/// Whether `crc` is that of `bytes` if their version, which stands in bytes 8 and 9 of every file, is `version`.
/// So a flipped bit of ours is told from another version's file, which is not damaged and never repaired.
pub(crate) fn sums_up_as(bytes: &[u8], version: u16, crc: u32) -> bool {
    let head = crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &version.to_le_bytes());
    crc32c::crc32c_append(head, &bytes[10..]) == crc
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn whole_entry(payload: &[u8]) -> Result<EntryRecord<'_>, MalformedRecord> {
    match EntryRecord::take(payload) {
        Some((record, [])) => Ok(record),
        _ => Err(MalformedRecord::Payload),
    }
}

fn whole<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, MalformedRecord> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        _ => Err(MalformedRecord::Payload),
    }
}

/// Appends `value` in postcard's encoding.
pub(crate) fn postcard_onto<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    struct Onto<'v>(&'v mut Vec<u8>);
    impl postcard::ser_flavors::Flavor for Onto<'_> {
        type Output = ();
        fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
            self.0.push(byte);
            Ok(())
        }
        fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
        fn finalize(self) -> postcard::Result<()> {
            Ok(())
        }
    }
    postcard::serialize_with_flavor(value, Onto(out)).expect("our types always serialise into memory");
}

#[cfg(test)]
mod tests;
