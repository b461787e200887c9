//! Scenario files on the command line: what ships runs by its name, what is missed and what is wrong have their codes.

use std::path::PathBuf;
use std::process::Command;

fn onced_sim(arguments: &[&str]) -> (i32, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_onced-sim")).args(arguments).output().expect("it was built");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("not killed"), text(output.stdout), text(output.stderr))
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the target folder is ours");
    path
}

const TINY: &str = "duration = \"5s\"\nregion = [{ name = \"eu\" }, { name = \"us\" }]\n\
                    job = [{ at = \"2s\", region = \"eu\", key = \"pay:1\" }]\n";

#[test]
fn a_shipped_scenario_runs_by_its_name() {
    let (code, list, _) = onced_sim(&["scenarios"]);
    assert_eq!(code, 0);
    assert!(list.lines().count() >= 15 && list.contains("active-active "), "{list}");
    let (code, out, _) = onced_sim(&["run", "wrong-payload", "--seed", "4"]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("seed 4: pass") && out.contains("kept   answers_min.MISMATCH: at least 1, measured 1"),
        "{out}"
    );
    let (code, out, _) = onced_sim(&["swarm", "wrong-payload", "--seeds", "3", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(
        (code, report["passed"].as_u64(), report["exit_code"].as_u64()),
        (0, Some(3), Some(0)),
        "{out}"
    );
}

#[test]
fn a_missed_expectation_is_named_with_limit_and_measure_and_exits_with_3() {
    let text = format!(
        "{TINY}[expect]\nanswers_min = {{ GRANTED = 2 }}\nbytes_max = \"1B\"\nreached = \"takeover\"\n"
    );
    let path = file("missed.toml", &text);
    let path = path.to_str().expect("UTF-8");
    let (code, out, _) = onced_sim(&["run", path]);
    assert_eq!(code, 3, "{out}");
    for told in [
        "MISSED answers_min.GRANTED: at least 2, measured 1",
        "MISSED bytes_max: at most 1B",
        "MISSED reached.takeover",
    ] {
        assert!(out.contains(told), "{out}");
    }
    let (code, out, _) = onced_sim(&["swarm", path, "--seeds", "2"]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("seed 1:  MISSED answers_min.GRANTED"), "{out}");
    let (code, out, _) = onced_sim(&["run", path, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!((code, report["expectations"][0]["held"].as_bool()), (3, Some(false)), "{out}");
}

#[test]
fn a_wrong_file_is_told_with_its_place_and_exits_with_64() {
    let path = file("wrong.toml", &format!("{TINY}[expect]\nconvergence_max = 5\n"));
    let path = path.to_str().expect("UTF-8");
    for command in ["check", "run", "swarm", "schedule"] {
        let (code, _, err) = onced_sim(&[command, path]);
        assert_eq!(code, 64, "{command}");
        assert!(
            err.starts_with(&format!("{path}:5:19: convergence_max: 5 is not a duration; write")),
            "{err}"
        );
    }
    let (code, _, err) = onced_sim(&["run", "no-such-file.toml"]);
    assert_eq!(code, 64);
    assert!(err.contains("name another file, or one of `onced-sim scenarios`"), "{err}");
}

#[test]
fn a_printed_schedule_runs_to_the_same_trace() {
    let trace =
        |out: &str| out.lines().next().and_then(|line| line.split("trace ").nth(1)).map(str::to_owned);
    let (code, text, _) = onced_sim(&["schedule", "--seed", "7"]);
    assert_eq!(code, 0);
    let path = file("seed-7.toml", &text);
    let (code, out, _) = onced_sim(&["replay", path.to_str().expect("UTF-8")]);
    let (_, drawn, _) = onced_sim(&["run", "--seed", "7"]);
    assert_eq!((code, trace(&out)), (0, trace(&drawn)));
    assert!(trace(&out).is_some(), "{out}");
}
