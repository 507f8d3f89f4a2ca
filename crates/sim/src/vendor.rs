//! The simulated vendors: one file each, one line in [`VENDORS`].
//!
//! A vendor defines its own protocol only. The content of an answer is determined elsewhere.

use axum::http::Uri;
use serde_json::Value;

use super::encoder::Encoder;
use super::request::{RequestError, SimRequest};
use super::{
    anthropic, anthropic_hosted, bedrock, cohere, embeddings, gemini, ollama, openai,
    openai_passthrough, openai_responses,
};

/// All vendors.
pub(super) static VENDORS: &[&dyn Vendor] = &[
    &openai::OpenAi,
    &openai_passthrough::OpenAiPassed,
    &embeddings::Embeddings::OpenAi,
    &embeddings::Embeddings::Ollama,
    &embeddings::Embeddings::Cohere,
    &openai_responses::Responses,
    &anthropic::Anthropic,
    &ollama::Ollama,
    &cohere::Cohere,
    &anthropic_hosted::OnBedrock,
    &anthropic_hosted::OnVertex,
    &bedrock::Bedrock,
    &gemini::Gemini,
];

/// A vendor's protocol.
pub(super) trait Vendor: Sync {
    /// Paths of the endpoints, all with the method POST.
    fn paths(&self) -> &'static [&'static str];
    /// The response header that carries the request's id.
    fn request_id(&self) -> &'static str {
        "x-request-id"
    }
    /// Reads a request as strictly as the vendor does.
    fn read(&self, uri: &Uri, body: &[u8]) -> Result<SimRequest, RequestError>;
    /// The encoder of the answer with this number.
    fn encoder(&self, number: u64, ask: &SimRequest) -> Box<dyn Encoder>;
    /// The body of an error.
    fn refusal(&self, refused: &RequestError, request_id: &str) -> Value;
    /// The type of an error, if it is sent in the header `x-amzn-errortype`.
    fn error_type(&self, _refused: &RequestError) -> Option<&'static str> {
        None
    }
    /// Error message for a missing member.
    fn missing(&self, field: &str) -> String {
        format!("Missing required parameter: '{field}'.")
    }
    /// Error message for a member of another type than `wanted`.
    fn wrong_type(&self, field: &str, wanted: &str) -> String {
        format!("Invalid type for '{field}': expected {wanted}.")
    }
}
