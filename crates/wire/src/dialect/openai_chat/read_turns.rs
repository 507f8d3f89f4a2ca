//! Turn reader: the `messages` of a request.
//!
//! Rejected with their path: content parts and tool calls of unknown types. Dropped: the `name` of a
//! speaker, `audio` and `annotations` of past answers. Files by id are read as media that only the vendor
//! can read. `cache_control` is not part of `OpenAI`'s API, but clients of compatible gateways send it.

use std::collections::HashMap;
use std::fmt::Formatter;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::decode::scheme;
use super::event::thought_signature;
use crate::body::{of_type, parse, refuse};
use crate::cache_control::{CacheControl, marked_result};
use crate::chat::{
    ApiError, Document, Image, Medium, Message, Part, Role, Scheme, Signature, Source,
};
use crate::{arguments, free_text, json};

type Raw<'a> = Option<&'a RawValue>;

/// One element of `messages`.
#[derive(Deserialize)]
pub(super) struct MessageBody<'a> {
    role: String,
    #[serde(borrow)]
    content: Raw<'a>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    #[serde(borrow)]
    reasoning_details: Raw<'a>,
    #[serde(borrow)]
    tool_calls: Option<Vec<CallBody<'a>>>,
    #[serde(borrow)]
    function_call: Option<FunctionBody<'a>>,
    tool_call_id: Option<String>,
    cache_control: Option<CacheControl>,
}

#[derive(Deserialize)]
struct CallBody<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    function: Option<FunctionBody<'a>>,
    custom: Option<CustomBody>,
    #[serde(borrow)]
    extra_content: Raw<'a>,
}

#[derive(Deserialize)]
struct CustomBody {
    name: String,
    #[serde(default)]
    input: String,
}

#[derive(Deserialize)]
struct FunctionBody<'a> {
    name: String,
    #[serde(borrow)]
    arguments: Raw<'a>,
}

#[derive(Deserialize)]
struct PartBody {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
    #[serde(default, deserialize_with = "image")]
    image_url: Option<ImageBody>,
    /// Mistral's.
    document_url: Option<String>,
    /// Mistral's: a list of texts.
    thinking: Option<Vec<Words>>,
    file: Option<FileBody>,
    input_audio: Option<AudioBody>,
    cache_control: Option<CacheControl>,
}

#[derive(Deserialize)]
struct Words {
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct ImageBody {
    url: String,
    detail: Option<String>,
}

#[derive(Deserialize)]
struct FileBody {
    filename: Option<String>,
    file_data: Option<String>,
}

#[derive(Deserialize)]
struct AudioBody {
    data: String,
    format: String,
}

#[derive(Deserialize)]
struct DetailBody {
    text: Option<String>,
    summary: Option<String>,
    signature: Option<String>,
    data: Option<String>,
    format: Option<String>,
}

/// An image, of which some vendors take the address alone.
fn image<'de, D: Deserializer<'de>>(source: D) -> Result<Option<ImageBody>, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = Option<ImageBody>;

        fn expecting(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
            out.write_str("a string or an object")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E>(self, url: &str) -> Result<Self::Value, E> {
            Ok(Some(ImageBody { url: url.to_owned(), detail: None }))
        }

        fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
            ImageBody::deserialize(MapAccessDeserializer::new(members)).map(Some)
        }
    }
    source.deserialize_any(Either)
}

