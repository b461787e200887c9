//! What ran twice, told to whoever undoes it: the feed, COMPENSATE, `onced conflicts --follow` and the metrics (S4.8).

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use daemon::resp::{Client, Value};
use rustix::process::{Pid, Signal, kill_process};
use tests::{Cluster, Setup, field, status, until};

const EU: usize = 0;
const US: usize = 1;
/// As the store's bound says.
const FEEDS_MAX: usize = crdt::limits::FEED_WAITERS_MAX;

/// Two regions in which each of these keys has been run twice: us, which completed later, has lost.
fn run_twice(cluster: &Cluster, keys: &[&str]) {
    cluster.cut(EU, US);
    for key in keys {
        for at in [EU, US] {
            let reply = cluster.call(at, &[b"CLAIM", key.as_bytes()]);
            let token = field(&reply, "token");
            let reply =
                cluster.call(at, &[b"COMPLETE", key.as_bytes(), token.as_bytes(), &[b'0' + at as u8]]);
            assert_eq!(status(&reply), "COMPLETED");
        }
    }
    cluster.heal(EU, US);
}

fn rows(reply: &Value) -> Vec<Value> {
    reply.field("conflicts").and_then(Value::as_array).expect("a list").to_vec()
}

fn keys(reply: &Value) -> Vec<String> {
    rows(reply).iter().map(|row| field(row, "key")).collect()
}

fn feed(client: &mut Client, more: &[&[u8]]) -> Value {
    client.call(&[&[b"CONFLICTS".as_slice(), b"FEED"], more].concat()).expect("a feed is answered")
}

fn compensate(client: &mut Client, row: &Value) -> Value {
    let (key, claim) = (field(row, "key"), field(row, "loser_claim"));
    client.call(&[b"COMPENSATE", key.as_bytes(), claim.as_bytes()]).expect("COMPENSATE is answered")
}

