//! Stream encoder of `chat.completion.chunk`: payloads as received, or new ones from deltas.
//!
//! The result is legal for any order of deltas: one role per alternative, calls numbered without gaps, one
//! finish per alternative, and either `[DONE]` or an error, never both.

use bytes::{BufMut, BytesMut};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::answer::{annotations, finish_reason, number, sealed, signed, string_member, usage};
use super::call_form::{self, CallForm, Written};
use super::decode::is_blank;
use super::error;
use crate::chat::{Citation, Delta, End, Scheme, Stop, Usage};
use crate::citations::AnswerText;
use crate::dialect::{Encode, ResponseContext};
use crate::framing::Frame;
use crate::{continuation, json, sse};

/// Forwards the payloads of an upstream that uses this dialect too.
pub(super) struct Verbatim {
    /// Whether the answer is a stream; else it is one payload without framing.
    pub(super) stream: bool,
    /// Whether chunks that hold nothing but usage are shown.
    pub(super) want_usage: bool,
}

impl Encode for Verbatim {
    fn frame(&mut self, frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        if !self.stream {
            out.put_slice(&frame.data);
        } else if !is_blank(&frame.data) && (self.want_usage || !is_usage_only(frame, deltas)) {
            sse::write(name(frame), &frame.data, out);
        }
    }

    fn finish(&mut self, end: &End, last: Option<&Frame>, out: &mut BytesMut) {
        if !self.stream {
            return;
        }
        match last.filter(|frame| matches!(end, End::Failed(_)) && has_error(frame)) {
            Some(frame) => sse::write(name(frame), &frame.data, out),
            None => terminate(end, out),
        }
    }
}

fn name(frame: &Frame) -> Option<&[u8]> {
    frame.event.as_deref().filter(|name| sse::is_name(name))
}

/// Whether a chunk holds nothing but usage. A caller that did not request usage must not see it.
fn is_usage_only(frame: &Frame, deltas: &[Delta<'_>]) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        choices: Option<Vec<IgnoredAny>>,
    }
    let furniture = |delta: &Delta<'_>| matches!(delta, Delta::Usage(_) | Delta::Start { .. });
    deltas.iter().any(|delta| matches!(delta, Delta::Usage(_)))
        && deltas.iter().all(furniture)
        && serde_json::from_slice(&frame.data)
            .is_ok_and(|probe: Probe| probe.choices.is_none_or(|choices| choices.is_empty()))
}

/// Whether SDKs see an error in the payload: they look for an object under `error`.
fn has_error(frame: &Frame) -> bool {
    std::str::from_utf8(&frame.data)
        .ok()
        .and_then(|text| {
            json::Members::parse(text).ok()?.get("error").map(serde_json::value::RawValue::get)
        })
        .is_some_and(|error| error.starts_with('{') && error != "{}")
}

fn terminate(end: &End, out: &mut BytesMut) {
    match end.fault() {
        None => sse::write(None, b"[DONE]", out),
        Some(fault) => sse::write(None, error::body(&fault).as_bytes(), out),
    }
}

/// Writes deltas anew, as a stream.
pub(super) struct Stream {
    call: ResponseContext,
    /// The start of an event up to the number of the alternative. Built for the first event, when the
    /// upstream has sent its model.
    prefix: Vec<u8>,
    /// The `format` index of the next entry of `reasoning_details`.
    details: u32,
    choices: Vec<State>,
    usage: Usage,
    /// Google's signature, which the next call carries.
    signature: Option<String>,
    /// The first alternative's text, and its sources. They are written all at once: clients add lists up
    /// by an `index` that annotations do not have.
    said: AnswerText,
    sources: Vec<Citation>,
}

/// State of one alternative, as far as it has been written.
#[derive(Default)]
struct State {
    opened: bool,
    refused: bool,
    stop: Option<Stop>,
    calls: Vec<Written>,
    /// The reasoning since the last signature, which is written with its signature.
    reasoning: String,
}

