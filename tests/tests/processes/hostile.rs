//! Hostile peers, with a region's certificate and without (S7, INV-15): nothing panics, no state changes, memory stays
//! flat, a counter says what happened and a text what to do, and neither other peers nor clients notice.
//!
//! What a certified region says of keys is believed, whoever's they are: regions relay for each other (S7). What is
//! refused is everything that no onced would say.

use std::time::{Duration, Instant};

use crdt::decide::Verdict;
use crdt::digest::{Bucket, Horizon};
use crdt::entry::{Attempt, Bytes, Entry, Packed, Phase};
use crdt::hlc::Stamp;
use crdt::ids::{ClaimId, Cursor, Incarnation, LogEpoch, RegionId};
use crdt::journal::{EntryRecord, Origin, Record};
use crdt::limits;
use crdt::request::{Claim, Request};
use crdt::wire::{Errand, Exchange, Frame, Hello, RangeSums, push_body};
use tests::hostile::{Attacker, HOSTILE, HostileLink, now_ms};
use tests::{Cluster, Setup, status, until};

const US: usize = 1;
const AP: usize = 2;
/// What a daemon under attack may take beyond what it took before: its windows for one link (48 MiB), one frame whole and
/// one decoded (20 MiB), questions that wait (32 MiB).
const RSS_MORE_BYTES_MAX: u64 = 100 << 20;
/// What a claim may take meanwhile: far above what it takes, so that a slow machine is no failure.
const CLAIM_WITHIN: Duration = Duration::from_secs(2);

/// us and ap run; who should be eu is not.
struct Victims {
    cluster: Cluster,
    digest: String,
    rss: u64,
    claims: u32,
}

impl Victims {
    fn start() -> Self {
        let mut cluster = Cluster::prepare(Setup::regions(3));
        // The third region never comes: somebody has to say that nothing is missing.
        cluster.spawn_with(US, |command| {
            command.arg("--alone");
        });
        cluster.spawn(AP);
        [US, AP].into_iter().for_each(|at| cluster.wait_ready(at));
        let mut victims = Self { cluster, digest: String::new(), rss: 0, claims: 0 };
        victims.others_work();
        victims.rss = victims.rss_now();
        victims
    }

    fn rss_now(&self) -> u64 {
        let path = format!("/proc/{}/status", self.cluster.pid(US));
        let text = std::fs::read_to_string(path).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// A client of the region under attack claims at once, and the third region hears of it.
    fn others_work(&mut self) {
        self.claims += 1;
        let key = format!("pay:{}", self.claims);
        let began = Instant::now();
        let claimed = self.cluster.call(US, &[b"CLAIM", key.as_bytes(), b"CLAIMANT", b"a"]);
        assert_eq!(status(&claimed), "GRANTED");
        assert!(began.elapsed() < CLAIM_WITHIN, "a claim took {:?}", began.elapsed());
        until("the third region hears of it", || {
            status(&self.cluster.call(AP, &[b"GET", key.as_bytes()])) == "HELD"
        });
        self.digest = self.cluster.agree();
    }

    /// How often something was counted.
    fn counted(&self, name: &str, reason: &str) -> u64 {
        let info = self.cluster.call(US, &[b"INFO"]);
        let text = info.as_str().expect("INFO is text");
        let reason = format!("reason=\"{reason}\"");
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(&reason));
        lines.filter_map(|line| line.rsplit(' ').next()?.trim().parse::<u64>().ok()).sum()
    }

    /// After an attack: nothing changed, nobody noticed, memory is what it was.
    fn are_unharmed(&mut self, by: &str) {
        assert_eq!(self.cluster.agree(), self.digest, "{by}: no state changes");
        assert_eq!(self.cluster.peer(US, AP, "state"), "linked", "{by}");
        self.others_work();
        let rss = self.rss_now();
        println!("{by}: {} KiB more", rss.saturating_sub(self.rss) >> 10);
        assert!(rss < self.rss + RSS_MORE_BYTES_MAX, "{by}: from {} B to {rss} B", self.rss);
        assert!(!self.cluster.log(US).contains("panicked"), "{by}");
    }
}

