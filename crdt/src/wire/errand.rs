//! A request on its way to the home of its key (S5): what [`Request`] holds, without what is the asker's own business (WAIT,
//! the level, which is `home`).
//!
//! What is not said is the home's policy to say; both sides keep the same policies, or are answered UNAVAILABLE.
//!
//! Must never: hold anything that is not bounded; [`Errand::check`] is part of decoding a frame.

use serde::{Deserialize, Serialize};

use super::MalformedFrame;
use crate::entry::Bytes;
use crate::ids::Fingerprint;
use crate::journal;
use crate::limits;
use crate::policy::Level;
use crate::request::{Claim, Request};
use crate::token::Token;

/// A request for a home, kept while it waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried(Vec<u8>);

impl Carried {
    /// `None` for what no home decides.
    pub fn of(request: &Request<'_>) -> Option<Self> {
        Errand::of(request).map(|errand| Self::from(&errand))
    }

    /// The request, as the home decides it.
    pub fn request(&self) -> Request<'_> {
        let errand: Errand<'_> = postcard::from_bytes(&self.0).expect("what an errand was made into");
        errand.request()
    }
}

impl From<&Errand<'_>> for Carried {
    fn from(errand: &Errand<'_>) -> Self {
        let mut bytes = Vec::new();
        journal::postcard_onto(errand, &mut bytes);
        Self(bytes)
    }
}

/// See the module's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Errand<'a> {
    /// S4.1
    Claim {
        /// The operation.
        #[serde(borrow)]
        key: Bytes<'a>,
        /// Digest of the payload.
        fingerprint: Option<[u8; 16]>,
        /// Empty: none.
        claimant: Bytes<'a>,
        /// For others to read.
        note: Bytes<'a>,
        /// As asked, in milliseconds.
        lease_ms: Option<u64>,
        /// As asked, in milliseconds.
        retention_ms: Option<u64>,
        /// To be synced first.
        durable: bool,
    },
    /// S4.2
    Complete {
        /// The operation.
        key: Bytes<'a>,
        /// What the claim was answered.
        token: Token,
        /// What duplicates will be answered.
        outcome: Bytes<'a>,
        /// To be synced first.
        durable: bool,
    },
    /// S4.3
    Renew {
        /// The operation.
        key: Bytes<'a>,
        /// What the claim was answered.
        token: Token,
        /// As asked, in milliseconds.
        lease_ms: Option<u64>,
        /// To be synced first.
        durable: bool,
    },
    /// S4.4
    Release {
        /// The operation.
        key: Bytes<'a>,
        /// What the claim was answered.
        token: Token,
        /// To be synced first.
        durable: bool,
    },
}

impl<'a> Errand<'a> {
    /// What of `request` travels; `None` for what no home decides.
    pub fn of(request: &Request<'a>) -> Option<Self> {
        Some(match *request {
            Request::Claim(claim) => {
                let Claim { key, fingerprint, claimant, note, lease_ms, retention_ms, durable, .. } = claim;
                let fingerprint = fingerprint.map(|fingerprint| fingerprint.0);
                let (key, claimant, note) = (Bytes(key), Bytes(claimant), Bytes(note));
                Self::Claim { key, fingerprint, claimant, note, lease_ms, retention_ms, durable }
            }
            Request::Complete { key, token, outcome, durable, .. } => {
                Self::Complete { key: Bytes(key), token, outcome: Bytes(outcome), durable }
            }
            Request::Renew { key, token, lease_ms, durable, .. } => {
                Self::Renew { key: Bytes(key), token, lease_ms, durable }
            }
            Request::Release { key, token, durable, .. } => Self::Release { key: Bytes(key), token, durable },
            Request::Get { .. } | Request::Forget { .. } | Request::Resolve { .. } => return None,
        })
    }

    /// The request, as the home decides it.
    pub fn request(&self) -> Request<'a> {
        let level = Some(Level::Home);
        match *self {
            Self::Claim { key, fingerprint, claimant, note, lease_ms, retention_ms, durable } => {
                Request::Claim(Claim {
                    key: key.0,
                    fingerprint: fingerprint.map(Fingerprint),
                    claimant: claimant.0,
                    note: note.0,
                    lease_ms,
                    retention_ms,
                    level,
                    wait_ms: 0,
                    durable,
                })
            }
            Self::Complete { key, token, outcome, durable } => {
                Request::Complete { key: key.0, token, outcome: outcome.0, level, durable }
            }
            Self::Renew { key, token, lease_ms, durable } => {
                Request::Renew { key: key.0, token, lease_ms, level, durable }
            }
            Self::Release { key, token, durable } => Request::Release { key: key.0, token, level, durable },
        }
    }

    /// The key it is about.
    pub fn key(&self) -> &'a [u8] {
        match self {
            Self::Claim { key, .. }
            | Self::Complete { key, .. }
            | Self::Renew { key, .. }
            | Self::Release { key, .. } => key.0,
        }
    }

    /// What no onced would send, whatever its policies say.
    pub(super) fn check(&self) -> Result<(), MalformedFrame> {
        let key = self.key().len();
        let within = match self {
            Self::Claim { claimant, note, .. } => {
                claimant.0.len() <= limits::CLAIMANT_BYTES_MAX && note.0.len() <= limits::NOTE_BYTES_MAX
            }
            Self::Complete { outcome, .. } => outcome.0.len() <= limits::OUTCOME_BYTES_MAX,
            Self::Renew { .. } | Self::Release { .. } => true,
        };
        if within && (1..=limits::KEY_BYTES_MAX).contains(&key) {
            Ok(())
        } else {
            Err(MalformedFrame::Errand)
        }
    }
}
