//! Content reader: the content of a turn, a string, or a list of blocks, each of which is read by its type
//! and rejected by name when no other dialect could carry it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::request::parse;
use super::tool_changes;
use crate::arguments;
use crate::body::{of_type, refuse};
use crate::cache_control::{CacheControl, marked_result};
use crate::chat::{
    ApiError, Document, Image, Medium, Part, Scheme, Signature, Source, function_name,
};
use crate::seal;

/// Where blocks stand; it decides which types may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockContext {
    System,
    User,
    Assistant,
    ToolResult,
    /// The content of a document.
    Content,
}

impl BlockContext {
    fn takes_media(self) -> bool {
        matches!(self, Self::User | Self::ToolResult | Self::Content)
    }
}

#[derive(Debug, Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
    cache_control: Option<CacheControl>,
}

#[derive(Debug, Deserialize)]
struct Text {
    text: String,
}

#[derive(Debug, Deserialize)]
struct MediumBody<'a> {
    #[serde(borrow)]
    source: &'a RawValue,
    title: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Compaction {
    content: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Inline {
    media_type: String,
    data: String,
}

#[derive(Debug, Deserialize)]
struct Plain {
    data: String,
}

#[derive(Debug, Deserialize)]
struct Remote {
    url: String,
}

#[derive(Debug, Deserialize)]
struct Thinking {
    thinking: String,
    signature: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Redacted {
    data: String,
}

#[derive(Debug, Deserialize)]
struct ToolUse<'a> {
    id: String,
    name: String,
    toolset_name: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct SearchResult {
    source: String,
    title: String,
    content: Vec<Text>,
}

#[derive(Debug, Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Debug, Deserialize)]
struct ToolReference {
    tool_name: String,
}

#[derive(Debug, Deserialize)]
struct ToolResult<'a> {
    tool_use_id: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    is_error: Option<bool>,
}

/// Reads a string or a list of blocks; `at` names the member in errors.
pub(super) fn blocks(raw: &RawValue, at: &str, place: BlockContext) -> Result<Vec<Part>, ApiError> {
    if raw.get().starts_with('"') {
        let text: String = parse(raw.get(), at)?;
        return Ok(if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] });
    }
    if !raw.get().starts_with('[') {
        return Err(ApiError::field(at, "must be a string or a list of blocks"));
    }
    let list: Vec<&RawValue> = parse(raw.get(), at)?;
    let mut parts = Vec::with_capacity(list.len());
    for (i, raw) in list.iter().enumerate() {
        block(raw.get(), &format!("{at}[{i}]"), place, &mut parts)?;
    }
    Ok(parts)
}

fn block(json: &str, at: &str, place: BlockContext, out: &mut Vec<Part>) -> Result<(), ApiError> {
    let Typed { kind, cache_control } = parse(json, at)?;
    match kind.as_str() {
        "tool_result" if place == BlockContext::User => out.extend(tool_result(json, at)?),
        "image" | "document" if place.takes_media() => {
            medium(&kind, json, at, out)?;
        }
        kind if place == BlockContext::Assistant && is_hosted(kind) => {}
        // The tools are those of the whole request.
        kind if tool_changes::is_change(kind) => {}
        kind => out.push(part(kind, json, at, place)?),
    }
    let mark = cache_control.map(CacheControl::part);
    out.extend(mark.filter(|_| !matches!(out.last(), Some(Part::Cache(_)))));
    Ok(())
}

/// Whether a block shows the run of a server tool. Its findings are in the text that follows.
fn is_hosted(kind: &str) -> bool {
    let results = kind.ends_with("_tool_result") && kind != "tool_result";
    results || matches!(kind, "server_tool_use" | "mcp_tool_use" | "container_upload" | "fallback")
}

