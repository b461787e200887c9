//! A history judged from outside: what services asked real regions and were answered, and what these held at the end.
//!
//! Nobody sees into a process: there are no decisions with the entry on both sides of them, no log positions. What is left is
//! what any client could hold against its region, and that is checked here, answer against earlier answer: INV-4, INV-7,
//! INV-9 to INV-12. Two requests count as one after the other only if the first was answered before the second was sent. Then
//! [`accepted`] makes of the history what was accepted anywhere, and the end is judged as the simulator's is
//! ([`super::agreement`]): INV-2, INV-3, INV-5, INV-7.
//!
//! Not to be seen from outside: INV-1, INV-8, INV-13, INV-14, INV-16, and of a completion's stamp anything below the
//! millisecond.
//!
//! Must never: hold a request that was not answered against anybody; it may have been done or not.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::agreement::Final;
use super::ask::{Answer, Ask};
use super::facts::{AttemptFact, ClaimName, Key, Millis, OutcomeFact, Part, Phase, Region, View, stamp_ms};
use super::ledger::{Accepted, Ledger};
use super::sight::covers;
use super::violation::{Violation, clause};
use super::winner::{Verdict, winner};

/// One request, and what became of it.
#[derive(Clone, Debug)]
pub struct Spoken {
    /// Of which region.
    pub region: Region,
    /// About which key.
    pub key: Key,
    /// What was asked.
    pub ask: Ask,
    /// When it was sent, microseconds since the beginning.
    pub sent_us: u64,
    /// When the answer came, and which; `None`: none came.
    pub heard: Option<(u64, Answer)>,
}

/// All requests of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In any order.
    pub spoken: Vec<Spoken>,
    /// Which regions lost their disk, and when, microseconds.
    pub wiped: Vec<(Region, u64)>,
    /// Regions' wall clocks at the beginning, Unix ms; `None`: some were set since, and say nothing.
    pub began_ms: Option<Millis>,
    /// The bound between clocks, milliseconds.
    pub max_drift: Millis,
    /// Keys that majorities decide (S5): a claim is stamped when it is asked for, and told when it is granted.
    pub quorum: BTreeSet<Key>,
}

/// What each region said of each key at the end, when all had come to rest: the answer to a GET.
pub type Said = Vec<(Region, Vec<Answer>)>;

impl Spoken {
    fn answer(&self) -> Option<&Answer> {
        self.heard.as_ref().map(|(_, answer)| answer)
    }

    fn is_before(&self, later: &Self) -> bool {
        self.heard.as_ref().is_some_and(|(heard_us, _)| *heard_us < later.sent_us)
    }

    /// Whether it may have been decided before the other was answered.
    fn may_precede(&self, other: &Self) -> bool {
        other.heard.as_ref().is_none_or(|(heard_us, _)| self.sent_us < *heard_us)
    }

    fn granted(&self) -> Option<(ClaimName, Millis)> {
        let Some(Answer::Granted { claim, lease_until, .. }) = self.answer() else { return None };
        Some((*claim, *lease_until))
    }

    fn token(&self) -> Option<ClaimName> {
        match &self.ask {
            Ask::Complete { token, .. } | Ask::Renew { token, .. } | Ask::Release { token } => {
                Some(token.claim)
            }
            Ask::Claim { .. } | Ask::Get | Ask::Forget | Ask::Resolve { .. } => None,
        }
    }

    /// A completion that the region has recorded, or had already.
    fn recorded(&self) -> Option<(ClaimName, Millis)> {
        let Ask::Complete { token, .. } = &self.ask else { return None };
        let known = matches!(self.answer(), Some(Answer::Completed | Answer::Contested));
        known.then_some((token.claim, token.expires_at))
    }

    /// The claim that was shown to have won.
    fn settled(&self) -> Option<ClaimName> {
        match self.answer() {
            Some(Answer::Replay { claim, .. } | Answer::Settled { claim, .. }) => Some(*claim),
            Some(Answer::Completed | Answer::Contested) => self.token(),
            _ => None,
        }
    }

    fn violation(&self, invariant: &'static str, text: &'static str, story: [String; 2]) -> Violation {
        let at_us = self.heard.as_ref().map_or(self.sent_us, |(heard_us, _)| *heard_us);
        let (key, regions) = (Some(self.key), [self.region].into());
        Violation { invariant, clause: text, key, at_us, regions, story }
    }

