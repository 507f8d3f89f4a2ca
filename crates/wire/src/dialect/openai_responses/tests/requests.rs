//! Requests: the return of reasoning state, invalid fields, and prompts.

use serde_json::{Value, json};

use super::super::OpenAiResponses;
use super::write;
use crate::chat::{ApiError, Delta, Kind, Parameters, Part, Rendered, Role, Scheme};
use crate::dialect::{CallerDialect, Dialect, Form, Quirks, Target};

fn edited(body: &Value) -> Value {
    let target = Target { model: "m", stream: false, form: Form::Chat, quirks: &Quirks::default() };
    serde_json::from_str(&OpenAiResponses.edit_request(&body.to_string(), &target).unwrap())
        .unwrap()
}

/// Failure modes 28 and 29: reasoning state of any vendor goes to the caller and is sent back unchanged as that
/// vendor's, with and without text; another vendor's is never sent to this one.
#[test]
fn fm28_reasoning_state_returns_to_its_own_vendor() {
    for scheme in [Scheme::Anthropic, Scheme::OpenAi, Scheme::Gemini] {
        let value = "EqQBCgIYAhIM+/:=";
        let deltas = [
            Delta::Reasoning { choice: 0, text: "because".into() },
            Delta::Signature { value: value.into(), scheme },
            Delta::RedactedReasoning { data: value.into(), scheme },
            Delta::Text { choice: 0, text: "so".into() },
        ];
        let answer = write(&deltas, "");
        let body = json!({ "model": "m", "input": answer["output"] });
        let request = OpenAiResponses.decode_request(Form::Chat, &body.to_string()).unwrap();
        let [turn] = request.messages.as_slice() else { panic!("{request:?}") };
        let [
            Part::Reasoning { text, signature: Some(signature) },
            Part::RedactedReasoning { data, scheme: of },
            Part::Text(_),
        ] = turn.parts.as_slice()
        else {
            panic!("{scheme:?}: {:?}", turn.parts)
        };
        assert_eq!(
            (text.as_str(), signature.value.as_str(), signature.scheme),
            ("because", value, scheme)
        );
        assert_eq!((data.as_str(), *of), (value, scheme));
        let target =
            Target { model: "m", stream: true, form: Form::Chat, quirks: &Quirks::default() };
        let written = OpenAiResponses.encode_request(&request, &target).unwrap();
        let own = scheme == Scheme::OpenAi;
        assert_eq!(written.contains(value), own, "{written}");
        // Verbatim, too.
        let sent = edited(&body);
        assert_eq!(sent["input"].as_array().unwrap().len(), if own { 3 } else { 1 }, "{sent}");
        assert_eq!(sent.to_string().contains(value), own);
    }
    // A text about it is not it.
    let body =
        json!({ "model": "m", "input": [{ "role": "user", "content": "what is streamgate:x?" }] });
    assert_eq!(edited(&body), body);
}

/// A caller's mistake is reported by its path and never repeated.
#[test]
fn requests_that_are_wrong() {
    for (body, param) in [
        (json!({ "model": "m" }), "input"),
        (json!({ "model": "m", "input": 7 }), "input"),
        (json!({ "model": "m", "input": [{ "role": "secret", "content": "x" }] }), "input[0].role"),
        (
            json!({ "model": "m", "input": [{ "role": "user", "content": [{ "type": "input_text" }] }] }),
            "input[0].content[0].text",
        ),
        (
            json!({ "model": "m", "input": [{ "role": "user", "content": [{ "type": "input_image", "image_url": "secret" }] }] }),
            "input[0].content[0].image_url",
        ),
        (
            json!({ "model": "m", "input": [{ "type": "function_call_output", "output": "x" }] }),
            "input[0].call_id",
        ),
        (
            json!({ "model": "m", "input": [{ "type": "compacted", "encrypted_content": "secret" }] }),
            "input[0]",
        ),
        (json!({ "model": "m", "input": "x", "tools": [{ "type": "function" }] }), "tools[0].name"),
        (json!({ "model": "m", "input": "x", "tool_choice": "secret" }), "tool_choice"),
        (
            json!({ "model": "m", "input": "x", "tool_choice": { "type": "mcp", "server_label": "secret" } }),
            "tool_choice",
        ),
        (
            json!({ "model": "m", "input": "x", "text": { "format": { "type": "secret" } } }),
            "text.format.type",
        ),
        (json!({ "model": "m", "input": "x", "temperature": "secret" }), "temperature"),
        (json!({ "model": "m", "input": "x", "prompt": { "id": "secret" } }), "prompt"),
        (json!({ "model": "m", "input": "x", "conversation": { "id": "secret" } }), "conversation"),
    ] {
        let ApiError { kind, message, param: at, .. } =
            OpenAiResponses.decode_request(Form::Chat, &body.to_string()).unwrap_err();
        assert_eq!((kind, at.as_deref()), (Kind::Invalid, Some(param)), "{body}: {message}");
        assert!(!message.contains("secret") && message.contains(param), "{message}");
    }
}

/// A prompt of the gateway's leads a conversation of any form; a prompt that is stored at the vendor stays
/// in the request.
#[test]
fn prompts_lead_the_conversation() {
    let messages = [(Role::System, "Guide."), (Role::User, "Hello."), (Role::System, "Kindly.")];
    let prompt = Rendered {
        model: Some("fast".into()),
        parameters: Parameters { max_tokens: Some(9), seed: Some(4), ..Parameters::default() },
        messages: messages.map(|(role, text)| (role, text.to_owned())).into(),
    };
    let lead = [
        json!({ "role": "user", "content": "Hello." }),
        json!({ "role": "system", "content": "Kindly." }),
    ];
    let own = json!({ "role": "user", "content": "own" });
    for (said, instructions, tail) in [
        (json!({ "prompt": { "id": "g" } }), "Guide.", vec![]),
        (json!({ "input": "own", "model": "" }), "Guide.", vec![own.clone()]),
        (json!({ "input": [own], "instructions": "Own." }), "Guide.\n\nOwn.", vec![own]),
    ] {
        let body = OpenAiResponses.prepend(&said.to_string(), &prompt).unwrap();
        let input = Value::from([lead.to_vec(), tail].concat());
        let expected = json!({ "input": input, "instructions": instructions, "model": "fast", "max_output_tokens": 9 });
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    }
    let wrong = OpenAiResponses.prepend(r#"{"input":7}"#, &prompt).unwrap_err();
    assert_eq!(wrong.param.as_deref(), Some("input"));
    assert!(OpenAiResponses.keeps_prompt("pmpt_1") && !OpenAiResponses.keeps_prompt("guide"));
}
