//! Expiry of streams: a sliding time to live (`stream-ttl`), or a date (`stream-expires-at`, RFC 3339). Pure. A stream
//! must never be extended by a look at its metadata.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::error::StreamError;
use super::headers::{EXPIRES_AT, TTL, number, single};

/// The end of a stream's life.
#[derive(Debug, Clone)]
pub(super) enum Expiry {
    /// After so long without a read or an append. Whole seconds.
    Ttl(Duration),
    /// At a date.
    At { header: HeaderValue, unix: Duration },
}

/// Two dates are the same in whatever time zone they are written.
impl PartialEq for Expiry {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ttl(own), Self::Ttl(other))
            | (Self::At { unix: own, .. }, Self::At { unix: other, .. }) => own == other,
            _ => false,
        }
    }
}

impl Expiry {
    /// That of a request. `None`: it gives none.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, StreamError> {
        match (single(headers, &TTL)?, single(headers, &EXPIRES_AT)?) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                let message = "cannot be combined with `stream-expires-at`; send one of them";
                Err(StreamError::invalid("stream-ttl", message))
            }
            (Some(seconds), None) => {
                number(&TTL, seconds).map(|seconds| Some(Self::Ttl(Duration::from_secs(seconds))))
            }
            (None, Some(date)) => {
                let unix = date_time(date);
                let header = headers.get(EXPIRES_AT).cloned();
                let at = header.zip(unix).map(|(header, unix)| Self::At { header, unix });
                at.map(Some).ok_or_else(|| {
                    let message =
                        "must be a date of RFC 3339 after 1970, as in `2030-01-31T12:00:00Z`";
                    StreamError::invalid("stream-expires-at", message)
                })
            }
        }
    }

    /// The time at which a stream ends that was last used at `used`. `None`: later than the clock can tell. `born`: a
    /// moment by both clocks, so that a step of the wall clock moves no date.
    pub(super) fn deadline(&self, used: Instant, born: (Instant, Duration)) -> Option<Instant> {
        match self {
            Self::Ttl(idle) => used.checked_add(*idle),
            Self::At { unix, .. } => {
                let (then, date) = born;
                then.checked_add(unix.saturating_sub(date))
            }
        }
    }

    /// Sets it in the headers of metadata.
    pub(super) fn set(&self, headers: &mut HeaderMap) {
        match self {
            Self::Ttl(idle) => headers.insert(TTL, HeaderValue::from(idle.as_secs())),
            Self::At { header, .. } => headers.insert(EXPIRES_AT, header.clone()),
        };
    }
}

/// Reads a date of RFC 3339, section 5.6, as the time since 1970.
fn date_time(text: &str) -> Option<Duration> {
    let (date, rest) = text.split_at_checked(10)?;
    let time = rest.strip_prefix(['T', 't'])?;
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(zone)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, fraction) = time.split_once('.').map_or((time, None), |(a, b)| (a, Some(b)));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    // A leap second is the last second of its minute.
    let in_range = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second.min(59);
    let seconds = u64::try_from(seconds - offset(zone)?).ok()?;
    Some(Duration::new(seconds, fraction.map_or(Some(0), nanoseconds)?))
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        *number =
            Some(part).filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// The seconds of a zone east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, east) = zone.split_at_checked(1)?;
    let [hours, minutes] = numbers(east, ':', [2, 2])?;
    let seconds = Some(hours * 3_600 + minutes * 60).filter(|_| hours < 24 && minutes < 60)?;
    Some(if sign == "-" { -seconds } else { seconds })
}

fn nanoseconds(fraction: &str) -> Option<u32> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    digits.parse().ok()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The days from 1970 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leap_days = before / 4 - before / 100 + before / 400;
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    before * 365 + leap_days + months + day - 1 - 719_162
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_of_rfc_3339_are_read() {
        for (text, unix) in [
            ("1970-01-01T00:00:00Z", Duration::ZERO),
            ("2000-02-29T23:59:59Z", Duration::from_secs(951_868_799)),
            ("2026-11-21T10:00:00.250Z", Duration::from_millis(1_795_255_200_250)),
            ("2026-11-21t12:00:00.25+02:00", Duration::from_millis(1_795_255_200_250)),
            ("2026-11-21T04:30:00-05:30", Duration::from_hours(498_682)),
            ("2016-12-31T23:59:60z", Duration::from_secs(1_483_228_799)),
            ("9999-12-31T23:59:59Z", Duration::from_secs(253_402_300_799)),
        ] {
            assert_eq!(date_time(text), Some(unix), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_dates() {
        for text in [
            "",
            "not-a-timestamp",
            "2026-11-21",
            "2026-11-21T10:00:00",
            "2026-11-21 10:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+2:00",
            "2026-01-01T00:00:00+02",
            "1969-12-31T23:59:59Z",
            "+026-01-01T00:00:00Z",
            "2026-01-0\u{e9}T00:00:00Z",
        ] {
            assert_eq!(date_time(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9TtZz:+. -]{0,40}") {
            date_time(&text);
        }
    }

    fn read(pairs: &[(http::HeaderName, &'static str)]) -> Result<Option<Expiry>, StreamError> {
        let pairs = pairs.iter().cloned();
        Expiry::of(&pairs.map(|(name, value)| (name, HeaderValue::from_static(value))).collect())
    }

    #[test]
    fn a_ttl_is_a_plain_number() {
        assert_eq!(read(&[(TTL, "3600")]).unwrap(), Some(Expiry::Ttl(Duration::from_hours(1))));
        assert_eq!(read(&[]).unwrap(), None);
        for wrong in ["", "00060", "+60", "60.5", "1e3", "-1", "abc", "99999999999999999999"] {
            assert!(read(&[(TTL, wrong)]).is_err(), "{wrong}");
        }
        assert!(read(&[(TTL, "1"), (EXPIRES_AT, "2030-01-31T12:00:00Z")]).is_err());
    }

    #[test]
    fn a_date_beyond_the_clock_never_comes() {
        let now = (Instant::now(), Duration::ZERO);
        let longest = Expiry::Ttl(Duration::from_secs(u64::MAX));
        assert_eq!(longest.deadline(now.0, now), None);
        let past = read(&[(EXPIRES_AT, "1999-01-01T00:00:00Z")]).unwrap().unwrap();
        let today = (now.0, Duration::from_hours(498_682));
        assert_eq!(past.deadline(now.0, today), Some(now.0));
    }
}
