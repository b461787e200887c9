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
    /// A peer's cursor is kept before what it brought is merged, or refused.
    CursorBeforeEntry,
    /// Damage in a log's end is always taken for a torn tail.
    DamageTakenForTear,
    /// Records of the log are read without a look at their checksums.
    ChecksumNotChecked,
    /// A region that finds no data begins its first life, whatever it lived before.
    IncarnationFromOne,
    /// An old backup that is put back goes on with the life that it tells of.
    OldCopyGoesOn,
    /// A region that is put back to an old backup believes that it lacks nothing.
    OldCopyLacksNothing,
    /// A start after a power loss forgets up to where stamps may have been issued and lost.
    FloorForgotten,
    /// Stamps that run too far ahead of the wall clock are merged.
    AheadStampsMerged,
    /// Parts die at their expiry, without the margin between clocks.
    DiesWithoutMargin,
    /// What a FORGET has voided stays for as long as the FORGET itself.
    ForgetKeepsTheDead,
    /// A FORGET is dropped with the last part of its key.
    ForgetDiesWithKey,
    /// A claim that a FORGET has voided may still be completed.
    ForgetIgnoredByHolders,
    /// A start grants before it has caught up with anybody.
    ReadyBeforeCaughtUp,
    /// That a life lacks data is forgotten when it starts a second time.
    LackForgotten,
    /// A token's tag is not looked at.
    TagNotChecked,
    /// A loser is shown the winner's outcome, whatever its payload.
    SupersededShowsAnyPayload,
    /// A renewal is taken in another region than its claim's.
    RenewsElsewhere,
    /// A listed loser keeps the winner it was listed with.
    ConflictKeepsFirstWinner,
    /// A loser is marked as dealt with in memory only.
    CompensationNotLogged,
    /// Whoever waits for a loser is not woken when one arrives.
    FeedNotWoken,
    /// A feed goes on behind a position that another start of the daemon has given.
    FeedGoesOnBlindly,
    /// A loser is listed for as long as its key is remembered.
    ConflictDiesWithKey,
    /// What a peer brings wakes nobody who waits for it.
    LostWakeUp,
    /// Keys that have died stay counted.
    QuotaCountsTheDead,
    /// Log that every peer has is deleted although no run covers it.
    TrimsUncovered,
    /// A run is deleted when the last state written to it is dead.
    RunDiesEarly,
    /// The manifest names runs that are not synced.
    RunsNotSynced,
    /// A comparison brings only what the answering region has written itself.
    RelaysNothing,
    /// What a retired region wrote is not taken from others.
    RetiredEntriesRefused,
    /// A peer's records are acknowledged before the log holds them.
    AcksBeforeWritten,
    /// A comparison counts what is still on its way as a difference.
    ComparesInFlight,
    /// Of two regions that ask for a key, neither waits for the other.
    AskedDoNotWait,
    /// A majority is counted before those who make it hold anything durably.
    VoicesBeforeSync,
    /// A region that has lost its data counts in majorities at once.
    VoiceWithoutData,
    /// Half of the regions are taken for a majority.
    HalfIsMajority,
    /// What the others know of the key is not joined in before a grant.
    VoicesNotJoined,
    /// A majority takes over what is to be resolved first.
    MajorityTakesOverUnknown,
    /// An operation is resolved while its holder may be at work.
    ResolvesRunningLease,
    /// A claim at `home` is granted here when the home cannot be asked, although the policy refuses.
    GrantsWithoutHome,
    /// A home's answer leaves before what it tells of is durable.
    HomeAnswersEarly,
    /// A home decides for peers of another membership, and at once after a step of its own.
    HomeAtAnyEpoch,
    /// An outcome whose home cannot be asked is answered as if it were recorded, and is not.
    OutcomeNotRecorded,
}

