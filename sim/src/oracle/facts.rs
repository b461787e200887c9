//! What happened, as plain data: the oracle's own vocabulary, which shares no type with `crdt`.
//!
//! An oracle that used the product's types would inherit the product's mistakes: a wrong ordering of
//! claim ids would be wrong on both sides and nobody would notice. So everything here is integers and
//! bytes, and one adapter file turns real entries into these (S3, S10).
//!
//! Must never: import anything from `crdt`.

/// Unix milliseconds or a length of time in milliseconds.
pub type Millis = u64;
/// Index of a key in the run's list of keys.
pub type Key = usize;
/// A region's number.
pub type Region = u16;
/// A position in one region's log.
pub type Lsn = u64;

/// The milliseconds of a 64-bit stamp: 48 bits of them above 16 bits of a counter (S2).
pub const fn stamp_ms(stamp: u64) -> Millis {
    stamp >> 16
}

/// Names one claim (S1). The derived order is stamp, then region, then incarnation: the tie-break of
/// S3, and the reason why the fields stand in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClaimName {
    /// The fencing token.
    pub stamp: u64,
    /// Where it was claimed.
    pub region: Region,
    /// In which life of that region's data.
    pub incarnation: u32,
}

impl std::fmt::Display for ClaimName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}@r{}.{}", stamp_ms(self.stamp), self.stamp & 0xffff, self.region, self.incarnation)
    }
}

/// How far an attempt came: it only ever moves to the right (S3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Asked of a majority, granted to nobody.
    Asked,
    /// Granted.
    Held,
    /// Given back by its holder.
    Released,
}

/// One attempt register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttemptFact {
    /// Whose.
    pub claim: ClaimName,
    /// How far it came.
    pub phase: Phase,
    /// Its holder may be silent until then, Unix ms.
    pub lease_until: Millis,
    /// The lease that a takeover saw; 0 where there was none.
    pub abandoned_lease: Millis,
    /// Digest of the payload.
    pub fingerprint: Option<[u8; 16]>,
    /// The caller's own name for itself; empty equals nobody.
    pub claimant: Vec<u8>,
    /// Retention ends then, Unix ms.
    pub expires_at: Millis,
}

/// One outcome register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutcomeFact {
    /// Which claim was completed.
    pub claim: ClaimName,
    /// Where it was completed.
    pub region: Region,
    /// In which life of that region.
    pub incarnation: u32,
    /// When it was completed: the order between outcomes.
    pub stamp: u64,
    /// A majority holds it.
    pub majority: bool,
    /// Digest of the claim's payload.
    pub fingerprint: Option<[u8; 16]>,
    /// What is replayed.
    pub bytes: Vec<u8>,
    /// The claim's expiry, Unix ms.
    pub expires_at: Millis,
}

impl OutcomeFact {
    /// The register this outcome is written in: once.
    pub const fn slot(&self) -> (ClaimName, Region, u32) {
        (self.claim, self.region, self.incarnation)
    }
}

/// One part of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// A claim's register.
    Attempt(AttemptFact),
    /// A completion's register.
    Outcome(OutcomeFact),
    /// Everything claimed up to this stamp is void.
    Forgotten(u64),
}

impl Part {
    /// The claim it belongs to, if any.
    pub const fn claim(&self) -> Option<ClaimName> {
        match self {
            Self::Attempt(attempt) => Some(attempt.claim),
            Self::Outcome(outcome) => Some(outcome.claim),
            Self::Forgotten(_) => None,
        }
    }

    /// When its retention ends; a FORGET outlives every run.
    pub const fn expires_at(&self) -> Millis {
        match self {
            Self::Attempt(attempt) => attempt.expires_at,
            Self::Outcome(outcome) => outcome.expires_at,
            Self::Forgotten(_) => Millis::MAX,
        }
    }
}

/// All parts of one key as one region holds them, or as they were accepted anywhere.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// Attempts, one a (region, incarnation).
    pub attempts: Vec<AttemptFact>,
    /// Outcomes, one a (claim, completing region, incarnation).
    pub outcomes: Vec<OutcomeFact>,
    /// The newest FORGET's stamp; 0 where there was none.
    pub forgotten: u64,
}

impl View {
    /// Nothing is known of the key.
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty() && self.outcomes.is_empty() && self.forgotten == 0
    }

    /// Every claim that an attempt or an outcome names, with repetitions.
    pub fn claims(&self) -> impl Iterator<Item = ClaimName> + '_ {
        self.attempts.iter().map(|a| a.claim).chain(self.outcomes.iter().map(|o| o.claim))
    }

    /// When each attempt and outcome expires.
    pub fn expiries(&self) -> impl Iterator<Item = Millis> + '_ {
        self.attempts.iter().map(|a| a.expires_at).chain(self.outcomes.iter().map(|o| o.expires_at))
    }

    /// Adds one part by S3's rule: registers by slot, the greater claim stamp stays, within a claim
    /// everything grows. Written out naively: this is the model, not the product.
    pub fn add(&mut self, part: &Part) {
        match part {
            Part::Forgotten(stamp) => self.forgotten = self.forgotten.max(*stamp),
            Part::Outcome(outcome) => match self.outcomes.iter_mut().find(|o| o.slot() == outcome.slot()) {
                Some(stored) => stored.majority |= outcome.majority,
                None => self.outcomes.push(outcome.clone()),
            },
            Part::Attempt(new) => {
                let slot = |a: &AttemptFact| (a.claim.region, a.claim.incarnation);
                match self.attempts.iter_mut().find(|a| slot(a) == slot(new)) {
                    None => self.attempts.push(new.clone()),
                    Some(stored) if stored.claim.stamp < new.claim.stamp => *stored = new.clone(),
                    Some(stored) if stored.claim.stamp > new.claim.stamp => {}
                    Some(stored) => {
                        stored.phase = stored.phase.max(new.phase);
                        stored.lease_until = stored.lease_until.max(new.lease_until);
                        stored.abandoned_lease = stored.abandoned_lease.max(new.abandoned_lease);
                    }
                }
            }
        }
    }

    /// The parts, one by one.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let forgotten = (self.forgotten != 0).then_some(Part::Forgotten(self.forgotten));
        let attempts = self.attempts.iter().cloned().map(Part::Attempt);
        attempts.chain(self.outcomes.iter().cloned().map(Part::Outcome)).chain(forgotten)
    }

    /// Without the outcomes that are void or superseded: they take no part in the winner, their losers
    /// are listed apart from the entry, and a region need not keep them.
    pub fn pruned(&self) -> Self {
        let counts = |o: &&OutcomeFact| super::winner::counts(self, o.claim, o.expires_at);
        Self { outcomes: self.outcomes.iter().filter(counts).cloned().collect(), ..self.clone() }
    }

    /// The same parts in one order, so that views compare.
    pub fn sorted(mut self) -> Self {
        self.attempts.sort_by_key(|a| a.claim);
        self.outcomes.sort_by_key(OutcomeFact::slot);
        self
    }
}
