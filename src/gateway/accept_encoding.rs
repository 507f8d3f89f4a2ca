//! Content negotiation by `accept-encoding` (RFC 9110, section 12.5.3). It must never choose an encoding that the client
//! rejects, or that the operator does not allow. Pure.

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use crate::config::{StreamEncoding, StreamEncodings};

/// The encoding of a response: of those that are allowed, the one that the client prefers, and the first of several that
/// it prefers alike. `None`: the response is sent as it is, which a client without any acceptable encoding gets too.
pub(super) fn negotiate(headers: &HeaderMap, allowed: StreamEncodings) -> Option<StreamEncoding> {
    let values =
        headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    let mut preferences = Preferences::default();
    values.flat_map(|value| value.split(',')).for_each(|coding| preferences.read(coding));
    // A coding that is named is preferred to none at all, unless that is named with more weight.
    let least = preferences.identity.unwrap_or(0).max(1);
    let mut best = None;
    for encoding in allowed.iter() {
        let weight = preferences.weight(encoding);
        if weight >= least && best.is_none_or(|(_, other)| weight > other) {
            best = Some((encoding, weight));
        }
    }
    best.map(|(encoding, _)| encoding)
}

/// The weights of a request, in thousandths.
#[derive(Debug, Default)]
struct Preferences {
    gzip: Option<u16>,
    brotli: Option<u16>,
    zstd: Option<u16>,
    identity: Option<u16>,
    /// That of `*`: every coding that is not named.
    other: Option<u16>,
}

impl Preferences {
    /// Reads one coding with its weight. One whose weight is malformed is not accepted.
    fn read(&mut self, coding: &str) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let place = match name.as_str() {
            "gzip" | "x-gzip" => &mut self.gzip,
            "br" => &mut self.brotli,
            "zstd" => &mut self.zstd,
            "identity" => &mut self.identity,
            "*" => &mut self.other,
            _ => return,
        };
        let weight = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| weight(value.trim()).unwrap_or(0))
        });
        *place = Some(weight.unwrap_or(1000));
    }

    fn weight(&self, encoding: StreamEncoding) -> u16 {
        let named = match encoding {
            StreamEncoding::Gzip => self.gzip,
            StreamEncoding::Brotli => self.brotli,
            StreamEncoding::Zstd => self.zstd,
        };
        named.or(self.other).unwrap_or(0)
    }
}

/// Reads a weight such as `0.5`: 0 to 1 with at most three decimals.
fn weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let plain = decimals.len() <= 3 && decimals.bytes().all(|digit| digit.is_ascii_digit());
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok().filter(|_| plain)?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn chosen(accepted: &[&str], allowed: &[StreamEncoding]) -> Option<&'static str> {
        let values = accepted
            .iter()
            .map(|value| (ACCEPT_ENCODING, HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        let allowed = allowed.iter().copied().collect();
        negotiate(&values.collect(), allowed).map(StreamEncoding::name)
    }

    #[test]
    fn the_clients_weights_decide_and_then_the_operators_order() {
        for (accepted, expected) in [
            ("", None),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip;q=1.0, br;q=0.8, zstd;q=0.800", Some("gzip")),
            ("br;q=0.5, gzip;q=0.5", Some("br")),
            ("GZip; Q=0.001", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("deflate, compress, snappy", None),
            ("gzip;q=0, br;q=0.0, zstd;q=0.000", None),
            ("*", Some("zstd")),
            ("*;q=0.5, zstd;q=0", Some("br")),
            ("*;q=0, gzip;q=0.1", Some("gzip")),
            ("*;q=0", None),
            ("identity", None),
            ("identity, gzip", Some("gzip")),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some("gzip")),
            ("identity;q=0", None),
            ("identity;q=0, *", Some("zstd")),
            // Malformed weights are no consent.
            ("gzip;q=2", None),
            ("gzip;q=x, br;q=0.1", Some("br")),
            ("gzip;q=0.1234", None),
            ("gzip;q=-1", None),
            ("gzip;q=", None),
            ("gzip;q=1.001", None),
            ("gzip;level=9;q=0.5", Some("gzip")),
            (";q=1,,;;,=", None),
        ] {
            assert_eq!(chosen(&[accepted], &StreamEncoding::ALL), expected, "{accepted}");
        }
        assert_eq!(chosen(&["gzip;q=0.1", "br;q=0.2"], &StreamEncoding::ALL), Some("br"));
    }

    #[test]
    fn only_allowed_encodings_are_chosen() {
        use StreamEncoding::{Brotli, Gzip};
        let all = ["gzip, deflate, br, zstd"];
        assert_eq!(chosen(&all, &[]), None);
        assert_eq!(chosen(&all, &[Gzip, Brotli]), Some("gzip"));
        assert_eq!(chosen(&["zstd, br;q=0.1"], &[Gzip, Brotli]), Some("br"));
        assert_eq!(chosen(&["*"], &[Gzip]), Some("gzip"));
    }

    proptest! {
        #[test]
        fn no_header_panics(value in "[a-z*;=,. 0-9q]{0,60}") {
            let _any = chosen(&[&value], &StreamEncoding::ALL);
        }
    }
}
