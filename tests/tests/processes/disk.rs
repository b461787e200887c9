//! Disks that are full, and disks that fail, seen from a client (S6).
//!
//! Full: claims are refused, everything else goes on from the reserve; then everything but reads is refused, with
//! nothing recorded; service returns by itself. Failing: nothing is acknowledged any more and the daemon ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use daemon::resp::{Client, ClientError, Value};
use rustix::io::Errno;
use tests::cluster::pause;
use tests::faults::{FailingCalls, SmallDisk};
use tests::{Cluster, Setup, field, int, skip, status, until};

use super::crash::{Known, Load, check};

const MIB: u64 = 1 << 20;
/// Segments of 1 MiB, two of them in reserve.
const SMALL_LOG: &str = "segment_bytes = \"1MiB\"\nreserve_bytes = \"2MiB\"\n";
/// A reply that is read so long after the disk failed was sent after it, however slow the machine is.
const SILENT_AFTER: Duration = Duration::from_millis(500);

/// The first region's data on a disk of 10 MiB. The disk stands first: it must outlive the daemons on it.
fn on_a_small_disk(regions: usize, test: &str) -> Option<(SmallDisk, Cluster)> {
    let disk = match SmallDisk::mount(10) {
        Ok(disk) => disk,
        Err(reason) => {
            skip(test, &reason);
            return None;
        }
    };
    let mut cluster = Cluster::prepare(Setup { log: SMALL_LOG.to_owned(), ..Setup::regions(regions) });
    let config = cluster.own(0).join("onced.toml");
    let text = std::fs::read_to_string(&config).expect("it is there");
    let data = format!("data_dir = \"{}\"", disk.path().join("data").display());
    std::fs::write(&config, text.replace("data_dir = \"data\"", &data)).expect("it can be written");
    (0..regions).for_each(|at| cluster.spawn(at));
    (0..regions).for_each(|at| cluster.wait_ready(at));
    if regions > 1 {
        cluster.wait_linked();
    }
    Some((disk, cluster))
}

fn call(client: &mut Client, words: &[&[u8]]) -> Value {
    client.call(words).expect("answered")
}

/// The status, with the reason of a refusal.
fn told(reply: &Value) -> String {
    match status(reply).as_str() {
        "UNAVAILABLE" => format!("UNAVAILABLE {}", field(reply, "reason")),
        other => other.to_owned(),
    }
}

const FULL: &str = "UNAVAILABLE disk_full";

/// Claims `count` keys, one after the other; their tokens.
fn hold(client: &mut Client, prefix: &str, count: usize) -> Vec<(String, String)> {
    let one = |number: usize| {
        let key = format!("{prefix}:{number}");
        let reply = call(client, &[b"CLAIM", key.as_bytes(), b"CLAIMANT", b"a", b"LEASE", b"600000"]);
        assert_eq!(told(&reply), "GRANTED", "{reply:?}");
        (key, field(&reply, "token"))
    };
    (0..count).map(one).collect()
}

/// Takes the rest of the disk, then claims with large notes until no further segment can be had; the file that took
/// the rest, and how many claims were granted.
fn fill(disk: &SmallDisk, client: &mut Client, prefix: &str) -> (PathBuf, usize) {
    let ballast = disk.take_rest();
    let note = [b'n'; 4096];
    for number in 0..100_000 {
        let key = format!("{prefix}:{number}");
        let reply = call(client, &[b"CLAIM", key.as_bytes(), b"NOTE", &note, b"LEASE", b"600000"]);
        match told(&reply).as_str() {
            "GRANTED" => {}
            FULL => return (ballast, number),
            other => panic!("{other}: {reply:?}"),
        }
    }
    panic!("400 MiB in a disk of 10");
}

fn complete(client: &mut Client, held: &(String, String), outcome: &[u8]) -> String {
    told(&call(client, &[b"COMPLETE", held.0.as_bytes(), held.1.as_bytes(), outcome]))
}

fn get(client: &mut Client, key: &str) -> String {
    told(&call(client, &[b"GET", key.as_bytes()]))
}

fn lines_with(cluster: &Cluster, text: &str) -> usize {
    cluster.log(0).lines().filter(|line| line.contains(text)).count()
}

