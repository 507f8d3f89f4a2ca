//! Answers in Gemini's format.
//!
//! Modelled on recorded streams: CRLF, usage in every chunk, complete calls without ids, a signature on the
//! first call or on an empty text at the end, and no terminator but a finish reason.

use std::collections::BTreeMap;

use axum::http::Uri;
use serde_json::{Value, json};

use super::answer::{Piece, REFUSAL, Stop};
use super::embeddings;
use super::encoder::{Encoder, Event, Layout, Totals};
use super::request::{Fields, RequestError, SimRequest};
use super::vendor::Vendor;

/// Prefix of paths with a model and a method.
const PREFIX: &str = "/v1beta/models/";
/// Placeholder for the vendor's encrypted signature.
const SIGNATURE: &str = "c2ltdWxhdGVkLXRob3VnaHQtc2lnbmF0dXJl";
/// The members that a request may have.
const MEMBERS: [&str; 11] = [
    "contents",
    "systemInstruction",
    "system_instruction",
    "tools",
    "toolConfig",
    "generationConfig",
    "safetySettings",
    "cachedContent",
    "labels",
    "model",
    "serviceTier",
];

/// The vendor Gemini.
pub(super) struct Gemini;

impl Vendor for Gemini {
    fn paths(&self) -> &'static [&'static str] {
        &["/v1beta/models/{*rest}"]
    }

    fn read(&self, uri: &Uri, body: &[u8]) -> Result<SimRequest, RequestError> {
        let (model, method) = place(uri)?;
        let fields = Fields::read(self, body)?;
        let (form, stream) = match method {
            "generateContent" => ("chat", false),
            "streamGenerateContent" if uri.query().unwrap_or_default().contains("alt=sse") => {
                ("chat", true)
            }
            "streamGenerateContent" => ("array", true),
            "countTokens" => ("count", false),
            "embedContent" => ("embed", false),
            "batchEmbedContents" => ("embeds", false),
            _ => return Err(not_found()),
        };
        let mut ask = SimRequest {
            model,
            stream,
            form,
            usage: true,
            choices: 1,
            max_tokens: None,
            tools: Vec::new(),
            repeated: Value::Null,
            answers_tools: false,
            prompt_tokens: fields.prompt_tokens,
        };
        if matches!(form, "chat" | "array") {
            conversation(&fields, &mut ask)?;
        }
        if form == "embed" {
            ask.repeated = embedded(&[&fields.value])?;
        }
        if form == "embeds" {
            let requests: Vec<&Value> = fields.list("requests")?.iter().collect();
            ask.repeated = embedded(&requests)?;
        }
        Ok(ask)
    }

    fn encoder(&self, number: u64, ask: &SimRequest) -> Box<dyn Encoder> {
        Box::new(Chunks {
            number,
            ask: ask.clone(),
            call: None,
            signed: false,
            said: 0,
            thought: 0,
            begun: false,
        })
    }

    fn refusal(&self, refused: &RequestError, request_id: &str) -> Value {
        error(refused.status, &refused.message, Some(request_id))
    }

    fn missing(&self, field: &str) -> String {
        format!("* GenerateContentRequest.{field}: {field} is not specified\n")
    }

    fn wrong_type(&self, field: &str, wanted: &str) -> String {
        format!("Invalid value at '{field}' (it must be {wanted})")
    }
}

fn error(status: u16, message: &str, request_id: Option<&str>) -> Value {
    let word = match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        503 | 529 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    let mut error = json!({"code": status, "message": message, "status": word});
    if let Some(id) = request_id {
        let kind = "type.googleapis.com/google.rpc.RequestInfo";
        put(&mut error, "details", json!([{"@type": kind, "requestId": id}]));
    }
    json!({ "error": error })
}

/// Sets a member of an object.
fn put(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value.into());
    }
}

