//! Real partitions: daemons in network namespaces of their own, packets through the simulator's link model (S7, INV-2,
//! INV-17). What is cut here is the network, not a link that a daemon knows to be cut (`PEER CUT`): nobody is told,
//! QUIC finds out by silence.
//!
//! After each pattern of daemons: the same digest everywhere, nothing acknowledged lost, one winner a key, losers listed alike.

use std::time::Duration;

use tests::links::traffic::Told;
use tests::links::{Links, Rate, Spread, Weather, calm};
use tests::{Cluster, Setup, until};

const EU: usize = 0;
const US: usize = 1;
const AP: usize = 2;
const SA: usize = 3;
const AF: usize = 4;
/// One way, between all regions: a continent's.
const DELAY: Duration = Duration::from_millis(20);
/// How long a partition lasts that a QUIC connection survives.
const SHORT_CUT: Duration = Duration::from_secs(2);
/// What healing may take at most: QUIC's back-off after a silence, a dial after its own, and the rest of the data. Far
/// more than it takes here.
const HEALED_WITHIN: Duration = Duration::from_secs(20);
/// What links may take that have flapped: until a silence is noticed, and two dials.
const FLAPPED_WITHIN: Duration = Duration::from_secs(9);
/// What going through a third region may take: entries are compared once they are 5 s old, each 5 s.
const RELAYED_WITHIN: Duration = Duration::from_secs(25);
/// Operations a region and phase.
const COUNT: usize = 100;

/// A cluster over links, or `None` where the machine does not let us.
fn linked(test: &str, regions: usize, weather: Weather) -> Option<Cluster> {
    match Links::create(regions, weather) {
        Ok(links) => Some(Cluster::start_over(links, Setup::regions(regions))),
        Err(lack) => {
            tests::skip::tell(&lack, test);
            None
        }
    }
}

/// Writes everywhere, on keys of each region's own.
fn write_everywhere(cluster: &Cluster, told: &mut Told, tag: &str) {
    (0..cluster.regions()).for_each(|at| told.write(cluster, at, tag, COUNT));
}

/// Heals all, writes once more, and judges.
fn heal_and_judge(cluster: &Cluster, told: &mut Told, weather: Weather) -> Duration {
    cluster.links().heal_all(weather);
    let before = cluster.links().counts_of_all();
    write_everywhere(cluster, told, "healed");
    let took = told.judge(cluster);
    let bytes = cluster.links().counts_of_all().bytes - before.bytes;
    println!("{} keys, {} of them run twice: {took:?} and {bytes} B to converge", told.keys(), told.twice());
    assert!(took < HEALED_WITHIN, "converged after {took:?} only");
    took
}

/// Judges while links are still cut: what they would have brought comes through others, which takes comparisons.
fn relay_and_judge(cluster: &Cluster, told: &Told) {
    let took = told.judge(cluster);
    println!(
        "{} keys, {} of them run twice, converged through others within {took:?}",
        told.keys(),
        told.twice()
    );
    assert!(took < RELAYED_WITHIN, "converged through others after {took:?} only");
}

#[test]
fn a_majority_and_a_minority_go_on_and_agree_after_the_split() {
    let name = "a_majority_and_a_minority_go_on_and_agree_after_the_split";
    let Some(cluster) = linked(name, 5, calm(DELAY)) else { return };
    let mut told = Told::default();
    write_everywhere(&cluster, &mut told, "before");
    cluster.agree();
    // EU and US on the one side, the others on the other.
    cluster.links().cut_as("majority-minority");
    write_everywhere(&cluster, &mut told, "split");
    (0..20).for_each(|n| told.run_twice(&cluster, &[US, AF], &format!("both.{n}")));
    // Each side goes on among itself while the other is silent.
    told.wait_seen(&cluster, EU, US);
    told.wait_seen(&cluster, AP, SA);
    told.wait_seen(&cluster, AF, SA);
    assert_eq!(told.seen(&cluster, EU, AP), COUNT, "what was before the split, and nothing since");
    heal_and_judge(&cluster, &mut told, calm(DELAY));
    assert_eq!(told.twice(), 20);
}

/// Long enough for QUIC to give the connections up: healing is dialling again.
#[test]
fn an_isolated_region_is_given_up_goes_on_alone_and_comes_back() {
    let name = "an_isolated_region_is_given_up_goes_on_alone_and_comes_back";
    let Some(cluster) = linked(name, 3, calm(DELAY)) else { return };
    let mut told = Told::default();
    write_everywhere(&cluster, &mut told, "before");
    cluster.agree();
    cluster.links().split(&[AP], &[EU, US]);
    write_everywhere(&cluster, &mut told, "alone");
    (0..20).for_each(|n| told.run_twice(&cluster, &[AP, EU], &format!("both.{n}")));
    told.wait_seen(&cluster, EU, US);
    until("the silent links are given up on both sides", || {
        [(EU, AP), (US, AP), (AP, EU), (AP, US)]
            .iter()
            .all(|(at, other)| cluster.peer(*at, *other, "state") != "linked")
    });
    assert_eq!(told.seen(&cluster, EU, AP), COUNT + 20, "its own runs of the same keys, and nothing else");
    heal_and_judge(&cluster, &mut told, calm(DELAY));
    assert_eq!(told.twice(), 20);
}

