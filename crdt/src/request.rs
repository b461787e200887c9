//! What services ask and what they are told (S4): plain borrowed values between the socket's codec
//! and the decisions.
//!
//! Statuses are exactly SEMANTICS' words ([`Reply::status`]). A request that is malformed never
//! becomes a decision: [`Request::check`] names the bound it breaks.

use serde::{Deserialize, Serialize};

use crate::entry::{Attempt, Outcome};
use crate::hlc::Stamp;
use crate::ids::{ClaimId, Fingerprint, RegionId};
use crate::limits;
use crate::policy::{Level, Policy};
use crate::token::Token;

/// A claim's wishes (S4.1); what is `None` is the namespace's to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claim<'a> {
    /// The operation.
    pub key: &'a [u8],
    /// Digest of the payload.
    pub fingerprint: Option<Fingerprint>,
    /// The caller's own id; empty: none.
    pub claimant: &'a [u8],
    /// Bytes for others to read.
    pub note: &'a [u8],
    /// How long the holder may be silent, in milliseconds.
    pub lease_ms: Option<u64>,
    /// How long the key is remembered, in milliseconds.
    pub retention_ms: Option<u64>,
    /// The least level.
    pub level: Option<Level>,
    /// How long a duplicate may park, in milliseconds; 0: not at all.
    pub wait_ms: u64,
    /// Raises durability to `always` for this request (S6).
    pub durable: bool,
}

/// One operation on one key.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// S4.1
    Claim(Claim<'a>),
    /// S4.2
    Complete {
        /// The operation.
        key: &'a [u8],
        /// What the claim was answered.
        token: Token,
        /// What duplicates will be answered.
        outcome: &'a [u8],
        /// The least level: at `quorum`, a majority is to hold it.
        level: Option<Level>,
        /// Raises durability.
        durable: bool,
    },
    /// S4.3
    Renew {
        /// The operation.
        key: &'a [u8],
        /// What the claim was answered.
        token: Token,
        /// The new lease from now, in milliseconds; `None`: the policy's.
        lease_ms: Option<u64>,
        /// The least level: at `quorum`, a majority is to know of the longer lease.
        level: Option<Level>,
        /// Raises durability.
        durable: bool,
    },
    /// S4.4
    Release {
        /// The operation.
        key: &'a [u8],
        /// What the claim was answered.
        token: Token,
        /// At `home`, the region of the claim is asked.
        level: Option<Level>,
        /// Raises durability.
        durable: bool,
    },
    /// S4.5
    Get {
        /// The operation.
        key: &'a [u8],
    },
    /// S4.6
    Forget {
        /// The operation.
        key: &'a [u8],
    },
    /// S4.7
    Resolve {
        /// The operation.
        key: &'a [u8],
        /// What became of it.
        how: Resolution<'a>,
    },
}

/// What became of an operation whose holder fell silent (S4.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution<'a> {
    /// It was done, with this result.
    Complete(&'a [u8]),
    /// It had no effect: the key is free again.
    Release,
}

/// Why a request cannot be decided. Nothing was changed; the text says what to send instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadRequest {
    /// S1: 1..=512 bytes.
    #[error("a key has 1 to {max} bytes; this one has {0}", max = limits::KEY_BYTES_MAX)]
    Key(usize),
    /// S1: up to 64 bytes.
    #[error("a claimant id has at most {max} bytes; this one has {0}", max = limits::CLAIMANT_BYTES_MAX)]
    Claimant(usize),
    /// Notes are for people and small values.
    #[error("a note has at most {max} bytes; this one has {0}", max = limits::NOTE_BYTES_MAX)]
    Note(usize),
    /// S8: 1 s..=90 d.
    #[error("retention is 1000 ms to 7776000000 ms (90 days); {0} was asked")]
    Retention(u64),
    /// S1: retention > lease + 2 x max_drift.
    #[error(
        "retention ({retention} ms) must exceed lease ({lease} ms) by more than {margin} ms, twice the \
         clock drift bound: ask a shorter LEASE or a longer RETENTION"
    )]
    RetentionTooShort {
        /// Asked or by policy, in milliseconds.
        retention: u64,
        /// Asked or by policy, in milliseconds.
        lease: u64,
        /// 2 x max_drift, in milliseconds.
        margin: u64,
    },
    /// A lease of nothing is no lease.
    #[error("a lease has at least 1 ms")]
    Lease,
    /// S8: larger outcomes are refused whole.
    #[error(
        "the outcome has {size} bytes, this namespace takes at most {limit} (max_outcome): nothing was stored"
    )]
    Outcome {
        /// Bytes sent.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// S4.9: the namespace accepts issued keys only.
    #[error(
        "this namespace takes issued keys only (keys = \"issued\"): ask TOKEN and its name for one, and claim \
         exactly what is answered"
    )]
    NotIssued,
    /// Waiting for ever is a leak.
    #[error("WAIT is at most {max} ms; {0} was asked", max = limits::WAIT_MS_MAX)]
    Wait(u64),
}

