//! Allowed origins (CORS): exact ones, and ones of any port. An origin is compared as browsers send it; it must never be
//! taken for allowed because a part of it is.

use http::HeaderValue;
use url::Url;

/// The origins of pages on this machine, on any port.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The end of an origin that allows any port.
const ANY_PORT: &str = ":*";

/// An origin whose pages may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AllowedOrigin {
    /// This one.
    Exact(HeaderValue),
    /// A scheme and a host, as in `http://localhost`, with any port or none.
    AnyPort(String),
}

impl AllowedOrigin {
    /// Reads `https://chat.example.com` or `http://localhost:*`, spelt as browsers do.
    pub(super) fn read(text: &str) -> Option<Self> {
        let bare = text.strip_suffix(ANY_PORT);
        let origin = Url::parse(bare.unwrap_or(text)).ok()?;
        // A default port is not spelt out, so that one here would never match.
        let ports = bare.is_none() || origin.port().is_none();
        let origin = origin.origin();
        let spelt = origin.is_tuple() && origin.ascii_serialization() == bare.unwrap_or(text);
        let names = !bare.unwrap_or(text).contains('*');
        (spelt && ports && names).then_some(())?;
        match bare {
            Some(bare) => Some(Self::AnyPort(bare.to_owned())),
            None => HeaderValue::from_str(text).ok().map(Self::Exact),
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Exact(exact) => exact == origin,
            Self::AnyPort(host) => {
                let port = origin.to_str().ok().and_then(|origin| origin.strip_prefix(&**host));
                port.is_some_and(is_port)
            }
        }
    }
}

/// Whether a text is a port after its colon, or nothing.
fn is_port(text: &str) -> bool {
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    text.is_empty() || text.strip_prefix(':').is_some_and(digits)
}

/// The origins whose pages may call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<AllowedOrigin>);

impl Origins {
    pub(super) fn new(origins: Vec<AllowedOrigin>) -> Self {
        Self(origins)
    }

    /// Pages on this machine, on any port.
    pub(super) fn loopback() -> Self {
        let hosts = LOOPBACK.iter().flat_map(|host| ["http", "https"].map(|it| (it, host)));
        Self(
            hosts
                .map(|(scheme, host)| AllowedOrigin::AnyPort(format!("{scheme}://{host}")))
                .collect(),
        )
    }

    /// Whether the pages of an origin may call.
    pub fn contains(&self, origin: &HeaderValue) -> bool {
        self.0.iter().any(|allowed| allowed.allows(origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(allowed: &str, origin: &str) -> bool {
        let allowed = Origins::new(vec![AllowedOrigin::read(allowed).unwrap()]);
        allowed.contains(&HeaderValue::from_str(origin).unwrap())
    }

    #[test]
    fn an_origin_is_compared_whole() {
        for (allowed, origin, expected) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example:8443", "https://a.example:8443", true),
            ("http://localhost:*", "http://localhost:3000", true),
            ("http://localhost:*", "http://localhost", true),
            ("http://localhost:*", "https://localhost:3000", false),
            ("http://localhost:*", "http://localhost.evil.example", false),
            ("http://localhost:*", "http://localhost:80.evil.example", false),
            ("http://localhost:*", "http://localhost:", false),
            ("http://[::1]:*", "http://[::1]:5173", true),
            ("http://localhost:*", "null", false),
        ] {
            assert_eq!(contains(allowed, origin), expected, "{allowed} {origin}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_not_read() {
        for text in [
            "*",
            "http://*",
            "http://*:80",
            "http://localhost:*/",
            "http://localhost:3000:*",
            "localhost:*",
            "null",
            "http://localhost/",
            "HTTP://localhost",
            "http://localhost:80",
            "http://a:b@localhost:*",
        ] {
            assert_eq!(AllowedOrigin::read(text), None, "{text}");
        }
    }

    #[test]
    fn pages_on_this_machine_are_loopback() {
        let origins = Origins::loopback();
        for (origin, expected) in [
            ("http://localhost:3000", true),
            ("https://127.0.0.1", true),
            ("http://[::1]:1", true),
            ("http://127.0.0.2:1", false),
            ("http://evil.example", false),
        ] {
            assert_eq!(origins.contains(&HeaderValue::from_static(origin)), expected, "{origin}");
        }
    }
}
