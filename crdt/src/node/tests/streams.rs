//! One stream between two replicas: what it survives, and what bounds it.

use super::*;
use crate::limits;
use crate::policy::{Durable, Policy};

fn policy(durable: Durable) -> Settings {
    let policy = Policy { durable, max_outcome_bytes: limits::OUTCOME_BYTES_MAX, ..Policy::default() };
    Settings { policy, ..Settings::default() }
}

/// Claims and completes `key` at replica `at`; nothing is written yet.
pub fn done(cluster: &Cluster, at: usize, key: &str, outcome: &[u8]) {
    let replica = &cluster.replicas[at];
    let (status, token) = replica.claim(key.as_bytes(), b"worker", cluster.wall_ms);
    let token = token.unwrap_or_else(|| panic!("{key} granted, not {status}"));
    assert_eq!(replica.complete(key.as_bytes(), token, outcome, cluster.wall_ms), "COMPLETED");
}

pub fn knows(cluster: &Cluster, at: usize, key: &str) -> bool {
    cluster.replicas[at].store.inspect(key.as_bytes()).is_some()
}

/// How many frames of records, and how many acknowledgements, are on their way.
fn under_way(cluster: &Cluster, from: usize, to: usize) -> (usize, usize) {
    let frames = cluster.pipes.get(&(from, to)).into_iter().flatten();
    frames.fold((0, 0), |(records, acks), bytes| match Frame::decode(bytes).expect("our own") {
        Frame::Records { .. } => (records + 1, acks),
        Frame::Ack { .. } => (records, acks + 1),
        _ => (records, acks),
    })
}

/// INV-8: a delta leaves, and is acknowledged, when it is durable to its degree: not before, not later.
#[test]
fn nothing_leaves_and_nothing_is_acknowledged_before_it_is_durable() {
    for durable in [Durable::Interval, Durable::Always] {
        let mut cluster = met(2, &policy(durable));
        let gates = |cluster: &mut Cluster, at: usize, to: usize, open: &dyn Fn(&Cluster) -> bool| {
            cluster.send();
            assert!(!open(cluster), "{durable:?}: appended only");
            cluster.replicas[at].write();
            cluster.send();
            assert_eq!(open(cluster), durable == Durable::Interval, "{durable:?}: written");
            cluster.replicas[at].sync();
            cluster.send();
            assert!(open(cluster), "{durable:?}: synced");
            assert!(cluster.pipes.contains_key(&(at, to)));
        };
        cluster.pipes.clear();
        done(&cluster, A, "k", b"done");
        gates(&mut cluster, A, B, &|cluster| under_way(cluster, A, B).0 > 0);
        cluster.deliver();
        assert!(knows(&cluster, B, "k"));
        gates(&mut cluster, B, A, &|cluster| under_way(cluster, B, A).1 > 0);
    }
}

/// A record that says nothing new is acknowledged no earlier than what it repeats.
#[test]
fn a_repetition_is_acknowledged_as_late_as_its_original() {
    let mut cluster = met(2, &policy(Durable::Always));
    cluster.pipes.clear();
    done(&cluster, A, "k", b"done");
    cluster.replicas[A].flush();
    cluster.send();
    let frame = cluster.pipes.remove(&(A, B)).into_iter().flatten().next().expect("records");
    let unpacked = harness::records_of(RegionId(1), &Frame::decode(&frame).expect("our own"));
    let b = &mut cluster.replicas[B];
    let merge = |wall_ms| {
        let bodies = crate::wire::Bodies::new(Bytes(&unpacked));
        b.store.merge(bodies, RegionId(1), wall_ms, &mut Scratch::default()).expect("honest")
    };
    let (first, again) = (merge(cluster.wall_ms), merge(cluster.wall_ms));
    assert_eq!((first.applied, again.applied, again.known), (2, 0, 2));
    b.write();
    assert!(!b.store.tail().may_release(&first.release) && !b.store.tail().may_release(&again.release));
    b.sync();
    assert!(b.store.tail().may_release(&first.release) && b.store.tail().may_release(&again.release));
}

