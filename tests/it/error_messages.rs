//! Words and headers that clients act on: context overflow in the caller's own terms, `x-should-retry`,
//! `RetryInfo`, and refusals that name the field and the type.

use serde_json::{Value, json};
use streamgate::wire::dialect::Form;

use crate::access::with_keys;
use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::language::LANGUAGES;
use crate::support::upstream::{Step, Upstream};

const JSON: &str = "content-type: application/json\r\n";

/// A gateway whose upstream rejects everything with this status and body, in both dialects.
async fn rejecting(status: u16, headers: &'static str, body: &str, more: &str) -> Gateway {
    let upstream = Upstream::new(vec![Step::Whole(status, headers, body.into())]).await;
    Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await
}

/// Asks in every caller dialect; the message, the body and the headers of each error.
async fn errors(
    gateway: &Gateway,
    model: &str,
    words: &str,
) -> Vec<(&'static str, u16, String, Value, http::HeaderMap)> {
    let mut errors = Vec::new();
    for language in LANGUAGES {
        let ask = crate::support::language::Ask {
            model: model.to_owned(),
            stream: true,
            ..crate::support::language::Ask::default()
        };
        let body =
            (language.request)(&ask).to_string().replace("\"hi\"", &json!(words).to_string());
        let response = gateway.post(&(language.path)(&ask), &body).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        // Bodies that are passed through may lack members.
        let message = (language.error)(&body).unwrap_or_default();
        errors.push((language.name, status, message, body, headers));
    }
    errors
}

/// The sentence that clients of a dialect know.
fn sentence(dialect: &str, tokens: u64, maximum: u64) -> String {
    match dialect {
        "anthropic" => format!("prompt is too long: {tokens} tokens > {maximum} maximum"),
        "gemini" => format!(
            "The input token count ({tokens}) exceeds the maximum number of tokens allowed ({maximum})."
        ),
        "ollama" => {
            format!("prompt too long; exceeded max context length by {} tokens", tokens - maximum)
        }
        "cohere" => format!(
            "too many tokens: total number of tokens in the prompt cannot exceed {maximum} - received {tokens}."
        ),
        _ => format!(
            "This model's maximum context length is {maximum} tokens. However, your messages resulted in {tokens} tokens."
        ),
    }
}

#[tokio::test]
async fn a_context_length_error_begins_with_the_callers_own_sentence() {
    let openai = json!({ "error": { "message": "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens. Please reduce the length of the messages.", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded" } });
    let llama = json!({ "error": { "code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error", "n_prompt_tokens": 130_000, "n_ctx": 128_000 } });
    let anthropic = json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "prompt is too long: 130000 tokens > 128000 maximum" } });
    for (body, model) in [(&openai, "oai/m"), (&llama, "oai/m"), (&anthropic, "ant/m")] {
        let gateway = rejecting(400, JSON, &body.to_string(), "").await;
        for (dialect, status, message, error, _) in errors(&gateway, model, "hi").await {
            let own = model.starts_with("oai") && dialect == "openai-chat"
                || model.starts_with("ant") && dialect == "anthropic";
            assert_eq!(status, 400, "{dialect}");
            if own {
                assert_eq!(error, *body, "passed through");
                continue;
            }
            let begins = sentence(dialect, 130_000, 128_000);
            assert!(message.starts_with(&begins), "{dialect}: {message}");
            if dialect.starts_with("openai") {
                assert_eq!(error["error"]["code"], "context_length_exceeded");
            }
        }
    }
}

/// Where the upstream names no count, the estimate and the configured context do if they explain it.
#[tokio::test]
async fn an_overflow_without_counts_takes_the_estimate_or_none() {
    let body = r#"{"error":{"message":"Input is too long for requested model.","type":"invalid_request_error"}}"#;
    let models = "models:\n  small: { targets: [{ provider: oai, model: m, context: 100 }] }\n  large: { targets: [{ provider: oai, model: m }] }\n";
    let gateway = rejecting(400, JSON, body, models).await;
    let words = "word ".repeat(400);
    for (dialect, _, message, ..) in errors(&gateway, "small", &words).await {
        if dialect == "openai-chat" {
            continue;
        }
        let estimate: u64 = message
            .split("by the gateway's estimate ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{dialect}: {message}"));
        assert!((400..700).contains(&estimate), "{estimate}");
        assert!(message.starts_with(&sentence(dialect, estimate, 100)), "{dialect}: {message}");
    }
    for (dialect, _, message, ..) in errors(&gateway, "large", &words).await {
        if dialect == "openai-chat" {
            continue;
        }
        let begins = match dialect {
            "anthropic" => "prompt is too long (Input is",
            "gemini" => {
                "The input token count exceeds the maximum number of tokens allowed. (Input"
            }
            "ollama" => "prompt too long; exceeded max context length (Input",
            "cohere" => "too many tokens in the prompt. (Input",
            _ => "Your input exceeds the context window of this model. (Input",
        };
        assert!(message.starts_with(begins), "{dialect}: {message}");
        assert!(!message.contains("estimate"), "{message}");
    }
}