fn cursor(lsn: u64) -> Cursor {
    Cursor { incarnation: Incarnation(1), epoch: LogEpoch(1), lsn }
}

fn claimed(key: &str, stamp_ms: u64) -> Vec<u8> {
    let stamp = Stamp::from_parts(stamp_ms, 0);
    let attempt = Attempt {
        id: ClaimId { stamp, region: RegionId(HOSTILE as u16 + 1), incarnation: Incarnation(1) },
        phase: Phase::Held,
        lease_until: stamp_ms + 30_000,
        abandoned_lease: 0,
        fingerprint: None,
        claimant: b"",
        note: b"",
        expires_at: stamp_ms + 3_600_000,
    };
    let (entry, mut body) = (Entry::of_attempt(attempt), Vec::new());
    let entry = Packed::of(&entry);
    Record::Entry(Origin::Own, EntryRecord { key: Bytes(key.as_bytes()), entry }).encode(&mut body);
    body
}

fn records(prev: Cursor, last: Cursor, body: &[u8]) -> Vec<u8> {
    let mut bodies = Vec::new();
    push_body(body, &mut bodies);
    Frame::Records { prev, last, left: 0, bodies: Bytes(&bodies) }.encode()
}

fn exchange(shards: u32) -> Exchange {
    Exchange { nonce: 7, horizon: Horizon { before_s: u64::MAX, alive_ms: 0 }, shards }
}

fn narrow(shards: u32, buckets: &[u64]) -> Vec<u8> {
    let range = |bucket: &u64| RangeSums { bucket: Bucket(*bucket), bits: 0, sums: Bytes(&[0; 4]) };
    let ranges = buckets.iter().map(range).collect();
    Frame::Narrow { exchange: exchange(shards), shard: 0, ranges }.encode()
}

const SHARDS: u32 = limits::SHARDS_DEFAULT as u32;

/// What is done, under which name it is counted, what the other side is told, and the bytes behind a good hello.
type Lie = (&'static str, &'static str, &'static str, fn(&mut HostileLink<'_>) -> bool);

const LIES: [Lie; 15] = [
    ("an empty frame", "length", "beyond the bound", |link| link.bytes(&[0; 4])),
    ("a frame of 4 GB", "length", "beyond the bound", |link| link.bytes(&[0xff; 4])),
    ("garbage", "malformed", "do not decode", |link| link.framed(&[1, 0xee, 0xee, 0xee])),
    ("another version", "version", "upgrade the older side", |link| link.framed(&[9, 0, 0])),
    ("half a frame", "malformed", "do not decode", |link| {
        let whole = records(Cursor::default(), cursor(1), &claimed("pay:x", now_ms()));
        link.framed(&whole[..whole.len() / 2])
    }),
    ("lengths of records beyond their frame", "malformed", "exceed their bounds", |link| {
        let bodies = Bytes(&[0xff, 0xff, 0xff, 0x7f, 1]);
        link.frame(&Frame::Records { prev: Cursor::default(), last: cursor(1), left: 0, bodies })
    }),
    ("a record told in no known way", "malformed", "do not decode", |link| {
        let bodies = Bytes(&[3, 0xff, 0, 0]);
        link.frame(&Frame::Records { prev: Cursor::default(), last: cursor(1), left: 0, bodies })
    }),
    ("a record that does not travel", "records", "does not travel", |link| {
        let mut body = Vec::new();
        Record::Ceiling(u64::MAX).encode(&mut body);
        link.framed(&records(Cursor::default(), cursor(1), &body))
    }),
    ("a key beyond its bound", "records", "a key of 600 bytes", |link| {
        link.framed(&records(Cursor::default(), cursor(1), &claimed(&"k".repeat(600), now_ms())))
    }),
    ("a cursor of another life", "out_of_order", "a cursor that its hello does not allow", |link| {
        let last = Cursor { incarnation: Incarnation(u32::MAX), ..cursor(u64::MAX) };
        link.framed(&records(Cursor::default(), last, &claimed("pay:x", now_ms())))
    }),
    ("hello after hello", "out_of_order", "hello after hello", |link| {
        let hello = link.attacker().hello();
        (0..100).take_while(|_| link.frame(&Frame::Hello(hello))).all(|_| true)
    }),
    ("one question many times in a frame", "comparison", "do not fit", |link| {
        link.framed(&narrow(SHARDS, &[5; 100_000]))
    }),
    ("shards that nobody has", "comparison", "do not fit", |link| link.framed(&narrow(SHARDS * 2, &[5]))),
    ("a request for a home, of a key beyond its bound", "malformed", "exceeds its bounds", |link| {
        let key = [7; limits::KEY_BYTES_MAX + 1];
        let request = Request::Claim(Claim { key: &key, ..Claim::default() });
        let errand = Errand::of(&request).expect("a home decides it");
        link.frame(&Frame::Forward { number: 1, epoch: 1, errand })
    }),
    ("sums of more buckets than there may be", "comparison", "do not fit", |link| {
        let sums = (0..=limits::COMPARE_BUCKETS_MAX as u64).map(|n| (Bucket(n), n)).collect();
        link.frame(&Frame::Compare { exchange: exchange(SHARDS), sums })
    }),
];

