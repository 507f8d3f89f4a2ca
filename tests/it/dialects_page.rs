//! The table of request translation in `docs/dialects.md`, compared with the program: each row of
//! "Request translation", for every upstream.

use serde_json::{Value, json};
use streamgate::wire::dialect::{Form, Quirks, Target, by_name, caller_dialects};

use crate::support::written;

/// A row: how its first cell begins, who asks for it, how, and what stands for it in what is sent.
type Row = (&'static str, &'static str, Value, &'static str);

fn rows() -> Vec<Row> {
    let chat = "openai-chat";
    let ask = |part: Value| json!({ "messages": [{ "role": "user", "content": [part] }] });
    let image = |url: &str| ask(json!({ "type": "image_url", "image_url": { "url": url } }));
    let pdf = json!({ "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0=" });
    let source = |source: Value| {
        let content = json!([{ "type": "document", "source": source }]);
        json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": content }] })
    };
    let text = json!({ "type": "text", "media_type": "text/plain", "data": "some words" });
    let address = json!({ "type": "url", "url": "https://example.org/a.pdf" });
    let tool = |strict: Option<bool>| json!([{ "type": "function", "function": { "name": "f", "strict": strict } }]);
    let choice = |choice: Value| json!({ "tools": tool(None), "tool_choice": choice });
    let named = json!({ "type": "function", "function": { "name": "f" } });
    let schema = json!({ "name": "s", "schema": { "type": "object", "title": "T424242" } });
    vec![
        (
            "instructions",
            chat,
            json!({ "messages": [{ "role": "user", "content": "a" }, { "role": "system", "content": "S424242" }, { "role": "user", "content": "b" }] }),
            "S424242",
        ),
        ("images inline", chat, image("data:image/png;base64,iVBORw0KGgo="), "iVBORw0KGgo="),
        ("images by address", chat, image("https://example.org/a.png"), "example.org"),
        ("plain text documents", "anthropic", source(text), ""),
        ("PDF inline", chat, ask(json!({ "type": "file", "file": pdf })), "JVBERi0="),
        ("PDF by address", "anthropic", source(address), "example.org"),
        ("functions, calls", chat, json!({ "tools": tool(None) }), "\"f\""),
        ("a function's `strict`", chat, json!({ "tools": tool(Some(true)) }), "strict"),
        ("a call is required", chat, choice(json!("required")), ""),
        ("a named call", chat, choice(named), ""),
        ("no call is allowed", chat, choice(json!("none")), ""),
        (
            "one call at a time",
            chat,
            json!({ "tools": tool(None), "parallel_tool_calls": false }),
            "parallel",
        ),
        ("limit on output", chat, json!({ "max_tokens": 424_242 }), "424242"),
        ("stop strings", chat, json!({ "stop": ["E424242"] }), "E424242"),
        ("`temperature`", chat, json!({ "temperature": 0.75 }), "0.75"),
        ("`top_p`", chat, json!({ "top_p": 0.75 }), "0.75"),
        ("`top_k`", chat, json!({ "top_k": 424_242 }), "424242"),
        ("`seed`", chat, json!({ "seed": 424_242 }), "424242"),
        (
            "presence and",
            chat,
            json!({ "presence_penalty": 0.75, "frequency_penalty": 0.75 }),
            "0.75",
        ),
        ("several answers", chat, json!({ "n": 2 }), ":2"),
        ("log probabilities", chat, json!({ "logprobs": true }), "ogprobs"),
        ("`logit_bias`", chat, json!({ "logit_bias": { "424242": 1 } }), "424242"),
        ("any JSON object", chat, json!({ "response_format": { "type": "json_object" } }), "json"),
        (
            "a JSON Schema",
            chat,
            json!({ "response_format": { "type": "json_schema", "json_schema": schema } }),
            "T424242",
        ),
        ("reasoning effort", chat, json!({ "reasoning_effort": "high" }), "high"),
        ("reasoning budget", chat, json!({ "reasoning": { "max_tokens": 24242 } }), "24242"),
        (
            "earlier reasoning",
            chat,
            json!({ "messages": [{ "role": "user", "content": "a" }, { "role": "assistant", "content": "b", "reasoning_content": "R424242" }, { "role": "user", "content": "c" }] }),
            "R424242",
        ),
        ("the end user's id", chat, json!({ "user": "u424242" }), "u424242"),
    ]
}

/// The rows of hosted tools, the last of the table.
fn hosted_rows() -> Vec<Row> {
    let chat = "openai-chat";
    let search = json!({ "type": "web_search" });
    let function = json!({ "type": "function", "function": { "name": "f" } });
    vec![
        ("web search", chat, json!({ "tools": [search] }), "earch"),
        ("web search beside functions", chat, json!({ "tools": [search, function] }), "earch"),
        (
            "pages by their address",
            "anthropic",
            json!({ "max_tokens": 9, "tools": [{ "type": "web_fetch_20250910", "name": "web_fetch" }] }),
            "",
        ),
        ("code execution", chat, json!({ "tools": [{ "type": "code_interpreter" }] }), "code"),
        ("other hosted tools", chat, json!({ "tools": [{ "type": "file_search" }] }), ""),
    ]
}

/// The cells of the table's lines, its head first.
fn table(page: &str) -> Vec<Vec<&str>> {
    let section = page.split("## Request translation\n").nth(1).expect("the section");
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    let lines = lines.take_while(|line| line.starts_with('|')).filter(|line| !line.contains("---"));
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[test]
fn the_page_and_the_code_agree_on_request_translation() {
    let page = include_str!("../../docs/dialects.md");
    let table = table(page);
    let (head, lines) = table.split_first().expect("a head");
    let rows = [rows(), hosted_rows()].concat();
    assert_eq!(lines.len(), rows.len(), "a row without a test, or a test without a row");
    let quirks = Quirks::default();
    let mut failures = Vec::new();
    for (cells, (begins, caller, asked, marker)) in lines.iter().zip(rows) {
        assert!(cells[0].starts_with(begins), "{cells:?} is not {begins}");
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
        for (name, value) in asked.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let caller = caller_dialects().find(|dialect| dialect.name() == caller).expect("a caller");
        let request = caller.decode_request(Form::Chat, &body.to_string()).expect(begins);
        for (name, cell) in head.iter().zip(cells).skip(1) {
            let target = Target { model: "m", stream: true, form: Form::Chat, quirks: &quirks };
            let upstream = by_name(name).expect("a dialect");
            let sent = written(&mut request.clone(), upstream, &target);
            let there = sent.as_ref().is_ok_and(|sent| sent.contains(marker));
            let holds = match *cell {
                "no" => sent.is_err(),
                "out" | "at the gateway" => sent.is_ok() && !there,
                "yes" => there,
                only if only.ends_with("only") => sent.is_err(),
                out if out.ends_with("else out") => sent.is_ok() && !there,
                _ => sent.is_ok(),
            };
            if !holds {
                failures.push(format!("{begins} to {name} is not {cell:?}: {sent:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