/// Our own rejections that another try cannot change say so; what may pass later does not.
#[tokio::test]
async fn our_own_final_errors_are_not_to_be_retried() {
    let upstream = Upstream::new(vec![Step::Hang]).await;
    let limits = ", models: [\"oai/m\"], limits: { requests_per_minute: 6 }";
    let more = "server: { body_limit: 4KiB }\n";
    let gateway = Gateway::new(&with_keys(&upstream, &[(KEY, ""), ("few", limits)], more)).await;
    let chat = |key: &str, body: String| {
        gateway
            .client
            .post(format!("{}/v1/chat/completions", gateway.url))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .body(body)
    };
    let ask = |model: &str, text: &str| {
        json!({ "model": model, "messages": [{ "role": "user", "content": text }] }).to_string()
    };
    let get = gateway.client.get(format!("{}/v1/chat/completions", gateway.url));
    let plain = chat(KEY, ask("oai/m", "hi")).header("content-encoding", "lzma");
    for (request, status) in [
        (chat(KEY, "{".to_owned()), 400),
        (chat(KEY, String::new()), 400),
        (chat("sg-wrong", ask("oai/m", "hi")), 401),
        (chat("few", ask("ant/m", "hi")), 404),
        (chat(KEY, ask("none", "hi")), 404),
        (get, 405),
        (chat(KEY, ask("oai/m", &"x".repeat(5000))), 413),
        (plain, 415),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["x-should-retry"], "false", "{status}");
    }
    loop {
        let response = chat("few", ask("ant/m", "hi")).send().await.unwrap();
        if response.status() == 429 {
            assert!(!response.headers().contains_key("x-should-retry"));
            break;
        }
        assert_eq!(response.status(), 404);
    }
    for (status, body) in [(500, "{}"), (400, r#"{"error":{"message":"no"}}"#)] {
        let gateway = rejecting(status, JSON, body, "").await;
        for (dialect, _, _, _, headers) in errors(&gateway, "oai/m", "hi").await {
            assert!(!headers.contains_key("x-should-retry"), "{dialect} {status}");
        }
    }
}

/// The wait of an upstream, and our own, in the form that Google's clients read.
#[tokio::test]
async fn waits_are_retry_info_to_gemini_callers() {
    let wait = |error: &Value| -> Vec<String> {
        let details = error["error"]["details"].as_array().cloned().unwrap_or_default();
        let info = |detail: &Value| detail["@type"] == "type.googleapis.com/google.rpc.RetryInfo";
        let waits = details.iter().filter(|detail| info(detail));
        waits.map(|detail| detail["retryDelay"].as_str().unwrap().to_owned()).collect()
    };
    let headers = "content-type: application/json\r\nretry-after: 12\r\n";
    for status in [429, 503] {
        let body = r#"{"error":{"message":"slow down","type":"x","code":null}}"#;
        let gateway = rejecting(status, headers, body, "").await;
        for (dialect, found, _, error, headers) in errors(&gateway, "oai/m", "hi").await {
            assert_eq!(headers["retry-after"], "12", "{dialect}");
            if dialect == "gemini" {
                assert_eq!((found, wait(&error)), (status, vec!["12s".to_owned()]), "{error}");
            }
        }
        let gateway = rejecting(status, JSON, body, "").await;
        let errors = errors(&gateway, "oai/m", "hi").await;
        let (.., error, _) = errors.iter().find(|(dialect, ..)| *dialect == "gemini").unwrap();
        assert_eq!(wait(error), Vec::<String>::new(), "a wait that nobody named");
    }
    let upstream = Upstream::new(vec![Step::Hang]).await;
    let limits = ", limits: { requests_per_minute: 1 }";
    let gateway = Gateway::new(&with_keys(&upstream, &[(KEY, limits)], "")).await;
    let path = "/v1beta/models/none:generateContent";
    assert_eq!(gateway.post(path, "{}").send().await.unwrap().status(), 404);
    let response = gateway.post(path, "{}").send().await.unwrap();
    assert_eq!(response.status(), 429);
    let seconds = response.headers()["retry-after"].to_str().unwrap().to_owned();
    let error: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(wait(&error), [format!("{seconds}s")], "{error}");
}

