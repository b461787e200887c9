//! S5 at `home`, over the harness's links: whoever is asked, the home decides; where it cannot be asked, the policy says
//! what becomes of a request; and a step of the membership never leaves a key with two homes.

use super::harness::{Cluster, STEP_MS, Settings, T0};
use super::{FrameError, alone, hello, receive};
use crate::decide::Verdict;
use crate::entry::Bytes;
use crate::ids::RegionId;
use crate::limits;
use crate::node::ForwardCounts;
use crate::policy::{Fallback, Level, OnLeaseEnd, Policy};
use crate::request::{Claim, Reply, Request};
use crate::store::{Look, Ran, Scratch, Ticket};
use crate::token::Token;
use crate::wire::{Errand, Frame};

const KEY: &[u8] = b"pay:1";
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

fn policy() -> Policy {
    Policy { level: Level::Home, home: Some(RegionId(1)), lease_ms: 5_000, ..Policy::default() }
}

/// Three regions; the first is the home of every key.
fn cluster_of(policy: Policy) -> Cluster {
    let mut cluster = Cluster::new(3, &Settings { policy, ..Settings::default() });
    cluster.run_ms(2_000);
    cluster
}

fn cluster() -> Cluster {
    cluster_of(policy())
}

/// What a look at a key came to.
#[derive(Clone, PartialEq, Debug)]
enum Looked {
    Told(Told),
    Parked,
    Forwards,
}

#[derive(Clone, PartialEq, Debug)]
struct Told {
    status: &'static str,
    reason: &'static str,
    level: Option<Level>,
    token: Option<Token>,
}

fn told(reply: &Reply<'_>) -> Told {
    let (mut reason, mut level, mut token) = ("", None, None);
    match reply {
        Reply::Granted { token: granted, level: reached, .. } => {
            (token, level) = (Some(*granted), Some(*reached));
        }
        Reply::Completed { level: reached, .. } | Reply::Contested { level: reached, .. } => {
            level = Some(*reached);
        }
        Reply::Unavailable { reason: why, .. } => reason = why.name(),
        _ => {}
    }
    Told { status: reply.status(), reason, level, token }
}

fn look(
    cluster: &mut Cluster,
    at: usize,
    request: &Request<'_>,
    look: Look,
    ticket: Option<Ticket>,
) -> Looked {
    let wall_ms = cluster.wall_ms;
    let replica = &mut cluster.replicas[at];
    let mut answer = None;
    let emit = |reply: &Reply<'_>| answer = Some(told(reply));
    let ran = replica.store.look(request, look, wall_ms, ticket, &mut Scratch::default(), emit);
    replica.flush();
    match ran.expect("a lawful request") {
        Ran::Forwards(home) => {
            replica.node.handle_forward(ticket.unwrap_or(9), home, request, wall_ms);
            Looked::Forwards
        }
        Ran::Parked => Looked::Parked,
        _ => Looked::Told(answer.expect("what is replied to has a reply")),
    }
}

/// Everything that peers ask is decided.
fn decide(cluster: &mut Cluster) {
    let wall_ms = cluster.wall_ms;
    for replica in &mut cluster.replicas {
        while let Some(asked) = replica.node.poll_asked() {
            let _ = replica.node.run_asked(&replica.store, &asked, wall_ms, |_| {});
        }
    }
}

fn step(cluster: &mut Cluster) {
    cluster.send();
    cluster.step();
    decide(cluster);
}

fn run_ms(cluster: &mut Cluster, ms: u64) {
    (0..ms / STEP_MS).for_each(|_| step(cluster));
}

/// Asks at `at`, and runs until it is told.
#[track_caller]
fn ask(cluster: &mut Cluster, at: usize, request: &Request<'_>) -> Told {
    if let Looked::Told(told) = look(cluster, at, request, Look::First, None) {
        return told;
    }
    for _ in 0..1_000 {
        step(cluster);
        if let Some(answered) = cluster.replicas[at].node.poll_forwarded() {
            let second = Look::Answered(answered.verdict);
            match look(cluster, at, request, second, None) {
                Looked::Told(told) => return told,
                other => panic!("a second look comes to {other:?}"),
            }
        }
    }
    panic!("not told within 10 s")
}

