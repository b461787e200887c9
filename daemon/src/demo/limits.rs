//! Bounds of the demo, by name and unit. It must end within a minute, come what may.

use std::time::Duration;

/// The whole story; whatever is not shown by then has failed.
pub const STORY_MAX: Duration = Duration::from_secs(55);
/// A daemon has this long to start and be ready.
pub const READY_MAX: Duration = Duration::from_secs(15);
/// Regions have this long to agree after a partition or a crash.
pub const AGREE_MAX: Duration = Duration::from_secs(10);
/// What one region knows, the others know within this time (issue: "within a second").
pub const SEEN_MAX: Duration = Duration::from_secs(1);
/// A reply has this long.
pub const REPLY_MAX: Duration = Duration::from_secs(5);
/// An orderly stop has this long; the daemon itself drains for at most 5 s.
pub const STOP_MAX: Duration = Duration::from_secs(10);
/// Between two looks at a condition that costs a call.
pub const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Between two looks at a process.
pub const PROCESS_LOOK_EVERY: Duration = Duration::from_millis(5);
/// A duplicate is shown to be parked when it has got no answer for this long.
pub const PARKED_FOR: Duration = Duration::from_millis(100);

/// Claims whose latency is taken one by one.
pub const LOCAL_CLAIMS: usize = 4_000;
/// Claims whose way to the other regions is timed.
pub const CROSSING_CLAIMS: usize = 40;
/// Operations that must be acknowledged before the crash.
pub const CRASH_OPERATIONS_MIN: usize = 3_000;
/// Operations the crash's writer does at most.
pub const CRASH_OPERATIONS_MAX: usize = 500_000;
/// Claims the other regions take while one is down.
pub const CLAIMS_WHILE_DOWN: usize = 500;
/// Claims in flight when SIGTERM arrives.
pub const CLAIMS_IN_FLIGHT: usize = 2_000;
/// Lines of a daemon's log that are shown when it does not start.
pub const LOG_LINES_SHOWN: usize = 8;
