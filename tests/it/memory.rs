//! The memory budget: request bodies of all callers together, endpoints that need no body, and what is kept of
//! answers. What has no room is refused in the caller's own words, and everything is given back.

use serde_json::{Value, json};
use streamgate::config;
use tokio::time::{Duration, Instant, sleep};

use crate::support::answers::streamed;
use crate::support::gateway::{Gateway, KEY, Log, hex, yaml};
use crate::support::raw::{Raw, post};
use crate::support::upstream::{Step, Upstream};

const MIB: usize = 1 << 20;

/// 32 MiB for bodies, each byte twice and 24 MiB for one caller, and 16 MiB for answers.
const SMALL: &str = "server: { memory: 64MiB }\n";

fn used(gateway: &Gateway, share: &str) -> u64 {
    gateway.count(&format!("streamgate_memory_used_bytes{{share={share:?}}}"))
}

fn refusals(gateway: &Gateway, share: &str) -> u64 {
    gateway.count(&format!("streamgate_memory_refusals_total{{share={share:?}}}"))
}

/// Waits until so many bytes of a share are in use.
async fn until_used(gateway: &Gateway, share: &str, bytes: usize) {
    let since = Instant::now();
    while used(gateway, share) != bytes as u64 {
        assert!(since.elapsed() < Duration::from_secs(10), "{} in use", used(gateway, share));
        sleep(Duration::from_millis(5)).await;
    }
}

/// The beginning of a request whose body never comes to its end.
async fn unfinished(gateway: &Gateway, path: &str, declared: usize, sent: usize) -> Raw {
    let mut raw = Raw::new(gateway.address).await;
    let head =
        post(path, "", "").replace("content-length: 0", &format!("content-length: {declared}"));
    assert!(raw.write(head).await);
    assert!(raw.write(vec![b' '; sent]).await);
    raw
}

#[tokio::test]
async fn all_request_bodies_together_have_a_bound() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, SMALL)).await;
    // A declared length takes nothing; received bytes count twice.
    let idle = unfinished(&gateway, "/v1/chat/completions", 12 * MIB, 0).await;
    let held = unfinished(&gateway, "/v1/chat/completions", 10 * MIB, 9 * MIB).await;
    until_used(&gateway, "requests", 18 * MIB).await;
    for (path, status, kind) in [
        ("/v1/chat/completions", 503, "/error/code"),
        ("/v1/messages", 529, "/error/type"),
        ("/v1beta/models/oai%2Fm:generateContent", 503, "/error/status"),
    ] {
        let mut refused = unfinished(&gateway, path, 8 * MIB, 8 * MIB).await;
        let response = refused.response().await;
        assert_eq!(response.status(), status, "{response:?}");
        assert_eq!(response.header("retry-after"), ["1"]);
        let body: Value = serde_json::from_str(&response.body).unwrap();
        assert!(body.pointer(kind).is_some(), "{body}");
        assert!(response.body.contains("server.memory"), "{body}");
    }
    // Without a declared length, it ends where there is no room.
    let mut raw = Raw::new(gateway.address).await;
    let head = post("/v1/chat/completions", "", "")
        .replace("content-length: 0", "transfer-encoding: chunked");
    assert!(raw.write(head).await);
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(MIB)).repeat(8);
    assert!(raw.write(chunk).await);
    assert_eq!(raw.response().await.status(), 503);
    assert_eq!(refusals(&gateway, "requests"), 4);
    assert_eq!(gateway.count("streamgate_requests_total"), 4);
    assert!(gateway.app.metrics.render().contains(r#"outcome="unavailable"} 2"#));
    drop((held, idle));
    until_used(&gateway, "requests", 0).await;
    let answered = gateway.chat("oai/m").send().await.unwrap();
    assert_eq!(answered.status(), 200);
    answered.text().await.unwrap();
    assert_eq!(used(&gateway, "requests"), 0);
}

/// One caller holds three quarters of it at most: others are served as before.
#[tokio::test]
async fn one_callers_bodies_leave_room_for_others() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let digest = hex(&config::digest("sg-other"));
    let keys = format!("keys:\n    - {{ name: other, sha256: {digest} }}");
    let both = yaml(&upstream.url, &upstream.url, SMALL).replace("keys:", &keys);
    let gateway = Gateway::new(&both).await;
    let _held = unfinished(&gateway, "/v1/chat/completions", 12 * MIB, 11 * MIB).await;
    until_used(&gateway, "requests", 22 * MIB).await;
    let body = json!({ "model": "oai/m", "messages": [{ "role": "user", "content": "x".repeat(4 * MIB) }] });
    let ask = async |key: &str| {
        let request = gateway.client.post(format!("{}/v1/chat/completions", gateway.url));
        let request = request.bearer_auth(key).header("content-type", "application/json");
        request.body(body.to_string()).send().await.unwrap().status()
    };
    assert_eq!(ask(KEY).await, 503);
    assert_eq!(ask("sg-other").await, 200);
}

