//! Entries as bytes: the same in the map, in the log and on the wire, so that a claim is encoded
//! once (postcard).
//!
//! Almost every entry has one attempt and at most one outcome, its own, and almost every delta is one
//! of the two: those cases have variants of their own ([`Packed::Claim`], [`Packed::Settled`],
//! [`Packed::Completed`]) that say nothing twice. Times are stored as differences from the claim's
//! stamp, which makes them 3 to 5 bytes instead of 9. [`super::bytes`] writes and reads these forms.
//!
//! Variants and fields are append-only: golden bytes in `tests/golden.rs` pin every released form.
//!
//! Must never: accept more parts than the bounds, or parts that are out of order (a join relies on
//! the order).

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

use super::{Attempt, Entry, Few, Outcome, Phase};
use crate::hlc::Stamp;
use crate::ids::{ClaimId, Fingerprint, Incarnation, RegionId};
use crate::limits;

/// Why bytes are not an entry. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MalformedEntry {
    /// Not the encoding of any entry.
    #[error("the bytes of an entry do not decode")]
    Encoding,
    /// More attempts or outcomes, or longer fields, than the bounds allow.
    #[error("an entry exceeds the bounds of its parts")]
    Bounds,
    /// Parts out of order or twice.
    #[error("the parts of an entry are out of order")]
    Order,
}

/// Borrowed bytes that serialise in one piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = &'de [u8];
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("borrowed bytes")
            }
            fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(bytes)
            }
        }
        deserializer.deserialize_bytes(Borrowed).map(Bytes)
    }
}

/// The stored forms of an entry, smallest first.
#[derive(Serialize, Deserialize, Debug)]
pub enum Packed<'a> {
    /// One attempt and nothing else.
    Claim(#[serde(borrow)] PackedAttempt<'a>),
    /// One attempt and its own outcome, completed where it was claimed.
    Settled(#[serde(borrow)] PackedAttempt<'a>, OwnOutcome<'a>),
    /// Anything.
    General(#[serde(borrow)] PackedGeneral<'a>),
    /// One outcome and nothing else, completed where it was claimed: what a completion adds.
    Completed(#[serde(borrow)] PackedCompletion<'a>),
}

#[doc(hidden)]
#[derive(Serialize, Deserialize, Debug)]
pub struct PackedAttempt<'a> {
    pub(crate) stamp: u64,
    pub(crate) region: u16,
    pub(crate) incarnation: u32,
    pub(crate) phase: u8,
    pub(crate) lease_ms: u64,
    /// 0: never taken over; else one more than the abandoned lease's distance from the stamp.
    pub(crate) abandoned: u64,
    pub(crate) expires_ms: u64,
    #[serde(borrow)]
    pub(crate) fingerprint: Bytes<'a>,
    #[serde(borrow)]
    pub(crate) claimant: Bytes<'a>,
    #[serde(borrow)]
    pub(crate) note: Bytes<'a>,
}

#[doc(hidden)]
#[derive(Serialize, Deserialize, Debug)]
pub struct OwnOutcome<'a> {
    pub(super) completed_after: u64,
    pub(super) flags: u8,
    #[serde(borrow)]
    pub(super) bytes: Bytes<'a>,
}

#[doc(hidden)]
#[derive(Serialize, Deserialize, Debug)]
pub struct PackedCompletion<'a> {
    pub(crate) stamp: u64,
    pub(crate) region: u16,
    pub(crate) incarnation: u32,
    pub(crate) completed_after: u64,
    pub(crate) flags: u8,
    pub(crate) expires_ms: u64,
    #[serde(borrow)]
    pub(crate) fingerprint: Bytes<'a>,
    #[serde(borrow)]
    pub(crate) bytes: Bytes<'a>,
}

#[doc(hidden)]
#[derive(Serialize, Deserialize, Debug)]
pub struct PackedOutcome<'a> {
    stamp: u64,
    claim_region: u16,
    claim_incarnation: u32,
    region: u16,
    incarnation: u32,
    completed_after: u64,
    flags: u8,
    expires_ms: u64,
    #[serde(borrow)]
    fingerprint: Bytes<'a>,
    #[serde(borrow)]
    bytes: Bytes<'a>,
}

