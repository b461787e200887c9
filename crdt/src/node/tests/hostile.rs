//! A peer that is who its certificate says, and lies. What it says changes nothing, and costs no more than it should.

use super::compares::{give, repaired};
use super::streams::done;
use super::*;
use crate::digest::{Bucket, Horizon};
use crate::ids::{Cursor, LogEpoch};
use crate::wire::{Exchange, MalformedFrame, RangeSums, Wanted};

const C: usize = 2;

/// How far B holds A's log.
fn received(cluster: &Cluster) -> Cursor {
    cluster.replicas[B].node.peers[&RegionId(1)].received.expect("it was linked")
}

/// A frame of 10 MB named one range of one shard a million times. Each was walked and answered anew: an hour of the thread
/// that serves all peers, and an answer beyond all memory.
#[test]
fn nothing_is_asked_twice_in_one_frame() {
    let exchange = Exchange { nonce: 7, horizon: Horizon { before_s: u64::MAX, alive_ms: 0 }, shards: 4 };
    let (bucket, nonce) = (Bucket(5), 7);
    let sums = RangeSums { bucket, bits: 0, sums: Bytes(&[0; 4]) };
    let wanted = Wanted { bucket, ids: Bytes(&[]) };
    let twice = [
        Frame::Compare { exchange, sums: vec![(bucket, 1); 2] },
        Frame::Differ {
            nonce,
            number: 0,
            buckets: vec![(bucket, Bytes(&[])); 2],
            more: true,
            declined: false,
        },
        Frame::Narrow { exchange, shard: 0, ranges: vec![sums; 2] },
        Frame::Want { exchange, shard: 0, wanted: vec![wanted; 2] },
    ];
    for frame in twice {
        assert_eq!(Frame::decode(&frame.encode()), Err(MalformedFrame::Comparison), "{frame:?}");
    }
    let once =
        Frame::Narrow { exchange, shard: 0, ranges: vec![sums, RangeSums { bucket: Bucket(6), ..sums }] };
    assert_eq!(Frame::decode(&once.encode()), Ok(once.clone()));
}

/// 256 questions of 10 MB each waited in memory for their answers.
#[test]
fn questions_that_wait_are_bounded_by_their_bytes() {
    let mut cluster = met(2, &Settings::default());
    let exchange = Exchange { nonce: 7, horizon: Horizon { before_s: u64::MAX, alive_ms: 0 }, shards: 4 };
    let range = |n| RangeSums { bucket: Bucket(n), bits: 12, sums: Bytes(&[0; 4 << 12]) };
    let ask = Frame::Narrow { exchange, shard: 0, ranges: (0..500).map(range).collect() }.encode();
    let asked = (0..limits::COMPARE_JOBS_MAX).take_while(|_| cluster.hand_over(A, B, &ask)).count();
    assert!(
        asked * ask.len() <= limits::COMPARE_JOBS_BYTES_MAX + 2 * ask.len(),
        "{asked} of {} B",
        ask.len()
    );
    cluster.run_ms(8_000);
    cluster.assert_converged();
}

/// A frame said that it ends at the last number there is, and was believed: the number was kept over restarts, and the
/// region's own hello was refused ever after, as an older copy's.
#[test]
fn a_cursor_from_nowhere_is_refused() {
    let mut cluster = met(2, &Settings::default());
    done(&cluster, A, "mine", b"x");
    cluster.run_ms(500);
    let have = received(&cluster);
    assert!(have.lsn > 0 && have.epoch.0 > 0, "{have:?}");
    let lies = [
        Cursor { incarnation: Incarnation(have.incarnation.0 + 1), ..have },
        Cursor { epoch: LogEpoch(have.epoch.0 + 1), ..have },
        Cursor { lsn: have.lsn - 1, ..have },
    ];
    for last in lies {
        cluster.run_ms(500);
        let prev = received(&cluster);
        let frame = Frame::Records { prev, last, left: 0, bodies: Bytes(&[]) }.encode();
        assert!(!cluster.hand_over(A, B, &frame), "{last:?} after {prev:?}");
        assert!(matches!(cluster.errors.pop(), Some(FrameError::OutOfOrder(_))));
        assert_eq!(received(&cluster), prev, "nothing is kept of it");
    }
    done(&cluster, A, "mine too", b"x");
    cluster.run_ms(1_000);
    cluster.assert_converged();
}

/// Each hello had the whole map walked anew: a few bytes for a window full of records.
#[test]
fn hello_after_hello_ends_the_link() {
    let mut cluster = met(2, &Settings::default());
    let (a, peer) = (&cluster.replicas[A], RegionId(2));
    let hello = send::hello(&a.node.config, &a.node.memory, &a.store, &a.node.peers[&peer]);
    let taken = (0..1_000).take_while(|_| cluster.hand_over(A, B, &hello)).count();
    assert!((1..limits::HELLOS_A_LINK_MAX as usize).contains(&taken), "{taken} hellos");
    cluster.run_ms(2_000);
    cluster.assert_converged();
}

/// A region came back to two others that both held what it had missed: the writer fed it by its log, and the third one
/// compared, found a million differences and sent all of it once more.
#[test]
fn what_is_on_its_way_from_its_writer_is_not_brought_by_others() {
    let mut cluster = met(3, &Settings::default());
    cluster.unlink(A, C);
    cluster.unlink(B, C);
    let missed: Vec<String> = (0..50).map(|n| format!("missed:{n}")).collect();
    missed.iter().for_each(|key| done(&cluster, A, key, b"x"));
    cluster.run_ms(limits::COMPARE_AGE_MS + limits::COMPARE_EVERY_MS);
    cluster.link(A, C);
    cluster.link(B, C);
    // The writer's records take their time: one frame comes, and the others later.
    let mut first = 0;
    for _ in 0..150 {
        if let Some(pipe) = cluster.pipes.get_mut(&(A, C)) {
            pipe.retain(|frame| {
                let records = matches!(Frame::decode(frame), Ok(Frame::Records { .. }));
                first += usize::from(records);
                !records || first == 1
            });
        }
        cluster.run_ms(10);
    }
    assert_eq!(repaired(&cluster, C), 0, "the writer will bring it");
    cluster.run_ms(1_500);
    cluster.assert_converged();
    assert_eq!(repaired(&cluster, C), 0, "the writer has brought it");
    // Others are compared with again, once nothing is on its way.
    let wall_ms = cluster.wall_ms;
    give(&mut cluster, B, (0..3).map(|n| format!("b:{n}")), 60_000);
    cluster.run_ms(3 * limits::COMPARE_EVERY_MS);
    assert!(cluster.wall_ms > wall_ms && repaired(&cluster, C) > 0);
    cluster.assert_converged();
}