/// The line of INFO that begins so.
fn metric(client: &mut Client, name: &str) -> Option<String> {
    let info = client.call(&[b"INFO"]).expect("INFO is answered");
    let line = info.as_str()?.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

#[test]
fn a_consumer_is_told_of_each_loser_until_it_is_compensated_over_restarts() {
    let tables = "[namespace.pay]\nlease = \"30s\"\n".to_owned();
    let mut cluster = Cluster::start(Setup { tables, ..Setup::regions(2) });
    let mut waiting = cluster.client(EU);
    let waits = std::thread::spawn(move || feed(&mut waiting, &[b"WAIT", b"25000"]));
    run_twice(&cluster, &["pay:1"]);
    let told = waits.join().expect("a consumer that is answered");
    assert_eq!(keys(&told), ["pay:1"], "told as soon as it is known");
    cluster.agree();
    run_twice(&cluster, &["pay:2", "mail:1"]);
    cluster.agree();

    let (mut eu, mut us) = (cluster.client(EU), cluster.client(US));
    let position = field(&told, "position");
    let rest = feed(&mut eu, &[b"AFTER", position.as_bytes()]);
    let mut found = keys(&rest);
    found.sort();
    assert_eq!(found, ["mail:1", "pay:2"]);
    assert_eq!(keys(&feed(&mut eu, &[b"NAMESPACE", b"mail"])), ["mail:1"]);
    assert_eq!(keys(&feed(&mut eu, &[b"REGION", b"eu"])), Vec::<String>::new(), "all of them ran in us");
    assert_eq!(keys(&feed(&mut us, &[b"REGION", b"us"])).len(), 3, "in us they are known, too");

    until("the metrics say so", || {
        metric(&mut eu, "onced_conflicts_uncompensated{namespace=\"pay\"}").as_deref() == Some("2")
    });
    let done = compensate(&mut eu, &rows(&told)[0]);
    assert_eq!((status(&done).as_str(), field(&done, "compensated").as_str()), ("COMPENSATED", "true"));
    assert_eq!(compensate(&mut eu, &rows(&told)[0]), done, "again: the same answer");
    until("us knows", || keys(&feed(&mut us, &[])).len() == 2);
    until("the metrics say so", || {
        let of = |name: &str| format!("onced_conflicts_{name}{{namespace=\"pay\"}}");
        let is = |client: &mut Client, name: &str| metric(client, &of(name)).unwrap_or_default();
        is(&mut eu, "listed") == "2"
            && is(&mut eu, "uncompensated") == "1"
            && is(&mut eu, "compensated_total") == "1"
    });
    assert_eq!(metric(&mut eu, "onced_conflicts_listed{namespace=\"other\"}").as_deref(), Some("1"));

    // A crash: what is compensated stays so, what is not is told again, whatever position the consumer had kept.
    let position = field(&rest, "position");
    cluster.kill(EU);
    cluster.restart(EU);
    let mut eu = cluster.client(EU);
    let again = feed(&mut eu, &[b"AFTER", position.as_bytes()]);
    let mut found = keys(&again);
    found.sort();
    assert_eq!(found, ["mail:1", "pay:2"]);
    for row in rows(&again) {
        assert_eq!(status(&compensate(&mut eu, &row)), "COMPENSATED");
    }
    assert_eq!(keys(&feed(&mut eu, &[])), Vec::<String>::new());
    cluster.agree();
}

#[test]
fn what_is_no_loser_is_not_compensated_and_consumers_are_bounded() {
    let cluster = Cluster::start(Setup::regions(1));
    let mut eu = cluster.client(EU);
    let reply = eu.call(&[b"COMPENSATE", b"pay:1", b"018bcfe56800002a-1-1"]).expect("answered");
    assert_eq!((status(&reply).as_str(), field(&reply, "reason").as_str()), ("NOT_LISTED", "unknown"));
    assert!(field(&reply, "advice").contains("check key and claim id"));
    let output = cluster.onced(EU, &["compensate", "pay:1", "018bcfe56800002a-1-1"], "");
    assert_eq!(output.status.code(), Some(18), "{output:?}");
    // As many consumers wait as may; the next is told so, and a client that goes makes room.
    let mut waiting: Vec<Client> = (0..FEEDS_MAX).map(|_| cluster.client(EU)).collect();
    for client in &mut waiting {
        client.send(&[b"CONFLICTS", b"FEED", b"WAIT", b"3600000"]).expect("sent");
        client.flush().expect("sent");
    }
    until("all wait", || status(&feed(&mut eu, &[b"WAIT", b"1"])) == "UNAVAILABLE");
    waiting.pop();
    until("there is room", || status(&feed(&mut eu, &[b"WAIT", b"1"])) == "OK");
    // Without a wait nobody is refused.
    assert_eq!(status(&feed(&mut eu, &[])), "OK");
}

/// `onced conflicts --follow` beside a region.
fn follow(cluster: &Cluster, more: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = Command::new(tests::build::onced());
    command.args(["conflicts", "--follow"]).args(more).env("ONCED_SOCKET", cluster.socket(EU));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("onced can be started");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    (child, out)
}

fn line(out: &mut impl BufRead) -> String {
    let mut line = String::new();
    out.read_line(&mut line).expect("it writes text");
    line
}

#[test]
fn following_goes_on_over_a_restart_and_ends_cleanly() {
    let mut cluster = Cluster::start(Setup::regions(2));
    let (mut child, mut out) = follow(&cluster, &[]);
    let (mut unread, out_unread) = follow(&cluster, &["--json"]);
    run_twice(&cluster, &["pay:1"]);
    let told = line(&mut out);
    let fields: Vec<&str> = told.trim_end().split('\t').collect();
    assert_eq!((fields[0], fields[2], fields[4]), ("pay:1", "us", "eu"), "{told:?}");
    let output =
        cluster.onced(EU, &["compensate", fields[0], fields[1], "--region", fields[2], "--json"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("\"status\":\"COMPENSATED\""), "{output:?}");

    cluster.terminate(EU);
    cluster.wait_end(EU);
    cluster.restart(EU);
    cluster.wait_linked();
    run_twice(&cluster, &["pay:2"]);
    assert!(line(&mut out).starts_with("pay:2\t"), "what is compensated is not told again");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has a number");
    kill_process(pid, Signal::INT).expect("a child can be signalled");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(line(&mut out), "", "nothing half written");
    // Nobody reads the other one any more.
    drop(out_unread);
    run_twice(&cluster, &["pay:3"]);
    assert_eq!(unread.wait().expect("it ends").code(), Some(0));
}
