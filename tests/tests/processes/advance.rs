//! ADVANCE with real daemons: a state machine goes from version to version once, whichever region is asked.

use daemon::resp::Value;
use tests::{Cluster, Setup, field, status, until};

const EU: usize = 0;
const US: usize = 1;

#[test]
fn a_state_machine_goes_from_version_to_version_once() {
    let cluster = Cluster::start(Setup::regions(2));
    let advance = |at: usize, from: u64, fingerprint: &[u8]| {
        let (from, to) = (from.to_string(), (from + 1).to_string());
        let words =
            [b"ADVANCE", &b"order:7"[..], b"FROM", from.as_bytes(), b"TO", to.as_bytes(), b"FP", fingerprint];
        cluster.call(at, &words)
    };
    let (created, paid, cancelled) = (&[b'1'; 32][..], &[b'2'; 32][..], &[b'3'; 32][..]);
    let granted = advance(EU, 0, created);
    assert_eq!(status(&granted), "GRANTED");
    let token = field(&granted, "token");
    cluster.call(EU, &[b"COMPLETE", b"order:7@1", token.as_bytes(), b"created"]);
    let mut paying = Value::Null;
    until("version 1 has arrived", || {
        paying = advance(US, 1, paid);
        assert!(["BEHIND", "IN_PROGRESS", "GRANTED"].contains(&status(&paying).as_str()), "{paying:?}");
        status(&paying) == "GRANTED"
    });
    // Before that it would be granted there, too: the namespace is local.
    until("the other region knows of it", || status(&cluster.call(EU, &[b"GET", b"order:7@2"])) == "HELD");
    assert_eq!(status(&advance(EU, 1, cancelled)), "MISMATCH");
    let token = field(&paying, "token");
    cluster.call(US, &[b"COMPLETE", b"order:7@2", token.as_bytes(), b"paid"]);
    until("a retry is answered what it did", || {
        let reply = advance(EU, 1, paid);
        status(&reply) == "REPLAY" && field(&reply, "outcome") == "paid"
    });
    let Value::Error(text) = cluster.call(EU, &[b"ADVANCE", b"order:7", b"FROM", b"1", b"TO", b"3"]) else {
        panic!("versions follow each other")
    };
    assert!(
        text.starts_with("BADARG ADVANCE goes from a version to the next one, not from 1 to 3"),
        "{text}"
    );
    let output = cluster.onced(EU, &["advance", "order:7", "7", "8"], "");
    assert_eq!(output.status.code(), Some(19));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("BEHIND  order:7@8"));
    cluster.agree();
}
