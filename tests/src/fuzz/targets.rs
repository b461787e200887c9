//! One function a format: any bytes in, a panic where a promise is broken.
//!
//! Of bytes that are accepted, what they were accepted *as* is encoded again: never longer, and of the same length only
//! if it is the same bytes (a varint may be padded; nothing else may be said in two ways). What is then decoded once
//! more must be the very same.

use crdt::entry::{Bytes, Entry, Packed};
use crdt::hash::ClusterKeys;
use crdt::hlc::Stamp;
use crdt::ids::{Incarnation, RegionId};
use crdt::journal::{
    HEADER_BYTES, MalformedRecord, MarkTag, Record, Records, SegmentHeader, synced_evidence,
};
use crdt::policy::Policies;
use crdt::recovery::{Damage, Loaded, Recovery, RecoveryConfig};
use crdt::snapshot::{Manifest, RUN_HEADER_BYTES, RUN_TRAILER_BYTES, RunHeader, RunTable};
use crdt::store::{Scratch, Store, StoreConfig};
use crdt::wire::stream::{self, Author, Packer};
use crdt::wire::{Bodies, Frame};

use super::folder::T0;
use super::seen;

/// What a store may take for each byte it was sent, and for anything at all.
const MEMORY_TIMES: usize = 32;
const MEMORY_BASE: usize = 1 << 20;

/// A record's body.
pub fn record(body: &[u8]) -> u64 {
    let record = match Record::decode(body) {
        Ok(record) => record,
        Err(MalformedRecord::Kind(kind)) => return seen(&[1, u64::from(kind)]),
        Err(MalformedRecord::Payload) => return seen(&[2, body.first().copied().map_or(0, u64::from)]),
    };
    let mut again = Vec::new();
    record.encode(&mut again);
    check_again(body, &again);
    let mut third = Vec::new();
    Record::decode(&again).expect("what was written is read").encode(&mut third);
    assert_eq!(again, third, "it was read as something else");
    let Record::Entry(_, entry) = &record else { return seen(&[3, u64::from(body[0])]) };
    let form = match &entry.entry {
        Packed::Claim(_) => 0,
        Packed::Settled(..) => 1,
        Packed::General(_) => 2,
        Packed::Completed(_) => 3,
    };
    match entry.entry.unpack() {
        Ok(entry) => {
            let counts = [entry.attempts.len() as u64, entry.outcomes.len() as u64];
            check_entry(&entry);
            seen(&[4, form, counts[0], counts[1]])
        }
        Err(error) => seen(&[5, form, error as u64]),
    }
}

/// An entry that was accepted packs into bytes that unpack to it.
fn check_entry(entry: &Entry<'_>) {
    let packed = Packed::of(entry);
    let mut bytes = Vec::new();
    let key = Bytes(b"k");
    Record::Entry(crdt::journal::Origin::Own, crdt::journal::EntryRecord { key, entry: packed })
        .encode(&mut bytes);
    let Ok(Record::Entry(_, read)) = Record::decode(&bytes) else { panic!("what was packed is read") };
    assert_eq!(read.entry.unpack().as_ref(), Ok(entry), "it was packed as something else");
}

/// A frame of a peer, and the merge of its records.
pub fn frame(bytes: &[u8]) -> u64 {
    let frame = match Frame::decode(bytes) {
        Ok(frame) => frame,
        Err(error) => return seen(&[1, discriminant(&error)]),
    };
    let again = frame.encode();
    check_again(bytes, &again);
    assert_eq!(Frame::decode(&again).as_ref(), Ok(&frame), "it was read as something else");
    let Frame::Records { last, bodies, .. } = frame else { return seen(&[2, u64::from(bytes[1])]) };
    let author = Author { region: RegionId(2), incarnation: last.incarnation };
    let Ok(unpacked) = stream::unpack(author, bodies) else { return seen(&[4]) };
    let saved_max = Bodies::new(bodies).count() * crdt::limits::BRIEF_SAVES_BYTES_MAX;
    assert!(
        unpacked.len() <= bodies.0.len() + saved_max,
        "{} bytes became {}",
        bodies.0.len(),
        unpacked.len()
    );
    let (mut packer, mut packed) = (Packer::new(author), Vec::new());
    Bodies::new(Bytes(&unpacked)).for_each(|body| packer.push(body, &mut packed));
    assert_eq!(
        stream::unpack(author, Bytes(&packed)).as_ref(),
        Ok(&unpacked),
        "it was told as something else"
    );
    let bodies = Bodies::new(Bytes(&unpacked));
    let kinds = bodies.clone().take(3).map(record).fold(0, |kinds, kind| seen(&[kinds, kind]));
    let count = bodies.clone().count();
    assert!(count <= crdt::limits::FRAME_RECORDS_MAX);
    let store = Store::new(store_config(RegionId(1)), Policies::default(), Stamp::ZERO, 1);
    let merged = store.merge(bodies, RegionId(2), T0, &mut Scratch::default());
    let bound = MEMORY_BASE + MEMORY_TIMES * bytes.len();
    assert!(store.memory_bytes() <= bound, "{} bytes for a frame of {}", store.memory_bytes(), bytes.len());
    if merged.is_err() {
        assert_eq!((store.keys(), store.conflict_count()), (0, 0), "a refused frame has changed something");
    }
    let merged = merged.map_or_else(|error| discriminant(&error), |merged| 16 + bounded(merged.applied));
    store.digest(T0);
    seen(&[3, bounded(count), merged, kinds])
}

