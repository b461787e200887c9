//! Every bound of the deciding half of onced, by name and with its unit.
//!
//! A queue, frame, loop or batch without a name here is a bug: an unbounded thing is a crash that
//! has not happened yet (INV-14). Bounds that face users are part of the wire and disk formats:
//! raising one is compatible, lowering one is not.

/// Longest key, in bytes (S1). Shortest is 1.
pub const KEY_BYTES_MAX: usize = 512;
/// Longest claimant id, in bytes (S1).
pub const CLAIMANT_BYTES_MAX: usize = 64;
/// Longest note a claim may carry, in bytes.
pub const NOTE_BYTES_MAX: usize = 4 * 1024;
/// Largest outcome any policy may allow, in bytes; the default policy allows [`OUTCOME_BYTES_DEFAULT`].
pub const OUTCOME_BYTES_MAX: usize = 1024 * 1024;
/// Outcome bytes allowed when the policy says nothing (S8).
pub const OUTCOME_BYTES_DEFAULT: usize = 64 * 1024;
/// Outcomes of one key that a COMPLETE adds to (S3). Further losers are listed as conflicts without their
/// bytes.
pub const OUTCOMES_MAX: usize = 8;
/// Outcomes of one key that a join keeps: regions that each added up to [`OUTCOMES_MAX`] while they were
/// cut off hold more when they meet. A smaller bound here would make the join depend on its order.
pub const OUTCOMES_JOINED_MAX: usize = 64;
/// Attempts one entry may hold: one a region and incarnation. Beyond it a frame is refused.
pub const ATTEMPTS_MAX: usize = 64;

/// Default bound between any two regions' wall clocks, in milliseconds (S2).
pub const MAX_DRIFT_MS_DEFAULT: u64 = 500;
/// Longest retention, in milliseconds: 90 days (S8).
pub const RETENTION_MS_MAX: u64 = 90 * 24 * 3600 * 1000;
/// Shortest retention, in milliseconds (S8).
pub const RETENTION_MS_MIN: u64 = 1000;
/// How long a FORGET is remembered beyond its stamp, in milliseconds, `max_drift` to be added (S3).
pub const FORGOTTEN_KEPT_MS: u64 = RETENTION_MS_MAX;
/// How long a loser stays listed unless the policy says otherwise, in milliseconds (S3).
pub const CONFLICT_RETENTION_MS_DEFAULT: u64 = 7 * 24 * 3600 * 1000;
/// Longest time a duplicate may park on a key, in milliseconds.
pub const WAIT_MS_MAX: u64 = 60 * 60 * 1000;
/// Duplicates parked in the whole store at once; further ones are answered IN_PROGRESS at once.
pub const WAITERS_MAX: usize = 65_536;

/// How far ahead of the clock its durable ceiling is placed, in milliseconds (S2).
pub const CEILING_AHEAD_MS: u64 = 3_000;
/// How far it is placed ahead of a clock that runs ahead of time itself, as after a power loss, in milliseconds; each has
/// room for 65,536 stamps. Were it [`CEILING_AHEAD_MS`], losses in quick succession would add up.
pub const CEILING_LED_MS: u64 = 100;
/// The ceiling is renewed once less than this is left of it, in milliseconds.
pub const CEILING_RENEW_BELOW_MS: u64 = 2_000;

/// A wall clock this far beyond the ceiling has jumped, or the machine slept, in milliseconds.
pub const CLOCK_JUMP_MS: u64 = 3_000;
/// A jump is believed when it has lasted so long and no majority of peers contradicts, in milliseconds.
pub const CLOCK_JUMP_SETTLE_MS: u64 = 2_000;

