//! Entries as bytes: every shape comes back, nothing malformed gets in, nothing panics.

use proptest::prelude::*;

use super::super::*;
use super::parts::{attempt, honest, joined, outcome, wild};
use crate::journal::{EntryRecord, postcard_onto};

/// The record of an entry of the empty key: a length of 0, then the entry.
fn bytes(entry: &Entry<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    EntryRecord::of(b"", entry).encode(&mut out);
    out
}

/// What the bytes say, if they are one whole record.
fn read(bytes: &[u8]) -> Result<Entry<'_>, MalformedEntry> {
    match EntryRecord::take(bytes) {
        Some((record, [])) => record.entry.unpack(),
        _ => Err(MalformedEntry::Encoding),
    }
}

/// Read by hand and read by postcard, to be compared.
fn both_ways(bytes: &[u8]) -> [String; 2] {
    let by_hand = EntryRecord::take(bytes);
    let by_postcard = postcard::take_from_bytes::<EntryRecord<'_>>(bytes).ok();
    [format!("{by_hand:?}"), format!("{by_postcard:?}")]
}

/// What was accepted keeps every bound, and has one encoding from then on.
fn holds_its_bounds(entry: &Entry<'_>) -> Result<(), TestCaseError> {
    prop_assert!(entry.attempts.len() <= limits::ATTEMPTS_MAX);
    prop_assert!(entry.outcomes.len() <= limits::OUTCOMES_JOINED_MAX);
    let slot = |a: &Attempt<'_>| (a.id.region, a.id.incarnation);
    prop_assert!(entry.attempts.windows(2).all(|pair| slot(&pair[0]) < slot(&pair[1])));
    let slot = |o: &Outcome<'_>| (o.claim, o.region, o.incarnation);
    prop_assert!(entry.outcomes.windows(2).all(|pair| slot(&pair[0]) < slot(&pair[1])));
    prop_assert!(entry.attempts.iter().all(|a| a.claimant.len() <= limits::CLAIMANT_BYTES_MAX));
    prop_assert!(entry.attempts.iter().all(|a| a.note.len() <= limits::NOTE_BYTES_MAX));
    let again = bytes(entry);
    prop_assert_eq!(&read(&again).expect("its own encoding"), entry);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_shape_comes_back(parts in prop_oneof![honest(10), wild(10), honest(2)]) {
        let entry = joined(&parts);
        let bytes = bytes(&entry);
        prop_assert_eq!(&read(&bytes).expect("its own encoding"), &entry);
        // What a sweep reads of it without unpacking it.
        let (record, _) = EntryRecord::take(&bytes).expect("its own encoding");
        assert_eq!(EntryRecord::key_of(&bytes), Some(record.key.0), "the short way to the key");
        prop_assert!(record.entry.parts_die_at_ms().is_none_or(|ms| ms == entry.parts_die_at_ms()));
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(entry) = read(&bytes) {
            holds_its_bounds(&entry)?;
        }
        let [by_hand, by_postcard] = both_ways(&bytes);
        prop_assert_eq!(by_hand, by_postcard);
    }

    /// The forms written by hand are postcard's, byte for byte: whoever knows one reads the other.
    #[test]
    fn what_is_written_by_hand_is_what_postcard_writes(
        parts in prop_oneof![honest(1), honest(2), wild(2)],
        completion in any::<bool>(),
        lengths in (0usize..200, 0usize..300),
    ) {
        let mut entry = joined(&parts);
        if completion {
            entry.attempts = Few::None;
        }
        let (key, note): (Vec<u8>, &'static [u8]) = (vec![b'k'; lengths.0], vec![b'n'; lengths.1].leak());
        entry.attempts.iter_mut().for_each(|attempt| attempt.note = note);
        entry.outcomes.iter_mut().for_each(|outcome| outcome.bytes = note);
        let record = EntryRecord::of(&key, &entry);
        let (mut by_hand, mut by_postcard) = (vec![7], vec![7]);
        record.encode(&mut by_hand);
        postcard_onto(&record, &mut by_postcard);
        prop_assert_eq!(&by_hand, &by_postcard);
        prop_assert_eq!(&both_ways(&by_hand[1..])[0], &format!("{:?}", Some((record, &[0u8; 0]))));
    }

    /// Damage to a real encoding reaches deeper than noise does.
    #[test]
    fn damaged_bytes_are_refused_or_within_bounds(parts in honest(6), at in any::<prop::sample::Index>(), to: u8) {
        let mut bytes = bytes(&joined(&parts));
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(entry) = read(&bytes) {
            holds_its_bounds(&entry)?;
        }
        let [by_hand, by_postcard] = both_ways(&bytes);
        prop_assert_eq!(by_hand, by_postcard);
    }
}

#[test]
fn the_common_shapes_have_their_small_forms() {
    let claim = attempt(1, 1, 1_800_000_000_000);
    let own = Outcome { region: claim.id.region, ..outcome(claim.id, 1, 1_800_000_000_005) };
    let only = Entry::of_attempt(claim);
    let settled = only.clone().join(&Entry::of_outcome(own));
    assert!(matches!(Packed::of(&only), Packed::Claim(_)));
    assert!(matches!(Packed::of(&settled), Packed::Settled(..)));
    assert!(matches!(Packed::of(&Entry::of_outcome(own)), Packed::Completed(_)));
    let elsewhere = Entry::of_outcome(Outcome { region: RegionId(2), ..own });
    assert!(matches!(Packed::of(&elsewhere), Packed::General(_)));
    for other in [
        Outcome { region: RegionId(2), ..own },
        Outcome { incarnation: Incarnation(2), ..own },
        Outcome { expires_at: own.expires_at + 1, ..own },
        Outcome { fingerprint: Some(Fingerprint([1; 16])), ..own },
    ] {
        let entry = only.clone().join(&Entry::of_outcome(other));
        assert!(matches!(Packed::of(&entry), Packed::General(_)), "{other:?} does not follow from its claim");
        assert_eq!(read(&bytes(&entry)), Ok(entry.clone()));
    }
    assert!(bytes(&only).len() <= 32, "a claim without fields takes {} bytes", bytes(&only).len());
}

/// A join relies on the order of parts: bytes that lie about it never become an entry.
#[test]
fn parts_out_of_order_or_twice_are_refused() {
    let (a, b) = (attempt(1, 1, 5), attempt(2, 1, 5));
    let (o, p) = (outcome(a.id, 1, 9), outcome(b.id, 1, 9));
    for attempts in [vec![b, a], vec![a, a]] {
        let entry = Entry { attempts: Few::Many(attempts), ..Entry::default() };
        assert_eq!(read(&bytes(&entry)), Err(MalformedEntry::Order));
    }
    for outcomes in [vec![p, o], vec![o, o]] {
        let entry = Entry { outcomes: Few::Many(outcomes), ..Entry::default() };
        assert_eq!(read(&bytes(&entry)), Err(MalformedEntry::Order));
    }
}

#[test]
fn parts_beyond_their_bounds_are_refused() {
    let attempts = |count: usize| (0..count).map(|n| attempt(1 + n as u16, 1, 5)).collect::<Few<_>>();
    let outcomes = |count: usize| (0..count).map(|n| outcome(attempt(1 + n as u16, 1, 5).id, 1, 9)).collect();
    let with = |attempt: Attempt<'static>| Entry::of_attempt(attempt);
    let (claimant, note) = ([b'c'; limits::CLAIMANT_BYTES_MAX + 1], [b'n'; limits::NOTE_BYTES_MAX + 1]);
    let (claimant, note): (&'static [u8], &'static [u8]) = (claimant.to_vec().leak(), note.to_vec().leak());
    let fits = attempt(1, 1, 5);
    for (entry, accepted) in [
        (Entry { attempts: attempts(limits::ATTEMPTS_MAX), ..Entry::default() }, true),
        (Entry { attempts: attempts(limits::ATTEMPTS_MAX + 1), ..Entry::default() }, false),
        (Entry { outcomes: outcomes(limits::OUTCOMES_JOINED_MAX), ..Entry::default() }, true),
        (Entry { outcomes: outcomes(limits::OUTCOMES_JOINED_MAX + 1), ..Entry::default() }, false),
        (with(Attempt { claimant: &claimant[1..], ..fits }), true),
        (with(Attempt { claimant, ..fits }), false),
        (with(Attempt { note: &note[1..], ..fits }), true),
        (with(Attempt { note, ..fits }), false),
    ] {
        let expected = if accepted { Ok(entry.clone()) } else { Err(MalformedEntry::Bounds) };
        assert_eq!(read(&bytes(&entry)), expected);
    }
    let long: &'static [u8] = vec![0; limits::OUTCOME_BYTES_MAX + 1].leak();
    let outcome = |bytes| Entry::of_outcome(Outcome { bytes, ..outcome(fits.id, 1, 9) });
    assert!(read(&bytes(&outcome(&long[1..]))).is_ok());
    assert_eq!(read(&bytes(&outcome(long))), Err(MalformedEntry::Bounds));
}

/// Flags and phases of a later version are refused, never read as something else (S7).
#[test]
fn unknown_flags_and_phases_are_refused() {
    let claim = attempt(1, 1, 5);
    let settled = Entry::of_attempt(claim).join(&Entry::of_outcome(outcome(claim.id, 1, 9)));
    let bytes = bytes(&settled);
    // key, variant, stamp (varint of 5 << 16), region, incarnation, phase
    let phase_at = 1 + 1 + 3 + 1 + 1;
    assert_eq!(bytes[phase_at], Phase::Held as u8);
    let flags_at = bytes.len() - 1 - b"done".len() - 1;
    assert_eq!(bytes[flags_at], 0);
    for (at, last_known, first_unknown) in [(phase_at, 2, 3), (flags_at, 3, 4)] {
        let with = |value| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            bytes
        };
        assert!(read(&with(last_known)).is_ok());
        assert_eq!(read(&with(first_unknown)), Err(MalformedEntry::Encoding));
    }
}

