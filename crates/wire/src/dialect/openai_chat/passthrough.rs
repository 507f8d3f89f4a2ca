//! Answers of legacy completions, which are passed on as they are and never translated. They are read
//! for usage and for their end only.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::decode;
use super::event::usage;
use crate::chat::{ApiError, Delta, End, Kind, Stop};
use crate::dialect::Decode;
use crate::error_body;
use crate::framing::Frame;
use crate::json;

type Raw<'a> = Option<&'a RawValue>;

/// A chunk of a completion, or a whole one.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    model: Raw<'a>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    usage: Raw<'a>,
    #[serde(borrow)]
    error: Raw<'a>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    finish_reason: Raw<'a>,
}

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    /// Alternatives that have begun and not stopped.
    open: std::collections::BTreeSet<u32>,
    stopped: bool,
}

impl Decode for Decoder {
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        let payload = frame.data.as_ref();
        if decode::is_blank(payload) {
            return None;
        }
        if payload.trim_ascii().starts_with(b"[DONE]") {
            return Some(if self.started { End::Complete } else { End::Truncated });
        }
        if frame.event.as_deref() == Some(b"error") {
            return Some(End::Failed(error_body::in_stream(payload)));
        }
        self.read(payload, out).err()
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        let payload = body.data.as_ref();
        match self.read(payload, out) {
            Err(End::Failed(_)) if payload.trim_ascii().is_empty() => End::Truncated,
            Err(end) => end,
            Ok(true) => End::Complete,
            Ok(false) => {
                End::Failed(ApiError::new(Kind::Upstream, "the upstream's answer has no choices"))
            }
        }
    }

    fn finish(&mut self) -> End {
        if self.stopped && self.open.is_empty() { End::Complete } else { End::Truncated }
    }
}

impl Decoder {
    /// Reads a payload and returns whether it holds an answer.
    fn read<'f>(&mut self, payload: &'f [u8], out: &mut Vec<Delta<'f>>) -> Result<bool, End> {
        let answer: Answer<'f> = serde_json::from_slice(payload).map_err(|error| {
            if error.is_eof() {
                return End::Truncated;
            }
            let message = "the upstream sent an answer that cannot be read";
            End::Failed(ApiError::new(Kind::Upstream, message))
        })?;
        if answer.error.is_some_and(|error| !json::is_null(error)) {
            return Err(End::Failed(error_body::in_stream(payload)));
        }
        if !std::mem::replace(&mut self.started, true) {
            let id = answer.id.and_then(json::text).unwrap_or_default();
            let model = answer.model.and_then(json::text).unwrap_or_default();
            out.push(Delta::Start { id, model });
        }
        let said = answer.choices.is_some();
        for choice in answer.choices.into_iter().flatten() {
            self.choice(&choice, out);
        }
        if let Some(usage) = answer.usage.and_then(usage) {
            out.push(Delta::Usage(usage));
        }
        Ok(said)
    }

    fn choice<'f>(&mut self, choice: &Choice<'f>, out: &mut Vec<Delta<'f>>) {
        if let Some(text) = choice.text.and_then(json::text).filter(|text| !text.is_empty()) {
            out.push(Delta::Text { choice: choice.index, text });
        }
        let reason = match choice.finish_reason.and_then(json::text).as_deref() {
            None | Some("") => {
                self.open.insert(choice.index);
                return;
            }
            Some("length") => Stop::MaxTokens,
            Some("content_filter") => Stop::ContentFilter,
            Some(_) => Stop::End,
        };
        self.open.remove(&choice.index);
        self.stopped = true;
        out.push(Delta::Stop { choice: choice.index, reason });
    }
}
