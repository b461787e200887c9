//! Every bound of the simulator, by name and with its unit.

/// Virtual time that a healed cluster of near regions may take to converge, microseconds (INV-17).
pub const CONVERGENCE_US_MAX: u64 = 30_000_000;
/// One-way trips between far regions that come on top: two hellos, being told to be behind, a comparison of everything,
/// and as much again to bring it on to a third region.
pub const CONVERGENCE_TRIPS: u64 = 16;
/// How often convergence is looked for after the healing, virtual microseconds.
pub const CONVERGENCE_LOOK_US: u64 = 100_000;
/// The same where that time is to be measured.
pub const CONVERGENCE_LOOK_CLOSE_US: u64 = 2_000;
/// Events that one run may have; beyond it something feeds itself (INV-17).
pub const EVENTS_MAX: u64 = 3_000_000;
/// In a long run so many a virtual second, at least [`EVENTS_MAX`].
pub const EVENTS_PER_S_MAX: u64 = 50_000;
/// How long a client waits for a reply, virtual microseconds.
pub const PATIENCE_US: u64 = 250_000;
/// Written bytes are synced within this, virtual microseconds (S6 `interval`).
pub const SYNC_INTERVAL_US: u64 = 50_000;
/// How often time passes for a region: pings, comparisons, what is dead, as daemons have it; virtual microseconds.
pub const TICK_US: u64 = 250_000;
/// A session whose direction passes nothing is noticed to be dead after about this, microseconds.
pub const IDLE_TIMEOUT_US: u64 = 300_000;
/// A broken session is tried again after about this, microseconds.
pub const RECONNECT_US: u64 = 60_000;
/// Frames of ended sessions that are kept for replaying, a direction.
pub const REPLAY_FRAMES_MAX: usize = 16;
/// Every so many events the sums that a region keeps are compared with its map (INV-13). They are kept by adding and taking
/// away, so what is wrong once stays wrong until somebody looks.
pub const DIGEST_EVERY: u64 = 128;
/// Runs up to this long compare what is old enough every half second, or they would hardly compare at all; longer ones as
/// seldom as daemons do, virtual microseconds.
pub const COMPARES_OFTEN_US_MAX: u64 = 600_000_000;
/// Copies of real entries kept for the join laws, a key.
pub const COPIES_MAX: usize = 8;
/// Every so many seeds a swarm runs a seed twice and compares the traces (INV-18), unless told otherwise.
pub const TWICE_EVERY: u64 = 20;
/// Seeds within which every planted bug must be caught.
pub const CANARY_SEEDS_MAX: u64 = 2_000;
/// Runs that shrinking one failure may take: seconds.
pub const SHRINK_RUNS_MAX: u64 = 3_000;
/// For so long after a start peers that were not reached are waited for, virtual microseconds (S7).
pub const REACH_WAIT_US: u64 = 500_000;
/// Events of the orders that an exhaustive search looks at, unless told otherwise.
pub const EXHAUSTIVE_EVENTS: usize = 8;
/// States that it remembers at most, likewise.
pub const EXHAUSTIVE_STATES: u64 = 10_000_000;
/// Real time that it may take, likewise, seconds.
pub const EXHAUSTIVE_SECONDS: u64 = 3_600;
/// Threads a swarm may use.
pub const JOBS_MAX: usize = 256;
/// Seeds that missed an expectation and are named.
pub const SEEDS_NAMED_MAX: usize = 20;
/// Failing seeds that a swarm describes in full.
pub const FAILURES_SHOWN_MAX: usize = 3;
/// What a disk writes as one, in bytes; a power loss can still tear it.
pub const SECTOR_BYTES: usize = 512;
/// A stall ends at most so long after the healing, virtual microseconds.
pub const STALL_AFTER_US_MAX: u64 = 6_000_000;
/// A sync that takes so long has stalled, virtual microseconds.
pub const STALL_US: u64 = 1_000_000;
/// A reload that would leave a peer behind is tried again after this, virtual microseconds.
pub const RELOAD_AGAIN_US: u64 = 150_000;
/// A region that lost its disk is down for so long at least: an incarnation is numbered by the second of its birth,
/// virtual microseconds.
pub const REBIRTH_US: u64 = 1_100_000;
/// Longest one-way delay that may be asked for, milliseconds: agreement is waited for 30 s only.
pub const DELAY_MS_MAX: u64 = 2_000;
/// Steps of an explanation that are shown whole.
pub const STORY_STEPS_FEW: usize = 12;
/// Steps of an explanation at most, beside the faults around them.
pub const STORY_STEPS_MAX: usize = 60;
/// Faults shown around them at most.
pub const STORY_AROUND_MAX: usize = 30;
/// A violation that is about no key is explained by what befell its regions in this time before, virtual microseconds.
pub const STORY_RECENT_US: u64 = 3_000_000;
/// A run's report as JSON, bytes at most; what is far from what matters is left out.
pub const REPORT_BYTES_MAX: usize = 1_700_000;
/// Moments in it at most: more cannot be drawn quickly.
pub const REPORT_MOMENTS_MAX: usize = 12_000;
/// Changes of holders in it at most.
pub const REPORT_HOLDERS_MAX: usize = 6_000;
/// Cuts in it at most, and links in sets of them.
pub const REPORT_CUTS_MAX: usize = 12_000;
/// Slots of time, over all regions, in which it counts what happened.
pub const REPORT_SLOTS_MAX: usize = 12_000;
/// Longest time that a scenario file may name, microseconds: a year.
pub const FILE_US_MAX: u64 = 365 * 86_400 * 1_000_000;
/// Longest run that it may ask for, microseconds.
pub const FILE_DURATION_US_MAX: u64 = 7 * 86_400 * 1_000_000;
/// Bytes of a scenario file.
pub const FILE_BYTES_MAX: u64 = 16 << 20;
/// Keys of a scenario: each is compared between all regions again and again.
pub const FILE_KEYS_MAX: u64 = 4_096;
/// Jobs of a scenario, about.
pub const FILE_JOBS_MAX: u64 = 2_000_000;
/// Reserve of a disk in a scenario, bytes: it is written in full at every start.
pub const FILE_RESERVE_BYTES_MAX: u64 = 64 << 20;
/// Longest typical sync of a scenario, microseconds.
pub const FILE_SYNC_US_MAX: u64 = 1_000_000;
/// Services of a scenario.
pub const FILE_SERVICES_MAX: u64 = 10_000;
/// Jobs of a scenario in 1,000 seconds: 10,000 a second.
pub const FILE_RATE_PER_KS_MAX: u64 = 10_000_000;
/// A clock is too fast or too slow by at most so many millionths: ten times what a bad quartz is.
pub const DRIFT_PPM_MAX: u64 = 1_000;
/// A clock may be wrong by at most so many times `max_drift`: as far as [`crate::clock::Step::Beyond`] goes.
pub const SKEW_TIMES_MAX: u64 = 5;
/// Runs of real processes that are asked for at once; each takes as long as its scenario.
pub const REAL_RUNS_MAX: u64 = 1_000;
/// Bytes that may be unacknowledged on one direction of a session.
pub const WINDOW_BYTES_MAX: u64 = 32 << 20;
/// The daemon's, microseconds (`daemon::peer::limits`): a link without a packet for so long is dialled anew beside it.
pub const SILENT_LINK_US: u64 = 2_000_000;
/// Between two looks whether it is: a quarter of a second, and a timer's grain.
pub const SILENT_LOOK_US: u64 = 251_000;
/// A dial is given up after this long.
pub const DIAL_US_MAX: u64 = 4_000_000;
/// When the first packet of a dial is sent, and again where nothing answers; QUIC's, which guesses a round trip of 333 ms.
pub const INITIALS_US: [u64; 3] = [0, 1_000_000, 3_000_000];
/// First and longest pause before the next dial.
pub const REDIAL_US_MIN: u64 = 50_000;
/// See [`REDIAL_US_MIN`].
pub const REDIAL_US_MAX: u64 = 2_000_000;
/// A link that lived so long was a good one: the next pause is the shortest.
pub const LINK_PROVED_US: u64 = 3_000_000;
/// Whoever has heard nothing for so long gives the connection up.
pub const QUIC_IDLE_US: u64 = 15_000_000;
/// Peers ping so often, and regions look twice as often whether it is time.
pub const PING_US: u64 = 500_000;
/// By then regions that start together have met; real ones have before a run begins.
pub const WARM_UP_US: u64 = 5_000_000;