    fn words(&self) -> String {
        let what = self.ask.words();
        let status = self.answer().map_or("nothing", Answer::status);
        let sent = self.sent_us as f64 / 1e6;
        format!("r{} was asked {what} at {sent:.6} s and answered {status}", self.region)
    }
}

impl History {
    /// Whether all answers go together. `finals` is what regions hold at the end.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self, finals: &[Final]) -> Result<(), Violation> {
        self.check_stamps()?;
        let mut by_key: BTreeMap<Key, Vec<&Spoken>> = BTreeMap::new();
        for spoken in &self.spoken {
            by_key.entry(spoken.key).or_default().push(spoken);
        }
        for (key, all) in &by_key {
            let outcomes: Vec<&OutcomeFact> =
                finals.iter().flat_map(|end| &end.views[*key].outcomes).collect();
            for later in all {
                self.check_grant(later, all)?;
                self.check_known(later, all)?;
                self.check_served(later, all, &outcomes)?;
            }
        }
        Ok(())
    }

    fn wiped_between(&self, region: Region, from_us: u64, to_us: u64) -> bool {
        self.wiped.iter().any(|(wiped, at_us)| *wiped == region && (from_us..=to_us).contains(at_us))
    }

    /// INV-9.
    fn check_stamps(&self) -> Result<(), Violation> {
        let at_once = |spoken: &&Spoken| spoken.granted().is_some() && !self.quorum.contains(&spoken.key);
        let mut by_sent: Vec<&Spoken> = self.spoken.iter().filter(at_once).collect();
        let mut by_heard = by_sent.clone();
        by_sent.sort_by_key(|spoken| spoken.sent_us);
        by_heard.sort_by_key(|spoken| spoken.heard.as_ref().map(|(heard_us, _)| *heard_us));
        let mut newest: BTreeMap<Region, ClaimName> = BTreeMap::new();
        let (mut told, mut seen) = (by_heard.into_iter().peekable(), BTreeSet::new());
        for later in by_sent {
            while let Some(earlier) = told.next_if(|earlier| earlier.is_before(later)) {
                let Some((claim, _)) = earlier.granted() else { continue };
                seen.insert(claim);
                let known = newest.entry(claim.region).or_insert(claim);
                *known = (*known).max(claim);
            }
            let Some((claim, _)) = later.granted() else { continue };
            let Some(known) =
                newest.get(&claim.region).filter(|known| !seen.contains(&claim) && claim <= **known)
            else {
                continue;
            };
            let story = [
                format!("r{} had issued {known}", claim.region),
                format!("and then {claim}: {}", later.words()),
            ];
            return Err(later.violation("INV-9", clause::INV_9, story));
        }
        Ok(())
    }

    /// INV-4: what the region itself had granted, or was told to be done, is live as it knows it.
    fn check_grant(&self, later: &Spoken, all: &[&Spoken]) -> Result<(), Violation> {
        let Some((claim, _)) = later.granted() else { return Ok(()) };
        let (now, region) = (stamp_ms(claim.stamp), later.region);
        if all.iter().any(|other| other.ask == Ask::Forget && other.may_precede(later)) {
            return Ok(());
        }
        let own = all.iter().filter(|earlier| earlier.region == region && earlier.is_before(later));
        for earlier in own.filter(|earlier| !self.wiped_between(region, earlier.sent_us, later.sent_us)) {
            let live = if let Some((held, lease_until)) = earlier.granted().filter(|(held, _)| *held != claim)
            {
                let touches = |other: &&&Spoken| other.token() == Some(held) && other.may_precede(later);
                let ended = all.iter().filter(touches).any(|other| !matches!(other.ask, Ask::Renew { .. }));
                (!ended && now <= lease_until + self.max_drift && held < claim)
                    .then(|| format!("{held} held a lease until {lease_until} (+{})", self.max_drift))
            } else if let Some((done, expires_at)) = earlier.recorded() {
                (now <= expires_at && done != claim)
                    .then(|| format!("{done} was completed, until {expires_at}"))
            } else {
                None
            };
            if let Some(live) = live {
                return Err(later.violation(
                    "INV-4",
                    clause::INV_4,
                    [later.words(), format!("{claim}, but {live}")],
                ));
            }
        }
        Ok(())
    }

    /// INV-7: a region that has acknowledged an outcome never again says that the key has none.
    fn check_known(&self, later: &Spoken, all: &[&Spoken]) -> Result<(), Violation> {
        let unsettled =
            matches!(later.answer(), Some(Answer::Free | Answer::Held { .. } | Answer::InProgress));
        let Some(began_ms) = self.began_ms.filter(|_| unsettled) else { return Ok(()) };
        if all.iter().any(|other| other.ask == Ask::Forget && other.may_precede(later)) {
            return Ok(());
        }
        let heard_us = later.heard.as_ref().map_or(later.sent_us, |(heard_us, _)| *heard_us);
        let latest_ms = began_ms + heard_us / 1_000 + self.max_drift;
        let own = all.iter().filter(|earlier| earlier.region == later.region && earlier.is_before(later));
        for earlier in own.filter(|earlier| !self.wiped_between(later.region, earlier.sent_us, heard_us)) {
            if let Some((done, _)) = earlier.recorded().filter(|(_, expires_at)| latest_ms < *expires_at) {
                let story = [earlier.words(), format!("{}, though {done} was completed", later.words())];
                return Err(later.violation("INV-7", clause::INV_7, story));
            }
        }
        Ok(())
    }

    /// INV-10, INV-11, INV-12 of an outcome that was served.
    fn check_served(
        &self,
        later: &Spoken,
        all: &[&Spoken],
        outcomes: &[&OutcomeFact],
    ) -> Result<(), Violation> {
        let Some(won) = later.settled() else { return Ok(()) };
        let of = |claim: ClaimName| outcomes.iter().find(|outcome| outcome.claim == claim);
        if let (Ask::Claim { fingerprint, .. }, Some(outcome)) = (&later.ask, of(won))
            && *fingerprint != outcome.fingerprint
        {
            let story = [later.words(), format!("with the outcome of {won}, which is of another payload")];
            return Err(later.violation("INV-11", clause::INV_11, story));
        }
        if let (Some(began_ms), Some(outcome)) = (self.began_ms, of(won))
            && began_ms + later.sent_us / 1_000 > outcome.expires_at + self.max_drift
        {
            let story = [later.words(), format!("with that of {won}, which ended at {}", outcome.expires_at)];
            return Err(later.violation("INV-12", clause::INV_12, story));
        }
        if all.iter().any(|other| other.ask == Ask::Forget) {
            return Ok(());
        }
        let own = all.iter().filter(|earlier| earlier.region == later.region && earlier.is_before(later));
        for earlier in own {
            let Some(before) = earlier.settled().filter(|before| *before != won) else { continue };
            let (Some(old), Some(new)) = (of(before), of(won)) else { continue };
            let allowed = new.majority || new.stamp <= old.stamp || stamp_ms(won.stamp) >= old.expires_at;
            if !allowed && !self.wiped_between(later.region, earlier.sent_us, later.sent_us) {
                let story = [
                    format!("{}: {before} had won, completed at {}", earlier.words(), stamp_ms(old.stamp)),
                    format!("{}: now {won} has, completed at {}", later.words(), stamp_ms(new.stamp)),
                ];
                return Err(later.violation("INV-10", clause::INV_10, story));
            }
        }
        Ok(())
    }
}

