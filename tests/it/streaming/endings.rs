//! Failed ends: truncated streams, in-band errors, rejections.

use std::time::Duration;

use super::{
    PAIRS, ask, bad_gateway, before, begun, error_of, failure, preamble, record, refusal, settled,
    strictly, token, whole,
};
use crate::support::gateway::{Gateway, Log, yaml};
use crate::support::upstream::{Step, Upstream};

/// Streams that were cut in every way there is.
fn cuts(provider: &str) -> Vec<Vec<Step>> {
    let unframed =
        || Step::Raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec());
    let bytes = |step: Step| match step {
        Step::Chunk(bytes) => Step::Raw(bytes),
        other => other,
    };
    let mut half = super::token_text(provider, "there");
    half.truncate(half.len() / 2);
    vec![
        // A clean end of the chunked body.
        begun(provider, [Step::End]),
        // The connection closes, or is reset, within the chunked body.
        begun(provider, [Step::Close]),
        begun(provider, [Step::Reset]),
        // A body that ends with its connection.
        vec![unframed(), bytes(preamble(provider)), bytes(token(provider, "Hello")), Step::Close],
        // Within an event.
        begun(provider, [Step::chunk(&half), Step::End]),
    ]
}

#[tokio::test]
async fn fm04_a_truncated_stream_is_never_success() {
    for (caller, provider) in PAIRS {
        let scripts = cuts(provider);
        let cases = scripts.len();
        let upstream = Upstream::scripted(scripts).await;
        let gateway = before(&upstream, "").await;
        for number in 0..cases {
            let log = Log::default();
            let _capture = log.capture();
            let text = whole(ask(&gateway, caller, &format!("{provider}/m"))).await;
            let message = error_of(caller, &text);
            assert!(message.contains("before the answer was complete"), "{number}: {message}");
            assert!(number == 2 || text.contains("Hello"), "{number}: {text}");
            let record = record(&gateway, &log).await;
            assert_eq!(record["outcome"], "truncated", "{number}");
            assert_eq!(record["estimated"], true);
            assert!(record["output_tokens"].as_u64() > Some(0), "{record}");
        }
    }
}

/// A stream that was cut before any output keeps its status.
#[tokio::test]
async fn fm04_a_stream_cut_before_its_output_is_a_bad_gateway() {
    for (caller, provider) in PAIRS {
        for end in [Step::End, Step::Close] {
            let log = Log::default();
            let _capture = log.capture();
            let upstream = Upstream::new(vec![Step::Sse, preamble(provider), end]).await;
            let gateway = before(&upstream, "").await;
            let response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
            assert_eq!(response.status(), bad_gateway(caller), "{caller} {provider}");
            assert_eq!(record(&gateway, &log).await["outcome"], "truncated");
        }
    }
}

#[tokio::test]
async fn fm12_a_mid_stream_error_has_the_callers_shape() {
    for (caller, provider) in PAIRS {
        let log = Log::default();
        let _capture = log.capture();
        let upstream = Upstream::new(begun(provider, [failure(provider), Step::End])).await;
        let gateway = before(&upstream, "").await;
        let text = whole(ask(&gateway, caller, &format!("{provider}/m"))).await;
        assert_eq!(error_of(caller, &text), "boom", "{text}");
        assert_eq!(strictly(caller, &text).choices[&0].text, "Hello");
        assert_eq!(text.contains("event: error\n"), caller == "anthropic", "{text}");
        assert_eq!(record(&gateway, &log).await["outcome"], "upstream_error");
    }
}

#[tokio::test]
async fn fm12_malformed_data_mid_stream_is_an_error() {
    for (caller, provider) in PAIRS {
        let junk = "event: content_block_delta\ndata: {\"type\": junk\n\n";
        let upstream = Upstream::new(begun(provider, [Step::chunk(junk), Step::Hang])).await;
        let gateway = before(&upstream, "").await;
        let text = whole(ask(&gateway, caller, &format!("{provider}/m"))).await;
        error_of(caller, &text);
        upstream.all_closed().await;
    }
}

