//! Whole answers and last events: what is read when no other bytes follow. It must never take a cut event for a whole one.

use bytes::BytesMut;

use super::Transcoder;
use crate::chat::{End, MAX_TOOL_CALLS, too_many_calls};
use crate::framing::{Frame, Framer, Framing};

impl Transcoder {
    /// Handles a last event without its end mark. If it does not parse, the stream was cut; it does not mean
    /// that the upstream sent invalid data.
    pub(super) fn forward_cut(&mut self, frames: &[Frame], out: &mut BytesMut) {
        let whole = |frame: &Frame| {
            frame.data.first() != Some(&b'{')
                || serde_json::from_slice::<serde::de::IgnoredAny>(&frame.data).is_ok()
        };
        if frames.iter().all(whole) {
            self.forward(frames, out);
        } else {
            self.abort(End::Truncated, out);
        }
    }

    pub(super) fn finish_whole(&mut self, frames: &[Frame], out: &mut BytesMut) {
        if self.end.is_some() {
            return;
        }
        let Some(body) = frames.first() else { return };
        let mut deltas = Vec::new();
        let end = self.decoder.answer(body, &mut deltas);
        self.read(&mut deltas);
        let end = self.flush_stages(end, &mut deltas);
        if self.parts.calls > MAX_TOOL_CALLS {
            return self.end_with(End::Failed(too_many_calls()), None, out);
        }
        if end == End::Complete {
            self.encode(body, &deltas, out);
        }
        self.note_failure(&end, body);
        self.end_with(end, None, out);
    }
}

/// Objects of a body that may contain several, consecutive or in an array.
pub(super) fn objects(frames: &[Frame], cap: usize) -> Vec<Frame> {
    let mut objects = Vec::new();
    let mut framer = Framer::new(Framing::JsonArray, cap);
    for frame in frames {
        if framer.push(frame.data.clone(), &mut objects).is_err() {
            return Vec::new();
        }
    }
    framer.finish(&mut objects);
    objects
}
