//! One target's inputs, one after the other, each noted before it is tried.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};
use tests::fuzz::{Target, mutate::mutate, target};
use tests::random::Random;

/// Inputs that showed something new and are changed further.
const CORPUS_MAX: usize = 4_096;

/// Runs until the time is over; a broken promise is a panic, and the process ends with it.
pub fn run(name: &str, seed: &str, seconds: &str, current: &Path) -> ExitCode {
    let (Some(target), Ok(seed), Ok(seconds)) = (target(name), seed.parse(), seconds.parse()) else {
        return ExitCode::from(2);
    };
    let limit = Some(target.memory_mib << 20);
    setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).expect("a limit can be lowered");
    let note = File::create(current).expect("the scratch folder takes a file");
    let (tried, kept) = fuzz(target, seed, Duration::from_secs(seconds), &note);
    println!("fuzz: {name}: {tried} inputs, {kept} of them showed something new");
    ExitCode::SUCCESS
}

fn fuzz(target: &Target, seed: u64, time: Duration, note: &File) -> (u64, usize) {
    let mut random = Random::new(seed);
    let mut corpus = (target.seeds)();
    assert!(!corpus.is_empty(), "{} has nothing to begin with", target.name);
    let mut known: HashSet<u64> = HashSet::new();
    for seed in &corpus {
        write_note(note, seed);
        known.insert((target.run)(seed));
    }
    let good = corpus.len();
    let (began, mut tried) = (Instant::now(), good as u64);
    while began.elapsed() < time {
        // The good ones again and again: what comes from them is closest to what is accepted.
        let among = if random.once_in(2) { good } else { corpus.len() };
        let mut input = corpus[random.below(among)].clone();
        let other = &corpus[random.below(corpus.len())];
        mutate(&mut input, other, &mut random);
        if !random.once_in(4) {
            (target.mend)(&mut input);
        }
        write_note(note, &input);
        tried += 1;
        if known.insert((target.run)(&input)) && corpus.len() < CORPUS_MAX {
            corpus.push(input);
        }
    }
    (tried, corpus.len() - good)
}

/// Length, then bytes: what an earlier, longer input left behind does not count.
fn write_note(note: &File, input: &[u8]) {
    let mut bytes = (input.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(input);
    note.write_all_at(&bytes, 0).expect("the scratch folder takes it");
}

/// The input that was tried last.
pub fn noted(current: &Path) -> Vec<u8> {
    let bytes = std::fs::read(current).unwrap_or_default();
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else { return Vec::new() };
    rest[..(u32::from_le_bytes(*len) as usize).min(rest.len())].to_vec()
}