fn not_found() -> RequestError {
    let message = "The requested URL was not found on this server.".to_owned();
    RequestError { status: 404, ..RequestError::invalid(message, None) }
}

/// The model and the method of a path.
fn place(uri: &Uri) -> Result<(String, &str), RequestError> {
    let rest = uri.path().strip_prefix(PREFIX).ok_or_else(not_found)?;
    let (model, method) = rest.rsplit_once(':').ok_or_else(not_found)?;
    Ok((model.replace("%2F", "/"), method))
}

/// Reads the conversation of a request into `ask`.
fn conversation(fields: &Fields<'_>, ask: &mut SimRequest) -> Result<(), RequestError> {
    if let Some(members) = fields.value.as_object()
        && let Some(name) = members.keys().find(|name| !MEMBERS.contains(&name.as_str()))
    {
        let length = name.len();
        let message = format!(
            "Invalid JSON payload received. ProgramError name of {length} characters at the top: Cannot find field."
        );
        return Err(RequestError::invalid(message, None));
    }
    let contents = fields.list("contents")?;
    let last = fields.last("contents")?;
    turns(contents)?;
    let config = fields.value.get("generationConfig").unwrap_or(&Value::Null);
    ask.max_tokens = member(config, "maxOutputTokens", "max_output_tokens").as_u64();
    ask.choices = config["candidateCount"].as_u64().unwrap_or(1).clamp(1, 8);
    let tools = fields.value.get("tools").and_then(Value::as_array).into_iter().flatten();
    let functions = tools
        .filter_map(|tool| member(tool, "functionDeclarations", "function_declarations").as_array())
        .flatten();
    ask.tools =
        functions.filter_map(|function| function["name"].as_str()).map(ToOwned::to_owned).collect();
    ask.answers_tools = count(last, "functionResponse", "function_response") > 0;
    Ok(())
}

/// The texts to embed, and the length of the vectors.
fn embedded(requests: &[&Value]) -> Result<Value, RequestError> {
    let mut texts = Vec::new();
    for request in requests {
        let parts = request.pointer("/content/parts").and_then(Value::as_array);
        let Some(parts) = parts.filter(|parts| !parts.is_empty()) else {
            let message = "* EmbedContentRequest.content: contents is not specified\n".to_owned();
            return Err(RequestError::invalid(message, Some("content")));
        };
        let words: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
        texts.push(words.join("\n"));
    }
    let first = requests.first().copied().unwrap_or(&Value::Null);
    let dimensions = member(first, "outputDimensionality", "output_dimensionality").as_u64();
    Ok(embeddings::repeated(&texts, dimensions, &Value::Null))
}

/// A member under either of its names. The vendor accepts both.
fn member<'a>(object: &'a Value, camel: &str, snake: &str) -> &'a Value {
    object.get(camel).or_else(|| object.get(snake)).unwrap_or(&Value::Null)
}

/// Number of parts of a turn with this member.
fn count(turn: &Value, camel: &str, snake: &str) -> usize {
    let parts = turn["parts"].as_array().into_iter().flatten();
    parts.filter(|part| !member(part, camel, snake).is_null()).count()
}

/// Checks roles and parts, and that the turn after calls has as many results as calls.
fn turns(contents: &[Value]) -> Result<(), RequestError> {
    let refuse = |message: &str| Err(RequestError::invalid(message.to_owned(), Some("contents")));
    let mut open = 0;
    for turn in contents {
        let Some(parts) = turn["parts"].as_array().filter(|parts| !parts.is_empty()) else {
            return refuse(
                "* GenerateContentRequest.contents: contents.parts must not be empty.\n",
            );
        };
        if !matches!(turn["role"].as_str(), Some("user" | "model") | None) {
            return refuse("Please use a valid role: user, model.");
        }
        for part in parts {
            let wrong = part.get("functionCall").is_some_and(|call| !call["args"].is_object())
                || part.get("functionResponse").is_some_and(|answer| {
                    !answer["response"].is_object() || !answer["name"].is_string()
                });
            if wrong {
                return refuse(
                    "Invalid value at 'contents.parts' (Starting an object on a scalar field)",
                );
            }
        }
        let calls = count(turn, "functionCall", "function_call");
        let answers = count(turn, "functionResponse", "function_response");
        if answers != open {
            return refuse(
                "Please ensure that the number of function response parts is equal to the number of \
                 function call parts of the function call turn.",
            );
        }
        open = calls;
    }
    Ok(())
}

