//! Sums kept with every change against sums made anew, in any order and for any cut-off.

use proptest::prelude::*;

use super::*;

const T0_S: u64 = 1_800_000_000;

fn digester() -> Digester {
    Digester::new(&ClusterKeys { hash: [1; 16], tag: [2; 16] })
}

#[test]
fn a_bucket_holds_a_sixteenth_to_a_thirtysecond_of_a_lifetime() {
    for lifetime_ms in [5_000, 60_000, 3_600_000, 86_400_000, limits::RETENTION_MS_MAX] {
        let expires_at = T0_S * 1000 + 777;
        let bucket = Bucket::of(expires_at, lifetime_ms);
        let width = (1..).map(|ms| bucket.dies_from_ms() + ms);
        let width = width.take_while(|ms| Bucket::of(*ms, lifetime_ms) == bucket).count() as u64 + 1;
        assert!(bucket.dies_from_ms() <= expires_at && expires_at < bucket.dies_from_ms() + width);
        assert!((lifetime_ms / 32..=lifetime_ms / 16).contains(&width), "{lifetime_ms}: {width}");
        assert_ne!(Bucket::of(expires_at + width, lifetime_ms), bucket);
    }
    // Whatever a hostile peer sends.
    for expires_at in [0, 1, u64::MAX] {
        for lifetime_ms in [0, 1, u64::MAX] {
            let _ = Bucket::of(expires_at, lifetime_ms).dies_from_ms();
            assert!(!Bucket::of(expires_at, lifetime_ms).is_conflicts());
        }
    }
}

#[test]
fn what_is_told_of_a_sum_differs_between_exchanges_and_is_zero_for_nothing_only() {
    let digester = digester();
    let sum = Sum { digest: 7, parts: 1 };
    assert_ne!(digester.told(1, &sum), digester.told(2, &sum));
    assert_eq!(digester.told(1, &Sum::default()), 0);
    assert_ne!(digester.told(1, &Sum { digest: 0, parts: 2 }), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A part is found again where it was put, however far the clock has moved on; and two regions that met the same
    /// parts in other orders tell the same of every cut-off that both can tell of.
    #[test]
    fn sums_depend_on_what_is_there_only(
        parts in prop::collection::vec((0u64..4, 0u64..200, any::<u128>()), 1..60),
        gone in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        order in any::<u64>(),
        before in 0u64..220,
    ) {
        let bucket = |n: u64| Bucket::of((T0_S + 3_600 * (n + 1)) * 1000, 3_600_000);
        let mut gone: Vec<usize> = gone.iter().map(|at| at.index(parts.len())).collect();
        gone.sort_unstable();
        gone.dedup();
        let left: Vec<_> = (0..parts.len()).filter(|at| !gone.contains(at)).map(|at| parts[at]).collect();
        let (mut ours, mut theirs) = (Cells::default(), Cells::default());
        for (n, second, hash) in &parts {
            ours.add(bucket(*n), T0_S + second, *hash);
        }
        for at in &gone {
            let (n, second, hash) = parts[*at];
            ours.remove(bucket(n), T0_S + second, hash);
        }
        let mut shuffled = left.clone();
        shuffled.sort_by_key(|(_, _, hash)| hash.rotate_left(order as u32 % 128));
        for (n, second, hash) in &shuffled {
            theirs.add(bucket(*n), T0_S + second, *hash);
        }
        let mut found = BTreeMap::<Bucket, Sum>::new();
        left.iter().for_each(|(n, _, hash)| found.entry(bucket(*n)).or_default().add(*hash));
        found.retain(|_, sum| !sum.is_empty());
        prop_assert_eq!(ours.all(), found.clone());
        prop_assert_eq!(theirs.all(), found);
        let horizon = Horizon { before_s: T0_S + before, alive_ms: T0_S * 1000 };
        let told = |cells: &Cells| {
            let mut sums = BTreeMap::<Bucket, Sum>::new();
            let can = cells.before(&horizon, |bucket, sum| sums.entry(bucket).or_default().join(sum));
            sums.retain(|_, sum| !sum.is_empty());
            can.then_some(sums)
        };
        let mut expected = BTreeMap::<Bucket, Sum>::new();
        for (n, _, hash) in left.iter().filter(|(n, second, _)| horizon.holds(bucket(*n), T0_S + second)) {
            expected.entry(bucket(*n)).or_default().add(*hash);
        }
        expected.retain(|_, sum| !sum.is_empty());
        for cells in [&ours, &theirs] {
            if let Some(sums) = told(cells) {
                prop_assert_eq!(sums, expected.clone());
            } else {
                prop_assert!(before < 200 - limits::DIGEST_YOUNG_S, "a cut-off of the last minute can be told of");
            }
        }
    }
}
