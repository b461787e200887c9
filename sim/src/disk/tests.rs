//! What may be on a disk after the power failed, tried many times each.

use super::*;
use crate::limits::SECTOR_BYTES;
use crate::random::Stream;

fn disk(entity: u64) -> Disk {
    Disk::new(Dice::new(3, Stream::Platter, entity))
}

/// A file that is wholly on disk, its name too.
fn settled(disk: &mut Disk, name: &str, bytes: &[u8]) -> FileId {
    let file = disk.create(name).expect("room");
    disk.write_at(file, 0, bytes).expect("room");
    disk.sync(file).expect("healthy");
    disk.sync_folder().expect("healthy");
    file
}

#[test]
fn what_was_synced_survives_and_of_the_rest_each_sector_by_itself() {
    let (mut kept_all, mut lost_all, mut met_hole, mut met_torn) = (false, false, false, false);
    for entity in 0..400 {
        let mut disk = disk(entity);
        let file = settled(&mut disk, "log", &[7; 700]);
        disk.write_at(file, 700, &[9; 3000]).expect("room");
        let loss = disk.power_loss();
        let bytes = disk.read("log").expect("its name was synced");
        assert!(
            bytes.starts_with(&[7; 700]),
            "synced bytes are never damaged, not in a shared sector either"
        );
        let rest = &bytes[700..];
        assert!(rest.iter().all(|&byte| byte == 9 || byte == 0), "new bytes, or the zeros under them");
        let new = rest.iter().filter(|&&byte| byte == 9).count();
        if loss == Loss::default() {
            assert_eq!(new, 3000);
        }
        kept_all |= new == 3000;
        lost_all |= new == 0;
        met_torn |= loss.torn;
        // A hole: a whole sector of zeros with new bytes behind it.
        let sectors = bytes.chunks(SECTOR_BYTES).skip(2).map(|sector| sector[0] == 0);
        met_hole |= loss.hole && !sectors.is_sorted();
    }
    assert!(kept_all && lost_all && met_hole && met_torn);
}

#[test]
fn a_sync_covers_what_was_written_when_it_started() {
    let mut shortest = usize::MAX;
    for entity in 0..100 {
        let mut disk = disk(entity);
        let file = settled(&mut disk, "log", b"head");
        disk.allocate(file, 100).expect("room");
        disk.write_at(file, 4, b"before").expect("room");
        let mark = disk.mark(file);
        disk.write_at(file, 10, b"after").expect("room");
        disk.sync_to(mark).expect("healthy");
        disk.power_loss();
        let bytes = disk.read("log").expect("its name was synced");
        assert_eq!(bytes.len(), 100, "a sync covers the size, too");
        assert!(bytes.starts_with(b"headbefore"));
        let end = bytes.iter().rposition(|&byte| byte != 0).expect("something is there") + 1;
        shortest = shortest.min(end);
    }
    assert_eq!(shortest, b"headbefore".len(), "what came after the start of the sync can be lost");
}

#[test]
fn names_are_durable_only_after_a_sync_of_the_folder_and_a_rename_is_whole() {
    let mut seen = std::collections::BTreeSet::new();
    for entity in 0..200 {
        let mut disk = disk(entity);
        settled(&mut disk, "manifest", b"old");
        settled(&mut disk, "dead", b"dead");
        let file = disk.create("tmp").expect("room");
        disk.write_at(file, 0, b"new").expect("room");
        disk.sync(file).expect("healthy");
        disk.rename("tmp", "manifest").expect("it is there");
        disk.unlink("dead").expect("it is there");
        assert_eq!(disk.list().collect::<Vec<_>>(), ["manifest"], "readers see it at once");
        let loss = disk.power_loss();
        let manifest = disk.read("manifest").expect("one or the other").to_vec();
        assert!(manifest == b"old" || manifest == b"new");
        let dead = disk.read("dead").is_some();
        assert!(loss.names || (manifest == b"new" && !dead));
        seen.insert((manifest, dead));
    }
    assert_eq!(seen.len(), 4, "in order or not: {seen:?}");
}

#[test]
fn a_process_crash_loses_nothing_and_a_synced_folder_keeps_its_names() {
    let mut disk = disk(0);
    settled(&mut disk, "a", b"1");
    disk.rename("a", "b").expect("it is there");
    disk.sync_folder().expect("healthy");
    assert_eq!(disk.power_loss(), Loss::default());
    assert_eq!(disk.read("b").as_deref(), Some(&b"1"[..]));
    assert!(disk.read("a").is_none());
}

/// After a failed sync the kernel calls the pages clean: readers see them, the next sync succeeds, and the
/// power takes them. A daemon that believed what it reads would acknowledge what the disk never got.
#[test]
fn a_failed_sync_is_not_mended_by_the_next_but_by_writing_again() {
    let (mut lost, mut kept) = (0, 0);
    for entity in 0..100 {
        for again in [false, true] {
            let mut disk = disk(entity);
            let file = settled(&mut disk, "log", b"head");
            disk.write_at(file, 4, &[1; 1000]).expect("room");
            disk.fail(Call::Sync, 0);
            assert_eq!(disk.sync(file), Err(Fail::Io));
            assert_eq!(disk.len_of("log"), Some(1004), "it looks as if nothing had happened");
            if again {
                disk.write_at(file, 4, &[1; 1000]).expect("room");
            }
            disk.sync(file).expect("only one sync fails");
            disk.power_loss();
            let whole = disk.read("log").expect("its name was synced")[4..].iter().all(|&byte| byte == 1);
            assert!(whole || !again);
            lost += u32::from(!whole);
            kept += u32::from(whole && !again);
        }
    }
    assert!(lost > 0 && kept > 0);
}

#[test]
fn a_full_disk_refuses_new_room_and_takes_what_has_its_room() {
    let mut disk = disk(0);
    let file = settled(&mut disk, "log", b"head");
    disk.allocate(file, 100).expect("room");
    disk.set_capacity(Some(disk.used_bytes() + 10));
    disk.write_at(file, 50, &[1; 50]).expect("allocated");
    assert_eq!(disk.write_at(file, 100, &[1; 11]), Err(Fail::Full));
    let next = disk.create("next").expect("a name costs nothing here");
    assert_eq!(disk.allocate(next, 11), Err(Fail::Full));
    disk.unlink("log").expect("it is there");
    disk.allocate(next, 110).expect("deleting made room");
    disk.heal();
    disk.allocate(next, 1 << 20).expect("room");
}

#[test]
fn a_fuse_ends_a_sequence_of_calls_and_a_flipped_bit_stays() {
    let mut disk = disk(0);
    let file = settled(&mut disk, "log", b"head");
    disk.set_fuse(Some(1));
    disk.write_at(file, 4, b"1").expect("the fuse lasts one call");
    assert_eq!(disk.write_at(file, 5, b"2"), Err(Fail::Cut));
    assert_eq!(disk.sync(file), Err(Fail::Cut), "it does not mend itself");
    assert_eq!(disk.read("log").as_deref(), Some(&b"head1"[..]));
    assert_eq!(disk.synced_bytes("log"), 4);
    disk.flip("log", 0, 1);
    disk.power_loss();
    assert_eq!(disk.read("log").map(|bytes| bytes[0]), Some(b'h' ^ 2));
}
