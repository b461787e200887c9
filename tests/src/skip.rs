//! Tests that need what a machine may lack say so, and fail where it was promised.

use std::io::Write as _;

use sim::real::Lack;

/// Says so of `test`; see [`skip`] and [`unable`].
pub fn tell(lack: &Lack, test: &str) {
    match lack {
        Lack::Programs(what) => skip(test, what),
        Lack::Machine(what) => unable(test, what),
    }
}

/// Says that `test` is skipped because of `reason`, past cargo's capture of output.
///
/// # Panics
/// With `ONCED_REQUIRE=all`: CI installs everything, so there a skip is a failure.
pub fn skip(test: &str, reason: &str) {
    assert!(
        std::env::var_os("ONCED_REQUIRE").is_none_or(|required| required != "all"),
        "{test} must not be skipped here (ONCED_REQUIRE=all): {reason}"
    );
    // Nobody can be told that stderr is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// Says that `test` is skipped because this machine cannot do what it needs, whatever is installed. No failure
/// anywhere: a kernel or container that refuses does so for reasons of its own.
pub fn unable(test: &str, reason: &str) {
    // Nobody can be told that stderr is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: THIS MACHINE DOES NOT ALLOW IT: {reason}");
}
