//! S5 at `quorum`, with real daemons: exactly one claimant of any number is granted, a minority says so in bounded time
//! and goes on with what is local, and what is done is known to a majority.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use daemon::resp::{Client, Value};
use rustix::process::{Pid, Signal, kill_process};
use tests::{Cluster, Setup, field, status, until};

const EU: usize = 0;
const US: usize = 1;
const AP: usize = 2;

/// Keys of `bank` are decided by majorities, all others locally.
fn regions(count: usize) -> Cluster {
    let tables = "[namespace.bank]\nlevel = \"quorum\"\nlease = \"5s\"\n".to_owned();
    let cluster = Cluster::start(Setup { tables, ..Setup::regions(count) });
    let mut clients: Vec<Client> = (0..count).map(|at| cluster.client(at)).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        // Each finds its voice by comparing with the others.
        until("majorities are counted", || {
            let key = format!("bank:warm-{at}-{:?}", Instant::now());
            status(&claim(client, key.as_bytes(), b"w")) == "GRANTED"
        });
    }
    cluster
}

fn claim(client: &mut Client, key: &[u8], claimant: &[u8]) -> Value {
    client.call(&[b"CLAIM", key, b"CLAIMANT", claimant]).expect("CLAIM is answered")
}

fn complete(client: &mut Client, key: &[u8], token: &str) -> Value {
    client.call(&[b"COMPLETE", key, token.as_bytes(), b"done"]).expect("COMPLETE is answered")
}

#[test]
fn a_claim_is_granted_by_a_majority_and_its_outcome_is_known_to_one() {
    let cluster = regions(3);
    let mut clients = [EU, US, AP].map(|at| cluster.client(at));
    let granted = claim(&mut clients[EU], b"bank:1", b"a");
    assert_eq!((status(&granted).as_str(), field(&granted, "level").as_str()), ("GRANTED", "quorum"));
    // Not a moment to wait: a majority knew of it first, and so does whoever asks one.
    assert_eq!(status(&claim(&mut clients[US], b"bank:1", b"b")), "IN_PROGRESS");
    assert_eq!(status(&claim(&mut clients[AP], b"bank:1", b"c")), "IN_PROGRESS");
    let done = complete(&mut clients[EU], b"bank:1", &field(&granted, "token"));
    assert_eq!((status(&done).as_str(), field(&done, "level").as_str()), ("COMPLETED", "quorum"));
    for client in &mut clients[1..] {
        assert_eq!(status(&claim(client, b"bank:1", b"d")), "REPLAY");
    }
    cluster.agree();
}

/// Powers of two of claimants, over three regions.
#[test]
fn of_any_number_of_claimants_one_is_granted_at_quorum_and_one_a_region_at_local() {
    let cluster = Arc::new(regions(3));
    for exponent in 0..=8 {
        let count = 1usize << exponent;
        let granted = |namespace: &str| {
            let key = format!("{namespace}:race-{exponent}");
            let barrier = Arc::new(Barrier::new(count));
            let race = |number: usize| {
                let (cluster, barrier, key) = (Arc::clone(&cluster), Arc::clone(&barrier), key.clone());
                std::thread::spawn(move || {
                    let mut client = cluster.client(number % 3);
                    barrier.wait();
                    let name = format!("claimant-{number}");
                    status(&claim(&mut client, key.as_bytes(), name.as_bytes()))
                })
            };
            let racing: Vec<_> = (0..count).map(race).collect();
            let told: Vec<String> = racing.into_iter().map(|one| one.join().expect("told")).collect();
            told.iter().filter(|status| *status == "GRANTED").count()
        };
        assert_eq!(granted("bank"), 1, "{count} claimants at quorum");
        let at_local = granted("pay");
        assert!((1..=3.min(count)).contains(&at_local), "{at_local} of {count} claimants at local");
    }
}

#[test]
fn a_minority_refuses_what_majorities_decide_in_bounded_time_and_goes_on_with_the_rest() {
    let cluster = regions(3);
    cluster.cut(EU, US);
    cluster.cut(EU, AP);
    let mut eu = cluster.client(EU);
    let began = Instant::now();
    let refused = claim(&mut eu, b"bank:1", b"a");
    assert_eq!((status(&refused).as_str(), field(&refused, "reason").as_str()), ("UNAVAILABLE", "level"));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(status(&claim(&mut eu, b"pay:1", b"a")), "GRANTED", "local keys go on");
    let mut us = cluster.client(US);
    let granted = claim(&mut us, b"bank:1", b"b");
    assert_eq!(status(&granted), "GRANTED", "two of three are a majority");
    assert_eq!(status(&complete(&mut us, b"bank:1", &field(&granted, "token"))), "COMPLETED");
    // It was recorded here once, and no majority knew.
    let token = field(&claim(&mut us, b"bank:2", b"b"), "token");
    let late = complete(&mut eu, b"bank:2", &token);
    assert_eq!((status(&late).as_str(), field(&late, "reason").as_str()), ("UNAVAILABLE", "recorded_here"));
    cluster.heal(EU, US);
    cluster.heal(EU, AP);
    until("it is known to a majority", || status(&complete(&mut eu, b"bank:2", &token)) == "COMPLETED");
    assert_eq!(status(&claim(&mut eu, b"bank:1", b"a")), "REPLAY");
    cluster.agree();
}

/// The story: a claimant that vanished while a majority was asked left its key blocked until the lease was over.
#[test]
fn a_claimant_that_goes_while_a_majority_is_asked_leaves_the_key_free() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let cluster = regions(3);
    // They hear nothing, and their links stand.
    let stopped =
        [US, AP].map(|at| Pid::from_raw(cluster.pid(at).cast_signed()).expect("a process has a number"));
    let signal =
        |signal: Signal| stopped.iter().for_each(|pid| kill_process(*pid, signal).expect("a child of ours"));
    signal(Signal::STOP);
    let mut stream = UnixStream::connect(cluster.socket(EU)).expect("connect");
    stream.write_all(b"CLAIM bank:1 CLAIMANT a LEASE 60000\r\n").expect("sent");
    let mut eu = cluster.client(EU);
    let attempts = |client: &mut Client| {
        let reply = client.call(&[b"INSPECT", b"bank:1"]).expect("INSPECT is answered");
        let attempts = reply.field("attempts").and_then(Value::as_array).map(<[Value]>::to_vec);
        attempts.unwrap_or_default().iter().map(|attempt| field(attempt, "phase")).collect::<Vec<_>>()
    };
    until("it asks", || attempts(&mut eu) == ["asked"]);
    drop(stream);
    until("it is withdrawn", || attempts(&mut eu) == ["released"]);
    signal(Signal::CONT);
    until("another is granted", || status(&claim(&mut eu, b"bank:1", b"b")) == "GRANTED");
}

#[test]
fn a_region_that_was_killed_counts_again_at_once_and_a_wiped_one_after_it_has_compared() {
    let mut cluster = regions(3);
    assert_eq!(status(&claim(&mut cluster.client(EU), b"bank:1", b"a")), "GRANTED");
    cluster.kill(AP);
    cluster.kill(US);
    cluster.spawn(US);
    cluster.wait_ready(US);
    // AP is down: US counts because its log says that it did.
    let mut us = cluster.client(US);
    until("US counts", || status(&claim(&mut us, b"bank:2", b"b")) == "GRANTED");
    assert_eq!(status(&claim(&mut us, b"bank:1", b"b")), "IN_PROGRESS");
}
