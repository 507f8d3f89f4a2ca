//! Content encodings of request bodies: one layer, decoded within a bound of size and a bound of ratio. It must never
//! decode more than these bounds allow, whatever a body declares. Pure.

use std::io::Read;

use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::FrameDecoderError;

use crate::wire::chat::{ApiError, Kind};

/// The encodings that are decoded, as `accept-encoding` lists them.
pub(super) const ACCEPTED: &str = "gzip, deflate, br, zstd, identity";

/// The code of the error for any other, by which its response gets `accept-encoding` (RFC 9110, section 15.5.16).
pub(super) const UNSUPPORTED: &str = "unsupported_content_encoding";

/// The largest ratio of a body's decoded size to its encoded size. Repetitive prose reaches 20; zeros reach 1000.
const RATIO: usize = 200;
/// The decoded size that every body may have, however small it is.
const ALWAYS: usize = 1 << 20;
/// The largest window of a zstd frame (RFC 9659).
const WINDOW: u64 = 8 << 20;
/// The bytes that are decoded between two checks of the bounds.
const STEP: usize = 64 << 10;

/// An encoding that is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentEncoding {
    Gzip,
    /// With the header of zlib, as it should be, or without, as some send it.
    Deflate,
    Brotli,
    Zstd,
}

impl ContentEncoding {
    /// The one that a request names. `None`: its body is as it is.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let values = headers.get_all(CONTENT_ENCODING).into_iter();
        let values: Vec<&str> = values.map(|value| value.to_str().unwrap_or("?")).collect();
        let names = values.iter().flat_map(|value| value.split(',')).map(str::trim);
        let mut names =
            names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
        let Some(name) = names.next() else { return Ok(None) };
        let known = match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            "zstd" => Some(Self::Zstd),
            _ => None,
        };
        match (known, names.next()) {
            (Some(encoding), None) => Ok(Some(encoding)),
            (_, more) => {
                let what =
                    if more.is_some() { "more than one encoding" } else { "this content-encoding" };
                Err(ApiError {
                    code: Some(UNSUPPORTED.to_owned()),
                    ..ApiError::new(
                        Kind::MediaType,
                        format!(
                            "compressed with {what}, which is not accepted; send one of {ACCEPTED}"
                        ),
                    )
                })
            }
        }
    }

    /// The one that bytes begin as: the magic numbers of RFC 1952 and RFC 8878. The others have none.
    pub(super) fn recognize(body: &[u8]) -> Option<Self> {
        match body {
            [0x1F, 0x8B, ..] => Some(Self::Gzip),
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// Decodes a whole body to at most `limit` bytes, as long as `room` has room for what there is so far.
    pub(super) fn decode<E: From<ApiError>>(
        self,
        body: &[u8],
        limit: usize,
        room: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Vec<u8>, E> {
        let ratio = body.len().saturating_mul(RATIO).max(ALWAYS);
        let mut bounds = Bounds { limit, ratio, room };
        let mut out = Vec::new();
        let done = match self {
            Self::Gzip => bounds.read(flate2::read::MultiGzDecoder::new(body), &mut out),
            Self::Deflate if is_zlib(body) => {
                let mut decoder = flate2::bufread::ZlibDecoder::new(body);
                bounds.read(&mut decoder, &mut out).and_then(|()| ended(decoder.into_inner()))
            }
            Self::Deflate => {
                let mut decoder = flate2::bufread::DeflateDecoder::new(body);
                bounds.read(&mut decoder, &mut out).and_then(|()| ended(decoder.into_inner()))
            }
            Self::Brotli => bounds.brotli(body, &mut out),
            Self::Zstd => bounds.zstd(body, &mut out),
        };
        let (kind, message) = match done {
            Ok(()) => return Ok(out),
            Err(ContentError::NoRoom(error)) => return Err(error),
            Err(ContentError::Invalid) => (
                Kind::Invalid,
                format!(
                    "the request body is cut, is not {name}, which its content-encoding says, or has bytes after it; send it whole, or without compression",
                    name = self.name()
                ),
            ),
            Err(ContentError::Window) => (
                Kind::Invalid,
                format!(
                    "the request body needs a zstd window of more than {mib} MiB; compress it with a smaller one (`--ultra` and `--long` make larger ones), or send it without compression",
                    mib = WINDOW >> 20
                ),
            ),
            Err(ContentError::TooLarge) => (
                Kind::TooLarge,
                format!(
                    "the request body is larger than the limit of {limit} bytes when it is decoded"
                ),
            ),
            Err(ContentError::Ratio) => (
                Kind::TooLarge,
                format!(
                    "the request body grows to more than {RATIO} times its size when it is decoded; send it without compression"
                ),
            ),
        };
        Err(ApiError::new(kind, message).into())
    }
}

/// The reasons why decoding stops.
enum ContentError<E> {
    Invalid,
    Window,
    TooLarge,
    Ratio,
    NoRoom(E),
}

/// The bounds of the decoded size, in bytes.
struct Bounds<R> {
    limit: usize,
    ratio: usize,
    /// Called after each step with the decoded size so far. Its error ends the decoding.
    room: R,
}

impl<E, R: FnMut(usize) -> Result<(), E>> Bounds<R> {
    fn read(&mut self, mut source: impl Read, out: &mut Vec<u8>) -> Result<(), ContentError<E>> {
        loop {
            let read = source.by_ref().take(STEP as u64).read_to_end(out);
            if read.map_err(|_| ContentError::Invalid)? == 0 {
                return Ok(());
            }
            if out.len() > self.limit {
                return Err(ContentError::TooLarge);
            }
            if out.len() > self.ratio {
                return Err(ContentError::Ratio);
            }
            (self.room)(out.len()).map_err(ContentError::NoRoom)?;
        }
    }

    fn brotli(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), ContentError<E>> {
        let mut decoder = brotli_decompressor::Decompressor::new(body, STEP);
        self.read(&mut decoder, out)?;
        // The next read fails if the decoder has buffered bytes beyond the end of the stream.
        match decoder.read(&mut [0]) {
            Ok(0) => ended(decoder.into_inner()),
            _ => Err(ContentError::Invalid),
        }
    }

    /// One or more frames.
    fn zstd(&mut self, mut body: &[u8], out: &mut Vec<u8>) -> Result<(), ContentError<E>> {
        loop {
            let mut frame =
                StreamingDecoder::new_with_max_window_size(&mut body, WINDOW).map_err(|error| {
                    match error {
                        FrameDecoderError::WindowSizeTooBig { .. } => ContentError::Window,
                        _ => ContentError::Invalid,
                    }
                })?;
            self.read(&mut frame, out)?;
            let frame = frame.into_frame_decoder();
            let expected = frame.get_checksum_from_data();
            if expected.is_some() && expected != frame.get_calculated_checksum() {
                return Err(ContentError::Invalid);
            }
            if body.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Rejects bytes after the end of a stream: they would be dropped.
fn ended<E>(rest: &[u8]) -> Result<(), ContentError<E>> {
    if rest.is_empty() { Ok(()) } else { Err(ContentError::Invalid) }
}

/// RFC 1950, section 2.2: the method, and a check of both bytes.
fn is_zlib(body: &[u8]) -> bool {
    let &[method, flags, ..] = body else { return false };
    method & 15 == 8 && u16::from_be_bytes([method, flags]).is_multiple_of(31)
}

#[cfg(test)]
#[path = "content_encoding_tests.rs"]
mod tests;
