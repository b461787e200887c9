//! Tests that need what a machine may lack say so, and fail where it was promised.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Why a test cannot run on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lack {
    /// Programs that can be installed.
    Programs(String),
    /// What the machine does not allow.
    Machine(String),
}

impl Lack {
    /// Says so of `test`; see [`skip`] and [`unable`].
    pub fn tell(&self, test: &str) {
        match self {
            Self::Programs(what) => skip(test, what),
            Self::Machine(what) => unable(test, what),
        }
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

/// Whether a program is there, on the PATH or where administrators' programs are.
pub fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let known = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&paths).chain(known).any(|folder| folder.join(program).is_file())
}

/// The PATH and where programs of administrators are, which is not on everybody's.
pub fn administrators_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// What a program said, or why it failed.
///
/// # Errors
/// Its own words, or why it cannot be run.
pub fn run(command: &mut Command) -> Result<String, String> {
    command.env("PATH", administrators_path()).stdin(Stdio::null());
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr).trim()))
}
