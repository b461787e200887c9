//! The oracle: judges a run from outside, by brute force, straight from the words of SEMANTICS.
//!
//! It is told of every decision with the region's entry on both sides of it, of every crash with the
//! log position that survived, of every reply told and of every acknowledgement between peers. From
//! these it keeps what each region must know ([`sight`]) and what was accepted anywhere ([`ledger`]),
//! and checks INV-1 to INV-5, INV-7 to INV-12 as it goes and at the end ([`agreement`]). INV-18 is the
//! swarm's, which runs seeds twice.
//!
//! It shares no code and no type with `crdt`. An oracle that asked the product who wins would always
//! agree with it.
//!
//! Must never: import anything from `crdt`; repair or influence a run.

pub mod agreement;
pub mod answers;
pub mod ask;
pub mod claims;
pub mod exclusive;
pub mod facts;
pub mod history;
pub mod homes;
pub mod laws;
pub mod ledger;
pub mod sight;
pub mod violation;
pub mod winner;
pub mod writes;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;

use ask::{Answer, Decision};
use claims::Rules;
use facts::{Key, Lsn, Millis, Region, View};
use ledger::{Accepted, Ledger};
use sight::{Look, Sight, covers, describe};
use violation::{Violation, clause};

/// What must be durable before an answer may be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// Where it was decided.
    pub region: Region,
    /// About which key.
    pub key: Key,
    /// Where the decision's own write ends in the log.
    pub lsn: Lsn,
    /// Everything it saw and wrote is at or before this position.
    pub needs: Lsn,
    /// The disk and not only the kernel must have it.
    pub durable: bool,
}

/// The judge of one run.
#[derive(Debug)]
pub struct Oracle {
    max_drift: Millis,
    unknown_on_lease_end: Vec<bool>,
    sights: BTreeMap<Region, Vec<Sight>>,
    stamps: BTreeMap<Region, writes::Stamps>,
    ledger: Ledger,
    /// How many of a region's accepted parts each peer has been checked to hold: by region, peer and
    /// whether durably.
    delivered: BTreeMap<(Region, Region, bool), usize>,
    /// Incarnation and log epoch of every start.
    lives: BTreeMap<Region, Vec<(u32, u32)>>,
    exclusive: exclusive::Exclusive,
    homes: homes::Homes,
}

impl Oracle {
    /// An oracle for `regions` and as many keys as `unknown_on_lease_end` has; the flag says that the
    /// key's policy answers UNKNOWN instead of taking over (S4.1).
    pub fn new(regions: &[Region], unknown_on_lease_end: Vec<bool>, max_drift: Millis) -> Self {
        let sights = |_: &Region| vec![Sight::default(); unknown_on_lease_end.len()];
        Self {
            max_drift,
            sights: regions.iter().map(|region| (*region, sights(region))).collect(),
            stamps: regions.iter().map(|region| (*region, writes::Stamps::default())).collect(),
            unknown_on_lease_end,
            ledger: Ledger::default(),
            delivered: BTreeMap::new(),
            lives: BTreeMap::new(),
            exclusive: exclusive::Exclusive::new(regions.len() / 2 + 1),
            homes: homes::Homes::default(),
        }
    }

    /// Everything accepted so far.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A look at a region's entry outside any request.
    pub fn look(&mut self, look: &Look<'_>) -> Result<(), Violation> {
        let max_drift = self.max_drift;
        self.sight(look.region, look.key).look(look, max_drift)
    }

