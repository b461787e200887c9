//! Waiting for what can be seen, never for time to pass.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives it up: far above what it takes, so that a slow machine is no
/// failure.
pub const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits until `condition` holds; what it took.
///
/// # Panics
/// It does not hold within [`LIMIT`]; `what` is said then.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
    began.elapsed()
}
