//! Decoder: the chunks of a stream, or a whole answer, to deltas.
//!
//! The dialect has no terminal: an answer is whole if its bytes end after a finish reason. Chunks
//! may follow a finish, and another finish. Every chunk states the usage anew, so that no two are
//! alike and nothing can be recognised unread.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::citations::{Cited, logprobs};
use super::error;
use super::event::{Candidate, Chunk, FunctionCall, Part, blocked, finish, usage};
use super::partial::Node;
use crate::chat::{ApiError, Delta, End, Kind, Scheme, Stop};
use crate::codec::call_ids::CallIds;
use crate::codec::unreadable;
use crate::dialect::Decode;
use crate::framing::Frame;
use crate::json::text;

/// The most alternatives; the vendor allows eight.
const MAX_CHOICES: u32 = 128;

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    /// The vendor's id of the answer, which makes invented ids of calls unique beyond it.
    answer: String,
    ids: CallIds,
    choices: Vec<State>,
    blocked: bool,
}

/// The state of one alternative.
#[derive(Debug, Default)]
struct State {
    seen: bool,
    finished: bool,
    calls: u32,
    /// A call whose arguments come in parts.
    open: Option<Node>,
    /// About the bytes that they take.
    parted: usize,
    cited: Cited,
    /// Its search has been written.
    searched: bool,
}

impl Decode for Decoder {
    fn kept(&self) -> usize {
        self.choices.iter().map(|state| state.parted).sum()
    }

    fn name(&mut self, answer: &str) {
        answer.clone_into(&mut self.answer);
    }

    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        if frame.data.trim_ascii() == b"[DONE]" {
            // Some gateways end every dialect like this.
            return Some(self.finish());
        }
        self.read(&frame.data, out)
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        if body.data.trim_ascii().is_empty() {
            return End::Truncated;
        }
        match self.read(&body.data, out) {
            Some(end) => end,
            None if self.blocked || self.choices.iter().any(|choice| choice.seen) => End::Complete,
            None => {
                let message = "the upstream's answer has no candidates";
                End::Failed(ApiError::new(Kind::Upstream, message))
            }
        }
    }

    fn finish(&mut self) -> End {
        let mut seen = self.choices.iter().filter(|choice| choice.seen).peekable();
        let finished = seen.peek().is_some() && seen.all(|choice| choice.finished);
        if finished || self.blocked { End::Complete } else { End::Truncated }
    }
}

