//! Messages of rejected requests: each value of the largest requests of every caller dialect and form, replaced
//! by a value of every JSON type, and values outside their ranges.
//!
//! Whatever is rejected is the caller's fault and names the member by its path. No message may repeat a value or
//! the words of a parser.

use serde_json::{Value, json};
use streamgate::wire::chat::{ApiError, Kind};
use streamgate::wire::dialect::{
    CallerDialect, DIALECTS, Dialect, Form, Operation, Quirks, RequestView, Target, by_name,
    caller_dialects,
};
use streamgate::wire::json::replace_lone_surrogates;
use streamgate::wire::{ranges, refusal};

use crate::support::gateway::{Gateway, yaml};
use crate::support::upstream::{Step, Upstream};
use crate::support::written;
use crate::wrong_types::{largest, places, with};

/// A value that no message may repeat.
const SECRET: &str = "sk-secret value";

/// Words of the parser and of Rust, which say nothing to a caller.
const FOREIGN: &[&str] = &[
    "untagged",
    "variant",
    "invalid type",
    "invalid value",
    "invalid length",
    "expected",
    "at line",
    "struct ",
    "a sequence",
    "integer `",
    "u64",
    "u32",
    "i64",
    "f64",
    "wrong type",
    "Option",
    "newtype",
    SECRET,
];

