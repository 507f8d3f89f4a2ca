//! Content types of streams: as they were sent, and the media type that decides how a stream is read. It must never
//! look at a body.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use super::error::StreamError;

/// The longest content type.
const MAX: usize = 256;

/// The content type of a stream.
#[derive(Debug, Clone)]
pub(super) struct ContentType {
    /// As it was sent.
    pub(super) header: HeaderValue,
    /// Type and subtype in lower case, without parameters.
    media_type: String,
}

/// Two are the same if their media types are.
impl PartialEq for ContentType {
    fn eq(&self, other: &Self) -> bool {
        self.media_type == other.media_type
    }
}

/// The reading of a stream's appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Messages of JSON.
    Json,
    /// Text in UTF-8.
    Text,
    /// Bytes.
    Binary,
}

impl ContentType {
    /// That of streams whose writer gives none.
    pub(super) fn default_type() -> Self {
        let media_type = "application/octet-stream";
        Self { header: HeaderValue::from_static(media_type), media_type: media_type.to_owned() }
    }

    /// That of a request. `None`: it gives none.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, StreamError> {
        let Some(header) = headers.get(CONTENT_TYPE).filter(|header| !header.is_empty()) else {
            return Ok(None);
        };
        let text = header.to_str().ok().filter(|text| text.len() <= MAX);
        let media_type = text.and_then(|text| text.split(';').next()).map(str::trim);
        let token = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+*'%`|~".contains(&b))
        };
        let parts = media_type.and_then(|text| text.split_once('/'));
        if !parts.is_some_and(|(kind, subtype)| token(kind) && token(subtype)) {
            let message = "must be a media type such as `application/json` or `text/plain`";
            return Err(StreamError::invalid("content-type", message));
        }
        let media_type = media_type.unwrap_or_default().to_ascii_lowercase();
        Ok(Some(Self { header: header.clone(), media_type }))
    }

    /// The media type.
    pub(super) fn name(&self) -> &str {
        &self.media_type
    }

    /// The reading of appends.
    pub(super) fn mode(&self) -> Mode {
        match self.media_type.as_str() {
            "application/json" => Mode::Json,
            text if text.starts_with("text/") => Mode::Text,
            _ => Mode::Binary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static str) -> Result<Option<ContentType>, StreamError> {
        let value = HeaderValue::from_static(value);
        ContentType::of(&HeaderMap::from_iter([(CONTENT_TYPE, value)]))
    }

    #[test]
    fn content_types_are_compared_without_case_and_parameters() {
        let json = read("application/json").unwrap().unwrap();
        for same in ["APPLICATION/JSON", "application/json; charset=utf-8", " application/json ;x"]
        {
            assert_eq!(read(same).unwrap().as_ref(), Some(&json), "{same}");
        }
        assert_ne!(read("text/plain").unwrap(), Some(json));
        assert_eq!(read("").unwrap(), None);
        for wrong in ["json", "/", "a/", "/b", "a/b/c", "a b/c", "a/b,c/d"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_content_type_decides_the_mode() {
        for (name, mode) in [
            ("application/json; charset=utf-8", Mode::Json),
            ("text/markdown", Mode::Text),
            ("application/x-ndjson", Mode::Binary),
            ("image/png", Mode::Binary),
        ] {
            assert_eq!(read(name).unwrap().unwrap().mode(), mode, "{name}");
        }
    }
}