/// Log bytes that may wait for their `write`; beyond it claims answer UNAVAILABLE `log_behind`.
pub const TAIL_PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of written log kept in memory for peers; a peer further behind reads from disk.
pub const RING_BYTES_DEFAULT: usize = 32 * 1024 * 1024;
/// Smallest ring that can be asked for, in bytes.
pub const RING_BYTES_MIN: usize = 4 * 1024;
/// A log record of up to so many bytes, framed, is small: so much of a segment is written off at most where the
/// next small record does not fit.
pub const LOG_RECORD_SMALL_BYTES: u64 = 64 * 1024;
/// The last room of a full disk, in bytes: kept for the clock's ceilings, cursors and conflicts, whose number is not
/// known beforehand. Ceilings alone need about 40 bytes a second.
pub const LOG_ROOM_LAST_BYTES: u64 = 256 * 1024;
/// What is set aside for one record beside its key and payload, in bytes: its framing, ids, stamps, and the listing
/// of a double execution.
pub const LOG_RECORD_OVERHEAD_BYTES: u64 = 1024;
/// One log record's body, in bytes: the largest entry (all outcomes at their bound) fits.
pub const RECORD_BYTES_MAX: usize = 10 * 1024 * 1024;

/// One key's whole state in a run, in bytes: all attempts and outcomes at their bounds.
pub const STATE_BYTES_MAX: usize = (OUTCOMES_JOINED_MAX + 1) * (OUTCOME_BYTES_MAX + 8 * 1024);
/// Within this time every shard is swept, in milliseconds: the drivers see to that.
pub const SWEEP_PASS_MS_MAX: u64 = 60_000;
/// Runs in one manifest.
pub const RUNS_MAX: usize = 65_536;
/// A run below this size is merged with others of its class, in bytes.
pub const RUN_SMALL_BYTES: u64 = 8 * 1024 * 1024;
/// So many small runs of one class become one.
pub const RUNS_MERGED_AT_ONCE: usize = 16;

