//! One shard's records, packed into pages: an index entry is then 16 bytes and a record costs its own
//! bytes, a 4-byte header and at most 15 bytes of rounding.
//!
//! Records up to [`SMALL_MAX`] live in 16 KiB pages in units of 16 bytes; a freed place is kept in a
//! list of its size, threaded through the free places themselves. Larger records are boxed one by one.
//! Pages can be walked from end to end, which is what sweeping and scanning do instead of keeping an
//! expiry index a key.
//!
//! Rejected: a `Box` a record (24 to 32 bytes more each), one growing `Vec` a shard (moves everything
//! when it grows: a stall, and twice the memory).
//!
//! Must never: move a record that was not replaced.

const UNIT: usize = 16;
const PAGE_BYTES: usize = 16 * 1024;
const UNITS_A_PAGE: u32 = (PAGE_BYTES / UNIT) as u32;
const HEADER: usize = 4;
/// Longest record kept in a page, in bytes.
const SMALL_MAX: usize = 4 * 1024;
const LARGE: u32 = 1 << 31;
const FREE: u32 = 1 << 31;
const NONE: u32 = u32::MAX;

/// Where a record lives; changes only when the record is replaced.
pub(super) type Slot = u32;

#[derive(Debug, Default)]
pub(super) struct Arena {
    pages: Vec<Box<[u8]>>,
    /// Units used of the last page.
    used: u32,
    /// Heads of the lists of free places, by their units.
    free: Vec<u32>,
    large: Vec<Option<Box<[u8]>>>,
    large_free: Vec<u32>,
    /// Units and boxed bytes of live records.
    bytes: usize,
}

impl Arena {
    /// Bytes of the live records with their rounding. Free places are not counted: they are used again, and
    /// a bound that counted them would refuse service after all keys had gone.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Stores `record` and says where.
    pub(super) fn insert(&mut self, record: &[u8]) -> Slot {
        if record.len() > SMALL_MAX {
            return self.insert_large(record);
        }
        let units = units_of(record.len());
        let slot = self.take_free(units).unwrap_or_else(|| self.extend(units));
        self.bytes += units * UNIT;
        self.fill(slot, record);
        slot
    }

    /// The record at `slot`.
    pub(super) fn get(&self, slot: Slot) -> &[u8] {
        if slot & LARGE != 0 {
            return self.large[(slot & !LARGE) as usize].as_deref().expect("slots name live records");
        }
        let (page, at) = place(slot);
        let len = header(&self.pages[page], at) as usize;
        &self.pages[page][at + HEADER..at + HEADER + len]
    }

    /// Stores `record` in place of the one at `slot`, in the same place where it fits.
    pub(super) fn replace(&mut self, slot: Slot, record: &[u8]) -> Slot {
        if slot & LARGE == 0 && record.len() <= SMALL_MAX {
            let old = self.get(slot).len();
            if units_of(old) == units_of(record.len()) {
                self.fill(slot, record);
                return slot;
            }
        }
        self.remove(slot);
        self.insert(record)
    }

    /// Frees the record at `slot`.
    pub(super) fn remove(&mut self, slot: Slot) {
        if slot & LARGE != 0 {
            let at = (slot & !LARGE) as usize;
            if let Some(record) = self.large[at].take() {
                self.bytes -= record.len();
                self.large_free.push(at as u32);
                self.give_back();
            }
            return;
        }
        let (page, at) = place(slot);
        let len = header(&self.pages[page], at);
        let units = units_of(len as usize);
        if self.free.len() <= units {
            self.free.resize(units + 1, NONE);
        }
        set_header(&mut self.pages[page], at, len | FREE);
        set_header(&mut self.pages[page], at + HEADER, self.free[units]);
        self.free[units] = slot;
        self.bytes -= units * UNIT;
        self.give_back();
    }

