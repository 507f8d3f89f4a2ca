//! A strict reader of Responses answers as our callers get them. It must
//! reject items that overlap, places that do not exist, numbers that jump, whatever the fragments and
//! the whole say differently, and anything after the terminal event.

use serde_json::{Value, json};

use super::language::{Ask, Language, schema};
use super::{Choice, Ended, Tokens, Tool, View, count, events, must, string};

/// The callers' side of the dialect.
pub(crate) const LANGUAGE: Language = Language {
    name: "openai-responses",
    path: |_| "/v1/responses".to_owned(),
    request,
    stream,
    answer,
    error: |body| {
        let error = &body["error"];
        let shaped = error["type"].is_string() && error.get("param").is_some();
        error["message"].as_str().filter(|_| shaped).map(ToOwned::to_owned)
    },
    stop: |neutral| match neutral {
        "length" | "context" => "max_output_tokens",
        "filter" => "content_filter",
        _ => "completed",
    },
    bad_gateway: 502,
    heartbeat: Some(
        ": ping
",
    ),
    single: true,
    refusal_is_text: false,
    told: |said| said,
    usage_always: true,
};

fn request(ask: &Ask) -> Value {
    let mut input = vec![json!({ "role": "user", "content": "hi" })];
    input.extend(ask.called.iter().map(|tool| {
        json!({ "type": "function_call", "call_id": tool.id, "name": tool.name, "arguments": tool.arguments })
    }));
    input.extend(ask.called.iter().map(|tool| {
        json!({ "type": "function_call_output", "call_id": tool.id, "output": format!("result of {}", tool.name) })
    }));
    let mut body = json!({ "model": ask.model, "stream": ask.stream, "input": input });
    if ask.tools {
        let tool = |name| json!({ "type": "function", "name": name, "description": "a tool", "parameters": schema(), "strict": false });
        body["tools"] = json!([tool("weather"), tool("clock")]);
    }
    body
}

/// The members that the vendor's types demand of every response object.
const DEMANDED: [&str; 32] = [
    "background",
    "completed_at",
    "created_at",
    "error",
    "frequency_penalty",
    "id",
    "incomplete_details",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "object",
    "output",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "status",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "usage",
    "user",
];

fn response(value: &Value, status: &str) -> Result<(), String> {
    for name in DEMANDED {
        must(value.get(name).is_some(), || format!("no {name} in {value}"))?;
    }
    must(value["object"] == "response" && value["status"] == status, || format!("{value}"))?;
    must(value["tools"].is_array() && value["output"].is_array(), || format!("lists of {value}"))?;
    must(value["parallel_tool_calls"].is_boolean() && value["metadata"].is_object(), || {
        format!("echo of {value}")
    })?;
    let numbers = ["temperature", "top_p", "presence_penalty", "frequency_penalty", "top_logprobs"];
    must(numbers.iter().all(|name| value[name].is_number()), || format!("numbers of {value}"))?;
    must(value["service_tier"].is_string(), || format!("service_tier of {value}"))?;
    must(value["completed_at"].is_u64() == (status == "completed"), || {
        format!("completed_at of {value}")
    })?;
    must(value["created_at"].is_number(), || format!("created_at of {value}"))?;
    must(!string(value, "id")?.is_empty() && !string(value, "model")?.is_empty(), || {
        format!("identity of {value}")
    })
}

#[derive(Default)]
struct Reading {
    /// The next `sequence_number`.
    next: u64,
    identity: Option<(String, String)>,
    /// Items that are done.
    done: Vec<Value>,
    /// The item that is open, put together from its events, and the part of it that is.
    open: Option<Value>,
    part: Option<Value>,
    ids: Vec<String>,
    failed: Option<String>,
    usage: Option<Tokens>,
    stop: Option<String>,
    ended: Ended,
}

/// Reads a translated stream. Usage always comes, asked for or not.
pub(crate) fn stream(bytes: &[u8], _want_usage: bool) -> Result<View, String> {
    let mut reading = Reading::default();
    let mut done = false;
    for (event, data) in events(bytes)? {
        must(!done, || format!("{data} after [DONE]"))?;
        if data == "[DONE]" {
            must(event.is_none() && reading.ended == Ended::Complete, || {
                "[DONE] too early".into()
            })?;
            done = true;
            continue;
        }
        must(reading.ended == Ended::Cut, || format!("{data} after the end"))?;
        let value: Value =
            serde_json::from_str(&data).map_err(|error| format!("{error} in {data}"))?;
        let kind = string(&value, "type")?;
        must(event.as_deref() == Some(&kind), || format!("event {event:?} carries {kind}"))?;
        must(value["sequence_number"].as_u64() == Some(reading.next), || {
            format!("{kind} is not number {}", reading.next)
        })?;
        reading.next += 1;
        reading.event(&kind, &value)?;
    }
    reading.view()
}

