//! What a frame carries, as plain data: for stories about a run, never for judging it.
//!
//! Must never: be asked for by a run that nobody wants the story of; decoding costs more than delivering.

use crdt::entry::Bytes;
use crdt::journal::Record;
use crdt::wire::stream::{self, Author};
use crdt::wire::{Bodies, Frame, push_body};

use super::convert;
use crate::oracle::facts::View;

/// A frame's contents.
#[derive(Clone, Debug)]
pub struct Carried {
    /// Its kind, in one word.
    pub kind: &'static str,
    /// Keys, and what is said of each.
    pub entries: Vec<(Vec<u8>, View)>,
    /// Keys of which a double execution is told.
    pub conflicts: Vec<Vec<u8>>,
}

/// Reads a frame that region number `from` sent; one that does not decode carries nothing.
pub fn carried(from: usize, bytes: &[u8]) -> Carried {
    let mut carried = Carried { kind: "unreadable", entries: Vec::new(), conflicts: Vec::new() };
    let Ok(frame) = Frame::decode(bytes) else { return carried };
    let region = super::region_id(from);
    carried.kind = kind(&frame);
    let unpacked = match frame {
        Frame::Records { last, bodies, .. } => {
            stream::unpack(Author { region, incarnation: last.incarnation }, bodies)
        }
        Frame::Repair { bodies, .. } => Ok(bodies.0.to_vec()),
        Frame::Forwarded { body, .. } if !body.0.is_empty() => {
            let mut bodies = Vec::new();
            push_body(body.0, &mut bodies);
            Ok(bodies)
        }
        _ => return carried,
    };
    for body in Bodies::new(Bytes(&unpacked.unwrap_or_default())) {
        match Record::decode(body) {
            Ok(Record::Entry(_, entry)) => {
                if let Ok(unpacked) = entry.entry.unpack() {
                    carried.entries.push((entry.key.0.to_vec(), convert::view(&unpacked)));
                }
            }
            Ok(Record::Conflict(_, conflict)) => carried.conflicts.push(conflict.id.key),
            _ => {}
        }
    }
    carried
}

const fn kind(frame: &Frame<'_>) -> &'static str {
    match frame {
        Frame::Hello(_) => "hello",
        Frame::Records { .. } => "records",
        Frame::Ack { resend: false, .. } => "ack",
        Frame::Ack { resend: true, .. } => "resend",
        Frame::Ping { .. } => "ping",
        Frame::Pong { .. } => "pong",
        Frame::Compare { .. } => "compare",
        Frame::Differ { .. } => "differ",
        Frame::Narrow { .. } => "narrow",
        Frame::Items { .. } => "items",
        Frame::Want { .. } => "want",
        Frame::Repair { .. } => "repair",
        Frame::Membership { .. } => "membership",
        Frame::Behind { .. } => "behind",
        Frame::Ask { .. } => "ask",
        Frame::Voice { .. } => "voice",
        Frame::Forward { .. } => "forward",
        Frame::Forwarded { .. } => "forwarded",
        Frame::Withdraw { .. } => "withdraw",
    }
}
