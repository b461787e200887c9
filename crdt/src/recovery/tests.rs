//! Starts from logs that were cut, damaged, mixed up or lost in part (S6), and what the next life may
//! do: epochs, incarnations and stamps are never used twice (INV-9, INV-16).
//!
//! A log is written through a real store and tail; the tests then do to its bytes what disks do.

mod lives;
mod tears;

use super::*;
use crate::hash::ClusterKeys;
use crate::journal::{HEADER_BYTES, Records};
use crate::request::{Claim, Reply, Request};
use crate::snapshot::tests::folder::{Back, Folder};
use crate::store::{Ran, Scratch};
use crate::token::Token;

const T0: u64 = 1_800_000_000_000;
const CLUSTER: [u8; 16] = [7; 16];

fn config(wall_ms: u64, boot: u64, acknowledged_unsynced: bool) -> RecoveryConfig {
    let store = StoreConfig {
        region: RegionId(1),
        incarnation: Incarnation::default(),
        keys: ClusterKeys { hash: [1; 16], tag: [2; 16] },
        max_drift_ms: 500,
        shards: 4,
        max_memory_bytes: 64 << 20,
        ring_bytes_max: 0,
    };
    let policies = Policies::default();
    RecoveryConfig {
        store,
        policies,
        cluster: CLUSTER,
        boot,
        acknowledged_unsynced,
        wall_ms,
        salvage: false,
        keys_hint: 0,
    }
}

type Segments = Vec<(SegmentHeader, Vec<u8>)>;

fn recover(config: RecoveryConfig, segments: &Segments) -> Result<(Recovered, Vec<SegmentReport>), Damage> {
    Folder { segments: segments.clone(), ..Folder::default() }.recover(config)
}

/// A log whose first `count` segments runs cover and that are deleted.
fn trimmed(life: &Life, count: usize, wall_ms: u64) -> Folder {
    let mut folder = Folder { segments: life.segments.clone(), ..Folder::default() };
    let config = config(wall_ms, 1, false);
    folder.cover(life.store(), &config, count, wall_ms);
    folder.trim(&config);
    assert_eq!(folder.segments.len(), life.segments.len() - count);
    folder
}

/// A running replica and its disk.
struct Life {
    recovered: Recovered,
    segments: Segments,
}

impl Life {
    fn begin(config: RecoveryConfig, segments: Segments) -> Self {
        Self::begin_in(config, Folder { segments, ..Folder::default() })
    }

    fn begin_in(config: RecoveryConfig, folder: Folder) -> Self {
        let (recovered, _) = folder.recover(config).expect("an undamaged log");
        let mut segments = folder.segments;
        segments.push((recovered.header, recovered.header.encode().to_vec()));
        let mut life = Self { recovered, segments };
        life.flush();
        life
    }

    fn store(&self) -> &Store {
        &self.recovered.store
    }

    fn write(&mut self) {
        while let Some(batch) = self.recovered.store.tail().take(Vec::new()) {
            self.segments.last_mut().expect("begun").1.extend_from_slice(&batch.bytes);
            self.recovered.store.tail().mark_written(batch);
        }
    }

    fn flush(&mut self) {
        self.write();
        self.store().tail().mark_synced(self.store().tail().written());
        self.store().settle_ceiling();
    }

    fn rotate(&mut self, wall_ms: u64) {
        self.flush();
        self.rotate_unsynced(wall_ms);
        self.flush();
    }

    /// Only the new segment's header is synced.
    fn rotate_unsynced(&mut self, wall_ms: u64) {
        let first_lsn = self.store().tail().appended() + 1;
        let header = SegmentHeader { first_lsn, created_ms: wall_ms, ..self.recovered.header };
        self.segments.push((header, header.encode().to_vec()));
        self.store().append_prologue(&self.recovered.memory.cursors, wall_ms);
        self.write();
    }