/// Packets go from us to eu and none comes back: each side must see that the link is of no use, and neither may take
/// for delivered what was not.
#[test]
fn a_one_way_cut_loses_nothing_either_way() {
    let name = "a_one_way_cut_loses_nothing_either_way";
    let Some(cluster) = linked(name, 3, calm(DELAY)) else { return };
    let mut told = Told::default();
    write_everywhere(&cluster, &mut told, "before");
    cluster.agree();
    cluster.links().cut_one_way(EU, US);
    until("what was on its way has arrived", || cluster.links().counts(EU, US).on_the_way == 0);
    let delivered = cluster.links().counts(EU, US).delivered;
    write_everywhere(&cluster, &mut told, "one-way");
    // us cannot know what eu has; eu may.
    (0..20).for_each(|n| told.run_twice(&cluster, &[EU, US], &format!("both.{n}")));
    told.wait_seen(&cluster, EU, AP);
    told.wait_seen(&cluster, US, AP);
    tests::cluster::pause(SHORT_CUT);
    let (there, back) = (cluster.links().counts(EU, US), cluster.links().counts(US, EU));
    assert!(there.cut > 0 && there.delivered == delivered && back.cut == 0, "{there:?}, {back:?}");
    heal_and_judge(&cluster, &mut told, calm(DELAY));
    assert_eq!(told.twice(), 20);
}

/// QUIC asks a silent path again after twice the time before: after six seconds of flapping it asked next after 6 to 13 s,
/// although the path was up. Now the silent link is dialled anew beside it, which takes less than a second.
#[test]
fn links_that_flap_each_second_lose_nothing_and_heal_at_once() {
    let name = "links_that_flap_each_second_lose_nothing_and_heal_at_once";
    let Some(cluster) = linked(name, 3, calm(DELAY)) else { return };
    let mut told = Told::default();
    write_everywhere(&cluster, &mut told, "before");
    cluster.links().set_all(Weather { flap_us: 1_000_000, ..calm(DELAY) });
    told.load(&cluster, "flapping", Duration::from_secs(6));
    assert!(cluster.links().counts_of_all().cut > 0);
    let took = heal_and_judge(&cluster, &mut told, calm(DELAY));
    assert!(took < FLAPPED_WITHIN, "converged after {took:?} only");
}

#[test]
fn slow_and_uneven_links_converge() {
    let name = "slow_and_uneven_links_converge";
    let Some(cluster) = linked(name, 3, calm(DELAY)) else { return };
    let links = cluster.links();
    // 5 ms there, 150 ms back; what is on its way there is then in an order that differs from region to region.
    for (from, to, delay_ms) in
        [(EU, US, 5), (US, EU, 150), (US, AP, 5), (AP, US, 80), (AP, EU, 5), (EU, AP, 150)]
    {
        let spread = Spread::Even(10_000);
        links.set(from, to, Weather { spread, ..calm(Duration::from_millis(delay_ms)) });
    }
    let mut told = Told::default();
    told.load(&cluster, "uneven", Duration::from_secs(3));
    let clocks = ["offset_ms", "rtt_ms"].map(|name| cluster.peer(EU, US, name));
    println!("eu sees of us, with 5 ms there and 150 ms back: offset and round trip {clocks:?}");
    let took = told.judge(&cluster);
    assert!(took < HEALED_WITHIN, "converged after {took:?} only");
    assert!(told.twice() > 0, "regions 150 ms apart must meet on {} keys", told.keys());
}

#[test]
fn packets_lost_doubled_and_astray_change_nothing() {
    let name = "packets_lost_doubled_and_astray_change_nothing";
    let Some(cluster) = linked(name, 3, calm(DELAY)) else { return };
    let mut told = Told::default();
    let rough = Weather { loss: 30, duplicate: 100, reorder: 200, ..calm(DELAY) };
    cluster.links().set_all(rough);
    told.load(&cluster, "rough", Duration::from_secs(4));
    // Converges while the weather is as it is, not only afterwards.
    let took = told.judge(&cluster);
    assert!(took < HEALED_WITHIN, "converged after {took:?} only");
    let counts = cluster.links().counts_of_all();
    println!("{counts:?}");
    assert!(counts.lost > 0 && counts.doubled > 0 && counts.cut == 0, "{counts:?}");
    heal_and_judge(&cluster, &mut told, calm(DELAY));
}

