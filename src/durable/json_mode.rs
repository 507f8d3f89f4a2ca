//! JSON mode: appends as messages, which a read returns in one array. Pure. A message must never be changed, nor one be
//! cut.

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;

/// A body that is no JSON, or has no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JsonError(pub(super) String);

/// The messages of a body, separated by commas: the members of an array, of which one level is taken away, or the value
/// itself. Empty: an empty array.
pub(super) fn messages(body: &[u8]) -> Result<Bytes, JsonError> {
    let value: &RawValue = serde_json::from_slice(body)
        .map_err(|error| JsonError(format!("the body is not valid JSON: {error}")))?;
    let text = value.get();
    let members = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    // A copy, so that white space around a message is not kept with it.
    Ok(Bytes::copy_from_slice(members.unwrap_or(text).trim_ascii().as_bytes()))
}

/// The array of the messages of several appends.
pub(super) fn array(appends: &[Bytes]) -> Bytes {
    let mut array =
        BytesMut::with_capacity(appends.iter().map(|append| append.len() + 1).sum::<usize>() + 2);
    array.extend_from_slice(b"[");
    for (index, append) in appends.iter().enumerate() {
        if index > 0 {
            array.extend_from_slice(b",");
        }
        array.extend_from_slice(append);
    }
    array.extend_from_slice(b"]");
    array.freeze()
}

/// The first messages of an append. `None`: it has fewer.
pub(super) fn first(append: &Bytes, count: usize) -> Option<Bytes> {
    let array = array(std::slice::from_ref(append));
    let messages: Vec<&RawValue> = serde_json::from_slice(&array).ok()?;
    let first: Vec<&str> = messages.get(..count)?.iter().map(|message| message.get()).collect();
    Some(first.join(",").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(body: &str) -> String {
        String::from_utf8(messages(body.as_bytes()).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn one_level_of_an_array_is_taken_away() {
        for (body, expected) in [
            (r#" {"a": 1} "#, r#"{"a": 1}"#),
            (r#"[{"a":1},{"b":2}]"#, r#"{"a":1},{"b":2}"#),
            ("[[1,2],[3,4]]", "[1,2],[3,4]"),
            ("[[[1,2,3]]]", "[[1,2,3]]"),
            ("\n[\n1\n]\n", "1"),
            (r#""[""#, r#""[""#),
            ("null", "null"),
            (" [ ] ", ""),
        ] {
            assert_eq!(taken(body), expected, "{body}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_rejected() {
        let deep = "[".repeat(1 << 20);
        for body in ["", "{ a }", "[1,]", "1 2", "[1", "\u{feff}1", &deep] {
            assert!(messages(body.as_bytes()).is_err(), "{body:.20}");
        }
        assert!(messages(b"\"\xff\"").is_err());
    }

    #[test]
    fn deep_json_needs_no_stack() {
        let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(taken(&deep).len(), deep.len() - 2);
    }

    #[test]
    fn appends_become_one_array() {
        let appends = ["1", r#"{"a":[2,3]},"x,y""#].map(Bytes::from);
        assert_eq!(array(&appends), r#"[1,{"a":[2,3]},"x,y"]"#);
        assert_eq!(array(&[]), "[]");
    }

    #[test]
    fn the_first_messages_of_an_append_are_whole() {
        let append = Bytes::from(r#"{"a":"1,2"}, [3,4],5"#);
        for (count, expected) in [
            (0, Some("")),
            (1, Some(r#"{"a":"1,2"}"#)),
            (2, Some(r#"{"a":"1,2"},[3,4]"#)),
            (4, None),
        ] {
            assert_eq!(first(&append, count).as_deref(), expected.map(str::as_bytes), "{count}");
        }
    }
}
