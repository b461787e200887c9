//! The moments of a run, typed: what a story is made of.
//!
//! Plain data: numbers of regions and keys, the oracle's names for claims, words that are known when compiling. Two
//! runs are compared moment by moment, so everything here is the same for the same seed.
//!
//! Must never: hold anything that differs between two runs of one seed.

use crate::oracle::facts::{ClaimName, Key, Part, Phase, View};
use crate::oracle::winner::is_abandoned;

/// A moment's number: its place in the record.
pub type MomentId = u32;

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Virtual microseconds since the start.
    pub at_us: u64,
    /// Where, by index; `None` for what concerns all.
    pub site: Option<usize>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A frame left.
    Sent(Box<Sent>),
    /// A frame was taken in, or refused.
    Arrived(Box<Arrived>),
    /// A request was decided.
    Answered(Box<Answered>),
    /// A duplicate waits for its key to change.
    Parked {
        /// Whose.
        job: u64,
        /// Which key.
        key: Key,
        /// The request's number.
        request: u64,
    },
    /// Two regions begin a session.
    Connected {
        /// The other one.
        peer: usize,
    },
    /// A region learns that a session is up.
    Up {
        /// With whom.
        peer: usize,
    },
    /// A region learns that a session is over.
    Down {
        /// With whom.
        peer: usize,
    },
    /// A session breaks.
    Broke {
        /// With whom.
        peer: usize,
    },
    /// The disk has the log up to here.
    Durable {
        /// The last record.
        lsn: u64,
    },
    /// A region goes down.
    Crashed(Degree),
    /// A region starts.
    Started {
        /// In which life of its data.
        incarnation: u32,
        /// In which run of its log.
        epoch: u32,
    },
    /// A region stands still.
    Paused,
    /// It goes on.
    Resumed,
    /// Its data was copied.
    BackedUp,
    /// It runs another version from now on.
    Upgraded {
        /// Counted from that of the run's beginning.
        version: u32,
    },
    /// A start finds damage that was not to be there, and begins empty.
    Refused,
    /// A region is stopped for good.
    Retired,
    /// A region that did not belong is started.
    Joined,
    /// A region takes up a change of membership.
    Member {
        /// How many it has by now.
        step: usize,
    },
    /// A wall clock is set anew.
    Clock {
        /// By so much.
        change_ms: i64,
    },
    /// Something is done to a disk.
    Disk {
        /// What, in words.
        trouble: &'static str,
        /// How much; see the word.
        amount: u64,
    },
    /// Nothing passes to a peer any more.
    Cut {
        /// To whom.
        to: usize,
    },
    /// One reason less for nothing to pass.
    Mended {
        /// To whom.
        to: usize,
    },
    /// All faults end, and nobody asks any more.
    Healed {
        /// The keys that regions knew differently just before.
        apart: Box<[Key]>,
    },
    /// All regions are alike, and the oracle has nothing to say.
    Agreed,
    /// An invariant is found broken.
    Violated,
}

/// How much goes down with a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Degree {
    /// The process.
    Process,
    /// The machine.
    Power,
    /// The machine and its disk.
    Disk,
    /// The process; it comes back with an old copy of its data.
    Backup,
}

/// A frame that left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// To whom.
    pub to: usize,
    /// Of which session.
    pub session: u64,
    /// What kind of frame, in one word.
    pub kind: &'static str,
    /// Its size.
    pub bytes: u32,
    /// What becomes of it on its way.
    pub fate: Fate,
    /// When it is to arrive, virtual microseconds; 0 if it never will.
    pub due_us: u64,
    /// What it says of which keys.
    pub carries: Box<[Carry]>,
    /// It carries what the other did not know when it left.
    pub wanted: bool,
    /// Where it was taken in: never, once, or more often.
    pub arrivals: Vec<MomentId>,
}

/// What becomes of a frame on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It arrives.
    Arrives,
    /// The weather takes it.
    Lost,
    /// It runs into a cut.
    Cut,
}

/// A frame that was taken in, or refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// From whom.
    pub from: usize,
    /// When it left.
    pub sent: Option<MomentId>,
    /// It is of a session that is over, or comes for a second time.
    pub again: bool,
    /// Why it was refused.
    pub refused: Option<String>,
    /// What the region had not known.
    pub news: Box<[Carry]>,
}

/// What is said of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carry {
    /// Which key.
    pub key: Key,
    /// What.
    pub parts: Box<[PartNote]>,
}

/// One part of an entry, in short.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PartNote {
    /// How it stands.
    pub state: PartState,
    /// Of which claim; of no meaning for [`PartState::Forgotten`] but its stamp.
    pub claim: ClaimName,
    /// Where it was written.
    pub region: u16,
}

/// How a part stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PartState {
    /// Asked of a majority.
    Asked,
    /// Granted.
    Held,
    /// Its lease was made longer.
    Renewed,
    /// Taken over by another.
    Abandoned,
    /// Given back.
    Released,
    /// Done.
    Completed,
    /// A double execution is listed.
    Conflict,
    /// Erased.
    Forgotten,
}

