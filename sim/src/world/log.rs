//! One region's log as files: what the daemon's log does with them, call by call and in its order.
//!
//! A segment comes from a reserve of files that are allocated ahead, gets its header, is synced, renamed and
//! its folder synced, before a record is written to it. Closing one syncs nothing: its file stays among those
//! that the next sync covers.
//!
//! Must never: know what is in a record.

use crdt::journal::{self, HEADER_BYTES, SegmentHeader};
use crdt::snapshot::Manifest;
use crdt::store::{Batch, Store};

use super::covering::spare_manifest;
use super::reserve::{PREPARED, RESERVE, Reserve, Spare};
use crate::disk::{Disk, Fail, FileId, Mark};
use crate::oracle::facts::{Lsn, Millis};
use crate::replica::start::{Closed, SEGMENT};
use crate::scenario::Scenario;

/// The segment that is written.
#[derive(Debug)]
struct Current {
    file: FileId,
    capacity: usize,
    segment: Closed,
}

impl Current {
    /// Gives a prepared segment its header and its name; both are durable before a record is.
    fn begin(disk: &mut Disk, spare: Spare, header: &SegmentHeader) -> Result<Self, Fail> {
        let Spare { name: prepared, file, capacity } = spare;
        let name = format!("{:020}-{:08}{SEGMENT}", header.first_lsn, header.epoch.0);
        disk.write_at(file, 0, &header.encode())?;
        disk.sync(file)?;
        disk.rename(&prepared, &name)?;
        disk.sync_folder()?;
        let (first_lsn, created_ms) = (header.first_lsn, header.created_ms);
        let segment = Closed { name, first_lsn, last_lsn: first_lsn - 1, created_ms, end: HEADER_BYTES };
        Ok(Self { file, capacity, segment })
    }

    const fn left(&self) -> usize {
        self.capacity.saturating_sub(self.segment.end)
    }

    const fn has_records(&self) -> bool {
        self.segment.last_lsn >= self.segment.first_lsn
    }
}

/// A batch on its way to the disk; it may go to more than one segment.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) batch: Batch,
    written: usize,
    next_lsn: Lsn,
}

impl UnderWay {
    pub(super) const fn new(batch: Batch) -> Self {
        let next_lsn = batch.first;
        Self { batch, written: 0, next_lsn }
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Log {
    current: Current,
    pub(super) closed: Vec<Closed>,
    /// What runs cover, as on disk.
    pub(super) manifest: Manifest,
    pub(super) reserve: Reserve,
    /// Files that may hold bytes which are not synced, oldest first; the last is being written.
    unsynced: Vec<FileId>,
    header: SegmentHeader,
}

/// What a start found, for the log that it begins.
pub(super) struct Begin<'s> {
    pub(super) closed: Vec<Closed>,
    pub(super) manifest: Manifest,
    pub(super) to_settle: &'s [(String, usize)],
    pub(super) leftovers: &'s [String],
    pub(super) header: SegmentHeader,
}

impl Log {
    /// What a start does once recovery has found everything good: the old segments are cut to their records
    /// and synced, what does not count is removed, and a new segment is begun.
    pub(super) fn start(disk: &mut Disk, begin: Begin<'_>, scenario: &Scenario) -> Result<Self, Fail> {
        let Begin { mut closed, manifest, to_settle, leftovers, header } = begin;
        for (name, unmarked) in to_settle {
            let Some(segment) = closed.iter().find(|segment| segment.name == *name) else { continue };
            settle(disk, segment, *unmarked)?;
        }
        leftovers.iter().try_for_each(|name| disk.unlink(name))?;
        if !leftovers.is_empty() {
            // What stood behind a torn tail must not come back beside the segment that takes its place.
            disk.sync_folder()?;
        }
        let mut spares = Vec::new();
        let unfinished: Vec<String> =
            disk.list().filter(|name| name.ends_with(PREPARED)).map(str::to_owned).collect();
        for name in unfinished {
            if name.starts_with(RESERVE) { spares.push(name) } else { disk.unlink(&name)? }
        }
        let mut reserve = Reserve::adopt(disk, spares, scenario)?;
        let first = reserve.take_first(disk)?;
        let current = Current::begin(disk, first, &header)?;
        // A start that wrote nothing leaves a segment without records: its number is this start's, too. It goes once that
        // has begun, as the daemon has it: without both, a power loss would have the next start take its epoch again.
        let empty = |s: &Closed| s.first_lsn == header.first_lsn && s.last_lsn < s.first_lsn;
        closed.iter().filter(|segment| empty(segment)).try_for_each(|segment| disk.unlink(&segment.name))?;
        closed.retain(|segment| !empty(segment));
        reserve.fill(disk)?;
        spare_manifest(disk)?;
        let unsynced = vec![current.file];
        Ok(Self { current, closed, manifest, reserve, unsynced, header })
    }