impl Reading {
    fn view(self) -> Result<View, String> {
        let mut choice = Choice { stop: self.stop, ..Choice::default() };
        for item in self.done.iter().chain(&self.open) {
            said(item, &mut choice)?;
        }
        if let Some(part) = &self.part {
            said_in(part, &mut choice)?;
        }
        let mut view = View { usage: self.usage, ended: self.ended, ..View::default() };
        if self.identity.is_some() {
            view.choices.insert(0, choice);
        }
        Ok(view)
    }

    fn event(&mut self, kind: &str, value: &Value) -> Result<(), String> {
        must(self.failed.is_none() || kind == "response.failed", || format!("{kind} after error"))?;
        match kind {
            "response.created" | "response.in_progress" => {
                must(self.next == if kind == "response.created" { 1 } else { 2 }, || {
                    format!("{kind} out of place")
                })?;
                self.lifecycle(&value["response"], "in_progress")?;
                must(value["response"]["usage"].is_null(), || format!("usage in {kind}"))
            }
            "error" => {
                let error = &value["error"];
                string(error, "type")?;
                must(error.get("param").is_some() && error.get("code").is_some(), || {
                    format!("bare {error}")
                })?;
                // The vendor's types have the members beside `error`, its wire has not.
                let beside = value.get("message");
                must(beside.is_none_or(|said| *said == error["message"]), || {
                    format!("two messages: {value}")
                })?;
                self.failed = Some(string(error, "message")?);
                Ok(())
            }
            "response.failed" => {
                let message = self.failed.clone().ok_or("failed without an error")?;
                self.lifecycle(&value["response"], "failed")?;
                let told = string(&value["response"]["error"], "message")?;
                must(told == message, || format!("told {told}, and {message} before"))?;
                self.ended = Ended::Error(message);
                Ok(())
            }
            "response.completed" | "response.incomplete" => self.terminal(kind, &value["response"]),
            _ => {
                must(self.identity.is_some(), || format!("{kind} before response.created"))?;
                self.item_event(kind, value)
            }
        }
    }

    fn lifecycle(&mut self, value: &Value, status: &str) -> Result<(), String> {
        response(value, status)?;
        let identity = (string(value, "id")?, string(value, "model")?);
        let first = self.identity.get_or_insert_with(|| identity.clone());
        must(*first == identity, || format!("identity changes in {value}"))
    }

    fn terminal(&mut self, kind: &str, value: &Value) -> Result<(), String> {
        must(self.open.is_none(), || format!("{kind} inside an item"))?;
        self.lifecycle(value, kind.trim_start_matches("response."))?;
        let output = value["output"].as_array().ok_or("no output")?;
        must(*output == self.done, || format!("the output is not what was said: {value}"))?;
        self.stop = Some(stop(value)?);
        self.usage = usage(&value["usage"])?;
        self.ended = Ended::Complete;
        Ok(())
    }

    fn item_event(&mut self, kind: &str, value: &Value) -> Result<(), String> {
        let index = value["output_index"].as_u64();
        must(index == u64::try_from(self.done.len()).ok(), || format!("output_index: {value}"))?;
        match kind {
            "response.output_item.added" => {
                must(self.open.is_none(), || format!("items overlap: {value}"))?;
                let item = &value["item"];
                let id = string(item, "id")?;
                must(!id.is_empty() && !self.ids.contains(&id), || format!("id of {item}"))?;
                must(status(item, &["in_progress"]), || format!("status of {item}"))?;
                let empty = ["content", "summary"].iter().all(|list| {
                    item.get(*list).is_none_or(|list| list.as_array().is_some_and(Vec::is_empty))
                });
                let bare = ["arguments", "input"]
                    .iter()
                    .all(|text| item.get(*text).is_none_or(|text| text == ""));
                must(empty && bare, || format!("not empty: {item}"))?;
                self.ids.push(id);
                self.open = Some(item.clone());
                Ok(())
            }
            "response.output_item.done" => self.item_done(&value["item"]),
            _ => {
                let open = self.open.as_ref().ok_or_else(|| format!("{kind} outside an item"))?;
                must(open["id"] == value["item_id"], || format!("item_id of {value}"))?;
                if kind.starts_with("response.web_search_call.") {
                    must(open["type"] == "web_search_call", || format!("{kind} in {open}"))
                } else if kind.contains("_part.") {
                    self.part_event(kind, value)
                } else {
                    self.fragment(kind, value)
                }
            }
        }
    }

