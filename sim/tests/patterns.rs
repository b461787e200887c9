//! Many regions cut apart in every known way agree again: the oracle judges each run as it does a random one, safety under
//! the faults and agreement after them (INV-2, INV-13, INV-17).

use sim::pattern::{NAMES, Pattern};
use sim::report::{RunReport, Verdict};
use sim::run::{Options, run_schedule};
use sim::scenario::Scenario;
use sim::schedule::Schedule;

/// Links from within a city to halfway round the world, one-way microseconds.
const DISTANCES_US: (u64, u64) = (1_000, 300_000);
/// Redialling, hellos, the rest of each log and a comparison take some round trips of 0.6 s; nothing else may.
const ALIKE_WITHIN_MS: u64 = 5_000;

fn cut_and_heal(name: &str, regions: usize) -> (Pattern, RunReport) {
    let pattern = Pattern::named(name, regions).expect("a pattern that cuts something");
    (
        pattern,
        run_schedule(
            Schedule::of(Scenario::of_pattern(0, regions, pattern, DISTANCES_US)),
            Options::default(),
        ),
    )
}

#[test]
fn thirty_regions_agree_after_every_pattern() {
    for name in NAMES {
        let (pattern, report) = cut_and_heal(name, 30);
        assert_eq!(report.verdict, Verdict::Pass, "{name}: {}", report.human());
        let figures = report.figures;
        println!("{name}: {figures:?}");
        assert_eq!(figures.links_cut, pattern.links(30).count(), "{name}");
        assert!(figures.frames_cut > 100, "{name} cut {} frames only", figures.frames_cut);
        assert!(figures.keys_apart > 0, "{name} kept nothing from anybody");
        assert!(figures.converged_ms <= ALIKE_WITHIN_MS, "{name} took {} ms", figures.converged_ms);
    }
}

/// What regions beside each other hold reaches all through the one between them, while the cut lasts: comparisons bring
/// what no stream does. And a stream brings it to each region once, not once from every other.
#[test]
fn a_bridge_is_used_and_comparisons_stay_a_small_part() {
    let figures = cut_and_heal("bridge", 30).1.figures;
    assert!(figures.repaired > 0, "nothing crossed the bridge");
    let healthy = cut_and_heal("isolated", 30).1.figures;
    assert!(healthy.bytes_compared + healthy.bytes_repaired < healthy.bytes / 4, "{healthy:?}");
}
