//! Durations and sizes as people write them: `24h`, `500ms`, `64KiB`, `2GiB`.
//!
//! One integer and one unit, nothing else: `1h30m` and `1.5GiB` are refused, because every extension makes
//! two ways to write one value, and a policy is read more often than written. A unit is required: a bare
//! number is how a lease of 30 seconds becomes one of 30 milliseconds. Only binary sizes exist here, so `KB`
//! is refused instead of guessed. Nothing here may overflow or panic, whatever the text.

/// Units of time with their milliseconds, largest first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Units of size with their bytes, largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Milliseconds of `24h`, `30s`, `500ms`…; `None` when it is not one integer with one unit, or too large.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    parse(text, &DURATION_UNITS)
}

/// Bytes of `64KiB`, `2GiB`, `512B`…; `None` as for durations.
pub fn parse_bytes(text: &str) -> Option<u64> {
    parse(text, &SIZE_UNITS)
}

/// The shortest way to write a duration; reads back as the same number.
pub fn duration(ms: u64) -> String {
    render(ms, &DURATION_UNITS, "0s")
}

/// The shortest way to write a size; reads back as the same number.
pub fn bytes(count: u64) -> String {
    render(count, &SIZE_UNITS, "0B")
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start_matches(' ');
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

fn render(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    units
        .iter()
        .find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor))
        .map_or_else(|| zero.to_owned(), |(name, factor)| format!("{}{name}", value / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_they_are_written() {
        let durations =
            [("24h", 86_400_000), ("90d", 7_776_000_000), ("30 s", 30_000), ("0ms", 0), ("5m", 300_000)];
        for (text, ms) in durations {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
        for (text, count) in [("64KiB", 65_536), ("2GiB", 2 << 30), ("7B", 7), ("1MiB", 1 << 20)] {
            assert_eq!(parse_bytes(text), Some(count), "{text}");
        }
    }

    #[test]
    fn anything_ambiguous_is_refused() {
        for text in
            ["", "30", "s", "-1s", "1.5h", "1h30m", "1S", " 1s", "1 s ", "99999999999999999999s", "٣s"]
        {
            assert_eq!(parse_duration_ms(text), None, "{text}");
        }
        for text in ["64KB", "64k", "1 TiB", "18446744073709551615GiB", "KiB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for ms in [0, 1, 999, 1_000, 1_500, 60_000, 86_400_000, 90_000_000, u64::MAX] {
            assert_eq!(parse_duration_ms(&duration(ms)), Some(ms));
        }
        for count in [0, 1, 1_024, 1_025, 65_536, 1 << 30, 3 << 29, u64::MAX] {
            assert_eq!(parse_bytes(&bytes(count)), Some(count));
        }
        assert_eq!((duration(86_400_000), bytes(65_536)), ("1d".to_owned(), "64KiB".to_owned()));
    }
}
