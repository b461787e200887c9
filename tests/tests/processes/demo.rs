//! `onced demo` itself: the README's first command must hold on every machine that runs these tests.

use std::process::Command;

use tests::build;

#[test]
fn every_check_of_the_demo_holds() {
    let output = Command::new(build::onced()).args(["demo", "--json"]).output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let report: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let failed: Vec<_> = report["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|step| step["checks"].as_array().into_iter().flatten())
        .filter(|check| check["held"] != true)
        .collect();
    assert!(failed.is_empty() && report["held"] == true && output.status.success(), "{failed:?}\n{text}");
    assert!(report["took_ms"].as_u64().is_some_and(|took_ms| took_ms < 60_000), "{}", report["took_ms"]);
    let folder = report["folder"].as_str().expect("a path");
    assert!(!std::path::Path::new(folder).exists(), "{folder} is left behind");
}
