//! Console: the page at `/`, its style and its scripts, embedded in the program. It must never hold a credential, load
//! anything from another origin, or take an answer from an API client.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::response::Response;
use axum::routing::get;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::config;
use crate::gateway::state::Gateway;
use crate::gateway::{direct_response, ids};

/// A file of the console.
struct File {
    path: &'static str,
    media_type: &'static str,
    content: &'static str,
    /// Made when it is first requested.
    etag: OnceLock<HeaderValue>,
}

static PAGE: File = File::new("/", "text/html; charset=utf-8", include_str!("index.html"));
static STYLE: File =
    File::new("/console.css", "text/css; charset=utf-8", include_str!("console.css"));
static SCRIPT: File = File::new("/console.js", JAVASCRIPT, include_str!("console.js"));
static SESSION: File =
    File::new("/console-session.js", JAVASCRIPT, include_str!("console-session.js"));

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The headers of every file. `no-cache`: a browser asks each time, so that a page never meets another version's script.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-cache"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The fetch metadata of a browser (W3C), which it sends where it trusts the connection.
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The routes of the console's files but for the page, whose path has another endpoint.
pub fn routes<S>(gateway: Arc<Gateway>) -> Router<S> {
    let routes = [&STYLE, &SCRIPT, &SESSION].into_iter().fold(Router::new(), |router, file| {
        let serve = async move |Shared(gateway): Shared<Arc<Gateway>>, request: Request| {
            if gateway.state().config.server.console {
                file.response(request.headers())
            } else {
                direct_response::not_found(&gateway, request).await
            }
        };
        let refuse = async |Shared(gateway): Shared<Arc<Gateway>>, request: Request| {
            if gateway.state().config.server.console {
                direct_response::method_not_allowed(&gateway, request, "GET").await
            } else {
                direct_response::not_found(&gateway, request).await
            }
        };
        router.route(file.path, get(serve).fallback(refuse))
    });
    routes.with_state(gateway)
}

/// The page, for a browser that opens it. Clients of Ollama's API request the same path for another answer.
pub fn page(gateway: &Gateway, request: &Request) -> Option<Response> {
    let opened =
        request.uri().path() == PAGE.path && is_navigation(request.method(), request.headers());
    let enabled = opened && gateway.state().config.server.console;
    enabled.then(|| {
        let mut response = PAGE.response(request.headers());
        response.headers_mut().insert(VARY, HeaderValue::from_static("accept, sec-fetch-mode"));
        response
    })
}

/// Whether a browser opens a page with a request.
fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    let texts = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let mut kinds =
        texts.flat_map(|text| text.split(',')).filter_map(|kind| kind.split(';').next());
    let wanted = kinds.any(|kind| kind.trim().eq_ignore_ascii_case("text/html"));
    let mode = headers.get(FETCH_MODE).is_none_or(|mode| mode == "navigate");
    [Method::GET, Method::HEAD].contains(method) && wanted && mode
}

impl File {
    const fn new(path: &'static str, media_type: &'static str, content: &'static str) -> Self {
        Self { path, media_type, content, etag: OnceLock::new() }
    }

    /// The file, or 304 for a client that has it.
    fn response(&self, request: &HeaderMap) -> Response {
        let etag = self.etag.get_or_init(|| etag(self.content));
        let cached = is_cached(request, etag);
        let mut response =
            Response::new(if cached { Body::empty() } else { Body::from(self.content) });
        let headers = response.headers_mut();
        headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
        headers.insert(ETAG, etag.clone());
        if cached {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        }
        ids::set_request_id(&mut response, &ids::request_id(request));
        response
    }
}

/// A strong validator: half of a digest of the content.
fn etag(content: &str) -> HeaderValue {
    let digest = config::digest(content);
    let half = digest.first_chunk().copied().map_or(0, u128::from_be_bytes);
    let quoted = HeaderValue::from_str(&format!("\"{half:032x}\""));
    quoted.unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether a client has a content (RFC 9110, section 13.1.2: compared without regard to `W/`).
fn is_cached(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let values = request.get_all(IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| {
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn navigation(method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        is_navigation(method, &headers.collect())
    }

    #[test]
    fn only_a_browser_that_opens_the_page_gets_it() {
        let chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (headers, expected) in [
            (&[("accept", chrome)][..], true),
            (&[("accept", chrome), ("sec-fetch-mode", "navigate")], true),
            (&[("accept", "application/xhtml+xml, Text/HTML;q=0.5")], true),
            (&[("accept", chrome), ("sec-fetch-mode", "cors")], false),
            (&[("accept", "*/*")], false),
            (&[("accept", "text/plain, text/htmlx")], false),
            (&[("accept", "application/json")], false),
            (&[], false),
        ] {
            assert_eq!(navigation(&Method::GET, headers), expected, "{headers:?}");
        }
        assert!(navigation(&Method::HEAD, &[("accept", chrome)]));
        assert!(!navigation(&Method::POST, &[("accept", chrome)]));
    }

    #[test]
    fn a_content_that_the_client_has_is_recognized() {
        let tag = etag("a");
        assert_ne!(tag, etag("b"));
        let sent = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            is_cached(&HeaderMap::from_iter([(IF_NONE_MATCH, value)]), &tag)
        };
        let text = tag.to_str().unwrap();
        for value in [text, "*", &format!("W/{text}"), &format!("\"x\", {text}")] {
            assert!(sent(value), "{value}");
        }
        for value in ["", "\"x\"", text.trim_matches('"'), "W/*"] {
            assert!(!sent(value), "{value}");
        }
        assert!(!is_cached(&HeaderMap::new(), &tag));
    }

    /// The policy would forbid most of it anyway, in the reader's browser.
    #[test]
    fn the_files_need_nothing_from_elsewhere_and_parse_no_markup() {
        for file in [&PAGE, &STYLE, &SCRIPT, &SESSION] {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "://",
                "url(",
            ] {
                assert!(!file.content.contains(word), "{} has {word}", file.path);
            }
        }
        for word in ["<style", " style=", " onclick=", "javascript:", "<script>"] {
            assert!(!PAGE.content.contains(word), "the page has {word}");
        }
        for file in [&STYLE, &SCRIPT] {
            assert!(PAGE.content.contains(&format!("\"{}\"", file.path)), "{}", file.path);
        }
    }
}