/// A peer further behind than the ring is fed from disk, across segments, and from where the log
/// starts when the oldest are gone.
#[test]
fn a_peer_far_behind_reads_from_disk() {
    let mut cluster = met(2, &Settings::default());
    cluster.unlink(A, B);
    for round in 0..4 {
        for n in 0..40 {
            done(&cluster, A, &format!("far:{round}:{n}"), &[b'x'; 100]);
            cluster.replicas[A].flush();
        }
        let wall_ms = cluster.wall_ms;
        cluster.replicas[A].rotate(wall_ms);
        cluster.run_ms(100);
    }
    assert!(matches!(cluster.replicas[A].store.tail().read(5), crate::store::RingRead::Behind));
    cluster.link(A, B);
    cluster.run_ms(3_000);
    cluster.assert_converged();
    assert!(knows(&cluster, B, "far:0:0") && knows(&cluster, B, "far:3:39"));
}

/// What was deleted was dead by everybody's clock: the stream goes on from the log's start.
#[test]
fn a_peer_behind_the_start_of_the_log_goes_on_from_there() {
    let short = Policy { retention_ms: 1_500, lease_ms: 100, ..Policy::default() };
    let mut cluster = met(2, &Settings { policy: short, ..Settings::default() });
    cluster.unlink(A, B);
    for n in 0..60 {
        done(&cluster, A, &format!("old:{n}"), &[b'x'; 100]);
        cluster.replicas[A].flush();
    }
    let wall_ms = cluster.wall_ms;
    cluster.replicas[A].rotate(wall_ms);
    cluster.run_ms(2_500);
    for n in 0..60 {
        done(&cluster, A, &format!("new:{n}"), &[b'x'; 100]);
        cluster.replicas[A].flush();
    }
    cluster.replicas[A].segments.remove(0);
    let starts_at = cluster.replicas[A].segments[0].0.first_lsn;
    assert!(matches!(cluster.replicas[A].read(1), LogRead::StartsAt(lsn) if lsn == starts_at));
    cluster.link(A, B);
    cluster.run_ms(1_000);
    assert!(knows(&cluster, B, "new:0") && knows(&cluster, B, "new:59") && !knows(&cluster, B, "old:0"));
    cluster.assert_converged();
}

/// INV-14, INV-17: a peer that never acknowledges holds up the window and nothing else; when its
/// acknowledgements come through again, so do the records, though none of those lost is repeated.
#[test]
fn the_window_bounds_what_is_under_way_and_opens_again() {
    let mut cluster = met(3, &policy(Durable::Interval));
    let outcome = vec![b'x'; 512 * 1024];
    let settle = |cluster: &mut Cluster, acks_lost: bool| {
        for _ in 0..30 {
            cluster.wall_ms += harness::STEP_MS;
            let back = if acks_lost { cluster.pipes.remove(&(B, A)) } else { None };
            assert!(!acks_lost || back.is_none_or(|frames| frames.len() < 100));
            cluster.step();
        }
    };
    let sent_before = cluster.replicas[A].node.peers(&cluster.replicas[A].store)[0].bytes_out;
    for n in 0..40 {
        done(&cluster, A, &format!("big:{n}"), &outcome);
    }
    settle(&mut cluster, true);
    let view = cluster.replicas[A].node.peers(&cluster.replicas[A].store)[0];
    let most = (limits::PEER_WINDOW_BYTES_MAX + 1024 * 1024) as u64;
    assert!(view.bytes_out - sent_before <= most, "{} bytes under way", view.bytes_out - sent_before);
    assert!(!knows(&cluster, B, "big:39"), "the window is what stops it");
    assert!(knows(&cluster, 2, "big:39"), "one slow peer delays nobody else");
    settle(&mut cluster, false);
    cluster.run_ms(2_000);
    assert!(knows(&cluster, B, "big:39"), "the window opens again");
    cluster.assert_converged();
}

