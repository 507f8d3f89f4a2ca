//! Recursive schemas, which some vendors refuse to enforce.

use serde_json::json;

use super::sent;

#[test]
fn a_recursive_schema_is_asked_for_and_not_enforced() {
    let node = json!({ "type": "object", "properties": { "next": { "anyOf": [{ "$ref": "#/$defs/node" }, { "type": "null" }] } },
        "required": ["next"], "additionalProperties": false });
    let schema = json!({ "type": "object", "properties": { "list": { "$ref": "#/$defs/node" } }, "required": ["list"],
        "additionalProperties": false, "$defs": { "node": node } });
    let body = json!({
        "messages": [{ "role": "user", "content": "hi" }],
        "tools": [{ "type": "function", "function": { "name": "f", "strict": true, "parameters": schema } }],
        "response_format": { "type": "json_schema", "json_schema": { "name": "s", "strict": true, "schema": schema } },
    });
    for (upstream, model, tool) in [
        ("anthropic", "claude-opus-4-6", "/tools/0"),
        ("bedrock", "anthropic.claude-opus-4-6-v1", "/toolConfig/tools/0/toolSpec"),
    ] {
        let (body, dropped) = sent("openai-chat", &body, upstream, model);
        assert_eq!(dropped, ["strict", "format"]);
        assert!(body.pointer(tool).unwrap().get("strict").is_none(), "{body}");
        let format = body
            .pointer("/output_config/format")
            .or_else(|| body.pointer("/outputConfig/textFormat"));
        assert_eq!(format, None, "{body}");
        let asked = body["messages"].to_string();
        assert!(
            asked.contains("Answer with JSON that matches this schema")
                && asked.contains("#/$defs/node"),
            "{asked}"
        );
    }
    let (body, dropped) = sent("openai-chat", &body, "openai-responses", "gpt-5");
    assert_eq!(body["text"]["format"]["type"], "json_schema");
    assert!(dropped.is_empty(), "{dropped:?}");
}
