//! The tools that the vendor runs itself, as requests declare them. Tools of any type that run at the
//! caller are not among them.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::body::parse;
use crate::chat::{ApiError, HostedKind, HostedTool, Location, WebAccess};
use crate::hosted_body;
use crate::json::{Members, text};

/// The names of web search, by version.
const SEARCH: [&str; 4] =
    ["web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"];

/// Tools that only this vendor runs, or that refer to data at this vendor.
const OTHERS: [&str; 7] = [
    "file_search",
    "image_generation",
    "mcp",
    "x_search",
    "collections_search",
    "tool_search",
    "programmatic_tool_calling",
];

#[derive(Deserialize)]
struct SearchBody {
    filters: Option<Filters>,
    user_location: Option<Location>,
    search_context_size: Option<String>,
    external_web_access: Option<bool>,
}

#[derive(Default, Deserialize)]
struct Filters {
    allowed_domains: Option<Vec<String>>,
    blocked_domains: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct CodeBody<'a> {
    #[serde(borrow)]
    container: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ToolType {
    #[serde(rename = "type")]
    kind: String,
    execution: Option<String>,
}

/// Reads a tool of this type. `None`: the vendor does not run it.
pub(super) fn read(kind: &str, raw: &RawValue, at: &str) -> Result<Option<HostedTool>, ApiError> {
    let known = |list: &[&'static str]| list.iter().copied().find(|known| *known == kind);
    let (name, kind) = if let Some(name) = known(&SEARCH) {
        (name, HostedKind::WebSearch(search(parse(at, raw.get())?)))
    } else if let Some(name) = known(&["code_interpreter", "code_execution"]) {
        let CodeBody { container } = parse(at, raw.get())?;
        // Other containers hold files that are kept at the vendor.
        let empty = container.is_none_or(|container| !refers_to_files(container));
        (name, if empty { HostedKind::CodeExecution } else { HostedKind::Other })
    } else if let Some(name) = known(&OTHERS) {
        let ToolType { execution, .. } = parse(at, raw.get())?;
        if execution.as_deref() == Some("client") {
            return Ok(None);
        }
        (name, HostedKind::Other)
    } else {
        return Ok(None);
    };
    let (at, name) = (at.to_owned(), name.to_owned());
    Ok(Some(HostedTool { at, name, kind, ..HostedTool::default() }))
}

fn search(body: SearchBody) -> WebAccess {
    let filters = body.filters.unwrap_or_default();
    WebAccess {
        allowed_domains: filters.allowed_domains.unwrap_or_default(),
        blocked_domains: filters.blocked_domains.unwrap_or_default(),
        location: body.user_location,
        max_uses: None,
        context_size: body.search_context_size,
        cached_only: body.external_web_access == Some(false),
    }
}

/// Whether a container is one by its id, or one with files.
fn refers_to_files(container: &RawValue) -> bool {
    let Ok(members) = Members::parse(container.get()) else { return container.get() != "null" };
    members.get("file_ids").is_some_and(|ids| !matches!(ids.get(), "[]" | "null"))
}

/// Marks the tools that a choice of this type requires. `false`: there is none.
pub(super) fn force(kind: &str, hosted: &mut [HostedTool]) -> bool {
    let same = |name: &str| name == kind || SEARCH.contains(&name) && SEARCH.contains(&kind);
    let mut any = false;
    for tool in hosted.iter_mut().filter(|tool| same(&tool.name)) {
        (tool.forced, any) = (true, true);
    }
    any
}

/// Splits a request for an upstream of this dialect.
pub(super) fn split(body: &str) -> Result<Option<(Vec<HostedTool>, String)>, ApiError> {
    let element = |raw: &'_ RawValue, at: &str| {
        let ToolType { kind, .. } = parse(at, raw.get())?;
        read(&kind, raw, at)
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
        &[],
        &["tool_choice", "parallel_tool_calls"],
        &forces,
    )
}

/// The tool in the vendor's format. `None`: the vendor runs no such tool.
pub(super) fn written(tool: &HostedTool) -> Option<Value> {
    let access = match &tool.kind {
        HostedKind::WebSearch(access) => access,
        HostedKind::CodeExecution => {
            return Some(json!({ "type": "code_interpreter", "container": { "type": "auto" } }));
        }
        HostedKind::WebFetch(_) | HostedKind::Other => return None,
    };
    let mut members = Map::from_iter([("type".to_owned(), json!("web_search"))]);
    let mut filters = Map::new();
    for (name, domains) in
        [("allowed_domains", &access.allowed_domains), ("blocked_domains", &access.blocked_domains)]
    {
        if !domains.is_empty() {
            filters.insert(name.to_owned(), json!(domains));
        }
    }
    if !filters.is_empty() {
        members.insert("filters".to_owned(), Value::Object(filters));
    }
    if let Some(location) = &access.location {
        let mut said = Map::from_iter([("type".to_owned(), json!("approximate"))]);
        said.extend(location.members().map(|(name, value)| (name.to_owned(), json!(value))));
        members.insert("user_location".to_owned(), Value::Object(said));
    }
    if let Some(size) = &access.context_size {
        members.insert("search_context_size".to_owned(), json!(size));
    }
    if access.cached_only {
        members.insert("external_web_access".to_owned(), json!(false));
    }
    Some(Value::Object(members))
}

/// The most calls that all hosted tools together may make.
pub(super) fn most_calls(hosted: &[HostedTool]) -> Option<u64> {
    let most = |tool: &HostedTool| match &tool.kind {
        HostedKind::WebSearch(access) => access.max_uses,
        _ => None,
    };
    // The vendor's limit counts the calls of all tools together, so it is only exact for a single tool.
    let [tool] = hosted else { return None };
    most(tool)
}

/// The type by which a choice requires the tool.
pub(super) fn choice(hosted: &[HostedTool]) -> Option<&'static str> {
    let mut forced = hosted.iter().filter(|tool| tool.forced).map(|tool| match &tool.kind {
        HostedKind::CodeExecution => "code_interpreter",
        _ => "web_search",
    });
    let kind = forced.next()?;
    Some(if forced.any(|other| other != kind) { "required" } else { kind })
}
