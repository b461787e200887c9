//! Repair and rejoin on folders that the real log wrote, ended at every step.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crdt::recovery::Damage;
use crdt::snapshot::Manifest;

use super::testing::{Data, fill, knows};
use super::*;
use crate::driver::wall_ms;
use crate::log::MANIFEST_NAME;

const KEYS: u32 = 1_200;

/// Flips a bit in the middle of the `at`-th segment from the end.
fn damage(data: &Data, at: usize) -> PathBuf {
    let segments = data.files("log");
    let path = segments[segments.len() - 1 - at].clone();
    flip(&path, 30_000);
    path
}

fn flip(path: &Path, byte: usize) {
    let mut bytes = fs::read(path).expect("readable");
    bytes[byte] ^= 1;
    fs::write(path, bytes).expect("writable");
}

/// Where a start says that it should be cut.
fn proposed(data: &Data) -> CutAt {
    let text = data.open().map(drop).expect_err("damaged").to_string();
    let (_, cut_at) = text.split_once("onced repair --cut-at ").expect("a way out");
    cut_at.split(')').next().expect("a place").parse().expect("as repair takes it")
}

fn rejoin(data: &Data) -> Result<Rejoin, MendError> {
    Rejoin::plan_in(data.dir(), data.recovery(), &mut |_, _| {})
}

fn repair(data: &Data, cut_at: &CutAt) -> Result<Repair, MendError> {
    Repair::plan_in(data.dir(), data.recovery(), cut_at, false, |_, _| {})
}

fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path());
    let data = files.filter(|path| path.is_file() && !path.ends_with("lock"));
    data.map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

#[test]
fn what_the_message_proposes_cuts_and_begins_a_new_life_once() {
    let data = Data::filled(KEYS, false);
    let damaged = damage(&data, 1);
    let before = content(data.dir());
    let cut_at = proposed(&data);
    assert_eq!(cut_at.segment, damaged);
    let plan = repair(&data, &cut_at).expect("possible");
    let lost = plan.given_up();
    assert_eq!(lost.segments, 1);
    assert!(lost.records > 100 && lost.keys > 100 && lost.keys < u64::from(KEYS), "{lost:?}");
    let aside = plan.carry_out(wall_ms()).expect("a good disk");
    assert_eq!(fs::read(aside.join(damaged.file_name().expect("a name"))).expect("kept"), before[&damaged]);
    let opened = data.open().expect("mended");
    assert!(opened.new_incarnation);
    let kept = (0..KEYS).filter(|number| knows(&opened, *number)).count() as u64;
    assert!(kept + lost.keys >= u64::from(KEYS) - 1 && kept < u64::from(KEYS), "{kept} kept, {lost:?}");
    assert!(knows(&opened, 0) && !knows(&opened, KEYS - 1));
    drop(opened);
    assert!(!data.open().expect("still good").new_incarnation, "one new life is enough");
}

#[test]
fn a_repair_that_ends_anywhere_can_be_started_from_or_run_again() {
    let whole = Data::filled(KEYS, true);
    damage(&whole, 1);
    let cut_at = proposed(&whole);
    let cut_at = CutAt { segment: cut_at.segment.file_name().expect("a name").into(), ..cut_at };
    let mut expected = None;
    for steps in 0.. {
        let data = whole.copy();
        let plan = repair(&data, &cut_at).expect("possible");
        let ended = plan.carry_out_in(wall_ms(), &Steps::ending_after(steps));
        let opened = match data.open() {
            Ok(opened) => opened,
            Err(error) => {
                assert!(matches!(error, OpenError::Damage(Damage::Record { .. })), "after {steps}: {error}");
                repair(&data, &cut_at).expect("again").carry_out(wall_ms()).expect("a good disk");
                data.open().expect("mended")
            }
        };
        assert!(opened.new_incarnation, "after {steps}");
        let keys = (0..KEYS).filter(|number| knows(&opened, *number)).count();
        assert_eq!(*expected.get_or_insert(keys), keys, "after {steps}");
        if ended.is_ok() {
            assert!(steps > 5, "{steps} steps only");
            break;
        }
    }
}

