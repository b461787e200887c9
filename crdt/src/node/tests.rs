//! Replication between a few replicas over links that misbehave, in virtual time.
//!
//! [`harness`] holds every frame that leaves against what its sender has made durable (INV-8);
//! [`streams`] follows one stream through losses, restarts and reads from disk, [`feeds`] the feeding of a
//! peer that the log cannot feed, [`compares`] the search for what no stream brings; [`copies`] and [`lives`] start
//! regions from folders that are not what they should be. Here stand the handshake, the gates and convergence under random faults.

mod compares;
mod copies;
mod feeds;
mod harness;
mod home;
mod hostile;
mod lives;
mod memberships;
mod rounds;
mod streams;

use proptest::prelude::*;

use super::*;
use crate::entry::Bytes;
use crate::ids::Incarnation;
use crate::request::Request;
use crate::store::StoreConfig;
use crate::wire::{Frame, Hello};
use harness::{CLUSTER, Cluster, Dice, Faults, Replica, Settings, T0};

const A: usize = 0;
const B: usize = 1;

/// A cluster whose regions have met and grant.
fn met(count: u16, with: &Settings) -> Cluster {
    let mut cluster = Cluster::new(count, with);
    // A newborn grants nothing before max_drift is over (S6).
    cluster.run_ms(600);
    assert!(cluster.replicas.iter().all(|replica| replica.node.is_caught_up()));
    cluster
}

