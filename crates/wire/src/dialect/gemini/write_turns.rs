//! Turn writer: the turns of a conversation: instructions apart, turns that alternate, and results in the
//! order of the calls that they answer, by which the vendor matches them where ids are missing.
//!
//! Reasoning text is left out. A signature of this vendor goes back onto the part that it came with; the
//! newer models reject calls of earlier turns without one, and take a documented placeholder where there is
//! none, as in conversations that began elsewhere.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::decode::INVENTED;
use super::state::UNSIGNED;
use super::write::Generations;
use crate::chat::{ApiError, Message, Part, Role, Scheme, Signature, Source};
use crate::json::quoted;

#[derive(Debug, Serialize)]
pub(super) struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: Vec<Piece<'a>>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Piece<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<Blob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<Answer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: &'a str,
    data: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'static str>,
    file_uri: &'a str,
}

#[derive(Debug, Serialize)]
struct Call<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    args: &'a RawValue,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    response: Box<RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Piece<'a>>,
    /// Where the call stood among all calls.
    #[serde(skip)]
    order: usize,
}

/// The calls so far, by id: name and ordinal.
type Calls<'a> = HashMap<&'a str, (&'a str, usize)>;

/// The instructions, and the alternating turns.
pub(super) fn turns(
    messages: &[Message],
    models: Generations,
) -> Result<(Option<Content<'_>>, Vec<Content<'_>>), ApiError> {
    let mut system = Vec::new();
    let mut turns: Vec<Content<'_>> = Vec::new();
    let mut calls = Calls::new();
    for (i, message) in messages.iter().enumerate() {
        let at = format!("messages[{i}]");
        let (role, mut pieces) = match message.role {
            Role::System => {
                system.append(&mut said(&message.parts, Role::System, &at, &mut calls)?);
                continue;
            }
            Role::User => ("user", said(&message.parts, Role::User, &at, &mut calls)?),
            Role::Assistant => ("model", said(&message.parts, Role::Assistant, &at, &mut calls)?),
        };
        match turns.last_mut() {
            _ if pieces.is_empty() => {}
            Some(turn) if turn.role == Some(role) => turn.parts.append(&mut pieces),
            _ => turns.push(Content { role: Some(role), parts: pieces }),
        }
    }
    if turns.is_empty() {
        return Err(ApiError::field("messages", "must hold at least one turn with content"));
    }
    for turn in &mut turns {
        // A stable sort: results lead in the order of their calls, the rest stays.
        turn.parts.sort_by_key(|piece| {
            piece.function_response.as_ref().map_or(usize::MAX, |answer| answer.order)
        });
        match models {
            Generations::Levels => sign(turn),
            Generations::Budgets => show_apart(turn),
        }
    }
    let system = (!system.is_empty()).then_some(Content { role: None, parts: system });
    Ok((system, turns))
}

/// Media in results are for newer models: others are shown them right behind the results.
fn show_apart(turn: &mut Content<'_>) {
    let results = turn.parts.iter_mut().filter_map(|piece| piece.function_response.as_mut());
    let media: Vec<Piece<'_>> =
        results.flat_map(|answer| std::mem::take(&mut answer.parts)).collect();
    let results = turn.parts.iter().take_while(|piece| piece.function_response.is_some()).count();
    turn.parts.splice(results..results, media);
}

/// Parallel calls share a signature, which the first one carries.
fn sign(turn: &mut Content<'_>) {
    let mut calls = turn.parts.iter_mut().filter(|piece| piece.function_call.is_some());
    if let Some(first) = calls.next().filter(|first| first.thought_signature.is_none()) {
        first.thought_signature = Some(UNSIGNED);
    }
}

fn said<'a>(
    parts: &'a [Part],
    role: Role,
    at: &str,
    calls: &mut Calls<'a>,
) -> Result<Vec<Piece<'a>>, ApiError> {
    let mut pieces: Vec<Piece<'a>> = Vec::with_capacity(parts.len());
    // A signature that waits for the call that it precedes.
    let mut waiting: Option<&'a str> = None;
    for part in parts {
        match part {
            Part::Reasoning { signature: Some(Signature { value, scheme }), .. }
                if *scheme == Scheme::Gemini && role == Role::Assistant =>
            {
                settle(&mut waiting, &mut pieces);
                waiting = Some(value);
            }
            Part::Reasoning { .. } | Part::RedactedReasoning { .. } | Part::Cache(_) => {}
            Part::ToolCall { .. } => {
                let mut piece = piece(part, role, at, calls)?;
                piece.thought_signature = waiting.take();
                pieces.push(piece);
            }
            Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
            part => pieces.push(piece(part, role, at, calls)?),
        }
    }
    settle(&mut waiting, &mut pieces);
    Ok(pieces)
}

