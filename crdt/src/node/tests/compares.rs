//! Anti-entropy: what the streams cannot bring is found and mended, at a cost proportional to it.

use super::streams::{done, knows};
use super::*;
use crate::entry::{Attempt, Bytes, Entry, Outcome, Packed, Phase};
use crate::ids::{ClaimId, Incarnation};
use crate::journal::{EntryRecord, Origin};
use crate::store::Scratch;

const C: usize = 2;

/// A settled entry of a region that is not there, made `age_ms` ago: it travels in nobody's log.
fn foreign(key: &str, age_ms: u64, wall_ms: u64) -> Vec<u8> {
    let stamp = Stamp::from_parts(wall_ms - age_ms, 0);
    let id = ClaimId { stamp, region: RegionId(9), incarnation: Incarnation(1) };
    let expires_at = stamp.ms() + 24 * 3_600_000;
    let attempt = Attempt {
        id,
        phase: Phase::Held,
        lease_until: stamp.ms() + 30_000,
        abandoned_lease: 0,
        fingerprint: None,
        claimant: b"elsewhere",
        note: b"",
        expires_at,
    };
    let outcome = Outcome {
        claim: id,
        completed: Stamp::from_parts(stamp.ms() + 3, 0),
        region: RegionId(9),
        incarnation: Incarnation(1),
        majority: false,
        compensated: false,
        fingerprint: None,
        bytes: &[b'o'; 200],
        expires_at,
    };
    let entry = Entry::of_attempt(attempt).join(&Entry::of_outcome(outcome));
    let mut body = Vec::new();
    Record::Entry(Origin::Merged, EntryRecord { key: Bytes(key.as_bytes()), entry: Packed::of(&entry) })
        .encode(&mut body);
    body
}

/// Makes region `at` hold what nobody streams.
pub(super) fn give(cluster: &mut Cluster, at: usize, keys: impl Iterator<Item = String>, age_ms: u64) {
    let wall_ms = cluster.wall_ms;
    let bodies: Vec<Vec<u8>> = keys.map(|key| foreign(&key, age_ms, wall_ms)).collect();
    let replica = &mut cluster.replicas[at];
    let bodies = bodies.iter().map(Vec::as_slice);
    replica.store.merge(bodies, RegionId(9), wall_ms, &mut Scratch::default()).expect("good");
    replica.flush();
}

pub(super) fn repaired(cluster: &Cluster, at: usize) -> u64 {
    let replica = &cluster.replicas[at];
    replica.node.peers(&replica.store).iter().map(|peer| peer.repaired).sum()
}

fn verify(cluster: &Cluster) {
    for replica in &cluster.replicas {
        for shard in 0..replica.store.shards() {
            replica.store.verify_digests(shard).unwrap_or_else(|mismatch| panic!("INV-13: {mismatch:?}"));
        }
    }
}

/// Steps until `done`, and the frames of comparisons that were delivered meanwhile: how many, how many bytes without
/// those of repairs, and of repairs.
fn count_until(cluster: &mut Cluster, done: impl Fn(&Cluster) -> bool) -> (usize, usize, usize) {
    let (mut frames, mut bytes, mut repairs) = (0, 0, 0);
    for _ in 0..3_000 {
        for frame in cluster.pipes.values().flatten() {
            match Frame::decode(frame).expect("our own") {
                Frame::Compare { .. } | Frame::Differ { .. } | Frame::Narrow { .. } | Frame::Items { .. } => {
                    (frames, bytes) = (frames + 1, bytes + frame.len());
                }
                Frame::Want { .. } => bytes += frame.len(),
                Frame::Repair { .. } => repairs += frame.len(),
                _ => {}
            }
        }
        if done(cluster) {
            return (frames, bytes, repairs);
        }
        cluster.step();
    }
    panic!("it never came to that");
}

/// S7: both ways in one exchange, and whoever wrote it.
#[test]
fn what_no_log_brings_is_found_both_ways() {
    let mut cluster = met(2, &Settings::default());
    give(&mut cluster, A, (0..40).map(|n| format!("a:{n}")), 60_000);
    give(&mut cluster, B, (0..30).map(|n| format!("b:{n}")), 7_200_000);
    cluster.run_ms(8_000);
    cluster.assert_converged();
    assert_eq!((repaired(&cluster, A), repaired(&cluster, B)), (30, 40));
    assert!(knows(&cluster, A, "b:7") && knows(&cluster, B, "a:7"));
    verify(&cluster);
}

