//! What a swarm must have seen at least once. A simulator that never loses power proves nothing about
//! power losses: each goal is a moment that some run has to reach, else the swarm exits with 4.
//!
//! Must never: be reached by anything but the real moment.

/// A moment worth reaching.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Goal {
    /// A claim was granted.
    Granted,
    /// The same claim was granted again to its claimant.
    GrantedAgain,
    /// An attempt whose lease was over was taken over.
    Takeover,
    /// A taken-over attempt was revived by a renewal that the takeover had not seen.
    Revived,
    /// UNKNOWN by policy.
    Unknown,
    /// An UNKNOWN was resolved.
    Resolved,
    /// MISMATCH.
    Mismatch,
    /// An outcome was replayed in another region than the one it was completed in.
    ReplayAcrossRegions,
    /// A completion was CONTESTED.
    Contested,
    /// A completion was SUPERSEDED and shown the winner's outcome.
    SupersededShown,
    /// A lease was renewed.
    Renewed,
    /// A claim was released.
    Released,
    /// A key was forgotten.
    Forgotten,
    /// A token did not count any more, or never did.
    Stale,
    /// A key was claimed again after its retention.
    Reused,
    /// The same key was executed twice and CONFLICTS listed it.
    DoubleExecution,
    /// A partition was healed.
    Healed,
    /// A link passed in one direction only.
    OneWay,
    /// A process crashed and recovered.
    Crashed,
    /// A power loss took bytes that were written and not synced.
    UnsyncedLost,
    /// A power loss left a torn record.
    Torn,
    /// A power loss left later bytes of a file and took earlier ones.
    Hole,
    /// A start cut off a torn tail.
    TailCut,
    /// A start began from runs.
    StartedFromRuns,
    /// Many small runs became one.
    RunsMerged,
    /// A checkpoint was given up, to be tried again.
    CheckpointRetried,
    /// A run was deleted when everything in it had died.
    RunDied,
    /// A peer wanted a part of the log that is gone, and was fed from the map.
    FedFromMap,
    /// A power loss took a new, changed or deleted name.
    NameLost,
    /// A process ended between two calls to its disk.
    CutBetween,
    /// A sync or a write failed.
    DiskError,
    /// There was no room for the next segment.
    DiskFull,
    /// On a full disk log went that a peer lacked.
    LogGivenBack,
    /// A sync took longer than any client waits.
    Stalled,
    /// A start refused a log in which a bit had turned over.
    RotFound,
    /// A region started again from an empty disk.
    DiskLost,
    /// A duplicate that waited was answered with the outcome.
    Woken,
    /// A region began a new incarnation.
    NewIncarnation,
    /// A peer that was behind the ring was served from disk.
    ResumedFromDisk,
    /// A region refused claims because of its clock.
    ClockRefused,
    /// A region refused claims until it had caught up.
    CatchingUp,
    /// A frame was lost, doubled or overtaken.
    Rough,
    /// A frame of an old session arrived in a later one.
    Replayed,
    /// A reply was decided and its region died before it could leave.
    ReplyDied,
    /// A namespace's quota refused a claim.
    QuotaRefused,
    /// Memory was full and a claim refused.
    MemoryRefused,
    /// Two regions compared what they hold.
    Compared,
    /// A comparison brought what no stream had.
    Repaired,
    /// A region was behind a peer's log, and was given what it lacked.
    Fed,
    /// A link had no room for a frame, which waited.
    Throttled,
    /// A link came up again, went down again and took a frame with it.
    Flapped,
    /// A living region was stopped because it had been retired.
    Retired,
    /// A region that had never been came into a running cluster.
    Added,
    /// A retired region came back with the data it had.
    AddedAgain,
    /// Regions one membership apart held a link.
    AdjacentLinked,
    /// A region refused to link with another because of their memberships.
    MembersApart,
    /// A reload was refused because it would have left a linked region behind.
    ReloadRefused,
    /// Some regions agreed although others stay cut off for ever.
    CoreAgreed,
    /// A claim was granted once a majority held it.
    QuorumGranted,
    /// A claim gave way to another that was asked for, or granted, elsewhere.
    QuorumYielded,
    /// No majority was reached.
    QuorumMissed,
    /// An outcome was held by a majority.
    QuorumCompleted,
    /// A completion was recorded here and no majority was known to hold it.
    RecordedHere,
    /// A lease was renewed with a majority.
    QuorumRenewed,
    /// The home of a key granted it to another region's service (S5).
    HomeGranted,
    /// It took an outcome of one.
    HomeCompleted,
    /// It renewed a lease of one.
    HomeRenewed,
    /// A home could not be asked, and its policy let the claim be granted where it arrived.
    FellBack,
    /// A home could not be asked, and the claim was refused.
    HomeRefused,
    /// A home could not be asked, and an outcome was kept where it arrived.
    HomeRecordedHere,
    /// A claim was granted to a request that nobody waited for any more, and was released.
    LateGrantReleased,
    /// A process stood still for a while and went on.
    Paused,
    /// It then read a frame of a session that its peer had given up meanwhile.
    ReadAfterPause,
    /// An old backup was put back.
    Restored,
    /// Regions of two versions exchanged frames.
    VersionsMixed,
    /// Links were cut one after the other and mended in another order.
    Swizzled,
    /// A consumer that waited for a loser was woken by one.
    ConsumerWoken,
    /// A loser was acknowledged as dealt with.
    Compensated,
    /// A loser was not listed any more, because a majority held it.
    Overtaken,
}