/// Each region reaches its two neighbours: everybody is in a majority of three, and no two in the same.
#[test]
fn a_ring_of_overlapping_majorities_agrees_after_it() {
    let name = "a_ring_of_overlapping_majorities_agrees_after_it";
    let Some(cluster) = linked(name, 5, calm(DELAY)) else { return };
    let mut told = Told::default();
    write_everywhere(&cluster, &mut told, "before");
    cluster.agree();
    cluster.links().cut_as("ring");
    write_everywhere(&cluster, &mut told, "ring");
    // Two that cannot see each other.
    (0..20).for_each(|n| told.run_twice(&cluster, &[n % 5, (n + 2) % 5], &format!("both.{n}")));
    (0..5).for_each(|at| told.wait_seen(&cluster, at, (at + 1) % 5));
    (0..5).for_each(|at| told.wait_seen(&cluster, (at + 1) % 5, at));
    heal_and_judge(&cluster, &mut told, calm(DELAY));
    assert_eq!(told.twice(), 20);
}

/// Two sides of two that only the one between them reaches: it passes on what it holds, and then the links are healed.
#[test]
fn a_bridge_agrees_over_it_and_after_it() {
    let name = "a_bridge_agrees_over_it_and_after_it";
    let Some(cluster) = linked(name, 5, calm(DELAY)) else { return };
    let mut told = Told::default();
    write_everywhere(&cluster, &mut told, "before");
    cluster.agree();
    // EU and US here, SA and AF there, AP between them.
    cluster.links().cut_as("bridge");
    write_everywhere(&cluster, &mut told, "bridge");
    (0..20).for_each(|n| told.run_twice(&cluster, &[US, SA], &format!("both.{n}")));
    (0..5).filter(|at| *at != AP).for_each(|at| told.wait_seen(&cluster, at, AP));
    relay_and_judge(&cluster, &told);
    heal_and_judge(&cluster, &mut told, calm(DELAY));
    assert_eq!(told.twice(), 20);
}

/// Relaying: what a third region holds reaches those who cannot reach its origin (S7).
#[test]
fn entries_travel_round_a_cut_through_a_third_region() {
    let name = "entries_travel_round_a_cut_through_a_third_region";
    let Some(cluster) = linked(name, 3, calm(DELAY)) else { return };
    let mut told = Told::default();
    cluster.links().cut(EU, AP);
    write_everywhere(&cluster, &mut told, "cut");
    (0..20).for_each(|n| told.run_twice(&cluster, &[EU, AP], &format!("both.{n}")));
    relay_and_judge(&cluster, &told);
    heal_and_judge(&cluster, &mut told, calm(DELAY));
}

/// The harness itself: without daemons, whether what the weather says is what happens to packets.
#[test]
fn packets_take_their_delay_and_only_what_is_cut_is_dropped() {
    let name = "packets_take_their_delay_and_only_what_is_cut_is_dropped";
    let links = match Links::create(2, calm(DELAY)) {
        Ok(links) => links,
        Err(lack) => return tests::skip::tell(&lack, name),
    };
    let sockets = [EU, US].map(|at| links.socket(at).expect("nobody has the address"));
    sockets.iter().for_each(|socket| socket.set_read_timeout(Some(tests::LIMIT)).expect("a timeout"));
    let send = |from: usize, to: usize, byte: u8| {
        sockets[from].send_to(&[byte; 1_000], links.address(from, to)).expect("a packet can be sent");
    };
    let receive = |at: usize| {
        let mut packet = [0; 2_000];
        let (len, from) = sockets[at].recv_from(&mut packet).expect("a packet in time");
        assert_eq!(
            (len, from),
            (1_000, links.address(at, 1 - at)),
            "whole, and from what stands for its sender"
        );
        packet[0]
    };
    // The first also finds out the way (ARP).
    for byte in [1, 2] {
        let began = std::time::Instant::now();
        send(EU, US, byte);
        assert_eq!(receive(US), byte);
        assert!(began.elapsed() >= DELAY, "{:?}", began.elapsed());
    }
    links.cut_one_way(EU, US);
    send(EU, US, 3);
    until("the cut has dropped it", || links.counts(EU, US).cut == 1);
    send(US, EU, 4);
    assert_eq!(receive(EU), 4, "the other way is open");
    links.heal(EU, US);
    // Ten packets of 1,000 bytes at 100,000 bytes a second take a tenth of a second, beyond the delay.
    let began = std::time::Instant::now();
    let rate = Rate { bytes_per_s: 100_000, queue_bytes_max: 1_000_000 };
    links.set(EU, US, Weather { rate: Some(rate), ..calm(DELAY) });
    (10..20).for_each(|byte| send(EU, US, byte));
    (10..20).for_each(|byte| assert_eq!(receive(US), byte, "in order, and without what was cut"));
    assert!(began.elapsed() >= DELAY + Duration::from_millis(99), "{:?}", began.elapsed());
    links.set(EU, US, Weather { rate: Some(Rate { queue_bytes_max: 5_000, ..rate }), ..calm(DELAY) });
    (20..120).for_each(|byte| send(EU, US, byte));
    until("the queue has overflowed", || links.counts(EU, US).packets == 113);
    let counts = links.counts(EU, US);
    assert!(counts.overflowed >= 50 && counts.cut == 1 && counts.refused == 0, "{counts:?}");
    links.set(US, EU, Weather { loss: 1_000, ..calm(DELAY) });
    send(US, EU, 5);
    until("the weather has taken it", || links.counts(US, EU).lost == 1);
}
