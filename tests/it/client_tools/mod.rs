//! Tools that the client runs and that are no functions in its own dialect: towards every upstream they
//! are, and their calls come back as what they were declared as.

#![expect(clippy::needless_pass_by_value, reason = "JSON literals read best where they stand")]

use serde_json::{Value, json};
use streamgate::wire::chat::{Request, ToolForms};
use streamgate::wire::dialect::{self, CallerDialect, Form, Mode, Quirks, ResponseContext, Target};

use crate::support::{call, events, run, written};

mod history;
mod other_callers;
mod pairs;
mod typed;

fn towards(name: &str) -> &'static dyn CallerDialect {
    dialect::by_name(name).unwrap().as_caller().unwrap()
}

/// A request as its caller's dialect reads it.
fn read(caller: &str, body: &Value) -> Request {
    let read = towards(caller).decode_request(Form::Chat, &body.to_string());
    read.unwrap_or_else(|fault| panic!("{}: {body}", fault.message))
}

/// The message of the refusal of a request.
fn refused(caller: &str, body: &Value) -> (String, String) {
    let fault = towards(caller).decode_request(Form::Chat, &body.to_string()).unwrap_err();
    (fault.param.unwrap_or_default(), fault.message)
}

/// A request as an upstream of another dialect gets it.
fn sent(caller: &str, body: &Value, upstream: &str) -> Value {
    let target = Target { model: "m", stream: true, form: Form::Chat, quirks: &Quirks::default() };
    let upstream = dialect::by_name(upstream).unwrap();
    let body = written(&mut read(caller, body), upstream, &target).unwrap();
    serde_json::from_str(&body).unwrap()
}

/// Chunks of `openai-chat` with one call, its arguments in fragments of three characters.
fn chat_call(name: &str, arguments: &str, finish: &str) -> Vec<u8> {
    let chunk = |delta: Value, finish: Option<&str>| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        format!("data: {}\n\n", json!({ "id": "x", "model": "m", "choices": [choice] }))
    };
    let part = |function: Value| chunk(json!({ "tool_calls": [function] }), None);
    let mut out = part(
        json!({ "index": 0, "id": "c1", "type": "function", "function": { "name": name, "arguments": "" } }),
    );
    let characters: Vec<char> = arguments.chars().collect();
    for fragment in characters.chunks(3) {
        let fragment: String = fragment.iter().collect();
        out += &part(json!({ "index": 0, "function": { "arguments": fragment } }));
    }
    (out + &chunk(json!({}), Some(finish)) + "data: [DONE]\n\n").into_bytes()
}

/// A caller's view of such an answer, streamed or whole, with the bytes cut at these offsets.
fn answer(caller: &str, forms: &ToolForms, stream: bool, input: &[u8], cuts: &[usize]) -> Vec<u8> {
    let call = ResponseContext { tool_forms: forms.clone(), ..call(stream, true) };
    let from = dialect::by_name("openai-chat").unwrap();
    run(from, towards(caller), (&call, Mode::Translated), input, cuts.iter().copied()).out
}

/// The payloads of a stream.
fn payloads(stream: &[u8]) -> Vec<Value> {
    let all = events(stream).unwrap();
    let data = all.iter().filter(|(_, data)| data != "[DONE]");
    data.map(|(_, data)| serde_json::from_str(data).unwrap()).collect()
}

/// The item of the only call in an answer to a caller of the Responses API, the same in the events of a
/// stream and in an answer that is whole.
fn item(forms: &ToolForms, input: &[u8]) -> Value {
    let whole: Value =
        serde_json::from_slice(&answer("openai-responses", forms, false, input, &[])).unwrap();
    let streamed = payloads(&answer("openai-responses", forms, true, input, &[]));
    let done = streamed.iter().find(|event| event["type"] == "response.output_item.done").unwrap();
    assert_eq!(done["item"], whole["output"][0]);
    assert_eq!(streamed.last().unwrap()["response"]["output"], whole["output"]);
    let added = streamed.iter().find(|event| event["type"] == "response.output_item.added");
    let added = &added.unwrap()["item"];
    for name in ["id", "type", "call_id", "name", "namespace"] {
        assert_eq!(added[name], done["item"][name], "{name}");
    }
    assert_eq!(added["status"], "in_progress");
    whole["output"][0].clone()
}
