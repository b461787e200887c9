//! Torn tails and damage, and how they are told apart (S6): what was synced is never cut, what was not is cut
//! whatever the disk kept of it.

use super::*;
use crate::hash::ClusterKeys;
use crate::journal::{MarkTag, append_framed, append_record, synced_evidence};

/// Sectors are what a disk writes whole or not at all.
const SECTOR: usize = 64;

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound as u64) as usize
    }
}

/// A life that has synced some records and written others, over `segments` segments of one start; where the
/// synced part ends (segment and byte), and the digest then.
fn half_synced(segments: usize) -> (Life, (usize, usize), u128) {
    let mut life = first_life();
    for n in 0..4 {
        let token = life.granted(&format!("synced:{n}"), T0 + 1_000);
        life.complete(&format!("synced:{n}"), token, T0 + 1_001);
        life.flush();
    }
    let synced = (life.segments.len() - 1, life.segments.last().expect("begun").1.len());
    let digest = life.store().digest(T0 + 2_000);
    for segment in 0..segments {
        for n in 0..4 {
            let token = life.granted(&format!("written:{segment}:{n}"), T0 + 1_000);
            life.complete(&format!("written:{segment}:{n}"), token, T0 + 1_001);
            life.write();
        }
        if segment + 1 < segments {
            life.rotate_unsynced(T0 + 1_000);
        }
    }
    (life, synced, digest)
}

/// Which of the first records of all segments came back, as the digest of their prefixes.
fn prefixes(life: &Life) -> Vec<u128> {
    let all: usize = life.segments.iter().map(|(_, bytes)| count(bytes)).sum();
    let prefix = |upto: usize| {
        let (mut left, mut segments) = (upto, Vec::new());
        for (header, bytes) in &life.segments {
            let mut records = Records::new(&bytes[HEADER_BYTES..]);
            while left > 0 && records.next_body().is_ok() {
                left -= 1;
            }
            segments.push((*header, bytes[..HEADER_BYTES + records.offset()].to_vec()));
            if left == 0 {
                break;
            }
        }
        recover(config(T0 + 2_000, 1, false), &segments).expect("a prefix").0.store.digest(T0 + 2_000)
    };
    (0..=all).map(prefix).collect()
}

fn count(bytes: &[u8]) -> usize {
    let (mut records, mut count) = (Records::new(&bytes[HEADER_BYTES..]), 0);
    while records.next_body().is_ok() {
        count += 1;
    }
    count
}

/// S6: after a power loss every unsynced sector may be there, be lost or be rubbish, in any order and across
/// segments of one start. What was synced comes back, and of the rest an exact prefix.
#[test]
fn unsynced_sectors_in_any_order_are_cut_and_synced_ones_are_not() {
    for segments in 1..4 {
        let (life, (at, end), _) = half_synced(segments);
        let prefixes = prefixes(&life);
        let synced_records: usize = life.segments[..at].iter().map(|(_, bytes)| count(bytes)).sum::<usize>()
            + count(&life.segments[at].1[..end]);
        let (mut torn, mut behind) = (0, 0);
        for seed in 0..400 {
            let mut dice = Dice(seed);
            let mut torn_log = life.segments.clone();
            for (number, (_, bytes)) in torn_log.iter_mut().enumerate().skip(at) {
                let from = if number == at { end } else { HEADER_BYTES };
                for sector in (from..bytes.len()).step_by(SECTOR) {
                    let upto = bytes.len().min(sector + SECTOR);
                    match dice.below(8) {
                        0 => bytes[sector..upto].fill(0),
                        1 => bytes[sector..upto].iter_mut().for_each(|byte| *byte = dice.below(256) as u8),
                        _ => {}
                    }
                }
            }
            let (again, reports) = recover(config(T0 + 8_000, 2, false), &torn_log).expect("only torn");
            let whole = again.records as usize;
            assert!(whole >= synced_records, "seed {seed}: what was synced is there");
            assert_eq!(again.store.digest(T0 + 2_000), prefixes[whole], "seed {seed}: an exact prefix");
            assert_eq!(again.header.first_lsn, whole as u64 + 1);
            let tear = reports.iter().position(|report| report.torn_bytes > 0);
            torn += usize::from(tear.is_some());
            for (number, report) in reports.iter().enumerate() {
                let after = tear.is_some_and(|tear| number > tear) && report.behind_tear;
                behind += usize::from(after);
                assert!(!report.behind_tear || report.last_lsn + 1 == again.header.first_lsn, "seed {seed}");
            }
            // Cut as said, and begun behind it, the log reads back the same ever after.
            let kept = torn_log.iter().zip(&reports).filter(|(_, report)| !report.behind_tear);
            let mut settled: Segments =
                kept.map(|((header, bytes), report)| (*header, bytes[..report.end].to_vec())).collect();
            settled.push((again.header, again.header.encode().to_vec()));
            let (third, _) = recover(config(T0 + 9_000, 2, false), &settled).expect("settled");
            assert_eq!(third.store.digest(T0 + 2_000), prefixes[whole], "seed {seed}: settled");
        }
        assert!(torn > 300, "most are torn: {torn}");
        assert!(segments == 1 || behind > 100, "{behind} segments behind a tear");
    }
}