/// A signature that no call follows belongs to the text before it.
fn settle<'a>(waiting: &mut Option<&'a str>, pieces: &mut Vec<Piece<'a>>) {
    let Some(value) = waiting.take() else { return };
    match pieces.last_mut().filter(|last| last.text.is_some() && last.thought_signature.is_none()) {
        Some(last) => last.thought_signature = Some(value),
        None => pieces.push(Piece {
            text: Some(""),
            thought_signature: Some(value),
            ..Piece::default()
        }),
    }
}

fn piece<'a>(
    part: &'a Part,
    role: Role,
    at: &str,
    calls: &mut Calls<'a>,
) -> Result<Piece<'a>, ApiError> {
    let misplaced = |what: &str| {
        Err(ApiError::field(at, format!("{what} cannot stand in a turn of this role")))
    };
    Ok(match (part, role) {
        (Part::Text(text) | Part::Refusal(text), _) => {
            Piece { text: Some(text), ..Piece::default() }
        }
        (Part::Image(image), Role::User) => medium(&image.source, None),
        (Part::Document(document), Role::User) => medium(&document.source, Some("application/pdf")),
        (Part::ToolCall { id, name, arguments }, Role::Assistant) => {
            if !arguments.get().trim_start().starts_with('{') {
                let message = "the arguments of a tool call must be a JSON object";
                return Err(ApiError::field(at, message));
            }
            let order = calls.len();
            calls.insert(id, (name, order));
            let call = Call { id: own(id), name, args: arguments };
            Piece { function_call: Some(call), ..Piece::default() }
        }
        (Part::ToolResult { id, parts, is_error }, Role::User) => {
            let Some((name, order)) = calls.get(id.as_str()).copied() else {
                let message = "answers a tool call that is not in the turns before it";
                return Err(ApiError::field(at, message));
            };
            let answer = result(parts, *is_error, at)?;
            let answer = Answer { id: own(id), name, order, ..answer };
            Piece { function_response: Some(answer), ..Piece::default() }
        }
        (Part::Image(_) | Part::Document(_), _) => return misplaced("an image or a document"),
        (Part::Unreadable { .. } | Part::Summary(_), _) => return misplaced("foreign content"),
        (Part::ToolCall { .. }, _) => return misplaced("a tool call"),
        (Part::ToolResult { .. }, _) => return misplaced("a tool's result"),
        (Part::Reasoning { .. } | Part::RedactedReasoning { .. } | Part::Cache(_), _) => {
            Piece::default()
        }
    })
}

/// An id that the vendor gave. `None` for ids that the gateway made up.
fn own(id: &str) -> Option<&str> {
    (!id.is_empty() && !id.starts_with(INVENTED)).then_some(id)
}

fn result<'a>(parts: &'a [Part], is_error: bool, at: &str) -> Result<Answer<'a>, ApiError> {
    let mut words = String::new();
    let mut media = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) | Part::Refusal(text) => words.push_str(text),
            Part::Cache(_) => {}
            Part::Image(image) => media.push(medium(&image.source, None)),
            Part::Document(document) => {
                media.push(medium(&document.source, Some("application/pdf")));
            }
            _ => {
                let message = "a tool's result may hold text and media only";
                return Err(ApiError::field(at, message));
            }
        }
    }
    // The vendor requires an object. A result that is one already is sent unchanged.
    let object = words.trim_start().starts_with('{')
        && serde_json::from_str::<serde::de::IgnoredAny>(&words).is_ok();
    let json = match (is_error, object) {
        (true, _) => format!(r#"{{"error":{}}}"#, quoted(&words)),
        (false, true) => words.trim().to_owned(),
        (false, false) => format!(r#"{{"output":{}}}"#, quoted(&words)),
    };
    let response = RawValue::from_string(json)
        .map_err(|_| ApiError::field(at, "a tool's result could not be written"))?;
    Ok(Answer { id: None, name: "", response, parts: media, order: 0 })
}

fn medium<'a>(source: &'a Source, otherwise: Option<&'static str>) -> Piece<'a> {
    match source {
        Source::Base64 { media_type, data } => {
            Piece { inline_data: Some(Blob { mime_type: media_type, data }), ..Piece::default() }
        }
        Source::Url(url) => {
            let mime_type = by_name(url).or(otherwise);
            Piece { file_data: Some(File { mime_type, file_uri: url }), ..Piece::default() }
        }
        Source::Text(text) => Piece { text: Some(text), ..Piece::default() },
    }
}

/// The media type that the extension of an address implies.
fn by_name(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (_, ending) = path.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        _ => return None,
    })
}
