//! The bounds of the client commands.

use std::time::Duration;

/// How long a client command waits for a reply, beyond what the command itself is told to wait.
pub const REPLY_WAIT_DEFAULT: Duration = Duration::from_secs(10);

/// Longest duration an option takes, in milliseconds: the longest retention there is (S8) is 90 days.
pub const DURATION_MS_MAX: u64 = 366 * 86_400_000;

/// Entries `scan` and `conflicts` ask for at once.
pub const PAGE_ENTRIES: usize = 500;

/// Requests one `scan` or `conflicts` may make. A page may be empty where a prefix is rare.
pub const PAGES_MAX: usize = 1_000_000;

/// Entries `scan` and `conflicts` show unless told otherwise; they are held in memory to align the table.
pub const ENTRIES_DEFAULT: usize = 1_000;

/// Entries they show at most.
pub const ENTRIES_MAX: usize = 1_000_000;

/// Bytes of an outcome or a note that the human output shows; `--json` and `--outcome-only` show all.
pub const SHOWN_BYTES_MAX: usize = 512;

/// Characters of one cell of a table.
pub const CELL_CHARS_MAX: usize = 64;

/// Losers that one request of `conflicts --follow` asks for.
pub const FOLLOW_COUNT: usize = 100;

/// How long the daemon lets such a request wait for one.
pub const FOLLOW_WAIT: Duration = Duration::from_secs(30);

/// How long it sleeps before it looks for a daemon that has gone.
pub const FOLLOW_AGAIN: Duration = Duration::from_millis(200);
