//! Requests that no endpoint takes: the shape of their error, its message, and the allowed methods.
//! Nothing of them reaches an upstream.

use http::{HeaderMap, Method};
use serde_json::Value;

use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::raw::Raw;
use crate::support::upstream::{Step, Upstream};

async fn gateway() -> Gateway {
    // It offers no list of models, and no test has to wait for one.
    let none = Step::Whole(404, "content-type: application/json\r\n", b"{}".to_vec());
    let upstream = Upstream::new(vec![none]).await;
    Gateway::new(&yaml(
        &upstream.url,
        &upstream.url,
        "models: { fast: { targets: [{ provider: oai, model: m }] } }\n",
    ))
    .await
}

async fn asked(
    gateway: &Gateway,
    (method, path): (Method, &str),
    headers: &[(&str, &str)],
) -> (u16, HeaderMap, Value) {
    let mut sent =
        gateway.client.request(method, format!("{}{path}", gateway.url)).bearer_auth(KEY);
    for (name, value) in headers {
        sent = sent.header(*name, *value);
    }
    let response = sent.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    (status, headers, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

const ANTHROPIC: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];
const GEMINI: &[(&str, &str)] = &[("x-goog-api-key", "sg-test")];
const COHERE: &[(&str, &str)] = &[("x-fern-sdk-name", "cohere")];

/// The marker decides where several vendors have an API of the same path, and where no vendor has the path.
#[tokio::test]
async fn each_vendors_callers_get_their_own_shape() {
    let gateway = gateway().await;
    for (path, headers, api) in [
        ("/v1/files", ANTHROPIC, "files"),
        ("/v1/files/file_1/content", ANTHROPIC, "files"),
        ("/v1/skills", ANTHROPIC, "skills"),
        ("/v1/messages/batches", ANTHROPIC, "message batches"),
        ("/v1/messages/batches", &[], "message batches"),
        ("/messages/batches/b/results", &[], "message batches"),
        ("/v1/organizations/users", ANTHROPIC, "administration"),
        ("/files", ANTHROPIC, "files"),
    ] {
        let (status, _, told) = asked(&gateway, (Method::GET, path), headers).await;
        assert_eq!((status, &told["type"]), (404, &"error".into()), "{path}: {told}");
        assert_eq!(told["error"]["type"], "not_found_error", "{path}: {told}");
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("the {api} API")), "{path}: {message}");
    }
    for path in ["/v1beta/files", "/v1beta/cachedContents", "/files", "/upload/v1beta/files"] {
        let (status, _, told) = asked(&gateway, (Method::GET, path), GEMINI).await;
        assert_eq!(
            (status, &told["error"]["status"]),
            (404, &"NOT_FOUND".into()),
            "{path}: {told}"
        );
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("the files API") || path.contains("cached"), "{message}");
    }
    for path in ["/v2/rerank", "/v1/tokenize", "/rerank"] {
        let (status, _, told) = asked(&gateway, (Method::POST, path), COHERE).await;
        let message = told["message"].as_str();
        assert!(status == 404 && message.is_some_and(|text| text.contains("not served")), "{told}");
    }
}

#[tokio::test]
async fn unversioned_paths_of_unserved_apis_are_named() {
    let gateway = gateway().await;
    for (path, api) in [
        ("/files", "files"),
        ("/batches/b/cancel", "batches"),
        ("/audio/speech", "audio"),
        ("/images/generations", "images"),
        ("/moderations", "moderations"),
        ("/vector_stores", "vector stores"),
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let (status, _, told) = asked(&gateway, (method, path), &[]).await;
            assert_eq!((status, &told["error"]["code"]), (404, &Value::Null), "{path}: {told}");
            let message = told["error"]["message"].as_str().unwrap();
            assert!(message.starts_with(&format!("the {api} API")), "{path}: {message}");
        }
    }
}

