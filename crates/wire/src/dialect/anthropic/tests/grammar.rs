//! The grammar of a Messages stream, checked by a separate reader, and a property: for any order of deltas,
//! the written stream is legal and loses nothing.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::BytesMut;
use proptest::prelude::*;
use serde_json::Value;

use super::{call, events};
use crate::chat::{
    ApiError, Citation, Delta, End, Kind, Scheme, SearchResult, SearchRun, Stop, Usage,
};
use crate::dialect::anthropic::Anthropic;
use crate::dialect::{CallerDialect, Mode};
use crate::framing::Frame;

/// The content of a stream, as a client reads it.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) blocks: Vec<Block>,
    pub(super) stop_reason: Option<String>,
    pub(super) failed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) kind: String,
    pub(super) content: String,
    pub(super) signature: Option<String>,
}

impl Read {
    pub(super) fn all(&self, kind: &str) -> String {
        self.blocks.iter().filter(|b| b.kind == kind).map(|b| b.content.as_str()).collect()
    }
}

/// Reads a whole stream, or returns the reason why it is not legal.
pub(super) fn read(stream: &str) -> Result<Read, String> {
    let mut read = Read::default();
    let mut phase = "before";
    let mut ids = HashSet::new();
    for (name, data) in events(stream.as_bytes()) {
        let event: Value = serde_json::from_str(&data).map_err(|e| e.to_string())?;
        let kind = event["type"].as_str().ok_or("no type")?.to_owned();
        if name.as_deref() != Some(&kind) {
            return Err(format!("{kind} is named {name:?}"));
        }
        let index = event["index"].as_u64();
        let current = (read.blocks.len() as u64).checked_sub(1);
        phase = match (phase, kind.as_str()) {
            ("done", _) => return Err(format!("{kind} after the end")),
            (_, "error") => {
                read.failed = true;
                event["error"]["message"].as_str().ok_or("an error without words")?;
                "done"
            }
            ("before", "message_start") => {
                let message = &event["message"];
                if message["content"] != serde_json::json!([]) || message["id"].as_str().is_none() {
                    return Err("a wrong message".to_owned());
                }
                message["usage"]["output_tokens"].as_u64().ok_or("no usage")?;
                "between"
            }
            ("between", "content_block_start") if index == Some(read.blocks.len() as u64) => {
                let block = &event["content_block"];
                let id = block["id"].as_str().unwrap_or_default().to_owned();
                if block["type"] == "tool_use" && (id.is_empty() || !ids.insert(id.clone())) {
                    return Err(format!("a wrong id {id}"));
                }
                let kind = block["type"].as_str().ok_or("a block without type")?.to_owned();
                let result = kind == "web_search_tool_result";
                let before = read.blocks.last().map(|block| block.kind.as_str());
                if result && (before != Some("server_tool_use") || !block["content"].is_array()) {
                    return Err(format!("results of no search: {block}"));
                }
                let content = block["data"].as_str().unwrap_or_default().to_owned();
                read.blocks.push(Block { kind, content, signature: None });
                "within"
            }
            ("within", "content_block_delta") if index == current => {
                delta(read.blocks.last_mut().unwrap(), &event["delta"])?;
                "within"
            }
            ("within", "content_block_stop") if index == current => {
                let block = read.blocks.last().unwrap();
                if block.kind == "text" && block.content.is_empty() {
                    return Err("an empty text block".to_owned());
                }
                "between"
            }
            ("between", "message_delta") => {
                event["usage"]["output_tokens"].as_u64().ok_or("no usage")?;
                read.stop_reason = event["delta"]["stop_reason"].as_str().map(str::to_owned);
                "stopped"
            }
            ("stopped", "message_stop") => "done",
            (phase, kind) => return Err(format!("{kind} {index:?} while {phase}")),
        };
    }
    if phase == "done" { Ok(read) } else { Err(format!("it ends {phase}")) }
}