#[test]
fn on_a_full_disk_claims_are_refused_and_the_rest_goes_on() {
    let test = "on_a_full_disk_claims_are_refused_and_the_rest_goes_on";
    let Some((disk, mut cluster)) = on_a_small_disk(2, test) else { return };
    let mut client = cluster.client(0);
    let held = hold(&mut client, "held", 400);
    let (ballast, granted) = fill(&disk, &mut client, "fill");
    assert!((150..500).contains(&granted), "{granted} claims of 4 KiB in what two segments still took");
    let told_status = call(&mut client, &[b"STATUS"]);
    assert_eq!(
        (field(&told_status, "ready"), field(&told_status, "reason")),
        ("false".into(), "disk_full".into())
    );
    assert!(int(&told_status, "log_room_bytes") > MIB as i64, "{told_status:?}");

    for one in &held[..100] {
        assert_eq!(complete(&mut client, one, b"done"), "COMPLETED");
    }
    let (key, token) = &held[100];
    let (key, token) = (key.as_bytes(), token.as_bytes());
    assert_eq!(told(&call(&mut client, &[b"RENEW", key, token, b"LEASE", b"700000"])), "RENEWED");
    assert_eq!(told(&call(&mut client, &[b"RELEASE", key, token])), "RELEASED");
    assert_eq!(get(&mut client, "fill:0"), "HELD");
    assert_eq!(get(&mut client, "held:0"), "SETTLED");
    // Another region is not full, and goes on replicating into this one.
    let mut other = cluster.client(1);
    let theirs = hold(&mut other, "theirs", 50);
    until("what the other region granted arrives", || get(&mut client, &theirs[49].0) == "HELD");
    until("what this region completed arrives there", || get(&mut other, "held:99") == "SETTLED");

    // A start needs a segment: the reserve has one.
    assert!(cluster.kill(0));
    cluster.spawn(0);
    cluster.wait_answering(0);
    let mut client = cluster.client(0);
    // A start also waits for its peers; the full disk is said before that.
    assert_eq!(told(&call(&mut client, &[b"CLAIM", b"new", b"CLAIMANT", b"a"])), FULL);
    for one in &held[..100] {
        assert_eq!(get(&mut client, &one.0), "SETTLED");
    }
    for one in &held[101..200] {
        assert_eq!(complete(&mut client, one, b"done after a start"), "COMPLETED");
    }
    assert_eq!(get(&mut client, &theirs[0].0), "HELD");

    let pid = cluster.pid(0);
    std::fs::remove_file(ballast).expect("it is there");
    until("claims are granted again", || {
        told(&call(&mut client, &[b"CLAIM", b"new", b"CLAIMANT", b"a"])) == "GRANTED"
    });
    assert_eq!((pid, cluster.ended(0)), (cluster.pid(0), None), "without a restart");
    // Each of the two processes said it once; the second one also its end.
    until("the end of it is said", || lines_with(&cluster, "the disk has room again") == 1);
    assert_eq!(lines_with(&cluster, "the disk is full: claims answer"), 2);
    let info = call(&mut client, &[b"INFO"]);
    let info = info.as_str().expect("text").to_owned();
    assert!(info.contains("onced_disk_full_total 1"), "{info}");
    assert!(info.contains("onced_log_room_bytes"), "{info}");
    cluster.wait_linked();
    cluster.agree();
}

#[test]
fn with_the_reserve_used_up_nothing_is_recorded_and_nothing_is_lost() {
    let test = "with_the_reserve_used_up_nothing_is_recorded_and_nothing_is_lost";
    let Some((disk, mut cluster)) = on_a_small_disk(2, test) else { return };
    let mut client = cluster.client(0);
    let held = hold(&mut client, "held", 1_000);
    let (ballast, _) = fill(&disk, &mut client, "fill");
    // 3 MiB at most are allocated: outcomes of 8 KiB use that up.
    let mut statuses: Vec<_> = held.iter().map(|one| complete(&mut client, one, &[b'o'; 8 * 1024])).collect();
    let done = statuses.iter().filter(|status| *status == "COMPLETED").count();
    assert!((100..400).contains(&done), "{done} outcomes of 8 KiB from a reserve of 2 to 3 MiB");
    statuses.retain(|status| *status != "COMPLETED");
    assert!(statuses.iter().all(|status| *status == FULL), "{statuses:?}");
    let after: Vec<_> = held.iter().map(|one| get(&mut client, &one.0)).collect();
    let settled = after.iter().filter(|status| *status == "SETTLED").count();
    let still_held = after.iter().filter(|status| *status == "HELD").count();
    assert_eq!((settled, still_held), (done, held.len() - done), "what was refused is not recorded");
    // Down to the last small record.
    let open: Vec<_> =
        held.iter().zip(&after).filter(|(_, status)| *status == "HELD").map(|(one, _)| one).collect();
    let junk = |number: usize| format!("junk:{number}");
    let mut forgotten = 0;
    while told(&call(&mut client, &[b"FORGET", junk(forgotten).as_bytes()])) != FULL {
        forgotten += 1;
        assert!(forgotten < 1_000, "the reserve has an end");
    }
    until("it is said", || lines_with(&cluster, "the reserve is used up") == 1);
    let (key, token) = (open[1].0.as_bytes(), open[1].1.as_bytes());
    assert_eq!(told(&call(&mut client, &[b"RENEW", key, token])), FULL);
    assert_eq!(told(&call(&mut client, &[b"RELEASE", key, token])), FULL);
    assert_eq!(complete(&mut client, open[1], b""), FULL);
    assert_eq!(told(&call(&mut client, &[b"FORGET", key])), FULL);
    assert_eq!(get(&mut client, &open[1].0), "HELD");

    // Peers wait: nothing of theirs is taken, acknowledged or dropped.
    let mut other = cluster.client(1);
    let theirs = hold(&mut other, "theirs", 50);
    until("the link says why it stalls", || cluster.peer(0, 1, "state") == "disk_full");
    assert_eq!(get(&mut client, &theirs[49].0), "FREE");
    assert_eq!(get(&mut client, "fill:0"), "HELD");

    // Even so it starts, again and again, and knows everything.
    for _ in 0..3 {
        assert!(cluster.kill(0));
        cluster.spawn(0);
        cluster.wait_answering(0);
        let mut client = cluster.client(0);
        assert_eq!(told(&call(&mut client, &[b"CLAIM", b"new", b"CLAIMANT", b"a"])), FULL);
        let again: Vec<_> = held.iter().map(|one| get(&mut client, &one.0)).collect();
        assert_eq!(again, after);
        pause(Duration::from_millis(300));
    }
    let mut client = cluster.client(0);
    std::fs::remove_file(ballast).expect("it is there");
    until("completions are taken again", || complete(&mut client, open[2], b"late") == "COMPLETED");
    until("claims are granted again", || {
        told(&call(&mut client, &[b"CLAIM", b"new", b"CLAIMANT", b"a"])) == "GRANTED"
    });
    until("what the peer held back arrives", || get(&mut client, &theirs[49].0) == "HELD");
    cluster.wait_linked();
    cluster.agree();
}

