//! Callers of the Responses API in front of every upstream dialect, over HTTP, with the simulated upstream,
//! which calls the functions that it is offered in their order.

use serde_json::{Value, json};
use streamgate::wire::dialect::DIALECTS;

use super::payloads;
use crate::support::gateway::Gateway;
use crate::support::simulated::gateway;

/// Codex's tools, and more: in order `search`, a tool search, two tools of a namespace, one of
/// another with the longest names, and a typed tool.
fn tools() -> Value {
    let schema = json!({ "type": "object", "properties": { "q": { "type": "string" } } });
    json!([
        { "type": "custom", "name": "search", "format": { "type": "text" } },
        { "type": "tool_search", "execution": "client", "description": "Finds.", "parameters": schema },
        { "type": "namespace", "name": "crm", "description": "Customers.", "tools": [
            { "type": "function", "name": "find", "parameters": schema, "strict": false, "defer_loading": true },
            { "type": "custom", "name": "note" },
        ] },
        { "type": "namespace", "name": long('n'), "description": "Long.", "tools": [
            { "type": "function", "name": long('t'), "parameters": schema },
        ] },
        { "type": "apply_patch" },
    ])
}

fn long(c: char) -> String {
    c.to_string().repeat(60)
}

async fn ask(gateway: &Gateway, body: &Value) -> Value {
    let response = gateway.post("/v1/responses", &body.to_string()).send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(status, 200, "{body}: {text}");
    if body["stream"] == true {
        return payloads(text.as_bytes()).last().unwrap()["response"].clone();
    }
    serde_json::from_str(&text).unwrap()
}

/// The output of a call, as a client would send it.
fn output(item: &Value) -> Value {
    let id = &item["call_id"];
    match item["type"].as_str().unwrap() {
        "tool_search_call" => {
            json!({ "type": "tool_search_output", "execution": "client", "call_id": id, "tools": [
            { "type": "namespace", "name": "late", "description": "", "tools": [{ "type": "function", "name": "found" }] } ] })
        }
        "custom_tool_call" => {
            json!({ "type": "custom_tool_call_output", "call_id": id, "output": "ok" })
        }
        _ => json!({ "type": "function_call_output", "call_id": id, "output": "ok" }),
    }
}

#[tokio::test]
async fn calls_come_back_as_what_was_declared() {
    let gateway = gateway().await;
    for upstream in DIALECTS.iter().filter(|dialect| dialect.name() != "openai-responses") {
        for stream in [true, false] {
            let model = format!("{}/tools6-n2", upstream.name());
            let mut body =
                json!({ "model": model, "stream": stream, "input": "hi", "tools": tools() });
            let place = format!("{} {stream}", upstream.name());
            let answer = ask(&gateway, &body).await;
            let all = answer["output"].as_array().unwrap();
            // Signatures of Gemini's come before its calls.
            let items: Vec<&Value> =
                all.iter().filter(|item| item["type"] != "reasoning").collect();
            let told: Vec<[&Value; 3]> = items
                .iter()
                .map(|item| [&item["type"], &item["namespace"], &item["name"]])
                .collect();
            let none = Value::Null;
            assert_eq!(
                told,
                [
                    [&json!("custom_tool_call"), &none, &json!("search")],
                    [&json!("tool_search_call"), &none, &none],
                    [&json!("function_call"), &json!("crm"), &json!("find")],
                    [&json!("custom_tool_call"), &json!("crm"), &json!("note")],
                    [&json!("function_call"), &json!(long('n')), &json!(long('t'))],
                    // The simulator's arguments are no patch: its call stays a function call.
                    [&json!("function_call"), &none, &json!("apply_patch")],
                ],
                "{place}"
            );
            let [search, find] = [items[1], items[2]];
            assert_eq!(search["execution"], "client", "{place}");
            assert_eq!(search["arguments"], json!({ "call": 1, "note": "simulated" }), "{place}");
            let arguments: Value =
                serde_json::from_str(find["arguments"].as_str().unwrap()).unwrap();
            assert_eq!(arguments, json!({ "call": 2, "note": "simulated" }), "{place}");
            assert_eq!(answer["tools"].as_array().unwrap().len(), 5, "{place}");
            // The second turn.
            let mut input = vec![json!({ "role": "user", "content": "hi" })];
            input.extend(all.iter().cloned());
            input.extend(items.iter().map(|item| output(item)));
            body["input"] = input.into();
            let next = ask(&gateway, &body).await;
            let text =
                next["output"].as_array().unwrap().iter().find(|item| item["type"] == "message");
            assert_eq!(text.unwrap()["content"][0]["text"], "t0 t1 ", "{place}");
        }
    }
}

