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
    assert!(out.starts_with("0 of 2 seeds passed"), "{out}");
    assert!(out.contains("2 of them kept every rule and missed an expectation: seeds 0, 1\n"), "{out}");
    assert!(out.contains(&format!("onced-sim run {path} --seed 0;")), "{out}");
    let (code, out, _) = onced_sim(&["measure", path, "--seeds", "2"]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("MISSED answers_min.GRANTED (at least 2) in 2 of 2 runs: seeds 0, 1;"), "{out}");
    assert!(out.contains("MISSED reached.takeover: no run came there"), "{out}");
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

#[test]
fn runs_of_files_are_explained_and_compared_as_seeds_are() {
    let path = file("tiny.toml", TINY);
    let path = path.to_str().expect("UTF-8");
    let (code, out, _) = onced_sim(&["explain", path, "--seed", "2"]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("seed 2 passed") && out.contains(&format!("onced-sim run {path} --seed 2")),
        "{out}"
    );
    let (code, out, _) = onced_sim(&["diff", path]);
    assert_eq!((code, out.as_str()), (0, "the runs are alike\n"));
    let (code, out, _) = onced_sim(&["diff", path, "--with-seed", "1"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("eu") && !out.contains("r1"), "regions go by their names: {out}");
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("tiny");
    let folder = folder.to_str().expect("UTF-8");
    let (code, _, err) = onced_sim(&["run", path, "--report", folder, "--key", "nope"]);
    assert_eq!(code, 64, "a key that is not there is the command line's fault: {err}");
    let (code, _, err) = onced_sim(&["run", path, "--report", folder]);
    assert_eq!(code, 0, "{err}");
    let json = std::fs::read_to_string(format!("{folder}/report.json")).expect("just written");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["regions"], serde_json::json!(["eu", "us"]));
}

/// A power loss within a longer crash brought the region back when the power was back, long before whoever had stopped
/// the process had started it again.
#[test]
fn a_region_that_is_held_down_twice_starts_when_both_are_over() {
    let downs = [
        "{ at = \"1s\", crash = \"eu\", down = \"3s\" }, { at = \"2s\", power_loss = \"eu\", down = \"200ms\" }",
        "{ at = \"1s\", power_loss = \"eu\", down = \"200ms\" }, { at = \"1.1s\", crash = \"eu\", down = \"2.9s\" }",
    ];
    for event in downs {
        let plan = sim::file::parse("overlap", &format!("event = [{event}]\n{TINY}")).expect("a scenario");
        let options = sim::run::Options { keep_trace: true, ..Default::default() };
        let report = sim::run::run_schedule(plan.schedule(1), options);
        assert_eq!(report.verdict, sim::report::Verdict::Pass);
        let trace = report.text.expect("it was kept");
        let starts = trace.lines().filter(|line| line.contains(" start [0, "));
        let starts: Vec<f64> = starts
            .map(|line| line.split_whitespace().next().and_then(|at| at.parse().ok()).expect("a time"))
            .collect();
        assert_eq!(starts.len(), 2, "{event}: {starts:?}");
        assert!(starts[1] >= 4.0, "{event}: {starts:?}");
    }
}

/// The first example of the manual asked ten keys for 24 h: all were settled within a second, and the partition showed
/// nothing.
#[test]
fn every_example_of_the_manual_runs_and_shows_something() {
    let manual = include_str!("../SCENARIOS.md");
    let examples: Vec<&str> =
        manual.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 3, "{}", examples.len());
    for example in examples {
        let plan =
            sim::file::parse("SCENARIOS.md", example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        let mut goals = sim::goals::Goals::default();
        for seed in [1, 2, 3] {
            let report = sim::run::run_schedule(plan.schedule(seed), sim::run::Options::default());
            assert_eq!(report.verdict, sim::report::Verdict::Pass, "seed {seed} of\n{example}");
            goals.join(report.goals);
            let outcomes = plan.expect.judge(&report, false);
            assert!(!outcomes.is_empty(), "it says what to look at:\n{example}");
            let missed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.held).collect();
            assert!(missed.is_empty(), "seed {seed}: {missed:?}\n{example}");
        }
        let moments = plan.expect.judge_moments(goals);
        assert!(!moments.is_empty() && moments.iter().all(|outcome| outcome.held), "{moments:?}\n{example}");
    }
}

