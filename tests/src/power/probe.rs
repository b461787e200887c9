//! How long this machine lets a sync wait, whoever asks for it: cores and disk are shared with whatever else runs here.
//!
//! onced promises that a sync *begins* within its interval; how long it takes is the disk's. On a busy machine a judge that
//! does not know this finds a fault where there is none: an acknowledgement was once 436 ms old, beside three compilers.
//!
//! Must never: keep a disk in use; it ends with the power, or when it is told to.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(5);

/// Writes a byte and syncs it, again and again.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Probe {
    /// Begins on the disk that holds `folder`.
    ///
    /// # Panics
    /// The file cannot be made.
    pub fn start(folder: &Path) -> Self {
        let mut file = File::create(folder.join("probe")).expect("a file can be made on the disk");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut worst = Duration::ZERO;
            while !stopped.load(Ordering::Acquire) {
                let began = Instant::now();
                std::thread::sleep(PAUSE);
                if file.write_all(b".").and_then(|()| file.sync_data()).is_err() {
                    break;
                }
                worst = worst.max(began.elapsed().saturating_sub(PAUSE));
            }
            worst.as_micros() as u64
        });
        Self { stop, thread }
    }

    /// The longest that a sync took, its wait for a core included, in microseconds.
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("it does not panic")
    }
}
