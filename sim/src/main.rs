//! `onced-sim`: see `onced-sim --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(sim::cli::main())
}
