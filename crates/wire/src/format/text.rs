//! The format `text`: answer text as the data of events, and a last event named `end` with the state of the end. No
//! text is lost or repeated; only line ends are those of event streams (WHATWG HTML, section 9.2).

use std::borrow::Cow;

use bytes::BytesMut;

use super::EndState;
use crate::chat::{Delta, End, Stop};
use crate::dialect::Encode;
use crate::framing::Frame;
use crate::sse;

/// Writes the text.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// The text so far ended with CR, and a LF that follows belongs to it.
    after_cr: bool,
    stop: Option<Stop>,
}

impl Encoder {
    fn text(&mut self, text: &str, out: &mut BytesMut) {
        let text = if std::mem::take(&mut self.after_cr) {
            Cow::Owned(format!("\n{}", text.strip_prefix('\n').unwrap_or(text)))
        } else {
            Cow::Borrowed(text)
        };
        let whole = text.strip_suffix('\r');
        self.after_cr = whole.is_some();
        let text = whole.unwrap_or(&text);
        if !text.is_empty() {
            sse::write(None, text.as_bytes(), out);
        }
    }
}

impl Encode for Encoder {
    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        for delta in deltas {
            match delta {
                Delta::Text { choice: 0, text } | Delta::Refusal { choice: 0, text } => {
                    self.text(text, out);
                }
                Delta::Stop { choice: 0, reason } => self.stop = Some(reason.clone()),
                // Everything else is no text of the answer; further alternatives would mix with it.
                _ => {}
            }
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        if let (End::Complete, Some(Stop::Refusal(Some(explanation)))) = (end, self.stop.take()) {
            self.text(&explanation, out);
        }
        if std::mem::take(&mut self.after_cr) {
            sse::write(None, b"\n", out);
        }
        sse::write(Some(b"end"), EndState::of(end).name().as_bytes(), out);
    }
}
