//! The models that providers offer, in the lists that callers get: asked of the provider in the background, cached,
//! and never in a request's way.

use serde_json::Value;

use crate::access::with_keys;
use crate::support::answers::streamed;
use crate::support::gateway::{Gateway, KEY, Log, configuration, yaml};
use crate::support::upstream::{Step, Upstream};

const MODELS: &str = "models:\n  fast: { targets: [ { provider: oai, model: big } ] }\n  limited: { targets: [ { provider: oai, model: big, context: 10 } ] }\n";

fn json(body: &str) -> Vec<Step> {
    vec![Step::Whole(200, "content-type: application/json\r\n", body.as_bytes().to_vec())]
}

const OPENAI: &str = r#"{"object":"list","data":[{"id":"small"},{"id":"big","context_length":128000},{"id":"org/other"}]}"#;
const ANTHROPIC: &str = r#"{"data":[{"type":"model","id":"claude","max_input_tokens":200000,"max_tokens":64000}],"has_more":false}"#;

async fn gateway(oai: Vec<Step>, ant: Vec<Step>) -> (Gateway, Upstream, Upstream) {
    let (oai, ant) = (Upstream::new(oai).await, Upstream::new(ant).await);
    (Gateway::new(&yaml(&oai.url, &ant.url, MODELS)).await, oai, ant)
}

async fn get(gateway: &Gateway, path: &str, key: &str, marker: &'static str) -> Value {
    let sent = gateway.client.get(format!("{}{path}", gateway.url)).bearer_auth(key);
    let response = sent.header(marker, "x").send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

fn names<'v>(list: &'v Value, (entries, name): (&str, &str)) -> Vec<&'v str> {
    list[entries].as_array().unwrap().iter().map(|model| model[name].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lists_show_what_providers_offer() {
    let (gateway, oai, ant) = gateway(json(OPENAI), json(ANTHROPIC)).await;
    let all = ["fast", "limited", "ant/claude", "oai/big", "oai/org/other", "oai/small"];
    for (path, marker, shape) in [
        ("/v1/models", "x-none", ("data", "id")),
        ("/v1/models", "anthropic-version", ("data", "id")),
        ("/api/tags", "x-none", ("models", "name")),
    ] {
        assert_eq!(names(&get(&gateway, path, KEY, marker).await, shape), all, "{path}");
    }
    let list = get(&gateway, "/v1beta/models", KEY, "x-none").await;
    assert_eq!(names(&list, ("models", "name")), all.map(|name| format!("models/{name}")));
    // Once, with what the provider needs.
    let ([to_oai], [to_ant]) = (&oai.requests().await[..], &ant.requests().await[..]) else {
        panic!("one request each")
    };
    assert!(to_oai.head.starts_with("GET /v1/models HTTP/1.1\r\n"), "{}", to_oai.head);
    assert!(to_oai.head.contains("authorization: Bearer up-canary-oai"), "{}", to_oai.head);
    assert!(to_ant.head.starts_with("GET /v1/models?limit=1000 HTTP/1.1\r\n"), "{}", to_ant.head);
    assert!(to_ant.head.contains("x-api-key: up-canary-ant"), "{}", to_ant.head);
    assert!(to_ant.head.contains("anthropic-version: "), "{}", to_ant.head);
    let counted =
        gateway.count("streamgate_model_list_fetches_total{provider=\"oai\",outcome=\"ok\"}");
    assert_eq!(counted, 1);
}

/// Context windows in a provider's list apply to the models that lead there, unless the operator sets others.
#[tokio::test]
async fn context_windows_come_from_the_providers_list() {
    let (gateway, ..) = gateway(json(OPENAI), json(ANTHROPIC)).await;
    for (name, context) in [("fast", 128_000), ("limited", 10), ("oai/big", 128_000)] {
        let one = get(&gateway, &format!("/v1/models/{name}"), KEY, "x-none").await;
        assert_eq!(one["context_length"], context, "{name}");
    }
    let one = get(&gateway, "/v1beta/models/ant/claude", KEY, "x-none").await;
    assert_eq!(
        (&one["inputTokenLimit"], &one["outputTokenLimit"]),
        (&200_000.into(), &64_000.into())
    );
    let one = get(&gateway, "/v1/models/oai/small", KEY, "x-none").await;
    assert!(one.get("context_length").is_none(), "{one}");
}

/// A gateway that nobody asks for a list asks nobody for one.
#[tokio::test]
async fn conversations_fetch_no_lists() {
    let (gateway, oai, ant) = gateway(streamed("openai-chat", "hi"), json(ANTHROPIC)).await;
    gateway.chat("oai/m").send().await.unwrap().text().await.unwrap();
    gateway.chat("fast").send().await.unwrap().text().await.unwrap();
    let wrong = gateway.client.get(format!("{}/v1/models", gateway.url)).bearer_auth("wrong");
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    assert_eq!((oai.requests().await.len(), ant.requests().await.len()), (2, 0));
}

#[tokio::test]
async fn a_failing_model_list_adds_nothing() {
    let page = vec![Step::Whole(200, "content-type: text/html\r\n", b"<html>".to_vec())];
    let redirect = vec![Step::Whole(302, "location: http://127.0.0.1:1/\r\n", Vec::new())];
    let cut = vec![
        Step::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"data\":".to_vec()),
        Step::Close,
    ];
    let denied =
        vec![Step::Whole(403, "", b"{\"error\":{\"message\":\"up-canary-oai\"}}".to_vec())];
    for broken in [page, redirect, cut, denied, vec![Step::Reset]] {
        let (gateway, oai, _ant) = gateway(broken, json(ANTHROPIC)).await;
        let log = Log::default();
        let guard = log.capture();
        for _ in 0..3 {
            let list = get(&gateway, "/v1/models", KEY, "x-none").await;
            assert_eq!(names(&list, ("data", "id")), ["fast", "limited", "ant/claude"]);
        }
        drop(guard);
        assert_eq!(oai.requests().await.len(), 1, "it is not asked again at once");
        let lines = log.text().lines().filter(|line| line.contains("cannot be listed")).count();
        assert_eq!(lines, 1, "{}", log.text());
        assert!(!log.text().contains("up-canary"), "{}", log.text());
        let failed = "streamgate_model_list_fetches_total{provider=\"oai\",outcome=\"failed\"}";
        assert_eq!(gateway.count(failed), 1);
    }
}