/// An upstream's refusals: the status it has, and the one that callers get.
fn refusals(provider: &str) -> Vec<(Vec<Step>, u16)> {
    let json = "content-type: application/json\r\n";
    let refusal = |status| refusal(provider, status);
    let Step::Chunk(event) = failure(provider) else { panic!("a chunk") };
    let sse = "content-type: text/event-stream\r\n";
    vec![
        (refusal(429), 429),
        (refusal(400), 400),
        (refusal(401), 0),
        (refusal(404), 404),
        (refusal(500), 0),
        (refusal(503), 0),
        // Failures that call themselves a success.
        (refusal(200), 0),
        (vec![Step::Whole(200, json, Vec::new())], 0),
        (vec![Step::Whole(200, sse, Vec::new())], 0),
        (vec![Step::Whole(200, sse, event)], 0),
        (vec![Step::Whole(200, "content-type: text/html\r\n", b"<html>".to_vec())], 0),
        (vec![Step::Whole(307, "location: http://127.0.0.1:9/\r\n", Vec::new())], 0),
        // Last, since the gateway asks again and gets the last one once more.
        (vec![Step::Close], 0),
        (vec![Step::Reset], 0),
    ]
}

/// Failure mode 13: a failure before the first output has a status that says so. 0: any 5xx.
#[tokio::test]
async fn fm13_a_failure_before_the_stream_keeps_its_status() {
    for (caller, provider) in PAIRS {
        let (scripts, statuses): (Vec<_>, Vec<_>) = refusals(provider).into_iter().unzip();
        let upstream = Upstream::scripted(scripts).await;
        let gateway = before(&upstream, "").await;
        for (number, wanted) in statuses.into_iter().enumerate() {
            let log = Log::default();
            let _capture = log.capture();
            let response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
            let status = response.status().as_u16();
            let fits = status == wanted || (wanted == 0 && status >= 500);
            assert!(fits, "{caller} {provider} {number}: {status}");
            assert_eq!(response.headers()["content-type"], "application/json");
            assert!(response.headers().contains_key("x-request-id"));
            let body: serde_json::Value =
                serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            assert!(body["error"]["message"].is_string(), "{body}");
            assert!(body["error"]["type"].is_string(), "{body}");
            assert_eq!(body["type"] == "error", caller == "anthropic", "{body}");
            let outcome = record(&gateway, &log).await["outcome"].clone();
            let expected = match wanted {
                400 | 404 => &["rejected"][..],
                _ => &["upstream_error", "truncated"],
            };
            assert!(expected.iter().any(|word| outcome == *word), "{number}: {outcome}");
        }
    }
}

#[tokio::test]
async fn fm13_an_unreachable_upstream_is_a_bad_gateway() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let gateway = Gateway::new(&yaml(&url, &url, "")).await;
    for (caller, provider) in PAIRS {
        let response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
        assert_eq!(response.status(), bad_gateway(caller));
    }
    settled(&gateway).await;
}

/// Failure mode 13: after the response head, failures are reported in-band.
#[tokio::test]
async fn fm13_a_failure_after_the_head_is_reported_in_band() {
    for (caller, provider) in PAIRS {
        let late = |(mut script, _): (Vec<Step>, u16)| {
            script.insert(0, Step::Pause(Duration::from_millis(40)));
            script
        };
        let scripts: Vec<_> = refusals(provider).into_iter().map(late).collect();
        let cases = scripts.len();
        let upstream = Upstream::scripted(scripts).await;
        let gateway = before(&upstream, "stream: { commit_after: 10ms }\n").await;
        for number in 0..cases {
            let text = whole(ask(&gateway, caller, &format!("{provider}/m"))).await;
            assert!(!error_of(caller, &text).is_empty(), "{number}: {text}");
            settled(&gateway).await;
        }
    }
}

/// Nothing of an upstream's wrong answer but its own words reaches the caller, and no key does.
#[tokio::test]
async fn fm62_a_repeated_key_is_not_passed_on() {
    for (caller, provider) in PAIRS {
        let body = format!(
            r#"{{"type":"error","error":{{"type":"authentication_error","message":"wrong key up-canary-{provider}","param":null,"code":null}}}}"#
        );
        let json = "content-type: application/json\r\n";
        let upstream = Upstream::new(vec![Step::Whole(401, json, body.into_bytes())]).await;
        let gateway = before(&upstream, "").await;
        let response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
        let text = response.text().await.unwrap();
        assert!(!text.contains("canary"), "{text}");
    }
}
