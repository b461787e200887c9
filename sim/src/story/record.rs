//! Takes down what happens, beside the trace and without a word in it.
//!
//! Off by default: then each call is one look at a `None`. It only reads what it is shown, draws from no dice and
//! schedules nothing, so a run that is recorded is the run that is not (INV-18).
//!
//! Besides the moments it follows what each region knows of each key, by the oracle's own join over what decisions wrote
//! and frames brought: so it can say which frame brought news, who held a key when in whose eyes, and how long two regions
//! ran the same operation without knowing.
//!
//! Must never: influence a run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::moment::{
    Answered, Arrived, Carry, Degree, Fate, Moment, MomentId, PartNote, PartState, Sent, What,
};
use crate::naming;
use crate::network::Fate as Passage;
use crate::oracle::ask::{Answer, Ask, Decision};
use crate::oracle::facts::{ClaimName, Key, Millis, View};
use crate::oracle::violation::Violation;
use crate::oracle::winner::{Verdict as Winner, winner};
use crate::replica::carried::{Carried, carried};
use crate::scenario::Scenario;

/// A handle to a record, or to none.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Option<Rc<RefCell<Record>>>);

/// What was taken down of one run.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Regions that ever are.
    pub sites: usize,
    /// What people call them.
    pub names: Vec<String>,
    /// Those that are there from the start.
    pub regions: usize,
    /// The keys, by number.
    pub keys: Vec<String>,
    /// Length of the first phase, virtual microseconds.
    pub storm_us: u64,
    /// Bound between wall clocks, milliseconds.
    pub max_drift_ms: u64,
    /// Regions that are not healed at the end.
    pub outside: Vec<usize>,
    /// Two regions that never see each other.
    pub severed: Option<(usize, usize)>,
    /// In order.
    pub moments: Vec<Moment>,
    /// Who held which key in whose eyes, whenever that changed.
    pub holders: Vec<Holder>,
    /// Operations that were granted twice at a time.
    pub doubles: Vec<Double>,
    /// From a part's writing to its first arrival in each other region, microseconds.
    pub staleness_us: Vec<u64>,
    /// What each region held of the violation's key when it was found; `None` while down.
    pub holdings: Vec<Option<View>>,
    /// What it was by all that was accepted anywhere.
    pub expected: Option<View>,
    numbers: BTreeMap<Vec<u8>, Key>,
    views: BTreeMap<(usize, Key), View>,
    grants: BTreeMap<Key, Vec<Grant>>,
    written: BTreeMap<(Key, PartNote), u64>,
    on_way: BTreeMap<(usize, usize, u64), Vec<(u64, MomentId)>>,
    by_bytes: BTreeMap<(usize, usize, u64), MomentId>,
    by_request: BTreeMap<u64, MomentId>,
}

/// From now on a region takes somebody for the holder of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Since when, virtual microseconds.
    pub at_us: u64,
    /// Who thinks so.
    pub site: usize,
    /// Of which key.
    pub key: Key,
    /// `free`, `held` or `settled`.
    pub state: &'static str,
    /// Whose claim.
    pub claim: Option<ClaimName>,
}

/// One operation that ran twice at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Double {
    /// Of which key.
    pub key: Key,
    /// Granted before, and unknown to who granted again.
    pub first: ClaimName,
    /// Granted then.
    pub second: ClaimName,
    /// When, virtual microseconds.
    pub began_us: u64,
    /// When and where somebody knew of both; `None`: never in this run.
    pub noticed: Option<(u64, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    claim: ClaimName,
    expires_at: Millis,
    over: bool,
}

impl Recorder {
    /// One that records if `on` says so.
    pub fn new(on: bool, scenario: &Scenario) -> Self {
        Self(on.then(|| Rc::new(RefCell::new(Record::of(scenario)))))
    }

    /// What was recorded so far; the recorder begins anew.
    pub fn take(&self) -> Option<Box<Record>> {
        self.0.as_ref().map(|record| Box::new(std::mem::take(&mut *record.borrow_mut())))
    }

    fn on(&self, tell: impl FnOnce(&mut Record)) {
        if let Some(record) = &self.0 {
            tell(&mut record.borrow_mut());
        }
    }

    /// Something happened in region `site`.
    pub fn note(&self, at_us: u64, site: usize, what: What) {
        self.on(|record| record.push(at_us, Some(site), what));
    }

