//! S4.7 with real daemons: an operation whose holder fell silent stays UNKNOWN in every region until somebody says what became
//! of it, and then every region answers that.

use daemon::resp::{Client, Value};
use tests::{Cluster, Setup, field, status, until};

const EU: usize = 0;
const US: usize = 1;

/// Keys of `card` and `vault` are never taken over; those of `vault` are decided by majorities.
fn regions(count: usize) -> Cluster {
    let silent = "lease = \"300ms\"\non_lease_end = \"unknown\"\n";
    let tables = format!("[namespace.card]\n{silent}[namespace.vault]\nlevel = \"quorum\"\n{silent}");
    Cluster::start(Setup { tables, ..Setup::regions(count) })
}

fn claim(client: &mut Client, key: &str) -> Value {
    client.call(&[b"CLAIM", key.as_bytes()]).expect("CLAIM is answered")
}

/// Claims `key` in one region, falls silent, and waits until it is UNKNOWN in both.
fn fall_silent(cluster: &Cluster, key: &str) -> String {
    let mut clients = [EU, US].map(|at| cluster.client(at));
    let mut token = String::new();
    until("it is granted", || {
        let reply = claim(&mut clients[EU], key);
        let granted = status(&reply) == "GRANTED";
        token = if granted { field(&reply, "token") } else { String::new() };
        granted
    });
    let resolved = clients[US].call(&[b"RESOLVE", key.as_bytes(), b"RELEASE"]).expect("RESOLVE is answered");
    assert!(["IN_PROGRESS", "FREE"].contains(&status(&resolved).as_str()), "it may be at work: {resolved:?}");
    for client in &mut clients {
        until("nobody takes it over", || status(&claim(client, key)) == "UNKNOWN");
    }
    token
}

/// What `onced` prints begins with `word`.
#[track_caller]
fn said(cluster: &Cluster, args: &[&str], word: &str) {
    let output = cluster.onced(US, args, "");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with(word), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_was_found_out_is_the_answer_everywhere() {
    let cluster = regions(3);
    for key in ["card:1", "vault:1"] {
        let token = fall_silent(&cluster, key);
        said(&cluster, &["resolve", key, "complete", "charged ch_1"], "COMPLETED");
        // A retry of the operator, and one who is late.
        said(&cluster, &["resolve", key, "complete", "charged ch_1"], "COMPLETED");
        said(&cluster, &["resolve", key, "release"], "REPLAY");
        let mut eu = cluster.client(EU);
        until("the other region answers it", || {
            let reply = claim(&mut eu, key);
            status(&reply) == "REPLAY" && field(&reply, "outcome") == "charged ch_1"
        });
        let late =
            eu.call(&[b"COMPLETE", key.as_bytes(), token.as_bytes(), b"charged ch_2"]).expect("answered");
        assert_eq!(
            (status(&late).as_str(), field(&late, "outcome").as_str()),
            ("SUPERSEDED", "charged ch_1")
        );
    }
    cluster.agree();
}

#[test]
fn what_had_no_effect_may_run_again() {
    let cluster = regions(3);
    for key in ["card:2", "vault:2"] {
        fall_silent(&cluster, key);
        said(&cluster, &["resolve", key, "release"], "RELEASED");
        let mut eu = cluster.client(EU);
        until("the other region grants it", || status(&claim(&mut eu, key)) == "GRANTED");
    }
    said(&cluster, &["resolve", "card:9", "release"], "FREE");
    cluster.agree();
}
