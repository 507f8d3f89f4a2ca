//! What is written for an upstream, and what is refused.

use serde_json::{Value, json};

use crate::chat::{
    Document, Format, Image, Message, Part, Reasoning, Request, Role, Scheme, Signature, Source,
    Tool, ToolChoice,
};
use crate::dialect::bedrock::Bedrock;
use crate::dialect::{Dialect, Form, Quirks, Target};

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const NOVA: &str = "amazon.nova-lite-v1:0";

fn written(request: &Request, model: &str) -> Result<Value, String> {
    let quirks = Quirks::default();
    let target = Target { model, stream: true, form: Form::Chat, quirks: &quirks };
    let written = Bedrock.encode_request(request, &target);
    written
        .map(|body| serde_json::from_str(&body).unwrap())
        .map_err(|fault| fault.param.unwrap_or(fault.message))
}

fn turn(role: Role, parts: Vec<Part>) -> Message {
    Message { at: String::new(), role, parts }
}

fn user(parts: Vec<Part>) -> Message {
    turn(Role::User, parts)
}

fn asked(parts: Vec<Part>) -> Request {
    Request { messages: vec![user(parts)], ..Request::default() }
}

fn hi() -> Part {
    Part::Text("hi".into())
}

fn raw(value: &Value) -> Box<serde_json::value::RawValue> {
    serde_json::value::RawValue::from_string(value.to_string()).unwrap()
}

#[test]
fn the_model_is_in_the_path() {
    let quirks = Quirks::default();
    let path =
        |model, stream| Bedrock.path(&Target { model, stream, form: Form::Chat, quirks: &quirks });
    assert_eq!(path(NOVA, true), "/model/amazon.nova-lite-v1%3A0/converse-stream");
    assert_eq!(
        path("arn:aws:bedrock:eu-west-1:1:inference-profile/a.b", false),
        "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Fa.b/converse"
    );
    for model in ["..", ".", ""] {
        assert_eq!(written(&asked(vec![hi()]), model), Err("model".into()), "no step in a path");
    }
}

#[test]
fn parameters_have_their_places() {
    let request = Request {
        messages: vec![
            turn(Role::System, vec![Part::Text("Be brief.".into())]),
            user(vec![hi(), Part::Text(" ".into())]),
            user(vec![Part::Text("again".into())]),
        ],
        max_tokens: Some(9),
        temperature: Some(1.5),
        top_p: Some(0.5),
        top_k: Some(4),
        stop: vec!["END".into()],
        seed: Some(1),
        presence_penalty: Some(1.0),
        user: Some("u".into()),
        format: Some(Format::Schema {
            name: Some("answer".into()),
            schema: raw(&json!({ "type": "object" })),
            strict: Some(true),
        }),
        ..Request::default()
    };
    let mut expected = json!({
        "messages": [{ "role": "user", "content": [{ "text": "hi" }, { "text": "again" }] }],
        "system": [{ "text": "Be brief." }],
        "inferenceConfig": { "maxTokens": 9, "temperature": 1.0, "topP": 0.5, "stopSequences": ["END"] },
        "outputConfig": { "textFormat": { "type": "json_schema", "structure": {
            "jsonSchema": { "schema": "{\"type\":\"object\"}", "name": "answer" } } } },
        "additionalModelRequestFields": { "top_k": 4 },
    });
    // Which takes the temperature or the other, but not both.
    let mut one = expected.clone();
    one["inferenceConfig"].as_object_mut().unwrap().remove("topP");
    assert_eq!(written(&request, CLAUDE), Ok(one));
    expected.as_object_mut().unwrap().remove("additionalModelRequestFields");
    assert_eq!(written(&request, NOVA), Ok(expected));
    let json = Request { format: Some(Format::Json), ..asked(vec![hi()]) };
    assert_eq!(
        written(&json, NOVA).unwrap()["system"],
        json!([{ "text": "Respond with a single JSON object only." }])
    );
}

