//! S5 at `quorum`, over the harness's links: whatever is granted, a majority knew of it first, and nobody else is granted
//! the same key while its lease runs.

use super::harness::{Cluster, Replica, STEP_MS, Settings};
use crate::decide::{Gathered, Proposal};
use crate::hlc::Stamp;
use crate::policy::{Level, Policy};
use crate::request::{Claim, Reply, Request};
use crate::store::{Ran, Scratch, Ticket};
use crate::token::Token;

const KEY: &[u8] = b"pay:1";
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

fn settings() -> Settings {
    let policy = Policy { level: Level::Quorum, lease_ms: 5_000, ..Policy::default() };
    Settings { policy, ..Settings::default() }
}

/// Three regions that have found their voices.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new(3, &settings());
    run_until(&mut cluster, |cluster| cluster.replicas.iter().all(|r| r.store.gate.has_voice()));
    cluster
}

#[track_caller]
fn run_until(cluster: &mut Cluster, done: impl Fn(&Cluster) -> bool) {
    for _ in 0..3_000 {
        if done(cluster) {
            return;
        }
        cluster.step();
    }
    panic!("not within 30 s");
}

/// What a look at a key came to.
#[derive(Debug, PartialEq, Clone)]
enum Looked {
    Told(&'static str, Option<Token>),
    Asks,
}

/// A first or second look, and the round that it asks for begun once all is synced.
fn look(
    replica: &mut Replica,
    request: &Request<'_>,
    gathered: Option<Gathered>,
    wall_ms: u64,
    ticket: Ticket,
) -> Looked {
    let (mut status, mut token) = ("", None);
    let ran =
        replica.store.run_gathered(request, gathered, wall_ms, None, &mut Scratch::default(), |reply| {
            status = reply.status();
            if let Reply::Granted { token: granted, level, .. } = reply {
                assert_eq!(*level, Level::Quorum);
                token = Some(*granted);
            }
        });
    replica.flush();
    match ran.expect("a lawful request") {
        Ran::Asks(proposal, release) => {
            assert!(replica.store.tail().may_release(&release));
            replica.node.handle_ask(&replica.store, ticket, request.key(), proposal, wall_ms);
            Looked::Asks
        }
        _ => Looked::Told(status, token),
    }
}

/// Asks at once at several regions, and runs until all are told.
#[track_caller]
fn ask_all(cluster: &mut Cluster, asks: &[(usize, Request<'_>)]) -> Vec<(&'static str, Option<Token>)> {
    let mut told = vec![None; asks.len()];
    for (ticket, (at, request)) in asks.iter().enumerate() {
        let wall_ms = cluster.wall_ms;
        if let Looked::Told(status, token) =
            look(&mut cluster.replicas[*at], request, None, wall_ms, ticket as Ticket)
        {
            told[ticket] = Some((status, token));
        }
    }
    for _ in 0..1_000 {
        cluster.send();
        cluster.step();
        let wall_ms = cluster.wall_ms;
        for at in 0..cluster.replicas.len() {
            while let Some((ticket, gathered)) = cluster.replicas[at].node.poll_gathered() {
                let Some((_, request)) = asks.get(ticket as usize).filter(|(asked, _)| *asked == at) else {
                    continue;
                };
                let replica = &mut cluster.replicas[at];
                let Looked::Told(status, token) = look(replica, request, Some(gathered), wall_ms, ticket)
                else {
                    panic!("a second look asks again")
                };
                told[ticket as usize] = Some((status, token));
            }
        }
        if told.iter().all(Option::is_some) {
            return told.into_iter().flatten().collect();
        }
    }
    panic!("not all are told within 10 s: {told:?}");
}

fn claim<'a>(claimant: &'a [u8]) -> Request<'a> {
    Request::Claim(Claim { key: KEY, claimant, ..Claim::default() })
}

fn complete(token: Token) -> Request<'static> {
    Request::Complete { key: KEY, token, outcome: b"done", level: None, durable: false }
}

