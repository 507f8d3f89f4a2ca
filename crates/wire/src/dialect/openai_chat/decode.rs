//! Decoder: `chat.completion.chunk` streams and whole `chat.completion` answers, in every variety that
//! calls itself OpenAI-compatible.
//!
//! It must never take the end of the bytes for the end of an answer, nor panic on any payload.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::calls::{Calls, Context, Ids};
use super::event::{Annotation, Body, Choice, Chunk, ContentPart, Detail, Groq, Logprobs, usage};
use super::finish::REASONS;
use super::sources::Sources;
use crate::chat::{
    ApiError, Citation, Delta, End, Kind, MAX_TOOL_CALLS, Scheme, Stop, too_many_calls,
};
use crate::codec::fast_path::FastPath;
use crate::codec::split_surrogate::SplitSurrogate;
use crate::codec::unreadable;
use crate::dialect::Decode;
use crate::error_body;
use crate::finish;
use crate::framing::Frame;
use crate::{json, logprobs};

/// The most alternatives that `OpenAI` allows, and we.
const MAX_CHOICES: u32 = 128;

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    ids: Ids,
    sources: Sources,
    choices: Vec<State>,
    /// Its slot is an alternative.
    fast_path: FastPath<u32>,
}

/// The state of one alternative.
#[derive(Debug, Default)]
struct State {
    seen: bool,
    /// Reasoning came in a field of its own.
    reasoned: bool,
    refused: bool,
    stop: Option<Stop>,
    calls: Calls,
    fragments: Fragments,
}

/// Destination of a fragment within its alternative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Text,
    Reasoning,
    Refusal,
    Arguments(usize),
}

/// The fragments of one alternative, with half a character that waits for its slot's next fragment. Half a
/// character without its other half is dropped.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    slot: Option<Slot>,
    split: SplitSurrogate,
}

impl Fragments {
    /// Reads a fragment of text, joining a character that was cut in two. `None`: nothing in it.
    pub(super) fn read<'f>(&mut self, slot: Slot, raw: &'f RawValue) -> Option<Cow<'f, str>> {
        if self.slot.replace(slot) != Some(slot) {
            self.split.clear();
        }
        self.split.join(raw)
    }
}

/// Whether a payload is not for any reader: nothing, or a comment in a `data` line (Vertex).
pub(super) fn is_blank(payload: &[u8]) -> bool {
    matches!(payload.trim_ascii_start().first(), None | Some(b':'))
}

/// Whether a value is one that JavaScript and Python count as true.
fn truthy(raw: &RawValue) -> bool {
    !matches!(raw.get(), "null" | "false" | "0" | "\"\"" | "{}" | "[]")
}

/// Vendor of the opaque state in a `reasoning_details` entry, by its `format`.
pub(super) fn scheme(format: &str) -> Option<Scheme> {
    const FORMATS: [(&str, Scheme); 4] = [
        ("anthropic-", Scheme::Anthropic),
        ("openai-responses", Scheme::OpenAi),
        ("google-gemini", Scheme::Gemini),
        ("xai-responses", Scheme::XAi),
    ];
    FORMATS.iter().find(|(prefix, _)| format.starts_with(prefix)).map(|(_, scheme)| *scheme)
}

impl Decode for Decoder {
    /// Chunks have a `delta`. `object` is not checked: some servers send a wrong one.
    fn is_whole(&self, frame: &Frame) -> bool {
        if memchr::memmem::find(&frame.data, b"\"message\"").is_none() {
            return false;
        }
        let chunk = serde_json::from_slice::<Chunk<'_>>(&frame.data);
        let choices = chunk.ok().and_then(|chunk| chunk.choices).unwrap_or_default();
        choices.first().is_some_and(|choice| choice.message.is_some() && choice.delta.is_none())
    }

