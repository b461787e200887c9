//! Backups of a region's data: saved beside a running daemon, verified, restored into a new life (S6).
//!
//! A backup is a folder: copies of the files that a start needs, under their names, and `backup.json`, which is
//! written last and without which it is none. Runs and closed segments never change, the current segment only
//! grows: so copying the manifest, the runs that it names, and the segments behind it up to their last whole
//! record is a consistent state, though the daemon goes on. If the daemon deletes one of them meanwhile, all is
//! begun again with its new manifest.
//!
//! The manifest in a backup says that the life it tells of is over, so that whatever starts from it, restored in order or copied by hand,
//! takes a new incarnation: the region has gone on since, and its peers know.
//!
//! A backup holds keys, claimants and outcomes, and no secret: neither the cluster's nor a certificate's key.
//!
//! Must never: touch the data folder while saving, call a backup good that was not read back.

mod about;
mod copy;
mod restore;
mod save;
mod verify;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use crdt::journal::MalformedHeader;
use crdt::snapshot::MalformedManifest;

pub use about::{About, Contents, FileEntry};
pub use restore::{Restored, restore};
pub use save::save;
pub use verify::{inspect, verify};

use crate::config::SecretError;
use crate::log::OpenError;

/// The file that makes a folder a backup.
pub const ABOUT_NAME: &str = "backup.json";
/// So often a save begins again because files that it was about to copy were no longer needed.
const ATTEMPTS_MAX: u32 = 10;

/// What is told of progress: bytes done, of how many.
pub type Progress<'p> = dyn FnMut(u64, u64) + 'p;

/// Why there is no backup, or no restored folder.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was being touched.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// A backup is never written over something else.
    #[error("{}: there is something in it; name a folder that is empty or does not exist", .0.display())]
    NotEmpty(PathBuf),
    /// Nothing was ever written there.
    #[error("{}: no log in it; check [region] data_dir, and that a daemon has run", .0.display())]
    NoData(PathBuf),
    /// The files are another region's.
    #[error("{file} belongs to region id {theirs}, the configuration is region id {ours}'s: check --config")]
    OtherRegion {
        /// The file.
        file: String,
        /// As its header says.
        theirs: u16,
        /// As configured.
        ours: u16,
    },
    /// The data folder is damaged: the daemon could not start from it.
    #[error(
        "{} does not read at byte {offset}: nothing was saved. The daemon goes on until it is restarted: save what its peers \
         have, and see onced rejoin",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Bytes from its start.
        offset: u64,
    },
    /// A file's header is refused.
    #[error("{}: {error}", file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// Why.
        error: MalformedHeader,
    },
    /// The manifest is refused.
    #[error("{}: {error}", file.display())]
    Manifest {
        /// The file.
        file: PathBuf,
        /// Why.
        error: MalformedManifest,
    },
    /// The daemon deletes files faster than they are copied.
    #[error(
        "files were deleted under the copy {ATTEMPTS_MAX} times; try again, or set a larger [log] keep_bytes"
    )]
    Moving,
    /// Not a backup, or one whose save did not end.
    #[error("{}: no backup, or one that was not finished: {reason}", folder.display())]
    NotABackup {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with its `backup.json`.
        reason: String,
    },
    /// A newer one's.
    #[error("{}: backup format {found}; this onced reads format {}: use the onced that saved it, or a newer one", folder.display(), about::FORMAT)]
    Format {
        /// The folder.
        folder: PathBuf,
        /// As it says.
        found: u32,
    },
    /// A file is not what was saved.
    #[error("{}: not as it was saved ({what}): this backup is damaged, use another one", file.display())]
    Changed {
        /// The file.
        file: PathBuf,
        /// In what.
        what: String,
    },
    /// The files are as they were saved and yet a start would refuse them.
    #[error("the backup does not recover: {0}")]
    Unsound(String),
    /// Another region's or cluster's backup.
    #[error(
        "this is a backup of {theirs}, the configuration is {ours}: name the right backup, or the right --config; nothing was \
         changed"
    )]
    Foreign {
        /// Whose backup.
        theirs: String,
        /// As configured.
        ours: String,
    },
    /// There is data where it should go.
    #[error(
        "{} holds data ({what}): nothing was changed. Stop its daemon and move the data away, or set another [region] data_dir",
        folder.display()
    )]
    HoldsData {
        /// The data folder.
        folder: PathBuf,
        /// What was found.
        what: String,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Whose data it is cannot be told.
    #[error("{0} (a backup holds no secret: put the cluster's own file back first)")]
    Secret(#[from] SecretError),
}

impl BackupError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }
}