#[test]
fn reasoning_is_asked_for_in_the_models_own_words() {
    let ask = |reasoning: Reasoning, max_tokens, model| {
        let request = Request {
            reasoning: Some(reasoning),
            max_tokens,
            temperature: Some(0.5),
            ..asked(vec![hi()])
        };
        let body = written(&request, model).unwrap();
        (
            body["additionalModelRequestFields"]["thinking"].clone(),
            body["outputConfig"]["effort"].clone(),
            body["inferenceConfig"].clone(),
        )
    };
    let budget = Reasoning { budget: Some(2000), ..Reasoning::default() };
    let enabled = json!({ "type": "enabled", "budget_tokens": 2000 });
    assert_eq!(
        ask(budget.clone(), None, CLAUDE),
        (enabled, Value::Null, json!({ "maxTokens": 6096 }))
    );
    assert_eq!(
        ask(budget.clone(), Some(1500), CLAUDE).0,
        json!({ "type": "enabled", "budget_tokens": 1499 })
    );
    assert_eq!(
        ask(budget, Some(9), NOVA),
        (Value::Null, Value::Null, json!({ "maxTokens": 9, "temperature": 0.5 }))
    );
    let high = Reasoning { effort: Some("high".into()), ..Reasoning::default() };
    let (thinking, effort, _) = ask(high.clone(), None, CLAUDE);
    let enabled = json!({ "type": "enabled", "budget_tokens": 16384 });
    assert_eq!((thinking, effort), (enabled, Value::Null));
    let (thinking, effort, _) = ask(high.clone(), None, "anthropic.claude-opus-4-6-v1");
    assert_eq!((thinking, effort), (json!({ "type": "adaptive" }), json!("high")));
    assert_eq!(ask(high, None, NOVA).1, json!("high"));
    let none = Reasoning { effort: Some("none".into()), ..Reasoning::default() };
    assert_eq!(ask(none.clone(), None, CLAUDE).0, json!({ "type": "disabled" }));
    assert_eq!(ask(none, None, NOVA).0, Value::Null);
}

fn call(id: &str) -> Part {
    Part::ToolCall { id: id.into(), name: "f".into(), arguments: raw(&json!({ "b": 1, "a": 2 })) }
}

fn result(id: &str, is_error: bool) -> Part {
    Part::ToolResult { id: id.into(), parts: vec![hi()], is_error }
}

fn conversation() -> Request {
    Request {
        messages: vec![
            user(vec![hi()]),
            turn(Role::Assistant, vec![call("functions.f:0"), call("ok-1")]),
            user(vec![hi(), result("functions.f:0", false), result("ok-1", true)]),
        ],
        ..Request::default()
    }
}

/// Failure mode 27: results lead the turn after the calls, under ids that the vendor accepts and that meet again.
#[test]
fn tools_round_trip() {
    let body = written(&conversation(), NOVA).unwrap();
    let id = body["messages"][1]["content"][0]["toolUse"]["toolUseId"].as_str().unwrap();
    assert!(id.starts_with("functions_f_0_") && id.len() <= 64, "{id}");
    assert_eq!(
        body["messages"][1]["content"][1],
        json!({ "toolUse": { "toolUseId": "ok-1", "name": "f", "input": { "b": 1, "a": 2 } } })
    );
    assert_eq!(
        body["messages"][2]["content"],
        json!([
            { "toolResult": { "toolUseId": id, "content": [{ "text": "hi" }] } },
            { "toolResult": { "toolUseId": "ok-1", "content": [{ "text": "hi" }], "status": "error" } },
            { "text": "hi" },
        ])
    );
    let long = "x".repeat(80);
    let request = Request {
        messages: vec![turn(Role::Assistant, vec![call(&long)]), user(vec![result(&long, false)])],
        ..Request::default()
    };
    let body = written(&request, NOVA).unwrap();
    let id = &body["messages"][0]["content"][0]["toolUse"]["toolUseId"];
    assert_eq!(id.as_str().unwrap().len(), 64);
    assert_eq!(id, &body["messages"][1]["content"][0]["toolResult"]["toolUseId"]);
}

#[test]
fn tools_are_described_wherever_there_is_a_call() {
    let body = written(&conversation(), CLAUDE).unwrap();
    let nothing = json!({ "type": "object", "properties": {} });
    assert_eq!(
        body["toolConfig"],
        json!({ "tools": [{ "toolSpec": { "name": "f", "inputSchema": { "json": nothing } } }] })
    );
    assert_eq!(body["additionalModelRequestFields"], json!({ "tool_choice": { "type": "none" } }));
    assert_eq!(written(&asked(vec![hi()]), CLAUDE).unwrap()["toolConfig"], Value::Null);
}

