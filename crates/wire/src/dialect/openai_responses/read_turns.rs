//! Turn reader: the `input` of a request.
//!
//! Rejected with their path, because no other dialect has them: references to stored items. Files by id
//! and compacted conversations are read as content that only the vendor can read. Dropped: calls of hosted
//! tools, whose findings are in the text that follows; the `phase` of messages; references to reasoning,
//! which is a hint. `cache_control` is not part of `OpenAI`'s API, but clients of compatible gateways send
//! it. Calls of tools that the client runs are read in `read_calls.rs`.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read_calls;
use super::read_tools::Tools;
use crate::body::{of_type, parse, refuse};
use crate::cache_control::CacheControl;
use crate::chat::{
    ApiError, Document, Image, Medium, Message, Part, Role, Scheme, Signature, Source,
};
use crate::{json, seal};

type Raw<'a> = Option<&'a RawValue>;

/// An input item, and where it stands.
pub(super) struct Item<'a> {
    pub(super) path: String,
    pub(super) body: ItemBody<'a>,
}

/// The members of any item.
#[derive(Default, Deserialize)]
pub(super) struct ItemBody<'a> {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    role: Option<String>,
    #[serde(borrow)]
    content: Raw<'a>,
    pub(super) id: Option<String>,
    pub(super) call_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    #[serde(borrow)]
    pub(super) arguments: Raw<'a>,
    #[serde(borrow)]
    pub(super) action: Raw<'a>,
    #[serde(borrow)]
    pub(super) actions: Raw<'a>,
    #[serde(borrow)]
    pub(super) operation: Raw<'a>,
    #[serde(borrow)]
    pub(super) execution: Raw<'a>,
    #[serde(borrow)]
    pub(super) status: Raw<'a>,
    #[serde(borrow)]
    pub(super) tools: Raw<'a>,
    #[serde(borrow)]
    pub(super) input: Raw<'a>,
    #[serde(borrow)]
    pub(super) output: Raw<'a>,
    #[serde(borrow)]
    summary: Raw<'a>,
    encrypted_content: Option<String>,
}

impl<'a> Item<'a> {
    /// The tools that stand in it, with their places.
    pub(super) fn tools(&self) -> Result<Vec<(String, &'a RawValue)>, ApiError> {
        let path = format!("{}.tools", self.path);
        let tools: Vec<&RawValue> = match self.body.tools.filter(|tools| !json::is_null(tools)) {
            Some(raw) => parse(&path, raw.get())?,
            None => Vec::new(),
        };
        let placed = |(i, raw)| (format!("{path}[{i}]"), raw);
        Ok(tools.into_iter().enumerate().map(placed).collect())
    }
}

impl ItemBody<'_> {
    /// The type, which may be missing in messages and in references: these have an id only.
    fn kind(&self) -> &str {
        let refers = self.id.is_some() && self.role.is_none() && self.content.is_none();
        self.kind.as_deref().unwrap_or(if refers { "item_reference" } else { "message" })
    }

    /// Whether a search for tools was the client's and not the vendor's.
    pub(super) fn is_clients(&self) -> bool {
        let execution = self.execution.and_then(json::text);
        execution.map_or_else(|| self.call_id.is_some(), |word| word == "client")
    }
}

#[derive(Deserialize)]
struct PartBody {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
    image_url: Option<String>,
    detail: Option<String>,
    filename: Option<String>,
    file_data: Option<String>,
    file_url: Option<String>,
    encrypted_content: Option<String>,
    input_audio: Option<AudioBody>,
    cache_control: Option<CacheControl>,
}

#[derive(Deserialize)]
struct AudioBody {
    data: String,
    format: String,
}

#[derive(Deserialize)]
struct TextBody {
    #[serde(default)]
    text: String,
}

/// Splits the input into items. A text is one message.
pub(super) fn items(input: &RawValue) -> Result<Vec<Item<'_>>, ApiError> {
    if json::text(input).is_some() {
        let role = Some("user".to_owned());
        let body = ItemBody { role, content: Some(input), ..ItemBody::default() };
        return Ok(vec![Item { path: "input".to_owned(), body }]);
    }
    if !input.get().starts_with('[') {
        return Err(refuse("input", "must be a string or an array of items"));
    }
    let items: Vec<&RawValue> = parse("input", input.get())?;
    let mut read = Vec::with_capacity(items.len());
    for (i, raw) in items.into_iter().enumerate() {
        let path = format!("input[{i}]");
        let body = parse(&path, raw.get())?;
        read.push(Item { path, body });
    }
    Ok(read)
}

/// Reads all items. Consecutive items of the model, with its reasoning and its calls, become one turn, and
/// so do consecutive results of tools.
pub(super) fn messages(
    items: Vec<Item<'_>>,
    tools: &Tools,
    turns: &mut Vec<Message>,
) -> Result<(), ApiError> {
    let mut last = LastTurn::default();
    let mut calls = HashMap::new();
    items.into_iter().try_for_each(|mut it| {
        last.look(turns);
        read_calls::name_call(&mut it.body, &mut calls);
        item(it, tools, &last, turns)
    })
}