/// A body that the budget can never hold need not be sent again.
#[tokio::test]
async fn a_body_that_never_fits_is_too_large() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, SMALL)).await;
    let mut raw = unfinished(&gateway, "/v1/chat/completions", 12 * MIB + 1, 0).await;
    let response = raw.response().await;
    assert_eq!(response.status(), 413, "{response:?}");
    assert!(response.body.contains("12 MiB"), "{response:?}");
    assert!(response.body.contains("raise server.memory"), "{response:?}");
}

#[tokio::test]
async fn bodies_count_with_their_decoded_size() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, SMALL)).await;
    let mut held = unfinished(&gateway, "/v1/chat/completions", 10 * MIB, 9 * MIB).await;
    until_used(&gateway, "requests", 18 * MIB).await;
    let digits = (0..MIB + MIB / 4).flat_map(|n| n.to_string().into_bytes());
    let text = String::from_utf8(digits.collect()).unwrap();
    let body = json!({ "model": "oai/m", "messages": [{ "role": "user", "content": text }] });
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, body.to_string().as_bytes()).unwrap();
    let encoded = encoder.finish().unwrap();
    assert!(encoded.len() < 6 * MIB && body.to_string().len() > 7 * MIB, "{}", encoded.len());
    let send = async || {
        let request = gateway.post("/v1/chat/completions", "").header("content-encoding", "gzip");
        request.body(encoded.clone()).send().await.unwrap()
    };
    let refused = send().await;
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("server.memory"));
    assert!(held.write(vec![b' '; MIB]).await);
    assert_eq!(held.response().await.status(), 400);
    until_used(&gateway, "requests", 0).await;
    assert_eq!(send().await.status(), 200);
}

/// They pass the caller's gate, are counted and have a record, and read next to no body.
#[tokio::test]
async fn endpoints_without_a_body_count_as_requests() {
    let log = Log::default();
    let _guard = log.capture();
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let limits = "limits: { requests_per_minute: 60, burst: 3, concurrent_streams: 2 }\n";
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, limits)).await;
    let ask = |path: &str, body: Vec<u8>| {
        let request = gateway.client.get(format!("{}{path}", gateway.url)).bearer_auth(KEY);
        request.body(body).send()
    };
    let listed = ask("/v1/models", vec![b' '; 64 * 1024]).await.unwrap();
    assert_eq!(listed.status(), 200);
    let large = ask("/v1/prompts", vec![b' '; 64 * 1024 + 1]).await.unwrap();
    assert_eq!(large.status(), 413);
    let text = large.text().await.unwrap();
    assert!(text.contains("64 KiB") && text.contains("a short body or none"), "{text}");
    let large = gateway.post("/api/show", &" ".repeat(64 * 1024 + 1)).send().await.unwrap();
    assert_eq!(large.status(), 413);
    let limited = ask("/v1/models", Vec::new()).await.unwrap();
    assert_eq!(limited.status(), 429);
    assert!(limited.headers().contains_key("retry-after"));
    let labels = r#"dialect="openai-chat",caller="test",model="",target="""#;
    for (outcome, requests) in [("complete", 1), ("rejected", 1), ("rate_limited", 1)] {
        let series = format!("streamgate_requests_total{{{labels},outcome={outcome:?}}}");
        assert_eq!(gateway.count(&series), requests, "{series}");
    }
    assert_eq!(gateway.count("streamgate_open_requests"), 0);
    let records = log.records();
    let shown: Vec<_> =
        records.iter().map(|it| (&it["path"], &it["status"], &it["caller"])).collect();
    let expected = [
        (json!("/v1/models"), json!(200), json!("test")),
        (json!("/v1/prompts"), json!(413), json!("test")),
        (json!("/api/show"), json!(413), json!("test")),
        (json!("/v1/models"), json!(429), json!("test")),
    ];
    assert_eq!(shown, expected.iter().map(|it| (&it.0, &it.1, &it.2)).collect::<Vec<_>>());
}

/// A chunk of a chat stream with so many bytes of text.
fn text(bytes: usize) -> Vec<u8> {
    let text = "x".repeat(bytes);
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
        .into()
}

/// A chunk of a call's arguments.
fn arguments(bytes: usize) -> Vec<u8> {
    let text = "x".repeat(bytes);
    format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":\"{text}\"}}}}]}}}}]}}\n\n"
    )
    .into()
}

const CALL: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":\\\"\"}}]}}]}\n\n";

fn user() -> Value {
    json!([{ "role": "user", "content": "hi" }])
}

