//! Turn reader: the turns of a conversation. Calls need no id here: those without get one, and results
//! without find their call by its name, in order.
//!
//! A signature stands on a part. It is read as reasoning without text, before a call or after a text.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read::{Turn, elements};
use super::request::parse;
use super::turn_parts::TurnParts;
use crate::arguments;
use crate::body::{of_type, refuse};
use crate::chat::{
    ApiError, Document, Image, Medium, Message, Part, Role, Scheme, Signature, Source,
};
use crate::json::{Members, is_null, text};
use crate::open_calls::OpenCalls;
use crate::seal;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece<'a> {
    text: Option<String>,
    thought: Option<bool>,
    #[serde(alias = "thought_signature")]
    thought_signature: Option<String>,
    #[serde(alias = "inline_data")]
    inline_data: Option<Blob>,
    #[serde(alias = "file_data")]
    file_data: Option<File>,
    #[serde(borrow, alias = "function_call")]
    function_call: Option<Call<'a>>,
    #[serde(borrow, alias = "function_response")]
    function_response: Option<Answer<'a>>,
}

/// Members that only qualify another one, or that have no meaning for other vendors.
const FURNITURE: [&str; 6] = [
    "videoMetadata",
    "video_metadata",
    "mediaResolution",
    "media_resolution",
    "partMetadata",
    "part_metadata",
];

/// Members of [`Piece`], in both spellings.
const KNOWN: [&str; 13] = [
    "text",
    "thought",
    "thoughtSignature",
    "thought_signature",
    "inlineData",
    "inline_data",
    "fileData",
    "file_data",
    "functionCall",
    "function_call",
    "functionResponse",
    "function_response",
    "role",
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    #[serde(alias = "mime_type")]
    mime_type: String,
    data: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(alias = "mime_type")]
    mime_type: Option<String>,
    #[serde(alias = "file_uri")]
    file_uri: String,
}

#[derive(Debug, Deserialize)]
struct Call<'a> {
    id: Option<String>,
    name: String,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Answer<'a> {
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    parts: Option<Vec<&'a RawValue>>,
}

/// The calls that are not answered yet, and the number of all.
#[derive(Debug, Default)]
struct Pending {
    calls: OpenCalls,
    count: usize,
}

impl Pending {
    fn call(&mut self, id: Option<String>, name: &str) -> String {
        let number = self.count;
        self.count += 1;
        let id = id.filter(|id| !id.is_empty());
        let invented = id.is_none();
        let id = id.unwrap_or_else(|| format!("call_{number}"));
        self.calls.open(&id, name, invented);
        id
    }

    /// The id of the call that a result answers, by its id or else by its name.
    fn answered(&mut self, id: Option<&str>, name: Option<&str>) -> Option<String> {
        let by_id = id.and_then(|id| self.calls.close_by_id(id));
        by_id.or_else(|| self.calls.close_by_name(name?))
    }
}

/// Reads all turns.
pub(super) fn turns(contents: &RawValue, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let mut pending = Pending::default();
    for (i, raw) in elements(Some(contents), "contents")?.into_iter().enumerate() {
        let turn: Turn<'_> = parse(raw.get(), &format!("contents[{i}]"))?;
        let role = match turn.role.as_deref() {
            Some("model") => Role::Assistant,
            None | Some("" | "user" | "function") => Role::User,
            Some("system") => Role::System,
            Some(_) => {
                let message = "must be user or model";
                return Err(ApiError::field(format!("contents[{i}].role"), message));
            }
        };
        let mut parts = TurnParts::default();
        let at = format!("contents[{i}].parts");
        for (j, raw) in elements(turn.parts, &at)?.into_iter().enumerate() {
            let at = format!("{at}[{j}]");
            part(raw.get(), &at, role, &mut pending, &mut parts)?;
        }
        let parts = parts.finish();
        if !parts.is_empty() || role == Role::User {
            messages.push(Message { at: format!("contents[{i}]"), role, parts });
        }
    }
    Ok(())
}

