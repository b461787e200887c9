//! What the next life of a region's data may do (S2, S6).

use super::*;

/// Runs a second life after the first has granted some keys, its log cut to `keep` bytes of the last
/// segment if that is asked.
fn after(first: Life, wall_ms: u64, boot: u64, acknowledged_unsynced: bool) -> Life {
    Life::begin(config(wall_ms, boot, acknowledged_unsynced), first.segments)
}

fn busy() -> (Life, Stamp) {
    busy_of(false)
}

fn busy_of(acknowledged_unsynced: bool) -> (Life, Stamp) {
    let mut life = first_life_of(acknowledged_unsynced);
    for n in 0..5 {
        let _ = life.granted(&format!("k:{n}"), T0 + 1_000);
    }
    life.flush();
    let last = life.store().clock().last();
    (life, last)
}

/// S6: a process crash loses nothing: the incarnation stays, the epoch is the next.
#[test]
fn a_process_crash_keeps_the_incarnation_and_opens_an_epoch() {
    for unsynced in [false, true] {
        let (first, last) = busy();
        let header = first.recovered.header;
        assert!(first.recovered.new_incarnation, "a newborn");
        let second = after(first, T0 + 1_100, 1, unsynced);
        assert!(!second.recovered.new_incarnation);
        assert_eq!(second.recovered.header.incarnation, header.incarnation);
        assert_eq!(second.recovered.header.epoch, LogEpoch(header.epoch.0 + 1));
        assert!(second.granted("next", T0 + 1_100).id.stamp > last);
    }
}

/// S6: after a power loss a region that had acknowledged unsynced data takes a new incarnation; one
/// that had not keeps its own.
#[test]
fn a_power_loss_takes_a_new_incarnation_where_data_may_be_missing() {
    for (unsynced, stopped, renewed) in
        [(true, false, true), (false, false, false), (true, true, false), (false, true, false)]
    {
        let (mut first, _) = busy_of(unsynced);
        if stopped {
            first.store().append_stop();
            first.flush();
        }
        let header = first.recovered.header;
        let second = after(first, T0 + 5_000, 2, unsynced);
        assert_eq!(
            second.recovered.new_incarnation, renewed,
            "unsynced {unsynced}, stopped in order {stopped}"
        );
        assert_eq!(second.recovered.header.incarnation > header.incarnation, renewed);
        assert_eq!(second.recovered.header.boot, 2);
        assert!(second.recovered.header.epoch > header.epoch);
    }
}

/// After a power loss at `interval` the operator wrote `always` into the configuration, never to lose anything again,
/// and started: what had been acknowledged and lost was asked of today's configuration, so the region went on as if
/// nothing were missing, and granted again what it had granted. Found by review. The log itself says it.
#[test]
fn what_was_acknowledged_unsynced_is_not_asked_of_todays_configuration() {
    for (then, now) in [(true, false), (false, true)] {
        let (first, _) = busy_of(then);
        let header = first.recovered.header;
        let second = after(first, T0 + 5_000, 2, now);
        assert_eq!(second.recovered.new_incarnation, then, "then {then}, now {now}");
        assert_eq!(second.recovered.header.incarnation > header.incarnation, then);
        // Nobody lost anything since: what that start itself acknowledges unsynced counts from it on.
        let third = after(second, T0 + 10_000, 3, now);
        assert_eq!(third.recovered.new_incarnation, now, "then {then}, now {now}");
    }
}

/// The same, of a start that finds all of the log covered but its last, empty segment.
#[test]
fn a_manifest_says_too_whether_anything_was_acknowledged_unsynced() {
    for unsynced in [false, true] {
        let (mut first, _) = busy_of(unsynced);
        first.rotate(T0 + 1_050);
        let mut folder = Folder { segments: first.segments.clone(), ..Folder::default() };
        folder.cover(first.store(), &config(T0 + 1_100, 1, unsynced), 1, T0 + 1_100);
        folder.segments.truncate(1);
        folder.trim(&config(T0 + 1_100, 1, unsynced));
        let second = Life::begin_in(config(T0 + 5_000, 2, !unsynced), folder);
        assert_eq!(second.recovered.new_incarnation, unsynced);
    }
}

/// An orderly stop counts only for what was the end of the log.
#[test]
fn a_stop_followed_by_anything_is_no_stop() {
    let (mut first, _) = busy_of(true);
    first.store().append_stop();
    let _ = first.granted("after the stop", T0 + 1_000);
    first.flush();
    assert!(after(first, T0 + 5_000, 2, true).recovered.new_incarnation);
}