fn claim(claimant: &[u8]) -> Request<'_> {
    Request::Claim(Claim { key: KEY, claimant, ..Claim::default() })
}

fn complete(token: Token) -> Request<'static> {
    Request::Complete { key: KEY, token, outcome: b"done", level: None, durable: false }
}

fn renew(token: Token, lease_ms: u64) -> Request<'static> {
    Request::Renew { key: KEY, token, lease_ms: Some(lease_ms), level: None, durable: false }
}

fn release(token: Token) -> Request<'static> {
    Request::Release { key: KEY, token, level: None, durable: false }
}

#[track_caller]
fn granted(cluster: &mut Cluster, at: usize, claimant: &[u8]) -> Token {
    let told = ask(cluster, at, &claim(claimant));
    assert_eq!((told.status, told.level), ("GRANTED", Some(Level::Home)), "{told:?}");
    told.token.expect("a grant has a token")
}

fn cut(cluster: &mut Cluster, at: usize) {
    (0..3).filter(|other| *other != at).for_each(|other| cluster.unlink(at, other));
}

fn heal(cluster: &mut Cluster, at: usize) {
    (0..3).filter(|other| *other != at).for_each(|other| cluster.link(at, other));
}

fn counts(cluster: &Cluster, at: usize) -> ForwardCounts {
    cluster.replicas[at].node.forward_counts()
}

#[test]
fn the_home_decides_whoever_is_asked_and_both_know_it_before_anybody_is_told() {
    let mut cluster = cluster();
    let token = granted(&mut cluster, B, b"b");
    assert_eq!(token.id.region, RegionId(1), "the claim is the home's");
    assert!(cluster.replicas[B].store.inspect(KEY).is_some(), "what was told is known here");
    for at in [A, B, C] {
        assert_eq!(ask(&mut cluster, at, &claim(b"other")).status, "IN_PROGRESS", "at {at}");
    }
    let again = ask(&mut cluster, C, &claim(b"b"));
    assert_eq!((again.status, again.token), ("GRANTED", Some(token)), "the same claimant, wherever it asks");
    let done = ask(&mut cluster, C, &complete(token));
    assert_eq!((done.status, done.level), ("COMPLETED", Some(Level::Home)));
    assert_eq!(ask(&mut cluster, C, &complete(token)).status, "COMPLETED", "and once more");
    let counts_of = counts(&cluster, C);
    assert_eq!(ask(&mut cluster, C, &claim(b"c")).status, "REPLAY");
    assert_eq!(counts(&cluster, C), counts_of, "what is settled is answered from what is known here");
    run_ms(&mut cluster, 3_000);
    cluster.assert_converged();
}

#[test]
fn a_holder_renews_and_releases_at_the_region_of_its_claim() {
    let mut cluster = cluster();
    let token = granted(&mut cluster, B, b"b");
    assert_eq!(ask(&mut cluster, B, &renew(token, 60_000)).status, "RENEWED");
    run_ms(&mut cluster, 10_000);
    assert_eq!(ask(&mut cluster, C, &claim(b"c")).status, "IN_PROGRESS", "the longer lease runs");
    assert_eq!(ask(&mut cluster, C, &release(token)).status, "RELEASED");
    assert_eq!(ask(&mut cluster, B, &renew(token, 60_000)).status, "SUPERSEDED");
    let next = granted(&mut cluster, C, b"c");
    assert_eq!(ask(&mut cluster, B, &complete(token)).status, "CONTESTED", "the work was done");
    assert_eq!(ask(&mut cluster, B, &complete(next)).status, "SUPERSEDED");
    let forged = Token::issue(
        &crate::hash::ClusterKeys { hash: [9; 16], tag: [9; 16] },
        KEY,
        token.id,
        None,
        token.expires_at,
    );
    let before = counts(&cluster, B).sent;
    assert_eq!(ask(&mut cluster, B, &complete(forged)).status, "STALE");
    assert_eq!(counts(&cluster, B).sent, before, "nobody else is troubled with it");
}

