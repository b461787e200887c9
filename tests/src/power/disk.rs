//! Disks whose power can be cut: ext4 in image files on loop devices.
//!
//! A file system of its own for each region, because a cut takes all of it. The daemon's data lies in a folder
//! *inside* the mounted file system and the region's own folder points there: when the mount is missing, the pointer
//! dangles, and nothing is ever written beside the disk by mistake.
//!
//! It must never leave a mount behind: dropped disks are unmounted, also while panicking, and what an earlier run left
//! because it was killed is found by its name and taken away.

use std::path::{Path, PathBuf};
use std::process::Command;

use sim::real::machine::{is_installed, run};
use tempfile::TempDir;

pub use sim::real::Lack;

/// What the folders of this harness are called; the number of the process that made them follows.
const PREFIX: &str = "onced-power-";
/// Programs that are needed besides the kernel's leave.
const PROGRAMS: [&str; 4] = ["mkfs.ext4", "mount", "umount", "cc"];
/// Size of an image, in MiB; the file is sparse.
const IMAGE_MIB: u64 = 256;
const CUTTER: &str = include_str!("cut.c");
/// If set, the images are copied to this folder when a test fails.
const KEEP: &str = "ONCED_POWER_KEEP";

/// One region's disk.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

/// All disks of a run, and the program that cuts them.
#[derive(Debug)]
pub struct Disks {
    disks: Vec<Disk>,
    // Dropped last: the disks lie in it.
    folder: TempDir,
}

/// When a disk was cut, Unix microseconds: not before the first, not after the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutAt {
    /// Right before.
    pub before_us: u64,
    /// Right after.
    pub after_us: u64,
}

/// How a cut leaves what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// All of it is gone that the kernel had not written by itself.
    Plain,
    /// Some pages of it are there, others in front of them are not.
    Torn,
}

impl Disks {
    /// So many disks, mounted and empty.
    ///
    /// # Errors
    /// What is lacking for it, in words.
    pub fn create(count: usize) -> Result<Self, Lack> {
        let lacking: Vec<_> = PROGRAMS.into_iter().filter(|program| !is_installed(program)).collect();
        if !lacking.is_empty() {
            return Err(Lack::Programs(format!("{} not found", lacking.join(", "))));
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Lack::Machine("only root may mount".to_owned()));
        }
        sweep();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary folder");
        let mut disks = Self { disks: Vec::new(), folder };
        for at in 0..count {
            let disk = Disk::create(&disks.folder.path().join(at.to_string())).map_err(Lack::Machine)?;
            disks.disks.push(disk);
        }
        std::fs::write(disks.folder.path().join("cut.c"), CUTTER).expect("a file can be written");
        let mut compile = Command::new("cc");
        compile.args(["-O1", "-o", "cut", "cut.c"]).current_dir(disks.folder.path());
        run(&mut compile).unwrap_or_else(|error| panic!("the cutter does not compile: {error}"));
        Ok(disks)
    }

    /// Where a disk is mounted.
    pub fn folder(&self, at: usize) -> PathBuf {
        self.disks[at].mount.clone()
    }

    /// Where a daemon's data goes.
    pub fn data(&self, at: usize) -> PathBuf {
        self.disks[at].mount.join("data")
    }

    /// Cuts the power of some disks at one moment, as far as there is one.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn cut(&self, which: &[usize], manner: Manner, seed: u64) -> Vec<CutAt> {
        let mut command = Command::new(self.folder.path().join("cut"));
        command.arg(if manner == Manner::Torn { "torn" } else { "plain" }).arg((seed as u32).to_string());
        command.args(which.iter().map(|at| &self.disks[*at].mount));
        let said = run(&mut command).unwrap_or_else(|error| panic!("the power cannot be cut: {error}"));
        let times: Vec<_> = said.lines().map(|line| line.split_once(' ').expect("two times")).collect();
        assert_eq!(times.len(), which.len());
        let number = |text: &str| text.parse().expect("a time");
        times.into_iter().map(|(b, a)| CutAt { before_us: number(b), after_us: number(a) }).collect()
    }

    /// Mounts a disk again, as after the power has come back. Nobody may use it any more.
    ///
    /// # Panics
    /// It cannot be unmounted or mounted.
    pub fn remount(&mut self, at: usize) {
        let disk = &mut self.disks[at];
        disk.unmount().unwrap_or_else(|error| panic!("{}: {error}", disk.mount.display()));
        disk.mount().unwrap_or_else(|error| panic!("{}: {error}", disk.image.display()));
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        let Some(keep) = std::env::var_os(KEEP).filter(|_| std::thread::panicking()) else { return };
        for (at, disk) in self.disks.iter().enumerate() {
            let to = Path::new(&keep).join(format!("disk-{at}.ext4"));
            let kept = run(Command::new("cp").arg("--sparse=always").arg(&disk.image).arg(&to));
            eprintln!("--- disk {at} kept as {}: {kept:?}", to.display());
        }
    }
}

impl Disk {
    fn create(folder: &Path) -> Result<Self, String> {
        let (image, mount) = (folder.join("image"), folder.join("disk"));
        std::fs::create_dir_all(&mount).map_err(|error| error.to_string())?;
        let file = std::fs::File::create_new(&image).map_err(|error| error.to_string())?;
        file.set_len(IMAGE_MIB << 20).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let mut disk = Self { image, mount, mounted: false };
        disk.mount()?;
        std::fs::create_dir(disk.mount.join("data")).map_err(|error| error.to_string())?;
        // The empty folder must survive the first cut.
        run(Command::new("sync").arg("-f").arg(&disk.mount))?;
        Ok(disk)
    }

    fn mount(&mut self) -> Result<(), String> {
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&self.image).arg(&self.mount))?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), String> {
        run(Command::new("umount").arg(&self.mount))?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !self.mounted || self.unmount().is_ok() {
            return;
        }
        // Somebody still uses it: it goes once they end, and the loop device with it.
        if let Err(error) = run(Command::new("umount").arg("-l").arg(&self.mount)) {
            eprintln!("{} stays mounted: {error}", self.mount.display());
        }
    }
}

/// Takes away what killed runs have left: mounts first, then folders, of processes that are gone.
fn sweep() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The fifth word; temporary folders have no characters that would be escaped there.
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    for point in points.map(Path::new).filter(|point| point.ancestors().any(is_left_over)) {
        eprintln!("{} was left by a run that was killed: unmounted", point.display());
        if let Err(error) = run(Command::new("umount").arg("-l").arg(point)) {
            eprintln!("{error}");
        }
    }
    let Ok(listing) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for folder in listing.flatten().map(|entry| entry.path()).filter(|path| is_left_over(path)) {
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            eprintln!("{}: {error}", folder.display());
        }
    }
}

fn is_left_over(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let owner = name.and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split('-').next());
    owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists())
}
