//! Endpoints that clients call beside those of a conversation: aliases of paths, single models, APIs that are not
//! served, upgrades to `WebSocket`. Every answer is in the caller's dialect.

use std::io::Write as _;

use http::Method;
use serde_json::{Value, json};

use crate::support::answers::{request, streamed};
use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::raw::Raw;
use crate::support::upstream::Upstream;

const MODELS: &str = "models:
  fast: { targets: [ { provider: oai, model: a, context: 8000, max_output: 500 }, { provider: ant, model: b, context: 9000 } ] }
  team/slow: { targets: [ { provider: ant, model: b } ] }
";

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    (Gateway::new(&yaml(&upstream.url, &upstream.url, MODELS)).await, upstream)
}

/// The response to a caller with these headers.
async fn asked(
    gateway: &Gateway,
    (method, path): (Method, &str),
    headers: &[(&'static str, &str)],
) -> (u16, Value) {
    let mut sent = gateway.client.request(method, format!("{}{path}", gateway.url));
    for (name, value) in headers {
        sent = sent.header(*name, *value);
    }
    let response = sent.bearer_auth(KEY).send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

const ANTHROPIC: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];
const GEMINI: &[(&str, &str)] = &[("x-goog-api-key", "sg-test")];
const COHERE: &[(&str, &str)] = &[("x-fern-sdk-name", "cohere")];

/// Every alias leads to the same answer as the path that it stands for.
#[tokio::test]
async fn aliases_are_answered_as_the_paths_that_they_stand_for() {
    let (gateway, upstream) = gateway().await;
    for path in [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1/v1/chat/completions",
        "/chat/completions",
        "/openai/v1/chat/completions",
        "/openai/deployments/fast/chat/completions?api-version=2024-10-21",
        "/v1beta/openai/chat/completions",
        "/api/v1/chat/completions",
        "/v1/chat/completions/chat/completions",
        "/v1/chat/completions/v1/chat/completions",
    ] {
        let response = gateway.post(path, &request("fast", true, "hi")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert!(response.text().await.unwrap().ends_with("data: [DONE]\n\n"), "{path}");
    }
    assert_eq!(upstream.requests().await.len(), 10);
    for path in [
        "/v1/v1/messages",
        "/messages",
        "/anthropic/v1/messages",
        "/v1/messages//",
        "/v1/messages/v1/messages",
    ] {
        let body = json!({"model": "fast", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
        let response = gateway.post(path, &body.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
    let body = json!({"contents": [{"parts": [{"text": "hi"}]}]}).to_string();
    for path in [
        "/models/fast:generateContent",
        "/v1alpha/models/fast:generateContent",
        "/v1beta1/publishers/google/models/fast:generateContent",
        "/v1/v1beta/models/fast:generateContent",
        "/v1beta/models/fast:generateContent/v1beta/models/fast:generateContent",
    ] {
        let response = gateway.post(path, &body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
    let body =
        json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    for path in ["/v1/api/chat", "/chat"] {
        let response = gateway.post(path, &body).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/x-ndjson", "{path}");
    }
    // Metrics are of the path that is served.
    assert_eq!(gateway.count("streamgate_requests_total{dialect=\"ollama\""), 2);
}

/// Azure's clients may name the model in the path alone.
#[tokio::test]
async fn a_deployment_is_the_model_where_the_body_names_none() {
    let (gateway, upstream) = gateway().await;
    let path = "/openai/deployments/fast/chat/completions?api-version=1";
    for (body, status) in [
        (r#"{"stream":true,"messages":[{"role":"user","content":"hi"}]}"#, 200),
        (r#"{"model":"nothing","stream":true,"messages":[{"role":"user","content":"hi"}]}"#, 404),
        ("[]", 400),
        ("", 400),
    ] {
        let response = gateway.post(path, body).send().await.unwrap();
        assert_eq!(response.status(), status, "{body}");
    }
    let [seen] = &upstream.requests().await[..] else { panic!("one request") };
    let sent: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(sent["model"], "a");
}

#[tokio::test]
async fn one_model_is_the_element_of_the_list() {
    let (gateway, _upstream) = gateway().await;
    for (path, headers, list, entries, id) in [
        ("/v1/models/", &[][..], "/v1/models", "data", "id"),
        ("/v1/models/", ANTHROPIC, "/v1/models", "data", "id"),
        ("/v1/models/", COHERE, "/v1/models", "models", "name"),
        ("/v1/models/", GEMINI, "/v1/models", "models", "name"),
        ("/v1beta/models/", &[], "/v1beta/models", "models", "name"),
    ] {
        let (_, all) = asked(&gateway, (Method::GET, list), headers).await;
        let all = all[entries].as_array().unwrap();
        assert_eq!(all.len(), 2, "{path} {headers:?}");
        for (at, name) in [(0, "fast"), (1, "team/slow"), (1, "team%2Fslow")] {
            let one = asked(&gateway, (Method::GET, &format!("{path}{name}")), headers).await;
            assert_eq!(one, (200, all[at].clone()), "{path}{name} {headers:?}");
            assert!(one.1[id].as_str().unwrap().ends_with(&name.replace("%2F", "/")), "{one:?}");
            let head = asked(&gateway, (Method::HEAD, &format!("{path}{name}")), headers).await;
            assert_eq!(head, (200, "".into()), "{path}{name} {headers:?}");
        }
        let (status, direct) =
            asked(&gateway, (Method::GET, &format!("{path}oai/any/thing")), headers).await;
        assert_eq!(status, 200);
        assert!(direct[id].as_str().unwrap().ends_with("oai/any/thing"), "{direct}");
        let (status, missing) =
            asked(&gateway, (Method::GET, &format!("{path}nothing")), headers).await;
        assert_eq!(status, 404, "{missing}");
        assert!(missing.to_string().contains("there is no model `nothing`"), "{missing}");
    }
    let (_, missing) = asked(&gateway, (Method::GET, "/v1/models/nothing"), &[]).await;
    assert_eq!(missing["error"]["code"], "model_not_found");
    let (_, missing) = asked(&gateway, (Method::GET, "/v1/models/nothing"), ANTHROPIC).await;
    assert_eq!(missing["error"]["type"], "not_found_error");
    let (_, missing) = asked(&gateway, (Method::GET, "/v1beta/models/nothing"), &[]).await;
    assert_eq!(missing["error"]["status"], "NOT_FOUND");
    let bare = gateway.client.get(format!("{}/v1/models/fast", gateway.url)).send().await.unwrap();
    assert_eq!(bare.status(), 401);
}

/// Where the configuration says how large a model's context is, lists say it, in the words of each dialect.
#[tokio::test]
async fn context_windows_are_shown() {
    let (gateway, _upstream) = gateway().await;
    let get = async |path: &str, headers| asked(&gateway, (Method::GET, path), headers).await.1;
    let told = get("/v1/models/fast", &[]).await;
    assert_eq!(
        (&told["context_length"], &told["max_model_len"], &told["max_completion_tokens"]),
        (&json!(9000), &json!(9000), &json!(500))
    );
    let told = get("/v1/models/fast", ANTHROPIC).await;
    assert_eq!((&told["max_input_tokens"], &told["max_tokens"]), (&json!(9000), &json!(500)));
    let told = get("/v1beta/models/fast", &[]).await;
    assert_eq!((&told["inputTokenLimit"], &told["outputTokenLimit"]), (&json!(9000), &json!(500)));
    let told = get("/v1/models/fast", COHERE).await;
    assert_eq!(told["context_length"], 9000);
    let shown = gateway.post("/api/show", r#"{"model":"fast"}"#).send().await.unwrap();
    let shown: Value = serde_json::from_str(&shown.text().await.unwrap()).unwrap();
    let architecture = shown["model_info"]["general.architecture"].as_str().unwrap();
    assert_eq!(shown["model_info"][format!("{architecture}.context_length")], 9000);
    // Nothing is made up.
    let told = get("/v1/models/team/slow", &[]).await;
    assert!(told.get("context_length").is_none() && told.get("max_model_len").is_none(), "{told}");
    let shown = gateway.post("/api/show", r#"{"model":"team/slow"}"#).send().await.unwrap();
    assert!(!shown.text().await.unwrap().contains("context_length"));
}

#[tokio::test]
async fn lists_have_pages() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let names = ["a", "b", "c", "d", "e"];
    let entry =
        |name: &&str| format!("  {name}: {{ targets: [ {{ provider: oai, model: x }} ] }}\n");
    let models = format!("models:\n{}", names.iter().map(entry).collect::<String>());
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, &models)).await;
    let get = async |path: &str, headers| asked(&gateway, (Method::GET, path), headers).await;
    let ids = |list: &Value| -> Vec<String> {
        let data = list["data"].as_array().unwrap().iter();
        data.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    for (query, expected, has_more) in [
        ("limit=2", &names[..2], true),
        ("limit=2&after_id=b", &names[2..4], true),
        ("limit=2&after_id=d", &names[4..], false),
        ("limit=2&before_id=e", &names[2..4], true),
        ("limit=2&before_id=c", &names[..2], false),
        ("limit=1000", &names[..], false),
        ("", &names[..], false),
        ("after_id=e", &[], false),
    ] {
        let (status, list) = get(&format!("/v1/models?{query}"), ANTHROPIC).await;
        assert_eq!(
            (status, ids(&list)),
            (200, expected.iter().map(|&id| id.to_owned()).collect()),
            "{query}"
        );
        assert_eq!(list["has_more"], has_more, "{query}");
        assert_eq!(list["first_id"].as_str(), expected.first().copied(), "{query}");
        assert_eq!(list["last_id"].as_str(), expected.last().copied(), "{query}");
    }
    for query in ["limit=0", "limit=x", "after_id=nobody", "before_id=nobody"] {
        let (status, told) = get(&format!("/v1/models?{query}"), ANTHROPIC).await;
        assert_eq!(
            (status, &told["error"]["type"]),
            (400, &json!("invalid_request_error")),
            "{query}"
        );
    }
    for (headers, size, token, next) in [
        (GEMINI, "pageSize", "pageToken", "nextPageToken"),
        (COHERE, "page_size", "page_token", "next_page_token"),
    ] {
        let (_, first) = get(&format!("/v1/models?{size}=3"), headers).await;
        let (_, second) =
            get(&format!("/v1/models?{size}=3&{token}={}", first[next].as_str().unwrap()), headers)
                .await;
        let lengths = [&first, &second].map(|list| list["models"].as_array().unwrap().len());
        assert_eq!((lengths, second.get(next)), ([3, 2], None), "{second}");
        assert_eq!(get(&format!("/v1/models?{token}=nonsense"), headers).await.0, 400);
    }
    let (_, list) = get("/v1/models?client_version=0.99.0", &[]).await;
    assert_eq!((&list["models"], list["data"].as_array().unwrap().len()), (&json!([]), 5));
}

/// Known APIs that are not served are named in one sentence; no code reports a missing model.
#[tokio::test]
async fn unserved_apis_are_named() {
    let (gateway, upstream) = gateway().await;
    for (path, api) in [
        ("/v1/audio/speech", "audio"),
        ("/v1/audio/transcriptions", "audio"),
        ("/v1/images/generations", "images"),
        ("/v1/moderations", "moderations"),
        ("/v1/files/file-1", "files"),
        ("/v1/batches", "batches"),
        ("/v1/rerank", "rerank"),
        ("/v1/realtime", "realtime"),
        ("/v1/assistants", "assistants"),
        ("/v1/threads/t/runs", "assistants"),
        ("/v1/chat/completions/chatcmpl-1", "stored completions"),
        ("/openai/v1/files", "files"),
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let (status, told) = asked(&gateway, (method, path), &[]).await;
            assert_eq!(status, 404, "{path}");
            let error = &told["error"];
            assert_eq!(
                (&error["code"], &error["type"]),
                (&Value::Null, &json!("invalid_request_error"))
            );
            let message = error["message"].as_str().unwrap();
            assert!(message.starts_with(&format!("the {api} API")), "{path}: {message}");
            assert!(message.contains("not served"), "{message}");
        }
    }
    for (path, place) in [
        ("/api/pull", "/error"),
        ("/api/create", "/error"),
        ("/api/push", "/error"),
        ("/api/copy", "/error"),
        ("/api/delete", "/error"),
        ("/api/blobs/sha256:1", "/error"),
        ("/v1beta/files", "/error/message"),
        ("/v1beta/cachedContents/1", "/error/message"),
        ("/v2/rerank", "/message"),
        ("/v1/messages/batches", "/error/message"),
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let (status, told) = asked(&gateway, (method, path), &[]).await;
            assert_eq!(status, 404, "{path}");
            let message = told.pointer(place).and_then(Value::as_str).expect(path);
            assert!(message.contains("not served"), "{path}: {message}");
        }
    }
    assert!(upstream.requests().await.is_empty());
}

#[tokio::test]
async fn unknown_paths_explain_a_wrong_base_url() {
    let (gateway, _upstream) = gateway().await;
    for (path, hint) in [
        ("/proxy/v1/chat/completions", "but /v1/chat/completions is served"),
        ("/v3/chat/completions", "but /v1/chat/completions is served"),
        ("/x/v1/messages", "but /v1/messages is served"),
        ("/deep/api/chat", "but /api/chat is served"),
        ("/nowhere", "the client's base URL is http://127.0.0.1:"),
        ("/v1/chat/completion", "did you mean /v1/chat/completions?"),
    ] {
        let (status, told) = asked(&gateway, (Method::POST, path), &[]).await;
        assert_eq!((status, &told["error"]["code"]), (404, &Value::Null), "{path}");
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.contains(hint), "{path}: {message}");
    }
    let (status, told) = asked(&gateway, (Method::GET, "/api/nothing"), &[]).await;
    assert!(status == 404 && told["error"].is_string(), "{told}");
}

/// Clients that try a WebSocket fall back at once when they get this.
#[tokio::test]
async fn websockets_are_answered_426() {
    let (gateway, upstream) = gateway().await;
    for (path, place) in [
        ("/v1/responses", "/error/message"),
        ("/v1/chat/completions", "/error/message"),
        ("/v1/messages", "/error/message"),
        ("/v1/v1/responses/", "/error/message"),
        ("/v1beta/models/fast:generateContent", "/error/message"),
        ("/api/chat", "/error"),
        ("/v2/chat", "/message"),
    ] {
        let mut raw = Raw::new(gateway.address).await;
        raw.write(format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             authorization: Bearer {KEY}\r\n\r\n"
        ))
        .await;
        // It ends by itself.
        let answer = raw.rest().await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 426 "), "{path}: {head}");
        assert!(head.contains("\r\nconnection: close"), "{path}: {head}");
        assert!(head.contains("\r\ncontent-type: application/json"), "{path}: {head}");
        let body: Value = serde_json::from_str(body).unwrap();
        let message = body.pointer(place).and_then(Value::as_str).expect(path);
        assert!(message.contains("WebSockets are not served"), "{path}: {message}");
    }
    let counted = gateway.count("streamgate_refused_requests_total{reason=\"websocket\"}");
    assert_eq!(counted, 7);
    assert!(upstream.requests().await.is_empty());
}

/// Compressed bodies, as Codex and others send them, are decoded.
#[tokio::test]
async fn compressed_bodies_are_decoded() {
    let (gateway, upstream) = gateway().await;
    let body = request("oai/m", true, &"a long prompt ".repeat(1000));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(body.as_bytes()).unwrap();
    let fastest = ruzstd::encoding::CompressionLevel::Fastest;
    let zstd = ruzstd::encoding::compress_to_vec(body.as_bytes(), fastest);
    for (encoding, compressed) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd)] {
        assert!(compressed.len() < body.len() / 10);
        let sent = gateway.post("/v1/chat/completions", "").body(compressed);
        let response = sent.header("content-encoding", encoding).send().await.unwrap();
        assert_eq!(response.status(), 200, "{encoding}");
        assert!(response.text().await.unwrap().ends_with("data: [DONE]\n\n"));
        let seen = upstream.requests().await.pop().unwrap();
        let sent: Value = serde_json::from_slice(&seen.body).unwrap();
        let asked: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(sent["messages"], asked["messages"], "{encoding}");
        assert!(!seen.head.contains("content-encoding"), "{}", seen.head);
    }
    let mut question = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    question.write_all(br#"{"model":"fast"}"#).unwrap();
    let sent = gateway.post("/api/show", "").body(question.finish().unwrap());
    assert_eq!(sent.header("content-encoding", "gzip").send().await.unwrap().status(), 200);
}