/// INV-17: a disk that onced itself has filled. What expires is given back without a byte of room to begin with, and
/// though a peer that is away has had none of it: that one is sent what still counts.
#[test]
fn what_expires_makes_room_again() {
    let test = "what_expires_makes_room_again";
    let Some((disk, mut cluster)) = on_a_small_disk(2, test) else { return };
    let mut client = cluster.client(0);
    let kept = hold(&mut client, "kept", 50);
    assert!(cluster.kill(1));
    let note = [b'n'; 4096];
    let claim = |client: &mut Client, key: &str| {
        let words: [&[u8]; 8] =
            [b"CLAIM", key.as_bytes(), b"NOTE", &note, b"LEASE", b"500", b"RETENTION", b"3000"];
        told(&call(client, &words))
    };
    let mut brief = (0..10_000).map(|number| claim(&mut client, &format!("brief:{number}")));
    assert_eq!(brief.find(|told| told != "GRANTED").as_deref(), Some(FULL), "40 MiB in a disk of 10");
    // Nothing is left for anybody.
    let _ballast = disk.take_rest();
    until("claims are granted again", || claim(&mut client, "again") == "GRANTED");
    assert_eq!(cluster.ended(0), None, "without a restart");
    assert!(kept.iter().all(|one| get(&mut client, &one.0) == "HELD"));
    cluster.restart(1);
    cluster.wait_linked();
    cluster.agree();
    assert!(kept.iter().all(|one| get(&mut cluster.client(1), &one.0) == "HELD"));
}

/// A file system may promise room and have none (copy on write, quotas, networks). What was decided then waits,
/// unacknowledged, and is answered when there is room.
#[test]
fn a_write_without_room_waits_and_loses_nothing() {
    let test = "a_write_without_room_waits_and_loses_nothing";
    let Some((faults, mut cluster)) = with_failing_calls("interval", test) else { return };
    let mut client = cluster.client(0);
    let held = hold(&mut client, "held", 10);
    faults.fail("pwrite", Errno::NOSPC, false);
    let mut waiting = cluster.client(0);
    waiting.send(&[b"CLAIM", b"waits", b"CLAIMANT", b"a"]).expect("taken");
    waiting.flush().expect("taken");
    until("the write has failed", || faults.has_failed("pwrite"));
    until("new claims are refused", || {
        told(&call(&mut cluster.client(0), &[b"CLAIM", b"new", b"CLAIMANT", b"a"])) == FULL
    });
    waiting.set_timeout(Duration::from_millis(300)).expect("a timeout");
    assert!(waiting.recv().is_err(), "not written, not answered");
    assert_eq!(complete(&mut cluster.client(0), &held[0], b"done"), FULL);
    assert_eq!(get(&mut cluster.client(0), &held[0].0), "HELD");
    assert_eq!(cluster.ended(0), None, "a full disk is no failed disk");
    faults.stop("pwrite");
    until("claims are granted again", || {
        told(&call(&mut cluster.client(0), &[b"CLAIM", b"new", b"CLAIMANT", b"a"])) == "GRANTED"
    });
    // The one that waited was granted, and its answer, had its client been more patient, would have come.
    let mut client = cluster.client(0);
    let again = call(&mut client, &[b"CLAIM", b"waits", b"CLAIMANT", b"a"]);
    assert_eq!(told(&again), "GRANTED", "to the same claimant");
    assert_eq!(complete(&mut client, &held[0], b"done"), "COMPLETED");
    assert!(cluster.kill(0));
    cluster.restart(0);
    let mut client = cluster.client(0);
    assert_eq!(get(&mut client, "waits"), "HELD");
    assert_eq!(get(&mut client, &held[0].0), "SETTLED");
}

