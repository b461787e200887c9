//! Disks that are full and disks that fail, made for one test and gone with it.
//!
//! A full disk is a tmpfs of a few MiB with a file that takes the rest of it. A failing one is a library in front of
//! the C library's `pwrite` and `fdatasync` (`LD_PRELOAD`), compiled when it is needed: the daemon is the one that
//! users run. Nothing here touches another file system than those it mounted.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::wait::until;

/// A tmpfs of its own.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one of `mebibytes`; why not, where the machine does not let us.
    pub fn mount(mebibytes: u64) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("onced-disk-").tempdir().expect("a temporary folder");
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "onced-test"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self { folder }),
            Ok(output) => {
                Err(format!("mounting a tmpfs needs root: {}", String::from_utf8_lossy(&output.stderr)))
            }
            Err(error) => Err(format!("mount cannot be run: {error}")),
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all that is free now; removing the file gives it back. Who writes meanwhile may still win some.
    pub fn take_rest(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let file = File::create(&path).expect("the disk takes a file");
        let nothing = rustix::fs::FallocateFlags::empty();
        let taken = || match self.free_bytes() {
            0 => true,
            free => rustix::fs::fallocate(&file, nothing, 0, free).is_ok(),
        };
        until("the rest of the disk is taken", taken);
        path
    }

    /// Bytes that are free.
    pub fn free_bytes(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.path()).expect("it is mounted");
        disk.f_bavail * disk.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = |lazily: &[&str]| {
            let status = Command::new("umount").args(lazily).arg(self.folder.path()).status();
            status.is_ok_and(|status| status.success())
        };
        // Lazily where a process that is about to end has a file open still.
        if !unmount(&[]) {
            let _ = unmount(&["-l"]);
        }
    }
}

/// A library that makes system calls of a daemon fail on command.
#[derive(Debug)]
pub struct FailingCalls {
    folder: TempDir,
}

/// `pwrite64` and `pwrite` are one call under two names. `once`: after one failure it answers as if nothing had been,
/// as kernels do after a failed sync.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(const char *call) {
    char path[512], line[64] = {0};
    const char *folder = getenv("ONCED_TEST_FAULTS");
    if (!folder) return 0;
    snprintf(path, sizeof path, "%s/%s", folder, call);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t len = read(fd, line, sizeof line - 1);
    close(fd);
    if (len <= 0) return 0;
    snprintf(path, sizeof path, "%s/%s.failed", folder, call);
    int first = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (first >= 0) close(first);
    if (first < 0 && strstr(line, "once")) return 0;
    errno = atoi(line);
    return 1;
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    return fails("fdatasync") ? -1 : real(fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    return fails("pwrite") ? -1 : real(fd, bytes, len, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite");
    return fails("pwrite") ? -1 : real(fd, bytes, len, at);
}
"#;

impl FailingCalls {
    /// Compiles the library; why not, where there is no compiler.
    pub fn compile() -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("onced-faults-").tempdir().expect("a temporary folder");
        let source = folder.path().join("faults.c");
        std::fs::write(&source, SOURCE).expect("a file can be written");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(folder.path().join("faults.so"));
        match compiler.arg(&source).arg("-ldl").output() {
            Ok(output) if output.status.success() => Ok(Self { folder }),
            Ok(output) => panic!("the library does not compile: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => Err(format!("cc cannot be run: {error}")),
        }
    }

    /// Puts the library in front of `command`.
    pub fn load_into(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.folder.path().join("faults.so"));
        command.env("ONCED_TEST_FAULTS", self.folder.path());
    }

    /// From now on `call` fails with `errno`: once, or until [`FailingCalls::stop`].
    pub fn fail(&self, call: &str, errno: rustix::io::Errno, once: bool) {
        let new = self.folder.path().join(format!("{call}.new"));
        let mut file = File::create(&new).expect("a file can be written");
        let word = if once { "once" } else { "always" };
        write!(file, "{} {word}", errno.raw_os_error()).expect("a file can be written");
        // Whole from the first moment on.
        std::fs::rename(new, self.folder.path().join(call)).expect("a file can be renamed");
    }

    /// `call` fails no longer.
    pub fn stop(&self, call: &str) {
        std::fs::remove_file(self.folder.path().join(call)).expect("it was failing");
    }

    /// Whether `call` has failed.
    pub fn has_failed(&self, call: &str) -> bool {
        self.folder.path().join(format!("{call}.failed")).exists()
    }
}
