//! Models on AWS and on Vertex AI, HTTP to HTTP: addresses, signatures, and Anthropic's own events on
//! other platforms.

use serde_json::{Value, json};

use crate::support::aws::{authorization, chunk, message};
use crate::support::events;
use crate::support::gateway::{Gateway, KEY, hex};
use crate::support::simulated;
use crate::support::upstream::{Seen, Step, Upstream};

const CHAT: &str =
    r#"{"model":"p/us.a-b:0","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const MESSAGES: &str = r#"{"model":"p/us.anthropic.claude-x-v1:0", "stream":true, "max_tokens":9,"new":[1.50],"messages":[{"role":"user","content":"hi"}]}"#;

async fn gateway(provider: &str) -> Gateway {
    let digest = hex(&streamgate::config::digest(KEY));
    Gateway::new(&format!(
        "auth: {{ keys: [{{ name: test, sha256: {digest} }}] }}\nproviders:\n  p: {{ {provider} }}\n"
    ))
    .await
}

/// A whole body of a stream.
fn stream(body: Vec<u8>) -> Vec<Step> {
    vec![Step::Whole(200, "content-type: application/vnd.amazon.eventstream\r\n", body)]
}

fn converse() -> Vec<Step> {
    stream(include_bytes!("../fixtures/bedrock/text.in.bin").to_vec())
}

fn header<'s>(seen: &'s Seen, name: &str) -> Option<&'s str> {
    seen.head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn path(seen: &Seen) -> &str {
    seen.head.split(' ').nth(1).unwrap()
}

/// The only request of an upstream.
async fn seen(upstream: &Upstream) -> Seen {
    let mut requests = upstream.requests().await;
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

#[tokio::test]
async fn a_bedrock_key_is_a_bearer_token() {
    let upstream = Upstream::new(converse()).await;
    let url = &upstream.url;
    let gateway =
        gateway(&format!("dialect: bedrock, base_url: \"{url}\", api_key: bedrock-key")).await;
    let answer = gateway.post("/v1/chat/completions", CHAT).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("w\u{f6}rld"));
    let seen = seen(&upstream).await;
    assert_eq!(path(&seen), "/model/us.a-b%3A0/converse-stream");
    assert_eq!(header(&seen, "authorization"), Some("Bearer bedrock-key"));
    assert_eq!(header(&seen, "accept"), Some("application/vnd.amazon.eventstream"));
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(body, json!({ "messages": [{ "role": "user", "content": [{ "text": "hi" }] }] }));
}

/// The signature is the one that the other side computes from what it has received.
#[tokio::test]
async fn requests_are_signed() {
    for token in [None, Some("session-canary")] {
        let upstream = Upstream::new(converse()).await;
        let session = token.map_or_else(String::new, |token| format!(", session_token: {token}"));
        let gateway = gateway(&format!(
            "dialect: bedrock, base_url: \"{}\", headers: {{ x-other: y }}, aws: {{ region: eu-west-1, access_key_id: AKIDEXAMPLE, secret_access_key: \"wJalr/+EXAMPLE\"{session} }}",
            upstream.url
        ))
        .await;
        let answer = gateway.post("/v1/chat/completions", CHAT).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let seen = seen(&upstream).await;
        let mut signed = Vec::new();
        for name in ["content-type", "host", "x-amz-date", "x-amz-security-token"] {
            signed.extend(header(&seen, name).map(|value| (name, value)));
        }
        assert_eq!(signed.len(), 3 + usize::from(token.is_some()));
        let keys = ("AKIDEXAMPLE", "wJalr/+EXAMPLE");
        let expected =
            authorization(keys, ("eu-west-1", "bedrock"), path(&seen), &signed, &seen.body);
        assert_eq!(header(&seen, "authorization"), Some(expected.as_str()));
        assert_eq!(header(&seen, "x-amz-security-token"), token);
        assert!(!seen.head.contains("wJalr"), "the secret stays here");
    }
}