impl Stream {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self {
            call: call.clone(),
            prefix: Vec::new(),
            details: 0,
            choices: Vec::new(),
            usage: Usage::default(),
            signature: None,
            said: AnswerText::default(),
            sources: Vec::new(),
        }
    }

    /// The state of an alternative, its role written first.
    fn open(&mut self, choice: u32, out: &mut BytesMut) -> Option<&mut State> {
        let at = choice as usize;
        if self.choices.len() <= at {
            self.choices.resize_with(at + 1, State::default);
        }
        if !std::mem::replace(&mut self.choices.get_mut(at)?.opened, true) {
            self.chunk(choice, out, |out| out.put_slice(br#""role":"assistant","content":"""#));
        }
        self.choices.get_mut(at)
    }

    /// One chunk of one alternative, with the members of its `delta`.
    fn chunk(&mut self, choice: u32, out: &mut BytesMut, delta: impl FnOnce(&mut BytesMut)) {
        self.begin(choice, out);
        delta(out);
        out.put_slice(br#"},"logprobs":null,"finish_reason":null}]"#);
        self.close(out);
    }

    fn begin(&mut self, choice: u32, out: &mut BytesMut) {
        out.put_slice(self.prefix());
        out.put_slice(br#"[{"index":"#);
        number(choice, out);
        out.put_slice(br#","delta":{"#);
    }

    fn close(&self, out: &mut BytesMut) {
        if self.call.want_usage {
            out.put_slice(br#","usage":null"#);
        }
        out.put_slice(b"}\n\n");
    }

    fn prefix(&mut self) -> &[u8] {
        if self.prefix.is_empty() {
            let id = json::quoted(&format!("chatcmpl-{}", self.call.id));
            self.prefix = self.head(&id, &self.call.created.to_string());
        }
        &self.prefix
    }

    /// The start of an event, with the JSON of the id and the time.
    fn head(&self, id: &str, created: &str) -> Vec<u8> {
        let model = json::quoted(&self.call.model);
        format!(
            r#"data: {{"id":{id},"object":"chat.completion.chunk","created":{created},"model":{model},"choices":"#
        )
        .into_bytes()
    }

    fn string(&mut self, choice: u32, member: &[u8], text: &str, out: &mut BytesMut) {
        self.chunk(choice, out, |out| string_member(member, text, out));
    }

    /// Text, with its log probabilities if it has any.
    fn text(&mut self, choice: u32, text: &str, logprobs: Option<&str>, out: &mut BytesMut) {
        let Some(items) = logprobs else {
            return self.string(choice, b"content", text, out);
        };
        self.begin(choice, out);
        if !text.is_empty() {
            string_member(b"content", text, out);
        }
        out.put_slice(br#"},"logprobs":{"content":["#);
        out.put_slice(items.as_bytes());
        out.put_slice(br#"],"refusal":null},"finish_reason":null}]"#);
        self.close(out);
    }

    fn detail(&mut self, out: &mut BytesMut, detail: impl FnOnce(u32, &mut BytesMut)) {
        let index = self.details;
        self.details += 1;
        self.chunk(0, out, |out| {
            out.put_slice(br#""reasoning_details":["#);
            detail(index, out);
            out.put_u8(b']');
        });
    }

    fn tool_start(&mut self, choice: u32, (id, name): (&str, &str), out: &mut BytesMut) {
        let form = CallForm::of(name, &self.call.tool_forms);
        let Some(state) = self.open(choice, out) else {
            return;
        };
        let index = state.calls.len();
        state.calls.push(Written::new(form));
        state.reasoning.clear();
        let signature = self.signature.take_if(|_| choice == 0);
        if form == CallForm::Legacy {
            // Its callers have one call in a message.
            if index == 0 {
                self.chunk(choice, out, |out| form.head(name, "", out));
            }
            return;
        }
        self.chunk(choice, out, |out| {
            out.put_slice(br#""tool_calls":[{"index":"#);
            number(index, out);
            out.put_slice(br#","id":"#);
            json::write_str(id, out);
            out.put_u8(b',');
            form.head(name, "", out);
            call_form::signature(signature.as_deref(), out);
            out.put_slice(b"}]");
        });
    }

    fn arguments(&mut self, choice: u32, call: u32, json: &str, out: &mut BytesMut) {
        let state = self.choices.get_mut(choice as usize);
        let Some(written) = state.and_then(|state| state.calls.get_mut(call as usize)) else {
            return;
        };
        written.filled = true;
        let form = written.form;
        match written.read(json) {
            Some(text) => self.more((choice, call), form, &text, out),
            None => self.more((choice, call), form, json, out),
        }
    }

    /// More of a call's arguments, or of its free text.
    fn more(&mut self, (choice, call): (u32, u32), form: CallForm, text: &str, out: &mut BytesMut) {
        if text.is_empty() {
            return;
        }
        if form == CallForm::Legacy {
            if call == 0 {
                self.chunk(choice, out, |out| form.more(text, out));
            }
            return;
        }
        self.chunk(choice, out, |out| {
            out.put_slice(br#""tool_calls":[{"index":"#);
            number(call, out);
            out.put_u8(b',');
            form.more(text, out);
            out.put_slice(b"}]");
        });
    }

    fn delta(&mut self, delta: &Delta<'_>, logprobs: Option<&str>, out: &mut BytesMut) {
        match delta {
            Delta::Start { model, .. } => {
                if !model.is_empty() {
                    self.call.model = model.to_string();
                }
                self.open(0, out);
            }
            Delta::Text { choice, text } => {
                if let Some(state) = self.open(*choice, out) {
                    state.reasoning.clear();
                }
                if *choice == 0 {
                    self.said.push(text);
                }
                self.text(*choice, text, logprobs, out);
            }
            Delta::Logprobs { choice, items } => {
                self.open(*choice, out);
                self.text(*choice, "", Some(items), out);
            }
            Delta::Refusal { choice, text } => self.refusal(*choice, text, out),
            Delta::Reasoning { choice, text } => {
                if let Some(state) = self.open(*choice, out) {
                    state.reasoning.push_str(text);
                }
                self.string(*choice, b"reasoning_content", text, out);
            }
            Delta::Signature { value, scheme } => {
                let text = self.open(0, out).map(|state| std::mem::take(&mut state.reasoning));
                let text = text.unwrap_or_default();
                if *scheme == Scheme::Gemini {
                    self.signature = Some(value.to_string());
                }
                self.detail(out, |index, out| signed(&text, (value, *scheme), index, out));
            }
            Delta::RedactedReasoning { data, scheme } => {
                self.open(0, out);
                self.detail(out, |index, out| sealed(data, *scheme, index, out));
            }
            Delta::ToolStart { choice, id, name, .. } => self.tool_start(*choice, (id, name), out),
            Delta::ToolArguments { choice, call, json } => {
                self.arguments(*choice, *call, json, out);
            }
            Delta::Citation(source) => self.sources.push(source.clone()),
            Delta::Usage(usage) => self.usage.replace_with(usage),
            Delta::Search(_) | Delta::Opaque | Delta::Embeddings(_) | Delta::InputTokens(_) => {}
            Delta::Stop { choice, reason } => {
                if let Some(state) = self.open(*choice, out) {
                    state.stop = Some(reason.clone());
                }
            }
        }
    }

    fn refusal(&mut self, choice: u32, text: &str, out: &mut BytesMut) {
        if let Some(state) = self.open(choice, out) {
            state.refused = true;
        }
        self.string(choice, b"refusal", text, out);
    }

    /// The sources that have an address, in one chunk.
    fn annotations(&mut self, out: &mut BytesMut) {
        let list = annotations(&self.sources, &self.said);
        if !list.is_empty() {
            self.chunk(0, out, |out| {
                out.put_slice(br#""annotations":["#);
                out.put_slice(&list);
                out.put_u8(b']');
            });
        }
    }

    /// Everything that belongs before `[DONE]`.
    fn complete(&mut self, out: &mut BytesMut) {
        self.open(0, out);
        self.annotations(out);
        for choice in 0..u32::try_from(self.choices.len()).unwrap_or_default() {
            let Some(state) = self.choices.get_mut(choice as usize) else {
                continue;
            };
            if !state.opened {
                continue;
            }
            let stop = state.stop.take().unwrap_or(Stop::End);
            let called = state.calls.first().map(|call| call.form);
            let reason = finish_reason(&stop, called, state.refused);
            let rest: Vec<(CallForm, String)> =
                state.calls.iter().map(|call| (call.form, call.rest())).collect();
            if let Stop::Refusal(Some(explanation)) = &stop {
                self.refusal(choice, explanation, out);
            }
            for (call, (form, rest)) in (0..).zip(rest) {
                self.more((choice, call), form, &rest, out);
            }
            self.begin(choice, out);
            out.put_slice(br#"},"logprobs":null,"finish_reason":""#);
            out.put_slice(reason.as_bytes());
            out.put_slice(br#""}]"#);
            self.close(out);
        }
        if self.call.want_usage {
            out.put_slice(self.prefix());
            out.put_slice(br#"[],"usage":"#);
            usage(&self.usage, out);
            out.put_slice(b"}\n\n");
        }
    }
}

impl Encode for Stream {
    /// With the id and the time of the first chunk.
    fn resume(&mut self, written: &continuation::Written<'_>) -> bool {
        self.frame(&Frame::default(), &written.deltas, &mut BytesMut::new());
        let first = written.head.iter().find_map(|payload| {
            let members = json::Members::parse(std::str::from_utf8(payload).ok()?).ok()?;
            Some(self.head(members.get("id")?.get(), members.get("created")?.get()))
        });
        self.prefix = first.unwrap_or_else(|| std::mem::take(&mut self.prefix));
        true
    }

    /// A signature is written with the reasoning before it.
    fn keeps(&self, delta: &Delta<'_>) -> bool {
        matches!(delta, Delta::Reasoning { .. } | Delta::Citation(_))
    }

    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        let mut deltas = deltas.iter().peekable();
        while let Some(delta) = deltas.next() {
            let choice_of_text =
                if let Delta::Text { choice, .. } = delta { Some(choice) } else { None };
            let follows = |next: &&Delta<'_>| matches!(next, Delta::Logprobs { choice, .. } if Some(choice) == choice_of_text);
            let logprobs = match deltas.next_if(follows) {
                Some(Delta::Logprobs { items, .. }) => Some(items.as_ref()),
                _ => None,
            };
            self.delta(delta, logprobs, out);
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        if *end == End::Complete {
            self.complete(out);
        }
        terminate(end, out);
    }
}