/// A segment: header, records, and a start from it alone.
pub fn segment(bytes: &[u8]) -> u64 {
    let header = match SegmentHeader::decode(bytes) {
        Ok(header) => header,
        Err(error) => return seen(&[1, discriminant(&error)]),
    };
    assert_eq!(header.encode(), bytes[..HEADER_BYTES], "a header was read as something else");
    let mut records = Records::new(&bytes[HEADER_BYTES..]);
    let mut kinds = 0;
    while let Ok(body) = records.next_body() {
        kinds |= 1u64 << (body[0] & 31);
        record(body);
    }
    assert!(records.offset() <= bytes.len() - HEADER_BYTES);
    let tag = MarkTag::new(&store_config(header.region).keys);
    let evidence = synced_evidence(bytes, Some(tag));
    let mut outcomes = [0; 2];
    for (salvage, outcome) in [false, true].into_iter().zip(&mut outcomes) {
        for boot in [header.boot, header.boot ^ 1] {
            let mut recovery = Recovery::new(recovery_config(header.region, header.cluster, boot, salvage));
            let report = recovery.segment("it", bytes, &[], || 0);
            *outcome = *outcome * 3
                + report.as_ref().map_or_else(damage, |report| 16 + u64::from(report.torn_bytes > 0));
            if let Ok(report) = report {
                assert!(report.end <= bytes.len() && report.end + report.torn_bytes <= bytes.len());
                let finished = recovery.finish();
                finished.store.digest(T0);
            }
        }
    }
    seen(&[2, kinds, u64::from(evidence > 0), outcomes[0], outcomes[1]])
}

/// A manifest.
pub fn manifest(bytes: &[u8]) -> u64 {
    let manifest = match Manifest::decode(bytes) {
        Ok(manifest) => manifest,
        Err(error) => return seen(&[1, discriminant(&error)]),
    };
    let again = manifest.encode();
    check_again(bytes, &again);
    assert_eq!(Manifest::decode(&again).as_ref(), Ok(&manifest), "it was read as something else");
    let mut recovery = Recovery::new(recovery_config(manifest.region, manifest.cluster, 1, false));
    let adopted = recovery.manifest("it", bytes).is_ok();
    assert!(adopted, "its own region refuses it");
    let finished = recovery.finish();
    finished.store.digest(T0);
    seen(&[
        2,
        bounded(manifest.runs.len()),
        bounded(manifest.meta.cursors.len()),
        u64::from(manifest.over.0 > 0),
    ])
}

/// A run: header, table, and loading its groups.
pub fn run(bytes: &[u8]) -> u64 {
    let header = match RunHeader::decode(bytes) {
        Ok(header) => header,
        Err(error) => return seen(&[1, discriminant(&error)]),
    };
    assert_eq!(header.encode(), bytes[..RUN_HEADER_BYTES], "a header was read as something else");
    let trailer = &bytes[bytes.len().saturating_sub(RUN_TRAILER_BYTES)..];
    let Some(offset) = RunTable::offset(trailer, bytes.len() as u64) else { return seen(&[2]) };
    let table_bytes = &bytes[offset as usize..];
    let Some(table) = RunTable::decode(table_bytes, offset) else { return seen(&[3]) };
    assert!(table.encode(offset) == table_bytes, "a table was read as something else");
    let config = recovery_config(header.region, header.cluster, 1, false);
    let mut recovery = Recovery::new(config);
    recovery.check_run(&header.file_name(), &header).expect("its own region takes it");
    let (mut loaded, mut good, mut bad) = (Loaded::default(), 0, 0);
    for group in &table.groups {
        let content = &bytes[group.offset as usize..(group.offset + group.len) as usize];
        match recovery.load_group("it", &header, group, content, &mut loaded) {
            Ok(()) => good += 1,
            Err(_) => bad += 1,
        }
    }
    recovery.absorb(loaded);
    let (memory, keys) = (recovery.store().memory_bytes(), recovery.store().keys());
    assert!(
        memory <= MEMORY_BASE + MEMORY_TIMES * bytes.len(),
        "{memory} bytes for a run of {}",
        bytes.len()
    );
    recovery.finish().store.digest(T0);
    seen(&[4, bounded(good), bounded(bad), bounded(keys)])
}

/// See the module's text.
fn check_again(bytes: &[u8], again: &[u8]) {
    assert!(again.len() <= bytes.len(), "{} bytes were read as {}", bytes.len(), again.len());
    assert!(again.len() < bytes.len() || again == bytes, "bytes were read as other bytes: {again:02x?}");
}

/// Enough to tell few from many.
fn bounded(count: usize) -> u64 {
    if count < 8 { count as u64 } else { u64::from(count.ilog2()) + 8 }
}

/// Of an error: its text's first words do not depend on its values.
fn discriminant(error: &impl std::fmt::Debug) -> u64 {
    let text = format!("{error:?}");
    let word: Vec<u64> = text.bytes().take_while(u8::is_ascii_alphanumeric).map(u64::from).collect();
    seen(&word) >> 1
}

fn damage(damage: &Damage) -> u64 {
    discriminant(damage)
}

pub(super) fn store_config(region: RegionId) -> StoreConfig {
    StoreConfig {
        region,
        incarnation: Incarnation::default(),
        keys: ClusterKeys { hash: [1; 16], tag: [2; 16] },
        max_drift_ms: 0,
        shards: 4,
        max_memory_bytes: 256 << 20,
        ring_bytes_max: 4096,
    }
}

pub(super) fn recovery_config(
    region: RegionId,
    cluster: [u8; 16],
    boot: u64,
    salvage: bool,
) -> RecoveryConfig {
    RecoveryConfig {
        store: store_config(region),
        policies: Policies::default(),
        cluster,
        boot,
        acknowledged_unsynced: true,
        wall_ms: T0,
        salvage,
        keys_hint: 0,
    }
}
