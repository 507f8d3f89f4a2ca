//! Dialects: the vendors' wire languages. One file or folder each, one line in [`DIALECTS`].
//!
//! A dialect never names another one, and no other file names a dialect.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};

use super::adapt::settings::Settings;
use super::chat::{Delta, End, Fault, Kind, Rendered, Request};
use super::framing::{Frame, Framing};
use super::reset;

mod anthropic;
mod bedrock;
mod cohere;
mod gemini;
mod ollama;
mod openai_chat;
mod openai_responses;

/// Every dialect, in the order in which shared paths are offered: the first one answers callers who
/// do not say what they speak.
pub static DIALECTS: &[&dyn Dialect] = &[
    &openai_chat::OpenAiChat,
    &openai_responses::OpenAiResponses,
    &anthropic::Anthropic,
    &gemini::Gemini,
    &ollama::Ollama,
    &cohere::Cohere,
    &bedrock::Bedrock,
];

/// What callers who do not say what they speak are answered in.
pub static DEFAULT: &dyn CallerDialect = &openai_chat::OpenAiChat;

/// The form of a dialect's main endpoint: a conversation in, the model's turn out. It is what a
/// request of whatever form is translated into, if it can be translated.
pub const CHAT: &str = "chat";

/// Finds a dialect by its name in the configuration.
pub fn by_name(name: &str) -> Option<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|dialect| dialect.name() == name)
}

/// The dialects that callers may speak, in their order.
pub fn caller_dialects() -> impl Iterator<Item = &'static dyn CallerDialect> {
    DIALECTS.iter().filter_map(|dialect| dialect.as_caller())
}

/// A name as one segment of a path: everything is escaped that may mean something there. An `@`, as in
/// `model@version`, means nothing.
fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@') {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
    }
    out
}

/// Refuses a name that would not be a segment of a path, but a step within it.
fn must_be_segment(model: &str) -> Result<(), Fault> {
    if ["", ".", ".."].contains(&model) {
        return Err(Fault::field("model", "must name a model of this provider"));
    }
    Ok(())
}

/// The answer to a request of another form than [`CHAT`] for which only a target of another dialect
/// is left.
fn untranslatable(form: &str) -> Fault {
    let message = format!(
        "requests for {form} are passed on and never translated; name a model whose provider speaks this API"
    );
    Fault::field("model", message)
}

