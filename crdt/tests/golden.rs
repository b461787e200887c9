//! Golden bytes: every form on disk and on the wire that was ever released, as hex in `golden/`.
//!
//! Each file must decode to the value written here, and the value must encode to the file: a changed
//! field, order, varint or constant fails this test, and then needs a new version, never a new file
//! under the old name (S7). Adding a form adds a file.

use crdt::conflict::{Conflict, ConflictId, Side};
use crdt::decide::Verdict;
use crdt::digest::{Bucket, Cells, Digester, Horizon, Sum};
use crdt::entry::{Attempt, Bytes, Entry, Outcome, Packed, Phase};
use crdt::hash::ClusterKeys;
use crdt::hlc::Stamp;
use crdt::ids::{ClaimId, Cursor, Fingerprint, Incarnation, LogEpoch, RegionId};
use crdt::journal::{EntryRecord, MalformedHeader, MarkTag, Origin, Record, SegmentHeader};
use crdt::recovery::LogMeta;
use crdt::request::{Claim, Reason, Request, StaleReason};
use crdt::snapshot::{Manifest, RUN_TRAILER_BYTES, RunEntry, RunHeader, RunTable, RunWriter, States};
use crdt::token::Token;
use crdt::wire::stream::{self, Author, Packer};
use crdt::wire::{Errand, Exchange, Frame, Hello, PartOf, RangeItems, RangeSums, Wanted, push_body};

const T0: u64 = 1_800_000_000_000;

macro_rules! golden {
    ($name:literal) => {
        unhex(include_str!(concat!("golden/", $name, ".hex")))
    };
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex");
    digits.chunks(2).map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn claim(region: u16, counter: u16) -> Attempt<'static> {
    Attempt {
        id: ClaimId {
            stamp: Stamp::from_parts(T0, counter),
            region: RegionId(region),
            incarnation: Incarnation(28_000_000),
        },
        phase: Phase::Held,
        lease_until: T0 + 30_000,
        abandoned_lease: 0,
        fingerprint: Some(Fingerprint(*b"0123456789abcdef")),
        claimant: b"worker-7",
        note: b"see job 9",
        expires_at: T0 + 86_400_000,
    }
}

fn outcome(attempt: &Attempt<'static>, region: u16) -> Outcome<'static> {
    Outcome {
        claim: attempt.id,
        completed: Stamp::from_parts(T0 + 250, 3),
        region: RegionId(region),
        incarnation: Incarnation(28_000_000),
        majority: false,
        compensated: false,
        fingerprint: attempt.fingerprint,
        bytes: b"{\"charge\":\"ch_1\"}",
        expires_at: attempt.expires_at,
    }
}

fn settled() -> Entry<'static> {
    let own = outcome(&claim(3, 1), 3);
    Entry::of_attempt(claim(3, 1)).join(&Entry::of_outcome(own))
}

/// What a completion adds: its outcome alone.
fn completed() -> Entry<'static> {
    Entry::of_outcome(Outcome { compensated: true, ..outcome(&claim(3, 1), 3) })
}

/// A takeover, a release, a foreign completion with every flag, a forget.
fn general() -> Entry<'static> {
    let abandoned = Attempt { abandoned_lease: T0 + 30_000, ..claim(1, 0) };
    let released =
        Attempt { phase: Phase::Released, fingerprint: None, claimant: b"", note: b"", ..claim(2, 7) };
    let asked = Attempt { phase: Phase::Asked, ..claim(300, 2) };
    let flagged = Outcome { majority: true, compensated: true, ..outcome(&claim(1, 0), 2) };
    let attempts = [abandoned, released, asked].into_iter();
    let entry = attempts.fold(Entry::default(), |entry, a| entry.join(&Entry::of_attempt(a)));
    let entry = entry.join(&Entry::of_outcome(flagged)).join(&Entry::of_outcome(outcome(&claim(2, 7), 2)));
    Entry { forgotten: Stamp::from_parts(T0 - 5, 2), ..entry }
}

fn conflict(voided: bool) -> Conflict {
    let side = |region: u16, counter, digest| Side {
        completed: Stamp::from_parts(T0 + 250, counter),
        region: RegionId(region),
        claim: claim(region, counter).id,
        digest: [digest; 16],
        majority: false,
    };
    let loser = side(2, 7, 0xbb);
    Conflict {
        id: ConflictId { key: b"pay:1".to_vec(), loser: loser.claim, completed_at: loser.region },
        loser,
        winner: (!voided).then(|| side(1, 0, 0xaa)),
        compensated: voided,
        expires_at: T0 + 604_800_000,
        void: false,
    }
}

