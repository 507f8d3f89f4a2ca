//! Ollama and Cohere: failure modes by their number, `/api/generate` in front of
//! other languages, the lists of models, and prompts in their requests.

use serde_json::{Value, json};
use streamgate::wire::chat::{End, Parameters, Part, Rendered, Role};
use streamgate::wire::dialect::{
    CallerDialect, Dialect, Form, Mode, RequestView, by_name, caller_dialects,
};

use crate::support::gateway::{Gateway, KEY, Log, yaml};
use crate::support::simulated::gateway;
use crate::support::upstream::{Step, Upstream};
use crate::support::{Ended, call, lines, reader, run};

fn dialect(name: &str) -> &'static dyn Dialect {
    by_name(name).expect("a dialect")
}

fn towards(name: &str) -> &'static dyn CallerDialect {
    caller_dialects().find(|dialect| dialect.name() == name).expect("a caller's dialect")
}

/// A caller's view of an upstream's bytes, and their end.
fn seen(upstream: &str, caller: &str, input: &str) -> (crate::support::View, End) {
    let way = call(true, true);
    let run =
        run(dialect(upstream), towards(caller), (&way, Mode::Translated), input.as_bytes(), []);
    ((reader(caller).stream)(&run.out, true).expect("a legal stream"), run.end)
}

/// Failure mode 3: ollama-python parses every line, blank ones included, and shows what it finds.
#[test]
fn fm03_ollama_heartbeats_are_lines_with_empty_text() {
    for form in [Form::Chat, Form::Generate] {
        let way = streamgate::wire::dialect::ResponseContext { form, ..call(true, true) };
        let beat = towards("ollama").heartbeat(&way);
        let (_, line) = lines(&beat).expect("lines").pop().expect("a line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["done"], false);
        let text = if form == Form::Chat { &line["message"]["content"] } else { &line["response"] };
        assert_eq!(text, "", "{form:?}");
    }
}

/// Failure modes 4 and 12: neither the end of the bytes nor `[DONE]` ends an answer, and errors in it are errors.
#[test]
fn fm04_fm12_only_the_terminal_event_completes_an_answer() {
    let said = r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"Hi"},"done":false}"#;
    let begun = "data: {\"type\":\"message-start\",\"id\":\"1\"}\n\ndata: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"Hi\"}}}}\n\n";
    for caller in caller_dialects() {
        for (upstream, input, failed) in [
            ("ollama", format!("{said}\n"), false),
            ("ollama", format!("{said}\n{{\"error\":\"out of memory\"}}\n"), true),
            ("cohere", begun.to_owned(), false),
            ("cohere", format!("{begun}data: [DONE]\n\n"), false),
            (
                "cohere",
                format!(
                    "{begun}data: {{\"type\":\"message-end\",\"delta\":{{\"finish_reason\":\"ERROR\",\"error\":\"out of memory\"}}}}\n\ndata: [DONE]\n\n"
                ),
                true,
            ),
        ] {
            let (view, end) = seen(upstream, caller.name(), &input);
            assert_eq!(matches!(end, End::Failed(_)), failed, "{upstream}: {end:?}");
            let Ended::Error(message) = &view.ended else { panic!("{upstream}: {view:?}") };
            assert_eq!(message.contains("out of memory"), failed, "{message}");
            assert_eq!(view.choices[&0].text, "Hi");
        }
    }
}

/// Failure mode 24: the prompt's count is missing if all of the prompt was cached.
#[test]
fn fm24_missing_prompt_counts_are_zero() {
    let input = r#"{"model":"m","message":{"role":"assistant","content":"x"},"done":true,"done_reason":"stop","eval_count":2}"#;
    for caller in ["openai-chat", "anthropic", "cohere", "ollama"] {
        let usage = seen("ollama", caller, input).0.usage.expect("usage");
        assert_eq!((usage.input, usage.output), (0, 2), "{caller}");
    }
}

