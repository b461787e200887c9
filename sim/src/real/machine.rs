//! What a machine must have for real regions, and how its programs are run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Why something cannot be done on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lack {
    /// Programs that can be installed.
    Programs(String),
    /// What the machine does not allow.
    Machine(String),
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