fn part(kind: &str, json: &str, at: &str, place: BlockContext) -> Result<Part, ApiError> {
    let media = place.takes_media();
    match kind {
        "text" => Ok(Part::Text(parse::<Text>(json, at)?.text)),
        // It is for the vendor's own containers.
        "container_upload" if media => {
            Ok(Part::Unreadable { medium: Medium::Document, at: at.to_owned() })
        }
        "compaction" if place == BlockContext::Assistant => {
            Ok(Part::Summary(parse::<Compaction>(json, at)?.content))
        }
        "tool_use" if place == BlockContext::Assistant => {
            let ToolUse { id, name, toolset_name, input } = parse(json, at)?;
            let toolset = toolset_name.as_deref();
            let name = toolset.map_or_else(
                || name.clone(),
                |toolset| function_name(Some(toolset), &name, &|_| false),
            );
            Ok(Part::ToolCall { id, name, arguments: arguments::object(input) })
        }
        "search_result" if media => {
            let SearchResult { source, title, content } = parse(json, at)?;
            let said = content.into_iter().map(|text| text.text).collect::<Vec<_>>().join("\n");
            Ok(Part::Text(format!("{title} ({source})\n{said}")))
        }
        // A result of the client's own tool search. The client declares the tool among `tools`.
        "tool_reference" if place == BlockContext::ToolResult => {
            let ToolReference { tool_name } = parse(json, at)?;
            Ok(Part::Text(format!("Tool loaded: {tool_name}")))
        }
        "thinking" if place == BlockContext::Assistant => {
            let Thinking { thinking, signature } = parse(json, at)?;
            let signature = signature.filter(|value| !value.is_empty()).and_then(|value| {
                let (value, scheme, _) = seal::given_back(&value, Scheme::Anthropic)?;
                Some(Signature { value: value.to_owned(), scheme })
            });
            Ok(Part::Reasoning { text: thinking, signature })
        }
        "redacted_thinking" if place == BlockContext::Assistant => {
            let Redacted { data } = parse(json, at)?;
            Ok(match seal::given_back(&data, Scheme::Anthropic) {
                Some((data, scheme, _)) => {
                    Part::RedactedReasoning { data: data.to_owned(), scheme }
                }
                None => Part::Reasoning { text: String::new(), signature: None },
            })
        }
        "image" | "document" | "tool_result" | "tool_use" | "thinking" | "redacted_thinking" => {
            let what = format!("{}cannot stand in this place", of_type(kind));
            Err(refuse(at, &what))
        }
        _ => {
            let what = "cannot be translated, since only its own vendor understands it; leave it out or \
                        choose another model";
            Err(refuse(at, &format!("{}{what}", of_type(kind))))
        }
    }
}

fn tool_result(json: &str, at: &str) -> Result<Vec<Part>, ApiError> {
    let ToolResult { tool_use_id, content, is_error } = parse(json, at)?;
    let parts = content
        .map(|content| blocks(content, &format!("{at}.content"), BlockContext::ToolResult))
        .transpose()?;
    Ok(marked_result(tool_use_id, parts.unwrap_or_default(), is_error.unwrap_or(false)))
}

/// An image or a document. Images in the content of a document stand behind it.
fn medium(kind: &str, json: &str, at: &str, out: &mut Vec<Part>) -> Result<(), ApiError> {
    let MediumBody { source: raw, title } = parse(json, at)?;
    let is_image = kind == "image";
    let mut images = Vec::new();
    let source = source(raw, &format!("{at}.source"), is_image, &mut images)?;
    out.push(match source {
        None => {
            let medium = if is_image { Medium::Image } else { Medium::Document };
            Part::Unreadable { medium, at: format!("{at}.source") }
        }
        Some(source) if is_image => Part::Image(Image { source, detail: None }),
        Some(source) => Part::Document(Document { source, title }),
    });
    out.append(&mut images);
    Ok(())
}

/// Where a medium is. `None`: at the vendor.
fn source(
    raw: &RawValue,
    at: &str,
    is_image: bool,
    images: &mut Vec<Part>,
) -> Result<Option<Source>, ApiError> {
    let Typed { kind, .. } = parse(raw.get(), at)?;
    let text = !is_image;
    Ok(Some(match kind.as_str() {
        "base64" => {
            let Inline { media_type, data } = parse(raw.get(), at)?;
            Source::Base64 { media_type, data }
        }
        "url" => Source::Url(parse::<Remote>(raw.get(), at)?.url),
        "text" if text => Source::Text(parse::<Plain>(raw.get(), at)?.data),
        "file" => return Ok(None),
        // Text in pieces, so that each can be cited.
        "content" if text => {
            let Content { content } = parse(raw.get(), at)?;
            let mut pieces = Vec::new();
            for part in blocks(content, &format!("{at}.content"), BlockContext::Content)? {
                match part {
                    Part::Text(piece) => pieces.push(piece),
                    part => images.push(part),
                }
            }
            Source::Text(pieces.join("\n"))
        }
        other => {
            let what = "can be read only by its own vendor; send the bytes or an address instead";
            return Err(refuse(at, &format!("{}{what}", of_type(other))));
        }
    }))
}
