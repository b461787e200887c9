//! A data folder of every released version, read by this one.
//!
//! `tests/golden/disk-vN` was written by a daemon of format version N. Its dump must stay what it is, word for word,
//! and a start from a copy of it must find its keys. A change of the format bumps its version and adds a folder.

use std::path::{Path, PathBuf};

use crdt::recovery::RecoveryConfig;
use crdt::store::StoreConfig;
use daemon::cli::log_dump;
use daemon::dump::{Ended, Selection, dump};
use daemon::log::{self, LogSizes};
use tests::cluster::pause;
use tests::{Cluster, Setup, field, status, until};

use super::backup::claim_all;

const KEYS: usize = 5;

fn folder(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/golden")).join(name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// The dump of all files, as `onced log dump *` prints it in the folder.
fn dumped(folder: &Path) -> String {
    let mut text = String::new();
    for path in files(folder) {
        let ended = dump(&path, &Selection::default(), &mut |line| {
            let plain = log_dump::text(&line).replace(&format!("{}/", folder.display()), "");
            text.push_str(&plain);
            Ok(())
        });
        assert_eq!(ended.expect("of this version"), Ended::Whole, "{}", path.display());
    }
    text
}

#[test]
fn what_version_1_wrote_is_shown_as_ever() {
    let expected = std::fs::read_to_string(folder("disk-v1.txt")).expect("committed");
    let shown = dumped(&folder("disk-v1"));
    for (number, (shown, expected)) in shown.lines().zip(expected.lines()).enumerate() {
        assert_eq!(shown, expected, "line {}", number + 1);
    }
    assert_eq!(shown.lines().count(), expected.lines().count());
    let whole = shown.contains("segment ") && shown.contains("run ") && shown.contains("manifest ");
    let kinds = ["entry own", "entry merged", "conflict", "cursor", "ceiling", "stop", "synced", "complete"];
    assert!(whole && kinds.iter().all(|kind| shown.contains(kind)), "every kind of file and record is in it");
}

#[test]
fn what_version_1_wrote_can_be_started_from() {
    let copy = tempfile::tempdir().expect("a folder");
    for path in files(&folder("disk-v1")) {
        std::fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("writable");
    }
    let opened = log::open(copy.path(), config_v1(), sizes(), None, |_, _| {}).expect("readable");
    assert!(!opened.new_incarnation, "nothing of it is missing");
    let known = |key: &str| opened.store.inspect(key.as_bytes()).is_some();
    for prefix in ["early", "late", "theirs"] {
        assert!((0..KEYS).all(|number| known(&format!("{prefix}:{number}"))), "{prefix}");
    }
    assert!(known("twice:0") && known("done:0") && known("released:0") && known("gone:0"));
    assert_eq!(opened.store.conflict_count(), 1);
}

/// As of the moment when the folder was written.
fn config_v1() -> RecoveryConfig {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "a".repeat(64)).expect("writable");
    let secret = daemon::config::ClusterSecret::read(secret.path()).expect("a good secret");
    let keys = crdt::hash::ClusterKeys { hash: secret.hash_key(), tag: secret.tag_key() };
    let (region, header) = (crdt::ids::RegionId(1), newest_header(&folder("disk-v1")));
    RecoveryConfig {
        store: StoreConfig {
            region,
            incarnation: header.incarnation,
            keys,
            max_drift_ms: 500,
            shards: crdt::limits::SHARDS_DEFAULT,
            max_memory_bytes: 64 << 20,
            ring_bytes_max: 0,
        },
        policies: crdt::policy::Policies::default(),
        cluster: secret.cluster_digest("onced-tests"),
        boot: header.boot,
        acknowledged_unsynced: true,
        wall_ms: header.created_ms + 1_000,
        salvage: false,
        keys_hint: 0,
    }
}

fn sizes() -> LogSizes {
    LogSizes { segment_bytes: 64 * 1024, reserve_bytes: 0 }
}

fn newest_header(folder: &Path) -> crdt::journal::SegmentHeader {
    let newest = files(folder).into_iter().rfind(|path| path.extension().is_some_and(|found| found == "log"));
    let bytes = std::fs::read(newest.expect("a segment")).expect("readable");
    crdt::journal::SegmentHeader::decode(&bytes).expect("of this version")
}

/// Writes the folder of the version that this is, and its dump; once a version, by hand.
#[test]
#[ignore = "writes tests/golden, for a new version of the format: ONCED_GOLDEN=disk-vN"]
fn write_the_golden_folder() {
    let name = std::env::var("ONCED_GOLDEN").expect("ONCED_GOLDEN names the folder to be made");
    let small = "segment_bytes = \"1MiB\"\nreserve_bytes = \"1MiB\"\n".to_owned();
    let retention = "[defaults]\nretention = \"30d\"\n".to_owned();
    let mut cluster = Cluster::start(Setup { log: small, tables: retention, ..Setup::regions(2) });
    let call = |cluster: &Cluster, at: usize, words: &[&[u8]]| cluster.call(at, words);
    let claim = |cluster: &Cluster, at: usize, key: &[u8]| {
        let reply = call(cluster, at, &[b"CLAIM", key, b"NOTE", b"of a test", b"CLAIMANT", b"w1"]);
        assert_eq!(status(&reply), "GRANTED");
        field(&reply, "token")
    };
    claim_all(&cluster, 0, "early", KEYS);
    claim_all(&cluster, 1, "theirs", KEYS);
    let token = claim(&cluster, 0, b"done:0");
    call(&cluster, 0, &[b"COMPLETE", b"done:0", token.as_bytes(), b"{\"charge\":\"ch_1\"}"]);
    let token = claim(&cluster, 0, b"released:0");
    call(&cluster, 0, &[b"RELEASE", b"released:0", token.as_bytes()]);
    claim(&cluster, 0, b"gone:0");
    call(&cluster, 0, &[b"FORGET", b"gone:0"]);
    cluster.cut(0, 1);
    for at in 0..2 {
        let token = claim(&cluster, at, b"twice:0");
        call(&cluster, at, &[b"COMPLETE", b"twice:0", token.as_bytes(), format!("by {at}").as_bytes()]);
    }
    cluster.heal(0, 1);
    cluster.agree();
    until("the conflict is known", || field(&cluster.call(0, &[b"STATUS"]), "conflicts") == "1");
    // A closed segment is covered by runs; the peer is away, so it stays.
    cluster.kill(1);
    claim(&cluster, 0, b"early:last");
    cluster.terminate(0);
    cluster.wait_end(0);
    cluster.restart(0);
    let data = cluster.own(0).join("data");
    until("a checkpoint covers it", || data.join("checkpoint").exists());
    claim_all(&cluster, 0, "late", KEYS);
    pause(std::time::Duration::from_millis(200));
    claim(&cluster, 0, b"late:last");
    cluster.terminate(0);
    cluster.wait_end(0);
    let golden = folder(&name);
    std::fs::create_dir_all(&golden).expect("writable");
    for path in files(&data) {
        let extension = path.extension().and_then(|found| found.to_str()).unwrap_or("");
        let mut bytes = std::fs::read(&path).expect("readable");
        if !matches!(extension, "log" | "run") && !path.ends_with("checkpoint") {
            continue;
        }
        if extension == "log" {
            // Some of the zeros that it was allocated with.
            let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(bytes.len().min(end + 512));
        }
        std::fs::write(golden.join(path.file_name().expect("a name")), bytes).expect("writable");
    }
    std::fs::write(folder(&format!("{name}.txt")), dumped(&golden)).expect("writable");
}
