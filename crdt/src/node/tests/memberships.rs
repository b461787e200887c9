//! Regions that come and go while others run (S5): what links, what does not, and what a step leaves behind.

use super::*;
use harness::STEP_MS;

/// Has replica `at` take the membership of `epoch` with all of `regions`.
fn reload(
    cluster: &mut Cluster,
    at: usize,
    epoch: u64,
    regions: &[u16],
) -> Result<MembershipChange, MembershipError> {
    let replica = &mut cluster.replicas[at];
    let own = replica.region;
    let peers: Vec<_> = regions.iter().copied().map(RegionId).filter(|peer| *peer != own).collect();
    replica.node.set_membership(&replica.store, epoch, &peers, cluster.wall_ms)
}

fn state(cluster: &Cluster, at: usize, other: u16) -> Option<(LinkState, Option<u64>)> {
    let views = cluster.replicas[at].node.peers(&cluster.replicas[at].store);
    views.iter().find(|view| view.region == RegionId(other)).map(|view| (view.state, view.membership))
}

fn linked(at_epoch: u64) -> Option<(LinkState, Option<u64>)> {
    Some((LinkState::Linked, Some(at_epoch)))
}

/// Region 3 beside the two, configured for `epoch` with all three.
fn add_third(cluster: &mut Cluster, epoch: u64) {
    let with = Settings { wall_ms: cluster.wall_ms, membership: epoch, ..Settings::default() };
    cluster.replicas.push(Replica::start(3, &[1, 2, 3], Vec::new(), &with));
}

/// What membership `epoch` with `regions` says to region 1 of membership 5 with 1, 2 and 3.
fn greeted(epoch: u64, regions: &[u8]) -> Result<(), FrameError> {
    let mut replica = alone(&Settings { membership: 5, ..Settings::default() });
    replica.node.handle_link_up(&replica.store, RegionId(2), 9, T0);
    let members: Vec<u8> = regions.iter().flat_map(|region| [*region, 0]).collect();
    let theirs = Hello { membership: epoch, members: Bytes(&members), ..hello() };
    let clock = replica.store.clock().last();
    let result = receive(&mut replica, 9, &Frame::Hello(theirs), T0);
    if result.is_err() {
        let view = replica.node.peers(&replica.store)[0];
        assert_eq!((view.state, view.membership), (LinkState::Connecting, None), "nothing was changed");
        assert_eq!(replica.store.clock().last(), clock);
    }
    result
}

#[test]
fn adjacent_memberships_link_and_no_others_do() {
    for (epoch, regions) in
        [(5, &[1, 2, 3][..]), (6, &[1, 2, 3, 4]), (6, &[1, 2]), (4, &[2, 3]), (4, &[1, 2])]
    {
        assert_eq!(greeted(epoch, regions), Ok(()), "{epoch} {regions:?}");
    }
    let ours = || "epoch 5 of region ids 1, 2, 3".to_owned();
    for (epoch, regions, theirs) in [
        (7, &[1, 2, 3, 4, 5][..], "epoch 7 of region ids 1, 2, 3, 4, 5"),
        (7, &[1, 2, 3], "epoch 7 of region ids 1, 2, 3"),
        (3, &[1, 2], "epoch 3 of region ids 1, 2"),
        (u64::MAX, &[1, 2, 3], "epoch 18446744073709551615 of region ids 1, 2, 3"),
        // One region for another is two steps, and no step at all is none.
        (6, &[1, 2, 4], "epoch 6 of region ids 1, 2, 4"),
        (6, &[1, 2, 3], "epoch 6 of region ids 1, 2, 3"),
        (4, &[1, 2, 3], "epoch 4 of region ids 1, 2, 3"),
    ] {
        let apart = MembershipError::Apart { ours: ours(), theirs: theirs.to_owned() };
        assert_eq!(greeted(epoch, regions), Err(FrameError::Membership(apart)));
    }
    let theirs = "epoch 5 of region ids 1, 2, 4".to_owned();
    let differ = MembershipError::Differ { ours: ours(), theirs };
    assert_eq!(greeted(5, &[1, 2, 4]), Err(FrameError::Membership(differ)));
    let theirs = "epoch 6 of region ids 2, 3".to_owned();
    let retired = MembershipError::Retired { ours: ours(), theirs };
    assert_eq!(greeted(6, &[2, 3]), Err(FrameError::Membership(retired)));
}

#[test]
fn a_list_of_regions_out_of_order_or_bounds_is_no_frame() {
    let decoded = |members: &[u8]| {
        let frame = Frame::Membership { epoch: 1, members: Bytes(members) }.encode();
        Frame::decode(&frame).map(|_| ())
    };
    let many: Vec<u8> = (0..65u16).flat_map(u16::to_le_bytes).collect();
    assert_eq!(decoded(&many[..128]), Ok(()), "as many as there may be");
    for wrong in [&many[..], &[1], &[1, 0, 1, 0], &[2, 0, 1, 0]] {
        assert_eq!(decoded(wrong), Err(MalformedFrame::Members));
    }
}