    /// Something happened to all regions.
    pub fn note_all(&self, at_us: u64, what: What) {
        self.on(|record| record.push(at_us, None, what));
    }

    /// A region went down.
    pub fn crashed(&self, at_us: u64, site: usize, degree: Degree) {
        self.on(|record| {
            record.push(at_us, Some(site), What::Crashed(degree));
            if let Degree::Disk | Degree::Backup = degree {
                record.forget(at_us, site);
            }
        });
    }

    /// A frame leaves.
    pub fn sent(&self, at_us: u64, (from, to, session): (usize, usize, u64), bytes: &[u8], passage: Passage) {
        self.on(|record| record.sent(at_us, (from, to, session), bytes, passage));
    }

    /// A frame is taken in, or refused for that reason.
    pub fn arrived(
        &self,
        at_us: u64,
        (from, to): (usize, usize),
        bytes: &[u8],
        refused: Option<&dyn std::fmt::Display>,
    ) {
        self.on(|record| record.arrived(at_us, (from, to), bytes, refused.map(ToString::to_string)));
    }

    /// A request was decided.
    pub fn decided(&self, decision: &Decision, job: usize, request: u64) {
        self.on(|record| record.decided(decision, job as u64, request));
    }

    /// An answer leaves for its service.
    pub fn told(&self, at_us: u64, request: u64) {
        self.on(|record| record.patch(request, |answered| answered.told_us = Some(at_us)));
    }

    /// A service hears its answer.
    pub fn heard(&self, at_us: u64, request: u64) {
        self.on(|record| record.patch(request, |answered| answered.heard_us = Some(at_us)));
    }

    /// A region's entry, as it is.
    pub fn looked(&self, at_us: u64, site: usize, key: Key, view: &View) {
        self.on(|record| {
            if record.views.get(&(site, key)).is_none_or(|known| known != view) {
                record.know(at_us, site, key, view.clone());
            }
        });
    }

    /// The run ends with a broken invariant; what every region holds of its key, and what all accepted comes to.
    pub fn violated(&self, violation: &Violation, holdings: Vec<Option<View>>, expected: Option<View>) {
        let site = violation.regions.first().map(|region| usize::from(*region) - 1);
        self.on(|record| {
            record.push(violation.at_us, site, What::Violated);
            (record.holdings, record.expected) = (holdings, expected);
        });
    }
}

impl Record {
    /// A record of `scenario` in which nothing has happened.
    pub fn of(scenario: &Scenario) -> Self {
        let numbers = scenario.keys.iter().zip(0..).map(|(key, number)| (key.clone().into_bytes(), number));
        Self {
            sites: scenario.sites(),
            names: scenario.names.clone(),
            regions: scenario.regions,
            keys: scenario.keys.clone(),
            storm_us: scenario.storm_us,
            max_drift_ms: scenario.max_drift_ms,
            outside: (0..scenario.sites()).filter(|site| !scenario.healed().has(*site)).collect(),
            severed: scenario.severed,
            numbers: numbers.collect(),
            ..Self::default()
        }
    }

    /// What people call a region.
    pub fn region(&self, site: usize) -> String {
        naming::region(&self.names, site)
    }

    pub(super) fn push(&mut self, at_us: u64, site: Option<usize>, what: What) {
        self.moments.push(Moment { at_us, site, what });
    }

    /// When the last of it happened, virtual microseconds.
    pub fn ended_us(&self) -> u64 {
        self.moments.last().map_or(0, |last| last.at_us)
    }

    fn next_id(&self) -> MomentId {
        MomentId::try_from(self.moments.len()).unwrap_or(MomentId::MAX)
    }

    fn carries(&self, carried: &Carried) -> Vec<(Carry, View)> {
        let mut carries: Vec<(Carry, View)> = Vec::new();
        for (name, view) in &carried.entries {
            let Some(key) = self.numbers.get(name) else { continue };
            let parts = view.parts().map(|part| PartNote::of(&part)).collect();
            carries.push((Carry { key: *key, parts }, view.clone()));
        }
        for name in &carried.conflicts {
            let Some(key) = self.numbers.get(name) else { continue };
            let claim = ClaimName { stamp: 0, region: 0, incarnation: 0 };
            let parts = [PartNote { state: PartState::Conflict, claim, region: 0 }].into();
            carries.push((Carry { key: *key, parts }, View::default()));
        }
        carries
    }

