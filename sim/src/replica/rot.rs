//! Which bytes of a region's files are to be told from a torn tail when they are damaged.
//!
//! Must never: leave out what was acknowledged as durable, but for the records since the last mark.

use crdt::journal::{HEADER_BYTES, MarkTag, Records, SegmentHeader, synced_evidence};

use super::start::{MANIFEST, RUN, SEGMENT};
use crate::disk::Disk;

/// The files, and how many bytes from the start of each.
pub fn covered_bytes(disk: &Disk) -> Vec<(String, usize)> {
    let synced = |name: &str| disk.read_to(name, disk.synced_bytes(name)).unwrap_or_default();
    let evidence = |name: &&str| synced_evidence(&synced(name), Some(MarkTag::new(&super::keys())));
    let segments: Vec<&str> = disk.list().filter(|name| name.ends_with(SEGMENT)).collect();
    let marked = segments.iter().map(evidence).max().unwrap_or(0);
    let epoch = |name: &str| SegmentHeader::decode(&synced(name)).ok().map(|header| header.epoch);
    let last_epoch = segments.last().and_then(|name| epoch(name));
    let mut covered = Vec::new();
    for name in disk.list() {
        let bytes = match synced(name) {
            bytes if name.ends_with(RUN) || name == MANIFEST => bytes.len(),
            // A later start has cut and synced what was torn in an earlier one's.
            bytes if name.ends_with(SEGMENT) && epoch(name) != last_epoch => bytes.len(),
            bytes if name.ends_with(SEGMENT) => marked_bytes(&bytes, marked),
            _ => 0,
        };
        covered.push((name.to_owned(), bytes));
    }
    covered
}

/// Bytes of a segment up to the end of record `marked`.
fn marked_bytes(bytes: &[u8], marked: u64) -> usize {
    let Ok(header) = SegmentHeader::decode(bytes) else { return 0 };
    let mut records = Records::new(&bytes[HEADER_BYTES..]);
    let mut lsn = header.first_lsn;
    while lsn <= marked && records.next_body().is_ok() {
        lsn += 1;
    }
    HEADER_BYTES + records.offset()
}
