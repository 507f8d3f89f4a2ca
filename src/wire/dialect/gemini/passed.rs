//! Counting tokens and making embeddings: passed on as they are, never translated.

use crate::wire::chat::{Delta, End, Fault, Kind, Usage};
use crate::wire::dialect::Decode;
use crate::wire::framing::Frame;
use crate::wire::json::Members;

use super::error;

/// Reads an answer that is no conversation, as far as to see that it is whole.
#[derive(Debug)]
pub(super) struct Decoder;

impl Decode for Decoder {
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        Some(self.answer(frame, out))
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        let unreadable = || {
            End::Failed(Fault::new(Kind::Upstream, "the upstream's answer is not a JSON object"))
        };
        let Ok(json) = std::str::from_utf8(&body.data) else { return unreadable() };
        let Ok(members) = Members::parse(json) else { return unreadable() };
        if members.get("error").is_some() {
            return error::in_stream(json).map_or_else(unreadable, End::Failed);
        }
        // Tokens are counted, not used.
        out.push(Delta::Usage(Usage { input: Some(0), output: Some(0), ..Usage::default() }));
        End::Complete
    }

    fn finish(&mut self) -> End {
        End::Truncated
    }
}
