//! Token counts between dialects, from HTTP to HTTP: whose count it is, what upstreams are asked, and
//! that counting uses nothing up.

use serde_json::{Value, json};
use streamgate::gateway::limit::prompt_tokens;
use streamgate::wire::adapt;
use streamgate::wire::dialect::{DIALECTS, Form, Quirks, Target, by_name};

use crate::answers::towards;
use crate::embeddings::before;
use crate::support::gateway::Gateway;
use crate::support::simulated;
use crate::support::upstream::{Step, Upstream};

const JSON: &str = "content-type: application/json\r\n";

/// A caller's dialect, its path for a model, a small request, and where the count is.
type CountForm = (&'static str, fn(&str) -> String, fn(&str) -> Value, &'static str);

const FORMS: [CountForm; 3] = [
    (
        "anthropic",
        |_| "/v1/messages/count_tokens?beta=true".to_owned(),
        |model| json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] }),
        "input_tokens",
    ),
    (
        "gemini",
        |model| format!("/v1beta/models/{model}:countTokens"),
        |_| json!({ "contents": [{ "parts": [{ "text": "hi" }] }] }),
        "totalTokens",
    ),
    (
        "openai-responses",
        |_| "/v1/responses/input_tokens".to_owned(),
        |model| json!({ "model": model, "input": "hi" }),
        "input_tokens",
    ),
];

/// The status, whether it is marked as an estimate, and the body.
async fn count(gateway: &Gateway, path: &str, body: &str) -> (u16, bool, Value) {
    let response = gateway.post(path, body).send().await.unwrap();
    let estimated = response.headers().get("x-streamgate-estimated").is_some_and(|is| is == "true");
    let status = response.status().as_u16();
    (status, estimated, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

async fn whole(status: u16, body: &str) -> Upstream {
    Upstream::new(vec![Step::Whole(status, JSON, body.into())]).await
}

#[tokio::test]
async fn every_caller_gets_a_count_for_every_upstream() {
    let gateway = simulated::gateway().await;
    for (caller, path, request, member) in FORMS {
        for upstream in DIALECTS {
            let upstream = upstream.name();
            let model = format!("{upstream}/n1-i0");
            let body = request(&model).to_string();
            let (status, estimated, value) = count(&gateway, &path(&model), &body).await;
            assert_eq!(status, 200, "{caller} to {upstream}: {value}");
            let tokens = value[member].as_u64().unwrap();
            // Responses only where the caller speaks it, too, or at the vendor's own address.
            let asks = ["anthropic", "gemini"].contains(&upstream) || upstream == caller;
            assert_eq!(estimated, !asks, "{caller} to {upstream}");
            if estimated {
                assert_eq!(tokens, prompt_tokens(&body), "{caller} to {upstream}");
            } else {
                assert!(tokens > 0, "{caller} to {upstream}");
            }
            let mut wanted = json!({ member: tokens });
            if caller == "openai-responses" {
                wanted["object"] = "response.input_tokens".into();
            }
            assert_eq!(value, wanted, "{caller} to {upstream}");
        }
    }
}

/// The request to count reaches the upstream in its dialect, and the upstream's count is returned.
#[tokio::test]
async fn upstreams_count_what_they_would_be_sent() {
    let anthropic = json!({ "model": "M", "system": "be brief",
        "messages": [{ "role": "user", "content": "hi" }],
        "tools": [{ "name": "f", "input_schema": { "type": "object", "properties": {} } }] });
    let gemini = json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }],
        "systemInstruction": { "parts": [{ "text": "be brief" }] },
        "tools": [{ "functionDeclarations": [{ "name": "f",
            "parametersJsonSchema": { "type": "object", "properties": {} } }] }] });
    let nested = json!({ "generateContentRequest": { "model": "models/M",
        "contents": gemini["contents"], "systemInstruction": gemini["systemInstruction"],
        "tools": gemini["tools"], "generationConfig": { "maxOutputTokens": 9, "temperature": 1 } } });
    let responses = json!({ "model": "M", "instructions": "be brief", "input": "hi",
        "tools": [{ "type": "function", "name": "f", "parameters": { "type": "object", "properties": {} } }] });
    let to_anthropic = json!({ "model": "m", "system": [{ "type": "text", "text": "be brief" }],
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "hi" }] }],
        "tools": [{ "name": "f", "input_schema": { "type": "object", "properties": {} } }] });
    for (at, body, upstream) in [
        (0, &anthropic, "gemini"),
        (1, &gemini, "anthropic"),
        (1, &nested, "anthropic"),
        (2, &responses, "anthropic"),
        (2, &responses, "gemini"),
    ] {
        let (_, path, _, member) = FORMS[at];
        let answer = if upstream == "gemini" {
            r#"{"totalTokens":4321,"promptTokensDetails":[{"modality":"TEXT","tokenCount":4321}]}"#
        } else {
            r#"{"input_tokens":4321}"#
        };
        let served = whole(200, answer).await;
        let gateway = before(&[(upstream, &served)], "").await;
        let model = format!("{upstream}/m");
        let body = body.to_string().replace("\"M\"", &format!("\"{model}\""));
        let (status, estimated, value) = count(&gateway, &path(&model), &body).await;
        assert_eq!((status, estimated, &value[member]), (200, false, &json!(4321)), "{value}");
        let requests = served.requests().await;
        let sent: Value = serde_json::from_slice(&requests[0].body).unwrap();
        if upstream == "anthropic" {
            assert!(requests[0].head.starts_with("POST /v1/messages/count_tokens "));
            let mut sent = sent;
            // Marks of the prompt cache are the gateway's own affair.
            strip_marks(&mut sent);
            assert_eq!(sent, to_anthropic);
        } else {
            assert!(requests[0].head.starts_with("POST /models/m:countTokens "));
            let inner = &sent["generateContentRequest"];
            assert_eq!(inner["model"], "models/m");
            assert_eq!(inner["contents"], json!([{ "role": "user", "parts": [{ "text": "hi" }] }]));
            assert_eq!(inner["systemInstruction"]["parts"][0]["text"], "be brief");
            assert_eq!(inner["tools"][0]["functionDeclarations"][0]["name"], "f");
        }
    }
}