#[test]
fn cuts_that_make_no_sense_change_nothing() {
    let data = Data::filled(KEYS, true);
    let last = data.files("log").pop().expect("a segment");
    let cut = |segment: &Path, offset| {
        repair(&data, &CutAt { segment: segment.to_owned(), offset }).map(drop).expect_err("refused")
    };
    let before = content(data.dir());
    assert!(matches!(cut(&last, 5_000), MendError::NotDamaged));
    assert!(matches!(cut(Path::new("none.log"), 64), MendError::NoSegment(_)));
    assert!(matches!(cut(&last, u64::MAX), MendError::BeyondEnd { .. }));
    assert_eq!(content(data.dir()), before);
    damage(&data, 1);
    let elsewhere = cut(&last, 5_000);
    assert!(matches!(elsewhere, MendError::Elsewhere(_)), "{elsewhere}");
    let opened = Data::filled(0, false);
    let running = opened.open().expect("good");
    let cut_at = CutAt { segment: "x.log".into(), offset: 0 };
    let refused = repair(&opened, &cut_at).map(drop).expect_err("locked");
    assert!(matches!(refused, MendError::Open(OpenError::Locked(_))));
    drop(running);
}

/// A header that is damaged leaves nothing of its segment.
#[test]
fn a_segment_without_its_header_is_given_up_whole() {
    let data = Data::filled(KEYS, true);
    flip(&data.files("log").pop().expect("a segment"), 20);
    let cut_at = proposed(&data);
    assert_eq!(cut_at.offset, 0);
    repair(&data, &cut_at).expect("possible").carry_out(wall_ms()).expect("a good disk");
    let opened = data.open().expect("mended");
    assert!(opened.new_incarnation && knows(&opened, 0) && !knows(&opened, KEYS - 1));
}

#[test]
fn a_rejoin_keeps_what_stands_behind_damage() {
    let data = Data::filled(KEYS, true);
    damage(&data, 1);
    flip(&data.files("run")[0], 3_000);
    assert!(data.open().is_err());
    let plan = rejoin(&data).expect("what reads is read");
    assert_eq!(plan.damages().len(), 2, "{:?}", plan.damages());
    let kept = plan.keys();
    let aside = plan.carry_out(wall_ms()).expect("a good disk").expect("files were replaced");
    assert!(fs::read_dir(aside).expect("readable").count() > 3);
    let opened = data.open().expect("mended");
    assert!(opened.new_incarnation);
    assert_eq!(opened.store.keys(), kept);
    assert!(knows(&opened, KEYS - 1), "what stood behind the damage is there");
    fill(&opened, KEYS..KEYS + 10);
    drop(opened);
    let again = data.open().expect("good");
    assert!(!again.new_incarnation && knows(&again, KEYS + 9));
}

#[test]
fn a_rejoin_that_ends_anywhere_can_be_started_from_or_run_again() {
    let whole = Data::filled(KEYS, true);
    damage(&whole, 1);
    let mut expected = None;
    for steps in 0.. {
        let data = whole.copy();
        let ended = rejoin(&data).expect("reads").carry_out_in(wall_ms(), &Steps::ending_after(steps));
        let opened = match data.open() {
            Ok(opened) => opened,
            Err(error) => {
                assert!(matches!(error, OpenError::Damage(Damage::Record { .. })), "after {steps}: {error}");
                rejoin(&data).expect("again").carry_out(wall_ms()).expect("a good disk");
                data.open().expect("mended")
            }
        };
        assert!(opened.new_incarnation, "after {steps}");
        let keys = (0..KEYS).filter(|number| knows(&opened, *number)).count();
        assert_eq!(*expected.get_or_insert(keys), keys, "after {steps}");
        assert!(keys > KEYS as usize - 10, "one record is lost, {keys} of {KEYS} are there");
        if ended.is_ok() {
            assert!(steps > 5, "{steps} steps only");
            break;
        }
    }
}

