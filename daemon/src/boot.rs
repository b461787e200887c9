//! Which life of the kernel's cache the data folder lies behind, as a number (S6).
//!
//! Bytes that were written and not synced outlive a process and do not outlive the cache they are in. Recovery must
//! know which of the two happened: after the first nothing is missing, after the second a tail may be. The log's
//! segments carry this number; a start under another one takes it for a power loss, unless the log ended in order.
//!
//! The cache ends with the machine's boot, and, earlier, with the mounted file system: a disk that failed and was
//! mounted again on the same boot has lost what it had not synced. So the number is made of the boot's id and of the
//! file system's *instance*: the kernel gives the folder of a mounted ext4, XFS or F2FS in `/sys/fs` a new inode number
//! at every mount and never gives one twice.
//!
//! Not the id of the mount (`STATX_MNT_ID`): containers and sandboxed services get new mounts of the same, living file
//! system at every start, so that each crash would look like a power loss; and the plain id is given again to the next
//! mount, so that a real one would not. Other file systems have no such folder: there only the boot counts, or
//! [`VARIABLE`].
//!
//! It must never be a guess that things are well: where the boot cannot be known, each start has a number of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};

/// Stands in for the kernel's boot id. For services that may not read it (systemd's `ProcSubset=pid`; there it is
/// `%b`), for containers whose boot id is not their machine's, and for storage that may lose its cache apart from the
/// machine in a way that cannot be seen from here: whoever mounts that again then passes another value.
pub const VARIABLE: &str = "ONCED_BOOT_ID";
const KERNELS: &str = "/proc/sys/kernel/random/boot_id";

/// The number for a data folder, which must exist.
pub fn number(data_dir: &Path) -> u64 {
    let given = std::env::var(VARIABLE).ok().filter(|given| !given.trim().is_empty());
    let id = match given.map_or_else(|| fs::read_to_string(KERNELS), Ok) {
        Ok(id) => Some(id),
        Err(error) => {
            tracing::warn!(
                path = KERNELS, %error,
                "the machine's boot id cannot be read, so every start counts as one after a power loss; set {VARIABLE} \
                 to a text that changes with each boot (in a systemd unit: Environment={VARIABLE}=%b)"
            );
            None
        }
    };
    number_of(id.as_deref(), instance(data_dir))
}

/// The number of a boot, if it is known, and a file system's instance, if it has one.
fn number_of(id: Option<&str>, instance: Option<u64>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    match id {
        // systemd writes it without the kernel's dashes.
        Some(id) => hasher.update(id.trim().replace('-', "").to_ascii_lowercase().as_bytes()),
        None => hasher.update(&unheard_of()),
    };
    if let Some(instance) = instance {
        hasher.update(b"\0instance").update(&instance.to_le_bytes());
    }
    let mut number = [0u8; 8];
    number.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(number)
}

/// The inode number of `/sys/fs/TYPE/DEVICE` for the device that `folder` lies on.
fn instance(folder: &Path) -> Option<u64> {
    let device = fs::metadata(folder).ok()?.dev();
    let link = fs::read_link(format!("/sys/dev/block/{}:{}", major(device), minor(device))).ok()?;
    let name = link.file_name()?;
    let kinds = fs::read_dir("/sys/fs").ok()?;
    let folders = kinds.flatten().filter_map(|kind| fs::metadata(kind.path().join(name)).ok());
    folders.map(|folder| folder.ino()).max()
}

/// Bytes that no other start has.
fn unheard_of() -> [u8; 16] {
    let mut bytes = [0u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // A system without randomness: the moment and the process differ from every other start's.
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        bytes = (now.as_nanos() ^ u128::from(std::process::id()) << 96).to_le_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_with_the_boot_and_with_the_mount() {
        let here = number_of(Some("cde8a2a0-9d2b-4bf1-bc19-eac14f681527\n"), Some(7));
        assert_eq!(
            here,
            number_of(Some("CDE8A2A09D2B4BF1BC19EAC14F681527"), Some(7)),
            "as systemd writes it"
        );
        assert_ne!(here, number_of(Some("cde8a2a0-9d2b-4bf1-bc19-eac14f681528"), Some(7)));
        assert_ne!(here, number_of(Some("cde8a2a0-9d2b-4bf1-bc19-eac14f681527"), Some(8)));
        assert_ne!(here, number_of(Some("cde8a2a0-9d2b-4bf1-bc19-eac14f681527"), None));
    }

    /// Our own systemd unit hides the kernel's boot id (`ProcSubset=pid`); it was then taken for an empty one, the same
    /// for ever, and a power loss for a process's crash: no new incarnation, no new floor of the clock.
    #[test]
    fn where_the_boot_is_not_known_no_start_trusts_the_one_before() {
        assert_ne!(number_of(None, Some(7)), number_of(None, Some(7)));
    }

    #[test]
    fn the_shipped_unit_says_which_boot_it_is() {
        let unit = include_str!("../../deploy/onced.service");
        assert!(unit.contains("ProcSubset=pid") && unit.contains("\nEnvironment=ONCED_BOOT_ID=%b\n"));
    }

    #[test]
    fn a_folder_has_one_number_while_it_stays_mounted() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(instance(folder.path()), instance(folder.path()));
    }
}