/// Failure mode 40: a turn with calls ends with the caller's word for it, although Ollama says `stop`.
#[test]
fn fm40_stop_with_calls_is_a_turn_of_calls() {
    let input = r#"{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"b":1,"a":2}}}]},"done":true,"done_reason":"stop"}"#;
    for (caller, word) in
        [("openai-chat", "tool_calls"), ("anthropic", "tool_use"), ("cohere", "TOOL_CALL")]
    {
        let view = seen("ollama", caller, input).0;
        assert_eq!(view.choices[&0].stop.as_deref(), Some(word));
        assert_eq!(view.choices[&0].tools[0].arguments, r#"{"b":1,"a":2}"#, "{caller}: in order");
    }
}

/// Untranslatable members are rejected by name.
#[test]
fn untranslatable_fields_are_named() {
    let chat = |name: &str, value: Value| {
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
        body[name] = value;
        body.to_string()
    };
    let generate = |name: &str, value: Value| {
        let mut body = json!({ "model": "m", "prompt": "hi" });
        body[name] = value;
        body.to_string()
    };
    for (caller, form, body, param) in [
        ("ollama", Form::Generate, generate("suffix", json!("x")), "suffix"),
        ("ollama", Form::Generate, generate("raw", json!(true)), "raw"),
        ("ollama", Form::Generate, generate("template", json!("x")), "template"),
        ("ollama", Form::Generate, generate("context", json!([1])), "context"),
        ("ollama", Form::Generate, json!({ "model": "m" }).to_string(), "prompt"),
        ("ollama", Form::Chat, json!({ "model": "m", "messages": [] }).to_string(), "messages"),
        ("ollama", Form::Chat, chat("think", json!("hard")), "think"),
        ("cohere", Form::Chat, chat("documents", json!([{ "id": "d" }])), "documents[0].data"),
        ("cohere", Form::Chat, chat("tool_choice", json!("AUTO")), "tool_choice"),
    ] {
        let fault = towards(caller).decode_request(form, &body).expect_err(param);
        assert_eq!(fault.param.as_deref(), Some(param), "{fault:?}");
        assert!(fault.message.contains(param));
    }
    let fine = generate("context", json!([]));
    assert!(towards("ollama").decode_request(Form::Generate, &fine).is_ok());
}

/// A filled-in prompt comes first; what the caller says itself stays.
#[test]
fn prompts_are_put_first() {
    let prompt = Rendered {
        model: Some("fast".into()),
        parameters: Parameters {
            temperature: Some(1.5),
            max_tokens: Some(9),
            ..Parameters::default()
        },
        messages: vec![(Role::System, "Be brief.".into())],
    };
    let body = r#"{"prompt":{"id":"x"},"messages":[{"role":"user","content":"hi"}],"options":{"temperature":0.1},"temperature":0.1}"#;
    for caller in ["ollama", "cohere"] {
        let filled = towards(caller).prepend(body, &prompt).expect("an object");
        let value: Value = serde_json::from_str(&filled).expect("JSON");
        assert!(value.get("prompt").is_none() && value["model"] == "fast", "{filled}");
        assert_eq!(value["messages"][0], json!({ "role": "system", "content": "Be brief." }));
        assert_eq!(value["messages"][1]["content"], "hi");
        assert_eq!(value["temperature"], 0.1);
        let limit = if caller == "ollama" {
            assert_eq!(value["options"]["temperature"], 0.1);
            &value["options"]["num_predict"]
        } else {
            &value["max_tokens"]
        };
        assert_eq!(*limit, 9, "{filled}");
    }
}

/// `stream` defaults to true for Ollama and to false for Cohere; maximum output tokens are read.
#[test]
fn envelopes_are_read() {
    let body = r#"{"model":"m","max_tokens":7,"options":{"num_predict":7}}"#;
    for (caller, stream) in [("ollama", true), ("cohere", false)] {
        let asked = RequestView { form: Form::Chat, path: "", query: "", body };
        let envelope = towards(caller).envelope(&asked).expect("an envelope");
        assert_eq!((envelope.stream, envelope.max_output), (stream, Some(7)), "{caller}");
    }
}

/// `/api/generate`, streamed and whole, in front of every language.
#[tokio::test]
async fn generate_is_translated() {
    let gateway = gateway().await;
    for upstream in streamgate::wire::dialect::DIALECTS {
        for stream in [true, false] {
            let model = format!("{}/n3", upstream.name());
            let body = json!({ "model": model, "prompt": "count", "system": "be brief", "stream": stream });
            let response = gateway.post("/api/generate", &body.to_string()).send().await.unwrap();
            assert_eq!(response.status(), 200, "{model}");
            let kind = if stream { "application/x-ndjson" } else { "application/json" };
            assert_eq!(response.headers()["content-type"], kind, "{model}");
            let text = response.text().await.unwrap();
            let parts: Vec<Value> =
                text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            let said: String =
                parts.iter().map(|part| part["response"].as_str().unwrap()).collect();
            assert_eq!(said, "t0 t1 t2 ", "{model}");
            let last = parts.last().unwrap();
            assert!(last["done"] == true && last["eval_count"] == 3, "{model}: {last}");
        }
    }
}

async fn body_of(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// Requests of clients before a chat, which the gateway answers, for models that the caller may use.
#[tokio::test]
async fn requests_for_model_details_are_answered() {
    let gateway = gateway().await;
    let get = |path: &str| gateway.client.get(format!("{}{path}", gateway.url));
    let key = format!("Bearer {KEY}");
    // Clients ask these before they have a key.
    let response = get("/").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(response.text().await.unwrap(), "Ollama is running");
    let head = gateway.client.head(&gateway.url).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.text().await.unwrap().as_str()), (200, ""));
    let response = get("/api/version").send().await.unwrap();
    let told = body_of(response).await;
    assert!(told["version"].as_str().unwrap().split('.').count() == 3, "{told}");
    for path in ["/api/tags", "/api/ps"] {
        let response = get(path).send().await.unwrap();
        assert_eq!(response.status(), 401, "{path}");
        assert!(body_of(response).await["error"].is_string(), "{path}");
    }
    let running = get("/api/ps").header("authorization", &key).send().await.unwrap();
    assert_eq!(body_of(running).await, json!({ "models": [] }));
    for name in ["model", "name"] {
        let ask = json!({ name: "anthropic/sim" }).to_string();
        let response = gateway.post("/api/show", &ask).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let told = body_of(response).await;
        assert!(told["details"].is_object() && told["model_info"].is_object(), "{told}");
        assert!(told["capabilities"].as_array().unwrap().contains(&json!("tools")), "{told}");
    }
    for (ask, status, words) in [
        (r#"{"model":"nobody/m"}"#, 404, "nobody"),
        ("{}", 400, "model"),
        (r#"{"model":7}"#, 400, "model"),
        ("{", 400, "JSON"),
    ] {
        let response = gateway.post("/api/show", ask).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{ask}");
        let told = body_of(response).await;
        assert!(told["error"].as_str().unwrap().contains(words), "{ask}: {told}");
    }
    let wrong = get("/api/show").header("authorization", &key).send().await.unwrap();
    assert_eq!(wrong.status(), 405);
    assert!(body_of(wrong).await["error"].as_str().unwrap().contains("POST"));
}

/// Embeddings pass as they are between two who speak this language.
#[tokio::test]
async fn embeddings_are_passed_on() {
    let answer = r#"{"model":"up","embeddings":[[0.5, 1e-3]],"prompt_eval_count":3}"#;
    let head = "content-type: application/json\r\n";
    let upstream = Upstream::new(vec![Step::Whole(200, head, answer.into())]).await;
    let provider = format!("  oll: {{ dialect: ollama, base_url: \"{}\" }}\n", upstream.url);
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, &provider)).await;
    let log = Log::default();
    let _capture = log.capture();
    let ask = r#"{"model":"oll/up", "input":["a"] ,"truncate":true}"#;
    let response = gateway.post("/api/embed", ask).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (200, answer.into()));
    let seen = &upstream.requests().await[0];
    assert!(seen.head.starts_with("POST /api/embed "), "{}", seen.head);
    assert_eq!(seen.body, br#"{"model":"up", "input":["a"] ,"truncate":true}"#);
    let record = &log.records()[0];
    assert_eq!((&record["input_tokens"], &record["output_tokens"]), (&json!(3), &json!(0)));
}

