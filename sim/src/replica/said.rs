//! What a frame that leaves says: for the oracle, which holds it against what is so, and in words for a trace.
//!
//! Must never: say more than the frame does.

use crdt::ids::Cursor;
use crdt::journal::Record;
use crdt::wire::Frame;

use super::convert;
use crate::oracle::facts::{Lsn, View};

/// What a frame says that the oracle wants to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// Its receiver's log is held up to here.
    Holds {
        /// In which life of the receiver's data.
        incarnation: u32,
        /// In which run of its log.
        epoch: u32,
        /// Up to where.
        lsn: Lsn,
        /// And durably: it is an acknowledgement, no hello and no wish to have something again.
        durable: bool,
    },
    /// Records of the sender's log up to here.
    Records(Lsn),
    /// What was proposed for this key is held, by one that counts in majorities (S5).
    Voice {
        /// Its name.
        key: Vec<u8>,
        /// What is known of it.
        view: View,
        /// After so many changes of membership.
        step: usize,
    },
    /// What the home of this key has decided (S5).
    Decided {
        /// Its name.
        key: Vec<u8>,
        /// What the home knows of it.
        view: View,
    },
    /// The first frame of a session.
    Hello,
    /// Part of a comparison: what is held, or which of it is wanted.
    Compares,
    /// What a comparison found the other to lack.
    Repairs,
    /// Nothing of interest.
    Other,
}

/// Kinds of frames by the byte that says so; golden bytes pin them.
const KIND_PING: u8 = 3;
const KIND_PONG: u8 = 4;
const KIND_COMPARE: u8 = 5;
const KIND_WANT: u8 = 9;

/// Reads a frame that is leaving.
pub fn said(bytes: &[u8]) -> Said {
    // Behind the version stands the kind, and mostly it says all: decoding costs more than delivering.
    match bytes.get(1) {
        Some(&(KIND_PING | KIND_PONG)) => Said::Other,
        Some(&(KIND_COMPARE..=KIND_WANT)) => Said::Compares,
        _ => decoded(bytes),
    }
}

fn decoded(bytes: &[u8]) -> Said {
    match Frame::decode(bytes) {
        Ok(Frame::Ack { upto, resend }) => {
            let (incarnation, epoch) = (upto.incarnation.0, upto.epoch.0);
            Said::Holds { incarnation, epoch, lsn: upto.lsn, durable: !resend }
        }
        Ok(Frame::Hello(hello)) => match hello.have {
            Some(have) => {
                let (incarnation, epoch) = (have.incarnation.0, have.epoch.0);
                Said::Holds { incarnation, epoch, lsn: have.lsn, durable: false }
            }
            None => Said::Hello,
        },
        Ok(Frame::Records { last, bodies, .. }) if !bodies.0.is_empty() => Said::Records(last.lsn),
        Ok(
            Frame::Compare { .. }
            | Frame::Differ { .. }
            | Frame::Narrow { .. }
            | Frame::Items { .. }
            | Frame::Want { .. },
        ) => Said::Compares,
        Ok(Frame::Repair { .. }) => Said::Repairs,
        Ok(Frame::Voice { counts: true, epoch, body, .. }) => match Record::decode(body.0) {
            Ok(Record::Entry(_, read)) => {
                let view = read.entry.unpack().map(|entry| convert::view(&entry));
                let (key, view) = (read.key.0.to_vec(), view.unwrap_or_default());
                Said::Voice { key, view, step: epoch as usize - 1 }
            }
            _ => Said::Other,
        },
        Ok(Frame::Forwarded { body, .. }) if !body.0.is_empty() => match Record::decode(body.0) {
            Ok(Record::Entry(_, read)) => {
                let view = read.entry.unpack().map(|entry| convert::view(&entry));
                Said::Decided { key: read.key.0.to_vec(), view: view.unwrap_or_default() }
            }
            _ => Said::Other,
        },
        _ => Said::Other,
    }
}

/// The records of a frame that brings some; else nothing.
pub fn record_bytes(bytes: &[u8]) -> &[u8] {
    match Frame::decode(bytes) {
        Ok(Frame::Records { bodies, .. }) => bodies.0,
        _ => &[],
    }
}

/// What a frame says, in a few words, for a trace.
pub fn describe(bytes: &[u8]) -> String {
    let cursor = |at: Cursor| format!("{}/{}/{}", at.incarnation.0, at.epoch.0, at.lsn);
    match Frame::decode(bytes) {
        Ok(Frame::Hello(hello)) => {
            let have = hello.have.map_or_else(|| "nothing".to_owned(), cursor);
            format!("hello: membership {}, tip {}, has {have}", hello.membership, hello.tip)
        }
        Ok(Frame::Records { prev, last, bodies, .. }) => {
            format!("records: {} to {}, {} bytes", cursor(prev), cursor(last), bodies.0.len())
        }
        Ok(Frame::Ack { upto, resend }) => {
            format!("{}: {}", if resend { "resend" } else { "ack" }, cursor(upto))
        }
        Ok(Frame::Ping { sent, .. }) => format!("ping: {}", cursor(sent)),
        Ok(Frame::Membership { epoch, .. }) => format!("membership: {epoch}"),
        Ok(other) => {
            let text = format!("{other:?}");
            text.split([' ', '{']).next().unwrap_or_default().to_lowercase()
        }
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crdt::digest::Horizon;
    use crdt::wire::Exchange;

    /// The short way to a frame's kind must say what decoding it says.
    #[test]
    fn kinds_of_frames_are_read_without_decoding_them() {
        let exchange = Exchange { nonce: 1, horizon: Horizon::EVERYTHING, shards: 2 };
        let frames = [
            Frame::Ping { at_ms: 1, sent: Cursor::default(), incomplete: false },
            Frame::Pong { ping_at_ms: 1, at_ms: 2 },
            Frame::Ack { upto: Cursor::default(), resend: false },
            Frame::Compare { exchange, sums: Vec::new() },
            Frame::Differ { nonce: 1, number: 0, buckets: Vec::new(), more: false, declined: true },
            Frame::Narrow { exchange, shard: 0, ranges: Vec::new() },
            Frame::Items { nonce: 1, shard: 0, ranges: Vec::new() },
            Frame::Want { exchange, shard: 0, wanted: Vec::new() },
        ];
        for frame in frames {
            let bytes = frame.encode();
            assert_eq!(said(&bytes), decoded(&bytes), "{frame:?}");
        }
    }
}
