//! Turn reader: the `messages` of a request.
//!
//! Refused with their path are content parts of unknown types. Dropped are the citations of past
//! answers. Documents in results of tools are sent as text.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::body::{of_type, parse, refuse};
use crate::chat::{ApiError, Document, Image, Message, Part, Role, Source};
use crate::{arguments, json};

type Raw<'a> = Option<&'a RawValue>;

/// One element of `messages`.
#[derive(Deserialize)]
pub(super) struct MessageBody<'a> {
    role: String,
    #[serde(borrow)]
    content: Raw<'a>,
    tool_plan: Option<String>,
    #[serde(borrow)]
    tool_calls: Option<Vec<CallBody<'a>>>,
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
struct CallBody<'a> {
    id: String,
    #[serde(borrow)]
    function: FunctionBody<'a>,
}

#[derive(Deserialize)]
struct FunctionBody<'a> {
    name: String,
    #[serde(borrow)]
    arguments: Raw<'a>,
}

#[derive(Deserialize)]
struct PartBody<'a> {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    image_url: Option<ImageBody>,
    #[serde(borrow)]
    document: Option<DocumentBody<'a>>,
}

#[derive(Deserialize)]
struct ImageBody {
    url: String,
    detail: Option<String>,
}

#[derive(Deserialize)]
struct DocumentBody<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// A document among the request's, with its id as its title.
#[derive(Deserialize)]
struct SourceBody<'a> {
    id: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Reads one of the request's documents: a text, or an object.
pub(super) fn document(path: &str, raw: &RawValue) -> Result<Part, ApiError> {
    if let Some(text) = json::text(raw) {
        let source = Source::Text(text.into_owned());
        return Ok(Part::Document(Document { source, title: None }));
    }
    let SourceBody { id, data } = parse(path, raw.get())?;
    Ok(Part::Document(Document { source: Source::Text(document_text(data)), title: id }))
}

/// The content of a document: a text, or an object as it is written.
fn document_text(data: &RawValue) -> String {
    json::text(data).map_or_else(|| data.get().to_owned(), std::borrow::Cow::into_owned)
}

/// Puts documents before the last message of the user.
pub(super) fn show(documents: Vec<Part>, turns: &mut Vec<Message>) {
    if documents.is_empty() {
        return;
    }
    let results =
        |turn: &Message| turn.parts.iter().any(|part| matches!(part, Part::ToolResult { .. }));
    let asked = turns.iter_mut().rfind(|turn| turn.role == Role::User && !results(turn));
    if let Some(turn) = asked {
        turn.parts.splice(..0, documents);
    } else {
        turns.push(Message { at: "documents".to_owned(), role: Role::User, parts: documents });
    }
}

/// Reads all turns. Results of tools that follow each other become one turn of the user.
pub(super) fn messages(bodies: Vec<MessageBody<'_>>) -> Result<Vec<Message>, ApiError> {
    let mut turns: Vec<Message> = Vec::with_capacity(bodies.len());
    let mut after_tool = false;
    for (i, body) in bodies.into_iter().enumerate() {
        let path = format!("messages[{i}]");
        let is_tool = body.role == "tool";
        let (role, parts) = match body.role.as_str() {
            "system" | "developer" => (Role::System, content(&path, body.content)?),
            "user" => (Role::User, content(&path, body.content)?),
            "assistant" => (Role::Assistant, assistant(&path, body)?),
            "tool" => {
                let missing = || refuse(&format!("{path}.tool_call_id"), "is missing");
                let id = body.tool_call_id.ok_or_else(missing)?;
                let parts = content(&path, body.content)?;
                (Role::User, vec![Part::ToolResult { id, parts, is_error: false }])
            }
            _ => {
                let what = "must be \"system\", \"user\", \"assistant\" or \"tool\"";
                return Err(refuse(&format!("{path}.role"), what));
            }
        };
        match turns.last_mut().filter(|_| is_tool && after_tool) {
            Some(turn) => turn.parts.extend(parts),
            None => turns.push(Message { at: path, role, parts }),
        }
        after_tool = is_tool;
    }
    Ok(turns)
}

fn content(path: &str, raw: Raw<'_>) -> Result<Vec<Part>, ApiError> {
    let path = format!("{path}.content");
    let Some(raw) = raw.filter(|raw| !json::is_null(raw)) else { return Ok(Vec::new()) };
    if let Some(text) = json::text(raw) {
        return Ok(vec![Part::Text(text.into_owned())]);
    }
    if !raw.get().starts_with('[') {
        return Err(refuse(&path, "must be a string or an array of parts"));
    }
    let bodies: Vec<PartBody<'_>> = parse(&path, raw.get())?;
    let read = |(i, body)| part(&format!("{path}[{i}]"), body);
    bodies.into_iter().enumerate().map(read).collect()
}

fn part(path: &str, body: PartBody<'_>) -> Result<Part, ApiError> {
    let missing = |name: &str| refuse(&format!("{path}.{name}"), "is missing");
    match body.kind.as_str() {
        "text" => body.text.map(Part::Text).ok_or_else(|| missing("text")),
        "thinking" => {
            let text = body.thinking.ok_or_else(|| missing("thinking"))?;
            Ok(Part::Reasoning { text, signature: None })
        }
        "image_url" => {
            let image = body.image_url.ok_or_else(|| missing("image_url"))?;
            let source = source(&format!("{path}.image_url.url"), image.url)?;
            Ok(Part::Image(Image { source, detail: image.detail }))
        }
        "document" => {
            let data = body.document.ok_or_else(|| missing("document"))?.data;
            Ok(Part::Text(document_text(data)))
        }
        other => {
            let what = "cannot be translated; use text, image_url or document";
            Err(refuse(path, &format!("{}{what}", of_type(other))))
        }
    }
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

/// Reasoning and plan come first, as other vendors require, then text, then calls.
fn assistant(path: &str, body: MessageBody<'_>) -> Result<Vec<Part>, ApiError> {
    let plan = body.tool_plan.filter(|plan| !plan.is_empty());
    let mut parts: Vec<Part> =
        plan.map(|text| Part::Reasoning { text, signature: None }).into_iter().collect();
    let said = content(path, body.content)?;
    parts.extend(said.into_iter().filter(|part| !matches!(part, Part::Text(t) if t.is_empty())));
    for call in body.tool_calls.into_iter().flatten() {
        // A string of JSON; some clients send the object itself.
        let arguments = arguments::object(call.function.arguments);
        parts.push(Part::ToolCall { id: call.id, name: call.function.name, arguments });
    }
    Ok(parts)
}