/// Which side a majority holds: the loser, the winner.
fn flagged(loser: bool, winner: bool, void: bool) -> Conflict {
    let plain = conflict(false);
    let held = |side: Side, majority| Side { majority, ..side };
    Conflict {
        loser: held(plain.loser, loser),
        winner: plain.winner.map(|side| held(side, winner)),
        void,
        ..plain
    }
}

fn cursor(lsn: u64) -> Cursor {
    Cursor { incarnation: Incarnation(28_000_000), epoch: LogEpoch(4), lsn }
}

fn entry_record<'e>(entry: &'e Entry<'_>) -> EntryRecord<'e> {
    EntryRecord { key: Bytes(b"pay:1"), entry: Packed::of(entry) }
}

fn encoded(record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    record.encode(&mut out);
    out
}

/// Both ways, and no part of the bytes, nor anything after them, passes for the whole.
#[track_caller]
fn record(name: &str, golden: &[u8], value: &Record<'_>) {
    assert_eq!(hex(&encoded(value)), hex(golden), "{name}: this version writes something else");
    let read = Record::decode(golden).expect(name);
    assert_eq!(format!("{read:?}"), format!("{value:?}"), "{name}: this version reads something else");
    for len in 0..golden.len() {
        assert!(Record::decode(&golden[..len]).is_err(), "{name}: its first {len} bytes are no record");
    }
    let longer = [golden, &[0]].concat();
    assert!(Record::decode(&longer).is_err(), "{name}: a byte more is no record");
}

#[test]
fn records_of_every_kind() {
    let (held, settled, general) = (Entry::of_attempt(claim(3, 1)), settled(), general());
    let completed = completed();
    let entry = |origin, entry| Record::Entry(origin, entry_record(entry));
    record("entry-claim", &golden!("record-entry-claim"), &entry(Origin::Own, &held));
    record("entry-settled", &golden!("record-entry-settled"), &entry(Origin::Own, &settled));
    record("entry-general", &golden!("record-entry-general"), &entry(Origin::Own, &general));
    record("entry-completed", &golden!("record-entry-completed"), &entry(Origin::Own, &completed));
    record("entry-merged", &golden!("record-entry-merged"), &entry(Origin::Merged, &held));
    let own = Record::Conflict(Origin::Own, conflict(false));
    record("conflict", &golden!("record-conflict"), &own);
    let merged = Record::Conflict(Origin::Merged, conflict(true));
    record("conflict-merged", &golden!("record-conflict-merged"), &merged);
    let own = Record::Conflict(Origin::Own, flagged(true, false, false));
    record("conflict-flagged", &golden!("record-conflict-flagged"), &own);
    let merged = Record::Conflict(Origin::Merged, flagged(true, true, true));
    record("conflict-flagged-merged", &golden!("record-conflict-flagged-merged"), &merged);
    record("cursor", &golden!("record-cursor"), &Record::Cursor(RegionId(300), cursor(70_000)));
    record("ceiling", &golden!("record-ceiling"), &Record::Ceiling(T0 + 3_000));
    record("stop", &golden!("record-stop"), &Record::Stop(tag()));
    record("synced", &golden!("record-synced"), &Record::Synced(70_000, tag()));
    record("complete", &golden!("record-complete"), &Record::Complete(true));
    record("voice", &golden!("record-voice"), &Record::Voice(7));
    record("home", &golden!("record-home"), &Record::Home(7));
    record("incomplete", &golden!("record-incomplete"), &Record::Complete(false));
}

/// The packed forms are those meant, and unpack to the very entries.
#[test]
fn entries_of_every_form() {
    let form = |bytes: &[u8], entry: &Entry<'_>| {
        let Ok(Record::Entry(_, read)) = Record::decode(bytes) else { panic!("an entry") };
        assert_eq!((read.key.0, read.entry.unpack().as_ref()), (&b"pay:1"[..], Ok(entry)));
        match read.entry {
            Packed::Claim(_) => "claim",
            Packed::Settled(..) => "settled",
            Packed::General(_) => "general",
            Packed::Completed(_) => "completed",
        }
    };
    assert_eq!(form(&golden!("record-entry-claim"), &Entry::of_attempt(claim(3, 1))), "claim");
    assert_eq!(form(&golden!("record-entry-settled"), &settled()), "settled");
    assert_eq!(form(&golden!("record-entry-general"), &general()), "general");
    assert_eq!(form(&golden!("record-entry-completed"), &completed()), "completed");
}