impl Goal {
    /// Every goal.
    pub const ALL: [Self; 79] = [
        Self::Granted,
        Self::GrantedAgain,
        Self::Takeover,
        Self::Revived,
        Self::Unknown,
        Self::Resolved,
        Self::Mismatch,
        Self::ReplayAcrossRegions,
        Self::Contested,
        Self::SupersededShown,
        Self::Renewed,
        Self::Released,
        Self::Forgotten,
        Self::Stale,
        Self::Reused,
        Self::DoubleExecution,
        Self::Healed,
        Self::OneWay,
        Self::Crashed,
        Self::UnsyncedLost,
        Self::Torn,
        Self::Hole,
        Self::TailCut,
        Self::StartedFromRuns,
        Self::RunsMerged,
        Self::CheckpointRetried,
        Self::RunDied,
        Self::FedFromMap,
        Self::NameLost,
        Self::CutBetween,
        Self::DiskError,
        Self::DiskFull,
        Self::LogGivenBack,
        Self::Stalled,
        Self::RotFound,
        Self::DiskLost,
        Self::Woken,
        Self::NewIncarnation,
        Self::ResumedFromDisk,
        Self::ClockRefused,
        Self::CatchingUp,
        Self::Rough,
        Self::Replayed,
        Self::ReplyDied,
        Self::QuotaRefused,
        Self::MemoryRefused,
        Self::Compared,
        Self::Repaired,
        Self::Fed,
        Self::Throttled,
        Self::Flapped,
        Self::Retired,
        Self::Added,
        Self::AddedAgain,
        Self::AdjacentLinked,
        Self::MembersApart,
        Self::ReloadRefused,
        Self::CoreAgreed,
        Self::QuorumGranted,
        Self::QuorumYielded,
        Self::QuorumMissed,
        Self::QuorumCompleted,
        Self::RecordedHere,
        Self::QuorumRenewed,
        Self::HomeGranted,
        Self::HomeCompleted,
        Self::HomeRenewed,
        Self::FellBack,
        Self::HomeRefused,
        Self::HomeRecordedHere,
        Self::LateGrantReleased,
        Self::Paused,
        Self::ReadAfterPause,
        Self::Restored,
        Self::VersionsMixed,
        Self::Swizzled,
        Self::ConsumerWoken,
        Self::Compensated,
        Self::Overtaken,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::GrantedAgain => "granted-again",
            Self::Takeover => "takeover",
            Self::Revived => "revived-by-renewal",
            Self::Unknown => "unknown",
            Self::Resolved => "resolved",
            Self::Mismatch => "mismatch",
            Self::ReplayAcrossRegions => "replay-across-regions",
            Self::Contested => "contested-completion",
            Self::SupersededShown => "superseded-with-outcome",
            Self::Renewed => "renewed",
            Self::Released => "released",
            Self::Forgotten => "forgotten",
            Self::Stale => "stale-token",
            Self::Reused => "key-reused-after-retention",
            Self::DoubleExecution => "double-execution-listed",
            Self::Healed => "partition-healed",
            Self::OneWay => "one-way-partition",
            Self::Crashed => "crash-recovered",
            Self::UnsyncedLost => "unsynced-bytes-lost",
            Self::Torn => "torn-tail",
            Self::Hole => "hole",
            Self::TailCut => "tail-cut",
            Self::StartedFromRuns => "started-from-runs",
            Self::RunsMerged => "runs-merged",
            Self::CheckpointRetried => "checkpoint-retried",
            Self::RunDied => "run-died",
            Self::FedFromMap => "peer-fed-from-map",
            Self::NameLost => "unsynced-name-lost",
            Self::CutBetween => "cut-between-calls",
            Self::DiskError => "disk-error",
            Self::DiskFull => "disk-full",
            Self::LogGivenBack => "log-given-back",
            Self::Stalled => "stalled",
            Self::RotFound => "bit-rot-found",
            Self::DiskLost => "disk-lost",
            Self::Woken => "waiter-woken",
            Self::NewIncarnation => "new-incarnation",
            Self::ResumedFromDisk => "peer-resumed-from-disk",
            Self::ClockRefused => "clock-refused",
            Self::CatchingUp => "catching-up",
            Self::Rough => "rough-frames",
            Self::Replayed => "replayed-frame",
            Self::ReplyDied => "reply-died-with-its-region",
            Self::QuotaRefused => "quota-refused",
            Self::MemoryRefused => "memory-refused",
            Self::Compared => "compared",
            Self::Repaired => "repaired-by-comparison",
            Self::Fed => "fed-by-comparison",
            Self::Throttled => "link-full",
            Self::Flapped => "link-flapped",
            Self::Retired => "region-retired",
            Self::Added => "region-added",
            Self::AddedAgain => "region-added-again",
            Self::AdjacentLinked => "adjacent-memberships-linked",
            Self::MembersApart => "memberships-apart",
            Self::ReloadRefused => "reload-refused",
            Self::CoreAgreed => "healed-core-agreed",
            Self::QuorumGranted => "quorum-granted",
            Self::QuorumYielded => "quorum-yielded",
            Self::QuorumMissed => "quorum-missed",
            Self::QuorumCompleted => "quorum-completed",
            Self::RecordedHere => "recorded-here",
            Self::QuorumRenewed => "quorum-renewed",
            Self::HomeGranted => "home-granted",
            Self::HomeCompleted => "home-completed",
            Self::HomeRenewed => "home-renewed",
            Self::FellBack => "fell-back",
            Self::HomeRefused => "home-refused",
            Self::HomeRecordedHere => "home-recorded-here",
            Self::LateGrantReleased => "late-grant-released",
            Self::Paused => "paused",
            Self::ReadAfterPause => "frame-read-after-pause",
            Self::Restored => "backup-restored",
            Self::VersionsMixed => "versions-mixed",
            Self::Swizzled => "swizzled",
            Self::ConsumerWoken => "consumer-woken",
            Self::Compensated => "loser-compensated",
            Self::Overtaken => "loser-overtaken",
        }
    }
}

/// Which goals were reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Goals(u128);

impl Goals {
    /// Marks a goal as reached.
    pub const fn reach(&mut self, goal: Goal) {
        self.0 |= 1 << goal as u8;
    }

    /// Whether it was reached.
    pub const fn has(self, goal: Goal) -> bool {
        self.0 & (1 << goal as u8) != 0
    }

    /// Those reached here or there.
    pub const fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Those not reached.
    pub fn missing(self) -> Vec<&'static str> {
        Goal::ALL.into_iter().filter(|goal| !self.has(*goal)).map(Goal::name).collect()
    }

    /// Those reached.
    pub fn reached(self) -> Vec<&'static str> {
        Goal::ALL.into_iter().filter(|goal| self.has(*goal)).map(Goal::name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_has_a_bit_of_its_own() {
        let mut goals = Goals::default();
        for (count, goal) in Goal::ALL.into_iter().enumerate() {
            assert_eq!(goals.reached().len(), count);
            goals.reach(goal);
        }
        assert!(goals.missing().is_empty());
    }
}