/// INV-15: a lost or rotten sector of what was synced is damage, whatever stands behind it, and is never cut.
#[test]
fn synced_sectors_are_never_cut() {
    for segments in 1..4 {
        let (mut life, (at, end), _) = half_synced(segments);
        // One more record, so that a mark says that all before it is synced; in the last segment.
        life.flush();
        let _ = life.granted("after", T0 + 1_000);
        life.write();
        let marked =
            life.segments.iter().map(|(_, bytes)| synced_evidence(bytes, None)).max().expect("segments");
        for (number, (header, bytes)) in life.segments.iter().enumerate() {
            let mut records = Records::new(&bytes[HEADER_BYTES..]);
            for lsn in header.first_lsn..=marked.min(header.first_lsn + count(bytes) as u64 - 1) {
                let from = HEADER_BYTES + records.offset();
                records.next_body().expect("whole");
                let upto = HEADER_BYTES + records.offset();
                for rotten in [0, 0xff] {
                    let mut rotten_log = life.segments.clone();
                    rotten_log[number].1[from..upto].fill(rotten);
                    for boot in [1, 2] {
                        let damage =
                            recover(config(T0 + 8_000, boot, false), &rotten_log).expect_err("damage");
                        let segment = format!("{number}.log");
                        assert_eq!(damage, Damage::Record { segment, offset: from, lsn }, "boot {boot}");
                    }
                }
            }
        }
        assert!((at, end) < (life.segments.len(), 0));
    }
}

/// A sector that a power loss took reads as zeros, as what was never written does: the records behind it were
/// forgotten without a word though marks said that they had been synced. Found by review.
#[test]
fn a_hole_is_no_end() {
    let (life, _) = written_and(true);
    let last = life.segments.len() - 1;
    let mut records = Records::new(&life.segments[last].1[HEADER_BYTES..]);
    let _ = records.next_body();
    let from = HEADER_BYTES + records.offset();
    let mut segments = life.segments.clone();
    segments[last].1[from..from + 200].fill(0);
    for boot in [1, 2] {
        let damage = recover(config(T0 + 8_000, boot, false), &segments).expect_err("a hole");
        assert!(matches!(damage, Damage::Record { offset, .. } if offset == from), "{damage}");
    }
    let (life, states) = written_and(false);
    let (end, digest) = states[4];
    let mut segments = life.segments;
    segments[last].1[end..end + 100].fill(0);
    let behind = segments[last].1.len() - end;
    let (again, reports) = recover(config(T0 + 8_000, 2, false), &segments).expect("never synced");
    let report = reports.last().expect("segments");
    assert_eq!((report.end, report.torn_bytes), (end, behind), "the cut is reported");
    assert_eq!(again.store.digest(T0 + 2_000), digest);
}

/// An outcome may look like anything, marks of what is synced among it: a power loss inside such a record, which nobody had
/// been told of, made a start that was refused as damaged. Found by review.
#[test]
fn marks_that_a_stranger_wrote_prove_nothing() {
    let mut life = first_life();
    let token = life.granted("k", T0 + 1_000);
    life.flush();
    let (from, digest) = (life.segments.last().expect("begun").1.len(), life.store().digest(T0 + 2_000));
    let mut outcome = Vec::new();
    for lsn in 1..200 {
        // Whoever does not know the cluster's secret cannot do better than that.
        let guessed = MarkTag::new(&ClusterKeys { hash: [9; 16], tag: [9; 16] });
        append_record(&Record::Synced(lsn << 40 | 77, guessed), &mut outcome);
        append_record(&Record::Stop(guessed), &mut outcome);
    }
    let request = Request::Complete { key: b"k", token, outcome: &outcome, level: None, durable: false };
    assert_eq!(life.run(request, T0 + 1_001).0, "COMPLETED");
    life.write();
    let mut segments = life.segments;
    let (_, bytes) = segments.last_mut().expect("begun");
    bytes[from..from + SECTOR].fill(0);
    let (again, reports) = recover(config(T0 + 8_000, 2, false), &segments).expect("a torn tail");
    assert_eq!(reports.last().map(|report| report.end), Some(from), "cut where it was torn");
    assert_eq!(again.store.digest(T0 + 2_000), digest);
}

