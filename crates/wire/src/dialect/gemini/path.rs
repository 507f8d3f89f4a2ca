//! Paths, which carry the model and the method: `models/MODEL:METHOD`.

use std::fmt::Write;

use crate::chat::{ApiError, Kind};
use crate::dialect::Form;

/// Prefixes of the paths that callers send requests to.
const PREFIXES: [&str; 2] = [PREFIX, "/v1/models/"];
/// The one that error messages name.
const PREFIX: &str = "/v1beta/models/";

/// The values that a path and its query select.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) form: Form,
}

/// Reads a path as it was sent, percent-encoded, and the query.
pub(super) fn read(path: &str, query: &str) -> Result<Wanted, ApiError> {
    let unknown = || {
        let message = format!(
            "there is no such method here; callers post to {PREFIX}MODEL:generateContent or \
             {PREFIX}MODEL:streamGenerateContent"
        );
        ApiError::new(Kind::NotFound, message)
    };
    let rest = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix));
    let rest = rest.and_then(decoded).ok_or_else(unknown)?;
    let (model, method) = rest.rsplit_once(':').ok_or_else(unknown)?;
    if model.is_empty() {
        return Err(unknown());
    }
    let sse = query.split('&').any(|pair| matches!(pair, "alt=sse" | "$alt=sse" | "%24alt=sse"));
    let (stream, form) = match method {
        "generateContent" => (false, Form::Chat),
        "streamGenerateContent" if sse => (true, Form::Chat),
        "streamGenerateContent" => (true, Form::ChatArray),
        "countTokens" => (false, Form::CountTokens),
        "embedContent" => (false, Form::Embedding),
        "batchEmbedContents" => (false, Form::Embeddings),
        _ => return Err(unknown()),
    };
    Ok(Wanted { model: model.to_owned(), stream, form })
}

/// The path of the upstream request. Upstream streams are always events, independent of the caller's
/// layout.
pub(super) fn write(model: &str, stream: bool, form: Form) -> String {
    let method = match form {
        Form::CountTokens => "countTokens",
        Form::Embedding => "embedContent",
        Form::Embeddings => "batchEmbedContents",
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
            ("/v1beta/models/m:generateContent", "", "m", false, Form::Chat),
            ("/v1beta/models/m:streamGenerateContent", "alt=sse", "m", true, Form::Chat),
            ("/v1beta/models/m:streamGenerateContent", "key=x&alt=sse", "m", true, Form::Chat),
            ("/v1beta/models/m:streamGenerateContent", "alt=json", "m", true, Form::ChatArray),
            (
                "/v1beta/models/a/b%2Fc%3A8b:streamGenerateContent",
                "",
                "a/b/c:8b",
                true,
                Form::ChatArray,
            ),
            ("/v1/models/a/b:generateContent", "", "a/b", false, Form::Chat),
            ("/v1beta/models/m%3AcountTokens", "", "m", false, Form::CountTokens),
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
        assert_eq!(write("models/m", true, Form::Chat), "/models/m:streamGenerateContent?alt=sse");
        assert_eq!(
            write("../x?y#z é", false, Form::Chat),
            "/models/..%2Fx%3Fy%23z%20%C3%A9:generateContent"
        );
        assert_eq!(write("m", false, Form::CountTokens), "/models/m:countTokens");
    }
}
