//! The `anthropic` dialect: Anthropic's Messages API, towards callers and towards upstreams.
//!
//! This file only maps each task to its module. No module reads another dialect's shapes, makes up a
//! signature, or closes an answer that its upstream did not close.

use bytes::Bytes;

use super::{
    CallerDialect, Decode, Dialect, Encode, Endpoint, Envelope, Form, Hosting, Mode, Operation,
    Quirks, RequestView, ResponseContext, Target,
};
use crate::chat::{ApiError, HostedTool, Kind, Rendered, Request};
use crate::count as counting;
use crate::framing::Framing;
use crate::model_list::ModelInfo;
use crate::reset;

mod answer;
mod betas;
mod blocks;
mod client_tools;
mod collect;
mod count;
mod decode;
mod encode;
mod error;
mod event;
mod finish;
mod foreign;
mod hosted;
mod hosted_tools;
mod ids;
mod list;
mod prompt;
mod read;
mod read_block;
mod request;
mod search;
mod tool_changes;
mod toolset;
mod write;
mod write_turns;

#[cfg(test)]
mod tests;

/// Paths of the vendor's API that are not served, and their names: docs.claude.com/en/api.
const UNSERVED: [(&str, &str); 6] = [
    ("/v1/files", "files"),
    ("/v1/skills", "skills"),
    ("/v1/messages/batches", "message batches"),
    ("/v1/messages", "stored messages"),
    ("/v1/complete", "text completions"),
    ("/v1/organizations", "administration"),
];

/// The dialect.
#[derive(Debug)]
pub(super) struct Anthropic;

impl Dialect for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn as_caller(&self) -> Option<&'static dyn CallerDialect> {
        Some(&Self)
    }

    fn default_base_url(&self) -> &'static str {
        "https://api.anthropic.com"
    }

    fn path(&self, target: &Target<'_>) -> String {
        if let Some(hosting) = target.quirks.hosting {
            return hosted::path(hosting, target);
        }
        match target.form {
            Form::CountTokens => count::PATH.to_owned(),
            _ => "/v1/messages".to_owned(),
        }
    }

    fn credential(&self) -> (&'static str, &'static str) {
        ("x-api-key", "")
    }

    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic-version", "2023-06-01")]
    }

    fn beta_header(&self) -> Option<&'static str> {
        Some("anthropic-beta")
    }

    fn output_limits(&self) -> &'static [&'static str] {
        &["max_tokens"]
    }

    fn edit_request(&self, body: &str, target: &Target<'_>) -> Result<String, ApiError> {
        let body = foreign::removed(body);
        let body = betas::without_members(&body, target.quirks.settings.betas.as_deref());
        request::edit(&body, target)
    }

    fn edit_hosted(
        &self,
        body: &str,
        target: &Target<'_>,
        header: &dyn Fn(&str) -> Option<String>,
    ) -> Result<String, ApiError> {
        let Some(hosting) = target.quirks.hosting else {
            return self.edit_request(body, target);
        };
        let body = foreign::removed(body);
        let body = betas::without_members(&body, target.quirks.settings.betas.as_deref());
        hosted::edit(hosting, &body, target, header)
    }

    fn accept(&self, target: &Target<'_>) -> &'static str {
        match target.quirks.hosting {
            // The type of the model's own events, independent of the framing around them.
            Some(Hosting::Bedrock) => "application/json",
            _ if target.stream => Dialect::media_type(self),
            _ => "application/json",
        }
    }

    fn framing(&self, content_type: &str) -> Framing {
        if content_type.starts_with("application/json") {
            Framing::Whole
        } else if content_type.starts_with("application/vnd.amazon.eventstream") {
            Framing::AwsEventStream
        } else {
            Framing::Sse
        }
    }

    fn form_of(&self, operation: Operation) -> Option<Form> {
        match operation {
            Operation::Chat => Some(Form::Chat),
            Operation::CountTokens => Some(Form::CountTokens),
            _ => None,
        }
    }

    fn counts_tokens(&self, quirks: &Quirks, _passthrough: bool) -> bool {
        quirks.hosting != Some(Hosting::Bedrock)
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>) -> Result<String, ApiError> {
        let mut body = write::encode_request(request, target)?;
        if target.form == Form::CountTokens {
            body = count::write(&body)?;
        }
        match target.quirks.hosting {
            Some(hosting) => hosted::edit(hosting, &body, target, &|_| None),
            None => Ok(body),
        }
    }

    fn list_path(&self, quirks: &Quirks) -> Option<&'static str> {
        Some(list::PATH).filter(|_| quirks.hosting.is_none())
    }

    fn read_list(&self, body: &[u8]) -> Result<Vec<ModelInfo>, ApiError> {
        list::read(body)
    }

    fn decoder(&self, form: Form) -> Box<dyn Decode> {
        match form {
            Form::CountTokens => Box::new(counting::Decoder(count::read)),
            _ => Box::new(decode::Decoder::default()),
        }
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError {
        error::decode(status, body)
    }
}

