//! Response headers: which of an upstream's are passed on to callers, under which name, and the one that names the
//! target. It must never read a body.

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::access_log;
use super::attempt::{Attempt, trail};

const ATTEMPTS: HeaderName = HeaderName::from_static("x-streamgate-attempts");
const TARGET: HeaderName = HeaderName::from_static("x-streamgate-target");

/// Upstream response headers that callers' SDKs act on. Everything else stays behind. `wait`: the seconds to wait, in
/// place of a date, which not every client reads and which is by another's clock.
pub(super) fn passed_on(upstream: &HeaderMap, wait: Option<u64>) -> HeaderMap {
    const NAMES: [&str; 6] = [
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "request-id",
        "openai-processing-ms",
        "x-request-id",
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in upstream {
        let text = name.as_str();
        let wanted = NAMES.contains(&text)
            || text.starts_with("x-ratelimit-")
            || text.starts_with("anthropic-ratelimit-");
        if !wanted {
            continue;
        }
        // Ours are called the same, and every response carries them: the upstream's limits are not
        // the caller's (failure mode 70).
        let ours = text == "x-request-id" || text.contains("ratelimit-");
        let upstreams = || {
            let name = format!("x-upstream-{}", text.strip_prefix("x-").unwrap_or(text));
            HeaderName::from_bytes(name.as_bytes()).ok()
        };
        if let Some(name) = if ours { upstreams() } else { Some(name.clone()) } {
            headers.append(name, value.clone());
        }
    }
    let is_number =
        |value: &HeaderValue| value.to_str().is_ok_and(|text| text.trim().parse::<f64>().is_ok());
    if headers.get(RETRY_AFTER).is_some_and(|value| !is_number(value)) {
        headers.remove(RETRY_AFTER);
    }
    if let Some(seconds) = wait {
        headers.entry(RETRY_AFTER).or_insert_with(|| seconds.into());
    }
    headers
}

/// The response header that names all attempts, if there were several.
pub(super) fn attempts_header(attempts: &[Attempt]) -> Option<(HeaderName, HeaderValue)> {
    Some((ATTEMPTS, HeaderValue::from_str(&trail(attempts, false)?).ok()?))
}

/// The response header that names the target.
pub(super) fn target_header(target: &str) -> Option<(HeaderName, HeaderValue)> {
    let value = HeaderValue::from_str(&access_log::short(target)).ok()?;
    Some((TARGET, value))
}