/// INV-16: whatever the wall clock says, an incarnation is never used again.
#[test]
fn incarnations_grow_even_if_the_wall_clock_does_not() {
    let mut segments = Vec::new();
    let mut last = Incarnation(0);
    for (boot, wall_ms) in [T0, T0 + 10, T0 - 60_000, T0 - 60_000, T0 + 100_000].into_iter().enumerate() {
        let life = Life::begin(config(wall_ms, boot as u64, true), segments);
        assert!(life.recovered.new_incarnation);
        assert!(life.recovered.header.incarnation > last, "at {wall_ms}");
        last = life.recovered.header.incarnation;
        segments = life.segments;
    }
    let lost_disk = Life::begin(config(T0 + 200_000, 9, true), Vec::new());
    assert!(lost_disk.recovered.header.incarnation > last, "its number is the time of its birth");
}

/// INV-9: stamps exceed all before, though the wall clock stepped back, after crash and power loss.
#[test]
fn stamps_exceed_all_before_whatever_the_wall_clock_says() {
    for (boot, unsynced) in [(1, false), (1, true), (2, false), (2, true)] {
        let (first, _) = busy();
        // Issued and lost: nothing of these reaches the disk. Their stamps may have been seen.
        let lost = first.granted("lost", T0 + 1_200).id.stamp;
        let wall_ms = T0 - 40_000;
        let mut second = after(first, wall_ms, boot, unsynced);
        let mut now_ms = wall_ms;
        let token = loop {
            now_ms += 100;
            second.flush();
            if let ("GRANTED", Some(token)) = second.claim("next", now_ms) {
                break token;
            }
            assert!(now_ms < T0 + 60_000, "it grants again at last");
        };
        let kept = Stamp::from_parts(T0 + 1_000, 0);
        assert!(token.id.stamp > kept, "boot {boot}: {:?} after {kept:?}", token.id.stamp);
        if boot == 2 {
            assert!(token.id.stamp > lost, "what a power loss took had issued {lost:?}");
        }
    }
}

/// A machine whose boot could not be known took each crash for a power loss, and the clock's ceiling was placed 3 s ahead
/// of a clock that ran 3 s ahead already: after 15 crashes in 6 s nothing was granted for 39 s, and peers held the
/// region's stamps for a broken clock's. Found by review.
#[test]
fn power_losses_in_quick_succession_do_not_add_up() {
    for unsynced in [false, true] {
        let mut life = first_life_of(unsynced);
        let _ = life.granted("before", T0 + 1_000);
        let mut wall_ms = T0 + 1_000;
        for boot in 2..40 {
            let issued = life.store().clock().last();
            wall_ms += 200;
            life = Life::begin(config(wall_ms, boot, unsynced), life.segments);
            // What nobody has to wait for is stamped at once, and never below what may have been lost.
            let token = life.store().clock().tick(wall_ms);
            assert!(token > issued && token.ms() <= wall_ms + 3_500, "{token:?} at {wall_ms}");
            for _ in 0..5 {
                wall_ms += 10;
                let _ = life.store().extend_ceiling(wall_ms);
                life.flush();
            }
        }
        assert_eq!(
            life.claim("after", wall_ms + 3_500).0,
            "UNAVAILABLE",
            "nothing extends the ceiling meanwhile"
        );
        let _ = life.store().extend_ceiling(wall_ms + 3_500);
        life.flush();
        assert_eq!(life.claim("after", wall_ms + 3_501).0, "GRANTED");
    }
}

/// The ceiling of a clock that runs ahead is renewed once a second, as any other, and not at every look.
#[test]
fn a_clock_that_is_ahead_writes_no_more_ceilings_than_another() {
    let (first, _) = busy();
    let mut second = after(first, T0 + 1_100, 2, false);
    let mut ceilings = 0;
    for wall_ms in (T0 + 1_100..T0 + 4_000).step_by(50) {
        ceilings += u32::from(second.store().extend_ceiling(wall_ms).is_some());
        second.flush();
    }
    assert!((1..=4).contains(&ceilings), "{ceilings}");
}

/// S2: after a power loss nothing is granted before the wall clock has passed the synced ceiling, and
/// after a new birth not before max_drift is over.
#[test]
fn grants_wait_for_the_ceiling_of_the_former_life() {
    let ceiling = T0 + 1_000 + crate::limits::CEILING_AHEAD_MS;
    for (unsynced, from_ms) in [(false, ceiling), (true, ceiling)] {
        let (first, _) = busy();
        let mut second = after(first, T0 + 1_100, 2, unsynced);
        let mut claim = |wall_ms| {
            let _ = second.store().extend_ceiling(wall_ms);
            second.flush();
            second.claim(&format!("at:{wall_ms}"), wall_ms).0
        };
        assert_eq!(claim(T0 + 1_100), "UNAVAILABLE");
        assert_eq!(claim(from_ms - 1), "UNAVAILABLE", "unsynced {unsynced}");
        assert_eq!(claim(from_ms + 1), "GRANTED", "unsynced {unsynced}");
    }
    let newborn = Life::begin(config(T0, 1, true), Vec::new());
    assert_eq!(newborn.claim("k", T0 + 499).0, "UNAVAILABLE");
    assert_eq!(newborn.claim("k", T0 + 500).0, "GRANTED");
}

