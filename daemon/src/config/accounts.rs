//! What checking needs to know of this machine: users, groups, cores, the file's folder.
//!
//! It is a value, so that tests bring their own. Users and groups come from /etc/passwd and /etc/group alone:
//! asking a directory service needs the C library's resolver, which `unsafe_code = "forbid"` rules out. Whoever
//! has accounts elsewhere writes numbers, and the error says so.

use std::path::{Path, PathBuf};

/// The machine, as far as checking asks.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Text of /etc/passwd.
    pub passwd: String,
    /// Text of /etc/group.
    pub group: String,
    /// The user this process runs as.
    pub own_uid: u32,
    /// Cores, at least 1.
    pub cores: usize,
    /// Relative paths of the file are meant from here.
    pub base: PathBuf,
}

impl Surroundings {
    /// This machine, for the configuration at `config_file`. What cannot be read counts as empty: only a name
    /// that needs it then fails, with its line.
    pub fn of_this_host(config_file: &Path) -> Self {
        let absolute = std::path::absolute(config_file).unwrap_or_else(|_| config_file.to_owned());
        Self {
            passwd: std::fs::read_to_string("/etc/passwd").unwrap_or_default(),
            group: std::fs::read_to_string("/etc/group").unwrap_or_default(),
            own_uid: rustix::process::geteuid().as_raw(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            base: absolute.parent().unwrap_or(Path::new("/")).to_owned(),
        }
    }

    /// The number of a user.
    pub(super) fn uid_of(&self, name: &str) -> Option<u32> {
        number_of(&self.passwd, name)
    }

    /// The number of a group.
    pub(super) fn gid_of(&self, name: &str) -> Option<u32> {
        number_of(&self.group, name)
    }
}

/// The third field of the line whose first is `name`: the same in both files.
fn number_of(table: &str, name: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1))?.and_then(|number| number.parse().ok())
    })
}
