//! The `bedrock` dialect: Converse and `ConverseStream` of Amazon Bedrock, towards upstreams only.
//!
//! This file only maps each task to its module. Requests are not signed here: a signature needs a clock. No
//! module makes up a signature over reasoning, or closes an answer that its upstream did not close.

use super::{CallerDialect, Decode, Dialect, Form, Operation, Target, segment};
use crate::aws_fault;
use crate::chat::{ApiError, Request};
use crate::framing::Framing;

mod decode;
mod event;
mod finish;
mod media;
mod tools;
mod write;
mod write_turns;

#[cfg(test)]
mod tests;

/// The dialect.
#[derive(Debug)]
pub(super) struct Bedrock;

impl Dialect for Bedrock {
    fn name(&self) -> &'static str {
        "bedrock"
    }

    fn as_caller(&self) -> Option<&'static dyn CallerDialect> {
        None
    }

    fn default_base_url(&self) -> &'static str {
        "https://bedrock-runtime.us-east-1.amazonaws.com"
    }

    fn path(&self, target: &Target<'_>) -> String {
        let operation = if target.stream { "converse-stream" } else { "converse" };
        format!("/model/{}/{operation}", segment(target.model))
    }

    fn turn(&self, assistant: bool, text: &str) -> (&'static str, serde_json::Value) {
        let role = if assistant { "assistant" } else { "user" };
        ("messages", serde_json::json!({"role": role, "content": [{"text": text}]}))
    }

    fn output_limits(&self) -> &'static [&'static str] {
        &["inferenceConfig.maxTokens"]
    }

    /// The model and the choice of a stream are in the path: the body needs no changes.
    fn edit_request(&self, body: &str, _target: &Target<'_>) -> Result<String, ApiError> {
        Ok(body.to_owned())
    }

    fn form_of(&self, operation: Operation) -> Option<Form> {
        (operation == Operation::Chat).then_some(Form::Chat)
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>) -> Result<String, ApiError> {
        write::encode_request(request, target)
    }

    fn media_type(&self) -> &'static str {
        "application/vnd.amazon.eventstream"
    }

    fn framing(&self, content_type: &str) -> Framing {
        if content_type.starts_with("application/json") {
            Framing::Whole
        } else {
            Framing::AwsEventStream
        }
    }

    fn decoder(&self, _form: Form) -> Box<dyn Decode> {
        Box::new(decode::Decoder::default())
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError {
        aws_fault::of_response(status, body)
    }
}
