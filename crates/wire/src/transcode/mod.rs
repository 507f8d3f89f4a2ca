//! Codec of one attempt: upstream bytes in, the caller's bytes out, and a tally of the answer. It must never
//! wait.

use bytes::{Bytes, BytesMut};

use crate::adapt::{Names, restore_names};
use crate::chat::{
    ApiError, Delta, End, Kind, MAX_CITATIONS, MAX_TOOL_CALLS, Stop, Usage, too_many_calls,
};
use crate::continuation::{Record, is_continuable_end, usage_of_both};
use crate::dialect::{Decode, Encode, Ending, Mode};
use crate::finish;
use crate::framing::{self, Frame, Framer, Framing, FramingError};
use crate::kept::Kept;
use crate::stage::{Stage, Stages, Verdict};
use crate::stop_strings::{StopFilter, StopStrings};
use crate::tally::Tally;

mod splice;
mod whole;

use whole::objects;

/// Selects the encoder once the framing of the answer is known, and whether frames are passed through. An error
/// rejects the answer, and the encoder writes the error.
pub type Choose = Box<dyn FnOnce(Framing) -> (Box<dyn Encode>, Result<Mode, ApiError>) + Send>;

/// Frames, decodes and encodes one answer. It is dropped as a whole if an attempt fails before its output was
/// forwarded.
pub struct Transcoder {
    framer: Framer,
    framing: Framing,
    cap: usize,
    decoder: Box<dyn Decode>,
    /// Set once the framing of the answer is known.
    encoder: Option<Box<dyn Encode>>,
    mode: Mode,
    choose: Option<Choose>,
    /// The first bytes, as long as they do not determine the framing.
    head: Option<BytesMut>,
    frames: Vec<Frame>,
    tally: Tally,
    /// Index of the alternative that the upstream aborted, and the error.
    broken: Option<(u32, ApiError)>,
    end: Option<End>,
    /// The payload that ended the answer with an error.
    failure: Option<Bytes>,
    /// Tool names to restore in the answer.
    names: Names,
    stages: Stages,
    parts: Parts,
    kept: Kept,
    /// The record of the answer, if another upstream may continue the answer.
    record: Option<Box<Record>>,
    /// The end of an answer that broke off, which is not written yet.
    held: Option<HeldEnd>,
    /// The answer as a continuation, before it is spliced.
    detached: Option<Vec<Delta<'static>>>,
    /// The usage of the part that it continues.
    before: Option<Usage>,
}

/// The end of an answer that is held.
struct HeldEnd {
    /// The frame that ended it, if one did.
    last: Option<Frame>,
}

/// Number of received parts of each kind that is limited.
#[derive(Debug, Default)]
struct Parts {
    calls: usize,
    citations: usize,
}

/// Removes the citations beyond `room`.
fn bound_citations(deltas: &mut Vec<Delta<'_>>, mut room: usize) {
    deltas.retain(|delta| {
        let kept = !matches!(delta, Delta::Citation(_)) || room > 0;
        room -= usize::from(kept && matches!(delta, Delta::Citation(_)));
        kept
    });
}

impl Transcoder {
    /// Creates a codec. `cap`: the most bytes of one frame.
    pub fn new(
        framing: Framing,
        cap: usize,
        decoder: Box<dyn Decode>,
        encoder: Box<dyn Encode>,
        mode: Mode,
    ) -> Self {
        Self { encoder: Some(encoder), mode, ..Self::without_encoder(framing, cap, decoder) }
    }

    /// The same for an answer whose label may be wrong: the framing is detected from its first bytes, and the
    /// encoder is selected after that.
    pub fn labelled(label: Framing, cap: usize, decoder: Box<dyn Decode>, choose: Choose) -> Self {
        let (choose, head) = (Some(choose), Some(BytesMut::new()));
        Self { choose, head, ..Self::without_encoder(label, cap, decoder) }
    }

    fn without_encoder(framing: Framing, cap: usize, decoder: Box<dyn Decode>) -> Self {
        Self {
            framer: Framer::new(framing, cap),
            framing,
            cap,
            decoder,
            encoder: None,
            mode: Mode::Translated,
            choose: None,
            head: None,
            frames: Vec::new(),
            tally: Tally::default(),
            broken: None,
            end: None,
            failure: None,
            names: Names::new(),
            stages: Stages::default(),
            parts: Parts::default(),
            kept: Kept::at_most(usize::MAX),
            record: None,
            held: None,
            detached: None,
            before: None,
        }
    }