    /// What a region would know of a key if it knew this, too; `None` if it does already.
    fn learnt(&self, site: usize, key: Key, news: &View) -> Option<View> {
        let known = self.views.get(&(site, key));
        let mut after = known.cloned().unwrap_or_default();
        news.parts().for_each(|part| after.add(&part));
        let after = after.sorted();
        (known != Some(&after) && !after.is_empty()).then_some(after)
    }

    fn sent(&mut self, at_us: u64, (from, to, session): (usize, usize, u64), bytes: &[u8], passage: Passage) {
        let (id, contents, hash) = (self.next_id(), carried(from, bytes), hash(bytes));
        let carries = self.carries(&contents);
        let wanted = carries.iter().any(|(carry, view)| self.learnt(to, carry.key, view).is_some());
        let (fate, due_us) = match passage {
            Passage::Cut => (Fate::Cut, 0),
            Passage::Lost | Passage::Overflowed => (Fate::Lost, 0),
            Passage::Arrives(delay_us, second_us) => {
                for delay_us in [Some(delay_us), second_us].into_iter().flatten() {
                    self.on_way.entry((from, to, at_us + delay_us)).or_default().push((hash, id));
                }
                self.by_bytes.insert((from, to, hash), id);
                (Fate::Arrives, at_us + delay_us)
            }
        };
        let carries = carries.into_iter().map(|(carry, _)| carry).collect();
        let (kind, bytes, arrivals) = (contents.kind, bytes.len() as u32, Vec::new());
        let sent = Sent { to, session, kind, bytes, fate, due_us, carries, wanted, arrivals };
        self.push(at_us, Some(from), What::Sent(Box::new(sent)));
    }

    fn arrived(&mut self, at_us: u64, (from, to): (usize, usize), bytes: &[u8], refused: Option<String>) {
        let (id, hash) = (self.next_id(), hash(bytes));
        let waiting = self.on_way.get_mut(&(from, to, at_us));
        let found = waiting.and_then(|frames| {
            let place = frames.iter().position(|(known, _)| *known == hash)?;
            Some(frames.remove(place).1)
        });
        let sent = found.or_else(|| self.by_bytes.get(&(from, to, hash)).copied());
        let mut again = found.is_none();
        if let Some(What::Sent(frame)) =
            sent.and_then(|sent| self.moments.get_mut(sent as usize)).map(|m| &mut m.what)
        {
            again |= !frame.arrivals.is_empty();
            frame.arrivals.push(id);
        }
        let mut news = Vec::new();
        if refused.is_none() {
            for (carry, view) in self.carries(&carried(from, bytes)) {
                let key = carry.key;
                let Some(after) = self.learnt(to, key, &view) else { continue };
                let before = self.views.get(&(to, key)).cloned().unwrap_or_default();
                let fresh = Carry { key, parts: PartNote::new_in(&after, &before) };
                self.age(at_us, &fresh);
                self.know(at_us, to, key, after);
                news.push(fresh);
            }
        }
        let arrived = Arrived { from, sent, again, refused, news: news.into() };
        self.push(at_us, Some(to), What::Arrived(Box::new(arrived)));
    }

    /// How old are the parts that a region has just heard of first?
    fn age(&mut self, at_us: u64, carry: &Carry) {
        let written = carry.parts.iter().filter_map(|part| self.written.get(&(carry.key, *part)));
        if let Some(newest_us) = written.max() {
            self.staleness_us.push(at_us.saturating_sub(*newest_us));
        }
    }

    /// A region knows this of a key from now on.
    fn know(&mut self, at_us: u64, site: usize, key: Key, view: View) {
        let (state, claim) = match winner(&view) {
            Winner::Free => ("free", None),
            Winner::Held(attempt) => ("held", Some(attempt.claim)),
            Winner::Settled(outcome) => ("settled", Some(outcome.claim)),
        };
        let before = self.views.get(&(site, key)).map_or(("free", None), holder_of);
        if before != (state, claim) {
            self.holders.push(Holder { at_us, site, key, state, claim });
        }
        let both = |double: &&mut Double| {
            double.key == key
                && double.noticed.is_none()
                && view.claims().any(|claim| claim == double.first)
                && view.claims().any(|claim| claim == double.second)
        };
        self.doubles.iter_mut().filter(both).for_each(|double| double.noticed = Some((at_us, site)));
        self.views.insert((site, key), view);
    }

