//! Formats of scalars: durations, sizes, counts, addresses, names and credentials. Pure: it must never read
//! a file, the environment or a clock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use url::Url;

use super::field::{Format, Notation};
use super::secret::Secret;

/// The longest duration. A longer one is a mistake, and would overflow a clock when added to it.
const MAX_DURATION: Duration = Duration::from_hours(366 * 24);

/// Headers that frame a message: the connection decides them.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The pattern of the names of providers, prompts and preset parameters.
pub(super) const NAME_PATTERN: &str = "[A-Za-z0-9._-]{1,64}";
/// Any text that is not empty, as a pattern.
pub(super) const ANY_PATTERN: &str = "[\\s\\S]+";

const POSITIVE_PATTERN: &str = "\\+?0*[1-9][0-9]*";

const POSITIVE_INTEGER: Notation =
    Notation::Integer { min: 1, max: u64::MAX, text: POSITIVE_PATTERN };

pub(super) const DURATION: Format<Duration> = Format::new(
    "duration",
    "a duration such as `500ms`, `15s`, `2m` or `1h`",
    Notation::Pattern("[0-9]+(ms|s|m|h)"),
    duration,
);

pub(super) const POSITIVE_DURATION: Format<Duration> = Format::new(
    "duration above zero",
    "a duration above zero such as `500ms`, `15s`, `2m` or `1h`",
    Notation::Pattern("0*[1-9][0-9]*(ms|s|m|h)"),
    positive_duration,
);

pub(super) const POSITIVE_DURATION_OR_NONE: Format<Option<Duration>> =
    POSITIVE_DURATION.or_none(|text| or_none(text, positive_duration));

pub(super) const SIZE: Format<usize> = Format::new(
    "size",
    "a size above zero such as `32MiB`, `64KB` or plain bytes",
    Notation::Integer { min: 1, max: u64::MAX, text: "0*[1-9][0-9]*(B|KB|MB|GB|KiB|MiB|GiB)?" },
    size,
);

pub(super) const COUNT: Format<NonZeroU32> = Format::new(
    "whole number above zero",
    "a whole number above zero",
    Notation::Integer { min: 1, max: u32::MAX as u64, text: POSITIVE_PATTERN },
    |text| text.parse().ok(),
);

pub(super) const COUNT_OR_NONE: Format<Option<NonZeroU32>> =
    COUNT.or_none(|text| or_none(text, COUNT.parse));

pub(super) const STREAMS_OR_NONE: Format<Option<usize>> =
    Format::new("whole number above zero", "a whole number above zero", POSITIVE_INTEGER, streams)
        .or_none(|text| or_none(text, streams));

pub(super) const TOKENS: Format<u64> = Format::new(
    "whole number above zero",
    "a number of tokens above zero",
    POSITIVE_INTEGER,
    count,
);

pub(super) const POSITIVE: Format<u64> =
    Format::new("whole number above zero", "a whole number above zero", POSITIVE_INTEGER, count);

/// A share of a whole.
pub(super) const SHARE: Format<f64> = Format::new(
    "number from 0 to 1",
    "a share from `0` to `1`, such as `0.2`",
    Notation::Number { min: 0.0, max: 1.0 },
    |text| text.parse().ok().filter(|share| (0.0..=1.0).contains(share)),
);

/// The word in the place of a table.
pub(super) const NONE: Format<()> =
    Format::new("`none`", "`none`", Notation::Choice(|| vec!["none"]), |text| {
        (text == "none").then_some(())
    });

pub(super) const BOOLEAN: Format<bool> =
    Format::new("`true` or `false`", "`true` or `false`", Notation::Boolean, |text| {
        text.parse().ok()
    });

pub(super) const ADDRESS: Format<SocketAddr> = Format::new(
    "address and port",
    "an address and port such as `127.0.0.1:8080`, `:8080` (all addresses) or `8080` (this machine only)",
    Notation::Integer { min: 0, max: u16::MAX as u64, text: "([^\\s]*:)?[0-9]+" },
    listen_address,
);

pub(super) const NETWORK: Format<IpNet> = Format::new(
    "address or network",
    "an address or a network such as `10.0.0.0/8`",
    Notation::Pattern("[0-9A-Fa-f.:%]+(/[0-9]{1,3})?"),
    |text| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok(),
);

pub(super) const TEXT: Format<String> =
    Format::new("text", "a text", Notation::Text, |text| Some(text.to_owned()));

pub(super) const NAME: Format<String> = Format::new(
    "name of letters, digits, `-`, `_` and `.`",
    "at most 64 letters, digits, `-`, `_` and `.`",
    Notation::Name(NAME_PATTERN),
    |text| is_name(text).then(|| text.to_owned()),
);

pub(super) const SHA256: Format<[u8; 32]> = Format::new(
    "64 hexadecimal digits",
    "64 hexadecimal digits (`streamgate key new --name NAME` prints them)",
    Notation::Name("[0-9A-Fa-f]{64}"),
    sha256,
)
.secret();

pub(super) const BASE_URL: Format<Url> = Format::new(
    "URL without user, query or fragment",
    "an `http://` or `https://` address without user, query or fragment",
    Notation::Pattern("\\s*[hH][tT][tT][pP][sS]?:[^?#]+"),
    base_url,
)
.secret();

pub(super) const CREDENTIAL: Format<Secret> =
    Format::new("credential", "a credential on one line", Notation::Text, secret).secret();

pub(super) const HEADER_NAME: Format<HeaderName> = Format::new(
    "header name",
    "a header name such as `api-key`",
    Notation::Name(HEADER_PATTERN),
    header_name,
);

/// Header names by RFC 9110, as a pattern.
pub(super) const HEADER_PATTERN: &str = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";

pub(super) const HEADER_VALUE: Format<HeaderValue> =
    Format::new("header value", "a header value on one line", Notation::Text, |text| {
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    })
    .secret();

/// Reads the address of a listener: `127.0.0.1:8080`, `localhost:8080`, `:8080` for all IPv4 addresses of the machine, or
/// a port alone for loopback. Other names are not resolved.
pub fn listen_address(text: &str) -> Option<SocketAddr> {
    let port = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (host, port_text) = text.rsplit_once(':').unwrap_or(("localhost", text));
    let address = match host {
        "localhost" => Ipv4Addr::LOCALHOST,
        "" => Ipv4Addr::UNSPECIFIED,
        _ => return text.parse().ok(),
    };
    Some(SocketAddr::from((address, port(port_text)?)))
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

/// Reads a duration above zero: `500ms`, `15s`, `2m` or `1h`.
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

fn count(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

fn streams(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number| *number > 0)
}

fn sha256(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Reads a value that `parse` accepts, or `none`.
#[expect(
    clippy::option_option,
    reason = "`none` is a value; the outer `None` is a text that is none"
)]
pub(super) fn or_none<T>(text: &str, parse: fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text == "none" { Some(None) } else { parse(text).map(Some) }
}

/// Whether a name may be that of a provider or a prompt: names appear in `provider/model`, in metrics
/// and in headers.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Reads an upstream's address, without a trailing slash (but a `Url` without a path has one anyway).
pub(super) fn base_url(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    plain.then_some(())?;
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

/// Reads a credential, which must fit into a header.
pub(super) fn secret(text: &str) -> Option<Secret> {
    HeaderValue::from_str(text).ok().map(|_| Secret::new(text))
}

/// Reads the name of a header that does not frame the message.
pub(super) fn header_name(text: &str) -> Option<HeaderName> {
    text.parse().ok().filter(|name: &HeaderName| !FRAMING.contains(&name.as_str()))
}

/// Digits, and the unit after them.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, unit))
}