/// S2: a frame too far ahead stalls its link: nothing merged, nothing acknowledged, nothing dropped,
/// our clock unmoved; it resumes by itself.
#[test]
fn a_link_stalls_while_its_peer_runs_ahead_and_resumes() {
    let mut cluster = met(2, &Settings::default());
    let ahead_ms = cluster.wall_ms + 3_000;
    let ceiling = |cluster: &mut Cluster| {
        let _ = cluster.replicas[A].store.extend_ceiling(ahead_ms);
        cluster.replicas[A].flush();
    };
    ceiling(&mut cluster);
    assert_eq!(cluster.replicas[A].claim(b"ahead", b"a", ahead_ms).0, "GRANTED");
    let cursor = cluster.replicas[B].node.cursors();
    cluster.run_ms(1_000);
    let b = &cluster.replicas[B];
    let view = b.node.peers(&b.store)[0];
    assert_eq!((view.state, b.node.cursors()), (LinkState::Stalled, cursor));
    assert!(!knows(&cluster, B, "ahead"));
    assert!(b.store.clock().last().ms() <= cluster.wall_ms, "our clock does not move");
    assert_eq!(b.claim(b"here", b"b", cluster.wall_ms).0, "GRANTED", "we go on");
    cluster.run_ms(1_400);
    assert!(!knows(&cluster, B, "ahead"), "600 ms ahead is still beyond max_drift");
    // What stalls is sent again seldom only.
    cluster.run_ms(2_700);
    assert!(knows(&cluster, B, "ahead"));
    assert_eq!(cluster.replicas[B].node.peers(&cluster.replicas[B].store)[0].state, LinkState::Linked);
    cluster.run_ms(1_000);
    cluster.assert_converged();
}

/// S6: a region whose log has no room takes nothing of a peer and tells it nothing; it loses nothing either, and
/// goes on by itself once there is room.
#[test]
fn a_link_stalls_while_the_log_has_no_room_and_resumes() {
    let mut cluster = met(2, &Settings::default());
    let cursor = cluster.replicas[B].node.cursors();
    cluster.replicas[B].store.report_room([limits::LOG_ROOM_LAST_BYTES], true);
    (0..20).for_each(|number| done(&cluster, A, &format!("k:{number}"), b"outcome"));
    cluster.run_ms(3_000);
    let b = &cluster.replicas[B];
    let view = b.node.peers(&b.store)[0];
    assert_eq!((view.state, b.node.cursors()), (LinkState::NoRoom, cursor));
    assert!((0..20).all(|number| !knows(&cluster, B, &format!("k:{number}"))));
    let a = &cluster.replicas[A];
    assert!(a.node.peers(&a.store)[0].lag_records >= 40, "nothing is acknowledged");
    // In the reserve there is room for peers, not for claims.
    cluster.replicas[B].store.report_room([2 * limits::LOG_ROOM_LAST_BYTES], true);
    cluster.run_ms(3_000);
    assert!((0..20).all(|number| knows(&cluster, B, &format!("k:{number}"))));
    let b = &cluster.replicas[B];
    assert_eq!(b.node.peers(&b.store)[0].state, LinkState::Linked);
    assert_eq!(b.claim(b"here", b"b", cluster.wall_ms).0, "UNAVAILABLE");
    cluster.assert_converged();
}

/// A lost frame shows at the next ping, and brings exactly the rest again.
#[test]
fn a_lost_frame_is_sent_again_after_the_next_ping() {
    let mut cluster = met(2, &Settings::default());
    done(&cluster, A, "lost", b"done");
    cluster.replicas[A].flush();
    cluster.send();
    assert!(under_way(&cluster, A, B).0 > 0);
    cluster.pipes.remove(&(A, B));
    done(&cluster, A, "after", b"done");
    cluster.run_ms(50);
    assert!(
        !knows(&cluster, B, "lost") && !knows(&cluster, B, "after"),
        "a cursor that does not fit counts for nothing"
    );
    cluster.run_ms(limits::PING_EVERY_MS + 100);
    assert!(knows(&cluster, B, "lost") && knows(&cluster, B, "after"));
}

