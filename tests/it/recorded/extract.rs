//! What a recording says, read leniently with `serde_json::Value`: the independent expectation for
//! the codecs. It must never call the gateway's decoders.

use serde_json::Value;

use crate::support::{Choice, Ended, Tokens, Tool, View, anthropic, count, openai_chat};

/// Cuts a recorded body into (event, data), by the plain rules; bodies are whole, so nothing clever.
pub(super) fn payloads(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body).replace("\r\n", "\n").replace('\r', "\n");
    let text = text.trim_start_matches('\u{feff}');
    let mut out = Vec::new();
    let (mut event, mut data): (String, Option<String>) = (String::new(), None);
    for line in text.split('\n').chain([""]) {
        if line.is_empty() {
            let event = std::mem::take(&mut event);
            if let Some(data) = data.take() {
                out.push((event, data));
            }
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut event),
            "data" | "error" => {
                if name == "error" {
                    "error".clone_into(&mut event);
                }
                data =
                    Some(data.map_or_else(|| value.to_owned(), |data| format!("{data}\n{value}")));
            }
            _ => {}
        }
    }
    out
}

/// Reads the payloads of a dialect's stream.
pub(super) fn view(dialect: &str, payloads: &[(String, String)]) -> View {
    let mut values = Vec::new();
    for (event, data) in payloads {
        let value = if data.trim() == "[DONE]" {
            Value::from("[DONE]")
        } else {
            serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
        };
        values.push((event.as_str(), value));
    }
    match dialect {
        "openai-chat" => chat(&values),
        "anthropic" => messages(&values),
        other => panic!("write an extractor for {other}"),
    }
}

fn chat(values: &[(&str, Value)]) -> View {
    let mut view = View::default();
    let mut finished = false;
    let mut ids: std::collections::BTreeMap<u64, Vec<CallKey>> = std::collections::BTreeMap::new();
    for (event, value) in values {
        if *value == "[DONE]" {
            view.ended = Ended::Complete;
            for choice in view.choices.values_mut() {
                choice.stop.get_or_insert_with(|| "stop".into());
            }
            return view;
        }
        let error = &value["error"];
        if *event == "error" || !error.is_null() || value["object"] == "error" {
            let message =
                [&error["message"], error, &value["message"]].iter().find_map(|it| it.as_str());
            view.ended = Ended::Error(message.unwrap_or_default().to_owned());
            return view;
        }
        for usage in [&value["usage"], &value["x_groq"]["usage"]] {
            if usage.is_object() {
                view.usage = Some(chat_usage(usage));
            }
        }
        for chunk in value["choices"].as_array().into_iter().flatten() {
            let index = chunk["index"].as_u64().unwrap_or_default();
            let choice = view.choices.entry(index).or_default();
            chat_delta(choice, &chunk["delta"], ids.entry(index).or_default());
            if let Some(reason) = chunk["finish_reason"].as_str() {
                finished = true;
                choice.stop = Some(reason.to_owned());
            }
        }
    }
    if finished {
        view.ended = Ended::Complete;
    }
    view
}

/// How a call is recognised: by its index if it has one, else by its id.
type CallKey = (Option<u64>, String);

fn chat_delta(choice: &mut Choice, delta: &Value, keys: &mut Vec<CallKey>) {
    match &delta["content"] {
        Value::String(text) => choice.text.push_str(text),
        Value::Array(parts) => {
            for part in parts {
                choice.text.push_str(part["text"].as_str().unwrap_or_default());
                for thought in part["thinking"].as_array().into_iter().flatten() {
                    choice.reasoning.push_str(thought["text"].as_str().unwrap_or_default());
                }
            }
        }
        _ => {}
    }
    let said = ["reasoning_content", "reasoning"].iter().find_map(|name| delta[*name].as_str());
    match said.filter(|text| !text.is_empty()) {
        Some(text) => choice.reasoning.push_str(text),
        None => {
            for detail in delta["reasoning_details"].as_array().into_iter().flatten() {
                let text = ["text", "summary"].iter().find_map(|name| detail[*name].as_str());
                choice.reasoning.push_str(text.unwrap_or_default());
            }
        }
    }
    choice.refusal.push_str(delta["refusal"].as_str().unwrap_or_default());
    for call in delta["tool_calls"].as_array().into_iter().flatten() {
        chat_call(choice, call, keys);
    }
}

fn chat_call(choice: &mut Choice, call: &Value, keys: &mut Vec<CallKey>) {
    let id = call["id"].as_str().unwrap_or_default();
    let index = call["index"].as_u64();
    let known = match index {
        // Cerebras numbers all calls 0 and tells them apart by their ids.
        Some(_) => keys.iter().rposition(|(known, known_id)| {
            *known == index && (id.is_empty() || known_id.is_empty() || known_id == id)
        }),
        None if id.is_empty() => keys.len().checked_sub(1),
        None => keys.iter().position(|(_, known)| known == id),
    };
    let at = known.unwrap_or_else(|| {
        keys.push((index, id.to_owned()));
        choice.tools.push(Tool { id: id.to_owned(), ..Tool::default() });
        choice.tools.len() - 1
    });
    let tool = &mut choice.tools[at];
    if tool.name.is_empty() {
        call["function"]["name"].as_str().unwrap_or_default().clone_into(&mut tool.name);
    }
    match &call["function"]["arguments"] {
        Value::String(text) => tool.arguments.push_str(text),
        Value::Null => {}
        whole => tool.arguments.push_str(&whole.to_string()),
    }
}

fn chat_usage(usage: &Value) -> Tokens {
    let mut tokens = openai_chat::tokens(usage);
    // xAI leaves reasoning out of completion_tokens; the total gives it away.
    let total = count(usage, "/total_tokens");
    if tokens.reasoning > 0 && tokens.input + tokens.output + tokens.reasoning == total {
        tokens.output += tokens.reasoning;
    }
    if tokens.cache_read == 0 {
        let others = ["/prompt_cache_hit_tokens", "/cached_tokens"];
        tokens.cache_read = others.iter().map(|name| count(usage, name)).max().unwrap_or_default();
    }
    tokens
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
