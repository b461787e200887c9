//! kill -9 under load: nothing that was acknowledged is lost (INV-7), at `interval` as at `always`.
//!
//! A process that is killed loses no byte it has given to the kernel, so both must hold everything; only power loss
//! tells them apart. What each client was told is kept, and asked for again after every start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use daemon::resp::{Client, Value};
use tests::cluster::pause;
use tests::{Cluster, Setup, field, status, until};

const KILLS: usize = 20;
const THREADS: usize = 3;
/// Between two pipelines of a client: the load is there to be interrupted, not to fill the machine's disk.
const BREATH: Duration = Duration::from_micros(500);
/// After so many operations a client breathes for longer.
const OPERATIONS_MANY: usize = 20_000;
/// See there.
const BREATH_LONG: Duration = Duration::from_millis(50);
/// Commands in flight on each connection.
const PIPELINED: usize = 16;

/// What a client knows of its operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Known {
    /// GRANTED was read.
    Claimed,
    /// COMPLETE was sent, its answer not read: either is right afterwards.
    Completing,
    /// COMPLETED was read.
    Completed,
}

/// What a client was told.
#[derive(Clone, Debug)]
pub struct Operation {
    key: String,
    token: String,
    pub known: Known,
}

/// Clients that write until they are told to stop or their daemon is gone.
pub struct Load {
    threads: Vec<JoinHandle<Vec<Operation>>>,
    stop: Arc<AtomicBool>,
    pub acknowledged: Arc<AtomicUsize>,
}

impl Load {
    pub fn start(cluster: &Cluster, at: usize, round: usize) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..THREADS)
            .map(|thread| {
                let mut client = cluster.client(at);
                let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
                std::thread::spawn(move || {
                    let mut operations = Vec::new();
                    for batch in 0.. {
                        let prefix = format!("load:{round}.{thread}.{batch}");
                        let ended = write_batch(&mut client, &prefix, &mut operations).is_none();
                        acknowledged.store(operations.len(), Ordering::Relaxed);
                        // They never stop; but a restart that a busy machine draws out must not find a backlog that grows with it.
                        pause(if operations.len() < OPERATIONS_MANY { BREATH } else { BREATH_LONG });
                        if ended || stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    operations
                })
            })
            .collect();
        Self { threads, stop, acknowledged }
    }

    /// What all clients were told.
    pub fn end(self) -> Vec<Operation> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("a client does not panic")).collect()
    }
}

/// One pipeline of claims, then one of completions of three in four; `None` once the daemon is gone.
fn write_batch(client: &mut Client, prefix: &str, operations: &mut Vec<Operation>) -> Option<()> {
    let begin = operations.len();
    let keys: Vec<_> = (0..PIPELINED).map(|number| format!("{prefix}.{number}")).collect();
    for key in &keys {
        client.send(&[b"CLAIM", key.as_bytes(), b"CLAIMANT", key.as_bytes(), b"LEASE", b"600000"]).ok()?;
    }
    for key in keys {
        let reply = client.recv().ok()?;
        match status(&reply).as_str() {
            "GRANTED" => {
                operations.push(Operation { key, token: field(&reply, "token"), known: Known::Claimed });
            }
            // Nothing was granted, so nothing can be lost; a disk or a clock may need a moment (S4.1).
            "UNAVAILABLE" => {}
            other => panic!("{key} was answered {other}: {reply:?}"),
        }
    }
    let completing = begin..begin + (operations.len() - begin) * 3 / 4;
    for operation in &mut operations[completing.clone()] {
        operation.known = Known::Completing;
        let (key, token) = (operation.key.as_bytes(), operation.token.as_bytes());
        client.send(&[b"COMPLETE", key, token, key]).ok()?;
    }
    for operation in &mut operations[completing] {
        let reply = client.recv().ok()?;
        assert_eq!(status(&reply), "COMPLETED", "{}: {reply:?}", operation.key);
        operation.known = Known::Completed;
    }
    Some(())
}

