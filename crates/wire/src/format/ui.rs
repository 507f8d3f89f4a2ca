//! The format `ui`: the UI message stream of Vercel's AI SDK, version 1 (`uiMessageChunkSchema` in the npm package
//! `ai`, 7.0.173). Older releases reject a stream for one unknown member, so nothing is written that the first of them,
//! 5, does not have.
//!
//! Parts follow one another: text, reasoning and tool calls never overlap, except for the input of several calls. A
//! call's input becomes available with the end of a complete answer, because the client then runs the tool. Of an answer
//! that is not complete it never does, and the client leaves such a call out of its next request.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;

use super::EndState;
use crate::chat::{Citation, Delta, End, Scheme, Stop, Usage};
use crate::dialect::{Encode, ResponseContext};
use crate::framing::Frame;
use crate::json::{quoted, replace_lone_surrogates, write_str};
use crate::sse;

/// Writes the chunks of one message.
#[derive(Debug)]
pub(super) struct Encoder {
    /// The message's id.
    id: String,
    started: bool,
    open: Option<Part>,
    /// Number of parts of text and reasoning so far, which is the id of the open one.
    parts: u32,
    calls: Vec<Call>,
    /// Number of sources so far.
    sources: u32,
    /// Gemini's signature, which the next call or the last part carries.
    signature: Option<String>,
    usage: Usage,
    stop: Option<Stop>,
}

/// A part that is written in fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Text,
    Reasoning,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Reasoning => "reasoning",
        }
    }
}

/// A tool call whose input is not available yet.
#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    /// Its input so far, JSON text.
    input: String,
    signature: Option<String>,
}

