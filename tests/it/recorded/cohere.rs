//! Content of recordings of Cohere's chat, read leniently with `serde_json::Value`. It must never call
//! the gateway's decoders.

use serde_json::Value;

use super::carried::{Carried, list, text};
use super::extract::{self, Folder, Recorded, event_stream};
use crate::support::{Choice, Ended, Tool, View, cohere};

/// The recordings.
pub(super) const RECORDED: Recorded = Recorded {
    name: "cohere",
    folders: &[Folder::events("cohere")],
    framed: |payloads| event_stream(payloads, true),
    view: |payloads| view(&extract::values(payloads)),
    carried,
    neutral: |stop, _| match stop {
        "TOOL_CALL" => "tools",
        "MAX_TOKENS" => "length",
        "STOP_SEQUENCE" => "stop_sequence",
        _ => "end",
    },
    withheld: |_, _| false,
    terminal: |data| data.contains("\"message-end\""),
};

#[test]
fn every_recording_to_every_caller() {
    super::every_recording(&RECORDED);
}

fn carried(values: &[(&str, Value)]) -> Carried {
    let mut out = Carried::default();
    for (_, value) in values {
        // One at a time in a stream, whole lists elsewhere.
        for source in list(value, "/delta/message/citations/sources") {
            let (url, id) = (text(source, "/document/url"), text(source, "/id"));
            // A source without a title is called by its id, unless that is its address.
            let title = text(source, "/document/title");
            let named = !title.is_empty() || id == url;
            out.source(url, if named { title } else { id });
        }
        if let Some(token) = value.pointer("/logprobs")
            && list(token, "/token_ids").count() == 1
        {
            out.tokens.push(text(token, "/text"));
        }
    }
    out
}

fn view(values: &[(&str, Value)]) -> View {
    let mut view = View::default();
    let mut choice = Choice::default();
    for (_, value) in values {
        let message = &value["delta"]["message"];
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        choice.reasoning.extend([text("/tool_plan"), text("/content/thinking")]);
        choice.text.push_str(text("/content/text"));
        match value["type"].as_str().unwrap_or_default() {
            "tool-call-start" => choice.tools.push(Tool {
                id: text("/tool_calls/id").to_owned(),
                name: text("/tool_calls/function/name").to_owned(),
                arguments: text("/tool_calls/function/arguments").to_owned(),
            }),
            "tool-call-delta" => {
                let tool = choice.tools.last_mut().expect("a call");
                tool.arguments.push_str(text("/tool_calls/function/arguments"));
            }
            "message-end" => {
                let delta = &value["delta"];
                choice.stop = delta["finish_reason"].as_str().map(ToOwned::to_owned);
                view.usage = delta["usage"].is_object().then(|| cohere::tokens(&delta["usage"]));
                view.ended = Ended::Complete;
                break;
            }
            _ => {}
        }
    }
    view.choices.insert(0, choice);
    view
}
