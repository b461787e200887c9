//! What is shown of whole, torn, damaged and foreign files.

use crdt::entry::{Attempt, Bytes, Entry, Packed, Phase};
use crdt::hash::ClusterKeys;
use crdt::hlc::Stamp;
use crdt::ids::{ClaimId, Incarnation, LogEpoch, RegionId};
use crdt::journal::{EntryRecord, MarkTag, Origin, Record, SegmentHeader};
use crdt::snapshot::{Manifest, RunHeader, RunWriter, push_state};

use super::*;

fn tag() -> MarkTag {
    MarkTag::new(&ClusterKeys { hash: [1; 16], tag: [2; 16] })
}

fn header() -> SegmentHeader {
    SegmentHeader {
        region: RegionId(3),
        incarnation: Incarnation(7),
        epoch: LogEpoch(4),
        first_lsn: 100,
        created_ms: 1_800_000_000_000,
        cluster: [5; 16],
        boot: 9,
        synced_first: false,
    }
}

fn body(record: &Record<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    record.encode(&mut body);
    body
}

fn claim(key: &str, note: &[u8]) -> Vec<u8> {
    let id = ClaimId {
        stamp: Stamp::from_parts(1_800_000_000_000, 1),
        region: RegionId(3),
        incarnation: Incarnation(7),
    };
    let (lease_until, expires_at) = (1_800_000_030_000, 1_800_086_400_000);
    let (claimant, fingerprint, abandoned_lease) = (&b"w"[..], None, 0);
    let attempt = Attempt {
        id,
        phase: Phase::Held,
        lease_until,
        abandoned_lease,
        fingerprint,
        claimant,
        note,
        expires_at,
    };
    let entry = Entry::of_attempt(attempt);
    body(&Record::Entry(Origin::Own, EntryRecord { key: Bytes(key.as_bytes()), entry: Packed::of(&entry) }))
}

fn framed(body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&len), body).to_le_bytes();
    [&len[..], &crc, body].concat()
}

fn segment(bodies: &[Vec<u8>]) -> Vec<u8> {
    let records = bodies.iter().flat_map(|body| framed(body));
    header().encode().into_iter().chain(records).collect()
}

fn shown(bytes: &[u8], selection: &Selection) -> (Result<Ended, String>, Vec<Line>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("any-name");
    std::fs::write(&path, bytes).expect("writable");
    let mut lines = Vec::new();
    let ended = dump(&path, selection, &mut |line| {
        lines.push(line);
        Ok(())
    });
    (ended.map_err(|error| error.to_string()), lines)
}

fn field(line: &Line, name: &str) -> Value {
    let found = line.fields.iter().find(|(field, _)| *field == name);
    found.unwrap_or_else(|| panic!("no {name} in {line:?}")).1.clone()
}

fn about<'l>(lines: &'l [Line], about: &str) -> Vec<&'l Line> {
    lines.iter().filter(|line| line.about == about).collect()
}

#[test]
fn a_whole_segment_with_its_zeros() {
    let mut bytes = segment(&[claim("a", b"n"), body(&Record::Ceiling(5)), claim("b", b"")]);
    let end = bytes.len();
    bytes.resize(end + 3_000_000, 0);
    let (ended, lines) = shown(&bytes, &Selection::default());
    assert_eq!(ended, Ok(Ended::Whole));
    let records = about(&lines, "record");
    let lsns: Vec<_> = records.iter().map(|record| field(record, "lsn")).collect();
    assert_eq!(lsns, [Value::Int(100), Value::Int(101), Value::Int(102)]);
    assert_eq!(field(records[1], "kind"), text("ceiling"));
    let last = lines.last().expect("lines");
    assert_eq!((field(last, "how"), field(last, "offset")), (text("clean"), int(end as u64)));
    assert_eq!(field(last, "last_lsn"), int(102));
}

#[test]
fn only_what_was_asked_for() {
    let bytes = segment(&[claim("a", b"n"), claim("b", b"n"), claim("a", b"n"), body(&Record::Stop(tag()))]);
    let only = |selection: Selection| about(&shown(&bytes, &selection).1, "record").len();
    let key = Some(b"a".to_vec());
    assert_eq!(only(Selection { key: key.clone(), ..Selection::default() }), 2);
    assert_eq!(only(Selection { key, from: Some(101), ..Selection::default() }), 1);
    assert_eq!(only(Selection { from: Some(101), to: Some(102), ..Selection::default() }), 2);
    let shows_notes = |values| {
        let (_, lines) = shown(&bytes, &Selection { values, ..Selection::default() });
        let attempts = field(about(&lines, "record")[0], "attempts");
        attempts.as_array().expect("attempts")[0].field("note").is_some()
    };
    assert!(shows_notes(true) && !shows_notes(false));
}

#[test]
fn a_torn_tail_is_no_damage() {
    let bytes = segment(&[claim("a", b""), claim("b", b"")]);
    let (ended, lines) = shown(&bytes[..bytes.len() - 3], &Selection::default());
    assert_eq!(ended, Ok(Ended::Whole));
    assert_eq!(field(lines.last().expect("lines"), "how"), text("torn"));
}

