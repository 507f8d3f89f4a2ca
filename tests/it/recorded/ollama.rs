//! Content of recordings of Ollama, read leniently with `serde_json::Value`. It must never call the
//! gateway's decoders.

use serde_json::Value;

use super::carried::{Carried, list, text};
use super::extract::{Folder, Recorded};
use crate::support::{Choice, Ended, Tokens, Tool, View};

/// The recordings.
pub(super) const RECORDED: Recorded = Recorded {
    name: "ollama",
    folders: &[Folder { name: "ollama", suffix: ".ndjson", media_type: "", payloads }],
    framed: |payloads| payloads.join("\n").into_bytes(),
    view,
    carried,
    neutral: |stop, choice| match stop {
        "length" => "length",
        _ if !choice.tools.is_empty() => "tools",
        _ => "end",
    },
    withheld: |_, _| false,
    terminal: |data| data.contains("\"done\":true"),
};

#[test]
fn every_recording_to_every_caller() {
    super::every_recording(&RECORDED);
}

fn carried(values: &[(&str, Value)]) -> Carried {
    let tokens = values.iter().flat_map(|(_, value)| list(value, "/logprobs"));
    Carried { tokens: tokens.map(|token| text(token, "/token")).collect(), ..Carried::default() }
}

fn payloads(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| (String::new(), line.to_owned())).collect()
}

fn view(payloads: &[(String, String)]) -> View {
    let mut view = View::default();
    let mut choice = Choice::default();
    for (_, data) in payloads {
        let value: Value = serde_json::from_str(data).expect("JSON");
        if let Some(error) = value["error"].as_str() {
            view.ended = Ended::Error(error.to_owned());
            break;
        }
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        choice.text.extend([text("/message/content"), text("/response")]);
        choice.reasoning.extend([text("/message/thinking"), text("/thinking")]);
        for call in value["message"]["tool_calls"].as_array().into_iter().flatten() {
            choice.tools.push(Tool {
                id: call["id"].as_str().unwrap_or_default().to_owned(),
                name: call["function"]["name"].as_str().expect("a name").to_owned(),
                arguments: call["function"]["arguments"].to_string(),
            });
        }
        if value["done"] == true {
            choice.stop = value["done_reason"].as_str().map(ToOwned::to_owned);
            let count = |name: &str| value[name].as_u64().unwrap_or_default();
            view.usage = Some(Tokens {
                input: count("prompt_eval_count"),
                output: count("eval_count"),
                ..Tokens::default()
            });
            view.ended = Ended::Complete;
            break;
        }
    }
    view.choices.insert(0, choice);
    view
}
