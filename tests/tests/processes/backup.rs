//! Backups of a daemon that goes on, and regions restored from them (S6).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use daemon::resp::Client;
use tests::cluster::pause;
use tests::{Cluster, LIMIT, Setup, build, field, status, until};

use super::crash::{Load, check};

/// Keys that are acknowledged before a save begins.
const KEYS: usize = 200;
/// Segments are closed, covered and deleted while a save reads them.
const SMALL_LOG: &str = "segment_bytes = \"1MiB\"\nreserve_bytes = \"2MiB\"\nkeep_bytes = \"0B\"\n";

fn small(regions: usize) -> Setup {
    Setup { log: SMALL_LOG.to_owned(), ..Setup::regions(regions) }
}

/// What a command has printed; it must have ended with 0.
pub fn printed(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Claims `prefix:0` and so on.
pub fn claim_all(cluster: &Cluster, at: usize, prefix: &str, keys: usize) {
    let mut client = cluster.client(at);
    for number in 0..keys {
        let key = format!("{prefix}:{number}");
        let reply = client.call(&[b"CLAIM", key.as_bytes(), b"CLAIMANT", b"me", b"LEASE", b"600000"]);
        assert_eq!(status(&reply.expect("answered")), "GRANTED");
    }
}

/// How many of `prefix:0` and so on are held.
pub fn held(cluster: &Cluster, at: usize, prefix: &str, keys: usize) -> usize {
    let mut client = cluster.client(at);
    let mut is_held = |number: &usize| {
        let reply = client.call(&[b"GET", format!("{prefix}:{number}").as_bytes()]);
        status(&reply.expect("answered")) == "HELD"
    };
    (0..keys).filter(|number| is_held(number)).count()
}

fn save(cluster: &Cluster, at: usize, name: &str) -> (PathBuf, serde_json::Value) {
    let folder = cluster.folder().join(name);
    let text = printed(&cluster.onced(at, &["backup", "save", &path(&folder), "--json"], ""));
    (folder, serde_json::from_str(&text).expect("one object"))
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// Loses a region's disk.
fn lose(cluster: &Cluster, at: usize) {
    std::fs::remove_dir_all(cluster.own(at).join("data")).expect("it was there");
}

fn restore(cluster: &Cluster, at: usize, backup: &Path) -> String {
    printed(&cluster.onced(at, &["backup", "restore", &path(backup)], ""))
}

fn incarnation(cluster: &Cluster, at: usize) -> u64 {
    field(&cluster.call(at, &[b"STATUS"]), "incarnation").parse().expect("a number")
}

#[test]
fn a_save_under_load_holds_all_that_was_acknowledged_and_restores_into_a_new_life() {
    let mut cluster = Cluster::start(small(2));
    let before = incarnation(&cluster, 0);
    let load = Load::start(&cluster, 0, 0);
    until("the log has grown over some segments", || load.acknowledged.load(Ordering::Relaxed) > 12_000);
    for round in 0..3 {
        let prefix = format!("mine-{round}");
        claim_all(&cluster, 0, &prefix, KEYS);
        let (folder, about) = save(&cluster, 0, &format!("backup-{round}"));
        assert_eq!(about["contents"]["namespaces"][&prefix], KEYS, "{about}");
        let again = printed(&cluster.onced(0, &["backup", "inspect", &path(&folder), "--json"], ""));
        let again: serde_json::Value = serde_json::from_str(&again).expect("one object");
        assert_eq!(again, about);
    }
    claim_all(&cluster, 0, "later", KEYS);
    let operations = load.end();
    let digest = cluster.agree();
    assert!(cluster.kill(0));
    lose(&cluster, 0);
    let text = restore(&cluster, 0, &cluster.folder().join("backup-2"));
    assert!(text.contains("begins a new incarnation") && text.contains("once it has caught up"), "{text}");
    cluster.restart(0);
    assert!(incarnation(&cluster, 0) > before);
    cluster.wait_linked();
    assert_eq!(cluster.agree(), digest, "what the backup did not have, the peer brought");
    assert_eq!(held(&cluster, 0, "later", KEYS), KEYS);
    check(&cluster, 0, &operations);
    claim_all(&cluster, 0, "new", KEYS);
    cluster.agree();
}

#[test]
fn a_restored_region_grants_nothing_before_a_peer_has_come() {
    let mut cluster = Cluster::start(Setup { tables: catch_up_fast(), ..small(2) });
    claim_all(&cluster, 0, "old", KEYS);
    let (folder, _) = save(&cluster, 0, "backup");
    claim_all(&cluster, 0, "later", KEYS);
    cluster.agree();
    (0..2).for_each(|at| assert!(cluster.kill(at)));
    lose(&cluster, 0);
    restore(&cluster, 0, &folder);
    cluster.spawn(0);
    cluster.wait_answering(0);
    let alone = Instant::now();
    while alone.elapsed() < Duration::from_secs(3) {
        let reply = cluster.call(0, &[b"CLAIM", b"later:0"]);
        assert_eq!((status(&reply), field(&reply, "reason")), ("UNAVAILABLE".into(), "catching_up".into()));
        pause(Duration::from_millis(100));
    }
    assert_eq!(held(&cluster, 0, "old", KEYS), KEYS, "what it has, it answers");
    cluster.spawn(1);
    cluster.wait_ready(0);
    assert_eq!(held(&cluster, 0, "later", KEYS), KEYS, "nothing of its former life runs twice");
}

/// Claims wait for peers that are reached for a second only: what holds them back longer is the missing data.
fn catch_up_fast() -> String {
    "[peers]\ncatch_up_wait = \"1s\"\n".to_owned()
}

#[test]
fn the_operators_word_that_no_peer_will_come_is_taken() {
    let mut cluster = Cluster::start(Setup { tables: catch_up_fast(), ..small(2) });
    claim_all(&cluster, 0, "old", KEYS);
    let (folder, _) = save(&cluster, 0, "backup");
    (0..2).for_each(|at| assert!(cluster.kill(at)));
    lose(&cluster, 0);
    restore(&cluster, 0, &folder);
    cluster.spawn_with(0, |command| {
        command.arg("--alone");
    });
    cluster.wait_ready(0);
    assert_eq!(held(&cluster, 0, "old", KEYS), KEYS);
    claim_all(&cluster, 0, "new", KEYS);
}

/// A daemon on a copy of a region's data, somewhere else.
struct Clone {
    child: Child,
    own: PathBuf,
}

impl Clone {
    /// As region `at`, but for socket and port.
    fn start(cluster: &Cluster, at: usize, data: &Path) -> Self {
        let own = cluster.folder().join("clone");
        std::fs::create_dir_all(&own).expect("writable");
        for entry in std::fs::read_dir(cluster.own(at)).expect("readable") {
            let from = entry.expect("readable").path();
            if from.is_file() && !from.ends_with("log.txt") {
                std::fs::copy(&from, own.join(from.file_name().expect("a name"))).expect("writable");
            }
        }
        let config = own.join("onced.toml");
        let text = std::fs::read_to_string(&config).expect("readable");
        let port = format!("127.0.0.1:{}", cluster.port(at));
        let text = text.replacen(&port, "127.0.0.1:0", 1);
        let text = text.replace("data_dir = \"data\"", &format!("data_dir = \"{}\"", data.display()));
        std::fs::write(&config, text).expect("writable");
        let log = std::fs::File::create(own.join("log.txt")).expect("writable");
        let mut command = Command::new(build::onced());
        command.arg("serve").arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.env("ONCED_LOG", "info").stderr(log).spawn().expect("it can be started");
        Self { child, own }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.own.join("log.txt")).unwrap_or_default()
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        // Errors say that it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the clone's log:\n{}", self.log());
        }
    }
}

