//! Rate limit headers in each dialect's form, errors and metrics.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{answered, names, refused, remaining, whole_number};
use crate::access::{by, with_keys};
use crate::streaming::{count, read_until, settled};
use crate::support::answers::{SPOKEN, opening, path, request, streamed, whole};
use crate::support::gateway::{Gateway, KEY};
use crate::support::language::language;
use crate::support::upstream::{Step, Upstream};

const LIMITS: &str =
    ", limits: { requests_per_minute: 60, burst: 50, tokens_per_minute: 60000, cut_off: true }";

/// Checks that a reset is written as the dialect's vendor does: a duration in Go's form, or a time.
fn assert_reset(dialect: &str, value: &str) {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if dialect == "anthropic" {
        let pattern = "dddd-dd-ddTdd:dd:ddZ";
        let fits = value.len() == pattern.len()
            && value.chars().zip(pattern.chars()).all(|(found, wanted)| match wanted {
                'd' => found.is_ascii_digit(),
                other => found == other,
            });
        assert!(fits && value >= "2025", "{value}");
        return;
    }
    let seconds = value.strip_suffix("ms").or_else(|| value.strip_suffix('s')).unwrap();
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    assert!(digits(whole) && digits(fraction), "{value}");
}

/// Every response to an authenticated caller has rate limit headers, errors included.
#[tokio::test]
async fn every_response_has_rate_limit_headers() {
    for (dialect, provider) in SPOKEN {
        let json = "content-type: application/json\r\n";
        let limited = "content-type: application/json\r\nretry-after: 7\r\n\
            x-ratelimit-limit-requests: 1\r\nanthropic-ratelimit-requests-limit: 1\r\n";
        let upstream = Upstream::scripted(vec![
            streamed(dialect, "hi"),
            vec![Step::Whole(200, json, whole(dialect, "hi").into_bytes())],
            vec![Step::Whole(500, json, b"{}".to_vec())],
            vec![Step::Whole(429, limited, b"{}".to_vec())],
        ])
        .await;
        let gateway = Gateway::new(&with_keys(&upstream, &[(KEY, LIMITS)], "")).await;
        let model = format!("{provider}/m");
        let failed = language(dialect).bad_gateway;
        let mut tokens = 60_000;
        for (number, (body, status)) in [
            (request(&model, true, "hi"), 200),
            (request(&model, false, "hi"), 200),
            (request(&model, true, "hi"), 500),
            (request(&model, true, "hi"), 429),
            (request("none/m", true, "hi"), 404),
            ("{".to_owned(), 400),
        ]
        .into_iter()
        .enumerate()
        {
            let response = gateway.post(path(dialect), &body).send().await.unwrap();
            let found = response.status().as_u16();
            assert!(found == status || (status == 500 && found == failed), "{found}: {body}");
            let headers = response.headers().clone();
            response.text().await.unwrap();
            settled(&gateway).await;
            for (of, limit) in [("requests", 50), ("tokens", 60_000)] {
                let [limit_name, _, reset] = names(dialect, of);
                assert_eq!(whole_number(&headers, &limit_name), limit);
                assert_reset(dialect, headers[&reset].to_str().unwrap());
            }
            // One comes back in a second.
            let left = remaining(&headers, dialect, "requests");
            assert!((49 - number as u64..50).contains(&left), "{left} after {number}");
            let left = remaining(&headers, dialect, "tokens");
            assert!(left <= tokens, "{left} after {number}");
            tokens = 60_000;
            // The upstream's rate limit headers are not confused with ours.
            assert!(!headers.contains_key("x-streamgate-limit"));
            if status == 429 {
                assert_eq!(headers["retry-after"], "7");
                assert_eq!(headers["x-upstream-ratelimit-limit-requests"], "1");
                assert_eq!(headers["x-upstream-anthropic-ratelimit-requests-limit"], "1");
            }
            let foreign = if dialect == "anthropic" { "x-ratelimit-" } else { "anthropic-" };
            assert!(!headers.keys().any(|name| name.as_str().starts_with(foreign)));
        }
        // Lists use nothing up, and are answers, too.
        for list in ["/v1/models", "/v1/prompts"] {
            let mut sent = gateway.client.get(format!("{}{list}", gateway.url)).bearer_auth(KEY);
            if dialect == "anthropic" {
                sent = sent.header("anthropic-version", "2023-06-01");
            }
            let response = sent.send().await.unwrap();
            assert_eq!(response.status(), 200, "{list}");
            assert_eq!(whole_number(response.headers(), &names(dialect, "requests")[0]), 50);
        }
        let unknown = by(&gateway, "wrong", dialect, &model).send().await.unwrap();
        assert_eq!(unknown.status(), 401);
        assert!(!unknown.headers().keys().any(|name| name.as_str().contains("ratelimit")));
    }
}

