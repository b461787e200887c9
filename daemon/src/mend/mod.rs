//! Mending a data folder that no daemon can start from, or should not: `onced repair` and `onced rejoin`.
//!
//! Both give something up, so both keep it: every file that they change or remove lies afterwards in a folder
//! `set-aside-<time>` inside the data folder, and nothing reads that again. What both end in is a new
//! incarnation: the manifest says that the lives before are over, the next start takes a new one, and grants nothing
//! before a peer has brought what was given up (S6).
//!
//! Whatever moment such a command ends at, what it leaves can be started from or is refused as before: files are
//! set aside by links first, the manifest is replaced by a rename, and only what the new manifest makes
//! superfluous is removed after it.
//!
//! Must never: work beside a daemon (it holds the folder's lock), touch what it did not set aside.

mod aside;
mod rejoin;
mod repair;
mod steps;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use rejoin::Rejoin;
pub use repair::{CutAt, GivenUp, Repair};
pub(crate) use steps::Steps;

use crate::config::SecretError;
use crate::log::OpenError;

/// Why a data folder was not mended. Nothing counts as changed unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// Locked, unreadable, or damaged in a way that this command does not mend.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The cluster's secret is needed to tell whose data it is.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// There is no such segment.
    #[error("{}: no segment of this name; nothing was changed. Name one as the daemon's message did: SEGMENT.log:BYTE", .0.display())]
    NoSegment(PathBuf),
    /// It is another folder's.
    #[error(
        "{} is not in the data folder of this configuration, {}; nothing was changed: name the right --config",
        segment.display(), folder.display()
    )]
    OtherFolder {
        /// As it was named.
        segment: PathBuf,
        /// The data folder.
        folder: PathBuf,
    },
    /// The offset lies behind the file's end.
    #[error("{} has {bytes} bytes only; nothing was changed", path.display())]
    BeyondEnd {
        /// The segment.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Nothing is damaged.
    #[error(
        "the log reads back whole; nothing was changed. To cut it all the same, and lose what stands behind, add --force"
    )]
    NotDamaged,
    /// The damage is somewhere else.
    #[error("a start finds damage elsewhere; nothing was changed. Its words: {0}")]
    Elsewhere(String),
    /// Runs hold what this segment says.
    #[error("{}: runs cover this segment, so that cutting it gives up nothing; nothing was changed", .0.display())]
    Covered(PathBuf),
    /// The system refuses.
    #[error("{}: {error}; what was done so far is safe: run the same command again", path.display())]
    Io {
        /// The data folder.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
}

impl MendError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Io { path: path.clone(), error }
    }
}
