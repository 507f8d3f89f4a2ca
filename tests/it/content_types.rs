//! Bodies under a wrong `content-type`: every shape in which an upstream answers, under every label, to every
//! caller. It must never ask the gateway's decoders what is right.

use serde_json::{Value, json};

use crate::answers::{chat, chunk, sse};
use crate::support::aws;
use crate::support::gateway::{Gateway, yaml};
use crate::support::language::{Ask, LANGUAGES};
use crate::support::received;
use crate::support::upstream::{Step, Upstream};

/// The labels, none included.
const LABELS: [&str; 8] = [
    "content-type: text/event-stream\r\n",
    "content-type: application/json\r\n",
    "content-type: text/plain; charset=utf-8\r\n",
    "content-type: text/html\r\n",
    "content-type: application/x-ndjson\r\n",
    "content-type: application/octet-stream\r\n",
    "content-type: application/vnd.amazon.eventstream\r\n",
    "",
];

/// A provider and its answers that say `hi`: shape and body.
type Answers = (&'static str, Vec<(&'static str, Vec<u8>)>);

fn lines(values: &[Value]) -> Vec<u8> {
    values.iter().flat_map(|value| [bytes(value), b"\n".to_vec()].concat()).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn openai() -> [Answers; 2] {
    let chunks = [chunk(json!({ "content": "hi" }), None), chunk(json!({}), Some("stop"))];
    let whole = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "hi" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 } });
    let part = json!({ "type": "output_text", "text": "hi", "annotations": [] });
    let item = json!({ "id": "m1", "type": "message", "role": "assistant", "status": "completed",
        "content": [part] });
    let response = json!({ "id": "r1", "object": "response", "created_at": 1, "status": "completed",
        "model": "m", "output": [item], "usage": { "input_tokens": 1, "output_tokens": 1, "total_tokens": 2 } });
    let mut begun = response.clone();
    begun["status"] = json!("in_progress");
    begun["output"] = json!([]);
    let events = [
        json!({ "type": "response.created", "sequence_number": 0, "response": begun }),
        json!({ "type": "response.output_item.added", "sequence_number": 1, "output_index": 0,
            "item": { "id": "m1", "type": "message", "role": "assistant", "status": "in_progress", "content": [] } }),
        json!({ "type": "response.content_part.added", "sequence_number": 2, "item_id": "m1",
            "output_index": 0, "content_index": 0,
            "part": { "type": "output_text", "text": "", "annotations": [] } }),
        json!({ "type": "response.output_text.delta", "sequence_number": 3, "item_id": "m1",
            "output_index": 0, "content_index": 0, "delta": "hi" }),
        json!({ "type": "response.output_text.done", "sequence_number": 4, "item_id": "m1",
            "output_index": 0, "content_index": 0, "text": "hi" }),
        json!({ "type": "response.content_part.done", "sequence_number": 5, "item_id": "m1",
            "output_index": 0, "content_index": 0, "part": part }),
        json!({ "type": "response.output_item.done", "sequence_number": 6, "output_index": 0, "item": item }),
        json!({ "type": "response.completed", "sequence_number": 7, "response": response }),
    ];
    let one = [sse(std::slice::from_ref(&whole)), b"data: [DONE]\n\n".to_vec()].concat();
    [
        (
            "chat",
            vec![
                ("events", chat(&chunks)),
                ("lines", lines(&chunks)),
                ("whole", bytes(&whole)),
                ("whole in an event", one),
                ("whole in a list", bytes(&json!([whole]))),
            ],
        ),
        (
            "resp",
            vec![
                ("events", sse(&events)),
                ("whole", bytes(&response)),
                ("whole in an event", sse(std::slice::from_ref(&response))),
            ],
        ),
    ]
}

fn anthropic() -> [Answers; 2] {
    let whole = json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
        "content": [{ "type": "text", "text": "hi" }], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": 1, "output_tokens": 1 } });
    let events = [
        json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message", "role": "assistant",
            "model": "m", "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": { "input_tokens": 1, "output_tokens": 1 } } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "hi" } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null },
            "usage": { "output_tokens": 1 } }),
        json!({ "type": "message_stop" }),
    ];
    let wrapped = events.iter().flat_map(|event| aws::chunk(&event.to_string())).collect();
    let direct = vec![
        ("events", sse(&events)),
        ("whole", bytes(&whole)),
        ("whole in an event", sse(std::slice::from_ref(&whole))),
    ];
    let hosted = vec![("messages", wrapped), ("events", sse(&events)), ("whole", bytes(&whole))];
    [("anth", direct), ("hosted", hosted)]
}

