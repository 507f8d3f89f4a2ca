//! Events of answers of each upstream, written from their vendors' grammar and not from our code.

use super::list;

/// A shape of an answer: what it is, and its events at a size.
pub(super) type Shape = (&'static str, fn(usize) -> Vec<String>);

/// No answer has more calls: somewhat more would end it.
const MOST_CALLS: usize = 1000;

/// `n` calls at the most, and twice as many fragments of theirs, by turns.
fn by_turns(
    n: usize,
    start: impl Fn(usize) -> String,
    fragment: impl Fn(usize) -> String,
) -> Vec<String> {
    let calls = n.min(MOST_CALLS);
    (0..calls).map(start).chain((0..2 * n).map(|i| fragment(i % calls))).collect()
}

pub(super) fn with(mut events: Vec<String>, last: &[&str]) -> Vec<String> {
    events.extend(last.iter().map(|event| (*event).to_owned()));
    events
}

pub(super) const CHAT_END: [&str; 2] =
    [r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, "[DONE]"];

pub(super) fn chat_delta(delta: &str) -> String {
    format!(r#"{{"id":"x","model":"m","choices":[{{"index":0,"delta":{{{delta}}}}}]}}"#)
}

pub(super) const CHAT_SHAPES: &[Shape] = &[
    ("calls by turns", |n| {
        let call = |rest: String| chat_delta(&format!(r#""tool_calls":[{{{rest}}}]"#));
        let start = |i: usize| {
            call(format!(
                r#""index":{i},"id":"c{i}","function":{{"name":"f","arguments":"{{\"a\":\""}}"#
            ))
        };
        let fragment = |i: usize| call(format!(r#""index":{i},"function":{{"arguments":"x"}}"#));
        with(by_turns(n, start, fragment), &CHAT_END)
    }),
    ("calls with one id", |n| {
        let call = r#""tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]"#;
        with(vec![chat_delta(call); n.min(MOST_CALLS)], &CHAT_END)
    }),
    ("sources", |n| {
        let words = |i: usize| chat_delta(&format!(r#""content":"some words [{}] ""#, i + 1));
        let sources = list(n, |i| format!(r#""https://a.example/{i}""#));
        let mut events: Vec<String> = (0..n).map(words).collect();
        events.push(format!(r#"{{"choices":[],"citations":[{sources}]}}"#));
        let annotations = list(n, |i| {
            format!(
                r#"{{"url_citation":{{"url":"https://b.example/{i}","start_index":{i},"end_index":{}}}}}"#,
                i + 5
            )
        });
        events.push(chat_delta(&format!(r#""annotations":[{annotations}]"#)));
        with(events, &CHAT_END)
    }),
    ("thoughts with signatures", |n| {
        let thought = |i: usize| {
            chat_delta(&format!(
                r#""reasoning_details":[{{"text":"t{i}","signature":"s{i}","format":"anthropic-claude-v1"}}]"#
            ))
        };
        with((0..n).map(thought).collect(), &CHAT_END)
    }),
];

const RESPONSES_END: [&str; 1] =
    [r#"{"type":"response.completed","response":{"status":"completed","output":[]}}"#];

pub(super) const RESPONSES: &[Shape] = &[
    ("calls by turns", |n| {
        let start = |i: usize| {
            format!(
                r#"{{"type":"response.output_item.added","output_index":{i},"item":{{"type":"function_call","id":"i{i}","call_id":"c{i}","name":"f"}}}}"#
            )
        };
        let fragment = |i: usize| {
            format!(
                r#"{{"type":"response.function_call_arguments.delta","output_index":{i},"delta":"x"}}"#
            )
        };
        // Of those that are open no more are kept than a few.
        with(by_turns(n.min(120), start, fragment), &RESPONSES_END)
    }),
    ("text with sources", |n| {
        let words = |i: usize| {
            format!(
                r#"{{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"words {i} "}}"#
            )
        };
        let source = |i: usize| {
            format!(
                r#"{{"type":"response.output_text.annotation.added","output_index":0,"content_index":0,"annotation":{{"type":"url_citation","url":"https://a.example/{i}","title":"t","start_index":{i},"end_index":{}}}}}"#,
                i + 5
            )
        };
        with((0..n).map(words).chain((0..n).map(source)).collect(), &RESPONSES_END)
    }),
];

const ANTHROPIC_END: [&str; 2] = [
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
    r#"{"type":"message_stop"}"#,
];

pub(super) const ANTHROPIC: &[Shape] = &[
    ("calls by turns", |n| {
        let start = |i: usize| {
            format!(
                r#"{{"type":"content_block_start","index":{i},"content_block":{{"type":"tool_use","id":"c","name":"f","input":{{}}}}}}"#
            )
        };
        let fragment = |i: usize| {
            format!(
                r#"{{"type":"content_block_delta","index":{i},"delta":{{"type":"input_json_delta","partial_json":"x"}}}}"#
            )
        };
        with(by_turns(n, start, fragment), &ANTHROPIC_END)
    }),
    ("texts that stay open, with sources", |n| {
        let words = |i: usize| {
            format!(
                r#"{{"type":"content_block_delta","index":{i},"delta":{{"type":"text_delta","text":"words {i} "}}}}"#
            )
        };
        let source = |i: usize| {
            format!(
                r#"{{"type":"content_block_delta","index":{},"delta":{{"type":"citations_delta","citation":{{"type":"web_search_result_location","url":"https://a.example/{i}","title":"t","cited_text":"c"}}}}}}"#,
                n - 1
            )
        };
        with((0..n).map(words).chain((0..n).map(source)).collect(), &ANTHROPIC_END)
    }),
];

const GEMINI_END: [&str; 1] = [r#"{"candidates":[{"content":{},"finishReason":"STOP"}]}"#];

fn gemini_part(part: &str) -> String {
    format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}}}}]}}"#)
}

pub(super) const GEMINI: &[Shape] = &[
    ("calls", |n| {
        let call = r#"{"functionCall":{"id":"c","name":"f","args":{}},"thoughtSignature":"AA=="}"#;
        with(vec![gemini_part(call); n.min(MOST_CALLS)], &GEMINI_END)
    }),
    ("a call whose arguments come one by one", |n| {
        let arg = |i: usize| {
            gemini_part(&format!(
                r#"{{"functionCall":{{"partialArgs":[{{"jsonPath":"$.a{i}","stringValue":"x"}}],"willContinue":true}}}}"#
            ))
        };
        let start = gemini_part(r#"{"functionCall":{"name":"f","willContinue":true}}"#);
        with(std::iter::once(start).chain((0..n).map(arg)).collect(), &GEMINI_END)
    }),
    ("text with sources", |n| {
        let words =
            |i: usize| gemini_part(&format!(r#"{{"text":"some words of an answer, {i}, é "}}"#));
        let source =
            |i: usize| format!(r#"{{"web":{{"uri":"https://a.example/{}","title":"t"}}}}"#, i / 2);
        let support = |i: usize| {
            format!(
                r#"{{"segment":{{"startIndex":{},"endIndex":{}}},"groundingChunkIndices":[{i}]}}"#,
                i * 20,
                i * 20 + 10
            )
        };
        let (sources, supports) = (list(n, source), list(n, support));
        let mut events: Vec<String> = (0..n).map(words).collect();
        events.push(format!(
            r#"{{"candidates":[{{"content":{{}},"groundingMetadata":{{"groundingChunks":[{sources}],"groundingSupports":[{supports}]}}}}]}}"#
        ));
        with(events, &GEMINI_END)
    }),
];

pub(super) const OLLAMA: &[Shape] = &[
    ("calls with one id", |n| {
        let call = r#"{"model":"m","created_at":"t","message":{"tool_calls":[{"id":"c","function":{"name":"f","arguments":{}}}]},"done":false}"#;
        with(vec![call.to_owned(); n.min(MOST_CALLS)], &[r#"{"done":true,"done_reason":"stop"}"#])
    }),
    ("thoughts and texts", |n| {
        let line = |i: usize| {
            let member = ["thinking", "content"][i % 2];
            format!(
                r#"{{"model":"m","created_at":"t","message":{{"{member}":"words {i}"}},"done":false}}"#
            )
        };
        with((0..n).map(line).collect(), &[r#"{"done":true,"done_reason":"stop"}"#])
    }),
];

const COHERE_END: [&str; 1] =
    [r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{}}}"#];

pub(super) const COHERE: &[Shape] = &[
    ("calls by turns", |n| {
        let start = |i: usize| {
            format!(
                r#"{{"type":"tool-call-start","index":{i},"delta":{{"message":{{"tool_calls":{{"id":"c","function":{{"name":"f","arguments":""}}}}}}}}}}"#
            )
        };
        let fragment = |i: usize| {
            format!(
                r#"{{"type":"tool-call-delta","index":{i},"delta":{{"message":{{"tool_calls":{{"function":{{"arguments":"x"}}}}}}}}}}"#
            )
        };
        with(by_turns(n, start, fragment), &COHERE_END)
    }),
    ("text with sources", |n| {
        let words = |i: usize| {
            format!(
                r#"{{"type":"content-delta","index":0,"delta":{{"message":{{"content":{{"text":"words {i} "}}}}}}}}"#
            )
        };
        let source = |i: usize| {
            format!(
                r#"{{"type":"citation-start","index":{i},"delta":{{"message":{{"citations":{{"start":{i},"end":{},"text":"w","sources":[{{"type":"document","id":"d{i}","document":{{"title":"t","url":"https://a.example/{i}"}}}}]}}}}}}}}"#,
                i + 5
            )
        };
        with((0..n).map(words).chain((0..n).map(source)).collect(), &COHERE_END)
    }),
];

const BEDROCK_END: [&str; 2] =
    [r#"messageStop {"stopReason":"end_turn"}"#, r#"metadata {"usage":{}}"#];

pub(super) const BEDROCK: &[Shape] = &[
    ("calls by turns", |n| {
        let start = |i: usize| {
            format!(
                r#"contentBlockStart {{"contentBlockIndex":{i},"start":{{"toolUse":{{"toolUseId":"c","name":"f"}}}}}}"#
            )
        };
        let fragment = |i: usize| {
            format!(
                r#"contentBlockDelta {{"contentBlockIndex":{i},"delta":{{"toolUse":{{"input":"x"}}}}}}"#
            )
        };
        with(by_turns(n, start, fragment), &BEDROCK_END)
    }),
    ("texts that stay open", |n| {
        let words = |i: usize| {
            format!(
                r#"contentBlockDelta {{"contentBlockIndex":{i},"delta":{{"text":"words {i} "}}}}"#
            )
        };
        with((0..n).map(words).collect(), &BEDROCK_END)
    }),
];
