//! Whether a backup is what was saved, and whether a daemon could start from it.
//!
//! It is recovered in memory as a start would, by the same code, but without the cluster's secret: keys then lie in
//! other places of the map, which nobody looks at.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use crdt::hash::ClusterKeys;
use crdt::ids::{self, Incarnation, RegionId};
use crdt::policy::Policies;
use crdt::recovery::RecoveryConfig;
use crdt::store::StoreConfig;

use super::copy::{at, digest};
use super::{About, BackupError, Contents, FileEntry, Progress};
use crate::driver::wall_ms;
use crate::log::load;

/// What a backup says of itself, its files' digests checked; `recovered`: with what a recovery finds in it, which takes
/// as much memory as the daemon.
pub fn inspect(folder: &Path, recovered: bool, progress: &mut Progress<'_>) -> Result<About, BackupError> {
    let mut about = About::read(folder)?;
    if recovered {
        about.contents = Some(verify(folder, &about, progress)?);
    } else {
        check_digests(folder, &about, progress)?;
    }
    Ok(about)
}

/// Checks every file's digest and recovers everything in memory.
pub fn verify(folder: &Path, about: &About, progress: &mut Progress<'_>) -> Result<Contents, BackupError> {
    check_digests(folder, about, progress)?;
    let found = load(folder, recovery_config(about)?, &mut *progress);
    let found = found.map_err(|error| BackupError::Unsound(error.to_string()))?;
    let last_lsn = found.recovery.next_lsn() - 1;
    if found.torn_bytes > 0 || last_lsn != about.last_lsn {
        let expected = about.last_lsn;
        return Err(BackupError::Unsound(format!("it ends with record {last_lsn}, not {expected}")));
    }
    let store = found.recovery.store();
    let mut namespaces: BTreeMap<String, u64> = BTreeMap::new();
    store.for_each(|key, _| {
        let namespace = String::from_utf8_lossy(ids::namespace(key)).into_owned();
        *namespaces.entry(namespace).or_default() += 1;
    });
    Ok(Contents { keys: store.keys() as u64, namespaces, conflicts: store.conflict_count() as u64 })
}

/// Whether every file is as it was saved.
pub(super) fn check_digests(
    folder: &Path,
    about: &About,
    progress: &mut Progress<'_>,
) -> Result<(), BackupError> {
    let (total, mut done) = (about.bytes(), 0);
    for entry in &about.files {
        let path = folder.join(&entry.name);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::Changed { file: path, what: "it is missing".to_owned() });
            }
            opened => opened.map_err(at(&path))?,
        };
        let found = digest(&mut file, &mut |bytes| {
            done += bytes;
            progress(done, total);
        });
        let (bytes, blake3) = found.map_err(at(&path))?;
        check(entry, &path, bytes, &blake3)?;
    }
    Ok(())
}

/// Whether a file of these bytes is the one that was saved.
pub(super) fn check(entry: &FileEntry, path: &Path, bytes: u64, blake3: &str) -> Result<(), BackupError> {
    let what = if bytes != entry.bytes {
        format!("{bytes} bytes, {} were saved", entry.bytes)
    } else if blake3 != entry.blake3 {
        "another digest".to_owned()
    } else {
        return Ok(());
    };
    Err(BackupError::Changed { file: path.to_owned(), what })
}

fn recovery_config(about: &About) -> Result<RecoveryConfig, BackupError> {
    let digest = &about.cluster_digest;
    let cluster = u128::from_str_radix(digest, 16).ok().filter(|_| digest.len() == 32);
    let cluster =
        cluster.ok_or_else(|| BackupError::Unsound(format!("{digest:?} is no cluster's digest")))?;
    Ok(RecoveryConfig {
        store: StoreConfig {
            region: RegionId(about.region_id),
            incarnation: Incarnation(about.incarnation),
            keys: ClusterKeys { hash: [0; 16], tag: [0; 16] },
            max_drift_ms: crdt::limits::MAX_DRIFT_MS_DEFAULT,
            shards: crdt::limits::SHARDS_DEFAULT,
            max_memory_bytes: usize::MAX,
            ring_bytes_max: 0,
        },
        policies: Policies::default(),
        cluster: cluster.to_be_bytes(),
        boot: 0,
        acknowledged_unsynced: false,
        wall_ms: wall_ms(),
        salvage: false,
        keys_hint: 0,
    })
}
