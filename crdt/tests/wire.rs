//! Frames from untrusted peers (S7): refused or within every bound, never a panic. The released bytes
//! themselves are pinned in `golden.rs`.

use crdt::entry::Bytes;
use crdt::hash::ClusterKeys;
use crdt::hlc::Stamp;
use crdt::ids::{ClaimId, Cursor, Incarnation, LogEpoch, RegionId};
use crdt::limits;
use crdt::token::Token;
use crdt::wire::{Bodies, Errand, Frame, Hello, MalformedFrame, WIRE_VERSION, push_body};
use proptest::prelude::*;

fn cursors() -> impl Strategy<Value = Cursor> {
    (any::<u32>(), any::<u32>(), any::<u64>()).prop_map(|(incarnation, epoch, lsn)| Cursor {
        incarnation: Incarnation(incarnation),
        epoch: LogEpoch(epoch),
        lsn,
    })
}

fn bodies_of(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    bodies.iter().for_each(|body| push_body(body, &mut out));
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn frames_come_back(
        prev in cursors(),
        last in cursors(),
        have in prop::option::of(cursors()),
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..9),
        numbers in any::<(u64, u64, u16, bool)>(),
        name in "[a-z0-9-]{0,64}",
        regions in prop::collection::btree_set(any::<u16>(), 0..64),
    ) {
        let (at_ms, tip, region, resend) = numbers;
        let packed = bodies_of(&bodies);
        let members: Vec<u8> = regions.iter().flat_map(|region| region.to_le_bytes()).collect();
        let hello = Hello {
            cluster: [7; 16],
            region: RegionId(region),
            name: &name,
            incarnation: prev.incarnation,
            epoch: prev.epoch,
            membership: at_ms,
            have,
            tip,
            newest_of_yours: Stamp::from_bits(at_ms),
            epoch_first: prev.lsn,
            torn: resend,
            incomplete: !resend,
            began_ms: tip,
            latest_of_yours: (last.incarnation, last.epoch, at_ms),
            members: Bytes(&members),
        };
        for frame in [
            Frame::Hello(hello),
            Frame::Records { prev, last, left: 7, bodies: Bytes(&packed) },
            Frame::Ack { upto: last, resend },
            Frame::Ping { at_ms, sent: last, incomplete: resend },
            Frame::Pong { ping_at_ms: at_ms, at_ms: tip },
            Frame::Membership { epoch: tip, members: Bytes(&members) },
        ] {
            let bytes = frame.encode();
            prop_assert_eq!(Frame::decode(&bytes), Ok(frame));
            for version in (0..=u8::MAX).filter(|version| *version != WIRE_VERSION) {
                let other = [&[version], &bytes[1..]].concat();
                prop_assert_eq!(Frame::decode(&other), Err(MalformedFrame::Version(version)));
            }
        }
        prop_assert!(Bodies::new(Bytes(&packed)).eq(bodies.iter().map(Vec::as_slice)));
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_within_bounds(
        version in prop_oneof![4 => Just(WIRE_VERSION), 1 => any::<u8>()],
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [&[version], &payload[..]].concat();
        if let Ok(frame) = Frame::decode(&bytes) {
            prop_assert_eq!(version, WIRE_VERSION);
            let again = frame.encode();
            prop_assert_eq!(&Frame::decode(&again), &Ok(frame.clone()));
            if let Frame::Records { bodies, .. } = frame {
                let read: Vec<Vec<u8>> = Bodies::new(bodies).map(<[u8]>::to_vec).collect();
                prop_assert_eq!(bodies_of(&read), bodies.0, "no byte of an accepted frame is passed over");
            }
        }
    }
}

fn records(bodies: &[u8]) -> Vec<u8> {
    Frame::Records { prev: Cursor::default(), last: Cursor::default(), left: 0, bodies: Bytes(bodies) }
        .encode()
}

#[test]
fn unknown_variants_are_refused() {
    // From 128 on it is a number of two bytes.
    for variant in 18..128 {
        assert_eq!(Frame::decode(&[WIRE_VERSION, variant, 0, 0, 0, 0]), Err(MalformedFrame::Encoding));
    }
    assert_eq!(Frame::decode(&[]), Err(MalformedFrame::Encoding));
}

fn forward(errand: Errand<'_>) -> Vec<u8> {
    Frame::Forward { number: 1, epoch: 1, errand }.encode()
}

