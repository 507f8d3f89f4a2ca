//! Gemini: model and method in the path, two forms
//! of a stream, signatures on parts, and errors that are no events.

use bytes::BytesMut;
use serde_json::{Value, json};
use streamgate::wire::chat::End;
use streamgate::wire::dialect::{
    CallerDialect, Dialect, Form, Mode, Quirks, RequestView, Target, by_name,
};

use crate::support::gateway::{Gateway, KEY, hex};
use crate::support::simulated;
use crate::support::upstream::{Step, Upstream};
use crate::support::{Ended, call, gemini, received, run, written};

fn dialect(name: &str) -> &'static dyn Dialect {
    by_name(name).expect("a dialect")
}

fn towards(name: &str) -> &'static dyn CallerDialect {
    dialect(name).as_caller().expect("a caller dialect")
}

const ASK: &str = r#"{ "contents" : [{"role":"user","parts":[{"text":"caf\u00e9"}]}],"safety_settings":[], "x":1.0 }"#;

const CHUNK: &str = r#"{"candidates": [{"content": {"parts": [{"text": "hi"}],"role": "model"},"finishReason": "STOP","index": 0}],"modelVersion": "m","responseId": "r"}"#;

/// A gateway in front of a scripted upstream, and that upstream.
async fn scripted(script: Vec<Step>) -> (Upstream, Gateway) {
    let upstream = Upstream::new(script).await;
    let yaml = format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {} }}\nproviders:\n  \
         gem: {{ dialect: gemini, base_url: \"{}/v1beta\", api_key: up-canary }}\n",
        hex(&streamgate::config::digest(KEY)),
        upstream.url,
    );
    let gateway = Gateway::new(&yaml).await;
    (upstream, gateway)
}

async fn json_of(answer: reqwest::Response) -> Value {
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

fn response(status: &str, kind: &str, body: &str) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    vec![Step::Raw(format!("{head}{body}").into_bytes()), Step::Close]
}

/// The body and the key stay, the path names the upstream's model, and events are always asked for.
#[tokio::test]
async fn requests_go_on_byte_for_byte() {
    let body = format!("data: {CHUNK}\r\n\r\n");
    let (upstream, gateway) = scripted(response("200 OK", "text/event-stream", &body)).await;
    for (method, wanted) in [
        ("streamGenerateContent?alt=sse", "streamGenerateContent?alt=sse"),
        ("streamGenerateContent", "streamGenerateContent?alt=sse"),
    ] {
        let path = format!("/v1beta/models/gem%2Fa%2Bb:{method}");
        let answer = gateway
            .client
            .post(format!("{}{path}", gateway.url))
            .header("x-goog-api-key", KEY)
            .header("content-type", "application/json")
            .body(ASK)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let array = method == "streamGenerateContent";
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let text = answer.text().await.unwrap();
        if array {
            assert_eq!((kind.as_str(), text), ("application/json", format!("[{CHUNK}]\n")));
        } else {
            assert_eq!((kind.as_str(), text), ("text/event-stream", format!("data: {CHUNK}\n\n")));
        }
        let seen = upstream.requests().await.pop().unwrap();
        let line = format!("POST /v1beta/models/a%2Bb:{wanted} HTTP/1.1");
        assert!(seen.head.starts_with(&line), "{}", seen.head);
        assert!(seen.head.contains("x-goog-api-key: up-canary"), "{}", seen.head);
        assert_eq!(seen.body, ASK.as_bytes());
    }
}

