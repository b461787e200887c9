//! `onced-sim real`: a scenario with real daemons, judged by the simulator's oracle (INV-2 to INV-5, INV-7, INV-9 to INV-12).

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use sim::real::Links;
use tests::build;

/// One cut and one kill, in ten seconds.
const SCENARIO: &str = r#"
name = "cut-and-kill"
about = "eu is cut off, and us is killed"
duration = "10s"
[[region]]
name = "eu"
[[region]]
name = "us"
[[region]]
name = "ap"
[links]
delay = "20ms"
jitter = "1ms"
[[namespace]]
name = "pay"
lease = "2s"
retention = "1h"
keys = 30
[workload]
rate = "30/s"
work = "20ms..100ms"
twins = "10%"
twin_gap = "0ms..300ms"
[[event]]
at = "1500ms"
partition = "eu | us ap"
for = "2s"
[[event]]
at = "5s"
crash = "us"
down = "300ms"
[expect]
reached = ["partition-healed", "crash-recovered"]
"#;

fn real(folder: &Path, scenario: &str, args: &[&str]) -> Output {
    let file = folder.join("scenario.toml");
    std::fs::write(&file, scenario).expect("the temporary folder takes a file");
    let mut command = Command::new(build::onced_sim());
    command.arg("real").arg(&file).arg("--onced").arg(build::onced()).args(args);
    command.output().expect("onced-sim can be started")
}

#[test]
fn a_cut_and_a_kill_are_judged_and_stand_beside_what_is_simulated() {
    let name = "a_cut_and_a_kill_are_judged_and_stand_beside_what_is_simulated";
    if let Err(lack) = Links::create(2, tests::links::calm(Duration::ZERO)) {
        return tests::skip::tell(&lack, name);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = real(folder.path(), SCENARIO, &["--seed", "3", "--json"]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["verdict"], "pass");
    assert!(report["packets"].as_u64().is_some_and(|packets| packets > 100), "{report}");
    let row = |name: &str| {
        let rows = report["rows"].as_array().expect("rows");
        rows.iter().find(|row| row["name"].as_str().is_some_and(|found| found.trim() == name)).cloned()
    };
    // The same jobs were done in both worlds.
    let executions = row("executions").expect("a row");
    let (sim, real) = (executions["sim"].as_f64().expect("some"), executions["real"].as_f64().expect("some"));
    assert!(sim >= 20.0 && (sim - real).abs() <= 0.2 * sim, "{executions}");
    let converged = row("convergence, ms: p50").expect("a row");
    assert!(converged["real"].as_f64().is_some_and(|ms| (1.0..20_000.0).contains(&ms)), "{converged}");
    println!("{report}");
}

#[test]
fn what_processes_cannot_do_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let scenario =
        SCENARIO.replace("crash = \"us\"\ndown = \"300ms\"", "power_loss = \"us\"\ndown = \"300ms\"");
    let output = real(folder.path(), &scenario, &[]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{err}");
    assert!(err.contains("`power_loss`") && err.contains("onced-sim run"), "{err}");
}