/// One random operation somewhere.
fn operate(cluster: &Cluster, dice: &mut Dice, tokens: &mut Vec<(Vec<u8>, crate::token::Token)>) {
    let replica = &cluster.replicas[dice.below(cluster.replicas.len() as u64) as usize];
    let (key, claimant) = (format!("k:{}", dice.below(6)), format!("c{}", dice.below(3)));
    let wall_ms = cluster.wall_ms;
    let some = (!tokens.is_empty()).then(|| dice.below(tokens.len() as u64) as usize);
    match (dice.below(20), some) {
        (0..8, _) | (_, None) => {
            let (_, token) = replica.claim(key.as_bytes(), claimant.as_bytes(), wall_ms);
            tokens.extend(token.map(|token| (key.into_bytes(), token)));
        }
        (8..14, Some(at)) => {
            let (key, token) = tokens[at].clone();
            let _ = replica.complete(&key, token, claimant.as_bytes(), wall_ms);
        }
        (14..16, Some(at)) => {
            let (key, token) = tokens[at].clone();
            let _ = replica.run(Request::Release { key: &key, token, level: None, durable: false }, wall_ms);
        }
        (16..19, Some(at)) => {
            let (key, token) = tokens[at].clone();
            let _ = replica.run(
                Request::Renew { key: &key, token, lease_ms: None, level: None, durable: false },
                wall_ms,
            );
        }
        _ => {
            let _ = replica.run(Request::Forget { key: key.as_bytes() }, wall_ms);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// INV-2, INV-8, INV-15: lost, doubled and reordered frames delay, and change nothing else.
    #[test]
    fn regions_converge_whatever_happens_to_frames(
        seed: u64,
        lost in 0u64..40,
        doubled in 0u64..30,
        reordered in 0u64..60,
        always: bool,
        count in 2u16..4,
    ) {
        let durable = if always { Durable::Always } else { Durable::Interval };
        let policy = crate::policy::Policy { durable, lease_ms: 1_000, ..Default::default() };
        let mut cluster = met(count, &Settings { policy, ..Settings::default() });
        cluster.dice = Dice(seed);
        cluster.faults = Faults { lost, doubled, reordered };
        let (mut dice, mut tokens) = (Dice(seed ^ 0x5eed), Vec::new());
        for _ in 0..150 {
            (0..dice.below(4)).for_each(|_| operate(&cluster, &mut dice, &mut tokens));
            cluster.step();
        }
        cluster.heal();
        cluster.run_ms(3_000);
        cluster.assert_converged();
        let refused = cluster.errors.iter().find(|error| !matches!(error, FrameError::OutOfOrder(_)));
        prop_assert_eq!(refused, None, "honest frames are never malformed");
        prop_assert!(cluster.acks_seen > 0);
    }

    /// Arbitrary bytes as a frame, before and after the handshake: no panic, no change (S7).
    #[test]
    fn arbitrary_frames_change_nothing(bytes in prop::collection::vec(any::<u8>(), 0..120), versioned: bool) {
        let mut cluster = met(2, &Settings::default());
        assert_eq!(cluster.replicas[A].claim(b"k", b"a", cluster.wall_ms).0, "GRANTED");
        cluster.run_ms(100);
        let before = cluster.replicas[A].store.digest(cluster.wall_ms);
        let clock = cluster.replicas[A].store.clock().last();
        let mut frame = bytes;
        if versioned {
            frame.insert(0, crate::wire::WIRE_VERSION);
        }
        let _ = cluster.hand_over(B, A, &frame);
        prop_assert_eq!(cluster.replicas[A].store.clock().last(), clock);
        cluster.run_ms(1_000);
        cluster.assert_converged();
        prop_assert_eq!(cluster.replicas[A].store.digest(cluster.wall_ms), before);
    }
}

fn hello() -> Hello<'static> {
    Hello {
        cluster: CLUSTER,
        region: RegionId(2),
        name: "region-2",
        incarnation: Incarnation(5),
        epoch: LogEpoch(1),
        membership: 1,
        have: None,
        tip: 0,
        newest_of_yours: Stamp::ZERO,
        epoch_first: 1,
        torn: false,
        incomplete: false,
        began_ms: 0,
        latest_of_yours: Default::default(),
        members: Bytes(&[1, 0, 2, 0, 3, 0]),
    }
}

/// Region 1 with its peers 2 and 3, none of them there.
fn alone(with: &Settings) -> Replica {
    Replica::start(1, &[1, 2, 3], Vec::new(), with)
}

fn receive(replica: &mut Replica, link: LinkId, frame: &Frame<'_>, wall_ms: u64) -> Result<(), FrameError> {
    replica.node.handle_frame(&replica.store, RegionId(2), link, &frame.encode(), wall_ms)
}

/// S7: another cluster, another region than the certificate's, frames before the hello, closed links.
#[test]
fn a_handshake_that_does_not_fit_is_refused() {
    let mut replica = alone(&Settings::default());
    let ping = Frame::Ping { at_ms: T0, sent: Cursor::default(), incomplete: false };
    assert_eq!(receive(&mut replica, 9, &ping, T0), Err(FrameError::ClosedLink), "no link yet");
    replica.node.handle_link_up(&replica.store, RegionId(2), 9, T0);
    assert!(matches!(receive(&mut replica, 9, &ping, T0), Err(FrameError::OutOfOrder(_))));
    let foreign = Hello { cluster: [8; 16], ..hello() };
    let (ours, theirs) = ("07".repeat(16), "08".repeat(16));
    let refused = receive(&mut replica, 9, &Frame::Hello(foreign), T0);
    assert_eq!(refused, Err(FrameError::Cluster { ours, theirs }));
    let other = Hello { region: RegionId(3), ..hello() };
    let refused = receive(&mut replica, 9, &Frame::Hello(other), T0);
    assert_eq!(refused, Err(FrameError::Region { announced: 3, authenticated: 2 }));
    assert_eq!(replica.node.peers(&replica.store)[0].state, LinkState::Connecting);
    assert_eq!(replica.node.peers(&replica.store)[0].refused, 3);
    assert_eq!(receive(&mut replica, 9, &Frame::Hello(hello()), T0), Ok(()));
    assert_eq!(replica.node.peers(&replica.store)[0].state, LinkState::Linked);
    assert_eq!(receive(&mut replica, 8, &ping, T0), Err(FrameError::ClosedLink), "an older link's frame");
    let stranger = replica.node.handle_frame(&replica.store, RegionId(9), 9, &ping.encode(), T0);
    assert_eq!(stranger, Err(FrameError::ClosedLink), "not one of the cluster's regions");
    let lie = Frame::Ack { upto: Cursor { lsn: 99, ..replica_cursor(&replica) }, resend: false };
    assert!(matches!(receive(&mut replica, 9, &lie, T0), Err(FrameError::OutOfOrder(_))), "never sent");
}

fn replica_cursor(replica: &Replica) -> Cursor {
    let StoreConfig { incarnation, .. } = *replica.store.config();
    Cursor { incarnation, epoch: replica.header.epoch, lsn: replica.store.tail().written() }
}

/// S7: claims wait for each peer that is reached, at most `catch_up_wait`; never for one that is not.
#[test]
fn the_gate_opens_when_caught_up_or_when_waiting_is_over() {
    // A region that starts from nothing would wait for one peer however long that takes: see `lives`.
    let with =
        Settings { reach_wait_ms: 2_000, catch_up_wait_ms: 10_000, alone: true, ..Settings::default() };
    let granted = |replica: &Replica, wall_ms| {
        let _ = replica.store.extend_ceiling(wall_ms);
        replica.claim(format!("k:{wall_ms}").as_bytes(), b"a", wall_ms).0 == "GRANTED"
    };
    let tick = |replica: &mut Replica, wall_ms| {
        // Second by second: a clock that jumps is not believed.
        for at_ms in (T0..wall_ms).step_by(1_000).chain([wall_ms]) {
            let _ = replica.store.extend_ceiling(at_ms);
            replica.flush();
        }
        replica.node.handle_tick(&replica.store, wall_ms);
        replica.node.is_caught_up()
    };
    // A newborn may lead the wall clock of a former life by max_drift: it grants only after that.
    let mut unreached = alone(&with);
    assert!(!tick(&mut unreached, T0 + 1_999) && !granted(&unreached, T0 + 1_999));
    assert!(tick(&mut unreached, T0 + 2_000) && granted(&unreached, T0 + 2_000), "nobody was reached");

    let mut behind = alone(&with);
    behind.node.handle_link_up(&behind.store, RegionId(2), 9, T0);
    let theirs = Hello { tip: 50, ..hello() };
    assert_eq!(receive(&mut behind, 9, &Frame::Hello(theirs), T0), Ok(()));
    assert!(!tick(&mut behind, T0 + 9_999) && !granted(&behind, T0 + 9_999), "reached, and behind it");
    assert!(tick(&mut behind, T0 + 10_000) && granted(&behind, T0 + 10_000), "catch_up_wait is over");

    let mut level = alone(&with);
    for (region, link) in [(2, 9), (3, 10)] {
        assert!(!tick(&mut level, T0 + 600) && !granted(&level, T0 + 600));
        level.node.handle_link_up(&level.store, RegionId(region), link, T0 + 600);
        let theirs = Frame::Hello(Hello { region: RegionId(region), ..hello() }).encode();
        assert_eq!(level.node.handle_frame(&level.store, RegionId(region), link, &theirs, T0 + 600), Ok(()));
    }
    assert!(level.node.is_caught_up() && granted(&level, T0 + 601), "caught up with everybody");

    let mut dropped = alone(&with);
    dropped.node.handle_link_up(&dropped.store, RegionId(2), 9, T0);
    assert_eq!(receive(&mut dropped, 9, &Frame::Hello(Hello { tip: 50, ..hello() }), T0), Ok(()));
    dropped.node.handle_link_down(RegionId(2), 9, T0);
    assert!(tick(&mut dropped, T0 + 2_001), "readiness never depends on unreachable peers");
}

/// S7: a region that starts anew among others refuses claims until it holds what they hold.
#[test]
fn a_restarted_region_catches_up_before_it_grants() {
    let mut cluster = met(2, &Settings::default());
    let (_, token) = cluster.replicas[A].claim(b"k", b"a", cluster.wall_ms);
    cluster.run_ms(100);
    let with = Settings { wall_ms: cluster.wall_ms, ..Settings::default() };
    let (_, done) = cluster.replicas[A].claim(b"l", b"a", cluster.wall_ms);
    cluster.restart(B, Vec::new(), &with);
    assert_eq!(cluster.replicas[B].claim(b"k", b"b", cluster.wall_ms).0, "UNAVAILABLE");
    cluster.run_ms(1_000);
    assert!(cluster.replicas[B].node.is_caught_up());
    assert_eq!(cluster.replicas[B].claim(b"k", b"b", cluster.wall_ms).0, "IN_PROGRESS");
    assert_eq!(cluster.replicas[B].claim(b"l", b"b", cluster.wall_ms).0, "IN_PROGRESS");
    let status = cluster.replicas[B].complete(b"k", token.expect("granted"), b"done", cluster.wall_ms);
    assert_eq!(status, "COMPLETED");
    assert!(done.is_some());
    cluster.run_ms(300);
    cluster.assert_converged();
}

/// S2: a region that is off from a majority by more than 80 % of the bound refuses claims, and only
/// claims.
#[test]
fn a_region_whose_clock_is_off_refuses_claims() {
    // The round trip of 20 ms leaves 10 ms in doubt.
    for (offset_ms, refused) in [(410i64, false), (411, true), (-410, false), (-411, true)] {
        let mut replica = alone(&Settings { reach_wait_ms: 0, ..Settings::default() });
        for region in [2, 3] {
            replica.node.handle_link_up(&replica.store, RegionId(region), 9, T0);
            let theirs = Frame::Hello(Hello { region: RegionId(region), ..hello() }).encode();
            assert_eq!(replica.node.handle_frame(&replica.store, RegionId(region), 9, &theirs, T0), Ok(()));
            let at_ms = (T0 + 1_010).checked_add_signed(offset_ms).expect("in range");
            let pong = Frame::Pong { ping_at_ms: T0 + 1_000, at_ms }.encode();
            assert_eq!(
                replica.node.handle_frame(&replica.store, RegionId(region), 9, &pong, T0 + 1_020),
                Ok(())
            );
            replica.node.handle_tick(&replica.store, T0 + 1_020);
            let closed = replica.store.gate.closed() == Some(Reason::Clock);
            assert_eq!(closed, refused && region == 3, "{offset_ms} ms, told by {} of 2", region - 1);
        }
        replica.node.handle_tick(&replica.store, T0 + 20_000);
        assert_eq!(replica.store.gate.closed(), None, "what was measured long ago says nothing");
    }
}