/// What was accepted anywhere, as far as services were told; what they were not told of is taken from `finals`, where a
/// request explains it.
pub fn accepted(history: &History, finals: &[Final]) -> Ledger {
    let mut ledger = Ledger::default();
    let keys = finals.first().map_or(0, |end| end.views.len());
    for key in 0..keys {
        let spoken: Vec<&Spoken> = history.spoken.iter().filter(|spoken| spoken.key == key).collect();
        let held: Vec<Part> = finals.iter().flat_map(|end| end.views[key].parts()).collect();
        let mut known = View::default();
        for one in &spoken {
            let Some((heard_us, _)) = one.heard.as_ref() else { continue };
            let Some((part, certain)) = told_part(one, &spoken, &held) else { continue };
            known.add(&part);
            let doubtful = !certain || history.wiped_between(one.region, one.sent_us, u64::MAX);
            let (region, at_us) = (one.region, *heard_us);
            ledger.add(Accepted { key, region, lsn: 0, part, at_us, doubtful, acknowledged: !doubtful });
        }
        let withdrawn = |part: &Part| history.quorum.contains(&key) && is_withdrawn(part, &known, &spoken);
        let reason = |part: &Part| explains(part, &known, &spoken, &held) || withdrawn(part);
        let explained = held.iter().filter(|part| !covers(&known, part) && reason(part));
        for part in explained {
            let region = part.claim().map_or(0, |claim| claim.region);
            let part = part.clone();
            ledger.add(Accepted { key, region, lsn: 0, part, at_us: 0, doubtful: true, acknowledged: false });
        }
    }
    ledger
}