fn delta(block: &mut Block, delta: &Value) -> Result<(), String> {
    let (kind, field) = match delta["type"].as_str() {
        Some("text_delta") => ("text", "text"),
        Some("thinking_delta") => ("thinking", "thinking"),
        Some("input_json_delta") if block.kind == "server_tool_use" => {
            ("server_tool_use", "partial_json")
        }
        Some("input_json_delta") => ("tool_use", "partial_json"),
        Some("signature_delta") => ("thinking", "signature"),
        Some("citations_delta") if block.kind == "text" => {
            let source = &delta["citation"];
            let whole = ["url", "title", "cited_text", "encrypted_index"];
            return match whole.iter().find(|name| !source[**name].is_string()) {
                None => Ok(()),
                Some(name) => Err(format!("a source without {name}")),
            };
        }
        other => return Err(format!("delta {other:?}")),
    };
    if block.kind != kind || block.signature.is_some() {
        return Err(format!("{field} in a block of {}", block.kind));
    }
    let value = delta[field].as_str().ok_or("a delta without content")?;
    if field == "signature" {
        block.signature = Some(value.to_owned());
    } else {
        block.content.push_str(value);
    }
    Ok(())
}

const ARGUMENTS: &[&str] = &[
    "",
    "{}",
    r#"{"a":1}"#,
    r#"{"s":"}{][\\\"","n":[1,{"x":null}],"t":"\\"}"#,
    r#" {"é":"ü😀","z":{"y":[[]]},"big":12345678901234567890.10}"#,
];

/// One step of a simulated model; numbers select among the existing items.
#[derive(Debug, Clone)]
enum Step {
    Text(String),
    Reasoning(String),
    Refusal(String),
    Signature(bool),
    Redacted(bool),
    Tool(usize),
    Arguments { tool: usize, chars: usize },
    Usage(u64),
    Stop(u8),
    Citation,
    Search,
    Other,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => "[a-z\"\\\\\n é]{1,6}".prop_map(Step::Text),
        2 => "[a-z]{1,6}".prop_map(Step::Reasoning),
        1 => "[a-z]{1,6}".prop_map(Step::Refusal),
        1 => any::<bool>().prop_map(Step::Signature),
        1 => any::<bool>().prop_map(Step::Redacted),
        3 => (0..ARGUMENTS.len()).prop_map(Step::Tool),
        9 => (0..8_usize, 1..20_usize).prop_map(|(tool, chars)| Step::Arguments { tool, chars }),
        1 => (0..100_u64).prop_map(Step::Usage),
        1 => (0..9_u8).prop_map(Step::Stop),
        1 => Just(Step::Citation),
        1 => Just(Step::Search),
        1 => Just(Step::Other),
    ]
}

fn stop(n: u8) -> Stop {
    match n {
        0 => Stop::End,
        1 => Stop::Sequence(Some("x".to_owned())),
        2 => Stop::Sequence(None),
        3 => Stop::MaxTokens,
        4 => Stop::ContextFull,
        5 => Stop::ToolUse,
        6 => Stop::Refusal(Some("why".to_owned())),
        _ => Stop::Pause,
    }
}