/// What the marks of a piece of log say, wherever they stand.
#[test]
fn evidence_is_found_at_any_offset_and_only_in_whole_marks() {
    let tag = MarkTag::new(&ClusterKeys { hash: [1; 16], tag: [2; 16] });
    let evidence = |bytes: &[u8]| synced_evidence(bytes, Some(tag));
    assert_eq!(evidence(&[]), 0);
    assert_eq!(evidence(&[0; 300]), 0);
    let framed = |record: Record<'_>| {
        let (mut body, mut framed) = (Vec::new(), Vec::new());
        record.encode(&mut body);
        append_framed(body[0], &body[1..], &mut framed);
        framed
    };
    let marks = [
        framed(Record::Synced(70, tag)),
        framed(Record::Synced(u64::MAX - 1, tag)),
        framed(Record::Ceiling(T0)),
    ];
    for lead in 0..20 {
        let bytes = [&vec![0xa5; lead], &marks[0][..], &[9, 9], &marks[2], &[0; 50]].concat();
        assert_eq!(evidence(&bytes), 70);
        assert_eq!(evidence(&[&bytes[..], &marks[1]].concat()), u64::MAX - 1, "the newest");
    }
    for bit in 0..marks[0].len() * 8 {
        let mut flipped = marks[0].clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(evidence(&flipped), 0, "bit {bit}");
        assert_eq!(evidence(&marks[0][..bit / 8]), 0, "cut");
    }
    assert_eq!(evidence(&framed(Record::Stop(tag))), Lsn::MAX, "an orderly end was synced");
    assert_eq!(evidence(&framed(Record::Complete(true))), 0);
    // Another cluster's, or what a stranger can make.
    let other = MarkTag::new(&ClusterKeys { hash: [1; 16], tag: [3; 16] });
    assert_eq!(evidence(&[framed(Record::Synced(70, other)), framed(Record::Stop(other))].concat()), 0);
    assert_eq!(synced_evidence(&framed(Record::Synced(70, other)), None), 70, "where the tag is not known");
}

fn salvaged(segments: &Segments) -> (Recovered, Vec<Damage>) {
    let folder = Folder { segments: segments.clone(), ..Folder::default() };
    let salvage = RecoveryConfig { salvage: true, ..config(T0 + 8_000, 2, false) };
    let Back { recovery, .. } = folder.load(salvage, 1).expect("salvage takes what there is");
    let damages = recovery.damages().to_vec();
    (recovery.finish(), damages)
}

/// An outcome may hold anything, whole records too: a caller's copy of a log, or a forgery. Behind a damaged
/// record they were read as if the region had written them. Found by review.
#[test]
fn what_only_an_outcome_holds_is_never_salvaged() {
    let mut forged = Vec::new();
    let stranger = first_life();
    let _ = stranger.granted("forged", T0 + 1_000);
    while let Some(batch) = stranger.store().tail().take(Vec::new()) {
        forged.extend_from_slice(&batch.bytes);
        stranger.store().tail().mark_written(batch);
    }
    let mut life = first_life();
    let token = life.granted("victim", T0 + 1_000);
    life.flush();
    let from = life.segments[0].1.len();
    let request = Request::Complete { key: b"victim", token, outcome: &forged, level: None, durable: false };
    assert_eq!(life.run(request, T0 + 1_000).0, "COMPLETED");
    life.write();
    let upto = life.segments[0].1.len();
    for more in [false, true] {
        if more {
            let _ = life.granted("more", T0 + 1_000);
            life.write();
        }
        for bit in from * 8..upto * 8 {
            let mut segments = life.segments.clone();
            segments[0].1[bit / 8] ^= 1 << (bit % 8);
            let (again, damages) = salvaged(&segments);
            assert_eq!(damages.len(), 1, "bit {bit}");
            assert!(again.store.inspect(b"forged").is_none(), "bit {bit}: nobody here claimed that");
            assert_eq!(again.store.inspect(b"more").is_some(), more, "bit {bit}: what reads is kept");
        }
    }
}

