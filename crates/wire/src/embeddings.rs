//! Embeddings: a neutral request, its answer, and the codec that all dialects share.
//!
//! This module is pure and independent of dialects. Numbers are never rounded: their text is copied from answer
//! to answer. Only base64, which holds 32 bits of each number, changes the form.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;

use super::body::{parse, refuse};
use super::chat::{ApiError, Delta, End, Kind, Usage};
use super::dialect::{Decode, Encode, ResponseContext};
use super::framing::Frame;
use super::json::{quoted, text};

/// A request for embeddings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmbedRequest {
    /// The texts, one vector each.
    pub inputs: Vec<String>,
    /// Number of dimensions of the vectors.
    pub dimensions: Option<u64>,
    /// Purpose of the vectors.
    pub input_type: Option<InputType>,
    /// Handling of a text that is too long. `None` uses the upstream's default.
    pub truncate: Option<Truncate>,
    /// The title of the documents.
    pub title: Option<String>,
    /// The end user's id.
    pub user: Option<String>,
}

/// Purpose of the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputType {
    /// A query, to be matched with documents.
    Query,
    /// A document to be found.
    Document,
    /// Input of a classifier.
    Classification,
    /// Input of a clustering algorithm.
    Clustering,
    /// Comparison of texts with each other.
    Similarity,
}

/// Handling of a text that is longer than the model accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncate {
    /// Reject it.
    None,
    /// Cut off its start.
    Start,
    /// Cut off its end.
    End,
}

/// A vector as its upstream wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vector<'f> {
    /// A JSON array of numbers.
    Numbers(Cow<'f, str>),
    /// Little-endian 32-bit floats in standard base64.
    Base64(Cow<'f, str>),
}

impl<'f> Vector<'f> {
    /// The vector in a JSON value. It is validated by [`Vector::dimensions`].
    pub fn new(value: &'f RawValue) -> Self {
        match text(value) {
            Some(base64) => Self::Base64(base64),
            None => Self::Numbers(Cow::Borrowed(value.get())),
        }
    }

    /// Returns the vector without borrowing from a frame.
    #[must_use]
    pub fn into_owned(self) -> Vector<'static> {
        match self {
            Self::Numbers(text) => Vector::Numbers(text.into_owned().into()),
            Self::Base64(text) => Vector::Base64(text.into_owned().into()),
        }
    }

    /// Number of dimensions. `None` if the value is not a vector, or is empty.
    pub fn dimensions(&self) -> Option<usize> {
        Some(self.floats()?.len()).filter(|length| *length > 0)
    }

    /// The numbers as 32-bit floats, each the nearest to its text.
    fn floats(&self) -> Option<Vec<f32>> {
        let floats: Vec<f32> = match self {
            Self::Numbers(json) => {
                let numbers: Vec<&RawValue> = serde_json::from_str(json).ok()?;
                numbers.iter().map(|number| number.get().parse().ok()).collect::<Option<_>>()?
            }
            Self::Base64(base64) => {
                let bytes = STANDARD.decode(base64.as_bytes()).ok()?;
                let (floats, rest) = bytes.as_chunks();
                rest.is_empty()
                    .then(|| floats.iter().map(|float| f32::from_le_bytes(*float)).collect())?
            }
        };
        floats.iter().all(|float| float.is_finite()).then_some(floats)
    }

    /// The vector as a JSON array of numbers.
    pub fn numbers(&self) -> Cow<'_, str> {
        match self {
            Self::Numbers(json) => Cow::Borrowed(json),
            // The shortest texts that parse to the same numbers.
            Self::Base64(_) => {
                let floats = self.floats().unwrap_or_default();
                Cow::Owned(serde_json::to_string(&floats).unwrap_or_default())
            }
        }
    }

    /// The vector as a JSON string of base64.
    pub fn base64(&self) -> String {
        match self {
            Self::Numbers(_) => {
                let floats = self.floats().unwrap_or_default();
                let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
                format!("\"{}\"", STANDARD.encode(bytes))
            }
            Self::Base64(base64) => quoted(base64),
        }
    }
}

/// Writes a request as JSON. Serialisation fails only for maps with keys other than strings.
pub fn written(request: &impl serde::Serialize) -> String {
    serde_json::to_string(request).unwrap_or_default()
}

/// Reads a list of texts, or a single text, at `path`.
pub fn texts(path: &str, value: &RawValue) -> Result<Vec<String>, ApiError> {
    if let Some(alone) = text(value) {
        return Ok(vec![alone.into_owned()]);
    }
    if !value.get().starts_with('[') {
        return Err(refuse(path, "must be a string or an array of strings"));
    }
    let items: Vec<&RawValue> = parse(path, value.get())?;
    if items.is_empty() {
        return Err(refuse(path, "must hold at least one text"));
    }
    let one = |(at, item): (usize, &&RawValue)| {
        let text = text(item).map(Cow::into_owned);
        text.ok_or_else(|| refuse(&format!("{path}[{at}]"), "must be a string"))
    };
    items.iter().enumerate().map(one).collect()
}