/// A whole answer that says that more would follow is cut, whoever asked.
#[tokio::test]
async fn a_whole_answer_that_is_not_done_is_truncated() {
    let head = "content-type: application/json\r\n";
    for (done, status) in [("false", 502), ("true", 200)] {
        let answer = format!(
            r#"{{"model":"up","created_at":"t","message":{{"role":"assistant","content":"Hi"}},"done":{done}}}"#
        );
        let upstream = Upstream::new(vec![Step::Whole(200, head, answer.into())]).await;
        let provider = format!("  oll: {{ dialect: ollama, base_url: \"{}\" }}\n", upstream.url);
        let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, &provider)).await;
        for path in ["/api/chat", "/v1/chat/completions"] {
            let ask =
                r#"{"model":"oll/up","messages":[{"role":"user","content":"hi"}],"stream":false}"#;
            let response = gateway.post(path, ask).send().await.unwrap();
            let (got, text) = (response.status().as_u16(), response.text().await.unwrap());
            assert_eq!(got, status, "{path} {done}: {text}");
            assert_eq!(text.contains("Hi"), status == 200, "{path} {done}: {text}");
        }
    }
}

/// Its documentation posts with curl's own media type, and `LiteLLM` with none. A page of another site
/// could do so too, but not without saying where it comes from.
#[tokio::test]
async fn requests_to_ollama_need_no_media_type() {
    let gateway = gateway().await;
    let body =
        r#"{"model":"ollama/n3","messages":[{"role":"user","content":"hi"}],"stream":false}"#;
    for (kind, origin, status) in [
        (None, None, 200),
        (Some("application/x-www-form-urlencoded"), None, 200),
        (Some("application/x-www-form-urlencoded"), Some("https://elsewhere.example"), 415),
        (None, Some("https://elsewhere.example"), 415),
        (Some("application/json"), Some("https://elsewhere.example"), 200),
    ] {
        let mut asked = gateway
            .client
            .post(format!("{}/api/chat", gateway.url))
            .header("authorization", format!("Bearer {KEY}"))
            .body(body);
        if let Some(kind) = kind {
            asked = asked.header("content-type", kind);
        }
        if let Some(origin) = origin {
            asked = asked.header("origin", origin);
        }
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), status, "{kind:?} from {origin:?}");
    }
}

/// `LiteLLM` leaves out the ids of calls and keeps those of their results.
#[test]
fn results_find_calls_that_have_no_ids() {
    let call = |name: &str| json!({ "function": { "name": name, "arguments": {} } });
    let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": id });
    let body = json!({
        "model": "m",
        "messages": [
            { "role": "user", "content": "hi" },
            { "role": "assistant", "tool_calls": [call("alpha"), call("beta")] },
            result("first"),
            result("second"),
        ],
    });
    let request =
        towards("ollama").decode_request(Form::Chat, &body.to_string()).expect("a request");
    let parts = || request.messages.iter().flat_map(|message| &message.parts);
    let calls = parts().filter_map(|part| match part {
        Part::ToolCall { id, .. } => Some(id),
        _ => None,
    });
    let results = parts().filter_map(|part| match part {
        Part::ToolResult { id, .. } => Some(id),
        _ => None,
    });
    assert_eq!(calls.collect::<Vec<_>>(), results.collect::<Vec<_>>());
}
