//! Content of recordings of Anthropic's messages, read leniently with `serde_json::Value`. It must
//! never call the gateway's decoders.

use serde_json::Value;

use super::carried::{Carried, Whose, list, text};
use super::extract::{self, Folder, Recorded, event_stream};
use crate::support::{Choice, Ended, Tool, View, anthropic};

/// The recordings.
pub(super) const RECORDED: Recorded = Recorded {
    name: "anthropic",
    folders: &[Folder::events("anthropic")],
    framed: |payloads| event_stream(payloads, true),
    view: |payloads| messages(&extract::values(payloads)),
    carried,
    neutral: |stop, _| match stop {
        "tool_use" => "tools",
        "max_tokens" => "length",
        "model_context_window_exceeded" => "context",
        // Callers with a word for filters are told by that: the vendor's classifiers have stopped it.
        "refusal" => "filter",
        "stop_sequence" => "stop_sequence",
        "pause_turn" => "pause_turn",
        _ => "end",
    },
    withheld: |value, _| value["type"] == "ping",
    terminal: |data| data.contains("\"message_stop\""),
};

#[test]
fn every_recording_to_every_caller() {
    super::every_recording(&RECORDED);
}

fn carried(values: &[(&str, Value)]) -> Carried {
    let mut out = Carried::default();
    for (_, value) in values {
        let begun = list(value, "/content_block/citations");
        for source in begun.chain(value.pointer("/delta/citation")) {
            let either = |one: &str, other: &str| {
                let found = text(source, one);
                if found.is_empty() { text(source, other) } else { found }
            };
            out.source(either("/url", "/source"), either("/title", "/document_title"));
        }
        let block = &value["content_block"];
        if block["type"] == "redacted_thinking" {
            out.seal(Whose::Anthropic, text(block, "/data"));
        }
        out.seal(Whose::Anthropic, text(block, "/signature"));
        out.seal(Whose::Anthropic, text(value, "/delta/signature"));
        if value["type"] == "message_stop" {
            break;
        }
    }
    out
}

fn messages(values: &[(&str, Value)]) -> View {
    let mut view = View::default();
    let mut choice = Choice::default();
    let mut usage = Value::Null;
    let mut open: std::collections::BTreeMap<u64, usize> = std::collections::BTreeMap::new();
    for (_, value) in values {
        let index = value["index"].as_u64().unwrap_or_default();
        match value["type"].as_str().unwrap_or_default() {
            "message_start" => usage = value["message"]["usage"].clone(),
            "content_block_start" => {
                let block = &value["content_block"];
                open.remove(&index);
                let text = |name: &str| block[name].as_str().unwrap_or_default();
                match text("type") {
                    "text" => choice.text.push_str(text("text")),
                    "thinking" => choice.reasoning.push_str(text("thinking")),
                    "tool_use" => {
                        open.insert(index, choice.tools.len());
                        let input = &block["input"];
                        let empty = input.as_object().is_none_or(serde_json::Map::is_empty);
                        choice.tools.push(Tool {
                            id: text("id").into(),
                            name: text("name").into(),
                            arguments: if empty { String::new() } else { input.to_string() },
                        });
                    }
                    _ => {}
                }
            }
            "content_block_delta" => {
                let delta = &value["delta"];
                let text = |name: &str| delta[name].as_str().unwrap_or_default();
                choice.text.push_str(text("text"));
                choice.reasoning.push_str(text("thinking"));
                if let Some(tool) = open.get(&index) {
                    choice.tools[*tool].arguments.push_str(text("partial_json"));
                }
            }
            "message_delta" => {
                choice.stop = value["delta"]["stop_reason"].as_str().map(ToOwned::to_owned);
                let details = &value["delta"]["stop_details"]["explanation"];
                choice.refusal.push_str(details.as_str().unwrap_or_default());
                anthropic::merge(&mut usage, &value["usage"]);
            }
            "message_stop" => view.ended = Ended::Complete,
            "error" => {
                let message = value["error"]["message"].as_str().unwrap_or_default();
                view.ended = Ended::Error(message.to_owned());
            }
            _ => {}
        }
        if view.ended != Ended::Cut {
            break;
        }
    }
    view.usage = usage.is_object().then(|| anthropic::tokens(&usage));
    view.choices.insert(0, choice);
    view
}