#[doc(hidden)]
#[derive(Serialize, Deserialize, Debug)]
pub struct PackedGeneral<'a> {
    forgotten: u64,
    #[serde(borrow)]
    attempts: Vec<PackedAttempt<'a>>,
    #[serde(borrow)]
    outcomes: Vec<PackedOutcome<'a>>,
}

const FLAG_MAJORITY: u8 = 1;
const FLAG_COMPENSATED: u8 = 2;

impl<'a> Packed<'a> {
    /// The smallest form of `entry`.
    pub fn of(entry: &'a Entry<'_>) -> Self {
        if entry.forgotten == Stamp::ZERO && entry.attempts.len() == 1 {
            let attempt = &entry.attempts[0];
            match &entry.outcomes[..] {
                [] => return Self::Claim(pack_attempt(attempt)),
                [outcome] if is_own(attempt, outcome) => {
                    return Self::Settled(pack_attempt(attempt), pack_own(outcome));
                }
                _ => {}
            }
        }
        if let ([], [outcome]) = (&entry.attempts[..], &entry.outcomes[..])
            && entry.forgotten == Stamp::ZERO
            && is_at_home(outcome)
        {
            return Self::Completed(pack_completion(outcome));
        }
        Self::General(PackedGeneral {
            forgotten: entry.forgotten.bits(),
            attempts: entry.attempts.iter().map(pack_attempt).collect(),
            outcomes: entry.outcomes.iter().map(pack_outcome).collect(),
        })
    }

    /// [`Entry::parts_die_at_ms`] of what these bytes are, where they say it without being unpacked: of almost every
    /// key, and a sweep walks all.
    pub(crate) fn parts_die_at_ms(&self) -> Option<u64> {
        let (stamp, expires_ms) = match self {
            Self::Claim(attempt) | Self::Settled(attempt, _) => (attempt.stamp, attempt.expires_ms),
            Self::Completed(completion) => (completion.stamp, completion.expires_ms),
            Self::General(_) => return None,
        };
        Some(Stamp::from_bits(stamp).ms().wrapping_add(expires_ms))
    }

    /// The entry, checked: bounds, order, fields in range.
    pub fn unpack(&self) -> Result<Entry<'a>, MalformedEntry> {
        match self {
            Self::Claim(attempt) => Ok(Entry::of_attempt(unpack_attempt(attempt)?)),
            Self::Settled(attempt, own) => {
                let attempt = unpack_attempt(attempt)?;
                let mut entry = Entry::of_attempt(attempt);
                entry.outcomes.push(unpack_own(&attempt, own)?);
                Ok(entry)
            }
            Self::General(general) => unpack_general(general),
            Self::Completed(completion) => unpack_completion(completion).map(Entry::of_outcome),
        }
    }
}

/// Completed where it was claimed.
fn is_at_home(outcome: &Outcome<'_>) -> bool {
    (outcome.region, outcome.incarnation) == (outcome.claim.region, outcome.claim.incarnation)
}

fn is_own(attempt: &Attempt<'_>, outcome: &Outcome<'_>) -> bool {
    outcome.claim == attempt.id
        && is_at_home(outcome)
        && outcome.fingerprint == attempt.fingerprint
        && outcome.expires_at == attempt.expires_at
}

fn pack_attempt<'p>(attempt: &'p Attempt<'_>) -> PackedAttempt<'p> {
    let base = attempt.id.stamp.ms();
    PackedAttempt {
        stamp: attempt.id.stamp.bits(),
        region: attempt.id.region.0,
        incarnation: attempt.id.incarnation.0,
        phase: attempt.phase as u8,
        lease_ms: attempt.lease_until.wrapping_sub(base),
        abandoned: match attempt.abandoned_lease {
            0 => 0,
            lease => lease.wrapping_sub(base).wrapping_add(1),
        },
        expires_ms: attempt.expires_at.wrapping_sub(base),
        fingerprint: pack_fingerprint(attempt.fingerprint.as_ref()),
        claimant: Bytes(attempt.claimant),
        note: Bytes(attempt.note),
    }
}

