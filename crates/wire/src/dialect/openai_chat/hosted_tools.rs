//! The tools that a vendor of this dialect runs itself, as requests declare them: `web_search_options` of
//! `OpenAI`'s search models, and the types that others take among `tools`.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::body::parse;
use crate::chat::{ApiError, HostedKind, HostedTool, Location, WebAccess};
use crate::hosted_body;
use crate::json::{Members, text};

/// The member that tunes the search of models that always search.
pub(super) const OPTIONS: &str = "web_search_options";

const SEARCH: [&str; 3] = ["web_search", "web_search_preview", "openrouter:web_search"];
const FETCH: [&str; 1] = ["openrouter:web_fetch"];
const CODE: [&str; 2] = ["code_interpreter", "code_execution"];
/// Tools that only this vendor runs, or that refer to data at this vendor.
const OTHERS: [&str; 8] = [
    "file_search",
    "image_generation",
    "mcp",
    "live_search",
    "document_library",
    "retrieval",
    "builtin_function",
    "openrouter:datetime",
];

#[derive(Deserialize)]
struct Options {
    search_context_size: Option<String>,
    user_location: Option<UserLocation>,
}

#[derive(Deserialize)]
struct UserLocation {
    approximate: Option<Location>,
}

#[derive(Deserialize)]
struct ToolType {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Reads a tool of this type. `None`: no vendor runs it.
pub(super) fn read(kind: &str, at: &str) -> Option<HostedTool> {
    let known = |list: &[&'static str]| list.iter().copied().find(|known| *known == kind);
    let web = WebAccess::default;
    let search = known(&SEARCH).map(|name| (name, HostedKind::WebSearch(web())));
    let fetch = || known(&FETCH).map(|name| (name, HostedKind::WebFetch(web())));
    let code = || known(&CODE).map(|name| (name, HostedKind::CodeExecution));
    let other = || known(&OTHERS).map(|name| (name, HostedKind::Other));
    let (name, kind) = search.or_else(fetch).or_else(code).or_else(other)?;
    let (at, name) = (at.to_owned(), name.to_owned());
    Some(HostedTool { at, name, kind, ..HostedTool::default() })
}

/// Reads `web_search_options`. Models that search do so without it, too.
pub(super) fn options(raw: &RawValue) -> Result<HostedTool, ApiError> {
    let body: Options = parse(OPTIONS, raw.get())?;
    let access = WebAccess {
        location: body.user_location.and_then(|place| place.approximate),
        context_size: body.search_context_size,
        ..WebAccess::default()
    };
    Ok(HostedTool { kind: HostedKind::WebSearch(access), ..unread_options() })
}

fn unread_options() -> HostedTool {
    let (at, name) = (OPTIONS.to_owned(), OPTIONS.to_owned());
    HostedTool { at, name, optional: true, ..HostedTool::default() }
}

/// Marks the tools that a choice of this type requires. `false`: there is none.
pub(super) fn force(kind: &str, hosted: &mut [HostedTool]) -> bool {
    let mut any = false;
    for tool in hosted.iter_mut().filter(|tool| tool.name == kind) {
        (tool.forced, any) = (true, true);
    }
    any
}

/// Splits a request for an upstream of this dialect.
pub(super) fn split(body: &str) -> Result<Option<(Vec<HostedTool>, String)>, ApiError> {
    let element = |raw: &'_ RawValue, at: &str| -> Result<Option<HostedTool>, ApiError> {
        let ToolType { kind } = parse(at, raw.get())?;
        Ok(kind.and_then(|kind| read(&kind, at)))
    };
    let forces = |choice: &RawValue, found: &mut [HostedTool]| {
        let members = Members::parse(choice.get()).unwrap_or_default();
        if let Some(kind) = members.get("type").and_then(text) {
            force(&kind, found);
        }
    };
    hosted_body::split(
        body,
        &|raw, at| Ok(hosted_body::whole(raw, element(raw, at)?)),
        &[(OPTIONS, unread_options())],
        &["tool_choice", "parallel_tool_calls"],
        &forces,
    )
}

/// `web_search_options` of a request. `None`: it has no search tool.
pub(super) fn written(hosted: &[HostedTool]) -> Option<Value> {
    let access = hosted.iter().find_map(|tool| match &tool.kind {
        HostedKind::WebSearch(access) => Some(access),
        _ => None,
    })?;
    let mut members = Map::new();
    if let Some(size) = &access.context_size {
        members.insert("search_context_size".to_owned(), json!(size));
    }
    if let Some(location) = &access.location {
        let said: Map<String, Value> =
            location.members().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let place = json!({ "type": "approximate", "approximate": said });
        members.insert("user_location".to_owned(), place);
    }
    Some(Value::Object(members))
}
