//! What `measure` takes of a run while it goes on and at its end.
//!
//! Must never: change what happens; only how often agreement is looked for differs (`Options::measure`).

use super::{Event, World};
use crate::limits;
use crate::oracle::agreement::ConflictFact;
use crate::oracle::ask::{Answer, Ask, ByHome, Decision};
use crate::oracle::facts::{Key, View, stamp_ms};

/// A cut is over, and what regions knew differently then becomes alike.
pub(super) struct Healing {
    since_us: u64,
    keys: Vec<Key>,
}

impl World {
    /// For `measure`: what the service was told, and how old the word of others was that it rests on.
    pub(super) fn sample(&mut self, decision: &Decision) {
        let Some(samples) = &mut self.samples else { return };
        match (&decision.ask, &decision.answer) {
            (Ask::Complete { token, .. }, Answer::Completed | Answer::Contested) => {
                // Told again to whoever asks again. At quorum it is told once a majority holds what was written before (S5).
                let held = |view: &View| view.outcomes.iter().filter(|outcome| outcome.majority).count();
                // At home it may be told by a region that has written nothing.
                let new = if decision.by_home != ByHome::Not {
                    self.executed.insert(token.claim)
                } else if decision.quorum {
                    held(&decision.after) > held(&decision.before)
                } else {
                    decision.after.outcomes.len() > decision.before.outcomes.len()
                };
                samples.executions += u64::from(new);
            }
            (Ask::Claim { .. }, answer) => {
                samples.claims += 1;
                samples.refused += u64::from(matches!(answer, Answer::Unavailable { .. }));
                let replica = self.sites[usize::from(decision.region) - 1].replica.as_ref();
                if matches!(answer, Answer::Granted { .. })
                    && let Some(replica) = replica
                {
                    samples.stale_ms.push(replica.store().gate.stale_ms(decision.now));
                }
            }
            _ => {}
        }
    }

    /// For `measure`: what is known once all agree.
    pub(super) fn sample_end(&mut self) {
        let now_us = self.now_us();
        let Some(samples) = &mut self.samples else { return };
        let healed = self.scenario.healed();
        let living = self.sites.iter().filter(|site| healed.has(site.index));
        let living = living.filter_map(|site| site.replica.as_ref());
        // All list the same.
        let listed = living.map(|replica| replica.conflicts(&self.scenario.keys)).next().unwrap_or_default();
        let apart = |conflict: &ConflictFact| {
            let (_, _, winner) = conflict.winner?;
            Some(stamp_ms(conflict.loser.stamp).abs_diff(stamp_ms(winner.stamp)))
        };
        samples.duplicates_ms = listed.iter().filter_map(apart).collect();
        let sites = self.sites.len() as u64;
        (samples.links, samples.virtual_us) = (sites * (sites - 1), now_us);
        samples.bytes = self.figures.bytes;
        if self.figures.keys_apart > 0 {
            samples.converged_ms.push(self.figures.converged_ms);
        }
    }

    /// The last of the cuts is over: from now on until what is apart now is alike.
    pub(super) fn sample_mend(&mut self) {
        let severed = if self.scenario.severed.is_some() { 2 } else { 0 };
        if self.samples.is_none() || self.network.cut_links() > severed {
            return;
        }
        let (since_us, keys) = (self.now_us(), self.keys_apart());
        self.healing = (!keys.is_empty()).then_some(Healing { since_us, keys });
        self.heap.after(limits::CONVERGENCE_LOOK_CLOSE_US, Event::Look);
    }

    /// Looks at what was apart.
    pub(super) fn look_at_healing(&mut self) {
        let Some(mut healing) = self.healing.take() else { return };
        // What has been alike once was brought; what services do since then is another matter.
        healing.keys.retain(|key| self.is_apart(*key));
        let age_us = self.now_us() - healing.since_us;
        if !healing.keys.is_empty() {
            self.healing = Some(healing);
            self.heap.after(limits::CONVERGENCE_LOOK_CLOSE_US, Event::Look);
        } else if let Some(samples) = &mut self.samples {
            samples.converged_ms.push(age_us / 1_000);
        }
    }
}
