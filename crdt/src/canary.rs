//! Planted bugs: each a mistake that is easy to make and that the simulator must catch.
//!
//! With the `canary` feature one of them is switched on at run time for the whole thread; without
//! it [`planted`] is a constant `false` and costs nothing. `onced` refuses to compile with the
//! feature. A canary that the simulator misses is a hole in the simulator, not in the product.

/// The mistakes that can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Among outcomes or attempts the one that is already here wins.
    TieBreakByArrival,
    /// A join keeps only the outcomes of one side when both have some.
    JoinForgetsOutcome,
    /// A takeover looks only at the winner's lease, not at every Held attempt's.
    TakeoverLooksOnlyAtWinner,
    /// Stamps follow the wall clock back.
    ClockGoesBack,
    /// Replies and acknowledgements leave before their durability.
    AckBeforeSync,
    /// A takeover happens when the lease still runs.
    TakeoverBeforeLeaseEnds,
    /// A payload with another fingerprint is answered with the stored outcome.
    ReplayIgnoresFingerprint,
    /// A renewal that a takeover had not seen does not revive the attempt.
    RenewalDoesNotRevive,
    /// Losers are not listed.
    LosersNotListed,
    /// A peer's cursor moves past frames that were never merged.
    CursorSkipsGap,
    /// Entries die at their expiry although a live part is joined to them.
    DropsLiveParts,
    /// A retry of the same claimant is granted anew instead of again.
    RetryGrantsAnew,
    /// The sums over what is held keep what has left it.
    DigestKeepsTheDead,
    /// A comparison mends what we lack and not what the peer lacks.
    RepairsOneWay,
    /// A region that is behind takes a comparison for ended before what it wanted has come.
    FeedEndsEarly,
    /// Memberships any number of steps apart link.
    LinksAnyMembership,
    /// A change of membership is not told over live links.
    MembershipNotTold,
}

impl Bug {
    /// Every bug, in the order in which they are listed to people.
    pub const ALL: [Self; 17] = [
        Self::TieBreakByArrival,
        Self::JoinForgetsOutcome,
        Self::TakeoverLooksOnlyAtWinner,
        Self::ClockGoesBack,
        Self::AckBeforeSync,
        Self::TakeoverBeforeLeaseEnds,
        Self::ReplayIgnoresFingerprint,
        Self::RenewalDoesNotRevive,
        Self::LosersNotListed,
        Self::CursorSkipsGap,
        Self::DropsLiveParts,
        Self::RetryGrantsAnew,
        Self::DigestKeepsTheDead,
        Self::RepairsOneWay,
        Self::FeedEndsEarly,
        Self::LinksAnyMembership,
        Self::MembershipNotTold,
    ];

    /// The name by which a command line chooses it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TieBreakByArrival => "tie-break-by-arrival",
            Self::JoinForgetsOutcome => "join-forgets-outcome",
            Self::TakeoverLooksOnlyAtWinner => "takeover-looks-only-at-winner",
            Self::ClockGoesBack => "clock-goes-back",
            Self::AckBeforeSync => "ack-before-sync",
            Self::TakeoverBeforeLeaseEnds => "takeover-before-lease-ends",
            Self::ReplayIgnoresFingerprint => "replay-ignores-fingerprint",
            Self::RenewalDoesNotRevive => "renewal-does-not-revive",
            Self::LosersNotListed => "losers-not-listed",
            Self::CursorSkipsGap => "cursor-skips-gap",
            Self::DropsLiveParts => "drops-live-parts",
            Self::RetryGrantsAnew => "retry-grants-anew",
            Self::DigestKeepsTheDead => "digest-keeps-the-dead",
            Self::RepairsOneWay => "repairs-one-way",
            Self::FeedEndsEarly => "feed-ends-early",
            Self::LinksAnyMembership => "links-any-membership",
            Self::MembershipNotTold => "membership-not-told",
        }
    }
}

#[cfg(feature = "canary")]
mod chosen {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants `bug` (or none) for everything that this thread runs from now on.
    pub fn plant(bug: Option<Bug>) {
        CHOSEN.set(bug);
    }

    /// Whether `bug` is the planted one.
    pub fn planted(bug: Bug) -> bool {
        CHOSEN.get() == Some(bug)
    }
}

#[cfg(feature = "canary")]
pub use chosen::{plant, planted};

/// Whether `bug` is planted: never, in a build without the `canary` feature.
#[cfg(not(feature = "canary"))]
#[inline(always)]
pub const fn planted(_bug: Bug) -> bool {
    false
}

/// Whether this build can plant bugs at all.
pub const COMPILED_IN: bool = cfg!(feature = "canary");
