//! The `openai-responses` dialect: `OpenAI`'s Responses API, towards callers and towards upstreams.
//!
//! This file only implements the dialect's traits; each sibling file does one of its tasks. No module
//! keeps anything between requests: the gateway does (`state.rs`), for upstreams that keep no state.

use bytes::Bytes;

use super::{
    CallerDialect, Decode, Dialect, Encode, Endpoint, Envelope, Form, Mode, Operation, Quirks,
    RequestView, ResponseContext, StateApi, Target,
};
use crate::chat::{ApiError, HostedTool, Kind, Rendered, Request};
use crate::count as counting;
use crate::error_body;
use crate::model_list::{self, ModelInfo};

mod calls;
mod client_tools;
mod count;
mod decode;
mod echo;
mod encode;
mod error;
mod event;
mod finish;
mod hosted_tools;
mod items;
mod output;
mod passthrough;
mod prompt;
mod read;
mod read_calls;
mod read_choice;
mod read_tools;
mod read_turns;
mod request;
mod response;
mod search;
mod state;
#[cfg(test)]
mod tests;
mod verbatim;
mod write;
mod write_event;
mod write_turns;

/// The dialect.
#[derive(Debug)]
pub(super) struct OpenAiResponses;

impl Dialect for OpenAiResponses {
    fn name(&self) -> &'static str {
        "openai-responses"
    }

    fn as_caller(&self) -> Option<&'static dyn CallerDialect> {
        Some(&Self)
    }

    fn default_base_url(&self) -> &'static str {
        "https://api.openai.com/v1"
    }

    /// `None`: the vendor's key makes a provider of its other dialect, which more upstreams support.
    fn path(&self, target: &Target<'_>) -> String {
        passthrough::path(target.form).to_owned()
    }

    fn turn(&self, assistant: bool, text: &str) -> (&'static str, serde_json::Value) {
        ("input", crate::continuation::plain_turn(assistant, text).1)
    }

    fn output_limits(&self) -> &'static [&'static str] {
        &["max_output_tokens"]
    }

    fn edit_request(&self, body: &str, target: &Target<'_>) -> Result<String, ApiError> {
        request::edit(body, target)
    }

    fn form_of(&self, operation: Operation) -> Option<Form> {
        match operation {
            Operation::Chat => Some(Form::Chat),
            Operation::CountTokens => Some(Form::CountTokens),
            _ => None,
        }
    }

    /// Few of the upstreams with partial support of this dialect have the endpoint.
    fn counts_tokens(&self, quirks: &Quirks, passthrough: bool) -> bool {
        passthrough || quirks.vendor
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>) -> Result<String, ApiError> {
        let body = write::request(request, target)?;
        if target.form == Form::CountTokens { count::write(&body) } else { Ok(body) }
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
            Form::CountTokens => Box::new(counting::Decoder(count::read)),
            _ => Box::new(passthrough::Decoder),
        }
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError {
        error_body::response(status, body)
    }
}

impl CallerDialect for OpenAiResponses {
    fn name(&self) -> &'static str {
        "openai-responses"
    }

    fn endpoints(&self) -> &'static [Endpoint] {
        &passthrough::ENDPOINTS
    }

    fn envelope(&self, asked: &RequestView<'_>) -> Result<Envelope, ApiError> {
        let read = request::envelope(asked.body)?;
        let stream = read.stream && asked.form == Form::Chat;
        Ok(Envelope { form: asked.form, stream, ..read })
    }

    fn prepend(&self, body: &str, prompt: &Rendered) -> Result<String, ApiError> {
        prompt::prepend(body, prompt)
    }

    /// Prompts that are kept at the vendor, as their ids have it.
    fn keeps_prompt(&self, id: &str) -> bool {
        id.starts_with("pmpt_")
    }

    fn decode_request(&self, _form: Form, body: &str) -> Result<Request, ApiError> {
        read::request(body)
    }

    fn echo(&self, _form: Form, body: &str) -> String {
        echo::echo(body)
    }

    fn split_hosted_tools(
        &self,
        body: &str,
    ) -> Result<Option<(Vec<HostedTool>, String)>, ApiError> {
        hosted_tools::split(body)
    }

    fn own_name(&self, field: &str) -> Option<&'static str> {
        match field {
            "messages" => Some("input"),
            "logprobs" => Some("include"),
            _ => None,
        }
    }

    fn encoder(&self, call: &ResponseContext, mode: Mode) -> Box<dyn Encode> {
        match (mode, call.stream) {
            (Mode::Verbatim, true) => Box::new(verbatim::Stream::new(call)),
            (Mode::Verbatim, false) => Box::new(verbatim::Whole),
            (Mode::Translated, _) if call.form == Form::CountTokens => {
                Box::new(counting::Encoder::new(count::answer))
            }
            (Mode::Translated, _) => Box::new(encode::Translated::new(call)),
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

    /// A comment without a blank line: openai-python chokes on a block that carries no data.
    fn heartbeat(&self, _call: &ResponseContext) -> Bytes {
        Bytes::from_static(b": ping\n")
    }

    fn state(&self) -> Option<&'static dyn StateApi> {
        Some(&state::State)
    }
}
