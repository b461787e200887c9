//! Files that a region's log has allocated ahead, as the daemon keeps them: one segment ready beyond a
//! reserve that is used only when the disk gives no more.
//!
//! Must never: be needed while the disk has room.

use std::collections::VecDeque;

use crdt::journal::HEADER_BYTES;

use crate::disk::{Disk, Fail, FileId};
use crate::scenario::Scenario;

/// File name ending of what is no segment yet.
pub(super) const PREPARED: &str = ".tmp";
/// How the names of whole files of the reserve begin.
pub(super) const RESERVE: &str = "reserve-";

/// A file of the reserve.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) name: String,
    pub(super) file: FileId,
    pub(super) capacity: usize,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Reserve {
    spares: VecDeque<Spare>,
    /// The disk gave no more room when it was last asked.
    pub(super) refused: bool,
    allocated: u64,
    segment_bytes: usize,
    reserve_bytes: usize,
}

impl Reserve {
    /// Takes over what an earlier process has left, and fills up.
    pub(super) fn adopt(disk: &mut Disk, names: Vec<String>, scenario: &Scenario) -> Result<Self, Fail> {
        let number = |name: &str| name.strip_prefix(RESERVE)?.strip_suffix(PREPARED)?.parse::<u64>().ok();
        let mut reserve = Self {
            spares: VecDeque::new(),
            refused: false,
            allocated: names.iter().filter_map(|name| number(name)).max().unwrap_or(0),
            segment_bytes: scenario.segment_bytes,
            reserve_bytes: scenario.reserve_bytes,
        };
        for name in names {
            let (file, capacity) = (disk.open(&name).ok_or(Fail::Io)?, disk.len_of(&name).unwrap_or(0));
            // A power loss may have taken back what was allocated.
            let wanted = capacity > HEADER_BYTES && reserve.bytes() < reserve.target();
            match if wanted { disk.allocate(file, capacity) } else { Err(Fail::Full) } {
                Ok(()) => reserve.spares.push_back(Spare { name, file, capacity }),
                Err(Fail::Full) => disk.unlink(&name)?,
                Err(fail) => return Err(fail),
            }
        }
        reserve.fill(disk)?;
        Ok(reserve)
    }

    const fn target(&self) -> usize {
        self.reserve_bytes + self.segment_bytes
    }

    fn bytes(&self) -> usize {
        self.spares.iter().map(|spare| spare.capacity).sum()
    }

    /// Allocates what is missing, as far as the disk gives it; whether anything is other than before.
    pub(super) fn fill(&mut self, disk: &mut Disk) -> Result<bool, Fail> {
        let before = (self.bytes(), self.refused);
        self.refused = false;
        while self.bytes() < self.target() && !self.refused {
            match self.allocate(disk) {
                Ok(spare) => self.spares.push_back(spare),
                Err(Fail::Full) => self.refused = true,
                Err(fail) => return Err(fail),
            }
        }
        Ok(before != (self.bytes(), self.refused))
    }

    fn allocate(&mut self, disk: &mut Disk) -> Result<Spare, Fail> {
        let capacity = self.segment_bytes;
        if disk.free_bytes() < capacity {
            return Err(Fail::Full);
        }
        self.allocated += 1;
        let preparing = format!("prepare-{}{PREPARED}", self.allocated);
        let name = format!("{RESERVE}{:08}{PREPARED}", self.allocated);
        let file = disk.create(&preparing)?;
        disk.allocate(file, capacity)?;
        disk.rename(&preparing, &name)?;
        Ok(Spare { name, file, capacity })
    }

    /// A file for a segment that begins with a record of `bytes`.
    pub(super) fn take(&mut self, disk: &mut Disk, bytes: usize) -> Result<Spare, Fail> {
        let first = self.spares.front().map_or(0, |spare| spare.capacity);
        if !self.refused && self.bytes() < self.reserve_bytes + first {
            self.fill(disk)?;
        }
        let fits = self.spares.iter().position(|spare| spare.capacity - HEADER_BYTES >= bytes);
        let largest = || (0..self.spares.len()).max_by_key(|at| self.spares[*at].capacity);
        fits.or_else(largest).and_then(|at| self.spares.remove(at)).ok_or(Fail::Full)
    }

    /// A file for the segment that a start begins.
    pub(super) fn take_first(&mut self, disk: &mut Disk) -> Result<Spare, Fail> {
        match self.spares.pop_front() {
            Some(first) => Ok(first),
            None => self.allocate(disk),
        }
    }

    /// What each file takes of records, in bytes.
    pub(super) fn lefts(&self) -> impl Iterator<Item = u64> {
        self.spares.iter().map(|spare| (spare.capacity - HEADER_BYTES) as u64)
    }
}
