//! The binaries under test, built once a test process.
//!
//! Cargo builds another package's binaries for no test by itself, and one that lies there may be yesterday's. Built
//! in the release profile, whatever the tests' own is: that is what users run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `onced`, built from the sources as they are.
pub fn onced() -> &'static Path {
    &binaries().0
}

/// `onced-sim`, built from the sources as they are.
pub fn onced_sim() -> &'static Path {
    &binaries().1
}

fn binaries() -> &'static (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = target_folder();
        // CARGO is what runs these tests; it is missing only when a test binary is started by hand.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args([
            "build",
            "--release",
            "--quiet",
            "--bin",
            "onced",
            "--bin",
            "onced-sim",
            "--target-dir",
        ]);
        command.arg(&target).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let built = command.status().expect("cargo can be started: it is what runs the tests");
        assert!(built.success(), "the binaries under test do not build");
        (target.join("release/onced"), target.join("release/onced-sim"))
    })
}

/// A test runs from TARGET/PROFILE/deps/NAME, a program of this package from TARGET/PROFILE/NAME.
fn target_folder() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its own file");
    let folder = own.parent().expect("a file lies in a folder");
    let profile = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    profile.and_then(Path::parent).expect("cargo puts programs at least two folders deep").to_owned()
}
