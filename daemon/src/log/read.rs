//! Reading the log back for a peer that is further behind than the ring in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crdt::journal::{HEADER_BYTES, RECORD_HEADER_BYTES, Records};
use crdt::limits;
use crdt::node::LogRead;
use crdt::store::Batch;

use super::Log;
use super::files::ClosedSegment;

/// Where the last read of one peer ended, so that the next need not walk the segment again.
#[derive(Clone, Debug, Default)]
pub struct ReadPlace {
    path: std::path::PathBuf,
    lsn: u64,
    offset: u64,
}

impl Log {
    /// Records from `from` on. `place` is the caller's memory between reads for one peer.
    pub fn read(&self, from: u64, place: &mut ReadPlace) -> std::io::Result<LogRead> {
        let Some(segment) = self.segment_of(from) else {
            return Ok(LogRead::StartsAt(self.first_lsn().max(from)));
        };
        if segment.first_lsn > from {
            return Ok(LogRead::StartsAt(segment.first_lsn));
        }
        let file = File::open(&segment.path)?;
        let mut at = if place.path == segment.path && place.lsn == from {
            place.offset
        } else {
            skip_to(&file, &segment, from)?
        };
        let mut bytes = Vec::new();
        let mut want = limits::LOG_READ_BYTES;
        let (mut last, mut used) = (from - 1, 0);
        while last < from && at < segment.end {
            bytes.resize(want.min((segment.end - at) as usize), 0);
            file.read_exact_at(&mut bytes, at)?;
            let mut records = Records::new(&bytes);
            while last < segment.last_lsn && records.next_body().is_ok() {
                last += 1;
            }
            used = records.offset();
            if last < from && want >= limits::RECORD_BYTES_MAX + RECORD_HEADER_BYTES {
                return Err(std::io::Error::other("a record of the log does not read back"));
            }
            want *= 4;
        }
        at += used as u64;
        bytes.truncate(used);
        *place = ReadPlace { path: segment.path.clone(), lsn: last + 1, offset: at };
        let batch = Batch { bytes, first: from, last, sync_to: last, dies_at_ms: 0 };
        Ok(LogRead::Records(Arc::new(batch)))
    }

    /// The first record that the log still has.
    pub fn first_lsn(&self) -> u64 {
        let writer = self.lock_writer();
        writer.closed.first().map_or_else(|| writer.current.close().first_lsn, |segment| segment.first_lsn)
    }

    /// The segment with record `from`, or the first one after it.
    fn segment_of(&self, from: u64) -> Option<ClosedSegment> {
        let writer = self.lock_writer();
        let at = writer.closed.partition_point(|segment| segment.last_lsn < from);
        let found = writer.closed.get(at).cloned();
        found.or_else(|| Some(writer.current.close())).filter(|segment| segment.last_lsn >= from)
    }
}

/// The offset of record `from`, walking the segment's record headers.
fn skip_to(file: &File, segment: &ClosedSegment, from: u64) -> std::io::Result<u64> {
    let mut at = HEADER_BYTES as u64;
    let mut chunk = vec![0u8; 1 << 20];
    let (mut chunk_at, mut filled) = (at, 0usize);
    for _ in segment.first_lsn..from {
        let within = (at - chunk_at) as usize;
        if within + 4 > filled {
            chunk_at = at;
            let len = chunk.len().min((segment.end - at) as usize);
            file.read_exact_at(&mut chunk[..len], at)?;
            filled = len;
        }
        let within = (at - chunk_at) as usize;
        let mut len = [0u8; 4];
        len.copy_from_slice(&chunk[within..within + 4]);
        at += RECORD_HEADER_BYTES as u64 + u64::from(u32::from_le_bytes(len));
    }
    Ok(at)
}
