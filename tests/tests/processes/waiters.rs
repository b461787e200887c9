//! A thundering herd: thousands of duplicates park on one key and are answered together when it settles, wherever it
//! settles (S4.1 WAIT).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use daemon::resp::{Client, Value};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::{Cluster, Setup, field, int, status, until};

const EU: usize = 0;
const US: usize = 1;
const HERD: usize = 10_000;
/// Descriptors of this process, and of a daemon, that are not the herd's.
const OTHER_DESCRIPTORS: u64 = 500;
/// Answers take milliseconds. This tells a machine that is busy from waiters that nobody wakes: those look again
/// themselves, 500 ms later at most, and so loose a bound is never the reason for a red build.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// What a connection with a parked claim may cost the daemon, its input buffer included, in bytes.
const WAITER_BYTES_MAX: u64 = 40 * 1024;
const OUTCOME: &[u8] = b"{\"charge\":\"ch_1\"}";

/// As many as the system lets this process, and a daemon, which inherits the limit, hold open.
fn herd_size() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit");
    let allowed = limit.maximum.unwrap_or(u64::MAX).saturating_sub(OTHER_DESCRIPTORS);
    let size = HERD.min(usize::try_from(allowed).unwrap_or(HERD));
    if size < HERD {
        println!("only {size} of {HERD} waiters: the limit of open files is {:?}", limit.maximum);
    }
    size
}

fn rss_bytes(cluster: &Cluster, at: usize) -> u64 {
    let path = format!("/proc/{}/status", cluster.pid(at));
    let text = std::fs::read_to_string(path).expect("the daemon runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
}

fn claim(client: &mut Client, key: &[u8]) -> String {
    let reply = client.call(&[b"CLAIM", key, b"CLAIMANT", b"holder"]).expect("CLAIM is answered");
    assert_eq!(status(&reply), "GRANTED");
    field(&reply, "token")
}

fn complete(client: &mut Client, key: &[u8], token: &str) {
    let reply = client.call(&[b"COMPLETE", key, token.as_bytes(), OUTCOME]).expect("COMPLETE is answered");
    assert_eq!(status(&reply), "COMPLETED");
}

/// Each asks for `key` and waits; returns once all of them are parked.
fn park(herd: &mut [UnixStream], key: &str, client: &mut Client) {
    for waiter in herd.iter_mut() {
        waiter.write_all(format!("CLAIM {key} WAIT 3600000\r\n").as_bytes()).expect("a request is small");
    }
    // At least the key's hash and the ticket.
    let parked = |status: &Value| int(status, "memory_waiters_bytes") >= 20 * herd.len() as i64;
    until("all are parked", || parked(&client.call(&[b"STATUS"]).expect("STATUS is answered")));
}

/// Reads the answer of each.
fn answers(herd: &mut [UnixStream]) {
    for waiter in herd {
        let mut answer = Vec::new();
        while !answer.windows(8).any(|part| part == b"claim_id") {
            let mut bytes = [0; 512];
            let read = waiter.read(&mut bytes).expect("answered in time");
            assert!(read > 0, "the daemon has closed a connection whose claim waited");
            answer.extend_from_slice(&bytes[..read]);
        }
        let has = |part: &[u8]| answer.windows(part.len()).any(|found| found == part);
        assert!(has(b"REPLAY") && has(OUTCOME), "{}", String::from_utf8_lossy(&answer));
    }
}

/// The rest of the answers' last fields.
fn drain(herd: &mut [UnixStream], client: &mut Client) {
    // Whatever stands in the sockets was written before this is answered.
    assert_eq!(status(&client.call(&[b"STATUS"]).expect("STATUS is answered")), "OK");
    for waiter in herd {
        waiter.set_nonblocking(true).expect("a socket can be set so");
        while matches!(waiter.read(&mut [0; 512]), Ok(1..)) {}
        waiter.set_nonblocking(false).expect("a socket can be set so");
    }
}

#[test]
fn ten_thousand_waiters_are_answered_together_wherever_the_key_settles() {
    let size = herd_size();
    let socket = format!("max_connections = {}\n", size + 100);
    let cluster = Cluster::start(Setup { socket, ..Setup::regions(2) });
    let (mut eu, mut us) = (cluster.client(EU), cluster.client(US));
    let alone = rss_bytes(&cluster, EU);
    let connect = |_| {
        let stream = UnixStream::connect(cluster.socket(EU)).expect("a connection");
        stream.set_read_timeout(Some(ANSWERED_WITHIN)).expect("a timeout");
        stream
    };
    let mut herd: Vec<UnixStream> = (0..size).map(connect).collect();
    let open = |eu: &mut Client| int(&eu.call(&[b"STATUS"]).expect("answered"), "connections");
    until("all are connected", || open(&mut eu) > size as i64);
    let connected = rss_bytes(&cluster, EU);

    let token = claim(&mut eu, b"hot:1");
    park(&mut herd, "hot:1", &mut eu);
    let parked = rss_bytes(&cluster, EU);
    let began = Instant::now();
    complete(&mut eu, b"hot:1", &token);
    answers(&mut herd);
    let here = began.elapsed();

    drain(&mut herd, &mut eu);
    let token = claim(&mut us, b"hot:2");
    until("eu knows of the claim", || status(&eu.call(&[b"GET", b"hot:2"]).expect("answered")) == "HELD");
    park(&mut herd, "hot:2", &mut eu);
    let began = Instant::now();
    complete(&mut us, b"hot:2", &token);
    answers(&mut herd);
    let elsewhere = began.elapsed();

    let each = |bytes: u64, before: u64| bytes.saturating_sub(before) / size as u64;
    println!(
        "{size} waiters: settled here, all answered after {here:?}; settled elsewhere, after {elsewhere:?}; \
         {} bytes a connection, {} more while its claim waits",
        each(connected, alone),
        each(parked, connected)
    );
    assert!(here < ANSWERED_WITHIN && elsewhere < ANSWERED_WITHIN, "{here:?} {elsewhere:?}");
    assert!(each(parked, alone) < WAITER_BYTES_MAX, "{} bytes a waiter", each(parked, alone));
    drop(herd);
    until("those who have gone wait no more", || {
        int(&eu.call(&[b"STATUS"]).expect("answered"), "memory_waiters_bytes") == 0
    });
}
