//! Unknown paths: the error for a path that is not served, with the endpoint that it may mean and the client's right base URL.
//! Pure. It must never show which models or providers there are.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderName, Request};

use super::path_alias::SentPath;
use crate::wire::dialect::{self, CallerDialect, DIALECTS, Endpoint, is_at_or_below};

/// The longest path that is compared with those of endpoints, in bytes.
const MAX_COMPARED: usize = 64;
/// The most letters in which a path may differ from the one that it means.
const MAX_TYPOS: usize = 2;

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The address of the gateway as the client has it: `http://127.0.0.1:8080`. Empty if the request does not name it.
pub(super) fn own_address<B>(request: &Request<B>, tls: bool) -> String {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = request.uri().authority().map(Authority::as_str).or_else(|| text(HOST));
    let host = host.filter(|host| !host.is_empty() && host.parse::<Authority>().is_ok());
    // A proxy in front that ends TLS says so.
    let secure = tls || text(FORWARDED_PROTO).is_some_and(|scheme| scheme == "https");
    host.map_or_else(String::new, |host| {
        format!("{}://{host}", if secure { "https" } else { "http" })
    })
}

/// The path of a request as it was sent.
pub(super) fn sent_path<B>(request: &Request<B>) -> &str {
    let sent = request.extensions().get::<SentPath>().map(|SentPath(path)| &**path);
    sent.unwrap_or_else(|| request.uri().path())
}

/// The dialect and the endpoint whose path is nearly this one.
pub(super) fn misspelt(path: &str) -> Option<(&'static dyn CallerDialect, &'static Endpoint)> {
    let path = path.trim_end_matches('/');
    if path.len() > MAX_COMPARED || unserved(path, |path, api| path == api).is_some() {
        return None;
    }
    let all = || {
        let own = |dialect: &'static dyn CallerDialect| {
            dialect.endpoints().iter().map(move |it| (dialect, it))
        };
        dialect::caller_dialects().flat_map(own).filter(|(_, endpoint)| !endpoint.is_open())
    };
    // The beginning is wrong, and not the spelling.
    let ends = |tail| path.ends_with(tail);
    if all().any(|(_, endpoint)| unversioned(endpoint.path).is_some_and(ends)) {
        return None;
    }
    let distance = |endpoint: &Endpoint| {
        let paths = [Some(endpoint.path), unversioned(endpoint.path)];
        paths.into_iter().flatten().map(|known| strsim::osa_distance(path, known)).min()
    };
    let near = all().filter_map(|(dialect, endpoint)| {
        Some((distance(endpoint).filter(|typos| *typos <= MAX_TYPOS)?, dialect, endpoint))
    });
    near.min_by_key(|(typos, ..)| *typos).map(|(_, dialect, endpoint)| (dialect, endpoint))
}

/// The paths of health checks elsewhere, and those that are served here.
const HEALTH_PATHS: [(&str, &[&str]); 2] = [
    ("/healthz", &["/health", "/livez", "/live", "/liveness", "/ping", "/health/liveliness"]),
    ("/readyz", &["/ready", "/readiness", "/health/readiness"]),
];

/// The paths of the operators' listener.
const OPERATORS_PATHS: [&str; 2] = ["/metrics", "/status/targets"];

/// The health check that is meant by another program's path for one.
fn health_check(path: &str) -> Option<&'static str> {
    let path = path.trim_end_matches('/');
    HEALTH_PATHS.iter().find(|(_, others)| others.contains(&path)).map(|(own, _)| *own)
}

/// The error message for an unknown path of a dialect. `address`: the gateway's, as the client has it.
pub(super) fn message(dialect: &dyn CallerDialect, path: &str, address: &str) -> String {
    if let Some(own) = health_check(path) {
        return format!("there is no such path here; did you mean {own}?");
    }
    if let Some(own) = OPERATORS_PATHS.iter().find(|own| is_at_or_below(path, own)) {
        return format!("{own} is served on the operators' listener (`server.admin`), not here");
    }
    if let Some((_, endpoint)) = misspelt(path) {
        return format!("there is no such path here; did you mean {}?", shown(endpoint));
    }
    if let Some((api, name)) = unserved(path, is_at_or_below) {
        return format!(
            "the {name} API ({api}) is not served by this gateway; send such requests to the provider itself"
        );
    }
    let base = base_url(dialect, address);
    match meant(dialect, path) {
        Some(endpoint) => {
            let meant = shown(endpoint);
            format!(
                "there is no such path here, but {meant} is served; the client's base URL is {base}"
            )
        }
        None => format!("there is no such path here; the client's base URL is {base}"),
    }
}

/// The base URL of a dialect's clients, which has the path that the vendor's own has.
fn base_url(dialect: &dyn CallerDialect, address: &str) -> String {
    let vendor = DIALECTS.iter().find(|known| known.name() == dialect.name());
    let vendor = vendor.map_or("", |vendor| vendor.default_base_url());
    let path = vendor.match_indices('/').nth(2).map_or("", |(at, _)| vendor.split_at(at).1);
    let address = if address.is_empty() { "the gateway's address" } else { address };
    match (path, address.starts_with("http")) {
        ("", _) => format!("{address}, without a path"),
        (path, true) => format!("{address}{path}"),
        (path, false) => format!("{address} with {path}"),
    }
}

