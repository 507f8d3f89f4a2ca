//! Failure mode 70: errors of upstreams, and how callers get them. Those about the gateway's own
//! credential are in `failover`.

use crate::support::answers::{SPOKEN, error_message, path, request};
use crate::support::gateway::{Gateway, yaml};
use crate::support::upstream::{Step, Upstream};

const HEADERS: &str = "content-type: application/json\r\nretry-after: 7\r\nretry-after-ms: 6500\r\n\
    x-should-retry: true\r\nrequest-id: req_up\r\nx-request-id: up_1\r\n\
    x-ratelimit-remaining-requests: 3\r\nanthropic-ratelimit-requests-remaining: 4\r\n";

/// Status, Anthropic's type of error for it, and what a caller of the other dialect gets: of
/// OpenAI's from an Anthropic upstream, and the other way round.
const TABLE: [(u16, &str, u16, u16); 9] = [
    (400, "invalid_request_error", 400, 400),
    (404, "not_found_error", 404, 404),
    (408, "timeout_error", 504, 504),
    (413, "request_too_large", 413, 413),
    (422, "invalid_request_error", 400, 400),
    (429, "rate_limit_error", 429, 429),
    (500, "api_error", 502, 500),
    (503, "overloaded_error", 503, 529),
    (529, "overloaded_error", 503, 529),
];

fn error(dialect: &str, kind: &str) -> String {
    if dialect == "anthropic" {
        return format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"told you"}},"request_id":"req_up"}}"#
        );
    }
    r#"{"error":{"message":"told you","type":"some_error","param":"x","code":null,"extra":[1, 2]}}"#
        .to_owned()
}

#[tokio::test]
async fn fm70_errors_keep_their_status_body_and_headers() {
    for (dialect, provider) in SPOKEN {
        for (status, kind, to_openai, to_anthropic) in TABLE {
            let said = error(dialect, kind);
            let script = vec![Step::Whole(status, HEADERS, said.clone().into_bytes())];
            let upstream = Upstream::new(script).await;
            let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
            for (caller, _) in SPOKEN {
                for stream in [true, false] {
                    let body = request(&format!("{provider}/m"), stream, "hi");
                    let response = gateway.post(path(caller), &body).send().await.unwrap();
                    let found = response.status().as_u16();
                    let headers = response.headers().clone();
                    let text = response.text().await.unwrap();
                    let what = format!("{caller} from {dialect} {status}: {found} {text}");
                    if caller == dialect {
                        assert_eq!((found, &text), (status, &said), "{what}");
                    } else {
                        let expected = if caller == "anthropic" { to_anthropic } else { to_openai };
                        assert_eq!(found, expected, "{what}");
                        assert!(error_message(caller, &text).contains("told you"), "{what}");
                    }
                    for (name, value) in [
                        ("retry-after", "7"),
                        ("retry-after-ms", "6500"),
                        ("x-should-retry", "true"),
                        ("request-id", "req_up"),
                        ("x-upstream-request-id", "up_1"),
                        ("x-upstream-ratelimit-remaining-requests", "3"),
                        ("x-upstream-anthropic-ratelimit-requests-remaining", "4"),
                    ] {
                        assert_eq!(headers[name], value, "{name}: {what}");
                    }
                    assert_ne!(headers["x-request-id"], "up_1");
                    assert_eq!(headers["x-streamgate-target"], format!("{provider}/m"));
                }
            }
        }
    }
}

/// "Bad gateway" must not hide that the prompt does not fit.
#[tokio::test]
async fn fm70_a_prompt_over_the_context_length_is_reported_as_such() {
    let openai = r#"{"error":{"message":"This model's maximum context length is 9 tokens","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
    let anthropic = r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 10 tokens > 9 maximum"}}"#;
    for (said, model, caller) in
        [(openai, "oai/m", "anthropic"), (anthropic, "ant/m", "openai-chat")]
    {
        let script = vec![Step::Whole(400, "content-type: application/json\r\n", said.into())];
        let upstream = Upstream::new(script).await;
        let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
        let response = gateway.post(path(caller), &request(model, true, "hi")).send().await;
        let response = response.unwrap();
        assert_eq!(response.status(), 400);
        let text = response.text().await.unwrap();
        assert!(text.contains("maximum"), "{text}");
        if caller == "openai-chat" {
            assert!(text.contains("context_length_exceeded"), "{text}");
        }
    }
}

/// Error bodies that are not JSON are rendered in the caller's dialect all the same.
#[tokio::test]
async fn fm70_errors_without_json_are_rendered_in_dialect() {
    for (status, kind, body) in
        [(502, "text/html", "<html>Bad Gateway</html>"), (503, "text/plain", "busy"), (500, "", "")]
    {
        let headers: &'static str = match kind {
            "text/html" => "content-type: text/html\r\n",
            "text/plain" => "content-type: text/plain\r\n",
            _ => "",
        };
        let upstream = Upstream::new(vec![Step::Whole(status, headers, body.into())]).await;
        let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
        for (caller, _) in SPOKEN {
            for (_, provider) in SPOKEN {
                let body = request(&format!("{provider}/m"), true, "hi");
                let response = gateway.post(path(caller), &body).send().await.unwrap();
                assert!(response.status().is_server_error());
                assert_eq!(response.headers()["content-type"], "application/json");
                let message = error_message(caller, &response.text().await.unwrap());
                assert!(message.contains(&status.to_string()), "{message}");
            }
        }
    }
}

/// An error body that is larger than we read is not forwarded as half a JSON text.
#[tokio::test]
async fn fm70_huge_errors_are_not_cut_into_broken_json() {
    let body = format!(
        r#"{{"type":"error","error":{{"type":"api_error","message":"{}"}}}}"#,
        "x".repeat(200_000)
    );
    let script = vec![Step::Whole(500, "content-type: application/json\r\n", body.into())];
    let upstream = Upstream::new(script).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
    for (caller, provider) in SPOKEN {
        let body = request(&format!("{provider}/m"), true, "hi");
        let response = gateway.post(path(caller), &body).send().await.unwrap();
        assert_eq!(response.status().as_u16() / 100, 5);
        error_message(caller, &response.text().await.unwrap());
    }
}
