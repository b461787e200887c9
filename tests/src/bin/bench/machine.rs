//! What was measured, and on what: versions, cores, kernel, file system.
//!
//! A ratio without these cannot be compared with tomorrow's. Must never hold a host's name or anything else that
//! tells whose machine it was.

use crate::cpu;
use crate::servers::{Programs, redis};
use std::path::Path;
use std::process::Command;

/// f_type of tmpfs: syncing there costs nothing and durable figures mean nothing.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// What the header of the table says.
#[derive(Debug)]
pub struct Machine {
    /// Version of onced.
    pub onced: String,
    /// Version of redis, or what to do to have one.
    pub redis: String,
    /// The processor's model.
    pub processor: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
    /// Whether the data is on a real disk.
    pub on_disk: bool,
}

impl Machine {
    /// Looks around.
    pub fn look(programs: &Programs, folder: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let on_disk = rustix::fs::statfs(folder).is_ok_and(|found| found.f_type != TMPFS_MAGIC);
        Self {
            onced: onced_version(&programs.onced),
            redis: redis::version()
                .unwrap_or_else(|| "not installed: apt-get install redis-server redis-tools".to_string()),
            processor: model.map_or("unknown", |(_, model)| model).to_string(),
            cores: cpu::cores(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
            on_disk,
        }
    }
}

fn onced_version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().nth(1).unwrap_or("unknown").to_string()
}