#[test]
fn the_header_of_a_segment() {
    let header = segment_header();
    let golden = golden!("segment-header");
    assert_eq!(hex(&header.encode()), hex(&golden));
    assert_eq!(SegmentHeader::decode(&golden), Ok(header));
    let always = SegmentHeader { synced_first: true, ..header };
    let golden = golden!("segment-header-always");
    assert_eq!(hex(&always.encode()), hex(&golden));
    assert_eq!(SegmentHeader::decode(&golden), Ok(always));
    for len in 0..golden.len() {
        assert_eq!(
            SegmentHeader::decode(&golden[..len]),
            Err(MalformedHeader::Magic),
            "its first {len} bytes"
        );
    }
}

fn tag() -> MarkTag {
    MarkTag::new(&ClusterKeys { hash: [1; 16], tag: [2; 16] })
}

fn segment_header() -> SegmentHeader {
    SegmentHeader {
        region: RegionId(3),
        incarnation: Incarnation(28_000_000),
        epoch: LogEpoch(4),
        first_lsn: 70_001,
        created_ms: T0,
        cluster: *b"cluster-of-tests",
        boot: 0x1122_3344_5566_7788,
        synced_first: false,
    }
}

/// One run: two keys of a shard, a conflict behind the last shard.
#[test]
fn a_run() {
    let header = RunHeader {
        region: RegionId(3),
        incarnation: Incarnation(28_000_000),
        number: 17,
        created_ms: T0,
        cluster: *b"cluster-of-tests",
        shards: 1_024,
        class: 6,
    };
    // A state is what a record of an entry holds after its kind; so is a conflict.
    let bodies = [golden!("record-entry-settled"), golden!("record-entry-general")];
    let states = bodies.iter().map(|body| &body[1..]);
    let conflict = &golden!("record-conflict-merged")[1..];
    let group = |states: &[&[u8]]| {
        let framed = |state: &&[u8]| [&(state.len() as u32).to_le_bytes(), *state].concat();
        states.iter().flat_map(framed).collect::<Vec<u8>>()
    };
    let keys = group(&states.collect::<Vec<_>>());
    let conflicts = group(&[conflict]);
    let mut writer = RunWriter::new(header);
    writer.group(5, &keys, 2, T0 + 86_400_000);
    writer.group(1_024, &conflicts, 1, T0 + 604_800_000);
    let (end, size) = writer.finish();
    let bytes = [&header.encode()[..], &keys, &conflicts, &end].concat();
    let golden = golden!("run");
    assert_eq!(hex(&bytes), hex(&golden), "this version writes something else");
    assert_eq!((size, header.file_name().as_str()), (golden.len() as u64, "000000000017-6.run"));
    assert_eq!(RunHeader::decode(&golden), Ok(header));
    let trailer = &golden[golden.len() - RUN_TRAILER_BYTES..];
    let table_at = RunTable::offset(trailer, size).expect("whole");
    let table = RunTable::decode(&golden[table_at as usize..], table_at).expect("whole");
    assert_eq!((&table, table.dies_at_ms, table.states), (writer.table(), T0 + 604_800_000, 3));
    let held = |at: usize| {
        let group = table.groups[at];
        let bytes = &golden[group.offset as usize..][..group.len as usize];
        assert!(group.matches(bytes));
        States::new(bytes).map(|state| state.expect("whole")).collect::<Vec<_>>()
    };
    assert_eq!(held(0), bodies.iter().map(|body| &body[1..]).collect::<Vec<_>>());
    assert_eq!(held(1), [conflict]);
}

