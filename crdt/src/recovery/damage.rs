//! Why a data folder cannot be started from, with the ways out (S6).

use crate::ids::Lsn;
use crate::journal::MalformedHeader;
use crate::snapshot::MalformedManifest;

/// Why a data folder cannot be started from. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// A segment's or run's header is refused.
    #[error("{file}: {error}{}", ways_out(.error, .file, 0))]
    Header {
        /// The file.
        file: String,
        /// Why.
        error: MalformedHeader,
    },
    /// The data folder is another region's or cluster's.
    #[error(
        "{file} belongs to {theirs}, this daemon is {ours}: check [cluster] name and secret_file, [region] id and data_dir"
    )]
    Foreign {
        /// The file.
        file: String,
        /// As its header says.
        theirs: String,
        /// As configured.
        ours: String,
    },
    /// A record that is not the torn end of the log.
    #[error(
        "segment {segment} is damaged at byte {offset}, inside record {lsn}; nothing was changed. Ways out: restore a \
         backup (onced backup restore), or keep everything that still reads and fetch the rest from the peers (onced \
         rejoin), or give up that record and all after it (onced repair --cut-at {segment}:{offset})"
    )]
    Record {
        /// The file.
        segment: String,
        /// Bytes from its start.
        offset: usize,
        /// The number that the record would have.
        lsn: Lsn,
    },
    /// A segment has another name than it was given: by their names they are put in order.
    #[error(
        "{segment} was written as {expected}: somebody has renamed or copied a file of the log; nothing was changed. Ways out: \
         give it back its name, or, if that file is there too, move this one out of the folder"
    )]
    Name {
        /// The file.
        segment: String,
        /// Its name, by its header.
        expected: String,
    },
    /// A record number is missing between two segments.
    #[error(
        "segment {segment} begins with record {found}, {expected} was expected: a file of the log is missing; nothing was \
         changed. Put it back, or restore a backup (onced backup restore), or keep everything that is there and fetch the \
         rest from the peers (onced rejoin)"
    )]
    Gap {
        /// The file.
        segment: String,
        /// Its first record.
        found: Lsn,
        /// The one after the last read.
        expected: Lsn,
    },
    /// A run that the manifest names and that is not what it was.
    #[error(
        "run {run} is damaged at byte {offset}; nothing was changed. Ways out: restore a backup (onced backup restore), or \
         keep everything that still reads and fetch the rest from the peers (onced rejoin)"
    )]
    Run {
        /// The file.
        run: String,
        /// Where the damaged part begins, in bytes from the start of the file.
        offset: u64,
    },
    /// There are runs, and neither a manifest that names them nor a log that tells what they do: a start would take them for
    /// leftovers, and the folder for a new or a smaller one.
    #[error(
        "{file} is missing, and the runs beside it hold what the log does not; nothing was changed. Ways out: put it back, or \
         restore a backup (onced backup restore), or keep everything that is there and fetch the rest from the peers (onced \
         rejoin)"
    )]
    NoManifest {
        /// Where it should be.
        file: String,
    },
    /// Nothing of the log stands behind what the manifest covers, where every start begins a file.
    #[error(
        "{folder}: the newest file of the log is missing, the one that begins with record {expected}; nothing was changed. Put it \
         back, or restore a backup (onced backup restore), or keep everything that is there and fetch the rest from the \
         peers (onced rejoin)"
    )]
    NoLog {
        /// Where it should be.
        folder: String,
        /// Its first record.
        expected: Lsn,
    },
    /// The manifest does not decode.
    #[error("{file}: {error}{}", manifest_ways_out(.error))]
    Manifest {
        /// The file.
        file: String,
        /// Why.
        error: MalformedManifest,
    },
}

/// As [`ways_out`].
fn manifest_ways_out(error: &MalformedManifest) -> &'static str {
    match error {
        MalformedManifest::Version { .. } => "",
        _ => {
            "; nothing was changed. Ways out: restore a backup (onced backup restore), or keep everything that still reads \
             and fetch the rest from the peers (onced rejoin)"
        }
    }
}

/// A file of another version is not damaged: there is nothing to repair.
fn ways_out(error: &MalformedHeader, file: &str, offset: usize) -> String {
    match error {
        MalformedHeader::Version { .. } | MalformedHeader::Flags { .. } => String::new(),
        MalformedHeader::Magic | MalformedHeader::Checksum => format!(
            "; nothing was changed. Ways out: restore a backup (onced backup restore), or keep everything that still reads \
             and fetch the rest from the peers (onced rejoin), or give up this file and all after it (onced repair --cut-at \
             {file}:{offset})"
        ),
    }
}
