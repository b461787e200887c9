//! `backup.json`: what a backup holds, and how to tell that it still does.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ABOUT_NAME, BackupError};

/// Version of the file; other fields may be added without a new one.
pub const FORMAT: u32 = 1;
/// No such file is larger: a line a run and segment.
const BYTES_MAX: u64 = 64 << 20;

/// What the file says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct About {
    /// `FORMAT`.
    pub format: u32,
    /// The version of onced that saved it.
    pub onced: String,
    /// When, Unix milliseconds.
    pub created_at: u64,
    /// Whose data: the region's number and name.
    pub region_id: u16,
    /// Its name.
    pub region: String,
    /// The cluster's name.
    pub cluster: String,
    /// The digest of name and secret that stands in its files, in hex.
    pub cluster_digest: String,
    /// The life that it is a copy of.
    pub incarnation: u32,
    /// The last start that it knows.
    pub epoch: u32,
    /// The record up to which runs cover the log; 0 for none.
    pub covers_lsn: u64,
    /// The last record that it holds; 0 for none.
    pub last_lsn: u64,
    /// What was found when it was recovered in memory; missing where it was not verified.
    pub contents: Option<Contents>,
    /// All files but this one.
    pub files: Vec<FileEntry>,
}

/// What a recovery finds in it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Contents {
    /// Keys.
    pub keys: u64,
    /// Keys by namespace; that of keys without one is "".
    pub namespaces: BTreeMap<String, u64>,
    /// Losers of double executions.
    pub conflicts: u64,
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    /// In the backup's folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Of its content, in hex.
    pub blake3: String,
}

impl About {
    /// Reads it out of a backup's folder.
    pub(super) fn read(folder: &Path) -> Result<Self, BackupError> {
        let not_a_backup = |reason: String| BackupError::NotABackup { folder: folder.to_owned(), reason };
        let path = folder.join(ABOUT_NAME);
        let mut text = String::new();
        fs::File::open(&path)
            .and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text))
            .map_err(|error| not_a_backup(format!("{}: {error}", path.display())))?;
        let raw: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| not_a_backup(format!("{}: {error}", path.display())))?;
        // Told apart before the rest: a newer format may have other fields.
        let found = raw.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found > u64::from(FORMAT) {
            return Err(BackupError::Format { folder: folder.to_owned(), found: found as u32 });
        }
        let about: Self = serde_json::from_value(raw)
            .map_err(|error| not_a_backup(format!("{}: {error}", path.display())))?;
        for file in &about.files {
            let plain = Path::new(&file.name).file_name().is_some_and(|name| name == file.name.as_str());
            if !plain || file.name == ABOUT_NAME {
                return Err(not_a_backup(format!("it names a file {:?}", file.name)));
            }
        }
        Ok(about)
    }

    /// The file's content.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Serialising to memory fails only for maps with keys that are no strings.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whose it is, in words.
    pub fn owner(&self) -> String {
        owner(&self.region, self.region_id, &self.cluster, &self.cluster_digest)
    }
}

/// A region in words. The digest tells clusters of one name and two secrets apart.
pub(super) fn owner(region: &str, region_id: u16, cluster: &str, cluster_digest: &str) -> String {
    let digest = cluster_digest.get(..8).unwrap_or(cluster_digest);
    format!("region {region} (id {region_id}) of cluster {cluster} (digest {digest}…)")
}
