//! What is said of strangers who are refused: counted each time, said in the log as often as a person can read it.
//!
//! Anybody who reaches the UDP port can cause a refusal, so that a line each would let strangers fill the disk.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::limits::{REFUSAL_SAID_EVERY, REFUSALS_SAID_AT_ONCE};

/// How many lines may still be said, as of when, and how many were not.
#[derive(Debug)]
struct Budget {
    left: u32,
    since: Option<Instant>,
    unsaid: u64,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Refusals {
    budget: Mutex<Budget>,
}

impl Refusals {
    /// With all lines still to be said.
    pub(super) const fn new() -> Self {
        Self { budget: Mutex::new(Budget { left: REFUSALS_SAID_AT_ONCE, since: None, unsaid: 0 }) }
    }

    /// Whether one more may be said at `now`; if so, how many were not said before it.
    pub(super) fn may_say(&self, now: Instant) -> Option<u64> {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *budget.since.get_or_insert(now);
        let earned = now.duration_since(since).as_secs() / REFUSAL_SAID_EVERY.as_secs();
        if earned > 0 {
            budget.since = Some(now);
            budget.left = REFUSALS_SAID_AT_ONCE.min(budget.left.saturating_add(earned as u32));
        }
        if budget.left == 0 {
            budget.unsaid += 1;
            return None;
        }
        budget.left -= 1;
        Some(std::mem::take(&mut budget.unsaid))
    }
}

/// Counts a refused stranger, and says so if it may.
pub(super) fn refused(reason: &'static str, said: &dyn std::fmt::Display) {
    static SAID: Refusals = Refusals::new();
    metrics::counter!("onced_strangers_refused_total", "reason" => reason).increment(1);
    if let Some(unsaid) = SAID.may_say(Instant::now()) {
        tracing::warn!(unsaid, "a connection from outside is refused: {said}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Whoever offered another ALPN wrote one line into the log with each packet.
    #[test]
    fn a_flood_of_refusals_is_a_few_lines_and_a_number() {
        let (refusals, began) = (Refusals::new(), Instant::now());
        let said =
            (0..100_000).filter(|n| refusals.may_say(began + Duration::from_micros(*n)).is_some()).count();
        assert_eq!(said, REFUSALS_SAID_AT_ONCE as usize);
        let later = began + REFUSAL_SAID_EVERY + Duration::from_secs(1);
        assert_eq!(refusals.may_say(later), Some(100_000 - u64::from(REFUSALS_SAID_AT_ONCE)));
        assert_eq!(refusals.may_say(later), None, "one at a time");
        let calm = later + 1_000 * REFUSAL_SAID_EVERY;
        assert_eq!(
            (0..100).filter(|_| refusals.may_say(calm).is_some()).count(),
            REFUSALS_SAID_AT_ONCE as usize
        );
    }
}
