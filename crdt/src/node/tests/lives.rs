//! Lives that begin without data they should have wait for one peer, however long that takes (S6).

use super::streams::done;
use super::*;
use crate::journal::{HEADER_BYTES, Records};

const HOUR_MS: u64 = 3_600_000;

fn claim(replica: &Replica, wall_ms: u64) -> &'static str {
    replica.claim(format!("k:{wall_ms}").as_bytes(), b"a", wall_ms).0
}

/// Lets time pass there: ticks, ceilings, writes.
fn pass(replica: &mut Replica, from_ms: u64, upto_ms: u64) {
    for wall_ms in (from_ms..upto_ms).step_by(1_000).chain([upto_ms]) {
        let _ = replica.store.extend_ceiling(wall_ms);
        replica.node.handle_tick(&replica.store, wall_ms);
        replica.flush();
    }
}

/// What the log says last of whether the life is complete.
fn logged(replica: &Replica) -> Option<bool> {
    let mut said = None;
    for (_, bytes) in &replica.segments {
        let mut records = Records::new(&bytes[HEADER_BYTES..]);
        while let Ok(body) = records.next_body() {
            if let Ok(Record::Complete(complete)) = Record::decode(body) {
                said = Some(complete);
            }
        }
    }
    said
}

#[test]
fn an_incomplete_life_waits_for_a_peer_and_nothing_else() {
    let mut newborn = alone(&Settings::default());
    assert!(newborn.node.is_incomplete() && logged(&newborn) == Some(false));
    pass(&mut newborn, T0, T0 + HOUR_MS);
    assert!(!newborn.node.is_caught_up(), "catch_up_wait is long over");
    assert_eq!(claim(&newborn, T0 + HOUR_MS), "UNAVAILABLE");
    assert_eq!(newborn.store.gate.closed(), Some(Reason::CatchingUp));
    // A restart before a peer was met changes nothing, nor does a rotation.
    newborn.rotate(T0 + HOUR_MS);
    let with = Settings { wall_ms: T0 + HOUR_MS, ..Settings::default() };
    let mut again = Replica::start(1, &[1, 2, 3], newborn.segments, &with);
    assert!(again.node.is_incomplete());
    pass(&mut again, T0 + HOUR_MS, T0 + 2 * HOUR_MS);
    assert_eq!(claim(&again, T0 + 2 * HOUR_MS), "UNAVAILABLE");
    // A link alone is not enough: the peer has more than it has sent.
    let met_ms = T0 + 2 * HOUR_MS;
    again.node.handle_link_up(&again.store, RegionId(2), 9, met_ms);
    let theirs = Hello { tip: 50, ..hello() };
    assert_eq!(receive(&mut again, 9, &Frame::Hello(theirs), met_ms), Ok(()));
    pass(&mut again, met_ms, met_ms + HOUR_MS);
    assert_eq!(claim(&again, met_ms + HOUR_MS), "UNAVAILABLE", "reached, and behind it");
    let last = Cursor { incarnation: Incarnation(5), epoch: LogEpoch(1), lsn: 50 };
    let behind = Frame::Behind { have: Cursor::default(), at: last, keys: 1 };
    assert_eq!(receive(&mut again, 9, &behind, met_ms + HOUR_MS), Ok(()));
    let nonce = loop {
        let (_, frame) = again.node.poll_send(&again.store, RegionId(2)).expect("a question");
        if let Ok(Frame::Compare { exchange, .. }) = Frame::decode(&frame) {
            break exchange.nonce;
        }
    };
    let same = Frame::Differ { nonce, number: 0, buckets: Vec::new(), more: false, declined: false };
    assert_eq!(receive(&mut again, 9, &same, met_ms + HOUR_MS), Ok(()));
    assert!(
        !again.node.is_incomplete() && again.node.is_caught_up(),
        "one peer is enough, the third is away"
    );
    again.flush();
    assert_eq!((claim(&again, met_ms + HOUR_MS), logged(&again)), ("GRANTED", Some(true)));
}

/// Once a life has caught up its log says so, and later starts wait for nobody who is not there.
#[test]
fn a_life_that_has_caught_up_grants_after_any_restart() {
    let mut cluster = met(2, &Settings::default());
    cluster.run_ms(100);
    let wall_ms = cluster.wall_ms;
    assert_eq!(logged(&cluster.replicas[A]), Some(true));
    let segments = cluster.replicas[A].segments.clone();
    let with = Settings { wall_ms, ..Settings::default() };
    let mut again = Replica::start(1, &[1, 2], segments, &with);
    assert!(!again.node.is_incomplete());
    pass(&mut again, wall_ms, wall_ms + with.reach_wait_ms);
    assert_eq!(claim(&again, wall_ms + with.reach_wait_ms), "GRANTED", "nobody is reached");
}

/// The operator's word: there is nobody to wait for.
#[test]
fn alone_overrides_the_wait() {
    let with = Settings { alone: true, ..Settings::default() };
    let mut replica = alone(&with);
    assert!(!replica.node.is_incomplete());
    pass(&mut replica, T0, T0 + with.reach_wait_ms);
    assert_eq!(claim(&replica, T0 + with.reach_wait_ms), "GRANTED");
    assert_eq!(logged(&replica), Some(true));
    // It need not be said again.
    let wall_ms = T0 + 5_000;
    let later = Settings { wall_ms, ..Settings::default() };
    let mut again = Replica::start(1, &[1, 2, 3], replica.segments, &later);
    pass(&mut again, wall_ms, wall_ms + later.reach_wait_ms);
    assert_eq!(claim(&again, wall_ms + later.reach_wait_ms), "GRANTED");
}

/// A cluster of one region has nobody to wait for either.
#[test]
fn a_region_without_peers_is_complete() {
    let mut only = Replica::start(1, &[1], Vec::new(), &Settings::default());
    assert!(only.node.is_caught_up() && !only.node.is_incomplete());
    pass(&mut only, T0, T0 + 600);
    assert_eq!((claim(&only, T0 + 600), logged(&only)), ("GRANTED", Some(true)));
}

/// INV-4: a region that lost its disk grants nothing that another one has settled, however often it is restarted
/// before it has heard of it.
#[test]
fn a_lost_disk_grants_nothing_that_is_settled_elsewhere() {
    let mut cluster = met(2, &Settings::default());
    done(&cluster, A, "k:paid", b"paid");
    cluster.run_ms(100);
    cluster.unlink(A, B);
    let mut wall_ms = cluster.wall_ms + 1_000;
    let lost = |wall_ms| Settings { wall_ms, boot: 5, ..Settings::default() };
    let mut wiped = Replica::start(2, &[1, 2], Vec::new(), &lost(wall_ms));
    for _ in 0..3 {
        pass(&mut wiped, wall_ms, wall_ms + 60_000);
        wall_ms += 60_000;
        assert_eq!(wiped.claim(b"k:paid", b"b", wall_ms).0, "UNAVAILABLE");
        wiped = Replica::start(2, &[1, 2], wiped.segments, &lost(wall_ms));
    }
    while cluster.wall_ms < wall_ms {
        cluster.step();
    }
    let _ = cluster.replace(B, wiped);
    cluster.run_ms(1_000);
    assert!(cluster.errors.is_empty(), "{:?}", cluster.errors);
    let wall_ms = cluster.wall_ms;
    assert_eq!(cluster.replicas[B].claim(b"k:paid", b"b", wall_ms).0, "REPLAY");
    assert_eq!(claim(&cluster.replicas[B], wall_ms), "GRANTED");
}
