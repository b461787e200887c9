//! Runs, manifests and classes on their own, and when a run may go.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::folder::open_run;
use super::region::{CLUSTER, Region, T0, config};
use super::rot::settled_digest;
use crate::ids::RegionId;
use crate::journal::{MalformedHeader, Record};
use crate::limits;
use crate::policy::Durable;
use crate::recovery::Damage;
use crate::request::{Claim, Request};
use crate::snapshot::run::push_state;
use crate::snapshot::{
    CLASSES, MANIFEST_VERSION, MalformedManifest, Manifest, Merging, RUN_VERSION, RunEntry, RunHeader,
    RunTable, RunWriter, States, class_of,
};
use crate::store::{Ran, Scratch, Store};

fn header(class: u8) -> RunHeader {
    let (region, cluster) = (RegionId(1), CLUSTER);
    RunHeader { region, number: 7, created_ms: T0, cluster, shards: 4, class, ..RunHeader::default() }
}

proptest! {
    /// What was put in is what comes out, group by group, and any other bytes are no run.
    #[test]
    fn runs_come_back(groups in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5), 0..6)) {
        let mut writer = RunWriter::new(header(3));
        let mut bytes = header(3).encode().to_vec();
        for (shard, states) in groups.iter().enumerate() {
            let mut group = Vec::new();
            states.iter().for_each(|state| push_state(state, &mut group));
            writer.group(2 * shard as u32, &group, states.len() as u32, T0 + shard as u64);
            bytes.extend_from_slice(&group);
        }
        let (end, size) = writer.finish();
        bytes.extend_from_slice(&end);
        prop_assert_eq!(bytes.len() as u64, size);
        let (read, table) = open_run("a run", &bytes).expect("whole");
        prop_assert_eq!(read, header(3));
        prop_assert_eq!(&table, writer.table());
        for (group, states) in table.groups.iter().zip(&groups) {
            let held = &bytes[group.offset as usize..(group.offset + group.len) as usize];
            prop_assert!(group.matches(held) && !group.matches(&held[1..]));
            let read: Vec<&[u8]> = States::new(held).map(|state| state.expect("whole")).collect();
            prop_assert!(read.iter().eq(states));
        }
        prop_assert_eq!(table.states as usize, groups.iter().map(Vec::len).sum::<usize>());
        for upto in 0..bytes.len() {
            prop_assert!(open_run("a run", &bytes[..upto]).is_err(), "cut at {}", upto);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), offset: u64) {
        let _ = RunHeader::decode(&bytes);
        let _ = RunTable::offset(&bytes, bytes.len() as u64);
        let _ = RunTable::decode(&bytes, offset);
        let _ = Manifest::decode(&bytes);
        let mut walked = 0;
        for state in States::new(&bytes) {
            match state {
                Ok(state) => walked += 4 + state.len(),
                Err(at) => {
                    prop_assert_eq!(at, walked);
                    break;
                }
            }
        }
        prop_assert!(walked <= bytes.len());
    }

    /// A class holds what lives at most four times as long, and none of them less than a lower one.
    #[test]
    fn classes_are_of_one_order_of_lifetime(wall_ms in 0u64..1 << 45, lives_ms in 0u64..limits::RETENTION_MS_MAX) {
        let class = class_of(wall_ms + lives_ms, wall_ms);
        prop_assert!((class as usize) < CLASSES);
        let minutes = lives_ms / 60_000;
        let from = if class == 0 { 0 } else { 1 << (2 * (class - 1)) };
        prop_assert!(minutes >= from && (minutes < from.max(1) * 4 || minutes == 0), "{} min in {}", minutes, class);
        prop_assert!(class_of(wall_ms + 2 * lives_ms, wall_ms) >= class);
    }
}

/// A class is bounded above too: what has died, or lives for ever, has one.
#[test]
fn every_lifetime_has_a_class() {
    assert_eq!((class_of(0, T0), class_of(T0 + 59_999, T0), class_of(T0 + 60_000, T0)), (0, 0, 1));
    assert_eq!(class_of(u64::MAX, T0) as usize, CLASSES - 1);
}

/// A run of another version, or of a damaged one, is told apart.
#[test]
fn the_header_of_a_run_names_its_version() {
    for version in (0..=u16::MAX).filter(|version| *version != RUN_VERSION) {
        let mut bytes = header(1).encode();
        bytes[8..10].copy_from_slice(&version.to_le_bytes());
        assert_eq!(
            RunHeader::decode(&bytes),
            Err(MalformedHeader::Checksum),
            "what sums up as ours is a flipped bit"
        );
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(RunHeader::decode(&bytes), Err(MalformedHeader::Version { found: version }));
    }
}

