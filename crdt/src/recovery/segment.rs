//! Walking one segment: where its records are, where they end, and whether that is a torn tail or damage.
//!
//! A tail may be torn because a process was killed in the middle of its last write, or because the power
//! failed and unsynced pages went in any order. What tells damage from it is what stands behind: after a
//! kill nothing whole can, and after a power failure no mark that says the damaged record had been synced.

use super::{Damage, Recovery};
use crate::canary::{self, Bug};
use crate::ids::Lsn;
use crate::journal::{
    End, HEADER_BYTES, RECORD_HEADER_BYTES, Record, Records, SegmentHeader, is_kind, synced_evidence,
    torn_len, u32_at,
};
use crate::limits;

/// What one segment held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentReport {
    /// Its header; of the segment before it where its own is damaged and everything is salvaged.
    pub header: SegmentHeader,
    /// Its last record; one less than the first where it has none.
    pub last_lsn: Lsn,
    /// When the last part in it may die, Unix milliseconds, `max_drift` to be added.
    pub dies_at_ms: u64,
    /// Where its records end, in bytes from the start of the file.
    pub end: usize,
    /// Up to here marks in this file say that it was synced, in bytes. What stands behind may be in the kernel's
    /// cache alone, and called clean there after a sync that failed: see [`Recovery::marked`].
    pub marked_end: usize,
    /// Bytes of a torn tail that were cut.
    pub torn_bytes: usize,
    /// It stands behind a torn tail: none of it was synced, none of it counts, and it is to be deleted.
    pub behind_tear: bool,
}

/// Records of one segment that stand side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) lsn: Lsn,
}

/// A segment that was walked and is still to be [applied](Recovery::apply).
#[derive(Clone, Debug)]
pub struct Scan {
    /// What it held; `dies_at_ms` is known after applying.
    pub report: SegmentReport,
    pub(super) name: String,
    pub(super) spans: Vec<Span>,
}

impl Recovery {
    /// Walks one segment, oldest first. `rest` are the headers of the segments after it: where the next one
    /// begins, this one ends, whatever stands behind. `later` says what [`synced_evidence`] the bytes of
    /// those hold; it is only asked where this one is torn.
    pub fn scan(
        &mut self,
        name: &str,
        bytes: &[u8],
        rest: &[SegmentHeader],
        later: impl FnOnce() -> Lsn,
    ) -> Result<Scan, Damage> {
        let header = match self.check_header(name, bytes) {
            Ok(header) => header,
            Err(damage) => {
                self.forgive(damage)?;
                self.meta.last.unwrap_or_else(|| self.unknown_header())
            }
        };
        let first_lsn = self.meta.next_lsn;
        let report = |last_lsn, end, marked_end, torn_bytes, behind_tear| SegmentReport {
            header,
            last_lsn,
            dies_at_ms: 0,
            end,
            marked_end,
            torn_bytes,
            behind_tear,
        };
        let name = name.to_owned();
        if self.torn {
            let torn_bytes = bytes.len().saturating_sub(HEADER_BYTES);
            let report = report(first_lsn - 1, HEADER_BYTES, HEADER_BYTES, torn_bytes, true);
            return Ok(Scan { report, name, spans: Vec::new() });
        }
        let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let mut walk = Walk {
            spans: Vec::new(),
            end: HEADER_BYTES,
            torn_bytes: 0,
            marked_end: HEADER_BYTES,
            mark: None,
        };
        self.walk(&name, body, &header, rest, later, &mut walk)?;
        let report = report(self.meta.next_lsn - 1, walk.end, walk.marked_end, walk.torn_bytes, false);
        Ok(Scan { report, name, spans: walk.spans })
    }

    fn walk(
        &mut self,
        name: &str,
        body: &[u8],
        header: &SegmentHeader,
        rest: &[SegmentHeader],
        later: impl FnOnce() -> Lsn,
        walk: &mut Walk,
    ) -> Result<(), Damage> {
        let next = rest.first();
        let mut records = Records::new(body);
        let mut later = Some(later);
        let mut span = Span { from: HEADER_BYTES, to: HEADER_BYTES, lsn: self.meta.next_lsn };
        loop {
            let at = records.offset();
            let ended = next.is_some_and(|next| self.meta.next_lsn == next.first_lsn);
            // Behind damage the count of records is a guess.
            if ended && walk.spans.is_empty() {
                break;
            }
            let damage = Damage::Record {
                segment: name.to_owned(),
                offset: HEADER_BYTES + at,
                lsn: self.meta.next_lsn,
            };
            let next_body = records.next_body();
            let end = match next_body.map(Record::decode) {
                Ok(Ok(record)) => {
                    self.records += 1;
                    let ends_at = HEADER_BYTES + records.offset();
                    let marked = walk.note_mark(&record, self.meta.next_lsn, HEADER_BYTES + at, ends_at);
                    self.marked = self.marked.max(marked);
                    self.meta.note(&record);
                    span.to = ends_at;
                    continue;
                }
                // Whole, and not of this version: no tear makes that (S7).
                Ok(Err(_)) => None,
                Err(end) => Some(end),
            };
            let behind = &body[at..];
            // A sector that the disk has lost is zeros too: only if nothing follows, ever, they are the end.
            if end == Some(End::Clean) && next.is_none() && torn_len(behind) == 0 {
                break;
            }
            let tag = Some(self.mark_tag());
            let synced = || synced_evidence(behind, tag).max(later.take().map_or(0, |later| later()));
            if !self.config.salvage && end.is_some() && self.is_tear(header, rest, behind, synced) {
                walk.torn_bytes = torn_len(behind);
                self.torn = next.is_some();
                break;
            }
            // What still reads behind the damage is kept.
            if !self.config.salvage || torn_len(behind) > 0 {
                self.forgive(damage)?;
            }
            let Some(skipped) = behind_damage(behind) else { break };
            walk.spans.push(span);
            records = Records::new_at(body, at + skipped);
            self.meta.next_lsn += 1;
            let from = HEADER_BYTES + at + skipped;
            span = Span { from, to: from, lsn: self.meta.next_lsn };
        }
        walk.end = span.to;
        walk.spans.push(span);
        Ok(())
    }

