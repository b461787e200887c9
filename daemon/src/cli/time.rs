//! Times and durations as people read and write them.
//!
//! The socket speaks Unix milliseconds; people get RFC 3339 in UTC and how far off that is. Written here rather than
//! taken from a date crate: two functions, no time zones, no leap seconds. Reads no clock; the caller passes `now_ms`.

use super::limits::DURATION_MS_MAX;

/// `2026-11-21T00:18:22.123Z`. Unix milliseconds in; years beyond 9999 get more digits.
pub fn rfc3339(at_ms: i64) -> String {
    let (days, ms) = (at_ms.div_euclid(86_400_000), at_ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month, day of a day counted from 1970-01-01 (Howard Hinnant, `civil_from_days`): years begin in March, so
/// that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `in 29.8 s`, `4 min 10 s ago`, `now`.
pub fn relative(at_ms: i64, now_ms: i64) -> String {
    let off = at_ms.saturating_sub(now_ms);
    match off {
        0 => "now".to_owned(),
        1.. => format!("in {}", duration(off)),
        _ => format!("{} ago", duration(off.saturating_neg())),
    }
}

/// A time and how far off it is.
pub fn absolute_and_relative(at_ms: i64, now_ms: i64) -> String {
    format!("{} ({})", rfc3339(at_ms), relative(at_ms, now_ms))
}

/// `850 ms`, `29.8 s`, `4 min 10 s`, `23 h 59 min`, `7 d 3 h`: two units at most, cut, not rounded.
pub fn duration(ms: i64) -> String {
    if ms < 0 {
        return format!("-{}", duration(ms.saturating_neg()));
    }
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1_000 / 100),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Milliseconds of `500ms`, `30s`, `5m`, `24h`, `7d` or a bare number of milliseconds: clap's value parser.
///
/// # Errors
/// The text is none of these, or longer than a year.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("write it as 500ms, 30s, 5m, 24h or 7d; a bare number is milliseconds".to_owned()),
    };
    let number: u64 =
        number.parse().map_err(|_| "starts with no number, or one too large; try 30s".to_owned())?;
    match number.checked_mul(factor) {
        Some(ms) if ms <= DURATION_MS_MAX => Ok(ms),
        _ => Err("longer than a year; the longest retention is 90d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_where_calendars_are_odd() {
        // Checked with `date -u -d @SECONDS`.
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(rfc3339(1_795_220_302_123), "2026-11-21T00:18:22.123Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn durations_have_two_units() {
        let shown: Vec<String> =
            [0, 850, 29_870, 250_000, 86_399_000, 615_600_000, -3].into_iter().map(duration).collect();
        assert_eq!(shown, ["0 ms", "850 ms", "29.8 s", "4 min 10 s", "23 h 59 min", "7 d 3 h", "-3 ms"]);
        assert_eq!(relative(1_000, 1_000), "now");
        assert_eq!(relative(30_800, 1_000), "in 29.8 s");
        assert_eq!(relative(0, 5_000), "5.0 s ago");
        assert!(relative(i64::MIN, i64::MAX).ends_with("ago"));
    }

    #[test]
    fn durations_are_read() {
        let read = |text| parse_duration_ms(text).ok();
        assert_eq!(
            ["30000", "500ms", "30s", "5m", "24h", "7d"].map(read),
            [Some(30_000), Some(500), Some(30_000), Some(300_000), Some(86_400_000), Some(604_800_000)]
        );
        assert_eq!(["", "s", "-5s", "5 s", "1.5s", "367d", "99999999999999999999s"].map(read), [None; 7]);
    }
}
