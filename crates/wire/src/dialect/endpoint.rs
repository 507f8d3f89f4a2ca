//! Endpoints of dialects, and the fields of requests that the gateway itself needs. Data only.

use super::Form;

/// An endpoint that the gateway answers by itself, without an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InfoEndpoint {
    /// The path.
    pub path: &'static str,
    /// Whether it is `POST`, with a body, instead of `GET`.
    pub posted: bool,
    /// Whether only callers with a key are answered.
    pub needs_key: bool,
    /// The response's media type.
    pub media_type: &'static str,
}

impl InfoEndpoint {
    /// `GET` with a key, answered in JSON.
    pub(super) const fn get(path: &'static str) -> Self {
        Self { path, posted: false, needs_key: true, media_type: "application/json" }
    }
}

/// A path of the gateway that takes `POST` requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Its path. `{*rest}` at the end stands for one or more segments, which the dialect reads.
    pub path: &'static str,
    /// The form of its requests and responses.
    pub form: Form,
}

impl Endpoint {
    /// Whether further segments follow.
    pub fn is_open(&self) -> bool {
        self.path.contains('{')
    }

    /// Prefix of every path that leads here.
    pub fn prefix(&self) -> &'static str {
        self.path.split_once('{').map_or(self.path, |(prefix, _)| prefix)
    }
}

/// A caller's request, as far as a dialect reads its envelope.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The endpoint's form.
    pub form: Form,
    /// The path as it was sent, percent-encoded.
    pub path: &'a str,
    /// The query without its question mark; empty if there is none.
    pub query: &'a str,
    /// The body.
    pub body: &'a str,
}

/// The fields of any request that the gateway itself needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The model that the caller names.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether the caller requests usage in the stream.
    pub want_usage: bool,
    /// The endpoint's form, unless the request determines a more specific one.
    pub form: Form,
    /// Limit on output, in tokens for each alternative; `None`: the request has none.
    pub max_output: Option<u64>,
    /// Number of alternatives that are requested.
    pub choices: u64,
    /// The upstream continues to work after its answer has ended or its caller has disconnected.
    pub background: bool,
}