    /// A region has lost its disk.
    fn forget(&mut self, at_us: u64, site: usize) {
        for key in 0..self.keys.len() {
            if self.views.contains_key(&(site, key)) {
                self.know(at_us, site, key, View::default());
            }
        }
    }

    fn decided(&mut self, decision: &Decision, job: u64, request: u64) {
        let Decision { key, at_us, now, ask, answer, before, after, .. } = decision;
        let (site, key) = (usize::from(decision.region) - 1, *key);
        let wrote = PartNote::new_in(after, before);
        for part in &wrote {
            self.written.entry((key, *part)).or_insert(*at_us);
        }
        let mut unseen = Vec::new();
        if let Answer::Granted { claim, expires_at, .. } = answer
            && before.claims().all(|known| known != *claim)
        {
            unseen = self.grant(
                key,
                *at_us,
                Grant { claim: *claim, expires_at: *expires_at, over: false },
                before,
                *now,
            );
        }
        if let (Ask::Release { token }, Answer::Released) = (ask, answer) {
            let grants = self.grants.entry(key).or_default().iter_mut();
            grants.filter(|grant| grant.claim == token.claim).for_each(|grant| grant.over = true);
        }
        let answered = Answered {
            job,
            request,
            key,
            ask: ask_word(ask),
            claim: claim_of(ask, answer),
            answer: answer.status(),
            reason: reason_of(answer),
            now_ms: *now,
            lease_until_ms: lease_of(answer),
            wrote,
            unseen: unseen.into(),
            told_us: None,
            heard_us: None,
        };
        self.by_request.insert(request, self.next_id());
        self.push(*at_us, Some(site), What::Answered(Box::new(answered)));
        self.know(*at_us, site, key, View::clone(after));
    }

    /// A key is granted: which claims of others ran that this region did not know of?
    fn grant(&mut self, key: Key, at_us: u64, grant: Grant, before: &View, now: Millis) -> Vec<ClaimName> {
        let grants = self.grants.entry(key).or_default();
        let unseen = |other: &&Grant| {
            !other.over
                && other.claim.region != grant.claim.region
                && other.expires_at > now
                && other.claim.stamp > before.forgotten
                && before.claims().all(|known| known != other.claim)
        };
        let unseen: Vec<ClaimName> = grants.iter().filter(unseen).map(|other| other.claim).collect();
        grants.push(grant);
        let double = |first: &ClaimName| Double {
            key,
            first: *first,
            second: grant.claim,
            began_us: at_us,
            noticed: None,
        };
        self.doubles.extend(unseen.iter().map(double));
        unseen
    }

    fn patch(&mut self, request: u64, change: impl FnOnce(&mut Answered)) {
        let id = self.by_request.get(&request);
        if let Some(What::Answered(answered)) =
            id.and_then(|id| self.moments.get_mut(*id as usize)).map(|m| &mut m.what)
        {
            change(answered);
        }
    }
}

fn holder_of(view: &View) -> (&'static str, Option<ClaimName>) {
    match winner(view) {
        Winner::Free => ("free", None),
        Winner::Held(attempt) => ("held", Some(attempt.claim)),
        Winner::Settled(outcome) => ("settled", Some(outcome.claim)),
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}

const fn ask_word(ask: &Ask) -> &'static str {
    match ask {
        Ask::Claim { .. } => "CLAIM",
        Ask::Complete { .. } => "COMPLETE",
        Ask::Renew { .. } => "RENEW",
        Ask::Release { .. } => "RELEASE",
        Ask::Get => "GET",
        Ask::Forget => "FORGET",
        Ask::Resolve { .. } => "RESOLVE",
    }
}

const fn claim_of(ask: &Ask, answer: &Answer) -> Option<ClaimName> {
    match (ask, answer) {
        (_, Answer::Granted { claim, .. } | Answer::Replay { claim, .. } | Answer::Settled { claim, .. })
        | (_, Answer::Held { claim }) => Some(*claim),
        (Ask::Complete { token, .. } | Ask::Renew { token, .. } | Ask::Release { token }, _) => {
            Some(token.claim)
        }
        _ => None,
    }
}

fn reason_of(answer: &Answer) -> Option<String> {
    match answer {
        Answer::Unavailable { reason } | Answer::Stale { reason } => Some(reason.clone()),
        _ => None,
    }
}

const fn lease_of(answer: &Answer) -> Option<u64> {
    match answer {
        Answer::Granted { lease_until, .. } | Answer::Renewed { lease_until } => Some(*lease_until),
        _ => None,
    }
}