#[test]
fn a_certified_peer_that_lies_is_cut_off_counted_and_told_why() {
    let mut victims = Victims::start();
    let attacker = Attacker::new(&victims.cluster, US);
    for (what, reason, told, lie) in LIES {
        let before = victims.counted("onced_frames_refused_total", reason);
        let mut link = attacker.linked();
        lie(&mut link);
        let closed = link.closed();
        assert!(closed.contains(told), "{what}: {closed}");
        until(&format!("{what} is counted"), || {
            victims.counted("onced_frames_refused_total", reason) > before
        });
        victims.are_unharmed(what);
    }
    let honest = attacker.hello();
    for (what, reason, hello) in [
        ("another cluster's secret", "cluster", Hello { cluster: [9; 16], ..honest }),
        ("another region's hello", "region", Hello { region: RegionId(3), ..honest }),
        ("another membership", "membership", Hello { membership: 9, ..honest }),
    ] {
        let before = victims.counted("onced_frames_refused_total", reason);
        let mut link = attacker.silent();
        link.frame(&Frame::Hello(hello));
        link.closed();
        until(&format!("{what} is counted"), || {
            victims.counted("onced_frames_refused_total", reason) > before
        });
        victims.are_unharmed(what);
    }
    let mut link = attacker.silent();
    link.frame(&Frame::Ping { at_ms: 1, sent: Cursor::default(), incomplete: false });
    assert!(link.closed().contains("the first frame must be a hello"));
    victims.are_unharmed("a ping before the hello");
}