/// Dates become seconds, which every client reads, by the upstream's own clock; milliseconds stay.
#[tokio::test]
async fn dates_of_a_wait_become_seconds() {
    let body = r#"{"error":{"message":"slow down","type":"x","code":null}}"#;
    let dates = "content-type: application/json\r\ndate: Wed, 21 Oct 2026 07:28:00 GMT\r\n\
        retry-after: Wed, 21 Oct 2026 07:28:12 GMT\r\n";
    let millis = "content-type: application/json\r\nretry-after-ms: 11500\r\n";
    for (given, millis) in [(dates, None), (millis, Some("11500"))] {
        let gateway = rejecting(429, given, body, "").await;
        for (dialect, status, _, error, headers) in errors(&gateway, "oai/m", "hi").await {
            assert_eq!(
                (status, &headers["retry-after"]),
                (429, &"12".parse().unwrap()),
                "{dialect}"
            );
            let told = headers.get("retry-after-ms").map(|value| value.to_str().unwrap());
            assert_eq!(told, millis, "{dialect}");
            assert!(dialect != "gemini" || error.to_string().contains("\"12s\""), "{error}");
        }
    }
    let junk = "content-type: application/json\r\nretry-after: soon\r\n";
    let gateway = rejecting(429, junk, body, "").await;
    for (dialect, _, _, _, headers) in errors(&gateway, "oai/m", "hi").await {
        assert!(!headers.contains_key("retry-after"), "{dialect}: {headers:?}");
    }
}

/// A limit that is reported in the first event of a stream is a 429 with its wait.
#[tokio::test]
async fn a_wait_in_the_first_event_is_a_header() {
    let error = json!({ "error": { "code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED",
        "details": [{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "16.2s" }] } });
    let events = "content-type: text/event-stream\r\n";
    for (label, body) in [
        (events, format!("data: {error}\r\n\r\n")),
        ("content-type: application/json\r\n", format!("[{error}]")),
        (events, error.to_string()),
    ] {
        let upstream =
            Upstream::new(vec![Step::Whole(200, label, body.clone().into_bytes())]).await;
        let provider = format!("  gem: {{ dialect: gemini, base_url: \"{}\" }}\n", upstream.url);
        let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, &provider)).await;
        for (dialect, status, _, told, headers) in errors(&gateway, "gem/m", "hi").await {
            assert_eq!(status, 429, "{dialect} {body}: {told}");
            assert_eq!(headers["retry-after"], "17", "{dialect} {body}");
            assert!(dialect != "gemini" || told.to_string().contains("\"17s\""), "{told}");
        }
    }
}

/// The field stands in the message itself, by the caller's name, with the type and the remedy.
#[tokio::test]
async fn refusals_name_the_field_and_the_type() {
    let upstream = Upstream::new(vec![Step::Hang]).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
    let hi = json!([{ "role": "user", "content": "hi" }]);
    let part = |part: Value| json!([{ "role": "user", "content": [part] }]);
    for (path, body, begins) in [
        (
            "/v1/chat/completions",
            json!({ "model": "ant/m", "messages": hi, "logit_bias": { "5": 1 } }),
            "`logit_bias`: this model's provider knows no such thing; leave it out or choose another model",
        ),
        (
            "/v1/chat/completions",
            json!({ "model": "ant/m", "messages": hi, "n": 2 }),
            "`n`: this model's provider gives one answer",
        ),
        (
            "/v1/chat/completions",
            json!({ "model": "ant/m", "messages": part(json!({ "type": "input_audio", "input_audio": { "data": "UklGRg==", "format": "wav" } })) }),
            "`messages[0]` holds audio of type `audio/wav` that this model's provider does not take; leave it out",
        ),
        (
            "/v1/messages",
            json!({ "model": "oai/m", "max_tokens": 1, "messages": part(json!({ "type": "container_upload", "file_id": "f" })) }),
            "`messages[0].content[0]` is a document that only its own vendor can read; send the bytes",
        ),
        (
            "/v1/messages",
            json!({ "model": "oai/m", "max_tokens": 1, "system": "s", "messages": [{ "role": "assistant", "content": "a" }, part(json!({ "type": "image", "source": { "type": "file", "file_id": "f" } }))[0]] }),
            "`messages[1].content[0].source` is an image that only its own vendor can read; send the bytes",
        ),
        ("/v1/messages", json!({ "model": "oai/m", "messages": hi }), "`max_tokens` is missing"),
        (
            "/v1/responses",
            json!({ "model": "oai/m", "input": part(json!({ "type": "input_sound", "data": "x" })) }),
            "`input[0].content[0]` of type `input_sound` cannot be translated; use input_text",
        ),
        (
            "/v1beta/models/oai/m:generateContent",
            json!({ "contents": [{ "parts": [{ "videoMetadata": {} , "executableCode": { "code": "1" } }] }] }),
            "`contents[0].parts[0]` of type `executableCode` cannot be translated",
        ),
        (
            "/v1beta/models/ant/m:generateContent",
            json!({ "contents": [{ "parts": [{ "text": "hi" }] }], "generationConfig": { "candidateCount": 2 } }),
            "`generationConfig.candidateCount`: this model's provider gives one answer",
        ),
        (
            "/v2/chat",
            json!({ "model": "oai/m", "messages": part(json!({ "type": "sound" })) }),
            "`messages[0].content[0]` of type `sound` cannot be translated",
        ),
    ] {
        let response = gateway.post(path, &body.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 400, "{path} {body}");
        let error: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        let message = error.pointer("/error/message").or_else(|| error.get("message"));
        let message = message.and_then(Value::as_str).unwrap_or_else(|| panic!("{error}"));
        assert!(message.starts_with(begins), "{path}: {message}");
        assert!(!message.contains("translating"), "{message}");
    }
}

