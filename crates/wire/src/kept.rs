//! Number of buffered bytes of an answer beyond the current frame: collected answers, texts that the end of a
//! stream repeats, and parts that wait for others. This type counts and never buffers.

use super::chat::{ApiError, Delta, End, Kind};

/// Byte count of one answer.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The most bytes that may be buffered.
    most: usize,
    /// Bytes that are kept to the end of the answer.
    held: usize,
    /// Bytes that were read and not yet written.
    waiting: usize,
    /// Bytes that the decoder keeps.
    decoding: usize,
}

impl Kept {
    /// Creates an empty count with a limit in bytes.
    pub(crate) fn at_most(most: usize) -> Self {
        Self { most, held: 0, waiting: 0, decoding: 0 }
    }

    /// Number of buffered bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.held.saturating_add(self.waiting).saturating_add(self.decoding)
    }

    /// Counts a delta that was read. `keeps`: the encoder keeps it to the end of the answer.
    pub(crate) fn read(&mut self, delta: &Delta<'_>, keeps: bool) {
        let count = if keeps { &mut self.held } else { &mut self.waiting };
        *count = count.saturating_add(delta.size());
    }

    /// Counts a call's id, which decoders keep to prevent duplicates.
    pub(crate) fn read_id(&mut self, delta: &Delta<'_>) {
        if let Delta::ToolStart { id, .. } = delta {
            self.held = self.held.saturating_add(id.len());
        }
    }

    /// Subtracts written bytes. They include what was read, and usually more.
    pub(crate) fn written(&mut self, bytes: usize) {
        self.waiting = self.waiting.saturating_sub(bytes);
    }

    /// Sets the number of bytes that the decoder keeps.
    pub(crate) fn decoding(&mut self, bytes: usize) {
        self.decoding = bytes;
    }

    /// The end of an answer that exceeds the limit. `None` within it.
    pub(crate) fn exceeded(&self) -> Option<End> {
        let most = self.most;
        (self.bytes() > most).then(|| {
            let message = format!(
                "the upstream's answer is larger than {most} bytes, the most that is kept of one (stream.max_answer)"
            );
            End::Failed(ApiError::new(Kind::Upstream, message))
        })
    }
}