/// In a namespace that is local, `LEVEL home` decides one request at the key's home.
#[test]
fn a_request_may_ask_for_its_home_in_a_local_namespace_and_never_below_quorum() {
    let mut local = cluster_of(Policy { level: Level::Local, ..policy() });
    let level = Some(Level::Home);
    let wants = Request::Claim(Claim { key: KEY, claimant: b"b", level, ..Claim::default() });
    let told = ask(&mut local, B, &wants);
    assert_eq!((told.status, told.level), ("GRANTED", Some(Level::Home)));
    let token = told.token.expect("a token");
    assert_eq!(token.id.region, RegionId(1));
    let release = |level| Request::Release { key: KEY, token, level, durable: false };
    assert_eq!(ask(&mut local, B, &release(None)).reason, "other_region");
    assert_eq!(ask(&mut local, B, &release(level)).status, "RELEASED");
    let policy = Policy { level: Level::Quorum, ..policy() };
    assert_eq!(wants.level(&policy), Level::Quorum);
    let local =
        |level| Request::Claim(Claim { key: KEY, level, ..Claim::default() }).level(&Policy::default());
    assert_eq!([local(None), local(level)], [Level::Local, Level::Home]);
}

#[test]
fn without_its_home_a_claim_is_refused_at_once_and_an_outcome_kept_and_taken_later() {
    let mut cluster = cluster();
    let token = granted(&mut cluster, B, b"b");
    run_ms(&mut cluster, 500);
    cut(&mut cluster, A);
    let began_ms = cluster.wall_ms;
    let other = Request::Claim(Claim { key: b"pay:2", ..Claim::default() });
    let refused = ask(&mut cluster, B, &other);
    assert_eq!((refused.status, refused.reason), ("UNAVAILABLE", "level"));
    assert!(cluster.wall_ms - began_ms <= STEP_MS, "nobody waits for a home that is not linked");
    assert_eq!(ask(&mut cluster, B, &renew(token, 60_000)).reason, "level");
    assert_eq!(ask(&mut cluster, B, &release(token)).reason, "level");
    for _ in 0..2 {
        let kept = ask(&mut cluster, B, &complete(token));
        assert_eq!((kept.status, kept.reason), ("UNAVAILABLE", "recorded_here"));
    }
    assert_eq!(ask(&mut cluster, B, &claim(b"x")).status, "REPLAY", "nothing is lost, and it is known here");
    // The home itself goes on.
    assert_eq!(ask(&mut cluster, A, &claim(b"x")).status, "IN_PROGRESS");
    heal(&mut cluster, A);
    run_ms(&mut cluster, 1_000);
    let done = ask(&mut cluster, B, &complete(token));
    assert_eq!((done.status, done.level), ("COMPLETED", Some(Level::Home)));
    run_ms(&mut cluster, 3_000);
    cluster.assert_converged();
    assert!(
        cluster.replicas[C].store.conflicts(None, None, 9).conflicts.is_empty(),
        "one claim, one outcome"
    );
}

#[test]
fn with_a_fallback_it_is_decided_where_it_arrived_and_every_loser_is_listed_once() {
    let mut cluster = cluster_of(Policy { fallback: Fallback::Local, ..policy() });
    cut(&mut cluster, A);
    let here = ask(&mut cluster, B, &claim(b"b"));
    assert_eq!((here.status, here.level), ("GRANTED", Some(Level::Local)));
    let token = here.token.expect("a token");
    assert_eq!(token.id.region, RegionId(2), "the claim is the asker's own");
    let at_home = granted(&mut cluster, A, b"a");
    assert_eq!(ask(&mut cluster, B, &renew(token, 9_000)).status, "RENEWED", "its own region's to write");
    let done = ask(&mut cluster, B, &complete(token));
    assert_eq!((done.status, done.level), ("COMPLETED", Some(Level::Local)));
    assert_eq!(ask(&mut cluster, A, &complete(at_home)).status, "COMPLETED");
    heal(&mut cluster, A);
    run_ms(&mut cluster, 3_000);
    cluster.assert_converged();
    for replica in &cluster.replicas {
        assert_eq!(replica.store.conflicts(None, None, 9).conflicts.len(), 1);
    }
}

