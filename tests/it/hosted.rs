//! Hosted tools over HTTP: a search that one vendor makes for the callers of another, streamed and whole,
//! and what the operator says of such tools.

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, KEY, hex};
use crate::support::upstream::{Step, Upstream};

/// A gateway in front of one upstream, which always gives this answer; `more`: fields of its provider.
async fn gateway(more: &str, stream: String) -> (Upstream, Gateway) {
    let upstream = Upstream::new(vec![Step::Sse, Step::chunk(&stream), Step::End]).await;
    let yaml = format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {} }}\nproviders:\n  p: {{ base_url: \"{}/v1\", api_key: up-canary, {more} }}\n\
         models:\n  aimed: {{ targets: [{{ provider: p, model: m, hosted_tools: drop }}] }}\n",
        hex(&streamgate::config::digest(KEY)),
        upstream.url,
    );
    let gateway = Gateway::new(&yaml).await;
    (upstream, gateway)
}

async fn sent(upstream: &Upstream) -> Value {
    let requests = upstream.requests().await;
    serde_json::from_slice(&requests.last().expect("a request").body).expect("JSON")
}

/// Events, each named by its type.
fn named(events: &[Value]) -> String {
    let event = |event: &Value| {
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type"))
    };
    events.iter().map(event).collect()
}

/// Where the page is that the search found, and its title.
const PAGE: (&str, &str) = ("https://example.org/r", "R");

/// A search for "rust 2026" that found one page, and a text that cites it, as each vendor streams it.
fn answer(dialect: &str) -> String {
    match dialect {
        "openai-responses" => responses(),
        "anthropic" => messages(),
        _ => chunks(),
    }
}

fn responses() -> String {
    let (url, title) = PAGE;
    let action = json!({ "type": "search", "query": "rust 2026", "sources": [{ "type": "url", "url": url }] });
    let call =
        json!({ "id": "ws_1", "type": "web_search_call", "status": "completed", "action": action });
    let source = json!({ "type": "url_citation", "start_index": 0, "end_index": 5, "url": url, "title": title });
    let part = json!({ "type": "output_text", "text": "Found", "annotations": [source] });
    let message = json!({ "id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part] });
    named(&[
        json!({ "type": "response.created", "response": { "id": "resp_1", "model": "m" } }),
        json!({ "type": "response.output_item.added", "output_index": 0,
                    "item": { "id": "ws_1", "type": "web_search_call", "status": "in_progress" } }),
        json!({ "type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws_1" }),
        json!({ "type": "response.output_item.done", "output_index": 0, "item": call }),
        json!({ "type": "response.output_item.done", "output_index": 1, "item": message }),
        json!({ "type": "response.completed", "response": { "id": "resp_1", "status": "completed",
                    "output": [], "usage": { "input_tokens": 1, "output_tokens": 1 } } }),
    ])
}

fn messages() -> String {
    let (url, title) = PAGE;
    let found = json!([{ "type": "web_search_result", "url": url, "title": title, "encrypted_content": "e" }]);
    let source = json!({ "type": "web_search_result_location", "url": url, "title": title,
                "cited_text": "c", "encrypted_index": "i" });
    let start = |index: u32, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
    let delta = |index: u32, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
    let stop = |index: u32| json!({ "type": "content_block_stop", "index": index });
    named(&[
        json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message", "role": "assistant",
                    "model": "m", "content": [], "usage": { "input_tokens": 1, "output_tokens": 1 } } }),
        start(
            0,
            json!({ "type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {} }),
        ),
        delta(0, json!({ "type": "input_json_delta", "partial_json": "{\"query\": \"rust" })),
        delta(0, json!({ "type": "input_json_delta", "partial_json": " 2026\"}" })),
        stop(0),
        start(
            1,
            json!({ "type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": found }),
        ),
        stop(1),
        start(2, json!({ "type": "text", "text": "" })),
        delta(2, json!({ "type": "text_delta", "text": "Found" })),
        delta(2, json!({ "type": "citations_delta", "citation": source })),
        stop(2),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 9 } }),
        json!({ "type": "message_stop" }),
    ])
}