    fn kept(&self) -> usize {
        self.choices.iter().map(|state| state.calls.kept()).sum()
    }

    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        let payload = frame.data.as_ref();
        if is_blank(payload) {
            return None;
        }
        if payload.trim_ascii().starts_with(b"[DONE]") {
            self.sources.tell(out);
            return Some(self.done());
        }
        if frame.event.as_deref() == Some(b"error") {
            return Some(End::Failed(error_body::in_stream(payload)));
        }
        if let Some(delta) = self.fast_path(payload) {
            out.push(delta);
            return None;
        }
        let before = out.len();
        let end = self.parse(payload, out);
        if let (None, Some([delta])) = (&end, out.get(before..)) {
            self.fast_path.learn(payload, delta, delta.choice().unwrap_or(0));
        }
        end
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        let payload = body.data.as_ref();
        if payload.trim_ascii().is_empty() {
            return End::Truncated;
        }
        let mut chunk: Chunk<'f> = match serde_json::from_slice(payload) {
            Ok(chunk) => chunk,
            Err(error) if error.is_eof() => return End::Truncated,
            Err(error) => return End::Failed(unreadable::rejected("an event", payload, &error)),
        };
        for choice in chunk.choices.iter_mut().flatten() {
            match choice.message.map(|raw| serde_json::from_str(raw.get())) {
                Some(Ok(message)) => choice.delta = Some(message),
                Some(Err(error)) => {
                    return End::Failed(unreadable::rejected("an event", payload, &error));
                }
                None => {}
            }
        }
        if let Some(end) = self.chunk(chunk, payload, out) {
            return end;
        }
        self.sources.tell(out);
        if self.choices.is_empty() {
            return End::Failed(ApiError::new(
                Kind::Upstream,
                "the upstream's answer has no choices",
            ));
        }
        End::Complete
    }

    /// Some upstreams never send `[DONE]` (Perplexity, Writer): then a finish of every alternative is
    /// enough.
    fn finish(&mut self) -> End {
        if self.is_stopped() { End::Complete } else { End::Truncated }
    }
}

impl Decoder {
    /// Whether every alternative has a finish reason.
    fn is_stopped(&self) -> bool {
        let mut seen = self.choices.iter().filter(|choice| choice.seen).peekable();
        seen.peek().is_some() && seen.all(|choice| choice.stop.is_some())
    }

    /// `[DONE]` alone ends a text, and calls whose arguments are whole, since some vendors send no
    /// finish reason (Snowflake; Novita behind `OpenRouter`). It does not end a call that may have been
    /// cut, nor an answer that never began: some proxies write it when their own upstream breaks off
    /// (failure mode 4).
    fn done(&self) -> End {
        let mut seen = self.choices.iter().filter(|choice| choice.seen).peekable();
        let said = seen.peek().is_some();
        if said && seen.all(|choice| choice.stop.is_some() || choice.calls.are_whole()) {
            End::Complete
        } else {
            End::Truncated
        }
    }

