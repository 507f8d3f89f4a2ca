//! Token counts: the answer to a request that counts a prompt and generates nothing.
//!
//! This module is pure and independent of dialects: each dialect supplies its member names and the shape of its
//! answer.

use bytes::{BufMut, BytesMut};
use serde::Deserialize;

use super::chat::{ApiError, Delta, End, Kind, Usage};
use super::dialect::{Decode, Encode};
use super::framing::Frame;
use super::json::{Members, quoted};

/// Error code of an answer without a count.
const NO_COUNT: &str = "no_count";

/// Reads the count from an answer. An error if it is missing.
type Read = fn(&[u8]) -> Result<u64, End>;

/// Decoder of a token count answer.
#[derive(Debug)]
pub struct Decoder(pub Read);

impl Decode for Decoder {
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        Some(self.answer(frame, out))
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        match (self.0)(&body.data) {
            Ok(tokens) => {
                // The tokens are counted and not consumed.
                let none = Usage { input: Some(0), output: Some(0), ..Usage::default() };
                out.extend([Delta::Usage(none), Delta::InputTokens(tokens)]);
                End::Complete
            }
            Err(end) => end,
        }
    }

    fn finish(&mut self) -> End {
        End::Truncated
    }
}

/// Encoder of a token count answer.
#[derive(Debug)]
pub struct Encoder {
    write: fn(u64) -> String,
    tokens: Option<u64>,
}

impl Encoder {
    /// Creates an encoder. `write` returns the body of the answer.
    pub fn new(write: fn(u64) -> String) -> Self {
        Self { write, tokens: None }
    }
}

impl Encode for Encoder {
    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], _out: &mut BytesMut) {
        for delta in deltas {
            if let Delta::InputTokens(tokens) = delta {
                self.tokens = Some(*tokens);
            }
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        if let (End::Complete, Some(tokens)) = (end, self.tokens) {
            out.put_slice((self.write)(tokens).as_bytes());
        }
    }
}

/// Parses the JSON of a token count answer.
pub fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, End> {
    serde_json::from_slice(body).map_err(|error| {
        let blank = body.trim_ascii().is_empty();
        if error.is_eof() && !blank { End::Truncated } else { absent() }
    })
}

/// The end of an answer without a count.
pub fn absent() -> End {
    let code = Some(NO_COUNT.to_owned());
    let message = "the upstream's answer holds no count of tokens";
    End::Failed(ApiError { code, ..ApiError::new(Kind::Upstream, message) })
}

/// Reads a bare count: the gateway's own estimate.
pub fn plain(body: &[u8]) -> Result<u64, End> {
    parsed(body)
}

/// Returns a request with only the members that the count endpoint accepts.
pub fn with_members(body: &str, names: &[&str]) -> Result<String, serde_json::Error> {
    let members = Members::parse(body)?;
    let member = |name: &&str| {
        let value = members.get(name)?;
        Some(format!("{}:{}", quoted(name), value.get()))
    };
    let kept: Vec<String> = names.iter().filter_map(member).collect();
    Ok(format!("{{{}}}", kept.join(",")))
}