/// Reads a part of the instructions: a text, or a medium.
pub(super) fn instruction(raw: &RawValue, at: &str) -> Result<Part, ApiError> {
    if let Some(words) = text(raw) {
        return Ok(Part::Text(words.into_owned()));
    }
    let piece: Piece<'_> = parse(raw.get(), at)?;
    if piece.inline_data.is_some() || piece.file_data.is_some() {
        return medium(piece.inline_data, piece.file_data, at);
    }
    piece.text.map(Part::Text).ok_or_else(|| ApiError::field(at, "must be a text"))
}

fn part(
    json: &str,
    at: &str,
    role: Role,
    pending: &mut Pending,
    out: &mut TurnParts,
) -> Result<(), ApiError> {
    if !is_translated(json, at, role)? {
        return Ok(());
    }
    let piece: Piece<'_> = parse(json, at)?;
    let thought = piece.thought == Some(true);
    if let Some(words) = piece.text.filter(|words| !words.is_empty()) {
        out.push(match (thought, role) {
            (true, Role::Assistant) => Part::Reasoning { text: words, signature: None },
            _ => Part::Text(words),
        });
    }
    if let (Some(value), Role::Assistant) = (piece.thought_signature, role)
        && !value.is_empty()
    {
        if let Some(sealed) = seal::unpacked(&value) {
            out.restore(sealed, piece.function_call.is_some());
        } else {
            let signature = Some(Signature { value, scheme: Scheme::Gemini });
            out.push(Part::Reasoning { text: String::new(), signature });
        }
    }
    let misplaced =
        |what: &str| ApiError::field(at, format!("{what} cannot stand in a turn of this role"));
    if let Some(call) = piece.function_call {
        if role != Role::Assistant {
            return Err(misplaced("a function call"));
        }
        out.push(self::call(&call, pending));
    }
    if let Some(answer) = piece.function_response {
        if role != Role::User {
            return Err(misplaced("a function response"));
        }
        out.push(result(&answer, at, pending)?);
    }
    if piece.inline_data.is_some() || piece.file_data.is_some() {
        out.push(medium(piece.inline_data, piece.file_data, at)?);
    }
    Ok(())
}

/// Members that show the run of a hosted tool. Its findings are in the text that follows.
const HOSTED: [&str; 8] = [
    "executableCode",
    "executable_code",
    "codeExecutionResult",
    "code_execution_result",
    "toolCall",
    "tool_call",
    "toolResponse",
    "tool_response",
];

/// Whether a part can be translated. Steps of tools that the vendor runs cannot: in the model's turns such
/// a part is left out, elsewhere it is rejected.
fn is_translated(json: &str, at: &str, role: Role) -> Result<bool, ApiError> {
    let members: Members<'_> = parse(json, at)?;
    let hosted = |name: &str| role == Role::Assistant && HOSTED.contains(&name);
    if members.0.iter().any(|(name, value)| !is_null(value) && hosted(name)) {
        return Ok(false);
    }
    let unknown = |(name, value): &&(std::borrow::Cow<'_, str>, &RawValue)| {
        !is_null(value) && !KNOWN.contains(&name.as_ref()) && !FURNITURE.contains(&name.as_ref())
    };
    if let Some((name, _)) = members.0.iter().find(unknown) {
        let what = "cannot be translated, since only its own vendor understands it; leave the part out \
                    or choose another model";
        return Err(refuse(at, &format!("{}{what}", of_type(name))));
    }
    Ok(true)
}

fn call(call: &Call<'_>, pending: &mut Pending) -> Part {
    let id = pending.call(call.id.clone(), &call.name);
    let arguments = arguments::object(call.args);
    Part::ToolCall { id, name: call.name.clone(), arguments }
}

