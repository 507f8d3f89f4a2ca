//! Stream encoder: payloads of this dialect as received, or chunks made from deltas; as events, or as
//! the elements of a JSON array.
//!
//! Only `data:` lines are sent, since the vendor's libraries parse anything else as JSON. Only `finish`
//! ends a stream: with a chunk that has a finish reason or with an error, never with both.
//!
//! Not all of the vendor's own libraries raise an error event. `@google/genai` before 1.53 and
//! `@google/generative-ai` return the chunks before it as a complete answer. But a read that consists only
//! of `{"error": ...}` raises, with its message, and so does a body that is cut (`google-gemini/js-genai`,
//! `processStreamResponse` in `_api_client.ts`). So a failed stream ends with both.

use bytes::{BufMut, Bytes, BytesMut};

use super::answer::{Answer, Logprobs};
use super::error;
use super::state::State;
use crate::chat::{ApiError, Delta, End};
use crate::continuation::Written;
use crate::dialect::{Encode, Ending, Form, ResponseContext};
use crate::framing::Frame;
use crate::json::{Members, quoted, write_str};
use crate::sse;

/// Layout of chunks in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Events,
    /// Elements of an array; `true` if it has at least one.
    Array(bool),
}

impl Layout {
    fn of(form: Form) -> Self {
        if form == Form::ChatArray { Self::Array(false) } else { Self::Events }
    }

    /// Writes the bytes before a chunk.
    fn open(&mut self, out: &mut BytesMut) {
        match self {
            Self::Events => out.put_slice(b"data: "),
            Self::Array(true) => out.put_slice(b",\r\n"),
            Self::Array(begun) => {
                *begun = true;
                out.put_slice(b"[");
            }
        }
    }

    /// Writes the bytes after a chunk.
    fn close(self, out: &mut BytesMut) {
        if self == Self::Events {
            out.put_slice(b"\n\n");
        }
    }

    fn write(&mut self, payload: &[u8], out: &mut BytesMut) {
        if *self == Self::Events {
            return sse::write(None, &on_one_line(payload), out);
        }
        self.open(out);
        out.put_slice(payload);
    }

    /// Writes the bytes after the last chunk.
    fn end(self, out: &mut BytesMut) {
        match self {
            Self::Events => {}
            Self::Array(true) => out.put_slice(b"]\n"),
            Self::Array(false) => out.put_slice(b"[]\n"),
        }
    }

    /// Writes the last chunk of a stream that failed.
    fn fail(&mut self, payload: &[u8], fault: &ApiError, out: &mut BytesMut) -> Ending {
        self.write(payload, out);
        self.end(out);
        let error = match self {
            Self::Events if is_error(payload) => on_one_line(payload).into_owned().into(),
            Self::Events => error::body(fault).into(),
            // A reader of an array would take it for one more element.
            Self::Array(_) => Bytes::new(),
        };
        Ending::Aborted { error }
    }
}

/// Forwards payloads byte for byte.
#[derive(Debug)]
pub(super) struct Verbatim {
    layout: Layout,
    ending: Ending,
}

impl Verbatim {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self { layout: Layout::of(call.form), ending: Ending::Closed }
    }
}

impl Encode for Verbatim {
    fn frame(&mut self, frame: &Frame, _deltas: &[Delta<'_>], out: &mut BytesMut) {
        self.layout.write(&frame.data, out);
    }

    fn finish(&mut self, end: &End, last: Option<&Frame>, out: &mut BytesMut) {
        let Some(fault) = end.fault() else { return self.layout.end(out) };
        let told = |frame: &&Frame| {
            matches!(end, End::Failed(_))
                && (is_error(&frame.data) || has(&frame.data, "candidates"))
        };
        self.ending = match last.filter(told) {
            Some(frame) => self.layout.fail(&frame.data, &fault, out),
            None => self.layout.fail(error::body(&fault).as_bytes(), &fault, out),
        };
    }

    fn ending(&mut self) -> Ending {
        std::mem::take(&mut self.ending)
    }
}

/// Whether a payload is an error.
fn is_error(payload: &[u8]) -> bool {
    has(payload, "error")
}

/// Whether a payload is an object with this member.
fn has(payload: &[u8], name: &str) -> bool {
    let json = std::str::from_utf8(payload).ok();
    json.and_then(|json| Members::parse(json).ok()).is_some_and(|it| it.get(name).is_some())
}

/// JSON on one line, since line breaks have a meaning in events.
fn on_one_line(payload: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if memchr::memchr2(b'\n', b'\r', payload).is_none() {
        return payload.into();
    }
    let lines = payload.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    lines.collect::<Vec<_>>().concat().into()
}

/// Writes chunks anew. Tool calls wait until their arguments are whole.
#[derive(Debug)]
pub(super) struct Translated {
    layout: Layout,
    answer: Answer,
    /// The end of every chunk, from the identity on.
    tail: String,
    /// State that the next call carries.
    state: State,
    ending: Ending,
}

impl Translated {
    pub(super) fn new(call: &ResponseContext) -> Self {
        let answer = Answer::new(call);
        let tail = answer.identity();
        let layout = Layout::of(call.form);
        Self { layout, answer, tail, state: State::default(), ending: Ending::Closed }
    }

