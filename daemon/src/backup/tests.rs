//! Backups of folders that the real log writes at the same time; restores ended at every step.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::restore::restore_in;
use super::*;
use crate::driver::wall_ms;
use crate::log::OpenError;
use crate::mend::Steps;
use crate::mend::testing::{Data, fill, knows};

const KEYS: u32 = 1_200;

fn saved(data: &Data) -> PathBuf {
    let folder = data.beside("backup");
    save(&data.config, &folder, true, wall_ms(), &mut |_, _| {}).expect("a good folder");
    folder
}

#[test]
fn what_was_acknowledged_before_a_save_is_in_it_while_the_log_goes_on() {
    let data = Data::filled(KEYS, true);
    let opened = data.open().expect("good");
    let checkpointer = data.checkpoints(&opened);
    let (stop, done) = (AtomicBool::new(false), AtomicU32::new(KEYS));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Bounded, and with pauses: a round that takes longer than the last must not make the next longer still.
            while !stop.load(Ordering::Relaxed) && done.load(Ordering::Relaxed) < 20_000 {
                let next = done.load(Ordering::Relaxed);
                fill(&opened, next..next + 50);
                done.store(next + 50, Ordering::Release);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        for round in 0..5 {
            let before = done.load(Ordering::Acquire);
            let folder = data.beside(&format!("backup-{round}"));
            let about = save(&data.config, &folder, true, wall_ms(), &mut |_, _| {}).expect("consistent");
            let contents = about.contents.expect("verified");
            assert!(contents.keys >= u64::from(before), "round {round}: {contents:?}, {before} before");
            assert_eq!(contents.namespaces.get("k").copied(), Some(contents.keys - 1), "one is the probe");
            let target = Data::new();
            restore(&target.config, &folder, true, &mut |_, _| {}).expect("an empty folder");
            let restored = target.open().expect("a daemon can start from it");
            assert!(restored.new_incarnation);
            assert!((0..before).all(|number| knows(&restored, number)), "round {round}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    checkpointer.stop();
}

#[test]
fn a_restore_that_ends_anywhere_is_never_half_a_region() {
    let data = Data::filled(KEYS, true);
    let backup = saved(&data);
    for steps in 0.. {
        let target = Data::new();
        let ended = restore_in(&target.config, &backup, false, &mut |_, _| {}, &Steps::ending_after(steps));
        // Before the first step nothing is there; before the last, everything.
        let is_part = target.dir().join("restoring").exists();
        if ended.is_err() && is_part {
            let error = target.open().map(drop).expect_err("a part of a region");
            assert!(matches!(error, OpenError::Restoring(_)), "after {steps}: {error}");
        }
        if ended.is_err() && (is_part || steps == 0) {
            restore(&target.config, &backup, false, &mut |_, _| {}).expect("begun anew");
        }
        let opened = target.open().expect("restored");
        assert!(opened.new_incarnation && (0..KEYS).all(|number| knows(&opened, number)), "after {steps}");
        if ended.is_ok() {
            assert!(steps > 5, "{steps} steps only");
            break;
        }
    }
}

#[test]
fn only_the_right_region_gets_it_and_only_into_an_empty_folder() {
    let data = Data::filled(10, false);
    let backup = saved(&data);
    let refused =
        |target: &Data| restore(&target.config, &backup, true, &mut |_, _| {}).expect_err("refused");
    let text = refused(&Data::of("us", 2, 'a')).to_string();
    assert!(text.contains("region eu (id 1)") && text.contains("region us (id 2)"), "{text}");
    let text = refused(&Data::of("eu", 1, 'b')).to_string();
    assert!(text.contains("with another secret"), "{text}");
    assert!(matches!(refused(&data), BackupError::HoldsData { .. }));
    let again = save(&data.config, &backup, true, wall_ms(), &mut |_, _| {}).expect_err("refused");
    assert!(matches!(again, BackupError::NotEmpty(_)), "{again}");
    let nowhere = Data::new();
    fs::create_dir_all(nowhere.dir()).expect("writable");
    let none = save(&nowhere.config, &nowhere.beside("b"), true, wall_ms(), &mut |_, _| {});
    assert!(matches!(none, Err(BackupError::NoData(_))));
}

/// A flipped bit anywhere in any file is found, verified or not.
#[test]
fn a_backup_that_has_changed_is_refused() {
    let data = Data::filled(KEYS, true);
    let backup = saved(&data);
    let good = inspect(&backup, true, &mut |_, _| {}).expect("good");
    assert!(good.contents.as_ref().is_some_and(|contents| contents.keys > u64::from(KEYS)));
    for entry in &good.files {
        let path = backup.join(&entry.name);
        let content = fs::read(&path).expect("readable");
        for at in [0, content.len() / 2, content.len() - 1] {
            let mut flipped = content.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).expect("writable");
            let error = inspect(&backup, at == 0, &mut |_, _| {}).expect_err("changed");
            assert!(matches!(error, BackupError::Changed { .. }), "{error}");
        }
        fs::write(&path, &content[1..]).expect("writable");
        assert!(inspect(&backup, false, &mut |_, _| {}).is_err());
        fs::remove_file(&path).expect("removable");
        // It was told as a failure of the system, with no word of what to do.
        let error = inspect(&backup, false, &mut |_, _| {}).expect_err("not all there");
        assert!(matches!(error, BackupError::Changed { .. }), "{error}");
        fs::write(&path, content).expect("writable");
    }
    inspect(&backup, true, &mut |_, _| {}).expect("good again");
    let about = backup.join(ABOUT_NAME);
    let text = fs::read_to_string(&about).expect("readable");
    fs::write(&about, text.replace("\"format\": 1", "\"format\": 2")).expect("writable");
    let error = inspect(&backup, true, &mut |_, _| {}).expect_err("newer");
    assert!(matches!(error, BackupError::Format { found: 2, .. }), "{error}");
    let name = &good.files[0].name;
    fs::write(&about, text.replace(name.as_str(), "../../etc/passwd")).expect("writable");
    let error = inspect(&backup, true, &mut |_, _| {}).expect_err("a path");
    assert!(matches!(error, BackupError::NotABackup { .. }), "{error}");
    fs::remove_file(&about).expect("removable");
    let error = inspect(&backup, true, &mut |_, _| {}).expect_err("not finished");
    assert!(matches!(error, BackupError::NotABackup { .. }), "{error}");
}

/// What the running daemon no longer notices, a save does. What it had copied stayed in the way of the next save, and on the
/// backups' full disk.
#[test]
fn a_damaged_folder_is_not_saved() {
    let data = Data::filled(KEYS, true);
    let segments = data.files("log");
    let path = &segments[segments.len() - 1];
    let mut bytes = fs::read(path).expect("readable");
    bytes[10_000] ^= 1;
    fs::write(path, bytes).expect("writable");
    let folder = data.beside("backup");
    let error = save(&data.config, &folder, true, wall_ms(), &mut |_, _| {}).expect_err("damaged");
    assert!(matches!(error, BackupError::Damaged { .. }), "{error}");
    assert_eq!(fs::read_dir(&folder).expect("made").count(), 0, "a part is left");
    assert!(!folder.join(ABOUT_NAME).exists());
}
