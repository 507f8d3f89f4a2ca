//! Paths, which carry the model and the method: `models/MODEL:METHOD`.

use std::fmt::Write;

use crate::chat::{Fault, Kind};
use crate::dialect::CHAT;

/// What callers post to begins with one of these.
const PREFIXES: [&str; 2] = [PREFIX, "/v1/models/"];
/// The one that is told.
const PREFIX: &str = "/v1beta/models/";
/// A conversation whose answer is streamed as a JSON array, as it is without `alt=sse`.
pub(super) const ARRAY: &str = "array";
/// The tokens of a prompt are counted.
pub(super) const COUNT: &str = "countTokens";
/// One text is embedded.
pub(super) const EMBED: &str = "embedContent";
/// Several texts are embedded.
pub(super) const EMBED_ALL: &str = "batchEmbedContents";

/// What a path and its query ask for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) form: &'static str,
}

/// Reads a path as it was sent, percent-encoded, and the query.
pub(super) fn read(path: &str, query: &str) -> Result<Wanted, Fault> {
    let unknown = || {
        let message = format!(
            "there is no such method here; callers post to {PREFIX}MODEL:generateContent or \
             {PREFIX}MODEL:streamGenerateContent"
        );
        Fault::new(Kind::NotFound, message)
    };
    let rest = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix));
    let rest = rest.and_then(decoded).ok_or_else(unknown)?;
    let (model, method) = rest.rsplit_once(':').ok_or_else(unknown)?;
    if model.is_empty() {
        return Err(unknown());
    }
    let sse = query.split('&').any(|pair| matches!(pair, "alt=sse" | "$alt=sse" | "%24alt=sse"));
    let (stream, form) = match method {
        "generateContent" => (false, CHAT),
        "streamGenerateContent" if sse => (true, CHAT),
        "streamGenerateContent" => (true, ARRAY),
        COUNT => (false, COUNT),
        EMBED => (false, EMBED),
        EMBED_ALL => (false, EMBED_ALL),
        _ => return Err(unknown()),
    };
    Ok(Wanted { model: model.to_owned(), stream, form })
}

/// The path that an upstream is asked at. Streams always come as events, whatever the caller wants.
pub(super) fn write(model: &str, stream: bool, form: &str) -> String {
    let method = match form {
        COUNT | EMBED | EMBED_ALL => form,
        _ if stream => "streamGenerateContent?alt=sse",
        _ => "generateContent",
    };
    format!("/models/{}:{method}", encoded(bare(model)))
}

/// A model's name without the collection that some write before it.
pub(super) fn bare(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// A name as one segment: callers choose it, and must not choose another path with it.
fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_methods_are_read() {
        for (path, query, model, stream, form) in [
            ("/v1beta/models/m:generateContent", "", "m", false, CHAT),
            ("/v1beta/models/m:streamGenerateContent", "alt=sse", "m", true, CHAT),
            ("/v1beta/models/m:streamGenerateContent", "key=x&alt=sse", "m", true, CHAT),
            ("/v1beta/models/m:streamGenerateContent", "alt=json", "m", true, ARRAY),
            ("/v1beta/models/a/b%2Fc%3A8b:streamGenerateContent", "", "a/b/c:8b", true, ARRAY),
            ("/v1/models/a/b:generateContent", "", "a/b", false, CHAT),
            ("/v1beta/models/m%3AcountTokens", "", "m", false, COUNT),
        ] {
            let wanted = read(path, query).unwrap();
            assert_eq!(
                (wanted.model.as_str(), wanted.stream, wanted.form),
                (model, stream, form),
                "{path}"
            );
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for path in [
            "/v1beta/models/m",
            "/v1beta/models/:generateContent",
            "/v1beta/models/m:deleteEverything",
            "/v1beta/models/%zz:generateContent",
            "/v1beta/models/%ff:generateContent",
            "/v1beta/models/m:generateContent%",
            "/other",
        ] {
            assert_eq!(read(path, "").unwrap_err().kind, Kind::NotFound, "{path}");
        }
    }

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(write("models/m", true, CHAT), "/models/m:streamGenerateContent?alt=sse");
        assert_eq!(
            write("../x?y#z é", false, CHAT),
            "/models/..%2Fx%3Fy%23z%20%C3%A9:generateContent"
        );
        assert_eq!(write("m", false, COUNT), "/models/m:countTokens");
    }
}
