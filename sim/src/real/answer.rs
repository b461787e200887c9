//! What daemons say, in the oracle's words.
//!
//! Seen from outside some things are not to be had: of a completion's stamp only the milliseconds, of an abandoned lease only
//! that it is. They are filled with what all regions would say alike.
//!
//! Must never: guess; a reply that is not understood is an error.

use super::resp::Value;
use crate::oracle::agreement::ConflictFact;
use crate::oracle::ask::{Answer, TokenFact};
use crate::oracle::facts::{AttemptFact, ClaimName, Key, OutcomeFact, Phase, Region, View};
use crdt::token::Token;

/// A claim id as replies show it: the stamp in hex, region, incarnation.
pub fn claim(text: &str) -> Option<ClaimName> {
    let mut parts = text.split('-');
    let stamp = u64::from_str_radix(parts.next()?, 16).ok()?;
    let (region, incarnation) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(ClaimName { stamp, region, incarnation })
}

fn claim_of(value: &Value, name: &str) -> Option<ClaimName> {
    claim(value.text(name)?)
}

fn fingerprint(value: &Value) -> Option<[u8; 16]> {
    let digits = value.text("fingerprint")?;
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

/// A token, decoded.
pub fn token(text: &[u8]) -> Option<TokenFact> {
    let token = Token::from_text(text)?;
    let Token { id, fingerprint, expires_at, .. } = token;
    let claim = ClaimName { stamp: id.stamp.bits(), region: id.region.0, incarnation: id.incarnation.0 };
    Some(TokenFact { claim, fingerprint: fingerprint.map(|print| print.0), expires_at, forged: false })
}

/// The answer of an operation, and the token that came with it.
pub fn answer(reply: &Value) -> Result<(Answer, Option<TokenFact>), String> {
    let status = reply.text("status").ok_or_else(|| format!("{reply:?}"))?;
    let unread = || format!("{status}: {reply:?}");
    let bytes = || reply.bytes("outcome").map(<[u8]>::to_vec);
    let reason = || reply.text("reason").unwrap_or_default().to_owned();
    let of_claim = || claim_of(reply, "claim_id").ok_or_else(unread);
    let answer = match status {
        "GRANTED" => {
            let token = reply.bytes("token").and_then(token).ok_or_else(unread)?;
            let lease_until = reply.number("lease_until").ok_or_else(unread)?;
            let answer = Answer::Granted { claim: token.claim, lease_until, expires_at: token.expires_at };
            return Ok((answer, Some(token)));
        }
        "REPLAY" => Answer::Replay { bytes: bytes().ok_or_else(unread)?, claim: of_claim()? },
        "IN_PROGRESS" => Answer::InProgress,
        "MISMATCH" => Answer::Mismatch,
        "UNKNOWN" => Answer::Unknown,
        "EXPIRED" => Answer::Expired,
        "UNAVAILABLE" => Answer::Unavailable { reason: reason() },
        "COMPLETED" => Answer::Completed,
        "CONTESTED" => Answer::Contested,
        "SUPERSEDED" => Answer::Superseded { bytes: bytes() },
        "STALE" => Answer::Stale { reason: reason() },
        "RENEWED" => Answer::Renewed { lease_until: reply.number("lease_until").ok_or_else(unread)? },
        "RELEASED" => Answer::Released,
        "SETTLED" => Answer::Settled { bytes: bytes().ok_or_else(unread)?, claim: of_claim()? },
        "HELD" => Answer::Held { claim: of_claim()? },
        "FREE" => Answer::Free,
        "FORGOTTEN" => Answer::Forgotten,
        _ => return Err(unread()),
    };
    Ok((answer, None))
}

/// Milliseconds as a stamp whose counter is not known.
pub const fn stamp_of_ms(ms: u64) -> u64 {
    ms << 16
}

/// What INSPECT shows; `region` finds a region's number by its name.
pub fn view(reply: &Value, region: &dyn Fn(&str) -> Option<Region>) -> Result<View, String> {
    let unread = || format!("INSPECT: {reply:?}");
    let attempt = |row: &Value| {
        let lease_until = row.number("lease_until")?;
        let (phase, abandoned) = match row.text("phase")? {
            "asked" => (Phase::Asked, false),
            "held" => (Phase::Held, false),
            "abandoned" => (Phase::Held, true),
            "released" => (Phase::Released, false),
            _ => return None,
        };
        Some(AttemptFact {
            claim: claim_of(row, "claim_id")?,
            phase,
            lease_until,
            abandoned_lease: if abandoned { lease_until } else { 0 },
            fingerprint: fingerprint(row),
            claimant: row.bytes("claimant")?.to_vec(),
            expires_at: row.number("expires_at")?,
        })
    };
    let outcome = |row: &Value| {
        Some(OutcomeFact {
            claim: claim_of(row, "claim_id")?,
            region: region(row.text("region")?)?,
            incarnation: 0,
            stamp: stamp_of_ms(row.number("completed_at")?),
            majority: row.truth("majority"),
            fingerprint: fingerprint(row),
            bytes: row.bytes("outcome")?.to_vec(),
            expires_at: row.number("expires_at")?,
        })
    };
    if reply.text("status") != Some("OK") {
        return Err(unread());
    }
    let attempts = reply.list("attempts").iter().map(attempt).collect::<Option<_>>();
    let outcomes = reply.list("outcomes").iter().map(outcome).collect::<Option<_>>();
    // All that was claimed within that millisecond is forgotten, too, as far as can be seen.
    let forgotten = reply.number("forgotten").map_or(0, |ms| stamp_of_ms(ms) | 0xffff);
    let view =
        View { attempts: attempts.ok_or_else(unread)?, outcomes: outcomes.ok_or_else(unread)?, forgotten };
    Ok(view.sorted())
}

/// One line of CONFLICTS; `key` finds a key's number.
pub fn conflict(
    row: &Value,
    region: &dyn Fn(&str) -> Option<Region>,
    key: &dyn Fn(&[u8]) -> Option<Key>,
) -> Result<ConflictFact, String> {
    let read = || {
        let winner = match claim_of(row, "winner_claim") {
            None => None,
            Some(claim) => {
                let stamp = stamp_of_ms(row.number("winner_completed_at")?);
                Some((stamp, region(row.text("winner_region")?)?, claim))
            }
        };
        Some(ConflictFact {
            key: key(row.bytes("key")?)?,
            loser: claim_of(row, "loser_claim")?,
            region: region(row.text("loser_region")?)?,
            loser_stamp: stamp_of_ms(row.number("loser_completed_at")?),
            winner,
            compensated: row.truth("compensated"),
        })
    };
    read().ok_or_else(|| format!("CONFLICTS: {row:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.as_bytes().to_vec())
    }

    fn map(fields: &[(&str, Value)]) -> Value {
        Value::Map(fields.iter().map(|(name, value)| (text(name), value.clone())).collect())
    }

    #[test]
    fn claim_ids_are_read_and_nothing_else() {
        let name = ClaimName { stamp: 0x1234_0000_0000_0001, region: 3, incarnation: 29_000_000 };
        assert_eq!(claim("1234000000000001-3-29000000"), Some(name));
        for wrong in ["", "12", "12-3", "xx-1-2", "12-3-4-5", "12-99999-1"] {
            assert_eq!(claim(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn answers_carry_what_the_oracle_judges() {
        let replay = map(&[
            ("status", text("REPLAY")),
            ("outcome", text("done")),
            ("claim_id", text("0000000000010000-1-7")),
        ]);
        let claim = ClaimName { stamp: 1 << 16, region: 1, incarnation: 7 };
        assert_eq!(answer(&replay), Ok((Answer::Replay { bytes: b"done".to_vec(), claim }, None)));
        let refused = map(&[("status", text("UNAVAILABLE")), ("reason", text("clock"))]);
        assert_eq!(answer(&refused), Ok((Answer::Unavailable { reason: "clock".to_owned() }, None)));
        assert!(answer(&map(&[("status", text("GRANTED"))])).is_err(), "without its token");
        assert!(answer(&map(&[("status", text("WHATEVER"))])).is_err());
        assert!(answer(&Value::Error("BADARG".to_owned())).is_err());
    }

    #[test]
    fn an_entry_is_what_inspect_shows_of_it() {
        let attempt = map(&[
            ("claim_id", text("0000000000020000-2-7")),
            ("region", text("us")),
            ("phase", text("abandoned")),
            ("lease_until", Value::Int(50)),
            ("fingerprint", text("000000000000000000000000000000ff")),
            ("claimant", text("job-1")),
            ("expires_at", Value::Int(90)),
        ]);
        let reply = map(&[
            ("status", text("OK")),
            ("attempts", Value::List(vec![attempt])),
            ("outcomes", Value::List(Vec::new())),
            ("forgotten", Value::Int(1)),
        ]);
        let view = view(&reply, &|name| (name == "us").then_some(2)).expect("an entry");
        assert_eq!((view.attempts[0].abandoned_lease, view.attempts[0].phase), (50, Phase::Held));
        assert_eq!(view.attempts[0].fingerprint.map(|print| print[15]), Some(0xff));
        assert_eq!(view.forgotten, 0x1ffff);
    }
}
