//! Answers in the format of `OpenAI`'s Responses API.
//!
//! Modelled on recorded streams: consecutive items, each repeated in full when it is done, and the full output
//! again in the terminal event. Refusals and calls end with the status `completed`.

use axum::http::Uri;
use serde_json::{Value, json};

use super::answer::{Piece, Stop};
use super::encoder::{Encoder, Event, Totals, quoted};
use super::openai::CREATED;
use super::request::{Fields, RequestError, SimRequest};
use super::vendor::Vendor;

/// Placeholder for the vendor's encrypted reasoning.
const SEALED: &str = "c2ltdWxhdGVkLXJlYXNvbmluZw==";

/// Path of the endpoint that counts input tokens.
const COUNT: &str = "/v1/responses/input_tokens";
/// Path of the endpoint that compacts a conversation.
const COMPACT: &str = "/v1/responses/compact";

/// The vendor `OpenAI` at this endpoint.
pub(super) struct Responses;

impl Vendor for Responses {
    fn paths(&self) -> &'static [&'static str] {
        &["/v1/responses", "/responses", COUNT, COMPACT]
    }

    fn read(&self, uri: &Uri, body: &[u8]) -> Result<SimRequest, RequestError> {
        let fields = Fields::read(self, body)?;
        let model = fields.text("model")?;
        let input = fields.value.get("input").ok_or_else(|| fields.missing("input"))?;
        let last = input.as_array().and_then(|items| items.last());
        let last = last.and_then(|item| item.get("type")).and_then(Value::as_str);
        for field in ["previous_response_id", "conversation"] {
            if fields.has(field) {
                let message = format!("'{field}' was not found: nothing is stored here.");
                return Err(RequestError::invalid(message, Some(field)));
            }
        }
        Ok(SimRequest {
            model,
            stream: !matches!(uri.path(), COUNT | COMPACT)
                && fields.flag("stream")?.unwrap_or(false),
            form: match uri.path() {
                COUNT => "count",
                COMPACT => "compact",
                _ => "responses",
            },
            usage: true,
            choices: 1,
            max_tokens: fields.number("max_output_tokens")?,
            tools: fields.tool_names("/name"),
            repeated: repeated(&fields.value),
            answers_tools: matches!(last, Some("function_call_output" | "custom_tool_call_output")),
            prompt_tokens: fields.prompt_tokens,
        })
    }

    fn encoder(&self, number: u64, ask: &SimRequest) -> Box<dyn Encoder> {
        Box::new(Response {
            number,
            form: ask.form,
            model: ask.model.clone(),
            prompt_tokens: ask.prompt_tokens,
            repeated: ask.repeated.clone(),
            sequence: 0,
            done: Vec::new(),
            open: None,
        })
    }

    fn refusal(&self, refused: &RequestError, _request_id: &str) -> Value {
        let kind = match refused.status {
            429 => "requests",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {
            "message": refused.message,
            "type": kind,
            "param": refused.param,
            "code": refused.code,
        }})
    }
}

/// Members of a request that the response repeats, with the defaults that the vendor adds.
fn repeated(request: &Value) -> Value {
    let said = |name: &str| request.get(name).filter(|said| !said.is_null()).cloned();
    let mut tools = said("tools").unwrap_or_else(|| json!([]));
    for tool in tools.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if tool.get("type").is_some_and(|kind| kind == "function") {
            for name in ["description", "parameters", "strict"] {
                tool.entry(name).or_insert(Value::Null);
            }
        }
    }
    let mut choice = said("tool_choice").unwrap_or_else(|| json!("auto"));
    if let Some(choice) = choice.as_object_mut()
        && choice.get("type").is_some_and(|kind| kind == "allowed_tools")
    {
        choice.entry("mode").or_insert_with(|| json!("auto"));
    }
    json!({ "tools": tools, "tool_choice": choice })
}

/// State of one answer.
struct Response {
    number: u64,
    /// Kind of the request, see [`SimRequest`].
    form: &'static str,
    model: String,
    prompt_tokens: u64,
    /// Members of the request that the response repeats.
    repeated: Value,
    sequence: u64,
    /// Complete items.
    done: Vec<Value>,
    open: Option<Open>,
}

/// The item that is being sent.
struct Open {
    of: Of,
    id: String,
    text: String,
    /// Name of the called tool.
    name: String,
}

/// Kind of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Reasoning,
    Text,
    Refusal,
    /// The call with this index.
    Call(u64),
}

fn of(piece: &Piece) -> (Of, &str) {
    match piece {
        Piece::Think(token) => (Of::Reasoning, token),
        Piece::Text(token) => (Of::Text, token),
        Piece::Refusal(token) => (Of::Refusal, token),
        Piece::Call { index, fragment, .. } => (Of::Call(*index), fragment),
    }
}

