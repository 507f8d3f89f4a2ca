//! The `gemini` dialect: Google's `generateContent`, of the Gemini API and of Vertex AI, towards callers
//! and towards upstreams.
//!
//! This file only maps each task to its module. No module reads another dialect's shapes, makes up a
//! signature, or closes an answer that its upstream did not close.

use bytes::Bytes;

use super::{
    CallerDialect, Decode, Dialect, Encode, Endpoint, Envelope, Form, Mode, Operation, Quirks,
    RequestView, ResponseContext, Target,
};
use crate::chat::{ApiError, HostedTool, Rendered, Request};
use crate::count as counting;
use crate::embeddings::{self as embedding, EmbedRequest};
use crate::framing::Framing;
use crate::model_list::ModelInfo;

mod answer;
mod calls;
mod citations;
mod client_tools;
mod collect;
mod count;
mod decode;
mod embed;
mod encode;
mod error;
mod event;
mod finish;
mod hosted_tools;
mod list;
mod partial;
mod path;
mod prompt;
mod read;
mod read_turns;
mod request;
mod schema;
mod state;
mod turn_parts;
mod write;
mod write_turns;

#[cfg(test)]
mod tests;

/// Paths of the vendor's API that are not served, and their names: ai.google.dev/api.
const UNSERVED: [(&str, &str); 9] = [
    ("/v1beta/files", "files"),
    ("/upload/v1beta/files", "files"),
    ("/v1beta/cachedContents", "context caching"),
    ("/v1beta/batches", "batches"),
    ("/v1beta/tunedModels", "tuned models"),
    ("/v1beta/corpora", "corpora"),
    ("/v1beta/fileSearchStores", "file search stores"),
    ("/v1beta/interactions", "interactions"),
    ("/ws", "live"),
];

/// The dialect.
#[derive(Debug)]
pub(super) struct Gemini;

impl Dialect for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn as_caller(&self) -> Option<&'static dyn CallerDialect> {
        Some(&Self)
    }

    /// With the version: on Vertex AI another path stands in its place.
    fn default_base_url(&self) -> &'static str {
        "https://generativelanguage.googleapis.com/v1beta"
    }

    fn path(&self, target: &Target<'_>) -> String {
        path::write(target.model, target.stream, target.form)
    }

    fn credential(&self) -> (&'static str, &'static str) {
        ("x-goog-api-key", "")
    }

    fn turn(&self, assistant: bool, text: &str) -> (&'static str, serde_json::Value) {
        let role = if assistant { "model" } else { "user" };
        ("contents", serde_json::json!({"role": role, "parts": [{"text": text}]}))
    }

    fn output_limits(&self) -> &'static [&'static str] {
        &[
            "generationConfig.maxOutputTokens",
            "generationConfig.max_output_tokens",
            "generation_config.maxOutputTokens",
            "generation_config.max_output_tokens",
        ]
    }

    fn edit_request(&self, body: &str, target: &Target<'_>) -> Result<String, ApiError> {
        request::edit(&state::without_foreign(body, target.model), target)
    }

    fn form_of(&self, operation: Operation) -> Option<Form> {
        match operation {
            Operation::Chat => Some(Form::Chat),
            Operation::CountTokens => Some(Form::CountTokens),
            Operation::Embeddings => Some(Form::Embeddings),
            _ => None,
        }
    }

    fn counts_tokens(&self, _quirks: &Quirks, _passthrough: bool) -> bool {
        true
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>) -> Result<String, ApiError> {
        let body = write::encode_request(request, target)?;
        if target.form == Form::CountTokens { count::write(&body, target) } else { Ok(body) }
    }

    fn encode_embeddings(
        &self,
        request: &EmbedRequest,
        target: &Target<'_>,
    ) -> Result<String, ApiError> {
        Ok(embed::write(request, target))
    }

    fn framing(&self, content_type: &str) -> Framing {
        // Some gateways send this although the request was for events; a single object is read as well.
        if content_type.starts_with("application/json") { Framing::JsonArray } else { Framing::Sse }
    }

    fn list_path(&self, _quirks: &Quirks) -> Option<&'static str> {
        Some(list::PATH)
    }

    fn read_list(&self, body: &[u8]) -> Result<Vec<ModelInfo>, ApiError> {
        list::read(body)
    }

    fn decoder(&self, form: Form) -> Box<dyn Decode> {
        match form {
            Form::CountTokens => Box::new(counting::Decoder(count::read)),
            Form::Embedding | Form::Embeddings => Box::new(embedding::Decoder(embed::answer)),
            _ => Box::new(decode::Decoder::default()),
        }
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError {
        error::decode(status, body)
    }

    fn retry_after(&self, body: &[u8]) -> Option<u64> {
        error::retry_after(body)
    }
}