impl<'a> Request<'a> {
    /// The key it is about.
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Self::Claim(Claim { key, .. })
            | Self::Complete { key, .. }
            | Self::Renew { key, .. }
            | Self::Release { key, .. }
            | Self::Get { key }
            | Self::Forget { key }
            | Self::Resolve { key, .. } => key,
        }
    }

    /// The claim's token that it shows, if it is a holder's request.
    pub fn token(&self) -> Option<&Token> {
        match self {
            Self::Complete { token, .. } | Self::Renew { token, .. } | Self::Release { token, .. } => {
                Some(token)
            }
            Self::Claim(_) | Self::Get { .. } | Self::Forget { .. } | Self::Resolve { .. } => None,
        }
    }

    /// Whether this request alone asks for `always` (S6).
    pub fn durable(&self) -> bool {
        match *self {
            Self::Claim(Claim { durable, .. })
            | Self::Complete { durable, .. }
            | Self::Renew { durable, .. }
            | Self::Release { durable, .. } => durable,
            Self::Get { .. } => false,
            Self::Forget { .. } | Self::Resolve { .. } => true,
        }
    }

    /// The level it is decided at under `policy`: at least the namespace's (S5).
    pub fn level(&self, policy: &Policy) -> Level {
        let asked = match self {
            Self::Claim(Claim { level, .. }) | Self::Complete { level, .. } | Self::Renew { level, .. } => {
                *level
            }
            Self::Forget { .. } | Self::Resolve { .. } => None,
            // No majority is asked for it: it is its own region's to write.
            Self::Release { level, .. } => {
                let level = level.unwrap_or_default().max(policy.level);
                return if level == Level::Home { level } else { Level::Local };
            }
            Self::Get { .. } => return Level::Local,
        };
        asked.unwrap_or_default().max(policy.level)
    }

    /// Whether every field is within its bounds under `policy`.
    pub fn check(&self, policy: &Policy, max_drift_ms: u64) -> Result<(), BadRequest> {
        let key = self.key();
        if key.is_empty() || key.len() > limits::KEY_BYTES_MAX {
            return Err(BadRequest::Key(key.len()));
        }
        match self {
            Self::Claim(claim) => claim.check(policy, max_drift_ms),
            Self::Complete { outcome, .. } | Self::Resolve { how: Resolution::Complete(outcome), .. }
                if outcome.len() > policy.max_outcome_bytes =>
            {
                Err(BadRequest::Outcome { size: outcome.len(), limit: policy.max_outcome_bytes })
            }
            Self::Renew { lease_ms: Some(0), .. } => Err(BadRequest::Lease),
            _ => Ok(()),
        }
    }
}

impl Claim<'_> {
    fn check(&self, policy: &Policy, max_drift_ms: u64) -> Result<(), BadRequest> {
        if self.claimant.len() > limits::CLAIMANT_BYTES_MAX {
            return Err(BadRequest::Claimant(self.claimant.len()));
        }
        if self.note.len() > limits::NOTE_BYTES_MAX {
            return Err(BadRequest::Note(self.note.len()));
        }
        if self.wait_ms > limits::WAIT_MS_MAX {
            return Err(BadRequest::Wait(self.wait_ms));
        }
        let retention = self.retention_ms.unwrap_or(policy.retention_ms);
        let lease = self.lease_ms.unwrap_or(policy.lease_ms);
        if !(limits::RETENTION_MS_MIN..=limits::RETENTION_MS_MAX).contains(&retention) {
            return Err(BadRequest::Retention(retention));
        }
        if lease == 0 {
            return Err(BadRequest::Lease);
        }
        let margin = 2 * max_drift_ms;
        if retention <= lease.saturating_add(margin) {
            return Err(BadRequest::RetentionTooShort { retention, lease, margin });
        }
        Ok(())
    }
}

/// Why nothing could be granted (S4.1); retrying later is safe. Their order is part of the wire format: only append.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Reason {
    /// The region has not caught up with its peers since its start (S7).
    CatchingUp,
    /// The region's clock is too far from its peers', or its durable ceiling is reached (S2).
    Clock,
    /// The memory bound is reached (S6).
    Full,
    /// The namespace's own bound is reached: `max_keys` or `max_bytes` (S6, S8).
    Quota,
    /// The log's disk does not keep up, or gives no further segment for another reason than being full.
    LogBehind,
    /// A peer's last word is older than the namespace allows (S8).
    Stale,
    /// The level asked for cannot be reached (S5).
    Level,
    /// RENEW and RELEASE are the claiming region's to write (S4).
    OtherRegion,
    /// The daemon is stopping.
    Draining,
    /// Peers have had more of this region's log than this data folder holds: it is a copy, or was restored
    /// without `onced rejoin` (S6).
    OldCopy,
    /// No majority is known to hold it: it is recorded here, and may be sent again (S5).
    RecordedHere,
    /// The log's disk is full (S6). Claims are refused first; everything else that writes, once the reserve is
    /// used up, too.
    DiskFull,
}

