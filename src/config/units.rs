//! Durations, sizes, counts and digests as people write them. Pure: text in, value or nothing out.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// A longer duration than this is a mistake, and would overflow a clock when added to it.
const MAX_DURATION: Duration = Duration::from_hours(366 * 24);

/// What [`network`] reads.
pub(super) const NETWORK: &str = "an address or a network such as `10.0.0.0/8`";

/// Reads an address or a network.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
}

/// Reads `500ms`, `15s`, `2m` or `1h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(millis)?);
    (duration <= MAX_DURATION).then_some(duration)
}

/// Reads a duration longer than nothing.
pub fn positive_duration(text: &str) -> Option<Duration> {
    duration(text).filter(|duration| !duration.is_zero())
}

/// Reads `32MiB`, `64KB` or plain bytes; never zero.
pub(super) fn size(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let bytes = match unit {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(number.checked_mul(bytes)?).ok().filter(|size| *size > 0)
}

/// Reads a number above zero.
pub(super) fn count(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

/// Reads `true` or `false`.
pub(super) fn boolean(text: &str) -> Option<bool> {
    text.parse().ok()
}

/// Reads the 64 hexadecimal digits of a SHA-256.
pub(super) fn sha256(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// Reads what `parse` reads, or `none`.
pub(super) fn or_none<T>(parse: fn(&str) -> Option<T>) -> impl Fn(&str) -> Option<Option<T>> {
    move |text| {
        if text == "none" { Some(None) } else { parse(text).map(Some) }
    }
}

/// Digits, and what follows them.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, unit))
}
