//! Encoder of answers that are not streamed: the upstream's own as received, or one made from deltas.
//! Nothing is written for an answer that did not complete.

use bytes::{BufMut, BytesMut};

use super::answer::{Answer, Logprobs};
use super::encode::{EMPTY, signed};
use super::state::State;
use crate::chat::{Delta, End, Scheme};
use crate::dialect::{Encode, ResponseContext};
use crate::framing::Frame;
use crate::json::quoted;

/// Forwards the body byte for byte.
#[derive(Debug)]
pub(super) struct Verbatim;

impl Encode for Verbatim {
    fn frame(&mut self, frame: &Frame, _deltas: &[Delta<'_>], out: &mut BytesMut) {
        out.put_slice(&frame.data);
    }

    fn finish(&mut self, _end: &End, _last: Option<&Frame>, _out: &mut BytesMut) {}
}

/// A part of an answer.
#[derive(Debug)]
enum Part {
    Text(String),
    Thought(String),
    Signature(String),
    /// The call with this number.
    Call(usize),
}

/// Gathers deltas into one answer.
#[derive(Debug)]
pub(super) struct Translated {
    answer: Answer,
    choices: Vec<Gathered>,
    state: State,
}

#[derive(Debug, Default)]
struct Gathered {
    parts: Vec<Part>,
    logprobs: Logprobs,
}

impl Translated {
    pub(super) fn new(call: &ResponseContext) -> Self {
        let choices = vec![Gathered::default()];
        Self { answer: Answer::new(call), choices, state: State::default() }
    }

    fn choice(&mut self, choice: u32) -> &mut Gathered {
        let at = choice as usize;
        if self.choices.len() <= at {
            self.choices.resize_with(at + 1, Gathered::default);
        }
        // It has just been made to be there.
        let last = self.choices.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "within the length, by the lines above")]
        &mut self.choices[at.min(last)]
    }

    fn delta(&mut self, delta: &Delta<'_>) {
        self.answer.note(delta);
        if matches!(delta, Delta::Signature { scheme: Scheme::Gemini, .. })
            && let Some(earlier) = self.state.take()
        {
            self.choice(0).parts.push(Part::Signature(earlier));
        }
        self.state.note(delta);
        match delta {
            Delta::Text { choice, text } | Delta::Refusal { choice, text } => {
                let parts = &mut self.choice(*choice).parts;
                match parts.last_mut() {
                    Some(Part::Text(words)) => words.push_str(text),
                    _ => parts.push(Part::Text(text.to_string())),
                }
            }
            Delta::Reasoning { choice, text } => {
                let parts = &mut self.choice(*choice).parts;
                match parts.last_mut() {
                    Some(Part::Thought(words)) => words.push_str(text),
                    _ => parts.push(Part::Thought(text.to_string())),
                }
            }
            Delta::ToolStart { choice, call, id, name } => {
                let signature = if *choice == 0 { self.state.take() } else { None };
                if let Some(own) = self.answer.choice(*choice) {
                    own.calls.start(id, name, signature);
                }
                self.choice(*choice).parts.push(Part::Call(*call as usize));
            }
            Delta::ToolArguments { choice, call, json } => {
                if let Some(own) = self.answer.choice(*choice) {
                    own.calls.add(*call, json);
                }
            }
            Delta::Logprobs { choice, items } => self.choice(*choice).logprobs.read(items),
            _ => {}
        }
    }

    fn candidate(&self, at: usize) -> String {
        let gathered = self.choices.get(at);
        let calls = self.answer.choices.get(at).map(|choice| &choice.calls);
        let part = |part: &Part| match part {
            Part::Text(words) => Some(format!(r#"{{"text":{}}}"#, quoted(words))),
            Part::Thought(words) => Some(format!(r#"{{"text":{},"thought":true}}"#, quoted(words))),
            Part::Signature(value) => Some(signed(value)),
            Part::Call(call) => calls?.part(*call),
        };
        let mut parts: Vec<String> =
            gathered.into_iter().flat_map(|own| &own.parts).filter_map(part).collect();
        if parts.is_empty() {
            parts.push(EMPTY.to_owned());
        }
        let parts = parts.join(",");
        let finish = self.answer.finish(at);
        let logprobs = gathered.map(|own| own.logprobs.member()).unwrap_or_default();
        format!(
            r#"{{"content":{{"parts":[{parts}],"role":"model"}}{finish}{logprobs},"index":{at}}}"#
        )
    }
}

impl Encode for Translated {
    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], _out: &mut BytesMut) {
        for delta in deltas {
            self.delta(delta);
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        if *end != End::Complete {
            return;
        }
        if let Some(value) = self.state.take() {
            self.choice(0).parts.push(Part::Signature(value));
        }
        let count = self.choices.len().max(self.answer.choices.len());
        for at in self.answer.choices.len()..count {
            self.answer.choice(u32::try_from(at).unwrap_or(u32::MAX));
        }
        let candidates: Vec<String> = (0..count).map(|at| self.candidate(at)).collect();
        let (usage, identity) = (self.answer.usage(), self.answer.identity());
        let body = format!(r#"{{"candidates":[{}]{usage}{identity}}}"#, candidates.join(","));
        out.put_slice(body.as_bytes());
    }
}
