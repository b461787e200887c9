//! Records and segment headers under damage: what was written comes back, what was not is refused.
//! The released bytes themselves are pinned in `tests/golden.rs`.

use proptest::prelude::*;

use super::*;

fn framed(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for body in bodies {
        append_framed(body[0], &body[1..], &mut out);
    }
    out
}

/// All bodies up to the end, and what the end was.
fn walk(bytes: &[u8]) -> (Vec<Vec<u8>>, End, usize) {
    let (mut records, mut bodies) = (Records::new(bytes), Vec::new());
    loop {
        match records.next_body() {
            Ok(body) => bodies.push(body.to_vec()),
            Err(end) => return (bodies, end, records.offset()),
        }
    }
}

fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8)
}

fn header() -> SegmentHeader {
    SegmentHeader {
        region: RegionId(3),
        incarnation: Incarnation(9),
        epoch: LogEpoch(2),
        first_lsn: 77,
        created_ms: 1_800_000_000_000,
        cluster: [5; 16],
        boot: u64::MAX,
        synced_first: false,
    }
}

proptest! {
    /// Followed by nothing or by preallocated zeros, every record comes back and the end is clean.
    #[test]
    fn a_walk_gives_back_what_was_framed(bodies in bodies(), zeros in 0usize..20) {
        let mut bytes = framed(&bodies);
        let end = bytes.len();
        bytes.resize(end + zeros, 0);
        prop_assert_eq!(walk(&bytes), (bodies, End::Clean, end));
    }

    /// Cut anywhere: the whole records before the cut, and no part of the one that was cut.
    #[test]
    fn a_cut_leaves_the_exact_prefix(bodies in bodies()) {
        let bytes = framed(&bodies);
        for cut in 0..bytes.len() {
            let (read, end, offset) = walk(&bytes[..cut]);
            prop_assert_eq!(&bodies[..read.len()], &read[..]);
            prop_assert_eq!(offset, framed(&read).len());
            let next_ends = offset + RECORD_HEADER_BYTES + bodies[read.len()].len();
            prop_assert!(offset <= cut && cut < next_ends, "every whole record, and only those");
            prop_assert_eq!(end == End::Clean, cut == offset, "cut at {}", cut);
        }
    }

    /// A flipped bit ends the walk at its record, whose offset is told.
    #[test]
    fn a_flipped_bit_is_found(bodies in bodies(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        prop_assume!(!bodies.is_empty());
        let mut bytes = framed(&bodies);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (read, end, offset) = walk(&bytes);
        prop_assert_eq!(&bodies[..read.len()], &read[..]);
        prop_assert!(offset <= at && at < offset + RECORD_HEADER_BYTES + bodies[read.len()].len());
        prop_assert_eq!(end, End::Broken);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (read, _, offset) = walk(&bytes);
        prop_assert_eq!(framed(&read), &bytes[..offset], "what was accepted is what stands there");
        let _ = Record::decode(&bytes);
        let _ = SegmentHeader::decode(&bytes);
    }

    /// What decodes at all has one encoding from then on.
    #[test]
    fn a_decoded_record_is_encoded_alike(kind in KIND_ENTRY_OWN..KIND_COMPLETE + 1, payload in prop::collection::vec(any::<u8>(), 0..60)) {
        let body = [&[kind], &payload[..]].concat();
        if let Ok(record) = Record::decode(&body) {
            let mut again = Vec::new();
            record.encode(&mut again);
            let read = Record::decode(&again).expect("its own encoding");
            prop_assert_eq!(format!("{record:?}"), format!("{read:?}"));
        }
    }
}

/// S7: an unknown kind is refused with its number, never skipped.
#[test]
fn unknown_kinds_are_refused_by_number() {
    for kind in (0..=u8::MAX).filter(|kind| !(KIND_ENTRY_OWN..=KIND_HOME).contains(kind)) {
        assert_eq!(Record::decode(&[kind, 1, 2, 3]).err(), Some(MalformedRecord::Kind(kind)));
        assert_eq!(
            MalformedRecord::Kind(kind).to_string(),
            format!("record kind {kind} is unknown to this version")
        );
        assert_eq!(streamed(&[kind]), None);
    }
    assert_eq!(Record::decode(&[]).err(), Some(MalformedRecord::Payload));
    assert_eq!(
        Record::decode(&[KIND_STOP, 0]).err(),
        Some(MalformedRecord::Payload),
        "a stop without its tag"
    );
}

/// Cursors, ceilings, stops and marks are a region's own affair.
#[test]
fn only_entries_and_conflicts_travel() {
    let travels = [
        (KIND_ENTRY_OWN, Some(Origin::Own)),
        (KIND_ENTRY_MERGED, Some(Origin::Merged)),
        (KIND_CONFLICT_OWN, Some(Origin::Own)),
        (KIND_CONFLICT_MERGED, Some(Origin::Merged)),
        (KIND_CONFLICT_FLAGGED, Some(Origin::Own)),
        (KIND_CURSOR, None),
        (KIND_CEILING, None),
        (KIND_STOP, None),
        (KIND_SYNCED, None),
        (KIND_COMPLETE, None),
    ];
    for (kind, expected) in travels {
        assert_eq!(streamed(&[kind, 0]), expected, "kind {kind}");
    }
    assert_eq!(streamed(&[KIND_CONFLICT_FLAGGED, 1 | 8]), Some(Origin::Merged));
    assert_eq!(streamed(&[KIND_CONFLICT_FLAGGED]), Some(Origin::Own), "no flags: refused when it is decoded");
    assert_eq!(streamed(&[]), None);
}

/// A length beyond the bound is damage, however many bytes follow.
#[test]
fn a_length_beyond_the_bound_is_broken() {
    let body = vec![7u8; limits::RECORD_BYTES_MAX + 1];
    let too_long = framed(std::slice::from_ref(&body));
    assert_eq!(walk(&too_long).1, End::Broken);
    let longest = framed(&[body[1..].to_vec()]);
    assert_eq!(walk(&longest).0.len(), 1);
}

/// Zeros end a segment; a length of zero before anything else is damage.
#[test]
fn a_zero_length_with_something_behind_it_is_broken() {
    let mut bytes = framed(&[vec![1, 2, 3]]);
    let end = bytes.len();
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(walk(&bytes), (vec![vec![1, 2, 3]], End::Broken, end));
    bytes.truncate(end + 3);
    assert_eq!(walk(&bytes).1, End::Clean);
    bytes[end + 2] = 9;
    assert_eq!(walk(&bytes).1, End::Broken);
}

#[test]
fn any_flipped_bit_of_a_header_is_refused() {
    let bytes = header().encode();
    assert_eq!(SegmentHeader::decode(&bytes), Ok(header()));
    for header in [header(), SegmentHeader { synced_first: true, ..header() }] {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        let in_manifest = postcard::to_stdvec(&header).expect("memory");
        assert_eq!(postcard::from_bytes(&in_manifest), Ok(header), "as a manifest holds it");
    }
    for at in 0..HEADER_BYTES * 8 {
        let mut flipped = bytes;
        flipped[at / 8] ^= 1 << (at % 8);
        let expected = match at / 8 {
            0..8 => MalformedHeader::Magic,
            // One flipped bit of the version is damage: nobody's newer onced has written this.
            _ => MalformedHeader::Checksum,
        };
        assert_eq!(SegmentHeader::decode(&flipped), Err(expected), "bit {at}");
    }
}

/// Another version's header is named as that, whatever else stands in it: it is not damaged.
#[test]
fn another_versions_header_is_named_as_that() {
    for version in (0..=u16::MAX).filter(|version| *version != FORMAT_VERSION) {
        let mut bytes = header().encode();
        bytes[8..10].copy_from_slice(&version.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(MalformedHeader::Version { found: version }));
    }
}

/// Flags that this version does not know were passed over, and lost when the header was written again. Found by the
/// fuzzer.
#[test]
fn unknown_flags_of_a_header_are_refused() {
    for flag in 1..16 {
        let mut bytes = header().encode();
        bytes[34 + flag / 8] |= 1 << (flag % 8);
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        let found = 1 << flag | u16::from(header().synced_first);
        let refused = SegmentHeader::decode(&bytes).expect_err("unknown");
        assert_eq!(refused, MalformedHeader::Flags { found });
        assert!(refused.is_of_another_version());
    }
}
