//! Content of recordings of `OpenAI`'s Responses, read leniently with `serde_json::Value`. It must
//! never call the gateway's decoders.

use serde_json::Value;

use super::carried::{Carried, Whose, list, text};
use super::extract::{self, Folder, Recorded, event_stream};
use crate::support::{Choice, Ended, Tool, View, openai_responses};

/// The recordings.
pub(super) const RECORDED: Recorded = Recorded {
    name: "openai-responses",
    folders: &[Folder::events("openai-responses")],
    framed: |payloads| event_stream(payloads, false),
    view: |payloads| view(&extract::values(payloads)),
    carried,
    neutral: |stop, choice| match stop {
        "max_output_tokens" => "length",
        "content_filter" => "filter",
        _ if !choice.tools.is_empty() => "tools",
        _ if !choice.refusal.is_empty() => "refusal",
        _ => "end",
    },
    withheld: |_, _| false,
    terminal: |data| {
        ["completed", "incomplete", "failed"]
            .iter()
            .any(|word| data.contains(&format!("\"type\":\"response.{word}\"")))
    },
};

#[test]
fn every_recording_to_every_caller() {
    super::every_recording(&RECORDED);
}

fn carried(values: &[(&str, Value)]) -> Carried {
    let mut out = Carried::default();
    let done = values.iter().filter(|(_, value)| value["type"] == "response.output_item.done");
    for item in done.map(|(_, value)| &value["item"]) {
        for part in list(item, "/content") {
            for source in list(part, "/annotations") {
                let names = ["/title", "/filename", "/file_id"];
                let title = names.iter().map(|name| text(source, name)).find(|it| !it.is_empty());
                out.source(text(source, "/url"), title.unwrap_or_default());
            }
            out.tokens.extend(list(part, "/logprobs").map(|token| text(token, "/token")));
        }
        if item["type"] != "reasoning" {
            continue;
        }
        out.seal(Whose::OpenAi, text(item, "/encrypted_content"));
    }
    out
}

/// The content of completed items; of a truncated stream, the content of its fragments.
fn view(values: &[(&str, Value)]) -> View {
    let mut view = View::default();
    let mut choice = Choice::default();
    for (_, value) in values {
        match value["type"].as_str().unwrap_or_default() {
            "response.output_item.done" => item(&value["item"], &mut choice),
            "error" => view.ended = Ended::Error(String::new()),
            "response.failed" => {
                let message = value["response"]["error"]["message"].as_str();
                view.ended = Ended::Error(message.unwrap_or_default().to_owned());
                break;
            }
            "response.completed" | "response.incomplete" => {
                let response = &value["response"];
                let reason = response["incomplete_details"]["reason"].as_str();
                choice.stop = Some(reason.unwrap_or("completed").to_owned());
                if response["usage"].is_object() {
                    view.usage = Some(openai_responses::tokens(&response["usage"]));
                }
                view.ended = Ended::Complete;
                break;
            }
            _ => {}
        }
    }
    view.choices.insert(0, choice);
    view
}

fn item(item: &Value, choice: &mut Choice) {
    let texts = |list: &str| -> Vec<String> {
        let parts = item[list].as_array().into_iter().flatten();
        let texts = parts.filter_map(|part| part["text"].as_str()).map(ToOwned::to_owned);
        texts.filter(|text| !text.is_empty()).collect()
    };
    match item["type"].as_str().unwrap_or_default() {
        "message" => {
            for part in item["content"].as_array().into_iter().flatten() {
                choice.text.push_str(part["text"].as_str().unwrap_or_default());
                choice.refusal.push_str(part["refusal"].as_str().unwrap_or_default());
            }
        }
        "reasoning" => {
            let summary = texts("summary");
            let words = if summary.is_empty() { texts("content") } else { summary };
            choice.reasoning.push_str(&words.join("\n\n"));
        }
        "function_call" => {
            let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
            let (id, name, arguments) = (text("call_id"), text("name"), text("arguments"));
            choice.tools.push(Tool { id, name, arguments });
        }
        _ => {}
    }
}
