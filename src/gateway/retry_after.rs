//! An upstream's wish to be asked later: `retry-after`, and its spelling in milliseconds. It never reads a clock.

use std::time::Duration;

use http::HeaderMap;

/// The seconds that an upstream asks to wait, rounded up: whole ones or a fraction, or milliseconds, as
/// OpenAI's clients read them. A date is left to the caller, who has its own clock.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let number = |name: &str| {
        let value: f64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
        (0.0..1e9).contains(&value).then_some(value)
    };
    let seconds = number("retry-after").or_else(|| Some(number("retry-after-ms")? / 1000.0))?;
    Some(Duration::from_secs_f64(seconds.ceil()).as_secs())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_wait_is_rounded_up_to_seconds() {
        let asked = |name: &'static str, value: &'static str| {
            retry_after(&HeaderMap::from_iter([(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(asked("retry-after", "7"), Some(7));
        assert_eq!(asked("retry-after", " 2.1 "), Some(3));
        assert_eq!(asked("retry-after-ms", "1500"), Some(2));
        for value in ["-5", "soon", "", "1e99", "NaN", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(asked("retry-after", value), None, "{value}");
        }
    }
}
