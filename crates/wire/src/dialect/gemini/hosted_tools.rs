//! The tools that the vendor runs itself, as requests declare them: members of an element of `tools`,
//! maybe beside functions.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::request::parse;
use crate::chat::{ApiError, HostedKind, HostedTool, WebAccess};
use crate::hosted_body::{self, Split};
use crate::json::{Members, is_null};

/// Tools that only this vendor runs, or that refer to data at this vendor, in the spelling of the API.
const OTHERS: [&str; 5] =
    ["fileSearch", "googleMaps", "retrieval", "parallelAiSearch", "mcpServers"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Search {
    #[serde(alias = "exclude_domains")]
    exclude_domains: Option<Vec<String>>,
}

/// Reads the member of this name. `None`: it is no tool that the vendor runs.
pub(super) fn read(member: &str, raw: &RawValue, at: &str) -> Result<Option<HostedTool>, ApiError> {
    let name = camel(member);
    let kind = match name.as_ref() {
        "googleSearch" | "enterpriseWebSearch" => {
            let Search { exclude_domains } = parse(raw.get(), &format!("{at}.{name}"))?;
            let blocked_domains = exclude_domains.unwrap_or_default();
            HostedKind::WebSearch(WebAccess { blocked_domains, ..WebAccess::default() })
        }
        "googleSearchRetrieval" => HostedKind::WebSearch(WebAccess::default()),
        "urlContext" => HostedKind::WebFetch(WebAccess::default()),
        "codeExecution" => HostedKind::CodeExecution,
        other if OTHERS.contains(&other) => HostedKind::Other,
        _ => return Ok(None),
    };
    let (at, name) = (format!("{at}.{name}"), name.into_owned());
    Ok(Some(HostedTool { at, name, kind, ..HostedTool::default() }))
}

/// A name in snake case in the API's own spelling.
fn camel(name: &str) -> Cow<'_, str> {
    if !name.contains('_') {
        return Cow::Borrowed(name);
    }
    let mut words = name.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    Cow::Owned(out)
}

/// Splits a request for an upstream of this dialect.
pub(super) fn split(body: &str) -> Result<Option<(Vec<HostedTool>, String)>, ApiError> {
    let nothing = |_: &RawValue, _: &mut [HostedTool]| {};
    hosted_body::split(body, &element, &[], &["toolConfig", "tool_config"], &nothing)
}

fn element<'b>(raw: &'b RawValue, at: &str) -> Result<Split<'b>, ApiError> {
    let members: Members<'b> = parse(raw.get(), at)?;
    let (mut found, mut edits) = (Vec::new(), Vec::new());
    for (name, value) in members.0.iter().filter(|(_, value)| !is_null(value)) {
        if let Some(tool) = read(name, value, at)? {
            found.push(tool);
            edits.push((name.as_ref(), None));
        }
    }
    let rest = match edits.len() {
        0 => Some(Cow::Borrowed(raw.get())),
        all if all == members.0.len() => None,
        _ => Some(Cow::Owned(members.edit(raw.get(), &edits))),
    };
    Ok((found, rest))
}

/// The tool in the vendor's format. `None`: the vendor runs no such tool.
pub(super) fn written(tool: &HostedTool) -> Option<Value> {
    match tool.kind {
        HostedKind::WebSearch(_) => Some(json!({ "googleSearch": {} })),
        HostedKind::WebFetch(_) => Some(json!({ "urlContext": {} })),
        HostedKind::CodeExecution => Some(json!({ "codeExecution": {} })),
        HostedKind::Other => None,
    }
}
