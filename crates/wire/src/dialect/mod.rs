//! Dialects: the vendors' wire languages. One file or folder each, one line in [`DIALECTS`].
//!
//! A dialect never names another one, and no other file names a dialect.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::chat::{ApiError, Delta, End, HostedTool, Kind, Rendered, Request, ToolForms};
use super::continuation::{self, Written};
use super::embeddings::EmbedRequest;
use super::framing::{Frame, Framing};
use super::model_list::{self, ModelInfo};
use super::reset;

mod anthropic;
mod bedrock;
mod cohere;
mod endpoint;
mod gemini;
mod ollama;
mod openai_chat;
mod openai_responses;
mod operation;
mod state_api;
mod target;

pub use endpoint::{Endpoint, Envelope, InfoEndpoint, RequestView};
pub use operation::{Form, Operation};
pub use state_api::{References, StateApi};
pub use target::{Hosting, Quirks, Target};

/// Every dialect, in the order of precedence on shared paths: the first one answers callers that do not
/// identify their dialect.
pub static DIALECTS: &[&dyn Dialect] = &[
    &openai_chat::OpenAiChat,
    &openai_responses::OpenAiResponses,
    &anthropic::Anthropic,
    &gemini::Gemini,
    &ollama::Ollama,
    &cohere::Cohere,
    &bedrock::Bedrock,
];

/// The dialect of responses to callers that do not identify theirs.
pub static DEFAULT: &dyn CallerDialect = &openai_chat::OpenAiChat;

/// Finds a dialect by its name in the configuration.
pub fn by_name(name: &str) -> Option<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|dialect| dialect.name() == name)
}

/// The dialects that callers may use, in the order of [`DIALECTS`].
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