/// Reads all turns. Results of tools that follow each other become one turn of the user.
pub(super) fn messages(bodies: Vec<MessageBody<'_>>) -> Result<Vec<Message>, ApiError> {
    let mut turns: Vec<Message> = Vec::with_capacity(bodies.len());
    // The legacy form has no ids: a result answers the last call.
    let mut legacy = None;
    let mut after_tool = false;
    for (i, mut body) in bodies.into_iter().enumerate() {
        let path = format!("messages[{i}]");
        let cached = body.cache_control.take().map(CacheControl::part);
        let is_tool = matches!(body.role.as_str(), "tool" | "function");
        let (role, mut parts) = match body.role.as_str() {
            "system" | "developer" => (Role::System, content(&path, body.content)?),
            "user" => (Role::User, content(&path, body.content)?),
            "assistant" => {
                let id = format!("call_legacy_{i}");
                if body.function_call.is_some() {
                    legacy = Some(id.clone());
                }
                (Role::Assistant, assistant(&path, body, id)?)
            }
            "tool" | "function" => {
                // The legacy form has no ids. A result without a call becomes text.
                let id = match body.tool_call_id {
                    None if body.role == "function" => Some(legacy.take().unwrap_or_default()),
                    id => id,
                };
                let id = id.ok_or_else(|| refuse(&format!("{path}.tool_call_id"), "is missing"))?;
                (Role::User, marked_result(id, content(&path, body.content)?, false))
            }
            _ => {
                let what = "must be \"system\", \"developer\", \"user\", \"assistant\" or \"tool\"";
                return Err(refuse(&format!("{path}.role"), what));
            }
        };
        parts.extend(cached.filter(|_| !matches!(parts.last(), Some(Part::Cache(_)))));
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
    let Some(raw) = raw else {
        return Ok(Vec::new());
    };
    if let Some(text) = json::text(raw) {
        return Ok(vec![Part::Text(text.into_owned())]);
    }
    if !raw.get().starts_with('[') {
        return Err(refuse(&path, "must be a string or an array of parts"));
    }
    let bodies: Vec<PartBody> = parse(&path, raw.get())?;
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
        "text" => body.text.map(Part::Text).ok_or_else(|| missing("text")),
        "refusal" => body.refusal.map(Part::Refusal).ok_or_else(|| missing("refusal")),
        "image_url" => {
            let image = body.image_url.ok_or_else(|| missing("image_url"))?;
            let source = source(&format!("{path}.image_url.url"), image.url)?;
            Ok(Part::Image(Image { source, detail: image.detail }))
        }
        "file" => {
            let file = body.file.ok_or_else(|| missing("file"))?;
            let path = format!("{path}.file.file_data");
            let Some(data) = file.file_data else { return Ok(unreadable(Medium::Document)) };
            let source = source(&path, data)?;
            Ok(Part::Document(Document { source, title: file.filename }))
        }
        "input_audio" => {
            let AudioBody { data, format } =
                body.input_audio.ok_or_else(|| missing("input_audio"))?;
            let source = Source::Base64 { media_type: format!("audio/{format}"), data };
            Ok(Part::Document(Document { source, title: None }))
        }
        "document_url" => {
            let url = body.document_url.ok_or_else(|| missing("document_url"))?;
            let source = source(&format!("{path}.document_url"), url)?;
            Ok(Part::Document(Document { source, title: None }))
        }
        "thinking" => {
            let words = body.thinking.ok_or_else(|| missing("thinking"))?;
            let text = words.into_iter().map(|words| words.text).collect();
            Ok(Part::Reasoning { text, signature: None })
        }
        // Compatible servers of models that see and hear have these.
        "video_url" | "input_video" => Ok(unreadable(Medium::Video)),
        "audio_url" => Ok(unreadable(Medium::Audio)),
        other => {
            let what = "cannot be translated; use text, image_url or file";
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

/// Reasoning comes first, as other vendors require, then text, then calls.
fn assistant(path: &str, body: MessageBody<'_>, legacy: String) -> Result<Vec<Part>, ApiError> {
    let mut parts = Vec::new();
    let path_of_details = format!("{path}.reasoning_details");
    let details: Option<Vec<DetailBody>> =
        body.reasoning_details.map(|raw| parse(&path_of_details, raw.get())).transpose()?;
    parts.extend(details.into_iter().flatten().filter_map(detail));
    let told =
        parts.iter().any(|part| matches!(part, Part::Reasoning { text, .. } if !text.is_empty()));
    let text = body.reasoning_content.or(body.reasoning).filter(|text| !told && !text.is_empty());
    if let Some(text) = text {
        parts.insert(0, Part::Reasoning { text, signature: None });
    }
    let text = content(path, body.content)?;
    parts.extend(
        text.into_iter().filter(|part| !matches!(part, Part::Text(text) if text.is_empty())),
    );
    parts.extend(body.refusal.filter(|text| !text.is_empty()).map(Part::Refusal));
    let mut signatures = Signatures::default();
    for (i, call) in body.tool_calls.into_iter().flatten().enumerate() {
        let path = format!("{path}.tool_calls[{i}]");
        if call.kind.as_deref().is_some_and(|kind| !["function", "custom"].contains(&kind)) {
            return Err(refuse(&path, "is not a call of a function and cannot be translated"));
        }
        if let Some(value) = call.extra_content.and_then(thought_signature) {
            signatures.stand_on_call(value, &mut parts);
        }
        if let Some(custom) = call.custom {
            let wrong = || refuse(&format!("{path}.custom.input"), "must be a string");
            let arguments = free_text::arguments(&custom.input).ok_or_else(wrong)?;
            parts.push(Part::ToolCall { id: call.id, name: custom.name, arguments });
            continue;
        }
        let function =
            call.function.ok_or_else(|| refuse(&format!("{path}.function"), "is missing"))?;
        parts.push(tool_call(call.id, function));
    }
    if let Some(function) = body.function_call {
        parts.push(tool_call(legacy, function));
    }
    signatures.leave_out_empty(&mut parts);
    Ok(parts)
}

/// Google's signatures in one turn: each with the place of the reasoning that has it.
#[derive(Default)]
struct Signatures(Option<HashMap<String, Vec<usize>>>);

impl Signatures {
    /// A signature that stands on a call counts there and nowhere else.
    fn stand_on_call(&mut self, value: String, parts: &mut Vec<Part>) {
        let places = self.0.get_or_insert_with(|| places(parts));
        for at in places.insert(value.clone(), vec![parts.len()]).into_iter().flatten() {
            if let Some(Part::Reasoning { signature, .. }) = parts.get_mut(at) {
                *signature = None;
            }
        }
        let signature = Some(Signature { value, scheme: Scheme::Gemini });
        parts.push(Part::Reasoning { text: String::new(), signature });
    }

    /// Leaves out reasoning that has neither text nor a signature any more.
    fn leave_out_empty(self, parts: &mut Vec<Part>) {
        let nothing = |part: &Part| matches!(part, Part::Reasoning { text, signature: None } if text.is_empty());
        if self.0.is_some() {
            parts.retain(|part| !nothing(part));
        }
    }
}

fn places(parts: &[Part]) -> HashMap<String, Vec<usize>> {
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, part) in parts.iter().enumerate() {
        if let Part::Reasoning { signature: Some(signature), .. } = part
            && signature.scheme == Scheme::Gemini
        {
            places.entry(signature.value.clone()).or_default().push(at);
        }
    }
    places
}

/// One entry of `reasoning_details`; nothing if it has neither text nor a state of a known vendor.
fn detail(body: DetailBody) -> Option<Part> {
    let scheme = scheme(body.format.as_deref().unwrap_or_default());
    if let Some(data) = body.data.filter(|data| !data.is_empty()) {
        return Some(Part::RedactedReasoning { data, scheme: scheme? });
    }
    let text = body.text.or(body.summary).unwrap_or_default();
    let signature = body.signature.filter(|value| !value.is_empty());
    let signature = signature.zip(scheme).map(|(value, scheme)| Signature { value, scheme });
    (signature.is_some() || !text.is_empty()).then_some(Part::Reasoning { text, signature })
}

/// Arguments are a string of JSON; some callers send the object itself.
fn tool_call(id: String, function: FunctionBody<'_>) -> Part {
    Part::ToolCall { id, name: function.name, arguments: arguments::object(function.arguments) }
}