impl Decoder {
    fn read<'f>(&mut self, payload: &'f [u8], out: &mut Vec<Delta<'f>>) -> Option<End> {
        let Ok(json) = std::str::from_utf8(payload) else {
            return Some(unreadable::payload(payload));
        };
        let Ok(chunk) = serde_json::from_str::<Chunk<'_>>(json) else {
            // An error in a list of its own.
            let fault = error::in_stream(json);
            return Some(fault.map_or_else(|| unreadable::payload(payload), End::Failed));
        };
        if chunk.error.is_some() {
            return error::in_stream(json).map(End::Failed);
        }
        self.start(&chunk, out);
        let mut end = None;
        for (position, candidate) in chunk.candidates.into_iter().flatten().enumerate() {
            let verdict = self.candidate(candidate, position, out);
            end = end.or(verdict);
        }
        if blocked(chunk.prompt_feedback) && !self.blocked {
            self.blocked = true;
            out.push(Delta::Stop { choice: 0, reason: Stop::ContentFilter });
        }
        if let Some(usage) = chunk.usage_metadata.and_then(usage) {
            out.push(Delta::Usage(usage));
        }
        end
    }

    /// An empty chunk, which other gateways send as a heartbeat, is not the start of anything.
    fn start<'f>(&mut self, chunk: &Chunk<'f>, out: &mut Vec<Delta<'f>>) {
        let id = chunk.response_id.and_then(text).unwrap_or_default();
        let model = chunk.model_version.and_then(text).unwrap_or_default();
        if self.started || id.is_empty() && model.is_empty() && chunk.candidates.is_none() {
            return;
        }
        self.started = true;
        if self.answer.is_empty() {
            self.answer = id.clone().into_owned();
        }
        out.push(Delta::Start { id, model });
    }

    fn candidate<'f>(
        &mut self,
        candidate: Candidate<'f>,
        position: usize,
        out: &mut Vec<Delta<'f>>,
    ) -> Option<End> {
        let index = candidate.index.or_else(|| u32::try_from(position).ok()).unwrap_or(u32::MAX);
        if index >= MAX_CHOICES {
            let message = format!("the upstream sent more than {MAX_CHOICES} alternative answers");
            return Some(End::Failed(ApiError::new(Kind::Upstream, message)));
        }
        let at = index as usize;
        if self.choices.len() <= at {
            self.choices.resize_with(at + 1, State::default);
        }
        let mut state = self.choices.get_mut(at).map(std::mem::take)?;
        state.seen = true;
        let called = state.calls;
        let parts = candidate.content.and_then(|content| content.parts);
        for part in parts.into_iter().flatten() {
            self.part(&mut state, part, index, out);
        }
        if let Some(raw) = candidate.citation_metadata {
            state.cited.citations(raw, out);
        }
        if let Some(raw) = candidate.grounding_metadata {
            state.cited.grounding(raw, out);
        }
        if let Some(raw) = candidate.logprobs_result {
            logprobs(raw, index, out);
        }
        match finish(candidate.finish_reason, candidate.finish_message, state.calls > 0) {
            Some(reason) => {
                state.close(index, out);
                state.finished = true;
                out.push(Delta::Stop { choice: index, reason });
            }
            // A call that follows the finish corrects it.
            None if state.finished && state.calls > called => {
                state.close(index, out);
                out.push(Delta::Stop { choice: index, reason: Stop::ToolUse });
            }
            None => {}
        }
        if state.finished && index == 0 && !state.searched {
            let search = state.cited.search();
            state.searched = search.is_some();
            out.extend(search.map(Delta::Search));
        }
        if let Some(slot) = self.choices.get_mut(at) {
            *slot = state;
        }
        None
    }

    /// A signature follows the text that it came with, and precedes the call.
    fn part<'f>(
        &mut self,
        state: &mut State,
        part: Part<'f>,
        choice: u32,
        out: &mut Vec<Delta<'f>>,
    ) {
        let words = part.text.and_then(text);
        let sealed = part.thought_signature.and_then(text).filter(|value| !value.is_empty());
        // A medium, or a step of a tool that the vendor runs.
        let foreign = words.is_none() && part.function_call.is_none() && sealed.is_none();
        if let Some(text) = words.filter(|text| !text.is_empty()) {
            let thought = part.thought.is_some_and(|raw| raw.get() == "true");
            if thought {
                out.push(Delta::Reasoning { choice, text });
            } else {
                state.cited.note(&text);
                out.push(Delta::Text { choice, text });
            }
        }
        if let Some(value) = sealed {
            out.push(Delta::Signature { value, scheme: Scheme::Gemini });
        }
        if let Some(call) = part.function_call {
            self.call(state, &call, choice, out);
        }
        if foreign {
            out.push(Delta::Opaque);
        }
    }

    fn call<'f>(
        &mut self,
        state: &mut State,
        part: &FunctionCall<'f>,
        choice: u32,
        out: &mut Vec<Delta<'f>>,
    ) {
        if let Some(name) = part.name.and_then(text).filter(|name| !name.is_empty()) {
            state.close(choice, out);
            let call = state.calls;
            state.calls = state.calls.saturating_add(1);
            let id = self.id(part.id.and_then(text).unwrap_or_default(), choice, call);
            out.push(Delta::ToolStart { choice, call, id, name });
            let streamed = part.partial_args.is_some() || part.will_continue == Some(true);
            if streamed {
                state.open = Some(Node::new());
            } else {
                let json = part.args.map_or(Cow::Borrowed("{}"), compact);
                let json = if json.starts_with('{') { json } else { Cow::Borrowed("{}") };
                out.push(Delta::ToolArguments { choice, call, json });
            }
        }
        if let Some(open) = &mut state.open {
            for arg in part.partial_args.iter().flatten() {
                open.put(arg);
                state.parted += arg.size();
            }
            // Something was received, even if nothing can be forwarded yet.
            out.push(Delta::Opaque);
            if part.will_continue != Some(true) {
                state.close(choice, out);
            }
        }
    }

    /// The vendor mostly gives calls no id, which other languages cannot do without.
    fn id<'f>(&mut self, said: Cow<'f, str>, choice: u32, call: u32) -> Cow<'f, str> {
        let number = u64::from(choice) << 32 | u64::from(call);
        self.ids.claim(said, number, |_, number| format!("{INVENTED}{}_{number}", self.answer))
    }
}

/// Prefix of ids that the vendor did not give.
pub(super) const INVENTED: &str = "call_";

impl State {
    /// The arguments that were received in parts are complete.
    fn close(&mut self, choice: u32, out: &mut Vec<Delta<'_>>) {
        if let Some(open) = self.open.take() {
            self.parted = 0;
            let mut json = String::new();
            open.json(&mut json);
            let call = self.calls.saturating_sub(1);
            out.push(Delta::ToolArguments { choice, call, json: Cow::Owned(json) });
        }
    }
}

/// JSON without the line ends and indents of a pretty-printed answer.
fn compact(raw: &RawValue) -> Cow<'_, str> {
    let json = raw.get();
    if !json.contains(['\n', '\r']) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let (mut string, mut escaped) = (false, false);
    for c in json.chars() {
        if string || !c.is_ascii_whitespace() {
            out.push(c);
        }
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = string,
            '"' => string = !string,
            _ => {}
        }
    }
    Cow::Owned(out)
}