impl PartState {
    /// What is said of a claim.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Asked => "asks a majority",
            Self::Held => "is held",
            Self::Renewed => "is renewed",
            Self::Abandoned => "is taken over",
            Self::Released => "is released",
            Self::Completed => "is completed",
            Self::Conflict => "is listed as a conflict",
            Self::Forgotten => "is forgotten",
        }
    }
}

impl PartNote {
    /// What is in one view and not in another, in short.
    pub fn new_in(after: &View, before: &View) -> Box<[Self]> {
        let old: Vec<Part> = before.parts().collect();
        let note = |part: Part| {
            let note = Self::of(&part);
            let known = old.iter().any(|old| Self::of(old) == note);
            let longer = known && note.state == PartState::Held;
            if longer { Self { state: PartState::Renewed, ..note } } else { note }
        };
        after.parts().filter(|part| !old.contains(part)).map(note).collect()
    }

    /// A part in short.
    pub const fn of(part: &Part) -> Self {
        match part {
            Part::Attempt(attempt) => {
                let state = match attempt.phase {
                    Phase::Asked => PartState::Asked,
                    Phase::Released => PartState::Released,
                    Phase::Held if is_abandoned(attempt) => PartState::Abandoned,
                    Phase::Held => PartState::Held,
                };
                Self { state, claim: attempt.claim, region: attempt.claim.region }
            }
            Part::Outcome(outcome) => {
                Self { state: PartState::Completed, claim: outcome.claim, region: outcome.region }
            }
            Part::Forgotten(stamp) => {
                let claim = ClaimName { stamp: *stamp, region: 0, incarnation: 0 };
                Self { state: PartState::Forgotten, claim, region: 0 }
            }
        }
    }
}

/// A request that was decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    /// Whose.
    pub job: u64,
    /// The request's number.
    pub request: u64,
    /// Which key.
    pub key: Key,
    /// What was asked, in one word.
    pub ask: &'static str,
    /// The claim that the request presents or the answer names.
    pub claim: Option<ClaimName>,
    /// The answer's word.
    pub answer: &'static str,
    /// Why, where the answer says so.
    pub reason: Option<String>,
    /// The region's `now`, Unix ms.
    pub now_ms: u64,
    /// What the answer says of a lease, Unix ms.
    pub lease_until_ms: Option<u64>,
    /// What it wrote.
    pub wrote: Box<[PartNote]>,
    /// Claims of other regions that ran then, of which this one did not know.
    pub unseen: Box<[ClaimName]>,
    /// When the answer left, being durable enough; `None` if it never did.
    pub told_us: Option<u64>,
    /// When its service heard it; `None` if it was lost or nobody listened any more.
    pub heard_us: Option<u64>,
}

impl Sent {
    /// Whether it was still on its way when the run ended.
    pub const fn is_on_way(&self, ended_us: u64) -> bool {
        self.arrivals.is_empty() && self.due_us >= ended_us
    }
}

impl Moment {
    /// Whether it is about a key.
    pub fn concerns(&self, key: Key) -> bool {
        match &self.what {
            What::Sent(sent) => sent.carries.iter().any(|carry| carry.key == key),
            What::Answered(answered) => answered.key == key,
            What::Parked { key: parked, .. } => *parked == key,
            What::Arrived(arrived) => arrived.news.iter().any(|carry| carry.key == key),
            _ => false,
        }
    }

    /// What kind of moment, in one word; the `what` of `report.json`.
    pub const fn word(&self) -> &'static str {
        match &self.what {
            What::Sent(_) => "sent",
            What::Arrived(_) => "arrived",
            What::Answered(_) => "answered",
            What::Parked { .. } => "parked",
            What::Connected { .. } => "connected",
            What::Up { .. } => "up",
            What::Down { .. } => "down",
            What::Broke { .. } => "broke",
            What::Durable { .. } => "durable",
            What::Crashed(_) => "crashed",
            What::Started { .. } => "started",
            What::Paused => "paused",
            What::Resumed => "resumed",
            What::BackedUp => "backed up",
            What::Upgraded { .. } => "upgraded",
            What::Refused => "refused",
            What::Retired => "retired",
            What::Joined => "joined",
            What::Member { .. } => "member",
            What::Clock { .. } => "clock",
            What::Disk { .. } => "disk",
            What::Cut { .. } => "cut",
            What::Mended { .. } => "mended",
            What::Healed { .. } => "healed",
            What::Agreed => "agreed",
            What::Violated => "violated",
        }
    }
}

impl What {
    /// So many bytes may be used of a disk from now on, or as many as it has.
    pub fn room(bytes: Option<usize>) -> Self {
        match bytes {
            Some(bytes) => Self::Disk { trouble: "full", amount: bytes as u64 },
            None => Self::Disk { trouble: "roomy", amount: 0 },
        }
    }
}
