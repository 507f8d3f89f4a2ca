//! Buffered bytes of an answer beyond the current frame: collected answers, texts that the end of a stream repeats,
//! and parts that wait for others. It counts and never buffers anything itself.

use super::chat::{ApiError, Delta, End, Kind};

/// The count of one answer.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The most that there may be.
    most: usize,
    /// What is kept to the end.
    held: usize,
    /// What was read and not yet written.
    waiting: usize,
    /// What the decoder keeps.
    decoding: usize,
}

impl Kept {
    /// A count of nothing, of which there may be at most so many bytes.
    pub(crate) fn at_most(most: usize) -> Self {
        Self { most, held: 0, waiting: 0, decoding: 0 }
    }

    /// The bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        self.held.saturating_add(self.waiting).saturating_add(self.decoding)
    }

    /// A delta was read, which its encoder `keeps` to the end, or writes now or later.
    pub(crate) fn read(&mut self, delta: &Delta<'_>, keeps: bool) {
        let count = if keeps { &mut self.held } else { &mut self.waiting };
        *count = count.saturating_add(delta.size());
    }

    /// A call's id was read, which decoders keep so that none comes twice.
    pub(crate) fn read_id(&mut self, delta: &Delta<'_>) {
        if let Delta::ToolStart { id, .. } = delta {
            self.held = self.held.saturating_add(id.len());
        }
    }

    /// So many bytes were written: what was read is in them, and mostly more.
    pub(crate) fn written(&mut self, bytes: usize) {
        self.waiting = self.waiting.saturating_sub(bytes);
    }

    /// Its decoder keeps so many bytes now.
    pub(crate) fn decoding(&mut self, bytes: usize) {
        self.decoding = bytes;
    }

    /// The end of an answer of which more is kept than may be.
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
