//! Requests: fields read, fields written, and fields rejected by name.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::chat::{
    Format, Message, Part, Reasoning, Request, Role, Scheme, Signature, Tool, ToolChoice,
};
use crate::dialect::anthropic::Anthropic;
use crate::dialect::{CallerDialect, Dialect, Envelope, Form, Quirks, RequestView, Target};

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn encode(request: &Request) -> Result<String, crate::chat::ApiError> {
    let quirks = Quirks::default();
    Anthropic.encode_request(
        request,
        &Target { model: "m", stream: true, form: Form::Chat, quirks: &quirks },
    )
}

fn encoded(request: &Request) -> Value {
    serde_json::from_str(&encode(request).unwrap()).unwrap()
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { at: String::new(), role, parts }
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn hello() -> Request {
    Request { messages: vec![message(Role::User, vec![text("hi")])], ..Request::default() }
}

fn envelope(body: &str) -> Result<Envelope, crate::chat::ApiError> {
    Anthropic.envelope(&RequestView { form: Form::Chat, path: "/v1/messages", query: "", body })
}

#[test]
fn an_envelope_says_what_is_wrong_and_where() {
    let read = envelope(r#"{"model":"m","stream":true,"new":{}}"#).unwrap();
    assert!(read.stream && read.want_usage && read.model == "m");
    assert_eq!((read.max_output, read.choices), (None, 1));
    for (tokens, expected) in [("7", Some(7)), ("null", None), ("-1", None), (r#""7""#, Some(7))] {
        let body = format!(r#"{{"model":"m","max_tokens":{tokens}}}"#);
        assert_eq!(envelope(&body).unwrap().max_output, expected, "{tokens}");
    }
    let missing = envelope("{}").unwrap_err();
    assert_eq!(
        (missing.param.as_deref(), missing.message.as_str()),
        (Some("model"), "`model` is missing")
    );
    let wrong = envelope(r#"{"model":"m","stream":"secret, expected"}"#).unwrap_err();
    assert_eq!(wrong.param.as_deref(), Some("stream"));
    assert!(!wrong.message.contains("secret"), "{}", wrong.message);
    let broken = envelope("{\"model\":\"secret\"").unwrap_err();
    assert!(broken.message.contains("line 1") && !broken.message.contains("secret"));
}

#[test]
fn an_edit_touches_the_model_alone() {
    let quirks = Quirks::default();
    let target = Target { model: "real", stream: true, form: Form::Chat, quirks: &quirks };
    let body = r#"{"model":"m", "stream": true,"x":1.0}"#;
    let edited = Anthropic.edit_request(body, &target).unwrap();
    assert_eq!(edited, r#"{"model":"real", "stream": true,"x":1.0}"#);
    let whole = Target { stream: false, ..target };
    assert!(Anthropic.edit_request(body, &whole).unwrap().contains(r#""stream": false"#));
}

#[test]
fn a_whole_request_is_read() {
    let body = r#"{"model":"m","max_tokens":10,"system":[{"type":"text","text":"be","cache_control":{"type":"ephemeral"}}],
      "messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"tool_use","id":"a","name":"f","input":{"b":1.0,"a":2}}]},
      {"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"r"}],"is_error":true},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA"}}]}],
      "tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},
      "thinking":{"type":"enabled","budget_tokens":2000},"output_config":{"effort":"high"},"metadata":{"user_id":"u"},"service_tier":"auto"}"#;
    let request = Anthropic.decode_request(Form::Chat, body).unwrap();
    assert_eq!(request.messages.len(), 4);
    assert_eq!(request.tool_choice, Some(ToolChoice::Required));
    assert_eq!(request.parallel_tool_calls, Some(false));
    let reasoning = request.reasoning.clone().unwrap();
    assert_eq!((reasoning.budget, reasoning.effort.as_deref()), (Some(2000), Some("high")));
    let again = encode(&request).unwrap();
    assert!(again.contains(r#""input":{"b":1.0,"a":2}"#), "{again}");
    let (again, body): (Value, Value) =
        (serde_json::from_str(&again).unwrap(), serde_json::from_str(body).unwrap());
    assert_eq!(
        again["messages"].as_array().unwrap()[1..],
        body["messages"].as_array().unwrap()[1..]
    );
    for field in ["tools", "tool_choice", "metadata", "output_config"] {
        assert_eq!(again[field], body[field], "{field}");
    }
}

#[test]
fn what_cannot_be_translated_is_refused_by_field() {
    let user = |block: &str| format!(r#""messages":[{{"role":"user","content":[{block}]}}]"#);
    let cases = [
        (r#""messages":[]"#.to_owned(), "max_tokens"),
        (r#""max_tokens":1"#.to_owned(), "messages"),
        (r#""max_tokens":1,"messages":[{"role":"user"}]"#.to_owned(), "messages[0].content"),
        (r#""max_tokens":1,"messages":[{"role":"x","content":""}]"#.to_owned(), "messages[0].role"),
        (
            r#""max_tokens":1,"messages":[],"tools":[{"type":"x_20250305","name":"s"}]"#.to_owned(),
            "tools[0]",
        ),
        (
            format!(
                r#""max_tokens":1,{}"#,
                user(r#"{"type":"image","source":{"type":"shelf","file_id":"f"}}"#)
            ),
            "messages[0].content[0].source",
        ),
        (
            format!(r#""max_tokens":1,{}"#, user(r#"{"type":"server_tool_use","id":"s"}"#)),
            "messages[0].content[0]",
        ),
        (
            format!(r#""max_tokens":1,{}"#, user(r#"{"type":"text"}"#)),
            "messages[0].content[0].text",
        ),
    ];
    for (members, field) in cases {
        let fault = Anthropic
            .decode_request(Form::Chat, &format!(r#"{{"model":"m",{members}}}"#))
            .unwrap_err();
        assert_eq!(fault.param.as_deref(), Some(field), "{}", fault.message);
    }
}

#[test]
fn turns_are_put_in_order() {
    let signed = |scheme| Part::Reasoning {
        text: "t".to_owned(),
        signature: Some(Signature { value: "s".to_owned(), scheme }),
    };
    let call = |id: &str| Part::ToolCall {
        id: id.to_owned(),
        name: "f".to_owned(),
        arguments: raw(r#"{"z":1.0,"a":2}"#),
    };
    let result = |id: &str| Part::ToolResult { id: id.to_owned(), parts: vec![], is_error: false };
    let request = Request {
        messages: vec![
            message(Role::System, vec![text("be kind")]),
            message(Role::User, vec![text("hi")]),
            message(
                Role::Assistant,
                vec![call("f.0"), text("x"), signed(Scheme::OpenAi), signed(Scheme::Anthropic)],
            ),
            message(Role::Assistant, vec![signed(Scheme::Gemini), text("")]),
            message(Role::User, vec![text("and")]),
            message(Role::User, vec![result("f.0")]),
        ],
        ..Request::default()
    };
    let body = encoded(&request);
    assert_eq!(body["system"].as_array().unwrap().len(), 1);
    assert_eq!(body["max_tokens"], 32_000);
    let kinds: Vec<Vec<&str>> = body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|turn| {
            turn["content"]
                .as_array()
                .unwrap()
                .iter()
                .map(|b| b["type"].as_str().unwrap())
                .collect()
        })
        .collect();
    let expected: [&[&str]; 3] =
        [&["text"], &["thinking", "text", "tool_use"], &["tool_result", "text"]];
    assert_eq!(kinds, expected);
    let (id, answered) = (
        &body["messages"][1]["content"][2]["id"],
        &body["messages"][2]["content"][0]["tool_use_id"],
    );
    assert_eq!(id, answered);
    assert!(id.as_str().unwrap().starts_with("f_0_"));
}

#[test]
fn choices_limits_and_thinking_are_mapped() {
    let tool = Tool {
        name: "f".to_owned(),
        description: None,
        parameters: Some(raw("{}")),
        ..Tool::default()
    };
    let reasoning = |effort: Option<&str>, budget| {
        let effort = effort.map(str::to_owned);
        Some(Reasoning { enabled: None, effort, budget })
    };
    let mut request = Request {
        tools: vec![tool],
        parallel_tool_calls: Some(false),
        temperature: Some(1.7),
        format: Some(Format::Json),
        ..hello()
    };
    let body = encoded(&request);
    assert_eq!(body["tool_choice"], json!({ "type": "auto", "disable_parallel_tool_use": true }));
    assert_eq!(body["temperature"], 1.0);
    assert_eq!(body["tools"][0]["input_schema"], json!({ "type": "object" }));
    assert!(body["system"][0]["text"].as_str().unwrap().contains("JSON"));

    request.reasoning = reasoning(Some("low"), None);
    let body = encoded(&request);
    assert_eq!(body["thinking"], json!({ "type": "adaptive" }));
    assert_eq!(body["output_config"]["effort"], "low");
    assert_eq!(body["temperature"], Value::Null);
    request.reasoning = reasoning(None, Some(10));
    let body = encoded(&request);
    assert_eq!(body["thinking"], json!({ "type": "enabled", "budget_tokens": 1024 }));
    assert_eq!(body["max_tokens"], 5120);
    request.reasoning = reasoning(Some("none"), None);
    assert_eq!(encoded(&request)["thinking"], json!({ "type": "disabled" }));
}

#[test]
fn what_this_dialect_cannot_say_is_refused_by_field() {
    let call = Part::ToolCall { id: "a".into(), name: "f".into(), arguments: raw("[1]") };
    let cases = [
        (Request { n: Some(2), ..hello() }, "n"),
        (Request { logit_bias: Some(raw("{}")), ..hello() }, "logit_bias"),
        (Request::default(), "messages"),
        (
            Request { messages: vec![message(Role::Assistant, vec![call])], ..Request::default() },
            "messages[0]",
        ),
    ];
    for (request, field) in cases {
        assert_eq!(encode(&request).unwrap_err().param.as_deref(), Some(field));
    }
}