/// A region that stands still decides, writes, sends and reads nothing, and goes on from there in the same life.
#[test]
fn a_region_that_stands_still_does_nothing_and_goes_on() {
    let text = format!(
        "event = [{{ at = \"1s\", pause = \"eu\", for = \"2s\" }}, {{ at = \"2.5s\", pause = \"eu\", for = \"1s\" }}]\n{TINY}\
         [workload]\nrate = \"50/s\"\n"
    );
    let plan = sim::file::parse("pause", &text).expect("a scenario");
    let options = sim::run::Options { keep_trace: true, ..Default::default() };
    let report = sim::run::run_schedule(plan.schedule(1), options);
    assert_eq!(report.verdict, sim::report::Verdict::Pass);
    let trace = report.text.expect("it was kept");
    let lines: Vec<(f64, &str)> = trace
        .lines()
        .filter_map(|line| line.trim_start().split_once(' '))
        .filter_map(|(at, what)| Some((at.parse().ok()?, what)))
        .collect();
    let of_eu = |what: &str| {
        let first = what.contains(" [0, ") || what.ends_with(" [0]");
        let outside = ["pause", "break", "connect", "down [1", "send [1"];
        first && !outside.iter().any(|other| what.starts_with(other))
    };
    let done: Vec<_> =
        lines.iter().filter(|(at, what)| (1.000_001..3.499_999).contains(at) && of_eu(what)).collect();
    assert!(done.is_empty(), "{done:?}");
    assert!(lines.iter().any(|(at, what)| *at == 3.5 && what.starts_with("resume [0]")), "{lines:?}");
    assert!(lines.iter().any(|(at, what)| *at == 3.5 && what.starts_with("tick [0]")), "it goes on at once");
    assert_eq!(lines.iter().filter(|(_, what)| what.starts_with("start [0,")).count(), 1, "in the same life");
}

/// S6: "restored backup" is a start after which data may be incomplete: a new incarnation, and what the copy has is there.
#[test]
fn a_region_that_is_put_back_to_a_copy_takes_a_new_incarnation() {
    let text = format!(
        "event = [{{ at = \"3s\", restore = \"eu\", from = \"2.5s\", down = \"1.2s\" }}]\n{TINY}[expect]\nreached = [\"new-incarnation\"]\n"
    );
    let plan = sim::file::parse("restore", &text).expect("a scenario");
    let options = sim::run::Options { keep_trace: true, ..Default::default() };
    let report = sim::run::run_schedule(plan.schedule(1), options);
    assert_eq!(report.verdict, sim::report::Verdict::Pass);
    let trace = report.text.as_deref().expect("it was kept");
    let lives: Vec<&str> = trace.lines().filter_map(|line| line.split(" start [0, ").nth(1)).collect();
    let incarnation = |life: &str| life.split(',').next().and_then(|number| number.parse::<u64>().ok());
    assert_eq!(lives.len(), 2, "{lives:?}");
    assert!(incarnation(lives[0]) < incarnation(lives[1]), "{lives:?}");
    assert!(plan.expect.judge(&report, true).iter().all(|outcome| outcome.held));
}

#[test]
fn limits_of_staleness_and_of_the_window_are_judged_and_leave_the_trace_as_it_is() {
    let text = |limits: &str| {
        let head = "duration = \"6s\"\nregion = [{ name = \"eu\" }, { name = \"us\" }]\n";
        let cut = "event = [{ at = \"1.5s\", partition = \"eu | us\", for = \"2s\" }]\n";
        let job =
            |at: &str, region: &str| format!("{{ at = \"{at}\", region = \"{region}\", key = \"pay:1\" }}");
        format!("{head}{cut}job = [{}, {}]\n{limits}", job("2s", "eu"), job("3s", "us"))
    };
    let path = file("limits.toml", &text("[expect]\nwindow_max = \"500ms\"\nstale_max = \"10s\"\n"));
    let (code, out, err) = onced_sim(&["run", path.to_str().expect("UTF-8")]);
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains("MISSED window_max: at most 500ms, measured "), "{out}");
    assert!(out.contains("kept   stale_max: at most 10s, measured"), "{out}");
    let hash = |out: &str| out.lines().next().and_then(|line| line.split("trace ").nth(1)).map(str::to_owned);
    let plain = file("no-limits.toml", &text(""));
    let (code, plain, _) = onced_sim(&["run", plain.to_str().expect("UTF-8")]);
    assert_eq!((code, hash(&plain)), (0, hash(&out)));
}
