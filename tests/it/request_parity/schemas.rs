//! Schemas that some vendors refuse to enforce: recursive ones, maps, roots other than an object.

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

#[test]
fn a_root_other_than_an_object_is_asked_for() {
    let contents = json!([{ "role": "user", "parts": [{ "text": "hi" }] }]);
    for (config, words) in [
        (
            json!({ "responseMimeType": "application/json",
                "responseSchema": { "type": "ARRAY", "items": { "type": "STRING" } } }),
            r#"{"items":{"type":"string"},"type":"array"}"#,
        ),
        (
            json!({ "responseMimeType": "text/x.enum",
                "responseSchema": { "type": "STRING", "enum": ["a", "b"] } }),
            r#"{"enum":["a","b"],"type":"string"}"#,
        ),
        (
            json!({ "responseMimeType": "application/json",
                "responseJsonSchema": { "anyOf": [{ "type": "object" }, { "type": "null" }] } }),
            r#"{"anyOf":[{"type":"object"},{"type":"null"}]}"#,
        ),
    ] {
        let body = json!({ "contents": contents, "generationConfig": config });
        for upstream in ["openai-chat", "openai-responses", "cohere"] {
            let (body, dropped) = sent("gemini", &body, upstream, "m");
            assert_eq!(dropped, ["format"], "{upstream}: {body}");
            assert!(body.get("response_format").is_none() && body.get("text").is_none(), "{body}");
            let messages = body.get("messages").unwrap_or_else(|| &body["input"]).to_string();
            let words = json!(format!("Answer with JSON that matches this schema: {words}"));
            assert!(messages.contains(words.to_string().trim_matches('"')), "{messages}");
        }
        let (body, dropped) = sent("gemini", &body, "ollama", "m");
        assert!(body["format"].is_object() && dropped.is_empty(), "{dropped:?}: {body}");
    }
}

#[test]
fn a_reference_at_the_root_is_replaced_by_its_object() {
    let point = json!({ "type": "object", "properties": { "x": { "type": "integer" } },
        "required": ["x"], "additionalProperties": false });
    let schema = json!({ "$ref": "#/$defs/p", "$defs": { "p": point } });
    let body = json!({ "messages": [{ "role": "user", "content": "hi" }],
        "response_format": { "type": "json_schema", "json_schema": { "name": "s", "strict": true, "schema": schema } } });
    let (body, dropped) = sent("openai-chat", &body, "openai-responses", "gpt-5");
    assert!(dropped.is_empty(), "{dropped:?}");
    let format = &body["text"]["format"];
    let mut expected = point.clone();
    expected["$defs"] = json!({ "p": point });
    assert_eq!((&format["schema"], &format["strict"]), (&expected, &json!(true)));
}

#[test]
fn a_map_is_not_closed() {
    for map in [
        json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        json!({ "type": "object" }),
    ] {
        let schema = json!({ "type": "object", "properties": { "env": map } });
        let body = json!({
            "messages": [{ "role": "user", "content": "hi" }],
            "tools": [{ "type": "function", "function": { "name": "f", "strict": true, "parameters": schema } }],
            "response_format": { "type": "json_schema", "json_schema": { "name": "s", "strict": true, "schema": schema } },
        });
        for (upstream, model, tool) in [
            ("anthropic", "claude-opus-4-6", "/tools/0/input_schema"),
            (
                "bedrock",
                "anthropic.claude-opus-4-6-v1",
                "/toolConfig/tools/0/toolSpec/inputSchema/json",
            ),
        ] {
            let (body, dropped) = sent("openai-chat", &body, upstream, model);
            assert_eq!(dropped, ["strict", "format"]);
            assert_eq!(body.pointer(tool), Some(&schema), "{body}");
            assert!(!body.to_string().contains(r#""strict""#), "{body}");
            let asked = body["messages"].to_string();
            assert!(asked.contains("Answer with JSON that matches this schema"), "{asked}");
        }
    }
}

#[test]
fn a_tools_schema_is_an_object_for_gemini() {
    let remote = json!({ "type": "OBJECT", "properties": { "a": { "$ref": "https://example.org/s.json" } } });
    for (schema, expected) in [
        (json!({ "type": "string" }), json!({ "type": "object", "properties": {} })),
        (json!({ "type": "array" }), json!({ "type": "object", "properties": {} })),
        (remote, json!({ "type": "object", "properties": { "a": {} } })),
    ] {
        let body = json!({ "messages": [{ "role": "user", "content": "hi" }],
            "tools": [{ "type": "function", "function": { "name": "f", "parameters": schema } }] });
        let (body, _) = sent("openai-chat", &body, "gemini", "gemini-2.5-pro");
        let written = "/tools/0/functionDeclarations/0/parametersJsonSchema";
        assert_eq!(body.pointer(written), Some(&expected), "{body}");
    }
}
