//! The `cohere` dialect: Cohere's chat API of the second version, towards callers and towards upstreams.
//!
//! This file only maps each task to its module. No module reads another dialect's shapes or closes an
//! answer that its upstream did not close.

use bytes::Bytes;

use super::{
    CallerDialect, Decode, Dialect, Encode, Endpoint, Envelope, Form, Mode, Quirks, RequestView,
    ResponseContext, Target,
};
use crate::chat::{ApiError, Rendered, Request};
use crate::embeddings::{self as embedding, EmbedRequest};
use crate::model_list::ModelInfo;

mod answer;
mod collect;
mod decode;
mod embed;
mod encode;
mod error;
mod event;
mod finish;
mod list;
mod prompt;
mod read;
mod read_turns;
mod request;
mod write;

/// Paths of the vendor's API that are not served, and their names: docs.cohere.com/reference.
const UNSERVED: [(&str, &str); 10] = [
    ("/v2/embed", "embed"),
    ("/v2/rerank", "rerank"),
    ("/v1/chat", "chat of the first version"),
    ("/v1/embed", "embed"),
    ("/v1/embed-jobs", "embed jobs"),
    ("/v1/datasets", "datasets"),
    ("/v1/classify", "classify"),
    ("/v1/tokenize", "tokenize"),
    ("/v1/detokenize", "detokenize"),
    ("/v1/connectors", "connectors"),
];

/// The dialect.
#[derive(Debug)]
pub(super) struct Cohere;

impl Dialect for Cohere {
    fn name(&self) -> &'static str {
        "cohere"
    }

    fn as_caller(&self) -> Option<&'static dyn CallerDialect> {
        Some(&Self)
    }

    fn default_base_url(&self) -> &'static str {
        "https://api.cohere.com"
    }

    fn path(&self, target: &Target<'_>) -> String {
        let path = if target.form == Form::Embeddings { embed::PATH } else { "/v2/chat" };
        path.to_owned()
    }

    fn output_limits(&self) -> &'static [&'static str] {
        &["max_tokens"]
    }

    fn edit_request(&self, body: &str, target: &Target<'_>) -> Result<String, ApiError> {
        request::edit(body, target)
    }

    fn encode_embeddings(
        &self,
        request: &EmbedRequest,
        target: &Target<'_>,
    ) -> Result<String, ApiError> {
        Ok(embed::write(request, target))
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>) -> Result<String, ApiError> {
        write::request(request, target)
    }

    fn list_path(&self, _quirks: &Quirks) -> Option<&'static str> {
        Some(list::PATH)
    }

    fn read_list(&self, body: &[u8]) -> Result<Vec<ModelInfo>, ApiError> {
        list::read(body)
    }

    fn decoder(&self, form: Form) -> Box<dyn Decode> {
        match form {
            Form::Embeddings => Box::new(embedding::Decoder(embed::answer)),
            _ => Box::new(decode::Decoder::default()),
        }
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError {
        error::response(status, body)
    }
}

impl CallerDialect for Cohere {
    fn name(&self) -> &'static str {
        "cohere"
    }

    fn endpoints(&self) -> &'static [Endpoint] {
        &[
            Endpoint { path: "/v2/chat", form: Form::Chat },
            Endpoint { path: embed::PATH, form: Form::Embeddings },
        ]
    }

    /// The vendor's SDKs send it, which distinguishes them at the list of models.
    fn marker(&self) -> Option<&'static str> {
        Some("x-fern-sdk-name")
    }

    fn envelope(&self, asked: &RequestView<'_>) -> Result<Envelope, ApiError> {
        let read = request::envelope(asked)?;
        Ok(Envelope { stream: read.stream && asked.form == Form::Chat, ..read })
    }

    fn prepend(&self, body: &str, prompt: &Rendered) -> Result<String, ApiError> {
        prompt::prepend(body, prompt)
    }

    fn decode_request(&self, _form: Form, body: &str) -> Result<Request, ApiError> {
        read::request(body)
    }

    fn decode_embeddings(&self, _form: Form, body: &str) -> Result<EmbedRequest, ApiError> {
        embed::request(body)
    }

    fn echo(&self, form: Form, body: &str) -> String {
        if form == Form::Embeddings { embed::echo(body) } else { String::new() }
    }

    fn own_name(&self, field: &str) -> Option<&'static str> {
        match field {
            "input" => Some("texts"),
            "stop" => Some("stop_sequences"),
            _ => None,
        }
    }

    fn encoder(&self, call: &ResponseContext, mode: Mode) -> Box<dyn Encode> {
        match mode {
            Mode::Verbatim => Box::new(encode::Verbatim { stream: call.stream }),
            Mode::Translated if call.form == Form::Embeddings => {
                Box::new(embedding::Encoder::new(call, embed::reply))
            }
            Mode::Translated if call.stream => Box::new(encode::Stream::new(call)),
            Mode::Translated => Box::new(collect::Collect::new(call)),
        }
    }

    fn error_body(&self, fault: &ApiError, request_id: &str, _retry_after: Option<u64>) -> String {
        error::body(fault, request_id)
    }

    fn takes_comments(&self) -> bool {
        true
    }

    /// A comment, which the vendor's SDKs skip.
    fn heartbeat(&self, _call: &ResponseContext) -> Bytes {
        Bytes::from_static(b": ping\n")
    }

    fn root(&self) -> Option<&'static str> {
        Some("/v2/")
    }

    fn models(&self, models: &[ModelInfo], query: &str) -> Result<String, ApiError> {
        list::list(models, query)
    }

    fn model(&self, model: &ModelInfo) -> String {
        list::model(model).to_string()
    }

    fn unserved(&self) -> &'static [(&'static str, &'static str)] {
        &UNSERVED
    }
}