/// The API of a vendor that is not served and has this path: the prefix of its paths and its name.
fn unserved(
    path: &str,
    is_of: impl Fn(&str, &str) -> bool,
) -> Option<(&'static str, &'static str)> {
    let apis = dialect::caller_dialects().flat_map(CallerDialect::unserved).copied();
    let has =
        |api: &str| is_of(path, api) || unversioned(api).is_some_and(|tail| is_of(path, tail));
    apis.filter(|(api, _)| has(api)).max_by_key(|(api, _)| api.len())
}

/// The endpoint that a path ends in, behind a wrong beginning.
fn meant(dialect: &dyn CallerDialect, path: &str) -> Option<&'static Endpoint> {
    let endpoints: Vec<&Endpoint> =
        dialect::caller_dialects().flat_map(CallerDialect::endpoints).collect();
    let longest = |known: &&Endpoint| known.path.len();
    let ends = |endpoint: &Endpoint, tail: &str| {
        if endpoint.is_open() { path.contains(tail) } else { path.ends_with(tail) }
    };
    let same = endpoints.iter().copied().filter(|known| ends(known, known.prefix()));
    let alike = dialect.endpoints().iter().filter(|known| {
        unversioned(known.prefix()).is_some_and(|tail| tail != "/" && ends(known, tail))
    });
    same.max_by_key(longest).or_else(|| alike.max_by_key(longest))
}

/// An endpoint's path, for people: a wildcard is an ellipsis.
fn shown(endpoint: &Endpoint) -> String {
    let rest = if endpoint.is_open() { "..." } else { "" };
    format!("{}{rest}", endpoint.prefix())
}

/// A path without its version: `/chat/completions`.
fn unversioned(path: &str) -> Option<&str> {
    path.match_indices('/').nth(1).map(|(at, _)| path.split_at(at).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_recognized_and_another_api_is_none() {
        for (path, expected) in [
            ("/v1/chat/completion", Some("/v1/chat/completions")),
            ("/chat/completion", Some("/v1/chat/completions")),
            ("/v1/chat/completons/", Some("/v1/chat/completions")),
            ("/v1/message", Some("/v1/messages")),
            ("/v1/response", Some("/v1/responses")),
            ("/v1/embedding", Some("/v1/embeddings")),
            // APIs of vendors that are not served.
            ("/v1/chat", None),
            ("/v1/embed", None),
            ("/v1/images/generations", None),
            ("/metrics", None),
            ("/", None),
        ] {
            assert_eq!(misspelt(path).map(|(_, endpoint)| endpoint.path), expected, "{path}");
        }
    }

    #[test]
    fn a_health_check_of_another_name_is_answered_with_its_own() {
        let openai = dialect::caller_dialects().find(|it| it.name() == "openai-chat").unwrap();
        for (path, own) in [("/health", "/healthz"), ("/livez/", "/healthz"), ("/ready", "/readyz")]
        {
            let expected = format!("there is no such path here; did you mean {own}?");
            assert_eq!(message(openai, path, "http://h"), expected);
        }
        assert!(message(openai, "/healthy", "http://h").contains("http://h/v1"));
    }

    #[test]
    fn an_operators_path_is_answered_with_its_listener() {
        let openai = dialect::caller_dialects().find(|it| it.name() == "openai-chat").unwrap();
        for path in ["/status/targets", "/status/targets/", "/metrics"] {
            assert!(message(openai, path, "http://h").contains("`server.admin`"), "{path}");
        }
        assert!(message(openai, "/metricsx", "http://h").contains("http://h/v1"));
    }

    #[test]
    fn the_base_url_is_that_of_the_clients_sdk() {
        let of = |name: &str, address: &str| {
            let dialect = dialect::caller_dialects().find(|dialect| dialect.name() == name);
            base_url(dialect.unwrap(), address)
        };
        assert_eq!(of("openai-chat", "http://h:1"), "http://h:1/v1");
        assert_eq!(of("openai-responses", ""), "the gateway's address with /v1");
        assert_eq!(of("anthropic", "https://h"), "https://h, without a path");
        assert_eq!(of("ollama", ""), "the gateway's address, without a path");
    }

    #[test]
    fn the_address_is_the_clients_own() {
        let of = |headers: &[(&str, &str)], tls| {
            let request = Request::get("/x");
            let add = |request: http::request::Builder, (name, value): &(&str, &str)| {
                request.header(*name, *value)
            };
            own_address(&headers.iter().fold(request, add).body(()).unwrap(), tls)
        };
        assert_eq!(of(&[("host", "a:8080")], false), "http://a:8080");
        assert_eq!(of(&[("host", "a")], true), "https://a");
        assert_eq!(of(&[("host", "a"), ("x-forwarded-proto", "https")], false), "https://a");
        assert_eq!(of(&[("host", "")], false), "");
        assert_eq!(of(&[], false), "");
    }
}
