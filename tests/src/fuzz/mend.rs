//! Lengths and checksums made right again, so that a mutation is not stopped by the first CRC.
//!
//! Each function knows where its format keeps them and trusts nothing else in the bytes. It must never make bytes
//! longer than twice what they were.

use crdt::journal::{HEADER_BYTES, RECORD_HEADER_BYTES};
use crdt::snapshot::{RUN_HEADER_BYTES, RUN_TRAILER_BYTES};

/// Bytes of one line of a run's table.
const LINE_BYTES: usize = 32;
/// Bytes before a manifest's body.
const MANIFEST_HEADER_BYTES: usize = 16;

/// A segment: its header's checksum, and each record's, whose length is cut to what there is.
pub fn segment(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    seal(bytes, 0, 60);
    let mut at = HEADER_BYTES;
    while at + RECORD_HEADER_BYTES < bytes.len() {
        let len = u32_at(bytes, at) as usize;
        if len == 0 {
            return;
        }
        let len = len.min(bytes.len() - at - RECORD_HEADER_BYTES);
        put_u32(bytes, at, len as u32);
        let body = at + RECORD_HEADER_BYTES;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[at..at + 4]), &bytes[body..body + len]);
        put_u32(bytes, at + 4, crc);
        at = body + len;
    }
}

/// A manifest: the length of its body and the checksum over all of it.
pub fn manifest(bytes: &mut [u8]) {
    if bytes.len() < MANIFEST_HEADER_BYTES + 4 {
        return;
    }
    let end = bytes.len() - 4;
    put_u32(bytes, 12, (end - MANIFEST_HEADER_BYTES) as u32);
    seal(bytes, 0, end);
}

/// A run: header, groups, table and trailer, as far as the trailer still says where they are.
pub fn run(bytes: &mut [u8]) {
    if bytes.len() < RUN_HEADER_BYTES + RUN_TRAILER_BYTES {
        return;
    }
    seal(bytes, 0, 60);
    let trailer = bytes.len() - RUN_TRAILER_BYTES;
    let groups = (u32_at(bytes, trailer + 24) as usize).min((trailer - RUN_HEADER_BYTES) / LINE_BYTES);
    let table = trailer - groups * LINE_BYTES;
    bytes[trailer..trailer + 8].copy_from_slice(&(table as u64).to_le_bytes());
    put_u32(bytes, trailer + 24, groups as u32);
    let mut at = RUN_HEADER_BYTES;
    for line in (0..groups).map(|group| table + group * LINE_BYTES) {
        // The last group takes what is left, so that groups and table meet.
        let is_last = line + LINE_BYTES == trailer;
        let len = if is_last { table - at } else { (u32_at(bytes, line + 16) as usize).min(table - at) };
        let crc = crc32c::crc32c(&bytes[at..at + len]);
        put_u32(bytes, line + 4, crc);
        bytes[line + 8..line + 16].copy_from_slice(&(at as u64).to_le_bytes());
        bytes[line + 16..line + 24].copy_from_slice(&(len as u64).to_le_bytes());
        at += len;
    }
    let end = bytes.len() - 4;
    seal(bytes, table, end);
}

/// Writes the checksum of `bytes[from..to]` to `to`.
fn seal(bytes: &mut [u8], from: usize, to: usize) {
    let crc = crc32c::crc32c(&bytes[from..to]);
    put_u32(bytes, to, crc);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use crate::fuzz::TARGETS;

    /// A mender that breaks what is whole would keep every mutation from the decoder behind the checksum.
    #[test]
    fn what_is_whole_stays_as_it_is() {
        for target in TARGETS {
            for seed in (target.seeds)() {
                let mut mended = seed.clone();
                (target.mend)(&mut mended);
                assert!(mended == seed, "{}: a good input was changed", target.name);
            }
        }
    }
}