/// S2: the clock issues nothing beyond the ceiling that is synced, so that the ceiling bounds whatever
/// a power loss can take.
#[test]
fn nothing_is_issued_beyond_the_synced_ceiling() {
    let mut life = first_life();
    let ceiling = T0 + 1_000 + crate::limits::CEILING_AHEAD_MS;
    let run = |life: &Life, key: &str, wall_ms| {
        life.run(Request::Claim(Claim { key: key.as_bytes(), ..Claim::default() }), wall_ms).0
    };
    let ahead = life.store().clock().last();
    assert!(ahead.ms() <= ceiling);
    assert_eq!(run(&life, "within", T0 + crate::limits::CEILING_AHEAD_MS), "GRANTED");
    assert_eq!(run(&life, "beyond", ceiling + 1), "UNAVAILABLE");
    assert!(life.store().extend_ceiling(ceiling + 1).is_some());
    life.write();
    life.store().settle_ceiling();
    assert_eq!(run(&life, "beyond", ceiling + 1), "UNAVAILABLE", "written is not synced");
    life.flush();
    assert_eq!(run(&life, "beyond", ceiling + 1), "GRANTED");
}

/// S6, S7: cursors come back with their log; a new incarnation starts them over; deleting old segments
/// loses none.
#[test]
fn cursors_are_kept_as_long_as_their_incarnation() {
    let cursor = Cursor { incarnation: Incarnation(5), epoch: LogEpoch(3), lsn: 70 };
    let with_cursor = || {
        let mut life = first_life_of(true);
        life.store().append_record(&Record::Cursor(RegionId(2), cursor), Durable::Interval);
        life.flush();
        life
    };
    let crashed = after(with_cursor(), T0 + 1_100, 1, true);
    assert_eq!(crashed.recovered.memory.cursors.get(&RegionId(2)), Some(&cursor));
    let third = Life::begin_in(config(T0 + 1_200, 1, true), trimmed(&crashed, 1, T0 + 1_200));
    assert_eq!(third.recovered.memory.cursors.get(&RegionId(2)), Some(&cursor), "the manifest keeps them");
    let renewed = after(with_cursor(), T0 + 5_000, 2, true);
    assert!(renewed.recovered.memory.cursors.is_empty(), "what we sent and lost is fetched again");
    let fourth = Life::begin(config(T0 + 5_100, 2, true), renewed.segments);
    assert!(fourth.recovered.memory.cursors.is_empty(), "nor do the former life's cursors come back later");
}

/// The epochs of this incarnation, each with its first record: what an old cursor is judged by.
#[test]
fn epochs_of_this_incarnation_are_remembered() {
    let (first, _) = busy();
    let second = after(first, T0 + 1_100, 1, true);
    let third = Life::begin(config(T0 + 1_200, 1, true), second.segments);
    let known: Vec<(LogEpoch, Lsn)> =
        third.segments.iter().map(|(header, _)| (header.epoch, header.first_lsn)).collect();
    assert_eq!(third.recovered.memory.epochs, known);
    let reborn = Life::begin(config(T0 + 9_000, 2, true), third.segments);
    assert_eq!(
        reborn.recovered.memory.epochs,
        [(reborn.recovered.header.epoch, reborn.recovered.header.first_lsn)]
    );
}

/// A rotated segment repeats the ceiling that is in force, and a manifest keeps it: the one that held it may be
/// deleted.
#[test]
fn a_rotation_carries_the_ceiling_over() {
    let mut life = first_life();
    life.rotate(T0 + 1_000);
    let ceiling = T0 + 1_000 + crate::limits::CEILING_AHEAD_MS;
    let rotated = &life.segments[1].1[HEADER_BYTES..];
    let mut records = Records::new(rotated);
    let first = records.next_body().map(Record::decode);
    assert!(matches!(first, Ok(Ok(Record::Ceiling(ms))) if ms == ceiling), "{first:?}");
    let again = Life::begin_in(config(T0 + 1_100, 2, false), trimmed(&life, 1, T0 + 1_100));
    assert!(again.store().clock().last().ms() >= ceiling, "stamps up to {ceiling} may have been issued");
}

fn complete(segments: &Segments, wall_ms: u64, boot: u64) -> bool {
    let folder = Folder { segments: segments.clone(), ..Folder::default() };
    let (recovered, _) = folder.recover(config(wall_ms, boot, true)).expect("undamaged");
    !recovered.memory.incomplete
}