fn strip_marks(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("cache_control");
            members.values_mut().for_each(strip_marks);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_marks),
        _ => {}
    }
}

#[test]
fn only_the_vendor_is_asked_in_the_responses_dialect() {
    let responses = by_name("openai-responses").unwrap();
    let [vendor, other] = [true, false].map(|vendor| Quirks { vendor, ..Quirks::default() });
    assert!(responses.counts_tokens(&vendor, false) && responses.counts_tokens(&other, true));
    assert!(!responses.counts_tokens(&other, false));
    let ask = json!({ "model": "x", "max_tokens": 9, "temperature": 0.5, "system": "be brief",
        "messages": [{ "role": "user", "content": "hi" }] });
    let mut request = towards("anthropic").decode_request(Form::Chat, &ask.to_string()).unwrap();
    let target =
        Target { model: "gpt-4o", stream: false, form: Form::CountTokens, quirks: &vendor };
    assert_eq!(responses.path(&target), "/responses/input_tokens");
    let written = adapt::write(&mut request, responses, &target, false).unwrap();
    let body: Value = serde_json::from_str(&written.body).unwrap();
    let members: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert!(body["input"].is_array(), "{body}");
    for refused in ["stream", "store", "include", "max_output_tokens", "temperature"] {
        assert!(!members.iter().any(|name| *name == refused), "{refused}: {body}");
    }
}

/// Vertex AI counts at the top of the body, and takes no more than that.
#[test]
fn vertex_is_asked_in_its_own_form() {
    let gemini = by_name("gemini").unwrap();
    let ask = json!({ "model": "x", "messages": [{ "role": "user", "content": "hi" }] });
    let quirks = Quirks { vertex: true, ..Quirks::default() };
    let target = Target { model: "m", stream: false, form: Form::CountTokens, quirks: &quirks };
    let mut request =
        towards("anthropic").decode_request(Form::CountTokens, &ask.to_string()).unwrap();
    let written = adapt::write(&mut request, gemini, &target, false).unwrap();
    let body: Value = serde_json::from_str(&written.body).unwrap();
    assert_eq!(body["contents"][0]["parts"][0]["text"], "hi", "{body}");
    assert!(body.get("generateContentRequest").is_none(), "{body}");
}