impl Reason {
    /// The word in replies and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CatchingUp => "catching_up",
            Self::Clock => "clock",
            Self::Full => "full",
            Self::Quota => "quota",
            Self::LogBehind => "log_behind",
            Self::Stale => "stale",
            Self::Level => "level",
            Self::OtherRegion => "other_region",
            Self::Draining => "draining",
            Self::OldCopy => "old_copy",
            Self::RecordedHere => "recorded_here",
            Self::DiskFull => "disk_full",
        }
    }
}

/// Why a token no longer counts (S4.2 STALE). Their order is part of the wire format: only append.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StaleReason {
    /// Not issued by this cluster for this key.
    BadTag,
    /// The claim is past its `expires_at`.
    Expired,
    /// FORGET voided the claim.
    Forgotten,
}

impl StaleReason {
    /// The word in replies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadTag => "bad_tag",
            Self::Expired => "expired",
            Self::Forgotten => "forgotten",
        }
    }
}

/// An answer (S4). Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'e> {
    /// Run it: you hold the key.
    Granted {
        /// To be presented at COMPLETE, RENEW, RELEASE.
        token: Token,
        /// Renew or complete before that.
        lease_until: u64,
        /// The level reached.
        level: Level,
        /// Age of the oldest peer's last word, in milliseconds.
        stale_ms: u64,
    },
    /// Done already, with this result.
    Replay(Outcome<'e>),
    /// Somebody runs it.
    InProgress {
        /// When to ask again, in milliseconds.
        retry_after_ms: u64,
        /// Where it runs.
        region: RegionId,
    },
    /// The key stands for another payload.
    Mismatch {
        /// Whether that one is done.
        settled: bool,
        /// Where it was claimed or done.
        region: RegionId,
    },
    /// All leases are over and the policy forbids a takeover.
    Unknown(ClaimId),
    /// The key's own time is older than retention: never run.
    Expired,
    /// Nothing was granted or changed.
    Unavailable {
        /// Why.
        reason: Reason,
        /// When to ask again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Recorded; this claim settles the key.
    Completed {
        /// The completion's stamp in milliseconds.
        completed_at: u64,
        /// Where it was completed.
        region: RegionId,
        /// The level reached.
        level: Level,
    },
    /// Recorded, but another claim is live or took over.
    Contested {
        /// The completion's stamp in milliseconds.
        completed_at: u64,
        /// Where it was completed.
        region: RegionId,
        /// The level reached.
        level: Level,
    },
    /// Another claim has the key, or other bytes are stored: stop, compensate.
    Superseded {
        /// The winner's outcome, if settled and its fingerprint is the caller's.
        outcome: Option<&'e [u8]>,
        /// When the winner completed.
        completed_at: Option<u64>,
        /// The winner's claim, if there is a winner.
        winner: Option<ClaimId>,
        /// The winner's region: where it completed, or holds.
        region: Option<RegionId>,
    },
    /// The token does not count.
    Stale(StaleReason),
    /// The lease is longer now.
    Renewed {
        /// The new end.
        lease_until: u64,
    },
    /// The key is free again.
    Released,
    /// GET: done.
    Settled(Outcome<'e>),
    /// GET: somebody holds it.
    Held {
        /// The winner.
        attempt: Attempt<'e>,
        /// Two claimants hold it with running leases (S4.8).
        contested: bool,
    },
    /// GET: nobody's.
    Free,
    /// ADVANCE: of the version before nothing is known here, or no longer.
    Behind {
        /// When to ask again, in milliseconds: it may be on its way.
        retry_after_ms: u64,
    },
    /// FORGET: claims up to this stamp are void everywhere.
    Forgotten(Stamp),
}

impl Reply<'_> {
    /// The status word of SEMANTICS.
    pub const fn status(&self) -> &'static str {
        match self {
            Self::Granted { .. } => "GRANTED",
            Self::Replay(_) => "REPLAY",
            Self::InProgress { .. } => "IN_PROGRESS",
            Self::Mismatch { .. } => "MISMATCH",
            Self::Unknown(_) => "UNKNOWN",
            Self::Expired => "EXPIRED",
            Self::Unavailable { .. } => "UNAVAILABLE",
            Self::Completed { .. } => "COMPLETED",
            Self::Contested { .. } => "CONTESTED",
            Self::Superseded { .. } => "SUPERSEDED",
            Self::Stale(_) => "STALE",
            Self::Renewed { .. } => "RENEWED",
            Self::Released => "RELEASED",
            Self::Settled(_) => "SETTLED",
            Self::Held { .. } => "HELD",
            Self::Free => "FREE",
            Self::Behind { .. } => "BEHIND",
            Self::Forgotten(_) => "FORGOTTEN",
        }
    }
}