/// What replication sends beside key and outcome, lengths included. The completion's own form came when it took 39:
/// region and incarnation stood twice, beside an empty list and the length of another.
#[test]
fn a_claim_and_its_completion_say_little_beside_key_and_outcome() {
    let (key, outcome_bytes) = ([b'k'; 36], [b'o'; 200]);
    let now_ms = 1_800_000_000_000;
    let id = ClaimId {
        stamp: Stamp::from_parts(now_ms, 3),
        region: RegionId(3),
        incarnation: Incarnation(28_000_000),
    };
    let claim = Attempt {
        id,
        lease_until: now_ms + 30_000,
        expires_at: now_ms + 86_400_000,
        fingerprint: None,
        claimant: b"",
        note: b"",
        ..attempt(1, 1, 1)
    };
    let completion = Outcome {
        claim: id,
        completed: Stamp::from_parts(now_ms + 250, 7),
        region: id.region,
        incarnation: id.incarnation,
        fingerprint: None,
        bytes: &outcome_bytes,
        expires_at: claim.expires_at,
        majority: false,
        compensated: false,
    };
    let sent = |entry: Entry<'_>| {
        let (mut body, mut bodies) = (vec![1], Vec::new());
        EntryRecord::of(&key, &entry).encode(&mut body);
        crate::wire::push_body(&body, &mut bodies);
        bodies.len()
    };
    assert_eq!(sent(Entry::of_attempt(claim)) - key.len(), 30);
    assert_eq!(sent(Entry::of_outcome(completion)) - key.len() - outcome_bytes.len(), 31);
}