fn granted(cluster: &mut Cluster, at: usize, claimant: &[u8]) -> Token {
    let told = ask_all(cluster, &[(at, claim(claimant))]);
    assert_eq!(told[0].0, "GRANTED");
    told[0].1.expect("a grant has a token")
}

#[test]
fn a_claim_is_granted_once_a_majority_holds_it_and_told_everywhere() {
    let mut cluster = cluster();
    let token = granted(&mut cluster, A, b"a");
    assert_eq!(ask_all(&mut cluster, &[(B, claim(b"b"))])[0].0, "IN_PROGRESS");
    assert_eq!(ask_all(&mut cluster, &[(A, complete(token))])[0].0, "COMPLETED");
    assert_eq!(ask_all(&mut cluster, &[(C, claim(b"c"))])[0].0, "REPLAY");
    cluster.run_ms(2_000);
    cluster.assert_converged();
    let entry = cluster.replicas[B].store.inspect(KEY).expect("known");
    assert!(entry.entry().outcomes[0].majority, "what a majority holds says so");
}

#[test]
fn of_regions_that_ask_at_once_exactly_one_is_granted() {
    for seed in 0..50 {
        let mut cluster = cluster();
        cluster.dice.0 = seed;
        let told = ask_all(&mut cluster, &[(A, claim(b"a")), (B, claim(b"b")), (C, claim(b"c"))]);
        let granted = told.iter().filter(|(status, _)| *status == "GRANTED").count();
        assert_eq!(granted, 1, "seed {seed}: {told:?}");
    }
}

#[test]
fn a_minority_is_told_so_in_bounded_time_and_the_majority_goes_on() {
    let mut cluster = cluster();
    cluster.unlink(A, B);
    cluster.unlink(A, C);
    let began_ms = cluster.wall_ms;
    assert_eq!(ask_all(&mut cluster, &[(A, claim(b"a"))])[0].0, "UNAVAILABLE");
    assert!(cluster.wall_ms - began_ms <= crate::limits::ROUND_MS_MAX + 10 * STEP_MS);
    granted(&mut cluster, B, b"b");
    // What A asked for stands in nobody's way: it was never held by anybody else, and is released.
    cluster.link(A, B);
    cluster.link(A, C);
    cluster.run_ms(2_000);
    assert_eq!(ask_all(&mut cluster, &[(A, claim(b"a"))])[0].0, "IN_PROGRESS");
}

#[test]
fn a_completion_without_its_majority_is_recorded_and_may_be_repeated() {
    let mut cluster = cluster();
    let token = granted(&mut cluster, A, b"a");
    cluster.unlink(A, B);
    cluster.unlink(A, C);
    let mut reason = None;
    let request = complete(token);
    let wall_ms = cluster.wall_ms;
    assert_eq!(look(&mut cluster.replicas[A], &request, None, wall_ms, 0), Looked::Asks);
    run_until_over(&mut cluster, |replica, gathered, wall_ms| {
        let _ = replica.store.run_gathered(
            &request,
            Some(gathered),
            wall_ms,
            None,
            &mut Scratch::default(),
            |reply| {
                if let Reply::Unavailable { reason: why, .. } = reply {
                    reason = Some(why.name());
                }
            },
        );
    });
    assert_eq!(reason, Some("recorded_here"));
    cluster.link(A, B);
    cluster.link(A, C);
    cluster.run_ms(500);
    assert_eq!(ask_all(&mut cluster, &[(A, complete(token))])[0].0, "COMPLETED");
}

#[track_caller]
fn run_until_over(cluster: &mut Cluster, mut over: impl FnMut(&mut Replica, Gathered, u64)) {
    for _ in 0..1_000 {
        cluster.step();
        let wall_ms = cluster.wall_ms;
        if let Some((_, gathered)) = cluster.replicas[A].node.poll_gathered() {
            over(&mut cluster.replicas[A], gathered, wall_ms);
            return;
        }
    }
    panic!("the round is not over within 10 s");
}