/// A vendor's language, as its upstreams speak it.
pub trait Dialect: Sync {
    /// Its name in the configuration, in metrics and in records.
    fn name(&self) -> &'static str;
    /// The same language towards callers, if callers may speak it.
    fn as_caller(&self) -> Option<&'static dyn CallerDialect>;
    /// The vendor's public address, as its SDK has it.
    fn default_base_url(&self) -> &'static str;
    /// The name of the provider that a well-known environment variable makes, and that variable.
    fn well_known(&self) -> Option<(&'static str, &'static str)>;
    /// The path below the base URL that answers are asked from, with its leading slash, and the
    /// query if there is one.
    fn path(&self, target: &Target<'_>) -> String;
    /// The header that carries the credential, and what precedes the credential in it.
    fn credential(&self) -> (&'static str, &'static str);
    /// Headers that every request carries, name and value, unless the caller gave one of the
    /// same name that is forwarded.
    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)];
    /// Headers of a caller of this dialect that are forwarded to an upstream of this dialect.
    fn forwarded_headers(&self) -> &'static [&'static str];
    /// That of them which names beta features, in a list with commas.
    fn beta_header(&self) -> Option<&'static str> {
        None
    }
    /// Where a body may limit the output: paths of member names.
    fn output_limits(&self) -> &'static [&'static str];
    /// Adapts the caller's own JSON for an upstream of the same dialect, by surgery: everything but
    /// the edited members stays byte for byte.
    fn edit_request(&self, body: &str, target: &Target<'_>) -> Result<String, Fault>;
    /// The same, where a platform reads in the body what the vendor reads in headers: those that would
    /// be forwarded are given by name.
    fn edit_hosted(
        &self,
        body: &str,
        target: &Target<'_>,
        _header: &dyn Fn(&str) -> Option<String>,
    ) -> Result<String, Fault> {
        self.edit_request(body, target)
    }
    /// Writes a request. Refuses, by field, what this dialect cannot say.
    fn encode_request(&self, request: &Request, target: &Target<'_>) -> Result<String, Fault>;
    /// The media type of its streams, which they are asked for by.
    fn media_type(&self) -> &'static str {
        "text/event-stream"
    }
    /// The media type that an answer is asked for by.
    fn accept(&self, target: &Target<'_>) -> &'static str {
        if target.stream { self.media_type() } else { "application/json" }
    }
    /// How the answer to a request for a stream is cut, by its `content-type`: some upstreams
    /// answer with a whole body all the same.
    fn framing(&self, content_type: &str) -> Framing {
        let is = |kind: &str| content_type.starts_with(kind);
        if is("application/json") {
            Framing::Whole
        } else if is("application/x-ndjson") || is("application/jsonl") {
            Framing::Ndjson
        } else {
            Framing::Sse
        }
    }
    /// A state machine that reads an answer to a request of this form.
    fn decoder(&self, form: &'static str) -> Box<dyn Decode>;
    /// Reads the body of an error response. Never fails: an unreadable body is told by its status.
    fn decode_error(&self, status: u16, body: &[u8]) -> Fault;
    /// How many seconds the body of an error response asks to wait, where that is not told by a
    /// `retry-after` header.
    fn retry_after(&self, _body: &[u8]) -> Option<u64> {
        None
    }
}

/// A vendor's language, as callers of the gateway speak it.
pub trait CallerDialect: Sync {
    /// The dialect's name.
    fn name(&self) -> &'static str;
    /// What callers of this dialect post to.
    fn endpoints(&self) -> &'static [Endpoint];
    /// A request header by which callers of shared paths show that they speak this dialect.
    fn marker(&self) -> Option<&'static str> {
        None
    }
    /// Whether the vendor reads a request as JSON whatever its media type says, so that clients may
    /// not say it.
    fn reads_any_media_type(&self) -> bool {
        false
    }
    /// Reads what the gateway itself needs of a request, and no more: unknown fields are fine.
    fn envelope(&self, asked: &Asked<'_>) -> Result<Envelope, Fault>;
    /// Puts a filled-in prompt into a request of the form [`CHAT`], by surgery: its messages before
    /// the caller's own, its model and parameters, under the dialect's own names, where the caller
    /// says none. Takes the member `prompt` out, which is not for upstreams. A request without
    /// messages is fine here.
    fn prepend(&self, body: &str, prompt: &Rendered) -> Result<String, Fault>;
    /// Whether a prompt of this id is kept at the vendor, so that naming it is not for the gateway.
    fn keeps_prompt(&self, _id: &str) -> bool {
        false
    }
    /// Reads a whole request, for translation. Says which field is wrong or cannot be translated.
    fn decode_request(&self, form: &'static str, body: &str) -> Result<Request, Fault>;
    /// What callers of this dialect call a field of [`Request`], where that is another name.
    fn own_name(&self, _field: &str) -> Option<&'static str> {
        None
    }
    /// What of a request a translated answer to it repeats, in the dialect's own words, which are
    /// for [`Call::echo`].
    fn echo(&self, _body: &str) -> String {
        String::new()
    }
    /// A state machine that writes an answer.
    fn encoder(&self, call: &Call, mode: Mode) -> Box<dyn Encode>;
    /// The media type of a streamed answer.
    fn media_type(&self, _call: &Call) -> &'static str {
        "text/event-stream"
    }
    /// The status of an error.
    fn status(&self, kind: Kind) -> u16;
    /// The JSON body of an error.
    fn error_body(&self, fault: &Fault, request_id: &str) -> String;
    /// Bytes that keep a silent stream open, safe at any event boundary for every known client.
    fn heartbeat(&self, call: &Call) -> Bytes;
    /// The headers that tell what is left of a limit: how much there is, how much is left, and when
    /// all is back; of requests, and of tokens. Most vendors have taken these over from one.
    fn allowance_headers(&self) -> [[&'static str; 3]; 2] {
        [
            [
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-reset-requests",
            ],
            [
                "x-ratelimit-limit-tokens",
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-tokens",
            ],
        ]
    }
    /// The last of them: `wait_ms` milliseconds from now, which is `unix_ms` milliseconds after 1970.
    fn reset(&self, wait_ms: u64, _unix_ms: u64) -> String {
        reset::duration(wait_ms)
    }
    /// The path that lists the models. Dialects may share it; the marker tells them apart there.
    fn models_path(&self) -> &'static str {
        "/v1/models"
    }
    /// The JSON body of a list of models.
    fn models(&self, models: &[&str]) -> String;
    /// What else callers ask the gateway itself.
    fn questions(&self) -> &'static [Question] {
        &[]
    }
    /// The model that such a question is about, if it is about one.
    fn asks_about(&self, _question: &Question, _body: &str) -> Result<Option<String>, Fault> {
        Ok(None)
    }
    /// The JSON body of the answer.
    fn reply(&self, _question: &Question) -> String {
        String::new()
    }
}

/// What callers ask the gateway itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The path.
    pub path: &'static str,
    /// Whether it is posted, with a body.
    pub posted: bool,
}

/// What callers post to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Its path. `{*rest}` at the end stands for one or more segments, which the dialect reads.
    pub path: &'static str,
    /// What is asked there, in the dialect's own word; [`CHAT`] is the one that all have.
    pub form: &'static str,
}

impl Endpoint {
    /// What every path that leads here begins with.
    pub fn prefix(&self) -> &'static str {
        self.path.split_once('{').map_or(self.path, |(prefix, _)| prefix)
    }
}