impl Open {
    /// The item with this status, without content while it is in progress.
    fn item(&self, number: u64, status: &str) -> Value {
        let (id, text) = (&self.id, &self.text);
        let whole = status != "in_progress";
        let part = |part: Value| if whole { json!([part]) } else { json!([]) };
        match self.of {
            Of::Reasoning if whole => json!({
                "id": id, "type": "reasoning", "encrypted_content": SEALED,
                "summary": [{"type": "summary_text", "text": text}],
            }),
            Of::Reasoning => json!({"id": id, "type": "reasoning", "summary": []}),
            Of::Text => json!({
                "id": id, "type": "message", "status": status, "role": "assistant",
                "content": part(json!({
                    "type": "output_text", "annotations": [], "logprobs": [], "text": text,
                })),
            }),
            Of::Refusal => json!({
                "id": id, "type": "message", "status": status, "role": "assistant",
                "content": part(json!({"type": "refusal", "refusal": text})),
            }),
            Of::Call(index) => json!({
                "id": id, "type": "function_call", "status": status, "arguments": text,
                "call_id": format!("call_sim{number}_{index}"), "name": self.name,
            }),
        }
    }

    /// The names of its part events and delta events, and the index member of a part.
    fn words(&self) -> (&'static str, &'static str, &'static str) {
        match self.of {
            Of::Reasoning => (
                "response.reasoning_summary_part",
                "response.reasoning_summary_text",
                "summary_index",
            ),
            Of::Text => ("response.content_part", "response.output_text", "content_index"),
            Of::Refusal => ("response.content_part", "response.refusal", "content_index"),
            Of::Call(_) => ("", "response.function_call_arguments", ""),
        }
    }

