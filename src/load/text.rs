//! Quantities as text: durations, rates, and missing values. They must never be NaN.

use std::time::Duration;

/// A longer duration than this is a mistake.
const MAX_DURATION: Duration = Duration::from_hours(24);

/// Reads `500us`, `20ms`, `15s`, `2m` or `1h`, up to 24 hours; also nothing, `0ms`.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let micros = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return None,
    };
    let duration = Duration::from_micros(number.checked_mul(micros)?);
    (duration <= MAX_DURATION).then_some(duration)
}

/// A duration with three digits: `840 us`, `2.4 ms`, `12.3 s`.
pub(super) fn time(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000_000 => format!("{} ms", scaled(micros, 1_000)),
        _ => format!("{} s", scaled(micros, 1_000_000)),
    }
}

fn scaled(micros: u128, unit: u128) -> String {
    let (whole, tenth) = (micros / unit, micros % unit * 10 / unit);
    if whole < 1_000 { format!("{whole}.{tenth}") } else { whole.to_string() }
}

/// Milliseconds with one decimal, or `-`.
pub(super) fn millis(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "-".to_owned(), |it| format!("{:.1}", it.as_secs_f64() * 1_000.0))
}

/// A count as a rate per second; `None` if no time has passed.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(super) fn per_second(count: u64, elapsed: Duration) -> Option<f64> {
    (!elapsed.is_zero()).then(|| count as f64 / elapsed.as_secs_f64())
}

/// A count with separators: `610,000`.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, micros) in [
            ("500us", Some(500)),
            ("0ms", Some(0)),
            ("20ms", Some(20_000)),
            ("15s", Some(15_000_000)),
            ("24h", Some(86_400_000_000)),
            ("25h", None),
            ("-5s", None),
            ("5", None),
            ("s", None),
            ("", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(duration(text), micros.map(Duration::from_micros), "{text}");
        }
    }

    #[test]
    fn quantities_are_written() {
        let micros = Duration::from_micros;
        assert_eq!(time(micros(840)), "840 us");
        assert_eq!(time(micros(2_450)), "2.4 ms");
        assert_eq!(time(micros(1_234_000)), "1234 ms");
        assert_eq!(time(micros(12_345_000)), "12.3 s");
        assert_eq!((millis(None), millis(Some(micros(1_250)))), ("-".into(), "1.2".into()));
        assert_eq!(per_second(10, Duration::ZERO), None);
        assert_eq!(per_second(10, Duration::from_secs(4)), Some(2.5));
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