/// Nothing of this needs an answer: the link may stay, and nobody notices it.
#[test]
fn a_certified_peer_that_wastes_time_and_room_gets_little_of_either() {
    let mut victims = Victims::start();
    let attacker = Attacker::new(&victims.cluster, US);
    let mute = attacker.silent();
    mute_is_closed(&victims, &mute);
    victims.are_unharmed("a peer that says nothing");

    let mut link = attacker.linked();
    until("it is taken for the region", || victims.cluster.peer(US, HOSTILE, "state") == "linked");
    assert!(!link.opens_another(), "one stream is the link");
    let ping = Frame::Ping { at_ms: 1, sent: Cursor::default(), incomplete: false }.encode();
    let ping = [&(ping.len() as u32).to_le_bytes()[..], &ping].concat();
    assert!(link.bytes(&ping.repeat(200_000)), "a flood of pings is answered or not, as there is room");
    victims.are_unharmed("200,000 pings at once");

    // From a cursor that does not fit, a frame of the largest size counts for nothing, however often it comes.
    let large = records(cursor(5), cursor(6), &vec![1; limits::RECORD_BYTES_MAX]);
    (0..20).for_each(|_| assert!(link.framed(&large)));
    victims.are_unharmed("200 MB of records that fit nowhere");

    // Ends the link, or is answered: each is a walk over one shard at most.
    let question = narrow(SHARDS, &[1, 2, 3]);
    (0..5_000).take_while(|_| link.framed(&question)).for_each(drop);
    victims.are_unharmed("5,000 questions at once");

    let mut link = attacker.linked();
    for number in 0..20_000 {
        // Of a region that is the home of nothing, for a membership that is none, and answers to what nobody asked.
        let request = Request::Claim(Claim { key: b"pay:forwarded", ..Claim::default() });
        let errand = Errand::of(&request).expect("a home decides it");
        let (epoch, verdict) = (number % 3, Verdict::Done);
        link.frame(&Frame::Forward { number, epoch, errand });
        link.frame(&Frame::Forwarded { number, verdict, body: Bytes(b"x") });
        link.frame(&Frame::Withdraw { number });
    }
    victims.are_unharmed("20,000 requests for homes");

    let mut link = attacker.linked();
    assert!(link.bytes(&(limits::FRAME_BYTES_MAX as u32).to_le_bytes()));
    (0..200).for_each(|_| assert!(link.bytes(&[1; 10])));
    victims.are_unharmed("a frame of 10 MB that comes in drops");
    drop(link);

    let mut link = attacker.linked();
    link.framed(&records(Cursor::default(), cursor(1), &claimed("pay:future", now_ms() + 86_400_000)));
    until("the link stalls", || victims.cluster.peer(US, HOSTILE, "state") == "stalled");
    until("and its log says what to do", || victims.cluster.log(US).contains("check both clocks"));
    victims.are_unharmed("stamps of tomorrow");
    drop(link);

    let mut link = attacker.linked();
    link.framed(&records(Cursor::default(), cursor(1), &claimed("pay:dead", now_ms() - 90_000_000)));
    until("it is acknowledged", || victims.cluster.peer(US, HOSTILE, "received_seq") == "1");
    victims.are_unharmed("an entry that is dead");
    assert_eq!(status(&victims.cluster.call(US, &[b"GET", b"pay:dead"])), "FREE");
}

fn mute_is_closed(victims: &Victims, link: &HostileLink<'_>) {
    // QUIC shows a stream to the other side with its first byte.
    let closed = link.closed();
    assert!(!closed.is_empty());
    until("it is counted", || {
        victims.counted("onced_strangers_refused_total", "timeout")
            + victims.counted("onced_frames_refused_total", "silent")
            > 0
    });
}

/// Whoever offered another ALPN, or no certificate, wrote a line into the log with each attempt.
#[test]
fn strangers_cost_little_and_say_little() {
    let mut victims = Victims::start();
    let attacker = Attacker::new(&victims.cluster, US);
    let patience = Duration::from_millis(500);
    let refused = |victims: &Victims| {
        ["protocol", "handshake", "flood", "timeout"]
            .map(|reason| victims.counted("onced_strangers_refused_total", reason))
            .iter()
            .sum::<u64>()
    };
    for (what, protocol) in [("no certificate", "onced/1"), ("another protocol", "h3")] {
        let before = refused(&victims);
        let config = Attacker::uncertified(&victims.cluster, protocol);
        (0..5).for_each(|_| attacker.strangers(&config, 40, patience));
        until(&format!("{what} is counted"), || refused(&victims) > before);
        victims.are_unharmed(what);
    }
    // Given up in the middle of the handshake.
    let config = Attacker::uncertified(&victims.cluster, "onced/1");
    (0..10).for_each(|_| attacker.strangers(&config, 40, Duration::from_millis(1)));
    victims.are_unharmed("half-open handshakes");
    let log = victims.cluster.log(US);
    let lines = log.lines().filter(|line| line.contains("a connection from outside is refused")).count();
    assert!((1..=20).contains(&lines), "{lines} lines for 800 strangers");
    // And whoever has a certificate still gets in.
    let _link = attacker.linked();
    until("the certified one is linked", || victims.cluster.peer(US, HOSTILE, "state") == "linked");
}
