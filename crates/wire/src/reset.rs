//! Reset times of rate limits, as vendors write them: a duration or a time.

use std::fmt::Write as _;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// A duration of `ms` milliseconds in Go's format: `6m0s`, `17.4s`, `12ms`, `0s`.
pub(crate) fn duration(ms: u64) -> String {
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let (seconds, rest) = (ms / 1000 % 60, ms % 1000);
    if ms > 0 && ms < 1000 {
        return format!("{ms}ms");
    }
    let mut text = String::with_capacity(12);
    let mut write = || {
        if hours > 0 {
            write!(text, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(text, "{minutes}m")?;
        }
        write!(text, "{seconds}")?;
        if rest > 0 {
            let fraction = format!(".{rest:03}");
            text.write_str(fraction.trim_end_matches('0'))?;
        }
        text.write_char('s')
    };
    // Writing to a string does not fail.
    match write() {
        Ok(()) | Err(std::fmt::Error) => text,
    }
}

/// Formats milliseconds since 1970 by RFC 3339, rounded up to a second, so that a client that retries at that
/// time is not too early.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let seconds = unix_ms.div_ceil(1000);
    let (year, month, day) = date(seconds / DAY);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day since 1970-01-01. Years start in March here, so that a leap day is the last day
/// of its year.
fn date(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::{date, duration, rfc3339};

    #[test]
    fn durations_are_written_as_go_does() {
        for (ms, expected) in [
            (0, "0s"),
            (1, "1ms"),
            (20, "20ms"),
            (999, "999ms"),
            (1000, "1s"),
            (17_400, "17.4s"),
            (17_004, "17.004s"),
            (59_990, "59.99s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (61_500, "1m1.5s"),
            (3_600_000, "1h0m0s"),
            (90_061_001, "25h1m1.001s"),
        ] {
            assert_eq!(duration(ms), expected);
        }
        assert!(duration(u64::MAX).ends_with('s'));
    }

    #[test]
    fn times_are_written_in_utc() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (1, "1970-01-01T00:00:01Z"),
            (951_782_399_000, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_800_000, "2000-03-01T00:00:00Z"),
            (1_700_000_000_000, "2023-11-14T22:13:20Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (253_402_300_799_000, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(ms), expected);
        }
        assert!(rfc3339(u64::MAX).ends_with('Z'));
    }

    /// Over eight centuries, every day follows the preceding one by the calendar's own rules.
    #[test]
    fn no_day_is_missing() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for number in 0..300_000 {
            assert_eq!(date(number), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