/// AWS repeats what was signed when a signature is wrong, and with it the session token.
#[tokio::test]
async fn a_session_token_is_never_repeated() {
    let body = br#"{"message":"The Canonical String should have been 'x-amz-security-token:session-canary'"}"#;
    let json = "content-type: application/json\r\n";
    let scripts = [400, 403].map(|status| vec![Step::Whole(status, json, body.to_vec())]);
    let upstream = Upstream::scripted(scripts.to_vec()).await;
    let gateway = gateway(&format!(
        "dialect: bedrock, base_url: \"{}\", aws: {{ region: r, access_key_id: i, secret_access_key: s, session_token: session-canary }}",
        upstream.url
    ))
    .await;
    let answer = gateway.post("/v1/chat/completions", CHAT).send().await.unwrap();
    let text = answer.text().await.unwrap();
    assert!(text.contains("Canonical String") && !text.contains("session-canary"), "{text}");
    // Errors about our credential are not repeated at all.
    let answer = gateway.post("/v1/chat/completions", CHAT).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    let text = answer.text().await.unwrap();
    assert!(text.contains("upstream_credentials") && !text.contains("Canonical"), "{text}");
}

/// Failure mode 43: exceptions keep their kind, before the answer as a status and within it in the caller's words;
/// an error with a status of success is an error, and a stream that is cut is told.
#[tokio::test]
async fn fm43_every_aws_error_is_reported() {
    let event = [(":event-type", "contentBlockDelta"), (":message-type", "event")];
    let text = message(&event, r#"{"contentBlockIndex":0,"delta":{"text":"Hi"}}"#);
    let exception = [(":exception-type", "throttlingException"), (":message-type", "exception")];
    let throttled = message(&exception, r#"{"message":"slow down"}"#);
    let json = "content-type: application/json\r\n";
    for (steps, status, words) in [
        (stream(throttled.clone()), 429, "slow down"),
        (stream([&text[..], &throttled].concat()), 200, "rate_limit"),
        (
            stream([&text[..], &text[..text.len() - 9]].concat()),
            200,
            "before the answer was complete",
        ),
        (vec![Step::Whole(200, json, br#"{"message":"odd"}"#.to_vec())], 502, "odd"),
        (vec![Step::Whole(408, json, br#"{"message":"late"}"#.to_vec())], 504, "late"),
    ] {
        let upstream = Upstream::new(steps).await;
        let url = &upstream.url;
        let gateway = gateway(&format!("dialect: bedrock, base_url: \"{url}\", api_key: k")).await;
        let answer = gateway.post("/v1/chat/completions", CHAT).send().await.unwrap();
        assert_eq!(answer.status(), status, "{words}");
        let body = answer.text().await.unwrap();
        assert!(body.contains(words) && !body.contains("[DONE]"), "{body}");
    }
}

const EVENTS: [&str; 6] = [
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta", "index":0,"delta":{"type":"text_delta","text":"Hi"},"new":1.50}"#,
    r#"{"type":"content_block_stop","index":0  }"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}"#,
    r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":1}}"#,
];

/// Callers of Anthropic's language get its events as they were, whatever they were wrapped in.
#[tokio::test]
async fn anthropic_on_bedrock_is_verbatim() {
    let upstream =
        Upstream::new(stream(EVENTS.iter().flat_map(|event| chunk(event)).collect())).await;
    let gateway = gateway(&format!(
        "dialect: anthropic, hosting: bedrock, base_url: \"{}\", api_key: k",
        upstream.url
    ))
    .await;
    let request = gateway.post("/v1/messages", MESSAGES);
    let request = request.header("anthropic-version", "2023-06-01");
    let request =
        request.header("anthropic-beta", "interleaved-thinking-2025-05-14, context-1m-2025-08-07");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let told = events(&answer.bytes().await.unwrap()).unwrap();
    let payloads: Vec<&str> = told.iter().map(|(_, data)| data.as_str()).collect();
    assert_eq!(payloads, EVENTS);
    for (name, data) in &told {
        let value: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name.as_deref(), value["type"].as_str(), "SDKs go by the name");
    }
    let seen = seen(&upstream).await;
    assert_eq!(path(&seen), "/model/us.anthropic.claude-x-v1%3A0/invoke-with-response-stream");
    assert_eq!(header(&seen, "authorization"), Some("Bearer k"));
    assert_eq!(header(&seen, "accept"), Some("application/json"));
    assert_eq!(header(&seen, "x-api-key"), None);
    assert_eq!(
        String::from_utf8(seen.body).unwrap(),
        r#"{ "max_tokens":9,"new":[1.50],"messages":[{"role":"user","content":"hi"}],"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["interleaved-thinking-2025-05-14","context-1m-2025-08-07"]}"#
    );
}

#[tokio::test]
async fn anthropic_on_vertex_is_verbatim() {
    let body: String = EVENTS.iter().flat_map(|event| ["data: ", event, "\n\n"]).collect();
    let steps = vec![Step::Whole(200, "content-type: text/event-stream\r\n", body.into_bytes())];
    let upstream = Upstream::new(steps).await;
    let gateway = gateway(&format!(
        "dialect: anthropic, hosting: vertex, base_url: \"{}/v1/projects/p/locations/l/publishers/anthropic\", api_key: k",
        upstream.url
    ))
    .await;
    let body = MESSAGES.replace("us.anthropic.claude-x-v1:0", "claude-x@2025");
    let request = gateway.post("/v1/messages", &body).header("anthropic-version", "2099-01-01");
    let answer =
        request.header("anthropic-beta", "interleaved-thinking-2025-05-14").send().await.unwrap();
    let told = events(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(told.iter().map(|(_, data)| data.as_str()).collect::<Vec<_>>(), EVENTS);
    let seen = seen(&upstream).await;
    assert_eq!(
        path(&seen),
        "/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@2025:streamRawPredict"
    );
    assert_eq!(header(&seen, "authorization"), Some("Bearer k"));
    assert_eq!(header(&seen, "anthropic-beta"), Some("interleaved-thinking-2025-05-14"));
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!((&body["model"], &body["stream"]), (&Value::Null, &json!(true)));
    assert_eq!(body["anthropic_version"], "2099-01-01", "who asks for a later one gets it");
}

/// A platform's own errors are no words of Anthropic's: its callers are told in those all the same.
#[tokio::test]
async fn a_platforms_errors_have_the_callers_dialect() {
    let exception =
        [(":exception-type", "serviceUnavailableException"), (":message-type", "exception")];
    let late = [
        chunk(EVENTS[0]),
        chunk(EVENTS[1]),
        chunk(EVENTS[2]),
        message(&exception, r#"{"message":"busy"}"#),
    ];
    let json = "content-type: application/json\r\n";
    for (steps, status, kind) in [
        (vec![Step::Whole(429, json, br#"{"message":"slow"}"#.to_vec())], 429, "rate_limit_error"),
        (stream(message(&exception, r#"{"message":"busy"}"#)), 529, "overloaded_error"),
        (stream(late.concat()), 200, "overloaded_error"),
    ] {
        let upstream = Upstream::new(steps).await;
        let url = &upstream.url;
        let provider =
            format!("dialect: anthropic, hosting: bedrock, base_url: \"{url}\", api_key: k");
        let gateway = gateway(&provider).await;
        let answer = gateway.post("/v1/messages", MESSAGES).send().await.unwrap();
        assert_eq!(answer.status(), status);
        let text = answer.text().await.unwrap();
        let last = text.trim_end().rsplit("data: ").next().unwrap();
        let error: Value = serde_json::from_str(last).unwrap();
        assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!(kind)));
    }
}

/// Every caller to Anthropic's models on either platform, streamed and whole, by the simulator, which
/// refuses what the platforms refuse.
#[tokio::test]
async fn hosted_models_answer_every_caller() {
    let address = simulated::upstream().await;
    for provider in [
        format!("dialect: anthropic, hosting: bedrock, base_url: \"http://{address}\""),
        format!(
            "dialect: anthropic, hosting: vertex, base_url: \"http://{address}/v1/projects/p/locations/l/publishers/anthropic\""
        ),
    ] {
        let gateway = gateway(&provider).await;
        for (path, stream) in [
            ("/v1/messages", true),
            ("/v1/messages", false),
            ("/v1/chat/completions", true),
            ("/v1/chat/completions", false),
        ] {
            let body = json!({ "model": "p/n3", "stream": stream, "max_tokens": 99, "messages": [{ "role": "user", "content": "hi" }] });
            let answer = gateway.post(path, &body.to_string()).send().await.unwrap();
            let status = answer.status();
            let text = answer.text().await.unwrap();
            assert!(status == 200 && text.contains("t2 "), "{provider} {path} {stream}: {text}");
        }
        let ask = json!({ "model": "p/n3", "messages": [{ "role": "user", "content": "hi" }] });
        let count = gateway.post("/v1/messages/count_tokens", &ask.to_string());
        let counted = count.send().await.unwrap();
        let estimated = counted.headers().get("x-streamgate-estimated").is_some();
        assert_eq!(counted.status(), 200, "{provider}");
        // Vertex AI counts, Bedrock does not.
        assert_eq!(estimated, provider.contains("bedrock"), "{provider}");
    }
}
