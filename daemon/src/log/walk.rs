//! Walking the records of a segment's file without holding all of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crdt::journal::{RECORD_HEADER_BYTES, Records};
use crdt::limits;

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Calls `visit` with the body of every record between two offsets. Ends before the first that is not whole:
/// the caller counts.
pub(crate) fn each_record(
    file: &File,
    from: u64,
    to: u64,
    mut visit: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let (mut at, mut want) = (from, CHUNK_BYTES);
    let mut chunk = Vec::new();
    while at < to {
        chunk.resize(want.min((to - at) as usize), 0);
        file.read_exact_at(&mut chunk, at)?;
        let mut records = Records::new(&chunk);
        while let Ok(body) = records.next_body() {
            visit(body)?;
        }
        if records.offset() > 0 {
            at += records.offset() as u64;
            want = CHUNK_BYTES;
        } else if want < limits::RECORD_BYTES_MAX + RECORD_HEADER_BYTES && (chunk.len() as u64) < to - at {
            want = limits::RECORD_BYTES_MAX + RECORD_HEADER_BYTES;
        } else {
            break;
        }
    }
    Ok(())
}