/// Failure mode 42: the caller gets the form that it asks for, from upstreams that send the other one, too.
#[tokio::test]
async fn fm42_arrays_and_events() {
    let pretty = |text: &str| {
        format!(
            "{{\n  \"candidates\": [\n    {{\n      \"content\": {{\"parts\": [{{\"text\": \"{text}\"}}]}},\n      \"finishReason\": \"STOP\"\n    }}\n  ],\n  \"responseId\": \"r\"\n}}"
        )
    };
    let body = format!("[{}\n,\r\n{}\n]", pretty("a"), pretty("b"));
    let kind = "application/json; charset=UTF-8";
    let (_upstream, gateway) = scripted(response("200 OK", kind, &body)).await;
    let path = "/v1beta/models/gem/m:streamGenerateContent";
    let array = gateway.post(path, ASK).send().await.unwrap().text().await.unwrap();
    assert_eq!(array, format!("[{},\r\n{}]\n", pretty("a"), pretty("b")));
    let sse = gateway.post(&format!("{path}?alt=sse"), ASK).send().await.unwrap();
    let sse = sse.text().await.unwrap();
    let events = crate::support::events(sse.as_bytes()).unwrap();
    assert_eq!(events.len(), 2);
    for ((_, data), text) in events.iter().zip(["a", "b"]) {
        let value: Value = serde_json::from_str(data).unwrap();
        let said: Value = serde_json::from_str(&pretty(text)).unwrap();
        assert_eq!(value, said);
    }
    // And to a caller of another language.
    let chat = gateway.chat("gem/m").send().await.unwrap().text().await.unwrap();
    assert!(chat.contains(r#""content":"a""#) && chat.ends_with("data: [DONE]\n\n"), "{chat}");
}

/// Failure mode 42: an error in bare JSON after the events reaches every caller, in its own form.
#[tokio::test]
async fn fm42_bare_json_errors_are_reported() {
    let chunk = CHUNK.replace(r#""finishReason": "STOP","#, "");
    let error = "{\n  \"error\": {\n    \"code\": 503,\n    \"message\": \"shed\",\n    \"status\": \"UNAVAILABLE\"\n  }\n}\n";
    let error_line = error.lines().map(str::trim).collect::<String>();
    let body = format!("data: {chunk}\r\n\r\n{error}");
    let (_upstream, gateway) = scripted(response("200 OK", "text/event-stream", &body)).await;
    let path = "/v1beta/models/gem/m:streamGenerateContent";
    let sse = gateway.post(&format!("{path}?alt=sse"), ASK).send().await.unwrap();
    let (sse, cut) = received(sse).await;
    let (events, bare) = sse.split_at(sse.len() - error_line.len());
    assert_eq!((cut, bare), (true, error_line.as_bytes()), "once more, in a line of its own");
    let events = crate::support::events(events).unwrap();
    let last: Value = serde_json::from_str(&events[1].1).unwrap();
    assert_eq!(last, serde_json::from_str::<Value>(error).unwrap());
    let (array, cut) = received(gateway.post(path, ASK).send().await.unwrap()).await;
    let list: Vec<Value> = serde_json::from_slice(&array).unwrap();
    assert!(cut);
    assert_eq!((list.len(), &list[1]["error"]["message"]), (2, &json!("shed")));
    let chat = gateway.chat("gem/m").send().await.unwrap().text().await.unwrap();
    assert!(chat.contains(r#""message":"shed""#) && !chat.contains("[DONE]"), "{chat}");
}

/// The array form of every other upstream: whole, broken off, and refused.
#[tokio::test]
async fn arrays_of_other_upstreams() {
    let gateway = simulated::gateway().await;
    for upstream in ["openai-chat", "anthropic", "gemini"] {
        let ask = |program: &str| {
            gateway.post(
                &format!("/v1beta/models/{upstream}/{program}:streamGenerateContent"),
                r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#,
            )
        };
        let answer = ask("n3").send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json");
        let text = answer.text().await.unwrap();
        let view = gemini::array(text.as_bytes()).unwrap_or_else(|why| panic!("{why}: {text}"));
        assert_eq!((view.choices[&0].text.as_str(), &view.ended), ("t0 t1 t2 ", &Ended::Complete));
        let (bytes, cut) = received(ask("n5-close3").send().await.unwrap()).await;
        let view = gemini::array(&bytes).unwrap_or_else(|why| panic!("{why}: {bytes:?}"));
        assert_eq!(view.choices[&0].text, "t0 t1 t2 ");
        assert!(matches!(view.ended, Ended::Error(_)) && cut, "{view:?}");
        assert_eq!(ask("e404").send().await.unwrap().status(), 404);
    }
}

/// Failure mode 21: nothing but data lines, whatever happens; a beat of silence is a chunk that chats keep.
#[tokio::test]
async fn fm21_gemini_streams_hold_only_data_lines() {
    let beat = towards("gemini").heartbeat(&call(true, true));
    let data = beat.strip_prefix(b"data: ").and_then(|data| data.strip_suffix(b"\n\n")).unwrap();
    let value: Value = serde_json::from_slice(data).unwrap();
    assert_eq!(value["candidates"][0]["content"]["parts"], json!([{"text": ""}]));
    let mut array = call(true, true);
    array.form = Form::ChatArray;
    let beat = towards("gemini").heartbeat(&array);
    let mut encoder = towards("gemini").encoder(&array, Mode::Translated);
    let mut out = BytesMut::from(&beat[..]);
    encoder.finish(&End::Truncated, None, &mut out);
    out.extend_from_slice(&beat);
    assert!(matches!(gemini::array(&out).unwrap().ended, Ended::Error(_)));
}

#[tokio::test]
async fn counts_embeddings_and_models() {
    let gateway = simulated::gateway().await;
    let post = async |path: &str, body: Value| {
        let answer = gateway.post(path, &body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), json_of(answer).await)
    };
    let ask = json!({"contents": [{"parts": [{"text": "hi"}]}]});
    let (status, told) = post("/v1beta/models/gemini/n1-i0:countTokens", ask.clone()).await;
    assert!(status == 200 && told["totalTokens"].as_u64().unwrap() > 0, "{told}");
    let batch = json!({"requests": [{"model": "models/gemini/n1-i0", "content": ask["contents"][0]},
            {"model": "x", "content": ask["contents"][0]}]});
    let (status, told) = post("/v1beta/models/gemini/n1-i0:batchEmbedContents", batch).await;
    assert!(status == 200 && told["embeddings"][1]["values"].is_array(), "{told}");
    let (status, told) = post("/v1beta/models/gemini/n1-i0:predict", ask).await;
    assert_eq!((status, &told["error"]["status"]), (404, &json!("NOT_FOUND")));

    for path in ["/v1beta/models", "/v1/models"] {
        let list = gateway.client.get(format!("{}{path}", gateway.url));
        let list = list.header("x-goog-api-key", KEY).send().await.unwrap();
        assert!(json_of(list).await["models"].is_array(), "{path}");
    }
    let bare = gateway.client.get(format!("{}/v1beta/models", gateway.url)).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    assert_eq!(json_of(bare).await["error"]["status"], "UNAUTHENTICATED");
}

/// The vendor has no header for it, but says in the body how long to wait.
#[tokio::test]
async fn the_delay_before_a_retry_is_reported() {
    let body = r#"{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"16.2s"}]}}"#;
    let script = response("429 Too Many Requests", "application/json", body);
    let (_upstream, gateway) = scripted(script).await;
    let answer = gateway.chat("gem/m").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (429, &"17".parse().unwrap())
    );
    assert!(answer.text().await.unwrap().contains("slow down"));
    let path = "/v1beta/models/gem/m:generateContent";
    let own = gateway.post(path, ASK).send().await.unwrap();
    assert_eq!(own.status(), 429);
    assert_eq!(own.text().await.unwrap(), body);
}

/// The vendor's status says which kind of error it is, in a word of its own. Callers of other
/// languages branch on theirs.
#[tokio::test]
async fn the_status_is_no_code_of_other_languages() {
    for (status, word, code) in [
        ("404 Not Found", "NOT_FOUND", json!("model_not_found")),
        ("400 Bad Request", "INVALID_ARGUMENT", Value::Null),
        ("503 Service Unavailable", "UNAVAILABLE", json!("overloaded")),
    ] {
        let body = json!({ "error": { "message": "no", "status": word } }).to_string();
        let (_upstream, gateway) = scripted(response(status, "application/json", &body)).await;
        let asked = r#"{"model":"gem/m","input":"hi"}"#;
        for request in [gateway.chat("gem/m"), gateway.post("/v1/responses", asked)] {
            let told = json_of(request.send().await.unwrap()).await;
            assert_eq!(told["error"]["code"], code, "{told}");
        }
    }
}

fn sent(caller: &str, model: &str, body: &Value) -> Value {
    let mut request = towards(caller).decode_request(Form::Chat, &body.to_string()).unwrap();
    let target = Target { model, stream: true, form: Form::Chat, quirks: &Quirks::default() };
    let written = written(&mut request, dialect("gemini"), &target).unwrap();
    serde_json::from_str(&written).unwrap()
}

/// Failure mode 29: a signature goes through a caller of another language and comes back on its call.
#[test]
fn fm29_signatures_survive_other_dialects() {
    let chunk = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":1}},"thoughtSignature":"c2ln"},{"functionCall":{"name":"g","args":{}}}]},"finishReason":"STOP"}],"responseId":"r"}"#;
    let input = format!("data: {chunk}\r\n\r\n");
    let way = (&call(false, true), Mode::Translated);
    let answer = run(dialect("gemini"), towards("openai-chat"), way, input.as_bytes(), []).out;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let message = &answer["choices"][0]["message"];
    let result = |at: usize| json!({"role": "tool", "tool_call_id": message["tool_calls"][at]["id"], "content": format!("r{at}")});
    let next = json!({"model": "m", "messages": [
        {"role": "user", "content": "go"}, message, result(1), result(0),
    ]});
    let sent = sent("openai-chat", "gemini-3-pro", &next);
    let call = |name: &str, args: Value| json!({"functionCall": {"name": name, "args": args}});
    let mut first = call("f", json!({"a": 1}));
    first["thoughtSignature"] = json!("c2ln");
    assert_eq!(sent["contents"][1]["parts"], json!([first, call("g", json!({}))]));
    // Results in the order of their calls, without the ids that the vendor never gave.
    let answer = |name: &str, output: &str| json!({"functionResponse": {"name": name, "response": {"output": output}}});
    assert_eq!(sent["contents"][2]["parts"], json!([answer("f", "r0"), answer("g", "r1")]));
}

/// Failure mode 29: on the call itself, too, as Google's own endpoint for this language has it: each signature stays
/// with its call, whichever of the two a client gives back.
#[test]
fn fm29_each_signature_stays_on_its_call() {
    let part = |name: &str, signature: &str| json!({"functionCall": {"name": name, "args": {}}, "thoughtSignature": signature});
    let chunk = json!({"candidates": [{"content": {"parts": [part("f", "b25l"), part("g", "dHdv")]}, "finishReason": "STOP"}], "responseId": "r"});
    let input = format!("data: {chunk}\r\n\r\n");
    for stream in [false, true] {
        let way = call(stream, true);
        let towards_chat = towards("openai-chat");
        let way = (&way, Mode::Translated);
        let out = run(dialect("gemini"), towards_chat, way, input.as_bytes(), []).out;
        let text = String::from_utf8(out).unwrap();
        for signature in ["b25l", "dHdv"] {
            let on_call =
                format!(r#""extra_content":{{"google":{{"thought_signature":"{signature}"}}}}"#);
            assert!(text.contains(&on_call), "{text}");
        }
        if stream {
            continue;
        }
        let answer: Value = serde_json::from_str(&text).unwrap();
        let whole = answer["choices"][0]["message"].clone();
        let mut bare = whole.clone();
        bare.as_object_mut().unwrap().remove("reasoning_details");
        for message in [whole, bare] {
            let next =
                json!({"model": "m", "messages": [{"role": "user", "content": "go"}, message]});
            let sent = sent("openai-chat", "gemini-3-pro", &next);
            let parts = sent["contents"][1]["parts"].as_array().unwrap();
            assert_eq!(parts.len(), 2, "{sent}");
            assert_eq!(parts[0]["thoughtSignature"], "b25l", "{sent}");
            assert_eq!(parts[1]["thoughtSignature"], "dHdv", "{sent}");
        }
        // And from that endpoint to another caller, who gives it back as well.
        let delta = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"google": {"thought_signature": "b25l"}}}]});
        let chunk = json!({"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]});
        let input = format!("data: {chunk}\n\ndata: [DONE]\n\n");
        let way = (&call(true, true), Mode::Translated);
        let out = run(dialect("openai-chat"), towards("gemini"), way, input.as_bytes(), []).out;
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r#""thoughtSignature":"b25l""#), "{text}");
    }
}

/// Failure modes 28 and 29: where there is no signature, the documented word stands in its place, for the models that
/// ask for one; another vendor's signature never does.
#[test]
fn fm28_calls_without_a_signature() {
    let history = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "YW50aHJvcGlj"},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
            {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "1"},
            {"type": "tool_result", "tool_use_id": "toolu_2", "content": "2"},
        ]},
    ]});
    for (model, expected) in [
        ("gemini-3-pro-preview", json!("skip_thought_signature_validator")),
        ("gemini-flash-latest", json!("skip_thought_signature_validator")),
        ("gemini-2.5-pro", Value::Null),
        ("gemma-3", Value::Null),
    ] {
        let sent = sent("anthropic", model, &history);
        let parts = &sent["contents"][1]["parts"];
        assert_eq!(parts[0]["thoughtSignature"], expected, "{model}");
        assert_eq!(parts[1]["thoughtSignature"], Value::Null, "{model}");
        assert!(!sent.to_string().contains("YW50"), "{model}");
    }
}

