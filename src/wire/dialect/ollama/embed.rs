//! Embeddings: passed on as they are to servers of this dialect, and never translated. Answers are read
//! for usage and for nothing else.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::wire::chat::{Delta, End, Fault, Kind, Usage};
use crate::wire::dialect::Decode;
use crate::wire::error_body;
use crate::wire::framing::Frame;

/// The form of `/api/embed`.
pub(super) const EMBED: &str = "embeddings";

#[derive(Deserialize)]
struct Answer {
    embeddings: Option<Vec<IgnoredAny>>,
    prompt_eval_count: Option<u64>,
}

/// Reads a whole answer.
#[derive(Debug)]
pub(super) struct Decoder;

impl Decode for Decoder {
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        Some(self.answer(frame, out))
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        match serde_json::from_slice::<Answer>(&body.data) {
            Ok(Answer { embeddings: Some(_), prompt_eval_count: input }) => {
                out.push(Delta::Usage(Usage { input, output: Some(0), ..Usage::default() }));
                End::Complete
            }
            Ok(_) => End::Failed(error_body::in_stream(&body.data)),
            Err(error) if error.is_eof() => End::Truncated,
            Err(_) => {
                let message = "the upstream's answer is none to a request for embeddings";
                End::Failed(Fault::new(Kind::Upstream, message))
            }
        }
    }

    fn finish(&mut self) -> End {
        End::Truncated
    }
}
