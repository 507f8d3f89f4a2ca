//! `OpenAI` chat completions, and all that calls itself compatible with them.
//!
//! Here is only what a dialect is asked for; each file beside this one does one of its tasks.

use super::{Call, Decode, Dialect, Encode, Envelope, Mode, Target};
use crate::wire::chat::{Fault, Kind, Request};
use crate::wire::framing::Framing;

mod calls;
mod chunk;
mod collect;
mod decode;
mod encode;
mod error;
mod read;
mod request;
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

    fn endpoint(&self) -> &'static str {
        "/v1/chat/completions"
    }

    fn marker(&self) -> Option<&'static str> {
        None
    }

    fn envelope(&self, body: &str) -> Result<Envelope, Fault> {
        request::envelope(body)
    }

    fn decode_request(&self, body: &str) -> Result<Request, Fault> {
        read::request(body)
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
    fn heartbeat(&self) -> &'static [u8] {
        b": ping\n"
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

    fn default_base_url(&self) -> &'static str {
        "https://api.openai.com/v1"
    }

    fn well_known(&self) -> (&'static str, &'static str) {
        ("openai", "OPENAI_API_KEY")
    }

    fn path(&self, _model: &str, _stream: bool) -> String {
        "/chat/completions".to_owned()
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

    fn edit_request(&self, body: &str, target: &Target<'_>) -> Result<String, Fault> {
        request::edit(body, target)
    }

    fn encode_request(&self, request: &Request, target: &Target<'_>) -> Result<String, Fault> {
        write::request(request, target)
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(decode::Decoder::default())
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> Fault {
        error::response(status, body)
    }
}