    /// The completed item has the content of its events.
    fn item_done(&mut self, item: &Value) -> Result<(), String> {
        must(self.part.is_none(), || format!("done inside a part: {item}"))?;
        let mut open = self.open.take().ok_or_else(|| format!("no item is open: {item}"))?;
        must(status(item, &["completed", "incomplete"]), || format!("status of {item}"))?;
        if let Some(status) = item.get("status") {
            open["status"] = status.clone();
        }
        if let Some(state) = item.get("encrypted_content") {
            must(state.is_string(), || format!("state of {item}"))?;
            open["encrypted_content"] = state.clone();
        }
        must(open == *item, || format!("said {open}, done {item}"))?;
        self.done.push(open);
        Ok(())
    }

    /// The list of the open item that the parts of an event belong to, and its index there.
    fn place(&mut self, value: &Value) -> Result<(&mut Vec<Value>, Option<u64>), String> {
        let open = self.open.as_mut().ok_or("no item is open")?;
        let (list, index) = match open["type"].as_str() {
            Some("message") => ("content", &value["content_index"]),
            Some("reasoning") => ("summary", &value["summary_index"]),
            _ => return Err(format!("parts in {open}")),
        };
        let list = open[list].as_array_mut().ok_or("no list of parts")?;
        Ok((list, index.as_u64()))
    }

    fn part_event(&mut self, kind: &str, value: &Value) -> Result<(), String> {
        let (list, index) = self.place(value)?;
        let next = u64::try_from(list.len()).ok();
        must(index == next, || format!("index jumps: {value}"))?;
        let part = &value["part"];
        if kind.rsplit('.').next() == Some("added") {
            must(self.part.is_none(), || format!("parts overlap: {value}"))?;
            let known = match part["type"].as_str() {
                Some("output_text") => {
                    part["text"] == ""
                        && part["annotations"] == json!([])
                        && part["logprobs"] == json!([])
                }
                Some("refusal") => part["refusal"] == "",
                Some("summary_text") => part["text"] == "",
                _ => false,
            };
            must(known, || format!("not an empty part: {value}"))?;
            self.part = Some(part.clone());
            return Ok(());
        }
        list.push(part.clone());
        let said = self.part.take().ok_or("no part is open")?;
        must(said == *part, || format!("said {said}, done {part}"))
    }

    fn fragment(&mut self, kind: &str, value: &Value) -> Result<(), String> {
        let (name, of, wanted) = match kind {
            "response.output_text.delta" => ("text", "output_text", "delta"),
            "response.output_text.done" => ("text", "output_text", "text"),
            "response.output_text.annotation.added" => return self.annotation(value),
            "response.refusal.delta" => ("refusal", "refusal", "delta"),
            "response.refusal.done" => ("refusal", "refusal", "refusal"),
            "response.reasoning_summary_text.delta" => ("text", "summary_text", "delta"),
            "response.reasoning_summary_text.done" => ("text", "summary_text", "text"),
            "response.function_call_arguments.delta" => ("arguments", "function_call", "delta"),
            "response.function_call_arguments.done" => ("arguments", "function_call", "arguments"),
            "response.custom_tool_call_input.delta" => ("input", "custom_tool_call", "delta"),
            "response.custom_tool_call_input.done" => ("input", "custom_tool_call", "input"),
            _ => return Err(format!("unknown event {kind}")),
        };
        let text = string(value, wanted)?;
        let call = of.ends_with("_call");
        if !call {
            let (list, index) = self.place(value)?;
            let last = u64::try_from(list.len()).ok();
            must(index == last, || format!("not in the open part: {value}"))?;
        }
        let home = if call { self.open.as_mut() } else { self.part.as_mut() };
        let home = home.ok_or_else(|| format!("no part is open: {value}"))?;
        must(home["type"] == of, || format!("{kind} in {home}"))?;
        let so_far = string(home, name)?;
        if kind.rsplit('.').next() == Some("done") {
            return must(so_far == text, || format!("said {so_far:?}, done {value}"));
        }
        home[name] = Value::String(so_far + &text);
        if of == "output_text" {
            let new = value["logprobs"].as_array().ok_or("no logprobs")?;
            home["logprobs"].as_array_mut().ok_or("no logprobs")?.extend(new.iter().cloned());
        }
        Ok(())
    }

    fn annotation(&mut self, value: &Value) -> Result<(), String> {
        let part = self.part.as_mut().ok_or("no part is open")?;
        let list = part["annotations"].as_array_mut().ok_or("not in a text")?;
        let index = value["annotation_index"].as_u64();
        must(index == u64::try_from(list.len()).ok(), || format!("index jumps: {value}"))?;
        source(&value["annotation"])?;
        list.push(value["annotation"].clone());
        Ok(())
    }
}

/// Whether an item has one of these states. The vendor leaves that of reasoning out.
fn status(item: &Value, states: &[&str]) -> bool {
    let said = item["status"].as_str();
    said.map_or(item["type"] == "reasoning", |said| states.contains(&said))
}

