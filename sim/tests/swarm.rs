//! The simulator as people use it: a swarm passes, the same seed gives the same trace, planted bugs are
//! caught, and the exit codes are the documented ones.

use std::process::Command;

#[cfg(feature = "canary")]
use sim::limits::CANARY_SEEDS_MAX;
use sim::progress::Progress;
use sim::report::Verdict;
use sim::run::{Options, run};
use sim::swarm::{Plan, swarm};

fn onced_sim(arguments: &[&str]) -> (i32, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_onced-sim")).args(arguments).output().expect("it was built");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("not killed"), text(output.stdout), text(output.stderr))
}

#[test]
fn a_small_swarm_passes() {
    let plan =
        Plan { start: 0, seeds: 60, jobs: 2, twice_every: 20, keep_going: true, sample: false, canary: None };
    let report = swarm(plan, &Progress::new(plan.seeds, false));
    let failures: Vec<String> = report.failures.iter().map(sim::report::RunReport::human).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!((report.seeds, report.twice), (60, 3));
}

/// INV-18.
#[test]
fn the_same_seed_gives_the_same_trace_byte_for_byte() {
    let options = Options { keep_trace: true, ..Options::default() };
    let (first, second, other) = (run(5, options), run(5, options), run(6, options));
    assert_eq!(first.text, second.text);
    assert_eq!(first.trace_hash, second.trace_hash);
    assert_ne!(first.trace_hash, other.trace_hash);
    assert_eq!(run(5, Options::default()).trace_hash, first.trace_hash, "keeping the text changes nothing");
    assert!(first.verdict == Verdict::Pass && first.events > 500, "{}", first.human());
}

#[test]
fn exit_codes_are_the_documented_ones() {
    let (code, out, _) = onced_sim(&["run", "--seed", "3", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!((code, report["verdict"].as_str()), (0, Some("pass")));
    // One healthy seed cannot reach every goal.
    let (code, out, _) = onced_sim(&["swarm", "--seeds", "1", "--start", "3"]);
    assert_eq!(code, 4, "{out}");
    assert!(out.contains("goals never reached"), "{out}");
    for wrong in
        [&["run"][..], &["swarm", "--seeds", "0"], &["run", "--seed", "1", "--canary", "no-such-bug"]]
    {
        assert_eq!(onced_sim(wrong).0, 64, "{wrong:?}");
    }
    let (code, out, _) = onced_sim(&["--help"]);
    assert!(code == 0 && out.contains("Exit codes:") && out.contains("Examples:"), "{out}");
    let (code, _, complaint) = onced_sim(&["run", "--seed", "3", "--trace", "/no/such/folder/trace"]);
    assert!(code == 70 && complaint.contains("--trace"), "{complaint}");
}

#[test]
fn a_trace_is_written_where_it_was_asked_for() {
    let path = std::env::temp_dir().join(format!("onced-sim-trace-{}", std::process::id()));
    let name = path.to_str().expect("UTF-8").to_owned();
    let (code, ..) = onced_sim(&["run", "--seed", "4", "--trace", &name]);
    let text = std::fs::read_to_string(&path).expect("the trace");
    std::fs::remove_file(&path).expect("ours");
    assert!(code == 0 && text.contains(" GRANTED [") && text.contains(" heal []"), "{text}");
}

/// A simulator that misses planted bugs proves nothing by passing.
#[cfg(feature = "canary")]
#[test]
fn every_planted_bug_is_caught() {
    for bug in crdt::canary::Bug::ALL {
        let plan = Plan {
            start: 0,
            seeds: CANARY_SEEDS_MAX,
            jobs: 2,
            twice_every: 20,
            keep_going: false,
            sample: false,
            canary: Some(bug),
        };
        let report = swarm(plan, &Progress::new(plan.seeds, false));
        assert!(!report.failures.is_empty(), "{} was not caught in {CANARY_SEEDS_MAX} seeds", bug.name());
        let replay = report.failures[0].replay_command();
        assert!(replay.contains(bug.name()) && replay.contains("--seed"), "{replay}");
    }
}

/// Without the feature a bug cannot be planted, and the command line says how to get it.
#[cfg(not(feature = "canary"))]
#[test]
fn an_ordinary_build_cannot_plant_bugs() {
    let (code, _, complaint) = onced_sim(&["canary"]);
    assert!(code == 64 && complaint.contains("--features canary"), "{complaint}");
}
