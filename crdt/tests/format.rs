//! The examples in `FORMAT.md` against the real encoders: the document cannot grow wrong unnoticed.

use std::collections::BTreeMap;

use crdt::conflict::{Conflict, ConflictId, Side};
use crdt::entry::{Attempt, Bytes, Entry, Outcome, Packed, Phase};
use crdt::hash::ClusterKeys;
use crdt::hlc::Stamp;
use crdt::ids::{ClaimId, Cursor, Fingerprint, Incarnation, LogEpoch, RegionId};
use crdt::journal::{EntryRecord, MarkTag, Origin, Record, Records, SegmentHeader};
use crdt::recovery::LogMeta;
use crdt::snapshot::{Manifest, RunEntry, RunHeader, RunTable, RunWriter, States, push_state};

const T0: u64 = 1_800_000_000_000;
const INCARNATION: Incarnation = Incarnation(28_000_000);
const CLUSTER: [u8; 16] = *b"cluster-of-tests";

/// The bytes of every example, by its name.
fn examples() -> BTreeMap<String, Vec<u8>> {
    let mut examples = BTreeMap::new();
    for block in include_str!("../FORMAT.md").split("```hex ").skip(1) {
        let (block, _) = block.split_once("```").expect("a block ends");
        let (name, lines) = block.split_once('\n').expect("a block has a name");
        let digits: String = lines.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
        let bytes = (0..digits.len()).step_by(2).map(pair).collect();
        assert!(examples.insert(name.to_owned(), bytes).is_none(), "{name} is there twice");
    }
    examples
}

fn stamp(after_ms: u64, counter: u16) -> Stamp {
    Stamp::from_parts(T0 + after_ms, counter)
}

fn claim_id(region: u16, counter: u16) -> ClaimId {
    ClaimId { stamp: stamp(0, counter), region: RegionId(region), incarnation: INCARNATION }
}

fn attempt() -> Attempt<'static> {
    Attempt {
        id: claim_id(3, 1),
        phase: Phase::Held,
        lease_until: T0 + 30_000,
        abandoned_lease: 0,
        fingerprint: Some(Fingerprint(*b"0123456789abcdef")),
        claimant: b"worker-7",
        note: b"see job 9",
        expires_at: T0 + 86_400_000,
    }
}

fn outcome(region: u16) -> Outcome<'static> {
    Outcome {
        claim: attempt().id,
        completed: stamp(250, 3),
        region: RegionId(region),
        incarnation: INCARNATION,
        majority: false,
        compensated: false,
        fingerprint: attempt().fingerprint,
        bytes: b"{\"charge\":\"ch_1\"}",
        expires_at: attempt().expires_at,
    }
}

fn conflict() -> Conflict {
    let side = |region, counter, digest| Side {
        completed: stamp(250, counter),
        region: RegionId(region),
        claim: claim_id(region, counter),
        digest: [digest; 16],
        majority: false,
    };
    let loser = side(2, 7, 0xbb);
    Conflict {
        id: ConflictId { key: b"pay:1".to_vec(), loser: loser.claim, completed_at: loser.region },
        loser,
        winner: Some(side(1, 0, 0xaa)),
        compensated: false,
        expires_at: T0 + 604_800_000,
        void: false,
    }
}

/// As [`conflict`], once a majority holds the winner.
fn flagged() -> Conflict {
    let winner = conflict().winner.map(|winner| Side { majority: true, ..winner });
    Conflict { winner, ..conflict() }
}

fn tag() -> MarkTag {
    MarkTag::new(&ClusterKeys { hash: [1; 16], tag: [2; 16] })
}

fn header() -> SegmentHeader {
    SegmentHeader {
        region: RegionId(3),
        incarnation: INCARNATION,
        epoch: LogEpoch(4),
        first_lsn: 70_001,
        created_ms: T0,
        cluster: CLUSTER,
        boot: 0x1122_3344_5566_7788,
        synced_first: false,
    }
}

fn body(record: &Record<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    record.encode(&mut body);
    body
}

fn entry(origin: Origin, entry: &Entry<'_>) -> Vec<u8> {
    body(&Record::Entry(origin, EntryRecord { key: Bytes(b"pay:1"), entry: Packed::of(entry) }))
}