#[test]
fn the_manifest() {
    let meta = LogMeta {
        last: Some(segment_header()),
        next_lsn: 70_124,
        ceiling_ms: T0 + 3_000,
        floor_ms: T0 - 60_000,
        stopped: true,
        incomplete: true,
        cursors: [(RegionId(300), cursor(70_000))].into(),
        epochs: vec![(LogEpoch(3), 60_001), (LogEpoch(4), 70_001)],
        torn_epochs: vec![LogEpoch(3)],
        newest_stamps: [(RegionId(3), Stamp::from_parts(T0, 7)), (RegionId(300), Stamp::from_parts(T0, 8))]
            .into(),
        voice: None,
        home: None,
    };
    let run =
        |number, class, dies_at_ms| RunEntry { number, class, bytes: 9_000 + number, states: 40, dies_at_ms };
    let manifest = Manifest {
        region: RegionId(3),
        cluster: *b"cluster-of-tests",
        meta,
        runs: vec![run(16, 0, T0 + 50_000), run(17, 6, T0 + 604_800_000)],
        next_run: 18,
        over: Incarnation(28_000_000),
    };
    let golden = golden!("manifest");
    assert_eq!(hex(&manifest.encode()), hex(&golden), "this version writes something else");
    assert_eq!(Manifest::decode(&golden), Ok(manifest));
    let empty = Manifest { next_run: 1, ..Manifest::default() };
    let golden = golden!("manifest-empty");
    assert_eq!(hex(&empty.encode()), hex(&golden), "this version writes something else");
    assert_eq!(Manifest::decode(&golden), Ok(empty));
}

#[track_caller]
fn frame(name: &str, golden: &[u8], value: &Frame<'_>) {
    assert_eq!(hex(&value.encode()), hex(golden), "{name}: this version says something else");
    assert_eq!(Frame::decode(golden).as_ref(), Ok(value), "{name}: this version understands something else");
    for len in 0..golden.len() {
        assert!(Frame::decode(&golden[..len]).is_err(), "{name}: its first {len} bytes are no frame");
    }
    assert!(Frame::decode(&[golden, &[0]].concat()).is_err(), "{name}: a byte more is no frame");
}

#[test]
fn frames_of_every_variant() {
    let hello = Hello {
        cluster: *b"cluster-of-tests",
        region: RegionId(3),
        name: "eu-west",
        incarnation: Incarnation(28_000_000),
        epoch: LogEpoch(4),
        membership: 300,
        have: Some(cursor(70_000)),
        tip: 70_123,
        newest_of_yours: Stamp::from_parts(T0, 7),
        epoch_first: 69_500,
        torn: true,
        incomplete: true,
        began_ms: T0 + 9,
        latest_of_yours: (Incarnation(27_000_000), LogEpoch(9), T0 + 8),
        members: Bytes(&[3, 0, 4, 0, 1, 1]),
    };
    frame("hello", &golden!("frame-hello"), &Frame::Hello(hello));
    let newborn = Hello {
        have: None,
        tip: 0,
        newest_of_yours: Stamp::ZERO,
        epoch_first: 1,
        torn: false,
        began_ms: 0,
        latest_of_yours: Default::default(),
        ..hello
    };
    frame("hello-newborn", &golden!("frame-hello-newborn"), &Frame::Hello(newborn));
    let (held, completed, settled) = (Entry::of_attempt(claim(3, 1)), completed(), settled());
    let log = [
        Record::Entry(Origin::Own, entry_record(&held)),
        Record::Entry(Origin::Own, entry_record(&completed)),
        Record::Entry(Origin::Own, entry_record(&settled)),
        Record::Conflict(Origin::Own, conflict(false)),
        Record::Entry(Origin::Own, entry_record(&held)),
    ];
    let author = Author { region: RegionId(3), incarnation: Incarnation(28_000_000) };
    let (mut packer, mut bodies, mut whole) = (Packer::new(author), Vec::new(), Vec::new());
    for record in &log {
        packer.push(&encoded(record), &mut bodies);
        push_body(&encoded(record), &mut whole);
    }
    assert_eq!(stream::unpack(author, Bytes(&bodies)), Ok(whole));
    let records =
        Frame::Records { prev: cursor(70_000), last: cursor(70_007), left: 300, bodies: Bytes(&bodies) };
    frame("records", &golden!("frame-records"), &records);
    let none = Frame::Records { prev: cursor(70_000), last: cursor(70_003), left: 300, bodies: Bytes(&[]) };
    frame("records-none", &golden!("frame-records-none"), &none);
    frame("ack", &golden!("frame-ack"), &Frame::Ack { upto: cursor(70_003), resend: false });
    frame("ack-resend", &golden!("frame-ack-resend"), &Frame::Ack { upto: cursor(70_003), resend: true });
    frame("ping", &golden!("frame-ping"), &Frame::Ping { at_ms: T0, sent: cursor(70_003), incomplete: true });
    let membership = Frame::Membership { epoch: 301, members: Bytes(&[3, 0, 4, 0, 1, 1]) };
    frame("membership", &golden!("frame-membership"), &membership);
    frame("pong", &golden!("frame-pong"), &Frame::Pong { ping_at_ms: T0, at_ms: T0 + 41 });
}