impl CallerDialect for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn endpoints(&self) -> &'static [Endpoint] {
        &[
            Endpoint { path: "/v1/messages", form: Form::Chat },
            Endpoint { path: count::PATH, form: Form::CountTokens },
        ]
    }

    fn marker(&self) -> Option<&'static str> {
        Some("anthropic-version")
    }

    fn envelope(&self, asked: &RequestView<'_>) -> Result<Envelope, ApiError> {
        let read = request::envelope(asked.body)?;
        let stream = read.stream && asked.form == Form::Chat;
        Ok(Envelope { form: asked.form, stream, ..read })
    }

    fn prepend(&self, body: &str, prompt: &Rendered) -> Result<String, ApiError> {
        prompt::prepend(body, prompt)
    }

    fn decode_request(&self, form: Form, body: &str) -> Result<Request, ApiError> {
        if form == Form::CountTokens { count::request(body) } else { read::decode_request(body) }
    }

    fn split_hosted_tools(
        &self,
        body: &str,
    ) -> Result<Option<(Vec<HostedTool>, String)>, ApiError> {
        hosted_tools::split(body)
    }

    fn own_name(&self, field: &str) -> Option<&'static str> {
        match field {
            "stop" => Some("stop_sequences"),
            "parallel_tool_calls" => Some("tool_choice.disable_parallel_tool_use"),
            _ => None,
        }
    }

    fn encoder(&self, call: &ResponseContext, mode: Mode) -> Box<dyn Encode> {
        match (mode, call.stream) {
            (Mode::Verbatim, true) => Box::new(encode::Verbatim),
            (Mode::Verbatim, false) => Box::new(collect::Verbatim),
            (Mode::Translated, _) if call.form == Form::CountTokens => {
                Box::new(counting::Encoder::new(count::answer))
            }
            (Mode::Translated, true) => Box::new(encode::Translated::new(call)),
            (Mode::Translated, false) => Box::new(collect::Translated::new(call)),
        }
    }

    fn status(&self, kind: Kind) -> u16 {
        match kind {
            Kind::Upstream => 500,
            Kind::Overloaded => 529,
            _ => kind.status(),
        }
    }

    fn error_body(&self, fault: &ApiError, request_id: &str, _retry_after: Option<u64>) -> String {
        error::body(fault, Some(request_id))
    }

    fn takes_comments(&self) -> bool {
        true
    }

    fn heartbeat(&self, _call: &ResponseContext) -> Bytes {
        Bytes::from_static(b"event: ping\ndata: {\"type\":\"ping\"}\n\n")
    }

    fn allowance_headers(&self) -> [[&'static str; 3]; 2] {
        [
            [
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-requests-reset",
            ],
            [
                "anthropic-ratelimit-tokens-limit",
                "anthropic-ratelimit-tokens-remaining",
                "anthropic-ratelimit-tokens-reset",
            ],
        ]
    }

    fn reset(&self, wait_ms: u64, unix_ms: u64) -> String {
        reset::rfc3339(unix_ms.saturating_add(wait_ms))
    }

    fn models(&self, models: &[ModelInfo], query: &str) -> Result<String, ApiError> {
        list::list(models, query)
    }

    fn model(&self, model: &ModelInfo) -> String {
        list::model(model)
    }

    fn unserved(&self) -> &'static [(&'static str, &'static str)] {
        &UNSERVED
    }
}