    /// Detects the framing of the answer from its first bytes. Returns them once it is known.
    fn sniff(&mut self, bytes: Bytes, out: &mut BytesMut) -> Option<Bytes> {
        let Some(mut head) = self.head.take() else { return Some(bytes) };
        let bytes = if head.is_empty() {
            bytes
        } else {
            head.extend_from_slice(&bytes);
            head.freeze()
        };
        if framing::is_page(&bytes) {
            let message =
                "the upstream answered with a page of HTML or XML; check the provider's base_url";
            self.abort(End::Failed(ApiError::new(Kind::Upstream, message)), out);
            return None;
        }
        if let Some(framing) = self.framing.of_bytes(&bytes) {
            self.cut_as(framing);
            return Some(bytes);
        }
        // Leading blanks are insignificant and may be numerous. The remaining bytes are shorter than a field
        // name.
        self.head = Some(BytesMut::from(framing::beginning(&bytes)));
        None
    }

    fn cut_as(&mut self, framing: Framing) {
        if framing != self.framing {
            self.framing = framing;
            self.framer = Framer::new(framing, self.cap);
        }
    }

    /// Selects the encoder by the first frame, which may be the whole answer.
    fn begin(&mut self, frame: &Frame, out: &mut BytesMut) {
        if self.choose.is_some() || self.detached.is_some() {
            if self.decoder.is_whole(frame) {
                self.framing = Framing::Whole;
            }
            self.choose(self.framing, out);
        }
    }

    fn choose(&mut self, framing: Framing, out: &mut BytesMut) {
        let Some(choose) = self.choose.take() else { return };
        let (encoder, mode) = choose(framing);
        self.encoder = Some(encoder);
        match mode {
            Ok(mode) => self.mode = mode,
            Err(fault) => self.abort(End::Failed(fault), out),
        }
    }

    /// Limits the bytes of the answer that are kept. Beyond the limit it ends with an error.
    #[must_use]
    pub fn keeping_at_most(self, bytes: usize) -> Self {
        Self { kept: Kept::at_most(bytes), ..self }
    }

    /// Number of kept bytes of the answer: of an incomplete frame, and of received data.
    pub fn kept(&self) -> usize {
        let head = self.head.as_ref().map_or(0, BytesMut::len);
        let record = self.record.as_ref().map_or(0, |record| record.kept());
        self.framer.buffered() + head + self.kept.bytes() + self.stages.kept() + record
    }