    /// A request was decided.
    pub fn decided(&mut self, decision: &Decision) -> Result<Receipt, Violation> {
        let Decision { region, key, at_us, dead_by, trusted, lsn_before, lsn_after, .. } = *decision;
        self.look(&Look {
            region,
            key,
            at_us,
            now: dead_by,
            trusted,
            lsn: lsn_before,
            view: &decision.before,
        })?;
        let saw = self.sight(region, key).needs_lsn();
        let unknown_on_lease_end = self.unknown_on_lease_end[key];
        claims::check(decision, Rules { max_drift: self.max_drift, unknown_on_lease_end })?;
        let parts = writes::accepted(decision)?;
        self.stamps.entry(region).or_default().issue(decision, &parts)?;
        answers::check(decision, self.max_drift)?;
        self.exclusive.decided(decision)?;
        self.homes.decided(decision)?;
        self.look(&Look {
            region,
            key,
            at_us,
            now: dead_by,
            trusted,
            lsn: lsn_after,
            view: &decision.after,
        })?;
        let wrote = !parts.is_empty();
        for part in parts {
            let (doubtful, acknowledged) = (false, false);
            let lsn = lsn_after;
            self.ledger.add(Accepted { key, region, lsn, part, at_us, doubtful, acknowledged });
        }
        let needs = if wrote { lsn_after } else { saw };
        // UNAVAILABLE, EXPIRED and a bad tag depend on no state of the key.
        let stateless =
            matches!(decision.answer, Answer::Unavailable { .. } | Answer::Expired | Answer::Stale { .. });
        let needs = if stateless && !wrote { 0 } else { needs };
        Ok(Receipt { region, key, lsn: lsn_after, needs, durable: decision.durable })
    }

    /// Up to where a region's log must be durable before it may tell `view` of this key, at least.
    pub fn needs(&mut self, region: Region, key: Key, view: &View) -> Lsn {
        self.sight(region, key).needs_lsn_of(view)
    }

    /// The answer to a decision leaves for its caller. INV-8: "Nothing acknowledged, served or sent
    /// before its durability."
    pub fn told(&mut self, receipt: Receipt, at_us: u64, written: Lsn, synced: Lsn) -> Result<(), Violation> {
        let Receipt { region, key, lsn, needs, durable } = receipt;
        let has = if durable { synced } else { written };
        if has < needs {
            let degree = if durable { "the disk" } else { "the kernel" };
            let story = [
                format!("an answer of r{region} depends on its log up to {needs}"),
                format!("{degree} had it only up to {has} when the answer left"),
            ];
            let (key, regions) = (Some(key), [region].into());
            return Err(Violation { invariant: "INV-8", clause: clause::INV_8, key, at_us, regions, story });
        }
        self.ledger.acknowledge(region, key, lsn);
        Ok(())
    }

    /// `to` says that it holds `from`'s log up to `lsn`: whatever `from` accepted until then is held by
    /// `to` (INV-5: what was delivered is known); where it says so durably, within the first `written`
    /// records of its own log (INV-7), which ends at `appended`. `view` shows `to`'s entries, `now` is
    /// `to`'s, `from_now` the other's.
    pub fn acknowledged(
        &mut self,
        (from, to): (Region, Region),
        (lsn, written, appended): (Lsn, Option<Lsn>, Lsn),
        (at_us, now, trusted, from_now): (u64, Millis, bool, Millis),
        mut view: impl FnMut(Key) -> Rc<View>,
    ) -> Result<(), Violation> {
        let stream = (from, to, written.is_some());
        let skip = self.delivered.get(&stream).copied().unwrap_or(0);
        let mut checked = skip;
        for accepted in self.ledger.since(from, skip, lsn) {
            checked += 1;
            let held = view(accepted.key);
            let keys = self.unknown_on_lease_end.len();
            let sights = self.sights.entry(to).or_insert_with(|| vec![Sight::default(); keys]);
            let sight = &mut sights[accepted.key];
            let look =
                Look { region: to, key: accepted.key, at_us, now, trusted, lsn: appended, view: &held };
            sight.look(&look, self.max_drift)?;
            if covers(&held, &accepted.part) {
                if let Some(written) = written {
                    sight.hold(&accepted.part, written);
                }
                continue;
            }
            let mut all = View::clone(&held);
            all.add(&accepted.part);
            let idle = |o: &facts::OutcomeFact| {
                held.outcomes.len() >= 8 || !winner::counts(&all, o.claim, o.expires_at)
            };
            let crowded = matches!(&accepted.part, facts::Part::Outcome(o) if idle(o));
            // What has expired by now may have come when all of its key was dead, and been refused; or it was
            // dead by the clock of the other region, which then had it no more.
            if crowded || now.max(from_now) > accepted.part.expires_at().saturating_add(self.max_drift) {
                continue;
            }
            let story = [
                format!("r{to} acknowledged r{from}'s log up to {lsn} at now={now}"),
                format!("but does not hold {} (position {})", describe(&accepted.part), accepted.lsn),
            ];
            let (key, regions) = (Some(accepted.key), [from, to].into());
            return Err(Violation { invariant: "INV-5", clause: clause::INV_5, key, at_us, regions, story });
        }
        self.delivered.insert(stream, checked);
        Ok(())
    }