    /// Every live record, in no order that means anything.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let pages = self.pages.len();
        let small = self.pages.iter().enumerate().flat_map(move |(number, page)| {
            let end = if number + 1 == pages { self.used } else { UNITS_A_PAGE };
            PageRecords { page, at: 0, end: end as usize * UNIT }
        });
        small.chain(self.large.iter().flatten().map(|record| &record[..]))
    }

    fn insert_large(&mut self, record: &[u8]) -> Slot {
        self.bytes += record.len();
        let record = Some(record.into());
        if let Some(at) = self.large_free.pop() {
            self.large[at as usize] = record;
            return at | LARGE;
        }
        self.large.push(record);
        (self.large.len() - 1) as u32 | LARGE
    }

    fn take_free(&mut self, units: usize) -> Option<Slot> {
        let slot = *self.free.get(units)?;
        if slot == NONE {
            return None;
        }
        let (page, at) = place(slot);
        self.free[units] = header(&self.pages[page], at + HEADER);
        Some(slot)
    }

    fn extend(&mut self, units: usize) -> Slot {
        let units = units as u32;
        if self.pages.is_empty() || self.used + units > UNITS_A_PAGE {
            self.pages.push(vec![0; PAGE_BYTES].into_boxed_slice());
            self.used = 0;
        }
        let slot = (self.pages.len() as u32 - 1) * UNITS_A_PAGE + self.used;
        self.used += units;
        slot
    }

    /// An arena that holds nothing gives all its pages back.
    fn give_back(&mut self) {
        if self.bytes == 0 {
            *self = Self::default();
        }
    }

    fn fill(&mut self, slot: Slot, record: &[u8]) {
        let (page, at) = place(slot);
        set_header(&mut self.pages[page], at, record.len() as u32);
        self.pages[page][at + HEADER..at + HEADER + record.len()].copy_from_slice(record);
    }
}

struct PageRecords<'p> {
    page: &'p [u8],
    at: usize,
    end: usize,
}

impl<'p> Iterator for PageRecords<'p> {
    type Item = &'p [u8];

    fn next(&mut self) -> Option<&'p [u8]> {
        while self.at + HEADER <= self.end {
            let raw = header(self.page, self.at);
            let len = (raw & !FREE) as usize;
            if raw == 0 {
                return None; // The unused end of a page: a record is never empty.
            }
            let start = self.at + HEADER;
            self.at += units_of(len) * UNIT;
            if raw & FREE == 0 {
                return Some(&self.page[start..start + len]);
            }
        }
        None
    }
}

/// Units of a record of `len` bytes; at least one, which also holds a free place's link.
fn units_of(len: usize) -> usize {
    (len + HEADER).div_ceil(UNIT)
}

fn place(slot: Slot) -> (usize, usize) {
    ((slot / UNITS_A_PAGE) as usize, (slot % UNITS_A_PAGE) as usize * UNIT)
}

fn header(page: &[u8], at: usize) -> u32 {
    let mut bytes = [0u8; HEADER];
    bytes.copy_from_slice(&page[at..at + HEADER]);
    u32::from_le_bytes(bytes)
}

fn set_header(page: &mut [u8], at: usize, value: u32) {
    page[at..at + HEADER].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(usize),
        Replace(usize, usize),
        Remove(usize),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let len = prop_oneof![8 => 1usize..300, 1 => 4_000usize..5_000];
        let op = prop_oneof![
            len.clone().prop_map(Op::Insert),
            (any::<usize>(), len).prop_map(|(which, len)| Op::Replace(which, len)),
            any::<usize>().prop_map(Op::Remove),
        ];
        prop::collection::vec(op, 1..300)
    }

    proptest! {
        /// Against a plain map: what was put in is what is there, and a walk meets each record once.
        #[test]
        fn holds_what_was_put_in(ops in ops()) {
            let mut arena = Arena::default();
            let mut model: BTreeMap<Slot, Vec<u8>> = BTreeMap::new();
            let mut fresh = 0u8;
            let mut make = |len: usize| { fresh = fresh.wrapping_add(1); vec![fresh; len] };
            for op in ops {
                let pick = |which: usize, model: &BTreeMap<Slot, Vec<u8>>| {
                    model.keys().nth(which % model.len().max(1)).copied()
                };
                match op {
                    Op::Insert(len) => {
                        let record = make(len);
                        prop_assert!(model.insert(arena.insert(&record), record).is_none());
                    }
                    Op::Replace(which, len) => if let Some(slot) = pick(which, &model) {
                        let record = make(len);
                        model.remove(&slot);
                        prop_assert!(model.insert(arena.replace(slot, &record), record).is_none());
                    },
                    Op::Remove(which) => if let Some(slot) = pick(which, &model) {
                        model.remove(&slot);
                        arena.remove(slot);
                    },
                }
            }
            for (slot, record) in &model {
                prop_assert_eq!(arena.get(*slot), &record[..]);
            }
            let mut walked: Vec<&[u8]> = arena.records().collect();
            let mut expected: Vec<&[u8]> = model.values().map(|record| &record[..]).collect();
            walked.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(walked, expected);
        }
    }
}
