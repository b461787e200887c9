//! Replies as RESP: a map in RESP3, a flat array in RESP2, the first field always `status`. Field names are
//! an interface: they only grow.

use crdt::entry::{Attempt, Outcome, Phase};
use crdt::ids::{ClaimId, HEX_PAIRS, RegionId};
use crdt::policy::Level;
use crdt::request::Reply;
use crdt::token::Token;

use crate::resp::encode::{Encoder, decimal};

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
            out.map(7);
            out.raw(Piece::granted(token, *lease_until, *level, *stale_ms).written());
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
        Reply::Behind { retry_after_ms } => {
            header(out, reply, 2);
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
        Reply::Completed { completed_at, region, level }
        | Reply::Contested { completed_at, region, level } => {
            header(out, reply, 4);
            out.field_uint("completed_at", *completed_at);
            names.field(out, "region", *region);
            out.field_bulk("level", level.name().as_bytes());
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
    let mut text = Piece::default();
    text.claim_id(id);
    out.field_bulk(name, text.written());
}

/// Part of a reply, to be appended at once: a grant is sixteen values, and each append costs more than its bytes.
struct Piece {
    bytes: [u8; PIECE_BYTES],
    len: usize,
}

/// More than a grant's fields: 140 of names and lengths, 106 of the token, 33 of its claim, 3 numbers of 19 digits,
/// a word.
const PIECE_BYTES: usize = 400;

impl Default for Piece {
    fn default() -> Self {
        Self { bytes: [0; PIECE_BYTES], len: 0 }
    }
}

impl Piece {
    /// The fields of a grant, as the encoder would write them in either dialect.
    fn granted(token: &Token, lease_until: u64, level: Level, stale_ms: u64) -> Self {
        let mut piece = Self::default();
        piece.push(b"$6\r\nstatus\r\n$7\r\nGRANTED\r\n$5\r\ntoken\r\n$106\r\n");
        piece.push(&token.text());
        piece.push(b"\r\n$8\r\nclaim_id\r\n$");
        // Its length has two digits: 16 of the stamp, and two numbers with a hyphen each.
        let length_at = piece.len;
        piece.push(b"00\r\n");
        let text_at = piece.len;
        piece.claim_id(token.id);
        let length = (piece.len - text_at) as u8;
        piece.bytes[length_at] += length / 10;
        piece.bytes[length_at + 1] += length % 10;
        piece.push(b"\r\n$11\r\nlease_until\r\n:");
        piece.decimal(lease_until);
        piece.push(b"\r\n$10\r\nexpires_at\r\n:");
        piece.decimal(token.expires_at);
        piece.push(b"\r\n$5\r\nlevel\r\n$");
        let level = level.name().as_bytes();
        piece.decimal(level.len() as u64);
        piece.push(b"\r\n");
        piece.push(level);
        piece.push(b"\r\n$8\r\nstale_ms\r\n:");
        piece.decimal(stale_ms);
        piece.push(b"\r\n");
        piece
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// What [`ClaimId`]'s `Display` shows, at a tenth of its cost.
    fn claim_id(&mut self, id: ClaimId) {
        for byte in id.stamp.bits().to_be_bytes() {
            self.push(&HEX_PAIRS[usize::from(byte)]);
        }
        for number in [u32::from(id.region.0), id.incarnation.0] {
            self.push(b"-");
            self.decimal(number.into());
        }
    }

    /// As [`Encoder::field_uint`] writes it: RESP has no larger integer.
    fn decimal(&mut self, value: u64) {
        let mut digits = [0; 20];
        let at = decimal(value.min(i64::MAX as u64), &mut digits);
        self.push(&digits[at..]);
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn fingerprint(out: &mut Encoder<'_>, fingerprint: Option<crdt::ids::Fingerprint>) {
    match fingerprint {
        Some(fingerprint) => out.field_bulk("fingerprint", fingerprint.to_string().as_bytes()),
        None => out.field_null("fingerprint"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode::Proto;
    use crdt::hash::ClusterKeys;
    use crdt::hlc::Stamp;
    use crdt::ids::Incarnation;

    fn id(stamp: u64, region: u16, incarnation: u32) -> ClaimId {
        ClaimId {
            stamp: Stamp::from_bits(stamp),
            region: RegionId(region),
            incarnation: Incarnation(incarnation),
        }
    }

    #[test]
    fn a_claim_id_is_written_as_it_is_displayed() {
        for id in
            [id(0, 0, 0), id(u64::MAX, u16::MAX, u32::MAX), id(0x1234_5678_9abc_def0, 10, 99), id(1, 9, 100)]
        {
            let mut text = Piece::default();
            text.claim_id(id);
            assert_eq!(String::from_utf8_lossy(text.written()), id.to_string());
        }
    }

    /// What is appended in one piece must be what the encoder makes of the fields, however long they are.
    #[test]
    fn a_grant_reads_as_its_fields() {
        let keys = ClusterKeys { hash: [1; 16], tag: [2; 16] };
        let ids = [id(7 << 16, 3, 28_000_000), id(0, 0, 0), id(u64::MAX, u16::MAX, u32::MAX)];
        let levels = [Level::Local, Level::Home, Level::Quorum];
        let times = [0, 1_800_000_000_000, u64::MAX];
        for (at, proto) in [Proto::Resp2, Proto::Resp3].into_iter().cycle().take(6).enumerate() {
            let (id, level, time) = (ids[at % 3], levels[at % 3], times[at % 3]);
            let token = Token::issue(&keys, b"k", id, None, time);
            let reply = Reply::Granted { token, lease_until: time, level, stale_ms: time };
            let (mut written, mut fields) = (Vec::new(), Vec::new());
            encode(&reply, &RegionNames::default(), &mut Encoder::new(&mut written, proto));
            let mut out = Encoder::new(&mut fields, proto);
            header(&mut out, &reply, 7);
            out.field_bulk("token", &token.text());
            out.field_bulk("claim_id", token.id.to_string().as_bytes());
            out.field_uint("lease_until", time);
            out.field_uint("expires_at", token.expires_at);
            out.field_bulk("level", level.name().as_bytes());
            out.field_uint("stale_ms", time);
            assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&fields));
        }
    }
}
