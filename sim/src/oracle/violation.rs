//! What the oracle says when it has caught something: which invariant, where, when, and a story of
//! two lines that a person can start from.
//!
//! Must never: hold anything that differs between two runs of one seed.

use super::facts::{Key, Region};

/// One broken invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its name in SEMANTICS S10, for example `INV-4`.
    pub invariant: &'static str,
    /// The clause, quoted.
    pub clause: &'static str,
    /// Which key, where one is concerned.
    pub key: Option<Key>,
    /// When it was noticed, virtual microseconds since the start of the run.
    pub at_us: u64,
    /// The regions involved.
    pub regions: Box<[Region]>,
    /// What led to it, and what is wrong.
    pub story: [String; 2],
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} broken at {:.6} s: \"{}\"", self.invariant, self.at_us as f64 / 1e6, self.clause)?;
        let key = self.key.map_or_else(|| "-".to_owned(), |key| format!("#{key}"));
        writeln!(f, "  key {key}, regions {:?}", self.regions)?;
        writeln!(f, "  {}", self.story[0])?;
        write!(f, "  {}", self.story[1])
    }
}

/// The clauses of SEMANTICS S10 that the oracle checks, word for word.
pub mod clause {
    /// Join laws.
    pub const INV_1: &str = "Join is commutative, associative, idempotent, and commutes with dropping the \
                             dead; an entry only grows until it dies.";
    /// Convergence.
    pub const INV_2: &str =
        "After heal and quiescence all live regions hold identical live state and digests.";
    /// The winner.
    pub const INV_3: &str = "The winner equals that of an independent brute-force oracle over all operations \
                             accepted anywhere.";
    /// Local exclusion.
    pub const INV_4: &str = "A region never grants a key that is live as it knows it, except again to its \
                             claimant; across every crash its durability covers.";
    /// Double grants and their listing.
    pub const INV_5: &str = "Two regions both grant a key only when neither's claim had been delivered to \
                             the other, or by takeover; each loser that completed is listed by CONFLICTS \
                             exactly once, alike in every region.";
    /// Who counts.
    pub const S5_VOICE: &str = "A wiped region neither grants nor acknowledges until it has fully synchronised with a \
                                majority of regions, itself not counted; acknowledgements count within one epoch.";
    /// Exclusive grants.
    pub const INV_6: &str = "No two live quorum grants of a key (lease running), clocks within `max_drift`, FORGET \
                             excepted.";
    /// The same, where homes decide.
    pub const INV_6_HOME: &str = "`home` with fallback = refuse: no two live grants of a key while the home keeps its disk and \
                                  is not changed.";
    /// Who decides.
    pub const S5_HOME: &str = "`home`: the key's home region decides CLAIM, RENEW, COMPLETE, RELEASE. Unreachable: \
                               `fallback = local | refuse`.";
    /// Survival.
    pub const INV_7: &str = "An acknowledged claim or outcome survives any crash its durability covers.";
    /// Nothing early.
    pub const INV_8: &str = "Nothing acknowledged, served or sent before its durability.";
    /// Stamps.
    pub const INV_9: &str = "Stamps of a region strictly increase, across restarts and clock steps.";
    /// Stability of the settled.
    pub const INV_10: &str = "A settled winner changes only to an earlier concurrent completion, or to one a \
                              majority holds.";
    /// Payloads.
    pub const INV_11: &str = "An outcome is never served for another fingerprint.";
    /// Death.
    pub const INV_12: &str = "Nothing dies before its retention or comes back after it, within `max_drift`.";
    /// Sums.
    pub const INV_13: &str = "The digest equals one recomputed from the map, at any instant.";
    /// Bounds.
    pub const INV_14: &str =
        "Memory, queues and log stay within their declared bounds with a peer away for ever.";
    /// Numbers.
    pub const INV_16: &str = "No incarnation, log epoch or sequence is ever reused.";
    /// Liveness.
    pub const INV_17: &str = "A healed core converges in bounded rounds; a region alone keeps answering.";
    /// Determinism.
    pub const INV_18: &str = "The same seed gives the same trace, byte for byte.";
    /// Membership.
    pub const S5: &str = "Membership has an epoch; acknowledgements count within one epoch; an epoch adds or removes one region.";
    /// Foreign stamps.
    pub const S2: &str = "Every stamp in a frame, relayed ones too, is checked against our wall clock; a frame that runs \
                          further ahead stalls its link, and our clock does not move.";
    /// Waiting duplicates.
    pub const S4_1: &str = "with `wait`, parks until it settles, is released or the wait ends";
    /// Whoever puts double executions right.
    pub const S4_8: &str = "COMPENSATE marks a loser as dealt with, and replicates. A blocking form feeds a compensating \
                            service: at least once, resumes after restarts.";
    /// Starts of lives that lack data.
    pub const S6_LACK: &str =
        "A start after which synced data may be incomplete grants nothing before it has caught up.";
    /// Starts.
    pub const S7_READY: &str = "After a start, claims answer UNAVAILABLE `catching_up` until the region has caught up with \
                                each peer it reaches.";
    /// Comparisons.
    pub const S7_REPAIRS: &str = "In a healthy steady state it repairs nothing.";
    /// Bounds of memory and quotas.
    pub const S6: &str = "Memory or quota bound reached: claims are refused. Nothing live is ever evicted.";
    /// The answers of S4, which the invariants presuppose.
    pub const S4: &str = "Each is one pure decision over (entry, request, now) giving (reply, delta).";
}