/// Of several limits the one is told that is reached first.
#[tokio::test]
async fn the_tightest_rate_limit_is_in_the_headers() {
    for (dialect, provider) in SPOKEN {
        let upstream = Upstream::new(streamed(dialect, "hi")).await;
        let models = format!(
            "models:\n  few: {{ targets: [{{ provider: {provider}, model: m }}], limits: {{ requests_per_minute: 5 }} }}\n  \
             many: {{ targets: [{{ provider: {provider}, model: m }}], limits: {{ requests_per_minute: 500 }} }}\n"
        );
        let own = ", limits: { requests_per_minute: 50, tokens_per_minute: 60000 }";
        let gateway = Gateway::new(&with_keys(&upstream, &[("a", own)], &models)).await;
        for (model, limit) in [("few", 5), ("many", 50)] {
            let response = by(&gateway, "a", dialect, model).send().await.unwrap();
            let [name, ..] = names(dialect, "requests");
            assert_eq!(whole_number(response.headers(), &name), limit);
            assert!(remaining(response.headers(), dialect, "tokens") > 50_000);
        }
    }
}

/// A refusal says which limit, whose, and when to come back: in its headers and in its words.
#[tokio::test]
async fn a_rate_limit_error_names_the_limit_and_its_scope() {
    for (dialect, provider) in SPOKEN {
        let model = format!("{provider}/m");
        let upstream = Upstream::new(streamed(dialect, "hi")).await;
        let limits = ", limits: { requests_per_minute: 2, burst: 1 }";
        let gateway = Gateway::new(&with_keys(&upstream, &[("busy", limits)], "")).await;
        answered(&gateway, "busy", dialect, &model).await;
        let (headers, message) = refused(&gateway, "busy", dialect, &model).await;
        assert_eq!(headers["x-streamgate-limit"], "caller requests_per_minute");
        assert!((25..=30).contains(&whole_number(&headers, "retry-after")));
        assert_eq!(remaining(&headers, dialect, "requests"), 0);
        for words in ["2 requests per minute", "come back in", "the caller's requests_per_minute"] {
            assert!(message.contains(words), "{message}");
        }
        let counted =
            r#"streamgate_limit_refusals_total{scope="caller",limit="requests_per_minute"}"#;
        assert_eq!(count(&gateway, counted), "1");
        settled(&gateway).await;
        assert_eq!(count(&gateway, "streamgate_requests_total{"), "2");
    }
}

/// An operator sees who is near a limit, by configured names only.
#[tokio::test]
async fn metrics_show_usage_of_each_rate_limit() {
    let go = Arc::new(Notify::new());
    let held =
        vec![Step::Sse, Step::chunk(&opening("openai-chat", "hi")), Step::Gate(Arc::clone(&go))];
    let upstream = Upstream::new(held).await;
    let models = "models:\n  fast: { targets: [{ provider: oai, model: m }], limits: { concurrent_streams: 4 } }\n";
    let keys = [
        ("busy", ", limits: { requests_per_minute: 10, burst: 10, concurrent_streams: 2 }"),
        ("idle", ", limits: { tokens_per_minute: 9 }"),
    ];
    let gateway = Gateway::new(&with_keys(&upstream, &keys, models)).await;
    // A caller whose name is in no configuration, as those with tokens of their own are.
    let mut open = by(&gateway, "busy", "openai-chat", "fast").send().await.unwrap();
    read_until(&mut open, "hi").await;
    let scrape = async || {
        let url = format!("{}/metrics", gateway.url);
        gateway.client.get(url).send().await.unwrap().text().await.unwrap()
    };
    let text = scrape().await;
    let value = |scope: &str, name: &str, limit: &str| {
        let line = format!(
            r#"streamgate_limit_used_ratio{{scope="{scope}",name="{name}",limit="{limit}"}} "#
        );
        let found = text.lines().find_map(|found| found.strip_prefix(line.as_str()));
        found.unwrap_or_else(|| panic!("no {line} in {text}")).parse::<f64>().unwrap()
    };
    assert!((value("caller", "busy", "concurrent_streams") - 0.5).abs() < 1e-9);
    assert!((value("model", "fast", "concurrent_streams") - 0.25).abs() < 1e-9);
    let used = value("caller", "busy", "requests_per_minute");
    assert!(used > 0.0 && used <= 0.1, "{used}");
    assert!(value("caller", "idle", "tokens_per_minute").abs() < 1e-9);
    assert!(!text.contains(r#"name="idle",limit="cut_off""#));
    // Callers that are no longer configured are no longer reported.
    let gone = with_keys(&upstream, &keys[..1], "");
    gateway.app.reload(crate::support::gateway::configuration(&gone));
    let text = scrape().await;
    assert!(!text.contains(r#"name="idle""#) && !text.contains(r#"name="fast""#), "{text}");
    assert!(text.contains(r#"name="busy""#), "{text}");
}