/// Whether a path is another one, or continues it with a further segment.
pub fn is_at_or_below(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Refuses a name that would not be a segment of a path, but a step within it.
fn must_be_segment(model: &str) -> Result<(), ApiError> {
    if ["", ".", ".."].contains(&model) {
        return Err(ApiError::field("model", "must name a model of this provider"));
    }
    Ok(())
}

/// A vendor's API, as used towards its upstreams.
pub trait Dialect: Sync {
    /// Its name in the configuration, in metrics and in records.
    fn name(&self) -> &'static str;
    /// The same dialect towards callers, if callers may use it.
    fn as_caller(&self) -> Option<&'static dyn CallerDialect>;
    /// The vendor's public address, as its SDK has it.
    fn default_base_url(&self) -> &'static str;
    /// The path below the base URL that requests are sent to, with its leading slash, and the query if
    /// there is one.
    fn path(&self, target: &Target<'_>) -> String;
    /// The header that carries the credential, and the prefix before the credential.
    fn credential(&self) -> (&'static str, &'static str) {
        ("authorization", "Bearer ")
    }
    /// Headers that every request carries, name and value, unless the caller gave one of the
    /// same name that is forwarded.
    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
    /// Name of the forwarded header that lists beta features, separated by commas.
    fn beta_header(&self) -> Option<&'static str> {
        None
    }
    /// Paths of the members in a body that limit the output.
    fn output_limits(&self) -> &'static [&'static str];
    /// Adapts the caller's own JSON for an upstream of the same dialect, by surgery: everything but
    /// the edited members stays byte for byte.
    fn edit_request(&self, body: &str, target: &Target<'_>) -> Result<String, ApiError>;
    /// The same for a hosting platform, which reads in the body the values that the vendor reads in
    /// headers. `_header` returns a forwarded header by its name.
    fn edit_hosted(
        &self,
        body: &str,
        target: &Target<'_>,
        _header: &dyn Fn(&str) -> Option<String>,
    ) -> Result<String, ApiError> {
        self.edit_request(body, target)
    }
    /// The form of an operation in this dialect; `None`: it has none. Most have chats and embeddings.
    fn form_of(&self, operation: Operation) -> Option<Form> {
        let forms = [Form::Chat, Form::Embeddings];
        forms.into_iter().find(|form| form.operation() == operation)
    }
    /// A turn of text in a request: the member of the body that has the turns, and the turn. `assistant`: the model's,
    /// else the user's.
    fn turn(&self, assistant: bool, text: &str) -> (&'static str, serde_json::Value) {
        continuation::plain_turn(assistant, text)
    }
    /// Whether upstreams have an endpoint that counts tokens. `passthrough`: the caller uses this dialect,
    /// too.
    fn counts_tokens(&self, _quirks: &Quirks, _passthrough: bool) -> bool {
        false
    }
    /// Writes a request for a chat, or for the count of its tokens if that is the target's form. Rejects,
    /// by field, any content that this dialect cannot express.
    fn encode_request(&self, request: &Request, target: &Target<'_>) -> Result<String, ApiError>;
    /// Writes a request for embeddings, where the dialect has a form of it.
    fn encode_embeddings(
        &self,
        _request: &EmbedRequest,
        _target: &Target<'_>,
    ) -> Result<String, ApiError> {
        Err(Operation::Embeddings.untranslatable())
    }
    /// The media type of its streams, which requests for streams accept.
    fn media_type(&self) -> &'static str {
        "text/event-stream"
    }
    /// The value of the `accept` header of a request.
    fn accept(&self, target: &Target<'_>) -> &'static str {
        if target.stream { self.media_type() } else { "application/json" }
    }
    /// Framing of the response to a request for a stream, by its `content-type`. Some upstreams respond
    /// with a whole body instead of a stream.
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
    /// The path below the base URL that lists the provider's models, and the query; `None`: there is no list.
    fn list_path(&self, _quirks: &Quirks) -> Option<&'static str> {
        None
    }
    /// Reads that list.
    fn read_list(&self, _body: &[u8]) -> Result<Vec<ModelInfo>, ApiError> {
        Ok(Vec::new())
    }
    /// A state machine that reads an answer to a request of this form.
    fn decoder(&self, form: Form) -> Box<dyn Decode>;
    /// Reads the body of an error response. Never fails: an unreadable body is reported by its status.
    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError;
    /// Seconds to wait before a retry, from the body of an error response. For vendors that send no
    /// `retry-after` header.
    fn retry_after(&self, _body: &[u8]) -> Option<u64> {
        None
    }
}

/// A vendor's API, as callers of the gateway use it.
pub trait CallerDialect: Sync {
    /// The dialect's name.
    fn name(&self) -> &'static str;
    /// The endpoints to which callers of this dialect send `POST` requests.
    fn endpoints(&self) -> &'static [Endpoint];
    /// Name of a request header that identifies callers of this dialect on shared paths.
    fn marker(&self) -> Option<&'static str> {
        None
    }
    /// Whether the vendor reads every request body as JSON, so that clients may send another media type or
    /// none.
    fn reads_any_media_type(&self) -> bool {
        false
    }
    /// Reads only the fields that the gateway itself needs: unknown fields are accepted.
    fn envelope(&self, asked: &RequestView<'_>) -> Result<Envelope, ApiError>;
    /// Puts a filled-in prompt into a request of the form [`Form::Chat`], by surgery: its messages before
    /// the caller's own, its model and parameters, under the dialect's own names, where the caller sets
    /// none. Removes the member `prompt`, which is not for upstreams. A request without messages is
    /// accepted.
    fn prepend(&self, body: &str, prompt: &Rendered) -> Result<String, ApiError>;
    /// Whether a prompt of this id is stored at the vendor, so that the gateway does not resolve it.
    fn keeps_prompt(&self, _id: &str) -> bool {
        false
    }
    /// Reads a whole request for a chat or for the count of its tokens, for translation. The error names
    /// the field that is invalid or cannot be translated.
    fn decode_request(&self, form: Form, body: &str) -> Result<Request, ApiError>;
    /// The hosted tools of a request, and the request without them, every other byte as it was. `None`:
    /// there are none.
    fn split_hosted_tools(
        &self,
        _body: &str,
    ) -> Result<Option<(Vec<HostedTool>, String)>, ApiError> {
        Ok(None)
    }
    /// Reads a whole request for embeddings, for translation, where the dialect has a form of it.
    fn decode_embeddings(&self, _form: Form, _body: &str) -> Result<EmbedRequest, ApiError> {
        Err(Operation::Embeddings.untranslatable())
    }
    /// This dialect's name for a field of [`Request`]; `None`: the same name.
    fn own_name(&self, _field: &str) -> Option<&'static str> {
        None
    }
    /// The part of a request that a translated response repeats, in the dialect's own format. It is the
    /// value of [`ResponseContext::echo`].
    fn echo(&self, _form: Form, _body: &str) -> String {
        String::new()
    }
    /// A state machine that writes an answer.
    fn encoder(&self, call: &ResponseContext, mode: Mode) -> Box<dyn Encode>;
    /// The media type of a streamed answer.
    fn media_type(&self, _call: &ResponseContext) -> &'static str {
        "text/event-stream"
    }
    /// The status of an error.
    fn status(&self, kind: Kind) -> u16 {
        kind.status()
    }
    /// The JSON body of an error. `retry_after`: seconds to wait before a retry, if known.
    fn error_body(&self, fault: &ApiError, request_id: &str, retry_after: Option<u64>) -> String;
    /// Bytes that keep a silent stream open, safe at any event boundary for every known client.
    fn heartbeat(&self, call: &ResponseContext) -> Bytes;
    /// Whether every known client skips comments in a stream.
    fn takes_comments(&self) -> bool {
        false
    }
    /// The rate limit headers: the limit, the remainder and the time of the full reset; for requests, and
    /// for tokens. Most vendors have adopted the same names.
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
    /// The value of the reset header: `wait_ms` milliseconds from now. Now is `_unix_ms`, in Unix
    /// milliseconds.
    fn reset(&self, wait_ms: u64, _unix_ms: u64) -> String {
        reset::duration(wait_ms)
    }
    /// The vendor's state between requests, if its API has any.
    fn state(&self) -> Option<&'static dyn StateApi> {
        None
    }
    /// The path that lists the models. Dialects may share it; the marker distinguishes them there.
    fn models_path(&self) -> &'static str {
        "/v1/models"
    }
    /// Prefix before the model's name in the path of a single model; `None`: there is no such path.
    fn model_prefix(&self) -> Option<&'static str> {
        Some("/v1/models/")
    }
    /// Whether a path below [`Self::model_prefix`] is an endpoint for `POST` requests.
    fn is_posted(&self, _path: &str) -> bool {
        false
    }
    /// Prefix of all paths that belong to this vendor alone; `None`: there is none.
    fn root(&self) -> Option<&'static str> {
        None
    }
    /// The JSON body of a list of models, or of the page that the query requests.
    fn models(&self, models: &[ModelInfo], query: &str) -> Result<String, ApiError> {
        Ok(model_list::openai_list(models, query))
    }
    /// The JSON body of one model.
    fn model(&self, model: &ModelInfo) -> String {
        model_list::openai_model(model).to_string()
    }
    /// APIs of the vendor that are not served: the prefix of their paths, up to the end of a segment, and
    /// their name.
    fn unserved(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
    /// Whether a path is one of the vendor's, served or not.
    fn has_path(&self, path: &str) -> bool {
        let below = |prefix: Option<&str>| prefix.is_some_and(|prefix| path.starts_with(prefix));
        self.endpoints().iter().any(|endpoint| path.starts_with(endpoint.prefix()))
            || path == self.models_path()
            || below(self.model_prefix())
            || below(self.root())
            || self.unserved().iter().any(|(api, _)| is_at_or_below(path, api))
    }
    /// Further endpoints that the gateway answers by itself.
    fn info_endpoints(&self) -> &'static [InfoEndpoint] {
        &[]
    }
    /// The model that a request to such an endpoint is about, if it is about one.
    fn info_model(
        &self,
        _endpoint: &InfoEndpoint,
        _body: &str,
    ) -> Result<Option<String>, ApiError> {
        Ok(None)
    }
    /// The body of the response, with the model that the request is about.
    fn info_body(&self, _endpoint: &InfoEndpoint, _model: Option<&ModelInfo>) -> String {
        String::new()
    }
}