fn pack_own<'p>(outcome: &'p Outcome<'_>) -> OwnOutcome<'p> {
    OwnOutcome {
        completed_after: completed_after(outcome),
        flags: flags(outcome),
        bytes: Bytes(outcome.bytes),
    }
}

fn pack_completion<'p>(outcome: &'p Outcome<'_>) -> PackedCompletion<'p> {
    PackedCompletion {
        stamp: outcome.claim.stamp.bits(),
        region: outcome.region.0,
        incarnation: outcome.incarnation.0,
        completed_after: completed_after(outcome),
        flags: flags(outcome),
        expires_ms: outcome.expires_at.wrapping_sub(outcome.claim.stamp.ms()),
        fingerprint: pack_fingerprint(outcome.fingerprint.as_ref()),
        bytes: Bytes(outcome.bytes),
    }
}

fn pack_outcome<'p>(outcome: &'p Outcome<'_>) -> PackedOutcome<'p> {
    PackedOutcome {
        stamp: outcome.claim.stamp.bits(),
        claim_region: outcome.claim.region.0,
        claim_incarnation: outcome.claim.incarnation.0,
        region: outcome.region.0,
        incarnation: outcome.incarnation.0,
        completed_after: completed_after(outcome),
        flags: flags(outcome),
        expires_ms: outcome.expires_at.wrapping_sub(outcome.claim.stamp.ms()),
        fingerprint: pack_fingerprint(outcome.fingerprint.as_ref()),
        bytes: Bytes(outcome.bytes),
    }
}

fn pack_fingerprint(fingerprint: Option<&Fingerprint>) -> Bytes<'_> {
    Bytes(fingerprint.map_or(&[], |fingerprint| &fingerprint.0))
}

fn completed_after(outcome: &Outcome<'_>) -> u64 {
    outcome.completed.bits().wrapping_sub(outcome.claim.stamp.bits())
}

fn flags(outcome: &Outcome<'_>) -> u8 {
    (u8::from(outcome.majority) * FLAG_MAJORITY) | (u8::from(outcome.compensated) * FLAG_COMPENSATED)
}

fn unpack_attempt<'a>(packed: &PackedAttempt<'a>) -> Result<Attempt<'a>, MalformedEntry> {
    let stamp = Stamp::from_bits(packed.stamp);
    let base = stamp.ms();
    if packed.claimant.0.len() > limits::CLAIMANT_BYTES_MAX || packed.note.0.len() > limits::NOTE_BYTES_MAX {
        return Err(MalformedEntry::Bounds);
    }
    Ok(Attempt {
        id: ClaimId { stamp, region: RegionId(packed.region), incarnation: Incarnation(packed.incarnation) },
        phase: match packed.phase {
            0 => Phase::Asked,
            1 => Phase::Held,
            2 => Phase::Released,
            _ => return Err(MalformedEntry::Encoding),
        },
        lease_until: base.wrapping_add(packed.lease_ms),
        abandoned_lease: match packed.abandoned {
            0 => 0,
            lease => base.wrapping_add(lease).wrapping_sub(1),
        },
        fingerprint: unpack_fingerprint(packed.fingerprint)?,
        claimant: packed.claimant.0,
        note: packed.note.0,
        expires_at: base.wrapping_add(packed.expires_ms),
    })
}

fn unpack_own<'a>(attempt: &Attempt<'a>, own: &OwnOutcome<'a>) -> Result<Outcome<'a>, MalformedEntry> {
    checked_outcome(
        Outcome {
            claim: attempt.id,
            completed: Stamp::from_bits(attempt.id.stamp.bits().wrapping_add(own.completed_after)),
            region: attempt.id.region,
            incarnation: attempt.id.incarnation,
            majority: own.flags & FLAG_MAJORITY != 0,
            compensated: own.flags & FLAG_COMPENSATED != 0,
            fingerprint: attempt.fingerprint,
            bytes: own.bytes.0,
            expires_at: attempt.expires_at,
        },
        own.flags,
    )
}