/// S6: a life that began without data it should have stays so over any restart, until a record says otherwise.
#[test]
fn a_life_is_incomplete_until_its_log_says_otherwise() {
    let mut life = first_life();
    assert!(life.recovered.memory.incomplete, "a newborn may be a region that lost its disk");
    assert!(!complete(&life.segments, T0 + 1_100, 1), "a crash");
    assert!(!complete(&life.segments, T0 + 9_000, 2), "a power loss, and another life");
    life.store().append_record(&Record::Complete(true), Durable::Interval);
    life.flush();
    assert!(complete(&life.segments, T0 + 1_100, 1));
    assert!(complete(&life.segments, T0 + 9_000, 2), "what a power loss takes is sent again by the peers");
    let second = Life::begin(config(T0 + 1_100, 1, true), life.segments);
    assert!(complete(&second.segments, T0 + 1_200, 1), "for good");
    let third = Life::begin(config(T0 + 9_000, 2, true), second.segments);
    assert!(third.recovered.new_incarnation && complete(&third.segments, T0 + 9_100, 2));
}

/// The header of a new life is synced before its first records are: a power loss between the two left a life
/// that passed for complete, and granted what its lost data had settled. Found by review.
#[test]
fn a_new_life_that_has_said_nothing_yet_is_incomplete() {
    let newborn = Life::begin(config(T0, 1, true), Vec::new());
    let (header, bytes) = &newborn.segments[0];
    let silent = vec![(*header, bytes[..HEADER_BYTES].to_vec())];
    assert!(!complete(&silent, T0 + 1_100, 1) && !complete(&silent, T0 + 9_000, 2));
}

/// A manifest that says that a life is over asks for one new incarnation. It took another one at every start. Found by
/// review.
#[test]
fn a_manifest_asks_for_a_new_incarnation_once() {
    let (life, _) = busy();
    let back = Folder { segments: life.segments.clone(), ..Folder::default() };
    let Back { recovery, .. } = back.load(config(T0 + 2_000, 1, false), 1).expect("undamaged");
    let mut folder = Folder::of_everything(recovery.manifest_of_all(), recovery.store(), T0 + 2_000);
    let digest = life.store().digest(T0 + 2_000);
    let mut incarnations = vec![life.recovered.header.incarnation];
    for start in 1..4 {
        let config = config(T0 + 2_000 + start, 1, false);
        let life = Life::begin_in(config.clone(), folder.clone());
        assert_eq!(life.store().digest(T0 + 2_100), digest, "start {start}");
        assert!(life.recovered.memory.incomplete, "start {start}: no peer was met");
        incarnations.push(life.recovered.header.incarnation);
        folder.segments = life.segments.clone();
        if start == 2 {
            folder.cover(life.store(), &config, 1, T0 + 2_100);
        }
    }
    assert!(incarnations[1] > incarnations[0]);
    assert_eq!(incarnations[1..], [incarnations[1]; 3]);
}

/// What is cut off a log may be all that tells its last lives apart. A log of two lives, or one that no run covers yet,
/// then went on with the life whose data was given up: a change of life anywhere counted as the new one.
#[test]
fn a_life_that_is_over_is_not_gone_on_with() {
    let first = Life::begin(config(T0, 1, true), Vec::new());
    // The power fails: another life, in the same log, and a third start in that life.
    let second = Life::begin(config(T0 + 5_000, 2, true), first.segments);
    let lived = second.recovered.header.incarnation;
    let third = Life::begin(config(T0 + 9_000, 2, true), second.segments);
    assert_eq!(third.recovered.header.incarnation, lived);
    let now = config(T0 + 12_000, 2, true);
    let region = now.store.region;
    let manifest = Manifest { region, cluster: now.cluster, next_run: 1, over: lived, ..Manifest::default() };
    let mut recovery = Recovery::new(now);
    recovery.manifest("checkpoint", &manifest.encode()).expect("good");
    for (header, bytes) in &third.segments {
        recovery.segment("log", bytes, &[], || 0).unwrap_or_else(|error| panic!("{header:?}: {error}"));
    }
    let recovered = recovery.finish();
    assert!(recovered.new_incarnation && recovered.memory.incomplete);
    assert!(recovered.header.incarnation > lived);
}

/// A manifest that covers nothing says that record 0 comes next, which no record is: the start panicked. Found by the
/// fuzzer.
#[test]
fn a_manifest_of_nothing_starts_at_the_first_record() {
    let mut recovery = Recovery::new(config(T0, 1, true));
    let nothing = Manifest { region: RegionId(1), cluster: CLUSTER, next_run: 1, ..Manifest::default() };
    recovery.manifest("checkpoint", &nothing.encode()).expect("whole");
    assert_eq!(recovery.finish().header.first_lsn, 1);
}
