//! Decoders of compressed event streams that return every byte as soon as it can be decoded, as browsers do.

use std::io::Write;

/// The names of all encodings.
pub(crate) const ENCODINGS: [&str; 3] = ["gzip", "br", "zstd"];

/// A decoder, and what it has decoded.
pub(crate) enum Decoder {
    Identity(Vec<u8>),
    Gzip(flate2::write::GzDecoder<Vec<u8>>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
}

impl Decoder {
    /// The decoder of a `content-encoding`.
    pub(crate) fn of(encoding: Option<&http::HeaderValue>) -> Self {
        match encoding.map(|name| name.to_str().unwrap()) {
            None => Self::Identity(Vec::new()),
            Some("gzip") => Self::Gzip(flate2::write::GzDecoder::new(Vec::new())),
            Some("br") => Self::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(
                Vec::new(),
                4096,
            ))),
            Some("zstd") => Self::Zstd(zstd::stream::write::Decoder::new(Vec::new()).unwrap()),
            Some(other) => panic!("{other}"),
        }
    }

    /// Reads bytes. Returns all text so far.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> &str {
        let writer: &mut dyn Write = match self {
            Self::Identity(out) => out,
            Self::Gzip(decoder) => decoder,
            Self::Brotli(decoder) => decoder,
            Self::Zstd(decoder) => decoder,
        };
        writer.write_all(bytes).unwrap();
        writer.flush().unwrap();
        std::str::from_utf8(match self {
            Self::Identity(out) => out,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Brotli(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        })
        .unwrap()
    }
}