    /// Restores the caller's tool names, where the request had to replace them.
    #[must_use]
    pub fn with_names(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// Ends the answer at stop strings that its upstream does not accept, with an estimate of its usage.
    /// `input_estimate`: input tokens of the request. For translated answers only.
    #[must_use]
    pub fn with_stop_strings(self, strings: StopStrings, input_estimate: u64) -> Self {
        match StopFilter::new(strings, input_estimate) {
            Some(filter) => self.with_stage(Box::new(filter)),
            None => self,
        }
    }

    /// Adds a stage behind the existing ones. For translated answers only.
    #[must_use]
    pub fn with_stage(mut self, stage: Box<dyn Stage>) -> Self {
        self.stages.push(stage);
        self
    }

    /// Reads upstream bytes and appends the caller's bytes. Returns whether they contained model output. Bytes
    /// after the end are ignored.
    pub fn push(&mut self, bytes: Bytes, out: &mut BytesMut) -> bool {
        if self.end.is_some() {
            return false;
        }
        let Some(bytes) = self.sniff(bytes, out) else { return false };
        let mut frames = std::mem::take(&mut self.frames);
        let cut = self.framer.push(bytes, &mut frames);
        let output = self.forward(&frames, out);
        frames.clear();
        self.frames = frames;
        if let Err(broken) = cut {
            let message = match broken {
                FramingError::TooLong { cap } => {
                    format!("the upstream sent an event of more than {cap} bytes")
                }
                FramingError::Corrupt { why } => format!("the upstream's stream is corrupt: {why}"),
            };
            self.abort(End::Failed(ApiError::new(Kind::Upstream, message)), out);
        }
        self.kept.decoding(self.decoder.kept());
        if self.end.is_none()
            && let Some(end) = self.kept.exceeded()
        {
            self.end_with(end, None, out);
        }
        output
    }

    /// Handles the regular end of the upstream's bytes.
    pub fn finish(&mut self, out: &mut BytesMut) {
        if self.end.is_some() {
            return;
        }
        let mut frames = Vec::new();
        if let Some(head) = self.head.take() {
            // Too few bytes arrived to detect the framing.
            self.cut_as(self.framing);
            // The bytes are within the cap, since they are shorter than a field name.
            self.framer.push(head.freeze(), &mut frames).unwrap_or_default();
        }
        self.framer.finish(&mut frames);
        if self.framing == Framing::Whole {
            let objects = objects(&frames, self.cap);
            let listed =
                frames.iter().any(|frame| framing::beginning(&frame.data).starts_with(b"["));
            if self.choose.is_none() || objects.is_empty() || objects.len() < 2 && !listed {
                self.choose(Framing::Whole, out);
                return self.finish_whole(&frames, out);
            }
            self.framing = Framing::JsonArray;
            frames = objects;
        }
        self.forward_cut(&frames, out);
        self.choose(self.framing, out);
        if self.end.is_none() {
            let end = self.decoder.finish();
            self.end_with(end, None, out);
        }
    }

    /// Ends the answer for a reason of the gateway's own.
    pub fn abort(&mut self, end: End, out: &mut BytesMut) {
        if self.held.take().is_some() {
            // It takes the place of the end that was held.
            (self.end, self.record) = (None, None);
        }
        if self.end.is_none() {
            self.choose(self.framing, out);
        }
        if self.end.is_none() {
            self.end_with(end, None, out);
        }
    }

    /// End of the answer. `None` while it goes on.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The payload by which the upstream ended the answer with an error, if any.
    pub fn failure(&self) -> Option<&[u8]> {
        self.failure.as_deref()
    }

    /// Ending of a stream's body, after the end of the answer. Called once.
    pub fn ending(&mut self) -> Ending {
        self.encoder.as_mut().map(|encoder| encoder.ending()).unwrap_or_default()
    }

    /// Totals of the answer so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    fn forward(&mut self, frames: &[Frame], out: &mut BytesMut) -> bool {
        let mut output = false;
        let mut deltas = Vec::new();
        for frame in frames {
            // Keep-alives: an event without data, or a comment that a careless proxy wrapped as data
            // (`data: : keepalive`).
            if matches!(frame.data.trim_ascii_start().first(), None | Some(b':')) {
                continue;
            }
            self.begin(frame, out);
            if self.framing == Framing::Whole {
                self.finish_whole(std::slice::from_ref(frame), out);
                return self.tally.outputs > 0;
            }
            deltas.clear();
            let end = self.decoder.frame(frame, &mut deltas);
            output |= self.read(&mut deltas);
            if self.parts.calls > MAX_TOOL_CALLS {
                self.end_with(End::Failed(too_many_calls()), None, out);
                break;
            }
            if end.is_none()
                && let Some(Verdict { end, usage }) = self.stages.verdict(&self.tally)
            {
                self.tally.stopped_early = true;
                deltas.extend(usage.map(Delta::Usage));
                self.encode(frame, &deltas, out);
                self.end_with(end, None, out);
                break;
            }
            if let Some(end) = end {
                if self.mode == Mode::Translated && !deltas.is_empty() {
                    self.encode(frame, &deltas, out);
                }
                self.note_failure(&end, frame);
                self.end_with(end, Some(frame), out);
                break;
            }
            self.encode(frame, &deltas, out);
        }
        output
    }

    /// Records the deltas of a frame and removes those that are not for the caller. Returns whether they
    /// contained model output.
    fn read(&mut self, deltas: &mut Vec<Delta<'_>>) -> bool {
        if !self.names.is_empty() {
            restore_names(deltas, &self.names);
        }
        let mut output = false;
        if let Some(before) = &self.before {
            for delta in deltas.iter_mut() {
                if let Delta::Usage(usage) = delta {
                    *usage = usage_of_both(before, *usage);
                }
            }
        }
        for delta in deltas.iter() {
            output |= self.tally.note(delta);
        }
        self.stages.pass(deltas);
        // Most frames are a piece of text, which neither stops nor counts.
        if !matches!(deltas.as_slice(), [Delta::Text { .. } | Delta::Reasoning { .. }]) {
            self.note_passed(deltas);
        }
        output
    }

