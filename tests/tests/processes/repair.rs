//! A damaged log: the start is refused, and the commands that the refusal names, run as printed, mend it (S6).

use std::time::Duration;

use tests::cluster::pause;
use tests::{Cluster, Setup, field};

use super::backup::{claim_all, held, printed};

const KEYS: usize = 100;
const BATCHES: usize = 4;

/// Two regions; the first has stopped, and a byte in the middle of its log has changed.
fn damaged() -> (Cluster, String) {
    let mut cluster = Cluster::start(Setup::regions(2));
    for batch in 0..BATCHES {
        claim_all(&cluster, 0, &format!("b{batch}"), KEYS);
        // So that what was synced is marked behind what it marks.
        pause(Duration::from_millis(80));
    }
    cluster.agree();
    cluster.terminate(0);
    assert!(cluster.wait_end(0).success());
    let data = cluster.own(0).join("data");
    let segments = std::fs::read_dir(&data).expect("readable").map(|entry| entry.expect("readable").path());
    let segment = segments.filter(|path| path.extension().is_some_and(|found| found == "log")).max();
    let segment = segment.expect("a log");
    let mut bytes = std::fs::read(&segment).expect("readable");
    let end = bytes.iter().rposition(|&byte| byte != 0).expect("records");
    bytes[end / 2] ^= 0x10;
    std::fs::write(&segment, bytes).expect("writable");
    cluster.spawn(0);
    let status = cluster.wait_end(0);
    assert_eq!(status.code(), Some(65), "a start from a damaged log is refused");
    let log = cluster.log(0);
    let refusal =
        log.lines().find(|line| line.contains("is damaged at byte")).expect("it says why").to_owned();
    assert!(refusal.contains(&segment.display().to_string()), "{refusal}");
    (cluster, refusal)
}

/// The words of the command in brackets that begins with `onced` and `name`.
fn proposed(refusal: &str, name: &str) -> Vec<String> {
    let (_, rest) = refusal.split_once(&format!("(onced {name}")).expect("a way out");
    let (arguments, _) = rest.split_once(')').expect("in brackets");
    std::iter::once(name).chain(arguments.split_whitespace()).map(str::to_owned).collect()
}

/// Runs the command as it was printed, and answers its question with yes.
fn mend(cluster: &Cluster, words: &[String]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let asked = cluster.onced(0, &words, "\n");
    assert_eq!(asked.status.code(), Some(64), "it asks before it does anything");
    printed(&cluster.onced(0, &words, "yes\n"))
}

fn has_everything_again(cluster: &mut Cluster) {
    cluster.restart(0);
    cluster.wait_linked();
    cluster.agree();
    for batch in 0..BATCHES {
        assert_eq!(held(cluster, 0, &format!("b{batch}"), KEYS), KEYS, "batch {batch}");
    }
    let life = |cluster: &Cluster| field(&cluster.call(0, &[b"STATUS"]), "incarnation");
    let begun = life(cluster);
    claim_all(cluster, 0, "new", KEYS);
    assert!(cluster.kill(0));
    cluster.restart(0);
    assert_eq!(life(cluster), begun, "one new life is enough");
    assert_eq!(held(cluster, 0, "new", KEYS), KEYS);
}

#[test]
fn the_cut_that_the_daemon_proposes_mends_it() {
    let (mut cluster, refusal) = damaged();
    let text = mend(&cluster, &proposed(&refusal, "repair"));
    assert!(text.contains("Given up") && text.contains("set-aside-"), "{text}");
    has_everything_again(&mut cluster);
}

#[test]
fn the_rejoin_that_the_daemon_proposes_mends_it() {
    let (mut cluster, refusal) = damaged();
    let text = mend(&cluster, &proposed(&refusal, "rejoin"));
    assert!(text.contains("damaged: segment ") && text.contains("set-aside-"), "{text}");
    has_everything_again(&mut cluster);
}

#[test]
fn nothing_is_mended_under_a_running_daemon() {
    let cluster = Cluster::alone("interval");
    for words in [&["rejoin", "--yes"][..], &["repair", "--cut-at", "x.log:64", "--yes"]] {
        let output = cluster.onced(0, words, "");
        assert_eq!(output.status.code(), Some(75), "{words:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("in use by another onced"));
    }
}
