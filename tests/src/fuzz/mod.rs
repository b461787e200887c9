//! Fuzz targets for everything that decodes bytes of a disk or of a peer, and a harness for them on stable Rust.
//!
//! A [`Target`] is a function that takes any bytes and panics where a promise is broken: no decoder panics, none
//! accepts what it would not write itself, none takes memory out of proportion, and a data folder that a start has
//! accepted is accepted by the next one, with the same state. The same functions are driven in two ways: by the
//! program `fuzz` (mutations that know the formats and mend their checksums, so that they come past the CRC; bounded
//! time; a printed seed), which CI runs, and by cargo-fuzz (`tests/fuzz`), which needs a nightly Rust and is guided by
//! coverage.
//!
//! Each target gives back a number that stands for what it saw; the harness keeps inputs that show something new. It
//! must never depend on anything but its bytes: a saved input fails again wherever it is replayed.

pub mod folder;
pub mod mend;
pub mod mutate;
pub mod seeds;
pub mod targets;

/// One thing that decodes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As on the command line.
    pub name: &'static str,
    /// Runs it; panics where a promise is broken. The number stands for what was seen.
    pub run: fn(&[u8]) -> u64,
    /// Good bytes to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Mends lengths and checksums, so that the decoder behind them is reached.
    pub mend: fn(&mut Vec<u8>),
    /// Memory that the process may map, in MiB: an input that wants more ends it.
    pub memory_mib: u64,
}

/// All of them.
pub const TARGETS: [Target; 6] = [
    Target { name: "record", run: targets::record, seeds: seeds::records, mend: |_| {}, memory_mib: 512 },
    Target { name: "frame", run: targets::frame, seeds: seeds::frames, mend: |_| {}, memory_mib: 512 },
    Target {
        name: "segment",
        run: targets::segment,
        seeds: seeds::segments,
        mend: |bytes| mend::segment(bytes),
        memory_mib: 512,
    },
    Target {
        name: "manifest",
        run: targets::manifest,
        seeds: seeds::manifests,
        mend: |bytes| mend::manifest(bytes),
        memory_mib: 512,
    },
    Target {
        name: "run",
        run: targets::run,
        seeds: seeds::runs,
        mend: |bytes| mend::run(bytes),
        memory_mib: 512,
    },
    // Threads that load map stacks and heaps of their own.
    Target { name: "folder", run: folder::run, seeds: seeds::folders, mend: folder::mend, memory_mib: 8192 },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Mixes what was seen into one number.
pub(crate) fn seen(parts: &[u64]) -> u64 {
    parts.iter().fold(0xcbf2_9ce4_8422_2325, |hash, part| (hash ^ part).wrapping_mul(0x0100_0000_01b3))
}