/// Every operation is at `at` as its client knows it.
pub fn check(cluster: &Cluster, at: usize, operations: &[Operation]) {
    let mut client = cluster.client(at);
    for batch in operations.chunks(200) {
        for operation in batch {
            let key = operation.key.as_bytes();
            client.send(&[b"CLAIM", key, b"CLAIMANT", key]).expect("the socket takes it");
        }
        for operation in batch {
            let reply = client.recv().expect("answered");
            let (key, status) = (&operation.key, status(&reply));
            let same_token = || field(&reply, "token") == operation.token;
            let same_outcome = || reply.field("outcome").and_then(Value::as_bytes) == Some(key.as_bytes());
            let kept = match operation.known {
                Known::Claimed => status == "GRANTED" && same_token(),
                Known::Completed => status == "REPLAY" && same_outcome(),
                Known::Completing if status == "GRANTED" => same_token(),
                Known::Completing => status == "REPLAY" && same_outcome(),
            };
            assert!(kept, "{operation:?} became {reply:?}");
        }
    }
}

fn kill_again_and_again(durable: &'static str) {
    let mut cluster = Cluster::alone(durable);
    let mut all = Vec::new();
    for round in 0..KILLS {
        let load = Load::start(&cluster, 0, round);
        until("something is acknowledged", || load.acknowledged.load(Ordering::Relaxed) > 0);
        // Moments spread over the log's write and sync cycle.
        pause(Duration::from_millis(((round * 37) % 61) as u64));
        assert!(cluster.kill(0), "it ran until it was killed");
        let operations = load.end();
        assert!(!operations.is_empty());
        cluster.restart(0);
        check(&cluster, 0, &operations);
        all.extend(operations);
    }
    let completed = all.iter().filter(|operation| operation.known == Known::Completed).count();
    println!("{durable}: {KILLS} kills, {} claims and {completed} outcomes kept", all.len());
    check(&cluster, 0, &all);
}

#[test]
fn twenty_kills_at_interval_lose_nothing() {
    kill_again_and_again("interval");
}

#[test]
fn twenty_kills_at_always_lose_nothing() {
    kill_again_and_again("always");
}

#[test]
fn three_regions_converge_on_everything_that_was_acknowledged() {
    let mut cluster = Cluster::start(Setup::regions(3));
    let mut all = Vec::new();
    for round in 0..6 {
        let victim = round % 3;
        let loads: Vec<_> = (0..3).map(|at| Load::start(&cluster, at, round * 3 + at)).collect();
        until("all three acknowledge", || loads.iter().all(|l| l.acknowledged.load(Ordering::Relaxed) > 0));
        pause(Duration::from_millis(20 + ((round * 37) % 61) as u64));
        assert!(cluster.kill(victim), "it ran until it was killed");
        // The others never stop.
        let survivor = &loads[(victim + 1) % 3];
        let before = survivor.acknowledged.load(Ordering::Relaxed);
        until("a survivor goes on", || survivor.acknowledged.load(Ordering::Relaxed) > before);
        cluster.restart(victim);
        all.extend(loads.into_iter().flat_map(Load::end));
    }
    cluster.wait_linked();
    cluster.agree();
    for at in 0..3 {
        check(&cluster, at, &all);
    }
}

#[test]
fn an_incarnation_survives_a_kill_and_an_epoch_does_not() {
    let mut cluster = Cluster::alone("always");
    let of = |cluster: &Cluster| {
        let reply = cluster.call(0, &[b"STATUS"]);
        (field(&reply, "incarnation"), field(&reply, "log_epoch").parse::<u64>().expect("a number"))
    };
    let mut epochs = vec![];
    let (incarnation, epoch) = of(&cluster);
    epochs.push(epoch);
    for _ in 0..3 {
        assert!(cluster.kill(0));
        cluster.restart(0);
        let (now, epoch) = of(&cluster);
        assert_eq!(now, incarnation, "its data is whole: the same life");
        assert!(epochs.iter().all(|before| *before < epoch), "INV-16: {epochs:?}, then {epoch}");
        epochs.push(epoch);
    }
}
