//! A strict reader of `OpenAI` chat answers as our callers get them. It must reject whatever an official
//! client fails on.

use serde_json::{Value, json};

use super::language::{Ask, Language, schema};
use super::{Choice, Ended, Tokens, Tool, View, count, events, must, string};

#[derive(Default)]
struct Reading {
    view: View,
    identity: Option<(String, u64, String)>,
    saw_usage: bool,
}

/// The callers' side of the dialect.
pub(crate) const LANGUAGE: Language = Language {
    name: "openai-chat",
    path: |_| "/v1/chat/completions".to_owned(),
    request,
    stream,
    answer,
    error: |body| {
        let error = &body["error"];
        let shaped = error["type"].is_string() && error.get("param").is_some();
        error["message"].as_str().filter(|_| shaped).map(ToOwned::to_owned)
    },
    stop: |neutral| match neutral {
        "tools" => "tool_calls",
        "length" | "context" => "length",
        "filter" => "content_filter",
        _ => "stop",
    },
    bad_gateway: 502,
    heartbeat: Some(
        ": ping
",
    ),
    single: false,
    refusal_is_text: false,
    told: |said| said,
    usage_always: false,
};

fn request(ask: &Ask) -> Value {
    let mut messages = vec![json!({ "role": "user", "content": "hi" })];
    if !ask.called.is_empty() {
        let call = |tool: &Tool| json!({ "id": tool.id, "type": "function", "function": { "name": tool.name, "arguments": tool.arguments } });
        let calls: Vec<Value> = ask.called.iter().map(call).collect();
        messages.push(json!({ "role": "assistant", "content": null, "tool_calls": calls }));
        messages.extend(ask.called.iter().map(|tool| {
            json!({ "role": "tool", "tool_call_id": tool.id, "content": format!("result of {}", tool.name) })
        }));
    }
    let mut body = json!({ "model": ask.model, "stream": ask.stream, "messages": messages });
    if ask.stream {
        body["stream_options"] = json!({ "include_usage": true });
    }
    if ask.tools {
        let tool = |name| json!({ "type": "function", "function": { "name": name, "description": "a tool", "parameters": schema() } });
        body["tools"] = json!([tool("weather"), tool("clock")]);
    }
    body
}

/// Reads a translated stream.
pub(crate) fn stream(bytes: &[u8], want_usage: bool) -> Result<View, String> {
    let mut reading = Reading::default();
    for (event, data) in events(bytes)? {
        must(reading.view.ended == Ended::Cut, || format!("{data} after the end"))?;
        if data == "[DONE]" {
            reading.done(want_usage)?;
            continue;
        }
        let chunk: Value =
            serde_json::from_str(&data).map_err(|error| format!("{error} in {data}"))?;
        if let Some(error) = chunk.get("error") {
            string(error, "type")?;
            must(error.get("param").is_some() && error.get("code").is_some(), || {
                format!("bare {error}")
            })?;
            reading.view.ended = Ended::Error(string(error, "message")?);
            continue;
        }
        must(event.is_none(), || format!("an event name: {event:?}"))?;
        reading.chunk(&chunk, want_usage)?;
    }
    Ok(reading.view)
}

impl Reading {
    fn done(&mut self, want_usage: bool) -> Result<(), String> {
        must(!self.view.choices.is_empty(), || "[DONE] without an answer".into())?;
        for (index, choice) in &self.view.choices {
            must(choice.stop.is_some(), || format!("choice {index} has no finish_reason"))?;
        }
        must(!self.saw_usage || want_usage, || "usage that nobody asked for".into())?;
        self.view.ended = Ended::Complete;
        Ok(())
    }

    fn chunk(&mut self, chunk: &Value, want_usage: bool) -> Result<(), String> {
        must(chunk["object"] == "chat.completion.chunk", || format!("object of {chunk}"))?;
        let created = chunk["created"].as_u64().ok_or("created is not a number")?;
        let identity = (string(chunk, "id")?, created, string(chunk, "model")?);
        must(!identity.0.is_empty() && !identity.2.is_empty(), || {
            format!("empty identity: {chunk}")
        })?;
        let first = self.identity.get_or_insert_with(|| identity.clone());
        must(*first == identity, || format!("identity changes in {chunk}"))?;
        let choices = chunk["choices"].as_array().ok_or_else(|| format!("no choices: {chunk}"))?;
        must(!self.saw_usage, || format!("a chunk after usage: {chunk}"))?;
        if choices.is_empty() {
            must(chunk["usage"].is_object() && want_usage, || format!("empty choices: {chunk}"))?;
            self.saw_usage = true;
            self.view.usage = Some(tokens(&chunk["usage"]));
        } else {
            must(!chunk["usage"].is_object(), || format!("usage beside choices: {chunk}"))?;
        }
        for choice in choices {
            self.choice(choice)?;
        }
        Ok(())
    }

