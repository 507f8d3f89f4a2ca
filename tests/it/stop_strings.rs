//! Stop strings before upstreams that do not take them, HTTP to HTTP: callers of every dialect get the answer
//! up to the first one, and the upstream is let go. No test here may depend on how the upstream ends.

use serde_json::{Value, json};

use crate::answers::sse;
use crate::streaming::record;
use crate::support::gateway::{Gateway, KEY, Log, hex};
use crate::support::language::{Ask, LANGUAGES, Language};
use crate::support::upstream::{Step, Upstream};
use crate::support::{Ended, View};

/// The callers that can ask for it, and where.
const CALLERS: [(&str, &str); 5] = [
    ("openai-chat", "/stop"),
    ("anthropic", "/stop_sequences"),
    ("gemini", "/generationConfig/stopSequences"),
    ("ollama", "/options/stop"),
    ("cohere", "/stop_sequences"),
];

fn language(name: &str) -> &'static Language {
    LANGUAGES.iter().find(|language| language.name == name).expect("a reader")
}

async fn gateway(dialect: &str, script: Vec<Step>) -> (Upstream, Gateway) {
    let upstream = Upstream::new(script).await;
    let yaml = format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {} }}\nproviders:\n  p: {{ dialect: {dialect}, base_url: \"{}/v1\", api_key: up-canary }}\n",
        hex(&streamgate::config::digest(KEY)),
        upstream.url,
    );
    let gateway = Gateway::new(&yaml).await;
    (upstream, gateway)
}

/// A Responses stream that says these fragments, then `rest`.
fn said(fragments: &[&str], rest: Vec<Step>) -> Vec<Step> {
    let mut events = vec![
        json!({ "type": "response.created", "response": { "id": "resp_1", "object": "response", "model": "m", "status": "in_progress", "output": [] } }),
        json!({ "type": "response.output_item.added", "output_index": 0, "item": { "type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": [] } }),
        json!({ "type": "response.content_part.added", "item_id": "msg_1", "output_index": 0, "content_index": 0, "part": { "type": "output_text", "text": "", "annotations": [] } }),
    ];
    events.extend(fragments.iter().map(|text| {
        json!({ "type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": text })
    }));
    let events = sse(&events);
    [vec![Step::Sse, Step::Chunk(events)], rest].concat()
}

fn request(
    caller: &str,
    place: &str,
    stream: bool,
    model: &str,
    strings: &Value,
) -> (String, Value) {
    let ask = Ask { model: format!("p/{model}"), stream, ..Ask::default() };
    let language = language(caller);
    let mut body = (language.request)(&ask);
    let mut member = &mut body;
    for name in place.trim_start_matches('/').split('/') {
        member = &mut member[name];
    }
    *member = strings.clone();
    ((language.path)(&ask), body)
}

fn read(caller: &str, stream: bool, bytes: &[u8]) -> View {
    let language = language(caller);
    let view = if stream { (language.stream)(bytes, true) } else { (language.answer)(bytes) };
    view.unwrap_or_else(|error| panic!("{caller}: {error}: {}", String::from_utf8_lossy(bytes)))
}

const FRAGMENTS: [&str; 4] = ["Thought: go on\nOb", "serve\nObs", "ervation", ": 7\nAnswer"];