/// A value of each JSON type; the texts are no word that any member takes.
fn values() -> Vec<String> {
    let secret = json!(SECRET).to_string();
    let plain =
        ["null", "true", "0", "-1", "1.5", "1e400", "[]", "{}", "[7]", "[null]", "[{}]", r#""""#];
    let nested = [
        format!("[{secret}]"),
        format!(r#"{{"type":{secret}}}"#),
        format!(r#"[{{"type":{secret}}}]"#),
        secret,
    ];
    plain.map(str::to_owned).into_iter().chain(nested).collect()
}

/// Chats with members that the largest ones lack: a dialect, a form of it and a body.
fn more_chats() -> Vec<(&'static str, Form, Value)> {
    let function = json!({ "name": "f", "description": "d", "parameters": {}, "strict": true });
    let named = json!({ "type": "function", "function": { "name": "f" } });
    let hi = json!([{ "role": "user", "content": "hi" }]);
    vec![
        (
            "openai-chat",
            Form::Chat,
            json!({
                "model": "m", "functions": [function], "function_call": { "name": "f" }, "prompt_cache_key": "k",
                "web_search_options": { "search_context_size": "low",
                    "user_location": { "type": "approximate", "approximate": { "country": "DE" } } },
                "tools": [named, { "type": "custom", "custom": { "name": "c", "description": "d",
                    "format": { "type": "grammar", "grammar": { "syntax": "lark", "definition": "x" } } } }],
                "tool_choice": named,
                "messages": [
                    { "role": "system", "content": "s", "cache_control": { "type": "ephemeral", "ttl": "1h" } },
                    { "role": "user", "content": [
                        { "type": "input_audio", "input_audio": { "data": "AAAA", "format": "wav" } },
                        { "type": "text", "text": "t", "cache_control": { "type": "ephemeral" } }] },
                    { "role": "assistant",
                        "tool_calls": [{ "id": "1", "type": "custom", "custom": { "name": "c", "input": "x" } }] },
                    { "role": "tool", "tool_call_id": "1", "content": "r" }],
            }),
        ),
        (
            "openai-chat",
            Form::Chat,
            json!({ "model": "m", "messages": hi, "tools": [named],
            "tool_choice": { "type": "allowed_tools", "allowed_tools": { "mode": "auto", "tools": [named] } } }),
        ),
    ]
}

/// Requests of the other forms.
fn more_forms() -> Vec<(&'static str, Form, Value)> {
    let hi = json!([{ "role": "user", "content": "hi" }]);
    let contents = json!([{ "role": "user", "parts": [{ "text": "a" }] }]);
    vec![
        (
            "openai-chat",
            Form::Embeddings,
            json!({ "model": "m", "input": ["a"], "dimensions": 8, "encoding_format": "float", "user": "u" }),
        ),
        (
            "openai-responses",
            Form::CountTokens,
            json!({ "model": "m", "instructions": "s", "input": "a" }),
        ),
        (
            "anthropic",
            Form::CountTokens,
            json!({ "model": "m", "system": "s", "messages": hi,
            "tools": [{ "name": "f", "input_schema": {} }] }),
        ),
        ("gemini", Form::CountTokens, json!({ "contents": contents })),
        (
            "gemini",
            Form::CountTokens,
            json!({ "generateContentRequest": { "contents": contents } }),
        ),
        (
            "gemini",
            Form::Embedding,
            json!({ "content": contents[0], "taskType": "CLUSTERING", "title": "t",
            "outputDimensionality": 8 }),
        ),
        ("gemini", Form::Embeddings, json!({ "requests": [{ "content": contents[0] }] })),
        (
            "ollama",
            Form::Generate,
            json!({ "model": "m", "prompt": "a", "system": "s", "suffix": "", "format": "json",
            "images": ["iVBORw0KGgo="], "raw": false, "stream": true, "think": false,
            "options": { "num_predict": 4 } }),
        ),
        (
            "ollama",
            Form::Embeddings,
            json!({ "model": "m", "input": ["a"], "dimensions": 8, "truncate": true }),
        ),
        ("ollama", Form::Embedding, json!({ "model": "m", "prompt": "a" })),
        (
            "cohere",
            Form::Embeddings,
            json!({ "model": "m", "texts": ["a"], "input_type": "search_query",
            "embedding_types": ["float"], "output_dimension": 8, "truncate": "END" }),
        ),
        (
            "cohere",
            Form::Embeddings,
            json!({ "model": "m", "input_type": "search_query",
            "inputs": [{ "content": [{ "type": "text", "text": "a" }] }] }),
        ),
    ]
}

/// The defect of a rejection, if there is one. `usual`: rejections of the request as it was.
fn flaw(fault: ApiError, place: &str, usual: &[ApiError]) -> Option<String> {
    let elsewhere = usual.contains(&fault);
    let fault = fault.named();
    let param = fault.param.as_deref().unwrap_or_default();
    let root = |path: &str| path.split(['.', '[', '/']).next().unwrap_or_default().to_owned();
    // Members that a request may have instead of each other.
    let instead = ["max_tokens", "texts", "inputs", "tools", "tool_choice", "messages", "contents"];
    let flawed = if fault.kind != Kind::Invalid {
        "the caller is not to blame"
    } else if param.is_empty() || !fault.message.contains(&format!("`{param}`")) {
        "the message does not name the member"
    } else if root(param) != root(place.trim_start_matches('/'))
        && !instead.contains(&root(param).as_str())
        && !elsewhere
    {
        "it names another member"
    } else if FOREIGN.iter().any(|word| fault.message.contains(word)) {
        "the message repeats what it should not"
    } else {
        return None;
    };
    Some(format!("{flawed}: {fault:?}"))
}

fn gemini_method(form: Form) -> &'static str {
    match form {
        Form::CountTokens => "countTokens",
        Form::Embedding => "embedContent",
        Form::Embeddings => "batchEmbedContents",
        _ => "generateContent",
    }
}

/// Reads and writes a request as the gateway does, towards an upstream of the same dialect and of another one.
fn rejections(
    (caller, form): (&dyn CallerDialect, Form),
    body: &str,
    other: &dyn Dialect,
) -> Vec<ApiError> {
    let name = caller.name();
    let path = match name {
        "gemini" => format!("/v1beta/models/m:{}", gemini_method(form)),
        _ => caller
            .endpoints()
            .iter()
            .find(|endpoint| endpoint.form == form)
            .unwrap()
            .path
            .to_owned(),
    };
    let quirks = Quirks::default();
    let target = Target { model: "m", stream: true, form, quirks: &quirks };
    let asked = RequestView { form, path: &path, query: "", body };
    let edited = by_name(name).unwrap().edit_request(body, &target).map(drop);
    let body = replace_lone_surrogates(body);
    let translated = if form.operation() == Operation::Embeddings {
        let read = caller.decode_embeddings(form, &body);
        read.and_then(|request| ranges::check_embeddings(&request, name, &body))
    } else {
        caller.decode_request(form, &body).and_then(|mut request| {
            ranges::check(&request, name, &body)?;
            let target = Target { form: Form::Chat, ..target };
            let written = written(&mut request, other, &target);
            written.map(drop).map_err(|fault| refusal::told(fault, &request, caller))
        })
    };
    let results = [caller.envelope(&asked).map(drop), edited, translated];
    results.into_iter().filter_map(Result::err).collect()
}

#[test]
fn a_rejection_names_the_member_and_repeats_nothing() {
    let values = values();
    let mut flaws = Vec::new();
    let mut rejected = 0;
    for caller in caller_dialects() {
        let name = caller.name();
        let more =
            more_chats().into_iter().chain(more_forms()).filter(|(dialect, ..)| *dialect == name);
        let more = more.map(|(_, form, body)| (form, body));
        let others = DIALECTS.iter().filter(|other| other.name() != name);
        for (form, request) in [(Form::Chat, largest(name))].into_iter().chain(more) {
            let asked = request.to_string();
            let usual = others.clone().flat_map(|other| rejections((caller, form), &asked, *other));
            let usual: Vec<ApiError> = usual.collect();
            let mut others = others.clone().cycle();
            let mut all = Vec::new();
            places(&request, "", &mut all);
            for place in &all {
                for value in &values {
                    let body = with(&request, place, value);
                    let faults = rejections((caller, form), &body, *others.next().unwrap());
                    rejected += faults.len();
                    let flawed = faults.into_iter().filter_map(|fault| flaw(fault, place, &usual));
                    flaws.extend(
                        flawed.map(|flaw| format!("{name} {form:?} {place} = {value}: {flaw}")),
                    );
                }
            }
        }
    }
    assert!(rejected > 3000, "{rejected}");
    assert!(flaws.is_empty(), "{} flaws:\n{}", flaws.len(), flaws.join("\n"));
}

/// Alternative forms that vendors accept are no reason to reject a request.
#[test]
fn numbers_are_read_as_vendors_read_them() {
    let read = |name: &str, body: Value| {
        let caller = caller_dialects().find(|caller| caller.name() == name).unwrap();
        caller.decode_request(Form::Chat, &body.to_string())
    };
    let hi = json!([{ "role": "user", "content": "hi" }]);
    let chat =
        json!({ "messages": hi, "max_tokens": 100.0, "n": 1.0, "seed": -3.0, "top_logprobs": 2e0 });
    let request = read("openai-chat", chat).unwrap();
    let found = (request.max_tokens, request.n, request.seed, request.top_logprobs);
    assert_eq!(found, (Some(100), Some(1), Some(-3), Some(2)));
    let request = read("anthropic", json!({ "messages": hi, "max_tokens": 64.0, "top_k": 5.0 }));
    assert_eq!(request.map(|request| (request.max_tokens, request.top_k)), Ok((Some(64), Some(5))));
    let config = json!({ "maxOutputTokens": "64", "temperature": "0.5", "candidateCount": "1", "topK": 40.0 });
    let contents = json!([{ "parts": [{ "text": "hi" }] }]);
    let request =
        read("gemini", json!({ "contents": contents, "generationConfig": config })).unwrap();
    let found = (request.max_tokens, request.temperature, request.n, request.top_k);
    assert_eq!(found, (Some(64), Some(0.5), Some(1), Some(40)));
}

/// A path, a body but for its model, the member that is named and what it must be.
const WRONG: &[(&str, &str, &str, &str)] = &[
    ("/v1/chat/completions", r#"{"n":0}"#, "n", "must be 1 or more"),
    ("/v1/chat/completions", r#"{"max_tokens":0}"#, "max_tokens", "must be 1 or more"),
    (
        "/v1/chat/completions",
        r#"{"max_tokens":-1}"#,
        "max_tokens",
        "must be a whole number, not negative",
    ),
    ("/v1/chat/completions", r#"{"temperature":"hot"}"#, "temperature", "must be a number"),
    ("/v1/chat/completions", r#"{"temperature":3}"#, "temperature", "must be from 0 to 2"),
    ("/v1/chat/completions", r#"{"top_p":7}"#, "top_p", "must be from 0 to 1"),
    (
        "/v1/chat/completions",
        r#"{"presence_penalty":-3}"#,
        "presence_penalty",
        "must be from -2 to 2",
    ),
    ("/v1/chat/completions", r#"{"stop":5}"#, "stop", "must be a string or"),
    ("/v1/chat/completions", r#"{"stop":[1]}"#, "stop[0]", "must be a string"),
    ("/v1/chat/completions", r#"{"stop":{}}"#, "stop", "must be a string or"),
    (
        "/v1/chat/completions",
        r#"{"reasoning_effort":"huge"}"#,
        "reasoning_effort",
        "must be one of `none`",
    ),
    ("/v1/chat/completions", r#"{"tools":[[]]}"#, "tools[0]", "must be an object"),
    (
        "/v1/chat/completions",
        r#"{"function_call":7}"#,
        "function_call",
        "must be \"none\", \"auto\" or",
    ),
    ("/v1/chat/completions", r#"{"messages":[["user","hi"]]}"#, "messages[0]", "must be an object"),
    ("/v1/responses", r#"{"max_output_tokens":0}"#, "max_output_tokens", "must be 1 or more"),
    (
        "/v1/responses",
        r#"{"reasoning":{"effort":"huge"}}"#,
        "reasoning.effort",
        "must be one of `none`",
    ),
    ("/v1/embeddings", r#"{"dimensions":0}"#, "dimensions", "must be 1 or more"),
    ("/v1/messages", r#"{"temperature":3}"#, "temperature", "must be from 0 to 2"),
    ("/v1/messages", r#"{"thinking":[]}"#, "thinking", "must be an object"),
    (
        "/v1/messages",
        r#"{"messages":[{"role":7,"content":"hi"}]}"#,
        "messages[0].role",
        "must be one of `system`",
    ),
    ("/v2/chat", r#"{"p":7}"#, "p", "must be from 0 to 1"),
    (
        "/v1/chat/completions",
        r#"{"tools":[{"type":"function","function":{"name":"f","parameters":7}}]}"#,
        "tools[0].function.parameters",
        "must be an object",
    ),
    (
        "/v1/responses",
        r#"{"tools":[{"type":"function","name":"f","parameters":"x"}]}"#,
        "tools[0].parameters",
        "must be an object",
    ),
    (
        "/v1/messages",
        r#"{"tools":[{"name":"f","input_schema":[]}]}"#,
        "tools[0].input_schema",
        "must be an object",
    ),
];

#[tokio::test]
async fn values_outside_their_ranges_are_rejected_in_the_callers_dialect() {
    let upstream = Upstream::new(vec![Step::Hang]).await;
    let url = &upstream.url;
    let more = format!("  oll: {{ dialect: ollama, base_url: \"{url}\" }}\n");
    let gateway = Gateway::new(&yaml(url, url, &more)).await;
    for (path, wrong, param, expected) in WRONG {
        let hi = json!([{ "role": "user", "content": "hi" }]);
        let model = if path.ends_with("embeddings") {
            "oll/m"
        } else if path.contains("messages") {
            "oai/m"
        } else {
            "ant/m"
        };
        let mut body = match *path {
            "/v1/responses" | "/v1/embeddings" => json!({ "model": model, "input": "hi" }),
            _ => json!({ "model": model, "messages": hi, "max_tokens": 9 }),
        };
        let wrong: Value = serde_json::from_str(wrong).unwrap();
        body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let response = gateway.post(path, &body.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 400, "{path} {wrong}");
        let error: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        let message =
            if *path == "/v2/chat" { &error["message"] } else { &error["error"]["message"] };
        let told = format!("`{param}` {expected}");
        assert!(message.as_str().unwrap().contains(&told), "{path} {wrong}: {error}");
        if ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"].contains(path) {
            assert_eq!(error["error"]["param"], *param, "{path} {wrong}: {error}");
        }
    }
}
