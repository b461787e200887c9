//! Scenario files: a topology, what services do, a time line and what is expected, in TOML that people write; and the way
//! back, a whole [`Schedule`](crate::schedule::Schedule) as such a file. `sim/SCENARIOS.md` is their manual, `sim/scenario.schema.json` their schema.
//!
//! ```text
//! text --raw: shape, places--> --check: every error at once--> Plan --seed draws what is left open--> Schedule
//! Schedule --write--> text, which reads back as the same schedule
//! ```
//! Rejected: YAML and JSON (no comments, or no places in errors; onced's configuration is TOML, too), a language of its own
//! (one more to learn), serde straight into [`Schedule`](crate::schedule::Schedule) (stops at the first error and cannot say what to write instead).
//!
//! Must never: run anything; let a file run in another way than it says.

mod advice;
mod check;
mod checker;
mod clocks;
mod cuts;
mod deeds;
mod events;
mod expect;
mod groups;
mod idle;
mod jobs;
pub mod library;
mod places;
mod plan;
mod problem;
mod ranged;
mod raw;
mod topology;
mod units;
mod write;

#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::limits;

pub use expect::{Expect, Outcome};
pub use plan::Plan;
pub use problem::{FileError, Problem};
pub use write::{Labels, write};

/// The schema, for editors.
pub const SCHEMA: &str = include_str!("../../scenario.schema.json");

/// Reads and checks a file; or the scenario of the library that is called so, where there is no such file.
///
/// # Errors
/// [`FileError`] with every error found; its text is for people.
pub fn load(path: &Path) -> Result<Plan, FileError> {
    let name = path.display().to_string();
    if let Some(scenario) = library::find(&name)
        && !path.exists()
    {
        return parse(&name, scenario.text);
    }
    let unreadable = |reason: &str| {
        let then = "name another file, or one of `onced-sim scenarios`";
        FileError::Unreadable(format!("{name}: {reason}; {then}"))
    };
    let file = File::open(path).map_err(|error| unreadable(&error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(limits::FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&error.to_string()))?;
    if bytes.len() as u64 > limits::FILE_BYTES_MAX {
        return Err(unreadable(&format!("is larger than {} bytes", limits::FILE_BYTES_MAX)));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable("is not UTF-8 text"))?;
    parse(&name, &text)
}

/// Checks `text`; `file` only names it in errors.
///
/// # Errors
/// [`FileError`] with every error found.
pub fn parse(file: &str, text: &str) -> Result<Plan, FileError> {
    check::check(file, text)
}