/// What an answer says to have been written, and whether it surely was.
fn told_part(one: &Spoken, spoken: &[&Spoken], held: &[Part]) -> Option<(Part, bool)> {
    let grant =
        |claim: ClaimName| spoken.iter().find_map(|other| grant_part(other).filter(|a| a.claim == claim));
    match (&one.ask, one.answer()?) {
        (Ask::Claim { .. }, Answer::Granted { .. }) => Some((Part::Attempt(grant_part(one)?), true)),
        (Ask::Renew { token, .. }, Answer::Renewed { lease_until }) => {
            Some((Part::Attempt(AttemptFact { lease_until: *lease_until, ..grant(token.claim)? }), true))
        }
        (Ask::Release { token }, Answer::Released) => {
            Some((Part::Attempt(AttemptFact { phase: Phase::Released, ..grant(token.claim)? }), true))
        }
        (
            Ask::Complete { token, bytes },
            answer @ (Answer::Completed | Answer::Contested | Answer::Superseded { .. }),
        ) => {
            // Another region may have had it already; then nothing is written here.
            let same = |o: &&OutcomeFact| o.claim == token.claim && o.bytes == *bytes;
            let stored =
                held.iter().filter_map(|part| if let Part::Outcome(o) = part { Some(o) } else { None });
            let stored: Vec<&OutcomeFact> = stored.filter(same).collect();
            let here = stored.iter().find(|o| o.region == one.region).or(stored.first());
            let other_bytes = |other: &&&Spoken| matches!(&other.ask, Ask::Complete { token: t, bytes: b } if t.claim == token.claim && b != bytes);
            let certain =
                !matches!(answer, Answer::Superseded { .. }) || !spoken.iter().any(|s| other_bytes(&s));
            let lost = || OutcomeFact {
                claim: token.claim,
                region: one.region,
                incarnation: 0,
                stamp: token.claim.stamp,
                majority: false,
                fingerprint: token.fingerprint,
                bytes: bytes.clone(),
                expires_at: token.expires_at,
            };
            let found = here.map(|outcome| (*outcome).clone());
            (found.is_some() || certain).then(|| (Part::Outcome(found.unwrap_or_else(lost)), certain))
        }
        // Whose outcome it was is not said; what was said is in nobody else's mouth.
        (Ask::Resolve { bytes: Some(bytes) }, Answer::Completed | Answer::Contested) => {
            let resolved = |part: &&Part| matches!(part, Part::Outcome(o) if o.bytes == *bytes);
            held.iter().find(resolved).map(|part| (part.clone(), true))
        }
        (Ask::Forget, Answer::Forgotten) => {
            let stored = held
                .iter()
                .filter_map(|part| if let Part::Forgotten(stamp) = part { Some(*stamp) } else { None });
            Some((Part::Forgotten(stored.max().unwrap_or(1)), true))
        }
        _ => None,
    }
}

fn grant_part(one: &Spoken) -> Option<AttemptFact> {
    let Ask::Claim { fingerprint, claimant, .. } = &one.ask else { return None };
    let Answer::Granted { claim, lease_until, expires_at } = one.answer()? else { return None };
    let (fingerprint, claimant) = (*fingerprint, claimant.clone());
    let (claim, lease_until, expires_at) = (*claim, *lease_until, *expires_at);
    Some(AttemptFact {
        claim,
        phase: Phase::Held,
        lease_until,
        abandoned_lease: 0,
        fingerprint,
        claimant,
        expires_at,
    })
}

/// A claim that was asked for and granted to nobody (S5): Asked still, or Released, whatever its caller was told.
fn is_withdrawn(part: &Part, known: &View, spoken: &[&Spoken]) -> bool {
    let Part::Attempt(attempt) = part else { return false };
    let asked = |one: &&Spoken| {
        matches!(&one.ask, Ask::Claim { fingerprint, claimant, .. }
            if *fingerprint == attempt.fingerprint && *claimant == attempt.claimant)
            && one.region == attempt.claim.region
    };
    let granted = known.claims().any(|claim| claim == attempt.claim);
    attempt.phase != Phase::Held && !granted && spoken.iter().any(asked)
}

