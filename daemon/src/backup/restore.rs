//! `onced backup restore`: a backup into an empty data folder.
//!
//! A marker stands in the folder from before the first file to after the last: no daemon starts from a part. The
//! same command, run again, begins anew.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crdt::ids::Incarnation;
use crdt::snapshot::Manifest;

use super::about::owner;
use super::copy::{Writing, at, copy_all};
use super::verify::{check, check_digests, verify};
use super::{About, BackupError, Progress};
use crate::config::{ClusterSecret, Config, units};
use crate::log::{
    MANIFEST_NAME, RESTORING_NAME, RUN_EXTENSION, SEGMENT_EXTENSION, create_folder, lock_folder,
    write_manifest,
};
use crate::mend::Steps;

/// What was restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The backup; with its contents, if they were looked at.
    pub about: About,
    /// Where to.
    pub folder: PathBuf,
}

/// Restores `backup` into the data folder of `config`. `verified`: it is recovered in memory first, which takes as much
/// of it as the daemon; digests are checked in any case.
pub fn restore(
    config: &Config,
    backup: &Path,
    verified: bool,
    progress: &mut Progress<'_>,
) -> Result<Restored, BackupError> {
    restore_in(config, backup, verified, progress, &Steps::default())
}

pub(super) fn restore_in(
    config: &Config,
    backup: &Path,
    verified: bool,
    progress: &mut Progress<'_>,
    steps: &Steps,
) -> Result<Restored, BackupError> {
    let mut about = About::read(backup)?;
    check_owner(config, &about)?;
    let folder = &config.region.data_dir;
    create_folder(folder)?;
    let _lock = lock_folder(folder)?;
    let marker = folder.join(RESTORING_NAME);
    let left_over = data_files(folder)?;
    if let Some(first) = left_over.first().filter(|_| !marker.exists()) {
        let what = format!("{} and {} more", first.display(), left_over.len() - 1);
        return Err(BackupError::HoldsData { folder: folder.clone(), what });
    }
    if verified {
        about.contents = Some(verify(backup, &about, progress)?);
    } else {
        check_digests(backup, &about, progress)?;
    }
    let mut copying = Copying { backup, folder, steps };
    copying.run(&about, &left_over, &marker, progress)?;
    Ok(Restored { about, folder: folder.clone() })
}

fn check_owner(config: &Config, about: &About) -> Result<(), BackupError> {
    let secret = ClusterSecret::read(&config.cluster.secret_file)?;
    let digest = units::hex(&secret.cluster_digest(&config.cluster.name));
    let region = &config.region;
    if about.region_id == region.id && about.cluster_digest == digest {
        return Ok(());
    }
    let ours = owner(&region.name, region.id, &config.cluster.name, &digest);
    let same_words = about.region_id == region.id && about.cluster == config.cluster.name;
    let ours = if same_words { format!("{ours}, with another secret") } else { ours };
    Err(BackupError::Foreign { theirs: about.owner(), ours })
}

/// Whatever a daemon would start from.
fn data_files(folder: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some(SEGMENT_EXTENSION | RUN_EXTENSION)) || path.ends_with(MANIFEST_NAME) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

struct Copying<'c> {
    backup: &'c Path,
    folder: &'c Path,
    steps: &'c Steps,
}

impl Copying<'_> {
    fn run(
        &mut self,
        about: &About,
        left_over: &[PathBuf],
        marker: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<(), BackupError> {
        self.step(|| Writing::new(marker)?.finish(RESTORING_NAME).map(drop))?;
        self.step(|| sync(self.folder))?;
        for path in left_over {
            self.step(|| fs::remove_file(path))?;
        }
        let (total, mut done) = (about.bytes(), 0);
        let mut note = |bytes| {
            done += bytes;
            progress(done, total);
        };
        for entry in about.files.iter().filter(|entry| entry.name != MANIFEST_NAME) {
            let (from, to) = (self.backup.join(&entry.name), self.folder.join(&entry.name));
            let mut file = File::open(&from).map_err(at(&from))?;
            self.steps.next().map_err(at(&to))?;
            let copied = copy_all(&mut file, &to, &entry.name, &mut note).map_err(at(&to))?;
            check(entry, &from, copied.bytes, &copied.blake3)?;
        }
        self.step(|| sync(self.folder))?;
        let path = self.backup.join(MANIFEST_NAME);
        let manifest = fs::read(&path).map_err(at(&path))?;
        let manifest =
            Manifest::decode(&manifest).map_err(|error| BackupError::Manifest { file: path, error })?;
        let over = manifest.over.max(Incarnation(about.incarnation));
        self.step(|| write_manifest(self.folder, &Manifest { over, ..manifest }))?;
        self.step(|| fs::remove_file(marker))?;
        self.step(|| sync(self.folder))
    }

    fn step(&self, act: impl FnOnce() -> io::Result<()>) -> Result<(), BackupError> {
        self.steps.next().and_then(|()| act()).map_err(at(self.folder))
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