/// The link stands and says nothing: only the deadline tells.
#[test]
fn a_home_that_does_not_answer_is_waited_for_until_the_deadline_and_no_longer() {
    let mut cluster = cluster();
    assert_eq!(look(&mut cluster, B, &claim(b"b"), Look::First, None), Looked::Forwards);
    let began_ms = cluster.wall_ms;
    let answered = loop {
        cluster.step();
        // What B sends is lost; the home hears nothing.
        cluster.pipes.remove(&(B, A));
        if let Some(answered) = cluster.replicas[B].node.poll_forwarded() {
            break answered;
        }
        assert!(cluster.wall_ms - began_ms <= limits::FORWARD_MS_MAX + 2 * STEP_MS);
    };
    assert_eq!((answered.verdict, answered.asked.0), (None, RegionId(1)));
    assert_eq!(counts(&cluster, B).unreachable, 1);
}

/// The story: a service whose answer came too late was told UNAVAILABLE, and its claim stood in everybody's way until its
/// lease was over.
#[test]
fn a_grant_that_comes_too_late_is_released_unless_somebody_else_was_told_of_it() {
    for told_elsewhere in [false, true] {
        let mut cluster = cluster();
        assert_eq!(look(&mut cluster, B, &claim(b"b"), Look::First, None), Looked::Forwards);
        cluster.send();
        cluster.step();
        decide(&mut cluster);
        // The home has granted it, and its answer is lost with the link.
        assert!(cluster.replicas[A].store.inspect(KEY).is_some());
        cluster.unlink(A, B);
        let answered =
            cluster.replicas[B].node.poll_forwarded().expect("a link that is gone is not waited for");
        assert_eq!(answered.verdict, None);
        if told_elsewhere {
            granted(&mut cluster, A, b"b");
        }
        cluster.link(A, B);
        run_ms(&mut cluster, 1_000);
        let next = ask(&mut cluster, C, &claim(b"c"));
        let expected = if told_elsewhere { "IN_PROGRESS" } else { "GRANTED" };
        assert_eq!(next.status, expected, "told elsewhere: {told_elsewhere}");
        assert_eq!(counts(&cluster, A).released, u64::from(!told_elsewhere));
        assert_eq!(counts(&cluster, B).withdrawn, 1);
    }
}

#[test]
fn whoever_has_asked_may_go_and_its_claim_is_given_back() {
    let mut cluster = cluster();
    assert_eq!(look(&mut cluster, B, &claim(b"b"), Look::First, None), Looked::Forwards);
    let answered = loop {
        step(&mut cluster);
        if let Some(answered) = cluster.replicas[B].node.poll_forwarded() {
            break answered;
        }
    };
    assert!(matches!(answered.verdict, Some(Verdict::Granted { .. })));
    let wall_ms = cluster.wall_ms;
    cluster.replicas[B].node.withdraw(answered.asked, wall_ms);
    run_ms(&mut cluster, 200);
    granted(&mut cluster, C, b"c");
}

/// Doubled, late and reordered frames: at most one holds the key at any time, and answers are never another request's.
#[test]
fn frames_that_are_lost_doubled_or_out_of_order_never_grant_twice() {
    for seed in 0..30 {
        let mut cluster = cluster();
        cluster.dice.0 = seed;
        cluster.faults = super::harness::Faults { lost: 10, doubled: 20, reordered: 30 };
        let asks = [(A, claim(b"a")), (B, claim(b"b")), (C, claim(b"c")), (B, claim(b""))];
        let mut told: Vec<Option<Told>> = vec![None; asks.len()];
        for (ticket, (at, request)) in asks.iter().enumerate() {
            if let Looked::Told(answer) =
                look(&mut cluster, *at, request, Look::First, Some(ticket as Ticket))
            {
                told[ticket] = Some(answer);
            }
        }
        for _ in 0..400 {
            step(&mut cluster);
            for at in [A, B, C] {
                while let Some(answered) = cluster.replicas[at].node.poll_forwarded() {
                    let (_, request) = asks[answered.ticket as usize];
                    let second = Look::Answered(answered.verdict);
                    if let Looked::Told(answer) = look(&mut cluster, at, &request, second, None) {
                        told[answered.ticket as usize] = Some(answer);
                    }
                }
            }
        }
        assert!(told.iter().all(Option::is_some), "seed {seed}: {told:?}");
        let granted = told.iter().flatten().filter(|told| told.status == "GRANTED").count();
        assert!(granted <= 1, "seed {seed}: {told:?}");
        cluster.heal();
        run_ms(&mut cluster, 6_000);
        cluster.assert_converged();
    }
}