fn run() -> (Vec<u8>, RunWriter) {
    let header = RunHeader {
        region: RegionId(3),
        incarnation: INCARNATION,
        number: 7,
        created_ms: T0,
        cluster: CLUSTER,
        shards: 1024,
        class: 5,
    };
    let mut bytes = header.encode().to_vec();
    let mut writer = RunWriter::new(header);
    let held = entry(Origin::Own, &Entry::of_attempt(attempt()));
    let merged = body(&Record::Conflict(Origin::Merged, conflict()));
    for (shard, state, dies_at_ms) in
        [(17, &held[1..], attempt().expires_at), (1024, &merged[1..], conflict().expires_at)]
    {
        let mut group = Vec::new();
        push_state(state, &mut group);
        writer.group(shard, &group, 1, dies_at_ms);
        bytes.extend_from_slice(&group);
    }
    bytes.extend_from_slice(&writer.finish().0);
    (bytes, writer)
}

fn manifest() -> Manifest {
    let (bytes, writer) = run();
    let cursor = Cursor { incarnation: INCARNATION, epoch: LogEpoch(9), lsn: 500 };
    Manifest {
        region: RegionId(3),
        cluster: CLUSTER,
        meta: LogMeta {
            last: Some(header()),
            next_lsn: 70_124,
            ceiling_ms: T0 + 3_000,
            floor_ms: T0 - 1_000,
            stopped: false,
            incomplete: false,
            cursors: BTreeMap::from([(RegionId(2), cursor)]),
            epochs: vec![(LogEpoch(3), 1), (LogEpoch(4), 70_001)],
            torn_epochs: vec![LogEpoch(3)],
            newest_stamps: BTreeMap::from([(RegionId(3), stamp(250, 3))]),
            voice: None,
            home: None,
        },
        runs: vec![RunEntry {
            number: 7,
            class: 5,
            bytes: bytes.len() as u64,
            states: writer.table().states,
            dies_at_ms: writer.table().dies_at_ms,
        }],
        next_run: 8,
        over: Incarnation(0),
    }
}

#[test]
fn every_example_is_what_the_encoder_writes() {
    let mut examples = examples();
    let mut check = |name: &str, real: &[u8]| {
        let written = examples.remove(name).unwrap_or_else(|| panic!("no example {name}"));
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&written), hex(real), "{name}");
    };
    let held = Entry::of_attempt(attempt());
    let settled = held.clone().join(&Entry::of_outcome(outcome(3)));
    let foreign =
        Outcome { majority: true, compensated: true, fingerprint: None, bytes: b"ok", ..outcome(2) };
    let general = Entry { forgotten: Stamp::from_parts(T0 - 5, 2), ..Entry::of_outcome(foreign) };
    let cursor = Cursor { incarnation: INCARNATION, epoch: LogEpoch(4), lsn: 70_000 };
    check("segment-header", &header().encode());
    check("record-1-claim", &entry(Origin::Own, &held));
    check("record-1-settled", &entry(Origin::Own, &settled));
    check("record-2-general", &entry(Origin::Merged, &general));
    check("record-1-completed", &entry(Origin::Own, &Entry::of_outcome(outcome(3))));
    check("record-3-conflict", &body(&Record::Conflict(Origin::Own, conflict())));
    check("record-11-conflict", &body(&Record::Conflict(Origin::Merged, flagged())));
    check("record-5-cursor", &body(&Record::Cursor(RegionId(300), cursor)));
    check("record-6-ceiling", &body(&Record::Ceiling(T0 + 3_000)));
    check("record-7-stop", &body(&Record::Stop(tag())));
    check("record-8-synced", &body(&Record::Synced(70_000, tag())));
    check("record-9-complete", &body(&Record::Complete(false)));
    check("record-10-voice", &body(&Record::Voice(7)));
    check("record-12-home", &body(&Record::Home(7)));
    check("run", &run().0);
    check("manifest", &manifest().encode());
    let framed = examples.remove("record-framed").expect("an example of a frame");
    let mut records = Records::new(&framed);
    assert_eq!(records.next_body(), Ok(&body(&Record::Ceiling(T0 + 3_000))[..]));
    assert_eq!(records.offset(), framed.len());
    assert!(examples.is_empty(), "nothing compares {:?}", examples.keys());
}

/// What is written reads back through the decoders, too.
#[test]
fn the_examples_of_run_and_manifest_read_back() {
    let examples = examples();
    assert_eq!(Manifest::decode(&examples["manifest"]), Ok(manifest()));
    let run = &examples["run"];
    let trailer = &run[run.len() - crdt::snapshot::RUN_TRAILER_BYTES..];
    let offset = RunTable::offset(trailer, run.len() as u64).expect("a whole trailer");
    let table = RunTable::decode(&run[offset as usize..], offset).expect("a whole table");
    for group in &table.groups {
        let bytes = &run[group.offset as usize..][..group.len as usize];
        assert!(group.matches(bytes));
        assert_eq!(States::new(bytes).filter(|state| state.is_ok()).count(), 1);
    }
    assert_eq!(table.groups.len(), 2);
}
