//! What a record or a state holds, as names and values.
//!
//! Bytes of callers' outcomes and notes are only shown where they are asked for: a log is often looked at by
//! people who are not meant to read them. The digest of an outcome is the one that CONFLICTS shows.

use crdt::conflict::{Conflict, Side, side};
use crdt::entry::{Attempt, Entry, Outcome, Phase};
use crdt::hlc::Stamp;
use crdt::ids::{ClaimId, Cursor, Fingerprint, LogEpoch};
use crdt::journal::{Origin, Record};

use super::{int, text};
use crate::cli::output::hex;
use crate::resp::Value;

/// Names and values, in order.
pub(super) type Fields = Vec<(&'static str, Value)>;

/// What a record says; `None` where its entry does not decode.
pub(super) fn record(record: &Record<'_>, values: bool) -> Option<Fields> {
    Some(match record {
        Record::Entry(origin, read) => {
            let entry = read.entry.unpack().ok()?;
            let mut fields = vec![("kind", text("entry")), ("origin", text(origin_word(*origin)))];
            fields.extend(state(read.key.0, &entry, values));
            fields
        }
        Record::Conflict(origin, conflict) => {
            let mut fields = vec![("kind", text("conflict")), ("origin", text(origin_word(*origin)))];
            fields.extend(of_conflict(conflict));
            fields
        }
        Record::Cursor(peer, cursor) => {
            let mut fields = vec![("kind", text("cursor")), ("peer", int(peer.0.into()))];
            fields.extend(of_cursor(*cursor));
            fields
        }
        Record::Ceiling(ms) => vec![("kind", text("ceiling")), ("clock_until", int(*ms))],
        Record::Stop(_) => vec![("kind", text("stop"))],
        Record::Synced(lsn, _) => vec![("kind", text("synced")), ("up_to", int(*lsn))],
        Record::Complete(complete) => {
            let data = if *complete { "complete" } else { "may_be_missing" };
            vec![("kind", text("complete")), ("data", text(data))]
        }
        Record::Voice(epoch) => vec![("kind", text("voice")), ("membership", int(*epoch))],
        Record::Home(epoch) => vec![("kind", text("home")), ("membership", int(*epoch))],
    })
}

/// The key that a record is about.
pub(super) fn key_of<'r>(record: &'r Record<'_>) -> Option<&'r [u8]> {
    match record {
        Record::Entry(_, read) => Some(read.key.0),
        Record::Conflict(_, conflict) => Some(&conflict.id.key),
        _ => None,
    }
}

/// The parts of a key's entry.
pub(super) fn state(key: &[u8], entry: &Entry<'_>, values: bool) -> Fields {
    let mut fields = vec![("key", Value::Bulk(key.to_vec()))];
    let attempts: Vec<Value> = entry.attempts.iter().map(|attempt| of_attempt(attempt, values)).collect();
    let outcomes: Vec<Value> = entry.outcomes.iter().map(|outcome| of_outcome(outcome, values)).collect();
    fields.push(("attempts", Value::Array(attempts)));
    fields.push(("outcomes", Value::Array(outcomes)));
    if entry.forgotten != Stamp::ZERO {
        fields.push(("forgotten", stamp(entry.forgotten)));
        fields.push(("forgotten_at", int(entry.forgotten.ms())));
    }
    fields
}

fn of_attempt(attempt: &Attempt<'_>, values: bool) -> Value {
    let phase = match attempt.phase {
        Phase::Asked => "asked",
        Phase::Held => "held",
        Phase::Released => "released",
    };
    let mut fields = vec![("claim", claim(attempt.id)), ("claimed_at", int(attempt.id.stamp.ms()))];
    fields.extend([("phase", text(phase)), ("lease_until", int(attempt.lease_until))]);
    if attempt.abandoned_lease > 0 {
        fields.push(("taken_over_lease_until", int(attempt.abandoned_lease)));
    }
    fields.push(("expires_at", int(attempt.expires_at)));
    fields.extend(of_fingerprint(attempt.fingerprint));
    if !attempt.claimant.is_empty() {
        fields.push(("claimant", Value::Bulk(attempt.claimant.to_vec())));
    }
    if values {
        fields.push(("note", Value::Bulk(attempt.note.to_vec())));
    } else if !attempt.note.is_empty() {
        fields.push(("note_bytes", int(attempt.note.len() as u64)));
    }
    map(fields)
}

fn of_outcome(outcome: &Outcome<'_>, values: bool) -> Value {
    let mut fields = vec![
        ("claim", claim(outcome.claim)),
        ("completed", stamp(outcome.completed)),
        ("completed_at", int(outcome.completed.ms())),
        ("region", int(outcome.region.0.into())),
        ("incarnation", int(outcome.incarnation.0.into())),
    ];
    if outcome.majority {
        fields.push(("majority", Value::Bool(true)));
    }
    if outcome.compensated {
        fields.push(("compensated", Value::Bool(true)));
    }
    fields.push(("expires_at", int(outcome.expires_at)));
    fields.extend(of_fingerprint(outcome.fingerprint));
    fields.push(("outcome_bytes", int(outcome.bytes.len() as u64)));
    fields.push(("digest", text(hex(&side(outcome).digest))));
    if values {
        fields.push(("outcome", Value::Bulk(outcome.bytes.to_vec())));
    }
    map(fields)
}

/// What a conflict says.
pub(super) fn of_conflict(conflict: &Conflict) -> Fields {
    let mut fields = vec![
        ("key", Value::Bulk(conflict.id.key.clone())),
        ("loser", of_side(&conflict.loser)),
        ("winner", conflict.winner.as_ref().map_or(Value::Null, of_side)),
        ("compensated", Value::Bool(conflict.compensated)),
        ("listed_until", int(conflict.expires_at)),
    ];
    // Only where it is so: most have never heard of a majority.
    let said = [("voided", conflict.void), ("overtaken", conflict.is_overtaken())];
    fields.extend(said.into_iter().filter(|(_, is)| *is).map(|(name, is)| (name, Value::Bool(is))));
    fields
}

fn of_side(side: &Side) -> Value {
    let mut fields = vec![
        ("claim", claim(side.claim)),
        ("completed", stamp(side.completed)),
        ("completed_at", int(side.completed.ms())),
        ("region", int(side.region.0.into())),
        ("digest", text(hex(&side.digest))),
    ];
    fields.extend(side.majority.then_some(("majority", Value::Bool(true))));
    map(fields)
}

/// A place in a region's log.
pub(super) fn of_cursor(cursor: Cursor) -> Fields {
    vec![
        ("incarnation", int(cursor.incarnation.0.into())),
        ("epoch", epoch(cursor.epoch)),
        ("lsn", int(cursor.lsn)),
    ]
}

pub(super) fn epoch(epoch: LogEpoch) -> Value {
    int(epoch.0.into())
}

fn of_fingerprint(fingerprint: Option<Fingerprint>) -> Option<(&'static str, Value)> {
    fingerprint.map(|fingerprint| ("fingerprint", text(fingerprint.to_string())))
}

fn claim(id: ClaimId) -> Value {
    text(id.to_string())
}

/// All 64 bits of a stamp, in hex.
pub(super) fn stamp(stamp: Stamp) -> Value {
    text(format!("{:016x}", stamp.bits()))
}

fn map(fields: Fields) -> Value {
    Value::Map(fields.into_iter().map(|(name, value)| (text(name), value)).collect())
}

const fn origin_word(origin: Origin) -> &'static str {
    match origin {
        Origin::Own => "own",
        Origin::Merged => "merged",
    }
}
