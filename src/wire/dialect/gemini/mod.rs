//! The `gemini` dialect: Google's `generateContent`, of the Gemini API and of Vertex AI, towards callers
//! and towards upstreams.
//!
//! This file only says where each part is. No part reads another dialect's shapes, makes up a
//! signature, or closes an answer that its upstream did not close.

use bytes::Bytes;

use super::{
    Asked, CHAT, Call, CallerDialect, Decode, Dialect, Encode, Endpoint, Envelope, Mode, Target,
};
use crate::wire::chat::{Fault, Kind, Rendered, Request};
use crate::wire::framing::Framing;
use crate::wire::json::quoted;

mod answer;
mod calls;
mod chunk;
mod cite;
mod collect;
mod decode;
mod encode;
mod error;
mod finish;
mod partial;
mod passed;
mod path;
mod prompt;
mod read;
mod read_turns;
mod request;
mod schema;
mod state;
mod write;
mod write_turns;

#[cfg(test)]
mod tests;

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

    fn well_known(&self) -> Option<(&'static str, &'static str)> {
        Some(("gemini", "GEMINI_API_KEY"))
    }

    fn path(&self, target: &Target<'_>) -> String {
        path::write(target.model, target.stream, target.form)
    }

    fn credential(&self) -> (&'static str, &'static str) {
        ("x-goog-api-key", "")
    }

    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn forwarded_headers(&self) -> &'static [&'static str] {
        &["x-goog-api-client", "x-server-timeout"]
    }

    fn output_limits(&self) -> &'static [&'static str] {
        &[
            "generationConfig.maxOutputTokens",
            "generationConfig.max_output_tokens",
            "generation_config.maxOutputTokens",
            "generation_config.max_output_tokens",
        ]
    }

    fn edit_request(&self, body: &str, target: &Target<'_>) -> Result<String, Fault> {
        request::edit(&state::without_foreign(body, target.model), target)
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>) -> Result<String, Fault> {
        write::encode_request(request, target)
    }

    fn framing(&self, content_type: &str) -> Framing {
        // What some gateways send although events were asked for; a single object is read as well.
        if content_type.starts_with("application/json") { Framing::JsonArray } else { Framing::Sse }
    }

    fn decoder(&self, form: &'static str) -> Box<dyn Decode> {
        match form {
            path::COUNT | path::EMBED | path::EMBED_ALL => Box::new(passed::Decoder),
            _ => Box::new(decode::Decoder::default()),
        }
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Fault {
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
            Endpoint { path: "/v1beta/models/{*rest}", form: CHAT },
            // What the vendor's Python library asks since its third version.
            Endpoint { path: "/v1/models/{*rest}", form: CHAT },
        ]
    }

    fn marker(&self) -> Option<&'static str> {
        Some("x-goog-api-key")
    }

    fn envelope(&self, asked: &Asked<'_>) -> Result<Envelope, Fault> {
        request::envelope(asked)
    }

    fn prepend(&self, body: &str, prompt: &Rendered) -> Result<String, Fault> {
        prompt::prepend(body, prompt)
    }

    fn decode_request(&self, form: &'static str, body: &str) -> Result<Request, Fault> {
        match form {
            CHAT | path::ARRAY => read::decode_request(body),
            form => Err(super::untranslatable(form)),
        }
    }

    fn own_name(&self, field: &str) -> Option<&'static str> {
        match field {
            "messages" => Some("contents"),
            "n" => Some("generationConfig.candidateCount"),
            "stop" => Some("generationConfig.stopSequences"),
            "logprobs" => Some("generationConfig.responseLogprobs"),
            "top_logprobs" => Some("generationConfig.logprobs"),
            "tool_choice" => Some("toolConfig.functionCallingConfig"),
            _ => None,
        }
    }

    fn encoder(&self, call: &Call, mode: Mode) -> Box<dyn Encode> {
        match (mode, call.stream) {
            (Mode::Verbatim, true) => Box::new(encode::Verbatim::new(call)),
            (Mode::Verbatim, false) => Box::new(collect::Verbatim),
            (Mode::Translated, true) => Box::new(encode::Translated::new(call)),
            (Mode::Translated, false) => Box::new(collect::Translated::new(call)),
        }
    }

    fn media_type(&self, call: &Call) -> &'static str {
        if call.form == path::ARRAY { "application/json" } else { "text/event-stream" }
    }

    fn status(&self, kind: Kind) -> u16 {
        error::status(kind)
    }

    fn error_body(&self, fault: &Fault, request_id: &str) -> String {
        error::body(fault, Some(request_id))
    }

    /// A chunk with nothing in it. An empty object would do for the vendor's libraries, too, but a
    /// chat of theirs forgets every turn with a chunk that has no parts.
    fn heartbeat(&self, call: &Call) -> Bytes {
        if call.form == path::ARRAY {
            return Bytes::from_static(b"\n");
        }
        Bytes::from_static(
            b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},\"index\":0}]}\n\n",
        )
    }

    fn models_path(&self) -> &'static str {
        "/v1beta/models"
    }

    fn models(&self, models: &[&str]) -> String {
        let entry = |model: &&str| {
            let (name, display) = (quoted(&format!("models/{model}")), quoted(model));
            format!(
                r#"{{"name":{name},"version":"1","displayName":{display},"supportedGenerationMethods":["generateContent","countTokens"]}}"#
            )
        };
        let models = models.iter().map(entry).collect::<Vec<_>>().join(",");
        format!(r#"{{"models":[{models}]}}"#)
    }
}
