//! Limits from outside: who is let in, what comes back, and what callers and operators are told.
//!
//! No test waits for a limit to refill: limits are chosen so that what comes back within a test is
//! less than any request needs.

mod cut_off;
mod headers;
mod settled;
mod tokens;

use http::HeaderMap;

use crate::access::by;
use crate::support::answers::{error_message, request};
use crate::support::gateway::Gateway;

/// The reservation for a request of `by`: its bytes divided by four, and its `max_tokens`.
fn reserved(model: &str) -> u64 {
    (request(model, true, "hi").len() as u64).div_ceil(4) + 100
}

/// Asks, expects a refusal, and gives its headers and its message.
async fn refused(gateway: &Gateway, key: &str, dialect: &str, model: &str) -> (HeaderMap, String) {
    let response = by(gateway, key, dialect, model).send().await.unwrap();
    assert_eq!(response.status(), 429);
    let headers = response.headers().clone();
    assert!(whole_number(&headers, "retry-after") >= 1);
    (headers, error_message(dialect, &response.text().await.unwrap()))
}

/// Asks, expects an answer, and reads it all.
async fn answered(gateway: &Gateway, key: &str, dialect: &str, model: &str) -> String {
    let response = by(gateway, key, dialect, model).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.text().await.unwrap()
}

fn whole_number(headers: &HeaderMap, name: &str) -> u64 {
    let value = headers.get(name).unwrap_or_else(|| panic!("no {name} in {headers:?}"));
    value.to_str().unwrap().parse().unwrap_or_else(|_| panic!("{name}: {value:?}"))
}

/// The names of the headers for (limit, remaining, reset) of `requests` or `tokens`.
fn names(dialect: &str, of: &str) -> [String; 3] {
    ["limit", "remaining", "reset"].map(|what| match dialect {
        "anthropic" => format!("anthropic-ratelimit-{of}-{what}"),
        _ => format!("x-ratelimit-{what}-{of}"),
    })
}

/// The remaining `requests` or `tokens` in the headers.
fn remaining(headers: &HeaderMap, dialect: &str, of: &str) -> u64 {
    let [_, remaining, _] = names(dialect, of);
    whole_number(headers, &remaining)
}