/// Endless answers: one that has to be buffered ends with an error at its limit, and its upstream is closed.
#[tokio::test]
async fn the_buffered_part_of_an_answer_has_a_bound() {
    let contents = json!([{ "role": "user", "parts": [{ "text": "hi" }] }]);
    let messages = json!({ "model": "oai/m", "max_tokens": 9, "messages": user() });
    let words = vec![Step::Sse, Step::Repeat(text(50_000), 1000), Step::Hang];
    let named =
        vec![Step::Sse, Step::chunk(CALL), Step::Repeat(arguments(50_000), 1000), Step::Hang];
    let nameless = vec![Step::Sse, Step::Repeat(arguments(50_000), 1000), Step::Hang];
    for (script, path, body) in [
        (&words, "/v1/messages", &messages),
        (&words, "/v1/responses", &json!({ "model": "oai/m", "input": "hi" })),
        (&words, "/v1/responses", &json!({ "model": "oai/m", "input": "hi", "stream": true })),
        (&words, "/v1beta/models/oai%2Fm:generateContent", &json!({ "contents": contents })),
        (&words, "/api/chat", &json!({ "model": "oai/m", "messages": user(), "stream": false })),
        (&words, "/v2/chat", &json!({ "model": "oai/m", "messages": user() })),
        // Arguments that are written when they are whole, and those of a call without a name.
        (&named, "/v1/messages", &messages),
        (&named, "/api/chat", &json!({ "model": "oai/m", "messages": user() })),
        (
            &named,
            "/v1beta/models/oai%2Fm:streamGenerateContent?alt=sse",
            &json!({ "contents": contents }),
        ),
        (&nameless, "/v1/messages", &messages),
        (
            &nameless,
            "/v1/chat/completions",
            &json!({ "model": "oai/m", "messages": user(), "stream": true }),
        ),
    ] {
        let upstream = Upstream::new(script.clone()).await;
        let more = "stream: { max_answer: 1MiB }\n";
        let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await;
        let response = gateway.post(path, &body.to_string()).send().await.unwrap();
        let answer = response.text().await.unwrap_or_else(|cut| cut.to_string());
        let is_cut = answer.contains("error decoding");
        assert!(answer.contains("stream.max_answer") || is_cut, "{path} {answer:.500}");
        assert!(answer.len() < 20 * MIB, "{path}: {}", answer.len());
        upstream.all_closed().await;
        // The bytes that were read, and those in the sockets.
        assert!(upstream.sent() < 20 * MIB, "{path}: {}", upstream.sent());
        let page = gateway.app.metrics.render();
        assert!(page.contains(r#"outcome="upstream_error"} 1"#), "{path} {body}");
        until_used(&gateway, "answers", 0).await;
    }
}

/// Passthrough may be longer.
#[tokio::test]
async fn passthrough_streams_have_no_bound() {
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let script = vec![Step::Sse, Step::Repeat(text(10_000), 100), Step::chunk(end), Step::End];
    let upstream = Upstream::new(script).await;
    let more = "stream: { max_answer: 64KiB }\n";
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await;
    let body = json!({ "model": "oai/m", "max_tokens": 9, "messages": user(), "stream": true });
    for path in ["/v1/messages", "/v1/chat/completions", "/api/chat", "/v2/chat"] {
        let answer = gateway.post(path, &body.to_string()).send().await.unwrap();
        let answer = answer.text().await.unwrap();
        assert_eq!(answer.matches('x').count() / 10_000, 100, "{path}");
        assert!(!answer.contains("error"), "{path}");
    }
}

#[tokio::test]
async fn all_buffered_answers_together_have_a_bound() {
    let script = vec![Step::Sse, Step::Repeat(text(MIB), 17), Step::Hang];
    let upstream = Upstream::new(script).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, SMALL)).await;
    let body = json!({ "model": "oai/m", "max_tokens": 9, "messages": user() });
    let response = gateway.post("/v1/messages", &body.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 529);
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(response.text().await.unwrap().contains("server.memory"));
    let body = json!({ "model": "oai/m", "input": "hi", "stream": true });
    let streamed = gateway.post("/v1/responses", &body.to_string()).send().await.unwrap();
    let streamed = streamed.text().await.unwrap();
    assert!(streamed.contains("server.memory"), "{}", streamed.len());
    upstream.all_closed().await;
    let page = gateway.app.metrics.render();
    assert_eq!(page.matches(r#"outcome="unavailable"} 1"#).count(), 2, "{page}");
    assert_eq!(refusals(&gateway, "answers"), 2);
    assert_eq!(gateway.count("streamgate_upstream_errors_total"), 0);
    until_used(&gateway, "answers", 0).await;
}

/// An answer that is passed through whole counts until its caller has read it.
#[tokio::test]
async fn whole_answers_count_until_they_are_read() {
    let content = "x".repeat(8 * MIB);
    let answer = json!({ "id": "a", "object": "chat.completion", "model": "m", "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": content } }] });
    let answer = answer.to_string();
    let whole = Step::Whole(200, "content-type: application/json\r\n", answer.clone().into_bytes());
    let upstream = Upstream::new(vec![whole]).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
    let body = json!({ "model": "oai/m", "messages": user() }).to_string();
    let mut raw = Raw::new(gateway.address).await;
    raw.post("/v1/chat/completions", "", &body).await;
    raw.until("\r\n\r\n").await;
    // In whole steps of 64 KiB.
    until_used(&gateway, "answers", 8 * MIB).await;
    assert_eq!(raw.response().await.body, answer);
    until_used(&gateway, "answers", 0).await;
}
