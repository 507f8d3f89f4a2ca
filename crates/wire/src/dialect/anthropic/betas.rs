//! Members of a body that belong to beta features. A platform that does not take a feature rejects its
//! members as well. Nothing else of a body is changed.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json::Members;

/// Where such a member stands: of the body, of its `output_config`, of a tool, or of a mark for caching.
const BODY: &str = "";
const OUTPUT: &str = "output_config";
const TOOL: &str = "tools";
const MARK: &str = "cache_control";

/// A member, where it stands, and the features of which it is a part. Without any, it is an argument of the
/// vendor's libraries, which belongs to the header. Source: Anthropic API reference, beta messages.
const MEMBERS: [(&str, &str, &[&str]); 11] = [
    ("context_management", BODY, &["context-management-2025-06-27", "compact-2026-01-12"]),
    ("speed", BODY, &["fast-mode-2026-02-01"]),
    ("mcp_servers", BODY, &["mcp-client-2025-04-04", "mcp-client-2025-11-20"]),
    (
        "container",
        BODY,
        &["code-execution-2025-05-22", "code-execution-2025-08-25", "skills-2025-10-02"],
    ),
    ("fallbacks", BODY, &["server-side-fallback-2026-06-01", "server-side-fallback-2026-07-01"]),
    ("betas", BODY, &[]),
    ("task_budget", OUTPUT, &["task-budgets-2026-03-13"]),
    ("defer_loading", TOOL, &["tool-search-tool-2025-10-19", "advanced-tool-use-2025-11-20"]),
    ("input_examples", TOOL, &["tool-examples-2025-10-29", "advanced-tool-use-2025-11-20"]),
    ("eager_input_streaming", TOOL, &["fine-grained-tool-streaming-2025-05-14"]),
    ("scope", MARK, &["prompt-caching-scope-2026-01-05"]),
];

/// Members with free-form content of the caller.
const CONTENT: [&str; 4] = ["input", "input_schema", "source", "text"];

/// A body without the members of features that are not among those `taken`.
pub(super) fn without_members<'b>(body: &'b str, taken: Option<&[String]>) -> Cow<'b, str> {
    let Some(taken) = taken else { return Cow::Borrowed(body) };
    let known = |features: &[&str]| features.iter().any(|name| taken.iter().any(|it| it == name));
    let gone: Vec<(&str, &str)> = MEMBERS
        .iter()
        .filter(|(name, _, features)| {
            !known(features) && memchr::memmem::find(body.as_bytes(), name.as_bytes()).is_some()
        })
        .map(|(name, place, _)| (*name, *place))
        .collect();
    if gone.is_empty() {
        return Cow::Borrowed(body);
    }
    strip(body, BODY, &gone).map_or(Cow::Borrowed(body), Cow::Owned)
}

/// A value without the members that are `gone`, each with its place. `None`: nothing of it changes.
fn strip(json: &str, place: &str, gone: &[(&str, &str)]) -> Option<String> {
    if json.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
        let stripped: Vec<Option<String>> =
            items.iter().map(|item| strip(item.get(), place, gone)).collect();
        stripped.iter().any(Option::is_some).then_some(())?;
        let all = items.iter().zip(&stripped);
        let all: Vec<&str> =
            all.map(|(own, new)| new.as_deref().unwrap_or_else(|| own.get())).collect();
        return Some(format!("[{}]", all.join(",")));
    }
    if !json.trim_start().starts_with('{') {
        return None;
    }
    let members = Members::parse(json).ok()?;
    let mut edits: Vec<(&str, Option<String>)> = Vec::new();
    for (name, value) in &members.0 {
        if gone.contains(&(name.as_ref(), place)) {
            edits.push((name, None));
        } else if !CONTENT.contains(&name.as_ref())
            && let Some(new) = strip(value.get(), name, gone)
        {
            edits.push((name, Some(new)));
        }
    }
    (!edits.is_empty()).then_some(())?;
    let edits: Vec<_> = edits.iter().map(|(name, new)| (*name, new.as_deref())).collect();
    Some(members.edit(json, &edits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_features_that_are_not_taken_are_left_out() {
        let body = r#"{"context_management":{"edits":[]},"speed":"fast","mcp_servers":[{"name":"speed"}],"container":"c","fallbacks":"default","betas":["b"],"output_config":{"effort":"low","task_budget":{"total":1}},"system":[{"type":"text","text":"scope","cache_control":{"type":"ephemeral","scope":"global"}}],"tools":[{"name":"f","defer_loading":true,"input_schema":{"scope":1}},{"name":"g"}],"messages":[{"role":"assistant","content":[{"type":"tool_use","input":{"cache_control":{"scope":2}}}]}]}"#;
        let expected = r#"{"output_config":{"effort":"low"},"system":[{"type":"text","text":"scope","cache_control":{"type":"ephemeral"}}],"tools":[{"name":"f","input_schema":{"scope":1}},{"name":"g"}],"messages":[{"role":"assistant","content":[{"type":"tool_use","input":{"cache_control":{"scope":2}}}]}]}"#;
        assert_eq!(without_members(body, Some(&[])), expected);
        assert_eq!(without_members(body, None), body);
        let first = |(_, _, all): &(_, _, &[&str])| all.first().map(|name| (*name).to_owned());
        let all: Vec<String> = MEMBERS.iter().filter_map(first).collect();
        let body = body.replace(r#""betas":["b"],"#, "");
        assert_eq!(without_members(&body, Some(&all)), body);
    }
}
