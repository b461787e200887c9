//! `compare`: what finding k differences among n keys costs, in bytes, round trips and time (S7).
//!
//! Two replicas in one process, joined by the real frames and nothing else, so that every byte and every half of a
//! round trip can be counted. The keys are alike but for k of them, half of which each side lacks; they were made at
//! random times of the last 20 hours, or all within a partition of two minutes. Must never be run as a timed test.

mod pair;

use std::process::ExitCode;
use std::time::Instant;

use pair::{Cost, Pair};

const USAGE: &str = "\
what it costs two regions to find k differences among n keys.

usage: compare [--keys N]

  --keys N   keys that both hold (default: 10000000; about 650 bytes of memory each)

Exit code 0 whatever the figures say, 2 for a wrong command line.";

/// The differences of each row: how many, whether a partition made them, and the goal in words.
const ROWS: [(usize, bool, &str); 4] = [
    (0, false, "nothing to repair"),
    (1, false, "<= 20 KB, <= 3 round trips"),
    (1_000, false, "<= 2 MB"),
    (100_000, true, "<= 1.3 x the entries"),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let keys = match &words[..] {
        [] => Some(10_000_000),
        [flag, value] if flag == "--keys" => value.parse().ok(),
        _ => None,
    };
    let Some(keys) = keys else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let mut pair = Pair::new(keys);
    println!(
        "{keys} keys of 36 bytes with outcomes of 200, in both regions after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    println!(
        "{:>9} {:>12} {:>12} {:>7} {:>9} {:>8}  goal",
        "differing", "bytes", "of entries", "ratio", "trips", "ms"
    );
    for (differing, together, goal) in ROWS {
        pair.differ(differing, together);
        let cost = pair.compare();
        row(differing, &cost, goal);
    }
    ExitCode::SUCCESS
}

fn row(differing: usize, cost: &Cost, goal: &str) {
    let ratio = cost.bytes as f64 / cost.entry_bytes.max(1) as f64;
    let ratio = if cost.entry_bytes == 0 { "-".to_owned() } else { format!("{ratio:.2}") };
    println!(
        "{differing:>9} {:>12} {:>12} {ratio:>7} {:>9.1} {:>8.1}  {goal}",
        cost.bytes, cost.entry_bytes, cost.round_trips, cost.ms
    );
}
