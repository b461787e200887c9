//! What happened in a run, line by line, with a running hash over all of it (INV-18: "The same seed
//! gives the same trace, byte for byte").
//!
//! The hash is taken over the numbers of every event; the text is made only when somebody wants to
//! read it, because formatting costs more than simulating.
//!
//! Must never: contain anything that differs between two runs of a seed: no addresses, no real times.

use std::fmt::Write as _;

/// The record of one run.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hash: u64,
    lines: u64,
    text: Option<String>,
}

impl Trace {
    /// A trace that keeps its text only if `keep` says so.
    pub fn new(keep: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: 0, text: keep.then(String::new) }
    }

    /// Records that `what` happened at `at_us`, with the numbers that describe it.
    pub fn event(&mut self, at_us: u64, what: &str, numbers: &[u64]) {
        self.lines += 1;
        self.fold(at_us);
        self.bytes(what.as_bytes());
        numbers.iter().for_each(|number| self.fold(*number));
        if let Some(text) = &mut self.text {
            let line = writeln!(text, "{:>12.6} {what} {numbers:?}", at_us as f64 / 1e6);
            line.expect("writing into a String cannot fail");
        }
    }

    /// Records bytes without showing them.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.fold(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    /// Adds a remark to the text only; it must follow from what was hashed.
    pub fn remark(&mut self, remark: impl FnOnce() -> String) {
        if let Some(text) = &mut self.text {
            text.push_str("             ");
            text.push_str(&remark());
            text.push('\n');
        }
    }

    /// Hash of everything recorded so far.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// Events recorded.
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// The text, where it was kept.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    const fn fold(&mut self, value: u64) {
        let mixed = (self.hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ (mixed >> 29);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_every_number_and_not_on_the_text() {
        let hash = |keep, at_us, what: &str, numbers: &[u64]| {
            let mut trace = Trace::new(keep);
            trace.event(at_us, what, numbers);
            trace.hash()
        };
        assert_eq!(hash(true, 1, "x", &[2]), hash(false, 1, "x", &[2]));
        assert_ne!(hash(false, 1, "x", &[2]), hash(false, 1, "x", &[3]));
        assert_ne!(hash(false, 1, "x", &[2]), hash(false, 2, "x", &[2]));
        assert_ne!(hash(false, 1, "x", &[]), hash(false, 1, "y", &[]));
        let mut trace = Trace::new(false);
        let before = trace.hash();
        trace.bytes(b"abc");
        assert_ne!(trace.hash(), before);
    }
}
