//! Copying one file durably, with its digest.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crdt::ids::Lsn;
use crdt::journal::{HEADER_BYTES, RECORD_HEADER_BYTES, Records};
use crdt::limits;

use super::{BackupError, FileEntry};
use crate::config::units::hex;

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Every record fits.
const WINDOW_BYTES: usize = limits::RECORD_BYTES_MAX + RECORD_HEADER_BYTES;

/// A file being written, and what it will be called in `backup.json`.
pub(super) struct Writing {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Writing {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(path)?;
        Ok(Self { file, hasher: blake3::Hasher::new(), bytes: 0 })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Synced, its name aside.
    pub(super) fn finish(self, name: &str) -> io::Result<FileEntry> {
        self.file.sync_all()?;
        let blake3 = hex(self.hasher.finalize().as_bytes());
        Ok(FileEntry { name: name.to_owned(), bytes: self.bytes, blake3 })
    }
}

/// Copies all of a file; `note` is told how many bytes more are done.
pub(super) fn copy_all(
    from: &mut File,
    to: &Path,
    name: &str,
    note: &mut dyn FnMut(u64),
) -> io::Result<FileEntry> {
    let mut writing = Writing::new(to)?;
    each_chunk(from, |chunk| {
        writing.write(chunk)?;
        note(chunk.len() as u64);
        Ok(())
    })?;
    writing.finish(name)
}

/// Size and digest of a file.
pub(super) fn digest(from: &mut File, note: &mut dyn FnMut(u64)) -> io::Result<(u64, String)> {
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    each_chunk(from, |chunk| {
        hasher.update(chunk);
        bytes += chunk.len() as u64;
        note(chunk.len() as u64);
        Ok(())
    })?;
    Ok((bytes, hex(hasher.finalize().as_bytes())))
}

fn each_chunk(from: &mut File, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(()),
            read => take(&chunk[..read])?,
        }
    }
}

/// What was copied of a segment.
pub(super) struct SegmentCopy {
    pub(super) entry: FileEntry,
    /// The record behind the last one copied.
    pub(super) next_lsn: Lsn,
}

/// Copies a segment's header and its whole records: from `first` up to before `end`, or all there are. The file may
/// be appended to meanwhile.
pub(super) fn copy_records(
    from: &File,
    to: &Path,
    name: &str,
    first: Lsn,
    end: Option<Lsn>,
    note: &mut dyn FnMut(u64),
) -> io::Result<SegmentCopy> {
    let mut writing = Writing::new(to)?;
    let mut window = vec![0; HEADER_BYTES];
    from.read_exact_at(&mut window, 0)?;
    writing.write(&window)?;
    let (mut next_lsn, mut want) = (first, CHUNK_BYTES);
    while end.is_none_or(|end| next_lsn < end) {
        read_up_to(from, writing.bytes, want, &mut window)?;
        let mut records = Records::new(&window);
        while end.is_none_or(|end| next_lsn < end) && records.next_body().is_ok() {
            next_lsn += 1;
        }
        let whole = records.offset();
        if whole > 0 {
            writing.write(&window[..whole])?;
            note(whole as u64);
            want = CHUNK_BYTES;
        } else if want < WINDOW_BYTES && window.len() == want {
            want = WINDOW_BYTES;
        } else {
            break;
        }
    }
    Ok(SegmentCopy { entry: writing.finish(name)?, next_lsn })
}

/// Whether a whole record begins at `offset` now.
pub(super) fn reads_at(file: &File, offset: u64) -> bool {
    let mut window = Vec::new();
    read_up_to(file, offset, WINDOW_BYTES, &mut window).is_ok() && Records::new(&window).next_body().is_ok()
}

fn read_up_to(from: &File, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
    into.resize(len, 0);
    let mut filled = 0;
    while filled < len {
        match from.read_at(&mut into[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    into.truncate(filled);
    Ok(())
}

/// An error of the system with the file it is about.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    BackupError::io(path)
}
