//! Writes one whole answer from deltas, once it is complete, and nothing otherwise.

use bytes::{BufMut, BytesMut};

use super::calls::Calls;
use super::line::{Said, head, put, put_end, reason};
use crate::chat::{Delta, End, Stop, Usage};
use crate::dialect::{Encode, ResponseContext};
use crate::framing::Frame;

/// Gathers a whole answer.
#[derive(Debug)]
pub(super) struct Collect {
    call: ResponseContext,
    text: String,
    thinking: String,
    logprobs: String,
    calls: Calls,
    refused: bool,
    stop: Option<Stop>,
    usage: Usage,
}

impl Collect {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self {
            call: call.clone(),
            text: String::new(),
            thinking: String::new(),
            logprobs: String::new(),
            calls: Calls::default(),
            refused: false,
            stop: None,
            usage: Usage::default(),
        }
    }
}

impl Encode for Collect {
    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], _out: &mut BytesMut) {
        for delta in deltas {
            match delta {
                Delta::Start { model, .. } if !model.is_empty() => {
                    self.call.model = model.to_string();
                }
                Delta::Text { choice: 0, text } => self.text.push_str(text),
                Delta::Refusal { choice: 0, text } => {
                    self.refused = true;
                    self.text.push_str(text);
                }
                Delta::Reasoning { choice: 0, text } => self.thinking.push_str(text),
                Delta::Logprobs { choice: 0, items } => {
                    if !self.logprobs.is_empty() {
                        self.logprobs.push(',');
                    }
                    self.logprobs.push_str(items);
                }
                Delta::ToolStart { choice: 0, id, name, .. } => self.calls.begin(id, name),
                Delta::ToolArguments { choice: 0, call, json } => self.calls.add(*call, json),
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
            self.text.push_str(explanation);
        }
        let mut calls = BytesMut::new();
        while self.calls.next(true, &mut calls) {
            calls.put_u8(b',');
        }
        calls.truncate(calls.len().saturating_sub(1));
        out.put_slice(head(&self.call).as_bytes());
        let said = Said {
            text: &self.text,
            thinking: &self.thinking,
            calls: &calls,
            logprobs: &self.logprobs,
        };
        put(self.call.form, &said, out);
        put_end(reason(&stop, self.refused), &self.usage, out);
    }
}
