//! An upstream's wish to be asked later: `retry-after` in each of its forms, and its spelling in milliseconds. It never
//! reads a clock.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use httpdate::parse_http_date;

/// A longer wait is none.
const MAX_WAIT: Duration = Duration::from_secs(1_000_000_000);

/// The seconds that an upstream asks to wait, rounded up (RFC 9110, section 10.2.3): whole ones or a fraction, a date,
/// or milliseconds, as OpenAI's clients read them. A date is compared with the upstream's own `date`, so that its
/// clock may be wrong, else with `now`. One that has passed is 0.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<u64> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let number = |name: &str| {
        let value: f64 = text(name)?.trim().parse().ok()?;
        (0.0..MAX_WAIT.as_secs_f64()).contains(&value).then_some(value)
    };
    let date = |name: &str| parse_http_date(text(name)?.trim()).ok();
    let until = || {
        let wait = date(RETRY_AFTER.as_str())?.duration_since(date(DATE.as_str()).unwrap_or(now));
        Some(wait.unwrap_or_default())
            .filter(|wait| *wait < MAX_WAIT)
            .map(|wait| wait.as_secs_f64())
    };
    let seconds = number(RETRY_AFTER.as_str())
        .or_else(until)
        .or_else(|| Some(number("retry-after-ms")? / 1000.0))?;
    Some(Duration::from_secs_f64(seconds.ceil()).as_secs())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn asked(headers: &[(&'static str, &'static str)]) -> Option<u64> {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };

        let now = parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        retry_after(&headers.iter().map(header).collect(), now)
    }

    #[test]
    fn a_wait_is_rounded_up_to_seconds() {
        assert_eq!(asked(&[("retry-after", "7")]), Some(7));
        assert_eq!(asked(&[("retry-after", " 2.1 ")]), Some(3));
        assert_eq!(asked(&[("retry-after-ms", "1500")]), Some(2));
        assert_eq!(asked(&[("retry-after", "soon"), ("retry-after-ms", "1500")]), Some(2));
        for value in ["-5", "soon", "", "1e99", "NaN", "Wed, 21 Oct 9999 07:28:00 GMT"] {
            assert_eq!(asked(&[("retry-after", value)]), None, "{value}");
        }
    }

    #[test]
    fn dates_are_waits_by_the_upstreams_own_clock() {
        let later = "Wed, 21 Oct 2026 07:28:30 GMT";
        assert_eq!(asked(&[("retry-after", later)]), Some(30));
        let date = ("date", "Wed, 21 Oct 2026 07:28:10 GMT");
        assert_eq!(asked(&[("retry-after", later), date]), Some(20));
        assert_eq!(asked(&[("retry-after", "Wednesday, 21-Oct-26 07:29:00 GMT")]), Some(60));
        assert_eq!(asked(&[("retry-after", "Wed Oct 21 07:28:05 2026")]), Some(5));
        assert_eq!(asked(&[("retry-after", "Tue, 20 Oct 2026 07:28:00 GMT")]), Some(0));
    }
}
