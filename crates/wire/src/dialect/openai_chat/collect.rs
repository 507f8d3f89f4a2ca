//! Writes one `chat.completion` from deltas, once the answer is complete, and nothing otherwise.

use bytes::{BufMut, BytesMut};

use super::answer::{annotations, finish_reason, number, sealed, signed, string_member, usage};
use super::call_form::{self, CallForm, Written};
use crate::chat::{Citation, Delta, End, Scheme, Stop, ToolForms, Usage};
use crate::citations::AnswerText;
use crate::dialect::{Encode, ResponseContext};
use crate::framing::Frame;
use crate::json;

/// Gathers a whole answer.
pub(super) struct Collect {
    call: ResponseContext,
    choices: Vec<Choice>,
    usage: Usage,
}

#[derive(Default)]
struct Choice {
    text: String,
    reasoning: String,
    /// Where the reasoning since the last signature begins.
    unsigned: usize,
    refusal: String,
    /// JSON array elements.
    details: BytesMut,
    detail_count: u32,
    sources: Vec<Citation>,
    logprobs: BytesMut,
    calls: Vec<Tool>,
    stop: Option<Stop>,
    /// Google's signature, which the next call carries.
    signature: Option<String>,
}

struct Tool {
    id: String,
    name: String,
    arguments: String,
    signature: Option<String>,
}

