//! The table of request translation in `docs/dialects.md`, compared with the program: each row of
//! "Request translation", for every upstream.

use std::fmt::Write as _;

use serde_json::{Value, json};
use streamgate::wire::dialect::{DIALECTS, Dialect, Form, Quirks, Target, by_name};

use crate::support::written;

/// A row: its first cell, the caller's dialect, members of a request, and what is in the upstream's request if they
/// arrive there.
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
            "instructions between turns",
            chat,
            json!({ "messages": [{ "role": "user", "content": "a" }, { "role": "system", "content": "S424242" }, { "role": "user", "content": "b" }] }),
            "S424242",
        ),
        ("images inline", chat, image("data:image/png;base64,iVBORw0KGgo="), "iVBORw0KGgo="),
        ("images by address", chat, image("https://example.org/a.png"), "example.org"),
        ("plain text documents", "anthropic", source(text), ""),
        ("PDF inline", chat, ask(json!({ "type": "file", "file": pdf })), "JVBERi0="),
        ("PDF by address", "anthropic", source(address), "example.org"),
        ("functions, calls, results", chat, json!({ "tools": tool(None) }), "\"f\""),
        ("a function's `strict`", chat, json!({ "tools": tool(Some(true)) }), "strict"),
        ("a call is required", chat, choice(json!("required")), ""),
        ("a named call is required", chat, choice(named), ""),
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
            "presence and frequency penalty",
            chat,
            json!({ "presence_penalty": 0.75, "frequency_penalty": 0.75 }),
            "0.75",
        ),
        ("several answers (`n`)", chat, json!({ "n": 2 }), ":2"),
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
            "pages by their address (`web_fetch`, `urlContext`)",
            "anthropic",
            json!({ "max_tokens": 9, "tools": [{ "type": "web_fetch_20250910", "name": "web_fetch" }] }),
            "",
        ),
        ("code execution", chat, json!({ "tools": [{ "type": "code_interpreter" }] }), "code"),
        (
            "other hosted tools, beside nothing else",
            chat,
            json!({ "tools": [{ "type": "file_search" }] }),
            "",
        ),
    ]
}

/// Cells that say more than whether a member arrives, by row and upstream.
const REMARKS: &[(&str, &[(&str, &str)])] = &[
    (
        "instructions between turns",
        &[
            ("anthropic", "as text"),
            ("gemini", "as text"),
            ("ollama", "as text"),
            ("bedrock", "as text"),
        ],
    ),
    ("images by address", &[("bedrock", "`s3://` only")]),
    (
        "plain text documents",
        &[
            ("openai-chat", "as text"),
            ("openai-responses", "as text"),
            ("gemini", "as text"),
            ("ollama", "as text"),
            ("cohere", "as text"),
        ],
    ),
    ("PDF by address", &[("bedrock", "`s3://` only")]),
    (
        "a function's `strict`",
        &[
            ("openai-chat", "if it can be"),
            ("openai-responses", "if it can be"),
            ("cohere", "if all are"),
        ],
    ),
    ("a call is required", &[("ollama", "in words")]),
    ("a named call is required", &[("ollama", "in words"), ("cohere", "that tool alone")]),
    ("no call is allowed", &[("ollama", "without tools"), ("bedrock", "without tools")]),
    ("one call at a time", &[("bedrock", "Anthropic's; else out")]),
    ("stop strings", &[("openai-responses", "at the gateway")]),
    ("`temperature`", &[("anthropic", "at most 1"), ("bedrock", "at most 1")]),
    ("`top_p`", &[("cohere", "at most 0.99")]),
    ("`top_k`", &[("bedrock", "Anthropic's; else out")]),
    ("log probabilities", &[("cohere", "chosen tokens")]),
    ("any JSON object", &[("anthropic", "in words"), ("bedrock", "in words")]),
    ("reasoning effort", &[("gemini", "level or budget"), ("ollama", "level"), ("cohere", "on")]),
    (
        "reasoning budget",
        &[
            ("openai-chat", "effort"),
            ("openai-responses", "effort"),
            ("ollama", "level"),
            ("bedrock", "Anthropic's; else out"),
        ],
    ),
    (
        "earlier reasoning",
        &[
            ("openai-chat", "`reasoning_field`; with `reasoning_details` state of any vendor, too"),
            ("openai-responses", "if sealed there"),
            ("anthropic", "if signed there"),
            ("gemini", "its signatures"),
            ("cohere", "before calls"),
            ("bedrock", "if signed by Anthropic"),
        ],
    ),
    ("web search", &[("openai-chat", "search models only")]),
];

/// The cell of a row for an upstream: `yes`, `no` or `out`, or the row's remark, which
/// must agree with it.
fn cell((title, caller, asked, marker): &Row, upstream: &dyn Dialect) -> String {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in asked.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let caller = by_name(caller).and_then(Dialect::as_caller).expect("a caller");
    let mut request = caller.decode_request(Form::Chat, &body.to_string()).expect(title);
    let quirks = Quirks::default();
    let target = Target { model: "m", stream: true, form: Form::Chat, quirks: &quirks };
    let sent = written(&mut request, upstream, &target);
    let seen = match &sent {
        Err(_) => "no",
        Ok(sent) if sent.contains(marker) => "yes",
        Ok(_) => "out",
    };
    let remarks = REMARKS.iter().filter(|(row, _)| row == title).flat_map(|(_, remarks)| *remarks);
    let remark = remarks.clone().find(|(dialect, _)| *dialect == upstream.name());
    let Some((_, remark)) = remark else { return seen.to_owned() };
    let agrees = match *remark {
        only if only.ends_with("only") => seen == "no",
        out if out.ends_with("else out") || out == "at the gateway" => seen == "out",
        _ => seen != "no",
    };
    assert!(agrees, "{title} to {}: {remark}, but {seen}: {sent:?}", upstream.name());
    (*remark).to_owned()
}

/// The table, as the program has it.
fn table() -> String {
    let names: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name()).collect();
    let mut table = format!("| of the request | {} |\n|{}\n", names.join(" | "), "---|".repeat(8));
    for row in [rows(), hosted_rows()].concat() {
        let cells: Vec<String> = DIALECTS.iter().map(|upstream| cell(&row, *upstream)).collect();
        writeln!(table, "| {} | {} |", row.0, cells.join(" | ")).expect("written");
    }
    table
}

/// The page's table is written by this test (`UPDATE=1`), from the code that writes and rejects requests.
#[test]
fn the_page_and_the_code_agree_on_request_translation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/dialects.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let (before, section) = page.split_once("## Request translation\n").expect("the section");
    let start = section.find("\n|").expect("a table") + 1;
    let (intro, rest) = section.split_at(start);
    let rows = rest.split_inclusive('\n').take_while(|line| line.starts_with('|'));
    let (old, rest) = rest.split_at(rows.map(str::len).sum());
    let new = table();
    for (row, _) in REMARKS {
        assert!(new.contains(&format!("| {row} |")), "a remark on {row}, which is no row");
    }
    if crate::golden::update() {
        let page = format!("{before}## Request translation\n{intro}{new}{rest}");
        std::fs::write(path, page).expect("the page");
    } else {
        assert_eq!(old, new, "UPDATE=1 writes the table anew");
    }
}
