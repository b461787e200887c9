//! A conflict as bytes, where it has more to say than it had when its first form was fixed.
//!
//! ```text
//! plain    = postcard of the conflict          without any flag: log records of kinds 3 and 4, states of runs
//! flagged  = flags:u8 plain                    with one at least: log records of kind 11, behind a zero in runs
//! flags    = 1 a majority holds the loser | 2 a majority holds the winner | 4 void | 8 merged from a peer
//! ```
//! What has no flag keeps its first form, byte for byte, so that an older onced reads it and sums it up alike. A plain
//! conflict begins with the length of its key, which is never zero.
//!
//! Must never: write a flagged form without a flag, or read one: every conflict has one form.

use serde::{Deserialize, Serialize};

use super::Conflict;
use crate::journal::postcard_onto;

const LOSER_MAJORITY: u8 = 1;
const WINNER_MAJORITY: u8 = 2;
const VOID: u8 = 4;
const MERGED: u8 = 8;

/// The flagged form.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredConflict {
    flags: u8,
    conflict: Conflict,
}

impl Conflict {
    /// What its plain form does not say; 0: nothing.
    pub(crate) fn flags(&self) -> u8 {
        let winner = self.winner.is_some_and(|winner| winner.majority);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        flag(self.loser.majority, LOSER_MAJORITY) | flag(winner, WINNER_MAJORITY) | flag(self.void, VOID)
    }
}

impl StoredConflict {
    pub(crate) fn new(conflict: Conflict, merged: bool) -> Self {
        Self { flags: conflict.flags() | if merged { MERGED } else { 0 }, conflict }
    }

    /// Whether a payload says that it was merged from a peer.
    pub(crate) fn is_merged(payload: &[u8]) -> bool {
        payload.first().is_some_and(|flags| flags & MERGED != 0)
    }

    /// The conflict, and whether it was merged; `None` unless these are the flags that [`Self::new`] gives it.
    pub(crate) fn open(self) -> Option<(Conflict, bool)> {
        let Self { flags, mut conflict } = self;
        conflict.loser.majority = flags & LOSER_MAJORITY != 0;
        if let Some(winner) = &mut conflict.winner {
            winner.majority = flags & WINNER_MAJORITY != 0;
        }
        conflict.void = flags & VOID != 0;
        (conflict.flags() == flags & !MERGED && conflict.flags() != 0)
            .then_some((conflict, flags & MERGED != 0))
    }
}

/// Appends `conflict` as a run holds it.
pub(crate) fn write_state(conflict: &Conflict, out: &mut Vec<u8>) {
    if conflict.flags() == 0 {
        postcard_onto(conflict, out);
    } else {
        out.push(0);
        postcard_onto(&StoredConflict::new(conflict.clone(), true), out);
    }
}

/// Reads what [`write_state`] wrote.
pub(crate) fn take_state(state: &[u8]) -> Option<Conflict> {
    let (conflict, rest) = match state.split_first()? {
        (0, flagged) => {
            let (stored, rest) = postcard::take_from_bytes::<StoredConflict>(flagged).ok()?;
            (stored.open()?.0, rest)
        }
        _ => postcard::take_from_bytes::<Conflict>(state).ok()?,
    };
    rest.is_empty().then_some(conflict)
}