impl Encode for Encoder {
    /// The input of calls is repeated at the end.
    fn keeps(&self, delta: &Delta<'_>) -> bool {
        matches!(delta, Delta::ToolStart { .. } | Delta::ToolArguments { .. })
    }

    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        for delta in deltas {
            self.delta(delta, out);
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        match end.fault() {
            None => self.complete(out),
            Some(fault) => {
                self.close(out);
                if EndState::of(end) == EndState::Cancelled {
                    chunk(out, r#""abort""#);
                } else {
                    chunk(out, &format!(r#""error","errorText":{}"#, quoted(&fault.message)));
                }
            }
        }
        sse::write(None, b"[DONE]", out);
    }
}

impl Encoder {
    pub(super) fn new(context: &ResponseContext) -> Self {
        Self {
            id: context.id.clone(),
            started: false,
            open: None,
            parts: 0,
            calls: Vec::new(),
            sources: 0,
            signature: None,
            usage: Usage::default(),
            stop: None,
        }
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut BytesMut) {
        match delta {
            Delta::Start { .. } => self.start(out),
            // A refusal has no chunk of its own: it is what the message says.
            Delta::Text { choice: 0, text } | Delta::Refusal { choice: 0, text } => {
                self.fragment(Part::Text, text, out);
            }
            Delta::Reasoning { choice: 0, text } => self.fragment(Part::Reasoning, text, out),
            Delta::Signature { value, scheme: Scheme::Gemini } => {
                self.signature = Some(value.to_string());
            }
            Delta::Signature { value, scheme } => {
                self.sealed(&metadata(*scheme, value, false), out);
            }
            Delta::RedactedReasoning { data, scheme } => {
                self.close(out);
                self.sealed(&metadata(*scheme, data, true), out);
            }
            Delta::ToolStart { choice: 0, id, name, .. } => self.call(id, name, out),
            Delta::ToolArguments { choice: 0, call, json } => self.input(*call, json, out),
            Delta::Citation(citation) => self.source(citation, out),
            Delta::Usage(usage) => self.usage.replace_with(usage),
            Delta::Stop { choice: 0, reason } => self.stop = Some(reason.clone()),
            // A message is one alternative. The rest has no chunk in this format.
            Delta::Text { .. }
            | Delta::Refusal { .. }
            | Delta::Reasoning { .. }
            | Delta::ToolStart { .. }
            | Delta::ToolArguments { .. }
            | Delta::Stop { .. }
            | Delta::Logprobs { .. }
            | Delta::Search(_)
            | Delta::Opaque
            | Delta::Embeddings(_)
            | Delta::InputTokens(_) => {}
        }
    }

    /// Begins the message and its only step. An answer that fails at once has no message.
    fn start(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.started, true) {
            chunk(out, &format!(r#""start","messageId":{}"#, quoted(&self.id)));
            chunk(out, r#""start-step""#);
        }
    }

    /// A fragment of text or reasoning.
    fn fragment(&mut self, part: Part, text: &str, out: &mut BytesMut) {
        self.begin(part, out);
        open(out, part.name());
        out.put_slice(br#"-delta","id":""#);
        number(self.parts, out);
        out.put_slice(br#"","delta":"#);
        write_str(text, out);
        out.put_slice(b"}\n\n");
    }

    /// Makes the part the open one.
    fn begin(&mut self, part: Part, out: &mut BytesMut) {
        if self.open == Some(part) {
            return;
        }
        self.start(out);
        self.close(out);
        self.parts += 1;
        self.open = Some(part);
        let (name, id) = (part.name(), self.parts);
        chunk(out, &format!(r#""{name}-start","id":"{id}""#));
    }

    /// Ends the open part, if there is one.
    fn close(&mut self, out: &mut BytesMut) {
        self.close_with("", out);
    }

    fn close_with(&mut self, metadata: &str, out: &mut BytesMut) {
        if let Some(part) = self.open.take() {
            let (name, id) = (part.name(), self.parts);
            chunk(out, &format!(r#""{name}-end","id":"{id}"{metadata}"#));
        }
    }

    /// Ends the reasoning with state of its vendor. Without reasoning, the state is a part of its own.
    fn sealed(&mut self, metadata: &str, out: &mut BytesMut) {
        self.begin(Part::Reasoning, out);
        self.close_with(metadata, out);
    }

    fn call(&mut self, id: &str, name: &str, out: &mut BytesMut) {
        self.start(out);
        self.close(out);
        chunk(out, &tool("input-start", id, name));
        let signature = self.signature.take();
        let (id, name) = (id.to_owned(), name.to_owned());
        self.calls.push(Call { id, name, input: String::new(), signature });
    }

    /// A fragment of a call's input.
    fn input(&mut self, call: u32, json: &str, out: &mut BytesMut) {
        let Some(call) = self.calls.get_mut(call as usize) else { return };
        call.input.push_str(json);
        open(out, "tool-input-delta");
        out.put_slice(br#"","toolCallId":"#);
        write_str(&call.id, out);
        out.put_slice(br#","inputTextDelta":"#);
        write_str(json, out);
        out.put_slice(b"}\n\n");
    }

    /// A source with an address; or a document, of an unknown type, with a name.
    fn source(&mut self, citation: &Citation, out: &mut BytesMut) {
        let name = citation.name();
        if name.is_empty() {
            return;
        }
        self.start(out);
        self.sources += 1;
        let (id, name) = (self.sources, quoted(name));
        let members = if let Some(url) = citation.address() {
            format!(r#""source-url","sourceId":"{id}","url":{},"title":{name}"#, quoted(url))
        } else {
            let unknown = "application/octet-stream";
            format!(r#""source-document","sourceId":"{id}","mediaType":"{unknown}","title":{name}"#)
        };
        chunk(out, &members);
    }

    fn complete(&mut self, out: &mut BytesMut) {
        self.start(out);
        let stop = self.stop.take().unwrap_or(Stop::End);
        if let Stop::Refusal(Some(explanation)) = &stop {
            self.fragment(Part::Text, explanation, out);
        }
        if let Some(signature) = self.signature.take() {
            if self.open.is_none() {
                self.begin(Part::Text, out);
            }
            self.close_with(&signed(&signature), out);
        }
        self.close(out);
        for call in &self.calls {
            chunk(out, &available(call));
        }
        chunk(out, r#""finish-step""#);
        let reason = finish_reason(&stop, !self.calls.is_empty());
        let usage = metadata_of(&self.usage);
        chunk(out, &format!(r#""finish","finishReason":"{reason}"{usage}"#));
    }
}

/// The beginning of a chunk, up to the start of its type.
fn open(out: &mut BytesMut, kind: &str) {
    out.put_slice(br#"data: {"type":""#);
    out.put_slice(kind.as_bytes());
}

/// Writes a chunk: the value of its type, then its other members.
fn chunk(out: &mut BytesMut, members: &str) {
    out.put_slice(br#"data: {"type":"#);
    out.put_slice(members.as_bytes());
    out.put_slice(b"}\n\n");
}

fn number(number: u32, out: &mut BytesMut) {
    // Writing to memory cannot fail.
    write!(out, "{number}").unwrap_or_default();
}

/// Members that chunks of tool calls share.
fn tool(kind: &str, id: &str, name: &str) -> String {
    let (id, name) = (quoted(id), quoted(name));
    format!(r#""tool-{kind}","toolCallId":{id},"toolName":{name}"#)
}

/// The chunk with the whole input of a call. No input at all is an empty object. One that broke off, as it does at the
/// limit on output, is an error with the text.
fn available(call: &Call) -> String {
    let Call { id, name, input, signature } = call;
    let metadata = signature.as_deref().map_or_else(String::new, signed);
    match whole(input) {
        Some(input) => {
            format!(r#"{},"input":{input}{metadata}"#, tool("input-available", id, name))
        }
        None => format!(
            r#"{},"input":{},"errorText":"the arguments are not valid JSON"{metadata}"#,
            tool("input-error", id, name),
            quoted(input)
        ),
    }
}

/// Valid JSON on one line: line ends between its tokens are spaces, and within strings there are none.
fn whole(input: &str) -> Option<Cow<'_, str>> {
    let input = input.trim();
    if ["", "null"].contains(&input) {
        return Some(Cow::Borrowed("{}"));
    }
    serde_json::from_str::<&RawValue>(input).ok()?;
    if memchr::memchr2(b'\n', b'\r', input.as_bytes()).is_none() {
        return Some(replace_lone_surrogates(input));
    }
    let line = input.replace(['\n', '\r'], " ");
    Some(Cow::Owned(replace_lone_surrogates(&line).into_owned()))
}

/// State of a vendor as its provider package of the AI SDK expects it back: `,"providerMetadata":{..}`.
fn metadata(scheme: Scheme, value: &str, redacted: bool) -> String {
    let (vendor, member) = match (scheme, redacted) {
        (Scheme::Anthropic, false) => ("anthropic", "signature"),
        (Scheme::Anthropic, true) => ("anthropic", "redactedData"),
        (Scheme::OpenAi, _) => ("openai", "reasoningEncryptedContent"),
        (Scheme::XAi, _) => ("xai", "reasoningEncryptedContent"),
        (Scheme::Gemini, _) => ("google", "thoughtSignature"),
    };
    format!(r#","providerMetadata":{{"{vendor}":{{"{member}":{}}}}}"#, quoted(value))
}

fn signed(value: &str) -> String {
    metadata(Scheme::Gemini, value, false)
}

/// The `finishReason` of a stop, in the words of the AI SDK.
fn finish_reason(stop: &Stop, called: bool) -> &'static str {
    match stop {
        // Some upstreams have no reason of its own for calls.
        Stop::End if called => "tool-calls",
        Stop::End | Stop::Sequence(_) => "stop",
        Stop::MaxTokens | Stop::ContextFull => "length",
        Stop::ToolUse => "tool-calls",
        Stop::Refusal(_) | Stop::ContentFilter => "content-filter",
        Stop::Pause => "other",
        // An answer that ended so is reported as an error; see `wire::finish`.
        Stop::Failed(_) | Stop::Other(_) => "error",
    }
}

/// Token counts under the names of the AI SDK's `LanguageModelUsage`; those that the upstream has not sent are left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_token_details: Option<OfInput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_token_details: Option<OfOutput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_tokens: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_read_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write_tokens: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfOutput {
    reasoning_tokens: u64,
}

/// `,"messageMetadata":{"usage":{..}}`, or nothing if no count is known.
fn metadata_of(usage: &Usage) -> String {
    if *usage == Usage::default() {
        return String::new();
    }
    let (cache_read_tokens, cache_write_tokens) = (usage.cache_read, usage.cache_write);
    let cached = cache_read_tokens.is_some() || cache_write_tokens.is_some();
    let counts = Counts {
        input_tokens: usage.input,
        input_token_details: cached.then_some(OfInput { cache_read_tokens, cache_write_tokens }),
        output_tokens: usage.output,
        output_token_details: usage.reasoning.map(|reasoning_tokens| OfOutput { reasoning_tokens }),
        total_tokens: usage.input.zip(usage.output).map(|(i, o)| i.saturating_add(o)),
    };
    // Numbers can always be written.
    let counts = serde_json::to_string(&counts).unwrap_or_default();
    format!(r#","messageMetadata":{{"usage":{counts}}}"#)
}