/// Mistakes in the body as a whole, and in the name of a model.
#[tokio::test]
async fn mistakes_are_named() {
    let upstream = Upstream::new(vec![Step::Hang]).await;
    let more = "server: { body_limit: 2KiB }\nmodels:\n  chat: { targets: [{ provider: oai, model: m }] }\n";
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await;
    let ask = |model: &str| json!({ "model": model, "messages": [] }).to_string();
    for (body, says) in [
        (String::new(), "the request body is empty; send a JSON object"),
        (" \n".to_owned(), "the request body is empty; send a JSON object"),
        (r#"{"model":"#.to_owned(), "is not valid JSON (line 1, column 9): it ends too early"),
        (
            "x".repeat(3000),
            "larger than the limit of 2 KiB; send less, or have the gateway's operator raise server.body_limit",
        ),
        (ask("chta"), "there is no model `chta`; did you mean `chat`? GET /v1/models"),
        (ask("something-else"), "there is no model `something-else`; GET /v1/models"),
    ] {
        let response = gateway.post("/v1/chat/completions", &body).send().await.unwrap();
        let error: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
    }
}

/// Headers that the caller's vendor acts on are forwarded to it, and to no other.
#[tokio::test]
async fn headers_that_the_vendor_acts_on_are_forwarded() {
    const SENT: [(&str, &str); 9] = [
        ("x-openai-internal-codex-responses-lite", "true"),
        ("x-codex-turn-metadata", "metadata"),
        ("session-id", "session"),
        ("openai-beta", "responses=experimental"),
        ("x-client-request-id", "own-id"),
        ("user-agent", "codex_cli_rs/0.171"),
        ("anthropic-beta", "context-1m-2025-08-07"),
        ("x-claude-code-session-id", "claude"),
        ("x-goog-api-client", "google-genai-sdk/1.52.0"),
    ];
    let reply = r#"{"error":{"message":"no"}}"#;
    let upstream = Upstream::new(vec![Step::Whole(400, JSON, reply.into())]).await;
    let url = &upstream.url;
    let providers = format!(
        "  res: {{ dialect: openai-responses, base_url: \"{url}/v1\" }}\n  gem: {{ dialect: gemini, base_url: \"{url}\" }}\n"
    );
    let gateway = Gateway::new(&yaml(url, url, &providers)).await;
    let hi = json!([{ "role": "user", "content": "hi" }]);
    let chat = |model: &str| json!({ "model": model, "max_tokens": 9, "messages": hi }).to_string();
    let contents = json!({ "contents": [{ "parts": [{ "text": "hi" }] }] }).to_string();
    let codex = &[
        "x-openai-internal-codex-responses-lite",
        "x-codex-turn-metadata",
        "session-id",
        "openai-beta",
        "x-client-request-id",
        "user-agent",
    ][..];
    let openai = &["openai-beta", "x-client-request-id", "user-agent"][..];
    let claude = &["user-agent", "anthropic-beta", "x-claude-code-session-id"][..];
    let google = &["user-agent", "x-goog-api-client"][..];
    for (number, (path, body, forwarded)) in [
        ("/v1/responses", json!({ "model": "res/m", "input": "hi" }).to_string(), codex),
        ("/v1/chat/completions", chat("oai/m"), openai),
        ("/v1/messages", chat("ant/m"), claude),
        ("/v1beta/models/gem/m:generateContent", contents, google),
        ("/v1/responses", json!({ "model": "ant/m", "input": "hi" }).to_string(), &[]),
        ("/v1/messages", chat("oai/m"), &[]),
        ("/v1/chat/completions", chat("res/m"), &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut request = gateway.post(path, &body);
        for (name, value) in SENT {
            request = request.header(name, value);
        }
        request.send().await.unwrap();
        let head = upstream.requests().await[number].head.to_ascii_lowercase();
        for (name, value) in SENT {
            let there = head.contains(&format!("{name}: {}", value.to_ascii_lowercase()));
            assert_eq!(there, forwarded.contains(&name), "{path} {body}: {name} in {head}");
        }
    }
}

/// A header that every request has gives way to the caller's own; one of several lines keeps them all.
#[tokio::test]
async fn a_forwarded_header_replaces_a_fixed_one_and_keeps_its_lines() {
    let reply = r#"{"error":{"message":"no"}}"#;
    let upstream = Upstream::new(vec![Step::Whole(400, JSON, reply.into())]).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
    let ask = json!({ "model": "ant/m", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    let request = gateway
        .post("/v1/messages", &ask.to_string())
        .header("anthropic-version", "2023-01-01")
        .header("anthropic-beta", "a-1")
        .header("anthropic-beta", "b-2");
    request.send().await.unwrap();
    let head = upstream.requests().await[0].head.to_ascii_lowercase();
    let lines = |name: &str| {
        let lines = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines("anthropic-version"), ["2023-01-01"], "{head}");
    assert_eq!(lines("anthropic-beta"), ["a-1", "b-2"], "{head}");
}

/// Empty members, and references to hints, are no reason for a rejection.
#[test]
fn empty_fields_and_stale_hints_are_left_out() {
    let read = |name: &str, body: Value| {
        let caller = streamgate::wire::dialect::caller_dialects().find(|own| own.name() == name);
        caller.expect("a dialect").decode_request(Form::Chat, &body.to_string())
    };
    let hi = json!([{ "role": "user", "content": "hi" }]);
    for functions in [json!([]), Value::Null] {
        let body = json!({ "model": "m", "messages": hi, "functions": functions });
        assert_eq!(read("openai-chat", body).unwrap().messages.len(), 1);
    }
    let item = |id: &str| json!({ "type": "item_reference", "id": id });
    let input =
        |id| json!({ "model": "m", "input": [{ "role": "user", "content": "hi" }, item(id)] });
    assert_eq!(read("openai-responses", input("rs_1")).unwrap().messages.len(), 1);
    let refused = read("openai-responses", input("msg_1")).unwrap_err();
    assert_eq!(refused.param.as_deref(), Some("input[1]"));
    assert!(refused.message.starts_with("`input[1]` refers to an item that is kept at the vendor"));
    // The type of a reference may be missing.
    let input =
        |id| json!({ "model": "m", "input": [{ "role": "user", "content": "hi" }, { "id": id }] });
    assert_eq!(read("openai-responses", input("rs_1")).unwrap().messages.len(), 1);
    let refused = read("openai-responses", input("msg_1")).unwrap_err();
    assert!(refused.message.starts_with("`input[1]` refers to an item that is kept at the vendor"));
    let typeless = json!([{ "id": "msg_1", "role": "user", "content": "hi" }]);
    let typeless = json!({ "model": "m", "input": typeless });
    assert_eq!(read("openai-responses", typeless).unwrap().messages.len(), 1);
    for (name, value, refused) in [
        ("speechConfig", json!({}), false),
        ("imageConfig", json!({}), false),
        ("speechConfig", json!({ "languageCode": "de-DE" }), true),
    ] {
        let body = json!({ "contents": [{ "parts": [{ "text": "hi" }] }], "generationConfig": { name: value } });
        let full = format!("generationConfig.{name}");
        match read("gemini", body) {
            Ok(request) => assert_eq!((request.untranslatable, refused), (vec![&*full], false)),
            Err(fault) => assert_eq!((fault.param, refused), (Some(full), true)),
        }
    }
}
