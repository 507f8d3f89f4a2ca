//! Rules for request heads that hyper leaves to servers: `Host`, `Transfer-Encoding` and `Expect`
//! (RFC 9112 and RFC 9110). A head that two programs may read differently is rejected, because a proxy in
//! front may have read it the other way. Pure; it never looks at a body.

use http::header::{EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};

/// The reason why a head is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// HTTP/1.1 without `Host` (RFC 9112, section 3.2).
    MissingHost,
    /// More than one `Host` (the same section).
    RepeatedHost,
    /// A `Host` that is no host and port (the same section).
    InvalidHost,
    /// `chunked` more than once (RFC 9112, section 6.1).
    RepeatedChunked,
    /// Another transfer coding than `chunked` (the same section).
    TransferCoding,
    /// Another expectation than `100-continue` (RFC 9110, section 10.1.1).
    Expectation,
}

impl HeadError {
    /// The status that the RFC requires.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The fault and its remedy, for the client.
    pub fn message(self) -> &'static str {
        match self {
            Self::MissingHost => {
                "the `host` header is missing; HTTP/1.1 demands it, also when empty"
            }
            Self::RepeatedHost => "the `host` header is there more than once; send it once",
            Self::InvalidHost => "the `host` header is not a host with an optional port",
            Self::RepeatedChunked => {
                "`transfer-encoding` has `chunked` more than once; send it once"
            }
            Self::TransferCoding => {
                "`transfer-encoding` may only be `chunked`; compress the body with `content-encoding`"
            }
            Self::Expectation => "`expect` may only be `100-continue`",
        }
    }
}

/// Checks the head of a request.
pub fn check<B>(request: &Request<B>) -> Result<(), HeadError> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(HeadError::RepeatedHost),
        (Some(host), None) if !is_host(host) => return Err(HeadError::InvalidHost),
        (None, None) if request.version() == Version::HTTP_11 => {
            return Err(HeadError::MissingHost);
        }
        _ => {}
    }
    // hyper has rejected codings that do not end in `chunked`.
    let codings = || headers.get_all(TRANSFER_ENCODING).iter().flat_map(list);
    if codings().any(|coding| !coding.eq_ignore_ascii_case("chunked")) {
        return Err(HeadError::TransferCoding);
    }
    if codings().count() > 1 {
        return Err(HeadError::RepeatedChunked);
    }
    // HTTP/1.0 has no expectations (RFC 9110, section 10.1.1).
    let expected = headers.get_all(EXPECT).iter().flat_map(list);
    let known = |expectation: &str| expectation.eq_ignore_ascii_case("100-continue");
    if request.version() != Version::HTTP_10 && !expected.into_iter().all(known) {
        return Err(HeadError::Expectation);
    }
    Ok(())
}

/// Whether a client waits for `100 Continue` before it sends its body, which reading the body sends.
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers.contains_key(EXPECT)
}

/// The members of a list; a value that is no text is a member that nothing equals.
fn list(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or("?").split(',').map(str::trim)
}

/// Whether a value is a host with an optional port, or empty.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    if text.is_empty() {
        return true;
    }
    let after = text.rfind(']').map_or(0, |bracket| bracket + 1);
    let port = text.get(after..).unwrap_or_default().split_once(':').map_or("", |(_, port)| port);
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    digits && !text.contains('@') && text.parse::<http::uri::Authority>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(version: Version, headers: &[(&str, &str)]) -> Result<(), HeadError> {
        let builder = Request::builder().version(version);
        let request =
            headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        check(&request.body(()).unwrap())
    }

    #[test]
    fn host_headers_are_checked() {
        let one = |host| checked(Version::HTTP_11, &[("host", host)]);
        for host in ["", "x", "x:80", "x:", "127.0.0.1:8080", "[::1]", "[::1]:8080", "a_b.example"]
        {
            assert_eq!(one(host), Ok(()), "{host}");
        }
        for host in ["a b", "a/b", "u@x", "x:y", "x:80:80", "[::1", "x?", "x#", "a\\b", "http://x"]
        {
            assert_eq!(one(host), Err(HeadError::InvalidHost), "{host}");
        }
        assert_eq!(checked(Version::HTTP_11, &[]), Err(HeadError::MissingHost));
        for version in [Version::HTTP_10, Version::HTTP_2] {
            assert_eq!(checked(version, &[]), Ok(()), "{version:?}");
            let two = checked(version, &[("host", "x"), ("host", "x")]);
            assert_eq!(two, Err(HeadError::RepeatedHost), "{version:?}");
        }
    }

    #[test]
    fn transfer_codings_and_expectations_are_checked() {
        let with = |name, value| checked(Version::HTTP_11, &[("host", "x"), (name, value)]);
        for (name, value, expected) in [
            ("transfer-encoding", "chunked", Ok(())),
            ("transfer-encoding", "CHUNKED", Ok(())),
            ("transfer-encoding", "gzip, chunked", Err(HeadError::TransferCoding)),
            ("transfer-encoding", "identity, chunked", Err(HeadError::TransferCoding)),
            ("transfer-encoding", "chunked, chunked", Err(HeadError::RepeatedChunked)),
            ("expect", "100-continue", Ok(())),
            ("expect", "100-Continue", Ok(())),
            ("expect", "200-ok", Err(HeadError::Expectation)),
            ("expect", "100-continue, x", Err(HeadError::Expectation)),
        ] {
            assert_eq!(with(name, value), expected, "{name}: {value}");
        }
        assert_eq!(checked(Version::HTTP_10, &[("expect", "x")]), Ok(()));
    }
}