/// S6: a region that took a new incarnation is fetched anew, and fetches anew what it had sent and lost.
#[test]
fn a_new_incarnation_is_fetched_from_its_start() {
    let mut cluster = met(2, &Settings::default());
    done(&cluster, A, "sent-and-lost", b"done");
    done(&cluster, B, "theirs", b"done");
    cluster.run_ms(200);
    assert!(knows(&cluster, B, "sent-and-lost") && knows(&cluster, A, "theirs"));
    let former = cluster.replicas[A].store.config().incarnation;
    cluster.wall_ms += 2_000;
    let with = Settings { wall_ms: cluster.wall_ms, boot: 2, ..Settings::default() };
    cluster.restart(A, Vec::new(), &with);
    assert!(cluster.replicas[A].store.config().incarnation > former, "INV-16");
    assert!(!knows(&cluster, A, "sent-and-lost"));
    cluster.run_ms(600);
    assert!(knows(&cluster, A, "sent-and-lost") && knows(&cluster, A, "theirs"));
    done(&cluster, A, "new-life", b"done");
    cluster.run_ms(200);
    assert!(knows(&cluster, B, "new-life"));
    cluster.assert_converged();
}

/// S6: at `always` a power loss may take an unsynced tail whose numbers are used again in the next
/// epoch: a peer's cursor of the old epoch beyond the cut resumes at the cut, without a gap.
#[test]
fn a_cursor_beyond_a_lost_tail_resumes_at_the_cut() {
    let with = policy(Durable::Always);
    let mut cluster = met(2, &with);
    done(&cluster, A, "kept", b"done");
    cluster.run_ms(100);
    let synced = cluster.replicas[A].segments.clone();
    // B's cursor moves beyond what A will find again: a frame about records that never synced.
    let store = &cluster.replicas[A].store;
    let prev = cluster.replicas[B].node.cursors()[0].1;
    let last = Cursor { lsn: store.tail().written() + 5, ..prev };
    let frame = Frame::Records { prev, last, left: 0, bodies: Bytes(&[]) }.encode();
    assert!(cluster.hand_over(A, B, &frame));
    cluster.replicas[B].flush();
    assert_eq!(cluster.replicas[B].node.cursors()[0].1, last);
    let (incarnation, epoch) = (store_incarnation(&cluster, A), cluster.replicas[A].header.epoch);
    let with = Settings { wall_ms: cluster.wall_ms, boot: 2, ..with };
    cluster.restart(A, synced, &with);
    assert_eq!(store_incarnation(&cluster, A), incarnation, "what was acknowledged is all there");
    assert!(cluster.replicas[A].header.epoch > epoch);
    assert!(cluster.replicas[A].header.first_lsn <= last.lsn, "numbers are used again");
    cluster.run_ms(4_000);
    let first: Vec<String> = (0..10).map(|n| format!("again:{n}")).collect();
    for key in &first {
        done(&cluster, A, key, b"done");
        cluster.run_ms(20);
    }
    cluster.run_ms(600);
    assert!(first.iter().all(|key| knows(&cluster, B, key)), "no record of the new epoch is skipped");
    assert!(knows(&cluster, A, "kept"));
    cluster.assert_converged();
}

fn store_incarnation(cluster: &Cluster, at: usize) -> Incarnation {
    cluster.replicas[at].store.config().incarnation
}

/// An operator's cut stops both directions; healed, both sides meet again.
#[test]
fn a_cut_peer_is_silent_until_it_is_healed() {
    let mut cluster = met(2, &Settings::default());
    let peer = cluster.replicas[B].region;
    assert!(cluster.replicas[A].node.set_cut(peer, true));
    assert!(cluster.replicas[A].node.is_cut(peer));
    assert!(!cluster.replicas[A].node.set_cut(RegionId(77), true), "not a peer");
    cluster.unlink(A, B);
    cluster.link(A, B);
    done(&cluster, A, "a", b"done");
    done(&cluster, B, "b", b"done");
    cluster.errors.clear();
    cluster.replicas[B].flush();
    cluster.send();
    assert!(!cluster.pipes.contains_key(&(A, B)), "a cut side says nothing");
    cluster.deliver();
    assert_eq!(cluster.errors.first(), Some(&FrameError::ClosedLink), "and hears nothing");
    assert_eq!(cluster.replicas[A].node.peers(&cluster.replicas[A].store)[0].state, LinkState::Cut);
    assert!(cluster.replicas[A].node.set_cut(peer, false));
    cluster.unlink(A, B);
    cluster.link(A, B);
    cluster.run_ms(300);
    assert!(knows(&cluster, A, "b") && knows(&cluster, B, "a"));
    cluster.assert_converged();
}