    fn part(&self, text: &str) -> String {
        let text = quoted(text);
        match self.of {
            Of::Reasoning => format!(r#"{{"type":"summary_text","text":{text}}}"#),
            Of::Refusal => format!(r#"{{"type":"refusal","refusal":{text}}}"#),
            Of::Text | Of::Call(_) => {
                format!(r#"{{"type":"output_text","annotations":[],"logprobs":[],"text":{text}}}"#)
            }
        }
    }
}

/// Returns the static name of an event. The list covers all events that are sent here.
fn named(name: &str) -> &'static str {
    const NAMES: [&str; 18] = [
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.refusal.delta",
        "response.refusal.done",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.function_call_arguments.delta",
    ];
    NAMES
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("response.function_call_arguments.done")
}

impl Response {
    /// An event with its sequence number. `rest` holds its other fields.
    fn event(&mut self, name: &str, rest: &str) -> Event {
        let sequence = self.sequence;
        self.sequence = sequence.saturating_add(1);
        let data = format!(r#"{{"type":"{name}","sequence_number":{sequence},{rest}}}"#);
        Event { name: Some(named(name)), data }
    }

    fn lifecycle(&mut self, name: &str, response: &Value) -> Event {
        self.event(name, &format!(r#""response":{response}"#))
    }

    fn response(&self, status: &str, output: &[Value], usage: &Value) -> Value {
        let incomplete = match status {
            "incomplete" => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        let error = match status {
            "failed" => json!({
                "code": "server_error",
                "message": "The simulated upstream fails here, as the model name asks.",
            }),
            _ => Value::Null,
        };
        json!({
            "id": format!("resp_sim{}", self.number), "object": "response", "created_at": CREATED,
            "completed_at": if status == "completed" { json!(CREATED) } else { Value::Null },
            "presence_penalty": 0.0, "frequency_penalty": 0.0,
            "status": status, "background": false, "error": error,
            "incomplete_details": incomplete, "instructions": null, "max_output_tokens": null,
            "max_tool_calls": null, "model": self.model, "output": output,
            "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null,
            "reasoning": {"effort": null, "summary": null}, "safety_identifier": null,
            "service_tier": "default", "store": false, "temperature": 1.0,
            "text": {"format": {"type": "text"}, "verbosity": "medium"},
            "tool_choice": self.repeated.get("tool_choice"),
            "tools": self.repeated.get("tools"), "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled",
            "usage": usage, "user": null, "metadata": {},
        })
    }

    fn usage(&self, totals: Totals) -> Value {
        json!({
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": totals.tokens,
            "output_tokens_details": {"reasoning_tokens": totals.thinking},
            "total_tokens": self.prompt_tokens.saturating_add(totals.tokens),
        })
    }

    fn begin(&self, piece: &Piece) -> Open {
        let (of, _) = of(piece);
        let prefix = match of {
            Of::Reasoning => "rs",
            Of::Text | Of::Refusal => "msg",
            Of::Call(_) => "fc",
        };
        let id = format!("{prefix}_sim{}_{}", self.number, self.done.len());
        let name = match piece {
            Piece::Call { name, .. } => name.clone(),
            _ => String::new(),
        };
        Open { of, id, text: String::new(), name }
    }

    /// Opens the item of `piece`, unless it is open.
    fn enter(&mut self, piece: &Piece) -> Vec<Event> {
        if self.open.as_ref().is_some_and(|open| open.of == of(piece).0) {
            return Vec::new();
        }
        let mut events = self.leave("completed");
        let open = self.begin(piece);
        let index = self.done.len();
        let item = open.item(self.number, "in_progress");
        let added = format!(r#""output_index":{index},"item":{item}"#);
        events.push(self.event("response.output_item.added", &added));
        let (part, _, place) = open.words();
        if !part.is_empty() {
            let rest = format!(
                r#""item_id":"{}","output_index":{index},"{place}":0,"part":{}"#,
                open.id,
                open.part("")
            );
            events.push(self.event(&format!("{part}.added"), &rest));
        }
        self.open = Some(open);
        events
    }

    /// Closes the open item.
    fn leave(&mut self, status: &str) -> Vec<Event> {
        let Some(open) = self.open.take() else {
            return Vec::new();
        };
        let mut events = Vec::new();
        let index = self.done.len();
        let (part, delta, place) = open.words();
        let at = format!(r#""item_id":"{}","output_index":{index}"#, open.id);
        let text = quoted(&open.text);
        let rest = match open.of {
            Of::Call(_) => format!(r#"{at},"name":{},"arguments":{text}"#, quoted(&open.name)),
            Of::Refusal => format!(r#"{at},"{place}":0,"refusal":{text}"#),
            Of::Text => format!(r#"{at},"{place}":0,"text":{text},"logprobs":[]"#),
            Of::Reasoning => format!(r#"{at},"{place}":0,"text":{text}"#),
        };
        events.push(self.event(&format!("{delta}.done"), &rest));
        if !part.is_empty() {
            let rest = format!(r#"{at},"{place}":0,"part":{}"#, open.part(&open.text));
            events.push(self.event(&format!("{part}.done"), &rest));
        }
        let item = open.item(self.number, status);
        let done = format!(r#""output_index":{index},"item":{item}"#);
        events.push(self.event("response.output_item.done", &done));
        self.done.push(item);
        events
    }
}

impl Encoder for Response {
    fn opening(&mut self, _first: Option<&Piece>) -> Vec<Event> {
        let response = self.response("in_progress", &[], &Value::Null);
        ["response.created", "response.in_progress"]
            .map(|name| self.lifecycle(name, &response))
            .into()
    }

    fn say(&mut self, piece: &Piece) -> Vec<Event> {
        let mut events = self.enter(piece);
        let (_, token) = of(piece);
        let index = self.done.len();
        let Some(open) = &mut self.open else { return events };
        open.text.push_str(token);
        let (_, delta, place) = open.words();
        let token = quoted(token);
        let place = match open.of {
            Of::Call(_) => String::new(),
            _ => format!(r#""{place}":0,"#),
        };
        let logprobs = if open.of == Of::Text { r#","logprobs":[]"# } else { "" };
        let rest = format!(
            r#""item_id":"{}","output_index":{index},{place}"delta":{token}{logprobs},"obfuscation":"sim""#,
            open.id
        );
        events.push(self.event(&format!("{delta}.delta"), &rest));
        events
    }

    fn closing(&mut self, totals: Totals) -> Vec<Event> {
        let status = if totals.stop == Stop::Length { "incomplete" } else { "completed" };
        let mut events = self.leave(status);
        let response = self.response(status, &self.done, &self.usage(totals));
        events.push(self.lifecycle(&format!("response.{status}"), &response));
        events
    }

    fn failure(&self) -> Vec<Event> {
        let (next, after) = (self.sequence, self.sequence.saturating_add(1));
        let response = self.response("failed", &self.done, &Value::Null);
        let message = "The simulated upstream fails here, as the model name asks.";
        let error = json!({
            "type": "error", "sequence_number": next,
            "error": {"type": "server_error", "code": "server_error", "message": message, "param": null},
        });
        let failed = json!({
            "type": "response.failed", "sequence_number": after, "response": response,
        });
        vec![
            Event { name: Some("error"), data: error.to_string() },
            Event { name: Some("response.failed"), data: failed.to_string() },
        ]
    }

    fn junk(&self) -> Event {
        Event {
            name: Some("response.output_text.delta"),
            data: r#"{"type":"response.output_text.delta","output_ind"#.to_owned(),
        }
    }

    fn whole(&self, pieces: &[Piece], totals: Totals) -> Value {
        match self.form {
            "count" => {
                return json!({"object": "response.input_tokens", "input_tokens": self.prompt_tokens});
            }
            "compact" => {
                let id = format!("cmp_sim{}", self.number);
                return json!({
                    "id": format!("resp_sim{}", self.number), "object": "response.compaction",
                    "created_at": CREATED, "usage": self.usage(totals),
                    "output": [{"id": id, "type": "compaction", "encrypted_content": SEALED}],
                });
            }
            _ => {}
        }
        let status = if totals.stop == Stop::Length { "incomplete" } else { "completed" };
        let mut items: Vec<Open> = Vec::new();
        for piece in pieces {
            let (of, token) = of(piece);
            match items.last_mut() {
                Some(open) if open.of == of => open.text.push_str(token),
                _ => {
                    let mut open = self.begin(piece);
                    open.id = format!("{}{}", open.id, items.len());
                    open.text.push_str(token);
                    items.push(open);
                }
            }
        }
        let output: Vec<Value> = items.iter().map(|open| open.item(self.number, status)).collect();
        self.response(status, &output, &self.usage(totals))
    }
}
