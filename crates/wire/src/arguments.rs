//! Arguments of calls in earlier turns. A conversation is sent again with every turn, so that one call with
//! invalid arguments, cut by a limit or malformed by a model, must not end it.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{self, Members, quoted};

/// Member that keeps arguments other than an object, as text.
const TRUNCATED: &str = "_truncated";

/// Returns arguments as an object: unchanged if they are one, `{}` if they are empty, otherwise the text in an
/// object. `written` is JSON, or a string that holds JSON.
pub(crate) fn object(written: Option<&RawValue>) -> Box<RawValue> {
    let written = written
        .map_or_else(Default::default, |raw| json::text(raw).unwrap_or_else(|| raw.get().into()));
    of_text(&written)
}

/// The same for a text.
pub(crate) fn of_text(written: &str) -> Box<RawValue> {
    let written = written.trim();
    let is_object = written.starts_with('{') && Members::parse(written).is_ok();
    let json = match written {
        "" | "null" => "{}".to_owned(),
        _ if is_object => written.to_owned(),
        _ => format!(r#"{{"{TRUNCATED}":{}}}"#, quoted(written)),
    };
    // Each of the three cases yields an object.
    RawValue::from_string(json).unwrap_or_default()
}

/// The text of arguments that are such an object; `None`: they are not.
pub(crate) fn cut_off(json: &str) -> Option<String> {
    let marked = json.trim_start().strip_prefix('{')?.trim_start().strip_prefix('"')?;
    marked.strip_prefix(TRUNCATED)?;
    let members = Members::parse(json).ok()?;
    match members.0.as_slice() {
        [(name, value)] if name == TRUNCATED => json::text(value).map(Cow::into_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_written_is_an_object() {
        for (written, expected) in [
            (r#""{\"b\": 1.0, \"a\":2}""#, r#"{"b": 1.0, "a":2}"#),
            (r#"{"b":1}"#, r#"{"b":1}"#),
            (r#""""#, "{}"),
            (r#"" ""#, "{}"),
            ("null", "{}"),
            (r#""null""#, "{}"),
            (r#""{\"path\": \"a""#, r#"{"_truncated":"{\"path\": \"a"}"#),
            (r#""[]""#, r#"{"_truncated":"[]"}"#),
            ("[1]", r#"{"_truncated":"[1]"}"#),
            (r#""{}{}""#, r#"{"_truncated":"{}{}"}"#),
            ("7", r#"{"_truncated":"7"}"#),
        ] {
            let raw = RawValue::from_string(written.to_owned()).unwrap();
            assert_eq!(object(Some(&raw)).get(), expected, "{written}");
        }
        assert_eq!(object(None).get(), "{}");
    }
}
