//! Content encodings of event streams that the operator allows (`streams.compression`). Data only.

use super::field::{Field, Format};
use super::reader::{Reader, Table};

/// A content encoding of event streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEncoding {
    /// `gzip` (RFC 1952).
    Gzip,
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
}

impl StreamEncoding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Its name in `accept-encoding` and `content-encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == name)
    }
}

/// The encodings that are allowed, each once; the first is preferred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamEncodings([Option<StreamEncoding>; StreamEncoding::ALL.len()]);

impl StreamEncodings {
    /// The encodings, the preferred one first.
    pub fn iter(self) -> impl Iterator<Item = StreamEncoding> {
        self.0.into_iter().flatten()
    }

    /// Whether event streams are never compressed.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl FromIterator<StreamEncoding> for StreamEncodings {
    fn from_iter<I: IntoIterator<Item = StreamEncoding>>(encodings: I) -> Self {
        let mut allowed = Self::default();
        for encoding in encodings {
            if allowed.iter().all(|other| other != encoding)
                && let Some(free) = allowed.0.iter_mut().find(|place| place.is_none())
            {
                *free = Some(encoding);
            }
        }
        allowed
    }
}

pub(super) const COMPRESSION: Field<StreamEncoding> = Format::choice(
    || StreamEncoding::ALL.map(StreamEncoding::name).to_vec(),
    StreamEncoding::by_name,
)
.list(
    "compression",
    "Encodings in which event streams of channels and of durable streams are compressed for clients that accept them, the \
     preferred one first. Each compressed connection takes up to 0.4 MB of memory.",
)
.otherwise("none")
.example("[zstd, br, gzip]");

/// Reads the key.
pub(super) fn compression(reader: &mut Reader<'_>, streams: &Table<'_>) -> StreamEncodings {
    reader.values(streams, &COMPRESSION).unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_is_allowed_once_in_the_order_of_preference() {
        use StreamEncoding::{Gzip, Zstd};
        let allowed: StreamEncodings = [Zstd, Gzip, Zstd, Gzip, Gzip].into_iter().collect();
        assert_eq!(allowed.iter().collect::<Vec<_>>(), [Zstd, Gzip]);
        assert!(StreamEncodings::default().is_empty() && !allowed.is_empty());
    }
}
