//! Good bytes to begin with: the golden ones, and a small data folder that real code has written.

use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crdt::journal::{HEADER_BYTES, Records, SegmentHeader};
use crdt::request::{Claim, Reply, Request};
use crdt::store::{Ran, Release, Scratch, Store};
use crdt::token::Token;
use crdt::wire::stream::{Author, Packer};
use daemon::log::{CheckpointConfig, Checkpointer, Opened};

use super::folder::{self, File, SIZES, T0};
use crate::power::load::{claimant_of, outcome_of};
use crate::wait::until;

/// Keys in the folder: enough for a few segments of the least size.
const KEYS: usize = 400;
/// Segments are cut to this: long inputs are slow and show nothing more.
const SEGMENT_BYTES: usize = 2_000;

/// Bodies of every kind of record.
pub fn records() -> Vec<Vec<u8>> {
    let mut bodies = golden("record-");
    for segment in files(".log") {
        let mut records = Records::new(&segment[HEADER_BYTES..]);
        while let Ok(body) = records.next_body() {
            if bodies.len() < 64 {
                bodies.push(body.to_vec());
            }
        }
    }
    bodies
}

/// Frames of every variant.
pub fn frames() -> Vec<Vec<u8>> {
    let mut frames = golden("frame-");
    let records = records();
    // Of many records, as a peer that catches up gets them.
    let mut bodies = Vec::new();
    records.iter().for_each(|body| crdt::wire::push_body(body, &mut bodies));
    let (prev, last) = Default::default();
    let bodies = crdt::entry::Bytes(&bodies);
    frames.push(crdt::wire::Frame::Records { prev, last, left: 3, bodies }.encode());
    // The same as a peer that follows gets them: those of the folder's own life told briefly.
    let segment = files(".log").swap_remove(0);
    let SegmentHeader { region, incarnation, .. } = SegmentHeader::decode(&segment).expect("real code's");
    let author = Author { region, incarnation };
    let (mut packer, mut brief) = (Packer::new(author), Vec::new());
    records.iter().for_each(|body| packer.push(body, &mut brief));
    assert!(brief.len() < bodies.0.len(), "none of them was told briefly");
    let bodies = crdt::entry::Bytes(&brief);
    frames.push(crdt::wire::Frame::Records { prev, last, left: 3, bodies }.encode());
    frames
}

/// Beginnings of segments.
pub fn segments() -> Vec<Vec<u8>> {
    let whole = files(".log");
    let cut = |segment: Vec<u8>| {
        let mut records = Records::new(&segment[HEADER_BYTES..]);
        while records.offset() < SEGMENT_BYTES && records.next_body().is_ok() {}
        segment[..HEADER_BYTES + records.offset()].to_vec()
    };
    let mut segments: Vec<_> = whole.into_iter().map(cut).collect();
    // One with a record of every kind.
    let mut every = golden("segment-header").concat();
    for body in golden("record-") {
        every.extend_from_slice(&(body.len() as u32).to_le_bytes());
        every.extend_from_slice(&[0; 4]);
        every.extend_from_slice(&body);
    }
    super::mend::segment(&mut every);
    segments.push(every);
    segments
}

/// Manifests.
pub fn manifests() -> Vec<Vec<u8>> {
    folder_files().iter().filter(|file| file.name == "checkpoint").map(|file| file.bytes.clone()).collect()
}

/// Runs.
pub fn runs() -> Vec<Vec<u8>> {
    files(".run")
}

/// Data folders: as a kill leaves them, as a power loss may, and without their runs.
pub fn folders() -> Vec<Vec<u8>> {
    let whole = folder_files();
    let without = |extension: &str| -> Vec<File> {
        whole.iter().filter(|file| !file.name.ends_with(extension)).cloned().collect()
    };
    vec![folder::image(0, whole), folder::image(1, whole), folder::image(0, &without(".run"))]
}

/// The golden bytes whose names begin so.
fn golden(prefix: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../crdt/tests/golden"));
    let listing = std::fs::read_dir(folder).expect("the golden bytes are there").flatten();
    let mut paths: Vec<_> = listing.map(|entry| entry.path()).collect();
    paths.sort();
    let named = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    paths.into_iter().filter(named).map(|path| bytes_of_hex(&path)).collect()
}

fn bytes_of_hex(path: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(path).expect("a golden file can be read");
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn files(extension: &str) -> Vec<Vec<u8>> {
    let files = folder_files().iter().filter(|file| file.name.ends_with(extension));
    files.map(|file| file.bytes.clone()).collect()
}

/// A folder with all kinds of files, made once a process.
fn folder_files() -> &'static [File] {
    static MADE: OnceLock<Vec<File>> = OnceLock::new();
    MADE.get_or_init(|| {
        let scratch = folder::scratch();
        let opened = folder::open(scratch.path(), 1, false).expect("an empty folder");
        opened.log.flush_all().expect("a good disk");
        write(&opened, 0..KEYS * 3 / 4);
        let acked_by_all = Arc::new(AtomicU64::new(0));
        let config = CheckpointConfig { max_drift_ms: 0, keep_bytes: SIZES.segment_bytes, acked_by_all };
        let checkpointer = Checkpointer::start(Arc::clone(&opened.log), config).expect("a thread starts");
        until("a checkpoint covers the log", || opened.log.checkpoints.written.load(Ordering::Relaxed) > 0);
        checkpointer.stop();
        // What no run covers.
        write(&opened, KEYS * 3 / 4..KEYS);
        drop(opened);
        folder::read(scratch.path())
    })
}

fn write(opened: &Opened, keys: std::ops::Range<usize>) {
    for number in keys {
        let key = format!("k:{number}");
        let (token, release) = claim(&opened.store, &key);
        opened.log.flush(&release).expect("a good disk");
        if number % 3 > 0 {
            let outcome = outcome_of(&key);
            let complete = Request::Complete {
                key: key.as_bytes(),
                token,
                outcome: &outcome,
                level: None,
                durable: false,
            };
            let (_, release) = run(&opened.store, &complete);
            opened.log.flush(&release).expect("a good disk");
        }
    }
    opened.log.flush_all().expect("a good disk");
}

fn claim(store: &Store, key: &str) -> (Token, Release) {
    let claimant = claimant_of(key);
    let request =
        Request::Claim(Claim { key: key.as_bytes(), claimant: claimant.as_bytes(), ..Claim::default() });
    let (token, release) = run(store, &request);
    (token.expect("a free key is granted"), release)
}

fn run(store: &Store, request: &Request<'_>) -> (Option<Token>, Release) {
    let mut token = None;
    let answer = |reply: &Reply<'_>| {
        if let Reply::Granted { token: granted, .. } = reply {
            token = Some(*granted);
        }
    };
    match store.run(request, T0 + 10, None, &mut Scratch::default(), answer) {
        Ok(Ran::Replied(release)) => (token, release),
        other => panic!("{other:?}"),
    }
}