fn gemini() -> Answers {
    let reply = json!({ "candidates": [{ "index": 0, "finishReason": "STOP",
        "content": { "role": "model", "parts": [{ "text": "hi" }] } }],
        "usageMetadata": { "promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2 } });
    let array = format!("[{}\n]\n", serde_json::to_string_pretty(&reply).expect("JSON"));
    let events = sse(std::slice::from_ref(&reply));
    ("gem", vec![("events", events), ("array", array.into_bytes()), ("whole", bytes(&reply))])
}

fn ollama() -> Answers {
    let begun = json!({ "model": "m", "created_at": "2026-01-01T00:00:00Z", "done": false,
        "message": { "role": "assistant", "content": "hi" } });
    let ended = |text: &str| {
        json!({ "model": "m", "created_at": "2026-01-01T00:00:00Z", "done": true, "done_reason": "stop",
            "message": { "role": "assistant", "content": text }, "prompt_eval_count": 1, "eval_count": 1 })
    };
    let said = [begun, ended("")];
    ("oll", vec![("lines", lines(&said)), ("events", sse(&said)), ("whole", bytes(&ended("hi")))])
}

fn cohere() -> Answers {
    let events = [
        json!({ "type": "message-start", "id": "x", "delta": { "message": { "role": "assistant" } } }),
        json!({ "type": "content-start", "index": 0, "delta": { "message": { "content": { "type": "text", "text": "" } } } }),
        json!({ "type": "content-delta", "index": 0, "delta": { "message": { "content": { "text": "hi" } } } }),
        json!({ "type": "content-end", "index": 0 }),
        json!({ "type": "message-end", "delta": { "finish_reason": "COMPLETE",
            "usage": { "tokens": { "input_tokens": 1, "output_tokens": 1 } } } }),
    ];
    let whole = json!({ "id": "x", "finish_reason": "COMPLETE",
        "message": { "role": "assistant", "content": [{ "type": "text", "text": "hi" }] },
        "usage": { "tokens": { "input_tokens": 1, "output_tokens": 1 } } });
    let one = sse(std::slice::from_ref(&whole));
    ("coh", vec![("events", sse(&events)), ("whole", bytes(&whole)), ("whole in an event", one)])
}

fn bedrock() -> Answers {
    let event = |name: &str, payload: Value| {
        let headers = [(":message-type", "event"), (":event-type", name)];
        aws::message(&headers, &payload.to_string())
    };
    let usage = json!({ "inputTokens": 1, "outputTokens": 1, "totalTokens": 2 });
    let converse = [
        event("messageStart", json!({ "role": "assistant" })),
        event("contentBlockDelta", json!({ "contentBlockIndex": 0, "delta": { "text": "hi" } })),
        event("contentBlockStop", json!({ "contentBlockIndex": 0 })),
        event("messageStop", json!({ "stopReason": "end_turn" })),
        event("metadata", json!({ "usage": usage })),
    ];
    let whole = json!({ "output": { "message": { "role": "assistant", "content": [{ "text": "hi" }] } },
        "stopReason": "end_turn", "usage": usage });
    ("bed", vec![("messages", converse.concat()), ("whole", bytes(&whole))])
}

/// Whether a provider speaks the caller's language.
fn own(provider: &str, language: &str) -> bool {
    match provider {
        "chat" => language == "openai-chat",
        "resp" => language == "openai-responses",
        "hosted" => language == "anthropic",
        name => language.starts_with(name),
    }
}

async fn gateway(upstream: &Upstream) -> Gateway {
    let url = &upstream.url;
    let providers = format!(
        "  chat: {{ dialect: openai-chat, base_url: \"{url}/v1\" }}\n  \
         resp: {{ dialect: openai-responses, base_url: \"{url}/v1\" }}\n  \
         anth: {{ dialect: anthropic, base_url: \"{url}\" }}\n  \
         hosted: {{ dialect: anthropic, hosting: bedrock, base_url: \"{url}\", api_key: sim-key-1 }}\n  \
         gem: {{ dialect: gemini, base_url: \"{url}/v1beta\" }}\n  \
         oll: {{ dialect: ollama, base_url: \"{url}\" }}\n  \
         coh: {{ dialect: cohere, base_url: \"{url}\" }}\n  \
         bed: {{ dialect: bedrock, base_url: \"{url}\", api_key: sim-key-1 }}\nlimits: none\n"
    );
    Gateway::new(&yaml(url, url, &providers)).await
}

#[tokio::test]
async fn every_shape_is_read_under_every_label() {
    let others = [gemini(), ollama(), cohere(), bedrock()];
    let providers: Vec<Answers> = openai().into_iter().chain(anthropic()).chain(others).collect();
    let asked = |per: &Answers| per.1.len() * LABELS.len() * LANGUAGES.len() * 2;
    let mut scripts = Vec::with_capacity(providers.iter().map(asked).sum());
    for (_, answers) in &providers {
        for (_, body) in answers {
            for label in LABELS {
                let script = vec![Step::Whole(200, label, body.clone())];
                scripts.extend(std::iter::repeat_n(script, LANGUAGES.len() * 2));
            }
        }
    }
    let upstream = Upstream::scripted(scripts).await;
    let gateway = gateway(&upstream).await;
    for (provider, answers) in &providers {
        for (shape, _) in answers {
            for label in LABELS {
                for (language, stream) in
                    LANGUAGES.iter().flat_map(|language| [(language, true), (language, false)])
                {
                    let ask = Ask { model: format!("{provider}/m"), stream, ..Ask::default() };
                    let (path, body) = ((language.path)(&ask), (language.request)(&ask));
                    let sent = gateway.post(&path, &body.to_string()).send().await.expect("sent");
                    let status = sent.status().as_u16();
                    let (body, cut) = received(sent).await;
                    let text = String::from_utf8_lossy(&body);
                    let what = format!(
                        "{provider} {shape} {label:?} to {} (stream={stream}): {text}",
                        language.name
                    );
                    assert_eq!((status, cut), (200, false), "{what}");
                    assert_eq!(text.matches("hi\"").count().min(1), 1, "{what}");
                    assert!(!text.contains("\"error\":{"), "{what}");
                    // Passthrough may lack members that the vendor itself would send.
                    if !stream && !own(provider, language.name) {
                        let view =
                            (language.answer)(&body).unwrap_or_else(|why| panic!("{why} {what}"));
                        assert_eq!(view.choices[&0].text, "hi", "{what}");
                    }
                }
            }
        }
    }
}

/// The framing that Gemini's callers get without `alt=sse`.
#[tokio::test]
async fn an_array_is_made_of_every_shape() {
    for (shape, body) in gemini().1 {
        let upstream = Upstream::new(vec![Step::Whole(200, LABELS[0], body)]).await;
        let gateway = gateway(&upstream).await;
        let body = r#"{"contents":[{"role":"user","parts":[{"text":"x"}]}]}"#;
        let sent = gateway.post("/v1beta/models/gem/m:streamGenerateContent", body).send().await;
        let (status, text) = {
            let sent = sent.expect("sent");
            (sent.status().as_u16(), sent.text().await.expect("a body"))
        };
        assert_eq!(status, 200, "{shape}: {text}");
        let chunks: Vec<Value> = serde_json::from_str(&text).expect(&text);
        let told = &chunks[0]["candidates"][0]["content"]["parts"][0]["text"];
        assert_eq!(told, "hi", "{shape}: {text}");
    }
}

/// Pages stay errors of the upstream, whatever they are called, in a stream and whole.
#[tokio::test]
async fn pages_are_errors_under_every_label() {
    for page in
        ["<!DOCTYPE html><p>canary", "\n<html>canary</html>", "<?xml version='1.0'?><Error/>"]
    {
        for label in LABELS {
            let upstream = Upstream::new(vec![Step::Whole(200, label, page.into())]).await;
            let gateway = gateway(&upstream).await;
            for provider in ["chat", "resp", "anth", "hosted", "gem", "oll", "coh", "bed"] {
                for stream in [true, false] {
                    let body = json!({ "model": format!("{provider}/m"), "stream": stream,
                        "messages": [{ "role": "user", "content": "x" }] });
                    let sent = gateway.post("/v1/chat/completions", &body.to_string()).send().await;
                    let sent = sent.expect("sent");
                    let (status, text) =
                        (sent.status().as_u16(), sent.text().await.expect("a body"));
                    let what = format!("{page:?} {label:?} {provider} {stream}: {text}");
                    assert_eq!(status, 502, "{what}");
                    assert!(text.contains("a page of HTML or XML"), "{what}");
                    assert!(text.contains("base_url"), "{what}");
                    assert!(!text.contains("canary"), "{what}");
                }
            }
        }
    }
}
