//! One page of an arena, byte by byte: places of records and free places, end to end.
//!
//! ```text
//! record      [length u32][bytes ..][rounding]
//! free place  [length u32, highest bit set][next u32][previous u32][..]
//! ```
//! A length says how many units its place has, for free places too. One unit of 16 bytes holds a free
//! place's links.
//!
//! Must never: know of more than one page; lists are the arena's.

/// Bytes of a unit.
pub(super) const UNIT: usize = 16;
/// Bytes before a record.
pub(super) const HEADER: usize = 4;
/// Says of a header that the place is free.
pub(super) const FREE: u32 = 1 << 31;
/// No place: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// A page; without bytes when it was given back.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) bytes: Box<[u8]>,
    /// Units of the places of records.
    pub(super) live: u32,
    /// Units handed out so far, from the start.
    pub(super) used: u32,
    /// It is being emptied: nothing new is put here.
    pub(super) closing: bool,
}

impl Page {
    /// An empty page of so many units.
    pub(super) fn new(units: u32) -> Self {
        Self { bytes: vec![0; units as usize * UNIT].into_boxed_slice(), ..Self::default() }
    }

    /// All its units.
    pub(super) fn units(&self) -> u32 {
        (self.bytes.len() / UNIT) as u32
    }

    /// Units not handed out yet.
    pub(super) fn room(&self) -> u32 {
        self.units() - self.used
    }

    /// The record in the place at byte `at`.
    pub(super) fn record(&self, at: usize) -> &[u8] {
        let len = self.header(at) as usize;
        &self.bytes[at + HEADER..at + HEADER + len]
    }

    /// Puts `record` into the place at byte `at`.
    pub(super) fn fill(&mut self, at: usize, record: &[u8]) {
        self.set_header(at, record.len() as u32);
        self.bytes[at + HEADER..at + HEADER + record.len()].copy_from_slice(record);
    }

    /// Length and flag of the place at byte `at`.
    pub(super) fn header(&self, at: usize) -> u32 {
        self.word(at)
    }

    pub(super) fn set_header(&mut self, at: usize, value: u32) {
        self.set_word(at, value);
    }

    /// The free place after the one at byte `at` in its list.
    pub(super) fn next(&self, at: usize) -> u32 {
        self.word(at + HEADER)
    }

    /// The free place before the one at byte `at` in its list.
    pub(super) fn previous(&self, at: usize) -> u32 {
        self.word(at + 2 * HEADER)
    }

    pub(super) fn set_links(&mut self, at: usize, next: u32, previous: u32) {
        self.set_word(at + HEADER, next);
        self.set_word(at + 2 * HEADER, previous);
    }

    fn word(&self, at: usize) -> u32 {
        let mut bytes = [0u8; 4];
        bytes.copy_from_slice(&self.bytes[at..at + 4]);
        u32::from_le_bytes(bytes)
    }

    fn set_word(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The records of a page from its start.
pub(super) struct PageRecords<'p> {
    page: &'p Page,
    at: usize,
}

impl<'p> PageRecords<'p> {
    pub(super) fn of(page: &'p Page) -> Self {
        Self { page, at: 0 }
    }
}

impl<'p> Iterator for PageRecords<'p> {
    type Item = &'p [u8];

    fn next(&mut self) -> Option<&'p [u8]> {
        while self.at < self.page.used as usize * UNIT {
            let (at, raw) = (self.at, self.page.header(self.at));
            self.at += units_of((raw & !FREE) as usize) * UNIT;
            if raw & FREE == 0 {
                return Some(self.page.record(at));
            }
        }
        None
    }
}

/// Units of a record of `len` bytes.
pub(super) const fn units_of(len: usize) -> usize {
    (len + HEADER).div_ceil(UNIT)
}