impl CallerDialect for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn endpoints(&self) -> &'static [Endpoint] {
        &[
            Endpoint { path: "/v1beta/models/{*rest}", form: Form::Chat },
            // The path that the vendor's Python library uses since its third version.
            Endpoint { path: "/v1/models/{*rest}", form: Form::Chat },
        ]
    }

    fn marker(&self) -> Option<&'static str> {
        Some("x-goog-api-key")
    }

    fn envelope(&self, asked: &RequestView<'_>) -> Result<Envelope, ApiError> {
        request::envelope(asked)
    }

    fn prepend(&self, body: &str, prompt: &Rendered) -> Result<String, ApiError> {
        prompt::prepend(body, prompt)
    }

    fn decode_request(&self, form: Form, body: &str) -> Result<Request, ApiError> {
        if form == Form::CountTokens { count::request(body) } else { read::decode_request(body) }
    }

    fn decode_embeddings(&self, form: Form, body: &str) -> Result<EmbedRequest, ApiError> {
        embed::request(form, body)
    }

    fn split_hosted_tools(
        &self,
        body: &str,
    ) -> Result<Option<(Vec<HostedTool>, String)>, ApiError> {
        hosted_tools::split(body)
    }

    fn own_name(&self, field: &str) -> Option<&'static str> {
        match field {
            "messages" => Some("contents"),
            "input" => Some("requests"),
            "input_type" => Some("taskType"),
            "n" => Some("generationConfig.candidateCount"),
            "stop" => Some("generationConfig.stopSequences"),
            "logprobs" => Some("generationConfig.responseLogprobs"),
            "top_logprobs" => Some("generationConfig.logprobs"),
            "tool_choice" => Some("toolConfig.functionCallingConfig"),
            _ => None,
        }
    }

    fn encoder(&self, call: &ResponseContext, mode: Mode) -> Box<dyn Encode> {
        match (mode, call.stream) {
            (Mode::Verbatim, true) => Box::new(encode::Verbatim::new(call)),
            (Mode::Verbatim, false) => Box::new(collect::Verbatim),
            (Mode::Translated, _) if call.form == Form::CountTokens => {
                Box::new(counting::Encoder::new(count::answer))
            }
            (Mode::Translated, _) if [Form::Embedding, Form::Embeddings].contains(&call.form) => {
                Box::new(embedding::Encoder::new(call, embed::reply))
            }
            (Mode::Translated, true) => Box::new(encode::Translated::new(call)),
            (Mode::Translated, false) => Box::new(collect::Translated::new(call)),
        }
    }

    fn media_type(&self, call: &ResponseContext) -> &'static str {
        if call.form == Form::ChatArray { "application/json" } else { "text/event-stream" }
    }

    fn error_body(&self, fault: &ApiError, request_id: &str, retry_after: Option<u64>) -> String {
        error::response(fault, request_id, retry_after)
    }

    /// A chunk with nothing in it. An empty object would do for the vendor's libraries, too, but a
    /// chat of theirs forgets every turn with a chunk that has no parts.
    fn heartbeat(&self, call: &ResponseContext) -> Bytes {
        if call.form == Form::ChatArray {
            return Bytes::from_static(b"\n");
        }
        Bytes::from_static(
            b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},\"index\":0}]}\n\n",
        )
    }

    fn models_path(&self) -> &'static str {
        "/v1beta/models"
    }

    fn model_prefix(&self) -> Option<&'static str> {
        Some("/v1beta/models/")
    }

    fn is_posted(&self, path: &str) -> bool {
        path::read(path, "").is_ok()
    }

    fn root(&self) -> Option<&'static str> {
        Some("/v1beta/")
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