/// Contents of an upstream's answer.
#[derive(Debug, Default)]
pub struct Answer<'f> {
    /// The model as the upstream names it, or empty.
    pub model: Cow<'f, str>,
    /// The vectors, in the order of the texts.
    pub vectors: Vec<Vector<'f>>,
    /// The upstream's token count of the texts.
    pub input_tokens: Option<u64>,
}

/// Decoder of a dialect's embeddings answer.
#[derive(Debug)]
pub struct Decoder(pub for<'f> fn(&'f str) -> Result<Answer<'f>, End>);

impl Decode for Decoder {
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        Some(self.answer(frame, out))
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        let Ok(json) = std::str::from_utf8(&body.data) else {
            return absent();
        };
        match (self.0)(json) {
            Ok(Answer { model, vectors, input_tokens: input }) => {
                out.push(Delta::Start { id: Cow::Borrowed(""), model });
                out.push(Delta::Usage(Usage { input, output: Some(0), ..Usage::default() }));
                out.push(Delta::Embeddings(vectors));
                End::Complete
            }
            Err(end) => end,
        }
    }

    fn finish(&mut self) -> End {
        End::Truncated
    }
}

/// Parses the JSON of an answer.
pub fn parsed<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Result<T, End> {
    serde_json::from_str(json).map_err(
        |error| {
            if error.is_eof() { End::Truncated } else { absent() }
        },
    )
}

/// The end of an answer without vectors.
pub fn absent() -> End {
    End::Failed(ApiError::new(Kind::Upstream, "the upstream's answer holds no embeddings"))
}

/// A decoder that also verifies an answer that is going to be translated: one vector per text, all of the same
/// length.
pub struct Verified {
    /// The decoder of the answer.
    pub inner: Box<dyn Decode>,
    /// Number of texts in the request.
    pub inputs: usize,
}

impl Verified {
    fn verify(&self, deltas: &[Delta<'_>]) -> Result<(), String> {
        for delta in deltas {
            let Delta::Embeddings(vectors) = delta else { continue };
            if vectors.len() != self.inputs {
                let (found, wanted) = (vectors.len(), self.inputs);
                return Err(format!("the upstream sent {found} embeddings for {wanted} texts"));
            }
            let lengths: Vec<Option<usize>> = vectors.iter().map(Vector::dimensions).collect();
            if let Some(at) = lengths.iter().position(Option::is_none) {
                return Err(format!("the upstream's embedding of text {at} is no list of numbers"));
            }
            if lengths.iter().any(|length| Some(length) != lengths.first()) {
                return Err("the upstream's embeddings differ in length".to_owned());
            }
        }
        Ok(())
    }
}

impl Decode for Verified {
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        Some(self.answer(frame, out))
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        let end = self.inner.answer(body, out);
        match self.verify(out) {
            Ok(()) => end,
            Err(message) => {
                out.clear();
                End::Failed(ApiError::new(Kind::Upstream, message))
            }
        }
    }

    fn finish(&mut self) -> End {
        self.inner.finish()
    }
}

/// Contents of an answer to a caller.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The identity of the answer.
    pub call: &'a ResponseContext,
    /// The model's name.
    pub model: &'a str,
    /// The vectors, in the order of the texts.
    pub vectors: &'a [Vector<'a>],
    /// The upstream's token count, else the gateway's estimate.
    pub input_tokens: u64,
}

impl Reply<'_> {
    /// A JSON array with the result of `write` for each vector.
    pub fn list(&self, write: impl Fn(usize, &Vector<'_>) -> String) -> String {
        let items: Vec<String> =
            self.vectors.iter().enumerate().map(|(at, vector)| write(at, vector)).collect();
        format!("[{}]", items.join(","))
    }
}

/// Encoder of a dialect's embeddings answer.
#[derive(Debug)]
pub struct Encoder {
    write: fn(&Reply<'_>) -> String,
    call: ResponseContext,
    body: String,
}

impl Encoder {
    /// Creates an encoder. `write` returns the body of the answer.
    pub fn new(call: &ResponseContext, write: fn(&Reply<'_>) -> String) -> Self {
        Self { write, call: call.clone(), body: String::new() }
    }
}

impl Encode for Encoder {
    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], _out: &mut BytesMut) {
        let (mut own_name, mut used) = (None, None);
        for delta in deltas {
            match delta {
                Delta::Start { model, .. } if !model.is_empty() => own_name = Some(&**model),
                Delta::Usage(usage) => used = usage.input,
                Delta::Embeddings(vectors) => {
                    self.body = (self.write)(&Reply {
                        call: &self.call,
                        model: own_name.unwrap_or(&self.call.model),
                        vectors,
                        input_tokens: used.unwrap_or(self.call.input_estimate),
                    });
                }
                _ => {}
            }
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        if *end == End::Complete {
            out.put_slice(self.body.as_bytes());
        }
    }
}

#[cfg(test)]
#[path = "embeddings_tests.rs"]
mod tests;
