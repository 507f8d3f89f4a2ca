//! Citations: an upstream's sources in, and what the clients of each dialect take out.

use serde_json::{Value, json};

use crate::answers::{chat, chunk, sse, to, values};
use crate::support::reader;

fn cited() -> Vec<u8> {
    let source = |index: u64, place: (u64, u64), kind: &str, source: Value| {
        json!({ "type": "citation-start", "index": index, "delta": { "message": { "citations": {
            "start": place.0, "end": place.1, "text": "t", "type": "TEXT_CONTENT",
            "sources": [{ "type": kind, "id": format!("s{index}"), "document": source }] } } } })
    };
    sse(&[
        json!({ "type": "message-start", "id": "x", "delta": { "message": { "role": "assistant" } } }),
        json!({ "type": "content-delta", "index": 0, "delta": { "message": { "content": { "text": "Où? In Rome, in Oslo." } } } }),
        source(0, (4, 11), "document", json!({ "title": "A", "url": "https://a.example/" })),
        source(1, (13, 20), "document", json!({ "title": "B", "url": "https://b.example/" })),
        source(2, (0, 2), "tool", json!({ "temperature": "20" })),
        source(3, (0, 2), "document", json!({ "title": "C" })),
        json!({ "type": "message-end", "delta": { "finish_reason": "COMPLETE" } }),
    ])
}

/// Chat callers get all sources in one delta, none without an address, each with its place.
#[test]
fn annotations_come_together() {
    let run = to("cohere", "openai-chat", true, &cited());
    let values = values(&run);
    let lists: Vec<&Value> =
        values.iter().map(|value| &value["choices"][0]["delta"]["annotations"]).collect();
    let lists: Vec<&&Value> = lists.iter().filter(|list| list.is_array()).collect();
    let [list] = *lists else { panic!("{lists:?}") };
    let found: Vec<(&Value, &Value, &Value)> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| &entry["url_citation"])
        .map(|it| (&it["url"], &it["start_index"], &it["end_index"]))
        .collect();
    let expected = [
        (&json!("https://a.example/"), &json!(4), &json!(11)),
        (&json!("https://b.example/"), &json!(13), &json!(20)),
    ];
    assert_eq!(found, expected);
}

/// Gemini callers: what is on the web has an address, documents have a place of their own, results of
/// functions have none; places count bytes.
#[test]
fn grounding_is_what_its_readers_take() {
    for stream in [true, false] {
        let run = to("cohere", "gemini", stream, &cited());
        let values = values(&run);
        let last = values.last().expect("a chunk");
        let grounding = &last["candidates"][0]["groundingMetadata"];
        assert_eq!(
            grounding["groundingChunks"],
            json!([
                { "retrievedContext": { "uri": "https://a.example/", "title": "A", "text": "t" } },
                { "retrievedContext": { "uri": "https://b.example/", "title": "B", "text": "t" } },
                { "retrievedContext": { "title": "C", "text": "t" } },
            ])
        );
        let segment = &grounding["groundingSupports"][0]["segment"];
        assert_eq!(*segment, json!({ "startIndex": 5, "endIndex": 12, "text": "In Rome" }));
    }
}

fn searched() -> Vec<u8> {
    let beside = |mut chunk: Value| {
        chunk["citations"] = json!(["https://a.example/1", "https://b.example/2"]);
        chunk["search_results"] = json!([{ "title": "A", "url": "https://a.example/1" }]);
        chunk
    };
    sse(&[
        beside(chunk(json!({ "role": "assistant", "content": "Rome" }), None)),
        beside(chunk(json!({ "content": " is old[1][2]." }), Some("stop"))),
    ])
}