    fn run(&self, request: Request<'_>, wall_ms: u64) -> (&'static str, Option<Token>) {
        let (mut status, mut token) = ("", None);
        let ran = self.store().run(&request, wall_ms, None, &mut Scratch::default(), |reply| {
            status = reply.status();
            if let Reply::Granted { token: granted, .. } = reply {
                token = Some(*granted);
            }
        });
        assert!(matches!(ran, Ok(Ran::Replied(_))), "{ran:?}");
        (status, token)
    }

    fn claim(&self, key: &str, wall_ms: u64) -> (&'static str, Option<Token>) {
        let _ = self.store().extend_ceiling(wall_ms);
        self.run(Request::Claim(Claim { key: key.as_bytes(), claimant: b"a", ..Claim::default() }), wall_ms)
    }

    fn granted(&self, key: &str, wall_ms: u64) -> Token {
        let (status, token) = self.claim(key, wall_ms);
        token.unwrap_or_else(|| panic!("{key} granted, not {status}"))
    }

    fn complete(&self, key: &str, token: Token, wall_ms: u64) {
        let request =
            Request::Complete { key: key.as_bytes(), token, outcome: b"done", level: None, durable: false };
        assert_eq!(self.run(request, wall_ms).0, "COMPLETED");
    }
}

/// A first life whose grants start at once: `max_drift` after its birth.
fn first_life() -> Life {
    first_life_of(false)
}

/// The same, of a region that acknowledges before it syncs, or does not.
fn first_life_of(acknowledged_unsynced: bool) -> Life {
    let mut life = Life::begin(config(T0, 1, acknowledged_unsynced), Vec::new());
    let _ = life.store().extend_ceiling(T0 + 1_000);
    life.flush();
    life
}

/// Some claims and completions over three segments, and the digest after each record of the last from its
/// third on. What is done in the last segment is written; `synced` says whether it is synced too, and so
/// marked.
fn written_and(synced: bool) -> (Life, Vec<(usize, u128)>) {
    let mut life = first_life();
    for n in 0..12 {
        if n == 4 || n == 8 {
            life.rotate(T0 + 1_000);
        }
        let token = life.granted(&format!("k:{n}"), T0 + 1_000);
        if n % 2 == 0 {
            life.complete(&format!("k:{n}"), token, T0 + 1_001);
        }
        life.flush();
    }
    let mut states = vec![(life.segments.last().expect("begun").1.len(), life.store().digest(T0 + 2_000))];
    let mut settle = |life: &mut Life| {
        let (from, before) = *states.last().expect("begun");
        if synced {
            life.flush();
        } else {
            life.write();
        }
        let mut records = Records::new(&life.segments.last().expect("begun").1[from..]);
        let mut digest = before;
        // One entry a step; what stands beside it are marks and ceilings.
        while let Ok(body) = records.next_body() {
            if matches!(Record::decode(body), Ok(Record::Entry(..))) {
                digest = life.store().digest(T0 + 2_000);
            }
            states.push((from + records.offset(), digest));
        }
    };
    for n in 0..6 {
        let token = life.granted(&format!("last:{n}"), T0 + 1_000);
        settle(&mut life);
        life.complete(&format!("last:{n}"), token, T0 + 1_001);
        settle(&mut life);
    }
    (life, states)
}

fn written() -> (Life, Vec<(usize, u128)>) {
    written_and(true)
}

#[test]
fn everything_written_comes_back() {
    let (life, states) = written();
    let (again, reports) = recover(config(T0 + 2_000, 1, false), &life.segments).expect("undamaged");
    assert_eq!(Some(again.store.digest(T0 + 2_000)), states.last().map(|(_, digest)| *digest));
    assert_eq!(again.store.keys(), life.store().keys());
    assert_eq!(again.records, life.store().tail().written());
    assert_eq!(again.header.first_lsn, life.store().tail().written() + 1);
    for (report, (header, bytes)) in reports.iter().zip(&life.segments) {
        assert_eq!((report.header, report.end, report.torn_bytes), (*header, bytes.len(), 0));
    }
    assert!(reports[0].dies_at_ms > T0 + 24 * 3600 * 1000);
    for pair in reports.windows(2) {
        assert_eq!(pair[0].last_lsn + 1, pair[1].header.first_lsn);
    }
}

