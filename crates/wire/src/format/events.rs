//! The format `events`: events of the gateway's own, a kind for each kind of content, and a last one named `end`.
//! Reasoning state that only a vendor can read is left out, since no request is made of these events.

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::EndState;
use crate::chat::{ApiError, Citation, Delta, End, Origin, Stop, Usage};
use crate::dialect::Encode;
use crate::framing::Frame;
use crate::json::write_str;

/// Writes the events of one answer.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    called: bool,
    stop: Option<Stop>,
    usage: Usage,
}

impl Encode for Encoder {
    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        for delta in deltas {
            self.delta(delta, out);
        }
    }

    /// Usage is of interest however the answer ended. The stop is not: one that was announced by an answer that broke
    /// off afterwards would make it look whole.
    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        let stop = self.stop.take().unwrap_or(Stop::End);
        let complete = *end == End::Complete;
        if let Stop::Refusal(Some(explanation)) = &stop
            && complete
        {
            text("text", explanation, out);
        }
        if self.usage != Usage::default() {
            event("usage", &Counts::of(&self.usage), out);
        }
        if complete {
            event("stop", &Reason::of(&stop, self.called), out);
        }
        event("end", &Ended::of(end), out);
    }
}

impl Encoder {
    fn delta(&mut self, delta: &Delta<'_>, out: &mut BytesMut) {
        match delta {
            // A refusal has no event of its own: it is what the answer says.
            Delta::Text { choice: 0, text: words } | Delta::Refusal { choice: 0, text: words } => {
                text("text", words, out);
            }
            Delta::Reasoning { choice: 0, text: words } => text("reasoning", words, out),
            Delta::ToolStart { choice: 0, call, id, name } => {
                self.called = true;
                event("tool_call", &Call { index: *call, id, name }, out);
            }
            Delta::ToolArguments { choice: 0, call, json } => {
                event("tool_arguments", &Arguments { index: *call, arguments: json }, out);
            }
            Delta::Citation(citation) => event("citation", &Source::of(citation), out),
            Delta::Usage(usage) => self.usage.replace_with(usage),
            Delta::Stop { choice: 0, reason } => self.stop = Some(reason.clone()),
            // Further alternatives would mix with the first one. The rest is no content of a chat's answer.
            Delta::Text { .. }
            | Delta::Refusal { .. }
            | Delta::Reasoning { .. }
            | Delta::ToolStart { .. }
            | Delta::ToolArguments { .. }
            | Delta::Stop { .. }
            | Delta::Start { .. }
            | Delta::Logprobs { .. }
            | Delta::Signature { .. }
            | Delta::RedactedReasoning { .. }
            | Delta::Search(_)
            | Delta::Opaque
            | Delta::Embeddings(_)
            | Delta::InputTokens(_) => {}
        }
    }
}

/// Writes an event with one text, without the detour of [`event`]: one of these is a token.
fn text(name: &str, text: &str, out: &mut BytesMut) {
    open(name, out);
    out.put_slice(br#"{"text":"#);
    write_str(text, out);
    out.put_slice(b"}\n\n");
}

/// Writes an event. JSON has no line ends, so that its data is one line.
fn event(name: &str, data: &impl Serialize, out: &mut BytesMut) {
    open(name, out);
    // Writing to memory cannot fail.
    serde_json::to_writer(out.writer(), data).unwrap_or_default();
    out.put_slice(b"\n\n");
}

fn open(name: &str, out: &mut BytesMut) {
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\ndata: ");
}

#[derive(Serialize)]
struct Call<'d> {
    /// The ordinal of the call.
    index: u32,
    id: &'d str,
    name: &'d str,
}

#[derive(Serialize)]
struct Arguments<'d> {
    index: u32,
    /// A fragment of JSON text.
    arguments: &'d str,
}

/// A source; members that are unknown are left out.
#[derive(Serialize)]
struct Source<'d> {
    /// `web`, `document` or `tool`.
    origin: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'d str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'d str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'d str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cited_text: Option<&'d str>,
    /// First character of the text that it supports.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<u64>,
    /// One past the last character.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
    /// The number that marks it in the text, as in `[1]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
}

impl<'d> Source<'d> {
    fn of(citation: &'d Citation) -> Self {
        let origin = match citation.origin {
            Origin::Web => "web",
            Origin::Document => "document",
            Origin::Tool => "tool",
        };
        Self {
            origin,
            id: citation.id.as_deref(),
            url: citation.url.as_deref(),
            title: citation.title.as_deref(),
            cited_text: citation.cited_text.as_deref(),
            start: citation.start,
            end: citation.end,
            mark: citation.mark,
        }
    }
}

/// Token counts; those that the upstream has not sent are left out.
#[derive(Serialize)]
struct Counts {
    /// All input, cached parts included.
    #[serde(rename = "input_tokens", skip_serializing_if = "Option::is_none")]
    input: Option<u64>,
    #[serde(rename = "cache_read_tokens", skip_serializing_if = "Option::is_none")]
    cache_read: Option<u64>,
    #[serde(rename = "cache_write_tokens", skip_serializing_if = "Option::is_none")]
    cache_write: Option<u64>,
    /// All output, reasoning included.
    #[serde(rename = "output_tokens", skip_serializing_if = "Option::is_none")]
    output: Option<u64>,
    #[serde(rename = "reasoning_tokens", skip_serializing_if = "Option::is_none")]
    reasoning: Option<u64>,
}

impl Counts {
    fn of(usage: &Usage) -> Self {
        let Usage { input, cache_read, cache_write, output, reasoning } = *usage;
        Self { input, cache_read, cache_write, output, reasoning }
    }
}

#[derive(Serialize)]
struct Reason<'d> {
    reason: &'static str,
    /// The stop string that the model wrote, if the upstream named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<&'d str>,
}

impl<'d> Reason<'d> {
    fn of(stop: &'d Stop, called: bool) -> Self {
        let (reason, sequence) = match stop {
            // Some upstreams have no reason of its own for calls.
            Stop::End if called => ("tool_use", None),
            Stop::End => ("stop", None),
            Stop::Sequence(sequence) => ("stop_sequence", sequence.as_deref()),
            Stop::MaxTokens => ("max_tokens", None),
            Stop::ContextFull => ("context_window", None),
            Stop::ToolUse => ("tool_use", None),
            Stop::Refusal(_) => ("refusal", None),
            Stop::ContentFilter => ("content_filter", None),
            Stop::Pause => ("pause", None),
            // An answer that ended so is reported as an error; see `wire::finish`.
            Stop::Failed(_) | Stop::Other(_) => ("error", None),
        };
        Self { reason, sequence }
    }
}

#[derive(Serialize)]
struct Ended {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Fault>,
}

#[derive(Serialize)]
struct Fault {
    message: String,
    /// The kind of the error.
    #[serde(rename = "type")]
    kind: &'static str,
}

impl Ended {
    fn of(end: &End) -> Self {
        let state = EndState::of(end);
        let told = matches!(state, EndState::Error | EndState::Lost);
        let fault = |ApiError { kind, message, .. }| Fault { message, kind: kind.code() };
        Self { state: state.name(), error: end.fault().filter(|_| told).map(fault) }
    }
}