/// Whether requests nobody was answered, or a takeover, are reason enough for `part`.
fn explains(part: &Part, known: &View, spoken: &[&Spoken], held: &[Part]) -> bool {
    let unsure = |one: &&&Spoken| matches!(one.answer(), None | Some(Answer::Unavailable { .. }));
    let mut open = spoken.iter().filter(unsure);
    match part {
        Part::Forgotten(_) => open.any(|one| one.ask == Ask::Forget),
        Part::Outcome(outcome) => open.any(|one| {
            let resolved = matches!(&one.ask, Ask::Resolve { bytes: Some(bytes) } if *bytes == outcome.bytes);
            let completed = matches!(&one.ask, Ask::Complete { bytes, .. } if *bytes == outcome.bytes);
            resolved || completed && one.token() == Some(outcome.claim)
        }),
        Part::Attempt(attempt) => {
            let told = known.attempts.iter().find(|known| known.claim == attempt.claim);
            let asked = |one: &&Spoken| {
                matches!(&one.ask, Ask::Claim { fingerprint, claimant, .. }
                    if *fingerprint == attempt.fingerprint && *claimant == attempt.claimant)
                    && one.region == attempt.claim.region
            };
            let began = told.is_some() || open.clone().any(asked);
            let of_it = |wanted: fn(&Ask) -> bool| {
                open.clone().any(|one| wanted(&one.ask) && one.token() == Some(attempt.claim))
            };
            let renewed = told.is_none_or(|told| told.lease_until >= attempt.lease_until)
                || of_it(|ask| matches!(ask, Ask::Renew { .. }));
            let released = attempt.phase != Phase::Released
                || told.is_some_and(|told| told.phase == Phase::Released)
                || of_it(|ask| matches!(ask, Ask::Release { .. }));
            let later =
                |claim: ClaimName| claim > attempt.claim && stamp_ms(claim.stamp) > attempt.lease_until;
            let taken_over = attempt.abandoned_lease == 0
                || known.claims().any(later)
                || held.iter().filter_map(Part::claim).any(later)
                || spoken.iter().filter_map(|one| one.granted()).any(|(claim, _)| later(claim))
                || spoken.iter().any(|one| one.ask == Ask::Resolve { bytes: None });
            began && renewed && released && taken_over
        }
    }
}

/// Brings outcomes of one millisecond into the order that the regions say, which cannot be seen otherwise; regions that say
/// different things are left to be found.
pub fn order_ties(finals: &mut [Final], said: &Said) {
    for end in finals {
        let Some((_, answers)) = said.iter().find(|(region, _)| *region == end.region) else { continue };
        for (view, answer) in end.views.iter_mut().zip(answers) {
            let Answer::Settled { claim, .. } = answer else { continue };
            let Some(won) = view.outcomes.iter().find(|outcome| outcome.claim == *claim).map(|won| won.stamp)
            else {
                continue;
            };
            let view = Rc::make_mut(view);
            let tied =
                view.outcomes.iter_mut().filter(|outcome| outcome.claim != *claim && outcome.stamp == won);
            tied.for_each(|outcome| outcome.stamp += 1);
        }
    }
}

/// INV-3: who has won by what a region holds is who the region says has won.
///
/// # Errors
/// The first key of which it says something else.
pub fn check_said(finals: &[Final], said: &Said, at_us: u64) -> Result<(), Violation> {
    for (end, (region, answers)) in finals.iter().zip(said) {
        for (key, (view, answer)) in end.views.iter().zip(answers).enumerate() {
            let verdict = winner(view);
            let alike = match (answer, verdict) {
                (Answer::Settled { claim, bytes }, Verdict::Settled(o)) => {
                    o.claim == *claim && o.bytes == *bytes
                }
                (Answer::Held { claim }, Verdict::Held(a)) => a.claim == *claim,
                // What is past its retention is free, and is not judged.
                (Answer::Free, _) => true,
                _ => false,
            };
            if !alike {
                let story = [
                    format!("by what r{region} holds the key is {verdict}"),
                    format!("and it says {}", answer.status()),
                ];
                let (invariant, regions) = ("INV-3", [*region].into());
                return Err(Violation {
                    invariant,
                    clause: clause::INV_3,
                    key: Some(key),
                    at_us,
                    regions,
                    story,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