/// Nothing to salvage: the files stay, the next life is a new one.
#[test]
fn a_rejoin_of_a_whole_folder_only_begins_a_new_life() {
    for covered in [false, true] {
        let data = Data::filled(KEYS, covered);
        let segments = data.files("log");
        let plan = rejoin(&data).expect("good");
        assert!(plan.damages().is_empty());
        assert_eq!(plan.carry_out(wall_ms()).expect("a good disk"), None);
        assert_eq!(data.files("log"), segments);
        let opened = data.open().expect("good");
        assert!(opened.new_incarnation && knows(&opened, 0) && knows(&opened, KEYS - 1));
    }
}

/// A manifest, segment or run of a newer version was taken for a damaged one, and a rejoin would have
/// thrown it away.
#[test]
fn a_newer_format_is_refused_and_left_alone() {
    for extension in ["log", "run", MANIFEST_NAME] {
        let data = Data::filled(KEYS, true);
        let path = match extension {
            MANIFEST_NAME => data.dir().join(MANIFEST_NAME),
            extension => data.files(extension)[0].clone(),
        };
        let mut bytes = fs::read(&path).expect("readable");
        bytes[8] = 2;
        // Not a flipped bit of a file of ours, whose checksum would tell.
        bytes[20] ^= 0xff;
        fs::write(&path, bytes).expect("writable");
        let before = content(data.dir());
        for error in [
            data.open().map(drop).expect_err("refused").to_string(),
            rejoin(&data).map(drop).expect_err("refused").to_string(),
        ] {
            assert!(error.contains("format version 2; this onced reads version 1"), "{extension}: {error}");
            assert!(!error.contains("rejoin"), "nothing is damaged: {error}");
        }
        assert_eq!(content(data.dir()), before, "{extension}");
    }
}

/// Runs whose manifest and log somebody had deleted were taken for leftovers, and deleted by the next start. Found by
/// reading the code.
#[test]
fn runs_without_manifest_and_log_are_no_new_folder() {
    let data = Data::filled(KEYS, true);
    let runs = data.files("run");
    assert!(!runs.is_empty());
    fs::remove_file(data.dir().join(MANIFEST_NAME)).expect("it is there");
    data.files("log").iter().for_each(|path| fs::remove_file(path).expect("it is there"));
    let text = data.open().map(drop).expect_err("refused").to_string();
    assert!(text.contains("checkpoint is missing") && text.contains("onced rejoin"), "{text}");
    assert_eq!(data.files("run"), runs);
    rejoin(&data).expect("reads").carry_out(wall_ms()).expect("a good disk");
    let opened = data.open().expect("a good folder");
    assert!(opened.new_incarnation && knows(&opened, 0));
}

/// Somebody had deleted the manifest alone. The start named the gap before the first record of what was left of the log, and
/// the rejoin that it proposed gave up every run: 14,000 of 15,000 keys, all of which still read. Found by review.
#[test]
fn a_rejoin_without_a_manifest_keeps_the_runs() {
    let data = Data::filled(KEYS, true);
    let manifest = data.dir().join(MANIFEST_NAME);
    let covers = Manifest::decode(&fs::read(&manifest).expect("readable")).expect("whole").covers();
    // As a daemon without peers does, in its own time.
    let is_covered = |path: &PathBuf| {
        name_of(path).split('-').next().is_some_and(|lsn| lsn.parse::<u64>().is_ok_and(|lsn| lsn <= covers))
    };
    data.files("log")
        .iter()
        .filter(|path| is_covered(path))
        .for_each(|path| fs::remove_file(path).expect("there"));
    fs::remove_file(manifest).expect("it is there");
    let text = data.open().map(drop).expect_err("refused").to_string();
    assert!(text.contains("checkpoint is missing") && text.contains("onced rejoin"), "{text}");
    rejoin(&data).expect("reads").carry_out(wall_ms()).expect("a good disk");
    let opened = data.open().expect("mended");
    assert!(opened.new_incarnation && (0..KEYS).all(|number| knows(&opened, number)));
}

