//! Replies as RESP: a map in RESP3, a flat array in RESP2, the first field always `status`. Field names are
//! an interface: they only grow.

use crdt::entry::{Attempt, Outcome, Phase};
use crdt::ids::{ClaimId, RegionId};
use crdt::request::Reply;

use crate::resp::encode::Encoder;

/// Names of the regions, for people.
#[derive(Clone, Debug, Default)]
pub struct RegionNames(std::collections::BTreeMap<RegionId, String>);

impl RegionNames {
    /// Of all configured regions.
    pub fn new(names: impl IntoIterator<Item = (RegionId, String)>) -> Self {
        Self(names.into_iter().collect())
    }

    /// The region's name, or its number where it is configured no more.
    pub fn field(&self, out: &mut Encoder<'_>, name: &str, region: RegionId) {
        match self.0.get(&region) {
            Some(known) => out.field_bulk(name, known.as_bytes()),
            None => out.field_bulk(name, self.name(region).as_bytes()),
        }
    }

    /// As [`Self::field`].
    pub fn name(&self, region: RegionId) -> String {
        self.0.get(&region).cloned().unwrap_or_else(|| format!("region-{}", region.0))
    }

    /// The number of a region by its name.
    pub fn by_name(&self, name: &[u8]) -> Option<RegionId> {
        self.0.iter().find(|(_, known)| known.as_bytes() == name).map(|(region, _)| *region)
    }
}

/// Encodes one reply of an operation.
pub fn encode(reply: &Reply<'_>, names: &RegionNames, out: &mut Encoder<'_>) {
    match reply {
        Reply::Granted { token, lease_until, level, stale_ms } => {
            header(out, reply, 7);
            out.field_bulk("token", &token.text());
            claim_id(out, "claim_id", token.id);
            out.field_uint("lease_until", *lease_until);
            out.field_uint("expires_at", token.expires_at);
            out.field_bulk("level", level.name().as_bytes());
            out.field_uint("stale_ms", *stale_ms);
        }
        Reply::Replay(outcome) => {
            header(out, reply, 5);
            out.field_bulk("outcome", outcome.bytes);
            out.field_uint("completed_at", outcome.completed.ms());
            names.field(out, "region", outcome.region);
            claim_id(out, "claim_id", outcome.claim);
        }
        Reply::InProgress { retry_after_ms, region } => {
            header(out, reply, 3);
            out.field_uint("retry_after_ms", *retry_after_ms);
            names.field(out, "region", *region);
        }
        Reply::Mismatch { settled, region } => {
            header(out, reply, 3);
            out.field_bulk("state", if *settled { b"settled" } else { b"held" });
            names.field(out, "region", *region);
        }
        Reply::Unknown(claim) => {
            header(out, reply, 3);
            names.field(out, "region", claim.region);
            claim_id(out, "claim_id", *claim);
        }
        Reply::Unavailable { reason, retry_after_ms } => {
            header(out, reply, 3);
            out.field_bulk("reason", reason.name().as_bytes());
            out.field_uint("retry_after_ms", *retry_after_ms);
        }
        Reply::Stale(reason) => {
            header(out, reply, 2);
            out.field_bulk("reason", reason.name().as_bytes());
        }
        Reply::Renewed { lease_until } => {
            header(out, reply, 2);
            out.field_uint("lease_until", *lease_until);
        }
        Reply::Forgotten(stamp) => {
            header(out, reply, 2);
            out.field_bulk("stamp", format!("{:016x}", stamp.bits()).as_bytes());
        }
        Reply::Expired | Reply::Released | Reply::Free => header(out, reply, 1),
        Reply::Completed { .. } | Reply::Contested { .. } | Reply::Superseded { .. } => {
            completion(reply, names, out);
        }
        Reply::Settled(_) | Reply::Held { .. } => state(reply, names, out),
    }
}

