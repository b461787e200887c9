//! One shard's records, packed into pages: an index entry is then 16 bytes and a record costs its own
//! bytes, a 4-byte header and at most 15 bytes of rounding.
//!
//! Records up to [`SMALL_MAX`] live in pages in units of 16 bytes. The first pages of a shard are small,
//! so that a thousand shards with few keys do not hold 16 MiB. A free place is kept in the list of its
//! size, threaded both ways through the free places themselves, so that a page can be taken out of all
//! lists at once. Larger records are boxed one by one. Pages can be walked from end to end, which is what
//! sweeping and scanning do instead of keeping an expiry index a key.
//!
//! What is held counts against a bound (S6), so memory that keys have left must come back: an empty page
//! is given back at once, and a page that has become sparse is closed and emptied by its owner
//! ([`Arena::close_sparsest`], [`Arena::relocate`]), who alone knows which index entry names a record.
//!
//! Rejected: a `Box` a record (24 to 32 bytes more each), one growing `Vec` a shard (moves everything
//! when it grows: a stall, and twice the memory), counting only what lives (fragments would let the
//! process grow past its bound), counting what is allocated without giving pages back (a bound once
//! reached by small records would refuse larger ones for ever).
//!
//! Must never: move a record but when it is replaced or relocated.

mod place;

#[cfg(test)]
mod tests;

use place::{FREE, HEADER, NONE, Page, PageRecords, UNIT, units_of};

/// Longest record kept in a page, in bytes.
const SMALL_MAX: usize = 4 * 1024;
/// Units of a full-grown page: 16 KiB.
const PAGE_UNITS_MAX: u32 = 1024;
/// Units of a shard's first page, 1 KiB; each one after it has twice as many, up to the maximum.
const PAGE_UNITS_MIN: u32 = 64;
const LARGE: u32 = 1 << 31;
/// What the allocator adds to every page and boxed record, in bytes.
const BOX_OVERHEAD: usize = 16;
/// Bytes beyond a quarter that may stay unused in a shard: below it, moving records would gain nothing.
const UNUSED_SLACK: usize = 1024;

/// Where a record lives; changes only when the record is replaced or relocated.
pub(super) type Slot = u32;

/// A page that is being emptied, by its number.
pub(super) type Closing = u32;

#[derive(Debug, Default)]
pub(super) struct Arena {
    pages: Vec<Page>,
    /// The page that is being filled.
    open: Option<u32>,
    /// Numbers of pages that were given back.
    vacant: Vec<u32>,
    /// Heads of the lists of free places, by their units.
    free: Vec<u32>,
    /// Places in these lists. Mostly none: then nobody looks at the heads, which lie elsewhere in memory.
    free_places: u32,
    large: Vec<Option<Box<[u8]>>>,
    large_free: Vec<u32>,
    /// Bytes of all pages, free places and unused ends included.
    page_bytes: usize,
    /// Bytes of the places of records in pages.
    small_live: usize,
    large_live: usize,
}

impl Arena {
    /// Bytes of the living records: their places in pages, and boxed ones.
    pub(super) fn live(&self) -> usize {
        self.small_live + self.large_live
    }

    /// Bytes held from the allocator, free places included.
    pub(super) fn held(&self) -> usize {
        let large = self.large.len() - self.large_free.len();
        self.page_bytes + self.large_live + large * BOX_OVERHEAD
    }

    /// Bytes of the tables that find pages, boxes and free places; not in [`Self::held`], because they grow in
    /// steps that no single record is to blame for.
    pub(super) fn tables(&self) -> usize {
        self.pages.capacity() * size_of::<Page>()
            + self.large.capacity() * size_of::<Option<Box<[u8]>>>()
            + (self.vacant.capacity() + self.free.capacity() + self.large_free.capacity()) * size_of::<u32>()
    }

    /// Bytes of pages that no record uses.
    pub(super) fn unused(&self) -> usize {
        self.page_bytes.saturating_sub(self.small_live)
    }

    /// Bytes that a record of `len` bytes takes.
    pub(super) const fn cost(len: usize) -> usize {
        if len > SMALL_MAX { len } else { units_of(len) * UNIT }
    }

    /// Whether a record of `len` bytes fits without another page or box.
    pub(super) fn has_room(&self, len: usize) -> bool {
        if len > SMALL_MAX {
            return false;
        }
        let units = units_of(len);
        let open = self.open.is_some_and(|open| self.pages[open as usize].room() as usize >= units);
        open || self.free_places > 0 && self.free.iter().skip(units).any(|head| *head != NONE)
    }