/// A request waits a moment for the first answer, and no longer.
#[tokio::test]
async fn a_hanging_provider_delays_no_list() {
    let (gateway, ..) = gateway(vec![Step::Hang], json(ANTHROPIC)).await;
    let list = get(&gateway, "/v1/models", KEY, "x-none").await;
    assert_eq!(names(&list, ("data", "id")), ["fast", "limited", "ant/claude"]);
}

#[tokio::test]
async fn model_lists_of_a_provider_can_be_disabled() {
    let upstream = Upstream::new(json(OPENAI)).await;
    let text = yaml(&upstream.url, &upstream.url, MODELS);
    let text = text.replace("api_key:", "list_models: false, api_key:");
    let gateway = Gateway::new(&text).await;
    let list = get(&gateway, "/v1/models", KEY, "x-none").await;
    assert_eq!(names(&list, ("data", "id")), ["fast", "limited"]);
    assert!(upstream.requests().await.is_empty());
}

#[tokio::test]
async fn model_lists_are_restricted_to_the_keys_models() {
    let upstream = Upstream::new(json(OPENAI)).await;
    let keys = [("some", ", models: [limited, \"oai/*l*\"]"), ("none", ", models: [fast]")];
    let text = with_keys(&upstream, &keys, MODELS).replace("ant, model", "oai, model");
    let gateway = Gateway::new(&text).await;
    for (key, expected) in [("some", &["limited", "oai/small"][..]), ("none", &["fast"])] {
        let list = get(&gateway, "/v1/models", key, "x-none").await;
        assert_eq!(names(&list, ("data", "id")), expected, "{key}");
    }
}

/// After a reload a provider may be another one.
#[tokio::test]
async fn a_reload_forgets_the_lists() {
    let (gateway, _oai, _ant) = gateway(json(OPENAI), json(ANTHROPIC)).await;
    get(&gateway, "/v1/models", KEY, "x-none").await;
    let (other, ant) = (
        Upstream::new(json(r#"{"data":[{"id":"new"}]}"#)).await,
        Upstream::new(json(ANTHROPIC)).await,
    );
    gateway.app.reload(configuration(&yaml(&other.url, &ant.url, MODELS)));
    let list = get(&gateway, "/v1/models", KEY, "x-none").await;
    assert_eq!(names(&list, ("data", "id")), ["fast", "limited", "ant/claude", "oai/new"]);
}
