//! Arguments of calls in earlier turns. A conversation is sent again and again: one call whose arguments
//! are no JSON object, cut by a limit or malformed by a model, must not end it.

use serde_json::value::RawValue;

use super::json::{self, Members, quoted};

/// The member that keeps arguments which are no object, as text.
const TRUNCATED: &str = "_truncated";

/// Arguments as an object: as they were written if they are one; `{}` for nothing; anything else is kept
/// as text. `written`: JSON, or a string that holds JSON.
pub(crate) fn object(written: Option<&RawValue>) -> Box<RawValue> {
    let written = written
        .map_or_else(Default::default, |raw| json::text(raw).unwrap_or_else(|| raw.get().into()));
    of_text(&written)
}

/// The same of a text.
pub(crate) fn of_text(written: &str) -> Box<RawValue> {
    let written = written.trim();
    let is_object = written.starts_with('{') && Members::parse(written).is_ok();
    let json = match written {
        "" | "null" => "{}".to_owned(),
        _ if is_object => written.to_owned(),
        _ => format!(r#"{{"{TRUNCATED}":{}}}"#, quoted(written)),
    };
    // Each of the three is an object.
    RawValue::from_string(json).unwrap_or_default()
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
