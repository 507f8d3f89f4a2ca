//! Shared pieces of the suites: running a codec, and strict readers of what callers receive.
//!
//! The readers are written from the vendors' grammars with plain `serde_json::Value`; they must never
//! use the gateway's own decoders, or both could be wrong together.

pub(crate) mod answers;
pub(crate) mod anthropic;
pub(crate) mod aws;
pub(crate) mod certificate;
pub(crate) mod cohere;
pub(crate) mod collector;
pub(crate) mod egress;
pub(crate) mod encodings;
pub(crate) mod gateway;
pub(crate) mod gemini;
pub(crate) mod language;
pub(crate) mod ollama;
pub(crate) mod openai_chat;
pub(crate) mod openai_responses;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod schema;
pub(crate) mod simulated;
pub(crate) mod tokens;
pub(crate) mod upstream;

pub(crate) use language::language as reader;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use streamgate::wire::adapt;
use streamgate::wire::chat::{ApiError, End, Request, ToolForms};
use streamgate::wire::dialect::{
    CallerDialect, Clock, Dialect, Form, Mode, ResponseContext, Target, caller_dialects,
};
use streamgate::wire::tally::Tally;
use streamgate::wire::transcode::Transcoder;

/// The content of an answer, in the terms of its own dialect.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct View {
    /// The alternatives by their number.
    pub(crate) choices: BTreeMap<u64, Choice>,
    /// Token counts, input with what was cached.
    pub(crate) usage: Option<Tokens>,
    /// The end.
    pub(crate) ended: Ended,
}

/// One alternative.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) refusal: String,
    pub(crate) tools: Vec<Tool>,
    /// The vendor's own word.
    pub(crate) stop: Option<String>,
}

/// One tool call.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tool {
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON text as it was put together.
    pub(crate) arguments: String,
}

/// Canonical token counts; what was not said is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) input: u64,
    pub(crate) cache_read: u64,
    pub(crate) cache_write: u64,
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
}

/// The end of an answer, as its reader sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Neither terminal nor error.
    #[default]
    Cut,
    /// With the dialect's terminal.
    Complete,
    /// With an error that says this.
    Error(String),
}

impl Tool {
    /// The arguments as a value; nothing at all and `null` mean no arguments, and cut JSON stays text.
    pub(crate) fn value(&self) -> Value {
        if ["", "null"].contains(&self.arguments.trim()) {
            return Value::Object(serde_json::Map::new());
        }
        serde_json::from_str(&self.arguments)
            .unwrap_or_else(|_| Value::String(self.arguments.clone()))
    }
}

/// Splits what the gateway wrote into (event name, data). It writes one way only, so this reader
/// knows only that way: LF, `event: ` then one `data: `, a blank line.
pub(crate) fn events(bytes: &[u8]) -> Result<Vec<(Option<String>, String)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    if text.contains('\r') || text.starts_with('\u{feff}') {
        return Err("CR or byte order mark in the output".into());
    }
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (block, tail) = rest.split_once("\n\n").ok_or("the output ends inside an event")?;
        rest = tail;
        let (event, data) = match block.strip_prefix("event: ") {
            Some(named) => {
                let (name, data) = named.split_once('\n').ok_or("event without data")?;
                (Some(name.to_owned()), data)
            }
            None => (None, block),
        };
        let data = data.strip_prefix("data: ").ok_or_else(|| format!("not a data line: {data}"))?;
        if data.contains('\n') {
            return Err(format!("more than one line of data: {data}"));
        }
        out.push((event, data.to_owned()));
    }
    Ok(out)
}

/// Splits a stream of newline-delimited JSON that the gateway wrote into its lines.
pub(crate) fn lines(bytes: &[u8]) -> Result<Vec<(Option<String>, String)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    must(text.is_empty() || text.ends_with('\n'), || "the output ends inside a line".into())?;
    must(!text.contains('\r'), || "CR in the output".into())?;
    let blank = text.split_terminator('\n').any(|line| line.trim().is_empty());
    must(!blank, || "a blank line".into())?;
    Ok(text.split_terminator('\n').map(|line| (None, line.to_owned())).collect())
}

