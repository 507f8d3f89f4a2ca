//! A strict reader of Anthropic answers as our callers get them. It must reject overlapping blocks,
//! gaps in indices and anything after the end. Source: the vendor's reference of streaming messages.

use serde_json::{Value, json};

use super::language::{Ask, Language, schema};
use super::{Choice, Ended, Tokens, Tool, View, count, events, must, string};

/// The callers' side of the dialect.
pub(crate) const LANGUAGE: Language = Language {
    name: "anthropic",
    path: |_| "/v1/messages".to_owned(),
    request,
    stream,
    answer,
    error: |body| {
        let shaped = body["type"] == "error" && body["error"]["type"].is_string();
        body["error"]["message"].as_str().filter(|_| shaped).map(ToOwned::to_owned)
    },
    stop: |neutral| match neutral {
        "end" => "end_turn",
        "tools" => "tool_use",
        "length" => "max_tokens",
        "context" => "model_context_window_exceeded",
        "filter" | "refusal" => "refusal",
        other => other,
    },
    bad_gateway: 500,
    heartbeat: Some(
        "event: ping
data: {\"type\":\"ping\"}

",
    ),
    single: true,
    refusal_is_text: true,
    // Its input is what the caches leave, never below zero.
    told: |said| Tokens { input: said.input.max(said.cache_read + said.cache_write), ..said },
    usage_always: true,
};

fn request(ask: &Ask) -> Value {
    let mut messages = vec![json!({ "role": "user", "content": "hi" })];
    if !ask.called.is_empty() {
        let call = |tool: &Tool| json!({ "type": "tool_use", "id": tool.id, "name": tool.name, "input": tool.value() });
        let result = |tool: &Tool| json!({ "type": "tool_result", "tool_use_id": tool.id, "content": format!("result of {}", tool.name) });
        let calls: Vec<Value> = ask.called.iter().map(call).collect();
        let results: Vec<Value> = ask.called.iter().map(result).collect();
        messages.push(json!({ "role": "assistant", "content": calls }));
        messages.push(json!({ "role": "user", "content": results }));
    }
    let mut body = json!({ "model": ask.model, "stream": ask.stream, "max_tokens": 1000, "messages": messages });
    if ask.tools {
        let tool =
            |name| json!({ "name": name, "description": "a tool", "input_schema": schema() });
        body["tools"] = json!([tool("weather"), tool("clock")]);
    }
    body
}

#[derive(Default)]
struct Reading {
    choice: Choice,
    usage: Value,
    ended: Ended,
    started: bool,
    /// Blocks that began so far; the last one is open while `open` names its type.
    blocks: u64,
    open: Option<String>,
    delta_seen: bool,
    signed: bool,
    /// The id of a search whose results have not come.
    search: Option<String>,
}

/// Reads a translated stream. Usage always comes, asked for or not.
pub(crate) fn stream(bytes: &[u8], _want_usage: bool) -> Result<View, String> {
    let mut reading = Reading::default();
    for (event, data) in events(bytes)? {
        must(reading.ended == Ended::Cut, || format!("{data} after the end"))?;
        let value: Value =
            serde_json::from_str(&data).map_err(|error| format!("{error} in {data}"))?;
        let kind = string(&value, "type")?;
        must(event.as_deref() == Some(&kind), || format!("event {event:?} carries {kind}"))?;
        reading.event(&kind, &value)?;
    }
    Ok(reading.view())
}

impl Reading {
    fn view(self) -> View {
        let usage = self.usage.is_object().then(|| tokens(&self.usage));
        let mut view = View { usage, ended: self.ended, ..View::default() };
        if self.started {
            view.choices.insert(0, self.choice);
        }
        view
    }

    fn event(&mut self, kind: &str, value: &Value) -> Result<(), String> {
        if kind == "error" {
            string(&value["error"], "type")?;
            self.ended = Ended::Error(string(&value["error"], "message")?);
            return Ok(());
        }
        must(self.started != (kind == "message_start"), || format!("{kind} out of place"))?;
        must(!self.delta_seen || ["message_stop", "ping"].contains(&kind), || {
            format!("{kind} after message_delta")
        })?;
        match kind {
            "message_start" => self.start(&value["message"]),
            "ping" => Ok(()),
            "content_block_start" => self.block_start(value),
            "content_block_delta" => self.block_delta(value),
            "content_block_stop" => {
                self.inside(value)?;
                self.open = None;
                Ok(())
            }
            "message_delta" => {
                must(self.open.is_none(), || "message_delta inside a block".into())?;
                self.delta_seen = true;
                self.choice.stop = Some(stop(&string(&value["delta"], "stop_reason")?)?);
                merge(&mut self.usage, &value["usage"]);
                Ok(())
            }
            "message_stop" => {
                must(self.delta_seen, || "message_stop without message_delta".into())?;
                self.ended = Ended::Complete;
                Ok(())
            }
            _ => Err(format!("unknown event {kind}")),
        }
    }

    fn start(&mut self, message: &Value) -> Result<(), String> {
        self.started = true;
        envelope(message)?;
        must(message["content"] == Value::Array(Vec::new()), || format!("content in {message}"))?;
        must(message["stop_reason"].is_null(), || format!("stop_reason in {message}"))?;
        self.usage = message["usage"].clone();
        must(self.usage["input_tokens"].is_u64() && self.usage["output_tokens"].is_u64(), || {
            "usage of message_start".into()
        })
    }

    fn inside(&self, value: &Value) -> Result<(), String> {
        let open = self.open.is_some() && value["index"].as_u64() == self.blocks.checked_sub(1);
        must(open, || format!("not in the open block: {value}"))
    }

    fn block_start(&mut self, value: &Value) -> Result<(), String> {
        must(self.open.is_none(), || format!("blocks overlap: {value}"))?;
        must(value["index"].as_u64() == Some(self.blocks), || format!("index jumps: {value}"))?;
        self.blocks += 1;
        self.signed = false;
        let block = &value["content_block"];
        let kind = string(block, "type")?;
        match kind.as_str() {
            "text" => must(block["text"] == "", || format!("text in {block}"))?,
            "thinking" => {
                must(block["thinking"] == "" && block["signature"] == "", || format!("{block}"))?;
            }
            "redacted_thinking" => drop(string(block, "data")?),
            "tool_use" => {
                must(block["input"] == Value::Object(serde_json::Map::new()), || {
                    format!("input in {block}")
                })?;
                self.choice.tools.push(tool(block, &self.choice.tools)?);
            }
            "server_tool_use" => {
                must(block["input"] == Value::Object(serde_json::Map::new()), || {
                    format!("input in {block}")
                })?;
                self.search = Some(string(block, "id")?);
            }
            "web_search_tool_result" => {
                results(block)?;
                let id = self.search.take();
                must(id == Some(string(block, "tool_use_id")?), || format!("no search: {block}"))?;
            }
            _ => return Err(format!("unknown block {block}")),
        }
        self.open = Some(kind);
        Ok(())
    }

    fn block_delta(&mut self, value: &Value) -> Result<(), String> {
        self.inside(value)?;
        let delta = &value["delta"];
        let kind = string(delta, "type")?;
        match (self.open.as_deref().unwrap_or_default(), kind.as_str()) {
            ("text", "text_delta") => self.choice.text.push_str(&string(delta, "text")?),
            ("text", "citations_delta") => drop(string(&delta["citation"], "type")?),
            ("thinking", "thinking_delta") => {
                must(!self.signed, || "thinking after its signature".into())?;
                self.choice.reasoning.push_str(&string(delta, "thinking")?);
            }
            ("thinking", "signature_delta") => {
                must(!self.signed, || "two signatures".into())?;
                string(delta, "signature")?;
                self.signed = true;
            }
            ("tool_use", "input_json_delta") => {
                let tool = self.choice.tools.last_mut().ok_or("no tool")?;
                tool.arguments.push_str(&string(delta, "partial_json")?);
            }
            ("server_tool_use", "input_json_delta") => {
                let input: Value = serde_json::from_str(&string(delta, "partial_json")?)
                    .map_err(|error| error.to_string())?;
                string(&input, "query")?;
            }
            (open, kind) => return Err(format!("{kind} in a block of {open}")),
        }
        Ok(())
    }
}

/// The results of a search, as the vendor's SDKs read them.
fn results(block: &Value) -> Result<(), String> {
    for found in block["content"].as_array().ok_or("no results")? {
        must(found["type"] == "web_search_result", || format!("{found}"))?;
        let texts = ["url", "title", "encrypted_content"];
        texts.iter().try_for_each(|name| string(found, name).map(drop))?;
    }
    Ok(())
}

fn envelope(message: &Value) -> Result<(), String> {
    must(message["type"] == "message" && message["role"] == "assistant", || format!("{message}"))?;
    must(!string(message, "id")?.is_empty() && !string(message, "model")?.is_empty(), || {
        "identity".into()
    })
}

fn tool(block: &Value, earlier: &[Tool]) -> Result<Tool, String> {
    let (id, name) = (string(block, "id")?, string(block, "name")?);
    must(!id.is_empty() && earlier.iter().all(|tool| tool.id != id), || format!("id of {block}"))?;
    Ok(Tool { id, name, arguments: String::new() })
}

fn stop(reason: &str) -> Result<String, String> {
    let known = [
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
        "compaction",
    ];
    must(known.contains(&reason), || format!("stop_reason {reason}"))?;
    Ok(reason.to_owned())
}

/// Takes over every member of `later` that says something.
pub(crate) fn merge(usage: &mut Value, later: &Value) {
    let (Some(usage), Some(later)) = (usage.as_object_mut(), later.as_object()) else { return };
    for (name, value) in later.iter().filter(|(_, value)| !value.is_null()) {
        usage.insert(name.clone(), value.clone());
    }
}

/// Reads a collected answer.
pub(crate) fn answer(bytes: &[u8]) -> Result<View, String> {
    let body: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    envelope(&body)?;
    let mut choice =
        Choice { stop: Some(stop(&string(&body, "stop_reason")?)?), ..Choice::default() };
    for block in body["content"].as_array().ok_or("no content")? {
        match string(block, "type")?.as_str() {
            "text" => choice.text.push_str(&string(block, "text")?),
            "thinking" => {
                string(block, "signature")?;
                choice.reasoning.push_str(&string(block, "thinking")?);
            }
            "redacted_thinking" => drop(string(block, "data")?),
            "tool_use" => {
                let mut tool = tool(block, &choice.tools)?;
                must(block["input"].is_object(), || format!("input of {block}"))?;
                tool.arguments = block["input"].to_string();
                choice.tools.push(tool);
            }
            "server_tool_use" => drop(string(&block["input"], "query")?),
            "web_search_tool_result" => results(block)?,
            _ => return Err(format!("unknown block {block}")),
        }
    }
    let mut view = View { ended: Ended::Complete, ..View::default() };
    view.usage = body["usage"].is_object().then(|| tokens(&body["usage"]));
    view.choices.insert(0, choice);
    Ok(view)
}

/// Usage as this dialect counts it: caches are not part of `input_tokens`.
pub(crate) fn tokens(usage: &Value) -> Tokens {
    let cache_read = count(usage, "/cache_read_input_tokens");
    let cache_write = count(usage, "/cache_creation_input_tokens");
    Tokens {
        input: count(usage, "/input_tokens") + cache_read + cache_write,
        cache_read,
        cache_write,
        output: count(usage, "/output_tokens"),
        reasoning: count(usage, "/output_tokens_details/thinking_tokens"),
    }
}