fn chunks() -> String {
    let (url, title) = PAGE;
    let grounding = json!({ "webSearchQueries": ["rust 2026"],
                "groundingChunks": [{ "web": { "uri": url, "title": title } }],
                "groundingSupports": [{ "segment": { "startIndex": 0, "endIndex": 5, "text": "Found" }, "groundingChunkIndices": [0] }] });
    let chunk = |text: &str, more: Value| {
        let mut candidate =
            json!({ "content": { "role": "model", "parts": [{ "text": text }] }, "index": 0 });
        for (name, value) in more.as_object().expect("members") {
            candidate[name] = value.clone();
        }
        let usage =
            json!({ "promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2 });
        let chunk = json!({ "candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r" });
        format!("data: {chunk}\r\n\r\n")
    };
    chunk("Fou", json!({ "groundingMetadata": {} }))
        + &chunk("nd", json!({ "finishReason": "STOP", "groundingMetadata": grounding }))
}

/// A question that wants a search, where it is posted to, and how.
fn question(caller: &str, stream: bool) -> (String, Value) {
    match caller {
        "anthropic" => (
            "/v1/messages".to_owned(),
            json!({ "model": "p/m", "max_tokens": 99, "stream": stream, "messages": [{ "role": "user", "content": "q" }],
                "tools": [{ "type": "web_search_20250305", "name": "web_search", "max_uses": 8 }] }),
        ),
        "openai-responses" => (
            "/v1/responses".to_owned(),
            json!({ "model": "p/m", "stream": stream, "input": "q", "tools": [{ "type": "web_search" }] }),
        ),
        "openai-chat" => (
            "/v1/chat/completions".to_owned(),
            json!({ "model": "p/m", "stream": stream, "messages": [{ "role": "user", "content": "q" }],
                "web_search_options": {} }),
        ),
        _ => {
            let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            (
                format!("/v1beta/models/p/m:{method}"),
                json!({ "contents": [{ "role": "user", "parts": [{ "text": "q" }] }], "tools": [{ "googleSearch": {} }] }),
            )
        }
    }
}

const CALLERS: [&str; 4] = ["anthropic", "openai-responses", "openai-chat", "gemini"];

/// Members that callers read in an answer with a search.
fn marks(caller: &str, stream: bool) -> &'static [&'static str] {
    match (caller, stream) {
        ("anthropic", true) => &[
            r#""type":"server_tool_use","id":"srvtoolu_streamgate1","name":"web_search""#,
            r#""partial_json":"{\"query\":\"rust 2026\"}""#,
            r#""type":"web_search_tool_result","tool_use_id":"srvtoolu_streamgate1","content":[{"type":"web_search_result","url":"https://example.org/r""#,
            r#""type":"web_search_result_location""#,
            r#""server_tool_use":{"web_search_requests":1}"#,
        ],
        ("anthropic", false) => &[
            r#""name":"web_search","input":{"query":"rust 2026"}"#,
            r#""content":[{"type":"web_search_result","url":"https://example.org/r""#,
            r#""citations":[{"type":"web_search_result_location""#,
        ],
        ("openai-responses", true) => &[
            "event: response.web_search_call.in_progress",
            "event: response.web_search_call.completed",
            r#""action":{"type":"search","query":"rust 2026","queries":["rust 2026"],"sources":[{"type":"url","url":"https://example.org/r"}]}"#,
            r#""type":"url_citation","start_index":0,"end_index":5,"url":"https://example.org/r","title":"R""#,
        ],
        ("openai-responses", false) => &[
            r#""type":"web_search_call","status":"completed","action":{"type":"search","query":"rust 2026""#,
            r#""annotations":[{"type":"url_citation","start_index":0,"end_index":5,"url":"https://example.org/r","title":"R"}]"#,
        ],
        ("openai-chat", _) => &[r#""type":"url_citation""#, r#""url":"https://example.org/r""#],
        _ => &[
            r#""groundingChunks":[{"web":{"uri":"https://example.org/r","title":"R"}}]"#,
            r#""webSearchQueries":["rust 2026"]"#,
            r#""segment":{"startIndex":0,"endIndex":5,"text":"Found"}"#,
        ],
    }
}

#[tokio::test]
async fn every_caller_sees_the_search_of_every_vendor() {
    for (dialect, tool) in [
        ("openai-responses", "\"type\":\"web_search\""),
        ("anthropic", "web_search_20250305"),
        ("gemini", "googleSearch"),
    ] {
        let (upstream, gateway) = gateway(&format!("dialect: {dialect}"), answer(dialect)).await;
        for caller in CALLERS.into_iter().filter(|caller| *caller != dialect) {
            for stream in [true, false] {
                let (path, ask) = question(caller, stream);
                let response = gateway.post(&path, &ask.to_string()).send().await.unwrap();
                let status = response.status();
                let text = response.text().await.unwrap();
                assert_eq!(status, 200, "{caller} of {dialect}: {text}");
                for mark in marks(caller, stream) {
                    assert!(text.contains(mark), "{caller} of {dialect}: no {mark} in {text}");
                }
                let body = sent(&upstream).await;
                assert!(body["tools"].to_string().contains(tool), "{body}");
            }
        }
    }
}

#[tokio::test]
async fn what_was_shown_of_a_search_comes_back() {
    let shown = json!([
        { "type": "server_tool_use", "id": "srvtoolu_streamgate1", "name": "web_search", "input": { "query": "x" } },
        { "type": "web_search_tool_result", "tool_use_id": "srvtoolu_streamgate1",
            "content": [{ "type": "web_search_result", "url": "u", "title": "t", "encrypted_content": "" }] },
        { "type": "text", "text": "Found" },
    ]);
    let ask = json!({ "model": "p/m", "max_tokens": 99, "stream": true, "messages": [
        { "role": "user", "content": "q" }, { "role": "assistant", "content": shown }, { "role": "user", "content": "and" } ] });
    for (dialect, place) in [
        ("anthropic", "/messages/1/content"),
        ("gemini", "/contents/1/parts"),
        ("openai-responses", "/input/1/content"),
    ] {
        let (upstream, gateway) = gateway(&format!("dialect: {dialect}"), answer(dialect)).await;
        let response = gateway.post("/v1/messages", &ask.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200, "{dialect}");
        let body = sent(&upstream).await;
        let content = body.pointer(place).and_then(Value::as_array).expect(dialect);
        assert_eq!((content.len(), &content[0]["text"]), (1, &json!("Found")), "{body}");
    }
}

#[tokio::test]
async fn dropped_hosted_tools_are_named_or_rejected() {
    let done = json!({ "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": { "content": "hi" }, "finish_reason": "stop" }] });
    let stream = format!("data: {done}\n\ndata: [DONE]\n\n");
    let (upstream, gateway) = gateway("dialect: openai-chat", stream).await;
    let mut ask = json!({ "model": "p/m", "stream": true, "input": "q", "tools": [
        { "type": "function", "name": "f", "parameters": { "type": "object", "properties": {} } },
        { "type": "web_search", "external_web_access": false } ] });
    let response = gateway.post("/v1/responses", &ask.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-streamgate-dropped"], "tools[1] web_search");
    assert_eq!(sent(&upstream).await["tools"].as_array().map(Vec::len), Some(1));
    let strict =
        gateway.post("/v1/responses", &ask.to_string()).header("streamgate-strict", "true");
    let response = strict.send().await.unwrap();
    assert_eq!(response.status(), 400);
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["error"]["param"], "tools[1]", "{body}");

    ask["tools"] = json!([{ "type": "web_search" }]);
    let response = gateway.post("/v1/responses", &ask.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 400);
    let text = response.text().await.unwrap();
    assert!(text.contains("`tools[0]` is a hosted tool `web_search`"), "{text}");
    ask["model"] = json!("aimed");
    let response = gateway.post("/v1/responses", &ask.to_string()).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-streamgate-dropped"]),
        (200, &"tools[0] web_search".parse().unwrap())
    );
}