fn item(
    Item { path, body }: Item<'_>,
    tools: &Tools,
    last: &LastTurn,
    turns: &mut Vec<Message>,
) -> Result<(), ApiError> {
    let path = path.as_str();
    let kind = body.kind();
    match kind {
        "message" => message(path, &body, last, turns)?,
        // Messages between the agents of a client.
        "agent_message" => {
            let parts = content(&format!("{path}.content"), body.content)?;
            turns.push(turn(path, Role::User, parts));
        }
        "reasoning" => {
            for part in reasoning(path, &body)? {
                said(path, turns, part);
            }
        }
        // Reasoning is only a hint, and its id is one of ours.
        "item_reference" if body.id.as_deref().is_some_and(|id| id.starts_with("rs_")) => {}
        "item_reference" => {
            let what = "refers to an item that is kept at the vendor, which this model's provider \
                        does not have; send the item itself, as clients do with `store: false`";
            return Err(refuse(path, what));
        }
        "compaction" | "compaction_summary" | "context_compaction" => {
            turns.push(turn(path, Role::User, vec![Part::Summary(None)]));
        }
        "tool_search_call" | "tool_search_output" if !body.is_clients() => {}
        // Its tools are among the request's.
        "additional_tools"
        | "web_search_call"
        | "file_search_call"
        | "code_interpreter_call"
        | "image_generation_call"
        | "mcp_call"
        | "mcp_list_tools"
        | "mcp_approval_request"
        | "mcp_approval_response"
        | "program"
        | "program_output"
        | "compaction_trigger" => {}
        kind if read_calls::is_call(kind) => {
            said(path, turns, read_calls::call(path, body, tools)?);
        }
        kind if read_calls::is_output(kind) => {
            let result = read_calls::output(path, body, tools)?;
            match turns.last_mut().filter(|_| !last.other) {
                Some(turn) => turn.parts.extend(result),
                None => turns.push(turn(path, Role::User, result)),
            }
        }
        kind => {
            let what = "cannot be translated for this model; leave it out or choose another model";
            return Err(refuse(path, &format!("{}{what}", of_type(kind))));
        }
    }
    Ok(())
}

fn turn(at: &str, role: Role, parts: Vec<Part>) -> Message {
    Message { at: at.to_owned(), role, parts }
}

/// Adds a part to the model's last turn.
fn said(path: &str, turns: &mut Vec<Message>, part: Part) {
    match turns.last_mut().filter(|turn| turn.role == Role::Assistant) {
        Some(turn) => turn.parts.push(part),
        None => turns.push(turn(path, Role::Assistant, vec![part])),
    }
}

/// Kinds of parts that the last turn holds. Each part is checked once.
#[derive(Default)]
struct LastTurn {
    /// The number of turns, and of the last one's parts that were looked at.
    seen: (usize, usize),
    text: bool,
    call: bool,
    /// Anything but results of tools.
    other: bool,
}

impl LastTurn {
    fn look(&mut self, turns: &[Message]) {
        if self.seen.0 != turns.len() {
            *self = Self { seen: (turns.len(), 0), ..Self::default() };
        }
        let parts = turns.last().map(|turn| turn.parts.as_slice()).unwrap_or_default();
        for part in parts.get(self.seen.1..).unwrap_or_default() {
            self.text |= matches!(part, Part::Text(_));
            self.call |= matches!(part, Part::ToolCall { .. });
            self.other |= !matches!(part, Part::ToolResult { .. } | Part::Cache(_));
        }
        self.seen.1 = parts.len();
    }
}

fn message(
    path: &str,
    body: &ItemBody<'_>,
    last: &LastTurn,
    turns: &mut Vec<Message>,
) -> Result<(), ApiError> {
    let role = match body.role.as_deref() {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => {
            let what = "must be \"user\", \"assistant\", \"system\" or \"developer\"";
            return Err(refuse(&format!("{path}.role"), what));
        }
    };
    let parts = content(&format!("{path}.content"), body.content)?;
    // Two messages in a row are two turns; items before or after a call belong to its turn.
    let apart = |turn: &Message| turn.role != Role::Assistant || last.text && !last.call;
    match turns.last_mut().filter(|turn| role == Role::Assistant && !apart(turn)) {
        Some(turn) => turn.parts.extend(parts),
        None => turns.push(turn(path, role, parts)),
    }
    Ok(())
}