    /// Stores `record` and says where.
    pub(super) fn insert(&mut self, record: &[u8]) -> Slot {
        if record.len() > SMALL_MAX {
            return self.insert_large(record);
        }
        let units = units_of(record.len());
        let slot = self
            .take_free(units)
            .or_else(|| self.extend(units))
            .or_else(|| self.split_larger(units))
            .unwrap_or_else(|| self.open_page(units));
        let (page, at) = place(slot);
        self.pages[page].live += units as u32;
        self.small_live += units * UNIT;
        self.pages[page].fill(at, record);
        slot
    }

    /// The record at `slot`.
    pub(super) fn get(&self, slot: Slot) -> &[u8] {
        if slot & LARGE != 0 {
            return self.large[(slot & !LARGE) as usize].as_deref().expect("slots name live records");
        }
        let (page, at) = place(slot);
        self.pages[page].record(at)
    }

    /// Stores `record` in place of the one at `slot`, in the same place where it fits.
    pub(super) fn replace(&mut self, slot: Slot, record: &[u8]) -> Slot {
        if slot & LARGE == 0 && record.len() <= SMALL_MAX {
            let old = self.get(slot).len();
            if units_of(old) == units_of(record.len()) {
                let (page, at) = place(slot);
                self.pages[page].fill(at, record);
                return slot;
            }
        }
        // In this order: a page's only record that grows would else free the page and take a new one.
        let moved = self.insert(record);
        self.remove(slot);
        moved
    }

    /// Frees the record at `slot`.
    pub(super) fn remove(&mut self, slot: Slot) {
        if slot & LARGE != 0 {
            let at = slot & !LARGE;
            if let Some(record) = self.large[at as usize].take() {
                self.large_live -= record.len();
                self.large_free.push(at);
            }
            return;
        }
        let (number, at) = place(slot);
        let page = &mut self.pages[number];
        let units = units_of(page.record(at).len());
        page.live -= units as u32;
        self.small_live -= units * UNIT;
        let (is_empty, closing) = (page.live == 0, page.closing);
        page.set_header(at, page.header(at) | FREE);
        if is_empty {
            // The place itself is in no list yet.
            self.give_back(number as u32, slot);
        } else if !closing {
            self.link(slot, units);
        }
    }

