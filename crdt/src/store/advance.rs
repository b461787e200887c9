//! ADVANCE: a transition of a state machine, from one version of it to the next, as a claim of (key, version).
//!
//! Each version has a key of its own, `key@version`, and everything that holds for keys holds for it: who claims it first makes
//! the transition, its outcome is what the transition did, duplicates are answered that, and two regions that a cut let make it
//! twice are told. So a version is optimistic locking without a read of its own: of two services that advance from the same
//! version with different payloads the second is told MISMATCH, and looks again.
//!
//! All that ADVANCE adds to CLAIM is its order: version n + 1 is claimed only where version n is known to be done.
//!
//! Must never: take a version for done that is only held.

use super::{Look, Ran, Release, Scratch, Store, Ticket};
use crate::ids::RegionId;
use crate::limits;
use crate::request::{BadRequest, Claim, Reply, Request};

/// The key of one version of `key`'s state machine: `key@version`.
pub fn version_key(key: &[u8], version: u64) -> Vec<u8> {
    [key, b"@", version.to_string().as_bytes()].concat()
}

/// How the version stands from which to advance.
#[derive(Clone, Copy)]
enum From {
    /// It is done, or is the beginning.
    Done,
    Held(RegionId),
    /// Nothing is known of it here.
    Unheard,
}

impl Store {
    /// Claims the version after `from` of the state machine `claim.key`; version 0 is its beginning. What `Ran` says is of the key
    /// `version_key(claim.key, from + 1)`; everything else as [`Self::look`].
    ///
    /// # Errors
    /// A field is out of its bounds.
    pub fn advance(
        &self,
        claim: &Claim<'_>,
        from: u64,
        look: Look,
        (wall_ms, ticket): (u64, Option<Ticket>),
        scratch: &mut Scratch,
        emit: impl FnOnce(&Reply<'_>),
    ) -> Result<Ran, BadRequest> {
        let (mut stands, seen) = self.standing(claim.key, from, wall_ms, scratch)?;
        if look != Look::First {
            // Others hold a claim for it by now, which this look grants or withdraws.
            stands = From::Done;
        }
        let retry_after_ms = limits::RETRY_AFTER_MS_DEFAULT;
        match stands {
            From::Held(region) => emit(&Reply::InProgress { retry_after_ms, region }),
            From::Unheard => emit(&Reply::Behind { retry_after_ms }),
            From::Done => {
                let key = version_key(claim.key, from.saturating_add(1));
                let next = Request::Claim(Claim { key: &key, ..*claim });
                let mut ran = self.look(&next, look, wall_ms, ticket, scratch, emit)?;
                // The answer depends on what was seen of the version before it, too (S6).
                if let Ran::Replied(release) | Ran::Asks(_, release) = &mut ran {
                    release.join(seen);
                }
                return Ok(ran);
            }
        }
        Ok(Ran::Replied(seen))
    }

    fn standing(
        &self,
        key: &[u8],
        version: u64,
        wall_ms: u64,
        scratch: &mut Scratch,
    ) -> Result<(From, Release), BadRequest> {
        let mut stands = From::Done;
        if version == 0 {
            return Ok((stands, Release::default()));
        }
        let key = version_key(key, version);
        let ran = self.run(&Request::Get { key: &key }, wall_ms, None, scratch, |reply| {
            stands = match reply {
                Reply::Settled(_) => From::Done,
                Reply::Held { attempt, .. } => From::Held(attempt.id.region),
                _ => From::Unheard,
            };
        })?;
        Ok((stands, if let Ran::Replied(release) = ran { release } else { Release::default() }))
    }
}
