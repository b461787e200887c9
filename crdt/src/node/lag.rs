//! How long ago what a peer lacks was written: the log's tip as it was at some moments, looked up by what the peer has
//! acknowledged.
//!
//! Bounded however long the peer is away: when there is no room for another moment, the newest wait their turn.

use std::collections::VecDeque;

use crate::ids::Lsn;
use crate::limits;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// Tips and when they were reached, Unix milliseconds, oldest first.
    moments: VecDeque<(Lsn, u64)>,
    /// When all that is acknowledged had been written, at the latest.
    level_ms: u64,
    now_ms: u64,
}

impl Lag {
    /// The log has come so far by now; the peer holds all up to `acked`.
    pub(super) fn note(&mut self, tip: Lsn, acked: Lsn, wall_ms: u64) {
        self.now_ms = wall_ms;
        while let Some((lsn, at_ms)) = self.moments.front().copied()
            && lsn <= acked
        {
            self.level_ms = at_ms;
            self.moments.pop_front();
        }
        if acked >= tip {
            self.level_ms = wall_ms;
        } else if self.moments.len() < limits::LAG_MOMENTS_MAX
            && self.moments.back().is_none_or(|(lsn, _)| *lsn < tip)
        {
            self.moments.push_back((tip, wall_ms));
        }
    }

    /// The age of the oldest record behind `acked` at the last note, in milliseconds.
    pub(super) fn ms(&self, acked: Lsn) -> u64 {
        let level = self.moments.iter().take_while(|(lsn, _)| *lsn <= acked).last();
        let level_ms = level.map_or(self.level_ms, |(_, at_ms)| *at_ms);
        // Nothing was level since the start: the first moment is as far back as we know.
        let first_ms = self.moments.front().map_or(self.now_ms, |(_, at_ms)| *at_ms);
        self.now_ms.saturating_sub(if level_ms == 0 { first_ms } else { level_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_the_peer_is_away_and_ends_when_it_is_level() {
        let mut lag = Lag::default();
        lag.note(10, 10, 1_000);
        assert_eq!(lag.ms(10), 0);
        for step in 1..=1_000 {
            lag.note(10 + step, 10, 1_000 + 500 * step);
        }
        assert_eq!(lag.ms(10), 500_000);
        assert!(lag.moments.len() <= limits::LAG_MOMENTS_MAX);
        // It takes in what was written 100 steps later.
        lag.note(1_010, 110, 501_000);
        assert_eq!(lag.ms(110), 500_000 - 100 * 500);
        lag.note(1_010, 1_010, 502_000);
        assert_eq!(lag.ms(1_010), 0);
    }

    #[test]
    fn before_the_peer_was_ever_level_it_counts_from_the_start() {
        let mut lag = Lag::default();
        lag.note(500, 0, 7_000);
        lag.note(600, 0, 9_000);
        assert_eq!(lag.ms(0), 2_000);
    }
}