#[test]
fn the_same_claimant_is_granted_again_by_a_fresh_round_and_not_by_a_minority() {
    let mut cluster = cluster();
    let token = granted(&mut cluster, A, b"a");
    assert_eq!(granted(&mut cluster, A, b"a"), token);
    cluster.unlink(A, B);
    cluster.unlink(A, C);
    assert_eq!(ask_all(&mut cluster, &[(A, claim(b"a"))])[0].0, "UNAVAILABLE");
    cluster.link(A, B);
    cluster.run_ms(500);
    // That round has not released it.
    assert_eq!(granted(&mut cluster, A, b"a"), token);
}

#[test]
fn two_requests_of_one_claimant_share_a_round() {
    let mut cluster = cluster();
    let told = ask_all(&mut cluster, &[(A, claim(b"a")), (A, claim(b"a"))]);
    assert_eq!((told[0].0, told[1].0), ("GRANTED", "GRANTED"));
    assert_eq!(told[0].1, told[1].1);
}

#[test]
fn a_claimant_that_crashed_while_it_asked_stands_in_the_way_until_its_lease_is_over() {
    let mut cluster = cluster();
    let wall_ms = cluster.wall_ms;
    assert_eq!(look(&mut cluster.replicas[A], &claim(b"a"), None, wall_ms, 0), Looked::Asks);
    cluster.send();
    cluster.step();
    cluster.unlink(A, B);
    cluster.unlink(A, C);
    assert_eq!(ask_all(&mut cluster, &[(B, claim(b"b"))])[0].0, "IN_PROGRESS", "it blocks");
    cluster.run_ms(6_000);
    granted(&mut cluster, B, b"b");
}

#[test]
fn after_a_restart_the_claimant_asks_again_for_its_own_claim() {
    let mut cluster = cluster();
    let wall_ms = cluster.wall_ms;
    assert_eq!(look(&mut cluster.replicas[A], &claim(b"a"), None, wall_ms, 0), Looked::Asks);
    let segments = cluster.replicas[A].segments.clone();
    cluster.restart(A, segments, &Settings { wall_ms: cluster.wall_ms, ..settings() });
    cluster.run_ms(1_000);
    assert!(cluster.replicas[A].store.gate.has_voice(), "nothing was lost, and its log says so");
    let stamp = |token: Token| token.id.stamp;
    let before = cluster.replicas[A].store.inspect(KEY).expect("asked").entry().attempts[0].id.stamp;
    assert_eq!(stamp(granted(&mut cluster, A, b"a")), before);
    assert!(before > Stamp::ZERO);
}

#[test]
fn a_renewal_needs_a_majority_and_a_takeover_ends_it() {
    let mut cluster = cluster();
    let token = granted(&mut cluster, A, b"a");
    let renew = Request::Renew { key: KEY, token, lease_ms: Some(6_000), level: None, durable: false };
    assert_eq!(ask_all(&mut cluster, &[(A, renew)])[0].0, "RENEWED");
    cluster.unlink(A, B);
    cluster.unlink(A, C);
    assert_eq!(ask_all(&mut cluster, &[(A, renew)])[0].0, "UNAVAILABLE");
    // The others never heard of that one.
    cluster.run_ms(7_000);
    granted(&mut cluster, B, b"b");
    cluster.link(A, B);
    cluster.link(A, C);
    cluster.run_ms(1_000);
    assert_eq!(ask_all(&mut cluster, &[(A, renew)])[0].0, "SUPERSEDED");
}

#[test]
fn a_wiped_voter_counts_once_it_has_compared_with_all_others() {
    let mut cluster = cluster();
    granted(&mut cluster, A, b"a");
    cluster.run_ms(1_000);
    cluster.restart(B, Vec::new(), &Settings { wall_ms: cluster.wall_ms, ..settings() });
    cluster.unlink(A, B);
    cluster.run_ms(5_000);
    assert!(!cluster.replicas[B].store.gate.has_voice(), "C may not know what A and B decided");
    cluster.link(A, B);
    run_until(&mut cluster, |cluster| cluster.replicas[B].store.gate.has_voice());
}