/// Failure mode 29: the vendor's signature never reaches another one.
#[test]
fn fm29_signatures_stay_with_their_vendor() {
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"go"}]},{"role":"model","parts":[{"text":"hm","thought":true},{"functionCall":{"name":"f","args":{}},"thoughtSignature":"Z2VtaW5p"}]},{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"1"}}}]}]}"#;
    let request = towards("gemini").decode_request(Form::Chat, body).unwrap();
    let quirks = Quirks { reasoning_field: Some("reasoning".into()), ..Quirks::default() };
    let target = Target { model: "m", stream: true, form: Form::Chat, quirks: &quirks };
    for other in ["openai-chat", "anthropic"] {
        let written = written(&mut request.clone(), dialect(other), &target).unwrap();
        assert!(!written.contains("Z2VtaW5p"), "{other}: {written}");
    }
}

/// Reasoning effort, in the members of each generation of models.
#[test]
fn efforts_become_levels_or_budgets() {
    for (model, effort, expected) in [
        ("gemini-3-flash", "low", json!({"includeThoughts": true, "thinkingLevel": "LOW"})),
        ("gemini-3-flash", "none", json!({"thinkingLevel": "MINIMAL"})),
        ("gemini-3-pro", "minimal", json!({"includeThoughts": true, "thinkingLevel": "LOW"})),
        ("gemini-3-pro", "xhigh", json!({"includeThoughts": true, "thinkingLevel": "HIGH"})),
        ("gemini-2.5-flash", "medium", json!({"includeThoughts": true, "thinkingBudget": 8192})),
        ("gemini-2.5-flash", "none", json!({"thinkingBudget": 0})),
    ] {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "reasoning_effort": effort});
        let sent = sent("openai-chat", model, &body);
        assert_eq!(sent["generationConfig"]["thinkingConfig"], expected, "{model} {effort}");
    }
}