/// A torn tail of the last segment is cut, wherever the cut falls: the exact prefix comes back, and the
/// life after it goes on as if nothing else had ever been.
#[test]
fn a_last_segment_cut_anywhere_gives_the_exact_prefix() {
    let (life, states) = written();
    let whole = life.segments.last().expect("begun").1.clone();
    for cut in states[0].0..=whole.len() {
        for junk in [&b""[..], &[0; 30], &[0, 0, 0, 9, 0, 0]] {
            let mut segments = life.segments.clone();
            let last = &mut segments.last_mut().expect("begun").1;
            last.truncate(cut);
            last.extend_from_slice(junk);
            // Zeros may be the very bytes that were cut off.
            let cut = whole.iter().zip(last.iter()).take_while(|(a, b)| a == b).count();
            let (again, reports) = recover(config(T0 + 2_000, 1, false), &segments).expect("only torn");
            let (end, digest) = *states.iter().rfind(|(end, _)| *end <= cut).expect("not before the first");
            assert_eq!(again.store.digest(T0 + 2_000), digest, "cut at {cut}");
            let report = reports.last().expect("three segments");
            assert_eq!(report.end, end, "cut at {cut}");
            assert!(report.torn_bytes <= segments[2].1.len() - end);
            assert_eq!(again.header.first_lsn, report.last_lsn + 1);
        }
    }
}

/// What a torn segment held behind its cut is never read again, though the bytes still stand there.
#[test]
fn the_bytes_behind_a_cut_stay_cut() {
    // Not synced, so that nothing says that it was: what is marked as synced is never cut.
    let (life, states) = written_and(false);
    let (end, digest) = states[3];
    let mut segments = life.segments.clone();
    let last = &mut segments.last_mut().expect("begun").1;
    last[end + 4] ^= 1;
    // While the machine stays up only the last write can be torn: this would be damage.
    let same_boot = recover(config(T0 + 8_000, 1, false), &segments);
    assert!(matches!(same_boot, Err(Damage::Record { offset, .. }) if offset == end), "{same_boot:?}");
    // A power failure keeps what it likes of the unsynced pages.
    let mut next = Life::begin(config(T0 + 8_000, 2, false), segments);
    assert_eq!(next.store().digest(T0 + 8_000), digest);
    let token = next.granted("after", T0 + 8_000);
    next.complete("after", token, T0 + 8_000);
    next.flush();
    let after = next.store().digest(T0 + 9_000);
    let third = Life::begin(config(T0 + 9_000, 2, false), next.segments);
    assert_eq!(third.store().digest(T0 + 9_000), after);
    assert!(third.recovered.header.epoch > next.recovered.header.epoch);
}

/// INV-15: any flipped bit of any other segment is refused, with the file and the offset of its record.
#[test]
fn a_flipped_bit_before_the_last_segment_is_refused() {
    let (life, _) = written();
    for at in 0..life.segments.len() - 1 {
        let mut starts = vec![HEADER_BYTES];
        let bytes = &life.segments[at].1;
        let mut records = Records::new(&bytes[HEADER_BYTES..]);
        while records.next_body().is_ok() {
            starts.push(HEADER_BYTES + records.offset());
        }
        for byte in 0..bytes.len() {
            let mut segments = life.segments.clone();
            segments[at].1[byte] ^= 1 << (byte % 8);
            let damage = recover(config(T0 + 2_000, 1, false), &segments).expect_err("damaged");
            let record = starts.iter().rposition(|start| *start <= byte);
            match (record, &damage) {
                (None, Damage::Header { file, .. }) => assert_eq!(*file, format!("{at}.log")),
                (Some(record), Damage::Record { segment, offset, lsn }) => {
                    let lsn_expected = life.segments[at].0.first_lsn + record as u64;
                    assert_eq!((segment, *offset), (&format!("{at}.log"), starts[record]));
                    assert_eq!(*lsn, lsn_expected);
                    assert!(
                        damage
                            .to_string()
                            .contains(&format!("{at}.log is damaged at byte {}", starts[record]))
                    );
                }
                _ => panic!("byte {byte} of {at}: {damage}"),
            }
        }
        let mut segments = life.segments.clone();
        segments[at].1.truncate(bytes.len() - 1);
        assert!(matches!(recover(config(T0, 1, false), &segments), Err(Damage::Record { .. })), "cut short");
    }
}

