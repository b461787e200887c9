//! What the files of a data folder say, line by line: segments, runs and manifests, for people and scripts.
//!
//! A file is known by its magic, not by its name, so that copies and files set aside can be looked at. It is
//! read through the decoders that recovery uses, so that this never says of a record what a start would not;
//! but it needs no daemon, no configuration and no secret, and goes on behind damage, because it is most needed
//! where something is broken. Streams: at most a few records are held, whatever the file's size.
//!
//! Lines are [`Line`]s, names and values in order; how they look is the command line's to say.
//!
//! Must never: write, or need the folder's lock.

mod describe;
mod manifest;
mod reader;
mod run;
mod segment;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crdt::journal::MalformedHeader;
use crdt::snapshot::MalformedManifest;

use crate::resp::Value;

/// What to show.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only what is about this key.
    pub key: Option<Vec<u8>>,
    /// Only records from this number on.
    pub from: Option<u64>,
    /// Only records up to this number.
    pub to: Option<u64>,
    /// The bytes of outcomes and notes too, not only lengths and digests.
    pub values: bool,
}

/// One line: what it is about, and what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// `segment`, `run`, `manifest`: a file begins; `record`, `group`, `state`, `cursor`, `epoch`, `stamp`,
    /// `file`: content; `damage`; `end`.
    pub about: &'static str,
    /// Names and values, in order.
    pub fields: Vec<(&'static str, Value)>,
}

/// How a file ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Everything in it is whole, a torn tail aside, which was never acknowledged.
    Whole,
    /// Something in it is damaged; a line said where.
    Damaged,
}

/// Why a file cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// Its first bytes are none of ours.
    #[error(
        "{}: no file of onced's by its first bytes: expected a log segment (oncedlog), a run (oncedrun) or a manifest (oncedchk)",
        .0.display()
    )]
    Stranger(PathBuf),
    /// Another version's segment or run.
    #[error("{}: {error}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Why.
        error: MalformedHeader,
    },
    /// Another version's manifest, or one that is damaged: it has no parts that could be shown apart.
    #[error("{}: {error}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        error: MalformedManifest,
    },
    /// The lines cannot be written.
    #[error("cannot write: {0}")]
    Sink(io::Error),
}

/// What takes the lines.
type Sink<'s> = dyn FnMut(Line) -> io::Result<()> + 's;

/// Shows one file to `sink`.
pub fn dump(path: &Path, selection: &Selection, sink: &mut Sink<'_>) -> Result<Ended, DumpError> {
    let io_error = |error| DumpError::Io { path: path.to_owned(), error };
    let file = File::open(path).map_err(io_error)?;
    let mut magic = [0; 8];
    match file.read_exact_at(&mut magic, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(DumpError::Stranger(path.to_owned()));
        }
        result => result.map_err(io_error)?,
    }
    let source = Source { path, file: &file, len: file.metadata().map_err(io_error)?.len(), selection };
    match &magic {
        b"oncedlog" => segment::dump(&source, sink),
        b"oncedrun" => run::dump(&source, sink),
        b"oncedchk" => manifest::dump(&source, sink),
        _ => Err(DumpError::Stranger(path.to_owned())),
    }
}

/// Whether a whole record of a segment stands somewhere behind byte `at`.
pub(crate) fn whole_behind(path: &Path, at: u64) -> Result<bool, DumpError> {
    let io_error = |error| DumpError::Io { path: path.to_owned(), error };
    let file = File::open(path).map_err(io_error)?;
    let len = file.metadata().map_err(io_error)?.len();
    let source = Source { path, file: &file, len, selection: &Selection::default() };
    let reader = reader::Reader::new(&source, at);
    Ok(!reader.rest_is_zero()? && reader.next_whole()?.is_some())
}

/// The file that is shown.
struct Source<'s> {
    path: &'s Path,
    file: &'s File,
    len: u64,
    selection: &'s Selection,
}

impl Source<'_> {
    fn io(&self, error: io::Error) -> DumpError {
        DumpError::Io { path: self.path.to_owned(), error }
    }

    /// The bytes of a range, or those of it that the file has.
    fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>, DumpError> {
        let len = len.min(self.len.saturating_sub(offset));
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(|error| self.io(error))?;
        Ok(bytes)
    }

    /// Whether something about `key` is to be shown.
    fn wants_key(&self, key: Option<&[u8]>) -> bool {
        self.selection.key.as_deref().is_none_or(|wanted| key == Some(wanted))
    }
}

/// Gives a line to the sink.
fn say(
    sink: &mut Sink<'_>,
    about: &'static str,
    fields: Vec<(&'static str, Value)>,
) -> Result<(), DumpError> {
    sink(Line { about, fields }).map_err(DumpError::Sink)
}

fn text(text: impl Into<String>) -> Value {
    Value::Simple(text.into())
}

/// Numbers beyond what readers of JSON take become text.
fn int(number: u64) -> Value {
    i64::try_from(number).map_or_else(|_| text(number.to_string()), Value::Int)
}