#[test]
fn frames_of_comparisons() {
    let horizon = Horizon { before_s: T0 / 1000 - 5, alive_ms: T0 + 10_000 };
    let exchange = Exchange { nonce: 0x0123_4567_89ab_cdef, horizon, shards: 4 };
    let nonce = exchange.nonce;
    let bucket = Bucket::of(T0 + 86_400_000, 86_400_000);
    let sums = vec![(bucket, 0xfedc_ba98_7654_3210), (Bucket(1 << 63 | bucket.0), 1)];
    frame("compare", &golden!("frame-compare"), &Frame::Compare { exchange, sums });
    let buckets = vec![(bucket, Bytes(b"aaaabbbbccccdddd"))];
    let differ = Frame::Differ { nonce, number: 2, buckets, more: true, declined: false };
    frame("differ", &golden!("frame-differ"), &differ);
    let declined = Frame::Differ { nonce, number: 0, buckets: Vec::new(), more: false, declined: true };
    frame("differ-declined", &golden!("frame-differ-declined"), &declined);
    let ranges = vec![RangeSums { bucket, bits: 1, sums: Bytes(b"aaaabbbb") }];
    frame("narrow", &golden!("frame-narrow"), &Frame::Narrow { exchange, shard: 3, ranges });
    let ranges = vec![RangeItems { bucket, bits: 1, range: 1, items: Bytes(b"id01sum1id02sum2") }];
    frame("items", &golden!("frame-items"), &Frame::Items { nonce, shard: 3, ranges });
    let wanted = vec![Wanted { bucket, ids: Bytes(b"id01id02") }];
    frame("want", &golden!("frame-want"), &Frame::Want { exchange, shard: 3, wanted });
    let mut bodies = Vec::new();
    push_body(&encoded(&Record::Entry(Origin::Merged, entry_record(&settled()))), &mut bodies);
    let of = PartOf { nonce, shard: 3, number: 1, last: true };
    let (have, at) = (Cursor::default(), cursor(70_000));
    let body = Bytes(b"record");
    frame("ask", &golden!("frame-ask"), &Frame::Ask { round: 1 << 40, epoch: 7, body });
    let voice = Frame::Voice { round: 1 << 40, epoch: 7, counts: true, body };
    frame("voice", &golden!("frame-voice"), &voice);
    homes(body);
    frame("behind", &golden!("frame-behind"), &Frame::Behind { have, at, keys: 1_000 });
    frame("repair", &golden!("frame-repair"), &Frame::Repair { of, bodies: Bytes(&bodies) });
}