/// A caller's outcome held what looks like the end of a log, again and again. The process was killed in the middle of
/// writing it, and the start took it for a whole record behind damage, and refused. Found by review: any caller could
/// keep a crashed daemon from coming back.
#[test]
fn what_an_outcome_holds_is_nothing_whole_behind_a_torn_tail() {
    let (tag, mut forged) = (MarkTag::new(&config(T0, 1, false).store.keys), Vec::new());
    for _ in 0..200 {
        append_record(&Record::Stop(tag), &mut forged);
        append_record(&Record::Synced(1 << 20, tag), &mut forged);
    }
    let mut life = first_life();
    let token = life.granted("victim", T0 + 1_000);
    life.flush();
    let whole = life.segments[0].1.len();
    let digest = life.store().digest(T0 + 2_000);
    let request = Request::Complete { key: b"victim", token, outcome: &forged, level: None, durable: false };
    assert_eq!(life.run(request, T0 + 1_001).0, "COMPLETED");
    life.write();
    let bytes = life.segments[0].1.clone();
    let at = bytes.windows(forged.len()).position(|window| window == forged).expect("written as it is");
    for torn_at in (whole + 1..at + forged.len()).step_by(7) {
        let mut segments = life.segments.clone();
        segments[0].1[torn_at..].fill(0);
        segments[0].1.resize(bytes.len() + 4_096, 0);
        let (again, reports) = recover(config(T0 + 2_000, 1, false), &segments).expect("a torn tail");
        assert_eq!(again.store.digest(T0 + 2_000), digest, "torn at {torn_at}");
        assert!(reports[0].end < torn_at.max(whole + 1), "torn at {torn_at}");
    }
    // Whole but for one bit of its length is no torn tail, although nothing follows.
    let mut records = Records::new(&bytes[HEADER_BYTES..]);
    let mut last = 0;
    while records.offset() + HEADER_BYTES < bytes.len() {
        last = HEADER_BYTES + records.offset();
        records.next_body().expect("whole");
    }
    let mut segments = life.segments.clone();
    segments[0].1[last + 1] ^= 1;
    let refused = recover(config(T0 + 2_000, 1, false), &segments).map(drop);
    assert!(matches!(refused, Err(Damage::Record { .. })), "{refused:?}");
}

/// INV-16: a start that salvages goes on from the last header, although a file before it is missing. It went on
/// from the one before the gap, whose incarnation the next had followed. Found by review.
#[test]
fn salvage_uses_no_incarnation_twice() {
    let first = first_life_of(true);
    let born = first.recovered.header.incarnation;
    // A life later, by a wall clock that has stepped back since.
    let mut second = Life::begin(config(T0 + 50_000, 2, true), first.segments);
    second.rotate(T0 + 50_000);
    second.rotate(T0 + 50_000);
    let used = second.recovered.header.incarnation;
    assert!(used > born);
    let mut segments = second.segments;
    segments.remove(1);
    let salvage = RecoveryConfig { salvage: true, ..config(T0 + 100, 2, true) };
    let Back { recovery, .. } = Folder { segments, ..Folder::default() }.load(salvage, 1).expect("salvage");
    assert_eq!(recovery.damages().len(), 1);
    assert!(recovery.finish().header.incarnation > used);
}

/// Records that decode and yet cannot be are skipped like damaged ones, and listed.
#[test]
fn salvage_lists_what_it_skips() {
    let (life, _) = written();
    let mut segments = life.segments;
    let last = segments.len() - 1;
    let end = segments[last].1.len();
    let mut body = Vec::new();
    let entry = crate::entry::Entry { forgotten: Stamp::from_parts(T0, 0), ..Default::default() };
    let record = crate::journal::EntryRecord {
        key: crate::entry::Bytes(b""),
        entry: crate::entry::Packed::of(&entry),
    };
    Record::Entry(crate::journal::Origin::Own, record).encode(&mut body);
    append_framed(body[0], &body[1..], &mut segments[last].1);
    let lsn = segments[last].0.first_lsn + count(&segments[last].1) as u64 - 1;
    let expected = Damage::Record { segment: format!("{last}.log"), offset: end, lsn };
    assert_eq!(recover(config(T0 + 8_000, 1, false), &segments).err(), Some(expected.clone()));
    assert_eq!(salvaged(&segments).1, [expected]);
}

/// A segment that ends within its header has no records. They were looked for behind it all the same, which was a
/// panic. Found by fuzzing.
#[test]
fn a_segment_shorter_than_its_header_is_salvaged_as_nothing() {
    let (life, _) = written();
    let last = life.segments.len() - 1;
    for len in 0..HEADER_BYTES {
        let mut segments = life.segments.clone();
        segments[last].1.truncate(len);
        assert_eq!(salvaged(&segments).1.len(), 1, "its first {len} bytes");
    }
}
