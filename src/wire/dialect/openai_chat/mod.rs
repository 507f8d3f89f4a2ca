//! `OpenAI` chat completions, and all that calls itself compatible with them.
//!
//! Here is only what a dialect is asked for; each file beside this one does one of its tasks.

use bytes::Bytes;

use super::{
    Asked, CHAT, Call, CallerDialect, Decode, Dialect, Encode, Endpoint, Envelope, Mode, Target,
};
use crate::wire::chat::{Fault, Kind, Rendered, Request};
use crate::wire::error_body;

mod answer;
mod calls;
mod chunk;
mod collect;
mod decode;
mod encode;
mod error;
mod finish;
mod free;
mod ids;
mod passed;
mod prompt;
mod read;
mod request;
mod sources;
mod system_first;
#[cfg(test)]
mod tests;
mod turns;
mod write;

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

    fn well_known(&self) -> Option<(&'static str, &'static str)> {
        Some(("openai", "OPENAI_API_KEY"))
    }

    fn path(&self, target: &Target<'_>) -> String {
        let path = match target.form {
            passed::COMPLETIONS => "/completions",
            passed::EMBEDDINGS => "/embeddings",
            _ => "/chat/completions",
        };
        path.to_owned()
    }

    fn credential(&self) -> (&'static str, &'static str) {
        ("authorization", "Bearer ")
    }

    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn forwarded_headers(&self) -> &'static [&'static str] {
        &[]
    }

    fn output_limits(&self) -> &'static [&'static str] {
        &["max_completion_tokens", "max_tokens", request::LLAMA_LIMIT]
    }

    fn edit_request(&self, body: &str, target: &Target<'_>) -> Result<String, Fault> {
        request::edit(body, target)
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>) -> Result<String, Fault> {
        write::request(request, target)
    }

    fn decoder(&self, form: &'static str) -> Box<dyn Decode> {
        match form {
            CHAT => Box::new(decode::Decoder::default()),
            _ => Box::new(passed::Decoder::default()),
        }
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Fault {
        error_body::response(status, body)
    }
}

impl CallerDialect for OpenAiChat {
    fn name(&self) -> &'static str {
        "openai-chat"
    }

    fn endpoints(&self) -> &'static [Endpoint] {
        &[
            Endpoint { path: "/v1/chat/completions", form: CHAT },
            Endpoint { path: "/v1/completions", form: passed::COMPLETIONS },
            Endpoint { path: "/v1/embeddings", form: passed::EMBEDDINGS },
        ]
    }

    fn envelope(&self, asked: &Asked<'_>) -> Result<Envelope, Fault> {
        let read = request::envelope(asked)?;
        match asked.form {
            passed::EMBEDDINGS => Ok(Envelope { max_output: Some(0), ..read }),
            _ => Ok(read),
        }
    }

    fn prepend(&self, body: &str, prompt: &Rendered) -> Result<String, Fault> {
        prompt::prepend(body, prompt)
    }

    fn decode_request(&self, form: &'static str, body: &str) -> Result<Request, Fault> {
        if form != CHAT {
            return Err(super::untranslatable(form));
        }
        read::request(body)
    }

    fn echo(&self, body: &str) -> String {
        free::echo(body)
    }

    fn encoder(&self, call: &Call, mode: Mode) -> Box<dyn Encode> {
        let (stream, want_usage) = (call.stream, call.want_usage);
        match mode {
            Mode::Verbatim => Box::new(encode::Verbatim { stream, want_usage }),
            Mode::Translated if stream => Box::new(encode::Stream::new(call)),
            Mode::Translated => Box::new(collect::Collect::new(call)),
        }
    }

    fn status(&self, kind: Kind) -> u16 {
        error::status(kind)
    }

    /// The request's id has no place in this dialect's errors; it is in a header.
    fn error_body(&self, fault: &Fault, _request_id: &str) -> String {
        error::body(fault)
    }

    /// A comment without a blank line: openai-python chokes on a block that carries an id and no data.
    fn heartbeat(&self, _call: &Call) -> Bytes {
        Bytes::from_static(b": ping\n")
    }

    fn models(&self, models: &[&str]) -> String {
        let data: Vec<serde_json::Value> = models
            .iter()
            .map(|id| {
                serde_json::json!({"id": id, "object": "model", "created": 0, "owned_by": "streamgate"})
            })
            .collect();
        serde_json::json!({"object": "list", "data": data}).to_string()
    }
}
