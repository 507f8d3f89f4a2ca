//! Rate-limit headers of upstreams: the time for which a spent limit lasts. Pure: it must never read a clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::DATE;
use httpdate::parse_http_date;

/// A longer time is a mistake.
const MAX_RESET: Duration = Duration::from_hours(24);

/// Numbers from here on are seconds since 1970, and from there on milliseconds.
const EPOCH_SECONDS: f64 = 1e9;
const EPOCH_MILLIS: f64 = 1e12;

/// The time until all limits that a response says are spent have something left again. `None`: none is spent, or none
/// says until when.
pub(super) fn spent(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let now = date.and_then(|date| parse_http_date(date).ok()).unwrap_or(now);
    let spent = headers.iter().filter_map(|(name, value)| {
        let reset = reset_name(name.as_str())?;
        let remaining: f64 = value.to_str().ok()?.trim().parse().ok()?;
        (remaining <= 0.0).then(|| duration(text(&reset)?, now))?
    });
    spent.max()
}

/// The header that says when the limit of a `remaining` header is reset.
fn reset_name(remaining: &str) -> Option<String> {
    const PREFIXES: [&str; 2] = ["x-ratelimit-", "anthropic-ratelimit-"];
    let known = PREFIXES.iter().any(|prefix| remaining.starts_with(prefix));
    let named = remaining.ends_with("remaining") || remaining.contains("remaining-");
    (known && named).then(|| remaining.replacen("remaining", "reset", 1))
}

/// A time until a reset, by its shape: a duration as Go writes it, a date, seconds since 1970 or milliseconds, or
/// seconds. `None`: it is over, too long or nothing of that.
fn duration(text: &str, now: SystemTime) -> Option<Duration> {
    let until = |at: SystemTime| at.duration_since(now).ok();
    let since_epoch = |seconds: f64| until(UNIX_EPOCH + Duration::try_from_secs_f64(seconds).ok()?);
    let wait = match text.parse::<f64>() {
        Ok(number) if number >= EPOCH_MILLIS => since_epoch(number / 1000.0),
        Ok(number) if number >= EPOCH_SECONDS => since_epoch(number),
        Ok(number) => Duration::try_from_secs_f64(number).ok(),
        Err(_) => go_duration(text)
            .or_else(|| until(parse_http_date(text).ok()?))
            .or_else(|| until(rfc3339(text)?)),
    }?;
    (!wait.is_zero() && wait <= MAX_RESET).then_some(wait)
}

/// `6m0s`, `17.4s`, `12ms`, `1h2m3s`.
fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] =
        [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let number: f64 = number.parse().ok()?;
        let unit =
            UNITS.iter().find_map(|(unit, length)| Some((after.strip_prefix(unit)?, length)));
        let (after, length) = unit?;
        seconds += number * length;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}

/// `2026-10-21T07:28:00Z`, with a fraction or an offset.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(at)?;
    let mut clock = clock.splitn(3, ':');
    let hour: f64 = clock.next()?.parse().ok()?;
    let minute: f64 = clock.next()?.parse().ok()?;
    let second: f64 = clock.next()?.parse().ok()?;
    let offset = match zone {
        "Z" | "z" => 0.0,
        _ => {
            let sign = if zone.starts_with('-') { -1.0 } else { 1.0 };
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            sign * (hours.parse::<f64>().ok()? * 3600.0 + minutes.parse::<f64>().ok()? * 60.0)
        }
    };
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && [(hour, 24.0), (minute, 60.0), (second, 61.0)]
            .iter()
            .all(|(value, most)| (0.0..*most).contains(value));
    let seconds = hour * 3600.0 + minute * 60.0 + second - offset;
    let days = valid.then(|| days_since_1970(year, month, day))?;
    let days = u64::try_from(days).ok()?.checked_mul(86_400)?;
    let midnight = UNIX_EPOCH.checked_add(Duration::from_secs(days))?;
    let part = Duration::try_from_secs_f64(seconds.abs()).ok()?;
    if seconds < 0.0 { midnight.checked_sub(part) } else { midnight.checked_add(part) }
}

/// Days by the Gregorian calendar (Howard Hinnant, `days_from_civil`).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const NOW: &str = "Wed, 21 Oct 2026 07:28:00 GMT";

    fn wait(headers: &[(&str, &str)]) -> Option<f64> {
        let header = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let headers = headers.iter().map(header).collect();
        spent(&headers, parse_http_date(NOW).unwrap()).map(|wait| wait.as_secs_f64())
    }

    /// R21: every vendor's shape of a reset (wire-formats, section 13), paired with the limit that is spent.
    #[test]
    fn r21_resets_are_read_by_their_shape() {
        for (reset, seconds) in [
            ("6m0s", Some(360.0)),
            ("17.4s", Some(17.4)),
            ("12ms", Some(0.012)),
            ("1h2m3s", Some(3723.0)),
            ("7", Some(7.0)),
            ("0s", None),
            ("2026-10-21T07:28:20Z", Some(20.0)),
            ("2026-10-21T09:28:20.5+02:00", Some(20.5)),
            ("2026-10-20T23:28:20-08:00", Some(20.0)),
            ("1792567700", Some(20.0)),
            ("1792567700000", Some(20.0)),
            ("Wed, 21 Oct 2026 07:29:00 GMT", Some(60.0)),
            ("2026-10-21T07:27:00Z", None),
            ("2027-10-21T07:28:20Z", None),
            ("90000", None),
            ("-5", None),
            ("NaN", None),
            ("1e300", None),
            ("soon", None),
            ("", None),
            ("5x", None),
            ("2026-99-99T99:99:99Z", None),
        ] {
            let spent =
                [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", reset)];
            assert_eq!(wait(&spent), seconds, "{reset}");
        }
    }

    #[test]
    fn r21_only_a_limit_that_is_spent_counts() {
        let requests =
            [("x-ratelimit-remaining-requests", "12"), ("x-ratelimit-reset-requests", "6m0s")];
        assert_eq!(wait(&requests), None);
        let tokens = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "3s")];
        assert_eq!(wait(&[requests, tokens].concat()), Some(3.0));
        let anthropic = [
            ("anthropic-ratelimit-output-tokens-remaining", "0"),
            ("anthropic-ratelimit-output-tokens-reset", "2026-10-21T07:28:09Z"),
        ];
        assert_eq!(wait(&anthropic), Some(9.0));
        assert_eq!(wait(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "4")]), Some(4.0));
        assert_eq!(wait(&[("x-ratelimit-remaining-tokens", "0")]), None);
        let unrelated = [("x-remaining", "0"), ("x-reset", "4")];
        assert_eq!(wait(&unrelated), None);
    }

    proptest! {
        /// Absurd values are bounded, and never panic.
        #[test]
        fn r21_any_reset_is_bounded(reset in "[ -~]{0,40}") {
            let spent = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", &*reset)];
            prop_assert!(wait(&spent).is_none_or(|wait| (0.0..=86_400.0).contains(&wait)));
        }
    }
}