/// The first checkpoint of all ends before it has written its manifest: the log has everything, and the run is a leftover.
#[test]
fn a_run_beside_a_whole_log_is_no_damage() {
    let data = Data::filled(KEYS, false);
    let covered = Data::filled(KEYS, true);
    let run = &covered.files("run")[0];
    fs::copy(run, data.dir().join(run.file_name().expect("a name"))).expect("writable");
    let opened = data.open().expect("a good folder");
    assert!(!opened.new_incarnation && (0..KEYS).all(|number| knows(&opened, number)));
    assert!(data.files("run").is_empty());
}

/// Somebody had deleted the `*.log` files, which look like what one deletes when a disk is full. The daemon started from
/// the runs alone, in the same life, without a word, and granted again what it had acknowledged. Found by review.
#[test]
fn a_folder_whose_log_was_deleted_is_refused() {
    let data = Data::filled(KEYS, true);
    let before = data.files("log");
    before.iter().for_each(|path| fs::rename(path, data.beside(&name_of(path))).expect("it is there"));
    let text = data.open().map(drop).expect_err("refused").to_string();
    assert!(
        text.contains("the newest file of the log is missing") && text.contains("onced rejoin"),
        "{text}"
    );
    let mended = data.copy();
    rejoin(&mended).expect("reads").carry_out(wall_ms()).expect("a good disk");
    let opened = mended.open().expect("mended");
    assert!(opened.new_incarnation && knows(&opened, 0) && !knows(&opened, KEYS - 1));
    // The other way out.
    before.iter().for_each(|path| fs::rename(data.beside(&name_of(path)), path).expect("it is there"));
    let opened = data.open().expect("whole again");
    assert!(!opened.new_incarnation && knows(&opened, KEYS - 1));
}

/// A segment without its magic was counted as nothing, and "0 records" given up was a segment full of them.
#[test]
fn what_does_not_even_begin_well_is_counted_in_bytes() {
    let data = Data::filled(KEYS, false);
    let last = data.files("log").pop().expect("a segment");
    flip(&last, 2);
    let lost = repair(&data, &proposed(&data)).expect("possible").given_up();
    assert_eq!(lost.bytes, fs::metadata(&last).expect("there").len());
}

/// Segments of two regions have the same names: with the wrong configuration, and `--force`, the other's was cut.
#[test]
fn another_regions_segment_is_not_looked_for_in_this_ones_folder() {
    let (data, other) = (Data::filled(KEYS, false), Data::filled(KEYS, false));
    let segment = data.files("log")[0].clone();
    let cut_at = CutAt { segment, offset: 5_000 };
    let before = content(other.dir());
    let refused = Repair::plan_in(other.dir(), other.recovery(), &cut_at, true, |_, _| {}).map(drop);
    assert!(matches!(refused, Err(MendError::OtherFolder { .. })), "{refused:?}");
    assert_eq!(content(other.dir()), before);
    Repair::plan_in(data.dir(), data.recovery(), &cut_at, true, |_, _| {}).map(drop).expect("its own");
}

fn name_of(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// A folder whose every header is gone still has its runs.
#[test]
fn without_any_header_the_runs_are_kept() {
    let data = Data::filled(KEYS, true);
    data.files("log").iter().for_each(|path| flip(path, 20));
    rejoin(&data).expect("reads").carry_out(wall_ms()).expect("a good disk");
    let opened = data.open().expect("mended");
    assert!(opened.new_incarnation && knows(&opened, 0) && knows(&opened, KEYS - 1));
}
