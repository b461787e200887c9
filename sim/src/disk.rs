//! One region's disk: log segments as bytes, with "the kernel has it" and "the disk has it" kept apart.
//!
//! A process crash keeps everything that was written. A power loss keeps what was synced, and of the
//! rest a random beginning whose last bytes may be torn: that is what ext4 on a real disk leaves
//! (S6). Which records were whole in what is left is for the recovery under test to find out.
//!
//! Must never: know what a record is; bytes and positions only.

use crate::random::Dice;

/// One segment file.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    bytes: Vec<u8>,
    synced: usize,
}

impl Segment {
    /// What a reader of the file sees.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The files of one region.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    segments: Vec<Segment>,
    /// Segments ever begun, and of these deleted: a segment's number is its place in that order.
    begun: u64,
    deleted: u64,
}

/// What was written when a sync started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    number: u64,
    bytes: usize,
}

/// What a power loss did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loss {
    /// Bytes that were written and are gone.
    pub lost_bytes: usize,
    /// The last bytes that were kept are damaged.
    pub torn: bool,
}

impl Disk {
    /// Starts a new segment with `header`; later writes go there.
    pub fn begin_segment(&mut self, header: &[u8]) {
        self.begun += 1;
        self.segments.push(Segment { bytes: header.to_vec(), synced: 0 });
    }

    /// `write(2)` at the end of the last segment.
    pub fn write(&mut self, bytes: &[u8]) {
        let last = self.segments.last_mut().expect("a segment is begun before anything is written");
        last.bytes.extend_from_slice(bytes);
    }

    /// What a sync that starts now is going to cover.
    pub fn mark(&self) -> Mark {
        Mark { number: self.begun, bytes: self.last_segment_bytes() }
    }

    /// An `fdatasync(2)` that started at `mark` has returned: what was written meanwhile is not covered.
    pub fn sync_to(&mut self, mark: &Mark) {
        // Segments deleted since the mark were the oldest.
        let deleted = self.deleted;
        for (at, segment) in self.segments.iter_mut().enumerate() {
            let number = deleted + at as u64 + 1;
            if number < mark.number {
                segment.synced = segment.bytes.len();
            } else if number == mark.number {
                segment.synced = segment.synced.max(mark.bytes.min(segment.bytes.len()));
            }
        }
    }

    /// `fdatasync(2)` of everything written so far.
    pub fn sync(&mut self) {
        self.sync_to(&self.mark());
    }

    /// Bytes of the last segment, to decide when to begin the next.
    pub fn last_segment_bytes(&self) -> usize {
        self.segments.last().map_or(0, |segment| segment.bytes.len())
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// `unlink(2)` of the oldest segment.
    pub fn delete_oldest(&mut self) {
        self.segments.remove(0);
        self.deleted += 1;
    }

    /// Cuts segment `at` to its first `len` bytes, as a recovery does with a torn tail.
    pub fn truncate(&mut self, at: usize, len: usize) {
        let segment = &mut self.segments[at];
        segment.bytes.truncate(len);
        segment.synced = segment.synced.min(len);
    }

    /// The disk is replaced by an empty one.
    pub fn lose_everything(&mut self) {
        *self = Self::default();
    }

    /// The power fails.
    pub fn power_loss(&mut self, dice: &mut Dice) -> Loss {
        let mut loss = Loss::default();
        let mut gone = false;
        for segment in &mut self.segments {
            let unsynced = segment.bytes.len() - segment.synced;
            let kept = if gone || unsynced == 0 { 0 } else { dice.below(unsynced as u64 + 1) as usize };
            // Files are extended in order: once one lost something, later ones keep nothing unsynced.
            gone |= kept < unsynced;
            loss.lost_bytes += unsynced - kept;
            segment.bytes.truncate(segment.synced + kept);
            let torn = (dice.below(16) as usize).min(kept);
            if torn > 0 && dice.chance(500) {
                loss.torn = true;
                let from = segment.bytes.len() - torn;
                segment.bytes[from..].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
        self.segments.retain(|segment| !segment.bytes.is_empty());
        self.begun = self.deleted + self.segments.len() as u64;
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn a_power_loss_keeps_what_was_synced_and_a_beginning_of_the_rest() {
        let mut dice = Dice::new(3, Stream::Disk, 0);
        let (mut shortened, mut torn) = (false, false);
        for _ in 0..200 {
            let mut disk = Disk::default();
            disk.begin_segment(b"head");
            disk.write(b"first");
            disk.sync();
            disk.write(&[1; 40]);
            let loss = disk.power_loss(&mut dice);
            let bytes = disk.segments()[0].bytes();
            assert!(bytes.starts_with(b"headfirst"), "synced bytes survive untouched");
            assert_eq!(bytes.len() + loss.lost_bytes, 9 + 40);
            shortened |= loss.lost_bytes > 0;
            torn |= loss.torn;
        }
        assert!(shortened && torn);
    }

    #[test]
    fn a_sync_covers_what_was_written_when_it_started() {
        let mut dice = Dice::new(3, Stream::Disk, 1);
        let mut disk = Disk::default();
        disk.begin_segment(b"old");
        disk.begin_segment(b"head");
        disk.write(b"before");
        let mark = disk.mark();
        disk.write(b"after");
        disk.begin_segment(b"next");
        disk.delete_oldest();
        disk.sync_to(&mark);
        let mut shortest = usize::MAX;
        for _ in 0..100 {
            let mut disk = disk.clone();
            disk.power_loss(&mut dice);
            assert!(disk.segments()[0].bytes().starts_with(b"headbefore"));
            shortest = shortest.min(disk.segments()[0].bytes().len());
        }
        assert_eq!(shortest, b"headbefore".len(), "what came after the start of the sync can be lost");
    }

    #[test]
    fn a_segment_that_was_never_synced_may_vanish_and_later_ones_go_with_it() {
        let mut dice = Dice::new(4, Stream::Disk, 0);
        for _ in 0..100 {
            let mut disk = Disk::default();
            disk.begin_segment(&[7; 64]);
            disk.sync();
            disk.begin_segment(&[8; 64]);
            disk.begin_segment(&[9; 64]);
            disk.power_loss(&mut dice);
            let lens: Vec<usize> = disk.segments().iter().map(|s| s.bytes().len()).collect();
            assert_eq!(lens[0], 64);
            assert!(lens.len() < 3 || lens[1] == 64, "bytes of a later file without those of an earlier");
        }
    }
}
