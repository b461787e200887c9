//! What a load does to a server, and how each server is told to do it.
//!
//! One place holds the pairs (ours, theirs) that the bench compares, so that what is compared can be read on one
//! screen. It must never give one side an easier job: the same keys, the same number of bytes.

use crate::resp::push_command;
use std::str::FromStr;

/// Key remembered for a day, which is also onced's default retention.
const RETENTION_MS: &str = "86400000";

/// Which command language a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// onced's native commands.
    Onced,
    /// Redis's, which valkey shares.
    Redis,
}

/// The kinds of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Claim a random short key: `CLAIM k NOTE x` beside `SET k x NX PX …`.
    Claim,
    /// Ask for a random short key that is settled: `CLAIM k` (answers REPLAY) beside `GET k`.
    Replay,
    /// Fill, in order, short keys with outcomes for `Replay` to find.
    FillShort,
    /// Fill, in order, 36-byte keys that stay held, the value as the claim's note.
    Hold,
    /// Fill, in order, 36-byte keys that are completed, the value as the outcome.
    Settle,
}

/// A command made ahead; only the digits of its key are written for each use.
pub struct Template {
    bytes: Vec<u8>,
    key_end: usize,
}

impl Template {
    /// Appends the command for the key with this number.
    pub fn stamp(&self, mut number: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let mut at = start + self.key_end;
        while number > 0 {
            at -= 1;
            // One decimal digit fits a byte.
            out[at] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
}

/// The names by which the bench passes work to its own child process.
const WORKS: [(&str, Work); 5] = [
    ("claim", Work::Claim),
    ("replay", Work::Replay),
    ("fill-short", Work::FillShort),
    ("hold", Work::Hold),
    ("settle", Work::Settle),
];

impl Work {
    /// The name the child process takes.
    pub fn name(self) -> &'static str {
        WORKS.iter().find(|(_, work)| *work == self).map_or("claim", |(name, _)| name)
    }

    /// Whether keys are drawn at random; otherwise each is used once, in order.
    pub fn is_random(self) -> bool {
        matches!(self, Work::Claim | Work::Replay)
    }

    /// Whether a token must be taken from each reply and the claim completed.
    pub fn completes(self, dialect: Dialect) -> bool {
        dialect == Dialect::Onced && matches!(self, Work::FillShort | Work::Settle)
    }

    /// The key with this number: what `redis-benchmark` makes of `key:__rand_int__` (16 bytes), or 36 bytes.
    pub fn key(self, number: u64) -> String {
        match self {
            Work::Claim | Work::Replay | Work::FillShort => format!("key:{number:012}"),
            Work::Hold | Work::Settle => format!("fill:{number:031}"),
        }
    }

    /// The first command for a key, to be stamped with key numbers: the only one, except where `completes`.
    pub fn template(self, dialect: Dialect, value: &[u8]) -> Template {
        let key = self.key(0);
        let key = key.as_bytes();
        let px = RETENTION_MS.as_bytes();
        let mut bytes = Vec::new();
        match (dialect, self) {
            (Dialect::Onced, Work::Claim) => push_command(&mut bytes, &[b"CLAIM", key, b"NOTE", b"x"]),
            (Dialect::Onced, Work::Hold) => push_command(&mut bytes, &[b"CLAIM", key, b"NOTE", value]),
            (Dialect::Onced, _) => push_command(&mut bytes, &[b"CLAIM", key]),
            (Dialect::Redis, Work::Claim) => push_command(&mut bytes, &[b"SET", key, b"x", b"NX", b"PX", px]),
            (Dialect::Redis, Work::Replay) => push_command(&mut bytes, &[b"GET", key]),
            (Dialect::Redis, _) => push_command(&mut bytes, &[b"SET", key, value, b"PX", px]),
        }
        // The key is the first part that reads like one: command words hold no colon.
        let key_end = bytes.windows(key.len()).position(|part| part == key).map_or(0, |at| at + key.len());
        Template { bytes, key_end }
    }

    /// The same as words for `redis-benchmark`, which puts the key in; None for work only our own driver does.
    pub fn benchmark_words(self, dialect: Dialect) -> Option<&'static [&'static str]> {
        Some(match (dialect, self) {
            (Dialect::Onced, Work::Claim) => &["CLAIM", "key:__rand_int__", "NOTE", "x"],
            (Dialect::Onced, Work::Replay) => &["CLAIM", "key:__rand_int__"],
            (Dialect::Redis, Work::Claim) => &["SET", "key:__rand_int__", "x", "NX", "PX", RETENTION_MS],
            (Dialect::Redis, Work::Replay) => &["GET", "key:__rand_int__"],
            _ => return None,
        })
    }

    /// Whether a reply is one this work may get; anything else means the figure measures refusals.
    pub fn accepts(self, dialect: Dialect, reply: &[u8]) -> bool {
        if reply.first() == Some(&b'-') {
            return false;
        }
        // A ceiling server answers +OK to everything.
        if dialect == Dialect::Redis || reply.first() == Some(&b'+') {
            return self != Work::Replay || !reply.starts_with(b"$-1");
        }
        let status = crate::resp::field(reply, b"status").unwrap_or_default();
        match self {
            Work::Claim => matches!(status, b"GRANTED" | b"IN_PROGRESS"),
            Work::Replay => status == b"REPLAY",
            Work::FillShort | Work::Hold | Work::Settle => matches!(status, b"GRANTED" | b"COMPLETED"),
        }
    }
}

impl FromStr for Work {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = WORKS.iter().find(|(known, _)| *known == name);
        found.map(|(_, work)| *work).ok_or_else(|| anyhow::anyhow!("unknown work `{name}`"))
    }
}

impl Dialect {
    /// The name the child process takes.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Onced => "onced",
            Dialect::Redis => "redis",
        }
    }
}

impl FromStr for Dialect {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "onced" => Ok(Dialect::Onced),
            "redis" => Ok(Dialect::Redis),
            _ => anyhow::bail!("unknown dialect `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_lengths_the_goals_name() {
        assert_eq!(Work::Claim.key(7), "key:000000000007");
        assert_eq!(Work::Claim.key(7).len(), 16);
        assert_eq!(Work::Settle.key(7).len(), 36);
    }

    #[test]
    fn a_stamped_template_is_the_command_for_that_key() {
        for dialect in [Dialect::Onced, Dialect::Redis] {
            for (_, work) in WORKS {
                let mut stamped = Vec::new();
                work.template(dialect, b"vvv").stamp(407, &mut stamped);
                let text = String::from_utf8(stamped).unwrap();
                assert!(text.contains(&format!("\r\n{}\r\n", work.key(407))), "{text}");
                assert_eq!(crate::resp::value_len(text.as_bytes()).unwrap(), Some(text.len()));
            }
        }
    }

    #[test]
    fn refusals_are_not_accepted_as_work() {
        let refused = b"*2\r\n$6\r\nstatus\r\n$11\r\nUNAVAILABLE\r\n";
        assert!(!Work::Claim.accepts(Dialect::Onced, refused));
        assert!(!Work::Claim.accepts(Dialect::Redis, b"-ERR no\r\n"));
        assert!(Work::Claim.accepts(Dialect::Redis, b"$-1\r\n"));
        assert!(!Work::Replay.accepts(Dialect::Redis, b"$-1\r\n"));
    }

    #[test]
    fn names_survive_the_way_to_the_child() {
        for (name, work) in WORKS {
            assert_eq!(name.parse::<Work>().unwrap(), work);
            assert_eq!(work.name(), name);
        }
    }
}