fn entry(number: u64, class: u8, bytes: u64) -> RunEntry {
    RunEntry { number, class, bytes, states: 1, dies_at_ms: T0 }
}

#[test]
fn a_manifest_comes_back_and_nothing_else_passes_for_one() {
    let runs = vec![entry(3, 0, 100), entry(4, 9, 200)];
    let manifest =
        Manifest { region: RegionId(1), cluster: CLUSTER, runs, next_run: 5, ..Manifest::default() };
    let bytes = manifest.encode();
    assert_eq!(Manifest::decode(&bytes), Ok(manifest.clone()));
    assert_eq!((manifest.covers(), manifest.run_bytes()), (0, 300));
    for upto in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..upto]).is_err());
    }
    assert!(Manifest::decode(&[&bytes[..], &[0]].concat()).is_err());
    let again = |runs: Vec<RunEntry>, next_run| Manifest { runs, next_run, ..manifest.clone() }.encode();
    let encoding = Err(MalformedManifest::Encoding);
    assert_eq!(Manifest::decode(&again(vec![entry(4, 0, 1), entry(3, 0, 1)], 5)), encoding, "out of order");
    assert_eq!(Manifest::decode(&again(vec![entry(3, 0, 1), entry(3, 0, 1)], 5)), encoding, "twice");
    assert_eq!(
        Manifest::decode(&again(vec![entry(3, 0, 1)], 3)),
        encoding,
        "the next would be written over it"
    );
    let mut newer = bytes.clone();
    newer[8..10].copy_from_slice(&(MANIFEST_VERSION + 1).to_le_bytes());
    assert_eq!(Manifest::decode(&newer), Err(MalformedManifest::Checksum), "a flipped bit");
    let end = newer.len() - 4;
    let crc = crc32c::crc32c(&newer[..end]);
    newer[end..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Manifest::decode(&newer), Err(MalformedManifest::Version { found: MANIFEST_VERSION + 1 }));
}

/// Sixteen small runs of one class become one; large ones are never written again.
#[test]
fn only_many_small_runs_of_one_class_are_merged() {
    let small = |number, class| entry(number, class, limits::RUN_SMALL_BYTES - 1);
    let plan =
        |runs: Vec<RunEntry>| Merging::plan(&Manifest { runs, next_run: 1_000, ..Manifest::default() });
    let count = limits::RUNS_MERGED_AT_ONCE as u64;
    assert_eq!(plan((1..count).map(|number| small(number, 2)).collect()), None);
    assert_eq!(plan((1..=4 * count).map(|number| small(number, (number % 5) as u8)).collect()), None);
    let planned = plan((1..=3 * count).map(|number| small(number, (number % 2) as u8)).collect());
    let planned = planned.expect("24 of each");
    assert_eq!(planned.len() as u64, count);
    assert!(
        planned.iter().all(|run| run.class == planned[0].class) && planned[0].number <= 2,
        "oldest first"
    );
    let large = |number| entry(number, 2, limits::RUN_SMALL_BYTES);
    assert_eq!(plan((1..=3 * count).map(large).collect()), None);
}

fn claim(store: &Store, key: &str, retention_ms: u64, wall_ms: u64) {
    let claim = Claim { key: key.as_bytes(), retention_ms: Some(retention_ms), ..Claim::default() };
    let ran = store.run(&Request::Claim(claim), wall_ms, None, &mut Scratch::default(), |reply| {
        assert_eq!(reply.status(), "GRANTED", "{key}");
    });
    assert!(matches!(ran, Ok(Ran::Replied(_))));
}

/// Runs that were written with another number of shards are merged, conflicts with conflicts and keys with keys.
/// The conflicts of one stood where keys of the other did, and the run was damaged. Found by review.
#[test]
fn runs_of_other_shard_counts_are_merged() {
    for seed in 0..6 {
        let mut region = Region::new(seed);
        let (digest, conflicts) = loop {
            (0..30).for_each(|_| region.operate());
            region.pass(40);
            region.hear();
            if region.store.conflict_count() > 2 {
                region.rotate();
                let config = region.config();
                region.folder.cover(&region.store, &config, region.folder.segments.len() - 1, region.wall_ms);
                region.dice.0 = region.dice.0.wrapping_add(seed);
                region.restart();
                region.pass(4_000);
            }
            let shards = |bytes: &Vec<u8>| RunHeader::decode(bytes).expect("whole").shards;
            let counts: BTreeSet<u32> = region.folder.runs.values().map(shards).collect();
            if counts.len() > 2 {
                region.flush();
                region.sweep();
                break (region.store.digest(region.wall_ms), region.store.conflict_count());
            }
        };
        let runs = region.folder.manifest(&region.config()).runs;
        // All of them, whatever their class: the driver merges those of one.
        region.folder.merge(&region.config(), &runs);
        assert_eq!(region.folder.manifest(&region.config()).runs.len(), 1);
        assert_eq!(region.folder.runs.len(), 1);
        let back = region.folder.load(region.config(), 3).expect("one whole run");
        let store = back.recovery.finish().store;
        assert_eq!(settled_digest(&store, region.wall_ms), digest);
        let _ = store.sweep(0, region.wall_ms);
        assert_eq!(store.conflict_count(), conflicts);
    }
}

