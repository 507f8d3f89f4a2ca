//! Compression of event streams: gzip, brotli and zstd, flushed at each write, so that a client can decode an event as
//! soon as it is sent. It must never hold bytes back, and never compress anything but event streams.
//!
//! A connection keeps its encoder for as long as it lasts, mostly idle, so that windows are small and levels low: beyond
//! 32 KiB events repeat little, and a level more costs twice the memory.

use std::io::{self, Write};
use std::sync::Arc;

use async_stream::stream;
use axum::BoxError;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use flate2::write::GzEncoder;
use futures_util::{Stream, StreamExt};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Method};
use zstd::stream::raw::CParameter;

use super::accept_encoding::negotiate;
use super::state::Gateway;
use crate::config::StreamEncoding;

/// Of 1 to 9.
const GZIP_LEVEL: u32 = 1;

/// Of 0 to 11. From 5 on, an encoder has megabytes.
const BROTLI_QUALITY: u32 = 3;
/// 64 KiB; brotli's own default is 4 MiB.
const BROTLI_WINDOW: u32 = 16;
/// The bytes of output that are moved at once.
const BROTLI_BUFFER: usize = 4096;

/// Of 1 to 22.
const ZSTD_LEVEL: i32 = 1;
/// 32 KiB.
const ZSTD_WINDOW: u32 = 15;

/// A layer that compresses the event streams of an endpoint as `streams.compression` allows and the client accepts.
pub async fn compress(
    Shared(gateway): Shared<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = gateway.state().config.streams.compression;
    if allowed.is_empty() || request.method() != Method::GET {
        return next.run(request).await;
    }
    let encoding = negotiate(request.headers(), allowed);
    let mut response = next.run(request).await;
    if !is_event_stream(response.headers()) {
        return response;
    }
    response.headers_mut().append(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    let Some(encoding) = encoding else { return response };
    let encoder = match Encoder::new(encoding) {
        Ok(encoder) => encoder,
        Err(error) => {
            tracing::warn!(%error, "an event stream is not compressed");
            return response;
        }
    };
    let (mut head, body) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    Response::from_parts(head, Body::from_stream(compressed(body, encoder)))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream")
}

/// A compressed body: one part for each part of the body. A body that fails is cut, and has no end that a decoder
/// accepts.
fn compressed(
    body: Body,
    mut encoder: Encoder,
) -> impl Stream<Item = Result<Bytes, BoxError>> + Send {
    let mut parts = body.into_data_stream();
    stream! {
        while let Some(part) = parts.next().await {
            let part = part.map_err(BoxError::from);
            let encoded = part.and_then(|part| encoder.encode(&part).map_err(BoxError::from));
            let failed = encoded.is_err();
            yield encoded;
            if failed {
                return;
            }
        }
        yield encoder.finish().map_err(BoxError::from);
    }
}

/// The encoder of one response.
enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// An error: there is no memory for it.
    fn new(encoding: StreamEncoding) -> io::Result<Self> {
        let out = Vec::new();
        Ok(match encoding {
            StreamEncoding::Gzip => {
                Self::Gzip(GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL)))
            }
            StreamEncoding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                out,
                BROTLI_BUFFER,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
            StreamEncoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
                encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW))?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Compresses a part of a body, and flushes it.
    fn encode(&mut self, part: &[u8]) -> io::Result<Bytes> {
        let writer: &mut dyn Write = match self {
            Self::Gzip(encoder) => encoder,
            Self::Brotli(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        };
        writer.write_all(part)?;
        writer.flush()?;
        let out = match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        };
        Ok(std::mem::take(out).into())
    }

    /// The end of the body.
    fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Zstd(encoder) => encoder.finish()?,
        }
        .into())
    }
}

#[cfg(test)]
#[path = "compression_tests.rs"]
mod tests;
