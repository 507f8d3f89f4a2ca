//! Counting the tokens of an input, and compacting a conversation, where the upstream can: passed on
//! as they are, never translated.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::event::usage;
use crate::wire::chat::{Delta, End, Fault, Kind, Usage};
use crate::wire::dialect::{CHAT, Decode, Endpoint};
use crate::wire::framing::Frame;

/// What callers post to. Below the base URL, upstreams have the same paths.
pub(super) const ENDPOINTS: [Endpoint; 3] = [
    Endpoint { path: "/v1/responses", form: CHAT },
    Endpoint { path: "/v1/responses/input_tokens", form: COUNT },
    Endpoint { path: "/v1/responses/compact", form: "compact" },
];

/// Counting.
pub(super) const COUNT: &str = "input_tokens";

/// The path of a form at upstreams.
pub(super) fn path(form: &str) -> &'static str {
    let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.form == form);
    endpoint.and_then(|endpoint| endpoint.path.strip_prefix("/v1")).unwrap_or("/responses")
}

/// Reads a whole answer of either form.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) form: &'static str,
}

#[derive(Deserialize)]
struct Body<'a> {
    input_tokens: Option<u64>,
    output: Option<Vec<IgnoredAny>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

impl Decode for Decoder {
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        Some(self.answer(frame, out))
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        let counts = self.form == COUNT;
        match serde_json::from_slice::<Body<'_>>(&body.data) {
            Ok(Body { input_tokens: Some(_), .. }) if counts => {
                // Counted, not used.
                let none = Usage { input: Some(0), output: Some(0), ..Usage::default() };
                out.push(Delta::Usage(none));
                End::Complete
            }
            Ok(Body { output: Some(_), usage: said, .. }) if !counts => {
                out.extend(said.and_then(usage).map(Delta::Usage));
                End::Complete
            }
            Err(error) if error.is_eof() => End::Truncated,
            _ => {
                let message =
                    format!("the upstream's answer is none to a request for {}", self.form);
                End::Failed(Fault::new(Kind::Upstream, message))
            }
        }
    }

    fn finish(&mut self) -> End {
        End::Truncated
    }
}
