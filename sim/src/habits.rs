//! How services behave: how often they do what services do wrong, as numbers that a scenario may set.
//!
//! [`Habits`] count while a run goes on (what a worker does when a reply is lost), [`Demand`] before it, when jobs are drawn.
//! Shares are in thousandths. The swarm's seeds all have the nasty ones: what they draw is written into bug reports and
//! stays. A scenario file begins with calm ones and says itself what goes wrong.
//!
//! Must never: draw anything.

use crate::limits;

/// What services do while they are at a job; shares in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Habits {
    /// A CLAIM goes to any region instead of the one beside the service.
    pub claims_elsewhere: u64,
    /// So does a COMPLETE.
    pub completes_elsewhere: u64,
    /// So does a RENEW or a RELEASE.
    pub renews_elsewhere: u64,
    /// So does a GET or a FORGET.
    pub looks_elsewhere: u64,
    /// A request is lost on its way, or its reply.
    pub lost: u64,
    /// A token comes back tampered with.
    pub forged: u64,
    /// A request has the word DURABLE.
    pub durable: u64,
    /// A claim waits for the key's outcome.
    pub waits: u64,
    /// An outcome is sent again though the reply came.
    pub completes_again: u64,
    /// What is sent again is another outcome.
    pub other_outcome: u64,
    /// UNKNOWN is resolved, half of the times as done and half as without effect.
    pub resolves: u64,
    /// Claims sent for one job, at most.
    pub claims_max: u32,
    /// Pause before one is sent again, microseconds, more or less.
    pub retry_us: u64,
    /// How long a service waits for a reply, microseconds.
    pub patience_us: u64,
}

impl Habits {
    /// Those of the swarm.
    pub const NASTY: Self = Self {
        claims_elsewhere: 150,
        completes_elsewhere: 200,
        renews_elsewhere: 80,
        looks_elsewhere: 300,
        lost: 15,
        forged: 60,
        durable: 50,
        waits: 200,
        completes_again: 80,
        other_outcome: 60,
        resolves: 600,
        claims_max: 6,
        retry_us: 40_000,
        patience_us: limits::PATIENCE_US,
    };
    /// Nothing is lost, and nobody lies.
    pub const CALM: Self = Self {
        claims_elsewhere: 0,
        completes_elsewhere: 0,
        renews_elsewhere: 0,
        looks_elsewhere: 0,
        lost: 0,
        forged: 0,
        durable: 0,
        waits: 0,
        completes_again: 0,
        other_outcome: 0,
        resolves: 0,
        ..Self::NASTY
    };
}

/// What services want, of which jobs are drawn; shares in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Demand {
    /// Typical pause of a service between two jobs, microseconds.
    pub pause_us: u64,
    /// Jobs in 1,000 seconds over all regions, whatever services and pauses; `None`: as services come to it.
    pub rate_per_ks: Option<u64>,
    /// Zipf's exponent of the keys, thousandths; 0: all alike.
    pub zipf: u64,
    /// Jobs that look at a key.
    pub gets: u64,
    /// Jobs that have it forgotten.
    pub forgets: u64,
    /// Claims with another payload than the key's.
    pub mismatches: u64,
    /// Claims without a claimant's name.
    pub unnamed: u64,
    /// Claims under a name that several use.
    pub shared: u64,
    /// Claims that ask for a shorter lease.
    pub short_leases: u64,
    /// Granted claims that nobody works on.
    pub vanish: u64,
    /// Those that are completed by a service that was long believed dead.
    pub zombies: u64,
    /// Those that such a service gives back.
    pub late_releases: u64,
    /// Those that are given back.
    pub releases: u64,
    /// Those that are renewed.
    pub renewals: u64,
    /// Those whose work takes longer than their lease.
    pub overtimes: u64,
    /// How long the work of the others takes, microseconds; `None`: up to two thirds of the lease.
    pub work_us: Option<(u64, u64)>,
    /// Claims that are made a second time, in another region.
    pub twins: u64,
    /// How long after the first, microseconds.
    pub twin_gap_us: (u64, u64),
}

impl Demand {
    /// That of the swarm.
    pub const NASTY: Self = Self {
        pause_us: 60_000,
        rate_per_ks: None,
        zipf: 0,
        gets: 90,
        forgets: 10,
        mismatches: 40,
        unnamed: 100,
        shared: 100,
        short_leases: 200,
        vanish: 40,
        zombies: 40,
        late_releases: 20,
        releases: 100,
        renewals: 200,
        overtimes: 100,
        work_us: None,
        twins: 0,
        twin_gap_us: (0, 0),
    };
    /// Claims that are completed in time, one key as often as the other.
    pub const CALM: Self = Self {
        gets: 0,
        forgets: 0,
        mismatches: 0,
        unnamed: 0,
        shared: 0,
        short_leases: 0,
        vanish: 0,
        zombies: 0,
        late_releases: 0,
        releases: 0,
        renewals: 0,
        overtimes: 0,
        work_us: Some((5_000, 50_000)),
        twin_gap_us: (10_000, 500_000),
        ..Self::NASTY
    };
}