/// State of one answer.
struct Chunks {
    number: u64,
    ask: SimRequest,
    /// The incomplete call: its index, name and arguments.
    call: Option<(u64, String, String)>,
    /// Whether the signature was sent.
    signed: bool,
    said: u64,
    thought: u64,
    /// Whether the array has an element.
    begun: bool,
}

impl Chunks {
    fn identity(&self, mut chunk: Value) -> Value {
        put(&mut chunk, "modelVersion", self.ask.model.clone());
        put(&mut chunk, "responseId", format!("sim{}", self.number));
        chunk
    }

    fn usage(&self) -> Value {
        let (prompt, thoughts) = (self.ask.prompt_tokens, self.thought);
        let said = self.said.saturating_sub(thoughts);
        let mut usage = json!({
            "promptTokenCount": prompt,
            "totalTokenCount": prompt.saturating_add(self.said),
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
        });
        if said > 0 {
            put(&mut usage, "candidatesTokenCount", said);
        }
        if thoughts > 0 {
            put(&mut usage, "thoughtsTokenCount", thoughts);
        }
        usage
    }

    fn candidates(&self, parts: &Value, finish: Option<Stop>) -> Value {
        let candidate = |index: u64| {
            let mut candidate =
                json!({"content": {"parts": parts, "role": "model"}, "index": index});
            if let Some(stop) = finish {
                put(&mut candidate, "finishReason", reason(stop));
                if stop == Stop::Refusal {
                    put(&mut candidate, "finishMessage", REFUSAL.trim_end());
                }
            }
            candidate
        };
        (0..self.ask.choices).map(candidate).collect()
    }

    fn chunk(&mut self, parts: &Value, finish: Option<Stop>) -> Event {
        let candidates = self.candidates(parts, finish);
        let chunk = json!({"candidates": candidates, "usageMetadata": self.usage()});
        let data = self.identity(chunk).to_string();
        self.event(&data)
    }

    /// An event. In an array, it includes the separator.
    fn event(&mut self, data: &str) -> Event {
        let begun = std::mem::replace(&mut self.begun, true);
        let data = match (self.ask.form, begun) {
            ("array", false) => format!("[{data}"),
            ("array", true) => format!("\n,\r\n{data}"),
            _ => data.to_owned(),
        };
        Event { name: None, data }
    }

    /// The complete call as a part.
    fn gathered(&mut self) -> Option<Value> {
        let (_, name, arguments) = self.call.take()?;
        let args = serde_json::from_str(&arguments).unwrap_or_else(|_| json!({}));
        let mut part = json!({"functionCall": {"name": name, "args": args}});
        if !std::mem::replace(&mut self.signed, true) {
            put(&mut part, "thoughtSignature", SIGNATURE);
        }
        Some(part)
    }

    fn flush(&mut self) -> Option<Event> {
        let part = self.gathered()?;
        Some(self.chunk(&json!([part]), None))
    }
}

impl Encoder for Chunks {
    fn layout(&self) -> Layout {
        if self.ask.form == "array" { Layout::Json } else { Layout::Crlf }
    }

    fn opening(&mut self, _first: Option<&Piece>) -> Vec<Event> {
        Vec::new()
    }