fn source(annotation: &Value) -> Result<(), String> {
    must(annotation["type"] == "url_citation", || format!("type of {annotation}"))?;
    must(annotation["start_index"].is_u64() && annotation["end_index"].is_u64(), || {
        format!("offsets of {annotation}")
    })?;
    string(annotation, "url")?;
    string(annotation, "title").map(drop)
}

fn stop(response: &Value) -> Result<String, String> {
    if response["status"] == "completed" {
        must(response["incomplete_details"].is_null(), || format!("details of {response}"))?;
        return Ok("completed".into());
    }
    let reason = string(&response["incomplete_details"], "reason")?;
    let known = ["max_output_tokens", "content_filter"].contains(&reason.as_str());
    must(known, || format!("reason {reason}"))?;
    Ok(reason)
}

fn usage(usage: &Value) -> Result<Option<Tokens>, String> {
    if usage.is_null() {
        return Ok(None);
    }
    for pointer in [
        "/input_tokens",
        "/input_tokens_details/cached_tokens",
        "/input_tokens_details/cache_write_tokens",
        "/output_tokens",
        "/output_tokens_details/reasoning_tokens",
        "/total_tokens",
    ] {
        let there = usage.pointer(pointer).is_some_and(Value::is_u64);
        must(there, || format!("no {pointer} in {usage}"))?;
    }
    Ok(Some(tokens(usage)))
}

/// Adds what an item says.
fn said(item: &Value, choice: &mut Choice) -> Result<(), String> {
    match string(item, "type")?.as_str() {
        "message" => {
            must(item["role"] == "assistant", || format!("role of {item}"))?;
            for part in item["content"].as_array().ok_or("no content")? {
                said_in(part, choice)?;
            }
        }
        "reasoning" => {
            for part in item["summary"].as_array().ok_or("no summary")? {
                said_in(part, choice)?;
            }
        }
        kind @ ("function_call" | "custom_tool_call") => {
            let id = string(item, "call_id")?;
            must(!id.is_empty() && choice.tools.iter().all(|tool| tool.id != id), || {
                format!("call_id of {item}")
            })?;
            let text = if kind == "function_call" { "arguments" } else { "input" };
            let (name, arguments) = (string(item, "name")?, string(item, text)?);
            choice.tools.push(Tool { id, name, arguments });
        }
        "web_search_call" => {
            must(item["action"]["type"] == "search", || format!("action of {item}"))?;
            string(&item["action"], "query")?;
            for source in item["action"]["sources"].as_array().ok_or("no sources")? {
                must(!string(source, "url")?.is_empty(), || format!("{source}"))?;
            }
        }
        _ => return Err(format!("unknown item {item}")),
    }
    Ok(())
}

fn said_in(part: &Value, choice: &mut Choice) -> Result<(), String> {
    match string(part, "type")?.as_str() {
        "output_text" => choice.text.push_str(&string(part, "text")?),
        "refusal" => choice.refusal.push_str(&string(part, "refusal")?),
        "summary_text" => choice.reasoning.push_str(&string(part, "text")?),
        _ => return Err(format!("unknown part {part}")),
    }
    Ok(())
}

/// Reads a collected answer.
pub(crate) fn answer(bytes: &[u8]) -> Result<View, String> {
    let body: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let status = string(&body, "status")?;
    must(["completed", "incomplete"].contains(&status.as_str()), || format!("status {status}"))?;
    response(&body, &status)?;
    let mut choice = Choice { stop: Some(stop(&body)?), ..Choice::default() };
    let mut ids = Vec::new();
    for item in body["output"].as_array().ok_or("no output")? {
        let id = string(item, "id")?;
        must(!id.is_empty() && !ids.contains(&id), || format!("id of {item}"))?;
        ids.push(id);
        said(item, &mut choice)?;
        for part in item["content"].as_array().into_iter().flatten() {
            for annotation in part["annotations"].as_array().into_iter().flatten() {
                source(annotation)?;
            }
        }
    }
    let mut view = View { ended: Ended::Complete, ..View::default() };
    view.usage = usage(&body["usage"])?;
    view.choices.insert(0, choice);
    Ok(view)
}

/// Usage as this dialect counts it: caches and reasoning are parts of the totals.
pub(crate) fn tokens(usage: &Value) -> Tokens {
    Tokens {
        input: count(usage, "/input_tokens"),
        cache_read: count(usage, "/input_tokens_details/cached_tokens"),
        cache_write: count(usage, "/input_tokens_details/cache_write_tokens"),
        output: count(usage, "/output_tokens"),
        reasoning: count(usage, "/output_tokens_details/reasoning_tokens"),
    }
}
