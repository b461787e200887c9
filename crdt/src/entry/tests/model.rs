//! S3 read the slow way: maps of registers, and rules as the page words them. Shares only the plain
//! values with the code under test.

use std::collections::BTreeMap;

use super::super::*;
use super::parts::Part;

/// An entry as S3 draws it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Model {
    attempts: BTreeMap<(RegionId, Incarnation), Attempt<'static>>,
    outcomes: BTreeMap<(ClaimId, RegionId, Incarnation), Outcome<'static>>,
    forgotten: Stamp,
}

/// What S3's winner rule says, by value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Settled { majority: bool, completed: Stamp, region: RegionId },
    Held(ClaimId),
    Free,
}

impl Model {
    /// All honest `parts`, in any order.
    pub fn of(parts: &[Part]) -> Self {
        let mut model = Self::default();
        for part in parts {
            part.attempts.iter().for_each(|a| model.attempt(a));
            for o in part.outcomes.iter() {
                let kept = model.outcomes.entry((o.claim, o.region, o.incarnation)).or_insert(*o);
                kept.majority |= o.majority;
                kept.compensated |= o.compensated;
            }
            model.forgotten = model.forgotten.max(part.forgotten);
        }
        model
    }

    fn attempt(&mut self, new: &Attempt<'static>) {
        let kept = self.attempts.entry((new.id.region, new.id.incarnation)).or_insert(*new);
        if kept.id.stamp < new.id.stamp {
            *kept = *new;
        } else if kept.id.stamp == new.id.stamp {
            kept.phase = kept.phase.max(new.phase);
            kept.lease_until = kept.lease_until.max(new.lease_until);
            kept.abandoned_lease = kept.abandoned_lease.max(new.abandoned_lease);
        }
    }

    /// Whether `entry` holds exactly these registers, in the order that a join relies on; of the
    /// outcomes those that can still count.
    pub fn is(&self, entry: &Entry<'static>) -> bool {
        let dropped = self.dropped();
        let counting = self.outcomes.values().filter(|o| !dropped(o.claim, o.expires_at));
        self.attempts.values().eq(entry.attempts.iter())
            && counting.eq(entry.outcomes.iter())
            && self.forgotten == entry.forgotten
    }

    /// S3 Winner, 1: what is void or superseded.
    fn dropped(&self) -> impl Fn(ClaimId, u64) -> bool {
        let claims: Vec<ClaimId> =
            self.attempts.values().map(|a| a.id).chain(self.outcomes.values().map(|o| o.claim)).collect();
        move |claim, expires_at| {
            let void = claim.stamp <= self.forgotten;
            let superseded = claims.iter().any(|some| some.stamp.ms() >= expires_at);
            void || superseded
        }
    }

    /// S3 Winner, 1 to 4.
    pub fn winner(&self) -> Verdict {
        let dropped = self.dropped();
        let mut outcomes: Vec<_> =
            self.outcomes.values().filter(|o| !dropped(o.claim, o.expires_at)).collect();
        outcomes.sort_by_key(|o| (o.completed, o.region));
        outcomes.sort_by_key(|o| !o.majority);
        if let Some(first) = outcomes.first() {
            return verdict(first);
        }
        let held = self.attempts.values().filter(|a| {
            let abandoned = a.abandoned_lease >= a.lease_until;
            !dropped(a.id, a.expires_at) && a.phase == Phase::Held && !abandoned
        });
        held.map(|a| a.id).min().map_or(Verdict::Free, Verdict::Held)
    }
}

fn verdict(outcome: &Outcome<'_>) -> Verdict {
    Verdict::Settled { majority: outcome.majority, completed: outcome.completed, region: outcome.region }
}

/// The code's winner in the model's words.
pub fn said(entry: &Entry<'_>) -> Verdict {
    match entry.winner() {
        Winner::Settled(outcome) => verdict(outcome),
        Winner::Held(attempt) => Verdict::Held(attempt.id),
        Winner::Free => Verdict::Free,
    }
}
