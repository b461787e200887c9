//! Quantities as people write them: `250us`, `1.5s`, `16KiB`, `50kB/s`, `20/s`, `1.5%`.
//!
//! One number and one unit. Fractions are allowed where they come out even (`1.5ms` is 1,500 us, `0.1us` is nothing), so
//! that what is written reads back as the same number: a shrunk schedule must run exactly as it did. Integers only; a
//! float has no place in a format that promises that.
//!
//! Must never: overflow or panic, whatever the text.

/// What a number means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    /// Microseconds.
    Time,
    /// Bytes.
    Size,
    /// Bytes a second.
    Flow,
    /// How often in 1,000 seconds.
    Pace,
    /// Thousandths.
    Share,
    /// Just so many.
    Count,
}

const TIMES: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];
const SIZES: [(&str, u64); 6] =
    [("GiB", 1 << 30), ("MB", 1_000_000), ("MiB", 1 << 20), ("kB", 1_000), ("KiB", 1 << 10), ("B", 1)];
const FLOWS: [(&str, u64); 3] = [("MB/s", 1_000_000), ("kB/s", 1_000), ("B/s", 1)];
const PACES: [(&str, u64); 2] = [("/s", 1_000), ("/ks", 1)];
const SHARES: [(&str, u64); 1] = [("%", 10)];
const COUNTS: [(&str, u64); 1] = [("", 1)];

impl Unit {
    const fn table(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Time => &TIMES,
            Self::Size => &SIZES,
            Self::Flow => &FLOWS,
            Self::Pace => &PACES,
            Self::Share => &SHARES,
            Self::Count => &COUNTS,
        }
    }

    /// What it is called, with its article.
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Time => "a duration",
            Self::Size => "a size",
            Self::Flow => "a rate in bytes",
            Self::Pace => "a rate",
            Self::Share => "a share",
            Self::Count => "a whole number",
        }
    }

    /// What to write instead; with `ranges`, of those too.
    pub(super) const fn example(self, ranges: bool) -> &'static str {
        match self {
            Self::Time if ranges => {
                "a number with one of the units us, ms, s, m, h, d, such as \"10ms\", or a range as \"10ms..50ms\""
            }
            Self::Time => "a number with one of the units us, ms, s, m, h, d, such as \"10ms\"",
            Self::Size => "a number with one of the units B, KiB, MiB, GiB, kB, MB, such as \"16KiB\"",
            Self::Flow => "a number with one of the units B/s, kB/s, MB/s, such as \"50kB/s\"",
            Self::Pace => "a number a second, such as \"20/s\"",
            Self::Share => "a share in steps of a tenth of a percent, such as \"1%\" or \"0.5%\"",
            Self::Count if ranges => "a whole number, such as 5, or a range as \"5..20\"",
            Self::Count => "a whole number, such as 5",
        }
    }

    /// The number in `text`; `None` where it is none of this unit, or does not come out even.
    pub(super) fn parse(self, text: &str) -> Option<u64> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..end], text[end..].trim_start());
        let (_, factor) = self.table().iter().find(|(name, _)| *name == unit)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || part.is_empty() || part.len() > 12 {
            return None;
        }
        let ten = 10u64.pow(part.len() as u32);
        let parts = part.parse::<u64>().ok()?.checked_mul(*factor)?;
        if !parts.is_multiple_of(ten) {
            return None;
        }
        whole.parse::<u64>().ok()?.checked_mul(*factor)?.checked_add(parts / ten)
    }

    /// How to write it; reads back as the same number.
    pub(super) fn render(self, value: u64) -> String {
        if self == Self::Time {
            return duration(value);
        }
        let table = self.table();
        if self == Self::Share || self == Self::Pace {
            let (name, factor) = table[0];
            return decimal(value, factor) + name;
        }
        let even = |(_, factor): &&(&str, u64)| value >= *factor && value.is_multiple_of(*factor);
        let (name, factor) = table.iter().find(even).unwrap_or_else(|| &table[table.len() - 1]);
        format!("{}{name}", value / factor)
    }
}

/// The largest unit it fills, with a fraction where it must: a time line is read by eye.
fn duration(us: u64) -> String {
    let whole = [TIMES[0], TIMES[1], TIMES[2]];
    let even = |(_, factor): &&(&str, u64)| us >= 2 * *factor && us.is_multiple_of(*factor);
    if let Some((name, factor)) = whole.iter().find(even) {
        return format!("{}{name}", us / factor);
    }
    match us {
        0 => "0s".to_owned(),
        1_000_000.. => decimal(us, 1_000_000) + "s",
        1_000.. => decimal(us, 1_000) + "ms",
        _ => format!("{us}us"),
    }
}

/// `value / factor`, a power of ten.
fn decimal(value: u64, factor: u64) -> String {
    let (whole, part) = (value / factor, value % factor);
    if part == 0 {
        return whole.to_string();
    }
    let digits = factor.ilog10() as usize;
    let text = format!("{whole}.{part:0digits$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_they_are_written() {
        for (unit, text, value) in [
            (Unit::Time, "250us", 250),
            (Unit::Time, "1.5s", 1_500_000),
            (Unit::Time, "2m", 120_000_000),
            (Unit::Time, "24h", 86_400_000_000),
            (Unit::Time, "0s", 0),
            (Unit::Time, "1.234567s", 1_234_567),
            (Unit::Time, "12.345ms", 12_345),
            (Unit::Size, "16KiB", 16_384),
            (Unit::Size, "5B", 5),
            (Unit::Flow, "50kB/s", 50_000),
            (Unit::Pace, "20/s", 20_000),
            (Unit::Pace, "0.5/s", 500),
            (Unit::Share, "1%", 10),
            (Unit::Share, "1.5%", 15),
            (Unit::Count, "7", 7),
        ] {
            assert_eq!(unit.parse(text), Some(value), "{text}");
            assert_eq!(unit.render(value), text);
        }
    }

    #[test]
    fn what_is_not_even_or_has_no_unit_is_refused() {
        let wrong = ["", "5", "ms", "1.5us", "0.0001ms", "5 parsecs", "-1s", ".5s", "5.s", "1e3s", "1.2.3s"];
        wrong.into_iter().for_each(|text| assert_eq!(Unit::Time.parse(text), None, "{text}"));
        assert_eq!(Unit::Time.parse("99999999999999999999d"), None);
        assert_eq!(Unit::Time.parse("18446744073709551615d"), None);
        assert_eq!(Unit::Share.parse("0.05%"), None, "finer than a run draws");
    }

    #[test]
    fn every_number_reads_back_as_itself() {
        let mut dice = crate::random::Dice::new(1, crate::random::Stream::Ranges, 0);
        for _ in 0..5_000 {
            let bits = dice.below(50);
            let value = dice.below(1 << bits);
            for unit in [Unit::Time, Unit::Size, Unit::Flow, Unit::Pace, Unit::Share, Unit::Count] {
                assert_eq!(unit.parse(&unit.render(value)), Some(value), "{}", unit.render(value));
            }
        }
    }
}
