//! Encoder of a whole answer from deltas, written once it is complete, and not otherwise.

use bytes::{BufMut, BytesMut};

use super::answer::{citation, finish_reason, usage};
use crate::chat::{Citation, Delta, End, Stop, Usage};
use crate::citations::AnswerText;
use crate::dialect::{Encode, ResponseContext};
use crate::framing::Frame;
use crate::json::quoted;

/// Gathers a whole answer.
#[derive(Debug)]
pub(super) struct Collect {
    id: String,
    /// Blocks in order: whether it is reasoning, and the text.
    content: Vec<(bool, String)>,
    calls: Vec<Tool>,
    citations: Vec<Citation>,
    /// The text that the citations refer to.
    said: AnswerText,
    refused: bool,
    stop: Option<Stop>,
    usage: Usage,
}

#[derive(Debug)]
struct Tool {
    id: String,
    name: String,
    arguments: String,
}

impl Collect {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self {
            id: call.id.clone(),
            content: Vec::new(),
            calls: Vec::new(),
            citations: Vec::new(),
            said: AnswerText::default(),
            refused: false,
            stop: None,
            usage: Usage::default(),
        }
    }

    fn say(&mut self, thinks: bool, text: &str) {
        match self.content.last_mut() {
            Some((kind, said)) if *kind == thinks => said.push_str(text),
            _ => self.content.push((thinks, text.to_owned())),
        }
    }

    fn message(&self) -> String {
        let mut members = vec![r#""role":"assistant""#.to_owned()];
        let mut list = |name: &str, items: Vec<String>| {
            if !items.is_empty() {
                members.push(format!(r#""{name}":[{}]"#, items.join(",")));
            }
        };
        let block = |(thinks, text): &(bool, String)| {
            let (kind, text) = (if *thinks { "thinking" } else { "text" }, quoted(text));
            format!(r#"{{"type":"{kind}","{kind}":{text}}}"#)
        };
        list("content", self.content.iter().map(block).collect());
        let call = |tool: &Tool| {
            let arguments = if tool.arguments.is_empty() { "{}" } else { &tool.arguments };
            let (id, name, arguments) = (quoted(&tool.id), quoted(&tool.name), quoted(arguments));
            format!(
                r#"{{"id":{id},"type":"function","function":{{"name":{name},"arguments":{arguments}}}}}"#
            )
        };
        list("tool_calls", self.calls.iter().map(call).collect());
        list(
            "citations",
            self.citations.iter().map(|source| citation(source, &self.said)).collect(),
        );
        members.join(",")
    }
}

impl Encode for Collect {
    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], _out: &mut BytesMut) {
        for delta in deltas {
            match delta {
                Delta::Text { choice: 0, text } => {
                    self.said.push(text);
                    self.say(false, text);
                }
                Delta::Refusal { choice: 0, text } => {
                    self.refused = true;
                    self.say(false, text);
                }
                Delta::Reasoning { choice: 0, text } => self.say(true, text),
                Delta::ToolStart { choice: 0, id, name, .. } => self.calls.push(Tool {
                    id: id.to_string(),
                    name: name.to_string(),
                    arguments: String::new(),
                }),
                Delta::ToolArguments { choice: 0, call, json } => {
                    if let Some(tool) = self.calls.get_mut(*call as usize) {
                        tool.arguments.push_str(json);
                    }
                }
                Delta::Citation(source) => self.citations.push(source.clone()),
                Delta::Usage(usage) => self.usage.replace_with(usage),
                Delta::Stop { choice: 0, reason } => self.stop = Some(reason.clone()),
                _ => {}
            }
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        if *end != End::Complete {
            return;
        }
        let stop = self.stop.take().unwrap_or(Stop::End);
        if let Stop::Refusal(Some(explanation)) = &stop {
            self.say(false, explanation);
        }
        let reason = finish_reason(&stop, !self.calls.is_empty(), self.refused);
        let (id, message, usage) = (&self.id, self.message(), usage(&self.usage));
        let body = format!(
            r#"{{"id":"{id}","finish_reason":"{reason}","message":{{{message}}},"usage":{usage}}}"#
        );
        out.put_slice(body.as_bytes());
    }
}
