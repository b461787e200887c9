//! Names that people can hold in their heads: letters for the claims of a key, seconds since the start for clocks.
//!
//! The oracle speaks of `1780000000812+0@r1.5` and `now=1780000003123`. Both are exact, and nobody can tell two of them
//! apart at a glance.
//!
//! Must never: give one letter to two claims of a key.

use std::collections::BTreeMap;

use super::moment::{MomentId, What};
use super::record::Record;
use crate::clock::EPOCH_MS;
use crate::naming;
use crate::oracle::facts::{ClaimName, Key};

/// Numbers within so many milliseconds of the start of time are taken for clock readings.
const DAY_MS: u64 = 86_400_000;

/// Letters by key and claim.
#[derive(Clone, Debug, Default)]
pub struct Names {
    letters: BTreeMap<(Key, ClaimName), String>,
    regions: Vec<String>,
}

impl Names {
    /// Letters for every claim of a run, in the order in which they were granted, but those of the moments `first`.
    pub fn of(record: &Record, first: &[MomentId]) -> Self {
        let mut names = Self { regions: record.names.clone(), ..Self::default() };
        let mut counts = BTreeMap::new();
        let all = record.moments.iter();
        let first = first.iter().filter_map(|id| record.moments.get(*id as usize));
        for moment in first.chain(all) {
            let What::Answered(answered) = &moment.what else { continue };
            let Some(claim) = answered.claim else { continue };
            let count: &mut usize = counts.entry(answered.key).or_default();
            names.letters.entry((answered.key, claim)).or_insert_with(|| {
                *count += 1;
                letter(*count - 1)
            });
        }
        names
    }

    /// The letter of a claim; its whole name if nobody was ever granted it.
    pub fn claim(&self, key: Key, claim: ClaimName) -> String {
        self.letters.get(&(key, claim)).cloned().unwrap_or_else(|| claim.to_string())
    }

    /// What people call a region.
    pub fn region(&self, site: usize) -> String {
        naming::region(&self.regions, site)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (Key, ClaimName, &str)> + '_ {
        self.letters.iter().map(|((key, claim), letter)| (*key, *claim, letter.as_str()))
    }

    /// Whether one of a key's claims is named in a text of the oracle's.
    pub fn claims_in(text: &str) -> Vec<ClaimName> {
        let mut found = Vec::new();
        walk(text, |token| {
            if let Token::Claim(claim) = token {
                found.push(claim);
            }
        });
        found
    }

    /// A text of the oracle's about a key, in these names.
    pub fn humanise(&self, text: &str, key: Option<Key>) -> String {
        let mut out = String::with_capacity(text.len());
        walk(text, |token| match token {
            Token::Text(text) => out.push_str(text),
            Token::Claim(claim) => {
                let letter = key.and_then(|key| self.letters.get(&(key, claim)));
                match letter {
                    Some(letter) => {
                        out.push_str("claim ");
                        out.push_str(letter);
                    }
                    None => out.push_str(&claim.to_string()),
                }
            }
            Token::Clock(ms) => {
                if out.ends_with("now=") {
                    out.truncate(out.len() - "now=".len());
                    out.push_str("clock ");
                }
                out.push_str(&clock(ms));
            }
        });
        naming::named(&out, &self.regions)
    }
}

/// A clock reading, Unix ms, as seconds since the start of the run.
pub fn clock(unix_ms: u64) -> String {
    let since_ms = unix_ms as i64 - EPOCH_MS as i64;
    format!("{}{:.3} s", if since_ms < 0 { "-" } else { "" }, since_ms.unsigned_abs() as f64 / 1000.0)
}

/// A time in a run.
pub fn at(at_us: u64) -> String {
    format!("{:.6} s", at_us as f64 / 1e6)
}

fn letter(number: usize) -> String {
    let letter = char::from(b'A' + (number % 26) as u8);
    match number / 26 {
        0 => letter.to_string(),
        round => format!("{letter}{}", round + 1),
    }
}

enum Token<'t> {
    Text(&'t str),
    Claim(ClaimName),
    Clock(u64),
}

/// Takes a text apart.
fn walk<'t>(text: &'t str, mut each: impl FnMut(Token<'t>)) {
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        each(Token::Text(&rest[..start]));
        let after = &rest[start..];
        let digits = digits(after);
        let number = after[..digits].parse::<u64>().ok();
        let is_clock = number.filter(|ms| ms.abs_diff(EPOCH_MS) < DAY_MS);
        let (token, used) = match (is_clock, number) {
            (Some(ms), _) => claim(ms, &after[digits..])
                .map_or((Token::Clock(ms), digits), |(name, more)| (Token::Claim(name), digits + more)),
            _ => (Token::Text(&after[..digits]), digits),
        };
        each(token);
        rest = &after[used..];
    }
    each(Token::Text(rest));
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// `+0@r1.5` behind the milliseconds of a claim's stamp, and how many bytes that is.
fn claim(ms: u64, text: &str) -> Option<(ClaimName, usize)> {
    let number = |text: &str| {
        let length = digits(text);
        Some((text[..length].parse::<u64>().ok()?, length))
    };
    let (counter, a) = number(text.strip_prefix('+')?)?;
    let rest = text[1 + a..].strip_prefix("@r")?;
    let (region, b) = number(rest)?;
    let (incarnation, c) = number(rest[b..].strip_prefix('.')?)?;
    let region = u16::try_from(region).ok()?;
    let name = ClaimName { stamp: ms << 16 | counter, region, incarnation: u32::try_from(incarnation).ok()? };
    Some((name, 1 + a + 2 + b + 1 + c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_and_clocks_are_found_in_the_oracles_words() {
        let claim = ClaimName { stamp: (EPOCH_MS + 812) << 16 | 3, region: 1, incarnation: 5 };
        let text = format!("r2 settled {claim} (completed in r3 at {}), seq 17", EPOCH_MS + 3_123);
        assert_eq!(Names::claims_in(&text), [claim]);
        let names = Names { letters: [((4, claim), "B".to_owned())].into(), regions: vec!["eu".to_owned()] };
        assert_eq!(names.humanise(&text, Some(4)), "r2 settled claim B (completed in r3 at 3.123 s), seq 17");
        assert!(
            names.humanise(&text, Some(5)).contains(&claim.to_string().replace("@r1.", "@eu.")),
            "another key's claim"
        );
        assert_eq!(names.humanise("", None), "");
        assert_eq!(clock(EPOCH_MS - 5), "-0.005 s");
    }

    #[test]
    fn letters_go_on_behind_z() {
        assert_eq!([0, 25, 26, 52].map(letter), ["A", "Z", "A2", "A3"]);
    }
}
