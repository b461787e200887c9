//! A data folder of its own for a test, written by the real log.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crdt::recovery::RecoveryConfig;
use crdt::request::{Claim, Request};
use crdt::store::{Ran, Scratch};
use tempfile::TempDir;

use crate::config::{ClusterSecret, Config};
use crate::driver::wall_ms;
use crate::lifecycle::recovery_config;
use crate::log::{self, CheckpointConfig, Checkpointer, LogSizes, MANIFEST_NAME, OpenError, Opened};

const SEGMENT_BYTES: u64 = 64 * 1024;

/// One region without peers.
pub(crate) struct Data {
    folder: TempDir,
    pub(crate) config: Config,
}

impl Data {
    pub(crate) fn new() -> Self {
        Self::of("eu", 1, 'a')
    }

    /// A region of this name and number whose cluster's secret is made of that letter.
    pub(crate) fn of(region: &str, id: u16, secret: char) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name).display().to_string();
        fs::write(file("secret"), secret.to_string().repeat(64)).expect("writable");
        fs::set_permissions(file("secret"), fs::Permissions::from_mode(0o600)).expect("ours");
        let text = format!(
            "[cluster]\nname = \"tests\"\nsecret_file = \"secret\"\nmax_drift = \"5ms\"\n[socket]\npath = \"s.sock\"\n\
             [region]\nname = \"{region}\"\nid = {id}\ndata_dir = \"data\"\n"
        );
        fs::write(file("onced.toml"), text).expect("writable");
        let config = Config::load(Path::new(&file("onced.toml"))).expect("a good configuration");
        Self { folder, config }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.config.region.data_dir
    }

    /// Beside the data folder.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As a start on a machine that stays up.
    pub(crate) fn recovery(&self) -> RecoveryConfig {
        let secret = ClusterSecret::read(&self.config.cluster.secret_file).expect("a secret");
        RecoveryConfig { boot: 1, ..recovery_config(&self.config, &secret) }
    }

    /// Opens it as a start does.
    pub(crate) fn open(&self) -> Result<Opened, OpenError> {
        let sizes = LogSizes { segment_bytes: SEGMENT_BYTES, reserve_bytes: 0 };
        let opened = log::open(self.dir(), self.recovery(), sizes, None, |_, _| {})?;
        opened.log.flush_all().expect("a good disk");
        // A new life grants once the clock has passed what a former one may have issued.
        while !grants(&opened) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(opened)
    }

    /// A folder with `keys` keys in a few segments, and runs that cover the first ones if `covered`.
    pub(crate) fn filled(keys: u32, covered: bool) -> Self {
        let data = Self::new();
        let opened = data.open().expect("a good folder");
        fill(&opened, 0..keys / 2);
        if covered {
            let checkpointer = data.checkpoints(&opened);
            while !data.dir().join(MANIFEST_NAME).exists() {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            checkpointer.stop();
        }
        fill(&opened, keys / 2..keys);
        data
    }

    /// Covers what is closed, and deletes it.
    pub(crate) fn checkpoints(&self, opened: &Opened) -> Checkpointer {
        let acked_by_all = Arc::new(AtomicU64::new(u64::MAX));
        let config = CheckpointConfig { max_drift_ms: 500, keep_bytes: 0, acked_by_all };
        Checkpointer::start(Arc::clone(&opened.log), config).expect("a thread")
    }

    /// Files of the data folder with this extension, in order.
    pub(crate) fn files(&self, extension: &str) -> Vec<PathBuf> {
        let entries =
            fs::read_dir(self.dir()).expect("readable").map(|entry| entry.expect("readable").path());
        let mut files: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
        files.sort();
        files
    }

    /// The same configuration with a copy of the data folder.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::of(&self.config.region.name, self.config.region.id, 'a');
        fs::create_dir_all(copy.dir()).expect("writable");
        for entry in fs::read_dir(self.dir()).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a name");
            if path.is_file() {
                fs::copy(&path, copy.dir().join(name)).expect("writable");
            }
        }
        copy
    }
}

fn claimed(opened: &Opened, key: &[u8]) -> &'static str {
    let request = Request::Claim(Claim { key, note: &[7; 200], ..Claim::default() });
    let mut status = "";
    let ran = opened
        .store
        .run(&request, wall_ms(), None, &mut Scratch::default(), |reply| status = reply.status())
        .expect("well-formed");
    let Ran::Replied(release) = ran else { panic!("nobody parks here") };
    opened.log.flush(&release).expect("a good disk");
    status
}

fn grants(opened: &Opened) -> bool {
    claimed(opened, b"probe") != "UNAVAILABLE"
}

/// Claims `k:0`, `k:1`, …, each durably in the kernel before the next.
pub(crate) fn fill(opened: &Opened, keys: std::ops::Range<u32>) {
    for number in keys {
        let key = format!("k:{number}");
        loop {
            // The keeper's work.
            opened.log.make_room().expect("a good disk");
            match claimed(opened, key.as_bytes()) {
                "UNAVAILABLE" => continue,
                status => break assert_eq!(status, "GRANTED"),
            }
        }
    }
}

/// Whether `k:number` is known.
pub(crate) fn knows(opened: &Opened, number: u32) -> bool {
    opened.store.inspect(format!("k:{number}").as_bytes()).is_some()
}
