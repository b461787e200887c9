//! S4.9 with real daemons: keys that one region issues are accepted by all, and nothing else is where a namespace says so.

use daemon::resp::Value;
use tests::{Cluster, Setup, field, status};

const EU: usize = 0;
const US: usize = 1;

#[test]
fn what_one_region_issues_every_region_accepts_and_nothing_else() {
    let tables = "[namespace.gift]\nkeys = \"issued\"\nlease = \"300ms\"\nretention = \"3s\"\n".to_owned();
    let cluster = Cluster::start(Setup { tables, ..Setup::regions(2) });
    let issued = cluster.call(EU, &[b"TOKEN", b"gift"]);
    assert_eq!(status(&issued), "ISSUED");
    let key = field(&issued, "key");
    assert!(key.starts_with("gift:") && key.len() == "gift:".len() + 36 + 33, "{key}");

    let claim =
        |at: usize, key: &str| cluster.client(at).call(&[b"CLAIM", key.as_bytes()]).expect("answered");
    assert_eq!(status(&claim(US, &key)), "GRANTED");
    for made_up in ["gift:1", "gift:017f22e2-79b0-7cc3-98c4-dc0c0c07398f", &key[..key.len() - 1]] {
        let Value::Error(text) = claim(US, made_up) else { panic!("{made_up} was accepted") };
        assert!(text.starts_with("BADARG this namespace takes issued keys only"), "{text}");
    }
    // Without a policy that says so any key is accepted, an issued one too.
    let other = cluster.onced(EU, &["token", "pay", "--key-only"], "");
    let other = String::from_utf8(other.stdout).expect("text").trim().to_owned();
    assert_eq!(status(&claim(US, &other)), "GRANTED");
    // It says itself when it was made: once older than retention, it never runs.
    let old = field(&cluster.call(EU, &[b"TOKEN", b"gift"]), "key");
    tests::cluster::pause(std::time::Duration::from_millis(3_100));
    assert_eq!(status(&claim(EU, &old)), "EXPIRED");
    for wrong in [&b"a:b"[..], &[b'x'; 500]] {
        let Value::Error(text) = cluster.call(EU, &[b"TOKEN", wrong]) else { panic!("no namespace") };
        assert!(text.contains("is no namespace"), "{text}");
    }
}

#[test]
fn a_derived_key_is_the_same_for_the_same_operation() {
    let onced = |args: &[&str], payload: &str| {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut command = Command::new(tests::build::onced());
        command.args(["key", "derive", "--namespace", "pay", "--operation", "charge"]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("onced can be started");
        // It may end without having read it.
        let _ = child.stdin.take().expect("piped").write_all(payload.as_bytes());
        let output = child.wait_with_output().expect("onced can be waited for");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    };
    let stdin = ["--payload-file", "-"];
    let key = onced(&stdin, "{\"amount\": 10.0}");
    assert_eq!(key.1, "pay:1dace868e908a788205f0896731395460cf603e5ba847c5eb4df32bb99cb06a6\n");
    assert_eq!(onced(&stdin, "{ \"amount\":10 }"), key);
    let (code, text) = onced(&stdin, "{\"amount\":10,\n \"amount\":11}");
    assert_eq!(code, Some(64));
    assert!(text.contains("\"amount\" stands twice; which of them counts? at line 2"), "{text}");
    let window = onced(&["--window", "5m", "--at", "1800000299", "--canonical"], "").1;
    assert_eq!(window, "{\"operation\":\"charge\",\"window\":{\"from\":1800000000,\"seconds\":300}}\n");
}