/// The upstream never ends its answer, and is let go all the same.
#[tokio::test]
async fn every_caller_gets_the_answer_up_to_the_stop_string() {
    for (caller, place) in CALLERS {
        for stream in [true, false] {
            let log = Log::default();
            let _capture = log.capture();
            let (upstream, gateway) =
                gateway("openai-responses", said(&FRAGMENTS, vec![Step::Hang])).await;
            let strings = json!(["Observation:", "Final"]);
            let (path, body) = request(caller, place, stream, "m", &strings);
            let response = gateway.post(&path, &body.to_string()).send().await.unwrap();
            assert_eq!(response.status(), 200, "{caller}");
            assert!(!response.headers().contains_key("x-streamgate-dropped"), "{caller}");
            let bytes = response.bytes().await.unwrap();
            let view = read(caller, stream, &bytes);
            assert_eq!(view.choices[&0].text, "Thought: go on\nObserve\n", "{caller} {stream}");
            let word = (language(caller).stop)("stop_sequence");
            assert_eq!(view.choices[&0].stop.as_deref(), Some(word), "{caller} {stream}");
            assert_eq!(view.ended, Ended::Complete, "{caller} {stream}");
            let text = String::from_utf8_lossy(&bytes);
            let named = text.contains(r#""stop_sequence":"Observation:""#);
            assert_eq!(named, caller == "anthropic", "{text}");
            upstream.all_closed().await;
            let sent: Value = serde_json::from_slice(&upstream.requests().await[0].body).unwrap();
            assert!(!sent.to_string().contains("Observation:"), "{sent}");
            let record = record(&gateway, &log).await;
            assert_eq!(
                (&record["outcome"], &record["estimated"]),
                (&json!("complete"), &json!(true))
            );
            // At least a token for each fragment of the upstream's.
            let written: usize = FRAGMENTS.iter().map(|text| text.len()).sum();
            assert_eq!(record["output_tokens"], written.div_ceil(4), "{record}");
            let usage = view.usage.expect("usage");
            assert_eq!(
                usage.output,
                record["output_tokens"].as_u64().unwrap(),
                "{caller} {stream}"
            );
            assert_eq!(usage.input, record["input_tokens"].as_u64().unwrap(), "{caller} {stream}");
            assert!(usage.input > 0, "{caller}");
        }
    }
}

/// Text that was held back is not lost: the answer ends by itself, breaks off, or fails.
#[tokio::test]
async fn text_that_is_held_back_is_written_when_the_answer_ends_otherwise() {
    let completed = json!({ "type": "response.completed", "response": { "id": "resp_1", "object": "response", "model": "m",
        "status": "completed", "output": [], "usage": { "input_tokens": 5, "output_tokens": 6, "total_tokens": 11 } } });
    let failed = json!({ "type": "response.failed", "response": { "id": "resp_1", "object": "response", "model": "m",
        "status": "failed", "output": [], "error": { "code": "server_error", "message": "boom" } } });
    for (caller, place) in CALLERS {
        for (end, complete) in [
            (vec![Step::Chunk(sse(std::slice::from_ref(&completed))), Step::End], true),
            (vec![Step::Chunk(sse(std::slice::from_ref(&failed))), Step::End], false),
            (vec![Step::End], false),
        ] {
            let (_upstream, gateway) =
                gateway("openai-responses", said(&["One. Obs", "erv"], end)).await;
            let (path, body) = request(caller, place, true, "m", &json!(["Observation:"]));
            let response = gateway.post(&path, &body.to_string()).send().await.unwrap();
            let (bytes, _cut) = crate::support::received(response).await;
            let view = read(caller, true, &bytes);
            assert_eq!(view.choices[&0].text, "One. Observ", "{caller}");
            assert_eq!(view.ended == Ended::Complete, complete, "{caller}: {view:?}");
            let word = complete.then(|| (language(caller).stop)("end"));
            assert_eq!(view.choices[&0].stop.as_deref().filter(|_| complete), word, "{caller}");
        }
    }
}

#[tokio::test]
async fn alternatives_end_one_by_one_before_a_reasoning_model() {
    let chunk = |index: usize, text: &str| {
        json!({ "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini",
            "choices": [{ "index": index, "delta": { "content": text }, "finish_reason": null }] })
    };
    let chunks = [
        chunk(0, "first\nE"),
        chunk(1, "second"),
        chunk(0, "ND hidden"),
        chunk(1, " goes EN"),
        chunk(0, "more"),
        chunk(1, "ON. END"),
        chunk(1, "END"),
    ];
    for stream in [true, false] {
        let script = vec![Step::Sse, Step::Chunk(sse(&chunks)), Step::Hang];
        let (upstream, gateway) = gateway("openai-chat", script).await;
        let place = "/generationConfig/stopSequences";
        let (path, mut body) = request("gemini", place, stream, "gpt-5-mini", &json!(["END"]));
        body["generationConfig"]["candidateCount"] = json!(2);
        let response = gateway.post(&path, &body.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let view = read("gemini", stream, &response.bytes().await.unwrap());
        let texts: Vec<&str> = view.choices.values().map(|choice| choice.text.as_str()).collect();
        assert_eq!(texts, ["first\n", "second goes ENON. "]);
        assert!(view.choices.values().all(|choice| choice.stop.as_deref() == Some("STOP")));
        assert_eq!(view.ended, Ended::Complete);
        upstream.all_closed().await;
        let sent: Value = serde_json::from_slice(&upstream.requests().await[0].body).unwrap();
        assert_eq!((&sent["stop"], &sent["n"]), (&Value::Null, &json!(2)), "{sent}");
    }
}

/// A whole answer, though a stream was asked for, is cut in the same way, and its upstream's count is told.
#[tokio::test]
async fn a_whole_answer_is_cut_too() {
    let part =
        json!({ "type": "output_text", "text": "one, two END three END", "annotations": [] });
    let whole = json!({ "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed",
        "output": [{ "type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part] }],
        "usage": { "input_tokens": 5, "output_tokens": 6, "total_tokens": 11 } });
    for (caller, place) in CALLERS {
        for stream in [true, false] {
            let head = "content-type: application/json\r\n";
            let script = vec![Step::Whole(200, head, whole.to_string().into_bytes())];
            let (_upstream, gateway) = gateway("openai-responses", script).await;
            let (path, body) = request(caller, place, stream, "m", &json!(["END"]));
            let response = gateway.post(&path, &body.to_string()).send().await.unwrap();
            let view = read(caller, stream, &response.bytes().await.unwrap());
            assert_eq!(view.choices[&0].text, "one, two ", "{caller} {stream}");
            let word = (language(caller).stop)("stop_sequence");
            assert_eq!(view.choices[&0].stop.as_deref(), Some(word), "{caller} {stream}");
            let usage = view.usage.expect("usage");
            assert_eq!((usage.input, usage.output), (5, 6), "{caller} {stream}");
        }
    }
}

/// Callers of the same dialect get what their vendor says, a refusal too.
#[tokio::test]
async fn nothing_is_cut_in_the_same_dialect() {
    let whole = json!({ "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-5-mini",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "a END b" }, "finish_reason": "stop" }] });
    let head = "content-type: application/json\r\n";
    let script = vec![Step::Whole(200, head, whole.to_string().into_bytes())];
    let (upstream, gateway) = gateway("openai-chat", script).await;
    let (path, body) = request("openai-chat", "/stop", false, "gpt-5-mini", &json!(["END"]));
    let response = gateway.post(&path, &body.to_string()).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), whole.to_string());
    let sent: Value = serde_json::from_slice(&upstream.requests().await[0].body).unwrap();
    assert_eq!(sent["stop"], json!(["END"]));
}
