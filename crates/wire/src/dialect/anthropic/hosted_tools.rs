//! The server tools, which the vendor runs itself, as requests declare them. Client tools, which have types
//! of the vendor's as well, are none of them.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::request::parse;
use crate::chat::{ApiError, HostedKind, HostedTool, Location, WebAccess};
use crate::hosted_body;
use crate::json::{Members, text};

/// Types of tools, without their versions.
const SEARCH: &str = "web_search";
const FETCH: &str = "web_fetch";
const CODE: &str = "code_execution";
/// Tools that only this vendor runs, or that refer to data at this vendor.
const OTHERS: [&str; 4] =
    ["mcp_toolset", "advisor", "tool_search_tool_regex", "tool_search_tool_bm25"];

#[derive(Debug, Deserialize)]
struct Web {
    allowed_domains: Option<Vec<String>>,
    blocked_domains: Option<Vec<String>>,
    user_location: Option<Location>,
    max_uses: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct ToolType {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Reads a tool of this type. `None`: the vendor does not run it.
pub(super) fn read(kind: &str, raw: &RawValue, at: &str) -> Result<Option<HostedTool>, ApiError> {
    let Some(family) = family(kind) else { return Ok(None) };
    let tool = match family {
        SEARCH => HostedKind::WebSearch(web(raw, at)?),
        FETCH => HostedKind::WebFetch(web(raw, at)?),
        CODE => HostedKind::CodeExecution,
        _ => HostedKind::Other,
    };
    let (at, name) = (at.to_owned(), kind.to_owned());
    Ok(Some(HostedTool { at, name, kind: tool, ..HostedTool::default() }))
}

/// A type without its version, a date of eight digits.
fn family(kind: &str) -> Option<&'static str> {
    let is = |family: &&str| {
        let version = kind.strip_prefix(*family)?;
        let version = version.strip_prefix('_').unwrap_or(version);
        let date = version.len() == 8 && version.bytes().all(|byte| byte.is_ascii_digit());
        (version.is_empty() || date).then_some(())
    };
    let mut families = [SEARCH, FETCH, CODE].into_iter().chain(OTHERS);
    families.find(|family| is(family).is_some())
}

fn web(raw: &RawValue, at: &str) -> Result<WebAccess, ApiError> {
    let body: Web = parse(raw.get(), at)?;
    Ok(WebAccess {
        allowed_domains: body.allowed_domains.unwrap_or_default(),
        blocked_domains: body.blocked_domains.unwrap_or_default(),
        location: body.user_location,
        max_uses: body.max_uses,
        context_size: None,
        cached_only: false,
    })
}

/// The tool that a member of the request beside `tools` stands for. A container is of use to hosted
/// tools only.
pub(super) fn member(name: &'static str) -> HostedTool {
    let optional = name == "container";
    let (at, name) = (name.to_owned(), name.to_owned());
    HostedTool { at, name, optional, ..HostedTool::default() }
}

/// Marks the tools of this name as forced. `false`: there is none.
pub(super) fn force(name: &str, hosted: &mut [HostedTool]) -> bool {
    let mut any = false;
    for tool in hosted.iter_mut().filter(|tool| family(&tool.name) == Some(name)) {
        (tool.forced, any) = (true, true);
    }
    any
}

/// Splits a request for an upstream of this dialect.
pub(super) fn split(body: &str) -> Result<Option<(Vec<HostedTool>, String)>, ApiError> {
    let element = |raw: &'_ RawValue, at: &str| {
        let ToolType { kind } = parse(raw.get(), at)?;
        kind.map_or(Ok(None), |kind| read(&kind, raw, at))
    };
    let forces = |choice: &RawValue, found: &mut [HostedTool]| {
        let members = Members::parse(choice.get()).unwrap_or_default();
        if let Some(name) = members.get("name").and_then(text) {
            force(&name, found);
        }
    };
    hosted_body::split(
        body,
        &|raw, at| Ok(hosted_body::whole(raw, element(raw, at)?)),
        &[("mcp_servers", member("mcp_servers"))],
        &["tool_choice"],
        &forces,
    )
}

/// The tool in the vendor's format. `None`: the vendor runs no such tool.
pub(super) fn written(tool: &HostedTool) -> Option<Value> {
    let (kind, access) = match &tool.kind {
        HostedKind::WebSearch(access) => ("web_search_20250305", access),
        HostedKind::WebFetch(access) => ("web_fetch_20250910", access),
        HostedKind::CodeExecution => {
            return Some(json!({ "type": "code_execution_20250825", "name": CODE }));
        }
        HostedKind::Other => return None,
    };
    let name = family(kind).unwrap_or(kind);
    let mut members =
        Map::from_iter([("type".to_owned(), json!(kind)), ("name".to_owned(), json!(name))]);
    // The vendor takes one of both lists.
    let domains = match access.allowed_domains.as_slice() {
        [] => ("blocked_domains", &access.blocked_domains),
        _ => ("allowed_domains", &access.allowed_domains),
    };
    if !domains.1.is_empty() {
        members.insert(domains.0.to_owned(), json!(domains.1));
    }
    if let Some(location) = access.location.as_ref().filter(|_| name == SEARCH) {
        let mut said = Map::from_iter([("type".to_owned(), json!("approximate"))]);
        said.extend(location.members().map(|(name, value)| (name.to_owned(), json!(value))));
        members.insert("user_location".to_owned(), Value::Object(said));
    }
    if let Some(most) = access.max_uses {
        members.insert("max_uses".to_owned(), json!(most));
    }
    Some(Value::Object(members))
}

/// The name by which a choice requires the tool; `None` for several: any of them.
pub(super) fn choice(hosted: &[HostedTool]) -> Option<&'static str> {
    let mut forced = hosted.iter().filter(|tool| tool.forced);
    let name = match forced.next()?.kind {
        HostedKind::WebFetch(_) => FETCH,
        HostedKind::CodeExecution => CODE,
        HostedKind::WebSearch(_) | HostedKind::Other => SEARCH,
    };
    forced.next().is_none().then_some(name)
}
