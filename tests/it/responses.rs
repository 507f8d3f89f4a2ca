//! The Responses API from HTTP to HTTP, with a scripted upstream: what pages of recordings cannot
//! show, because it is about statuses, about requests, and about both sides at once.

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, yaml};
use crate::support::language::{LANGUAGES, Language};
use crate::support::upstream::{Step, Upstream};
use crate::support::{self, Ended};

/// A gateway with one upstream, named as each dialect.
async fn gateway(upstream: &Upstream) -> Gateway {
    let provider =
        format!("  res: {{ dialect: openai-responses, base_url: \"{}/v1\" }}\n", upstream.url);
    Gateway::new(&yaml(&upstream.url, &upstream.url, &provider)).await
}

async fn post(gateway: &Gateway, path: &str, body: &Value) -> (u16, String) {
    let response = gateway.post(path, &body.to_string()).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.text().await.unwrap())
}

fn ask(language: &Language, stream: bool) -> (String, Value) {
    let ask = support::language::Ask { model: "res/m".into(), stream, ..Default::default() };
    ((language.path)(&ask), (language.request)(&ask))
}

const CREATED: &str = r#"data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_up","model":"m","status":"in_progress"}}

"#;

/// Failure mode 13: a stream that fails before its first output is reported by its status, to callers of every
/// language, whichever of its errors comes first.
#[tokio::test]
async fn fm13_a_failure_before_the_first_token_has_its_status() {
    let error = r#"data: {"type":"error","sequence_number":1,"error":{"type":"rate_limit_error","code":"rate_limit_exceeded","message":"slow down","param":null}}

"#;
    let failed = r#"data: {"type":"response.failed","sequence_number":2,"response":{"id":"resp_up","status":"failed","error":{"code":"rate_limit_exceeded","message":"slow down"}}}

"#;
    for said in
        [[CREATED, error].concat(), [CREATED, failed].concat(), [CREATED, error, failed].concat()]
    {
        let upstream = Upstream::new(vec![Step::Sse, Step::chunk(&said), Step::End]).await;
        let gateway = gateway(&upstream).await;
        for language in LANGUAGES {
            for stream in [true, false] {
                let (path, body) = ask(language, stream);
                let (status, text) = post(&gateway, &path, &body).await;
                assert_eq!(status, 429, "{} {stream}: {text}", language.name);
                let value: Value = serde_json::from_str(&text).unwrap();
                let message = (language.error)(&value).unwrap_or_else(|| panic!("{value}"));
                assert!(message.contains("slow down"), "{message}");
            }
        }
    }
}

/// Toward the vendor's own language a request is the caller's, byte for byte, state and all; toward
/// others the state is refused by name, and nothing is sent.
#[tokio::test]
async fn state_is_for_the_vendor_alone() {
    let text = r#"data: {"type":"response.output_text.delta","output_index":0,"delta":"hi"}

data: {"type":"response.completed","response":{"id":"resp_up","status":"completed","output":[]}}

"#;
    let upstream =
        Upstream::new(vec![Step::Sse, Step::chunk(&[CREATED, text].concat()), Step::End]).await;
    let gateway = gateway(&upstream).await;
    let body = r#"{ "model": "res/m", "input" : "x", "store":true,"previous_response_id":"resp_1", "background": true, "conversation" : {"id":"conv_1"}, "stream": true, "new": 1.50 }"#;
    let response = gateway.post("/v1/responses", body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let out = response.text().await.unwrap();
    // Names are added for clients who go by them; payloads stay.
    let named: String = [CREATED, text]
        .concat()
        .split_inclusive("\n\n")
        .map(|event| {
            let value: Value =
                serde_json::from_str(event.trim().strip_prefix("data: ").unwrap()).unwrap();
            format!("event: {}\n{event}", value["type"].as_str().unwrap())
        })
        .collect::<Vec<_>>()
        .concat();
    assert_eq!(out, named);
    let sent = upstream.requests().await.pop().unwrap();
    assert!(sent.head.starts_with("POST /v1/responses "), "{}", sent.head);
    assert_eq!(String::from_utf8(sent.body).unwrap(), body.replace("res/m", "m"));

    let before = upstream.requests().await.len();
    for provider in ["oai", "ant"] {
        for (field, value) in
            [("previous_response_id", json!("resp_1")), ("conversation", json!({ "id": "conv_1" }))]
        {
            let body = json!({ "model": format!("{provider}/m"), "input": "x", field: value });
            let (status, text) = post(&gateway, "/v1/responses", &body).await;
            let told: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((status, &told["error"]["param"]), (400, &json!(field)), "{text}");
        }
    }
    assert_eq!(upstream.requests().await.len(), before);
}

/// A translated answer repeats its request, as the vendor's does, and calls the caller's custom
/// tools by their form.
#[tokio::test]
async fn the_answer_repeats_its_request() {
    let said = r#"data: {"id":"x","model":"up","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"sh","arguments":"{\"input\":\"ls\"}"}}]},"finish_reason":"tool_calls"}]}

data: [DONE]

"#;
    let upstream = Upstream::new(vec![Step::Sse, Step::chunk(said), Step::End]).await;
    let gateway = gateway(&upstream).await;
    let tools = json!([{ "type": "custom", "name": "sh", "description": "runs" }]);
    for stream in [true, false] {
        let body = json!({ "model": "oai/m", "input": "x", "stream": stream, "tools": tools,
            "instructions": "Be brief.", "metadata": { "a": "b" }, "temperature": 0.25, "store": true });
        let (status, text) = post(&gateway, "/v1/responses", &body).await;
        assert_eq!(status, 200, "{text}");
        let response: Value = if stream {
            let read = support::openai_responses::stream(text.as_bytes(), true).unwrap();
            assert_eq!(read.ended, Ended::Complete);
            let mut data = text.lines().rev().filter_map(|line| line.strip_prefix("data: "));
            assert_eq!(data.next(), Some("[DONE]"));
            let last = data.next().unwrap();
            serde_json::from_str::<Value>(last).unwrap()["response"].take()
        } else {
            serde_json::from_str(&text).unwrap()
        };
        for (name, value) in [
            ("tools", tools.clone()),
            ("instructions", json!("Be brief.")),
            ("temperature", json!(0.25)),
            ("store", json!(true)),
        ] {
            assert_eq!(response[name], value, "{name}");
        }
        let item = &response["output"][0];
        assert_eq!((&item["type"], &item["input"]), (&json!("custom_tool_call"), &json!("ls")));
    }
}
