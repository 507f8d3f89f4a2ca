//! Mistakes in a request: its path, method, credential, model and body.

use http::Method;
use serde_json::{Value, json};

use crate::access::with_keys;
use crate::jwt::{shared, signer};
use crate::support::answers::{gzip, request, streamed};
use crate::support::gateway::{Gateway, KEY, Log, yaml};
use crate::support::tokens::{claims, with_issuer};
use crate::support::upstream::Upstream;

const MODELS: &str = "server: { body_limit: 2KiB }\nmodels:\n  chat: { targets: [{ provider: oai, model: m }] }\n  claude: { targets: [{ provider: ant, model: m }] }\n";
const JSON: (&str, &str) = ("content-type", "application/json");

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    (Gateway::new(&yaml(&upstream.url, &upstream.url, MODELS)).await, upstream)
}

/// The status and the body of a response, to a request with exactly these headers.
async fn answer(
    gateway: &Gateway,
    (method, path): (Method, &str),
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> (u16, String) {
    let sent = gateway.client.request(method, format!("{}{path}", gateway.url));
    let sent = headers.iter().fold(sent, |sent, (name, value)| sent.header(*name, *value));
    let response = sent.body(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The same with the test key.
async fn posted(gateway: &Gateway, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
    answer(gateway, (Method::POST, path), &[JSON, ("x-api-key", KEY)], body).await
}

/// The status and the message of an error in OpenAI's or Anthropic's shape.
fn told((status, body): (u16, String)) -> (u16, String, Value) {
    let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
    let error = &body["error"];
    (status, error["message"].as_str().unwrap().to_owned(), error["code"].clone())
}

#[tokio::test]
async fn m01_m02_m03_nearly_right_paths_are_served() {
    let (gateway, _upstream) = gateway().await;
    for path in [
        "/chat/completions",
        "/v1/v1/chat/completions",
        "/v1/chat/completions/",
        "//v1//chat/completions",
    ] {
        let (status, body) = posted(&gateway, path, request("chat", true, "hi")).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
}

#[tokio::test]
async fn m01_m05_other_paths_get_the_right_base_url_and_no_models_code() {
    let (gateway, _upstream) = gateway().await;
    let base = format!("the client's base URL is {}/v1", gateway.url);
    for (path, words) in [
        ("/nowhere", base.as_str()),
        ("/proxy/chat/completions", base.as_str()),
        ("/v1/chat/completion", "did you mean /v1/chat/completions?"),
        ("/v1/audio/speech", "the audio API (/v1/audio) is not served"),
        ("/v1/images/generations", "the images API"),
        ("/v1/files", "the files API"),
        ("/v1/batches", "the batches API"),
        ("/v1/realtime", "the realtime API"),
    ] {
        let (status, message, code) = told(posted(&gateway, path, "{}").await);
        assert_eq!((status, code), (404, Value::Null), "{path}: {message}");
        assert!(message.contains(words), "{path}: {message}");
        assert!(message.len() < 200 && !message.contains(['{', '*']), "{path}: {message}");
    }
    assert_eq!(gateway.count("streamgate_refused_requests_total{reason=\"not_found\"}"), 8);
}

#[tokio::test]
async fn m04_an_event_source_is_told_what_to_use() {
    let (gateway, _upstream) = gateway().await;
    let headers = [("x-api-key", KEY), ("accept", "text/event-stream")];
    let asked = answer(&gateway, (Method::GET, "/v1/chat/completions"), &headers, "").await;
    let (status, message, _) = told(asked);
    assert_eq!(status, 405);
    for words in ["accepts POST only", "EventSource sends GET", "fetch", "docs/streams.md"] {
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn m06_m07_m08_m09_each_wrong_credential_is_named() {
    let (gateway, _upstream) = gateway().await;
    let path = "/v1/chat/completions";
    for (path, headers, words) in [
        (path, &[][..], "send `authorization: Bearer KEY` or `x-api-key: KEY`"),
        (path, &[("authorization", "Bearer sk-proj-abc")], "looks like a key of OpenAI"),
        (path, &[("x-api-key", "sk-ant-api03-abc")], "looks like a key of Anthropic"),
        (path, &[("x-goog-api-key", "AIzaSyabc")], "looks like a key of Google"),
        (path, &[("authorization", "Bearer sg-abc")], "check that it is a Streamgate key"),
        (path, &[("authorization", KEY)], "must be `Bearer KEY`"),
        (path, &[("authorization", "Basic c2ctdGVzdA==")], "must be `Bearer KEY`"),
        (path, &[("x-auth-token", KEY)], "the header `x-auth-token` is not read; send"),
        ("/v1/chat/completions?key=sg-test", &[], "a key in the address is not read; send"),
        ("/v1/chat/completions?a=b&API_KEY=sg-test", &[], "a key in the address is not read"),
        ("/v1/chat/completions?monkey=1", &[], "no key given; send"),
    ] {
        let headers = [&[JSON][..], headers].concat();
        let asked = answer(&gateway, (Method::POST, path), &headers, "{}").await;
        let (status, message, _) = told(asked);
        assert_eq!(status, 401, "{headers:?}");
        assert!(message.contains(words), "{path} {headers:?}: {message}");
        // LiteLLM recognizes a wrong key by these words.
        let is_wrong = words.starts_with("looks") || words.starts_with("check");
        assert_eq!(message.starts_with("Incorrect API key provided"), is_wrong, "{message}");
    }
}

#[tokio::test]
async fn m10_many_wrong_keys_do_not_lock_out_the_right_one() {
    let (gateway, _upstream) = gateway().await;
    let mut last = 0;
    for _ in 0..22 {
        let headers = [JSON, ("x-api-key", "sg-wrong")];
        last = answer(&gateway, (Method::POST, "/v1/chat/completions"), &headers, "{}").await.0;
    }
    assert_eq!(last, 429);
    assert_eq!(posted(&gateway, "/v1/chat/completions", request("chat", true, "hi")).await.0, 200);
}

#[tokio::test]
async fn m11_an_expired_token_has_a_code_of_its_own() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let gateway = Gateway::new(&with_issuer(&upstream.url, &shared(""), "")).await;
    for (claim, code) in
        [(json!({ "exp": 5 }), "token_expired"), (json!({ "iss": "other" }), "invalid_api_key")]
    {
        let bearer = format!("Bearer {}", signer().sign(&claims(&claim)));
        let headers = [JSON, ("authorization", &*bearer)];
        let asked = answer(&gateway, (Method::POST, "/v1/chat/completions"), &headers, "{}").await;
        let (status, message, found) = told(asked);
        assert_eq!((status, found), (401, code.into()), "{message}");
    }
    // Names of models as in a scope of OAuth.
    let path = (Method::POST, "/v1/chat/completions");
    for (models, status) in [("oai/a oai/m", 200), ("oai/a", 404)] {
        let token = signer().sign(&claims(&json!({ "models": models })));
        let headers = [JSON, ("authorization", &*format!("Bearer {token}"))];
        let asked = answer(&gateway, path.clone(), &headers, request("oai/m", true, "hi")).await;
        assert_eq!(asked.0, status, "{models}: {}", asked.1);
    }
}

#[tokio::test]
async fn m12_m13_m14_a_wrong_model_is_explained() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let keys = [(KEY, ""), ("few", ", models: [claude]")];
    let gateway = Gateway::new(&with_keys(&upstream, &keys, MODELS)).await;
    for (key, body, status, words) in [
        (KEY, request("chta", true, "hi"), 404, "did you mean `chat`?"),
        (KEY, request("unlike-any", true, "hi"), 404, "GET /v1/models lists the models"),
        (
            KEY,
            request("groq/x", true, "hi"),
            404,
            "no provider `groq` (its preset needs GROQ_API_KEY)",
        ),
        (KEY, request("nowhere/x", true, "hi"), 404, "no provider `nowhere`; GET"),
        (
            "few",
            request("groq/x", true, "hi"),
            404,
            "there is no model `groq/x` that this key may use; GET",
        ),
        // Not the name of a model that this key may not use.
        ("few", request("chta", true, "hi"), 404, "that this key may use; GET"),
        ("few", request("chat", true, "hi"), 404, "that this key may use; GET"),
        (KEY, "{\"messages\":[]}".to_owned(), 400, "say which model is to answer"),
    ] {
        let headers = [JSON, ("x-api-key", key)];
        let asked = answer(&gateway, (Method::POST, "/v1/chat/completions"), &headers, body).await;
        let (found, message, _) = told(asked);
        assert!(found == status && message.contains(words), "{found} {message}");
    }
}

#[tokio::test]
async fn m15_m16_missing_members_have_an_example() {
    let (gateway, upstream) = gateway().await;
    let hi = json!([{ "role": "user", "content": "hi" }]);
    let log = Log::default();
    let guard = log.capture();
    for (path, body, words) in [
        (
            "/v1/messages",
            json!({ "model": "chat", "messages": hi }),
            "`max_tokens` is missing; send",
        ),
        (
            "/v1/messages",
            json!({ "model": "chat", "max_tokens": 5 }),
            "`messages` is missing; send",
        ),
        (
            "/v1/chat/completions",
            json!({ "model": "claude" }),
            "`messages` is missing; send a list",
        ),
    ] {
        let (status, message, _) = told(posted(&gateway, path, body.to_string()).await);
        assert_eq!(status, 400, "{body}");
        assert!(message.starts_with(words) && message.contains("such as"), "{message}");
        assert!(!message.contains("translat"), "{message}");
    }
    drop(guard);
    // The caller's fault, and nobody else's.
    assert_eq!(log.text().matches("\"outcome\":\"rejected\"").count(), 3, "{}", log.text());
    assert!(upstream.requests().await.is_empty());
}

#[tokio::test]
async fn m17_m18_m19_a_wrong_body_is_explained() {
    let (gateway, _upstream) = gateway().await;
    let path = "/v1/chat/completions";
    for (body, status, words) in [
        ("", 400, "the request body is empty; send a JSON object"),
        ("{\"model\":\"chat\",}", 400, "(line 1, column 17): there is a comma before a closing"),
        ("{'model':'chat'}", 400, "(line 1, column 2): the name of a member is not in double"),
        ("{\"model\":chat}", 400, "(line 1, column 10): this is no value"),
        ("{\"model\":\"a\" \"b\":1}", 400, "a comma or a closing bracket is missing"),
        ("{\"model\":\"a\nb\"}", 400, "raw control character"),
        ("{\"model\":\"chat\"", 400, "it ends too early"),
    ] {
        let (found, message, _) = told(posted(&gateway, path, body).await);
        assert_eq!(found, status, "{body}");
        assert!(message.contains(words), "{body}: {message}");
    }
    let large = request("chat", true, &"x".repeat(3000));
    let (status, message, _) = told(posted(&gateway, path, large).await);
    assert_eq!(status, 413);
    assert!(
        message.contains("limit of 2 KiB") && message.contains("server.body_limit"),
        "{message}"
    );
    let form = [("content-type", "text/plain"), ("x-api-key", KEY)];
    let asked = answer(&gateway, (Method::POST, path), &form, request("chat", true, "hi")).await;
    let (status, message, _) = told(asked);
    assert!(status == 415 && message.contains("content-type: application/json"), "{message}");
    let packed = gzip(request("chat", true, "hi").as_bytes());
    let (status, message, _) = told(posted(&gateway, path, packed).await);
    assert!(status == 400 && message.contains("`content-encoding: gzip`"), "{message}");
}