/// The payloads of a stream that callers of a dialect got, in whatever framing.
pub(crate) fn payloads(
    caller: &str,
    bytes: &[u8],
) -> Result<Vec<(Option<String>, String)>, String> {
    let caller = caller_dialects().find(|dialect| dialect.name() == caller);
    match caller.expect("a caller's dialect").media_type(&call(true, true)) {
        "application/x-ndjson" => lines(bytes),
        _ => events(bytes),
    }
}

/// The output of a codec for an upstream's bytes.
#[derive(Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) out: Vec<u8>,
    pub(crate) end: End,
    pub(crate) tally: Tally,
}

/// Sends `input`, cut at `cuts`, through the codec from `upstream` to `caller`.
pub(crate) fn run(
    upstream: &dyn Dialect,
    caller: &dyn CallerDialect,
    (call, mode): (&ResponseContext, Mode),
    input: &[u8],
    cuts: impl IntoIterator<Item = usize>,
) -> Run {
    let (decoder, encoder) = (upstream.decoder(Form::Chat), caller.encoder(call, mode));
    feed(Transcoder::new(upstream.framing(""), 32 << 20, decoder, encoder, mode), input, cuts)
}

/// Sends `input`, cut at `cuts`, through a codec, to its end.
pub(crate) fn feed(
    mut codec: Transcoder,
    input: &[u8],
    cuts: impl IntoIterator<Item = usize>,
) -> Run {
    let whole = Bytes::copy_from_slice(input);
    let mut out = BytesMut::new();
    let mut from = 0;
    for to in cuts.into_iter().chain([input.len()]) {
        codec.push(whole.slice(from..to), &mut out);
        from = to;
    }
    codec.finish(&mut out);
    Run {
        out: out.to_vec(),
        end: codec.end().expect("finish ends it").clone(),
        tally: codec.tally().clone(),
    }
}

/// The body of a response as far as it came, and whether it was cut: ended without its last chunk.
pub(crate) async fn received(mut response: reqwest::Response) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => body.extend_from_slice(&bytes),
            Ok(None) => return (body, false),
            Err(_) => return (body, true),
        }
    }
}

/// A call whose identity never changes.
pub(crate) fn call(stream: bool, want_usage: bool) -> ResponseContext {
    ResponseContext {
        id: "0123456789abcdefghijABCD".into(),
        created: 1_700_000_000,
        model: "test-model".into(),
        stream,
        want_usage,
        form: Form::Chat,
        echo: String::new(),
        tool_forms: ToolForms::default(),
        input_estimate: 0,
        now: Clock::new(|| 1_700_000_042),
    }
}

/// Same dialect on both sides is verbatim, anything else is translated.
pub(crate) fn natural_mode(upstream: &dyn Dialect, caller: &dyn CallerDialect) -> Mode {
    if upstream.name() == caller.name() { Mode::Verbatim } else { Mode::Translated }
}

/// A member that must be a string.
pub(crate) fn string(value: &Value, name: &str) -> Result<String, String> {
    let found = value.get(name).and_then(Value::as_str);
    found.map(ToOwned::to_owned).ok_or_else(|| format!("{name} is not a string in {value}"))
}

/// A count that may be missing.
pub(crate) fn count(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// Fails with a sentence unless something holds.
pub(crate) fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Runs what a test needs beside it; the test's runtime owns it and ends it.
#[expect(clippy::disallowed_methods, reason = "the test's own runtime is the owner")]
pub(crate) fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// The body of a request as it is sent to an upstream.
pub(crate) fn written(
    request: &mut Request,
    upstream: &dyn Dialect,
    target: &Target<'_>,
) -> Result<String, ApiError> {
    adapt::write(request, upstream, target, false).map(|written| written.body)
}