/// Sources beside the choices are sent once each, with the position of their mark.
#[test]
fn sources_of_searching_servers_are_citations() {
    let xai = chat(&[
        chunk(json!({ "content": "Rome is old[1][2]." }), Some("stop")),
        json!({ "id": "x", "choices": [], "citations": ["https://a.example/1", "https://b.example/2"] }),
    ]);
    for (input, title) in [(searched(), "A"), (xai, "https://a.example/1")] {
        for stream in [true, false] {
            let run = to("openai-chat", "openai-responses", stream, &input);
            let values = values(&run);
            let last = values.last().expect("an event");
            let response = if stream { &last["response"] } else { last };
            assert_eq!(
                response["output"][0]["content"][0]["annotations"],
                json!([
                    { "type": "url_citation", "start_index": 11, "end_index": 14, "url": "https://a.example/1", "title": title },
                    { "type": "url_citation", "start_index": 14, "end_index": 17, "url": "https://b.example/2", "title": "https://b.example/2" },
                ])
            );
        }
    }
    let cohere = values(&to("openai-chat", "cohere", true, &searched()));
    let texts: Vec<&Value> =
        cohere.iter().map(|value| &value["delta"]["message"]["citations"]["text"]).collect();
    let texts: Vec<&&Value> = texts.iter().filter(|text| text.is_string()).collect();
    assert_eq!(texts, [&&json!("[1]"), &&json!("[2]")]);
    let anthropic = String::from_utf8(to("openai-chat", "anthropic", true, &searched()).out);
    assert_eq!(anthropic.expect("UTF-8").matches("citations_delta").count(), 2);
}

/// Sources that follow a signature still belong to the text before it.
#[test]
fn late_sources_are_streamed() {
    let candidate = |candidate: Value| json!({ "candidates": [candidate], "modelVersion": "m" });
    let text = |text: &str| json!({ "role": "model", "parts": [{ "text": text }] });
    let input = sse(&[
        candidate(json!({ "index": 0, "content": text("Rome is old.") })),
        candidate(
            json!({ "index": 0, "content": { "role": "model", "parts": [{ "text": "", "thoughtSignature": "U0lHTg==" }] } }),
        ),
        candidate(
            json!({ "index": 0, "finishReason": "STOP", "content": text(""), "groundingMetadata": {
            "groundingChunks": [{ "web": { "uri": "https://a.example/1", "title": "A" } }],
            "groundingSupports": [{ "segment": { "endIndex": 4 }, "groundingChunkIndices": [0] }] } }),
        ),
    ]);
    let run = to("gemini", "openai-responses", true, &input);
    (reader("openai-responses").stream)(&run.out, true).expect("a legal stream");
    let values = values(&run);
    let of = |kind: &str| values.iter().filter(|value| value["type"] == kind).collect::<Vec<_>>();
    let added = of("response.output_text.annotation.added");
    assert_eq!(added.len(), 1);
    let done = of("response.output_item.done");
    assert_eq!(done[0]["item"]["content"][0]["annotations"], json!([added[0]["annotation"]]));
    assert_eq!(done[1]["item"]["encrypted_content"], json!("streamgate:gemini:signature:U0lHTg=="));
    let anthropic = String::from_utf8(to("gemini", "anthropic", true, &input).out).expect("UTF-8");
    let place = |needle: &str| anthropic.find(needle).expect(needle);
    assert!(place("citations_delta") < place("signature_delta"));
}

/// Sources whose text is done are streamed all the same, in a message of their own.
#[test]
fn sources_after_a_call_are_streamed() {
    let call = json!([{ "index": 0, "id": "c", "function": { "name": "f", "arguments": "{}" } }]);
    let source = json!([{ "type": "url_citation", "url_citation": { "url": "https://a.example/", "title": "A" } }]);
    let input = chat(&[
        chunk(json!({ "content": "Rome." }), None),
        chunk(json!({ "tool_calls": call }), None),
        chunk(json!({ "annotations": source }), Some("tool_calls")),
    ]);
    let run = to("openai-chat", "openai-responses", true, &input);
    (reader("openai-responses").stream)(&run.out, true).expect("a legal stream");
    let out = String::from_utf8(run.out).expect("UTF-8");
    assert_eq!(out.matches("annotation.added\"").count(), 1, "{out}");
}