#[test]
fn a_step_is_one_region_and_one_epoch() {
    let mut cluster = met(2, &Settings::default());
    for (epoch, regions) in
        [(1, &[1, 2, 3][..]), (2, &[1, 2]), (3, &[1, 2, 3]), (0, &[1]), (2, &[1, 3]), (2, &[1, 2, 3, 4])]
    {
        let refused = reload(&mut cluster, A, epoch, regions);
        assert!(matches!(refused, Err(MembershipError::NoStep { next: 2, .. })), "{epoch} {regions:?}");
    }
    assert_eq!(reload(&mut cluster, A, 1, &[1, 2]), Ok(MembershipChange::default()), "nothing changes");
    let said = reload(&mut cluster, A, 4, &[1, 2, 3]).unwrap_err().to_string();
    assert!(
        said.contains("in force epoch 1 of region ids 1, 2, wanted epoch 4 of region ids 1, 2, 3"),
        "{said}"
    );
    assert!(said.contains("set [cluster] membership = 2"), "{said}");
    cluster.run_ms(100);
    assert_eq!((state(&cluster, A, 2), state(&cluster, A, 3)), (linked(1), None));
}

/// S5: configurations are reloaded one after the other, links stay up all the while, and the newcomer is sent
/// everything before it grants.
#[test]
fn a_region_is_added_one_reload_at_a_time_and_no_link_is_cut() {
    let mut cluster = met(2, &Settings::default());
    assert_eq!(cluster.replicas[A].claim(b"before", b"a", cluster.wall_ms).0, "GRANTED");
    cluster.run_ms(100);
    let links = cluster.links.clone();
    add_third(&mut cluster, 2);
    let change = reload(&mut cluster, A, 2, &[1, 2, 3]).expect("one step");
    assert_eq!((change.added, change.retired), (vec![RegionId(3)], vec![]));
    cluster.run_ms(100);
    assert_eq!((state(&cluster, A, 2), state(&cluster, B, 1)), (linked(1), linked(2)));
    cluster.link(A, 2);
    cluster.run_ms(500);
    assert_eq!(cluster.replicas[2].claim(b"before", b"c", cluster.wall_ms).0, "UNAVAILABLE", "b may be near");
    cluster.run_ms(2_000);
    assert_eq!(cluster.replicas[2].claim(b"before", b"c", cluster.wall_ms).0, "IN_PROGRESS", "it holds all");
    assert_eq!(cluster.replicas[B].claim(b"during", b"b", cluster.wall_ms).0, "GRANTED");
    let change = reload(&mut cluster, B, 2, &[1, 2, 3]).expect("one step");
    assert_eq!(change.added, vec![RegionId(3)]);
    cluster.link(B, 2);
    cluster.run_ms(1_000);
    assert_eq!(cluster.replicas[2].claim(b"during", b"c", cluster.wall_ms).0, "IN_PROGRESS");
    cluster.assert_converged();
    assert_eq!(cluster.errors, vec![]);
    assert!(
        links.iter().all(|(pair, link)| cluster.links.get(pair) == Some(link)),
        "no link was opened anew"
    );
    assert_eq!((state(&cluster, A, 2), state(&cluster, A, 3)), (linked(2), linked(2)));
}

#[test]
fn a_step_that_would_cut_a_live_link_is_refused_and_one_that_was_made_elsewhere_cuts_it() {
    let mut cluster = met(3, &Settings::default());
    reload(&mut cluster, A, 2, &[1, 2, 3, 4]).expect("one step");
    cluster.run_ms(100);
    let refused = reload(&mut cluster, A, 3, &[1, 2, 3, 4, 5]).unwrap_err();
    assert!(matches!(refused, MembershipError::LeavesBehind { peer: 2, .. }), "{refused}");
    assert!(
        refused.to_string().contains("still at epoch 1 of region ids 1, 2, 3, too far from epoch 3"),
        "{refused}"
    );
    cluster.run_ms(100);
    assert_eq!(cluster.errors, vec![]);
    // Out of reach, it cannot be asked; it is refused when it comes back.
    cluster.unlink(A, B);
    cluster.unlink(A, 2);
    reload(&mut cluster, A, 3, &[1, 2, 3, 4, 5]).expect("one step");
    cluster.link(A, B);
    cluster.run_ms(50);
    assert!(matches!(cluster.errors[0], FrameError::Membership(MembershipError::Apart { .. })));
    assert_eq!(state(&cluster, A, 2).map(|(state, _)| state), Some(LinkState::Connecting));
}

