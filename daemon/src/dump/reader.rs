//! Walking the records of a segment's file through a window, and looking for what stands behind damage.

use std::ops::Range;

use crdt::journal::{End, RECORD_HEADER_BYTES, Records, synced_evidence};
use crdt::limits;
use crdt::recovery::{behind_damage, next_whole};

use super::{DumpError, Source};

/// Bytes read at once where records are small.
const CHUNK_BYTES: u64 = 1 << 20;
/// Every record fits.
const WINDOW_BYTES: u64 = (limits::RECORD_BYTES_MAX + RECORD_HEADER_BYTES) as u64;
/// Longer than any mark of syncing with its header.
const MARK_BYTES: u64 = 64;

/// A place in a segment's file, and what was read around it.
pub(super) struct Reader<'r> {
    source: &'r Source<'r>,
    /// The next record's offset in the file.
    pub(super) at: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'r> Reader<'r> {
    pub(super) fn new(source: &'r Source<'r>, at: u64) -> Self {
        Self { source, at, window: Vec::new(), window_at: at }
    }

    /// Where in the window the next body stands; walks over it.
    pub(super) fn next_body(&mut self) -> Result<Result<Range<usize>, End>, DumpError> {
        loop {
            let begin = (self.at - self.window_at) as usize;
            let mut records = Records::new(&self.window[begin..]);
            let result = records.next_body().map(<[u8]>::len);
            let read_to = self.window_at + self.window.len() as u64;
            let all_read = read_to >= self.source.len || read_to - self.at >= WINDOW_BYTES;
            match result {
                Ok(_) => {
                    let end = begin + records.offset();
                    self.at = self.window_at + end as u64;
                    return Ok(Ok(begin + RECORD_HEADER_BYTES..end));
                }
                // Eight zeros are an end; fewer, or nothing, may be that of the window.
                Err(End::Clean) if read_to - self.at >= RECORD_HEADER_BYTES as u64 => {
                    return Ok(Err(End::Clean));
                }
                Err(end) if all_read => return Ok(Err(end)),
                Err(_) => {
                    let len = if read_to - self.at >= CHUNK_BYTES { WINDOW_BYTES } else { CHUNK_BYTES };
                    self.window = self.source.read(self.at, len)?;
                    self.window_at = self.at;
                }
            }
        }
    }

    /// The next record begins at `at`.
    pub(super) fn go_on_at(&mut self, at: u64) {
        *self = Self::new(self.source, at);
    }

    /// The bytes of a body that [`Reader::next_body`] has just found.
    pub(super) fn body(&self, range: Range<usize>) -> &[u8] {
        &self.window[range]
    }

    /// Whether everything from here on is zero.
    pub(super) fn rest_is_zero(&self) -> Result<bool, DumpError> {
        let mut zero = true;
        self.each_chunk(0, |bytes| {
            zero &= bytes.iter().all(|&byte| byte == 0);
            zero
        })?;
        Ok(zero)
    }

    /// The newest record that something from here on says was synced; 0 for none. Without the cluster's secret any mark
    /// counts.
    pub(super) fn synced_behind(&self) -> Result<u64, DumpError> {
        let mut newest = 0;
        self.each_chunk(MARK_BYTES, |bytes| {
            newest = newest.max(synced_evidence(bytes, None));
            true
        })?;
        Ok(newest)
    }

    /// Where to read on behind the damaged record here; `None` where nothing whole stands behind.
    pub(super) fn behind_damage(&self) -> Result<Option<u64>, DumpError> {
        let Some(whole) = self.next_whole()? else { return Ok(None) };
        let bytes = self.source.read(self.at, 2 * WINDOW_BYTES)?;
        Ok(Some(behind_damage(&bytes).map_or(whole, |behind| self.at + behind as u64)))
    }

    /// Where the next whole record begins behind here.
    pub(super) fn next_whole(&self) -> Result<Option<u64>, DumpError> {
        let mut from = self.at;
        while from < self.source.len {
            let bytes = self.source.read(from, 2 * WINDOW_BYTES)?;
            if let Some(found) = next_whole(&bytes) {
                return Ok(Some(from + found as u64));
            }
            // What began in the first half was seen whole.
            from += WINDOW_BYTES;
        }
        Ok(None)
    }

    /// Calls `take` with the rest of the file in pieces, each with the first `overlap` bytes of the next, while
    /// it says true.
    fn each_chunk(&self, overlap: u64, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), DumpError> {
        let mut from = self.at;
        while from < self.source.len {
            let bytes = self.source.read(from, CHUNK_BYTES + overlap)?;
            if !take(&bytes) {
                break;
            }
            from += CHUNK_BYTES;
        }
        Ok(())
    }
}
