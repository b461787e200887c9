//! Which region decides a key at `home` (S5), and the second way into [`Store::run`]: for a peer's request.
//!
//! The node says which regions there are, and whether this one may decide as the home of keys (`node::homes`): read only
//! by requests at that level.
//!
//! A claim granted for a peer is *unheard* until anybody else is told of it: so long, and no longer, the peer may withdraw it,
//! because whoever asked for it has gone. A claimant that asks again, anywhere, is granted the same claim (S4.1): to release
//! it then would take it from a holder that knows nothing of it.
//!
//! Must never: release a claim that somebody may hold.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::{Ran, Scratch, Store, lock};
use crate::decide::{Gathered, Home, Verdict, home_of};
use crate::ids::{ClaimId, RegionId};
use crate::limits;
use crate::policy::{Level, Policy};
use crate::request::{BadRequest, Reply, Request};

/// With what a request comes to its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// From a service, for the first time.
    First,
    /// With what came of [`Ran::Asks`].
    Gathered(Gathered),
    /// With what came of [`Ran::Forwards`]; `None`: the other region could not be asked.
    Answered(Option<Verdict>),
    /// From a peer that takes this region for the home.
    Asked,
    /// From a peer whose service has gone: releases a claim that nobody was told of.
    Withdrawn,
}

/// What the node says of homes.
#[derive(Clone, Debug, Default)]
struct Regions {
    /// All of the membership, this one among them; none: a store without a node, which decides alone.
    all: Vec<RegionId>,
    /// This region may decide as a home.
    decides: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Homes {
    regions: RwLock<Arc<Regions>>,
    unheard: Mutex<Unheard>,
}

/// Claims that nobody was told of as far as is known here, the oldest first.
#[derive(Debug, Default)]
struct Unheard {
    claims: BTreeSet<ClaimId>,
    order: VecDeque<ClaimId>,
}

impl Homes {
    /// A claim is granted for a peer.
    pub(super) fn note_unheard(&self, claim: ClaimId) {
        let mut unheard = lock(&self.unheard);
        if unheard.claims.insert(claim) {
            unheard.order.push_back(claim);
        }
        if unheard.order.len() > limits::FORWARDS_UNHEARD_MAX
            && let Some(oldest) = unheard.order.pop_front()
        {
            unheard.claims.remove(&oldest);
        }
    }

    /// Somebody else is told of it, or it is withdrawn: false if that was so before.
    pub(super) fn take_unheard(&self, claim: ClaimId) -> bool {
        lock(&self.unheard).claims.remove(&claim)
    }
}

impl Store {
    /// The regions among which keys have their homes, and whether this one may decide as one.
    pub(crate) fn set_homes(&self, all: Vec<RegionId>, decides: bool) {
        let mut regions = self.homes.regions.write().unwrap_or_else(PoisonError::into_inner);
        *regions = Arc::new(Regions { all, decides });
    }

    /// Whether this region may decide as the home of keys: for people, and for tests.
    pub fn decides_as_home(&self) -> bool {
        self.home_regions().decides
    }

    /// How this region stands to what homes decide, in a word: for people.
    pub fn home_name(&self) -> &'static str {
        match (self.decides_as_home(), self.policies().ask_homes() || self.gate.is_home_wanted()) {
            (_, false) => "unused",
            (true, true) => "decides",
            (false, true) => "comparing",
        }
    }

    /// The home of `key` by its namespace's policy and the membership in force (S5).
    pub fn home_of(&self, key: &[u8]) -> RegionId {
        let rules = self.rules();
        let (policy, _) = rules.of_key(key);
        self.home_by(key, policy, &self.home_regions())
    }

    fn home_regions(&self) -> Arc<Regions> {
        Arc::clone(&self.homes.regions.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn home_by(&self, key: &[u8], policy: &Policy, regions: &Regions) -> RegionId {
        let spread = || home_of(self.config.keys.key_hash(key), &regions.all);
        policy.home.or_else(spread).unwrap_or(self.config.region)
    }

    /// How `request` stands to its key's home on this look.
    pub(super) fn home_at(&self, request: &Request<'_>, policy: &Policy, look: Look) -> Home {
        // What an operator settles or erases is settled where it is said.
        let operators = matches!(request, Request::Forget { .. } | Request::Resolve { .. });
        if operators || request.level(policy) != Level::Home {
            return Home::Not;
        }
        match look {
            Look::Answered(Some(verdict)) => return verdict.stands(request),
            Look::Answered(None) => return Home::Unreachable,
            Look::First | Look::Asked | Look::Withdrawn | Look::Gathered(_) => {}
        }
        let own = self.config.region;
        if let Request::Renew { token, .. } | Request::Release { token, .. } = request {
            // Its own region's to write, whatever the home is by now.
            return if token.id.region == own { Home::Here } else { Home::There(token.id.region) };
        }
        let regions = self.home_regions();
        match self.home_by(request.key(), policy, &regions) {
            home if home != own => Home::There(home),
            _ if regions.decides || regions.all.is_empty() => Home::Here,
            _ => {
                self.gate.want_home();
                Home::Unreachable
            }
        }
    }

    /// Runs a request that a peer has forwarded, or withdraws one; only what this region decides as the key's home is
    /// decided at all. The reply is for the peer, see [`Verdict::of`].
    pub fn run_asked(
        &self,
        request: &Request<'_>,
        look: Look,
        wall_ms: u64,
        scratch: &mut Scratch,
        emit: impl FnOnce(&Reply<'_>),
    ) -> Result<Ran, BadRequest> {
        self.look(request, look, wall_ms, None, scratch, emit)
    }
}