/// S7: A and C do not see each other, B sees both.
#[test]
fn what_a_link_that_is_down_does_not_bring_comes_around_it() {
    let mut cluster = met(3, &Settings::default());
    cluster.unlink(A, C);
    for n in 0..50 {
        done(&cluster, A, &format!("a:{n}"), b"A did it");
        done(&cluster, C, &format!("c:{n}"), b"C did it");
    }
    // Ran twice while they did not see each other: the loser is listed by both.
    done(&cluster, A, "both", b"A did it");
    done(&cluster, C, "both", b"C did it");
    cluster.run_ms(20_000);
    cluster.assert_converged();
    assert!(knows(&cluster, A, "c:7") && knows(&cluster, C, "a:7"));
    assert_eq!(cluster.replicas[A].store.conflict_count(), 1);
    assert_eq!(repaired(&cluster, B), 0, "B had everything by the logs");
    verify(&cluster);
    // The link comes back: the logs bring what is known, and nothing is told twice as new.
    cluster.link(A, C);
    cluster.run_ms(8_000);
    cluster.assert_converged();
}

/// S7: what is on its way by the log is no difference.
#[test]
fn in_a_healthy_steady_state_nothing_is_repaired() {
    let mut cluster = met(3, &Settings::default());
    for step in 0..2_500 {
        let at = step % 3;
        let replica = &cluster.replicas[at];
        let (key, wall_ms) = (format!("k:{step}"), cluster.wall_ms);
        let (_, token) = replica.claim(key.as_bytes(), b"worker", wall_ms);
        // Every fourth one ends later, or is renewed meanwhile.
        if step % 4 != 0 {
            replica.complete(key.as_bytes(), token.expect("free"), b"done", wall_ms);
        }
        cluster.step();
    }
    let compared =
        |replica: &Replica| replica.node.peers(&replica.store).iter().all(|p| p.compared_ms.is_some());
    assert!(cluster.replicas.iter().all(compared));
    assert_eq!([A, B, C].map(|at| repaired(&cluster, at)), [0, 0, 0]);
    verify(&cluster);
}

/// The cost of one difference among many: three round trips, and far less than what is held.
#[test]
fn one_difference_among_many_costs_little() {
    let mut cluster = met(2, &Settings::default());
    for chunk in 0..40 {
        let keys = |n: u64| format!("same:{}", chunk * 500 + n);
        for at in [A, B] {
            give(&mut cluster, at, (0..500).map(keys), 60_000 + chunk * 1_000);
        }
    }
    cluster.run_ms(7_000);
    assert_eq!((repaired(&cluster, A), repaired(&cluster, B)), (0, 0));
    give(&mut cluster, B, std::iter::once("one".to_owned()), 60_000);
    let (frames, bytes, repairs) = count_until(&mut cluster, |cluster| knows(cluster, A, "one"));
    // An exchange before it may have found nothing.
    assert!((4..=6).contains(&frames), "{frames} frames of questions and answers");
    assert!(bytes < 4_000 && repairs < 400, "{bytes} bytes of questions, {repairs} of repairs");
}

/// The cost of many differences that a partition made: little more than they are.
#[test]
fn many_differences_cost_little_more_than_they_are() {
    let mut cluster = met(2, &Settings::default());
    for chunk in 0..20 {
        let keys = |n: u64| format!("same:{}", chunk * 500 + n);
        for at in [A, B] {
            give(&mut cluster, at, (0..500).map(keys), 7_200_000 + chunk * 1_000);
        }
    }
    give(&mut cluster, A, (0..4_000).map(|n| format!("a:{n}")), 61_000);
    give(&mut cluster, B, (0..4_000).map(|n| format!("b:{n}")), 62_000);
    let all = |cluster: &Cluster| [A, B].iter().all(|at| cluster.replicas[*at].store.keys() == 18_000);
    let (_, bytes, repairs) = count_until(&mut cluster, all);
    assert!(bytes * 10 < repairs * 3, "{bytes} bytes of questions for {repairs} of repairs");
    cluster.run_ms(5_000);
    cluster.assert_converged();
    verify(&cluster);
}

