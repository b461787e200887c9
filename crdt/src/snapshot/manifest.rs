//! The file that says which runs there are and how far they cover the log. Replaced whole, by a rename.
//!
//! ```text
//! manifest = "oncedchk" version:u16 zeros:u16 len:u32 body[len] crc32c:u32     little-endian
//! body     = Manifest in postcard's encoding; the CRC covers everything before it
//! ```

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, Lsn, RegionId};
use crate::journal::{postcard_onto, sums_up_as, u32_at};
use crate::limits;
use crate::recovery::LogMeta;

/// Version of the manifest format this code writes; the only one it reads.
pub const MANIFEST_VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"oncedchk";
const HEADER_BYTES: usize = 16;

/// One run, as the manifest knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunEntry {
    /// Names the file.
    pub number: u64,
    /// See [`super::class_of`].
    pub class: u8,
    /// Size of the file.
    pub bytes: u64,
    /// States in it.
    pub states: u64,
    /// When the last of them may die, Unix milliseconds, `max_drift` to be added.
    pub dies_at_ms: u64,
}

/// See the module's text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// Whose data.
    pub region: RegionId,
    /// Which cluster.
    pub cluster: [u8; 16],
    /// What the log says besides its entries, up to the last record that the runs cover.
    pub meta: LogMeta,
    /// In the order of their numbers.
    pub runs: Vec<RunEntry>,
    /// Number of the next run.
    pub next_run: u64,
    /// Lives up to this one are over: a start that would go on with one of them takes a new incarnation, because
    /// data may be missing (S6). 0 for none.
    pub over: Incarnation,
}

/// Why bytes are not a manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MalformedManifest {
    /// Not one of our files.
    #[error("not a onced manifest")]
    Magic,
    /// Another version's.
    #[error(
        "manifest format version {found}; this onced reads version {MANIFEST_VERSION}: start it with the onced that wrote it, or a newer one that reads both"
    )]
    Version {
        /// The version it names.
        found: u16,
    },
    /// Damaged.
    #[error("the manifest is damaged (its checksum does not match)")]
    Checksum,
    /// Whole, and yet not what this version writes.
    #[error("the manifest does not decode")]
    Encoding,
}

impl RunEntry {
    /// The name of the run's file.
    pub fn file_name(&self) -> String {
        run_file_name(self.number, self.class)
    }
}

/// The name of a run's file.
pub(super) fn run_file_name(number: u64, class: u8) -> String {
    format!("{number:012}-{class}.run")
}

impl Manifest {
    /// The last record of the log that the runs cover; 0 for none.
    pub fn covers(&self) -> Lsn {
        self.meta.next_lsn.saturating_sub(1)
    }

    /// Bytes of all runs.
    pub fn run_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes).sum()
    }

    /// Takes out, and returns, the runs of which every state is dead at `now_ms`. A key in it may have been
    /// written again while it lived, as a delta that needs the state in the run: so not before the first
    /// record that the runs do not cover is younger than the run's death, and than the sweep that took its keys
    /// out of memory: until then a late delta of a peer gives dead parts another life beside its own.
    /// `uncovered_from_ms` is when that record's segment was begun, `margin_ms` the bound between wall clocks and
    /// the longest time that the sweep takes for a pass.
    pub fn take_dead(&mut self, now_ms: u64, margin_ms: u64, uncovered_from_ms: u64) -> Vec<RunEntry> {
        let dead = |run: &RunEntry| {
            let died_ms = run.dies_at_ms.saturating_add(margin_ms);
            now_ms > died_ms && uncovered_from_ms > died_ms
        };
        let (dead, alive) = self.runs.iter().copied().partition(dead);
        self.runs = alive;
        dead
    }

    /// To be called when a checkpoint or a merge has failed, before the next: the manifest that names its runs may
    /// be in the folder all the same (its rename happened, and the sync of the folder failed), so that these
    /// files must not be written again.
    pub fn skip_runs(&mut self) {
        self.next_run += super::CLASSES as u64;
    }

    /// The manifest's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&MANIFEST_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 6]);
        postcard_onto(self, &mut bytes);
        let len = (bytes.len() - HEADER_BYTES) as u32;
        bytes[12..HEADER_BYTES].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a whole manifest.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedManifest> {
        if bytes.len() < HEADER_BYTES + 4 || &bytes[..8] != MAGIC {
            return Err(MalformedManifest::Magic);
        }
        let found = u16::from_le_bytes([bytes[8], bytes[9]]);
        let end = bytes.len() - 4;
        let whole = u32_at(bytes, 12) as usize == end - HEADER_BYTES
            && sums_up_as(&bytes[..end], MANIFEST_VERSION, u32_at(bytes, end));
        if found != MANIFEST_VERSION && !whole {
            return Err(MalformedManifest::Version { found });
        }
        if found != MANIFEST_VERSION || !whole {
            return Err(MalformedManifest::Checksum);
        }
        let manifest = match postcard::take_from_bytes::<Self>(&bytes[HEADER_BYTES..end]) {
            // Maps in another order, padded numbers: not what this version writes.
            Ok((manifest, [])) if manifest.encode() == bytes => manifest,
            _ => return Err(MalformedManifest::Encoding),
        };
        let rising = manifest.runs.windows(2).all(|pair| pair[0].number < pair[1].number);
        let below = manifest.runs.last().is_none_or(|last| last.number < manifest.next_run);
        let bounded = manifest.runs.len() <= limits::RUNS_MAX;
        if rising && below && bounded { Ok(manifest) } else { Err(MalformedManifest::Encoding) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkpoint wrote its runs, replaced the manifest, and then the sync of the folder failed: the checkpoint
    /// counted as failed and was tried again with the manifest from before, so that its runs had the same names.
    /// The first of them was emptied to be written anew when the process was killed; the next start found the
    /// manifest that named it, and refused. Found by the simulator (seed 224).
    #[test]
    fn the_numbers_of_a_failed_checkpoint_are_not_used_again() {
        let mut manifest = Manifest { next_run: 7, ..Manifest::default() };
        let used = manifest.next_run..manifest.next_run + super::super::CLASSES as u64;
        manifest.skip_runs();
        assert!(!used.contains(&manifest.next_run) && manifest.next_run > used.start);
    }
}