    /// Records the deltas that reach the caller and removes those beyond a limit.
    fn note_passed(&mut self, deltas: &mut Vec<Delta<'_>>) {
        let cited = self.parts.citations;
        for delta in deltas.iter() {
            match delta {
                Delta::Stop { choice, reason } => self.note_stop(*choice, reason),
                Delta::ToolStart { .. } => self.parts.calls += 1,
                Delta::Citation(_) => self.parts.citations += 1,
                _ => {}
            }
        }
        if self.parts.citations > MAX_CITATIONS {
            bound_citations(deltas, MAX_CITATIONS.saturating_sub(cited));
        }
    }

    /// Appends the deltas that stages still hold. Returns the end of the answer: these deltas may turn a
    /// complete answer into a failed one.
    fn flush_stages(&mut self, end: End, deltas: &mut Vec<Delta<'_>>) -> End {
        let mut held = Vec::new();
        let verdict = self.stages.flush(&mut held, &self.tally);
        self.note_passed(&mut held);
        deltas.append(&mut held);
        match verdict {
            Some(verdict) if end == End::Complete => verdict.end,
            _ => end,
        }
    }

    fn encode(&mut self, frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        if let Some(detached) = &mut self.detached {
            detached.extend(deltas.iter().cloned().map(Delta::into_owned));
        }
        let Some(encoder) = &mut self.encoder else { return };
        if let Some(record) = &mut self.record {
            record.note(frame, deltas, self.mode);
        }
        for delta in deltas {
            self.kept.read_id(delta);
            // Passed-through data is written with its frame.
            if self.mode == Mode::Translated {
                self.kept.read(delta, encoder.keeps(delta));
            }
        }
        let before = out.len();
        encoder.frame(frame, deltas, out);
        self.kept.written(out.len() - before);
    }

    fn note_failure(&mut self, end: &End, frame: &Frame) {
        self.failure = matches!(end, End::Failed(_)).then(|| frame.data.clone());
    }

    /// Records a stop. The last one of an alternative counts.
    fn note_stop(&mut self, choice: u32, reason: &Stop) {
        if choice == 0 {
            self.tally.stop = Some(reason.clone());
        }
        let failure = finish::failure(reason).map(|fault| (choice, fault));
        self.broken.take_if(|(broken, _)| *broken == choice);
        self.broken = self.broken.take().or(failure);
    }

    /// Final end of the answer. An answer that its upstream aborted is not complete for callers whose dialect
    /// lacks its finish reason. For callers of the same dialect it is passed through if it has any output.
    fn verdict(&mut self, end: End) -> End {
        let silent = self.framing != Framing::Whole && self.tally.outputs == 0;
        match self.broken.take() {
            Some((_, fault)) if end == End::Complete => match (self.mode, &self.tally.stop) {
                (Mode::Translated, _) => End::Failed(fault),
                (Mode::Verbatim, Some(Stop::Failed(_))) if silent => End::Failed(fault),
                (Mode::Verbatim, _) => end,
            },
            _ => end,
        }
    }

    fn end_with(&mut self, end: End, last: Option<&Frame>, out: &mut BytesMut) {
        let mut held = Vec::new();
        let complete = end == End::Complete;
        let end = self.flush_stages(end, &mut held);
        // If a stage fails a complete answer, the last frame contradicts the error and is not written.
        let last = last.filter(|_| complete == (end == End::Complete));
        if !held.is_empty() {
            self.encode(&Frame::default(), &held, out);
        }
        let end = self.verdict(end);
        let continuable = self
            .record
            .as_ref()
            .is_some_and(|record| is_continuable_end(&end) && record.text().is_some());
        if continuable {
            self.held = Some(HeldEnd { last: last.cloned() });
        } else {
            self.write_end(&end, last, out);
        }
        self.tally.complete = end == End::Complete;
        self.end = Some(end);
    }

    fn write_end(&mut self, end: &End, last: Option<&Frame>, out: &mut BytesMut) {
        let Some(encoder) = &mut self.encoder else { return };
        match end {
            // The vendor's message would name the operator's account and blame the caller's key.
            End::Failed(fault) if fault.is_about_credential() => {
                let replacement = fault.replacement().unwrap_or_else(|| fault.clone());
                encoder.finish(&End::Failed(replacement), None, out);
            }
            end => encoder.finish(end, last, out),
        }
    }
}

#[cfg(test)]
mod tests;
