//! Keeping everything that still reads, whatever is damaged, and beginning a new life with it (S6).
//!
//! What reads is written once more, as runs of a manifest that covers all of the log: so the old segments, as long as
//! they are there, count as covered, and a start is possible from the moment the manifest is in place. A folder that
//! reads back whole needs none of that: its manifest is made to say that the life it tells of is over.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crdt::recovery::RecoveryConfig;
use crdt::snapshot::{Checkpoint, Manifest};

use super::aside::{data_files, remove, set_aside, sync_folder};
use super::{MendError, Steps};
use crate::config::{ClusterSecret, Config};
use crate::lifecycle;
use crate::log::{
    FromDisk, OpenError, RUN_EXTENSION, RunFiles, load, lock_folder, refuse_unfinished, write_manifest,
};

/// A folder of which everything that reads was read; holds its lock.
#[derive(Debug)]
pub struct Rejoin {
    folder: PathBuf,
    from_disk: FromDisk,
    damages: Vec<String>,
    _lock: File,
}

impl Rejoin {
    /// Reads everything that still reads.
    pub fn plan(config: &Config, mut progress: impl FnMut(u64, u64)) -> Result<Self, MendError> {
        let secret = ClusterSecret::read(&config.cluster.secret_file)?;
        let recovery = lifecycle::recovery_config(config, &secret);
        Self::plan_in(&config.region.data_dir, recovery, &mut progress)
    }

    pub(super) fn plan_in(
        folder: &Path,
        recovery: RecoveryConfig,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, MendError> {
        let lock = lock_folder(folder)?;
        refuse_unfinished(folder)?;
        let from_disk = match load(folder, recovery.clone(), &mut *progress) {
            // What is damaged is skipped only where something is: salvaging takes a torn tail for damage too.
            Err(OpenError::Damage(_)) => {
                load(folder, RecoveryConfig { salvage: true, ..recovery }, &mut *progress)?
            }
            result => result?,
        };
        let damages = from_disk.recovery.damages().iter().map(ToString::to_string).collect();
        Ok(Self { folder: folder.to_owned(), from_disk, damages, _lock: lock })
    }

    /// What does not read, in words; nothing: the folder is whole.
    pub fn damages(&self) -> &[String] {
        &self.damages
    }

    /// Keys that are kept.
    pub fn keys(&self) -> usize {
        self.from_disk.recovery.store().keys()
    }

    /// Conflicts that are kept.
    pub fn conflicts(&self) -> usize {
        self.from_disk.recovery.store().conflict_count()
    }

    /// Makes the folder ready for a new life; says where the old files are, if they were replaced.
    pub fn carry_out(self, now_ms: u64) -> Result<Option<PathBuf>, MendError> {
        self.carry_out_in(now_ms, &Steps::default())
    }

    pub(super) fn carry_out_in(self, now_ms: u64, steps: &Steps) -> Result<Option<PathBuf>, MendError> {
        let io = MendError::io(&self.folder);
        if !self.damages.is_empty() {
            return self.rewrite(now_ms, steps).map(Some).map_err(io);
        }
        let over = self.from_disk.recovery.manifest_of_all().over;
        let manifest = Manifest { over, ..self.from_disk.manifest };
        steps.next().and_then(|()| write_manifest(&self.folder, &manifest)).map_err(io)?;
        Ok(None)
    }

    fn rewrite(self, now_ms: u64, steps: &Steps) -> io::Result<PathBuf> {
        let recovery = &self.from_disk.recovery;
        let old = data_files(&self.folder)?;
        let aside = set_aside(&self.folder, &old, now_ms, steps)?;
        let mut manifest = recovery.manifest_of_all();
        // A name is never used twice, and no old segment may seem to lie behind what is covered.
        manifest.next_run = old.iter().filter_map(|path| run_number(path)).max().unwrap_or(0) + 1;
        let named = old.iter().filter_map(|path| first_lsn_of_name(path)).max().unwrap_or(0);
        manifest.meta.next_lsn = manifest.meta.next_lsn.max(named + 1);
        let store = recovery.store();
        let mut files = RunFiles::new(&self.folder);
        let mut writing = Checkpoint::everything(manifest).write(store, now_ms);
        steps.next()?;
        while writing.step(store, |name, bytes| files.append_unpaced(name, bytes).map(drop))? {}
        files.finish()?;
        steps.next()?;
        write_manifest(&self.folder, &writing.finish())?;
        // The manifest among them is the new one by now.
        let superfluous: Vec<_> = old.into_iter().filter(|path| path.extension().is_some()).collect();
        remove(&superfluous, steps)?;
        sync_folder(&self.folder)?;
        Ok(aside)
    }
}

fn run_number(path: &Path) -> Option<u64> {
    let is_run = path.extension().is_some_and(|extension| extension == RUN_EXTENSION);
    is_run.then(|| first_number(path)).flatten()
}

fn first_lsn_of_name(path: &Path) -> Option<u64> {
    let is_run = path.extension().is_some_and(|extension| extension == RUN_EXTENSION);
    (!is_run).then(|| first_number(path)).flatten()
}

fn first_number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.split_once('-')?.0.parse().ok()
}