fn unpack_completion<'a>(packed: &PackedCompletion<'a>) -> Result<Outcome<'a>, MalformedEntry> {
    let stamp = Stamp::from_bits(packed.stamp);
    let (region, incarnation) = (RegionId(packed.region), Incarnation(packed.incarnation));
    checked_outcome(
        Outcome {
            claim: ClaimId { stamp, region, incarnation },
            completed: Stamp::from_bits(packed.stamp.wrapping_add(packed.completed_after)),
            region,
            incarnation,
            majority: packed.flags & FLAG_MAJORITY != 0,
            compensated: packed.flags & FLAG_COMPENSATED != 0,
            fingerprint: unpack_fingerprint(packed.fingerprint)?,
            bytes: packed.bytes.0,
            expires_at: stamp.ms().wrapping_add(packed.expires_ms),
        },
        packed.flags,
    )
}

fn unpack_outcome<'a>(packed: &PackedOutcome<'a>) -> Result<Outcome<'a>, MalformedEntry> {
    let stamp = Stamp::from_bits(packed.stamp);
    checked_outcome(
        Outcome {
            claim: ClaimId {
                stamp,
                region: RegionId(packed.claim_region),
                incarnation: Incarnation(packed.claim_incarnation),
            },
            completed: Stamp::from_bits(packed.stamp.wrapping_add(packed.completed_after)),
            region: RegionId(packed.region),
            incarnation: Incarnation(packed.incarnation),
            majority: packed.flags & FLAG_MAJORITY != 0,
            compensated: packed.flags & FLAG_COMPENSATED != 0,
            fingerprint: unpack_fingerprint(packed.fingerprint)?,
            bytes: packed.bytes.0,
            expires_at: stamp.ms().wrapping_add(packed.expires_ms),
        },
        packed.flags,
    )
}

fn checked_outcome(outcome: Outcome<'_>, flags: u8) -> Result<Outcome<'_>, MalformedEntry> {
    if outcome.bytes.len() > limits::OUTCOME_BYTES_MAX {
        return Err(MalformedEntry::Bounds);
    }
    if flags & !(FLAG_MAJORITY | FLAG_COMPENSATED) != 0 {
        return Err(MalformedEntry::Encoding);
    }
    Ok(outcome)
}

fn unpack_general<'a>(general: &PackedGeneral<'a>) -> Result<Entry<'a>, MalformedEntry> {
    if general.attempts.len() > limits::ATTEMPTS_MAX || general.outcomes.len() > limits::OUTCOMES_JOINED_MAX {
        return Err(MalformedEntry::Bounds);
    }
    let attempts = general.attempts.iter().map(unpack_attempt).collect::<Result<Few<_>, _>>()?;
    let outcomes = general.outcomes.iter().map(unpack_outcome).collect::<Result<Few<_>, _>>()?;
    let entry = Entry { attempts, outcomes, forgotten: Stamp::from_bits(general.forgotten) };
    let slot = |a: &Attempt<'_>| (a.id.region, a.id.incarnation);
    let in_order = entry.attempts.windows(2).all(|pair| slot(&pair[0]) < slot(&pair[1]))
        && entry.outcomes.windows(2).all(|pair| pair[0].slot() < pair[1].slot());
    if in_order { Ok(entry) } else { Err(MalformedEntry::Order) }
}

fn unpack_fingerprint(bytes: Bytes<'_>) -> Result<Option<Fingerprint>, MalformedEntry> {
    match bytes.0.len() {
        0 => Ok(None),
        16 => {
            let mut fingerprint = [0u8; 16];
            fingerprint.copy_from_slice(bytes.0);
            Ok(Some(Fingerprint(fingerprint)))
        }
        _ => Err(MalformedEntry::Bounds),
    }
}