/// A prompt that is named becomes turns and instructions; everything else stays.
#[test]
fn prompts_go_where_this_dialect_has_them() {
    use streamgate::wire::chat::{Parameters, Rendered, Role};
    let prompt = Rendered {
        model: Some("other".into()),
        parameters: Parameters {
            temperature: Some(1.5),
            top_p: Some(0.5),
            max_tokens: Some(9),
            stop: vec!["END".into()],
            ..Parameters::default()
        },
        messages: vec![
            (Role::System, "Guide.".into()),
            (Role::User, "Be kind.".into()),
            (Role::Assistant, "Yes.".into()),
        ],
    };
    let turns = r#"{"role":"user","parts":[{"text":"Be kind."}]},{"role":"model","parts":[{"text":"Yes."}]}"#;
    for (body, expected) in [
        (
            r#"{ "x" : 1.0,"prompt":{"id":"p"},"generation_config":{"topP" : 1,"max_output_tokens":3},"system_instruction":{"parts":[ {"text":"\u0041"}]} }"#.to_owned(),
            format!(r#"{{ "x" : 1.0,"generation_config":{{"topP" : 1,"max_output_tokens":3,"temperature":1.5,"stopSequences":["END"]}},"system_instruction":{{"parts":[{{"text":"Guide."}}, {{"text":"\u0041"}}]}},"contents":[{turns}] }}"#),
        ),
        (
            r#"{"prompt":{"id":"p"},"contents":[{"parts":[]}]}"#.to_owned(),
            format!(r#"{{"contents":[{turns},{{"parts":[]}}],"systemInstruction":{{"parts":[{{"text":"Guide."}}]}},"generationConfig":{{"temperature":1.5,"topP":0.5,"maxOutputTokens":9,"stopSequences":["END"]}}}}"#),
        ),
    ] {
        assert_eq!(towards("gemini").prepend(&body, &prompt).unwrap(), expected);
    }
    for wrong in
        [r#"{"contents":"x"}"#, r#"{"systemInstruction":"x"}"#, r#"{"generationConfig":[]}"#]
    {
        assert!(towards("gemini").prepend(wrong, &prompt).is_err(), "{wrong}");
    }
}

#[test]
fn the_envelope_is_read() {
    let body = r#"{"contents":[],"generationConfig":{"maxOutputTokens":77,"candidateCount":3}}"#;
    let path = "/v1beta/models/m:streamGenerateContent";
    let asked = RequestView { form: Form::Chat, path, query: "alt=sse", body };
    let envelope = towards("gemini").envelope(&asked).unwrap();
    assert_eq!((envelope.max_output, envelope.choices, envelope.stream), (Some(77), 3, true));
}