    /// Every live record, in no order that means anything.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let small = self.pages.iter().flat_map(PageRecords::of);
        small.chain(self.large.iter().flatten().map(|record| &record[..]))
    }

    /// The sparsest page, closed to new records, if so much is unused that emptying it is worth the moves.
    pub(super) fn close_sparsest(&mut self) -> Option<Closing> {
        let unused = self.unused();
        if unused <= self.page_bytes / 4 + UNUSED_SLACK {
            return None;
        }
        let usable = self.pages.iter().zip(0u32..).filter(|(page, number)| {
            let sparse = page.live * 4 <= page.units() * 3;
            // The others must be able to take what is in it, or the shard would never come to rest.
            let fits = page.units() as usize * UNIT <= unused;
            sparse && fits && page.live > 0 && !page.closing && Some(*number) != self.open
        });
        let (_, number) =
            usable.min_by_key(|(page, _)| u64::from(page.live) * 4096 / u64::from(page.units()))?;
        self.unlink_all(number, NONE);
        self.pages[number as usize].closing = true;
        Some(number)
    }

    /// The records of a closing page.
    pub(super) fn records_of(&self, closing: Closing) -> impl Iterator<Item = &[u8]> {
        self.pages.get(closing as usize).into_iter().flat_map(PageRecords::of)
    }

    /// Whether `slot` is in a page that is being emptied.
    pub(super) fn is_closing(&self, slot: Slot) -> bool {
        slot & LARGE == 0 && self.pages[place(slot).0].closing
    }

    /// Moves the record at `slot` to another page.
    pub(super) fn relocate(&mut self, slot: Slot) -> Slot {
        let record = self.get(slot).to_vec();
        let moved = self.insert(&record);
        self.remove(slot);
        moved
    }

    fn insert_large(&mut self, record: &[u8]) -> Slot {
        self.large_live += record.len();
        let record = Some(record.into());
        if let Some(at) = self.large_free.pop() {
            self.large[at as usize] = record;
            return at | LARGE;
        }
        self.large.push(record);
        (self.large.len() - 1) as u32 | LARGE
    }

    /// A free place of exactly so many units.
    fn take_free(&mut self, units: usize) -> Option<Slot> {
        if self.free_places == 0 {
            return None;
        }
        let slot = *self.free.get(units)?;
        if slot == NONE {
            return None;
        }
        self.unlink(slot);
        Some(slot)
    }

    /// The beginning of a larger free place; its rest stays free.
    fn split_larger(&mut self, units: usize) -> Option<Slot> {
        let larger = units + 1 + self.free.iter().skip(units + 1).position(|head| *head != NONE)?;
        let slot = self.take_free(larger)?;
        self.make_free(slot + units as u32, larger - units);
        Some(slot)
    }

    /// The next units of the open page.
    fn extend(&mut self, units: usize) -> Option<Slot> {
        let number = self.open?;
        let page = &mut self.pages[number as usize];
        if (page.room() as usize) < units {
            return None;
        }
        let slot = number * PAGE_UNITS_MAX + page.used;
        page.used += units as u32;
        Some(slot)
    }

    /// The first units of a new page; what was left of the open one becomes a free place.
    fn open_page(&mut self, units: usize) -> Slot {
        if let Some(open) = self.open.take() {
            let page = &mut self.pages[open as usize];
            let (slot, rest) = (open * PAGE_UNITS_MAX + page.used, page.room() as usize);
            page.used = page.units();
            if rest > 0 {
                self.make_free(slot, rest);
            }
        }
        let in_use = (self.pages.len() - self.vacant.len()).min(16) as u32;
        let size = (PAGE_UNITS_MIN << in_use).min(PAGE_UNITS_MAX).max(units as u32);
        let page = Page::new(size);
        self.page_bytes += page.bytes.len() + BOX_OVERHEAD;
        let number = match self.vacant.pop() {
            Some(number) => {
                self.pages[number as usize] = page;
                number
            }
            None => {
                self.pages.push(page);
                self.pages.len() as u32 - 1
            }
        };
        self.open = Some(number);
        self.pages[number as usize].used = units as u32;
        number * PAGE_UNITS_MAX
    }

    /// Gives an empty page back to the allocator. `loose` is in no list.
    fn give_back(&mut self, number: u32, loose: Slot) {
        if !self.pages[number as usize].closing {
            self.unlink_all(number, loose);
        }
        let page = std::mem::take(&mut self.pages[number as usize]);
        self.page_bytes -= page.bytes.len() + BOX_OVERHEAD;
        self.vacant.push(number);
        if self.open == Some(number) {
            self.open = None;
        }
        if self.page_bytes == 0 && self.large_live == 0 {
            *self = Self::default();
        }
    }

    /// Takes a page's free places but `loose` out of their lists.
    fn unlink_all(&mut self, number: u32, loose: Slot) {
        let mut at = 0;
        while at < self.pages[number as usize].used {
            let slot = number * PAGE_UNITS_MAX + at;
            let raw = self.pages[number as usize].header(at as usize * UNIT);
            if raw & FREE != 0 && slot != loose {
                self.unlink(slot);
            }
            at += units_of((raw & !FREE) as usize) as u32;
        }
    }

    /// Marks so many units as a free place and lists it.
    fn make_free(&mut self, slot: Slot, units: usize) {
        let (page, at) = place(slot);
        self.pages[page].set_header(at, (units * UNIT - HEADER) as u32 | FREE);
        self.link(slot, units);
    }

    fn link(&mut self, slot: Slot, units: usize) {
        self.free_places += 1;
        if self.free.len() <= units {
            self.free.resize(units + 1, NONE);
        }
        let head = std::mem::replace(&mut self.free[units], slot);
        self.page_mut(slot, |page, at| page.set_links(at, head, NONE));
        if head != NONE {
            self.page_mut(head, |page, at| page.set_links(at, page.next(at), slot));
        }
    }

    fn unlink(&mut self, slot: Slot) {
        self.free_places -= 1;
        let (page, at) = place(slot);
        let page = &self.pages[page];
        let (next, previous) = (page.next(at), page.previous(at));
        let units = units_of((page.header(at) & !FREE) as usize);
        if previous == NONE {
            self.free[units] = next;
        } else {
            self.page_mut(previous, |page, at| page.set_links(at, next, page.previous(at)));
        }
        if next != NONE {
            self.page_mut(next, |page, at| page.set_links(at, page.next(at), previous));
        }
    }

    fn page_mut(&mut self, slot: Slot, change: impl FnOnce(&mut Page, usize)) {
        let (page, at) = place(slot);
        change(&mut self.pages[page], at);
    }
}

/// Page and byte of a slot.
fn place(slot: Slot) -> (usize, usize) {
    ((slot / PAGE_UNITS_MAX) as usize, (slot % PAGE_UNITS_MAX) as usize * UNIT)
}
