//! Side effects of requests at an upstream: a response that is stored there, a run in the background, tools that the
//! vendor runs. Such a request is not repeated once an upstream may have worked on it. Pure. It must never change a body.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// The beginnings of the types of tools that vendors run, in all dialects; clients run all others.
const SERVER_TOOLS: [&str; 12] = [
    "web_search",
    "web_fetch",
    "code_execution",
    "code_interpreter",
    "file_search",
    "image_generation",
    "mcp",
    "google_search",
    "googleSearch",
    "codeExecution",
    "url_context",
    "urlContext",
];

/// The members without which a body has no side effects.
const MEMBERS: [&str; 5] =
    ["\"store\"", "\"background\"", "\"tools\"", "\"mcp_servers\"", "\"web_search_options\""];

/// The members of a body that decide; each may have any type.
#[derive(Deserialize)]
struct Body {
    store: Option<Value>,
    background: Option<Value>,
    tools: Option<Value>,
    mcp_servers: Option<Value>,
    web_search_options: Option<IgnoredAny>,
}

/// Whether a request may change something at its upstream, besides an answer.
pub fn has_side_effects(body: &str) -> bool {
    if !MEMBERS.iter().any(|member| body.contains(member)) {
        return false;
    }
    // A body that cannot be read is rejected before it is sent.
    let Ok(body) = serde_json::from_str::<Body>(body) else { return false };
    let is_true = |value: &Option<Value>| value.as_ref().and_then(Value::as_bool) == Some(true);
    is_true(&body.store)
        || is_true(&body.background)
        || body.web_search_options.is_some()
        || !items(body.mcp_servers.as_ref()).is_empty()
        || items(body.tools.as_ref()).iter().any(is_server_tool)
}

/// The items of a list; none of anything else.
fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether a vendor runs a tool: by its type, or, in Gemini's API, by the name of its only member.
fn is_server_tool(tool: &Value) -> bool {
    let known = |name: &str| SERVER_TOOLS.iter().any(|prefix| name.starts_with(prefix));
    match tool.get("type") {
        Some(kind) => kind.as_str().is_some_and(known),
        None => tool.as_object().is_some_and(|members| members.keys().any(|name| known(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_background_and_server_tools_are_side_effects() {
        for (body, expected) in [
            (r#"{"store":true}"#, true),
            (r#"{"store":false}"#, false),
            (r#"{"store":"true"}"#, false),
            (r#"{"background":true}"#, true),
            (r#"{"messages":[{"content":"store"}]}"#, false),
            (r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#, true),
            (r#"{"tools":[{"type":"web_search_preview"}]}"#, true),
            (r#"{"tools":[{"type":"mcp","server_label":"x"}]}"#, true),
            (r#"{"tools":[{"type":"function","function":{"name":"web_search"}}]}"#, false),
            (r#"{"tools":[{"name":"mcp","input_schema":{}}]}"#, false),
            (r#"{"tools":[{"type":"bash_20250124","name":"bash"}]}"#, false),
            (r#"{"tools":[{"google_search":{}}]}"#, true),
            (r#"{"tools":[{"functionDeclarations":[]}]}"#, false),
            (r#"{"mcp_servers":[{"url":"https://example.com"}]}"#, true),
            (r#"{"mcp_servers":[]}"#, false),
            (r#"{"web_search_options":{}}"#, true),
            (r#"{"tools":1}"#, false),
            (r#"{"tools""#, false),
        ] {
            assert_eq!(has_side_effects(body), expected, "{body}");
        }
    }
}