#[test]
fn choices_of_tools() {
    let ask = |choice: Option<ToolChoice>, parallel: Option<bool>, model| {
        let tool = Tool {
            name: "f".into(),
            description: Some("d".into()),
            parameters: Some(raw(&json!({ "properties": {} }))),
            ..Tool::default()
        };
        let request = Request {
            tools: vec![tool],
            tool_choice: choice,
            parallel_tool_calls: parallel,
            ..asked(vec![hi()])
        };
        let body = written(&request, model).unwrap();
        (
            body["toolConfig"]["toolChoice"].clone(),
            body["additionalModelRequestFields"]["tool_choice"].clone(),
            body["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"].clone(),
        )
    };
    let schema = json!({ "properties": {}, "type": "object" });
    let null = Value::Null;
    for (choice, parallel, expected, native) in [
        (None, None, null.clone(), null.clone()),
        (Some(ToolChoice::Auto), None, json!({ "auto": {} }), null.clone()),
        (Some(ToolChoice::Required), Some(true), json!({ "any": {} }), null.clone()),
        (
            Some(ToolChoice::Named("f".into())),
            None,
            json!({ "tool": { "name": "f" } }),
            null.clone(),
        ),
        (
            Some(ToolChoice::Named("f".into())),
            Some(false),
            null.clone(),
            json!({ "type": "tool", "name": "f", "disable_parallel_tool_use": true }),
        ),
        (
            None,
            Some(false),
            null.clone(),
            json!({ "type": "auto", "disable_parallel_tool_use": true }),
        ),
    ] {
        let asked = ask(choice.clone(), parallel, CLAUDE);
        assert_eq!(asked, (expected, native, schema.clone()), "{choice:?} {parallel:?}");
    }
    assert_eq!(ask(Some(ToolChoice::None), None, CLAUDE), (null.clone(), null.clone(), null));
    assert_eq!(ask(Some(ToolChoice::Required), Some(false), NOVA).0, json!({ "any": {} }));
}

/// Failure modes 28 and 29: signed reasoning goes back to the vendor that has signed it, and to nobody else.
#[test]
fn fm28_signatures_stay_with_their_vendor() {
    let signed = |scheme| Part::Reasoning {
        text: "Hm".into(),
        signature: Some(Signature { value: "c2ln".into(), scheme }),
    };
    let parts = vec![
        Part::Text("t".into()),
        signed(Scheme::Anthropic),
        signed(Scheme::OpenAi),
        Part::Reasoning { text: "unsigned".into(), signature: None },
        Part::RedactedReasoning { data: "data".into(), scheme: Scheme::Anthropic },
        Part::RedactedReasoning { data: "data".into(), scheme: Scheme::Gemini },
    ];
    let request = Request {
        messages: vec![user(vec![hi()]), turn(Role::Assistant, parts)],
        ..Request::default()
    };
    assert_eq!(
        written(&request, CLAUDE).unwrap()["messages"][1]["content"],
        json!([
            { "reasoningContent": { "reasoningText": { "text": "Hm", "signature": "c2ln" } } },
            { "reasoningContent": { "redactedContent": "ZGF0YQ==" } },
            { "text": "t" },
        ])
    );
    assert_eq!(
        written(&request, NOVA).unwrap()["messages"][1]["content"],
        json!([{ "text": "t" }])
    );
}

#[test]
fn media_are_written_or_refused() {
    let image = |source| Part::Image(Image { source, detail: Some("high".into()) });
    let base64 =
        |media_type: &str| Source::Base64 { media_type: media_type.into(), data: "AAAA".into() };
    let document =
        |source, title: &str| Part::Document(Document { source, title: Some(title.into()) });
    let request = asked(vec![
        image(base64("image/jpg")),
        image(Source::Url("s3://bucket/a.png".into())),
        document(base64("application/pdf"), "Über  uns_1.pdf"),
        document(Source::Text("hi".into()), "\n"),
    ]);
    assert_eq!(
        written(&request, NOVA).unwrap()["messages"][0]["content"],
        json!([
            { "image": { "format": "jpeg", "source": { "bytes": "AAAA" } } },
            { "image": { "format": "png", "source": { "s3Location": { "uri": "s3://bucket/a.png" } } } },
            { "document": { "format": "pdf", "name": "ber uns-1-pdf", "source": { "bytes": "AAAA" } } },
            { "document": { "format": "txt", "name": "document 2", "source": { "bytes": "aGk=" } } },
            { "text": "See the document." },
        ])
    );
    for part in [
        image(Source::Url("https://example.org/a.png".into())),
        image(base64("image/tiff")),
        image(Source::Text("x".into())),
        document(Source::Url("https://example.org/a.pdf".into()), ""),
        document(base64("application/zip"), ""),
    ] {
        assert_eq!(
            written(&asked(vec![part.clone()]), NOVA),
            Err("messages[0]".into()),
            "{part:?}"
        );
    }
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    let base = || asked(vec![hi()]);
    for (request, field) in [
        (Request { n: Some(2), ..base() }, "n"),
        (Request { logit_bias: Some(raw(&json!({}))), ..base() }, "logit_bias"),
        (Request { messages: Vec::new(), ..base() }, "messages"),
    ] {
        assert_eq!(written(&request, NOVA), Err(field.into()));
    }
    let broken = Part::ToolCall { id: "a".into(), name: "f".into(), arguments: raw(&json!([1])) };
    let request = Request { messages: vec![turn(Role::Assistant, vec![broken])], ..base() };
    assert_eq!(written(&request, NOVA), Err("messages[0]".into()));
}