/// A record that is whole and says what this version does not know is not skipped (S7).
#[test]
fn a_record_of_an_unknown_kind_is_refused() {
    let (life, _) = written();
    let mut segments = life.segments;
    let last = &mut segments.last_mut().expect("begun").1;
    let end = last.len();
    crate::journal::append_framed(200, b"from the future", last);
    let damage = recover(config(T0, 1, false), &segments).expect_err("unknown");
    assert!(matches!(damage, Damage::Record { offset, .. } if offset == end));
}

#[test]
fn a_missing_segment_is_a_gap() {
    let (life, _) = written();
    let mut segments = life.segments;
    let (expected, found) = (segments[1].0.first_lsn, segments[2].0.first_lsn);
    segments.remove(1);
    let missing = |segments: &Segments| recover(config(T0, 1, false), segments).expect_err("a gap");
    // The first ends where the next begins: it is the first that looks short.
    let damage = missing(&segments);
    assert!(matches!(damage, Damage::Record { lsn, .. } if lsn == expected), "{damage}");
    let mut recovery = Recovery::new(config(T0, 1, false));
    recovery.segment("0.log", &segments[0].1, &[], || 0).expect("whole");
    let damage = recovery.segment("2.log", &segments[1].1, &[], || 0).expect_err("a gap");
    assert_eq!(damage, Damage::Gap { segment: "2.log".to_owned(), found, expected });
}

/// A log whose oldest files were deleted because runs cover them starts where it starts.
#[test]
fn a_covered_log_may_begin_anywhere() {
    let (life, _) = written();
    let folder = trimmed(&life, 1, T0 + 2_000);
    let (again, _) = folder.recover(config(T0 + 2_000, 1, false)).expect("whole");
    assert_eq!(again.memory.first_lsn, folder.segments[0].0.first_lsn);
    assert!(again.store.inspect(b"k:0").is_some() && again.store.inspect(b"k:5").is_some());
    assert_eq!(again.store.digest(T0 + 2_000), life.store().digest(T0 + 2_000));
}

/// Without the manifest nothing says what the deleted files held: the log was read from where it began, all that
/// only runs knew was forgotten without a word, and the runs themselves were removed as leftovers. Found by review.
#[test]
fn a_log_that_begins_late_needs_its_manifest() {
    let (life, _) = written();
    let mut folder = trimmed(&life, 1, T0 + 2_000);
    folder.manifest = None;
    let (found, segment) = (folder.segments[0].0.first_lsn, "0.log".to_owned());
    let damage = folder.recover(config(T0 + 2_000, 1, false)).expect_err("runs that nothing names");
    assert_eq!(damage, Damage::Gap { segment, found, expected: 1 });
    let salvage = RecoveryConfig { salvage: true, ..config(T0 + 2_000, 1, false) };
    let Back { recovery, .. } = folder.load(salvage, 1).expect("what is there");
    assert!(recovery.store().inspect(b"k:5").is_some() && recovery.damages() == [damage]);
}

#[test]
fn another_regions_or_clusters_log_is_refused() {
    let (life, _) = written();
    let foreign = |change: &dyn Fn(&mut RecoveryConfig)| {
        let mut config = config(T0, 1, false);
        change(&mut config);
        recover(config, &life.segments).expect_err("foreign")
    };
    for damage in
        [foreign(&|config| config.store.region = RegionId(2)), foreign(&|config| config.cluster = [8; 16])]
    {
        let Damage::Foreign { file, theirs, ours } = &damage else { panic!("{damage}") };
        assert_eq!((&file[..], theirs != ours), ("0.log", true));
        assert!(damage.to_string().contains("data_dir"), "it says what to look at");
    }
}