/// INV-15: a comparison that fits nothing changes nothing, and ends the link of whoever sent it.
#[test]
fn comparisons_that_fit_nothing_are_refused() {
    use crate::digest::{Bucket, Horizon};
    use crate::wire::{Exchange, PartOf, RangeItems, RangeSums, Wanted};
    let mut cluster = met(2, &Settings::default());
    give(&mut cluster, B, (0..10).map(|n| format!("b:{n}")), 60_000);
    let horizon = Horizon::EVERYTHING;
    let exchange = Exchange { nonce: 7, horizon, shards: 4 };
    let other = Exchange { shards: 8, ..exchange };
    let (bucket, nonce) = (Bucket(u64::MAX), 7);
    let short = vec![RangeSums { bucket, bits: 3, sums: Bytes(&[0; 31]) }];
    let wide = vec![RangeSums { bucket, bits: 200, sums: Bytes(&[0; 32]) }];
    let outside = vec![RangeItems { bucket, bits: 1, range: 2, items: Bytes(&[]) }];
    let odd = vec![Wanted { bucket, ids: Bytes(&[1, 2, 3]) }];
    let of = PartOf { nonce: 7, shard: 0, number: 0, last: true };
    let refused = [
        Frame::Narrow { exchange, shard: 4, ranges: Vec::new() },
        Frame::Narrow { exchange: other, shard: 0, ranges: Vec::new() },
        Frame::Narrow { exchange, shard: 0, ranges: short },
        Frame::Narrow { exchange, shard: 0, ranges: wide },
        Frame::Items { nonce, shard: 0, ranges: outside },
        Frame::Want { exchange, shard: 0, wanted: odd },
        Frame::Want { exchange, shard: 9, wanted: Vec::new() },
        Frame::Compare { exchange, sums: vec![(bucket, 1); 1_000] },
        Frame::Repair { of, bodies: Bytes(&[1, 0, 0, 0, 250]) },
    ];
    let before = cluster.replicas[B].store.digest(T0);
    for frame in refused {
        assert!(!cluster.hand_over(A, B, &frame.encode()), "{frame:?}");
        cluster.run_ms(200);
    }
    // These fit no question of ours, and are nothing.
    let ignored = [
        Frame::Differ {
            nonce,
            number: 0,
            buckets: vec![(bucket, Bytes(&[1, 2]))],
            more: false,
            declined: false,
        },
        Frame::Items { nonce, shard: 77, ranges: Vec::new() },
        Frame::Want { exchange, shard: 0, wanted: vec![Wanted { bucket, ids: Bytes(&[0; 400]) }] },
        Frame::Compare { exchange, sums: (0..1_000).map(|n| (Bucket(u64::MAX - 1_000 + n), 1)).collect() },
    ];
    for frame in ignored {
        assert!(cluster.hand_over(A, B, &frame.encode()), "{frame:?}");
    }
    assert_eq!(cluster.replicas[B].store.digest(T0), before);
    // Whoever asks without end is cut off.
    let ask = Frame::Narrow { exchange, shard: 0, ranges: Vec::new() }.encode();
    let asked = (0..1_000).take_while(|_| cluster.hand_over(A, B, &ask)).count();
    assert!(asked <= limits::COMPARE_JOBS_MAX, "{asked} questions at once");
    cluster.run_ms(8_000);
    cluster.assert_converged();
}

/// Frames may be lost, doubled and overtaken: the next comparison finds what is left.
#[test]
fn comparisons_over_bad_links_come_to_an_end() {
    let mut cluster = met(3, &Settings::default());
    for (at, name) in [(A, "a"), (B, "b"), (C, "c")] {
        give(&mut cluster, at, (0..300).map(|n| format!("{name}:{n}")), 60_000);
    }
    cluster.faults = Faults { lost: 10, doubled: 10, reordered: 20 };
    cluster.run_ms(60_000);
    cluster.heal();
    cluster.run_ms(40_000);
    cluster.assert_converged();
    assert!([A, B, C].iter().all(|at| cluster.replicas[*at].store.keys() == 900));
    verify(&cluster);
}
