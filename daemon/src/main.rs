//! `onced`: one daemon a region, and the command line for it.

fn main() -> std::process::ExitCode {
    daemon::cli::main()
}