/// The context in which a response is written: its identity, which the gateway draws so that encoders stay
/// pure, and the options of its request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResponseContext {
    /// 24 random ASCII letters and digits.
    pub id: String,
    /// Unix seconds.
    pub created: u64,
    /// The model as the caller named it; a name that the upstream sends overrides it.
    pub model: String,
    /// Stream or collect.
    pub stream: bool,
    /// Show usage in the stream.
    pub want_usage: bool,
    /// The form of the request, which its answer has too.
    pub form: Form,
    /// The part of the request that a translated response repeats, in the dialect's own format.
    pub echo: String,
    /// Forms of the request's tools in the caller's dialect.
    pub tool_forms: ToolForms,
    /// Tokens of input, as estimated by the gateway. Reported until the upstream sends its count.
    pub input_estimate: u64,
    /// Clock that is read when the answer is complete.
    #[serde(skip)]
    pub now: Clock,
}

/// Source of the time: the wire has no clock of its own.
#[derive(Clone)]
pub struct Clock {
    read: fn() -> u64,
    /// The time at which it was stopped.
    stopped: Option<Arc<OnceLock<u64>>>,
}

impl Clock {
    /// A clock that is read in Unix seconds.
    pub fn new(read: fn() -> u64) -> Self {
        Self { read, stopped: None }
    }

