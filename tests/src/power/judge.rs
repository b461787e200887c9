//! What must be found after a cut, and what may be gone.
//!
//! The judge knows only what clients were told. At `always` every acknowledged claim and outcome is there, the claim
//! with its id, the outcome byte for byte; at `interval` what was acknowledged longer than [`WINDOW_US`] before the cut
//! is; and nowhere is anything that nobody wrote. Stamps of a region only ever rise.

use std::collections::BTreeSet;

use daemon::resp::{Client, Value};

use super::load::{History, Operation, Promise, Served, claimant_of, is_outcome};
use crate::words::{field, status};

/// `sync_interval`, the window that onced states, in microseconds.
pub const SYNC_INTERVAL_US: u64 = 50_000;
/// What a sync itself and a machine whose cores are shared may add to it: an answer that is read while a sync runs is
/// covered by the next one, which begins an interval later and must end.
pub const SLACK_US: u64 = 250_000;
/// The sum: what was acknowledged earlier before the cut is there.
pub const WINDOW_US: u64 = SYNC_INTERVAL_US + SLACK_US;
/// Questions in flight.
const PIPELINED: usize = 200;

/// What of an operation is gone.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Lost {
    /// The claim that was granted.
    pub claim: Option<Promise>,
    /// The outcome that was recorded.
    pub outcome: Option<Promise>,
}

impl Lost {
    /// Every promise that was not kept.
    pub fn promises(&self) -> impl Iterator<Item = Promise> {
        self.claim.into_iter().chain(self.outcome)
    }
}

/// GET for many keys.
pub fn look<'k>(client: &mut Client, keys: impl Iterator<Item = &'k str>) -> Vec<Value> {
    let keys: Vec<_> = keys.collect();
    let mut replies = Vec::with_capacity(keys.len());
    for batch in keys.chunks(PIPELINED) {
        for key in batch {
            client.send(&[b"GET", key.as_bytes()]).expect("the socket takes it");
        }
        replies.extend(batch.iter().map(|_| client.recv().expect("GET is answered")));
    }
    replies
}

/// What `reply` to GET says is gone.
///
/// # Errors
/// It says something that nobody wrote.
pub fn lost(operation: &Operation, reply: &Value) -> Result<Lost, String> {
    let wrong = || Err(format!("{operation:?} became {reply:?}"));
    let same_claim = || {
        let known = operation.claim.as_ref();
        known.is_none_or(|(_, id)| field(reply, "claim_id") == *id)
    };
    match status(reply).as_str() {
        "SETTLED" if operation.completing && same_claim() && is_outcome(reply, &operation.key) => {
            Ok(Lost::default())
        }
        "HELD" if same_claim() && field(reply, "claimant") == claimant_of(&operation.key) => {
            Ok(Lost { claim: None, outcome: operation.completed })
        }
        "FREE" => Ok(Lost { claim: operation.granted, outcome: operation.completed }),
        _ => wrong(),
    }
}

/// Whether an outcome that was served is still there.
pub fn kept(served: &Served, reply: &Value) -> bool {
    status(reply) == "SETTLED" && is_outcome(reply, &served.key)
}

/// The stamps that one region has issued.
#[derive(Clone, Default, Debug)]
pub struct Stamps {
    known: BTreeSet<u64>,
    high: u64,
}

impl Stamps {
    /// Takes what the clients of one life of the process were granted: each client's in the order in which it asked.
    ///
    /// # Errors
    /// A stamp was issued twice, or after a greater one.
    pub fn note(&mut self, histories: &[History]) -> Result<(), String> {
        let before = self.high;
        for history in histories {
            let mut last = before;
            for operation in &history.operations {
                let Some((token, _)) = &operation.claim else { continue };
                last = self.issued(token, last)?;
            }
        }
        Ok(())
    }

    /// One token, issued after `last`; its stamp.
    fn issued(&mut self, token: &str, last: u64) -> Result<u64, String> {
        let stamp = u64::from_str_radix(&token[..16], 16).expect("a token begins with its stamp");
        if stamp <= last {
            return Err(format!("INV-9: stamp {stamp:016x} was issued after {last:016x}"));
        }
        if !self.known.insert(stamp) {
            return Err(format!("INV-9: stamp {stamp:016x} was issued twice"));
        }
        self.high = self.high.max(stamp);
        Ok(stamp)
    }

    /// A token issued after everything that was noted.
    ///
    /// # Errors
    /// As [`Stamps::note`].
    pub fn note_later(&mut self, token: &str) -> Result<(), String> {
        self.issued(token, self.high).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation() -> Operation {
        let promise = Some(Promise { at_us: 1, durable: true });
        let claim = Some(("00ff".repeat(26), "7-1-1".to_owned()));
        Operation { key: "pay:1".to_owned(), claim, granted: promise, completing: false, completed: None }
    }

    fn reply(fields: &[(&str, &[u8])]) -> Value {
        let pair = |(name, value): &(&str, &[u8])| {
            (Value::Bulk(name.as_bytes().to_vec()), Value::Bulk(value.to_vec()))
        };
        Value::Map(fields.iter().map(pair).collect())
    }

    /// A judge that finds everything well proves nothing.
    #[test]
    fn the_judge_sees_what_is_gone_and_what_is_wrong() {
        let held = |id: &[u8]| reply(&[("status", b"HELD"), ("claim_id", id), ("claimant", b"c-pay:1")]);
        let mut operation = operation();
        assert_eq!(lost(&operation, &held(b"7-1-1")), Ok(Lost::default()));
        assert!(lost(&operation, &held(b"8-1-1")).is_err(), "another claim");
        let free = lost(&operation, &reply(&[("status", b"FREE")])).expect("may be");
        assert_eq!((free.claim, free.outcome), (operation.granted, None));
        let settled =
            |outcome: &[u8]| reply(&[("status", b"SETTLED"), ("claim_id", b"7-1-1"), ("outcome", outcome)]);
        let outcome = super::super::load::outcome_of("pay:1");
        assert!(lost(&operation, &settled(&outcome)).is_err(), "nobody has completed it");
        operation.completing = true;
        operation.completed = operation.granted;
        assert_eq!(lost(&operation, &settled(&outcome)), Ok(Lost::default()));
        assert!(lost(&operation, &settled(b"other")).is_err());
        assert_eq!(lost(&operation, &held(b"7-1-1")).expect("may be").outcome, operation.completed);
    }

    #[test]
    fn stamps_only_rise() {
        let token = |stamp: u64| format!("{stamp:016x}{}", "0".repeat(90));
        let mut stamps = Stamps::default();
        assert!(stamps.note_later(&token(5)).is_ok());
        assert!(stamps.note_later(&token(5)).is_err());
        assert!(stamps.note_later(&token(4)).is_err());
        assert!(stamps.note_later(&token(6)).is_ok());
    }
}
