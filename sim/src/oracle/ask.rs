//! Requests and answers as plain data, and one decision as the oracle is told of it.
//!
//! Must never: import anything from `crdt`; the adapter fills these in.

use std::rc::Rc;

use super::facts::{ClaimName, Key, Lsn, Millis, Region, View};
use super::violation::Violation;

/// What a holder presents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenFact {
    /// Whose.
    pub claim: ClaimName,
    /// The claim's payload.
    pub fingerprint: Option<[u8; 16]>,
    /// The claim's retention, Unix ms.
    pub expires_at: Millis,
    /// The token's bytes were tampered with: its tag cannot verify.
    pub forged: bool,
}

/// One request (S4.1 to S4.7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// S4.1.
    Claim {
        /// Digest of the payload.
        fingerprint: Option<[u8; 16]>,
        /// Empty equals nobody.
        claimant: Vec<u8>,
        /// Milliseconds.
        lease: Millis,
        /// Milliseconds.
        retention: Millis,
        /// How long a duplicate may park, milliseconds.
        wait: Millis,
    },
    /// S4.2.
    Complete {
        /// Whose claim.
        token: TokenFact,
        /// The outcome.
        bytes: Vec<u8>,
    },
    /// S4.3.
    Renew {
        /// Whose claim.
        token: TokenFact,
        /// Milliseconds from now.
        lease: Millis,
    },
    /// S4.4.
    Release {
        /// Whose claim.
        token: TokenFact,
    },
    /// S4.5.
    Get,
    /// S4.6.
    Forget,
    /// S4.7: done with this result, or, without one, without effect.
    Resolve {
        /// The outcome.
        bytes: Option<Vec<u8>>,
    },
}

impl Ask {
    /// The request in a few words.
    pub fn words(&self) -> String {
        match self {
            Self::Claim { .. } => "CLAIM".to_owned(),
            Self::Complete { token, .. } => format!("COMPLETE of {}", token.claim),
            Self::Renew { token, .. } => format!("RENEW of {}", token.claim),
            Self::Release { token } => format!("RELEASE of {}", token.claim),
            Self::Get => "GET".to_owned(),
            Self::Forget => "FORGET".to_owned(),
            Self::Resolve { bytes: Some(_) } => "RESOLVE complete".to_owned(),
            Self::Resolve { bytes: None } => "RESOLVE release".to_owned(),
        }
    }
}

/// One answer; the names are those of SEMANTICS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// S4.1, new or again.
    Granted {
        /// The claim.
        claim: ClaimName,
        /// Unix ms.
        lease_until: Millis,
        /// Unix ms.
        expires_at: Millis,
    },
    /// S4.1.
    Replay {
        /// The recorded outcome.
        bytes: Vec<u8>,
        /// The completed claim.
        claim: ClaimName,
    },
    /// S4.1.
    InProgress,
    /// S4.1.
    Mismatch,
    /// S4.1.
    Unknown,
    /// S4.1.
    Expired,
    /// Any.
    Unavailable {
        /// The reason's word.
        reason: String,
    },
    /// S4.2.
    Completed,
    /// S4.2.
    Contested,
    /// S4.2 to S4.4.
    Superseded {
        /// The winner's outcome where it may be shown.
        bytes: Option<Vec<u8>>,
    },
    /// S4.2 to S4.4.
    Stale {
        /// The reason's word: `bad_tag`, `expired` or `forgotten`.
        reason: String,
    },
    /// S4.3.
    Renewed {
        /// Unix ms.
        lease_until: Millis,
    },
    /// S4.4.
    Released,
    /// S4.5.
    Settled {
        /// The recorded outcome.
        bytes: Vec<u8>,
        /// The completed claim.
        claim: ClaimName,
    },
    /// S4.5.
    Held {
        /// The holder.
        claim: ClaimName,
    },
    /// S4.5.
    Free,
    /// S4.6.
    Forgotten,
    /// S5: nobody is told anything; a majority, or the home, is asked first.
    Asks,
}

impl Answer {
    /// The status word.
    pub const fn status(&self) -> &'static str {
        match self {
            Self::Granted { .. } => "GRANTED",
            Self::Replay { .. } => "REPLAY",
            Self::InProgress => "IN_PROGRESS",
            Self::Mismatch => "MISMATCH",
            Self::Unknown => "UNKNOWN",
            Self::Expired => "EXPIRED",
            Self::Unavailable { .. } => "UNAVAILABLE",
            Self::Completed => "COMPLETED",
            Self::Contested => "CONTESTED",
            Self::Superseded { .. } => "SUPERSEDED",
            Self::Stale { .. } => "STALE",
            Self::Renewed { .. } => "RENEWED",
            Self::Released => "RELEASED",
            Self::Settled { .. } => "SETTLED",
            Self::Held { .. } => "HELD",
            Self::Free => "FREE",
            Self::Forgotten => "FORGOTTEN",
            Self::Asks => "ASKS",
        }
    }
}

/// How a decision stands to the home of its key (S5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByHome {
    /// Its namespace is not decided by homes.
    Not,
    /// It was decided by the home, or, of a holder, by the region of its claim.
    Here,
    /// The home has decided, and another region tells it.
    Relayed,
    /// Another region has decided something, or asks.
    Elsewhere,
    /// Anybody may decide: the policy falls back, or the region is about to leave.
    FallsBack,
}

/// One decision: a request, its answer, and the region's entry on both sides of it.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Where.
    pub region: Region,
    /// In which life of the region.
    pub incarnation: u32,
    /// On which key.
    pub key: Key,
    /// Virtual microseconds.
    pub at_us: u64,
    /// The region's `now` (S2), Unix ms.
    pub now: Millis,
    /// The latest time by which the region may have dropped the dead, Unix ms.
    pub dead_by: Millis,
    /// The region trusts its clock.
    pub trusted: bool,
    /// The request.
    pub ask: Ask,
    /// The answer, decided and perhaps not yet told.
    pub answer: Answer,
    /// The entry as the decision found it.
    pub before: Rc<View>,
    /// The entry as the decision left it.
    pub after: Rc<View>,
    /// The end of the region's log before the decision.
    pub lsn_before: Lsn,
    /// And after it.
    pub lsn_after: Lsn,
    /// The answer waits for the disk and not only for the kernel.
    pub durable: bool,
    /// Its namespace is decided by majorities (S5).
    pub quorum: bool,
    /// Regions' wall clocks differ by more than `max_drift` now: leases promise nothing (INV-6).
    pub apart: bool,
    /// How it stands to the home of its key.
    pub by_home: ByHome,
}

impl Decision {
    /// Others may have to be asked before anybody is told anything.
    pub fn may_ask(&self) -> bool {
        self.quorum || self.by_home != ByHome::Not
    }

    /// A violation noticed at this decision.
    pub fn violation(&self, invariant: &'static str, text: &'static str, story: [String; 2]) -> Violation {
        let (key, regions) = (Some(self.key), [self.region].into());
        Violation { invariant, clause: text, key, at_us: self.at_us, regions, story }
    }

    /// The decision in a few words.
    pub fn words(&self) -> String {
        let ask = self.ask.words();
        format!("r{} answered {ask} with {} at now={}", self.region, self.answer.status(), self.now)
    }
}
