//! Requests at `home` (S5), between the simulation and the product.
//!
//! Must never: decide who the home is; that is asked of the product, and judged by what comes of it.

use crdt::node::{Answered, Asked};
use crdt::request::{Claim, Reply, Request};
use crdt::store::Release;
use crdt::token::Token;

use super::{Replica, convert, region_id, region_index, request};
use crate::oracle::ask::{Answer, Ask};
use crate::oracle::facts::Millis;

/// A peer's request, decided here.
pub struct AskedHere {
    /// What was asked.
    pub ask: Ask,
    /// What was decided.
    pub answer: Answer,
    /// The request wants it synced.
    pub durable: bool,
    /// What must be durable before the peer is told.
    pub release: Release,
}

impl Replica {
    /// The home of a key, by number, as this region sees it.
    pub fn home_of(&self, key: &str) -> usize {
        region_index(self.store.home_of(key.as_bytes()))
    }

    /// A request is for another region to decide.
    pub fn ask_home(
        &mut self,
        ticket: u64,
        home: usize,
        (key, ask, token, durable): (&str, &Ask, Option<&Token>, bool),
        wall: Millis,
    ) {
        let request = request(key.as_bytes(), ask, token, durable);
        self.node.handle_forward(ticket, region_id(home), &request, wall);
    }

    /// Whose request is to be looked at again, and with what.
    pub fn poll_forwarded(&mut self) -> Option<Answered> {
        self.node.poll_forwarded()
    }

    /// The next request of a peer that is to be decided here.
    pub fn poll_asked(&mut self) -> Option<Asked> {
        self.node.poll_asked()
    }

    /// Decides it; the node answers by itself.
    pub fn run_asked(&mut self, asked: &Asked, wall: Millis) -> AskedHere {
        let wanted = asked.request();
        let (ask, durable) = (ask_of(&wanted), wanted.durable());
        let mut answer = None;
        let emit = |reply: &Reply<'_>| answer = Some(convert::answer(reply).0);
        let release = self.node.run_asked(&self.store, asked, wall, emit);
        let answer = answer.expect("the workload sends only lawful requests, and policies are alike");
        AskedHere { ask, answer, durable, release }
    }
}

fn ask_of(request: &Request<'_>) -> Ask {
    let fact = convert::token_fact;
    match request {
        Request::Claim(Claim { fingerprint, claimant, lease_ms, retention_ms, .. }) => Ask::Claim {
            fingerprint: fingerprint.map(|fingerprint| fingerprint.0),
            claimant: claimant.to_vec(),
            lease: lease_ms.unwrap_or_default(),
            retention: retention_ms.unwrap_or_default(),
            wait: 0,
        },
        Request::Complete { token, outcome, .. } => {
            Ask::Complete { token: fact(token), bytes: outcome.to_vec() }
        }
        Request::Renew { token, lease_ms, .. } => {
            Ask::Renew { token: fact(token), lease: lease_ms.unwrap_or_default() }
        }
        Request::Release { token, .. } => Ask::Release { token: fact(token) },
        Request::Get { .. } | Request::Forget { .. } | Request::Resolve { .. } => {
            unreachable!("no home decides these")
        }
    }
}