fn completion(reply: &Reply<'_>, names: &RegionNames, out: &mut Encoder<'_>) {
    match reply {
        Reply::Completed { completed_at, region } | Reply::Contested { completed_at, region } => {
            header(out, reply, 4);
            out.field_uint("completed_at", *completed_at);
            names.field(out, "region", *region);
            out.field_bulk("level", b"local");
        }
        Reply::Superseded { outcome, completed_at, winner, region } => {
            header(out, reply, 5);
            out.field_bulk_or_null("outcome", *outcome);
            match completed_at {
                Some(at) => out.field_uint("completed_at", *at),
                None => out.field_null("completed_at"),
            }
            match region {
                Some(region) => names.field(out, "region", *region),
                None => out.field_null("region"),
            }
            match winner {
                Some(winner) => claim_id(out, "claim_id", *winner),
                None => out.field_null("claim_id"),
            }
        }
        _ => {}
    }
}

fn state(reply: &Reply<'_>, names: &RegionNames, out: &mut Encoder<'_>) {
    match reply {
        Reply::Settled(outcome) => {
            header(out, reply, 7);
            out.field_bulk("outcome", outcome.bytes);
            out.field_uint("completed_at", outcome.completed.ms());
            names.field(out, "region", outcome.region);
            claim_id(out, "claim_id", outcome.claim);
            fingerprint(out, outcome.fingerprint);
            out.field_uint("expires_at", outcome.expires_at);
        }
        Reply::Held { attempt, contested } => {
            header(out, reply, 9);
            names.field(out, "region", attempt.id.region);
            claim_id(out, "claim_id", attempt.id);
            out.field_bulk("claimant", attempt.claimant);
            out.field_bulk("note", attempt.note);
            fingerprint(out, attempt.fingerprint);
            out.field_uint("lease_until", attempt.lease_until);
            out.field_uint("expires_at", attempt.expires_at);
            out.field_bool("contested", *contested);
        }
        _ => {}
    }
}

/// One attempt of INSPECT.
pub fn attempt(attempt: &Attempt<'_>, names: &RegionNames, out: &mut Encoder<'_>) {
    let phase: &[u8] = match attempt.phase {
        Phase::Asked => b"asked",
        Phase::Held if attempt.is_abandoned() => b"abandoned",
        Phase::Held => b"held",
        Phase::Released => b"released",
    };
    out.map(8);
    claim_id(out, "claim_id", attempt.id);
    names.field(out, "region", attempt.id.region);
    out.field_bulk("phase", phase);
    out.field_uint("lease_until", attempt.lease_until);
    fingerprint(out, attempt.fingerprint);
    out.field_bulk("claimant", attempt.claimant);
    out.field_bulk("note", attempt.note);
    out.field_uint("expires_at", attempt.expires_at);
}

/// One outcome of INSPECT.
pub fn outcome(outcome: &Outcome<'_>, names: &RegionNames, out: &mut Encoder<'_>) {
    out.map(8);
    claim_id(out, "claim_id", outcome.claim);
    names.field(out, "region", outcome.region);
    out.field_uint("completed_at", outcome.completed.ms());
    out.field_bulk("outcome", outcome.bytes);
    fingerprint(out, outcome.fingerprint);
    out.field_bool("majority", outcome.majority);
    out.field_bool("compensated", outcome.compensated);
    out.field_uint("expires_at", outcome.expires_at);
}

fn header(out: &mut Encoder<'_>, reply: &Reply<'_>, fields: usize) {
    out.map(fields);
    out.field_status(reply.status());
}

/// `name` and the claim id's text, without allocating.
pub fn claim_id(out: &mut Encoder<'_>, name: &str, id: ClaimId) {
    use std::io::Write;
    let mut text = [0u8; 48];
    let mut rest = &mut text[..];
    // 16 + 1 + 5 + 1 + 10 characters at most.
    let written = write!(rest, "{id}").map(|()| 48 - rest.len()).unwrap_or(0);
    out.field_bulk(name, &text[..written]);
}

fn fingerprint(out: &mut Encoder<'_>, fingerprint: Option<crdt::ids::Fingerprint>) {
    match fingerprint {
        Some(fingerprint) => out.field_bulk("fingerprint", fingerprint.to_string().as_bytes()),
        None => out.field_null("fingerprint"),
    }
}