    fn begin_next(
        &mut self,
        disk: &mut Disk,
        bytes: usize,
        first_lsn: Lsn,
        wall: Millis,
    ) -> Result<(), Fail> {
        let header = SegmentHeader { first_lsn, created_ms: wall, ..self.header };
        let spare = self.reserve.take(disk, bytes)?;
        let next = Current::begin(disk, spare, &header)?;
        self.unsynced.push(next.file);
        self.closed.push(std::mem::replace(&mut self.current, next).segment);
        Ok(())
    }

    /// Fills segment after segment with whole records; whether a segment was begun.
    pub(super) fn write(&mut self, disk: &mut Disk, way: &mut UnderWay, wall: Millis) -> Result<bool, Fail> {
        let mut rotated = false;
        while way.written < way.batch.bytes.len() {
            let rest = &way.batch.bytes[way.written..];
            let (mut bytes, mut records) = journal::fitting(rest, self.current.left());
            if records == 0 && self.current.has_records() {
                self.begin_next(disk, journal::first(rest).0, way.next_lsn, wall)?;
                rotated = true;
                continue;
            }
            if records == 0 {
                // Larger than a whole segment: its file grows.
                (bytes, records) = journal::first(rest);
            }
            let Current { file, segment, .. } = &mut self.current;
            disk.write_at(*file, segment.end, &rest[..bytes])?;
            segment.end += bytes;
            segment.last_lsn = way.next_lsn + records - 1;
            way.written += bytes;
            way.next_lsn += records;
        }
        Ok(rotated)
    }

    /// Begins a new segment if the current one is older than `age` and has records; whether it did.
    pub(super) fn rotate_aged(&mut self, disk: &mut Disk, wall: Millis, age: Millis) -> Result<bool, Fail> {
        let segment = &self.current.segment;
        if wall.saturating_sub(segment.created_ms) <= age || !self.current.has_records() {
            return Ok(false);
        }
        match self.begin_next(disk, 0, segment.last_lsn + 1, wall) {
            Ok(()) => Ok(true),
            Err(Fail::Full) => Ok(false),
            Err(fail) => Err(fail),
        }
    }

    /// Tells the store what the files still take; nothing is under way, or nothing can be written.
    pub(super) fn report_room(&self, store: &Store, stuck: bool) {
        if stuck {
            store.report_room([], true);
            return;
        }
        let lefts = std::iter::once(self.current.left() as u64).chain(self.reserve.lefts());
        store.report_room(lefts, self.reserve.refused);
    }

    /// What a sync that starts now covers.
    pub(super) fn marks(&self, disk: &Disk) -> Vec<Mark> {
        self.unsynced.iter().map(|file| disk.mark(*file)).collect()
    }

    /// The sync that started at `marks` returns.
    pub(super) fn sync_to(&mut self, disk: &mut Disk, marks: &[Mark]) -> Result<(), Fail> {
        marks.iter().try_for_each(|mark| disk.sync_to(*mark))?;
        // The last one was being written when the sync started.
        let done = marks.split_last().map_or(&[][..], |(_, done)| done);
        self.unsynced.retain(|file| !done.iter().any(|mark| mark.file() == *file));
        Ok(())
    }

    /// The segment with record `from`, or the first one after it.
    pub(super) fn segment_of(&self, from: Lsn) -> Option<&Closed> {
        let found = self.closed.iter().find(|segment| segment.last_lsn >= from);
        found.or(Some(&self.current.segment)).filter(|segment| segment.last_lsn >= from)
    }

    /// The first record that the log still has.
    pub(super) fn first_lsn(&self) -> Lsn {
        self.closed.first().unwrap_or(&self.current.segment).first_lsn
    }

    /// When the segment that holds record `lsn` was begun, Unix ms.
    pub(super) fn created_ms_of(&self, lsn: Lsn) -> Millis {
        let closed = self.closed.iter().find(|segment| segment.last_lsn >= lsn);
        closed.unwrap_or(&self.current.segment).created_ms
    }
}

/// Cuts a segment of an earlier start to its records and syncs it.
fn settle(disk: &mut Disk, segment: &Closed, unmarked: usize) -> Result<(), Fail> {
    let file = disk.open(&segment.name).ok_or(Fail::Io)?;
    let bytes = disk.read_to(&segment.name, segment.end).unwrap_or_default();
    let len = disk.len_of(&segment.name).unwrap_or(0);
    if unmarked < segment.end {
        // After a failed sync the kernel may show what the disk never got, and call it clean: only what is
        // written again is synced again.
        let again = bytes[unmarked..segment.end].to_vec();
        disk.write_at(file, unmarked, &again)?;
    }
    if segment.end < len {
        disk.set_len(file, segment.end)?;
    }
    disk.sync(file)
}
