//! A strict reader of Cohere answers as our callers get them. It must reject contents or calls that
//! overlap, gaps in either numbering, and anything after the end.

use serde_json::{Value, json};

use super::language::{Ask, Language, schema};
use super::{Choice, Ended, Tokens, Tool, View, count, events, must, string};

/// The callers' side of the dialect.
pub(crate) const LANGUAGE: Language = Language {
    name: "cohere",
    path: |_| "/v2/chat".to_owned(),
    request,
    stream,
    answer,
    error: |body| {
        body["message"].as_str().filter(|_| body["id"].is_string()).map(ToOwned::to_owned)
    },
    stop: |neutral| match neutral {
        "tools" => "TOOL_CALL",
        "length" | "context" => "MAX_TOKENS",
        "stop_sequence" => "STOP_SEQUENCE",
        "filter" => "ERROR_TOXIC",
        _ => "COMPLETE",
    },
    bad_gateway: 502,
    heartbeat: Some(
        ": ping
",
    ),
    single: true,
    usage_always: true,
    refusal_is_text: true,
    told: |said| Tokens { cache_write: 0, ..said },
};

fn request(ask: &Ask) -> Value {
    let mut messages = vec![json!({ "role": "user", "content": "hi" })];
    if !ask.called.is_empty() {
        let call = |tool: &Tool| json!({ "id": tool.id, "type": "function", "function": { "name": tool.name, "arguments": tool.arguments } });
        let calls: Vec<Value> = ask.called.iter().map(call).collect();
        messages.push(json!({ "role": "assistant", "tool_plan": "Both.", "tool_calls": calls }));
        messages.extend(ask.called.iter().map(|tool| {
            let data = format!("result of {}", tool.name);
            json!({ "role": "tool", "tool_call_id": tool.id, "content": [{ "type": "document", "document": { "data": data } }] })
        }));
    }
    let mut body = json!({ "model": ask.model, "stream": ask.stream, "messages": messages });
    if ask.tools {
        let tool = |name| json!({ "type": "function", "function": { "name": name, "description": "a tool", "parameters": schema() } });
        body["tools"] = json!([tool("weather"), tool("clock")]);
    }
    body
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of the grammar by itself")]
struct Reading {
    choice: Choice,
    usage: Option<Tokens>,
    ended: Ended,
    started: bool,
    /// Contents so far, and the type of the one that is open.
    contents: usize,
    content: Option<String>,
    calling: bool,
    citations: usize,
    citing: bool,
    /// `message-end` has come, and `[DONE]` has not.
    closing: bool,
}

/// Reads a translated stream. Usage always comes, asked for or not.
pub(crate) fn stream(bytes: &[u8], _want_usage: bool) -> Result<View, String> {
    let mut reading = Reading::default();
    for (event, data) in events(bytes)? {
        must(reading.ended == Ended::Cut, || format!("{data} after the end"))?;
        if data == "[DONE]" {
            must(reading.closing && event.is_none(), || "[DONE] out of place".into())?;
            reading.ended = Ended::Complete;
            continue;
        }
        let value: Value =
            serde_json::from_str(&data).map_err(|error| format!("{error} in {data}"))?;
        let kind = string(&value, "type")?;
        must(event.as_deref() == Some(&kind), || format!("event {event:?} carries {kind}"))?;
        must(!reading.closing, || format!("{kind} after message-end"))?;
        reading.event(&kind, &value)?;
    }
    let mut view = View { usage: reading.usage, ended: reading.ended, ..View::default() };
    if reading.started {
        view.choices.insert(0, reading.choice);
    }
    Ok(view)
}

impl Reading {
    fn event(&mut self, kind: &str, value: &Value) -> Result<(), String> {
        let message = &value["delta"]["message"];
        if kind == "message-end" {
            return self.end(&value["delta"]);
        }
        must(self.started != (kind == "message-start"), || format!("{kind} out of place"))?;
        match kind {
            "message-start" => {
                self.started = true;
                must(!string(value, "id")?.is_empty(), || "id".into())?;
                let empty = json!({ "role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": [] });
                must(*message == empty, || format!("{message}"))
            }
            "tool-plan-delta" => {
                self.choice.reasoning.push_str(&string(message, "tool_plan")?);
                Ok(())
            }
            "content-start" | "content-delta" | "content-end" => self.content(kind, value),
            "tool-call-start" | "tool-call-delta" | "tool-call-end" => self.call(kind, value),
            "citation-start" | "citation-end" => {
                let starts = kind == "citation-start";
                must(self.citing != starts && value["index"] == json!(self.citations), || {
                    format!("{value} out of place")
                })?;
                if starts {
                    string(&message["citations"], "text")?;
                    let sources = message["citations"]["sources"].as_array();
                    must(sources.is_some_and(|list| !list.is_empty()), || format!("{value}"))?;
                } else {
                    self.citations += 1;
                }
                self.citing = starts;
                Ok(())
            }
            _ => Err(format!("unknown event {kind}")),
        }
    }

    fn content(&mut self, kind: &str, value: &Value) -> Result<(), String> {
        must(value["index"] == json!(self.contents), || format!("index of {value}"))?;
        let content = &value["delta"]["message"]["content"];
        must(self.content.is_none() == (kind == "content-start"), || format!("{value} overlaps"))?;
        match kind {
            "content-start" => {
                let open = string(content, "type")?;
                must(["text", "thinking"].contains(&open.as_str()), || format!("{value}"))?;
                must(content[&open] == "", || format!("{value} is not empty"))?;
                self.content = Some(open);
            }
            "content-end" => {
                self.content = None;
                self.contents += 1;
            }
            _ => {
                let open = self.content.clone().unwrap_or_default();
                let said = string(content, &open)?;
                let to = &mut self.choice;
                if open == "text" { &mut to.text } else { &mut to.reasoning }.push_str(&said);
            }
        }
        Ok(())
    }

    fn call(&mut self, kind: &str, value: &Value) -> Result<(), String> {
        let begun = self.choice.tools.len();
        let starts = kind == "tool-call-start";
        must(self.calling != starts, || format!("{value} overlaps"))?;
        let index = if starts { Some(begun) } else { begun.checked_sub(1) };
        must(value["index"] == json!(index), || format!("index of {value}"))?;
        let call = &value["delta"]["message"]["tool_calls"];
        match kind {
            "tool-call-start" => {
                self.choice.tools.push(tool(call, &self.choice.tools)?);
                must(call["function"]["arguments"] == "", || format!("arguments in {call}"))?;
            }
            "tool-call-end" => {}
            _ => {
                let tool = self.choice.tools.last_mut().ok_or("no call")?;
                tool.arguments.push_str(&string(&call["function"], "arguments")?);
            }
        }
        self.calling = kind != "tool-call-end";
        Ok(())
    }

    fn end(&mut self, delta: &Value) -> Result<(), String> {
        let reason = string(delta, "finish_reason")?;
        if ["ERROR", "TIMEOUT"].contains(&reason.as_str()) {
            self.ended = Ended::Error(string(delta, "error")?);
            return Ok(());
        }
        must(self.started && self.content.is_none() && !self.calling && !self.citing, || {
            "message-end while something is open".into()
        })?;
        self.choice.stop = Some(stop(reason)?);
        self.usage = Some(usage(&delta["usage"])?);
        self.closing = true;
        Ok(())
    }
}

fn tool(call: &Value, earlier: &[Tool]) -> Result<Tool, String> {
    must(call["type"] == "function", || format!("type of {call}"))?;
    let (id, name) = (string(call, "id")?, string(&call["function"], "name")?);
    must(!id.is_empty() && earlier.iter().all(|tool| tool.id != id), || format!("id of {call}"))?;
    Ok(Tool { id, name, arguments: String::new() })
}

fn stop(reason: String) -> Result<String, String> {
    let known = ["COMPLETE", "STOP_SEQUENCE", "MAX_TOKENS", "TOOL_CALL", "ERROR_TOXIC"];
    must(known.contains(&reason.as_str()), || format!("finish_reason {reason}"))?;
    Ok(reason)
}

fn usage(usage: &Value) -> Result<Tokens, String> {
    for name in ["/tokens/input_tokens", "/tokens/output_tokens", "/billed_units/input_tokens"] {
        let there = usage.pointer(name).is_some_and(Value::is_u64);
        must(there, || format!("{name} in {usage}"))?;
    }
    Ok(tokens(usage))
}

/// Usage as this dialect counts it.
pub(crate) fn tokens(usage: &Value) -> Tokens {
    Tokens {
        input: count(usage, "/tokens/input_tokens"),
        cache_read: count(usage, "/cached_tokens"),
        cache_write: 0,
        output: count(usage, "/tokens/output_tokens"),
        reasoning: count(usage, "/tokens/reasoning_tokens"),
    }
}

/// Reads a collected answer.
pub(crate) fn answer(bytes: &[u8]) -> Result<View, String> {
    let body: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    must(!string(&body, "id")?.is_empty(), || "id".into())?;
    let message = &body["message"];
    must(message["role"] == "assistant", || format!("role of {message}"))?;
    let mut choice =
        Choice { stop: Some(stop(string(&body, "finish_reason")?)?), ..Choice::default() };
    for block in message["content"].as_array().into_iter().flatten() {
        match string(block, "type")?.as_str() {
            "text" => choice.text.push_str(&string(block, "text")?),
            "thinking" => choice.reasoning.push_str(&string(block, "thinking")?),
            _ => return Err(format!("unknown block {block}")),
        }
    }
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let mut tool = tool(call, &choice.tools)?;
        tool.arguments = string(&call["function"], "arguments")?;
        choice.tools.push(tool);
    }
    let mut view = View { ended: Ended::Complete, ..View::default() };
    view.usage = Some(usage(&body["usage"])?);
    view.choices.insert(0, choice);
    Ok(view)
}
