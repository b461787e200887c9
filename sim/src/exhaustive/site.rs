//! One region of a small world: a replica and the disk on which its log is, written and synced as soon as anything is
//! appended.
//!
//! Must never: lose a byte; what disks lose is for the swarm.

use crdt::journal::SegmentHeader;
use crdt::node::LogRead;

use crate::disk::{Disk, FileId};
use crate::oracle::facts::{Lsn, Millis};
use crate::random::{Dice, Stream};
use crate::replica::start::SEGMENT;
use crate::replica::{Replica, Started, read_log};
use crate::scenario::Scenario;

/// The boot of its machine, which never fails.
const BOOT: u64 = 1;
/// Bytes that one read of the log brings.
const READ_BYTES: usize = 64 * 1024;

/// See the module's text.
pub(super) struct Site {
    pub(super) replica: Replica,
    disk: Disk,
    /// Each start's segment: its name, its first record, where its bytes end.
    segments: Vec<(String, Lsn, usize)>,
    file: FileId,
    pub(super) epoch: u32,
}

impl Site {
    /// A region without data starts; `Err`: why it cannot.
    pub(super) fn new(scenario: &Scenario, index: usize, wall: Millis) -> Result<Self, String> {
        let disk = Disk::new(Dice::new(scenario.seed, Stream::Platter, index as u64));
        Self::start(scenario, index, disk, Vec::new(), wall)
    }

    /// The process is killed and starts again.
    pub(super) fn restart(self, scenario: &Scenario, index: usize, wall: Millis) -> Result<Self, String> {
        Self::start(scenario, index, self.disk, self.segments, wall)
    }

    fn start(
        scenario: &Scenario,
        index: usize,
        mut disk: Disk,
        mut segments: Vec<(String, Lsn, usize)>,
        wall: Millis,
    ) -> Result<Self, String> {
        let started = Replica::start(scenario, index, 0, (&disk, BOOT), wall);
        let Started { replica, header, .. } = started.map_err(|damage| damage.to_string())?;
        let file = begin_segment(&mut disk, &header, &mut segments).map_err(|fail| format!("{fail:?}"))?;
        let mut site = Self { replica, disk, segments, file, epoch: header.epoch.0 };
        site.flush();
        Ok(site)
    }

    /// Writes and syncs what waits; whether there was anything.
    pub(super) fn flush(&mut self) -> bool {
        let mut any = false;
        let tail = self.replica.store().tail();
        while let Some(batch) = tail.take(Vec::new()) {
            let Some((_, _, end)) = self.segments.last_mut() else { break };
            let written = self.disk.write_at(self.file, *end, &batch.bytes);
            assert!(written.is_ok(), "this disk takes everything");
            *end += batch.bytes.len();
            tail.mark_written(batch);
            any = true;
        }
        if any {
            let synced = self.disk.sync(self.file);
            assert!(synced.is_ok(), "this disk keeps everything");
            tail.mark_synced(tail.written());
            self.replica.store().settle_ceiling();
        }
        any
    }

    /// Answers what the replica wants to read of its own log.
    pub(super) fn read(&mut self) {
        while let Some(request) = self.replica.poll_read() {
            let from = request.from;
            let at = self.segments.iter().rposition(|(_, first, _)| *first <= from);
            let read = at.and_then(|at| {
                let (name, first, end) = &self.segments[at];
                let next = self.segments.get(at + 1).map(|(_, next, _)| next - 1);
                let last = next.unwrap_or_else(|| self.replica.store().tail().written());
                let bytes = self.disk.read(name)?;
                read_log(&bytes[..*end], *first, from, last, READ_BYTES)
            });
            self.replica.read_done(request, read.unwrap_or(LogRead::StartsAt(from)));
        }
    }

    /// The last record that the disk has.
    pub(super) fn written(&self) -> Lsn {
        self.replica.store().tail().written()
    }
}

fn begin_segment(
    disk: &mut Disk,
    header: &SegmentHeader,
    segments: &mut Vec<(String, Lsn, usize)>,
) -> Result<FileId, crate::disk::Fail> {
    let name = format!("{:020}-{:08}{SEGMENT}", header.first_lsn, header.epoch.0);
    let file = disk.create(&name)?;
    let bytes = header.encode();
    disk.write_at(file, 0, &bytes)?;
    disk.sync(file)?;
    disk.sync_folder()?;
    segments.push((name, header.first_lsn, bytes.len()));
    Ok(file)
}