/// WAIT is the asker's own business: it parks on what came along, and asks again when that changes.
#[test]
fn a_duplicate_waits_in_its_own_region_and_is_answered_when_the_key_settles() {
    let mut cluster = cluster();
    let token = granted(&mut cluster, C, b"c");
    let waits = Request::Claim(Claim { key: KEY, wait_ms: 60_000, ..Claim::default() });
    let mut looked = look(&mut cluster, B, &waits, Look::First, Some(7));
    while looked == Looked::Forwards {
        step(&mut cluster);
        if let Some(answered) = cluster.replicas[B].node.poll_forwarded() {
            looked = look(&mut cluster, B, &waits, Look::Answered(answered.verdict), Some(7));
        }
    }
    assert_eq!(looked, Looked::Parked);
    assert_eq!(ask(&mut cluster, C, &complete(token)).status, "COMPLETED");
    run_ms(&mut cluster, 500);
    assert_eq!(cluster.replicas[B].store.take_woken(), [7]);
    assert_eq!(ask(&mut cluster, B, &waits).status, "REPLAY");
}

fn reload(cluster: &mut Cluster, at: usize, epoch: u64, regions: &[u16]) {
    let wall_ms = cluster.wall_ms;
    let replica = &mut cluster.replicas[at];
    let own = replica.region;
    let peers: Vec<_> = regions.iter().copied().map(RegionId).filter(|peer| *peer != own).collect();
    let stepped = replica.node.set_membership(&replica.store, epoch, &peers, wall_ms);
    assert!(stepped.is_ok(), "{stepped:?}");
}

/// A key of which region 3 becomes the home when it joins regions 1 and 2.
fn moving_key(cluster: &Cluster) -> Vec<u8> {
    let keys = (0..).map(|number| format!("pay:{number}").into_bytes());
    let moves = |key: &Vec<u8>| {
        let hash = cluster.replicas[A].store.config().keys.key_hash(key);
        crate::decide::home_of(hash, &[1, 2, 3].map(RegionId)) == Some(RegionId(3))
            && crate::decide::home_of(hash, &[1, 2].map(RegionId)) == Some(RegionId(1))
    };
    keys.into_iter().find(moves).expect("a third of all keys")
}