    /// One chunk with the parts given, JSON, and further members of its candidate.
    fn chunk(&mut self, choice: u32, part: &str, members: &str, out: &mut BytesMut) {
        self.open(out);
        out.put_slice(part.as_bytes());
        self.close(choice, members, out);
    }

    fn open(&mut self, out: &mut BytesMut) {
        self.layout.open(out);
        out.put_slice(br#"{"candidates":[{"content":{"parts":["#);
    }

    fn close(&mut self, choice: u32, members: &str, out: &mut BytesMut) {
        out.put_slice(br#"],"role":"model"}"#);
        out.put_slice(members.as_bytes());
        out.put_slice(br#","index":"#);
        out.put_slice(choice.to_string().as_bytes());
        out.put_slice(b"}]");
        out.put_slice(self.tail.as_bytes());
        out.put_slice(b"}");
        self.layout.close(out);
    }

    /// The hot path: one chunk per token, appended without detours.
    fn text(&mut self, choice: u32, text: &str, thought: bool, out: &mut BytesMut) {
        self.open(out);
        out.put_slice(br#"{"text":"#);
        write_str(text, out);
        out.put_slice(if thought { br#","thought":true}"#.as_slice() } else { b"}" });
        self.close(choice, "", out);
    }

    /// Writes the calls that are whole, or all if no more will come.
    fn calls(&mut self, choice: u32, over: bool, out: &mut BytesMut) {
        while let Some(part) = self.answer.choice(choice).and_then(|own| own.calls.next(over)) {
            self.chunk(choice, &part, "", out);
        }
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut BytesMut) {
        self.answer.note(delta);
        self.state.note(delta);
        match delta {
            Delta::Start { .. } => self.tail = self.answer.identity(),
            Delta::Text { choice, text } | Delta::Refusal { choice, text } => {
                self.text(*choice, text, false, out);
            }
            Delta::Reasoning { choice, text } => self.text(*choice, text, true, out),
            Delta::ToolStart { choice, id, name, .. } => {
                let signature = if *choice == 0 { self.state.take() } else { None };
                if let Some(own) = self.answer.choice(*choice) {
                    own.calls.start(id, name, signature);
                }
            }
            Delta::ToolArguments { choice, call, json } => {
                if let Some(own) = self.answer.choice(*choice) {
                    own.calls.add(*call, json);
                }
                self.calls(*choice, false, out);
            }
            Delta::Logprobs { choice, items } => {
                let mut logprobs = Logprobs::default();
                logprobs.read(items);
                self.chunk(*choice, EMPTY, &logprobs.member(), out);
            }
            _ => {}
        }
    }
}

/// A part without content. After a chunk without parts, the vendor's libraries lose the history of a chat.
pub(super) const EMPTY: &str = r#"{"text":""}"#;

impl Encode for Translated {
    fn resume(&mut self, written: &Written<'_>) -> bool {
        if !written.id.is_empty() {
            self.answer.rename(written.id);
        }
        self.frame(&Frame::default(), &written.deltas, &mut BytesMut::new());
        true
    }

    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        for delta in deltas {
            self.delta(delta, out);
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        if let Some(fault) = end.fault() {
            // A half-written part is not closed: a client must not take it for a complete one.
            self.ending = self.layout.fail(error::body(&fault).as_bytes(), &fault, out);
            return;
        }
        let choices = u32::try_from(self.answer.choices.len()).unwrap_or(u32::MAX);
        for choice in 0..choices {
            self.calls(choice, true, out);
        }
        let part = self.state.take().map_or_else(|| EMPTY.to_owned(), |value| signed(&value));
        let candidates: Vec<String> = (0..choices as usize)
            .map(|at| {
                let part = if at == 0 { &part } else { EMPTY };
                let finish = self.answer.finish(at);
                format!(r#"{{"content":{{"parts":[{part}],"role":"model"}}{finish},"index":{at}}}"#)
            })
            .collect();
        self.layout.open(out);
        out.put_slice(br#"{"candidates":["#);
        out.put_slice(candidates.join(",").as_bytes());
        out.put_slice(b"]");
        out.put_slice(self.answer.usage().as_bytes());
        out.put_slice(self.tail.as_bytes());
        out.put_slice(b"}");
        self.layout.close(out);
        self.layout.end(out);
    }

    fn ending(&mut self) -> Ending {
        std::mem::take(&mut self.ending)
    }
}

/// A signature on a part of its own, as the vendor sends those of a text.
pub(super) fn signed(value: &str) -> String {
    format!(r#"{{"text":"","thoughtSignature":{}}}"#, quoted(value))
}
