//! Memory and quotas as a client sees them (S6, INV-14): what is refused, what goes on, what is said before,
//! and whether what is said to be held is what the process holds.

use daemon::resp::{Client, Value};
use tests::{Cluster, Setup, field, int, status, until};

/// Commands in flight.
const PIPELINED: usize = 200;

fn bounded() -> Cluster {
    let tables = "[memory]\nmax_memory = \"24MiB\"\n\n[namespace.pay]\nmax_bytes = \"4MiB\"\n\n\
                  [namespace.mail]\nmax_keys = 100\n";
    Cluster::start(Setup { tables: tables.to_owned(), ..Setup::regions(1) })
}

fn claim(client: &mut Client, key: &str) -> Value {
    client.call(&[b"CLAIM", key.as_bytes(), b"CLAIMANT", b"a"]).expect("answered")
}

/// Status, and with UNAVAILABLE its reason.
fn answer(reply: &Value) -> String {
    let reason = reply.field("reason").and_then(Value::as_str).unwrap_or_default();
    format!("{} {reason}", status(reply)).trim_end().to_owned()
}

fn status_of(cluster: &Cluster) -> Value {
    cluster.call(0, &[b"STATUS"])
}

/// A gauge or counter as INFO shows it.
fn metric(cluster: &Cluster, name: &str) -> Option<f64> {
    let info = cluster.call(0, &[b"INFO"]);
    let line = info.as_str().expect("text").lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().parse().ok())
}

/// Claims `count` keys of `noisy` from `from` on, short-lived and large; how many were granted.
fn make_noise(client: &mut Client, from: usize, count: usize) -> usize {
    let note = [b'n'; 1_000];
    for number in from..from + count {
        let key = format!("noisy:{number}");
        let words: [&[u8]; 8] =
            [b"CLAIM", key.as_bytes(), b"RETENTION", b"10000", b"LEASE", b"100", b"NOTE", &note];
        client.send(&words).expect("taken");
    }
    client.flush().expect("taken");
    let replies: Vec<_> = (0..count).map(|_| answer(&client.recv().expect("answered"))).collect();
    let (granted, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| *reply == "GRANTED");
    assert!(refused.iter().all(|reply| *reply == "UNAVAILABLE full"), "{refused:?}");
    granted.len()
}

/// Fills the memory with noise until STATUS says so; how many keys.
fn fill_until(cluster: &Cluster, client: &mut Client, mut from: usize, pressure: &str) -> usize {
    while field(&status_of(cluster), "memory_pressure") != pressure {
        let _ = make_noise(client, from, PIPELINED);
        from += PIPELINED;
        assert!(from < 100_000, "nothing bounds the noise");
    }
    from
}

#[test]
fn a_full_memory_refuses_grants_alone_and_service_returns_by_itself() {
    let cluster = bounded();
    let mut client = cluster.client(0);
    let held = field(&claim(&mut client, "noisy:held"), "token");
    let done = field(&claim(&mut client, "noisy:done"), "token");
    let complete = |client: &mut Client, key: &str, token: &str| {
        client.call(&[b"COMPLETE", key.as_bytes(), token.as_bytes(), b"result"]).expect("answered")
    };
    assert_eq!(status(&complete(&mut client, "noisy:done", &done)), "COMPLETED");
    // 80 %: said once in the log, in metrics and in STATUS, before anything is refused.
    let mut filled = fill_until(&cluster, &mut client, 0, "near");
    until("the gauge says near", || {
        // STATUS may have met a log buffer that is gone since.
        assert_eq!(make_noise(&mut client, filled, 4), 4);
        filled += 4;
        metric(&cluster, "onced_memory_pressure") == Some(1.0)
    });
    until("the log says so", || cluster.log(0).contains("is used to 80 %"));
    assert_eq!(metric(&cluster, "onced_unavailable_total{reason=\"full\"}"), None, "nothing was refused yet");
    filled = fill_until(&cluster, &mut client, filled, "full");
    until("no page has room for more noise", || {
        filled += PIPELINED;
        make_noise(&mut client, filled, PIPELINED) == 0
    });
    assert!(metric(&cluster, "onced_unavailable_total{reason=\"full\"}") >= Some(1.0));
    until("the gauge says full", || metric(&cluster, "onced_memory_pressure") == Some(2.0));
    // What needs no new memory goes on.
    assert_eq!(status(&claim(&mut client, "noisy:done")), "REPLAY");
    assert_eq!(status(&claim(&mut client, "noisy:held")), "GRANTED", "again, to its claimant");
    let renew = client.call(&[b"RENEW", b"noisy:held", held.as_bytes(), b"LEASE", b"60000"]);
    assert_eq!(status(&renew.expect("answered")), "RENEWED");
    assert_eq!(status(&complete(&mut client, "noisy:held", &held)), "COMPLETED");
    assert_eq!(status(&client.call(&[b"GET", b"noisy:held"]).expect("answered")), "SETTLED");
    // Nor does the noise reach whoever has a reservation.
    for number in 0..2_000 {
        assert_eq!(answer(&claim(&mut client, &format!("pay:{number}"))), "GRANTED");
    }
    let reply = status_of(&cluster);
    let (held_bytes, max) = (int(&reply, "memory_bytes"), int(&reply, "memory_bytes_max"));
    assert!(held_bytes <= max, "{held_bytes} of {max}: {reply:?}");
    assert_eq!(field(&reply, "ready"), "true", "reads, replays and reservations are served");
    // Nothing live is evicted, and what has expired makes room.
    until("the noise has expired", || {
        filled += 1;
        make_noise(&mut client, filled, 1) == 1
    });
    until("memory is far from its bound", || metric(&cluster, "onced_memory_pressure") == Some(0.0));
    for key in ["noisy:done", "noisy:held"] {
        assert_eq!(status(&client.call(&[b"GET", key.as_bytes()]).expect("answered")), "SETTLED");
    }
    assert_eq!(status(&client.call(&[b"GET", b"pay:1999"]).expect("answered")), "HELD");
    assert_eq!(cluster.log(0).matches("is used to 80 %").count(), 1, "one line a crossing");
}