/// Sums over parts are kept a second apart for so long behind the newest, in seconds: the cut-off of a comparison must
/// lie within.
pub const DIGEST_YOUNG_S: u64 = 60;
/// Regions compare what is older than this, in milliseconds: what is younger may be under way. A log that lags more is
/// waited for instead.
pub const COMPARE_AGE_MS: u64 = 5_000;
/// Parts that expire within this time are not compared, in milliseconds: they die here and there at different moments.
pub const COMPARE_ALIVE_MS: u64 = 10_000;
/// Between two comparisons with one peer, in milliseconds.
pub const COMPARE_EVERY_MS: u64 = 5_000;
/// After one that found differences, in milliseconds.
pub const COMPARE_AGAIN_MS: u64 = 1_000;
/// A comparison in which nothing was heard for so long is given up, in milliseconds.
pub const COMPARE_PATIENCE_MS: u64 = 15_000;
/// Records of the log that may be on their way to a peer while it is compared with.
pub const COMPARE_LAG_RECORDS_MAX: u64 = 4_096;
/// Buckets that one comparison tells; those that die first.
pub const COMPARE_BUCKETS_MAX: usize = 8_192;
/// Buckets in one answer.
pub const COMPARE_BUCKETS_A_FRAME: usize = 16;
/// A shard is divided into at most 2^this ranges.
pub const COMPARE_BITS_MAX: u32 = 12;
/// Shards that are being narrowed with one peer at once.
pub const COMPARE_WINDOW: usize = 64;
/// Cells, of one bucket and shard, that one comparison goes into; the next finds the others.
pub const COMPARE_CELLS_MAX: usize = 65_536;
/// Questions of one peer that wait for their answers; more end its link.
pub const COMPARE_JOBS_MAX: usize = 4 * COMPARE_WINDOW;
/// Bytes of such questions; more end its link. A window of questions about 10,000,000 keys takes less than a tenth.
pub const COMPARE_JOBS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// While one peer's log catches up, other peers are not compared with for at most this long, in milliseconds: most of what
/// they hold and we lack is on its way.
pub const COMPARE_AFTER_CATCH_UP_MS: u64 = 120_000;
/// A log that has brought nothing for so long is not catching up, in milliseconds.
pub const CATCH_UP_SILENT_MS: u64 = 2_000;
/// Hellos that one link may bring: one, and one more after each change of life that it learns of.
pub const HELLOS_A_LINK_MAX: u64 = 16;
/// A peer that holds no more keys than this is compared with at once by whoever is behind its log.
pub const FEED_SMALL_KEYS: u64 = 4_096;
/// So long the round trips to all peers are waited for, to ask the nearest first, in milliseconds.
pub const FEED_CHOOSE_MS: u64 = 1_000;
/// The nearest peer is asked alone for at most so long, in milliseconds.
pub const FEED_ALONE_MS_MAX: u64 = 120_000;
/// After one peer has fed us, we lack little of what the others hold for so long, in milliseconds.
pub const FEED_FRESH_MS: u64 = 600_000;
/// Largest frame between peers, in bytes, its header included.
pub const FRAME_BYTES_MAX: usize = RECORD_BYTES_MAX + 64 * 1024;
/// A record told briefly in a frame is rebuilt from at most so many bytes less, so a frame's records take no more than
/// [`FRAME_BYTES_MAX`] and [`FRAME_RECORDS_MAX`] times this.
pub const BRIEF_SAVES_BYTES_MAX: usize = 64;
/// A frame of records is closed once it holds this many bytes: some 30 entries, which are merged within a tenth of a
/// millisecond. A larger one holds the thread, and a core that a client may be waiting for, longer: at four times this,
/// local p99 while healing was half as much again.
pub const FRAME_BYTES_TARGET: usize = 8 * 1024;
/// A frame of so many bytes was closed because it was full.
pub const HEAL_FRAME_BYTES: usize = FRAME_BYTES_TARGET;
/// A full frame of a log of which so many records follow is healing's. The batches of clients are smaller: rests between
/// those would be seen in how late peers see them.
pub const HEAL_BACKLOG_RECORDS: u64 = 2_048;
/// The least share of its thread that healing is left with, in percent: it never starves.
pub const HEAL_SHARE_PERCENT_MIN: u64 = 30;
/// The greatest share, in percent: some rest is needed to see whether others wait.
pub const HEAL_SHARE_PERCENT_MAX: u64 = 90;
/// The greatest share where there are few cores, in percent: there whoever answers a client meets healing on its core
/// although neither is ever late.
pub const HEAL_SHARE_FEW_CORES_PERCENT_MAX: u64 = 55;
/// So many cores are few.
pub const HEAL_CORES_FEW: usize = 3;
/// The share that healing begins with, in percent.
pub const HEAL_SHARE_PERCENT_START: u64 = 40;
/// A rest that ends later by so much has waited for a core, in microseconds; the kernel's timers are late by 60.
pub const HEAL_LATE_US: u64 = 250;
/// Rests shorter than this are saved up, in microseconds.
pub const HEAL_REST_US_MIN: u64 = 100;
/// Longest rest, in microseconds: what other peers, pings and acknowledgements wait at most.
pub const HEAL_REST_US_MAX: u64 = 2_000;
/// Records in one frame.
pub const FRAME_RECORDS_MAX: usize = 8_192;
/// Bytes sent to one peer and not acknowledged yet; the sender pauses beyond it.
pub const PEER_WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Acknowledgements of one peer that wait for their durability; later frames join the last.
pub const PEER_ACKS_PENDING_MAX: usize = 64;
/// Frames ready to leave for one peer.
pub const PEER_OUTBOX_FRAMES_MAX: usize = 64;
/// Peers one region may have (regions less one).
pub const PEERS_MAX: usize = 63;
/// Moments of the log remembered a peer, to tell how long ago what it lacks was written.
pub const LAG_MOMENTS_MAX: usize = 256;
/// Pings between peers, in milliseconds.
pub const PING_EVERY_MS: u64 = 500;
/// Region and cluster names in a hello, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes read from a segment at once for a peer that is behind the ring.
pub const LOG_READ_BYTES: usize = 256 * 1024;
/// After a start, claims wait at most this long for reachable peers, in milliseconds (S7).
pub const CATCH_UP_WAIT_MS_DEFAULT: u64 = 10_000;