    fn fast_path<'f>(&self, payload: &'f [u8]) -> Option<Delta<'f>> {
        let choice = self.fast_path.slot()?;
        let state = self.choices.get(choice as usize)?;
        if state.fragments.split.is_empty() { self.fast_path.read(payload) } else { None }
    }

    fn parse<'f>(&mut self, payload: &'f [u8], out: &mut Vec<Delta<'f>>) -> Option<End> {
        // Checked as a whole once, the text need not be checked string by string.
        let parsed = match std::str::from_utf8(payload) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(payload),
        };
        match parsed {
            Ok(chunk) => self.chunk(chunk, payload, out),
            Err(error) => Some(End::Failed(unreadable::rejected("an event", payload, &error))),
        }
    }

    fn chunk<'f>(
        &mut self,
        chunk: Chunk<'f>,
        payload: &[u8],
        out: &mut Vec<Delta<'f>>,
    ) -> Option<End> {
        if !self.started {
            self.start(&chunk, out);
        }
        self.sources.read(&chunk);
        let mut end = None;
        for (position, choice) in chunk.choices.into_iter().flatten().enumerate() {
            let verdict = self.choice(choice, position, out);
            end = end.or(verdict);
        }
        let groq = || {
            let groq: Groq<'f> = serde_json::from_str(chunk.x_groq?.get()).ok()?;
            groq.usage
        };
        if let Some(usage) = chunk.usage.or_else(groq).and_then(usage) {
            out.push(Delta::Usage(usage));
        }
        if self.is_stopped() {
            self.sources.tell(out);
        }
        let flat = chunk.object.is_some_and(|object| object.get() == "\"error\"");
        if flat || chunk.error.is_some_and(truthy) {
            return Some(End::Failed(error_body::in_stream(payload)));
        }
        end
    }

    /// Azure opens with a chunk without content, which does not start an answer.
    fn start<'f>(&mut self, chunk: &Chunk<'f>, out: &mut Vec<Delta<'f>>) {
        let id = chunk.id.and_then(json::text).unwrap_or_default();
        let model = chunk.model.and_then(json::text).unwrap_or_default();
        let empty = chunk.choices.as_ref().is_none_or(Vec::is_empty);
        if empty && id.is_empty() && model.is_empty() {
            return;
        }
        self.started = true;
        self.ids.answer = id.clone().into_owned();
        out.push(Delta::Start { id, model });
    }

    fn choice<'f>(
        &mut self,
        choice: Choice<'f>,
        position: usize,
        out: &mut Vec<Delta<'f>>,
    ) -> Option<End> {
        let said = choice.index.and_then(|raw| raw.get().parse::<u32>().ok());
        let index = said.or_else(|| u32::try_from(position).ok()).unwrap_or(MAX_CHOICES);
        if index >= MAX_CHOICES {
            let message = format!("the upstream sent more than {MAX_CHOICES} alternative answers");
            return Some(End::Failed(ApiError::new(Kind::Upstream, message)));
        }
        let at = index as usize;
        if self.choices.len() <= at {
            self.choices.reserve_exact(at + 1 - self.choices.len());
            self.choices.resize_with(at + 1, State::default);
        }
        let state = self.choices.get_mut(at)?;
        state.seen = true;
        let called = state.calls.any();
        if let Some(body) = choice.delta {
            state.body(body, index, (&mut self.ids, &mut self.sources), out);
        }
        if state.calls.count() > MAX_TOOL_CALLS {
            return Some(End::Failed(too_many_calls()));
        }
        if let Some(raw) = choice.logprobs {
            logprobs(raw, index, out);
        }
        let finish = choice.finish_reason.and_then(json::text).filter(|word| !word.is_empty());
        let said = finish.and_then(|word| finish::stop(REASONS, &word));
        let reason = match said {
            Some(stop) => state.reason(stop, choice.stop_reason),
            // A call that follows the finish corrects it.
            None if !called && state.calls.any() && state.stop == Some(Stop::End) => Stop::ToolUse,
            None => return None,
        };
        state.stop = Some(reason.clone());
        out.push(Delta::Stop { choice: index, reason });
        None
    }
}