/// An upstream of the caller's own dialect that answers a request for a stream with a whole body: the
/// answer is written anew, and has the same items.
#[tokio::test]
async fn an_answer_of_the_same_dialect_that_is_written_anew_keeps_its_items() {
    use crate::support::gateway::yaml;
    use crate::support::upstream::{Step, Upstream};
    let items = json!([
        { "type": "function_call", "id": "fc_1", "call_id": "c1", "name": "plain", "arguments": "{}", "status": "completed" },
        { "type": "custom_tool_call", "id": "ctc_1", "call_id": "c2", "name": "search", "input": "q", "status": "completed" },
    ]);
    let answer = json!({ "id": "r", "object": "response", "status": "completed", "output": items });
    let upstream = Upstream::new(vec![Step::Whole(
        200,
        "content-type: application/json\r\n",
        answer.to_string().into_bytes(),
    )])
    .await;
    let provider =
        format!("  res: {{ dialect: openai-responses, base_url: \"{}/v1\" }}\n", upstream.url);
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, &provider)).await;
    let body = json!({ "model": "res/m", "stream": true, "input": "hi", "tools": tools() });
    let told = ask(&gateway, &body).await;
    for (told, said) in told["output"].as_array().unwrap().iter().zip(items.as_array().unwrap()) {
        for name in ["type", "call_id", "namespace", "name", "arguments", "input"] {
            assert_eq!(told[name], said[name], "{name} of {told}");
        }
    }
    assert_eq!(told["output"].as_array().unwrap().len(), 2);
}

/// The caller's own dialect: the request passes through, whatever it declares.
#[tokio::test]
async fn nothing_is_changed_for_an_upstream_of_the_same_dialect() {
    use crate::support::gateway::yaml;
    use crate::support::upstream::{Step, Upstream};
    let item = r#"{"type":"function_call","id":"fc_1","call_id":"c1","namespace":"crm","name":"find","arguments":"{}","status":"completed"}"#;
    let answer = format!(
        "data: {{\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{item}}}\n\n\
         data: {{\"type\":\"response.completed\",\"response\":{{\"id\":\"r\",\"status\":\"completed\",\"output\":[{item}]}}}}\n\n"
    );
    let upstream = Upstream::new(vec![Step::Sse, Step::chunk(&answer), Step::End]).await;
    let provider =
        format!("  res: {{ dialect: openai-responses, base_url: \"{}/v1\" }}\n", upstream.url);
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, &provider)).await;
    let rest = format!(
        r#""stream": true , "input":[{{"type":"additional_tools","role":"developer","tools":{tools}}}, {item}],"tools":{tools}}}"#,
        tools = tools()
    );
    let body = format!(r#"{{"model":"res/m",{rest}"#);
    let response = gateway.post("/v1/responses", &body).send().await.unwrap();
    let text = response.text().await.unwrap();
    assert_eq!(text.matches(item).count(), 2, "{text}");
    let requests = upstream.requests().await;
    assert_eq!(String::from_utf8_lossy(&requests[0].body), format!(r#"{{"model":"m",{rest}"#));
}