    /// A region crashed and its log survived up to `kept`; with `process_only`, that is all that the
    /// kernel had. Its positions start again.
    pub fn crashed(&mut self, region: Region, kept: Lsn, process_only: bool) {
        self.stamps.entry(region).or_default().crash(kept, process_only);
        self.ledger.crash(region, kept);
        self.homes.crashed(region, kept);
        self.sights.entry(region).or_default().iter_mut().for_each(|sight| sight.crash(kept));
        self.delivered.retain(|(from, ..), _| *from != region);
    }

    /// A region lost its disk.
    pub fn wiped(&mut self, region: Region) {
        self.exclusive.disk_lost();
        self.homes.lost(region);
        self.ledger.wipe(region);
        self.sights.entry(region).or_default().iter_mut().for_each(|sight| *sight = Sight::default());
        // What it issued and nobody saw is gone without a trace; S6 asks for stamps above what peers know.
        self.stamps.remove(&region);
        self.delivered.retain(|(from, ..), _| *from != region);
    }

    /// A region's data was copied, with its log up to `written`.
    pub fn backed_up(&mut self, region: Region, written: Lsn) {
        self.ledger.back_up(region, written);
    }

    /// A region starts from the last copy of its data. INV-7: what that covers is there; INV-4, S6: as to the rest it is a
    /// region that has lost its disk.
    pub fn restored(&mut self, region: Region) {
        self.wiped(region);
        self.ledger.restore(region);
    }

    /// A region was stopped for good: what it accepted and nobody has is gone with it. What a region has acknowledged to
    /// it stays among what that region must know.
    pub fn retired(&mut self, region: Region) {
        // What it held in a majority nobody can ask it for any more.
        self.exclusive.disk_lost();
        self.homes.lost(region);
        self.ledger.wipe(region);
        self.delivered.retain(|(from, ..), _| *from != region);
    }

    /// A region starts again. INV-16: "No incarnation, log epoch or sequence is ever reused."
    pub fn started(&mut self, region: Region, life: (u32, u32), at_us: u64) -> Result<(), Violation> {
        let lives = self.lives.entry(region).or_default();
        if lives.iter().all(|known| *known < life) {
            lives.push(life);
            return Ok(());
        }
        let story = [
            format!("r{region} has lived as (incarnation, epoch) {lives:?}"),
            format!("and starts again as {life:?}"),
        ];
        let (invariant, regions) = ("INV-16", [region].into());
        Err(Violation { invariant, clause: clause::INV_16, key: None, at_us, regions, story })
    }

    /// All regions are healed and quiet.
    pub fn ended(&self, finals: &[agreement::Final], at_us: u64, now: Millis) -> Result<(), Violation> {
        let ending = agreement::Ending { at_us, now, max_drift: self.max_drift };
        agreement::check(&self.ledger, finals, self.unknown_on_lease_end.len(), ending)
    }

    fn sight(&mut self, region: Region, key: Key) -> &mut Sight {
        let keys = self.unknown_on_lease_end.len();
        &mut self.sights.entry(region).or_insert_with(|| vec![Sight::default(); keys])[key]
    }
}