impl Bug {
    /// Every bug, in the order in which they are listed to people.
    pub const ALL: [Self; 59] = [
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
        Self::CursorBeforeEntry,
        Self::DamageTakenForTear,
        Self::ChecksumNotChecked,
        Self::IncarnationFromOne,
        Self::OldCopyGoesOn,
        Self::OldCopyLacksNothing,
        Self::FloorForgotten,
        Self::AheadStampsMerged,
        Self::DiesWithoutMargin,
        Self::ForgetKeepsTheDead,
        Self::ForgetDiesWithKey,
        Self::ForgetIgnoredByHolders,
        Self::ReadyBeforeCaughtUp,
        Self::LackForgotten,
        Self::TagNotChecked,
        Self::SupersededShowsAnyPayload,
        Self::RenewsElsewhere,
        Self::ConflictKeepsFirstWinner,
        Self::CompensationNotLogged,
        Self::FeedNotWoken,
        Self::FeedGoesOnBlindly,
        Self::ConflictDiesWithKey,
        Self::LostWakeUp,
        Self::QuotaCountsTheDead,
        Self::TrimsUncovered,
        Self::RunDiesEarly,
        Self::RunsNotSynced,
        Self::RelaysNothing,
        Self::RetiredEntriesRefused,
        Self::AcksBeforeWritten,
        Self::ComparesInFlight,
        Self::AskedDoNotWait,
        Self::VoicesBeforeSync,
        Self::VoiceWithoutData,
        Self::HalfIsMajority,
        Self::VoicesNotJoined,
        Self::MajorityTakesOverUnknown,
        Self::ResolvesRunningLease,
        Self::GrantsWithoutHome,
        Self::HomeAnswersEarly,
        Self::HomeAtAnyEpoch,
        Self::OutcomeNotRecorded,
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
            Self::CursorBeforeEntry => "cursor-before-entry",
            Self::DamageTakenForTear => "damage-taken-for-tear",
            Self::ChecksumNotChecked => "checksum-not-checked",
            Self::IncarnationFromOne => "incarnation-from-one",
            Self::OldCopyGoesOn => "old-copy-goes-on",
            Self::OldCopyLacksNothing => "old-copy-lacks-nothing",
            Self::FloorForgotten => "floor-forgotten",
            Self::AheadStampsMerged => "ahead-stamps-merged",
            Self::DiesWithoutMargin => "dies-without-margin",
            Self::ForgetKeepsTheDead => "forget-keeps-the-dead",
            Self::ForgetDiesWithKey => "forget-dies-with-its-key",
            Self::ForgetIgnoredByHolders => "forget-ignored-by-holders",
            Self::ReadyBeforeCaughtUp => "ready-before-caught-up",
            Self::LackForgotten => "lack-forgotten",
            Self::TagNotChecked => "tag-not-checked",
            Self::SupersededShowsAnyPayload => "superseded-shows-any-payload",
            Self::RenewsElsewhere => "renews-elsewhere",
            Self::ConflictKeepsFirstWinner => "conflict-keeps-first-winner",
            Self::CompensationNotLogged => "compensation-not-logged",
            Self::FeedNotWoken => "feed-not-woken",
            Self::FeedGoesOnBlindly => "feed-goes-on-blindly",
            Self::ConflictDiesWithKey => "conflict-dies-with-its-key",
            Self::LostWakeUp => "lost-wake-up",
            Self::QuotaCountsTheDead => "quota-counts-the-dead",
            Self::TrimsUncovered => "trims-uncovered",
            Self::RunDiesEarly => "run-dies-early",
            Self::RunsNotSynced => "runs-not-synced",
            Self::RelaysNothing => "relays-nothing",
            Self::RetiredEntriesRefused => "retired-entries-refused",
            Self::AcksBeforeWritten => "acks-before-written",
            Self::ComparesInFlight => "compares-in-flight",
            Self::AskedDoNotWait => "asked-do-not-wait",
            Self::VoicesBeforeSync => "voices-before-sync",
            Self::VoiceWithoutData => "voice-without-data",
            Self::HalfIsMajority => "half-is-majority",
            Self::VoicesNotJoined => "voices-not-joined",
            Self::MajorityTakesOverUnknown => "majority-takes-over-unknown",
            Self::ResolvesRunningLease => "resolves-running-lease",
            Self::GrantsWithoutHome => "grants-without-home",
            Self::HomeAnswersEarly => "home-answers-early",
            Self::HomeAtAnyEpoch => "home-at-any-epoch",
            Self::OutcomeNotRecorded => "outcome-not-recorded",
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