/// A round that has not reached a majority after so long is over, in milliseconds (S5).
pub const ROUND_MS_MAX: u64 = 2_000;
/// Peers that have not answered a round are asked again after so long, in milliseconds.
pub const ROUND_AGAIN_MS: u64 = 500;
/// Claims that met are told to come again within so many milliseconds more than usual.
pub const ROUND_JITTER_MS: u64 = 100;
/// Rounds under way at once; further requests at `quorum` are answered UNAVAILABLE.
pub const ROUNDS_MAX: usize = 16_384;
/// Answers to one peer's rounds that wait for their durability; it asks again for what is dropped.
pub const VOICES_MAX: usize = 16_384;

/// A request at `home` that the home has not answered after so long is answered without it, in milliseconds (S5).
pub const FORWARD_MS_MAX: u64 = 2_000;
/// Requests forwarded to one peer and not answered yet; further ones are answered as if it could not be asked.
pub const FORWARDS_A_PEER_MAX: usize = 4_096;
/// The same, to all peers together.
pub const FORWARDS_MAX: usize = 16_384;
/// Bytes of requests that wait to leave for one peer, and of answers to it that wait for their durability.
pub const FORWARDS_WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Requests given up whose claims, if they were granted, are still to be withdrawn; beyond it their leases end them.
pub const FORWARDS_GIVEN_UP_MAX: usize = 16_384;
/// One that is given up is remembered for so long, in milliseconds: its answer may still come.
pub const FORWARD_GIVEN_UP_MS: u64 = 60_000;
/// Claims granted for peers that may still be withdrawn; of more the oldest are not, and their leases end them.
pub const FORWARDS_UNHEARD_MAX: usize = 16_384;

/// Shards of the dedup map in a daemon; a power of two.
pub const SHARDS_DEFAULT: usize = 1024;
/// Keys one SCAN answers at most.
pub const SCAN_COUNT_MAX: usize = 1_000;
/// Conflicts one CONFLICTS answers at most.
pub const CONFLICTS_COUNT_MAX: usize = 1_000;
/// Conflicts kept in memory; beyond it the oldest-expiring are no longer added and a counter tells.
pub const CONFLICTS_MAX: usize = 1_000_000;
/// Losers that one look at the feed walks over at most; where more are of no interest, it is told so and goes on.
pub const FEED_WALK_MAX: usize = 10_000;
/// Consumers that wait for a loser at once; further ones are told so at once.
pub const FEED_WAITERS_MAX: usize = 256;
/// Log epochs whose first sequence is remembered; older cursors restart from the log's start.
pub const EPOCHS_MAX: usize = 4_096;

/// Namespaces that may have a quota of their own.
pub const QUOTAS_MAX: usize = 1_024;
/// The index is measured anew after at most so many new keys.
pub const MEASURE_KEYS_MAX: usize = 16_384;
/// Sparse pages that one sweep of a shard empties.
pub const COMPACT_PAGES_MAX: usize = 16;
/// A spare log buffer larger than this is given back, in bytes: one burst must not be held for ever.
pub const TAIL_SPARE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A bound is near from this part of it on, in percent.
pub const NEAR_PERCENT: usize = 80;
/// What was near is near no more below this part of its bound, in percent.
pub const NEAR_ENDS_PERCENT: usize = 75;
/// What was full is full no more below this part of its bound, in percent.
pub const FULL_ENDS_PERCENT: usize = 97;

/// Retry advice when nothing better is known, in milliseconds.
pub const RETRY_AFTER_MS_DEFAULT: u64 = 100;
/// Retry advice where keys must expire first, in milliseconds.
pub const RETRY_AFTER_FULL_MS: u64 = 1_000;