/// The deltas of some steps. Tools whose arguments are incomplete after them get the rest at the end.
fn deltas(steps: &[Step]) -> (Vec<Delta<'static>>, Vec<&'static str>) {
    let mut out = Vec::new();
    let mut tools: Vec<(&'static str, &'static str)> = Vec::new();
    let scheme = |own| {
        if own { Scheme::Anthropic } else { Scheme::OpenAi }
    };
    let cow = |text: &str| Cow::Owned(text.to_owned());
    for step in steps {
        out.push(match step {
            Step::Text(text) => Delta::Text { choice: 0, text: cow(text) },
            Step::Reasoning(text) => Delta::Reasoning { choice: 0, text: cow(text) },
            Step::Refusal(text) => Delta::Refusal { choice: 0, text: cow(text) },
            Step::Signature(own) => Delta::Signature { value: cow("sig"), scheme: scheme(*own) },
            Step::Redacted(own) => {
                Delta::RedactedReasoning { data: cow("opaque"), scheme: scheme(*own) }
            }
            Step::Tool(arguments) => {
                let call = u32::try_from(tools.len()).unwrap();
                tools.push((ARGUMENTS[*arguments], ARGUMENTS[*arguments]));
                // Ids of other vendors, some of them twice.
                let id = Cow::Owned(format!("functions.f:{}", call / 2));
                Delta::ToolStart { choice: 0, call, id, name: cow("f") }
            }
            Step::Arguments { tool, chars } => {
                let Some(tool) = tool.checked_rem(tools.len()) else {
                    continue;
                };
                let rest = tools[tool].1;
                let cut = rest.char_indices().nth(*chars).map_or(rest.len(), |(at, _)| at);
                let (json, rest) = rest.split_at(cut);
                tools[tool].1 = rest;
                if json.is_empty() {
                    continue;
                }
                let call = u32::try_from(tool).unwrap();
                Delta::ToolArguments { choice: 0, call, json: cow(json) }
            }
            Step::Usage(n) => Delta::Usage(Usage { output: Some(*n), ..Usage::default() }),
            Step::Stop(n) => Delta::Stop { choice: 0, reason: stop(*n) },
            Step::Citation => Delta::Citation(Citation {
                url: Some("https://a.example/".to_owned()),
                ..Citation::default()
            }),
            Step::Search => Delta::Search(SearchRun {
                queries: vec!["q".to_owned()],
                results: vec![SearchResult::default()],
            }),
            Step::Other => Delta::Text { choice: 1, text: cow("not shown") },
        });
    }
    for (call, (_, rest)) in (0..).zip(&tools) {
        if !rest.is_empty() {
            out.push(Delta::ToolArguments { choice: 0, call, json: cow(rest) });
        }
    }
    (out, tools.into_iter().map(|(whole, _)| whole).collect())
}

fn said(deltas: &[Delta<'_>], thinking: bool) -> String {
    let words = |delta: &Delta<'_>| match delta {
        Delta::Text { choice: 0, text } | Delta::Refusal { text, .. } if !thinking => {
            text.to_string()
        }
        Delta::Reasoning { text, .. } if thinking => text.to_string(),
        _ => String::new(),
    };
    deltas.iter().map(words).collect()
}

fn written(deltas: &[Delta<'_>], stream: bool, end: &End) -> String {
    let mut encoder = Anthropic.encoder(&call(stream), Mode::Translated);
    let mut out = BytesMut::new();
    for delta in deltas {
        encoder.frame(&Frame::default(), std::slice::from_ref(delta), &mut out);
    }
    encoder.finish(end, None, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

proptest! {
    #[test]
    fn any_order_of_deltas_is_written_legally(steps in prop::collection::vec(step(), 0..60)) {
        let (deltas, tools) = deltas(&steps);
        let stream = written(&deltas, true, &End::Complete);
        let read = read(&stream).map_err(|e| TestCaseError::fail(format!("{e}\n{stream}")))?;
        prop_assert!(!read.failed);
        prop_assert_eq!(read.all("text"), said(&deltas, false));
        prop_assert_eq!(read.all("thinking"), said(&deltas, true));
        let arguments: Vec<&str> = read
            .blocks
            .iter()
            .filter(|block| block.kind == "tool_use")
            .map(|block| block.content.as_str())
            .collect();
        prop_assert_eq!(&arguments, &tools);

        let message: Value = serde_json::from_str(&written(&deltas, false, &End::Complete)).unwrap();
        prop_assert_eq!(message["stop_reason"].as_str(), read.stop_reason.as_deref());
        let text: String =
            message["content"].as_array().unwrap().iter().filter_map(|b| b["text"].as_str()).collect();
        prop_assert_eq!(text, said(&deltas, false));
    }

    #[test]
    fn a_failed_answer_ends_in_one_error(steps in prop::collection::vec(step(), 0..30)) {
        let (deltas, _) = deltas(&steps);
        let end = End::Failed(ApiError::new(Kind::Upstream, "it broke"));
        let stream = written(&deltas, true, &end);
        // An error may come at any point, also within a block.
        let events = events(stream.as_bytes());
        prop_assert_eq!(events.iter().filter(|(name, _)| name.as_deref() == Some("error")).count(), 1);
        prop_assert!(!stream.contains("message_stop") && !stream.contains("message_delta"));
        prop_assert_eq!(events.last().unwrap().0.as_deref(), Some("error"));
        prop_assert!(read(&stream).is_ok_and(|read| read.failed));
        prop_assert_eq!(written(&deltas, false, &end), "");
    }
}