#[test]
fn what_stands_behind_damage_is_shown_without_numbers() {
    let bodies = [claim("a", b""), claim("b", &[1; 300]), claim("c", b""), body(&Record::Synced(101, tag()))];
    let mut bytes = segment(&bodies);
    let second = 64 + framed(&bodies[0]).len();
    bytes[second + 40] ^= 1;
    let (ended, lines) = shown(&bytes, &Selection::default());
    assert_eq!(ended, Ok(Ended::Damaged));
    let damage = about(&lines, "damage");
    assert_eq!(damage.len(), 1);
    assert_eq!(field(damage[0], "offset"), int(second as u64));
    assert_eq!(field(damage[0], "bytes"), int(framed(&bodies[1]).len() as u64));
    assert!(field(damage[0], "why").as_str().is_some_and(|why| why.ends_with("was synced: damage")));
    let records = about(&lines, "record");
    assert_eq!(records.len(), 3);
    assert_eq!(
        (field(records[1], "key"), field(records[1], "lsn")),
        (Value::Bulk(b"c".to_vec()), Value::Null)
    );
}

/// Larger than a read, with damage across the border of one.
#[test]
fn damage_of_megabytes_is_walked_over() {
    let large = claim("large", &[3; 4_000]);
    let bodies: Vec<_> = (0..2_000).map(|_| large.clone()).collect();
    let mut bytes = segment(&bodies);
    bytes[1_000_000..4_000_000].fill(0xee);
    let (ended, lines) = shown(&bytes, &Selection::default());
    assert_eq!(ended, Ok(Ended::Damaged));
    let one = framed(&large).len();
    let (before, behind) = ((1_000_000 - 64) / one, 2_000 - (4_000_000 - 64_usize).div_ceil(one));
    assert_eq!(about(&lines, "record").len(), before + behind);
    assert_eq!(about(&lines, "damage").len(), 1);
}

#[test]
fn a_damaged_header_does_not_hide_the_records() {
    let mut bytes = segment(&[claim("a", b"")]);
    bytes[20] ^= 1;
    let (ended, lines) = shown(&bytes, &Selection::default());
    assert_eq!((ended, about(&lines, "record").len()), (Ok(Ended::Damaged), 1));
}

#[test]
fn another_version_and_strangers_are_refused_in_words() {
    let refused = |bytes: &[u8]| shown(bytes, &Selection::default()).0.expect_err("refused");
    // Not a flipped bit of a file of ours, whose checksum would tell.
    let newer = |mut bytes: Vec<u8>| {
        bytes[8] = 2;
        bytes[20] ^= 0xff;
        bytes
    };
    assert!(refused(&newer(segment(&[]))).contains("log format version 2; this onced reads version 1"));
    assert!(refused(&newer(run().0)).contains("format version 2"));
    assert!(refused(&newer(Manifest::default().encode())).contains("manifest format version 2"));
    assert!(refused(b"hello, world").contains("no file of onced's"));
    assert!(refused(b"").contains("no file of onced's"));
}

fn run() -> (Vec<u8>, usize) {
    let header = RunHeader {
        region: RegionId(3),
        incarnation: Incarnation(7),
        number: 1,
        created_ms: 0,
        cluster: [5; 16],
        shards: 4,
        class: 2,
    };
    let mut bytes = header.encode().to_vec();
    let mut writer = RunWriter::new(header);
    let mut second_at = 0;
    for (shard, keys) in [(0, ["a", "b"]), (3, ["c", "d"])] {
        let mut group = Vec::new();
        keys.iter().for_each(|key| push_state(&claim(key, b"")[1..], &mut group));
        writer.group(shard, &group, 2, 5_000);
        second_at = bytes.len();
        bytes.extend_from_slice(&group);
    }
    bytes.extend_from_slice(&writer.finish().0);
    (bytes, second_at)
}

#[test]
fn a_run_and_a_damaged_group_of_one() {
    let (bytes, second_at) = run();
    let (ended, lines) = shown(&bytes, &Selection::default());
    assert_eq!(ended, Ok(Ended::Whole));
    let (groups, states) = (about(&lines, "group"), about(&lines, "state"));
    assert_eq!((groups.len(), states.len()), (2, 4));
    assert_eq!(field(groups[1], "offset"), int(second_at as u64));
    let mut damaged = bytes.clone();
    damaged[second_at + 20] ^= 1;
    let (ended, lines) = shown(&damaged, &Selection::default());
    assert_eq!(ended, Ok(Ended::Damaged));
    assert_eq!(field(about(&lines, "damage")[0], "offset"), int(second_at as u64));
    let cut = &bytes[..bytes.len() - 1];
    assert_eq!(shown(cut, &Selection::default()).0, Ok(Ended::Damaged));
    let key = Some(b"d".to_vec());
    let (_, lines) = shown(&bytes, &Selection { key, ..Selection::default() });
    assert_eq!((about(&lines, "state").len(), about(&lines, "group").len()), (1, 0));
}

/// Whatever stands in a file, it is shown or refused.
#[test]
fn no_flipped_bit_makes_it_panic() {
    let (run, _) = run();
    let segment = segment(&[claim("a", b"n"), body(&Record::Synced(1, tag())), claim("b", b"")]);
    for file in [run, segment] {
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (ended, lines) = shown(&flipped, &Selection::default());

            assert!(ended != Ok(Ended::Whole) || how(&lines) == "torn", "bit {bit}: {lines:?}");
        }
    }
}

fn how(lines: &[Line]) -> String {
    let end = lines.iter().find(|line| line.about == "end").expect("an end");
    field(end, "how").as_str().expect("a word").to_owned()
}
