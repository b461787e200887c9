//! What was read is what is written again: a manifest or a run in which anything else stands was not written by this
//! version, whatever its checksum says.

use crate::ids::{Cursor, Incarnation, RegionId};
use crate::snapshot::{Group, MalformedManifest, Manifest, RUN_HEADER_BYTES, RunHeader, RunTable};

/// Writes the checksum of all before it to the end of `bytes`.
fn seal(bytes: &mut [u8]) {
    let end = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
}

/// Bytes that this version leaves empty were not looked at, nor the order of maps. Found by fuzzing.
#[test]
fn a_manifest_is_read_only_as_it_is_written() {
    let mut manifest = Manifest { region: RegionId(1), next_run: 1, ..Manifest::default() };
    manifest.meta.cursors = [1u16, 2].map(|peer| (RegionId(peer), Cursor::default())).into();
    let good = manifest.encode();
    assert_eq!(Manifest::decode(&good), Ok(manifest));
    for at in [10, 11] {
        let mut bytes = good.clone();
        bytes[at] = 1;
        seal(&mut bytes);
        assert_eq!(Manifest::decode(&bytes), Err(MalformedManifest::Encoding), "byte {at}");
    }
    // The two cursors, each a region and three numbers, in the other order.
    let pair = [2, 1, 0, 0, 0, 2, 0, 0, 0];
    let at = good.windows(pair.len()).position(|window| window == pair).expect("the map of cursors");
    let mut bytes = good;
    bytes.swap(at + 1, at + 5);
    seal(&mut bytes);
    assert_eq!(Manifest::decode(&bytes), Err(MalformedManifest::Encoding));
}

/// The same of runs.
#[test]
fn a_run_is_read_only_as_it_is_written() {
    let header = RunHeader {
        region: RegionId(1),
        incarnation: Incarnation(1),
        number: 1,
        created_ms: 1,
        cluster: [7; 16],
        shards: 4,
        class: 2,
    };
    let good = header.encode();
    assert_eq!(RunHeader::decode(&good), Ok(header));
    for at in 53..60 {
        let mut bytes = good;
        bytes[at] = 1;
        seal(&mut bytes);
        assert!(RunHeader::decode(&bytes).is_err(), "byte {at}");
    }
    let offset = RUN_HEADER_BYTES as u64 + 9;
    let group = Group { shard: 1, crc: 2, offset: RUN_HEADER_BYTES as u64, len: 9, states: 1 };
    let table = RunTable { groups: vec![group], dies_at_ms: 3, states: 1 };
    let good = table.encode(offset);
    assert_eq!(RunTable::decode(&good, offset), Some(table));
    // Behind the line's states, and where the trailer says that the table begins.
    for at in (28..32).chain(32..40) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        seal(&mut bytes);
        assert_eq!(RunTable::decode(&bytes, offset), None, "byte {at}");
    }
}