/// One region whose system calls can be made to fail.
fn with_failing_calls(durable: &'static str, test: &str) -> Option<(FailingCalls, Cluster)> {
    let faults = match FailingCalls::compile() {
        Ok(faults) => faults,
        Err(reason) => {
            skip(test, &reason);
            return None;
        }
    };
    let mut cluster = Cluster::prepare(Setup { durable, ..Setup::regions(1) });
    cluster.spawn_with(0, |command| faults.load_into(command));
    cluster.wait_ready(0);
    Some((faults, cluster))
}

/// A client that reads one key all the time, with many commands in flight: what a daemon that stops would still
/// answer, and what needs no write of its own.
struct Reads {
    thread: JoinHandle<()>,
    answered: Arc<AtomicUsize>,
}

impl Reads {
    fn start(cluster: &Cluster, key: &[u8]) -> Self {
        let (mut client, key) = (cluster.client(0), key.to_owned());
        let answered = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&answered);
        let thread = std::thread::spawn(move || {
            let ask = |client: &mut Client| -> Result<(), ClientError> {
                client.send(&[b"GET", &key])?;
                client.flush()
            };
            let mut read = || -> Result<(), ClientError> {
                (0..64).try_for_each(|_| ask(&mut client))?;
                loop {
                    client.recv()?;
                    counted.fetch_add(1, Ordering::Relaxed);
                    ask(&mut client)?;
                }
            };
            let ended = read();
            assert!(matches!(ended, Err(ClientError::Closed | ClientError::Io(_))), "{ended:?}");
        });
        Self { thread, answered }
    }

    fn end(self) {
        self.thread.join().expect("its connection was closed");
    }
}

/// `call` fails once with EIO, as if the disk had lost what it was given, and then pretends that nothing was. Under
/// load nothing may be acknowledged from then on, and what was acknowledged before must be there after a restart.
fn fails_once(call: &str, durable: &'static str, says: &str, test: &str) {
    let Some((faults, mut cluster)) = with_failing_calls(durable, test) else { return };
    let load = Load::start(&cluster, 0, 0);
    until("something is acknowledged", || load.acknowledged.load(Ordering::Relaxed) > 100);
    let reads = Reads::start(&cluster, b"load:0.0.0.0");
    until("something is read", || reads.answered.load(Ordering::Relaxed) > 1_000);
    faults.fail(call, Errno::IO, true);
    until("the call has failed", || faults.has_failed(call));
    pause(SILENT_AFTER);
    let so_far = || (reads.answered.load(Ordering::Relaxed), load.acknowledged.load(Ordering::Relaxed));
    let answered = so_far();
    pause(SILENT_AFTER);
    assert_eq!(so_far(), answered, "answers left after the disk had failed");
    reads.end();
    let ended = cluster.wait_end(0);
    assert_eq!(ended.code(), Some(70), "it ends by itself and says so: {ended}");
    assert!(cluster.log(0).contains(says), "{}", cluster.log(0));
    let operations = load.end();
    cluster.restart(0);
    check(&cluster, 0, &operations);
    let completed = operations.iter().filter(|operation| operation.known == Known::Completed).count();
    println!("{call} at {durable}: {} claims and {completed} outcomes kept", operations.len());
}

#[test]
fn a_failed_sync_ends_the_daemon_at_interval() {
    fails_once("fdatasync", "interval", "cannot sync the log", "a_failed_sync_ends_the_daemon_at_interval");
}

#[test]
fn a_failed_sync_ends_the_daemon_at_always() {
    fails_once("fdatasync", "always", "cannot sync the log", "a_failed_sync_ends_the_daemon_at_always");
}

#[test]
fn a_failed_write_ends_the_daemon_at_interval() {
    fails_once("pwrite", "interval", "cannot write to the log", "a_failed_write_ends_the_daemon_at_interval");
}

#[test]
fn a_failed_write_ends_the_daemon_at_always() {
    fails_once("pwrite", "always", "cannot write to the log", "a_failed_write_ends_the_daemon_at_always");
}