#[tokio::test]
async fn an_upstream_without_the_endpoint_is_estimated_for() {
    let events = "event: message_start\ndata: {\"type\":\"message_start\"}\n\n";
    let page = r#"{"detail":"Not Found"}"#;
    let error = r#"{"error":{"message":"nope"}}"#;
    for (status, body) in
        [(404, page), (405, page), (501, "{}"), (404, ""), (200, "{}"), (200, error), (200, events)]
    {
        for (caller, path, request, member) in FORMS {
            let upstreams = [caller, if caller == "anthropic" { "gemini" } else { "anthropic" }];
            for upstream in upstreams {
                let served = whole(status, body).await;
                let gateway = before(&[(upstream, &served)], "").await;
                let model = format!("{upstream}/m");
                let ask = request(&model).to_string();
                let (code, estimated, value) = count(&gateway, &path(&model), &ask).await;
                assert_eq!(
                    (code, estimated),
                    (200, true),
                    "{caller} to {upstream}, {status}: {value}"
                );
                assert_eq!(value[member], prompt_tokens(&ask), "{caller} to {upstream}");
                assert_eq!(served.requests().await.len(), 1);
            }
        }
    }
}

/// An answer with success that holds no count is no reason to fail.
#[tokio::test]
async fn an_answer_that_is_no_count_is_estimated_for() {
    for body in [
        "<html><p>Welcome</p></html>",
        "",
        "[]",
        "17",
        r#"{"tokens":"many"}"#,
        r#"{"totalTokens":"many","input_tokens":{}}"#,
        r#"{"error":{"message":"busy","code":503}}"#,
        r#"{"type":"error","error":{"type":"api_error","message":"busy"}}"#,
    ] {
        let served = whole(200, body).await;
        let providers =
            [("openai-responses", &served), ("anthropic", &served), ("gemini", &served)];
        let gateway = before(&providers, "").await;
        for (_, path, request, _) in FORMS {
            for model in ["two", "anthropic/m", "gemini/m"] {
                let ask = request(model).to_string();
                let (code, estimated, value) = count(&gateway, &path(model), &ask).await;
                assert_eq!((code, estimated), (200, true), "{body} {model}: {value}");
            }
        }
    }
}

