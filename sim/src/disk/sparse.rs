//! Bytes of a file of which the end was allocated and never written: zeros that take no memory.
//!
//! A log's files are allocated ahead, a megabyte each, and mostly hold some kilobytes. Filling and copying their zeros
//! took a third of the time of a run with many starts.
//!
//! Must never: read otherwise than the same bytes written out; give a buffer back that is not zeros throughout.

use std::cell::RefCell;
use std::ops::Deref;

/// Buffers of zeros that a thread keeps for the next file to be read with its zeros.
const ZEROS_MAX: usize = 8;

thread_local! {
    static ZEROS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub struct Sparse {
    /// What was written; the rest up to `len` is zeros.
    stored: Vec<u8>,
    len: usize,
}

/// What was read of a file.
#[derive(Debug)]
pub enum Content<'f> {
    /// All of it was written.
    Stored(&'f [u8]),
    /// With zeros behind it.
    Padded(Padded),
}

/// A buffer that is zeros again, for the next, once it is not needed any more: that costs as much as was written, while
/// memory fresh from the system costs as much as the file is long.
#[derive(Debug)]
pub struct Padded {
    buffer: Vec<u8>,
    written: usize,
    len: usize,
}

impl Padded {
    fn new(stored: &[u8], len: usize) -> Self {
        let mut buffer = ZEROS.with_borrow_mut(Vec::pop).unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        buffer[..stored.len()].copy_from_slice(stored);
        Self { buffer, written: stored.len(), len }
    }
}

impl Drop for Padded {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer[..self.written].fill(0);
        ZEROS.with_borrow_mut(|zeros| {
            if zeros.len() < ZEROS_MAX {
                zeros.push(buffer);
            }
        });
    }
}

impl Default for Content<'_> {
    fn default() -> Self {
        Self::Stored(&[])
    }
}

impl Deref for Content<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Stored(bytes) => bytes,
            Self::Padded(padded) => &padded.buffer[..padded.len],
        }
    }
}

impl Sparse {
    /// With the zeros.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The first `end` bytes, or all if there are fewer.
    pub(super) fn bytes(&self, end: usize) -> Content<'_> {
        let end = end.min(self.len);
        if end <= self.stored.len() {
            return Content::Stored(&self.stored[..end]);
        }
        Content::Padded(Padded::new(&self.stored, end))
    }

    /// Cuts it, or lengthens it by zeros.
    pub(super) fn resize(&mut self, len: usize) {
        self.stored.truncate(len);
        self.len = len;
    }

    /// Writes over what is there: nothing beyond its end.
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        assert!(end <= self.len, "a file is lengthened before it is written");
        if end > self.stored.len() {
            self.stored.resize(end, 0);
        }
        self.stored[at..end].copy_from_slice(bytes);
    }

    /// One bit turns over, if it is there.
    pub(super) fn flip(&mut self, at: usize, bit: u8) {
        if at < self.len {
            self.stored.resize(self.stored.len().max(at + 1), 0);
            self.stored[at] ^= 1 << (bit % 8);
        }
    }
}

impl From<Vec<u8>> for Sparse {
    fn from(stored: Vec<u8>) -> Self {
        Self { len: stored.len(), stored }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Dice, Stream};

    /// Against the plain bytes that it stands for, through all that is done to files.
    #[test]
    fn it_reads_as_the_bytes_that_it_stands_for() {
        let mut dice = Dice::new(1, Stream::Platter, 0);
        let (mut sparse, mut plain) = (Sparse::default(), Vec::new());
        let mut saved = 0;
        for step in 0..5_000u64 {
            match dice.below(4) {
                0 => {
                    let len = dice.below(200) as usize;
                    sparse.resize(len);
                    plain.resize(len, 0);
                }
                1 if !plain.is_empty() => {
                    let at = dice.below(250) as usize;
                    sparse.flip(at, step as u8);
                    if let Some(byte) = plain.get_mut(at) {
                        *byte ^= 1 << (step as u8 % 8);
                    }
                }
                _ => {
                    let at = dice.below(plain.len() as u64) as usize;
                    let bytes = vec![step as u8; dice.below((plain.len() - at) as u64 + 1) as usize];
                    sparse.write(at, &bytes);
                    plain[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
            assert_eq!((sparse.len(), &*sparse.bytes(usize::MAX)), (plain.len(), &plain[..]));
            let end = dice.below(250) as usize;
            assert_eq!(&*sparse.bytes(end), &plain[..end.min(plain.len())]);
            saved += sparse.len - sparse.stored.len();
        }
        assert!(saved > 0, "zeros that were never written take no memory");
    }
}