impl Collect {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self { call: call.clone(), choices: vec![Choice::default()], usage: Usage::default() }
    }

    fn choice(&mut self, choice: u32) -> Option<&mut Choice> {
        let at = choice as usize;
        if self.choices.len() <= at {
            self.choices.resize_with(at + 1, Choice::default);
        }
        self.choices.get_mut(at)
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(br#"{"id":"chatcmpl-"#);
        out.put_slice(self.call.id.as_bytes());
        out.put_slice(br#"","object":"chat.completion","created":"#);
        number(self.call.created, out);
        out.put_u8(b',');
        string_member(b"model", &self.call.model, out);
        out.put_slice(br#","choices":["#);
        for (index, choice) in self.choices.iter().enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            out.put_slice(br#"{"index":"#);
            number(index, out);
            choice.write(&self.call.tool_forms, out);
        }
        out.put_slice(br#"],"usage":"#);
        usage(&self.usage, out);
        out.put_u8(b'}');
    }
}

impl Encode for Collect {
    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], _out: &mut BytesMut) {
        for delta in deltas {
            match delta {
                Delta::Search(_) | Delta::Opaque | Delta::Embeddings(_) | Delta::InputTokens(_) => {
                }
                Delta::Start { model, .. } if model.is_empty() => {}
                Delta::Start { model, .. } => self.call.model = model.to_string(),
                Delta::Usage(usage) => self.usage.replace_with(usage),
                delta => {
                    let choice = delta.choice();
                    if let Some(state) = choice.and_then(|choice| self.choice(choice)) {
                        state.take(delta);
                    }
                }
            }
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        if *end == End::Complete {
            self.write(out);
        }
    }
}

impl Choice {
    fn take(&mut self, delta: &Delta<'_>) {
        match delta {
            Delta::Text { text, .. } => self.text.push_str(text),
            Delta::Reasoning { text, .. } => self.reasoning.push_str(text),
            Delta::Refusal { text, .. } => self.refusal.push_str(text),
            Delta::Logprobs { items, .. } => {
                comma(&mut self.logprobs);
                self.logprobs.put_slice(items.as_bytes());
            }
            Delta::Signature { value, scheme } => {
                if *scheme == Scheme::Gemini {
                    self.signature = Some(value.to_string());
                }
                let index = self.next_detail();
                let text = self.reasoning.get(self.unsigned..).unwrap_or_default();
                signed(text, (value, *scheme), index, &mut self.details);
                self.unsigned = self.reasoning.len();
            }
            Delta::RedactedReasoning { data, scheme } => {
                let index = self.next_detail();
                sealed(data, *scheme, index, &mut self.details);
            }
            Delta::Citation(source) => self.sources.push(source.clone()),
            Delta::ToolStart { id, name, .. } => self.calls.push(Tool {
                id: id.to_string(),
                name: name.to_string(),
                arguments: String::new(),
                signature: self.signature.take(),
            }),
            Delta::ToolArguments { call, json, .. } => {
                if let Some(tool) = self.calls.get_mut(*call as usize) {
                    tool.arguments.push_str(json);
                }
            }
            Delta::Stop { reason, .. } => self.stop = Some(reason.clone()),
            Delta::Start { .. }
            | Delta::Usage(_)
            | Delta::Search(_)
            | Delta::Opaque
            | Delta::Embeddings(_)
            | Delta::InputTokens(_) => {}
        }
    }

    fn next_detail(&mut self) -> u32 {
        comma(&mut self.details);
        self.detail_count += 1;
        self.detail_count - 1
    }

    fn write(&self, forms: &ToolForms, out: &mut BytesMut) {
        out.put_slice(br#","message":{"role":"assistant","content":"#);
        let stop = self.stop.as_ref().unwrap_or(&Stop::End);
        let explanation = match stop {
            Stop::Refusal(Some(explanation)) => explanation.as_str(),
            _ => "",
        };
        if self.text.is_empty() && !(self.calls.is_empty() && self.refusal.is_empty()) {
            out.put_slice(b"null");
        } else {
            json::write_str(&self.text, out);
        }
        out.put_slice(br#","refusal":"#);
        if self.refusal.is_empty() && explanation.is_empty() {
            out.put_slice(b"null");
        } else {
            json::write_str(&format!("{}{explanation}", self.refusal), out);
        }
        if !self.reasoning.is_empty() {
            out.put_u8(b',');
            string_member(b"reasoning_content", &self.reasoning, out);
        }
        list(b"reasoning_details", &self.details, out);
        let mut said = AnswerText::default();
        said.push(&self.text);
        list(b"annotations", &annotations(&self.sources, &said), out);
        self.tools(forms, out);
        out.put_slice(br#"},"logprobs":"#);
        if self.logprobs.is_empty() {
            out.put_slice(b"null");
        } else {
            out.put_slice(br#"{"content":["#);
            out.put_slice(&self.logprobs);
            out.put_slice(br#"],"refusal":null}"#);
        }
        out.put_slice(br#","finish_reason":""#);
        let refused = !self.refusal.is_empty();
        let called = self.calls.first().map(|tool| CallForm::of(&tool.name, forms));
        out.put_slice(finish_reason(stop, called, refused).as_bytes());
        out.put_slice(b"\"}");
    }

    fn tools(&self, forms: &ToolForms, out: &mut BytesMut) {
        let mut calls = BytesMut::new();
        for tool in &self.calls {
            let form = CallForm::of(&tool.name, forms);
            let mut written = Written::new(form);
            let arguments = match written.read(&tool.arguments) {
                Some(text) => text + &written.rest(),
                None if tool.arguments.is_empty() => "{}".to_owned(),
                None => tool.arguments.clone(),
            };
            if form == CallForm::Legacy {
                // Its callers have one call in a message.
                out.put_u8(b',');
                form.head(&tool.name, &arguments, out);
                return;
            }
            comma(&mut calls);
            calls.put_u8(b'{');
            string_member(b"id", &tool.id, &mut calls);
            calls.put_u8(b',');
            form.head(&tool.name, &arguments, &mut calls);
            call_form::signature(tool.signature.as_deref(), &mut calls);
            calls.put_u8(b'}');
        }
        list(b"tool_calls", &calls, out);
    }
}

fn comma(list: &mut BytesMut) {
    if !list.is_empty() {
        list.put_u8(b',');
    }
}

/// `,"member":[..]`, or nothing if there are no elements.
fn list(member: &[u8], elements: &[u8], out: &mut BytesMut) {
    if !elements.is_empty() {
        out.put_slice(b",\"");
        out.put_slice(member);
        out.put_slice(b"\":[");
        out.put_slice(elements);
        out.put_u8(b']');
    }
}
