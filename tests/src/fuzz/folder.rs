//! A whole data folder as one input, and a start from it.
//!
//! Started by the daemon's own code, from files. Besides never panicking, a start must be *stable* (what it accepted,
//! the next one accepts, with the same state) and, where nobody mended a checksum, *true*: every entry is one that was
//! written, whatever became of the others.
//!
//! ```text
//! image = flags:u8 (name_len:u8 name len:u32 bytes)*         little-endian; names without a slash
//! flags   1: the machine has booted since   2: checksums were mended, so that anything may stand there
//! ```

use std::path::Path;

use crdt::entry::Entry;
use crdt::ids::RegionId;
use daemon::log::{self, LogSizes, OpenError, Opened};
use tempfile::TempDir;

use super::{mend as menders, seen, targets};
use crate::power::load::{claimant_of, outcome_of};

/// The wall clock of every target, Unix milliseconds.
pub const T0: u64 = 1_800_000_000_000;
/// Of the folders that are started from.
pub const SIZES: LogSizes = LogSizes { segment_bytes: 64 << 10, reserve_bytes: 0 };
/// Zeros that stay behind what was written.
const ZEROS_KEPT: usize = 64;
const CLUSTER: [u8; 16] = [7; 16];
const FLAG_BOOTED: u8 = 1;
const FLAG_MENDED: u8 = 2;
/// Files and bytes of an image that are looked at.
const FILES_MAX: usize = 64;
const BYTES_MAX: usize = 8 << 20;

/// One file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Without its folder.
    pub name: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Where folders are made: in memory, if the machine has such a place.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("onced-fuzz-");
    let made = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
    made.or_else(|_| builder.tempdir()).expect("a temporary folder")
}

/// Starts from a folder.
///
/// # Errors
/// As the daemon's.
pub fn open(folder: &Path, boot: u64, salvage: bool) -> Result<Opened, OpenError> {
    let config = targets::recovery_config(RegionId(1), CLUSTER, boot, salvage);
    log::open(folder, config, SIZES, None, |_, _| {})
}

/// All files of a folder, in the order of their names; the lock is left out.
pub fn read(folder: &Path) -> Vec<File> {
    let listing = std::fs::read_dir(folder).expect("the folder is there").flatten();
    let mut paths: Vec<_> =
        listing.map(|entry| entry.path()).filter(|path| !path.ends_with("lock")).collect();
    paths.sort();
    let file = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).expect("a file can be read");
        // The zeros of preallocation are most of it and say nothing; the last record may end with some.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1 + ZEROS_KEPT);
        let used = if path.extension() == Some("run".as_ref()) { bytes.len() } else { used.min(bytes.len()) };
        let name = path.file_name().and_then(|name| name.to_str()).expect("our own names").to_owned();
        File { name, bytes: bytes[..used].to_vec() }
    };
    paths.iter().map(file).filter(|file| !file.bytes.is_empty()).collect()
}

/// The image of some files.
pub fn image(flags: u8, files: &[File]) -> Vec<u8> {
    let mut bytes = vec![flags];
    for file in files {
        bytes.push(file.name.len() as u8);
        bytes.extend_from_slice(file.name.as_bytes());
        bytes.extend_from_slice(&(file.bytes.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&file.bytes);
    }
    bytes
}

/// Flags and files of an image; what does not parse is cut off.
fn parse(image: &[u8]) -> (u8, Vec<File>) {
    let Some((&flags, mut rest)) = image.split_first() else { return (0, Vec::new()) };
    let mut files = Vec::new();
    while files.len() < FILES_MAX
        && let Some((&name_len, after)) = rest.split_first()
        && let Some((name, after)) = after.split_at_checked(usize::from(name_len))
        && let Some((len, after)) = after.split_first_chunk::<4>()
    {
        let len = (u32::from_le_bytes(*len) as usize).min(after.len());
        let (bytes, after) = after.split_at(len);
        rest = after;
        let name: String = name.iter().map(|byte| char::from(*byte)).collect();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if name.chars().all(plain) && name.chars().any(|c| c != '.') && name != "lock" {
            files.push(File { name, bytes: bytes.to_vec() });
        }
    }
    (flags, files)
}

/// Mends each file by its kind, and notes that it has.
pub fn mend(bytes: &mut Vec<u8>) {
    let (flags, mut files) = parse(bytes);
    let before = files.clone();
    for file in &mut files {
        match file.name.rsplit('.').next() {
            Some("log") => menders::segment(&mut file.bytes),
            Some("run") => menders::run(&mut file.bytes),
            _ if file.name == "checkpoint" => menders::manifest(&mut file.bytes),
            _ => {}
        }
    }
    let mended = if files == before { 0 } else { FLAG_MENDED };
    *bytes = image(flags | mended, &files);
}

/// Starts from an image; starts again.
pub fn run(image: &[u8]) -> u64 {
    if image.len() > BYTES_MAX {
        return 0;
    }
    let (flags, files) = parse(image);
    let boot = 1 + u64::from(flags & FLAG_BOOTED);
    let scratch = scratch();
    let folder = scratch.path().join("data");
    write(&folder, &files);
    let opened = match open(&folder, boot, false) {
        Ok(opened) => opened,
        Err(error) => return seen(&[1, refusal(&error), salvaged(&scratch, &files, boot)]),
    };
    if flags & FLAG_MENDED == 0 {
        opened.store.for_each(|key, entry| assert!(is_true(key, entry), "nobody wrote {entry:?}"));
    }
    let (keys, digest, torn) = (opened.store.keys(), opened.store.digest(T0), opened.torn_bytes > 0);
    opened.log.flush_all().expect("a good disk");
    drop(opened);
    let again = open(&folder, boot, false);
    let again = again.unwrap_or_else(|error| panic!("a start has accepted it, the next has not: {error}"));
    assert_eq!(
        (again.store.keys(), again.store.digest(T0)),
        (keys, digest),
        "the next start has another state"
    );
    seen(&[2, u64::from(torn), keys.checked_ilog2().map_or(0, u64::from)])
}

/// What a start that takes all that still reads makes of a folder that was refused.
fn salvaged(scratch: &TempDir, files: &[File], boot: u64) -> u64 {
    let folder = scratch.path().join("salvage");
    write(&folder, files);
    match open(&folder, boot, true) {
        Ok(opened) => {
            opened.store.digest(T0);
            2 + opened.store.keys().checked_ilog2().map_or(0, u64::from)
        }
        Err(_) => 1,
    }
}

/// Whether an entry is one that [`super::seeds`] wrote, or an earlier state of it.
fn is_true(key: &[u8], entry: &Entry<'_>) -> bool {
    let Ok(key) = std::str::from_utf8(key) else { return false };
    let claimed = |claimant: &[u8]| claimant == claimant_of(key).as_bytes();
    key.starts_with("k:")
        && entry.attempts.iter().all(|attempt| claimed(attempt.claimant))
        && entry.outcomes.iter().all(|outcome| outcome.bytes == outcome_of(key))
}

fn write(folder: &Path, files: &[File]) {
    std::fs::create_dir(folder).expect("a folder can be made");
    for file in files {
        std::fs::write(folder.join(&file.name), &file.bytes).expect("a file can be written");
    }
}

fn refusal(error: &OpenError) -> u64 {
    let text = format!("{error:?}");
    let words: Vec<u64> = text.bytes().filter(u8::is_ascii_uppercase).take(8).map(u64::from).collect();
    seen(&words)
}