    /// The same, which stops when it is first read: all forms of one answer then have the same time.
    #[must_use]
    pub fn stopping(&self) -> Self {
        Self { read: self.read, stopped: Some(Arc::default()) }
    }

    /// A clock that has stopped at this time.
    pub fn stopped_at(unix: u64) -> Self {
        Self { read: || 0, stopped: Some(Arc::new(OnceLock::from(unix))) }
    }

    /// The time.
    pub fn unix(&self) -> u64 {
        self.stopped.as_ref().map_or_else(self.read, |at| *at.get_or_init(self.read))
    }

    /// Stops it at this time, if it is to stop and has not.
    pub fn stop(&self, unix: u64) {
        if let Some(at) = &self.stopped {
            at.get_or_init(|| unix);
        }
    }

    /// The time at which it has stopped.
    pub fn stopped(&self) -> Option<u64> {
        self.stopped.as_ref()?.get().copied()
    }
}

/// 1970, for a context whose clock is not known yet.
impl Default for Clock {
    fn default() -> Self {
        Self::new(|| 0)
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Clock")
    }
}

/// The way an answer is passed to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Frames of the caller's own dialect: their payloads are forwarded unchanged.
    Verbatim,
    /// Deltas are written anew.
    Translated,
}

/// Reads an answer. Stateful: zero to many deltas per frame, and a verdict at the end.
pub trait Decode: Send {
    /// Gives the answer a name of the gateway's, before its first frame. Ids of tool calls that the
    /// upstream leaves out are made from it. Without a name they are made from the upstream's own metadata,
    /// which may be the same for every answer; callers would then mistake a call for an earlier one.
    fn name(&mut self, _answer: &str) {}
    /// Reads one frame of a stream. `Some`: this frame ends it, and the end must not be taken from
    /// anything else. Deltas of that frame still count.
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End>;
    /// Whether the first frame of a stream is a whole answer, which some servers wrap in one event. It is
    /// then read as one.
    fn is_whole(&self, _frame: &Frame) -> bool {
        false
    }
    /// Reads a whole answer that was not streamed.
    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End;
    /// The verdict when the bytes end without a frame that ends the stream.
    fn finish(&mut self) -> End;
    /// Bytes that have been read and are buffered because they are not deltas yet.
    fn kept(&self) -> usize {
        0
    }
}

/// Writes an answer: only legal sequences of its dialect, for any order of deltas.
pub trait Encode: Send {
    /// Writes one upstream frame, given with its deltas. Never called with a frame that ended the stream
    /// unless it carried deltas, and then before [`Encode::finish`].
    fn frame(&mut self, frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut);
    /// The only place that writes a terminator or an error, never both. `last` is the frame that
    /// ended the stream, if one did. A collecting encoder writes its body here when `end` is
    /// [`End::Complete`], and nothing otherwise: the caller of this method then answers with a status.
    fn finish(&mut self, end: &End, last: Option<&Frame>, out: &mut BytesMut);
    /// Goes on with a stream that has been passed through so far, as if this encoder had written it. Returns whether it
    /// can. Called before anything else.
    fn resume(&mut self, written: &Written<'_>) -> bool {
        self.frame(&Frame::default(), &written.deltas, &mut BytesMut::new());
        true
    }
    /// Whether the encoder buffers a delta's content after writing it, since a later event repeats it.
    fn keeps(&self, _delta: &Delta<'_>) -> bool {
        false
    }
    /// The end of a stream's body after [`Encode::finish`]. Called once.
    fn ending(&mut self) -> Ending {
        Ending::Closed
    }
}

/// The end of a stream's body, once all of it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ending {
    /// As HTTP ends a body: with the last chunk, or `END_STREAM`.
    #[default]
    Closed,
    /// Without it (HTTP/2: `RST_STREAM`): some or all releases of this dialect's client libraries ignore an
    /// error event, but report a body that is cut.
    Aborted {
        /// The error once more, in a separate write, in a form that those libraries recognise; may be
        /// empty.
        error: Bytes,
    },
}