#[test]
fn a_retired_region_is_forgotten_and_nobody_waits_for_it() {
    let mut cluster = met(3, &Settings::default());
    assert_eq!(cluster.replicas[2].claim(b"k", b"c", cluster.wall_ms).0, "GRANTED");
    cluster.run_ms(100);
    cluster.unlink(A, 2);
    cluster.unlink(B, 2);
    assert_eq!(cluster.replicas[A].node.cursors().len(), 2);
    for at in [A, B] {
        let change = reload(&mut cluster, at, 2, &[1, 2]).expect("one step");
        assert_eq!((change.added, change.retired), (vec![], vec![RegionId(3)]));
    }
    cluster.run_ms(500);
    let replica = &cluster.replicas[A];
    assert_eq!(replica.node.cursors().len(), 1, "the next segment does not name it");
    assert_eq!((state(&cluster, A, 3), state(&cluster, A, 2)), (None, linked(2)));
    assert_eq!(replica.claim(b"k", b"a", cluster.wall_ms).0, "IN_PROGRESS", "what it told stays");
    // Only of peers that count: the retired one would hold the log for ever.
    let (_, token) = replica.claim(b"l", b"a", cluster.wall_ms);
    assert!(token.is_some());
    cluster.run_ms(1_000);
    let replica = &cluster.replicas[A];
    let behind = replica.store.tail().written() - replica.node.acked_by_all();
    assert!(behind <= 3, "{behind} records are kept for somebody");
    assert_eq!(cluster.errors, vec![]);
    // Added again, it is a newcomer to us: all of its log comes once more, and all of ours goes.
    for at in [A, B] {
        reload(&mut cluster, at, 3, &[1, 2, 3]).expect("one step");
    }
    let with = Settings { wall_ms: cluster.wall_ms, membership: 3, ..Settings::default() };
    let segments = cluster.replicas[2].segments.clone();
    cluster.restart(2, segments, &with);
    cluster.run_ms(2_000);
    assert_eq!(cluster.errors, vec![]);
    cluster.assert_converged();
}

/// A namespace with `max_staleness` refused every claim from the moment a region was added until it first spoke: it
/// counted as unheard since the daemon's own start.
#[test]
fn a_region_that_is_added_counts_as_heard_then() {
    let mut cluster = met(2, &Settings::default());
    cluster.run_ms(5_000);
    reload(&mut cluster, A, 2, &[1, 2, 3]).expect("one step");
    cluster.step();
    let granted = |cluster: &Cluster| {
        let mut stale_ms = None;
        let request =
            Request::Claim(crate::request::Claim { key: b"k", claimant: b"a", ..Default::default() });
        let store = &cluster.replicas[A].store;
        let ran = store.run(&request, cluster.wall_ms, None, &mut Scratch::default(), |reply| {
            if let crate::request::Reply::Granted { stale_ms: found, .. } = reply {
                stale_ms = Some(*found);
            }
        });
        assert!(ran.is_ok());
        stale_ms
    };
    let stale_ms = granted(&cluster).expect("granted");
    assert!(stale_ms <= 1_000, "{stale_ms} ms");
    cluster.run_ms(3_000);
    let stale_ms = granted(&cluster).expect("granted again to its claimant");
    assert!((3_000..=3_000 + 2 * STEP_MS).contains(&stale_ms), "from then on it counts: {stale_ms} ms");
}

/// Found by the simulator. A region's word about its membership came a second time, late: it was believed to have gone back,
/// and the next reload was refused for its sake, until the link broke.
#[test]
fn an_old_word_about_a_membership_is_no_news() {
    let mut cluster = met(2, &Settings::default());
    let member = |epoch: u64, regions: u16| {
        let members: Vec<u8> = (1..=regions).flat_map(u16::to_le_bytes).collect();
        Frame::Membership { epoch, members: Bytes(&members) }.encode()
    };
    for at in [A, B] {
        reload(&mut cluster, at, 2, &[1, 2, 3]).expect("one step");
        cluster.run_ms(100);
    }
    assert!(cluster.hand_over(B, A, &member(1, 2)));
    assert_eq!(state(&cluster, A, 2), linked(2), "not back to 1");
    reload(&mut cluster, A, 3, &[1, 2, 3, 4]).expect("one step");
    cluster.run_ms(100);
    reload(&mut cluster, B, 3, &[1, 2, 3, 4]).expect("one step");
    cluster.run_ms(100);
    assert!(cluster.hand_over(B, A, &member(1, 2)), "nor is it too far apart to count");
    assert_eq!((state(&cluster, A, 2), cluster.errors.len()), (linked(3), 0));
}

/// A region that lacks data waits for a peer to bring it; the last peer retired, there is nobody to wait for.
#[test]
fn the_last_peer_retired_nobody_is_waited_for() {
    let mut replica = Replica::start(1, &[1, 2], Vec::new(), &Settings::default());
    replica.node.handle_tick(&replica.store, T0 + 60_000);
    assert!(replica.node.is_incomplete() && !replica.node.is_caught_up());
    replica.node.set_membership(&replica.store, 2, &[], T0 + 60_000).expect("one step");
    assert!(!replica.node.is_incomplete() && replica.node.is_caught_up());
}
