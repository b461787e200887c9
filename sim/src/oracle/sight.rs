//! What one region has been seen to know of one key, and what follows from it.
//!
//! The oracle looks at a region's real entry before and after every request for it, after restarts
//! and now and then after frames. Between two looks an entry may only grow, unless it died by S3's
//! rule or a crash took what its durability did not cover. Looks are cheap and lazy: a part that was
//! seen first at some look was written somewhere between the previous look's log position and this
//! one's, and both bounds are kept, so that no check assumes more than is known.
//!
//! Must never: ask the product whether a loss was justified; S3's words decide.

use super::facts::{Key, Lsn, Millis, Part, Region, View};
use super::violation::{Violation, clause};
use super::winner::{Verdict, all_past, counts, is_superseded, is_void, outranks, winner};

/// A part and where in the region's log it was written.
#[derive(Clone, Debug)]
struct Glimpse {
    part: Part,
    /// Not before this position.
    low: Lsn,
    /// Not after this position.
    high: Lsn,
}

/// What one region knows of one key.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    glimpses: Vec<Glimpse>,
    /// The fold of all glimpses: what must be there at the next look.
    expected: View,
    /// Claims that were here and died.
    buried: Vec<super::facts::ClaimName>,
    /// Claims that died and came back: what was put together to be told before they died is not known any more.
    risen: Vec<super::facts::ClaimName>,
    looked_at: Lsn,
    looked_now: Millis,
    restarted: bool,
}

/// One look at a region's entry.
pub struct Look<'a> {
    /// Where.
    pub region: Region,
    /// At which key.
    pub key: Key,
    /// Virtual microseconds.
    pub at_us: u64,
    /// The latest time by which the region may have dropped the dead, Unix ms.
    pub now: Millis,
    /// The region trusts its clock. While it does not, it drops nothing (S2), also not off the wire.
    pub trusted: bool,
    /// The end of the region's log, whether durable or not.
    pub lsn: Lsn,
    /// What is there.
    pub view: &'a View,
}

impl Look<'_> {
    fn violation(&self, invariant: &'static str, text: &'static str, story: [String; 2]) -> Violation {
        let (key, regions) = (Some(self.key), [self.region].into());
        Violation { invariant, clause: text, key, at_us: self.at_us, regions, story }
    }
}

/// Whether `view` holds `part` or what S3's join puts in its place.
pub fn covers(view: &View, part: &Part) -> bool {
    match part {
        Part::Forgotten(stamp) => view.forgotten >= *stamp,
        Part::Outcome(outcome) => view.outcomes.iter().any(|o| {
            o.slot() == outcome.slot()
                && o.stamp == outcome.stamp
                && o.bytes == outcome.bytes
                && o.fingerprint == outcome.fingerprint
                && o.majority >= outcome.majority
        }),
        Part::Attempt(attempt) => view.attempts.iter().any(|a| {
            let same_slot =
                (a.claim.region, a.claim.incarnation) == (attempt.claim.region, attempt.claim.incarnation);
            let grown = a.phase >= attempt.phase
                && a.lease_until >= attempt.lease_until
                && a.abandoned_lease >= attempt.abandoned_lease
                && a.fingerprint == attempt.fingerprint
                && a.expires_at == attempt.expires_at;
            same_slot && (a.claim.stamp > attempt.claim.stamp || (a.claim == attempt.claim && grown))
        }),
    }
}

/// S3 Expiry: "a part is dropped, or refused from the wire, only when past `expires_at + max_drift`
/// *and* superseded, void, or every part (stored and received together) is so".
pub fn may_be_dead(all: &View, part: &Part, now: Millis, max_drift: Millis) -> bool {
    let Some(claim) = part.claim() else { return false };
    now > part.expires_at().saturating_add(max_drift)
        && (is_superseded(all, part.expires_at()) || is_void(all, claim) || all_past(all, now, max_drift))
}

impl Sight {
    /// What the region must still know.
    pub const fn expected(&self) -> &View {
        &self.expected
    }

    /// The position up to which the log must be durable before anything that depends on this key may
    /// be told: the newest part's earliest possible position.
    pub fn needs_lsn(&self) -> Lsn {
        self.glimpses.iter().map(|g| g.low).max().unwrap_or(0)
    }

    /// The same for what is told of it in `view`, which may have been put together a while ago.
    pub fn needs_lsn_of(&self, view: &View) -> Lsn {
        let known = |part: &Part| part.claim().is_none_or(|claim| !self.risen.contains(&claim));
        let told = self.glimpses.iter().filter(|g| covers(view, &g.part) && known(&g.part));
        told.map(|glimpse| glimpse.low).max().unwrap_or(0)
    }

    /// Takes in one look; what cannot be explained is a violation.
    pub fn look(&mut self, look: &Look<'_>, max_drift: Millis) -> Result<(), Violation> {
        if *look.view != self.expected {
            self.take_in(look, max_drift)?;
        }
        self.looked_at = look.lsn;
        self.looked_now = self.looked_now.max(look.now);
        self.restarted = false;
        Ok(())
    }

    /// The region holds something else than when it was last looked at. (What is as it was has lost nothing, shows no
    /// claim that had died, and is settled as it was.)
    fn take_in(&mut self, look: &Look<'_>, max_drift: Millis) -> Result<(), Violation> {
        self.check_growth(look, max_drift)?;
        self.check_burial(look, max_drift)?;
        self.check_settled(look)?;
        let fresh: Vec<Part> = look.view.parts().filter(|part| !covers(&self.expected, part)).collect();
        let low = self.looked_at.saturating_add(1).min(look.lsn);
        for part in fresh {
            self.expected.add(&part);
            self.glimpses.push(Glimpse { part, low, high: look.lsn });
        }
        // In the order in which it is seen again, if it stays as it is.
        self.expected.attempts.sort_by_key(|attempt| attempt.claim);
        self.expected.outcomes.sort_by_key(super::facts::OutcomeFact::slot);
        Ok(())
    }