#[test]
fn a_region_that_is_down_takes_no_voice_from_one_that_restarts() {
    let mut cluster = cluster();
    cluster.unlink(A, C);
    cluster.unlink(B, C);
    let segments = cluster.replicas[B].segments.clone();
    cluster.restart(B, segments, &Settings { wall_ms: cluster.wall_ms, ..settings() });
    cluster.unlink(B, C);
    cluster.run_ms(3_000);
    granted(&mut cluster, A, b"a");
}

#[test]
fn a_forget_needs_a_majority() {
    let mut cluster = cluster();
    granted(&mut cluster, A, b"a");
    assert_eq!(ask_all(&mut cluster, &[(B, Request::Forget { key: KEY })])[0].0, "FORGOTTEN");
    granted(&mut cluster, C, b"c");
    cluster.unlink(A, B);
    cluster.unlink(B, C);
    assert_eq!(ask_all(&mut cluster, &[(B, Request::Forget { key: KEY })])[0].0, "UNAVAILABLE");
}

/// The story: with one region added and then two retired, an epoch's majority could lie wholly outside of the one that had
/// granted a claim.
#[test]
fn after_a_step_of_the_membership_a_region_counts_once_it_knows_what_was_decided() {
    let mut cluster = cluster();
    cluster.unlink(A, C);
    cluster.unlink(B, C);
    granted(&mut cluster, A, b"a");
    // A is retired; C has made the step too, and does not know of the claim.
    let wall_ms = cluster.wall_ms;
    for at in [B, C] {
        let region = cluster.replicas[at].region;
        let peers: Vec<_> =
            cluster.replicas[1..].iter().map(|r| r.region).filter(|peer| *peer != region).collect();
        let replica = &mut cluster.replicas[at];
        replica.node.set_membership(&replica.store, 2, &peers, wall_ms).expect("one step");
        assert!(!replica.store.gate.has_voice());
    }
    cluster.unlink(A, B);
    cluster.link(B, C);
    run_until(&mut cluster, |cluster| cluster.replicas[C].store.gate.has_voice());
    let known = cluster.replicas[C].store.inspect(KEY).expect("compared");
    assert_eq!(known.entry().attempts.len(), 1);
    assert_eq!(ask_all(&mut cluster, &[(C, claim(b"c"))])[0].0, "IN_PROGRESS");
}

/// A voice of a round that nobody asked for, or of another epoch, counts nowhere.
#[test]
fn strange_voices_count_nowhere() {
    use crate::entry::Bytes;
    use crate::wire::Frame;
    let mut cluster = cluster();
    cluster.unlink(A, C);
    cluster.unlink(B, C);
    let wall_ms = cluster.wall_ms;
    assert_eq!(look(&mut cluster.replicas[A], &claim(b"a"), None, wall_ms, 0), Looked::Asks);
    cluster.send();
    let frames = cluster.pipes.get(&(A, B)).cloned().unwrap_or_default();
    let round = frames.iter().find_map(|frame| match Frame::decode(frame) {
        Ok(Frame::Ask { round, body, .. }) => Some((round, body.0.to_vec())),
        _ => None,
    });
    let (round, body) = round.expect("A asks B");
    cluster.pipes.clear();
    for (round, epoch, counts) in [(round + 1, 1, true), (round, 2, true), (round, 1, false)] {
        let lie = Frame::Voice { round, epoch, counts, body: Bytes(&body) }.encode();
        assert!(cluster.hand_over(B, A, &lie));
        assert_eq!(cluster.replicas[A].node.poll_gathered(), None);
    }
    let truth = Frame::Voice { round, epoch: 1, counts: true, body: Bytes(&body) }.encode();
    assert!(cluster.hand_over(B, A, &truth));
    let (_, gathered) = cluster.replicas[A].node.poll_gathered().expect("a majority");
    assert!(gathered.reached && matches!(gathered.proposal, Proposal::Claim(_)));
}