#[tokio::test]
async fn no_hint_shows_a_pattern() {
    let gateway = gateway().await;
    for (path, headers, hint) in [
        ("/nowhere", &[][..], "/v1"),
        ("/nowhere", GEMINI, "/v1beta"),
        ("/nowhere", ANTHROPIC, ", without a path"),
        ("/x/v1beta/models/m:generateContent", GEMINI, "but /v1beta/models/... is served"),
        ("/v3/models/m:generateContent", GEMINI, "/models/... is served"),
        ("/x/v1/messages", ANTHROPIC, "but /v1/messages is served"),
    ] {
        let (status, _, told) = asked(&gateway, (Method::POST, path), headers).await;
        let message = told["error"]["message"].as_str().unwrap();
        assert_eq!(status, 404, "{path}: {message}");
        assert!(message.contains(hint), "{path}: {message}");
        assert!(!message.contains('{') && !message.contains('*'), "{path}: {message}");
    }
}

#[tokio::test]
async fn allow_names_what_the_path_takes() {
    let gateway = gateway().await;
    for (method, path, allow) in [
        (Method::DELETE, "/v1/models", "GET, HEAD"),
        (Method::POST, "/v1beta/models", "GET, HEAD"),
        (Method::DELETE, "/v1/models/fast", "GET, HEAD"),
        (Method::PATCH, "/v1beta/models/fast", "GET, HEAD"),
        (Method::GET, "/v1beta/models/fast:generateContent", "POST"),
        (Method::GET, "/v1/models/fast:countTokens", "POST"),
        (Method::DELETE, "/v1beta/models/fast:streamGenerateContent", "POST"),
        (Method::OPTIONS, "/v1/messages", "POST"),
        (Method::PUT, "/v1/chat/completions", "POST"),
        (Method::GET, "/v1/responses", "POST"),
        (Method::POST, "/api/tags", "GET, HEAD"),
        (Method::GET, "/api/show", "POST"),
    ] {
        let (status, headers, told) = asked(&gateway, (method.clone(), path), &[]).await;
        assert_eq!(status, 405, "{method} {path}: {told}");
        assert_eq!(headers["allow"], allow, "{method} {path}");
    }
    for path in ["/v1/models", "/v1/models/fast", "/v1beta/models/fast", "/api/tags", "/"] {
        let (status, _, told) = asked(&gateway, (Method::HEAD, path), &[]).await;
        assert_eq!((status, told), (200, Value::String(String::new())), "{path}");
    }
    // A tag is no method.
    assert_eq!(asked(&gateway, (Method::GET, "/v1/models/fast:latest"), &[]).await.0, 200);
}

#[tokio::test]
async fn a_websocket_where_nothing_is_served_is_answered_at_once() {
    let gateway = gateway().await;
    for (path, status) in [
        ("/v1/realtime?model=m", 404),
        ("/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent", 404),
        ("/nowhere", 404),
        // A list is a list, whatever else is wished for.
        ("/v1/models", 200),
        ("/v1/models/fast", 426),
        ("/v1beta/models/fast", 426),
        ("/api/tags", 200),
    ] {
        let mut raw = Raw::new(gateway.address).await;
        raw.write(format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, close\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {KEY}\r\n\r\n"
        ))
        .await;
        let answer = raw.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
}

/// Compressed bodies without `content-encoding` get an error that names the header.
#[tokio::test]
async fn compressed_bodies_without_their_header_are_recognized() {
    let gateway = gateway().await;
    let bodies: [(&[u8], &str); 2] = [
        (&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3], "`content-encoding: gzip`"),
        (&[0x28, 0xB5, 0x2F, 0xFD, 0, 0x58, 1, 0, 0], "`content-encoding: zstd`"),
    ];
    for (body, hint) in bodies {
        let sent = gateway.post("/v1/messages", "").body(body).send().await.unwrap();
        assert_eq!(sent.status(), 400, "{hint}");
        let text = sent.text().await.unwrap();
        assert!(text.contains(hint), "{text}");
    }
    for encoding in ["compress", "gzip, br", "gzip;q=1", "zip"] {
        let sent = gateway.post("/v1/messages", "{}").header("content-encoding", encoding);
        let sent = sent.send().await.unwrap();
        assert_eq!(sent.status(), 415, "{encoding}");
        assert_eq!(sent.headers()["accept-encoding"], "gzip, deflate, br, zstd, identity");
    }
}
