//! `OpenAI` chat completions, and the APIs that are compatible with them.
//!
//! This file only implements the dialect's traits; each sibling file does one of its tasks.

use bytes::Bytes;

use super::{
    CallerDialect, Decode, Dialect, Encode, Endpoint, Envelope, Form, Mode, Quirks, RequestView,
    ResponseContext, Target,
};
use crate::chat::{ApiError, HostedTool, Kind, Rendered, Request};
use crate::embeddings::{self as embedding, EmbedRequest};
use crate::error_body;
use crate::model_list::{self, ModelInfo};

mod answer;
mod call_form;
mod calls;
mod collect;
mod decode;
mod embed;
mod encode;
mod error;
mod event;
mod finish;

mod hosted_tools;
mod ids;
mod passthrough;
mod prompt;
mod read;
mod read_turns;
mod request;
mod sources;
mod system_first;
#[cfg(test)]
mod tests;
mod write;

/// Paths of the vendor's API that are not served, and their names: platform.openai.com/docs/api-reference;
/// `rerank` is vLLM's and Jina's.
const UNSERVED: [(&str, &str); 23] = [
    ("/v1/audio", "audio"),
    ("/v1/images", "images"),
    ("/v1/videos", "videos"),
    ("/v1/moderations", "moderations"),
    ("/v1/files", "files"),
    ("/v1/uploads", "uploads"),
    ("/v1/batches", "batches"),
    ("/v1/fine_tuning", "fine-tuning"),
    ("/v1/fine-tunes", "fine-tuning"),
    ("/v1/vector_stores", "vector stores"),
    ("/v1/assistants", "assistants"),
    ("/v1/threads", "assistants"),
    ("/v1/realtime", "realtime"),
    ("/v1/evals", "evals"),
    ("/v1/containers", "containers"),
    ("/v1/skills", "skills"),
    ("/v1/chatkit", "ChatKit"),
    ("/v1/organization", "administration"),
    ("/v1/edits", "edits"),
    ("/v1/rerank", "rerank"),
    ("/v1/score", "score"),
    ("/rerank", "rerank"),
    // Stored completions.
    ("/v1/chat/completions", "stored completions"),
];

/// The dialect.
#[derive(Debug)]
pub(super) struct OpenAiChat;

impl Dialect for OpenAiChat {
    fn name(&self) -> &'static str {
        "openai-chat"
    }

    fn as_caller(&self) -> Option<&'static dyn CallerDialect> {
        Some(&Self)
    }

    fn default_base_url(&self) -> &'static str {
        "https://api.openai.com/v1"
    }

    fn path(&self, target: &Target<'_>) -> String {
        let path = match target.form {
            Form::Completions => "/completions",
            Form::Embeddings => "/embeddings",
            _ => "/chat/completions",
        };
        path.to_owned()
    }

    fn output_limits(&self) -> &'static [&'static str] {
        &["max_completion_tokens", "max_tokens", request::LLAMA_LIMIT]
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
        Some("/models")
    }

    fn read_list(&self, body: &[u8]) -> Result<Vec<ModelInfo>, ApiError> {
        model_list::read_openai(body)
    }

    fn decoder(&self, form: Form) -> Box<dyn Decode> {
        match form {
            Form::Chat => Box::new(decode::Decoder::default()),
            Form::Embeddings => Box::new(embedding::Decoder(embed::answer)),
            _ => Box::new(passthrough::Decoder::default()),
        }
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError {
        error_body::response(status, body)
    }
}

impl CallerDialect for OpenAiChat {
    fn name(&self) -> &'static str {
        "openai-chat"
    }

    fn endpoints(&self) -> &'static [Endpoint] {
        &[
            Endpoint { path: "/v1/chat/completions", form: Form::Chat },
            Endpoint { path: "/v1/completions", form: Form::Completions },
            Endpoint { path: "/v1/embeddings", form: Form::Embeddings },
        ]
    }

    fn envelope(&self, asked: &RequestView<'_>) -> Result<Envelope, ApiError> {
        let read = request::envelope(asked)?;
        let stream = read.stream && asked.form != Form::Embeddings;
        Ok(Envelope { stream, ..read })
    }

    fn prepend(&self, body: &str, prompt: &Rendered) -> Result<String, ApiError> {
        prompt::prepend(body, prompt)
    }

    fn decode_request(&self, _form: Form, body: &str) -> Result<Request, ApiError> {
        read::request(body)
    }

    fn split_hosted_tools(
        &self,
        body: &str,
    ) -> Result<Option<(Vec<HostedTool>, String)>, ApiError> {
        hosted_tools::split(body)
    }

    fn decode_embeddings(&self, _form: Form, body: &str) -> Result<EmbedRequest, ApiError> {
        embed::request(body)
    }

    fn echo(&self, form: Form, body: &str) -> String {
        match form {
            Form::Embeddings => embed::echo(body),
            _ => String::new(),
        }
    }

    fn encoder(&self, call: &ResponseContext, mode: Mode) -> Box<dyn Encode> {
        let (stream, want_usage) = (call.stream, call.want_usage);
        match mode {
            Mode::Verbatim => Box::new(encode::Verbatim { stream, want_usage }),
            Mode::Translated if call.form == Form::Embeddings => {
                Box::new(embedding::Encoder::new(call, embed::reply))
            }
            Mode::Translated if stream => Box::new(encode::Stream::new(call)),
            Mode::Translated => Box::new(collect::Collect::new(call)),
        }
    }

    fn status(&self, kind: Kind) -> u16 {
        if kind == Kind::Billing { 429 } else { kind.status() }
    }

    /// The request's id has no place in this dialect's errors; it is in a header.
    fn error_body(&self, fault: &ApiError, _request_id: &str, _retry_after: Option<u64>) -> String {
        error::body(fault)
    }

    fn takes_comments(&self) -> bool {
        true
    }

    /// A comment without a blank line: openai-python chokes on a block that carries an id and no data.
    fn heartbeat(&self, _call: &ResponseContext) -> Bytes {
        Bytes::from_static(b": ping\n")
    }

    fn unserved(&self) -> &'static [(&'static str, &'static str)] {
        &UNSERVED
    }
}
