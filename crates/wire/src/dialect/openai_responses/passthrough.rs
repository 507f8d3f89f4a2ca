//! Compacting a conversation, where the upstream can: passed on as it is, never translated.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::event::usage;
use crate::chat::{ApiError, Delta, End, Kind};
use crate::dialect::{Decode, Endpoint, Form};
use crate::framing::Frame;

/// Endpoints for `POST` requests of callers. Below the base URL, upstreams have the same paths.
pub(super) const ENDPOINTS: [Endpoint; 3] = [
    Endpoint { path: "/v1/responses", form: Form::Chat },
    Endpoint { path: "/v1/responses/input_tokens", form: Form::CountTokens },
    Endpoint { path: "/v1/responses/compact", form: Form::Compact },
];

/// The path of a form at upstreams.
pub(super) fn path(form: Form) -> &'static str {
    let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.form == form);
    endpoint.and_then(|endpoint| endpoint.path.strip_prefix("/v1")).unwrap_or("/responses")
}

/// Reads a whole answer.
#[derive(Debug)]
pub(super) struct Decoder;

#[derive(Deserialize)]
struct Body<'a> {
    output: Option<Vec<IgnoredAny>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

impl Decode for Decoder {
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        Some(self.answer(frame, out))
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        match serde_json::from_slice::<Body<'_>>(&body.data) {
            Ok(Body { output: Some(_), usage: said }) => {
                out.extend(said.and_then(usage).map(Delta::Usage));
                End::Complete
            }
            Err(error) if error.is_eof() => End::Truncated,
            _ => {
                let message = "the upstream's answer is none to a request for compact";
                End::Failed(ApiError::new(Kind::Upstream, message))
            }
        }
    }

    fn finish(&mut self) -> End {
        End::Truncated
    }
}