/// Requests for the homes of their keys: one of each kind, and each kind of answer.
fn homes(body: Bytes<'_>) {
    let keys = ClusterKeys { hash: [1; 16], tag: [2; 16] };
    let held = claim(3, 1);
    let token = Token::issue(&keys, b"pay:1", held.id, held.fingerprint, held.expires_at);
    let (key, number, epoch, durable) = (&b"pay:1"[..], 1 << 40, 7, true);
    let claims = Request::Claim(Claim {
        key,
        fingerprint: held.fingerprint,
        claimant: held.claimant,
        note: held.note,
        lease_ms: Some(30_000),
        durable,
        ..Claim::default()
    });
    let requests = [
        ("forward-claim", golden!("frame-forward-claim"), claims),
        (
            "forward-complete",
            golden!("frame-forward-complete"),
            Request::Complete { key, token, outcome: b"done", level: None, durable },
        ),
        (
            "forward-renew",
            golden!("frame-forward-renew"),
            Request::Renew { key, token, lease_ms: Some(60_000), level: None, durable },
        ),
        (
            "forward-release",
            golden!("frame-forward-release"),
            Request::Release { key, token, level: None, durable },
        ),
    ];
    for (name, golden, request) in requests {
        let errand = Errand::of(&request).expect("a home decides it");
        frame(name, &golden, &Frame::Forward { number, epoch, errand });
    }
    let told = |verdict| Frame::Forwarded { number, verdict, body };
    let granted = Verdict::Granted { claim: held.id, stale_ms: 300 };
    frame("forwarded-granted", &golden!("frame-forwarded-granted"), &told(granted));
    let renewed = Verdict::Renewed { lease_until: T0 };
    frame("forwarded-renewed", &golden!("frame-forwarded-renewed"), &told(renewed));
    let refused = Frame::Forwarded { number, verdict: Verdict::Refused(Reason::Level), body: Bytes(&[]) };
    frame("forwarded-refused", &golden!("frame-forwarded-refused"), &refused);
    frame("withdraw", &golden!("frame-withdraw"), &Frame::Withdraw { number });
    // Their places are what travels.
    let rest = [Verdict::Done, Verdict::Released, Verdict::Known, Verdict::Expired];
    let kinds = rest.map(|verdict| told(verdict).encode()[2 + 6]);
    assert_eq!(kinds, [1, 3, 4, 5]);
    let stale = [StaleReason::BadTag, StaleReason::Expired, StaleReason::Forgotten];
    let kinds = stale.map(|reason| told(Verdict::Stale(reason)).encode()[2 + 6..2 + 8].to_vec());
    assert_eq!(kinds, [[6, 0], [6, 1], [6, 2]]);
    let reasons = [
        Reason::CatchingUp,
        Reason::Clock,
        Reason::Full,
        Reason::Quota,
        Reason::LogBehind,
        Reason::Stale,
        Reason::Level,
        Reason::OtherRegion,
        Reason::Draining,
        Reason::OldCopy,
        Reason::RecordedHere,
        Reason::DiskFull,
    ];
    for (place, reason) in reasons.into_iter().enumerate() {
        let bytes = told(Verdict::Refused(reason)).encode();
        assert_eq!(bytes[2 + 6..2 + 8], [7, place as u8], "{reason:?}");
    }
}

/// What two regions sum up must be the same in every version that compares: another hash of a part would make every
/// key of an upgraded region a difference.
#[test]
fn sums_of_parts() {
    let keys = ClusterKeys { hash: [1; 16], tag: [2; 16] };
    let digester = Digester::new(&keys);
    let (claimed, settled) = (Entry::of_attempt(claim(300, 7)), settled());
    let mut cells = Cells::default();
    cells.update(&digester, keys.key_hash(b"pay:1"), &Entry::default(), &claimed);
    cells.update(&digester, keys.key_hash(b"pay:1"), &claimed, &settled);
    let listed = digester.conflict(&conflict(false));
    cells.add(listed.0, listed.1, listed.2);
    let line = |(bucket, sum): (Bucket, Sum)| {
        let told = digester.told(7, &sum);
        format!("{:016x}{:02x}{:032x}{told:016x}", bucket.0, sum.parts, sum.digest)
    };
    let lines: Vec<String> = cells.all().into_iter().map(line).collect();
    assert_eq!(lines.concat(), hex(&golden!("digests")));
    // Flags are summed up where there are some, and only there.
    let flags = [(false, false, false), (true, false, false), (false, true, false), (false, false, true)];
    let hash = |(loser, winner, void)| digester.conflict(&flagged(loser, winner, void)).2;
    assert_eq!(hash(flags[0]), listed.2);
    let hashes = flags[1..].iter().map(|flags| format!("{:032x}", hash(*flags))).collect::<Vec<_>>();
    assert_eq!(hashes.concat(), hex(&golden!("digests-conflict-flagged")));
}

/// Tokens live as long as claims do, in whatever version's hands: their bytes and the tag are fixed.
#[test]
fn tokens() {
    let keys = ClusterKeys { hash: [1; 16], tag: [2; 16] };
    let attempt = claim(300, 7);
    for (golden, fingerprint) in
        [(golden!("token"), attempt.fingerprint), (golden!("token-without-fingerprint"), None)]
    {
        let token = Token::issue(&keys, b"pay:1", attempt.id, fingerprint, attempt.expires_at);
        let text = hex(&golden);
        assert_eq!(std::str::from_utf8(&token.text()), Ok(&text[..]));
        let read = Token::from_text(text.as_bytes()).expect("released tokens stay readable");
        assert_eq!(read, token);
        assert!(read.verify(&keys, b"pay:1"), "and genuine");
        for len in 0..text.len() {
            assert_eq!(Token::from_text(&text.as_bytes()[..len]), None);
        }
    }
}