/// Proxies refuse large heads.
#[tokio::test]
async fn a_long_list_of_what_is_left_out_is_summed_up() {
    let done = json!({ "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": { "content": "hi" }, "finish_reason": "stop" }] });
    let stream = format!("data: {done}\n\ndata: [DONE]\n\n");
    let (_upstream, gateway) = gateway("dialect: openai-chat", stream).await;
    let mut tools = vec![json!({ "type": "mcp", "server_label": "s" }); 1000];
    tools.push(json!({ "type": "function", "name": "f", "parameters": {} }));
    let ask = json!({ "model": "p/m", "stream": true, "input": "q", "tools": tools });
    let response = gateway.post("/v1/responses", &ask.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let named = response.headers()["x-streamgate-dropped"].to_str().unwrap();
    assert!(named.starts_with("tools[0] mcp, tools[1] mcp, "), "{named}");
    let (listed, rest) = named.rsplit_once(", and ").unwrap();
    let listed = listed.split(", ").count();
    assert_eq!(rest, format!("{} more", 1000 - listed));
    assert!((2048..2100).contains(&named.len()), "{}", named.len());
}

/// Other spellings that a server might accept are rejected, or the tool would get through.
#[tokio::test]
async fn tools_in_another_spelling_do_not_get_through() {
    let tools = r#"[{"type":"web_search"}]"#;
    for (setting, body, named) in [
        ("drop", format!(r#"{{"model":"p/m","input":"q","Tools":{tools}}}"#), "Tools"),
        ("drop", format!(r#"{{"model":"p/m","input":"q","tools":[],"tools":{tools}}}"#), "tools"),
        ("refuse", format!(r#"{{"model":"p/m","input":"q","TOOLS":{tools}}}"#), "TOOLS"),
    ] {
        let more = format!("dialect: openai-responses, hosted_tools: {setting}");
        let (upstream, gateway) = gateway(&more, answer("openai-responses")).await;
        let response = gateway.post("/v1/responses", &body).send().await.unwrap();
        assert_eq!(response.status(), 400, "{body}");
        let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(answer["error"]["param"], named, "{answer}");
        assert!(upstream.requests().await.is_empty());
    }
}

#[tokio::test]
async fn the_operator_decides_for_callers_of_the_same_dialect() {
    let ask = json!({ "model": "p/m", "stream": true, "input": "q", "tools": [{ "type": "web_search" }] });
    for (setting, status, left) in [("map", 200, true), ("drop", 200, false), ("refuse", 400, true)]
    {
        let more = format!("dialect: openai-responses, hosted_tools: {setting}");
        let (upstream, gateway) = gateway(&more, answer("openai-responses")).await;
        let response = gateway.post("/v1/responses", &ask.to_string()).send().await.unwrap();
        assert_eq!(response.status(), status, "{setting}");
        let named = response.headers().get("x-streamgate-dropped").cloned();
        if status == 400 {
            assert!(upstream.requests().await.is_empty());
            continue;
        }
        assert_eq!(sent(&upstream).await.get("tools").is_some(), left, "{setting}");
        assert_eq!(named, (!left).then(|| "tools[0] web_search".parse().unwrap()), "{setting}");
    }
}