/// What a caller has posted.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Of the endpoint.
    pub form: &'static str,
    /// The path as it was sent, percent-encoded.
    pub path: &'a str,
    /// The query without its question mark; empty if there is none.
    pub query: &'a str,
    /// The body.
    pub body: &'a str,
}

/// What the gateway needs of any request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The model that the caller names.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether the caller wants to see usage in the stream.
    pub want_usage: bool,
    /// What is asked and in which shape, in the dialect's own word: that of the endpoint, unless
    /// the request says more about it.
    pub form: &'static str,
    /// The most tokens of output that it allows each alternative.
    pub max_output: Option<u64>,
    /// How many alternatives it asks for.
    pub choices: u64,
    /// The upstream is to work on when its answer has ended or its caller has left.
    pub background: bool,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The model's name at the upstream.
    pub model: &'a str,
    /// Whether the upstream is asked to stream.
    pub stream: bool,
    /// What is asked: the caller's form if both sides speak this dialect, else [`CHAT`].
    pub form: &'static str,
    /// The provider's deviations.
    pub quirks: &'a Quirks,
}

/// A provider's deviations from its dialect: data, read only in that dialect's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quirks {
    /// It can be asked for usage in the stream (`stream_options`). Some refuse the field and send
    /// usage unasked.
    pub stream_options: bool,
    /// The limit on output is called `max_tokens`, not `max_completion_tokens`.
    pub legacy_max_tokens: bool,
    /// It takes no other, as the operator says: a caller's own is renamed as well.
    pub only_legacy_max_tokens: bool,
    /// It takes ids of tool calls of so many letters and digits only; others are replaced in
    /// translation.
    pub call_id_length: Option<usize>,
    /// The field of assistant messages in which earlier reasoning text must be given back; `None`:
    /// it is left out.
    pub reasoning_field: Option<String>,
    /// Whose platform hosts the models of this dialect's vendor; `None`: the vendor's own.
    pub hosting: Option<Hosting>,
    /// What the operator says of its requests.
    pub settings: Settings,
}

/// A platform that hosts a vendor's models with its own addresses and credentials, and a little of its
/// own in requests, but with the vendor's own events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosting {
    /// Amazon Bedrock (`InvokeModel`).
    Bedrock,
    /// Google Vertex AI (`rawPredict`).
    Vertex,
}

impl Hosting {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Bedrock, Self::Vertex];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bedrock => "bedrock",
            Self::Vertex => "vertex",
        }
    }
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            stream_options: true,
            legacy_max_tokens: false,
            only_legacy_max_tokens: false,
            call_id_length: None,
            reasoning_field: None,
            hosting: None,
            settings: Settings::default(),
        }
    }
}

/// The identity of an answer, drawn by the gateway so that encoders stay pure.
#[derive(Debug, Clone)]
pub struct Call {
    /// 24 random ASCII letters and digits.
    pub id: String,
    /// Unix seconds.
    pub created: u64,
    /// The model as the caller named it; an upstream that says its own name overrides it.
    pub model: String,
    /// Stream or collect.
    pub stream: bool,
    /// Show usage in the stream.
    pub want_usage: bool,
    /// The form of the request, which its answer has too.
    pub form: &'static str,
    /// What of the request a translated answer repeats, in the dialect's own words.
    pub echo: String,
    /// Tokens of input, as the gateway estimates them: what to tell before the upstream has counted.
    pub input_estimate: u64,
    /// What time it is when the answer is complete.
    pub now: Clock,
}

/// Where the time comes from: the wire has no clock of its own.
#[derive(Clone, Copy)]
pub struct Clock(
    /// Unix seconds.
    pub fn() -> u64,
);

impl std::fmt::Debug for Clock {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Clock")
    }
}

/// How an answer reaches the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Frames of the caller's own dialect: their payloads are forwarded as they came.
    Verbatim,
    /// Deltas are written anew.
    Translated,
}

/// Reads an answer. Stateful: zero to many deltas per frame, and a verdict at the end.
pub trait Decode: Send {
    /// Reads one frame of a stream. `Some`: this frame ends it, and the end must not be taken from
    /// anything else. Deltas of that frame still count.
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End>;
    /// Reads a whole answer that was not streamed.
    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End;
    /// The bytes ended without a frame that ends the stream: was it an end all the same?
    fn finish(&mut self) -> End;
}

/// Writes an answer: only legal sequences of its dialect, whatever order deltas come in.
pub trait Encode: Send {
    /// One upstream frame and what was read in it. Never called with a frame that ended the stream
    /// unless it carried deltas, and then before [`Encode::finish`].
    fn frame(&mut self, frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut);
    /// The only place that writes a terminator or an error, never both. `last` is the frame that
    /// ended the stream, if one did. A collecting encoder writes its body here when `end` is
    /// [`End::Complete`], and nothing otherwise: the caller of this method then answers with a status.
    fn finish(&mut self, end: &End, last: Option<&Frame>, out: &mut BytesMut);
}
