//! Content of recordings of `OpenAI` chat completions, read leniently with `serde_json::Value`. It must
//! never call the gateway's decoders.

use serde_json::Value;
use streamgate::wire::chat::End;
use streamgate::wire::dialect::{self, Mode, ResponseContext};
use streamgate::wire::transcode::Transcoder;

use super::carried::{Carried, Whose, list, text};
use super::extract::{self, Folder, Recorded, event_stream};
use crate::support::{Choice, Ended, Tokens, Tool, View, call, count, events, feed, openai_chat};

/// The recordings.
pub(super) const RECORDED: Recorded = Recorded {
    name: "openai-chat",
    folders: &[Folder::events("openai-chat")],
    framed: |payloads| {
        let mut out = event_stream(payloads, false);
        if !payloads.contains(&"[DONE]") {
            out.extend(b"data: [DONE]\n\n");
        }
        out
    },
    view: |payloads| chat(&extract::values(payloads)),
    carried,
    neutral: |stop, choice| match stop {
        "stop" | "eos" if !choice.tools.is_empty() => "tools",
        "stop" if !choice.refusal.is_empty() => "refusal",
        "tool_use" | "tool_calls" | "function_call" => "tools",
        "length" | "max_tokens" => "length",
        "model_context_window_exceeded" => "context",
        "content_filter" => "filter",
        "refusal" => "refusal",
        "stop_sequence" => "stop_sequence",
        "pause_turn" => "pause_turn",
        _ => "end",
    },
    withheld: |value, want_usage| {
        let empty = value["choices"].as_array().is_some_and(Vec::is_empty);
        !want_usage && empty && value["usage"].is_object()
    },
    terminal: |data| data == "[DONE]",
};

#[test]
fn every_recording_to_every_caller() {
    super::every_recording(&RECORDED);
}

fn carried(values: &[(&str, Value)]) -> Carried {
    let mut out = Carried::default();
    for choice in values.iter().flat_map(|(_, value)| list(value, "/choices")) {
        for source in list(choice, "/delta/annotations") {
            out.source(text(source, "/url_citation/url"), text(source, "/url_citation/title"));
        }
        for detail in list(choice, "/delta/reasoning_details") {
            let format = text(detail, "/format");
            let whose = [
                ("anthropic-", Whose::Anthropic),
                ("google-gemini", Whose::Google),
                ("openai-responses", Whose::OpenAi),
                ("xai-responses", Whose::XAi),
            ];
            let whose = whose.iter().find(|(prefix, _)| format.starts_with(prefix));
            if let Some((_, whose)) = whose {
                out.seal(*whose, text(detail, "/signature"));
                out.seal(*whose, text(detail, "/data"));
            }
        }
        out.tokens.extend(list(choice, "/logprobs/content").map(|token| text(token, "/token")));
    }
    // Those that search for every answer repeat their sources beside the alternatives.
    let mut found: Vec<(String, String)> = Vec::new();
    for (_, value) in values {
        let urls = list(value, "/citations").map(|url| (text(url, ""), String::new()));
        let results = list(value, "/search_results");
        let results = results.map(|result| (text(result, "/url"), text(result, "/title")));
        for (url, title) in urls.chain(results) {
            match found.iter_mut().find(|(known, _)| *known == url) {
                Some((_, known)) if known.is_empty() => *known = title,
                Some(_) => {}
                None => found.push((url, title)),
            }
        }
    }
    found.retain(|(url, _)| !out.sources.iter().any(|(annotated, _)| annotated == url));
    for (url, title) in found {
        out.source(url, title);
    }
    out
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

/// The key of a call: its index if it has one, else its id.
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

/// The first API of all, whose answers are passed on: every payload as it came, and the end seen.
#[test]
fn completions_pass_as_they_came() {
    let Some(root) = super::recorded() else { return };
    let upstream = dialect::by_name("openai-chat").expect("it is there");
    let caller = upstream.as_caller().expect("callers speak it");
    let endpoint = caller.endpoints().iter().find(|endpoint| endpoint.path == "/v1/completions");
    let form = endpoint.expect("it is there").form;
    let mut count = 0;
    for path in super::files(&root.join("other/openai-completions")) {
        let name = super::name_of(&path);
        if name.ends_with(".request.json") {
            continue;
        }
        let body = std::fs::read(&path).expect("readable");
        let payloads = extract::payloads(&body);
        for step in [1, 7, body.len()] {
            let call = ResponseContext { form, ..call(true, true) };
            let encoder = caller.encoder(&call, Mode::Verbatim);
            let decoder = upstream.decoder(form);
            let codec =
                Transcoder::new(upstream.framing(""), 1 << 20, decoder, encoder, Mode::Verbatim);
            let run = feed(codec, &body, (step..body.len()).step_by(step));
            assert_eq!(run.end, End::Complete, "{name}");
            let sent: Vec<String> =
                events(&run.out).expect(&name).into_iter().map(|(_, data)| data).collect();
            let came: Vec<String> = payloads.iter().map(|(_, data)| data.clone()).collect();
            assert_eq!(sent, came, "{name} in steps of {step}");
        }
        count += 1;
    }
    assert!(count > 0, "there is at least one such recording");
}
