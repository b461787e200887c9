//! S5 at `home`, with real daemons: whoever is asked, the key's home decides; of any number of claimants one is granted;
//! without the home claims are refused in bounded time, or fall back as the policy says, and nothing that was done is lost.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use daemon::resp::{Client, Value};
use rustix::process::{Pid, Signal, kill_process};
use tests::{Cluster, Setup, field, status, until};

const EU: usize = 0;
const US: usize = 1;
const AP: usize = 2;

/// Keys of `bank` have homes over all regions; `ledger` and `shop` are Europe's, and `shop` falls back.
fn regions(count: usize) -> Cluster {
    let tables = "[namespace.bank]\nlevel = \"home\"\n[namespace.ledger]\nlevel = \"home\"\nhome = \"eu\"\nlease = \"5s\"\n\
                  [namespace.shop]\nlevel = \"home\"\nhome = \"eu\"\nfallback = \"local\"\n"
        .to_owned();
    let cluster = Cluster::start(Setup { tables, ..Setup::regions(count) });
    for at in 0..count {
        let mut client = cluster.client(at);
        until("the home answers", || {
            let key = format!("ledger:warm-{at}-{:?}", Instant::now());
            status(&claim(&mut client, key.as_bytes(), b"w")) == "GRANTED"
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

/// What the region has counted of forwarded requests.
fn counted(cluster: &Cluster, at: usize, result: &str) -> u64 {
    let info = cluster.call(at, &[b"INFO"]);
    let result = format!("result=\"{result}\"");
    let named = |line: &&str| line.starts_with("onced_forwarded_total") && line.contains(&result);
    let lines = info.as_str().expect("INFO is text").lines().filter(named);
    lines.filter_map(|line| line.rsplit(' ').next()?.trim().parse::<u64>().ok()).sum()
}

#[track_caller]
fn granted_at(reply: &Value, level: &str) -> String {
    assert_eq!((status(reply).as_str(), field(reply, "level").as_str()), ("GRANTED", level));
    field(reply, "token")
}

#[track_caller]
fn refused(reply: &Value, reason: &str) {
    assert_eq!((status(reply).as_str(), field(reply, "reason").as_str()), ("UNAVAILABLE", reason));
}

#[test]
fn the_home_of_a_key_decides_what_other_regions_are_asked() {
    let cluster = regions(3);
    let mut clients = [EU, US, AP].map(|at| cluster.client(at));
    let token = granted_at(&claim(&mut clients[US], b"ledger:1", b"a"), "home");
    // The token's region stands behind its stamp: the claim is the home's.
    assert_eq!(&token[16..20], "0001");
    for client in &mut clients {
        assert_eq!(status(&claim(client, b"ledger:1", b"b")), "IN_PROGRESS");
    }
    let renewed = clients[AP].call(&[b"RENEW", b"ledger:1", token.as_bytes(), b"LEASE", b"60000"]);
    assert_eq!(status(&renewed.expect("RENEW is answered")), "RENEWED");
    let done = complete(&mut clients[AP], b"ledger:1", &token);
    assert_eq!((status(&done).as_str(), field(&done, "level").as_str()), ("COMPLETED", "home"));
    for client in &mut clients {
        // Until it has come here, a duplicate is told what is known here.
        until("the outcome is known", || status(&claim(client, b"ledger:1", b"c")) == "REPLAY");
        assert_eq!(field(&claim(client, b"ledger:1", b"c"), "outcome"), "done");
    }
    // A request may ask for it in a local namespace.
    let words: [&[u8]; 6] = [b"CLAIM", b"pay:1", b"CLAIMANT", b"a", b"LEVEL", b"home"];
    let token = granted_at(&clients[US].call(&words).expect("CLAIM is answered"), "home");
    let words: [&[u8]; 5] = [b"RELEASE", b"pay:1", token.as_bytes(), b"LEVEL", b"home"];
    assert_eq!(status(&clients[US].call(&words).expect("RELEASE is answered")), "RELEASED");
    let stated = clients[US].call(&[b"STATUS"]).expect("STATUS is answered");
    assert_eq!(field(&stated, "home"), "decides");
    cluster.agree();
}

/// Powers of two of claimants, over three regions; keys of all homes.
#[test]
fn of_any_number_of_claimants_over_all_regions_one_is_granted() {
    let cluster = Arc::new(regions(3));
    for exponent in 0..=7 {
        let count = 1usize << exponent;
        let key = format!("bank:race-{exponent}");
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
        let granted = told.iter().filter(|status| *status == "GRANTED").count();
        assert_eq!(granted, 1, "{count} claimants: {told:?}");
    }
}

#[test]
fn without_its_home_a_key_is_refused_or_falls_back_and_what_is_local_goes_on() {
    let cluster = regions(3);
    let (mut eu, mut us) = (cluster.client(EU), cluster.client(US));
    let held = granted_at(&claim(&mut us, b"ledger:1", b"a"), "home");
    cluster.cut(EU, US);
    cluster.cut(EU, AP);
    let began = Instant::now();
    refused(&claim(&mut us, b"ledger:2", b"a"), "level");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    granted_at(&claim(&mut us, b"pay:1", b"a"), "local");
    granted_at(&claim(&mut eu, b"ledger:2", b"e"), "home");
    // It was recorded here once, and its home did not know.
    refused(&complete(&mut us, b"ledger:1", &held), "recorded_here");
    assert_eq!(status(&claim(&mut us, b"ledger:1", b"b")), "REPLAY");
    // Both sides run it, and say at which level.
    let here = granted_at(&claim(&mut us, b"shop:1", b"u"), "local");
    let there = granted_at(&claim(&mut eu, b"shop:1", b"e"), "home");
    for (client, token, level) in [(&mut us, here, "local"), (&mut eu, there, "home")] {
        let done = complete(client, b"shop:1", &token);
        assert_eq!((status(&done).as_str(), field(&done, "level").as_str()), ("COMPLETED", level));
    }
    cluster.heal(EU, US);
    cluster.heal(EU, AP);
    until("its home has it", || status(&complete(&mut us, b"ledger:1", &held)) == "COMPLETED");
    cluster.agree();
    for at in [EU, US, AP] {
        let listed = cluster.client(at).call(&[b"CONFLICTS"]).expect("CONFLICTS is answered");
        let conflicts = listed.field("conflicts").and_then(Value::as_array).map_or(0, <[Value]>::len);
        assert_eq!(conflicts, 1, "the loser of shop:1, once");
    }
}

/// The story: a claimant that went while its home was asked left its key held by nobody until the lease was over.
#[test]
fn a_claimant_that_goes_while_its_home_is_asked_leaves_the_key_free() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let cluster = regions(3);
    let pid = Pid::from_raw(cluster.pid(EU).cast_signed()).expect("a process has a number");
    // The home hears nothing, and its link stands.
    kill_process(pid, Signal::STOP).expect("a child of ours");
    let mut stream = UnixStream::connect(cluster.socket(US)).expect("connect");
    stream.write_all(b"CLAIM ledger:1 CLAIMANT a LEASE 60000\r\n").expect("sent");
    // Its link stands until it has been silent for too long: what is given up is withdrawn once there is one.
    until("it is given up", || counted(&cluster, US, "unreachable") > 0);
    drop(stream);
    kill_process(pid, Signal::CONT).expect("a child of ours");
    let mut ap = cluster.client(AP);
    let began = Instant::now();
    until("another is granted", || status(&claim(&mut ap, b"ledger:1", b"b")) == "GRANTED");
    assert!(began.elapsed() < Duration::from_secs(50), "the lease was not waited for");
}

#[test]
fn a_home_that_is_killed_and_restarted_keeps_what_it_granted() {
    let mut cluster = regions(3);
    let token = granted_at(&claim(&mut cluster.client(US), b"ledger:1", b"a"), "home");
    cluster.kill(EU);
    let mut us = cluster.client(US);
    refused(&claim(&mut us, b"ledger:2", b"a"), "level");
    cluster.restart(EU);
    until("the home is linked again", || status(&claim(&mut us, b"ledger:3", b"a")) == "GRANTED");
    assert_eq!(status(&claim(&mut cluster.client(EU), b"ledger:1", b"b")), "IN_PROGRESS");
    assert_eq!(status(&complete(&mut us, b"ledger:1", &token)), "COMPLETED");
}