    /// The region says that it holds `part` durably, within the first `high` records of its log.
    pub fn hold(&mut self, part: &Part, high: Lsn) {
        self.expected.add(part);
        self.glimpses.push(Glimpse { part: part.clone(), low: 0, high });
    }

    /// The region crashed: parts beyond `kept` need not come back. Log positions start again.
    pub fn crash(&mut self, kept: Lsn) {
        self.glimpses.retain(|glimpse| glimpse.high <= kept);
        self.expected = View::default();
        for glimpse in &mut self.glimpses {
            (glimpse.low, glimpse.high) = (0, 0);
            self.expected.add(&glimpse.part);
        }
        self.looked_at = 0;
        self.restarted = true;
    }

    /// INV-1 "an entry only grows until it dies", INV-7 across a restart, INV-12 for an early death.
    fn check_growth(&mut self, look: &Look<'_>, max_drift: Millis) -> Result<(), Violation> {
        let mut all = self.expected.clone();
        look.view.parts().for_each(|part| all.add(&part));
        let mut died = false;
        // All that was here may have died whole before what is new here arrived.
        let died_whole = all_past(&self.expected, look.now, max_drift);
        for part in self.expected.parts() {
            if covers(look.view, &part) {
                continue;
            }
            // An outcome that does not count need not be kept (see `View::pruned`).
            if matches!(&part, Part::Outcome(o) if !counts(&all, o.claim, o.expires_at)) {
                died = true;
                continue;
            }
            // A start may bring back from an old run what had died before its key was written again; when that
            // run is deleted, the next start does not.
            let brought_back = self.restarted && look.now > part.expires_at().saturating_add(max_drift);
            let forgets = matches!(part, Part::Forgotten(_));
            if forgets || !(died_whole || brought_back || may_be_dead(&all, &part, look.now, max_drift)) {
                return Err(self.lost(look, &part));
            }
            died = true;
            self.buried.extend(part.claim());
        }
        if died {
            self.glimpses.retain(|glimpse| covers(look.view, &glimpse.part));
            self.expected = View::default();
            for glimpse in &self.glimpses {
                self.expected.add(&glimpse.part);
            }
        }
        Ok(())
    }

    fn lost(&self, look: &Look<'_>, part: &Part) -> Violation {
        let what = describe(part);
        let after = format!("r{} no longer has {what} at now={}", look.region, look.now);
        if self.restarted {
            let story =
                [format!("r{} crashed and restarted; its durability covered {what}", look.region), after];
            return look.violation("INV-7", clause::INV_7, story);
        }
        let before = format!("r{} held {what} when it was last looked at", look.region);
        if look.view.is_empty() {
            return look.violation("INV-12", clause::INV_12, [before, after]);
        }
        look.violation("INV-1", clause::INV_1, [before, after])
    }

    /// INV-12 "comes back after it": a claim that died here is here again, and at the previous look,
    /// when it was gone, everything that is here now was already past its retention.
    fn check_burial(&mut self, look: &Look<'_>, max_drift: Millis) -> Result<(), Violation> {
        let risen = |claim: &super::facts::ClaimName| {
            self.buried.contains(claim) && !self.expected.claims().any(|known| known == *claim)
        };
        let Some(claim) = look.view.claims().find(risen) else { return Ok(()) };
        // A restart finds in the log what had died in memory; it is dead still, and not served.
        if look.trusted && !self.restarted && all_past(look.view, self.looked_now, max_drift) {
            let story = [
                format!("{claim} had died in r{}, as seen at now={}", look.region, self.looked_now),
                format!(
                    "r{} holds it again although all parts had expired then: {:?}, now={}",
                    look.region,
                    look.view.expiries().collect::<Vec<_>>(),
                    look.now
                ),
            ];
            return Err(look.violation("INV-12", clause::INV_12, story));
        }
        self.buried.retain(|buried| *buried != claim);
        self.risen.push(claim);
        Ok(())
    }

    /// INV-10.
    fn check_settled(&self, look: &Look<'_>) -> Result<(), Violation> {
        let Verdict::Settled(old) = winner(&self.expected) else { return Ok(()) };
        let still_counts = look.view.outcomes.iter().any(|o| o.slot() == old.slot())
            && !is_void(look.view, old.claim)
            && !is_superseded(look.view, old.expires_at);
        if !still_counts {
            return Ok(()); // Gone by forgetting, expiry or crash: other checks judge that.
        }
        match winner(look.view) {
            Verdict::Settled(new) if new.slot() == old.slot() || outranks(new, old) => Ok(()),
            other => {
                let story = [
                    format!("r{} had the key settled by {}", look.region, old.claim),
                    format!("now it is {other}"),
                ];
                Err(look.violation("INV-10", clause::INV_10, story))
            }
        }
    }
}

/// A part in a few words.
pub fn describe(part: &Part) -> String {
    match part {
        Part::Forgotten(stamp) => format!("the FORGET of {}", super::facts::stamp_ms(*stamp)),
        Part::Attempt(a) => format!(
            "attempt {} ({:?}, lease {}, abandoned {}, expires {})",
            a.claim, a.phase, a.lease_until, a.abandoned_lease, a.expires_at
        ),
        Part::Outcome(o) => format!(
            "outcome of {} (completed in r{}.{} at {}, expires {})",
            o.claim,
            o.region,
            o.incarnation,
            super::facts::stamp_ms(o.stamp),
            o.expires_at
        ),
    }
}