/// A request whose parts are longer than any service's may be ends the link, whatever the policies say.
#[test]
fn requests_beyond_their_bounds_are_refused() {
    let claim = |key: usize, claimant: usize, note: usize| {
        let (key, claimant, note) = (vec![1; key], vec![2; claimant], vec![3; note]);
        forward(Errand::Claim {
            key: Bytes(&key),
            fingerprint: None,
            claimant: Bytes(&claimant),
            note: Bytes(&note),
            lease_ms: None,
            retention_ms: None,
            durable: false,
        })
    };
    let most = (limits::KEY_BYTES_MAX, limits::CLAIMANT_BYTES_MAX, limits::NOTE_BYTES_MAX);
    assert!(Frame::decode(&claim(most.0, most.1, most.2)).is_ok());
    let bad = Err(MalformedFrame::Errand);
    for (key, claimant, note) in [(0, 0, 0), (most.0 + 1, 0, 0), (1, most.1 + 1, 0), (1, 0, most.2 + 1)] {
        assert_eq!(Frame::decode(&claim(key, claimant, note)), bad, "{key} {claimant} {note}");
    }
    let keys = ClusterKeys { hash: [1; 16], tag: [2; 16] };
    let token = Token::issue(&keys, b"k", ClaimId::default(), None, 5);
    let complete = |bytes: usize| {
        let outcome = vec![7; bytes];
        let outcome = Bytes(&outcome);
        forward(Errand::Complete { key: Bytes(b"k"), token, outcome, durable: true })
    };
    assert!(Frame::decode(&complete(limits::OUTCOME_BYTES_MAX)).is_ok());
    assert_eq!(Frame::decode(&complete(limits::OUTCOME_BYTES_MAX + 1)), bad);
    // A token is of one length, and says whether it has a fingerprint with 0 or 1.
    let good = forward(Errand::Release { key: Bytes(b"k"), token, durable: false });
    let at = good.windows(2).position(|pair| pair == [53, 0]).expect("the token's length");
    for (byte, wrong) in [(at, 52), (at + 21, 2)] {
        let mut bytes = good.clone();
        bytes[byte] = wrong;
        assert_eq!(Frame::decode(&bytes), Err(MalformedFrame::Encoding), "byte {byte}");
    }
}

#[test]
fn bodies_beyond_their_bounds_are_refused() {
    let of = |count: usize| bodies_of(&vec![vec![1]; count]);
    assert!(Frame::decode(&records(&of(limits::FRAME_RECORDS_MAX))).is_ok());
    let bad = Err(MalformedFrame::Bodies);
    assert_eq!(Frame::decode(&records(&of(limits::FRAME_RECORDS_MAX + 1))), bad, "one record too many");
    assert_eq!(Frame::decode(&records(&bodies_of(&[vec![]]))), bad, "a record is never empty");
    let mut short = bodies_of(&[vec![1, 2, 3]]);
    for len in 1..short.len() {
        assert_eq!(Frame::decode(&records(&short[..len])), bad, "cut at {len}");
    }
    short.push(0);
    assert_eq!(Frame::decode(&records(&short)), bad, "a byte after the last record");
    let huge = bodies_of(&[vec![1; limits::RECORD_BYTES_MAX]]);
    assert!(Frame::decode(&records(&huge)).is_ok());
    let over = bodies_of(&[vec![1; limits::RECORD_BYTES_MAX + 1]]);
    assert_eq!(Frame::decode(&records(&over)), bad);
    let long = vec![WIRE_VERSION; limits::FRAME_BYTES_MAX + 1];
    assert_eq!(Frame::decode(&long), Err(MalformedFrame::TooLong(limits::FRAME_BYTES_MAX + 1)));
}

#[test]
fn a_name_beyond_its_bound_is_refused() {
    let hello = |name| {
        Frame::Hello(Hello {
            cluster: [7; 16],
            region: RegionId(1),
            name,
            incarnation: Incarnation(1),
            epoch: LogEpoch(1),
            membership: 0,
            have: None,
            tip: 0,
            newest_of_yours: Stamp::ZERO,
            epoch_first: 1,
            torn: false,
            incomplete: false,
            began_ms: 0,
            latest_of_yours: Default::default(),
            members: Bytes(&[]),
        })
        .encode()
    };
    let name = "n".repeat(limits::NAME_BYTES_MAX + 1);
    assert!(Frame::decode(&hello(&name[1..])).is_ok());
    assert_eq!(Frame::decode(&hello(&name)), Err(MalformedFrame::Name(limits::NAME_BYTES_MAX + 1)));
}