/// INV-14: quotas are counted anew from the log after a crash.
#[test]
fn a_quota_bounds_its_namespace_and_outlives_a_crash() {
    let mut cluster = bounded();
    let mut client = cluster.client(0);
    let mut token = String::new();
    for number in 0..100 {
        let reply = claim(&mut client, &format!("mail:{number}"));
        assert_eq!(status(&reply), "GRANTED");
        token = field(&reply, "token");
    }
    assert_eq!(answer(&claim(&mut client, "mail:new")), "UNAVAILABLE quota");
    assert_eq!(status(&claim(&mut client, "pay:1")), "GRANTED");
    assert_eq!(status(&claim(&mut client, "no namespace")), "GRANTED");
    let rows = |cluster: &Cluster| {
        let reply = status_of(cluster);
        let rows = reply.field("namespaces").and_then(Value::as_array).expect("quotas are listed").to_vec();
        let text = |row: &Value| {
            ["namespace", "keys", "keys_max", "bytes", "bytes_max", "pressure"].map(|name| field(row, name))
        };
        rows.iter().map(text).collect::<Vec<_>>()
    };
    let before = rows(&cluster);
    assert_eq!(before[0][..3], ["mail", "100", "100"]);
    assert_eq!(before[0][5], "full");
    assert_eq!(
        (before[1][0].as_str(), before[1][1].as_str(), before[1][4].as_str()),
        ("pay", "1", "4194304")
    );
    cluster.kill(0);
    cluster.restart(0);
    assert_eq!(rows(&cluster), before);
    let mut client = cluster.client(0);
    assert_eq!(answer(&claim(&mut client, "mail:new")), "UNAVAILABLE quota");
    let complete = client.call(&[b"COMPLETE", b"mail:99", token.as_bytes(), b"sent"]).expect("answered");
    assert_eq!(status(&complete), "COMPLETED");
    until("the log says so", || cluster.log(0).contains("a namespace has reached its quota"));
}

/// What is said to be held is what the process takes from the system, within a tenth.
#[test]
fn what_is_accounted_is_what_the_process_holds() {
    const KEYS: usize = 200_000;
    let cluster = Cluster::alone("interval");
    let mut client = cluster.client(0);
    let outcome = [b'o'; 200];
    let before = (resident_bytes(&cluster), int(&status_of(&cluster), "memory_bytes") as usize);
    for from in (0..KEYS).step_by(PIPELINED) {
        let key = |number: usize| format!("pay:{number:032}");
        for number in from..from + PIPELINED {
            client.send(&[b"CLAIM", key(number).as_bytes()]).expect("taken");
        }
        client.flush().expect("taken");
        let tokens: Vec<_> =
            (0..PIPELINED).map(|_| field(&client.recv().expect("answered"), "token")).collect();
        for (number, token) in (from..).zip(&tokens) {
            client.send(&[b"COMPLETE", key(number).as_bytes(), token.as_bytes(), &outcome]).expect("taken");
        }
        client.flush().expect("taken");
        for _ in 0..PIPELINED {
            assert_eq!(status(&client.recv().expect("answered")), "COMPLETED");
        }
    }
    let after = (resident_bytes(&cluster), int(&status_of(&cluster), "memory_bytes") as usize);
    let (resident, accounted) = (after.0 - before.0, after.1 - before.1);
    println!(
        "{KEYS} keys: {resident} bytes resident, {accounted} accounted, {:.3}; {} bytes a key",
        accounted as f64 / resident as f64,
        accounted / KEYS
    );
    assert!(resident.abs_diff(accounted) * 10 <= resident, "{resident} resident, {accounted} accounted");
}

/// Resident memory of the daemon.
fn resident_bytes(cluster: &Cluster) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(0))).expect("Linux says");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}