fn result(answer: &Answer<'_>, at: &str, pending: &mut Pending) -> Result<Part, ApiError> {
    let at = format!("{at}.functionResponse");
    // One that answers no call becomes text.
    let id = pending.answered(answer.id.as_deref(), answer.name.as_deref());
    let id = id.or_else(|| answer.id.clone()).unwrap_or_default();
    let (words, is_error) = answer.response.map_or((String::new(), false), told);
    let mut parts = Vec::new();
    if !words.is_empty() {
        parts.push(Part::Text(words));
    }
    for raw in answer.parts.iter().flatten() {
        let piece: Piece<'_> = parse(raw.get(), &at)?;
        parts.push(medium(piece.inline_data, piece.file_data, &at)?);
    }
    Ok(Part::ToolResult { id, parts, is_error })
}

/// The result of a function, and whether it is an error. The vendor's SDKs wrap a bare value in an object.
fn told(response: &RawValue) -> (String, bool) {
    if let Ok(members) = Members::parse(response.get())
        && let [(name, value)] = members.0.as_slice()
        && matches!(name.as_ref(), "output" | "result" | "error" | "content")
    {
        let words =
            text(value).map_or_else(|| value.get().to_owned(), std::borrow::Cow::into_owned);
        return (words, name == "error");
    }
    let bare = text(response).map(std::borrow::Cow::into_owned);
    (bare.unwrap_or_else(|| response.get().to_owned()), false)
}

fn medium(inline: Option<Blob>, file: Option<File>, at: &str) -> Result<Part, ApiError> {
    let (medium, source) = match (inline, file) {
        (Some(Blob { mime_type, data }), _) => {
            let medium = Medium::of(&mime_type);
            (medium, Source::Base64 { media_type: mime_type, data: standard(data) })
        }
        (None, Some(File { mime_type, file_uri })) => {
            let medium = file_type(mime_type.as_deref(), &file_uri);
            if !is_public(mime_type.as_deref(), medium, &file_uri) {
                return Ok(Part::Unreadable { medium, at: format!("{at}.fileData.fileUri") });
            }
            (medium, Source::Url(file_uri))
        }
        (None, None) => return Err(ApiError::field(at, "must hold a medium")),
    };
    Ok(match medium {
        Medium::Image => Part::Image(Image { source, detail: None }),
        _ => Part::Document(Document { source, title: None }),
    })
}

/// Where the vendor's own files are, and the videos that it reads by their pages.
const STORED: [&str; 1] = ["https://generativelanguage.googleapis.com/"];
const VIDEOS: [&str; 4] = [
    "https://www.youtube.com/",
    "https://youtube.com/",
    "https://m.youtube.com/",
    "https://youtu.be/",
];

/// The medium of a file, by its type; without a type, by its address.
fn file_type(mime_type: Option<&str>, uri: &str) -> Medium {
    let is_video = VIDEOS.iter().any(|page| uri.starts_with(page));
    match mime_type.filter(|kind| !kind.is_empty()) {
        _ if is_video => Medium::Video,
        Some(kind) => Medium::of(kind),
        None if uri.to_ascii_lowercase().ends_with(".pdf") => Medium::Document,
        None => Medium::Image,
    }
}

/// Whether other vendors can read a file: an image or a PDF at an address of the web.
fn is_public(mime_type: Option<&str>, medium: Medium, uri: &str) -> bool {
    let on_the_web = uri.starts_with("https://") || uri.starts_with("http://");
    let taken = match medium {
        Medium::Image => true,
        Medium::Document => mime_type.is_none_or(|kind| matches!(kind, "" | "application/pdf")),
        Medium::Audio | Medium::Video => false,
    };
    on_the_web && taken && !STORED.iter().any(|place| uri.starts_with(place))
}

/// The vendor's Python library writes base64 in the alphabet for addresses.
fn standard(mut data: String) -> String {
    if data.contains(['-', '_']) {
        data = data.replace('-', "+").replace('_', "/");
    }
    while !data.is_empty() && !data.len().is_multiple_of(4) {
        data.push('=');
    }
    data
}