/// A run that has come under another run's name is not that run.
#[test]
fn a_run_under_another_name_is_refused() {
    let mut region = Region::new(3);
    for wave in 0..2 {
        claim(&region.store, &format!("k:{wave}"), 20_000, region.wall_ms);
        region.rotate();
        let config = region.config();
        region.folder.cover(&region.store, &config, region.folder.segments.len() - 1, region.wall_ms);
    }
    let names: Vec<String> = region.folder.runs.keys().cloned().collect();
    assert_eq!(names.len(), 2);
    let other = region.folder.runs[&names[0]].clone();
    region.folder.runs.insert(names[1].clone(), other);
    let damage = region.folder.load(region.config(), 1).expect_err("the first run twice");
    assert_eq!(damage, Damage::Run { run: names[1].clone(), offset: 0 });
}

/// S3: a part that is past its expiry still counts beside a living one. A late delta of a peer gave a dead key, which
/// was still in memory, such a part: it stood in the log alone, and the run with the rest was deleted. After the next
/// start the key was another one. Found by review.
#[test]
fn a_run_outlives_what_a_late_delta_may_still_join() {
    let mut region = Region::new(5);
    let before = region.folder.segments.len();
    claim(&region.store, "k", 2_000, region.wall_ms);
    let claimed_ms = region.wall_ms;
    // Cut off from us, a peer claims the same key for longer.
    let peer = Store::new(
        crate::store::StoreConfig { region: RegionId(9), ..config(T0, 1, 4).store },
        super::region::policies(),
        crate::hlc::Stamp::ZERO,
        1,
    );
    let _ = peer.extend_ceiling(claimed_ms);
    let mark = |store: &Store| {
        let batch = store.tail().take(Vec::new()).expect("something was decided");
        let bytes = batch.bytes.clone();
        store.tail().mark_written(batch);
        store.tail().mark_synced(store.tail().written());
        store.settle_ceiling();
        bytes
    };
    let _ = mark(&peer);
    claim(&peer, "k", 400_000, claimed_ms + 1);
    let log = mark(&peer);
    let mut records = crate::journal::Records::new(&log);
    let late =
        std::iter::from_fn(|| records.next_body().ok()).find(|body| crate::journal::streamed(body).is_some());
    region.rotate();
    region.folder.cover(&region.store, &region.config(), before, region.wall_ms);
    let dies_ms = region.folder.manifest(&region.config()).runs[0].dies_at_ms;
    while region.wall_ms <= dies_ms + 1_000 {
        region.pass(1_000);
    }
    region.rotate();
    region.folder.cover(&region.store, &region.config(), region.folder.segments.len() - 1, region.wall_ms);
    assert_eq!(region.store.keys(), 1, "dead, and not swept yet");
    let bodies = [late.expect("a claim")].into_iter();
    let merged = region.store.merge(bodies, RegionId(9), region.wall_ms, &mut Scratch::default());
    let _ = merged.expect("honest").release;
    region.store.append_record(&Record::Complete(true), Durable::Interval);
    region.flush();
    let deleted = region.folder.delete_dead(&region.config(), region.wall_ms);
    let entry = |store: &Store| store.inspect(b"k").expect("known").entry().attempts.len();
    let living = entry(&region.store);
    let back = region.folder.load(region.config(), 1).expect("whole");
    assert_eq!((entry(back.recovery.store()), living, deleted), (2, 2, 0));
    // Once that is covered too, and every key was swept, the run goes.
    region.rotate();
    region.folder.cover(&region.store, &region.config(), region.folder.segments.len() - 1, region.wall_ms);
    region.pass(limits::SWEEP_PASS_MS_MAX);
    region.rotate();
    region.folder.cover(&region.store, &region.config(), region.folder.segments.len() - 1, region.wall_ms);
    assert_eq!(region.folder.delete_dead(&region.config(), region.wall_ms), 1);
    let back = region.folder.load(region.config(), 1).expect("whole");
    assert_eq!(entry(back.recovery.store()), 2, "the newer run holds all of it");
}
