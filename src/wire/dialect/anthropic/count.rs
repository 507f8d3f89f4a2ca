//! Counting the tokens of a prompt, where the upstream can: passed on as it is, never translated.

use serde::Deserialize;

use crate::wire::chat::{Delta, End, Fault, Kind, Usage};
use crate::wire::dialect::Decode;
use crate::wire::framing::Frame;

/// The form.
pub(super) const COUNT: &str = "count_tokens";
/// Its path, at callers and at upstreams.
pub(super) const PATH: &str = "/v1/messages/count_tokens";

/// Reads `{"input_tokens": 12}`.
#[derive(Debug)]
pub(super) struct Decoder;

#[derive(Deserialize)]
struct Count {
    #[serde(rename = "input_tokens")]
    _input: u64,
}

impl Decode for Decoder {
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        Some(self.answer(frame, out))
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        match serde_json::from_slice::<Count>(&body.data) {
            Ok(_) => {
                // Counted, not used.
                out.push(Delta::Usage(Usage {
                    input: Some(0),
                    output: Some(0),
                    ..Usage::default()
                }));
                End::Complete
            }
            Err(error) if error.is_eof() => End::Truncated,
            Err(_) => End::Failed(Fault::new(
                Kind::Upstream,
                "the upstream's answer holds no count of tokens",
            )),
        }
    }

    fn finish(&mut self) -> End {
        End::Truncated
    }
}