    fn say(&mut self, piece: &Piece) -> Vec<Event> {
        let other = match (&self.call, piece) {
            (Some((open, ..)), Piece::Call { index, .. }) => open != index,
            (open, _) => open.is_some(),
        };
        let mut events = Vec::new();
        if other {
            events.extend(self.flush());
        }
        self.said = self.said.saturating_add(1);
        match piece {
            Piece::Text(token) => events.push(self.chunk(&json!([{"text": token}]), None)),
            Piece::Think(token) => {
                self.thought = self.thought.saturating_add(1);
                events.push(self.chunk(&json!([{"text": token, "thought": true}]), None));
            }
            Piece::Call { index, name, fragment } => {
                let (.., arguments) =
                    self.call.get_or_insert_with(|| (*index, name.clone(), String::new()));
                arguments.push_str(fragment);
            }
            // The vendor's refusal has no content; its text is in the message of the final chunk.
            Piece::Refusal(_) => {}
        }
        events
    }

    fn closing(&mut self, totals: Totals) -> Vec<Event> {
        let mut events: Vec<Event> = self.flush().into_iter().collect();
        let mut part = json!({"text": ""});
        if totals.thinking > 0 && !self.signed {
            put(&mut part, "thoughtSignature", SIGNATURE);
        }
        let mut last = self.chunk(&json!([part]), Some(totals.stop));
        if self.ask.form == "array" {
            last.data.push_str("\n]\n");
        }
        events.push(last);
        events
    }

    fn failure(&self) -> Vec<Event> {
        let message = "The model is overloaded. Please try again later.";
        let data = error(503, message, None).to_string();
        let data = match (self.ask.form, self.begun) {
            ("array", false) => format!("[{data}]"),
            ("array", true) => format!("\n,\r\n{data}\n]"),
            _ => data,
        };
        vec![Event { name: None, data }]
    }

    fn junk(&self) -> Event {
        let comma = if self.ask.form == "array" && self.begun { "," } else { "" };
        let data = format!(r#"{comma}{{"candidates":[{{"content":{{"par"#);
        Event { name: None, data }
    }

    fn whole(&self, pieces: &[Piece], totals: Totals) -> Value {
        match self.ask.form {
            "count" => return json!({"totalTokens": self.ask.prompt_tokens}),
            "embed" | "embeds" => {
                let vectors = embeddings::vectors(&self.ask.repeated);
                let all: Vec<Value> =
                    vectors.iter().map(|vector| json!({ "values": vector })).collect();
                if self.ask.form == "embed" {
                    return json!({ "embedding": all.first() });
                }
                return json!({ "embeddings": all });
            }
            _ => {}
        }
        let (mut text, mut thought) = (String::new(), String::new());
        let mut calls: BTreeMap<u64, (&str, String)> = BTreeMap::new();
        for piece in pieces {
            match piece {
                Piece::Text(token) => text.push_str(token),
                Piece::Think(token) => thought.push_str(token),
                Piece::Call { index, name, fragment } => {
                    calls.entry(*index).or_insert((name, String::new())).1.push_str(fragment);
                }
                Piece::Refusal(_) => {}
            }
        }
        let mut parts = Vec::new();
        if !thought.is_empty() {
            parts.push(json!({"text": thought, "thought": true}));
        }
        if !text.is_empty() {
            parts.push(json!({"text": text}));
        }
        for (at, (name, arguments)) in calls.values().enumerate() {
            let args: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
            let mut part = json!({"functionCall": {"name": name, "args": args}});
            if at == 0 {
                put(&mut part, "thoughtSignature", SIGNATURE);
            }
            parts.push(part);
        }
        let all = Self {
            ask: self.ask.clone(),
            call: None,
            said: totals.tokens,
            thought: totals.thinking,
            ..*self
        };
        let candidates = self.candidates(&Value::from(parts), Some(totals.stop));
        self.identity(json!({"candidates": candidates, "usageMetadata": all.usage()}))
    }
}

fn reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Calls => "STOP",
        Stop::Length => "MAX_TOKENS",
        Stop::Refusal => "SAFETY",
    }
}