    fn choice(&mut self, chunk: &Value) -> Result<(), String> {
        let index = chunk["index"].as_u64().ok_or("choice without index")?;
        let delta = chunk["delta"].as_object().ok_or("choice without delta")?;
        let new = !self.view.choices.contains_key(&index);
        let choice = self.view.choices.entry(index).or_default();
        must(new == delta.contains_key("role"), || format!("role misplaced: {chunk}"))?;
        must(choice.stop.is_none(), || format!("a delta after finish_reason: {chunk}"))?;
        for (name, value) in delta {
            let text = value.as_str();
            match (name.as_str(), text) {
                ("role", Some("assistant")) | ("annotations" | "reasoning_details", None) => {}
                ("content" | "refusal", None) if value.is_null() => {}
                ("content", Some(text)) => choice.text.push_str(text),
                ("refusal", Some(text)) => choice.refusal.push_str(text),
                ("reasoning_content", Some(text)) => choice.reasoning.push_str(text),
                ("tool_calls", None) => calls(choice, value)?,
                _ => return Err(format!("{name} in {chunk}")),
            }
        }
        match &chunk["finish_reason"] {
            Value::Null => {}
            Value::String(reason) => choice.stop = Some(finish(reason)?),
            other => return Err(format!("finish_reason {other}")),
        }
        Ok(())
    }
}

fn finish(reason: &str) -> Result<String, String> {
    let known = ["stop", "length", "tool_calls", "content_filter"].contains(&reason);
    must(known, || format!("finish_reason {reason}"))?;
    Ok(reason.to_owned())
}

fn calls(choice: &mut Choice, calls: &Value) -> Result<(), String> {
    for call in calls.as_array().ok_or("tool_calls is not an array")? {
        let index =
            call["index"].as_u64().and_then(|i| usize::try_from(i).ok()).ok_or("no index")?;
        let arguments = string(&call["function"], "arguments")?;
        if index == choice.tools.len() {
            must(call["type"] == "function", || format!("type of {call}"))?;
            let (id, name) = (string(call, "id")?, string(&call["function"], "name")?);
            must(!id.is_empty() && choice.tools.iter().all(|tool| tool.id != id), || {
                format!("id of {call}")
            })?;
            choice.tools.push(Tool { id, name, arguments });
            continue;
        }
        let tool = choice.tools.get_mut(index).ok_or_else(|| format!("index jumps: {call}"))?;
        must(call.get("id").is_none(), || format!("id repeated: {call}"))?;
        must(call["function"].get("name").is_none(), || format!("name repeated: {call}"))?;
        tool.arguments.push_str(&arguments);
    }
    Ok(())
}

/// Reads a collected answer.
pub(crate) fn answer(bytes: &[u8]) -> Result<View, String> {
    let body: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    must(body["object"] == "chat.completion", || format!("object of {body}"))?;
    must(!string(&body, "id")?.is_empty() && !string(&body, "model")?.is_empty(), || {
        "identity".into()
    })?;
    let mut view = View { ended: Ended::Complete, ..View::default() };
    for (position, choice) in body["choices"].as_array().ok_or("no choices")?.iter().enumerate() {
        must(choice["index"].as_u64() == u64::try_from(position).ok(), || {
            format!("index: {choice}")
        })?;
        let message = &choice["message"];
        must(message["role"] == "assistant", || format!("role of {message}"))?;
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let mut read = Choice {
            text: text("content"),
            reasoning: text("reasoning_content"),
            refusal: text("refusal"),
            tools: Vec::new(),
            stop: Some(finish(&string(choice, "finish_reason")?)?),
        };
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            must(call["type"] == "function", || format!("type of {call}"))?;
            let function = &call["function"];
            let (name, arguments) = (string(function, "name")?, string(function, "arguments")?);
            read.tools.push(Tool { id: string(call, "id")?, name, arguments });
        }
        view.choices.insert(position as u64, read);
    }
    must(!view.choices.is_empty(), || "no choices".into())?;
    view.usage = body["usage"].is_object().then(|| tokens(&body["usage"]));
    Ok(view)
}

/// Usage as this dialect counts it: caches and reasoning are parts of the totals.
pub(crate) fn tokens(usage: &Value) -> Tokens {
    Tokens {
        input: count(usage, "/prompt_tokens"),
        cache_read: count(usage, "/prompt_tokens_details/cached_tokens"),
        cache_write: count(usage, "/prompt_tokens_details/cache_write_tokens"),
        output: count(usage, "/completion_tokens"),
        reasoning: count(usage, "/completion_tokens_details/reasoning_tokens"),
    }
}