#[test]
fn a_copy_of_a_live_regions_data_is_refused_by_its_peers_and_says_so() {
    let mut cluster = Cluster::start(small(2));
    claim_all(&cluster, 0, "old", KEYS);
    cluster.agree();
    // As somebody would who moves a machine: stop, copy, and start on both.
    cluster.terminate(0);
    assert!(cluster.wait_end(0).success());
    let copy = cluster.folder().join("copied-data");
    std::fs::create_dir_all(&copy).expect("writable");
    for entry in std::fs::read_dir(cluster.own(0).join("data")).expect("readable") {
        let from = entry.expect("readable").path();
        if from.is_file() {
            std::fs::copy(&from, copy.join(from.file_name().expect("a name"))).expect("writable");
        }
    }
    cluster.restart(0);
    claim_all(&cluster, 0, "later", KEYS);
    cluster.agree();
    let clone = Clone::start(&cluster, 0, &copy);
    until("the clone says what it is", || clone.log().contains("this data folder is a copy or was restored"));
    let socket = clone.own.join("onced.sock");
    let mut client = Client::connect(&socket, LIMIT).expect("it answers");
    client.hello3().expect("it answers");
    let reply = client.call(&[b"CLAIM", b"later:0"]).expect("it answers");
    assert_eq!(status(&reply), "UNAVAILABLE", "{reply:?}");
    let peers = Command::new(build::onced()).arg("peers").env("ONCED_SOCKET", &socket).output();
    let peers = printed(&peers.expect("it can be started"));
    assert!(peers.contains("onced rejoin"), "{peers}");
    let status_text = Command::new(build::onced()).arg("status").env("ONCED_SOCKET", &socket).output();
    let status_text = printed(&status_text.expect("it can be started"));
    assert!(status_text.contains("NOT READY (old_copy)"), "{status_text}");
    assert!(cluster.log(1).contains("its data is older than what this region has already had from it"));
    // It keeps away: the live region's link is not taken from it again and again.
    cluster.wait_linked();
    claim_all(&cluster, 0, "beside", KEYS);
    cluster.agree();
    drop(clone);
    claim_all(&cluster, 0, "still", KEYS);
    cluster.agree();
}
