//! Splicing of a codec: the end of a broken answer is held, and the codec of another answer takes its place behind the
//! same encoder. It must never write a second beginning, nor two ends.

use bytes::BytesMut;

use super::Transcoder;
use crate::chat::{Delta, Usage};
use crate::dialect::{Decode, Encode, Mode};
use crate::framing::{Frame, Framing};
use crate::tally::Tally;

impl Transcoder {
    /// Records what is written, and holds the end of an answer that breaks off: either
    /// [`Transcoder::splice`] or [`Transcoder::release`] follows it.
    #[must_use]
    pub fn holding_breaks(self) -> Self {
        Self { record: Some(Box::default()), ..self }
    }

    /// Creates the codec of a continuation, which writes nothing until it is spliced. `before`: the usage of the
    /// part that broke off.
    pub fn detached(label: Framing, cap: usize, decoder: Box<dyn Decode>, before: Usage) -> Self {
        Self {
            head: Some(BytesMut::new()),
            detached: Some(Vec::new()),
            before: Some(before),
            ..Self::without_encoder(label, cap, decoder)
        }
    }

    /// The text so far of an answer that has broken off and may be continued.
    pub fn unfinished(&self) -> Option<&str> {
        self.held.as_ref()?;
        self.record.as_ref()?.text()
    }

    /// Whether the end of the answer is known and not written.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Whether there is text of a continuation which has not been spliced.
    pub fn is_underway(&self) -> bool {
        let deltas = self.detached.as_deref().unwrap_or_default();
        deltas.iter().any(|delta| matches!(delta, Delta::Text { .. }))
    }

    /// Writes the end that was held.
    pub fn release(&mut self, out: &mut BytesMut) {
        if let (Some(held), Some(end)) = (self.held.take(), self.end.clone()) {
            self.record = None;
            self.write_end(&end, held.last.as_ref(), out);
        }
    }

    /// Goes on with an answer that continues this one, after `mark`. `encoder`: a translating encoder of the caller's
    /// dialect, for an answer that was passed through so far. Returns whether it can go on; if not, nothing is written.
    pub fn splice(
        &mut self,
        next: Self,
        encoder: impl FnOnce() -> Box<dyn Encode>,
        mark: &[u8],
        out: &mut BytesMut,
    ) -> bool {
        let Some(record) = &self.record else { return false };
        if self.mode == Mode::Verbatim {
            let mut encoder = encoder();
            if !encoder.resume(&record.written()) {
                return false;
            }
            (self.encoder, self.mode) = (Some(encoder), Mode::Translated);
        }
        out.extend_from_slice(mark);
        let Self { framer, framing, cap, decoder, head, frames, names, stages, .. } = next;
        (self.framer, self.framing, self.cap, self.decoder) = (framer, framing, cap, decoder);
        (self.head, self.frames, self.names, self.stages) = (head, frames, names, stages);
        (self.before, self.held, self.end, self.failure) = (next.before, None, None, None);
        let Tally { outputs, output_bytes, stop, stopped_early, usage, .. } = next.tally;
        let tally = &mut self.tally;
        tally.outputs = tally.outputs.saturating_add(outputs);
        tally.output_bytes = tally.output_bytes.saturating_add(output_bytes);
        tally.usage.output = None;
        tally.usage.replace_with(&usage);
        (tally.stop, tally.stopped_early) = (stop, stopped_early);
        self.broken = next.broken;
        self.encode(&Frame::default(), &next.detached.unwrap_or_default(), out);
        if let Some(end) = next.end {
            self.end_with(end, None, out);
        }
        true
    }
}