#[tokio::test]
async fn other_failures_stay_failures() {
    let unknown = r#"{"error":{"message":"no such model","code":"model_not_found"}}"#;
    for (status, body, wanted) in
        [(404, unknown, 502), (500, "{}", 500), (400, r#"{"error":{"message":"too odd"}}"#, 400)]
    {
        let served = whole(status, body).await;
        let gateway = before(&[("openai-responses", &served), ("anthropic", &served)], "").await;
        let (_, path, request, _) = FORMS[2];
        let ask = request("two").to_string();
        let (code, estimated, value) = count(&gateway, &path(""), &ask).await;
        assert_eq!((code, estimated), (wanted, false), "{status}: {value}");
    }
    // The next target counts in place of one that fails.
    let failing = whole(500, "{}").await;
    let fine = whole(200, r#"{"input_tokens":17}"#).await;
    let gateway = before(&[("gemini", &failing), ("anthropic", &fine)], "").await;
    let (_, path, request, _) = FORMS[1];
    let (code, estimated, value) = count(&gateway, &path("two"), &request("two").to_string()).await;
    assert_eq!((code, estimated, value), (200, false, json!({ "totalTokens": 17 })));
}

/// Tools and instructions count, media count by their number.
#[tokio::test]
async fn the_estimate_is_that_of_limits() {
    let gateway = simulated::gateway().await;
    let (_, path, request, member) = FORMS[0];
    let mut sizes = Vec::new();
    let plain = request("openai-chat/n1-i0");
    let with = |name: &str, value: Value| {
        let mut body = plain.clone();
        body[name] = value;
        body
    };
    let picture = "iVBORw0KGgo/".repeat(10_000);
    let source = json!({ "type": "base64", "media_type": "image/png", "data": picture });
    let words = "words and more ".repeat(400);
    let schema = json!({ "type": "object", "properties": { "a": { "type": "string", "description": words } } });
    for body in [
        plain.clone(),
        with("system", words.clone().into()),
        with("tools", json!([{ "name": "f", "input_schema": schema }])),
        with(
            "messages",
            json!([{ "role": "user", "content": [{ "type": "image", "source": source }] }]),
        ),
    ] {
        let body = body.to_string();
        let (status, estimated, value) = count(&gateway, &path(""), &body).await;
        assert_eq!((status, estimated), (200, true), "{value}");
        assert_eq!(value[member], prompt_tokens(&body));
        sizes.push(value[member].as_u64().unwrap());
    }
    assert!(sizes[0] < 40 && sizes[1] >= 1500 && sizes[2] >= 1500, "{sizes:?}");
    assert!((2000..2100).contains(&sizes[3]), "120 kB of base64: {sizes:?}");
}

#[tokio::test]
async fn counting_uses_no_tokens_up() {
    let counting = whole(200, r#"{"input_tokens":5}"#).await;
    let limits = ", limits: { tokens_per_minute: 100, cut_off: true }";
    let gateway = before(&[("anthropic", &counting), ("ollama", &counting)], limits).await;
    let (_, path, request, member) = FORMS[0];
    for model in ["anthropic/m", "ollama/m"] {
        let mut ask = request(model);
        ask["messages"][0]["content"] = "a long prompt ".repeat(1000).into();
        for _ in 0..3 {
            let response = gateway.post(&path(""), &ask.to_string()).send().await.unwrap();
            assert_eq!(response.status(), 200, "{model}");
            let left = &response.headers()["anthropic-ratelimit-tokens-remaining"];
            assert_eq!(left, "100", "{model}");
            let value: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            assert!(value[member].as_u64().unwrap() > 0);
        }
    }
    // Requests are counted as ever.
    let limits = ", limits: { requests_per_minute: 2 }";
    let gateway = before(&[("ollama", &counting)], limits).await;
    let ask = request("ollama/m").to_string();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(count(&gateway, &path(""), &ask).await.0);
    }
    assert_eq!(seen, [200, 200, 429]);
}

#[tokio::test]
async fn wrong_requests_are_refused_by_field() {
    let gateway = simulated::gateway().await;
    let anthropic = |body: Value| ("/v1/messages/count_tokens".to_owned(), body);
    let gemini = |body: Value| ("/v1beta/models/ollama/n1-i0:countTokens".to_owned(), body);
    let responses = |body: Value| ("/v1/responses/input_tokens".to_owned(), body);
    let model = "ollama/n1-i0";
    let contents = json!([{ "parts": [{ "text": "hi" }] }]);
    for ((path, body), field) in [
        (anthropic(json!({ "messages": [] })), "model"),
        (anthropic(json!({ "model": model })), "messages"),
        (anthropic(json!({ "model": model, "messages": "hi" })), "messages"),
        (
            anthropic(json!({ "model": model, "messages": [{ "role": "x", "content": "hi" }] })),
            "messages[0].role",
        ),
        (anthropic(json!({ "model": model, "messages": [], "system": 7 })), "system"),
        (anthropic(json!({ "model": model, "messages": [], "tools": 7 })), "tools"),
        (anthropic(json!([])), "JSON object"),
        (gemini(json!({})), "contents"),
        (gemini(json!({ "contents": 7 })), "contents"),
        (
            gemini(
                json!({ "contents": contents, "generateContentRequest": { "contents": contents } }),
            ),
            "contents",
        ),
        (gemini(json!({ "generateContentRequest": 7 })), "generateContentRequest"),
        (gemini(json!({ "generateContentRequest": {} })), "generateContentRequest.contents"),
        (
            gemini(json!({ "generateContentRequest": { "contents": [{ "parts": 7 }] } })),
            "generateContentRequest.contents[0].parts",
        ),
        (responses(json!({ "input": "hi" })), "model"),
        (responses(json!({ "model": model, "input": 7 })), "input"),
        (responses(json!({ "model": model, "input": "hi", "tools": {} })), "tools"),
        (
            responses(json!({ "model": model, "input": "hi", "previous_response_id": "r" })),
            "previous_response_id",
        ),
    ] {
        let (status, _, value) = count(&gateway, &path, &body.to_string()).await;
        assert_eq!(status, 400, "{path} {body}: {value}");
        assert!(value.to_string().contains(field), "{path} {body}: {value}");
    }
}
