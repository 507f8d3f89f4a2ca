//! The `ollama` dialect: Ollama's own API, `/api/chat` and `/api/generate`, towards callers and towards
//! upstreams.
//!
//! This file only maps each task to its module. No module reads a clock: the time that every line of this
//! dialect carries is that of the call.

use bytes::Bytes;

use super::{
    CallerDialect, Decode, Dialect, Encode, Endpoint, Envelope, Form, InfoEndpoint, Mode, Quirks,
    RequestView, ResponseContext, Target,
};
use crate::chat::{ApiError, Rendered, Request};
use crate::embeddings::{self as embedding, EmbedRequest};
use crate::error_body;
use crate::framing::Framing;
use crate::model_list::ModelInfo;

mod calls;
mod collect;
mod decode;
mod embed;
mod encode;
mod error;
mod finish;
mod info;
mod line;
mod list;
mod prompt;
mod read;
mod read_turns;
mod request;
mod write;

/// The media type of its streams.
const MEDIA_TYPE: &str = "application/x-ndjson";

/// Paths of the vendor's API that are not served, and their names: the API documentation in
/// github.com/ollama/ollama. The gateway stores no models.
const UNSERVED: [(&str, &str); 9] = [
    ("/api/pull", "pull"),
    ("/api/push", "push"),
    ("/api/create", "create"),
    ("/api/copy", "copy"),
    ("/api/delete", "delete"),
    ("/api/blobs", "blobs"),
    ("/api/embeddings", "embeddings"),
    ("/api/me", "account"),
    ("/api/signout", "account"),
];

/// The dialect.
#[derive(Debug)]
pub(super) struct Ollama;

impl Dialect for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn as_caller(&self) -> Option<&'static dyn CallerDialect> {
        Some(&Self)
    }

    fn default_base_url(&self) -> &'static str {
        "http://127.0.0.1:11434"
    }

    /// A local server needs no key, so no environment variable announces one.
    fn path(&self, target: &Target<'_>) -> String {
        let path = match target.form {
            Form::Generate => "/api/generate",
            Form::Embeddings => "/api/embed",
            Form::Embedding => "/api/embeddings",
            _ => "/api/chat",
        };
        path.to_owned()
    }

    fn output_limits(&self) -> &'static [&'static str] {
        &["options.num_predict"]
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

    fn media_type(&self) -> &'static str {
        MEDIA_TYPE
    }

    /// A whole answer, which a request to load a model gets, is a stream of one line.
    fn framing(&self, _content_type: &str) -> Framing {
        Framing::Ndjson
    }

    fn list_path(&self, _quirks: &Quirks) -> Option<&'static str> {
        Some(list::PATH)
    }

    fn read_list(&self, body: &[u8]) -> Result<Vec<ModelInfo>, ApiError> {
        list::read(body)
    }

    fn decoder(&self, form: Form) -> Box<dyn Decode> {
        match form {
            Form::Embeddings | Form::Embedding => Box::new(embedding::Decoder(embed::answer)),
            _ => Box::new(decode::Decoder::default()),
        }
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError {
        error_body::response(status, body)
    }
}

impl CallerDialect for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn endpoints(&self) -> &'static [Endpoint] {
        &[
            Endpoint { path: "/api/chat", form: Form::Chat },
            Endpoint { path: "/api/generate", form: Form::Generate },
            Endpoint { path: "/api/embed", form: Form::Embeddings },
            Endpoint { path: "/api/embeddings", form: Form::Embedding },
        ]
    }

    fn reads_any_media_type(&self) -> bool {
        true
    }

    fn envelope(&self, asked: &RequestView<'_>) -> Result<Envelope, ApiError> {
        request::envelope(asked)
    }

    fn prepend(&self, body: &str, prompt: &Rendered) -> Result<String, ApiError> {
        prompt::prepend(body, prompt)
    }

    fn decode_request(&self, form: Form, body: &str) -> Result<Request, ApiError> {
        read::request(form, body)
    }

    fn decode_embeddings(&self, form: Form, body: &str) -> Result<EmbedRequest, ApiError> {
        embed::request(form, body)
    }

    fn own_name(&self, field: &str) -> Option<&'static str> {
        match field {
            "stop" => Some("options.stop"),
            _ => None,
        }
    }

    fn encoder(&self, call: &ResponseContext, mode: Mode) -> Box<dyn Encode> {
        match mode {
            Mode::Verbatim => Box::new(encode::Verbatim::new(call)),
            Mode::Translated if [Form::Embeddings, Form::Embedding].contains(&call.form) => {
                Box::new(embedding::Encoder::new(call, embed::reply))
            }
            Mode::Translated if call.stream => Box::new(encode::Stream::new(call)),
            Mode::Translated => Box::new(collect::Collect::new(call)),
        }
    }

    fn media_type(&self, _call: &ResponseContext) -> &'static str {
        MEDIA_TYPE
    }

    /// The request's id has no place in this dialect's errors; it is in a header.
    fn error_body(&self, fault: &ApiError, _request_id: &str, _retry_after: Option<u64>) -> String {
        error::body(fault)
    }

    /// A line without content: ollama-python reads every line as JSON, blank ones included.
    fn heartbeat(&self, call: &ResponseContext) -> Bytes {
        line::silent(call)
    }

    fn models_path(&self) -> &'static str {
        list::PATH
    }

    fn model_prefix(&self) -> Option<&'static str> {
        None
    }

    fn root(&self) -> Option<&'static str> {
        Some("/api/")
    }

    fn models(&self, models: &[ModelInfo], _query: &str) -> Result<String, ApiError> {
        Ok(list::list(models))
    }

    /// There is no path that shows one.
    fn model(&self, model: &ModelInfo) -> String {
        list::list(std::slice::from_ref(model))
    }

    fn unserved(&self) -> &'static [(&'static str, &'static str)] {
        &UNSERVED
    }

    fn info_endpoints(&self) -> &'static [InfoEndpoint] {
        &info::ENDPOINTS
    }

    fn info_model(&self, endpoint: &InfoEndpoint, body: &str) -> Result<Option<String>, ApiError> {
        info::model(endpoint.path, body)
    }

    fn info_body(&self, endpoint: &InfoEndpoint, model: Option<&ModelInfo>) -> String {
        info::answer(endpoint.path, model)
    }
}