/// Reads a text, or a list of parts.
pub(super) fn content(path: &str, raw: Raw<'_>) -> Result<Vec<Part>, ApiError> {
    let Some(raw) = raw.filter(|raw| !json::is_null(raw)) else {
        return Ok(Vec::new());
    };
    if let Some(text) = json::text(raw) {
        return Ok(vec![Part::Text(text.into_owned())]);
    }
    if !raw.get().starts_with('[') {
        return Err(refuse(path, "must be a string or an array of parts"));
    }
    let bodies: Vec<PartBody> = parse(path, raw.get())?;
    let mut parts = Vec::with_capacity(bodies.len());
    for (i, mut body) in bodies.into_iter().enumerate() {
        let cached = body.cache_control.take();
        parts.push(part(&format!("{path}[{i}]"), body)?);
        parts.extend(cached.map(CacheControl::part));
    }
    Ok(parts)
}

fn part(path: &str, body: PartBody) -> Result<Part, ApiError> {
    let missing = |name: &str| refuse(&format!("{path}.{name}"), "is missing");
    let unreadable = |medium| Part::Unreadable { medium, at: path.to_owned() };
    match body.kind.as_str() {
        "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
            body.text.map(Part::Text).ok_or_else(|| missing("text"))
        }
        "encrypted_content" => body
            .encrypted_content
            .map(|text| Part::Text(unsealed(text)))
            .ok_or_else(|| missing("encrypted_content")),
        "refusal" => body.refusal.map(Part::Refusal).ok_or_else(|| missing("refusal")),
        "input_image" | "computer_screenshot" => image(path, body.image_url, body.detail),
        "input_file" => {
            let source = match (body.file_data, body.file_url) {
                (Some(data), _) => source(&format!("{path}.file_data"), data)?,
                (None, Some(url)) => Source::Url(url),
                (None, None) => return Ok(unreadable(Medium::Document)),
            };
            Ok(Part::Document(Document { source, title: body.filename }))
        }
        "input_audio" => {
            let AudioBody { data, format } =
                body.input_audio.ok_or_else(|| missing("input_audio"))?;
            let source = Source::Base64 { media_type: format!("audio/{format}"), data };
            Ok(Part::Document(Document { source, title: None }))
        }
        "input_video" => Ok(unreadable(Medium::Video)),
        other => {
            let what = "cannot be translated; use input_text, input_image or input_file";
            Err(refuse(path, &format!("{}{what}", of_type(other))))
        }
    }
}

/// The text of an agent to another one. `OpenAI` seals it (in a Fernet token); text of another vendor's
/// model is plain.
fn unsealed(text: String) -> String {
    let sealed = text.starts_with("gAAAA") && !text.contains(char::is_whitespace);
    if sealed { "[a message that only the vendor of its author can read]".to_owned() } else { text }
}

/// An image by its address. Without one it is by the id of a file.
pub(super) fn image(
    path: &str,
    url: Option<String>,
    detail: Option<String>,
) -> Result<Part, ApiError> {
    let Some(url) = url else {
        return Ok(Part::Unreadable { medium: Medium::Image, at: path.to_owned() });
    };
    let source = source(&format!("{path}.image_url"), url)?;
    Ok(Part::Image(Image { source, detail }))
}

/// Reads an address: of the web, or `data:` with base64.
fn source(path: &str, url: String) -> Result<Source, ApiError> {
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(Source::Url(url));
    }
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    let (media_type, data) =
        inline.filter(|(media_type, _)| !media_type.is_empty()).ok_or_else(|| {
            refuse(path, "must be an https: URL or a data: URL with a media type and base64")
        })?;
    Ok(Source::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
}

/// The text of a reasoning item and its state, where present. No parts for an item without either.
fn reasoning(path: &str, body: &ItemBody<'_>) -> Result<Vec<Part>, ApiError> {
    let texts = |name: &str, raw: Raw<'_>| -> Result<Vec<String>, ApiError> {
        let raw = raw.filter(|raw| !json::is_null(raw));
        let parts: Option<Vec<TextBody>> =
            raw.map(|raw| parse(&format!("{path}.{name}"), raw.get())).transpose()?;
        let texts = parts.into_iter().flatten().map(|part| part.text);
        Ok(texts.filter(|text| !text.is_empty()).collect())
    };
    let mut words = texts("summary", body.summary)?;
    if words.is_empty() {
        words = texts("content", body.content)?;
    }
    let text = words.join("\n\n");
    let state = body.encrypted_content.as_deref().filter(|state| !state.is_empty());
    Ok(match state.and_then(|state| seal::given_back(state, Scheme::OpenAi)) {
        None if text.is_empty() => Vec::new(),
        None => vec![Part::Reasoning { text, signature: None }],
        Some((data, scheme, redacted))
            if redacted.unwrap_or_else(|| scheme == Scheme::OpenAi && text.is_empty()) =>
        {
            vec![Part::RedactedReasoning { data: data.to_owned(), scheme }]
        }
        Some((value, scheme, _)) => {
            let signature = Some(Signature { value: value.to_owned(), scheme });
            vec![Part::Reasoning { text, signature }]
        }
    })
}