    /// Whether what ends here, with `behind` behind it, is a tail that was never acknowledged.
    fn is_tear(
        &self,
        header: &SegmentHeader,
        rest: &[SegmentHeader],
        behind: &[u8],
        synced: impl FnOnce() -> Lsn,
    ) -> bool {
        if canary::planted(Bug::DamageTakenForTear) {
            return true;
        }
        if header.boot == self.config.boot {
            // Only the last write can be torn while the machine stays up.
            return rest.is_empty() && !is_followed(behind);
        }
        // A later start has cut and synced what was torn in an earlier one's segments.
        rest.iter().all(|later| later.epoch == header.epoch) && synced() < self.meta.next_lsn
    }
}

#[derive(Debug)]
struct Walk {
    spans: Vec<Span>,
    end: usize,
    torn_bytes: usize,
    marked_end: usize,
    /// The newest mark in this segment: its number, and where it ends.
    mark: Option<(Lsn, usize)>,
}

impl Walk {
    /// What `record`, number `lsn` between two offsets, says to be synced: the newest such record.
    fn note_mark(&mut self, record: &Record<'_>, lsn: Lsn, from: usize, to: usize) -> Lsn {
        match record {
            Record::Synced(synced, _) => {
                if let Some((mark, end)) = self.mark
                    && mark <= *synced
                {
                    self.marked_end = end;
                }
                self.mark = Some((lsn, to));
                *synced
            }
            Record::Stop(_) => {
                self.marked_end = from;
                lsn - 1
            }
            _ => 0,
        }
    }
}

/// Where to read on behind the damaged record that `bytes` begin with; `None`: nothing follows.
///
/// What a record holds was chosen by a stranger and may itself look like records, which nobody ever wrote: so
/// not before its end, where that is known. It is if the damage is not in its length, or is one flipped bit of it.
pub fn behind_damage(bytes: &[u8]) -> Option<usize> {
    let known = summed_end(bytes);
    let claimed = claimed_end(bytes).filter(|end| *end <= bytes.len());
    bytes.get(..RECORD_HEADER_BYTES)?;
    match known.or(claimed) {
        Some(end) if torn_len(&bytes[end..]) == 0 => None,
        Some(end) if known.is_some() || whole_at(bytes, end) => Some(end),
        _ => next_whole(bytes),
    }
}

/// Whether anything whole stands behind the broken record that `bytes` begin with, or it is whole itself but for its
/// length. Of what stands inside it, as [`behind_damage`] says, nothing counts: after a kill all behind it are zeros, and
/// a stranger's outcome would make damage of a torn tail.
fn is_followed(bytes: &[u8]) -> bool {
    if summed_end(bytes).is_some() {
        return true;
    }
    // Looked for from the byte after the first on.
    let from = claimed_end(bytes).map_or(0, |end| end - 1);
    bytes.get(from..).is_some_and(|rest| next_whole(rest).is_some())
}

/// Where the record that `bytes` begin with ends if its length, or that with one bit flipped, agrees with its checksum.
fn summed_end(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..RECORD_HEADER_BYTES)?;
    let (len, crc) = (u32_at(header, 0), u32_at(header, 4));
    let sums_up = |end: &usize| {
        let body = &bytes[RECORD_HEADER_BYTES..*end];
        let crc_of_len = crc32c::crc32c(&(body.len() as u32).to_le_bytes());
        crc32c::crc32c_append(crc_of_len, body) == crc
    };
    let flipped = (0..u32::BITS).map(|bit| len ^ 1 << bit);
    let ends = std::iter::once(len).chain(flipped).filter_map(end_of);
    ends.filter(|end| *end <= bytes.len()).find(sums_up)
}

/// Where it ends as its length says, which may be beyond the bytes that there are.
fn claimed_end(bytes: &[u8]) -> Option<usize> {
    end_of(u32_at(bytes.get(..RECORD_HEADER_BYTES)?, 0))
}

fn end_of(len: u32) -> Option<usize> {
    (1..=limits::RECORD_BYTES_MAX).contains(&(len as usize)).then_some(RECORD_HEADER_BYTES + len as usize)
}

/// Where the next whole record begins behind the start of `bytes`.
pub fn next_whole(bytes: &[u8]) -> Option<usize> {
    // The bound on a body keeps this from summing up megabytes at every offset of random bytes.
    let plausible = |at: usize| bytes[at + 3] == 0 && bytes[at..at + 3] != [0, 0, 0];
    // None begins in zeros, which are mostly the rest of a segment.
    let end = bytes.len().saturating_sub(RECORD_HEADER_BYTES).min(torn_len(bytes));
    (1..end).find(|at| plausible(*at) && whole_at(bytes, *at))
}

fn whole_at(bytes: &[u8], at: usize) -> bool {
    if bytes.len() <= at + RECORD_HEADER_BYTES || !is_kind(bytes[at + RECORD_HEADER_BYTES]) {
        return false;
    }
    let mut records = Records::new(&bytes[at..]);
    records.next_body().is_ok_and(|body| Record::decode(body).is_ok())
}
