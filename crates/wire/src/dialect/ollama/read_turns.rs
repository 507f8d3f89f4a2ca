//! Turn reader: the `messages` of a request.
//!
//! Clients of this dialect often drop the ids of calls, and results of tools may name nothing but the
//! tool: so that other vendors can match them, ids are made up from places, and results are matched
//! by id, else by name, else in order. Refused are images that are not of the four usual kinds.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::arguments;
use crate::body::refuse;
use crate::chat::{ApiError, Image, Message, Part, Role, Source};
use crate::open_calls::OpenCalls;

type Raw<'a> = Option<&'a RawValue>;

/// One element of `messages`.
#[derive(Deserialize)]
pub(super) struct MessageBody<'a> {
    role: String,
    content: Option<String>,
    thinking: Option<String>,
    images: Option<Vec<String>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<CallBody<'a>>>,
    /// `name` is its original name.
    #[serde(alias = "name")]
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
struct CallBody<'a> {
    id: Option<String>,
    #[serde(borrow)]
    function: FunctionBody<'a>,
}

#[derive(Deserialize)]
struct FunctionBody<'a> {
    name: String,
    #[serde(borrow)]
    arguments: Raw<'a>,
}

/// Reads all turns. Results of tools that follow each other become one turn of the user.
pub(super) fn messages(bodies: Vec<MessageBody<'_>>) -> Result<Vec<Message>, ApiError> {
    let mut turns: Vec<Message> = Vec::with_capacity(bodies.len());
    let mut open = OpenCalls::default();
    let mut after_tool = false;
    for (i, body) in bodies.into_iter().enumerate() {
        let path = format!("messages[{i}]");
        let is_tool = body.role == "tool";
        let (role, parts) = match body.role.as_str() {
            "system" | "developer" => (Role::System, spoken(&path, body)?),
            "user" => (Role::User, spoken(&path, body)?),
            "assistant" => (Role::Assistant, assistant((&path, i), body, &mut open)?),
            "tool" => (Role::User, vec![result(&path, body, &mut open)?]),
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

/// The images and the text of a message.
fn spoken(path: &str, body: MessageBody<'_>) -> Result<Vec<Part>, ApiError> {
    let mut parts = images(&format!("{path}.images"), body.images.unwrap_or_default())?;
    parts.extend(body.content.filter(|text| !text.is_empty()).map(Part::Text));
    Ok(parts)
}

/// Reasoning comes first, as other vendors require, then text, then calls.
fn assistant(
    (path, place): (&str, usize),
    mut body: MessageBody<'_>,
    open: &mut OpenCalls,
) -> Result<Vec<Part>, ApiError> {
    let thinking = body.thinking.take().filter(|text| !text.is_empty());
    let mut parts: Vec<Part> =
        thinking.map(|text| Part::Reasoning { text, signature: None }).into_iter().collect();
    let calls = body.tool_calls.take().unwrap_or_default();
    parts.extend(spoken(path, body)?);
    if !calls.is_empty() {
        *open = OpenCalls::default();
    }
    for (i, call) in calls.into_iter().enumerate() {
        let name = call.function.name;
        let id = call.id.filter(|id| !id.is_empty());
        let invented = id.is_none();
        let id = id.unwrap_or_else(|| format!("call_{place}_{i}"));
        // An object; some clients write it as a string.
        let arguments = arguments::object(call.function.arguments);
        open.open(&id, &name, invented);
        parts.push(Part::ToolCall { id, name, arguments });
    }
    Ok(parts)
}

fn result(path: &str, mut body: MessageBody<'_>, open: &mut OpenCalls) -> Result<Part, ApiError> {
    let id = body.tool_call_id.take().filter(|id| !id.is_empty());
    let name = body.tool_name.take().filter(|name| !name.is_empty());
    let by_id = id.as_deref().and_then(|id| open.close_by_id(id));
    let named = by_id.or_else(|| open.close_by_name(name.as_deref()?));
    // A result without id and name answers the first open call. A result whose id matches no call answers
    // the first call without an id: some clients keep the ids of results only.
    let closed = named.or_else(|| match (&name, &id) {
        (None, None) => open.close_first(),
        (None, Some(_)) => open.close_first_invented(),
        (Some(_), _) => None,
    });
    // A result that answers no call becomes text.
    let id = closed.or(id).unwrap_or_default();
    Ok(Part::ToolResult { id, parts: spoken(path, body)?, is_error: false })
}

/// Reads images. This dialect has their bytes only, so that their type is recognised by their first bytes.
pub(super) fn images(path: &str, images: Vec<String>) -> Result<Vec<Part>, ApiError> {
    let read = |(i, data): (usize, String)| {
        let kind = KINDS.iter().find(|(begin, _)| data.starts_with(begin));
        let (_, kind) = kind.ok_or_else(|| {
            refuse(&format!("{path}[{i}]"), "must be a PNG, JPEG, GIF or WebP image in base64")
        })?;
        let source = Source::Base64 { media_type: (*kind).to_owned(), data };
        Ok(Part::Image(Image { source, detail: None }))
    };
    images.into_iter().enumerate().map(read).collect()
}

/// Prefixes of images in base64, with their media types.
const KINDS: [(&str, &str); 5] = [
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("Qk0", "image/bmp"),
];