impl State {
    fn body<'f>(
        &mut self,
        body: Body<'f>,
        choice: u32,
        (ids, sources): (&mut Ids, &mut Sources),
        out: &mut Vec<Delta<'f>>,
    ) {
        let before = out.len();
        if let Some(raw) = body.reasoning_content.or(body.reasoning) {
            self.reasoning(raw, choice, out);
        }
        self.reasoned |= out.len() > before;
        if let Some(raw) = body.reasoning_details {
            self.details(raw, choice, out);
        }
        match body.content {
            Some(raw) if raw.get().starts_with('[') => self.parts(raw, choice, out),
            Some(raw) => self.text(raw, choice, out),
            None => {}
        }
        if let Some(text) = body.refusal.and_then(|raw| self.fragments.read(Slot::Refusal, raw)) {
            self.refused = true;
            out.push(Delta::Refusal { choice, text });
        }
        let mut context = Context { choice, ids, fragments: &mut self.fragments };
        let parts = body.tool_calls.unwrap_or_default();
        if let (true, Some(function)) = (parts.is_empty(), body.function_call) {
            self.calls.legacy(function, &mut context, out);
        }
        for (position, part) in parts.iter().enumerate() {
            let position = (parts.len() > 1).then_some(position);
            self.calls.part(part, position, &mut context, out);
        }
        if let Some(raw) = body.annotations {
            citations(raw, sources, out);
        }
    }

    fn text<'f>(&mut self, raw: &'f RawValue, choice: u32, out: &mut Vec<Delta<'f>>) {
        if let Some(text) = self.fragments.read(Slot::Text, raw) {
            out.push(Delta::Text { choice, text });
        }
    }

    fn reasoning<'f>(&mut self, raw: &'f RawValue, choice: u32, out: &mut Vec<Delta<'f>>) {
        if let Some(text) = self.fragments.read(Slot::Reasoning, raw) {
            out.push(Delta::Reasoning { choice, text });
        }
    }

    /// Mistral's `content`: thinking, which holds a list of texts itself, and text.
    fn parts<'f>(&mut self, raw: &'f RawValue, choice: u32, out: &mut Vec<Delta<'f>>) {
        let parts: Vec<ContentPart<'f>> = serde_json::from_str(raw.get()).unwrap_or_default();
        for part in parts {
            if let Some(thinking) = part.thinking {
                let inner: Vec<ContentPart<'f>> =
                    serde_json::from_str(thinking.get()).unwrap_or_default();
                for raw in inner.iter().filter_map(|part| part.text) {
                    self.reasoning(raw, choice, out);
                }
                self.reasoning(thinking, choice, out);
            }
            if let Some(raw) = part.text {
                self.text(raw, choice, out);
            }
        }
    }

    /// Signatures and sealed reasoning; the texts only if no other field had them (`OpenRouter` sends them twice, this
    /// gateway repeats all of them with their signature).
    fn details<'f>(&mut self, raw: &'f RawValue, choice: u32, out: &mut Vec<Delta<'f>>) {
        let details: Vec<Detail<'f>> = serde_json::from_str(raw.get()).unwrap_or_default();
        for detail in details {
            if let Some(raw) = detail.text.or(detail.summary).filter(|_| !self.reasoned) {
                self.reasoning(raw, choice, out);
            }
            let format = detail.format.and_then(json::text).unwrap_or_default();
            let Some(scheme) = scheme(&format) else {
                continue;
            };
            let filled = |raw| json::text(raw).filter(|value| !value.is_empty());
            if let Some(value) = detail.signature.and_then(filled) {
                out.push(Delta::Signature { value, scheme });
            }
            if let Some(data) = detail.data.and_then(filled) {
                out.push(Delta::RedactedReasoning { data, scheme });
            }
        }
    }

    /// A plain end may be more than that: of calls, in a refusal, or by a stop string.
    fn reason(&self, said: Stop, stop_reason: Option<&RawValue>) -> Stop {
        match said {
            Stop::End if self.calls.any() => Stop::ToolUse,
            Stop::End if self.refused => Stop::Refusal(None),
            Stop::End | Stop::Sequence(None) => match stop_reason.and_then(json::text) {
                Some(text) => Stop::Sequence(Some(text.into_owned())),
                None => said,
            },
            said => said,
        }
    }
}

fn logprobs<'f>(raw: &'f RawValue, choice: u32, out: &mut Vec<Delta<'f>>) {
    let parsed: Option<Logprobs<'f>> = serde_json::from_str(raw.get()).ok();
    let items = parsed.and_then(|parsed| parsed.content).and_then(logprobs::elements);
    out.extend(items.map(|items| Delta::Logprobs { choice, items }));
}

fn citations(raw: &RawValue, sources: &mut Sources, out: &mut Vec<Delta<'_>>) {
    let list: Vec<Annotation> = serde_json::from_str(raw.get()).unwrap_or_default();
    for source in list.into_iter().filter_map(|entry| entry.url_citation) {
        sources.annotated(source.url.as_deref().unwrap_or_default());
        out.push(Delta::Citation(Citation {
            url: source.url,
            title: source.title,
            cited_text: source.content,
            start: source.start_index,
            end: source.end_index,
            ..Citation::default()
        }));
    }
}
