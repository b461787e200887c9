//! How much of a core healing may take: whoever asks this region now must not wait for what another one missed.
//!
//! Healing is what fills frames: a backlog that is merged or fed, a comparison that finds much. It
//! is done in small pieces, a frame each. The driver says what each piece took, and is told how long to rest before the next, so that
//! healing keeps to a share of its thread. The share follows how punctually the rests end: a thread that wakes late has
//! waited for a core, and so have the threads that answer clients. It is taken back quickly and given slowly. Nobody
//! sets it: on a machine with a free core healing takes nearly a whole one, on a busy one a third, and on one of two or
//! three cores never much more than half of one.
//!
//! Resting holds back the peer by itself: what is not merged is not acknowledged, and its window is bounded.
//!
//! Rejected: entries a second (another number for every machine), a lower priority of the thread alone (it has one, and
//! still holds a core to the end of a piece), the waits of clients as the signal (there may be none when a region comes back, and the first
//! ones would pay for finding out).
//!
//! Must never: rest for a frame of the steady state, or let healing starve.

use crate::limits;

/// See the module's text. Without a clock: the driver measures.
#[derive(Debug)]
pub struct Pacing {
    share_percent: u64,
    share_percent_max: u64,
    /// The last frame was healing's.
    heals: bool,
    /// Rest that is owed and too short to be taken alone, in microseconds.
    owed_us: u64,
}

impl Default for Pacing {
    fn default() -> Self {
        let share_percent_max = limits::HEAL_SHARE_PERCENT_MAX;
        Self { share_percent: limits::HEAL_SHARE_PERCENT_START, share_percent_max, heals: false, owed_us: 0 }
    }
}

impl Pacing {
    /// For a machine with so many cores.
    pub fn on_cores(cores: usize) -> Self {
        let few = cores <= limits::HEAL_CORES_FEW;
        let share_percent_max =
            if few { limits::HEAL_SHARE_FEW_CORES_PERCENT_MAX } else { limits::HEAL_SHARE_PERCENT_MAX };
        Self { share_percent_max, ..Self::default() }
    }

    /// A frame was taken in or made. It is healing's if it was closed because it was full; and if it is of a log,
    /// `left` records of it follow, and those are many.
    pub(super) fn frame(&mut self, frame_bytes: usize, left: Option<u64>) {
        let is_full = frame_bytes >= limits::HEAL_FRAME_BYTES;
        self.heals = is_full && left.is_none_or(|left| left >= limits::HEAL_BACKLOG_RECORDS);
    }

    /// It took so long: how long to rest now, in microseconds; 0: not at all.
    pub fn worked(&mut self, took_us: u64) -> u64 {
        if !self.heals {
            return 0;
        }
        self.owed_us += took_us * (100 - self.share_percent) / self.share_percent;
        if self.owed_us < limits::HEAL_REST_US_MIN {
            return 0;
        }
        std::mem::take(&mut self.owed_us).min(limits::HEAL_REST_US_MAX)
    }

    /// A rest of `asked_us` was over after `took_us`.
    pub fn rested(&mut self, asked_us: u64, took_us: u64) {
        let late = took_us > asked_us + limits::HEAL_LATE_US;
        let share = if late { self.share_percent * 7 / 8 } else { self.share_percent + 1 };
        self.share_percent = share.clamp(limits::HEAL_SHARE_PERCENT_MIN, self.share_percent_max);
    }

    /// The part of its thread that healing may take now, in percent.
    pub fn share_percent(&self) -> u64 {
        self.share_percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = limits::FRAME_BYTES_TARGET;

    /// Heals for a second on a machine where a rest ends so late; what part of the time was work, in percent.
    fn heal(pacing: &mut Pacing, late_us: u64) -> u64 {
        pacing.frame(FULL, None);
        let (mut worked_us, mut rested_us) = (0, 0);
        while worked_us + rested_us < 1_000_000 {
            worked_us += 400;
            let rest_us = pacing.worked(400);
            assert!(rest_us <= limits::HEAL_REST_US_MAX);
            if rest_us > 0 {
                rested_us += rest_us;
                pacing.rested(rest_us, rest_us + late_us);
            }
        }
        worked_us * 100 / (worked_us + rested_us)
    }

    /// A region that came back took the core for itself: local p99 rose to ten times what it was.
    #[test]
    fn healing_yields_where_others_wait_for_a_core_and_never_starves() {
        let mut pacing = Pacing::default();
        let busy = heal(&mut pacing, 1_000);
        assert!((limits::HEAL_SHARE_PERCENT_MIN..40).contains(&busy), "{busy} % of a busy core");
        assert_eq!(pacing.share_percent(), limits::HEAL_SHARE_PERCENT_MIN, "the floor");
        heal(&mut pacing, 0);
        let free = heal(&mut pacing, 0);
        assert!(free >= limits::HEAL_SHARE_PERCENT_MAX - 2, "{free} % of a free core");
        let mut pacing = Pacing::on_cores(2);
        let of_few = heal(&mut pacing, 0);
        assert!(of_few <= limits::HEAL_SHARE_FEW_CORES_PERCENT_MAX, "{of_few} % of one of two cores");
    }

    #[test]
    fn the_steady_state_never_rests() {
        let mut pacing = Pacing::default();
        for _ in 0..1_000 {
            // A batch of a client, in several frames.
            for (frame_bytes, left) in
                [(FULL, Some(200)), (FULL, Some(100)), (FULL - 1, Some(0)), (FULL - 1, None)]
            {
                pacing.frame(frame_bytes, left);
                assert_eq!(pacing.worked(5_000), 0);
            }
        }
        pacing.frame(FULL, Some(limits::HEAL_BACKLOG_RECORDS));
        assert!(pacing.worked(5_000) > 0, "a backlog");
        pacing.frame(FULL, None);
        assert!(pacing.worked(5_000) > 0, "what a comparison found");
    }

    #[test]
    fn a_long_piece_rests_for_no_longer_than_the_bound() {
        let mut pacing = Pacing::default();
        pacing.frame(FULL, None);
        assert_eq!(pacing.worked(60_000_000), limits::HEAL_REST_US_MAX);
        assert_eq!(pacing.worked(1), 0, "what was owed beyond it is forgiven");
    }
}