/// The story that must not be: region 3 is added, takes itself for the home of a key and grants it, while region 1, which
/// was its home and has not made the step yet, grants it too.
#[test]
fn a_region_that_is_added_decides_nothing_before_it_knows_what_the_homes_before_it_granted() {
    let policy = Policy { home: None, on_lease_end: OnLeaseEnd::Takeover, ..policy() };
    let settings = Settings { policy, ..Settings::default() };
    let mut cluster = Cluster::new(2, &settings);
    run_ms(&mut cluster, 2_000);
    let key = moving_key(&cluster);
    let claim = |claimant| Request::Claim(Claim { key: &key, claimant, ..Claim::default() });
    let with = Settings { wall_ms: cluster.wall_ms, membership: 2, ..settings };
    cluster.replicas.push(super::harness::Replica::start(3, &[1, 2, 3], Vec::new(), &with));
    // Region 2 has made the step, and is linked to both; region 1 has not.
    reload(&mut cluster, B, 2, &[1, 2, 3]);
    cluster.link(B, C);
    run_ms(&mut cluster, 3_000);
    assert_eq!(ask(&mut cluster, C, &claim(b"c")).reason, "level", "it has not met region 1");
    assert_eq!(ask(&mut cluster, B, &claim(b"b")).reason, "level", "and so has nobody else");
    assert_eq!(ask(&mut cluster, A, &claim(b"a")).status, "GRANTED", "who is the home still decides");
    reload(&mut cluster, A, 2, &[1, 2, 3]);
    let refused = ask(&mut cluster, A, &claim(b"x"));
    assert_eq!(refused.status, "IN_PROGRESS");
    cluster.link(A, C);
    run_ms(&mut cluster, 3_000);
    assert!(cluster.replicas[C].store.decides_as_home());
    assert_eq!(ask(&mut cluster, C, &claim(b"c")).status, "IN_PROGRESS", "it knows what was granted");
    let told = ask(&mut cluster, B, &claim(b"a"));
    assert_eq!(
        (told.status, told.level),
        ("GRANTED", Some(Level::Home)),
        "region 1's claim, by its new home"
    );
    // What it has reached, it keeps: a restart beside regions that are down costs nothing.
    let segments = cluster.replicas[C].segments.clone();
    let with = Settings { wall_ms: cluster.wall_ms, ..with };
    let again = super::harness::Replica::start(3, &[1, 2, 3], segments, &with);
    assert!(again.store.decides_as_home());
}

#[test]
fn a_peer_of_another_membership_is_not_asked_and_not_answered() {
    let mut cluster = cluster();
    // Region 2 goes on to a membership of which the home knows nothing yet.
    reload(&mut cluster, B, 2, &[1, 2, 3, 4]);
    run_ms(&mut cluster, 500);
    assert_eq!(ask(&mut cluster, B, &claim(b"b")).reason, "level");
    assert_eq!(ask(&mut cluster, A, &claim(b"a")).level, Some(Level::Home), "the home goes on by itself");
    reload(&mut cluster, A, 2, &[1, 2, 3, 4]);
    run_ms(&mut cluster, 500);
    assert_eq!(ask(&mut cluster, B, &claim(b"b")).status, "IN_PROGRESS");
}

fn forward(number: u64, epoch: u64, claimant: &'static [u8]) -> Frame<'static> {
    let request = Request::Claim(Claim { key: KEY, claimant, ..Claim::default() });
    Frame::Forward { number, epoch, errand: Errand::of(&request).expect("a home decides it") }
}

/// A peer may send what it likes: nothing is decided for another epoch, nothing twice, and nobody else's answer counts.
#[test]
fn what_a_peer_forwards_is_checked() {
    let mut replica = alone(&Settings { policy: policy(), ..Settings::default() });
    replica.node.handle_link_up(&replica.store, RegionId(2), 9, T0);
    assert!(matches!(receive(&mut replica, 9, &forward(1, 1, b"x"), T0), Err(FrameError::OutOfOrder(_))));
    receive(&mut replica, 9, &Frame::Hello(hello()), T0).expect("a good hello");
    let mut asks = |frame: &Frame<'_>| {
        receive(&mut replica, 9, frame, T0).expect("it is a frame");
        let mut told = Vec::new();
        while let Some(asked) = replica.node.poll_asked() {
            let (node, store) = (&mut replica.node, &replica.store);
            let _ = node.run_asked(store, &asked, T0, |reply| told.push(reply.status()));
        }
        told
    };
    assert!(asks(&forward(7, 2, b"x")).is_empty(), "another epoch");
    assert!(asks(&forward(7, 1, b"x")).is_empty(), "a number that has been used");
    assert!(asks(&Frame::Withdraw { number: 99 }).is_empty());
    let verdict = Verdict::Released;
    assert!(asks(&Frame::Forwarded { number: 99, verdict, body: Bytes(b"none") }).is_empty());
    assert_eq!(asks(&forward(8, 1, b"x")), ["UNAVAILABLE"], "claims wait until it has caught up");
    let counts = replica.node.forward_counts();
    assert_eq!((counts.asked, counts.refused), (0, 2));
}
