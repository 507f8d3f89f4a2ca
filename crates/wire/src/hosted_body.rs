//! Removal of hosted tools from a request by targeted edits, for upstreams of the caller's own dialect. Every
//! other byte is unchanged.

use std::borrow::Cow;
use std::collections::HashSet;
use std::iter;

use serde_json::value::RawValue;

use super::body::{parse, syntax};
use super::chat::{ApiError, HostedTool};
use super::json::{self, Members};
use super::spelling;

/// An element of `tools` in two parts: its hosted tools, and the remainder without them.
pub(crate) type Split<'a> = (Vec<HostedTool>, Option<Cow<'a, str>>);

/// Separates the hosted tools in a request's `tools`, and in the members that `others` names, each with the
/// tool that it represents. A member that a server might mistake for one of these is rejected. A choice among
/// tools is removed with the last tool; `forces` marks the hosted tools that it requires. Returns `None` if
/// there are no hosted tools.
pub(crate) fn split<'b>(
    body: &'b str,
    element: &dyn Fn(&'b RawValue, &str) -> Result<Split<'b>, ApiError>,
    others: &[(&'static str, HostedTool)],
    choices: &[&'static str],
    forces: &dyn Fn(&RawValue, &mut [HostedTool]),
) -> Result<Option<(Vec<HostedTool>, String)>, ApiError> {
    let members = Members::parse(body).map_err(|error| syntax(&error))?;
    let read = others.iter().map(|(name, _)| *name).chain(choices.iter().copied());
    let names: Vec<&str> = iter::once("tools").chain(read).collect();
    spelling::check_names(&members, &names)?;
    let (mut found, mut kept, mut edits) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(list) = members.get("tools").filter(|list| !json::is_null(list)) {
        let list: Vec<&'b RawValue> = parse("tools", list.get())?;
        for (i, raw) in list.into_iter().enumerate() {
            let (tools, rest) = element(raw, &format!("tools[{i}]"))?;
            found.extend(tools);
            kept.extend(rest);
        }
    }
    let list = format!("[{}]", kept.join(","));
    if !found.is_empty() {
        edits.push(("tools", Some(list.as_str()).filter(|_| !kept.is_empty())));
    }
    for (name, tool) in others {
        if !json::is_unsaid(&members, name) {
            found.push(tool.clone());
            edits.push((name, None));
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    for name in choices {
        if let Some(choice) = members.get(name) {
            forces(choice, &mut found);
            if kept.is_empty() {
                edits.push((name, None));
            }
        }
    }
    Ok(Some((found, members.edit(body, &edits))))
}

/// Whether a request has any tools.
pub(crate) fn has_tools(body: &str) -> bool {
    let members = Members::parse(body).unwrap_or_default();
    members.get("tools").is_some_and(|list| list.get().contains('{'))
}

/// Removes the values at these places: `tools[1]`, or a member of the request.
pub(crate) fn remove<'b>(body: &'b str, places: &[&str]) -> Result<Cow<'b, str>, ApiError> {
    if places.is_empty() {
        return Ok(Cow::Borrowed(body));
    }
    let members = Members::parse(body).map_err(|error| syntax(&error))?;
    let places: HashSet<&str> = places.iter().copied().collect();
    let mut edits = Vec::new();
    let list;
    if let Some(tools) = members.get("tools").filter(|list| !json::is_null(list)) {
        let tools: Vec<&RawValue> = parse("tools", tools.get())?;
        let kept = tools
            .iter()
            .enumerate()
            .filter(|(i, _)| !places.contains(format!("tools[{i}]").as_str()));
        list = format!("[{}]", kept.map(|(_, raw)| raw.get()).collect::<Vec<_>>().join(","));
        edits.push(("tools", Some(list.as_str())));
    }
    let named = members.0.iter().filter(|(name, _)| places.contains(name.as_ref()));
    edits.extend(named.map(|(name, _)| (name.as_ref(), None)));
    Ok(Cow::Owned(members.edit(body, &edits)))
}

/// A split of a tool that is entirely hosted (`Some`), or not at all.
pub(crate) fn whole(raw: &RawValue, tool: Option<HostedTool>) -> Split<'_> {
    match tool {
        Some(tool) => (vec![tool], None),
        None => (Vec::new(), Some(Cow::Borrowed(raw.get()))),
    }
}
